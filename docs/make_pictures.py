"""Write pictures to docs/pictures, as SVG: `python docs/make_pictures.py [NAME ...]`.

Names are those of the gallery's examples, ``demo_catchment`` and ``speed``. The pages of the documentation
show the pictures where no site has been built. Make them again when an example, a demo, `lstm_ext.plot` or
the table of docs/benchmarks.md changes.
"""

import re
import runpy
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).parent
LARGEST = 150_000  # bytes


def _shortened(line):
    """Return a line of a path with coordinates to a tenth of a point."""
    if re.match(r'(<path d=")?[MLCQ] ', line):
        return re.sub(r"(\.\d)\d+", r"\1", line)
    return line


def save(figure, name):
    """Write a figure: the same picture has the same bytes, and its text is outlines."""
    path = HERE / "pictures" / f"{name}.svg"
    with plt.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    lines = [_shortened(line.rstrip()) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    size = path.stat().st_size
    print(f"{path.relative_to(HERE.parent)}: {size} bytes")
    if size > LARGEST:
        sys.exit(f"{path} is larger than {LARGEST} bytes")


def demo_catchment():
    """Return the picture of ``lstm-ext demo``, from its default seed."""
    from lstm_ext import _demo_catchment as demo

    problem = demo.Problem(0)
    models = [demo.train_member(problem, [0, member]) for member in range(demo.MEMBERS)]
    found = {
        "gradient boosting": demo.boosting(problem, 0),
        "LSTM": np.mean([demo.simulate(problem, model) for model in models], axis=0),
    }
    return demo.draw(problem, found, demo.snow_cell(problem, models))


def speed():
    """Return the speed chart: the table of docs/benchmarks.md, as bars."""
    text = (HERE / "benchmarks.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| T")]
    chosen = [row for row in rows if row[0] in CHOSEN]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for place, title, peers in (
        (axes[0], "inference", {"torch": 2, "onnxruntime": 3, "jax": 4}),
        (axes[1], "training", {"torch": 6, "jax": 7}),
    ):
        for number, (name, column) in enumerate(peers.items()):
            ratio = [float(row[column]) for row in chosen]
            lines = np.arange(len(chosen)) + 0.26 * (number - (len(peers) - 1) / 2)
            place.barh(lines, ratio, 0.24, color=COLORS[name], label=name)
        place.axvline(1, color="black", lw=1.5)
        place.set(title=f"{title}: time, lstm-ext = 1", xscale="log", xlim=(0.8, 14))
        place.set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
        place.minorticks_off()
        place.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(chosen)), [row[0] for row in chosen])
    axes[0].invert_yaxis()
    axes[0].legend(frameon=False, loc="lower right")
    return figure


CHOSEN = [
    "T100 N1 I16 H32", "T100 N1 I64 H128", "T100 N32 I32 H64", "T365 N256 I32 H64", "T20 N64 I1024 H1024",
]
COLORS = {"torch": "#D55E00", "onnxruntime": "#56B4E9", "jax": "#009E73"}  # Okabe and Ito


def main(names):
    for drawn in (demo_catchment, speed):
        if not names or drawn.__name__ in names:
            save(drawn(), drawn.__name__)
    plt.close("all")
    for example in sorted((HERE.parent / "examples").glob("plot_*.py")):
        if names and example.stem not in names:
            continue
        runpy.run_path(str(example))
        for number in plt.get_fignums():
            save(plt.figure(number), f"{example.stem}-{number}")
        plt.close("all")


if __name__ == "__main__":
    main(sys.argv[1:])
