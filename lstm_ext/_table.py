"""Tables of series in files: CSV with the standard library, Parquet through pyarrow or polars."""

from __future__ import annotations

import csv
import difflib
import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    _Array = npt.NDArray[Any]
    _Floats = npt.NDArray[np.float64]
    Step = list[Any]  # as `arrange` says: a file of a model has it as JSON

_MISSING = frozenset(("", "na", "n/a", "#n/a", "nan", "null", "none", "-", "<na>", "nat"))
_SAMPLE = 1000  # rows whose cells say what a column holds
_MOST = 0.8  # of the cells say what a column holds
_CHUNK = 20000  # rows that are held as text at a time
_DAYS = ("%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y")
_HOURS = ("", " %H:%M", " %H:%M:%S", "T%H:%M:%S")
_FORMATS = ("iso", "%Y-%m", "%Y/%m", "%b %Y", *(day + hour for day in _DAYS for hour in _HOURS))
_DAY = np.timedelta64(1, "D")
_LONGEST = 10  # a grid with its gaps may be so many times as long as what was measured


class Columns:
    """What was read: arrays of one length.

    Attributes
    ----------
    numbers : dict of ndarray
        float64, NaN where a cell is empty.
    time : ndarray of datetime64[us] or float64, or None
    names : ndarray of object, or None
        Of the series of each row.
    rows : ndarray of int
        Lines of the file, for messages.
    utc : bool
        Whether the file had offsets, so that time is in UTC.
    """

    def __init__(
        self, numbers: dict[str, _Floats], time: _Array | None, names: _Array | None, rows: _Array,
        utc: bool
    ) -> None:
        self.numbers, self.time, self.names, self.rows, self.utc = numbers, time, names, rows, utc


class Group:
    """One series on an even grid: `key`, `time` (or None), and `numbers` by column."""

    def __init__(self, key: str | None, time: _Array | None, numbers: dict[str, _Floats]) -> None:
        self.key, self.time, self.numbers = key, time, numbers

    def __len__(self) -> int:
        return len(next(iter(self.numbers.values())))

    def part(self, start: int, stop: int) -> Group:
        """Return the steps from start to stop."""
        time = None if self.time is None else self.time[start:stop]
        return Group(self.key, time, {name: one[start:stop] for name, one in self.numbers.items()})


