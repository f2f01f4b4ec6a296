"""Sizes that no machine has: refused before anything is allocated, whatever they multiply to.

Each call runs in a process whose memory is limited, so a size that wraps to a small number is a crash or an
accepted call here, and an honest one is a MemoryError at once.
"""

import json
import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.every_kernel

SIZES = [
    2**31 - 1, 2**31, 2**31 + 1, 2**32 + 1, 2**60, 2**61 - 1, 2**61, 2**62 - 1, 2**62, 2**63 - 1, 2**63,
    2**64,
    # Sums and products of these came out small: 4 * 64 * n, 8 * (2 * n + 3 * (n / 32 + 1)), ...
    1101298153654301589, 1054099661354831520, 2**63 // 64, 2**63 // 20, 2**58 + 1, 2**57, 2**59 + 3,
]
# n: each size; the layers have one or few units, so that a product that wraps may come out small.
LAYERS = {
    "one unit": "LSTM(1, 1)",
    "float64": "LSTM(1, 1, dtype='float64')",
    "stack": "LSTM(1, 3, 2, bidirectional=True)",
    "checkpoint": "LSTM(1, 1, checkpoint=2)",
    "peepholes": "LSTM(1, 1, peepholes=True)",
    "time first": "LSTM(1, 1, batch_first=False, bias=False)",
    "projection": "LSTM(1, 4, 2, proj_size=2, dropout=0.5)",
    "layer norm": "LSTM(1, 2, layer_norm=True, checkpoint=3, recurrent_dropout=0.5)",
    "learnt state": "LSTM(1, 1, learn_state=True)",
    "hold": "LSTM(1, 1, nan='hold', nan_mask=True)",
    "zoneout": "LSTM(1, 1, zoneout=(0.5, 0.5), weight_dropout=0.5)",
}
CALLS = [
    "l(empty((n, 0, 1)))",
    "l(empty((0, n, 1)))",
    "l.forward(empty((n, 0, 1)), tape=l.tape())",
    "l.forward(empty((0, n, 1)), tape=l.tape())",
    "l.forward(empty((n, 0, 1)), tape=l.tape(), seed=0)",
    "l.forward(empty((n, 0, 1)), return_gates=True)",
    "l.jvp(empty((n, 0, 1)))",
    "l.jvp(empty((n, 0, 1)), empty((n, 0, 1)), tape=l.tape())",
    "l.jacobian(empty((n, 0, 1)))",
    "l.jacobian(empty((0, n, 1)), of='h_n')",
    "l.jacobian(zero((1, n, 1)))",
    "l(zero((n, 1, 1)))",
    "l(zero((1, n, 1)))",
    "l(zero((n, 1)))",
    "l(zero((n, n, 1)))",
    "l(zero((n, 2, 1), 'int8'))",
    "l(zero((2, n, 1), 'float16'))",
    "l(zero((n, 2, 1)), lengths=zero((n,), 'int64'))",
    "l(zero((2, n, 1)), mask=zero((2, n), bool))",
    "l(zero((2, 3, 1)), (zero((1, 2, n)), zero((1, 2, n))))",
    "l(empty((n, 0, 1)), (zero((1, n, 1)), zero((1, n, 1))))",
    "l.forward(zero((n, 2, 1)), tape=l.tape())",
    "l.forward(zero((2, n, 1)), tape=l.tape())",
    "l.stream(n)",
]
PRODUCTS = [  # n, m: two sizes
    "l(empty((n, 0, 1))[:m])",
    "l(zero((n, m, 1)))",
    "l.forward(zero((n, m, 1)), tape=l.tape())",
    "l.jvp(zero((n, m, 1)))",
]
OTHERS = [
    "LSTM(n, 1)",
    "LSTM(1, n)",
    "LSTM(n, n)",
    "LSTM(1, 1, n)",
    "LSTM(1, 1, n, bidirectional=True)",
    "LSTM(1, 1, proj_size=n)",
    "LSTM(1, 1, proj_size=n, bidirectional=True)",
    "LSTM(1, 1, static_size=n)",
    "LSTM(1, 1, static_size=n, entity_aware=True)",
    "LSTM(1, 1, static_size=1)(empty((n, 0, 1)), static=zero((n, 1)))",
    "LSTM(1, 1, static_size=1).stream(n, static=zero((n, 1)))",
    "set_num_threads(n)",
    "LstmParam(n, 1)",
    "LstmParam(1, n)",
    "LstmParam(n, n)",
    "LstmState(n, 1)",
    "_node.Param(n, 1, np.dtype('float64'))",
    "_node.Param(1, n, np.dtype('float32'))",
    "_node.State(n, 1)",
    "engine(n, {}).bind(np.zeros(12, 'f'), np.zeros(12, 'f'))",
    "engine(1, {'hidden_size': n}).bind(np.zeros(12, 'f'), np.zeros(12, 'f'))",
    "engine(1, {'num_layers': n, 'bidirectional': True}).bind(np.zeros(12, 'f'), np.zeros(12, 'f'))",
    "engine(1, {'proj_size': n}).bind(np.zeros(12, 'f'), np.zeros(12, 'f'))",
    "engine(1, {'static_size': n}).bind(np.zeros(12, 'f'), np.zeros(12, 'f'))",
    "_lstm.draw(0, 0, 0, n, n, 1, 0.5)",
    "_optim.sgd(np.zeros(4), np.zeros(2), 1.0, 0.0, 0.1 + 0 * n)",
    "network.step_workspace(n)",
    "network.forward_workspace(n, 0)",
    "network.forward_workspace(n, n)",
    "network.tape_size(n, 1)",
    "network.tape_size(1, n)",
    "network.backward_workspace(n, 0)",
    "network.jvp_workspace(n, 0)",
    "call('step_workspace', n)",
    "call('forward_workspace', n, 0)",
    "call('tape_size', 0, n)",
    "call('tape_size', n, n)",
    "call('backward_workspace', n, 0)",
    "call('jvp_workspace', n, 0)",
]
# Nothing is computed here, or only an answer.
HARMLESS = ("empty((0, n", "'tape_size', 0", "call(", "network.", "set_num_threads")
PROGRAM = """
import ctypes, json, os, resource, sys
import numpy as np
from lstm_ext import LSTM, LstmParam, LstmState, _lstm, _node, _optim, set_num_threads
from lstm_ext._options import DEFAULTS
from lstm_ext.cython_lstm import Network, address

def zero(shape, dtype="float32"):
    # One element, seen many times.
    return np.broadcast_to(np.zeros((), dtype), shape)

def empty(shape):
    return np.empty(shape, "float32")

def engine(inputs, options):
    options = {**DEFAULTS, "hidden_size": 1, "dtype": "float32", **options}
    return _lstm.Engine(inputs, options, [(word, None, None) for word in ("sigmoid", "tanh", "tanh")], True)

network = Network(LSTM(1, 1, 2, rng=0))

def call(name, *sizes):
    if max(sizes) >= 2**63:
        raise OverflowError("no caller in C has such a number")
    function = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, *[ctypes.c_ssize_t] * len(sizes))
    return function(address("lstm_" + name))(network.address, *sizes)

def names(text):
    return compile(text, "", "eval").co_names

layer, calls, sizes = json.loads(sys.argv[1])
l = eval(layer) if layer else None
if "max_allocation_size_mb" not in os.environ.get("ASAN_OPTIONS", ""):
    in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**30,) * 2)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
for text in calls:
    for n in sizes:
        for m in sizes if "m" in names(text) else [None]:
            print(text, n, m, end=" ", file=sys.stderr, flush=True)
            try:
                outcome = eval(text)
                outcome = outcome if isinstance(outcome, int) else "accepted"
            except Exception as error:
                outcome = type(error).__name__
            print(json.dumps([text, n, m, outcome, peak() - before]), flush=True)
            before = peak()
if l is not None:
    y = l(np.ones((4, 6, 1)))[0]
    assert np.isfinite(y).all()
"""


