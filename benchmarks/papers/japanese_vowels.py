"""JapaneseVowels: which of nine speakers said it, from series of 7 to 29 steps with their true lengths.

M. Kudo, J. Toyama and M. Shimbo, "Multidimensional curve classification using passing-through regions",
Pattern Recognition Letters 20:1103-1111, 1999: 270 utterances to learn from, 370 to test on, 12 LPC
cepstrum coefficients each step. The files come with the wheel of sktime (extra ``examples``); nothing is
downloaded.

A bidirectional LSTM with a linear readout of both last hidden states. Its size, learning rate, noise and
epochs were chosen among eight settings by cross-validation within the 270 (``--validate``); the 370 had no
part in it.

    python benchmarks/papers/japanese_vowels.py [--seeds 10] [--torch] [--validate] [--quick]
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from common import Stopwatch, arguments, batches, machine, say, spread, table

from lstm_ext import LSTM, Adam, Model

CLASSES = 9
HIDDEN, EPOCHS, BATCH, LR, MAX_NORM = 64, 100, 32, 5e-3, 1.0
NOISE = 0.7  # standard deviation of what is added to the scaled inputs in training


def find_file(name):
    """Path of a file of the data set in sktime's installation, which is not imported."""
    spec = find_spec("sktime")
    if spec is None:
        raise SystemExit("sktime is not installed: pip install 'lstm-ext[examples]' brings it and its data")
    path = Path(spec.submodule_search_locations[0], "datasets", "data", "JapaneseVowels", name)
    if not path.is_file():
        raise SystemExit(f"this sktime has no {path}: 0.30 to 1.2 have")
    return path


def read_ts(path):
    """Read a .ts file: one series a line, channels split by ":", steps by ",", the class at the end.

    Returns
    -------
    x : ndarray of shape (N, T, F)
        0 beyond a series' length.
    y : ndarray of N int
        Class numbers from 0.
    lengths : ndarray of N int
    """
    data = path.read_text(encoding="utf-8").split("@data\n", 1)[1].split()
    *channels, labels = zip(*(line.split(":") for line in data), strict=True)
    series = [
        np.array([np.array(c.split(","), dtype=float) for c in one]).T for one in zip(*channels, strict=True)
    ]
    lengths = np.array([len(s) for s in series])
    x = np.zeros((len(series), lengths.max(), len(channels)))
    for row, s in zip(x, series, strict=True):
        row[: len(s)] = s
    return x, np.array(labels, dtype=np.int64) - 1, lengths


def load():
    """Return (x, y, lengths) to learn from, and (x, y, lengths) to test on."""
    return tuple(read_ts(find_file(f"JapaneseVowels_{part}.ts")) for part in ("TRAIN", "TEST"))


def scaled(learn, test):
    """Scale inputs by mean and standard deviation of each feature over the steps learned from."""
    x, _, lengths = learn
    steps = x[np.arange(x.shape[1]) < lengths[:, None]]

    def scale(x, y, lengths):
        x = ((x - steps.mean(0)) / steps.std(0)).astype(np.float32)
        x[np.arange(x.shape[1]) >= lengths[:, None]] = 0
        return x, y, lengths

    return scale(*learn), scale(*test)


def new_model(features, hidden, rng):
    lstm = LSTM(features, hidden, bidirectional=True, rng=rng)
    return Model(lstm, CLASSES, loss="cross_entropy", rng=rng)


def train(data, seed, hidden=HIDDEN, epochs=EPOCHS):
    """Train ours; return a function of (x, lengths) that gives logits."""
    rng = np.random.default_rng(seed)
    model = new_model(data[0].shape[2], hidden, rng)
    optimizer = Adam(LR, max_norm=MAX_NORM)
    for x, y, lengths, remains in batches(data, rng, epochs, BATCH, NOISE):
        optimizer.lr = LR * remains
        model.loss_and_gradient(x, y, lengths)
        optimizer.step(model.parameters, model.gradient)
    return model.predict


