"""The command ``lstm-ext fit``: a training as a TOML file says, on one process or on many."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_ext import callbacks, optim, schedules
from lstm_ext._files import blamed, load_array, load_arrays, read_file, replace_file
from lstm_ext._threads import mpi_processes
from lstm_ext.distributed import DataParallel, RankError
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    import numpy.typing as npt

_MAX_CONFIG = 2**16  # bytes
_ARRAYS = ("x", "y", "lengths", "mask", "static", "sample_weight")
_TABLE_FILES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".feather", ".xlsx", ".xls")
_TABLES: dict[str, tuple[str, ...] | None] = {
    "data": (*_ARRAYS, "npz"),
    "validation": (*_ARRAYS, "npz"),
    "model": None,  # what Model does not take is an option of LSTM
    "optimizer": None,
    "schedule": None,
    "training": (
        "epochs", "batch_size", "seed", "bucket", "bptt", "checkpoint", "checkpoint_every", "patience",
        "progress",
    ),
    "parallel": ("shards", "block", "check_every", "timeout"),
    "output": ("model", "history"),
}
_MODEL = ("output_size", "every_step", "loss")


def main(config: str, resume: bool, mpi: bool) -> int:
    """Train; return the exit status."""
    try:
        comm = _communicator(mpi)
    except ImportError as error:
        print(f"lstm-ext fit: {error}", file=sys.stderr)
        return 1
    rank = 0 if comm is None else comm.Get_rank()
    try:
        _train(Path(config), resume, comm)
    except RankError as error:
        print(f"lstm-ext fit: rank {rank}: {error}", file=sys.stderr, flush=True)
        comm.Abort(1)  # the others may wait without end
    except (OSError, TypeError, ValueError, FloatingPointError, MemoryError) as error:
        print(f"lstm-ext fit: {f'rank {rank}: ' if comm else ''}{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lstm-ext fit: interrupted", file=sys.stderr)
        return 130
    return 0


def _communicator(mpi: bool) -> Any:
    if not mpi and mpi_processes() == 1:
        return None
    try:
        from mpi4py import MPI
    except ImportError:
        raise ImportError(
            f"this is one of {mpi_processes()} MPI processes, and mpi4py is not installed: pip install "
            "lstm-ext[mpi]"
        ) from None
    return MPI.COMM_WORLD


def _train(path: Path, resume: bool, comm: Any) -> None:
    group = DataParallel(comm)
    with group.agreed():  # an error of one rank would leave the others waiting
        model, arguments, output, parallel = _read(path, group.rank)
        target = path.parent / output.get("model", f"{path.stem}.safetensors")
        if "model" not in output and target.exists() and not resume:
            raise ValueError(f"{target} is there already: name the model's file in [output] model")
        group = DataParallel(comm, **{"shards": "cut", **parallel})
    serial = comm is None and "block" not in parallel
    history = model.fit(**arguments, resume=resume, comm=None if serial else group)
    if group.first:
        last = dict(history[-1]) if history else {}
        losses = [f", {name} {last[name]:.6g}" for name in ("loss", "validation_loss") if name in last]
        print(f"{len(history)} epochs{''.join(losses)}")
        model.save(target)
        print(f"model: {target}")
        if "history" in output:
            with replace_file(path.parent / output["history"]) as temporary:
                Path(temporary).write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")


def _read(path: Path, rank: int) -> tuple[Model, dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the model, the arguments of its `fit`, the tables output and parallel."""
    with blamed(f"{path} is not TOML"):
        text = read_file(path, _MAX_CONFIG).decode()
        if max(text.count("["), text.count("{"), text.count(".")) > _MAX_CONFIG // 32:
            raise ValueError("it has too many tables, arrays and points")
        config = tomllib.loads(text)
    for name, table in config.items():
        if name not in _TABLES or not isinstance(table, dict):
            raise ValueError(f"{path} has {name!r}, its tables may be {', '.join(_TABLES)}")
        for key in table:
            known = _TABLES[name]
            if known is not None and key not in known:
                raise ValueError(f"{path}: [{name}] has {key!r}, it may have {', '.join(known)}")
    for name, needed in (("data", "y" if "npz" not in config.get("data", ()) else "npz"),
                         ("model", "hidden_size"), ("training", "epochs")):
        if needed not in config.get(name, ()):
            raise ValueError(f"{path}: [{name}] has no {needed}")

    data = _arrays(config["data"], path.parent, rank)
    training = dict(config["training"])
    seed = training.pop("seed", 0)
    options = dict(config["model"])
    mine = {name: options.pop(name) for name in _MODEL if name in options}
    x, y = data["x"], data["y"]
    if x.ndim != 3 or y.ndim < 2:
        raise ValueError(
            f"x has shape {x.shape}; expected (n, time, features); y {y.shape}; expected (n, outputs) or "
            "(n, time, outputs)"
        )
    for name in (*config.get("output", {}).values(), *filter(None, [training.get("checkpoint")])):
        if not isinstance(name, str) or not (path.parent / name).parent.is_dir():
            raise ValueError(f"{path}: {name!r} is not a file in a folder that exists")
    lstm = LSTM(
        options.pop("input_size", x.shape[-1]), options.pop("hidden_size"), **{"rng": seed, **options}
    )
    size = mine.pop("output_size", None)
    if size is None:
        if mine.get("loss", "mse") not in ("mse", "mae", "huber", "poisson"):
            raise ValueError(f"{path}: [model] has no output_size, and loss {mine['loss']!r} needs one")
        size = y.shape[-1]
    model = Model(lstm, size, rng=seed, **mine)

    arguments = {**data, "rng": seed}
    if "validation" in config:
        arguments["validation"] = _arrays(config["validation"], path.parent, rank)
    arguments["optimizer"] = _object(
        optim, ("SGD", "RMSprop", "Adam", "AdamW"), {"name": "Adam", **config.get("optimizer", {})}, path
    )
    if "schedule" in config:
        arguments["schedule"] = _object(
            schedules, ("Cosine", "Plateau", "Step", "WarmUp"), config["schedule"], path
        )
    if "patience" in training:
        arguments["early_stopping"] = callbacks.EarlyStopping(training.pop("patience"))
    if "checkpoint" in training:
        training["checkpoint"] = path.parent / training["checkpoint"]
    return model, arguments | training, config.get("output", {}), config.get("parallel", {})


