# cython: language_level=3, wraparound=False, cdivision=True
"""The LSTM from C, Cython, numba and Fortran: functions without the GIL, on memory of the caller's.

``lstm_ext/cython_lstm.pxd`` and ``lstm_ext/include/lstm_ext.h`` declare the functions and say what each
pointer is; ``docs/c-level.md`` shows them at work. Made in Python, a `Network` holds the packed weights
that they compute with; `address` gives a function's address to whatever calls by address.
"""
from lstm_ext._lstm import Engine

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from cython cimport floating
from libc.limits cimport INT_MAX
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from lstm_ext._arrays cimport (
    TOO_LARGE,
    aligned,
    ceil_div,
    check_size,
    end_silence,
    plus,
    round_up,
    silence,
    times,
    times3,
)
from lstm_ext._driver cimport (
    add_partials,
    backward,
    backward_workspace,
    cut_sequences,
    default_layer,
    forward,
    forward_workspace,
    layer_t,
    pack_weights,
    packed_layout,
    partial_size,
    sequences_memory,
    sequences_t,
    shape_sequences,
    step,
    strides_t,
    weights_at,
    weights_t,
)
from lstm_ext._general cimport (
    BIAS,
    WEIGHT_HH,
    WEIGHT_IH,
    WORDS,
    general_forward,
    general_t,
    general_workspace,
    pack_general,
    panels_layout,
    run_t,
)
from lstm_ext._kernels cimport (
    LSTM_ACT_SIGMOID,
    LSTM_ACT_TANH,
    table_d,
    table_s,
)


# One direction of one layer: what the default lane has for it, and the general lane, for tangents.
cdef struct direction_t:
    layer_t layer
    weights_t at
    const void *packed
    general_t general
    const void *panels


# What a handle points to.
cdef struct network_t:
    bint is_double, batch_first, has_step
    Py_ssize_t input_size, hidden_size, num_layers, directions
    Py_ssize_t checkpoint        # steps between saved states on a tape; 0: none but the first
    Py_ssize_t weights           # bytes of a layer's, by which a batch is cut into blocks
    direction_t *direction       # (num_layers * directions)


# ---- memory of the caller's, cut into pieces