def open_table(path: str | os.PathLike[str]) -> Table:
    """Return a table whose names and kinds of columns are known; `read` brings columns into memory."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected a CSV or Parquet file")
    with open(path, "rb") as file:
        head = file.read(4096)
    if not head.strip():
        raise ValueError(f"{path} is empty; expected a first line of column names, and rows of values")
    if head[:4] == b"PAR1":
        return _Parquet(path)
    kind = {b"PK": "an Excel or zip file", b"\x1f\x8b": "compressed with gzip", b"\xd0\xcf": "an Excel file",
            b"\x89H": "an HDF5 file", b"CD": "a netCDF file", b"\x93N": "an array of NumPy"}.get(head[:2])
    if kind is None and (head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head):
        kind = "in UTF-16, or not text"
    if kind is not None:
        raise ValueError(f"{path} is {kind}; expected CSV in UTF-8, or Parquet: save it as CSV")
    return _Csv(path)


class Table:
    """A file of columns.

    Attributes
    ----------
    path : Path
    kinds : dict of str
        "number", "date", "text", "empty" or "row number" by the name of a column.
    """

    path: Path
    kinds: dict[str, str]

    def read(self, numbers: Sequence[str], time: str | None = None, names: str | None = None) -> Columns:
        """Read columns of numbers, that of the time, and that of the names of the series."""
        raise NotImplementedError

    def check(self, role: str, name: str) -> None:
        """Raise ValueError unless there is a column of this name."""
        if name not in self.kinds:
            near = difflib.get_close_matches(name, self.kinds, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{role} is {name!r}; expected a column of {self.path}: {self.listed()}{hint}")

    def listed(self) -> str:
        """Return the names of the columns and what they hold, for a message."""
        return ", ".join(f"{name} ({kind})" for name, kind in self.kinds.items())


# ---- CSV


class _Csv(Table):
    def __init__(self, path: Path) -> None:
        self.path, self.decimal = path, "."
        lines = self._lines()
        self.skipped = 0
        header = ""
        for header in lines:
            if header.strip() and not header.startswith("#"):
                break
            self.skipped += 1
        bare = header.split('"')[::2]  # what stands outside of quotes
        counts = {mark: sum(part.count(mark) for part in bare) for mark in (";", "\t", ",", "|")}
        self.delimiter = max(counts, key=counts.__getitem__) if any(counts.values()) else ","
        rows = self._rows()
        _, names = next(rows, (0, []))
        names = [name.strip() for name in names]
        if names and all(_is_number(name.replace(",", ".")) for name in names if name) and any(names):
            raise ValueError(
                f"{path} has only numbers in its first line; expected names of columns: add a first line "
                "such as "
                "time,discharge"
            )
        twice = sorted({name for name in names if name and names.count(name) > 1})
        if twice:
            raise ValueError(f"{path} has two columns {twice[0]!r}; expected different names")
        self.header = [name or f"unnamed {place + 1}" for place, name in enumerate(names)]
        sample = [cells for _, cells in itertools.islice(rows, _SAMPLE)]
        if not sample:
            raise ValueError(f"{path} has names of columns and no row; expected rows of values")
        cells = {name: [row[place] for row in sample] for place, name in enumerate(self.header)}
        if self.delimiter != ",":
            found = [cell for column in cells.values() for cell in column]
            commas = any(_is_number(c.replace(",", ".", 1)) and "," in c for c in found)
            points = any(_is_number(c) and "." in c for c in found)
            self.decimal = "," if commas and not points else "."
        self.kinds = {name: self._kind(column) for name, column in cells.items()}
        first = self.header[0]
        if first == "unnamed 1" and self.kinds[first] == "number":
            numbers = self._floats(first, cells[first], range(len(sample)))
            if (np.diff(numbers) == 1).all() and numbers[0] in (0, 1):
                self.kinds[first] = "row number"  # what pandas writes of an index that means nothing

    def _lines(self) -> Iterator[str]:
        with open(self.path, encoding="utf-8-sig", newline="") as file:
            number = 0
            try:
                for line in file:
                    number += 1
                    yield line
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise ValueError(
                    f"{self.path} is not UTF-8 text: it has the byte 0x{byte:02x} after line {number}; "
                    "save it as UTF-8, "
                    f"for example with: iconv -f latin1 -t utf-8 {self.path.name} > utf8.csv"
                ) from None

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield line number and cells of the header and of each row that is not empty."""
        lines = itertools.islice(self._lines(), self.skipped, None)
        reader = csv.reader(lines, delimiter=self.delimiter, skipinitialspace=True)
        width = None
        try:
            for cells in reader:
                if not cells or (len(cells) == 1 and not cells[0].strip() and width != 1):
                    continue
                number = reader.line_num + self.skipped
                if width is None:
                    width = len(cells)
                elif len(cells) != width:
                    hint = ""
                    if self.delimiter == "," and len(cells) > width:
                        hint = ": with decimal commas, columns have to be separated by semicolons"
                    raise ValueError(
                        f"{self.path}, line {number} has {len(cells)} cells; expected {width} as in the "
                        f"first line{hint}"
                    )
                yield number, cells
        except csv.Error as error:
            line = reader.line_num + self.skipped
            raise ValueError(f"{self.path}, line {line} is no CSV: {error}") from None

    def _kind(self, column: list[str]) -> str:
        known = [cell.strip() for cell in column if cell.strip().lower() not in _MISSING]
        if not known:
            return "empty"
        # Few cells of another kind are faults, which `read` names.
        enough = _MOST * len(known)
        if sum(_is_number(self._pointed(cell)) for cell in known) >= enough:
            return "number"
        dates = _Dates(self.path, "")
        if dates.accept(known) or sum(dates.accept([cell]) for cell in known) >= enough:
            return "date"
        return "text"

    def _pointed(self, cell: str) -> str:
        return cell.replace(",", ".", 1) if self.decimal == "," else cell

    def _floats(self, name: str, cells: list[str], rows: Sequence[int]) -> _Floats:
        cells = [cell.strip() for cell in cells]
        if self.decimal == ",":
            cells = [cell.replace(",", ".", 1) for cell in cells]
        try:
            found = np.array([cell or "nan" for cell in cells], np.float64)
        except ValueError:
            found = np.empty(len(cells))
            for place, cell in enumerate(cells):
                if cell.lower() in _MISSING:
                    found[place] = np.nan
                elif _is_number(cell):
                    found[place] = float(cell)
                else:
                    hint = ""
                    if _is_number(cell.replace(",", ".")):
                        hint = "; a decimal comma needs semicolons between columns"
                    raise ValueError(
                        f"{self.path}, line {rows[place]}, column {name!r} is {cell[:40]!r}; expected a "
                        "number, or "
                        f"nothing where it is missing{hint}"
                    ) from None
        if np.isinf(found).any():
            row = rows[int(np.argmax(np.isinf(found)))]
            raise ValueError(f"{self.path}, line {row}, column {name!r} is infinite; expected a number")
        return found

    def read(self, numbers: Sequence[str], time: str | None = None, names: str | None = None) -> Columns:
        """As `Table.read`."""
        places = {name: self.header.index(name) for name in (*numbers, time, names) if name is not None}
        parts: dict[str, list[_Floats]] = {name: [] for name in numbers}
        dates = _Dates(self.path, time)
        dated = time is not None and (self.kinds[time] != "number" or self._is_compact(time))
        stamps, keys, lines = [], [], []
        rows = itertools.islice(self._rows(), 1, None)
        while chunk := list(itertools.islice(rows, _CHUNK)):
            at = [number for number, _ in chunk]
            lines.append(np.array(at))
            for name in numbers:
                parts[name].append(self._floats(name, [cells[places[name]] for _, cells in chunk], at))
            if time is not None:
                cells = [cells[places[time]].strip() for _, cells in chunk]
                if dated:
                    dates.add(cells, at)
                else:
                    stamps.append(self._floats(time, cells, at))
            if names is not None:
                cells = [cells[places[names]].strip() for _, cells in chunk]
                if "" in cells:
                    raise ValueError(
                        f"{self.path}, line {at[cells.index('')]}, column {names!r} is empty; expected the "
                        "name of the "
                        "series"
                    )
                keys += cells
        rows = np.concatenate(lines)
        if time is None:
            when = None
        else:
            when = dates.array() if dated else _numbered(self.path, time, np.concatenate(stamps), rows)
        return Columns(
            {name: np.concatenate(part) for name, part in parts.items()}, when,
            np.array(keys, object) if names is not None else None, rows, dates.utc is True,
        )

    def _is_compact(self, time: str) -> bool:
        """Whether a column of numbers is one of dates like 20200131."""
        place = self.header.index(time)
        cells = [cells[place].strip() for _, cells in itertools.islice(self._rows(), 1, 1 + _SAMPLE)]
        compact = all(len(cell) == 8 and cell.isdigit() and cell[:2] in ("18", "19", "20") for cell in cells)
        return compact and _Dates(self.path, time).accept(cells)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


