"""The layer: `LSTM`, the `Tape` that backward needs, and the `Stream` that steps online."""

from __future__ import annotations

import math
import operator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import numpy as np

from lstm_ext import _kernels, _lstm, _missing, initializers
from lstm_ext._arrays import TapeOwner, as_floats, as_numbers
from lstm_ext._fixed import FixedFloat
from lstm_ext._jacobian import jacobian
from lstm_ext._options import (
    CONFIGURATION,
    DEFAULTS,
    as_flag,
    as_precision,
    as_size,
    checked_options,
    parameter_count,
    parameter_shapes,
    refuse_precision,
    takes_default_driver,
)
from lstm_ext._passes import Passes, SavedForBackward
from lstm_ext._threads import get_num_threads
from lstm_ext._typing import Float

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from lstm_ext._arrays import TapeOwner as _TapeOwner
    from lstm_ext._typing import Array, FloatArray
    from lstm_ext.initializers import _Init

    _State: TypeAlias = tuple[npt.NDArray[Float], npt.NDArray[Float]]
    _StateLike: TypeAlias = tuple[npt.ArrayLike | None, npt.ArrayLike | None]
    _Activation: TypeAlias = str | Sequence[str | float | None]
    _Result: TypeAlias = Literal["y", "h_n", "c_n"]
    _Input: TypeAlias = Literal["x", "h_0", "c_0", "static"]
    _Precision: TypeAlias = Literal["float32", "bfloat16x6", "bfloat16x3", "bfloat16"]
    _Single: TypeAlias = Literal["float32", "f", "f4"] | type[np.float32] | np.dtype[np.float32]
    _Double: TypeAlias = (
        Literal["float64", "d", "f8"] | type[np.float64] | type[float] | np.dtype[np.float64]
    )


def _state(name: str, state: _StateLike | None) -> _StateLike | None:
    """`state` as a pair, or None."""
    if state is None:
        return None
    if not isinstance(state, (tuple, list)):
        raise TypeError(f"{name} is {type(state).__name__}; expected a pair of arrays (h, c)")
    if len(state) != 2:
        raise ValueError(f"{name} has {len(state)} elements; expected a pair of arrays (h, c)")
    return state


