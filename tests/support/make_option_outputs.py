"""Write tests/data/options.json: what ONNX Runtime and PyTorch compute for LSTMs with options.

    python tests/support/make_option_outputs.py

Of each case the file holds the arrays that go in (float32-representable, in the ONNX operator's or
PyTorch's own layout) and y, h_n, c_n as they came out; of PyTorch the gradients besides.
"""

import json
from pathlib import Path

import numpy as np

PATH = Path(__file__).parents[1] / "data" / "options.json"
T, N, F, H = 4, 3, 2, 3

# name: options of our LSTM; attributes of the operator LSTM (version 22 of ONNX); whether lengths are given.
ONNX_CASES = {
    "plain": ({}, {}, False),
    "peepholes": ({"peepholes": True}, {}, False),
    "input_forget": ({"coupled_gates": True, "peepholes": True}, {"input_forget": 1}, False),
    "clip": ({"gate_clip": 0.5}, {"clip": 0.5}, False),
    "reverse": ({"reverse": True}, {"direction": "reverse"}, True),
    "bidirectional": ({"bidirectional": True, "peepholes": True}, {"direction": "bidirectional"}, True),
    "sequence_lens": ({}, {}, True),
    "hard_sigmoid": ({"activations": (("hard_sigmoid", 0.3, 0.4), "softsign", "relu")},
                     {"activations": ["HardSigmoid", "Softsign", "Relu"], "activation_alpha": [0.3, 0.0, 0.0],
                      "activation_beta": [0.4, 0.0, 0.0]}, False),
    "scaled_tanh": ({"activations": ("sigmoid", ("scaled_tanh", 0.8, 1.2), ("leaky_relu", 0.2))},
                    {"activations": ["Sigmoid", "ScaledTanh", "LeakyRelu"], "activation_alpha": [0.8, 0.2],
                     "activation_beta": [1.2]}, False),
    "elu": ({"activations": ("sigmoid", ("elu", 0.7), "softplus")},
            {"activations": ["Sigmoid", "Elu", "Softplus"], "activation_alpha": [0.7]}, False),
    "affine": ({"activations": ("sigmoid", ("affine", 0.5, 0.1), ("thresholded_relu", 0.2))},
               {"activations": ["Sigmoid", "Affine", "ThresholdedRelu"], "activation_alpha": [0.5, 0.2],
                "activation_beta": [0.1]}, False),
}
TORCH_CASES = {
    "projection": {"proj_size": 2},
    "projection_two_layers": {"proj_size": 2, "num_layers": 2},
    "projection_bidirectional": {"proj_size": 2, "num_layers": 2, "bidirectional": True},
    "no_bias": {"bias": False, "num_layers": 2},
}


def onnx_inputs(name):
    """Arrays of one case as the operator takes them: gates in the order i, o, f, c, peepholes i, o, f."""
    options, _, lengths = ONNX_CASES[name]
    rng = np.random.default_rng(sorted(ONNX_CASES).index(name))
    D = 2 if options.get("bidirectional") else 1
    arrays = {
        "X": (T, N, F), "W": (D, 4 * H, F), "R": (D, 4 * H, H), "B": (D, 8 * H),
        "initial_h": (D, N, H), "initial_c": (D, N, H), "P": (D, 3 * H),
    }
    arrays = {key: rng.normal(size=shape).astype("float32").round(3) for key, shape in arrays.items()}
    if not options.get("peepholes"):
        del arrays["P"]
    if lengths:
        arrays["sequence_lens"] = np.array([4, 1, 3], "int32")
    return arrays


