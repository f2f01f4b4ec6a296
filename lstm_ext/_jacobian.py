"""Jacobians of an LSTM's results: many seeds of forward or reverse mode as the rows of few calls.

Sequences do not depend on each other, so one seed serves all of a batch; a further seed is a further row.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext import _missing
from lstm_ext._passes import Passes, SavedForBackward

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from lstm_ext._typing import Array, Flags, FloatArray
    from lstm_ext.lstm import LSTM

    _StateLike = tuple[npt.ArrayLike | None, npt.ArrayLike | None]

OUTPUTS = ("y", "h_n", "c_n")
INPUTS = ("x", "h_0", "c_0", "static")
BUDGET = 2**26  # bytes of a call's working memory, about


def as_names(name: str, value: str | Sequence[str], allowed: Sequence[str]) -> tuple[str, ...]:
    """`value`, a name or several, as a tuple of names."""
    several = (value,) if isinstance(value, str) else tuple(value)
    for each in several:
        if each not in allowed:
            raise ValueError(f"{name} is {each!r}; expected one or several of {', '.join(allowed)}")
    if not several:
        raise ValueError(f"{name} is empty; expected one or several of {', '.join(allowed)}")
    return several


class Problem:
    """The LSTM and its inputs: batch first, NaN filled; and the axes of the Jacobian."""

    def __init__(
        self, lstm: LSTM, passes: Passes, given: npt.ArrayLike, given_state: _StateLike | None,
        lengths: npt.ArrayLike | None, mask: npt.ArrayLike | None, static: npt.ArrayLike | None,
    ) -> None:
        lstm(given, given_state, lengths=lengths, mask=mask, static=static)  # for its checks
        self.lstm, self.passes = lstm, passes
        x: Array = np.asarray(given)
        self.unbatched = x.ndim == 2
        x = x[None] if self.unbatched else x if lstm.batch_first else x.swapaxes(0, 1)
        self.N, self.T, self.F = x.shape
        self.static: Array | None = None
        if static is not None:
            self.static = np.asarray(static).reshape(self.N, lstm.static_size)
        self.counted: Flags = np.ones((self.N, self.T), np.bool_)
        if lengths is not None:
            self.counted = np.arange(self.T) < np.asarray(lengths).reshape(self.N, 1)
        elif mask is not None:
            self.counted = np.asarray(mask).reshape(self.N, self.T)
        self.x: Array = x
        self.missing: _missing.Filled | None = None
        if lstm.nan is not None:
            self.x, self.missing = _missing.fill(
                x, lstm.nan, lstm.nan_mask, lstm.dtype, True, self.F, None, self.counted
            )
        layers, P, H = len(self.passes.suffixes), self.passes.out_size, lstm.hidden_size
        state: Sequence[npt.ArrayLike | None] | None = given_state
        if state is None and lstm.learn_state:
            state = self.passes.learned_state(lstm.parameters, self.N, False)
        self.state: tuple[Array, ...] = tuple(
            np.zeros((layers, self.N, width), lstm.dtype) if part is None
            else np.asarray(part).reshape(layers, self.N, width)
            for part, width in zip(state or (None, None), (P, H), strict=True)
        )
        self.shapes: dict[str, tuple[int, ...]] = {
            "y": (self.T, lstm.output_size), "h_n": (layers, P), "c_n": (layers, H),
            "x": (self.T, self.F), "h_0": (layers, P), "c_0": (layers, H), "static": (lstm.static_size,),
        }
        self.causal = passes.directions == 1 and not lstm.reverse
        width = 2 * self.x.shape[2] + layers * (7 * H + 2 * P)
        per_seed = self.N * max(self.T, 1) * width * lstm.dtype.itemsize
        self.seeds_per_call = max(1, BUDGET // max(per_seed, 1))

    def size(self, name: str) -> int:
        """Count the seeds of one output or input."""
        return math.prod(self.shapes[name])

    # A call on copies of the batch, one for each seed: arrays are (seeds, N, ...).

    def rows(self, array: Array) -> Array:
        """Return sequences (seeds, N, T, .) as `Passes` takes them."""
        array = array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])
        return array if self.lstm.batch_first else np.ascontiguousarray(array.swapaxes(0, 1))

    def sequences(self, array: Array, K: int) -> Array:
        """Return what `Passes` has made of `rows` as (seeds, N, T, .)."""
        array = array if self.lstm.batch_first else array.swapaxes(0, 1)
        return array.reshape(K, self.N, *array.shape[1:])

    def states(self, array: Array, K: int) -> Array:
        """Return (layers, seeds * N, .) as (seeds, N, layers, .)."""
        return np.moveaxis(array, 0, 1).reshape(K, self.N, *array.shape[:1], array.shape[2])

    def layers(self, array: Array) -> Array:
        """Return (seeds, N, layers, .) as (layers, seeds * N, .)."""
        return np.moveaxis(array.reshape(array.shape[0] * array.shape[1], *array.shape[2:]), 1, 0)

    def arguments(self, K: int, steps: int) -> tuple[Array, tuple[Array, ...], Array | None]:
        """Return x, state and static of K copies, of the first `steps` steps."""
        x: Array = np.broadcast_to(self.x[:, :steps], (K, self.N, steps, self.x.shape[2]))
        state = tuple(np.concatenate([part] * K, axis=1) for part in self.state)
        static = None if self.static is None else np.concatenate([self.static] * K)
        return self.rows(x), state, static

    # Forward mode: a column for each seed.

    def forward(self, of: Sequence[str], wrt: str) -> Iterator[tuple[int, dict[str, Array]]]:
        """Yield (first seed, {output: (seeds, N, ...)}) for the seeds of one input."""
        shape, dtype = self.shapes[wrt], self.lstm.dtype
        for first in range(0, self.size(wrt), self.seeds_per_call):
            K = min(self.seeds_per_call, self.size(wrt) - first)
            seeds: Array = np.zeros((K, self.N, self.size(wrt)), dtype)
            seeds[np.arange(K), :, first + np.arange(K)] = 1
            seeds = seeds.reshape(K, self.N, *shape)
            x, state, static = self.arguments(K, self.T)
            dx = dstatic = None
            dstate: tuple[Array | None, Array | None] | None = None
            if wrt == "x":
                if self.missing is not None:
                    seeds = np.stack([self.missing.tangent(seed) for seed in seeds])
                dx = self.rows(seeds)
            elif wrt == "static":
                dstatic = seeds.reshape(K * self.N, -1)
            else:
                dstate = (self.layers(seeds), None) if wrt == "h_0" else (None, self.layers(seeds))
            tangents = self.passes.forward(
                self.lstm.parameters, x, state, (None, dx, dstate, dstatic), None,
                np.concatenate([self.counted] * K), static, None, None, False,
            )[1]
            assert tangents is not None  # a direction was given
            y, (h, c) = tangents
            results: dict[str, tuple[Callable[[Array, int], Array], Array]] = {
                "y": (self.sequences, y), "h_n": (self.states, h), "c_n": (self.states, c),
            }
            yield first, {name: results[name][0](results[name][1], K) for name in of}

    # Reverse mode: a row for each seed.

    def reverse(self, of: str, wrt: Sequence[str]) -> Iterator[tuple[int, dict[str, Array]]]:
        """Yield (first seed, {input: (seeds, N, ...)}) for the seeds of one output."""
        size, width = self.size(of), self.shapes[of][1]
        dtype, saved = self.lstm.dtype, SavedForBackward()
        for first in range(0, size, self.seeds_per_call):
            K = min(self.seeds_per_call, size - first)
            which = np.arange(first, first + K)
            step, unit = which // width, which % width
            # What comes after a step does not reach it: y_t is the final state of a shorter sequence.
            shorter = of == "y" and self.causal
            steps = int(step[-1]) + 1 if shorter else self.T
            counted: Array = np.broadcast_to(self.counted[:, :steps], (K, self.N, steps))
            dy: Array | None = None
            dh: Array | None = None
            dc: Array | None = None
            if shorter:
                counted = counted & (np.arange(steps) <= step[:, None, None])
                dh = np.zeros((K, self.N, *self.shapes["h_n"]), dtype)
                dh[np.arange(K), :, -1, unit] = self.counted[:, step].T
            elif of == "y":
                dy = np.zeros((K, self.N, self.T, width), dtype)
                dy[np.arange(K), :, step, unit] = 1
            else:
                seeds: Array = np.zeros((K, self.N, *self.shapes[of]), dtype)
                seeds[np.arange(K), :, step, unit] = 1
                dh, dc = (seeds, None) if of == "h_n" else (None, seeds)
            x, state, static = self.arguments(K, steps)
            self.passes.forward(
                self.lstm.parameters, x, state, None, None, counted.reshape(K * self.N, steps), static,
                saved, None, False,
            )
            dstate = tuple(None if d is None else self.layers(d) for d in (dh, dc))
            (dx, (dh_0, dc_0), dstatic), _ = self.passes.backward(
                saved, None if dy is None else self.rows(dy), dstate, None, "x" in wrt, 1
            )
            found: dict[str, Array] = {}
            if "x" in wrt:
                whole: Array = np.zeros((K, self.N, self.T, self.x.shape[2]), dtype)
                whole[:, :, :steps] = self.sequences(dx, K)
                if self.missing is not None:
                    whole = np.stack([self.missing.gradient(row) for row in whole])
                found["x"] = whole
            if "h_0" in wrt:
                found["h_0"] = self.states(dh_0, K)
            if "c_0" in wrt:
                found["c_0"] = self.states(dc_0, K)
            if "static" in wrt:
                found["static"] = dstatic.reshape(K, self.N, -1)
            yield first, found


def jacobian(
    lstm: LSTM, passes: Passes, x: npt.ArrayLike, state: _StateLike | None,
    of: str | Sequence[str], wrt: str | Sequence[str], lengths: npt.ArrayLike | None,
    mask: npt.ArrayLike | None, static: npt.ArrayLike | None, mode: str | None,
) -> Any:
    """As `LSTM.jacobian`."""
    outputs, inputs = as_names("of", of, OUTPUTS), as_names("wrt", wrt, INPUTS)
    if mode not in (None, "forward", "reverse"):
        raise ValueError(f"mode is {mode!r}; expected None, 'forward' or 'reverse'")
    if "static" in inputs and not lstm.static_size:
        raise ValueError("wrt is 'static', and this LSTM takes no static inputs (static_size=0)")
    problem = Problem(lstm, passes, x, state, lengths, mask, static)
    found: dict[tuple[str, str], FloatArray] = {
        (o, i): np.zeros((problem.N, problem.size(o), problem.size(i)), lstm.dtype)
        for o in outputs for i in inputs
    }
    if mode is None:  # a seed costs two passes forward, or one forward and two back
        columns = sum(2 * problem.size(i) for i in inputs)
        rows = sum(3 * problem.size(o) * (0.5 if o == "y" and problem.causal else 1) for o in outputs)
        mode = "forward" if columns <= rows else "reverse"
    if problem.N and mode == "forward":
        for i in inputs:
            for first, values in problem.forward(outputs, i):
                for o in outputs:
                    K = len(values[o])
                    found[o, i][:, :, first : first + K] = np.moveaxis(
                        values[o].reshape(K, problem.N, -1), 0, 2
                    )
    elif problem.N:
        for o in outputs:
            for first, values in problem.reverse(o, inputs):
                for i in inputs:
                    K = len(values[i])
                    found[o, i][:, first : first + K] = np.moveaxis(
                        values[i].reshape(K, problem.N, -1), 0, 1
                    )
    for o, i in found:
        shape = (*problem.shapes[o], *problem.shapes[i])
        found[o, i] = found[o, i].reshape(shape if problem.unbatched else (problem.N, *shape))
    return found[of, wrt] if isinstance(of, str) and isinstance(wrt, str) else found