class _Dates:
    """Reads a column of dates, chunk by chunk, in each of the formats that all of its cells allow."""

    def __init__(self, path: Path | str, name: str | None) -> None:
        self.path, self.name = path, name
        self.utc: bool | None = None
        self.found: dict[str, list[_Array]] = {form: [] for form in _FORMATS}

    def _parse(self, form: str, cells: Sequence[str]) -> list[datetime]:
        if form == "iso":
            return [datetime.fromisoformat(cell) for cell in cells]
        return [datetime.strptime(cell, form) for cell in cells]

    def accept(self, cells: Sequence[str]) -> bool:
        """Whether some format reads all these cells."""
        for form in _FORMATS:
            try:
                self._parse(form, cells)
            except ValueError:
                continue
            return True
        return False

    def add(self, cells: Sequence[str], rows: Sequence[int] | _Array) -> None:
        """Read cells; drop the formats that do not."""
        left, furthest = {}, (0, rows[0])
        for form, before in self.found.items():
            try:
                left[form] = [*before, self._array(self._parse(form, cells), rows)]
            except ValueError as error:
                if isinstance(error, _MixedZonesError):
                    raise
                good = 0
                for cell in cells:
                    try:
                        self._parse(form, [cell])
                    except ValueError:
                        break
                    good += 1
                furthest = max(furthest, (good, rows[good]))
        if not left:
            row = furthest[1]
            cell = cells[list(rows).index(row)]
            raise ValueError(
                f"{self.path}, line {row}, column {self.name!r} is {cell[:40]!r}; expected a date like "
                "2020-01-31 or "
                "2020-01-31 18:00, all of one form"
            )
        self.found = left

    def _array(self, dates: list[datetime], rows: Sequence[int] | _Array) -> _Array:
        aware = [date.tzinfo is not None for date in dates]
        if self.utc is None:
            self.utc = aware[0]
        if any(one != self.utc for one in aware):
            raise _MixedZonesError(
                f"{self.path}, column {self.name!r} has dates with an offset from UTC and without one, the "
                "first at line "
                f"{rows[[one != self.utc for one in aware].index(True)]}; expected one kind"
            )
        if self.utc:
            dates = [date.astimezone(UTC).replace(tzinfo=None) for date in dates]
        return np.array(dates, "datetime64[us]")

    def array(self) -> _Array:
        """Return the dates, if they can be read in one way only."""
        found = [np.concatenate(parts) for parts in self.found.values()]
        ways = [one for k, one in enumerate(found) if not any((one == other).all() for other in found[:k])]
        if len(ways) > 1:
            ways = [one for one in ways if (one[1:] > one[:-1]).all()] or ways
        if len(ways) > 1:
            raise ValueError(
                f"{self.path}, column {self.name!r} has dates that may begin with the day or with the month: "
                f"{str(ways[0][0])[:10]} or {str(ways[1][0])[:10]}; expected dates like 2020-01-31"
            )
        return ways[0]


