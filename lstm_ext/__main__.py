"""The command ``lstm-ext``, also ``python -m lstm_ext``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from lstm_ext import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

# NumPy and all that needs it are imported by the commands: --help does not wait for them.

_EXAMPLE = """\
# lstm-ext fit this-file.toml. Paths are relative to this file.
data = "gauge.csv"                 # CSV or Parquet, one row for each time step
target = "discharge"               # the column to forecast
inputs = ["rain", "temperature"]   # columns that are known in advance; [] for none
static = []                        # columns that are constant in each series, such as an area
time = "date"
# series = "gauge"                 # the column that names the series, where there are several
task = "forecast"                  # "regression": the target from the inputs alone, at each step
horizon = 12                       # steps to forecast
origins = 4                        # forecasts of the back-test; 0 for none
seed = 0
output = "gauge.safetensors"

[options]                          # parameters of LSTMForecaster (or LSTMRegressor)
n_members = 5
"""


_DEMOS = """\
Train LSTMs beside other methods, and print errors of validation and test.

  catchment  15 s: discharge of a simulated snow-fed river from rain and temperature
             catchment.png, catchment.csv (the data), catchment-1 to -3.safetensors
  spring     8 s:  displacement of a simulated spring with hysteresis from the force
             spring.png, spring.safetensors
  elnino     5 s:  the temperature of the tropical Pacific, 1 to 12 months ahead
             elnino.png, elnino-1 to -5.safetensors

Times are those of one core of an AMD EPYC (Zen 4). Pictures need matplotlib,
gradient boosting scikit-learn. Files that exist are not replaced."""


class _Parser(argparse.ArgumentParser):
    """Adds "did you mean" to its errors."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and end with status 2."""
        import difflib
        import re

        wrong = re.search(r"invalid choice: '([^']*)'|unrecognized arguments: (-\S*)", message)
        known = [option for action in self._actions for option in action.option_strings if option[:2] == "--"]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                known += list(action.choices)
                for parser in action.choices.values():
                    known += [o for a in parser._actions for o in a.option_strings if o[:2] == "--"]
            elif action.choices:
                known += [str(choice) for choice in action.choices]
        if wrong:
            near = difflib.get_close_matches((wrong[1] or wrong[2]).partition("=")[0], known, 1)
            message += f"; did you mean {near[0]!r}?" if near else ""
        super().error(message)


