# cython: language_level=3, boundscheck=True, initializedcheck=True, cdivision=True
"""Entry points of the layer: buffers checked, memory taken, the GIL released, the network walked.

Messages for users are in lstm_ext/lstm.py; the network itself is in _stack.pyx. What comes in here are arrays
of any kind; what goes down are pointers, strides and sizes that fit together.
"""
import numpy as np

from lstm_ext._arrays import as_lengths, as_numbers, as_steps

from cpython.buffer cimport PyBUF_WRITABLE
from libc.limits cimport INT_MAX
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from lstm_ext._arrays cimport (
    Array, Buffer, Lock, Owner, check_size, countable, data_of, held, held_as_it_is, held_copy, held_output,
    line, plus, times, times3,
)
from lstm_ext._driver cimport (
    DRIVERS, contiguous, cut_sequences, layer_t, part_t, sequences_memory, sequences_t, shape_blocks,
    strides_t,
)
from lstm_ext._general cimport bernoulli_row
from lstm_ext._kernels cimport (
    LSTM_ACT_AFFINE, LSTM_ACT_CLIPPED, LSTM_ACT_ELU, LSTM_ACT_EXPONENTIAL, LSTM_ACT_GELU, LSTM_ACT_HARD_SILU,
    LSTM_ACT_IDENTITY, LSTM_ACT_LEAKY, LSTM_ACT_MISH, LSTM_ACT_RAMP, LSTM_ACT_SCALED_TANH, LSTM_ACT_SIGMOID,
    LSTM_ACT_SILU, LSTM_ACT_SOFTPLUS, LSTM_ACT_SOFTSIGN, LSTM_ACT_TANH, LSTM_ACT_THRESHOLDED, lstm_activation,
    lstm_kernels_s, table_d, table_of, table_s,
)
from lstm_ext._stack cimport (
    add_gradient, call_t, describe, driver_of, itemsize, lay_out, pack_stack, packed_size, shape_call,
    stack_backward, stack_forward, stack_step, stack_t, step_work,
)

cdef object INFINITY = float("inf")
cdef object np_empty = np.empty
cdef type ndarray = np.ndarray
cdef object FLOAT32 = np.dtype(np.float32), FLOAT64 = np.dtype(np.float64)

# name -> kind of the kernels, alpha, beta, and how many of the two a user may set
ACTIVATIONS = {
    "sigmoid": (LSTM_ACT_SIGMOID, 0.0, 0.0, 0),
    "tanh": (LSTM_ACT_TANH, 0.0, 0.0, 0),
    "identity": (LSTM_ACT_IDENTITY, 0.0, 0.0, 0),
    "linear": (LSTM_ACT_IDENTITY, 0.0, 0.0, 0),
    "affine": (LSTM_ACT_AFFINE, 1.0, 0.0, 2),
    "scaled_tanh": (LSTM_ACT_SCALED_TANH, 1.0, 1.0, 2),
    "hard_sigmoid": (LSTM_ACT_CLIPPED, 0.2, 0.5, 2),
    "relu": (LSTM_ACT_RAMP, 0.0, INFINITY, 0),
    "relu6": (LSTM_ACT_RAMP, 0.0, 6.0, 0),
    "hard_tanh": (LSTM_ACT_RAMP, -1.0, 1.0, 0),
    "leaky_relu": (LSTM_ACT_LEAKY, 0.01, 0.0, 1),
    "thresholded_relu": (LSTM_ACT_THRESHOLDED, 1.0, 0.0, 1),
    "elu": (LSTM_ACT_ELU, 1.0, 1.0, 1),
    "selu": (LSTM_ACT_ELU, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 0),
    "softsign": (LSTM_ACT_SOFTSIGN, 0.0, 0.0, 0),
    "softplus": (LSTM_ACT_SOFTPLUS, 0.0, 0.0, 0),
    "exponential": (LSTM_ACT_EXPONENTIAL, 0.0, 0.0, 0),
    "silu": (LSTM_ACT_SILU, 0.0, 0.0, 0),
    "swish": (LSTM_ACT_SILU, 0.0, 0.0, 0),
    "gelu": (LSTM_ACT_GELU, 0.0, 0.0, 0),
    "mish": (LSTM_ACT_MISH, 0.0, 0.0, 0),
    "hard_silu": (LSTM_ACT_HARD_SILU, 0.0, 0.0, 0),
}


