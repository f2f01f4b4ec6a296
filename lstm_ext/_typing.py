"""Types that several modules share."""

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import TypeVar
else:
    from typing import TypeVar as _TypeVar

    def TypeVar(name, *, default, **options):  # defaults are for type checkers; Python has them from 3.13 on
        return _TypeVar(name, **options)

#: The dtype of an LSTM's arrays. Covariant, so an LSTM of float32 is an LSTM of floats.
Float = TypeVar("Float", bound=np.floating[Any], covariant=True, default=np.floating[Any])

Array: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[Any]]
FloatArray: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.floating[Any]]]
Doubles: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.float64]]
Flags: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.bool_]]
