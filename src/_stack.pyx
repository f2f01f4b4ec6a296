# cython: language_level=3, wraparound=False, cdivision=True
"""A network: its layers and directions described, packed, laid out in memory and walked, once for all.

Python's engine (_lstm.pyx) and the public C level (cython_lstm.pyx) fill in a `call_t` and call this, and
nothing below it. A call runs on one driver: the default one (_driver.pyx), or, where an option, a tangent or
gates are asked for, the general one (_general.pyx). A driver knows the steps of a block within a span; blocks
of sequences, spans and threads are here. Everything is nogil, on the caller's memory. `lay_out` and
`packed_size` say how much of it; sizes that do not fit are TOO_LARGE.
"""
from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from lstm_ext._arrays cimport TOO_LARGE, aligned, ceil_div, end_silence, plus, silence, times, times3
from lstm_ext._driver cimport (
    BIAS, DEFAULT, GENERAL, KINDS, NORM_C, NORM_C_BIAS, PEEPHOLE, WEIGHT_HH, WEIGHT_HR, WEIGHT_IH, add_row,
    alive_at, block_t, clear_padding, contiguous, default_backward, default_forward, default_layout,
    default_pack, default_step, default_work, load_states, packed_t, part_t, partial_t, rows_t, save_rows,
    save_states, shape_sequences, strides_t, take,
)
from lstm_ext._general cimport (
    DROPOUT, bernoulli_row, general_backward, general_begin, general_forward, general_layout, general_pack,
    general_scratch, general_work,
)


cdef extern from "threads.h":
    pass


# ---- the description


cdef inline Py_ssize_t before(Py_ssize_t directions, Py_ssize_t i, Py_ssize_t first,
                              Py_ssize_t other) noexcept nogil:
    """What stands before direction i of all, if one takes `first` in the first layer and `other` above."""
    if i <= directions:
        return times(i, first)
    return plus(times(directions, first), times(i - directions, other))


cdef inline Py_ssize_t parameters_before(const stack_t *stack, Py_ssize_t i) noexcept nogil:
    return before(stack.directions, i, stack.layer[0].count, stack.layer[1].count)


cdef void describe_layer(stack_t *stack, layer_t *L, Py_ssize_t input_size, Py_ssize_t extra) noexcept nogil:
    """Shapes of the parameters of a direction, and where they stand behind its first."""
    cdef Py_ssize_t H = stack.hidden_size, P = stack.out_size, n = 0
    cdef int kind
    L.is_double = stack.is_double
    L.input_size, L.hidden_size, L.out_size = input_size, H, P
    for kind in range(KINDS):
        L.rows[kind], L.columns[kind] = 1, times(4, H)
    L.rows[WEIGHT_IH] = L.rows[WEIGHT_HH] = times(4, H)
    L.columns[WEIGHT_IH], L.columns[WEIGHT_HH] = input_size, P
    L.rows[BIAS] = stack.has_bias
    L.rows[PEEPHOLE], L.columns[PEEPHOLE] = stack.has_peepholes, times(3, H)
    L.rows[WEIGHT_HR], L.columns[WEIGHT_HR] = P if L.projected else 0, H
    for kind in range(WEIGHT_HR + 1, KINDS):
        L.rows[kind] = L.cell.layer_norm
    L.columns[NORM_C] = L.columns[NORM_C_BIAS] = H
    for kind in range(KINDS):
        L.at[kind] = n if L.rows[kind] else -1
        n = plus(n, times(L.rows[kind], L.columns[kind]))
    L.count = plus(n, extra)


