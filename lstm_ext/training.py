"""The training loop behind `Model.fit`, and L-BFGS over a whole training set."""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize

from lstm_ext import _checkpoint, _optim
from lstm_ext._checks import count, nonnegative
from lstm_ext._interrupt import Interrupt
from lstm_ext._stored import Stored, ahead, shuffled, stored
from lstm_ext.callbacks import Callback, EarlyStopping, ProgressBar
from lstm_ext.optim import Adam
from lstm_ext.schedules import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from scipy.optimize import OptimizeResult

    from lstm_ext.model import Model

__all__ = ["fit", "fit_lbfgs"]

_SMALL = 5e8  # floating-point operations that no machine needs a tenth of a second for
_POOL = 64  # mini-batches that are sorted by length together


def fit(
    model: Model, x: npt.ArrayLike, y: npt.ArrayLike, *, epochs: int, batch_size: int = 32,
    lengths: npt.ArrayLike | None = None, mask: npt.ArrayLike | None = None,
    static: npt.ArrayLike | None = None, sample_weight: npt.ArrayLike | None = None, optimizer: Any = None,
    schedule: Schedule | None = None, rng: int | np.random.Generator | None = None,
    validation: tuple[npt.ArrayLike, ...] | dict[str, Any] | None = None,
    early_stopping: EarlyStopping | None = None,
    callbacks: Sequence[Callback | Callable[[dict[str, Any]], object]] = (),
    callback: Callback | Callable[[dict[str, Any]], object] | None = None, progress: bool = False,
    bucket: bool = False, bptt: int | None = None, checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1, resume: bool = False, comm: Any = None,
) -> list[dict[str, Any]]:
    """Train a `Model` on mini-batches: this is `Model.fit`, which see."""
    if comm is None:
        team = _Alone()
    else:
        from lstm_ext.distributed import team_of  # which stands above this module

        team = team_of(comm)
    with team.agreed():
        data = model._checked(
            stored(x), y, lengths, mask=mask, static=static, sample_weight=sample_weight
        )
        epochs = count("epochs", epochs, 0)
        validation = _validation(model, validation, alone=comm is None)
        optimizer = Adam() if optimizer is None else optimizer
        if not hasattr(optimizer, "step"):
            raise TypeError(f"optimizer must have step(parameters, gradient), got {optimizer!r}")
        if schedule is not None:
            if not isinstance(schedule, Schedule):
                raise TypeError(f"schedule must be one of lstm_ext.schedules, got {schedule!r}")
            if not hasattr(optimizer, "lr"):
                raise TypeError(f"schedule was given, and the optimizer has no lr: {optimizer!r}")
        _check_monitors(validation, early_stopping, schedule)
        rng = np.random.default_rng(rng)
        batches = team.batches(model, data, count("batch_size", batch_size, 1), bool(bucket), bptt)
        watchers = _watchers(early_stopping, callbacks, callback, progress and team.first)
        checkpoint_every = count("checkpoint_every", checkpoint_every, 1)
        if checkpoint is None and resume:
            raise ValueError("resume is True, and no checkpoint was given to go on from")
        if (checkpoint is not None or comm is not None) and not hasattr(optimizer, "state"):
            raise TypeError(f"a checkpoint or comm needs an optimizer with a state, got {optimizer!r}")
        if checkpoint is not None and team.first:
            folder = os.path.dirname(os.path.abspath(checkpoint))
            if not os.path.isdir(folder):
                raise FileNotFoundError(f"checkpoint is {checkpoint!s}, and there is no folder {folder}")
    team.alike(
        epochs=epochs, validation=validation is not None, checkpoint=checkpoint is not None,
        checkpoint_every=checkpoint_every,
    )
    sequences = team.meet(data, batches)  # how many they hold together

    settings = {
        "model": _words(model), "optimizer": _words(optimizer), "schedule": _words(schedule),
        "batch_size": batches.size, "bucket": batches.bucket, "bptt": batches.bptt,
        "block": team.block, "x": [sequences, *data.x.shape[1:]], "y": [sequences, *data.y.shape[1:]],
    }
    state = (model, settings, rng, optimizer, schedule, early_stopping)
    history: list[dict[str, Any]] = []
    with team.agreed():
        if team.first and resume and checkpoint is not None and os.path.exists(checkpoint):
            history = _checkpoint.load(checkpoint, *state)
    history = team.share(state, history)
    if schedule is not None and not history:
        schedule.begin()
    run = team.run(model, data, batches, optimizer, schedule, rng)

    def after(record):
        if validation is not None:
            record["validation_loss"] = run.evaluate(validation)
        record |= run.spent()
        history.append(record)
        if schedule is not None:
            schedule.observe(record)

    def save():
        with team.agreed():
            if team.first:
                _checkpoint.save(checkpoint, *state, history)

    done = saved = len(history)
    with run.interrupt, _Watched(watchers, model, epochs, done, run.interrupt) as watched:
        stop = early_stopping is not None and done > 0 and early_stopping.done
        try:
            while len(history) < epochs and not stop:
                after(run.epoch(len(history) + 1, watched))
                stop = early_stopping is not None and early_stopping.on_epoch_end(history[-1])
                if checkpoint is not None and (stop or len(history) % checkpoint_every == 0):
                    save()
                    saved = len(history)
                stop = team.any(watched.epoch_end, history[-1]) or stop
            if checkpoint is not None and saved < len(history):
                save()
        finally:
            run.put_back()
    return history


