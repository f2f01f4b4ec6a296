# cython: language_level=3, wraparound=False, cdivision=True
"""The drivers: the loops over time, over blocks of sequences and over threads.

Everything here is nogil, allocates nothing and raises nothing; buffers are the caller's and have
been checked. Products and cells are named through the kernel tables, so that the same loop serves
every instruction set, BLAS, and both dtypes.

Sequences come sorted by length, longest first. A *block* of neighbours runs through all its steps
by itself: blocks are what threads share out. Step s of a block has as many *rows* as sequences are
still alive, and rows of one step stand together, so that what backward needs is dense. Within a
block, steps go in *chunks*: what does not wait for the recurrence (the input's share of the
pre-activations; dx; the weight gradient) is one product a chunk. A *span* is what lies between two
saved states: the whole sequence, or the stretch that is computed again under checkpointing.
"""
from cython.parallel cimport prange, threadid
from libc.limits cimport INT_MAX
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from lstm_ext._arrays cimport (
    aligned,
    ceil_div,
    end_silence,
    plus,
    round_up,
    silence,
    times,
    times3,
)


cdef extern from "threads.h":
    pass


# ---- the tables, for either dtype


cdef inline void project(const layer_t *L, Py_ssize_t rows, const floating *a, Py_ssize_t lda,
                         const floating *panels, const floating *bias, floating *pre) noexcept nogil:
    if floating is float:
        L.s.project(rows, L.hidden_size, L.input_size, a, lda, panels, bias, pre)
    else:
        L.d.project(rows, L.hidden_size, L.input_size, a, lda, panels, bias, pre)


cdef inline void product(const layer_t *L, Py_ssize_t rows, Py_ssize_t cols, const floating *dgates,
                         const floating *panels, floating *c, bint odd) noexcept nogil:
    if floating is float:
        L.s.product(rows, 4 * L.hidden_size, cols, dgates, 4 * L.hidden_size, panels, c, odd, False)
    else:
        L.d.product(rows, 4 * L.hidden_size, cols, dgates, 4 * L.hidden_size, panels, c, odd, False)


cdef inline void weight_gradient(const layer_t *L, Py_ssize_t rows, const floating *dgates,
                                 const floating *xh, floating *dweight,
                                 floating *scratch) noexcept nogil:
    if floating is float:
        L.s.weight_gradient(rows, 4 * L.hidden_size, L.xh_columns, dgates, xh, dweight, scratch)
    else:
        L.d.weight_gradient(rows, 4 * L.hidden_size, L.xh_columns, dgates, xh, dweight, scratch)


cdef inline void column_sums(const layer_t *L, Py_ssize_t rows, const floating *dgates,
                             floating *sums) noexcept nogil:
    if floating is float:
        L.s.column_sums(rows, 4 * L.hidden_size, dgates, sums)
    else:
        L.d.column_sums(rows, 4 * L.hidden_size, dgates, sums)


cdef inline Py_ssize_t gradient_scratch(const layer_t *L, Py_ssize_t rows,
                                        bint is_double) noexcept nogil:
    if is_double:
        return aligned(L.d.gradient_scratch(rows, 4 * L.hidden_size, L.xh_columns))
    return aligned(L.s.gradient_scratch(rows, 4 * L.hidden_size, L.xh_columns))


cdef inline void step_forward(const layer_t *L, Py_ssize_t rows, floating *pre, const floating *h_prev,
                              const floating *panels, const floating *c_prev, floating *c, floating *h,
                              floating *gates, bint odd) noexcept nogil:
    if floating is float:
        L.s.step_forward(&L.cell, rows, L.hidden_size, pre, h_prev, panels, c_prev, c, h, gates, odd)
    else:
        L.d.step_forward(&L.cell, rows, L.hidden_size, pre, h_prev, panels, c_prev, c, h, gates, odd)


cdef inline void cell_backward(const layer_t *L, Py_ssize_t rows, const floating *gates,
                               const floating *c, const floating *c_prev, const floating *dh,
                               floating *dc, floating *dgates, floating *h,
                               Py_ssize_t ldh) noexcept nogil:
    if floating is float:
        L.s.cell_backward(&L.cell, rows, L.hidden_size, gates, c, c_prev, dh, dc, dgates, h, ldh)
    else:
        L.d.cell_backward(&L.cell, rows, L.hidden_size, gates, c, c_prev, dh, dc, dgates, h, ldh)


cdef inline void cell_output(const layer_t *L, Py_ssize_t rows, const floating *gates,
                             const floating *c, floating *h, Py_ssize_t ldh) noexcept nogil:
    if floating is float:
        L.s.cell_output(&L.cell, rows, L.hidden_size, gates, c, h, ldh)
    else:
        L.d.cell_output(&L.cell, rows, L.hidden_size, gates, c, h, ldh)


