"""The LSTM in readable NumPy: what the compiled layer is held against.

The cell, for one step (Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber &
Cummins 2000, in the formulation that PyTorch documents for ``torch.nn.LSTM``; one bias vector,
the sum of PyTorch's two)::

    i = sigma(W_i x_t + U_i h_prev + b_i)        input gate
    f = sigma(W_f x_t + U_f h_prev + b_f)        forget gate
    g = tanh (W_g x_t + U_g h_prev + b_g)        candidate
    o = sigma(W_o x_t + U_o h_prev + b_o)        output gate
    c = f * c_prev + i * g
    h = o * act(c)                               act: tanh, or identity

``W = weight_ih (4H, I)``, ``U = weight_hh (4H, H)`` and ``b = bias (4H,)`` hold their gates in the
order i, f, g, o. Backward is the chain rule through these lines, last step first (backpropagation
through time, Werbos 1990).

Arrays are (N, T, features); states are (num_layers * directions, N, H), layer-major. The dtype is
the dtype of what is given: float32, float64, or complex (for complex-step derivatives).
"""

import numpy as np

ACT = {"tanh": np.tanh, "identity": lambda c: c}
ACT_DERIVATIVE = {"tanh": lambda c: 1 - np.tanh(c) ** 2, "identity": np.ones_like}


def sigmoid(x):
    """sigma(x) = 1 / (1 + exp(-x)), written so that nothing overflows."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def cell_forward(weights, act, x_t, h_prev, c_prev):
    """One step: h_t, c_t and the record that `cell_backward` needs."""
    weight_ih, weight_hh, bias = weights
    i, f, g, o = np.split(x_t @ weight_ih.T + h_prev @ weight_hh.T + bias, 4, axis=1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c = f * c_prev + i * g
    h = o * ACT[act](c)
    return h, c, (x_t, h_prev, c_prev, i, f, g, o, c)


def cell_backward(weights, act, record, dh, dc):
    """One step back: dx_t, dh_prev, dc_prev and the three weight gradients of this step."""
    weight_ih, weight_hh, _ = weights
    x_t, h_prev, c_prev, i, f, g, o, c = record
    do = dh * ACT[act](c)
    dc = dc + dh * o * ACT_DERIVATIVE[act](c)
    dpre = np.concatenate(
        [
            dc * g * i * (1 - i),
            dc * c_prev * f * (1 - f),
            dc * i * (1 - g**2),
            do * o * (1 - o),
        ],
        axis=1,
    )
    dweights = dpre.T @ x_t, dpre.T @ h_prev, dpre.sum(axis=0)
    return dpre @ weight_ih, dpre @ weight_hh, dc * f, dweights


def direction_forward(weights, act, x, h, c, lengths):
    """One layer in one direction. A sequence that has ended keeps its state; its y is 0."""
    y = np.zeros((*x.shape[:2], h.shape[1]), np.result_type(x, h, c, *weights))
    records = []
    for t in range(x.shape[1]):
        alive = (t < lengths)[:, None]
        h_t, c_t, record = cell_forward(weights, act, x[:, t], h, c)
        y[:, t] = np.where(alive, h_t, 0)
        h, c = np.where(alive, h_t, h), np.where(alive, c_t, c)
        records.append(record)
    return y, h, c, records


def direction_backward(weights, act, records, dy, dh, dc, lengths):
    """Through `direction_forward`, from the last step to the first."""
    dx = np.zeros((*dy.shape[:2], weights[0].shape[1]), dy.dtype)
    dweights = [np.zeros_like(w) for w in weights]
    for t in reversed(range(dy.shape[1])):
        alive = (t < lengths)[:, None]
        dh_t, dc_t = np.where(alive, dh + dy[:, t], 0), np.where(alive, dc, 0)
        dx[:, t], dh_prev, dc_prev, step = cell_backward(weights, act, records[t], dh_t, dc_t)
        dh, dc = np.where(alive, dh_prev, dh), np.where(alive, dc_prev, dc)
        for total, part in zip(dweights, step, strict=True):
            total += part
    return dx, dh, dc, dweights


def trim(a, lengths):
    """`a` (N, T, features) with zeros beyond each sequence's length."""
    return np.where((np.arange(a.shape[1]) < lengths[:, None])[:, :, None], a, 0)


def reverse(a, lengths):
    """`a` (N, T, features) with each sequence reversed within its length."""
    out = a.copy()
    for row, length in zip(out, lengths, strict=True):
        row[:length] = row[:length][::-1]
    return out


def forward(weights, x, h_0, c_0, lengths, act="tanh", bidirectional=False):
    """Run the stacked layers: y, h_n, c_n and the tape for `backward`.

    `weights` is a list of (weight_ih, weight_hh, bias): for each layer, for each direction.
    """
    directions = 2 if bidirectional else 1
    y = trim(x, lengths)
    h_n, c_n, tape = [], [], []
    for first in range(0, len(weights), directions):
        outputs = []
        for k in range(first, first + directions):
            backwards = k > first
            source = reverse(y, lengths) if backwards else y
            out, h, c, records = direction_forward(weights[k], act, source, h_0[k], c_0[k], lengths)
            outputs.append(reverse(out, lengths) if backwards else out)
            h_n.append(h)
            c_n.append(c)
            tape.append(records)
        y = np.concatenate(outputs, axis=2)
    return y, np.stack(h_n), np.stack(c_n), tape


