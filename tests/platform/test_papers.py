"""The results against published tables: their tasks are the papers', and every script runs."""

import importlib
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.needs_source

PAPERS = Path(__file__).parents[2] / "benchmarks" / "papers"
# The embedded grammar as a regular expression, written from its diagram and not from the script's table.
FROM_3 = "T*V(?:PXT*V)*(?:V|PS)"
INNER = f"B(?:TS*X(?:S|X{FROM_3})|P{FROM_3})E"
EMBEDDED = re.compile(f"B(?:T{INNER}T|P{INNER}P)E")


@pytest.fixture
def script(monkeypatch):
    """Import a script by its name."""
    monkeypatch.syspath_prepend(str(PAPERS))
    return importlib.import_module


@pytest.mark.parametrize("name, needs, rows", [
    ("hochreiter1997", (), 3),
    ("copy_memory", (), 2),
    ("gers2002", (), 2),
    ("forecasts", ("statsmodels",), 9),
    ("hydrology", (), 4),
    ("japanese_vowels", ("sktime",), 1),
    ("classification", ("sktime", "sklearn"), 2),
    ("best_weights", ("sktime", "sklearn"), 2),
    ("reservoirs", ("sklearn",), 3),
    ("intervals", ("sklearn",), 2),
])
def test_every_script_runs_and_prints_its_table(script, capsys, name, needs, rows):
    for library in needs:
        pytest.importorskip(library, reason=f"{name}.py needs {library}, of the extra examples")
    script(name).main(["--quick"])
    check_output(capsys.readouterr().out, rows)


