# cython: language_level=3, wraparound=False, cdivision=True
"""The sequences of a batch, what both drivers do with them, and the driver of the default cell.

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
from libc.limits cimport INT_MAX
from libc.stdint cimport uint64_t
from libc.string cimport memset

from lstm_ext._arrays cimport ceil_div, end_silence, plus, round_up, silence, times, times3
from lstm_ext._kernels cimport hint, lstm_hints, stream_bytes

cdef extern from "stream.h" nogil:
    void lstm_stream_row(void *target, const void *source, size_t size)
    void lstm_end_stream()


# ---- the tables, for either dtype


cdef inline void project(const layer_t *L, Py_ssize_t rows, const floating *a, Py_ssize_t lda,
                         const floating *panels, const floating *bias, floating *pre) noexcept nogil:
    if floating is float:
        L.s.project(rows, L.hidden_size, L.input_size, a, lda, panels, bias, pre)
    else:
        L.d.project(rows, L.hidden_size, L.input_size, a, lda, panels, bias, pre)


cdef void product(const layer_t *L, Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t cols, const floating *a,
                  const floating *panels, floating *c, lstm_hints hints) noexcept nogil:
    if floating is float:
        L.s.product(rows, depth, cols, a, depth, panels, c, hints)
    else:
        L.d.product(rows, depth, cols, a, depth, panels, c, hints)


cdef void weight_gradient(const layer_t *L, Py_ssize_t rows, Py_ssize_t M, Py_ssize_t cols,
                          const floating *d, const floating *a, floating *partial,
                          floating *scratch) noexcept nogil:
    if floating is float:
        L.s.weight_gradient(rows, M, cols, d, a, partial, scratch)
    else:
        L.d.weight_gradient(rows, M, cols, d, a, partial, scratch)


cdef inline void column_sums(const layer_t *L, Py_ssize_t rows, const floating *dgates,
                             floating *sums) noexcept nogil:
    if floating is float:
        L.s.column_sums(rows, 4 * L.hidden_size, dgates, sums)
    else:
        L.d.column_sums(rows, 4 * L.hidden_size, dgates, sums)


cdef inline void step_forward(const layer_t *L, Py_ssize_t rows, floating *pre, const floating *h_prev,
                              const floating *panels, const floating *c_prev, floating *c, floating *h,
                              floating *gates, bint stream, bint from_end) noexcept nogil:
    cdef lstm_hints hints = hint(from_end, True)
    hints.stream = stream
    if floating is float:
        L.s.step_forward(&L.cell, rows, L.hidden_size, pre, h_prev, panels, c_prev, c, h, gates, hints)
    else:
        L.d.step_forward(&L.cell, rows, L.hidden_size, pre, h_prev, panels, c_prev, c, h, gates, hints)


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

cdef void default_layout(layer_t *L) noexcept nogil:
    """What this driver makes of a layer's sizes."""
    cdef Py_ssize_t H = L.hidden_size, I = L.input_size, n = 0
    cdef packed_t *to = &L.packed[DEFAULT]
    cdef partial_t *partial = &L.partial[DEFAULT]
    cdef int kind
    L.tile_rows = L.d.tile_rows if L.is_double else L.s.tile_rows
    L.chunk_rows = 96 if L.tile_rows == 1 else 256
    L.gate_columns = L.d.gate_columns(H) if L.is_double else L.s.gate_columns(H)
    L.xh_columns = round_up(plus(I, H), L.d.lanes if L.is_double else L.s.lanes)
    for kind in range(KINDS):
        to.vector[kind] = partial.at[kind] = -1
    to.ih = take(&n, L.d.gates_size(H, I) if L.is_double else L.s.gates_size(H, I))
    to.hh = take(&n, L.d.gates_size(H, H) if L.is_double else L.s.gates_size(H, H))
    to.vector[BIAS] = take(&n, L.gate_columns)
    to.forward_size = n
    to.ih_back = take(&n, L.d.packed_size(4 * H, I) if L.is_double else L.s.packed_size(4 * H, I))
    to.hh_back = take(&n, L.d.packed_size(4 * H, H) if L.is_double else L.s.packed_size(4 * H, H))
    to.size = n
    # (4H, [I | H] in whole vectors) of weights, (4H,) of biases
    n = 0
    partial.at[WEIGHT_IH], partial.at[WEIGHT_HH] = 0, I
    partial.ld[WEIGHT_IH] = partial.ld[WEIGHT_HH] = L.xh_columns
    partial.at[BIAS] = times3(4, H, L.xh_columns)
    partial.ld[BIAS] = 4 * H
    take(&n, plus(partial.at[BIAS], 4 * H))
    partial.size = n