def fit_lbfgs(
    model: Model, x: npt.ArrayLike, y: npt.ArrayLike, *, max_iter: int = 200, tol: float = 1e-5,
    weight_decay: float = 0.0, memory: int = 10, batch_size: int = 256, lengths: npt.ArrayLike | None = None,
    mask: npt.ArrayLike | None = None, static: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    validation: tuple[npt.ArrayLike, ...] | dict[str, Any] | None = None,
    early_stopping: EarlyStopping | None = None,
    callbacks: Sequence[Callback | Callable[[dict[str, Any]], object]] = (),
    callback: Callback | Callable[[dict[str, Any]], object] | None = None, progress: bool = False,
) -> OptimizeResult:
    r"""Train a `Model` on the whole training set at once, by SciPy's L-BFGS-B.

    .. math:: \min_\theta L(\theta) + \frac{\lambda}{2} \lVert \theta \rVert^2

    R. H. Byrd, P. Lu, J. Nocedal, C. Zhu, "A limited memory algorithm for bound constrained
    optimization", SIAM J. Sci. Comput. 16(5), 1995. Losses and gradients are exact and added up in
    float64; with a float64 LSTM the line search can follow them further down. Dropout and zoneout
    are off.

    Parameters
    ----------
    model : Model
    x, y, lengths, mask, static, sample_weight
        The training set, as in `Model.loss_and_gradient`.
    max_iter : int
        Most iterations.
    tol : float
        The training ends where no element of the gradient is larger.
    weight_decay : float
        :math:`\lambda`.
    memory : int
        Pairs of steps and gradients that approximate the Hessian.
    batch_size : int
        Sequences that are in memory at once. The result does not depend on it but for rounding.
    validation, early_stopping, callbacks, callback, progress
        As in `Model.fit`, once for every iteration.

    Returns
    -------
    scipy.optimize.OptimizeResult
        With ``history``, a list of records as of `Model.fit`, ``{"epoch", "loss", ["validation_loss"],
        "seconds"}``, one for each iteration, the loss without the penalty; ``success``: whether the
        gradient became small or the loss did not fall any further; ``message``, ``nit``, ``nfev``. The
        parameters are those of the last iteration, or with `early_stopping` the best.

    Raises
    ------
    TypeError, ValueError
        If anything does not fit; nothing has been changed.
    FloatingPointError
        If a loss is NaN or infinite.
    KeyboardInterrupt
        Ctrl-C. After this and the other error the parameters are those of the last iteration.
    """
    data = model._checked(x, y, lengths, mask=mask, static=static, sample_weight=sample_weight)
    max_iter, memory = count("max_iter", max_iter, 1), count("memory", memory, 1)
    tol, decay = nonnegative("tol", tol), nonnegative("weight_decay", weight_decay)
    validation = _validation(model, validation)
    _check_monitors(validation, early_stopping, None)
    batches = _Batches(model, data, count("batch_size", batch_size, 1), False, None)
    batches.refuse_nothing(batches.used.size)
    watchers = _watchers(early_stopping, callbacks, callback, progress)
    interrupt = Interrupt()
    history: list[dict[str, Any]] = []
    start = time.perf_counter()
    accepted = model.parameters.astype(np.float64)
    gradient = np.empty_like(accepted)

    def objective(theta):
        model.parameters = theta
        gradient[...] = decay * theta
        total = 0.0
        for index in batches.whole():
            loss = interrupt.call(model._loss_and_gradient, data[index])[0]
            interrupt.check()
            share = batches.weight[index].sum() / batches.total
            total += share * loss
            np.add(gradient, share * model._gradient, out=gradient)
        if not (math.isfinite(total) and math.isfinite(_optim.norm(gradient))):
            raise FloatingPointError(
                f"the loss is {total} in iteration {len(history) + 1}: look for NaN, inf or huge numbers in "
                "x and y, or give a weight_decay"
            )
        return total + 0.5 * decay * float(theta @ theta), gradient.copy()

    def iteration(intermediate_result):
        theta = intermediate_result.x
        accepted[...] = theta
        model.parameters = theta
        loss = float(intermediate_result.fun) - 0.5 * decay * float(theta @ theta)
        record = {"epoch": len(history) + 1, "loss": loss}
        if validation is not None:
            record["validation_loss"] = interrupt.call(model._evaluate, validation)
        record["seconds"] = time.perf_counter() - start
        history.append(record)
        stop = early_stopping is not None and early_stopping.on_epoch_end(record)
        if watched.epoch_end(record) or stop:
            raise StopIteration

    with interrupt, _Watched(watchers, model, max_iter, 0, interrupt) as watched:
        try:
            result = minimize(
                objective, accepted.copy(), jac=True, method="L-BFGS-B", callback=iteration,
                options={
                    "maxiter": max_iter, "maxfun": 20 * max_iter, "gtol": tol, "ftol": 1e-14,
                    "maxcor": memory,
                },
            )
        finally:
            model.parameters = accepted
    result.history = history
    return result


