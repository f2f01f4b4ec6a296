"""Build the compiled half of lstm-ext: one extension for each .pyx file in src/."""

import importlib.metadata
import json
import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel


def switch(name):
    """Whether the environment variable LSTM_EXT_`name` asks for a build of another kind."""
    return os.environ.get(f"LSTM_EXT_{name}", "0") not in ("", "0")


# docs/profiling.md says what each is for; they combine.
DEBUG, PROFILE, LINETRACE, COVERAGE = map(switch, ("DEBUG", "PROFILE", "LINETRACE", "COVERAGE"))
SANITIZE = os.environ.get("LSTM_EXT_SANITIZE", "")  # a list for -fsanitize

# Never -ffast-math: linked in, it turns subnormals off for the whole process.
# The three -f flags on floating point give the kernels the freedom that they need, and no more.
CFLAGS = [
    "-Og" if DEBUG or COVERAGE else "-O1" if SANITIZE else "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    # Python's own flags may ask for debug information, four times the size of the code. The
    # symbols that a profiler names stay.
    "-g" if DEBUG or PROFILE or SANITIZE else "-g0",
    # An extension exports its init function alone; Python's headers mark that one.
    "-fvisibility=hidden",
]
LDFLAGS = []
if PROFILE or SANITIZE:
    CFLAGS += ["-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"]  # who called whom
if SANITIZE:
    CFLAGS += [f"-fsanitize={SANITIZE}"]
    LDFLAGS += [f"-fsanitize={SANITIZE}"]
if COVERAGE:
    CFLAGS += ["--coverage", "-fprofile-update=atomic"]
    LDFLAGS += ["--coverage"]
MACROS = [("CYTHON_TRACE_NOGIL", "1")] if LINETRACE else []

if sys.platform == "win32":
    sys.exit("lstm-ext: the kernels are written in GCC's and clang's vector extensions; MSVC lacks them")

# Apple's clang has no OpenMP run time; there the engine is built single-threaded.
OPENMP = [] if sys.platform == "darwin" else ["-fopenmp"]

# What a file says in its first line goes before these: checked there, it is checked in every build.
DIRECTIVES = {"language_level": "3", "boundscheck": DEBUG, "initializedcheck": DEBUG}
if LINETRACE:
    DIRECTIVES |= {"linetrace": True, "binding": True}

KERNELS = [
    "src/kernels/kernels_avx512.c",
    "src/kernels/kernels_avx2.c",
    "src/kernels/kernels_baseline.c",
    "src/kernels/kernels_amx.c",
    "src/kernels/kernels_avx512_bf16.c",
    "src/kernels/kernels_emulated.c",
    "src/kernels/caches.c",
    "src/kernels/dispatch.c",
]
KERNEL_HEADERS = [
    "src/kernels/kernels.h",
    "src/kernels/kernels_contract.h",
    "src/kernels/kernels_impl.h",
    "src/kernels/bfloat16_impl.h",
    "src/kernels/vectors.h",
    "src/kernels/step_cell.h",
    "src/kernels/tiles_amx.h",
    "src/kernels/tiles_emulated.h",
    "src/kernels/split_avx512.h",
    "src/kernels/split_plain.h",
    "src/kernels/cell.h",
    "src/kernels/general.h",
    "src/kernels/general_cell.h",
    "src/philox.h",
    "src/silence.h",
    "src/stream.h",
    "src/sizes.h",
    "src/threads.h",
    "src/kernels/vec_avx512.h",
    "src/kernels/vec_avx2.h",
    "src/kernels/vec_baseline.h",
]


def extension(name, sources=(), *, openmp=False):
    """Return the extension lstm_ext.`name`, made of src/`name`.pyx and the C files `sources`."""
    return Extension(
        f"lstm_ext.{name}",
        [f"src/{name}.pyx", *sources],
        depends=KERNEL_HEADERS,
        include_dirs=["src/kernels", "src"],
        define_macros=MACROS,
        extra_compile_args=CFLAGS + (OPENMP if openmp else []),
        extra_link_args=LDFLAGS + (OPENMP if openmp else []),
    )


EXTENSIONS = [
    extension("_kernels", KERNELS),  # the slowest to compile goes first
    extension("_lstm"),
    extension("_driver"),
    extension("_general"),
    extension("_stack", openmp=True),
    extension("cython_lstm"),
    extension("_arrays"),
    extension("_blas"),
    extension("_node"),
    extension("_optim"),
]

class Wheel(bdist_wheel):
    """A wheel with a bill of materials (PEP 770, CycloneDX): auditwheel adds one of what it bundles."""

    def write_wheelfile(self, folder, *arguments, **words):
        """Write the bill beside the metadata of the wheel."""
        super().write_wheelfile(folder, *arguments, **words)
        name, version = self.distribution.get_name(), self.distribution.get_version()
        component = {
            "type": "library", "bom-ref": name, "name": name, "version": version,
            "purl": f"pkg:pypi/{name}@{version}", "licenses": [{"license": {"id": "BSD-3-Clause"}}],
        }
        tools = [
            {"type": "application", "name": tool, "version": importlib.metadata.version(tool)}
            for tool in ("cython", "setuptools")
        ]
        bill = {
            "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
            "metadata": {"component": component, "tools": {"components": tools}},
            # No source of others is in the package; what it needs is installed beside it.
            "components": [], "dependencies": [{"ref": name}],
        }
        target = Path(folder) / "sboms" / f"{name}.cdx.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")


setup(
    cmdclass={"bdist_wheel": Wheel},
    ext_modules=cythonize(
        EXTENSIONS,
        include_path=["."],
        # The .pxd files stand apart from their .pyx: without force an edit of one goes unseen.
        force=True,
        build_dir="build/cython",
        annotate=bool(os.environ.get("LSTM_EXT_ANNOTATE")),
        emit_linenums=PROFILE,  # a profiler names lines of the .pyx, not of the C made of it
        compiler_directives=DIRECTIVES,
    ),
    # Compilers at a time; LSTM_EXT_BUILD_JOBS=1 on a machine that others use, too.
    options={
        "build_ext": {"parallel": int(os.environ.get("LSTM_EXT_BUILD_JOBS") or os.cpu_count() or 1)}
    },
)
