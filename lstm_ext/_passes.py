"""Behind `LSTM`: what is arithmetic on a batch and not on time, around the engine that does the rest.

Static inputs are a bias for each sequence, states that are learned are broadcast, dropped weights are
weights times a mask: each is a line of NumPy on the way in, its derivative one on the way out, and its
tangent one more.
"""

import math

import numpy as np

from lstm_ext import _lstm
from lstm_ext._arrays import Lock, as_floats, as_numbers
from lstm_ext._threads import get_num_threads

WEIGHT_DROPOUT = 4  # in _general.pxd


class SavedForBackward:
    """What one forward call leaves for `Passes.backward`, beside the engine's own tape."""

    def __init__(self):
        self.tape = _lstm.Tape()
        self.static = None, None  # numbers and tangents, (N, S)
        self.parameters = None  # (numbers, tangents) of what static inputs were multiplied with
        self.learned = False
        self.mask = None


class Passes:
    """Static inputs, learned states and dropped weights of one `LSTM`, around its engine."""

    def __init__(self, lstm, shapes):
        self.lstm = lstm
        self.shapes = shapes
        self.lock = Lock("gradient")  # for the gradient
        # Otherwise the engine can be called as it is.
        self.needed = bool(lstm.static_size or lstm.learn_state or lstm.weight_dropout)
        self.slices, at = {}, 0
        for name, shape in shapes.items():
            self.slices[name] = slice(at, at + math.prod(shape))
            at = self.slices[name].stop
        self.directions = 2 if lstm.bidirectional else 1
        self.out_size = lstm.proj_size or lstm.hidden_size
        self.suffixes = [
            f"_l{layer}{suffix}"
            for layer in range(lstm.num_layers)
            for suffix in ("", "_reverse")[: self.directions]
        ]
        self.engine = lstm._engine

    def view(self, flat, name):
        return flat[self.slices[name]].reshape(self.shapes[name])

    # ---- on the way in

    def static_rows(self, parameters, static):
        """(D, N, 4H): the first layer's bias for each sequence, b + V s. Linear in both arguments."""
        H = self.lstm.hidden_size
        rows = []
        for suffix in self.suffixes[: self.directions]:
            # Not BLAS, whose bits depend on the number of rows: a sequence is the same alone and in a batch.
            part = np.einsum("ns,gs->ng", static, self.view(parameters, "weight_static" + suffix))
            row = np.zeros((len(static), 4 * H), self.lstm.dtype)
            row[:, : part.shape[1]] = part
            rows.append(row)
        return np.stack(rows)

    def biases(self, parameters):
        """(D, 1, 4H) of the first layer, or 0."""
        if not self.lstm.bias:
            return 0
        return np.stack([self.view(parameters, "bias" + s)[None] for s in self.suffixes[: self.directions]])

    def as_static(self, name, value, N):
        S = self.lstm.static_size
        array = as_numbers(value, name)
        if array.shape == (S,) and N == 1:
            array = array[None]
        if array.shape != (N, S):
            raise ValueError(f"{name} has shape {array.shape}, expected {(N, S)} = (batch, static_size)")
        return as_floats(array, self.lstm.dtype)

    def checked_static(self, static, N):
        """Return `static` as an array (N, S), or None where this LSTM takes none."""
        size = self.lstm.static_size
        if (static is None) != (size == 0):
            raise ValueError(
                f"static is missing, expected {(N, size)} numbers: this LSTM has static_size={size}"
                if static is None
                else "static was given, and this LSTM takes none (static_size=0)"
            )
        return None if static is None else self.as_static("static", static, N)

    def checked_rows(self, parameters, static, N):
        """Return `static` as an array and the rows of biases made of it, or None twice."""
        static = self.checked_static(static, N)
        if static is None:
            return None, None
        return static, self.static_rows(parameters, static) + self.biases(parameters)

    def learned_state(self, parameters, N, unbatched):
        """h_0 and c_0 of all layers and directions, for each sequence."""
        state = []
        for word in ("h_0", "c_0"):
            rows = np.stack([self.view(parameters, word + suffix) for suffix in self.suffixes])
            state.append(rows if unbatched else np.repeat(rows[:, None], N, axis=1))
        return state

    def weight_mask(self, seed):
        """Factors of the parameters under weight dropout, or None."""
        p = self.lstm.weight_dropout
        if seed is None or not p:
            return None
        mask = np.ones(self.engine_size, self.lstm.dtype)
        for stream, suffix in enumerate(self.suffixes):
            view = self.view(mask, "weight_hh" + suffix)
            dropped = _lstm.draw(seed, WEIGHT_DROPOUT, stream, view.shape[0], 1, view.shape[1], p)
            view[...] = np.where(dropped[:, 0], 0, 1 / (1 - p))
        return mask

    @property
    def engine_size(self):
        return next(reversed(self.slices.values())).stop

    # ---- the passes

    def forward(self, parameters, x, state, dot, lengths, mask, static, record, seed, gates):
        """(y, (h_n, c_n)), (y_dot, (h_dot, c_dot)) or None, gates or None.

        `dot`: None, or (dparameters, dx, dstate, dstatic), each may be None.
        """
        lstm = self.lstm
        shape = np.shape(x)
        unbatched = len(shape) == 2
        N = 1 if unbatched else shape[0 if lstm.batch_first else 1] if len(shape) == 3 else 0
        parameters_dot, x_dot, state_dot, static_dot = dot or (None,) * 4
        rows_dot = None
        if static_dot is not None and not lstm.static_size:
            raise ValueError("dstatic was given, and this LSTM takes no static inputs (static_size=0)")
        factor = self.weight_mask(seed)
        if factor is not None:
            parameters = parameters * factor
            parameters_dot = None if parameters_dot is None else parameters_dot * factor
        static, rows = self.checked_rows(parameters, static, N)
        if static is not None:
            if static_dot is not None:
                static_dot = self.as_static("dstatic", static_dot, N)
                rows_dot = self.static_rows(parameters, static_dot)
            if parameters_dot is not None:
                more = self.static_rows(parameters_dot, static) + self.biases(parameters_dot)
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
        if dot is not None:
            dot = parameters_dot, x_dot, state_dot, rows_dot
        numbers, tangents, values = self.engine.forward_all(
            parameters, x, state, dot, lengths, mask, lstm.batch_first, rows,
            None if record is None else record.tape, seed, get_num_threads(), gates,
        )
        if record is not None:
            record.static, record.learned, record.mask = (static, static_dot), learned, factor
            record.parameters = None
            if static is not None:
                record.parameters = tuple(
                    None if p is None else [
                        self.view(p, "weight_static" + s).copy() for s in self.suffixes[: self.directions]
                    ]
                    for p in (parameters, parameters_dot)
                )
        if values is not None:
            values = dict(zip("ifgoc", values, strict=True))
        return numbers, tangents, values

    def stepper(self, parameters, batch, static):
        """Return what `Stream` steps with."""
        return _lstm.Stepper(self.engine, batch, self.checked_rows(parameters, static, batch)[1])

    def backward(self, record, dy, dstate, dot, input_gradient, parts):
        """Of each part dx, (dh_0, dc_0), dstatic, in one list; then the gradient of the last part.

        `dot`: None, or (dy_dot, dstate_dot).
        """
        lstm = self.lstm
        gradient = np.zeros(self.engine_size, lstm.dtype)
        values = self.engine.backward_all(
            record.tape, dy, dstate, dot, input_gradient, gradient, get_num_threads(), parts
        )
        rows, last_rows = values[0][2], values[-1][2]
        if record.static[0] is not None:
            self._static_gradient(record, rows, last_rows if parts == 2 else None, gradient)
        results = []
        for p, (dx, (dh_0, dc_0), part_rows) in enumerate(values):
            if record.learned and p == parts - 1:
                for word, d in (("h_0", dh_0), ("c_0", dc_0)):
                    for suffix, row in zip(self.suffixes, d, strict=True):
                        self.view(gradient, word + suffix)[...] += row if d.ndim == 2 else row.sum(axis=0)
            dstatic = None
            if part_rows is not None:
                dstatic = self._through_static(part_rows, record.parameters[0])
                if p and record.parameters[1] is not None:
                    dstatic += self._through_static(rows, record.parameters[1])
            results += [dx, (dh_0, dc_0), dstatic]
        if record.mask is not None:
            gradient *= record.mask
        return results, gradient

    def _through_static(self, rows, weights):
        return sum(r[:, : len(w)] @ w for r, w in zip(rows, weights, strict=True))

    def _static_gradient(self, record, rows, rows_dot, gradient):
        """Gradients of weight_static and the first biases, or their tangents: d^T s, sum d."""
        static, static_dot = record.static
        for k, suffix in enumerate(self.suffixes[: self.directions]):
            view = self.view(gradient, "weight_static" + suffix)
            last = rows[k] if rows_dot is None else rows_dot[k]
            view += last[:, : len(view)].T @ static
            if rows_dot is not None and static_dot is not None:
                view += rows[k][:, : len(view)].T @ static_dot
            if self.lstm.bias:
                self.view(gradient, "bias" + suffix)[...] += last.sum(axis=0)
