"""Losses: values by hand, gradients by central differences, both against PyTorch."""

import numpy as np
import pytest

from lstm_ext.losses import CrossEntropy, MeanSquaredError

DTYPES = ["float32", "float64"]
WEIGHTS = ["none", "mask", "numbers"]


def example(kind, shape, seed=0):
    """A loss, predictions of that shape, targets, and weights of the given kind."""
    rng = np.random.default_rng(seed)
    loss, how = kind
    prediction = rng.normal(size=shape) * 3
    target = rng.integers(0, shape[-1], shape[:-1])
    if isinstance(loss, MeanSquaredError):
        target = rng.normal(size=shape)
    weights = None
    if how == "mask":
        weights = rng.random(shape[:-1]) < 0.6
        weights.flat[0] = True
    elif how == "numbers":
        weights = rng.uniform(0, 2, shape[:-1])
    return loss, prediction, target, weights


KINDS = [(loss, how) for loss in (MeanSquaredError(), CrossEntropy()) for how in WEIGHTS]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")


def test_mean_squared_error_by_hand():
    loss = MeanSquaredError()
    prediction = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    target = np.array([[1.0, 0.0], [0.0, 4.0], [5.0, 5.0]])
    value, gradient = loss.value_and_gradient(prediction, target)
    assert value == pytest.approx((4 + 9 + 1) / 6)
    np.testing.assert_allclose(gradient, np.array([[0, 2], [3, 0], [0, 1]]) * 2 / 6)
    value, gradient = loss.value_and_gradient(prediction, target, [True, False, True])
    assert value == pytest.approx((4 + 1) / 4)
    np.testing.assert_allclose(gradient, np.array([[0, 2], [0, 0], [0, 1]]) * 2 / 4)


def test_cross_entropy_by_hand():
    loss = CrossEntropy()
    # softmax = (1/2, 1/4, 1/4) and (1/8, 3/4, 1/8)
    prediction = np.log([[2.0, 1.0, 1.0], [1.0, 6.0, 1.0]])
    value, gradient = loss.value_and_gradient(prediction, np.array([0, 2]))
    assert value == pytest.approx((np.log(2) + np.log(8)) / 2)
    np.testing.assert_allclose(gradient, [[-1 / 4, 1 / 8, 1 / 8], [1 / 16, 3 / 8, -7 / 16]])
    assert loss.value(prediction, [0, 2], [3, 1]) == pytest.approx((3 * np.log(2) + np.log(8)) / 4)


@kinds
@pytest.mark.parametrize("shape", [(7, 1), (5, 3), (4, 6, 2)])
def test_gradient_is_the_derivative_of_the_value(kind, shape):
    loss, prediction, target, weights = example(kind, shape)
    analytic = loss.gradient(prediction, target, weights)
    assert analytic.shape == shape
    step = 1e-6
    numeric = np.empty(shape)
    for index in np.ndindex(shape):
        ahead, behind = prediction.copy(), prediction.copy()
        ahead[index] += step
        behind[index] -= step
        numeric[index] = (
            loss.value(ahead, target, weights) - loss.value(behind, target, weights)
        ) / (2 * step)
    np.testing.assert_allclose(analytic, numeric, rtol=1e-7, atol=1e-9)


@kinds
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("float64", 1e-13)])
def test_losses_agree_with_torch(kind, dtype, tolerance):
    torch = pytest.importorskip("torch")
    loss, prediction, target, weights = example(kind, (6, 9, 4))
    prediction = prediction.astype(dtype)
    value, gradient = loss.value_and_gradient(prediction, target, weights)
    p = torch.tensor(prediction.astype("float64"), requires_grad=True)
    if isinstance(loss, MeanSquaredError):
        each = (p - torch.tensor(target)).square().mean(-1)
    else:
        each = torch.nn.functional.cross_entropy(
            p.movedim(-1, 1), torch.tensor(target), reduction="none"
        )
    w = torch.ones_like(each) if weights is None else torch.tensor(weights, dtype=each.dtype)
    theirs = (w * each).sum() / w.sum()
    theirs.backward()
    assert gradient.dtype == dtype
    assert value == pytest.approx(theirs.item(), rel=1e-13)
    np.testing.assert_allclose(gradient, p.grad, rtol=tolerance, atol=tolerance * 1e-3)


@kinds
def test_weight_zero_is_the_same_as_absence_and_weight_two_as_repetition(kind):
    loss, prediction, target, _ = example(kind, (6, 3))
    weights = np.array([1.0, 0.0, 2.0, 1.0, 0.0, 1.0])
    chosen = [0, 2, 2, 3, 5]
    value, gradient = loss.value_and_gradient(prediction, target, weights)
    repeated, each = loss.value_and_gradient(prediction[chosen], target[chosen])
    assert value == pytest.approx(repeated, rel=1e-14)
    np.testing.assert_allclose(gradient[2], 2 * each[1], rtol=1e-13)
    np.testing.assert_array_equal(gradient[[1, 4]], 0)


