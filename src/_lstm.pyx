# cython: language_level=3, boundscheck=True, initializedcheck=True, cdivision=True
"""Entry points of the layer: buffers checked, memory taken, the GIL released, the drivers called.

Shapes and words for users are in lstm_ext/lstm.py; loops are in _driver.pyx. What comes in here are
arrays of any kind; what goes down are pointers, strides and sizes that fit together.
"""
import numpy as np

from lstm_ext._arrays import as_lengths, as_numbers, as_steps

from cpython.buffer cimport PyBUF_WRITABLE
from cython cimport floating
from libc.limits cimport INT_MAX
from libc.string cimport memcmp, memcpy, memset

from lstm_ext._arrays cimport (
    Array,
    Buffer,
    Lock,
    Owner,
    aligned,
    check_size,
    countable,
    held,
    held_as_it_is,
    held_copy,
    held_output,
    plus,
    times,
    times3,
)
from lstm_ext._driver cimport (
    add_partials,
    partial_size,
    backward,
    backward_workspace,
    cut_sequences,
    default_layer,
    forward,
    forward_workspace,
    layer_t,
    pack_weights,
    packed_layout,
    packed_t,
    sequences_memory,
    shape_blocks,
    shape_sequences,
    step,
    strides_t,
    weights_at,
    weights_t,
)
from lstm_ext._kernels cimport (
    LSTM_ACT_IDENTITY,
    LSTM_ACT_TANH,
    lstm_kernels_d,
    lstm_kernels_s,
    table_d,
    table_of,
)

cdef object np_empty = np.empty
cdef type ndarray = np.ndarray
cdef object FLOAT32 = np.dtype(np.float32), FLOAT64 = np.dtype(np.float64)


# ---- the batch


cdef class Batch:
    """The sequences of a batch in sorted order, cut into blocks. It is not changed once made."""

    @staticmethod
    cdef Batch cut(Py_ssize_t batch, Py_ssize_t time, object lengths, object steps, Py_ssize_t weights,
                   Py_ssize_t span, bint alone):
        """For a layer whose weights take that many bytes; `alone` as in `shape_sequences`."""
        cdef Batch self = Batch.__new__(Batch)
        if not countable(times3(batch, time, sizeof(Py_ssize_t))):
            raise MemoryError(f"x has {batch} sequences of {time} steps: this machine cannot count them")
        self.alone = alone
        shape_sequences(&self.seqs, batch, time, weights, span, alone)
        self.fill(lengths, steps)
        return self

    @staticmethod
    cdef Batch whole(Py_ssize_t batch, Py_ssize_t time):
        """One block, whatever its size."""
        cdef Batch self = Batch.__new__(Batch)
        shape_blocks(&self.seqs, batch, time, max(batch, <Py_ssize_t>1), 1, max(time, <Py_ssize_t>1))
        self.fill(None, None)
        return self

    cdef int fill(self, object lengths, object steps) except -1:
        cdef const Py_ssize_t[::1] given
        cdef const Py_ssize_t[:, ::1] times_of
        cdef const Py_ssize_t *first = NULL
        if lengths is not None and self.seqs.batch:
            given = lengths
            first = &given[0]
        self._memory = Buffer()
        self._memory.reserve(times(sequences_memory(&self.seqs), sizeof(Py_ssize_t)))
        cut_sequences(&self.seqs, first, <Py_ssize_t*>self._memory.data)
        if steps is not None and self.seqs.batch and self.seqs.time:
            times_of = self._times = steps
            self.seqs.times = &times_of[0, 0]
        self.total = self.seqs.row[self.seqs.n_blocks]
        self.starts = self.seqs.start[self.seqs.n_blocks]
        return 0


# ---- the engine: a stack of layers and directions over one flat vector of parameters


cdef class Packed:
    """Weights as a kernel wants them, and the parameters that they were made from.

    It is packed from its own copy, `source`, and not changed afterwards: another thread may write the
    parameters meanwhile. Who keeps it replaces it whole, so no lock is held while it is made.
    """

    @staticmethod
    cdef Packed of(const lstm_kernels_s *s, const void *parameters, Py_ssize_t nbytes):
        cdef Packed self = Packed.__new__(Packed)
        self.memory, self.source = Buffer(), Buffer()
        self.source.reserve(nbytes)
        memcpy(self.source.data, parameters, nbytes)
        self.nbytes, self.s = nbytes, s
        return self

    cdef bint is_of(self, const lstm_kernels_s *s, const void *parameters) noexcept:
        """Whether it was made from these parameters, byte for byte, for this kernel."""
        return self.s == s and memcmp(self.source.data, parameters, self.nbytes) == 0


