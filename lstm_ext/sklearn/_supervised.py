"""`LSTMRegressor` and `LSTMClassifier`: sequences with a target for each, or for each of their steps."""

from numbers import Real

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, d2_pinball_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets
from sklearn.utils.validation import check_is_fitted

from lstm_ext import losses
from lstm_ext._fitted import stream
from lstm_ext.sklearn._network import (
    _FEW_ASIDE,
    _FOLDS,
    Network,
    only_stochastic,
    to_dtype,
    warn_caller,
)
from lstm_ext.sklearn._readings import Reading, check_quantiles
from lstm_ext.sklearn._sequences import (
    SequenceScaler,
    as_sequences,
    check_groups,
    check_weight,
    per_step,
    row_values,
    step_rows,
)


class _Supervised(Network):
    """Sequences X with a y: for each sequence, or for each of its steps."""

    _parameter_constraints: dict = {  # noqa: RUF012
        **Network._parameter_constraints,
        "every_step": ["boolean"],
    }

    def _refuse_none(self, y):
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )

    def stream(self, batch=1, static=None):
        """Predict step by step: one time step at a time, from the state of those before it.

        Parameters
        ----------
        batch : int, default=1
            Sequences that advance together.
        static : array_like of shape (batch, S), optional
            Static inputs, in their own units.

        Returns
        -------
        lstm_ext.io.EstimatorStream
            Its ``step(x_t)`` takes the features of one step, and gives what `predict` gives for the steps so
            far, a classifier's `predict_proba`.
        """
        return stream(self, batch, static)

    def _scaled(self, X):
        """Return x and lengths as the model takes them."""
        rows = X.rows if self.x_scaler_ is None else self.x_scaler_._transform_rows(X.rows)
        x = X.padded(to_dtype("X", rows, self.model_.lstm.dtype))
        return x, None if X.same_length else X.lengths

    def _fit_scaler(self, X, weight):
        self.x_scaler_ = SequenceScaler()._fit_rows(X.rows, per_step(weight, X)) if self.scale else None

    def _data(self, X, y_rows, weight):
        """Return what the model trains on."""
        x, lengths = self._scaled(X)
        y = X.padded(y_rows) if self.every_step else y_rows
        if weight is not None and self.every_step and len(weight) == len(X.rows) != len(X):
            weight = X.padded(weight)
        return {"x": x, "y": y, "lengths": lengths, "sample_weight": weight}

    def _split(self, n, labels=None):
        """Return the numbers of sequences to learn from, and of those set aside."""
        try:
            return train_test_split(
                np.arange(n), test_size=self.validation_fraction, stratify=labels,
                random_state=int(self._rng.integers(2**31)),
            )
        except ValueError as error:
            raise ValueError(
                f"early_stopping=True sets validation_fraction={self.validation_fraction} of the {n} "
                f"sequences aside, and that does not go: {error}"
            ) from error

    def _folds(self, data, labels=None, few=_FEW_ASIDE):
        """Return pairs of numbers, each sequence set aside once; None where one split sets enough aside."""
        n = len(data["x"])
        if n * self.validation_fraction >= few or n < 2:
            return None
        seed = int(self._rng.integers(2**31))
        counts = None if labels is None else np.unique(labels, return_counts=True)[1]
        if counts is not None and counts.min() > 1:
            folds = StratifiedKFold(int(min(_FOLDS, counts.min())), shuffle=True, random_state=seed)
        else:
            folds, labels = KFold(min(_FOLDS, n), shuffle=True, random_state=seed), None
        return list(folds.split(np.zeros(n), labels))

    def _raw(self, X):
        """Return X, checked, and the outputs for it: a row for each sequence, or step."""
        check_is_fitted(self)
        X = as_sequences(self, X, reset=False, allow_nan=self._takes_nan)
        x, lengths = self._scaled(X)
        outputs = self._outputs(x, lengths)
        return X, X.unpadded(outputs) if self.model_.every_step else outputs

    def _answer(self, X, rows):
        return X.by_step(rows) if self.model_.every_step else rows

    def _rows(self, X, y, prediction, sample_weight):
        """Return y, its prediction and the weights for a score: one for each sequence, or step."""
        X = as_sequences(self, X, reset=False, allow_nan=self._takes_nan)
        dtype = np.float64 if isinstance(self, RegressorMixin) else None
        if not self.model_.every_step:
            return row_values("y", y, X, dtype=dtype), prediction, check_weight(sample_weight, X)
        y = step_rows("y", y, X, dtype=dtype)
        if X.layout == "list":
            prediction = np.concatenate(prediction)
        else:
            prediction = prediction.reshape(-1, *prediction.shape[2:])
        return y, prediction, per_step(check_weight(sample_weight, X, True), X)


