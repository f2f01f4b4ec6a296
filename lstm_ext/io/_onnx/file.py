"""The file of an ONNX model: fields are counted before they are parsed, tensors held against their bytes."""

import math
import os

import numpy as np

from lstm_ext._files import open_file, size_of
from lstm_ext.io._common import MAX_BYTES, FormatError, shorten
from lstm_ext.io._onnx.values import MAX_RANK

MAX_FIELDS = 2**17  # of all messages of a file; an LSTM of a hundred layers has 20,000
MAX_DEPTH = 20


class External:
    """Data files beside a model: in its folder, no links, read within their length."""

    def __init__(self, folder):
        self.folder, self.sizes, self.read_bytes = folder, {}, 0

    def read(self, what, entries, nbytes):
        """Return the bytes of a tensor, `nbytes` of them."""
        found = {}
        for entry in entries:
            if entry.key in found or entry.key not in ("location", "offset", "length", "checksum"):
                raise FormatError(f"{what} names {shorten(entry.key)} of its data twice, or unknown")
            found[entry.key] = entry.value
        name = found.get("location", "")
        if not name or name in (".", "..") or set(name) & set("/\\:\0") or len(name) > 255:
            raise FormatError(
                f"{what} keeps its data in {shorten(name)!r}; expected the name of a file in the same folder"
            )
        if self.folder is None:
            raise FormatError(f"{what} keeps its data in {shorten(name)!r}: give the path of the model")
        numbers = []
        for key, default in (("offset", "0"), ("length", str(nbytes))):
            value = found.get(key, default)
            if not value.isascii() or not value.isdigit() or len(value) > 19:
                raise FormatError(f"{what}: {key} of its data is {shorten(value)!r}; expected a number")
            numbers.append(int(value))
        offset, length = numbers
        if length != nbytes:
            raise FormatError(f"{what} has {length} bytes in {shorten(name)}; expected {nbytes}")
        path = os.path.join(self.folder, name)
        try:
            if os.path.islink(path):
                raise FormatError(f"{what}: {shorten(name)} is a link; expected a file")
            file = open_file(path)
        except FileNotFoundError:
            raise FormatError(
                f"{what} keeps its data in {shorten(name)}, which is not there; expected it beside the model"
            ) from None
        except ValueError as error:
            raise FormatError(f"{what}: {shorten(name)}: {error}") from None
        with file:
            size = self.sizes.setdefault(name, size_of(file))
            self.read_bytes += nbytes
            if len(self.sizes) > 64 or self.read_bytes > min(MAX_BYTES, 2 * sum(self.sizes.values())):
                raise FormatError(f"{what}: more data than the files beside the model hold")
            if offset + length > size:
                raise FormatError(f"{what}: {shorten(name)} has {size} bytes; expected {offset + length}")
            file.seek(offset)
            content = bytearray(length)
            if file.readinto(content) != length:
                raise FormatError(f"{what}: {shorten(name)} ends within it")
        return content


def count_fields(content, descriptor, count=0, depth=0):
    """Count the fields of a message and of the messages in it, before protobuf makes objects of them.

    An empty message takes 2 bytes of a file and 150 in memory. This walks over only the lengths, down to
    what the descriptor calls messages, and raises FormatError where there are too many, or too deep.
    """
    at, end = 0, len(content)
    while at < end:
        count += 1
        if count > MAX_FIELDS or depth > MAX_DEPTH:
            raise FormatError(
                f"the file has more than {MAX_FIELDS} fields, or more than {MAX_DEPTH} of them in another"
            )
        try:
            tag, at = varint(content, at)
            size, at = varint(content, at) if tag & 7 in (0, 2) else ({1: 8, 5: 4}[tag & 7], at)
        except (IndexError, KeyError):
            raise FormatError("this is not an ONNX model: its fields have no lengths") from None
        if tag & 7 == 0:  # it was the number itself
            continue
        if size > end - at:
            raise FormatError("this is not an ONNX model: a field is longer than the file")
        field = descriptor.fields_by_number.get(tag >> 3) if tag & 7 == 2 and size else None
        if field is not None and field.message_type is not None:
            count = count_fields(content[at : at + size], field.message_type, count, depth + 1)
        at += size
    return count


