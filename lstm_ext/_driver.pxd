# What both drivers take, the sequences of a batch, and the driver of the default cell. For _general.pyx and
# _stack.pyx. Private: not shipped.

from cython cimport floating
from libc.stdint cimport uint32_t, uint64_t

from lstm_ext._arrays cimport aligned, plus
from lstm_ext._kernels cimport lstm_cell, lstm_hints, lstm_kernels_d, lstm_kernels_s

# The kinds of parameters of one direction of one layer, in the order of the flat vector.
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
    KINDS

# The drivers: what packs, computes and keeps rows in one way.
cdef enum:
    DEFAULT
    GENERAL
    DRIVERS

# The sequences of a batch, longest first, and the blocks that they are cut into.
cdef struct sequences_t:
    Py_ssize_t batch
    Py_ssize_t time
    Py_ssize_t n_blocks
    Py_ssize_t n_groups          # of blocks: each has a weight gradient of its own
    Py_ssize_t total             # sum of the lengths: the rows; until they are known, the most of them
    Py_ssize_t starts            # saved states, over all blocks; likewise
    const Py_ssize_t *order      # (batch,) the caller's index of the sequence at this position
    const Py_ssize_t *lengths    # (batch,) by position, descending
    const Py_ssize_t *block      # (n_blocks + 1,) first position of each block
    const Py_ssize_t *row        # (n_blocks + 1,) first row of each block: the lengths before it, added up
    const Py_ssize_t *start      # (n_blocks + 1,) first saved state of each block
    Py_ssize_t span              # steps between saved states (checkpoints); at least 1
    const Py_ssize_t *times      # (batch, time) by the caller's index: the steps that count; NULL: 0, 1, ...

# Where a driver's packed weights lie in their buffer, in elements.
cdef struct packed_t:
    Py_ssize_t ih, hh, hr
    Py_ssize_t vector[9]         # of the kinds that are vectors; -1: absent
    Py_ssize_t forward_size
    Py_ssize_t ih_back, hh_back, hr_back  # from here on: for backward only
    Py_ssize_t size

# A weight gradient in the making, in elements: where each kind stands, and how far apart its rows are.
cdef struct partial_t:
    Py_ssize_t at[9]             # -1: absent
    Py_ssize_t ld[9]
    Py_ssize_t size

# A layer: what its directions have in common.
cdef struct layer_t:
    const lstm_kernels_s *s      # what its weights are packed with
    const lstm_kernels_d *d
    bint is_double
    lstm_cell cell
    Py_ssize_t input_size
    Py_ssize_t hidden_size
    Py_ssize_t out_size          # P: proj_size, or H
    bint projected
    double zone_h, zone_c        # zoneout's probabilities
    double recurrent_dropout
    Py_ssize_t rows[9]           # of each kind of parameter; 0: absent
    Py_ssize_t columns[9]
    Py_ssize_t at[9]             # offset from the first parameter of the direction; -1: absent
    Py_ssize_t count             # parameters of a direction
    Py_ssize_t tile_rows         # rows of a product that fewer cost as much as; else 1
    Py_ssize_t chunk_rows        # rows that one chunk of time steps aims at
    Py_ssize_t gate_columns      # as the default driver has them
    Py_ssize_t xh_columns        # I + H in whole vectors, likewise
    packed_t packed[2]           # of each driver
    partial_t partial[2]

# One element of a caller's array is base[n * stride_n + t * stride_t + feature].
cdef struct strides_t:
    Py_ssize_t n
    Py_ssize_t t

# Rows that forward leaves for backward, in the order of the steps. The default driver's: gates, activated,
# and cells, c_t. The general one's: gates, the pre-activation, or with layer_norm W x_t; pre_h, U h_prev,
# with layer_norm alone; cells, c_prev; fed, h_prev as the product saw it.
cdef struct rows_t:
    void *gates
    void *pre_h
    void *cells
    void *fed

