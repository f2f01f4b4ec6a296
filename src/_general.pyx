# cython: language_level=3, wraparound=False, cdivision=True
"""The general driver: every option of the LSTM, and tangents.

Where _driver.pyx runs the default cell in fused kernels, this runs products and the general cell
(src/kernels/general_cell.h) one after another: W x of a chunk of steps, then for each step U h, the
cell, the projection. Sequences, blocks, chunks, spans and threads are those of _driver.pyx.

A computation has one *part*, the numbers, or two: the numbers and their tangents along a direction in
the space of inputs, states and parameters. A product then has a tangent of two terms,
(a b)' = a' b + a b', and the cell is told of both parts. Forward with two parts is jvp; backward with
two parts, on the tape of that, is forward over reverse, which gives Hessian-vector products
(Pearlmutter, 1994, *Neural Computation* 6:147).
"""
from libc.string cimport memcpy, memset

from lstm_ext._arrays cimport round_up, times, times3
from lstm_ext._driver cimport (
    BIAS, GENERAL, KINDS, NORM_C, NORM_C_BIAS, NORM_HH, NORM_IH, PEEPHOLE, WEIGHT_HH, WEIGHT_HR, WEIGHT_IH,
    add_row, alive_at, gather, gather_add, largest_block, load_rows, load_states, packed_t, part_t, partial_t,
    product, rows_of, rows_t, run_t, save_states, scatter, strides_t, take, time_of, weight_gradient,
)
from lstm_ext._kernels cimport hint, lstm_hints, lstm_step


cdef extern from "philox.h" nogil:
    void philox4x32(const uint32_t *counter, uint64_t key, uint32_t *out)


# ---- products, and their tangents


cdef void products(const run_t *run, Py_ssize_t at, Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t cols,
                   floating **a, floating **c, floating *term, lstm_hints hints) noexcept nogil:
    """c = a b and, of two parts, c' = a' b + a b'; b: the panels at `at`; term (rows, cols): workspace."""
    cdef const layer_t *L = run.layer
    cdef const floating *panels = <const floating*>run.part[0].packed + at
    product(L, rows, depth, cols, <const floating*>a[0], panels, c[0], hints)
    if run.parts == 1:
        return
    if a[1] != NULL:
        product(L, rows, depth, cols, <const floating*>a[1], panels, c[1], hints)
    else:
        memset(c[1], 0, rows * cols * sizeof(floating))
    if run.part[1].packed != NULL:
        panels = <const floating*>run.part[1].packed + at
        product(L, rows, depth, cols, <const floating*>a[0], panels, term, hints)
        add_row(rows * cols, <const floating*>term, c[1])


cdef void weight_gradients(const run_t *run, int kind, Py_ssize_t rows, floating **d, floating **a,
                           floating *partial, floating *scratch) noexcept nogil:
    """The gradient of a kind of weight += d^T a or, of two parts, its tangent d'^T a + d^T a'."""
    cdef const layer_t *L = run.layer
    cdef const partial_t *to = &L.partial[GENERAL]
    partial += to.at[kind]
    weight_gradient(L, rows, L.rows[kind], to.ld[kind], <const floating*>d[run.parts - 1],
                    <const floating*>a[0], partial, scratch)
    if run.parts > 1 and a[1] != NULL:
        weight_gradient(L, rows, L.rows[kind], to.ld[kind], <const floating*>d[0], <const floating*>a[1],
                        partial, scratch)


cdef inline Py_ssize_t whole(const layer_t *L, Py_ssize_t n) noexcept nogil:
    """n in whole vectors."""
    return round_up(n, L.d.lanes if L.is_double else L.s.lanes)


# ---- masks


