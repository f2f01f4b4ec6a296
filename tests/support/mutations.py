"""Does the suite see a mistake? Each mutation is put into a copy of the sources; a test must fail.

    python tests/support/mutations.py              all named mistakes (each is a rebuild: this takes a while)
    python tests/support/mutations.py NAME ...     those whose names begin so
    python tests/support/mutations.py --list       their names, and where each is now
    python tests/support/mutations.py --operators src/kernels/cell.h src/_driver.pyx --sample 20 --seed 1
                                                   mistakes that operators make of files, drawn at random

A named mistake is a text and its replacement. It is looked for in all sources, whatever the blanks between
its words, so code may move to another file, be indented anew or be wrapped. A name whose text is nowhere, or
in two places, is told by ``--list``, and is an error of a run that asks for it. ``mutation_operators.py``
needs no list: it changes operators, constants, conditions and statements of any source.

Each runs on the baseline kernel, or on BLAS where it says so: cell, products and loops are one source for
all kernels. ``--report FILE`` appends one line of JSON for each, which ``reliability.py`` counts.
"""

import argparse
import functools
import itertools
import json
import os
import random
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TREE = ("src", "lstm_ext", "tests", "setup.py", "pyproject.toml")

# Who is asked about a mistake: files of tests, quickest killers first.
GROUPS = {
    "layer": [
        "tests/layer/test_lstm_parity.py",
        "tests/layer/test_stream.py",
        "tests/layer/test_lstm_gradient.py",
        "tests/kernels/test_activations.py",
        "tests/layer/test_lstm_metamorphic.py",
        "tests/layer/test_lstm_inputs.py",
        "tests/layer/test_lstm_object.py",
        "tests/layer/test_threads.py",
    ],
    "options": [
        "tests/layer/test_initializers.py",
        "tests/layer/test_missing.py",
        "tests/layer/test_options.py",
        "tests/layer/test_jacobian.py",
        "tests/layer/test_hessian.py",
        "tests/training/test_model_options.py",
    ],
    "io": [
        "tests/io/test_io_torch.py",
        "tests/io/test_io_keras.py",
        "tests/io/test_io_widths.py",
        "tests/io/test_io_hydrology.py",
        "tests/io/test_io_torch_files.py",
        "tests/io/test_io_onnx.py",
        "tests/io/test_io_onnx_stream.py",
        "tests/io/test_io_control.py",
        "tests/io/test_io_safetensors.py",
        "tests/io/test_io_hostile.py",
    ],
    "c-level": ["tests/layer/test_cython_lstm.py"],
    "arrays": [f"tests/layer/test_{name}.py" for name in ("owners", "lstm_inputs", "fork")],
    "node": ["tests/kernels/test_node.py", "tests/kernels/test_node_layer.py"],
    # LSTM and the C level call it alike: what both show is compared with something else first.
    "stack": [
        "tests/layer/test_lstm_parity.py",
        "tests/layer/test_lstm_gradient.py",
        "tests/layer/test_stream.py",
        "tests/layer/test_cython_lstm.py",
    ],
    "training": [f"tests/training/test_{name}.py" for name in ("optim", "model", "losses")],
    "ranks": ["tests/training/test_rank_agreement.py"],
    "records": ["tests/layer/test_options.py"],
    "precision": ["tests/layer/test_precision.py"],
}
CELL = KERNEL = KERNELS = DRIVER = ENGINE = LAYER = "layer"
OPTIONS = GENERAL = FAMILY = PHILOX = JACOBIAN = MISSING = INITIALIZERS = MODEL = LOSSES = "options"
PACKING = TENSORS = HDF5 = TORCH = KERAS = IO = "io"
C_LEVEL, ARRAYS, STACK = "c-level", "arrays", "stack"
RANKS, RECORDS = "ranks", "records"
BFLOAT16 = TILES = "precision"


@dataclass(frozen=True)
class Mutation:
    """`old`, which stands once in the sources, becomes `new`; the tests of `group` must fail."""

    name: str
    group: str
    old: str
    new: str
    kernel: str = "baseline"
    of_options: bool = False

    @property
    def tests(self):
        """Files of the suite that are asked."""
        group = "options" if self.of_options else self.group
        return [name for name in GROUPS.get(group, GROUPS["layer"]) if (ROOT / name).exists()]

    @functools.cached_property
    def places(self):
        """Where the text is: (file, first character, last character) of each."""
        pattern = pattern_of(self.old)
        return [(name, *found.span()) for name, text in sources().items() for found in pattern.finditer(text)]

    def apply(self):
        """Return the file that changes, and its text with the mistake in it."""
        if len(self.places) != 1:
            raise SystemExit(f"{self.name} fits the sources at {len(self.places)} places; expected 1")
        ((name, begin, end),) = self.places
        text, new = sources()[name], self.new
        if self.old[0].isspace():  # whole lines: those of Python need an indentation
            indent = re.match("[ \t]*", text[begin:])[0]
            new = indent + (new.strip() or ("" if name.endswith((".c", ".h")) else "pass"))
        return name, text[:begin] + new + text[end:]


