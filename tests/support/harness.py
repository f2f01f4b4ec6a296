"""What the tests of the layer share: cases, random arrays, and one way to run each implementation.

A run is a dict: ``y, h_n, c_n, dx, dh_0, dc_0`` and the gradient of each parameter by its name
(``weight_ih_l0`` ...), whoever computed it: the layer, `reference`, or PyTorch.
"""

from dataclasses import dataclass

import numpy as np
import reference

# Agreement of two correct implementations, relative to the largest element of an array.
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


@dataclass(frozen=True)
class Case:
    """One shape of problem. `lengths` is None or a tuple of N lengths."""

    input_size: int = 3
    hidden_size: int = 5
    num_layers: int = 1
    bidirectional: bool = False
    cell_activation: str = "tanh"
    dtype: str = "float64"
    batch: int = 4
    time: int = 6
    lengths: tuple | None = None

    def __str__(self):
        return (
            f"{self.dtype}-I{self.input_size}-H{self.hidden_size}-L{self.num_layers}"
            f"{'-bi' if self.bidirectional else ''}-N{self.batch}-T{self.time}"
            f"{'-lengths' if self.lengths else ''}-{self.cell_activation}"
        )

    @property
    def directions(self):
        return 2 if self.bidirectional else 1

    def names(self):
        """Parameter names, in the documented order."""
        return [
            f"{kind}_l{layer}{suffix}"
            for layer in range(self.num_layers)
            for suffix in ("", "_reverse")[: self.directions]
            for kind in ("weight_ih", "weight_hh", "bias")
        ]

    def shapes(self):
        """Shape of each parameter, in the order of `names`."""
        wide = self.directions * self.hidden_size
        shapes = []
        for layer in range(self.num_layers):
            fan_in = self.input_size if layer == 0 else wide
            shapes += self.directions * [
                (4 * self.hidden_size, fan_in),
                (4 * self.hidden_size, self.hidden_size),
                (4 * self.hidden_size,),
            ]
        return shapes

    def draw(self, seed=0):
        """Random arrays, float32-representable: parameters by name, x, states, and upstream dy, ...

        Nothing is symmetric and nothing is zero, so that no gate, bias, state or padding can be
        mistaken for another unseen.
        """
        rng = np.random.default_rng(seed)

        def normal(*shape, scale=1.0):
            return (scale * rng.standard_normal(shape)).astype("float32").astype(self.dtype)

        parameters = {
            name: normal(*shape, scale=0.6 if len(shape) == 1 else min(0.6, 1.5 / shape[1] ** 0.5))
            for name, shape in zip(self.names(), self.shapes(), strict=True)
        }
        state = (self.num_layers * self.directions, self.batch, self.hidden_size)
        sequence = (self.batch, self.time)
        arrays = {
            "x": normal(*sequence, self.input_size),
            "h_0": normal(*state, scale=0.5),
            "c_0": normal(*state),
            "dy": normal(*sequence, self.directions * self.hidden_size),
            "dh_n": normal(*state),
            "dc_n": normal(*state),
        }
        return parameters, arrays

    def layer(self, parameters=None, **options):
        """Build the `lstm_ext.LSTM` of this case, its parameters set by name."""
        from lstm_ext import LSTM

        lstm = LSTM(
            self.input_size,
            self.hidden_size,
            self.num_layers,
            bidirectional=self.bidirectional,
            dtype=self.dtype,
            cell_activation=self.cell_activation,
            rng=0,
            **options,
        )
        for name, value in (parameters or {}).items():
            lstm[name] = value
        return lstm


def run_layer(lstm, arrays, lengths=None, tape=None):
    """Run `lstm` forward and backward; its gradient is zeroed first."""
    a = arrays
    tape = lstm.tape() if tape is None else tape
    lstm.gradient[:] = 0
    y, (h_n, c_n) = lstm.forward(a["x"], (a["h_0"], a["c_0"]), lengths=lengths, tape=tape)
    dx, (dh_0, dc_0) = lstm.backward(tape, a["dy"], (a["dh_n"], a["dc_n"]))
    run = {"y": y, "h_n": h_n, "c_n": c_n, "dx": dx, "dh_0": dh_0, "dc_0": dc_0}
    return run | {name: g.copy() for name, g in lstm.named_gradients().items()}


def run_reference(case, parameters, arrays, lengths=None, dtype="float64"):
    """Run `reference` on the same numbers, in float64 unless said."""
    a = {k: v.astype(dtype) for k, v in arrays.items()}
    flat = [v.astype(dtype) for v in parameters.values()]
    weights = [tuple(flat[k : k + 3]) for k in range(0, len(flat), 3)]
    lengths = np.full(a["x"].shape[0], a["x"].shape[1]) if lengths is None else np.array(lengths)
    how = {"act": case.cell_activation, "bidirectional": case.bidirectional}
    y, h_n, c_n, tape = reference.forward(weights, a["x"], a["h_0"], a["c_0"], lengths, **how)
    dx, dh_0, dc_0, dweights = reference.backward(
        weights, tape, a["dy"], a["dh_n"], a["dc_n"], lengths, **how
    )
    run = {"y": y, "h_n": h_n, "c_n": c_n, "dx": dx, "dh_0": dh_0, "dc_0": dc_0}
    return run | dict(zip(parameters, [d for step in dweights for d in step], strict=True))


def assert_close(actual, expected, tolerance, what=""):
    """Equal shapes, and each element within `tolerance` of its own size or of the array's largest.

    Upstream gradients are of order 1 and sums of them may cancel: hence the floor under the scale.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: {actual.shape} is not {expected.shape}"
    scale = np.abs(expected).max(initial=0.1)
    np.testing.assert_allclose(
        actual, expected, rtol=tolerance, atol=tolerance * scale, err_msg=what, equal_nan=False
    )


def assert_same_run(actual, expected, tolerance):
    """`assert_close` on each array of two runs."""
    assert actual.keys() == expected.keys()
    for name in expected:
        assert_close(actual[name], expected[name], tolerance, name)