cdef Py_ssize_t largest_block(const sequences_t *seqs) noexcept nogil:
    """Sequences of the largest block: they are cut as evenly as can be."""
    return ceil_div(seqs.batch, seqs.n_blocks) if seqs.n_blocks else 0


cdef void default_work(const layer_t *L, const sequences_t *seqs, bint backward, bint checkpointed,
                       work_t *w) noexcept nogil:
    """Places in a thread's workspace."""
    cdef Py_ssize_t H = L.hidden_size, n = largest_block(seqs), size = 0
    cdef Py_ssize_t rows = max(L.chunk_rows, n)  # of a chunk: whole steps up to chunk_rows, but one at least
    if not backward or checkpointed:
        w.h[0] = take(&size, times(n, H))
        w.h_next = take(&size, times(n, H))
        w.c[0] = take(&size, times(n, H))
        w.x[0] = take(&size, times(rows, L.input_size))
        w.pre_x[0] = take(&size, times(rows, L.gate_columns))
    if backward:
        w.dh[0] = take(&size, times(n, H))
        w.dc[0] = take(&size, times(n, H))
        w.dpre_x[0] = take(&size, times3(4, rows, H))
        w.xh = take(&size, times(rows, L.xh_columns))
        w.dx[0] = take(&size, times(rows, L.input_size))
        w.gradient = take(&size, L.d.gradient_scratch(rows, 4 * H, L.xh_columns) if L.is_double
                          else L.s.gradient_scratch(rows, 4 * H, L.xh_columns))
        if checkpointed:
            w.again_gates[0] = take(&size, times3(4, seqs.span, times(n, H)))
            w.again_cells[0] = take(&size, times3(seqs.span, n, H))
    w.size = size


cdef void default_pack(const layer_t *L, const floating *parameters, bint backward,
                       floating *packed) noexcept nogil:
    """packed = the weights of a direction whose first parameter is at `parameters`."""
    cdef const packed_t *to = &L.packed[DEFAULT]
    cdef Py_ssize_t H = L.hidden_size, I = L.input_size
    cdef const floating *weight_ih = parameters + L.at[WEIGHT_IH]
    cdef const floating *weight_hh = parameters + L.at[WEIGHT_HH]
    cdef const floating *bias = parameters + L.at[BIAS]
    if floating is float:
        L.s.pack_gates(H, I, weight_ih, packed + to.ih)
        L.s.pack_gates(H, H, weight_hh, packed + to.hh)
        L.s.pack_bias(H, bias, packed + to.vector[BIAS])
        if backward:
            L.s.pack(4 * H, I, weight_ih, packed + to.ih_back)
            L.s.pack(4 * H, H, weight_hh, packed + to.hh_back)
    else:
        L.d.pack_gates(H, I, weight_ih, packed + to.ih)
        L.d.pack_gates(H, H, weight_hh, packed + to.hh)
        L.d.pack_bias(H, bias, packed + to.vector[BIAS])
        if backward:
            L.d.pack(4 * H, I, weight_ih, packed + to.ih_back)
            L.d.pack(4 * H, H, weight_hh, packed + to.hh_back)


