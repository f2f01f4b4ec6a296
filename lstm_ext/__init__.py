"""The LSTM for scientific Python: NumPy in, NumPy out, a compiled Cython and C core."""

from importlib.machinery import PathFinder as _PathFinder

__version__ = "0.1.0"  # stands here alone: pyproject.toml reads it

if _PathFinder.find_spec("lstm_ext._lstm", __path__) is None:
    # The checkout's root comes first on the path of whoever stands in it. Only this folder counts: an
    # editable install of another checkout would lend its own half.
    from pathlib import Path as _Path

    raise ImportError(
        f"{_Path(__file__).parent} holds the source of lstm_ext without its compiled half for this "
        "Python: run `pip install -e .` in the directory above it to build it there, or, if "
        "lstm-ext is installed, start Python in another directory"
    )

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
    "get_num_threads",
    "rand_arr",
    "set_num_threads",
    "sigmoid",
    "sigmoid_derivative",
    "tanh_derivative",
]
