"""sigmoid and tanh of the kernel in force, against mpmath, and at the edges.

tanh: at most 4 units in the last place. sigmoid: absolute error at most one unit in the last place
of 1.0 (a gate multiplies, so its absolute error is what counts).
"""

import mpmath
import numpy as np
import pytest

from lstm_ext import _kernels

DTYPES = ["float32", "float64"]
mpmath.mp.dps = 40


@pytest.fixture(params=_kernels.available(), autouse=True)
def _kernel(request):
    """Run every test once per kernel."""
    before = _kernels.current()
    _kernels.select(request.param)
    yield
    _kernels.select(before)


def sweep(dtype):
    """Points of all magnitudes and signs, dense where the functions bend and saturate."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [
            np.linspace(-1, 1, 401),
            np.linspace(-25, 25, 801),
            rng.uniform(0, 1, 400),
            rng.uniform(-10, 10, 600),
            np.geomspace(float(info.smallest_subnormal), 1e3, 300),
            # Where exp of the argument overflows and underflows.
            np.linspace(-110, -80, 100),
            np.linspace(-760, -690, 100),
        ]
    ).astype(dtype)
    # The neighbourhoods of small multiples of log 2, where range reductions switch.
    turns = (np.arange(-12, 13) * np.log(2) / 4).astype(dtype)
    near = [turns]
    for toward in (-np.inf, np.inf):
        step = turns
        for _ in range(3):
            step = np.nextafter(step, np.asarray(toward, dtype))
            near.append(step)
    x = np.concatenate([x, *near])
    return np.unique(np.concatenate([x, -x]))


def ulp_errors(actual, x, function):
    """Error of each element, in units in the last place of the exact result."""
    info = np.finfo(actual.dtype)
    errors = []
    for a, v in zip(actual, x, strict=True):
        exact = function(mpmath.mpf(float(v)))
        size = max(abs(float(exact)), float(info.smallest_normal))
        ulp = float(np.spacing(np.asarray(size, actual.dtype)))
        errors.append(float(abs(mpmath.mpf(float(a)) - exact)) / ulp)
    return np.array(errors)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_within_4_ulp(dtype):
    x = sweep(dtype)
    errors = ulp_errors(_kernels.tanh(x), x, mpmath.tanh)
    assert errors.max() <= 4, (x[errors.argmax()], errors.max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_within_one_ulp_of_one(dtype):
    x = sweep(dtype)
    actual = _kernels.sigmoid(x)
    errors = np.array(
        [
            float(abs(mpmath.mpf(float(a)) - 1 / (1 + mpmath.exp(-mpmath.mpf(float(v))))))
            for a, v in zip(actual, x, strict=True)
        ]
    )
    assert errors.max() <= np.finfo(dtype).eps, (x[errors.argmax()], errors.max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges(dtype):
    info = np.finfo(dtype)
    x = np.array([0.0, -0.0, np.inf, -np.inf, info.max, -info.max, 1e4, -1e4], dtype)
    tanh, sigmoid = _kernels.tanh(x), _kernels.sigmoid(x)
    assert tanh.dtype == sigmoid.dtype == dtype
    np.testing.assert_array_equal(tanh, [0, 0, 1, -1, 1, -1, 1, -1])
    np.testing.assert_array_equal(np.signbit(tanh[:2]), [False, True])
    np.testing.assert_array_equal(sigmoid[[0, 1, 2, 4, 6]], [0.5, 0.5, 1, 1, 1])
    # A gate that is shut may leak less than a normal number's worth.
    assert (sigmoid[[3, 5, 7]] >= 0).all()
    assert (sigmoid[[3, 5, 7]] <= 10 * info.smallest_normal).all()
    assert np.isnan(_kernels.tanh(np.array([np.nan, -np.nan], dtype))).all()
    assert np.isnan(_kernels.sigmoid(np.array([np.nan, -np.nan], dtype))).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormals_and_small_arguments(dtype):
    """tanh(x) is x where x^3/3 is below rounding, subnormals and all; sigmoid is 1/2."""
    info = np.finfo(dtype)
    x = np.concatenate(
        [
            np.arange(1, 20) * info.smallest_subnormal,
            np.geomspace(float(info.smallest_subnormal), float(np.sqrt(info.eps)) / 4, 100),
        ]
    ).astype(dtype)
    for sign in (1, -1):
        tanh = _kernels.tanh(sign * x)
        spacing = np.spacing(np.maximum(x, info.smallest_normal))
        assert (np.abs(tanh - sign * x) <= 4 * spacing).all()
        assert (np.signbit(tanh) == (sign < 0)).all()
    np.testing.assert_array_equal(_kernels.sigmoid(x[:19]), np.full(19, 0.5, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_is_odd_to_the_bit(dtype):
    x = sweep(dtype)
    np.testing.assert_array_equal(_kernels.tanh(-x), -_kernels.tanh(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_reflects(dtype):
    """sigma(x) + sigma(-x) = 1."""
    x = sweep(dtype)
    total = _kernels.sigmoid(x) + _kernels.sigmoid(-x)
    np.testing.assert_allclose(total, 1, rtol=0, atol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_bounded_and_saturating(name, dtype):
    y = getattr(_kernels, name)(np.linspace(-1000, 1000, 100_001).astype(dtype))
    low = {"tanh": -1, "sigmoid": 0}[name]
    assert low <= y.min() <= low + 10 * np.finfo(dtype).smallest_normal
    assert y.max() == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_monotone(name, dtype):
    """Never falls by more than rounding, on a fine grid and from one number to the next."""
    function, eps = getattr(_kernels, name), np.finfo(dtype).eps
    x = np.linspace(-20, 20, 2_000_001).astype(dtype)
    assert np.diff(function(x)).min() >= -2 * eps
    for start in (-9.0, -1.0, -0.6250001, -1e-3, 0.1733, 0.3465, 0.54931, 0.625, 1.0, 9.01):
        x = np.asarray(start, dtype) + np.arange(4000) * np.spacing(np.asarray(abs(start), dtype))
        y = function(x)
        assert (np.diff(y) >= -2 * np.spacing(np.abs(y[1:]))).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [*range(1, 36), 63, 64, 65, 1000])
def test_position_in_the_array_does_not_matter(size, dtype):
    """Vector bodies and tails give the same bits, and write nothing outside."""
    x = np.random.default_rng(1).uniform(-4, 4, size).astype(dtype)
    for function in (_kernels.tanh, _kernels.sigmoid):
        alone = np.concatenate([function(x[k : k + 1]) for k in range(size)])
        np.testing.assert_array_equal(function(x), alone)


def test_shapes_and_dtypes():
    x = np.linspace(-2, 2, 24).reshape(2, 3, 4)
    for function in (_kernels.tanh, _kernels.sigmoid):
        y = function(x)
        assert y.shape == x.shape
        np.testing.assert_array_equal(function(np.asfortranarray(x)), y)
        np.testing.assert_array_equal(function(x[::-1, ::2]), y[::-1, ::2])
        assert function(x[:0]).shape == (0, 3, 4)
        assert function(x[0, 0, 0]).shape == ()
        for wrong in (
            x.astype(x.dtype.newbyteorder()),
            x.astype("float16"),
            x.astype(int),
            x + 1j,
            ["a"],
            None,
        ):
            with pytest.raises(TypeError, match=r"\bx\b"):
                function(wrong)
