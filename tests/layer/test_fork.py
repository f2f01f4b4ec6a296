"""A process that forks while its threads compute: the child computes, too, and waits for none of them."""

import os
import subprocess
import sys
import textwrap

import pytest

FORKS = 200
SECONDS = 15  # for each child

PROGRAM = """
import faulthandler, itertools, os, shutil, signal, subprocess, sys, threading, time, warnings
import numpy as np
from lstm_ext import LSTM, Adam, LstmNetwork, LstmParam, Model, ToyLossLayer, set_num_threads

warnings.simplefilter("ignore")
kind, forks, seconds, threads = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
set_num_threads(threads)
rng = np.random.default_rng(0)
turns = itertools.count()

OPTIONS = {
    "default": {}, "stack": {"num_layers": 2, "bidirectional": True}, "peepholes": {"peepholes": True},
    "projection": {"proj_size": 8, "num_layers": 2, "dropout": 0.2}, "bfloat16": {"precision": "bfloat16"},
}
if kind in OPTIONS:
    lstm = LSTM(8, 64, rng=0, **OPTIONS[kind])
    x = rng.standard_normal((20, 4, 8)).astype("float32")
    values = lstm.parameters.copy()

    def work():
        # Other parameters at each turn: weights are packed again, and gradients added. Not drawn: NumPy's
        # generators have a lock that a child finds as the fork left it.
        lstm.parameters = values * (0.5 + next(turns) % 97 / 200)
        lstm(x)
        tape = lstm.tape()
        y, state = lstm.forward(x, tape=tape)
        lstm.backward(tape, y, state)
        if not lstm.bidirectional:
            lstm.stream().step(x[0, 0])

    def answer():
        lstm.parameters = values
        return lstm(x)[0]
elif kind == "node":
    param = LstmParam(100, 50)
    inputs = rng.random((4, 50))

    def work():
        net = LstmNetwork(param)
        for value in inputs:
            net.x_list_add(value)
        net.y_list_is([0.1, 0.2, 0.3, 0.4], ToyLossLayer)
        param.wg_diff
        param.apply_diff(lr=0)

    def answer():
        net = LstmNetwork(param)
        for value in inputs:
            net.x_list_add(value)
        return net.lstm_node_list[3].state.h.copy()
else:
    model = Model(LSTM(8, 32, rng=0), 2, rng=0)
    x, y = rng.standard_normal((20, 5, 8)), rng.standard_normal((20, 2))
    optimizer, lock = Adam(lr=0.0), threading.Lock()

    def work():
        model.loss_and_gradient(x, y)
        try:
            optimizer.step(model.parameters.copy(), model.gradient.copy())
        except RuntimeError as error:  # two threads at once
            assert "in use" in str(error)

    def answer():
        work()
        return model.predict(x)

expected = answer()
stop = False
faulthandler.register(signal.SIGUSR1)

def show(child):
    # Where a child that hangs is: in Python, and in compiled code where gdb is installed.
    os.kill(child, signal.SIGUSR1)
    time.sleep(1)
    if shutil.which("gdb"):
        command = ["gdb", "-p", str(child), "-batch", "-ex", "backtrace"]
        variables = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
        subprocess.run(command, stdout=sys.stderr, env=variables)

def loop():
    while not stop:
        work()

workers = [threading.Thread(target=loop, daemon=True) for _ in range(3)]
for worker in workers:
    worker.start()
hangs = failures = 0
for _ in range(forks):
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0 if np.array_equal(answer(), expected) else 3)
        finally:
            os._exit(4)
    waited, last = 0.0, time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            failures += status != 0
            break
        # A machine that stops both processes for a while makes no hang: a turn counts for 0.1 s at most.
        now = time.monotonic()
        waited, last = waited + min(now - last, 0.1), now
        if waited > seconds:
            show(child)
            os.kill(child, 9)
            os.waitpid(child, 0)
            hangs += 1
            break
        time.sleep(0.0005)
    if hangs > 2:
        break
stop = True
print(hangs, failures)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("kind", ["default", "stack", "peepholes", "projection", "bfloat16", "node", "model"])
@pytest.mark.parametrize("threads", [1, 2])
def test_forks_while_threads_compute(kind, threads):
    forks = FORKS // 2
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", textwrap.dedent(PROGRAM), kind, str(forks), str(SECONDS),
         str(threads)],
        capture_output=True, text=True, timeout=1800, check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    hangs, failures = map(int, done.stdout.split())
    assert hangs == 0, f"{hangs} children hang\n{done.stderr[-6000:]}"
    assert failures == 0, f"{failures} of {forks} children failed"
