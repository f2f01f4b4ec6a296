"""Random layers, sizes, arrays, tapes and threads: every call gives numbers, or an error of bad input.

    python tests/support/random_calls.py --seconds 60 --seed 0 --report FILE

Each round makes a layer of random sizes and options, arrays of every kind (``zoo.UNUSUAL``, ``zoo.WRONG``,
sizes that no machine has) and calls every entry point with them, some of them wrong: tapes used again with
another shape, from another layer, or by three threads at once. A right call is made twice and must give the
same bits. Any other error, a crash or a report of a sanitizer is a fault. ``sanitize.py`` runs it under
ASan, UBSan and TSan. The counts go to FILE.
"""

import argparse
import collections
import json
import resource
import threading
import time
import warnings

import numpy as np
from c_level import function, suffix
from zoo import UNUSUAL, WRONG

import lstm_ext
from lstm_ext import LSTM, Adam, LstmNetwork, LstmParam, ToyLossLayer, _kernels
from lstm_ext.cython_lstm import Network

REFUSALS = (ValueError, TypeError, RuntimeError, MemoryError, OverflowError)
HUGE = [2**31 - 1, 2**31, 2**32 + 1, 2**60, 2**61 - 1, 2**62, 2**63 - 1, 2**63, 2**64, 1101298153654301589]
OPTIONS = [
    {}, {}, {}, {"num_layers": 2}, {"num_layers": 3, "dropout": 0.4}, {"bidirectional": True},
    {"reverse": True},
    {"checkpoint": 2}, {"checkpoint": 5}, {"bias": False}, {"batch_first": False}, {"peepholes": True},
    {"coupled_gates": True}, {"proj_size": 2}, {"layer_norm": True}, {"zoneout": (0.3, 0.2)},
    {"recurrent_dropout": 0.3}, {"weight_dropout": 0.3}, {"cell_clip": 0.7, "gate_clip": 1.5},
    {"activations": ("hard_sigmoid", ("elu", 1.0), "softsign")}, {"cell_activation": "identity"},
    {"learn_state": True}, {"static_size": 2}, {"nan": "hold", "nan_mask": True}, {"nan": "zero"},
    {"precision": "bfloat16"}, {"precision": "bfloat16x3"}, {"precision": "bfloat16x6"},
]
counts = collections.Counter()


def attempt(name, call, *arguments, **words):
    """Count what comes of a call; return its result, or None where it was refused."""
    try:
        result = call(*arguments, **words)
    except REFUSALS as error:
        counts[f"{name} refused"] += 1
        assert str(error), "an error says something"
        return None
    counts[f"{name} done"] += 1
    return result


def draw_layer(rng):
    """Return a layer of random sizes with one or two options, or None where they exclude each other."""
    words = dict(OPTIONS[rng.integers(len(OPTIONS))])
    if rng.random() < 0.5:
        words |= OPTIONS[rng.integers(len(OPTIONS))]
    sizes = [int(rng.choice([1, 2, 3, 5, 8, 16, 17, 33])) for _ in range(2)]
    if rng.random() < 0.03:
        sizes[rng.integers(2)] = HUGE[rng.integers(len(HUGE))]
    dtype = "float32" if "precision" in words else ("float32", "float64")[rng.integers(2)]
    return attempt("layer", LSTM, *sizes, dtype=dtype, rng=int(rng.integers(99)), **words)


def draw_input(rng, lstm):
    """Return x, its number of sequences and of steps; sometimes of an unusual or a wrong kind."""
    n, steps = int(rng.choice([0, 1, 2, 3, 9, 33, 70])), int(rng.choice([0, 1, 2, 7, 20]))
    shape = (n, steps) if lstm.batch_first else (steps, n)
    x = rng.standard_normal((*shape, lstm.input_size))
    if lstm.nan is not None:
        x[rng.random(x.shape) < 0.2] = np.nan
    given, chance = x, rng.random()
    if chance < 0.25 and x.size:
        given = list(UNUSUAL.values())[rng.integers(len(UNUSUAL))](x)
    elif chance < 0.35 and x.size:
        given = list(WRONG.values())[rng.integers(len(WRONG))](x)
    elif chance < 0.4:
        sizes = [HUGE[rng.integers(len(HUGE))], *rng.permutation([0, lstm.input_size]).tolist()]
        given = attempt("array", np.broadcast_to, np.zeros((), lstm.dtype), sizes)
    else:
        given = x.astype(lstm.dtype)
    return given, n, steps


