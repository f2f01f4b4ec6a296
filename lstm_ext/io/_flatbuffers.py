"""Tables of a FlatBuffers file, each offset and length held against the bytes before it is followed.

A table begins with the distance back to its vtable, which says where its fields lie: two bytes each, 0 for a
field that is not there (https://flatbuffers.dev/internals). Nothing is copied before it is asked for.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from lstm_ext.io._common import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

_UINT = struct.Struct("<I")


class Table:
    """One table of a file: its fields by slot, the place in its schema counted from 0."""

    def __init__(self, content: bytes, position: int) -> None:
        self.content, self.position = content, position
        (back,) = self._unpack("i", position)
        self._vtable = position - back
        self._size, inline = self._unpack("HH", self._vtable)
        if self._size < 4 or self._size % 2 or self._vtable + self._size > len(content):
            raise FormatError("a table of the file has no fields that can be found")
        if inline < 4 or position + inline > len(content):
            raise FormatError("a table of the file ends beyond the file")
        self._inline = inline

    @classmethod
    def root(cls, content: bytes) -> Table:
        """Return the table with which a file begins."""
        if len(content) < 8:
            raise FormatError(f"it has {len(content)} bytes; expected at least 8")
        return cls(content, _UINT.unpack_from(content)[0])

    def _unpack(self, kinds: str, position: int) -> tuple[int, ...]:
        if not 0 <= position <= len(self.content) - struct.calcsize("<" + kinds):
            raise FormatError(f"an offset of the file is {position}, and it has {len(self.content)} bytes")
        return struct.unpack_from("<" + kinds, self.content, position)

    def _field(self, slot: int, size: int) -> int | None:
        """Return where a field of `size` bytes lies, or None."""
        place = 4 + 2 * slot
        offset = self._unpack("H", self._vtable + place)[0] if place + 2 <= self._size else 0
        if offset and not 4 <= offset <= self._inline - size:
            raise FormatError("a field of the file lies outside its table")
        return self.position + offset if offset else None

    def number(self, slot: int, kind: str, default: float = 0) -> float:
        """Return a number, `kind` as in the module struct."""
        field = self._field(slot, struct.calcsize("<" + kind))
        return default if field is None else self._unpack(kind, field)[0]

    def integer(self, slot: int, kind: str, default: int = 0) -> int:
        """Return an integer."""
        return int(self.number(slot, kind, default))

    def _target(self, slot: int) -> int | None:
        field = self._field(slot, 4)
        return None if field is None else field + self._unpack("I", field)[0]

    def table(self, slot: int) -> Table | None:
        """Return a table within, or None."""
        target = self._target(slot)
        return None if target is None else Table(self.content, target)

    def vector(self, slot: int, size: int) -> memoryview | None:
        """Return the bytes of a vector of elements of `size` bytes, or None."""
        target = self._target(slot)
        if target is None:
            return None
        (count,) = self._unpack("I", target)
        if count > (len(self.content) - target - 4) // size:
            raise FormatError(f"a vector of the file has {count} elements, more than the file")
        return memoryview(self.content)[target + 4 : target + 4 + count * size]

    def integers(self, slot: int, most: int) -> list[int]:
        """Return a vector of at most `most` int32; without the field, none."""
        data = self.vector(slot, 4)
        if data is not None and len(data) > 4 * most:
            raise FormatError(f"a vector of the file has {len(data) // 4} elements; expected at most {most}")
        return [] if data is None else list(struct.unpack(f"<{len(data) // 4}i", data))

    def text(self, slot: int) -> str:
        """Return a text, its first 256 bytes."""
        data = self.vector(slot, 1)
        return "" if data is None else bytes(data[:256]).decode("utf-8", "backslashreplace")

    def tables(self, slot: int, most: int) -> Tables:
        """Return a vector of at most `most` tables."""
        data = self.vector(slot, 4)
        if data is not None and len(data) > 4 * most:
            raise FormatError(f"a vector of the file has {len(data) // 4} tables; expected at most {most}")
        start = 0 if data is None else (self._target(slot) or 0) + 4
        return Tables(self.content, start, 0 if data is None else len(data) // 4)


class Tables:
    """A vector of tables, each read when it is asked for."""

    def __init__(self, content: bytes, start: int, count: int) -> None:
        self._content, self._start, self._count = content, start, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Table:
        if not 0 <= index < self._count:
            raise FormatError(f"the file names table {index} of {self._count}")
        place = self._start + 4 * index
        return Table(self._content, place + _UINT.unpack_from(self._content, place)[0])

    def __iter__(self) -> Iterator[Table]:
        return (self[k] for k in range(self._count))
