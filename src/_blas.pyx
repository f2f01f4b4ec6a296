# cython: wraparound=False, cdivision=True
"""Row-major gemm, gemv and ger over SciPy's BLAS, for float32 and float64.

The only file that knows Fortran order and BLAS integers. The ``cdef`` functions of ``_blas.pxd``
work on pointers that somebody else has checked; the ``_*_memview`` functions are the same for
Python, checked, and are what the tests sweep.

BLAS integers are C ``int`` in every SciPy wheel. SciPy 1.18 names the type ``blas_int``, but its
wheels export, and compare, the same signatures as before (tried: built against 1.11 and imported
with 1.18, and the other way round). A SciPy built from source with ILP64 BLAS has ``int64_t`` in
these signatures: then this file does not compile, and a build from elsewhere is refused when it is
imported, because the signatures differ.
"""

from cython cimport floating
from scipy.linalg.cython_blas cimport dgemm, dgemv, dger, sgemm, sgemv, sger


# A row-major matrix is, to Fortran, its transpose. So each call below asks for the transposed
# result: C^T := alpha op(B)^T op(A)^T + beta C^T, and so on. BLAS does not write through the
# pointers whose const is cast away.

cdef inline int _ld(Py_ssize_t ld) noexcept nogil:
    """A leading dimension that BLAS accepts: at least 1, also where a matrix is empty."""
    return <int>ld if ld > 0 else 1


cdef void gemm(bint trans_a, bint trans_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, floating alpha,
               const floating* A, Py_ssize_t lda, const floating* B, Py_ssize_t ldb, floating beta,
               floating* C, Py_ssize_t ldc) noexcept nogil:
    """C := alpha op(A) op(B) + beta C."""
    cdef char op_a = c'T' if trans_a else c'N'
    cdef char op_b = c'T' if trans_b else c'N'
    cdef int m_ = <int>m, n_ = <int>n, k_ = <int>k
    cdef int lda_ = _ld(lda), ldb_ = _ld(ldb), ldc_ = _ld(ldc)
    if m == 0 or n == 0:
        return
    if floating is float:
        sgemm(&op_b, &op_a, &n_, &m_, &k_, &alpha, <float*>B, &ldb_, <float*>A, &lda_,
              &beta, C, &ldc_)
    else:
        dgemm(&op_b, &op_a, &n_, &m_, &k_, &alpha, <double*>B, &ldb_, <double*>A, &lda_,
              &beta, C, &ldc_)


cdef void gemv(bint trans, Py_ssize_t m, Py_ssize_t n, floating alpha, const floating* A, Py_ssize_t lda,
               const floating* x, Py_ssize_t incx, floating beta, floating* y,
               Py_ssize_t incy) noexcept nogil:
    """y := alpha op(A) x + beta y."""
    cdef char op = c'N' if trans else c'T'
    cdef int m_ = <int>m, n_ = <int>n, lda_ = _ld(lda), incx_ = <int>incx, incy_ = <int>incy
    cdef Py_ssize_t j, len_x = m if trans else n, len_y = n if trans else m
    # BLAS returns at once where A is empty, without beta; and some builds multiply NaN in y by
    # beta = 0. A vector is short: do both here.
    if beta == 0:
        for j in range(len_y):
            y[j * incy] = 0
        beta = 1
    elif len_x == 0:
        for j in range(len_y):
            y[j * incy] *= beta
    if len_x == 0 or len_y == 0:
        return
    if floating is float:
        sgemv(&op, &n_, &m_, &alpha, <float*>A, &lda_, <float*>x, &incx_, &beta, y, &incy_)
    else:
        dgemv(&op, &n_, &m_, &alpha, <double*>A, &lda_, <double*>x, &incx_, &beta, y, &incy_)


cdef void ger(Py_ssize_t m, Py_ssize_t n, floating alpha, const floating* x, Py_ssize_t incx,
              const floating* y, Py_ssize_t incy, floating* A, Py_ssize_t lda) noexcept nogil:
    """A := alpha x y^T + A."""
    cdef int m_ = <int>m, n_ = <int>n, lda_ = _ld(lda), incx_ = <int>incx, incy_ = <int>incy
    if m == 0 or n == 0:
        return
    if floating is float:
        sger(&n_, &m_, &alpha, <float*>y, &incy_, <float*>x, &incx_, A, &lda_)
    else:
        dger(&n_, &m_, &alpha, <double*>y, &incy_, <double*>x, &incx_, A, &lda_)


# The same with checks, on memoryviews of float32 or float64. Rows of a matrix are contiguous, any number of
# items apart; the output shares no memory with the inputs. ValueError: shapes that do not fit each other, a
# layout that BLAS cannot read, overlapping memory. OverflowError: a size or row stride beyond 32 bits.

cdef Py_ssize_t _check_fits(Py_ssize_t size, str name) except -1:
    if size > BLAS_INT_MAX:
        raise OverflowError(f"{name} is too large for BLAS: {size} is more than {BLAS_INT_MAX}")
    return size


cdef Py_ssize_t _leading_dimension(const floating[:, :] A, str name) except -1:
    """The distance of two rows of A, in elements; ValueError where BLAS cannot read A in place."""
    cdef Py_ssize_t rows = A.shape[0], cols = A.shape[1], ld = cols, item = sizeof(floating)
    _check_fits(rows, f"{name}.shape[0]")
    _check_fits(cols, f"{name}.shape[1]")
    if rows == 0 or cols == 0:
        return ld
    if <size_t>&A[0, 0] % item:
        raise ValueError(f"{name} is not aligned to its items of {item} bytes")
    if cols > 1 and A.strides[1] != item:
        raise ValueError(f"the rows of {name} must be contiguous, its strides are "
                         f"({A.strides[0]}, {A.strides[1]}) bytes")
    if rows > 1:
        ld = A.strides[0] // item
        if A.strides[0] % item or ld < cols:
            raise ValueError(f"{name} must have rows at least {cols} items apart, its strides are "
                             f"({A.strides[0]}, {A.strides[1]}) bytes")
        _check_fits(ld, f"the row stride of {name}")
    return ld


