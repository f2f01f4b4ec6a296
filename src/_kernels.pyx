# cython: language_level=3, wraparound=False
"""The kernel tables: which there are, which is in force, and the one that is made of BLAS.

A kernel is a table of C functions (src/kernels/kernels_contract.h) for each dtype. The best one
that the CPU runs is chosen at import; the environment variable LSTM_EXT_KERNEL names another:
``avx512``, ``avx2``, ``baseline`` or ``blas``.

float32 has tables besides whose products are made in bfloat16, for an `LSTM` whose `precision` allows it:
of AMX's tiles ("amx"), of AVX512_BF16, or of tiles emulated in C, for tests ("emulated"). Where there is
none, float32 is used. The environment variable LSTM_EXT_BFLOAT16 names one of them, or ``none``.
"""
import os

import numpy as np

from cython cimport floating
from libc.string cimport memcpy

from lstm_ext._blas cimport gemm


cdef extern from "sizes.h" nogil:
    Py_ssize_t times "lstm_times"(Py_ssize_t a, Py_ssize_t b)


# ---- the "blas" table: products are BLAS calls on plain matrices, the cell is a native kernel's

cdef Py_ssize_t blas_gate_columns(Py_ssize_t H) noexcept nogil:
    return 4 * H


cdef Py_ssize_t blas_gates_size(Py_ssize_t H, Py_ssize_t K) noexcept nogil:
    return times(times(4, H), K)


cdef void blas_pack_bias(Py_ssize_t H, const floating *bias, floating *row) noexcept nogil:
    memcpy(row, bias, 4 * H * sizeof(floating))


cdef void blas_pack_gates(Py_ssize_t H, Py_ssize_t K, const floating *weight,
                          floating *panels) noexcept nogil:
    memcpy(panels, weight, 4 * H * K * sizeof(floating))


cdef Py_ssize_t blas_packed_size(Py_ssize_t depth, Py_ssize_t cols) noexcept nogil:
    return times(depth, cols)


cdef Py_ssize_t blas_gradient_scratch(Py_ssize_t rows, Py_ssize_t M, Py_ssize_t cols) noexcept nogil:
    return 0


cdef void blas_pack(Py_ssize_t depth, Py_ssize_t cols, const floating *b,
                    floating *panels) noexcept nogil:
    memcpy(panels, b, depth * cols * sizeof(floating))


cdef void blas_project(Py_ssize_t rows, Py_ssize_t H, Py_ssize_t K, const floating *a, Py_ssize_t lda,
                       const floating *panels, const floating *bias, floating *pre) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(rows):
        memcpy(pre + r * 4 * H, bias, 4 * H * sizeof(floating))
    gemm(False, True, rows, 4 * H, K, <floating>1, a, lda, panels, K, <floating>1, pre, 4 * H)


cdef void blas_product(Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t cols, const floating *a,
                       Py_ssize_t lda, const floating *panels, floating *c, lstm_hints hints) noexcept nogil:
    gemm(False, False, rows, cols, depth, <floating>1, a, lda, panels, cols, <floating>0, c, cols)


cdef void blas_weight_gradient(Py_ssize_t rows, Py_ssize_t M, Py_ssize_t cols, const floating *dgates,
                               const floating *xh, floating *dweight, floating *scratch) noexcept nogil:
    gemm(True, False, M, cols, rows, <floating>1, dgates, M, xh, cols, <floating>1, dweight, cols)


cdef void blas_step_forward(const lstm_cell *cell, Py_ssize_t rows, Py_ssize_t H, floating *pre,
                            const floating *h_prev, const floating *panels, const floating *c_prev,
                            floating *c, floating *h, floating *gates, lstm_hints hints) noexcept nogil:
    gemm(False, True, rows, 4 * H, H, <floating>1, h_prev, H, panels, H, <floating>1, pre, 4 * H)
    if floating is float:
        blas_s.cell_forward(cell, rows, H, pre, c_prev, c, h, gates)
    else:
        blas_d.cell_forward(cell, rows, H, pre, c_prev, c, h, gates)


