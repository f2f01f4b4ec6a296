"""Arrays of every kind, by name, made from an ordinary one; and how a refusal must read."""

import re
import warnings

import numpy as np
import pytest
import scipy.sparse


class Subclass(np.ndarray):
    """An array that is proud of itself."""


class HasArray:
    """Not an array, but it can be one."""

    def __init__(self, a):
        self.a = a

    def __array__(self, dtype=None, copy=None):
        return np.array(self.a, dtype=dtype)


def misaligned(a):
    buffer = np.zeros(a.nbytes + 1, np.uint8)
    out = buffer[1:].view(a.dtype).reshape(a.shape)
    out[...] = a
    assert not out.flags.aligned
    return out


def strided(a):
    poison = np.nan if a.dtype.kind == "f" else 99
    big = np.full([2 * n for n in a.shape], poison, a.dtype)
    out = big[tuple(slice(1, None, 2) for _ in a.shape)]
    out[...] = a
    return out


def sliding_windows(a):
    """Rows that overlap: each begins one element after the one before it."""
    out = np.lib.stride_tricks.as_strided(np.ravel(a), a.shape, a.ndim * (a.itemsize,))
    out.flags.writeable = False
    return out


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def reversed_strides(a):
    every = tuple(slice(None, None, -1) for _ in a.shape)
    return a[every].copy()[every]


def object_with_none(a):
    a = a.astype(object)
    a[(0,) * a.ndim] = None
    return a


def partly_masked(a):
    mask = np.zeros(a.shape, bool)
    mask[(0,) * a.ndim] = True
    return np.ma.masked_array(a, mask)


# Any NumPy user's ordinary arrays: these must work.
ORDINARY = {
    "read-only": read_only,
    "fortran": np.asfortranarray,
    "strided": strided,
    "negative stride": reversed_strides,
    "transposed": lambda a: a.T.copy().T,
    "0-stride": lambda a: np.broadcast_to(a[..., :1], a.shape),
    "first axis reversed": lambda a: a[::-1].copy()[::-1],
    "middle axis reversed": lambda a: np.flip(np.flip(a, a.ndim // 2).copy(), a.ndim // 2),
    "one for all": lambda a: np.broadcast_to(a[:1], a.shape),
    "sliding windows": sliding_windows,
    "rows apart": lambda a: np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, 3)])[..., :-3],
    "all 0-stride": lambda a: np.broadcast_to(a[(0,) * a.ndim], a.shape),
}
# Right, or refused by a sentence.
UNUSUAL = {
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "misaligned": misaligned,
    "misaligned read-only": lambda a: (m := misaligned(a), m.setflags(write=False))[0],
    "float16": lambda a: a.astype("float16"),
    "float32": lambda a: a.astype("float32"),
    "float64": lambda a: a.astype("float64"),
    "longdouble": lambda a: a.astype("longdouble"),
    "int8": lambda a: (3 * a).astype("int8"),
    "int64": lambda a: (3 * a).astype("int64"),
    "uint16": lambda a: np.abs(3 * a).astype("uint16"),
    "bool": lambda a: a > 0,
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(a.tolist()),
    "list of arrays": list,
    "memoryview": memoryview,
    "subclass": lambda a: a.view(Subclass),
    "masked array, nothing masked": np.ma.masked_array,
    "object of floats": lambda a: a.astype(object),
    "__array__": HasArray,
}
# Never a float array without losing something.
WRONG = {
    "complex": lambda a: a + 1j,
    "object with None": object_with_none,
    "strings": lambda a: a.astype(str),
    "bytes": lambda a: a.astype("S8"),
    "datetime": lambda a: np.zeros(a.shape, "datetime64[s]"),
    "record": lambda a: np.zeros(a.shape, [("re", a.dtype), ("im", a.dtype)]),
    "masked array": partly_masked,
    "ragged list": lambda a: [*a.tolist()[:-1], [1.0]],
    "sparse": lambda a: scipy.sparse.csr_array(a.reshape(-1, a.shape[-1])),
    "dict": lambda a: {"a": a},
    "string": lambda a: "x",
    "number": lambda a: 1.0,
    "generator": lambda a: (row for row in a),
    "set": lambda a: {1.0, 2.0},
    "one axis more": lambda a: a[None],
    "one axis more, behind": lambda a: a[..., None],
    "one feature more": lambda a: np.concatenate([a, a[..., :1]], axis=-1),
    "one feature less": lambda a: a[..., :-1],
    "no feature": lambda a: a[..., :0],
    "flat": np.ravel,
}


def values_of(given):
    """Convert to the plain array that `given` stands for."""
    return np.array(given.a if isinstance(given, HasArray) else given)


def snapshot(given):
    """Copy the values, where there are any to compare later."""
    return np.array(given, copy=True) if isinstance(given, np.ndarray) else None


def refuses(call, name, *words):
    """`call` raises ValueError or TypeError; the sentence holds `name` (a pattern) and `words`."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((ValueError, TypeError)) as caught:
            call()
    message = str(caught.value)
    for word in (name, *words):
        assert re.search(rf"(?<!\w){word}(?!\w)", message), (word, message)
    return message