def pattern_of(text):
    """Compile a pattern of the words of `text`, with any blanks between them.

    A blank in front stands for the beginning of a line, a line's end behind for the end of one.
    """
    words = re.findall(r"\w+|[^\w\s]", text)
    pattern = re.escape(words[0])
    for before, word in itertools.pairwise(words):
        apart = re.match(r"\w", word) and re.match(r"\w", before)
        pattern += (r"\s+" if apart else r"\s*") + re.escape(word)
    if text[0].isspace():
        pattern = r"(?m:^)[ \t]*" + pattern
    if text[-1] == "\n":
        pattern += r"[ \t]*(?m:$)"
    return re.compile(pattern)


@functools.cache
def sources():
    """Text of every source by its path within the checkout."""
    suffixes = (".c", ".h", ".pyx", ".pxd", ".py")
    paths = [path for folder in ("src", "lstm_ext") for path in (ROOT / folder).rglob("*")]
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(paths)
        if path.suffix in suffixes
    }


@functools.cache
def extensions():
    """Sources of every extension by its name, as setup.py has them."""
    import Cython.Build
    import setuptools

    found, kept = {}, (Cython.Build.cythonize, setuptools.setup)
    Cython.Build.cythonize = lambda modules, **_: found.update(
        {m.name.rpartition(".")[2]: m.sources for m in modules})
    setuptools.setup = lambda **_: None
    try:
        runpy.run_path(str(ROOT / "setup.py"))
    finally:
        Cython.Build.cythonize, setuptools.setup = kept
    return found


def compiled_from(name):
    """Return the extensions to build again after a change of file `name`: Python needs none."""
    return sorted(extension for extension, files in extensions().items() if name in reached(*files))


def reached(*names):
    """Return these files and all that they include or cimport."""
    found, left = set(), list(names)
    while left:
        name = left.pop()
        if name in found or name not in sources():
            continue
        found.add(name)
        text = sources()[name]
        modules = re.findall(r"^\s*from lstm_ext\.?(\w*) cimport", text, re.MULTILINE)
        left += [f"lstm_ext/{module}.pxd" for module in modules]
        if name.endswith(".pyx"):
            left.append(f"lstm_ext/{Path(name).stem}.pxd")
        headers = re.findall(r'(?:#include|extern from) "([^"]+)"', text)
        left += [path for path in sources() for header in headers if Path(path).name == Path(header).name]
    return found


