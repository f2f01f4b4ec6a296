"""Ensembles and sweeps on joblib's backends: the same results, and small pickles."""

import pickle
import warnings

import numpy as np
import pytest

from lstm_ext import LSTM, Model

joblib = pytest.importorskip("joblib", reason="joblib comes with scikit-learn")
pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sweep_jobs import X, Y, member  # noqa: E402

from lstm_ext.sklearn import LSTMRegressor  # noqa: E402


def search(jobs):
    grid = GridSearchCV(
        LSTMRegressor(max_iter=2, random_state=0), {"hidden_size": [2, 4]}, cv=2, n_jobs=jobs,
        error_score="raise",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two epochs are few
        return grid.fit(X, Y)


def compare_with_one_process():
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(member)(seed) for seed in range(3))
    for seed, model in enumerate(found):
        np.testing.assert_array_equal(model.parameters, member(seed).parameters)
    one, two = search(None), search(2)
    for name in ("mean_test_score", "split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(one.cv_results_[name], two.cv_results_[name])
    assert one.best_params_ == two.best_params_
    np.testing.assert_array_equal(one.predict(X), two.predict(X))


def test_processes_of_loky():
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        compare_with_one_process()


def test_a_cluster_of_dask():
    distributed = pytest.importorskip("distributed", reason="Dask's scheduler is not installed")
    with (
        distributed.Client(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None),
        joblib.parallel_config(backend="dask"),
    ):
        compare_with_one_process()


def test_a_trained_model_pickles_as_its_weights():
    model = Model(LSTM(8, 64, rng=0), 1, rng=0)
    x = np.random.default_rng(0).normal(size=(64, 50, 8))
    model.fit(x, x[:, -1, :1], epochs=1, rng=0)
    content = pickle.dumps(model)
    assert len(content) < model.parameters.nbytes + 4000
    np.testing.assert_array_equal(pickle.loads(content).predict(x), model.predict(x))
