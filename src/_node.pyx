# cython: boundscheck=True, wraparound=False, cdivision=True
# cython: nonecheck=True
"""The node of the teaching LSTM, compiled: one time step forward, one time step back.

With ``xc = [x, h_prev]``, one BLAS product serves the four gates, whose weights W are one matrix of
4H rows in the order i, f, g, o; the pointwise arithmetic is the kernels' cell with an identity
output activation (Hochreiter and Schmidhuber 1997; forget gate of Gers et al. 2000)::

    i, f, o = sigma(W xc + b)   g = tanh(W xc + b)   s = g i + s_prev f   h = s o

The classes own the buffers, each a NumPy array whose address is taken once; ``lstm_ext.node``
derives its classes from them. A view of a buffer refers to its array, so a buffer with a live view
is not written again: the next call takes a new one, and whoever kept ``state.h`` keeps its values.
"""
import os
import time

import numpy as np

from lstm_ext._arrays import as_numbers

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject
from cython cimport floating
from libc.limits cimport INT_MAX
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from lstm_ext._arrays cimport Lock, Owner, check_size, end_silence, plus, silence, times, times3
from lstm_ext._blas cimport gemm, gemv
from lstm_ext._kernels cimport LSTM_ACT_IDENTITY, lstm_cell, table_d, table_s

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject*)

cdef object FLOAT32 = np.dtype(np.float32), FLOAT64 = np.dtype(np.float64)
cdef object ndarray = np.ndarray, empty = np.empty, zeros = np.zeros

cdef lstm_cell CELL  # h = o s
CELL.cell_activation = LSTM_ACT_IDENTITY

# ---- forks
#
# OpenBLAS allocates under a lock of its own, and a child that is forked meanwhile finds it taken for ever. So
# a fork waits until no node is inside BLAS, which takes microseconds, and nodes wait until it is done.

cdef Py_ssize_t computing = 0
cdef bint forking = False
cdef double LONGEST_WAIT = 1.0  # seconds


def _before_fork():
    global forking
    forking = True
    end = time.monotonic() + LONGEST_WAIT
    while computing > 0 and time.monotonic() < end:
        time.sleep(1e-5)


def _after_fork_in_parent():
    global forking
    forking = False


def _after_fork_in_child():
    global forking, computing
    forking, computing = False, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )


cdef int begin() except -1:
    """Count a call that goes into BLAS, under the GIL, until `end`."""
    global computing
    while forking:
        time.sleep(1e-5)
    computing += 1
    return 0


cdef void end() noexcept:
    global computing
    computing -= 1


# Nodes whose part of the gradient is kept as two vectors, before one product adds them all.
cdef enum:
    MAX_PENDING = 64


# ---- arithmetic: H cells, K = x_dim + H, on the buffers of the classes below ----
#
#   values, diffs   W (4H, K), b (4H)
#   input           xc (K), s_prev (H)
#   result          gates (4H), s (H), h (H)
#   bottom          bottom_diff_s (H), bottom_diff_h (H)
#   scratch         dgates (4H), dh (H)
#   pending         rows of dgates (4H), xc (K)

cdef void forward(Py_ssize_t H, Py_ssize_t K, const floating* values, const floating* input,
                  floating* result) noexcept nogil:
    """gates := W xc + b, activated; s and h from them."""
    cdef floating* s = result + 4 * H
    cdef uint64_t mode = silence()
    memcpy(result, values + 4 * H * K, 4 * H * sizeof(floating))
    gemv(False, 4 * H, K, <floating>1, values, K, input, 1, <floating>1, result, 1)
    if floating is float:
        table_s().cell_forward(&CELL, 1, H, result, input + K, s, s + H, result)
    else:
        table_d().cell_forward(&CELL, 1, H, result, input + K, s, s + H, result)
    end_silence(mode)


cdef void backward(Py_ssize_t H, Py_ssize_t K, const floating* values, const floating* input,
                   const floating* result, floating* bottom, floating* scratch) noexcept nogil:
    """dgates, and this step's bottom_diffs in the place of those of the step after.

    The gradient in x has no reader in a chain of nodes: it is not computed.
    """
    cdef const floating* s = result + 4 * H
    cdef floating* dh_prev = bottom + H
    cdef floating* dh = scratch + 4 * H
    cdef uint64_t mode = silence()
    cdef Py_ssize_t j
    for j in range(H):
        dh[j] += dh_prev[j]
    if floating is float:
        table_s().cell_backward(&CELL, 1, H, result, s, input + K, dh, bottom, scratch, NULL, 0)
    else:
        table_d().cell_backward(&CELL, 1, H, result, s, input + K, dh, bottom, scratch, NULL, 0)
    gemv(True, 4 * H, H, <floating>1, values + K - H, K, scratch, 1, <floating>0, dh_prev, 1)
    end_silence(mode)


