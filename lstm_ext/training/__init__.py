"""Training: the loop over mini-batches, and L-BFGS over a whole training set.

`fit` and `fit_lbfgs` train any `Trainable`, which `lstm_ext.Model` is. What several processes have to do
together is behind `ProcessGroup`; `lstm_ext.distributed` implements it over MPI.
"""

from lstm_ext.training.data import SequenceData
from lstm_ext.training.lbfgs import fit_lbfgs
from lstm_ext.training.loop import fit
from lstm_ext.training.protocols import ProcessGroup, Trainable
from lstm_ext.training.serial import SerialGroup

__all__ = ["ProcessGroup", "SequenceData", "SerialGroup", "Trainable", "fit", "fit_lbfgs"]
