"""The yardstick measured: `reference` against derivatives, and against PyTorch."""

import numpy as np
import pytest
import reference
from harness import TOLERANCE, Case, assert_close, assert_same_run, run_reference
from make_torch_outputs import CASES, committed

pytestmark = pytest.mark.needs_source

SMALL = [
    Case(time=1),
    Case(time=7, cell_activation="identity"),
    Case(input_size=2, hidden_size=3, num_layers=2, bidirectional=True, batch=3, time=4),
    Case(
        input_size=2,
        hidden_size=3,
        num_layers=3,
        bidirectional=True,
        batch=4,
        time=4,
        lengths=(0, 4, 1, 3),
    ),
]


def loss(case, parameters, arrays):
    """Sum of the outputs, weighted by the upstream gradients. Complex arrays allowed."""
    lengths = np.array(case.lengths or [case.time] * case.batch)
    flat = list(parameters.values())
    weights = [tuple(flat[k : k + 3]) for k in range(0, len(flat), 3)]
    y, h_n, c_n, _ = reference.forward(
        weights,
        arrays["x"],
        arrays["h_0"],
        arrays["c_0"],
        lengths,
        case.cell_activation,
        case.bidirectional,
    )
    return sum(np.sum(out * arrays[d]) for out, d in ((y, "dy"), (h_n, "dh_n"), (c_n, "dc_n")))


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_backward_is_the_derivative_of_forward(case):
    parameters, arrays = case.draw(1)
    run = run_reference(case, parameters, arrays, case.lengths)
    inputs = {"x": "dx", "h_0": "dh_0", "c_0": "dc_0"}
    for name in [*inputs, *parameters]:
        home = arrays if name in inputs else parameters
        central, complex_step = np.empty(home[name].shape), np.empty(home[name].shape)
        for index in np.ndindex(home[name].shape):
            original = home[name]

            def at(step):
                home[name] = original.astype(type(step))  # noqa: B023
                home[name][index] += step  # noqa: B023
                value = loss(case, parameters, arrays)
                home[name] = original  # noqa: B023
                return value

            central[index] = (at(1e-5) - at(-1e-5)) / 2e-5
            complex_step[index] = at(1e-30j).imag / 1e-30
        gradient = run[inputs.get(name, name)]
        np.testing.assert_allclose(gradient, central, rtol=1e-7, atol=1e-8, err_msg=name)
        assert_close(gradient, complex_step, 1e-13, name)


@pytest.mark.parametrize("name", CASES)
def test_reference_agrees_with_committed_torch(name):
    case = CASES[name]
    parameters, arrays, expected = committed(name)
    run = run_reference(case, parameters, arrays, case.lengths, dtype=case.dtype)
    assert_same_run(run, expected, TOLERANCE[case.dtype])


def test_one_step_by_hand():
    """One unit, one input, one step, in scalars: the equations of the docstring, typed again."""
    w, u, b = [0.1, -0.2, 0.3, 0.4], [0.5, 0.6, -0.7, 0.8], [0.01, 0.02, 0.03, -0.04]
    x, h, c = 0.9, -0.3, 0.7
    i, f, g, o = (w[k] * x + u[k] * h + b[k] for k in range(4))
    i, f, o = (1 / (1 + np.exp(-v)) for v in (i, f, o))
    c_1 = f * c + i * np.tanh(g)
    column = [np.array(v)[:, None] for v in (w, u)]
    y, h_n, c_n, _ = reference.forward(
        [(*column, np.array(b))],
        np.full((1, 1, 1), x),
        np.full((1, 1, 1), h),
        np.full((1, 1, 1), c),
        np.array([1]),
    )
    np.testing.assert_allclose(c_n.item(), c_1, rtol=1e-15)
    np.testing.assert_allclose(y.item(), o * np.tanh(c_1), rtol=1e-15)
    assert h_n.item() == y.item()


def test_sequence_of_length_zero_keeps_its_state():
    case = Case(batch=3, lengths=(0, 6, 0), num_layers=2)
    parameters, arrays = case.draw()
    run = run_reference(case, parameters, arrays, case.lengths)
    ended = [0, 2]
    assert not run["y"][ended].any()
    for name in ("h", "c"):
        np.testing.assert_array_equal(run[f"{name}_n"][:, ended], arrays[f"{name}_0"][:, ended])
        np.testing.assert_array_equal(run[f"d{name}_0"][:, ended], arrays[f"d{name}_n"][:, ended])