class _MixedZonesError(ValueError):
    pass


def _numbered(path: Path, name: str, values: _Floats, rows: _Array) -> _Floats:
    if np.isnan(values).any():
        row = rows[int(np.argmax(np.isnan(values)))]
        raise ValueError(f"{path}, line {row}, column {name!r} is empty; expected the time of the row")
    return values


# ---- Parquet


class _Parquet(Table):
    def __init__(self, path: Path) -> None:
        self.path, self.delimiter = path, None
        try:
            self.data = _parquet(path)
        except ImportError:
            raise
        except Exception as error:  # each library has errors of its own
            raise ValueError(f"{path} is a damaged Parquet file: {str(error).splitlines()[0]}") from None
        if not self.data:
            raise ValueError(f"{path} has no columns; expected columns of values")
        if not len(next(iter(self.data.values()))):
            raise ValueError(f"{path} has no row; expected rows of values")
        self.utc = False
        self.kinds = {name: _array_kind(one) for name, one in self.data.items()}
        if "__index_level_0__" in self.kinds and self.kinds["__index_level_0__"] == "number":
            self.kinds["__index_level_0__"] = "row number"

    def read(self, numbers: Sequence[str], time: str | None = None, names: str | None = None) -> Columns:
        """As `Table.read`."""
        rows = np.arange(1, len(next(iter(self.data.values()))) + 1)
        found = {}
        for name in numbers:
            if self.kinds[name] not in ("number", "row number", "empty"):
                raise ValueError(f"{self.path}, column {name!r} holds {self.kinds[name]}s; expected numbers")
            found[name] = self.data[name].astype(np.float64)
            if np.isinf(found[name]).any():
                row = rows[int(np.argmax(np.isinf(found[name])))]
                raise ValueError(f"{self.path}, row {row}, column {name!r} is infinite; expected a number")
        when, utc = None, False
        if time is not None:
            one, kind = self.data[time], self.kinds[time]
            if kind == "date" and one.dtype.kind == "M":
                when = one.astype("datetime64[us]")
            elif kind in ("date", "text"):
                dates = _Dates(self.path, time)
                dates.add(["" if cell is None else str(cell) for cell in one], rows)
                when, utc = dates.array(), dates.utc is True
            else:
                when = _numbered(self.path, time, one.astype(np.float64), rows)
            if when.dtype.kind == "M" and np.isnat(when).any():
                row = rows[int(np.argmax(np.isnat(when)))]
                raise ValueError(f"{self.path}, row {row}, column {time!r} is empty; expected a time")
        keys = None
        if names is not None:
            cells = self.data[names]
            keys = np.array(["" if cell is None or cell != cell else str(cell) for cell in cells], object)
            if (keys == "").any():
                row = rows[int(np.argmax(keys == ""))]
                raise ValueError(f"{self.path}, row {row}, column {names!r} is empty; expected a name")
        return Columns(found, when, keys, rows, utc)