cdef Py_ssize_t _increment(const floating[:] x, str name) except -1:
    """The distance of two elements of x, in elements; ValueError where BLAS cannot read x."""
    cdef Py_ssize_t inc = 1, item = sizeof(floating)
    _check_fits(x.shape[0], f"{name}.shape[0]")
    if x.shape[0] == 0:
        return inc
    if <size_t>&x[0] % item:
        raise ValueError(f"{name} is not aligned to its items of {item} bytes")
    if x.shape[0] > 1:
        inc = x.strides[0] // item
        if x.strides[0] % item or inc < 1:
            raise ValueError(f"{name} must have a stride of one or more items, "
                             f"its stride is {x.strides[0]} bytes")
        _check_fits(inc, f"the stride of {name}")
    return inc


cdef int _check_shape(str name, tuple shape, tuple expected) except -1:
    if shape != expected:
        raise ValueError(f"{name} has shape {shape}; expected {expected}")
    return 0


cdef Py_ssize_t _extent(Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t ld) noexcept:
    """Elements between the first of a matrix and the end of its last row."""
    return (rows - 1) * ld + cols if rows and cols else 0


cdef int _check_apart(str out, const floating* a, Py_ssize_t a_extent, str name, const floating* b,
                      Py_ssize_t b_extent) except -1:
    """ValueError where the memory of the output may overlap an input's."""
    if a_extent and b_extent and a < b + b_extent and b < a + a_extent:
        raise ValueError(f"{out} must not lie in the same memory as {name}")
    return 0


def _gemm_memview(bint trans_a, bint trans_b, double alpha, const floating[:, :] A, const floating[:, :] B,
                  double beta, floating[:, :] C):
    """C := alpha op(A) op(B) + beta C, C of shape (m, n), changed in place, not read where beta is 0.

    op(A) (m, k) is A, or its transpose where `trans_a`; op(B) (k, n) likewise.
    """
    cdef Py_ssize_t lda = _leading_dimension(A, "A")
    cdef Py_ssize_t ldb = _leading_dimension(B, "B")
    cdef Py_ssize_t ldc = _leading_dimension[floating](C, "C")
    cdef Py_ssize_t m = A.shape[1] if trans_a else A.shape[0]
    cdef Py_ssize_t k = A.shape[0] if trans_a else A.shape[1]
    cdef Py_ssize_t n = B.shape[0] if trans_b else B.shape[1]
    cdef Py_ssize_t extent = _extent(m, n, ldc)
    _check_shape("B", (B.shape[0], B.shape[1]), (n, k) if trans_b else (k, n))
    _check_shape("C", (C.shape[0], C.shape[1]), (m, n))
    _check_apart("C", &C[0, 0], extent, "A", &A[0, 0], _extent(A.shape[0], A.shape[1], lda))
    _check_apart("C", &C[0, 0], extent, "B", &B[0, 0], _extent(B.shape[0], B.shape[1], ldb))
    with nogil:
        gemm(trans_a, trans_b, m, n, k, <floating>alpha, &A[0, 0], lda, &B[0, 0], ldb,
             <floating>beta, &C[0, 0], ldc)


def _gemv_memview(bint trans, double alpha, const floating[:, :] A, const floating[:] x, double beta,
                  floating[:] y):
    """y := alpha op(A) x + beta y, y changed in place, not read where beta is 0.

    op(A) is A (m, n), or its transpose where `trans`.
    """
    cdef Py_ssize_t lda = _leading_dimension(A, "A")
    cdef Py_ssize_t incx = _increment(x, "x")
    cdef Py_ssize_t incy = _increment[floating](y, "y")
    cdef Py_ssize_t m = A.shape[0], n = A.shape[1]
    cdef Py_ssize_t len_x = m if trans else n, len_y = n if trans else m
    cdef Py_ssize_t extent = _extent(len_y, 1, incy)
    _check_shape("x", (x.shape[0],), (len_x,))
    _check_shape("y", (y.shape[0],), (len_y,))
    _check_apart("y", &y[0], extent, "A", &A[0, 0], _extent(m, n, lda))
    _check_apart("y", &y[0], extent, "x", &x[0], _extent(len_x, 1, incx))
    with nogil:
        gemv(trans, m, n, <floating>alpha, &A[0, 0], lda, &x[0], incx,
             <floating>beta, &y[0], incy)


def _ger_memview(double alpha, const floating[:] x, const floating[:] y, floating[:, :] A):
    """A := alpha x y^T + A, A of shape (m, n), changed in place."""
    cdef Py_ssize_t incx = _increment(x, "x")
    cdef Py_ssize_t incy = _increment(y, "y")
    cdef Py_ssize_t lda = _leading_dimension[floating](A, "A")
    cdef Py_ssize_t m = x.shape[0], n = y.shape[0], extent = _extent(m, n, lda)
    _check_shape("A", (A.shape[0], A.shape[1]), (m, n))
    _check_apart("A", &A[0, 0], extent, "x", &x[0], _extent(m, 1, incx))
    _check_apart("A", &A[0, 0], extent, "y", &y[0], _extent(n, 1, incy))
    with nogil:
        ger(m, n, <floating>alpha, &x[0], incx, &y[0], incy, &A[0, 0], lda)
