"""Setup common to all tests."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import signal
import sys
from pathlib import Path

from hypothesis import settings

# The readable references and the helpers are imported by their bare names.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "support")]

# Timings on shared machines say nothing, and a failure must repeat.
settings.register_profile("lstm_ext", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("lstm_ext")

# A job in a shell's background is started with SIGINT ignored, and so would be all that it starts: the
# tests of Ctrl-C want it as at a terminal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The numeric tests under another precision, on any CPU:
#   LSTM_EXT_TEST_PRECISION=bfloat16x6 LSTM_EXT_BFLOAT16=emulated pytest -m every_kernel tests/layer
# Every float32 LSTM has it then, and float32's tolerance becomes the precision's.
if PRECISION := os.environ.get("LSTM_EXT_TEST_PRECISION"):
    import harness

    from lstm_ext import _kernels

    _prepare = _kernels.prepare
    _kernels.prepare = lambda precision: _prepare(PRECISION if precision == "float32" else precision)
    harness.TOLERANCE["float32"] = {"bfloat16x6": 1e-5, "bfloat16x3": 2e-4, "bfloat16": 0.1}[PRECISION]

HAS_TORCH = importlib.util.find_spec("torch") is not None


def pytest_terminal_summary(terminalreporter):
    """Say what the numbers were compared with, even under -q."""
    from make_torch_outputs import committed_version

    torch = "committed outputs of PyTorch " + committed_version()
    if HAS_TORCH:
        torch += " and live PyTorch " + importlib.metadata.version("torch")
    else:
        torch += " (PyTorch is not installed)"
    from lstm_ext import _kernels

    terminalreporter.write_line(f"kernel: {_kernels.current()}; parity with: {torch}")
    if "LSTM_EXT_REPORT" in os.environ:
        write_report(os.environ["LSTM_EXT_REPORT"], terminalreporter, _kernels.current())


def write_report(path, reporter, kernel):
    """Add a line of JSON for docs/reliability.md: counts, and where they were counted."""
    import numpy as np

    counts = {name: len(reporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
    arguments = " ".join(reporter.config.invocation_params.args)
    record = {
        "kind": "suite", "kernel": kernel, "passed": counts["passed"], "skipped": counts["skipped"],
        "failed": counts["failed"] + counts["error"], "arguments": arguments,
        "python": platform.python_version(), "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }
    with open(path, "a", encoding="utf-8") as file:
        print(json.dumps(record), file=file)