def _cpu() -> str:
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _blas() -> str:
    """Return the BLAS that SciPy was built with, which is the one that the kernels call."""
    import scipy

    built = scipy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{built.get('name', 'unknown')} {built.get('version', '')}".strip() + " (SciPy's)"


def _cpus() -> int | None:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _share() -> str:
    """Say that this is one of several MPI processes, which by default have a thread each."""
    from lstm_ext._threads import mpi_processes

    processes = mpi_processes()
    return f" (one of {processes} MPI processes, by default a thread each)" if processes > 1 else ""


def _extras() -> dict[str, str | None]:
    """Return the versions of the optional libraries, None where one is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in (
        "scikit-learn", "pandas", "polars", "pyarrow", "matplotlib", "tqdm", "safetensors", "h5py", "onnx",
        "onnxruntime", "mpi4py",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _info(as_json: bool) -> None:
    import platform

    import numpy as np
    import scipy

    from lstm_ext import __path__, _kernels, get_num_threads

    if as_json:
        import json

        print(json.dumps({
            "lstm-ext": __version__, "folder": __path__[0], "Python": platform.python_version(),
            "NumPy": np.__version__, "SciPy": scipy.__version__, "platform": platform.platform(),
            "CPU": _cpu(), "CPUs": _cpus(), "kernel": _kernels.current(),
            "kernels": list(_kernels.available()),
            "caches": _kernels.caches,
            "precisions": {precision: _kernels.in_force(precision) for precision in _kernels.PRECISIONS},
            "BLAS": _blas(), "threads": get_num_threads(), "extras": _extras(),
        }, indent=1))
        return
    facts = {
        "lstm-ext": f"{__version__} in {__path__[0]}",
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "NumPy": np.__version__,
        "SciPy": scipy.__version__,
        "platform": platform.platform(),
        "CPU": f"{_cpu()}, {_cpus()} usable",
        "kernel": f"{_kernels.current()} (available: {', '.join(_kernels.available())})",
        "caches": ", ".join(f"{name} {size // 1024} KB" for name, size in _kernels.caches.items()),
        "precision": ", ".join(
            f"{precision} by {_kernels.in_force(precision)}" for precision in _kernels.PRECISIONS[1:]
        ),
        "BLAS": _blas(),
        "threads": f"{get_num_threads()}{_share()}",
    }
    for name, fact in facts.items():
        print(f"{name + ':':11}{fact}")


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    number.__name__ = "integer"  # argparse names it: "invalid integer value: 'many'"
    return number


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _parser() -> _Parser:
    parser = _Parser(
        prog="lstm-ext", description="The LSTM for scientific Python, from the command line.",
        epilog="First try: lstm-ext demo",
    )
    parser.add_argument("--version", action="version", version=f"lstm-ext {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    demo = commands.add_parser(
        "demo",
        help="train on a simulated catchment and compare with other methods (15 s)",
        description=_DEMOS, formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # The names of _demo.NAMES, which would import NumPy; a test compares them.
    demo.add_argument(
        "name", nargs="?", choices=("catchment", "spring", "elnino"), default="catchment",
        help="which demo (default catchment)",
    )
    demo.add_argument("--seed", type=_at_least(0), default=0, help="seed of all random numbers (default 0)")
    demo.add_argument(
        "--epochs", type=_at_least(1), help="training epochs (default: as validated for each demo)"
    )
    demo.add_argument(
        "-o", "--output", metavar="DIR", default="lstm-ext-demo",
        help="folder for the files (default lstm-ext-demo)",
    )
    demo.add_argument("--force", action="store_true", help="replace files that exist")
    demo.add_argument("--quiet", action="store_true", help="show no progress")
    fit = commands.add_parser(
        "fit",
        help="train on a CSV or Parquet file, or as a TOML file says",
        description="Train on a table of series (CSV or Parquet), or as a TOML file says. Writes the "
        "model, and a back-test as table and picture.",
        epilog="Example: lstm-ext fit gauge.csv --target discharge --inputs rain --horizon 12. A TOML file "
        "with [data], [model] and [training] trains on arrays, under mpiexec or srun on all processes: "
        "docs/distributed.md.",
    )
    fit.add_argument("data", nargs="?", help="the CSV, Parquet or TOML file")
    fit.add_argument("--target", metavar="COLUMN", help="to forecast; default: the one column of numbers")
    fit.add_argument("--inputs", metavar="COLUMNS", type=_names, help="known in advance: rain,temperature")
    fit.add_argument("--static", metavar="COLUMNS", type=_names, help="constant in each series")
    fit.add_argument("--time", metavar="COLUMN", help="default: the one column of dates")
    fit.add_argument("--series", metavar="COLUMN", help="names the series, where there are several")
    fit.add_argument(
        "--task", choices=("forecast", "regression"),
        help="forecast (default): from the target's past and inputs; regression: from inputs alone",
    )
    fit.add_argument("--horizon", type=_at_least(1), metavar="STEPS", help="steps to forecast (default 1)")
    fit.add_argument("--window", type=_at_least(1), metavar="STEPS", help="steps to look back")
    fit.add_argument("--origins", type=_at_least(0), help="forecasts of the back-test (default 4)")
    fit.add_argument("--seed", type=_at_least(0), help="seed of all random numbers (default 0)")
    fit.add_argument("-o", "--output", metavar="FILE", help="default: the data's name with .safetensors")
    fit.add_argument("--force", action="store_true", help="replace files that are there")
    fit.add_argument("--example", action="store_true", help="print a TOML file to start from")
    fit.add_argument("--resume", action="store_true", help="arrays: go on from training.checkpoint")
    fit.add_argument("--mpi", action="store_true", help="arrays: use MPI where no launcher is recognised")
    predict = commands.add_parser(
        "predict",
        help="forecast with a model of lstm-ext fit",
        description="Read a model and a table with the same columns, and write time, forecast, lower and "
        "upper as CSV. A forecast begins after the last known value of the target; rows after that give "
        "its inputs.",
    )
    predict.add_argument("model", help="the file that lstm-ext fit has written")
    predict.add_argument("data", help="the CSV or Parquet file: past of the target, and inputs")
    predict.add_argument("--inputs-future", metavar="FILE", help="inputs of the steps that are forecast")
    predict.add_argument("--horizon", type=_at_least(1), metavar="STEPS", help="default: that of fit")
    predict.add_argument("--coverage", type=float, default=0.9, help="of the intervals (default 0.9)")
    predict.add_argument("-o", "--output", metavar="FILE", help="default: the terminal")
    predict.add_argument("--force", action="store_true", help="replace a file that is there")
    info = commands.add_parser("info", help="print versions, CPU, kernel, BLAS and threads")
    info.add_argument("--json", action="store_true", help="as JSON, with optional libraries")
    return parser


def _fit(parser: _Parser, arguments: argparse.Namespace) -> int:
    if arguments.example:
        print(_EXAMPLE, end="")
        return 0
    if arguments.data is None:
        parser.error("fit has no data; expected a CSV, Parquet or TOML file: lstm-ext fit gauge.csv")
    given = {
        name: getattr(arguments, name) for name in (
            "target", "inputs", "static", "time", "series", "task", "horizon", "window", "origins", "seed",
            "output",
        ) if getattr(arguments, name) is not None
    }
    from lstm_ext import _commands

    _print_warnings()
    settings = {"data": arguments.data}
    suffix = os.path.splitext(arguments.data)[1].lower()
    if suffix in (".toml", ".conf", ".cfg", ".ini", "") and not os.path.isdir(arguments.data):
        settings = _commands.read_config(arguments.data)
        if settings is None:
            if given:
                raise ValueError(
                    f"--{next(iter(given))} is given with {arguments.data}; expected no options of tables: "
                    "this file trains on arrays"
                )
            from lstm_ext import _launch

            return _launch.main(arguments.data, arguments.resume, arguments.mpi)
    if arguments.resume or arguments.mpi:
        raise ValueError(
            "--resume or --mpi is given; expected neither: they are for arrays (docs/distributed.md)"
        )
    _commands.fit({**settings, **given}, arguments.force)
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from lstm_ext import _commands

    _print_warnings()
    _commands.predict(
        arguments.model, arguments.data, arguments.inputs_future, arguments.horizon, arguments.coverage,
        arguments.output, arguments.force,
    )
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from lstm_ext import _demo

    _demo.run(
        arguments.name, arguments.seed, arguments.epochs, arguments.output, arguments.quiet, arguments.force
    )
    return 0


def _print_warnings() -> None:
    """Let warnings be notes, each once, without a line of Python."""
    import warnings

    said = set()

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: object = None,
        line: object = None
    ) -> None:
        if str(message) not in said and not issubclass(category, RuntimeWarning):
            print(f"note: {message}", file=sys.stderr)
        said.add(str(message))

    warnings.showwarning = show


def _text_of(error: BaseException) -> str:
    """Return the message of an error, without an error number of the system."""
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename is not None else ""
        return f"{name}{error.strerror[0].lower()}{error.strerror[1:]}"
    if isinstance(error, MemoryError):
        return f"the memory does not suffice: {error}" if str(error) else "the memory does not suffice"
    return str(error)


def _run(parser: _Parser, arguments: argparse.Namespace) -> int:
    if arguments.command is None:
        parser.print_help()
        return 0
    if arguments.command == "info":
        _info(arguments.json)
        return 0
    import warnings

    shows = warnings.showwarning
    try:
        if arguments.command == "fit":
            return _fit(parser, arguments)
        if arguments.command == "predict":
            return _predict(arguments)
        return _demo(arguments)
    except BrokenPipeError:
        raise
    except (OSError, ValueError, TypeError, ImportError, FloatingPointError, MemoryError) as error:
        print(f"lstm-ext {arguments.command}: {_text_of(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"lstm-ext {arguments.command}: interrupted", file=sys.stderr)
        return 130
    finally:
        warnings.showwarning = shows


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv`, by default that of the process; return the exit status."""
    try:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # no terminal is too old for "El Niño"
        parser = _parser()
        status = _run(parser, parser.parse_args(argv))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader has enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
