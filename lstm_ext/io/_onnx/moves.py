"""Operators that move numbers, or compute sizes: what comes out holds the numbers that went in."""

from dataclasses import replace

import numpy as np

from lstm_ext.io._common import FormatError, shorten
from lstm_ext.io._onnx.graph import MAX_NODES, operator
from lstm_ext.io._onnx.values import (
    INT32,
    INT64,
    MAX_RANK,
    Constant,
    Filled,
    Product,
    Signal,
    Sizes,
    over,
    plus,
    times,
)

_END = 2**31 - 1  # from here on an end means the end of an axis


# ---- kinds, shapes


@operator("Cast", to="INT", saturate="INT", round_mode="STRING")
def _cast(graph, where, value, *, to=None, **given):
    whole = (INT32, INT64)
    if isinstance(value, Sizes) and to in whole:
        return value
    if isinstance(value, Signal) and value.what == "all steps" and to in whole:
        return value
    if isinstance(value, Signal) and value.what == "input":
        kind = graph.kinds[value.name]
        if to == kind or (to in whole and kind in whole):
            return value
    graph.refuse(where, value, "another dtype of")


@operator("Shape", start="INT", end="INT")
def _shape(graph, where, value, *, start=0, end=None):
    if isinstance(value, Signal):
        sizes = value.sizes
    elif isinstance(value, Constant):
        sizes = value.array.shape
    elif isinstance(value, Sizes):
        sizes = () if value.scalar else (len(value.values),)
    else:
        graph.refuse(where, value, "the shape of")
    return Sizes(sizes[slice(start, end)])


@operator("ConstantOfShape", value="TENSOR")
def _constant_of_shape(graph, where, shape, *, value=None):
    if value is not None and value.dtype.kind == "i" and value.size == 1 and isinstance(shape, Sizes):
        count = shape.values[0] if len(shape.values) == 1 else None
        if isinstance(count, int) and 0 <= count <= MAX_RANK:
            return Sizes(tuple(value.ravel().tolist()) * count)
    if value is not None and value.any():
        raise FormatError(f"{where}: expected zeros")
    return Filled()


@operator("Expand", of_zeros=True)
def _expand(graph, where, value, shape):
    if isinstance(value, Sizes) and isinstance(shape, Sizes) and len(value.values) == len(shape.values) == 1:
        return Signal("all steps", ("N",), shape.values, value.values)  # one number for each sequence
    if isinstance(value, Constant) and value.array.dtype.kind == "f":
        array = value.array
        if not array.any():
            return Filled()
        if array.ndim == 3 and array.shape[1] == 1 and isinstance(shape, Sizes) and len(shape.values) == 3:
            if all(s in (1, d) for s, d in zip(shape.values[::2], array.shape[::2], strict=True)):
                return Filled(array)
    graph.refuse(where, value, "expanding")


@operator("Transpose", of_zeros=True, perm="INTS")
def _transpose(graph, where, value, *, perm=None):
    if not isinstance(value, (Constant, Signal)):
        graph.refuse(where, value, "transposing")
    rank = value.array.ndim if isinstance(value, Constant) else len(value.axes)
    order = list(range(rank))[::-1] if perm is None else perm
    if sorted(order) != list(range(rank)):
        raise FormatError(f"{where}: perm is {shorten(str(order))}; expected an order of {rank} axes")
    return Constant(value.array.transpose(order)) if isinstance(value, Constant) else value.pick(order)


@operator("Squeeze", of_zeros=True, axes="INTS")
def _squeeze(graph, where, value, given=None, *, axes=None):
    axes = graph.axes(where, axes, given)
    if isinstance(value, Sizes) and len(value.values) == 1 and axes in (None, [0], [-1]):
        return Sizes(value.values, True)
    if isinstance(value, Constant):
        shape = value.array.shape
        axes = [k for k, n in enumerate(shape) if n == 1] if axes is None else axes
        axes = {graph.axis(where, axis, len(shape)) for axis in axes}
        if any(shape[axis] != 1 for axis in axes):
            raise FormatError(f"{where}: axes is {sorted(axes)}, of the shape {shape}")
        return Constant(value.array.reshape([n for k, n in enumerate(shape) if k not in axes]))
    if isinstance(value, Signal) and axes is not None:
        axes = {graph.axis(where, axis, len(value.axes)) for axis in axes}
        if all(value.sizes[k] == 1 and value.axes[k] in ("D", "1", "O") for k in axes):
            return value.pick([k for k in range(len(value.axes)) if k not in axes])
    graph.refuse(where, value, "squeezing")


