"""A program as users write it, for `mypy --strict`: every step has a type that an editor can show."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

import lstm_ext
import lstm_ext.io
from lstm_ext import LSTM, Adam, Model, Stream
from lstm_ext.callbacks import Callback, EarlyStopping
from lstm_ext.losses import Huber
from lstm_ext.schedules import Cosine
from lstm_ext.sklearn import LSTMClassifier, LSTMForecaster, LSTMRegressor, SequenceScaler
from lstm_ext.training import EpochRecord, History


class Printer(Callback):
    def on_epoch_end(self, record: EpochRecord) -> bool:
        print(record["epoch"], record["loss"])
        return False


def layer(x: npt.NDArray[np.float32]) -> float:
    lstm: LSTM[np.float32] = LSTM(3, 8, num_layers=2, rng=0)
    y, (h_n, _c_n) = lstm(x)
    exact: npt.NDArray[np.float64] = LSTM(3, 8, dtype="float64", rng=0).stream().step(x[0, 0])
    tape = lstm.tape()
    lstm.forward(x, tape=tape)
    dx, (_dh_0, _dc_0) = lstm.backward(tape, np.ones_like(y))
    jacobian: npt.NDArray[np.float32] = lstm.jacobian(x[:1])
    stream: Stream = lstm.stream(batch=1)
    step = stream.step(x[:1, 0])
    parts = (y, h_n, dx, step, jacobian, exact, lstm["bias_l0"])
    return sum(float(part.sum()) for part in parts)


def model(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], path: Path) -> Model:
    model: Model[np.float32] = Model(LSTM(3, 8, rng=0), 1, loss=Huber(1.0), rng=0)
    history: History = model.fit(
        x, y, epochs=2, batch_size=8, optimizer=Adam(lr=1e-2), schedule=Cosine(2), validation=(x, y),
        early_stopping=EarlyStopping(patience=2), callbacks=[Printer()],
    )
    losses: list[float] = history["loss"]
    print(losses, history[-1]["loss"], model.predict(x).shape, model.evaluate(x, y))
    lstm_ext.io.save(model, path)
    again = lstm_ext.io.load(path)
    assert isinstance(again, Model)
    return again


def estimators(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> None:
    scaled = SequenceScaler().fit_transform(x)
    regressor = LSTMRegressor(8, max_iter=2, loss="gaussian", random_state=0).fit(x, y)
    lower, upper = regressor.predict_interval(x, coverage=0.9)
    mean: npt.NDArray[np.float64] = regressor.predict(x)
    _, deviation = regressor.predict(x, return_std=True)
    classes = LSTMClassifier(8, max_iter=2, random_state=0).fit(scaled, y[:, 0] > 0)
    forecaster = LSTMForecaster(random_state=0).fit(x[:, :, 0].ravel())
    future = forecaster.predict(12)
    print(upper - lower, mean / deviation, regressor.loss_curve_[-1])
    print(classes.predict_proba(x).sum(), future.shape)


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(8, 20, 3)).astype("float32")
    targets = inputs.mean((1, 2))[:, None]
    print(layer(inputs), lstm_ext.__version__)
    model(inputs, targets, Path("model.safetensors"))
    estimators(inputs, targets)
