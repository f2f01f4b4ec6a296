"""Behind `LSTM`: what is arithmetic on a batch and not on time, around the engine that does the rest.

Static inputs are a bias for each sequence, states that are learned are broadcast, dropped weights are
weights times a mask: each is a line of NumPy on the way in, its derivative one on the way out, and its
tangent one more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lstm_ext import _lstm
from lstm_ext._arrays import Lock, as_floats, as_numbers
from lstm_ext._threads import get_num_threads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from lstm_ext._typing import Array, FloatArray
    from lstm_ext.lstm import LSTM

    _StateLike: TypeAlias = Sequence[npt.ArrayLike | None]
    _Results: TypeAlias = tuple[Array, tuple[Array, Array]]

WEIGHT_DROPOUT = 4  # in _general.pxd


def as_static(lstm: LSTM, name: str, value: npt.ArrayLike, N: int) -> FloatArray:
    """Return static inputs, or a direction in them, as an array (N, S)."""
    S = lstm.static_size
    array = as_numbers(value, name)
    if array.shape == (S,) and N == 1:
        array = array[None]
    if array.shape != (N, S):
        raise ValueError(f"{name} has shape {array.shape}; expected {(N, S)} = (batch, static_size)")
    return as_floats(array, lstm.dtype)


def checked_static(lstm: LSTM, static: npt.ArrayLike | None, N: int) -> FloatArray | None:
    """Return `static` as an array (N, S), or None where the LSTM takes none."""
    size = lstm.static_size
    if (static is None) != (size == 0):
        raise ValueError(
            f"static is missing; expected {(N, size)} numbers: this LSTM has static_size={size}"
            if static is None
            else "static was given, and this LSTM takes none (static_size=0)"
        )
    return None if static is None else as_static(lstm, "static", static, N)


class SavedForBackward:
    """What one forward call leaves for `Passes.backward`, beside the engine's own tape."""

    def __init__(self) -> None:
        self.tape = _lstm.Tape()
        self.static: tuple[FloatArray | None, FloatArray | None] = None, None  # numbers and tangents, (N, S)
        # (numbers, tangents) of what static inputs were multiplied with
        self.parameters: tuple[list[FloatArray], list[FloatArray] | None] | None = None
        self.learned = False
        self.mask: FloatArray | None = None