cdef void describe(stack_t *stack, const lstm_kernels_s *s, const lstm_kernels_d *d) noexcept nogil:
    """Complete a description for a kernel: sizes, options and the first layer's cell are given."""
    cdef Py_ssize_t D = stack.directions
    cdef int l
    stack.layer[0].s, stack.layer[0].d = s, d
    stack.layer[0].cell.static_input_gate = False
    stack.layer[1] = stack.layer[0]
    stack.layer[0].cell.static_input_gate = stack.static_input_gate
    describe_layer(stack, &stack.layer[0], stack.input_size, stack.extra[0])
    describe_layer(stack, &stack.layer[1], times(D, stack.out_size), stack.extra[1])
    stack.parameter_count = parameters_before(stack, stack.num_layers * D)
    if stack.parameter_count == TOO_LARGE:
        return
    for l in range(2):
        default_layout(&stack.layer[l])
        general_layout(&stack.layer[l])


# ---- packed weights


cdef inline Py_ssize_t packed_before(const stack_t *stack, int driver, bint whole,
                                     Py_ssize_t i) noexcept nogil:
    cdef const packed_t *first = &stack.layer[0].packed[driver]
    cdef const packed_t *other = &stack.layer[1].packed[driver]
    if whole:
        return before(stack.directions, i, first.size, other.size)
    return before(stack.directions, i, first.forward_size, other.forward_size)


cdef Py_ssize_t packed_size(const stack_t *stack, int driver, bint whole) noexcept nogil:
    """Elements of the packed weights, and behind them of the scratch that packing needs.

    whole: for backward, too.
    """
    cdef Py_ssize_t scratch = 0, l
    for l in range(min(stack.num_layers, <Py_ssize_t>2) if driver == GENERAL else 0):
        scratch = max(scratch, general_scratch(&stack.layer[l]))
    return plus(packed_before(stack, driver, whole, stack.num_layers * stack.directions), scratch)


cdef void pack_directions(const stack_t *stack, int driver, bint whole, bint backward,
                          const floating *parameters, floating *packed) noexcept nogil:
    cdef Py_ssize_t i, n = stack.num_layers * stack.directions
    cdef floating *scratch = packed + packed_before(stack, driver, whole, n)
    cdef const layer_t *L
    cdef const floating *source
    cdef floating *target
    for i in range(n):
        L = &stack.layer[i >= stack.directions]
        source = parameters + parameters_before(stack, i)
        target = packed + packed_before(stack, driver, whole, i)
        if driver == DEFAULT:
            default_pack(L, source, backward, target)
        else:
            general_pack(L, source, backward, target, scratch)


cdef void pack_stack(const stack_t *stack, int driver, bint whole, bint backward, const void *parameters,
                     void *packed) noexcept nogil:
    """packed = the weights of all directions. backward: fill what `whole` has room for."""
    if stack.is_double:
        pack_directions(stack, driver, whole, backward, <const double*>parameters, <double*>packed)
    else:
        pack_directions(stack, driver, whole, backward, <const float*>parameters, <float*>packed)


# ---- layout of a call's memory


cdef void shape_call(const stack_t *stack, call_t *call, Py_ssize_t batch, Py_ssize_t time,
                     bint alone) noexcept nogil:
    """The numbers of call.seqs: how a batch is cut into blocks. alone: one thread will run it."""
    cdef Py_ssize_t H = stack.hidden_size, span = max(time, <Py_ssize_t>1)
    cdef Py_ssize_t weights = 4 * H * (max(stack.input_size, H) + stack.out_size) * itemsize(stack)
    if call.taped and stack.checkpoint > 0:
        span = min(span, stack.checkpoint)
    # Rows of inference have the same bits in any block; but BLAS may add in another order for another number.
    alone = alone and not call.taped and call.driver == DEFAULT and stack.layer[0].s.lanes > 1
    shape_sequences(&call.seqs, batch, time, weights, span, stack.layer[0].tile_rows, alone)


