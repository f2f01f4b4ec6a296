"""The functions of cython_lstm.pxd, called from Python by their addresses: what several tests share."""

import ctypes

import numpy as np

from lstm_ext import cython_lstm

RESULT = {"workspace": ctypes.c_ssize_t, "tape_size": ctypes.c_ssize_t}


def function(name):
    """Return `lstm_<name>`; an array is passed as its address, None as NULL, the rest as Py_ssize_t."""
    address = cython_lstm.address(f"lstm_{name}")
    restype = next((t for end, t in RESULT.items() if name.endswith(end)), ctypes.c_int)

    def call(*arguments):
        values = [ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray)
                  else a if isinstance(a, ctypes.c_void_p) or a is None else ctypes.c_ssize_t(a)
                  for a in arguments]
        types = [ctypes.c_void_p if v is None or isinstance(v, ctypes.c_void_p) else ctypes.c_ssize_t
                 for v in values]
        return ctypes.CFUNCTYPE(restype, *types)(address)(*values)

    return call


def suffix(dtype):
    return "s" if np.dtype(dtype) == np.float32 else "d"


class Guarded:
    """Memory of `nbytes` full of 0xA5, between guards that must stay."""

    def __init__(self, nbytes):
        self.raw = np.full(nbytes + 256, 0xA5, np.uint8)
        self.raw[:128] = self.raw[-128:] = 0x5A
        self.start, self.nbytes = 128, nbytes

    @property
    def at(self):
        return self.raw[self.start : self.start + self.nbytes]

    def check(self):
        assert (self.raw[: self.start] == 0x5A).all(), "written before the memory"
        assert (self.raw[self.start + self.nbytes :] == 0x5A).all(), "written beyond the memory"
