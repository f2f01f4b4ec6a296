from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from lstm_ext._typing import Array, FloatArray

# Results have the engine's dtype, which its type does not tell.
_State: TypeAlias = tuple[Array, Array]
_GivenState: TypeAlias = Sequence[npt.ArrayLike | None] | None
_Results: TypeAlias = tuple[Array, _State]

ACTIVATIONS: dict[str, tuple[int, float, float, int]]

def draw(
    seed: int, kind: int, stream: int, N: int, T: int, width: int, probability: float
) -> npt.NDArray[np.bool_]: ...

class Batch: ...
class Stack: ...
class Packed: ...

class Engine:
    def __new__(
        cls,
        input_size: int,
        options: Mapping[str, Any],
        activations: Sequence[tuple[str, float | None, float | None]],
        general: bool,
    ) -> Self: ...
    @property
    def general(self) -> bool: ...
    @property
    def input_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def out_size(self) -> int: ...
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
    def parameter_count(self) -> int: ...
    def bind(self, parameters: FloatArray, gradient: FloatArray) -> None: ...
    def forward(
        self,
        x: npt.ArrayLike,
        state: _GivenState,
        lengths: npt.ArrayLike | None,
        mask: npt.ArrayLike | None,
        batch_first: bool,
        tape: Tape | None,
        n_threads: int,
    ) -> _Results: ...
    def forward_all(
        self,
        parameters: FloatArray | None,
        x: npt.ArrayLike,
        state: _GivenState,
        dot: tuple[npt.ArrayLike | None, npt.ArrayLike | None, _GivenState, FloatArray | None] | None,
        lengths: npt.ArrayLike | None,
        mask: npt.ArrayLike | None,
        batch_first: bool,
        bias_rows: FloatArray | None,
        tape: Tape | None,
        seed: int | None,
        n_threads: int,
        want_gates: bool,
    ) -> tuple[_Results, _Results | None, list[Array] | None]: ...
    def backward(
        self,
        tape: Tape,
        dy: npt.ArrayLike | None,
        dstate: _GivenState,
        input_gradient: bool,
        n_threads: int,
    ) -> tuple[Array | None, _State]: ...
    def backward_all(
        self,
        tape: Tape,
        dy: npt.ArrayLike | None,
        dstate: _GivenState,
        dot: tuple[npt.ArrayLike | None, _GivenState] | None,
        input_gradient: bool,
        gradient: FloatArray,
        n_threads: int,
        parts: int,
    ) -> list[tuple[Array | None, _State, Array | None]]: ...

class Tape:
    @property
    def valid(self) -> bool: ...
    @property
    def parts(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

class Stepper:
    def __new__(cls, engine: Engine, batch: int, bias_rows: FloatArray | None = None) -> Self: ...
    @property
    def batch(self) -> int: ...
    def load(self, h_given: npt.ArrayLike | None, c_given: npt.ArrayLike | None) -> None: ...
    def save(self) -> _State: ...
    def step(self, x_t: npt.ArrayLike, out: FloatArray | None = None) -> Array: ...
