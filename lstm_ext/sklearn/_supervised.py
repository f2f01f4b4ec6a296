"""`LSTMRegressor` and `LSTMClassifier`: sequences with a target for each, or for each of their steps."""

from __future__ import annotations

from contextlib import contextmanager
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.metrics import accuracy_score, d2_pinball_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
    type_of_target,
)
from sklearn.utils.validation import check_is_fitted

from lstm_ext import losses
from lstm_ext._checks import warn
from lstm_ext._data import as_number_array
from lstm_ext._fitted import EstimatorStream, chain_of
from lstm_ext.sklearn._bases import ClassifierMixin, RegressorMixin
from lstm_ext.sklearn._network import (
    FEW_ASIDE,
    FOLDS,
    Network,
    naming_the_option,
    only_stochastic,
    to_dtype,
)
from lstm_ext.sklearn._outputs import (
    COUNTS,
    DISTRIBUTIONS,
    INTERVALS,
    Calibration,
    OutputDecoder,
    check_quantiles,
    interval_of,
)
from lstm_ext.sklearn._sequences import (
    SequenceScaler,
    as_sequences,
    check_columns,
    check_groups,
    check_weight,
    frame_columns,
    per_step,
    row_values,
    step_rows,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    import numpy.typing as npt

    from lstm_ext.sklearn._network import Folds
    from lstm_ext.sklearn._sequences import Sequences
    from lstm_ext.sklearn._types import (
        Array,
        Auto,
        Bools,
        Callbacks,
        ComputeDtype,
        Floats,
        Integers,
        LearningRate,
        Numbers,
        Pooling,
        RandomState,
        Reals,
        RegressionLoss,
        Sequential,
        Solver,
        TrainingData,
        Validation,
    )

    # A data set as arrays: X, static, y, weight, and where y is missing.
    Parts = tuple[Sequences, Floats | None, Floats, Floats | None, Bools | None]

# With merge_steps="auto" a network reads at the most so many steps.
_STEPS = 32
# Fewer sequences set aside do not calibrate an interval: folds do then, too.
_FEW_TO_CALIBRATE = 400
# Fewer sequences are not enough to calibrate at all.
_LEAST_TO_CALIBRATE = 10


class _Supervised(Network):
    """Sequences X with a y: for each sequence, or for each of its steps."""

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        **Network._parameter_constraints,
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "learning_rate": [StrOptions({"constant", "cosine"})],
        "every_step": ["boolean"],
        "static_columns": ["array-like", None],
        "categorical_columns": ["array-like", None],
        "bptt": [Interval(Integral, 1, None, closed="left"), None],
    }

    every_step: bool
    bptt: int | None
    static_columns: Sequence[str | int] | None
    categorical_columns: Sequence[str | int] | None
    n_features_in_: int
    n_static_in_: int
    x_scaler_: SequenceScaler | None
    static_scaler_: SequenceScaler | None
    merge_steps_: int
    _category_labels: dict[Hashable, list[Any]]
    _categories: list[tuple[int, Reals]]
    _static_index: list[int]
    _static_names: list[str] | None

    def _refuse_none(self, y: Any) -> None:
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )

    def stream(
        self, batch: int = 1, static: npt.ArrayLike | None = None, *, max_steps: int | None = None
    ) -> EstimatorStream:
        """Predict step by step: one time step at a time, from the state of those before it.

        Parameters
        ----------
        batch : int, default=1
            Sequences that advance together.
        static : array_like of shape (batch, S), optional
            Static inputs, in their own units.
        max_steps : int, optional
            Refuse more steps than this. Needed for a network that reads backwards (`LSTMClassifier` by
            default): the stream keeps so many steps, and reads all of them again at each.

        Returns
        -------
        lstm_ext.io.EstimatorStream
            Its ``step(x_t)`` takes the features of one step, and returns `predict`, or a classifier's
            `predict_proba`, of the steps so far.
        """
        return EstimatorStream(chain_of(self, "a stream", merging=True), batch, static, max_steps)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.bptt is not None and self.solver == "lbfgs":
            raise ValueError(f"bptt is {self.bptt}; expected None with solver='lbfgs', which has no windows")
        if self.bptt is not None and not self.every_step:
            raise ValueError(f"bptt is {self.bptt}; expected None without every_step=True")

    # ---- what comes in

    def _prepare(
        self, X: Sequential, static: npt.ArrayLike | None, *, reset: bool
    ) -> tuple[Sequences, Floats | None]:
        """Check X and static; return sequences of numbers, and static inputs (n, S) or None.

        Categories become a column for each of their values, and columns named static leave the sequences.
        """
        allow_nan = self._allow_nan if reset else self._takes_nan
        X, named = self._coded(X, reset)
        with naming_the_option(allow_nan):
            X = as_sequences(self, X, reset=reset, allow_nan=allow_nan)
        if not reset and X.layout == "table" and not getattr(self, "_had_table", True):
            X.doubt = (
                f"X has shape {X.rows.shape}: it is read as {len(X)} sequences of one time step, unlike that "
                "of "
                f"fit. Pass X[None] for one sequence of {len(X)} steps"
            )
        if reset:
            self._had_table = X.layout == "table"
            self._static_index = self._positions("static_columns", self.static_columns)
            categorical = {*self._positions("categorical_columns", self.categorical_columns), *named}
            self._categories = [
                (k, np.unique(X.rows[~np.isnan(X.rows[:, k]), k])) for k in sorted(categorical)
            ]
        columns, sources = [], []
        values_of = dict(self._categories)
        for k in range(X.rows.shape[1]):
            column = X.rows[:, k : k + 1]
            if k in values_of:
                column = self._one_hot(column, values_of[k], k)
            columns.append(column)
            sources += [k] * column.shape[1]
        parts = [self._given_static(static, X, reset)]
        if values_of or self._static_index:
            rows, fixed = np.concatenate(columns, axis=1), np.isin(sources, self._static_index)
            if fixed.any():
                parts.insert(0, self._constant(rows[:, fixed], X, np.array(sources)[fixed]))
            if fixed.all():
                raise ValueError("static_columns names all columns of X; expected one that varies")
            X = X.with_rows(np.ascontiguousarray(rows[:, ~fixed]))
        parts = [part for part in parts if part is not None]
        return X, np.concatenate(parts, axis=1) if parts else None

    def _positions(self, name: str, given: Sequence[str | int] | None) -> list[int]:
        """Return the positions of columns that are named, or numbered."""
        names = list(getattr(self, "feature_names_in_", ()))
        positions = []
        for column in () if given is None else given:
            if isinstance(column, str):
                if column not in names:
                    raise ValueError(f"{name} has {column!r}; expected a column of X, which has {names}")
                positions.append(names.index(column))
            elif isinstance(column, Integral) and -self.n_features_in_ <= column < self.n_features_in_:
                positions.append(int(column) % self.n_features_in_)
            else:
                raise ValueError(
                    f"{name} has {column!r}; expected a column's name, or its number below "
                    f"{self.n_features_in_}"
                )
        return positions

    def _coded(self, X: Any, reset: bool) -> tuple[Any, list[int]]:
        """Write numbers for the categories of data frames; return X and the positions of such columns."""
        if reset:
            self._category_labels = {}
        several = isinstance(X, list | tuple)
        frames = list(X) if several else [X]
        if not frames or not all(hasattr(frame, "columns") and hasattr(frame, "iloc") for frame in frames):
            return X, []
        names = list(frames[0].columns)
        wanted = {
            name for frame in frames for name in frame.columns if str(frame.dtypes[name]) == "category"
        }
        wanted |= {name for name in (self.categorical_columns or ()) if isinstance(name, str)} & set(names)
        if not reset:
            wanted = set(self._category_labels) & set(names)
        elif any(list(frame.columns) != names for frame in frames):
            return X, []  # which as_sequences refuses
        if not wanted:
            return X, []
        if reset:
            self._category_labels = {
                name: sorted({v for frame in frames for v in frame[name].dropna().tolist()}, key=_order)
                for name in names if name in wanted
            }
        coded = []
        for frame in frames:
            frame = frame.copy()
            for name in wanted & set(frame.columns):
                number = {label: float(k) for k, label in enumerate(self._category_labels[name])}
                unseen = set(frame[name].dropna().tolist()) - set(number)
                if unseen:
                    raise ValueError(
                        f"column {name!r} of X has {sorted(unseen, key=_order)[0]!r}; expected one of the "
                        f"categories that fit had: {self._category_labels[name]}"
                    )
                frame[name] = [number.get(value, np.nan) for value in frame[name].tolist()]
            coded.append(frame)
        return coded if several else coded[0], [names.index(name) for name in names if name in wanted]

    def _one_hot(self, column: Reals, values: Reals, k: int) -> Reals:
        """Return a column of 0 and 1 for each value; a missing value is none of them."""
        hot = column == values
        unseen = ~hot.any(axis=1) & ~np.isnan(column[:, 0])
        if unseen.any():
            raise ValueError(
                f"column {k} of X has {column[unseen, 0][0]:g}; expected one of the categories that fit had: "
                f"{values.tolist()}"
            )
        coded: Reals = hot.astype(column.dtype)
        return coded

    def _constant(self, rows: Array, X: Sequences, sources: Integers) -> Floats:
        """Return the value of columns that do not vary within a sequence, (n, S)."""
        first = rows[np.cumsum(X.lengths) - X.lengths]
        varies = (rows != np.repeat(first, X.lengths, axis=0)) & ~np.isnan(rows)
        if varies.any():
            number = np.repeat(np.arange(len(X)), X.lengths)[varies.any(axis=1)][0]
            column = sources[varies.any(axis=0)][0]
            raise ValueError(
                f"static_columns has column {column}, which varies within X[{number}]; expected one value "
                "for each sequence"
            )
        if np.isnan(first).any():
            raise ValueError("Input X contains NaN in static_columns; expected numbers")
        constant: Floats = first.astype(np.float64)
        return constant

    def _given_static(self, static: npt.ArrayLike | None, X: Sequences, reset: bool) -> Floats | None:
        if static is not None:
            columns = frame_columns(static)
            static = row_values("static", static, X, dtype=np.float64)
            if static.ndim != 2:
                raise ValueError(
                    f"static has shape {static.shape}; expected (n, S), a row for each sequence: for one "
                    "number each static[:, None]"
                )
            if not reset:
                check_columns("static", columns, getattr(self, "_static_names", None))
        found = 0 if static is None else static.shape[1]
        if reset:
            self.n_static_in_, self._static_names = found, None if static is None else columns
        elif found != self.n_static_in_:
            raise ValueError(f"static has {found} columns; expected {self.n_static_in_}, as fit had")
        return static

    def _scaled(self, X: Sequences, static: Floats | None = None) -> TrainingData:
        """Return what the model takes: x, lengths and static."""
        rows = X.rows if self.x_scaler_ is None else self.x_scaler_._transform_rows(X.rows)
        x = X.padded(to_dtype("X", rows, self.model_.lstm.dtype))
        lengths = None if X.same_length else X.lengths
        if self.merge_steps_ > 1:
            x, lengths = _merged(x, lengths, self.merge_steps_)
        arrays = {"x": x, "lengths": lengths}
        if static is not None:
            if self.static_scaler_ is not None:
                static = self.static_scaler_._transform_rows(static)
            arrays["static"] = to_dtype("static", static, self.model_.lstm.dtype)
        return arrays

    def _merge_of(self, X: Sequences) -> int:
        """Return how many adjacent steps the network reads as one."""
        return 1

    def _fit_scaler(self, X: Sequences, static: Floats | None, weight: Floats | None) -> None:
        self.x_scaler_ = SequenceScaler()._fit_rows(X.rows, per_step(weight, X)) if self.scale else None
        self.static_scaler_ = None
        if static is not None and self.scale:
            by_sequence = weight if weight is None or len(weight) == len(X) else None
            self.static_scaler_ = SequenceScaler()._fit_rows(static, by_sequence)

    def _data(
        self, X: Sequences, static: Floats | None, y_rows: Array, weight: Floats | None
    ) -> TrainingData:
        """Return what the model trains on."""
        y = X.padded(y_rows) if self.every_step else y_rows
        if weight is not None and self.every_step and len(weight) == len(X.rows) != len(X):
            weight = X.padded(weight)
        return {**self._scaled(X, static), "y": y, "sample_weight": weight}

    @property
    def _fit_options(self) -> dict[str, Any]:
        return {} if self.bptt is None else {"bptt": self.bptt}

    def _validation(self, validation: Validation) -> list[Any]:
        """Return the parts of `validation`: X, y, weights, static, groups."""
        names = ("X", "y", "sample_weight", "static", "groups")
        if isinstance(validation, tuple | list) and len(validation) == 2:
            validation = dict(zip(names, validation, strict=False))
        if not isinstance(validation, dict) or not {"X", "y"} <= set(validation) <= set(names):
            found = sorted(validation) if isinstance(validation, dict) else type(validation).__name__
            if isinstance(validation, tuple | list):
                found = f"{found} of {len(validation)}"
            raise TypeError(
                f"validation is {found}; expected a tuple (X, y), or a dict with X, y and any of "
                "sample_weight, static, groups"
            )
        return [validation.get(name) for name in names]

    # ---- what is set aside

    def _split(self, n: int, labels: Array | None = None) -> tuple[Integers, Integers]:
        """Return the numbers of sequences to learn from, and of those set aside."""
        try:
            learn, aside = train_test_split(
                np.arange(n), test_size=self.validation_fraction, stratify=labels,
                random_state=int(self._rng.integers(2**31)),
            )
        except ValueError as error:
            raise ValueError(
                f"validation_fraction is {self.validation_fraction}; expected a share of the {n} sequences "
                "that "
                f"early_stopping can set aside: {error}"
            ) from error
        return learn, aside

    def _folds(self, data: TrainingData, labels: Array | None = None, few: int = FEW_ASIDE) -> Folds | None:
        """Return pairs of numbers, each sequence set aside once; None where one split sets enough aside."""
        n = len(data["x"])
        if n * self.validation_fraction >= few or n < 2:
            return None
        seed = int(self._rng.integers(2**31))
        counts = None if labels is None else np.unique(labels, return_counts=True)[1]
        if counts is not None and counts.min() > 1:
            folds = StratifiedKFold(int(min(FOLDS, counts.min())), shuffle=True, random_state=seed)
        else:
            folds, labels = KFold(min(FOLDS, n), shuffle=True, random_state=seed), None
        return list(folds.split(np.zeros(n), labels))

    # ---- what comes out

    def _raw(
        self, X: Sequential, static: npt.ArrayLike | None = None, seed: int | None = None
    ) -> tuple[Sequences, Floats]:
        """Return X, checked, and the outputs for it: a row for each sequence, or step."""
        check_is_fitted(self)
        X, static = self._prepare(X, static, reset=False)
        outputs = self._raw_outputs(self._scaled(X, static), seed)
        return X, X.unpadded(outputs) if self.model_.every_step else outputs

    def _draws(self, n_draws: int) -> list[int]:
        """Return what draws each of so many networks with dropped units."""
        check_is_fitted(self)
        if not isinstance(n_draws, Integral) or isinstance(n_draws, bool) or n_draws < 1:
            raise ValueError(f"n_draws is {n_draws!r}; expected an integer of at least 1, or None")
        if not self.model_.stochastic:
            raise ValueError(
                f"n_draws is {n_draws}; expected None for a network that drops nothing: fit with "
                "lstm_options={'recurrent_dropout': 0.2}, or 'dropout' with several layers"
            )
        return self._generator().integers(2**62, size=n_draws).tolist()

    def _answer(self, X: Sequences, rows: Array) -> Array | list[Array]:
        return X.by_step(rows) if self.model_.every_step else rows

    def _rows(
        self, X: Sequential, y: Any, prediction: Any, sample_weight: Any
    ) -> tuple[Array, Array, Floats | None]:
        """Return y, its prediction and the weights for a score: one for each sequence, or step."""
        X, _ = self._coded(X, False)
        X = as_sequences(self, X, reset=False, allow_nan=self._takes_nan)
        # A missing target of a regression does not count; labels are never missing.
        numeric = isinstance(self, RegressorMixin)
        dtype = np.float64 if numeric else None
        if not self.model_.every_step:
            y = row_values("y", y if numeric else _dense(y), X, dtype=dtype, allow_nan=numeric)
            return y, prediction, check_weight(sample_weight, X)
        y = step_rows("y", y, X, dtype=dtype, allow_nan=numeric)
        if X.layout == "list":
            prediction = np.concatenate(prediction)
        else:
            prediction = prediction.reshape(-1, *prediction.shape[2:])
        return y, prediction, per_step(check_weight(sample_weight, X, True), X)


