# cython: language_level=3, boundscheck=True, initializedcheck=True, cdivision=True
"""What stands between Python objects and pointers: memory, callers' arrays, owners and locks.

Sizes come from ``sizes.h``: products and sums that cannot wrap.
"""
import os
import threading

import numpy as np

from lstm_ext._data import as_array, has_masked

from cpython.buffer cimport (
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() nogil

cdef type ndarray = np.ndarray
cdef object FLOAT32 = np.dtype(np.float32), FLOAT64 = np.dtype(np.float64)
cdef Py_ssize_t CACHE_LINE = 64


# ---- memory


cdef int check_size(Py_ssize_t nbytes, str name) except -1:
    """MemoryError for a size that cannot be counted."""
    if not countable(nbytes):
        raise MemoryError(f"{name}: more bytes than this machine can address")
    return 0


cdef class Buffer:
    """Raw memory on a cache line boundary. It grows when asked to, and its contents do not last then."""

    def __cinit__(self):
        self._block = NULL
        self.data = NULL
        self.nbytes = 0

    def __dealloc__(self):
        free(self._block)

    cdef int reserve(self, Py_ssize_t nbytes) except -1:
        cdef void *block
        if nbytes <= self.nbytes:
            return 0
        check_size(nbytes, "working memory")
        block = malloc(nbytes + CACHE_LINE)
        if block == NULL:
            raise MemoryError(f"no memory for {nbytes} bytes")
        free(self._block)
        self._block = block
        self.data = <char*>((<uintptr_t>block + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE)
        self.nbytes = nbytes
        return 0


cdef class Array:
    """A caller's array, held: pointer, strides in elements, shape.

    The last axis is contiguous, elements are aligned, native, of the wanted dtype: an array that is
    otherwise comes in as a copy.
    """

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    cdef bint hold(self, object array, Py_ssize_t itemsize, int flags) except -1:
        """Take hold of `array`, whose dtype is right; False when its memory is not of the form wanted."""
        cdef Py_ssize_t j
        cdef Py_buffer *view = &self.view
        # Without PyBUF_FORMAT: numpy would write the format anew at every call.
        PyObject_GetBuffer(array, view, PyBUF_STRIDES | flags)
        self.held = True
        self.owner = array
        if view.ndim > 3:
            return False
        if <uintptr_t>view.buf % itemsize:
            return False
        for j in range(view.ndim):
            if view.strides[j] % itemsize:
                return False
            self.shape[j] = view.shape[j]
            self.strides[j] = view.strides[j] // itemsize
        if view.ndim and view.shape[view.ndim - 1] > 1 and view.strides[view.ndim - 1] != itemsize:
            return False
        self.data = view.buf
        self.ndim = view.ndim
        return True


def as_lengths(lengths, Py_ssize_t N, Py_ssize_t T):
    """`lengths` as (N,) integers within 0..T, or an error that says why not."""
    if has_masked(lengths):
        raise TypeError("lengths is a masked array with masked elements; expected plain integers")
    # A copy: what is checked here must not change before it is used.
    array = np.array(as_array("lengths", lengths))
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"lengths has dtype {array.dtype}; expected integers")
    if array.shape != (N,):
        raise ValueError(f"lengths has shape {array.shape}; expected ({N},), one for each sequence of x")
    wrong = array[(array < 0) | (array > T)]
    if wrong.size:
        raise ValueError(f"lengths has {wrong[0]}; expected 0 to {T}, the number of time steps of x")
    return np.ascontiguousarray(array, np.intp)


def as_steps(mask, Py_ssize_t N, Py_ssize_t T):
    """The lengths (N,) and times (N, T) of the steps that `mask` counts, or an error that says why not."""
    array = as_array("mask", mask)
    if array.dtype != np.bool_:
        raise TypeError(f"mask has dtype {array.dtype}; expected bool: True where a step counts")
    if array.shape == (T,) and N == 1:
        array = array[None]
    if array.shape != (N, T):
        raise ValueError(f"mask has shape {array.shape}; expected {(N, T)} = (batch, time)")
    # Stable: the steps that count come first, in their order.
    times = np.ascontiguousarray(np.argsort(~array, axis=1, kind="stable"), np.intp)
    return np.ascontiguousarray(array.sum(axis=1), np.intp), times


def as_numbers(value, name):
    """`value` as an array of real numbers, not copied where it is one, or an error that says why not."""
    if hasattr(value, "toarray") or hasattr(value, "todense"):
        raise TypeError(f"{name} is a sparse matrix ({type(value).__name__}); expected a dense array")
    if has_masked(value):
        raise TypeError(f"{name} is a masked array with masked elements; expected plain numbers: "
                        "fill them first")
    if getattr(value, "requires_grad", False) is True:
        raise TypeError(f"{name} is a tensor with requires_grad=True; expected plain numbers: gradients "
                        f"do not flow back into it: pass {name}.detach()")
    array = as_array(name, value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {array.dtype}; expected real numbers")
    return array


def as_floats(array, dtype):
    """An array of numbers as aligned, native `dtype` with a contiguous last axis."""
    return np.require(array.astype(dtype, order="C", copy=False), requirements=["A", "C"])


cdef tuple shape_of(Array a):
    # Written out: Cython's list comprehensions release an element twice when memory is short.
    if a.ndim == 3:
        return a.shape[0], a.shape[1], a.shape[2]
    if a.ndim == 2:
        return a.shape[0], a.shape[1]
    if a.ndim == 1:
        return (a.shape[0],)
    return ()


cdef Array held_as_it_is(object value, bint is_float):
    """`value` held if it is an array that the drivers can read where it is, else None."""
    cdef Array a
    if type(value) is ndarray and value.dtype is (FLOAT32 if is_float else FLOAT64):
        a = Array.__new__(Array)
        if a.hold(value, 4 if is_float else 8, 0):
            return a
    return None


cdef Array held_copy(object array, bint is_float):
    """An array of numbers (`as_numbers`) of the right shape, converted and held."""
    cdef Array a = Array.__new__(Array)
    if not a.hold(as_floats(array, FLOAT32 if is_float else FLOAT64), 4 if is_float else 8, 0):
        raise SystemError("a converted array has the wrong form")
    return a


cdef Array held(object value, str name, tuple expected, str meaning, bint is_float):
    """`value` of the expected shape, held, or an error; a wrong shape is refused before any copy."""
    cdef Array a = held_as_it_is(value, is_float)
    if a is not None:
        shape = shape_of(a)
    else:
        value = as_numbers(value, name)
        shape = value.shape
    if shape != expected:
        raise ValueError(f"{name} has shape {shape}; expected {expected}{meaning}")
    return held_copy(value, is_float) if a is None else a


cdef Array held_output(object array, bint is_float):
    """A fresh array of ours, to be written."""
    cdef Array a = Array.__new__(Array)
    if not a.hold(array, 4 if is_float else 8, PyBUF_WRITABLE):
        raise SystemError("an output array has the wrong form")
    return a


cdef void *data_of(object array) except NULL:
    """Where a fresh, contiguous array of ours begins; it stays there as long as the array lives."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_WRITABLE)
    PyBuffer_Release(&view)
    return view.buf


# ---- owners and locks

# Forks that lie between this process and the first: what was taken before a fork belongs to a thread that
# the child does not have.
cdef Py_ssize_t forks = 0


def _after_fork():
    global forks
    forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


cdef class Owner:
    """Lets one call at a time use an object: RuntimeError for a second one.

    It is taken and given back under the GIL, so a flag is enough. A child process finds it free after a fork.

    Parameters
    ----------
    name : str
        The object, for the error: "tape".
    """

    def __init__(self, str name not None):
        self.name = name

    cdef int take(self) except -1:
        cdef unsigned long thread = PyThread_get_thread_ident()
        if self.busy and self.generation == forks:
            if self.thread == thread:
                raise RuntimeError(f"{self.name} is in use by another call of this thread, from which this "
                                   "one was made; expected one call at a time")
            raise RuntimeError(f"{self.name} is in use by another thread; expected one thread at a time: "
                               f"give each thread a {self.name} of its own")
        self.busy, self.thread, self.generation = True, thread, forks
        return 0

    cdef void give(self) noexcept:
        self.busy = False

    def __enter__(self):
        self.take()

    def __exit__(self, *_):
        self.give()

    def __reduce__(self):
        return Owner, (self.name,)


cdef class TapeOwner(Owner):
    """The owner of a tape, and what fills it.

    Parameters
    ----------
    tape : object
        What a forward pass fills; it has `valid`.

    Attributes
    ----------
    kind : str or None
        What the tape holds: "numbers", "tangents" besides, or nothing.
    missing : object
        What is needed to give back the gradient of inputs with missing values.
    """

    def __init__(self, tape not None):
        self.name = "tape"
        self.tape = tape

    def __enter__(self):
        self.take()
        return self

    def __exit__(self, error, *_):
        # A call that was refused has left the tape as it was; one that failed on the way has not.
        if error is not None and self.kind is not None and not self.tape.valid:
            self.kind = self.missing = None
        self.give()

    def __reduce__(self):
        raise TypeError("the owner of a tape cannot be pickled")


cdef class Lock:
    """A lock to wait for, as in ``threading``, that is free again in a child process after a fork.

    Parameters
    ----------
    name : str
        What it guards, for the error.
    reentrant : bool, default False
        A thread that holds it may take it again. Otherwise that is a RuntimeError: it would wait for itself.
    """

    def __init__(self, str name not None, bint reentrant=False):
        self.name, self.reentrant = name, reentrant
        self.generation = -1

    cdef object current(self):
        """The lock of this process. Nothing runs between the comparison and the assignment."""
        cdef object lock
        if self.generation != forks:
            try:
                lock = threading.RLock() if self.reentrant else threading.Lock()
            except RuntimeError as error:  # "can't allocate lock"
                raise MemoryError(str(error)) from None
            if self.generation != forks:
                self.lock, self.generation, self.held = lock, forks, False
        return self.lock

    def __enter__(self):
        cdef object lock = self.current()
        cdef unsigned long thread = PyThread_get_thread_ident()
        if self.held and not self.reentrant and self.thread == thread:
            raise RuntimeError(f"{self.name} is in use by another call of this thread, from which this one "
                               "was made; expected one call at a time")
        lock.acquire()
        self.held, self.thread = True, thread

    def __exit__(self, *_):
        if self.generation == forks:  # else it was taken before a fork
            self.held = False
            self.lock.release()

    def __reduce__(self):
        return Lock, (self.name, self.reentrant)
