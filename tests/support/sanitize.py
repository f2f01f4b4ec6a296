"""Build the extensions with a sanitizer in a copy of the checkout, and run the zoo, tests and forks under it.

    python tests/support/sanitize.py address --report FILE      ASan and UBSan (clang or gcc)
    python tests/support/sanitize.py thread --report FILE       TSan (clang), with libomp and its tool archer
    python tests/support/sanitize.py address --tree DIR         keeps the build in DIR, for the next time

TSan does not see the locks within an OpenMP run time. LLVM's libomp reports its barriers and joins to a
tool, and archer passes them on to TSan; so ``thread`` needs clang, libomp and libarcher. Python is not
built for TSan: its own memory is not looked at, but the locks of its threads are seen, since they are those
of the C library. Before anything else a race that is planted in a small program must be found, and its
mended form must pass in silence. A report of the sanitizer, a failed test and a crash are faults alike: the
exit code is then 1. What a faulty run printed is kept in the folder ``reports`` of the build.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
TREE = ("src", "lstm_ext", "tests", "setup.py", "pyproject.toml")
# What is run: a name, and arguments of Python, with environment variables before them. {seconds} is the
# processor's time for random calls. C_LEVEL is a program of its own.
EVERY = ["tests/support/memcheck.py", "--every"]
RANDOM = ["tests/support/random_calls.py", "--seconds", "{seconds}", "--under", "{kind}"]
EMULATED = ["LSTM_EXT_BFLOAT16=emulated", *RANDOM, "--seed", "1"]
C_LEVEL = ["c_level_threads", "{python}", "4", "4"]
PYTEST = ["-m", "pytest", "-p", "no:cacheprovider"]
# By file, so that one that crashes ends no other. Live PyTorch brings an OpenMP of its own; memory and time
# are not a sanitizer's to measure.
TESTS = [
    f"tests/{path.parent.name}/{path.name}" for folder in ("layer", "kernels")
    for path in sorted((ROOT / "tests" / folder).glob("test_*.py"))
    if path.stem not in ("test_fork", "test_lstm_memory", "test_silence", "test_profiling",
                         "test_c_level_examples")]
THREADS = [f"tests/layer/test_{name}.py" for name in ("threads", "owners", "cython_lstm")]
RUNS = {
    "address": {
        "every compiled function": EVERY,
        "random calls": RANDOM,
        "random calls, emulated tiles": EMULATED,
        "threads at the C level": C_LEVEL,
        # A child must not wait for a lock of the sanitizer's own (fork_and_malloc.c): LLVM 18 and later free
        # those of the allocator, but not that of the quarantine.
        "200 forks of each kind": [
            "ASAN_OPTIONS=+quarantine_size_mb=0:thread_local_quarantine_size_kb=0", *PYTEST,
            "tests/layer/test_fork.py"],
    } | {name: [*PYTEST, "-k", "not live and not nothing_is_allocated", name] for name in TESTS},
    "thread": {
        "every compiled function": EVERY,
        "random calls": RANDOM,
        "random calls, emulated tiles": EMULATED,
        "threads at the C level": C_LEVEL,
        # Where an optimizer writes the parameters while others compute, the race is the test's subject.
    } | {name: [*PYTEST, "-k", "not nothing_is_allocated and not last_quiet_call", name] for name in THREADS},
}
REPORTS = re.compile(r"ERROR: AddressSanitizer|WARNING: ThreadSanitizer|runtime error:")
PLANTED = """
#include <stdio.h>
int main(void) {
    int sum = 0;
#pragma omp parallel for num_threads(4) %s
    for (int i = 0; i < 10000; i++) sum += i;
    return printf("%%d\\n", sum) < 0;
}
"""


# The kernels take minutes, and UBSan over AVX-512 many: its files have AddressSanitizer alone, with checks as
# calls. What they instantiate has both in the other kernels.
COMPILER = """#!/bin/bash
case "$*" in
*kernels_avx512*.c*address,undefined*)
    set -- "${{@/address,undefined/address}}" {calls} ;;
