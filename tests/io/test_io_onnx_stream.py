"""ONNX models that carry their states: chunks of any length give the numbers of the whole sequence."""

import numpy as np
import pytest
from harness import TOLERANCE, assert_close

from lstm_ext import LSTM, Model
from lstm_ext.io import to_onnx

pytest.importorskip("onnx", reason="onnx is not installed: the extra onnx")
from onnx.reference import ReferenceEvaluator

N, T, I, H = 3, 9, 4, 5  # noqa: E741


def drawn(obj):
    obj.parameters = np.random.default_rng(0).normal(size=obj.parameters.shape) / 3
    return obj


def in_chunks(proto, x, chunks, dtype, layers):
    """Run a graph chunk by chunk, states handed on; return the outputs of each chunk."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: the extra onnx")
    if dtype == "float32":
        session = runtime.InferenceSession(proto.SerializeToString())
        run, names = session.run, [output.name for output in session.get_outputs()]
    else:  # ONNX Runtime has no LSTM in float64
        evaluator = ReferenceEvaluator(proto)
        run, names = evaluator.run, evaluator.output_names
    state = {name: np.zeros((layers, N, H), dtype) for name in ("h_0", "c_0")}
    found, start = [], 0
    for steps in chunks:
        given = {"x": x[:, start : start + steps], **state}
        got = dict(zip(names, run(None, given), strict=True))
        state = {"h_0": got.pop("h_n"), "c_0": got.pop("c_n")}
        found.append(*got.values())
        start += steps
    return found, state


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("chunks", [(T,), (1,) * T, (2, 4, 3)])
@pytest.mark.parametrize("every_step", [False, True])
def test_a_model_in_chunks(dtype, chunks, every_step):
    model = drawn(Model(LSTM(I, H, 2, dtype=dtype), 2, every_step=every_step))
    x = np.random.default_rng(1).normal(size=(N, T, I)).astype(dtype)
    found, state = in_chunks(to_onnx(model, stream=True), x, chunks, dtype, 2)
    _, (h, c) = model.lstm(x)
    assert_close(state["h_0"], h, TOLERANCE[dtype])
    assert_close(state["c_0"], c, TOLERANCE[dtype])
    mine = np.concatenate(found, axis=1) if every_step else found[-1]
    assert_close(mine, model.predict(x), TOLERANCE[dtype])


def test_an_lstm_in_chunks_and_peepholes_among_its_options():
    lstm = drawn(LSTM(I, H, 1, peepholes=True, coupled_gates=True))
    x = np.random.default_rng(1).normal(size=(N, T, I)).astype("float32")
    found, _ = in_chunks(to_onnx(lstm, stream=True), x, (4, 5), "float32", 1)
    assert_close(np.concatenate(found, axis=1), lstm(x)[0], 1e-5)


def test_a_fitted_pipeline_in_chunks():
    sklearn = pytest.importorskip("sklearn.pipeline", reason="scikit-learn is not installed: extra sklearn")
    from lstm_ext.sklearn import LSTMRegressor, SequenceScaler

    rng = np.random.default_rng(0)
    x = 100 + 5 * rng.normal(size=(N, T, I))
    regressor = LSTMRegressor(hidden_size=H, max_iter=2, every_step=True, random_state=0)
    pipeline = sklearn.make_pipeline(SequenceScaler(), regressor).fit(x, 40 + 3 * x[..., :1])
    found, _ = in_chunks(to_onnx(pipeline, stream=True), x, (3, 6), "float32", 1)
    np.testing.assert_allclose(np.concatenate(found, axis=1).reshape(N, T), pipeline.predict(x).reshape(N, T),
                               rtol=1e-6)


@pytest.mark.parametrize(("words", "more", "said"), [
    ({"bidirectional": True}, {}, "stream is True and bidirectional too"),
    ({"reverse": True}, {}, "stream is True and reverse too"),
    ({}, {"lengths": True}, "stream is True and lengths too"),
])
def test_what_begins_at_the_end_has_no_stream(words, more, said):
    with pytest.raises(ValueError, match=said):
        to_onnx(LSTM(I, H, **words), stream=True, **more)
    with pytest.raises(TypeError, match="stream is 1; expected True or False"):
        to_onnx(LSTM(I, H), stream=1)
