"""Train one model on several processes.

    mpiexec -n 4 python -m mpi4py examples/mpi_training.py

Each process computes the gradient of a part of every mini-batch. As ``block`` is given, the result has
the same bits for any number of processes, 1 included. ``-m mpi4py`` ends all processes when one fails.
"""

import numpy as np
from mpi4py import MPI

from lstm_ext import LSTM, Adam, Model
from lstm_ext.distributed import DataParallel

# All processes make, or map, the same training set: here the running mean of noise.
rng = np.random.default_rng(0)
x = rng.normal(size=(512, 40, 1)).astype(np.float32)
y = x.cumsum(axis=1) / np.sqrt(np.arange(1, 41))[:, None]

model = Model(LSTM(1, 16, rng=0), 1, every_step=True, rng=0)
ranks = DataParallel(MPI.COMM_WORLD, shards="cut", block=8)
history = model.fit(
    x[:448], y[:448], epochs=5, batch_size=64, rng=0, optimizer=Adam(1e-2, max_norm=1.0),
    validation=(x[448:], y[448:]), comm=ranks,
)

if ranks.first:
    for r in history:
        print(f"epoch {r['epoch']}: loss {r['loss']:.6f}, validation loss {r['validation_loss']:.6f}")
    share = ranks.seconds / sum(r["seconds"] for r in history)
    print(f"{ranks.size} processes, which waited for each other {100 * share:.0f} % of the time")