def backward(weights, tape, dy, dh_n, dc_n, lengths, act="tanh", bidirectional=False):
    """Through `forward`: dx, dh_0, dc_0 and the gradient of each array of `weights`."""
    directions = 2 if bidirectional else 1
    dh_0, dc_0 = np.zeros_like(dh_n), np.zeros_like(dc_n)
    dweights = [None] * len(weights)
    for first in reversed(range(0, len(weights), directions)):
        dx = 0
        for k, dout in enumerate(np.split(trim(dy, lengths), directions, axis=2), first):
            backwards = k > first
            dsource, dh_0[k], dc_0[k], dweights[k] = direction_backward(
                weights[k],
                act,
                tape[k],
                reverse(dout, lengths) if backwards else dout,
                dh_n[k],
                dc_n[k],
                lengths,
            )
            dx = dx + (reverse(dsource, lengths) if backwards else dsource)
        dy = dx
    return dy, dh_0, dc_0, dweights


CATCHMENT_STORES = {"snow": 0.0, "soil": 100.0, "upper": 0.0, "lower": 20.0}  # mm, before the first day


def snow_catchment(
    precipitation, temperature, degree_day=3.5, capacity=250.0, evaporation=0.25, fast=0.15, percolation=1.2,
    slow=0.02,
):
    """The catchment of ``lstm-ext demo`` as fluxes between stores; returns all of them, day by day."""
    stores = dict(CATCHMENT_STORES)
    record = {name: [] for name in (*stores, "discharge", "evaporation")}

    def move(amount, source, target):
        stores[source] -= amount
        if target is not None:
            stores[target] += amount
        return amount

    for rain, degrees in zip(precipitation, temperature, strict=True):
        frost = degrees < 0
        if frost:
            stores["snow"] += rain
        melt = 0 if frost else move(min(stores["snow"], degree_day * degrees), "snow", None)
        water = melt + (0 if frost else rain)
        recharge = water * (stores["soil"] / capacity) ** 2
        stores["soil"] += water - recharge
        recharge += move(max(stores["soil"] - capacity, 0), "soil", None)
        demand = 0 if frost else evaporation * degrees * min(stores["soil"] / (0.6 * capacity), 1)
        evaporated = move(min(stores["soil"], demand), "soil", None)
        stores["upper"] += recharge
        discharge = move(fast * stores["upper"], "upper", None)
        move(min(stores["upper"], percolation), "upper", "lower")
        discharge += move(slow * stores["lower"], "lower", None)
        for name, value in {**stores, "discharge": discharge, "evaporation": evaporated}.items():
            record[name].append(value)
    return {name: np.array(values) for name, values in record.items()}


# ---- products in bfloat16 (Henry, Tang and Heinecke, 2019, arXiv:1904.06376)

PIECES = {"bfloat16x6": 3, "bfloat16x3": 2, "bfloat16": 1}
# Bounds of the error of one product a b, relative to |a b|: what the pieces leave out of the two factors, and
# the products of pieces that are left out.
PRODUCT_ERROR = {"float32": 2.0**-24, "bfloat16x6": 2.0**-23, "bfloat16x3": 3 * 2.0**-16, "bfloat16": 2.0**-7}


def to_bfloat16(a):
    """Float32 numbers to the nearest with 8 bits of precision (ties to even), as float32."""
    a = np.ascontiguousarray(a, np.float32)
    bits = a.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return np.where(np.isnan(a), a, np.where(np.abs(a) < 2.0**-126, np.copysign(np.float32(0), a), rounded))


def split(a, pieces):
    """Return bfloat16 numbers a0, a1, ... whose sum is a, but for the rest that no more pieces hold."""
    parts, rest = [], np.asarray(a, np.float32)
    for _ in range(pieces):
        parts.append(to_bfloat16(rest))
        with np.errstate(invalid="ignore"):
            rest = rest - parts[-1]
    return parts


def split_product(a, b, pieces):
    """Return a @ b, of the products of pieces a_i b_j with i + j < pieces, small ones first; float64 sums.

    inf and NaN come out as in a @ b: where the small products are NaN, they are those of inf and 0.
    """
    a, b = split(a, pieces), split(b, pieces)
    order = sorted(((i, j) for i in range(pieces) for j in range(pieces - i)), key=sum, reverse=True)
    with np.errstate(invalid="ignore"):
        large = a[0].astype(float) @ b[0].astype(float)
        total = sum(a[i].astype(float) @ b[j].astype(float) for i, j in order)
    return np.where(np.isnan(total), large, total)
