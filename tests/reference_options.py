"""The LSTM family in readable NumPy: every option of `LSTM`, forward, one sequence and one step at a time.

Sources of the equations stand with each option in ``docs/options.md``. For one step, with p peepholes, LN
layer normalisation, z zoneout's proportions or masks, s the static inputs::

    pre = LN(W x) + LN(U (m * h_prev)) + b + V s
    i   = sigma(clip(pre_i + p_i c_prev))        f = sigma(clip(pre_f + p_f c_prev))    or 1 - i
    g   = tau(clip(pre_g))                       k = clip(f c_prev + i g)
    o   = sigma(clip(pre_o + p_o k))             h = R (o act(LN(k)))
    c   = k + z_c (c_prev - k)                   h = h + z_h (h_prev - h)    z a mask: the one or the other

All of it is analytic but for kinks, so complex numbers run through it, and Im f(x + i e v) / e is the exact
derivative along v (W. Squire and G. Trapp, "Using complex variables to estimate derivatives of real
functions", SIAM Review 40:110, 1998): the derivative that the compiled code is held against.
"""

import numpy as np
from scipy.special import erf

KINDS = {"dropout": 0, "recurrent_dropout": 1, "zone_c": 2, "zone_h": 3, "weight_dropout": 4}


def sigmoid(x):
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def between(x, low, high):
    """x within low and high, by its real part."""
    x = np.where(x.real < low, low, x)
    return np.where(x.real > high, high, x)


def positive(x):
    return x.real > 0


def absolute(x):
    return np.where(positive(x), x, -x)


# name: function of x, alpha, beta; and the defaults of alpha, beta. Equations: ONNX's operators and Keras's
# activations of these names.
ACTIVATIONS = {
    "sigmoid": (lambda x, a, b: sigmoid(x),),
    "tanh": (lambda x, a, b: np.tanh(x),),
    "identity": (lambda x, a, b: x,),
    "linear": (lambda x, a, b: x,),
    "affine": (lambda x, a, b: a * x + b, 1, 0),
    "scaled_tanh": (lambda x, a, b: a * np.tanh(b * x), 1, 1),
    "hard_sigmoid": (lambda x, a, b: between(a * x + b, 0, 1), 0.2, 0.5),
    "relu": (lambda x, a, b: np.where(positive(x), x, 0),),
    "relu6": (lambda x, a, b: between(x, 0, 6),),
    "hard_tanh": (lambda x, a, b: between(x, -1, 1),),
    "leaky_relu": (lambda x, a, b: np.where(positive(x), x, a * x), 0.01),
    "thresholded_relu": (lambda x, a, b: np.where(x.real > a, x, 0), 1),
    "elu": (lambda x, a, b: np.where(positive(x), x, a * (np.exp(x) - 1)), 1),
    "selu": (
        lambda x, a, b: 1.0507009873554805 * np.where(positive(x), x, 1.6732632423543772 * (np.exp(x) - 1)),
    ),
    "softsign": (lambda x, a, b: x / (1 + absolute(x)),),
    "softplus": (lambda x, a, b: np.log(1 + np.exp(x)),),
    "exponential": (lambda x, a, b: np.exp(x),),
    "silu": (lambda x, a, b: x * sigmoid(x),),
    "swish": (lambda x, a, b: x * sigmoid(x),),
    "gelu": (lambda x, a, b: x * (1 + erf(x / np.sqrt(2))) / 2,),
    "mish": (lambda x, a, b: x * np.tanh(np.log(1 + np.exp(x))),),
    "hard_silu": (lambda x, a, b: x * between(x / 6 + 0.5, 0, 1),),
}


def activate(given, x):
    """Apply `given`: a name, or (name, alpha, beta), of which the numbers may be left out."""
    name, *numbers = given if isinstance(given, tuple) else (given,)
    function, *defaults = ACTIVATIONS[name]
    numbers = [*numbers, *defaults[len(numbers) :], None, None]
    return function(np.asarray(x), *numbers[:2])


def philox(counter, key):
    """Philox4x32-10 of Salmon, Moraes, Dror and Shaw (2011): four words of 32 bits."""
    c, k, mask = [int(word) for word in counter], [key & 0xFFFFFFFF, key >> 32], 0xFFFFFFFF
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & mask, (a >> 32) ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c


