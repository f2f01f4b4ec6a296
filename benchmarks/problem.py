"""One problem for every contestant: sizes, parameters, data, and what its arithmetic amounts to."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Problem:
    """An LSTM layer and the batch that it runs over.

    `ragged`: sequences of different lengths, in no order, 0.57 T long in the mean, the longest T.
    `silent`: the data fade within some 200 steps into subnormal numbers and stay there.
    """

    time: int
    batch: int
    input_size: int
    hidden_size: int
    dtype: str = "float32"
    ragged: bool = False
    silent: bool = False

    def __str__(self):
        text = f"T{self.time} N{self.batch} I{self.input_size} H{self.hidden_size}"
        return text + " ragged" * self.ragged + " silent" * self.silent

    def _uniform(self, stream, *shape, bound=1.0):
        """Uniform numbers that depend on nothing but the sizes and `stream`."""
        sizes = (self.time, self.batch, self.input_size, self.hidden_size)
        rng = np.random.default_rng([stream, *sizes])
        return rng.uniform(-bound, bound, shape).astype(self.dtype)

    @cached_property
    def lengths(self):
        """Lengths (N,), or None when all are T."""
        if not self.ragged:
            return None
        lengths = 0.57 * (1 + 0.75 * self._uniform(0, self.batch))
        lengths = np.clip(np.rint(lengths * self.time), 1, self.time).astype(np.int64)
        lengths[self.batch // 2] = self.time
        return lengths

    @cached_property
    def mask(self):
        """(N, T, 1): true where a sequence still runs."""
        if self.lengths is None:
            return np.ones((self.batch, self.time, 1), bool)
        return (np.arange(self.time) < self.lengths[:, None])[..., None]

    @cached_property
    def weights(self):
        """weight_ih (4H, I), weight_hh (4H, H), bias (4H,); gates i, f, g, o."""
        units, bound = self.hidden_size, self.hidden_size**-0.5
        return (
            self._uniform(1, 4 * units, self.input_size, bound=bound),
            self._uniform(2, 4 * units, units, bound=bound),
            # The state fades only without a bias.
            self._uniform(3, 4 * units, bound=0.0 if self.silent else bound),
        )

    @cached_property
    def x(self):
        """(N, T, I)."""
        x = self._uniform(4, self.batch, self.time, self.input_size)
        if self.silent:
            floor = 0.01 * np.finfo(self.dtype).tiny
            x *= np.maximum(floor ** (np.arange(self.time) / 200), floor)[:, None].astype(x.dtype)
        return x

    @cached_property
    def dy(self):
        """(N, T, H): the gradient of the outputs, 0 where there is none."""
        return self._uniform(5, self.batch, self.time, self.hidden_size) * self.mask

    @property
    def steps(self):
        """Steps of all sequences together: the work that there truly is."""
        return self.batch * self.time if self.lengths is None else int(self.lengths.sum())

    def flops(self, what):
        """Multiplications and additions: forward 2 T N (I + H) 4H, training three times that."""
        passes = 3 if what == "training" else 1
        columns = self.input_size + self.hidden_size
        return passes * 2 * self.steps * columns * 4 * self.hidden_size

    @property
    def recurrent_bytes(self):
        """Bytes of weight_hh."""
        return 4 * self.hidden_size**2 * np.dtype(self.dtype).itemsize

    def least_seconds(self, what, flop_rate, read_rate=None):
        """Return the time that the CPU's limits allow.

        All products at `flop_rate`; but with one sequence (`read_rate` given) weights have to be
        read: weight_ih once a pass, weight_hh again at every step, because no step can begin
        before the last has ended. The slower of the two counts.
        """
        if read_rate is None:
            return self.flops(what) / flop_rate

        def pass_seconds(columns, repeats):  # repeats: times that the weights are read
            weights = 4 * self.hidden_size * columns
            read = repeats * weights * np.dtype(self.dtype).itemsize / read_rate
            return max(2 * self.steps * weights / flop_rate, read)

        passes = 2 if what == "training" else 1  # forward, and backward to dx and dh
        weight_gradient = self.flops(what) - passes * self.flops("inference")
        return weight_gradient / flop_rate + passes * (
            pass_seconds(self.input_size, 1) + pass_seconds(self.hidden_size, self.steps)
        )
