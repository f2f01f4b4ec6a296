"""Networks with an LSTM as people write them in PyTorch, and their graphs: what `from_onnx` is tried on.

``python tests/support/onnx_zoo.py --write docs/io_onnx.md`` exports them with both exporters of PyTorch, and
writes the table of that page: taken, refused and why, the largest difference from ONNX Runtime.
"""

import contextlib
import importlib
import io
import logging
import os
import sys
import warnings

import numpy as np

I, H, O = 3, 5, 2  # noqa: E741
SHOWN = 3, 7  # the first two sizes of what an exporter is shown


def nets():
    """Return networks by name: a function that makes one, and how it is called."""
    import torch
    from torch import nn

    class Net(nn.Module):
        """An LSTM, and what a function makes of its results."""

        def __init__(self, readout, layers=1, heads=((H, O),), batch_first=True, **words):
            super().__init__()
            self.lstm = nn.LSTM(I, H, layers, batch_first=batch_first, **words)
            self.heads = nn.ModuleList(nn.Linear(*sizes) for sizes in heads)
            self.drop, self.act = nn.Dropout(0.3), nn.ReLU()
            self.readout = readout

        def forward(self, x):
            y, (h, c) = self.lstm(x)
            return self.readout(self, x, y, h, c)

    def net(readout, **words):
        return lambda: Net(readout, **words)

    def own_states(learnt):
        class States(nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm, self.fc = nn.LSTM(I, H, 2, batch_first=True), nn.Linear(H, O)
                if learnt:
                    self.h0, self.c0 = (nn.Parameter(torch.randn(2, 1, H)) for _ in range(2))

            def forward(self, x):
                if learnt:
                    h0, c0 = (s.expand(2, x.size(0), H).contiguous() for s in (self.h0, self.c0))
                else:
                    h0, c0 = (torch.zeros(2, x.size(0), H) for _ in range(2))
                y, _ = self.lstm(x, (h0, c0))
                return self.fc(y[:, -1])

        return States

    class Stack(nn.Module):
        """Two LSTMs, one after the other, of the same width."""

        def __init__(self, drop=False):
            super().__init__()
            self.a, self.b = nn.LSTM(I, H, batch_first=True), nn.LSTM(H, H, batch_first=True)
            self.fc, self.drop = nn.Linear(H, O), nn.Dropout(0.2) if drop else nn.Identity()

        def forward(self, x):
            y = self.drop(self.a(x)[0])
            return self.fc(self.b(y)[0][:, -1, :])

    class Widths(nn.Module):
        """LSTMs of different widths, one after the other."""

        def __init__(self, sizes, bidirectional=False):
            super().__init__()
            D = 2 if bidirectional else 1
            fed = (I, *(D * size for size in sizes))
            self.stack = nn.ModuleList(
                nn.LSTM(*pair, batch_first=True, bidirectional=bidirectional)
                for pair in zip(fed, sizes, strict=False)
            )
            self.fc = nn.Linear(fed[-1], O)

        def forward(self, x):
            for one in self.stack:
                x, (h, _) = one(x)
            return self.fc(torch.cat((h[0], h[1]), -1) if len(h) > 1 else x[:, -1])

    class Permuted(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.fc = nn.LSTM(I, H), nn.Linear(H, O)

        def forward(self, x):
            y, _ = self.lstm(x.permute(1, 0, 2))
            return self.fc(y[-1])

    class Transposed(Permuted):
        def forward(self, x):
            y, _ = self.lstm(x.transpose(0, 1))
            return self.fc(y.transpose(0, 1))

    last = lambda s, x, y, h, c: s.heads[0](y[:, -1])  # noqa: E731
    top = lambda s, x, y, h, c: s.heads[0](h[-1])  # noqa: E731
    every = lambda s, x, y, h, c: s.heads[0](y)  # noqa: E731
    both = {"bidirectional": True, "heads": ((2 * H, O),)}
    two = ((H, 4), (4, O))
    return {
        "y[:, -1]": net(last),
        "y[:, -1, :]": net(lambda s, x, y, h, c: s.heads[0](y[:, -1, :])),
        "h[-1]": net(top),
        "h.squeeze(0)": net(lambda s, x, y, h, c: s.heads[0](h.squeeze(0))),
        "h[0]": net(lambda s, x, y, h, c: s.heads[0](h[0])),
        "every step": net(every),
        "only y": net(lambda s, x, y, h, c: y),
        "y, h, c": net(lambda s, x, y, h, c: (y, h, c)),
        "two layers, y[:, -1]": net(last, layers=2),
        "two layers, h[-1]": net(top, layers=2),
        "three layers, every step": net(every, layers=3),
        "dropout between layers": net(last, layers=2, dropout=0.2),
        "bidirectional, every step": net(every, **both),
        "bidirectional, cat(h)": net(
            lambda s, x, y, h, c: s.heads[0](torch.cat((h[-2], h[-1]), dim=1)), **both),
        "bidirectional, cat(h), two layers": net(
            lambda s, x, y, h, c: s.heads[0](torch.cat([h[-2, :, :], h[-1, :, :]], -1)), layers=2, **both),
        "bidirectional, h as rows": net(
            lambda s, x, y, h, c: s.heads[0](h.transpose(0, 1).reshape(-1, 2 * H)), **both),
        "bidirectional, h.permute": net(
            lambda s, x, y, h, c: s.heads[0](h.permute(1, 0, 2).reshape(x.size(0), -1)), **both),
        "bidirectional, y": net(lambda s, x, y, h, c: y, **both),
        "no bias in the LSTM": net(last, bias=False),
        "softmax": net(lambda s, x, y, h, c: torch.softmax(s.heads[0](y[:, -1]), dim=1)),
        "softmax, every step": net(lambda s, x, y, h, c: torch.softmax(s.heads[0](y), dim=-1)),
        "log_softmax": net(lambda s, x, y, h, c: torch.log_softmax(s.heads[0](h[-1]), dim=-1)),
        "sigmoid": net(lambda s, x, y, h, c: torch.sigmoid(s.heads[0](y[:, -1])), heads=((H, 1),)),
        "relu": net(lambda s, x, y, h, c: torch.relu(s.heads[0](y[:, -1]))),
        "squeeze of one output": net(lambda s, x, y, h, c: s.heads[0](y[:, -1]).squeeze(-1), heads=((H, 1),)),
        "y[:, -1:]": net(lambda s, x, y, h, c: s.heads[0](y[:, -1:]).squeeze(1)),
        "y[:, -1:].squeeze": net(lambda s, x, y, h, c: s.heads[0](y[:, -1:, :].squeeze(1))),
        "dropout before the head": net(lambda s, x, y, h, c: s.heads[0](s.drop(y[:, -1]))),
        "two linear": net(lambda s, x, y, h, c: s.heads[1](s.heads[0](y[:, -1])), heads=two),
        "two linear, every step": net(lambda s, x, y, h, c: s.heads[1](s.heads[0](y)), heads=two),
        "three linear": net(
            lambda s, x, y, h, c: s.heads[2](s.heads[1](s.heads[0](h[-1]))), heads=((H, 4), (4, 6), (6, O))),
        "h.view(-1, H)": net(lambda s, x, y, h, c: s.heads[0](h.view(-1, H))),
        "h[-1].view": net(lambda s, x, y, h, c: s.heads[0](h[-1].view(x.size(0), H)), layers=2),
        "h[-1].flatten": net(lambda s, x, y, h, c: s.heads[0](h[-1].flatten(1))),
        "y flattened by step": net(
            lambda s, x, y, h, c: s.heads[0](y.reshape(-1, H)).view(x.size(0), x.size(1), O)),
        "y flattened with contiguous": net(
            lambda s, x, y, h, c: s.heads[0](y.contiguous().view(-1, y.shape[2])).view(-1, x.size(1), O)),
        "y[:, -1].unsqueeze": net(lambda s, x, y, h, c: s.heads[0](y[:, -1].unsqueeze(1)).squeeze(1)),
        "y[:, y.size(1) - 1]": net(lambda s, x, y, h, c: s.heads[0](y[:, y.size(1) - 1])),
        "select": net(lambda s, x, y, h, c: s.heads[0](y.select(1, -1))),
        "narrow": net(lambda s, x, y, h, c: s.heads[0](y.narrow(1, y.size(1) - 1, 1)).squeeze(1)),
        "zeros as states": own_states(False),
        "learned states": own_states(True),
        "two LSTMs": Stack,
        "two LSTMs, dropout": lambda: Stack(True),
        "permute first": Permuted,
        "transpose first and last": Transposed,
        "time first, y": net(lambda s, x, y, h, c: y, batch_first=False),
        "time first, y, h, c": net(lambda s, x, y, h, c: (y, h, c), batch_first=False, layers=2),
        "head without a bias": lambda: _without_bias(Net(last)),
        "head as matmul": net(lambda s, x, y, h, c: y[:, -1] @ s.heads[0].weight.T),
        "one output as a vector": net(lambda s, x, y, h, c: y[:, -1] @ s.heads[0].weight[0], heads=((H, 1),)),
        "scaled output": net(lambda s, x, y, h, c: 2.5 * s.heads[0](y[:, -1]) + 1.0),
        "last through h, four layers": net(top, layers=4),
        "bidirectional, last of y forward": net(
            lambda s, x, y, h, c: s.heads[0](torch.cat((y[:, -1, :H], y[:, 0, H:]), -1)), **both),
        "bidirectional, cat(h) the other way": net(
            lambda s, x, y, h, c: s.heads[0](torch.cat((h[-1], h[-2]), dim=1)), **both),
        "bidirectional, only h[-1]": net(top, bidirectional=True),
        "mean over time": net(lambda s, x, y, h, c: s.heads[0](y.mean(1))),
        "bidirectional, mean over time": net(lambda s, x, y, h, c: s.heads[0](y.mean(dim=1)), **both),
        "max over time": net(lambda s, x, y, h, c: s.heads[0](y.amax(1))),
        "attention": net(
            lambda s, x, y, h, c: s.heads[1]((torch.softmax(s.heads[0](y), 1) * y).sum(1)),
            heads=((H, 1), (H, O))),
        "bidirectional, attention": net(
            lambda s, x, y, h, c: s.heads[1](
                torch.bmm(torch.softmax(s.heads[0](y), 1).transpose(1, 2), y).squeeze(1)),
            heads=((2 * H, 1), (2 * H, O)), bidirectional=True),
        "max over time, values": net(lambda s, x, y, h, c: s.heads[0](y.max(dim=1).values)),
        "widths 8, 5": lambda: Widths((8, 5)),
        "widths 4, 7, 3": lambda: Widths((4, 7, 3)),
        "bidirectional, widths 6, 4": lambda: Widths((6, 4), True),
        "standardized output": net(lambda s, x, y, h, c: (s.heads[0](y[:, -1]) - 0.5) / 3.0),
        "negative output": net(lambda s, x, y, h, c: 1.0 - s.heads[0](y[:, -1])),
        "sum of two readouts": net(
            lambda s, x, y, h, c: s.heads[0](h[0]) + s.heads[1](h[1]), layers=1, bidirectional=True,
            heads=((H, O), (H, O))),
        "two heads": net(
            lambda s, x, y, h, c: (s.heads[0](y[:, -1]), s.heads[1](y[:, -1])), heads=((H, O), (H, 1))),
        "two heads joined": net(
            lambda s, x, y, h, c: torch.cat((s.heads[0](y), s.heads[1](y)), -1), heads=((H, O), (H, 3))),
        "two heads with sigmoid": net(
            lambda s, x, y, h, c: tuple(torch.sigmoid(head(h[-1])) for head in s.heads),
            heads=((H, O), (H, 1))),
        "three heads, of both directions": net(
            lambda s, x, y, h, c: (
                s.heads[0](h[0]), s.heads[1](h[1]), s.heads[2](torch.cat((h[1], h[0]), -1))),
            heads=((H, 1), (H, O), (2 * H, O)), bidirectional=True),
        "heads of all steps and of the last": net(
            lambda s, x, y, h, c: (s.heads[0](y), s.heads[1](h[-1])), heads=((H, O), (H, O))),
        "heads with softmax and without": net(
            lambda s, x, y, h, c: (torch.softmax(s.heads[0](h[-1]), -1), s.heads[1](h[-1])),
            heads=((H, O), (H, O))),
        "relu between two linear": net(
            lambda s, x, y, h, c: s.heads[1](torch.relu(s.heads[0](y[:, -1]))), heads=two),
        "tanh": net(lambda s, x, y, h, c: torch.tanh(s.heads[0](y[:, -1]))),
        "chunk of h": net(lambda s, x, y, h, c: s.heads[0](torch.cat(h.chunk(2, 0), -1).squeeze(0)), **both),
    }


def _without_bias(made):
    from torch import nn

    made.heads[0] = nn.Linear(H, O, bias=False)
    return made


def exported(make, dynamo, folder, seed=0):
    """Export a network in evaluation mode with free batch and time; return the path.

    In a process of its own: torch.export keeps what it has inferred of one LSTM's sizes for the next.
    """
    import torch

    torch.set_num_threads(1)  # threads do not survive a fork
    for module in ("torch._dynamo", "onnxscript", "torch.onnx._internal.exporter._core"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)  # here, and not in each child
    path = folder / "m.onnx"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _export(make, dynamo, path, seed)
            status = 0
        except Exception as error:
            (folder / "error").write_text(f"{type(error).__name__}: {error}")
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError((folder / "error").read_text())
    return path


def _export(make, dynamo, path, seed):
    import torch

    torch.manual_seed(seed)
    network, x = make().eval(), torch.randn(*SHOWN, I)
    batch_first = not isinstance(getattr(network, "lstm", None), torch.nn.LSTM) or network.lstm.batch_first
    if batch_first or not hasattr(network, "readout"):  # the others turn their input round
        names = {0: "batch", 1: "time"}
    else:
        names = {0: "time", 1: "batch"}
    logging.disable(logging.CRITICAL)
    with (
        warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({k: torch.export.Dim.DYNAMIC for k in names},)
            torch.onnx.export(
                network, (x,), path, dynamo=True, dynamic_shapes=shapes, input_names=["x"], verbose=False
            )
        else:
            torch.onnx.export(network, (x,), path, dynamo=False, dynamic_axes={"x": names}, input_names=["x"])


def tried(path, seed=1):
    """Return "taken" and the largest difference from ONNX Runtime, or why the graph is refused."""
    import onnxruntime

    from lstm_ext.io import FormatError, from_onnx

    try:
        model = from_onnx(path)
    except FormatError as error:
        return str(error).partition(": ")[2], None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(path, options)
    # Some graphs of torch 2.13 run for the number of steps alone that the exporter was shown.
    worst, runs = 0.0, 0
    for n, t in ((2, 9), (4, 4), SHOWN):
        x = np.random.default_rng(seed).normal(size=(n, t, I)).astype(np.float32)
        try:
            theirs = session.run(None, {session.get_inputs()[0].name: x})
        except Exception:
            if (n, t) == SHOWN and not runs:
                raise
            continue
        if theirs[0].ndim == 3 and theirs[0].shape[:2] != (n, t) and (n, t) != SHOWN:
            continue  # it has cut the steps of all sequences anew
        runs += 1
        worst = max(worst, difference(model, x, theirs))
    return "taken", worst


def difference(model, x, theirs):
    """Return the largest difference between the results of a model, or an LSTM, and those of a graph."""
    from lstm_ext import Model

    if isinstance(model, Model):
        mine, theirs = [model.predict(x)], [np.concatenate(theirs, -1)]  # several heads
        if type(model.loss).__name__ == "CrossEntropy":
            e = np.exp(mine[0] - mine[0].max(-1, keepdims=True))
            soft = e / e.sum(-1, keepdims=True)
            candidates = [mine[0], soft, np.log(soft)]
            return min(_apart(one, theirs[0]) for one in candidates)
        if type(model.loss).__name__ == "BinaryCrossEntropy":
            return min(_apart(one, theirs[0]) for one in (mine[0], 1 / (1 + np.exp(-mine[0]))))
    else:
        y, (h, c) = model(x)
        mine = [y, h, c][: len(theirs)]
    return max(_apart(one, other) for one, other in zip(mine, theirs, strict=True))


def _apart(mine, theirs):
    if mine.shape != theirs.shape and mine.size == theirs.size and mine.shape[-1] == 1:
        mine = mine.reshape(theirs.shape)  # one output, squeezed
    return float(np.abs(mine - theirs).max()) if mine.shape == theirs.shape else np.inf


BEGIN, END = "<!-- zoo: begin -->", "<!-- zoo: end -->"


def rows(only=None):
    """Give the lines of the table, of the networks whose names have `only` in them."""
    import tempfile
    from pathlib import Path

    yield "| network | dynamo | torchscript |"
    yield "|---|---|---|"
    counts = {True: 0, False: 0}
    chosen = {name: make for name, make in nets().items() if only is None or only in name}
    for name, make in chosen.items():
        cells = []
        for dynamo in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    path = exported(make, dynamo, Path(folder))
                except Exception as error:
                    cells.append(f"not exported: {str(error)[:60]}")
                    continue
                found, worst = tried(path)
                counts[dynamo] += found == "taken"
                cells.append(f"{worst:.0e}" if found == "taken" else f"refused: {found}")
        yield f"| {name} | {' | '.join(cells)} |"
    yield f"| taken of {len(chosen)} | {counts[True]} | {counts[False]} |"


def main():
    """Print the table, or put it into a page between its marks."""
    import argparse

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("only", nargs="?", help="a part of the networks' names")
    parser.add_argument("--write", metavar="PAGE", help="such as docs/io_onnx.md")
    arguments = parser.parse_args()
    lines = []
    for line in rows(arguments.only):
        print(line, flush=True)
        lines.append(line)
    if arguments.write:
        with open(arguments.write) as file:
            before, _, rest = file.read().partition(BEGIN)
        _, mark, after = rest.partition(END)
        if not mark:
            raise SystemExit(f"{arguments.write} has no {BEGIN} and {END}")
        with open(arguments.write, "w") as file:
            file.write("\n".join([before + BEGIN, *lines, END + after]))


if __name__ == "__main__":
    sys.exit(main())
