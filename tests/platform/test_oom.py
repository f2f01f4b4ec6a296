"""Out of memory at the n-th allocation: the short form of ``tests/support/oom_sweep.py``."""

import importlib.util
import os
import shutil
import sys

import oom_sweep
import pytest

COMPILER = os.environ.get("CC", "cc").split()[0]
JOBS = [
    "default construct", "default train", "stack forward", "general train", "general jvp", "node sequence",
]


@pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="this Python has no _testcapi")
@pytest.mark.parametrize("job", JOBS)
def test_the_nth_allocation_fails(job):
    found = oom_sweep.run(job)
    assert found["crashes"] == []
    assert found["wrong"] == []
    assert found["other"] == {}
    assert found["MemoryError"] > 50


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="malloc is replaced by LD_PRELOAD")
@pytest.mark.skipif(shutil.which(COMPILER) is None, reason="there is no C compiler")
@pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="this Python has no _testcapi")
@pytest.mark.parametrize("job", ["default forward", "stack train", "general hvp", "bfloat16 stream"])
def test_the_nth_malloc_of_the_extensions_fails(job):
    found = oom_sweep.run(f"{job}, malloc")
    assert found["crashes"] == []
    assert found["wrong"] == []
    assert found["other"] == {}
    assert found["MemoryError"] > 3