class LSTMRegressor(RegressorMixin, _Supervised):
    r"""Regression on sequences with an LSTM.

    An LSTM reads each sequence; a linear readout of its hidden state after the last step, or with
    ``every_step=True`` after each step, is the prediction. Features and targets are standardised inside.

    Parameters
    ----------
    hidden_size : int, default=32
        Hidden units.
    num_layers : int, default=1
        Layers.
    every_step : bool, default=False
        False: one target for each sequence. True: one for each step.
    loss : {"mse", "mae", "huber", "quantile", "poisson", "gaussian", "nse"}, default="mse"
        What is minimised: the squared, absolute or Huber's error (in units of the target's standard
        deviation, turning linear at 1); the pinball loss of `quantiles`; the negative log likelihood of
        counts, or of a normal distribution whose mean and scale are both predicted; the squared error
        relative to how much each basin's target varies (Kratzert et al., 2019, *HESS* 23:5089, eq. 11),
        where `groups` of `fit` are the basins. Equations: `lstm_ext.losses`.
    quantiles : float or list of floats, default=0.5
        For ``loss="quantile"``: which, increasing, between 0 and 1.
    solver : {"adam", "adamw", "rmsprop", "sgd", "lbfgs"}, default="adam"
        "lbfgs" is SciPy's L-BFGS-B on all sequences at once: for few sequences.
    learning_rate_init : float, default=0.003
        Step size; not used by "lbfgs".
    batch_size : int, default=32
        Sequences in a mini-batch.
    max_iter : int or "auto", default="auto"
        Most epochs, or iterations of "lbfgs". "auto": 200, or more where 200 epochs make fewer than 1000
        steps of the optimiser (up to 160 sequences with the default `batch_size`).
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
        See `tol`. "auto": 10, or more where 10 epochs make fewer than 200 steps of the optimiser.
    early_stopping : bool, default=False
        Set `validation_fraction` of the sequences aside, watch the loss on them in place of the training
        loss, and return to the parameters that were best on them. If that sets fewer than 50 sequences
        aside, five networks are trained instead, each on four fifths of the sequences. Then a network is
        trained on all sequences, for as many steps as were best for them (the median).
    validation_fraction : float, default=0.1
        See `early_stopping`.
    warm_start : bool, default=False
        `fit` goes on from the network, and with the scaling, of the last fit.
    scale : bool, default=True
        Standardise the features of X, and y (but for "poisson"), over all sequences and steps. Losses are
        in these units.
    dtype : {"float32", "float64"}, default="float32"
        What the network computes in. Predictions are float64.
    lstm_options : dict, optional
        More keywords of `lstm_ext.LSTM`: ``{"bidirectional": True, "dropout": 0.2}``. With
        ``{"nan": "hold"}`` or ``"zero"`` X may have NaN.
    callbacks : list, optional
        Called with the record of every epoch, as in `Model.fit`; one that returns True ends the training.
        The five networks of `early_stopping` are trained without them.
    random_state : int, RandomState or None, default=None
        Draws the first weights, the order of mini-batches, what is dropped, and what is set aside. An int
        makes a fit repeat exactly.
    verbose : bool, default=False
        Print the loss of every epoch.

    Attributes
    ----------
    model_ : lstm_ext.Model
        The network, on standardised data.
    x_scaler_, y_scaler_ : SequenceScaler or None
    n_features_in_ : int
        Features of X.
    n_outputs_ : int
        Columns of y.
    n_iter_ : int
        Epochs so far.
    loss_ : float
        Loss of the last epoch.
    best_loss_ : float
        The lowest loss, whose parameters were kept: of the training set after an epoch, on at most 2048
        sequences and without dropout, or with `early_stopping` of those set aside.
    loss_curve_ : list of float
        Of every epoch, the mean over its mini-batches, each before its step.
    validation_loss_curve_ : list of float or None
        With `early_stopping`, beside `loss_curve_`: with few sequences the mean of the five networks after as
        many steps. NaN for epochs of `partial_fit`.

    Notes
    -----
    X is an array (n, T, F), a list of n arrays (T_i, F), or (n, F) for sequences of one step. y is (n,) or
    (n, O); with ``every_step=True`` (n, T) or (n, T, O), or a list of (T_i,) or (T_i, O). `predict` may run
    in several threads at once.

    If `fit` or `partial_fit` raises, the estimator is as it was before: not fitted, or with the network of
    the last fit. Ctrl-C during the training is the exception: what has been learned is kept. During the
    five trainings of `early_stopping` it is not.

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

    _parameter_constraints: dict = {  # noqa: RUF012
        **_Supervised._parameter_constraints,
        "loss": [StrOptions({"mse", "mae", "huber", "quantile", "poisson", "gaussian", "nse"})],
        "quantiles": [Interval(Real, 0, 1, closed="neither"), "array-like"],
    }

    def __init__(
        self,
        hidden_size=32,
        *,
        num_layers=1,
        every_step=False,
        loss="mse",
        quantiles=0.5,
        solver="adam",
        learning_rate_init=0.003,
        batch_size=32,
        max_iter="auto",
        alpha=0.0,
        momentum=0.9,
        max_norm=1.0,
        tol=1e-4,
        n_iter_no_change="auto",
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        scale=True,
        dtype="float32",
        lstm_options=None,
        callbacks=None,
        random_state=None,
        verbose=False,
    ):
        super().__init__(
            hidden_size, num_layers, solver, learning_rate_init, batch_size, max_iter, alpha, momentum,
            max_norm, tol, n_iter_no_change, early_stopping, validation_fraction, warm_start, scale, dtype,
            lstm_options, callbacks, random_state, verbose,
        )
        self.every_step = every_step
        self.loss = loss
        self.quantiles = quantiles

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags

    def _check_parameters(self):
        super()._check_parameters()
        if self.loss == "quantile":
            check_quantiles(self.quantiles)

    def fit(self, X, y, sample_weight=None, groups=None, *, comm=None):
        """Train on sequences and their targets.

        Parameters
        ----------
        X : array_like of shape (n, T, F) or (n, F), or list of arrays (T_i, F)
            Real numbers.
        y : array_like
            (n,) or (n, O); with ``every_step=True`` (n, T) or (n, T, O), or a list of arrays (T_i,) or
            (T_i, O).
        sample_weight : array_like of shape (n,), optional
            What each sequence counts, >= 0; with ``every_step=True`` also (n, T) or a list of (T_i,).
        groups : array_like of shape (n,), optional
            For ``loss="nse"``: the basin that each sequence is from, by any label. Default: one basin,
            with ``every_step=True`` each sequence its own.
        comm : MPI communicator or lstm_ext.distributed.DataParallel, optional
            Train on all its ranks together: each calls `fit` with all data and the same random_state, and
            takes its part of every mini-batch.

        Returns
        -------
        LSTMRegressor

        Raises
        ------
        ValueError
            If anything does not fit, or X or y have NaN or inf.
        FloatingPointError
            If the loss is no longer finite. After an error the estimator is as it was before.
        """
        return self._fit(X, y, sample_weight, groups, incremental=False, comm=comm)

    @only_stochastic
    def partial_fit(self, X, y, sample_weight=None):
        """Train for one epoch, from the network that is there or, in the first call, a new one.

        The scaling is that of the first call.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        LSTMRegressor
        """
        return self._fit(X, y, sample_weight, None, incremental=True)

    def _targets(self, y, X):
        """Return y as float64 rows (n or S, O), and whether it came with columns."""
        self._refuse_none(y)
        if self.every_step:
            y = step_rows("y", y, X, dtype=np.float64, estimator=self)
        else:
            y = row_values("y", y, X, dtype=np.float64)
        return (y, True) if y.ndim == 2 else (y[:, None], False)

    def _fit(self, *arguments, **words):
        with self._all_or_nothing():
            return self._learn(*arguments, **words)

    def _learn(self, X, y, sample_weight, groups, incremental, comm=None):
        self._check_parameters()
        comm = self._team(comm)
        goes_on = self._goes_on(incremental)
        X = as_sequences(self, X, reset=not goes_on, allow_nan=self._allow_nan)
        y, columns = self._targets(y, X)
        if self.loss == "poisson" and (y < 0).any():
            raise ValueError(f"y has {y.min()}, and loss='poisson' is for counts >= 0")
        weight = check_weight(sample_weight, X, self.every_step)
        if groups is not None:
            groups = check_groups(groups, X)
            if self.loss != "nse":
                raise ValueError(f"groups are for loss='nse', this is loss={self.loss!r}")
        elif self.loss == "nse" and not incremental:
            taken = "each sequence counts as a basin of its own"
            taken = taken if self.every_step else "all count as one basin"
            warn_caller(
                f"groups is None; expected the basin of each sequence for loss='nse': {taken}. A search or "
                "pipeline hands groups on with metadata routing alone: "
                "sklearn.set_config(enable_metadata_routing=True), set_fit_request(groups=True). Give "
                "groups=np.arange(n) or np.zeros(n) to say that this is meant",
            )
        reading = Reading(self.loss, self.quantiles)
        n_outputs = y.shape[1] * reading.per_target
        if goes_on:
            self._check_architecture(X.rows.shape[1], n_outputs)
        else:
            by_row = per_step(weight, X) if self.every_step else weight
            # A network first: if its options are refused, nothing has changed.
            self._new_network(
                X.rows.shape[1], n_outputs, every_step=self.every_step, loss=reading.loss,
                rng=self._generator(), bias=reading.start(y, by_row),
            )
            self._fit_scaler(X, weight)
            scaled = self.scale and self.loss != "poisson"
            self.y_scaler_ = SequenceScaler()._fit_rows(y, by_row, name="y") if scaled else None
            self.n_outputs_, self._columns, self._reading = y.shape[1], columns, reading
        if self.y_scaler_ is not None:
            y = self.y_scaler_._transform_rows(y, name="y")
        data = self._data(X, to_dtype("y", y, self.dtype), weight)
        if self.loss == "nse":
            if groups is None and not self.every_step:
                groups = np.zeros(len(X))
            if groups is not None:
                lengths = X.lengths if self.every_step else np.ones(len(X), int)
                by_row = per_step(weight, X) if self.every_step else weight
                data["y"] = reading.loss.prepare(data["y"], scale=_group_scale(y, lengths, groups, by_row))
        self._train(
            data, incremental=incremental, split=lambda: self._split(len(X)), folds=self._folds, comm=comm
        )
        return self

    def predict(self, X, return_std=False):
        """Predict the targets of sequences.

        Parameters
        ----------
        X : array_like
            As in `fit`.
        return_std : bool, default=False
            With ``loss="gaussian"``: return the predicted standard deviation, too.

        Returns
        -------
        ndarray, or list of ndarrays
            In the shape of the y that `fit` had: the mean, or with "mae" the median. With
            ``loss="quantile"`` and a list of quantiles there is one axis more, the quantiles, increasing.
            With ``every_step=True`` and a list X: a list.
        ndarray or list of ndarrays, with `return_std`
            The standard deviation, in the same shape.
        """
        check_is_fitted(self)
        if return_std and self._reading.name != "gaussian":
            raise ValueError(f"return_std=True needs loss='gaussian', this is loss={self._reading.name!r}")
        X, outputs = self._raw(X)
        mean, scale = np.zeros(self.n_outputs_), np.ones(self.n_outputs_)
        if self.y_scaler_ is not None:
            mean, scale = self.y_scaler_.mean_, self.y_scaler_.scale_
        answers = self._reading.read(outputs, mean, scale)
        answers = [self._answer(X, a if self._columns else a[:, 0]) for a in answers]
        return tuple(answers) if return_std else answers[0]

    def score(self, X, y, sample_weight=None):
        """Score the predictions: R², or with ``loss="quantile"`` D², the mean over the quantiles.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`. With ``every_step=True`` all steps of all sequences count alike.

        Returns
        -------
        float
            1 for perfect predictions, 0 for those of a constant.
        """
        y, prediction, weight = self._rows(X, y, self.predict(X), sample_weight)
        if self._reading.name != "quantile":
            return r2_score(y, prediction, sample_weight=weight)
        levels = self._reading.loss.levels
        if not self._reading.axis:
            prediction = prediction[..., None]
        return float(np.mean([
            d2_pinball_score(y, prediction[..., k], alpha=level, sample_weight=weight)
            for k, level in enumerate(levels)
        ]))


def _group_scale(rows, lengths, groups, weight):
    """Return the standard deviations of the targets of each group, (n, O), by rows that weigh so much."""
    scale = np.zeros((len(groups), rows.shape[1]))
    by_row = np.repeat(groups, lengths)
    weight = np.ones(len(rows)) if weight is None else weight
    for group in np.unique(groups):
        mine, counts = rows[by_row == group], weight[by_row == group]
        if counts.any():
            mean = np.average(mine, axis=0, weights=counts)
            scale[groups == group] = np.sqrt(np.average((mine - mean) ** 2, axis=0, weights=counts))
    return scale


class LSTMClassifier(ClassifierMixin, _Supervised):
    """Classification of sequences, or of each of their steps, with an LSTM.

    An LSTM reads each sequence; a linear readout of its hidden state after the last step, or with
    ``every_step=True`` after each step, gives the logits of a softmax. Features are standardised inside.

    Parameters
    ----------
    hidden_size, num_layers, every_step, solver, learning_rate_init, batch_size, max_iter, alpha, momentum
        As in `LSTMRegressor`.
    max_norm, tol, n_iter_no_change, validation_fraction, warm_start, scale, dtype, lstm_options, callbacks
        As in `LSTMRegressor`.
    random_state, verbose
        As in `LSTMRegressor`.
    early_stopping : bool, default=False
        As in `LSTMRegressor`; the same share of every class is set aside.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        The labels, sorted.
    model_, x_scaler_, n_features_in_, n_iter_, loss_, best_loss_, loss_curve_, validation_loss_curve_
        As in `LSTMRegressor`. The loss is the cross entropy, in nats.

    Notes
    -----
    X is an array (n, T, F), a list of n arrays (T_i, F), or (n, F) for sequences of one step. y holds
    labels (n,); with ``every_step=True`` (n, T), or a list of (T_i,).

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

    def __init__(
        self,
        hidden_size=32,
        *,
        num_layers=1,
        every_step=False,
        solver="adam",
        learning_rate_init=0.003,
        batch_size=32,
        max_iter="auto",
        alpha=0.0,
        momentum=0.9,
        max_norm=1.0,
        tol=1e-4,
        n_iter_no_change="auto",
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        scale=True,
        dtype="float32",
        lstm_options=None,
        callbacks=None,
        random_state=None,
        verbose=False,
    ):
        super().__init__(
            hidden_size, num_layers, solver, learning_rate_init, batch_size, max_iter, alpha, momentum,
            max_norm, tol, n_iter_no_change, early_stopping, validation_fraction, warm_start, scale, dtype,
            lstm_options, callbacks, random_state, verbose,
        )
        self.every_step = every_step

    def fit(self, X, y, sample_weight=None, *, comm=None):
        """Train on sequences and their labels.

        Parameters
        ----------
        X : array_like of shape (n, T, F) or (n, F), or list of arrays (T_i, F)
            Real numbers.
        y : array_like
            Labels (n,); with ``every_step=True`` (n, T), or a list of (T_i,).
        sample_weight : array_like of shape (n,), optional
            What each sequence counts, >= 0; with ``every_step=True`` also (n, T) or a list of (T_i,).
        comm : MPI communicator or lstm_ext.distributed.DataParallel, optional
            Train on all its ranks together: each calls `fit` with all data and the same random_state, and
            takes its part of every mini-batch.

        Returns
        -------
        LSTMClassifier

        Raises
        ------
        ValueError
            If anything does not fit, X has NaN or inf, or y has one class only.
        FloatingPointError
            If the loss is no longer finite. After an error the estimator is as it was before.
        """
        return self._fit(X, y, sample_weight, None, incremental=False, comm=comm)

    @only_stochastic
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train for one epoch, from the network that is there or, in the first call, a new one.

        The scaling is that of the first call.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array_like of shape (K,), optional
            All labels there will ever be; needed in the first call.

        Returns
        -------
        LSTMClassifier
        """
        return self._fit(X, y, sample_weight, classes, incremental=True)

    def _labels(self, y, X):
        self._refuse_none(y)
        if self.every_step:
            y = step_rows("y", y, X, dtype=None, estimator=self)
            y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
            if y.ndim != 1:
                raise ValueError(f"y has {y.shape[1]} labels for each step, expected one")
        else:
            y = column_or_1d(row_values("y", y, X, dtype=None), warn=True)
        check_classification_targets(y)
        return y

    def _fit(self, *arguments, **words):
        with self._all_or_nothing():
            return self._learn(*arguments, **words)

    def _learn(self, X, y, sample_weight, classes, incremental, comm=None):
        self._check_parameters()
        comm = self._team(comm)
        goes_on = self._goes_on(incremental)
        X = as_sequences(self, X, reset=not goes_on, allow_nan=self._allow_nan)
        y = self._labels(y, X)
        weight = check_weight(sample_weight, X, self.every_step)
        if incremental:
            _check_partial_fit_first_call(self, classes)
            classes = self.classes_
        else:
            classes = np.unique(y)
            if goes_on and not np.array_equal(classes, self.classes_):
                raise ValueError(
                    f"warm_start=True goes on with the classes {self.classes_}, y has {classes}"
                )
        if len(classes) < 2:
            raise ValueError(
                f"This {type(self).__name__} needs samples of at least 2 classes in the data, but the data "
                f"contains only one class: {np.asarray(classes).tolist()[0]!r}"
            )
        unseen = np.setdiff1d(y, classes)
        if unseen.size:
            raise ValueError(f"y contains previously unseen labels: {unseen}, the classes are {classes}")
        if goes_on:
            self._check_architecture(X.rows.shape[1], len(classes))
        else:
            self._new_network(
                X.rows.shape[1], len(classes), every_step=self.every_step, loss=losses.CrossEntropy(),
                rng=self._generator(),
            )
            self._fit_scaler(X, weight)
            self.classes_ = classes
        number = np.searchsorted(classes, y)
        data = self._data(X, number, weight)
        labels = None if self.every_step else number
        self._train(
            data, incremental=incremental, split=lambda: self._split(len(X), labels),
            folds=lambda data: self._folds(data, None if self.every_step else data["y"]), comm=comm,
        )
        return self

    def predict(self, X):
        """Predict the labels of sequences, or steps.

        Parameters
        ----------
        X : array_like
            As in `fit`.

        Returns
        -------
        ndarray of shape (n,), or with ``every_step=True`` (n, T) or a list of (T_i,)
        """
        X, outputs = self._raw(X)
        return self._answer(X, self.classes_[outputs.argmax(axis=1)])

    def predict_proba(self, X):
        """Predict the probabilities of the classes, in the order of `classes_`.

        Parameters
        ----------
        X : array_like
            As in `fit`.

        Returns
        -------
        ndarray of shape (n, K), or with ``every_step=True`` (n, T, K) or a list of (T_i, K)
        """
        X, outputs = self._raw(X)
        return self._answer(X, softmax(outputs, axis=1))

    def predict_log_proba(self, X):
        """Return the logarithm of `predict_proba`."""
        X, outputs = self._raw(X)
        return self._answer(X, log_softmax(outputs, axis=1))

    def score(self, X, y, sample_weight=None):
        """Return the share of right labels.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`. With ``every_step=True`` all steps of all sequences count alike.

        Returns
        -------
        float
        """
        y, prediction, weight = self._rows(X, y, self.predict(X), sample_weight)
        return accuracy_score(y, prediction, sample_weight=weight)
