"""Does the suite see a mistake? Each mutation is put into a copy of the sources; a test must fail.

    python tests/support/mutations.py              all of them (each is a rebuild: this takes a while)
    python tests/support/mutations.py NAME ...     those whose names begin so
    python tests/support/mutations.py --list

Each runs on the baseline kernel, or on BLAS where it says so: cell, products and loops are one
source for all kernels. A mutation that does not fit the sources is an error: the table cannot rot.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TREE = ("src", "lstm_ext", "tests", "setup.py", "pyproject.toml")

CELL, KERNEL, KERNELS = "src/kernels/cell.h", "src/kernels/kernels_impl.h", "src/_kernels.pyx"
DRIVER, ENGINE, LAYER = "src/_driver.pyx", "src/_lstm.pyx", "lstm_ext/lstm.py"
OPTIONS, GENERAL, FAMILY = "src/kernels/general_cell.h", "src/_general.pyx", "lstm_ext/_family.py"
PHILOX, JACOBIAN, MISSING = "src/philox.h", "lstm_ext/_jacobian.py", "lstm_ext/_missing.py"
INITIALIZERS, MODEL, LOSSES = "lstm_ext/initializers.py", "lstm_ext/model.py", "lstm_ext/losses.py"
PACKING, TENSORS, HDF5 = "lstm_ext/io/_packing.py", "lstm_ext/io/_tensors.py", "lstm_ext/io/_hdf5.py"
TORCH, KERAS, IO = "lstm_ext/io/torch.py", "lstm_ext/io/keras.py", "lstm_ext/io/_common.py"
C_LEVEL, ARRAYS = "src/cython_lstm.pyx", "src/_arrays.pyx"
BFLOAT16, TILES = "src/kernels/bfloat16_impl.h", "src/kernels/tiles_emulated.h"
# What has to be built again; Python needs nothing.
EXTENSION = {
    CELL: "_kernels",
    KERNEL: "_kernels",
    KERNELS: "_kernels",
    BFLOAT16: "_kernels",
    TILES: "_kernels",
    DRIVER: "_driver",
    ENGINE: "_lstm",
    OPTIONS: "_kernels",
    GENERAL: "_general",
    PHILOX: "_general",
    C_LEVEL: "cython_lstm",
    ARRAYS: "_arrays",
}

# The fast part of the suite, quickest killers first.
TESTS = [
    "tests/layer/test_lstm_parity.py",
    "tests/layer/test_stream.py",
    "tests/layer/test_lstm_gradient.py",
    "tests/kernels/test_activations.py",
    "tests/layer/test_lstm_metamorphic.py",
    "tests/layer/test_lstm_inputs.py",
    "tests/layer/test_lstm_object.py",
    "tests/layer/test_threads.py",
]
# What looks after files and foreign weights.
IO_TESTS = [
    "tests/io/test_io_torch.py",
    "tests/io/test_io_keras.py",
    "tests/io/test_io_safetensors.py",
    "tests/io/test_io_hostile.py",
]
# What looks after options and derivatives: it alone is asked about their sources.
OPTION_TESTS = [
    "tests/layer/test_initializers.py",
    "tests/layer/test_missing.py",
    "tests/layer/test_options.py",
    "tests/layer/test_jacobian.py",
    "tests/layer/test_hessian.py",
    "tests/training/test_model_options.py",
]
OPTION_SOURCES = (OPTIONS, GENERAL, FAMILY, PHILOX, JACOBIAN, MISSING, INITIALIZERS, MODEL, LOSSES)


@dataclass(frozen=True)
class Mutation:
    """`old`, which stands once in `file`, becomes `new`."""

    name: str
    file: str
    old: str
    new: str
    kernel: str = "baseline"
    of_options: bool = False

    @property
    def tests(self):
        """Files of the suite that are asked."""
        if self.file.startswith("lstm_ext/io/"):
            return IO_TESTS
        if self.file == C_LEVEL:
            return ["tests/layer/test_cython_lstm.py"]
        if self.file in (BFLOAT16, TILES):
            return ["tests/layer/test_precision.py"]
        if self.file == ARRAYS:
            return [f"tests/layer/test_{name}.py" for name in ("owners", "lstm_inputs", "fork")]
        return OPTION_TESTS if self.of_options or self.file in OPTION_SOURCES else TESTS


MUTATIONS = [
    # products in bfloat16, on emulated tiles
    Mutation("bfloat16-cut-not-rounded", BFLOAT16, "(u + 0x7fffu + ((u >> 16) & 1u))", "u"),
    Mutation("bfloat16-ties-away", BFLOAT16, "(u + 0x7fffu + ((u >> 16) & 1u))", "(u + 0x8000u)"),
    Mutation("bfloat16-rest-forgotten", BFLOAT16, "rest.f[j] -= part.f[j];", "rest.f[j] -= 0;"),
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
    Mutation("bfloat16-gradient-row-lost", BFLOAT16, "r + 1 < rows ? n : 0, odd);", "0, odd);"),
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
        "length-off-by-one", DRIVER, "seqs.lengths[n - 1] <= s:", "seqs.lengths[n - 1] - 1 <= s:"
    ),
    Mutation(
        "h_0-forgotten",
        DRIVER,
        "load_states(seqs, first, last, H, h_0, h)",
        "load_states(seqs, first, last, H, <const floating*>NULL, h)",
    ),
    Mutation(
        "c_0-forgotten",
        DRIVER,
        "load_states(seqs, first, last, H, c_0, c)",
        "load_states(seqs, first, last, H, <const floating*>NULL, c)",
    ),
    Mutation(
        "h-carry-forgotten",
        DRIVER,
        "h[0], h_next[0] = h_next[0], h[0]",
        "memcpy(h_next[0], h[0], 0)",
    ),
    Mutation("c-carry-forgotten", DRIVER, "            c_prev = c_t\n", ""),
    Mutation(
        "y-padding-not-cleared", DRIVER, "    clear_padding(seqs, first, last, H, y, sy)\n", ""
    ),
    Mutation(
        "dx-padding-not-cleared",
        DRIVER,
        "        clear_padding(seqs, first, last, L.input_size, dx, sdx)\n",
        "        pass\n",
    ),
    Mutation(
        "chunk-boundary", DRIVER, "            elif s == start:\n", "            elif s == start + 1:\n"
    ),
    Mutation(
        "dh_n-forgotten",
        DRIVER,
        "first + entered, H, dh_n, dh + alive * H)",
        "first + entered, H, <const floating*>NULL, dh + alive * H)",
    ),
    Mutation(
        "dc_n-forgotten",
        DRIVER,
        "first + entered, H, dc_n, dc + alive * H)",
        "first + entered, H, <const floating*>NULL, dc + alive * H)",
    ),
    Mutation(
        "dh_0-of-empty-sequences",
        DRIVER,
        "    load_states(seqs, first + alive, last, H, dh_n, dh + alive * H)\n    load",
        "    load",
    ),
    Mutation(
        "h_prev-of-later-rows", DRIVER, "later = alive if s < stop - 1 else 0", "later = 0"
    ),
    Mutation("second-piece-forgotten", KERNEL, "init = c, ldi = ldc) {", "ldi = ldc) {"),
    Mutation("step-from-the-first-piece", KERNEL, "panel + before * nv * LANES;", "panel;"),
    Mutation(
        "bias-gradient-misplaced",
        DRIVER,
        "column_sums(L, chunk, <const floating*>dgates, partial + 4 * H * K)",
        "column_sums(L, chunk, <const floating*>dgates, partial)",
    ),
    Mutation(
        "checkpoint-from-the-first", DRIVER, "memcpy(h, starts_h + k * size,", "memcpy(h, starts_h,"
    ),
    Mutation(
        "partials-shared",
        DRIVER,
        "partial + g * size,\n                           work + threadid()",
        "partial,\n                           work + threadid()",
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
    Mutation("cache-of-what-others-write", ENGINE, "packed.source.data, packed.memory.data)",
             "self.parameters.data, packed.memory.data)"),
    Mutation(
        "second-direction-overwrites-dx",
        ENGINE,
        "sdy, dx, sdx, add_dx, <const floating*>last_h",
        "sdy, dx, sdx, False, <const floating*>last_h",
    ),
    Mutation("dy-of-the-first-direction", ENGINE, "dy += i % tape.directions * H", "dy += 0"),
    Mutation("stream-forgets-h", ENGINE, "    self.h, self.h_next = self.h_next, swap\n", ""),
    # the layer
    Mutation(
        "forget-bias-on-input-gate",
        INITIALIZERS,
        'view[H : 2 * H] = wanted["forget_bias"]',
        'view[:H] = wanted["forget_bias"]',
    ),
    Mutation("tape-of-another-lstm", LAYER, "if tape._lstm_family is not self._family:", "if False:"),
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
        "bernoulli_row(g.seed, RECURRENT_DROPOUT, g.stream, seqs.order[n], 0,",
        "bernoulli_row(g.seed, RECURRENT_DROPOUT, g.stream, n, 0,",
    ),
    Mutation(
        "recurrent-dropout-forgotten-backward",
        GENERAL,
        "                times_mask(g, alive, <const floating*>(work + w.mask), dh[p])\n",
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
        "add_row(rows * cols, <const floating*>term, c_dot)",
        "pass",
    ),
    Mutation(
        "one-row-in-another-order",
        KERNEL,
        "if (rows == 1 && ordered) {",
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
        "steps = int(at[-1]) + 1 if shorter",
        "steps = int(at[0]) + 1 if shorter",
    ),
    Mutation(
        "jacobian-seed-where-nothing-counts",
        JACOBIAN,
        "dh[np.arange(K), :, -1, unit] = self.counted[:, at].T",
        "dh[np.arange(K), :, -1, unit] = 1",
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
        "self._upon(d_dot @ self.weight + d @ v_weight, h_n)",
        "self._upon(d_dot @ self.weight, h_n)",
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
    Mutation("torch-second-bias-dropped", TORCH, "np.where(second == 0, first, first + second)", "first"),
    Mutation(
        "torch-gates-reversed", TORCH, "fill(view, name, values[name])",
        "fill(view, name, values[name][::-1])",
    ),
    Mutation(
        "torch-gates-i-o-swapped", TORCH, "fill(view, name, values[name])",
        'fill(view, name, np.concatenate([np.split(values[name], 4)[k] for k in (3, 1, 2, 0)])'
        ' if "hh" in name else values[name])',
    ),
    Mutation("torch-pickle-let-through", TORCH, "    if pickled:\n", "    if False:\n"),
    Mutation(
        "torch-what-is-left-over-ignored", TORCH, "if not _PARAMETER.fullmatch(name[len(start):]):",
        "if False:",
    ),
    Mutation(
        "keras-gates-i-f-swapped", KERAS, "array[()], view.shape[::-1]).T)",
        "array[()], view.shape[::-1]).T[np.r_[len(view) // 4 : len(view) // 2, 0 : len(view) // 4, "
        "len(view) // 2 : len(view)] if len(view) % 4 == 0 else ...])",
    ),
    Mutation("keras-directions-swapped", KERAS, "[1 if direction else 0]", "[0 if direction else -1]"),
    Mutation("keras-hard-sigmoid-of-keras-2", KERAS, '("hard_sigmoid", 1 / 6,', '("hard_sigmoid", 0.2,'),
    Mutation("keras-dropout-in-silence", KERAS, "        if key in _REFUSED:", "        if False:"),
    Mutation("keras-candidate-as-the-gates", KERAS, "(((gates, inner, inner)", "(((gates, gates, inner)"),
    Mutation("hdf5-links-followed", HDF5, "type(link) is not self.h5py.HardLink", "False"),
    Mutation("hdf5-storage-not-looked-at", HDF5, "data.id.get_storage_size() != nbytes or ", ""),
    Mutation("hdf5-bytes-not-counted", HDF5, "or self.left < 0", ""),
    Mutation("zip-bomb-read", HDF5, "info.compress_type != zipfile.ZIP_STORED or ", ""),
    Mutation("safetensors-header-of-any-length", TENSORS, "length > MAX_TEXT", "False"),
    Mutation("safetensors-file-of-any-length", TENSORS, "size != 8 + length + end", "False"),
    Mutation("safetensors-nan-read", TENSORS, "        if finite and", "        if False and"),
    Mutation("safetensors-shapes-ignored", TENSORS, "found != (np.dtype(dtype), tuple(shape))", "False"),
    Mutation("json-key-twice", IO, "len(found) != len(pairs)", "False"),
    Mutation("file-sizes-not-compared", PACKING, "count > self.total", "False"),
    Mutation("file-hides-methods", PACKING, " or hasattr(cls, name)", ""),
    Mutation("file-forgets-the-optimisers-steps", PACKING, '"t": steps, **{', '"t": min(steps, 1), **{'),
    # the C-level functions
    Mutation(
        "c-level-step-over-its-own-input", C_LEVEL, "h_t if h == h_prev else h, c, pre)", "h, c, pre)"
    ),
    Mutation(
        "c-level-workspace-too-small",
        C_LEVEL,
        "                       partial_bytes(net, &seqs))), passed",
        "                       0)), passed",
    ),
    Mutation(
        "c-level-c-start-is-h-start",
        C_LEVEL,
        "<const floating*>recorded, <const floating*>(recorded + to.starts), gates",
        "<const floating*>recorded, <const floating*>recorded, gates",
    ),
    Mutation("c-level-dy-of-the-first-direction", C_LEVEL, "part(up, k * H)", "part(up, 0)"),
    Mutation("c-level-dx-overwritten", C_LEVEL, "s_down, k != D - 1,", "s_down, False,"),
    Mutation("c-level-checkpoint-forgotten", C_LEVEL, "span = min(span, net.checkpoint)", "pass"),
    Mutation(
        "c-level-lengths-unchecked",
        C_LEVEL,
        "LSTM_WRONG_LENGTHS if wrong_lengths(batch, time, lengths) else LSTM_OK",
        "LSTM_OK",
    ),
    Mutation(
        "c-level-tangent-of-parameters-dropped",
        C_LEVEL,
        "panels if parameters_dot != NULL else NULL",
        "NULL",
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


def build(tree, *names):
    done = subprocess.run(
        [sys.executable, "-c", BUILD, *names], cwd=tree, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"the build failed:\n{done.stderr[-3000:]}")


def run_suite(tree, kernel, tests):
    """Exit code of the fast tests, and the line that names the first failure."""
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-x",
                "-p",
                "no:cacheprovider",
                "-k",
                "not live",
                *tests,
            ],
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
    skip = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", ".hypothesis")
    for name in TREE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=skip)
        else:
            shutil.copy2(source, to / name)
    # With the other kernels left out of the build, the choice among them has to be told.
    for name in ("dispatch.c", "kernels.h"):
        path = to / "src/kernels" / name
        text = path.read_text()
        assert "defined(__x86_64__)" in text
        path.write_text(text.replace("defined(__x86_64__)", "0").replace("defined(_M_X64)", "0"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    chosen = [m for m in MUTATIONS if not options.names or m.name.startswith(tuple(options.names))]
    if options.list:
        print(*(m.name for m in chosen), sep="\n")
        return
    unfit = [m.name for m in chosen if (ROOT / m.file).read_text().count(m.old) != 1]
    if unfit:
        raise SystemExit(f"no longer fit the sources: {', '.join(unfit)}")

    survivors = []
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        copy_tree(tree)
        build(tree, *(p.stem for p in (tree / "src").glob("*.pyx")))
        for kernel, *tests in sorted({(m.kernel, *m.tests) for m in chosen}):
            code, said = run_suite(tree, kernel, tests)
            if code:
                raise SystemExit(f"the unchanged sources fail under {kernel}: {said}")
        dirty = None
        for mutation in chosen:
            start = time.perf_counter()
            extension = EXTENSION.get(mutation.file)
            path = tree / mutation.file
            original = path.read_text()
            path.write_text(original.replace(mutation.old, mutation.new))
            if names := {extension, dirty} - {None}:
                build(tree, *names)
            code, said = run_suite(tree, mutation.kernel, mutation.tests)
            path.write_text(original)
            dirty = extension
            if code == 0:
                survivors.append(mutation.name)
            verdict = "SURVIVED" if code == 0 else "killed"
            seconds = time.perf_counter() - start
            print(f"{verdict:8} {mutation.name:32} {seconds:4.0f} s  {said[:110]}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutations killed")
    if survivors:
        raise SystemExit(f"survivors: {', '.join(survivors)}")


if __name__ == "__main__":
    main()