def train_torch(data, seed, hidden=HIDDEN, epochs=EPOCHS, our_weights=False):
    """Train the same with torch, on the same batches, from its own initial weights or from ours.

    Two LSTMs, the second on series that are turned round within their lengths; what they read of the padding
    comes after the step that is taken. Packed sequences give the same at four times the time.
    """
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    model = new_model(data[0].shape[2], hidden, rng)  # also where torch draws its own: same batches after it
    lstms = [torch.nn.LSTM(data[0].shape[2], hidden, batch_first=True) for _ in range(2)]
    readout = torch.nn.Linear(2 * hidden, CLASSES)
    if our_weights:
        ours = {name: torch.from_numpy(values) for name, values in model.named_parameters().items()}
        with torch.no_grad():
            for lstm, direction in zip(lstms, ("", "_reverse"), strict=True):
                for name in ("weight_ih_l0", "weight_hh_l0"):
                    getattr(lstm, name).copy_(ours[f"lstm.{name}{direction}"])
                lstm.bias_ih_l0.copy_(ours[f"lstm.bias_l0{direction}"])
                lstm.bias_hh_l0.zero_().requires_grad_(False)  # one bias, as ours: Adam moves two twice
            readout.weight.copy_(ours["weight"])
            readout.bias.copy_(ours["bias"])
    parameters = [p for module in (*lstms, readout) for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, LR)

    def logits(x, lengths):
        steps = np.arange(x.shape[1])
        turned = np.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
        every, last = np.arange(len(x)), lengths - 1
        both = (x, x[every[:, None], turned])
        ends = [lstm(torch.from_numpy(part))[0][every, last] for lstm, part in zip(lstms, both, strict=True)]
        return readout(torch.cat(ends, dim=1))

    for x, y, lengths, remains in batches(data, rng, epochs, BATCH, NOISE):
        optimizer.param_groups[0]["lr"] = LR * remains
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits(x, lengths), torch.from_numpy(y)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()

    def predict(x, lengths):
        with torch.no_grad():
            return logits(x, lengths).numpy()

    return predict


def accuracy(predict, data):
    x, y, lengths = data
    return float(np.mean(predict(x, lengths).argmax(1) == y))


def folds(data, count=5):
    """Split into `count` pairs (learn, test), classes spread evenly: every count-th of what is sorted."""
    order = np.argsort(data[1], kind="stable")
    for k in range(count):
        test = order[k::count]
        rest = np.setdiff1d(order, test)
        yield tuple(part[rest] for part in data), tuple(part[test] for part in data)


def main(argv=None):
    options = arguments(
        __doc__, "2 epochs of 8 units", argv,
        torch={"action": "store_true", "help": "train the same architecture with torch, too"},
        validate={"action": "store_true", "help": "accuracy in cross-validation within the 270 instead"},
    )
    size = {"hidden": 8, "epochs": 2} if options.quick else {"hidden": HIDDEN, "epochs": EPOCHS}
    learn, test = load()
    splits = [scaled(*pair) for pair in (folds(learn) if options.validate else [(learn, test)])]
    contestants = {"lstm-ext": train}
    if options.torch:
        contestants["torch"] = train_torch
    scores = {name: ([], []) for name in contestants}
    for seed in options.seeds:
        for name, trainer in contestants.items():
            watch, right = Stopwatch(), []
            for one, other in splits:
                right.append(accuracy(trainer(one, seed, **size), other))
            scores[name][0].append(np.mean(right))
            scores[name][1].append(watch.seconds)
            say(f"seed {seed}, {name}: {np.mean(right):.4f}, {watch.seconds:.1f} s")
    what = "accuracy in validation" if options.validate else "test accuracy"
    print(table(
        ["", "runs", f"{what}: mean", "standard deviation", "smallest", "largest", "CPU seconds a run"],
        [
            [name, len(right), f"{np.mean(right):.4f}", f"{np.std(right):.4f}", f"{min(right):.4f}",
             f"{max(right):.4f}", spread(seconds, ".1f")]
            for name, (right, seconds) in scores.items()
        ],
    ))
    print(f"\n{machine()}")
    return scores


if __name__ == "__main__":
    main()
