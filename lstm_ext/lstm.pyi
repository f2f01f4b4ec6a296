from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

CELL_ACTIVATIONS: Final[tuple[str, ...]]

_Array: TypeAlias = npt.NDArray[np.floating[Any]]
_State: TypeAlias = tuple[_Array, _Array]
_StateLike: TypeAlias = tuple[npt.ArrayLike | None, npt.ArrayLike | None]

class LSTM:
    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    batch_first: bool
    dtype: np.dtype[np.floating[Any]]
    cell_activation: str
    checkpoint: int | None
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        batch_first: bool = True,
        dtype: npt.DTypeLike = "float32",
        cell_activation: Literal["tanh", "identity"] = "tanh",
        checkpoint: int | None = None,
        rng: int | np.random.Generator | None = None,
    ) -> None: ...
    @property
    def parameters(self) -> _Array: ...
    @parameters.setter
    def parameters(self, values: npt.ArrayLike) -> None: ...
    @property
    def gradient(self) -> _Array: ...
    @gradient.setter
    def gradient(self, values: npt.ArrayLike) -> None: ...
    def named_parameters(self) -> dict[str, _Array]: ...
    def named_gradients(self) -> dict[str, _Array]: ...
    def __getitem__(self, name: str) -> _Array: ...
    def __setitem__(self, name: str, values: npt.ArrayLike) -> None: ...
    def bind(self, parameters: _Array, gradient: _Array) -> None: ...
    def __call__(
        self,
        x: npt.ArrayLike,
        state: _StateLike | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
    ) -> tuple[_Array, _State]: ...
    def tape(self) -> Tape: ...
    def forward(
        self,
        x: npt.ArrayLike,
        state: _StateLike | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
        tape: Tape | None = None,
    ) -> tuple[_Array, _State]: ...
    def backward(
        self,
        tape: Tape,
        dy: npt.ArrayLike | None = None,
        dstate: _StateLike | None = None,
        *,
        input_gradient: bool = True,
    ) -> tuple[_Array | None, _State]: ...
    def stream(self, batch: int = 1) -> Stream: ...
    def __getstate__(self) -> dict[str, Any]: ...
    def __setstate__(self, state: dict[str, Any]) -> None: ...

class Tape:
    def __init__(self, lstm: LSTM) -> None: ...
    @property
    def nbytes(self) -> int: ...

class Stream:
    def __init__(self, lstm: LSTM, batch: int = 1) -> None: ...
    def step(self, x_t: npt.ArrayLike, out: _Array | None = None) -> _Array: ...
    @property
    def batch(self) -> int: ...
    @property
    def state(self) -> _State: ...
    @state.setter
    def state(self, state: _StateLike) -> None: ...
    def reset(self, state: _StateLike | None = None) -> None: ...
