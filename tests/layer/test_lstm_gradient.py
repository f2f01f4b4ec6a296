"""The layer's gradients against derivatives that no backward pass took part in.

Three judges: five-point central differences of the layer's own float64 forward pass, element by
element on small shapes and along random directions on larger ones; complex-step derivatives of
the reference's forward pass, exact to rounding; and closed forms for chains of 1000 steps.
"""

import mpmath
import numpy as np
import pytest
import reference
from harness import Case, run_layer

pytestmark = pytest.mark.every_kernel

STEP = 1e-3


def central_difference(outputs_at):
    """Derivative of the loss at 0, from `outputs_at(s)` -> [(output, weight), ...].

    The five-point formula: its error is of order STEP**4. Outputs are subtracted before they are
    summed, which keeps rounding at that of the largest output.
    """
    near = zip(outputs_at(STEP), outputs_at(-STEP), strict=True)
    far = zip(outputs_at(2 * STEP), outputs_at(-2 * STEP), strict=True)

    def difference(pairs):
        return sum(np.vdot(plus - minus, weight) for (plus, weight), (minus, _) in pairs)

    return (8 * difference(near) - difference(far)) / (12 * STEP)


class Loss:
    """The scalar sum(y dy) + sum(h_n dh_n) + sum(c_n dc_n) of a case, at movable arguments."""

    def __init__(self, case, seed=3):
        self.case = case
        parameters, self.arrays = case.draw(seed)
        self.lstm = case.layer(parameters)
        run = run_layer(self.lstm, self.arrays, case.lengths)
        self.arguments = {k: self.arrays[k] for k in ("x", "h_0", "c_0")}
        self.gradients = {k: run["d" + k] for k in self.arguments}
        self.arguments["parameters"] = self.lstm.parameters
        self.gradients["parameters"] = self.lstm.gradient.copy()

    def outputs(self):
        a = self.arrays
        y, (h_n, c_n) = self.lstm(a["x"], (a["h_0"], a["c_0"]), lengths=self.case.lengths)
        return [(y, a["dy"]), (h_n, a["dh_n"]), (c_n, a["dc_n"])]

    def element(self, name, index):
        """Difference quotient for one element, perturbed in place."""
        argument = self.arguments[name]
        original = argument[index]

        def at(s):
            argument[index] = original + s
            outputs = self.outputs()
            argument[index] = original
            return outputs

        return central_difference(at)

    def direction(self, name, v):
        """Difference quotient along the array `v`."""
        argument = self.arguments[name]
        original = argument.copy()

        def at(s):
            argument[...] = original + s * v
            outputs = self.outputs()
            argument[...] = original
            return outputs

        return central_difference(at)


