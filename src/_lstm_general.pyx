# cython: language_level=3, boundscheck=True, initializedcheck=True, cdivision=True
"""Entry points of the general layer: every option of the LSTM family, and tangents.

As _lstm.pyx does for the default cell: buffers checked, memory taken, the GIL released, the drivers
(_general.pyx) called, layers and directions walked. What is arithmetic on a batch and not on time
(static inputs, initial states that are learnt, masks on weights) is NumPy in lstm_ext/lstm.py.
"""
import numpy as np

from lstm_ext._arrays import as_lengths, as_numbers, as_steps

from cython cimport floating
from libc.limits cimport INT_MAX
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from lstm_ext._arrays cimport (
    Array,
    Buffer,
    Lock,
    Owner,
    aligned,
    check_size,
    countable,
    held,
    held_copy,
    held_output,
    plus,
    times,
    times3,
)
from lstm_ext._driver cimport scatter, strides_t
from lstm_ext._general cimport (
    DROPOUT,
    WEIGHT_HR,
    WORDS,
    add_general_partials,
    bernoulli_row,
    general_backward,
    general_forward,
    general_t,
    general_workspace,
    pack_general,
    panels_layout,
    part_t,
    partial_size,
    run_t,
    word_size,
)
from lstm_ext._kernels cimport (
    LSTM_ACT_AFFINE,
    LSTM_ACT_CLIPPED,
    LSTM_ACT_ELU,
    LSTM_ACT_EXPONENTIAL,
    LSTM_ACT_GELU,
    LSTM_ACT_HARD_SILU,
    LSTM_ACT_IDENTITY,
    LSTM_ACT_LEAKY,
    LSTM_ACT_MISH,
    LSTM_ACT_RAMP,
    LSTM_ACT_SCALED_TANH,
    LSTM_ACT_SIGMOID,
    LSTM_ACT_SILU,
    LSTM_ACT_SOFTPLUS,
    LSTM_ACT_SOFTSIGN,
    LSTM_ACT_TANH,
    LSTM_ACT_THRESHOLDED,
    lstm_activation,
    lstm_kernels_d,
    lstm_kernels_s,
    table_d,
    table_of,
)
from lstm_ext._lstm cimport Batch, Packed

cdef object INFINITY = float("inf")

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
    """(name, alpha, beta), checked in lstm.py; alpha and beta may be None."""
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


# ---- the record


cdef class GeneralTape:
    """What one forward call leaves for backward: for each part weights, rows and states."""

    cdef readonly bint valid
    cdef readonly int parts
    cdef GeneralEngine engine    # whose forward filled it
    cdef bint batch_first, unbatched, checkpointed, has_rows
    cdef const lstm_kernels_s *s
    cdef const lstm_kernels_d *d
    cdef Batch batch
    cdef object seed
    cdef list x                  # of each part: Array or None
    cdef list packed             # of each part: Buffer; empty where a part has none
    cdef list rows, states, between
    cdef list bias_rows          # of each part: Array or None
    cdef bint dot_weights
    cdef Buffer work

    def __cinit__(self):
        self.packed, self.rows = [Buffer(), Buffer()], [Buffer(), Buffer()]
        self.states, self.between = [Buffer(), Buffer()], [Buffer(), Buffer()]
        self.x = [None, None]
        self.work = Buffer()

    @property
    def nbytes(self):
        """Bytes that the tape holds, its workspace included."""
        cdef Buffer buffer
        cdef object n = self.work.nbytes
        for buffers in (self.packed, self.rows, self.states, self.between):
            for buffer in buffers:
                n += buffer.nbytes
        return n


# ---- the engine


