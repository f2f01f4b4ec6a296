"""Optimizers over one flat vector of parameters.

The arithmetic is compiled (``_optim``): every step is one pass over the vectors, in place, without
a temporary array. An optimizer owns its state and nothing else; it never keeps a reference to the
parameters or to the gradient.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext import _optim
from lstm_ext._arrays import Owner
from lstm_ext._checks import nonnegative, number, positive

if TYPE_CHECKING:
    from lstm_ext._typing import Array, FloatArray

__all__ = ["SGD", "Adam", "AdamW", "RMSprop", "clip_by_global_norm", "clip_by_value", "global_norm"]


def _decay(name: str, value: float) -> float:
    return number(name, value, lambda v: 0 <= v < 1, "a number in [0, 1)")


def _flat(name: str, array: Array, *, written: bool = False) -> None:
    """Refuse what the compiled loops cannot take; they check nothing themselves."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is {type(array).__name__}; expected a NumPy array")
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"{name} is {array.dtype.str}; expected float32 or float64 in native byte order"
        )
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; expected one dimension")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(f"{name} has strides {array.strides}; expected a contiguous and aligned array")
    if written and not array.flags.writeable:
        raise ValueError(f"{name} is read-only; expected a writable array")


def _norm_and_scale(gradient: FloatArray, max_norm: float) -> tuple[float, float]:
    norm = _optim.norm(gradient)
    if not math.isfinite(norm):
        raise FloatingPointError(
            f"gradient holds NaN or inf (its norm is {norm}); nothing was changed"
        )
    return norm, (max_norm / norm if norm > max_norm else 1.0)


def global_norm(gradient: FloatArray) -> float:
    r"""Euclidean norm of a flat gradient, :math:`\lVert g \rVert_2`.

    Parameters
    ----------
    gradient : ndarray of shape (n,), float32 or float64
        Contiguous.

    Returns
    -------
    float
        Accumulated in double precision, and free of overflow: finite wherever the result can be
        written as a double. NaN if the gradient holds a NaN, else inf if it holds an inf.
    """
    _flat("gradient", gradient)
    return _optim.norm(gradient)


def clip_by_global_norm(gradient: FloatArray, max_norm: float) -> float:
    r"""Scale a flat gradient down, in place, to a norm of at most `max_norm`.

    .. math:: g \leftarrow g \cdot \min(1, \mathrm{max\_norm} / \lVert g \rVert_2)

    The direction stays. R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training
    recurrent neural networks", ICML 2013, algorithm 1.

    Parameters
    ----------
    gradient : ndarray of shape (n,), float32 or float64
        Contiguous and writeable.
    max_norm : float
        Greater than 0.

    Returns
    -------
    float
        The norm before clipping.

    Raises
    ------
    FloatingPointError
        If the gradient holds NaN or inf. It is left as it was.
    """
    _flat("gradient", gradient, written=True)
    norm, scale = _norm_and_scale(gradient, positive("max_norm", max_norm))
    if scale != 1.0:
        _optim.scale(gradient, scale)
    return norm


def clip_by_value(gradient: FloatArray, max_value: float) -> None:
    r"""Bring each element of a flat gradient, in place, into [-max_value, max_value].

    .. math:: g_k \leftarrow \max(-\mathrm{max\_value}, \min(g_k, \mathrm{max\_value}))

    The direction may change. NaN stays NaN. T. Mikolov, *Statistical Language Models Based on Neural
    Networks*, PhD thesis, Brno, 2012, section 3.3.2.

    Parameters
    ----------
    gradient : ndarray of shape (n,), float32 or float64
        Contiguous and writeable.
    max_value : float
        Greater than 0.
    """
    _flat("gradient", gradient, written=True)
    limit = positive("max_value", max_value)
    np.clip(gradient, -limit, limit, out=gradient)


