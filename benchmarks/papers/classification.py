"""Nine sets of labelled series of the UCR and UEA archives, at the defaults of LSTMClassifier.

H. A. Dau et al., "The UCR time series archive", IEEE/CAA J. Autom. Sinica 6:1293, 2019; A. Bagnall et al.,
"The UEA multivariate time series classification archive", arXiv:1811.00075, 2018. The files come with the
wheel of sktime (extra ``examples``); nothing is downloaded. Beside it stand logistic regression on the
standardised, padded series, the nearest neighbour by dynamic time warping (window of a tenth) and MiniRocket
(A. Dempster, D. F. Schmidt, G. I. Webb, KDD 2021). The last two need aeon (``pip install aeon``) and are left
out without it.

``--validate`` compares settings by cross-validation within the training parts, from which the defaults were
chosen; the test parts had no part in it. ``--torch`` trains the same network with torch, for the same epochs.

    python benchmarks/papers/classification.py [--seeds 5] [--sets NAME,...] [--torch] [--validate] [--quick]
"""

import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from common import Stopwatch, arguments, machine, say, spread, table

SETS = (
    "UnitTest", "BasicMotions", "ItalyPowerDemand", "ArrowHead", "GunPoint", "OSULeaf", "JapaneseVowels",
    "ACSF1", "PLAID",
)
LONG = ("ACSF1", "PLAID")  # an hour of dynamic time warping
# Settings that --validate compares.
CHOICES = {
    "defaults": {},
    "pooling='last'": {"pooling": "last"},
    "pooling='mean'": {"pooling": "mean"},
    "pooling='attention'": {"pooling": "attention"},
    "one direction": {"lstm_options": {"bidirectional": False}},
    "hidden_size=16": {"hidden_size": 16},
    "learning_rate='cosine'": {"learning_rate": "cosine"},
    "learning_rate='cosine', batch_size='auto'": {"learning_rate": "cosine", "batch_size": "auto"},
    "early_stopping=True": {"early_stopping": True},
}


def read_ts(path):
    """Read a .ts file: one series a line, channels split by ":", steps by ",", the label at the end.

    Returns
    -------
    list of ndarray of shape (T_i, F)
    ndarray of N str
    """
    lines = path.read_text(encoding="utf-8").split("@data", 1)[1].split()
    series, labels = [], []
    for line in lines:
        *channels, label = line.split(":")
        series.append(np.array([channel.split(",") for channel in channels], dtype=float).T)
        labels.append(label)
    return series, np.array(labels)


def load(name):
    """Return series and labels to learn from, and those to test on."""
    spec = find_spec("sktime")
    if spec is None:
        raise SystemExit("sktime is not installed: pip install 'lstm-ext[examples]' brings it and its data")
    folder = Path(spec.submodule_search_locations[0], "datasets", "data", name)
    return tuple(read_ts(folder / f"{name}_{part}.ts") for part in ("TRAIN", "TEST"))


def padded(parts):
    """Put series of all parts into arrays (N, F, T) of one length, 0 beyond a series' end."""
    longest = max(len(one) for part in parts for one in part)
    return [np.stack([np.pad(one, ((0, longest - len(one)), (0, 0))).T for one in part]) for part in parts]


