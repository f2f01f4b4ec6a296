"""Optimisers and clipping: against readable NumPy, against PyTorch, and against bad input."""

import math
import pickle

import numpy as np
import pytest

from lstm_ext.optim import (
    SGD,
    Adam,
    AdamW,
    RMSprop,
    clip_by_global_norm,
    clip_by_value,
    global_norm,
)

DTYPES = ["float32", "float64"]
# Around the width of the compiled loops' partial sums, and well beyond it.
SIZES = [0, 1, 3, 15, 16, 17, 33, 1000]


def tolerance(dtype):
    return {"float32": 2e-6, "float64": 1e-13}[dtype]


def reference_adam(theta, gradients, lr, betas, eps):
    """Algorithm 1 of Kingma and Ba, as it is printed."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        m_hat = m / (1 - betas[0] ** t)
        v_hat = v / (1 - betas[1] ** t)
        theta = theta - lr * m_hat / (np.sqrt(v_hat) + eps)
    return theta


def reference_sgd(theta, gradients, lr, momentum):
    velocity = np.zeros_like(theta)
    for g in gradients:
        velocity = momentum * velocity + g
        theta = theta - lr * velocity
    return theta


def reference_rmsprop(theta, gradients, lr, alpha, eps, decay):
    square = np.zeros_like(theta)
    for g in gradients:
        g = g + decay * theta
        square = alpha * square + (1 - alpha) * g**2
        theta = theta - lr * g / (np.sqrt(square) + eps)
    return theta


def reference_adamw(theta, gradients, lr, betas, eps, decay):
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(gradients, start=1):
        theta = theta - lr * decay * theta
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        theta = theta - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return theta


def problem(n, dtype, steps=300):
    rng = np.random.default_rng(n)
    theta = rng.normal(size=n).astype(dtype)
    # Gradients over many orders of magnitude, as they are in an LSTM.
    spread = 10.0 ** rng.uniform(-6, 2, size=n)
    return theta, (rng.normal(size=(steps, n)) * spread).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("betas, eps", [((0.9, 0.999), 1e-8), ((0.5, 0.9), 1e-3), ((0, 0), 1.0)])
def test_adam_follows_the_paper(n, dtype, betas, eps):
    theta, gradients = problem(n, dtype)
    expected = reference_adam(theta.astype(float), gradients.astype(float), 0.01, betas, eps)
    optimizer = Adam(0.01, betas=betas, eps=eps)
    for g in gradients:
        optimizer.step(theta, g)
    assert theta.dtype == dtype
    # Absolute: 300 steps of 0.01, each rounded to theta's last place.
    np.testing.assert_allclose(theta, expected, rtol=0, atol=100 * tolerance(dtype))


@pytest.mark.parametrize("dtype, rtol", [("float32", 5e-7), ("float64", 1e-15)])
@pytest.mark.parametrize("beta2", [0.9, 0.999, 0.99999])
def test_first_step_of_adam_is_lr_against_the_sign(dtype, rtol, beta2):
    theta = np.zeros(3, dtype)
    optimizer = Adam(0.1, betas=(0.9, beta2), eps=1e-30)
    optimizer.step(theta, np.array([1e-5, -3.0, 0.0], dtype))
    # Tight enough to see a 1 - beta2 that was rounded before it was subtracted.
    np.testing.assert_allclose(theta, [-0.1, 0.1, 0.0], rtol=rtol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_follows_its_equation(n, dtype, momentum):
    theta, gradients = problem(n, dtype, steps=50)
    expected = reference_sgd(theta.astype(float), gradients.astype(float), 1e-3, momentum)
    optimizer = SGD(1e-3, momentum=momentum)
    for g in gradients:
        optimizer.step(theta, g)
    np.testing.assert_allclose(theta, expected, rtol=0, atol=100 * tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
def test_rmsprop_and_adamw_follow_their_equations(n, dtype):
    theta, gradients = problem(n, dtype)
    wide = theta.astype(float), gradients.astype(float)
    for optimizer, expected in [
        (RMSprop(1e-3, alpha=0.9, eps=1e-6, weight_decay=0.1),
         reference_rmsprop(*wide, 1e-3, 0.9, 1e-6, 0.1)),
        (AdamW(1e-2, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.3),
         reference_adamw(*wide, 1e-2, (0.8, 0.99), 1e-6, 0.3)),
    ]:
        ours = theta.copy()
        for g in gradients:
            optimizer.step(ours, g)
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, expected, rtol=0, atol=100 * tolerance(dtype))


@pytest.mark.parametrize("make", [SGD, lambda lr, **w: SGD(lr, momentum=0.5, **w), Adam, AdamW, RMSprop])
def test_clipping_by_value_is_clipping_the_gradient_first(make):
    theta, gradients = problem(33, "float64", steps=20)
    twin = theta.copy()
    ours, theirs = make(1e-2, max_value=0.5, max_norm=1.5), make(1e-2, max_norm=1.5)
    for g in gradients:
        before = g.copy()
        ours.step(theta, g)
        np.testing.assert_array_equal(g, before)
        clip_by_value(g, 0.5)
        assert np.abs(g).max() <= 0.5 and (np.sign(g) == np.sign(before)).all()
        theirs.step(twin, g)
    np.testing.assert_array_equal(theta, twin)
    copied = pickle.loads(pickle.dumps(ours))
    copied.step(twin, g)
    ours.step(theta, g)
    np.testing.assert_array_equal(theta, twin)


def test_weight_decay_alone_shrinks():
    theta, nothing = np.array([1.0, -2.0]), np.zeros(2)
    AdamW(0.1, weight_decay=0.5).step(theta, nothing)
    np.testing.assert_allclose(theta, [0.95, -1.9])
    SGD(0.1, weight_decay=0.5).step(theta, nothing)
    np.testing.assert_allclose(theta, [0.95 * 0.95, -1.9 * 0.95])


@pytest.mark.parametrize("clipping", [False, True])
@pytest.mark.parametrize("make, name, words", [
    (Adam, "Adam", {"lr": 3e-3}),
    (Adam, "Adam", {"lr": 3e-3, "betas": (0.8, 0.95), "eps": 1e-4}),
    (SGD, "SGD", {"lr": 0.02}),
    (SGD, "SGD", {"lr": 0.02, "momentum": 0.7}),
    (SGD, "SGD", {"lr": 0.02, "weight_decay": 0.1}),
    (SGD, "SGD", {"lr": 0.02, "momentum": 0.7, "weight_decay": 0.1}),
    (Adam, "Adam", {"lr": 3e-3, "weight_decay": 0.1}),
    (AdamW, "AdamW", {"lr": 3e-3}),
    (AdamW, "AdamW", {"lr": 3e-3, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.2}),
    (RMSprop, "RMSprop", {"lr": 3e-3}),
    (RMSprop, "RMSprop", {"lr": 3e-3, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1}),
])
def test_optimisers_agree_with_torch(make, name, words, clipping):
    torch = pytest.importorskip("torch")
    theta, gradients = problem(257, "float64", steps=200)
    gradients /= 100
    # Half of the gradients are to be clipped, the other half not.
    max_norm = float(np.median(np.linalg.norm(gradients, axis=1))) if clipping else None
    ours = make(**words, max_norm=max_norm)
    parameter = torch.nn.Parameter(torch.tensor(theta))
    optimizer = getattr(torch.optim, name)([parameter], **words)
    for g in gradients:
        parameter.grad = torch.tensor(g)
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_([parameter], max_norm)
        optimizer.step()
        ours.step(theta, g)
    # torch divides by norm + 1e-6 where it clips.
    np.testing.assert_allclose(theta, parameter.detach(), atol=1e-6 if clipping else 1e-12)


def test_adam_minimises_rosenbrock():
    theta = np.array([-1.2, 1.0])
    optimizer = Adam(0.02)
    for _ in range(5000):
        a, b = theta
        optimizer.step(theta, np.array([-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)]))
    np.testing.assert_allclose(theta, [1, 1], atol=1e-3)


# Norm and clipping --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
def test_global_norm(n, dtype):
    g = np.random.default_rng(n).normal(size=n).astype(dtype)
    assert global_norm(g) == pytest.approx(math.hypot(*g.astype(float)), rel=1e-15 * max(n, 1))


@pytest.mark.parametrize("values, dtype, expected", [
    ([3, -4], "float64", 5.0),
    ([3e300, 4e300], "float64", 5e300),
    ([3e-300, 4e-300], "float64", 5e-300),
    ([3e-310, 4e-310], "float64", 5e-310),
    ([5e-324], "float64", 5e-324),
    ([1e300] * 100, "float64", 1e301),
    ([2e38] * 400, "float32", 2e38 * 20),
    ([1e-45], "float32", 1.401298464324817e-45),
    ([0, -0.0], "float32", 0.0),
    ([1, np.inf, -np.inf], "float32", np.inf),
    ([1e300, 1e300, -np.inf], "float64", np.inf),
])
def test_norm_neither_overflows_nor_underflows(values, dtype, expected):
    assert global_norm(np.array(values, dtype)) == pytest.approx(expected, rel=1e-6, abs=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("values", [[1, np.nan, 2], [np.nan], [np.inf, np.nan], [1e300, np.nan]])
def test_norm_of_nan_is_nan(values, dtype):
    with np.errstate(over="ignore"):
        g = np.array(values).astype(dtype)
    assert math.isnan(global_norm(g))


@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_scales_down_and_keeps_the_direction(dtype):
    g = np.random.default_rng(0).normal(size=1000).astype(dtype)
    before = g.copy()
    norm = clip_by_global_norm(g, 2.5)
    assert norm == pytest.approx(np.linalg.norm(before.astype(float)), rel=1e-13)
    np.testing.assert_allclose(g, before * (2.5 / norm), rtol=tolerance(dtype))
    assert global_norm(g) == pytest.approx(2.5, rel=tolerance(dtype))


def test_clip_leaves_a_short_gradient_alone():
    g = np.array([0.3, 0.4])
    assert clip_by_global_norm(g, 0.6) == pytest.approx(0.5)
    np.testing.assert_array_equal(g, [0.3, 0.4])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [Adam, lambda **w: SGD(0.1, **w),
                                  lambda **w: SGD(0.1, momentum=0.5, **w)])
def test_step_with_max_norm_is_a_step_along_the_clipped_gradient(make, dtype):
    theta, gradients = problem(100, dtype, steps=20)
    expected, ours, theirs = theta.copy(), make(max_norm=1.0), make()
    for g in gradients:
        kept = g.copy()
        ours.step(theta, g)
        np.testing.assert_array_equal(g, kept)
        clip_by_global_norm(kept, 1.0)
        theirs.step(expected, kept)
    np.testing.assert_allclose(theta, expected, rtol=0, atol=20 * tolerance(dtype))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nothing_changes_when_the_gradient_is_not_finite(bad):
    theta, gradients = problem(20, "float64", steps=3)
    optimizer = Adam(max_norm=1.0)
    optimizer.step(theta, gradients[0])
    before, state = theta.copy(), optimizer.state
    gradients[1, 7] = bad
    with pytest.raises(FloatingPointError, match="gradient holds NaN or inf"):
        optimizer.step(theta, gradients[1])
    with pytest.raises(FloatingPointError, match="gradient holds NaN or inf"):
        clip_by_global_norm(gradients[1], 1.0)
    np.testing.assert_array_equal(theta, before)
    assert optimizer.state["t"] == 1
    np.testing.assert_array_equal(optimizer.state["m"], state["m"])
    assert gradients[1, 7] == bad or math.isnan(gradients[1, 7])


# State --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [lambda: Adam(0.01), lambda: SGD(0.01, momentum=0.9),
                                  lambda: SGD(0.01)])
@pytest.mark.parametrize("how", ["state", "pickle"])
def test_a_resumed_run_has_the_same_bits(make, dtype, how):
    theta, gradients = problem(50, dtype, steps=20)
    optimizer = make()
    for g in gradients[:10]:
        optimizer.step(theta, g)
    resumed_theta = theta.copy()
    if how == "pickle":
        resumed = pickle.loads(pickle.dumps(optimizer))
    else:
        resumed = make()
        resumed.state = optimizer.state
    for g in gradients[10:]:
        optimizer.step(theta, g)
        resumed.step(resumed_theta, g)
    np.testing.assert_array_equal(theta, resumed_theta)
    assert optimizer.state["t"] == resumed.state["t"] == 20


def test_state_is_a_copy():
    theta, gradients = problem(5, "float64", steps=2)
    optimizer = Adam()
    assert optimizer.state == {"t": 0}
    optimizer.step(theta, gradients[0])
    state = optimizer.state
    assert set(state) == {"t", "m", "v"}
    kept = state["m"].copy()
    optimizer.step(theta, gradients[1])
    np.testing.assert_array_equal(state["m"], kept)
    optimizer.state = state
    state["m"][:] = 0
    np.testing.assert_array_equal(optimizer.state["m"], kept)


@pytest.mark.parametrize("state, error, words", [
    ([1], TypeError, "expected a dict"),
    ({"m": np.zeros(3)}, TypeError, "entry 't'"),
    ({"t": -1}, ValueError, "integer >= 0"),
    ({"t": 1.5}, ValueError, "integer >= 0"),
    ({"t": 1}, ValueError, r"has the vectors \[\]; expected \['m', 'v'\]"),
    ({"t": 0, "m": np.zeros(3), "v": np.zeros(3)}, ValueError, "after 0 steps"),
    ({"t": 1, "velocity": np.zeros(3)}, ValueError, "velocity"),
    ({"t": 1, "m": np.zeros(3), "v": np.zeros(4)}, ValueError, "differ"),
    ({"t": 1, "m": np.zeros(3), "v": [0, 0, 0]}, TypeError, r"state\['v'\] is list; expected a NumPy array"),
])
def test_bad_state_is_refused_whole(state, error, words):
    theta, gradients = problem(3, "float64", steps=2)
    optimizer = Adam()
    optimizer.step(theta, gradients[0])
    before = optimizer.state
    with pytest.raises(error, match=words):
        optimizer.state = state
    after = optimizer.state
    assert after["t"] == before["t"] == 1
    np.testing.assert_array_equal(after["m"], before["m"])
    np.testing.assert_array_equal(after["v"], before["v"])


# Bad input ----------------------------------------------------------------------------------------


def read_only(a):
    a.flags.writeable = False
    return a


def misaligned(n):
    return np.frombuffer(bytearray(8 * n + 1), np.uint8)[1:].view(np.float64)


@pytest.mark.parametrize("parameters, gradient, error, words", [
    ([0.0, 0.0], np.zeros(2), TypeError, "parameters is list; expected a NumPy array"),
    (np.zeros(2), [0.0, 0.0], TypeError, "gradient is list; expected a NumPy array"),
    (np.zeros(2, int), np.zeros(2, int), TypeError, "parameters is <i8; expected float32 or float64"),
    (np.zeros(2, ">f8"), np.zeros(2), TypeError, "is >f8; expected .* native byte order"),
    (np.zeros(2, "f2"), np.zeros(2, "f2"), TypeError, "is <f2; expected"),
    (np.zeros((2, 1)), np.zeros((2, 1)), ValueError, r"shape \(2, 1\); expected one dim"),
    (np.zeros(4)[::2], np.zeros(2), ValueError, "parameters has strides"),
    (np.zeros(2), np.zeros(2)[::-1], ValueError, "gradient has strides"),
    (np.zeros(2), np.broadcast_to(np.float64(1), 2), ValueError, "gradient has strides"),
    (misaligned(2), np.zeros(2), ValueError, "parameters has strides .*; expected a contiguous and aligned"),
    (read_only(np.zeros(2)), np.zeros(2), ValueError, "parameters is read-only"),
    (np.zeros(2), np.zeros(3), ValueError, r"gradient has shape \(3,\).*shape \(2,\)"),
    (np.zeros(2), np.zeros(2, "f4"), ValueError, "gradient has .* dtype float32"),
])
@pytest.mark.parametrize("optimizer", [Adam(), SGD(0.1), SGD(0.1, momentum=0.5)], ids=repr)
def test_bad_arrays_are_refused(optimizer, parameters, gradient, error, words):
    with pytest.raises(error, match=words):
        optimizer.step(parameters, gradient)
    assert optimizer.state == {"t": 0}


def test_overlapping_arrays_are_refused():
    both = np.zeros(10)
    for parameters, gradient in [(both, both), (both[:6], both[4:])]:
        with pytest.raises(ValueError, match="overlap"):
            Adam().step(parameters, gradient[: len(parameters)])
    Adam().step(both[:5], both[5:])  # neighbours are no neighbours' business


def test_a_read_only_gradient_is_enough():
    theta = np.zeros(3)
    SGD(1.0, max_norm=1.0).step(theta, read_only(np.array([3.0, 0.0, 4.0])))
    np.testing.assert_allclose(theta, [-0.6, 0, -0.8])
    with pytest.raises(ValueError, match="gradient is read-only"):
        clip_by_global_norm(read_only(np.ones(3)), 1.0)


@pytest.mark.parametrize("other", [np.zeros(4), np.zeros(3, "f4")])
def test_an_optimiser_belongs_to_one_vector(other):
    optimizer = Adam()
    optimizer.step(np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match="take a new optimizer"):
        optimizer.step(other, np.ones_like(other))
    assert optimizer.state["t"] == 1


@pytest.mark.parametrize("make, error, words", [
    (lambda: Adam(-1e-3), ValueError, "lr is -0.001; expected a finite number >= 0"),
    (lambda: Adam(np.nan), ValueError, "lr"),
    (lambda: Adam(np.inf), ValueError, "lr"),
    (lambda: Adam("fast"), TypeError, "lr is 'fast'; expected a finite number >= 0"),
    (lambda: Adam(True), TypeError, "lr"),
    (lambda: Adam(betas=0.9), ValueError, "betas is .*; expected two numbers"),
    (lambda: Adam(betas=(0.9,)), ValueError, "betas is .*; expected two numbers"),
    (lambda: Adam(betas=(0.9, 1.0)), ValueError, r"betas\[1\] is .*; expected a number in \[0, 1\)"),
    (lambda: Adam(eps=0), ValueError, "eps is .*; expected a finite number > 0"),
    (lambda: Adam(max_norm=0), ValueError, "max_norm is .*; expected a finite number > 0"),
    (lambda: SGD(0.1, momentum=1), ValueError, "momentum"),
    (lambda: SGD(0.1, momentum=-0.1), ValueError, "momentum"),
    (lambda: SGD(0.1, max_norm=-1), ValueError, "max_norm"),
    (lambda: clip_by_global_norm(np.ones(2), np.nan), ValueError, "max_norm"),
    (lambda: clip_by_global_norm([1.0], 1.0), TypeError, "gradient is list; expected a NumPy array"),
    (lambda: global_norm(np.ones((2, 2))), ValueError, "gradient has shape .*; expected one dim"),
])
def test_bad_words_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_repr_says_what_it_is():
    assert repr(Adam(0.01)) == "Adam(lr=0.01, betas=(0.9, 0.999), eps=1e-08, max_norm=None)"
    assert repr(SGD(1, momentum=0.5)) == "SGD(lr=1.0, momentum=0.5, max_norm=None)"
    assert repr(AdamW()).endswith("eps=1e-08, max_norm=None, weight_decay=0.01)")
    assert repr(RMSprop(max_value=1)).endswith("alpha=0.99, eps=1e-08, max_norm=None, max_value=1.0)")


@pytest.mark.parametrize("make, words", [
    (lambda: RMSprop(alpha=1.0), r"alpha is .*; expected a number in \[0, 1\)"),
    (lambda: RMSprop(eps=0), "eps is .*; expected"),
    (lambda: AdamW(weight_decay=-1), "weight_decay is -1; expected a finite number >= 0"),
    (lambda: Adam(max_value=0), "max_value is 0; expected a finite number > 0"),
    (lambda: clip_by_value(np.ones(3), -1.0), "max_value is .*; expected"),
])
def test_bad_words_to_the_newer_ones(make, words):
    with pytest.raises(ValueError, match=words):
        make()
