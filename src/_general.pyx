# cython: language_level=3, wraparound=False, cdivision=True
"""The general drivers: every option of the LSTM family, and tangents.

Where _driver.pyx runs the default cell in fused kernels, these run products and the general cell
(src/kernels/general_cell.h) one after another: W x of a chunk of steps, then for each step U h, the
cell, the projection. Sequences, blocks, chunks, spans and threads are those of _driver.pyx.

A computation has one *part*, the numbers, or two: the numbers and their tangents along a direction in
the space of inputs, states and parameters. A product then has a tangent of two terms,
(a b)' = a' b + a b', and the cell is told of both parts. Forward with two parts is jvp; backward with
two parts, on the tape of that, is forward over reverse, which gives Hessian-vector products
(Pearlmutter, 1994, *Neural Computation* 6:147).
"""
from cython.parallel cimport prange, threadid
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
from lstm_ext._driver cimport (
    add_row,
    alive_at,
    clear_padding,
    gather,
    gather_add,
    largest_block,
    load_states,
    save_states,
    scatter,
    time_of,
)
from lstm_ext._kernels cimport lstm_step


cdef extern from "threads.h":
    pass


cdef extern from "philox.h" nogil:
    void philox4x32(const uint32_t *counter, uint64_t key, uint32_t *out)


# ---- the tables, for either dtype


cdef inline void product(const general_t *g, Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t cols,
                         const floating *a, const floating *panels, floating *c, bint odd,
                         bint ordered) noexcept nogil:
    if floating is float:
        g.layer.s.product(rows, depth, cols, a, depth, panels, c, odd, ordered)
    else:
        g.layer.d.product(rows, depth, cols, a, depth, panels, c, odd, ordered)


cdef void products(const general_t *g, int parts, Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t cols,
                   const floating *a, const floating *a_dot, const floating *panels,
                   const floating *panels_dot, floating *c, floating *c_dot, floating *term,
                   bint odd, bint ordered) noexcept nogil:
    """c = a b and, of two parts, c_dot = a_dot b + a b_dot. term (rows, cols) is workspace."""
    product(g, rows, depth, cols, a, panels, c, odd, ordered)
    if parts == 1:
        return
    if a_dot != NULL:
        product(g, rows, depth, cols, a_dot, panels, c_dot, odd, ordered)
    else:
        memset(c_dot, 0, rows * cols * sizeof(floating))
    if panels_dot != NULL:
        product(g, rows, depth, cols, a, panels_dot, term, odd, ordered)
        add_row(rows * cols, <const floating*>term, c_dot)


cdef inline void weight_gradient(const general_t *g, Py_ssize_t rows, Py_ssize_t M, Py_ssize_t cols,
                                 const floating *d, const floating *a, floating *dweight,
                                 floating *scratch) noexcept nogil:
    if floating is float:
        g.layer.s.weight_gradient(rows, M, cols, d, a, dweight, scratch)
    else:
        g.layer.d.weight_gradient(rows, M, cols, d, a, dweight, scratch)


cdef inline void weight_gradients(const general_t *g, int parts, Py_ssize_t rows, Py_ssize_t M,
                                  Py_ssize_t cols, const floating *d, const floating *d_dot,
                                  const floating *a, const floating *a_dot, floating *dweight,
                                  floating *scratch) noexcept nogil:
    """dweight += d^T a or, of two parts, its tangent d_dot^T a + d^T a_dot."""
    if parts == 1:
        weight_gradient(g, rows, M, cols, d, a, dweight, scratch)
        return
    weight_gradient(g, rows, M, cols, d_dot, a, dweight, scratch)
    if a_dot != NULL:
        weight_gradient(g, rows, M, cols, d, a_dot, dweight, scratch)


cdef inline Py_ssize_t lanes(const general_t *g, bint is_double) noexcept nogil:
    return g.layer.d.lanes if is_double else g.layer.s.lanes


cdef inline Py_ssize_t whole(const general_t *g, Py_ssize_t n, bint is_double) noexcept nogil:
    """n in whole vectors."""
    return round_up(n, lanes(g, is_double))


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


cdef void zone_rows(const general_t *g, const sequences_t *seqs, Py_ssize_t first, Py_ssize_t alive,
                    Py_ssize_t s, int kind, double probability, floating *rows) noexcept nogil:
    """How much of the old state stays, (alive, H): 0 or 1 where masks are drawn."""
    cdef Py_ssize_t n, j, H = g.layer.hidden_size
    for n in range(alive):
        if g.random:
            bernoulli_row(g.seed, kind, g.stream, seqs.order[first + n],
                          time_of(&g.layer, seqs, first + n, s), H, probability, <floating>1, <floating>0,
                          rows + n * H)
        else:
            for j in range(H):
                rows[n * H + j] = <floating>probability


# ---- layouts, in elements


cdef inline Py_ssize_t take(Py_ssize_t *size, Py_ssize_t n) noexcept nogil:
    """The offset of n more elements in a buffer of size[0] so far."""
    cdef Py_ssize_t offset = size[0]
    size[0] = plus(offset, aligned(n))
    return offset


