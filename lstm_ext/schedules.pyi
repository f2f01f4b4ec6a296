from typing import Any

__all__ = ["Cosine", "Plateau", "Schedule", "Step", "WarmUp"]

class Schedule:
    def factor(self, epochs: float) -> float: ...
    def begin(self) -> None: ...
    def observe(self, record: dict[str, Any]) -> None: ...
    @property
    def state(self) -> dict[str, Any]: ...
    @state.setter
    def state(self, state: dict[str, Any]) -> None: ...
    def __mul__(self, other: Schedule) -> Schedule: ...

class Cosine(Schedule):
    epochs: float
    end: float
    def __init__(self, epochs: float, end: float = 0.0) -> None: ...

class Step(Schedule):
    every: float
    gamma: float
    def __init__(self, every: float, gamma: float = 0.1) -> None: ...

class WarmUp(Schedule):
    epochs: float
    start: float
    def __init__(self, epochs: float, start: float = 0.01) -> None: ...

class Plateau(Schedule):
    gamma: float
    patience: int
    min_delta: float
    least: float
    monitor: str | None
    def __init__(
        self,
        gamma: float = 0.1,
        *,
        patience: int = 10,
        min_delta: float = 1e-4,
        least: float = 0.0,
        monitor: str | None = None,
    ) -> None: ...

def check_monitor(monitor: str | None) -> str | None: ...
def monitored(monitor: str | None, record: dict[str, Any]) -> float: ...
