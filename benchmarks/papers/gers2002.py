"""Measuring the delay of spikes, with peepholes and without.

F. A. Gers, N. N. Schraudolph and J. Schmidhuber, "Learning precise timing with LSTM recurrent networks",
JMLR 3:115-143, 2002, its first task: a stream of spikes, F or F + 1 steps apart at random; at each spike
the network is to say which of the two it was. Right is an error below 0.49. The task is solved by a
network that is right at 1000 successive spikes that it has not seen. The network is the paper's, one cell
and 17 weights with peepholes, but for tanh and exact gradients; it learns from streams of ten spikes.

    python benchmarks/papers/gers2002.py [--seeds 10] [--intervals 10 30] [--limit 100000] [--quick]
"""

import numpy as np
from common import ObservedSquaredError, Stopwatch, Watched, arguments, machine, say, spread, table

from lstm_ext import LSTM, Adam, Model

SPIKES, BATCH, LR, MAX_NORM, TOLERANCE = 10, 16, 2e-2, 1.0, 0.49
TEST = 1000  # successive spikes
RECENT = 100  # of so many mini-batches' spikes all must be right before a test is made


def draw(rng, n, spikes, interval):
    """Draw n streams.

    Returns
    -------
    x : ndarray of shape (n, spikes (interval + 1), 1)
        1 where a spike is, else 0.
    y : ndarray of the same shape
        At a spike 1 if it came after interval + 1 steps, 0 if after interval; NaN between them.
    """
    late = rng.integers(0, 2, (n, spikes))
    when = np.cumsum(interval + late, axis=1) - 1
    x = np.zeros((n, spikes * (interval + 1), 1), np.float32)
    y = np.full(x.shape, np.nan)
    np.put_along_axis(x[..., 0], when, 1, axis=1)
    np.put_along_axis(y[..., 0], when, late, axis=1)
    return x, y


def all_right(prediction, y):
    """Tell whether every spike's error is below 0.49."""
    return bool((np.abs(prediction - y)[~np.isnan(y)] < TOLERANCE).all())


def run(seed, interval, peepholes, limit):
    """Train until the test is passed; return {"streams": int or None, "seconds": float}."""
    rng, watch = np.random.default_rng(seed), Stopwatch()
    lstm = LSTM(1, 1, peepholes=peepholes, init={"chrono": 2 * interval}, rng=rng)
    loss = Watched(ObservedSquaredError())
    model = Model(lstm, 1, every_step=True, loss=loss, rng=rng)
    optimizer, in_a_row = Adam(LR, max_norm=MAX_NORM), 0
    for seen in range(BATCH, limit + 1, BATCH):
        x, y = draw(rng, BATCH, SPIKES, interval)
        value = model.loss_and_gradient(x, y)
        in_a_row = in_a_row + 1 if all_right(loss.prediction, y) else 0
        optimizer.step(model.parameters, model.gradient)
        if in_a_row >= RECENT and in_a_row % RECENT == 0:
            x, y = draw(rng, 1, TEST, interval)
            if all_right(model.predict(x), y):
                return {"streams": seen, "seconds": watch.seconds}
        if seen // BATCH % 500 == 0:
            say(f"  {interval}, peepholes {peepholes}, seed {seed}: {seen:,} streams, loss {value:.4f}")
    return {"streams": None, "seconds": watch.seconds}


HEADER = ["steps between spikes", "peepholes", "weights", "runs that succeed", "streams to success",
          "CPU seconds a run"]


def main(argv=None):
    options = arguments(
        __doc__, "3 or 4 steps between spikes, 3200 streams", argv,
        intervals={"nargs": "+", "type": int, "help": "F, two rows for each; default 10 and 30"},
        limit={"type": int, "default": None, "help": "training streams; default 100,000"},
    )
    limit = options.limit or (3200 if options.quick else 100_000)
    lines = []
    for interval in options.intervals or ([3] if options.quick else [10, 30]):
        for peepholes in (False, True):
            runs = []
            for seed in options.seeds:
                runs.append(run(seed, interval, peepholes, limit))
                say(f"{interval}, peepholes {peepholes}, seed {seed}: {runs[-1]}")
            won = [r["streams"] for r in runs if r["streams"]]
            lines.append([
                f"{interval} or {interval + 1}", "yes" if peepholes else "no", 17 if peepholes else 14,
                f"{len(won)} of {len(runs)}", spread(won), spread([r["seconds"] for r in runs], ".0f"),
            ])
    print(table(HEADER, lines))
    print(f"\nStreams of {SPIKES} spikes, at most {limit:,}. {machine()}")
    return lines


if __name__ == "__main__":
    main()
