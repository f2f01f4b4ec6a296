"""Compare lstm_ext with its peers: python benchmarks/compare.py. README.md says how to read it."""

import argparse
import json

import report
from run import SECTIONS, run


def _shape(text):
    sizes = tuple(int(size) for size in text.split(","))
    if len(sizes) != 4 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not T,N,I,H: four positive integers")
    return sizes


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        "--sections",
        nargs="+",
        choices=SECTIONS,
        default=list(SECTIONS),
        metavar="NAME",
        help=f"some of: {' '.join(SECTIONS)}",
    )
    add(
        "--shapes",
        nargs="+",
        type=_shape,
        metavar="T,N,I,H",
        help="instead of a section's own (memory keeps its own)",
    )
    add(
        "--peers",
        nargs="*",
        choices=report.PEER_NAMES,
        default=list(report.PEER_NAMES),
        metavar="NAME",
        help=f"some of: {' '.join(report.PEER_NAMES)}; none for lstm_ext alone",
    )
    add("--threads", type=int, default=2, help="threads in the section threads (default: 2)")
    add("--seconds", type=float, default=3.0, help="at least this long for each row (default: 3)")
    add("--quick", action="store_true", help="tiny shapes and little time: does it run at all?")
    add("--json", metavar="FILE", help="write everything that was measured")
    add("--plot", metavar="FILE", help="draw inference and training (needs matplotlib)")
    options = parser.parse_args(argv)
    if options.quick:
        options.seconds = min(options.seconds, 0.05)
    results = run(vars(options))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)
    if options.plot:
        report.plot(results, options.plot)


if __name__ == "__main__":
    main()