cdef void add_outer(Py_ssize_t H, Py_ssize_t K, Py_ssize_t rows, const floating* pending, floating alpha,
                    floating* values) noexcept nogil:
    """[W, b] += alpha times the sum over the rows of dgates [xc, 1]^T."""
    cdef Py_ssize_t r, j, ld = 4 * H + K
    cdef floating* b = values + 4 * H * K
    cdef uint64_t mode = silence()
    gemm(True, False, 4 * H, K, rows, alpha, pending, ld, pending + 4 * H, ld,
         <floating>1, values, K)
    for r in range(rows):
        for j in range(4 * H):
            b[j] += alpha * pending[r * ld + j]
    end_silence(mode)


cdef void descend(Py_ssize_t n, floating lr, floating* values, floating* diffs) noexcept nogil:
    """values -= lr diffs; diffs := 0."""
    cdef Py_ssize_t j
    for j in range(n):
        values[j] -= lr * diffs[j]
        diffs[j] = 0


# ---- buffers ----

cdef class Block:
    """A 1-D array and the address of its memory."""

    cdef object array
    cdef char* data
    cdef Py_ssize_t size
    cdef bint single  # float32, else float64

    cdef char* at(self, Py_ssize_t start) noexcept:
        return self.data + start * (sizeof(float) if self.single else sizeof(double))

    cdef void take(self, Py_ssize_t start, const void* source, Py_ssize_t n) noexcept:
        """self[start:start + n] := source, or zeros where that is NULL."""
        cdef size_t size = n * (sizeof(float) if self.single else sizeof(double))
        if source is NULL:
            memset(self.at(start), 0, size)
        else:
            memcpy(self.at(start), source, size)

    cdef bint seen(self) noexcept:
        """Whether somebody has a view: it holds a reference to the array."""
        return Py_REFCNT(<PyObject*>self.array) > 1

    cdef bint fits(self, Py_ssize_t size, bint single) noexcept:
        return self.size == size and self.single == single


cdef Block new_block(array):
    """A block over an array that nobody else knows."""
    cdef Block block = Block.__new__(Block)
    cdef bint single = array.dtype is FLOAT32
    if not plain_vector(array, len(array), single, &block.data):
        raise ValueError("a block needs a contiguous vector")
    block.array = array
    block.size = len(array)
    block.single = single
    return block


cdef Block writable(Block block, Py_ssize_t size, bint single):
    """The block itself while nobody else sees it, else a new one."""
    if block is not None and block.fits(size, single) and not block.seen():
        return block
    return new_block(empty(size, FLOAT32 if single else FLOAT64))


cdef bint plain_vector(a, Py_ssize_t n, bint single, char** data) except -1:
    """Whether `a` is a contiguous, native vector of n items of the dtype; if so, sets data.

    It may be misaligned: what callers give is copied, byte by byte, and only then computed with.
    """
    cdef Py_buffer view
    cdef bint plain
    if type(a) is not ndarray:
        return False
    try:
        PyObject_GetBuffer(a, &view, PyBUF_ND | PyBUF_FORMAT)
    except (BufferError, ValueError):  # strided, or a dtype without a format
        return False
    plain = (view.ndim == 1 and view.shape[0] == n and view.format[1] == 0
             and view.format[0] == (c"f" if single else c"d"))
    data[0] = <char*>view.buf
    PyBuffer_Release(&view)
    return plain


cdef vector(a, str name, Py_ssize_t n, str size, bint single, char** data):
    """Check `a` and set data to its n items. Return what owns them: `a`, or a converted copy."""
    if plain_vector(a, n, single, data):
        return a
    dtype = FLOAT32 if single else FLOAT64
    if not plain_vector(a, n, not single, data):  # the other precision: nothing to complain about
        a = as_numbers(a, name)
        if a.ndim != 1:
            raise ValueError(f"{name} has shape {a.shape}; expected ({n},) ({size}={n})")
        if len(a) != n:
            raise ValueError(f"{name} has {len(a)} elements; expected {n} ({size}={n})")
    a = a.astype(dtype)
    plain_vector(a, n, single, data)
    return a


