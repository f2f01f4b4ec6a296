"""Graphs as PyTorch's two exporters write them: taken, with the results of ONNX Runtime, or refused."""

import os

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: it exports the graphs")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: PyTorch's exporter needs it")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: the extra onnx")
if not hasattr(os, "fork"):
    pytest.skip("each export needs a process of its own", allow_module_level=True)

import onnx_zoo

NETS = onnx_zoo.nets()
# What a Model does not have, and the node that says so.
REFUSED = {
    "relu": "Relu", "relu between two linear": "Relu", "tanh": "Tanh",
    "heads of all steps and of the last": "one graph for each",
    "heads with softmax and without": "one graph for each",
}
RESULTS = {True: {}, False: {}}


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
@pytest.mark.parametrize("name", NETS)
def test_a_graph_is_taken_as_it_is_or_refused(name, dynamo, tmp_path):
    try:
        path = onnx_zoo.exported(NETS[name], dynamo, tmp_path)
    except RuntimeError as error:
        pytest.fail(f"PyTorch does not export it: {error}")
    found, worst = onnx_zoo.tried(path)
    RESULTS[dynamo][name] = found
    if found == "taken":
        assert worst < 1e-5
        assert name not in REFUSED
    else:
        assert name in REFUSED, found
        assert REFUSED[name] in found


def test_how_many_are_taken():
    if len(RESULTS[True]) < len(NETS):
        pytest.skip("the tests above did not all run")
    taken = {dynamo: list(results.values()).count("taken") for dynamo, results in RESULTS.items()}
    assert len(NETS) >= 60
    assert taken[True] == taken[False] == len(NETS) - len(REFUSED)