def test_a_script_is_one_command(tmp_path):
    command = [sys.executable, PAPERS / "copy_memory.py", "--quick", "--seeds", "2", "--limit", "64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check_output(done.stdout, 2)


def check_output(text, rows):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    headers = sum(set(line) <= set("|- ") for line in lines)
    assert len({line.count("|") for line in lines}) == headers >= 1  # each table has its number of columns
    assert len(lines) - 2 * headers >= rows
    assert "thread; lstm-ext" in text  # the machine


# Hochreiter and Schmidhuber 1997 ----------------------------------------------------------------------


def test_reber_strings_obey_the_grammar_and_all_that_may_follow_is_known(script):
    papers = script("hochreiter1997")
    rng = np.random.default_rng(0)
    strings = {}
    for _ in range(3000):
        string, legal = papers.embedded_reber(rng)
        strings[string] = legal
        assert EMBEDDED.fullmatch(string)
        assert len(legal) == len(string) - 1
        assert all(symbol in follow for symbol, follow in zip(string[1:], legal, strict=True))
    assert {len(s) for s in strings} >= set(range(9, 25))
    # What may follow is what does follow the same beginning somewhere; short beginnings have come often.
    follows = {}
    for string in strings:
        for t in range(1, len(string)):
            follows.setdefault(string[:t], set()).add(string[t])
    for string, legal in strings.items():
        for t in range(1, min(7, len(string))):
            assert set(legal[t - 1]) == follows[string[:t]]


def test_reber_test_strings_are_new_and_a_model_that_knows_the_grammar_succeeds(script):
    papers = script("hochreiter1997")
    task = papers.Reber("", papers.Settings(4, 4, 0.1, 4), "")
    task.prepare(np.random.default_rng(0))
    keys = [task.x[n, : task.lengths[n]].argmax(1).tobytes() for n in range(512)]
    assert not set(keys[:256]) & set(keys[256:])

    class Oracle:
        def predict(self, x, lengths):
            return task.legal.astype(float)

    class AlmostOracle:
        """Forgets the outer symbol of one string."""

        def predict(self, x, lengths):
            logits = task.legal.astype(float)
            end = lengths[300] - 2
            logits[300, end] = task.symbols.index("T") == np.arange(7)
            logits[300, end, task.symbols.index("P")] = 1
            return logits

    assert task.solved(Oracle())
    assert not task.solved(AlmostOracle())


def test_the_long_lag_has_two_sequences_that_differ_at_their_ends_only(script):
    papers = script("hochreiter1997")
    task = papers.Lag("", 100, papers.Settings(4, 4, 0.1, 4), "")
    task.prepare(np.random.default_rng(0))
    assert task.x.shape == (2, 100, 101)
    first = task.x.argmax(-1)
    assert (first[0, 1:] == first[1, 1:]).all() and first[0, 0] != first[1, 0]
    assert (task.y[:, -1] == first[:, 0]).all()
    assert (task.y[:, :-1] == np.arange(99)).all()


@pytest.mark.parametrize("product", [False, True])
def test_marked_targets_are_the_sum_or_the_product_of_what_is_marked(script, product):
    papers = script("hochreiter1997")
    T = 30
    task = papers.Marked("", T, product, None, [])
    x, y, lengths = task.draw(np.random.default_rng(0), 2000)
    assert set(lengths) == {30, 31, 32, 33}
    low = 0 if product else -1
    assert low <= x[..., 0].min() < low + 0.01 and 0.99 < x[..., 0].max() <= 1
    firsts, seconds = set(), set()
    for values, target, length in zip(x, y[:, 0], lengths, strict=True):
        marks = values[:length, 1]
        assert marks[0] == marks[-1] == -1
        assert (values[length:] == 0).all()
        marked = np.flatnonzero(marks == 1)
        assert len(marked) in (1, 2)
        chosen = values[marked, 0].astype(float)
        if len(marked) == 1:  # the other mark fell on the first step
            assert values[0, 0] == (1 if product else 0)
        expected = np.prod(chosen) if product else 0.5 + chosen.sum() / 4
        assert target == pytest.approx(expected, abs=1e-6)
        firsts.add(marked.min())
        seconds.add(marked.max())
        assert marked.max() <= T // 2 - 1 and (marked.min() < 10 or len(marked) == 1)
    assert firsts >= set(range(1, 10)) and max(seconds) == T // 2 - 1


@pytest.mark.parametrize("windows", [[(10, 20), (50, 60)], [(10, 20), (33, 43), (66, 76)]])
def test_temporal_order_labels_are_the_order_of_x_and_y(script, windows):
    papers = script("hochreiter1997")
    task = papers.Order("", windows, None, [])
    x, y, lengths = task.draw(np.random.default_rng(0), 1000)
    assert set(lengths) == set(range(100, 111))
    names = ["".join("XY"[(n >> k) & 1] for k in reversed(range(len(windows)))) for n in range(task.outputs)]
    assert set(y) == set(range(task.outputs))
    for one, label, length in zip(x, y, lengths, strict=True):
        string = "".join(task.symbols[k] for k in one[:length].argmax(1))
        assert (one[:length].sum(1) == 1).all() and (one[length:] == 0).all()
        assert string[0] == "E" and string[-1] == "B"
        assert re.fullmatch("[abcdXY]*", string[1:-1])
        found = [t for t, symbol in enumerate(string) if symbol in "XY"]
        assert "".join(string[t] for t in found) == names[label]
        assert all(low <= t <= high for t, (low, high) in zip(found, windows, strict=True))


def test_success_needs_2000_sequences_in_a_row(script):
    papers = script("hochreiter1997")

    class Easy(papers.Marked):
        """Every sequence is right from the beginning, but for one."""

        def __init__(self):
            super().__init__("", 10, False, papers.Settings(2, 10, 1e-3, 10_000), [])
            self.milestones = [papers.Milestone("", 0, 0.1, "", "")]
            self.drawn = 0

        def errors(self, prediction, y):
            self.drawn += len(y)
            return np.where(np.arange(self.drawn - len(y), self.drawn) == 500, 1.0, 0.0)[:, None]

    (result,) = papers.run(Easy(), 0)
    assert result["sequences"] == 2510  # the first mini-batch after which 2000 are right: those from 501 on


# The others -------------------------------------------------------------------------------------------


def test_copy_memory_repeats_its_symbols_and_the_baseline_is_the_entropy(script):
    copy = script("copy_memory")
    x, y = copy.draw(np.random.default_rng(0), 500, 7)
    assert x.shape == (500, 27, 10) and y.shape == (500, 27)
    code = x.argmax(-1)
    assert (code[:, :10] == y[:, -10:]).all() and (y[:, :-10] == copy.BLANK).all()
    assert set(code[:, :10].ravel()) == set(range(8))
    assert (code[:, 16] == copy.GO).all()
    assert (np.delete(code, np.r_[:10, 16], axis=1) == copy.BLANK).all()
    # Without memory: certain of blanks, and of nothing among the symbols.
    probability = np.where(np.arange(27) < 17, 1.0, 1 / 8)
    assert copy.baseline(7) == pytest.approx(-np.log(probability).mean())


def test_spikes_are_as_far_apart_as_their_targets_say(script):
    gers = script("gers2002")
    x, y = gers.draw(np.random.default_rng(0), 50, 10, 7)
    for stream, target in zip(x[..., 0], y[..., 0], strict=True):
        when = np.flatnonzero(stream)
        assert len(when) == 10 and (np.flatnonzero(~np.isnan(target)) == when).all()
        gaps = [b - a for a, b in pairwise([-1, *when])]
        assert (np.array(gaps) - 7 == target[when]).all()
    assert set(y[~np.isnan(y)]) == {0, 1}


def test_the_bucket_model_keeps_its_water(script):
    hydrology = script("hydrology")
    rng = np.random.default_rng(0)
    attributes = rng.normal(size=(20, hydrology.ATTRIBUTES))
    forcings = hydrology.weather(rng, attributes, 800)
    runoff, evaporation, stored = hydrology.bucket_model(forcings, attributes)
    assert (runoff >= 0).all() and (evaporation >= 0).all() and (stored >= 0).all()
    np.testing.assert_allclose(forcings[..., 0].sum(1), (runoff + evaporation).sum(1) + stored, rtol=1e-12)
    assert (forcings[..., 2] < forcings[..., 3]).all()
    # Efficiency: perfect, and the mean.
    assert (hydrology.nse(runoff, runoff) == 1).all()
    mean = np.broadcast_to(runoff.mean(1)[:, None], runoff.shape)
    np.testing.assert_allclose(hydrology.nse(mean, runoff), 0, atol=1e-12)


def test_the_observed_squared_error_passes_over_what_is_missing(script):
    loss = script("common").ObservedSquaredError()
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(size=(2, 5, 3))
    target[[0, 2, 4], [1, 1, 2]] = np.nan
    value, gradient = loss.value_and_gradient(prediction, target)
    assert value == pytest.approx(np.nanmean((prediction - target) ** 2), rel=1e-14)
    for index in np.ndindex(5, 3):
        moved = prediction.copy()
        moved[index] += 1e-6
        up = loss.value(moved, target)
        moved[index] -= 2e-6
        assert gradient[index] == pytest.approx((up - loss.value(moved, target)) / 2e-6, abs=1e-8)
    with pytest.raises(ValueError, match="expected"):
        loss.value(prediction, np.full((5, 3), np.nan))


def test_forecasts_know_nothing_after_their_origin(script):
    pytest.importorskip("statsmodels", reason="forecasts.py needs statsmodels, of the extra examples")
    forecasts = script("forecasts")
    from dataclasses import replace

    series = forecasts.all_series()
    for name, end in {"elnino": 480, "sunspots": 200, "co2": 300}.items():
        one = replace(series[name], epochs=1, window=5)
        y = one.y.copy()
        y[end + 1 :] += 1000
        other = replace(one, y=y)
        origins = np.array([end])
        models = [forecasts.naive, forecasts.naive_with_drift, lambda *a: forecasts.lstm(*a, seed=0)]
        if name == "sunspots":
            models += [forecasts.ets, forecasts.arima]
        for model in models:
            seen = model(one, end, origins)
            assert seen.shape == (1, one.horizon) and np.isfinite(seen).all()
            np.testing.assert_array_equal(seen, model(other, end, origins))


def test_seasonal_naive_repeats_the_last_period_and_fills_gaps(script):
    pytest.importorskip("statsmodels", reason="forecasts.py needs statsmodels, of the extra examples")
    forecasts = script("forecasts")
    y = np.arange(40.0) % 4
    y[33] = np.nan  # between 0 and 2
    series = forecasts.Series("", y, 4, 6, 20, 1, 5, 4, 4, 1, 0.1)
    np.testing.assert_array_equal(forecasts.seasonal_naive(series, 35), [0, 1, 2, 3, 0, 1])
    y[33] = np.nan
    y[34] = 4
    np.testing.assert_array_equal(forecasts.seasonal_naive(series, 35), [0, 2, 4, 3, 0, 2])


def test_japanese_vowels_come_with_their_true_lengths(script):
    pytest.importorskip("sktime", reason="japanese_vowels.py needs sktime, of the extra examples")
    vowels = script("japanese_vowels")
    (x, y, lengths), (test_x, test_y, test_lengths) = vowels.load()
    assert x.shape == (270, 26, 12) and test_x.shape == (370, 29, 12)
    assert lengths.min() == test_lengths.min() == 7 and lengths.max() == 26 and test_lengths.max() == 29
    assert (np.bincount(y) == 30).all() and set(test_y) == set(range(9))
    assert x[0, 0, 0] == 1.860936 and x[0, 19, 0] == 1.261441 and (x[0, 20:] == 0).all()
    for learn, test in vowels.folds((x, y, lengths)):
        assert len(learn[0]) == 216 and (np.bincount(test[1]) == 6).all()


def test_torch_trains_the_same_architecture_to_the_same_predictions(script):
    pytest.importorskip("sktime", reason="japanese_vowels.py needs sktime, of the extra examples")
    pytest.importorskip("torch", reason="there is nothing to compare with without torch")
    vowels = script("japanese_vowels")
    learn, test = vowels.scaled(*vowels.load())
    ours = vowels.train(learn, 0, 8, 1)(test[0], test[2])
    torchs = vowels.train_torch(learn, 0, 8, 1, our_weights=True)(test[0], test[2])
    np.testing.assert_allclose(ours, torchs, atol=2e-5)
