"""HDF5 files of Keras, also within a .keras archive, read through h5py: what is in them, whole and plain."""

import contextlib
import io
import itertools
import math
import mmap
import re
import struct

from lstm_ext._files import open_archive, open_file, size_of
from lstm_ext.io._common import (
    MAX_BYTES,
    MAX_TEXT,
    FormatError,
    check_names,
    parse_json,
    reading,
    require,
    shorten,
)

MAX_MEMBERS = 1000  # of a group, and layers of a model
MAX_OBJECTS = 2**16  # of a heap of texts


@contextlib.contextmanager
def open_hdf5(path):
    """Give (h5 file, model as Keras describes it or None); any error of the block is a FormatError."""
    h5py = require("h5py", "io")
    with reading(path), contextlib.ExitStack() as stack:
        file, model = stack.enter_context(open_file(path)), None
        size = size_of(file)
        first = file.read(8)
        if first[4:8] == b"TFL3":
            raise FormatError("it is a TFLite file, which from_tflite reads")
        if first[:4] == b"PK\x03\x04":
            archive = stack.enter_context(open_archive(file))
            model = _model_of_archive(archive)
            file = io.BytesIO(archive.read("model.weights.h5"))
        else:
            check_heaps(file, size)
            file.seek(0)
        h5 = Hdf5(h5py, stack.enter_context(h5py.File(file, "r")), size)
        if model is None and "model_config" in h5.file.attrs:
            h5.version = h5.text(h5.file, "keras_version")
            model = parse_json(h5.text(h5.file, "model_config"), "model_config")
        yield h5, model


