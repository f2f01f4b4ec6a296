"""Every option of the LSTM family, alone, in pairs, and as Hypothesis draws them."""

import inspect
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import reference_options
from hypothesis import given, settings
from hypothesis import strategies as st
from option_checks import Problem, S, check_all, check_values

from lstm_ext import LSTM, _lstm
from lstm_ext._options import EXCLUSIONS, OPTIONS, PARAMETER_KINDS, REQUIRED, takes_default_driver

pytestmark = pytest.mark.every_kernel

ALONE = [
    {},
    {"num_layers": 2},
    {"num_layers": 2, "bidirectional": True},
    {"reverse": True},
    {"batch_first": False},
    {"checkpoint": 2},
    {"peepholes": True},
    {"coupled_gates": True},
    {"cell_clip": 0.7},
    {"gate_clip": 0.8},
    {"proj_size": 3},
    {"proj_size": 7},
    {"bias": False},
    {"layer_norm": True},
    {"num_layers": 2, "dropout": 0.4},
    {"recurrent_dropout": 0.4},
    {"weight_dropout": 0.4},
    {"zoneout": (0.3, 0.2)},
    {"static_size": S},
    {"static_size": S, "entity_aware": True},
    {"learn_state": True},
    {"activations": (("hard_sigmoid", 0.3, 0.4), "softsign", "relu")},
]
REFUSED = [
    ("proj_size", "zoneout"), ("bidirectional", "reverse"), ("layer_norm", "coupled_gates"),
    ("layer_norm", "entity_aware"),
]


def label(options):
    return "-".join(f"{k}={v}" for k, v in options.items()).replace(" ", "") or "default"


def random(options):
    return any(options.get(k) for k in ("dropout", "recurrent_dropout", "weight_dropout", "zoneout"))


@pytest.mark.parametrize("which", [None, "lengths", "mask"])
@pytest.mark.parametrize("options", ALONE, ids=label)
def test_alone(options, which):
    for seed in (None, 2**40 + 17) if random(options) else (None,):
        check_all(Problem(options, which=which, seed=seed))
        check_all(Problem(options, which=which, seed=seed, dtype="float32"))
    check_values(Problem(options, which=which, state=False))


def pairs():
    for a, b in itertools.combinations(ALONE[1:], 2):
        both = {**a, **b}
        if any(both.get(k) != v for k, v in a.items()):
            continue
        if any(both.get(x) and both.get(y) for x, y in REFUSED):
            continue
        yield both


@pytest.mark.parametrize("options", list(pairs()), ids=label)
def test_pairs(options):
    # Two blocks and more of sequences for some, odd sizes for all.
    N = 17 if len(label(options)) % 5 == 0 else 3
    check_all(Problem(options, N=N, T=4, which="lengths", seed=5 if random(options) else None))


@st.composite
def configurations(draw):
    options = {
        "num_layers": draw(st.integers(1, 3)), "batch_first": draw(st.booleans()),
        "peepholes": draw(st.booleans()), "bias": draw(st.booleans()), "learn_state": draw(st.booleans()),
        "checkpoint": draw(st.none() | st.integers(1, 3)),
        "cell_clip": draw(st.none() | st.floats(0.3, 2)), "gate_clip": draw(st.none() | st.floats(0.3, 3)),
        "recurrent_dropout": draw(st.just(0.0) | st.floats(0.1, 0.6)),
        "weight_dropout": draw(st.just(0.0) | st.floats(0.1, 0.6)),
    }
    options[draw(st.sampled_from(["bidirectional", "reverse"]))] = draw(st.booleans())
    if options["num_layers"] > 1:
        options["dropout"] = draw(st.just(0.0) | st.floats(0.1, 0.6))
    if draw(st.booleans()):
        options["layer_norm"] = True
    else:
        options["coupled_gates"] = draw(st.booleans())
        if draw(st.booleans()):
            options |= {"static_size": S, "entity_aware": draw(st.booleans())}
    if draw(st.booleans()):
        options["proj_size"] = draw(st.integers(1, 8))
    elif draw(st.booleans()):
        options["zoneout"] = (draw(st.floats(0, 0.5)), draw(st.floats(0, 0.5)))
    smooth = sorted(reference_options.ACTIVATIONS.keys() - {"thresholded_relu", "exponential"})
    bounded = ["sigmoid", "hard_sigmoid", "tanh", "hard_tanh", "softsign", "scaled_tanh"]  # or c explodes
    options["activations"] = (
        draw(st.sampled_from(bounded)), draw(st.sampled_from(smooth)), draw(st.sampled_from(smooth))
    )
    return options


