"""Modules that stand above the one that needs them, by what they are for.

`Model.save` and `Model.load` read and write files, and what reads files makes models. So `lstm_ext.io`
stands above `lstm_ext.model`, which must not import it. The package's ``__init__``, which knows all modules,
says where each is; it is imported once it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_providers: dict[str, Callable[[], Any]] = {}


def provide(purpose: str, provider: Callable[[], Any]) -> None:
    """Let `provided(purpose)` return what `provider()` returns."""
    _providers[purpose] = provider


def provided(purpose: str) -> Any:
    """Return the module for this purpose."""
    return _providers[purpose]()