# ---- layouts of buffers, in elements


# A size that does not fit becomes TOO_LARGE, here and in every sum of it, until an allocation refuses it.

cdef Py_ssize_t largest_block(const sequences_t *seqs) noexcept nogil:
    """Sequences of the largest block: they are cut as evenly as can be."""
    return ceil_div(seqs.batch, seqs.n_blocks) if seqs.n_blocks else 0


cdef packed_t packed_layout(const layer_t *L, bint is_double) noexcept nogil:
    cdef Py_ssize_t H = L.hidden_size, I = L.input_size
    cdef packed_t at
    at.weight_ih = 0
    at.weight_hh = aligned(L.d.gates_size(H, I) if is_double else L.s.gates_size(H, I))
    at.bias = plus(at.weight_hh, aligned(L.d.gates_size(H, H) if is_double else L.s.gates_size(H, H)))
    at.forward_size = at.weight_ih_back = plus(at.bias, aligned(L.gate_columns))
    if is_double:
        at.weight_hh_back = plus(at.weight_ih_back, aligned(L.d.packed_size(4 * H, I)))
        at.size = plus(at.weight_hh_back, aligned(L.d.packed_size(4 * H, H)))
    else:
        at.weight_hh_back = plus(at.weight_ih_back, aligned(L.s.packed_size(4 * H, I)))
        at.size = plus(at.weight_hh_back, aligned(L.s.packed_size(4 * H, H)))
    return at


cdef Py_ssize_t partial_size(const layer_t *L) noexcept nogil:
    """Of a weight gradient in the making: (4H, xh_columns) of weights, (4H,) of biases."""
    return aligned(times3(4, L.hidden_size, L.xh_columns + 1))


cdef inline Py_ssize_t most_rows(const layer_t *L, const sequences_t *seqs) noexcept nogil:
    """Rows of a chunk at the most: whole steps up to chunk_rows, but one step at least."""
    return max(L.chunk_rows, largest_block(seqs))


cdef Py_ssize_t span_workspace(const layer_t *L, const sequences_t *seqs) noexcept nogil:
    cdef Py_ssize_t rows = most_rows(L, seqs)
    return plus(aligned(times(rows, L.input_size)), aligned(times(rows, L.gate_columns)))


cdef Py_ssize_t forward_workspace(const layer_t *L, const sequences_t *seqs) noexcept nogil:
    return plus(span_workspace(L, seqs), times(3, aligned(times(largest_block(seqs), L.hidden_size))))


cdef Py_ssize_t backward_workspace(const layer_t *L, const sequences_t *seqs, bint checkpointed,
                                   bint is_double) noexcept nogil:
    cdef Py_ssize_t rows = most_rows(L, seqs), n = largest_block(seqs), H = L.hidden_size
    cdef Py_ssize_t size = times(2, aligned(times(n, H)))
    size = plus(size, aligned(times3(4, rows, H)))
    size = plus(size, aligned(times(rows, L.xh_columns)))
    size = plus(size, aligned(times(rows, L.input_size)))
    size = plus(size, gradient_scratch(L, rows, is_double))
    if checkpointed:
        size = plus(size, aligned(times3(4, seqs.span, times(n, H))))
        size = plus(size, aligned(times3(seqs.span, n, H)))
        size = plus(size, plus(times(2, aligned(times(n, H))), span_workspace(L, seqs)))
    return size


cdef void pack_weights(const layer_t *L, const weights_t *at, const floating *parameters,
                       bint backward, floating *packed) noexcept nogil:
    cdef packed_t to = packed_layout(L, floating is double)
    cdef Py_ssize_t H = L.hidden_size, I = L.input_size
    cdef const floating *weight_ih = parameters + at.weight_ih
    cdef const floating *weight_hh = parameters + at.weight_hh
    cdef const floating *bias = parameters + at.bias
    if floating is float:
        L.s.pack_gates(H, I, weight_ih, packed + to.weight_ih)
        L.s.pack_gates(H, H, weight_hh, packed + to.weight_hh)
        L.s.pack_bias(H, bias, packed + to.bias)
        if backward:
            L.s.pack(4 * H, I, weight_ih, packed + to.weight_ih_back)
            L.s.pack(4 * H, H, weight_hh, packed + to.weight_hh_back)
    else:
        L.d.pack_gates(H, I, weight_ih, packed + to.weight_ih)
        L.d.pack_gates(H, H, weight_hh, packed + to.weight_hh)
        L.d.pack_bias(H, bias, packed + to.bias)
        if backward:
            L.d.pack(4 * H, I, weight_ih, packed + to.weight_ih_back)
            L.d.pack(4 * H, H, weight_hh, packed + to.weight_hh_back)


# ---- layers, and the sequences of a batch


