"""Small shapes through every compiled function, for a checker of memory to watch.

    python tests/support/memcheck.py             the kernel in force
    python tests/support/memcheck.py --every     every kernel, and every precision on every implementation

docs/profiling.md has the commands. Under valgrind, errors in the frames of this package count; the
interpreter's and the libraries' own are theirs.
"""

import itertools
import os
import sys

import numpy as np

import lstm_ext
from lstm_ext import LSTM, Adam, LstmNetwork, LstmParam, Model, ToyLossLayer, _kernels, losses

rng = np.random.default_rng(0)


def all_of(lstm, n, steps, **words):
    """Inference, training, tangents and single steps of one network."""
    shape = (n, steps, lstm.input_size)
    x = rng.normal(size=shape).astype(lstm.dtype)
    lstm(x, **words)
    tape = lstm.tape()
    y, state = lstm.forward(x, tape=tape, **words)
    lstm.backward(tape, y, state)
    lstm.jvp(x, dx=x, **words)
    if n and steps and not lstm.bidirectional and not words:
        stream = lstm.stream(n)
        for step in range(steps):
            stream.step(np.ascontiguousarray(x[:, step]))


def layers():
    """The default lane: sizes that are multiples of nothing, lengths, directions, checkpoints, threads."""
    sizes = itertools.product((0, 1, 5, 33), (1, 4), (1, 3), (1, 7, 21), ("float32", "float64"))
    for n, steps, features, hidden, dtype in sizes:
        all_of(LSTM(features, hidden, dtype=dtype, rng=0), n, steps)
    for dtype in ("float32", "float64"):
        for threads in (1, 2):
            lstm_ext.set_num_threads(threads)
            lstm = LSTM(3, 6, 2, bidirectional=True, dtype=dtype, checkpoint=2, rng=0)
            all_of(lstm, 35, 5, lengths=rng.integers(0, 6, 35))
    lstm_ext.set_num_threads(1)


def options():
    """The general lane."""
    for words in (
        {"peepholes": True}, {"coupled_gates": True}, {"cell_clip": 0.5, "gate_clip": 1.0}, {"proj_size": 2},
        {"layer_norm": True}, {"zoneout": (0.2, 0.1)}, {"recurrent_dropout": 0.3, "weight_dropout": 0.3},
        {"activations": ("hard_sigmoid", ("elu", 1.0), "softsign")}, {"bias": False, "learn_state": True},
    ):
        for dtype in ("float32", "float64"):
            all_of(LSTM(3, 5, 2, dtype=dtype, rng=0, **words), 5, 3)
            all_of(LSTM(3, 5, bidirectional=True, dtype=dtype, rng=0, **words), 5, 3, lengths=[3, 0, 2, 1, 3])
    x = np.where(rng.random((5, 4, 3)) < 0.3, np.nan, 1.0)
    lstm = LSTM(3, 4, nan="hold", nan_mask=True, rng=0, dtype="float64")
    tape = lstm.tape()
    lstm.backward(tape, lstm.forward(x, tape=tape)[0])


def node_and_training():
    """The teaching node; losses, an optimiser, the Hessian's products, a Jacobian."""
    param = LstmParam(7, 3)
    net = LstmNetwork(param)
    for value in rng.random((3, 3)):
        net.x_list_add(value)
    net.y_list_is([0.1, -0.2, 0.3], ToyLossLayer)
    param.apply_diff(lr=0.1)
    x, y = rng.normal(size=(9, 4, 3)), rng.normal(size=(9, 2))
    for loss in (losses.MeanSquaredError(), losses.GaussianNLL()):
        model = Model(LSTM(3, 5, rng=0, dtype="float64"), 2 * loss.outputs_per_target, loss=loss, rng=0)
        model.fit(x, y, epochs=2, batch_size=4, optimizer=Adam(), rng=0)
        model.hvp(x, y, model.parameters)
    model.lstm.jacobian(x, of="h_n", wrt="x")


def precisions():
    """Products in bfloat16, in both lanes: sizes below, at and beyond those of a tile."""
    for precision in _kernels.PRECISIONS[1:]:
        for n, hidden in itertools.product((1, 17, 40), (1, 16, 35)):
            for words in ({}, {"peepholes": True, "proj_size": 1} if hidden > 1 else {"peepholes": True}):
                all_of(LSTM(3, hidden, 2, precision=precision, rng=0, **words), n, 5)
        all_of(LSTM(70, 20, bidirectional=True, checkpoint=2, precision=precision, rng=0), 35, 5,
               lengths=rng.integers(0, 6, 35))


def every():
    """All of it on every kernel, then every precision on each implementation that this CPU has."""
    for kernel in _kernels.available():
        _kernels.select(kernel)
        print("kernel:", kernel, flush=True)
        layers()
        options()
    _kernels.select(_kernels.available()[0])
    for name in ("amx", "avx512_bf16", "emulated"):
        _kernels.select_split(name)
        found = {p: _kernels.in_force(p) for p in _kernels.PRECISIONS[1:]}
        if name in found.values():
            print("products in bfloat16:", found, flush=True)
            precisions()


if __name__ == "__main__":
    if "--every" in sys.argv:
        every()
    else:
        print("kernel:", _kernels.current(), os.environ.get("LSTM_EXT_KERNEL", ""))
        layers()
        options()
    node_and_training()
    print("done")
