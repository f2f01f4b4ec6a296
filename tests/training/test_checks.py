"""Warnings point at the line of the caller."""

import linecache
import subprocess
import sys
import threading
import warnings

import pytest

from lstm_ext._checks import warn


def test_the_frames_of_the_packages_are_passed_over():
    names = {"__name__": "lstm_ext.sklearn._deep", "warn": warn}
    exec("def deep():\n    warn('here', RuntimeWarning)\ndef fit():\n    deep()", names)
    outer = {"__name__": "sklearn.pipeline", "fit": names["fit"]}
    exec("def fit_all():\n    fit()", outer)
    with pytest.warns(RuntimeWarning, match="here") as caught:
        outer["fit_all"]()
    assert caught[0].filename == __file__
    assert "fit_all" in linecache.getline(__file__, caught[0].lineno)


def test_a_warning_without_a_caller_outside_still_comes():
    names = {"__name__": "lstm_ext._deep", "warn": warn}
    exec("def deep():\n    warn('in a thread', RuntimeWarning)", names)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread = threading.Thread(target=names["deep"])
        thread.start()
        thread.join()
    assert [str(warning.message) for warning in caught] == ["in a thread"]
    assert caught[0].category is RuntimeWarning


def test_a_warning_reaches_a_prompt(tmp_path):
    """At a prompt ``__main__`` has the loader of built-in modules, which cannot return its source."""
    pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
    code = "from lstm_ext.sklearn import LSTMRegressor as R\nR(max_iter=1).fit([[1]] * 9, range(9))\n"
    done = subprocess.run(
        [sys.executable, "-"], input=code, capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "max_iter=1 reached" in done.stderr
