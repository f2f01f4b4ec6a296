"""Pooling over time: one feature vector from the hidden states of all steps that count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from lstm_ext._typing import Array, Doubles, Flags

Pooling: TypeAlias = Literal["last", "mean", "max", "attention"]
POOLINGS = ("last", "mean", "max", "attention")


class Pool(Protocol):
    """One way to pool a batch of hidden states (N, T, F); `counted`: which steps count, None for all."""

    def __init__(self, hidden: Array, counted: Flags | None, parameters: Array) -> None: ...

    def forward(self, hidden: Array) -> Array:
        """Pool hidden states (N, T, F) to features (N, F)."""

    def backward(self, dfeatures: Array) -> tuple[Array, Array]:
        """Return the gradients by the hidden states, and by the parameters."""

    def jvp(self, hidden_dot: Array, parameters_dot: Array) -> Array:
        """Differentiate the features along a direction."""

    def backward_jvp(
        self, dfeatures: Array, dfeatures_dot: Array, hidden_dot: Array, parameters_dot: Array
    ) -> tuple[Array, Array]:
        """Differentiate what `backward` returns along a direction."""


class MeanPool(Pool):
    """The mean of the hidden states."""

    def __init__(self, hidden: Array, counted: Flags | None, parameters: Array) -> None:
        steps = np.ones(hidden.shape[:2], np.bool_) if counted is None else counted
        share: Array = steps / np.maximum(steps.sum(axis=1), 1)[:, None]
        self.share = share.astype(hidden.dtype)

    def forward(self, hidden: Array) -> Array:
        """Pool hidden states (N, T, F) to features (N, F)."""
        return _weighted(self.share, hidden)

    def backward(self, dfeatures: Array) -> tuple[Array, Array]:
        """Return the gradients by the hidden states, and by the parameters."""
        return self.share[..., None] * dfeatures[:, None], np.zeros(0)

    def jvp(self, hidden_dot: Array, parameters_dot: Array) -> Array:
        """Differentiate the features along a direction."""
        return _weighted(self.share, hidden_dot)

    def backward_jvp(
        self, dfeatures: Array, dfeatures_dot: Array, hidden_dot: Array, parameters_dot: Array
    ) -> tuple[Array, Array]:
        """Differentiate what `backward` returns along a direction."""
        return self.backward(dfeatures_dot)


class MaxPool(Pool):
    """The largest value of each hidden unit; its gradient goes to the first step that has it."""

    def __init__(self, hidden: Array, counted: Flags | None, parameters: Array) -> None:
        steps = np.ones(hidden.shape[:2], np.bool_) if counted is None else counted
        self.shape = hidden.shape
        self.some: Array = np.any(steps, axis=1)[:, None]  # a sequence without a step has features of 0
        self.index = np.where(steps[..., None], hidden, -np.inf).argmax(axis=1)[:, None]

    def forward(self, hidden: Array) -> Array:
        """Pool hidden states (N, T, F) to features (N, F)."""
        return np.where(self.some, np.take_along_axis(hidden, self.index, axis=1)[:, 0], 0)

    def backward(self, dfeatures: Array) -> tuple[Array, Array]:
        """Return the gradients by the hidden states, and by the parameters."""
        dhidden = np.zeros(self.shape, dfeatures.dtype)
        np.put_along_axis(dhidden, self.index, np.where(self.some, dfeatures, 0)[:, None], axis=1)
        return dhidden, np.zeros(0)

    def jvp(self, hidden_dot: Array, parameters_dot: Array) -> Array:
        """Differentiate the features along a direction."""
        return self.forward(hidden_dot)

    def backward_jvp(
        self, dfeatures: Array, dfeatures_dot: Array, hidden_dot: Array, parameters_dot: Array
    ) -> tuple[Array, Array]:
        """Differentiate what `backward` returns along a direction."""
        return self.backward(dfeatures_dot)


class AttentionPool(Pool):
    r"""A weighted mean, whose weights a learned vector v takes from the hidden states.

    .. math:: f = \sum_t a_t h_t, \quad a = \mathrm{softmax}_t (v \cdot h_t)

    C. Raffel, D. P. W. Ellis, "Feed-forward networks with attention can solve some long-term memory
    problems", ICLR workshop 2016, without the tanh. With v = 0, as training begins, it is the mean.
    """

    def __init__(self, hidden: Array, counted: Flags | None, parameters: Array) -> None:
        self.hidden, self.vector = hidden, parameters
        score: Array = hidden @ parameters
        score = np.where(np.ones(score.shape, np.bool_) if counted is None else counted, score, -np.inf)
        top = score.max(axis=1, keepdims=True)
        weight = np.exp(score - np.where(np.isfinite(top), top, 0))
        total = weight.sum(axis=1, keepdims=True)
        self.weight: Array = (weight / np.where(total > 0, total, 1)).astype(hidden.dtype)

    def forward(self, hidden: Array) -> Array:
        """Pool hidden states (N, T, F) to features (N, F)."""
        return _weighted(self.weight, hidden)

    def _dscore(self, dfeatures: Array) -> tuple[Array, Array]:
        along: Array = np.einsum("ntf,nf->nt", self.hidden, dfeatures)
        mean = (self.weight * along).sum(axis=1, keepdims=True)
        return along - mean, self.weight * (along - mean)

    def backward(self, dfeatures: Array) -> tuple[Array, Array]:
        """Return the gradients by the hidden states, and by the parameters."""
        _, dscore = self._dscore(dfeatures)
        dhidden = self.weight[..., None] * dfeatures[:, None] + dscore[..., None] * self.vector
        return dhidden, np.einsum("nt,ntf->f", dscore, self.hidden)

    def _weight_dot(self, hidden_dot: Array, parameters_dot: Array) -> Array:
        score_dot = hidden_dot @ self.vector + self.hidden @ parameters_dot
        mean = (self.weight * score_dot).sum(axis=1, keepdims=True)
        weight_dot: Array = self.weight * (score_dot - mean)
        return weight_dot

    def jvp(self, hidden_dot: Array, parameters_dot: Array) -> Array:
        """Differentiate the features along a direction."""
        weight_dot = self._weight_dot(hidden_dot, parameters_dot)
        return _weighted(weight_dot, self.hidden) + _weighted(self.weight, hidden_dot)

    def backward_jvp(
        self, dfeatures: Array, dfeatures_dot: Array, hidden_dot: Array, parameters_dot: Array
    ) -> tuple[Array, Array]:
        """Differentiate what `backward` returns along a direction."""
        weight_dot = self._weight_dot(hidden_dot, parameters_dot)
        centred, dscore = self._dscore(dfeatures)
        along_dot: Array = np.einsum("ntf,nf->nt", self.hidden, dfeatures_dot)
        along_dot += np.einsum("ntf,nf->nt", hidden_dot, dfeatures)
        along: Array = np.einsum("ntf,nf->nt", self.hidden, dfeatures)
        mean_dot = (weight_dot * along + self.weight * along_dot).sum(axis=1, keepdims=True)
        dscore_dot = weight_dot * centred + self.weight * (along_dot - mean_dot)
        dhidden_dot: Array = (
            weight_dot[..., None] * dfeatures[:, None] + self.weight[..., None] * dfeatures_dot[:, None]
            + dscore_dot[..., None] * self.vector + dscore[..., None] * parameters_dot
        )
        dvector_dot: Array = np.einsum("nt,ntf->f", dscore_dot, self.hidden)
        return dhidden_dot, dvector_dot + np.einsum("nt,ntf->f", dscore, hidden_dot)


def _weighted(weight: Array, hidden: Array) -> Array:
    product: Array = np.matmul(weight[:, None], hidden)
    return product[:, 0]


POOLS: dict[str, type[Pool]] = {"mean": MeanPool, "max": MaxPool, "attention": AttentionPool}


# ---- step by step


class RunningMean:
    r"""The mean of the hidden states so far.

    .. math:: f_t = \frac{1}{t} \sum_{s \le t} h_s

    Attributes
    ----------
    state : ndarray of float64, (N, F + 2)
        All that is remembered: the sum, the number of steps, and for the attention its largest score.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.state: Doubles = np.zeros((shape[0], shape[1] + 2))

    def reset(self) -> None:
        """Forget all steps."""
        self.state[...] = 0

    def add(self, h: Array) -> Doubles:
        """Take the hidden states (N, F) of a step, and return the features of all so far, float64."""
        self.state[:, :-2] += h
        self.state[:, -2] += 1
        return self.state[:, :-2] / self.state[:, -2:-1]


