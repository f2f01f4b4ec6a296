"""What is asked of every LSTM, whatever its options: the checks that the tests of options share."""

import numpy as np
import reference_options
from harness import TOLERANCE, assert_close

from lstm_ext import LSTM, _kernels, get_num_threads, set_num_threads

F, H, S = 3, 5, 2


class Problem:
    """One LSTM with options and everything that one call takes; the sequence axis first where it can be."""

    def __init__(self, options, *, N=4, T=5, which=None, seed=None, dtype="float64", state=True, draw=0):
        rng = np.random.default_rng(draw)
        self.rng = rng
        self.lstm = LSTM(F, H, dtype=dtype, rng=rng, **options)
        self.lstm.parameters = single(rng.normal(size=self.lstm.parameters.size)) * 0.5
        self.N, self.T, self.seed = N, T, seed
        self.arrays = {"x": single(rng.normal(size=(N, T, F)))}
        layers, P = len(self.lstm._passes.suffixes), self.lstm.proj_size or H
        if state:
            self.arrays |= {"h_0": single(rng.normal(size=(layers, N, P))) * 0.5,
                            "c_0": single(rng.normal(size=(layers, N, H)))}
        if self.lstm.static_size:
            self.arrays["static"] = single(rng.normal(size=(N, S)))
        self.counted, self.words = np.ones((N, T), bool), {}
        if which == "lengths":
            lengths = rng.integers(0, T + 1, N)
            lengths[: min(N, 2)] = (T, 0)[: min(N, 2)]
            self.counted, self.words = np.arange(T) < lengths[:, None], {"lengths": lengths}
        if which == "mask":
            self.counted = rng.random((N, T)) < 0.6
            self.words = {"mask": self.counted}
        self.layers, self.P = layers, P

    # calls of the compiled layer, on arrays as above

    def turn(self, a):
        return a if a is None or self.lstm.batch_first else np.ascontiguousarray(a.swapaxes(0, 1))

    def call(self, function, arrays, *more, **words):
        """`function(x, *more, state=, static=)` with these arrays."""
        state = (arrays["h_0"], arrays["c_0"]) if "h_0" in arrays else None
        if "static" in arrays:
            words["static"] = arrays["static"]
        return function(self.turn(arrays["x"]), *more, state=state, **self.words, **words)

    def forward(self, arrays=None, tape=None, **words):
        return self.call(self.lstm.forward, arrays or self.arrays, tape=tape, seed=self.seed, **words)

    def upstream(self):
        rng = np.random.default_rng(99)
        y = rng.normal(size=(self.N, self.T, self.lstm.output_size))
        return y, rng.normal(size=(self.layers, self.N, self.P)), rng.normal(size=(self.layers, self.N, H))

    def backward(self, arrays=None):
        """The gradient of <y, dy> + <h_n, dh> + <c_n, dc> with respect to each array, and the parameters."""
        tape = self.lstm.tape()
        self.forward(arrays, tape)
        self.lstm.gradient = 0
        dy, dh, dc = self.upstream()
        dx, (dh_0, dc_0), *dstatic = self.lstm.backward(tape, self.turn(dy), (dh, dc))
        found = {"x": self.turn(dx), "parameters": self.lstm.gradient.copy()}
        if "h_0" in self.arrays:
            found |= {"h_0": dh_0, "c_0": dc_0}
        if dstatic:
            found["static"] = dstatic[0]
        return found

    def direction(self, rng):
        found = {name: rng.normal(size=a.shape) for name, a in self.arrays.items()}
        return {**found, "parameters": rng.normal(size=self.lstm.parameters.size)}

    def tangent(self, v, tape=None):
        """(y, h_n, c_n) and their derivatives along v."""
        dot = {"dx": self.turn(v["x"]), "dparameters": v["parameters"]}
        if "h_0" in v:
            dot["dstate"] = (v["h_0"], v["c_0"])
        if "static" in v:
            dot["dstatic"] = v["static"]
        (y, (h, c)), (y_dot, (h_dot, c_dot)) = self.call(
            self.lstm.jvp, self.arrays, tape=tape, seed=self.seed, **dot
        )
        return (self.turn(y), h, c), (self.turn(y_dot), h_dot, c_dot)

    # the same in NumPy

    def reference(self, arrays=None, parameters=None):
        arrays = arrays or self.arrays
        values = self.lstm.parameters.astype(np.float64) if parameters is None else parameters
        return reference_options.family(
            self.lstm, self.lstm._views(values), arrays["x"], arrays.get("h_0"), arrays.get("c_0"),
            self.counted, arrays.get("static"), self.seed,
        )

    def reference_tangent(self, v, e=1e-150):
        """(y, h_n, c_n)'s derivative along v, by a complex step."""
        arrays = {name: a + 1j * e * v[name] for name, a in self.arrays.items()}
        results = self.reference(arrays, self.lstm.parameters + 1j * e * v["parameters"])
        return [a.imag / e for a in results[:3]]


