# cython: language_level=3, wraparound=False, cdivision=True
"""The LSTM from C, Cython, numba and Fortran: functions without the GIL, on memory of the caller's.

``lstm_ext/cython_lstm.pxd`` and ``lstm_ext/include/lstm_ext.h`` declare the functions and say what each
pointer is; ``docs/c-level.md`` shows them at work. Made in Python, a `Network` holds the packed weights
that they compute with; `address` gives a function's address to whatever calls by address.
"""
from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from libc.limits cimport INT_MAX
from libc.stdint cimport uintptr_t
from libc.string cimport memset

from lstm_ext._arrays cimport TOO_LARGE, Buffer, end_silence, line, plus, silence, times
from lstm_ext._driver cimport (
    DEFAULT, DRIVERS, GENERAL, contiguous, cut_sequences, part_t, sequences_memory, sequences_t, shape_blocks,
)
from lstm_ext._lstm cimport Engine
from lstm_ext._stack cimport (
    add_gradient, call_t, driver_of, itemsize, lay_out, pack_stack, packed_size, shape_call, stack_backward,
    stack_forward, stack_step, stack_t, step_work,
)


# What a handle points to.
cdef struct network_t:
    stack_t stack
    bint batch_first, has_step
    const void *packed[2]        # for each driver; of the default one only where it has all that is asked for


# ---- calls, on the caller's memory


