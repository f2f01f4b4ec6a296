"""
Forecast El Niño with intervals
===============================

The sea-surface temperature of the region Niño 3.4, month by month. `LSTMForecaster` reads two years and
forecasts the next twelve months with intervals; the calendar is an input that is known in advance.
"""

import matplotlib.pyplot as plt
import numpy as np

from lstm_ext.datasets import load_elnino
from lstm_ext.sklearn import LSTMForecaster

series = load_elnino()
temperature = series.data[:, series.names.index("nino34")]
month = series.index.astype(int) % 12
calendar = np.stack([np.cos(2 * np.pi * month / 12), np.sin(2 * np.pi * month / 12)], axis=1)
year = 1950 + np.arange(len(month)) / 12
end = np.searchsorted(series.index, np.datetime64("1990-01"))  # learn from what is before
HORIZON = 12

# %%
# The forecast is a weighted mean of smoothing, regressions on lags and LSTMs. The weights and the intervals
# follow from errors on parts of the training years that were left out.

forecaster = LSTMForecaster(window=24, horizon=HORIZON, coverage=0.9, random_state=0)
forecaster.fit(temperature[:end], X=calendar[:end])

# %%
# One forecast from each month of the test years: many series in one call.

origins = np.arange(end, len(temperature) - HORIZON + 1)
arguments = {
    "X": [calendar[t : t + HORIZON] for t in origins],
    "y": [temperature[:t] for t in origins],
    "X_past": [calendar[:t] for t in origins],
}
forecast = np.stack(forecaster.predict(**arguments))
lower, upper = (np.stack(bound) for bound in forecaster.predict_interval(**arguments))
truth = np.stack([temperature[t : t + HORIZON] for t in origins])

climatology = np.array([temperature[:end][month[:end] == m].mean() for m in range(12)])
usual = np.stack([climatology[month[t : t + HORIZON]] for t in origins])
persistence = usual + (temperature - climatology[month])[origins - 1, None]


def rmse(forecast):
    return np.sqrt(np.mean((forecast - truth) ** 2, axis=0))


inside = np.mean((lower <= truth) & (truth <= upper))
for name, values in [("LSTM", forecast), ("climatology", usual), ("persistence", persistence)]:
    print(f"{name:12} root mean squared error {rmse(values).mean():.2f} degrees")
print(f"{100 * inside:.0f} % of the months are within the 90 % interval")

# %%
# Intervals assume that the series goes on as in the training years. In a climate that changes they may
# cover less.

# %%
# Above: four of the forecasts. Below: the error by how far ahead, beside climatology ("as usual for the
# month") and persistence ("as unusual as now").

figure, (above, below) = plt.subplots(2, 1, figsize=(9, 6.5), layout="constrained")
shown = slice(np.searchsorted(year, 1995), np.searchsorted(year, 2003))
above.plot(year[shown], temperature[shown], color="black", linewidth=1, label="measured")
for number, start in enumerate(("1997-03", "1998-06", "2000-01", "2001-09")):
    k = np.searchsorted(series.index, np.datetime64(start)) - end
    when = year[origins[k] : origins[k] + HORIZON]
    above.fill_between(when, lower[k], upper[k], alpha=0.25, color="C0", linewidth=0,
                       label=None if number else "90 % interval")
    above.plot(when, forecast[k], color="C0", label=None if number else "forecast")
above.set_ylabel("Niño 3.4 (°C)")
above.legend(ncols=3)
lead = np.arange(1, HORIZON + 1)
for name, values, style in [("LSTM", forecast, "C0-o"), ("climatology", usual, "C7--"),
                            ("persistence", persistence, "C1-.")]:
    below.plot(lead, rmse(values), style, label=name, markersize=4)
below.set_xlabel("months ahead")
below.set_ylabel("RMSE (°C)")
below.set_ylim(0)
below.legend()
plt.show()