class Passes:
    """Static inputs, learned states and dropped weights of one `LSTM`, around its engine."""

    def __init__(
        self, lstm: LSTM, engine: _lstm.Engine, shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self.lstm = lstm
        self.shapes = shapes
        self.lock = Lock("gradient")  # for the gradient
        # Otherwise the engine can be called as it is.
        self.needed = bool(lstm.static_size or lstm.learn_state or lstm.weight_dropout)
        self.slices: dict[str, slice[int, int, None]] = {}
        start = 0
        for name, shape in shapes.items():
            self.slices[name] = slice(start, start + math.prod(shape))
            start = self.slices[name].stop
        self.directions = 2 if lstm.bidirectional else 1
        self.out_size = lstm.proj_size or lstm.hidden_size
        self.suffixes = [
            f"_l{layer}{suffix}"
            for layer in range(lstm.num_layers)
            for suffix in ("", "_reverse")[: self.directions]
        ]
        self.engine = engine

    def view(self, flat: FloatArray, name: str) -> FloatArray:
        return flat[self.slices[name]].reshape(self.shapes[name])

    # ---- on the way in

    def static_rows(self, parameters: FloatArray, static: FloatArray) -> FloatArray:
        """(D, N, 4H): the first layer's bias for each sequence, b + V s. Linear in both arguments."""
        H = self.lstm.hidden_size
        rows = []
        for suffix in self.suffixes[: self.directions]:
            # Not BLAS, whose bits depend on the number of rows: a sequence is the same in any batch.
            part = np.einsum("ns,gs->ng", static, self.view(parameters, "weight_static" + suffix))
            row = np.zeros((len(static), 4 * H), self.lstm.dtype)
            row[:, : part.shape[1]] = part
            rows.append(row)
        return np.stack(rows)

    def biases(self, parameters: FloatArray) -> FloatArray | int:
        """(D, 1, 4H) of the first layer, or 0."""
        if not self.lstm.bias:
            return 0
        return np.stack([self.view(parameters, "bias" + s)[None] for s in self.suffixes[: self.directions]])

    def checked_rows(
        self, parameters: FloatArray, given: npt.ArrayLike | None, N: int
    ) -> tuple[FloatArray | None, FloatArray | None]:
        """Return static inputs as an array and the rows of biases made of it, or None twice."""
        static = checked_static(self.lstm, given, N)
        if static is None:
            return None, None
        return static, self.static_rows(parameters, static) + self.biases(parameters)

    def learned_state(self, parameters: FloatArray, N: int, unbatched: bool) -> list[FloatArray]:
        """h_0 and c_0 of all layers and directions, for each sequence."""
        state = []
        for kind in ("h_0", "c_0"):
            rows = np.stack([self.view(parameters, kind + suffix) for suffix in self.suffixes])
            state.append(rows if unbatched else np.repeat(rows[:, None], N, axis=1))
        return state

    def weight_mask(self, seed: int | None) -> FloatArray | None:
        """Factors of the parameters under weight dropout, or None."""
        p = self.lstm.weight_dropout
        if seed is None or not p:
            return None
        mask: FloatArray = np.ones(self.engine_size, self.lstm.dtype)
        for stream, suffix in enumerate(self.suffixes):
            view = self.view(mask, "weight_hh" + suffix)
            dropped = _lstm.draw(seed, WEIGHT_DROPOUT, stream, view.shape[0], 1, view.shape[1], p)
            view[...] = np.where(dropped[:, 0], 0, 1 / (1 - p))
        return mask

    @property
    def engine_size(self) -> int:
        return next(reversed(self.slices.values())).stop

    # ---- the passes

    def forward(
        self, parameters: FloatArray, x: npt.ArrayLike, state: _StateLike | None,
        dot: tuple[FloatArray | None, npt.ArrayLike | None, _StateLike | None, npt.ArrayLike | None] | None,
        lengths: npt.ArrayLike | None, mask: npt.ArrayLike | None, static: npt.ArrayLike | None,
        saved: SavedForBackward | None, seed: int | None, gates: bool,
    ) -> tuple[_Results, _Results | None, dict[str, FloatArray] | None]:
        """(y, (h_n, c_n)), (y_dot, (h_dot, c_dot)) or None, gates or None.

        `dot`: None, or (dparameters, dx, dstate, dstatic), each may be None.
        """
        lstm = self.lstm
        shape = np.shape(x)
        unbatched = len(shape) == 2
        N = 1 if unbatched else shape[0 if lstm.batch_first else 1] if len(shape) == 3 else 0
        parameters_dot, x_dot, state_dot, given_static_dot = dot or (None, None, None, None)
        static_dot = rows_dot = None
        if given_static_dot is not None and not lstm.static_size:
            raise ValueError("dstatic was given, and this LSTM takes no static inputs (static_size=0)")
        factor = self.weight_mask(seed)
        if factor is not None:
            parameters = parameters * factor
            parameters_dot = None if parameters_dot is None else parameters_dot * factor
        inputs, rows = self.checked_rows(parameters, static, N)
        if inputs is not None:
            if given_static_dot is not None:
                static_dot = as_static(lstm, "dstatic", given_static_dot, N)
                rows_dot = self.static_rows(parameters, static_dot)
            if parameters_dot is not None:
                more = self.static_rows(parameters_dot, inputs) + self.biases(parameters_dot)
                rows_dot = more if rows_dot is None else rows_dot + more
        learned = state is None and lstm.learn_state
        if learned:
            state = self.learned_state(parameters, N, unbatched)
            if parameters_dot is not None:
                if state_dot is not None:
                    raise ValueError(
                        "dstate was given without a state: this LSTM starts from its parameters h_0, c_0 "
                        "(learn_state=True), whose tangents are in dparameters"
                    )
                state_dot = self.learned_state(parameters_dot, N, unbatched)
        along = None if dot is None else (parameters_dot, x_dot, state_dot, rows_dot)
        numbers, tangents, values = self.engine.forward_all(
            parameters, x, state, along, lengths, mask, lstm.batch_first, rows,
            None if saved is None else saved.tape, seed, get_num_threads(), gates,
        )
        if saved is not None:
            saved.static, saved.learned, saved.mask = (inputs, static_dot), learned, factor
            saved.parameters = None
            if inputs is not None:
                saved.parameters = (
                    self._static_weights(parameters),
                    None if parameters_dot is None else self._static_weights(parameters_dot),
                )
        return numbers, tangents, None if values is None else dict(zip("ifgoc", values, strict=True))

    def _static_weights(self, parameters: FloatArray) -> list[FloatArray]:
        suffixes = self.suffixes[: self.directions]
        return [self.view(parameters, "weight_static" + suffix).copy() for suffix in suffixes]

    def stepper(self, parameters: FloatArray, batch: int, static: npt.ArrayLike | None) -> _lstm.Stepper:
        """Return what `Stream` steps with."""
        return _lstm.Stepper(self.engine, batch, self.checked_rows(parameters, static, batch)[1])

    def backward(
        self, saved: SavedForBackward, dy: npt.ArrayLike | None, dstate: _StateLike | None,
        dot: tuple[npt.ArrayLike | None, _StateLike | None] | None, input_gradient: bool, parts: int,
    ) -> tuple[list[Any], FloatArray]:
        """Of each part dx, (dh_0, dc_0), dstatic, in one list; then the gradient of the last part.

        `dot`: None, or (dy_dot, dstate_dot).
        """
        lstm = self.lstm
        gradient: FloatArray = np.zeros(self.engine_size, lstm.dtype)
        values = self.engine.backward_all(
            saved.tape, dy, dstate, dot, input_gradient, gradient, get_num_threads(), parts
        )
        rows, last_rows = values[0][2], values[-1][2]
        if rows is not None and saved.static[0] is not None:
            self._static_gradient(saved.static, rows, last_rows if parts == 2 else None, gradient)
        results: list[Any] = []
        for p, (dx, (dh_0, dc_0), part_rows) in enumerate(values):
            if saved.learned and p == parts - 1:
                for kind, d in (("h_0", dh_0), ("c_0", dc_0)):
                    for suffix, row in zip(self.suffixes, d, strict=True):
                        self.view(gradient, kind + suffix)[...] += row if d.ndim == 2 else row.sum(axis=0)
            dstatic = None
            if part_rows is not None and saved.parameters is not None:
                dstatic = self._through_static(part_rows, saved.parameters[0])
                if p and saved.parameters[1] is not None and rows is not None:
                    dstatic += self._through_static(rows, saved.parameters[1])
            results += [dx, (dh_0, dc_0), dstatic]
        if saved.mask is not None:
            gradient *= saved.mask
        return results, gradient

    def _through_static(self, rows: FloatArray, weights: list[FloatArray]) -> Array:
        parts: list[Array] = [r[:, : len(w)] @ w for r, w in zip(rows, weights, strict=True)]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def _static_gradient(
        self, inputs: tuple[FloatArray | None, FloatArray | None], rows: FloatArray,
        rows_dot: FloatArray | None, gradient: FloatArray,
    ) -> None:
        """Gradients of weight_static and the first biases, or their tangents: d^T s, sum d."""
        static, static_dot = inputs
        for k, suffix in enumerate(self.suffixes[: self.directions]):
            view = self.view(gradient, "weight_static" + suffix)
            last = rows[k] if rows_dot is None else rows_dot[k]
            view += last[:, : len(view)].T @ static
            if rows_dot is not None and static_dot is not None:
                view += rows[k][:, : len(view)].T @ static_dot
            if self.lstm.bias:
                self.view(gradient, "bias" + suffix)[...] += last.sum(axis=0)