cdef lstm_activation activation(tuple given):
    """(name, alpha, beta), checked in _options.py; alpha and beta may be None."""
    cdef lstm_activation f
    kind, alpha, beta, _ = ACTIVATIONS[given[0]]
    f.kind = kind
    f.alpha = alpha if given[1] is None else given[1]
    f.beta = beta if given[2] is None else given[2]
    return f


def draw(seed, int kind, Py_ssize_t stream, Py_ssize_t N, Py_ssize_t T, Py_ssize_t width,
         double probability):
    """(N, T, width) booleans, True with the given probability: the masks that the drivers draw."""
    cdef double[:, :, ::1] mask = np.empty((N, T, width))
    cdef Py_ssize_t n, t
    cdef uint64_t key = seed
    for n in range(N):
        for t in range(T):
            if width:
                bernoulli_row(key, kind, <uint32_t>stream, n, t, width, probability, <double>1, <double>0,
                              &mask[n, t, 0])
    return np.asarray(mask) != 0


# ---- the batch


cdef class Batch:
    """The sequences of a batch in sorted order, cut into blocks. It is not changed once made."""

    cdef sequences_t seqs
    cdef Buffer _memory
    cdef object _times
    cdef int kind                # of the call that it was cut for

    @staticmethod
    cdef Batch cut(const sequences_t *shaped, object lengths, object steps):
        cdef Batch self = Batch.__new__(Batch)
        cdef const Py_ssize_t[::1] given
        cdef const Py_ssize_t[:, ::1] times_of
        cdef const Py_ssize_t *first = NULL
        self.seqs = shaped[0]
        if not countable(times3(self.seqs.batch, self.seqs.time, sizeof(Py_ssize_t))):
            raise MemoryError(f"x has {self.seqs.batch} sequences of {self.seqs.time} steps: this machine "
                              "cannot count them")
        if lengths is not None and self.seqs.batch:
            given = lengths
            first = &given[0]
        self._memory = Buffer()
        self._memory.reserve(times(sequences_memory(&self.seqs), sizeof(Py_ssize_t)))
        cut_sequences(&self.seqs, first, <Py_ssize_t*>self._memory.data)
        if steps is not None and self.seqs.batch and self.seqs.time:
            times_of = self._times = steps
            self.seqs.times = &times_of[0, 0]
        return self


# ---- the engine: a network over one flat vector of parameters


cdef class Stack:
    """The description of a network for one kernel. It is not changed once made."""


cdef class Packed:
    """Weights as a driver wants them, and the parameters that they were made from.

    It is packed from its own copy, `source`, and not changed afterwards: another thread may write the
    parameters meanwhile. Who keeps it replaces it whole, so no lock is held while it is made.
    """

    cdef Stack stack
    cdef Buffer memory, source
    cdef Py_ssize_t nbytes

    @staticmethod
    cdef Packed of(Stack stack, int driver, const void *parameters):
        cdef Packed self = Packed.__new__(Packed)
        self.stack, self.memory, self.source = stack, Buffer(), Buffer()
        self.nbytes = stack.net.parameter_count * itemsize(&stack.net)
        self.source.reserve(self.nbytes)
        memcpy(self.source.data, parameters, self.nbytes)
        pack(&stack.net, driver, False, self.source.data, self.memory)
        return self

    cdef bint is_of(self, Stack stack, const void *parameters) noexcept:
        """Whether it was made from these parameters, byte for byte, for this kernel."""
        return self.stack is stack and memcmp(self.source.data, parameters, self.nbytes) == 0


cdef int pack(const stack_t *net, int driver, bint whole, const void *parameters, Buffer packed) except -1:
    packed.reserve(times(packed_size(net, driver, whole), itemsize(net)))
    with nogil:
        pack_stack(net, driver, whole, whole, parameters, packed.data)
    return 0


