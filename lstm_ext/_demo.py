"""What the demos of the command line share: progress, tables, and files that are written whole or not at all.

A demo is a module ``_demo_NAME`` with ``FILES``, the names that it may write, ``EPOCHS``, and
``solve(seed, epochs, progress)``, which prints its results and returns a function of a path for each file.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_ext._threads import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from matplotlib.figure import Figure

    Writers = dict[str, Callable[[Path], None]]  # by the names of the files

NAMES = ("catchment", "spring", "elnino")


class Progress:
    """tqdm's bar where it is installed and standard error is a terminal, else a line now and then."""

    def __init__(self, quiet: bool) -> None:
        self.steps, self.done, self.bar, self.quiet = 0, 0, None, quiet

    def begin(self, steps: int) -> None:
        """Start to count epochs, of all networks together."""
        self.steps, self.done = steps, 0
        if not self.quiet and sys.stderr.isatty() and importlib.util.find_spec("tqdm"):
            from tqdm import tqdm

            self.bar = tqdm(total=steps, desc="training", unit="epoch", leave=False)

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Count one epoch; a callback of `Model.fit`."""
        self.done += 1
        if self.bar is not None:
            self.bar.update()
        elif not self.quiet and self.done * 10 // self.steps > (self.done - 1) * 10 // self.steps:
            print(f"training: epoch {self.done} of {self.steps}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Print a line on standard error, above the bar."""
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        elif not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def table(columns: list[str], rows: dict[str, list[str]]) -> list[str]:
    """Return lines of text: names to the left, numbers to the right.

    Parameters
    ----------
    columns : list of str
        Titles; the first is that of the names.
    rows : dict
        Name to list of str, one for each of the other columns.
    """
    wide = max(len(name) for name in (columns[0], *rows)) + 2
    widths = [max(len(title), 7) + 2 for title in columns[1:]]
    lines = []
    for name, cells in {columns[0]: columns[1:], **rows}.items():
        right = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        lines.append((name.ljust(wide) + "".join(right)).rstrip())
    return lines


def save_picture(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure of matplotlib as PNG."""
    figure.savefig(path, format="png", dpi=150)


def new_figure(size: tuple[float, float]) -> Figure:
    """Return a figure without pyplot, which would look for a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread in the block: a step of networks this small ends before a second one wakes up."""
    threads = get_num_threads()
    set_num_threads(1)
    try:
        yield
    finally:
        set_num_threads(threads)


def _check_output(folder: Path, files: Sequence[str], force: bool) -> list[Path]:
    """Make the folder before the training; return the folders that are new, inner ones first."""
    present = [name for name in files if (folder / name).exists()]
    if present and not force:
        raise ValueError(
            f"{folder / present[0]} exists; expected a new folder: give --output, or --force to replace its "
            "files"
        )
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return new


def _write(folder: Path, writers: Writers) -> None:
    """Write all files under another name first, so that none is left unfinished."""
    moved = []
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as draft:
        for name, write in writers.items():
            write(Path(draft) / name)
        try:
            for name in writers:
                new = not (folder / name).exists()
                os.replace(Path(draft) / name, folder / name)
                if new:
                    moved.append(folder / name)
        except BaseException:
            for path in moved:
                path.unlink()
            raise


def run(
    name: str = "catchment", seed: int = 0, epochs: int | None = None,
    output: str | os.PathLike[str] = "lstm-ext-demo", quiet: bool = False, force: bool = False
) -> None:
    """Train, compare, and write the results.

    Parameters
    ----------
    name : {"catchment", "spring", "elnino"}
        Which demo.
    seed : int
        Everything that is drawn at random follows from it.
    epochs : int, optional
        Training epochs of each LSTM. Default: those that the demo was validated with.
    output : str or path-like
        Folder for the files; made if it is missing, and removed if the demo does not end.
    quiet : bool
        Show no progress.
    force : bool
        Replace files of an earlier demo.
    """
    demo = importlib.import_module(f"lstm_ext._demo_{name}")
    folder, progress = Path(output), Progress(quiet)
    new = _check_output(folder, demo.FILES, force)
    try:
        try:
            with one_thread():
                writers = demo.solve(seed, demo.EPOCHS if epochs is None else epochs, progress)
        finally:
            progress.end()
        if not importlib.util.find_spec("matplotlib"):
            writers = {file: write for file, write in writers.items() if not file.endswith(".png")}
        _write(folder, writers)
    except BaseException:
        with contextlib.suppress(OSError):  # not empty: somebody else uses it
            for path in new:
                path.rmdir()
        raise
    print(f"\nwritten to {folder}: {', '.join(writers)}")
    if not importlib.util.find_spec("matplotlib"):
        print("no picture: matplotlib is not installed (pip install 'lstm-ext[plot]')")