@settings(max_examples=60)
@given(
    options=configurations(), N=st.integers(1, 5), T=st.integers(1, 5),
    which=st.sampled_from([None, "lengths", "mask"]), seed=st.none() | st.integers(0, 2**64 - 1),
    draw=st.integers(0, 5),
)
def test_any_configuration(options, N, T, which, seed, draw):
    check_all(Problem(options, N=N, T=T, which=which, seed=seed, draw=draw))


# Activations


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("name", list(reference_options.ACTIVATIONS))
def test_activations(name, place):
    activations = ["sigmoid", "tanh", "tanh"]
    activations[place] = name
    check_all(Problem({"activations": tuple(activations), "gate_clip": 2.0}, N=3, T=3))
    if allowed := len(reference_options.ACTIVATIONS[name]) - 1:
        activations[place] = (name, 0.4, 0.3)[: allowed + 1]
        check_all(Problem({"activations": tuple(activations), "peepholes": True}, N=3, T=3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(reference_options.ACTIVATIONS))
def test_activation_values(name, dtype):
    """c = 1 * g: with zero weights the candidate's activation alone is left, from -30 to 30."""
    z = np.concatenate([np.linspace(-20, 20, 601), [0.0, -0.0, 1e-8, -1e-8]]).astype(dtype)
    if name == "exponential":
        z = z[z < 5]
    lstm = LSTM(1, len(z), dtype=dtype, activations=(("affine", 0, 1), name, "identity"))
    lstm.parameters = 0
    lstm["bias_l0"][2 * len(z) : 3 * len(z)] = z
    _, (_, c) = lstm(np.zeros((1, 1, 1)))
    expected = reference_options.activate(name, z.astype(float))
    tolerance = 4e-7 if dtype == "float32" else 1e-14  # the reference loses digits of log(1 + e^z), too
    np.testing.assert_allclose(c[0, 0], expected, rtol=20 * tolerance, atol=tolerance)


# Random numbers


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # of the authors' library Random123, kat_vectors
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), 0x299F31D0A4093822,
         (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_philox_known_answers(counter, key, expected):
    assert tuple(reference_options.philox(counter, key)) == expected


@pytest.mark.parametrize("kind", list(reference_options.KINDS))
def test_masks(kind):
    for seed, stream, p, width in ((0, 0, 0.5, 1), (2**64 - 1, 3, 0.1, 6), (12345678901, 1, 0.9, 9)):
        mask = _lstm.draw(seed, reference_options.KINDS[kind], stream, 2, 3, width, p)
        for n, t in np.ndindex(2, 3):
            np.testing.assert_array_equal(
                mask[n, t], reference_options.drawn(seed, kind, stream, n, t, width, p)
            )
    many = _lstm.draw(7, 1, 0, 50, 50, 40, 0.3)
    assert many.mean() == pytest.approx(0.3, abs=5 * np.sqrt(0.21 / many.size))


def test_a_seed_repeats_and_another_differs():
    lstm = LSTM(3, 8, 2, dropout=0.5, recurrent_dropout=0.2, zoneout=(0.1, 0.1), rng=0)
    x = np.random.default_rng(0).normal(size=(4, 6, 3))
    a, b, c, d = (lstm.forward(x, seed=seed)[0] for seed in (1, 1, 2, None))
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)
    np.testing.assert_array_equal(d, lstm(x)[0])


