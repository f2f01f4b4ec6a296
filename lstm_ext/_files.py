"""Files: opened without surprises, read within bounds, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import stat
import struct
import sys
import time
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import IO, BinaryIO, NoReturn

    import numpy.typing as npt

    _Array = npt.NDArray[Any]
    _Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

CONFIGURATION = "configuration.json"
MAX_TEXT = 2**20  # characters of JSON: a header, a configuration
MAX_BYTES = 2**31  # numbers of one model
_MAX_VALUES = 2**18  # brackets and commas in a JSON text: each may become an object of 100 bytes
_MAX_DEPTH = 200
_MAX_MEMBERS = 64
_STALE = 3600  # seconds after which an unfinished file belongs to a process that is gone

# What Python code and the libraries raise for bytes that are not what they should be. MemoryError,
# KeyboardInterrupt and RecursionError say nothing about a file, so they are never among them.
FILE_ERRORS = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, NotImplementedError,
    RuntimeError, zipfile.BadZipFile, struct.error, zlib.error,
)


@contextlib.contextmanager
def blamed(message: str, kind: Callable[[str], Exception] = ValueError) -> Iterator[None]:
    """Turn whatever wrong bytes cause in the block into one error, ``kind(f"{message}: ...")``.

    Every other exception passes: a MemoryError too where a library has made another error of it, and
    an OSError of the system.
    """
    outside = sys.exc_info()[1]
    try:
        yield
    except Exception as error:
        need = _need(error, outside)
        if need is not None:
            if need is error:
                raise
            raise need from None
        # Those of h5py have no number; those of the system do.
        if not isinstance(error, FILE_ERRORS) and (not isinstance(error, OSError) or error.errno is not None):
            raise
        raise kind(f"{message}: {error or type(error).__name__}") from error


def _need(error: BaseException | None, outside: BaseException | None) -> BaseException | None:
    """Return the error itself, or one behind it, that says that the process is in need; or None."""
    while error is not None and error is not outside:
        if isinstance(error, (MemoryError, RecursionError)):
            return error
        if isinstance(error, RuntimeError) and str(error).startswith("can't allocate"):  # a lock
            return MemoryError(str(error))
        error = error.__cause__ or error.__context__
    return None


# ---- reading


def kind_of(mode: int) -> str:
    """Return the kind of file that a mode names."""
    for test, words in (
        (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"), (stat.S_ISLNK, "a symbolic link"),
    ):
        if test(mode):
            return words
    return "a file"


def open_file(path: _Path) -> io.BufferedReader:
    """Open an ordinary file for reading; a pipe does not block, and a device is not touched.

    Raises OSError if it is not there or may not be read, ValueError if it is no ordinary file.
    """
    path = os.fspath(path)
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise ValueError(f"it is {kind_of(mode)}; expected a file")
    file = open(path, "rb", opener=_without_waiting)
    try:
        mode = os.fstat(file.fileno()).st_mode  # it may have been exchanged in the meantime
        if not stat.S_ISREG(mode):
            raise ValueError(f"it is {kind_of(mode)}; expected a file")
    except BaseException:
        file.close()
        raise
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def size_of(file: BinaryIO) -> int:
    """Return the bytes of an open file, or of one in memory."""
    here = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(here)
    return size


def read_file(path: _Path, most: int) -> bytes:
    """Return the bytes of a file that has at most `most` of them."""
    with open_file(path) as file:
        size = size_of(file)
        if size > most:
            raise ValueError(f"it has {size} bytes; expected at most {most}")
        return file.read(size)


def parse_json(text: object, what: str, longest: int = MAX_TEXT, constants: bool = False) -> Any:
    """Read JSON of bounded length, depth and number of values, without duplicate keys.

    Raises ValueError. NaN and Infinity, which JSON does not have, are read with `constants`.
    """
    if not isinstance(text, str | bytes | bytearray):
        raise ValueError(f"{what} is {type(text).__name__}; expected text")
    if len(text) > longest:
        raise ValueError(f"{what} has {len(text)} characters; expected at most {longest}")
    if not isinstance(text, str):
        text = bytes(text).decode()
    _check_nesting(text, what)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key occurs twice")
        return found

    def refused(word: str) -> NoReturn:
        raise ValueError(f"{word} is not a number of JSON")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=None if constants else refused)
    except ValueError as error:
        raise ValueError(f"{what} is not JSON that can be read: {error}") from None


def _check_nesting(text: str, what: str) -> None:
    """Count brackets and commas, those within texts too: bounds for depth and for the number of values."""
    values = sum(text.count(sign) for sign in "[{,")
    if values > _MAX_VALUES:
        raise ValueError(f"{what} has more than {_MAX_VALUES} values")
    if text.count("[") + text.count("{") <= _MAX_DEPTH:
        return
    depth = 0
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text):
        first = token[0][0]
        depth += (first in "[{") - (first in "]}")
        if depth > _MAX_DEPTH:
            raise ValueError(f"{what} is nested more than {_MAX_DEPTH} deep: not JSON that can be read")


def open_archive(file: BinaryIO, most: int = _MAX_MEMBERS, larger: bool = False) -> zipfile.ZipFile:
    """Open a zip archive whose directory has at most `most` entries, before objects are made of them.

    Parameters
    ----------
    file : binary file
    most : int
    larger : bool
        Members may be compressed, and the archive larger than 4 GB.
    """
    size = size_of(file)
    file.seek(max(0, size - 42))
    tail = file.read(42)
    end = tail[-22:]
    if len(end) < 22 or end[:4] != b"PK\x05\x06":
        raise ValueError("it is not a zip archive, or cut off: it does not end as one does")
    count, length, start = struct.unpack("<HII", end[10:20])
    if tail[:4] == b"PK\x06\x07":
        if not larger:
            raise ValueError("it is a zip archive of the kind for more than 4 GB")
        file.seek(struct.unpack("<Q", tail[8:16])[0])
        count, length, start = struct.unpack("<QQQ", file.read(56)[32:56].ljust(24, b"\xff"))
    if count > most or length > 2**10 * most or start + length > size:
        raise ValueError(f"its directory names {count} members in {length} bytes; expected at most {most}")
    file.seek(0)
    archive = zipfile.ZipFile(file)
    names = archive.namelist()
    if len(set(names)) != len(names) or len(names) != count:
        raise ValueError("the archive has a member twice, or not those that it counts")
    stored = sum(info.compress_size for info in archive.infolist())
    if stored > size:
        raise ValueError("its members overlap: together they are longer than the file")
    if not larger:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise ValueError(f"{info.filename[:80]} is compressed, or longer than the file")
    return archive


def read_archive(
    file: BinaryIO, names: Sequence[str] | None = None, longest: int = MAX_TEXT
) -> tuple[Any, dict[str, tuple[tuple[int, ...], np.dtype[Any], bytes]]]:
    """Read an ``.npz`` of arrays and of a JSON object, as former versions wrote models and checkpoints.

    Nothing is allocated that the file's length does not account for. The caller compares an array's
    shape with the number of its bytes.

    Parameters
    ----------
    file : binary file
    names : sequence of str, optional
        The arrays that it must hold. Default: any.
    longest : int
        The most characters that the JSON may have.

    Returns
    -------
    configuration : object
    arrays : dict of (shape, dtype, bytes)
    """
    with open_archive(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if CONFIGURATION not in members or (
            names is not None and set(members) != {CONFIGURATION, *(f"{name}.npy" for name in names)}
        ):
            listed = " and ".join((CONFIGURATION, *(f"{name}.npy" for name in names or ())))
            raise ValueError(f"it must hold {listed}, each once")
        if members[CONFIGURATION].file_size > longest:
            raise ValueError(f"{CONFIGURATION} is too long")
        configuration = parse_json(archive.read(members.pop(CONFIGURATION)), CONFIGURATION, longest, True)
        arrays = {}
        for name in members:
            with archive.open(name) as member:
                if np.lib.format.read_magic(member) != (1, 0):
                    raise ValueError(f"{name} is of an unknown version")
                shape, _, dtype = np.lib.format.read_array_header_1_0(member)
                arrays[name.removesuffix(".npy")] = shape, dtype, member.read()
    return configuration, arrays


def load_array(path: _Path, mapped: bool = False) -> _Array:
    """Read an ``.npy`` whose header has been held against its length; with `mapped` as a memory map."""
    with open_file(path) as file:
        shape, fortran, dtype = _array_header(file)
        start, size = file.tell(), size_of(file)
        if start + _bytes_of(shape, dtype) > size:
            raise ValueError(f"it has {size} bytes, and an array {shape} of {dtype} needs more")
        if mapped:
            return np.memmap(os.fspath(path), dtype, "r", start, shape, "F" if fortran else "C")
        file.seek(0)
        array: _Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def load_arrays(path: _Path, names: Iterable[str], room: int = 2**28, ratio: int = 64) -> dict[str, _Array]:
    """Read those arrays of an ``.npz`` that have one of `names`.

    Compressed ones may be `ratio` times as long as the file, or have `room` bytes, all together.
    """
    with open_file(path) as file:
        limit = max(room, ratio * size_of(file))
        with open_archive(file, 1000, True) as archive:
            members = {name: f"{name}.npy" for name in names if f"{name}.npy" in archive.namelist()}
            if sum(archive.getinfo(member).file_size for member in members.values()) > limit:
                raise ValueError(
                    f"its arrays need more than {limit} bytes, {ratio} times the file: save them with "
                    "np.savez, which does not compress, or as .npy"
                )
            arrays = {}
            for name, member in members.items():
                size = archive.getinfo(member).file_size
                with archive.open(member) as content:
                    shape, _, dtype = _array_header(content)
                    if content.tell() + _bytes_of(shape, dtype) != size:
                        raise ValueError(f"{member} has {size} bytes, not those of {shape} {dtype}")
                with archive.open(member) as content:
                    arrays[name] = np.lib.format.read_array(content, allow_pickle=False)
    return arrays


def _array_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"it is of the version {version} of .npy; expected 1.0 or 2.0")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read: save numbers")
    return shape, fortran, dtype


def _bytes_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    total = dtype.itemsize
    for size in shape:
        total *= size
    return total


# ---- writing


@contextlib.contextmanager
def replace_file(path: _Path) -> Iterator[str]:
    """Give the name of a temporary file that becomes `path` when the block ends well; see `replace_files`."""
    with replace_files([path]) as (temporary,):
        yield temporary


@contextlib.contextmanager
def replace_files(paths: Iterable[_Path]) -> Iterator[list[str]]:
    """Give names of temporary files that become `paths`, all of them or none, when the block ends well.

    Whoever reads a path sees the old file or the new one, whole. After an error the old ones stand. A
    link is followed: the file that it names is replaced. Where the system has unnamed files, nothing
    is left of a process that is killed while it writes; elsewhere a file ``.NAME.*.unfinished``, which the
    next writer of NAME removes when it is an hour old.

    Raises
    ------
    FileNotFoundError
        If a folder is not there.
    IsADirectoryError, FileExistsError, PermissionError
        If a path is a folder; a pipe, device or socket, which are not replaced; a file without write
        permission.
    """
    targets = [_target(path) for path in paths]
    with contextlib.ExitStack() as stack:
        drafts = [stack.enter_context(_Draft(*target)) for target in targets]
        yield [draft.name for draft in drafts]
        for draft in drafts:
            draft.finish()
        done = []
        try:
            for draft in drafts:
                done.append((draft, draft.place(keep=len(drafts) > 1)))
        except BaseException:
            for draft, former in reversed(done):
                draft.take_back(former)
            raise
        for draft, former in done:
            draft.forget(former)


def check_target(path: _Path) -> None:
    """Raise the errors of `replace_files` for a path that is going to be written, and write nothing."""
    _target(path)


def _target(path: _Path) -> tuple[str, int | None]:
    """Return the file that is replaced, links followed, and its permissions or None."""
    path = os.fspath(path)
    if not isinstance(path, str):
        path = os.fsdecode(path)
    if not path:
        raise FileNotFoundError(errno.ENOENT, "path is empty; expected the name of a file", path)
    if path.endswith(tuple(filter(None, (os.sep, os.altsep)))):
        raise IsADirectoryError(errno.EISDIR, "path names a folder; expected the name of a file", path)
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        if os.path.exists(folder):
            raise NotADirectoryError(errno.ENOTDIR, "path is in what is no folder", folder)
        raise FileNotFoundError(errno.ENOENT, "there is no folder of this name; make it first", folder)
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return target, None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "path is a folder; expected the name of a file", path)
    if not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, f"path is {kind_of(mode)}, which is not replaced", path)
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "path is a file that may not be written", path)
    return target, stat.S_IMODE(mode)


class _Draft:
    """A file that is being written, unnamed where the system can, and takes the target's place at the end."""

    def __init__(self, target: str, mode: int | None) -> None:
        self.target, self.mode = target, mode
        self.folder, self.base = os.path.split(target)
        self.descriptor = -1  # not open
        self.name = self.named = ""  # to open it by; in the folder, if it has a name there

    def __enter__(self) -> Self:
        if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                self.descriptor = os.open(self.folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
        if self.descriptor >= 0:
            self.name = f"/proc/self/fd/{self.descriptor}"
            return self
        self._remove_stale()
        self.name = self.named = self._new_name("unfinished")
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
        self.descriptor = os.open(self.named, flags | getattr(os, "O_BINARY", 0), 0o666)
        return self

    def __exit__(self, *_: object) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        if self.named:
            with contextlib.suppress(OSError):
                os.unlink(self.named)

    def _new_name(self, ending: str) -> str:
        # The longest name of a file has 255 bytes: a part of the target's says enough.
        return os.path.join(self.folder, f".{self.base[:60]}.{secrets.token_hex(8)}.{ending}")

    def _remove_stale(self) -> None:
        pattern = re.compile(rf"\.{re.escape(self.base[:60])}\.[0-9a-f]{{16}}\.unfinished")
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if pattern.fullmatch(entry.name):
                    with contextlib.suppress(OSError):
                        if time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE:
                            os.unlink(entry.path)

    def finish(self) -> None:
        """Bring the numbers to the disk, before anything has the name: a power cut may come between."""
        if self.mode is not None and hasattr(os, "fchmod"):
            os.fchmod(self.descriptor, self.mode)
        os.fsync(self.descriptor)
        if not self.named:
            name = self._new_name("unfinished")
            here = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:  # with a folder given, Python follows the link in /proc
                os.link(self.name, os.path.basename(name), src_dir_fd=here, dst_dir_fd=here)
            finally:
                os.close(here)
            self.named = name
        os.close(self.descriptor)
        self.descriptor = -1

    def place(self, keep: bool) -> str | None:
        """Take the target's place; with `keep` return a name of the former file, or None."""
        former = None
        if keep and os.path.exists(self.target):
            former = self._new_name("former")
            os.link(self.target, former)
        try:
            os.replace(self.named, self.target)
        except BaseException:
            self.forget(former)
            raise
        self.named = ""
        return former

    def take_back(self, former: str | None) -> None:
        """Undo `place`."""
        if former is None:
            os.unlink(self.target)
        else:
            os.replace(former, self.target)

    def forget(self, former: str | None) -> None:
        """Remove the former file."""
        if former is not None:
            with contextlib.suppress(OSError):
                os.unlink(former)
