"""scikit-learn estimators: `LSTMRegressor`, `LSTMClassifier`, `LSTMForecaster`, and `SequenceScaler`.

Needs scikit-learn 1.6 or newer (the extra ``sklearn``).
"""

from lstm_ext.sklearn._forecaster import LSTMForecaster
from lstm_ext.sklearn._sequences import SequenceScaler
from lstm_ext.sklearn._supervised import LSTMClassifier, LSTMRegressor

__all__ = ["LSTMClassifier", "LSTMForecaster", "LSTMRegressor", "SequenceScaler"]