def baselines(name, learn, test, quick):
    """Return accuracies of others, by name; None for what is left out."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, x_test = padded([learn[0], test[0]])
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    flat = x.reshape(len(x), -1), x_test.reshape(len(x_test), -1)
    found = {"logistic": linear.fit(flat[0], learn[1]).score(flat[1], test[1])}
    found |= {"DTW": None, "MiniRocket": None}
    if quick or find_spec("aeon") is None:
        return found
    from aeon.classification.convolution_based import MiniRocketClassifier
    from aeon.classification.distance_based import KNeighborsTimeSeriesClassifier

    rocket = MiniRocketClassifier(random_state=0, n_jobs=1)
    found["MiniRocket"] = rocket.fit(x, learn[1]).score(x_test, test[1])
    if name not in LONG:
        nearest = KNeighborsTimeSeriesClassifier(distance="dtw", distance_params={"window": 0.1})
        found["DTW"] = nearest.fit(x, learn[1]).score(x_test, test[1])
    return found


def ours(learn, test, seed, **words):
    """Return accuracy, seconds and the classifier."""
    from lstm_ext.sklearn import LSTMClassifier

    watch = Stopwatch()
    classifier = LSTMClassifier(random_state=seed, **words).fit(*learn)
    seconds = watch.seconds
    return classifier.score(*test), seconds, classifier


def theirs(learn, test, seed, epochs):
    """Train the network of the defaults with torch, from its own first weights: accuracy and seconds.

    Both directions, the largest value of each unit over time, Adam, the gradient's norm at most 1, and the
    weights with the lowest loss after an epoch.
    """
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    classes, y = np.unique(learn[1], return_inverse=True)
    rows = np.concatenate(learn[0])
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    merge = -(-max(len(one) for one in learn[0]) // 32)

    def inputs(series):
        merged = []
        for one in series:
            one = (one - mean) / scale
            one = np.pad(one, ((0, -len(one) % merge), (0, 0)))
            merged.append(one.reshape(-1, merge * one.shape[1]))
        lengths = np.array([len(one) for one in merged])
        x = np.zeros((len(merged), lengths.max(), merged[0].shape[1]), "float32")
        for row, one in zip(x, merged, strict=True):
            row[: len(one)] = one
        return x, lengths

    (x, lengths), (x_test, lengths_test) = inputs(learn[0]), inputs(test[0])
    lstm = torch.nn.LSTM(x.shape[2], 32, batch_first=True, bidirectional=True)
    readout = torch.nn.Linear(64, len(classes))
    for name in ("bias_hh_l0", "bias_hh_l0_reverse"):  # one bias, as ours: Adam moves two twice as far
        torch.nn.init.zeros_(getattr(lstm, name)).requires_grad_(False)
    parameters = [p for p in (*lstm.parameters(), *readout.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, 0.003)

    def logits(x, lengths):
        if lengths.min() == x.shape[1]:
            return readout(lstm(torch.from_numpy(x))[0].max(dim=1)[0])
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            torch.from_numpy(x), torch.from_numpy(lengths), batch_first=True, enforce_sorted=False
        )
        hidden, _ = torch.nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)
        beyond = torch.arange(hidden.shape[1])[None] >= torch.from_numpy(lengths)[:, None]
        return readout(hidden.masked_fill(beyond[..., None], -2.0).max(dim=1)[0])

    watch, lowest, target = Stopwatch(), np.inf, torch.from_numpy(y)
    for _ in range(epochs):
        for some in np.array_split(rng.permutation(len(x)), -(-len(x) // 32)):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(logits(x[some], lengths[some]), target[some])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        with torch.no_grad():
            after = float(torch.nn.functional.cross_entropy(logits(x, lengths), target))
        if after < lowest:
            lowest, best = after, [p.detach().clone() for p in parameters]
    seconds = watch.seconds
    with torch.no_grad():
        for p, kept in zip(parameters, best, strict=True):
            p.copy_(kept)
        guess = logits(x_test, lengths_test).argmax(dim=1).numpy()
    return float(np.mean(classes[guess] == test[1])), seconds


def validated(learn, words, seeds):
    """Return the accuracies of three folds, or as many as the rarest label allows, for each seed."""
    from sklearn.model_selection import StratifiedKFold

    series, labels = learn
    count = min(3, np.unique(labels, return_counts=True)[1].min())
    found = []
    for seed in seeds:
        for a, b in StratifiedKFold(count, shuffle=True, random_state=seed).split(labels, labels):
            parts = [([series[k] for k in index], labels[index]) for index in (a, b)]
            found.append(ours(*parts, seed, **words)[0])
    return found


def percent(values):
    """Mean and standard deviation; "-" for nothing."""
    values = [value for value in values if value is not None]
    if not values:
        return "-"
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values):.3f}" if len(values) > 1 else "")


def main(argv=None):
    options = arguments(
        __doc__, "2 sets, 2 epochs, logistic regression alone", argv,
        sets={"default": ",".join(SETS), "help": "which, by their names and commas"},
        torch={"action": "store_true", "help": "the same network with torch, for the same epochs"},
        validate={"action": "store_true", "help": "accuracy of settings in cross-validation"},
    )
    warnings.filterwarnings("ignore", message="max_iter")
    sets = ("UnitTest", "BasicMotions") if options.quick else options.sets.split(",")
    words = {"max_iter": 2} if options.quick else {}
    rows = []
    for name in sets:
        learn, test = load(name)
        if options.validate:
            choices = dict(list(CHOICES.items())[:2]) if options.quick else CHOICES
            scores = [validated(learn, {**words, **choice}, options.seeds) for choice in choices.values()]
            rows.append([name, *map(percent, scores)])
        elif options.torch:
            pairs = []
            for seed in options.seeds:
                epochs = words.get("max_iter", 200)
                mine = ours(learn, test, seed, max_iter=epochs, tol=0.0, n_iter_no_change=epochs)
                pairs.append((mine[:2], theirs(learn, test, seed, epochs)))
            mine, other = ([pair[k] for pair in pairs] for k in range(2))
            error = np.hypot(*(np.std([a for a, _ in part]) for part in (mine, other))) / np.sqrt(len(pairs))
            difference = np.mean([a for a, _ in mine]) - np.mean([a for a, _ in other])
            ratio = np.mean([s for _, s in other]) / np.mean([s for _, s in mine])
            rows.append([
                name, percent([a for a, _ in mine]), percent([a for a, _ in other]), f"{difference:+.3f}",
                f"{error:.3f}", f"{ratio:.1f}",
            ])
        else:
            others = baselines(name, learn, test, options.quick)
            runs = [ours(learn, test, seed, **words) for seed in options.seeds]
            rows.append([
                name, *(percent([others[k]]) for k in ("logistic", "DTW", "MiniRocket")),
                percent([score for score, _, _ in runs]), spread([s for _, s, _ in runs], ".1f"),
                spread([classifier.n_iter_ for _, _, classifier in runs]),
            ])
        say(" | ".join(map(str, rows[-1])))
    header = [
        "", "logistic regression", "1-NN DTW", "MiniRocket", "LSTMClassifier", "CPU seconds a fit", "epochs",
    ]
    if options.validate:
        header = ["in cross-validation", *(dict(list(CHOICES.items())[: len(rows[0]) - 1]))]
    elif options.torch:
        header = ["", "lstm-ext", "torch", "difference", "its standard error", "time of torch / ours"]
    print(table(header, rows))
    print(f"\n{machine()}")
    return rows


if __name__ == "__main__":
    main()