cdef int check_sizes(Py_ssize_t mem_cell_ct, Py_ssize_t x_dim) except -1:
    """The classes of lstm_ext.node say more; this is for whoever goes past them."""
    if mem_cell_ct < 1 or x_dim < 1 or plus(times(5, mem_cell_ct), x_dim) > INT_MAX:
        raise ValueError(f"mem_cell_ct is {mem_cell_ct} and x_dim is {x_dim}; expected at least 1, and "
                         f"5 * mem_cell_ct + x_dim at most {INT_MAX}")
    return 0


class WrongLength(ValueError, AssertionError):
    """A list of the wrong length. As an AssertionError it is what the teaching script raises."""


# ---- the classes ----

cdef class Param:
    """Weights and biases of the four gates, and the sum of their gradients (the diffs): see LstmParam."""

    cdef readonly Py_ssize_t mem_cell_ct, x_dim
    cdef readonly object dtype
    cdef Block values
    # The diffs are the block of that name and the pending rows, which are added to it when somebody
    # looks: most often nobody does, and apply_diff can subtract them from the values directly.
    cdef object lock
    cdef Block diffs
    cdef Block pending
    cdef Py_ssize_t rows
    cdef bint diffs_are_zero

    def __init__(self, Py_ssize_t mem_cell_ct, Py_ssize_t x_dim, dtype):
        cdef Py_ssize_t H = mem_cell_ct, K = plus(x_dim, mem_cell_ct), itemsize = sizeof(double)
        if self.values is not None:
            raise TypeError("this param has been constructed; expected a new one for other sizes")
        check_sizes(mem_cell_ct, x_dim)
        check_size(times3(4 * itemsize, H, plus(K, 1)), f"mem_cell_ct={H} and x_dim={x_dim}")
        check_size(times(MAX_PENDING * itemsize, plus(times(4, H), K)), f"mem_cell_ct={H} and x_dim={x_dim}")
        self.values = new_block(zeros(4 * H * (K + 1), dtype))
        self.diffs = new_block(zeros(4 * H * (K + 1), dtype))
        self.pending = new_block(empty(MAX_PENDING * (4 * H + K), dtype))
        self.mem_cell_ct = H
        self.x_dim = x_dim
        self.dtype = dtype
        self.lock = Lock("param", True)  # a finalizer may run in between, and look
        self.rows = 0
        self.diffs_are_zero = True

    def _value(self, Py_ssize_t gate, bint bias):
        """Return a view of the weight (H, K) or bias (H,) of gate 0, 1, 2 or 3: i, f, g, o."""
        return self.part(self.values, gate, bias)

    def _diff(self, Py_ssize_t gate, bint bias):
        """Return a view of its diff, all that was passed back so far added."""
        with self.lock:
            self.flush()
            self.diffs_are_zero = False
            return self.part(self.diffs, gate, bias)

    cdef part(self, Block block, Py_ssize_t gate, bint bias):
        cdef Py_ssize_t H = self.mem_cell_ct, K = self.x_dim + H
        if bias:
            return block.array[(4 * K + gate) * H:(4 * K + gate + 1) * H]
        return block.array[gate * H * K:(gate + 1) * H * K].reshape(H, K)

    cdef int add_nodes(self, list nodes) except -1:
        """Add dgates [xc, 1]^T of each node to the diffs."""
        cdef Py_ssize_t H = self.mem_cell_ct, K = self.x_dim + H, start
        cdef Node node
        with self.lock:
            for node in nodes:
                if self.rows == MAX_PENDING:
                    self.flush()
                start = self.rows * (4 * H + K)
                self.pending.take(start, node.scratch.data, 4 * H)
                self.pending.take(start + 4 * H, node.input.data, K)
                self.rows += 1
            if self.diffs.seen():
                self.flush()
        return 0

    cdef int flush(self) except -1:
        """Add the pending rows to the block of diffs."""
        if self.rows:
            self.diffs_are_zero = False
        return self.add_pending(self.diffs, 1)

    cdef int add_pending(self, Block to, double alpha) except -1:
        """Add alpha times the pending rows to a block, in one product, and let them go."""
        cdef Py_ssize_t H = self.mem_cell_ct, K = self.x_dim + H, rows = self.rows
        cdef Block pending = self.pending
        if rows == 0:
            return 0
        begin()
        with nogil:
            if to.single:
                add_outer(H, K, rows, <float*>pending.data, <float>alpha, <float*>to.data)
            else:
                add_outer(H, K, rows, <double*>pending.data, alpha, <double*>to.data)
        end()
        self.rows = 0
        return 0

    def apply_diff(self, lr=1):
        """Subtract lr times the diffs from the parameters, and set the diffs to zero.

        Parameters
        ----------
        lr : float, default 1
            Learning rate.
        """
        cdef Py_ssize_t H = self.mem_cell_ct, size = 4 * H * (self.x_dim + H + 1)
        cdef Block values = self.values, diffs = self.diffs
        cdef double rate
        try:
            rate = lr
        except (TypeError, ValueError):
            raise TypeError(f"lr is {lr!r}; expected a number") from None
        with self.lock:
            if self.diffs_are_zero:
                self.add_pending(values, -rate)
                return
            self.flush()
            with nogil:
                if values.single:
                    descend(size, <float>rate, <float*>values.data, <float*>diffs.data)
                else:
                    descend(size, rate, <double*>values.data, <double*>diffs.data)
            self.diffs_are_zero = not diffs.seen()


