"""Data-parallel training: several processes, one model, one Allreduce for each step.

``Model.fit(..., comm=MPI.COMM_WORLD)`` is all that most programs need; `DataParallel` has options. A
communicator is any object with ``Get_rank()``, ``Get_size()``, ``Allreduce(send, receive)``, which adds up,
and ``Bcast(array, root)``, for NumPy arrays, as mpi4py's have them; mpi4py itself is not imported here. Where
it has ``Iallreduce`` and ``Ibcast``, too, every wait ends after `timeout`.
"""

from lstm_ext.distributed._group import DataParallel, RankError, as_group

__all__ = ["DataParallel", "RankError", "as_group"]


def __dir__() -> list[str]:
    return __all__
