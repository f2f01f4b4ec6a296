from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

_Array: TypeAlias = npt.NDArray[np.floating[Any]]

ACTIVATIONS: dict[str, tuple[int, float, float, int]]

def draw(
    seed: int, kind: int, stream: int, N: int, T: int, width: int, probability: float
) -> npt.NDArray[np.bool_]: ...

class GeneralTape:
    @property
    def valid(self) -> bool: ...
    @property
    def parts(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

class GeneralEngine:
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
    def dropout(self) -> float: ...
    def __new__(
        cls,
        sizes: tuple[int, ...],
        flags: tuple[bool, ...],
        numbers: tuple[float | None, ...],
        activations: tuple[tuple[str, float | None, float | None], ...],
        dtype: npt.DTypeLike,
        at: npt.ArrayLike,
        parameter_count: int,
    ) -> Self: ...
    def forward(
        self,
        parameters: _Array,
        x: npt.ArrayLike,
        h_0: npt.ArrayLike | None,
        c_0: npt.ArrayLike | None,
        dot: tuple[npt.ArrayLike | None, ...] | None,
        lengths: npt.ArrayLike | None,
        mask: npt.ArrayLike | None,
        batch_first: bool,
        bias_rows: _Array | None,
        tape: GeneralTape | None,
        seed: int | None,
        n_threads: int,
        want_gates: bool,
    ) -> tuple[Any, ...]: ...
    def backward(
        self,
        tape: GeneralTape,
        dy: npt.ArrayLike | None,
        dh_n: npt.ArrayLike | None,
        dc_n: npt.ArrayLike | None,
        dot: tuple[npt.ArrayLike | None, ...] | None,
        input_gradient: bool,
        gradient: _Array,
        n_threads: int,
        parts: int,
    ) -> list[_Array | None]: ...

class GeneralStepper:
    @property
    def batch(self) -> int: ...
    def __new__(
        cls, engine: GeneralEngine, parameters: _Array, batch: int, bias_rows: _Array | None
    ) -> Self: ...
    def load(self, h_given: npt.ArrayLike | None, c_given: npt.ArrayLike | None) -> None: ...
    def save(self) -> tuple[_Array, _Array]: ...
    def step(self, x_t: npt.ArrayLike, out: _Array | None = None) -> _Array: ...