cdef class State:
    """What a node computed: gates, state and output; and the two gradients it passes back: see LstmState."""

    cdef readonly Py_ssize_t mem_cell_ct, x_dim
    cdef Block result, bottom
    cdef Owner owner  # of the node's buffers, too: one computation at a time

    def __init__(self, Py_ssize_t mem_cell_ct, Py_ssize_t x_dim):
        if self.result is not None:
            raise TypeError("this state has been constructed; expected a new one for other sizes")
        check_sizes(mem_cell_ct, x_dim)
        check_size(times(6 * sizeof(double), mem_cell_ct), f"mem_cell_ct={mem_cell_ct}")
        self.owner = Owner("node")
        self.result = new_block(zeros(6 * mem_cell_ct))
        self.bottom = new_block(zeros(2 * mem_cell_ct))
        self.mem_cell_ct = mem_cell_ct
        self.x_dim = x_dim

    def _get(self, Py_ssize_t k):
        """Return a view of the k-th of i, f, g, o, s, h, bottom_diff_s, bottom_diff_h."""
        return self.part(k)

    def _set(self, Py_ssize_t k, value, str name):
        """Copy into the k-th."""
        cdef char* data
        cdef bint single = (self.result if k < 6 else self.bottom).single
        value = vector(value, name, self.mem_cell_ct, "mem_cell_ct", single, &data)
        with self.owner:
            self.part(k)[...] = value

    cdef part(self, Py_ssize_t k):
        cdef Py_ssize_t H = self.mem_cell_ct
        if k < 6:
            return self.result.array[k * H:(k + 1) * H]
        return self.bottom.array[(k - 6) * H:(k - 5) * H]