cdef class Engine:
    """The network, for Python. Parameters and gradient are memory of the Python layer's.

    `options` are those of `LSTM` by name, checked; `activations` three of (name, alpha, beta); `input_size`
    features of x as the first layer sees them; `general`: they ask for more than the default driver has.
    """

    def __cinit__(self, Py_ssize_t input_size, options, activations, bint general):
        cdef Stack stack = Stack()
        cdef stack_t *net = &stack.net
        cdef layer_t *L = &net.layer[0]
        get = options.__getitem__
        self.input_size, self.hidden_size, self.num_layers = input_size, get("hidden_size"), get("num_layers")
        self.directions = 2 if get("bidirectional") else 1
        self.out_size = get("proj_size") or self.hidden_size
        self.reverse = get("reverse")
        self.checkpoint = get("checkpoint") or 0
        self.dtype = np.dtype(get("dtype"))
        self.is_float = self.dtype == np.float32
        self.itemsize = self.dtype.itemsize
        if not (input_size > 0 and self.hidden_size > 0 and self.out_size > 0 and self.num_layers > 0
                and self.checkpoint >= 0 and get("static_size") >= 0):
            raise ValueError("a size is not positive")
        net.is_double, net.reverse, net.checkpoint = not self.is_float, self.reverse, self.checkpoint
        net.input_size, net.hidden_size, net.out_size = input_size, self.hidden_size, self.out_size
        net.num_layers, net.directions = self.num_layers, self.directions
        net.has_bias, net.has_peepholes = get("bias"), get("peepholes")
        net.static_input_gate, net.dropout = get("entity_aware"), get("dropout")
        net.extra[1] = plus(self.hidden_size, self.out_size) if get("learn_state") else 0
        net.extra[0] = plus(net.extra[1], times3(1 if net.static_input_gate else 4, self.hidden_size,
                                                 get("static_size")))
        L.projected = bool(get("proj_size"))
        L.zone_h, L.zone_c = get("zoneout")
        L.recurrent_dropout = get("recurrent_dropout")
        L.cell.coupled, L.cell.layer_norm = get("coupled_gates"), get("layer_norm")
        L.cell.gate_clipped, L.cell.gate_clip = get("gate_clip") is not None, get("gate_clip") or 0
        L.cell.cell_clipped, L.cell.cell_clip = get("cell_clip") is not None, get("cell_clip") or 0
        L.cell.gate, L.cell.candidate = activation(activations[0]), activation(activations[1])
        L.cell.output = activation(activations[2])
        L.cell.cell_activation = L.cell.output.kind
        L.cell.standard = (L.cell.gate.kind == LSTM_ACT_SIGMOID and L.cell.candidate.kind == LSTM_ACT_TANH
                           and L.cell.output.kind == LSTM_ACT_TANH)
        net.general = general
        describe(net, table_s(), table_d())
        self.parameter_count = net.parameter_count
        check_size(times(self.parameter_count, self.itemsize), "parameters")
        self._stack, self._packed, self._workspaces = stack, [None] * DRIVERS, []
        self._gradient_lock = Lock("gradient")

    @property
    def general(self):
        """Whether the general driver computes every call."""
        return self._stack.net.general

    def bind(self, parameters, gradient):
        """Compute on these two 1-D arrays from now on."""
        cdef Array p = held_output(parameters, self.is_float)
        cdef Array g = held_output(gradient, self.is_float)
        if p.shape[0] != self.parameter_count or g.shape[0] != self.parameter_count:
            raise ValueError(f"parameters and gradient have {p.shape[0]} and {g.shape[0]} elements; expected "
                             f"{self.parameter_count}")
        self.parameters, self.gradient = p, g

    cdef Stack stack(self):
        """The description for the kernel in force, and the precision."""
        cdef Stack stack = self._stack
        cdef stack_t net
        cdef const lstm_kernels_s *s = table_of(self.pieces)
        if stack.net.layer[0].s != s:
            net = stack.net
            describe(&net, s, table_d())
            stack = Stack()
            stack.net = net
            self._stack, self._batch = stack, None
        return stack

    # -- forward

    def forward(self, x, state, lengths, mask, bint batch_first, Tape tape, int n_threads):
        """y, (h_n, c_n). With a tape, what backward needs is recorded there."""
        return compute(self, x, state, None, lengths, mask, batch_first, None, tape, None, n_threads, None,
                       None)[0]

    def forward_all(self, parameters, x, state, dot, lengths, mask, bint batch_first, bias_rows, Tape tape,
                    seed, int n_threads, bint want_gates):
        """(y, (h_n, c_n)), (y_dot, (h_n_dot, c_n_dot)) or None, gates or None.

        parameters: None for those bound. dot: None, or (parameters_dot, x_dot, state_dot, bias_rows_dot),
        each may be None. bias_rows: None or (D, N, 4H), in place of the first layer's biases. gates: a list
        of (L * D, N, T, H) arrays for i, f, g, o, c.
        """
        gates = [] if want_gates else None
        numbers, tangents = compute(self, x, state, dot, lengths, mask, batch_first, bias_rows, tape, seed,
                                    n_threads, parameters, gates)
        return numbers, tangents, gates

    # -- backward

    def backward(self, Tape tape not None, dy, dstate, bint input_gradient, int n_threads):
        """dx, (dh_0, dc_0); adds to the gradient."""
        dx, state, _ = compute_gradient(self, tape, dy, dstate, None, input_gradient, None, n_threads, 1)[0]
        return dx, state

    def backward_all(self, Tape tape not None, dy, dstate, dot, bint input_gradient, gradient, int n_threads,
                     int parts):
        """Of each part dx, (dh_0, dc_0), dbias_rows; adds to `gradient` (P,).

        parts: 1 for the gradient; with a tape of two parts 2 for its tangent besides, which is what is
        added to `gradient` then. dot: None, or (dy_dot, dstate_dot).
        """
        cdef Array total = held_output(gradient, self.is_float)
        if total.ndim != 1 or total.shape[0] != self.parameter_count:
            raise ValueError(f"gradient has shape {gradient.shape}; expected ({self.parameter_count},)")
        return compute_gradient(self, tape, dy, dstate, dot, input_gradient, total, n_threads, parts)


