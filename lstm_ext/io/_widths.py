"""Layers of different hidden sizes as one LSTM, whose layers are all as wide as the widest.

A unit that is added has weights of 0 into it and out of it. Its candidate is g(0) = 0, so its cell state
stays at 0, and its output is o times g(0) = 0: the others compute the same numbers. Its gradients are 0 too,
those of the weights out of it as it is 0 itself, those of the weights into it as nothing reads it. So the
stack also learns as it would with layers of different sizes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext.io._common import FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    _Array = npt.NDArray[Any]

_PARAMETER = re.compile(r"_l(\d+)(?:_reverse)?$")
# Activations, by our names, that are 0 at 0; "affine" where its beta is.
_ZERO_AT_ZERO = {
    "tanh", "identity", "linear", "relu", "relu6", "hard_tanh", "elu", "selu", "softsign", "silu", "gelu",
    "mish", "hard_silu", "leaky_relu", "scaled_tanh", "thresholded_relu",
}
_MOST = 16, 2**20  # how much larger a stack may become: times its own numbers, and numbers more


def check_widths(
    widths: Sequence[int], activations: Sequence[Any], input_size: int, directions: int = 1
) -> None:
    """Raise FormatError where layers of these hidden sizes cannot be made equally wide.

    Parameters
    ----------
    widths : sequence of int
        Hidden size of each layer.
    activations : tuple
        Those of the LSTM: of gates, candidate and cell.
    input_size, directions : int
    """
    if len(set(widths)) == 1:
        return
    for given in activations[1:]:
        name, *numbers = given if isinstance(given, tuple) else (given,)
        if name not in _ZERO_AT_ZERO and not (name == "affine" and len(numbers) > 1 and numbers[1] == 0):
            raise FormatError(
                f"the layers have hidden sizes {listed(widths)} and the activation {name}, which is not 0 at "
                "0; expected layers of one size: import them one by one"
            )
    own = sum(h * (before + h) for before, h in zip((input_size, *(directions * h for h in widths)), widths,
                                                    strict=False))
    most = max(widths)
    wide = most * (input_size + most) + (len(widths) - 1) * most * (directions + 1) * most
    if wide > _MOST[0] * own + _MOST[1]:
        raise FormatError(
            f"the layers have hidden sizes {listed(widths)}: an LSTM here, whose layers are as wide as the "
            f"widest, would take {wide // own} times the memory; expected layers of similar sizes: import "
            "them one by one"
        )


def listed(widths: Sequence[int]) -> str:
    """Return hidden sizes as text."""
    return ", ".join(map(str, widths[:8])) + (", ..." if len(widths) > 8 else "")


def widened(parameters: dict[str, _Array], widths: Sequence[int], directions: int) -> dict[str, _Array]:
    """Return the parameters of layers of hidden sizes `widths` as those of layers of the largest.

    Parameters
    ----------
    parameters : dict of ndarray
        By our names, ``weight_ih_l0`` and so on, each of its own layer's size.
    widths : sequence of int
    directions : int

    Returns
    -------
    dict of ndarray
        Of the same names; the same arrays where all layers are of one size.
    """
    if len(set(widths)) == 1:
        return parameters
    found = {}
    for name, array in parameters.items():
        kind, number, *_ = _PARAMETER.split(name)
        layer = int(number)
        array = padded(array, widths[layer], max(widths))
        if kind == "weight_hh":
            array = padded(array, widths[layer], max(widths), axis=1)
        elif kind == "weight_ih" and layer:
            array = padded(array, widths[layer - 1], max(widths), axis=1)
        found[name] = array
    return found


def padded(array: _Array, width: int, most: int, axis: int = 0) -> _Array:
    """Return an array with zeros behind each block of `width` on an axis, so that it has `most`."""
    if width == most:
        return array
    blocks = array.shape[axis] // width
    shape = (*array.shape[:axis], blocks, width, *array.shape[axis + 1 :])
    pads = [(0, 0)] * len(shape)
    pads[axis + 1] = (0, most - width)
    wide = np.pad(array.reshape(shape), pads)
    return wide.reshape(*array.shape[:axis], blocks * most, *array.shape[axis + 1 :])
