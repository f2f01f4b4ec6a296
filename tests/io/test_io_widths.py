"""Layers of different hidden sizes as one LSTM: the same numbers, the same learning, bounded memory."""

import tracemalloc

import numpy as np
import pytest
from harness import TOLERANCE, assert_close

from lstm_ext import LSTM, Model
from lstm_ext.io import FormatError
from lstm_ext.io._common import bare_lstm
from lstm_ext.io._widths import check_widths, padded, widened

pytestmark = pytest.mark.every_kernel


def stack(widths, input_size=3, **words):
    """Return LSTMs of one layer each, and the one LSTM that they are together."""
    D = 2 if words.get("bidirectional") else 1
    sizes = [input_size, *(D * width for width in widths)]
    apart = [
        LSTM(before, width, rng=k, **words)
        for k, (before, width) in enumerate(zip(sizes, widths, strict=False))
    ]
    for one in apart:  # biases are 0 at first
        one.parameters = np.random.default_rng(one.hidden_size).normal(size=one.parameters.shape) / 2
    parameters = {
        name.replace("_l0", f"_l{k}"): view for k, one in enumerate(apart)
        for name, view in one.named_parameters().items()
    }
    check_widths(widths, apart[0].activations, input_size, D)
    words = {**words, "input_size": input_size, "hidden_size": max(widths), "num_layers": len(widths)}
    together = bare_lstm(**words)
    for name, array in widened(parameters, widths, D).items():
        together[name] = array
    return apart, together


@pytest.mark.parametrize("widths", [(5, 3), (2, 6), (4, 7, 3), (4, 4)])
@pytest.mark.parametrize("words", [
    {}, {"bidirectional": True}, {"peepholes": True}, {"activations": ("softplus", "relu", "tanh")},
    {"bias": False, "coupled_gates": True}, {"dtype": "float32", "reverse": True},
], ids=str)
def test_the_stack_gives_the_same_numbers(widths, words):
    words = {"dtype": "float64", **words}
    apart, together = stack(widths, **words)
    x = np.random.default_rng(0).normal(size=(4, 9, 3)).astype(words["dtype"])
    y = x
    for one in apart:
        y, (h, c) = one(y, lengths=np.array([9, 1, 4, 7]))
    mine, (h_n, c_n) = together(x, lengths=np.array([9, 1, 4, 7]))
    D = 2 if together.bidirectional else 1
    shape = (4, 9, D, max(widths))
    assert_close(mine.reshape(shape)[..., : widths[-1]], y.reshape(4, 9, D, -1), TOLERANCE[words["dtype"]])
    assert not mine.reshape(shape)[..., widths[-1] :].any()
    for state, own in ((h_n, h), (c_n, c)):
        assert_close(state[-D:, :, : widths[-1]], own, TOLERANCE[words["dtype"]])
        assert not state[-D:, :, widths[-1] :].any()


def test_units_that_were_added_stay_what_they_are_when_it_learns():
    together = stack((5, 2), dtype="float64")[1]
    model = Model(together, 1, rng=0)
    model.weight = padded(np.ones((1, 2)), 2, 5, axis=1)
    before = model.parameters.copy()
    x = np.random.default_rng(0).normal(size=(16, 6, 3))
    model.fit(x, x[:, -1, :1], epochs=3, rng=0)
    added = model.lstm["weight_hh_l1"].reshape(4, 5, 5)
    assert not added[:, 2:].any() and not added[:, :, 2:].any()
    assert not model.weight[:, 2:].any()
    assert (model.parameters[before != 0] != before[before != 0]).all()


@pytest.mark.parametrize("activations", [
    ("sigmoid", "sigmoid", "tanh"), ("sigmoid", "tanh", "softplus"),
    ("sigmoid", ("affine", 1.0, 0.5), "tanh"),
])
def test_activations_that_are_not_0_at_0_are_refused(activations):
    with pytest.raises(FormatError, match="is not 0 at 0; expected layers of one size"):
        check_widths((5, 3), activations, 2)
    check_widths((5, 5), activations, 2)


def test_one_wide_layer_does_not_make_a_thousand_of_its_size():
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="times the memory"):
            check_widths([3000, *[1] * 1000], ("sigmoid", "tanh", "tanh"), 2)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
