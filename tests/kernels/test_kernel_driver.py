"""The kernels without Python: tests/kernels/kernel_driver compares them with plain C loops.

The same program runs natively and, cross-compiled, on an arm64 CPU that QEMU emulates. It has every function
of the default cell, both dtypes, many sizes, and guards around every array.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "src" / "kernels"
# What setup.py asks of floating point. -O0: an optimising compiler takes a minute.
FLAGS = ["-O0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wall", "-Wextra"]

pytestmark = [
    pytest.mark.needs_source,
    pytest.mark.skipif(
        not KERNELS.is_dir(), reason="the kernels' sources are not here: the tests stand alone"
    ),
]


def build(compiler, directory, *flags):
    """Compile the driver with the two kernels that any CPU has; it needs no dispatch.c, and so no other."""
    program = directory / "driver"
    sources = [HERE / "kernel_driver" / "driver.c", KERNELS / "kernels_baseline.c",
               KERNELS / "kernels_emulated.c", KERNELS / "caches.c"]
    command = [compiler, *FLAGS, *flags, "-I", KERNELS, *sources, "-lm", "-o", program]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return program


def check(command, names):
    """Run the driver: it compares two to four million numbers for each of `names`, and none may differ."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        cases, numbers, errors = re.search(
            rf"^{name}: (\d+) cases, (\d+) numbers, (\d+) errors$", done.stdout, re.MULTILINE
        ).groups()
        assert int(cases) > 900 and int(numbers) > 1.9e6 and errors == "0"


def test_this_cpu(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: the kernels are NOT compared with plain loops")
    check([build(compiler, tmp_path)], ("baseline", "emulated_1", "emulated_2", "emulated_3"))


def test_arm64_under_qemu(tmp_path):
    """NEON by GCC's vector extensions: kernels_baseline.c is all that an arm64 build has."""
    compiler, emulator = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64")
    if compiler is None or emulator is None:
        pytest.skip(
            "arm64 is NOT TESTED here: it needs gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user"
        )
    check([emulator, build(compiler, tmp_path, "-static"), "baseline"], ("baseline",))
