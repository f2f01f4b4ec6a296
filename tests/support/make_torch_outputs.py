"""Write tests/data/torch_lstm.npz: what PyTorch computes for `CASES`.

    python tests/support/make_torch_outputs.py

The archive holds, for each case, ``<case>/parameter/<name>``, ``<case>/array/<name>`` (x, h_0, ...)
and ``<case>/run/<name>`` (y, h_n, c_n, dx, ... and the gradients), and the version of PyTorch.
The inputs are stored too, so that nothing hangs on a random number generator. They are
float32-representable: a float32 case reads those of its float64 sibling.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))  # as a script: harness imports tests/reference.py
from harness import Case

PATH = Path(__file__).parents[1] / "data" / "torch_lstm.npz"

_DOUBLE = {
    "one_layer": Case(input_size=3, hidden_size=5, batch=4, time=7),
    "one_step": Case(input_size=1, hidden_size=17, batch=2, time=1),
    "lengths": Case(input_size=2, hidden_size=5, batch=5, time=6, lengths=(3, 6, 1, 5, 2)),
    "two_layers_bidirectional": Case(
        input_size=3, hidden_size=4, num_layers=2, bidirectional=True, batch=3, time=5
    ),
    "three_layers": Case(input_size=2, hidden_size=5, num_layers=3, batch=3, time=6),
    "three_layers_bidirectional_lengths": Case(
        input_size=3,
        hidden_size=3,
        num_layers=3,
        bidirectional=True,
        batch=4,
        time=6,
        lengths=(2, 6, 1, 4),
    ),
}
CASES = _DOUBLE | {
    f"{name}_float32": replace(case, dtype="float32") for name, case in _DOUBLE.items()
}


def run_torch(case, parameters, arrays):
    """Run `torch.nn.LSTM` on the same numbers. Its second bias, bias_hh, is left at zero."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    torch.set_num_threads(1)  # at these sizes its threads only wait for each other
    dtype = getattr(torch, case.dtype)
    lstm = torch.nn.LSTM(
        case.input_size,
        case.hidden_size,
        case.num_layers,
        batch_first=True,
        bidirectional=case.bidirectional,
        dtype=dtype,
    )
    theirs = {name.replace("bias_l", "bias_ih_l"): name for name in parameters}
    with torch.no_grad():
        for name, parameter in lstm.named_parameters():
            parameter.copy_(
                torch.from_numpy(parameters[theirs[name]]) if name in theirs else torch.zeros(())
            )
    a = {k: torch.tensor(v, requires_grad=k in ("x", "h_0", "c_0")) for k, v in arrays.items()}
    source = a["x"]
    if case.lengths:
        source = pack_padded_sequence(source, case.lengths, True, enforce_sorted=False)
    y, (h_n, c_n) = lstm(source, (a["h_0"], a["c_0"]))
    if case.lengths:
        y, _ = pad_packed_sequence(y, batch_first=True, total_length=case.time)
    torch.autograd.backward([y, h_n, c_n], [a["dy"], a["dh_n"], a["dc_n"]])
    run = {"y": y, "h_n": h_n, "c_n": c_n}
    run |= {"dx": a["x"].grad, "dh_0": a["h_0"].grad, "dc_0": a["c_0"].grad}
    run |= {theirs[n]: p.grad for n, p in lstm.named_parameters() if n in theirs}
    return {name: tensor.detach().numpy() for name, tensor in run.items()}


def committed(name):
    """Read back one case of the archive: parameters, arrays, run."""
    case = CASES[name]
    with np.load(PATH, allow_pickle=False) as archive:

        def group(case_name, kind):
            prefix = f"{case_name}/{kind}/"
            return {
                key.removeprefix(prefix): archive[key].astype(case.dtype)
                for key in archive.files
                if key.startswith(prefix)
            }

        source = name.removesuffix("_float32")
        return group(source, "parameter"), group(source, "array"), group(name, "run")


def committed_version():
    """Version of PyTorch that the archive was written with."""
    with np.load(PATH, allow_pickle=False) as archive:
        return str(archive["torch_version"])


def main():
    import torch

    stored = {"torch_version": np.array(torch.__version__)}
    for seed, (name, case) in enumerate(_DOUBLE.items()):
        parameters, arrays = case.draw(seed)
        for key, value in parameters.items():
            stored[f"{name}/parameter/{key}"] = value.astype("float32")
        for key, value in arrays.items():
            stored[f"{name}/array/{key}"] = value.astype("float32")
        for key in (name, f"{name}_float32"):
            dtype = CASES[key].dtype
            run = run_torch(
                CASES[key],
                {k: v.astype(dtype) for k, v in parameters.items()},
                {k: v.astype(dtype) for k, v in arrays.items()},
            )
            stored |= {f"{key}/run/{k}": v for k, v in run.items()}
    PATH.parent.mkdir(exist_ok=True)
    np.savez_compressed(PATH, **stored)
    print(f"{PATH.name}: {PATH.stat().st_size / 1000:.0f} KB, PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