def _parquet(path: Path) -> dict[str, _Array]:
    try:
        from pyarrow import parquet
    except ImportError:
        try:
            import polars
        except ImportError:
            raise ImportError(
                f"{path} is Parquet, which is read with pyarrow or polars, and neither is installed: pip "
                "install pyarrow"
            ) from None
        frame = polars.read_parquet(path)
        return {name: frame[name].to_numpy() for name in frame.columns}
    table = parquet.read_table(path)
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _array_kind(one: _Array) -> str:
    if one.dtype.kind in "fiub":
        return "number"
    if one.dtype.kind == "M":
        return "date"
    known = [cell for cell in one[:_SAMPLE] if cell is not None and cell == cell]
    if not known:
        return "empty"
    if all(hasattr(cell, "__float__") for cell in known):
        return "number"
    if all(isinstance(cell, str) for cell in known):
        return "date" if _Dates("", "").accept(known) else "text"
    return "date" if all(hasattr(cell, "isoformat") for cell in known) else "text"


# ---- series on a grid


def arrange(path: str, columns: Columns, notes: list[str]) -> tuple[list[Group], Step | None]:
    """Cut columns into series in the order of time, on even grids whose gaps are NaN.

    Parameters
    ----------
    path : str
    columns : Columns
    notes : list of str
        What was done to the data is appended.

    Returns
    -------
    groups : list of Group
    step : list or None
        ["time", microseconds], ["month", months, at their ends], ["business"], ["number", difference].
    """
    count = len(columns.rows)
    keys, groups, steps = [None], [], []
    if columns.names is not None:
        keys = list(dict.fromkeys(columns.names))
    filled = 0
    for key in keys:
        rows = np.arange(count) if key is None else np.flatnonzero(columns.names == key)
        where = str(path) if key is None else f"{path}, series {key!r}"
        numbers = {name: one[rows] for name, one in columns.numbers.items()}
        if columns.time is None:
            groups.append(Group(key, None, numbers))
            continue
        time = columns.time[rows]
        if (time[1:] < time[:-1]).any():
            order = np.argsort(time, kind="stable")
            rows, time = rows[order], time[order]
            numbers = {name: one[order] for name, one in numbers.items()}
            note = "rows were not in the order of time, and were sorted"
            if note not in notes:
                notes.append(note)
        same = np.flatnonzero(time[1:] == time[:-1])
        if len(same):
            first, second = columns.rows[rows[same[0]]], columns.rows[rows[same[0] + 1]]
            hint = "keep one of them, or their mean"
            if key is None:
                hint = "if rows are of several series, name the column of their names with --series"
            raise ValueError(
                f"{where} has the time {shown(time[same[:1]])[0]} twice, in lines {first} and {second}; "
                f"expected each time once: {hint}"
            )
        step, places, grid = _grid(where, time, columns.rows[rows])
        steps.append(step)
        if len(grid) > len(time):
            filled += len(grid) - len(time)
            for name, one in numbers.items():
                numbers[name] = np.full(len(grid), np.nan)
                numbers[name][places] = one
        groups.append(Group(key, grid, numbers))
    if filled:
        notes.append(f"{filled} steps of time are not in the file, and count as missing values")
    known = [step for step in steps if step is not None]
    if any(step != known[0] for step in known):
        other = next(k for k, step in enumerate(steps) if step not in (None, known[0]))
        raise ValueError(
            f"{path} has series {keys[other]!r} with another step of time than the others; expected one "
            "step for all"
        )
    return groups, known[0] if known else None