cdef void lay_out(const stack_t *stack, call_t *call) noexcept nogil:
    """call.layout: sizes of workspace and tape, and places in them, from all in `call` but its arrays."""
    cdef layout_t *to = &call.layout
    cdef const sequences_t *seqs = &call.seqs
    cdef const layer_t *L
    cdef Py_ssize_t H = stack.hidden_size, P = stack.out_size, D = stack.directions
    cdef Py_ssize_t inner_layers = stack.num_layers - 1, n = 0, partial = 0, l
    cdef bint checkpointed = stack.checkpoint > 0, general = call.driver == GENERAL
    for l in range(min(stack.num_layers, <Py_ssize_t>2)):
        L = &stack.layer[l]
        partial = max(partial, L.partial[call.driver].size)
        if general:
            general_work(L, seqs, call.run.parts, call.backward, checkpointed, &to.thread[l])
        else:
            default_work(L, seqs, call.backward, checkpointed, &to.thread[l])
        n = max(n, to.thread[l].size)
    n = times(call.n_threads, n)
    to.partial = take(&n, times(partial, seqs.n_groups) if call.backward else 0)
    to.inner = 0
    if inner_layers:
        to.inner = aligned(times3(times(seqs.batch, seqs.time), D, P))
        to.mask = take(&n, times(D, P))
        to.between = take(&n, 0 if call.taped and not call.backward
                          else times3(call.run.parts, min(inner_layers, <Py_ssize_t>2), to.inner))
    to.work = n
    if not call.taped:
        return
    n = 0
    if checkpointed or not general:
        to.starts_h = take(&n, times(seqs.starts, P))
        to.starts_c = take(&n, times(seqs.starts, H))
    if not checkpointed:
        to.gates = take(&n, times3(4, seqs.total, H))
        to.pre_h = take(&n, times3(4, seqs.total, H) if stack.layer[0].cell.layer_norm else 0)
        to.cells = take(&n, times(seqs.total, H))
        to.fed = take(&n, times(seqs.total, P) if general else 0)
    to.direction = n
    to.part = plus(times(inner_layers, to.inner), times3(stack.num_layers, D, n))
    to.tape = times(call.run.parts, to.part)


cdef inline char *between(const stack_t *stack, const call_t *call, int p, Py_ssize_t l,
                          bint kept) noexcept nogil:
    """What layer l hands to the next, (T, N, D * P), or its gradient. kept: on the tape."""
    cdef const layout_t *to = &call.layout
    if kept:
        return beyond(stack, call.tape, p * to.part + l * to.inner)
    return beyond(stack, call.run.work, to.between + (l % 2 * call.run.parts + p) * to.inner)


cdef inline strides_t time_major(const stack_t *stack, const call_t *call) noexcept nogil:
    """Of what layers hand to each other: the rows of one step stand together."""
    return contiguous(call.seqs.batch, call.seqs.time, stack.directions * stack.out_size, False)


cdef void place(const stack_t *stack, const call_t *call, run_t *run, Py_ssize_t i) noexcept nogil:
    """`run` of direction i of all: everything but sequences that go in and out."""
    cdef const layout_t *to = &call.layout
    cdef Py_ssize_t D = stack.directions, N = call.seqs.batch, H = stack.hidden_size
    cdef Py_ssize_t h = i * N * stack.out_size, c = i * N * H
    cdef Py_ssize_t packed = packed_before(stack, call.driver, call.whole_packed, i)
    cdef const part_t *given
    cdef part_t *part
    cdef char *record
    cdef int p, q
    run.layer = &stack.layer[i >= D]
    run.layout = &to.thread[i >= D]
    run.driver = call.driver
    run.seqs = &call.seqs
    run.reverse = stack.reverse or i % D == 1
    run.again = stack.checkpoint > 0
    run.stream = <uint32_t>i
    run.n_threads = call.n_threads
    run.partial = beyond(stack, call.run.work, to.partial)
    for q in range(5):
        run.gates[q] = beyond(stack, call.run.gates[q], c * call.seqs.time)
    for p in range(call.run.parts):
        given = &call.run.part[p]
        part = &run.part[p]
        part.packed = beyond(stack, given.packed, packed)
        part.h_0, part.c_0 = beyond(stack, given.h_0, h), beyond(stack, given.c_0, c)
        part.h_n, part.c_n = beyond(stack, given.h_n, h), beyond(stack, given.c_n, c)
        part.dh_n, part.dc_n = beyond(stack, given.dh_n, h), beyond(stack, given.dc_n, c)
        part.dh_0, part.dc_0 = beyond(stack, given.dh_0, h), beyond(stack, given.dc_0, c)
        part.bias_rows = beyond(stack, given.bias_rows, 4 * c) if i < D else NULL
        part.dbias_rows = beyond(stack, given.dbias_rows, 4 * c) if i < D else NULL
        if not call.taped:
            continue
        record = beyond(stack, call.tape, p * to.part + (stack.num_layers - 1) * to.inner + i * to.direction)
        if stack.checkpoint > 0 or call.driver == DEFAULT:
            part.starts_h = beyond(stack, record, to.starts_h)
            part.starts_c = beyond(stack, record, to.starts_c)
        if stack.checkpoint == 0:
            part.rows.gates = beyond(stack, record, to.gates)
            if run.layer.cell.layer_norm:
                part.rows.pre_h = beyond(stack, record, to.pre_h)
            part.rows.cells = beyond(stack, record, to.cells)
            part.rows.fed = beyond(stack, record, to.fed)


