"""Run the kernels' own driver for every CPU and C library whose compiler and emulator are here.

    python tests/support/platforms.py --report FILE

``tests/kernels/kernel_driver`` compares the baseline kernel with plain C loops; it needs no Python. Here it
is compiled for each target and run, natively or under an emulator; a line of JSON says what came of it. A
target without its tools is named, and is not an error.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Name: the compiler, flags, what runs it.
TARGETS = {
    "x86-64, glibc": ("gcc", [], None),
    "x86-64, musl": ("musl-gcc", ["-static"], None),
    "x86-64, Windows (mingw-w64, wine)": ("x86_64-w64-mingw32-gcc", ["-static"], "wine"),
    "arm64 (qemu)": ("aarch64-linux-gnu-gcc", ["-static"], "qemu-aarch64"),
    "s390x, big-endian (qemu)": ("s390x-linux-gnu-gcc", ["-static"], "qemu-s390x"),
}
FLAGS = ["-O0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]


def run(name, compiler, flags, emulator):
    """Build and run the driver; return what the report says, or None where a tool is missing."""
    missing = [tool for tool in (compiler, emulator) if tool and shutil.which(tool) is None]
    if missing:
        print(f"{name}: NOT RUN, {' and '.join(missing)} missing", flush=True)
        return None
    kernels = ROOT / "src" / "kernels"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "driver.exe")
        names = ("kernels_baseline.c", "kernels_emulated.c", "caches.c")
        sources = [ROOT / "tests/kernels/kernel_driver/driver.c", *(kernels / name for name in names)]
        command = [compiler, *FLAGS, *flags, "-I", kernels, *sources, "-lm", "-o", program]
        subprocess.run([str(word) for word in command], check=True)
        # The baseline alone: emulated tiles on an emulated CPU take long.
        command = [*([emulator] if emulator else []), str(program), "baseline"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"(\d+) cases, (\d+) numbers, (\d+) errors", done.stdout)
    cases, numbers, errors = map(int, found.groups()) if found else (0, 0, 1)
    record = {"kind": "platform", "name": name, "cases": cases, "numbers": numbers, "errors": errors}
    print(json.dumps(record), flush=True)
    if done.returncode or errors or not numbers:
        print((done.stdout + done.stderr)[-2000:])
        record["errors"] = errors or 1
    return record


def main():
    """Run all targets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", help="a file to which a line of JSON is added for each target")
    options = parser.parse_args()
    records = [run(name, *target) for name, target in TARGETS.items()]
    if options.report:
        with open(options.report, "a") as file:
            for record in filter(None, records):
                print(json.dumps(record), file=file)
    sys.exit(any(record and record["errors"] for record in records))


if __name__ == "__main__":
    main()