cdef class Node:
    """One time step: see LstmNode."""

    cdef readonly Param param
    cdef readonly State state
    cdef Block input    # None before the first input
    cdef Block scratch  # None before the first top_diff

    def __init__(self, Param param not None, State state not None):
        if self.param is not None:
            raise TypeError("this node has been constructed; expected a new one for another param or state")
        if (param.mem_cell_ct, param.x_dim) != (state.mem_cell_ct, state.x_dim):
            raise ValueError(
                f"state has mem_cell_ct={state.mem_cell_ct} and x_dim={state.x_dim}, "
                f"param has mem_cell_ct={param.mem_cell_ct} and x_dim={param.x_dim}")
        self.param = param
        self.state = state

    def _get(self, Py_ssize_t start, stop):
        """Return a view of the input, [x, h_prev, s_prev]; None before there is one."""
        return None if self.input is None else self.input.array[start:stop]

    def bottom_data_is(self, x, s_prev=None, h_prev=None):
        """Forward: compute the gates, s and h of the node's state.

        Parameters
        ----------
        x : array of shape (x_dim,)
        s_prev, h_prev : array of shape (mem_cell_ct,), default zeros
            State and output of the step before.

        Raises
        ------
        ValueError
            A shape that does not fit.
        TypeError
            Elements that are not real numbers.

        Notes
        -----
        The inputs are copied. Numbers of another dtype are converted to the param's. NaN and
        infinity are numbers, and pass.
        """
        cdef Py_ssize_t H = self.param.mem_cell_ct
        cdef bint single = self.param.values.single
        cdef char* x_data
        cdef char* s_data = NULL
        cdef char* h_data = NULL
        x = vector(x, "x", self.param.x_dim, "x_dim", single, &x_data)
        if s_prev is not None:
            s_prev = vector(s_prev, "s_prev", H, "mem_cell_ct", single, &s_data)
        if h_prev is not None:
            h_prev = vector(h_prev, "h_prev", H, "mem_cell_ct", single, &h_data)
        self.run_forward(x_data, s_data, h_data)

    cdef int run_forward(self, const void* x, const void* s_prev, const void* h_prev) except -1:
        """Copy the inputs, where NULL stands for zeros, and compute the result."""
        cdef Py_ssize_t H = self.param.mem_cell_ct, K = self.param.x_dim + H
        # These names keep the blocks alive while the GIL is released.
        cdef State state = self.state
        cdef Block values = self.param.values, input, result
        state.owner.take()
        try:
            input = writable(self.input, K + H, values.single)
            result = writable(state.result, 6 * H, values.single)
            input.take(0, x, K - H)
            input.take(K - H, h_prev, H)
            input.take(K, s_prev, H)
            begin()
            with nogil:
                if values.single:
                    forward(H, K, <float*>values.data, <float*>input.data, <float*>result.data)
                else:
                    forward(H, K, <double*>values.data, <double*>input.data, <double*>result.data)
            end()
            self.input = input
            state.result = result
        finally:
            state.owner.give()
        return 0

    def top_diff_is(self, top_diff_h, top_diff_s):
        """Backward: add to the param's diffs, and compute the state's bottom_diffs.

        Parameters
        ----------
        top_diff_h : array of shape (mem_cell_ct,)
            Gradient of the loss in h.
        top_diff_s : array of shape (mem_cell_ct,)
            Gradient of the loss in s by way of the later steps: the diff carried along the constant
            error carousel.

        Raises
        ------
        ValueError
            A shape that does not fit.
        TypeError
            Elements that are not real numbers.
        RuntimeError
            Before any bottom_data_is.
        """
        cdef Py_ssize_t H = self.param.mem_cell_ct
        cdef bint single = self.param.values.single
        cdef char* dh
        cdef char* ds
        top_diff_h = vector(top_diff_h, "top_diff_h", H, "mem_cell_ct", single, &dh)
        top_diff_s = vector(top_diff_s, "top_diff_s", H, "mem_cell_ct", single, &ds)
        self.state.owner.take()
        try:
            self.set_dh(dh, "top_diff_is")
            self.run_backward(NULL, ds)
            self.param.add_nodes([self])
        finally:
            self.state.owner.give()

    cdef int check_ready(self, str caller) except -1:
        """RuntimeError unless there is a result, and the input it was computed from."""
        cdef Py_ssize_t H = self.param.mem_cell_ct, K = self.param.x_dim + H
        cdef bint single = self.param.values.single
        if (self.input is None or not self.input.fits(K + H, single)
                or not self.state.result.fits(6 * H, single)):
            raise RuntimeError(f"{caller} comes after bottom_data_is: this node has had no input")
        return 0

    cdef int set_dh(self, const void* dh, str caller) except -1:
        """Note the gradient in h from outside the chain."""
        cdef Py_ssize_t H = self.param.mem_cell_ct
        self.check_ready(caller)
        self.scratch = writable(self.scratch, 5 * H, self.param.values.single)
        self.scratch.take(4 * H, dh, H)
        return 0

    cdef int run_backward(self, const void* later_dh, const void* later_ds) except -1:
        """dgates and bottom_diffs, from set_dh and from what the later step passes back."""
        cdef Py_ssize_t H = self.param.mem_cell_ct, K = self.param.x_dim + H
        cdef State state = self.state
        cdef Block values = self.param.values
        cdef bint single = values.single
        cdef Block input = self.input
        cdef Block result = state.result
        cdef Block scratch = self.scratch
        cdef Block bottom = writable(state.bottom, 2 * H, single)
        bottom.take(0, later_ds, H)
        bottom.take(H, later_dh, H)
        begin()
        with nogil:
            if single:
                backward(H, K, <float*>values.data, <float*>input.data, <float*>result.data,
                         <float*>bottom.data, <float*>scratch.data)
            else:
                backward(H, K, <double*>values.data, <double*>input.data, <double*>result.data,
                         <double*>bottom.data, <double*>scratch.data)
        end()
        state.bottom = bottom
        return 0