def drawn(seed, kind, stream, n, t, width, probability):
    """Which of `width` units are dropped for sequence n at step t: booleans."""
    words = [
        word for block in range(-(-width // 4))
        for word in philox((block, t, n, (KINDS[kind] << 24) | stream), seed)
    ]
    return np.array(words[:width]) < int(probability * 2**32)


def normalise(x, epsilon=1e-5):
    """(x - mean) / sqrt(variance + epsilon), over the last axis."""
    d = x - x.mean(axis=-1, keepdims=True)
    return d / np.sqrt((d**2).mean(axis=-1, keepdims=True) + epsilon)


def zoned(new, old, zone):
    """What zoneout makes of a state: a mask selects, proportions mix."""
    if np.asarray(zone).dtype == bool:
        return np.where(zone, old, new)
    return new + zone * (old - new)


def step(lstm, w, x_t, h_prev, c_prev, static, entity_aware, dropped_h, zone_h, zone_c):
    """One step of one sequence: h, c and (i, f, g, o). `w`: the arrays of this layer by word."""
    H = lstm.hidden_size
    pre_x, pre_h = w["weight_ih"] @ x_t, w["weight_hh"] @ (h_prev * dropped_h)
    if lstm.layer_norm:
        pre_x, pre_h = w["norm_ih"] * normalise(pre_x), w["norm_hh"] * normalise(pre_h)
    pre_i, pre_f, pre_g, pre_o = (pre_x + pre_h).reshape(4, H)
    if entity_aware:
        pre_i = 0
    if lstm.bias:
        b_i, b_f, b_g, b_o = w["bias"].reshape(4, H)
        pre_i, pre_f, pre_g, pre_o = pre_i + b_i, pre_f + b_f, pre_g + b_g, pre_o + b_o
    if static is not None:
        more = w["weight_static"] @ static
        if entity_aware:
            pre_i = pre_i + more
        else:
            v_i, v_f, v_g, v_o = more.reshape(4, H)
            pre_i, pre_f, pre_g, pre_o = pre_i + v_i, pre_f + v_f, pre_g + v_g, pre_o + v_o
    p_i, p_f, p_o = w["peephole"].reshape(3, H) if lstm.peepholes else (0, 0, 0)
    gate, candidate, output = lstm.activations

    def clip(z):
        return z if lstm.gate_clip is None else between(z, -lstm.gate_clip, lstm.gate_clip)

    i = activate(gate, clip(pre_i + p_i * c_prev))
    f = 1 - i if lstm.coupled_gates else activate(gate, clip(pre_f + p_f * c_prev))
    g = activate(candidate, clip(pre_g))
    k = f * c_prev + i * g
    if lstm.cell_clip is not None:
        k = between(k, -lstm.cell_clip, lstm.cell_clip)
    o = activate(gate, clip(pre_o + p_o * k))
    u = w["norm_c"] * normalise(k) + w["norm_c_bias"] if lstm.layer_norm else k
    h = o * activate(output, u)
    if lstm.proj_size:
        h = w["weight_hr"] @ h
    return zoned(h, h_prev, zone_h), zoned(k, c_prev, zone_c), (i, f, g, o)


def family(lstm, parameters, x, h_0=None, c_0=None, counted=None, static=None, seed=None):
    """Run all layers: y, h_n, c_n and the gates {"i": (L*D, N, T, H), ...}.

    `lstm`: whose options these are; `parameters`: arrays by name; x (N, T, I), batch first; counted (N, T):
    which steps count, None for all.
    """
    N, T, _ = x.shape
    H, P = lstm.hidden_size, lstm.proj_size or lstm.hidden_size
    D = 2 if lstm.bidirectional else 1
    dtype = np.result_type(x, *parameters.values(), *(a for a in (h_0, c_0, static) if a is not None))
    counted = np.ones((N, T), bool) if counted is None else counted
    h_n, c_n = np.zeros((lstm.num_layers * D, N, P), dtype), np.zeros((lstm.num_layers * D, N, H), dtype)
    gates = {name: np.zeros((lstm.num_layers * D, N, T, H), dtype) for name in "ifgoc"}
    for layer in range(lstm.num_layers):
        y = np.zeros((N, T, D * P), dtype)
        for direction in range(D):
            stream = layer * D + direction
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            w = {k.removesuffix(suffix): v for k, v in parameters.items() if k.endswith(suffix)}
            if seed is not None and lstm.weight_dropout:
                p = lstm.weight_dropout
                dropped = np.array([
                    drawn(seed, "weight_dropout", stream, row, 0, P, p) for row in range(4 * H)
                ])
                w["weight_hh"] = np.where(dropped, 0, w["weight_hh"] / (1 - p))
            for n in range(N):
                h, c = np.zeros(P, dtype), np.zeros(H, dtype)
                if h_0 is not None:
                    h, c = h_0[stream, n], c_0[stream, n]
                elif lstm.learn_state:
                    h, c = w["h_0"], w["c_0"]
                dropped_h = 1
                if seed is not None and lstm.recurrent_dropout:
                    p = lstm.recurrent_dropout
                    dropped_h = np.where(drawn(seed, "recurrent_dropout", stream, n, 0, P, p), 0, 1 / (1 - p))
                times = np.flatnonzero(counted[n])
                for t in times[::-1] if direction or lstm.reverse else times:
                    zone_h, zone_c = lstm.zoneout
                    if seed is not None:
                        zone_h = drawn(seed, "zone_h", stream, n, t, H, zone_h) if zone_h else 0
                        zone_c = drawn(seed, "zone_c", stream, n, t, H, zone_c) if zone_c else 0
                    own = static[n] if static is not None and layer == 0 else None
                    h, c, values = step(
                        lstm, w, x[n, t], h, c, own, lstm.entity_aware and layer == 0, dropped_h, zone_h,
                        zone_c,
                    )
                    y[n, t, direction * P : (direction + 1) * P] = h
                    for name, value in zip("ifgoc", (*values, c), strict=True):
                        gates[name][stream, n, t] = value
                h_n[stream, n], c_n[stream, n] = h, c
        x = y
        if seed is not None and lstm.dropout and layer < lstm.num_layers - 1:
            p = lstm.dropout
            x = np.array([
                [np.where(drawn(seed, "dropout", layer, n, t, D * P, p), 0, y[n, t] / (1 - p))
                 for t in range(T)] for n in range(N)
            ]).reshape(y.shape)
    return y, h_n, c_n, gates
