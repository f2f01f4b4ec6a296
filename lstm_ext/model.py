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

from lstm_ext.losses import CrossEntropy, MeanSquaredError
from lstm_ext.lstm import LSTM
from lstm_ext.optim import Adam

__all__ = ["Model"]

_LOSSES = {"mse": MeanSquaredError, "cross_entropy": CrossEntropy}
_FORMAT = "lstm_ext.Model 1"
_LSTM_WORDS = (
    "input_size",
    "hidden_size",
    "num_layers",
    "bidirectional",
    "cell_activation",
    "checkpoint",
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
        shape = (output_size, self._directions * self.lstm.hidden_size)
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
        """Weights of the readout, (O, D*H): a view into `parameters`. Assigning copies into it."""
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

    def _inputs(self, x, lengths):
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
        return x.astype(self.lstm.dtype, copy=False), lengths

    def _checked(self, x, y, lengths):
        """Find everything that can be wrong with a mini-batch, or with a whole training set."""
        x, lengths = self._inputs(x, lengths)
        y = np.asarray(y)
        if y.shape[:1] != x.shape[:1]:
            raise ValueError(f"y has shape {y.shape}, x has {x.shape[0]} sequences")
        shape = (*x.shape[: 2 if self.every_step else 1], self.output_size)
        self.loss.check(y, shape, self._mask(lengths, x.shape[1]))
        return x, y, lengths

    def _mask(self, lengths, steps):
        """Return which steps count in the loss, or None where all do."""
        if lengths is None or not self.every_step:
            return None
        return np.arange(steps) < lengths[:, None]

    # What comes out ---------------------------------------------------------------------------

    def _features(self, y, h_n):
        """Hidden states that the readout reads: (N, T, D*H) or (N, D*H)."""
        if self.every_step:
            return y
        top = h_n[-self._directions :].transpose(1, 0, 2)
        return top.reshape(len(top), self.weight.shape[1])

    def predict(self, x, lengths=None):
        """Predictions for sequences.

        Parameters
        ----------
        x : array_like of shape (N, T, I)
            Real numbers; converted to the LSTM's dtype.
        lengths : array_like of N integers, optional
            Valid steps of each sequence, 0 to T. What follows them is ignored.

        Returns
        -------
        ndarray of shape (N, O), or (N, T, O) with every_step=True
            In the LSTM's dtype; 0 beyond a sequence's length. With cross entropy these are logits.
        """
        x, lengths = self._inputs(x, lengths)
        y, (h_n, _) = self.lstm(x, lengths=lengths)
        prediction = self._features(y, h_n) @ self.weight.T + self.bias
        mask = self._mask(lengths, x.shape[1])
        if mask is not None:
            prediction[~mask] = 0
        return prediction

    def evaluate(self, x, y, lengths=None):
        """Loss of the predictions for `x`; parameters as in `loss_and_gradient`.

        Returns
        -------
        float
        """
        x, y, lengths = self._checked(x, y, lengths)
        mask = self._mask(lengths, x.shape[1])
        return self.loss.value_and_gradient(self.predict(x, lengths), y, mask)[0]

    def loss_and_gradient(self, x, y, lengths=None):
        """Loss of a batch; fills `gradient` with its derivative by every parameter.

        Parameters
        ----------
        x : array_like of shape (N, T, I)
        y : array_like
            Targets. Mean squared error: (N, O), or (N, T, O) with every_step=True. Cross entropy:
            class numbers (N,) or (N, T).
        lengths : array_like of N integers, optional
            Valid steps of each sequence, 0 to T. With every_step=True only they count in the mean.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If the arrays do not fit the model or each other; `gradient` is left as it was.
        """
        return self._loss_and_gradient(*self._checked(x, y, lengths))

    def _loss_and_gradient(self, x, y, lengths):
        hidden, (h_n, _) = self.lstm.forward(x, lengths=lengths, tape=self._tape)
        features = self._features(hidden, h_n)
        prediction = features @ self.weight.T + self.bias
        mask = self._mask(lengths, x.shape[1])
        value, dprediction = self.loss.value_and_gradient(prediction, y, mask)

        rows = dprediction.reshape(-1, self.output_size)
        np.matmul(rows.T, features.reshape(len(rows), -1), out=self._dweight)
        np.sum(rows, axis=0, out=self._dbias)
        self.lstm.gradient[...] = 0
        dfeatures = dprediction @ self.weight
        if self.every_step:
            self.lstm.backward(self._tape, dfeatures, input_gradient=False)
        else:
            dh_n = np.zeros_like(h_n)
            dh_top = dfeatures.reshape(len(x), self._directions, -1)
            dh_n[-self._directions :] = dh_top.transpose(1, 0, 2)
            self.lstm.backward(self._tape, dstate=(dh_n, None), input_gradient=False)
        return value

    def fit(
        self,
        x,
        y,
        *,
        epochs,
        batch_size=32,
        lengths=None,
        optimizer=None,
        rng=None,
        validation=None,
        callback=None,
    ):
        """Train on mini-batches, shuffled anew in every epoch.

        Parameters
        ----------
        x, y, lengths
            The training set, as in `loss_and_gradient`.
        epochs : int
            Passes over the training set.
        batch_size : int
            Sequences in a mini-batch; the last one of an epoch may be smaller.
        optimizer : Adam, SGD or object with ``step(parameters, gradient)``, optional
            Goes on from the state it has. Default: a new ``Adam()``.
        rng : None, int or numpy.random.Generator
            Where the order of the mini-batches comes from.
        validation : tuple (x, y) or (x, y, lengths), optional
            Evaluated after every epoch.
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
        x, y, lengths = self._checked(x, y, lengths)
        epochs = _count("epochs", epochs, 0)
        batch_size = _count("batch_size", batch_size, 1)
        if validation is not None:
            if not isinstance(validation, tuple | list) or len(validation) not in (2, 3):
                raise TypeError("validation must be a tuple (x, y) or (x, y, lengths)")
            validation = self._checked(*validation, *[None] * (3 - len(validation)))
        optimizer = Adam() if optimizer is None else optimizer
        if not hasattr(optimizer, "step"):
            raise TypeError(f"optimizer must have step(parameters, gradient), got {optimizer!r}")
        rng = np.random.default_rng(rng)

        # What a sequence weighs in the epoch's mean. Sequences without a step that counts are left
        # out: a mini-batch of nothing else would have no loss.
        weight = np.ones(len(x))
        if lengths is not None and self.every_step:
            weight = lengths.astype(np.float64)
        used = np.flatnonzero(weight)
        if not used.size:
            raise ValueError("x holds no sequence to learn from")

        history = []
        for epoch in range(1, epochs + 1):
            order = rng.permutation(used)
            total = 0.0
            for start in range(0, order.size, batch_size):
                batch = order[start : start + batch_size]
                loss = self._loss_and_gradient(
                    x[batch], y[batch], None if lengths is None else lengths[batch]
                )
                if not math.isfinite(loss):
                    raise FloatingPointError(
                        f"the loss is {loss} in epoch {epoch}: look for NaN, inf or huge numbers "
                        "in x and y, or give the optimizer a smaller lr or a max_norm"
                    )
                optimizer.step(self._parameters, self._gradient)
                total += loss * weight[batch].sum()
            record = {"epoch": epoch, "loss": total / weight.sum()}
            if validation is not None:
                record["validation_loss"] = self.evaluate(*validation)
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
            if configuration["format"] != _FORMAT:
                raise ValueError(f"its format is {configuration['format']!r}, not {_FORMAT!r}")
            words, output_size = configuration["lstm"], configuration["output_size"]
            if set(words) != set(_LSTM_WORDS):
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
    n_input, hidden, layers = (
        _count(word, words[word], 1) for word in ("input_size", "hidden_size", "num_layers")
    )
    directions = 2 if words["bidirectional"] else 1
    first = 4 * hidden * (n_input + hidden + 1)
    other = 4 * hidden * (directions * hidden + hidden + 1)
    readout = output_size * (directions * hidden + 1)
    return directions * (first + (layers - 1) * other) + readout


def _assign(name, target, values):
    values = np.asarray(values)
    if values.shape != target.shape:
        raise ValueError(f"{name} has shape {values.shape}, expected {target.shape}")
    if values.dtype.kind not in "bfiu":
        raise TypeError(f"{name} must be real numbers, got dtype {values.dtype}")
    target[...] = values