cdef class GeneralEngine:
    """A stack of layers and directions with options, over parameters that come with each call."""

    cdef readonly Py_ssize_t input_size, hidden_size, out_size, num_layers, directions, checkpoint
    cdef readonly bint is_float, reverse
    cdef readonly object dtype
    cdef readonly double dropout
    cdef public int pieces       # bfloat16 numbers that factors of products may be split into; 0: float32
    cdef Buffer _offsets         # (layers * directions, WORDS) into the flat parameters
    cdef Py_ssize_t itemsize, parameter_count
    cdef general_t description   # what all layers and directions have in common
    cdef bint static_input_gate
    cdef Packed _packed          # of the last inference; used again while the parameters are the same
    cdef list _workspaces        # free ones; a call takes one, so that threads never share
    cdef object _gradient_lock   # threads may call backward at once: they add one after another

    def __cinit__(self, sizes, flags, numbers, activations, dtype, at, parameter_count):
        """sizes: input, hidden, out, layers, directions, checkpoint (0: none). flags: reverse, projected,
        coupled, static_input_gate, layer_norm. numbers: cell_clip, gate_clip (None: none), dropout,
        recurrent_dropout, zone_h, zone_c. activations: three of (name, alpha, beta)."""
        cdef general_t *g = &self.description
        (self.input_size, self.hidden_size, self.out_size, self.num_layers, self.directions,
         self.checkpoint) = sizes
        cell_clip, gate_clip, self.dropout, recurrent_dropout, zone_h, zone_c = numbers
        memset(g, 0, sizeof(general_t))
        if not (self.input_size > 0 and self.hidden_size > 0 and self.out_size > 0 and self.num_layers > 0
                and 1 <= self.directions <= 2 and self.checkpoint >= 0):
            raise ValueError("a size is not positive")
        self.reverse, projected, coupled, self.static_input_gate, layer_norm = flags
        g.out_size = self.out_size
        g.projected = projected
        g.layer.hidden_size = self.hidden_size
        g.layer.chunk_rows = 96
        g.layer.cell.coupled = coupled
        g.layer.cell.layer_norm = layer_norm
        g.layer.cell.gate_clipped = gate_clip is not None
        g.layer.cell.gate_clip = gate_clip or 0
        g.layer.cell.cell_clipped = cell_clip is not None
        g.layer.cell.cell_clip = cell_clip or 0
        g.layer.cell.gate = activation(activations[0])
        g.layer.cell.candidate = activation(activations[1])
        g.layer.cell.output = activation(activations[2])
        g.layer.cell.standard = (
            g.layer.cell.gate.kind == LSTM_ACT_SIGMOID and g.layer.cell.candidate.kind == LSTM_ACT_TANH
            and g.layer.cell.output.kind == LSTM_ACT_TANH)
        g.zone_h, g.zone_c, g.recurrent_dropout = zone_h, zone_c, recurrent_dropout
        self.dtype = np.dtype(dtype)
        self.is_float = self.dtype == np.float32
        self.itemsize = self.dtype.itemsize
        self.parameter_count = parameter_count
        self.take_offsets(np.ascontiguousarray(at, np.intp))
        self._workspaces = []
        self._gradient_lock = Lock("gradient")

    # -- shapes

    cdef int take_offsets(self, const Py_ssize_t[:, ::1] offsets) except -1:
        """Keep them, if every weight stands within the parameters."""
        cdef Py_ssize_t i, n = self.num_layers * self.directions
        cdef int word
        cdef general_t g
        check_size(times(self.parameter_count, self.itemsize), "parameters")
        if offsets.shape[0] != n or offsets.shape[1] != WORDS:
            raise ValueError("the offsets have the wrong shape")
        self._offsets = Buffer()
        self._offsets.reserve(times3(n, WORDS, sizeof(Py_ssize_t)))
        memcpy(self._offsets.data, &offsets[0, 0], n * WORDS * sizeof(Py_ssize_t))
        for i in range(n):
            g = self.layer(i // self.directions, i % self.directions, NULL, NULL, None)
            for word in range(WORDS):
                if g.at[word] >= 0 and plus(g.at[word], word_size(&g, word)) > self.parameter_count:
                    raise ValueError("an offset is beyond the parameters")
        return 0

    cdef int check_batch(self, Py_ssize_t N, Py_ssize_t T) except -1:
        """MemoryError for a batch whose results cannot be counted, before anything of it is copied."""
        cdef Py_ssize_t width = times(self.directions, max(self.out_size, self.hidden_size))
        if not (countable(times3(times(N, T), width, self.itemsize))
                and countable(times3(times(N, self.num_layers), width, self.itemsize))):
            raise MemoryError(f"x has {N} sequences of {T} steps: their results are more bytes than this "
                              "machine can address")
        return 0

    cdef Py_ssize_t between_bytes(self, Batch batch) noexcept:
        """What one inner layer hands to the next."""
        if self.num_layers == 1:
            return 0
        cdef Py_ssize_t rows = times(batch.seqs.batch, batch.seqs.time)
        return times(aligned(times3(rows, self.directions, self.out_size)), self.itemsize)

    cdef Py_ssize_t mask_bytes(self) noexcept:
        """Dropout's mask for one row of what a layer hands to the next."""
        return times(aligned(times(self.directions, self.out_size)), self.itemsize)

    cdef Buffer take_workspace(self):
        try:
            return self._workspaces.pop()
        except IndexError:
            return Buffer()

    cdef Py_ssize_t layer_input(self, Py_ssize_t layer) noexcept:
        return self.input_size if layer == 0 else self.directions * self.out_size

    cdef general_t layer(self, Py_ssize_t layer, Py_ssize_t direction, const lstm_kernels_s *s,
                         const lstm_kernels_d *d, object seed) except *:
        cdef general_t g = self.description
        cdef const Py_ssize_t *at = <const Py_ssize_t*>self._offsets.data
        cdef int word
        g.layer.s, g.layer.d = s, d
        g.layer.input_size = self.layer_input(layer)
        g.layer.reverse = self.reverse or direction == 1
        g.layer.cell.static_input_gate = self.static_input_gate and layer == 0
        g.random = seed is not None
        g.seed = seed if seed is not None else 0
        g.stream = <uint32_t>(layer * self.directions + direction)
        for word in range(WORDS):
            g.at[word] = at[g.stream * WORDS + word]
        return g

    cdef strides_t strides_of(self, Array a, bint batch_first) noexcept:
        cdef strides_t s
        if a.ndim == 2:
            s.n, s.t = 0, a.strides[0]
        elif batch_first:
            s.n, s.t = a.strides[0], a.strides[1]
        else:
            s.n, s.t = a.strides[1], a.strides[0]
        return s

    cdef tuple sequence_shape(self, Py_ssize_t N, Py_ssize_t T, Py_ssize_t width, bint batch_first,
                              bint unbatched):
        if unbatched:
            return T, width
        return (N, T, width) if batch_first else (T, N, width)

    cdef Array state_part(self, object value, str name, Py_ssize_t N, Py_ssize_t width, bint unbatched):
        """An (L * D, N, width) array, dense, or None."""
        cdef Py_ssize_t layers = self.num_layers * self.directions
        cdef Array a
        if value is None:
            return None
        if unbatched and np.ndim(value) == 2:
            a = held(value, name, (layers, width), " = (num_layers * directions, units)", self.is_float)
        else:
            a = held(value, name, (layers, N, width), " = (num_layers * directions, batch, units)",
                     self.is_float)
        if a.strides[a.ndim - 2] != width or a.ndim == 3 and a.strides[0] != N * width:
            return held_copy(np.array(value, order="C"), self.is_float)
        return a

    cdef object state_output(self, Py_ssize_t N, Py_ssize_t width, bint unbatched):
        layers = self.num_layers * self.directions
        cdef tuple shape = (layers, width)
        if not unbatched:
            shape = (layers, N, width)
        return np.empty(shape, self.dtype)

    # -- weights

    cdef int pack(self, const void *parameters, const lstm_kernels_s *s, const lstm_kernels_d *d,
                  bint backward, Buffer packed) except -1:
        """packed = the weights of all layers; behind them room to transpose one matrix."""
        cdef Py_ssize_t l, k, largest = 0, total = 0
        cdef general_t g
        cdef char *to
        cdef char *scratch
        for l in range(self.num_layers):
            for k in range(self.directions):
                g = self.layer(l, k, s, d, None)
                total = plus(total, panels_layout(&g, not self.is_float).size)
                largest = max(largest, max(word_size(&g, 0), max(word_size(&g, 1), word_size(&g, WEIGHT_HR))))
        packed.reserve(times(plus(total, largest), self.itemsize))
        to = packed.data
        scratch = packed.data + total * self.itemsize
        for l in range(self.num_layers):
            for k in range(self.directions):
                g = self.layer(l, k, s, d, None)
                with nogil:
                    if self.is_float:
                        pack_general(&g, <const float*>parameters, backward, <float*>to, <float*>scratch)
                    else:
                        pack_general(&g, <const double*>parameters, backward, <double*>to, <double*>scratch)
                to += panels_layout(&g, not self.is_float).size * self.itemsize
        return 0

    cdef Buffer inference_weights(self, Array parameters, const lstm_kernels_s *s, const lstm_kernels_d *d):
        """Packed weights: the last ones, if the parameters are byte for byte the same."""
        cdef Packed packed = self._packed
        if packed is not None and packed.is_of(s, parameters.data):
            return packed.memory
        packed = Packed.of(s, parameters.data, self.parameter_count * self.itemsize)
        self.pack(packed.source.data, s, d, False, packed.memory)
        self._packed = packed
        return packed.memory

    # -- forward

    def forward(self, parameters, x, h_0, c_0, dot, lengths, mask, bint batch_first, bias_rows,
                GeneralTape tape, seed, int n_threads, bint want_gates):
        """y, h_n, c_n, y_dot, h_n_dot, c_n_dot, gates.

        dot: None, or (parameters_dot, x_dot, h_0_dot, c_0_dot, bias_rows_dot), each may be None.
        bias_rows: None or (D, N, 4H), in place of the first layer's biases. gates: a list of
        (L * D, N, T, H) arrays for i, f, g, o, c, or None.
        """
        cdef Py_ssize_t N, T, I = self.input_size, H = self.hidden_size, P = self.out_size
        cdef Py_ssize_t D = self.directions, l, k, i, size = 0, span, between_bytes, weights
        cdef Py_ssize_t starts_bytes, work_bytes, inner, itemsize = self.itemsize
        cdef int p, parts = 1 if dot is None else 2
        cdef bint unbatched, keep = tape is not None, checkpointed = keep and self.checkpoint > 0
        cdef Array a
        cdef Batch batch
        cdef Buffer buffer, work, tangent_weights = None
        cdef Array given_weights
        cdef char *between[2]
        cdef char *drop_mask
        cdef list weight_buffers, given, xs, results, states, returned, out_gates = None
        cdef general_t g
        cdef run_t run
        cdef part_t *part
        cdef strides_t s_in[2]
        cdef strides_t s_out
        cdef char *source[2]
        cdef char *target[2]
        cdef char *packed[2]
        cdef const lstm_kernels_s *s = table_of(self.pieces)
        cdef const lstm_kernels_d *d = table_d()
        cdef bint norm = self.description.layer.cell.layer_norm
        cdef Py_ssize_t column, ld, q, _
        x_array = as_numbers(x, "x") if type(x) is not np.ndarray else x
        shape = x_array.shape
        if not 2 <= len(shape) <= 3:
            raise ValueError(
                f"x has {len(shape)} dimensions, expected 3: "
                f"{'(batch, time' if batch_first else '(time, batch'}, features), "
                "or 2 for one sequence: (time, features)")
        if shape[-1] != I:
            raise ValueError(f"x has {shape[-1]} features, this LSTM takes {I} (input_size={I})")
        unbatched = len(shape) == 2
        if unbatched:
            N, T = 1, shape[0]
        else:
            N, T = (shape[0], shape[1]) if batch_first else (shape[1], shape[0])
        self.check_batch(N, T)
        steps = None
        if lengths is not None:
            lengths = as_lengths(lengths, N, T)
        elif mask is not None:
            lengths, steps = as_steps(mask, N, T)
        span = max(T, <Py_ssize_t>1)
        if checkpointed:
            span = min(span, self.checkpoint)
        weights = 4 * H * (max(I, H) + P) * itemsize
        batch = Batch.cut(N, T, lengths, steps, weights, span, False)

        # arguments and results of each part
        given = [(parameters, x_array, h_0, c_0, bias_rows)]
        if dot is not None:
            given.append(dot)
        xs, results, states = [], [], []
        for p in range(parts):
            suffix = "_dot" if p else ""
            _values, x_p, h_p, c_p, rows_p = given[p]
            xs.append(None if x_p is None else held(x_p, "dx" if p else "x", shape, ", that of x",
                                                    self.is_float))
            states.append((
                self.state_part(h_p, "h_0" + suffix, N, P, unbatched),
                self.state_part(c_p, "c_0" + suffix, N, H, unbatched),
                None if rows_p is None else held(rows_p, "static" + suffix, (D, N, 4 * H), "", self.is_float),
            ))
            results.append([
                held_output(np.empty(self.sequence_shape(N, T, D * P, batch_first, unbatched), self.dtype),
                            self.is_float),
                held_output(self.state_output(N, P, unbatched), self.is_float),
                held_output(self.state_output(N, H, unbatched), self.is_float),
            ])
        # weights
        if want_gates:
            gates = held_output(np.empty((batch.total, 4 * H), self.dtype), self.is_float)
            cells = held_output(np.empty((batch.total, H), self.dtype), self.is_float)
            out_gates = []
            for _ in range(5):
                out_gates.append(np.zeros((self.num_layers * D, N, T, H), self.dtype))
        given_weights = held(parameters, "parameters", (self.parameter_count,), "", self.is_float)
        if keep:
            tape.valid = False
            weight_buffers = tape.packed
            self.pack(given_weights.data, s, d, True, tape.packed[0])
        else:
            weight_buffers = [self.inference_weights(given_weights, s, d), None]
        if parts > 1 and dot[0] is not None:
            tangent_weights = tape.packed[1] if keep else self.take_workspace()
            given_weights = held(dot[0], "dparameters", (self.parameter_count,), "", self.is_float)
            self.pack(given_weights.data, s, d, keep, tangent_weights)

        # memory
        n_threads = max(1, min(n_threads, <int>min(batch.seqs.n_blocks, <Py_ssize_t>1024)))
        for l in range(self.num_layers):
            g = self.layer(l, 0, s, d, seed)
            size = max(size, aligned(general_workspace(&g, &batch.seqs, parts, False, False,
                                                       not self.is_float)))
        # One workspace: of each thread, of dropout's mask, in inference of what layers hand to each other.
        work = tape.work if keep else self.take_workspace()
        work_bytes = times3(n_threads, size, itemsize)
        between_bytes = self.between_bytes(batch)
        inner = min(self.num_layers - 1, <Py_ssize_t>2)
        work.reserve(plus(plus(work_bytes, self.mask_bytes()),
                          0 if keep else times3(parts, inner, between_bytes)))
        drop_mask = work.data + work_bytes
        starts_bytes = times(plus(aligned(times(batch.starts, P)), aligned(times(batch.starts, H))), itemsize)
        for p in range(parts):
            if not keep:
                between[p] = drop_mask + self.mask_bytes() + p * inner * between_bytes
                continue
            buffer = tape.between[p]
            buffer.reserve(times(self.num_layers - 1, between_bytes))
            between[p] = buffer.data
            buffer = tape.states[p] if checkpointed else tape.rows[p]
            buffer.reserve(times3(self.num_layers, D, starts_bytes if checkpointed
                                  else row_bytes(self, batch, norm)))

        # the layers
        memset(&run, 0, sizeof(run))
        run.parts = parts
        for p in range(parts):
            a = xs[p]
            source[p] = NULL if a is None else <char*>a.data
            if a is not None:
                s_in[p] = self.strides_of(a, batch_first)
            buffer = tangent_weights if p else weight_buffers[0]
            packed[p] = NULL if buffer is None else buffer.data
        for l in range(self.num_layers):
            for p in range(parts):
                if l == self.num_layers - 1:
                    a = results[p][0]
                    target[p] = <char*>a.data
                else:
                    target[p] = between[p] + (l if keep else l % 2) * between_bytes
            if l == self.num_layers - 1:
                s_out = self.strides_of(results[0][0], batch_first)
            else:
                s_out.n, s_out.t = D * P, N * D * P  # time-major: the rows of one step stand together
            for k in range(D):
                i = l * D + k
                g = self.layer(l, k, s, d, seed)
                for p in range(parts):
                    part = &run.part[p]
                    part.packed = packed[p]
                    part.x, part.sx = source[p], s_in[p]
                    part.y, part.sy = target[p] + k * P * itemsize, s_out
                    a = states[p][0]
                    part.h_0 = NULL if a is None else <char*>a.data + i * N * P * itemsize
                    a = states[p][1]
                    part.c_0 = NULL if a is None else <char*>a.data + i * N * H * itemsize
                    a = results[p][1]
                    part.h_n = <char*>a.data + i * N * P * itemsize
                    a = results[p][2]
                    part.c_n = <char*>a.data + i * N * H * itemsize
                    a = states[p][2]
                    part.bias_rows = NULL
                    if a is not None and l == 0:
                        part.bias_rows = <char*>a.data + k * 4 * N * H * itemsize
                    if keep:
                        name_tape(self, tape, batch, p, i, norm, part)
                    if packed[p] != NULL:
                        packed[p] += panels_layout(&g, not self.is_float).size * itemsize
                if want_gates:
                    a = gates
                    run.gates = <char*>a.data
                    a = cells
                    run.cells = <char*>a.data
                with nogil:
                    if self.is_float:
                        general_forward(&g, &batch.seqs, &run, <float*>work.data, size, n_threads)
                    else:
                        general_forward(&g, &batch.seqs, &run, <double*>work.data, size, n_threads)
                if want_gates:
                    for q in range(5):
                        column = q * H if q < 4 else 0
                        ld = 4 * H if q < 4 else H
                        a = gates if q < 4 else cells
                        if self.is_float:
                            scatter_rows(&g, batch, <const float*>a.data + column, ld, H, out_gates[q][i])
                        else:
                            scatter_rows(&g, batch, <const double*>a.data + column, ld, H, out_gates[q][i])
            for p in range(parts):
                if l < self.num_layers - 1:
                    self.drop(seed, l, N, T, target[p], drop_mask)
                source[p], s_in[p] = target[p], s_out
        if keep:
            tape.engine = self
            tape.parts, tape.s, tape.d, tape.batch, tape.seed = parts, s, d, batch, seed
            tape.x = [xs[0], xs[1] if parts > 1 else None]
            tape.batch_first, tape.unbatched, tape.checkpointed = batch_first, unbatched, checkpointed
            tape.has_rows = bias_rows is not None
            tape.bias_rows = [states[0][2], states[1][2] if parts > 1 else None]
            tape.dot_weights = tangent_weights is not None
            tape.valid = True
        else:
            self._workspaces.append(work)
            if tangent_weights is not None:
                self._workspaces.append(tangent_weights)
        returned = []
        for p in range(parts):
            for q in range(3):
                a = results[p][q]
                returned.append(a.owner)
        if parts == 1:
            returned += [None, None, None]
        returned.append(out_gates)
        return tuple(returned)

    cdef int drop(self, object seed, Py_ssize_t layer, Py_ssize_t N, Py_ssize_t T, char *values,
                  char *mask) except -1:
        """values (T, N, D * P) *= dropout's mask, drawn row by row in `mask`."""
        cdef uint64_t key
        if seed is None or self.dropout == 0:
            return 0
        key = seed
        cdef Py_ssize_t width = self.directions * self.out_size
        with nogil:
            if self.is_float:
                drop_rows(key, <uint32_t>layer, N, T, width, self.dropout, <float*>values, <float*>mask)
            else:
                drop_rows(key, <uint32_t>layer, N, T, width, self.dropout, <double*>values, <double*>mask)
        return 0

    # -- backward

    def backward(self, GeneralTape tape not None, dy, dh_n, dc_n, dot, bint input_gradient, gradient,
                 int n_threads, int parts):
        """Of each part dx, dh_0, dc_0, dbias_rows, in one list; adds to `gradient` (P,).

        parts: 1 for the gradient; with a tape of two parts 2 for its tangent besides, which is what is
        added to `gradient` then. dot: None, or (dy_dot, dh_n_dot, dc_n_dot).
        """
        if not tape.valid or tape.engine is not self or not 1 <= parts <= tape.parts:
            raise ValueError("tape is not one that this engine's forward has filled")
        cdef Batch batch = tape.batch
        cdef Py_ssize_t N = batch.seqs.batch, T = batch.seqs.time, H = self.hidden_size, P = self.out_size
        cdef Py_ssize_t D = self.directions, l, k, i, size = 0, partial = 0, itemsize = self.itemsize
        cdef Py_ssize_t between_bytes = self.between_bytes(batch), work_bytes, partial_bytes, offset
        cdef int p
        cdef bint norm = self.description.layer.cell.layer_norm
        cdef Array a, total = held_output(gradient, self.is_float)
        cdef Buffer buffer
        cdef char *partials
        cdef char *drop_mask
        cdef char *down_layers
        cdef list given, gradients, results, values
        cdef general_t g
        cdef run_t run
        cdef part_t *part
        cdef strides_t s_up[2]
        cdef strides_t s_dx[2]
        cdef strides_t s_x[2]
        cdef char *up[2]
        cdef char *down[2]
        cdef char *source[2]
        cdef char *packed[2]
        if total.ndim != 1 or total.shape[0] != self.parameter_count:
            raise ValueError(f"gradient has shape {gradient.shape}, expected ({self.parameter_count},)")
        given = [(dy, dh_n, dc_n), (None, None, None) if dot is None else dot]
        y_shape = self.sequence_shape(N, T, D * P, tape.batch_first, tape.unbatched)
        gradients, results = [], []
        a = tape.x[0]
        x_shape = self.sequence_shape(N, T, self.input_size, tape.batch_first, tape.unbatched)
        for p in range(parts):
            suffix = "_dot" if p else ""
            dy_p, dh_p, dc_p = given[p]
            gradients.append((
                None if dy_p is None else held(dy_p, "dy" + suffix, y_shape, ", that of y", self.is_float),
                self.state_part(dh_p, "dh_n" + suffix, N, P, tape.unbatched),
                self.state_part(dc_p, "dc_n" + suffix, N, H, tape.unbatched),
            ))
            results.append([
                held_output(np.empty(x_shape, self.dtype), self.is_float) if input_gradient else None,
                held_output(self.state_output(N, P, tape.unbatched), self.is_float),
                held_output(self.state_output(N, H, tape.unbatched), self.is_float),
                held_output(np.empty((D, N, 4 * H), self.dtype), self.is_float) if tape.has_rows else None,
            ])
        n_threads = max(1, min(n_threads, <int>min(batch.seqs.n_groups, <Py_ssize_t>1024)))
        for l in range(self.num_layers):
            g = self.layer(l, 0, tape.s, tape.d, tape.seed)
            size = max(size, aligned(general_workspace(&g, &batch.seqs, parts, True, tape.checkpointed,
                                                       not self.is_float)))
            partial = max(partial, partial_size(&g, not self.is_float))
        work_bytes = times3(n_threads, size, itemsize)
        partial_bytes = times3(partial, batch.seqs.n_groups, itemsize)
        tape.work.reserve(plus(plus(plus(work_bytes, partial_bytes), self.mask_bytes()),
                               times3(2, parts, between_bytes)))
        partials = tape.work.data + work_bytes
        drop_mask = partials + partial_bytes
        down_layers = drop_mask + self.mask_bytes()
        memset(&run, 0, sizeof(run))
        run.parts = parts
        for p in range(parts):
            a = gradients[p][0]
            up[p] = NULL if a is None else <char*>a.data
            if a is not None:
                s_up[p] = self.strides_of(a, tape.batch_first)
            buffer = tape.packed[p]
            packed[p] = buffer.data
            if p and not tape.dot_weights:
                packed[p] = NULL
        offset = 0
        for l in range(self.num_layers):
            for k in range(D):
                g = self.layer(l, k, tape.s, tape.d, tape.seed)
                offset += panels_layout(&g, not self.is_float).size * itemsize
        for l in range(self.num_layers - 1, -1, -1):
            for p in range(parts):
                if l == 0:
                    a = tape.x[p]
                    source[p] = NULL if a is None else <char*>a.data
                    if a is not None:
                        s_x[p] = self.strides_of(a, tape.batch_first)
                    a = results[p][0]
                    down[p] = NULL if a is None else <char*>a.data
                    if a is not None:
                        s_dx[p] = self.strides_of(a, tape.batch_first)
                else:
                    buffer = tape.between[p]
                    source[p] = buffer.data + (l - 1) * between_bytes
                    down[p] = down_layers + (2 * p + l % 2) * between_bytes
                    s_x[p].n, s_x[p].t = D * P, N * D * P
                    s_dx[p] = s_x[p]
            for k in range(D - 1, -1, -1):
                i = l * D + k
                g = self.layer(l, k, tape.s, tape.d, tape.seed)
                offset -= panels_layout(&g, not self.is_float).size * itemsize
                run.add_dx = k != D - 1
                for p in range(parts):
                    part = &run.part[p]
                    part.packed = NULL
                    if packed[p] != NULL:
                        part.packed = packed[p] + offset
                    part.x, part.sx = source[p], s_x[p]
                    part.dy = NULL if up[p] == NULL else up[p] + k * P * itemsize
                    part.sdy = s_up[p]
                    part.dx, part.sdx = down[p], s_dx[p]
                    a = gradients[p][1]
                    part.dh_n = NULL if a is None else <char*>a.data + i * N * P * itemsize
                    a = gradients[p][2]
                    part.dc_n = NULL if a is None else <char*>a.data + i * N * H * itemsize
                    a = results[p][1]
                    part.dh_0 = <char*>a.data + i * N * P * itemsize
                    a = results[p][2]
                    part.dc_0 = <char*>a.data + i * N * H * itemsize
                    part.bias_rows = part.dbias_rows = NULL
                    if tape.has_rows and l == 0:
                        a = results[p][3]
                        part.dbias_rows = <char*>a.data + k * 4 * N * H * itemsize
                        a = tape.bias_rows[p]
                        part.bias_rows = NULL if a is None else <char*>a.data + k * 4 * N * H * itemsize
                    part.partial = partials
                    name_tape(self, tape, batch, p, i, norm, part)
                with nogil:
                    if self.is_float:
                        general_backward(&g, &batch.seqs, &run, <float*>tape.work.data, size, n_threads)
                    else:
                        general_backward(&g, &batch.seqs, &run, <double*>tape.work.data, size, n_threads)
                with self._gradient_lock, nogil:
                    if self.is_float:
                        add_general_partials(&g, &batch.seqs, <const float*>partials, <float*>total.data)
                    else:
                        add_general_partials(&g, &batch.seqs, <const double*>partials, <double*>total.data)
            for p in range(parts):
                if l > 0:
                    self.drop(tape.seed, l - 1, N, T, down[p], drop_mask)
                up[p], s_up[p] = down[p], s_dx[p]
        values = []
        for p in range(parts):
            for l in range(4):
                a = results[p][l]
                values.append(None if a is None else a.owner)
        return values


cdef Py_ssize_t row_bytes(GeneralEngine engine, Batch batch, bint norm) noexcept:
    """Bytes of one layer-direction's rows on a tape."""
    cdef Py_ssize_t H = engine.hidden_size, P = engine.out_size, total = batch.total
    cdef Py_ssize_t rows = times(2 if norm else 1, aligned(times3(4, total, H)))
    rows = plus(rows, plus(aligned(times(total, H)), aligned(times(total, P))))
    return times(rows, engine.itemsize)


cdef int name_tape(GeneralEngine engine, GeneralTape tape, Batch batch, int p, Py_ssize_t i, bint norm,
                   part_t *part) except -1:
    """Where layer-direction i of part p keeps its rows, or its saved states."""
    cdef Py_ssize_t H = engine.hidden_size, P = engine.out_size, total = batch.total
    cdef Py_ssize_t itemsize = engine.itemsize
    cdef Buffer buffer
    cdef char *at
    part.starts_h = part.starts_c = NULL
    part.tape.pre_x = part.tape.pre_h = part.tape.cells = part.tape.fed = NULL
    if engine.checkpoint > 0:
        buffer = tape.states[p]
        at = buffer.data + i * (aligned(batch.starts * P) + aligned(batch.starts * H)) * itemsize
        part.starts_h = at
        part.starts_c = at + aligned(batch.starts * P) * itemsize
        return 0
    buffer = tape.rows[p]
    at = buffer.data + i * row_bytes(engine, batch, norm)
    part.tape.pre_x = at
    at += aligned(4 * total * H) * itemsize
    if norm:
        part.tape.pre_h = at
        at += aligned(4 * total * H) * itemsize
    part.tape.cells = at
    part.tape.fed = at + aligned(total * H) * itemsize
    return 0


cdef void drop_rows(uint64_t seed, uint32_t layer, Py_ssize_t N, Py_ssize_t T, Py_ssize_t width,
                    double probability, floating *values, floating *mask) noexcept nogil:
    cdef floating keep = <floating>(1 / (1 - probability))
    cdef Py_ssize_t n, t, j
    for t in range(T):
        for n in range(N):
            bernoulli_row(seed, DROPOUT, layer, n, t, width, probability, <floating>0, keep, mask)
            for j in range(width):
                values[j] *= mask[j]
            values += width


cdef int scatter_rows(const general_t *g, Batch batch, const floating *rows, Py_ssize_t ld,
                      Py_ssize_t width, object out) except -1:
    """out (N, T, width) = `width` columns of rows (total, ld), which stand in the order of the steps."""
    cdef Array target = held_output(out, floating is float)
    cdef Py_ssize_t b, s, n, first, last
    cdef strides_t to
    to.n, to.t = batch.seqs.time * width, width
    for b in range(batch.seqs.n_blocks):
        first, last = batch.seqs.block[b], batch.seqs.block[b + 1]
        for s in range(batch.seqs.lengths[first] if last > first else 0):
            for n in range(first, last):
                if batch.seqs.lengths[n] <= s:
                    break
                scatter(&g.layer, &batch.seqs, n, 1, s, width, rows, <floating*>target.data, to, False)
                rows += ld
    return 0


# ---- online


cdef class GeneralStepper:
    """A unidirectional stack with options that advances one step at a time, its weights packed once.

    A step is the driver's forward pass over sequences of one step, from the state and back into it.
    """

    cdef GeneralEngine engine
    cdef Buffer packed
    cdef Batch sequences
    cdef const lstm_kernels_s *s
    cdef const lstm_kernels_d *d
    cdef Buffer work, between
    cdef Array h, c, bias_rows
    cdef Py_ssize_t work_size
    cdef readonly Py_ssize_t batch
    cdef Owner owner             # one step at a time

    def __cinit__(self, GeneralEngine engine not None, parameters, Py_ssize_t batch, bias_rows):
        """bias_rows: None or (1, N, 4H), as in GeneralEngine.forward."""
        cdef general_t g
        cdef Py_ssize_t l
        cdef Array values
        if not 1 <= batch <= INT_MAX:
            raise ValueError(f"batch is {batch}, expected 1 to {INT_MAX}")
        engine.check_batch(batch, 1)
        self.owner = Owner("stream")
        self.engine, self.batch = engine, batch
        self.s, self.d = table_of(engine.pieces), table_d()
        self.packed, self.work, self.between = Buffer(), Buffer(), Buffer()
        values = held(parameters, "parameters", (engine.parameter_count,), "", engine.is_float)
        engine.pack(values.data, self.s, self.d, False, self.packed)
        self.sequences = Batch.whole(batch, 1)
        for l in range(engine.num_layers):
            g = engine.layer(l, 0, self.s, self.d, None)
            self.work_size = max(self.work_size, aligned(general_workspace(
                &g, &self.sequences.seqs, 1, False, False, not engine.is_float)))
        self.work.reserve(times(self.work_size, engine.itemsize))
        self.between.reserve(times3(2 * engine.itemsize, batch, engine.out_size))
        self.h = held_output(np.zeros((engine.num_layers, batch, engine.out_size), engine.dtype),
                             engine.is_float)
        self.c = held_output(np.zeros((engine.num_layers, batch, engine.hidden_size), engine.dtype),
                             engine.is_float)
        self.bias_rows = None
        if bias_rows is not None:
            self.bias_rows = held(bias_rows, "static", (1, batch, 4 * engine.hidden_size), "",
                                  engine.is_float)

    def load(self, h_given, c_given):
        """Set the state from (L, N, P) and (L, N, H) arrays, None for zeros."""
        cdef Array h = self.engine.state_part(h_given, "h", self.batch, self.engine.out_size, False)
        cdef Array c = self.engine.state_part(c_given, "c", self.batch, self.engine.hidden_size, False)
        with self.owner:
            self.h.owner[...] = 0 if h is None else h.owner
            self.c.owner[...] = 0 if c is None else c.owner

    def save(self):
        """The state as two new arrays."""
        with self.owner:
            return self.h.owner.copy(), self.c.owner.copy()

    def step(self, x_t, out=None):
        """h of the last layer after one more step, in `out` where that is given."""
        cdef GeneralEngine engine = self.engine
        cdef Py_ssize_t I = engine.input_size, P = engine.out_size, N = self.batch
        x_t = as_numbers(x_t, "x_t")
        shape = x_t.shape
        if shape != (N, I) and not (N == 1 and shape == (I,)):
            if len(shape) in (1, 2) and shape[:-1] in ((), (N,)) and shape[-1] != I:
                raise ValueError(f"x_t has {shape[-1]} features, this LSTM takes {I} (input_size={I})")
            or_row = f" or ({I},)" if N == 1 else ""
            raise ValueError(f"x_t has shape {shape}, expected ({N}, {I}){or_row}")
        cdef tuple out_shape = (P,)
        if len(shape) == 2:
            out_shape = (N, P)
        if out is None:
            out = np.empty(out_shape, engine.dtype)
        elif not (type(out) is np.ndarray and out.dtype == engine.dtype and out.shape == out_shape
                  and out.flags.carray):
            came = (f"{out.dtype} {out.shape}{'' if out.flags.c_contiguous else ', not contiguous'}"
                    f"{'' if out.flags.writeable else ', read-only'}"
                    if isinstance(out, np.ndarray) else type(out).__name__)
            raise ValueError(f"out is {came}, expected a writable contiguous {engine.dtype} array "
                             f"of shape {out_shape}")
        cdef Array x = held_copy(x_t.reshape(N, I), engine.is_float)
        cdef Array y = held_output(out.reshape(N, P), engine.is_float)
        self.owner.take()
        try:
            self.run(x, y)
        finally:
            self.owner.give()
        return out

    cdef int run(self, Array x, Array y) except -1:
        cdef GeneralEngine engine = self.engine
        cdef Py_ssize_t l, N = self.batch, H = engine.hidden_size, P = engine.out_size
        cdef Py_ssize_t itemsize = engine.itemsize
        cdef general_t g
        cdef run_t run
        cdef part_t *part = &run.part[0]
        cdef char *packed = self.packed.data
        cdef char *source = <char*>x.data
        memset(&run, 0, sizeof(run))
        run.parts = 1
        part.sx.n = x.strides[0]
        for l in range(engine.num_layers):
            g = engine.layer(l, 0, self.s, self.d, None)
            part.packed, part.x = packed, source
            part.y = <char*>y.data
            if l < engine.num_layers - 1:
                part.y = self.between.data + l % 2 * N * P * itemsize
            part.sy.n = P
            part.h_0 = part.h_n = <char*>self.h.data + l * N * P * itemsize
            part.c_0 = part.c_n = <char*>self.c.data + l * N * H * itemsize
            part.bias_rows = NULL if l or self.bias_rows is None else self.bias_rows.data
            with nogil:
                if engine.is_float:
                    general_forward(&g, &self.sequences.seqs, &run, <float*>self.work.data, self.work_size, 1)
                else:
                    general_forward(&g, &self.sequences.seqs, &run, <double*>self.work.data, self.work_size,
                                    1)
            packed += panels_layout(&g, not engine.is_float).size * itemsize
            source = <char*>part.y
            part.sx.n = P
        return 0
