"""Archives of torch.save, TorchScript and torch.export, read without PyTorch. Nothing is unpickled.

The pickle in such an archive is a program that may call any function. Here its instructions are read as a
description: what would be called is written down by name, and only what makes a tensor of a storage in the
same archive is understood. So no class is looked up, nothing is imported and nothing runs.
"""

import io
import math
import pickletools
import re
import zipfile

import numpy as np

from lstm_ext._files import MAX_BYTES, MAX_TEXT, open_archive, size_of
from lstm_ext.io._common import FormatError, parse_json, shorten

MAX_MEMBERS = 4096
MAX_INSTRUCTIONS = 2**17  # a tensor takes 30
MAX_PICKLE = 2**22
MAX_DEPTH = 32
MAX_VISITS = 2**16
# Dtypes by the names of their storages, and by the numbers of torch.export.
STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
}
SCALARS = {6: "float16", 7: "float32", 8: "float64", 13: "bfloat16"}
# Where state dicts are within what people save: Lightning's and other training scripts'.
STATES = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights")


def as_float32(array):
    """Return an array of float16, or bits of bfloat16 as uint16, as the float32 that has the same numbers."""
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return (array.astype(np.uint32) << 16).view(np.float32)


class Tensor:
    """A tensor in an archive, not yet read: its dtype, its shape and where its numbers are."""

    def __init__(self, kind, key, count, offset, shape, strides):
        self.kind, self.key, self.count, self.offset = kind, key, count, offset
        self.shape, self.strides, self.archive = shape, strides, None

    def read(self):
        """Return the numbers, float32 or float64."""
        return self.archive.numbers(self)


class Named:
    """Something that the pickle would have made by calling this name; its state is data, the rest is gone."""

    def __init__(self, name):
        self.name, self.state = name, None


