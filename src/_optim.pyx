# cython: wraparound=False, cdivision=True
"""Parameter updates on flat vectors: each step of an optimiser is one pass over memory.

Bare arithmetic, without the GIL and without allocation. ``lstm_ext.optim`` holds the equations and
their sources, and has seen to it that the vectors of a call have one dtype and one length, are
aligned, do not overlap, and are finite where that matters.
"""

from cython cimport floating
from libc.math cimport INFINITY, fabs, isnan, sqrt, sqrtf

# Partial sums kept side by side: one running sum is a chain that a compiler may not cut.
cdef enum:
    LANES = 16


cdef double _sum_of_squares(const floating* x, Py_ssize_t n, double scale) noexcept nogil:
    """Sum of (scale x_k)^2, accumulated in double whatever the dtype, always in the same order."""
    cdef:
        double partial[LANES]
        double total = 0, value
        Py_ssize_t block, k, lane, whole = n - n % LANES
    for lane in range(LANES):
        partial[lane] = 0
    for block in range(n // LANES):
        for lane in range(LANES):
            value = scale * x[block * LANES + lane]
            partial[lane] += value * value
    for k in range(whole, n):
        value = scale * x[k]
        partial[k - whole] += value * value
    for lane in range(LANES):
        total += partial[lane]
    return total


cdef double _norm(const floating* x, Py_ssize_t n) noexcept nogil:
    cdef:
        double total = _sum_of_squares(x, n, 1), largest = 0, factor
        Py_ssize_t k
    if 1e-280 < total < INFINITY or isnan(total):
        return sqrt(total)
    # The squares left the range of double: take them relative to the largest element.
    for k in range(n):
        if fabs(x[k]) > largest:
            largest = fabs(x[k])
    if largest == INFINITY:
        return INFINITY
    factor = 1 / largest if largest > 1e-300 else 1e300
    return sqrt(_sum_of_squares(x, n, factor)) / factor


cdef void _scale(floating* x, Py_ssize_t n, floating factor) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        x[k] *= factor


# `decay` is the weight decay that belongs to the gradient, `shrink` the factor that is decoupled from it.

cdef void _sgd(
    floating* parameters, const floating* gradient, Py_ssize_t n, floating scale, floating decay,
    floating lr,
) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        parameters[k] -= lr * (scale * gradient[k] + decay * parameters[k])


cdef void _sgd_momentum(
    floating* parameters, const floating* gradient, floating* velocity, Py_ssize_t n,
    floating scale, floating decay, floating lr, floating momentum,
) noexcept nogil:
    cdef Py_ssize_t k
    cdef floating v
    for k in range(n):
        v = momentum * velocity[k] + (scale * gradient[k] + decay * parameters[k])
        velocity[k] = v
        parameters[k] -= lr * v


cdef void _adam(
    floating* parameters, const floating* gradient, floating* m, floating* v, Py_ssize_t n,
    floating scale, floating decay, floating shrink,
    floating beta1, floating gain1, floating beta2, floating gain2,
    floating step, floating unbias, floating eps,
) noexcept nogil:
    cdef Py_ssize_t k
    cdef floating g, m_k, v_k, root
    for k in range(n):
        g = scale * gradient[k] + decay * parameters[k]
        m_k = beta1 * m[k] + gain1 * g
        v_k = beta2 * v[k] + gain2 * (g * g)
        if floating is float:
            root = sqrtf(unbias * v_k)
        else:
            root = sqrt(unbias * v_k)
        m[k] = m_k
        v[k] = v_k
        parameters[k] = shrink * parameters[k] - step * m_k / (root + eps)


cdef void _rmsprop(
    floating* parameters, const floating* gradient, floating* square, Py_ssize_t n,
    floating scale, floating decay, floating alpha, floating gain, floating lr, floating eps,
) noexcept nogil:
    cdef Py_ssize_t k
    cdef floating g, s, root
    for k in range(n):
        g = scale * gradient[k] + decay * parameters[k]
        s = alpha * square[k] + gain * (g * g)
        if floating is float:
            root = sqrtf(s)
        else:
            root = sqrt(s)
        square[k] = s
        parameters[k] -= lr * g / (root + eps)


# The functions for Python. `&x[0]` of an empty vector is never formed.

cdef int check_lengths(
    Py_ssize_t n, Py_ssize_t gradient, Py_ssize_t first=-1, Py_ssize_t second=-1,
) except -1:
    """ValueError unless all vectors of a call are as long as the parameters."""
    if gradient != n or first not in (-1, n) or second not in (-1, n):
        raise ValueError(f"parameters have {n} elements, expected as many in each vector beside them")
    return 0


def norm(const floating[::1] x):
    """Euclidean norm of x, as a float."""
    cdef double result = 0
    if x.shape[0]:
        with nogil:
            result = _norm(&x[0], x.shape[0])
    return result


def scale(floating[::1] x, double factor):
    """x := factor x."""
    if x.shape[0]:
        with nogil:
            _scale(&x[0], x.shape[0], <floating>factor)


def sgd(
    floating[::1] parameters, const floating[::1] gradient, double scale, double decay, double lr,
):
    """One step of gradient descent along ``scale * gradient + decay * parameters``."""
    cdef Py_ssize_t n = parameters.shape[0]
    check_lengths(n, gradient.shape[0])
    if n:
        with nogil:
            _sgd(&parameters[0], &gradient[0], n, <floating>scale, <floating>decay, <floating>lr)


def sgd_momentum(
    floating[::1] parameters, const floating[::1] gradient, floating[::1] velocity,
    double scale, double decay, double lr, double momentum,
):
    """One step of gradient descent with momentum; ``velocity`` is updated too."""
    cdef Py_ssize_t n = parameters.shape[0]
    check_lengths(n, gradient.shape[0], velocity.shape[0])
    if n:
        with nogil:
            _sgd_momentum(&parameters[0], &gradient[0], &velocity[0], n, <floating>scale,
                          <floating>decay, <floating>lr, <floating>momentum)


def rmsprop(
    floating[::1] parameters, const floating[::1] gradient, floating[::1] square,
    double scale, double decay, double lr, double alpha, double eps,
):
    """One step of RMSprop; ``square`` is updated too."""
    cdef Py_ssize_t n = parameters.shape[0]
    check_lengths(n, gradient.shape[0], square.shape[0])
    if n:
        with nogil:
            _rmsprop(&parameters[0], &gradient[0], &square[0], n, <floating>scale, <floating>decay,
                     <floating>alpha, <floating>(1 - alpha), <floating>lr, <floating>eps)


def adam(
    floating[::1] parameters, const floating[::1] gradient, floating[::1] m, floating[::1] v,
    double scale, double decay, double shrink, double lr, double beta1, double beta2, double eps,
    Py_ssize_t t,
):
    """Step number ``t`` (from 1) of Adam; ``m`` and ``v`` are updated too."""
    cdef:
        Py_ssize_t n = parameters.shape[0]
        # In double, and rounded once: 1 - beta2 in float32 would be off by 1e-5.
        double step = lr / (1 - beta1 ** t), unbias = 1 / (1 - beta2 ** t)
    check_lengths(n, gradient.shape[0], m.shape[0], v.shape[0])
    if n:
        with nogil:
            _adam(&parameters[0], &gradient[0], &m[0], &v[0], n,
                  <floating>scale, <floating>decay, <floating>shrink,
                  <floating>beta1, <floating>(1 - beta1), <floating>beta2, <floating>(1 - beta2),
                  <floating>step, <floating>unbias, <floating>eps)