class _Alone:
    """What a training asks of those who share it, where nobody does: see `distributed.DataParallel`."""

    first, block = True, None

    def agreed(self):
        return contextlib.nullcontext()

    def batches(self, *arguments):
        return _Batches(*arguments)

    def alike(self, **words):
        pass

    def meet(self, data, batches):
        batches.refuse_nothing(batches.used.size)
        return len(data.x)

    def share(self, state, history):
        return history

    def run(self, *arguments):
        return _Run(*arguments)

    def any(self, function, record):
        return function(record)


class _Run:
    """A training under way: steps and epochs, and the clock."""

    def __init__(self, model, data, batches, optimizer, schedule, rng):
        self.model, self.data, self.batches = model, data, batches
        self.optimizer, self.schedule, self.rng = optimizer, schedule, rng
        work = 6 * model.parameters.size * min(batches.size, len(data.x)) * data.x.shape[1]
        self.interrupt = Interrupt(long=work > _SMALL)
        self.lr = getattr(optimizer, "lr", None)
        self.before = np.empty_like(model.parameters)
        self.clock = time.perf_counter()

    def put_back(self):
        """Give the optimiser the lr that it came with."""
        if self.schedule is not None:
            self.optimizer.lr = self.lr

    def spent(self):
        """Return what a record says of the epoch besides losses."""
        start, self.clock = self.clock, time.perf_counter()
        lr = {} if self.lr is None else {"lr": self.optimizer.lr}
        return lr | {"seconds": self.clock - start}

    def epoch(self, epoch, watched):
        """Make the steps of an epoch; return its record."""
        order = self.batches.draw(self.rng)
        draws = self.model._regularised
        total = weight = 0.0
        for done, windows in enumerate(self.batches.read(order)):
            state = loss = None
            for part, (data, counts) in enumerate(windows):
                if self.schedule is not None:
                    share = (done + part / len(windows)) / len(order)
                    self.optimizer.lr = self.lr * self.schedule.factor(epoch - 1 + share)
                seed = int(self.rng.integers(2**63)) if draws else None
                value, counts, state = self.step(data, counts, seed, state, epoch)
                if counts:
                    loss = value
                    total += loss * counts
                    weight += counts
                if part + 1 < len(windows):  # each window is a step of its own
                    self.check()
            if loss is not None:  # a mini-batch of ranks with few sequences may be empty
                watched.batch_end(epoch, (done + 1) / len(order), loss)
            self.check()
        return {"epoch": epoch, "loss": total / weight}

    def evaluate(self, data):
        """Return the loss of the validation set."""
        return self.interrupt.call(self.model._evaluate, data)

    def check(self):
        """Let a Ctrl-C through that has come."""
        self.interrupt.check()

    def step(self, data, counts, seed, state, epoch):
        """Make one step on data that count so much; return the loss before it, counts, final states."""
        if not counts:  # a window that only carries the states on
            return None, counts, self.interrupt.call(self._carry, data, seed, state)
        loss, state = self.interrupt.call(self.model._loss_and_gradient, data, seed, state)
        self.update(loss, data, epoch)
        return loss, counts, state

    def _carry(self, data, seed, state):
        return self.model.lstm.forward(data.x, state, seed=seed, **data.words)[1]

    def update(self, loss, data, epoch):
        """Let the optimiser make a step along the model's gradient.

        Every decision reads the loss and the gradient, which are sums divided by the sum of the weights:
        where several processes share a mini-batch, those are what they have added up before.
        """
        if not math.isfinite(loss):
            raise FloatingPointError(self._diverged(f"the loss is {loss}", data, epoch))
        parameters, gradient = self.model._parameters, self.model._gradient
        if not math.isfinite(_optim.norm(gradient)):
            raise FloatingPointError(self._diverged("the gradient holds NaN or inf", data, epoch))
        np.copyto(self.before, parameters)
        self.optimizer.step(parameters, gradient)
        if not math.isfinite(_optim.norm(parameters)):
            np.copyto(parameters, self.before)
            raise FloatingPointError(self._diverged("the step leads to NaN or inf", data, epoch))

    def _diverged(self, what, data, epoch):
        """Say what happened, and what to change; `data`: the mini-batch, None where others share it."""
        counted = None if data is None else data.counted
        weights = None if data is None else data.weights(self.model.every_step)
        for name, array in () if data is None else (("x", data.x), ("y", data.y)):
            spoiled = ~np.isfinite(array)
            if counted is not None and array.shape[:2] == counted.shape and array.ndim == 3:
                spoiled &= counted[..., None]
            if name == "y" and weights is not None and spoiled.shape[: weights.ndim] == weights.shape:
                spoiled &= (weights != 0).reshape(weights.shape + (1,) * (spoiled.ndim - weights.ndim))
            if spoiled.any() and not (name == "x" and self.model.lstm.nan):
                return (
                    f"{what} in epoch {epoch}: {name} holds NaN or inf in {spoiled.any(axis=-1).sum()} "
                    "places of this mini-batch. Leave them out, fill them, or see LSTM(nan=...)"
                )
        advice = ["look for huge numbers in x and y, and scale them"]
        lr, max_norm = getattr(self.optimizer, "lr", None), getattr(self.optimizer, "max_norm", None)
        if lr is not None:
            advice.append(f"give the optimizer a smaller lr (it is {lr:g}: try {lr / 10:g})")
            advice.append(f"or a max_norm {'(try 1)' if max_norm is None else f'below {max_norm:g}'}")
        return f"{what} in epoch {epoch}: {', '.join(advice)}"


