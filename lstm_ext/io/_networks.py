"""Whole models as networks of PyTorch and Keras, with their pooling and readout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext.lstm import LSTM
from lstm_ext.model import Model

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import torch


def torch_module(obj: LSTM | Model, state: Mapping[str, npt.NDArray[Any]]) -> torch.nn.Module:
    """Return a ``torch.nn.Module`` in evaluation mode that computes what `predict` does, of a state dict."""
    import torch
    from torch import nn

    lstm = obj.lstm if isinstance(obj, Model) else obj
    dtype = getattr(torch, lstm.dtype.name)
    # In PyTorch, one layer drops nothing, and says so with a warning.
    layers = nn.LSTM(
        lstm.input_size, lstm.hidden_size, lstm.num_layers, bias=lstm.bias, batch_first=lstm.batch_first,
        dropout=lstm.dropout if lstm.num_layers > 1 else 0.0, bidirectional=lstm.bidirectional,
        proj_size=lstm.proj_size or 0, dtype=dtype,
    )
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    if isinstance(obj, LSTM):
        layers.load_state_dict(tensors)
        return layers.eval()
    model = obj

    class Network(nn.Module):  # type: ignore[misc, unused-ignore]  # where PyTorch is not installed
        """An LSTM, its pooling over time and a linear readout; 0 beyond a sequence's length."""

        def __init__(self) -> None:
            super().__init__()
            self.lstm = layers
            self.head = nn.Linear(lstm.output_size, model.output_size, dtype=dtype)
            if model.pooling == "attention":
                self.attention = nn.Parameter(torch.zeros(lstm.output_size, dtype=dtype))

        def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
            if lengths is None:
                y, (h, _) = self.lstm(x)
                counted = None
            else:
                packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), True, False)
                y, (h, _) = self.lstm(packed)
                y, _ = nn.utils.rnn.pad_packed_sequence(y, True, total_length=x.shape[1])
                steps = torch.arange(x.shape[1], device=x.device)
                counted = (steps < lengths[:, None].to(x.device))[..., None]
            if model.every_step:
                out: torch.Tensor = self.head(y)
                return out if counted is None else out * counted
            if model.pooling == "mean":
                features = y.mean(1) if counted is None else y.sum(1) / counted.sum(1)
            elif model.pooling == "max":
                features = (y if counted is None else y.masked_fill(~counted, -torch.inf)).amax(1)
            elif model.pooling == "attention":
                score = (y @ self.attention)[..., None]
                score = score if counted is None else score.masked_fill(~counted, -torch.inf)
                features = (torch.softmax(score, 1) * y).sum(1)
            else:
                features = torch.cat(tuple(h[-(2 if lstm.bidirectional else 1) :]), -1)
            prediction: torch.Tensor = self.head(features)
            return prediction

    network = Network()
    network.load_state_dict(tensors)
    return network.eval()


def keras_model(obj: LSTM | Model, weights: list[npt.NDArray[Any]], names: tuple[str, str]) -> Any:
    """Return a ``keras.Model`` that computes what `predict` does.

    Parameters
    ----------
    obj : LSTM or Model
    weights : list of ndarray
        For its layers, in order.
    names : tuple of str
        Keras's activations: recurrent_activation and activation.
    """
    import keras

    layers = keras.layers
    lstm = obj.lstm if isinstance(obj, Model) else obj
    pooling = "last" if isinstance(obj, LSTM) else obj.pooling
    sequences = isinstance(obj, LSTM) or obj.every_step or pooling != "last"
    if lstm.reverse and sequences:
        raise ValueError(
            "the LSTM has reverse=True and its outputs at all steps are read: Keras gives them in the order "
            "in which it reads; expected a model of the last state"
        )
    dtype = lstm.dtype.name
    inputs = value = keras.Input((None, lstm.input_size), dtype=dtype)
    for number in range(lstm.num_layers):
        layer = layers.LSTM(
            lstm.hidden_size, activation=names[1], recurrent_activation=names[0], use_bias=lstm.bias,
            return_sequences=sequences or number + 1 < lstm.num_layers,
            go_backwards=lstm.reverse and not number, dtype=dtype,
        )
        value = (layers.Bidirectional(layer, dtype=dtype) if lstm.bidirectional else layer)(value)
    if pooling == "mean":
        value = layers.GlobalAveragePooling1D(dtype=dtype)(value)
    elif pooling == "max":
        value = layers.GlobalMaxPooling1D(dtype=dtype)(value)
    elif pooling == "attention":
        score = layers.Dense(1, use_bias=False, dtype=dtype, name="attention")(value)
        share = layers.Softmax(axis=1, dtype=dtype)(score)
        value = layers.Flatten(dtype=dtype)(layers.Dot(axes=1, dtype=dtype)([share, value]))
    if isinstance(obj, Model):
        value = layers.Dense(obj.output_size, dtype=dtype)(value)
    model = keras.Model(inputs, value)
    if isinstance(obj, Model) and pooling == "attention":
        weights = [*weights[:-2], np.array(obj.attention[:, None]), *weights[-2:]]
    model.set_weights(weights)
    return model
