"""The contestants: this package and its peers, each written as its own users would write it well.

Each has `inference(problem)`, `training(problem)` and `step(problem)`. They return `call`, what is
timed, and `read`, which turns the result of `call` into NumPy arrays that can be compared:

    inference   y (N, T, H), h_n (N, H), c_n (N, H)
    training    y (N, T, H), dx (N, T, I), dweight_ih (4H, I), dweight_hh (4H, H), dbias (4H,)
    step        h (N, H) after one step more

or None where the contestant cannot do it. Data stand ready in the order of axes that the contestant
likes best and are never copied by `call`. A peer that is not installed raises ImportError.
"""

# ruff: noqa: D102  (the methods are described here, once)

import timeit

import numpy as np


def steps_first(a):
    return np.ascontiguousarray(np.swapaxes(a, 0, 1))


class Contestant:
    """What all contestants have in common."""

    is_peer = True

    def use(self):
        """Make this contestant's settings those of the process; runs before each sample."""


class Ours(Contestant):
    """lstm_ext, with one of its kernels and a number of threads."""

    name = "lstm_ext"
    is_peer = False

    def __init__(self, threads, kernel=None):
        import lstm_ext

        self.package, self.threads = lstm_ext, threads
        self.version = lstm_ext.__version__
        self.kernel = kernel or lstm_ext._kernels.current()

    def use(self):
        self.package.set_num_threads(self.threads)
        self.package._kernels.select(self.kernel)

    def layer(self, problem, **options):
        self.use()
        lstm = self.package.LSTM(
            problem.input_size, problem.hidden_size, dtype=problem.dtype, rng=0, **options
        )
        for name, value in zip(lstm.named_parameters(), problem.weights, strict=True):
            lstm[name] = value
        return lstm

    def inference(self, problem, **options):
        lstm, x, lengths = self.layer(problem, **options), problem.x, problem.lengths

        def call():
            return lstm(x, lengths=lengths)

        def read(result):
            y, (h_n, c_n) = result
            return y, h_n[0], c_n[0]

        return call, read

    def training(self, problem, **options):
        lstm, x, lengths = self.layer(problem, **options), problem.x, problem.lengths
        dy, tape = problem.dy, lstm.tape()

        def call():
            lstm.gradient[:] = 0
            y, _ = lstm.forward(x, lengths=lengths, tape=tape)
            return y, lstm.backward(tape, dy)[0]

        def read(result):
            return *result, *lstm.named_gradients().values()

        return call, read

    def inference_only(self, problem, **options):
        """As inference, of a layer with options, whose results are its own."""
        self.use()
        lstm = self.package.LSTM(
            problem.input_size, problem.hidden_size, dtype=problem.dtype, rng=0, **options
        )
        return lambda: lstm(problem.x), lambda result: ()

    def training_only(self, problem, **options):
        """As training, of a layer with options."""
        self.use()
        lstm = self.package.LSTM(
            problem.input_size, problem.hidden_size, dtype=problem.dtype, rng=0, **options
        )
        shape = (problem.batch, problem.time, lstm.output_size)
        tape, dy = lstm.tape(), np.resize(problem.dy, shape)

        def call():
            lstm.gradient[:] = 0
            y, _ = lstm.forward(problem.x, tape=tape)
            return y, lstm.backward(tape, dy)[0]

        return call, lambda result: ()

    def model(self, problem):
        """Return a model with one output a step, its targets, and a direction."""
        self.use()
        lstm = self.package.LSTM(problem.input_size, problem.hidden_size, dtype=problem.dtype, rng=0)
        model = self.package.Model(lstm, 1, every_step=True, rng=0)
        v = np.random.default_rng(0).normal(size=model.parameters.size).astype(problem.dtype)
        return model, problem.dy[..., :1].copy(), v

    def gradient(self, problem):
        """Loss and gradient by all parameters."""
        model, y, _ = self.model(problem)
        return lambda: model.loss_and_gradient(problem.x, y), lambda result: ()

    def hvp(self, problem):
        """Multiply the Hessian of the same loss by a vector."""
        model, y, v = self.model(problem)
        return lambda: model.hvp(problem.x, y, v), lambda result: ()

    def step(self, problem):
        stream, x_t = self.layer(problem).stream(batch=problem.batch), problem.x[:, 0].copy()
        h_t = np.empty((problem.batch, problem.hidden_size), problem.dtype)

        def call():
            return stream.step(x_t, out=h_t)

        return call, np.array


