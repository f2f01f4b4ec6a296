"""How weights are drawn: distributions against their formulae, recipes, and mistakes."""

import numpy as np
import pytest

from lstm_ext import LSTM, initializers

F, H = 7, 40


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", 2 / (300 + 200)), ("glorot_normal", 2 / (300 + 200)),
        ("he_uniform", 2 / 300), ("he_normal", 2 / 300),
        ("lecun_uniform", 1 / 300), ("lecun_normal", 1 / 300),
    ],
)
def test_distributions(name, variance):
    values = getattr(initializers, name)((200, 300), np.random.default_rng(0))
    assert values.shape == (200, 300)
    assert values.var() == pytest.approx(variance, rel=0.02)
    assert abs(values.mean()) < 5 * np.sqrt(variance / values.size)
    if "uniform" in name:
        assert np.abs(values).max() == pytest.approx(np.sqrt(3 * variance), rel=1e-3)
    else:  # the fourth moment of a normal distribution
        assert (values**4).mean() == pytest.approx(3 * variance**2, rel=0.05)


@pytest.mark.parametrize("shape", [(5, 5), (9, 4), (4, 9)])
def test_orthogonal(shape):
    q = initializers.orthogonal(shape, np.random.default_rng(0))
    assert q.shape == shape
    small = q @ q.T if shape[0] < shape[1] else q.T @ q
    np.testing.assert_allclose(small, np.eye(min(shape)), atol=1e-14)


def test_orthogonal_is_uniform():
    # Without the signs of R's diagonal the first element would never be positive.
    rng = np.random.default_rng(0)
    first = [initializers.orthogonal((3, 3), rng)[0, 0] for _ in range(400)]
    assert abs(np.mean(first)) < 5 * np.sqrt(1 / 3 / 400)


def test_chrono():
    lstm = LSTM(F, H, init={"chrono": 365}, dtype="float64", rng=0)
    i, f, g, o = lstm["bias_l0"].reshape(4, H)
    np.testing.assert_array_equal(i, -f)
    assert not g.any()
    assert not o.any()
    assert 0 <= f.min() < f.max() <= np.log(364)
    u = np.exp(np.concatenate(
        [initializers.chrono(1000, 365, np.random.default_rng(k))[1] for k in range(20)]
    ))
    assert u.mean() == pytest.approx((1 + 364) / 2, rel=0.03)


def test_default():
    lstm = LSTM(F, H, 2, bidirectional=True, peepholes=True, layer_norm=True, dtype="float64", rng=0)
    for layer, width in ((0, F), (1, 2 * H)):
        for suffix in ("", "_reverse"):
            name = f"_l{layer}{suffix}"
            bound = np.sqrt(6 / (width + H))
            assert 0.98 * bound < np.abs(lstm["weight_ih" + name]).max() <= bound
            for gate in lstm["weight_hh" + name].reshape(4, H, H):
                np.testing.assert_allclose(gate.T @ gate, np.eye(H), atol=1e-13)
            np.testing.assert_array_equal(lstm["bias" + name], np.repeat([0, 1, 0, 0], H))
            assert not lstm["peephole" + name].any()
            assert not lstm["norm_c_bias" + name].any()
            for word in ("norm_ih", "norm_hh", "norm_c"):
                assert (lstm[word + name] == 1).all()
    assert not np.array_equal(lstm["weight_ih_l0"], lstm["weight_ih_l0_reverse"])


@pytest.mark.parametrize("P", [3, 40, 60])
def test_projection(P):
    lstm = LSTM(F, H, proj_size=P, dtype="float64", rng=0)
    gate = lstm["weight_hh_l0"][:H]
    small = gate @ gate.T if P > H else gate.T @ gate
    np.testing.assert_allclose(small, np.eye(min(P, H)), atol=1e-13)
    assert 0.9 * np.sqrt(6 / (P + H)) < np.abs(lstm["weight_hr_l0"]).max() <= np.sqrt(6 / (P + H))


def test_torch():
    lstm = LSTM(F, H, proj_size=3, init="torch", dtype="float64", rng=0)
    bound = 1 / np.sqrt(H)
    for word in ("weight_ih", "weight_hh", "weight_hr"):
        assert 0.95 * bound < np.abs(lstm[word + "_l0"]).max() <= bound
        assert lstm[word + "_l0"].var() == pytest.approx(bound**2 / 3, rel=0.2)
    assert bound < np.abs(lstm["bias_l0"]).max() <= 2 * bound
    assert lstm["bias_l0"].var() == pytest.approx(2 * bound**2 / 3, rel=0.3)


def test_keras():
    lstm = LSTM(F, H, init="keras", dtype="float64", rng=0)
    bound = np.sqrt(6 / (F + 4 * H))
    assert 0.98 * bound < np.abs(lstm["weight_ih_l0"]).max() <= bound
    whole = lstm["weight_hh_l0"]
    np.testing.assert_allclose(whole.T @ whole, np.eye(H), atol=1e-13)
    np.testing.assert_array_equal(lstm["bias_l0"], np.repeat([0, 1, 0, 0], H))


def test_dict():
    shapes = []

    def function(shape, rng):
        shapes.append(shape)
        return rng.integers(2, 5, shape)

    init = {"weight_ih": "zeros", "weight_hh": function, "peephole": 0.25, "forget_bias": 3, "h_0": "ones"}
    lstm = LSTM(F, H, init=init, peepholes=True, learn_state=True, rng=0)
    assert not lstm["weight_ih_l0"].any()
    assert shapes == [(H, H)] * 4
    assert set(lstm["weight_hh_l0"].ravel()) == {2, 3, 4}
    assert (lstm["peephole_l0"] == 0.25).all()
    np.testing.assert_array_equal(lstm["bias_l0"], np.repeat([0, 3, 0, 0], H))
    assert (lstm["h_0_l0"] == 1).all()
    assert (LSTM(F, H, init={"bias": 0.5}, rng=0)["bias_l0"] == 0.5).all()


@pytest.mark.parametrize("init", [None, "torch", "keras", {"chrono": 9}])
def test_a_seed_repeats_it(init):
    draws = [LSTM(F, H, init=init, rng=rng).parameters for rng in (3, np.random.default_rng(3), 4)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


@pytest.mark.parametrize(
    ("init", "error", "words"),
    [
        ("xavier", ValueError, "init is 'xavier'; expected None, 'keras', 'torch' or a dict"),
        (3, TypeError, "init is int; expected"),
        ({"weights": 1}, ValueError, "init has the key 'weights'; expected some of weight_ih"),
        ({"weight_ih": "glorot"}, ValueError, r"init\['weight_ih'\] is 'glorot'; expected one of zeros"),
        ({"weight_ih": None}, TypeError, r"init\['weight_ih'\] is None; expected a name"),
        ({"weight_ih": lambda s, r: np.zeros(3)}, ValueError, r"returned float64 of shape \(3,\); expected"),
        ({"peephole": "orthogonal"}, ValueError, "expected two axes"),
        ({"chrono": 1}, ValueError, r"init\['chrono'\] is 1; expected more than 2 steps"),
        ({"chrono": "long"}, TypeError, "expected a number"),
        ({"chrono": 9, "forget_bias": 1}, ValueError, "'chrono' and 'forget_bias'"),
    ],
)
def test_mistakes(init, error, words):
    with pytest.raises(error, match=words):
        LSTM(F, H, init=init, peepholes=True)


def test_bias_that_is_not_there():
    with pytest.raises(ValueError, match="'chrono' and bias is False"):
        LSTM(F, H, bias=False, init={"chrono": 9})