cdef class Engine:
    """The stack, as the drivers see it. Parameters and gradient are memory of the Python layer's."""

    cdef readonly Py_ssize_t input_size, hidden_size, num_layers, directions, checkpoint
    cdef readonly bint is_float, reverse
    cdef readonly object dtype
    cdef readonly Py_ssize_t parameter_count
    cdef readonly int activation
    cdef public int pieces       # bfloat16 numbers that factors of products may be split into; 0: float32
    cdef Py_ssize_t itemsize
    cdef Array parameters, gradient
    cdef Packed _packed          # of the last inference; used again while the parameters are the same
    cdef Batch _batch            # of the last call without lengths
    cdef list _workspaces        # free ones; a call takes one, so that threads never share
    cdef object _gradient_lock   # threads may call backward at once: they add one after another

    def __cinit__(self, Py_ssize_t input_size, Py_ssize_t hidden_size, Py_ssize_t num_layers,
                 Py_ssize_t directions, bint reverse, dtype, cell_activation, Py_ssize_t checkpoint):
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.directions = directions
        self.reverse = reverse
        self.checkpoint = checkpoint
        self.dtype = np.dtype(dtype)
        self.is_float = self.dtype == np.float32
        self.itemsize = self.dtype.itemsize
        self.activation = LSTM_ACT_TANH if cell_activation == "tanh" else LSTM_ACT_IDENTITY
        if not (input_size > 0 and hidden_size > 0 and num_layers > 0 and 1 <= directions <= 2
                and checkpoint >= 0):
            raise ValueError("a size is not positive")
        self.parameter_count = self.offsets(num_layers, 0).weight_ih
        check_size(times(self.parameter_count, self.itemsize), "parameters")
        self._workspaces = []
        self._gradient_lock = Lock("gradient")

    def bind(self, parameters, gradient):
        """Compute on these two 1-D arrays from now on."""
        cdef Array p = held_output(parameters, self.is_float)
        cdef Array g = held_output(gradient, self.is_float)
        if p.shape[0] != self.parameter_count or g.shape[0] != self.parameter_count:
            raise ValueError(f"parameters and gradient have {p.shape[0]} and {g.shape[0]} elements, expected "
                             f"{self.parameter_count}")
        self.parameters, self.gradient = p, g

    # -- shapes

    cdef Py_ssize_t layer_input(self, Py_ssize_t layer) noexcept nogil:
        return self.input_size if layer == 0 else self.directions * self.hidden_size

    cdef weights_t offsets(self, Py_ssize_t layer, Py_ssize_t direction) noexcept nogil:
        return weights_at(self.input_size, self.hidden_size, self.directions, layer, direction)

    cdef layer_t layer(self, Py_ssize_t layer, Py_ssize_t direction, const lstm_kernels_s *s,
                       const lstm_kernels_d *d) noexcept nogil:
        return default_layer(s, d, not self.is_float, self.activation, self.layer_input(layer),
                             self.hidden_size, self.reverse or direction == 1)

    cdef Py_ssize_t packed_elements(self, const lstm_kernels_s *s, const lstm_kernels_d *d,
                                    bint with_backward) noexcept:
        """Elements of the packed weights of the whole stack."""
        cdef Py_ssize_t l, k, n = 0
        cdef layer_t L
        cdef packed_t at
        for l in range(self.num_layers):
            for k in range(self.directions):
                L = self.layer(l, k, s, d)
                at = packed_layout(&L, not self.is_float)
                n = plus(n, at.size if with_backward else at.forward_size)
        return n

    cdef void pack(self, const lstm_kernels_s *s, const lstm_kernels_d *d, bint with_backward,
                   const void *parameters, void *packed) noexcept:
        cdef Py_ssize_t l, k
        cdef layer_t L
        cdef packed_t at
        cdef weights_t w
        cdef char *to = <char*>packed
        for l in range(self.num_layers):
            for k in range(self.directions):
                L = self.layer(l, k, s, d)
                w = self.offsets(l, k)
                with nogil:
                    if self.is_float:
                        pack_weights(&L, &w, <const float*>parameters, with_backward, <float*>to)
                    else:
                        pack_weights(&L, &w, <const double*>parameters, with_backward, <double*>to)
                at = packed_layout(&L, not self.is_float)
                to += (at.size if with_backward else at.forward_size) * self.itemsize

    cdef Packed packed(self, const lstm_kernels_s *s, const lstm_kernels_d *d):
        """Packed weights for inference: the last ones, if the parameters are byte for byte the same."""
        cdef Packed packed = self._packed
        if packed is not None and packed.is_of(s, self.parameters.data):
            return packed
        packed = Packed.of(s, self.parameters.data, self.parameter_count * self.itemsize)
        packed.memory.reserve(times(self.packed_elements(s, d, False), self.itemsize))
        self.pack(s, d, False, packed.source.data, packed.memory.data)
        self._packed = packed
        return packed

    cdef Batch batch(self, Py_ssize_t N, Py_ssize_t T, object lengths, object steps,
                     Py_ssize_t checkpoint, bint alone):
        cdef Batch batch = self._batch
        cdef Py_ssize_t H = self.hidden_size, weights
        cdef Py_ssize_t span = max(T, <Py_ssize_t>1)
        if checkpoint > 0:
            span = min(span, checkpoint)
        if (lengths is None and batch is not None and batch.seqs.batch == N and batch.seqs.time == T
                and batch.seqs.span == span and batch.alone == alone):
            return batch
        weights = 4 * H * (max(self.input_size, H) + H) * self.itemsize
        batch = Batch.cut(N, T, lengths, steps, weights, span, alone)
        if lengths is None:
            self._batch = batch
        return batch

    # -- arguments

    cdef int check_batch(self, Py_ssize_t N, Py_ssize_t T) except -1:
        """MemoryError for a batch whose results cannot be counted, before anything of it is copied."""
        cdef Py_ssize_t width = times(self.directions, self.hidden_size)
        if not (countable(times3(times(N, T), width, self.itemsize))
                and countable(times3(times(N, self.num_layers), width, self.itemsize))):
            raise MemoryError(f"x has {N} sequences of {T} steps: their results are more bytes than this "
                              "machine can address")
        return 0

    cdef tuple sizes(self, tuple shape, bint batch_first):
        """(N, T) of x, whose shape is checked."""
        if not 2 <= len(shape) <= 3:
            raise ValueError(
                f"x has {len(shape)} dimensions, expected 3: "
                f"{'(batch, time' if batch_first else '(time, batch'}, features), "
                "or 2 for one sequence: (time, features)")
        if shape[-1] != self.input_size:
            raise ValueError(f"x has {shape[-1]} features, this LSTM takes {self.input_size} "
                             f"(input_size={self.input_size})")
        if len(shape) == 2:
            return 1, shape[0]
        return (shape[0], shape[1]) if batch_first else (shape[1], shape[0])

    cdef Array state_part(self, object value, str name, Py_ssize_t N, bint unbatched):
        """An (L * D, N, H) array, dense, or None."""
        cdef Array a
        cdef Py_ssize_t layers = self.num_layers * self.directions, H = self.hidden_size
        if value is None:
            return None
        if unbatched and np.ndim(value) == 2:
            a = held(value, name, (layers, H), " = (num_layers * directions, hidden_size)", self.is_float)
        else:
            a = held(value, name, (layers, N, H),
                     " = (num_layers * directions, batch, hidden_size)", self.is_float)
        if a.strides[a.ndim - 2] != H or a.ndim == 3 and a.strides[0] != N * H:
            return held_copy(np.array(value, order="C"), self.is_float)
        return a

    cdef strides_t strides_of(self, Array a, bint batch_first) noexcept:
        cdef strides_t s
        if a.ndim == 2:
            s.n, s.t = 0, a.strides[0]
        elif batch_first:
            s.n, s.t = a.strides[0], a.strides[1]
        else:
            s.n, s.t = a.strides[1], a.strides[0]
        return s

    cdef tuple y_shape(self, Tape tape):
        cdef Py_ssize_t N = tape.batch.seqs.batch, T = tape.batch.seqs.time
        cdef Py_ssize_t width = self.directions * self.hidden_size
        if tape.unbatched:
            return T, width
        if tape.batch_first:
            return N, T, width
        return T, N, width

    cdef object output(self, Array x, Py_ssize_t width):
        if x.ndim == 2:
            return np_empty((x.shape[0], width), self.dtype)
        return np_empty((x.shape[0], x.shape[1], width), self.dtype)

    cdef object state_output(self, Py_ssize_t N, bint unbatched):
        cdef Py_ssize_t layers = self.num_layers * self.directions
        if unbatched:
            return np_empty((layers, self.hidden_size), self.dtype)
        return np_empty((layers, N, self.hidden_size), self.dtype)

    cdef Buffer take_workspace(self):
        try:
            return self._workspaces.pop()
        except IndexError:
            return Buffer()

    # -- forward

    def forward(self, x_given, state, lengths, mask, bint batch_first, Tape tape, int n_threads):
        """y, (h_n, c_n). With a tape, what backward needs is recorded there."""
        cdef Array x = held_as_it_is(x_given, self.is_float)
        cdef Array y, h_0 = None, c_0 = None, h_n, c_n
        cdef Py_ssize_t N, T, D = self.directions
        cdef bint unbatched, alone
        cdef Batch batch
        cdef Packed packed
        cdef Buffer work
        cdef Array parameters = self.parameters  # `bind` may replace it meanwhile
        cdef const lstm_kernels_s *s = table_of(self.pieces)  # one kernel from here to the end
        cdef const lstm_kernels_d *d = table_d()
        cdef strides_t sx, sy
        steps = None
        if x is None:
            x_given = as_numbers(x_given, "x")
        N, T = self.sizes(x_given.shape, batch_first)
        self.check_batch(N, T)
        if x is None:
            x = held_copy(x_given, self.is_float)
        unbatched = x.ndim == 2
        if state is not None:
            h_0 = self.state_part(state[0], "h_0", N, unbatched)
            c_0 = self.state_part(state[1], "c_0", N, unbatched)
        if lengths is not None:
            lengths = as_lengths(lengths, N, T)
        elif mask is not None:
            lengths, steps = as_steps(mask, N, T)
        # BLAS may add in another order for another number of rows.
        alone = tape is None and n_threads == 1 and s.lanes > 1
        batch = self.batch(N, T, lengths, steps, self.checkpoint if tape is not None else 0, alone)
        y_out = self.output(x, D * self.hidden_size)
        h_out, c_out = self.state_output(N, unbatched), self.state_output(N, unbatched)
        y = held_output(y_out, self.is_float)
        h_n, c_n = held_output(h_out, self.is_float), held_output(c_out, self.is_float)
        sx, sy = self.strides_of(x, batch_first), self.strides_of(y, batch_first)
        n_threads = max(1, min(n_threads, <int>min(batch.seqs.n_blocks, <Py_ssize_t>1024)))
        if tape is None:
            packed = self.packed(s, d)
            work = self.take_workspace()
            self.run_forward(packed.memory.data, s, d, x, sx, y, sy, h_0, c_0, h_n, c_n,
                             batch, None, work, n_threads)
            self._workspaces.append(work)
        else:
            tape.valid = False
            tape.reserve(self, batch, s, d)
            self.pack(s, d, True, parameters.data, tape.packed.data)
            self.run_forward(tape.packed.data, s, d, x, sx, y, sy, h_0, c_0, h_n, c_n,
                             batch, tape, tape.work, n_threads)
            tape.engine, tape.s, tape.d = self, s, d
            tape.x, tape.sx, tape.batch = x, sx, batch
            tape.batch_first, tape.unbatched, tape.T = batch_first, unbatched, T
            tape.valid = True
        return y_out, (h_out, c_out)

    cdef Py_ssize_t between_bytes(self, Batch batch) noexcept:
        """What one inner layer hands to the next."""
        if self.num_layers == 1:
            return 0
        cdef Py_ssize_t rows = times(batch.seqs.batch, batch.seqs.time)
        return times(aligned(times3(rows, self.directions, self.hidden_size)), self.itemsize)

    cdef int run_forward(self, char *packed, const lstm_kernels_s *s, const lstm_kernels_d *d,
                         Array x, strides_t sx, Array y, strides_t sy, Array h_0, Array c_0,
                         Array h_n, Array c_n, Batch batch, Tape tape, Buffer work,
                         int n_threads) except -1:
        cdef Py_ssize_t l, k, H = self.hidden_size, D = self.directions, i = 0
        cdef Py_ssize_t N = batch.seqs.batch, size = 0
        cdef Py_ssize_t between_bytes = self.between_bytes(batch), work_bytes
        cdef layer_t L
        cdef packed_t at
        cdef strides_t s_in = sx, s_out
        cdef char *source = <char*>x.data
        cdef char *target
        cdef char *between = NULL
        for l in range(self.num_layers):
            L = self.layer(l, 0, s, d)
            size = max(size, aligned(forward_workspace(&L, &batch.seqs)))
        work_bytes = times3(n_threads, size, self.itemsize)
        if tape is None:
            work.reserve(plus(work_bytes, times(min(self.num_layers - 1, <Py_ssize_t>2), between_bytes)))
            between = work.data + work_bytes
        else:
            work.reserve(work_bytes)
        for l in range(self.num_layers):
            if l == self.num_layers - 1:
                target, s_out = <char*>y.data, sy
            else:
                # Time-major: the rows of one step stand together.
                if tape is not None:
                    target = tape.between.data + l * between_bytes
                else:
                    target = between + l % 2 * between_bytes
                s_out.n, s_out.t = D * H, N * D * H
            for k in range(D):
                L = self.layer(l, k, s, d)
                at = packed_layout(&L, not self.is_float)
                if self.is_float:
                    call_forward[float](
                        &L, batch, <float*>packed, <float*>source, s_in, <float*>target + k * H, s_out,
                        h_0, c_0, h_n, c_n, i, tape, <float*>work.data, size, n_threads)
                else:
                    call_forward[double](
                        &L, batch, <double*>packed, <double*>source, s_in, <double*>target + k * H, s_out,
                        h_0, c_0, h_n, c_n, i, tape, <double*>work.data, size, n_threads)
                packed += (at.forward_size if tape is None else at.size) * self.itemsize
                i += 1
            source, s_in = target, s_out
        return 0

    # -- backward

    def backward(self, Tape tape not None, dy_given, dstate, bint input_gradient, int n_threads):
        """dx, (dh_0, dc_0); adds to the gradient."""
        if not tape.valid or tape.engine is not self:
            raise ValueError("tape is not one that this engine's forward has filled")
        cdef Py_ssize_t H = self.hidden_size, D = self.directions, l, k, i
        cdef Batch batch = tape.batch
        cdef Py_ssize_t N = batch.seqs.batch, size = 0, partial, between_bytes, work_bytes, partial_bytes
        cdef Array gradient = self.gradient  # `bind` may replace it meanwhile
        cdef Py_ssize_t itemsize = self.itemsize
        cdef Array dy = None, dh_n = None, dc_n = None, dx = None, dh_0, dc_0
        cdef layer_t L
        cdef packed_t at
        cdef strides_t s_dy, s_dx, s_x
        cdef char *source
        cdef char *up
        cdef char *down
        cdef char *packed
        cdef char *between
        cdef char *partials
        cdef weights_t w
        s_dy = s_dx = tape.sx
        if dy_given is not None:
            dy = held(dy_given, "dy", self.y_shape(tape), ", that of y", self.is_float)
            s_dy = self.strides_of(dy, tape.batch_first)
        if dstate is not None:
            dh_n = self.state_part(dstate[0], "dh_n", N, tape.unbatched)
            dc_n = self.state_part(dstate[1], "dc_n", N, tape.unbatched)
        dx_out = None
        if input_gradient:
            dx_out = self.output(tape.x, self.input_size)
            dx = held_output(dx_out, self.is_float)
            s_dx = self.strides_of(dx, tape.batch_first)
        dh_out, dc_out = self.state_output(N, tape.unbatched), self.state_output(N, tape.unbatched)
        dh_0, dc_0 = held_output(dh_out, self.is_float), held_output(dc_out, self.is_float)
        n_threads = max(1, min(n_threads, <int>min(batch.seqs.n_groups, <Py_ssize_t>1024)))
        partial = 0
        for l in range(self.num_layers):
            L = self.layer(l, 0, tape.s, tape.d)
            size = max(size, aligned(backward_workspace(&L, &batch.seqs, tape.checkpointed,
                                                   not self.is_float)))
            partial = max(partial, partial_size(&L))
        between_bytes = self.between_bytes(batch)
        work_bytes = times3(n_threads, size, itemsize)
        partial_bytes = times3(partial, batch.seqs.n_groups, itemsize)
        tape.work.reserve(plus(plus(work_bytes, partial_bytes),
                               times(min(self.num_layers - 1, <Py_ssize_t>2), between_bytes)))
        partials = tape.work.data + work_bytes
        between = partials + partial_bytes
        up = NULL if dy is None else <char*>dy.data
        packed = tape.packed.data + self.packed_elements(tape.s, tape.d, True) * itemsize
        for l in range(self.num_layers - 1, -1, -1):
            if l == 0:
                source, s_x = <char*>tape.x.data, tape.sx
                down = NULL if dx is None else <char*>dx.data
            else:
                source = tape.between.data + (l - 1) * between_bytes
                s_x.n, s_x.t = D * H, N * D * H
                down = between + (l - 1) % 2 * between_bytes
            for k in range(D - 1, -1, -1):
                i = l * D + k
                L = self.layer(l, k, tape.s, tape.d)
                at = packed_layout(&L, not self.is_float)
                packed -= at.size * itemsize
                w = self.offsets(l, k)
                if self.is_float:
                    call_backward[float](
                        &L, batch, <float*>packed, <float*>source, s_x, <float*>up, s_dy, <float*>down,
                        s_x if l else s_dx, k != D - 1, dh_n, dc_n, dh_0, dc_0, i, tape,
                        <float*>partials, <float*>tape.work.data, size, n_threads)
                else:
                    call_backward[double](
                        &L, batch, <double*>packed, <double*>source, s_x, <double*>up, s_dy,
                        <double*>down, s_x if l else s_dx, k != D - 1, dh_n, dc_n, dh_0, dc_0, i, tape,
                        <double*>partials, <double*>tape.work.data, size, n_threads)
                with self._gradient_lock, nogil:
                    if self.is_float:
                        add_partials(&L, &batch.seqs, &w, <const float*>partials, <float*>gradient.data)
                    else:
                        add_partials(&L, &batch.seqs, &w, <const double*>partials, <double*>gradient.data)
            up, s_dy = down, s_x
        return dx_out, (dh_out, dc_out)