def words_of(rng, lstm, n, steps):
    """Return keyword arguments of a call: lengths, right or wrong, and static inputs."""
    words = {}
    if rng.random() < 0.4:
        words["lengths"] = rng.integers(0, steps + 1 + (rng.random() < 0.1), n)
    if lstm.static_size:
        words["static"] = np.ones((n + (rng.random() < 0.05), lstm.static_size))
    return words


def same(one, other):
    """Assert that two results are the same bits."""
    if isinstance(one, tuple | list):
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, np.ndarray):
        assert np.array_equal(one, other, equal_nan=True), "two calls give different bits"


def sequences(rng, lstm, other):
    """Run inference, training with new and used tapes, tangents and streams of one layer."""
    x, n, steps = draw_input(rng, lstm)
    words = words_of(rng, lstm, n, steps)
    first = attempt("inference", lstm, x, **words)
    if first is not None:
        same(first, lstm(x, **words))
    tape = lstm.tape()
    for turn in range(2):
        made = attempt("forward", lstm.forward, x, tape=tape, seed=3, **words)
        if made is not None:
            y, state = made
            attempt("backward", lstm.backward, tape, y, state)
            if rng.random() < 0.2:
                attempt("backward, wrong dy", lstm.backward, tape, y[..., :-1])
        if rng.random() < 0.1:
            attempt("tape of another layer", other.backward, tape, first[0] if first else np.ones(3))
        if turn == 0:
            x, n, steps = draw_input(rng, lstm)
            words = words_of(rng, lstm, n, steps)
    dx = x if isinstance(x, np.ndarray) and x.dtype.kind == "f" else None
    made = attempt("jvp", lstm.jvp, x, dx, tape=tape, **words)
    if made is not None:
        attempt("backward_jvp", lstm.backward_jvp, tape, made[0][0])
    if n * steps * lstm.hidden_size < 300:
        attempt("jacobian", lstm.jacobian, x, of="h_n", **words)
    static = words.get("static")
    stream = attempt("stream", lstm.stream, n, **({} if static is None else {"static": static}))
    if stream is not None and isinstance(x, np.ndarray) and x.ndim == 3:
        for step in range(min(x.shape[1], 3)):
            attempt("step", stream.step, x[:, step])
    network = attempt("network", Network, lstm)
    if network is not None:
        attempt("tape_size", network.tape_size, n, HUGE[rng.integers(len(HUGE))])
        c_level(rng, lstm, network)


def c_level(rng, lstm, network):
    """Call the C level's functions on memory of the size that they ask for, or with wrong numbers."""
    n, steps = int(rng.choice([0, 1, 3, 40])), int(rng.choice([0, 1, 4]))
    lengths = None if rng.random() < 0.5 else rng.integers(0, steps + 1, n).astype(np.intp)
    directions = 2 if lstm.bidirectional else 1
    layers, width = lstm.num_layers * directions, lstm.output_size // directions

    def array(*shape):
        return rng.standard_normal(shape).astype(lstm.dtype)

    def call(name, *arguments):
        status = function(f"{name}_{suffix(lstm.dtype)}")(network.address, *arguments)
        counts[f"C level {name} {'refused' if status else 'done'}"] += 1
        return status

    x, y = array(n, steps, lstm.input_size), array(n, steps, lstm.output_size)
    gradient = array(lstm.parameters.size)
    h, c = array(layers, n, width), array(layers, n, lstm.hidden_size)
    tape = np.empty(network.tape_size(n, steps), np.uint8)
    work = np.empty(network.forward_workspace(n, steps), np.uint8)
    assert call("forward", n, steps, x, lengths, h, c, y, h, c, tape, work) == 0
    work = np.empty(network.backward_workspace(n, steps), np.uint8)
    assert call("backward", n, steps, x, lengths, tape, y, h, c, x.copy(), h, c, gradient, work) == 0
    work = np.empty(network.jvp_workspace(n, steps), np.uint8)
    assert call("jvp", n, steps, x, lengths, h, c, x, None, None, gradient, y, h, c, y.copy(), h.copy(),
                c.copy(), work) == 0
    step = directions == 1 and not lstm.reverse
    work = np.empty(network.step_workspace(n) if step else 0, np.uint8)
    assert call("step", n, array(n, lstm.input_size), h, c, h, c, work) == (0 if step else 2)
    huge = min(HUGE[rng.integers(len(HUGE))], 2**63 - 1)
    assert call("forward", -1, steps, x, lengths, h, c, y, h, c, tape, work) == 3
    assert huge < 2**40 or call("forward", huge, huge, x, None, h, c, y, h, c, tape, work) == 3
    lengths = np.full(n, steps + 1, np.intp)
    assert n == 0 or call("forward", n, steps, x, lengths, h, c, y, h, c, tape, work) == 4


