"""Libraries that only a part of the package needs."""

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import an optional library, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if str(error.name).partition(".")[0] != library:
            raise
        raise ModuleNotFoundError(
            f"{library} is not installed: pip install 'lstm-ext[{extra}]'", name=library
        ) from None
