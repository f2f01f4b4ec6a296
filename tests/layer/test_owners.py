"""One thread at a time: what compiled code writes to belongs to one call, and a second gets a RuntimeError.

Every answer is right or refused, none is wrong, and the last one, when all is quiet, is right.
"""

import gc
import threading
import time

import numpy as np
import pytest

import lstm_ext
from lstm_ext import (
    LSTM,
    SGD,
    Adam,
    LstmNetwork,
    LstmNode,
    LstmParam,
    LstmState,
    Model,
    RMSprop,
    ToyLossLayer,
    _kernels,
    losses,
)
from lstm_ext._arrays import Lock, Owner

LAYERS = {
    "default": {},
    "stack": {"num_layers": 2, "bidirectional": True},
    "checkpoint": {"checkpoint": 3},
    "peepholes": {"peepholes": True},
    "projection": {"proj_size": 5, "num_layers": 2},
    "hold": {"nan": "hold", "nan_mask": True},
}
IN_USE = "is in use by another thread"


@pytest.fixture(autouse=True)
def _one_thread():
    before = lstm_ext.get_num_threads()
    lstm_ext.set_num_threads(1)
    yield
    lstm_ext.set_num_threads(before)


def hammer(works, seconds=1.0):
    """Run each of `works` again and again in its own thread; count calls that passed and calls refused."""
    passed, refused, failures = [0] * len(works), [0] * len(works), []
    start, begin = threading.Barrier(len(works)), time.monotonic()

    def enough():
        # Longer, if nobody has met anybody yet.
        return time.monotonic() - begin > (seconds if any(refused) else 5 * seconds)

    def loop(k):
        start.wait(timeout=30)
        while not (failures or enough()):
            try:
                works[k]()
                passed[k] += 1
            except RuntimeError as error:
                if IN_USE not in str(error):
                    failures.append(error)
                refused[k] += 1
                time.sleep(0)
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=loop, args=(k,)) for k in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if failures:
        raise failures[0]
    return sum(passed), sum(refused)


def layer(name, hidden_size=40):
    return LSTM(6, hidden_size, rng=0, **LAYERS[name])


@pytest.mark.parametrize("name", LAYERS)
def test_one_tape_in_three_threads(name):
    """Forward of batches of three sizes, and backward of what is there: never of one and the other."""
    lstm = layer(name)
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((n, t, 6)).astype("float32") for n, t in ((3, 40), (30, 4), (1, 90))]
    expected = {}
    for x in xs:
        tape = lstm.tape()
        y, _ = lstm.forward(x, tape=tape)
        expected[x.shape] = y, lstm.backward(tape, np.ones_like(y))[0]
    shared = lstm.tape()

    def work(x):
        y, _ = lstm.forward(x, tape=shared)
        np.testing.assert_array_equal(y, expected[x.shape][0])
        try:
            dx = lstm.backward(shared, np.ones_like(y))[0]
        except ValueError as error:  # another thread's batch came in between
            assert "dy has shape" in str(error) or "tape is empty" in str(error)
        else:
            np.testing.assert_array_equal(dx, expected[x.shape][1])

    passed, refused = hammer([lambda x=x: work(x) for x in xs])
    assert passed and refused
    for x in xs:
        work(x)


@pytest.mark.parametrize("name", LAYERS)
def test_two_backward_on_one_tape(name):
    lstm = layer(name)
    x = np.random.default_rng(0).standard_normal((8, 30, 6)).astype("float32")
    tape = lstm.tape()
    y, _ = lstm.forward(x, tape=tape)
    dys = [np.full_like(y, k) for k in (1, 2)]
    expected = []
    for dy in dys:
        lstm.gradient = 0
        expected.append((lstm.backward(tape, dy)[0], lstm.gradient.astype(float)))
    lstm.gradient = 0
    times = [0, 0]

    def work(k):
        np.testing.assert_array_equal(lstm.backward(tape, dys[k])[0], expected[k][0])
        times[k] += 1

    passed, refused = hammer([lambda: work(0), lambda: work(1)])
    assert passed and refused
    total = times[0] * expected[0][1] + times[1] * expected[1][1]
    scale = np.abs(total).max()
    np.testing.assert_allclose(lstm.gradient, total, rtol=0, atol=1e-3 * scale)


