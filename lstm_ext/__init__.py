"""The LSTM for scientific Python: NumPy in, NumPy out, a compiled Cython and C core."""

from importlib import metadata as _metadata

from lstm_ext._threads import get_num_threads, set_num_threads
from lstm_ext.lstm import LSTM, Stream, Tape

try:
    __version__ = _metadata.version("lstm-ext")
except _metadata.PackageNotFoundError:  # a checkout built in place
    __version__ = "0.1.0"

__all__ = ["LSTM", "Stream", "Tape", "__version__", "get_num_threads", "set_num_threads"]