SMALL = [
    Case(hidden_size=1, input_size=1, batch=1, time=1),
    Case(time=1),
    Case(time=7),
    Case(time=7, cell_activation="identity"),
    Case(time=7, batch=5, lengths=(3, 1, 7, 0, 6)),
    Case(time=7, batch=3, lengths=(1, 7, 4), cell_activation="identity", bidirectional=True),
    Case(time=1, num_layers=2, hidden_size=3, bidirectional=True, batch=2),
    Case(time=7, num_layers=2, hidden_size=3, batch=2),
    Case(time=7, num_layers=3, hidden_size=3, batch=3, lengths=(1, 7, 0)),
    Case(
        input_size=2,
        hidden_size=3,
        num_layers=3,
        bidirectional=True,
        batch=3,
        time=7,
        lengths=(7, 1, 5),
    ),
    Case(
        input_size=1,
        hidden_size=3,
        num_layers=2,
        bidirectional=True,
        batch=2,
        time=7,
        cell_activation="identity",
    ),
]
LARGE = [
    Case(input_size=1, hidden_size=16, batch=7, time=7),
    Case(input_size=3, hidden_size=17, batch=13, time=7, num_layers=2, bidirectional=True),
    Case(input_size=50, hidden_size=20, batch=5, time=7, lengths=(1, 7, 0, 3, 6)),
    Case(input_size=50, hidden_size=33, batch=7, time=1, cell_activation="identity"),
    Case(input_size=3, hidden_size=33, batch=13, time=29, num_layers=3),
    Case(
        input_size=3,
        hidden_size=20,
        num_layers=3,
        bidirectional=True,
        batch=7,
        time=12,
        lengths=(12, 1, 0, 7, 12, 3, 5),
        cell_activation="identity",
    ),
    Case(input_size=30, hidden_size=140, batch=35, time=5, lengths=(5, 3, 0, 4, 1) * 7),
    Case(input_size=2, hidden_size=16, batch=60, time=20, lengths=tuple(range(1, 21)) * 3),
]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_every_element(case):
    """x, h_0, c_0 and every parameter, one element at a time."""
    loss = Loss(case)
    for name, gradient in loss.gradients.items():
        numeric = np.empty_like(gradient)
        for index in np.ndindex(gradient.shape):
            numeric[index] = loss.element(name, index)
        np.testing.assert_allclose(gradient, numeric, rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_random_directions(case):
    """The slope along random directions, and along those of single parameter blocks."""
    loss = Loss(case)
    rng = np.random.default_rng(4)
    for name, gradient in loss.gradients.items():
        for _ in range(3):
            v = rng.standard_normal(gradient.shape)
            v /= np.linalg.norm(v)
            numeric = loss.direction(name, v)
            np.testing.assert_allclose(
                np.vdot(gradient, v), numeric, rtol=1e-7, atol=1e-9, err_msg=name
            )
    gradients = loss.lstm.named_gradients()
    for name, parameter in loss.lstm.named_parameters().items():
        loss.arguments[name] = parameter
        v = rng.standard_normal(parameter.shape)
        v /= np.linalg.norm(v)
        numeric = loss.direction(name, v)
        slope = np.vdot(gradients[name], v)
        np.testing.assert_allclose(slope, numeric, rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_adjoint(case):
    """<J v, u> = <v, J^T u>: J v by complex step through the reference, J^T u by the layer."""
    loss = Loss(case)
    rng = np.random.default_rng(5)
    moved = {name: rng.standard_normal(a.shape) for name, a in loss.arguments.items()}
    at = {name: a + 1e-30j * moved[name] for name, a in loss.arguments.items()}
    flat, weights = at["parameters"], []
    for shape in case.shapes():
        size = int(np.prod(shape))
        weights.append(flat[:size].reshape(shape))
        flat = flat[size:]
    assert flat.size == 0
    y, h_n, c_n, _ = reference.forward(
        [tuple(weights[k : k + 3]) for k in range(0, len(weights), 3)],
        at["x"],
        at["h_0"],
        at["c_0"],
        np.array(case.lengths or [case.time] * case.batch),
        case.cell_activation,
        case.bidirectional,
    )
    a = loss.arrays
    forward = sum(
        np.vdot(out.imag / 1e-30, u)
        for out, u in ((y, a["dy"]), (h_n, a["dh_n"]), (c_n, a["dc_n"]))
    )
    backward = sum(np.vdot(moved[name], loss.gradients[name]) for name in moved)
    terms = [np.vdot(np.abs(moved[n]), np.abs(loss.gradients[n])) for n in moved]
    np.testing.assert_allclose(forward, backward, rtol=1e-10, atol=1e-13 * sum(terms))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_padding_and_upstream_beyond_the_end_do_not_count(dtype):
    """dx is 0 beyond a length, and neither x nor dy there changes anything."""
    case = Case(
        num_layers=2, bidirectional=True, time=9, lengths=(4, 9, 0, 1), dtype=dtype, hidden_size=17
    )
    parameters, arrays = case.draw()
    lstm = case.layer(parameters)
    expected = run_layer(lstm, arrays, case.lengths)
    padding = np.arange(case.time) >= np.array(case.lengths)[:, None]
    assert not expected["dx"][padding].any()
    assert not expected["y"][padding].any()
    for poison in (np.nan, np.inf, 1e30):
        poisoned = {k: v.copy() for k, v in arrays.items()}
        poisoned["x"][padding] = poison
        poisoned["dy"][padding] = poison
        run = run_layer(lstm, poisoned, case.lengths)
        for name, value in expected.items():
            np.testing.assert_array_equal(run[name], value, err_msg=name)


# ---- long chains --------------------------------------------------------------------------------

STEPS = 1000


def long_chain(dtype="float64"):
    """A layer of constant gates (weights 0), f so near 1 that 1000 steps are felt."""
    case = Case(
        input_size=1,
        hidden_size=3,
        batch=2,
        time=STEPS,
        cell_activation="identity",
        dtype=dtype,
    )
    lstm = case.layer()
    lstm.parameters[:] = 0
    lstm["bias_l0"] = np.repeat([-1.0, 7.0, 0.7, 0.4], 3)
    _, arrays = case.draw()
    return case, lstm, arrays


@pytest.mark.parametrize("checkpoint", [None, 31])
def test_long_chain_closed_form(checkpoint):
    """c_T = f^T c_0 + i g (1 - f^T) / (1 - f), h = o c, and their derivatives."""
    case, lstm, arrays = long_chain()
    if checkpoint:
        parameters = lstm.parameters.copy()
        lstm = case.layer(checkpoint=checkpoint)
        lstm.parameters[:] = parameters
    arrays = arrays | {"dy": np.zeros_like(arrays["dy"]), "dh_n": np.zeros_like(arrays["dh_n"])}
    run = run_layer(lstm, arrays)

    with mpmath.workdps(40):
        i, f, o = (1 / (1 + mpmath.exp(-mpmath.mpf(v))) for v in ("-1", "7", "0.4"))
        g = mpmath.tanh(mpmath.mpf(0.7))
        f_n = f**STEPS
        series = (1 - f_n) / (1 - f)
        # d f^n / df and d series / df
        df_n = STEPS * f ** (STEPS - 1)
        dseries = (-df_n * (1 - f) + (1 - f_n)) / (1 - f) ** 2
        f_n, into, df_n, dinto, f, series, i, g = (
            float(v) for v in (f_n, i * g * series, df_n, i * g * dseries, f, series, i, g)
        )
        o = float(1 / (1 + mpmath.exp(-mpmath.mpf(0.4))))
    tolerance = 1e-12 * STEPS
    c_n = f_n * arrays["c_0"] + into
    np.testing.assert_allclose(run["c_n"], c_n, rtol=tolerance)
    np.testing.assert_allclose(run["h_n"], o * c_n, rtol=tolerance)
    np.testing.assert_allclose(run["y"][:, -1], o * c_n[0], rtol=tolerance)
    np.testing.assert_allclose(run["dc_0"], f_n * arrays["dc_n"], rtol=tolerance)
    dc_n = arrays["dc_n"][0]
    expected = np.concatenate(
        [
            (dc_n * g * series * i * (1 - i)).sum(0),
            (dc_n * (df_n * arrays["c_0"][0] + dinto) * f * (1 - f)).sum(0),
            (dc_n * i * series * (1 - g**2)).sum(0),
            np.zeros(3),
        ]
    )
    np.testing.assert_allclose(run["bias_l0"], expected, rtol=tolerance)
    assert not run["dx"].any()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-9)])
def test_first_input_is_remembered_for_1000_steps(dtype, tolerance):
    """x enters through g at the first step only; at the last, c is f^(T-1) times what entered."""
    _, lstm, arrays = long_chain(dtype)
    lstm["bias_l0"] = np.repeat([-1.0, 7.0, 0.0, 0.4], 3)
    lstm["weight_ih_l0"][6:9] = np.array([[0.3], [-0.5], [0.9]])
    x = np.zeros((2, STEPS, 1), dtype)
    x[:, 0, 0] = (0.8, -1.7)
    tape = lstm.tape()
    _, (_, c_n) = lstm.forward(x, tape=tape)
    dx, _ = lstm.backward(tape, None, (None, arrays["dc_n"]))
    w = np.array([0.3, -0.5, 0.9])
    i, f = 1 / (1 + np.exp(1.0)), 1 / (1 + np.exp(-7.0))
    g = np.tanh(x[:, 0].astype(float) * w)
    kept = i * np.exp((STEPS - 1) * np.log(f))
    np.testing.assert_allclose(c_n[0], kept * g, rtol=tolerance)
    np.testing.assert_allclose(
        dx[:, 0, 0], (arrays["dc_n"][0] * kept * (1 - g**2) * w).sum(1), rtol=tolerance
    )