MUTATIONS = [
    # products in bfloat16, on emulated tiles
    Mutation("bfloat16-cut-not-rounded", BFLOAT16, "(u + 0x7fffu + ((u >> 16) & 1u))", "u"),
    Mutation("bfloat16-ties-away", BFLOAT16, "(u + 0x7fffu + ((u >> 16) & 1u))", "(u + 0x8000u)"),
    Mutation("bfloat16-rest-forgotten", BFLOAT16, "*a -= part;", "*a -= 0;"),
    Mutation("bfloat16-special-forgotten", BFLOAT16, "if (PIECES > 1 && special)", "if (0)"),
    Mutation(
        "bfloat16-special-of-the-sum", BFLOAT16, "sum == sum ? sum : first[r * 32 + j]", "sum"
    ),
    Mutation(
        "bfloat16x6-without-a1-b1", BFLOAT16, "TILES_4(4, 5, 6, 7); /* a1 b1 */", "/* a1 b1 */"
    ),
    Mutation(
        "bfloat16x6-without-a0-b2", BFLOAT16, "TILES_4(4, 5, 6, 7); /* a0 b2 */", "/* a0 b2 */"
    ),
    Mutation(
        "bfloat16-cell-on-every-piece", BFLOAT16, "if (k + length < H) {", "if (0) {"
    ),
    Mutation("bfloat16-gradient-row-lost", BFLOAT16, "k + 1 < rows ? M - m : 0);", "0);"),
    Mutation("tiles-odd-k-dropped", TILES, "emulated_result(even[n] + odd[n])", "even[n]"),
    # the cell
    Mutation(
        "gates-i-f-swapped", CELL, "FMA(a.f, c_prev, a.i * a.g)", "FMA(a.i, c_prev, a.f * a.g)"
    ),
    Mutation("gates-i-o-swapped", CELL, "*h = a.o * FN(cell_act)", "*h = a.i * FN(cell_act)"),
    Mutation(
        "gates-saved-in-another-order",
        CELL,
        "STOREN(p + stride, v.f, n)",
        "STOREN(p + stride, v.o, n)",
    ),
    Mutation(
        "output-activation-forgotten", CELL, "*h = a.o * FN(cell_act)(act, *c)", "*h = a.o * *c"
    ),
    Mutation("identity-is-tanh", CELL, "    return c;\n", "    return FN(vec_tanh)(c);\n"),
    Mutation(
        "dc-carry-dropped",
        CELL,
        "FN(cell_act_derivative)(act, value), *dc)",
        "FN(cell_act_derivative)(act, value), SET1(0))",
    ),
    Mutation("dc-without-forget-gate", CELL, "*dc = dc_t * a.f;", "*dc = dc_t;"),
    Mutation(
        "dc-without-tanh-derivative",
        CELL,
        "return FNMA(value, value, SET1((REAL)1));",
        "return SET1((REAL)1);",
    ),
    Mutation("sigma-derivative", CELL, "dc_t * c_prev * a.f * (one - a.f)", "dc_t * c_prev * a.f"),
    Mutation(
        "tanh-derivative", CELL, "dc_t * a.i * FNMA(a.g, a.g, one)", "dc_t * a.i * (one - a.g)"
    ),
    Mutation("exp-coefficient", CELL, "0.00133907583433f", "0.0012f"),
    Mutation("exp-coefficient-double", CELL, "4.445536258306299820749e-10", "0.0"),
    Mutation(
        "sigmoid-hides-nan",
        CELL,
        "MIN(limit, MAX(-limit, x))",
        "MIN(MAX(x, -limit), limit)",
    ),
    # the products
    Mutation(
        "bias-dropped",
        KERNEL,
        "a, lda, panels + K * j, bias + j, 0, pre",
        "a, lda, panels + K * j, NULL, 0, pre",
    ),
    Mutation(
        "last-feature-dropped",
        KERNEL,
        "for (ptrdiff_t k = 0; k < depth; k++, panel += nv * LANES)",
        "for (ptrdiff_t k = 0; k < depth - 1; k++, panel += nv * LANES)",
    ),
    Mutation(
        "unit-tail-dropped",
        KERNEL,
        "if (u < (H)) UNITS((H) - u);",
        "if (u + 1 < (H)) UNITS((H) - u - 1);",
    ),
    Mutation(
        "blas-bias-dropped",
        KERNELS,
        "memcpy(pre + r * 4 * H, bias, 4 * H * sizeof(floating))",
        "memcpy(pre + r * 4 * H, bias, 0)",
        "blas",
    ),
    Mutation(
        "blas-gradient-overwrites",
        KERNELS,
        "xh, cols, <floating>1, dweight, cols)",
        "xh, cols, <floating>0, dweight, cols)",
        "blas",
    ),
    # the loops
    Mutation(
        "reverse-from-T-not-from-length",
        DRIVER,
        "s = seqs.lengths[position] - 1 - s",
        "s = seqs.time - 1 - s",
    ),
    Mutation(
        "length-off-by-one", DRIVER, "lengths[n - 1] <= s:", "lengths[n - 1] - 1 <= s:"
    ),
    Mutation(
        "h_0-forgotten",
        DRIVER,
        "load_states(&block, 0, n, part.h_0, part.c_0, h, c)",
        "load_states(&block, 0, n, NULL, part.c_0, h, c)",
    ),
    Mutation(
        "c_0-forgotten",
        DRIVER,
        "load_states(&block, 0, n, part.h_0, part.c_0, h, c)",
        "load_states(&block, 0, n, part.h_0, NULL, h, c)",
    ),
    Mutation(
        "h-carry-forgotten", DRIVER, "h, h_next = h_next, h", "h, h_next = h, h_next",
    ),
    Mutation("c-carry-forgotten", DRIVER, "            c_prev = c_t\n", ""),
    Mutation(
        "y-padding-not-cleared",
        DRIVER,
        "            clear_padding(&block, P, <floating*>part.y, part.sy)\n",
        "",
    ),
    Mutation(
        "dx-padding-not-cleared",
        DRIVER,
        "            clear_padding(&block, run.layer.input_size, <floating*>part.dx, part.sdx)\n",
        "        pass\n",
    ),
    Mutation(
        "chunk-boundary", DRIVER, "            elif s == start:\n", "            elif s == start + 1:\n"
    ),
    Mutation(
        "dh_n-forgotten",
        DRIVER,
        "load_states(block, alive, entered, part.dh_n, part.dc_n, dh, dc)",
        "load_states(block, alive, entered, NULL, part.dc_n, dh, dc)",
    ),
    Mutation(
        "dc_n-forgotten",
        DRIVER,
        "load_states(block, alive, entered, part.dh_n, part.dc_n, dh, dc)",
        "load_states(block, alive, entered, part.dh_n, NULL, dh, dc)",
    ),
    Mutation(
        "dh_0-of-empty-sequences",
        DRIVER,
        "load_states(&block, alive_at(&block, 0), n, part.dh_n, part.dc_n, dh, dc)",
        "load_states(&block, alive_at(&block, 0), n, NULL, part.dc_n, dh, dc)",
    ),
    Mutation(
        "h_prev-of-later-rows", DRIVER, "later = alive if s < stop - 1 else 0", "later = 0"
    ),
    Mutation("second-piece-forgotten", KERNEL, "init = c, ldi = ldc) {", "ldi = ldc) {"),
    Mutation("step-from-the-first-piece", KERNEL, "panel + before * nv * LANES;", "panel;"),
    Mutation(
        "bias-gradient-misplaced",
        DRIVER,
        "column_sums(L, chunk, <const floating*>dgates, partial + L.partial[DEFAULT].at[BIAS])",
        "column_sums(L, chunk, <const floating*>dgates, partial)",
    ),
    Mutation(
        "checkpoint-from-the-first",
        DRIVER,
        "memcpy(block.h[p], <floating*>part.starts_h + start * P,",
        "memcpy(block.h[p], <floating*>part.starts_h,",
    ),
    Mutation(
        "partials-shared",
        DRIVER,
        "b = group, size = run.layer.partial[run.driver].size",
        "b = group, size = 0",
    ),
    # the engine
    Mutation(
        "stale-packed-weights",
        ENGINE,
        "memcmp(self.source.data, parameters, self.nbytes) == 0",
        "memcmp(self.source.data, parameters, 1) == 0",
    ),
    Mutation(
        "sorted-the-other-way", DRIVER, "lengths[m] > lengths[n] or", "lengths[m] < lengths[n] or"
    ),
    Mutation(
        "lengths-unchecked", ARRAYS, "(array < 0) | (array > T)", "(array < 0) | (array > T + 1)"
    ),
    Mutation("owner-never-busy", ARRAYS, "if self.busy and self.generation == forks:", "if False:"),
    Mutation("owner-busy-for-ever", ARRAYS, "        self.busy = False\n", "        pass\n"),
    Mutation("forks-uncounted", ARRAYS, "    forks += 1\n", "    forks += 0\n"),
    Mutation("cache-of-what-others-write", ENGINE, "self.source.data, self.memory)",
             "parameters, self.memory)"),
    Mutation(
        "second-direction-overwrites-dx",
        STACK,
        "run.add_dx = k != D - 1",
        "run.add_dx = False",
    ),
    Mutation("dy-of-the-first-direction", STACK, "beyond(stack, dy, k * stack.out_size)", "dy"),
    Mutation("one-piece-of-tape-for-all", STACK, "to.inner + i * to.direction)", "to.inner)"),
    Mutation("outputs-handed-on-in-one-place", STACK, "p * to.part + l * to.inner", "p * to.part"),
    Mutation(
        "weights-of-the-second-layer", STACK, "plus(times(directions, first), times(i - directions, other))",
        "directions * first",
    ),
    Mutation("c-start-is-h-start", STACK, "beyond(stack, record, to.starts_c)", "part.starts_h"),
    Mutation("rows-not-computed-again", STACK, "run.again = stack.checkpoint > 0", "run.again = False"),
    Mutation("checkpoint-forgotten", STACK, "span = min(span, stack.checkpoint)", "pass"),
    Mutation(
        "work-without-room-for-gradients", STACK, "times(partial, seqs.n_groups) if call.backward", "0 if n"
    ),
    Mutation("step-over-its-own-input", STACK, "h_t = work if h == h_prev else h", "h_t = h"),
    Mutation("step-of-the-first-layer", STACK, "packed_before(stack, driver, whole, l)", "0"),
    Mutation(
        "dropout-forgotten-backward", STACK, "range(run.parts if k == 0 and l > 0 else 0)", "range(0)",
        of_options=True,
    ),
    Mutation(
        "dropout-of-another-layer", STACK, "drop(stack, call, &run, l - 1,", "drop(stack, call, &run, l,",
        of_options=True,
    ),
    Mutation(
        "one-stream-of-masks", STACK, "run.stream = <uint32_t>i\n", "run.stream = 0\n", of_options=True
    ),
    Mutation(
        "gates-of-the-last-direction", STACK, "beyond(stack, call.run.gates[q], c * call.seqs.time)",
        "call.run.gates[q]", of_options=True,
    ),
    Mutation(
        "tangents-in-the-place-of-numbers", STACK, "(l % 2 * call.run.parts + p)", "(l % 2 * call.run.parts)",
        of_options=True,
    ),
    Mutation(
        "peepholes-on-the-default-driver", LAYER, "activations, not takes_default_driver(options))",
        "activations, False)", of_options=True,
    ),
    Mutation("stream-forgets-h", ENGINE, "            self.h, self.h_next = self.h_next, swap\n", ""),
    # the layer
    Mutation(
        "forget-bias-on-input-gate",
        INITIALIZERS,
        'view[H : 2 * H] = wanted["forget_bias"]',
        'view[:H] = wanted["forget_bias"]',
    ),
    Mutation("tape-of-another-lstm", LAYER, "if tape._lstm_passes is not self._passes:", "if False:"),
    Mutation(
        "bind-forgets-the-values",
        LAYER,
        "parameters[...], gradient[...] = values, slopes",
        "gradient[...] = slopes",
    ),
    # options and derivatives
    Mutation(
        "peepholes-i-f-swapped",
        OPTIONS,
        "pre[1] = ADD(pre[1], MUL(GN(load)(row->peephole, H + u, n), a.c_prev));",
        "pre[1] = ADD(pre[1], MUL(GN(load)(row->peephole, u, n), a.c_prev));",
    ),
    Mutation(
        "output-peephole-on-c_prev",
        OPTIONS,
        "MUL(GN(load)(row->peephole, 2 * H + u, n), a.k)",
        "MUL(GN(load)(row->peephole, 2 * H + u, n), a.c_prev)",
    ),
    Mutation(
        "coupled-gate-is-i",
        OPTIONS,
        "a.f = SUB(CONSTANT(1), a.i);",
        "a.f = a.i;",
    ),
    Mutation(
        "coupled-gate-gradient",
        OPTIONS,
        "MUL(MUL(dc, SUB(a.g, a.c_prev)), a.slope_i)",
        "MUL(MUL(dc, a.g), a.slope_i)",
    ),
    Mutation(
        "cell-clip-gradient-passes",
        OPTIONS,
        "if (cell->cell_clipped) dc = GN(select)(a.clipped, CONSTANT(0), dc);",
        "",
    ),
    Mutation(
        "gate-clip-gradient-passes",
        OPTIONS,
        "if (slope) *slope = GN(select)(outside, CONSTANT(0), *slope);",
        "",
    ),
    Mutation(
        "peephole-gradient-of-o-lost",
        OPTIONS,
        "GN(accumulate)(dpeephole, 2 * H + u, n, MUL(d[3], a.k));",
        "",
    ),
    Mutation(
        "peephole-carry-lost",
        OPTIONS,
        "dc_prev = ADD(dc_prev, MUL(d[0], GN(load)(row.peephole, u, n)));",
        "",
    ),
    Mutation(
        "zoneout-of-h-gradient",
        OPTIONS,
        "dm = GN(zone_passed)(dm, z);",
        "",
    ),
    Mutation(
        "zoneout-of-c-gradient",
        OPTIONS,
        "dc = GN(zone_passed)(dc, z);",
        "",
    ),
    Mutation(
        "zoneout-mixes-where-it-selects",
        OPTIONS,
        "return GN(select)((IVEC)(z == SET1((REAL)1)), one,",
        "return GN(select)((IVEC)(z == SET1((REAL)9)), one,",
    ),
    Mutation(
        "product-rule",
        OPTIONS,
        "return (NUM){a.v * b.v, FMA(a.v, b.t, a.t * b.v)};",
        "return (NUM){a.v * b.v, a.t * b.v};",
    ),
    Mutation(
        "tangent-of-exp",
        OPTIONS,
        "return GN(chain)(e, e, x);",
        "return GN(chain)(e, SET1((REAL)1), x);",
    ),
    Mutation(
        "norm-variance-tangent",
        OPTIONS,
        "SET1((REAL)-0.5) / (root * root * root)",
        "SET1((REAL)0.5) / (root * root * root)",
    ),
    Mutation(
        "static-input-gate-ignored",
        OPTIONS,
        "if (q == 0 && cell->static_input_gate && row->bias.v) pre[q] = CONSTANT(0);",
        "",
    ),
    Mutation(
        "recurrent-dropout-mask-of-another-sequence",
        GENERAL,
        "RECURRENT_DROPOUT, run.stream, run.seqs.order[block.first + n], 0,",
        "RECURRENT_DROPOUT, run.stream, n, 0,",
    ),
    Mutation(
        "recurrent-dropout-forgotten-backward",
        GENERAL,
        "                times_mask(run, alive, <const floating*>(work + w.mask), dh[p])\n",
        "",
    ),
    Mutation(
        "zoneout-h-carry-lost",
        GENERAL,
        "add_row(alive * H, <const floating*>(work + w.dh_prev[p]), dh[p])",
        "pass",
    ),
    Mutation(
        "tangent-of-weights-lost",
        GENERAL,
        "add_row(rows * cols, <const floating*>term, c[1])",
        "pass",
    ),
    Mutation(
        "one-row-in-another-order",
        KERNEL,
        "if (rows == 1 && hints.ordered) {",
        "if (0) {",
        of_options=True,
    ),
    Mutation(
        "philox-nine-rounds",
        PHILOX,
        "round < 10",
        "round < 9",
    ),
    Mutation(
        "static-gradient-lost",
        FAMILY,
        "                view += rows[k][:, : len(view)].T @ static_dot\n",
        "                pass\n",
    ),
    Mutation(
        "learned-state-gradient-lost",
        FAMILY,
        "self.view(gradient, word + suffix)[...] += row if d.ndim == 2 else row.sum(axis=0)",
        "pass",
    ),
    Mutation(
        "weight-mask-forgotten-backward",
        FAMILY,
        "            gradient *= record.mask\n",
        "            pass\n",
    ),
    Mutation(
        "jacobian-not-causal-enough",
        JACOBIAN,
        "steps = int(step[-1]) + 1 if shorter",
        "steps = int(step[0]) + 1 if shorter",
    ),
    Mutation(
        "jacobian-seed-where-nothing-counts",
        JACOBIAN,
        "dh[np.arange(K), :, -1, unit] = self.counted[:, step].T",
        "dh[np.arange(K), :, -1, unit] = 1",
    ),
    Mutation(
        "ranks-options-not-compared",
        RANKS,
        "settings = dict(options)",
        "settings = {}",
    ),
    Mutation(
        "ranks-data-not-compared",
        RANKS,
        "settings |= {prefix + name: text for",
        "text = {prefix + name: text for",
    ),
    Mutation(
        "ranks-first-meeting-without-an-error-of-before",
        RANKS,
        "self.settle(None)  # a rank that has failed before",
        "# a rank that has failed before",
    ),
    Mutation(
        "ranks-mean-of-a-decision",
        RANKS,
        "return bool(answers.any())",
        "return bool(answers[self.rank])",
    ),
    Mutation(
        "record-with-another-default",
        RECORDS,
        'Option("zoneout", (0.0, 0.0)',
        'Option("zoneout", (0.0, 0.1)',
    ),
    Mutation(
        "record-of-another-driver",
        RECORDS,
        '"reverse", False, as_flag, "sequences are read from their end", **_ALWAYS',
        '"reverse", False, as_flag, "sequences are read from their end"',
    ),
    Mutation(
        "held-gradient-not-carried",
        MISSING,
        "carried = np.where(here, 0, carried)",
        "carried = np.zeros_like(carried)",
    ),
    Mutation(
        "hvp-without-the-readout's-direction",
        MODEL,
        "d_dot @ self.weight + d @ v_weight",
        "d_dot @ self.weight",
    ),
    Mutation(
        "cross-entropy-tangent",
        LOSSES,
        "(prediction_dot - (share * prediction_dot).sum(axis=-1, keepdims=True))",
        "prediction_dot",
    ),
    Mutation(
        "orthogonal-without-signs",
        INITIALIZERS,
        "q = q * np.sign(np.diag(r))",
        "q = q * 1",
    ),
    Mutation(
        "chrono-signs",
        INITIALIZERS,
        "return -forget, forget",
        "return forget, forget",
    ),
    # files and foreign weights
    Mutation("torch-second-bias-dropped", TORCH, "np.where(second == 0, array, array + second)", "array"),
    Mutation(
        "torch-gates-reversed", TORCH, "            parameters[name] = array\n",
        "            parameters[name] = array[::-1]\n",
    ),
    Mutation(
        "torch-gates-i-o-swapped", TORCH, "            parameters[name] = array\n",
        "            parameters[name] = np.concatenate([np.split(array, 4)[k] for k in (3, 1, 2, 0)])"
        " if 'hh' in name else array\n",
    ),
    Mutation("torch-weight-norm-over-everything", TORCH, "if not g.ndim or g.shape[k] == 1", "if True"),
    Mutation("torch-bfloat16-as-integers", TORCH, "(array.astype(np.uint32) << 16).view(np.float32)",
             "array.astype(np.float32)"),
    Mutation("torch-strides-ignored", TORCH, "[stride * dtype.itemsize for stride in tensor.strides]",
             "np.empty(tensor.shape, dtype).strides"),
    Mutation("torch-storage-longer-than-it-is", TORCH, "count and last >= tensor.count", "False"),
    Mutation("torch-instructions-without-end", TORCH, "steps > MAX_INSTRUCTIONS", "False"),
    Mutation("torch-depth-without-end", TORCH, "self._visits > MAX_VISITS or depth > MAX_DEPTH", "False"),
    Mutation("widths-units-between-others", IO, "pads[axis + 1] = (0, most - width)",
             "pads[axis + 1] = (most - width, 0)"),
    Mutation("widths-of-any-activation", IO, "name not in _ZERO_AT_ZERO and not", "False and not"),
    Mutation("hydrology-gates-as-they-are", IO, "rows[k : k + H] for k in (f, g, o)",
             "rows[k : k + H] for k in (f, o, g)"),
    Mutation("hydrology-attributes-as-listed", IO, "static = sorted([", "static = list(["),
    Mutation("hydrology-state-handed-on-too-late", IO, "lengths[following] // int(factor)", "1"),
    Mutation("onnx-last-step-is-a-state", IO,
             'graph.layers[k].backward(d) == (value.what == "first step") for k, d in value.rows', "True"),
    Mutation("onnx-rows-as-they-come", IO, "own[value.rows.index(row)] if row in value.rows",
             "own[0] if own"),
    Mutation("onnx-mean-of-everything", IO, 'if value.axes[axis] != "T":', "if False:"),
    Mutation("onnx-stream-without-c", IO, '(2, "c_n", H)):\n        parts', '(1, "c_n", H)):\n        parts'),
    Mutation("hdf5-heaps-not-looked-at", HDF5, "or (not index and position + count != end)", ""),
    Mutation("keras-functional-in-the-order-of-the-file", KERAS, "return layers, order[::-1]",
             "return layers, list(range(len(layers)))"),
    Mutation("keras-cell-turned-round-twice", KERAS, 'own["go_backwards"] = False', "pass"),
    Mutation("control-cell-slope-forgotten", IO, "d_o * cell(k) + o * cell_slope(k) * dk", "d_o * cell(k)"),
    Mutation("control-gelu-slope", IO, "exp${f}(-0.5${f} * x * x) * ${normal}", "0.0${f} * ${normal}"),
    Mutation("control-derivative-of-the-state-after", IO, "${name}_state state = own->before, dstate",
             "${name}_state state = own->state, dstate"),
    Mutation(
        "torch-what-is-left-over-ignored", TORCH, "if not _PARAMETER.fullmatch(name):\n            raise",
        "if False:\n            raise",
    ),
    Mutation(
        "keras-gates-i-f-swapped", KERAS, "as_weights(name, array[()], array.shape).T",
        "as_weights(name, array[()], array.shape).T[np.r_[len(array.T) // 4 : len(array.T) // 2, "
        "0 : len(array.T) // 4, len(array.T) // 2 : len(array.T)]]",
    ),
    Mutation("keras-directions-swapped", KERAS, 'zip(("", "_reverse"), layer.directions, strict=False)',
             'zip(("", "_reverse")[: len(layer.directions)], layer.directions[::-1], strict=True)'),
    Mutation("keras-hard-sigmoid-of-keras-2", KERAS, '_SIGMOID = ("hard_sigmoid", 1 / 6,',
             '_SIGMOID = ("hard_sigmoid", 0.2,'),
    Mutation("keras-dropout-in-silence", KERAS, "        if key in _REFUSED:", "        if False:"),
    Mutation("keras-candidate-as-the-gates", KERAS, "(((gates, inner, inner)", "(((gates, gates, inner)"),
    Mutation("hdf5-links-followed", HDF5, "type(link) is not self.h5py.HardLink", "False"),
    Mutation("hdf5-storage-not-looked-at", HDF5, "data.id.get_storage_size() != nbytes or ", ""),
    Mutation("hdf5-bytes-not-counted", HDF5, "or self.left < 0", ""),
    Mutation("zip-bomb-read", HDF5, "in archive.infolist(): if info.compress_type != zipfile.ZIP_STORED or",
             "in archive.infolist():\n            if"),
    Mutation("torch-bomb-read", TORCH, "shorten(name)}\") if info.compress_type != zipfile.ZIP_STORED or",
             "shorten(name)}\")\n        if"),
    Mutation("torch-pickle-let-through", TORCH, "raise FormatError(_PICKLE)", "pass"),
    Mutation("safetensors-file-of-any-length", TENSORS, "size != self._start + end", "False"),
    Mutation("safetensors-header-of-any-length", TENSORS, "not 2 <= length <= MAX_TEXT", "False"),
    Mutation("safetensors-nan-read", TENSORS, "        if finite and", "        if False and"),
    Mutation("safetensors-shapes-ignored", TENSORS, "found != (np.dtype(dtype), tuple(shape))", "False"),
    Mutation("json-key-twice", IO, "len(found) != len(pairs)", "False"),
    Mutation("file-sizes-not-compared", PACKING, "count > self.total", "False"),
    Mutation("file-hides-methods", PACKING, "or hasattr(cls, name)", ""),
    Mutation("file-forgets-the-optimisers-steps", PACKING, '"t": steps, **{', '"t": min(steps, 1), **{'),
    # the C-level functions
    Mutation(
        "c-level-backward-in-the-room-of-forward",
        C_LEVEL,
        "size(<const network_t*>network, batch, time, True, True, 1, False)",
        "size(<const network_t*>network, batch, time, False, True, 1, False)",
    ),
    Mutation(
        "c-level-lengths-unchecked",
        C_LEVEL,
        "LSTM_WRONG_LENGTHS if wrong_lengths(batch, time, lengths) else LSTM_OK",
        "LSTM_OK",
    ),
    Mutation(
        "c-level-tangent-of-parameters-dropped",
        C_LEVEL,
        "        dot.packed = packed\n",
        "        pass\n",
    ),
]