class Torch(Contestant):
    """torch.nn.LSTM and LSTMCell."""

    name = "torch"

    def __init__(self, threads):
        import torch

        self.torch = torch
        self.version = torch.__version__
        torch.set_num_threads(threads)

    def layer(self, problem, kind="LSTM"):
        """Return the layer, with the problem's weights."""
        torch = self.torch
        lstm = getattr(torch.nn, kind)(
            problem.input_size, problem.hidden_size, dtype=getattr(torch, problem.dtype)
        )
        weight_ih, weight_hh, bias = map(torch.from_numpy, problem.weights)
        with torch.no_grad():
            values = weight_ih, weight_hh, bias, torch.zeros_like(bias)
            for parameter, value in zip(lstm.parameters(), values, strict=True):
                parameter.copy_(value)
        return lstm

    def _run(self, problem, lstm, x):
        if problem.lengths is None:
            return lambda: lstm(x)
        rnn = self.torch.nn.utils.rnn
        lengths = self.torch.from_numpy(problem.lengths)

        def run():
            packed = rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            y, state = lstm(packed)
            return rnn.pad_packed_sequence(y)[0], state

        return run

    def _in_precision(self, precision, lstm, *arrays):
        """Return lstm and arrays as tensors, and a context to run them in.

        `precision`: "float32"; "autocast" to bfloat16, of float32 tensors; "module", all of it in bfloat16.
        """
        torch = self.torch
        tensors = [torch.from_numpy(steps_first(a)) for a in arrays]
        if precision == "module":
            lstm, tensors = lstm.to(torch.bfloat16), [a.to(torch.bfloat16) for a in tensors]
        enabled = precision == "autocast"
        return lstm, tensors, lambda: torch.autocast("cpu", torch.bfloat16, enabled=enabled)

    def inference(self, problem, precision="float32"):
        torch = self.torch
        lstm, (x,), context = self._in_precision(precision, self.layer(problem).eval(), problem.x)
        run = self._run(problem, lstm, x)

        def call():
            if precision == "float32":
                with torch.inference_mode():
                    return run()
            with torch.inference_mode(), context():
                return run()

        def read(result):
            y, (h_n, c_n) = result
            y, h_n, c_n = (a if a.dtype == torch.float64 else a.float() for a in (y, h_n, c_n))
            return y.swapaxes(0, 1).numpy(), h_n[0].numpy(), c_n[0].numpy()

        return call, read

    def training(self, problem, precision="float32"):
        torch = self.torch
        lstm, (x, dy), context = self._in_precision(precision, self.layer(problem), problem.x, problem.dy)
        x.requires_grad_()
        run = self._run(problem, lstm, x)
        inputs = [x, *lstm.parameters()]

        def call():
            if precision == "float32":
                y = run()[0]
            else:
                with context():
                    y = run()[0]
            return y, torch.autograd.grad(y, inputs, dy.to(y.dtype))

        def read(result):
            y, (dx, *dweights, _) = result
            arrays = y.detach().swapaxes(0, 1), dx.swapaxes(0, 1), *dweights
            return tuple((a if a.dtype == torch.float64 else a.float()).numpy() for a in arrays)

        return call, read

    def _loss(self, problem):
        torch, lstm = self.torch, self.layer(problem)
        readout = torch.nn.Linear(problem.hidden_size, 1, dtype=getattr(torch, problem.dtype))
        x = torch.from_numpy(steps_first(problem.x))
        y = torch.from_numpy(steps_first(problem.dy[..., :1]))
        parameters = [*lstm.parameters(), *readout.parameters()]
        return lambda: torch.nn.functional.mse_loss(readout(lstm(x)[0]), y), parameters

    def gradient(self, problem):
        """Loss and gradient by all parameters."""
        loss, parameters = self._loss(problem)
        return lambda: self.torch.autograd.grad(loss(), parameters), lambda result: ()

    def hvp(self, problem):
        """Multiply the Hessian of the same loss by a vector, by double backward."""
        torch = self.torch
        loss, parameters = self._loss(problem)
        v = [torch.randn_like(p) for p in parameters]

        def call():
            gradients = torch.autograd.grad(loss(), parameters, create_graph=True)
            return torch.autograd.grad(gradients, parameters, v)

        return call, lambda result: ()

    def step(self, problem):
        torch, cell = self.torch, self.layer(problem, "LSTMCell").eval()
        x_t = torch.from_numpy(problem.x[:, 0].copy())
        state = [torch.zeros(problem.batch, problem.hidden_size, dtype=x_t.dtype)] * 2

        def call():
            nonlocal state
            with torch.inference_mode():
                state = cell(x_t, state)
            return state[0]

        return call, lambda h: h.numpy().copy()