cdef Py_ssize_t word_size(const general_t *g, int word) noexcept nogil:
    cdef Py_ssize_t H = g.layer.hidden_size
    if word == WEIGHT_IH:
        return times3(4, H, g.layer.input_size)
    if word == WEIGHT_HH:
        return times3(4, H, g.out_size)
    if word == WEIGHT_HR:
        return times(g.out_size, H)
    if word == PEEPHOLE:
        return 3 * H
    return H if word == NORM_C or word == NORM_C_BIAS else 4 * H


cdef inline Py_ssize_t packed_size(const general_t *g, Py_ssize_t depth, Py_ssize_t cols,
                                   bint is_double) noexcept nogil:
    return g.layer.d.packed_size(depth, cols) if is_double else g.layer.s.packed_size(depth, cols)


cdef inline Py_ssize_t gradient_scratch(const general_t *g, Py_ssize_t rows, Py_ssize_t M, Py_ssize_t cols,
                                        bint is_double) noexcept nogil:
    return (g.layer.d.gradient_scratch(rows, M, cols) if is_double
            else g.layer.s.gradient_scratch(rows, M, cols))


cdef panels_t panels_layout(const general_t *g, bint is_double) noexcept nogil:
    cdef Py_ssize_t H = g.layer.hidden_size, I = g.layer.input_size, P = g.out_size, n = 0
    cdef panels_t at
    cdef int word
    at.ih = take(&n, packed_size(g, I, 4 * H, is_double))
    at.hh = take(&n, packed_size(g, P, 4 * H, is_double))
    at.hr = take(&n, packed_size(g, H, P, is_double) if g.projected else 0)
    at.ih_back = take(&n, packed_size(g, 4 * H, I, is_double))
    at.hh_back = take(&n, packed_size(g, 4 * H, P, is_double))
    at.hr_back = take(&n, packed_size(g, P, H, is_double) if g.projected else 0)
    for word in range(WORDS):
        at.vector[word] = -1
        if g.at[word] >= 0 and word != WEIGHT_IH and word != WEIGHT_HH and word != WEIGHT_HR:
            at.vector[word] = take(&n, word_size(g, word))
    at.size = n
    return at


# A partial weight gradient: dweight_ih (4H, XC) | dweight_hh (4H, PC) | dweight_hr (P, HC) | vectors.
cdef struct partial_t:
    Py_ssize_t x_columns, p_columns, h_columns
    Py_ssize_t at[9]
    Py_ssize_t size


cdef partial_t partial_layout(const general_t *g, bint is_double) noexcept nogil:
    cdef Py_ssize_t H = g.layer.hidden_size, n = 0
    cdef partial_t to
    cdef int word
    to.x_columns = whole(g, g.layer.input_size, is_double)
    to.p_columns = whole(g, g.out_size, is_double)
    to.h_columns = whole(g, H, is_double)
    for word in range(WORDS):
        if word == WEIGHT_IH:
            to.at[word] = take(&n, times3(4, H, to.x_columns))
        elif word == WEIGHT_HH:
            to.at[word] = take(&n, times3(4, H, to.p_columns))
        elif word == WEIGHT_HR:
            to.at[word] = take(&n, times(g.out_size, to.h_columns) if g.projected else 0)
        elif g.at[word] >= 0:
            to.at[word] = take(&n, word_size(g, word))
        else:
            to.at[word] = -1
    to.size = n
    return to


cdef Py_ssize_t partial_size(const general_t *g, bint is_double) noexcept nogil:
    return partial_layout(g, is_double).size


# Offsets into one thread's workspace; of two parts, each array but the masks twice.
cdef struct work_t:
    Py_ssize_t x[2]              # rows of a chunk, x; in backward in whole vectors
    Py_ssize_t pre_x[2]
    Py_ssize_t pre_h[2]
    Py_ssize_t h[2]              # the state
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
    Py_ssize_t fed_rows[2]       # of a chunk, in whole vectors
    Py_ssize_t m_rows[2]
    Py_ssize_t dh_rows[2]
    Py_ssize_t dx[2]
    Py_ssize_t dbias[2]
    Py_ssize_t again_pre_x[2]    # the rows of a span, under checkpointing
    Py_ssize_t again_pre_h[2]
    Py_ssize_t again_cells[2]
    Py_ssize_t again_fed[2]
    Py_ssize_t term              # a product of the tangent
    Py_ssize_t zone_c
    Py_ssize_t zone_h
    Py_ssize_t mask              # of recurrent dropout
    Py_ssize_t gradient          # weight_gradient's scratch
    Py_ssize_t size


