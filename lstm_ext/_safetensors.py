"""The safetensors format: a JSON header of names, dtypes, shapes and offsets, then the numbers.

It is written and read here, and not by the library of that name, so that a model's file needs no
other package, an error of the disk is an OSError, and sizes are checked before memory is taken.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext._files import MAX_BYTES, MAX_TEXT, parse_json, replace_file, size_of

if TYPE_CHECKING:
    import io
    import os
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    _Array = npt.NDArray[Any]
    _Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("float32"), "F64": np.dtype("float64"), "BOOL": np.dtype("bool"),
    "I8": np.dtype("int8"), "I16": np.dtype("int16"), "I32": np.dtype("int32"), "I64": np.dtype("int64"),
    "U8": np.dtype("uint8"), "U16": np.dtype("uint16"), "U32": np.dtype("uint32"), "U64": np.dtype("uint64"),
    "F16": np.dtype("float16"),
}
# Bits of the other dtypes of the format: such tensors may stand in a file that is read for its others.
_OTHER_BITS = {
    "BF16": 16, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}
_BITS = {**_OTHER_BITS, **{name: 8 * dtype.itemsize for name, dtype in DTYPES.items()}}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_MAX_RANK = 32
_DIGEST = "sha256"


def write_tensors(path: _Path, metadata: Mapping[str, str], arrays: Mapping[str, _Array]) -> None:
    """Write a file, whole or not at all: the same bytes for the same content.

    Parameters
    ----------
    path : str or path-like
    metadata : dict of str
    arrays : dict of ndarray
    """
    header, ordered = _header(metadata, arrays)
    with replace_file(path) as temporary, open(temporary, "wb") as file:
        file.write(header)
        for array in ordered:
            file.write(_bytes(array))


def pack_tensors(metadata: Mapping[str, str], arrays: Mapping[str, _Array]) -> bytes:
    """Return the bytes that `write_tensors` would write."""
    header, ordered = _header(metadata, arrays)
    return b"".join([header, *(array.tobytes() for array in ordered)])


def _bytes(array: _Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _header(metadata: Mapping[str, str], arrays: Mapping[str, _Array]) -> tuple[bytes, list[_Array]]:
    little = {}
    for name, array in arrays.items():
        dtype = array.dtype.newbyteorder("=")
        little[name] = np.ascontiguousarray(array, dtype.newbyteorder("<")).reshape(array.shape)
    # Wide numbers first, as the library does, so that each tensor begins at a multiple of its width.
    names = sorted(little, key=lambda name: (-little[name].itemsize, name))
    entries: dict[str, Any] = {"__metadata__": {**metadata, _DIGEST: _digest(metadata, little)}}
    end = 0
    for name in names:
        array = little[name]
        entries[name] = {
            "dtype": _NAMES[array.dtype.newbyteorder("=")], "shape": list(array.shape),
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
    if end > MAX_BYTES:
        raise ValueError(f"there are {end} bytes of numbers; a file has at most {MAX_BYTES}")
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_TEXT:
        raise ValueError(f"the header would have {len(text)} bytes; expected at most {MAX_TEXT}")
    return len(text).to_bytes(8, "little") + text, [little[name] for name in names]


def _digest(metadata: Mapping[str, str], arrays: Mapping[str, _Array]) -> str:
    total = hashlib.sha256()
    _add_metadata(total, metadata)
    for name in sorted(arrays):
        array = arrays[name]
        data = hashlib.sha256(_bytes(array)).digest()
        _add_tensor(total, name, _NAMES[array.dtype.newbyteorder("=")], array.shape, data)
    return total.hexdigest()


def _add_metadata(total: hashlib._Hash, metadata: Mapping[str, str]) -> None:
    for item in sorted(metadata.items()):
        total.update(json.dumps(item, separators=(",", ":")).encode() + b"\n")


def _add_tensor(total: hashlib._Hash, name: str, dtype: str, shape: Sequence[int], data: bytes) -> None:
    total.update(json.dumps([name, dtype, list(shape), data.hex()], separators=(",", ":")).encode() + b"\n")


class TensorFile:
    """Names, dtypes and shapes of a file's tensors; `read` brings one into memory.

    Everything that is wrong is a ValueError. Memory is taken for what the file really holds, and for
    `MAX_BYTES` of numbers at most.
    """

    def __init__(self, file: io.BufferedReader | io.BytesIO) -> None:
        self._file = file
        size = size_of(file)
        file.seek(0)
        first = file.read(8)
        length = int.from_bytes(first, "little")
        if len(first) < 8:
            raise ValueError(f"it has {size} bytes; expected 8 and a header at least")
        if not 2 <= length <= MAX_TEXT:
            raise ValueError(f"its header has {length} bytes; expected at most {MAX_TEXT}")
        if length > size - 8:
            raise ValueError(f"its header has {length} bytes, and the file {size}")
        header = parse_json(file.read(length), "its header")
        if not isinstance(header, dict):
            raise ValueError("its header is no JSON object")
        self.metadata = header.pop("__metadata__", {})
        if not isinstance(self.metadata, dict) or not all(type(v) is str for v in self.metadata.values()):
            raise ValueError("its metadata is not text by name")
        self._start, self._left = 8 + length, MAX_BYTES
        self._tensors = {name: _entry(name, entry) for name, entry in header.items()}
        end = 0
        for name, (_, _, begin, stop) in sorted(self._tensors.items(), key=lambda item: item[1][2:]):
            if begin != end:
                raise ValueError(f"{name[:80]!r} begins at {begin}, and the one before it ends at {end}")
            end = stop
        if size != self._start + end:
            raise ValueError(f"it has {size} bytes, and its header is for {self._start + end}")
        self.names = set(self._tensors)
        self.unread = set(self.names)
        self._digests: dict[str, tuple[str, tuple[int, ...], bytes]] = {}

    def specification(self, name: str) -> tuple[np.dtype[Any] | str, tuple[int, ...]]:
        """Return (dtype, shape) of a tensor; the dtype is the file's name for it where NumPy has none."""
        word, shape, _, _ = self._tensors[name]
        return DTYPES.get(word, word), shape

    def read_raw(self, name: str) -> npt.NDArray[np.uint8]:
        """Return the bytes of a tensor as an array of uint8."""
        if name not in self.names:
            raise ValueError(f"it has no tensor {name[:80]!r}")
        word, shape, begin, end = self._tensors[name]
        self._left -= end - begin
        if self._left < 0:
            raise ValueError(f"it has more than {MAX_BYTES} bytes of numbers")
        # Filling an array directly, a lack of memory would be a TypeError.
        content = bytearray(end - begin)
        self._file.seek(self._start + begin)
        if self._file.readinto(content) != len(content):
            raise ValueError(f"it ends within {name[:80]!r}")
        self.unread.discard(name)
        self._digests[name] = word, shape, hashlib.sha256(content).digest()
        return np.frombuffer(content, np.uint8)

    def read(self, name: str, finite: bool = True) -> _Array:
        """Return a tensor as an array; with `finite`, NaN and inf are refused."""
        if name not in self.names:
            raise ValueError(f"it has no tensor {name[:80]!r}")
        dtype, shape = self.specification(name)
        if not isinstance(dtype, np.dtype):
            raise ValueError(f"{name[:80]!r} is {dtype}, which is not read here")
        data = self.read_raw(name)
        if dtype.kind == "b" and (data > 1).any():
            raise ValueError(f"{name[:80]!r} is BOOL and holds other bytes than 0 and 1")
        array = data.view(dtype.newbyteorder("<")).reshape(shape).astype(dtype, copy=False)
        if finite and dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name[:80]!r} holds NaN or inf")
        return array

    def check_digest(self) -> None:
        """Raise ValueError unless all has been read and is what the file's SHA-256 says."""
        if self.unread:
            raise ValueError(f"it has a tensor {min(self.unread)[:80]!r} that belongs to nothing")
        metadata = dict(self.metadata)
        expected, total = metadata.pop(_DIGEST, None), hashlib.sha256()
        _add_metadata(total, metadata)
        for name in sorted(self._digests):
            _add_tensor(total, name, *self._digests[name])
        if total.hexdigest() != expected:
            raise ValueError(
                f"it is damaged, or was changed after it was written: its SHA-256 is {total.hexdigest()}, "
                f"expected {str(expected)[:64]}"
            )


def _entry(name: str, entry: object) -> tuple[str, tuple[int, ...], int, int]:
    """Return (dtype, shape, begin, end) of a header's entry."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name[:80]!r} has no dtype, shape and data_offsets")
    word, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    bits = _BITS.get(word) if type(word) is str else None
    if bits is None:
        raise ValueError(f"{name[:80]!r} is {str(word)[:40]}, which is no dtype of the format")
    for what, values, length in (("shape", shape, None), ("data_offsets", offsets, 2)):
        if not isinstance(values, list) or not all(type(v) is int and 0 <= v < 2**63 for v in values):
            raise ValueError(f"{name[:80]!r}: {what} is {str(values)[:80]}; expected integers")
        if len(values) > _MAX_RANK or length not in (None, len(values)):
            raise ValueError(f"{name[:80]!r}: {what} has {len(values)} numbers")
    count = bits
    for size in shape:
        count *= size
    if count % 8 or offsets[1] - offsets[0] != count // 8:
        raise ValueError(
            f"{name[:80]!r} has {offsets[1] - offsets[0]} bytes; expected {count // 8} for {word} "
            f"{str(shape)[:80]}"
        )
    return word, tuple(shape), *offsets
