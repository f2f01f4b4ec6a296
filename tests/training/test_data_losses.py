"""Losses and attribution take no mask for numbers."""

import numpy as np
import pytest
import zoo

from lstm_ext import LSTM, Model
from lstm_ext.attribution import gradient_times_input, integrated_gradients
from lstm_ext.losses import MeanSquaredError, NashSutcliffe

N, T = 4, 3


def masked(array):
    """An array whose first element is masked, with a wild value below the mask."""
    mask = np.zeros(array.shape, bool)
    mask[(0,) * array.ndim] = True
    return np.ma.masked_array(np.where(mask, 1e20, array), mask)


def test_losses_refuse_masked_elements():
    loss, p = MeanSquaredError(), np.zeros((N, 2))
    zoo.refuses(lambda: loss.value(p, masked(p)), "y", "masked")
    zoo.refuses(lambda: loss.value(masked(p), p), "prediction", "masked")
    zoo.refuses(lambda: loss.value(p, p, masked(np.ones(N))), "weights", "masked")
    zoo.refuses(lambda: loss.gradient_jvp(p, masked(p), p), "prediction_dot", "masked")
    y = np.ones((N, T, 1))
    nse = NashSutcliffe()
    zoo.refuses(lambda: nse.prepare(masked(y)), "y", "masked")
    zoo.refuses(lambda: nse.prepare(y, groups=masked(np.arange(N))), "groups", "masked")
    zoo.refuses(lambda: nse.prepare(y, groups=np.full(N, np.nan)), "groups")
    zoo.refuses(lambda: nse.prepare(y, scale=masked(np.ones(N))), "scale", "masked")


def test_baselines_with_masked_elements_are_refused():
    model, x = Model(LSTM(2, 3, rng=0), 1, rng=0), np.zeros((N, T, 2))
    for call in (gradient_times_input, integrated_gradients):
        for baseline in (masked(x), list(masked(x)), masked(x[0])):
            zoo.refuses(lambda c=call, b=baseline: c(model, x, baseline=b), "baseline", "masked")


def test_gaps_stay_gaps_in_pictures_and_initial_weights_are_numbers():
    pytest.importorskip("matplotlib")
    from lstm_ext.plot import ForecastDisplay

    history = masked(np.arange(5.0))
    for given in (history, list(history)):
        np.testing.assert_array_equal(ForecastDisplay(given, np.zeros(2)).history, [np.nan, 1, 2, 3, 4])
    init = {"weight_ih": lambda shape, rng: masked(np.zeros(shape))}
    zoo.refuses(lambda: LSTM(2, 3, init=init), "init", "masked")
