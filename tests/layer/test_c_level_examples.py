"""The examples of C-level use, built as their users would build them, against the installed package."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import lstm_ext
from lstm_ext import LSTM, cython_lstm
from lstm_ext.cython_lstm import Network

CHECKOUT = Path(__file__).parents[2]
EXAMPLES = CHECKOUT / "examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are not here")

COMPILER = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
needs_compiler = pytest.mark.skipif(
    shutil.which(COMPILER[0]) is None, reason=f"there is no C compiler ({COMPILER[0]}): nothing can be built"
)


def run(*command, cwd):
    """Run `command` in `cwd` with this lstm_ext; what it printed."""
    environment = os.environ | {"PYTHONPATH": str(Path(lstm_ext.__file__).parents[1]), "CFLAGS": "-O1 -g0"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


def build(name, directory):
    """Build examples/`name` there, in place."""
    pytest.importorskip("setuptools", reason="the examples are built with setuptools")
    shutil.copytree(EXAMPLES / name, directory, ignore=shutil.ignore_patterns("*.so", "build", "*.o"))
    return run(sys.executable, "setup.py", "-q", "build_ext", "--inplace", cwd=directory)


def load(name, directory):
    """Import the extension `name` that lies in `directory`."""
    (path,) = directory.glob(name + sysconfig.get_config_var("EXT_SUFFIX"))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def furthest(printed):
    """The numbers after "furthest from ..."."""
    return [float(n) for n in re.findall(r"furthest from .* ([-+.e\d]+)$", printed, re.MULTILINE)]


@needs_compiler
def test_the_cython_extension(tmp_path):
    pytest.importorskip("Cython", reason="the example is written in Cython")
    directory = tmp_path / "cython"
    build("cython_extension", directory)
    printed, _ = run(sys.executable, "run.py", cwd=directory)
    (difference,) = furthest(printed)
    assert difference < 1e-12
    oscillator = load("oscillator", directory)
    with pytest.raises(ValueError, match="status 1"):  # float32
        oscillator.simulate(Network(LSTM(2, 3, rng=0)), np.ones(3), 1, 0, 0.1, 5)
    with pytest.raises(TypeError, match="network is LSTM; expected"):
        oscillator.simulate(LSTM(2, 3), np.ones(3), 1, 0, 0.1, 5)


@needs_compiler
def test_the_c_extension(tmp_path):
    directory = tmp_path / "c"
    _, warnings = build("c_extension", directory)
    assert "warning" not in warnings
    printed, _ = run(sys.executable, "run.py", cwd=directory)
    assert len(furthest(printed)) == 2
    assert max(furthest(printed)) < 1e-12
    (integral, expected) = re.search(r"integral: (\S+), .* (\S+)$", printed, re.MULTILINE).groups()
    assert abs(float(integral) - float(expected)) < 1e-10
    make_model = load("lstm_filter", directory).make_model
    for options in ({}, {"dtype": "float64", "bidirectional": True}):
        with pytest.raises(ValueError, match="network"):
            make_model(Network(LSTM(2, 3, rng=0, **options)), np.ones(3), 3)
    with pytest.raises(TypeError, match="network is LSTM"):
        make_model(LSTM(2, 3), np.ones(3), 3)


@needs_compiler
def test_the_header_without_python(tmp_path):
    """It compiles alone, as strict C99 and as C++, and declares the functions that there are."""
    (tmp_path / "a.c").write_text(
        '#include "lstm_ext.h"\n'
        "static lstm_step_d_t step;\n"
        "int f(const void *network, const double *x, double *h, double *c, void *w);\n"
        "int f(const void *network, const double *x, double *h, double *c, void *w) {\n"
        "    return step ? step(network, 1, x, h, c, h, c, w) : LSTM_WRONG_NETWORK;\n}\n"
    )
    command = [*COMPILER, "-c", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{lstm_ext.get_include()}"]
    run(*command, "-std=c99", "a.c", "-o", "a.o", cwd=tmp_path)
    run(*command, "-x", "c++", "a.c", "-o", "b.o", cwd=tmp_path)
    header = Path(lstm_ext.get_include(), "lstm_ext.h").read_text(encoding="utf-8")
    names = set(re.findall(r"\bF\((\w+?)(?:_##suffix)?,", header)) - {"name"}
    functions = {re.sub("^lstm_|_[sd]$", "", name) for name in cython_lstm.__pyx_capi__}
    assert names == functions - {"network"}


def test_the_numba_loop():
    pytest.importorskip("numba", reason="the example is compiled by numba")
    printed, _ = run(sys.executable, "numba_loop.py", cwd=EXAMPLES)
    assert len(furthest(printed)) == printed.count("status 0") == 2
    assert max(furthest(printed)) < 1e-4


def build_fortran(directory):
    """Build examples/fortran there."""
    gfortran = shutil.which("gfortran")
    if gfortran is None:
        pytest.skip("there is no gfortran: the Fortran example cannot be built")
    shutil.copytree(EXAMPLES / "fortran", directory, ignore=shutil.ignore_patterns("*.so", "*.mod"))
    command = re.search(r"(gfortran .*\.so)", (directory / "run.py").read_text(encoding="utf-8"))[1].split()
    run(gfortran, "-Wall", "-Werror", *command[1:], cwd=directory)


def test_the_fortran_module(tmp_path):
    directory = tmp_path / "fortran"
    build_fortran(directory)
    printed, _ = run(sys.executable, "run.py", cwd=directory)
    assert len(furthest(printed)) == printed.count("status 0") == 2
    assert max(furthest(printed)) < 1e-11


# Allocations are counted where they are made: malloc and its like, in front of those of the C library.
COUNTER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

static long count;
static void *(*next_malloc)(size_t), *(*next_realloc)(void *, size_t);
static int (*next_align)(void **, size_t, size_t);
void *__libc_calloc(size_t, size_t);

long allocations(void) { return count; }
void *malloc(size_t n) {
    if (!next_malloc) next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    count++;
    return next_malloc(n);
}
void *calloc(size_t n, size_t k) {
    count++;
    return __libc_calloc(n, k);
}
void *realloc(void *p, size_t n) {
    if (!next_realloc) next_realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    count++;
    return next_realloc(p, n);
}
int posix_memalign(void **p, size_t a, size_t n) {
    if (!next_align) next_align = (int (*)(void **, size_t, size_t))dlsym(RTLD_NEXT, "posix_memalign");
    count++;
    return next_align(p, a, n);
}
"""
COUNTED = """
import ctypes, gc, sys
import numpy as np
from lstm_ext import LSTM
from lstm_ext.cython_lstm import Network, address
allocations = ctypes.CDLL(None).allocations
allocations.restype = ctypes.c_long
lstm = LSTM(4, 16, dtype="{dtype}", peepholes=True, proj_size=8, layer_norm=True, rng=0)
network = Network(lstm)
N = 3
h, c = np.zeros((N, 8), lstm.dtype), np.zeros((N, 16), lstm.dtype)
workspace = np.empty(network.step_workspace(N), np.uint8)
x, readout = np.ones((N, 4), lstm.dtype), np.ones((4, 8), lstm.dtype)
{program}
gc.disable()
for steps in (10, 10, 10, 10_000):
    before = allocations()
    loop(steps)
    print(steps, allocations() - before)
"""
LOOPS = {
    "C": """
import lstm_filter
from scipy import LowLevelCallable
from scipy.ndimage import generic_filter1d
callback = LowLevelCallable(lstm_filter.filter, lstm_filter.make_model(network, readout[0], 16))
lines = {n: (np.ones((1, n)), np.ones((1, n))) for n in (10, 10_000)}
def loop(steps):
    line, out = lines[steps]
    generic_filter1d(line, callback, filter_size=4, axis=1, mode="nearest", output=out)
""",
    "numba": """
import numba_loop
def loop(steps):
    assert numba_loop.walk(network.address, x, h, c, workspace, readout, np.float32(1e-6), steps) == 0
""",
    "fortran": """
library, status = ctypes.CDLL("./columns.so"), ctypes.c_int()
pointer, size = ctypes.c_void_p, ctypes.c_size_t
library.run_columns.argtypes = [
    pointer, pointer, *5 * [size], ctypes.c_double, *5 * [pointer], ctypes.POINTER(ctypes.c_int)]
library.run_columns.restype = None
arrays = [a.ctypes.data for a in (x, readout, h, c, workspace)]
def loop(steps):
    library.run_columns(address("lstm_step_d"), network.address, N, 4, 8, 16, steps, 1e-6, *arrays,
                        ctypes.byref(status))
    assert status.value == 0
""",
}


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="malloc is counted as glibc has it")
@pytest.mark.parametrize("language", LOOPS)
def test_steps_with_options_allocate_nothing(language, tmp_path):
    """Peepholes, a projection and layer norm: 10,000 steps make no more allocations than 10."""
    directory = tmp_path / "example"
    if language == "C":
        build("c_extension", directory)
    elif language == "fortran":
        build_fortran(directory)
    else:
        pytest.importorskip("numba", reason="the example is compiled by numba")
        directory.mkdir()
        shutil.copy(EXAMPLES / "numba_loop.py", directory)
    (directory / "counter.c").write_text(COUNTER)
    run(*COMPILER, "-shared", "-fPIC", "counter.c", "-o", "counter.so", "-ldl", cwd=directory)
    program = COUNTED.replace("{program}", LOOPS[language])
    program = program.replace("{dtype}", "float32" if language == "numba" else "float64")
    printed, _ = run(
        "env", f"LD_PRELOAD={directory / 'counter.so'}", sys.executable, "-c", program, cwd=directory
    )
    counts = [int(line.split()[1]) for line in printed.splitlines()]
    assert len(counts) == 4
    assert counts[3] <= counts[2] + 2, counts


@pytest.mark.parametrize(
    "command", [("realtime_audio.py", "--samples", "64000"), ("realtime_control.py", "--steps", "20000")],
    ids=lambda command: command[0],
)
def test_the_examples_of_real_time(command):
    """They run; how fast, and how well after one epoch of training, is not looked at here."""
    pytest.importorskip("numba", reason="the example is compiled by numba")
    printed, _ = run(sys.executable, *command, "--epochs", "1", cwd=EXAMPLES)
    assert re.search(r"^(1,000 blocks of 64 samples, 64,000|20,000) steps, .* worst ", printed, re.MULTILINE)
    for difference in furthest(printed):
        assert difference < 1e-5


DOCUMENT = CHECKOUT / "docs" / "c-level.md"


@pytest.mark.skipif(not DOCUMENT.exists(), reason="the documents are not here")
def test_the_document_shows_the_examples_as_they_are():
    text = DOCUMENT.read_text(encoding="utf-8")
    shown = re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(shown) >= 10
    for file, content in shown:
        assert content == (CHECKOUT / file).read_text(encoding="utf-8"), file
