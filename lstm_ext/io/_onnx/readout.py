"""Readouts: linear functions of hidden states, what stands after them, and means over time."""

from dataclasses import replace

import numpy as np

from lstm_ext.io._common import FormatError, as_weights
from lstm_ext.io._onnx.graph import operator
from lstm_ext.io._onnx.moves import atoms, state_of
from lstm_ext.io._onnx.values import Constant, Head, Signal, difference, plus, quotient, times

READ = {"y": (("N", "T"), ("T", "N")), "h": (("N",),), "mean": (("N",),), "max": (("N",),),
        "attention": (("N",),)}


def _read_out(graph, where, value, weight):
    """Return a linear function of the features, or of a linear function of them."""
    O = weight.shape[0] if weight.ndim else 0  # noqa: E741
    if O < 1:
        raise FormatError(f"{where}: its weights have shape {weight.shape}")
    if isinstance(value, Signal) and value.what == "prediction":
        head = _head_of(graph, where, value, "a readout of")
        if value.axes[-1] != "O":
            graph.refuse(where, value, "a readout of")
        second = as_weights(f"{where}: weights", weight, (O, len(head.weight)))
        graph.held += O * head.weight.shape[1] * 8
        if graph.held > 4 * graph.budget + 2**24:
            raise FormatError(f"{where}: the readouts would take more memory than the file")
        wide = second.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # looked at in the end
            bias = None if head.bias is None else (wide @ head.bias).astype(head.bias.dtype)
            head = replace(head, weight=(wide @ head.weight).astype(head.weight.dtype), bias=bias)
        return replace(value, sizes=(*value.sizes[:-1], O), head=head)
    value = state_of(graph, where, value)
    rows = _rows_read(graph, where, value)
    weight = as_weights(f"{where}: weights", weight, (O, value.sizes[-1]))
    vector = value.head.weight[0] if value.what == "attention" else None
    if value.rows != rows:  # in another order, or of only one direction
        own = np.split(weight, len(value.rows), axis=1)
        weight = np.concatenate(
            [own[value.rows.index(row)] if row in value.rows else 0 * own[0] for row in rows], axis=1
        )
    return replace(
        value, what="prediction", axes=(*value.axes[:-1], "O"), sizes=(*value.sizes[:-1], O),
        head=Head(value.what, weight, vector=vector),
    )


def _rows_read(graph, where, value):
    """Return the rows of the last LSTM, after a check that a readout may read `value`, some of them."""
    if not (isinstance(value, Signal) and value.what in READ and value.rows):
        graph.refuse(where, value, "a readout of")
    k = len(graph.layers) - 1
    rows = tuple((k, d) for d in range(graph.layers[k].directions))
    before = atoms(value.pick(range(len(value.axes) - 1)))
    labels = tuple(label for label, _ in before if label != "1")
    some = set(value.rows) <= set(rows) and len(set(value.rows)) == len(value.rows)
    if not some or labels not in READ[value.what]:
        graph.refuse(where, value, "a readout of")
    if value.axes[-1] != ("DF" if len(value.rows) > 1 else "F"):
        graph.refuse(where, value, "a readout of")
    return rows


def _head_of(graph, where, value, doing):
    """Return the readout of a prediction that nothing but linear nodes have touched."""
    if not (isinstance(value, Signal) and value.what == "prediction"):
        graph.refuse(where, value, doing)
    if value.head.function is not None or value.head.masked:
        after = value.head.function or "Where"
        raise FormatError(f"{where}: {doing} a prediction after its {after} cannot be taken over")
    return value.head


# ---- products


@operator("MatMul")
def _matmul(graph, where, value, weight):
    if isinstance(value, Signal) and value.what == "share" and len(value.axes) == 3:
        return _attended(graph, where, value.pick((0, 2, 1)), weight, (1,))
    if not isinstance(weight, Constant):
        graph.refuse(where, weight, "as weights")
    if weight.array.ndim == 1:
        result = _read_out(graph, where, value, weight.array[None])
        return result.pick(range(len(result.axes) - 1))
    return _read_out(graph, where, value, weight.array.T)


