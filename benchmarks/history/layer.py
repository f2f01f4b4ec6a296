"""Our own figures from commit to commit, for asv (see ../README.md): no peers, one thread."""

# ruff: noqa: D102  (the names are the descriptions: asv shows them)

import numpy as np

import lstm_ext

SHAPES = (1, 1, 32, 64), (100, 1, 64, 128), (100, 32, 64, 128), (365, 256, 32, 64)


def _problem(sizes, dtype, **options):
    time, batch, inputs, units = sizes
    lstm_ext.set_num_threads(1)
    lstm = lstm_ext.LSTM(inputs, units, dtype=dtype, rng=0, **options)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, time, inputs)).astype(dtype)
    dy = rng.standard_normal((batch, time, units)).astype(dtype)
    return lstm, x, dy


def _train(lstm, x, dy, tape, lengths=None):
    lstm.gradient[:] = 0
    lstm.forward(x, lengths=lengths, tape=tape)
    lstm.backward(tape, dy)


class Layer:
    """A sequence forward, and forward and backward with all gradients."""

    params = (SHAPES, ("float32", "float64"))
    param_names = ("T,N,I,H", "dtype")

    def setup(self, sizes, dtype):
        self.lstm, self.x, self.dy = _problem(sizes, dtype)
        self.tape = self.lstm.tape()
        time, batch = sizes[:2]
        self.lengths = np.random.default_rng(1).integers(1, time, batch, endpoint=True)

    def time_inference(self, sizes, dtype):
        self.lstm(self.x)

    def time_training(self, sizes, dtype):
        _train(self.lstm, self.x, self.dy, self.tape)

    def time_training_ragged(self, sizes, dtype):
        _train(self.lstm, self.x, self.dy, self.tape, self.lengths)


class Stream:
    """One time step after the other."""

    params = ("float32", "float64")
    param_names = ("dtype",)

    def setup(self, dtype):
        lstm, x, _ = _problem(SHAPES[0], dtype)
        self.stream, self.x_t = lstm.stream(), x[0, 0]
        self.h_t = np.empty(lstm.hidden_size, dtype)

    def time_step(self, dtype):
        self.stream.step(self.x_t, out=self.h_t)


class Memory:
    """The peak of the process in a training step, its data and the interpreter included."""

    params = (None, 19)
    param_names = ("checkpoint",)

    def setup(self, checkpoint):
        self.lstm, self.x, self.dy = _problem(SHAPES[-1], "float32", checkpoint=checkpoint)

    def peakmem_training(self, checkpoint):
        _train(self.lstm, self.x, self.dy, self.lstm.tape())