# ---- arguments and results


cdef int check_batch(Engine self, Py_ssize_t N, Py_ssize_t T) except -1:
    """MemoryError for a batch whose results cannot be counted, before anything of it is copied."""
    cdef Py_ssize_t width = times(self.directions, max(self.out_size, self.hidden_size))
    if not (countable(times3(times(N, T), width, self.itemsize))
            and countable(times3(times(N, self.num_layers), width, self.itemsize))):
        raise MemoryError(f"x has {N} sequences of {T} steps: their results are more bytes than this "
                          "machine can address")
    return 0


cdef tuple sizes_of(Engine self, tuple shape, bint batch_first):
    """(N, T) of x, whose shape is checked."""
    if not 2 <= len(shape) <= 3:
        raise ValueError(
            f"x has {len(shape)} dimensions; expected 3: "
            f"{'(batch, time' if batch_first else '(time, batch'}, features), "
            "or 2 for one sequence: (time, features)")
    if shape[-1] != self.input_size:
        raise ValueError(f"x has {shape[-1]} features, this LSTM takes {self.input_size} "
                         f"(input_size={self.input_size})")
    if len(shape) == 2:
        return 1, shape[0]
    return (shape[0], shape[1]) if batch_first else (shape[1], shape[0])


cdef tuple sequences_shape(Py_ssize_t N, Py_ssize_t T, Py_ssize_t width, bint batch_first, bint unbatched):
    if unbatched:
        return T, width
    return (N, T, width) if batch_first else (T, N, width)


cdef strides_t strides_of(Array a, bint batch_first) noexcept:
    cdef strides_t s
    if a.ndim == 2:
        s.n, s.t = 0, a.strides[0]
    elif batch_first:
        s.n, s.t = a.strides[0], a.strides[1]
    else:
        s.n, s.t = a.strides[1], a.strides[0]
    return s


cdef void *pointer(Array a, list kept) except? NULL:
    """Where an array begins, which `kept` holds from now on; NULL for None."""
    if a is None:
        return NULL
    kept.append(a)
    return a.data


cdef Array optional(Engine self, object value, str name, tuple shape, str meaning):
    return None if value is None else held(value, name, shape, meaning, self.is_float)


cdef void *sequences_in(Engine self, object value, str name, tuple shape, str meaning, bint batch_first,
                        strides_t *strides, list kept) except? NULL:
    cdef Array a = optional(self, value, name, shape, meaning)
    if a is not None:
        strides[0] = strides_of(a, batch_first)
    return pointer(a, kept)


cdef Array state_array(Engine self, object value, str name, Py_ssize_t N, Py_ssize_t width, bint unbatched):
    """An (L * D, N, width) array, dense, or None."""
    cdef Array a
    cdef Py_ssize_t layers = self.num_layers * self.directions
    if value is None:
        return None
    units = "hidden_size" if width == self.hidden_size else "proj_size"
    if unbatched and np.ndim(value) == 2:
        a = held(value, name, (layers, width), f" = (num_layers * directions, {units})", self.is_float)
    else:
        a = held(value, name, (layers, N, width), f" = (num_layers * directions, batch, {units})",
                 self.is_float)
    if a.strides[a.ndim - 2] != width or a.ndim == 3 and a.strides[0] != N * width:
        return held_copy(np.array(value, order="C"), self.is_float)
    return a


