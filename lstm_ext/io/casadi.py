"""CasADi: one time step as a symbolic function, with derivatives of any order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext import _options
from lstm_ext._fitted import Chain, chain_of
from lstm_ext.io._common import require
from lstm_ext.io.c_export import refuse_c, refuse_steps
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import casadi
    import numpy.typing as npt

__all__ = ["to_casadi"]


def _between(ca: ModuleType, x: Any, low: float, high: float) -> Any:
    return ca.fmin(ca.fmax(x, low), high)


def _softplus(ca: ModuleType, x: Any) -> Any:
    return ca.fmax(x, 0) + ca.log1p(ca.exp(-ca.fabs(x)))


# Activations of x, by our names, with their numbers alpha and beta: the equations of docs/options.md.
_FUNCTIONS = {
    "sigmoid": lambda ca, x, a, b: 1 / (1 + ca.exp(-x)),
    "tanh": lambda ca, x, a, b: ca.tanh(x),
    "identity": lambda ca, x, a, b: x,
    "linear": lambda ca, x, a, b: x,
    "affine": lambda ca, x, a, b: a * x + b,
    "scaled_tanh": lambda ca, x, a, b: a * ca.tanh(b * x),
    "hard_sigmoid": lambda ca, x, a, b: _between(ca, a * x + b, 0, 1),
    "relu": lambda ca, x, a, b: ca.fmax(x, 0),
    "relu6": lambda ca, x, a, b: _between(ca, x, 0, 6),
    "hard_tanh": lambda ca, x, a, b: _between(ca, x, -1, 1),
    "leaky_relu": lambda ca, x, a, b: ca.if_else(x > 0, x, a * x),
    "thresholded_relu": lambda ca, x, a, b: ca.if_else(x > a, x, 0),
    "elu": lambda ca, x, a, b: ca.if_else(x > 0, x, a * ca.expm1(ca.fmin(x, 0))),
    "selu": lambda ca, x, a, b: b * ca.if_else(x > 0, x, a * ca.expm1(ca.fmin(x, 0))),
    "softsign": lambda ca, x, a, b: x / (1 + ca.fabs(x)),
    "softplus": lambda ca, x, a, b: _softplus(ca, x),
    "exponential": lambda ca, x, a, b: ca.exp(x),
    "silu": lambda ca, x, a, b: x / (1 + ca.exp(-x)),
    "swish": lambda ca, x, a, b: x / (1 + ca.exp(-x)),
    "gelu": lambda ca, x, a, b: 0.5 * x * (1 + ca.erf(x / np.sqrt(2))),
    "mish": lambda ca, x, a, b: x * ca.tanh(_softplus(ca, x)),
    "hard_silu": lambda ca, x, a, b: x * _between(ca, x / 6 + 0.5, 0, 1),
}


def to_casadi(model: LSTM | Model | Any, *, name: str = "step") -> casadi.Function:
    r"""Return one time step as a ``casadi.Function`` of symbols, :math:`(x, h, c) \to (y, h, c)`.

    CasADi differentiates it to any order, exactly: Jacobians, Hessians and Hessian products inside optimal
    control problems, and writes it as C (``function.generate``). `export_casadi` writes C of this package's
    own, which is faster for large networks, with first derivatives.

    Parameters
    ----------
    model : LSTM, Model, LSTMRegressor, LSTMClassifier, pipeline or search
        With the options that `export_c` takes. Of a fitted estimator x and y are in their units, as
        `predict` has them.
    name : str, default "step"
        Of the function.

    Returns
    -------
    casadi.Function
        Inputs x (I,), h (L P,) and c (L H,), outputs y, h and c: the states of all layers, one behind the
        other, zeros or the learnt states before the first step. y is what `Model.predict` gives for the
        steps so far, or h of the last layer of an LSTM. Computed in float64.

    Raises
    ------
    TypeError, ValueError
        If the model has options that a step by itself does not have.

    Examples
    --------
    >>> import numpy as np
    >>> from lstm_ext import LSTM, Model
    >>> from lstm_ext.io import to_casadi
    >>> step = to_casadi(Model(LSTM(1, 8, dtype="float64", rng=0), 1, rng=0))  # doctest: +SKIP
    >>> y, h, c = step(0.5, np.zeros(8), np.zeros(8))  # doctest: +SKIP
    """
    ca = require("casadi", "control")
    chain = None
    if not isinstance(model, (LSTM, Model)):
        if not hasattr(model, "get_params"):
            raise TypeError(
                f"model is {type(model).__name__}; expected an LSTM, a Model or a fitted estimator"
            )
        chain = chain_of(model, "a CasADi function")
        if chain.kind == "sorted" and chain.group > 1:
            raise ValueError("the estimator's quantiles are put in order, which is no smooth function")
        model = chain.model
    refuse_steps(model, "a CasADi function")
    lstm = model if isinstance(model, LSTM) else model.lstm
    refuse_c(model, lstm)
    L, H, P = lstm.num_layers, lstm.hidden_size, lstm.proj_size or lstm.hidden_size
    # MX keeps products of matrices whole; SX would write out each of their numbers.
    x, h, c = ca.MX.sym("x", lstm.input_size), ca.MX.sym("h", L * P), ca.MX.sym("c", L * H)
    inputs = x if chain is None else (x - ca.DM(chain.x_mean)) / ca.DM(chain.x_scale)
    states = []
    for layer in range(L):
        own = h[layer * P : (layer + 1) * P], c[layer * H : (layer + 1) * H]
        states.append(_layer(ca, lstm, layer, inputs, *own))
        inputs = states[-1][0]
    y = inputs if isinstance(model, LSTM) else ca.DM(_wide(model.weight)) @ inputs + ca.DM(_wide(model.bias))
    if chain is not None:
        y = _finished(ca, chain, y)
    outputs = [y, *(ca.vertcat(*(state[k] for state in states)) for k in (0, 1))]
    names = ["x", "h", "c"], ["y", "h_next", "c_next"]
    function: casadi.Function = ca.Function(name, [x, h, c], outputs, *names)
    return function


def _wide(array: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(array, np.float64)


def _layer(ca: ModuleType, lstm: LSTM, layer: int, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
    """Return (h, c) of one layer after a step."""
    def own(name: str) -> Any:
        return ca.DM(_wide(lstm[f"{name}_l{layer}"]))

    def function(k: int) -> Callable[[Any], Any]:
        name, *numbers = given if isinstance(given := lstm.activations[k], tuple) else (given,)
        defaults = _options.ACTIVATIONS[name][1:3]
        alpha, beta = (
            number if number is not None else default
            for number, default in zip([*numbers, None, None], defaults, strict=False)
        )
        return lambda value: _FUNCTIONS[name](ca, value, alpha, beta)

    def clipped(value: Any, bound: float | None) -> Any:
        return value if bound is None else _between(ca, value, -bound, bound)

    H, (gate, candidate, cell) = lstm.hidden_size, map(function, range(3))
    pre = own("weight_ih") @ x + own("weight_hh") @ h
    if lstm.bias:
        pre += own("bias")
    a_i, a_f, a_g, a_o = (pre[k * H : (k + 1) * H] for k in range(4))
    p_i = p_f = p_o = 0
    if lstm.peepholes:
        p_i, p_f, p_o = (own("peephole")[k * H : (k + 1) * H] for k in range(3))
    i = gate(clipped(a_i + p_i * c, lstm.gate_clip))
    f = 1 - i if lstm.coupled_gates else gate(clipped(a_f + p_f * c, lstm.gate_clip))
    g = candidate(clipped(a_g, lstm.gate_clip))
    k = clipped(f * c + i * g, lstm.cell_clip)
    o = gate(clipped(a_o + p_o * k, lstm.gate_clip))
    m = o * cell(k)
    z_h, z_c = lstm.zoneout
    if lstm.proj_size:
        m = own("weight_hr") @ m
    return m + z_h * (h - m), k + z_c * (c - k)


def _finished(ca: ModuleType, chain: Chain, y: Any) -> Any:
    """Return what `predict` makes of the readout."""
    if chain.kind == "softmax":
        y = ca.exp(y - ca.mmax(y))
        y = y / ca.sum1(y)
    elif chain.kind == "sigmoid":
        y = 1 / (1 + ca.exp(-y))
    elif chain.kind == "exponential":
        y = ca.exp(y)
    return y * ca.DM(chain.y_scale) + ca.DM(chain.y_mean)