cdef lstm_kernels_s blas_s
cdef lstm_kernels_d blas_d
cdef const lstm_kernels_s *current_s
cdef const lstm_kernels_d *current_d
cdef lstm_kernels_s tables[3][3]        # with products in bfloat16: by implementation, by pieces
cdef const lstm_kernels_s *split_s[3]   # those in force, by pieces; NULL where float32 is used


cdef const lstm_kernels_s *table_s() noexcept nogil:
    return current_s


cdef const lstm_kernels_s *table_of(int pieces) noexcept nogil:
    """The table in force for float32 with products in bfloat16 of so many pieces, 0 for float32."""
    if 1 <= pieces <= 3 and split_s[pieces - 1] != NULL:
        return split_s[pieces - 1]
    return current_s


cdef const lstm_kernels_d *table_d() noexcept nogil:
    return current_d


def available():
    """Names of the kernels that this build and this CPU have, best first; ``blas`` comes last."""
    return tuple(
        name for name in ("avx512", "avx2", "baseline") if lstm_kernels_find_s(name.encode()) != NULL
    ) + ("blas",)


def select(name):
    """Put the kernel `name` in force for what is packed from now on; for tests and benchmarks."""
    global current_s, current_d
    if name not in available():
        raise ValueError(
            f"kernel is {name!r}, this CPU and build have {', '.join(available())}"
        )
    if name == "blas":
        current_s, current_d = &blas_s, &blas_d
    else:
        current_s = lstm_kernels_find_s(name.encode())
        current_d = lstm_kernels_find_d(name.encode())
    use_split()


def current():
    """Name of the kernel in force."""
    return current_s.name.decode()


# ---- precisions: what the factors of float32 products may be rounded to

PRECISIONS = ("float32", "bfloat16x6", "bfloat16x3", "bfloat16")  # no piece, 3 pieces, 2, 1
cdef tuple SPLIT_NAMES = ("amx", "avx512_bf16", "emulated")
cdef object forced_split = None         # a name of these, or "none"
cdef bint asked[3]                      # somebody has set a precision of so many pieces


def pieces_of(precision):
    """How many bfloat16 pieces the factors have under `precision`; 0 for float32."""
    return (0, 3, 2, 1)[PRECISIONS.index(precision)]


cdef const lstm_kernels_s *split_table(str name, int pieces) except? NULL:
    """The table of an implementation, or NULL where this build, CPU or operating system lacks it."""
    cdef int i = SPLIT_NAMES.index(name)
    cdef const lstm_kernels_s *products = lstm_bfloat16_find(name.encode(), pieces)
    if products == NULL:
        return NULL
    if tables[i][pieces - 1].name == NULL:
        rest = lstm_kernels_find_s(b"baseline" if name == "emulated" else b"avx512")
        lstm_bfloat16_table(products, rest, &tables[i][pieces - 1])
    return &tables[i][pieces - 1]


cdef int use_split() except -1:
    """Look up the tables of the precisions that were asked for."""
    cdef int pieces
    for pieces in range(1, 4):
        split_s[pieces - 1] = NULL
        if not asked[pieces - 1] or forced_split == "none":
            continue
        if forced_split is not None:
            split_s[pieces - 1] = split_table(forced_split, pieces)
        elif current_s == lstm_kernels_find_s(b"avx512"):
            split_s[pieces - 1] = split_table("amx", pieces)
            if split_s[pieces - 1] == NULL:
                split_s[pieces - 1] = split_table("avx512_bf16", pieces)
    return 0


def prepare(precision):
    """Get the products of `precision` ready and return its pieces.

    The first time with a precision other than float32, Linux is asked for permission to use AMX where the
    CPU has it.
    """
    cdef int pieces = pieces_of(precision)
    if pieces and not asked[pieces - 1]:
        asked[pieces - 1] = True
        use_split()
    return pieces


def in_force(precision):
    """Name of the table that computes float32 products under `precision`: "amx", ..., or a kernel's name."""
    return table_of(prepare(precision)).name.decode()


