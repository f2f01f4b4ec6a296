"""Write tests/data/keras.json: files that Keras 3 wrote, and what it computes with them.

    KERAS_BACKEND=numpy python tests/support/make_keras_outputs.py

For each of `MODELS`, in float32 and float64: the .keras and the .weights.h5 file (zlib, base64), x, and the
output. The weights are asymmetric.
"""

import base64
import json
import tempfile
import zlib
from pathlib import Path

import numpy as np

PATH = Path(__file__).parents[1] / "data" / "keras.json"


def allow_float64():
    """Let Keras compute in float64, of which it makes float32 on any backend but TensorFlow."""
    from keras.src.backend.common import dtypes

    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"


def models(layers):
    """Layers of a Sequential by name, for `keras.layers`."""
    return {
        "lstm": lambda: [layers.LSTM(3)],
        "sequences": lambda: [layers.LSTM(3, return_sequences=True)],
        "hard sigmoid": lambda: [layers.LSTM(3, recurrent_activation="hard_sigmoid", activation="softsign")],
        "backwards": lambda: [layers.LSTM(3, go_backwards=True, use_bias=False)],
        "two bidirectional and a head": lambda: [
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.Bidirectional(layers.LSTM(3)), layers.Dense(2),
        ],
        "three and a head for each step": lambda: [
            *(layers.LSTM(3, return_sequences=True) for _ in range(3)),
            layers.TimeDistributed(layers.Dense(2)),
        ],
    }


def sequential(keras, name, dtype, seed=0):
    """Return a Sequential whose weights are random."""
    keras.config.set_dtype_policy(dtype)
    try:
        model = keras.Sequential([keras.Input((None, 2), dtype=dtype), *models(keras.layers)[name]()])
    finally:
        keras.config.set_dtype_policy("float32")
    assert {w.dtype.name for w in model.get_weights()} == {dtype}
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(size=w.shape).astype("float32").astype(dtype) for w in model.get_weights()])
    return model


def committed():
    """Read the file back: {(name, dtype): {"keras": bytes, "weights.h5": bytes, "x": array, "y": array}}."""
    cases = {}
    for case in json.loads(PATH.read_text())["cases"]:
        content = {word: zlib.decompress(base64.b64decode(case[word])) for word in ("keras", "weights.h5")}
        arrays = {word: np.array(case[word], case["dtype"]) for word in ("x", "y")}
        cases[case["name"], case["dtype"]] = {**content, **arrays}
    return cases


def main():
    import keras

    allow_float64()
    cases = []
    x = np.random.default_rng(1).normal(size=(2, 4, 2)).astype("float32")
    for name in models(keras.layers):
        for dtype in ("float32", "float64"):
            model = sequential(keras, name, dtype)
            case = {"name": name, "dtype": dtype, "x": x.tolist(),
                    "y": np.asarray(model(x.astype(dtype))).tolist()}
            with tempfile.TemporaryDirectory() as folder:
                for word in ("keras", "weights.h5"):
                    path = Path(folder) / f"model.{word}"
                    model.save(path) if word == "keras" else model.save_weights(path)
                    case[word] = base64.b64encode(zlib.compress(path.read_bytes(), 9)).decode()
            cases.append(case)
    written = {"keras": keras.__version__, "backend": keras.backend.backend(), "cases": cases}
    PATH.write_text(json.dumps(written, indent=0) + "\n")
    print(f"{PATH.name}: {PATH.stat().st_size / 1000:.0f} KB, Keras {keras.__version__}")


if __name__ == "__main__":
    main()