class _Optimizer:
    """What optimizers share: the checks, clipping, and a state that can be saved."""

    lr: float
    weight_decay: float
    max_norm: float | None
    max_value: float | None

    _options: tuple[str, ...] = ()  # names of the constructor's arguments, which are attributes, too

    def __init__(
        self, lr: float, weight_decay: float, max_norm: float | None, max_value: float | None
    ) -> None:
        self.lr = nonnegative("lr", lr)
        self.weight_decay = nonnegative("weight_decay", weight_decay)
        self.max_norm = None if max_norm is None else positive("max_norm", max_norm)
        self.max_value = None if max_value is None else positive("max_value", max_value)
        self._t = 0
        self._moments: dict[str, Any] = {}
        self._clipped: FloatArray | None = None  # working memory: the gradient clipped by value
        self._owner = Owner("optimizer")

    def __repr__(self) -> str:
        names = ["lr", *self._options, "max_norm"]
        names += [name for name in ("weight_decay", "max_value") if getattr(self, name)]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)}' for name in names)})"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_clipped": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({"_owner": Owner("optimizer"), **state})

    def _names(self) -> tuple[str, ...]:
        """Names of the vectors that this optimizer remembers."""
        raise NotImplementedError

    def _update(self, parameters: FloatArray, gradient: FloatArray, scale: float) -> None:
        raise NotImplementedError

    def step(self, parameters: FloatArray, gradient: FloatArray) -> None:
        """Change `parameters` in place by one step along `gradient`.

        The first step fixes the number of parameters and their dtype.

        Parameters
        ----------
        parameters : ndarray of shape (n,), float32 or float64
            Contiguous and writeable.
        gradient : ndarray of shape (n,), same dtype
            Contiguous. Not changed, also where it is clipped. May not overlap `parameters`.

        Raises
        ------
        TypeError, ValueError
            If the arrays do not fit each other or this optimizer's state.
        FloatingPointError
            If `max_norm` is set and the gradient (clipped by `max_value`) holds NaN or inf. Parameters
            and state are left as they were.
        RuntimeError
            If another thread is in a step of this optimizer.
        """
        with self._owner:
            self._step(parameters, gradient)

    def _step(self, parameters: FloatArray, gradient: FloatArray) -> None:
        _flat("parameters", parameters, written=True)
        _flat("gradient", gradient)
        if gradient.shape != parameters.shape or gradient.dtype != parameters.dtype:
            raise ValueError(
                f"gradient has shape {gradient.shape} and dtype {gradient.dtype}, parameters have "
                f"shape {parameters.shape} and dtype {parameters.dtype}"
            )
        if np.may_share_memory(parameters, gradient):
            raise ValueError("gradient and parameters overlap in memory")
        for name, moment in self._moments.items():
            if moment.shape != parameters.shape or moment.dtype != parameters.dtype:
                raise ValueError(
                    f"parameters have shape {parameters.shape} and dtype {parameters.dtype}, this "
                    f"optimizer's state {name!r} has shape {moment.shape} and dtype {moment.dtype}:"
                    " take a new optimizer for a new model"
                )
        scale = 1.0
        if self.max_value is not None:
            clipped = self._clipped
            if clipped is None or clipped.shape != gradient.shape or clipped.dtype != gradient.dtype:
                self._clipped = clipped = np.empty_like(gradient, subok=False)
            gradient = np.clip(gradient, -self.max_value, self.max_value, out=clipped)
        if self.max_norm is not None:
            _, scale = _norm_and_scale(gradient, self.max_norm)
        for name in self._names():
            if name not in self._moments:
                self._moments[name] = np.zeros_like(parameters, subok=False)
        self._t += 1
        self._update(parameters, gradient, scale)

    @property
    def state(self) -> dict[str, Any]:
        """Everything a saved run needs to go on with the same bits: a dict of copies.

        ``"t"`` is the number of steps taken; the other entries are the vectors named in the class's
        docstring, and are missing before the first step. Assigning such a dict restores it.
        """
        with self._owner:
            return {"t": self._t} | {name: a.copy() for name, a in self._moments.items()}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        if not isinstance(state, dict) or "t" not in state:
            raise TypeError(f"state is {state!r:.80}; expected a dict with an entry 't', as read from .state")
        moments = {name: value for name, value in state.items() if name != "t"}
        t = state["t"]
        if isinstance(t, bool) or not isinstance(t, int | np.integer) or t < 0:
            raise ValueError(f"state['t'] is {t!r}; expected an integer >= 0")
        expected = set(self._names()) if t else set()
        if set(moments) != expected:
            raise ValueError(
                f"state has the vectors {sorted(moments)}; expected {sorted(expected)} for "
                f"{type(self).__name__} after {t} steps"
            )
        for name, value in moments.items():
            _flat(f"state[{name!r}]", value)
        if len({(value.shape, value.dtype) for value in moments.values()}) > 1:
            raise ValueError("the vectors in state differ in shape or dtype")
        copies = {name: value.copy() for name, value in moments.items()}
        with self._owner:
            self._t, self._moments = int(t), copies


