"""Row-major BLAS: every dtype, transpose, scale, layout and empty size against NumPy."""

import itertools

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import cython_blas

from lstm_ext._blas import _gemm_memview, _gemv_memview, _ger_memview

DTYPES = ["float32", "float64"]
SCALES = [0.0, 1.0, -1.7]
SIZES = [0, 1, 5]
RTOL = {"float32": 1e-5, "float64": 1e-13}
TOO_LARGE = 2**31


def matrix(rng, rows, cols, dtype, pad=0):
    """A random matrix whose rows are `pad` items apart."""
    return rng.standard_normal((rows, cols + pad)).astype(dtype)[:, :cols]


def spread(rng, n, dtype, step):
    return rng.standard_normal(n * step).astype(dtype)[::step]


def op(a, trans):
    return a.T if trans else a


def scaled(beta, c):
    """Beta times c, where beta = 0 forgets c whatever it holds."""
    return np.zeros_like(c) if beta == 0 else beta * c


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("pad", [0, 3])
def test_gemm(dtype, trans_a, trans_b, pad):
    rng = np.random.default_rng(0)
    for alpha, beta, m, n, k in itertools.product(SCALES, SCALES, SIZES, SIZES, [0, 1, 7]):
        a = matrix(rng, *op(np.empty((m, k)), trans_a).shape, dtype, pad)
        b = matrix(rng, *op(np.empty((k, n)), trans_b).shape, dtype, pad)
        around = np.full((m, n + pad), np.nan, dtype)
        c = around[:, :n]
        c[...] = np.nan if beta == 0 else rng.standard_normal((m, n))
        a0, b0 = a.copy(), b.copy()
        expected = alpha * (op(a, trans_a) @ op(b, trans_b)) + scaled(beta, c)
        _gemm_memview(trans_a, trans_b, alpha, a, b, beta, c)
        assert_allclose(c, expected, rtol=RTOL[dtype], atol=RTOL[dtype], err_msg=f"{m, n, k}")
        assert_array_equal(a, a0)
        assert_array_equal(b, b0)
        assert np.isnan(around[:, n:]).all(), "gemm wrote between the rows of C"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("trans", [False, True])
@pytest.mark.parametrize("pad", [0, 3])
@pytest.mark.parametrize("step", [1, 2])
def test_gemv(dtype, trans, pad, step):
    rng = np.random.default_rng(1)
    for alpha, beta, m, n in itertools.product(SCALES, SCALES, [0, 1, 5, 40], [0, 1, 7, 33]):
        a = matrix(rng, m, n, dtype, pad)
        len_y, len_x = op(a, trans).shape
        x = spread(rng, len_x, dtype, step)
        around = np.full(len_y * step, np.nan, dtype)
        y = around[::step]
        y[...] = np.nan if beta == 0 else rng.standard_normal(len_y)
        x0 = x.copy()
        expected = alpha * (op(a, trans) @ x) + scaled(beta, y)
        _gemv_memview(trans, alpha, a, x, beta, y)
        assert_allclose(y, expected, rtol=RTOL[dtype], atol=RTOL[dtype], err_msg=f"{m, n}")
        assert_array_equal(x, x0)
        if step == 2:
            assert np.isnan(around[1::2]).all(), "gemv wrote between the elements of y"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pad", [0, 3])
@pytest.mark.parametrize("step", [1, 2])
def test_ger(dtype, pad, step):
    rng = np.random.default_rng(2)
    for alpha, m, n in itertools.product(SCALES, SIZES, [0, 1, 33]):
        x, y = spread(rng, m, dtype, step), spread(rng, n, dtype, step)
        around = np.full((m, n + pad), np.nan, dtype)
        a = around[:, :n]
        a[...] = rng.standard_normal((m, n))
        expected = a + alpha * np.outer(x, y)
        _ger_memview(alpha, x, y, a)
        assert_allclose(a, expected, rtol=RTOL[dtype], atol=RTOL[dtype])
        assert np.isnan(around[:, n:]).all(), "ger wrote between the rows of A"


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_in_an_input_reaches_only_its_row(dtype):
    a = np.ones((3, 4), dtype)
    a[1, 2] = np.nan
    c, y = np.empty((3, 2), dtype), np.empty(3, dtype)
    _gemm_memview(False, False, 1.0, a, np.ones((4, 2), dtype), 0.0, c)
    _gemv_memview(False, 1.0, a, np.ones(4, dtype), 0.0, y)
    assert_array_equal(np.isnan(c).all(axis=1), [False, True, False])
    assert_array_equal(c[[0, 2]], 4)
    assert_array_equal(np.isnan(y), [False, True, False])