cdef inline floating *state_slice(floating *tag, Array states, Py_ssize_t offset) noexcept:
    return NULL if states is None else <floating*>states.data + offset


cdef void call_forward(const layer_t *L, Batch batch, floating *packed, floating *x, strides_t sx,
                       floating *y, strides_t sy, Array h_0, Array c_0, Array h_n, Array c_n,
                       Py_ssize_t i, Tape tape, floating *work, Py_ssize_t size,
                       int n_threads) noexcept:
    """Layer-direction i: its slices of the states and of the tape, and the driver without the GIL."""
    cdef Py_ssize_t at = i * batch.seqs.batch * L.hidden_size
    cdef floating *first_h = state_slice(work, h_0, at)
    cdef floating *first_c = state_slice(work, c_0, at)
    cdef floating *last_h = state_slice(work, h_n, at)
    cdef floating *last_c = state_slice(work, c_n, at)
    cdef floating *starts_h = NULL
    cdef floating *starts_c = NULL
    cdef floating *gates = NULL
    cdef floating *cells = NULL
    if tape is not None:
        tape_slices(tape, batch, L.hidden_size, i, &starts_h, &starts_c, &gates, &cells)
    with nogil:
        forward(L, &batch.seqs, <const floating*>packed, <const floating*>x, sx, y, sy,
                <const floating*>first_h, <const floating*>first_c, last_h, last_c,
                starts_h, starts_c, gates, cells, work, size, n_threads)


