# The general drivers, for _lstm_general.pyx and cython_lstm.pyx. Private: not shipped.

from cython cimport floating
from libc.stdint cimport uint32_t, uint64_t

from lstm_ext._driver cimport layer_t, sequences_t, strides_t

# The parameters of one direction of one layer, in the order of the flat vector.
cdef enum:
    WEIGHT_IH
    WEIGHT_HH
    BIAS
    PEEPHOLE
    WEIGHT_HR
    NORM_IH
    NORM_HH
    NORM_C
    NORM_C_BIAS
    WORDS

# What a mask is drawn for.
cdef enum:
    DROPOUT
    RECURRENT_DROPOUT
    ZONE_C
    ZONE_H
    WEIGHT_DROPOUT

# One direction of one layer, with its options.
cdef struct general_t:
    layer_t layer
    Py_ssize_t out_size          # P: proj_size, or H
    bint projected
    double zone_h, zone_c        # zoneout's probabilities
    double recurrent_dropout
    bint random                  # masks are drawn; else zoneout mixes by its probabilities
    uint64_t seed
    uint32_t stream              # which layer and direction, for the masks
    Py_ssize_t at[9]             # where each word stands in the flat parameters; -1: absent

# Where packed weights lie in their buffer, in elements.
cdef struct panels_t:
    Py_ssize_t ih, hh, hr, ih_back, hh_back, hr_back
    Py_ssize_t vector[9]         # copies of the words that are vectors
    Py_ssize_t size

# Rows that forward leaves for backward, in the order of the steps. pre_x: with layer_norm W x_t, else
# all of the pre-activation; pre_h: with layer_norm alone; cells, fed: c_prev, and h_prev as the product
# saw it.
cdef struct rows_t:
    void *pre_x
    void *pre_h
    void *cells
    void *fed

# The arrays of one part of the computation: the numbers, or their tangents. NULL: zeros, or not wanted.
cdef struct part_t:
    const void *packed
    const void *x
    strides_t sx
    void *y
    strides_t sy
    const void *h_0
    const void *c_0
    void *h_n
    void *c_n
    const void *bias_rows        # (N, 4H) in place of the bias: static inputs
    void *starts_h               # the state before each span
    void *starts_c
    rows_t tape
    const void *dy
    strides_t sdy
    void *dx
    strides_t sdx
    const void *dh_n
    const void *dc_n
    void *dh_0
    void *dc_0
    void *dbias_rows             # (N, 4H)
    void *partial                # n_groups weight gradients; wanted of the last part alone

cdef struct run_t:
    int parts                    # 1: numbers; 2: with tangents
    part_t part[2]
    void *gates                  # (rows, 4H) activated, of the whole batch, or NULL
    void *cells                  # (rows, H) c_t, beside gates
    bint add_dx

cdef Py_ssize_t word_size(const general_t *g, int word) noexcept nogil
cdef panels_t panels_layout(const general_t *g, bint is_double) noexcept nogil
cdef Py_ssize_t partial_size(const general_t *g, bint is_double) noexcept nogil
cdef Py_ssize_t general_workspace(
    const general_t *g, const sequences_t *seqs, int parts, bint backward, bint checkpointed,
    bint is_double) noexcept nogil
cdef void pack_general(
    const general_t *g, const floating *parameters, bint backward, floating *packed,
    floating *scratch) noexcept nogil
cdef void general_forward(
    const general_t *g, const sequences_t *seqs, const run_t *run, floating *work, Py_ssize_t work_size,
    int n_threads) noexcept nogil
cdef void general_backward(
    const general_t *g, const sequences_t *seqs, const run_t *run, floating *work, Py_ssize_t work_size,
    int n_threads) noexcept nogil
cdef void add_general_partials(
    const general_t *g, const sequences_t *seqs, const floating *partial,
    floating *gradient) noexcept nogil
cdef void bernoulli_row(
    uint64_t seed, int kind, uint32_t stream, Py_ssize_t n, Py_ssize_t t, Py_ssize_t width,
    double probability, floating drawn, floating other, floating *row) noexcept nogil
