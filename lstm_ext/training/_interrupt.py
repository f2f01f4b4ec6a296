"""Ctrl-C during a training: between two steps, and soon."""

from __future__ import annotations

import contextvars
import signal
import threading
import time
from typing import Any

_LONG = 0.1  # seconds: what takes longer is not waited for


class Interrupt:
    """Within its ``with`` block SIGINT is held back, and let through where nothing is half done.

    Python raises KeyboardInterrupt between any two instructions, so also in the middle of an
    optimizer's step; and not at all while compiled code runs. Here it is raised by `check`, and within
    `immediate`. `call` runs what changes no parameter: what takes long runs in a thread that is left to
    itself when SIGINT comes. Outside the main thread, which alone gets signals, all of this is idle.
    """

    def __init__(self, long: bool = True) -> None:
        """`long`: whether the first call of a function may take long; later ones do as the last did."""
        self._assumed = _LONG if long else 0.0
        self._previous: Any = None  # the handler in whose place this one stands
        self._pending = None
        self._open = 0
        self._seconds: dict[Any, float] = {}  # how long the last call of each function took

    def __enter__(self) -> Any:
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if callable(previous):
                self._previous = previous
                signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            if kind is None:
                self.check()

    def _handle(self, number, frame):
        if self._open:
            self._previous(number, frame)
        else:
            self._pending = number, frame

    @property
    def pending(self):
        """Whether a signal is held back."""
        return self._pending is not None

    def check(self) -> None:
        """Let a signal through that has come."""
        if self._pending is not None:
            arguments, self._pending = self._pending, None
            self._previous(*arguments)

    def immediate(self) -> Any:
        """Return a context in which a signal is let through when it comes."""
        return _Immediate(self)

    def call(self, function: Any, *arguments: Any) -> Any:
        """Return what the function returns; a signal that comes meanwhile does not wait long."""
        start = time.perf_counter()
        if self._previous is None or self._seconds.get(function.__name__, self._assumed) < _LONG:
            result = function(*arguments)
        else:
            result = self._apart(function, arguments)
        self._seconds[function.__name__] = time.perf_counter() - start
        return result

    def _apart(self, function, arguments):
        done, outcome = threading.Event(), []
        context = contextvars.copy_context()  # numpy.errstate is in it

        def work():
            try:
                outcome.append((context.run(function, *arguments), None))
            except BaseException as error:
                outcome.append((None, error))
            done.set()

        threading.Thread(target=work, name="lstm_ext training", daemon=True).start()
        with self.immediate():
            done.wait()
        result, error = outcome[0]
        if error is not None:
            raise error
        return result


class _Immediate:
    def __init__(self, interrupt):
        self._interrupt = interrupt

    def __enter__(self) -> Any:
        self._interrupt._open += 1
        self._interrupt.check()

    def __exit__(self, *_):
        self._interrupt._open -= 1
