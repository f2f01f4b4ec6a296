"""Attributes that make an object what it is: they are set once, and cannot be changed or deleted."""

from typing import TYPE_CHECKING, Generic

from lstm_ext._typing import Float


class Fixed:
    """Refuses to set or delete the attributes named in `_fixed`, once the constructor has set them.

    What depends on them (weights, working memory, compiled engines) was made for the values that they had.
    Constructors set them with `_fix`.
    """

    _fixed: frozenset[str] = frozenset()

    def _fix(self, **values: object) -> None:
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        self._refuse_if_fixed(name)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        self._refuse_if_fixed(name)
        super().__delattr__(name)

    def _refuse_if_fixed(self, name: str) -> None:
        if name in self._fixed:
            kind = type(self).__name__
            raise AttributeError(f"{name} is read-only; expected a new {kind} for another value")


if TYPE_CHECKING:

    class FixedFloat(Fixed, Generic[Float]):
        """A `Fixed` whose arrays have a dtype that its type tells."""

else:  # without typing.Generic, which would fill a page of help()
    Fixed.__class_getitem__ = classmethod(lambda cls, dtype: cls)
    FixedFloat = Fixed