def assert_same(a, b):
    """Bit for bit, but on the kernel made of BLAS, whose bits depend on the number of rows."""
    if _kernels.current() == "blas":
        assert_close(a, b, TOLERANCE[a.dtype.name])
    else:
        np.testing.assert_array_equal(a, b)


def single(a):
    """Numbers that float32 can hold, too."""
    return a.astype("float32").astype("float64")


def dot(a, b):
    return sum(np.vdot(p, q) for p, q in zip(a, b, strict=True))


def check_values(p):
    """The results, and the gates, are the reference's."""
    tolerance = TOLERANCE[p.lstm.dtype.name]
    y, (h, c), gates = p.forward(return_gates=True)
    expected = p.reference()
    for name, found, value in zip(("y", "h_n", "c_n"), (p.turn(y), h, c), expected[:3], strict=True):
        assert_close(found, value, tolerance, name)
    for name, value in expected[3].items():
        assert_close(gates[name], value, tolerance, f"gate {name}")
    recorded = p.forward(tape=p.lstm.tape())[0]
    assert_close(recorded, y, tolerance, "y without gates")  # the default cell has an engine of its own
    if p.seed is None:
        assert_same(recorded, p.call(p.lstm, p.arrays)[0])


def check_derivatives(p):
    """jvp and backward against the complex step; backward_jvp against differences of backward."""
    gradient = p.backward()
    upstream = p.upstream()
    rng = np.random.default_rng(7)
    scale = np.sqrt(sum(np.vdot(g, g) for g in gradient.values())) + 1
    for _ in range(2):
        v = p.direction(rng)
        expected = p.reference_tangent(v)
        _, found = p.tangent(v)
        size = max(np.abs(a).max(initial=0) for a in expected) + 1
        for name, a, b in zip(("y", "h_n", "c_n"), found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * size, err_msg=f"{name}_dot")
        length = np.sqrt(sum(np.vdot(a, a) for a in v.values()))
        adjoint = sum(np.vdot(gradient[name], v[name]) for name in v)
        assert abs(adjoint - dot(upstream, expected)) < 1e-11 * scale * length
        assert abs(adjoint - dot(upstream, found)) < 1e-10 * scale * length


def check_differences(p):
    """Central differences of the compiled forward pass alone, along one direction."""
    gradient, v, upstream, e = p.backward(), p.direction(np.random.default_rng(8)), p.upstream(), 1e-6
    values, parameters = [], p.lstm.parameters.copy()
    for sign in (1, -1):
        p.lstm.parameters = parameters + sign * e * v["parameters"]
        y, (h, c) = p.forward({name: a + sign * e * v[name] for name, a in p.arrays.items()})
        values.append(dot(upstream, (p.turn(y), h, c)))
    p.lstm.parameters = parameters
    expected = sum(np.vdot(gradient[name], v[name]) for name in v)
    scale = np.sqrt(sum(np.vdot(g, g) for g in gradient.values())) + 1
    assert abs((values[0] - values[1]) / (2 * e) - expected) < 1e-7 * scale * np.sqrt(p.lstm.parameters.size)


def check_second(p):
    """backward_jvp: gradients as backward has them, tangents as differences of gradients."""
    v, tape = p.direction(np.random.default_rng(9)), p.lstm.tape()
    dy, dh, dc = p.upstream()
    plain = p.backward()
    p.tangent(v, tape)
    p.lstm.gradient = 3
    # a loss whose gradient depends on the results: its tangent comes along
    found = p.lstm.backward_jvp(tape, p.turn(dy), None, (dh, dc), None)
    assert (p.lstm.gradient == 3).all()
    tolerance = 1e-12 * (1 + np.abs(plain["x"]).max(initial=0))
    np.testing.assert_allclose(p.turn(found["dx"]), plain["x"], rtol=0, atol=tolerance)
    mine = {"x": p.turn(found["dx_dot"]), "parameters": found["gradient_dot"]}
    if "h_0" in p.arrays:
        mine |= dict(zip(("h_0", "c_0"), found["dstate_dot"], strict=True))
    if "static" in p.arrays:
        mine["static"] = found["dstatic_dot"]
    for e, tolerance in ((1e-5, 2e-7), (1e-7, 2e-5)):  # the long step may lead over a kink
        expected, worst = gradient_differences(p, v, e), 0
        for name, value in mine.items():
            error = np.abs(value - expected[name]).max(initial=0)
            worst = max(worst, error / (1 + np.abs(expected[name]).max(initial=0)))
        if worst < tolerance:
            return
    raise AssertionError(f"backward_jvp is off by {worst} of the largest difference")


