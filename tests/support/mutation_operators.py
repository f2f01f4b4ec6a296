"""Mistakes that operators make of any source: C, Cython or Python. ``mutations.py`` builds and tests them.

    python tests/support/mutation_operators.py src/kernels/cell.h      prints every mutant of a file

Each mutant changes one place: an arithmetic operator, a comparison, a condition, a constant, the sign of a
fused product, or a statement that is left out. Comments, docstrings, text, declarations, imports and messages
of errors stay as they are. Some mutants mean the same as the original: a survivor is to be read by a person.
"""

import re
import sys
from pathlib import Path

OPERATORS = [
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r"(?<![*(,]) \* ", " + "),
    (r" \+= ", " -= "),
    (r" < ", " <= "),
    (r" <= ", " < "),
    (r" > ", " >= "),
    (r" >= ", " > "),
    (r" == ", " != "),
    (r" != ", " == "),
    (r" and ", " or "),
    (r" or ", " and "),
    (r" && ", " || "),
    (r" \|\| ", " && "),
    (r"\bnot (?!in\b)", ""),
    (r"\bTrue\b", "False"),
    (r"\bFalse\b", "True"),
    (r"\bFMA\(", "FNMA("),
    (r"\bFNMA\(", "FMA("),
    (r"\bADD\(", "SUB("),
    (r"\bSUB\(", "ADD("),
    (r"\bMUL\(", "ADD("),
    (r"\bMIN\(", "MAX("),
    (r"\bMAX\(", "MIN("),
    (r"(?<![\w.])0(?![\w.])", "1"),
    (r"(?<![\w.])1(?![\w.])", "2"),
    (r"(?<![\w.])2(?![\w.])", "3"),
]
STATEMENT = re.compile(
    r"\s+(?!return|raise|break|continue|pass\b)[\w.\[\]*>()-]+(\(.*\)|\s*[-+*/]?= .*[^,(\[{\\]);?$"
)
IGNORED = re.compile(
    r"\s*(#|//|\*|@|import |from |cimport |c?def |cpdef |class |ctypedef |cdef |raise |warnings\.|assert |"
    r"extern|typedef|static |INLINE|\"|'|f\"|f'|return \")"
)


def code_lines(text, name):
    """Yield (index, line without a comment behind it) of the lines that are code."""
    block = None  # what ends the comment or docstring that we are in
    depth = 0  # of the brackets of an error that is raised
    for index, line in enumerate(text.splitlines()):
        if block:
            block = None if block in line else block
            continue
        if depth > 0 or re.match(r"\s*raise ", line):
            depth += line.count("(") - line.count(")")
            continue
        opened = re.match(r"\s*([rf]?\"\"\"|/\*)", line)
        if opened:
            end = "*/" if opened[1] == "/*" else '"""'
            block = None if end in line[opened.end():] else end
            continue
        code = re.sub(r"\s+(//|/\*|# ).*$", "", line)
        if code.strip() and not IGNORED.match(code):
            yield index, code


def mutants(text, name):
    """Yield (line, what was done, new text) of every mutant of the source `name`."""
    lines = text.splitlines(keepends=True)
    of_python = not name.endswith((".c", ".h"))
    for index, code in code_lines(text, name):
        outside = re.sub(r"\"[^\"]*\"|'[^']*'", lambda found: "_" * len(found[0]), code)
        changes = [
            (f"{found[0].strip()} -> {new.strip()}", code[: found.start()] + new + code[found.end():])
            for old, new in OPERATORS
            for found in re.finditer(old, outside)
        ]
        if STATEMENT.match(code) and outside.count("(") == outside.count(")") and not code.endswith("{"):
            indent = re.match(r"\s*", code)[0]
            changes.append(("left out", indent + ("pass" if of_python else ";")))
        for what, new in changes:
            rest = lines[index][len(code):]
            yield index + 1, what, "".join([*lines[:index], new + rest, *lines[index + 1 :]])


if __name__ == "__main__":
    for path in sys.argv[1:]:
        for line, what, new in mutants(Path(path).read_text(encoding="utf-8"), path):
            print(f"{path}:{line} {what}: {new.splitlines()[line - 1].strip()}")
