# Memory, callers' arrays, sizes, owners and locks, for the other extensions. Private: not shipped.

from libc.stdint cimport uint64_t

cdef extern from "sizes.h" nogil:
    const Py_ssize_t TOO_LARGE "LSTM_TOO_LARGE"
    Py_ssize_t times "lstm_times"(Py_ssize_t a, Py_ssize_t b)
    Py_ssize_t plus "lstm_plus"(Py_ssize_t a, Py_ssize_t b)
    Py_ssize_t round_up "lstm_round_up"(Py_ssize_t n, Py_ssize_t k)


cdef extern from "silence.h" nogil:
    uint64_t silence "lstm_silence"()
    void end_silence "lstm_end_silence"(uint64_t mode)


cdef inline Py_ssize_t times3(Py_ssize_t a, Py_ssize_t b, Py_ssize_t c) noexcept nogil:
    return times(times(a, b), c)


cdef inline Py_ssize_t ceil_div(Py_ssize_t n, Py_ssize_t k) noexcept nogil:
    """n / k, rounded up."""
    return n // k + (n % k != 0)


cdef inline Py_ssize_t line(Py_ssize_t nbytes) noexcept nogil:
    """nbytes rounded up to whole cache lines."""
    return round_up(nbytes, 64)


cdef inline Py_ssize_t aligned(Py_ssize_t n) noexcept nogil:
    """n rounded up, so that the next piece of a buffer starts on a cache line of its own."""
    return round_up(n, 16)


cdef inline bint countable(Py_ssize_t nbytes) noexcept nogil:
    """Whether so many bytes, and a cache line, can be counted."""
    return nbytes < TOO_LARGE - 64


cdef int check_size(Py_ssize_t nbytes, str name) except -1

cdef class Buffer:
    cdef void *_block
    cdef char *data
    cdef readonly Py_ssize_t nbytes

    cdef int reserve(self, Py_ssize_t nbytes) except -1

cdef class Array:
    cdef Py_buffer view
    cdef bint held
    cdef object owner            # the array itself
    cdef void *data
    cdef Py_ssize_t ndim
    cdef Py_ssize_t shape[3]
    cdef Py_ssize_t strides[3]

    cdef bint hold(self, object array, Py_ssize_t itemsize, int flags) except -1

cdef tuple shape_of(Array a)
cdef Array held_as_it_is(object value, bint is_float)
cdef Array held(object value, str name, tuple expected, str meaning, bint is_float)
cdef Array held_copy(object array, bint is_float)
cdef Array held_output(object array, bint is_float)
cdef void *data_of(object array) except NULL

cdef class Owner:
    cdef str name
    cdef bint busy
    cdef unsigned long thread
    cdef Py_ssize_t generation

    cdef int take(self) except -1
    cdef void give(self) noexcept

cdef class TapeOwner(Owner):
    cdef readonly object tape
    cdef public object kind, missing

cdef class Lock:
    cdef object lock
    cdef str name
    cdef bint reentrant, held
    cdef unsigned long thread
    cdef Py_ssize_t generation

    cdef object current(self)
