r"""How the weights of an `LSTM` are drawn: its argument ``init``.

``init`` is None, the name of a recipe, or a dict that changes parts of the default recipe:

==================  =================================================================================
recipe              draws
==================  =================================================================================
None                ``weight_ih``, ``weight_static`` and ``weight_hr`` glorot uniform gate by gate,
                    ``weight_hh`` orthogonal gate by gate, biases 0, that of the forget gate 1
                    (Jozefowicz, Zaremba and Sutskever, 2015, *An empirical exploration of recurrent
                    network architectures*)
``"keras"``         the defaults of ``keras.layers.LSTM``: as None, but glorot's bound and orthogonality
                    are those of all four gates together
``"torch"``         the defaults of ``torch.nn.LSTM``: all weights from U(-1/sqrt(H), 1/sqrt(H)), the
                    bias the sum of two such draws
==================  =================================================================================

The keys of the dict are the beginnings of parameters' names: ``weight_ih``, ``weight_hh``,
``bias``, ``peephole``, ``weight_hr``, ``weight_static``, ``norm_ih``, ``norm_hh``, ``norm_c``,
``norm_c_bias``, ``h_0``, ``c_0``; each value is the name of an initializer, a number, or a callable
``f(shape, rng)``, and is applied gate by gate where the parameter has gates. Two keys more act on biases,
after ``bias``: ``"forget_bias"``, a number, and ``"chrono"``, the longest time lag T_max in steps that the
data are expected to have (see `chrono`).

>>> from lstm_ext import LSTM
>>> lstm = LSTM(3, 16, init={"weight_ih": "he_uniform", "chrono": 365}, rng=0)
"""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lstm_ext._data import as_array
from lstm_ext._options import PARAMETER_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lstm_ext._typing import Array, Doubles

    _Initializer: TypeAlias = Callable[[tuple[int, ...], np.random.Generator], Array]
    _Init: TypeAlias = str | Mapping[str, str | float | _Initializer | None] | None

__all__ = [
    "chrono", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform",
    "ones", "orthogonal", "zeros",
]

def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of (out, in); a vector's are its length."""
    return (shape[-1], shape[0])


def zeros(shape: tuple[int, ...], rng: np.random.Generator) -> Doubles:
    """Zeros, of the given shape; `rng` is not used."""
    return np.zeros(shape)


def ones(shape: tuple[int, ...], rng: np.random.Generator) -> Doubles:
    """Ones, of the given shape; `rng` is not used."""
    return np.ones(shape)


def glorot_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> Doubles:
    r"""Draw from U(-b, b), b = sqrt(6 / (fan_in + fan_out)).

    X. Glorot and Y. Bengio, 2010, *Understanding the difficulty of training deep feedforward neural
    networks*, AISTATS, eq. 16.

    Parameters
    ----------
    shape : tuple of int
        (fan_out, fan_in).
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64
    """
    bound = np.sqrt(6 / sum(_fans(shape)))
    return rng.uniform(-bound, bound, shape)


def glorot_normal(shape: tuple[int, ...], rng: np.random.Generator) -> Doubles:
    """Draw from N(0, 2 / (fan_in + fan_out)); source and arguments as in `glorot_uniform`, eq. 12."""
    return rng.normal(0, np.sqrt(2 / sum(_fans(shape))), shape)


def he_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> Doubles:
    """Draw from U(-b, b), b = sqrt(6 / fan_in).

    K. He, X. Zhang, S. Ren and J. Sun, 2015, *Delving deep into rectifiers*, ICCV, eq. 10. Arguments as
    in `glorot_uniform`.
    """
    bound = np.sqrt(6 / _fans(shape)[0])
    return rng.uniform(-bound, bound, shape)


def he_normal(shape: tuple[int, ...], rng: np.random.Generator) -> Doubles:
    """Draw from N(0, 2 / fan_in); source and arguments as in `he_uniform`."""
    return rng.normal(0, np.sqrt(2 / _fans(shape)[0]), shape)


def lecun_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> Doubles:
    """Draw from U(-b, b), b = sqrt(3 / fan_in).

    Y. LeCun, L. Bottou, G. Orr and K.-R. Mueller, 1998, *Efficient backprop*, section 4.6. Arguments as
    in `glorot_uniform`.
    """
    bound = np.sqrt(3 / _fans(shape)[0])
    return rng.uniform(-bound, bound, shape)


def lecun_normal(shape: tuple[int, ...], rng: np.random.Generator) -> Doubles:
    """Draw from N(0, 1 / fan_in); source and arguments as in `lecun_uniform`."""
    return rng.normal(0, np.sqrt(1 / _fans(shape)[0]), shape)


def orthogonal(shape: tuple[int, ...], rng: np.random.Generator) -> Doubles:
    """Draw a matrix with orthonormal columns, or rows where it is wider than high, uniformly (Haar).

    The Q of the QR factorisation of a normal matrix, its columns' signs those of R's diagonal (F.
    Mezzadri, 2007, *Notices of the AMS* 54:592); A. Saxe, J. McClelland and S. Ganguli, 2014,
    arXiv:1312.6120, for its use.

    Parameters
    ----------
    shape : tuple of two int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64
    """
    if len(shape) != 2:
        raise ValueError(f"orthogonal was asked for shape {tuple(shape)}; expected two axes")
    high = rng.standard_normal(shape if shape[0] >= shape[1] else shape[::-1])
    q, r = np.linalg.qr(high)
    q *= np.sign(np.diag(r))
    return q if shape[0] >= shape[1] else q.T