class OnnxRuntime(Contestant):
    """A model of one LSTM node, run by onnxruntime."""

    name = "onnxruntime"

    def __init__(self, threads):
        import onnx
        import onnxruntime

        self.onnx, self.ort, self.threads = onnx, onnxruntime, threads
        self.version = onnxruntime.__version__

    def session(self, problem, *, state=False, lengths=False):
        """Load a model of one LSTM node: gate order i, o, f, c; two biases; axes (T, N, I)."""
        units, helper = problem.hidden_size, self.onnx.helper
        order = np.r_[0:units, 3 * units : 4 * units, units : 3 * units]
        weight_ih, weight_hh, bias = (a[order] for a in problem.weights)
        values = {"W": weight_ih, "R": weight_hh, "B": np.concatenate([bias, 0 * bias])}
        real = helper.np_dtype_to_tensor_dtype(np.dtype(problem.dtype))
        shape = (1, problem.batch, units)
        inputs = {"X": (real, (problem.time, problem.batch, problem.input_size))}
        if lengths:
            inputs["sequence_lens"] = (self.onnx.TensorProto.INT32, (problem.batch,))
        if state:
            inputs |= {"initial_h": (real, shape), "initial_c": (real, shape)}
        names = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c"]
        node = helper.make_node(
            "LSTM",
            [name if name in inputs or name in values else "" for name in names],
            ["Y", "Y_h", "Y_c"],
            hidden_size=units,
        )
        graph = helper.make_graph(
            [node],
            "lstm",
            [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
            [
                helper.make_tensor_value_info("Y", real, (problem.time, *shape)),
                helper.make_tensor_value_info("Y_h", real, shape),
                helper.make_tensor_value_info("Y_c", real, shape),
            ],
            [self.onnx.numpy_helper.from_array(v[None], name) for name, v in values.items()],
        )
        opsets = [helper.make_opsetid("", 14)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        self.onnx.checker.check_model(model)
        options = self.ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        return self.ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def inference(self, problem):
        if problem.dtype != "float32":
            return None  # its LSTM has no float64
        ragged = problem.lengths is not None
        run = self.session(problem, lengths=ragged).run
        feed = {"X": steps_first(problem.x)}
        if ragged:
            feed["sequence_lens"] = problem.lengths.astype(np.int32)

        def call():
            return run(None, feed)

        def read(result):
            y, h_n, c_n = result
            return y[:, 0].swapaxes(0, 1), h_n[0], c_n[0]

        return call, read

    def training(self, problem):
        return None

    def step(self, problem):
        if problem.dtype != "float32":
            return None
        run = self.session(problem, state=True).run
        zeros = np.zeros((1, problem.batch, problem.hidden_size), problem.dtype)
        feed = {"X": steps_first(problem.x[:, :1]), "initial_h": zeros, "initial_c": zeros}
        wanted = ["Y_h", "Y_c"]

        def call():
            feed["initial_h"], feed["initial_c"] = run(wanted, feed)
            return feed["initial_h"]

        return call, lambda h: h[0].copy()


class Jax(Contestant):
    """jax.jit of a lax.scan; of two ways to write it, whichever is faster at the problem.

    joined: one product [x_t, h] [W | U]^T in each step
    split:  the product of x for all steps before the loop (slow in XLA for larger batches)
    """

    name = "jax"

    def __init__(self, threads):
        # XLA takes its number of threads from the environment, before it is imported: __main__.py.
        import jax

        jax.config.update("jax_enable_x64", True)  # the arrays below carry their dtypes
        self.jax, self.version = jax, jax.__version__

    def _cell(self, pre, c):
        jax = self.jax
        sigmoid, tanh = jax.nn.sigmoid, jax.numpy.tanh
        i, f, g, o = jax.numpy.split(pre, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c

    def _layer(self, way, alive=None):
        """Return f(weights, x (T, N, I)) -> y, (h_n, c_n).

        alive (T, N, 1) is true where a sequence still runs.
        """
        jnp = self.jax.numpy

        def layer(weights, x):
            weight_ih, weight_hh, bias = weights
            if way == "joined":
                weight, each = jnp.concatenate([weight_ih, weight_hh], axis=1).T, x
            else:
                each = x @ weight_ih.T + bias

            def new_state(x_t, h, c):
                if way == "joined":
                    return self._cell(jnp.concatenate([x_t, h], axis=-1) @ weight + bias, c)
                return self._cell(x_t + h @ weight_hh.T, c)

            def step(state, x_t):
                state = new_state(x_t, *state)
                return state, state[0]

            def masked_step(state, x_t_and_alive):
                x_t, alive_t = x_t_and_alive
                new = new_state(x_t, *state)
                state = tuple(jnp.where(alive_t, n, old) for n, old in zip(new, state, strict=True))
                return state, jnp.where(alive_t, state[0], 0)

            zeros = jnp.zeros((x.shape[1], weight_hh.shape[1]), x.dtype)
            if alive is None:
                state, y = self.jax.lax.scan(step, (zeros, zeros), each)
            else:
                state, y = self.jax.lax.scan(masked_step, (zeros, zeros), (each, alive))
            return y, state

        return layer

    def _fastest(self, problem, make):
        """Return the faster way's call; make(layer) gives a compiled function of (weights, x)."""
        jnp = self.jax.numpy
        weights = tuple(map(jnp.asarray, problem.weights))
        x = jnp.asarray(steps_first(problem.x))
        alive = None if problem.lengths is None else jnp.asarray(steps_first(problem.mask) != 0)

        def timed(way):
            run = make(self._layer(way, alive))

            def call():
                return self.jax.block_until_ready(run(weights, x))

            call()
            return min(timeit.repeat(call, number=1, repeat=3)), call

        return min((timed(way) for way in ("joined", "split")), key=lambda pair: pair[0])[1]

    def inference(self, problem):
        def read(result):
            y, (h_n, c_n) = result
            return np.swapaxes(y, 0, 1), np.asarray(h_n), np.asarray(c_n)

        return self._fastest(problem, self.jax.jit), read

    def training(self, problem):
        dy = self.jax.numpy.asarray(steps_first(problem.dy))

        def make(layer):
            @self.jax.jit
            def run(weights, x, dy):
                y, pull_back = self.jax.vjp(lambda *args: layer(*args)[0], weights, x)
                return y, pull_back(dy)

            return lambda weights, x: run(weights, x, dy)

        def read(result):
            y, (dweights, dx) = result
            return np.swapaxes(y, 0, 1), np.swapaxes(dx, 0, 1), *map(np.asarray, dweights)

        return self._fastest(problem, make), read

    def step(self, problem):
        jnp = self.jax.numpy
        weight_ih, weight_hh, bias = map(jnp.asarray, problem.weights)
        weight = jnp.concatenate([weight_ih, weight_hh], axis=1).T
        x_t = jnp.asarray(problem.x[:, 0])

        @self.jax.jit
        def run(x_t, h, c):
            return self._cell(jnp.concatenate([x_t, h], axis=-1) @ weight + bias, c)

        zeros = jnp.zeros((problem.batch, problem.hidden_size), problem.dtype)
        state = zeros, zeros

        def call():
            nonlocal state
            state = self.jax.block_until_ready(run(x_t, *state))
            return state[0]

        return call, np.array


PEERS = {peer.name: peer for peer in (Torch, OnnxRuntime, Jax)}
