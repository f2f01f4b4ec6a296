"""The LSTM for scientific Python: NumPy in, NumPy out, a compiled Cython and C core."""

from importlib import import_module as _import_module
from importlib.machinery import PathFinder as _PathFinder
from os import environ as _environ

TYPE_CHECKING = False  # type checkers take it for True; typing itself is slow to import

__version__ = "0.1.0"  # stands only here: pyproject.toml reads it

if _PathFinder.find_spec("lstm_ext._lstm", __path__) is None:
    # The checkout's root comes first on the path of whoever stands in it. Only this folder counts: an
    # editable install of another checkout would lend its own half.
    from pathlib import Path as _Path

    raise ImportError(
        f"{_Path(__file__).parent} holds the source of lstm_ext without its compiled half for this "
        "Python: run `pip install -e .` in the directory above it to build it there, or, if "
        "lstm-ext is installed, start Python in another directory"
    )

# The smallest extension, and it needs no NumPy. Loaded here, so that a second interpreter is refused when it
# imports the package, and not when it asks for the first name.
from lstm_ext import _optim as _optim  # noqa: E402
from lstm_ext import _provided  # noqa: E402

_provided.provide("native files", lambda: _import_module(f"{__name__}.io.native"))

if _environ.get("LSTM_EXT_KERNEL"):
    from lstm_ext import _kernels as _kernels  # a kernel that is not there is refused here, too

if TYPE_CHECKING:
    from lstm_ext._threads import get_num_threads, set_num_threads
    from lstm_ext.lstm import LSTM, Stream, Tape
    from lstm_ext.model import Model
    from lstm_ext.node import (
        LstmNetwork,
        LstmNode,
        LstmParam,
        LstmState,
        ToyLossLayer,
        rand_arr,
        sigmoid,
        sigmoid_derivative,
        tanh_derivative,
    )
    from lstm_ext.optim import SGD, Adam, AdamW, RMSprop
else:
    # Imported when they are first asked for: `lstm-ext --help` does not wait for NumPy and SciPy.
    _NAMES = {
        "_threads": ("get_num_threads", "set_num_threads"),
        "lstm": ("LSTM", "Stream", "Tape"),
        "model": ("Model",),
        "node": (
            "LstmNetwork", "LstmNode", "LstmParam", "LstmState", "ToyLossLayer", "rand_arr", "sigmoid",
            "sigmoid_derivative", "tanh_derivative",
        ),
        "optim": ("SGD", "Adam", "AdamW", "RMSprop"),
    }
    _MODULES = ("_kernels", "initializers", "losses", "lstm", "model", "node", "optim")

    def __getattr__(name):
        if name in _MODULES:
            return _import_module(f"{__name__}.{name}")
        for module, names in _NAMES.items():
            if name in names:
                value = getattr(_import_module(f"{__name__}.{module}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*__all__, *_MODULES[1:], *(name for name in globals() if name[:2] == "__")})


def get_include() -> str:
    """Return the directory of ``lstm_ext.h``, for a C compiler's include path."""
    return __path__[0] + "/include"


__all__ = [
    "LSTM",
    "SGD",
    "Adam",
    "AdamW",
    "LstmNetwork",
    "LstmNode",
    "LstmParam",
    "LstmState",
    "Model",
    "RMSprop",
    "Stream",
    "Tape",
    "ToyLossLayer",
    "__version__",
    "get_include",
    "get_num_threads",
    "rand_arr",
    "set_num_threads",
    "sigmoid",
    "sigmoid_derivative",
    "tanh_derivative",
]