def chrono(size: int, longest: float, rng: np.random.Generator) -> tuple[Doubles, Doubles]:
    r"""Draw biases of the input and the forget gate for memories of up to `longest` steps.

    .. math:: b_f = \log u, \quad b_i = -b_f, \quad u \sim U(1, T_{max} - 1)

    C. Tallec and Y. Ollivier, 2018, *Can recurrent neural networks warp time?*, ICLR, eq. 16.

    Parameters
    ----------
    size : int
        Hidden units.
    longest : float
        T_max in steps, more than 2.
    rng : numpy.random.Generator

    Returns
    -------
    b_i, b_f : ndarrays, (size,)
    """
    forget = np.log(rng.uniform(1, longest - 1, size))
    return -forget, forget


_NAMED = {
    f.__name__: f
    for f in (zeros, ones, glorot_uniform, glorot_normal, he_uniform, he_normal, lecun_uniform, lecun_normal,
              orthogonal)
}
_GATED = ("weight_ih", "weight_hh", "bias", "norm_ih", "norm_hh")
_DEFAULT: dict[str, str | float | None] = {
    "weight_ih": "glorot_uniform", "weight_hh": "orthogonal", "weight_hr": "glorot_uniform",
    "weight_static": "glorot_uniform", "norm_ih": 1, "norm_hh": 1, "norm_c": 1, "forget_bias": 1,
}


def _initializer(kind: str, value: Any) -> _Initializer:
    """`value` of `init` as a function of (shape, rng)."""
    if isinstance(value, str):
        if value not in _NAMED:
            raise ValueError(f"init[{kind!r}] is {value!r}; expected one of {', '.join(_NAMED)}")
        return _NAMED[value]
    if isinstance(value, numbers.Real):
        number = float(value)
        return lambda shape, rng: np.full(shape, number)
    if callable(value):
        function: _Initializer = value
        return function
    raise TypeError(f"init[{kind!r}] is {value!r}; expected a name, a number or a function of (shape, rng)")


def checked(init: _Init, options: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return `init` as (dict of what to draw, whether gate by gate), or raise ValueError or TypeError.

    `options`: the LSTM's attributes by name.
    """
    if init is None or isinstance(init, str):
        if init not in (None, "keras", "torch"):
            raise ValueError(f"init is {init!r}; expected None, 'keras', 'torch' or a dict")
        if init == "torch":
            bound = 1 / np.sqrt(options["hidden_size"])

            def uniform(shape: tuple[int, ...], rng: np.random.Generator) -> Doubles:
                return rng.uniform(-bound, bound, shape)

            def twice(shape: tuple[int, ...], rng: np.random.Generator) -> Doubles:
                return uniform(shape, rng) + uniform(shape, rng)

            weights = dict.fromkeys(("weight_ih", "weight_hh", "weight_hr", "weight_static"), uniform)
            return {**_DEFAULT, **weights, "bias": twice, "forget_bias": None}, True
        return dict(_DEFAULT), init is None
    if not isinstance(init, dict):
        raise TypeError(f"init is {type(init).__name__}; expected None, 'keras', 'torch' or a dict")
    known = (*PARAMETER_KINDS, "forget_bias", "chrono")
    for kind in init:
        if kind not in known:
            raise ValueError(f"init has the key {kind!r}; expected some of {', '.join(known)}")
        if kind in PARAMETER_KINDS:
            _initializer(kind, init[kind])
    for kind in ("forget_bias", "chrono"):
        value = init.get(kind)
        if value is not None and not isinstance(value, numbers.Real):
            raise TypeError(f"init[{kind!r}] is {value!r}; expected a number")
        if value is not None and not options["bias"]:
            raise ValueError(f"init has {kind!r} and bias is False: there is no bias to draw")
    if init.get("chrono") is not None:
        if init.get("forget_bias") is not None:
            raise ValueError("init has 'chrono' and 'forget_bias': both say what the forget gate's bias is")
        if not 2 < init["chrono"] < np.inf:
            raise ValueError(f"init['chrono'] is {init['chrono']}; expected more than 2 steps")
    forget = _DEFAULT["forget_bias"] if "bias" not in init and "chrono" not in init else None
    return {**_DEFAULT, "forget_bias": forget, **init}, True


def draw(
    views: Mapping[str, Array], init: _Init, options: Mapping[str, Any], rng: np.random.Generator
) -> None:
    """Fill an LSTM's parameters, views by name, in their order."""
    wanted, by_gate = checked(init, options)
    H = options["hidden_size"]
    for name, view in views.items():
        kind = name[: name.rindex("_l")]
        f = _initializer(kind, wanted.get(kind, 0))
        gates = by_gate and len(view) == 4 * H and (kind in _GATED or kind == "weight_static")
        for block in view.reshape(4, H, *view.shape[1:]) if gates else [view]:
            values = as_array(f"init[{kind!r}]", f(block.shape, rng))
            if values.shape != block.shape or values.dtype.kind not in "iuf":
                raise ValueError(
                    f"init[{kind!r}] returned {values.dtype} of shape {values.shape}; "
                    f"expected numbers of shape {block.shape}"
                )
            block[...] = values
        if kind == "bias":
            if wanted.get("chrono") is not None:
                view[:H], view[H : 2 * H] = chrono(H, wanted["chrono"], rng)
            elif wanted.get("forget_bias") is not None:
                view[H : 2 * H] = wanted["forget_bias"]
