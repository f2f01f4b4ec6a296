"""Peak memory of a training whose sequences are in a memory-mapped file of 4 GB.

    python benchmarks/out_of_core.py [--gigabytes 4]

The file is sparse: zeros that take no room on the disk, and are read like any others. Peak memory is
VmHWM of /proc/self/status, all resident pages of the process included, those of the map, too.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from lstm_ext import LSTM, Model


def resident(name):
    """Return VmHWM (the peak) or VmRSS (at present) in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=4.0, help="10^9 bytes (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print figures in bytes and seconds")
    words = parser.parse_args()
    steps, inputs = 100, 250
    n = int(words.gigabytes * 1e9 / (4 * steps * inputs))
    before = resident("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        x = np.memmap(Path(folder) / "x.dat", np.float32, mode="w+", shape=(n, steps, inputs))
        y = np.random.default_rng(0).normal(size=(n, 1))
        model = Model(LSTM(inputs, 8, rng=0), 1, rng=0)
        start = time.perf_counter()
        model.fit(x, y, epochs=1, batch_size=32, rng=0)
        seconds = time.perf_counter() - start
        size = x.nbytes
        del x
    figures = {"file": size, "before": before, "peak": resident("VmHWM"), "seconds": seconds}
    if words.json:
        print(json.dumps(figures))
    else:
        print(
            f"file {size / 1e9:.2f} GB, {n} sequences of {steps} x {inputs}, float32; one epoch "
            f"{seconds:.1f} s\npeak memory {figures['peak'] / 1e6:.0f} MB, of which {before / 1e6:.0f} MB "
            "before the training"
        )


if __name__ == "__main__":
    main()