cdef void *rows_in(Engine self, object value, str name, Py_ssize_t N, list kept) except? NULL:
    if value is None:
        return NULL
    return pointer(held(value, name, (self.directions, N, 4 * self.hidden_size), "", self.is_float), kept)


cdef int states_in(Engine self, state, str h_name, str c_name, Py_ssize_t N, bint unbatched, const void **h,
                   const void **c, list kept) except -1:
    """Pointers of a pair of states, each of which may be None, as may the pair."""
    h[0] = c[0] = NULL
    if state is not None:
        h[0] = pointer(state_array(self, state[0], h_name, N, self.out_size, unbatched), kept)
        c[0] = pointer(state_array(self, state[1], c_name, N, self.hidden_size, unbatched), kept)
    return 0


cdef object new_states(Engine self, Py_ssize_t N, Py_ssize_t width, bint unbatched, void **data):
    cdef Py_ssize_t layers = self.num_layers * self.directions
    cdef tuple shape = (layers, width)
    if not unbatched:
        shape = (layers, N, width)
    array = np_empty(shape, self.dtype)
    data[0] = data_of(array)
    return array


cdef Buffer take_workspace(Engine self):
    try:
        return self._workspaces.pop()
    except IndexError:
        return Buffer()


# ---- the passes


cdef tuple compute(Engine self, x_given, state, dot, lengths, mask, bint batch_first, bias_rows, Tape tape,
                   seed, int n_threads, given_parameters, list gates):
    """(y, (h_n, c_n)), and of the tangents the same or None. gates: None, or an empty list that is filled."""
    cdef Stack stack = self.stack()  # one kernel from here to the end
    cdef const stack_t *net = &stack.net
    cdef call_t call
    cdef part_t *part = &call.run.part[0]
    cdef Array x = held_as_it_is(x_given, self.is_float)
    cdef Array parameters = self.parameters  # `bind` may replace it meanwhile
    cdef Array parameters_dot = None
    cdef Py_ssize_t N, T
    cdef bint unbatched
    cdef Batch batch
    cdef Packed packed
    cdef Buffer work, weights_dot = None
    cdef list kept = []  # the arrays of all pointers to what is read
    cdef int kind, p
    memset(&call, 0, sizeof(call_t))
    steps = tangents = None
    if x is None:
        x_given = as_numbers(x_given, "x")
    N, T = sizes_of(self, x_given.shape, batch_first)
    check_batch(self, N, T)
    if x is None:
        x = held_copy(x_given, self.is_float)
    unbatched = x.ndim == 2
    if lengths is not None:
        lengths = as_lengths(lengths, N, T)
    elif mask is not None:
        lengths, steps = as_steps(mask, N, T)
    call.driver = driver_of(net, dot is not None or gates is not None or bias_rows is not None)
    call.taped = call.whole_packed = tape is not None
    kind = 4 * call.driver + 2 * call.taped + (n_threads == 1)
    batch = self._batch
    if not (lengths is None and batch is not None and batch.seqs.batch == N and batch.seqs.time == T
            and batch.kind == kind):
        shape_call(net, &call, N, T, n_threads == 1)
        batch = Batch.cut(&call.seqs, lengths, steps)
        batch.kind = kind
        if lengths is None:
            self._batch = batch
    call.seqs = batch.seqs
    call.n_threads = max(1, min(n_threads, <int>min(batch.seqs.n_blocks, <Py_ssize_t>1024)))
    call.run.random = seed is not None
    if seed is not None:
        call.run.seed = seed
    # arguments
    kept.append(x)
    part.x, part.sx = x.data, strides_of(x, batch_first)
    states_in(self, state, "h_0", "c_0", N, unbatched, &part.h_0, &part.c_0, kept)
    part.bias_rows = rows_in(self, bias_rows, "static", N, kept)
    if given_parameters is not None:
        parameters = held(given_parameters, "parameters", (self.parameter_count,), "", self.is_float)
    call.run.parts = 1
    if dot is not None:
        call.run.parts = 2
        part = &call.run.part[1]
        values_dot, x_dot, state_dot, rows_dot = dot
        part.x = sequences_in(self, x_dot, "dx", x_given.shape, ", that of x", batch_first, &part.sx,
                              kept)
        states_in(self, state_dot, "h_0_dot", "c_0_dot", N, unbatched, &part.h_0, &part.c_0, kept)
        part.bias_rows = rows_in(self, rows_dot, "static_dot", N, kept)
        parameters_dot = optional(self, values_dot, "dparameters", (self.parameter_count,), "")
    # results
    numbers = new_results(self, &call.run.part[0], N, T, batch_first, unbatched)
    if dot is not None:
        tangents = new_results(self, &call.run.part[1], N, T, batch_first, unbatched)
    for p in range(0 if gates is None else 5):
        gates.append(np.zeros((self.num_layers * self.directions, N, T, self.hidden_size), self.dtype))
        call.run.gates[p] = data_of(gates[p])
    # weights and memory
    lay_out(net, &call)
    if tape is None:
        work = take_workspace(self)
        packed = packed_weights(self, stack, call.driver, parameters)
        call.run.part[0].packed = packed.memory.data
        if parameters_dot is not None:
            weights_dot = take_workspace(self)
    else:
        tape.valid = False
        work = tape.work
        pack(net, call.driver, True, parameters.data, tape.weights)
        call.run.part[0].packed = tape.weights.data
        tape.record.reserve(times(call.layout.tape, self.itemsize))
        call.tape = tape.record.data
        if parameters_dot is not None:
            weights_dot = tape.weights_dot
    if weights_dot is not None:
        pack(net, call.driver, call.whole_packed, parameters_dot.data, weights_dot)
        call.run.part[1].packed = weights_dot.data
    work.reserve(times(call.layout.work, self.itemsize))
    call.run.work = work.data
    with nogil:
        stack_forward(net, &call)
    if tape is None:
        self._workspaces.append(work)
        if weights_dot is not None:
            self._workspaces.append(weights_dot)
    else:
        tape.engine, tape.stack, tape.call, tape.batch, tape.kept = self, stack, call, batch, kept
        tape.batch_first, tape.unbatched = batch_first, unbatched
        tape.valid = True
    return numbers, tangents