def _grid(where: str, time: _Array, lines: _Array) -> tuple[Step | None, _Array, _Array]:
    """Return the step of sorted times, their places on the grid, and the grid."""
    if len(time) < 2:
        return None, np.arange(len(time)), time
    if time.dtype.kind != "M":
        step = float(_usual(np.round(np.diff(time), 12)))
        places = (time - time[0]) / step
        uneven = np.abs(places - np.round(places)) > 1e-3
        _check_grid(where, time, lines, uneven, round(places[-1]) + 1, f"{step:g}")
        places = np.round(places).astype(int)
        return ["number", step], places, time[0] + step * np.arange(places[-1] + 1)
    step = _usual(np.diff(time))
    days, months = time.astype("datetime64[D]"), time.astype("datetime64[M]")
    hour = time - days
    at_end = ((days + _DAY).astype("datetime64[M]") > months).all()
    in_month = days - months.astype("datetime64[D]")
    if step >= 28 * _DAY and (hour == hour[0]).all() and (at_end or (in_month == in_month[0]).all()):
        numbers = months.astype(np.int64)
        every = int(_usual(np.diff(numbers)))
        places = (numbers - numbers[0]) / every
        described = ["month", every, bool(at_end)]
        _check_grid(where, time, lines, places % 1 != 0, int(places[-1]) + 1, f"{every} months")
    elif step == _DAY and len(time) >= 10 and (hour == hour[0]).all() and np.is_busday(days).all():
        places = np.busday_count(days[0], days)
        described = ["business"]
        _check_grid(where, time, lines, places < 0, int(places[-1]) + 1, "one working day")
    else:
        places = (time - time[0]) / step
        described = ["time", int(step.astype(np.int64))]
        _check_grid(where, time, lines, places % 1 != 0, int(places[-1]) + 1, _duration(step))
    places = places.astype(int)
    return described, places, np.concatenate([time[:1], following(time[0], described, int(places[-1]))])


def _usual(differences: _Array) -> Any:
    values, counts = np.unique(differences, return_counts=True)
    return values[np.argmax(counts)]


def _check_grid(where: str, time: _Array, lines: _Array, uneven: _Array, length: int, step: str) -> None:
    if uneven.any():
        at = int(np.argmax(uneven))
        raise ValueError(
            f"{where} has the time {shown(time[at:at + 1])[0]} in line {lines[at]}; expected even steps, "
            f"of {step} as "
            "between most rows: bring it to one step, for example with pandas: df.resample(\"D\").mean()"
        )
    if length > _LONGEST * len(time):
        raise ValueError(
            f"{where} has {len(time)} of {length} steps of {step} from its first time to its last; "
            "expected at least "
            f"one in {_LONGEST}: keep a part without long gaps"
        )


def _duration(step: np.timedelta64) -> str:
    for unit, size in (("days", 86400e6), ("hours", 3600e6), ("minutes", 60e6), ("seconds", 1e6)):
        number = step.astype(np.int64) / size
        if number >= 1:
            return f"1 {unit[:-1]}" if number == 1 else f"{number:g} {unit}"
    return f"{step.astype(np.int64)} microseconds"


def following(last: Any, step: Step, count: int) -> _Array:
    """Return the `count` times that follow one."""
    ahead = np.arange(1, count + 1)
    if step[0] == "number":
        return np.asarray(last + step[1] * ahead)
    if step[0] == "time":
        return np.asarray(last + (step[1] * ahead).astype("timedelta64[us]"))
    day = last.astype("datetime64[D]")
    month = day.astype("datetime64[M]")
    if step[0] == "business":
        days = np.busday_offset(day, ahead, roll="backward")
    elif step[2]:
        days = (month + step[1] * ahead + 1).astype("datetime64[D]") - _DAY
    else:
        days = (month + step[1] * ahead).astype("datetime64[D]") + (day - month.astype("datetime64[D]"))
    return np.asarray(days + (last - day))


def shown(time: _Array, utc: bool = False) -> list[str]:
    """Return times as text, with hours where there are any."""
    if time.dtype.kind != "M":
        return [f"{value:.15g}" for value in time]
    whole = [unit for unit in ("D", "m", "s", "us") if (time == time.astype(f"datetime64[{unit}]")).all()]
    end = "Z" if utc and whole[0] != "D" else ""
    return [f"{text}{end}" for text in time.astype(f"datetime64[{whole[0]}]").astype(str)]


def write_csv(path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table as CSV to a file that is replaced as a whole by the caller."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
