"""The teaching LSTM, compiled: one node for each time step, under the names of the teaching script.

A script that was written for the well-known NumPy implementation runs unchanged on these classes.
With ``xc = [x, h_prev]``, a node computes::

    g = tanh(Wg xc + bg)    i = sigma(Wi xc + bi)    f = sigma(Wf xc + bf)    o = sigma(Wo xc + bo)
    s = g i + s_prev f      h = s o

There is no tanh on s: this cell's output is s times o. ``LSTM(..., cell_activation="identity")`` is
the layer with the same cell. The memory cell is that of Hochreiter and Schmidhuber, Long
short-term memory, Neural Computation 9 (1997), with the forget gate of Gers, Schmidhuber and
Cummins, Learning to forget, Neural Computation 12 (2000).

Examples
--------
>>> import numpy as np
>>> from lstm_ext import LstmNetwork, LstmParam, ToyLossLayer
>>> param = LstmParam(mem_cell_ct=20, x_dim=10)
>>> net = LstmNetwork(param)
>>> inputs, targets = np.random.rand(4, 10), [-0.5, 0.2, 0.1, -0.5]
>>> for _ in range(100):
...     for x in inputs:
...         net.x_list_add(x)
...     loss = net.y_list_is(targets, ToyLossLayer)
...     param.apply_diff(lr=0.1)
...     net.x_list_clear()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from lstm_ext import _node
from lstm_ext._arrays import as_numbers
from lstm_ext._options import BLAS_INT_MAX, as_size

if TYPE_CHECKING:
    import numpy.typing as npt

    from lstm_ext._typing import FloatArray

__all__ = [
    "LstmNetwork",
    "LstmNode",
    "LstmParam",
    "LstmState",
    "ToyLossLayer",
    "rand_arr",
    "sigmoid",
    "sigmoid_derivative",
    "tanh_derivative",
]

_GATES = ("wg", "wi", "wf", "wo", "bg", "bi", "bf", "bo")


def sigmoid(x: npt.ArrayLike) -> Any:
    """Return ``1 / (1 + exp(-x))``, elementwise."""
    return expit(x)


def sigmoid_derivative(values: Any) -> Any:
    """Return the derivative of the sigmoid where the sigmoid has these values."""
    return values * (1 - values)


def tanh_derivative(values: Any) -> Any:
    """Return the derivative of tanh where tanh has these values."""
    return 1.0 - values**2


def rand_arr(a: float, b: float, *shape: int) -> npt.NDArray[np.float64]:
    """Draw uniformly from [a, b): the same numbers at every call.

    Every call begins with ``np.random.seed(0)``, as in the teaching script. So runs repeat, arrays
    of one shape are equal, and NumPy's global generator is left in a known state.

    Parameters
    ----------
    a, b : float
    *shape : int

    Returns
    -------
    numpy.ndarray
        float64, of that shape.
    """
    np.random.seed(0)  # noqa: NPY002
    values = np.random.rand(*shape)  # noqa: NPY002
    values *= b - a
    values += a
    return values


def _sizes(mem_cell_ct: int, x_dim: int) -> tuple[int, int]:
    """Check both sizes; return them as int."""
    sizes = as_size("mem_cell_ct", mem_cell_ct), as_size("x_dim", x_dim)
    if 5 * sizes[0] + sizes[1] > BLAS_INT_MAX:
        raise ValueError(
            f"5 * mem_cell_ct + x_dim is {5 * sizes[0] + sizes[1]}; expected at most {BLAS_INT_MAX}: "
            f"mem_cell_ct is {mem_cell_ct} and x_dim is {x_dim}"
        )
    return sizes


def _dtype(dtype: npt.DTypeLike) -> np.dtype[np.floating[Any]]:
    known: np.dtype[np.floating[Any]]
    for known in (np.dtype(np.float64), np.dtype(np.float32)):
        if np.dtype(dtype) == known:
            return known
    raise TypeError(f"dtype is {dtype!r}; expected float64 or float32")


def _param_array(name: str, doc: str) -> Any:
    """Return the property of LstmParam with this name: wg, bg, wg_diff, ..."""
    gate, bias = "ifgo".index(name[1]), name[0] == "b"
    view = _node.Param._diff if name.endswith("_diff") else _node.Param._value

    def get(self: _node.Param) -> FloatArray:
        return view(self, gate, bias)

    def assign(self: _node.Param, value: npt.ArrayLike) -> None:
        array, values = view(self, gate, bias), as_numbers(value, name)
        if values.shape != array.shape:
            raise ValueError(f"{name} has shape {values.shape}; expected {array.shape}")
        array[...] = values

    return property(get, assign, doc=doc)


def _new_param(
    cls: type[LstmParam], mem_cell_ct: int, x_dim: int, dtype: npt.DTypeLike
) -> LstmParam:
    """Return a param of zeros, for a copy or an unpickled one to fill."""
    param = cls.__new__(cls)
    _node.Param.__init__(param, mem_cell_ct, x_dim, _dtype(dtype))
    return param


class LstmParam(_node.Param):
    """Weights and biases of the four gates, and the gradient of the loss in each.

    Parameters
    ----------
    mem_cell_ct : int
        Number of memory cells.
    x_dim : int
        Number of features of an input.
    dtype : {"float64", "float32"}
    rng : numpy.random.Generator or int, optional
        Draws the initial values, uniformly from [-0.1, 0.1). Without it they come from `rand_arr`,
        which seeds NumPy's global generator with 0: the four matrices start equal, and every run
        repeats. With it the global generator is left alone.

    Attributes
    ----------
    wg, wi, wf, wo : numpy.ndarray of shape (mem_cell_ct, x_dim + mem_cell_ct)
    bg, bi, bf, bo : numpy.ndarray of shape (mem_cell_ct,)
    wg_diff, wi_diff, wf_diff, wo_diff, bg_diff, bi_diff, bf_diff, bo_diff : numpy.ndarray
        Gradients, summed over all that was passed back since the last `apply_diff`.
    mem_cell_ct, x_dim : int
    dtype : numpy.dtype

    Notes
    -----
    All of these arrays are views, and stay so: writing into one, ``param.wg_diff += a`` for one,
    changes what the nodes use; what the nodes and `apply_diff` write shows in a view taken before.
    An assignment ``param.wg = a`` copies into the view.

    Nodes in several threads may share one LstmParam: what they add to the diffs all arrives. While
    one thread changes the parameters, by `apply_diff` or through a view, no other should compute.
    """

    def __init__(
        self, mem_cell_ct: int, x_dim: int, *, dtype: npt.DTypeLike = "float64",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        mem_cell_ct, x_dim = _sizes(mem_cell_ct, x_dim)
        super().__init__(mem_cell_ct, x_dim, _dtype(dtype))
        if rng is None:
            # rand_arr gives the same numbers to each of the four: one draw does.
            w, b = (rand_arr(-0.1, 0.1, *a.shape) for a in (self.wg, self.bg))
            for name in _GATES:
                setattr(self, name, w if name[0] == "w" else b)
        else:
            rng = np.random.default_rng(rng)
            for name in _GATES:
                setattr(self, name, rng.uniform(-0.1, 0.1, getattr(self, name).shape))

    def __reduce__(self) -> tuple[Any, ...]:
        arrays = {g + d: getattr(self, g + d) for g in _GATES for d in ("", "_diff")}
        return _new_param, (type(self), self.mem_cell_ct, self.x_dim, self.dtype), {
            **self.__dict__, **arrays
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    wg: FloatArray = _param_array("wg", "Weights of the candidate.")
    wi: FloatArray = _param_array("wi", "Weights of the input gate.")
    wf: FloatArray = _param_array("wf", "Weights of the forget gate.")
    wo: FloatArray = _param_array("wo", "Weights of the output gate.")
    bg: FloatArray = _param_array("bg", "Bias of the candidate.")
    bi: FloatArray = _param_array("bi", "Bias of the input gate.")
    bf: FloatArray = _param_array("bf", "Bias of the forget gate.")
    bo: FloatArray = _param_array("bo", "Bias of the output gate.")
    wg_diff: FloatArray = _param_array("wg_diff", "Gradient in wg.")
    wi_diff: FloatArray = _param_array("wi_diff", "Gradient in wi.")
    wf_diff: FloatArray = _param_array("wf_diff", "Gradient in wf.")
    wo_diff: FloatArray = _param_array("wo_diff", "Gradient in wo.")
    bg_diff: FloatArray = _param_array("bg_diff", "Gradient in bg.")
    bi_diff: FloatArray = _param_array("bi_diff", "Gradient in bi.")
    bf_diff: FloatArray = _param_array("bf_diff", "Gradient in bf.")
    bo_diff: FloatArray = _param_array("bo_diff", "Gradient in bo.")


def _state_array(k: int, name: str, doc: str) -> Any:
    def get(self: _node.State) -> FloatArray:
        return self._get(k)

    def assign(self: _node.State, value: npt.ArrayLike) -> None:
        self._set(k, value, name)

    return property(get, assign, doc=doc)


class LstmState(_node.State):
    """What a node computed.

    Parameters
    ----------
    mem_cell_ct, x_dim : int

    Attributes
    ----------
    g, i, f, o, s, h : numpy.ndarray of shape (mem_cell_ct,)
        Gates, state and output, from ``LstmNode.bottom_data_is``; zeros before it.
    bottom_diff_h, bottom_diff_s : numpy.ndarray of shape (mem_cell_ct,)
        Gradients of the loss in h_prev and s_prev, from ``LstmNode.top_diff_is``; zeros before it.

    Notes
    -----
    Each call of the node makes new arrays, of the param's dtype: a ``state.h`` that was kept over
    the next call keeps its values. Until that next call it is a view: writing into it changes what
    the following node and `LstmNode.top_diff_is` read. An assignment ``state.h = a`` copies into
    it.
    """

    def __init__(self, mem_cell_ct: int, x_dim: int) -> None:
        super().__init__(*_sizes(mem_cell_ct, x_dim))

    i: FloatArray = _state_array(0, "i", "Input gate.")
    f: FloatArray = _state_array(1, "f", "Forget gate.")
    g: FloatArray = _state_array(2, "g", "Candidate.")
    o: FloatArray = _state_array(3, "o", "Output gate.")
    s: FloatArray = _state_array(4, "s", "State.")
    h: FloatArray = _state_array(5, "h", "Output.")
    bottom_diff_s: FloatArray = _state_array(6, "bottom_diff_s", "Gradient of the loss in s_prev.")
    bottom_diff_h: FloatArray = _state_array(7, "bottom_diff_h", "Gradient of the loss in h_prev.")


class LstmNode(_node.Node):
    """One time step: forward by `bottom_data_is`, backward by `top_diff_is`.

    Parameters
    ----------
    param : LstmParam
        May be shared by any number of nodes.
    state : LstmState
        Of the same sizes; this node's own.

    Attributes
    ----------
    param, state
    xc : numpy.ndarray of shape (x_dim + mem_cell_ct,)
        x, and h_prev next to it.
    s_prev, h_prev : numpy.ndarray of shape (mem_cell_ct,)
        These three are copies of what `bottom_data_is` was given, new ones at each call, and what
        `top_diff_is` reads. None before the first call.
    """

    @property
    def xc(self) -> FloatArray | None:
        """The input next to the recurrent input."""
        return self._get(0, self.param.x_dim + self.param.mem_cell_ct)

    @property
    def h_prev(self) -> FloatArray | None:
        """The output of the step before."""
        return self._get(self.param.x_dim, self.param.x_dim + self.param.mem_cell_ct)

    @property
    def s_prev(self) -> FloatArray | None:
        """The state of the step before."""
        return self._get(self.param.x_dim + self.param.mem_cell_ct, None)


class LstmNetwork(_node.Network):
    """A chain of nodes, one for each input since the last `x_list_clear`.

    Parameters
    ----------
    param : LstmParam

    Attributes
    ----------
    lstm_param : LstmParam
    x_list : list
        The inputs since the last `x_list_clear`.
    lstm_node_list : list of LstmNode
        The node of each input, and behind them those of a longer sequence before: `x_list_clear`
        keeps them for the next.
    """

    def _new_node(self) -> LstmNode:
        param = self.lstm_param
        return LstmNode(param, LstmState(param.mem_cell_ct, param.x_dim))


class ToyLossLayer:
    """The squared error of the first element: an example of what `LstmNetwork.y_list_is` takes."""

    @classmethod
    def loss(cls, pred: FloatArray, label: float) -> float:
        """Return ``(pred[0] - label)**2``."""
        return (float(pred[0]) - label) ** 2

    @classmethod
    def bottom_diff(cls, pred: FloatArray, label: float) -> FloatArray:
        """Return the gradient of `loss` in `pred`, an array of its shape and dtype."""
        diff = np.zeros(pred.shape, pred.dtype)
        diff[0] = 2 * (float(pred[0]) - label)
        return diff