def varint(content, at):
    """Return the number that begins at `at`, of seven bits a byte, and where it ends."""
    value = shift = 0
    while shift < 64:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise IndexError


def parse(content):
    """Bytes as a ModelProto."""
    import onnx

    proto = onnx.ModelProto()
    count_fields(memoryview(content), proto.DESCRIPTOR)
    try:
        proto.ParseFromString(content)
    except Exception as error:  # of google.protobuf, whose implementations raise different ones
        raise FormatError(f"this is not an ONNX model: {shorten(str(error))}") from None
    return proto


def tensor(what, proto, external=None):
    """Return the numbers of a TensorProto, after what it says has been held against its bytes."""
    import onnx

    if proto.HasField("segment"):
        raise FormatError(f"{what} is a segment of a tensor")
    dims = tuple(proto.dims)
    if len(dims) > MAX_RANK or any(not 0 <= d < 2**31 for d in dims):
        raise FormatError(f"{what} has the shape {shorten(str(dims))}")
    fields = {
        onnx.TensorProto.FLOAT: ("<f4", "float_data"),
        onnx.TensorProto.DOUBLE: ("<f8", "double_data"),
        onnx.TensorProto.INT32: ("<i4", "int32_data"),
        onnx.TensorProto.INT64: ("<i8", "int64_data"),
        onnx.TensorProto.BOOL: ("?", "int32_data"),
    }
    if proto.data_type not in fields:
        raise FormatError(
            f"{what} has the data type {proto.data_type}; expected float32, float64 or integers"
        )
    dtype, field = fields[proto.data_type]
    dtype, count, data = np.dtype(dtype), math.prod(dims), getattr(proto, field)
    if proto.data_location != onnx.TensorProto.DEFAULT or proto.external_data:
        if data or proto.HasField("raw_data") or proto.data_location != onnx.TensorProto.EXTERNAL:
            raise FormatError(f"{what} has its data in two places")
        if external is None:
            raise FormatError(f"{what} keeps its data in another file; expected it in the model")
        content = external.read(what, proto.external_data, count * dtype.itemsize)
        return np.frombuffer(content, dtype).reshape(dims)
    if proto.HasField("raw_data"):
        if data or len(proto.raw_data) != count * dtype.itemsize:
            raise FormatError(
                f"{what} has {len(proto.raw_data)} bytes for {shorten(str(dims))} numbers of {dtype.itemsize}"
            )
        return np.frombuffer(proto.raw_data, dtype).reshape(dims)
    others = {name for _, name in fields.values()} - {field}
    if len(data) != count or any(getattr(proto, name) for name in others) or proto.string_data:
        raise FormatError(f"{what} has {len(data)} numbers for the shape {shorten(str(dims))}")
    return np.array(data, dtype).reshape(dims)


def node_attributes(where, node, kinds):
    """Return the attributes of a node by name, of the kinds that they must have; of tensors the array."""
    from onnx import AttributeProto

    found = {}
    for attribute in node.attribute:
        name, kind = shorten(attribute.name), kinds.get(attribute.name)
        if attribute.name in found or attribute.ref_attr_name:
            raise FormatError(f"{where}: attribute {name} occurs twice, or refers to another")
        if kind is None or attribute.type != AttributeProto.AttributeType.Value(kind):
            raise FormatError(
                f"{where}: attribute {name} is none of {', '.join(kinds) or 'none'}, or of another type"
            )
        found[attribute.name] = {
            "INT": lambda a: a.i,
            "FLOAT": lambda a: a.f,
            "STRING": lambda a: text(a.s),
            "INTS": lambda a: list(a.ints),
            "FLOATS": lambda a: list(a.floats),
            "GRAPH": lambda a: a.g,
            "STRINGS": lambda a: [text(s) for s in a.strings],
            "TENSOR": lambda a: tensor(f"{where}: attribute {name}", a.t),  # noqa: B023
        }[kind](attribute)
    return found


def text(value):
    """Bytes as str."""
    return value.decode("utf-8", "backslashreplace")
