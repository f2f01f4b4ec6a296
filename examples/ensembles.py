"""Many fits at once: seeds and a grid search on all cores, or on a Dask cluster.

    python examples/ensembles.py [dask]

joblib runs each fit in a process of its own, with one thread of ours: `inner_max_num_threads`. With the
argument ``dask`` (``pip install distributed``) the same calls go to a cluster, here one on this machine.
"""

import sys

import joblib
import numpy as np
from sklearn.model_selection import GridSearchCV

from lstm_ext import LSTM, Adam, Model
from lstm_ext.sklearn import LSTMRegressor

rng = np.random.default_rng(0)
X = rng.normal(size=(120, 12, 2))
y = X[..., 0].max(axis=1)


def member(seed):
    """Train one member of an ensemble."""
    model = Model(LSTM(2, 8, rng=seed), 1, rng=seed)
    model.fit(X, y[:, None], epochs=10, optimizer=Adam(1e-2), rng=seed)
    return model  # which pickles as its weights


def main():
    # Seeds: an ensemble, whose members disagree where they know little.
    models = joblib.Parallel(n_jobs=2)(joblib.delayed(member)(seed) for seed in range(4))
    predictions = np.stack([model.predict(X) for model in models])
    print(f"{len(models)} members, mean spread {predictions.std(axis=0).mean():.3f}")

    search = GridSearchCV(
        LSTMRegressor(max_iter=200, n_iter_no_change=3, tol=1e-2, random_state=0),
        {"hidden_size": [4, 8], "learning_rate_init": [1e-3, 1e-2]}, cv=2, n_jobs=2,
    )
    search.fit(X, y)
    print(f"best of {len(search.cv_results_['params'])}: {search.best_params_}")


if __name__ == "__main__":
    if sys.argv[1:] == ["dask"]:
        from distributed import Client

        with Client(n_workers=2, threads_per_worker=1), joblib.parallel_config(backend="dask"):
            main()
    else:
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            main()