cdef class Network:
    """A chain of nodes, one for each input since the last ``x_list_clear``: see LstmNetwork."""

    cdef readonly Param lstm_param
    cdef public list lstm_node_list, x_list
    cdef Owner owner  # one call at a time

    def __init__(self, Param param not None):
        if self.lstm_param is not None:
            raise TypeError("this network has been constructed; expected a new one for another param")
        self.owner = Owner("network")
        self.lstm_param = param
        self.lstm_node_list = []
        self.x_list = []

    cdef Node node(self, Py_ssize_t k):
        cdef Node node
        if k >= len(self.lstm_node_list):
            raise ValueError(f"lstm_node_list has {len(self.lstm_node_list)} nodes; expected "
                             f"{len(self.x_list)}: one for each of x_list")
        node = self.lstm_node_list[k]
        if node is None:
            raise TypeError(f"lstm_node_list[{k}] is None; expected a node")
        if node.param is not self.lstm_param:
            raise ValueError(f"lstm_node_list[{k}] has another param than the network")
        return node

    def x_list_clear(self):
        """Begin a new sequence. The nodes are kept, and used again."""
        with self.owner:
            self.x_list = []

    def x_list_add(self, x):
        """Add a time step and run its node forward.

        Parameters
        ----------
        x : array of shape (x_dim,)

        Raises
        ------
        ValueError, TypeError
            As ``LstmNode.bottom_data_is``; then no step was added.
        """
        cdef Py_ssize_t n, H = self.lstm_param.mem_cell_ct
        cdef bint is_new
        cdef Node node, before
        cdef char* x_data
        cdef const void* s_prev = NULL
        cdef const void* h_prev = NULL
        with self.owner:
            _owner = vector(x, "x", self.lstm_param.x_dim, "x_dim", self.lstm_param.values.single, &x_data)
            n = len(self.x_list)
            is_new = n == len(self.lstm_node_list)
            if n > 0:
                before = self.node(n - 1)
                before.check_ready("x_list_add")
                s_prev = before.state.result.at(4 * H)
                h_prev = before.state.result.at(5 * H)
            node = self._new_node() if is_new else self.node(n)
            node.run_forward(x_data, s_prev, h_prev)
            if is_new:
                self.lstm_node_list.append(node)
            self.x_list.append(x)

    def y_list_is(self, y_list, loss_layer):
        """Run all nodes backward from the targets, and add to the param's diffs.

        Parameters
        ----------
        y_list : sequence
            One target for each x since the last x_list_clear, whatever loss_layer takes.
        loss_layer : object
            Has ``loss(pred, label)``, where pred is a node's h, and ``bottom_diff(pred, label)``,
            its gradient in pred, of shape (mem_cell_ct,).

        Returns
        -------
        loss : float
            Sum of the losses.

        Raises
        ------
        ValueError
            A y_list of another length than x_list: an AssertionError, too, as in the teaching script. A
            bottom_diff of another shape than h. Then no diff has changed.
        RuntimeError
            `loss_layer`, or another thread, uses the network or its nodes meanwhile.
        """
        cdef Py_ssize_t n, H = self.lstm_param.mem_cell_ct, k
        cdef bint single = self.lstm_param.values.single
        cdef Node node
        cdef Block after = None
        cdef list nodes = []
        cdef char* dh
        self.owner.take()
        try:
            n = len(self.x_list)
            if len(y_list) != n:
                raise WrongLength(f"y_list has {len(y_list)} targets; expected {n}: one for each x")
            if n == 0:
                raise ValueError("y_list is empty, and so is x_list: there is nothing to go back to")
            # Loss layers come first: one that fails, or returns the wrong shape, has changed nothing.
            loss = None
            for k in range(n - 1, -1, -1):
                node = self.node(k)
                node.state.owner.take()
                nodes.append(node)
            for k in range(n - 1, -1, -1):
                node = nodes[n - 1 - k]
                pred, label = node.state.part(5), y_list[k]
                part = loss_layer.loss(pred, label)
                loss = part if loss is None else loss + part
                _owner = vector(loss_layer.bottom_diff(pred, label), "bottom_diff of loss_layer", H,
                                "mem_cell_ct", single, &dh)
                node.set_dh(dh, "y_list_is")
            for node in nodes:
                node.check_ready("y_list_is")
                if after is None:
                    node.run_backward(NULL, NULL)
                else:
                    node.run_backward(after.at(H), after.data)
                after = node.state.bottom
            self.lstm_param.add_nodes(nodes)
        finally:
            for node in nodes:
                node.state.owner.give()
            self.owner.give()
        return loss
