"""Safetensors files, read through the library, after what it leaves to its caller has been checked."""

import contextlib
import os

import numpy as np

from lstm_ext.io._common import MAX_TEXT, FormatError, check_names, parse_json, reading, require, shorten

DTYPES = {
    "F32": np.dtype("float32"), "F64": np.dtype("float64"), "BOOL": np.dtype("bool"),
    "I8": np.dtype("int8"), "I16": np.dtype("int16"), "I32": np.dtype("int32"), "I64": np.dtype("int64"),
    "U8": np.dtype("uint8"), "U16": np.dtype("uint16"), "U32": np.dtype("uint32"), "U64": np.dtype("uint64"),
}


class Tensors:
    """Names, dtypes and shapes of a file's tensors; `read` brings one into memory."""

    def __init__(self, file):
        self._file = file
        self.names = set(file.keys())
        self.metadata = file.metadata() or {}
        self.unread = set(self.names)

    def specification(self, name):
        """Return (dtype, shape) of a tensor; the dtype is the file's word where it is none of ours."""
        piece = self._file.get_slice(name)
        word = piece.get_dtype()
        return DTYPES.get(word, word), tuple(piece.get_shape())

    def check(self, shapes, dtype):
        """Raise FormatError unless tensors of these names, shapes and this dtype are there."""
        check_names("it", self.names & set(shapes), shapes)
        for name, shape in shapes.items():
            found = self.specification(name)
            if found != (np.dtype(dtype), tuple(shape)):
                raise FormatError(
                    f"{shorten(name)} is {found[0]} {shorten(found[1])}, expected {np.dtype(dtype)} {shape}"
                )

    def read(self, name, finite=True):
        """Return a tensor as an array; with `finite` NaN and inf are refused."""
        if name not in self.names:
            raise FormatError(f"it has no tensor {shorten(name)}")
        if not isinstance(self.specification(name)[0], np.dtype):
            raise FormatError(f"{shorten(name)} is {self.specification(name)[0]}, which is not read here")
        self.unread.discard(name)
        array = self._file.get_tensor(name)
        if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FormatError(f"{shorten(name)} holds NaN or inf")
        return array


@contextlib.contextmanager
def open_tensors(path):
    """Open a file, with what the format asks of it checked; any error of the block is a FormatError.

    The library holds dtypes, shapes and offsets against the length of the file: tensors neither overlap
    nor leave gaps. It allows headers of 100 MB and keys that occur twice, and we do not.
    """
    library = require("safetensors", "io")
    with reading(path):
        with open(path, "rb") as file:
            first = file.read(8)
            length = int.from_bytes(first, "little")
            if len(first) < 8 or length > MAX_TEXT:
                raise FormatError(f"its header has {length} bytes, expected at most {MAX_TEXT}")
            header = parse_json(file.read(length).decode(), "its header")
        if not isinstance(header, dict):
            raise FormatError("its header is no JSON object")
        names = header.keys() - {"__metadata__"}
        # The library looks only after it has mapped the file, whatever its length.
        end = max((header[name]["data_offsets"][1] for name in names), default=0)
        size = os.path.getsize(path)
        if size != 8 + length + end:
            raise FormatError(f"it has {size} bytes, and its header is for {8 + length + end}")
        with library.safe_open(os.fspath(path), framework="numpy") as file:
            tensors = Tensors(file)
            if names != tensors.names:
                raise FormatError("its header names other tensors than the library finds")
            yield tensors
