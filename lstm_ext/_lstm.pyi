from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

_Array: TypeAlias = npt.NDArray[np.floating[Any]]
_State: TypeAlias = tuple[_Array, _Array]

class Batch:
    @property
    def total(self) -> int: ...
    @property
    def starts(self) -> int: ...

class Packed: ...

class Engine:
    def __new__(
        cls,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        directions: int,
        reverse: bool,
        dtype: npt.DTypeLike,
        cell_activation: str,
        checkpoint: int,
    ) -> Self: ...
    @property
    def input_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def directions(self) -> int: ...
    pieces: int
    @property
    def checkpoint(self) -> int: ...
    @property
    def is_float(self) -> bool: ...
    @property
    def reverse(self) -> bool: ...
    @property
    def dtype(self) -> np.dtype[np.floating[Any]]: ...
    @property
    def activation(self) -> int: ...
    @property
    def parameter_count(self) -> int: ...
    def bind(self, parameters: _Array, gradient: _Array) -> None: ...
    def forward(
        self,
        x_given: npt.ArrayLike,
        state: tuple[npt.ArrayLike | None, npt.ArrayLike | None] | None,
        lengths: npt.ArrayLike | None,
        mask: npt.ArrayLike | None,
        batch_first: bool,
        tape: Tape | None,
        n_threads: int,
    ) -> tuple[_Array, _State]: ...
    def backward(
        self,
        tape: Tape,
        dy_given: npt.ArrayLike | None,
        dstate: tuple[npt.ArrayLike | None, npt.ArrayLike | None] | None,
        input_gradient: bool,
        n_threads: int,
    ) -> tuple[_Array | None, _State]: ...

class Tape:
    @property
    def valid(self) -> bool: ...
    @property
    def T(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

class Stepper:
    def __new__(cls, engine: Engine, batch: int) -> Self: ...
    @property
    def batch(self) -> int: ...
    def load(self, h_given: npt.ArrayLike | None, c_given: npt.ArrayLike | None) -> None: ...
    def save(self) -> _State: ...
    def step(self, x_t: npt.ArrayLike, out: _Array | None = None) -> _Array: ...
