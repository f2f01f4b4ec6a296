"""A model: an LSTM, a linear readout and a loss, over one flat vector of parameters."""

import contextlib
import io
import json
import math
import operator
import os
import secrets
import zipfile

import numpy as np

from lstm_ext._options import CONFIGURATION, checked_count
from lstm_ext.losses import CrossEntropy, MeanSquaredError
from lstm_ext.lstm import LSTM
from lstm_ext.optim import Adam

__all__ = ["Model"]

_LOSSES = {"mse": MeanSquaredError, "cross_entropy": CrossEntropy}
_FORMAT = "lstm_ext.Model 2"
_LSTM_WORDS = tuple(word for word in CONFIGURATION if word not in ("dtype", "cell_activation"))
# What the first format said of an LSTM; all else was as it is by default.
_FORMER_FORMAT = "lstm_ext.Model 1"
_FORMER_WORDS = (
    "input_size", "hidden_size", "num_layers", "bidirectional", "cell_activation", "checkpoint",
)


@contextlib.contextmanager
def replace_file(path):
    """Give the name of a temporary file that becomes `path` when the block ends well.

    Whoever reads `path` sees the old file or the new one, whole. After an error the old one stands.
    """
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{secrets.token_hex(8)}-{name}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


class _Data:
    """Arrays that have been checked: sequences, their targets, and what goes with them to the LSTM."""

    def __init__(self, x, y, lengths, mask, static):
        self.x, self.y, self.lengths, self.mask, self.static = x, y, lengths, mask, static

    def __getitem__(self, index):
        """Take some of the sequences."""
        parts = (self.x, self.y, self.lengths, self.mask, self.static)
        return _Data(*(None if part is None else part[index] for part in parts))

    @property
    def words(self):
        """Keywords of the LSTM's passes."""
        return {"lengths": self.lengths, "mask": self.mask, "static": self.static}

    @property
    def counted(self):
        """Which steps count, (N, T), or None where all do."""
        if self.lengths is None:
            return self.mask
        return np.arange(self.x.shape[1]) < self.lengths[:, None]


