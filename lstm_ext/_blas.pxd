# Row-major BLAS on raw pointers, for float and double. Nothing here checks or allocates:
# the caller has checked shapes, and that every size and leading dimension is at most BLAS_INT_MAX.
# Signatures use plain C types only; Cython compares them as strings at import.

from cython cimport floating

cdef enum:
    BLAS_INT_MAX = 0x7FFFFFFF

# C := alpha op(A) op(B) + beta C      op(A) (m, k), op(B) (k, n), C (m, n)
cdef void gemm(
    bint trans_a, bint trans_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    floating alpha, const floating* A, Py_ssize_t lda, const floating* B, Py_ssize_t ldb,
    floating beta, floating* C, Py_ssize_t ldc,
) noexcept nogil

# y := alpha op(A) x + beta y          A (m, n) as it is stored, whatever `trans`
cdef void gemv(
    bint trans, Py_ssize_t m, Py_ssize_t n,
    floating alpha, const floating* A, Py_ssize_t lda, const floating* x, Py_ssize_t incx,
    floating beta, floating* y, Py_ssize_t incy,
) noexcept nogil

# A := alpha x y^T + A                 x (m,), y (n,), A (m, n)
cdef void ger(
    Py_ssize_t m, Py_ssize_t n,
    floating alpha, const floating* x, Py_ssize_t incx, const floating* y, Py_ssize_t incy,
    floating* A, Py_ssize_t lda,
) noexcept nogil
