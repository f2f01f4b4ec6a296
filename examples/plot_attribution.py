"""
Which days made the flood?
==========================

A catchment with snow: rain that falls in the cold stays where it is until it thaws, and all water leaves
through a store that empties slowly. An LSTM learns discharge from rain and temperature. Which days of the
past caused its discharge on a day in spring? Integrated gradients (Sundararajan, Taly and Yan, 2017) give
every input its part, and the parts add up.
"""

import matplotlib.pyplot as plt
import numpy as np

from lstm_ext import LSTM, Adam, Model
from lstm_ext.attribution import gradient_times_input, integrated_gradients, output_difference
from lstm_ext.plot import AttributionDisplay

rng = np.random.default_rng(0)
DAYS = 120


def weather(seasons):
    """Return rain in mm and temperature in °C, (seasons, DAYS): four months, of which the first is cold."""
    wetness = rng.uniform(2, 20, (seasons, 1))
    rain = wetness * rng.exponential(1, (seasons, DAYS)) * (rng.random((seasons, DAYS)) < 0.25)
    thaw = rng.uniform(30, 80, (seasons, 1))
    temperature = 0.15 * (np.arange(DAYS) - thaw) + rng.normal(0, 1, (seasons, DAYS))
    return rain, temperature


def discharge(rain, temperature):
    """Return the discharge in mm/d that the catchment makes of them, (seasons, DAYS)."""
    snow, water = np.zeros((2, len(rain)))
    flow = np.empty(rain.shape)
    for day in range(rain.shape[1]):
        cold = temperature[:, day] < 0
        melt = np.minimum(snow, 3 * np.maximum(temperature[:, day], 0))
        snow += np.where(cold, rain[:, day], 0) - melt
        water += np.where(cold, 0, rain[:, day]) + melt
        flow[:, day] = water / 8
        water -= flow[:, day]
    return flow


def as_inputs(rain, temperature):
    """Return what the model reads, (seasons, DAYS, 2)."""
    return np.stack([rain / 10, temperature / 10], axis=2)


# %%
# One model, one output at every step.

rain, temperature = weather(768)
x, y = as_inputs(rain, temperature), discharge(rain, temperature)[..., None]
model = Model(LSTM(2, 24, init={"forget_bias": 3}, rng=rng), 1, every_step=True, rng=rng)
for lr, epochs in ((1e-2, 40), (3e-3, 30), (1e-3, 15)):
    model.fit(x, y, epochs=epochs, optimizer=Adam(lr, max_norm=1.0), rng=rng)

rain, temperature = weather(200)
x, flow = as_inputs(rain, temperature), discharge(rain, temperature)
error = model.predict(x)[..., 0] - flow
print(f"explained variance on new seasons: {1 - np.mean(error**2) / np.var(flow):.3f}")

# %%
# Here is one of the new seasons, and the day of its flood.

season = 5
day = int(flow[season].argmax())
days = np.arange(DAYS)
figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 4), sharex=True, layout="constrained")
cold = temperature[season] < 0
top.bar(days[cold], rain[season][cold], color="#56B4E9", label="below 0 °C: stays as snow")
top.bar(days[~cold], rain[season][~cold], color="#0072B2", label="above 0 °C")
top.set(ylabel="rain (mm/d)")
top.legend(frameon=False, fontsize="small")
bottom.plot(days, flow[season], color="black", label="catchment")
bottom.plot(days, model.predict(x[season : season + 1])[0, :, 0], "--", color="#D55E00", label="LSTM")
bottom.axvline(day, color="0.7", lw=0.8)
bottom.set(xlabel="day", ylabel="discharge (mm/d)")
bottom.legend(frameon=False, fontsize="small")
for ax in (top, bottom):
    ax.spines[["top", "right"]].set_visible(False)

# %%
# The question needs something to compare with, the baseline. First: the average season. A map of what rain
# and temperature did that they do not do on average:

past = x[season : season + 1, : day + 1]
AttributionDisplay.from_model(
    model,
    past[0],
    baseline=x.mean(axis=0)[: day + 1],
    feature_names=["rain", "temperature"],
    label="contribution (mm/d)",
)

# %%
# Second: the same temperatures, but no rain. Then the temperature has no part, and what is left can be
# checked, for here the catchment is known: let all rain grow from nothing to what it was, and see at each
# stage how the flood answers to a little more on one day.

dry = past * [0, 1]
integrated = integrated_gradients(model, past, baseline=dry)[0, :, 0]
first_order = gradient_times_input(model, past, baseline=dry)[0, :, 0]
rain_now, more = rain[season, : day + 1], 0.01
same_weather = np.repeat(temperature[season : season + 1, : day + 1], day + 1, axis=0)
stages = np.arange(0.025, 1, 0.05)
known = np.zeros(day + 1)
for stage in stages:
    up, down = (stage + sign * more * np.eye(day + 1) for sign in (1, -1))
    flood = [discharge(rain_now * factor, same_weather)[:, -1] for factor in (up, down)]
    known += (flood[0] - flood[1]) / (2 * more) / len(stages)

figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
wet = rain_now > 0
ax.bar(days[: day + 1][wet], known[wet], width=0.9, color="0.8", label="the catchment itself")
ax.plot(days[: day + 1][wet], integrated[wet], "o", color="#0072B2", ms=5, label="integrated gradients")
ax.plot(days[: day + 1][wet], first_order[wet], "x", color="#D55E00", ms=5, label="gradient times input")
ax.axhline(0, color="0.5", lw=0.8)
ax.set(xlabel="day", ylabel="part in the flood (mm/d)")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, fontsize="small", loc="upper left")

# %%
# The snow of weeks ago stands beside the rain of the last days. The parts of integrated gradients add up to
# what the LSTM says of the flood, less what it says of a season without rain. Gradients at one point do not.

change = output_difference(model, past, baseline=dry)[0]
print(f"the catchment's parts add up to {known.sum():.2f} mm/d, its flood is {flow[season, day]:.2f} mm/d")
print(f"to be explained:      {change:.2f} mm/d")
for name, parts in (("integrated gradients", integrated), ("gradient times input", first_order)):
    agreement = np.corrcoef(parts[wet], known[wet])[0, 1]
    print(f"{name}: {parts.sum():.2f} mm/d in all; correlation with the catchment {agreement:.2f}")
