"""Out of memory at the n-th allocation: the short form of ``tests/support/oom_sweep.py``."""

import importlib.util

import oom_sweep
import pytest

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