# ---- the blocks of a direction


cdef void begin_block(block_t *block, const run_t *run, Py_ssize_t b, floating *work) noexcept nogil:
    """What a block has in any pass. Rows are those on the tape, where one span is the whole sequence."""
    cdef Py_ssize_t H = run.layer.hidden_size, row = run.seqs.row[b]
    cdef const rows_t *tape
    cdef int p
    memset(block, 0, sizeof(block_t))
    block.run, block.first, block.last = run, run.seqs.block[b], run.seqs.block[b + 1]
    block.h_next = work + run.layout.h_next
    for p in range(run.parts):
        block.h[p] = work + run.layout.h[p]
        tape = &run.part[p].rows
        if tape.cells != NULL:
            block.rows[p].gates = <floating*>tape.gates + 4 * row * H
            block.rows[p].pre_h = <floating*>tape.pre_h + 4 * row * H if tape.pre_h != NULL else NULL
            block.rows[p].cells = <floating*>tape.cells + row * H
            block.rows[p].fed = <floating*>tape.fed + row * run.layer.out_size
    if run.driver == GENERAL:
        general_begin(block, work)


cdef inline void forward_span(block_t *block, Py_ssize_t begin, Py_ssize_t end, bint outputs,
                              floating *work) noexcept nogil:
    if block.run.driver == DEFAULT:
        default_forward(block, begin, end, outputs, work)
    else:
        general_forward(block, begin, end, outputs, work)


cdef void forward_block(const run_t *run, Py_ssize_t b, floating *work) noexcept nogil:
    cdef const sequences_t *seqs = run.seqs
    cdef const part_t *part
    cdef Py_ssize_t H = run.layer.hidden_size, P = run.layer.out_size
    cdef Py_ssize_t time, s = 0, end, n, start = seqs.start[b]
    cdef block_t block
    cdef floating *h
    cdef floating *c
    cdef int p
    cdef uint64_t mode = silence()
    begin_block(&block, run, b, work)
    n, time = block.last - block.first, seqs.lengths[block.first]
    for p in range(run.parts):
        part = &run.part[p]
        h, c = <floating*>block.h[p], work + run.layout.c[p]
        load_states(&block, 0, n, part.h_0, part.c_0, h, c)
        # A sequence of length 0 ends as it began.
        save_states(&block, alive_at(&block, 0), n, <const floating*>h, <const floating*>c, part.h_n,
                    part.c_n)
        if part.y != NULL:
            clear_padding(&block, P, <floating*>part.y, part.sy)
    while s < time:
        end = min(s + seqs.span, time)
        for p in range(run.parts):
            part = &run.part[p]
            if part.starts_h != NULL:
                memcpy(<floating*>part.starts_h + start * P, block.h[p], n * P * sizeof(floating))
                memcpy(<floating*>part.starts_c + start * H, work + run.layout.c[p], n * H * sizeof(floating))
        forward_span(&block, s, end, True, work)
        start += n
        s = end
    end_silence(mode)