def _generator(rng: int | np.random.Generator | None) -> np.random.Generator:
    """`rng` as a numpy Generator."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"rng is {rng!r}; expected None, a non-negative integer or a numpy.random.Generator"
        ) from None


def _seed(seed: int | None) -> int | None:
    """`seed` as None or an int of 64 bits."""
    if seed is None:
        return None
    try:
        if isinstance(seed, (bool, np.bool_)):
            raise TypeError
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed is {seed!r}; expected None or an integer") from None
    if not 0 <= number < 2**64:
        raise ValueError(f"seed is {number}; expected an integer from 0 to 2**64 - 1")
    return number


class LSTM(FixedFloat[Float]):
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
        Layers, L; each takes the outputs of the one below.
    bidirectional : bool, default False
        A second LSTM in each layer reads every sequence from its end, and the outputs are joined: D = 2
        directions, else 1.
    reverse : bool, default False
        Read every sequence from its end.
    batch_first : bool, default True
        Sequences are (batch, time, features); False: (time, batch, features). Neither costs a copy.
    dtype : {"float32", "float64"}, default "float32"
        dtype of all arrays. Arrays of other real dtypes are converted.
    activations : tuple of 3, default ("sigmoid", "tanh", "tanh")
        The functions of the gates, of the candidate g and on :math:`c_t`: names, or (name, alpha, beta).
        The 22 names and their equations are in ``docs/options.md``.
    cell_activation : str, optional
        The third of `activations`; "identity" gives the cell of `LstmNode`.
    peepholes : bool, default False
        The gates see the cell state: ``peephole_l0`` (3H,) times :math:`c_{t-1}` (i, f) or :math:`c_t` (o) is
        added (Gers, Schraudolph and Schmidhuber, 2002, *JMLR* 3:115).
    coupled_gates : bool, default False
        :math:`f = 1 - i` (Greff et al., 2017, *IEEE TNNLS* 28:2222). The weights of f are not used.
    cell_clip, gate_clip : float, optional
        Bounds of :math:`|c_t|`, and of the inputs of the activations of i, f, g, o (ONNX's ``clip``).
    proj_size : int, optional
        P, the features of h and y: :math:`h_t = W_{hr} (o \odot \tanh(c_t))` with ``weight_hr_l0`` (P, H)
        (Sak, Senior and Beaufays, 2014).
    bias : bool, default True
        False: no ``bias_l0``.
    layer_norm : bool, default False
        Normalize :math:`W x_t`, :math:`U h_{t-1}` and :math:`c_t`, with gains ``norm_ih_l0``, ``norm_hh_l0``
        (4H,), ``norm_c_l0`` (H,) and bias ``norm_c_bias_l0`` (Ba, Kiros and Hinton, 2016, arXiv:1607.06450;
        epsilon 1e-5).
    dropout, recurrent_dropout, weight_dropout : float, default 0
        Probabilities of dropping outputs of each layer but the last; units of :math:`h_{t-1}`, the same at
        all steps (Gal and Ghahramani, 2016); elements of ``weight_hh`` in a call (Merity, Keskar and Socher,
        2018).
    zoneout : (float, float), default (0, 0)
        Probabilities that a unit of h, of c keeps its old value (Krueger et al., 2017); in inference old and
        new values are mixed in these proportions.
    static_size : int, default 0
        S: each sequence has S numbers, ``static`` (N, S), that enter every step of the first layer through
        ``weight_static_l0`` (4H, S).
    entity_aware : bool, default False
        The static inputs alone make the first layer's input gate, with ``weight_static_l0`` (H, S) (Kratzert
        et al., 2019, *HESS* 23:5089); with `peepholes` the cell state besides.
    learn_state : bool, default False
        The initial states are parameters, ``h_0_l0`` (P or H,) and ``c_0_l0`` (H,), used where no state
        is given.
    nan : {None, "raise", "zero", "hold"}
        A NaN in x is a number like any other, which spoils its own sequence; an error; 0; the feature's last
        value in this call (in a stream: since its reset), 0 before the first.
    nan_mask : bool, default False
        With "zero" or "hold": I further inputs of the first layer, 1 where a value was missing.
    init : {None, "keras", "torch"} or dict, optional
        How weights are drawn, see `lstm_ext.initializers`. None: ``weight_ih`` glorot uniform, ``weight_hh``
        orthogonal, biases 0 and 1 for the forget gate.
    checkpoint : int or None
        Keep every `checkpoint`-th state for backward, which computes the steps between again: memory grows
        as T / checkpoint + checkpoint instead of T.
    precision : {"float32", "bfloat16x6", "bfloat16x3", "bfloat16"}, default "float32"
        What factors of matrix products may be rounded to, for speed, with dtype float32; may be set later.
        A factor becomes a sum of 3, 2 or 1 bfloat16 numbers (Henry, Tang and Heinecke, 2019,
        arXiv:1904.06376): relative errors of at most 2^-23 (as float32 itself), 3 2^-16 and 2^-7. All else
        stays float32. Where the CPU gains nothing, products are float32's (see ``lstm-ext info``).
    rng : int, numpy.random.Generator or None
        Draws the initial weights. An int makes them repeatable.

    Notes
    -----
    ``lstm.parameters`` and ``lstm.gradient`` are flat vectors; ``lstm["weight_hh_l0"]`` is a view of a
    part. Names are PyTorch's: ``weight_ih_l{k}`` (4H, I or D*H), ``weight_hh_l{k}`` (4H, H), ``bias_l{k}``
    (4H,), with ``_reverse`` for the second direction. Several threads may call one `LSTM`, each with its own
    tape, while the parameters stay as they are. Subnormal numbers count as 0 inside a call. Pickles and
    copies hold the configuration and the parameters, not the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> lstm = LSTM(3, 16, rng=0)
    >>> x = np.zeros((4, 10, 3), "float32")
    >>> y, (h_n, c_n) = lstm(x)
    >>> y.shape, h_n.shape
    ((4, 10, 16), (1, 4, 16))
    """

    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    reverse: bool
    batch_first: bool
    dtype: np.dtype[Float]
    activations: tuple[_Activation, ...]
    cell_activation: _Activation
    peepholes: bool
    coupled_gates: bool
    cell_clip: float | None
    gate_clip: float | None
    proj_size: int | None
    bias: bool
    layer_norm: bool
    dropout: float
    recurrent_dropout: float
    weight_dropout: float
    zoneout: tuple[float, ...]
    static_size: int
    entity_aware: bool
    learn_state: bool
    nan: str | None
    nan_mask: bool
    checkpoint: int | None
    _engine: _lstm.Engine
    _passes: Passes
    _shapes: Mapping[str, tuple[int, ...]]
    _parameters: npt.NDArray[Float]
    _gradient: npt.NDArray[Float]

    _fixed = frozenset(CONFIGURATION) - {"precision"}

    @overload
    def __init__(
        self: LSTM[np.float32], input_size: int, hidden_size: int, num_layers: int = 1, *,
        bidirectional: bool = False, reverse: bool = False, batch_first: bool = True,
        dtype: _Single = "float32", activations: Sequence[_Activation] = ("sigmoid", "tanh", "tanh"),
        cell_activation: _Activation | None = None, peepholes: bool = False, coupled_gates: bool = False,
        cell_clip: float | None = None, gate_clip: float | None = None, proj_size: int | None = None,
        bias: bool = True, layer_norm: bool = False, dropout: float = 0.0, recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0, zoneout: tuple[float, float] = (0.0, 0.0), static_size: int = 0,
        entity_aware: bool = False, learn_state: bool = False,
        nan: Literal["raise", "zero", "hold"] | None = None, nan_mask: bool = False, init: _Init = None,
        checkpoint: int | None = None, precision: _Precision = "float32",
        rng: int | np.random.Generator | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: LSTM[np.float64], input_size: int, hidden_size: int, num_layers: int = 1, *,
        bidirectional: bool = False, reverse: bool = False, batch_first: bool = True, dtype: _Double,
        activations: Sequence[_Activation] = ("sigmoid", "tanh", "tanh"),
        cell_activation: _Activation | None = None, peepholes: bool = False, coupled_gates: bool = False,
        cell_clip: float | None = None, gate_clip: float | None = None, proj_size: int | None = None,
        bias: bool = True, layer_norm: bool = False, dropout: float = 0.0, recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0, zoneout: tuple[float, float] = (0.0, 0.0), static_size: int = 0,
        entity_aware: bool = False, learn_state: bool = False,
        nan: Literal["raise", "zero", "hold"] | None = None, nan_mask: bool = False, init: _Init = None,
        checkpoint: int | None = None, precision: _Precision = "float32",
        rng: int | np.random.Generator | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: LSTM[np.floating[Any]], input_size: int, hidden_size: int, num_layers: int = 1, *,
        bidirectional: bool = False, reverse: bool = False, batch_first: bool = True, dtype: npt.DTypeLike,
        activations: Sequence[_Activation] = ("sigmoid", "tanh", "tanh"),
        cell_activation: _Activation | None = None, peepholes: bool = False, coupled_gates: bool = False,
        cell_clip: float | None = None, gate_clip: float | None = None, proj_size: int | None = None,
        bias: bool = True, layer_norm: bool = False, dropout: float = 0.0, recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0, zoneout: tuple[float, float] = (0.0, 0.0), static_size: int = 0,
        entity_aware: bool = False, learn_state: bool = False,
        nan: Literal["raise", "zero", "hold"] | None = None, nan_mask: bool = False, init: _Init = None,
        checkpoint: int | None = None, precision: _Precision = "float32",
        rng: int | np.random.Generator | None = None,
    ) -> None: ...
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, bidirectional: bool = False,
        reverse: bool = False, batch_first: bool = True, dtype: npt.DTypeLike = "float32",
        activations: Sequence[_Activation] = ("sigmoid", "tanh", "tanh"),
        cell_activation: _Activation | None = None, peepholes: bool = False, coupled_gates: bool = False,
        cell_clip: float | None = None, gate_clip: float | None = None, proj_size: int | None = None,
        bias: bool = True, layer_norm: bool = False, dropout: float = 0.0, recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0, zoneout: tuple[float, float] = (0.0, 0.0), static_size: int = 0,
        entity_aware: bool = False, learn_state: bool = False,
        nan: Literal["raise", "zero", "hold"] | None = None, nan_mask: bool = False, init: _Init = None,
        checkpoint: int | None = None, precision: _Precision = "float32",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        given = locals()
        self._configure(**{name: given[name] for name in CONFIGURATION})
        initializers.draw(self.named_parameters(), init, vars(self), _generator(rng))

    def _configure(self, **given: Any) -> None:
        if "input_size" in vars(self):
            raise TypeError("this LSTM has been constructed; expected a new LSTM for other sizes or options")
        options = checked_options(given)
        activations = options.pop("_activations")
        inputs = options["input_size"] * (2 if options["nan_mask"] else 1)
        count, dtype = parameter_count(options, inputs), options["dtype"]
        if count * dtype.itemsize > 2**63 - 1:
            raise MemoryError(f"{count} parameters are more than this machine can address")
        parameters, gradient = np.zeros(count, dtype), np.zeros(count, dtype)
        engine = _lstm.Engine(inputs, options, activations, not takes_default_driver(options))
        self._fix(
            **options, _activations=activations, _engine=engine, _shapes=parameter_shapes(options, inputs)
        )
        self._fix(_passes=Passes(self, engine, self._shapes))
        self.precision = options["precision"]
        self._attach(parameters, gradient)

    def _attach(self, parameters: npt.NDArray[Any], gradient: npt.NDArray[Any]) -> None:
        self._engine.bind(parameters, gradient)
        # Views: what a caller does to the shape or dtype of an array of his changes nothing here.
        self._parameters, self._gradient = parameters[:], gradient[:]

    @property
    def precision(self) -> _Precision:
        """What factors of products may be rounded to; may be set. Tapes and streams keep their own."""
        value: _Precision = vars(self)["precision"]
        return value

    @precision.setter
    def precision(self, value: _Precision) -> None:
        precision = as_precision("precision", value)
        refuse_precision(precision, self.dtype)
        pieces = _kernels.prepare(precision)
        self._fix(precision=precision)
        self._engine.pieces = pieces

    # ---- parameters

    @property
    def parameters(self) -> npt.NDArray[Float]:
        """Flat vector of all weights, (P,), a view. Assigning copies into it."""
        return self._parameters[:]

    @parameters.setter
    def parameters(self, values: npt.ArrayLike) -> None:
        self._assign("parameters", self._parameters, values)

    @property
    def gradient(self) -> npt.NDArray[Float]:
        """Flat vector that `backward` adds to, (P,), in the order of `parameters`: a view."""
        return self._gradient[:]

    @gradient.setter
    def gradient(self, values: npt.ArrayLike) -> None:
        self._assign("gradient", self._gradient, values)

    @staticmethod
    def _assign(name: str, target: FloatArray, values: npt.ArrayLike) -> None:
        array = as_numbers(values, name)
        if array.shape not in (target.shape, ()):
            raise ValueError(f"{name} has shape {array.shape}; expected {target.shape}")
        target[...] = array

    def _views(self, flat: npt.NDArray[Any]) -> dict[str, npt.NDArray[Float]]:
        views, start = {}, 0
        for name, shape in self._shapes.items():
            size = math.prod(shape)
            views[name] = flat[start : start + size].reshape(shape)
            start += size
        return views

    def named_parameters(self) -> dict[str, npt.NDArray[Float]]:
        """Return a dict of views into `parameters`, by name."""
        return self._views(self._parameters)

    def named_gradients(self) -> dict[str, npt.NDArray[Float]]:
        """Return a dict of views into `gradient`, by the names of the parameters."""
        return self._views(self._gradient)

    def _known(self, name: str) -> str:
        if name not in self._shapes:
            raise KeyError(f"{name!r} is not a parameter of this LSTM: {', '.join(self._shapes)}")
        return name

    def __getitem__(self, name: str) -> npt.NDArray[Float]:
        return self.named_parameters()[self._known(name)]

    def __setitem__(self, name: str, values: npt.ArrayLike) -> None:
        self._assign(name, self.named_parameters()[self._known(name)], values)

    def bind(self, parameters: FloatArray, gradient: FloatArray) -> None:
        """Move parameters and gradient into the caller's arrays, where they are used from now on.

        Parameters
        ----------
        parameters, gradient : ndarray, (P,)
            Contiguous, writable, of the LSTM's dtype. They take over the present values.
        """
        for name, array in (("parameters", parameters), ("gradient", gradient)):
            if not isinstance(array, np.ndarray):
                raise TypeError(f"{name} is {type(array).__name__}; expected a numpy array")
            if (
                array.shape != self._parameters.shape
                or array.dtype != self.dtype
                or not array.dtype.isnative
                or not array.flags.carray
            ):
                raise ValueError(
                    f"{name} is {array.dtype} {array.shape}; expected a writable contiguous "
                    f"{self.dtype} array of shape {self._parameters.shape}"
                )
        if np.shares_memory(parameters, gradient):
            raise ValueError("parameters and gradient share memory; expected two arrays")
        values, slopes = self._parameters.copy(), self._gradient.copy()
        parameters[...], gradient[...] = values, slopes
        self._attach(parameters, gradient)

    # ---- sequences

    @property
    def output_size(self) -> int:
        """Features of y: directions times the size of h."""
        return self._passes.directions * self._passes.out_size

    def _filled(
        self, x: npt.ArrayLike, lengths: npt.ArrayLike | None, mask: npt.ArrayLike | None
    ) -> tuple[FloatArray, _missing.Filled | None]:
        """Return x with its NaN treated by the policy `nan`, and what the gradient needs of them."""
        assert self.nan is not None
        return _missing.fill(
            x, self.nan, self.nan_mask, self.dtype, self.batch_first, self.input_size, lengths, mask
        )

    def _run(
        self, x: npt.ArrayLike, state: _StateLike | None, lengths: npt.ArrayLike | None,
        mask: npt.ArrayLike | None, static: npt.ArrayLike | None, tape: Tape | None, seed: int | None,
        gates: bool = False,
    ) -> Any:
        # At one step of a small LSTM a microsecond counts: what was not given is not looked at.
        if state is not None:
            state = _state("state", state)
        if seed is not None:
            seed = _seed(seed)
        if lengths is not None and mask is not None:
            raise ValueError("lengths and mask were given: a mask says by itself how long a sequence is")
        missing = None
        if self.nan is not None:
            x, missing = self._filled(x, lengths, mask)
        if tape is None:
            return self._pass(x, state, lengths, mask, static, None, seed, gates)
        self._check_tape(tape)
        with tape._owner as owner:
            result = self._pass(x, state, lengths, mask, static, tape._saved, seed, gates)
            owner.kind, owner.missing = "numbers", missing
        return result

    def _pass(
        self, x: npt.ArrayLike, state: _StateLike | None, lengths: npt.ArrayLike | None,
        mask: npt.ArrayLike | None, static: npt.ArrayLike | None, saved: SavedForBackward | None,
        seed: int | None, gates: bool,
    ) -> Any:
        if not self._passes.needed and static is None and seed is None and not gates:
            return self._engine.forward(
                x, state, lengths, mask, self.batch_first, None if saved is None else saved.tape,
                get_num_threads(),
            )
        result, _, values = self._passes.forward(
            self._parameters, x, state, None, lengths, mask, static, saved, seed, gates
        )
        return (*result, values) if gates else result

    def __call__(
        self, x: npt.ArrayLike, state: _StateLike | None = None, *, lengths: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None, static: npt.ArrayLike | None = None,
    ) -> tuple[npt.NDArray[Float], _State[Float]]:
        """Run the sequences, keeping nothing.

        Parameters
        ----------
        x : array_like, (N, T, I), (T, N, I) with ``batch_first=False``, or (T, I) for one sequence
            Real numbers of any dtype and layout.
        state : (h_0, c_0), optional
            Initial states, (L*D, N, P) and (L*D, N, H), (L*D, P) and (L*D, H) for one sequence; None is
            zeros, or what was learned (`learn_state`). P is `proj_size`, or H.
        lengths : array_like of int, (N,), optional
            Steps of each sequence, 0 to T, in any order. Steps beyond are not read and take no time.
        mask : array_like of bool, (N, T), optional
            True where a step counts. The others are not read and take no time; y is 0 there.
        static : array_like, (N, S)
            The static inputs, where the LSTM has a `static_size`.

        Returns
        -------
        y : ndarray, (N, T, D*P)
            Hidden states of the last layer; 0 beyond a sequence's length.
        (h_n, c_n) : ndarrays, (L*D, N, P) and (L*D, N, H)
            States after each sequence's last step, layer by layer, as in PyTorch.
        """
        if self._passes.needed or state is not None or mask is not None or static is not None:
            results: tuple[npt.NDArray[Float], _State[Float]]
            results = self._run(x, state, lengths, mask, static, None, None)
            return results
        if self.nan is not None:
            x = self._filled(x, lengths, None)[0]
        return self._engine.forward(x, None, lengths, None, self.batch_first, None, get_num_threads())

    def tape(self) -> Tape:
        """Return a new `Tape` for `forward` and `backward`."""
        return Tape(self)

    @overload
    def forward(
        self, x: npt.ArrayLike, state: _StateLike | None = None, *, lengths: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None, static: npt.ArrayLike | None = None, tape: Tape | None = None,
        seed: int | None = None, return_gates: Literal[False] = False,
    ) -> tuple[npt.NDArray[Float], _State[Float]]: ...
    @overload
    def forward(
        self, x: npt.ArrayLike, state: _StateLike | None = None, *, lengths: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None, static: npt.ArrayLike | None = None, tape: Tape | None = None,
        seed: int | None = None, return_gates: Literal[True],
    ) -> tuple[npt.NDArray[Float], _State[Float], dict[str, npt.NDArray[Float]]]: ...
    def forward(
        self, x: npt.ArrayLike, state: _StateLike | None = None, *, lengths: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None, static: npt.ArrayLike | None = None, tape: Tape | None = None,
        seed: int | None = None, return_gates: bool = False,
    ) -> Any:
        """Run the sequences and record on `tape` what `backward` needs.

        Arguments and results are those of calling the LSTM, and besides:

        Parameters
        ----------
        tape : Tape, optional
            May be used any number of times; it grows for a larger batch. It keeps `x` itself, not a copy,
            where it can: do not change `x` before `backward`.
        seed : int, optional
            Draws what dropout and zoneout drop in this call and its backward, the same for any number of
            threads (Philox4x32-10; Salmon et al., 2011). None: nothing is dropped, as in inference.
        return_gates : bool, default False
            Return the gates, too.

        Returns
        -------
        y, (h_n, c_n)
        gates : dict, with `return_gates`
            "i", "f", "g", "o" (activated) and "c", each (L*D, N, T, H), 0 where no step counts.
        """
        if return_gates is not False:
            return_gates = as_flag("return_gates", return_gates)
        return self._run(x, state, lengths, mask, static, tape, seed, return_gates)

    def jvp(
        self, x: npt.ArrayLike, dx: npt.ArrayLike | None = None, state: _StateLike | None = None,
        dstate: _StateLike | None = None, dparameters: npt.ArrayLike | None = None, *,
        lengths: npt.ArrayLike | None = None, mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None, dstatic: npt.ArrayLike | None = None, tape: Tape | None = None,
        seed: int | None = None,
    ) -> tuple[
        tuple[npt.NDArray[Float], _State[Float]], tuple[npt.NDArray[Float], _State[Float]]
    ]:
        r"""Run the sequences, and their derivative along a direction (forward mode).

        .. math:: \dot y = \frac{\partial y}{\partial x} \dot x + \frac{\partial y}{\partial (h_0, c_0)}
                  (\dot h_0, \dot c_0) + \frac{\partial y}{\partial \theta} \dot \theta

        Exact (Griewank and Walther, 2008, *Evaluating Derivatives*, ch. 3).

        Parameters
        ----------
        x, state, lengths, mask, static, seed
            As in `forward`.
        dx : array_like, shape of x, optional
            The direction in the inputs; here and below None is zeros.
        dstate : (dh_0, dc_0), optional
        dparameters : array_like, (P,), optional
            The direction in the parameters, in the order of `parameters`.
        dstatic : array_like, shape of static, optional
        tape : Tape, optional
            Records what `backward` and `backward_jvp` need.

        Returns
        -------
        (y, (h_n, c_n)), (y_dot, (h_dot, c_dot))
            The results of `forward`, and their derivatives along the direction, of the same shapes.
        """
        state, dstate, seed = _state("state", state), _state("dstate", dstate), _seed(seed)
        if lengths is not None and mask is not None:
            raise ValueError("lengths and mask were given: a mask says by itself how long a sequence is")
        if tape is not None:
            self._check_tape(tape)
        if dx is not None and np.shape(dx) != np.shape(x):
            raise ValueError(f"dx has shape {np.shape(dx)}; expected {np.shape(x)}, that of x")
        missing = None
        if self.nan is not None:
            x, missing = self._filled(x, lengths, mask)
        if missing is not None and dx is not None:
            dx = missing.tangent(as_floats(as_numbers(dx, "dx"), self.dtype))
        along = None
        if dparameters is not None:
            array = as_numbers(dparameters, "dparameters")
            if array.shape != self._parameters.shape:
                raise ValueError(f"dparameters has shape {array.shape}; expected {self._parameters.shape}")
            along = as_floats(array, self.dtype)
        direction = along, dx, dstate, dstatic
        with nullcontext() if tape is None else tape._owner as owner:
            result, tangents, _ = self._passes.forward(
                self._parameters, x, state, direction, lengths, mask, static,
                None if tape is None else tape._saved, seed, False,
            )
            if owner is not None:
                owner.kind, owner.missing = "tangents", missing
        assert tangents is not None  # a direction was given
        return result, tangents

    @overload
    def jacobian(
        self, x: npt.ArrayLike, state: _StateLike | None = None, *, of: _Result = "y", wrt: _Input = "x",
        lengths: npt.ArrayLike | None = None, mask: npt.ArrayLike | None = None,
        static: npt.ArrayLike | None = None, mode: Literal["forward", "reverse"] | None = None,
    ) -> npt.NDArray[Float]: ...
    @overload
    def jacobian(
        self, x: npt.ArrayLike, state: _StateLike | None = None, *, of: _Result | tuple[_Result, ...] = "y",
        wrt: _Input | tuple[_Input, ...] = "x", lengths: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None, static: npt.ArrayLike | None = None,
        mode: Literal["forward", "reverse"] | None = None,
    ) -> npt.NDArray[Float] | dict[tuple[_Result, _Input], npt.NDArray[Float]]: ...
    def jacobian(
        self, x: npt.ArrayLike, state: _StateLike | None = None, *, of: _Result | tuple[_Result, ...] = "y",
        wrt: _Input | tuple[_Input, ...] = "x", lengths: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None, static: npt.ArrayLike | None = None,
        mode: Literal["forward", "reverse"] | None = None,
    ) -> Any:
        r"""Compute the derivatives of each result with respect to each input, sequence by sequence.

        .. math:: J = \frac{\partial\, (y, h_n, c_n)}{\partial\, (x, h_0, c_0, s)}

        Exact (Griewank and Walther, 2008, *Evaluating Derivatives*, ch. 3). Nothing is dropped.

        Parameters
        ----------
        x, state, lengths, mask, static
            As in a call.
        of : {"y", "h_n", "c_n"} or tuple of them
            The results.
        wrt : {"x", "h_0", "c_0", "static"} or tuple of them
            The inputs. Initial states are those given, the learned ones, or zeros.
        mode : {None, "forward", "reverse"}
            None: what takes fewer steps.

        Returns
        -------
        ndarray, or dict of them by (of, wrt) where one of the two is a tuple
            (N, axes of the result, axes of the input), without N for x (T, I); for example
            (N, T, D*P, T, I) for y and x. 0 where a step does not count, or where x is NaN and `nan` is set.

        Examples
        --------
        >>> import numpy as np
        >>> LSTM(3, 16, rng=0).jacobian(np.zeros((4, 10, 3)), of="h_n").shape
        (4, 1, 16, 10, 3)
        """
        return jacobian(self, self._passes, x, state, of, wrt, lengths, mask, static, mode)

    def _check_tape(self, tape: Tape) -> None:
        if not isinstance(tape, Tape):
            raise TypeError(f"tape is {type(tape).__name__}; expected what lstm.tape() returns")
        if tape._lstm_passes is not self._passes:
            raise ValueError("tape belongs to another LSTM; expected one from this lstm.tape()")

    def backward(
        self, tape: Tape, dy: npt.ArrayLike | None = None, dstate: _StateLike | None = None, *,
        input_gradient: bool = True,
    ) -> Any:
        """Backpropagate through the recorded sequences; adds to `gradient`.

        Backpropagation through time (Werbos, 1990) of a scalar loss, with the weights that `forward`
        used. May be called again on the same tape.

        Parameters
        ----------
        tape : Tape
            From the last ``forward(..., tape=tape)``.
        dy : array_like, shape of y, optional
            Gradient of the loss with respect to y, not read beyond a sequence's length; None is zeros.
        dstate : (dh_n, dc_n), optional
            Gradients with respect to the final states; either may be None.
        input_gradient : bool, default True
            False spares the product for dx.

        Returns
        -------
        dx : ndarray, shape of x, or None
            0 beyond a sequence's length.
        (dh_0, dc_0) : ndarrays, (L*D, N, P) and (L*D, N, H)
        dstatic : ndarray, (N, S)
            With a `static_size` alone.
        """
        if dstate is not None:
            dstate = _state("dstate", dstate)
        self._check_tape(tape)
        with tape._owner as owner:
            if owner.kind is None:
                raise ValueError("tape is empty; expected one that forward(..., tape=tape) has filled")
            if not self._passes.needed:
                result = self._engine.backward(
                    tape._saved.tape, dy, dstate, bool(input_gradient), get_num_threads()
                )
                if owner.missing is None:
                    return result
                return self._unfilled(owner, result[0]), result[1]
            (dx, dstate_0, dstatic), gradient = self._passes.backward(
                tape._saved, dy, dstate, None, bool(input_gradient), 1
            )
            dx = self._unfilled(owner, dx)
            with self._passes.lock:
                self._gradient += gradient
            return (dx, dstate_0, dstatic) if self.static_size else (dx, dstate_0)

    def _unfilled(self, owner: _TapeOwner, dx: Array | None) -> Array | None:
        """Return the gradient with respect to x as it was given: with missing values."""
        return dx if dx is None or owner.missing is None else owner.missing.gradient(dx)

    def backward_jvp(
        self, tape: Tape, dy: npt.ArrayLike | None = None, dy_dot: npt.ArrayLike | None = None,
        dstate: _StateLike | None = None, dstate_dot: _StateLike | None = None, *,
        input_gradient: bool = True,
    ) -> dict[str, Any]:
        r"""Backpropagate, and the derivative of that along the direction of `jvp` (forward over reverse).

        With dy the gradient of a loss with respect to y, and dy_dot its derivative along the direction,
        ``gradient_dot`` is the loss's Hessian times the direction (Pearlmutter, 1994, *Neural Computation*
        6:147).

        Parameters
        ----------
        tape : Tape
            From ``jvp(..., tape=tape)``.
        dy, dy_dot : array_like, shape of y, optional
        dstate, dstate_dot : (dh_n, dc_n), optional
        input_gradient : bool, default True

        Returns
        -------
        dict
            "dx", "dx_dot", "dstate", "dstate_dot", with a `static_size` "dstatic", "dstatic_dot", and
            "gradient_dot" (P,). `gradient` stays as it is.
        """
        dstate, dstate_dot = _state("dstate", dstate), _state("dstate_dot", dstate_dot)
        self._check_tape(tape)
        with tape._owner as owner:
            if owner.kind != "tangents":
                raise ValueError("tape holds no tangents; expected one that jvp(..., tape=tape) has filled")
            values, gradient = self._passes.backward(
                tape._saved, dy, dstate, (dy_dot, dstate_dot), bool(input_gradient), 2
            )
            names = ("dx", "dstate", "dstatic", "dx_dot", "dstate_dot", "dstatic_dot")
            results = dict(zip(names, values, strict=True))
            for name in ("dx", "dx_dot"):
                results[name] = self._unfilled(owner, results[name])
        if not self.static_size:
            del results["dstatic"], results["dstatic_dot"]
        return {**results, "gradient_dot": gradient}

    def stream(self, batch: int = 1, static: npt.ArrayLike | None = None) -> Stream[Float]:
        """Return a `Stream`: this LSTM one step at a time, with its weights as they are now."""
        return Stream(self, batch, static)

    def _stepper(self, batch: int, static: npt.ArrayLike | None) -> _lstm.Stepper:
        return self._passes.stepper(self._parameters, batch, static)

    # ---- as an object

    def __repr__(self) -> str:
        arguments = [str(self.input_size), str(self.hidden_size)]
        for name in CONFIGURATION[2:]:
            value = getattr(self, name)
            if name == "dtype":
                arguments.append(f"dtype={value.name!r}")
            elif name == "activations":
                if value[:2] != DEFAULTS[name][:2]:
                    arguments.append(f"activations={value!r}")
            elif name == "cell_activation":
                if value != "tanh" and self.activations[:2] == DEFAULTS["activations"][:2]:
                    arguments.append(f"cell_activation={value!r}")
            elif value != DEFAULTS[name]:
                arguments.append(f"{name}={value!r}")
        return f"LSTM({', '.join(arguments)})"

    def __getstate__(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in CONFIGURATION if name != "cell_activation"}
        return {**state, "parameters": self._parameters.copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        given = {**DEFAULTS, **state}
        if "activations" in state:
            given["cell_activation"] = None
        self._configure(**{name: given[name] for name in CONFIGURATION})
        self._parameters[...] = state["parameters"]


class Tape:
    """What one `LSTM.forward` leaves for `LSTM.backward`: gates and cell states.

    Made by `LSTM.tape`. It belongs to its LSTM and to one thread at a time: a second thread gets a
    RuntimeError. What is cheap to have again (hidden states of the default cell, tanh(c)) is computed again
    in backward. A call that is refused leaves the tape as it was.
    """

    def __init__(self, lstm: LSTM) -> None:
        if not isinstance(lstm, LSTM):
            raise TypeError(f"lstm is {type(lstm).__name__}; expected an LSTM")
        self._lstm_passes = lstm._passes
        self._saved = SavedForBackward()
        self._owner = TapeOwner(self._saved.tape)

    @property
    def nbytes(self) -> int:
        """Bytes that the tape holds, packed weights and workspace included."""
        return self._saved.tape.nbytes

    def __repr__(self) -> str:
        return f"<Tape: {'empty' if self._owner.kind is None else 'filled'}, {self.nbytes} bytes>"

    def __reduce__(self) -> Any:
        raise TypeError("a Tape cannot be pickled: it holds the working memory of one computation")


class Stream(FixedFloat[Float]):
    """An LSTM that takes one time step at a time, and remembers its state.

    Made by `LSTM.stream`. It keeps the weights that the LSTM had then, packed once; later changes
    to the LSTM's parameters do not reach it. A step gives the same bits as the sequence does.

    Parameters
    ----------
    lstm : LSTM
        Neither bidirectional nor reverse: what begins at the end, a stream does not know.
    batch : int, default 1
        Sequences that advance together, N.
    static : array_like, (N, S), optional
        The static inputs, where the LSTM has a `static_size`.

    Notes
    -----
    A stream belongs to one thread at a time: a second thread gets a RuntimeError.
    """

    _stepper: _lstm.Stepper
    _online: _missing.Online | None
    _start: Sequence[FloatArray] | None

    _fixed = frozenset(("step",))

    def __init__(self, lstm: LSTM[Float], batch: int = 1, static: npt.ArrayLike | None = None) -> None:
        if not isinstance(lstm, LSTM):
            raise TypeError(f"lstm is {type(lstm).__name__}; expected an LSTM")
        if lstm.bidirectional:
            raise ValueError("a bidirectional LSTM has no stream: its second direction begins at the end")
        if lstm.reverse:
            raise ValueError("an LSTM with reverse=True has no stream: it begins at the end")
        stepper = lstm._stepper(as_size("batch", batch, most=2**31 - 1), static)
        online = start = None
        if lstm.nan is not None:
            online = _missing.Online(stepper, lstm.nan, lstm.nan_mask, lstm.dtype, lstm.input_size)
        if lstm.learn_state:
            start = lstm._passes.learned_state(lstm.parameters, stepper.batch, False)
        step = stepper.step if online is None else online.step
        self._fix(_stepper=stepper, _online=online, _start=start, step=step)
        self._repr = repr(lstm)
        self.reset()

    # Replaced by the compiled method: this one holds the docstring.
    def step(self, x_t: npt.ArrayLike, out: FloatArray | None = None) -> npt.NDArray[Float]:
        """Advance by one time step.

        Parameters
        ----------
        x_t : array_like, (N, I), or (I,) where the batch is 1
            The input of this step.
        out : ndarray, (N, P) or (P,), optional
            Where to write h_t; contiguous, of the LSTM's dtype. With it nothing is allocated.

        Returns
        -------
        h_t : ndarray, (N, P) or (P,)
            Hidden state of the last layer: `out`, or a new array.
        """
        return self._stepper.step(x_t, out)

    @property
    def batch(self) -> int:
        """Sequences that advance together."""
        return self._stepper.batch

    @property
    def state(self) -> _State[Float]:
        """(h, c), (num_layers, N, P) and (num_layers, N, H): copies. Assign a pair to set it."""
        return self._stepper.save()

    @state.setter
    def state(self, state: _StateLike) -> None:
        self.reset(state)

    def _follow(self, other: Stream[Any]) -> None:
        """Take over the state of another stream of the same LSTM, and the values that it holds for NaN."""
        h, c = other._stepper.save()
        (self._online or self._stepper).load(h, c)
        if self._online is not None and other._online is not None:
            self._online.last[...] = other._online.last

    def reset(self, state: _StateLike | None = None) -> None:
        """Go back to `state`, a pair (h, c) of arrays, or to zeros, or to the state that was learned."""
        h, c = _state("state", state) or self._start or (None, None)
        (self._online or self._stepper).load(h, c)

    def __repr__(self) -> str:
        return f"<Stream of {self._repr}, batch={self.batch}>"

    def __reduce__(self) -> Any:
        raise TypeError("a Stream cannot be pickled: make one from the LSTM, and give it the state")
