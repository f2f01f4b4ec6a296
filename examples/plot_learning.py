"""
When to stop, and how sure a forecast is
========================================

The temperature of the sea off Peru (region Niño 1+2), month by month: learn from the years to 1984, stop by
those to 1994, forecast twelve months from each month since. Two pictures belong to such a training: the
learning curve, which shows whether it was too long, and the forecast with its interval beside the observed
values.
"""

import numpy as np

from lstm_ext import LSTM, Adam, Model
from lstm_ext.datasets import load_elnino
from lstm_ext.plot import ForecastDisplay, LearningCurveDisplay

series = load_elnino()
degrees, months = series.data[:, 0], series.index
year = months.astype("datetime64[Y]").astype(int) + 1970
mean, scale = degrees[year < 1985].mean(), degrees[year < 1985].std()
PAST, AHEAD = 36, 12  # months


def windows(first, last):
    """Return x (n, PAST, 1), y (n, AHEAD) and the first month of every forecast for `first` to `last`."""
    values = (degrees - mean) / scale
    starts = np.arange(PAST, len(values) - AHEAD + 1)
    starts = starts[(year[starts] >= first) & (year[starts + AHEAD - 1] <= last)]
    x = np.stack([values[t - PAST : t] for t in starts])
    y = np.stack([values[t : t + AHEAD] for t in starts])
    return x[..., None], y, starts


x, y, starts = windows(1950, 1984)
x_validation, y_validation, _ = windows(1985, 1994)
x_test, y_test, test_starts = windows(1995, 2010)

# %%
# The training loss goes on falling; the validation loss shows when to stop.


def train(seed, epochs):
    """Train one model, and return it with its history."""
    model = Model(LSTM(1, 32, rng=seed), AHEAD, rng=seed)
    return model, model.fit(
        x, y, epochs=epochs, optimizer=Adam(3e-3), rng=seed, validation=(x_validation, y_validation)
    )


history = train(seed=0, epochs=60)[1]
LearningCurveDisplay.from_history(history)

# %%
# Train ten models for the best number of epochs, each from other initial weights. Their disagreement is one
# part of the uncertainty. The other part is the error that all of them make, which the validation years
# show: the forecast of each model is combined with its errors there.

best = min(history, key=lambda record: record["validation_loss"])["epoch"]
models = [train(seed, best)[0] for seed in range(1, 11)]
errors = [y_validation - model.predict(x_validation) for model in models]


def forecast(x):
    """Return sampled forecasts in degrees, (samples, len(x), AHEAD)."""
    samples = [
        model.predict(x)[None] + error[:, None] for model, error in zip(models, errors, strict=True)
    ]
    return np.concatenate(samples) * scale + mean


at = np.flatnonzero(months[test_starts] == np.datetime64("2005-07"))[0]
origin = test_starts[at]
ForecastDisplay.from_samples(
    degrees[origin - PAST : origin],
    forecast(x_test[at : at + 1])[:, 0],
    truth=degrees[origin : origin + AHEAD],
    index=months[origin - PAST : origin + AHEAD],
    coverage=0.8,
    ylabel="sea surface (°C)",
)

# %%
# One forecast proves nothing. Here is the error of all of them, beside two simple forecasts: the last
# twelve months again, and the mean of each calendar month in the years to 1984.

truth = y_test * scale + mean
calendar = np.array([degrees[:420][month::12].mean() for month in range(12)])
samples = forecast(x_test)
forecasts = {
    "LSTM": np.median(samples, axis=0),
    "last twelve months": x_test[:, -12:, 0] * scale + mean,
    "calendar month": calendar[(test_starts[:, None] + np.arange(AHEAD)) % 12],
}
for name, values in forecasts.items():
    print(f"{name:20} root mean squared error {np.sqrt(np.mean((values - truth) ** 2)):.2f} °C")

# %%
# The interval covers fewer months than its 80 %: ten years of validation have few errors, and the years since
# 1995 are others. `LSTMForecaster.predict_interval` calibrates its intervals on all parts of the training
# years.

low, high = np.quantile(samples, [0.1, 0.9], axis=0)
print(f"within the interval of 80 %: {np.mean((truth >= low) & (truth <= high)):.0%}")
