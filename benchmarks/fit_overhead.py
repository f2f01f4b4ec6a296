"""What `Model.fit` costs over the bare loop of forward, backward and update.

    OPENBLAS_NUM_THREADS=1 taskset -c 1 python benchmarks/fit_overhead.py

The bare loop is what one writes by hand around `LSTM.forward`, `LSTM.backward` and `Adam.step`, for one
batch that lies ready: the readout, the squared error and their gradients are three lines of NumPy. `fit`
gathers its mini-batches from a shuffled training set, checks for NaN, and knows all its options. Both do
the same steps on as many sequences; one sample is an epoch, and samples take turns.
"""

import argparse
import os

import numpy as np
from race import race

from lstm_ext import LSTM, Adam, Model, set_num_threads


def bare_loop(model, x, y, steps, optimizer):
    """Make `steps` steps on one batch, by hand."""
    lstm, weight, bias = model.lstm, model.weight, model.bias
    dweight, dbias = (model.named_gradients()[name] for name in ("weight", "bias"))
    tape = lstm.tape()
    for _ in range(steps):
        hidden, (h_n, _) = lstm.forward(x, tape=tape)
        features = hidden if model.every_step else h_n[0]
        error = features @ weight.T + bias - y
        loss = np.square(error).mean()
        error *= 2 / error.size
        rows = error.reshape(-1, error.shape[-1])
        np.matmul(rows.T, features.reshape(len(rows), -1), out=dweight)
        np.sum(rows, axis=0, out=dbias)
        lstm.gradient[...] = 0
        dfeatures = error @ weight
        if model.every_step:
            lstm.backward(tape, dfeatures, input_gradient=False)
        else:
            lstm.backward(tape, None, (dfeatures[None], None), input_gradient=False)
        optimizer.step(model.parameters, model.gradient)
    return loss


def measure(every_step, seconds, batch=32, steps=100, inputs=32, hidden=64, batches=32, outputs=1):
    """Return the medians of an epoch by hand and by `fit`, in seconds for each step."""
    rng = np.random.default_rng(0)
    n = batch * batches
    x = rng.normal(size=(n, steps, inputs)).astype(np.float32)
    y = rng.normal(size=(n, steps, outputs) if every_step else (n, outputs)).astype(np.float32)
    models = [Model(LSTM(inputs, hidden, rng=0), outputs, every_step=every_step, rng=0) for _ in range(2)]
    optimizers = [Adam(1e-4), Adam(1e-4)]
    bare_x, bare_y = x[:batch].copy(), y[:batch].copy()
    calls = {
        "bare loop": lambda: bare_loop(models[0], bare_x, bare_y, batches, optimizers[0]),
        "fit": lambda: models[1].fit(
            x, y, epochs=1, batch_size=batch, optimizer=optimizers[1], rng=rng
        ),
    }
    times = race(calls, seconds=seconds, most=1001)
    return {name: t.summary()["seconds"] / batches for name, t in times.items()}, times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20, help="for each row (default: %(default)s)")
    words = parser.parse_args()
    set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):  # one CPU, whichever it is
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print("N 32, T 100, I 32, H 64, float32, one thread, 32 mini-batches a sample\n")
    print("| readout | bare loop | fit | overhead | rounds, disturbed |\n|---|---|---|---|---|")
    for every_step in (False, True):
        seconds, times = measure(every_step, words.seconds)
        bare, fit = seconds["bare loop"], seconds["fit"]
        disturbed = max(t.disturbed for t in times.values())
        print(
            f"| {'every step' if every_step else 'last step'} | {1e3 * bare:.3f} ms | {1e3 * fit:.3f} ms | "
            f"{100 * (fit / bare - 1):+.1f} % | {len(times['fit'].samples)}, {disturbed} |"
        )


if __name__ == "__main__":
    main()