def gradient_differences(p, v, e):
    """Derivatives of `backward` along v: central differences, and their error by that of twice the step."""
    parameters, found = p.lstm.parameters.copy(), []
    for step in (e, 2 * e):
        moved = []
        for sign in (1, -1):
            p.lstm.parameters = parameters + sign * step * v["parameters"]
            moved.append(p.backward({name: a + sign * step * v[name] for name, a in p.arrays.items()}))
        found.append({name: (moved[0][name] - moved[1][name]) / (2 * step) for name in moved[0]})
    p.lstm.parameters = parameters
    return {name: (4 * a - found[1][name]) / 3 for name, a in found[0].items()}


def check_stream(p):
    """Step by step is the sequence, bit for bit."""
    if p.lstm.bidirectional or p.lstm.reverse or not p.lstm.batch_first:
        return
    words = {"static": p.arrays["static"]} if p.lstm.static_size else {}
    state = (p.arrays["h_0"], p.arrays["c_0"]) if "h_0" in p.arrays else None
    y, (h, c) = p.lstm(p.arrays["x"], state, **words)
    stream = p.lstm.stream(p.N, **words)
    if state is not None:
        stream.state = state
    for t in range(p.T):
        assert_same(stream.step(p.arrays["x"][:, t]), y[:, t])
    if p.T:
        assert_same(stream.state[0], h)
        assert_same(stream.state[1], c)


def check_bits(p):
    """Any number of threads, and checkpoints, give the same bits."""
    expected, threads = p.backward(), get_num_threads()
    try:
        for n in (1, 2, 4):
            set_num_threads(n)
            for name, value in p.backward().items():
                np.testing.assert_array_equal(value, expected[name], err_msg=f"{name}, {n} threads")
    finally:
        set_num_threads(threads)


def check_metamorphic(p):
    """Order of the batch, split in time, padding and masks: relations between runs of the compiled code."""
    y, (h, c) = p.forward()
    y = p.turn(y)
    assert not y[~p.counted].any()
    if p.seed is None:
        order = p.rng.permutation(p.N)
        moved = {
            name: a[:, order] if name in ("h_0", "c_0") else a[order] for name, a in p.arrays.items()
        }
        words, p.words = p.words, {k: v[order] for k, v in p.words.items()}
        y_moved, (h_moved, _) = p.forward(moved)
        p.words = words
        assert_same(p.turn(y_moved), y[order])
        assert_same(h_moved, h[:, order])
    # a mask is the removal of steps: each sequence alone, without them
    if p.seed is None and p.words:
        words, p.words = p.words, {}
        for n in range(p.N):
            alone = {
                name: a[:, n : n + 1] if name in ("h_0", "c_0") else a[n : n + 1]
                for name, a in p.arrays.items()
            }
            alone["x"] = alone["x"][:, p.counted[n]]
            y_alone, (h_alone, c_alone) = p.forward(alone)
            assert_same(p.turn(y_alone)[0], y[n, p.counted[n]])
            assert_same(h_alone[:, 0], h[:, n])
            assert_same(c_alone[:, 0], c[:, n])
        p.words = words
    # a split in time, the state carried on
    if p.seed is None and not (p.lstm.bidirectional or p.lstm.reverse or p.words) and p.T > 1:
        first, second = dict(p.arrays), dict(p.arrays)
        first["x"], second["x"] = p.arrays["x"][:, :2], p.arrays["x"][:, 2:]
        y_first, (second["h_0"], second["c_0"]) = p.forward(first)
        y_second, (h_second, _) = p.forward(second)
        assert_same(np.concatenate([p.turn(y_first), p.turn(y_second)], axis=1), y)
        assert_same(h_second, h)


def check_all(p):
    check_values(p)
    if p.lstm.dtype == np.float64:
        check_derivatives(p)
        check_differences(p)
        check_second(p)
    check_stream(p)
    check_bits(p)
    check_metamorphic(p)