cdef void call_backward(const layer_t *L, Batch batch, floating *packed, floating *x, strides_t sx,
                        floating *dy, strides_t sdy, floating *dx, strides_t sdx, bint add_dx,
                        Array dh_n, Array dc_n, Array dh_0, Array dc_0, Py_ssize_t i, Tape tape,
                        floating *partials, floating *work, Py_ssize_t size, int n_threads) noexcept:
    cdef Py_ssize_t at = i * batch.seqs.batch * L.hidden_size, H = L.hidden_size
    cdef floating *last_h = state_slice(work, dh_n, at)
    cdef floating *last_c = state_slice(work, dc_n, at)
    cdef floating *first_h = state_slice(work, dh_0, at)
    cdef floating *first_c = state_slice(work, dc_0, at)
    cdef floating *starts_h = NULL
    cdef floating *starts_c = NULL
    cdef floating *gates = NULL
    cdef floating *cells = NULL
    tape_slices(tape, batch, H, i, &starts_h, &starts_c, &gates, &cells)
    if dy != NULL:
        dy += i % tape.directions * H
    with nogil:
        backward(L, &batch.seqs, <const floating*>packed, <const floating*>x, sx, <const floating*>dy,
                 sdy, dx, sdx, add_dx, <const floating*>last_h, <const floating*>last_c, first_h,
                 first_c, <const floating*>starts_h, <const floating*>starts_c,
                 <const floating*>gates, <const floating*>cells, partials, work, size, n_threads)


