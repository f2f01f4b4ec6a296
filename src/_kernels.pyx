# cython: language_level=3, wraparound=False
"""The kernel tables: which there are, which is in force, and the one that is made of BLAS.

A kernel is a table of C functions (src/kernels/kernels_contract.h) for each dtype. The best one
that the CPU runs is chosen at import; the environment variable LSTM_EXT_KERNEL names another:
``avx512``, ``avx2``, ``baseline`` or ``blas``.
"""
import os

import numpy as np

from cython cimport floating
from libc.string cimport memcpy

from lstm_ext._blas cimport gemm


# ---- the "blas" table: products are BLAS calls on plain matrices, the cell is a native kernel's

cdef Py_ssize_t blas_gate_columns(Py_ssize_t H) noexcept nogil:
    return 4 * H


cdef void blas_pack_gates(Py_ssize_t H, Py_ssize_t K, const floating *weight,
                          floating *panels) noexcept nogil:
    memcpy(panels, weight, 4 * H * K * sizeof(floating))


cdef Py_ssize_t blas_packed_size(Py_ssize_t depth, Py_ssize_t cols) noexcept nogil:
    return depth * cols


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


cdef const lstm_kernels_s *table_s() noexcept nogil:
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


def current():
    """Name of the kernel in force."""
    return current_s.name.decode()


cdef void fill_blas_tables():
    global blas_s, blas_d
    best = available()[0].encode()
    # The cell and the activations are those of the best native kernel.
    blas_s = lstm_kernels_find_s(best)[0]
    blas_d = lstm_kernels_find_d(best)[0]
    blas_s.name = blas_d.name = "blas"
    blas_s.lanes = blas_d.lanes = 1
    blas_s.gate_columns = blas_d.gate_columns = blas_gate_columns
    blas_s.packed_size = blas_d.packed_size = blas_packed_size
    blas_s.pack_gates, blas_d.pack_gates = blas_pack_gates[float], blas_pack_gates[double]
    blas_s.pack, blas_d.pack = blas_pack[float], blas_pack[double]
    blas_s.project, blas_d.project = blas_project[float], blas_project[double]
    blas_s.product, blas_d.product = blas_product[float], blas_product[double]
    blas_s.weight_gradient = blas_weight_gradient[float]
    blas_d.weight_gradient = blas_weight_gradient[double]
    blas_s.step_forward, blas_d.step_forward = blas_step_forward[float], blas_step_forward[double]


fill_blas_tables()
try:
    select(os.environ.get("LSTM_EXT_KERNEL") or available()[0])
except ValueError as error:
    raise ImportError(f"the environment variable LSTM_EXT_KERNEL: {error}") from None


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
        raise TypeError(f"x has dtype {x.dtype}, expected float32 or float64")
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
