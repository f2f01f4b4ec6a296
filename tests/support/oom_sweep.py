"""Out of memory at the n-th allocation of Python, for each n: MemoryError, and the next call is right.

    python tests/support/oom_sweep.py [JOB ...] [--report FILE]
    python tests/support/oom_sweep.py "general train" "general train, malloc"

Each job runs in a process of its own, which is started again behind an allocation whose failure ended it. A
table of counts is printed; the exit code is 1 if a process was ended, or a call after the failure was wrong.
Crashes within NumPy's functions and errors of theirs that are no MemoryError are printed, and are not counted
against this package. Allocations that go through Python's allocators fail (``_testcapi.set_nomemory``):
objects, and NumPy's arrays. In jobs that end in ``, malloc`` those of the extensions by ``malloc`` fail
instead (``failing_malloc.c``, on Linux with a C compiler): workspaces, tapes, packed weights. There each call
is the first one of a new layer, since later ones find their memory.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

LAYERS = {
    "default": {},
    "stack": {"num_layers": 2, "bidirectional": True, "checkpoint": 2},
    "general": {"peepholes": True, "num_layers": 2, "proj_size": 2, "dropout": 0.5},
    "static": {"static_size": 2, "learn_state": True, "zoneout": (0.1, 0.1)},
    "missing": {"nan": "hold", "nan_mask": True},
    "bfloat16": {"precision": "bfloat16x3"},
}
PASSES = 40
PARTS = ("construct", "forward", "train", "stream", "jvp", "hvp", "network")
JOBS = [f"{layer} {part}" for layer in LAYERS for part in PARTS]
JOBS += [f"{layer} {part}, malloc" for layer in LAYERS for part in PARTS[1:]]
JOBS += ["node construct", "node sequence", "optimizer"]
JOBS += ["model fit, malloc", "model fit", "model save", "model load", "model export"]


def prepare(job):
    """Return a function that does what `job` says, and returns the results as a list of arrays."""
    import copy

    import numpy as np

    from lstm_ext import LSTM, Adam, LstmNetwork, LstmParam, ToyLossLayer
    from lstm_ext.cython_lstm import Network

    job = job.removesuffix(", malloc")
    if job.startswith("node"):
        param = LstmParam(4, 3)
        inputs = np.linspace(0, 1, 9).reshape(3, 3)

        def node():
            p = LstmParam(4, 3) if "construct" in job else param
            net = LstmNetwork(p)
            for x in inputs:
                net.x_list_add(x)
            h = [n.state.h.copy() for n in net.lstm_node_list]
            net.y_list_is([0.1, 0.2, 0.3], ToyLossLayer)
            p.apply_diff(lr=0)
            return h

        return node
    if job == "optimizer":
        def step():
            optimizer, parameters = Adam(max_value=0.5), np.ones(7)
            optimizer.step(parameters, np.linspace(-1, 1, 7))
            return [parameters, optimizer.state["m"]]

        return step
    if job.startswith("model"):
        return prepare_model(job.split()[1])
    name, part = job.split()
    options = LAYERS[name]
    lstm = LSTM(3, 5, rng=0, **options)
    x = np.random.default_rng(0).standard_normal((4, 6, 3))
    if "nan" in options:
        x[0, 1] = np.nan
    words = {"static": np.ones((4, 2))} if "static_size" in options else {}
    tape = lstm.tape()

    def construct():  # without drawing weights, in which NumPy's generators crash
        new = copy.copy(lstm)
        return [new.parameters, *new.named_parameters().values()]

    def forward():
        y, (h_n, c_n) = lstm(x, lengths=[1, 6, 0, 3], **words)
        return [y, h_n, c_n, lstm.forward(x, return_gates=True, **words)[2]["c"]]

    def train():
        y, (h_n, c_n) = lstm.forward(x, lengths=[1, 6, 0, 3], tape=tape, seed=7, **words)
        result = lstm.backward(tape, y, (h_n, c_n))
        return [y, h_n, c_n, result[0], *result[1]]

    def stream():
        if lstm.bidirectional:
            return []
        online = lstm.stream(4, **words)
        return [online.step(x[:, 0]).copy(), online.step(x[:, 1]), *online.state]

    def jvp():
        (y, _), (y_dot, _) = lstm.jvp(x, np.ones_like(x), dparameters=np.ones(lstm.parameters.size), **words)
        return [y, y_dot]

    def hvp():
        (y, _), _ = lstm.jvp(x, np.ones_like(x), tape=tape, **words)
        return [lstm.backward_jvp(tape, y)["gradient_dot"]]

    def network():
        if lstm.static_size or lstm.learn_state or lstm.nan is not None:
            return []
        net = Network(lstm)
        return [np.array([net.nbytes, net.forward_workspace(4, 6), net.tape_size(4, 6)])]

    return locals()[part]


def prepare_model(part):
    """Return what trains, saves, loads or exports a model, and gives its parameters or its source."""
    import copy
    import os
    import tempfile

    import numpy as np

    from lstm_ext import LSTM, Adam, Model, io

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 4, 3)), rng.standard_normal((6, 2))
    model = Model(LSTM(3, 5, rng=0), 2, rng=0)
    begun = copy.deepcopy(model.parameters)
    path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    io.save(model, path)

    def fit():
        model.parameters[...] = begun
        model.fit(x, y, epochs=2, batch_size=3, optimizer=Adam(), rng=0)
        return [model.parameters.copy()]

    def save():
        io.save(model, path)
        return [io.load(path).parameters]

    def load():
        return [io.load(path).parameters]

    def export():
        io.export_c(model, os.path.join(os.path.dirname(path), "model.c"))
        with open(os.path.join(os.path.dirname(path), "model.c"), "rb") as file:
            return [np.frombuffer(file.read(), np.uint8)]

    return locals()[part]


def sweep(job, first):
    """Fail the allocations from `first` on, one in each call, and tell what came of it, line by line.

    It ends where `PASSES` calls in a row have come through: they make no more allocations than that.
    """
    import _testcapi
    import ctypes
    import traceback

    import numpy as np

    work = prepare(job)
    for _ in range(5):  # caches of Python and of ours are filled
        expected = work()
    expected = [np.array(a) for a in expected]
    in_c = ctypes.CDLL(None).fail_malloc if job.endswith(", malloc") else None
    passes, n = 0, first
    while passes < PASSES:
        print(n, flush=True)  # the one that a crash is of
        failed = None
        if in_c:
            work = prepare(job)
            in_c(n)
        else:
            _testcapi.set_nomemory(n, n + 1)
        try:
            work()
        except MemoryError:
            failed = "MemoryError"
        except BaseException as error:
            failed = error
        finally:
            _testcapi.remove_mem_hooks()
            if in_c and in_c(0) == 0 and failed is None:
                failed = AssertionError("an allocation has failed, and no error was raised")
        if failed is not None and failed != "MemoryError":
            frame = (traceback.extract_tb(failed.__traceback__) or traceback.extract_stack())[-1]
            where = "/".join(frame.filename.split("/")[-2:])
            failed = f"{type(failed).__name__}: {failed} at {where}: {frame.line}"
        found = work()
        right = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found, expected, strict=True))
        print(json.dumps([n, failed, right]), flush=True)
        passes = passes + (PASSES if in_c else 1) if failed is None else 0
        n += 1


def failing_malloc(folder):
    """Build failing_malloc.c there; return environment variables that load it."""
    library = Path(folder, "failing_malloc.so")
    source = Path(__file__).with_name("failing_malloc.c")
    command = [*os.environ.get("CC", "cc").split(), "-O1", "-shared", "-fPIC", str(source)]
    subprocess.run([*command, "-o", str(library), "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


def run(job, timeout=600):
    """Return counts of a job: calls, MemoryErrors, other errors by name, wrong answers, crashes by n."""
    with tempfile.TemporaryDirectory() as folder:
        return _run(job, timeout, failing_malloc(folder) if job.endswith(", malloc") else {})


def _run(job, timeout, variables):
    """As `run`, with these environment variables."""
    result = {"calls": 0, "MemoryError": 0, "other": {}, "wrong": [], "crashes": [], "of_numpy": []}
    command = [sys.executable, "-X", "faulthandler", "-P", __file__, "--child"]
    first = 1
    while len(result["crashes"]) + len(result["of_numpy"]) < 50:
        done = subprocess.run(
            [*command, job, str(first)], capture_output=True, text=True, timeout=timeout, check=False,
            env=os.environ | variables,
        )
        lines = done.stdout.splitlines()
        for line in lines:
            if not line.startswith("["):
                continue
            _, failed, right = json.loads(line)
            result["calls"] += 1
            if failed == "MemoryError":
                result["MemoryError"] += 1
            elif failed is not None:
                result["other"][failed] = result["other"].get(failed, 0) + 1
            if not right:
                result["wrong"].append(json.loads(line)[0])
        if done.returncode == 0:
            break
        last = int([line for line in lines if not line.startswith("[")][-1]) if lines else first
        frames = [line.strip() for line in done.stderr.splitlines() if line.startswith("  File")]
        where = "of_numpy" if frames and "/numpy/" in frames[0] else "crashes"
        result[where].append((last, frames[0] if frames else done.stderr[-300:]))
        first = last + 1
    return result


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        sweep(sys.argv[2], int(sys.argv[3]))
        sys.exit()
    arguments, report = sys.argv[1:], None
    if "--report" in arguments:
        where = arguments.index("--report")
        report, arguments = arguments[where + 1], arguments[:where] + arguments[where + 2 :]
    bad = 0
    titles = ("calls", "MemoryError", "others", "wrong", "crashes", "in NumPy")
    print(f"{'job':24}", *[f"{title:>11}" for title in titles])
    for job in arguments or JOBS:
        found = run(job, timeout=3600)
        others = sum(found["other"].values())
        counts = (found["calls"], found["MemoryError"], others, *map(len, (
            found["wrong"], found["crashes"], found["of_numpy"])))
        print(f"{job:24}", *[f"{count:11}" for count in counts], flush=True)
        for name, value in found["other"].items():
            print(f"    {value} x {name}")
        for n, frame in found["crashes"] + found["of_numpy"]:
            print(f"    ended at allocation {n}: {frame}")
        if report:
            keys = ("calls", "memory_errors", "others", "wrong", "crashes", "in_numpy")
            record = {"kind": "out of memory", "job": job, "other_errors": found["other"]}
            record |= dict(zip(keys, counts, strict=True))
            with open(report, "a") as file:
                print(json.dumps(record), file=file)
        bad += len(found["wrong"]) + len(found["crashes"])
    sys.exit(bad > 0)
