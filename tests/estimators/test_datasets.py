"""The series that ship with the package: complete, in order, and the numbers they are known for."""

from importlib import resources

import numpy as np
import pytest

from lstm_ext.datasets import load_elnino, load_sunspots


def test_elnino_is_complete():
    series = load_elnino()
    assert series.data.shape == (732, 4) and series.data.dtype == np.float64
    assert series.names == ("nino12", "nino3", "nino4", "nino34")
    assert series.units == "degrees Celsius"
    expected = np.arange("1950-01", "2011-01", dtype="datetime64[M]")
    np.testing.assert_array_equal(series.index, expected)
    # Sums of the columns of the source.
    sums = [16903.80, 18909.80, 20817.67, 19747.22]
    np.testing.assert_allclose(series.data.sum(0), sums, rtol=0, atol=1e-6)


def test_elnino_knows_its_years():
    series = load_elnino()
    month = series.index.astype(int) % 12
    annual = np.stack([series.data[month == m].mean(0) for m in range(12)])
    assert annual[:, 0].argmax() == 2 and annual[:, 0].argmin() == 8  # off Peru: March, September
    anomaly = (series.data - annual[month])[:, 3]
    assert str(series.index[anomaly.argmax()]) in ("1997-11", "1997-12")  # El Niño of 1997
    assert str(series.index[anomaly.argmin()]) == "1955-11"  # La Niña


def test_sunspots_are_complete():
    series = load_sunspots()
    assert series.data.shape == (309, 1) and series.data.dtype == np.float64
    np.testing.assert_array_equal(series.index, np.arange(1700, 2009))
    assert series.data.sum() == pytest.approx(15373.4)
    assert series.index[series.data[:, 0].argmax()] == 1957 and series.data.max() == 190.2


def test_sunspots_have_their_cycle():
    centred = load_sunspots().data[:, 0]
    centred = centred - centred.mean()
    correlation = [np.dot(centred[:-lag], centred[lag:]) for lag in range(5, 16)]
    assert 5 + np.argmax(correlation) in (10, 11)


@pytest.mark.parametrize("load", [load_elnino, load_sunspots])
def test_every_call_returns_new_arrays(load):
    first = load()
    first.data[:] = -1
    first.index[:] = first.index[0]
    second = load()
    assert (second.data >= 0).all() and len(np.unique(second.index)) == len(second.index)


@pytest.mark.parametrize("load", [load_elnino, load_sunspots])
def test_a_series_says_what_it_is(load):
    series = load()
    text = repr(series)
    assert all(name in text for name in series.names) and str(series.index[-1]) in text
    assert "public domain" in series.description


def test_sources_ship_with_the_numbers():
    text = resources.files("lstm_ext.datasets").joinpath("README.md").read_text(encoding="utf-8")
    for word in ("elnino.csv", "sunspots.csv", "public domain", "statsmodels"):
        assert word in text
