"""A controller that learned from another, in a loop of 1 kHz that numba compiles.

An LSTM of 32 units sees what a motor should do and what it does, and imitates a PI controller, whose
integral it has to remember. The loop then holds motor and LSTM; each step has one millisecond.

    python examples/realtime_control.py                  10 million steps, one after another
    python examples/realtime_control.py --steps 100000
    python examples/realtime_control.py --fifo           real-time priority, memory locked (Linux, root)
"""

import argparse
import resource

import numpy as np
from numba import njit
from realtime_audio import become_realtime, now, step

from lstm_ext import LSTM, Adam, Model
from lstm_ext.cython_lstm import Network

UNITS, DT = 32, 1e-3


@njit
def teacher(wanted, speed, integral):
    """PI with an integral that leaks."""
    error = wanted - speed
    integral += DT * (20 * error - 5 * integral)
    return 2 * error + integral, integral


@njit
def motor(speed, voltage):
    return speed + DT * 10 * (voltage - speed)


@njit
def demonstrate(wanted, x, y):
    """Let the teacher work: x is what it sees, y what it does."""
    for n in range(len(wanted)):
        speed, integral = 0.0, 0.0
        for t in range(wanted.shape[1]):
            x[n, t, 0], x[n, t, 1] = wanted[n, t], speed
            y[n, t, 0], integral = teacher(wanted[n, t], speed, integral)
            speed = motor(speed, y[n, t, 0])


@njit
def control(network, wanted, x, h, c, workspace, weight, bias, timespec, speed, spent):
    """Run the loop: spent[n] is the time in ns that step n took of its millisecond."""
    v = 0.0
    for n in range(len(spent)):
        start = now(timespec)
        x[0], x[1] = wanted[n % len(wanted)], v
        step(network, 1, x.ctypes.data, h.ctypes.data, c.ctypes.data, h.ctypes.data, c.ctypes.data,
             workspace.ctypes.data)
        voltage = bias
        for j in range(len(h)):
            voltage += weight[j] * h[j]
        spent[n] = now(timespec) - start
        v = motor(v, voltage)
        speed[n % len(speed)] = v


def wishes(rng, count, length):
    """Speeds that are asked for, (count, length): steps of 200 ms."""
    return np.repeat(rng.uniform(-1, 1, (count, length // 200)), 200, axis=1).astype("float32")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=10_000_000)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--fifo", action="store_true")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    asked = wishes(rng, 64, 1000)
    x, y = np.empty((64, 1000, 2), "float32"), np.empty((64, 1000, 1), "float32")
    demonstrate(asked, x, y)
    model = Model(LSTM(2, UNITS, rng=rng), 1, every_step=True, rng=rng)
    model.fit(x, y, epochs=given.epochs, optimizer=Adam(5e-3), rng=rng)

    network = Network(model.lstm)
    weight, bias = model.weight[0].copy(), model.bias[0]
    h, c = np.zeros((2, UNITS), "float32")
    workspace, timespec = np.zeros(network.step_workspace(), np.uint8), np.zeros(2, np.int64)
    wanted = wishes(rng, 1, 1000)[0]
    speed, spent = np.zeros(1000), np.zeros(given.steps, np.int64)
    seen = np.zeros(2, "float32")
    arguments = (network.address, wanted, seen, h, c, workspace, weight, bias, timespec, speed)
    control(*arguments, spent[:1000])  # warm-up: compiles, and touches every page
    first = speed.copy()
    if given.fifo:
        become_realtime()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    control(*arguments, spent)
    lost = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before

    x, y = np.empty((1, 1000, 2), "float32"), np.empty((1, 1000, 1), "float32")
    demonstrate(wanted[None], x, y)
    print(f"speed: rms difference from the teacher's {np.sqrt(((first[:-1] - x[0, 1:, 1]) ** 2).mean()):.3f}")
    us = np.sort(spent) / 1000
    print(
        f"{len(us):,} steps, a step in us: median {np.median(us):.2f}, "
        f"99.99 % {np.quantile(us, 0.9999):.2f}, worst {us[-1]:.1f}, time for it 1000.0; "
        f"{lost} times off the core"
    )


if __name__ == "__main__":
    main()
