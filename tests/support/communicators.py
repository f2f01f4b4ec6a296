"""Communicators without MPI: ranks that are threads of one process."""

import threading

import numpy as np


class Ranks:
    """What the threads of one fake communicator share."""

    def __init__(self, size):
        self.size, self.barrier, self.slots = size, threading.Barrier(size, timeout=20), [None] * size

    def run(self, function):
        """Call function(communicator) in a thread for each rank; return results or exceptions by rank."""
        outcomes = [None] * self.size

        def work(rank):
            try:
                outcomes[rank] = function(Communicator(self, rank))
            except BaseException as error:
                outcomes[rank] = error

        threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return outcomes


class Communicator:
    """The four methods that lstm_ext.distributed asks for, and nothing else."""

    def __init__(self, ranks, rank):
        self.ranks, self.rank = ranks, rank

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.ranks.size

    def Allreduce(self, send, receive):
        ranks = self.ranks
        ranks.slots[self.rank] = send
        ranks.barrier.wait()
        assert len({(a.shape, a.dtype) for a in ranks.slots}) == 1, "ranks are not at the same operation"
        total = np.sum(ranks.slots, axis=0)
        ranks.barrier.wait()
        receive[...] = total

    def Bcast(self, array, root=0):
        ranks = self.ranks
        ranks.slots[self.rank] = array
        ranks.barrier.wait()
        source = ranks.slots[root].copy()
        ranks.barrier.wait()
        array[...] = source