def shared(rng, lstm, under):
    """Give one layer, tape, stream and optimizer to three threads: right, or refused as in use."""
    x = rng.standard_normal((4, 6, lstm.input_size)).astype(lstm.dtype)
    words = {"static": np.ones((4, lstm.static_size))} if lstm.static_size else {}
    if not lstm.batch_first:
        x = np.ascontiguousarray(x.swapaxes(0, 1))
    expected = lstm(x, **words)
    tape, optimizer, parameters = lstm.tape(), Adam(), np.ones(50)
    stream = None if lstm.bidirectional or lstm.reverse else lstm.stream(4, **words)
    failures = []

    def work():
        try:
            for _ in range(4):
                same(lstm(x, **words), expected)
                made = attempt("shared forward", lstm.forward, x, tape=tape, seed=1, **words)
                if made is not None:
                    attempt("shared backward", lstm.backward, tape, *made)
                attempt("shared optimizer", optimizer.step, parameters, 0.1 * np.ones(50))
                if stream is not None:
                    attempt("shared step", stream.step, np.ones((4, lstm.input_size)))
                if under != "thread":  # a race of the caller's, which TSan would report
                    lstm.parameters = lstm.parameters.copy()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def node(rng):
    """Run the teaching node with random sizes."""
    cells, features = int(rng.integers(1, 20)), int(rng.integers(1, 9))
    net = LstmNetwork(LstmParam(cells, features))
    values = rng.random((int(rng.integers(1, 5)), features))
    for value in values:
        attempt("node", net.x_list_add, value)
    attempt("node", net.y_list_is, values[:, 0].tolist(), ToyLossLayer)
    attempt("node, wrong", net.x_list_add, rng.random(features + 1))
    net.lstm_param.apply_diff(lr=0.1)


def main():
    """Run rounds until the time is over, and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--under", default="", help="the sanitizer, for the report")
    parser.add_argument("--verbose", action="store_true", help="print each round's layer")
    parser.add_argument("--report", help="a file to which one line of JSON is added")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    if not options.under:  # a sanitizer maps terabytes, and has a limit of its own
        limit = 4 << 30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    rng = np.random.default_rng(options.seed)
    begun, rounds, other = time.process_time(), 0, LSTM(3, 5, rng=0)
    while time.process_time() - begun < options.seconds:
        lstm_ext.set_num_threads(int(rng.integers(1, 4)))
        lstm = draw_layer(rng)
        if lstm is not None:
            if options.verbose:
                print(rounds, lstm, flush=True)
            sequences(rng, lstm, other)
            if rng.random() < 0.2 and lstm.hidden_size < 1000:
                shared(rng, lstm, options.under)
            other = lstm
        node(rng)
        rounds += 1
    calls = sum(counts.values())
    refused = sum(count for name, count in counts.items() if name.endswith("refused"))
    for name, count in sorted(counts.items()):
        print(f"{count:8}  {name}")
    print(f"{rounds} rounds, {calls} calls, {refused} refused, 0 faults", flush=True)
    if options.report:
        record = {
            "kind": "random calls", "under": options.under, "kernel": _kernels.current(), "rounds": rounds,
            "calls": calls, "refused": refused, "seconds": round(time.process_time() - begun),
            "seed": options.seed,
        }
        with open(options.report, "a") as file:
            print(json.dumps(record), file=file)


if __name__ == "__main__":
    main()
