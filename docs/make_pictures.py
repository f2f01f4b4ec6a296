"""Write the pictures of the gallery to docs/pictures, as SVG: `python docs/make_pictures.py [EXAMPLE ...]`.

The pages of the documentation show them where no site has been built. They are made anew when an example
or `lstm_ext.plot` changes what it draws.
"""

import runpy
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

HERE = Path(__file__).parent
LARGEST = 100_000  # bytes


def main(names):
    examples = sorted((HERE.parent / "examples").glob("plot_*.py"))
    for example in examples:
        if names and example.stem not in names:
            continue
        runpy.run_path(str(example))
        for number in plt.get_fignums():
            path = HERE / "pictures" / f"{example.stem}-{number}.svg"
            # The same picture, the same bytes; text as outlines, so that it looks the same everywhere.
            with plt.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "path"}):
                plt.figure(number).savefig(path, metadata={"Date": None, "Creator": None})
            lines = [line.rstrip() for line in path.read_text(encoding="utf-8").splitlines()]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            size = path.stat().st_size
            print(f"{path.relative_to(HERE.parent)}: {size} bytes")
            if size > LARGEST:
                sys.exit(f"{path} is larger than {LARGEST} bytes")
        plt.close("all")


if __name__ == "__main__":
    main(sys.argv[1:])