def run(layer, calls, sizes):
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(PROGRAM), json.dumps([layer, calls, sizes])],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads(line) for line in done.stdout.splitlines()]
    for text, n, m, outcome, megabytes in results:
        allowed = ["OverflowError", "MemoryError", "ValueError"]
        # Time first, no sequence has n steps.
        no_sequence = "batch_first=False" in (layer or "") and "empty" in text
        if no_sequence or any(word in text for word in HARMLESS):
            allowed.append("accepted")
            if isinstance(outcome, int) and outcome != -1:
                # A byte for each sequence, at the least.
                assert outcome >= n or "tape_size', 0" in text, (text, n, m, outcome)
                continue
            allowed.append(-1)
        assert outcome in allowed, (text, n, m, outcome)
        assert megabytes < 64, (text, n, m, megabytes)
    return len(results)


needs_limits = pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")


@needs_limits
@pytest.mark.parametrize("layer", LAYERS)
def test_every_size_of_a_batch(layer):
    assert run(LAYERS[layer], CALLS, SIZES) == len(CALLS) * len(SIZES)


@needs_limits
@pytest.mark.parametrize("layer", ["one unit", "stack", "peepholes", "projection"])
def test_products_of_sizes(layer):
    few = [2**31 + 1, 2**33, 2**60, 2**61 - 1, 2**63 - 1]
    run(LAYERS[layer], PRODUCTS, few)


@needs_limits
def test_every_other_size():
    run(None, OTHERS, SIZES)