cdef inline char *on_line(const void *memory) noexcept nogil:
    """The first cache line boundary in `memory`."""
    return <char*>((<uintptr_t>memory + 63) // 64 * 64)


cdef inline char *take(char **memory, Py_ssize_t nbytes) noexcept nogil:
    cdef char *piece = memory[0]
    memory[0] += (nbytes + 63) // 64 * 64  # it fits: the caller's memory holds it
    return piece


cdef inline Py_ssize_t answer(Py_ssize_t nbytes) noexcept nogil:
    """A size as the public functions return it: -1 for one that cannot be counted."""
    return -1 if nbytes == TOO_LARGE else nbytes


cdef inline Py_ssize_t itemsize(const network_t *net) noexcept nogil:
    return sizeof(double) if net.is_double else sizeof(float)


cdef bint fits(const network_t *net, Py_ssize_t batch, Py_ssize_t time) noexcept nogil:
    """Whether all sizes for this batch can be counted, with room to spare."""
    cdef double rows
    if net == NULL or batch < 0 or time < 0:
        return False
    rows = (<double>batch + 128) * (<double>time + 128)
    return rows * (net.num_layers * net.directions) * (
        <double>net.input_size + 16 * <double>net.hidden_size) * 32 < <double>(<size_t>-1 // 2)


cdef sequences_t shaped(const network_t *net, Py_ssize_t batch, Py_ssize_t time, bint taped) noexcept nogil:
    cdef sequences_t seqs
    cdef Py_ssize_t span = max(time, <Py_ssize_t>1)
    if taped and net.checkpoint > 0:
        span = min(span, net.checkpoint)
    # As in _lstm.pyx: BLAS may add in another order for another number of rows.
    shape_sequences(&seqs, batch, time, net.weights, span, not taped and net.direction[0].layer.s.lanes > 1)
    return seqs


cdef Py_ssize_t between_bytes(const network_t *net, const sequences_t *seqs) noexcept nogil:
    """What one inner layer hands to the next."""
    cdef Py_ssize_t rows = times(seqs.batch, seqs.time)
    return times(aligned(times3(rows, net.directions, net.hidden_size)), itemsize(net))


cdef bint wrong_lengths(Py_ssize_t batch, Py_ssize_t time, const Py_ssize_t *lengths) noexcept nogil:
    cdef Py_ssize_t n
    if lengths != NULL:
        for n in range(batch):
            if not 0 <= lengths[n] <= time:
                return True
    return False


cdef inline int refusal(const network_t *net, bint is_double, Py_ssize_t batch, Py_ssize_t time,
                        const Py_ssize_t *lengths) noexcept nogil:
    if net == NULL or net.is_double != is_double:
        return LSTM_WRONG_NETWORK
    if not fits(net, batch, time):
        return LSTM_WRONG_SIZE
    return LSTM_WRONG_LENGTHS if wrong_lengths(batch, time, lengths) else LSTM_OK


cdef strides_t strides(const network_t *net, const sequences_t *seqs, Py_ssize_t width) noexcept nogil:
    """Of a caller's array of sequences."""
    cdef strides_t s
    if net.batch_first:
        s.n, s.t = seqs.time * width, width
    else:
        s.n, s.t = width, seqs.batch * width
    return s


cdef strides_t time_major(const network_t *net, const sequences_t *seqs) noexcept nogil:
    """Of what layers hand to each other: the rows of one step stand together."""
    cdef strides_t s
    s.n, s.t = net.directions * net.hidden_size, seqs.batch * net.directions * net.hidden_size
    return s


cdef inline floating *part(const floating *array, Py_ssize_t offset) noexcept nogil:
    return NULL if array == NULL else <floating*>array + offset


# ---- sizes


cdef Py_ssize_t lstm_step_workspace(const void *network, Py_ssize_t batch) noexcept nogil:
    cdef const network_t *net = <const network_t*>network
    if not fits(net, batch, 1) or not net.has_step or batch > INT_MAX:
        return -1
    return answer(plus(64, times(plus(aligned(times(batch, net.hidden_size)),
                                      times(batch, net.direction[0].layer.gate_columns)), itemsize(net))))


cdef Py_ssize_t forward_work(const network_t *net, const sequences_t *seqs) noexcept nogil:
    cdef Py_ssize_t l, n = 0
    for l in range(net.num_layers):
        n = max(n, forward_workspace(&net.direction[l * net.directions].layer, seqs))
    return times(n, itemsize(net))


cdef Py_ssize_t sequences_bytes(const sequences_t *seqs) noexcept nogil:
    return times(sequences_memory(seqs), sizeof(Py_ssize_t))


cdef Py_ssize_t passed_bytes(const network_t *net, const sequences_t *seqs) noexcept nogil:
    """Of the outputs that inner layers hand on where nothing keeps them: two layers' worth."""
    return times(min(net.num_layers - 1, <Py_ssize_t>2), between_bytes(net, seqs))


cdef Py_ssize_t lstm_forward_workspace(
        const void *network, Py_ssize_t batch, Py_ssize_t time) noexcept nogil:
    cdef const network_t *net = <const network_t*>network
    cdef sequences_t seqs
    if not fits(net, batch, time):
        return -1
    seqs = shaped(net, batch, time, False)
    return answer(plus(plus(128, sequences_bytes(&seqs)),
                       plus(forward_work(net, &seqs), passed_bytes(net, &seqs))))


# What a tape holds, in this order: outputs of the inner layers; for each direction the states before each
# span, and unless there are checkpoints its rows. Room is for sequences of full length.
cdef struct tape_t:
    Py_ssize_t between           # bytes of one layer
    Py_ssize_t starts            # of h, and as many of c
    Py_ssize_t gates
    Py_ssize_t cells
    Py_ssize_t size


cdef tape_t tape_layout(const network_t *net, const sequences_t *seqs) noexcept nogil:
    cdef Py_ssize_t N = seqs.batch, T = seqs.time, H = net.hidden_size
    cdef tape_t to
    to.between = between_bytes(net, seqs)
    to.starts = times(aligned(times3(N, ceil_div(T, seqs.span), H)), itemsize(net))
    to.gates = 0 if net.checkpoint > 0 else times(aligned(times3(4, times(N, T), H)), itemsize(net))
    to.cells = 0 if net.checkpoint > 0 else times(aligned(times3(N, T, H)), itemsize(net))
    to.size = plus(times(net.num_layers - 1, to.between),
                   times3(net.num_layers, net.directions,
                          plus(times(2, to.starts), plus(to.gates, to.cells))))
    return to


cdef Py_ssize_t lstm_tape_size(const void *network, Py_ssize_t batch, Py_ssize_t time) noexcept nogil:
    cdef const network_t *net = <const network_t*>network
    cdef sequences_t seqs
    if not fits(net, batch, time):
        return -1
    seqs = shaped(net, batch, time, True)
    return answer(plus(64, tape_layout(net, &seqs).size))


cdef Py_ssize_t backward_work(const network_t *net, const sequences_t *seqs) noexcept nogil:
    cdef Py_ssize_t l, n = 0
    for l in range(net.num_layers):
        n = max(n, backward_workspace(&net.direction[l * net.directions].layer, seqs, net.checkpoint > 0,
                                      net.is_double))
    return times(n, itemsize(net))


cdef Py_ssize_t partial_bytes(const network_t *net, const sequences_t *seqs) noexcept nogil:
    cdef Py_ssize_t l, n = 0
    for l in range(net.num_layers):
        n = max(n, partial_size(&net.direction[l * net.directions].layer))
    return times3(n, seqs.n_groups, itemsize(net))


cdef Py_ssize_t lstm_backward_workspace(
        const void *network, Py_ssize_t batch, Py_ssize_t time) noexcept nogil:
    cdef const network_t *net = <const network_t*>network
    cdef sequences_t seqs
    if not fits(net, batch, time):
        return -1
    seqs = shaped(net, batch, time, True)
    return answer(plus(plus(plus(192, sequences_bytes(&seqs)), plus(backward_work(net, &seqs),
                       partial_bytes(net, &seqs))), passed_bytes(net, &seqs)))


cdef Py_ssize_t jvp_work(const network_t *net, const sequences_t *seqs) noexcept nogil:
    cdef Py_ssize_t l, n = 0
    for l in range(net.num_layers):
        n = max(n, general_workspace(&net.direction[l * net.directions].general, seqs, 2, False, False,
                                     net.is_double))
    return times(n, itemsize(net))


cdef Py_ssize_t panel_bytes(const network_t *net, Py_ssize_t i) noexcept nogil:
    return times(panels_layout(&net.direction[i].general, net.is_double).size, itemsize(net))


cdef Py_ssize_t largest_weight(const network_t *net) noexcept nogil:
    """Bytes of the largest matrix of weights."""
    return times3(4 * itemsize(net), net.hidden_size,
                  max(net.input_size, times(net.directions, net.hidden_size)))


cdef unsigned long long lstm_flush_subnormals() noexcept nogil:
    return silence()


cdef void lstm_restore_subnormals(unsigned long long mode) noexcept nogil:
    end_silence(mode)


cdef Py_ssize_t lstm_jvp_workspace(const void *network, Py_ssize_t batch, Py_ssize_t time) noexcept nogil:
    cdef const network_t *net = <const network_t*>network
    cdef sequences_t seqs
    cdef Py_ssize_t i, largest = 0
    if not fits(net, batch, time):
        return -1
    seqs = shaped(net, batch, time, False)
    for i in range(net.num_layers * net.directions):
        largest = max(largest, panel_bytes(net, i))
    return answer(plus(plus(plus(256, sequences_bytes(&seqs)), plus(jvp_work(net, &seqs), largest)),
                       plus(largest_weight(net), times(2, passed_bytes(net, &seqs)))))


# ---- one step


cdef int one_step(const network_t *net, Py_ssize_t batch, const floating *x, const floating *h_prev,
                  const floating *c_prev, floating *h, floating *c, void *workspace) noexcept nogil:
    cdef Py_ssize_t l, size
    cdef floating *pre
    cdef floating *h_t
    cdef char *memory
    cdef const direction_t *d
    cdef int status = refusal(net, floating is double, batch, 1, NULL)
    if status == LSTM_OK and batch > INT_MAX:  # more rows than BLAS can count
        status = LSTM_WRONG_SIZE
    if status == LSTM_OK and not net.has_step:
        status = LSTM_NO_STEP
    if status != LSTM_OK or batch == 0:
        return status
    size = batch * net.hidden_size
    memory = on_line(workspace)
    h_t = <floating*>take(&memory, size * sizeof(floating))
    pre = <floating*>memory
    for l in range(net.num_layers):
        d = &net.direction[l]
        if c != c_prev:
            memcpy(c, c_prev, size * sizeof(floating))
        # A product reads all of h_prev for each piece of h.
        step(&d.layer, <const floating*>d.packed, batch, x, d.layer.input_size, h_prev,
             h_t if h == h_prev else h, c, pre)
        if h == h_prev:
            memcpy(h, h_t, size * sizeof(floating))
        x = h
        h += size
        c += size
        h_prev += size
        c_prev += size
    return LSTM_OK


cdef int lstm_step_s(
        const void *network, Py_ssize_t batch, const float *x, const float *h_prev, const float *c_prev,
        float *h, float *c, void *workspace) noexcept nogil:
    return one_step(<const network_t*>network, batch, x, h_prev, c_prev, h, c, workspace)


cdef int lstm_step_d(
        const void *network, Py_ssize_t batch, const double *x, const double *h_prev, const double *c_prev,
        double *h, double *c, void *workspace) noexcept nogil:
    return one_step(<const network_t*>network, batch, x, h_prev, c_prev, h, c, workspace)


# ---- sequences


cdef int forward_stack(
        const network_t *net, Py_ssize_t batch, Py_ssize_t time, const floating *x,
        const Py_ssize_t *lengths, const floating *h_0, const floating *c_0, floating *y, floating *h_n,
        floating *c_n, void *tape, void *workspace) noexcept nogil:
    cdef Py_ssize_t H, D, l, k, at, size
    cdef sequences_t seqs
    cdef strides_t sx, sy, s_between
    cdef tape_t to
    cdef char *memory
    cdef char *recorded = NULL
    cdef char *between
    cdef floating *work
    cdef floating *target
    cdef floating *starts_h = NULL
    cdef floating *starts_c = NULL
    cdef floating *gates = NULL
    cdef floating *cells = NULL
    cdef const direction_t *d
    cdef int status = refusal(net, floating is double, batch, time, lengths)
    if status != LSTM_OK:
        return status
    H, D = net.hidden_size, net.directions
    seqs = shaped(net, batch, time, tape != NULL)
    memory = on_line(workspace)
    cut_sequences(&seqs, lengths,
                  <Py_ssize_t*>take(&memory, sequences_memory(&seqs) * sizeof(Py_ssize_t)))
    size = forward_work(net, &seqs)
    work = <floating*>take(&memory, size)
    between = memory
    if tape != NULL:
        to = tape_layout(net, &seqs)
        between = on_line(tape)
        recorded = between + (net.num_layers - 1) * to.between
    sx, s_between = strides(net, &seqs, net.input_size), time_major(net, &seqs)
    for l in range(net.num_layers):
        if l == net.num_layers - 1:
            target, sy = y, strides(net, &seqs, D * H)
        else:
            target = <floating*>(between + (l if tape != NULL else l % 2) * between_bytes(net, &seqs))
            sy = s_between
        for k in range(D):
            d = &net.direction[l * D + k]
            at = (l * D + k) * batch * H
            if tape != NULL:
                starts_h = <floating*>take(&recorded, to.starts)
                starts_c = <floating*>take(&recorded, to.starts)
                if net.checkpoint == 0:
                    gates = <floating*>take(&recorded, to.gates)
                    cells = <floating*>take(&recorded, to.cells)
            forward(&d.layer, &seqs, <const floating*>d.packed, x, sx, target + k * H, sy,
                    <const floating*>part(h_0, at), <const floating*>part(c_0, at), h_n + at, c_n + at,
                    starts_h, starts_c, gates, cells, work, size, 1)
        x, sx = target, sy
    return LSTM_OK


cdef int lstm_forward_s(
        const void *network, Py_ssize_t batch, Py_ssize_t time, const float *x, const Py_ssize_t *lengths,
        const float *h_0, const float *c_0, float *y, float *h_n, float *c_n, void *tape,
        void *workspace) noexcept nogil:
    return forward_stack(<const network_t*>network, batch, time, x, lengths, h_0, c_0, y, h_n, c_n, tape,
                         workspace)


cdef int lstm_forward_d(
        const void *network, Py_ssize_t batch, Py_ssize_t time, const double *x, const Py_ssize_t *lengths,
        const double *h_0, const double *c_0, double *y, double *h_n, double *c_n, void *tape,
        void *workspace) noexcept nogil:
    return forward_stack(<const network_t*>network, batch, time, x, lengths, h_0, c_0, y, h_n, c_n, tape,
                         workspace)


cdef int backward_stack(
        const network_t *net, Py_ssize_t batch, Py_ssize_t time, const floating *x,
        const Py_ssize_t *lengths, const void *tape, const floating *dy, const floating *dh_n,
        const floating *dc_n, floating *dx, floating *dh_0, floating *dc_0, floating *gradient,
        void *workspace) noexcept nogil:
    cdef Py_ssize_t H, D, l, k, i, at, size
    cdef sequences_t seqs
    cdef strides_t s_up, s_down, s_between
    cdef tape_t to
    cdef char *memory
    cdef char *layers
    cdef char *recorded
    cdef char *between
    cdef floating *work
    cdef floating *partial
    cdef floating *down
    cdef const floating *source
    cdef const floating *up = dy
    cdef const floating *gates = NULL
    cdef const floating *cells = NULL
    cdef const direction_t *d
    cdef int status = refusal(net, floating is double, batch, time, lengths)
    if status != LSTM_OK:
        return status
    H, D = net.hidden_size, net.directions
    seqs = shaped(net, batch, time, True)
    memory = on_line(workspace)
    cut_sequences(&seqs, lengths,
                  <Py_ssize_t*>take(&memory, sequences_memory(&seqs) * sizeof(Py_ssize_t)))
    size = backward_work(net, &seqs)
    work = <floating*>take(&memory, size)
    partial = <floating*>take(&memory, partial_bytes(net, &seqs))
    between = memory
    to = tape_layout(net, &seqs)
    layers = on_line(tape)
    s_up, s_between = strides(net, &seqs, D * H), time_major(net, &seqs)
    for l in range(net.num_layers - 1, -1, -1):
        if l == 0:
            source, down, s_down = x, dx, strides(net, &seqs, net.input_size)
        else:
            source = <const floating*>(layers + (l - 1) * to.between)
            down = <floating*>(between + (l - 1) % 2 * to.between)
            s_down = s_between
        for k in range(D - 1, -1, -1):
            i = l * D + k
            d = &net.direction[i]
            at = i * batch * H
            recorded = (layers + (net.num_layers - 1) * to.between
                        + i * (2 * to.starts + to.gates + to.cells))
            if net.checkpoint == 0:
                gates = <const floating*>(recorded + 2 * to.starts)
                cells = <const floating*>(recorded + 2 * to.starts + to.gates)
            backward(&d.layer, &seqs, <const floating*>d.packed, source, s_down,
                     <const floating*>part(up, k * H), s_up, down, s_down, k != D - 1,
                     <const floating*>part(dh_n, at), <const floating*>part(dc_n, at), dh_0 + at, dc_0 + at,
                     <const floating*>recorded, <const floating*>(recorded + to.starts), gates, cells,
                     partial, work, size, 1)
            if gradient != NULL:
                add_partials(&d.layer, &seqs, &d.at, <const floating*>partial, gradient)
        up, s_up = down, s_down
    return LSTM_OK


cdef int lstm_backward_s(
        const void *network, Py_ssize_t batch, Py_ssize_t time, const float *x, const Py_ssize_t *lengths,
        const void *tape, const float *dy, const float *dh_n, const float *dc_n, float *dx, float *dh_0,
        float *dc_0, float *gradient, void *workspace) noexcept nogil:
    return backward_stack(<const network_t*>network, batch, time, x, lengths, tape, dy, dh_n, dc_n, dx,
                          dh_0, dc_0, gradient, workspace)


cdef int lstm_backward_d(
        const void *network, Py_ssize_t batch, Py_ssize_t time, const double *x, const Py_ssize_t *lengths,
        const void *tape, const double *dy, const double *dh_n, const double *dc_n, double *dx,
        double *dh_0, double *dc_0, double *gradient, void *workspace) noexcept nogil:
    return backward_stack(<const network_t*>network, batch, time, x, lengths, tape, dy, dh_n, dc_n, dx,
                          dh_0, dc_0, gradient, workspace)


# ---- sequences and their tangents


cdef int jvp_stack(
        const network_t *net, Py_ssize_t batch, Py_ssize_t time, const floating *x,
        const Py_ssize_t *lengths, const floating *h_0, const floating *c_0, const floating *x_dot,
        const floating *h_0_dot, const floating *c_0_dot, const floating *parameters_dot, floating *y,
        floating *h_n, floating *c_n, floating *y_dot, floating *h_n_dot, floating *c_n_dot,
        void *workspace) noexcept nogil:
    cdef Py_ssize_t H, D, l, k, i, at, size
    cdef int p
    cdef sequences_t seqs
    cdef strides_t sx, sy, s_between
    cdef run_t run
    cdef char *memory
    cdef floating *work
    cdef floating *panels
    cdef floating *scratch
    cdef char *between
    cdef const floating *source[2]
    cdef floating *target[2]
    cdef const floating *first_h[2]
    cdef const floating *first_c[2]
    cdef floating *last_h[2]
    cdef floating *last_c[2]
    cdef const direction_t *d
    cdef int status = refusal(net, floating is double, batch, time, lengths)
    if status != LSTM_OK:
        return status
    H, D = net.hidden_size, net.directions
    seqs = shaped(net, batch, time, False)
    memory = on_line(workspace)
    cut_sequences(&seqs, lengths,
                  <Py_ssize_t*>take(&memory, sequences_memory(&seqs) * sizeof(Py_ssize_t)))
    size = jvp_work(net, &seqs)
    work = <floating*>take(&memory, size)
    scratch = <floating*>take(&memory, largest_weight(net))
    between = take(&memory, 2 * passed_bytes(net, &seqs))
    panels = <floating*>memory
    source[0], source[1] = x, x_dot
    first_h[0], first_h[1], first_c[0], first_c[1] = h_0, h_0_dot, c_0, c_0_dot
    last_h[0], last_h[1], last_c[0], last_c[1] = h_n, h_n_dot, c_n, c_n_dot
    sx, s_between = strides(net, &seqs, net.input_size), time_major(net, &seqs)
    memset(&run, 0, sizeof(run))
    run.parts = 2
    for l in range(net.num_layers):
        if l == net.num_layers - 1:
            target[0], target[1], sy = y, y_dot, strides(net, &seqs, D * H)
        else:
            for p in range(2):
                target[p] = <floating*>(between + (2 * (l % 2) + p) * between_bytes(net, &seqs))
            sy = s_between
        for k in range(D):
            i = l * D + k
            d = &net.direction[i]
            at = i * batch * H
            if parameters_dot != NULL:
                pack_general(&d.general, parameters_dot, False, panels, scratch)
            for p in range(2):
                run.part[p].x, run.part[p].sx = source[p], sx
                run.part[p].y, run.part[p].sy = target[p] + k * H, sy
                run.part[p].h_0, run.part[p].c_0 = part(first_h[p], at), part(first_c[p], at)
                run.part[p].h_n, run.part[p].c_n = last_h[p] + at, last_c[p] + at
            run.part[0].packed = d.panels
            run.part[1].packed = panels if parameters_dot != NULL else NULL
            general_forward(&d.general, &seqs, &run, work, size, 1)
        source[0], source[1], sx = target[0], target[1], sy
    return LSTM_OK


cdef int lstm_jvp_s(
        const void *network, Py_ssize_t batch, Py_ssize_t time, const float *x, const Py_ssize_t *lengths,
        const float *h_0, const float *c_0, const float *x_dot, const float *h_0_dot, const float *c_0_dot,
        const float *parameters_dot, float *y, float *h_n, float *c_n, float *y_dot, float *h_n_dot,
        float *c_n_dot, void *workspace) noexcept nogil:
    return jvp_stack(<const network_t*>network, batch, time, x, lengths, h_0, c_0, x_dot, h_0_dot, c_0_dot,
                     parameters_dot, y, h_n, c_n, y_dot, h_n_dot, c_n_dot, workspace)


cdef int lstm_jvp_d(
        const void *network, Py_ssize_t batch, Py_ssize_t time, const double *x, const Py_ssize_t *lengths,
        const double *h_0, const double *c_0, const double *x_dot, const double *h_0_dot,
        const double *c_0_dot, const double *parameters_dot, double *y, double *h_n, double *c_n,
        double *y_dot, double *h_n_dot, double *c_n_dot, void *workspace) noexcept nogil:
    return jvp_stack(<const network_t*>network, batch, time, x, lengths, h_0, c_0, x_dot, h_0_dot, c_0_dot,
                     parameters_dot, y, h_n, c_n, y_dot, h_n_dot, c_n_dot, workspace)


# ---- in Python


cdef class Network:
    """The weights of an `LSTM`, packed, for the functions of ``cython_lstm.pxd``.

    Parameters
    ----------
    lstm : LSTM
        Of the default cell (no option beyond the sizes, bidirectional, reverse, batch_first, dtype,
        cell_activation and checkpoint). Its weights are copied: later changes do not reach the network.

    Attributes
    ----------
    address : int
        The handle: what the functions take as ``const void *network``. Good while this object lives.
    """

    cdef network_t network
    cdef void *memory
    cdef readonly Py_ssize_t nbytes

    def __cinit__(self, lstm):
        cdef Py_ssize_t D, L, H, l, k
        cdef direction_t *d
        cdef const float[::1] values_s
        cdef const double[::1] values_d
        try:
            engine, parameters, nan = lstm._engine, lstm.parameters, lstm.nan
            self.network.batch_first = lstm.batch_first
        except AttributeError:
            raise TypeError(f"lstm is {type(lstm).__name__}, expected a lstm_ext.LSTM") from None
        if engine is None:
            raise ValueError(f"lstm is {lstm!r}: expected one of the default cell, without options")
        if nan is not None:
            raise ValueError(f"lstm has nan={nan!r}, expected None: missing values are looked after in "
                             "Python, and nothing below looks for them")
        # The engine's sizes cannot be changed, and are those of its parameters: nothing else is believed.
        if type(engine) is not Engine:
            raise TypeError(f"lstm has an engine of type {type(engine).__name__}, expected that of an LSTM")
        L, H, D = engine.num_layers, engine.hidden_size, engine.directions
        self.network.is_double = not engine.is_float
        self.network.has_step = D == 1 and not engine.reverse
        self.network.input_size, self.network.hidden_size = engine.input_size, H
        self.network.num_layers, self.network.directions = L, D
        self.network.checkpoint = engine.checkpoint
        if self.network.is_double:
            values_d, count = parameters, len(parameters)
        else:
            values_s, count = parameters, len(parameters)
        if count != engine.parameter_count:
            raise ValueError(f"lstm.parameters has {count} elements, expected {engine.parameter_count}")
        self.network.weights = 4 * H * (max(self.network.input_size, H) + H) * itemsize(&self.network)
        self.network.direction = d = <direction_t*>calloc(L * D, sizeof(direction_t))
        if d == NULL:
            raise MemoryError(f"no memory for {L} layers")
        for l in range(L):
            for k in range(D):
                d.at = weights_at(self.network.input_size, H, D, l, k)
                d.layer = default_layer(table_s(), table_d(), self.network.is_double, engine.activation,
                                        self.network.input_size if l == 0 else D * H, H,
                                        engine.reverse or k == 1)
                describe_general(d)
                d += 1
        self.nbytes = packed_bytes(&self.network)
        check_size(self.nbytes, "packed weights")
        self.memory = malloc(self.nbytes)
        if self.memory == NULL:
            raise MemoryError(f"no memory for {self.nbytes} bytes")
        if self.network.is_double:
            pack(&self.network, <const double*>&values_d[0], self.memory)
        else:
            pack(&self.network, <const float*>&values_s[0], self.memory)

    def __dealloc__(self):
        free(self.network.direction)
        free(self.memory)

    def __reduce__(self):
        raise TypeError("a Network cannot be pickled: make one from the LSTM")

    @property
    def address(self):
        """The handle, as an int."""
        return <uintptr_t>&self.network

    def step_workspace(self, Py_ssize_t batch=1):
        """Return the bytes of workspace that a step needs: those of ``lstm_step_workspace``."""
        if not self.network.has_step:
            raise ValueError(
                "this LSTM is bidirectional or reversed: it begins at the end, and has no step")
        return self.checked(lstm_step_workspace(&self.network, batch), batch, 1)

    def forward_workspace(self, Py_ssize_t batch, Py_ssize_t time):
        """Return the bytes of workspace that ``lstm_forward_s`` or ``_d`` needs."""
        return self.checked(lstm_forward_workspace(&self.network, batch, time), batch, time)

    def tape_size(self, Py_ssize_t batch, Py_ssize_t time):
        """Return the bytes of a tape, which ``lstm_forward_s`` or ``_d`` fills."""
        return self.checked(lstm_tape_size(&self.network, batch, time), batch, time)

    def backward_workspace(self, Py_ssize_t batch, Py_ssize_t time):
        """Return the bytes of workspace that ``lstm_backward_s`` or ``_d`` needs."""
        return self.checked(lstm_backward_workspace(&self.network, batch, time), batch, time)

    def jvp_workspace(self, Py_ssize_t batch, Py_ssize_t time):
        """Return the bytes of workspace that ``lstm_jvp_s`` or ``_d`` needs."""
        return self.checked(lstm_jvp_workspace(&self.network, batch, time), batch, time)

    cdef object checked(self, Py_ssize_t nbytes, Py_ssize_t batch, Py_ssize_t time):
        if nbytes >= 0:
            return nbytes
        if batch < 0 or time < 0:
            raise ValueError(f"batch is {batch} and time {time}, expected no negative number")
        raise MemoryError(f"{batch} sequences of {time} steps are more than this machine can address")


cdef void describe_general(direction_t *d) noexcept:
    """d.general of d.layer: the same layer, as the general lane reads it."""
    cdef general_t *g = &d.general
    cdef int word
    g.layer = d.layer
    memset(&g.layer.cell, 0, sizeof(g.layer.cell))
    g.layer.cell.gate.kind = LSTM_ACT_SIGMOID
    g.layer.cell.candidate.kind = LSTM_ACT_TANH
    g.layer.cell.output.kind = d.layer.cell.cell_activation
    g.layer.cell.standard = d.layer.cell.cell_activation == LSTM_ACT_TANH
    g.out_size = d.layer.hidden_size
    for word in range(WORDS):
        g.at[word] = -1
    g.at[WEIGHT_IH], g.at[WEIGHT_HH], g.at[BIAS] = d.at.weight_ih, d.at.weight_hh, d.at.bias


cdef Py_ssize_t packed_bytes(const network_t *net) noexcept:
    """Of all weights, for both lanes, and of the scratch that packing needs."""
    cdef Py_ssize_t i, packed, n = plus(64, largest_weight(net))
    for i in range(net.num_layers * net.directions):
        packed = packed_layout(&net.direction[i].layer, net.is_double).size
        n = plus(n, round_up(times(packed, itemsize(net)), 64))
        n = plus(n, round_up(panel_bytes(net, i), 64))
    return n


cdef void pack(network_t *net, const floating *parameters, void *block) noexcept nogil:
    cdef Py_ssize_t i
    cdef char *memory = on_line(block)
    cdef floating *packed
    cdef direction_t *d
    for i in range(net.num_layers * net.directions):
        d = &net.direction[i]
        packed = <floating*>take(&memory, packed_layout(&d.layer, net.is_double).size * sizeof(floating))
        pack_weights(&d.layer, &d.at, parameters, True, packed)
        d.packed = packed
    for i in range(net.num_layers * net.directions):
        d = &net.direction[i]
        packed = <floating*>take(&memory, panel_bytes(net, i))
        # The scratch lies behind all panels; those of later layers are not there yet.
        pack_general(&d.general, parameters, False, packed, <floating*>memory)
        d.panels = packed


cdef const void *lstm_network(object network) except NULL:
    if not isinstance(network, Network):
        raise TypeError(f"network is {type(network).__name__}, expected a lstm_ext.cython_lstm.Network")
    return &(<Network>network).network


def address(name):
    """Return the address of a function of ``cython_lstm.pxd``, as an int.

    For callers that are not compiled against it: ctypes, CFFI, numba, a Fortran procedure that takes a
    ``c_funptr``.

    Parameters
    ----------
    name : str
        For example ``"lstm_step_d"``.
    """
    functions = globals()["__pyx_capi__"]
    if name not in functions:
        raise ValueError(f"name is {name!r}, expected one of {', '.join(functions)}")
    capsule = functions[name]
    return <uintptr_t>PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))