# ---- the sequences of a batch


cdef void shape_blocks(sequences_t *seqs, Py_ssize_t batch, Py_ssize_t time, Py_ssize_t block_size,
                       Py_ssize_t max_groups, Py_ssize_t span) noexcept nogil:
    """The numbers of `seqs`, which all sizes of buffers depend on; its arrays are cut_sequences'."""
    seqs.batch, seqs.time, seqs.span = batch, time, span
    seqs.n_blocks = ceil_div(batch, block_size)
    seqs.n_groups = min(seqs.n_blocks, max_groups)
    seqs.total = times(batch, time)
    seqs.starts = times(batch, ceil_div(time, span))
    seqs.order = seqs.lengths = seqs.block = seqs.row = seqs.start = seqs.times = NULL


cdef void shape_sequences(sequences_t *seqs, Py_ssize_t batch, Py_ssize_t time, Py_ssize_t weights,
                          Py_ssize_t span, Py_ssize_t tile_rows, bint alone) noexcept nogil:
    """`shape_blocks` for a layer whose weights take that many bytes.

    alone: it is inference in one thread, whose rows have the same bits whatever block they are in.
    """
    # Small enough that two threads share a batch of 16, large enough that a panel of weights
    # that came from L3 serves many rows. By shapes alone: bits do not depend on threads.
    cdef Py_ssize_t block_size = max(<Py_ssize_t>16 if weights <= 512 * 1024 else 32, tile_rows)
    if alone:
        block_size *= 2  # nobody to share with: what is read once serves more rows
    elif max(<Py_ssize_t>16, tile_rows + 1) <= batch < 2 * block_size:
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
    seqs.total, seqs.starts = rows, starts
    seqs.order, seqs.lengths, seqs.block, seqs.row, seqs.start = order, by_position, block, row, start


# ---- rows between callers' arrays and dense blocks


cdef inline Py_ssize_t time_at(const sequences_t *seqs, bint reverse, Py_ssize_t position,
                               Py_ssize_t s) noexcept nogil:
    if reverse:
        s = seqs.lengths[position] - 1 - s
    return s if seqs.times == NULL else seqs.times[seqs.order[position] * seqs.time + s]


cdef Py_ssize_t time_of(const block_t *block, Py_ssize_t n, Py_ssize_t s) noexcept nogil:
    """The time index that is step s of the block's sequence n."""
    return time_at(block.run.seqs, block.run.reverse, block.first + n, s)


cdef inline void copy_row(Py_ssize_t n, const floating *source, floating *target) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        target[j] = source[j]


cdef void add_row(Py_ssize_t n, const floating *source, floating *target) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        target[j] += source[j]


cdef void gather(const block_t *block, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t width,
                 const floating *x, strides_t sx, floating *rows, Py_ssize_t ld) noexcept nogil:
    """rows (rows_of(begin, end), width) = x at steps begin..end."""
    cdef const sequences_t *seqs = block.run.seqs
    cdef bint reverse = block.run.reverse
    cdef Py_ssize_t n, s
    for s in range(begin, end):
        for n in range(block.first, block.first + alive_at(block, s)):
            copy_row(width, x + seqs.order[n] * sx.n + time_at(seqs, reverse, n, s) * sx.t, rows)
            rows += ld


cdef void gather_add(const block_t *block, Py_ssize_t alive, Py_ssize_t s, Py_ssize_t width,
                     const floating *x, strides_t sx, floating *rows) noexcept nogil:
    """rows (alive, width) += x at step s."""
    cdef const sequences_t *seqs = block.run.seqs
    cdef bint reverse = block.run.reverse
    cdef Py_ssize_t n
    for n in range(block.first, block.first + alive):
        add_row(width, x + seqs.order[n] * sx.n + time_at(seqs, reverse, n, s) * sx.t, rows)
        rows += width


