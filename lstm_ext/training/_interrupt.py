"""Ctrl-C during a training: between two steps, and soon."""

from __future__ import annotations

import contextvars
import signal
import threading
import time
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import FrameType

_P = ParamSpec("_P")
_R = TypeVar("_R")

_LONG = 0.1  # seconds: what takes longer is not waited for


class Interrupt:
    """Within its ``with`` block SIGINT is held back, and let through where nothing is half done.

    Python raises KeyboardInterrupt between any two instructions, so also in the middle of an
    optimizer's step; and not at all while compiled code runs. Here it is raised by `check`, and within
    `immediate`. `call` runs what changes no parameter: what takes long runs in a thread that is left to
    itself when SIGINT comes. Outside the main thread all of this is idle: only that thread gets signals.
    """

    def __init__(self, long: bool = True) -> None:
        """`long`: whether the first call of a function may take long; later ones do as the last did."""
        self._assumed = _LONG if long else 0.0
        self._previous: Callable[[int, FrameType | None], object] | None = None  # the former handler
        self._pending: tuple[int, FrameType | None] | None = None
        self._open = 0
        self._seconds: dict[str, float] = {}  # how long the last call of each function took

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if callable(previous):
                self._previous = previous
                signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            if kind is None:
                self.check()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._open and self._previous is not None:
            self._previous(number, frame)
        else:
            self._pending = number, frame

    @property
    def pending(self) -> bool:
        """Whether a signal is held back."""
        return self._pending is not None

    def check(self) -> None:
        """Let a signal through that has come."""
        if self._pending is not None and self._previous is not None:
            arguments, self._pending = self._pending, None
            self._previous(*arguments)

    def immediate(self) -> AbstractContextManager[None]:
        """Return a context in which a signal is let through when it comes."""
        return _Immediate(self)

    def call(self, function: Callable[_P, _R], *arguments: _P.args, **options: _P.kwargs) -> _R:
        """Return what the function returns; a signal that comes meanwhile does not wait long."""
        start, name = time.perf_counter(), function.__name__
        if self._previous is None or self._seconds.get(name, self._assumed) < _LONG:
            result = function(*arguments, **options)
        else:
            result = self._apart(function, *arguments, **options)
        self._seconds[name] = time.perf_counter() - start
        return result

    def _apart(self, function: Callable[_P, _R], *arguments: _P.args, **options: _P.kwargs) -> _R:
        done = threading.Event()
        results: list[_R] = []
        errors: list[BaseException] = []
        context = contextvars.copy_context()  # numpy.errstate is in it

        def work() -> None:
            try:
                results.append(context.run(function, *arguments, **options))
            except BaseException as error:
                errors.append(error)
            done.set()

        threading.Thread(target=work, name="lstm_ext training", daemon=True).start()
        with self.immediate():
            done.wait()
        if errors:
            raise errors[0]
        return results[0]


class _Immediate:
    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt

    def __enter__(self) -> None:
        self._interrupt._open += 1
        self._interrupt.check()

    def __exit__(self, *_: object) -> None:
        self._interrupt._open -= 1
