"""Training callbacks: the hooks, early stopping, the progress bar."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from lstm_ext._checks import count, nonnegative
from lstm_ext.schedules import check_monitor, monitored

if TYPE_CHECKING:
    from lstm_ext._typing import FloatArray
    from lstm_ext.model import Model
    from lstm_ext.training import EpochRecord, Trainable

    _Monitor = Literal["validation_loss", "loss"]

__all__ = ["Callback", "EarlyStopping", "ProgressBar"]


class Callback:
    """Hooks of a training, each of which does nothing here."""

    def on_fit_begin(self, model: Model, epochs: int, done: int) -> None:
        """Before the first step: of a training of so many epochs, of which `done` were done before."""

    def on_batch_end(self, epoch: int, share: float, loss: float) -> None:
        """After every mini-batch: `share` of the epoch's are done, 0 to 1; its loss, or its last window's."""

    def on_epoch_end(self, record: EpochRecord) -> object:
        """After every epoch, with its record; training ends early where it returns True."""

    def on_fit_end(self) -> None:
        """After the last step, also where an error or Ctrl-C ended the training."""


class EarlyStopping(Callback):
    """End a training when a loss has not fallen for `patience` epochs.

    L. Prechelt, "Early Stopping - But When?", in *Neural Networks: Tricks of the Trade*, 1998.

    Parameters
    ----------
    patience : int
        Epochs without a better loss before the end, at least 1.
    min_delta : float
        How much lower a loss must be to be better.
    monitor : {None, "validation_loss", "loss"}
        None: the validation loss where there is one, else the loss. That is a mean over the epoch: the
        parameters at its end are a little ahead of it.
    restore_best : bool
        Give the model the parameters of its best epoch, however the training ends.

    Attributes
    ----------
    best : float
        The lowest loss; inf before the first epoch.
    best_epoch : int
        Its epoch; 0 before the first.
    """

    patience: int
    min_delta: float
    monitor: _Monitor | None
    restore_best: bool
    best: float
    best_epoch: int
    last_epoch: int

    def __init__(
        self, patience: int = 10, min_delta: float = 0.0, monitor: _Monitor | None = None,
        restore_best: bool = True,
    ) -> None:
        self.patience, self.min_delta = count("patience", patience, 1), nonnegative("min_delta", min_delta)
        self.monitor, self.restore_best = check_monitor(monitor), bool(restore_best)
        self._start()

    def _start(self) -> None:
        self.best, self.best_epoch, self.last_epoch = math.inf, 0, 0
        self._model: Trainable | None = None
        self._parameters: FloatArray | None = None

    def __repr__(self) -> str:
        return (
            f"EarlyStopping(patience={self.patience}, min_delta={self.min_delta}, "
            f"monitor={self.monitor!r}, restore_best={self.restore_best})"
        )

    @property
    def done(self) -> bool:
        """Whether the training has to end."""
        return self.last_epoch - self.best_epoch >= self.patience

    def on_fit_begin(self, model: Any, epochs: int, done: int) -> None:
        """Forget an earlier training, but not that which is resumed."""
        if not done:
            self._start()
        self._model = model

    def on_epoch_end(self, record: EpochRecord) -> bool | None:
        """Compare the epoch's loss; keep the parameters if it is the best."""
        loss, self.last_epoch = monitored(self.monitor, record), record["epoch"]
        loss = loss if math.isfinite(loss) else math.inf
        if loss < self.best - self.min_delta or not self.best_epoch:
            self.best, self.best_epoch = loss, self.last_epoch
            if self.restore_best and self._model is not None:
                self._parameters = self._model.parameters.copy()
        return self.done

    def saved(self) -> tuple[dict[str, Any], FloatArray | None]:
        """Return what a checkpoint keeps: a dict of numbers, and the best parameters or None."""
        state = {"best": self.best, "best_epoch": self.best_epoch, "last_epoch": self.last_epoch}
        return state, self._parameters

    def restore(self, state: dict[str, Any] | None, parameters: FloatArray | None) -> None:
        """Take back what `saved` returned; of None, which is no state, nothing is best."""
        if state is None:
            self._start()
            return
        self.best, self.best_epoch, self.last_epoch = (
            state[name] for name in ("best", "best_epoch", "last_epoch")
        )
        self._parameters = parameters

    def on_fit_end(self) -> None:
        """Give the model its best parameters."""
        if self.restore_best and self._parameters is not None and self._model is not None:
            self._model.parameters = self._parameters
        self._model = None


class ProgressBar(Callback):
    """A bar of tqdm's over the epochs, with the loss and the remaining time.

    Parameters
    ----------
    **options
        Go to ``tqdm.auto.tqdm``, for example ``desc`` or ``file``; in a notebook the bar is a widget.
    """

    def __init__(self, **options: Any) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ImportError(
                "the progress bar needs tqdm: pip install tqdm, or give progress=False"
            ) from None
        self._tqdm: Any = tqdm
        self._bar: Any = None
        self._options = options

    def on_fit_begin(self, model: Any, epochs: int, done: int) -> None:
        """Draw the bar."""
        form = "{desc}{percentage:3.0f}%|{bar}| epoch {n:.1f}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
        self._bar = self._tqdm(total=epochs, initial=done, **{"bar_format": form, **self._options})
        self._epoch_losses: str | None = None

    def on_batch_end(self, epoch: int, share: float, loss: float) -> None:
        """Move the bar; the loss is the last whole epoch's, in the first that of the mini-batch."""
        if self._epoch_losses is None:
            self._bar.set_postfix_str(f"loss={loss:.4g}", refresh=False)
        self._bar.update(epoch - 1 + share - self._bar.n)

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Show the epoch's losses."""
        self._epoch_losses = f"loss={record['loss']:.4g}"
        if "validation_loss" in record:
            self._epoch_losses += f", validation_loss={record['validation_loss']:.4g}"
        self._bar.set_postfix_str(self._epoch_losses, refresh=False)
        self._bar.update(record["epoch"] - self._bar.n)

    def on_fit_end(self) -> None:
        """Leave the bar where it is."""
        if self._bar is not None:
            self._bar.close()