def _object(module: ModuleType, names: Sequence[str], table: dict[str, Any], path: Path) -> Any:
    options = dict(table)
    name = options.pop("name", None)
    if name not in names:
        raise ValueError(f"{path}: name is {name!r}; expected one of {', '.join(names)}")
    return getattr(module, name)(**options)


def _arrays(table: dict[str, Any], folder: Path, rank: int) -> dict[str, npt.NDArray[Any]]:
    """Read arrays; an .npy is mapped. ``{rank}`` in a name is the number of the process."""

    def place(name: object) -> Path:
        if not isinstance(name, str):
            raise ValueError(f"{name!r} is no name of a file")
        return folder / name.replace("{rank}", str(rank))

    def read(name: str, file: object, reader: Callable[..., Any], *arguments: object) -> Any:
        with blamed(f"{name} = {file!r} cannot be read from {place(file)}"):
            return reader(place(file), *arguments)

    table = dict(table)
    for name, file in table.items():
        if Path(str(file)).suffix.lower() in _TABLE_FILES:
            raise ValueError(
                f"[data] {name} is {file!r}, a table; expected an array, .npy or .npz. For a table: "
                f"lstm-ext fit {file} --target COLUMN, or a TOML file as lstm-ext fit --example prints"
            )
    arrays: dict[str, npt.NDArray[Any]] = {}
    if "npz" in table:
        arrays = read("npz", table.pop("npz"), load_arrays, _ARRAYS)
    for name, file in table.items():
        # y and the small ones are looked at as a whole, so they may as well be in memory.
        arrays[name] = read(name, file, load_array, name == "x")
    for name in ("x", "y"):
        if name not in arrays:
            raise ValueError(f"there is no array {name}, neither named nor in an npz")
    return arrays
