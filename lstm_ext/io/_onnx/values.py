"""What a value of a graph may be, and sizes that are known when the graph runs."""

from dataclasses import dataclass, replace

import numpy as np

MAX_RANK = 8
FLOAT, INT32, INT64, DOUBLE = 1, 6, 7, 11  # TensorProto.DataType, without the library


@dataclass(frozen=True, eq=False)
class Constant:
    """Numbers that stand in the file."""

    array: np.ndarray


@dataclass(frozen=True)
class Sizes:
    """Sizes of axes: integers, or the names of what is not known before the call."""

    values: tuple
    scalar: bool = False


@dataclass(frozen=True, eq=False)
class Filled:
    """Initial states of any number of sequences: zeros, or `row` (D, 1, H) for each of them."""

    row: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Head:
    """A readout: prediction = weight signal + bias. A node that changes it makes another."""

    what: str  # it reads: "y", "h", "mean", "max" or "attention"
    weight: np.ndarray  # (O, F)
    bias: np.ndarray | None = None
    function: str | None = None  # after it: "softmax", "log_softmax" or "sigmoid"
    masked: bool = False  # whether what comes after the lengths is 0
    vector: np.ndarray | None = None  # of an attention


@dataclass(frozen=True)
class Signal:
    """Something that is known when the LSTM runs.

    what : "input"; "y", "h", "c"; "last step", "first step", "mean", "max", "attention" of y; "share", a
        softmax of scores over time, and "weighted", y times it; "prediction"; "steps" or "counted";
        "all steps", one size for each sequence
    axes : what each axis is: a number (of an input, its own axes), "T", "N", "D" (rows: directions, or
        layers and directions), "F" (features of one row), "DF" (of all rows, joined), "1" (a unit)
    sizes : the size of each axis, as in `Sizes`
    rows : which (layer, direction) it holds, in order; of an input, which of its first axis, None for all;
        of "all steps" the size
    name : of an input
    head : of a prediction; of "share", "weighted" and "attention" that of the scores
    """

    what: str
    axes: tuple
    sizes: tuple
    rows: tuple | None = ()
    name: str = ""
    head: Head | None = None

    def pick(self, order):
        """Return it with its axes in another order, or fewer."""
        return replace(
            self, axes=tuple(self.axes[k] for k in order), sizes=tuple(self.sizes[k] for k in order)
        )


@dataclass
class Layer:
    """One LSTM node."""

    node: str
    options: dict
    arrays: dict
    initial: tuple | None  # (h_0, c_0), each (D, H)

    @property
    def directions(self):
        """Number of directions."""
        return 2 if self.options["bidirectional"] else 1

    def backward(self, direction):
        """Return whether a direction reads from the end."""
        return direction == 1 or self.options["reverse"]


# ---- sizes that are known when the graph runs: (factor, names) of a product, and a number added to it


@dataclass(frozen=True)
class Product:
    """A factor times sizes that have names, plus a number."""

    factor: int
    names: tuple
    added: int = 0


def plain(factor, names, added=0):
    """Return a size in its simplest form: an int, the name of one, or a Product."""
    if not names or factor == 0:
        return added if names else factor + added
    if (factor, len(names), added) == (1, 1, 0):
        return names[0]
    return Product(factor, tuple(sorted(names)), added)


def parts(size):
    """Return (factor, names, added) of a size."""
    if isinstance(size, int):
        return size, (), 0
    return (1, (size,), 0) if isinstance(size, str) else (size.factor, size.names, size.added)


def times(*sizes):
    """Return the product of sizes, or None where it is none of these forms."""
    factor, names = 1, []
    for size in sizes:
        own, more, added = parts(size)
        if added:
            return None
        factor *= own
        names += more
    if len(names) > MAX_RANK or abs(factor) >= 2**62:
        return None
    return plain(factor, names)


def plus(first, second, sign=1):
    """Return the sum of two sizes, one of them a number, or None."""
    if isinstance(first, int) and isinstance(second, int):
        return first + sign * second
    if isinstance(second, int):
        factor, names, added = parts(first)
        return plain(factor, names, added + sign * second)
    if isinstance(first, int) and sign == 1:
        return plus(second, first)
    return 0 if first == second and sign == -1 else None


def over(total, known):
    """Return total / known, sizes of a product, or None."""
    (factor, names, added), (divisor, others, more) = parts(total), parts(known)
    names = list(names)
    if added or more or not divisor or factor % divisor:
        return None
    for name in others:
        if name not in names:
            return None
        names.remove(name)
    return plain(factor // divisor, names)


def difference(first, second):
    """Return one size less another, or None."""
    return plus(first, second, -1)


def quotient(total, known):
    """Return total / known as integers are divided, or None."""
    if isinstance(total, int) and isinstance(known, int):
        return total // known if total >= 0 and known > 0 else None
    return over(total, known)
