import os
from typing import Any, Literal, overload

__all__ = ["load", "save"]

def save(obj: Any, path: str | os.PathLike[str], *, optimizer: Any | None = None) -> None: ...
@overload
def load(path: str | os.PathLike[str], *, return_optimizer: Literal[False] = False) -> Any: ...
@overload
def load(path: str | os.PathLike[str], *, return_optimizer: Literal[True]) -> tuple[Any, Any]: ...
