"""Mini-batches: which sequences go into which, and what each counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext._checks import count
from lstm_ext.training._stored import Stored, ahead, shuffled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lstm_ext._typing import Array
    from lstm_ext.training._data import SequenceData
    from lstm_ext.training._protocols import Trainable

POOL = 64  # mini-batches that are sorted by length together


class Batches:
    """Which sequences go into which mini-batch, and what each counts."""

    data: SequenceData
    size: int
    bucket: bool
    bptt: int | None
    every_step: bool
    lengths: Array  # where `bucket`
    used: Array  # sequences that count
    total: float  # what they weigh

    def __init__(
        self, model: Trainable, data: SequenceData, size: int, bucket: bool, bptt: int | None
    ) -> None:
        self.data, self.size, self.bucket, self.bptt = data, size, bucket, bptt
        self.every_step = model.every_step
        n = len(data.x)
        weights = data.weights(self.every_step)
        # What a sequence weighs in the epoch's mean. Sequences without a step that counts are left
        # out: a mini-batch of nothing else would have no loss.
        self.weight: Array = np.ones(n)
        if weights is not None:
            self.weight = weights.sum(axis=tuple(range(1, weights.ndim)), dtype=np.float64)
        if self.every_step and not data.x.shape[1]:
            self.weight[:] = 0.0
        self.used = np.flatnonzero(self.weight)
        self.total = float(self.weight.sum())
        if bucket:
            if data.lengths is not None:
                self.lengths = data.lengths
            elif data.mask is not None:
                self.lengths = data.mask.sum(axis=1)
            else:
                raise ValueError("bucket is True, and neither lengths nor a mask say how long sequences are")
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
    def require_sequences(sequences: int) -> None:
        """Raise ValueError where there is nothing to learn from."""
        if not sequences:
            raise ValueError(
                "x holds no sequence to learn from: there is none, or all lengths, masks or weights are 0"
            )

    def draw(self, rng: np.random.Generator) -> list[Array]:
        """Draw the mini-batches of an epoch: a list of indices."""
        order = self.shuffled(self.used, rng)
        if self.bucket:
            pool = POOL * self.size
            for start in range(0, order.size, pool):
                part = order[start : start + pool]
                order[start : start + pool] = part[np.argsort(self.lengths[part], kind="stable")]
        batches = self._cut(order)
        return [batches[k] for k in rng.permutation(len(batches))] if self.bucket else batches

    def shuffled(self, used: Array, rng: np.random.Generator) -> Array:
        """Return the sequences `used` in an order that reads few blocks of a source at a time."""
        rows = self.data.x.rows if isinstance(self.data.x, Stored) else 1
        return shuffled(used, rows, rng)

    def read(self, order: list[Array]) -> Iterator[list[tuple[Any, Any]]]:
        """Yield the mini-batches, as `windows` returns them; what is on the disk is read ahead."""
        windows = map(self.windows, order)
        return ahead(windows) if isinstance(self.data.x, Stored) else windows

    def whole(self) -> list[Array]:
        """All sequences that count, in their order."""
        return self._cut(self.used)

    def _cut(self, order: Array) -> list[Array]:
        return [order[start : start + self.size] for start in range(0, order.size, self.size)]

    def windows(self, index: Array) -> list[tuple[Any, Any]]:
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