cdef layer_t default_layer(const lstm_kernels_s *s, const lstm_kernels_d *d, bint is_double, int activation,
                           Py_ssize_t I, Py_ssize_t H, bint reverse) noexcept nogil:
    cdef layer_t L
    cdef Py_ssize_t lanes = d.lanes if is_double else s.lanes
    L.s, L.d = s, d
    L.cell.cell_activation = activation
    L.input_size, L.hidden_size, L.reverse = I, H, reverse
    L.gate_columns = d.gate_columns(H) if is_double else s.gate_columns(H)
    L.xh_columns = round_up(plus(I, H), lanes)
    L.chunk_rows = 96
    return L


cdef weights_t weights_at(Py_ssize_t I, Py_ssize_t H, Py_ssize_t D, Py_ssize_t layer,
                          Py_ssize_t direction) noexcept nogil:
    """Where in the flat parameters of a stack the weights of a layer's direction stand."""
    cdef Py_ssize_t first = times3(4, H, plus(plus(I, H), 1))
    cdef Py_ssize_t other = times3(4, H, plus(plus(times(D, H), H), 1))
    cdef weights_t at
    at.weight_ih = 0 if layer == 0 else plus(times(D, first), times3(layer - 1, D, other))
    at.weight_ih = plus(at.weight_ih, times(direction, first if layer == 0 else other))
    at.weight_hh = plus(at.weight_ih, times3(4, H, I if layer == 0 else times(D, H)))
    at.bias = plus(at.weight_hh, times3(4, H, H))
    return at


cdef void shape_blocks(sequences_t *seqs, Py_ssize_t batch, Py_ssize_t time, Py_ssize_t block_size,
                       Py_ssize_t max_groups, Py_ssize_t span) noexcept nogil:
    """The numbers of `seqs`, which all sizes of buffers depend on; its arrays are cut_sequences'."""
    seqs.batch, seqs.time, seqs.span = batch, time, span
    seqs.n_blocks = ceil_div(batch, block_size)
    seqs.n_groups = min(seqs.n_blocks, max_groups)
    seqs.order = seqs.lengths = seqs.block = seqs.row = seqs.start = seqs.times = NULL