class Adam(_Optimizer):
    r"""Adam: steps scaled by running estimates of the gradient's mean and square.

    .. math::

        m &\leftarrow \beta_1 m + (1 - \beta_1) g \\
        v &\leftarrow \beta_2 v + (1 - \beta_2) g^2 \\
        \theta &\leftarrow \theta - \mathrm{lr} \,
            \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1.

    Parameters
    ----------
    lr : float
        Step size. The attribute may be changed between steps.
    betas : tuple of two floats in [0, 1)
        Decay rates of the two estimates.
    eps : float
        Greater than 0; keeps the quotient finite.
    weight_decay : float
        Adds :math:`\lambda \theta` to the (clipped) gradient: the penalty
        :math:`\lambda \lVert \theta \rVert^2 / 2`, which the recorded loss does not contain.
    max_norm : float, optional
        Clip the gradient to this norm first, see `clip_by_global_norm`. The array itself is not
        changed.
    max_value : float, optional
        Clip each element of the gradient before that, see `clip_by_value`.

    Attributes
    ----------
    state : dict
        ``t``, and after the first step the vectors ``m`` and ``v``.
    """

    betas: tuple[float, float]
    eps: float

    _options = ("betas", "eps")

    def __init__(
        self, lr: float = 1e-3, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, max_norm: float | None = None, max_value: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, max_norm, max_value)
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise ValueError(f"betas is {betas!r}; expected two numbers in [0, 1)")
        self.betas = (_decay("betas[0]", betas[0]), _decay("betas[1]", betas[1]))
        self.eps = positive("eps", eps)

    def _names(self) -> tuple[str, ...]:
        return ("m", "v")

    def _decay(self) -> tuple[float, float]:
        """Weight decay within the gradient, and the factor of the parameters beside it."""
        return self.weight_decay, 1.0

    def _update(self, parameters: FloatArray, gradient: FloatArray, scale: float) -> None:
        decay, shrink = self._decay()
        _optim.adam(
            parameters, gradient, self._moments["m"], self._moments["v"], scale, decay, shrink, self.lr,
            *self.betas, self.eps, self._t,
        )


class AdamW(Adam):
    r"""Adam with weight decay that is decoupled from the gradient.

    .. math::

        \theta \leftarrow (1 - \mathrm{lr} \, \lambda) \theta - \mathrm{lr} \,
            \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    with m and v of only the gradient, as in `Adam`. I. Loshchilov, F. Hutter, "Decoupled Weight Decay
    Regularization", ICLR 2019, algorithm 2, with the step of the decay as in PyTorch: lr times
    :math:`\lambda`.

    Parameters
    ----------
    lr, betas, eps, max_norm, max_value
        As in `Adam`.
    weight_decay : float
        :math:`\lambda`.

    Attributes
    ----------
    state : dict
        As in `Adam`.
    """

    def __init__(
        self, lr: float = 1e-3, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, max_norm: float | None = None, max_value: float | None = None,
    ) -> None:
        super().__init__(
            lr, betas=betas, eps=eps, weight_decay=weight_decay, max_norm=max_norm, max_value=max_value
        )

    def _decay(self) -> tuple[float, float]:
        return 0.0, 1.0 - self.lr * self.weight_decay