cdef void tape_slices(Tape tape, Batch batch, Py_ssize_t H, Py_ssize_t i, floating **starts_h,
                      floating **starts_c, floating **gates, floating **cells) noexcept:
    """Where layer-direction i keeps its saved states and its rows."""
    cdef Py_ssize_t starts = aligned(batch.starts * H)
    cdef floating *at = <floating*>tape.states.data + 2 * i * starts
    starts_h[0], starts_c[0] = at, at + starts
    gates[0] = cells[0] = NULL
    if not tape.checkpointed:
        at = <floating*>tape.rows.data + i * (aligned(4 * batch.total * H) + aligned(batch.total * H))
        gates[0], cells[0] = at, at + aligned(4 * batch.total * H)


cdef class Tape:
    """What one forward call leaves for backward. It is used again by the next call, and grows only
    when a larger batch comes."""

    cdef readonly bint valid
    cdef Engine engine           # whose forward filled it
    cdef bint batch_first, unbatched, checkpointed
    cdef readonly Py_ssize_t T
    cdef Py_ssize_t directions
    cdef const lstm_kernels_s *s
    cdef const lstm_kernels_d *d
    cdef Array x
    cdef strides_t sx
    cdef Batch batch
    cdef Buffer packed           # weights, for both directions of the computation
    cdef Buffer states           # h and c before each span
    cdef Buffer rows             # gates and cells
    cdef Buffer between          # outputs of the inner layers, time-major
    cdef Buffer work             # nothing that lasts over a call

    def __cinit__(self):
        self.packed, self.states, self.rows = Buffer(), Buffer(), Buffer()
        self.between, self.work = Buffer(), Buffer()

    @property
    def nbytes(self):
        """Bytes that the tape holds, its workspace included."""
        return (self.packed.nbytes + self.states.nbytes + self.rows.nbytes + self.between.nbytes
                + self.work.nbytes)

    cdef int reserve(self, Engine engine, Batch batch, const lstm_kernels_s *s,
                     const lstm_kernels_d *d) except -1:
        cdef Py_ssize_t H = engine.hidden_size, D = engine.directions, itemsize = engine.itemsize
        cdef Py_ssize_t stack = engine.num_layers * D, cells = times(batch.total, H)
        self.directions = D
        self.checkpointed = engine.checkpoint > 0
        self.packed.reserve(times(engine.packed_elements(s, d, True), itemsize))
        self.states.reserve(times3(2 * stack, aligned(times(batch.starts, H)), itemsize))
        if not self.checkpointed:
            self.rows.reserve(times3(stack, plus(aligned(times(4, cells)), aligned(cells)), itemsize))
        self.between.reserve(times(engine.num_layers - 1, engine.between_bytes(batch)))
        return 0


