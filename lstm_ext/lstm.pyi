from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from lstm_ext.initializers import _Init

_Array: TypeAlias = npt.NDArray[np.floating[Any]]
_State: TypeAlias = tuple[_Array, _Array]
_StateLike: TypeAlias = tuple[npt.ArrayLike | None, npt.ArrayLike | None]
_Activation: TypeAlias = str | Sequence[str | float | None]
_Result: TypeAlias = Literal["y", "h_n", "c_n"]
_Input: TypeAlias = Literal["x", "h_0", "c_0", "static"]
_Precision: TypeAlias = Literal["float32", "bfloat16x6", "bfloat16x3", "bfloat16"]

class LSTM:
    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    reverse: bool
    batch_first: bool
    dtype: np.dtype[np.floating[Any]]
    activations: tuple[_Activation, ...]
    cell_activation: _Activation
    peepholes: bool
    coupled_gates: bool
    cell_clip: float | None
    gate_clip: float | None
    proj_size: int | None
    bias: bool
    layer_norm: bool
    dropout: float
    recurrent_dropout: float
    weight_dropout: float
    zoneout: tuple[float, ...]
    static_size: int
    entity_aware: bool
    learn_state: bool
    nan: str | None
    nan_mask: bool
    checkpoint: int | None
    @property
    def precision(self) -> _Precision: ...
    @precision.setter
    def precision(self, value: _Precision) -> None: ...
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        reverse: bool = False,
        batch_first: bool = True,
        dtype: npt.DTypeLike = "float32",
        activations: Sequence[_Activation] = ("sigmoid", "tanh", "tanh"),
        cell_activation: _Activation | None = None,
        peepholes: bool = False,
        coupled_gates: bool = False,
        cell_clip: float | None = None,
        gate_clip: float | None = None,
        proj_size: int | None = None,
        bias: bool = True,
        layer_norm: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: tuple[float, float] = (0.0, 0.0),
        static_size: int = 0,
        entity_aware: bool = False,
        learn_state: bool = False,
        nan: Literal["raise", "zero", "hold"] | None = None,
        nan_mask: bool = False,
        init: _Init = None,
        checkpoint: int | None = None,
        precision: _Precision = "float32",
        rng: int | np.random.Generator | None = None,
    ) -> None: ...
    @property
    def output_size(self) -> int: ...
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
        mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None,
    ) -> tuple[_Array, _State]: ...
    def tape(self) -> Tape: ...
    @overload
    def forward(
        self,
        x: npt.ArrayLike,
        state: _StateLike | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None,
        tape: Tape | None = None,
        seed: int | None = None,
        return_gates: Literal[False] = False,
    ) -> tuple[_Array, _State]: ...
    @overload
    def forward(
        self,
        x: npt.ArrayLike,
        state: _StateLike | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None,
        tape: Tape | None = None,
        seed: int | None = None,
        return_gates: Literal[True],
    ) -> tuple[_Array, _State, dict[str, _Array]]: ...
    def jvp(
        self,
        x: npt.ArrayLike,
        dx: npt.ArrayLike | None = None,
        state: _StateLike | None = None,
        dstate: _StateLike | None = None,
        dparameters: npt.ArrayLike | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None,
        dstatic: npt.ArrayLike | None = None,
        tape: Tape | None = None,
        seed: int | None = None,
    ) -> tuple[tuple[_Array, _State], tuple[_Array, _State]]: ...
    @overload
    def jacobian(
        self,
        x: npt.ArrayLike,
        state: _StateLike | None = None,
        *,
        of: _Result = "y",
        wrt: _Input = "x",
        lengths: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None,
        mode: Literal["forward", "reverse"] | None = None,
    ) -> _Array: ...
    @overload
    def jacobian(
        self,
        x: npt.ArrayLike,
        state: _StateLike | None = None,
        *,
        of: _Result | tuple[_Result, ...] = "y",
        wrt: _Input | tuple[_Input, ...] = "x",
        lengths: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None,
        mode: Literal["forward", "reverse"] | None = None,
    ) -> _Array | dict[tuple[_Result, _Input], _Array]: ...
    def backward(
        self,
        tape: Tape,
        dy: npt.ArrayLike | None = None,
        dstate: _StateLike | None = None,
        *,
        input_gradient: bool = True,
    ) -> Any: ...  # (dx, dstate), and dstatic with a static_size
    def backward_jvp(
        self,
        tape: Tape,
        dy: npt.ArrayLike | None = None,
        dy_dot: npt.ArrayLike | None = None,
        dstate: _StateLike | None = None,
        dstate_dot: _StateLike | None = None,
        *,
        input_gradient: bool = True,
    ) -> dict[str, Any]: ...
    def stream(self, batch: int = 1, static: npt.ArrayLike | None = None) -> Stream: ...
    def __getstate__(self) -> dict[str, Any]: ...
    def __setstate__(self, state: dict[str, Any]) -> None: ...

class Tape:
    def __init__(self, lstm: LSTM) -> None: ...
    @property
    def nbytes(self) -> int: ...

class Stream:
    def __init__(self, lstm: LSTM, batch: int = 1, static: npt.ArrayLike | None = None) -> None: ...
    def step(self, x_t: npt.ArrayLike, out: _Array | None = None) -> _Array: ...
    @property
    def batch(self) -> int: ...
    @property
    def state(self) -> _State: ...
    @state.setter
    def state(self, state: _StateLike) -> None: ...
    def reset(self, state: _StateLike | None = None) -> None: ...
