# What _lstm_general.pyx shares with _lstm.pyx. Private: not shipped.

from lstm_ext._driver cimport sequences_t

cdef class Buffer:
    cdef void *_block
    cdef char *data
    cdef readonly Py_ssize_t nbytes

    cdef int reserve(self, object nbytes) except -1

cdef class Array:
    cdef Py_buffer view
    cdef bint held
    cdef object owner            # the array itself
    cdef void *data
    cdef Py_ssize_t ndim
    cdef Py_ssize_t shape[3]
    cdef Py_ssize_t strides[3]

    cdef bint hold(self, object array, Py_ssize_t itemsize, int flags) except -1

cdef class Batch:
    cdef sequences_t seqs
    cdef Buffer _memory
    cdef object _times
    cdef bint alone
    cdef readonly Py_ssize_t total       # sum of the lengths
    cdef readonly Py_ssize_t starts      # saved states, over all blocks

    @staticmethod
    cdef Batch cut(
        Py_ssize_t batch, Py_ssize_t time, object lengths, object times, Py_ssize_t weights,
        Py_ssize_t span, bint alone)

    @staticmethod
    cdef Batch whole(Py_ssize_t batch, Py_ssize_t time)

    cdef int fill(self, object lengths, object times) except -1

cdef Array held(object value, str name, tuple expected, str meaning, bint is_float)
cdef Array held_copy(object array, bint is_float)
cdef Array held_output(object array, bint is_float)
