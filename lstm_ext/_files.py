"""Files: written whole or not at all, and read without executing anything."""

import contextlib
import io
import json
import os
import secrets
import zipfile

import numpy as np

CONFIGURATION = "configuration.json"


@contextlib.contextmanager
def replace_file(path):
    """Give the name of a temporary file that becomes `path` when the block ends well.

    Whoever reads `path` sees the old file or the new one, whole. After an error the old one stands.
    """
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{secrets.token_hex(8)}-{name}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        # On the disk before it has the name: a power cut may not leave the name with half of it.
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_archive(path, configuration, arrays):
    """Write an ``.npz`` of arrays by name and of a JSON object, the same bytes for the same content."""
    with replace_file(path) as temporary:
        pack_archive(temporary, configuration, arrays)


def pack_archive(file, configuration, arrays):
    """Write such an archive to a file, given by its name or open."""
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open(CONFIGURATION, "w") as member:
            member.write(json.dumps(configuration, indent=1, default=_plain).encode())
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _plain(value):
    """Return a NumPy scalar as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is {type(value).__name__}, expected what JSON can hold")


def read_archive(content, names=None, longest=None):
    """Read the bytes of such a file.

    Nothing is allocated that the file's length does not account for: whether an array's shape is that
    of its bytes, the caller compares.

    Parameters
    ----------
    content : bytes
    names : sequence of str, optional
        The arrays that it must hold. Default: any.
    longest : int, optional
        The most bytes that the JSON may have.

    Returns
    -------
    configuration : object
    arrays : dict of (shape, dtype, bytes)
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(members) != len(archive.namelist()) or CONFIGURATION not in members or (
            names is not None and set(members) != {CONFIGURATION, *(f"{name}.npy" for name in names)}
        ):
            listed = " and ".join((CONFIGURATION, *(f"{name}.npy" for name in names or ())))
            raise ValueError(f"it must hold {listed}, each once")
        for info in members.values():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(content):
                raise ValueError(f"{info.filename} is compressed, or longer than the file")
        if longest is not None and members[CONFIGURATION].file_size > longest:
            raise ValueError(f"{CONFIGURATION} is too long")
        configuration = json.loads(archive.read(members.pop(CONFIGURATION)))
        arrays = {}
        for name in members:
            with archive.open(name) as member:
                if np.lib.format.read_magic(member) != (1, 0):
                    raise ValueError(f"{name} is of an unknown version")
                shape, _, dtype = np.lib.format.read_array_header_1_0(member)
                arrays[name.removesuffix(".npy")] = shape, dtype, member.read()
    return configuration, arrays