@operator("Unsqueeze", of_zeros=True, axes="INTS")
def _unsqueeze(graph, where, value, given=None, *, axes=None):
    axes = graph.axes(where, axes, given)
    if axes is None or len(axes) > MAX_RANK:
        raise FormatError(f"{where}: it says no axes, or too many")
    if isinstance(value, Sizes) and value.scalar and axes in ([0], [-1]):
        return Sizes(value.values)
    if not isinstance(value, (Constant, Signal)):
        graph.refuse(where, value, "unsqueezing")
    rank = value.array.ndim if isinstance(value, Constant) else len(value.axes)
    if rank + len(axes) > MAX_RANK:
        raise FormatError(f"{where}: more than {MAX_RANK} axes")
    new = {graph.axis(where, axis, rank + len(axes)) for axis in axes}
    if len(new) != len(axes):
        raise FormatError(f"{where}: axes is {axes}: one occurs twice")
    if isinstance(value, Constant):
        return Constant(np.expand_dims(value.array, tuple(new)))
    old = iter(range(rank))
    order = [None if k in new else next(old) for k in range(rank + len(axes))]
    return replace(
        value,
        axes=tuple("1" if k is None else value.axes[k] for k in order),
        sizes=tuple(1 if k is None else value.sizes[k] for k in order),
    )


# ---- new shapes: neighboring axes joined, or taken apart again


@operator("Reshape", of_zeros=True, allowzero="INT")
def _reshape(graph, where, value, shape, *, allowzero=0):
    if not isinstance(shape, Sizes) or shape.values.count(-1) > 1:
        raise FormatError(f"{where}: its new shape does not stand in the file")
    if allowzero and 0 in shape.values:
        raise FormatError(f"{where}: a new shape without numbers cannot be taken over")
    if isinstance(value, Sizes):
        n = len(value.values)
        if shape.values in ((-1,), (n,)) or (shape.values == () and n == 1):
            return Sizes(value.values, not shape.values)
        if all(isinstance(size, int) for size in value.values):
            value = Constant(np.array(value.values[0] if value.scalar else value.values, np.int64))
    if isinstance(value, Constant) and all(isinstance(n, int) for n in shape.values):
        old = value.array.shape
        new = [old[k] if n == 0 and k < len(old) else n for k, n in enumerate(shape.values)]
        try:
            return Constant(value.array.reshape(new))
        except (ValueError, OverflowError) as error:
            raise FormatError(f"{where}: {error}") from None
    if isinstance(value, Signal):
        return _reshaped(graph, where, value, shape.values)
    graph.refuse(where, value, "reshaping")


@operator("Flatten", axis="INT")
def _flatten(graph, where, value, *, axis=1):
    if not isinstance(value, Signal):
        graph.refuse(where, value, "flattening")
    axis = axis if axis == len(value.axes) else graph.axis(where, axis, len(value.axes))
    both = times(*value.sizes[:axis]), times(*value.sizes[axis:])
    if None in both:
        graph.refuse(where, value, "flattening")
    return _reshaped(graph, where, value, both)