class Model:
    r"""An LSTM, a linear readout of its hidden states, and a loss.

    .. math:: p = W h + b

    Sequence to one (the default): h is the last hidden state of the top layer, after each
    sequence's last valid step. A bidirectional LSTM has two of them, one for each direction, each
    after having read the whole sequence; they are joined. Sequence to sequence
    (``every_step=True``): h runs over the hidden states of all steps.

    Parameters
    ----------
    lstm : LSTM
        With ``batch_first=True``. The model takes it over: it moves the LSTM's parameters and
        gradient into its own vectors.
    output_size : int
        Outputs O of the readout; with cross entropy, the number of classes.
    every_step : bool
        Read out every step, not only the last.
    loss : {"mse", "cross_entropy"} or object
        `losses.MeanSquaredError`, `losses.CrossEntropy`, or any object with ``check`` and
        ``value_and_gradient`` as in `losses.Loss`.
    rng : None, int or numpy.random.Generator
        Where the readout's first weights come from: glorot uniform, bias 0 (X. Glorot, Y. Bengio,
        "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010).

    Attributes
    ----------
    lstm : LSTM
        Its parameters are the first part of `parameters`; `weight` and `bias` follow.
    output_size : int
    every_step : bool
    loss : object

    Notes
    -----
    `predict` and `evaluate` may run in several threads at once. Training may not: the model has one
    gradient and one tape.
    """

    def __init__(self, lstm, output_size, *, every_step=False, loss="mse", rng=None):
        if not isinstance(lstm, LSTM):
            raise TypeError(f"lstm must be an LSTM, got {type(lstm).__name__}")
        if not lstm.batch_first:
            raise ValueError("lstm must have batch_first=True")
        output_size = _count("output_size", output_size, 1)
        if isinstance(loss, str):
            if loss not in _LOSSES:
                raise ValueError(f"loss must be one of {', '.join(_LOSSES)}, got {loss!r}")
            loss = _LOSSES[loss]()
        elif not (hasattr(loss, "check") and hasattr(loss, "value_and_gradient")):
            raise TypeError(f"loss must be a name or have value_and_gradient, got {loss!r}")
        self.lstm = lstm
        self.output_size = output_size
        self.every_step = bool(every_step)
        self.loss = loss
        self._lay_out()
        bound = math.sqrt(6 / sum(self.weight.shape))
        self.weight[...] = np.random.default_rng(rng).uniform(-bound, bound, self.weight.shape)

    def _lay_out(self):
        """Allocate the flat vectors and make the LSTM's and the readout's views of them."""
        output_size, n_lstm = self.output_size, self.lstm.parameters.size
        shape = (output_size, self.lstm.output_size)
        n = n_lstm + output_size * (shape[1] + 1)
        self._parameters, self._gradient = np.zeros((2, n), self.lstm.dtype)
        self.lstm.bind(self._parameters[:n_lstm], self._gradient[:n_lstm])
        self._weight, self._dweight = (
            a[n_lstm:-output_size].reshape(shape) for a in (self._parameters, self._gradient)
        )
        self._bias, self._dbias = (a[-output_size:] for a in (self._parameters, self._gradient))
        self._tape = self.lstm.tape()

    @property
    def _directions(self):
        return 2 if self.lstm.bidirectional else 1

    @property
    def _regularised(self):
        """Whether the LSTM drops anything in training."""
        lstm = self.lstm
        return any((lstm.dropout, lstm.recurrent_dropout, lstm.weight_dropout, *lstm.zoneout))

    @property
    def parameters(self):
        """Flat vector of all parameters, (n,). Assigning copies into it."""
        return self._parameters

    @parameters.setter
    def parameters(self, values):
        _assign("parameters", self._parameters, values)

    @property
    def gradient(self):
        """Flat vector that `loss_and_gradient` fills, (n,), in the order of `parameters`."""
        return self._gradient

    @property
    def weight(self):
        """Weights of the readout, (O, `lstm.output_size`): a view into `parameters`.

        Assigning copies into it.
        """
        return self._weight

    @weight.setter
    def weight(self, values):
        _assign("weight", self._weight, values)

    @property
    def bias(self):
        """Bias of the readout, (O,): a view into `parameters`. Assigning copies into it."""
        return self._bias

    @bias.setter
    def bias(self, values):
        _assign("bias", self._bias, values)

    def named_parameters(self):
        """Return views into `parameters` by name: ``lstm.weight_ih_l0`` to ``bias``."""
        lstm = {f"lstm.{name}": view for name, view in self.lstm.named_parameters().items()}
        return lstm | {"weight": self.weight, "bias": self.bias}

    def named_gradients(self):
        """Return views into `gradient`, by the names of `named_parameters`."""
        lstm = {f"lstm.{name}": view for name, view in self.lstm.named_gradients().items()}
        return lstm | {"weight": self._dweight, "bias": self._dbias}

    def __repr__(self):
        return (
            f"Model({self.lstm!r}, output_size={self.output_size}, every_step={self.every_step}, "
            f"loss={self.loss!r})"
        )

    def __getstate__(self):
        return {
            "lstm": self.lstm,
            "output_size": self.output_size,
            "every_step": self.every_step,
            "loss": self.loss,
            "weight": self.weight.copy(),
            "bias": self.bias.copy(),
        }

    def __setstate__(self, state):
        weight, bias = state.pop("weight"), state.pop("bias")
        self.__dict__.update(state)
        self._lay_out()
        self.weight[...], self.bias[...] = weight, bias

    # What comes in ----------------------------------------------------------------------------

    def _inputs(self, x, lengths, mask, static):
        x = np.asarray(x)
        if x.ndim != 3:
            raise ValueError(f"x has shape {x.shape}, expected (batch, time, features)")
        if x.shape[2] != self.lstm.input_size:
            raise ValueError(
                f"x has {x.shape[2]} features, this model takes {self.lstm.input_size}"
            )
        if x.dtype.kind not in "bfiu":
            raise TypeError(f"x must be real numbers, got dtype {x.dtype}")
        if lengths is not None:
            if mask is not None:
                raise ValueError("lengths and mask were given: a mask says by itself how long a sequence is")
            lengths = np.asarray(lengths)
            if lengths.dtype.kind not in "iu":
                raise TypeError(f"lengths must be integers, got dtype {lengths.dtype}")
            if lengths.shape != x.shape[:1]:
                raise ValueError(f"lengths have shape {lengths.shape}, expected {x.shape[:1]}")
            if lengths.size and not (lengths.min() >= 0 and lengths.max() <= x.shape[1]):
                raise ValueError(
                    f"lengths run from {lengths.min()} to {lengths.max()}, "
                    f"x has {x.shape[1]} time steps"
                )
        if mask is not None:
            mask = np.asarray(mask)
            if mask.dtype != np.bool_ or mask.shape != x.shape[:2]:
                raise ValueError(f"mask is {mask.dtype} {mask.shape}, expected bool {x.shape[:2]}")
        static = self.lstm._family.checked_static(static, len(x))
        x = x.astype(self.lstm.dtype, copy=False)
        if self.lstm.nan == "raise":
            self.lstm._filled(x, lengths, mask)
        return _Data(x, None, lengths, mask, static)

    def _checked(self, x, y, lengths=None, mask=None, static=None):
        """Find everything that can be wrong with a mini-batch, or with a whole training set."""
        data = self._inputs(x, lengths, mask, static)
        y = np.asarray(y)
        if y.shape[:1] != data.x.shape[:1]:
            raise ValueError(f"y has shape {y.shape}, x has {data.x.shape[0]} sequences")
        shape = (*data.x.shape[: 2 if self.every_step else 1], self.output_size)
        self.loss.check(y, shape, self._weights(data))
        data.y = y
        return data

    def _weights(self, data):
        """Return which steps count in the loss, or None where all do."""
        return data.counted if self.every_step else None

    # What comes out ---------------------------------------------------------------------------

    def _features(self, y, h_n):
        """Hidden states that the readout reads: (N, T, D*H) or (N, D*H)."""
        if self.every_step:
            return y
        top = h_n[-self._directions :].transpose(1, 0, 2)
        return top.reshape(len(top), self.weight.shape[1])

    def predict(self, x, lengths=None, *, mask=None, static=None):
        """Predictions for sequences.

        Parameters
        ----------
        x : array_like of shape (N, T, I)
            Real numbers; converted to the LSTM's dtype.
        lengths : array_like of N integers, optional
            Valid steps of each sequence, 0 to T. What follows them is ignored.
        mask : array_like of bool, (N, T), optional
            True where a step counts; the others are passed over.
        static : array_like, (N, S)
            The static inputs, where the LSTM has a `static_size`.

        Returns
        -------
        ndarray of shape (N, O), or (N, T, O) with every_step=True
            In the LSTM's dtype; 0 where a step does not count. With cross entropy these are logits.
        """
        return self._predict(self._inputs(x, lengths, mask, static))

    def _predict(self, data):
        y, (h_n, _) = self.lstm(data.x, **data.words)
        prediction = self._features(y, h_n) @ self.weight.T + self.bias
        weights = self._weights(data)
        if weights is not None:
            prediction[~weights] = 0
        return prediction

    def evaluate(self, x, y, lengths=None, *, mask=None, static=None):
        """Loss of the predictions for `x`; parameters as in `loss_and_gradient`.

        Returns
        -------
        float
        """
        return self._evaluate(self._checked(x, y, lengths, mask, static))

    def _evaluate(self, data):
        return self.loss.value_and_gradient(self._predict(data), data.y, self._weights(data))[0]

    def loss_and_gradient(self, x, y, lengths=None, *, mask=None, static=None, seed=None):
        """Loss of a batch; fills `gradient` with its derivative by every parameter.

        Parameters
        ----------
        x : array_like of shape (N, T, I)
        y : array_like
            Targets. Mean squared error: (N, O), or (N, T, O) with every_step=True. Cross entropy:
            class numbers (N,) or (N, T).
        lengths : array_like of N integers, optional
            Valid steps of each sequence, 0 to T. With every_step=True only they count in the mean.
        mask, static
            As in `predict`.
        seed : int, optional
            Draws what the LSTM's dropout and zoneout drop; None: nothing.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If the arrays do not fit the model or each other; `gradient` is left as it was.
        """
        return self._loss_and_gradient(self._checked(x, y, lengths, mask, static), seed)

    def _loss_and_gradient(self, data, seed=None):
        hidden, (h_n, _) = self.lstm.forward(data.x, tape=self._tape, seed=seed, **data.words)
        features = self._features(hidden, h_n)
        prediction = features @ self.weight.T + self.bias
        value, dprediction = self.loss.value_and_gradient(prediction, data.y, self._weights(data))

        rows = dprediction.reshape(-1, self.output_size)
        np.matmul(rows.T, features.reshape(len(rows), -1), out=self._dweight)
        np.sum(rows, axis=0, out=self._dbias)
        self.lstm.gradient[...] = 0
        dy, dstate = self._upon(dprediction @ self.weight, h_n)
        self.lstm.backward(self._tape, dy, dstate, input_gradient=False)
        return value

    def _upon(self, dfeatures, h_n):
        """Return (dy, dstate) that carry the gradient of what the readout reads."""
        if self.every_step:
            return dfeatures, None
        dh_n = np.zeros_like(h_n)
        dh_top = dfeatures.reshape(len(dfeatures), self._directions, -1)
        dh_n[-self._directions :] = dh_top.transpose(1, 0, 2)
        return None, (dh_n, None)

    def hvp(self, x, y, direction, lengths=None, *, mask=None, static=None, seed=None):
        r"""Hessian of the loss times a direction, at the present parameters: exact.

        .. math:: H v = \frac{d}{d\epsilon} \nabla L(\theta + \epsilon v) \Big|_{\epsilon = 0}

        by forward over reverse (B. A. Pearlmutter, 1994, "Fast exact multiplication by the Hessian",
        *Neural Computation* 6:147), at the cost of two to three gradients.

        Parameters
        ----------
        x, y, lengths, mask, static, seed
            As in `loss_and_gradient`.
        direction : array_like, (n,)
            v, in the order of `parameters`.

        Returns
        -------
        ndarray, (n,)
            In the LSTM's dtype. `gradient` stays as it is.
        """
        if not hasattr(self.loss, "gradient_jvp"):
            raise TypeError(
                f"loss is {self.loss!r}, expected one with gradient_jvp, as in losses.Loss, for a Hessian"
            )
        data = self._checked(x, y, lengths, mask, static)
        v = np.asarray(direction)
        if v.shape != self._parameters.shape or v.dtype.kind not in "bfiu":
            raise ValueError(
                f"direction is {v.dtype} {v.shape}, expected numbers of shape {self._parameters.shape}"
            )
        v = v.astype(self.lstm.dtype, copy=False)
        n = self.lstm.parameters.size
        v_weight, v_bias = v[n : -self.output_size].reshape(self.weight.shape), v[-self.output_size :]
        tape = self.lstm.tape()
        (hidden, (h_n, _)), (hidden_dot, (h_dot, _)) = self.lstm.jvp(
            data.x, dparameters=v[:n], tape=tape, seed=seed, **data.words
        )
        features, features_dot = self._features(hidden, h_n), self._features(hidden_dot, h_dot)
        prediction = features @ self.weight.T + self.bias
        prediction_dot = features_dot @ self.weight.T + features @ v_weight.T + v_bias
        weights = self._weights(data)
        d = self.loss.value_and_gradient(prediction, data.y, weights)[1]
        d_dot = self.loss.gradient_jvp(prediction, prediction_dot, data.y, weights)

        dy, dstate = self._upon(d @ self.weight, h_n)
        dy_dot, dstate_dot = self._upon(d_dot @ self.weight + d @ v_weight, h_n)
        product = np.empty_like(self._parameters)
        product[:n] = self.lstm.backward_jvp(
            tape, dy, dy_dot, dstate, dstate_dot, input_gradient=False
        )["gradient_dot"]
        rows, rows_dot = d.reshape(-1, self.output_size), d_dot.reshape(-1, self.output_size)
        product[n : -self.output_size].reshape(self.weight.shape)[...] = (
            rows_dot.T @ features.reshape(len(rows), -1) + rows.T @ features_dot.reshape(len(rows), -1)
        )
        product[-self.output_size :] = rows_dot.sum(axis=0)
        return product

    # As scipy.optimize calls them: the parameters first.

    def value_and_gradient(self, theta, x, y, lengths=None, *, mask=None, static=None, seed=None):
        """Loss and gradient at `theta`, which become the model's parameters.

        For ``scipy.optimize.minimize(model.value_and_gradient, theta, args=(x, y), jac=True,
        hessp=model.hessp, method="trust-krylov")``.

        Parameters
        ----------
        theta : array_like, (n,)
        x, y, lengths, mask, static, seed
            As in `loss_and_gradient`.

        Returns
        -------
        float
        ndarray of float64, (n,)
        """
        data = self._checked(x, y, lengths, mask, static)
        self.parameters = theta
        return self._loss_and_gradient(data, seed), self._gradient.astype(np.float64)

    def hessp(self, theta, direction, x, y, lengths=None, *, mask=None, static=None, seed=None):
        """Hessian at `theta` times a direction, as `hvp`, in float64; `theta` becomes the parameters."""
        self.parameters = theta
        return self.hvp(x, y, direction, lengths, mask=mask, static=static, seed=seed).astype(np.float64)

    def fit(
        self,
        x,
        y,
        *,
        epochs,
        batch_size=32,
        lengths=None,
        mask=None,
        static=None,
        optimizer=None,
        rng=None,
        validation=None,
        callback=None,
    ):
        """Train on mini-batches, shuffled anew in every epoch.

        Parameters
        ----------
        x, y, lengths, mask, static
            The training set, as in `loss_and_gradient`.
        epochs : int
            Passes over the training set.
        batch_size : int
            Sequences in a mini-batch; the last one of an epoch may be smaller.
        optimizer : Adam, SGD or object with ``step(parameters, gradient)``, optional
            Goes on from the state it has. Default: a new ``Adam()``.
        rng : None, int or numpy.random.Generator
            Where the order of the mini-batches comes from, and what dropout and zoneout drop, if the
            LSTM has them.
        validation : tuple (x, y) or (x, y, lengths), or dict of the arguments of `evaluate`, optional
            Evaluated after every epoch; nothing is dropped in it.
        callback : callable, optional
            Called after every epoch with the epoch's record (see Returns); training ends early
            where it returns True.

        Returns
        -------
        list of dict
            For every epoch a record ``{"epoch": 1, "loss": ..., "validation_loss": ...}``. The loss
            is the mean over the epoch's mini-batches, each as it was before its step; the
            validation loss, present where validation is, is that after the last of them.

        Raises
        ------
        TypeError, ValueError
            If anything does not fit; nothing has been changed.
        FloatingPointError
            If a loss is NaN or infinite. The parameters are those before that mini-batch.
        """
        data = self._checked(x, y, lengths, mask, static)
        epochs = _count("epochs", epochs, 0)
        batch_size = _count("batch_size", batch_size, 1)
        if validation is not None:
            if isinstance(validation, dict):
                validation = self._checked(**validation)
            elif isinstance(validation, tuple | list) and len(validation) in (2, 3):
                validation = self._checked(*validation)
            else:
                raise TypeError("validation must be a tuple (x, y) or (x, y, lengths), or a dict")
        optimizer = Adam() if optimizer is None else optimizer
        if not hasattr(optimizer, "step"):
            raise TypeError(f"optimizer must have step(parameters, gradient), got {optimizer!r}")
        rng = np.random.default_rng(rng)

        # What a sequence weighs in the epoch's mean. Sequences without a step that counts are left
        # out: a mini-batch of nothing else would have no loss.
        weight = np.ones(len(data.x))
        if data.counted is not None and self.every_step:
            weight = data.counted.sum(axis=1, dtype=np.float64)
        used = np.flatnonzero(weight)
        if not used.size:
            raise ValueError("x holds no sequence to learn from")

        history = []
        for epoch in range(1, epochs + 1):
            order = rng.permutation(used)
            total = 0.0
            for start in range(0, order.size, batch_size):
                batch = order[start : start + batch_size]
                seed = int(rng.integers(2**63)) if self._regularised else None
                loss = self._loss_and_gradient(data[batch], seed)
                if not math.isfinite(loss):
                    raise FloatingPointError(
                        f"the loss is {loss} in epoch {epoch}: look for NaN, inf or huge numbers "
                        "in x and y, or give the optimizer a smaller lr or a max_norm"
                    )
                optimizer.step(self._parameters, self._gradient)
                total += loss * weight[batch].sum()
            record = {"epoch": epoch, "loss": total / weight.sum()}
            if validation is not None:
                record["validation_loss"] = self._evaluate(validation)
            history.append(record)
            if callback is not None and callback(record) is True:
                break
        return history

    # Files ------------------------------------------------------------------------------------

    def save(self, path):
        """Write the model to a file, whole or not at all.

        The file is an ``.npz`` archive of the flat vector (``parameters.npy``) and of what the
        model is (``configuration.json``). It is not a pickle.

        Parameters
        ----------
        path : str or path-like
        """
        names = [name for name, cls in _LOSSES.items() if type(self.loss) is cls]
        if not names:
            raise ValueError(
                f"only the losses {', '.join(_LOSSES)} can be saved, not {self.loss!r}"
            )
        configuration = {
            "format": _FORMAT,
            "lstm": {word: getattr(self.lstm, word) for word in _LSTM_WORDS},
            "dtype": self.lstm.dtype.name,
            "output_size": self.output_size,
            "every_step": self.every_step,
            "loss": names[0],
        }
        with replace_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            with archive.open("configuration.json", "w") as member:
                member.write(json.dumps(configuration, indent=1).encode())
            with archive.open("parameters.npy", "w") as member:
                np.lib.format.write_array(member, self._parameters, allow_pickle=False)

    @classmethod
    def load(cls, path):
        """Read a model that `save` has written.

        Nothing in the file is executed, and no more memory is taken than its length accounts for.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        Model

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not a saved model, or a damaged one.
        """
        with open(path, "rb") as file:
            content = file.read()
        try:
            return cls._read(content)
        except Exception as error:  # whatever zip, JSON and npy make of arbitrary bytes
            raise ValueError(f"{os.fspath(path)} is not a saved model: {error}") from error

    @classmethod
    def _read(cls, content):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {info.filename: info for info in archive.infolist()}
            if sorted(archive.namelist()) != ["configuration.json", "parameters.npy"]:
                raise ValueError("it must hold configuration.json and parameters.npy")
            for info in members.values():
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(content):
                    raise ValueError(f"{info.filename} is compressed, or longer than the file")
            if members["configuration.json"].file_size > 10_000:
                raise ValueError("configuration.json is too long")
            configuration = json.loads(archive.read("configuration.json"))
            formats = {_FORMAT: _LSTM_WORDS, _FORMER_FORMAT: _FORMER_WORDS}
            if configuration["format"] not in formats:
                raise ValueError(f"its format is {configuration['format']!r}, not {_FORMAT!r}")
            words, output_size = configuration["lstm"], configuration["output_size"]
            if set(words) != set(formats[configuration["format"]]):
                raise ValueError(f"its LSTM is described by {sorted(words)}")
            with archive.open("parameters.npy") as member:
                if np.lib.format.read_magic(member) != (1, 0):
                    raise ValueError("parameters.npy is of an unknown version")
                shape, _, dtype = np.lib.format.read_array_header_1_0(member)
                data = member.read()
        if dtype.name != configuration["dtype"] or dtype.name not in ("float32", "float64"):
            raise ValueError(f"its parameters are {dtype}, its dtype is {configuration['dtype']!r}")
        # Compared before a model of these sizes is made.
        n = _parameter_count(words, _count("output_size", output_size, 1))
        if shape != (n,) or len(data) != n * dtype.itemsize:
            raise ValueError(f"it has parameters of shape {shape}, a model of its sizes has {n}")
        parameters = np.frombuffer(data, dtype)
        if not np.isfinite(parameters).all():
            raise ValueError("its parameters hold NaN or inf")
        model = cls(
            LSTM(**words, dtype=dtype.name),
            output_size,
            every_step=configuration["every_step"],
            loss=configuration["loss"],
        )
        model.parameters = parameters
        return model


def _count(name, value, least):
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return value


def _parameter_count(words, output_size):
    """Count the parameters of a model of these sizes, without making it."""
    count = checked_count(words)
    directions = 2 if words.get("bidirectional") else 1
    return count + output_size * (directions * (words.get("proj_size") or words["hidden_size"]) + 1)


def _assign(name, target, values):
    values = np.asarray(values)
    if values.shape != target.shape:
        raise ValueError(f"{name} has shape {values.shape}, expected {target.shape}")
    if values.dtype.kind not in "bfiu":
        raise TypeError(f"{name} must be real numbers, got dtype {values.dtype}")
    target[...] = values
