# The general driver, for _stack.pyx. Private: not shipped.

from cython cimport floating
from libc.stdint cimport uint32_t, uint64_t

from lstm_ext._driver cimport block_t, layer_t, sequences_t, work_t

# What a mask is drawn for.
cdef enum:
    DROPOUT
    RECURRENT_DROPOUT
    ZONE_C
    ZONE_H
    WEIGHT_DROPOUT

cdef void general_layout(layer_t *layer) noexcept nogil
cdef void general_work(
    const layer_t *layer, const sequences_t *seqs, int parts, bint backward, bint checkpointed,
    work_t *layout) noexcept nogil
cdef Py_ssize_t general_scratch(const layer_t *layer) noexcept nogil
cdef void general_pack(
    const layer_t *layer, const floating *parameters, bint backward, floating *packed,
    floating *scratch) noexcept nogil
cdef void general_begin(const block_t *block, floating *work) noexcept nogil
cdef void general_forward(
    block_t *block, Py_ssize_t begin, Py_ssize_t end, bint outputs, floating *work) noexcept nogil
cdef void general_backward(block_t *block, Py_ssize_t begin, Py_ssize_t end, floating *work) noexcept nogil
cdef void bernoulli_row(
    uint64_t seed, int kind, uint32_t stream, Py_ssize_t n, Py_ssize_t t, Py_ssize_t width,
    double probability, floating drawn, floating other, floating *row) noexcept nogil