# Builds the named extensions in place, quickly: little optimisation, the baseline kernel alone.
BUILD = """
import runpy
import sys
import Cython.Build
names = sys.argv[1:]
cythonize = Cython.Build.cythonize
def some(extensions, **options):
    extensions = [e for e in extensions if e.name.rpartition(".")[2] in names]
    for e in extensions:
        e.sources = [s for s in e.sources if "kernels_a" not in s]
        e.extra_compile_args = [a.replace("-O3", "-O1") for a in e.extra_compile_args]
    return cythonize(extensions, **options)
Cython.Build.cythonize = some
sys.argv[1:] = ["build_ext", "--inplace", "--force"]
runpy.run_path("setup.py", run_name="__main__")
"""


class BuildError(Exception):
    """The sources do not compile."""


def build(tree, *names):
    """Build these extensions within `tree`."""
    command = [sys.executable, "-c", BUILD, *names]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"the build failed:\n{done.stderr[-3000:]}")


def run_suite(tree, kernel, tests):
    """Exit code of the tests, None after 15 minutes, and the line that names the first failure."""
    options = ["-x", "-p", "no:cacheprovider", "-k", "not live"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=tree,
            env=os.environ | {"LSTM_EXT_KERNEL": kernel, "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, "timed out"
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    said = failed[0] if failed else (done.stdout + done.stderr).strip()[-300:]
    return done.returncode, said


def copy_tree(to):
    """Copy what is built and tested to the directory `to`."""
    skip = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", ".hypothesis")
    for name in TREE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=skip)
        else:
            shutil.copy2(source, to / name)
    # With the other kernels left out of the build, the choice among them has to be told.
    for name, text in sources().items():
        if name.endswith(("/dispatch.c", "/kernels.h")):
            assert "defined(__x86_64__)" in text
            (to / name).write_text(text.replace("defined(__x86_64__)", "0").replace("defined(_M_X64)", "0"))


def group_of(name):
    """Return who is asked about the source `name`, when an operator changes it."""
    if name.startswith("lstm_ext/io/"):
        return "io"
    for words, group in (
        (("general", "family", "philox", "jacobian", "missing", "initializers"), "options"),
        (("cython_lstm",), "c-level"), (("arrays", "sizes"), "arrays"), (("node",), "node"),
        (("optim", "model", "losses", "training", "schedules"), "training"),
    ):
        if any(word in name for word in words):
            return group
    return "layer"


def choose(options):
    """Return (name, group or tests, kernel, file, its new text) of every mutation that was asked for."""
    if options.operators:
        import mutation_operators

        drawn = [
            (f"{name}:{line} {what}", name, text)
            for name in options.operators
            for line, what, text in mutation_operators.mutants(sources()[name], name)
        ]
        random.Random(options.seed).shuffle(drawn)
        for name, file, text in drawn[: options.sample]:
            tests = Mutation(name, group_of(file), "", "").tests
            yield name, tests, options.kernel, file, text
        return
    for mutation in named(options.names):
        file, text = mutation.apply()
        yield mutation.name, mutation.tests, mutation.kernel, file, text


def named(prefixes):
    """Return the named mistakes whose names begin so: all of them for none."""
    found = [m for m in MUTATIONS if not prefixes or m.name.startswith(tuple(prefixes))]
    missing = [p for p in prefixes if not any(m.name.startswith(p) for m in found)]
    if missing:
        raise SystemExit(f"no mistake is named {', '.join(missing)}")
    return found


def judge(tree, chosen):
    """Try one mutation after the other; yield its name, verdict, seconds and the first failure."""
    dirty = set()
    for name, tests, kernel, file, text in chosen:
        start = time.perf_counter()
        path = tree / file
        original = path.read_text(encoding="utf-8")
        path.write_text(text, encoding="utf-8")
        again = compiled_from(file)
        try:
            if again or dirty:
                build(tree, *sorted({*again, *dirty}))
            code, said = run_suite(tree, kernel, tests)
            verdict = "SURVIVED" if code == 0 else "killed"
        except BuildError as error:
            verdict, said = "unbuilt", str(error).strip().splitlines()[-1]
        path.write_text(original, encoding="utf-8")
        dirty = set(again)
        yield name, verdict, time.perf_counter() - start, said


def parse():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--operators", nargs="+", metavar="FILE", choices=sources(), help="sources to change")
    parser.add_argument("--sample", type=int, default=20, help="how many of the operators' mistakes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kernel", default="baseline", help="for the operators' mistakes")
    parser.add_argument("--report", help="a file to which a line of JSON is added for each")
    return parser.parse_args()


def main():
    """Run what the command line asks for."""
    options = parse()
    if options.list:
        for m in named(options.names):
            print(f"{m.name:44}", *(place[0] for place in m.places) if m.places else ("nowhere",))
        return
    chosen = list(choose(options))
    counts = {"killed": 0, "SURVIVED": 0, "unbuilt": 0}
    survivors = []
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        copy_tree(tree)
        build(tree, *extensions())
        for kernel, *tests in sorted({(kernel, *tests) for _, tests, kernel, _, _ in chosen}):
            code, said = run_suite(tree, kernel, tests)
            if code != 0:
                raise SystemExit(f"the unchanged sources fail under {kernel}: {said}")
        for name, verdict, seconds, said in judge(tree, chosen):
            counts[verdict] += 1
            survivors += [name] if verdict == "SURVIVED" else []
            print(f"{verdict:8} {name:44} {seconds:4.0f} s  {said[:110]}", flush=True)
            if options.report:
                kind = "operator" if options.operators else "named"
                with open(options.report, "a") as report:
                    print(json.dumps({"kind": kind, "name": name, "verdict": verdict.lower()}), file=report)
    built = counts["killed"] + counts["SURVIVED"]
    print(f"{counts['killed']} of {built} mutations killed, {counts['unbuilt']} did not compile")
    if survivors or (counts["unbuilt"] and not options.operators):
        raise SystemExit(f"survivors: {', '.join(survivors)}")


if __name__ == "__main__":
    main()