esac
exec {ccache} {compiler} "$@"
"""


def library(compiler, name):
    """Return the path of one of the compiler's own libraries."""
    found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    path = Path(found.stdout.strip())
    if not path.is_absolute():  # LLVM's own lie beside its programs
        path = Path(shutil.which(compiler)).resolve().parents[1] / "lib" / name
    if not path.exists():
        raise SystemExit(f"{compiler} has no {name}")
    return str(path.resolve())


def environment(kind, compiler):
    """Return the environment of a process under the sanitizer."""
    common = {"PYTHONMALLOC": "malloc", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    if "clang" in compiler:  # its own OpenMP, and no other version's
        common["LD_LIBRARY_PATH"] = str(Path(library(compiler, "libomp.so")).parent)
    # Sizes that no machine has are refused by the allocator, as they are by a usual one.
    options = "allocator_may_return_null=1:max_allocation_size_mb=3000"
    if kind == "address":
        gcc = "clang" not in compiler
        names = ("libasan.so", "libubsan.so") if gcc else ("libclang_rt.asan-x86_64.so",)
        return common | {
            "LD_PRELOAD": " ".join(library(compiler, name) for name in names),
            "ASAN_OPTIONS": f"detect_leaks=0:{options}",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
    return common | {
        "LD_PRELOAD": library(compiler, "libclang_rt.tsan-x86_64.so"),
        "TSAN_OPTIONS": f"{options}:suppressions={Path(__file__).with_name('tsan_suppressions.txt')}",
        "OMP_TOOL_LIBRARIES": library(compiler, "libarcher.so"),
    }


def check_tool(compiler, variables):
    """Assert that a planted race of OpenMP threads is reported, and its mended form is not."""
    with tempfile.TemporaryDirectory() as folder:
        for clause, expected in (("", True), ("reduction(+ : sum)", False)):
            source, program = Path(folder, "planted.c"), Path(folder, "planted")
            source.write_text(PLANTED % clause)
            flags = ["-g", "-O1", "-fopenmp", "-fsanitize=thread", "-shared-libsan"]
            subprocess.run([compiler, *flags, str(source), "-o", str(program)], check=True)
            done = subprocess.run(
                [str(program)], capture_output=True, text=True, check=False, env=os.environ | variables)
            reported = bool(REPORTS.search(done.stderr))
            print(f"planted race {clause or 'as it is'}: {'reported' if reported else 'silent'}", flush=True)
            if reported is not expected:
                raise SystemExit(f"the tool does not tell a race from none: {done.stderr[-2000:]}")


def build(kind, compiler, tree):
    """Copy the checkout to `tree`, and build there unless these sources have been built there."""
    skip = shutil.ignore_patterns("*.so", "__pycache__", ".hypothesis")
    for name in TREE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=skip, dirs_exist_ok=True)
        else:
            shutil.copy2(source, tree / name)
    flags = "address,undefined" if kind == "address" else "thread"
    (tree / "cc").write_text(COMPILER.format(
        compiler=compiler, ccache="ccache" if shutil.which("ccache") else "",
        calls="-mllvm -asan-instrumentation-with-call-threshold=0" if "clang" in compiler else ""))
    (tree / "cc").chmod(0o755)
    sources = [path for path in sorted((tree / "src").rglob("*")) if path.is_file()] + [tree / "setup.py"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    built = tree / "built"
    if not built.exists() or built.read_text() != digest:
        variables = {"LSTM_EXT_SANITIZE": flags, "LDSHARED": f"{compiler} -shared",
                     "CC": str(tree / "cc")}
        command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        subprocess.run(command, cwd=tree, env=os.environ | variables, check=True)
        built.write_text(digest)
    python = sysconfig.get_config_vars()
    subprocess.run([
        compiler, "-g", "-O1", "-fno-omit-frame-pointer", "-Wall", "-fopenmp", f"-fsanitize={flags}",
        "-shared-libsan", f"-I{tree}/lstm_ext/include", f"-I{sysconfig.get_path('include')}",
        "tests/support/c_level_threads.c", "-o", C_LEVEL[0], f"-L{python['LIBDIR']}",
        f"-Wl,-rpath,{python['LIBDIR']}", f"-lpython{python['LDVERSION']}"], cwd=tree, check=True)


def check_c_level(tree, variables):
    """Assert that threads which share one workspace, against the contract, are reported."""
    command = [str(tree / C_LEVEL[0]), sys.executable, "4", "4", "planted"]
    variables = variables | {"TSAN_OPTIONS": variables["TSAN_OPTIONS"] + ":halt_on_error=1"}
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, errors="replace", check=False,
                          env=os.environ | variables | {"PYTHONPATH": str(tree)})
    reported = bool(re.search("WARNING: ThreadSanitizer: data race", done.stderr))
    print(f"a workspace shared by threads: {'reported' if reported else 'silent'}", flush=True)
    if not reported:
        raise SystemExit(f"the tool does not see a race of this package: {done.stdout}{done.stderr[-2000:]}")


def run(kind, name, arguments, tree, variables, seconds):
    """Run one job under the sanitizer; return what the report says of it."""
    arguments = [argument.format(seconds=seconds, kind=kind, python=sys.executable) for argument in arguments]
    while re.match("[A-Z_0-9]+=", arguments[0]):
        variable, value = arguments.pop(0).split("=", 1)
        if value.startswith("+"):
            value = f"{variables[variable]}:{value[1:]}"
        variables = variables | {variable: value}
    command = [sys.executable, "-X", "faulthandler"]
    if arguments[0] == C_LEVEL[0]:
        command = [str(tree / arguments.pop(0))]
    # In files: a test's output is captured, and so is that of the processes that it starts.
    folder = tree / "reports" / re.sub(r"\W+", "-", name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for variable in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
        if variable in variables:
            variables = variables | {variable: f"{variables[variable]}:log_path={folder}/{variable}"}
    begun = time.monotonic()
    done = subprocess.run(
        [*command, *arguments], cwd=tree, capture_output=True, text=True, errors="replace",
        env=os.environ | variables | {"PYTHONPATH": str(tree)}, check=False,
    )
    said = done.stdout + done.stderr + "".join(path.read_text(errors="replace") for path in folder.iterdir())
    reports = len(REPORTS.findall(said))
    ends = (" passed", " rounds", "done")
    last = [line for line in done.stdout.splitlines() if any(word in line for word in ends)]
    record = {
        "kind": "sanitizer", "sanitizer": kind, "job": name, "reports": reports, "exit": done.returncode,
        "said": last[-1] if last else "", "seconds": round(time.monotonic() - begun),
    }
    print(time.strftime("%H:%M"), json.dumps(record), flush=True)
    if reports or done.returncode:
        print(*sorted(set(re.findall(r"^ +#[0-4] .*lstm_ext.*|^SUMMARY.*", said, re.MULTILINE))), sep="\n")
        print(said[-6000:], flush=True)
        (folder / "said.log").write_text(said)
    return record


def main():
    """Build, and run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=RUNS)
    parser.add_argument("jobs", nargs="*", help="some of the runs, by their names; all without")
    parser.add_argument("--compiler", help="clang if none is named; gcc's UBSan takes minutes over AVX-512")
    parser.add_argument("--tree", help="where the build is kept")
    parser.add_argument("--seconds", type=int, default=60, help="for random calls")
    parser.add_argument("--report", help="a file to which a line of JSON is added for each run")
    options = parser.parse_args()
    compiler = options.compiler or "clang"
    variables = environment(options.kind, compiler)
    if options.kind == "thread":
        check_tool(compiler, variables)
    tree = Path(options.tree or tempfile.mkdtemp(prefix="sanitize"))
    build(options.kind, compiler, tree)
    if options.kind == "thread":
        check_c_level(tree, variables)
    bad = 0
    for name, arguments in RUNS[options.kind].items():
        if options.jobs and name not in options.jobs:
            continue
        record = run(options.kind, name, arguments, tree, variables, options.seconds)
        bad += bool(record["reports"] or record["exit"])
        if options.report:
            with open(options.report, "a") as file:
                print(json.dumps(record), file=file)
    if not options.tree:
        shutil.rmtree(tree)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