# The arrays of one part of a computation: the numbers, or their tangents. NULL: zeros, or not wanted.
cdef struct part_t:
    const void *packed
    const void *x
    void *y
    const void *h_0
    const void *c_0
    void *h_n
    void *c_n
    const void *bias_rows        # (N, 4H) in place of the bias: static inputs
    void *starts_h               # the state before each span
    void *starts_c
    rows_t rows
    const void *dy
    void *dx
    const void *dh_n
    const void *dc_n
    void *dh_0
    void *dc_0
    void *dbias_rows             # (N, 4H)
    strides_t sx, sy, sdy, sdx

# Offsets into one thread's workspace; of two parts, each array but the masks twice. A driver sets those that
# it uses.
cdef struct work_t:
    Py_ssize_t x[2]              # rows of a chunk, x; in backward in whole vectors
    Py_ssize_t pre_x[2]
    Py_ssize_t pre_h[2]
    Py_ssize_t h[2]              # the state of a block
    Py_ssize_t h_next            # the default driver's: steps change between the two
    Py_ssize_t c[2]
    Py_ssize_t m[2]
    Py_ssize_t fed[2]
    Py_ssize_t bias[2]           # rows of static inputs
    Py_ssize_t scratch[2]
    Py_ssize_t dh[2]
    Py_ssize_t dm[2]
    Py_ssize_t dc[2]
    Py_ssize_t dh_prev[2]
    Py_ssize_t dpre_x[2]         # rows of a chunk
    Py_ssize_t dpre_h[2]
    Py_ssize_t xh                # the default driver's [x, h_prev], in whole vectors
    Py_ssize_t fed_rows[2]       # of a chunk, in whole vectors
    Py_ssize_t m_rows[2]
    Py_ssize_t dh_rows[2]
    Py_ssize_t dx[2]
    Py_ssize_t dbias[2]
    Py_ssize_t again_gates[2]    # the rows of a span, under checkpointing
    Py_ssize_t again_pre_h[2]
    Py_ssize_t again_cells[2]
    Py_ssize_t again_fed[2]
    Py_ssize_t term              # a product of the tangent
    Py_ssize_t gates             # of a step, to be given back
    Py_ssize_t zone_c
    Py_ssize_t zone_h
    Py_ssize_t mask              # of recurrent dropout
    Py_ssize_t gradient          # weight_gradient's scratch
    Py_ssize_t size

# What a driver is called with: one direction of one layer. The arrays are the batch's, whole.
cdef struct run_t:
    int driver
    const layer_t *layer
    const sequences_t *seqs
    bint reverse                 # each sequence from its end
    bint add_dx                  # another direction has filled dx
    bint again                   # backward computes the rows of each span again: no tape has them
    bint random                  # masks are drawn; else zoneout mixes by its probabilities
    uint32_t stream              # which layer and direction, for the masks
    uint64_t seed
    int parts                    # 1: numbers; 2: with tangents
    part_t part[2]
    void *gates[5]               # i, f, g, o activated and c_t, (N, T, H) each; or NULL
    void *partial                # n_groups weight gradients, filled: of the last part alone
    void *work                   # n_threads times what `layout` says
    const work_t *layout
    int n_threads

# A block of sequences on its way through a pass. Arrays of the state before a span are (sequences, H), rows
# those of the span.
cdef struct block_t:
    const run_t *run
    Py_ssize_t first, last       # positions of its sequences: first .. last - 1
    void *h[2]                   # the state
    void *h_next                 # the default driver's: steps change between the two
    rows_t rows[2]
    const void *h_start          # the default driver's: h, c before the span
    const void *c_start
    void *partial                # the weight gradient, added to

cdef inline Py_ssize_t take(Py_ssize_t *size, Py_ssize_t n) noexcept nogil:
    """The offset of n more elements in a buffer of size[0] so far."""
    cdef Py_ssize_t offset = size[0]
    size[0] = plus(offset, aligned(n))
    return offset


