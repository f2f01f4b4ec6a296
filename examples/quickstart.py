"""The ten lines to start from: learn to continue noisy waves that the model has never seen."""

import numpy as np

from lstm_ext import LSTM, Adam, Model

rng = np.random.default_rng(0)
frequency, phase = rng.uniform(0.2, 1.0, (1000, 1)), rng.uniform(0, 2 * np.pi, (1000, 1))
waves = np.sin(frequency * np.arange(41) + phase)
x = waves[:, :40, None] + 0.1 * rng.normal(size=(1000, 40, 1))  # (sequences, time, features)
y = waves[:, 40:]  # (sequences, outputs): the step that follows

model = Model(LSTM(input_size=1, hidden_size=32, rng=rng), output_size=1, rng=rng)
model.fit(x[:800], y[:800], epochs=40, optimizer=Adam(3e-3), rng=rng)

error = model.predict(x[800:]) - y[800:]
print(f"error on new waves: {np.sqrt(np.mean(error**2)):.3f}")
print(f"error of repeating the last step: {np.sqrt(np.mean((x[800:, -1] - y[800:]) ** 2)):.3f}")