cdef work_t work_layout(const general_t *g, const sequences_t *seqs, int parts, bint backward,
                        bint checkpointed, bint is_double) noexcept nogil:
    cdef Py_ssize_t H = g.layer.hidden_size, P = g.out_size, n = largest_block(seqs)
    cdef Py_ssize_t rows = max(g.layer.chunk_rows, n), span = times(seqs.span, n) if checkpointed else 0
    cdef Py_ssize_t I = whole(g, g.layer.input_size, is_double), size = 0
    cdef bint norm = g.layer.cell.layer_norm
    cdef work_t w
    cdef int p
    for p in range(parts):
        w.x[p] = take(&size, times(rows, I))
        w.pre_x[p] = take(&size, times3(4, rows, H))
        w.pre_h[p] = take(&size, times3(4, n, H))
        w.h[p] = take(&size, times(n, P))
        w.c[p] = take(&size, times(n, H))
        w.m[p] = take(&size, times(n, H) if g.projected else 0)
        w.fed[p] = take(&size, times(n, P))
        w.bias[p] = take(&size, times3(4, n, H))
        w.scratch[p] = take(&size, 7 * H if norm else 0)
        if not backward:
            continue
        w.dh[p] = take(&size, times(n, P))
        w.dm[p] = take(&size, times(n, H) if g.projected else 0)
        w.dc[p] = take(&size, times(n, H))
        w.dh_prev[p] = take(&size, times(n, H) if g.zone_h > 0 else 0)
        w.dpre_x[p] = take(&size, times3(4, rows, H))
        w.dpre_h[p] = take(&size, times3(4, rows, H)) if norm else w.dpre_x[p]
        w.fed_rows[p] = take(&size, times(rows, whole(g, P, is_double)))
        w.m_rows[p] = take(&size, times(rows, whole(g, H, is_double)) if g.projected else 0)
        w.dh_rows[p] = take(&size, times(rows, P) if g.projected else 0)
        w.dx[p] = take(&size, times(rows, I))
        w.dbias[p] = take(&size, times3(4, n, H))
        w.again_pre_x[p] = take(&size, times3(4, span, H))
        w.again_pre_h[p] = take(&size, times3(4, span, H) if norm else 0)
        w.again_cells[p] = take(&size, times(span, H))
        w.again_fed[p] = take(&size, times(span, P))
    w.term = take(&size, times(rows, max(4 * H, max(P, I))) if parts > 1 else 0)
    w.zone_c = take(&size, times(n, H) if g.zone_c > 0 else 0)
    w.zone_h = take(&size, times(n, H) if g.zone_h > 0 else 0)
    w.mask = take(&size, times(n, P))
    w.gradient = take(&size, gradient_scratch(g, rows, max(4 * H, P), max(I, max(H, P)), is_double)
                      if backward else 0)
    w.size = size
    return w


cdef Py_ssize_t general_workspace(const general_t *g, const sequences_t *seqs, int parts, bint backward,
                                  bint checkpointed, bint is_double) noexcept nogil:
    return work_layout(g, seqs, parts, backward, checkpointed, is_double).size


cdef void transpose(Py_ssize_t rows, Py_ssize_t cols, const floating *a, floating *b) noexcept nogil:
    """b (cols, rows) = a (rows, cols) transposed."""
    cdef Py_ssize_t i, j, j0
    for j0 in range(0, cols, 16):
        for i in range(rows):
            for j in range(j0, min(j0 + 16, cols)):
                b[j * rows + i] = a[i * cols + j]


cdef inline void pack(const general_t *g, Py_ssize_t depth, Py_ssize_t cols, const floating *b,
                      floating *panels) noexcept nogil:
    if floating is float:
        g.layer.s.pack(depth, cols, b, panels)
    else:
        g.layer.d.pack(depth, cols, b, panels)


cdef void pack_general(const general_t *g, const floating *parameters, bint backward, floating *packed,
                       floating *scratch) noexcept nogil:
    """packed = the weights of `parameters` as panels. scratch: as large as the largest weight."""
    cdef panels_t to = panels_layout(g, floating is double)
    cdef Py_ssize_t H = g.layer.hidden_size, I = g.layer.input_size, P = g.out_size
    cdef const floating *weight
    cdef int word
    weight = parameters + g.at[WEIGHT_IH]
    transpose(4 * H, I, weight, scratch)
    pack(g, I, 4 * H, <const floating*>scratch, packed + to.ih)
    if backward:
        pack(g, 4 * H, I, weight, packed + to.ih_back)
    weight = parameters + g.at[WEIGHT_HH]
    transpose(4 * H, P, weight, scratch)
    pack(g, P, 4 * H, <const floating*>scratch, packed + to.hh)
    if backward:
        pack(g, 4 * H, P, weight, packed + to.hh_back)
    if g.projected:
        weight = parameters + g.at[WEIGHT_HR]
        transpose(P, H, weight, scratch)
        pack(g, H, P, <const floating*>scratch, packed + to.hr)
        if backward:
            pack(g, P, H, weight, packed + to.hr_back)
    for word in range(WORDS):
        if to.vector[word] >= 0:
            memcpy(packed + to.vector[word], parameters + g.at[word], word_size(g, word) * sizeof(floating))


# ---- one block


cdef inline const floating *panel(floating *tag, const run_t *run, int p, Py_ssize_t at) noexcept nogil:
    """Packed weights of a part; NULL where that part has none."""
    if at < 0 or run.part[p].packed == NULL:
        return NULL
    return <const floating*>run.part[p].packed + at


