"""Small real series that ship with the package, to try things on.

The numbers and their sources are described in the README.md of this folder.
"""

from dataclasses import dataclass
from importlib import resources

import numpy as np

__all__ = ["Series", "load_elnino", "load_sunspots"]


@dataclass(frozen=True, eq=False)
class Series:
    """A time series with one or more columns.

    Attributes
    ----------
    data : ndarray of shape (T, F), float64
        One row for each point in time.
    index : ndarray of shape (T,)
        When each row was measured.
    names : tuple of F str
        What each column is.
    units : str
        What the numbers count.
    description : str
        Where the series comes from.
    """

    data: np.ndarray
    index: np.ndarray
    names: tuple[str, ...]
    units: str
    description: str

    def __repr__(self) -> str:
        return (
            f"<Series {', '.join(self.names)} in {self.units}: {len(self.index)} rows, "
            f"{self.index[0]} to {self.index[-1]}>"
        )


def _load(name: str, index_dtype: str, units: str, description: str) -> Series:
    text = resources.files(__name__).joinpath(name).read_text(encoding="ascii")
    header, *rows = (line.split(",") for line in text.splitlines())
    return Series(
        data=np.array([row[1:] for row in rows], dtype=np.float64),
        index=np.array([row[0] for row in rows]).astype(index_dtype),
        names=tuple(header[1:]),
        units=units,
        description=description,
    )


def load_elnino() -> Series:
    """Load the monthly sea-surface temperature of the tropical Pacific, 1950 to 2010.

    Averages over the regions Niño 1+2, 3, 4 and 3.4, from NOAA's Climate Prediction Center
    (ERSST v3b); public domain.

    Returns
    -------
    Series
        ``data`` (732, 4) in degrees Celsius; ``index`` of dtype datetime64[M]; ``names``
        ``("nino12", "nino3", "nino4", "nino34")``. New arrays with every call.

    Examples
    --------
    >>> load_elnino()
    <Series nino12, nino3, nino4, nino34 in degrees Celsius: 732 rows, 1950-01 to 2010-12>
    """
    return _load(
        "elnino.csv",
        "datetime64[M]",
        "degrees Celsius",
        "Sea-surface temperature in the regions Niño 1+2, 3, 4 and 3.4, monthly means; "
        "NOAA Climate Prediction Center, ERSST v3b, public domain",
    )


def load_sunspots() -> Series:
    """Load the yearly mean sunspot number, 1700 to 2008.

    From the National Geophysical Data Center; public domain.

    Returns
    -------
    Series
        ``data`` (309, 1); ``index`` of int64 years; ``names`` ``("sunspots",)``. New arrays with
        every call.

    Examples
    --------
    >>> load_sunspots()
    <Series sunspots in sunspot number: 309 rows, 1700 to 2008>
    """
    return _load(
        "sunspots.csv",
        "int64",
        "sunspot number",
        "Relative sunspot number, yearly means; National Geophysical Data Center, public domain",
    )
