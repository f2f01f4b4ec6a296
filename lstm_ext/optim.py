"""Optimisers over one flat vector of parameters.

The arithmetic is compiled (``_optim``): every step is one pass over the vectors, in place, without
a temporary array. An optimiser owns its state and nothing else; it never keeps a reference to the
parameters or to the gradient.
"""

import math
from numbers import Real

import numpy as np

from lstm_ext import _optim

__all__ = ["SGD", "Adam", "clip_by_global_norm", "global_norm"]


def _number(name, value, holds, expected):
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    if not holds(value):
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return float(value)


def _nonnegative(name, value):
    return _number(name, value, lambda v: 0 <= v < math.inf, "a finite number >= 0")


def _positive(name, value):
    return _number(name, value, lambda v: 0 < v < math.inf, "a finite number > 0")


def _decay(name, value):
    return _number(name, value, lambda v: 0 <= v < 1, "a number in [0, 1)")


def _flat(name, array, *, written=False):
    """Refuse what the compiled loops cannot take; they check nothing themselves."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"{name} must be float32 or float64 in native byte order, got {array.dtype.str}"
        )
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got shape {array.shape}")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(f"{name} must be contiguous and aligned, got strides {array.strides}")
    if written and not array.flags.writeable:
        raise ValueError(f"{name} is read-only, and would be written to")


def _norm_and_scale(gradient, max_norm):
    norm = _optim.norm(gradient)
    if not math.isfinite(norm):
        raise FloatingPointError(
            f"gradient holds NaN or inf (its norm is {norm}); nothing was changed"
        )
    return norm, (max_norm / norm if norm > max_norm else 1.0)


def global_norm(gradient):
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


def clip_by_global_norm(gradient, max_norm):
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
    norm, scale = _norm_and_scale(gradient, _positive("max_norm", max_norm))
    if scale != 1.0:
        _optim.scale(gradient, scale)
    return norm


class _Optimizer:
    """What optimisers share: the checks, clipping, and a state that can be saved."""

    def __init__(self, lr, max_norm):
        self.lr = _nonnegative("lr", lr)
        self.max_norm = None if max_norm is None else _positive("max_norm", max_norm)
        self._t = 0
        self._moments = {}

    def _names(self):
        """Names of the vectors that this optimiser remembers."""
        raise NotImplementedError

    def _update(self, parameters, gradient, scale):
        raise NotImplementedError

    def step(self, parameters, gradient):
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
            If the arrays do not fit each other or this optimiser's state.
        FloatingPointError
            If `max_norm` is set and the gradient holds NaN or inf. Parameters and state are left
            as they were.
        """
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
                    f"optimiser's state {name!r} has shape {moment.shape} and dtype {moment.dtype}:"
                    " take a new optimiser for a new model"
                )
        scale = 1.0
        if self.max_norm is not None:
            _, scale = _norm_and_scale(gradient, self.max_norm)
        for name in self._names():
            if name not in self._moments:
                self._moments[name] = np.zeros_like(parameters, subok=False)
        self._t += 1
        self._update(parameters, gradient, scale)

    @property
    def state(self):
        """Everything a saved run needs to go on with the same bits: a dict of copies.

        ``"t"`` is the number of steps taken; the other entries are the vectors named in the class's
        docstring, and are missing before the first step. Assigning such a dict restores it.
        """
        return {"t": self._t} | {name: a.copy() for name, a in self._moments.items()}

    @state.setter
    def state(self, state):
        if not isinstance(state, dict) or "t" not in state:
            raise TypeError("state must be a dict with an entry 't', as read from .state")
        moments = {name: value for name, value in state.items() if name != "t"}
        t = state["t"]
        if isinstance(t, bool) or not isinstance(t, int | np.integer) or t < 0:
            raise ValueError(f"state['t'] must be an integer >= 0, got {t!r}")
        expected = set(self._names()) if t else set()
        if set(moments) != expected:
            raise ValueError(
                f"state of {type(self).__name__} after {t} steps has the vectors "
                f"{sorted(expected)}, got {sorted(moments)}"
            )
        for name, value in moments.items():
            _flat(f"state[{name!r}]", value)
        if len({(value.shape, value.dtype) for value in moments.values()}) > 1:
            raise ValueError("the vectors in state differ in shape or dtype")
        self._t = int(t)
        self._moments = {name: value.copy() for name, value in moments.items()}


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
    max_norm : float, optional
        Clip the gradient to this norm first, see `clip_by_global_norm`. The array itself is not
        changed.

    Attributes
    ----------
    state : dict
        ``t``, and after the first step the vectors ``m`` and ``v``.
    """

    def __init__(self, lr=1e-3, *, betas=(0.9, 0.999), eps=1e-8, max_norm=None):
        super().__init__(lr, max_norm)
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}")
        self.betas = (_decay("betas[0]", betas[0]), _decay("betas[1]", betas[1]))
        self.eps = _positive("eps", eps)

    def __repr__(self):
        return f"Adam(lr={self.lr}, betas={self.betas}, eps={self.eps}, max_norm={self.max_norm})"

    def _names(self):
        return ("m", "v")

    def _update(self, parameters, gradient, scale):
        _optim.adam(
            parameters,
            gradient,
            self._moments["m"],
            self._moments["v"],
            scale,
            self.lr,
            *self.betas,
            self.eps,
            self._t,
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
    max_norm : float, optional
        Clip the gradient to this norm first, see `clip_by_global_norm`. The array itself is not
        changed.

    Attributes
    ----------
    state : dict
        ``t``, and with momentum, after the first step, the vector ``velocity``.
    """

    def __init__(self, lr, *, momentum=0.0, max_norm=None):
        super().__init__(lr, max_norm)
        self.momentum = _decay("momentum", momentum)

    def __repr__(self):
        return f"SGD(lr={self.lr}, momentum={self.momentum}, max_norm={self.max_norm})"

    def _names(self):
        return ("velocity",) if self.momentum else ()

    def _update(self, parameters, gradient, scale):
        if self.momentum:
            velocity = self._moments["velocity"]
            _optim.sgd_momentum(parameters, gradient, velocity, scale, self.lr, self.momentum)
        else:
            _optim.sgd(parameters, gradient, scale, self.lr)
