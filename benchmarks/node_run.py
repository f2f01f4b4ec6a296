"""The 100-iteration node run: the NumPy teaching implementation next to the compiled node.

Both run the same script in one process, turn about, so that what the machine does besides meets
both. Prints the median of each, and the median of the ratios of neighbours in time, which is what
to trust. The NumPy implementation knows float64 only: it is the measure for float32 too.

    python benchmarks/node_run.py
"""

import argparse
import functools
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from lstm_ext import _kernels, node

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import node_reference as reference

TARGETS = [-0.5, 0.2, 0.1, -0.5]


def run(module, make_param, mem_cell_ct, x_dim, iterations):
    """Train for some iterations; return the last predictions and loss."""
    np.random.seed(0)  # noqa: NPY002
    param = make_param(mem_cell_ct, x_dim)
    net = module.LstmNetwork(param)
    inputs = [np.random.random(x_dim) for _ in TARGETS]  # noqa: NPY002
    for _ in range(iterations):
        for x in inputs:
            net.x_list_add(x)
        predictions = [node.state.h[0] for node in net.lstm_node_list]
        loss = net.y_list_is(TARGETS, module.ToyLossLayer)
        param.apply_diff(lr=0.1)
        net.x_list_clear()
    return predictions, loss


CONTENDERS = {
    "NumPy": (reference, reference.LstmParam),
    "float64": (node, node.LstmParam),
    "float32": (node, functools.partial(node.LstmParam, dtype="float32")),
}


def race(mem_cell_ct, x_dim, iterations, rounds):
    """Return the seconds of each contender in each round."""
    seconds = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, (module, make_param) in CONTENDERS.items():
            start = time.perf_counter()
            run(module, make_param, mem_cell_ct, x_dim, iterations)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--iterations", type=int, default=100)
    args = parser.parse_args(argv)
    print(
        f"kernel {_kernels.current()}, NumPy {np.__version__}, {args.iterations} iterations of 4 "
        f"nodes, median of {args.rounds} rounds"
    )
    print(f"{'cells, inputs':>14} {'':>8} {'ms a run':>9} {'us a node':>10} {'x NumPy':>8}")
    for sizes in [(100, 50), (20, 10)]:
        race(*sizes, args.iterations, 1)  # warm
        seconds = race(*sizes, args.iterations, args.rounds)
        for name, taken in seconds.items():
            ratios = [numpy / ours for numpy, ours in zip(seconds["NumPy"], taken, strict=True)]
            median = statistics.median(taken)
            print(
                f"{sizes!s:>14} {name:>8} {median * 1e3:9.2f} "
                f"{median * 1e6 / (args.iterations * len(TARGETS)):10.2f} "
                f"{statistics.median(ratios):8.1f}"
            )


if __name__ == "__main__":
    main()
