"""Every loss, and predictions, targets and weights that fit it."""

import numpy as np

from lstm_ext.losses import (
    AsymmetricLaplaceMixture,
    BinaryCrossEntropy,
    CrossEntropy,
    GaussianNLL,
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    NashSutcliffe,
    NegativeBinomial,
    Poisson,
    Quantile,
    StudentT,
    Weighted,
)


def example(kind, shape, seed=0):
    """A loss, predictions of that shape, targets, and weights of the given kind."""
    rng = np.random.default_rng(seed)
    loss, how = kind
    prediction = rng.normal(size=shape) * 3
    if isinstance(loss, CrossEntropy):
        target = rng.integers(0, shape[-1], shape[:-1])
    elif isinstance(loss, Poisson):
        prediction, target = prediction / 3, rng.poisson(2.0, shape).astype(float)
    elif isinstance(loss, BinaryCrossEntropy):
        target = rng.integers(0, 2, shape).astype(float)
    elif isinstance(loss, NegativeBinomial):
        prediction = rng.normal(size=(*shape[:-1], 2 * shape[-1]))
        target = rng.poisson(2.0, shape).astype(float)
    elif isinstance(loss, NashSutcliffe):
        scale = np.broadcast_to(rng.uniform(1, 3, (shape[0],) + (1,) * (len(shape) - 1)), shape)
        target = np.concatenate([rng.normal(size=shape), scale], axis=-1)
    else:
        columns = shape[-1]
        prediction = rng.normal(size=(*shape[:-1], columns * loss.outputs_per_target)) * 2
        target = rng.normal(size=(*shape[:-1], columns))
    weights = None
    if how == "mask":
        weights = rng.random(shape[:-1]) < 0.6
        weights.flat[0] = True
    elif how == "numbers":
        weights = rng.uniform(0, 2, shape[:-1])
    return loss, prediction, target, weights


EACH = [
    MeanSquaredError(), CrossEntropy(), MeanAbsoluteError(), Huber(1.5), Quantile((0.1, 0.5, 0.8)),
    Poisson(), GaussianNLL(0.5), NashSutcliffe(), BinaryCrossEntropy(), NegativeBinomial(), StudentT(0.5),
    AsymmetricLaplaceMixture(2, 0.1),
]
# Another loss with weights for each target.
WEIGHTED = [Weighted(loss) for loss in EACH if not isinstance(loss, CrossEntropy | NashSutcliffe)]