@operator("Gemm", alpha="FLOAT", beta="FLOAT", transA="INT", transB="INT")
def _gemm(graph, where, value, weight, bias=None, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    if transA:
        raise FormatError(f"{where}: transA cannot be taken over")
    if not isinstance(value, Signal) or len(value.axes) != 2 or not isinstance(weight, Constant):
        graph.refuse(where, value, "a Gemm of")
    alpha, beta = np.float32(alpha), np.float32(beta)
    if not (np.isfinite(alpha) and np.isfinite(beta)):
        raise FormatError(f"{where}: alpha is {alpha} and beta {beta}; expected finite numbers")
    matrix = weight.array if transB else weight.array.T
    matrix = matrix if alpha == 1 else alpha.astype(matrix.dtype) * matrix
    result = _read_out(graph, where, value, matrix)
    if bias is None:
        return result
    if not isinstance(bias, Constant):
        graph.refuse(where, bias, "as a bias")
    array = bias.array if beta == 1 else beta.astype(bias.array.dtype) * bias.array
    return _shifted(graph, where, result, array)


# ---- sums, multiples; of sizes, too


def _shifted(graph, where, value, bias, sign=1):
    head = _head_of(graph, where, value, "adding to")
    O = len(head.weight)  # noqa: E741
    if bias.shape not in ((O,), (1, O), (1,), ()):
        raise FormatError(f"{where}: its bias has shape {bias.shape}; expected ({O},)")
    bias = sign * as_weights(f"{where}: bias", np.broadcast_to(bias, (1, O))[0], (O,))
    with np.errstate(over="ignore"):
        return replace(value, head=replace(head, bias=bias if head.bias is None else head.bias + bias))


def _scaled(graph, where, value, factor, function=np.multiply):
    head = _head_of(graph, where, value, "a multiple of")
    O = len(head.weight)  # noqa: E741
    if factor.shape not in ((O,), (1, O), (1,), ()):
        graph.refuse(where, value, f"a multiple, {factor.shape}, of")
    factor = as_weights(f"{where}: factor", np.broadcast_to(factor, (1, O))[0], (O,))
    with np.errstate(all="ignore"):  # looked at in the end
        bias = None if head.bias is None else function(head.bias, factor)
        return replace(value, head=replace(head, weight=function(head.weight, factor[:, None]), bias=bias))


def _and_numbers(graph, where, first, second, doing):
    """Return a signal and the numbers that a node brings together with it, in this order."""
    if isinstance(first, Constant):
        first, second = second, first
    if not (isinstance(first, Signal) and isinstance(second, Constant)):
        graph.refuse(where, first, doing)
    return first, second.array


def _sum(graph, where, first, second):
    """Return the sum of two readouts of one thing, which is a readout, too."""
    one, other = (_head_of(graph, where, value, "adding to") for value in (first, second))
    alike = (first.axes, one.what, one.weight.shape) == (second.axes, other.what, other.weight.shape)
    if not alike or one.vector is not other.vector or first.axes[-1] != "O":
        graph.refuse(where, second, "the sum of two readouts that are not of one thing:")
    bias = other.bias if one.bias is None else one.bias if other.bias is None else one.bias + other.bias
    with np.errstate(over="ignore"):
        return replace(first, head=replace(one, weight=one.weight + other.weight, bias=bias))


@operator("Add", of_sizes=plus)
def _add(graph, where, first, second):
    if isinstance(first, Signal) and isinstance(second, Signal):
        return _sum(graph, where, first, second)
    return _shifted(graph, where, *_and_numbers(graph, where, first, second, "adding to"))


@operator("Mul", of_sizes=times)
def _mul(graph, where, first, second):
    for share, y in ((first, second), (second, first)):
        if isinstance(share, Signal) and share.what == "share":
            return _attended(graph, where, share, y)
    return _scaled(graph, where, *_and_numbers(graph, where, first, second, "a multiple of"))


@operator("Sub", of_sizes=difference)
def _sub(graph, where, first, second):
    if isinstance(first, Constant):
        negative = _scaled(graph, where, second, np.array(-1, first.array.dtype))
        return _shifted(graph, where, negative, first.array)
    return _shifted(graph, where, *_and_numbers(graph, where, first, second, "subtracting from"), -1)


@operator("Div", of_sizes=quotient)
def _div(graph, where, first, second):
    if isinstance(first, Constant):
        graph.refuse(where, second, "dividing by")
    value, divisor = _and_numbers(graph, where, first, second, "a fraction of")
    return _scaled(graph, where, value, divisor, np.divide)


@operator("Neg")
def _neg(graph, where, value):
    head = _head_of(graph, where, value, "the negative of")
    return _scaled(graph, where, value, np.array(-1, head.weight.dtype))


# ---- functions of the outputs


def _function(name):
    def of_outputs(graph, where, value, *, axis=None):
        head = _head_of(graph, where, value, f"a {name} of")
        axis = (-1 if graph.opset >= 13 else 1) if axis is None else axis
        axis = graph.axis(where, axis, len(value.axes))
        if value.axes[axis] == "T" and name == "softmax":
            return _share(graph, where, value, head)
        if value.axes[axis] != "O" or axis != len(value.axes) - 1:
            raise FormatError(f"{where}: a {name} over another axis than that of the outputs")
        return replace(value, head=replace(head, function=name))

    return of_outputs


operator("Softmax", axis="INT")(_function("softmax"))
operator("LogSoftmax", axis="INT")(_function("log_softmax"))


@operator("Sigmoid")
def _sigmoid(graph, where, value):
    return replace(value, head=replace(_head_of(graph, where, value, "a sigmoid of"), function="sigmoid"))


# ---- pooling over time


def _pooled(what):
    def over_time(graph, where, value, given=None, *, axes=None, keepdims=1, noop_with_empty_axes=0):
        axes = graph.axes(where, axes, given)
        of = "weighted" if what == "attention" else "y"
        if not (isinstance(value, Signal) and value.what == of and axes is not None and len(axes) == 1):
            graph.refuse(where, value, f"a {what} of")
        axis = graph.axis(where, axes[0], len(value.axes))
        if value.axes[axis] != "T":
            graph.refuse(where, value, f"a {what} over another axis than time of")
        if graph.lengths is not None:
            raise FormatError(
                f"{where}: the {what} of y counts the steps beyond a sequence's length, and the pooling of a "
                "Model does not: export the network without sequence_lens"
            )
        kept = (*value.axes[:axis], "1", *value.axes[axis + 1 :])
        value = replace(value, what=what, axes=kept, sizes=(*value.sizes[:axis], 1, *value.sizes[axis + 1 :]))
        return value if keepdims else value.pick([k for k in range(len(kept)) if k != axis])

    return over_time


_POOLING = {"axes": "INTS", "keepdims": "INT", "noop_with_empty_axes": "INT"}
operator("ReduceMean", **_POOLING)(_pooled("mean"))
operator("ReduceMax", **_POOLING)(_pooled("max"))
operator("ReduceSum", **_POOLING)(_pooled("attention"))


# ---- attention: softmax over time of v.h_t, times h_t, summed


def _share(graph, where, value, head):
    """Return the share of each step: a softmax over time of one score, whose bias changes nothing."""
    if head.what != "y" or len(head.weight) != 1 or graph.lengths is not None:
        raise FormatError(
            f"{where}: a softmax over time is read of one score of all steps of y, without sequence_lens; "
            "expected an attention, or a softmax over the outputs"
        )
    return replace(value, what="share")


def _attended(graph, where, share, y, summed=()):
    """Return y weighted by a share (N, T, 1); with `summed` (N, 1, F), the sum over the steps."""
    every = tuple((len(graph.layers) - 1, d) for d in range(graph.layers[-1].directions))
    features = "DF" if len(every) > 1 else "F"
    fits = isinstance(y, Signal) and y.what == "y" and y.rows == every and y.axes == ("N", "T", features)
    if not fits or share.axes not in (("N", "T", "O"), ("N", "T", "1")):
        graph.refuse(where, y, "an attention of")
    if not summed:
        return replace(y, what="weighted", head=share.head)
    return replace(
        y, what="attention", head=share.head, axes=("N", "1", features), sizes=(y.sizes[0], 1, y.sizes[2])
    )
