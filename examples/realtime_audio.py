"""A guitar amplifier as an LSTM, in blocks of 64 samples at 48 kHz, from a loop that numba compiles.

The model is that of Wright, Damskägg, Juvela and Välimäki (2020), "Real-time guitar amplifier emulation
with deep learning", Applied Sciences 10:766: one LSTM of 40 units, a linear readout, and the input added.
It learns here from an amplifier made up for the purpose, in a few seconds.

    python examples/realtime_audio.py                    10 million samples: three and a half minutes of sound
    python examples/realtime_audio.py --samples 1000000
    python examples/realtime_audio.py --fifo             real-time priority, memory locked (Linux, root)
"""

import argparse
import ctypes
import os
import resource

import numpy as np
from numba import njit

from lstm_ext import LSTM, Adam, Model
from lstm_ext.cython_lstm import Network, address

RATE, BLOCK, UNITS = 48_000, 64, 40

pointer, size = ctypes.c_void_p, ctypes.c_ssize_t
step = ctypes.CFUNCTYPE(ctypes.c_int, pointer, size, *6 * [pointer])(address("lstm_step_s"))
clock_gettime = ctypes.CDLL(None).clock_gettime
clock_gettime.argtypes = [ctypes.c_int, pointer]


@njit
def now(timespec):
    """Nanoseconds of the monotonic clock."""
    clock_gettime(1, timespec.ctypes.data)
    return timespec[0] * 1_000_000_000 + timespec[1]


@njit
def process(network, sound, out, h, c, workspace, weight, bias):
    """One block: what an audio callback does."""
    for t in range(len(sound)):
        step(network, 1, sound[t:].ctypes.data, h.ctypes.data, c.ctypes.data, h.ctypes.data, c.ctypes.data,
             workspace.ctypes.data)
        y = bias + sound[t]
        for j in range(len(h)):
            y += weight[j] * h[j]
        out[t] = y


@njit
def play(network, sound, out, h, c, workspace, weight, bias, timespec, spent):
    """Blocks one after another, the sound again and again; spent[b] is block b's time in ns."""
    n = len(sound) // BLOCK
    for b in range(len(spent)):
        at = b % n * BLOCK
        start = now(timespec)
        process(network, sound[at : at + BLOCK], out[at : at + BLOCK], h, c, workspace, weight, bias)
        spent[b] = now(timespec) - start


def amplifier(x):
    """Something with a memory and a bend: a coupling capacitor, then a stage that saturates, uneven."""
    y, slow = np.empty_like(x), np.zeros(x.shape[0], x.dtype)
    for t in range(x.shape[1]):
        slow += 0.02 * (x[:, t] - slow)
        y[:, t] = np.tanh(4 * (x[:, t] - slow) + 0.3) - np.tanh(0.3)
    return y


def plucks(rng, count, length):
    """Decaying tones, (count, length), at most 1 in size."""
    t = np.arange(length) / RATE
    frequency, phase = rng.uniform(80, 1200, (2, count, 4, 1)) * [[[[1]]], [[[0.01]]]]
    tones = np.sin(2 * np.pi * frequency * t + phase).mean(axis=1)
    return (tones * np.exp(-t * rng.uniform(0, 20, (count, 1)))).astype("float32")


def train(rng, epochs):
    """Return the trained model."""
    x = plucks(rng, 128, 512)
    model = Model(LSTM(1, UNITS, rng=rng), 1, every_step=True, rng=rng)
    model.fit(x[..., None], (amplifier(x) - x)[..., None], epochs=epochs, optimizer=Adam(5e-3), rng=rng)
    return model


def become_realtime():
    """Lock memory, and ask for a real-time priority."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(3) != 0:
        raise OSError(ctypes.get_errno(), "mlockall")
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--fifo", action="store_true")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    model = train(rng, given.epochs)
    sound = plucks(rng, 1, RATE // BLOCK * BLOCK)[0]

    network = Network(model.lstm)
    weight, bias = model.weight[0].copy(), model.bias[0]
    h, c = np.zeros((2, UNITS), "float32")
    workspace, timespec = np.zeros(network.step_workspace(), np.uint8), np.zeros(2, np.int64)
    out, spent = np.zeros_like(sound), np.zeros(given.samples // BLOCK, np.int64)
    arguments = (network.address, sound, out, h, c, workspace, weight, bias, timespec)
    play(*arguments, spent[: len(sound) // BLOCK])  # warm-up: compiles, and touches every page
    first = out.copy()
    if given.fifo:
        become_realtime()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    play(*arguments, spent)
    lost = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before

    expected = sound + model.predict(sound[None, :, None])[0, :, 0]
    wanted = amplifier(sound[None])[0]
    print(f"furthest from the model in Python {abs(first - expected).max():.0e}")
    print(f"error to signal ratio {((first - wanted) ** 2).sum() / (wanted**2).sum():.3f}")
    us = np.sort(spent) / 1000
    print(
        f"{len(us):,} blocks of {BLOCK} samples, {len(us) * BLOCK:,} steps, a block in us: "
        f"median {np.median(us):.1f}, 99.99 % {np.quantile(us, 0.9999):.1f}, worst {us[-1]:.1f}, "
        f"time for it {1e6 * BLOCK / RATE:.1f}; "
        f"{lost} times off the core"
    )


if __name__ == "__main__":
    main()