class RMSprop(_Optimizer):
    r"""Steps scaled by a running estimate of the gradient's square.

    .. math::

        s &\leftarrow \alpha s + (1 - \alpha) g^2 \\
        \theta &\leftarrow \theta - \mathrm{lr} \, \frac{g}{\sqrt{s} + \epsilon}

    T. Tieleman, G. Hinton, "Lecture 6.5 - RMSprop", COURSERA: Neural Networks for Machine Learning,
    2012; with PyTorch's epsilon outside the root.

    Parameters
    ----------
    lr : float
        Step size. The attribute may be changed between steps.
    alpha : float in [0, 1)
        Decay rate of the estimate.
    eps : float
        Greater than 0; keeps the quotient finite.
    weight_decay : float
        Adds :math:`\lambda \theta` to the (clipped) gradient: the penalty
        :math:`\lambda \lVert \theta \rVert^2 / 2`, which the recorded loss does not contain.
    max_norm : float, optional
        Clip the gradient to this norm first, see `clip_by_global_norm`. The array itself is not
        changed.
    max_value : float, optional
        Clip each element of the gradient before that, see `clip_by_value`.

    Attributes
    ----------
    state : dict
        ``t``, and after the first step the vector ``square``.
    """

    alpha: float
    eps: float

    _options = ("alpha", "eps")

    def __init__(
        self, lr: float = 1e-2, *, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0,
        max_norm: float | None = None, max_value: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, max_norm, max_value)
        self.alpha = _decay("alpha", alpha)
        self.eps = positive("eps", eps)

    def _names(self) -> tuple[str, ...]:
        return ("square",)

    def _update(self, parameters: FloatArray, gradient: FloatArray, scale: float) -> None:
        square = self._moments["square"]
        _optim.rmsprop(
            parameters, gradient, square, scale, self.weight_decay, self.lr, self.alpha, self.eps
        )


class SGD(_Optimizer):
    r"""Stochastic gradient descent, with momentum if asked for.

    .. math::

        u &\leftarrow \mu u + g \\
        \theta &\leftarrow \theta - \mathrm{lr} \, u

    With :math:`\mu = 0` that is :math:`\theta \leftarrow \theta - \mathrm{lr} \, g`, and nothing is
    remembered. The momentum is the "heavy ball" of B. T. Polyak, "Some methods of speeding up the
    convergence of iteration methods", USSR Comput. Math. Math. Phys. 4(5), 1964.

    Parameters
    ----------
    lr : float
        Step size. The attribute may be changed between steps.
    momentum : float in [0, 1)
        :math:`\mu`.
    weight_decay : float
        Adds :math:`\lambda \theta` to the (clipped) gradient: the penalty
        :math:`\lambda \lVert \theta \rVert^2 / 2`, which the recorded loss does not contain.
    max_norm : float, optional
        Clip the gradient to this norm first, see `clip_by_global_norm`. The array itself is not
        changed.
    max_value : float, optional
        Clip each element of the gradient before that, see `clip_by_value`.

    Attributes
    ----------
    state : dict
        ``t``, and with momentum, after the first step, the vector ``velocity``.
    """

    momentum: float

    _options = ("momentum",)

    def __init__(
        self, lr: float, *, momentum: float = 0.0, weight_decay: float = 0.0, max_norm: float | None = None,
        max_value: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay, max_norm, max_value)
        self.momentum = _decay("momentum", momentum)

    def _names(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def _update(self, parameters: FloatArray, gradient: FloatArray, scale: float) -> None:
        if self.momentum:
            velocity = self._moments["velocity"]
            _optim.sgd_momentum(
                parameters, gradient, velocity, scale, self.weight_decay, self.lr, self.momentum
            )
        else:
            _optim.sgd(parameters, gradient, scale, self.weight_decay, self.lr)
