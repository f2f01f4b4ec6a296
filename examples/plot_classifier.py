"""
Classify sequences of different lengths
=======================================

Three kinds of oscillation, recorded in noise, for 20 to 60 steps each. `LSTMClassifier` takes the
recordings as a list of arrays and returns the probability of each kind, also after the first few steps.
"""

import matplotlib.pyplot as plt
import numpy as np

from lstm_ext.sklearn import LSTMClassifier

rng = np.random.default_rng(0)


def record(kind, steps):
    """Return a recording, (steps, 1)."""
    phase = 0.4 * np.arange(steps) + rng.uniform(0, 2 * np.pi)
    wave = {
        "sine": np.sin(phase),
        "sawtooth": (phase / np.pi) % 2 - 1,
        "chirp": np.sin(phase * (1 + 0.015 * np.arange(steps))),
    }[kind]
    return (wave + 0.4 * rng.normal(size=steps))[:, None]


kinds = ["sine", "sawtooth", "chirp"]
y = rng.choice(kinds, 600)
X = [record(kind, rng.integers(20, 61)) for kind in y]

# %%
# Train on 400 of them. With ``early_stopping`` a tenth of these is set aside, which says when to end.

classifier = LSTMClassifier(early_stopping=True, n_iter_no_change=20, random_state=0).fit(X[:400], y[:400])
print(f"{classifier.n_iter_} epochs; accuracy on the other 200: {classifier.score(X[400:], y[400:]):.3f}")

# %%
# One recording of each kind, and the probabilities after its first 1, 2, 3, ... steps. These are sequences of
# different lengths, and one call predicts them all.

figure, axes = plt.subplots(2, 3, figsize=(10, 4.5), sharex=True, sharey="row", layout="constrained")
for kind, (above, below) in zip(kinds, axes.T, strict=True):
    recording = record(kind, 60)
    beginnings = [recording[:steps] for steps in range(1, 61)]
    above.plot(recording, color="black", linewidth=1)
    above.set_title(kind)
    below.plot(classifier.predict_proba(beginnings), label=classifier.classes_)
    below.set_xlabel("steps read")
axes[0, 0].set_ylabel("recording")
axes[1, 0].set_ylabel("probability")
axes[1, 2].legend(loc="center right")
plt.show()