class _Batches:
    """Which sequences go into which mini-batch, and what each counts."""

    def __init__(self, model, data, size, bucket, bptt):
        self.data, self.size, self.bucket, self.bptt = data, size, bucket, bptt
        self.every_step = model.every_step
        n = len(data.x)
        weights = data.weights(self.every_step)
        # What a sequence weighs in the epoch's mean. Sequences without a step that counts are left
        # out: a mini-batch of nothing else would have no loss.
        self.weight = np.ones(n)
        if weights is not None:
            self.weight = weights.sum(axis=tuple(range(1, weights.ndim)), dtype=np.float64)
        if self.every_step and not data.x.shape[1]:
            self.weight[:] = 0.0
        self.used = np.flatnonzero(self.weight)
        self.total = self.weight.sum()
        if bucket:
            if data.lengths is None and data.mask is None:
                raise ValueError("bucket is True, and neither lengths nor a mask say how long sequences are")
            self.lengths = data.mask.sum(axis=1) if data.lengths is None else data.lengths
        if bptt is not None:
            self.bptt = count("bptt", bptt, 1)
            lstm = model.lstm
            for wrong, why in (
                (not model.every_step, "every_step is False: only the last window would have a loss"),
                (lstm.bidirectional, "the LSTM is bidirectional: its second direction begins at the end"),
                (lstm.reverse, "the LSTM has reverse=True: it begins at the end"),
                (lstm.nan == "hold", "the LSTM has nan='hold': what is held would end with a window"),
            ):
                if wrong:
                    raise ValueError(f"bptt is {bptt}, and {why}")

    @staticmethod
    def refuse_nothing(sequences):
        if not sequences:
            raise ValueError(
                "x holds no sequence to learn from: there is none, or all lengths, masks or weights are 0"
            )

    def draw(self, rng):
        """Draw the mini-batches of an epoch: a list of indices."""
        order = self._shuffled(self.used, rng)
        if self.bucket:
            pool = _POOL * self.size
            for start in range(0, order.size, pool):
                part = order[start : start + pool]
                order[start : start + pool] = part[np.argsort(self.lengths[part], kind="stable")]
        order = self._cut(order)
        return [order[k] for k in rng.permutation(len(order))] if self.bucket else order

    def _shuffled(self, used, rng):
        rows = self.data.x.rows if isinstance(self.data.x, Stored) else 1
        return shuffled(used, rows, rng)

    def read(self, order):
        """Yield the mini-batches, as `windows` returns them; what is on the disk is read ahead."""
        windows = map(self.windows, order)
        return ahead(windows) if isinstance(self.data.x, Stored) else windows

    def whole(self):
        """All sequences that count, in their order."""
        return self._cut(self.used)

    def _cut(self, order):
        return [order[start : start + self.size] for start in range(0, order.size, self.size)]

    def windows(self, index):
        """Return a mini-batch as pairs of data and their weight: one pair, or the windows of `bptt`."""
        data = self.data
        if data.lengths is not None:
            # Beyond the longest sequence there is nothing to gather.
            data = data.steps(0, int(data.lengths[index].max()), self.every_step)
        if self.bptt is None:
            return [(data[index], float(self.weight[index].sum()))]
        parts = []
        for start in range(0, data.x.shape[1], self.bptt):
            part = data.steps(start, min(start + self.bptt, data.x.shape[1]), True)[index]
            weights = part.weights(True)
            parts.append((part, float(part.x[..., 0].size if weights is None else weights.sum())))
        return parts


