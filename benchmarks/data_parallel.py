"""What ranks cost and gain: time for a step, the share of Allreduce, and a model of 1,000 ranks.

    python benchmarks/data_parallel.py

Starts itself under mpiexec, with one thread for each rank; needs as many free cores as ranks. The tables
are in docs/distributed.md. A step is all of `Model.fit`'s: reading, gradient, Allreduce, Adam.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time

import numpy as np

from lstm_ext import LSTM, Adam, Model, set_num_threads
from lstm_ext.distributed import DataParallel

# Seconds for a message, and for a byte of it.
NETWORKS = {
    # D. K. Panda, "The MVAPICH2 Project: Latest Developments and Plans Towards Exascale Computing", SC18:
    # "< 1 usec latency, 100 Gbps bandwidth".
    "InfiniBand EDR, 1 us, 100 Gbit/s": (1e-6, 8 / 100e9),
    # Nobody's measurement: a cluster without such a network.
    "Ethernet, assumed 30 us, 10 Gbit/s": (30e-6, 8 / 10e9),
}


def ring(ranks, size, latency, per_byte):
    """Seconds of an Allreduce around a ring.

    P. Patarasuk, X. Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", J. Parallel
    Distrib. Comput. 69(2), 2009.
    """
    return 2 * (ranks - 1) * latency + 2 * (ranks - 1) / ranks * size * per_byte


def tree(ranks, size, latency, per_byte):
    """Seconds of an Allreduce by halving and doubling.

    R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication Operations in MPICH",
    Int. J. High Perform. Comput. Appl. 19(1), 2005, Rabenseifner's, without the cost of the additions.
    """
    return 2 * math.log2(ranks) * latency + 2 * (ranks - 1) / ranks * size * per_byte


def step_seconds(ranks, compute, rest, size, allreduce, network):
    """Seconds of a step of which `compute` is shared out and `rest` is not, at `ranks` ranks."""
    return compute / ranks + rest + (allreduce(ranks, size, *network) if ranks > 1 else 0.0)


def stops_paying(compute, rest, size, allreduce, network, most=1000):
    """Return the ranks at which a step is shortest, and the most that are used by half at least."""
    def seconds(p):
        return step_seconds(p, compute, rest, size, allreduce, network)

    every = range(1, most + 1)
    return min(every, key=seconds), max(p for p in every if seconds(1) / seconds(p) >= p / 2)


def measure(comm, hidden, words):
    """Return seconds for a step of 1 epoch after another, and the share that Allreduce has of them."""
    rng = np.random.default_rng(0)
    batch, steps = words.batch, words.steps
    x = rng.normal(size=(batch * steps, words.time, 32)).astype(np.float32)
    model = Model(LSTM(32, hidden, rng=0), 1, rng=0)
    team = None if comm is None else DataParallel(comm, shards="cut", check_every=10**9, block=words.block)
    optimizer, y = Adam(1e-5), rng.normal(size=(len(x), 1))
    seconds, waits, cpu = [], [], []
    for number in range(words.epochs + 1):
        before, start = team.seconds if team else 0.0, time.perf_counter()
        cpu_start = time.process_time()
        model.fit(x, y, epochs=1, batch_size=batch, optimizer=optimizer, rng=0, comm=team)
        if number:  # the first warms up
            seconds.append((time.perf_counter() - start) / steps)
            cpu.append((time.process_time() - cpu_start) / steps)
            waits.append(((team.seconds if team else 0.0) - before) / steps)
    middle = int(np.argsort(seconds)[len(seconds) // 2])
    gradient, update = model.gradient.copy(), time.process_time()
    for _ in range(5):
        optimizer.step(model.parameters, gradient)
    return {
        "hidden": hidden, "parameters": model.parameters.size, "seconds": seconds[middle],
        "allreduce": waits[middle], "cpu": min(cpu), "update": (time.process_time() - update) / 5,
    }


def curve(comm, words):
    """Return the losses of a training."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 20, 4)).astype(np.float32)
    y = np.tanh(x.sum(axis=2).cumsum(axis=1))[..., None]
    model = Model(LSTM(4, 16, rng=0), 1, every_step=True, rng=0)
    history = model.fit(
        x, y, epochs=words.curve, batch_size=32, optimizer=Adam(0.01), rng=0,
        comm=DataParallel(comm, shards="cut"),
    )
    return [record["loss"] for record in history]