cdef inline char *on_line(const void *memory) noexcept nogil:
    """The first cache line boundary in `memory`."""
    return <char*>((<uintptr_t>memory + 63) // 64 * 64)


cdef bint fits(const network_t *net, Py_ssize_t batch, Py_ssize_t time) noexcept nogil:
    """Whether all sizes for this batch can be counted, with room to spare."""
    cdef const stack_t *stack
    if net == NULL or batch < 0 or time < 0:
        return False
    stack = &net.stack
    return (<double>batch + 128) * (<double>time + 128) * (stack.num_layers * stack.directions) * (
        <double>stack.input_size + 16 * (<double>stack.hidden_size + <double>stack.out_size)
    ) * 32 < <double>(<size_t>-1 // 2)


cdef void begin(const network_t *net, call_t *call, Py_ssize_t batch, Py_ssize_t time, bint backward,
                bint taped, int parts) noexcept nogil:
    memset(call, 0, sizeof(call_t))
    call.driver = driver_of(&net.stack, parts > 1)
    call.backward, call.taped, call.whole_packed = backward, taped, True
    call.n_threads, call.run.parts = 1, parts
    shape_call(&net.stack, call, batch, time, True)


cdef inline Py_ssize_t sequences_bytes(const sequences_t *seqs) noexcept nogil:
    return line(times(sequences_memory(seqs), sizeof(Py_ssize_t)))


cdef Py_ssize_t size(const network_t *net, Py_ssize_t batch, Py_ssize_t time, bint backward, bint taped,
                     int parts, bint of_tape) noexcept nogil:
    """Bytes of a call's workspace or tape, at any address; -1 for what cannot be counted."""
    cdef call_t call
    cdef Py_ssize_t n
    if not fits(net, batch, time):
        return -1
    begin(net, &call, batch, time, backward, taped, parts)
    lay_out(&net.stack, &call)
    if of_tape:
        n = times(call.layout.tape, itemsize(&net.stack))
    else:
        n = plus(call.layout.work, packed_size(&net.stack, GENERAL, True) if parts > 1 else 0)
        n = plus(sequences_bytes(&call.seqs), times(n, itemsize(&net.stack)))
    n = plus(n, 64)
    return -1 if n == TOO_LARGE else n


cdef bint wrong_lengths(Py_ssize_t batch, Py_ssize_t time, const Py_ssize_t *lengths) noexcept nogil:
    cdef Py_ssize_t n
    if lengths != NULL:
        for n in range(batch):
            if not 0 <= lengths[n] <= time:
                return True
    return False


cdef inline int refusal(const network_t *net, bint is_double, Py_ssize_t batch, Py_ssize_t time,
                        const Py_ssize_t *lengths) noexcept nogil:
    if net == NULL or net.stack.is_double != is_double:
        return LSTM_WRONG_NETWORK
    if not fits(net, batch, time):
        return LSTM_WRONG_SIZE
    return LSTM_WRONG_LENGTHS if wrong_lengths(batch, time, lengths) else LSTM_OK


cdef int prepare(const network_t *net, bint is_double, call_t *call, Py_ssize_t batch, Py_ssize_t time,
                 const Py_ssize_t *lengths, bint backward, const void *tape, int parts,
                 void *workspace) noexcept nogil:
    """A call, complete but for the arrays, or why there is none."""
    cdef int status = refusal(net, is_double, batch, time, lengths)
    cdef part_t *part
    cdef int p
    if status != LSTM_OK:
        return status
    begin(net, call, batch, time, backward, tape != NULL, parts)
    workspace = on_line(workspace)
    cut_sequences(&call.seqs, lengths, <Py_ssize_t*>workspace)
    lay_out(&net.stack, call)
    call.run.work = <char*>workspace + sequences_bytes(&call.seqs)
    call.run.part[0].packed = net.packed[call.driver]
    for p in range(parts):
        part = &call.run.part[p]
        part.sx = part.sdx = contiguous(batch, time, net.stack.input_size, net.batch_first)
        part.sy = part.sdy = contiguous(batch, time, net.stack.directions * net.stack.out_size,
                                        net.batch_first)
    if tape != NULL:
        call.tape = on_line(tape)
    return LSTM_OK


cdef Py_ssize_t lstm_forward_workspace(const void *network, Py_ssize_t batch, Py_ssize_t time) noexcept nogil:
    # With a tape, blocks are others.
    return max(size(<const network_t*>network, batch, time, False, False, 1, False),
               size(<const network_t*>network, batch, time, False, True, 1, False))


cdef Py_ssize_t lstm_tape_size(const void *network, Py_ssize_t batch, Py_ssize_t time) noexcept nogil:
    return size(<const network_t*>network, batch, time, False, True, 1, True)


cdef Py_ssize_t lstm_backward_workspace(
        const void *network, Py_ssize_t batch, Py_ssize_t time) noexcept nogil:
    return size(<const network_t*>network, batch, time, True, True, 1, False)


cdef unsigned long long lstm_flush_subnormals() noexcept nogil:
    return silence()


cdef void lstm_restore_subnormals(unsigned long long mode) noexcept nogil:
    end_silence(mode)


cdef Py_ssize_t lstm_jvp_workspace(const void *network, Py_ssize_t batch, Py_ssize_t time) noexcept nogil:
    return size(<const network_t*>network, batch, time, False, False, 2, False)


# ---- one step


cdef Py_ssize_t lstm_step_workspace(const void *network, Py_ssize_t batch) noexcept nogil:
    cdef const network_t *net = <const network_t*>network
    cdef sequences_t seqs
    cdef Py_ssize_t n
    if not fits(net, batch, 1) or not net.has_step or batch > INT_MAX:
        return -1
    shape_blocks(&seqs, batch, 1, max(batch, <Py_ssize_t>1), 1, 1)
    n = plus(plus(64, sequences_bytes(&seqs)), times(step_work(&net.stack, &seqs), itemsize(&net.stack)))
    return -1 if n == TOO_LARGE else n


cdef int step(const void *network, bint is_double, Py_ssize_t batch, const void *x, const void *h_prev,
              const void *c_prev, void *h, void *c, void *workspace) noexcept nogil:
    cdef const network_t *net = <const network_t*>network
    cdef char *memory = on_line(workspace)
    cdef sequences_t seqs
    cdef int status = refusal(net, is_double, batch, 1, NULL)
    if status == LSTM_OK and batch > INT_MAX:  # more rows than BLAS can count
        status = LSTM_WRONG_SIZE
    if status == LSTM_OK and not net.has_step:
        status = LSTM_NO_STEP
    if status != LSTM_OK or batch == 0:
        return status
    if net.stack.general:
        shape_blocks(&seqs, batch, 1, batch, 1, 1)
        cut_sequences(&seqs, NULL, <Py_ssize_t*>memory)
        memory += sequences_bytes(&seqs)
    else:
        seqs.batch = batch
    stack_step(&net.stack, &seqs, net.packed[driver_of(&net.stack, False)], True, x,
               net.stack.input_size, h_prev, c_prev, h, c, NULL, memory)
    return LSTM_OK


cdef int lstm_step_s(const void *network, Py_ssize_t batch, const float *x, const float *h_prev,
                     const float *c_prev, float *h, float *c, void *workspace) noexcept nogil:
    return step(network, False, batch, x, h_prev, c_prev, h, c, workspace)


cdef int lstm_step_d(const void *network, Py_ssize_t batch, const double *x, const double *h_prev,
                     const double *c_prev, double *h, double *c, void *workspace) noexcept nogil:
    return step(network, True, batch, x, h_prev, c_prev, h, c, workspace)


# ---- sequences


cdef int forward(const void *network, bint is_double, Py_ssize_t batch, Py_ssize_t time, const void *x,
                 const Py_ssize_t *lengths, const void *h_0, const void *c_0, const void *x_dot,
                 const void *h_0_dot, const void *c_0_dot, const void *parameters_dot, void *y, void *h_n,
                 void *c_n, void *y_dot, void *h_n_dot, void *c_n_dot, void *tape, int parts,
                 void *workspace) noexcept nogil:
    """parts: 1, or 2 with the tangents."""
    cdef const network_t *net = <const network_t*>network
    cdef call_t call
    cdef part_t *part = &call.run.part[0]
    cdef part_t *dot = &call.run.part[1]
    cdef char *packed
    cdef int status = prepare(net, is_double, &call, batch, time, lengths, False, tape, parts, workspace)
    if status != LSTM_OK:
        return status
    part.x, part.h_0, part.c_0, part.y, part.h_n, part.c_n = x, h_0, c_0, y, h_n, c_n
    dot.x, dot.h_0, dot.c_0, dot.y, dot.h_n, dot.c_n = x_dot, h_0_dot, c_0_dot, y_dot, h_n_dot, c_n_dot
    if parameters_dot != NULL:
        packed = <char*>call.run.work + call.layout.work * itemsize(&net.stack)
        pack_stack(&net.stack, GENERAL, True, False, parameters_dot, packed)
        dot.packed = packed
    stack_forward(&net.stack, &call)
    return LSTM_OK


cdef int lstm_forward_s(const void *network, Py_ssize_t batch, Py_ssize_t time, const float *x,
                        const Py_ssize_t *lengths, const float *h_0, const float *c_0, float *y, float *h_n,
                        float *c_n, void *tape, void *workspace) noexcept nogil:
    return forward(network, False, batch, time, x, lengths, h_0, c_0, NULL, NULL, NULL, NULL, y, h_n, c_n,
                   NULL, NULL, NULL, tape, 1, workspace)


cdef int lstm_forward_d(const void *network, Py_ssize_t batch, Py_ssize_t time, const double *x,
                        const Py_ssize_t *lengths, const double *h_0, const double *c_0, double *y,
                        double *h_n, double *c_n, void *tape, void *workspace) noexcept nogil:
    return forward(network, True, batch, time, x, lengths, h_0, c_0, NULL, NULL, NULL, NULL, y, h_n, c_n,
                   NULL, NULL, NULL, tape, 1, workspace)


cdef int backward(const void *network, bint is_double, Py_ssize_t batch, Py_ssize_t time, const void *x,
                  const Py_ssize_t *lengths, const void *tape, const void *dy, const void *dh_n,
                  const void *dc_n, void *dx, void *dh_0, void *dc_0, void *gradient,
                  void *workspace) noexcept nogil:
    cdef const network_t *net = <const network_t*>network
    cdef Py_ssize_t i
    cdef call_t call
    cdef part_t *part = &call.run.part[0]
    cdef int status = prepare(net, is_double, &call, batch, time, lengths, True, tape, 1, workspace)
    if status != LSTM_OK:
        return status
    part.x, part.dy, part.dh_n, part.dc_n, part.dx, part.dh_0, part.dc_0 = x, dy, dh_n, dc_n, dx, dh_0, dc_0
    for i in range(net.stack.num_layers * net.stack.directions - 1, -1, -1):
        stack_backward(&net.stack, &call, i)
        if gradient != NULL:
            add_gradient(&net.stack, &call, i, gradient)
    return LSTM_OK


cdef int lstm_backward_s(
        const void *network, Py_ssize_t batch, Py_ssize_t time, const float *x, const Py_ssize_t *lengths,
        const void *tape, const float *dy, const float *dh_n, const float *dc_n, float *dx, float *dh_0,
        float *dc_0, float *gradient, void *workspace) noexcept nogil:
    return backward(network, False, batch, time, x, lengths, tape, dy, dh_n, dc_n, dx,
                    dh_0, dc_0, gradient, workspace)


cdef int lstm_backward_d(
        const void *network, Py_ssize_t batch, Py_ssize_t time, const double *x, const Py_ssize_t *lengths,
        const void *tape, const double *dy, const double *dh_n, const double *dc_n, double *dx,
        double *dh_0, double *dc_0, double *gradient, void *workspace) noexcept nogil:
    return backward(network, True, batch, time, x, lengths, tape, dy, dh_n, dc_n, dx,
                    dh_0, dc_0, gradient, workspace)


# ---- sequences and their tangents


cdef int lstm_jvp_s(
        const void *network, Py_ssize_t batch, Py_ssize_t time, const float *x, const Py_ssize_t *lengths,
        const float *h_0, const float *c_0, const float *x_dot, const float *h_0_dot, const float *c_0_dot,
        const float *parameters_dot, float *y, float *h_n, float *c_n, float *y_dot, float *h_n_dot,
        float *c_n_dot, void *workspace) noexcept nogil:
    return forward(network, False, batch, time, x, lengths, h_0, c_0, x_dot, h_0_dot, c_0_dot,
                   parameters_dot, y, h_n, c_n, y_dot, h_n_dot, c_n_dot, NULL, 2, workspace)


cdef int lstm_jvp_d(
        const void *network, Py_ssize_t batch, Py_ssize_t time, const double *x, const Py_ssize_t *lengths,
        const double *h_0, const double *c_0, const double *x_dot, const double *h_0_dot,
        const double *c_0_dot, const double *parameters_dot, double *y, double *h_n, double *c_n,
        double *y_dot, double *h_n_dot, double *c_n_dot, void *workspace) noexcept nogil:
    return forward(network, True, batch, time, x, lengths, h_0, c_0, x_dot, h_0_dot, c_0_dot,
                   parameters_dot, y, h_n, c_n, y_dot, h_n_dot, c_n_dot, NULL, 2, workspace)


# ---- in Python


cdef class Network:
    """The weights of an `LSTM`, packed, for the functions of ``cython_lstm.pxd``.

    Parameters
    ----------
    lstm : LSTM
        With any options but `static_size`, `learn_state` and `nan`. Its weights are copied: later changes do
        not reach the network. Nothing is dropped, as in a call without a seed.

    Attributes
    ----------
    address : int
        The handle: what the functions take as ``const void *network``. Good while this object lives.
    """

    cdef network_t network
    cdef Buffer memory
    cdef readonly Py_ssize_t nbytes

    def __cinit__(self, lstm):
        cdef network_t *net = &self.network
        cdef Engine engine
        cdef const float[::1] values_s
        cdef const double[::1] values_d
        cdef const void *values
        cdef Py_ssize_t sizes[2]
        cdef char *packed
        cdef int driver
        try:
            its_engine, parameters, nan = lstm._engine, lstm.parameters, lstm.nan
            net.batch_first = lstm.batch_first
        except AttributeError:
            raise TypeError(f"lstm is {type(lstm).__name__}; expected a lstm_ext.LSTM") from None
        if nan is not None:
            raise ValueError(f"lstm has nan={nan!r}; expected None: missing values are looked after in "
                             "Python, and nothing below looks for them")
        # The engine's sizes cannot be changed, and are those of its parameters: nothing else is believed.
        if type(its_engine) is not Engine:
            raise TypeError(f"lstm has an engine of type {type(its_engine).__name__}; expected an LSTM's")
        engine = its_engine
        net.stack = engine.stack().net
        if net.stack.extra[0] or net.stack.extra[1]:
            raise ValueError(f"lstm is {lstm!r}; expected one without static_size and learn_state: give "
                             "such inputs as features of x, and such states as h_0 and c_0")
        net.has_step = net.stack.directions == 1 and not net.stack.reverse
        if net.stack.is_double:
            values_d, count = parameters, len(parameters)
        else:
            values_s, count = parameters, len(parameters)
        if count != net.stack.parameter_count:
            raise ValueError(f"lstm.parameters has {count} elements; expected {net.stack.parameter_count}")
        values = <const void*>&values_d[0] if net.stack.is_double else <const void*>&values_s[0]
        # The default cell is packed for both drivers, since tangents are the general one's.
        sizes[DEFAULT] = 0 if net.stack.general else packed_size(&net.stack, DEFAULT, True)
        sizes[GENERAL] = packed_size(&net.stack, GENERAL, True)
        self.memory = Buffer()
        self.memory.reserve(plus(line(times(sizes[DEFAULT], itemsize(&net.stack))),
                                 times(sizes[GENERAL], itemsize(&net.stack))))
        self.nbytes = self.memory.nbytes
        packed = self.memory.data
        for driver in range(DRIVERS):
            if sizes[driver]:
                pack_stack(&net.stack, driver, True, True, values, packed)
                net.packed[driver] = packed
                packed += line(sizes[driver] * itemsize(&net.stack))

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
            raise ValueError(f"batch is {batch} and time {time}; expected no negative number")
        raise MemoryError(f"{batch} sequences of {time} steps are more than this machine can address")


cdef const void *lstm_network(object network) except NULL:
    if not isinstance(network, Network):
        raise TypeError(f"network is {type(network).__name__}; expected a lstm_ext.cython_lstm.Network")
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
        raise ValueError(f"name is {name!r}; expected one of {', '.join(functions)}")
    capsule = functions[name]
    return <uintptr_t>PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))