class _Watched:
    """All callbacks of a training, within its ``with`` block."""

    def __init__(self, watchers, model, epochs, done, interrupt):
        self.watchers, self.begin, self.interrupt = watchers, (model, epochs, done), interrupt
        self.on_batch = [w for w in watchers if type(w).on_batch_end is not Callback.on_batch_end]

    def __enter__(self):
        with contextlib.ExitStack() as ends:  # each is called, whatever the others raise
            for watcher in self.watchers:
                ends.callback(watcher.on_fit_end)
                watcher.on_fit_begin(*self.begin)
            self.ends = ends.pop_all()
        return self

    def __exit__(self, *error):
        return self.ends.__exit__(*error)

    def batch_end(self, epoch, share, loss):
        for watcher in self.on_batch:
            watcher.on_batch_end(epoch, share, loss)

    def epoch_end(self, record):
        """Return whether one of them wants the training to end; early stopping has been asked before."""
        with self.interrupt.at_once():
            answers = [
                w.on_epoch_end(record) for w in self.watchers if not isinstance(w, EarlyStopping)
            ]
        return any(answer is True for answer in answers)


class _Function(Callback):
    """A callable in the place of a `Callback`."""

    def __init__(self, function):
        self.function = function

    def on_epoch_end(self, record):
        return self.function(record)


