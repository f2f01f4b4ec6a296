"""Missing values: how `LSTM(nan=...)` replaces NaN in x before anything is computed.

Each policy is a linear map of the values that are there, so its tangent is the same map and its gradient
the transposed one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext._arrays import Owner, as_floats, as_lengths, as_numbers, as_steps

if TYPE_CHECKING:
    import numpy.typing as npt

    from lstm_ext._lstm import Stepper

    _Array = npt.NDArray[np.floating[Any]]
    _Mask = npt.NDArray[np.bool_]


class Filled:
    """Which values were missing in one array of sequences, and where each took its number from."""

    def __init__(
        self, missing: _Mask, source: npt.NDArray[np.intp] | None, axis: int, with_mask: bool
    ) -> None:
        self.missing = missing  # shape of x
        self.source = source  # under "hold": the step that each value comes from, -1 for none; or None
        self.axis = axis  # of time
        self.with_mask = with_mask

    def values(self, x: _Array) -> _Array:
        """Return x, or a direction in x, with the missing values replaced."""
        if self.source is None:
            return np.where(self.missing, 0, x)
        held = np.take_along_axis(x, np.maximum(self.source, 0), axis=self.axis)
        return np.where(self.source < 0, 0, held)

    def tangent(self, dx: _Array) -> _Array:
        """Return the derivative, along dx, of what the first layer sees."""
        dx = self.values(dx)
        return np.concatenate([dx, np.zeros_like(dx)], axis=-1) if self.with_mask else dx

    def gradient(self, dx: _Array) -> _Array:
        """Return the gradient with respect to x from that of what the first layer saw; 0 where missing."""
        dx = dx[..., : self.missing.shape[-1]]
        if self.source is None:
            return np.where(self.missing, 0, dx).astype(dx.dtype, copy=False)
        rows = np.moveaxis(dx, self.axis, 0)
        total = np.zeros_like(dx)
        target, carried = np.moveaxis(total, self.axis, 0), np.zeros(rows.shape[1:], dx.dtype)
        own = np.moveaxis(self.source, self.axis, 0)
        for t in range(len(rows) - 1, -1, -1):
            carried = carried + rows[t]
            here = own[t] == t
            target[t] = np.where(here, carried, 0)
            carried = np.where(here, 0, carried)
        return total


def fill(
    x: npt.ArrayLike, policy: str, with_mask: bool, dtype: npt.DTypeLike, batch_first: bool, input_size: int,
    lengths: npt.ArrayLike | None, mask: npt.ArrayLike | None
) -> tuple[_Array, Filled | None]:
    """Return what the first layer reads, and its `Filled`, or None where there was nothing to fill.

    Steps that do not count, beyond a sequence's length or outside the mask, are neither looked at nor
    held from.
    """
    x = as_numbers(x, "x")
    if x.ndim not in (2, 3) or x.shape[-1] != input_size:
        if x.ndim in (2, 3):
            raise ValueError(
                f"x has {x.shape[-1]} features, this LSTM takes {input_size} (input_size={input_size})"
            )
        raise ValueError(f"x has {x.ndim} dimensions; expected 3, or 2 for one sequence: (time, features)")
    x = as_floats(x, dtype)
    axis = 1 if x.ndim == 3 and batch_first else 0
    N, T = 1 if x.ndim == 2 else x.shape[1 - axis], x.shape[axis]
    missing = np.isnan(x)
    counted = None
    if lengths is not None:
        counted = np.arange(T) < np.asarray(as_lengths(lengths, N, T))[:, None]
    elif mask is not None:
        as_steps(mask, N, T)  # for its checks
        counted = np.asarray(mask, bool).reshape(N, T)
    if counted is not None:
        counted = counted[0] if x.ndim == 2 else counted if axis == 1 else counted.T
        missing &= counted[..., None]
    if policy == "raise":
        if missing.any():
            where = tuple(int(i) for i in np.argwhere(missing)[0])
            raise ValueError(
                f"x holds {int(missing.sum())} NaN, the first at {list(where)}; expected none (nan='raise')"
            )
        return x, None
    if not with_mask and not missing.any():
        return x, None
    source = None
    if policy == "hold":
        steps = np.arange(T).reshape((T,) + (1,) * (x.ndim - 1 - axis))
        there = ~missing if counted is None else ~missing & counted[..., None]
        source = np.maximum.accumulate(np.where(there, steps, -1), axis=axis)
    filled = Filled(missing, source, axis, with_mask)
    values = filled.values(x)
    if with_mask:
        values = np.concatenate([values, missing.astype(values.dtype)], axis=-1)
    return values.astype(dtype, copy=False), filled


class Online:
    """The same for a stream: one step at a time, with the last values remembered."""

    def __init__(
        self, stepper: Stepper, policy: str, with_mask: bool, dtype: npt.DTypeLike, input_size: int
    ) -> None:
        self.stepper, self.policy, self.with_mask, self.dtype = stepper, policy, with_mask, dtype
        self.last = np.zeros((stepper.batch, input_size), dtype)
        self.owner = Owner("stream")

    def load(self, h: npt.ArrayLike | None, c: npt.ArrayLike | None) -> None:
        """Set the state, and forget the values that were seen."""
        with self.owner:
            self.stepper.load(h, c)
            self.last[...] = 0

    def step(self, x_t: npt.ArrayLike, out: _Array | None = None) -> _Array:
        """As `Stream.step`."""
        with self.owner:
            return self._step(x_t, out)

    def _step(self, x_t: npt.ArrayLike, out: _Array | None) -> _Array:
        x_t = as_numbers(x_t, "x_t")
        if x_t.shape != self.last.shape and not (len(self.last) == 1 and x_t.shape == self.last.shape[1:]):
            raise ValueError(f"x_t has shape {x_t.shape}; expected {self.last.shape}")
        x_t = as_floats(x_t, self.dtype)
        missing = np.isnan(x_t)
        if self.policy == "raise" and missing.any():
            raise ValueError(f"x_t holds {int(missing.sum())} NaN; expected none (nan='raise')")
        values = np.where(missing, self.last.reshape(x_t.shape) if self.policy == "hold" else 0, x_t)
        seen = values
        if self.with_mask:
            seen = np.concatenate([values, missing.astype(values.dtype)], axis=-1)
        h_t = self.stepper.step(seen.astype(self.dtype, copy=False), out)
        self.last[...] = values
        return h_t