cdef void name_parameters(const general_t *g, const run_t *run, int p, floating *work, const work_t *w,
                          const panels_t *at, lstm_step *step) noexcept nogil:
    """The parameters of the cell, and what does not change from step to step."""
    if run.part[0].bias_rows != NULL:
        step.bias = work + w.bias[p]
        step.bias_stride = 4 * g.layer.hidden_size
    else:
        step.bias = panel(work, run, p, at.vector[BIAS])
    step.peephole = panel(work, run, p, at.vector[PEEPHOLE])
    step.norm_ih = panel(work, run, p, at.vector[NORM_IH])
    step.norm_hh = panel(work, run, p, at.vector[NORM_HH])
    step.norm_c = panel(work, run, p, at.vector[NORM_C])
    step.norm_c_bias = panel(work, run, p, at.vector[NORM_C_BIAS])
    step.scratch = work + w.scratch[p]
    if g.zone_c > 0:
        step.zone_c = work + w.zone_c
    if g.zone_h > 0:
        step.zone_h = work + w.zone_h


cdef void begin_block(const general_t *g, const sequences_t *seqs, Py_ssize_t b, const run_t *run,
                      floating *work, const work_t *w) noexcept nogil:
    """What belongs to the sequences of a block: masks, and rows of static inputs."""
    cdef Py_ssize_t first = seqs.block[b], last = seqs.block[b + 1], n, P = g.out_size
    cdef floating keep
    cdef int p
    if g.random and g.recurrent_dropout > 0:
        keep = <floating>(1 / (1 - g.recurrent_dropout))
        for n in range(first, last):
            bernoulli_row(g.seed, RECURRENT_DROPOUT, g.stream, seqs.order[n], 0, P, g.recurrent_dropout,
                          <floating>0, keep, work + w.mask + (n - first) * P)
    if run.part[0].bias_rows != NULL:
        for p in range(run.parts):
            load_states(seqs, first, last, 4 * g.layer.hidden_size,
                        <const floating*>run.part[p].bias_rows, work + w.bias[p])


cdef inline void times_mask(const general_t *g, Py_ssize_t n, const floating *mask,
                            floating *rows) noexcept nogil:
    """rows (n, P) *= recurrent dropout's mask."""
    cdef Py_ssize_t j
    if g.random and g.recurrent_dropout > 0:
        for j in range(n * g.out_size):
            rows[j] *= mask[j]


cdef inline void padded(Py_ssize_t rows, Py_ssize_t width, Py_ssize_t columns, const floating *source,
                        floating *target) noexcept nogil:
    """target (rows, columns) = source (rows, width), and zeros."""
    cdef Py_ssize_t r
    for r in range(rows):
        memcpy(target + r * columns, source + r * width, width * sizeof(floating))
        memset(target + r * columns + width, 0, (columns - width) * sizeof(floating))


cdef void call_cell(const general_t *g, bint forward, Py_ssize_t rows, floating *tag, const lstm_step *v,
                    const lstm_step *t) noexcept nogil:
    if floating is float:
        if forward:
            g.layer.s.general_forward(&g.layer.cell, rows, g.layer.hidden_size, v, t)
        else:
            g.layer.s.general_backward(&g.layer.cell, rows, g.layer.hidden_size, v, t)
    else:
        if forward:
            g.layer.d.general_forward(&g.layer.cell, rows, g.layer.hidden_size, v, t)
        else:
            g.layer.d.general_backward(&g.layer.cell, rows, g.layer.hidden_size, v, t)


# ---- forward


