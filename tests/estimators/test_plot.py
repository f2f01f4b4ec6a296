"""Displays: they draw the numbers that they were given, and refuse what cannot be drawn."""

import itertools
import subprocess
import sys
import warnings

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib", reason="the extra [plot] is not installed")
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

from lstm_ext import LSTM, Model  # noqa: E402
from lstm_ext.attribution import gradient_times_input, integrated_gradients, output_difference  # noqa: E402
from lstm_ext.plot import (  # noqa: E402
    AttributionDisplay,
    ForecastDisplay,
    LearningCurveDisplay,
    StateDisplay,
)

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def renders(display):
    """Draw every pixel: most mistakes of a picture are found only then."""
    display.figure_.canvas.draw()
    return display


def y_of(line):
    return np.asarray(line.get_ydata())


def legend(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def pixels(display):
    """Return what is drawn within the axes, without the frame and the legend."""
    display.ax_.get_legend().remove()
    renders(display)
    image = np.asarray(display.figure_.canvas.buffer_rgba())[::-1, :, :3]
    left, bottom, right, top = display.ax_.bbox.extents.round().astype(int)
    return image[bottom + 2 : top - 2, left + 2 : right - 2].astype(int)


def assert_apart(axis):
    """The labels of an axis do not overprint each other."""
    boxes = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
    boxes = sorted((box.x0, box.x1) if axis.axis_name == "x" else (box.y0, box.y1) for box in boxes)
    assert len(boxes) > 1 and all(one[1] <= other[0] for one, other in itertools.pairwise(boxes))


# Importing


def test_matplotlib_is_imported_when_something_is_drawn_and_not_before():
    code = (
        "import sys, lstm_ext.plot; assert 'matplotlib' not in sys.modules\n"
        "lstm_ext.plot.LearningCurveDisplay([1, 2]); assert 'matplotlib' not in sys.modules\n"
        "sys.modules['matplotlib'] = None\n"
        "try: lstm_ext.plot.LearningCurveDisplay([1, 2]).plot()\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "lstm_ext.plot draws with matplotlib: pip install 'lstm-ext[plot]'\n"


# Learning curve


def history(epochs=5):
    return [{"epoch": e, "loss": 1 / e, "validation_loss": 1 / e + 0.1 * e} for e in range(1, epochs + 1)]


def test_a_learning_curve_is_the_history():
    display = renders(LearningCurveDisplay.from_history(history()))
    np.testing.assert_array_equal(y_of(display.line_), [r["loss"] for r in history()])
    np.testing.assert_array_equal(y_of(display.validation_line_), [r["validation_loss"] for r in history()])
    assert display.ax_.get_xlabel() == "epoch" and display.ax_.get_ylabel() == "loss"
    assert legend(display)[-1] == "best: epoch 3"  # 1/3 + 0.3 is less than 1/2 + 0.2 and 1/4 + 0.4


@pytest.mark.parametrize("best", [0, 7, 19])
def test_no_text_is_on_the_curves_wherever_the_best_epoch_is(best):
    validation = np.abs(np.arange(20) - best) + 1.0
    for display in (
        LearningCurveDisplay(np.arange(20.0, 0, -1), validation).plot(),
        LearningCurveDisplay(np.arange(20.0, 0, -1), -validation, validation_is_score=True).plot(),
    ):
        renders(display)
        assert legend(display) == ["training", "validation", f"best: epoch {best + 1}"]
        axes = [display.ax_] + [ax for ax in [display.score_ax_] if ax is not None]
        assert not any(ax.texts for ax in axes)
        assert display.ax_.get_legend().get_window_extent().y0 >= display.ax_.get_window_extent().y1


def test_a_history_of_model_fit_is_drawn():
    model = Model(LSTM(1, 4, rng=0), 1, rng=0)
    x, y = RNG.normal(size=(8, 5, 1)), RNG.normal(size=(8, 1))
    records = model.fit(x, y, epochs=3, validation=(x, y), rng=0)
    display = renders(LearningCurveDisplay.from_history(records))
    assert list(display.epochs) == [1, 2, 3]
    np.testing.assert_array_equal(display.validation, [r["validation_loss"] for r in records])


def test_a_history_without_validation_has_one_line_and_no_legend():
    display = renders(LearningCurveDisplay.from_history([{"loss": 2.0}, {"loss": 1.0}]))
    assert display.validation_line_ is None and display.ax_.get_legend() is None
    assert list(display.epochs) == [1, 2]


def test_epochs_without_validation_are_gaps():
    records = history()
    del records[1]["validation_loss"]
    display = renders(LearningCurveDisplay.from_history(records))
    assert np.isnan(y_of(display.validation_line_)).tolist() == [False, True, False, False, False]


@pytest.mark.parametrize(
    ("loss", "scale"), [([100, 10, 1], "log"), ([3, 2, 1], "linear"), ([100, 1, -1], "linear")]
)
def test_the_axis_is_logarithmic_where_it_helps(loss, scale):
    assert renders(LearningCurveDisplay(loss).plot()).ax_.get_yscale() == scale


class Fitted:
    """What an estimator shows of its training, as scikit-learn's MLPs do."""

    loss_curve_ = (1.0, 0.5, 0.4)
    validation_scores_ = (0.1, 0.9, 0.8)


def test_a_validation_loss_is_drawn_beside_the_loss():
    """Also where it began later, after epochs of partial_fit without."""
    estimator = Fitted()
    estimator.validation_loss_curve_ = [0.7, 0.6]
    display = renders(LearningCurveDisplay.from_estimator(estimator))
    assert display.score_ax_ is None and display.validation_line_.axes is display.ax_
    np.testing.assert_array_equal(y_of(display.validation_line_), [np.nan, 0.7, 0.6])
    estimator.validation_loss_curve_ = estimator.validation_scores_ = None
    assert LearningCurveDisplay.from_estimator(estimator).validation_line_ is None


def test_scores_of_an_estimator_have_an_axis_of_their_own():
    display = renders(LearningCurveDisplay.from_estimator(Fitted()))
    assert display.validation_line_.axes is display.score_ax_ is not display.ax_
    assert display.score_ax_.get_ylabel() == "validation score"
    assert legend(display)[-1] == "best: epoch 2"


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # five epochs are few
def test_an_mlp_of_scikit_learn_is_drawn():
    networks = pytest.importorskip("sklearn.neural_network", reason="the extra [sklearn] is not installed")
    x = RNG.normal(size=(60, 2))
    mlp = networks.MLPRegressor(hidden_layer_sizes=4, max_iter=5, early_stopping=True, random_state=0)
    mlp.fit(x, x[:, 0])
    display = renders(LearningCurveDisplay.from_estimator(mlp))
    np.testing.assert_array_equal(display.loss, mlp.loss_curve_)
    np.testing.assert_array_equal(display.validation, mlp.validation_scores_)


# Forecast


def test_a_forecast_is_drawn_from_the_last_observation_on():
    display = renders(
        ForecastDisplay.from_predictions(
            [1, 2, 3], [4, 5], truth=[3, np.nan], interval=([3, 3], [5, 8]), coverage=0.9, ylabel="level (m)"
        )
    )
    np.testing.assert_array_equal(display.prediction_line_.get_xdata(), [0, 1, 2])
    np.testing.assert_array_equal(y_of(display.prediction_line_), [3, 4, 5])
    np.testing.assert_array_equal(y_of(display.truth_line_), [3, 3, np.nan])
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["observed before", "90 % interval", "observed after", "forecast"]
    assert display.ax_.get_ylabel() == "level (m)"
    assert display.ax_.get_xlabel() == "steps from the last observation"
    top = display.band_.get_paths()[0].vertices[:, 1].max()
    assert top == 8


def test_a_forecaster_continues_the_series():
    forecasting = pytest.importorskip("lstm_ext.sklearn", reason="the extra [sklearn] is not installed")
    y = np.sin(0.5 * np.arange(80))
    forecaster = forecasting.LSTMForecaster(
        window=10, horizon=3, hidden_size=4, max_iter=2, loss="gaussian", random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two epochs are few
        forecaster.fit(y)
    display = renders(ForecastDisplay.from_estimator(forecaster, y[:70], truth=y[70:73], coverage=0.8))
    np.testing.assert_array_equal(display.prediction, forecaster.predict(y=y[:70]))
    np.testing.assert_array_equal(display.interval, forecaster.predict_interval(y=y[:70], coverage=0.8))
    assert ForecastDisplay.from_estimator(forecaster, y[:70]).band_ is None


def test_samples_become_a_median_and_an_interval():
    samples = np.arange(101)[:, None] * [1.0, 2.0]
    display = renders(ForecastDisplay.from_samples([0.0], samples, coverage=0.8))
    np.testing.assert_allclose(display.prediction, [50, 100])
    np.testing.assert_allclose(display.interval, [[10, 20], [90, 180]])


def test_a_forecast_over_dates():
    months = np.arange("2000-01", "2000-06", dtype="datetime64[M]")
    display = renders(ForecastDisplay.from_predictions([1, 2, 3], [4, 5], index=months))
    assert display.ax_.get_xlabel() == ""  # dates speak for themselves
    assert "2000" in display.ax_.xaxis.get_major_formatter().get_offset() + "".join(
        label.get_text() for label in display.ax_.get_xticklabels()
    )


@pytest.mark.parametrize("steps", [1, 12])
def test_a_narrow_interval_is_seen(steps):
    """Narrower than the line of the forecast, and that of a single step."""
    history, prediction = np.linspace(0, 200, 40), np.full(steps, 200.0)
    interval = prediction - 0.3, prediction + 0.3
    bare = pixels(ForecastDisplay.from_predictions(history, prediction))
    drawn = pixels(ForecastDisplay.from_predictions(history, prediction, interval=interval))
    assert bare.shape == drawn.shape
    changed = (np.abs(drawn - bare).max(axis=-1) > 40).any(axis=0).sum()  # columns of pixels
    assert changed > 0.8 * steps / (steps + 39) * drawn.shape[1]


def test_a_long_history_does_not_squeeze_the_forecast():
    history, months = np.arange(132.0), np.datetime64("1949-01") + np.arange(144)
    for index in (None, months, 1949 + np.arange(144) / 12):
        display = renders(ForecastDisplay.from_predictions(history, np.arange(12.0), index=index))
        left, right = display.ax_.get_xlim()
        ahead = display.prediction_line_.get_xdata(orig=False)
        assert (ahead[-1] - ahead[0]) / (right - left) > 0.15
        np.testing.assert_array_equal(y_of(display.history_line_), history[-60:])
        assert y_of(display.plot(past=200).history_line_).size == len(display.history) == 132


def test_indexes_of_pandas_are_dates():
    pd = pytest.importorskip("pandas")
    days = np.datetime64("2020-01-01") + np.arange(5)
    for index in (
        pd.date_range("2020-01-01", periods=5), pd.period_range("2020-01-01", periods=5, freq="D"),
        pd.date_range("2020-01-01", periods=5, tz="Europe/Berlin"), [day.item() for day in days],
    ):
        display = renders(ForecastDisplay.from_predictions([1, 2, 3], [4, 5], index=index))
        assert (display.index == days).all()


def test_a_forecast_without_history():
    renders(ForecastDisplay.from_predictions([], [1, 2], truth=[1, 2]))


# States


def test_states_are_those_of_the_forward_pass():
    lstm, x = LSTM(2, 5, num_layers=2, bidirectional=True, rng=0), RNG.normal(size=(7, 2))
    y, _, gates = lstm.forward(x[None], return_gates=True)
    display = renders(
        StateDisplay.from_model(lstm, x, show="xifgoch", reverse=True, feature_names=["rain", "snow"])
    )
    assert list(display.values) == list("xifgoch") and len(display.ax_) == 7
    np.testing.assert_array_equal(display.values["x"], x)
    for name in "ifgoc":
        np.testing.assert_allclose(display.values[name], gates[name][3, 0], rtol=1e-6)
    np.testing.assert_allclose(display.values["h"], y[0, :, 5:], rtol=1e-6)
    np.testing.assert_allclose(
        display.values["h"], display.values["o"] * np.tanh(display.values["c"]), rtol=1e-5
    )
    image = display.ax_[1].images[0]
    np.testing.assert_array_equal(image.get_array(), display.values["i"].T)
    assert image.get_clim() == (0, 1)
    low, high = display.ax_[5].images[0].get_clim()
    assert -low == high == np.abs(display.values["c"]).max()
    labels = [text.get_text() for text in display.ax_[0].get_legend().get_texts()]
    assert labels == ["rain", "snow"]


def test_units_are_drawn_in_the_order_asked_for():
    lstm, x = LSTM(2, 5, num_layers=2, rng=0), RNG.normal(size=(7, 2))
    whole = StateDisplay.from_model(lstm, x, show="fc", layer=0)
    part = renders(StateDisplay.from_model(lstm, x, show="fc", layer=0, units=[4, 1]))
    np.testing.assert_array_equal(part.values["c"], whole.values["c"][:, [4, 1]])


def test_state_static_inputs_and_many_features():
    lstm = LSTM(9, 4, static_size=2, rng=0)
    x, static = RNG.normal(size=(6, 9)), np.ones(2)
    state = RNG.normal(size=(2, 1, 4))
    display = renders(StateDisplay.from_model(lstm, x, show="xh", state=tuple(state), static=static))
    expected = lstm(x[None], tuple(state[:, :, None]), static=static[None])[0][0]
    np.testing.assert_allclose(display.values["h"], expected, rtol=1e-5)
    assert display.ax_[0].images  # nine features: a heat map


@pytest.mark.parametrize("features", [7, 12, 40])
def test_the_names_of_many_features_are_drawn(features):
    names = [f"sensor {k}" for k in range(features)]
    x = RNG.normal(size=(30, features))
    for display in (
        StateDisplay({"x": x, "i": np.ones((30, 2))}, feature_names=names).plot(),
        AttributionDisplay(x, feature_names=names).plot(),
    ):
        ax = np.ravel(display.ax_)[0]
        renders(display)
        assert [label.get_text() for label in ax.get_yticklabels()] == names
        assert_apart(ax.yaxis)
    low = plt.figure().add_axes((0.3, 0.4, 0.6, 0.1))  # it has no room for all
    renders(AttributionDisplay(x, feature_names=names).plot(low))
    assert low.get_yticklabels()[0].get_text() == "sensor 0" and len(low.get_yticklabels()) < features
    assert_apart(low.yaxis)


@pytest.mark.parametrize(("step", "label"), [
    (np.timedelta64(1, "D"), "2020-01-11"), (np.timedelta64(1, "h"), "2020-01-01\n10:00"), (1.5, "15"),
])
def test_time_is_that_of_the_index(step, label):
    start = 0 if step == 1.5 else np.datetime64("2020-01-01", "ns")
    index, x = start + np.arange(45) * step, RNG.normal(size=(45, 3))
    for display in (
        StateDisplay({"x": x, "c": x}, index=index).plot(), AttributionDisplay(x, index=index).plot(),
        AttributionDisplay(x[:, :1], index=index).plot(),
    ):
        ax = np.ravel(display.ax_)[-1]
        renders(display)
        assert ax.xaxis.get_major_formatter()(10, None) == label
        assert ax.get_xlabel() == ("time" if step == 1.5 else "")
        assert_apart(ax.xaxis)


def test_gates_beyond_0_and_1_are_drawn_around_0():
    lstm = LSTM(1, 3, activations=("tanh", "tanh", "tanh"), rng=0)
    display = renders(StateDisplay.from_model(lstm, -np.ones((4, 1)), show="i"))
    low, high = display.ax_[0].images[0].get_clim()
    assert -low == high > 0


# Attributions


@pytest.fixture
def model():
    return Model(LSTM(2, 4, rng=0), 3, every_step=True, rng=0)


def test_an_attribution_is_that_of_the_arithmetic(model):
    x = RNG.normal(size=(6, 2))
    words = {"step": 3, "baseline": 0.1}
    display = renders(AttributionDisplay.from_model(model, x, 1, **words, label="degrees"))
    np.testing.assert_array_equal(display.attribution, integrated_gradients(model, x[None], 1, **words)[0])
    np.testing.assert_allclose(display.change, output_difference(model, x[None], 1, **words)[0])
    other = AttributionDisplay.from_model(model, x, 1, **words, method="gradient_times_input")
    np.testing.assert_array_equal(other.attribution, gradient_times_input(model, x[None], 1, **words)[0])
    image = display.ax_.images[0]
    np.testing.assert_array_equal(image.get_array(), display.attribution.T)
    assert image.colorbar.ax.get_ylabel() == "degrees"
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["feature 0", "feature 1"]
    low, high = image.get_clim()
    assert -low == high == np.abs(display.attribution).max()


def test_one_feature_has_bars():
    model = Model(LSTM(1, 4, rng=0), 1, rng=0)
    display = renders(AttributionDisplay.from_model(model, RNG.normal(size=(6, 1))))
    heights = [bar.get_height() for bar in display.ax_.patches]
    np.testing.assert_array_equal(heights, display.attribution[:, 0])


def test_nothing_at_all_is_drawn_too():
    renders(AttributionDisplay(np.zeros((4, 2))).plot())
    renders(AttributionDisplay(np.zeros((4, 40))).plot())


# Axes of one's own


def test_axes_that_are_given_are_drawn_on(model):
    figure, axes = plt.subplots(1, 3)
    for display, ax in zip(
        (
            LearningCurveDisplay.from_history(history(), ax=axes[0]),
            ForecastDisplay.from_predictions([1], [2], ax=axes[1]),
            AttributionDisplay.from_model(model, np.ones((3, 2)), ax=axes[2]),
        ),
        axes,
        strict=True,
    ):
        assert display.ax_ is ax and display.figure_ is figure
    figure, axes = plt.subplots(2, 1)
    display = StateDisplay.from_model(model, np.ones((3, 2)), show="xc", ax=axes)
    assert list(display.ax_) == list(axes) and display.figure_ is figure


def test_a_display_can_be_drawn_again():
    display = LearningCurveDisplay.from_history(history())
    first = display.figure_
    assert display.plot() is display and display.figure_ is not first


# Errors


LAYERS = LSTM(1, 3, num_layers=2)
X = np.ones((4, 1))


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ValueError, "history has no losses; expected", lambda: LearningCurveDisplay.from_history([])),
        (ValueError, "history has no losses; expected", lambda: LearningCurveDisplay.from_history([{}])),
        (TypeError, "estimator is int without loss_curve_", lambda: LearningCurveDisplay.from_estimator(1)),
        (ValueError, "validation has 1 epochs; expected 2", lambda: LearningCurveDisplay([1, 2], [1])),
        (ValueError, "loss is empty", lambda: LearningCurveDisplay([])),
        (TypeError, "ax is int; expected matplotlib axes", lambda: LearningCurveDisplay([1]).plot(3)),
        (ValueError, "prediction has shape .1, 1.; expected 1 axes", lambda: ForecastDisplay([1], [[2]])),
        (TypeError, "history is of dtype <U1; expected real", lambda: ForecastDisplay(["a"], [2])),
        (ValueError, "truth has shape .0,.; expected .1,.", lambda: ForecastDisplay([1], [2], truth=[])),
        (ValueError, "interval has 1 parts", lambda: ForecastDisplay([1], [2], interval=[[1]])),
        (ValueError, "a lower bound above", lambda: ForecastDisplay([1], [2], interval=[[3], [1]])),
        (ValueError, "coverage is 90", lambda: ForecastDisplay.from_samples([1], [[2]], coverage=90)),
        (ValueError, "samples is empty", lambda: ForecastDisplay.from_samples([1], np.empty((0, 2)))),
        (ValueError, "index has shape .1,.; expected one", lambda: ForecastDisplay([1], [2], index=[1])),
        (TypeError, "index is of dtype <U1", lambda: AttributionDisplay([[1]], index="a")),
        (ValueError, "index has shape .2,.", lambda: StateDisplay({"c": [[1]]}, index=[1, 2])),
        (ValueError, "past is .*; expected at least 0", lambda: ForecastDisplay([1], [2]).plot(past=-1)),
        (TypeError, "model is int; expected an LSTM or a Model", lambda: StateDisplay.from_model(1, X)),
        (ValueError, "show has 'q'", lambda: StateDisplay.from_model(LAYERS, X, show="q")),
        (ValueError, "layer is 2; expected one of 2", lambda: StateDisplay.from_model(LAYERS, X, layer=2)),
        (ValueError, "has one direction", lambda: StateDisplay.from_model(LAYERS, X, reverse=True)),
        (ValueError, "layer is 0; expected the last", lambda: StateDisplay.from_model(LAYERS, X, layer=0)),
        (ValueError, "expected one sequence", lambda: StateDisplay.from_model(LAYERS, np.ones((2, 4, 1)))),
        (ValueError, "units runs from 3 to 3", lambda: StateDisplay.from_model(LAYERS, X, units=[3])),
        (TypeError, "units is 'a'", lambda: StateDisplay.from_model(LAYERS, X, units="a")),
        (ValueError, "feature_names has 2", lambda: StateDisplay.from_model(LAYERS, X, feature_names="ab")),
        (ValueError, "ax has 1 axes; expected 6", lambda: StateDisplay.from_model(LAYERS, X, ax=[None])),
        (ValueError, "values is empty", lambda: StateDisplay({})),
        (ValueError, "different numbers of steps", lambda: StateDisplay({"i": np.ones((2, 1)), "f": X})),
        (ValueError, "method is 'lime'", lambda: AttributionDisplay.from_model(LAYERS, X, method="lime")),
        (ValueError, "attribution has shape .2,.", lambda: AttributionDisplay([1, 2])),
    ],
)
def test_what_cannot_be_drawn_gets_a_sentence_and_no_figure(error, words, call):
    with pytest.raises(error, match=words):
        call()
    assert not plt.get_fignums()