@kinds
def test_what_does_not_count_may_be_anything(kind):
    loss, prediction, target, _ = example(kind, (5, 3))
    mask = np.array([True, True, False, True, False])
    expected = loss.value_and_gradient(prediction, target, mask)
    prediction[~mask] = np.nan
    target[~mask] = np.nan if target.dtype.kind == "f" else -100
    value, gradient = loss.value_and_gradient(prediction, target, mask)
    assert value == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])


def test_cross_entropy_stays_finite_at_huge_logits():
    loss = CrossEntropy()
    prediction = np.array([[1e4, -1e4, 0.0], [-1e30, 3e38, 0.0]], "float32")
    value, gradient = loss.value_and_gradient(prediction, np.array([0, 1]))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)
    assert loss.value(prediction[:1], np.array([1])) == pytest.approx(2e4)
    np.testing.assert_array_equal(loss.gradient(prediction[:1], np.array([1])), [[1, -1, 0]])


def test_values_are_accumulated_in_double():
    # The square of 1e30 is beyond float32, and 2**26 + 1 is not among its numbers.
    big = np.full((1, 1), 1e30, "float32")
    assert MeanSquaredError().value(big, np.zeros((1, 1))) == pytest.approx(1e60, rel=1e-6)
    prediction = np.ones((2**20, 1), "float32")
    prediction[0] = 2**13
    value = MeanSquaredError().value(prediction, np.zeros_like(prediction))
    assert value == (2**26 + 2**20 - 1) / 2**20


@pytest.mark.parametrize("loss", [MeanSquaredError(), CrossEntropy()], ids=repr)
def test_inputs_are_left_alone(loss):
    _, prediction, target, weights = example((loss, "numbers"), (5, 3))
    copies = prediction.copy(), target.copy(), weights.copy()
    loss.value_and_gradient(prediction, target, weights)
    for array, copy in zip((prediction, target, weights), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


P = np.zeros((4, 3))
MSE, CE = MeanSquaredError(), CrossEntropy()


@pytest.mark.parametrize("loss, prediction, target, weights, error, words", [
    (MSE, P, np.zeros((4,)), None, ValueError, r"y has shape \(4,\).* \(4, 3\)"),
    (MSE, P, np.zeros((4, 1)), None, ValueError, r"y has shape \(4, 1\)"),
    (MSE, P, np.zeros((4, 3), complex), None, TypeError, "real numbers, got dtype complex128"),
    (MSE, P, np.zeros((4, 3), object), None, TypeError, "got dtype object"),
    (MSE, P.astype(int), np.zeros((4, 3)), None, TypeError, "prediction must be a float32 or"),
    (MSE, np.float64(1), np.float64(1), None, TypeError, "prediction must be a float32 or"),
    (MSE, P, P, np.ones(3), ValueError, r"weights have shape \(3,\), expected \(4,\)"),
    (MSE, P, P, np.ones((4, 3)), ValueError, "weights have shape"),
    (MSE, P, P, [1, 1, -1, 1], ValueError, "weights must be finite and >= 0"),
    (MSE, P, P, [1, 1, np.nan, 1], ValueError, "weights must be finite and >= 0"),
    (MSE, P, P, [1, 1, np.inf, 1], ValueError, "weights must be finite and >= 0"),
    (MSE, P, P, ["a"] * 4, TypeError, "weights must be real numbers"),
    (MSE, P, P, np.zeros(4), ValueError, "nothing to average over"),
    (MSE, P[:0], P[:0], None, ValueError, "nothing to average over"),
    (CE, P, np.zeros(4), None, TypeError, "integer class numbers, got dtype float64"),
    (CE, P, np.zeros(4, bool), None, TypeError, "integer class numbers, got dtype bool"),
    (CE, P, np.zeros((4, 3), int), None, ValueError, r"y has shape \(4, 3\), expected \(4,\)"),
    (CE, P, np.array([0, 1, 2, 3]), None, ValueError, "from 0 to 3, .* 3 classes, 0 to 2"),
    (CE, P, np.array([0, 1, 2, -1]), None, ValueError, "from -1 to 2"),
    (CE, P, np.array([0, 1, 3, 1]), [1, 0, 1, 1], ValueError, "from 0 to 3"),
    (CE, P[:0], np.zeros(0, int), None, ValueError, "nothing to average over"),
])
def test_bad_input_is_refused(loss, prediction, target, weights, error, words):
    with pytest.raises(error, match=words):
        loss.value_and_gradient(prediction, target, weights)
