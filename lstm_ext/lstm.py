"""The layer: `LSTM`, the `Tape` that backward needs, and the `Stream` that steps online."""

import operator

import numpy as np

from lstm_ext import _lstm
from lstm_ext._threads import get_num_threads

CELL_ACTIVATIONS = ("tanh", "identity")


def _size(name, value, least=1):
    """`value` as an int of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected an integer") from None
    if number < least:
        raise ValueError(f"{name} is {number}, expected at least {least}")
    return number


def _state(name, state):
    """`state` as a pair, or None."""
    if state is None:
        return None
    if not isinstance(state, (tuple, list)):
        raise TypeError(f"{name} is {type(state).__name__}, expected a pair of arrays (h, c)")
    if len(state) != 2:
        raise ValueError(f"{name} has {len(state)} elements, expected a pair of arrays (h, c)")
    return state


def _generator(rng):
    """`rng` as a numpy Generator."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"rng is {rng!r}, expected None, a non-negative integer or a numpy.random.Generator"
        ) from None


class LSTM:
    r"""A stack of LSTM layers.

    For each time step, with :math:`\sigma` the logistic function and gates in the order i, f, g, o:

    .. math::

        i, f, o &= \sigma(W_{i,f,o} x_t + U_{i,f,o} h_{t-1} + b_{i,f,o}) \\
        g &= \tanh(W_g x_t + U_g h_{t-1} + b_g) \\
        c_t &= f \odot c_{t-1} + i \odot g \\
        h_t &= o \odot \tanh(c_t)

    (Hochreiter and Schmidhuber, 1997, *Neural Computation* 9:1735, with the forget gate of Gers,
    Schmidhuber and Cummins, 2000, *Neural Computation* 12:2451; the formulation of PyTorch's
    ``nn.LSTM``, whose two biases are one here.)

    Parameters
    ----------
    input_size : int
        Features of x, I.
    hidden_size : int
        Hidden units, H.
    num_layers : int, default 1
        Layers; each takes the outputs of the one below.
    bidirectional : bool, default False
        A second LSTM in each layer reads every sequence from its end; the outputs of the two are
        joined. D = 2 directions then, else 1.
    batch_first : bool, default True
        Sequences are (batch, time, features); False: (time, batch, features). Neither costs a copy.
    dtype : {"float32", "float64"}, default "float32"
        What everything is computed in. Arrays of other real dtypes are converted.
    cell_activation : {"tanh", "identity"}, default "tanh"
        The function on :math:`c_t` in the last equation; "identity" gives the cell of `LstmNode`.
    checkpoint : int or None
        Keep the state of every `checkpoint`-th step alone for backward, which computes the steps
        between once more: memory grows as T / checkpoint + checkpoint instead of T.
    rng : int, numpy.random.Generator or None
        Draws the initial weights: `weight_ih` glorot uniform (Glorot and Bengio, 2010), `weight_hh`
        orthogonal gate by gate (Saxe, McClelland and Ganguli, 2014), biases 0, but 1 for the forget
        gate (Jozefowicz, Zaremba and Sutskever, 2015). An int makes it repeatable.

    Notes
    -----
    ``lstm.parameters`` and ``lstm.gradient`` are flat vectors; ``lstm["weight_hh_l0"]`` is a view of a
    part. Names are PyTorch's: ``weight_ih_l{k}`` (4H, I or D*H), ``weight_hh_l{k}`` (4H, H), ``bias_l{k}``
    (4H,), with ``_reverse`` for the second direction. Two threads may call the same `LSTM` at once,
    each with its own tape, as long as nobody writes to the parameters. Pickles and copies hold the
    configuration and the parameters; the gradient starts again at 0.

    Examples
    --------
    >>> import numpy as np
    >>> lstm = LSTM(3, 16, rng=0)
    >>> x = np.zeros((4, 10, 3), "float32")
    >>> y, (h_n, c_n) = lstm(x)
    >>> y.shape, h_n.shape
    ((4, 10, 16), (1, 4, 16))
    """

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        *,
        bidirectional=False,
        batch_first=True,
        dtype="float32",
        cell_activation="tanh",
        checkpoint=None,
        rng=None,
    ):
        self._configure(
            input_size, hidden_size, num_layers, bidirectional, batch_first, dtype, cell_activation,
            checkpoint,
        )
        self._initialise(_generator(rng))

    def _configure(
        self, input_size, hidden_size, num_layers, bidirectional, batch_first, dtype, cell_activation,
        checkpoint,
    ):
        self.input_size = _size("input_size", input_size)
        self.hidden_size = _size("hidden_size", hidden_size)
        self.num_layers = _size("num_layers", num_layers)
        self.bidirectional = bool(bidirectional)
        self.batch_first = bool(batch_first)
        try:
            self.dtype = np.dtype("None" if dtype is None else dtype)  # numpy takes None for float64
        except TypeError:
            raise TypeError(f"dtype is {dtype!r}, expected float32 or float64") from None
        if self.dtype not in (np.float32, np.float64) or not self.dtype.isnative:
            raise ValueError(f"dtype is {self.dtype}, expected float32 or float64")
        if cell_activation not in CELL_ACTIVATIONS:
            raise ValueError(
                f"cell_activation is {cell_activation!r}, expected one of {CELL_ACTIVATIONS}"
            )
        self.cell_activation = cell_activation
        self.checkpoint = None if checkpoint is None else _size("checkpoint", checkpoint)
        directions = 2 if self.bidirectional else 1
        rows = 4 * self.hidden_size
        largest = max(rows, self.input_size, directions * self.hidden_size)
        if largest > 2**31 - 1:
            raise ValueError(f"a matrix side of {largest} is more than BLAS can count (2**31 - 1)")

        first = rows * (self.input_size + self.hidden_size + 1)
        other = rows * ((directions + 1) * self.hidden_size + 1)
        count = directions * (first + (self.num_layers - 1) * other)
        if count * self.dtype.itemsize > 2**63 - 1:
            raise MemoryError(f"{count} parameters are more than this machine can address")
        parameters, gradient = np.zeros(count, self.dtype), np.zeros(count, self.dtype)

        self._shapes = {}
        for layer in range(self.num_layers):
            width = self.input_size if layer == 0 else directions * self.hidden_size
            for suffix in ("", "_reverse")[:directions]:
                self._shapes[f"weight_ih_l{layer}{suffix}"] = (rows, width)
                self._shapes[f"weight_hh_l{layer}{suffix}"] = (rows, self.hidden_size)
                self._shapes[f"bias_l{layer}{suffix}"] = (rows,)
        self._engine = _lstm.Engine(
            self.input_size, self.hidden_size, self.num_layers, directions, self.dtype,
            self.cell_activation, self.checkpoint or 0,
        )
        self._attach(parameters, gradient)

    def _initialise(self, rng):
        H = self.hidden_size
        for name, view in self.named_parameters().items():
            if name.startswith("weight_ih"):
                bound = np.sqrt(6 / (view.shape[1] + H))
                view[...] = rng.uniform(-bound, bound, view.shape)
            elif name.startswith("weight_hh"):
                for gate in range(4):
                    q, r = np.linalg.qr(rng.standard_normal((H, H)))
                    view[gate * H : (gate + 1) * H] = q * np.sign(np.diag(r))
            else:
                view[H : 2 * H] = 1

    def _attach(self, parameters, gradient):
        self._engine.bind(parameters, gradient)
        self._parameters, self._gradient = parameters, gradient

    # ---- parameters

    @property
    def parameters(self):
        """Flat vector of all weights, (P,). Assigning copies into it."""
        return self._parameters

    @parameters.setter
    def parameters(self, values):
        self._assign("parameters", self._parameters, values)

    @property
    def gradient(self):
        """Flat vector that `backward` adds to, (P,), in the order of `parameters`."""
        return self._gradient

    @gradient.setter
    def gradient(self, values):
        self._assign("gradient", self._gradient, values)

    @staticmethod
    def _assign(name, target, values):
        values = _lstm.as_numbers(values, name)
        if values.shape not in (target.shape, ()):
            raise ValueError(f"{name} has shape {values.shape}, expected {target.shape}")
        target[...] = values

    def _views(self, flat):
        views, start = {}, 0
        for name, shape in self._shapes.items():
            size = int(np.prod(shape))
            views[name] = flat[start : start + size].reshape(shape)
            start += size
        return views

    def named_parameters(self):
        """Return a dict of views into `parameters`, by name."""
        return self._views(self._parameters)

    def named_gradients(self):
        """Return a dict of views into `gradient`, by the names of the parameters."""
        return self._views(self._gradient)

    def _known(self, name):
        if name not in self._shapes:
            raise KeyError(f"{name!r} is not a parameter of this LSTM: {', '.join(self._shapes)}")
        return name

    def __getitem__(self, name):
        return self.named_parameters()[self._known(name)]

    def __setitem__(self, name, values):
        self._assign(name, self.named_parameters()[self._known(name)], values)

    def bind(self, parameters, gradient):
        """Move parameters and gradient into the caller's arrays, where they are used from now on.

        Parameters
        ----------
        parameters, gradient : ndarray, (P,)
            Contiguous, writable, of the LSTM's dtype; for example slices of a longer vector. They
            take over the present values.
        """
        for name, array in (("parameters", parameters), ("gradient", gradient)):
            if not isinstance(array, np.ndarray):
                raise TypeError(f"{name} is {type(array).__name__}, expected a numpy array")
            if (
                array.shape != self._parameters.shape
                or array.dtype != self.dtype
                or not array.dtype.isnative
                or not array.flags.carray
            ):
                raise ValueError(
                    f"{name} is {array.dtype} {array.shape}, expected a writable contiguous "
                    f"{self.dtype} array of shape {self._parameters.shape}"
                )
        if np.shares_memory(parameters, gradient):
            raise ValueError("parameters and gradient share memory, expected two arrays")
        values, slopes = self._parameters.copy(), self._gradient.copy()
        parameters[...], gradient[...] = values, slopes
        self._attach(parameters, gradient)

    # ---- sequences

    def __call__(self, x, state=None, *, lengths=None):
        """Run the sequences, keeping nothing.

        Parameters
        ----------
        x : array_like, (N, T, I), (T, N, I) with ``batch_first=False``, or (T, I) for one sequence
            Real numbers of any dtype and layout.
        state : (h_0, c_0), optional
            Initial states, each (L*D, N, H), (L*D, H) for one sequence; None is zeros.
        lengths : array_like of int, (N,), optional
            Steps of each sequence, 0 to T, in any order. What stands beyond is not read, and the work
            is in proportion to their sum.

        Returns
        -------
        y : ndarray, (N, T, D*H)
            Hidden states of the last layer; 0 beyond a sequence's length.
        (h_n, c_n) : ndarrays, each (L*D, N, H)
            States after each sequence's last step, layer by layer, as in PyTorch.
        """
        return self._engine.forward(
            x, _state("state", state), lengths, self.batch_first, None, get_num_threads()
        )

    def tape(self):
        """Return a new `Tape` for `forward` and `backward`."""
        return Tape(self)

    def forward(self, x, state=None, *, lengths=None, tape=None):
        """Run the sequences and record on `tape` what `backward` needs.

        Arguments and results are those of calling the LSTM. The tape keeps `x` itself, not a copy,
        where it can: do not change `x` before `backward`. A tape may be used any number of times; it
        grows for a larger batch and allocates nothing otherwise.
        """
        state = _state("state", state)
        if tape is None:
            return self._engine.forward(x, state, lengths, self.batch_first, None, get_num_threads())
        self._own(tape)
        return self._engine.forward(x, state, lengths, self.batch_first, tape._tape, get_num_threads())

    def _own(self, tape):
        if not isinstance(tape, Tape):
            raise TypeError(f"tape is {type(tape).__name__}, expected what lstm.tape() returns")
        if tape._engine is not self._engine:
            raise ValueError("tape belongs to another LSTM, expected one from this lstm.tape()")

    def backward(self, tape, dy=None, dstate=None, *, input_gradient=True):
        """Backpropagate through the recorded sequences; adds to `gradient`.

        Backpropagation through time (Werbos, 1990) of a scalar loss, with the weights that `forward`
        used. May be called again on the same tape.

        Parameters
        ----------
        tape : Tape
            From the last ``forward(..., tape=tape)``.
        dy : array_like, shape of y, optional
            Gradient of the loss with respect to y; None is zeros. Beyond a sequence's length it is
            not read.
        dstate : (dh_n, dc_n), optional
            Gradients with respect to the final states; either may be None.
        input_gradient : bool, default True
            False spares the product for dx.

        Returns
        -------
        dx : ndarray, shape of x, or None
            0 beyond a sequence's length.
        (dh_0, dc_0) : ndarrays, each (L*D, N, H)
        """
        self._own(tape)
        if not tape._tape.valid:
            raise ValueError("tape is empty, expected one that forward(..., tape=tape) has filled")
        return self._engine.backward(
            tape._tape, dy, _state("dstate", dstate), bool(input_gradient), get_num_threads()
        )

    def stream(self, batch=1):
        """Return a `Stream`: this LSTM one step at a time, with its weights as they are now."""
        return Stream(self, batch)

    # ---- as an object

    def __repr__(self):
        words = [str(self.input_size), str(self.hidden_size)]
        if self.num_layers > 1:
            words.append(f"num_layers={self.num_layers}")
        if self.bidirectional:
            words.append("bidirectional=True")
        if not self.batch_first:
            words.append("batch_first=False")
        words.append(f"dtype={self.dtype.name!r}")
        if self.cell_activation != "tanh":
            words.append(f"cell_activation={self.cell_activation!r}")
        if self.checkpoint is not None:
            words.append(f"checkpoint={self.checkpoint}")
        return f"LSTM({', '.join(words)})"

    _CONFIGURATION = (
        "input_size", "hidden_size", "num_layers", "bidirectional", "batch_first", "dtype",
        "cell_activation", "checkpoint",
    )

    def __getstate__(self):
        state = {name: getattr(self, name) for name in self._CONFIGURATION}
        return {**state, "parameters": self._parameters.copy()}

    def __setstate__(self, state):
        self._configure(**{name: state[name] for name in self._CONFIGURATION})
        self._parameters[...] = state["parameters"]