cdef void bernoulli_row(uint64_t seed, int kind, uint32_t stream, Py_ssize_t n, Py_ssize_t t,
                        Py_ssize_t width, double probability, floating drawn, floating other,
                        floating *row) noexcept nogil:
    """row[j] = `drawn` with the given probability, else `other`: a function of the arguments alone."""
    cdef uint32_t counter[4]
    cdef uint32_t bits[4]
    cdef uint64_t threshold = <uint64_t>(probability * 4294967296.0)
    cdef Py_ssize_t j, k
    counter[1], counter[2], counter[3] = <uint32_t>t, <uint32_t>n, (<uint32_t>kind << 24) | stream
    for j in range(0, width, 4):
        counter[0] = <uint32_t>(j // 4)
        philox4x32(counter, seed, bits)
        for k in range(min(<Py_ssize_t>4, width - j)):
            row[j + k] = drawn if bits[k] < threshold else other


cdef void zone_rows(const block_t *block, Py_ssize_t alive, Py_ssize_t s, int kind, double probability,
                    floating *rows) noexcept nogil:
    """How much of the old state stays, (alive, H): 0 or 1 where masks are drawn."""
    cdef const run_t *run = block.run
    cdef Py_ssize_t n, j, H = run.layer.hidden_size
    for n in range(alive):
        if run.random:
            bernoulli_row(run.seed, kind, run.stream, run.seqs.order[block.first + n], time_of(block, n, s),
                          H, probability, <floating>1, <floating>0, rows + n * H)
        else:
            for j in range(H):
                rows[n * H + j] = <floating>probability


# ---- layouts, in elements


cdef inline Py_ssize_t panels(const layer_t *L, Py_ssize_t depth, Py_ssize_t cols) noexcept nogil:
    """Of a matrix (depth, cols) as the kernel packs it."""
    return L.d.packed_size(depth, cols) if L.is_double else L.s.packed_size(depth, cols)


cdef void general_layout(layer_t *L) noexcept nogil:
    """What this driver makes of a layer's sizes."""
    cdef Py_ssize_t H = L.hidden_size, I = L.input_size, P = L.out_size, n = 0
    cdef packed_t *to = &L.packed[GENERAL]
    cdef partial_t *partial = &L.partial[GENERAL]
    cdef int kind
    to.ih = take(&n, panels(L, I, 4 * H))
    to.hh = take(&n, panels(L, P, 4 * H))
    to.hr = take(&n, panels(L, H, P) if L.projected else 0)
    for kind in range(KINDS):
        to.vector[kind] = -1
        if L.at[kind] >= 0 and kind != WEIGHT_IH and kind != WEIGHT_HH and kind != WEIGHT_HR:
            to.vector[kind] = take(&n, L.columns[kind])
    to.forward_size = n
    to.ih_back = take(&n, panels(L, 4 * H, I))
    to.hh_back = take(&n, panels(L, 4 * H, P))
    to.hr_back = take(&n, panels(L, P, H) if L.projected else 0)
    to.size = n
    n = 0
    for kind in range(KINDS):
        partial.at[kind], partial.ld[kind] = -1, L.columns[kind]
        if L.at[kind] >= 0:
            if kind == WEIGHT_IH or kind == WEIGHT_HH or kind == WEIGHT_HR:
                partial.ld[kind] = whole(L, L.columns[kind])
            partial.at[kind] = take(&n, times(L.rows[kind], partial.ld[kind]))
    partial.size = n


cdef void general_work(const layer_t *L, const sequences_t *seqs, int parts, bint backward,
                       bint checkpointed, work_t *w) noexcept nogil:
    """Places in a thread's workspace."""
    cdef Py_ssize_t H = L.hidden_size, P = L.out_size, n = largest_block(seqs)
    cdef Py_ssize_t rows = max(L.chunk_rows, n), span = times(seqs.span, n) if checkpointed else 0
    cdef Py_ssize_t I = whole(L, L.input_size), M = max(4 * H, P), size = 0
    cdef bint norm = L.cell.layer_norm
    cdef int p
    for p in range(parts):
        w.x[p] = take(&size, times(rows, I))
        w.pre_x[p] = take(&size, times3(4, rows, H))
        w.pre_h[p] = take(&size, times3(4, n, H))
        w.h[p] = take(&size, times(n, P))
        w.c[p] = take(&size, times(n, H))
        w.m[p] = take(&size, times(n, H) if L.projected else 0)
        w.fed[p] = take(&size, times(n, P))
        w.bias[p] = take(&size, times3(4, n, H))
        w.scratch[p] = take(&size, 7 * H if norm else 0)
        if not backward:
            continue
        w.dh[p] = take(&size, times(n, P))
        w.dm[p] = take(&size, times(n, H) if L.projected else 0)
        w.dc[p] = take(&size, times(n, H))
        w.dh_prev[p] = take(&size, times(n, H) if L.zone_h > 0 else 0)
        w.dpre_x[p] = take(&size, times3(4, rows, H))
        w.dpre_h[p] = take(&size, times3(4, rows, H)) if norm else w.dpre_x[p]
        w.fed_rows[p] = take(&size, times(rows, whole(L, P)))
        w.m_rows[p] = take(&size, times(rows, whole(L, H)) if L.projected else 0)
        w.dh_rows[p] = take(&size, times(rows, P) if L.projected else 0)
        w.dx[p] = take(&size, times(rows, I))
        w.dbias[p] = take(&size, times3(4, n, H))
        w.again_gates[p] = take(&size, times3(4, span, H))
        w.again_pre_h[p] = take(&size, times3(4, span, H) if norm else 0)
        w.again_cells[p] = take(&size, times(span, H))
        w.again_fed[p] = take(&size, times(span, P))
    w.term = take(&size, times(rows, max(4 * H, max(P, I))) if parts > 1 else 0)
    w.gates = take(&size, 0 if backward else times3(4, n, H))
    w.zone_c = take(&size, times(n, H) if L.zone_c > 0 else 0)
    w.zone_h = take(&size, times(n, H) if L.zone_h > 0 else 0)
    w.mask = take(&size, times(n, P))
    if backward:
        w.gradient = take(&size, L.d.gradient_scratch(rows, M, max(I, max(H, P))) if L.is_double
                          else L.s.gradient_scratch(rows, M, max(I, max(H, P))))
    w.size = size


cdef void transpose(Py_ssize_t rows, Py_ssize_t cols, const floating *a, floating *b) noexcept nogil:
    """b (cols, rows) = a (rows, cols) transposed."""
    cdef Py_ssize_t i, j, j0
    for j0 in range(0, cols, 16):
        for i in range(rows):
            for j in range(j0, min(j0 + 16, cols)):
                b[j * rows + i] = a[i * cols + j]


cdef void pack_weight(const layer_t *L, int kind, const floating *parameters, floating *forward,
                      floating *backward, floating *scratch) noexcept nogil:
    """forward = the panels of a weight transposed, backward, unless it is NULL, those of the weight."""
    cdef Py_ssize_t rows = L.rows[kind], columns = L.columns[kind]
    cdef const floating *weight = parameters + L.at[kind]
    transpose(rows, columns, weight, scratch)
    if floating is float:
        L.s.pack(columns, rows, scratch, forward)
        if backward != NULL:
            L.s.pack(rows, columns, weight, backward)
    else:
        L.d.pack(columns, rows, scratch, forward)
        if backward != NULL:
            L.d.pack(rows, columns, weight, backward)


cdef Py_ssize_t general_scratch(const layer_t *L) noexcept nogil:
    """Elements that packing needs: those of the largest weight."""
    cdef Py_ssize_t size = 0
    cdef int kind
    for kind in range(KINDS):
        size = max(size, times(L.rows[kind], L.columns[kind]))
    return size


cdef void general_pack(const layer_t *L, const floating *parameters, bint backward, floating *packed,
                       floating *scratch) noexcept nogil:
    """packed = the weights of a direction whose first parameter is at `parameters`."""
    cdef const packed_t *to = &L.packed[GENERAL]
    cdef int kind
    pack_weight(L, WEIGHT_IH, parameters, packed + to.ih, packed + to.ih_back if backward else NULL, scratch)
    pack_weight(L, WEIGHT_HH, parameters, packed + to.hh, packed + to.hh_back if backward else NULL, scratch)
    if L.projected:
        pack_weight(L, WEIGHT_HR, parameters, packed + to.hr, packed + to.hr_back if backward else NULL,
                    scratch)
    for kind in range(KINDS):
        if to.vector[kind] >= 0:
            memcpy(packed + to.vector[kind], parameters + L.at[kind], L.columns[kind] * sizeof(floating))


# ---- one block


cdef inline const floating *vector(floating *tag, const run_t *run, int p, int kind) noexcept nogil:
    """A vector of parameters of a part; NULL where that part has none."""
    cdef Py_ssize_t at = run.layer.packed[GENERAL].vector[kind]
    if at < 0 or run.part[p].packed == NULL:
        return NULL
    return <const floating*>run.part[p].packed + at


cdef void name_parameters(const run_t *run, int p, floating *work, lstm_step *step) noexcept nogil:
    """The parameters of the cell, and what does not change from step to step."""
    cdef const work_t *w = run.layout
    if run.part[0].bias_rows != NULL:
        step.bias = work + w.bias[p]
        step.bias_stride = 4 * run.layer.hidden_size
    else:
        step.bias = vector(work, run, p, BIAS)
    step.peephole = vector(work, run, p, PEEPHOLE)
    step.norm_ih = vector(work, run, p, NORM_IH)
    step.norm_hh = vector(work, run, p, NORM_HH)
    step.norm_c = vector(work, run, p, NORM_C)
    step.norm_c_bias = vector(work, run, p, NORM_C_BIAS)
    step.scratch = work + w.scratch[p]
    if run.layer.zone_c > 0:
        step.zone_c = work + w.zone_c
    if run.layer.zone_h > 0:
        step.zone_h = work + w.zone_h


cdef void general_begin(const block_t *block, floating *work) noexcept nogil:
    """What belongs to the sequences of a block: masks, and rows of static inputs."""
    cdef const run_t *run = block.run
    cdef Py_ssize_t n, sequences = block.last - block.first, P = run.layer.out_size
    cdef double dropped = run.layer.recurrent_dropout
    cdef int p
    if run.random and dropped > 0:
        for n in range(sequences):
            bernoulli_row(run.seed, RECURRENT_DROPOUT, run.stream, run.seqs.order[block.first + n], 0, P,
                          dropped, <floating>0, <floating>(1 / (1 - dropped)),
                          work + run.layout.mask + n * P)
    if run.part[0].bias_rows != NULL:
        for p in range(run.parts):
            load_rows(block, 0, sequences, 4 * run.layer.hidden_size,
                      <const floating*>run.part[p].bias_rows, work + run.layout.bias[p])


cdef inline void times_mask(const run_t *run, Py_ssize_t n, const floating *mask,
                            floating *rows) noexcept nogil:
    """rows (n, P) *= recurrent dropout's mask."""
    cdef Py_ssize_t j
    if run.random and run.layer.recurrent_dropout > 0:
        for j in range(n * run.layer.out_size):
            rows[j] *= mask[j]


cdef inline void padded(Py_ssize_t rows, Py_ssize_t width, Py_ssize_t columns, const floating *source,
                        floating *target) noexcept nogil:
    """target (rows, columns) = source (rows, width), and zeros."""
    cdef Py_ssize_t r
    for r in range(rows):
        memcpy(target + r * columns, source + r * width, width * sizeof(floating))
        memset(target + r * columns + width, 0, (columns - width) * sizeof(floating))


cdef void call_cell(const block_t *block, bint forward, Py_ssize_t rows, Py_ssize_t s, floating *work,
                    const lstm_step *step) noexcept nogil:
    """The cell of `rows` sequences at step s, its zones drawn first."""
    cdef const layer_t *L = block.run.layer
    cdef const lstm_step *tangent = &step[1] if block.run.parts > 1 else NULL
    cdef Py_ssize_t H = L.hidden_size
    if L.zone_c > 0:
        zone_rows(block, rows, s, ZONE_C, L.zone_c, work + block.run.layout.zone_c)
    if L.zone_h > 0:
        zone_rows(block, rows, s, ZONE_H, L.zone_h, work + block.run.layout.zone_h)
    if floating is float:
        (L.s.general_forward if forward else L.s.general_backward)(&L.cell, rows, H, step, tangent)
    else:
        (L.d.general_forward if forward else L.d.general_backward)(&L.cell, rows, H, step, tangent)


# ---- forward


cdef void general_forward(block_t *block, Py_ssize_t begin, Py_ssize_t end, bint outputs,
                          floating *work) noexcept nogil:
    """Steps begin..end of one block, from the state in `work`, which they replace.

    Rows are filled; they are NULL in inference. outputs: False when steps are computed again for their rows
    alone.
    """
    cdef const run_t *run = block.run
    cdef const layer_t *L = run.layer
    cdef const work_t *w = run.layout
    cdef const rows_t *tape = block.rows
    cdef const packed_t *at = &L.packed[GENERAL]
    cdef Py_ssize_t H = L.hidden_size, I = L.input_size, P = L.out_size
    cdef Py_ssize_t steps = max(<Py_ssize_t>1, L.chunk_rows // (block.last - block.first))
    cdef Py_ssize_t s = begin, stop, row = 0, r, alive
    cdef bint norm = L.cell.layer_norm, taped = tape[0].cells != NULL
    cdef int p, q, parts = run.parts
    cdef const part_t *part
    cdef strides_t s_gates
    cdef lstm_step step[2]
    cdef floating *pre_x[2]
    cdef floating *pre_h[2]
    cdef floating *fed[2]
    cdef floating *x[2]
    cdef floating *h[2]
    cdef floating *m[2]
    memset(step, 0, sizeof(step))
    pre_x[1] = pre_h[1] = fed[1] = x[1] = h[1] = m[1] = NULL
    s_gates.n, s_gates.t = run.seqs.time * H, H
    for p in range(parts):
        name_parameters(run, p, work, &step[p])
        h[p] = work + w.h[p]
        m[p] = work + w.m[p] if L.projected else h[p]
        x[p] = work + w.x[p] if run.part[p].x != NULL else NULL
    if outputs and run.gates[0] != NULL:
        step[0].gates = work + w.gates
    while s < end:
        stop = min(s + steps, end)
        for p in range(parts):
            if x[p] != NULL:
                gather(block, s, stop, I, <const floating*>run.part[p].x, run.part[p].sx, x[p], I)
            pre_x[p] = <floating*>tape[p].gates + 4 * row * H if norm and taped else work + w.pre_x[p]
        products(run, at.ih, rows_of(block, s, stop), I, 4 * H, x, pre_x, work + w.term, hint(False, True))
        r = 0
        for s in range(s, stop):
            alive = alive_at(block, s)
            for p in range(parts):
                fed[p] = <floating*>tape[p].fed + row * P if taped else work + w.fed[p]
                pre_h[p] = <floating*>tape[p].pre_h + 4 * row * H if norm and taped else work + w.pre_h[p]
                memcpy(fed[p], h[p], alive * P * sizeof(floating))
                times_mask(run, alive, <const floating*>(work + w.mask), fed[p])
                if taped:
                    memcpy(<floating*>tape[p].cells + row * H, work + w.c[p], alive * H * sizeof(floating))
                    if not norm:
                        step[p].pre = <floating*>tape[p].gates + 4 * row * H
                step[p].pre_x = pre_x[p] + 4 * r * H
                step[p].pre_h = pre_h[p]
                step[p].c_prev = step[p].c = work + w.c[p]
                step[p].h_prev = h[p]
                step[p].h = m[p]
            products(run, at.hh, alive, P, 4 * H, fed, pre_h, work + w.term, hint(s & 1, True))
            call_cell(block, True, alive, s, work, step)
            if L.projected:
                products(run, at.hr, alive, H, P, m, h, work + w.term, hint(s & 1, True))
            row += alive
            r += alive
            if not outputs:
                continue
            for p in range(parts):
                part = &run.part[p]
                if part.y != NULL:
                    scatter(block, s, s + 1, P, <const floating*>h[p], P, <floating*>part.y, part.sy, False)
                save_states(block, alive_at(block, s + 1), alive, <const floating*>h[p],
                            <const floating*>(work + w.c[p]), part.h_n, part.c_n)
            if run.gates[0] != NULL:
                for q in range(4):
                    scatter(block, s, s + 1, H, <const floating*>(work + w.gates + q * H), 4 * H,
                            <floating*>run.gates[q], s_gates, False)
                scatter(block, s, s + 1, H, <const floating*>(work + w.c[0]), H, <floating*>run.gates[4],
                        s_gates, False)
        s = stop


# ---- backward


cdef void general_backward(block_t *block, Py_ssize_t begin, Py_ssize_t end, floating *work) noexcept nogil:
    """Steps end..begin of one block, backwards, from its rows.

    dh, dc in `work` are the gradients of the state after the span for the sequences that go on,
    replaced by those of the state before it.
    """
    cdef const run_t *run = block.run
    cdef const layer_t *L = run.layer
    cdef const work_t *w = run.layout
    cdef const rows_t *tape = block.rows
    cdef const packed_t *at = &L.packed[GENERAL]
    cdef const partial_t *to = &L.partial[GENERAL]
    cdef const part_t *part
    cdef Py_ssize_t H = L.hidden_size, I = L.input_size, P = L.out_size
    cdef Py_ssize_t x_columns = to.ld[WEIGHT_IH], p_columns = to.ld[WEIGHT_HH], h_columns = to.ld[WEIGHT_HR]
    cdef Py_ssize_t steps = max(<Py_ssize_t>1, L.chunk_rows // (block.last - block.first))
    cdef Py_ssize_t s, stop = end, start, row = rows_of(block, begin, end), chunk, r, entered, n
    cdef Py_ssize_t alive = alive_at(block, end)
    cdef bint norm = L.cell.layer_norm
    cdef bint wanted = run.part[run.parts - 1].dx != NULL
    cdef int p, parts = run.parts
    cdef lstm_step step[2]
    cdef floating *x[2]
    cdef floating *dh[2]
    cdef floating *dm[2]
    cdef floating *dx[2]
    cdef floating *dpre_x[2]
    cdef floating *dpre_h[2]
    cdef floating *d[2]
    cdef floating *fed[2]
    cdef floating *m_rows[2]
    cdef floating *dh_rows[2]
    cdef floating *partial = <floating*>block.partial
    cdef floating *term = work + w.term
    cdef floating *scratch = work + w.gradient
    memset(step, 0, sizeof(step))
    x[1] = dh[1] = dm[1] = dx[1] = d[1] = dpre_x[1] = dpre_h[1] = fed[1] = m_rows[1] = dh_rows[1] = NULL
    for p in range(parts):
        name_parameters(run, p, work, &step[p])
        if run.part[0].bias_rows != NULL:
            step[p].dbias = work + w.dbias[p]
        x[p] = work + w.x[p] if run.part[p].x != NULL else NULL
        dh[p] = work + w.dh[p]
        dm[p] = work + w.dm[p] if L.projected else dh[p]
        dx[p], dpre_x[p], dpre_h[p] = work + w.dx[p], work + w.dpre_x[p], work + w.dpre_h[p]
        fed[p], m_rows[p], dh_rows[p] = work + w.fed_rows[p], work + w.m_rows[p], work + w.dh_rows[p]
        step[p].dh = dm[p]
        step[p].dc = work + w.dc[p]
        if L.zone_h > 0:
            step[p].dh_prev = work + w.dh_prev[p]
        if not norm:
            step[p].bias = NULL  # the rows hold it already
    p = parts - 1  # of two parts, the gradient's tangent alone is wanted
    if run.part[0].bias_rows == NULL and to.at[BIAS] >= 0:
        step[p].dbias = partial + to.at[BIAS]
    if to.at[PEEPHOLE] >= 0:
        step[p].dpeephole = partial + to.at[PEEPHOLE]
    if norm:
        step[p].dnorm_ih = partial + to.at[NORM_IH]
        step[p].dnorm_hh = partial + to.at[NORM_HH]
        step[p].dnorm_c = partial + to.at[NORM_C]
        step[p].dnorm_c_bias = partial + to.at[NORM_C_BIAS]
    while stop > begin:
        start = max(stop - steps, begin)
        chunk = r = rows_of(block, start, stop)
        for s in range(stop - 1, start - 1, -1):
            entered = alive_at(block, s)
            row -= entered
            r -= entered
            for p in range(parts):
                part = &run.part[p]
                # Sequences whose last step this is come in with the gradient of their final state.
                load_states(block, alive, entered, part.dh_n, part.dc_n, dh[p], work + w.dc[p])
                if part.dy != NULL:
                    gather_add(block, entered, s, P, <const floating*>part.dy, part.sdy, dh[p])
                padded(entered, P, p_columns, <const floating*>tape[p].fed + row * P, fed[p] + r * p_columns)
                step[p].pre_x = <floating*>tape[p].gates + 4 * row * H
                step[p].pre_h = <floating*>tape[p].pre_h + 4 * row * H if norm else NULL
                step[p].c_prev = <floating*>tape[p].cells + row * H
                step[p].dpre_x = dpre_x[p] + 4 * r * H
                step[p].dpre_h = d[p] = dpre_h[p] + 4 * r * H
                if L.projected:
                    memcpy(dh_rows[p] + r * P, dh[p], entered * P * sizeof(floating))
                    step[p].h = work + w.m[p]
            alive = entered
            if L.projected:
                products(run, at.hr_back, alive, P, H, dh, dm, term, hint(s & 1, False))
            call_cell(block, False, alive, s, work, step)
            if L.projected:
                for p in range(parts):
                    padded(alive, H, h_columns, <const floating*>(work + w.m[p]), m_rows[p] + r * h_columns)
            products(run, at.hh_back, alive, 4 * H, P, d, dh, term, hint(s & 1, False))
            for p in range(parts):
                times_mask(run, alive, <const floating*>(work + w.mask), dh[p])
                if L.zone_h > 0:
                    add_row(alive * H, <const floating*>(work + w.dh_prev[p]), dh[p])
        for p in range(parts):
            if x[p] != NULL:
                gather(block, start, stop, I, <const floating*>run.part[p].x, run.part[p].sx, x[p], x_columns)
                for n in range(chunk):
                    memset(x[p] + n * x_columns + I, 0, (x_columns - I) * sizeof(floating))
        weight_gradients(run, WEIGHT_IH, chunk, dpre_x, x, partial, scratch)
        weight_gradients(run, WEIGHT_HH, chunk, dpre_h, fed, partial, scratch)
        if L.projected:
            weight_gradients(run, WEIGHT_HR, chunk, dh_rows, m_rows, partial, scratch)
        if wanted:
            products(run, at.ih_back, chunk, 4 * H, I, dpre_x, dx, term, hint(False, False))
            for p in range(parts):
                scatter(block, start, stop, I, <const floating*>dx[p], I, <floating*>run.part[p].dx,
                        run.part[p].sdx, run.add_dx)
        stop = start
