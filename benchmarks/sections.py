"""What is compared with what: the sections of the benchmark, their problems and their entries."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from problem import Problem

# T, N, I, H: the shapes that everybody times ...
COMMON = (
    (1, 1, 32, 64),
    (100, 1, 16, 32),
    (100, 1, 64, 128),
    (100, 1, 256, 512),
    (100, 32, 32, 64),
    (100, 32, 64, 128),
    (100, 64, 128, 256),
    (50, 256, 32, 64),
    (365, 256, 32, 64),
    (50, 64, 512, 512),
    (20, 64, 1024, 1024),
)
# ... and those that nobody picks to look good: sizes that are a multiple of nothing, sequences
# 16 KiB apart in memory, data that fade into subnormal numbers.
AWKWARD = (
    Problem(100, 37, 7, 50),
    Problem(60, 5, 3, 21),
    Problem(128, 64, 32, 128),
    Problem(1000, 8, 16, 64),
    Problem(1000, 8, 16, 64, silent=True),
)
RAGGED = (100, 32, 12, 64), (365, 256, 32, 64)
MEMORY = (365, 256, 32, 64)
CHECKPOINT = 19  # about the square root of 365
OPTIONS = {
    "peepholes": {"peepholes": True},
    "gate_clip": {"gate_clip": 3.0},
    "cell_clip": {"cell_clip": 3.0},
    "coupled_gates": {"coupled_gates": True},
    "proj_size": {"proj_size": 32},
    "layer_norm": {"layer_norm": True},
    "zoneout": {"zoneout": (0.1, 0.1)},
    "hard_sigmoid": {"activations": ("hard_sigmoid", "tanh", "tanh")},
}
QUICK = (1, 1, 4, 8), (7, 3, 5, 9)


@dataclass(frozen=True)
class Entry:
    """One contestant at one problem."""

    label: str
    make: Callable  # make() -> (call, read), or None if the contestant cannot do it
    problem: Problem
    is_peer: bool
    use: Callable
    tolerance: float | None = None  # of results in a lower precision; None: the dtype's


@dataclass(frozen=True)
class Row:
    """One line of a table. The first entry is the one that the others are held against."""

    problem: Problem
    what: str  # "inference", "training" or "step"
    entries: tuple


def _entry(contestant, what, problem, label=None, tolerance=None, **options):
    return Entry(
        label or contestant.name,
        lambda: getattr(contestant, what)(problem, **options),
        problem,
        contestant.is_peer,
        contestant.use,
        tolerance,
    )


class Sections:
    """The rows of each section, by name; ours(threads=, kernel=) makes our own contestant."""

    def __init__(self, ours, peers, *, shapes=None, quick=False):
        self.ours, self.peers, self.shapes, self.quick = ours, peers, shapes, quick

    def rows(self, name):
        """Return the rows of a section."""
        return getattr(self, f"_{name}")()

    def _problems(self, shapes, **options):
        chosen = self.shapes or (QUICK if self.quick else shapes)
        return [s if isinstance(s, Problem) else Problem(*s, **options) for s in chosen]

    def _everybody(self, what, problems):
        contestants = self.ours(), *self.peers
        return [Row(p, what, tuple(_entry(c, what, p) for c in contestants)) for p in problems]

    def _inference(self):
        return self._everybody("inference", self._problems(COMMON + AWKWARD))

    def _training(self):
        return self._everybody("training", self._problems(COMMON + AWKWARD))

    def _float64(self):
        problems = self._problems((COMMON[2], *COMMON[4:10]), dtype="float64")
        return [row for w in ("inference", "training") for row in self._everybody(w, problems)]

    def _step(self):
        problems = self._problems([(1, *COMMON[0][1:]), (1, 1, 64, 128), (1, 32, 32, 64)])
        return self._everybody("step", [replace(p, time=1) for p in problems])

    def _ragged(self):
        """Sequences of different lengths; for us and torch also the same batch at full length."""
        rows = []
        for problem in self._problems(RAGGED, ragged=True):
            dense = replace(problem, ragged=False)
            for what in ("inference", "training"):
                contestants = self.ours(), *self.peers
                entries = [_entry(c, what, problem) for c in contestants]
                entries += [
                    _entry(c, what, dense, f"{c.name} dense")
                    for c in contestants
                    if c.name in ("lstm_ext", "torch")
                ]
                rows.append(Row(problem, what, tuple(entries)))
        return rows

    def _kernels(self):
        """Each of our kernels that this CPU runs."""
        problems = self._problems((COMMON[2], *COMMON[4:7], AWKWARD[0]))
        problems += self._problems(COMMON[5:6], dtype="float64")
        ours = [self.ours(kernel=name) for name in self.ours().package._kernels.available()]
        return [
            Row(p, what, tuple(_entry(c, what, p, c.kernel) for c in ours))
            for p in problems
            for what in ("inference", "training")
        ]

    def _checkpoint(self):
        """Time that recomputing costs; the memory it saves is in the section memory."""
        return [
            Row(
                problem,
                "training",
                (
                    _entry(self.ours(), "training", problem),
                    _entry(self.ours(), "training", problem, "checkpoint", checkpoint=CHECKPOINT),
                ),
            )
            for problem in self._problems([MEMORY])
        ]

    def _threads(self):
        """All threads, and our own layer on one."""
        rows = []
        for problem in self._problems(COMMON[4:]):
            for what in ("inference", "training"):
                ours, *peers = (_entry(c, what, problem) for c in (self.ours(), *self.peers))
                alone = _entry(self.ours(threads=1), what, problem, "lstm_ext, 1 thread")
                rows.append(Row(problem, what, (ours, alone, *peers)))
        return rows

    def _options(self):
        """Time the layer with each option next to the layer without. Results differ."""
        ours = self.ours()
        return [
            Row(
                problem,
                what,
                tuple(
                    _entry(ours, f"{what}_only", problem, label, **words)
                    for label, words in {"lstm_ext": {}, **OPTIONS}.items()
                ),
            )
            for problem in self._problems(COMMON[4:6])
            for what in ("inference", "training")
        ]

    def _precision(self):
        """Products in bfloat16: what our layer allows, and the two ways of torch."""
        ours, rows = self.ours(), []
        torch = next((peer for peer in self.peers if peer.name == "torch"), None)
        for problem in self._problems((*COMMON[4:7], COMMON[7], *COMMON[9:])):
            for what in ("inference", "training"):
                entries = [_entry(ours, what, problem)]
                for precision, tolerance in (("bfloat16x6", 1e-4), ("bfloat16x3", 1e-3), ("bfloat16", 0.1)):
                    entries.append(_entry(ours, what, problem, precision, tolerance, precision=precision))
                if torch:
                    entries.append(_entry(torch, what, problem))
                    for precision in ("autocast", "module"):
                        label = f"torch {precision}"
                        entries.append(_entry(torch, what, problem, label, 0.1, precision=precision))
                rows.append(Row(problem, what, tuple(entries)))
        return rows

    def _hvp(self):
        """Time a Hessian-vector product next to a gradient of the same loss; results differ."""
        rows = []
        for problem in self._problems([COMMON[5], COMMON[7]]):
            contestants = [c for c in (self.ours(), *self.peers) if hasattr(c, "hvp")]
            entries = [
                _entry(c, what, problem, f"{c.name} {what}".removeprefix("lstm_ext "))
                for c in contestants
                for what in ("gradient", "hvp")
            ]
            rows.append(Row(problem, "training", tuple(entries)))
        return rows