cdef void scatter(const block_t *block, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t width,
                  const floating *rows, Py_ssize_t ld, floating *y, strides_t sy, bint add) noexcept nogil:
    """y at steps begin..end = (or +=) rows (rows_of(begin, end), width)."""
    cdef const sequences_t *seqs = block.run.seqs
    cdef bint reverse = block.run.reverse
    cdef bint stream = times3(seqs.total, width, sizeof(floating)) >= stream_bytes
    cdef Py_ssize_t n, s
    cdef floating *target
    for s in range(begin, end):
        for n in range(block.first, block.first + alive_at(block, s)):
            target = y + seqs.order[n] * sy.n + time_at(seqs, reverse, n, s) * sy.t
            if add:
                add_row(width, rows, target)
            elif stream:
                lstm_stream_row(target, rows, width * sizeof(floating))
            else:
                copy_row(width, rows, target)
            rows += ld
    if stream:
        lstm_end_stream()


cdef void clear_padding(const block_t *block, Py_ssize_t width, floating *y, strides_t sy) noexcept nogil:
    """y = 0 beyond each sequence's length; under a mask everywhere, since gaps may be anywhere."""
    cdef const sequences_t *seqs = block.run.seqs
    cdef Py_ssize_t n, t
    for n in range(block.first, block.last):
        for t in range(seqs.lengths[n] if seqs.times == NULL else 0, seqs.time):
            memset(y + seqs.order[n] * sy.n + t * sy.t, 0, width * sizeof(floating))


cdef void load_rows(const block_t *block, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t width,
                    const floating *states, floating *rows) noexcept nogil:
    """Rows begin..end of the block's `rows` = those of `states` (batch, width); 0 where states is NULL."""
    cdef const Py_ssize_t *order = block.run.seqs.order + block.first
    cdef Py_ssize_t n
    for n in range(begin, end):
        if states != NULL:
            copy_row(width, states + order[n] * width, rows + n * width)
        else:
            memset(rows + n * width, 0, width * sizeof(floating))


cdef void save_rows(const block_t *block, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t width,
                    const floating *rows, floating *states) noexcept nogil:
    cdef const Py_ssize_t *order = block.run.seqs.order + block.first
    cdef Py_ssize_t n
    for n in range(begin, end):
        copy_row(width, rows + n * width, states + order[n] * width)


cdef void load_states(const block_t *block, Py_ssize_t begin, Py_ssize_t end, const void *h_states,
                      const void *c_states, floating *h, floating *c) noexcept nogil:
    """h, c of the block's sequences begin..end."""
    load_rows(block, begin, end, block.run.layer.out_size, <const floating*>h_states, h)
    load_rows(block, begin, end, block.run.layer.hidden_size, <const floating*>c_states, c)


cdef void save_states(const block_t *block, Py_ssize_t begin, Py_ssize_t end, const floating *h,
                      const floating *c, void *h_states, void *c_states) noexcept nogil:
    save_rows(block, begin, end, block.run.layer.out_size, h, <floating*>h_states)
    save_rows(block, begin, end, block.run.layer.hidden_size, c, <floating*>c_states)


cdef Py_ssize_t alive_at(const block_t *block, Py_ssize_t s) noexcept nogil:
    """How many sequences of the block have a step s: they come first."""
    cdef const Py_ssize_t *lengths = block.run.seqs.lengths
    cdef Py_ssize_t n = block.last
    while n > block.first and lengths[n - 1] <= s:
        n -= 1
    return n - block.first