cdef void backward_block(const run_t *run, Py_ssize_t b, floating *partial, floating *work) noexcept nogil:
    cdef const sequences_t *seqs = run.seqs
    cdef const work_t *w = run.layout
    cdef const part_t *part
    cdef rows_t *rows
    cdef Py_ssize_t H = run.layer.hidden_size, P = run.layer.out_size
    cdef Py_ssize_t k, begin, end, n, time, start
    cdef block_t block
    cdef floating *dh
    cdef floating *dc
    cdef int p
    begin_block(&block, run, b, work)
    block.partial = partial
    n, time = block.last - block.first, seqs.lengths[block.first]
    for p in range(run.parts):
        part = &run.part[p]
        if part.dx != NULL and not run.add_dx:
            clear_padding(&block, run.layer.input_size, <floating*>part.dx, part.sdx)
        if run.part[0].bias_rows != NULL:
            memset(work + w.dbias[p], 0, 4 * n * H * sizeof(floating))
    for k in range(ceil_div(time, seqs.span) - 1, -1, -1):
        begin, start = k * seqs.span, seqs.start[b] + k * n
        end = min(begin + seqs.span, time)
        if run.driver == DEFAULT:
            block.h_start = <floating*>run.part[0].starts_h + start * P
            block.c_start = <floating*>run.part[0].starts_c + start * H
        for p in range(run.parts if run.again else 0):
            part = &run.part[p]
            rows = &block.rows[p]
            rows.gates, rows.pre_h = work + w.again_gates[p], work + w.again_pre_h[p]
            rows.cells, rows.fed = work + w.again_cells[p], work + w.again_fed[p]
            memcpy(block.h[p], <floating*>part.starts_h + start * P, n * P * sizeof(floating))
            memcpy(work + w.c[p], <floating*>part.starts_c + start * H, n * H * sizeof(floating))
        if run.again:
            forward_span(&block, begin, end, False, work)
        if run.driver == DEFAULT:
            default_backward(&block, begin, end, work)
        else:
            general_backward(&block, begin, end, work)
    for p in range(run.parts):
        part = &run.part[p]
        dh, dc = work + w.dh[p], work + w.dc[p]
        load_states(&block, alive_at(&block, 0), n, part.dh_n, part.dc_n, dh, dc)
        save_states(&block, 0, n, <const floating*>dh, <const floating*>dc, part.dh_0, part.dc_0)
        if run.part[0].bias_rows != NULL:
            save_rows(&block, 0, n, 4 * H, <const floating*>(work + w.dbias[p]), <floating*>part.dbias_rows)


cdef void backward_group(const run_t *run, Py_ssize_t group, floating *work) noexcept nogil:
    """The blocks group, group + n_groups, ...: one after another into one weight gradient."""
    cdef Py_ssize_t b = group, size = run.layer.partial[run.driver].size
    cdef floating *partial = <floating*>run.partial + group * size
    cdef uint64_t mode = silence()
    memset(partial, 0, size * sizeof(floating))
    while b < run.seqs.n_blocks:
        backward_block(run, b, partial, work)
        b += run.seqs.n_groups
    end_silence(mode)


cdef inline void run_piece(const run_t *run, bint backward, Py_ssize_t k, floating *work) noexcept nogil:
    if backward:
        backward_group(run, k, work)
    else:
        forward_block(run, k, work)


cdef void run_pieces(const run_t *run, bint backward, floating *work) noexcept nogil:
    """All blocks forward, or all groups of blocks backward, by as many threads as there are."""
    cdef Py_ssize_t k, n = run.seqs.n_groups if backward else run.seqs.n_blocks
    if run.n_threads == 1 or n == 1:
        for k in range(n):
            run_piece(run, backward, k, work)
        return
    for k in prange(n, schedule="dynamic", chunksize=1, num_threads=run.n_threads):
        run_piece(run, backward, k, work + threadid() * run.layout.size)