def _watchers(early_stopping, callbacks, callback, progress):
    if early_stopping is not None and not isinstance(early_stopping, EarlyStopping):
        raise TypeError(f"early_stopping must be an EarlyStopping, got {early_stopping!r}")
    if callable(callbacks) or isinstance(callbacks, Callback):
        raise TypeError(f"callbacks must be a sequence of callbacks, got {callbacks!r}: give callback=")
    watchers = []
    for watcher in (*callbacks, *(() if callback is None else (callback,))):
        if isinstance(watcher, EarlyStopping):
            raise TypeError("an EarlyStopping among the callbacks: give it as early_stopping=")
        if not isinstance(watcher, Callback):
            if not callable(watcher):
                raise TypeError(f"callbacks must be callable or a Callback, got {watcher!r}")
            watcher = _Function(watcher)
        watchers.append(watcher)
    if progress:
        watchers.append(ProgressBar())
    # The last to begin and the first to end: the others see the best parameters.
    return watchers if early_stopping is None else [*watchers, early_stopping]


def _words(part):
    """Return what `part` says it is, without the address that Python gives to what says nothing."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(part))


def _validation(model, validation, alone=True):
    """Return the validation set, checked; where several share it, this part of it may be empty."""
    if validation is None:
        return None
    words = ("x", "y", "lengths", "mask", "static", "sample_weight")
    if isinstance(validation, tuple | list) and len(validation) in (2, 3):
        validation = dict(zip(words, validation, strict=False))
    if not isinstance(validation, dict):
        raise TypeError("validation must be a tuple (x, y) or (x, y, lengths), or a dict")
    unknown = set(validation) - set(words)
    if unknown or not {"x", "y"} <= set(validation):
        others = ", ".join(words[2:])
        raise TypeError(f"validation has {sorted(validation)}, expected x, y and some of {others}")
    try:
        data = model._checked(**validation)
        weights = data.weights(model.every_step)
        steps = data.x.shape[1] if model.every_step else 1
        if alone and not (len(data.x) * steps if weights is None else weights.any()):
            raise ValueError("there is nothing to average over: no element counts")
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation: {error}") from error
    return data


def _check_monitors(validation, early_stopping, schedule):
    """Refuse to wait for a loss that nobody will measure."""
    watching = [early_stopping]
    parts = [schedule]
    for part in parts:
        parts.extend(getattr(part, "parts", ()))
    watching += parts
    if validation is None and any(getattr(w, "monitor", None) == "validation_loss" for w in watching):
        raise ValueError("monitor is 'validation_loss', and the training has no validation")
