"""Pictures, as display classes like those of scikit-learn.

``Display.from_...`` computes and draws; the display keeps the numbers, and its ``plot`` draws them again, on
given axes if wanted. matplotlib is imported when something is drawn (extra ``plot``).

Colors are those of M. Okabe and K. Ito, "Color universal design" (2008); maps are cividis (J. R. Nuñez,
C. R. Anderton and R. S. Renslow, 2018, *PLoS ONE* 13:e0199239) and, around 0, red and blue.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from lstm_ext._checks import count
from lstm_ext._data import as_array
from lstm_ext._table import shown
from lstm_ext.attribution import gradient_times_input, integrated_gradients, output_difference
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    import numpy.typing as npt

    _Axes = Any
    _Array = npt.NDArray[np.float64]

__all__ = ["AttributionDisplay", "ForecastDisplay", "LearningCurveDisplay", "StateDisplay"]

BLUE, VERMILION, SKY, GREY = "#0072B2", "#D55E00", "#56B4E9", "0.35"
_RGB_BLUE = (0, 0x72 / 255, 0xB2 / 255)
COLOURS = (BLUE, "#E69F00", "#009E73", "#CC79A7", VERMILION, SKY)
AROUND_ZERO, WITHIN_BOUNDS = "RdBu_r", "cividis"
_ROW = 8  # points that the name of a row needs


def _pyplot() -> ModuleType:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("lstm_ext.plot draws with matplotlib: pip install 'lstm-ext[plot]'") from error
    return plt


def _axes(ax: _Axes, figsize: tuple[float, float] | None) -> _Axes:
    """Return `ax`, or axes on a new figure."""
    if ax is None:
        ax = _pyplot().subplots(figsize=figsize, layout="constrained")[1]
    elif not hasattr(ax, "plot"):
        raise TypeError(f"ax is {type(ax).__name__}; expected matplotlib axes")
    return ax


def _tidy(ax: _Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)


def _numbers(name: str, values: npt.ArrayLike, ndim: int) -> _Array:
    """`values` as float64 with `ndim` axes."""
    array = as_array(name, values, nan=True)  # a gap in a line is a gap
    if array.dtype.kind not in "bfiu":
        raise TypeError(f"{name} is of dtype {array.dtype}; expected real numbers")
    if array.ndim != ndim:
        raise ValueError(f"{name} has shape {array.shape}; expected {ndim} axes")
    return array.astype(np.float64)


def _sequence(x: npt.ArrayLike, what: str = "x") -> npt.NDArray[Any]:
    """One sequence as (T, I)."""
    x = as_array(what, x)
    if x.ndim == 3 and len(x) == 1:
        x = x[0]
    if x.ndim != 2:
        raise ValueError(f"{what} has shape {x.shape}; expected one sequence (time, features)")
    return x


def _names(name: str, names: Sequence[str] | None, count: int, default: str) -> list[str]:
    if names is None:
        return [f"{default} {i}" for i in range(count)]
    names = [str(n) for n in names]
    if len(names) != count:
        raise ValueError(f"{name} has {len(names)} names; expected {count}")
    return names


def _index(index: Any, steps: int) -> npt.NDArray[Any]:
    """Return an index as numbers or datetime64, one for each of so many steps."""
    if hasattr(index, "to_timestamp"):  # periods of pandas
        index = index.to_timestamp()
    if hasattr(index, "tz_localize"):
        index = index.tz_localize(None)
    array = np.asarray(index)
    if array.dtype == object and all(hasattr(time, "isoformat") for time in array.ravel()):
        array = array.astype("datetime64[us]")
    if array.dtype.kind not in "iufM":
        raise TypeError(f"index is of dtype {array.dtype}; expected numbers or dates")
    if array.shape != (steps,):
        raise ValueError(f"index has shape {array.shape}; expected one entry for each of {steps} steps")
    return array


def _label_steps(ax: _Axes, index: npt.NDArray[Any] | None) -> None:
    """Label an axis of steps with their entries in the index."""
    _whole_steps(ax.xaxis, 6 if index is None or index.dtype.kind != "M" else 4)
    if index is None:
        ax.set_xlabel("time step")
        return
    labels = [label.replace("T", "\n") for label in shown(index)]
    ax.xaxis.set_major_formatter(lambda step, _: labels[int(step)] if 0 <= step < len(labels) else "")
    ax.set_xlabel("" if index.dtype.kind == "M" else "time")


def _heat_map(
    ax: _Axes, values: _Array, vmin: float, vmax: float, cmap: str, label: str | None = None
) -> None:
    """Draw (rows, T) with row 0 at the top, one cell for a step, and a color bar beside it."""
    image = ax.imshow(
        values, aspect="auto", interpolation="nearest", origin="upper", cmap=cmap, vmin=vmin, vmax=vmax
    )
    _whole_steps(ax.yaxis)
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, fraction=0.05, aspect=12)
    if label is not None:
        bar.set_label(label)
    bar.outline.set_visible(False)
    bar.ax.locator_params(nbins=4)


def _whole_steps(axis: Any, most: int = 6) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=most, integer=True))


def _legend_above(ax: _Axes, loc: str, handles: list[Any] | None = None) -> None:
    """Put the legend where no line can be."""
    ax.legend(
        handles=handles, frameon=False, fontsize="small", loc=f"lower {loc}",
        bbox_to_anchor=(0 if loc == "left" else 1, 1), ncols=4, borderpad=0.2, borderaxespad=0.2,
        handlelength=1.6,
    )


def _name_rows(ax: _Axes, names: list[str]) -> None:
    """Name the rows of a heat map: all of them, or as many as fit, evenly spaced."""
    ax.figure.draw_without_rendering()  # the layout decides how high the axes are
    room = max(1, int(ax.get_window_extent().height / ax.figure.dpi * 72 / _ROW))
    rows = range(0, len(names), -(-len(names) // room))
    ax.set_yticks(rows, [names[row] for row in rows], fontsize="x-small" if len(names) > room / 2 else None)


class LearningCurveDisplay:
    """Loss over the epochs of a training, and the validation's.

    Parameters
    ----------
    loss : array_like, (E,)
        Training loss of each epoch.
    validation : array_like, (E,), optional
        What the validation gave after each epoch.
    validation_is_score : bool, default False
        The validation is a score, the higher the better, and gets an axis of its own; else it is a loss.
    epochs : array_like, (E,), optional
        Their numbers; default 1 to E.

    Attributes
    ----------
    ax_ : matplotlib axes
    score_ax_ : matplotlib axes or None
        Those of the validation score.
    figure_ : matplotlib figure
    line_, validation_line_ : matplotlib lines
        The second is None without a validation.

    Examples
    --------
    >>> history = [{"epoch": 1, "loss": 1.0, "validation_loss": 1.1}, {"epoch": 2, "loss": 0.4}]
    >>> display = LearningCurveDisplay.from_history(history)  # doctest: +SKIP
    """

    loss: _Array
    validation: _Array | None
    validation_is_score: bool
    epochs: npt.NDArray[Any]
    ax_: _Axes
    score_ax_: _Axes
    figure_: Any
    line_: Any
    validation_line_: Any

    def __init__(
        self, loss: npt.ArrayLike, validation: npt.ArrayLike | None = None, *,
        validation_is_score: bool = False, epochs: npt.ArrayLike | None = None,
    ) -> None:
        self.loss = _numbers("loss", loss, 1)
        self.validation = None if validation is None else _numbers("validation", validation, 1)
        self.validation_is_score = bool(validation_is_score)
        self.epochs = np.arange(1, len(self.loss) + 1) if epochs is None else _numbers("epochs", epochs, 1)
        for name, array in (("validation", self.validation), ("epochs", self.epochs)):
            if array is not None and len(array) != len(self.loss):
                raise ValueError(f"{name} has {len(array)} epochs; expected {len(self.loss)} as loss has")
        if not len(self.loss):
            raise ValueError("loss is empty; expected one epoch or more")

    @classmethod
    def from_history(cls, history: Sequence[Mapping[str, Any]], *, ax: _Axes = None) -> Self:
        """Draw what `Model.fit` returned.

        Parameters
        ----------
        history : list of dict
            Records with "loss", and maybe "epoch" and "validation_loss"; where some lack the latter, the line
            has gaps.
        ax : matplotlib axes, optional

        Returns
        -------
        LearningCurveDisplay
        """
        history = list(history)
        if not history or not all(isinstance(record, dict) and "loss" in record for record in history):
            raise ValueError("history has no losses; expected records with 'loss', as Model.fit returns them")
        validation = [record.get("validation_loss", np.nan) for record in history]
        return cls(
            [record["loss"] for record in history],
            None if np.isnan(validation).all() else validation,
            epochs=[record.get("epoch", number) for number, record in enumerate(history, 1)],
        ).plot(ax)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: _Axes = None) -> Self:
        """Draw the training of a fitted estimator.

        Parameters
        ----------
        estimator : object with ``loss_curve_``
            One of `lstm_ext.sklearn`, whose ``validation_loss_curve_`` is drawn beside it, or scikit-learn's
            ``MLPRegressor`` or ``MLPClassifier``, whose ``validation_scores_`` are.
        ax : matplotlib axes, optional

        Returns
        -------
        LearningCurveDisplay
        """
        if not hasattr(estimator, "loss_curve_"):
            raise TypeError(
                f"estimator is {type(estimator).__name__} without loss_curve_; expected one that has been "
                "fitted in epochs"
            )
        loss, validation = estimator.loss_curve_, getattr(estimator, "validation_loss_curve_", None)
        is_score = validation is None
        if is_score:
            validation = getattr(estimator, "validation_scores_", None)
        if validation is not None:  # there may have been none in the first epochs
            validation = [np.nan] * (len(loss) - len(validation)) + list(validation)
        return cls(loss, validation, validation_is_score=is_score and validation is not None).plot(ax)

    def plot(self, ax: _Axes = None) -> Self:
        """Draw it. Losses that are all positive and span more than a factor of 10 get a logarithmic axis.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Default: on a new figure.

        Returns
        -------
        LearningCurveDisplay
            Itself.
        """
        ax = _axes(ax, (6, 3.6))
        self.ax_, self.figure_, self.score_ax_, self.validation_line_ = ax, ax.figure, None, None
        (self.line_,) = ax.plot(self.epochs, self.loss, color=BLUE, lw=1.8, label="training")
        drawn, other = [self.loss], ax
        if self.validation is not None:
            if self.validation_is_score:
                other = self.score_ax_ = ax.twinx()
                other.spines["top"].set_visible(False)
                for axes, colour in ((ax, BLUE), (other, VERMILION)):
                    axes.tick_params(axis="y", colors=colour)
            else:
                drawn.append(self.validation)
            (self.validation_line_,) = other.plot(
                self.epochs, self.validation, color=VERMILION, lw=1.8, ls="--", label="validation"
            )
            best = self._mark_best(other, self.validation)
            _legend_above(ax, "left", [self.line_, self.validation_line_, *best])
        values = np.concatenate(drawn)
        values = values[np.isfinite(values)]
        if values.size and values.min() > 0 and values.max() > 10 * values.min():
            ax.set_yscale("log")
        ax.set(xlabel="epoch", ylabel="loss")
        if self.score_ax_ is not None:
            ax.set_ylabel("training loss", color=BLUE)
            self.score_ax_.set_ylabel("validation score", color=VERMILION)
        _whole_steps(ax.xaxis)
        _tidy(ax)
        return self

    def _mark_best(self, ax: _Axes, validation: _Array) -> list[Any]:
        """Draw a point at the best epoch, if there is one; the legend says which it is."""
        known = np.flatnonzero(np.isfinite(validation))
        if not known.size:
            return []
        values = validation[known]
        best = known[values.argmax() if self.validation_is_score else values.argmin()]
        epoch = self.epochs[best]
        points: list[Any] = ax.plot(
            epoch, validation[best], "o", color=VERMILION, ms=6, label=f"best: epoch {epoch:g}"
        )
        return points


class ForecastDisplay:
    """A forecast, what came before it, what came true, and how sure the forecast was.

    Parameters
    ----------
    history : array_like, (T,)
        The observations that the forecast was made from.
    prediction : array_like, (P,)
        The steps that follow them.
    truth : array_like, (P,), optional
        What was observed then; NaN where nothing was.
    interval : (array_like, array_like), optional
        Lower and upper bound, (P,) each.
    coverage : float, optional
        Probability with which the truth is meant to lie in the interval, for the legend.
    index : array_like, (T + P,), optional
        Where history and prediction lie on the time axis: numbers, datetime64, or an index of pandas with
        dates or periods. Default: steps from the last observation, which is 0.

    Attributes
    ----------
    ax_ : matplotlib axes
    figure_ : matplotlib figure
    history_line_, prediction_line_, truth_line_ : matplotlib lines
    band_ : matplotlib collection
        The last two are None where there is nothing to draw.

    Examples
    --------
    >>> history, prediction = [1.0, 2.0, 3.0], [3.5, 4.0]
    >>> display = ForecastDisplay(history, prediction, interval=([3, 3], [4, 5]), coverage=0.9)
    >>> display.index
    array([-2, -1,  0,  1,  2])
    """

    history: _Array
    prediction: _Array
    truth: _Array | None
    interval: tuple[_Array, ...] | None
    coverage: float | None
    index: npt.NDArray[Any]
    ax_: _Axes
    figure_: Any
    history_line_: Any
    prediction_line_: Any
    truth_line_: Any
    band_: Any

    def __init__(
        self, history: npt.ArrayLike, prediction: npt.ArrayLike, *, truth: npt.ArrayLike | None = None,
        interval: tuple[npt.ArrayLike, npt.ArrayLike] | None = None, coverage: float | None = None,
        index: npt.ArrayLike | None = None,
    ) -> None:
        self.history, self.prediction = _numbers("history", history, 1), _numbers("prediction", prediction, 1)
        steps = self.prediction.shape
        self.truth = None if truth is None else _numbers("truth", truth, 1)
        if self.truth is not None and self.truth.shape != steps:
            raise ValueError(f"truth has shape {self.truth.shape}; expected {steps} as prediction has")
        self.interval = None
        if interval is not None:
            if len(interval) != 2:
                raise ValueError(f"interval has {len(interval)} parts; expected two: lower and upper")
            self.interval = tuple(_numbers("interval", bound, 1) for bound in interval)
            for bound in self.interval:
                if bound.shape != steps:
                    raise ValueError(f"interval has bounds of shape {bound.shape}; expected {steps}")
            if (self.interval[0] > self.interval[1]).any():
                raise ValueError("interval has a lower bound above the upper one; expected lower, then upper")
        if coverage is not None and not 0 < coverage < 1:
            raise ValueError(f"coverage is {coverage}; expected a probability between 0 and 1")
        self.coverage = coverage
        count = len(self.history) + len(self.prediction)
        self.index = np.arange(count) - len(self.history) + 1 if index is None else _index(index, count)

    @classmethod
    def from_predictions(
        cls, history: npt.ArrayLike, prediction: npt.ArrayLike, *, truth: npt.ArrayLike | None = None,
        interval: tuple[npt.ArrayLike, npt.ArrayLike] | None = None, coverage: float | None = None,
        index: npt.ArrayLike | None = None, ylabel: str | None = None, ax: _Axes = None,
    ) -> Self:
        """Draw a forecast that is there.

        Parameters
        ----------
        history, prediction, truth, interval, coverage, index
            As in `ForecastDisplay`.
        ylabel : str, optional
            What the series is, with its units.
        ax : matplotlib axes, optional

        Returns
        -------
        ForecastDisplay
        """
        return cls(
            history, prediction, truth=truth, interval=interval, coverage=coverage, index=index
        ).plot(ax, ylabel=ylabel)

    @classmethod
    def from_estimator(
        cls, estimator: Any, y: npt.ArrayLike, *, horizon: int | None = None, X: npt.ArrayLike | None = None,
        X_past: npt.ArrayLike | None = None, truth: npt.ArrayLike | None = None,
        coverage: float | None = None, index: npt.ArrayLike | None = None, ylabel: str | None = None,
        ax: _Axes = None,
    ) -> Self:
        """Let a fitted forecaster continue one series, and draw it.

        Parameters
        ----------
        estimator : LSTMForecaster
            Or what has the same ``predict`` and ``predict_interval``.
        y : array_like, (T,)
            What is drawn as history, and continued.
        horizon : int, optional
            Steps; default: the forecaster's.
        X : array_like, (horizon, K), optional
            Exogenous inputs of the steps that are forecast.
        X_past : array_like, (T, K), optional
            Those of `y`.
        coverage : float, optional
            Draw the interval, too, for a forecaster that knows one.
        truth, index, ylabel, ax
            As in `from_predictions`.

        Returns
        -------
        ForecastDisplay
        """
        y = _numbers("y", y, 1)
        prediction, interval = estimator.predict(horizon, X, y=y, X_past=X_past), None
        if coverage is not None:
            interval = estimator.predict_interval(horizon, X, y=y, X_past=X_past, coverage=coverage)
        return cls.from_predictions(
            y, prediction, truth=truth, interval=interval, coverage=coverage, index=index, ylabel=ylabel,
            ax=ax,
        )

    @classmethod
    def from_samples(
        cls, history: npt.ArrayLike, samples: npt.ArrayLike, *, coverage: float = 0.9,
        truth: npt.ArrayLike | None = None, index: npt.ArrayLike | None = None, ylabel: str | None = None,
        ax: _Axes = None,
    ) -> Self:
        """Draw the median of many forecasts, and the interval that holds `coverage` of them.

        Parameters
        ----------
        history : array_like, (T,)
        samples : array_like, (M, P)
            Members of an ensemble, or paths that were drawn.
        coverage : float, default 0.9
            The bounds are the quantiles (1 - coverage) / 2 and (1 + coverage) / 2 of each step.
        truth, index, ylabel, ax
            As in `from_predictions`.

        Returns
        -------
        ForecastDisplay
        """
        samples = _numbers("samples", samples, 2)
        if not 0 < coverage < 1:
            raise ValueError(f"coverage is {coverage}; expected a probability between 0 and 1")
        if not len(samples):
            raise ValueError("samples is empty; expected one forecast or more")
        lower, middle, upper = np.quantile(samples, [(1 - coverage) / 2, 0.5, (1 + coverage) / 2], axis=0)
        return cls.from_predictions(
            history, middle, truth=truth, interval=(lower, upper), coverage=coverage, index=index,
            ylabel=ylabel, ax=ax,
        )

    def plot(self, ax: _Axes = None, *, ylabel: str | None = None, past: int | None = None) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Default: on a new figure.
        ylabel : str, optional
            What the series is, with its units.
        past : int, optional
            How many of the last observations to draw. Default: five for each step of the forecast, and 30 at
            least, so that a long history does not squeeze the forecast.

        Returns
        -------
        ForecastDisplay
            Itself.
        """
        T, P = len(self.history), len(self.prediction)
        first = max(0, T - (max(5 * P, 30) if past is None else count("past", past, 0)))
        ax = _axes(ax, (7, 3.2))
        self.ax_, self.figure_, self.band_, self.truth_line_ = ax, ax.figure, None, None
        (self.history_line_,) = ax.plot(
            self.index[first:T], self.history[first:], color=GREY, lw=1.5, label="observed before"
        )
        # The last observation joins lines and band on, so that one sees what happened then.
        last, joined = self.history[-1:], self.index[max(T - 1, 0) :]
        if self.interval is not None:
            share = "" if self.coverage is None else f"{100 * self.coverage:g} % "
            lower, upper = (np.concatenate([last, bound]) for bound in self.interval)
            # Its bounds are lines above the forecast: a narrow one would be behind it.
            self.band_ = ax.fill_between(
                joined, lower, upper, facecolor=(*_RGB_BLUE, 0.22), edgecolor=SKY, lw=0.8, zorder=2.5,
                label=f"{share}interval",
            )
        if self.truth is not None:
            (self.truth_line_,) = ax.plot(
                joined, np.concatenate([last, self.truth]), color="black", lw=1.5, ls=":", zorder=3,
                label="observed after",
            )
        (self.prediction_line_,) = ax.plot(
            joined, np.concatenate([last, self.prediction]), color=BLUE, lw=2, label="forecast"
        )
        if T:
            ax.axvline(self.index[T - 1], color="0.8", lw=0.8, zorder=0)
        if np.issubdtype(self.index.dtype, np.datetime64):
            from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

            locator = AutoDateLocator()  # type: ignore[no-untyped-call]
            ax.xaxis.set_major_locator(locator)
            ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        else:
            ax.set_xlabel("steps from the last observation" if T and self.index[T - 1] == 0 else "time")
        if ylabel is not None:
            ax.set_ylabel(ylabel)
        _tidy(ax)
        ax.margins(x=0.01)
        _legend_above(ax, "left")
        return self


