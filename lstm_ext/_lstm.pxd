# What _lstm_general.pyx shares with _lstm.pyx. Private: not shipped.

from lstm_ext._arrays cimport Buffer
from lstm_ext._driver cimport sequences_t
from lstm_ext._kernels cimport lstm_kernels_s

cdef class Batch:
    cdef sequences_t seqs
    cdef Buffer _memory
    cdef object _times
    cdef bint alone
    cdef readonly Py_ssize_t total       # sum of the lengths
    cdef readonly Py_ssize_t starts      # saved states, over all blocks

    @staticmethod
    cdef Batch cut(
        Py_ssize_t batch, Py_ssize_t time, object lengths, object steps, Py_ssize_t weights,
        Py_ssize_t span, bint alone)

    @staticmethod
    cdef Batch whole(Py_ssize_t batch, Py_ssize_t time)

    cdef int fill(self, object lengths, object steps) except -1

cdef class Packed:
    cdef Buffer memory
    cdef Buffer source
    cdef Py_ssize_t nbytes
    cdef const lstm_kernels_s *s

    @staticmethod
    cdef Packed of(const lstm_kernels_s *s, const void *parameters, Py_ssize_t nbytes)

    cdef bint is_of(self, const lstm_kernels_s *s, const void *parameters) noexcept
