"""Lines and branches that tests reach: of Python by coverage.py, of the compiled core by gcov.

    python tests/support/measure_coverage.py [--report FILE] [TESTS ...]

It builds with LSTM_EXT_COVERAGE in a copy of the checkout, runs TESTS (``tests/layer`` and
``tests/kernels`` without) there, and prints both shares. Needs coverage and gcovr. Of the kernels only the
one that this CPU runs is executed, and of Cython's output most branches are those of its error paths, so
lines are counted there, mapped to the .pyx by name.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TREE = ("src", "lstm_ext", "tests", "setup.py", "pyproject.toml")


def percent(part, whole):
    """Return a share as text, with what it is a share of."""
    return f"{100 * part / whole:.1f} % of {whole:,}" if whole else "-"


def python_coverage(tree, tests):
    """Run the tests; return covered and all lines, covered and all branches of Python."""
    variables = os.environ | {"PYTHONPATH": str(tree), "COVERAGE_FILE": str(tree / ".coverage")}
    command = [sys.executable, "-m", "coverage", "run", "-m", "pytest", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=tree, env=variables, check=False)
    if done.returncode:
        raise SystemExit("the tests fail: coverage of a failing suite says nothing")
    command = [sys.executable, "-m", "coverage", "json", "-q", "-o", "python.json"]
    subprocess.run(command, cwd=tree, env=variables, check=True)
    totals = json.loads((tree / "python.json").read_text())["totals"]
    names = ("covered_lines", "num_statements", "covered_branches", "num_branches")
    return tuple(totals[name] for name in names)


def compiled_coverage(tree, sources):
    """Return the same of the compiled files whose paths match `sources`, a regular expression."""
    command = [sys.executable, "-m", "gcovr", "--json-summary", "compiled.json", "--filter", sources,
               "--gcov-ignore-errors=all", "--gcov-ignore-parse-errors=all", "-q", "."]
    subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    found = json.loads((tree / "compiled.json").read_text())
    for file in found["files"]:
        print(f"{file['filename']:44} {percent(file['line_covered'], file['line_total']):>20} lines"
              f" {percent(file['branch_covered'], file['branch_total']):>20} branches")
    return found["line_covered"], found["line_total"], found["branch_covered"], found["branch_total"]


def main():
    """Build, run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tests", nargs="*", default=["tests/layer", "tests/kernels"])
    parser.add_argument("--report", help="a file to which two lines of JSON are added")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in TREE:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
            else:
                shutil.copy2(source, tree / name)
        subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=tree, check=True,
                       env=os.environ | {"LSTM_EXT_COVERAGE": "1"})
        found = {
            f"Python, by {' '.join(options.tests)}": python_coverage(tree, options.tests),
            "kernels in C": compiled_coverage(tree, "src/kernels/.*"),
        }
    for what, (lines, all_lines, branches, all_branches) in found.items():
        record = {"kind": "coverage", "what": what, "lines": percent(lines, all_lines),
                  "branches": percent(branches, all_branches)}
        print(json.dumps(record))
        if options.report:
            with open(options.report, "a") as file:
                print(json.dumps(record), file=file)


if __name__ == "__main__":
    main()