cdef inline strides_t contiguous(Py_ssize_t batch, Py_ssize_t time, Py_ssize_t width,
                                 bint batch_first) noexcept nogil:
    """Strides of a dense array (batch, time, width), or (time, batch, width)."""
    cdef strides_t s
    if batch_first:
        s.n, s.t = time * width, width
    else:
        s.n, s.t = width, batch * width
    return s


cdef void shape_blocks(
    sequences_t *seqs, Py_ssize_t batch, Py_ssize_t time, Py_ssize_t block_size, Py_ssize_t max_groups,
    Py_ssize_t span) noexcept nogil
cdef void shape_sequences(
    sequences_t *seqs, Py_ssize_t batch, Py_ssize_t time, Py_ssize_t weights,
    Py_ssize_t span, Py_ssize_t tile_rows, bint alone) noexcept nogil
cdef Py_ssize_t sequences_memory(const sequences_t *seqs) noexcept nogil
cdef void cut_sequences(
    sequences_t *seqs, const Py_ssize_t *lengths, Py_ssize_t *memory) noexcept nogil

cdef void default_layout(layer_t *layer) noexcept nogil
cdef void default_work(
    const layer_t *layer, const sequences_t *seqs, bint backward, bint checkpointed,
    work_t *layout) noexcept nogil
cdef void default_pack(
    const layer_t *layer, const floating *parameters, bint backward, floating *packed) noexcept nogil
cdef void default_forward(
    block_t *block, Py_ssize_t begin, Py_ssize_t end, bint outputs, floating *work) noexcept nogil
cdef void default_backward(block_t *block, Py_ssize_t begin, Py_ssize_t end, floating *work) noexcept nogil
cdef void default_step(
    const layer_t *layer, const void *packed, Py_ssize_t batch, const void *x, Py_ssize_t ldx,
    const void *h_prev, const void *c_prev, void *h, void *c, void *pre) noexcept nogil

# ---- shared with the general driver

cdef Py_ssize_t largest_block(const sequences_t *seqs) noexcept nogil
cdef void product(
    const layer_t *layer, Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t cols, const floating *a,
    const floating *panels, floating *c, lstm_hints hints) noexcept nogil
cdef void weight_gradient(
    const layer_t *layer, Py_ssize_t rows, Py_ssize_t M, Py_ssize_t cols, const floating *d,
    const floating *a, floating *partial, floating *scratch) noexcept nogil
cdef Py_ssize_t time_of(const block_t *block, Py_ssize_t n, Py_ssize_t s) noexcept nogil
cdef void add_row(Py_ssize_t n, const floating *source, floating *target) noexcept nogil
cdef void gather(
    const block_t *block, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t width, const floating *x, strides_t sx,
    floating *rows, Py_ssize_t ld) noexcept nogil
cdef void gather_add(
    const block_t *block, Py_ssize_t alive, Py_ssize_t s, Py_ssize_t width, const floating *x, strides_t sx,
    floating *rows) noexcept nogil
cdef void scatter(
    const block_t *block, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t width, const floating *rows,
    Py_ssize_t ld, floating *y, strides_t sy, bint add) noexcept nogil
cdef void clear_padding(
    const block_t *block, Py_ssize_t width, floating *y, strides_t sy) noexcept nogil
cdef void load_rows(
    const block_t *block, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t width, const floating *states,
    floating *rows) noexcept nogil
cdef void save_rows(
    const block_t *block, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t width, const floating *rows,
    floating *states) noexcept nogil
cdef void load_states(
    const block_t *block, Py_ssize_t begin, Py_ssize_t end, const void *h_states, const void *c_states,
    floating *h, floating *c) noexcept nogil
cdef void save_states(
    const block_t *block, Py_ssize_t begin, Py_ssize_t end, const floating *h, const floating *c,
    void *h_states, void *c_states) noexcept nogil
cdef Py_ssize_t alive_at(const block_t *block, Py_ssize_t s) noexcept nogil
cdef Py_ssize_t rows_of(const block_t *block, Py_ssize_t begin, Py_ssize_t end) noexcept nogil
