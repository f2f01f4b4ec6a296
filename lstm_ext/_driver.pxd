# The drivers, for _lstm.pyx and cython_lstm.pyx. Private: not shipped.

from cython cimport floating

from lstm_ext._kernels cimport lstm_cell, lstm_kernels_d, lstm_kernels_s

# The sequences of a batch, longest first, and the blocks that they are cut into.
cdef struct sequences_t:
    Py_ssize_t batch
    Py_ssize_t time
    Py_ssize_t n_blocks
    Py_ssize_t n_groups          # of blocks: each has a weight gradient of its own
    const Py_ssize_t *order      # (batch,) the caller's index of the sequence at this position
    const Py_ssize_t *lengths    # (batch,) by position, descending
    const Py_ssize_t *block      # (n_blocks + 1,) first position of each block
    const Py_ssize_t *row        # (n_blocks + 1,) first row of each block: the lengths before it, added up
    const Py_ssize_t *start      # (n_blocks + 1,) first saved state of each block
    Py_ssize_t span              # steps between saved states (checkpoints); at least 1
    const Py_ssize_t *times      # (batch, time) by the caller's index: the steps that count; NULL: 0, 1, ...

# One direction of one layer.
cdef struct layer_t:
    const lstm_kernels_s *s      # what its weights were packed with
    const lstm_kernels_d *d
    lstm_cell cell
    Py_ssize_t input_size
    Py_ssize_t hidden_size
    bint reverse
    Py_ssize_t chunk_rows        # rows that one chunk of time steps aims at
    Py_ssize_t gate_columns
    Py_ssize_t xh_columns        # I + H in whole vectors

# Where packed weights lie in their buffer, in elements.
cdef struct packed_t:
    Py_ssize_t weight_ih
    Py_ssize_t weight_hh
    Py_ssize_t bias
    Py_ssize_t weight_ih_back    # from here on: for backward only
    Py_ssize_t weight_hh_back
    Py_ssize_t forward_size
    Py_ssize_t size

# One element of a caller's array is base[n * stride_n + t * stride_t + feature].
cdef struct strides_t:
    Py_ssize_t n
    Py_ssize_t t

cdef struct weights_t:
    Py_ssize_t weight_ih         # offsets into the flat parameters
    Py_ssize_t weight_hh
    Py_ssize_t bias

cdef layer_t default_layer(
    const lstm_kernels_s *s, const lstm_kernels_d *d, bint is_double, int activation, Py_ssize_t input_size,
    Py_ssize_t hidden_size, bint reverse) noexcept nogil
cdef weights_t weights_at(
    Py_ssize_t input_size, Py_ssize_t hidden_size, Py_ssize_t directions, Py_ssize_t layer,
    Py_ssize_t direction) noexcept nogil

cdef void shape_blocks(
    sequences_t *seqs, Py_ssize_t batch, Py_ssize_t time, Py_ssize_t block_size, Py_ssize_t max_groups,
    Py_ssize_t span) noexcept nogil
cdef void shape_sequences(
    sequences_t *seqs, Py_ssize_t batch, Py_ssize_t time, Py_ssize_t weights,
    Py_ssize_t span, bint alone) noexcept nogil
cdef Py_ssize_t sequences_memory(const sequences_t *seqs) noexcept nogil
cdef void cut_sequences(
    sequences_t *seqs, const Py_ssize_t *lengths, Py_ssize_t *memory) noexcept nogil

cdef Py_ssize_t partial_size(const layer_t *layer) noexcept nogil
cdef Py_ssize_t largest_block(const sequences_t *seqs) noexcept nogil
cdef packed_t packed_layout(const layer_t *layer, bint is_double) noexcept nogil
cdef Py_ssize_t forward_workspace(const layer_t *layer, const sequences_t *seqs) noexcept nogil
cdef Py_ssize_t backward_workspace(
    const layer_t *layer, const sequences_t *seqs, bint checkpointed, bint is_double) noexcept nogil

cdef void pack_weights(
    const layer_t *layer, const weights_t *at, const floating *parameters, bint backward,
    floating *packed) noexcept nogil

cdef void forward(
    const layer_t *layer, const sequences_t *seqs, const floating *packed,
    const floating *x, strides_t sx, floating *y, strides_t sy,
    const floating *h_0, const floating *c_0, floating *h_n, floating *c_n,
    floating *starts_h, floating *starts_c, floating *gates, floating *cells,
    floating *work, Py_ssize_t work_size, int n_threads) noexcept nogil

cdef void backward(
    const layer_t *layer, const sequences_t *seqs, const floating *packed,
    const floating *x, strides_t sx, const floating *dy, strides_t sdy,
    floating *dx, strides_t sdx, bint add_dx,
    const floating *dh_n, const floating *dc_n, floating *dh_0, floating *dc_0,
    const floating *starts_h, const floating *starts_c, const floating *gates, const floating *cells,
    floating *partial, floating *work, Py_ssize_t work_size, int n_threads) noexcept nogil

cdef void add_partials(
    const layer_t *layer, const sequences_t *seqs, const weights_t *at, const floating *partial,
    floating *gradient) noexcept nogil

cdef void step(
    const layer_t *layer, const floating *packed, Py_ssize_t batch, const floating *x, Py_ssize_t ldx,
    const floating *h_prev, floating *h, floating *c, floating *pre) noexcept nogil

# ---- shared with the general driver

cdef Py_ssize_t time_of(
    const layer_t *layer, const sequences_t *seqs, Py_ssize_t position, Py_ssize_t s) noexcept nogil
cdef void add_row(Py_ssize_t n, const floating *source, floating *target) noexcept nogil
cdef void gather(
    const layer_t *layer, const sequences_t *seqs, Py_ssize_t first, Py_ssize_t alive, Py_ssize_t s,
    Py_ssize_t width, const floating *x, strides_t sx, floating *rows, Py_ssize_t ld) noexcept nogil
cdef void gather_add(
    const layer_t *layer, const sequences_t *seqs, Py_ssize_t first, Py_ssize_t alive, Py_ssize_t s,
    Py_ssize_t width, const floating *x, strides_t sx, floating *rows) noexcept nogil
cdef void scatter(
    const layer_t *layer, const sequences_t *seqs, Py_ssize_t first, Py_ssize_t alive, Py_ssize_t s,
    Py_ssize_t width, const floating *rows, floating *y, strides_t sy, bint add) noexcept nogil
cdef void clear_padding(
    const sequences_t *seqs, Py_ssize_t first, Py_ssize_t last, Py_ssize_t width, floating *y,
    strides_t sy) noexcept nogil
cdef void load_states(
    const sequences_t *seqs, Py_ssize_t first, Py_ssize_t last, Py_ssize_t H, const floating *states,
    floating *rows) noexcept nogil
cdef void save_states(
    const sequences_t *seqs, Py_ssize_t first, Py_ssize_t last, Py_ssize_t H, const floating *rows,
    floating *states) noexcept nogil
cdef Py_ssize_t alive_at(
    const sequences_t *seqs, Py_ssize_t first, Py_ssize_t last, Py_ssize_t s) noexcept nogil