def work(words):
    """Measure as one rank, or, without MPI, as one process."""
    comm = None
    if words.worker != "alone":
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
    set_num_threads(words.threads)
    if words.worker == "curve":
        results = curve(comm, words)
    else:
        results = [measure(comm, hidden, words) for hidden in words.hidden]
    if comm is None or comm.Get_rank() == 0:
        print("RESULT " + json.dumps(results))


def start(words, ranks, worker, threads=1, block=None):
    """Run this file as `ranks` ranks; return what rank 0 found."""
    command = [sys.executable, __file__, "--worker", worker, "--threads", str(threads)]
    for name in ("batch", "steps", "time", "epochs", "curve"):
        command += [f"--{name}", str(getattr(words, name))]
    command += ["--hidden", *map(str, words.hidden), *(["--block", str(block)] if block else [])]
    if ranks:
        command = [shutil.which("mpiexec") or "mpirun", "-n", str(ranks), *command]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OMPI_MCA_hwloc_base_binding_policy": "none", "OMPI_MCA_mpi_yield_when_idle": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise SystemExit(f"{' '.join(command)} has failed:\n{done.stderr}")
    return json.loads(lines[0].removeprefix("RESULT "))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it runs, no figures")
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 128, 256, 512, 1024])
    parser.add_argument("--batch", type=int, default=64, help="sequences of a step, all ranks together")
    parser.add_argument("--time", type=int, default=20)
    parser.add_argument("--steps", type=int, default=8, help="steps of an epoch, which is one sample")
    parser.add_argument("--epochs", type=int, default=9, help="samples, of which the median counts")
    parser.add_argument("--curve", type=int, default=10, help="epochs of the loss curves")
    for name in ("--worker", "--block", "--threads"):
        parser.add_argument(name, type=str if name == "--worker" else int, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.worker:
        return work(words)
    if words.quick:
        words.hidden, words.batch, words.time, words.steps, words.epochs, words.curve = [8], 8, 5, 2, 1, 2

    print(f"{words.batch} sequences a step in all, T {words.time}, I 32, float32, Adam; ms for a step\n")
    one, two = start(words, 1, "ranks"), start(words, 2, "ranks")
    alone, threads = start(words, 0, "alone"), start(words, 0, "alone", threads=2)
    block = start(words, 2, "ranks", block=words.batch // 8)
    print("| H | parameters | 1 process, 1 thread | 1 rank | 2 ranks | 2 threads | 2 ranks, 8 blocks | "
          "Allreduce and waiting, 2 ranks |\n|---|---|---|---|---|---|---|---|")
    for rows in zip(alone, one, two, threads, block, strict=True):
        times = " | ".join(f"{1e3 * row['seconds']:.2f}" for row in rows)
        share = 100 * rows[2]["allreduce"] / rows[2]["seconds"]
        print(f"| {rows[0]['hidden']} | {rows[0]['parameters']} | {times} | {share:.0f} % |")

    print(
        "\nModel, all ranks together 1,024 sequences a step: ranks of the shortest step, and the most ranks "
        "that are used by half\n\n| H | network | ring | tree | step at 1 rank | at 1,000, tree |\n"
        "|---|---|---|---|---|---|"
    )
    for row in alone:
        # CPU time: what the machine does besides does not count.
        compute = (row["cpu"] - row["update"]) * 1024 / words.batch
        size = 8 * row["parameters"]
        for name, network in NETWORKS.items():
            cells = [
                "{}, {}".format(*stops_paying(compute, row["update"], size, kind, network))
                for kind in (ring, tree)
            ]
            cells += [
                f"{1e3 * step_seconds(p, compute, row['update'], size, tree, network):.3g} ms"
                for p in (1, 1000)
            ]
            print(f"| {row['hidden']} | {name} | {' | '.join(cells)} |")

    most = 2 if words.quick else 4
    losses = [start(words, ranks, "curve") for ranks in (1, most)]
    print(f"\n| epoch | 1 rank | {most} ranks |\n|---|---|---|")
    for epoch, pair in enumerate(zip(*losses, strict=True), 1):
        print(f"| {epoch} | {pair[0]:.9f} | {pair[1]:.9f} |")
    print(f"\nlargest difference {max(abs(a / b - 1) for a, b in zip(*losses, strict=True)):.1e}")


if __name__ == "__main__":
    main()