cdef tuple new_results(Engine self, part_t *part, Py_ssize_t N, Py_ssize_t T, bint batch_first,
                       bint unbatched):
    cdef Py_ssize_t width = self.directions * self.out_size
    y = np_empty(sequences_shape(N, T, width, batch_first, unbatched), self.dtype)
    part.y, part.sy = data_of(y), contiguous(N, T, width, batch_first or unbatched)
    h_n = new_states(self, N, self.out_size, unbatched, &part.h_n)
    return y, (h_n, new_states(self, N, self.hidden_size, unbatched, &part.c_n))


cdef Packed packed_weights(Engine self, Stack stack, int driver, Array parameters):
    """Packed weights for inference: the last ones, if the parameters are byte for byte the same."""
    cdef Packed packed = self._packed[driver]
    if packed is None or not packed.is_of(stack, parameters.data):
        packed = Packed.of(stack, driver, parameters.data)
        self._packed[driver] = packed
    return packed


cdef list compute_gradient(Engine self, Tape tape, dy, dstate, dot, bint input_gradient, Array total,
                           int n_threads, int parts):
    """As Engine.backward_all; total: None for the gradient that is bound."""
    if not tape.valid or tape.engine is not self or not 1 <= parts <= tape.call.run.parts:
        raise ValueError("tape is not one that this engine's forward has filled")
    cdef const stack_t *net = &tape.stack.net
    cdef call_t call = tape.call
    cdef Py_ssize_t N = call.seqs.batch, T = call.seqs.time, i
    cdef Py_ssize_t D = self.directions, H = self.hidden_size, P = self.out_size
    cdef bint batch_first = tape.batch_first, unbatched = tape.unbatched
    cdef Array bound = self.gradient  # `bind` may replace it meanwhile
    cdef part_t *part
    cdef list kept = [], results = []
    cdef int p
    for p in range(parts):
        part = &call.run.part[p]
        suffix = "_dot" if p else ""
        if p and dot is not None:
            dy, dstate = dot
        elif p:
            dy = dstate = None
        part.dy = sequences_in(self, dy, "dy" + suffix, sequences_shape(N, T, D * P, batch_first, unbatched),
                               ", that of y", batch_first, &part.sdy, kept)
        states_in(self, dstate, "dh_n" + suffix, "dc_n" + suffix, N, unbatched, &part.dh_n, &part.dc_n, kept)
    for p in range(parts):
        part = &call.run.part[p]
        part.dx = NULL
        dx = rows = None
        if input_gradient:
            dx = np_empty(sequences_shape(N, T, self.input_size, batch_first, unbatched), self.dtype)
            part.dx = data_of(dx)
            part.sdx = contiguous(N, T, self.input_size, batch_first or unbatched)
        dh_0 = new_states(self, N, P, unbatched, &part.dh_0)
        dc_0 = new_states(self, N, H, unbatched, &part.dc_0)
        if call.run.part[0].bias_rows != NULL:
            rows = np_empty((D, N, 4 * H), self.dtype)
            part.dbias_rows = data_of(rows)
        results.append((dx, (dh_0, dc_0), rows))
    call.backward, call.run.parts = True, parts
    if parts == 1:
        call.run.part[1].packed = NULL
    call.n_threads = max(1, min(n_threads, <int>min(call.seqs.n_groups, <Py_ssize_t>1024)))
    lay_out(net, &call)
    tape.work.reserve(times(call.layout.work, self.itemsize))
    call.run.work = tape.work.data
    for i in range(self.num_layers * D - 1, -1, -1):
        with nogil:
            stack_backward(net, &call, i)
        if total is not None:
            with nogil:
                add_gradient(net, &call, i, total.data)
        else:
            with self._gradient_lock, nogil:
                add_gradient(net, &call, i, bound.data)
    return results