def check_heaps(file, size):
    """Check the global heaps of an HDF5 file, where texts are: HDF5 walks over a damaged one forever.

    A heap is GCOL, version 1, its size, and objects: index, count, size, then so many bytes, rounded up to 8.
    The object of index 0 is what is left, to the end (HDF5 File Format Specification 3.0, III.E).
    """
    if size > MAX_BYTES:
        raise FormatError(f"it has {size} bytes; expected at most {MAX_BYTES}")
    if not size:
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for number, match in enumerate(re.finditer(rb"GCOL\x01\0\0\0", content)):
            start = match.start()
            (length,) = struct.unpack("<Q", content[start + 8 : start + 16].ljust(8, b"\xff"))
            end, position, objects = start + length, start + 16, 0
            if number > MAX_MEMBERS or end > size:
                raise FormatError("a heap of the file is longer than the file, or there are too many")
            while position + 16 <= end:
                index, _, _, count = struct.unpack("<HHIQ", content[position : position + 16])
                objects += 1
                if objects > MAX_OBJECTS or count > end - position or (not index and position + count != end):
                    raise FormatError("a heap of the file is damaged: its objects do not fill it")
                position = end if not index else position + 16 + -(-count // 8) * 8


def _model_of_archive(archive):
    """Return the model that a .keras file describes, whose members have been checked."""
    check_names("the archive", archive.namelist(), ("metadata.json", "config.json", "model.weights.h5"))
    for info in archive.infolist():
        name = info.filename
        if name.endswith(".json") and info.file_size > MAX_TEXT:
            raise FormatError(f"{name} has {info.file_size} bytes, more than {MAX_TEXT}")
    version = parse_json(archive.read("metadata.json").decode(), "metadata.json")["keras_version"]
    if not str(version).startswith("3."):
        raise FormatError(f"it was written by Keras {shorten(version)}; expected 3")
    return parse_json(archive.read("config.json").decode(), "config.json")


class Hdf5:
    """An HDF5 file, of which only what lies in it, whole and plain, is read.

    `version` is Keras's, of a file of the former kind, whose layers lie in "model_weights"; else None.
    """

    def __init__(self, h5py, file, size):
        self.h5py, self.file, self.left, self.version = h5py, file, size, None

    def texts(self, obj, name):
        """Return an attribute of at most `MAX_MEMBERS` texts, or one, as a list of them."""
        if name not in obj.attrs:
            raise FormatError(f"{obj.name} has no attribute {name}")
        attribute = obj.attrs.get_id(name)
        count = attribute.get_space().get_simple_extent_npoints()
        if count == 0:
            return []
        text = isinstance(attribute.get_type(), self.h5py.h5t.TypeStringID)
        if not text or count > MAX_MEMBERS or attribute.get_storage_size() > MAX_TEXT:
            raise FormatError(f"{obj.name}: attribute {name} is no text, or too long")
        value = obj.attrs[name]
        values = [value] if isinstance(value, (str, bytes)) else list(value.ravel())
        return [own.decode() if isinstance(own, bytes) else str(own) for own in values]

    def text(self, obj, name):
        """Return an attribute of one text."""
        (value,) = self.texts(obj, name)
        return value

    def named(self, layer):
        """Return the data sets of a layer of a file of the former kind, checked and not yet read."""
        group = self.group(self.file, "model_weights", layer)
        if group is None:
            raise FormatError(f"it has no weights of the layer {shorten(layer)}")
        found = []
        for name in self.texts(group, "weight_names"):
            *path, last = name.split("/")
            inner = self.group(group, *path)
            if inner is None or self.get(inner, last, self.h5py.Dataset) is None:
                raise FormatError(f"the layer {shorten(layer)} has no {shorten(name)}")
            found.append((name, self._data(inner, last)))
        return found

    def names(self, group):
        """Names within a group, at most `MAX_MEMBERS`."""
        names = list(itertools.islice(iter(group), MAX_MEMBERS + 1))
        if len(names) > MAX_MEMBERS:
            raise FormatError(f"{group.name} has more than {MAX_MEMBERS} members")
        return names

    def get(self, group, name, cls):
        """Return a member of a group, of the class `cls`, or None; links to other places are refused."""
        link = group.get(name, getlink=True)
        if link is None:
            return None
        if type(link) is not self.h5py.HardLink:
            raise FormatError(f"{shorten(name)} is {type(link).__name__}; expected what lies in this file")
        if group.get(name, getclass=True) is not cls:
            raise FormatError(f"{shorten(name)} is not {cls.__name__}")
        return group[name]

    def group(self, group, *path):
        """Return the group at this path, or None."""
        for name in path:
            group = None if group is None else self.get(group, name, self.h5py.Group)
        return group

    def arrays(self, group, *path):
        """Return the data sets "0", "1", ... of the group at this path, checked and not yet read."""
        group = self.group(group, *path)
        if group is None:
            return []
        names = self.names(group)
        check_names(f"{group.name}", names, map(str, range(len(names))))
        return [self._data(group, str(k)) for k in range(len(names))]

    def _data(self, group, name):
        data = self.get(group, name, self.h5py.Dataset)
        h5d, h5t, where = self.h5py.h5d, self.h5py.h5t, shorten(data.name)
        plan = data.id.get_create_plist()
        if plan.get_layout() == h5d.VIRTUAL or data.is_virtual:
            raise FormatError(f"{where} is virtual; expected numbers in this file")
        if plan.get_external_count():
            raise FormatError(f"{where} is stored outside; expected numbers in this file")
        if plan.get_layout() not in (h5d.CONTIGUOUS, h5d.COMPACT) or plan.get_nfilters():
            raise FormatError(f"{where} is chunked or compressed, as Keras does not write")
        kind = data.id.get_type()
        if not any(kind.equal(t) for t in (h5t.IEEE_F32LE, h5t.IEEE_F32BE, h5t.IEEE_F64LE, h5t.IEEE_F64BE)):
            raise FormatError(f"{where} is {data.dtype}; expected float32 or float64")
        if data.shape is None or not 1 <= len(data.shape) <= 2 or 0 in data.shape:
            raise FormatError(f"{where} has shape {data.shape}; expected a matrix or a vector")
        # What is stored bounds what is read: many data sets may name the same bytes.
        nbytes = math.prod(data.shape) * kind.get_size()
        self.left -= nbytes
        if data.id.get_storage_size() != nbytes or self.left < 0:
            raise FormatError(f"{where} has shape {data.shape}, and the file has not so many bytes for it")
        return data
