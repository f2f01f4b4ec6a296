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


cdef inline floating root(floating x) noexcept nogil:
    if floating is float:
        return sqrtf(x)
    else:
        return sqrt(x)


# ---- the functions for Python
#
# `decay` is the weight decay that belongs to the gradient, `shrink` the factor that is decoupled from it.
# What is double in a call is rounded once to the dtype of the vectors.

cdef Py_ssize_t length(Py_ssize_t n, Py_ssize_t gradient, Py_ssize_t first=-1,
                       Py_ssize_t second=-1) except -1:
    """n, or ValueError unless all vectors of a call are as long as the parameters."""
    if gradient != n or first not in (-1, n) or second not in (-1, n):
        raise ValueError(f"parameters have {n} elements; expected as many in each vector beside them")
    return n


def norm(const floating[::1] x):
    """Euclidean norm of x, as a float."""
    cdef double result = 0
    if x.shape[0]:  # `&x[0]` of an empty vector is never formed
        with nogil:
            result = _norm(&x[0], x.shape[0])
    return result


def scale(floating[::1] x, double factor):
    """x := factor x."""
    cdef Py_ssize_t k
    cdef floating by = <floating>factor
    with nogil:
        for k in range(x.shape[0]):
            x[k] *= by


def sgd(floating[::1] parameters, const floating[::1] gradient, double scale, double decay, double lr):
    """One step of gradient descent along ``scale * gradient + decay * parameters``."""
    cdef Py_ssize_t k, n = length(parameters.shape[0], gradient.shape[0])
    cdef floating a = <floating>scale, d = <floating>decay, rate = <floating>lr
    with nogil:
        for k in range(n):
            parameters[k] -= rate * (a * gradient[k] + d * parameters[k])


def sgd_momentum(floating[::1] parameters, const floating[::1] gradient, floating[::1] velocity, double scale,
                 double decay, double lr, double momentum):
    """One step of gradient descent with momentum; ``velocity`` is updated too."""
    cdef Py_ssize_t k, n = length(parameters.shape[0], gradient.shape[0], velocity.shape[0])
    cdef floating a = <floating>scale, d = <floating>decay, rate = <floating>lr, kept = <floating>momentum, v
    with nogil:
        for k in range(n):
            v = kept * velocity[k] + (a * gradient[k] + d * parameters[k])
            velocity[k] = v
            parameters[k] -= rate * v


def rmsprop(floating[::1] parameters, const floating[::1] gradient, floating[::1] square, double scale,
            double decay, double lr, double alpha, double eps):
    """One step of RMSprop; ``square`` is updated too."""
    cdef Py_ssize_t k, n = length(parameters.shape[0], gradient.shape[0], square.shape[0])
    cdef floating a = <floating>scale, d = <floating>decay, rate = <floating>lr, g, s
    cdef floating kept = <floating>alpha, gain = <floating>(1 - alpha), least = <floating>eps
    with nogil:
        for k in range(n):
            g = a * gradient[k] + d * parameters[k]
            s = kept * square[k] + gain * (g * g)
            square[k] = s
            parameters[k] -= rate * g / (root(s) + least)


def adam(floating[::1] parameters, const floating[::1] gradient, floating[::1] m, floating[::1] v,
         double scale, double decay, double shrink, double lr, double beta1, double beta2, double eps,
         Py_ssize_t t):
    """Step number ``t`` (from 1) of Adam; ``m`` and ``v`` are updated too."""
    cdef Py_ssize_t k, n = length(parameters.shape[0], gradient.shape[0], m.shape[0], v.shape[0])
    # In double, and rounded once: 1 - beta2 in float32 would be off by 1e-5.
    cdef floating step = <floating>(lr / (1 - beta1 ** t)), unbias = <floating>(1 / (1 - beta2 ** t))
    cdef floating kept1 = <floating>beta1, gain1 = <floating>(1 - beta1)
    cdef floating kept2 = <floating>beta2, gain2 = <floating>(1 - beta2)
    cdef floating a = <floating>scale, d = <floating>decay, factor = <floating>shrink, least = <floating>eps
    cdef floating g, m_k, v_k
    with nogil:
        for k in range(n):
            g = a * gradient[k] + d * parameters[k]
            m_k = kept1 * m[k] + gain1 * g
            v_k = kept2 * v[k] + gain2 * (g * g)
            m[k], v[k] = m_k, v_k
            parameters[k] = factor * parameters[k] - step * m_k / (root(unbias * v_k) + least)
