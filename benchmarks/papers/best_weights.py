"""Which weights LSTMClassifier keeps, over 200 seeds of BasicMotions: 40 series, two steps an epoch.

A loss may jump in the last steps of a training. The script evaluates the loss on all 40 series after every
epoch, by a callback, and compares that of the weights that were kept with the lowest one passed.

    python benchmarks/papers/best_weights.py [--seeds 200] [--quick]
"""

import warnings

import numpy as np
from classification import load
from common import Stopwatch, arguments, machine, say, table


class Losses:
    """A callback that evaluates the loss of the present weights on everything that is learned from."""

    def __init__(self, classifier, series, labels):
        self.classifier, self.series = classifier, series
        self.numbers = np.unique(labels, return_inverse=True)[1]
        self.values = []

    def present(self):
        """Return the loss now."""
        probability = self.classifier.predict_log_proba(self.series)
        return float(-probability[np.arange(len(self.numbers)), self.numbers].mean())

    def __call__(self, record):
        """Take the record of an epoch."""
        self.values.append(self.present())


def main(argv=None):
    from lstm_ext.sklearn import LSTMClassifier

    options = arguments(__doc__, "10 epochs", argv)
    warnings.filterwarnings("ignore", message="max_iter")
    (series, labels), _ = load("BasicMotions")
    series, watch, ratios, last = np.stack(series), Stopwatch(), [], []
    for seed in options.seeds:
        classifier = LSTMClassifier(random_state=seed, max_iter=10 if options.quick else "auto")
        losses = Losses(classifier, series, labels)
        classifier.set_params(callbacks=[losses]).fit(series, labels)
        lowest = min(losses.values)
        ratios.append(losses.present() / lowest)
        last.append(losses.values[-1] / lowest)
        if seed % 20 == 0:
            say(f"seed {seed}: kept {ratios[-1]:.3f}, last {last[-1]:.3f} times the lowest loss")
    rows = [
        [name, len(values), sum(value > 2 for value in values), f"{max(values):.3f}"]
        for name, values in (("kept", ratios), ("of the last epoch", last))
    ]
    print(table(["weights", "seeds", "more than twice the lowest loss", "largest ratio"], rows))
    print(f"\n{watch.seconds:.0f} CPU seconds\n{machine()}")
    return ratios


if __name__ == "__main__":
    main()
