"""Training: the loop over mini-batches, and L-BFGS over a whole training set.

`fit` and `fit_lbfgs` train any `Trainable`, which `lstm_ext.Model` is. What several processes have to do
together is behind `ProcessGroup`; `lstm_ext.distributed` implements it over MPI.
"""

from lstm_ext.training._batches import POOL as POOL
from lstm_ext.training._batches import Batches as Batches
from lstm_ext.training._callback_list import CallbackList as CallbackList
from lstm_ext.training._checkpoint import TrainingState as TrainingState
from lstm_ext.training._checkpoint import packed as packed
from lstm_ext.training._checkpoint import unpack as unpack
from lstm_ext.training._data import SequenceData
from lstm_ext.training._history import EpochRecord, History
from lstm_ext.training._lbfgs import fit_lbfgs
from lstm_ext.training._loop import fit
from lstm_ext.training._protocols import ProcessGroup, Trainable
from lstm_ext.training._run import Run as Run
from lstm_ext.training._serial import SerialGroup
from lstm_ext.training._stored import Stored as Stored

# The other names are for lstm_ext.distributed and lstm_ext.model.
__all__ = [
    "EpochRecord", "History", "ProcessGroup", "SequenceData", "SerialGroup", "Trainable", "fit", "fit_lbfgs",
]


def __dir__() -> list[str]:
    return __all__