cdef class Tape:
    """What one forward call leaves for backward. It is used again by the next call, and grows only
    when a larger batch comes."""

    cdef readonly bint valid
    cdef Engine engine           # whose forward filled it
    cdef Stack stack
    cdef call_t call             # the call; of its arrays those that were read are still there
    cdef Batch batch
    cdef list kept
    cdef bint batch_first, unbatched
    cdef Buffer weights          # packed, for both directions of the computation
    cdef Buffer weights_dot
    cdef Buffer record
    cdef Buffer work             # nothing that lasts over a call

    def __cinit__(self):
        self.weights, self.weights_dot, self.record, self.work = Buffer(), Buffer(), Buffer(), Buffer()

    @property
    def parts(self):
        """1: numbers, 2: and their tangents, 0: nothing."""
        return self.call.run.parts if self.valid else 0

    @property
    def nbytes(self):
        """Bytes that the tape holds, its workspace included."""
        return self.weights.nbytes + self.weights_dot.nbytes + self.record.nbytes + self.work.nbytes


# ---- online


cdef class Stepper:
    """A unidirectional stack that advances one step at a time, with weights packed once."""

    cdef Engine engine
    cdef Stack stack
    cdef Packed packed
    cdef Batch sequences
    cdef Buffer memory
    cdef char *h
    cdef char *h_next
    cdef char *c
    cdef char *work
    cdef Array bias_rows
    cdef readonly Py_ssize_t batch
    cdef Py_ssize_t h_bytes, c_bytes
    cdef Owner owner             # one step at a time

    def __cinit__(self, Engine engine not None, Py_ssize_t batch, bias_rows=None):
        """bias_rows: None or (1, N, 4H), as in Engine.forward_all."""
        cdef sequences_t shaped
        if not 1 <= batch <= INT_MAX:
            raise ValueError(f"batch is {batch}; expected 1 to {INT_MAX}")
        check_batch(engine, batch, 1)
        self.owner = Owner("stream")
        self.engine, self.batch, self.stack = engine, batch, engine.stack()
        shape_blocks(&shaped, batch, 1, batch, 1, 1)  # one block, whatever its size
        self.sequences = Batch.cut(&shaped, None, None)
        self.packed = packed_weights(engine, self.stack, driver_of(&self.stack.net, False), engine.parameters)
        self.bias_rows = optional(engine, bias_rows, "static", (1, batch, 4 * engine.hidden_size), "")
        self.h_bytes = times(times3(engine.num_layers, batch, engine.out_size), engine.itemsize)
        self.c_bytes = times(times3(engine.num_layers, batch, engine.hidden_size), engine.itemsize)
        self.memory = Buffer()
        self.memory.reserve(plus(plus(times(2, line(self.h_bytes)), line(self.c_bytes)),
                                 times(step_work(&self.stack.net, &self.sequences.seqs), engine.itemsize)))
        self.h = self.memory.data
        self.h_next = self.h + line(self.h_bytes)
        self.c = self.h_next + line(self.h_bytes)
        self.work = self.c + line(self.c_bytes)
        memset(self.memory.data, 0, self.work - self.h)

    def load(self, h_given, c_given):
        """Set the state from (L, N, P) and (L, N, H) arrays, None for zeros."""
        cdef Array h = state_array(self.engine, h_given, "h", self.batch, self.engine.out_size, False)
        cdef Array c = state_array(self.engine, c_given, "c", self.batch, self.engine.hidden_size, False)
        self.owner.take()
        memset(self.memory.data, 0, self.work - self.memory.data)
        if h is not None:
            memcpy(self.h, h.data, self.h_bytes)
        if c is not None:
            memcpy(self.c, c.data, self.c_bytes)
        self.owner.give()

    def save(self):
        """The state as two new (L, N, P) and (L, N, H) arrays."""
        cdef void *h
        cdef void *c
        h_out = new_states(self.engine, self.batch, self.engine.out_size, False, &h)
        c_out = new_states(self.engine, self.batch, self.engine.hidden_size, False, &c)
        self.owner.take()
        memcpy(h, self.h, self.h_bytes)
        memcpy(c, self.c, self.c_bytes)
        self.owner.give()
        return h_out, c_out

    def step(self, x_t, out=None):
        """h of the last layer after one more step, in `out` where that is given."""
        cdef Engine engine = self.engine
        cdef Array x = held_as_it_is(x_t, engine.is_float)
        cdef Array y
        cdef Py_ssize_t I = engine.input_size, size = self.batch * engine.out_size * engine.itemsize, ldx
        cdef bint flat
        cdef char *swap
        if x is None:
            x_t = as_numbers(x_t, "x_t")
            self.check(x_t.shape)
            x = held_copy(x_t, engine.is_float)
        elif not (x.ndim == 2 and x.shape[0] == self.batch and x.shape[1] == I
                  or x.ndim == 1 and self.batch == 1 and x.shape[0] == I):
            self.check(x_t.shape)
        flat = x.ndim == 1
        if not (flat or I <= x.strides[0] <= INT_MAX):  # no leading dimension that BLAS can take
            x = held_copy(np.array(x_t, order="C"), engine.is_float)
        if out is None:
            out = np_empty(self.out_shape(flat), engine.dtype)
            y = held_output(out, engine.is_float)
        else:
            y = self.given_output(out, flat)
        ldx = I if flat else x.strides[0]
        self.owner.take()
        with nogil:
            stack_step(&self.stack.net, &self.sequences.seqs, self.packed.memory.data, False, x.data, ldx,
                       self.h, self.c, self.h_next, self.c,
                       NULL if self.bias_rows is None else self.bias_rows.data, self.work)
            swap = self.h
            self.h, self.h_next = self.h_next, swap
            memcpy(y.data, self.h + (engine.num_layers - 1) * size, size)
        self.owner.give()
        return out

    cdef int check(self, tuple shape) except -1:
        """A sentence for an x_t of the wrong shape."""
        cdef Py_ssize_t I = self.engine.input_size
        if shape == (self.batch, I) or self.batch == 1 and shape == (I,):
            return 0
        if len(shape) in (1, 2) and shape[:-1] in ((), (self.batch,)) and shape[-1] != I:
            raise ValueError(f"x_t has {shape[-1]} features, this LSTM takes {I} (input_size={I})")
        raise ValueError(f"x_t has shape {shape}; expected ({self.batch}, {I})"
                         + (f" or ({I},)" if self.batch == 1 else ""))

    cdef tuple out_shape(self, bint flat):
        if flat:
            return (self.engine.out_size,)
        return self.batch, self.engine.out_size

    cdef Array given_output(self, object out, bint flat):
        cdef Array y = Array.__new__(Array)
        cdef Py_ssize_t P = self.engine.out_size
        if type(out) is ndarray and out.dtype is (FLOAT32 if self.engine.is_float else FLOAT64):
            try:
                if (y.hold(out, self.engine.itemsize, PyBUF_WRITABLE) and y.ndim == (1 if flat else 2)
                        and y.shape[y.ndim - 1] == P and (flat or y.shape[0] == self.batch)
                        and (self.batch == 1 or y.strides[0] == P)):
                    return y
            except (BufferError, ValueError):  # read-only: said below
                pass
        came = (f"{out.dtype} {out.shape}{'' if out.flags.c_contiguous else ', not contiguous'}"
                f"{'' if out.flags.writeable else ', read-only'}"
                if isinstance(out, np.ndarray) else type(out).__name__)
        raise ValueError(f"out is {came}; expected a writable contiguous {self.engine.dtype} array "
                         f"of shape {self.out_shape(flat)}")