class Tape:
    """What one `LSTM.forward` leaves for `LSTM.backward`: activated gates and cell states.

    Made by `LSTM.tape`. It belongs to its LSTM and to one thread at a time. Hidden states and
    tanh(c) are computed again in backward, which costs less than keeping them.
    """

    def __init__(self, lstm):
        self._engine = lstm._engine
        self._tape = _lstm.Tape()

    @property
    def nbytes(self):
        """Bytes that the tape holds, packed weights and workspace included."""
        return self._tape.nbytes

    def __repr__(self):
        return f"<Tape: {'filled' if self._tape.valid else 'empty'}, {self.nbytes} bytes>"

    def __reduce__(self):
        raise TypeError("a Tape cannot be pickled: it holds the working memory of one computation")


class Stream:
    """An LSTM that is fed one time step at a time, and remembers its state.

    Made by `LSTM.stream`. It keeps the weights that the LSTM had then, packed once; later changes
    to the LSTM's parameters do not reach it. A step gives the same bits as the sequence does.

    Parameters
    ----------
    lstm : LSTM
        Not bidirectional: the second direction begins at the end, which a stream does not know.
    batch : int, default 1
        Sequences that advance together, N.
    """

    def __init__(self, lstm, batch=1):
        if lstm.bidirectional:
            raise ValueError("a bidirectional LSTM has no stream: its second direction begins at the end")
        self._stepper = _lstm.Stepper(lstm._engine, _size("batch", batch))
        self.step = self._stepper.step
        self._repr = repr(lstm)

    def step(self, x_t, out=None):  # replaced by the compiled method: this one holds the words
        """Advance by one time step.

        Parameters
        ----------
        x_t : array_like, (N, I), or (I,) where the batch is 1
            The input of this step.
        out : ndarray, (N, H) or (H,), optional
            Where to write h_t; contiguous, of the LSTM's dtype. With it nothing is allocated.

        Returns
        -------
        h_t : ndarray, (N, H) or (H,)
            Hidden state of the last layer: `out`, or a new array.
        """
        return self._stepper.step(x_t, out)

    @property
    def batch(self):
        """Sequences that advance together."""
        return self._stepper.batch

    @property
    def state(self):
        """(h, c), each (num_layers, N, H): copies. Assign a pair to set it."""
        return self._stepper.save()

    @state.setter
    def state(self, state):
        self.reset(state)

    def reset(self, state=None):
        """Go back to `state`, a pair (h, c) of (num_layers, N, H) arrays, or to zeros."""
        h, c = _state("state", state) or (None, None)
        self._stepper.load(h, c)

    def __repr__(self):
        return f"<Stream of {self._repr}, batch={self.batch}>"

    def __reduce__(self):
        raise TypeError("a Stream cannot be pickled: make one from the LSTM, and give it the state")
