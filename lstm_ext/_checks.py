"""Checks of numbers: an error says what was expected and what was given."""

from __future__ import annotations

import math
import operator
import sys
import warnings
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def number(name: str, value: object, holds: Callable[[Any], bool], expected: str) -> float:
    """Return `value` as a float, if it is a real number and `holds` of it."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}; expected {expected}")
    if not holds(value):
        raise ValueError(f"{name} is {value!r}; expected {expected}")
    return float(value)


def nonnegative(name: str, value: object) -> float:
    """Return a float from 0 to what is finite."""
    return number(name, value, lambda v: 0 <= v < math.inf, "a finite number >= 0")


def positive(name: str, value: object) -> float:
    """Return a finite float above 0."""
    return number(name, value, lambda v: 0 < v < math.inf, "a finite number > 0")


def share(name: str, value: object) -> float:
    """Return a float from 0 to 1."""
    return number(name, value, lambda v: 0 <= v <= 1, "a number from 0 to 1")


def count(name: str, value: Any, least: int) -> int:
    """Return an int of at least `least`."""
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected an integer") from None
    if value < least:
        raise ValueError(f"{name} is {value}; expected at least {least}")
    return value


def made(name: str, value: object) -> None:
    """Raise TypeError for a class in the place of an object of it."""
    if isinstance(value, type):
        raise TypeError(
            f"{name} is the class {value.__name__}; expected an object of it, for example {value.__name__}()"
        )


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside this package and scikit-learn that led here, however deep the call is."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_inside(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    names = frame.f_globals
    warnings.warn_explicit(
        message, category, frame.f_code.co_filename, frame.f_lineno, names.get("__name__", "<unknown>"),
        names.setdefault("__warningregistry__", {}),
    )  # without module_globals: the loader of an interactive __main__ has no source, and says so by an error


def _is_inside(module: str) -> bool:
    return module.partition(".")[0] in ("lstm_ext", "sklearn", "joblib")
