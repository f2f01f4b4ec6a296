"""The command ``lstm-ext``, also ``python -m lstm_ext``."""

import argparse
import os
import platform
import sys

import numpy as np
import scipy

import lstm_ext
from lstm_ext import _demo, _kernels, _launch
from lstm_ext._threads import mpi_processes


def _cpu():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _blas():
    """Return the BLAS that SciPy was built with, which is the one that the kernels call."""
    built = scipy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{built.get('name', 'unknown')} {built.get('version', '')}".strip() + " (SciPy's)"


def _cpus():
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _share():
    """Say that this is one of several MPI processes, which by default have a thread each."""
    processes = mpi_processes()
    return f" (one of {processes} MPI processes, by default a thread each)" if processes > 1 else ""


def _info():
    facts = {
        "lstm-ext": f"{lstm_ext.__version__} in {os.path.dirname(lstm_ext.__file__)}",
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "NumPy": np.__version__,
        "SciPy": scipy.__version__,
        "platform": platform.platform(),
        "CPU": f"{_cpu()}, {_cpus()} usable",
        "kernel": f"{_kernels.current()} (available: {', '.join(_kernels.available())})",
        "BLAS": _blas(),
        "threads": f"{lstm_ext.get_num_threads()}{_share()}",
    }
    for name, fact in facts.items():
        print(f"{name + ':':10}{fact}")


def _at_least(least):
    def number(text):
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    number.__name__ = "integer"  # argparse names it: "invalid integer value: 'many'"
    return number


def _parser():
    parser = argparse.ArgumentParser(
        prog="lstm-ext", description="The LSTM for scientific Python: a demo, and what runs here."
    )
    parser.add_argument("--version", action="version", version=f"lstm-ext {lstm_ext.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    demo = commands.add_parser(
        "demo",
        help="train on a real series (El Niño) and compare with simple forecasts",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument("--seed", type=_at_least(0), default=0, help="seed of all random numbers")
    demo.add_argument(
        "--epochs", type=_at_least(1), default=_demo.EPOCHS, help="passes over the learning years"
    )
    demo.add_argument(
        "--output", metavar="DIR", default="lstm-ext-demo", help="folder for plot and models"
    )
    demo.add_argument("--quiet", action="store_true", help="show no progress")
    fit = commands.add_parser(
        "fit",
        help="train as a TOML file says, on all ranks of mpiexec or srun",
        description="Train as a TOML file says; docs/distributed.md lists what it may hold. Under mpiexec or "
        "srun all processes train one model together.",
    )
    fit.add_argument("config", help="the TOML file; the paths in it are relative to it")
    fit.add_argument("--resume", action="store_true", help="go on from training.checkpoint, if it is there")
    fit.add_argument("--mpi", action="store_true", help="use MPI also where no launcher is recognised")
    commands.add_parser("info", help="print versions, CPU, kernel, BLAS and threads")
    return parser


def main(argv=None):
    """Run the command line `argv`, by default that of the process; return the exit status."""
    arguments = _parser().parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # no terminal is too old for "El Niño"
    if arguments.command == "info":
        _info()
        return 0
    if arguments.command == "fit":
        return _launch.main(arguments.config, arguments.resume, arguments.mpi)
    try:
        _demo.run(arguments.seed, arguments.epochs, arguments.output, arguments.quiet)
    except OSError as error:
        print(f"lstm-ext demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lstm-ext demo: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