def _dense(y: Any) -> Any:
    """Return a sparse indicator of labels, as scikit-learn makes them, as an array."""
    return y.toarray() if hasattr(y, "toarray") else y


def _order(value: Any) -> tuple[str, Any]:
    return (type(value).__name__, value)


def _merged(x: Reals, lengths: Integers | None, k: int) -> tuple[Reals, Integers | None]:
    """Read each k adjacent steps as one step of k times as many features; 0 beyond the end."""
    n, steps, features = x.shape
    if steps % k:
        x = np.concatenate([x, np.zeros((n, k - steps % k, features), x.dtype)], axis=1)
    return x.reshape(n, -1, k * features), None if lengths is None else -(-lengths // k)


class LSTMRegressor(RegressorMixin, _Supervised):
    r"""Regression on sequences with an LSTM.

    A linear readout of the LSTM's hidden state after the last step, or with ``every_step=True`` after each
    step, is the prediction. Features and targets are standardized inside.

    Parameters
    ----------
    hidden_size : int, default=32
        Hidden units.
    num_layers : int, default=1
        Layers.
    every_step : bool, default=False
        False: one target for each sequence. True: one for each step.
    loss : str, default="mse"
        The loss that is minimized; equations: `lstm_ext.losses`. Errors, in units of the target's standard
        deviation: "mse", "mae" or "huber", which turns linear at 1. "quantile": the pinball loss of
        `quantiles`. Negative log likelihoods: "gaussian"; "student_t" for heavy tails; "cmal", a mixture of
        three asymmetric Laplace distributions (Klotz et al., 2022, *HESS* 26:1673); "poisson" and
        "negative_binomial" for counts. "nse": the squared error relative to the variance of each basin's
        target (Kratzert et al., 2019, *HESS* 23:5089, eq. 11), where `groups` of `fit` are the basins.
    quantiles : float or list of floats, default=0.5
        For ``loss="quantile"``: increasing, between 0 and 1.
    solver : {"adam", "adamw", "rmsprop", "sgd", "lbfgs"}, default="adam"
        "lbfgs" is SciPy's L-BFGS-B on all sequences at once: for few sequences.
    learning_rate_init : float, default=0.003
        Step size; not used by "lbfgs".
    batch_size : int or "auto", default=32
        Sequences in a mini-batch. "auto": 32, or a fifth of the sequences where that is less, at least 8.
    max_iter : int or "auto", default="auto"
        Most epochs, or iterations of "lbfgs". "auto": 200, but at least 1000 steps of the optimizer.
    alpha : float, default=0
        Weight decay: of "adamw" decoupled, else the L2 penalty ``alpha / 2 * sum(theta**2)``.
    momentum : float, default=0.9
        For "sgd".
    max_norm : float or None, default=1
        The gradient is scaled down to this norm. Not used by "lbfgs".
    tol : float, default=1e-4
        Training ends when the loss after an epoch has not fallen by more than `tol` for `n_iter_no_change`
        epochs. The parameters with the lowest loss are kept. For "lbfgs", the largest element of the
        gradient at which it ends.
    n_iter_no_change : int or "auto", default="auto"
        See `tol`. "auto": 10, but at least 200 steps of the optimizer.
    early_stopping : bool or "auto", default="auto"
        Set `validation_fraction` of the sequences aside, watch the loss on them in place of the training
        loss, and keep the parameters that are best on them. They also calibrate intervals: see
        `predict_interval`. "auto": True where the loss predicts intervals ("quantile", "gaussian",
        "student_t", "negative_binomial", "cmal"). If fewer than 50 sequences (400 for intervals) are set
        aside, five networks find the best number of steps, each trained on four fifths of the sequences and
        judged on the others. The last network is trained on all sequences, for twice as many steps while the
        learning rate falls to 0.
    validation_fraction : float, default=0.1
        See `early_stopping`.
    warm_start : bool, default=False
        `fit` continues from the network and the scaling of the last fit.
    scale : bool, default=True
        Standardize the features of X, and y unless it holds counts. Losses are in these units.
    dtype : {"float32", "float64"}, default="float32"
        Of the network. Predictions are float64.
    lstm_options : dict, optional
        Keyword arguments of `lstm_ext.LSTM`: ``{"bidirectional": True, "dropout": 0.2}``. With
        ``{"nan": "hold"}`` or ``"zero"`` X may have NaN.
    callbacks : list, optional
        Called with the record of every epoch, as in `Model.fit`; one that returns True ends the training.
        The five networks of `early_stopping` are trained without them.
    random_state : int, RandomState or None, default=None
        Draws the first weights, the order of mini-batches, dropout, and the sequences set aside. An int
        makes a fit repeat exactly.
    verbose : bool, default=False
        Print the loss of every epoch.
    target_weight : array_like of shape (O,), optional
        Weight of each column of y in the loss, >= 0. Default: 1.
    static_columns : list of str or int, optional
        Columns of X that are constant within a sequence, by name or number: they become static inputs, as
        `static` of `fit`. In a pipeline they need no metadata routing.
    categorical_columns : list of str or int, optional
        Columns of X that hold categories, besides those of the dtype ``category`` in data frames. Each
        category becomes a column of 0 and 1. A category that `fit` did not have is refused.
    bptt : int, optional
        With ``every_step=True``: cut sequences into windows of so many steps; see `Model.fit`.
    learning_rate : {"constant", "cosine"}, default="constant"
        "cosine": the step size falls from `learning_rate_init` to 0 along half a cosine over `max_iter`
        epochs, as `schedules.Cosine`. Not used by "lbfgs" and `partial_fit`.

    Attributes
    ----------
    model_ : lstm_ext.Model
        The network, on standardized data.
    x_scaler_, y_scaler_, static_scaler_ : SequenceScaler or None
    n_features_in_, n_outputs_, n_static_in_ : int
        Columns of X, y and `static`.
    interval_shift_ : ndarray of shape (O, Q) or None
        With ``loss="quantile"``: added to each quantile, standardized.
    interval_factor_ : ndarray of shape (O,) or None
        The factor by which intervals of 90 % of a distribution are widened.
    calibration_ : tuple of ndarray or None
        Outputs, targets and weights of the sequences set aside, standardized.
    n_iter_ : int
        Epochs so far.
    loss_ : float
        Loss of the last epoch.
    best_loss_ : float
        The lowest loss, whose parameters were kept: of the sequences set aside or, without these, of at most
        2048 sequences after an epoch, without dropout.
    loss_curve_ : list of float
        Of every epoch, the mean over its mini-batches, each before its step.
    validation_loss_curve_ : list of float or None
        Beside `loss_curve_`, of the sequences set aside; of five networks the mean after as many steps. NaN
        for epochs of `partial_fit`.

    Notes
    -----
    X is an array (n, T, F), a list of n arrays (T_i, F), or (n, F) for sequences of one step. y is (n,) or
    (n, O); with ``every_step=True`` (n, T) or (n, T, O), or a list of (T_i,) or (T_i, O). Several threads may
    call `predict` at once.

    If `fit` or `partial_fit` raises, the estimator is as it was before: not fitted, or with the network of
    the last fit. Ctrl-C during the training keeps what has been learned, but not during the five trainings
    of `early_stopping`.

    Examples
    --------
    >>> import numpy as np
    >>> from lstm_ext.sklearn import LSTMRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(length, 1)) for length in rng.integers(3, 9, 100)]
    >>> y = [x.sum() for x in X]
    >>> LSTMRegressor(max_iter=100, random_state=0).fit(X[:80], y[:80]).score(X[80:], y[80:]) > 0.9
    True
    """

    learning_rate: LearningRate
    merge_steps_: int
    y_scaler_: SequenceScaler | None
    n_outputs_: int
    interval_shift_: Floats | None
    interval_factor_: Floats | None
    calibration_: tuple[Floats, Floats, Floats | None] | None
    _decoder: OutputDecoder
    _columns: bool

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        **_Supervised._parameter_constraints,
        "loss": [
            StrOptions({
                "mse", "mae", "huber", "quantile", "poisson", "gaussian", "nse", "negative_binomial",
                "student_t", "cmal",
            })
        ],
        "quantiles": [Interval(Real, 0, 1, closed="neither"), "array-like"],
        "early_stopping": ["boolean", StrOptions({"auto"})],
        "target_weight": ["array-like", None],
    }

    def __init__(
        self, hidden_size: int = 32, *, num_layers: int = 1, every_step: bool = False,
        loss: RegressionLoss = "mse", quantiles: float | Sequence[float] = 0.5, solver: Solver = "adam",
        learning_rate_init: float = 0.003, batch_size: int | Auto = 32, max_iter: int | Auto = "auto",
        alpha: float = 0.0, momentum: float = 0.9, max_norm: float | None = 1.0, tol: float = 1e-4,
        n_iter_no_change: int | Auto = "auto", early_stopping: bool | Auto = "auto",
        validation_fraction: float = 0.1, warm_start: bool = False, scale: bool = True,
        dtype: ComputeDtype = "float32", lstm_options: dict[str, Any] | None = None,
        callbacks: Callbacks | None = None, random_state: RandomState | None = None, verbose: bool = False,
        target_weight: npt.ArrayLike | None = None, static_columns: Sequence[str | int] | None = None,
        categorical_columns: Sequence[str | int] | None = None, bptt: int | None = None,
        learning_rate: LearningRate = "constant",
    ) -> None:
        super().__init__(
            hidden_size, num_layers, solver, learning_rate_init, batch_size, max_iter, alpha, momentum,
            max_norm, tol, n_iter_no_change, early_stopping, validation_fraction, warm_start, scale, dtype,
            lstm_options, callbacks, random_state, verbose,
        )
        self.every_step = every_step
        self.learning_rate = learning_rate
        self.loss = loss
        self.quantiles = quantiles
        self.target_weight = target_weight
        self.static_columns = static_columns
        self.categorical_columns = categorical_columns
        self.bptt = bptt

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.positive_only = self.loss in COUNTS
        return tags

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.loss == "quantile":
            check_quantiles(self.quantiles)

    def fit(
        self, X: Sequential, y: Sequential, sample_weight: Sequential | None = None,
        groups: npt.ArrayLike | None = None, *, static: npt.ArrayLike | None = None,
        validation: Validation | None = None, comm: Any = None,
    ) -> Self:
        """Train on sequences and their targets.

        Parameters
        ----------
        X : array_like of shape (n, T, F) or (n, F), or list of arrays (T_i, F)
            Real numbers, and categories: see `categorical_columns`.
        y : array_like
            (n,) or (n, O); with ``every_step=True`` (n, T) or (n, T, O), or a list of arrays (T_i,) or
            (T_i, O). A target that is NaN does not count.
        sample_weight : array_like of shape (n,), optional
            Weight of each sequence, >= 0; with ``every_step=True`` also (n, T) or a list of (T_i,).
        groups : array_like of shape (n,), optional
            For ``loss="nse"``: a label of the basin of each sequence. Default: one basin for all, with
            ``every_step=True`` one for each sequence.
        static : array_like of shape (n, S), optional
            Inputs that are constant in time; `predict` needs them, too.
        validation : tuple (X, y) or dict of X, y, sample_weight, static, optional
            A data set in place of the sequences that `early_stopping` would set aside.
        comm : MPI communicator or lstm_ext.distributed.DataParallel, optional
            Train on all its ranks together: each calls `fit` with all data and the same random_state, and
            takes its part of every mini-batch.

        Returns
        -------
        LSTMRegressor

        Raises
        ------
        ValueError
            If shapes or parameters do not fit, X has NaN, X or y have inf, or all targets are missing.
        FloatingPointError
            If the loss is no longer finite.
        """
        with self._all_or_nothing(comm):
            self._learn(X, y, sample_weight, groups, static, validation, incremental=False, comm=comm)
        return self

    @only_stochastic
    def partial_fit(
        self, X: Sequential, y: Sequential, sample_weight: Sequential | None = None, *,
        static: npt.ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch; the first call makes the network and the scaling.

        Intervals are no longer calibrated.

        Parameters
        ----------
        X, y, sample_weight, static
            As in `fit`.

        Returns
        -------
        LSTMRegressor
        """
        with self._all_or_nothing():
            self._learn(X, y, sample_weight, None, static, None, incremental=True)
        return self

    def _targets(self, y: Any, X: Sequences) -> tuple[Floats, bool, Bools | None]:
        """Return y as float64 rows (n or S, O), whether it came with columns, and where it is missing."""
        self._refuse_none(y)
        if self.every_step:
            y = step_rows("y", y, X, dtype=np.float64, allow_nan=True)
        else:
            y = row_values("y", y, X, dtype=np.float64, allow_nan=True)
        y, columns = (y, True) if y.ndim == 2 else (y[:, None], False)
        missing = np.isnan(y)
        if missing.any():
            _check_known(missing)
            return y, columns, missing
        return y, columns, None

    def _stops(self, n: int) -> bool:
        """Whether n sequences are trained with early stopping."""
        if self.early_stopping != "auto":
            return self.early_stopping
        if self.loss not in INTERVALS:
            return False
        if n < _LEAST_TO_CALIBRATE:
            warn(
                f"X has {n} sequences; expected at least {_LEAST_TO_CALIBRATE} to calibrate the intervals of "
                f"loss={self.loss!r}: they will be too narrow"
            )
            return False
        return True

    def _learn(
        self, X: Sequential, y: Any, sample_weight: Any, groups: npt.ArrayLike | None,
        static: npt.ArrayLike | None, validation: Validation | None, incremental: bool, comm: Any = None,
    ) -> None:
        self._check_parameters()
        comm = self._process_group(comm)
        goes_on = self._goes_on(incremental)
        X, static = self._prepare(X, static, reset=not goes_on)
        y, columns, missing = self._targets(y, X)
        self._check_counts("y", y)
        weight = check_weight(sample_weight, X, self.every_step)
        if groups is not None:
            groups = check_groups(groups, X)
            if self.loss != "nse":
                raise ValueError(
                    f"groups were given; expected None with loss={self.loss!r}: they are for 'nse'"
                )
        elif self.loss == "nse" and not incremental:
            taken = "each sequence counts as a basin of its own"
            taken = taken if self.every_step else "all count as one basin"
            warn(
                f"groups is None; expected the basin of each sequence for loss='nse': {taken}. A search or "
                "pipeline passes groups on with metadata routing only: "
                "sklearn.set_config(enable_metadata_routing=True), set_fit_request(groups=True). Give "
                "groups=np.arange(n) or np.zeros(n) to say that this is meant",
            )
        parts = (X, static, y, self._known_weight(X, weight, missing), missing)
        weight = parts[3]
        decoder = OutputDecoder(self.loss, self.quantiles)
        n_outputs = y.shape[1] * decoder.per_target
        if goes_on:
            self._check_architecture(X.rows.shape[1], n_outputs)
        else:
            by_row = per_step(weight, X) if self.every_step else weight
            self.merge_steps_ = self._merge_of(X)
            self._new_network(
                X.rows.shape[1], n_outputs, every_step=self.every_step, loss=decoder.loss,
                rng=self._generator(), bias=decoder.initial_bias(y, by_row),
                static_size=0 if static is None else static.shape[1],
            )
            self._fit_scaler(X, static, weight)
            scaled = self.scale and self.loss not in COUNTS
            self.y_scaler_ = SequenceScaler()._fit_rows(y, by_row, name="y") if scaled else None
            self.n_outputs_, self._columns, self._decoder = y.shape[1], columns, decoder
        aside = None if validation is None else self._checked_validation(validation, y.shape[1])
        gaps = missing is not None or (aside is not None and aside[0][4] is not None)
        weighs = gaps or self.target_weight is not None
        data = self._regression_data(parts, groups, weighs)
        validation = None if aside is None else self._regression_data(*aside, weighs)
        stops = not incremental and validation is None and self._stops(len(X))
        self.interval_shift_ = self.interval_factor_ = self.calibration_ = None
        with self._weighing(weighs):
            held = self._train(
                data, incremental=incremental, split=lambda: self._split(len(X)),
                folds=lambda data: self._folds(data, few=self._few_aside), comm=comm, validation=validation,
                early_stopping=stops, **self._fit_options,
            )
        if held is not None and self.loss in INTERVALS:
            self._calibrate(*held, weighs)

    @property
    def _few_aside(self) -> int:
        return _FEW_TO_CALIBRATE if self.loss in INTERVALS else FEW_ASIDE

    def _check_counts(self, name: str, y: Floats) -> None:
        if self.loss in COUNTS and (y < 0).any():
            raise ValueError(f"{name} has {np.nanmin(y)}; expected counts >= 0 with loss={self.loss!r}")

    def _known_weight(self, X: Sequences, weight: Floats | None, missing: Bools | None) -> Floats | None:
        """Return the weights of sequences or steps; those without any target weigh nothing."""
        if missing is None or not missing.all(axis=1).any():
            return weight
        weight = per_step(weight, X) if self.every_step else weight
        weight = np.where(missing.all(axis=1), 0.0, 1.0 if weight is None else weight)
        if not weight.any():
            raise ValueError(
                "y has only missing targets where sample_weight is greater than 0; expected numbers"
            )
        return weight

    def _weight_of_targets(self, n_outputs: int) -> Floats:
        if self.target_weight is None:
            return np.ones(n_outputs)
        weight = np.asarray(as_number_array("target_weight", self.target_weight, allow_nan=True), np.float64)
        fits = weight.shape == (n_outputs,) and (np.isfinite(weight) & (weight >= 0)).all()
        if not fits or not weight.any():
            raise ValueError(
                f"target_weight is {self.target_weight!r}; expected {n_outputs} numbers >= 0, one for each "
                "column of y, not all 0"
            )
        return weight

    def _checked_validation(
        self, validation: Validation, n_outputs: int
    ) -> tuple[Parts, npt.ArrayLike | None]:
        """Return the parts of `validation`, and its groups."""
        X, y, weight, static, groups = self._validation(validation)
        X, static = self._prepare(X, static, reset=False)
        y, _, missing = self._targets(y, X)
        self._check_counts("validation: y", y)
        if y.shape[1] != n_outputs:
            raise ValueError(f"validation: y has {y.shape[1]} columns; expected {n_outputs}, as y has")
        weight = self._known_weight(X, check_weight(weight, X, self.every_step), missing)
        return (X, static, y, weight, missing), groups

    def _regression_data(self, parts: Parts, groups: npt.ArrayLike | None, weighs: bool) -> TrainingData:
        """Return what the model trains on: targets standardized, with their weights where those differ."""
        X, static, y, weight, missing = parts
        if self.y_scaler_ is not None:
            y = self.y_scaler_._transform_rows(y, name="y")
        rows = to_dtype("y", y if missing is None else np.where(missing, 0, y), self.dtype)
        data = self._data(X, static, rows, weight)
        by_row = per_step(weight, X) if self.every_step else weight
        loss = self._decoder.loss
        if isinstance(loss, losses.NashSutcliffe):
            if groups is None and not self.every_step:
                groups = np.zeros(len(X))
            if groups is not None:
                lengths = X.lengths if self.every_step else np.ones(len(X), int)
                scale = _group_scale(y, lengths, np.asarray(groups), by_row)
                data["y"] = loss.prepare(data["y"], scale=scale)
        if weighs:
            each = np.broadcast_to(self._weight_of_targets(y.shape[1]), y.shape)
            each = each if missing is None else np.where(missing, 0, each)
            # The mean is over the targets that are known.
            total = np.ones(len(y)) if by_row is None else by_row
            counted = (total[:, None] * each).sum()
            if not counted:
                raise ValueError(
                    "y has only missing targets where target_weight is greater than 0; expected numbers"
                )
            each = (each * (total.sum() * y.shape[1] / counted)).astype(self.dtype)
            if isinstance(loss, losses.NashSutcliffe) and data["y"].shape[-1] == y.shape[1]:
                # Each sequence is a basin.
                own = _group_scale(y, X.lengths, np.arange(len(X)), by_row)
                data["y"] = loss.prepare(data["y"], scale=own)
            data["y"] = np.concatenate([data["y"], X.padded(each) if self.every_step else each], axis=-1)
        return data

    @contextmanager
    def _weighing(self, weighs: bool) -> Iterator[None]:
        """Let each target have its weight, while the network trains."""
        model = self.model_
        loss = model.loss
        if weighs:
            model._fix(loss=losses.Weighted(loss))  # type: ignore[arg-type]  # a regression loss, all of which fit
        try:
            yield
        finally:
            model._fix(loss=loss)

    # ---- intervals

    def _calibrate(self, data: TrainingData, outputs: Floats, weighs: bool) -> None:
        """Keep what the intervals lack, by sequences that were not learned from."""
        k, y, weight = self.n_outputs_, data["y"], data["sample_weight"]
        targets = np.asarray(y[..., :k], np.float64)
        if weighs:
            targets = np.where(y[..., -k:] > 0, targets, np.nan)
        if self.every_step:
            n, steps = y.shape[:2]
            counted = np.ones((n, steps), bool)
            if data["lengths"] is not None:
                counted = np.arange(steps) < data["lengths"][:, None]
            outputs, targets = outputs[counted], targets[counted]
            if weight is not None:
                weight = np.broadcast_to(weight.reshape(n, -1), (n, steps))[counted]
        if weight is not None:
            weight = np.asarray(weight, np.float64)
        self.calibration_ = outputs, targets, weight
        calibration = Calibration(outputs, targets, weight)
        if self._decoder.name == "quantile":
            self.interval_shift_ = calibration.shifts(self._decoder.levels)
        else:
            # Those of counts, which are whole numbers, say nothing of the standard deviation.
            self.interval_factor_ = calibration.factors(self._decoder, 0.9)

    def _units(self) -> tuple[Floats, Floats]:
        """Return mean and scale of the targets."""
        if self.y_scaler_ is None:
            return np.zeros(self.n_outputs_), np.ones(self.n_outputs_)
        return self.y_scaler_.mean_, self.y_scaler_.scale_

    def _decoded(self, outputs: Floats) -> list[Reals]:
        """Return what `predict` answers, in the targets' units, calibrated."""
        mean, scale = self._units()
        answers = self._decoder.decode(outputs, mean, scale)
        shift, factor = getattr(self, "interval_shift_", None), getattr(self, "interval_factor_", None)
        if shift is not None:
            shift = shift * scale[:, None]
            if self._decoder.axis:
                answers = [np.sort(answers[0] + shift, axis=-1)]
            else:
                answers = [answers[0] + shift[:, 0]]
        elif factor is not None and self._decoder.name not in COUNTS:
            answers[1] = answers[1] * factor
        return answers

    @overload
    def predict(
        self, X: Numbers, return_std: Literal[False] = False, *, static: npt.ArrayLike | None = None,
        n_draws: int | None = None,
    ) -> Floats: ...

    @overload
    def predict(
        self, X: Numbers, return_std: Literal[True], *, static: npt.ArrayLike | None = None,
        n_draws: int | None = None,
    ) -> tuple[Floats, Floats]: ...

    @overload
    def predict(
        self, X: Sequential, return_std: bool = False, *, static: npt.ArrayLike | None = None,
        n_draws: int | None = None,
    ) -> Any: ...

    def predict(
        self, X: Sequential, return_std: bool = False, *, static: npt.ArrayLike | None = None,
        n_draws: int | None = None,
    ) -> Any:
        """Predict the targets of sequences.

        Parameters
        ----------
        X : array_like
            As in `fit`.
        return_std : bool, default=False
            With ``loss="gaussian"``, "student_t", "negative_binomial" or "cmal": return the predicted
            standard deviation, too, calibrated so that the distribution's interval of 90 % (1.645 standard
            deviations to each side for "gaussian") holds 90 % of the targets.
        static : array_like of shape (n, S), optional
            As in `fit`.
        n_draws : int, optional
            Predict `n_draws` times, each with other units dropped, as in training: the spread of the draws
            is the network's uncertainty (Y. Gal, Z. Ghahramani, "Dropout as a Bayesian approximation", ICML
            2016). Needs dropout or zoneout in `lstm_options`.

        Returns
        -------
        ndarray of float64, or list of ndarrays
            In the shape of the y that `fit` had: the mean, or with "mae" the median. With
            ``loss="quantile"`` and a list of quantiles these are a last axis, with `n_draws` the draws are a
            first axis. With ``every_step=True`` and a list X: a list, an array for each sequence.
        ndarray of float64, or list of ndarrays, with `return_std`
            The standard deviation, in the same shape.
        """
        check_is_fitted(self)
        name = self._decoder.name
        if return_std and (name not in DISTRIBUTIONS or name == "poisson"):
            raise ValueError(
                f"loss is {name!r}; expected gaussian, student_t, negative_binomial or cmal for "
                "return_std=True"
            )
        if n_draws is None:
            given, outputs = self._raw(X, static)
            answers = [self._shaped(given, a) for a in self._decoded(outputs)]
        else:
            drawn = []
            for seed in self._draws(n_draws):
                given, outputs = self._raw(X, static, seed)
                drawn.append([self._shaped(given, a) for a in self._decoded(outputs)])
            answers = [_stacked(draws) for draws in zip(*drawn, strict=True)]
        return tuple(answers) if return_std else answers[0]

    def _shaped(self, X: Sequences, rows: Array) -> Array | list[Array]:
        return self._answer(X, rows if self._columns else rows[:, 0])

    @overload
    def predict_interval(
        self, X: Numbers, coverage: float | None = None, *, static: npt.ArrayLike | None = None
    ) -> tuple[Floats, Floats]: ...

    @overload
    def predict_interval(
        self, X: Sequential, coverage: float | None = None, *, static: npt.ArrayLike | None = None
    ) -> tuple[Any, Any]: ...

    def predict_interval(
        self, X: Sequential, coverage: float | None = None, *, static: npt.ArrayLike | None = None
    ) -> tuple[Any, Any]:
        """Predict bounds between which each target is with a probability of `coverage`.

        The sequences that `fit` set aside calibrate them, by split or cross conformal prediction: the bounds
        hold that share of their targets.

        Parameters
        ----------
        X : array_like
            As in `fit`.
        coverage : float, optional
            Default 0.9. With ``loss="quantile"`` (1 - coverage) / 2 and (1 + coverage) / 2 must be among the
            quantiles; default: the smallest and the largest.
        static : array_like of shape (n, S), optional
            As in `fit`.

        Returns
        -------
        lower, upper : as `predict` returns
        """
        check_is_fitted(self)
        name = self._decoder.name
        if name != "quantile" and name not in DISTRIBUTIONS:
            raise ValueError(
                f"loss is {name!r}; expected quantile, {', '.join(DISTRIBUTIONS)} for predict_interval"
            )
        if coverage is not None and not (isinstance(coverage, Real) and 0 < coverage < 1):
            raise ValueError(f"coverage is {coverage!r}; expected a number between 0 and 1")
        if name == "quantile":
            low, high = self._pair(coverage)
            X, outputs = self._raw(X, static)
            values = self._decoded(outputs)[0]
            return self._shaped(X, values[..., low]), self._shaped(X, values[..., high])
        coverage = 0.9 if coverage is None else coverage
        X, outputs = self._raw(X, static)
        mean, scale = self._units()
        low, middle, high = interval_of(self._decoder, outputs, coverage)
        if self.calibration_ is not None:
            factor = Calibration(*self.calibration_).factors(self._decoder, coverage)
            low, high = middle - factor * (middle - low), middle + factor * (high - middle)
        if name in COUNTS:
            low, high = np.maximum(np.ceil(low), 0), np.maximum(np.floor(high), 0)
        return self._shaped(X, low * scale + mean), self._shaped(X, high * scale + mean)

    def _pair(self, coverage: float | None) -> tuple[int, int]:
        """Return which quantiles are the bounds of an interval."""
        levels = np.array(self._decoder.levels)
        if len(levels) < 2:
            raise ValueError(f"quantiles is {levels.tolist()}; expected two or more for an interval")
        if coverage is None:
            return 0, len(levels) - 1
        pair = [np.flatnonzero(np.abs(levels - q) < 1e-9) for q in ((1 - coverage) / 2, (1 + coverage) / 2)]
        if not all(map(len, pair)):
            raise ValueError(
                f"coverage is {coverage}; expected one whose bounds, {(1 - coverage) / 2:g} and "
                f"{(1 + coverage) / 2:g}, are among the quantiles {levels.tolist()}"
            )
        return pair[0][0], pair[1][0]

    def score(
        self, X: Sequential, y: Sequential, sample_weight: Sequential | None = None, *,
        static: npt.ArrayLike | None = None,
    ) -> float:
        """Score the predictions: R², or with ``loss="quantile"`` D², the mean over the quantiles.

        Parameters
        ----------
        X, y, sample_weight, static
            As in `fit`. With ``every_step=True`` all steps count alike. NaN in y does not count.

        Returns
        -------
        float
            1 for perfect predictions, 0 for those of a constant.
        """
        prediction = self.predict(X, static=static)
        y, prediction, weight = self._rows(X, y, prediction, sample_weight)
        missing = np.isnan(y)
        if missing.any():
            _check_known(missing)
            return self._score_of_known(y, prediction, weight, missing)
        return self._score_of(y, prediction, weight)

    def _score_of(self, y: Array, prediction: Array, weight: Floats | None) -> float:
        if self._decoder.name != "quantile":
            return float(r2_score(y, prediction, sample_weight=weight))
        levels = self._decoder.levels
        if not self._decoder.axis:
            prediction = prediction[..., None]
        return float(np.mean([
            d2_pinball_score(y, prediction[..., k], alpha=level, sample_weight=weight)
            for k, level in enumerate(levels)
        ]))

    def _score_of_known(self, y: Array, prediction: Array, weight: Floats | None, missing: Bools) -> float:
        """Return the mean over the columns of y of the score where a target is known."""
        y, missing = (a.reshape(len(a), -1) for a in (y, missing))
        prediction = prediction if self._columns else prediction[:, None]
        scores = []
        for k in range(y.shape[1]):
            known = ~missing[:, k]
            if known.any():
                part = None if weight is None else np.asarray(weight)[known]
                scores.append(self._score_of(y[known, k], prediction[known, k], part))
        return float(np.mean(scores))


def _check_known(missing: Bools) -> None:
    if missing.all():
        raise ValueError("Input y contains NaN only; expected finite numbers")


def _stacked(draws: Sequence[Array | list[Array]]) -> Array | list[Array]:
    """Put draws into one array with a first axis more, or a list of such arrays."""
    if isinstance(draws[0], list):
        return [np.stack(parts) for parts in zip(*draws, strict=True)]
    return np.stack(draws)


def _group_scale(rows: Floats, lengths: Integers, groups: Array, weight: Floats | None) -> Floats:
    """Return the standard deviations of the targets of each group, (n, O), by rows that weigh so much."""
    scale = np.zeros((len(groups), rows.shape[1]))
    by_row = np.repeat(groups, lengths)
    weight = np.ones(len(rows)) if weight is None else weight
    for group in np.unique(groups):
        mine, counts = rows[by_row == group], weight[by_row == group]
        counts = np.where(np.isnan(mine), 0, counts[:, None])
        total = counts.sum(axis=0)
        total[total == 0] = 1  # nothing is known
        mine = np.nan_to_num(mine)
        mean = (counts * mine).sum(axis=0) / total
        scale[groups == group] = np.sqrt((counts * (mine - mean) ** 2).sum(axis=0) / total)
    return scale


class LSTMClassifier(ClassifierMixin, _Supervised):
    """Classification of sequences, or of each of their steps, with an LSTM.

    An LSTM reads each sequence in both directions; a linear readout of the largest value of each hidden unit
    gives the logits of a softmax. With ``every_step=True`` it reads forwards, and the readout is after each
    step. Features are standardized inside.

    Parameters
    ----------
    hidden_size, num_layers, every_step, solver, learning_rate_init, batch_size, max_iter, alpha, momentum
        As in `LSTMRegressor`.
    max_norm, tol, n_iter_no_change, validation_fraction, warm_start, scale, dtype, lstm_options, callbacks
        As in `LSTMRegressor`.
    random_state, verbose
        As in `LSTMRegressor`.
        In `lstm_options` ``"bidirectional"`` is True unless it is set, or ``every_step=True``.
    early_stopping : bool, default=False
        As in `LSTMRegressor`; the same share of every class is set aside. Where that is fewer than 50
        sequences, five networks are trained to the end, and the last one, on all sequences, is ended early
        only where theirs are better so by a t test, at 95 %. Its logits are divided by the number >= 1 that
        makes the five networks' probabilities best, so that it is not too sure of itself.
    pooling : {"max", "mean", "attention", "last"}, default="max"
        What the readout reads of the hidden states of all steps: see `Model`. Not used with
        ``every_step=True``.
    merge_steps : int or "auto", default="auto"
        Adjacent steps that the network reads as one, of so many times as many features; 0 stands beyond a
        sequence's end. "auto": so many that the longest sequence of `fit` has 32 steps, or with
        ``every_step=True`` 1. Over hundreds of steps a network learns slowly.
    class_weight : dict, "balanced" or None, default=None
        What each class counts, by label. "balanced": n / (K n_class), so that all count alike; of several
        labels at once the product over them.
    static_columns, categorical_columns, bptt, learning_rate
        As in `LSTMRegressor`.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        The labels, sorted; of several labels at once the numbers of the columns of y.
    merge_steps_ : int
        Steps that are read as one.
    model_, x_scaler_, n_features_in_, n_iter_, loss_, best_loss_, loss_curve_, validation_loss_curve_
        As in `LSTMRegressor`. The loss is the cross entropy, in nats.

    Notes
    -----
    X is an array (n, T, F), a list of n arrays (T_i, F), or (n, F) for sequences of one step. y holds
    labels (n,); with ``every_step=True`` (n, T), or a list of (T_i,). Where y is 0 or 1 for each of L labels,
    (n, L), the labels are independent, the loss is the binary cross entropy, and `predict` returns (n, L).

    Examples
    --------
    >>> import numpy as np
    >>> from lstm_ext.sklearn import LSTMClassifier
    >>> rng = np.random.default_rng(0)
    >>> fast = rng.integers(0, 2, 120)
    >>> X = np.sin(np.where(fast, 0.8, 0.5)[:, None, None] * np.arange(20)[:, None] + rng.random((120, 1, 1)))
    >>> y = np.where(fast, "fast", "slow")
    >>> classifier = LSTMClassifier(max_iter=50, random_state=0).fit(X[:80], y[:80])
    >>> classifier.score(X[80:], y[80:]) > 0.9
    True
    """

    learning_rate: LearningRate
    merge_steps_: int
    classes_: Array
    _multilabel: bool

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        **_Supervised._parameter_constraints,
        "pooling": [StrOptions({"last", "mean", "max", "attention"})],
        "merge_steps": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    def __init__(
        self, hidden_size: int = 32, *, num_layers: int = 1, every_step: bool = False,
        solver: Solver = "adam", learning_rate_init: float = 0.003, batch_size: int | Auto = 32,
        max_iter: int | Auto = "auto", alpha: float = 0.0, momentum: float = 0.9,
        max_norm: float | None = 1.0, tol: float = 1e-4, n_iter_no_change: int | Auto = "auto",
        early_stopping: bool = False, validation_fraction: float = 0.1, warm_start: bool = False,
        scale: bool = True, dtype: ComputeDtype = "float32", lstm_options: dict[str, Any] | None = None,
        callbacks: Callbacks | None = None, random_state: RandomState | None = None, verbose: bool = False,
        pooling: Pooling = "max", merge_steps: int | Auto = "auto",
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
        static_columns: Sequence[str | int] | None = None,
        categorical_columns: Sequence[str | int] | None = None, bptt: int | None = None,
        learning_rate: LearningRate = "constant",
    ) -> None:
        super().__init__(
            hidden_size, num_layers, solver, learning_rate_init, batch_size, max_iter, alpha, momentum,
            max_norm, tol, n_iter_no_change, early_stopping, validation_fraction, warm_start, scale, dtype,
            lstm_options, callbacks, random_state, verbose,
        )
        self.every_step = every_step
        self.learning_rate = learning_rate
        self.pooling = pooling
        self.merge_steps = merge_steps
        self.class_weight = class_weight
        self.static_columns = static_columns
        self.categorical_columns = categorical_columns
        self.bptt = bptt

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.every_step and self.merge_steps not in ("auto", 1):
            raise ValueError(f"merge_steps is {self.merge_steps}; expected 1 or 'auto' with every_step=True")

    def _layer_options(self) -> dict[str, Any]:
        """Read forwards and backwards, unless something else is said, or each step has its own answer."""
        options = super()._layer_options()
        if not self.every_step and not options.get("reverse"):
            options.setdefault("bidirectional", True)
        return options

    def _merge_of(self, X: Sequences) -> int:
        if self.every_step:
            return 1
        return self.merge_steps if self.merge_steps != "auto" else -(-int(X.lengths.max()) // _STEPS)

    def fit(
        self, X: Sequential, y: Sequential, sample_weight: Sequential | None = None, *,
        static: npt.ArrayLike | None = None, validation: Validation | None = None, comm: Any = None,
    ) -> Self:
        """Train on sequences and their labels.

        Parameters
        ----------
        X : array_like of shape (n, T, F) or (n, F), or list of arrays (T_i, F)
            Real numbers.
        y : array_like
            Labels (n,); with ``every_step=True`` (n, T), or a list of (T_i,). Several labels that a
            sequence may have at once: 0 or 1 for each of L, (n, L) or (n, T, L).
        sample_weight : array_like of shape (n,), optional
            Weight of each sequence, >= 0; with ``every_step=True`` also (n, T) or a list of (T_i,).
        static : array_like of shape (n, S), optional
            Inputs that are constant in time; `predict` needs them, too.
        validation : tuple (X, y) or dict of X, y, sample_weight, static, optional
            A data set in place of the sequences that `early_stopping` would set aside.
        comm : MPI communicator or lstm_ext.distributed.DataParallel, optional
            Train on all its ranks together: each calls `fit` with all data and the same random_state, and
            takes its part of every mini-batch.

        Returns
        -------
        LSTMClassifier

        Raises
        ------
        ValueError
            If shapes or parameters do not fit, X has NaN or inf, or y has only one class.
        FloatingPointError
            If the loss is no longer finite.
        """
        with self._all_or_nothing(comm):
            self._learn(X, y, sample_weight, None, static, validation, incremental=False, comm=comm)
        return self

    @only_stochastic
    def partial_fit(
        self, X: Sequential, y: Sequential, classes: npt.ArrayLike | None = None,
        sample_weight: Sequential | None = None, *, static: npt.ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch; the first call makes the network and the scaling.

        Parameters
        ----------
        X, y, sample_weight, static
            As in `fit`.
        classes : array_like of shape (K,), optional
            All labels there will ever be; needed in the first call.

        Returns
        -------
        LSTMClassifier
        """
        with self._all_or_nothing():
            self._learn(X, y, sample_weight, classes, static, None, incremental=True)
        return self

    def _labels(self, y: Any, X: Sequences) -> Array:
        """Return labels, (n or S,), or 0 and 1 for each of several, (n or S, L)."""
        self._refuse_none(y)
        if self.every_step:
            y = step_rows("y", y, X, dtype=None)
            y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
            if y.ndim != 1 and type_of_target(y) != "multilabel-indicator":
                raise ValueError(f"y has {y.shape[1]} labels for each step; expected one")
        else:
            y = row_values("y", _dense(y), X, dtype=None)
            if type_of_target(y) != "multilabel-indicator":
                y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return y

    def _classes_of(self, y: Array, classes: npt.ArrayLike | None, incremental: bool, goes_on: bool) -> Array:
        """Return the classes, checked."""
        if y.ndim == 2:
            found = np.arange(y.shape[1])
            if goes_on and not (self._multilabel and len(found) == len(self.classes_)):
                raise ValueError(
                    f"y has {len(found)} labels for each sequence; expected {self._fitted_labels}, as fit had"
                )
            if incremental and classes is not None and np.shape(classes) != found.shape:
                raise ValueError(f"classes has shape {np.shape(classes)}; expected {found.shape}, as y has")
            return found
        if goes_on and self._multilabel:
            raise ValueError(f"y has one label for each sequence; expected {self._fitted_labels}, as fit had")
        if incremental:
            _check_partial_fit_first_call(self, classes)
            classes = self.classes_
        else:
            classes = np.unique(y)
            if goes_on and not np.array_equal(classes, self.classes_):
                raise ValueError(
                    f"y has the classes {classes}; expected {self.classes_}, as fit had, with warm_start=True"
                )
        if len(classes) < 2:
            raise ValueError(
                f"This {type(self).__name__} needs samples of at least 2 classes in the data, but the data "
                f"contains only one class: {np.asarray(classes).tolist()[0]!r}"
            )
        return classes

    @property
    def _fitted_labels(self) -> str:
        return f"{len(self.classes_)} labels" if self._multilabel else "one"

    def _numbers(self, y: Array, classes: Array) -> Array:
        """Return what the loss compares with: numbers of classes, or 0 and 1."""
        if y.ndim == 2:
            if not np.isin(y, [0, 1]).all():
                raise ValueError(f"y has {np.unique(y).tolist()}; expected 0 or 1 for each of several labels")
            return y.astype(self.dtype)
        unseen = np.setdiff1d(y, classes)
        if unseen.size:
            raise ValueError(f"y contains previously unseen labels: {unseen}, the classes are {classes}")
        return np.searchsorted(classes, y)

    def _class_weighted(self, X: Sequences, y: Array, classes: Array, weight: Floats | None) -> Floats | None:
        """Return the weights of sequences, or steps, times those of their classes."""
        if self.class_weight is None:
            return weight
        by_row = per_step(weight, X) if self.every_step else weight
        by_row = np.ones(len(y)) if by_row is None else by_row
        if y.ndim == 2:
            if self.class_weight != "balanced":
                raise ValueError("class_weight is a dict; expected 'balanced' or None for several labels")
            weights = compute_sample_weight("balanced", y) * by_row
        else:
            number = np.searchsorted(classes, y)
            if self.class_weight == "balanced":
                count = np.bincount(number, by_row, minlength=len(classes))
                there = count > 0  # a class that weighs nothing needs no weight
                by_class = np.where(there, by_row.sum() / (len(classes) * np.where(there, count, 1)), 0)
            else:
                by_class = compute_class_weight(self.class_weight, classes=classes, y=y)
            if not (np.isfinite(by_class).all() and (by_class >= 0).all()):
                raise ValueError(f"class_weight is {self.class_weight!r}; expected finite numbers >= 0")
            weights = by_class[number] * by_row
        if not weights.any():
            raise ValueError("class_weight and sample_weight leave nothing that counts; expected some > 0")
        return weights

    def _learn(
        self, X: Sequential, y: Any, sample_weight: Any, classes: npt.ArrayLike | None,
        static: npt.ArrayLike | None, validation: Validation | None, incremental: bool, comm: Any = None,
    ) -> None:
        self._check_parameters()
        comm = self._process_group(comm)
        goes_on = self._goes_on(incremental)
        X, static = self._prepare(X, static, reset=not goes_on)
        y = self._labels(y, X)
        weight = check_weight(sample_weight, X, self.every_step)
        if not goes_on:
            self._multilabel = y.ndim == 2
            if hasattr(self, "classes_"):
                del self.classes_  # of another network
        classes = self._classes_of(y, classes, incremental, goes_on)
        number = self._numbers(y, classes)
        weight = self._class_weighted(X, y, classes, weight)
        if goes_on:
            self._check_architecture(X.rows.shape[1], len(classes))
        else:
            self.merge_steps_ = self._merge_of(X)
            self._new_network(
                X.rows.shape[1], len(classes), every_step=self.every_step, rng=self._generator(),
                loss=losses.BinaryCrossEntropy() if self._multilabel else losses.CrossEntropy(),
                pooling="last" if self.every_step else self.pooling,
                static_size=0 if static is None else static.shape[1],
            )
            self._fit_scaler(X, static, weight)
            self.classes_ = classes
        data = self._data(X, static, number, weight)
        if validation is not None:
            validation = self._checked_validation(validation)
        one_each = not self.every_step and not self._multilabel
        self._train(
            data, incremental=incremental, split=lambda: self._split(len(X), number if one_each else None),
            folds=lambda data: self._folds(data, data["y"] if one_each else None), comm=comm,
            validation=validation, **self._fit_options,
        )

    def _checked_validation(self, validation: Validation) -> TrainingData:
        X, y, weight, static, groups = self._validation(validation)
        if groups is not None:
            raise TypeError("validation has groups; expected none for a classifier")
        X, static = self._prepare(X, static, reset=False)
        y = self._labels(y, X)
        if (y.ndim == 2) != self._multilabel or (y.ndim == 2 and y.shape[1] != len(self.classes_)):
            raise ValueError("validation: y has other labels than y; expected the same kind, and as many")
        number = self._numbers(y, self.classes_)
        return self._data(X, static, number, check_weight(weight, X, self.every_step))

    def _probabilities(self, outputs: Floats) -> Floats:
        probabilities: Floats = expit(outputs) if self._multilabel else softmax(outputs, axis=1)
        return probabilities

    @overload
    def predict(
        self, X: Numbers, *, static: npt.ArrayLike | None = None, n_draws: int | None = None
    ) -> Array: ...

    @overload
    def predict(
        self, X: Sequential, *, static: npt.ArrayLike | None = None, n_draws: int | None = None
    ) -> Any: ...

    def predict(
        self, X: Sequential, *, static: npt.ArrayLike | None = None, n_draws: int | None = None
    ) -> Any:
        """Predict the labels of sequences, or steps.

        Parameters
        ----------
        X : array_like
            As in `fit`.
        static : array_like of shape (n, S), optional
            As in `fit`.
        n_draws : int, optional
            Take the mean of `n_draws` probabilities, each with other units dropped: see
            `LSTMRegressor.predict`.

        Returns
        -------
        ndarray of shape (n,) or (n, L), or with ``every_step=True`` (n, T), (n, T, L) or a list of them
        """
        if n_draws is None:
            X, outputs = self._raw(X, static)
            probabilities = self._probabilities(outputs) if self._multilabel else outputs
        else:
            drawn = []
            for seed in self._draws(n_draws):
                given, outputs = self._raw(X, static, seed)
                drawn.append(self._probabilities(outputs))
            X, probabilities = given, np.mean(drawn, axis=0)
        if self._multilabel:
            return self._answer(X, (probabilities > 0.5).astype(int))
        return self._answer(X, self.classes_[probabilities.argmax(axis=1)])

    @overload
    def predict_proba(
        self, X: Numbers, *, static: npt.ArrayLike | None = None, n_draws: int | None = None
    ) -> Floats: ...

    @overload
    def predict_proba(
        self, X: Sequential, *, static: npt.ArrayLike | None = None, n_draws: int | None = None
    ) -> Any: ...

    def predict_proba(
        self, X: Sequential, *, static: npt.ArrayLike | None = None, n_draws: int | None = None
    ) -> Any:
        """Predict the probabilities of the classes, in the order of `classes_`.

        Parameters
        ----------
        X : array_like
            As in `fit`.
        static : array_like of shape (n, S), optional
            As in `fit`.
        n_draws : int, optional
            Predict `n_draws` times, each with other units dropped: see `LSTMRegressor.predict`.

        Returns
        -------
        ndarray of shape (n, K), or with ``every_step=True`` (n, T, K) or a list of (T_i, K)
            With `n_draws` the draws are a first axis.
        """
        if n_draws is None:
            X, outputs = self._raw(X, static)
            return self._answer(X, self._probabilities(outputs))
        drawn = []
        for seed in self._draws(n_draws):
            given, outputs = self._raw(X, static, seed)
            drawn.append(self._answer(given, self._probabilities(outputs)))
        return _stacked(drawn)

    @overload
    def predict_log_proba(self, X: Numbers, *, static: npt.ArrayLike | None = None) -> Floats: ...

    @overload
    def predict_log_proba(self, X: Sequential, *, static: npt.ArrayLike | None = None) -> Any: ...

    def predict_log_proba(self, X: Sequential, *, static: npt.ArrayLike | None = None) -> Any:
        """Return the logarithm of `predict_proba`."""
        X, outputs = self._raw(X, static)
        return self._answer(X, log_expit(outputs) if self._multilabel else log_softmax(outputs, axis=1))

    def score(
        self, X: Sequential, y: Sequential, sample_weight: Sequential | None = None, *,
        static: npt.ArrayLike | None = None,
    ) -> float:
        """Return the share of right labels; of several labels, of those that are all right.

        Parameters
        ----------
        X, y, sample_weight, static
            As in `fit`. With ``every_step=True`` all steps of all sequences count alike.

        Returns
        -------
        float
        """
        y, prediction, weight = self._rows(X, y, self.predict(X, static=static), sample_weight)
        return float(accuracy_score(y, prediction, sample_weight=weight))
