"""
What the gates of a trained LSTM do
===================================

A task that one can do by hand: at each step a number comes in, and now and then a mark beside it; the
output is the number that came with the last mark. To do this by hand, you write the number down at a mark,
forget the one before, and change nothing otherwise. Do the gates of a trained LSTM do the same?
"""

import matplotlib.pyplot as plt
import numpy as np

from lstm_ext import LSTM, Adam, Model
from lstm_ext.plot import StateDisplay

rng = np.random.default_rng(0)


def draw(sequences, steps):
    """Return x (sequences, steps, 2), number and mark, and the number to hold, (sequences, steps, 1)."""
    number = rng.uniform(-1, 1, (sequences, steps))
    mark = rng.random((sequences, steps)) < 0.12
    mark[:, 0] = True
    last = np.maximum.accumulate(np.where(mark, np.arange(steps), 0), axis=1)
    held = np.take_along_axis(number, last, axis=1)
    return np.stack([number, mark], axis=2), held[..., None]


# %%
# Three hidden units are enough, with a linear readout at every step. ``forget_bias`` opens the forget gates
# from the start: a memory that leaks cannot learn what to keep.

x, y = draw(512, 40)
model = Model(LSTM(2, 3, init={"forget_bias": 3}, rng=rng), 1, every_step=True, rng=rng)
for lr in (2e-2, 5e-3, 1e-3):
    model.fit(x, y, epochs=60, optimizer=Adam(lr), rng=rng)

x_new, y_new = draw(200, 60)
error = model.predict(x_new) - y_new
print(f"error on new sequences: {np.sqrt(np.mean(error**2)):.3f}, of numbers between -1 and 1")

# %%
# These sequences are half as long again as those it has learned from. Here is one of them.

one = x_new[0]
figure, ax = plt.subplots(figsize=(7, 2.4), layout="constrained")
steps, marked = np.arange(len(one)), one[:, 1] == 1
ax.plot(steps, one[:, 0], ".", color="0.6", label="number")
ax.plot(steps[marked], one[marked, 0], "o", color="#D55E00", label="marked number")
ax.step(steps, model.predict(one[None])[0, :, 0], where="post", color="#0072B2", label="output")
ax.set(xlabel="time step", ylabel="value")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), fontsize="small")

# %%
# The gates and cells in the same sequence:

StateDisplay.from_model(model, one, show="xifc", feature_names=["number", "mark"])

# %%
# The picture confirms it. At a mark the forget gates close, which are open otherwise, and the input gates
# of the units that hold the number open: the old value goes, the new one comes. Between marks the cell
# stays as it is: bands of one color from mark to mark. Averages over all sequences of the test say the
# same:

gates = model.lstm.forward(x_new, return_gates=True)[2]
mark = x_new[..., 1] == 1
for gate, name in (("i", "input"), ("f", "forget")):
    opened = gates[gate][0]
    for unit in range(3):
        at_mark, without = opened[mark, unit].mean(), opened[~mark, unit].mean()
        print(f"{name:6} gate of unit {unit}: {at_mark:.2f} at a mark, {without:.2f} without one")