cdef void run_direction(const run_t *run, bint backward) noexcept nogil:
    """One direction of one layer: all its sequences.

    Under checkpointing starts_h, starts_c have one (block, H) for each span, and there are no rows; when
    nothing is recorded all of them are NULL.
    """
    if run.layer.is_double:
        run_pieces(run, backward, <double*>run.work)
    else:
        run_pieces(run, backward, <float*>run.work)


# ---- the walk


cdef void drop_rows(const run_t *run, uint32_t layer, Py_ssize_t width, double probability, floating *values,
                    floating *mask) noexcept nogil:
    """values (T, N, width) *= dropout's mask, drawn row by row in `mask`."""
    cdef floating keep = <floating>(1 / (1 - probability))
    cdef Py_ssize_t n, t, j
    for t in range(run.seqs.time):
        for n in range(run.seqs.batch):
            bernoulli_row(run.seed, DROPOUT, layer, n, t, width, probability, <floating>0, keep, mask)
            for j in range(width):
                values[j] *= mask[j]
            values += width


cdef void drop(const stack_t *stack, const call_t *call, const run_t *run, Py_ssize_t l,
               void *values) noexcept nogil:
    """Dropout on what layer l hands to the next, or on its gradient."""
    cdef Py_ssize_t width = stack.directions * stack.out_size
    cdef void *mask = beyond(stack, call.run.work, call.layout.mask)
    if not run.random or stack.dropout == 0:
        return
    if stack.is_double:
        drop_rows(run, <uint32_t>l, width, stack.dropout, <double*>values, <double*>mask)
    else:
        drop_rows(run, <uint32_t>l, width, stack.dropout, <float*>values, <float*>mask)


cdef void stack_forward(const stack_t *stack, const call_t *call) noexcept nogil:
    """All layers and directions, from the first."""
    cdef Py_ssize_t l, k, last = stack.num_layers - 1
    cdef run_t run = call.run
    cdef part_t *part
    cdef char *y
    cdef int p
    for l in range(stack.num_layers):
        for k in range(stack.directions):
            place(stack, call, &run, l * stack.directions + k)
            for p in range(run.parts):
                part = &run.part[p]
                y = <char*>call.run.part[p].y if l == last else between(stack, call, p, l, call.taped)
                part.y = beyond(stack, y, k * stack.out_size)
                part.sy = call.run.part[p].sy if l == last else time_major(stack, call)
            run_direction(&run, False)
        for p in range(run.parts if l < last else 0):
            part = &run.part[p]
            part.x, part.sx = between(stack, call, p, l, call.taped), time_major(stack, call)
            drop(stack, call, &run, l, <void*>part.x)


cdef void stack_backward(const stack_t *stack, const call_t *call, Py_ssize_t i) noexcept nogil:
    """Direction i of all, backwards; to be called from the last to the first.

    Its weight gradient is for add_gradient, before the next.
    """
    cdef Py_ssize_t D = stack.directions, l = i // D, k = i % D
    cdef run_t run = call.run
    cdef part_t *part
    cdef char *dy
    cdef int p
    place(stack, call, &run, i)
    run.add_dx = k != D - 1
    for p in range(run.parts):
        part = &run.part[p]
        dy = <char*>part.dy
        if l < stack.num_layers - 1:
            dy, part.sdy = between(stack, call, p, l, False), time_major(stack, call)
        part.dy = beyond(stack, dy, k * stack.out_size)
        if l > 0:
            part.x, part.dx = between(stack, call, p, l - 1, True), between(stack, call, p, l - 1, False)
            part.sx = part.sdx = time_major(stack, call)
    run_direction(&run, True)
    for p in range(run.parts if k == 0 and l > 0 else 0):
        drop(stack, call, &run, l - 1, run.part[p].dx)


