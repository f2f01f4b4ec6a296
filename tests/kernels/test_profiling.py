"""A profiler sees the kernels by name: in the build as it is shipped, symbols and all.

docs/profiling.md has the commands, and builds with lines as well.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lstm_ext

PACKAGE = Path(lstm_ext.__file__).parent
DRIVER = Path(__file__).parents[2] / "benchmarks" / "perf_driver.py"

# What a training loop of the default cell calls through the table of a kernel.
CALLED = ("project", "product", "weight_gradient", "column_sums", "cell_backward", "step_forward")

pytestmark = [
    pytest.mark.needs_source,
    pytest.mark.skipif(sys.platform != "linux", reason="perf, valgrind and ELF are Linux's"),
]


def environment():
    """One thread, and the kernel that the CPU has: valgrind shows one without AVX-512."""
    kept = {k: v for k, v in os.environ.items() if k != "LSTM_EXT_KERNEL"}
    # The driver has to import this package, wherever it lies.
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), kept.get("PYTHONPATH")]))
    return kept | {"OMP_NUM_THREADS": "1", "LSTM_EXT_NUM_THREADS": "1", "PYTHONPATH": path}


def run(*command, timeout=300):
    return subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        timeout=timeout,
    )


def needs(*tools):
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: NOT TESTED that a profiler sees the kernels")
    if not DRIVER.exists():
        pytest.skip("benchmarks/perf_driver.py is not here")


def kernel_names():
    """Names of the kernels' functions among the extension's symbols; `.constprop` and the like cut off."""
    (extension,) = PACKAGE.glob("_kernels.*.so")
    done = run("nm", "--format=posix", extension)
    rows = (line.split() for line in done.stdout.splitlines())
    names = {row[0].partition(".")[0] for row in rows if row[1] in "tT"}
    return {name for name in names if name.endswith(("_s", "_d"))}


def test_symbols_of_every_kernel_are_in_the_extension():
    """Names are static, so they are in .symtab alone: a stripped file has none."""
    needs("nm")
    assert kernel_names() >= {f"{function}_{dtype}" for function in CALLED for dtype in "sd"}


def instructions(listing):
    """{function: instructions} in callgrind_annotate's list; what is inlined in one counts as its own."""
    line = re.compile(r"^\s*([\d,]+) (?:\([^)]*\) +)?\S*?:(\S+?)(?:\.\S+)?(?: \[.*\])?$")
    found = {}
    for count, function in (m.groups() for m in map(line.match, listing.splitlines()) if m):
        found[function] = found.get(function, 0) + int(count.replace(",", ""))
    return found


def test_callgrind_finds_the_training_loop_in_named_kernels(tmp_path):
    """At least 90 % of its instructions: Python, drivers and memory are the rest."""
    needs("nm", "valgrind", "callgrind_control", "callgrind_annotate")
    out = tmp_path / "callgrind.out"
    valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
    loop = [sys.executable, DRIVER, "training", "--shape", "50,16,32,64", "--calls", "1"]
    done = run(*valgrind, *loop, "--callgrind")
    assert done.returncode == 0, done.stderr
    listing = run("callgrind_annotate", "--threshold=100", "--auto=no", out).stdout
    total = int(re.search(r"^([\d,]+) .*PROGRAM TOTALS", listing, re.MULTILINE)[1].replace(",", ""))
    found = instructions(listing)
    # 3 passes of 2 (I + H) 4H multiplications and additions a step, 16 in an instruction at the most
    assert total > 3 * 2 * 50 * 16 * 96 * 256 / 16
    assert sum(found.values()) > 0.99 * total, "the listing was not read to its end"
    names = kernel_names()
    named = {function: n for function, n in found.items() if function in names}
    assert sum(named.values()) >= 0.9 * total, listing[:4000]
    for function in ("weight_gradient_s", "cell_backward_s", "step_forward_s", "panel_product_s"):
        assert named[function] > 0


def test_perf_finds_the_kernels_by_name(tmp_path):
    """cpu-clock needs no counters, so it is there on virtual machines, too."""
    needs("perf")
    data = tmp_path / "perf.data"
    record = ["perf", "record", "-q", "-e", "cpu-clock", "-o", data]
    loop = [sys.executable, DRIVER, "training", "--seconds", "2"]
    done = run(*record, *loop)
    if done.returncode:
        pytest.skip(f"perf may not record here: NOT TESTED that it sees the kernels. {done.stderr}")
    report = run("perf", "report", "-i", data, "--stdio", "--sort", "dso,symbol").stdout
    rows = re.findall(r"^ +([\d.]+)% +_kernels\.\S+ +\[\.\] (\S+)", report, re.MULTILINE)
    shares = {}
    for share, symbol in rows:
        shares[symbol] = shares.get(symbol, 0) + float(share)
    assert sum(shares.values()) > 30, report  # import and warm-up are in it
    named = sum(share for symbol, share in shares.items() if not symbol.startswith("0x"))
    assert named > 0.99 * sum(shares.values()), shares