# ---- online


cdef class Stepper:
    """A unidirectional stack that advances one step at a time, with weights packed once."""

    cdef Engine engine
    cdef Packed packed
    cdef const lstm_kernels_s *s
    cdef const lstm_kernels_d *d
    cdef Buffer memory
    cdef char *h
    cdef char *h_next
    cdef char *c
    cdef char *pre
    cdef readonly Py_ssize_t batch
    cdef Py_ssize_t state_bytes, layer_bytes
    cdef Owner owner             # one step at a time

    def __cinit__(self, Engine engine not None, Py_ssize_t batch):
        cdef layer_t L
        if not 1 <= batch <= INT_MAX:
            raise ValueError(f"batch is {batch}, expected 1 to {INT_MAX}")
        self.owner = Owner("stream")
        self.engine = engine
        self.batch = batch
        self.s, self.d = table_of(engine.pieces), table_d()
        self.packed = engine.packed(self.s, self.d)
        L = engine.layer(0, 0, self.s, self.d)
        self.layer_bytes = times(aligned(times(batch, engine.hidden_size)), engine.itemsize)
        self.state_bytes = times(engine.num_layers, self.layer_bytes)
        self.memory = Buffer()
        self.memory.reserve(plus(times(3, self.state_bytes), times3(batch, L.gate_columns, engine.itemsize)))
        self.h = self.memory.data
        self.h_next = self.h + self.state_bytes
        self.c = self.h_next + self.state_bytes
        self.pre = self.c + self.state_bytes
        memset(self.memory.data, 0, 3 * self.state_bytes)

    def load(self, h_given, c_given):
        """Set the state from (L, N, H) arrays, None for zeros."""
        cdef Array h = self.engine.state_part(h_given, "h", self.batch, False)
        cdef Array c = self.engine.state_part(c_given, "c", self.batch, False)
        cdef Py_ssize_t l, size = self.batch * self.engine.hidden_size * self.engine.itemsize
        self.owner.take()
        for l in range(self.engine.num_layers):
            if h is None:
                memset(self.h + l * self.layer_bytes, 0, size)
            else:
                memcpy(self.h + l * self.layer_bytes, <char*>h.data + l * size, size)
            if c is None:
                memset(self.c + l * self.layer_bytes, 0, size)
            else:
                memcpy(self.c + l * self.layer_bytes, <char*>c.data + l * size, size)
        self.owner.give()

    def save(self):
        """The state as two new (L, N, H) arrays."""
        cdef Array h, c
        cdef Py_ssize_t l, size = self.batch * self.engine.hidden_size * self.engine.itemsize
        h_out = self.engine.state_output(self.batch, False)
        c_out = self.engine.state_output(self.batch, False)
        h, c = held_output(h_out, self.engine.is_float), held_output(c_out, self.engine.is_float)
        self.owner.take()
        for l in range(self.engine.num_layers):
            memcpy(<char*>h.data + l * size, self.h + l * self.layer_bytes, size)
            memcpy(<char*>c.data + l * size, self.c + l * self.layer_bytes, size)
        self.owner.give()
        return h_out, c_out

    def step(self, x_t, out=None):
        """h of the last layer after one more step, in `out` where that is given."""
        cdef Engine engine = self.engine
        cdef Array x = held_as_it_is(x_t, engine.is_float)
        cdef Array y
        cdef Py_ssize_t I = engine.input_size
        cdef bint flat
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
        self.owner.take()
        with nogil:
            if engine.is_float:
                run_steps[float](self, engine, <float*>x.data, I if flat else x.strides[0],
                                 <float*>y.data)
            else:
                run_steps[double](self, engine, <double*>x.data, I if flat else x.strides[0],
                                  <double*>y.data)
        self.owner.give()
        return out

    cdef int check(self, tuple shape) except -1:
        """A sentence for an x_t of the wrong shape."""
        cdef Py_ssize_t I = self.engine.input_size
        if shape == (self.batch, I) or self.batch == 1 and shape == (I,):
            return 0
        if len(shape) in (1, 2) and shape[:-1] in ((), (self.batch,)) and shape[-1] != I:
            raise ValueError(f"x_t has {shape[-1]} features, this LSTM takes {I} (input_size={I})")
        raise ValueError(f"x_t has shape {shape}, expected ({self.batch}, {I})"
                         + (f" or ({I},)" if self.batch == 1 else ""))

    cdef tuple out_shape(self, bint flat):
        if flat:
            return (self.engine.hidden_size,)
        return self.batch, self.engine.hidden_size

    cdef Array given_output(self, object out, bint flat):
        cdef Array y = Array.__new__(Array)
        cdef Py_ssize_t H = self.engine.hidden_size
        cdef bint right = False
        if type(out) is ndarray and out.dtype is (FLOAT32 if self.engine.is_float else FLOAT64):
            try:
                right = y.hold(out, self.engine.itemsize, PyBUF_WRITABLE)
            except (BufferError, ValueError):  # read-only: said below
                right = False
            if right and flat:
                right = y.ndim == 1 and y.shape[0] == H
            elif right:
                right = (y.ndim == 2 and y.shape[0] == self.batch and y.shape[1] == H
                         and (self.batch == 1 or y.strides[0] == H))
        if not right:
            came = (f"{out.dtype} {out.shape}{'' if out.flags.c_contiguous else ', not contiguous'}"
                    f"{'' if out.flags.writeable else ', read-only'}"
                    if isinstance(out, np.ndarray) else type(out).__name__)
            raise ValueError(f"out is {came}, expected a writable contiguous {self.engine.dtype} array "
                             f"of shape {self.out_shape(flat)}")
        return y


cdef void run_steps(Stepper self, Engine engine, const floating *x, Py_ssize_t ldx,
                    floating *out) noexcept nogil:
    """One step through all layers; the last h goes to `out`."""
    cdef Py_ssize_t l, H = engine.hidden_size
    cdef layer_t L
    cdef packed_t at
    cdef const floating *source = x
    cdef const floating *packed = <const floating*>self.packed.memory.data
    cdef char *swap
    for l in range(engine.num_layers):
        L = engine.layer(l, 0, self.s, self.d)
        step(&L, packed, self.batch, source, ldx,
             <const floating*>(self.h + l * self.layer_bytes),
             <floating*>(self.h_next + l * self.layer_bytes),
             <floating*>(self.c + l * self.layer_bytes), <floating*>self.pre)
        at = packed_layout(&L, floating is double)
        packed += at.forward_size
        source = <const floating*>(self.h_next + l * self.layer_bytes)
        ldx = H
    swap = self.h
    self.h, self.h_next = self.h_next, swap
    memcpy(out, source, self.batch * H * sizeof(floating))