cdef Py_ssize_t rows_of(const block_t *block, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Rows of the steps begin..end."""
    cdef Py_ssize_t s, rows = 0
    for s in range(begin, end):
        rows += alive_at(block, s)
    return rows


# ---- forward


cdef void default_forward(block_t *block, Py_ssize_t begin, Py_ssize_t end, bint outputs,
                          floating *work) noexcept nogil:
    """Steps begin..end of one block.

    The state is replaced by that after the last step; but c stays as it is where rows are recorded. Rows are
    NULL when nothing is recorded. outputs: False when steps are computed again for their rows alone.
    """
    cdef const run_t *run = block.run
    cdef const layer_t *L = run.layer
    cdef const sequences_t *seqs = run.seqs
    cdef const part_t *part = &run.part[0]
    cdef const packed_t *at = &L.packed[DEFAULT]
    cdef const floating *packed = <const floating*>part.packed
    cdef const floating *x = <const floating*>part.x
    cdef floating *x_rows = work + run.layout.x[0]
    cdef floating *pre = work + run.layout.pre_x[0]
    cdef floating *gates = <floating*>block.rows[0].gates
    cdef floating *cells = <floating*>block.rows[0].cells
    cdef floating *h = <floating*>block.h[0]
    cdef floating *h_next = <floating*>block.h_next
    cdef floating *c_t = work + run.layout.c[0]
    cdef const floating *c_prev = c_t
    cdef Py_ssize_t H = L.hidden_size, I = L.input_size, sequences = block.last - block.first
    cdef Py_ssize_t steps = max(<Py_ssize_t>1, L.chunk_rows // sequences)
    cdef Py_ssize_t s = begin, stop, row, alive
    # What is recorded for all steps is not read before backward; what is computed again is read at once.
    cdef bint stream = (outputs and gates != NULL
                        and times3(seqs.total, 4 * H, sizeof(floating)) >= stream_bytes)
    # One sequence is a matrix already, if its leading dimension is one that BLAS can take.
    cdef bint evenly_spaced = (sequences == 1 and I <= part.sx.t <= INT_MAX and not run.reverse
                               and seqs.times == NULL)
    while s < end:
        stop = min(s + steps, end)
        if evenly_spaced:
            project(L, stop - s, x + seqs.order[block.first] * part.sx.n + s * part.sx.t, part.sx.t,
                    packed + at.ih, packed + at.vector[BIAS], pre)
        else:
            gather(block, s, stop, I, x, part.sx, x_rows, I)
            project(L, rows_of(block, s, stop), x_rows, I, packed + at.ih, packed + at.vector[BIAS], pre)
        row = 0
        for s in range(s, stop):
            alive = alive_at(block, s)
            if cells != NULL:
                c_t = cells
                cells += alive * H
            step_forward(L, alive, pre + row * L.gate_columns, h, packed + at.hh, c_prev, c_t, h_next, gates,
                         stream, s & 1)
            c_prev = c_t
            h, h_next = h_next, h
            row += alive
            if gates != NULL:
                gates += 4 * alive * H
            if outputs:
                scatter(block, s, s + 1, H, <const floating*>h, H, <floating*>part.y, part.sy, False)
                save_states(block, alive_at(block, s + 1), alive, <const floating*>h, <const floating*>c_t,
                            part.h_n, part.c_n)
        s = stop
    block.h[0], block.h_next = h, h_next


# ---- backward


cdef void default_backward(block_t *block, Py_ssize_t begin, Py_ssize_t end, floating *work) noexcept nogil:
    """Steps end..begin of one block, backwards, from its rows and the state before step `begin`.

    dh, dc in `work` (block, H): the gradients of the state after step end - 1 for the sequences that go
    on, replaced by those of the state before `begin`.
    """
    cdef const run_t *run = block.run
    cdef const layer_t *L = run.layer
    cdef const part_t *part = &run.part[0]
    cdef const packed_t *at = &L.packed[DEFAULT]
    cdef const floating *packed = <const floating*>part.packed
    cdef const floating *h_start = <const floating*>block.h_start
    cdef const floating *gates = <const floating*>block.rows[0].gates
    cdef const floating *cells = <const floating*>block.rows[0].cells
    cdef floating *partial = <floating*>block.partial
    cdef Py_ssize_t H = L.hidden_size, I = L.input_size, K = L.xh_columns
    cdef Py_ssize_t steps = max(<Py_ssize_t>1, L.chunk_rows // (block.last - block.first))
    cdef floating *dh = work + run.layout.dh[0]
    cdef floating *dc = work + run.layout.dc[0]
    cdef floating *dgates = work + run.layout.dpre_x[0]
    cdef floating *xh = work + run.layout.xh
    cdef floating *dx_rows = work + run.layout.dx[0]
    cdef const floating *c_prev
    cdef Py_ssize_t s, stop = end, start, chunk, entered, before, later, n, r
    cdef Py_ssize_t alive = alive_at(block, end), row = rows_of(block, begin, end)
    while stop > begin:
        start = max(stop - steps, begin)
        chunk = r = rows_of(block, start, stop)
        for s in range(stop - 1, start - 1, -1):
            # Sequences whose last step this is come in with the gradient of their final state.
            entered = alive_at(block, s)
            load_states(block, alive, entered, part.dh_n, part.dc_n, dh, dc)
            # h_t is what the step after it, whose rows follow, has for h_prev.
            later = alive if s < stop - 1 else 0
            alive = entered
            row -= alive
            r -= alive
            if part.dy != NULL:
                gather_add(block, alive, s, H, <const floating*>part.dy, part.sdy, dh)
            before = row - alive_at(block, s - 1) if s > begin else 0
            c_prev = cells + before * H if s > begin else <const floating*>block.c_start
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
            product(L, alive, 4 * H, H, <const floating*>dgates + 4 * r * H, packed + at.hh_back, dh,
                    hint(s & 1, False))
        gather(block, start, stop, I, <const floating*>part.x, part.sx, xh, K)
        for n in range(chunk if K > I + H else 0):
            memset(xh + n * K + I + H, 0, (K - I - H) * sizeof(floating))
        weight_gradient(L, chunk, 4 * H, K, <const floating*>dgates, <const floating*>xh, partial,
                        work + run.layout.gradient)
        column_sums(L, chunk, <const floating*>dgates, partial + L.partial[DEFAULT].at[BIAS])
        if part.dx != NULL:
            product(L, chunk, 4 * H, I, <const floating*>dgates, packed + at.ih_back, dx_rows,
                    hint(False, False))
            scatter(block, start, stop, I, <const floating*>dx_rows, I, <floating*>part.dx, part.sdx,
                    run.add_dx)
        stop = start


# ---- one step


cdef void one_step(const layer_t *L, const floating *packed, Py_ssize_t batch, const floating *x,
                   Py_ssize_t ldx, const floating *h_prev, const floating *c_prev, floating *h, floating *c,
                   floating *pre) noexcept nogil:
    cdef const packed_t *at = &L.packed[DEFAULT]
    cdef uint64_t mode = silence()
    project(L, batch, x, ldx, packed + at.ih, packed + at.vector[BIAS], pre)
    step_forward(L, batch, pre, h_prev, packed + at.hh, c_prev, c, h, <floating*>NULL, False, False)
    end_silence(mode)


cdef void default_step(const layer_t *L, const void *packed, Py_ssize_t batch, const void *x, Py_ssize_t ldx,
                       const void *h_prev, const void *c_prev, void *h, void *c, void *pre) noexcept nogil:
    """One time step of `batch` sequences: h, c (batch, H) from h_prev, c_prev; c may be c_prev.

    pre (batch, gate_columns) is workspace.
    """
    if L.is_double:
        one_step(L, <const double*>packed, batch, <const double*>x, ldx, <const double*>h_prev,
                 <const double*>c_prev, <double*>h, <double*>c, <double*>pre)
    else:
        one_step(L, <const float*>packed, batch, <const float*>x, ldx, <const float*>h_prev,
                 <const float*>c_prev, <float*>h, <float*>c, <float*>pre)