cdef void forward_span(const general_t *g, const sequences_t *seqs, Py_ssize_t b, Py_ssize_t begin,
                       Py_ssize_t end, const run_t *run, const rows_t *tape, bint outputs,
                       floating *work, const work_t *w) noexcept nogil:
    """Steps begin..end of one block, from the state in `work`, which they replace.

    tape: for each part the rows of the span, filled; NULL in them in inference. outputs: False when
    steps are computed again for their rows alone.
    """
    cdef const layer_t *L = &g.layer
    cdef Py_ssize_t H = L.hidden_size, I = L.input_size, P = g.out_size
    cdef Py_ssize_t first = seqs.block[b], last = seqs.block[b + 1]
    cdef Py_ssize_t steps = max(<Py_ssize_t>1, L.chunk_rows // (last - first))
    cdef Py_ssize_t s = begin, stop, n, row = 0, chunk, r, alive, all_rows = seqs.row[b]
    cdef bint norm = L.cell.layer_norm, taped = tape[0].cells != NULL
    cdef panels_t at = panels_layout(g, floating is double)
    cdef int p, parts = run.parts
    cdef lstm_step step[2]
    cdef floating *pre_x[2]
    cdef floating *pre_h[2]
    cdef floating *fed[2]
    cdef floating *x[2]
    cdef floating *h[2]
    cdef floating *m[2]
    memset(step, 0, sizeof(step))
    pre_x[1] = pre_h[1] = fed[1] = x[1] = h[1] = m[1] = NULL
    for p in range(parts):
        name_parameters(g, run, p, work, w, &at, &step[p])
        h[p] = work + w.h[p]
        m[p] = work + w.m[p] if g.projected else h[p]
    for s in range(begin):
        all_rows += alive_at(seqs, first, last, s)
    s = begin
    while s < end:
        stop = min(s + steps, end)
        chunk = 0
        for n in range(s, stop):
            alive = alive_at(seqs, first, last, n)
            for p in range(parts):
                if run.part[p].x != NULL:
                    gather(L, seqs, first, alive, n, I, <const floating*>run.part[p].x, run.part[p].sx,
                           work + w.x[p] + chunk * I, I)
            chunk += alive
        for p in range(parts):
            x[p] = work + w.x[p] if run.part[p].x != NULL else NULL
            pre_x[p] = <floating*>tape[p].pre_x + 4 * row * H if norm and taped else work + w.pre_x[p]
        products(g, parts, chunk, I, 4 * H, <const floating*>x[0], <const floating*>x[1],
                 panel(work, run, 0, at.ih), panel(work, run, 1, at.ih) if parts > 1 else NULL,
                 pre_x[0], pre_x[1], work + w.term, False, True)
        r = 0
        for s in range(s, stop):
            alive = alive_at(seqs, first, last, s)
            for p in range(parts):
                fed[p] = <floating*>tape[p].fed + row * P if taped else work + w.fed[p]
                pre_h[p] = <floating*>tape[p].pre_h + 4 * row * H if norm and taped else work + w.pre_h[p]
                memcpy(fed[p], h[p], alive * P * sizeof(floating))
                times_mask(g, alive, <const floating*>(work + w.mask), fed[p])
                if taped:
                    memcpy(<floating*>tape[p].cells + row * H, work + w.c[p], alive * H * sizeof(floating))
                    if not norm:
                        step[p].pre = <floating*>tape[p].pre_x + 4 * row * H
                step[p].pre_x = pre_x[p] + 4 * r * H
                step[p].pre_h = pre_h[p]
                step[p].c_prev = step[p].c = work + w.c[p]
                step[p].h_prev = h[p]
                step[p].h = m[p]
            if outputs and run.gates != NULL:
                step[0].gates = <floating*>run.gates + 4 * all_rows * H
            products(g, parts, alive, P, 4 * H, <const floating*>fed[0], <const floating*>fed[1],
                     panel(work, run, 0, at.hh), panel(work, run, 1, at.hh) if parts > 1 else NULL,
                     pre_h[0], pre_h[1], work + w.term, s & 1, True)
            if g.zone_c > 0:
                zone_rows(g, seqs, first, alive, s, ZONE_C, g.zone_c, work + w.zone_c)
            if g.zone_h > 0:
                zone_rows(g, seqs, first, alive, s, ZONE_H, g.zone_h, work + w.zone_h)
            call_cell(g, True, alive, work, &step[0], &step[1] if parts > 1 else NULL)
            if g.projected:
                products(g, parts, alive, H, P, <const floating*>m[0], <const floating*>m[1],
                         panel(work, run, 0, at.hr), panel(work, run, 1, at.hr) if parts > 1 else NULL,
                         h[0], h[1], work + w.term, s & 1, True)
            if outputs:
                n = alive_at(seqs, first, last, s + 1)
                for p in range(parts):
                    scatter(L, seqs, first, alive, s, P, <const floating*>h[p],
                            <floating*>run.part[p].y, run.part[p].sy, False)
                    save_states(seqs, first + n, first + alive, P, <const floating*>h[p] + n * P,
                                <floating*>run.part[p].h_n)
                    save_states(seqs, first + n, first + alive, H,
                                <const floating*>(work + w.c[p] + n * H), <floating*>run.part[p].c_n)
                if run.gates != NULL:
                    memcpy(<floating*>run.cells + all_rows * H, work + w.c[0], alive * H * sizeof(floating))
            row += alive
            r += alive
            all_rows += alive
        s = stop


cdef void forward_block(const general_t *g, const sequences_t *seqs, Py_ssize_t b, const run_t *run,
                        floating *work, const work_t *w) noexcept nogil:
    cdef Py_ssize_t H = g.layer.hidden_size, P = g.out_size
    cdef Py_ssize_t first = seqs.block[b], last = seqs.block[b + 1], n = last - first
    cdef Py_ssize_t time = seqs.lengths[first], alive = alive_at(seqs, first, last, 0), s = 0, end
    cdef Py_ssize_t start = seqs.start[b], row = seqs.row[b], s_row
    cdef rows_t tape[2]
    cdef int p
    cdef const part_t *part
    cdef uint64_t mode = silence()
    memset(tape, 0, sizeof(tape))
    begin_block(g, seqs, b, run, work, w)
    for p in range(run.parts):
        part = &run.part[p]
        load_states(seqs, first, last, P, <const floating*>part.h_0, work + w.h[p])
        load_states(seqs, first, last, H, <const floating*>part.c_0, work + w.c[p])
        # A sequence of length 0 ends as it began.
        save_states(seqs, first + alive, last, P, <const floating*>(work + w.h[p] + alive * P),
                    <floating*>part.h_n)
        save_states(seqs, first + alive, last, H, <const floating*>(work + w.c[p] + alive * H),
                    <floating*>part.c_n)
        clear_padding(seqs, first, last, P, <floating*>part.y, part.sy)
    while s < time:
        end = min(s + seqs.span, time)
        for p in range(run.parts):
            part = &run.part[p]
            if part.starts_h != NULL:
                memcpy(<floating*>part.starts_h + start * P, work + w.h[p], n * P * sizeof(floating))
                memcpy(<floating*>part.starts_c + start * H, work + w.c[p], n * H * sizeof(floating))
            if part.tape.cells != NULL:
                tape[p].pre_x = <floating*>part.tape.pre_x + 4 * row * H
                if g.layer.cell.layer_norm:
                    tape[p].pre_h = <floating*>part.tape.pre_h + 4 * row * H
                tape[p].cells = <floating*>part.tape.cells + row * H
                tape[p].fed = <floating*>part.tape.fed + row * P
        forward_span(g, seqs, b, s, end, run, tape, True, work, w)
        for s_row in range(s, end):
            row += alive_at(seqs, first, last, s_row)
        start += n
        s = end
    end_silence(mode)


cdef void general_forward(const general_t *g, const sequences_t *seqs, const run_t *run, floating *work,
                          Py_ssize_t work_size, int n_threads) noexcept nogil:
    """All blocks of one direction of one layer.

    work: n_threads times work_size = general_workspace(). Arrays of `run` are the caller's, whole.
    """
    cdef Py_ssize_t b
    cdef work_t w = work_layout(g, seqs, run.parts, False, False, floating is double)
    if n_threads == 1 or seqs.n_blocks == 1:
        for b in range(seqs.n_blocks):
            forward_block(g, seqs, b, run, work, &w)
        return
    for b in prange(seqs.n_blocks, schedule="dynamic", chunksize=1, num_threads=n_threads):
        forward_block(g, seqs, b, run, work + threadid() * work_size, &w)


# ---- backward


cdef void backward_span(const general_t *g, const sequences_t *seqs, Py_ssize_t b, Py_ssize_t begin,
                        Py_ssize_t end, const run_t *run, const rows_t *tape, floating *partial,
                        floating *work, const work_t *w) noexcept nogil:
    """Steps end..begin of one block, backwards, from the rows of the span.

    dh, dc in `work` are the gradients of the state after the span for the sequences that go on,
    replaced by those of the state before it. partial: a partial_layout(), added to.
    """
    cdef const layer_t *L = &g.layer
    cdef Py_ssize_t H = L.hidden_size, I = L.input_size, P = g.out_size
    cdef Py_ssize_t first = seqs.block[b], last = seqs.block[b + 1]
    cdef Py_ssize_t steps = max(<Py_ssize_t>1, L.chunk_rows // (last - first))
    cdef Py_ssize_t s, stop = end, start, row = 0, chunk, r, alive, entered, n
    cdef bint norm = L.cell.layer_norm
    cdef bint wanted = run.part[run.parts - 1].dx != NULL
    cdef panels_t at = panels_layout(g, floating is double)
    cdef partial_t to = partial_layout(g, floating is double)
    cdef int p, parts = run.parts
    cdef lstm_step step[2]
    cdef floating *x[2]
    cdef floating *dh[2]
    cdef floating *dm[2]
    cdef floating *term = work + w.term
    memset(step, 0, sizeof(step))
    x[1] = dh[1] = dm[1] = NULL
    for p in range(parts):
        name_parameters(g, run, p, work, w, &at, &step[p])
        if run.part[0].bias_rows != NULL:
            step[p].dbias = work + w.dbias[p]
        dh[p] = work + w.dh[p]
        dm[p] = work + w.dm[p] if g.projected else dh[p]
        step[p].dh = dm[p]
        step[p].dc = work + w.dc[p]
        if g.zone_h > 0:
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
            entered = alive_at(seqs, first, last, s)
            row -= entered
            r -= entered
            for p in range(parts):
                # Sequences whose last step this is come in with the gradient of their final state.
                load_states(seqs, first + alive, first + entered, P, <const floating*>run.part[p].dh_n,
                            dh[p] + alive * P)
                load_states(seqs, first + alive, first + entered, H, <const floating*>run.part[p].dc_n,
                            work + w.dc[p] + alive * H)
                if run.part[p].dy != NULL:
                    gather_add(L, seqs, first, entered, s, P, <const floating*>run.part[p].dy,
                               run.part[p].sdy, dh[p])
                if run.part[p].x != NULL:
                    gather(L, seqs, first, entered, s, I, <const floating*>run.part[p].x, run.part[p].sx,
                           work + w.x[p] + r * to.x_columns, to.x_columns)
                padded(entered, P, to.p_columns, <const floating*>tape[p].fed + row * P,
                       work + w.fed_rows[p] + r * to.p_columns)
                step[p].pre_x = <floating*>tape[p].pre_x + 4 * row * H
                step[p].pre_h = <floating*>tape[p].pre_h + 4 * row * H if norm else NULL
                step[p].c_prev = <floating*>tape[p].cells + row * H
                step[p].dpre_x = work + w.dpre_x[p] + 4 * r * H
                step[p].dpre_h = work + w.dpre_h[p] + 4 * r * H
                if g.projected:
                    memcpy(work + w.dh_rows[p] + r * P, dh[p], entered * P * sizeof(floating))
                    step[p].h = work + w.m[p]
            alive = entered
            if g.projected:
                products(g, parts, alive, P, H, <const floating*>dh[0], <const floating*>dh[1],
                         panel(work, run, 0, at.hr_back),
                         panel(work, run, 1, at.hr_back) if parts > 1 else NULL, dm[0], dm[1], term, s & 1,
                         False)
            if g.zone_c > 0:
                zone_rows(g, seqs, first, alive, s, ZONE_C, g.zone_c, work + w.zone_c)
            if g.zone_h > 0:
                zone_rows(g, seqs, first, alive, s, ZONE_H, g.zone_h, work + w.zone_h)
            call_cell(g, False, alive, work, &step[0], &step[1] if parts > 1 else NULL)
            if g.projected:
                for p in range(parts):
                    padded(alive, H, to.h_columns, <const floating*>(work + w.m[p]),
                           work + w.m_rows[p] + r * to.h_columns)
            products(g, parts, alive, 4 * H, P, <const floating*>step[0].dpre_h,
                     <const floating*>step[1].dpre_h, panel(work, run, 0, at.hh_back),
                     panel(work, run, 1, at.hh_back) if parts > 1 else NULL, dh[0], dh[1], term, s & 1, False)
            for p in range(parts):
                times_mask(g, alive, <const floating*>(work + w.mask), dh[p])
                if g.zone_h > 0:
                    add_row(alive * H, <const floating*>(work + w.dh_prev[p]), dh[p])
        for p in range(parts):
            x[p] = work + w.x[p] if run.part[p].x != NULL else NULL
            if x[p] != NULL:
                for n in range(chunk):
                    memset(x[p] + n * to.x_columns + I, 0, (to.x_columns - I) * sizeof(floating))
        weight_gradients(g, parts, chunk, 4 * H, to.x_columns, <const floating*>(work + w.dpre_x[0]),
                         <const floating*>(work + w.dpre_x[parts - 1]), <const floating*>x[0],
                         <const floating*>x[1], partial + to.at[WEIGHT_IH], work + w.gradient)
        weight_gradients(g, parts, chunk, 4 * H, to.p_columns, <const floating*>(work + w.dpre_h[0]),
                         <const floating*>(work + w.dpre_h[parts - 1]),
                         <const floating*>(work + w.fed_rows[0]),
                         <const floating*>(work + w.fed_rows[parts - 1]), partial + to.at[WEIGHT_HH],
                         work + w.gradient)
        if g.projected:
            weight_gradients(g, parts, chunk, P, to.h_columns, <const floating*>(work + w.dh_rows[0]),
                             <const floating*>(work + w.dh_rows[parts - 1]),
                             <const floating*>(work + w.m_rows[0]),
                             <const floating*>(work + w.m_rows[parts - 1]), partial + to.at[WEIGHT_HR],
                             work + w.gradient)
        if wanted:
            products(g, parts, chunk, 4 * H, I, <const floating*>(work + w.dpre_x[0]),
                     <const floating*>(work + w.dpre_x[parts - 1]), panel(work, run, 0, at.ih_back),
                     panel(work, run, 1, at.ih_back) if parts > 1 else NULL, work + w.dx[0],
                     work + w.dx[parts - 1], term, False, False)
            r = 0
            for s in range(start, stop):
                n = alive_at(seqs, first, last, s)
                for p in range(parts):
                    scatter(L, seqs, first, n, s, I, <const floating*>(work + w.dx[p] + r * I),
                            <floating*>run.part[p].dx, run.part[p].sdx, run.add_dx)
                r += n
        stop = start


cdef void backward_block(const general_t *g, const sequences_t *seqs, Py_ssize_t b, const run_t *run,
                         floating *partial, floating *work, const work_t *w) noexcept nogil:
    cdef Py_ssize_t H = g.layer.hidden_size, P = g.out_size, I = g.layer.input_size
    cdef Py_ssize_t first = seqs.block[b], last = seqs.block[b + 1], size = last - first
    cdef Py_ssize_t time = seqs.lengths[first], n_spans = ceil_div(time, seqs.span)
    cdef Py_ssize_t k, begin, end, alive, start
    cdef bint taped = run.part[0].tape.cells != NULL
    cdef rows_t tape[2]
    cdef const part_t *part
    cdef int p
    memset(tape, 0, sizeof(tape))
    begin_block(g, seqs, b, run, work, w)
    for p in range(run.parts):
        part = &run.part[p]
        if part.dx != NULL and not run.add_dx:
            clear_padding(seqs, first, last, I, <floating*>part.dx, part.sdx)
        if run.part[0].bias_rows != NULL:
            memset(work + w.dbias[p], 0, 4 * size * H * sizeof(floating))
    for k in range(n_spans - 1, -1, -1):
        begin = k * seqs.span
        end = min(begin + seqs.span, time)
        start = seqs.start[b] + k * size
        for p in range(run.parts):
            part = &run.part[p]
            if taped:  # one span
                tape[p].pre_x = <floating*>part.tape.pre_x + 4 * seqs.row[b] * H
                if g.layer.cell.layer_norm:
                    tape[p].pre_h = <floating*>part.tape.pre_h + 4 * seqs.row[b] * H
                tape[p].cells = <floating*>part.tape.cells + seqs.row[b] * H
                tape[p].fed = <floating*>part.tape.fed + seqs.row[b] * P
            else:
                tape[p].pre_x = work + w.again_pre_x[p]
                if g.layer.cell.layer_norm:
                    tape[p].pre_h = work + w.again_pre_h[p]
                tape[p].cells = work + w.again_cells[p]
                tape[p].fed = work + w.again_fed[p]
                memcpy(work + w.h[p], <floating*>part.starts_h + start * P, size * P * sizeof(floating))
                memcpy(work + w.c[p], <floating*>part.starts_c + start * H, size * H * sizeof(floating))
        if not taped:
            forward_span(g, seqs, b, begin, end, run, tape, False, work, w)
        backward_span(g, seqs, b, begin, end, run, tape, partial, work, w)
    alive = alive_at(seqs, first, last, 0)
    for p in range(run.parts):
        part = &run.part[p]
        load_states(seqs, first + alive, last, P, <const floating*>part.dh_n, work + w.dh[p] + alive * P)
        load_states(seqs, first + alive, last, H, <const floating*>part.dc_n, work + w.dc[p] + alive * H)
        save_states(seqs, first, last, P, <const floating*>(work + w.dh[p]), <floating*>part.dh_0)
        save_states(seqs, first, last, H, <const floating*>(work + w.dc[p]), <floating*>part.dc_0)
        if run.part[0].bias_rows != NULL:
            save_states(seqs, first, last, 4 * H, <const floating*>(work + w.dbias[p]),
                        <floating*>part.dbias_rows)


cdef void backward_group(const general_t *g, const sequences_t *seqs, Py_ssize_t group, const run_t *run,
                         floating *work, const work_t *w) noexcept nogil:
    """The blocks group, group + n_groups, ...: one after another into one weight gradient."""
    cdef Py_ssize_t b = group, size = partial_size(g, floating is double)
    cdef floating *partial = <floating*>run.part[run.parts - 1].partial + group * size
    cdef uint64_t mode = silence()
    memset(partial, 0, size * sizeof(floating))
    while b < seqs.n_blocks:
        backward_block(g, seqs, b, run, partial, work, w)
        b += seqs.n_groups
    end_silence(mode)


cdef void general_backward(const general_t *g, const sequences_t *seqs, const run_t *run, floating *work,
                           Py_ssize_t work_size, int n_threads) noexcept nogil:
    """All blocks of one direction of one layer, backwards, from the tape in `run`."""
    cdef Py_ssize_t group
    cdef bint checkpointed = run.part[0].tape.cells == NULL
    cdef work_t w = work_layout(g, seqs, run.parts, True, checkpointed, floating is double)
    if n_threads == 1 or seqs.n_groups == 1:
        for group in range(seqs.n_groups):
            backward_group(g, seqs, group, run, work, &w)
        return
    for group in prange(seqs.n_groups, schedule="dynamic", chunksize=1, num_threads=n_threads):
        backward_group(g, seqs, group, run, work + threadid() * work_size, &w)


cdef void add_matrix(Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t ld, const floating *a,
                     floating *total) noexcept nogil:
    cdef Py_ssize_t r
    for r in range(rows):
        add_row(cols, a + r * ld, total + r * cols)


cdef void add_general_partials(const general_t *g, const sequences_t *seqs, const floating *partial,
                               floating *gradient) noexcept nogil:
    """gradient of every word += each group's partial, in the order of the groups."""
    cdef partial_t to = partial_layout(g, floating is double)
    cdef Py_ssize_t _, H = g.layer.hidden_size
    cdef int word
    for _ in range(seqs.n_groups):
        for word in range(WORDS):
            if g.at[word] < 0 or to.at[word] < 0:
                continue
            if word == WEIGHT_IH:
                add_matrix(4 * H, g.layer.input_size, to.x_columns, partial + to.at[word],
                           gradient + g.at[word])
            elif word == WEIGHT_HH:
                add_matrix(4 * H, g.out_size, to.p_columns, partial + to.at[word], gradient + g.at[word])
            elif word == WEIGHT_HR:
                add_matrix(g.out_size, H, to.h_columns, partial + to.at[word], gradient + g.at[word])
            else:
                add_row(word_size(g, word), partial + to.at[word], gradient + g.at[word])
        partial += to.size
