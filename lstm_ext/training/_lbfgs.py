"""L-BFGS over a whole training set."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext import _optim
from lstm_ext._checks import count, nonnegative
from lstm_ext.training._batches import Batches
from lstm_ext.training._callback_list import CallbackList, checked_callbacks
from lstm_ext.training._history import EpochRecord, History
from lstm_ext.training._interrupt import Interrupt
from lstm_ext.training._validation import check_monitors, checked_validation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from scipy.optimize import OptimizeResult

    from lstm_ext._typing import Doubles
    from lstm_ext.callbacks import Callback, EarlyStopping
    from lstm_ext.training._protocols import Trainable

__all__ = ["fit_lbfgs"]


def fit_lbfgs(
    model: Trainable, x: npt.ArrayLike, y: npt.ArrayLike, *, max_iter: int = 200, tol: float = 1e-5,
    weight_decay: float = 0.0, memory: int = 10, batch_size: int = 256, lengths: npt.ArrayLike | None = None,
    mask: npt.ArrayLike | None = None, static: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    validation: tuple[npt.ArrayLike, ...] | dict[str, Any] | None = None,
    early_stopping: EarlyStopping | None = None,
    callbacks: Sequence[Callback | Callable[[EpochRecord], object]] = (),
    callback: Callback | Callable[[EpochRecord], object] | None = None, progress: bool = False,
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
        With ``history``, as of `Model.fit`, a record for each iteration, the loss without the penalty;
        ``success``: whether the
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
    from scipy.optimize import minimize  # slow to import, and needed by no other training

    data = model.prepare(x, y, lengths, mask=mask, static=static, sample_weight=sample_weight)
    max_iter, memory = count("max_iter", max_iter, 1), count("memory", memory, 1)
    tol, decay = nonnegative("tol", tol), nonnegative("weight_decay", weight_decay)
    validation = checked_validation(model, validation)
    check_monitors(validation, early_stopping, None)
    batches = Batches(model, data, count("batch_size", batch_size, 1), False, None)
    batches.require_sequences(batches.used.size)
    all_callbacks = checked_callbacks(early_stopping, callbacks, callback, progress)
    interrupt = Interrupt()
    history = History()
    start = time.perf_counter()
    accepted: Doubles = model.parameters.astype(np.float64)
    gradient = np.empty_like(accepted)

    def objective(theta: Doubles) -> tuple[float, Doubles]:
        model.parameters = theta
        gradient[...] = decay * theta
        total = 0.0
        for index in batches.whole():
            loss = interrupt.call(model.gradient_of, data[index])[0]
            interrupt.check()
            share = batches.weight[index].sum() / batches.total
            total += share * loss
            np.add(gradient, share * model.gradient, out=gradient)
        if not (math.isfinite(total) and math.isfinite(_optim.norm(gradient))):
            raise FloatingPointError(
                f"the loss is {total} in iteration {len(history) + 1}: look for NaN, inf or huge numbers in "
                "x and y, or give a weight_decay"
            )
        return total + 0.5 * decay * float(theta @ theta), gradient.copy()

    def iteration(intermediate_result: OptimizeResult) -> None:
        theta = intermediate_result.x
        accepted[...] = theta
        model.parameters = theta
        loss = float(intermediate_result.fun) - 0.5 * decay * float(theta @ theta)
        record: EpochRecord = {"epoch": len(history) + 1, "loss": loss}
        if validation is not None:
            record["validation_loss"] = interrupt.call(model.loss_of, validation)
        record["seconds"] = time.perf_counter() - start
        history.append(record)
        stop = early_stopping is not None and early_stopping.on_epoch_end(record)
        if called.epoch_end(record) or stop:
            raise StopIteration

    with interrupt, CallbackList(all_callbacks, model, max_iter, 0, interrupt) as called:
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