# The two drivers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}, {"reverse": True}], ids=label
)
def test_the_general_driver_agrees_with_that_of_the_default_cell(options, dtype):
    """A clip that never clips is an option, and changes nothing."""
    plain, general = (
        Problem({**options, "cell_clip": clip}, N=19, T=9, which="lengths", dtype=dtype)
        for clip in (None, 1e30)
    )
    expected, y = plain.backward(), plain.forward()[0]
    found, y_general = general.backward(), general.forward()[0]
    tolerance = 2e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(y_general, y, rtol=0, atol=tolerance)
    for name, value in expected.items():
        scale = 1 + np.abs(value).max()
        np.testing.assert_allclose(found[name], value, rtol=0, atol=10 * tolerance * scale, err_msg=name)


# Zoneout


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"peepholes": True}, {"layer_norm": True}], ids=label)
def test_zoneout_keeps_the_bits(options, dtype):
    """A unit that is kept has the bits that it had, whatever the candidate: state, tangent, gradient."""
    N, T, H, seed, p = 5, 9, 21, 3, (0.5, 0.4)
    lstm = LSTM(
        3, H, zoneout=p, activations=("sigmoid", ("affine", 1e8), "tanh"), dtype=dtype, rng=0, **options
    )
    rng = np.random.default_rng(0)
    x, dx = rng.standard_normal((2, N, T, 3))
    state, dstate = ([a.astype(dtype) for a in rng.standard_normal((2, 1, N, H))] for _ in range(2))
    keeps_c, keeps_h = (
        _lstm.draw(seed, reference_options.KINDS[kind], 0, N, T, H, q)
        for kind, q in (("zone_c", p[1]), ("zone_h", p[0]))
    )
    assert 0.3 < keeps_c.mean() < 0.5 < keeps_h.mean() + 0.1
    y, _, gates = lstm.forward(x, state, seed=seed, return_gates=True)
    c = gates["c"][0]
    assert np.abs(c).max() > 1e6
    for values, first, keeps in ((y, state[0][0], keeps_h), (c, state[1][0], keeps_c)):
        before = np.concatenate([first[:, None], values[:, :-1]], axis=1)
        assert (values == before)[keeps].all()
        assert (values != before)[~keeps].mean() > 0.9
    # One step: what is kept passes its tangent, and its gradient, through.
    one, tape = x[:, :1], lstm.tape()
    (_, (_, c_1)), (_, (h_dot, c_dot)) = lstm.jvp(
        one, dx[:, :1], state, dstate, rng.standard_normal(lstm.parameters.size), seed=seed, tape=tape
    )
    assert (h_dot[0] == dstate[0][0])[keeps_h[:, 0]].all()
    assert (c_dot[0] == dstate[1][0])[keeps_c[:, 0]].all()
    dc_n = rng.standard_normal(c_1.shape).astype(dtype)
    dc_0 = lstm.backward(tape, None, (None, dc_n))[1][1]
    assert (dc_0 == dc_n)[0][keeps_c[:, 0]].all()


# Truncated backpropagation


@pytest.mark.parametrize("options", [{}, {"peepholes": True, "num_layers": 2}], ids=label)
def test_truncated_backpropagation(options):
    """Pieces, each from the state in which the last one ended, whose gradient is not carried back."""
    p = Problem(options, N=3, T=6)
    x, state, dy = p.arrays["x"], (p.arrays["h_0"], p.arrays["c_0"]), p.upstream()[0]
    tape, tapes = p.lstm.tape(), []
    p.lstm.gradient = 0
    whole, _ = p.lstm(x, state)
    for start in (0, 3):
        y, next_state = p.lstm.forward(x[:, start : start + 3], state, tape=tape)
        np.testing.assert_array_equal(y, whole[:, start : start + 3])
        p.lstm.backward(tape, dy[:, start : start + 3])
        tapes.append((start, state))
        state = next_state
    truncated = p.lstm.gradient.copy()
    p.lstm.gradient = 0
    for start, begin in tapes:
        p.lstm.forward(x[:, start : start + 3], begin, tape=tape)
        p.lstm.backward(tape, dy[:, start : start + 3])
    np.testing.assert_array_equal(p.lstm.gradient, truncated)
    # carried back across the seam it is the gradient of the whole
    p.lstm.gradient = 0
    first, second = p.lstm.tape(), p.lstm.tape()
    _, between = p.lstm.forward(x[:, :3], (p.arrays["h_0"], p.arrays["c_0"]), tape=first)
    p.lstm.forward(x[:, 3:], between, tape=second)
    _, dstate = p.lstm.backward(second, dy[:, 3:])
    p.lstm.backward(first, dy[:, :3], dstate)
    joined = p.lstm.gradient.copy()
    p.lstm.gradient = 0
    p.lstm.forward(x, (p.arrays["h_0"], p.arrays["c_0"]), tape=tape)
    p.lstm.backward(tape, dy)
    np.testing.assert_allclose(joined, p.lstm.gradient, rtol=1e-11, atol=1e-12)
    assert not np.allclose(truncated, p.lstm.gradient)


# Mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"proj_size": 3, "zoneout": (0.1, 0)}, "proj_size and zoneout exclude each other"),
        ({"bidirectional": True, "reverse": True}, "bidirectional and reverse exclude each other"),
        ({"layer_norm": True, "coupled_gates": True}, "layer_norm and coupled_gates exclude each other"),
        ({"layer_norm": True, "entity_aware": True, "static_size": 2}, "layer_norm and entity_aware exclude"),
        ({"entity_aware": True}, "entity_aware is True and static_size is 0"),
        ({"dropout": 0.5}, "dropout is between layers and num_layers is 1"),
        ({"nan_mask": True, "nan": "raise"}, "nan_mask is True and nan is 'raise'"),
        ({"activations": ("sigmoid", "tanh", "relu"), "cell_activation": "identity"},
         "cell_activation is 'identity' and activations"),
        ({"dropout": 1.0, "num_layers": 2}, "dropout is 1.0; expected a probability"),
        ({"zoneout": 0.1}, "zoneout is 0.1; expected two probabilities"),
        ({"cell_clip": -1}, "cell_clip is -1.0; expected a positive number"),
        ({"gate_clip": 0}, "gate_clip is 0.0; expected a positive number"),
        ({"activations": ("sigmoid", "tanh")}, "expected three"),
        ({"activations": ("sigmoid", "tanh", "cos")}, "is 'cos'; expected one of sigmoid, tanh"),
        ({"activations": ("sigmoid", ("tanh", 2.0), "tanh")}, "tanh takes no numbers"),
        ({"proj_size": -1}, "proj_size is -1; expected at least 1"),
        ({"static_size": -1}, "static_size is -1; expected at least 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        LSTM(3, 4, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"peepholes": 1}, "peepholes is 1; expected True or False"),
     ({"proj_size": 2.5}, "proj_size is 2.5; expected an integer"),
     ({"cell_clip": "3"}, None), ({"dropout": None, "num_layers": 2}, "dropout is None; expected a number")],
)
def test_bad_types(options, message):
    if message is None:
        assert LSTM(3, 4, **options).cell_clip == 3.0
        return
    with pytest.raises(TypeError, match=message):
        LSTM(3, 4, **options)


def test_bad_calls():
    lstm = LSTM(3, 4, static_size=2)
    x = np.zeros((2, 5, 3))
    with pytest.raises(ValueError, match=r"static is missing; expected \(2, 2\)"):
        lstm(x)
    with pytest.raises(ValueError, match=r"static has shape \(2, 3\); expected \(2, 2\)"):
        lstm(x, static=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="static was given, and this LSTM takes none"):
        LSTM(3, 4)(x, static=np.zeros((2, 2)))
    plain = LSTM(3, 4)
    with pytest.raises(ValueError, match="lengths and mask were given"):
        plain(x, lengths=[1, 2], mask=np.ones((2, 5), bool))
    with pytest.raises(TypeError, match="mask has dtype float64; expected bool"):
        plain(x, mask=np.ones((2, 5)))
    with pytest.raises(ValueError, match=r"mask has shape \(5, 2\); expected \(2, 5\)"):
        plain(x, mask=np.ones((5, 2), bool))
    with pytest.raises(TypeError, match=r"seed is 0\.5"):
        plain.forward(x, seed=0.5)
    with pytest.raises(ValueError, match="seed is -1"):
        plain.forward(x, seed=-1)
    with pytest.raises(ValueError, match="dparameters has shape"):
        plain.jvp(x, dparameters=np.zeros(3))
    with pytest.raises(ValueError, match=r"dx has shape \(2,\); expected \(2, 5, 3\)"):
        plain.jvp(x, np.zeros(2))
    with pytest.raises(ValueError, match="tape holds no tangents"):
        tape = plain.tape()
        plain.forward(x, tape=tape)
        plain.backward_jvp(tape)


