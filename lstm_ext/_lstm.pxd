# The engine, for cython_lstm.pyx. Private: not shipped.

from lstm_ext._arrays cimport Array
from lstm_ext._stack cimport stack_t

cdef class Stack:
    cdef stack_t net

cdef class Engine:
    cdef readonly Py_ssize_t input_size, hidden_size, out_size, num_layers, directions, checkpoint
    cdef readonly bint is_float, reverse
    cdef readonly object dtype
    cdef readonly Py_ssize_t parameter_count
    cdef public int pieces       # bfloat16 numbers that factors of products may be split into; 0: float32
    cdef Py_ssize_t itemsize
    cdef Stack _stack            # for the kernel of the last call
    cdef Array parameters, gradient
    cdef list _packed            # of the last inference, for each driver
    cdef object _batch           # of the last call without lengths
    cdef list _workspaces        # free ones; a call takes one, so that threads never share
    cdef object _gradient_lock   # threads may call backward at once: they add one after another

    cdef Stack stack(self)