def select_split(name):
    """Choose whose products in bfloat16 are used from now on; None for the best. For tests and benchmarks.

    `name`: "amx", "avx512_bf16", "emulated" (tiles of AMX in plain C), "none" for float32 in place of all.
    """
    global forced_split
    if name not in (None, "none", *SPLIT_NAMES):
        raise ValueError(f"bfloat16 products are {name!r}; expected None, none or one of "
                         f"{', '.join(SPLIT_NAMES)}")
    forced_split = name
    use_split()


def forced():
    """Name that `select_split` was given."""
    return forced_split


cdef void fill_blas_tables():
    global blas_s, blas_d
    best = available()[0].encode()
    # The cell and the activations are those of the best native kernel.
    blas_s = lstm_kernels_find_s(best)[0]
    blas_d = lstm_kernels_find_d(best)[0]
    blas_s.name = blas_d.name = "blas"
    blas_s.lanes = blas_d.lanes = blas_s.tile_rows = blas_d.tile_rows = 1
    blas_s.gate_columns = blas_d.gate_columns = blas_gate_columns
    blas_s.packed_size = blas_d.packed_size = blas_packed_size
    blas_s.gates_size = blas_d.gates_size = blas_gates_size
    blas_s.gradient_scratch = blas_d.gradient_scratch = blas_gradient_scratch
    blas_s.pack_bias, blas_d.pack_bias = blas_pack_bias[float], blas_pack_bias[double]
    blas_s.pack_gates, blas_d.pack_gates = blas_pack_gates[float], blas_pack_gates[double]
    blas_s.pack, blas_d.pack = blas_pack[float], blas_pack[double]
    blas_s.project, blas_d.project = blas_project[float], blas_project[double]
    blas_s.product, blas_d.product = blas_product[float], blas_product[double]
    blas_s.weight_gradient = blas_weight_gradient[float]
    blas_d.weight_gradient = blas_weight_gradient[double]
    blas_s.step_forward, blas_d.step_forward = blas_step_forward[float], blas_step_forward[double]


cdef lstm_caches found = lstm_read_caches()
stream_bytes = found.stream
caches = {"L1d": found.l1d, "L2": found.l2, "L3": found.l3}  # bytes; L3 0 if there is none
fill_blas_tables()
try:
    select(os.environ.get("LSTM_EXT_KERNEL") or available()[0])
except ValueError as error:
    raise ImportError(f"the environment variable LSTM_EXT_KERNEL: {error}") from None
try:
    select_split(os.environ.get("LSTM_EXT_BFLOAT16") or None)
except ValueError as error:
    raise ImportError(f"the environment variable LSTM_EXT_BFLOAT16: {error}") from None


# ---- the activations of the kernel in force, on arrays

def sigmoid(x):
    """sigma(x) = 1 / (1 + exp(-x)), elementwise, as the kernel in force computes it.

    `x`: float32 or float64 array of any shape; the result has its dtype and shape. The absolute
    error is at most one unit in the last place of 1.0.
    """
    return _activation(x, False)


def tanh(x):
    """tanh(x), elementwise, as the kernel in force computes it: error at most 4 ulp, odd.

    `x`: float32 or float64 array of any shape; the result has its dtype and shape.
    """
    return _activation(x, True)


def _activation(x, bint is_tanh):
    cdef const float[::1] xs
    cdef const double[::1] xd
    cdef float[::1] ys
    cdef double[::1] yd
    x = np.asarray(x)
    if x.dtype != np.float32 and x.dtype != np.float64:
        raise TypeError(f"x has dtype {x.dtype}; expected float32 or float64")
    y = np.empty(x.shape, x.dtype.newbyteorder("="))
    if x.size == 0:
        return y
    flat = np.ascontiguousarray(x, y.dtype).reshape(-1)
    if y.dtype == np.float32:
        xs, ys = flat, y.reshape(-1)
        with nogil:
            (current_s.tanh if is_tanh else current_s.sigmoid)(xs.shape[0], &xs[0], &ys[0])
    else:
        xd, yd = flat, y.reshape(-1)
        with nogil:
            (current_d.tanh if is_tanh else current_d.sigmoid)(xd.shape[0], &xd[0], &yd[0])
    return y
