"""A backend for ONNX models whose LSTM operators are this package's.

Everything but LSTM is ONNX's own reference implementation: the backend is for tests and comparisons, of
models that one trusts.
"""

from __future__ import annotations

from typing import Any

import onnx.backend.base
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from lstm_ext.io import _onnx_lstm

__all__ = ["Backend"]


class LSTM(OpRun):
    """The operator, its weights known when it runs. ReferenceEvaluator finds it by its name."""

    op_domain = ""

    def _run(self, X, W, R, B=None, sequence_lens=None, initial_h=None, initial_c=None, P=None, **attributes):
        given = {name: value for name, value in attributes.items() if value is not None}
        words, layout = _onnx_lstm.options("LSTM", given, R.shape)
        arrays = {n: a for n, a in zip("WRBP", (W, R, B, P), strict=True) if a is not None}
        arrays = _onnx_lstm.check_arrays("LSTM", words, arrays)
        lstm = _onnx_lstm.make_lstm(words, [arrays], batch_first=bool(layout))

        def swapped(array):  # layout 1 has the batch first in states, too
            return None if array is None else array.swapaxes(0, 1) if layout else array

        state = (swapped(initial_h), swapped(initial_c))
        y, (h, c) = lstm(X, state, lengths=sequence_lens)
        y = y.reshape(*y.shape[:2], len(W), lstm.hidden_size)
        return y if layout else y.swapaxes(1, 2), swapped(h), swapped(c)


class _Prepared(onnx.backend.base.BackendRep):
    """A model that is ready to run."""

    def __init__(self, model):
        self._evaluator = ReferenceEvaluator(model, new_ops=[LSTM])
        self._names = [given.name for given in model.graph.input]

    def run(self, inputs, **kwargs):
        """Run the model on `inputs`, arrays in the order of the graph's inputs, or a dict by name."""
        if not isinstance(inputs, dict):
            inputs = dict(zip(self._names, inputs, strict=False))
        return tuple(self._evaluator.run(None, inputs))


class Backend(onnx.backend.base.Backend):
    """`onnx.backend.base.Backend` with this package's LSTM; the other operators are ONNX's reference.

    ``Backend.prepare(model).run(inputs)``, ``Backend.run_model(model, inputs)`` and
    ``Backend.run_node(node, inputs)`` as ONNX documents them. For tests: it checks models as ONNX's checker
    does, and trusts them beyond.
    """

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Any:
        """Return what runs `model`, an onnx.ModelProto."""
        super().prepare(model, device, **kwargs)
        return _Prepared(model)

    @classmethod
    def run_node(
        cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> Any:
        """Run one node on `inputs`, arrays for those of its inputs that have names; so are the results."""
        super().run_node(node, inputs, device, outputs_info, **kwargs)
        names = [name for name in node.input if name]
        results = ReferenceEvaluator(node, new_ops=[LSTM]).run(None, dict(zip(names, inputs, strict=True)))
        return tuple(result for name, result in zip(node.output, results, strict=True) if name)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Return whether the device is the CPU."""
        return device.partition(":")[0] == "CPU"