# ---- the records of the options


def documented():
    """Return the rows of the first table of docs/options.md by option."""
    text = (Path(__file__).parents[2] / "docs" / "options.md").read_text(encoding="utf-8")
    table = text.partition("| keyword argument | default |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {row[0].strip("`"): row[1:] for row in rows}


def value_of(option):
    """Return a value other than the default."""
    values = [v for options in ALONE for k, v in options.items() if k == option]
    return values[0] if values else {"nan": "hold", "nan_mask": True, "cell_activation": "identity",
                                     "precision": "bfloat16"}[option]


def together(option):
    """Return options under which this one has another value than its default."""
    needed = {
        "dropout": {"num_layers": 2}, "entity_aware": {"static_size": S}, "nan_mask": {"nan": "zero"},
    }
    return {**needed.get(option, {}), option: value_of(option)}


def test_the_signature_and_the_docstring_are_those_of_the_records():
    signature = inspect.signature(LSTM).parameters
    required = inspect.Parameter.empty
    defaults = {name: p.default for name, p in signature.items() if name not in ("init", "rng")}
    assert defaults == {
        name: required if option.default is REQUIRED else option.default for name, option in OPTIONS.items()
    }
    for name in OPTIONS:
        assert re.search(rf"^    (\w+, )*{name}(, \w+)* : ", LSTM.__doc__, re.MULTILINE), name


@pytest.mark.needs_source
def test_the_page_of_options_has_the_records():
    rows = documented()
    assert list(rows) == list(OPTIONS)
    for name, option in OPTIONS.items():
        default = "" if option.default is REQUIRED else f"`{option.default!r}`".replace("'", '"')
        kinds = ", ".join(f"`{kind}`" for kind in option.parameters)
        driver = "default" if option.in_default_driver else "general"
        assert rows[name] == [default, option.doc, kinds, driver]
    page = (Path(__file__).parents[2] / "docs" / "options.md").read_text(encoding="utf-8")
    for first, second, why in EXCLUSIONS:
        assert re.search(rf"\| `{first}` \| .*`{second}`.* \| {re.escape(why)} \|", page), (first, second)
    known = [(first, second) for first, second, _ in EXCLUSIONS]
    assert sorted(known) == sorted(REFUSED)


@pytest.mark.parametrize(
    "name", [name for name in OPTIONS if name not in ("input_size", "hidden_size", "dtype")]
)
def test_each_record_says_what_the_option_does(name):
    """Its parameters and its driver; and an option without a test of its own would be found here."""
    option, given = OPTIONS[name], together(name)
    base = {key: value for key, value in given.items() if key != name}
    with_it, without = LSTM(3, 5, **given), LSTM(3, 5, **base)
    kinds = [{key.rpartition("_l")[0] for key in lstm.named_parameters()} for lstm in (with_it, without)]
    assert kinds[0] ^ kinds[1] == set(option.parameters)
    assert kinds[0] | kinds[1] <= set(PARAMETER_KINDS)
    assert set(PARAMETER_KINDS[:2]) <= kinds[0]
    if "static_size" not in base:  # which needs the general driver by itself
        assert takes_default_driver(vars(with_it)) == option.in_default_driver
        assert with_it._engine.general != option.in_default_driver
    assert option.check(name, value_of(name)) is not None
    with pytest.raises((TypeError, ValueError), match=f"^{name}(\\[[0-9]\\])? is "):
        option.check(name, object())


def test_options_with_parameters_bring_them_to_the_layers_they_say():
    for name, option in OPTIONS.items():
        if option.parameters and name != "bias":
            names = LSTM(3, 5, 2, **together(name)).named_parameters()
            for kind in option.parameters:
                assert f"{kind}_l0" in names
                assert (f"{kind}_l1" in names) != option.first_layer