GATES = {
    "x": "input",
    "i": "input gate i",
    "f": "forget gate f",
    "o": "output gate o",
    "g": "candidate g",
    "c": "cell c",
    "h": "hidden state h",
}


class StateDisplay:
    """Gates, cell and hidden state of one sequence over time, as heat maps.

    Parameters
    ----------
    values : dict of array_like, (T, H)
        By the names "i", "f", "o" (drawn from 0 to 1), "g", "c", "h" (drawn around 0), and "x" (T, I), the
        input, drawn as lines if there are six features or fewer. They are drawn in the order given.
    feature_names : list of str, optional
        Of x.
    index : array_like, (T,), optional
        Where the steps lie in time, as in `ForecastDisplay`. Default: 0 to T - 1.

    Attributes
    ----------
    ax_ : ndarray of matplotlib axes
        One for each of `values`.
    figure_ : matplotlib figure
    """

    values: dict[str, _Array]
    feature_names: list[str] | None
    index: npt.NDArray[Any] | None
    ax_: npt.NDArray[Any]
    figure_: Any

    def __init__(
        self, values: dict[str, npt.ArrayLike], *, feature_names: Sequence[str] | None = None,
        index: npt.ArrayLike | None = None,
    ) -> None:
        if not values:
            raise ValueError("values is empty; expected one of " + ", ".join(GATES))
        self.values = {}
        for name, array in values.items():
            if name not in GATES:
                raise ValueError(f"values has {name!r}; expected names among {', '.join(GATES)}")
            self.values[name] = _numbers(name, array, 2)
        steps = {name: len(array) for name, array in self.values.items()}
        if len(set(steps.values())) > 1:
            raise ValueError(f"values has different numbers of steps; expected one: {steps}")
        self.feature_names = None
        if "x" in self.values:
            self.feature_names = _names("feature_names", feature_names, self.values["x"].shape[1], "feature")
        self.index = None if index is None else _index(index, next(iter(steps.values())))

    @classmethod
    def from_model(
        cls, model: LSTM | Model, x: npt.ArrayLike, *, show: Sequence[str] = ("x", "i", "f", "o", "c", "h"),
        layer: int = -1, reverse: bool = False, units: Sequence[int] | None = None,
        state: tuple[npt.ArrayLike, npt.ArrayLike] | None = None, static: npt.ArrayLike | None = None,
        feature_names: Sequence[str] | None = None, index: npt.ArrayLike | None = None,
        ax: Sequence[_Axes] | None = None,
    ) -> Self:
        """Run one sequence and draw what happened within.

        Parameters
        ----------
        model : LSTM or Model
        x : array_like, (T, I)
        show : sequence of {"x", "i", "f", "g", "o", "c", "h"}
            What to draw, from the top down. h is that of the last layer alone.
        layer : int, default -1
            Which layer; -1 is the last.
        reverse : bool, default False
            The second direction of a bidirectional LSTM.
        units : sequence of int, optional
            Which hidden units, in this order; default all.
        state, static
            As in `LSTM.forward`, for one sequence.
        feature_names, index
            As in `StateDisplay`.
        ax : sequence of matplotlib axes, optional
            As many as `show`.

        Returns
        -------
        StateDisplay
        """
        lstm = model.lstm if isinstance(model, Model) else model
        if not isinstance(lstm, LSTM):
            raise TypeError(f"model is {type(model).__name__}; expected an LSTM or a Model")
        show = list(show)
        unknown = [name for name in show if name not in GATES]
        if unknown:
            raise ValueError(f"show has {unknown[0]!r}; expected names among {', '.join(GATES)}")
        if not -lstm.num_layers <= layer < lstm.num_layers:
            raise ValueError(f"layer is {layer}; expected one of {lstm.num_layers}")
        layer %= lstm.num_layers
        if reverse and not lstm.bidirectional:
            raise ValueError("reverse is True; expected False, as this LSTM has one direction")
        if "h" in show and layer != lstm.num_layers - 1:
            raise ValueError(f"layer is {layer}; expected the last one, which alone has the 'h' of show")
        x = _sequence(x)
        y, _, gates = lstm.forward(x, state, static=static, return_gates=True)
        directions = 2 if lstm.bidirectional else 1
        row = layer * directions + bool(reverse)
        size = y.shape[-1] // directions
        values = {name: array.reshape(-1, *array.shape[-2:])[row] for name, array in gates.items()}
        values["h"] = y[:, size * bool(reverse) :][:, :size]
        if units is not None:
            values = {name: array[:, _units(name, units, array.shape[1])] for name, array in values.items()}
        values["x"] = x
        return cls(
            {name: values[name] for name in show}, feature_names=feature_names, index=index
        ).plot(ax)

    def plot(self, ax: Sequence[_Axes] | None = None) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : sequence of matplotlib axes, optional
            As many as there are `values`; default: below each other on a new figure.

        Returns
        -------
        StateDisplay
            Itself.
        """
        count = len(self.values)
        if ax is None:
            rows = len(self.feature_names or ())  # of a heat map of x, which have names
            heights = [max(1.35, 0.5 + rows * _ROW / 72 if name == "x" else 0) for name in self.values]
            heights = [min(height, 6) for height in heights]
            figure = _pyplot().figure(figsize=(7, 0.5 + sum(heights)), layout="constrained")
            ax = figure.subplots(count, 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        ax = np.asarray(ax, dtype=object).reshape(-1)
        if len(ax) != count:
            raise ValueError(f"ax has {len(ax)} axes; expected {count}: for {', '.join(self.values)}")
        self.ax_, self.figure_ = ax, ax[0].figure
        for axes, (name, values) in zip(ax, self.values.items(), strict=True):
            self._panel(_axes(axes, None), name, values)
            _label_steps(axes, self.index)
        for axes in ax[:-1]:
            axes.set_xlabel("")
        return self

    def _panel(self, ax: _Axes, name: str, values: _Array) -> None:
        ax.set_title(GATES[name], loc="left", fontsize="medium")
        if name == "x" and values.shape[1] <= len(COLOURS):
            for feature, colour, label in zip(values.T, COLOURS, self.feature_names or (), strict=False):
                ax.step(np.arange(len(feature)), feature, where="mid", color=colour, lw=1.3, label=label)
            ax.set_xlim(-0.5, len(values) - 0.5)
            _tidy(ax)
            if values.shape[1] > 1:
                _legend_above(ax, "right")
            return
        known = values[np.isfinite(values)]
        if name in "ifo" and known.min(initial=0) >= 0 and known.max(initial=1) <= 1:  # not every activation
            _heat_map(ax, values.T, 0, 1, WITHIN_BOUNDS)
        else:
            bound = np.abs(known).max(initial=0) or 1
            _heat_map(ax, values.T, -bound, bound, AROUND_ZERO)
        if name == "x":
            _name_rows(ax, self.feature_names or [])
        else:
            ax.set_ylabel("unit")


def _units(name: str, units: Sequence[int], size: int) -> list[int]:
    try:
        units = [operator.index(unit) for unit in units]
    except TypeError:
        raise TypeError(f"units is {units!r}; expected a sequence of integers") from None
    if not all(-size <= unit < size for unit in units):
        raise ValueError(f"units runs from {min(units)} to {max(units)}; expected some of {size} of {name}")
    return units


METHODS: dict[str, Callable[..., Any]] = {
    "integrated_gradients": integrated_gradients,
    "gradient_times_input": gradient_times_input,
}


class AttributionDisplay:
    """What each input of one sequence did to an output.

    Parameters
    ----------
    attribution : array_like, (T, I)
        In the units of the output.
    change : float, optional
        Output less the output of the baseline: what the attribution is meant to add up to. Stands in the
        title, with the sum.
    feature_names : list of str, optional
    index : array_like, (T,), optional
        Where the steps lie in time, as in `ForecastDisplay`. Default: 0 to T - 1.

    Attributes
    ----------
    ax_ : matplotlib axes
    figure_ : matplotlib figure
    """

    attribution: _Array
    change: float | None
    feature_names: list[str]
    index: npt.NDArray[Any] | None
    ax_: _Axes
    figure_: Any

    def __init__(
        self, attribution: npt.ArrayLike, *, change: float | None = None,
        feature_names: Sequence[str] | None = None, index: npt.ArrayLike | None = None,
    ) -> None:
        self.attribution = _numbers("attribution", attribution, 2)
        self.index = None if index is None else _index(index, len(self.attribution))
        self.change = change
        self.feature_names = _names("feature_names", feature_names, self.attribution.shape[1], "feature")

    @classmethod
    def from_model(
        cls, model: Model, x: npt.ArrayLike, output: int = 0, *, step: int | None = None,
        baseline: npt.ArrayLike | None = None, method: str = "integrated_gradients", points: int = 32,
        static: npt.ArrayLike | None = None, feature_names: Sequence[str] | None = None,
        index: npt.ArrayLike | None = None, label: str = "contribution", ax: _Axes = None,
    ) -> Self:
        """Compute and draw the attribution of one sequence.

        Parameters
        ----------
        model : Model, or a fitted estimator, pipeline or search
        x : array_like, (T, I)
        output, step, baseline
            As in `lstm_ext.attribution.integrated_gradients`.
        method : {"integrated_gradients", "gradient_times_input"}
        points : int, default 32
            Of integrated gradients.
        static : array_like, (S,), optional
        feature_names, index
            As in `AttributionDisplay`.
        label : str
            What the colours mean: the output, with its units.
        ax : matplotlib axes, optional

        Returns
        -------
        AttributionDisplay
        """
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
        x = _sequence(x)[None]
        static = None if static is None else np.atleast_2d(static)
        options = {"points": points} if method == "integrated_gradients" else {}
        values = METHODS[method](model, x, output, step=step, baseline=baseline, static=static, **options)
        change = output_difference(model, x, output, step=step, baseline=baseline, static=static)
        return cls(
            values[0], change=float(change[0]), feature_names=feature_names, index=index
        ).plot(ax, label=label)

    def plot(self, ax: _Axes = None, *, label: str = "contribution") -> Self:
        """Draw a heat map, or bars for a single feature.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Default: on a new figure.
        label : str
            What the colours, or the bars, mean: the output, with its units.

        Returns
        -------
        AttributionDisplay
            Itself.
        """
        steps, features = self.attribution.shape
        ax = _axes(ax, (7, 2.2 if features == 1 else min(2 + 0.3 * features, 8)))
        self.ax_, self.figure_ = ax, ax.figure
        if features == 1:
            values = self.attribution[:, 0]
            ax.bar(np.arange(steps), values, width=0.9, color=np.where(values < 0, BLUE, VERMILION))
            ax.axhline(0, color="0.5", lw=0.8)
            ax.set_ylabel(label)
            ax.set_xlim(-0.5, steps - 0.5)
            _tidy(ax)
        else:
            bound = np.abs(self.attribution[np.isfinite(self.attribution)]).max(initial=0) or 1
            _heat_map(ax, self.attribution.T, -bound, bound, AROUND_ZERO, label)
            _name_rows(ax, self.feature_names)
        _label_steps(ax, self.index)
        if self.change is not None:
            total = self.attribution.sum()
            ax.set_title(
                f"sum of contributions {total:.3g} (output less baseline's: {self.change:.3g})",
                loc="left", fontsize="medium",
            )
        return self