def test_tangents_on_one_tape():
    lstm = layer("peepholes")
    x = np.random.default_rng(0).standard_normal((8, 20, 6)).astype("float32")
    tape = lstm.tape()
    (y, _), _ = lstm.jvp(x, x, tape=tape)
    expected = lstm.backward_jvp(tape, y)["gradient_dot"]

    def back():
        np.testing.assert_array_equal(lstm.backward_jvp(tape, y)["gradient_dot"], expected)

    passed, refused = hammer([back, back, lambda: lstm.jvp(x, x, tape=tape)])
    assert passed and refused
    lstm.jvp(x, x, tape=tape)
    back()


@pytest.mark.parametrize("name", ["default", "peepholes", "projection", "hold"])
def test_one_stream_in_three_threads(name):
    """Each step is whole: the state after n steps of the same input is that of n steps."""
    lstm = layer(name, hidden_size=150)
    stream = lstm.stream()
    x_t, taken, lock = np.ones(6, "float32"), [0], threading.Lock()
    states = []

    def step():
        stream.step(x_t)
        with lock:
            taken[0] += 1

    def look():
        states.append(stream.state)

    passed, refused = hammer([step, step, step, look], 0.7)
    assert passed and refused
    alone = lstm.stream()
    known = {alone.state[0].tobytes() + alone.state[1].tobytes()}
    for _ in range(taken[0]):
        alone.step(x_t)
        h, c = alone.state
        known.add(h.tobytes() + c.tobytes())
    for a, b in zip(stream.state, alone.state, strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(h.tobytes() + c.tobytes() in known for h, c in states)


def test_one_stream_reset_while_it_steps():
    stream = layer("default", hidden_size=150).stream()
    state = stream.state
    passed, _ = hammer([
        lambda: stream.step(np.ones(6, "float32")), stream.reset, lambda: setattr(stream, "state", state),
    ], 0.5)
    assert passed
    stream.reset()
    expected = layer("default", hidden_size=150).stream().step(np.ones(6, "float32"))
    np.testing.assert_array_equal(stream.step(np.ones(6, "float32")), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_the_last_quiet_call_is_right(name):
    """Parameters are written while others compute: what was packed meanwhile is not kept for later values."""
    lstm = layer(name)
    x = np.ones((2, 3, 6), "float32")
    size = lstm.parameters.size
    values = [np.random.default_rng(k).standard_normal(size).astype("float32") / 5 for k in (0, 1)]
    expected = []
    for value in values:
        lstm.parameters = value
        expected.append(lstm(x)[0])
    wrong = 0
    for trial in range(60):
        stop = threading.Event()

        def call(stop=stop):
            while not stop.is_set():
                lstm(x)

        callers = [threading.Thread(target=call) for _ in range(2)]
        for caller in callers:
            caller.start()
        for k in (0, 1, 0, 1, trial % 2):
            # Without the GIL, as optimisers do: a step of SGD with lr=-1 from zeros.
            lstm.parameters = 0
            SGD(1.0).step(lstm.parameters, -values[k])
        stop.set()
        for caller in callers:
            caller.join(30)
        wrong += not np.array_equal(lstm(x)[0], expected[trial % 2])
    assert wrong == 0


def test_bind_while_others_compute():
    """The vectors that a call computes with stay where they are until it has ended."""
    lstm = layer("default")
    x = np.random.default_rng(0).standard_normal((8, 30, 6)).astype("float32")
    y = lstm(x)[0]
    size = lstm.parameters.size

    def train(tape=None):
        tape = lstm.tape()
        np.testing.assert_array_equal(lstm.forward(x, tape=tape)[0], y)
        lstm.backward(tape, y)

    def bind():
        lstm.bind(np.zeros(size, "float32"), np.zeros(size, "float32"))
        gc.collect()

    passed, refused = hammer([train, train, bind], 0.3)
    assert passed
    assert not refused


@pytest.mark.parametrize("optimizer", [lambda: Adam(), lambda: RMSprop(), lambda: SGD(0.1, momentum=0.9)])
def test_one_optimiser_in_two_threads(optimizer):
    shared = optimizer()
    vectors = [np.ones(200_000) for _ in range(2)]
    gradient = np.linspace(-1, 1, 200_000)
    steps = [0]

    def step(k):
        shared.step(vectors[k], gradient)
        steps[0] += 1

    passed, refused = hammer([lambda: step(0), lambda: step(1), lambda: shared.state], 0.5)
    assert passed and refused
    alone, vector = optimizer(), np.ones(200_000)
    for _ in range(shared.state["t"]):
        alone.step(vector, gradient)
    assert shared.state["t"] == steps[0]
    for name, value in alone.state.items():
        np.testing.assert_array_equal(shared.state[name], value, err_msg=name)


def test_one_node_and_one_network_in_three_threads():
    param = LstmParam(300, 50)
    node, net = LstmNode(param, LstmState(300, 50)), LstmNetwork(param)
    x, zeros = np.linspace(0, 1, 50), np.zeros(300)
    node.bottom_data_is(x, zeros, zeros)
    h = node.state.h.copy()
    lengths = []

    def forward():
        node.bottom_data_is(x, zeros, zeros)
        node.top_diff_is(zeros, zeros)

    def sequence():
        net.x_list_clear()
        net.x_list_add(x)
        n = len(net.x_list)
        lengths.append(n)
        net.y_list_is([0.5] * n, ToyLossLayer)

    def other():
        try:
            sequence()
        except ValueError as error:  # the other thread's clear or add came in between
            assert "y_list" in str(error)

    passed, refused = hammer([forward, forward, other, other])
    assert passed and refused
    forward()
    np.testing.assert_array_equal(node.state.h, h)
    sequence()
    np.testing.assert_array_equal(net.lstm_node_list[0].state.h, h)


@pytest.mark.parametrize(
    "call",
    [
        lambda net, param: net.x_list_add(np.ones(3)),
        lambda net, param: net.x_list_clear(),
        lambda net, param: net.y_list_is([1.0, 2.0], ToyLossLayer),
        lambda net, param: net.lstm_node_list[0].bottom_data_is(np.ones(3)),
        lambda net, param: net.lstm_node_list[1].top_diff_is(np.ones(4), np.ones(4)),
        lambda net, param: setattr(net.lstm_node_list[0].state, "h", np.ones(4)),
    ],
)
@pytest.mark.parametrize("place", ["loss", "bottom_diff"])
def test_a_loss_layer_that_calls_back(call, place):
    """It gets a RuntimeError, and nothing has changed: the network answers as before."""
    param = LstmParam(4, 3)
    net = LstmNetwork(param)

    class Loss(ToyLossLayer):
        pass

    def back(pred, label):
        call(net, param)
        return getattr(ToyLossLayer, place)(pred, label)

    setattr(Loss, place, staticmethod(back))
    for x in (np.ones(3), np.zeros(3)):
        net.x_list_add(x)
    with pytest.raises(RuntimeError, match="is in use by another call of this thread"):
        net.y_list_is([0.1, 0.2], Loss)
    assert not param.wg_diff.any()
    assert len(net.x_list) == 2
    again, twin = net.y_list_is([0.1, 0.2], ToyLossLayer), LstmNetwork(LstmParam(4, 3))
    for x in (np.ones(3), np.zeros(3)):
        twin.x_list_add(x)
    assert again == twin.y_list_is([0.1, 0.2], ToyLossLayer)


@pytest.mark.parametrize(
    "change",
    [
        lambda net, targets: targets.clear(),
        lambda net, targets: net.lstm_node_list.clear(),
        lambda net, targets: net.x_list.clear(),
        lambda net, targets: setattr(net, "lstm_node_list", []),
        lambda net, targets: setattr(net, "x_list", []),
    ],
)
def test_a_loss_layer_that_empties_the_lists(change):
    net, targets = LstmNetwork(LstmParam(4, 3)), [0.1, 0.2, 0.3]

    class Loss(ToyLossLayer):
        @staticmethod
        def loss(pred, label):
            change(net, targets)
            return 1.0

    for x in np.eye(3):
        net.x_list_add(x)
    try:
        net.y_list_is(targets, Loss)
    except (IndexError, ValueError):
        pass
    net.lstm_node_list, net.x_list = [], []
    net.x_list_add(np.ones(3))
    assert net.y_list_is([0.1], ToyLossLayer) >= 0


@pytest.mark.parametrize("name", LAYERS)
def test_a_refused_call_leaves_the_tape_as_it_was(name):
    lstm = LSTM(3, 7, rng=0, **LAYERS[name])
    x = np.random.default_rng(0).standard_normal((2, 5, 3))
    tape = lstm.tape()
    y, _ = lstm.forward(x, tape=tape)
    expected = lstm.backward(tape, y)[0]
    for wrong in (
        lambda: lstm.forward(x[..., :2], tape=tape),
        lambda: lstm.forward(x, lengths=[1, 99], tape=tape),
        lambda: lstm.forward(x, (x, x), tape=tape),
        lambda: lstm.forward(np.empty((2**60, 0, 3)), tape=tape),
        lambda: lstm.jvp(x, x[:1], tape=tape),
        lambda: lstm.jvp(x, x, dparameters=np.ones(3), tape=tape),
        lambda: lstm.backward(tape, x),
        lambda: lstm.backward_jvp(tape, x),
    ):
        with pytest.raises((ValueError, TypeError, MemoryError)):
            wrong()
        np.testing.assert_array_equal(lstm.backward(tape, y)[0], expected)


def test_an_owner():
    owner = Owner("tape")
    with owner:
        with pytest.raises(RuntimeError, match="tape is in use by another call of this thread"):
            owner.__enter__()
        errors = []

        def other():
            try:
                owner.__enter__()
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert errors == [
            "tape is in use by another thread; expected one thread at a time: give each thread a tape of its "
            "own"
        ]
    with owner:
        pass


def test_a_lock():
    lock, inside = Lock("thing"), []

    def work():
        for _ in range(200):
            with lock:
                inside.append(1)
                time.sleep(0)
                assert len(inside) == 1
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    with lock, pytest.raises(RuntimeError, match="thing is in use by another call of this thread"):
        lock.__enter__()
    with lock:
        pass
    again = Lock("thing", reentrant=True)
    with again, again:
        pass


def test_a_loss_that_trains_its_own_model():
    """It would wait for itself: a RuntimeError, and the model answers as before."""

    class Loss(losses.MeanSquaredError):
        def value_and_gradient(self, prediction, target, weights=None):
            if again:
                model.loss_and_gradient(x, y)
            return super().value_and_gradient(prediction, target, weights)

    x, y = np.ones((3, 4, 2)), np.ones((3, 1))
    model, again = Model(LSTM(2, 3, rng=0), 1, loss=Loss(), rng=0), False
    expected = model.loss_and_gradient(x, y)
    again = True
    with pytest.raises(RuntimeError, match="model is in use by another call of this thread"):
        model.loss_and_gradient(x, y)
    again = False
    assert model.loss_and_gradient(x, y) == expected


def test_lengths_that_change_meanwhile():
    """Lengths are checked and used in one copy: another thread's writes do not come in between."""
    lstm = layer("default")
    x = np.random.default_rng(0).standard_normal((500, 6, 6)).astype("float32")
    lengths, stop = np.full(500, 6, np.intp), threading.Event()

    def spoil():
        while not stop.is_set():
            lengths[::7] = 10**6
            lengths[::7] = 6

    spoiler = threading.Thread(target=spoil)
    spoiler.start()
    try:
        for _ in range(300):
            try:
                y, _ = lstm(x, lengths=lengths)
            except ValueError as error:
                assert "lengths has 1000000" in str(error)
            else:
                assert np.isfinite(y).all()
    finally:
        stop.set()
        spoiler.join(30)


def test_the_kernel_is_changed_while_others_compute():
    """A call computes with one kernel from its packing to its end."""
    lstm, general = layer("default", 37), layer("peepholes", 37)
    x = np.random.default_rng(0).standard_normal((8, 9, 6)).astype("float32")
    expected = [lstm(x)[0], general(x)[0]]
    before = _kernels.current()

    def change():
        for name in _kernels.available():
            _kernels.select(name)
            lstm.parameters = lstm.parameters
            time.sleep(0)

    def compute(k):
        which = (lstm, general)[k]
        np.testing.assert_allclose(which(x)[0], expected[k], atol=1e-5)
        tape = which.tape()
        which.backward(tape, which.forward(x, tape=tape)[0])
        which.stream(8).step(x[:, 0])

    try:
        passed, refused = hammer([change, lambda: compute(0), lambda: compute(1)], 0.5)
    finally:
        _kernels.select(before)
    assert passed
    assert not refused
