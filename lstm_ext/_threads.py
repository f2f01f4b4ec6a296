"""How many threads a call may use."""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import SupportsIndex

MAX_THREADS = 1024

_count: int | None = None
_forked = False
# Where launchers say how many processes they have started together.
_LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def mpi_processes() -> int:
    """Return how many processes mpiexec or srun has started with this one; 1 where there was neither."""
    values = (os.environ.get(name, "") for name in _LAUNCHERS)
    return next((int(value) for value in values if value.isdigit() and int(value) > 0), 1)


def _default() -> int:
    """Threads by the environment, else 1 for one of several MPI processes, else the CPUs it may use."""
    for name in ("LSTM_EXT_NUM_THREADS", "OMP_NUM_THREADS"):
        # OMP_NUM_THREADS may be a list, one number for each level of nesting
        value = os.environ.get(name, "").split(",")[0].strip()
        if value.isdigit() and int(value) > 0:
            return min(int(value), MAX_THREADS)
    if mpi_processes() > 1:
        return 1
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1


def set_num_threads(n: SupportsIndex | None) -> None:
    """Let every later call use up to `n` threads; ``None`` restores the default.

    A batch is cut into blocks of sequences by only its shape, and threads share the blocks out: the
    results have the same bits for any number of threads. The products themselves never use threads.

    Parameters
    ----------
    n : int or None
        1 to 1024.
    """
    global _count
    if n is not None:
        try:
            if isinstance(n, bool):
                raise TypeError
            n = operator.index(n)
        except TypeError:
            raise TypeError(f"n is {type(n).__name__}; expected an integer or None") from None
        if not 1 <= n <= MAX_THREADS:
            raise ValueError(f"n is {n}; expected 1 to {MAX_THREADS}")
    _count = n


def get_num_threads() -> int:
    """Return the number of threads that a call may use.

    What `set_num_threads` said; else the environment variable ``LSTM_EXT_NUM_THREADS``, else
    ``OMP_NUM_THREADS``; else 1 in a process that mpiexec or srun has started together with others, which
    share the CPUs; else the number of CPUs that this process may use. In a forked child it is always 1:
    an OpenMP run time does not survive a fork.
    """
    global _count
    if _forked:
        return 1
    if _count is None:
        _count = _default()
    return _count


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _register_with_threadpoolctl() -> None:
    """Let ``threadpoolctl.threadpool_limits`` see and set our threads, where it is installed."""
    try:
        import threadpoolctl
    except ImportError:
        return

    class Controller(threadpoolctl.LibController):  # type: ignore[misc]  # it has no types
        user_api = "openmp"
        internal_api = "lstm_ext"
        filename_prefixes = ("_stack.",)
        check_symbols = ("PyInit__stack",)

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            set_num_threads(num_threads)

        def get_version(self) -> None:
            return None

    threadpoolctl.register(Controller)


_register_with_threadpoolctl()