cdef void add_partials(const layer_t *L, int driver, Py_ssize_t n_groups, const floating *partial,
                       floating *gradient) noexcept nogil:
    cdef const partial_t *to = &L.partial[driver]
    cdef Py_ssize_t _, r
    cdef int kind
    for _ in range(n_groups):
        for kind in range(KINDS):
            for r in range(L.rows[kind] if to.at[kind] >= 0 else 0):
                add_row(L.columns[kind], partial + to.at[kind] + r * to.ld[kind],
                        gradient + L.at[kind] + r * L.columns[kind])
        partial += to.size


cdef void add_gradient(const stack_t *stack, const call_t *call, Py_ssize_t i, void *gradient) noexcept nogil:
    """gradient (parameters of the network) += what direction i has left, one group of blocks after another.

    The order is that of the groups, so that the number of threads cannot be seen.
    """
    cdef const layer_t *L = &stack.layer[i >= stack.directions]
    cdef char *partial = beyond(stack, call.run.work, call.layout.partial)
    cdef char *total = beyond(stack, gradient, parameters_before(stack, i))
    if stack.is_double:
        add_partials(L, call.driver, call.seqs.n_groups, <const double*>partial, <double*>total)
    else:
        add_partials(L, call.driver, call.seqs.n_groups, <const float*>partial, <float*>total)


# ---- one step


cdef Py_ssize_t step_work(const stack_t *stack, const sequences_t *seqs) noexcept nogil:
    """Elements of workspace for a step of `seqs`, one block of sequences of one step."""
    cdef Py_ssize_t n = 0, l
    cdef work_t layout
    if stack.general:
        for l in range(min(stack.num_layers, <Py_ssize_t>2)):
            general_work(&stack.layer[l], seqs, 1, False, False, &layout)
            n = max(n, layout.size)
        return n
    take(&n, times(seqs.batch, stack.hidden_size))
    take(&n, times(seqs.batch, stack.layer[0].gate_columns))
    return n


cdef void stack_step(const stack_t *stack, const sequences_t *seqs, const void *packed, bint whole,
                     const void *x, Py_ssize_t ldx, const void *h_prev, const void *c_prev, void *h, void *c,
                     const void *bias_rows, void *work) noexcept nogil:
    """One time step of all layers: h (L, N, P), c (L, N, H) from h_prev, c_prev, which they may be.

    The default driver reads no more of `seqs` than the batch, and no bias_rows (N, 4H). whole: of `packed`.
    """
    cdef Py_ssize_t l, N = seqs.batch, size = N * stack.hidden_size, h_size = N * stack.out_size
    cdef int driver = driver_of(stack, False)
    cdef const layer_t *L
    cdef const char *weights
    cdef void *h_t
    cdef run_t run
    cdef work_t layout
    cdef part_t *part = &run.part[0]
    if driver == GENERAL:
        memset(&run, 0, sizeof(run))
        memset(&layout, 0, sizeof(layout))
        run.driver, run.seqs, run.parts, run.work, run.n_threads = GENERAL, seqs, 1, work, 1
        run.layout = &layout
        part.bias_rows = bias_rows
    for l in range(stack.num_layers):
        L = &stack.layer[l > 0]
        weights = beyond(stack, packed, packed_before(stack, driver, whole, l))
        if driver == DEFAULT:
            # A product reads all of h_prev for each piece of h.
            h_t = work if h == h_prev else h
            default_step(L, weights, N, x, ldx, h_prev, c_prev, h_t, c, beyond(stack, work, aligned(size)))
            if h == h_prev:
                memcpy(h, h_t, size * itemsize(stack))
        else:
            general_work(L, seqs, 1, False, False, &layout)
            run.layer, run.stream = L, <uint32_t>l
            part.packed, part.x, part.sx.n = weights, x, ldx
            part.h_0, part.c_0, part.h_n, part.c_n = h_prev, c_prev, h, c
            run_direction(&run, False)
            part.bias_rows = NULL
        x, ldx = h, stack.out_size
        h_prev, h = beyond(stack, h_prev, h_size), beyond(stack, h, h_size)
        c_prev, c = beyond(stack, c_prev, size), beyond(stack, c, size)