cdef void shape_sequences(sequences_t *seqs, Py_ssize_t batch, Py_ssize_t time, Py_ssize_t weights,
                          Py_ssize_t span, bint alone) noexcept nogil:
    """`shape_blocks` for a layer whose weights take that many bytes.

    alone: it is inference in one thread, whose rows have the same bits whatever block they are in.
    """
    # Small enough that two threads share a batch of 16, large enough that a panel of weights
    # that came from L3 serves many rows. By shapes alone: bits do not depend on threads.
    cdef Py_ssize_t block_size = 16 if weights <= 512 * 1024 else 32
    if alone:
        block_size *= 2  # nobody to share with: what is read once serves more rows
    elif 16 <= batch < 2 * block_size:
        block_size = (batch + 1) // 2
    shape_blocks(seqs, batch, time, block_size,
                 min(max(<Py_ssize_t>4, 32 * 1024 * 1024 // weights), <Py_ssize_t>16), span)


cdef Py_ssize_t sequences_memory(const sequences_t *seqs) noexcept nogil:
    """Elements of Py_ssize_t that cut_sequences fills."""
    return plus(times(2, seqs.batch), times(3, plus(seqs.n_blocks, 1)))


cdef inline bint longer(const Py_ssize_t *lengths, Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    return lengths[m] > lengths[n] or (lengths[m] == lengths[n] and m < n)


cdef void sort_by_length(Py_ssize_t batch, const Py_ssize_t *lengths, Py_ssize_t *order) noexcept nogil:
    """order = the indices of `lengths`, longest first, equal ones as they stand (heapsort, in place)."""
    cdef Py_ssize_t n, root, child, end = batch, start = batch // 2
    for n in range(batch):
        order[n] = n
    while end > 1:
        if start > 0:
            start -= 1
        else:
            end -= 1
            order[0], order[end] = order[end], order[0]
        root, child = start, 2 * start + 1
        while child < end:
            if child + 1 < end and longer(lengths, order[child], order[child + 1]):
                child += 1
            if not longer(lengths, order[root], order[child]):
                break
            order[root], order[child] = order[child], order[root]
            root, child = child, 2 * child + 1


cdef void cut_sequences(sequences_t *seqs, const Py_ssize_t *lengths, Py_ssize_t *memory) noexcept nogil:
    """The arrays of `seqs`, which has been shaped: sequences in sorted order, and where blocks begin.

    lengths (batch,) by the caller's index; NULL: all of them are `time`.
    """
    cdef Py_ssize_t n, b, rows = 0, starts = 0, rest = 0
    cdef Py_ssize_t *order = memory
    cdef Py_ssize_t *by_position = order + seqs.batch
    cdef Py_ssize_t *block = by_position + seqs.batch
    cdef Py_ssize_t *row = block + seqs.n_blocks + 1
    cdef Py_ssize_t *start = row + seqs.n_blocks + 1
    if lengths == NULL:
        for n in range(seqs.batch):
            order[n] = n
            by_position[n] = seqs.time
    else:
        sort_by_length(seqs.batch, lengths, order)
        for n in range(seqs.batch):
            by_position[n] = lengths[order[n]]
    block[0] = row[0] = start[0] = 0
    for b in range(seqs.n_blocks):
        # (b + 1) * batch // n_blocks, without a product that might wrap
        block[b + 1] = block[b] + seqs.batch // seqs.n_blocks
        rest += seqs.batch % seqs.n_blocks
        if rest >= seqs.n_blocks:
            rest -= seqs.n_blocks
            block[b + 1] += 1
        starts += ((block[b + 1] - block[b])
                   * ceil_div(by_position[block[b]], seqs.span))
        for n in range(block[b], block[b + 1]):
            rows += by_position[n]
        row[b + 1] = rows
        start[b + 1] = starts
    seqs.order, seqs.lengths, seqs.block, seqs.row, seqs.start = order, by_position, block, row, start


# ---- rows between callers' arrays and dense blocks


cdef Py_ssize_t time_of(const layer_t *L, const sequences_t *seqs, Py_ssize_t position,
                        Py_ssize_t s) noexcept nogil:
    """The time index that is step s of a sequence."""
    if L.reverse:
        s = seqs.lengths[position] - 1 - s
    return s if seqs.times == NULL else seqs.times[seqs.order[position] * seqs.time + s]


cdef inline void copy_row(Py_ssize_t n, const floating *source, floating *target) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        target[j] = source[j]


cdef void add_row(Py_ssize_t n, const floating *source, floating *target) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        target[j] += source[j]


cdef void gather(const layer_t *L, const sequences_t *seqs, Py_ssize_t first, Py_ssize_t alive,
                 Py_ssize_t s, Py_ssize_t width, const floating *x, strides_t sx, floating *rows,
                 Py_ssize_t ld) noexcept nogil:
    """rows (alive, width) = x at step s of the sequences from position `first` on."""
    cdef Py_ssize_t n
    for n in range(first, first + alive):
        copy_row(width, x + seqs.order[n] * sx.n + time_of(L, seqs, n, s) * sx.t, rows)
        rows += ld


cdef void gather_add(const layer_t *L, const sequences_t *seqs, Py_ssize_t first, Py_ssize_t alive,
                     Py_ssize_t s, Py_ssize_t width, const floating *x, strides_t sx,
                     floating *rows) noexcept nogil:
    """rows (alive, width) += x at step s."""
    cdef Py_ssize_t n
    for n in range(first, first + alive):
        add_row(width, x + seqs.order[n] * sx.n + time_of(L, seqs, n, s) * sx.t, rows)
        rows += width


cdef void scatter(const layer_t *L, const sequences_t *seqs, Py_ssize_t first, Py_ssize_t alive,
                  Py_ssize_t s, Py_ssize_t width, const floating *rows, floating *y, strides_t sy,
                  bint add) noexcept nogil:
    """y at step s = (or +=) rows (alive, width)."""
    cdef Py_ssize_t n
    cdef floating *target
    for n in range(first, first + alive):
        target = y + seqs.order[n] * sy.n + time_of(L, seqs, n, s) * sy.t
        if add:
            add_row(width, rows, target)
        else:
            copy_row(width, rows, target)
        rows += width


cdef void clear_padding(const sequences_t *seqs, Py_ssize_t first, Py_ssize_t last, Py_ssize_t width,
                        floating *y, strides_t sy) noexcept nogil:
    """y = 0 beyond each sequence's length; under a mask everywhere, since gaps may be anywhere."""
    cdef Py_ssize_t n, t
    for n in range(first, last):
        for t in range(seqs.lengths[n] if seqs.times == NULL else 0, seqs.time):
            memset(y + seqs.order[n] * sy.n + t * sy.t, 0, width * sizeof(floating))


cdef void load_states(const sequences_t *seqs, Py_ssize_t first, Py_ssize_t last, Py_ssize_t H,
                      const floating *states, floating *rows) noexcept nogil:
    """rows (last - first, H) = states (batch, H) of those positions; 0 where states is NULL."""
    cdef Py_ssize_t n
    for n in range(first, last):
        if states != NULL:
            copy_row(H, states + seqs.order[n] * H, rows)
        else:
            memset(rows, 0, H * sizeof(floating))
        rows += H


cdef void save_states(const sequences_t *seqs, Py_ssize_t first, Py_ssize_t last, Py_ssize_t H,
                      const floating *rows, floating *states) noexcept nogil:
    cdef Py_ssize_t n
    for n in range(first, last):
        copy_row(H, rows, states + seqs.order[n] * H)
        rows += H


cdef Py_ssize_t alive_at(const sequences_t *seqs, Py_ssize_t first, Py_ssize_t last,
                         Py_ssize_t s) noexcept nogil:
    """How many sequences of the block have a step s: they come first."""
    cdef Py_ssize_t n = last
    while n > first and seqs.lengths[n - 1] <= s:
        n -= 1
    return n - first


# ---- forward


cdef void forward_span(const layer_t *L, const sequences_t *seqs, Py_ssize_t b,
                       Py_ssize_t begin, Py_ssize_t end, const floating *packed,
                       const floating *x, strides_t sx, floating *y, strides_t sy,
                       floating *h_n, floating *c_n, floating **h, floating **h_next, floating *c,
                       floating *gates, floating *cells, floating *work) noexcept nogil:
    """Steps begin..end of one block.

    h, c (block, H): the state before step `begin`; *h becomes that after the last step (the two
    buffers change places). gates, cells: rows of the span, filled, and then c stays as it is;
    both NULL when nothing is recorded, and then c is updated in place. y, h_n, c_n may be NULL.
    """
    cdef Py_ssize_t H = L.hidden_size, I = L.input_size, CP = L.gate_columns
    cdef Py_ssize_t first = seqs.block[b], last = seqs.block[b + 1]
    cdef Py_ssize_t steps = max(<Py_ssize_t>1, L.chunk_rows // (last - first))
    cdef Py_ssize_t rows_max = max(L.chunk_rows, last - first)
    cdef packed_t at = packed_layout(L, floating is double)
    cdef floating *x_rows = work
    cdef floating *pre = x_rows + aligned(rows_max * I)
    cdef const floating *c_prev = c
    cdef floating *c_t = c
    cdef Py_ssize_t s = begin, stop, row, alive, n
    # One sequence is a matrix already, if its leading dimension is one that BLAS can take.
    cdef bint evenly_spaced = (last - first == 1 and I <= sx.t <= INT_MAX and not L.reverse
                               and seqs.times == NULL)
    while s < end:
        stop = min(s + steps, end)
        if evenly_spaced:
            project(L, stop - s, x + seqs.order[first] * sx.n + s * sx.t, sx.t,
                    packed + at.weight_ih, packed + at.bias, pre)
        else:
            row = 0
            for n in range(s, stop):
                alive = alive_at(seqs, first, last, n)
                gather(L, seqs, first, alive, n, I, x, sx, x_rows + row * I, I)
                row += alive
            project(L, row, x_rows, I, packed + at.weight_ih, packed + at.bias, pre)
        row = 0
        for s in range(s, stop):
            alive = alive_at(seqs, first, last, s)
            if cells != NULL:
                c_t = cells
                cells += alive * H
            step_forward(L, alive, pre + row * CP, h[0], packed + at.weight_hh, c_prev, c_t, h_next[0],
                         gates, s & 1)
            c_prev = c_t
            h[0], h_next[0] = h_next[0], h[0]
            row += alive
            if gates != NULL:
                gates += 4 * alive * H
            if y != NULL:
                scatter(L, seqs, first, alive, s, H, <const floating*>h[0], y, sy, False)
            if h_n != NULL:
                n = alive_at(seqs, first, last, s + 1)
                save_states(seqs, first + n, first + alive, H, <const floating*>h[0] + n * H, h_n)
                save_states(seqs, first + n, first + alive, H, <const floating*>c_t + n * H, c_n)
        s = stop


cdef void forward_block(const layer_t *L, const sequences_t *seqs, Py_ssize_t b, const floating *packed,
                        const floating *x, strides_t sx, floating *y, strides_t sy,
                        const floating *h_0, const floating *c_0, floating *h_n, floating *c_n,
                        floating *starts_h, floating *starts_c, floating *gates, floating *cells,
                        floating *work) noexcept nogil:
    cdef Py_ssize_t H = L.hidden_size
    cdef Py_ssize_t first = seqs.block[b], last = seqs.block[b + 1], size = (last - first) * H
    cdef Py_ssize_t time = seqs.lengths[first], s = 0, end
    cdef floating *h = work
    cdef floating *h_next = h + aligned(size)
    cdef floating *c = h_next + aligned(size)
    cdef Py_ssize_t alive = alive_at(seqs, first, last, 0)
    cdef uint64_t mode = silence()
    work = c + aligned(size)
    load_states(seqs, first, last, H, h_0, h)
    load_states(seqs, first, last, H, c_0, c)
    # A sequence of length 0 ends as it began.
    save_states(seqs, first + alive, last, H, <const floating*>h + alive * H, h_n)
    save_states(seqs, first + alive, last, H, <const floating*>c + alive * H, c_n)
    clear_padding(seqs, first, last, H, y, sy)
    if starts_h != NULL:
        starts_h += seqs.start[b] * H
        starts_c += seqs.start[b] * H
    if gates != NULL:
        gates += 4 * seqs.row[b] * H
        cells += seqs.row[b] * H
    while s < time:
        end = min(s + seqs.span, time)
        if starts_h != NULL:
            memcpy(starts_h, h, size * sizeof(floating))
            memcpy(starts_c, c, size * sizeof(floating))
            starts_h += size
            starts_c += size
        forward_span(L, seqs, b, s, end, packed, x, sx, y, sy, h_n, c_n, &h, &h_next, c, gates, cells,
                     work)
        s = end
    end_silence(mode)


cdef void forward(const layer_t *L, const sequences_t *seqs, const floating *packed,
                  const floating *x, strides_t sx, floating *y, strides_t sy,
                  const floating *h_0, const floating *c_0, floating *h_n, floating *c_n,
                  floating *starts_h, floating *starts_c, floating *gates, floating *cells,
                  floating *work, Py_ssize_t work_size, int n_threads) noexcept nogil:
    """All blocks of one direction of one layer.

    x, y: the caller's arrays, y (N, T, H) by its strides; h_0, c_0, h_n, c_n (N, H), h_0 and c_0
    may be NULL for zeros. starts_h, starts_c: one (block, H) for each span, NULL when nothing is
    recorded; gates (rows, 4H) and cells (rows, H): NULL in inference and under checkpointing.
    work: n_threads times work_size = forward_workspace().
    """
    cdef Py_ssize_t b
    if n_threads == 1 or seqs.n_blocks == 1:
        for b in range(seqs.n_blocks):
            forward_block(L, seqs, b, packed, x, sx, y, sy, h_0, c_0, h_n, c_n, starts_h, starts_c,
                          gates, cells, work)
        return
    for b in prange(seqs.n_blocks, schedule="dynamic", chunksize=1, num_threads=n_threads):
        forward_block(L, seqs, b, packed, x, sx, y, sy, h_0, c_0, h_n, c_n, starts_h, starts_c,
                      gates, cells, work + threadid() * work_size)


# ---- backward


cdef void backward_span(const layer_t *L, const sequences_t *seqs, Py_ssize_t b,
                        Py_ssize_t begin, Py_ssize_t end, const floating *packed,
                        const floating *x, strides_t sx, const floating *dy, strides_t sdy,
                        floating *dx, strides_t sdx, bint add_dx,
                        const floating *dh_n, const floating *dc_n,
                        const floating *h_start, const floating *c_start,
                        const floating *gates, const floating *cells,
                        floating *dh, floating *dc, floating *partial, floating *work) noexcept nogil:
    """Steps end..begin of one block, backwards.

    h_start, c_start (block, H): the state before step `begin`; gates, cells: the rows of the span.
    dh, dc (block, H): the gradients of the state after step end - 1 for the sequences that go on,
    replaced by those of the state before `begin`. partial, (4H, xh_columns) and (4H,), is added to.
    """
    cdef Py_ssize_t H = L.hidden_size, I = L.input_size, K = L.xh_columns
    cdef Py_ssize_t first = seqs.block[b], last = seqs.block[b + 1]
    cdef Py_ssize_t steps = max(<Py_ssize_t>1, L.chunk_rows // (last - first))
    cdef Py_ssize_t rows_max = max(L.chunk_rows, last - first)
    cdef packed_t at = packed_layout(L, floating is double)
    cdef floating *dgates = work
    cdef floating *xh = dgates + aligned(4 * rows_max * H)
    cdef floating *dx_rows = xh + aligned(rows_max * K)
    cdef floating *scratch = dx_rows + aligned(rows_max * I)
    cdef const floating *c_prev
    cdef Py_ssize_t s, stop = end, start, row = 0, chunk, alive, entered, before, later, n, r
    for s in range(begin, end):
        row += alive_at(seqs, first, last, s)
    alive = alive_at(seqs, first, last, end)
    while stop > begin:
        start = max(stop - steps, begin)
        chunk = 0
        for s in range(start, stop):
            chunk += alive_at(seqs, first, last, s)
        r = chunk
        for s in range(stop - 1, start - 1, -1):
            # Sequences whose last step this is come in with the gradient of their final state.
            entered = alive_at(seqs, first, last, s)
            load_states(seqs, first + alive, first + entered, H, dh_n, dh + alive * H)
            load_states(seqs, first + alive, first + entered, H, dc_n, dc + alive * H)
            # h_t is what the step after it, whose rows follow, has for h_prev.
            later = alive if s < stop - 1 else 0
            alive = entered
            row -= alive
            r -= alive
            if dy != NULL:
                gather_add(L, seqs, first, alive, s, H, dy, sdy, dh)
            before = row - alive_at(seqs, first, last, s - 1) if s > begin else 0
            c_prev = cells + before * H if s > begin else c_start
            if later > 0:
                cell_backward(L, later, gates + 4 * row * H, cells + row * H, c_prev,
                              <const floating*>dh, dc, dgates + 4 * r * H, xh + (r + alive) * K + I, K)
            if later < alive:
                n = row + later
                cell_backward(L, alive - later, gates + 4 * n * H, cells + n * H, c_prev + later * H,
                              <const floating*>dh + later * H, dc + later * H,
                              dgates + 4 * (r + later) * H, <floating*>NULL, 0)
            # Of a chunk's first step, h_prev is computed by itself; of the first of all it is given.
            if s == begin:
                for n in range(alive):
                    copy_row(H, h_start + n * H, xh + (r + n) * K + I)
            elif s == start:
                cell_output(L, alive, gates + 4 * before * H, cells + before * H, xh + r * K + I, K)
            product(L, alive, H, <const floating*>dgates + 4 * r * H, packed + at.weight_hh_back, dh,
                    s & 1)
            gather(L, seqs, first, alive, s, I, x, sx, xh + r * K, K)
            for n in range(r, r + alive if K > I + H else r):
                memset(xh + n * K + I + H, 0, (K - I - H) * sizeof(floating))
        weight_gradient(L, chunk, <const floating*>dgates, <const floating*>xh, partial,
                        scratch)
        column_sums(L, chunk, <const floating*>dgates, partial + 4 * H * K)
        if dx != NULL:
            product(L, chunk, I, <const floating*>dgates, packed + at.weight_ih_back, dx_rows, False)
            r = 0
            for s in range(start, stop):
                n = alive_at(seqs, first, last, s)
                scatter(L, seqs, first, n, s, I, <const floating*>dx_rows + r * I, dx, sdx, add_dx)
                r += n
        stop = start


cdef void backward_block(const layer_t *L, const sequences_t *seqs, Py_ssize_t b, const floating *packed,
                         const floating *x, strides_t sx, const floating *dy, strides_t sdy,
                         floating *dx, strides_t sdx, bint add_dx,
                         const floating *dh_n, const floating *dc_n, floating *dh_0, floating *dc_0,
                         const floating *starts_h, const floating *starts_c,
                         const floating *gates, const floating *cells,
                         floating *partial, floating *work) noexcept nogil:
    cdef Py_ssize_t H = L.hidden_size
    cdef Py_ssize_t first = seqs.block[b], last = seqs.block[b + 1], size = (last - first) * H
    cdef Py_ssize_t time = seqs.lengths[first], n_spans = ceil_div(time, seqs.span)
    cdef Py_ssize_t rows_max = max(L.chunk_rows, last - first), k, begin, end, alive
    cdef floating *dh = work
    cdef floating *dc = dh + aligned(size)
    cdef floating *h
    cdef floating *h_next
    cdef floating *again_gates
    cdef floating *again_cells
    cdef floating *again_work
    work = dc + aligned(size)
    again_gates = work + (aligned(4 * rows_max * H) + aligned(rows_max * L.xh_columns)
                          + aligned(rows_max * L.input_size)
                          + gradient_scratch(L, rows_max, floating is double))
    again_cells = again_gates + aligned(4 * seqs.span * (last - first) * H)
    again_work = again_cells + aligned(seqs.span * (last - first) * H) + 2 * aligned(size)
    starts_h += seqs.start[b] * H
    starts_c += seqs.start[b] * H
    if dx != NULL and not add_dx:
        clear_padding(seqs, first, last, L.input_size, dx, sdx)
    for k in range(n_spans - 1, -1, -1):
        begin = k * seqs.span
        end = min(begin + seqs.span, time)
        if gates != NULL:
            backward_span(L, seqs, b, begin, end, packed, x, sx, dy, sdy, dx, sdx, add_dx, dh_n, dc_n,
                          starts_h + k * size, starts_c + k * size,
                          gates + 4 * seqs.row[b] * H, cells + seqs.row[b] * H, dh, dc, partial, work)
            continue
        h = again_cells + aligned(seqs.span * (last - first) * H)
        h_next = h + aligned(size)
        memcpy(h, starts_h + k * size, size * sizeof(floating))
        # c is only read, since the span's cells are recorded.
        forward_span(L, seqs, b, begin, end, packed, x, sx, <floating*>NULL, sx, <floating*>NULL,
                     <floating*>NULL, &h, &h_next, <floating*>starts_c + k * size,
                     again_gates, again_cells, again_work)
        backward_span(L, seqs, b, begin, end, packed, x, sx, dy, sdy, dx, sdx, add_dx, dh_n, dc_n,
                      starts_h + k * size, starts_c + k * size, <const floating*>again_gates,
                      <const floating*>again_cells, dh, dc, partial, work)
    alive = alive_at(seqs, first, last, 0)
    load_states(seqs, first + alive, last, H, dh_n, dh + alive * H)
    load_states(seqs, first + alive, last, H, dc_n, dc + alive * H)
    save_states(seqs, first, last, H, <const floating*>dh, dh_0)
    save_states(seqs, first, last, H, <const floating*>dc, dc_0)


cdef void backward_group(const layer_t *L, const sequences_t *seqs, Py_ssize_t g, const floating *packed,
                         const floating *x, strides_t sx, const floating *dy, strides_t sdy,
                         floating *dx, strides_t sdx, bint add_dx,
                         const floating *dh_n, const floating *dc_n, floating *dh_0, floating *dc_0,
                         const floating *starts_h, const floating *starts_c,
                         const floating *gates, const floating *cells,
                         floating *partial, floating *work) noexcept nogil:
    """The blocks g, g + n_groups, ...: one after another into one weight gradient."""
    cdef Py_ssize_t b = g
    cdef uint64_t mode = silence()
    memset(partial, 0, partial_size(L) * sizeof(floating))
    while b < seqs.n_blocks:
        backward_block(L, seqs, b, packed, x, sx, dy, sdy, dx, sdx, add_dx, dh_n, dc_n, dh_0, dc_0,
                       starts_h, starts_c, gates, cells, partial, work)
        b += seqs.n_groups
    end_silence(mode)


cdef void add_partials(const layer_t *L, const sequences_t *seqs, const weights_t *at,
                       const floating *partial, floating *gradient) noexcept nogil:
    """gradient of (weight_ih, weight_hh, bias) += each group's partial, (4H, [I | H]) and (4H,), in order.

    The order is that of the groups, so that the number of threads cannot be seen.
    """
    cdef Py_ssize_t g, m, H = L.hidden_size, I = L.input_size, K = L.xh_columns
    cdef const floating *row
    for g in range(seqs.n_groups):
        row = partial + g * partial_size(L)
        for m in range(4 * H):
            add_row(I, row, gradient + at.weight_ih + m * I)
            add_row(H, row + I, gradient + at.weight_hh + m * H)
            row += K
        add_row(4 * H, row, gradient + at.bias)


cdef void backward(const layer_t *L, const sequences_t *seqs, const floating *packed,
                   const floating *x, strides_t sx, const floating *dy, strides_t sdy,
                   floating *dx, strides_t sdx, bint add_dx,
                   const floating *dh_n, const floating *dc_n, floating *dh_0, floating *dc_0,
                   const floating *starts_h, const floating *starts_c,
                   const floating *gates, const floating *cells,
                   floating *partial, floating *work, Py_ssize_t work_size, int n_threads) noexcept nogil:
    """All blocks of one direction of one layer, backwards.

    dy, dx, dh_n, dc_n may be NULL; dh_0, dc_0 (N, H) are filled. partial: n_groups times
    partial_size(), filled: the weight gradient in pieces, for add_partials().
    work: n_threads times work_size = backward_workspace().
    """
    cdef Py_ssize_t g, size = partial_size(L)
    if n_threads == 1 or seqs.n_groups == 1:
        for g in range(seqs.n_groups):
            backward_group(L, seqs, g, packed, x, sx, dy, sdy, dx, sdx, add_dx, dh_n, dc_n, dh_0, dc_0,
                           starts_h, starts_c, gates, cells, partial + g * size, work)
    else:
        for g in prange(seqs.n_groups, schedule="dynamic", chunksize=1, num_threads=n_threads):
            backward_group(L, seqs, g, packed, x, sx, dy, sdy, dx, sdx, add_dx, dh_n, dc_n, dh_0, dc_0,
                           starts_h, starts_c, gates, cells, partial + g * size,
                           work + threadid() * work_size)


# ---- one step


cdef void step(const layer_t *L, const floating *packed, Py_ssize_t batch, const floating *x,
               Py_ssize_t ldx, const floating *h_prev, floating *h, floating *c,
               floating *pre) noexcept nogil:
    """One time step of `batch` sequences: h (batch, H) from h_prev; c in place; pre is workspace."""
    cdef packed_t at = packed_layout(L, floating is double)
    cdef uint64_t mode = silence()
    project(L, batch, x, ldx, packed + at.weight_ih, packed + at.bias, pre)
    step_forward(L, batch, pre, h_prev, packed + at.weight_hh, <const floating*>c, c, h, <floating*>NULL,
                 False)
    end_silence(mode)
