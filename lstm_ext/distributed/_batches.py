"""Mini-batches that ranks share."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext.training import POOL, Batches

if TYPE_CHECKING:
    from lstm_ext._typing import Array
    from lstm_ext.distributed._group import DataParallel
    from lstm_ext.training import SequenceData


class _ShardedBatches(Batches):
    """Mini-batches of which each rank has a part: a list of numbered blocks, mostly one."""

    def __init__(self, group: DataParallel, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.group = group

    def _blocks(self, index: Array) -> list[tuple[int, Array]]:
        """Cut a mini-batch, or what this rank has of it, into this rank's numbered blocks."""
        return [(self.group.rank, index)]

    def number_of_blocks(self, index: Array) -> int:
        """How many blocks the mini-batch has on all ranks together."""
        return self.group.size

    def windows(self, index: Array) -> list[tuple[Any, Any]]:
        """Return this rank's part as pairs of blocks and how many there are in all.

        An error, of a file that cannot be read, stands in the place of the blocks: `step` tells the others.
        """
        try:
            return self._windows(index)
        except Exception as error:
            return [(error, self.number_of_blocks(index))]

    def _windows(self, index: Array) -> list[tuple[Any, Any]]:
        data, total = self.data, self.number_of_blocks(index)
        blocks = [(number, part, self._trimmed(part)) for number, part in self._blocks(index)]
        if self.bptt is None:
            return [([(number, source[part]) for number, part, source in blocks], total)]
        # All ranks make the same number of windows.
        ends = range(self.bptt, data.x.shape[1] + self.bptt, self.bptt)
        return [
            ([(number, data.steps(end - self.bptt, min(end, data.x.shape[1]), True)[part])
              for number, part, _ in blocks], total)
            for end in ends
        ]

    def _trimmed(self, index: Array) -> SequenceData:
        lengths = self.data.lengths
        if lengths is None or not len(index):
            return self.data
        return self.data.steps(0, int(lengths[index].max()), self.every_step)


class CutBatches(_ShardedBatches):
    """All ranks draw the same mini-batches, and each takes its part."""

    def join(self) -> None:
        """Raise ValueError on all ranks if there is nothing to learn from."""
        self.require_sequences(self.used.size)

    def number_of_blocks(self, index: Array) -> int:
        """Return how many blocks the mini-batch has on all ranks together."""
        size = self.group.block
        return self.group.size if size is None else -(-len(index) // size)

    def _blocks(self, index: Array) -> list[tuple[int, Array]]:
        rank, ranks, size = self.group.rank, self.group.size, self.group.block
        if size is None:
            return [(rank, index[rank::ranks])]  # where sorted by length, all get some of each
        return [
            (number, index[number * size : (number + 1) * size])
            for number in range(rank, self.number_of_blocks(index), ranks)
        ]


class GivenBatches(_ShardedBatches):
    """Each rank draws from its own sequences, in proportion to their number."""

    steps: int

    def join(self) -> None:
        """Count the steps of an epoch; raise ValueError on all ranks if there is nothing to learn from."""
        total = int(self.group.gather(self.used.size).sum())
        self.require_sequences(total)
        self.steps = -(-total // self.size)

    def draw(self, rng: np.random.Generator) -> list[Array]:
        """Draw this rank's parts of the mini-batches of an epoch."""
        seed = int(rng.integers(2**63))  # the same on all ranks
        order = self.shuffled(self.used, np.random.default_rng([seed, self.group.rank]))
        steps, n = self.steps, order.size
        edges = [k * n // steps for k in range(steps + 1)]
        if not self.bucket:
            return [order[start:end] for start, end in itertools.pairwise(edges)]
        for start in range(0, steps, POOL):
            pool = slice(edges[start], edges[min(start + POOL, steps)])
            order[pool] = order[pool][np.argsort(self.lengths[order[pool]], kind="stable")]
        return [order[edges[k] : edges[k + 1]] for k in np.random.default_rng(seed).permutation(steps)]