def atoms(value):
    """Return the axes of a signal, joined ones taken apart: (label, size) of each."""
    found = []
    for label, size in zip(value.axes, value.sizes, strict=True):
        if isinstance(label, tuple):
            found += label
        elif label == "DF":
            found += [("D", len(value.rows)), ("F", size // len(value.rows))]
        else:
            found.append((label, size))
    return found


def _reshaped(graph, where, value, shape):
    """`value` with neighboring axes joined, or taken apart again, and units dropped or added.

    Numbers keep their order, so a new axis is right where it is the product of some that follow each
    other.
    """
    value = _settled(graph, value)
    wanted = [value.sizes[k] if n == 0 and k < len(value.sizes) else n for k, n in enumerate(shape)]
    wanted = [graph.settled_size(n) for n in wanted]
    label, size = atoms(value)[0] if value.axes else (None, None)
    if label == "T" and isinstance(size, str) and wanted and isinstance(wanted[0], int) and wanted[0] > 1:
        # An exporter has written the number of steps that it was shown: the graph is for so many.
        graph.fixed[size] = wanted[0]
        value = _settled(graph, value)
        wanted = [graph.settled_size(n) for n in wanted]
    if -1 in wanted:
        total, known = times(*value.sizes), times(*(n for n in wanted if n != -1))
        rest = None if None in (total, known) else over(total, known)
        if rest is None:
            graph.refuse(where, value, f"reshaping to {shorten(str(shape))}")
        wanted[wanted.index(-1)] = rest
    left, axes = atoms(value), []
    for n in wanted:
        group = []
        if n == 1:
            if left and left[0][1] == 1:
                group.append(left.pop(0))
        else:
            while left and left[0][1] == 1 and left[0][0] in ("1", "D"):
                left.pop(0)
            size = 1
            while left and size != n:
                group.append(left.pop(0))
                size = times(size, group[-1][1])
            if size != n:
                graph.refuse(where, value, f"reshaping to {shorten(str(shape))}")
        axes.append(_joined_axis(group, n))
    if any(size != 1 or label not in ("1", "D") for label, size in left):
        graph.refuse(where, value, f"reshaping to {shorten(str(shape))}")
    return replace(value, axes=tuple(label for label, _ in axes), sizes=tuple(n for _, n in axes))


def _settled(graph, value):
    """Return a signal whose sizes are settled."""
    axes = tuple(
        tuple((part, graph.settled_size(n)) for part, n in label) if isinstance(label, tuple) else label
        for label in value.axes
    )
    return replace(value, axes=axes, sizes=tuple(graph.settled_size(n) for n in value.sizes))


def _joined_axis(group, size):
    """Return the label of an axis made of `group`, and its size."""
    group = [part for part in group if part[1] != 1 or part[0] not in ("1", "D")] or group
    labels = tuple(label for label, _ in group)
    if not group:
        return "1", 1
    if len(group) == 1:
        return labels[0], size
    return ("DF" if labels == ("D", "F") else tuple(group)), size


# ---- parts


@operator("Gather", of_zeros=True, axis="INT")
def _gather(graph, where, value, indices, *, axis=0):
    if isinstance(value, Signal):
        indices = _from_the_end(graph, where, axis, value.sizes, indices)
    picked = graph.integers(where, indices)
    if isinstance(value, Sizes) and not value.scalar and axis in (0, -1):
        found = tuple(value.values[graph.axis(where, k, len(value.values))] for k in picked)
        return Sizes(found, indices.scalar)
    if isinstance(value, Signal) and len(picked) == 1 and indices.scalar:
        axis = graph.axis(where, axis, len(value.axes))
        return part(graph, where, value, axis, picked[0], None)
    graph.refuse(where, value, "gathering from")


def _from_the_end(graph, where, axis, sizes, given):
    """Return integers, those that are the size of an axis less a number counted from its end."""
    if not isinstance(given, Sizes) or all(isinstance(v, int) for v in given.values):
        return given
    size, found = sizes[graph.axis(where, axis, len(sizes))], []
    for value in given.values:
        if value == size:
            value = 2**31
        elif isinstance(value, Product) and plus(value, value.added, -1) == size and value.added < 0:
            value = value.added
        found.append(value)
    return Sizes(tuple(found), given.scalar)


@operator("Slice", of_zeros=True, axes="INTS", starts="INTS", ends="INTS")
def _slice(graph, where, value, from_=None, to=None, along=None, steps=None, *, axes=None, starts=None,
           ends=None):
    if from_ is None:  # before version 10
        if starts is None or ends is None:
            raise FormatError(f"{where}: it has no starts, or no ends")
    else:
        axes = None if along is None else graph.integers(where, along)
        if isinstance(value, Signal) and axes is not None and len(axes) == 1:
            from_, to = (_from_the_end(graph, where, axes[0], value.sizes, bound) for bound in (from_, to))
        starts, ends = graph.integers(where, from_), graph.integers(where, to)
        if steps is not None and set(graph.integers(where, steps)) - {1}:
            raise FormatError(f"{where}: steps other than 1 cannot be taken over")
    axes = list(range(len(starts))) if axes is None else axes
    if not len(starts) == len(ends) == len(axes) == len(set(axes)):
        raise FormatError(f"{where}: starts, ends and axes are not of one length")
    if isinstance(value, Sizes) and not value.scalar and axes in ([0], [-1]):
        return Sizes(value.values[starts[0] : ends[0]])
    if isinstance(value, Filled) and set(axes) <= {0}:
        return Filled(value.row[starts[0] : ends[0]] if axes else value.row)
    if isinstance(value, Constant):
        index = [slice(None)] * value.array.ndim
        for axis, start, end in zip(axes, starts, ends, strict=True):
            index[graph.axis(where, axis, value.array.ndim)] = slice(start, end)
        return Constant(value.array[tuple(index)])
    if isinstance(value, Signal):
        for axis, start, end in zip(axes, starts, ends, strict=True):
            value = part(graph, where, value, graph.axis(where, axis, len(value.axes)), start, end)
        return value
    graph.refuse(where, value, "slicing")


def part(graph, where, value, axis, start, end):
    """Return the part from `start` to `end` on one axis; end None: one index, and the axis gone."""
    label, size = value.axes[axis], value.sizes[axis]
    if end is not None and start == 0 and end >= (size if isinstance(size, int) else _END):
        return value
    rows = value.rows
    if value.what == "input" and rows is None and isinstance(size, int) and 0 < size <= 2 * MAX_NODES:
        rows = range(size)
    if (label == "D" or (value.what == "input" and label == 0)) and rows is not None:
        if end is None:
            return replace(_without(value, axis), rows=(rows[graph.axis(where, start, len(rows))],))
        picked = tuple(rows[start:end])
        return replace(_resized(value, axis, label, len(picked)), rows=picked)
    if label == "DF" and end is not None and len(rows) > 1:  # the features of some rows
        each = size // len(rows)
        start, end, _ = slice(start, end).indices(size)
        if end > start and not start % each and not end % each:
            picked = rows[start // each : end // each]
            label = "F" if len(picked) == 1 else "DF"
            return replace(_resized(value, axis, label, end - start), rows=picked)
    if value.what == "y" and label == "T":
        last = start == -1 and (end is None or end >= _END)
        if last or (start == 0 and end in (None, 1)):
            value = replace(value, what="last step" if last else "first step")
            return _without(value, axis) if end is None else _resized(value, axis, "1", 1)
    graph.refuse(where, value, "a part of")


def _without(value, axis):
    return value.pick([k for k in range(len(value.axes)) if k != axis])


def _resized(value, axis, label, size):
    return replace(
        value, axes=(*value.axes[:axis], label, *value.axes[axis + 1 :]),
        sizes=(*value.sizes[:axis], size, *value.sizes[axis + 1 :]),
    )


def state_of(graph, where, value):
    """Return the last or first step of y as the final state that it is, or refuse it; others as they are.

    An LSTM has written its final state at the last step that it reads, which is the first one of the
    direction that reads backward.
    """
    if not (isinstance(value, Signal) and value.what in ("last step", "first step")):
        return value
    if graph.lengths is None and all(
        graph.layers[k].backward(d) == (value.what == "first step") for k, d in value.rows
    ):
        return replace(value, what="h")
    raise FormatError(
        f"{where}: the {value.what} of y is h_n only where an LSTM reads "
        f"{'forward' if value.what == 'last step' else 'backward'} and all sequences are of one length; read "
        "Y_h instead"
    )


@operator("Split", axis="INT", split="INTS", num_outputs="INT")
def _split(graph, where, value, given=None, *, axis=0, split=None, num_outputs=None):
    if not isinstance(value, Signal):
        graph.refuse(where, value, "splitting")
    axis = graph.axis(where, axis, len(value.axes))
    size = value.sizes[axis]
    if not isinstance(size, int):
        graph.refuse(where, value, "splitting")
    if given is not None or split is not None:
        pieces = split or graph.integers(where, given)
    else:
        count = size if num_outputs is None else num_outputs
        if not 1 <= count <= size:
            raise FormatError(f"{where}: {count} parts of {size}")
        each = -(-size // count)
        pieces = [each] * (size // each) + ([size % each] if size % each else [])
    if len(pieces) > MAX_NODES or any(n < 1 for n in pieces) or sum(pieces) != size:
        raise FormatError(f"{where}: parts of {shorten(str(pieces))} are not {size}")
    ends = np.cumsum(pieces).tolist()
    return tuple(
        part(graph, where, value, axis, end - n, end) for n, end in zip(pieces, ends, strict=True)
    )


@operator("Concat", axis="INT")
def _concat(graph, where, *values, axis=0):
    if values and all(isinstance(value, Sizes) and not value.scalar for value in values):
        joined = sum((value.values for value in values), ())
        if len(joined) <= MAX_RANK and axis in (0, -1):
            return Sizes(joined)
    if values and all(isinstance(value, Filled) and value.row is None for value in values):
        return values[0]
    if values and all(isinstance(value, Constant) for value in values):
        graph.joined += sum(value.array.nbytes for value in values)
        if graph.joined > 4 * graph.budget:
            raise FormatError(f"{where}: the file joins more numbers than it holds")
        try:
            return Constant(np.concatenate([value.array for value in values], axis))
        except (ValueError, OverflowError) as error:
            raise FormatError(f"{where}: {error}") from None
    values = [state_of(graph, where, value) for value in values]
    if values and all(isinstance(value, Signal) for value in values):
        first = values[0]
        axis = graph.axis(where, axis, len(first.axes))
        label = first.axes[axis]
        alike = all((v.what, v.axes) == (first.what, first.axes) for v in values)
        if alike and first.what == "prediction" and label == "O":
            return side_by_side(graph, where, values)
        each = {(v.rows and v.sizes[axis] // len(v.rows)) for v in values if label != "D"}
        if alike and first.what in ("y", "h", "c") and label in ("D", "F", "DF") and len(each) < 2:
            rows = sum((value.rows for value in values), ())
            size = sum(value.sizes[axis] for value in values)
            label = "D" if label == "D" else "DF" if len(rows) > 1 else "F"
            return replace(_resized(first, axis, label, size), rows=rows)
    graph.refuse(where, values[0] if values else None, "joining")


def side_by_side(graph, where, values):
    """Return several readouts of one thing as one readout, whose outputs stand beside one another."""
    first, heads = values[0], [value.head for value in values]
    joint = first.head.function in (None, "sigmoid")  # a softmax would run over the outputs of all
    for value, head in zip(values, heads, strict=True):
        same = (value.axes, head.what, head.function, head.masked) == (
            first.axes, first.head.what, first.head.function, first.head.masked)
        pooled = head.vector is first.head.vector or np.array_equal(head.vector, first.head.vector)
        if not (joint and same and pooled and value.axes[-1] == "O"):
            raise FormatError(
                f"{where}: its readouts do not read the same in the same way, linear or with a sigmoid; "
                "expected one graph for each"
            )
    bias = None
    if any(head.bias is not None for head in heads):
        zeros = np.zeros(1, first.head.weight.dtype)
        bias = np.concatenate([
            np.broadcast_to(zeros if head.bias is None else head.bias, len(head.weight)) for head in heads
        ])
    weight = np.concatenate([head.weight for head in heads])
    graph.held += weight.nbytes
    if graph.held > 4 * graph.budget + 2**24:
        raise FormatError(f"{where}: the readouts would take more memory than the file")
    return replace(
        first, sizes=(*first.sizes[:-1], len(weight)), head=replace(first.head, weight=weight, bias=bias)
    )


# ---- which steps count: Where(Less(Range(0, T), lengths), prediction, 0), as to_onnx writes it


@operator("Range")
def _range(graph, where, start, limit, delta):
    if all(isinstance(value, Sizes) and value.scalar for value in (start, limit, delta)):
        if start.values == (0,) and delta.values == (1,):
            return Signal("steps", ("T",), limit.values)
    raise FormatError(f"{where}: expected a range over all steps")


@operator("Less")
def _less(graph, where, steps, lengths):
    if not (isinstance(steps, Signal) and isinstance(lengths, Signal)):
        graph.refuse(where, steps, "comparing")
    if not (steps.what == "steps" and lengths.what == "input" and lengths.name == graph.lengths):
        graph.refuse(where, steps, "comparing")
    if steps.axes == ("T",) and lengths.axes == (0, "1"):
        return Signal("counted", ("N", "T"), (lengths.sizes[0], steps.sizes[0]))
    graph.refuse(where, lengths, "comparing")


@operator("Where")
def _where(graph, where, counted, one, other):
    if isinstance(counted, Constant) and isinstance(one, Sizes) and isinstance(other, Sizes):
        choice = counted.array.ravel().tolist()
        if len(choice) == len(one.values) == len(other.values):
            return Sizes(tuple(
                a if yes else b for yes, a, b in zip(choice, one.values, other.values, strict=True)
            ))
    if isinstance(counted, Signal) and isinstance(one, Signal):
        if counted.what == "counted" and counted.axes == ("N", "T", "1"):
            if one.what == "prediction" and one.axes == ("N", "T", "O"):
                if isinstance(other, Constant) and other.array.size == 1 and not other.array.any():
                    return replace(one, head=replace(one.head, masked=True))
    graph.refuse(where, one, "a choice of")


# ---- sizes


@operator("Equal")
def _equal(graph, where, first, second):
    if isinstance(first, Sizes) and isinstance(second, Sizes) and len(first.values) == len(second.values):
        found = []
        for pair in zip(first.values, second.values, strict=True):
            numbers = [v for v in pair if isinstance(v, int)]
            if len(numbers) == 2:
                found.append(numbers[0] == numbers[1])
            elif len(numbers) == 1 and numbers[0] < 0 and any(isinstance(v, str) for v in pair):
                found.append(False)  # a size is not negative
        if len(found) == len(first.values):
            return Constant(np.array(found[0] if first.scalar and second.scalar else found))
    raise FormatError(f"{where}: it compares sizes that are not known before the call")