class Archive:
    """The tensors of an archive by name, as a state dict has them.

    Attributes
    ----------
    tensors : dict of Tensor
    modules : dict
        Of a whole pickled module, the attributes of each ``torch.nn.LSTM`` by its place.
    """

    def __init__(self, file):
        # Views of one storage, as cuDNN makes them of all weights, may overlap: four times the file, at most.
        self._left, self._storages = 4 * size_of(file), {}
        self._zip = open_archive(file, MAX_MEMBERS, larger=True)
        self._members = {info.filename: info for info in self._zip.infolist()}
        roots = {name.partition("/")[0] for name in self._members}
        if len(roots) != 1:
            raise FormatError("it is a zip archive, and not one of PyTorch: it has more than one folder")
        self._root = roots.pop() + "/"
        self._little = self._byte_order()
        self.tensors, self.modules = {}, {}
        if "data/weights/model_weights_config.json" in self:
            self._of_export()
        elif "serialized_state_dict.pt" in self:
            inner = Archive(io.BytesIO(self._bytes("serialized_state_dict.pt", MAX_BYTES)))
            self.tensors, self.modules = inner.tensors, inner.modules
        elif "data.pkl" in self:
            self._of_pickle()
        else:
            raise FormatError("it is a zip archive, and not one of torch.save, torch.jit or torch.export")

    def __contains__(self, name):
        return self._root + name in self._members

    def _byte_order(self):
        order = self._bytes("byteorder", 16) if "byteorder" in self else b"little"
        if order not in (b"little", b"big"):
            raise FormatError(f"its byteorder is {shorten(repr(order))}; expected little or big")
        return order == b"little"

    def _bytes(self, name, most):
        """Return a member that is stored as it is, and has at most `most` bytes."""
        info = self._members.get(self._root + name)
        if info is None:
            raise FormatError(f"it has no {shorten(name)}")
        if info.file_size != info.compress_size or info.compress_type != zipfile.ZIP_STORED:
            raise FormatError(f"{shorten(name)} is compressed; expected an archive as PyTorch writes it")
        if info.file_size > most:
            raise FormatError(f"{shorten(name)} has {info.file_size} bytes; expected at most {most}")
        return self._zip.read(info)

    def numbers(self, tensor):
        """Return the numbers of a tensor, after what is said of it has been held against the bytes."""
        kind = tensor.kind
        if kind not in STORAGES.values():
            raise FormatError(
                f"a tensor is {shorten(str(kind))}; expected float32, float64, float16 or bfloat16"
            )
        dtype = np.dtype("uint16" if kind == "bfloat16" else kind).newbyteorder("<" if self._little else ">")
        count = math.prod(tensor.shape)
        last = tensor.offset + sum(
            (n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True)
        )
        if count > tensor.count or (count and last >= tensor.count):
            raise FormatError(
                f"a tensor of shape {shorten(str(tensor.shape))} has more numbers than its storage: "
                f"{tensor.count}"
            )
        self._left -= count * dtype.itemsize
        if self._left < 0:
            raise FormatError("its tensors together have more numbers than the file")
        if tensor.key not in self._storages:
            self._storages[tensor.key] = self._bytes(tensor.key, MAX_BYTES)
        content = self._storages[tensor.key]
        if len(content) < tensor.count * dtype.itemsize:
            raise FormatError(f"{shorten(tensor.key)} has {len(content)} bytes for {tensor.count} numbers")
        flat = np.frombuffer(content, dtype, tensor.count)[tensor.offset :]
        view = np.lib.stride_tricks.as_strided(
            flat, tensor.shape, [stride * dtype.itemsize for stride in tensor.strides]
        )
        array = np.array(view, dtype.newbyteorder("="), order="C")  # a scalar stays one
        return as_float32(array) if array.dtype.itemsize == 2 else array

    # ---- torch.export: a JSON text of names, shapes and files

    def _of_export(self):
        name = "data/weights/model_weights_config.json"
        for key, entry in parse_json(self._bytes(name, MAX_TEXT).decode(), name)["config"].items():
            meta = entry["tensor_meta"]
            sizes, strides = (tuple(n["as_int"] for n in meta[word]) for word in ("sizes", "strides"))
            offset, path = meta["storage_offset"]["as_int"], f"data/weights/{entry['path_name']}"
            kind = SCALARS.get(meta["dtype"], f"of dtype {meta['dtype']}")
            kind = "a pickle" if entry["use_pickle"] else kind
            info = self._members.get(self._root + path)
            if info is None:
                raise FormatError(f"it has no {shorten(path)}")
            width = {"float64": 8, "float32": 4}.get(kind, 2)
            self._add(key, Tensor(kind, path, info.file_size // width, offset, sizes, strides))

    def _add(self, name, tensor):
        for word, values in (("shape", tensor.shape), ("strides", tensor.strides)):
            if len(values) > 8 or not all(type(n) is int and 0 <= n < 2**31 for n in values):
                raise FormatError(f"{shorten(name)} has the {word} {shorten(str(values))}")
        numbers = (tensor.offset, tensor.count)
        if len(tensor.shape) != len(tensor.strides) or not all(type(n) is int and 0 <= n for n in numbers):
            raise FormatError(f"{shorten(name)} has other strides than sizes, or begins nowhere")
        tensor.archive = self
        self.tensors[name] = tensor

    # ---- torch.save and TorchScript: a pickle that names storages

    def _of_pickle(self):
        value = described(self._bytes("data.pkl", MAX_PICKLE))
        if isinstance(value, dict) and not any(isinstance(own, Tensor) for own in value.values()):
            inner = [key for key in STATES if isinstance(value.get(key), (dict, Named))]
            if not inner:
                keys = ", ".join(shorten(str(key), 30) for key in list(value)[:8])
                raise FormatError(
                    f"it has no tensors, and no state dict under {', '.join(STATES)}, but "
                    f"{keys or 'nothing'}; expected torch.save(module.state_dict(), path)"
                )
            value = value[inner[0]]
        self._visits = 0
        self._walk(value, "", 0)

    def _walk(self, value, name, depth):
        self._visits += 1
        if self._visits > MAX_VISITS or depth > MAX_DEPTH:
            raise FormatError(f"it has more than {MAX_VISITS} parts, or more than {MAX_DEPTH} in one another")
        if isinstance(value, Tensor):
            self._add(name, value)
        elif isinstance(value, Named):
            state = value.state
            if not isinstance(state, dict):
                return
            if value.name == "torch.nn.modules.rnn LSTM":
                plain = {key: own for key, own in state.items() if isinstance(own, (bool, int, float, str))}
                self.modules[name] = plain
            if isinstance(state.get("_modules"), dict):  # a module of Python's
                for part in ("_parameters", "_buffers", "_modules"):
                    self._walk(state.get(part), name, depth + 1)
            else:  # one of TorchScript's
                self._walk(state, name, depth + 1)
        elif isinstance(value, dict):
            for key, own in value.items():
                if isinstance(key, str):
                    self._walk(own, f"{name}.{key}" if name else key, depth + 1)


# ---- the pickle as a description

_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TEXTS = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"}
_OTHERS = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "BINFLOAT", "FLOAT", "SHORT_BINBYTES",
    "BINBYTES", "BINBYTES8", "SHORT_BINSTRING", "BINSTRING", "STRING",
}
_SIZES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# What a value is passed through as it is.
_THROUGH = {
    "torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state",
    "torch.jit._pickle build_tensorlist", "torch.jit._pickle build_intlist",
    "torch.jit._pickle restore_type_tag",
}


def described(content):
    """Return what a pickle describes: dict, list, tuple, numbers, texts, `Tensor`s and `Named` things."""
    stack, memo, steps = [], {}, 0

    def pop():
        value = stack.pop()
        if value is _MARK:
            raise FormatError("its pickle takes more than it has put")
        return value

    def popped():
        values = []
        while True:
            value = stack.pop()
            if value is _MARK:
                return values[::-1]
            values.append(value)

    try:
        for instruction, argument, _ in pickletools.genops(content):
            name = instruction.name
            steps += 1
            if steps > MAX_INSTRUCTIONS:
                raise FormatError(f"its pickle has more than {MAX_INSTRUCTIONS} instructions")
            if name in ("PROTO", "FRAME"):
                continue
            if name == "STOP":
                return pop()
            if name == "MARK":
                stack.append(_MARK)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name in _TEXTS or name in _OTHERS:
                stack.append(argument)
            elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET", "GET"):
                stack.append(memo[argument])
            elif name in _SIZES:
                size = _SIZES[name]
                values = tuple(pop() for _ in range(size))[::-1]
                stack.append(values)
            elif name == "TUPLE":
                stack.append(tuple(popped()))
            elif name in ("EMPTY_LIST", "EMPTY_SET"):
                stack.append([])
            elif name == "EMPTY_DICT":
                stack.append({})
            elif name == "LIST":
                stack.append(popped())
            elif name == "DICT":
                stack.append({})
                _set(stack[-1], popped())
            elif name in ("APPEND", "APPENDS", "ADDITEMS"):
                values = [pop()] if name == "APPEND" else popped()
                if isinstance(stack[-1], list):
                    stack[-1].extend(values)
            elif name in ("SETITEM", "SETITEMS"):
                values = [pop(), pop()][::-1] if name == "SETITEM" else popped()
                _set(stack[-1], values)
            elif name == "GLOBAL":
                stack.append(Named(argument))
            elif name == "STACK_GLOBAL":
                member, module = pop(), pop()
                stack.append(Named(f"{module} {member}"))
            elif name in ("REDUCE", "NEWOBJ"):
                arguments, function = pop(), pop()
                stack.append(_called(function, arguments))
            elif name == "NEWOBJ_EX":
                pop(), pop()
                function = pop()
                stack.append(_called(function, ()))
            elif name == "BUILD":
                state = pop()
                if isinstance(stack[-1], Named):
                    stack[-1].state = state
            elif name == "BINPERSID":
                stack.append(_storage(pop()))
            elif name == "POP":
                pop()
            else:
                raise FormatError(f"its pickle has the instruction {name}, which PyTorch does not write")
    except (IndexError, KeyError) as error:
        raise FormatError(f"its pickle is damaged: {type(error).__name__}") from None
    except FormatError:
        raise
    except ValueError as error:  # of genops, for numbers and texts that are cut off
        raise FormatError(f"its pickle is damaged: {error}") from None
    raise FormatError("its pickle has no end")


def _set(target, values):
    if isinstance(target, dict):
        for key, value in zip(values[::2], values[1::2], strict=True):
            if isinstance(key, (str, int)):  # others are no names of parameters
                target[key] = value


class _Storage:
    def __init__(self, kind, key, count):
        self.kind, self.key, self.count = kind, key, count


def _storage(persistent):
    """Return the storage that a persistent id names: ("storage", class, key, device, numbers)."""
    if isinstance(persistent, tuple) and len(persistent) >= 5 and persistent[0] == "storage":
        _, kind, key, _, count = persistent[:5]
        if isinstance(kind, Named) and isinstance(key, str) and re.fullmatch(r"\w{1,64}", key):
            word = kind.name.rpartition(" ")[2]
            return _Storage(STORAGES.get(word, word), f"data/{key}", count)
    return None


def _called(function, arguments):
    """Return what a call would have made, of those that matter, or its name."""
    name = function.name if isinstance(function, Named) else ""
    if not isinstance(arguments, tuple):
        return Named(name)
    if name == "collections OrderedDict":
        return {}
    if name in _THROUGH and arguments:
        return arguments[0]
    if name == "torch._utils _rebuild_tensor_v2" and len(arguments) >= 4:
        storage, offset, shape, strides = arguments[:4]
        if isinstance(storage, _Storage) and isinstance(shape, tuple) and isinstance(strides, tuple):
            return Tensor(storage.kind, storage.key, storage.count, offset, shape, strides)
    return Named(name)
