"""Hostile files: each reader has one error for all of them, and takes no memory for what is not there."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

pytest.importorskip("safetensors", reason="safetensors is not installed: the extra io")
pytest.importorskip("h5py", reason="h5py is not installed: the extra io")

import hostile_files

from lstm_ext.io import FormatError

CASES = hostile_files.cases()
# What a reader may take for a file of a few KB: the text of its header, as Python objects.
ROOM = 32 << 20


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_gets_one_error_and_no_memory(name, tmp_path):
    reader, content = CASES[name]
    path = tmp_path / "file.safetensors"
    hostile_files.write(path, content)
    before = sorted(os.listdir(tmp_path))
    tracemalloc.start()
    try:
        with pytest.raises(FormatError) as caught:
            hostile_files.read(reader, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert type(caught.value) is FormatError
    assert len(str(caught.value)) < 2000
    assert peak < ROOM, f"{peak} bytes were taken"
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("name", hostile_files.good_files())
def test_the_files_they_are_broken_from_are_read(name, tmp_path):
    path = tmp_path / "file"
    hostile_files.write(path, hostile_files.good_files()[name])
    assert hostile_files.read(hostile_files.reader_of(name), path).parameters.size


SCRIPT = """
import resource, sys
sys.path.insert(0, {tests!r})
import hostile_files
from lstm_ext.io import FormatError
path = {path!r}
cases = hostile_files.cases()
for name, content in hostile_files.good_files().items():
    hostile_files.write(path, content)
    hostile_files.read(hostile_files.reader_of(name), path)
with open("/proc/self/statm") as file:
    taken = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + {room},) * 2)
refused = 0
for name, (reader, content) in cases.items():
    hostile_files.write(path, content)
    try:
        hostile_files.read(reader, path)
    except FormatError:
        refused += 1
    except BaseException as error:
        print(name, repr(error))
print(refused, len(cases))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the limit is set by /proc/self/statm")
def test_libraries_too_take_no_memory_for_what_is_not_there(tmp_path):
    """tracemalloc does not see what HDF5 and safetensors allocate: a limit on the process does.

    The limit is on addresses, so a file of 4 GB is not mapped either.
    """
    support = str(Path(__file__).parents[1] / "support")
    script = SCRIPT.format(tests=support, path=str(tmp_path / "file"), room=128 << 20)
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *wrong, counts = done.stdout.splitlines()
    assert not wrong
    refused, number = map(int, counts.split())
    assert refused == number == len(CASES)