def onnx_model(name, double=False):
    """Return the one-operator model of a case."""
    from onnx import TensorProto, checker, helper

    arrays = onnx_inputs(name)
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    node = helper.make_node(
        "LSTM", [key if key in arrays else "" for key in order], ["Y", "Y_h", "Y_c"],
        hidden_size=H, **ONNX_CASES[name][1],
    )
    D = len(arrays["W"])
    results = {"Y": (T, D, N, H), "Y_h": (D, N, H), "Y_c": (D, N, H)}
    real = TensorProto.DOUBLE if double else TensorProto.FLOAT
    kinds = {key: TensorProto.INT32 if key == "sequence_lens" else real for key in arrays}
    graph = helper.make_graph(
        [node], name,
        [helper.make_tensor_value_info(key, kinds[key], a.shape) for key, a in arrays.items()],
        [helper.make_tensor_value_info(key, real, shape) for key, shape in results.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model


def run_onnxruntime(name):
    """{"Y", "Y_h", "Y_c"} of one case."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(
        onnx_model(name).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return dict(zip(("Y", "Y_h", "Y_c"), session.run(None, onnx_inputs(name)), strict=True))


def torch_inputs(name):
    """Arrays of one case, float64: PyTorch's parameters by name, x, h_0, c_0 and upstream gradients."""
    options = TORCH_CASES[name]
    rng = np.random.default_rng(100 + sorted(TORCH_CASES).index(name))
    D, layers, P = 2 if options.get("bidirectional") else 1, options.get("num_layers", 1), options.get(
        "proj_size", H
    )
    arrays = {"x": (N, T, F), "h_0": (layers * D, N, P), "c_0": (layers * D, N, H), "dy": (N, T, D * P),
              "dh_n": (layers * D, N, P), "dc_n": (layers * D, N, H)}
    for layer in range(layers):
        for suffix in ("", "_reverse")[:D]:
            words = {"weight_ih": (4 * H, D * P if layer else F), "weight_hh": (4 * H, P)}
            if options.get("bias", True):
                words["bias"] = (4 * H,)
            if "proj_size" in options:
                words["weight_hr"] = (P, H)
            arrays |= {f"{word}_l{layer}{suffix}": shape for word, shape in words.items()}
    return {key: rng.normal(size=shape).round(3) for key, shape in arrays.items()}


def run_torch(name):
    """y, h_n, c_n and the gradients of one case."""
    import torch

    options, arrays = TORCH_CASES[name], torch_inputs(name)
    lstm = torch.nn.LSTM(F, H, batch_first=True, dtype=torch.float64, **options)
    ours = {n: n.replace("bias_ih", "bias") for n, _ in lstm.named_parameters()}
    with torch.no_grad():
        for n, parameter in lstm.named_parameters():
            given = arrays.get(ours[n])  # the second bias has none
            parameter.copy_(torch.zeros(()) if given is None else torch.from_numpy(given))
    a = {k: torch.tensor(v, requires_grad=k in ("x", "h_0", "c_0")) for k, v in arrays.items()}
    y, (h_n, c_n) = lstm(a["x"], (a["h_0"], a["c_0"]))
    torch.autograd.backward([y, h_n, c_n], [a["dy"], a["dh_n"], a["dc_n"]])
    run = {"y": y, "h_n": h_n, "c_n": c_n, "dx": a["x"].grad, "dh_0": a["h_0"].grad, "dc_0": a["c_0"].grad}
    run |= {ours[n]: p.grad for n, p in lstm.named_parameters() if ours[n] in arrays}
    return {key: tensor.detach().numpy() for key, tensor in run.items()}


def committed():
    """Read the file: {"onnxruntime": {case: {array: values}}, "torch": ..., versions}."""
    content = json.loads(PATH.read_text())
    for peer in ("onnxruntime", "torch"):
        for case in content[peer].values():
            for key, (shape, values) in case.items():
                case[key] = np.array(values).reshape(shape)
    return content


def main():
    import onnxruntime
    import torch

    def plain(run):
        return {key: [a.shape, [float(str(v)) for v in a.ravel()]] for key, a in run.items()}

    content = {
        "versions": {"onnxruntime": onnxruntime.__version__, "torch": torch.__version__},
        "onnxruntime": {name: plain(run_onnxruntime(name)) for name in ONNX_CASES},
        "torch": {name: plain(run_torch(name)) for name in TORCH_CASES},
    }
    PATH.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    print(f"{PATH.name}: {PATH.stat().st_size / 1000:.0f} KB, {content['versions']}")


if __name__ == "__main__":
    main()
