"""The memory of one training step, measured in a fresh process: python benchmarks/memory.py torch.

Above what stands there anyway: the process, the data, the parameters, and the outputs and input
gradients that the step returns. Linux alone (it reads and resets the peak in /proc/self).
"""

import ctypes
import gc
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from contestants import PEERS, Ours
from problem import Problem
from sections import CHECKPOINT, MEMORY, QUICK

OURS = {"lstm_ext": None, "checkpoint": CHECKPOINT}


def _resident(line):
    """VmRSS (now) or VmHWM (peak) of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{line}:")[1].split()[0])


def measure(label, problem):
    """Bytes at the peak of the first training step of `problem`."""
    if label in OURS:
        contestant, options = Ours(1), {"checkpoint": OURS[label]}
    else:
        contestant, options = PEERS[label](1), {}
    # Code is loaded and pools are started by a short problem first.
    call, read = contestant.training(replace(problem, time=2), **options)
    read(call())
    call, read = contestant.training(problem, **options)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _resident("VmRSS")
    result = call()
    peak = _resident("VmHWM")
    y, dx, *_ = read(result)
    return peak - before - y.nbytes - dx.nbytes


def in_subprocess(label, quick, environment):
    command = [sys.executable, __file__, label, *["--quick"] * quick]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sizes = QUICK[1] if "--quick" in sys.argv else MEMORY
    print(json.dumps(measure(sys.argv[1], Problem(*sizes))))
