"""Copy memory: ten symbols, a long pause, and then the ten symbols again, in order.

M. Arjovsky, A. Shah and Y. Bengio, "Unitary evolution recurrent neural networks", ICML 2016, section 4.1,
after Hochreiter and Schmidhuber (1997). Whoever remembers nothing does best by predicting blanks until
the pause of T steps is over, and then each of the 8 symbols with probability 1/8; that costs 10 ln 8 / (T
+ 20) nats a step. Compared: the usual initial weights, and biases of the gates that are made for lags of
2 T (C. Tallec and Y. Ollivier, "Can recurrent neural networks warp time?", ICLR 2018), with the same
number of sequences.

    python benchmarks/papers/copy_memory.py [--seeds 10] [--pause 30] [--quick]
"""

import numpy as np
from common import Stopwatch, arguments, machine, say, spread, table

from lstm_ext import LSTM, Adam, Model

SYMBOLS, COUNT = 8, 10  # 0 to 7 are to be copied, ten of them
BLANK, GO = 8, 9  # GO: the pause is over
HIDDEN, BATCH, LR, MAX_NORM = 64, 16, 1e-2, 1.0


def draw(rng, n, pause):
    """Draw n sequences.

    Returns
    -------
    x : ndarray of shape (n, pause + 20, 10)
        One-hot: ten symbols, pause - 1 blanks, the sign, ten blanks.
    y : ndarray of shape (n, pause + 20)
        Classes: pause + 10 blanks, the ten symbols.
    """
    code = np.full((n, pause + 2 * COUNT), BLANK)
    symbols = rng.integers(0, SYMBOLS, (n, COUNT))
    code[:, :COUNT] = symbols
    code[:, COUNT + pause - 1] = GO
    y = np.full_like(code, BLANK)
    y[:, -COUNT:] = symbols
    return np.eye(SYMBOLS + 2, dtype=np.float32)[code], y


def baseline(pause):
    """Cross entropy of the best that can be done without memory, nats a step."""
    return COUNT * np.log(SYMBOLS) / (pause + 2 * COUNT)


def run(seed, pause, limit, init):
    """Train on `limit` sequences, or until nothing is wrong in a thousand that are new.

    Returns
    -------
    dict
        "loss" and the share of symbols that are "right" on 1000 test sequences, "sequences", "seconds".
    """
    rng = np.random.default_rng(seed)
    lstm = LSTM(SYMBOLS + 2, HIDDEN, init=init, rng=rng)
    model = Model(lstm, SYMBOLS + 1, every_step=True, loss="cross_entropy", rng=rng)
    optimizer, watch = Adam(LR, max_norm=MAX_NORM), Stopwatch()
    test_x, test_y = draw(np.random.default_rng([seed, 1]), 1000, pause)
    for seen in range(BATCH, limit + BATCH, BATCH):
        x, y = draw(rng, BATCH, pause)
        loss = model.loss_and_gradient(x, y)
        optimizer.lr = LR * (1 - (seen - BATCH) / limit)
        optimizer.step(model.parameters, model.gradient)
        if seen // BATCH % 100 == 0 or seen >= limit:
            right = np.mean(model.predict(test_x)[:, -COUNT:].argmax(-1) == test_y[:, -COUNT:])
            if seen // BATCH % 500 == 0:
                say(f"  seed {seed}, {seen:,} sequences: loss {loss:.4f}, {right:.3f} of the symbols right")
            if right == 1:
                break
    return {
        "loss": model.evaluate(test_x, test_y), "right": right, "sequences": seen, "seconds": watch.seconds,
    }


HEADER = ["pause", "initial weights", "runs", "test loss", "memoryless baseline", "symbols right",
          "all right: runs", "sequences until then", "CPU seconds"]


def main(argv=None):
    options = arguments(
        __doc__, "a pause of 5 steps, 3200 sequences", argv,
        pause={"type": int, "default": None, "help": "steps from the symbols to the sign; default 30"},
        limit={"type": int, "default": None, "help": "training sequences; default 80,000"},
    )
    pause = options.pause or (5 if options.quick else 30)
    limit = options.limit or (3200 if options.quick else 80_000)
    lines = []
    for name, init in {"usual": None, f"chrono {2 * pause}": {"chrono": 2 * pause}}.items():
        runs = []
        for seed in options.seeds:
            runs.append(run(seed, pause, limit, init))
            say(f"{name}, seed {seed}: {runs[-1]}")
        won = [r for r in runs if r["right"] == 1]
        lines.append([
            pause, name, len(runs), spread([r["loss"] for r in runs], ".4f"), f"{baseline(pause):.4f}",
            spread([r["right"] for r in runs], ".3f"), f"{len(won)} of {len(runs)}",
            spread([r["sequences"] for r in won]), spread([r["seconds"] for r in runs], ".0f"),
        ])
    print(table(HEADER, lines))
    print(f"\n1,000 test sequences; at most {limit:,} to learn from. {machine()}")
    return lines


if __name__ == "__main__":
    main()
