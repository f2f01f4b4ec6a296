"""threadpoolctl sees our threads and can limit them."""

import pytest

import lstm_ext

threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")


def _ours():
    return [i for i in threadpoolctl.threadpool_info() if i["internal_api"] == "lstm_ext"]


def test_threadpoolctl_sees_and_limits_our_threads():
    before = lstm_ext.get_num_threads()
    lstm_ext.set_num_threads(3)
    try:
        assert [info["num_threads"] for info in _ours()] == [3]
        for user_api in (None, "openmp"):
            with threadpoolctl.threadpool_limits(1, user_api=user_api):
                assert lstm_ext.get_num_threads() == 1
            assert lstm_ext.get_num_threads() == 3
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            assert lstm_ext.get_num_threads() == 3
    finally:
        lstm_ext.set_num_threads(before)