def test_inputs_may_be_read_only_and_shared():
    a = np.arange(9.0).reshape(3, 3)
    a.flags.writeable = False
    c = np.empty((3, 3))
    _gemm_memview(False, True, 1.0, a, a, 0.0, c)
    assert_array_equal(c, a @ a.T)


GOOD = {"a": (3, 4), "b": (4, 2), "c": (3, 2)}


@pytest.mark.parametrize(
    "shapes, name",
    [
        ({"a": (3, 5)}, "B"),
        ({"b": (5, 2)}, "B"),
        ({"b": (2, 4)}, "B"),
        ({"c": (2, 3)}, "C"),
        ({"c": (3, 3)}, "C"),
        ({"c": (0, 2)}, "C"),
    ],
)
def test_gemm_refuses_shapes(shapes, name):
    a, b, c = (np.ones(s) for s in (GOOD | shapes).values())
    with pytest.raises(ValueError, match=rf"^{name} has shape \(\d, \d\); expected \(\d, \d\)$"):
        _gemm_memview(False, False, 1.0, a, b, 0.0, c)
    assert_array_equal(c, 1)


def test_gemm_refuses_untransposed_shapes_once_transposed():
    with pytest.raises(ValueError, match="B has shape"):
        _gemm_memview(True, False, 1.0, np.ones((3, 4)), np.ones((4, 2)), 0.0, np.ones((3, 2)))
    with pytest.raises(ValueError, match="B has shape"):
        _gemm_memview(False, True, 1.0, np.ones((3, 4)), np.ones((4, 2)), 0.0, np.ones((3, 2)))


@pytest.mark.parametrize(
    "trans, n_x, n_y, name",
    [
        (False, 3, 3, "x"),
        (False, 4, 4, "y"),
        (True, 4, 4, "x"),
        (True, 3, 3, "y"),
    ],
)
def test_gemv_refuses_shapes(trans, n_x, n_y, name):
    y = np.ones(n_y)
    with pytest.raises(ValueError, match=f"^{name} has shape"):
        _gemv_memview(trans, 1.0, np.ones((3, 4)), np.ones(n_x), 0.0, y)
    assert_array_equal(y, 1)


def test_ger_refuses_shapes():
    a = np.ones((3, 4))
    with pytest.raises(ValueError, match=r"A has shape \(3, 4\); expected \(4, 3\)"):
        _ger_memview(1.0, np.ones(4), np.ones(3), a)
    assert_array_equal(a, 1)


def misaligned(shape):
    raw = np.zeros(8 * int(np.prod(shape)) + 1, np.uint8)
    return raw[1:].view(np.float64).reshape(shape)


@pytest.mark.parametrize(
    "bad",
    [
        np.ones((3, 4), order="F"),
        np.ones((3, 8))[:, ::2],
        np.ones((3, 4))[:, ::-1],
        np.ones((3, 4))[::-1],
        as_strided(np.ones(4), (3, 4), (0, 8)),
        as_strided(np.ones(3), (3, 4), (8, 0)),
        misaligned((3, 4)),
        as_strided(np.ones(64), (3, 4), (36, 8)),
    ],
    ids=[
        "fortran",
        "step",
        "columns reversed",
        "rows reversed",
        "one row",
        "one column",
        "misaligned",
        "row stride of 4.5 items",
    ],
)
def test_layouts_that_blas_cannot_read(bad):
    out = np.ones((3, 2))
    with pytest.raises(ValueError, match=r"\bA\b"):
        _gemm_memview(False, False, 1.0, bad, np.ones((4, 2)), 0.0, out)
    with pytest.raises(ValueError, match=r"\bA\b"):
        _gemv_memview(False, 1.0, bad, np.ones(4), 0.0, out[:, 0])
    assert_array_equal(out, 1)
    with pytest.raises(ValueError, match=r"\bA\b"):
        _ger_memview(1.0, np.ones(3), np.ones(4), bad)