class RunningMax(RunningMean):
    r"""The largest value of each hidden unit so far.

    .. math:: f_t = \max(f_{t-1}, h_t)
    """

    def add(self, h: Array) -> Doubles:
        """Take the hidden states (N, F) of a step, and return the features of all so far, float64."""
        first = self.state[:, -2:-1] == 0
        self.state[:, :-2] = np.where(first, h, np.maximum(self.state[:, :-2], h))
        self.state[:, -2] = 1
        return self.state[:, :-2].copy()


class RunningAttention(RunningMean):
    r"""The weighted mean of the hidden states so far, whose weights a vector v takes from them.

    .. math::
        s_t = v \cdot h_t, \quad m_t = \max(m_{t-1}, s_t), \quad
        d_t = e^{m_{t-1} - m_t} d_{t-1} + e^{s_t - m_t}

        a_t = e^{m_{t-1} - m_t} a_{t-1} + e^{s_t - m_t} h_t, \quad f_t = a_t / d_t

    M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", arXiv:1805.02867, 2018, algorithm
    3, with the weighted sum of h beside that of the weights.
    """

    def __init__(self, shape: tuple[int, int], vector: Array) -> None:
        super().__init__(shape)
        self.vector = vector

    def add(self, h: Array) -> Doubles:
        """Take the hidden states (N, F) of a step, and return the features of all so far, float64."""
        score = (h @ self.vector).astype(np.float64)
        before = np.where(self.state[:, -2] == 0, -np.inf, self.state[:, -1])
        top = np.maximum(before, score)
        old, new = np.exp(before - top), np.exp(score - top)
        self.state[:, :-2] = old[:, None] * self.state[:, :-2] + new[:, None] * h
        self.state[:, -2] = old * self.state[:, -2] + new
        self.state[:, -1] = top
        return self.state[:, :-2] / self.state[:, -2:-1]


RUNNING = {"mean": RunningMean, "max": RunningMax, "attention": RunningAttention}