@pytest.mark.parametrize(
    "bad",
    [
        np.ones(4)[::-1],
        np.broadcast_to(np.ones(1), 4),
        misaligned(4),
    ],
    ids=["reversed", "one element", "misaligned"],
)
def test_vectors_that_blas_cannot_read(bad):
    y = np.ones(3)
    with pytest.raises(ValueError, match=r"^x "):
        _gemv_memview(False, 1.0, np.ones((3, 4)), bad, 0.0, y)
    assert_array_equal(y, 1)
    with pytest.raises(ValueError, match=r"^y "):
        _ger_memview(1.0, y, bad, np.ones((3, 4)))


def test_outputs_apart_from_inputs():
    buffer = np.arange(30.0)
    before = buffer.copy()
    a, c = buffer[:16].reshape(4, 4), buffer[14:30].reshape(4, 4)
    for args in [(a, np.eye(4)), (np.eye(4), a)]:
        with pytest.raises(ValueError, match=r"C must not lie in the same memory as [AB]"):
            _gemm_memview(False, False, 1.0, *args, 0.0, c)
    with pytest.raises(ValueError, match="y must not lie in the same memory as x"):
        _gemv_memview(False, 1.0, np.eye(4), buffer[:4], 0.0, buffer[3:7])
    with pytest.raises(ValueError, match="y must not lie in the same memory as A"):
        _gemv_memview(False, 1.0, a, np.ones(4), 0.0, buffer[15:19])
    with pytest.raises(ValueError, match="A must not lie in the same memory as y"):
        _ger_memview(1.0, np.ones(4), buffer[12:16], a)
    assert_array_equal(buffer, before)
    # Neighbours that only touch are apart.
    _gemv_memview(False, 1.0, np.eye(4), buffer[:4], 0.0, buffer[4:8])
    assert_array_equal(buffer[4:8], before[:4])


def test_sizes_beyond_a_blas_integer():
    wide = np.empty((0, TOO_LARGE))
    with pytest.raises(OverflowError, match=r"A\.shape\[1\] is too large for BLAS: 2147483648"):
        _gemm_memview(False, False, 1.0, wide, wide.T, 0.0, np.empty((0, 0)))
    with pytest.raises(OverflowError, match=r"B\.shape\[0\]"):
        _gemm_memview(False, False, 1.0, np.empty((0, 0)), wide.T, 0.0, np.empty((0, 0)))
    far = as_strided(np.ones(1), (2, 1), (8 * TOO_LARGE, 8))
    with pytest.raises(OverflowError, match="row stride of A"):
        _gemv_memview(False, 1.0, far, np.ones(1), 0.0, np.ones(2))
    long = as_strided(np.ones(1), (TOO_LARGE,), (8,))
    with pytest.raises(OverflowError, match=r"x\.shape\[0\]"):
        _gemv_memview(True, 1.0, np.ones((1, 1)), long, 0.0, np.ones(1))
    with pytest.raises(OverflowError, match=r"stride of y"):
        _gemv_memview(False, 1.0, np.ones((2, 1)), np.ones(1), 0.0, far[:, 0])


@pytest.mark.parametrize(
    "other",
    [
        np.ones((4, 2), np.float32),
        np.ones((4, 2), np.int64),
        np.ones((4, 2), ">f8"),
        np.ones((4, 2), object),
        np.ones(4),
        np.ones((4, 2, 1)),
    ],
    ids=["float32", "int", "byte-swapped", "object", "1-d", "3-d"],
)
def test_other_dtypes_and_dimensions_are_refused(other):
    c = np.ones((3, 2))
    with pytest.raises((TypeError, ValueError)):
        _gemm_memview(False, False, 1.0, np.ones((3, 4)), other, 0.0, c)
    assert_array_equal(c, 1)


def test_output_must_be_writable():
    c = np.ones((3, 2))
    c.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        _gemm_memview(False, False, 1.0, np.ones((3, 4)), np.ones((4, 2)), 0.0, c)


@pytest.mark.parametrize("name", ["sgemm", "dgemm", "sgemv", "dgemv", "sger", "dger"])
def test_scipys_blas_integers_are_c_ints(name):
    # What _blas.pyx relies on: a capsule is printed with its signature.
    signature = repr(cython_blas.__pyx_capi__[name]).split('"')[1]
    assert "int *" in signature
    assert "64" not in signature.replace("scipy_6linalg", "")
