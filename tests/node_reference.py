"""The teaching LSTM in plain NumPy: one page to read, to test against and to race against.

The cell of ``docs/equations``, one node for each time step, in float64. Its output is the state
times the output gate, with no tanh on the state. With ``xc = [x, h_prev]``::

    g = tanh(Wg xc + bg)    i = sigma(Wi xc + bi)    f = sigma(Wf xc + bf)    o = sigma(Wo xc + bo)
    s = g i + s_prev f      h = s o
"""

import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def sigmoid_derivative(values):
    """Of the sigmoid, at the point where it has these values."""
    return values * (1.0 - values)


def tanh_derivative(values):
    """Of tanh, at the point where it has these values."""
    return 1.0 - values**2


def rand_arr(a, b, *shape):
    """Uniform in [a, b), and the same numbers at every call."""
    np.random.seed(0)  # noqa: NPY002
    return np.random.rand(*shape) * (b - a) + a  # noqa: NPY002


class LstmParam:
    """Weights and biases of the four gates, and the gradient of each (``_diff``)."""

    def __init__(self, mem_cell_ct, x_dim):
        self.mem_cell_ct = mem_cell_ct
        self.x_dim = x_dim
        concat_len = x_dim + mem_cell_ct
        self.wg = rand_arr(-0.1, 0.1, mem_cell_ct, concat_len)
        self.wi = rand_arr(-0.1, 0.1, mem_cell_ct, concat_len)
        self.wf = rand_arr(-0.1, 0.1, mem_cell_ct, concat_len)
        self.wo = rand_arr(-0.1, 0.1, mem_cell_ct, concat_len)
        self.bg = rand_arr(-0.1, 0.1, mem_cell_ct)
        self.bi = rand_arr(-0.1, 0.1, mem_cell_ct)
        self.bf = rand_arr(-0.1, 0.1, mem_cell_ct)
        self.bo = rand_arr(-0.1, 0.1, mem_cell_ct)
        self.zero_diffs()

    def zero_diffs(self):
        self.wg_diff = np.zeros_like(self.wg)
        self.wi_diff = np.zeros_like(self.wi)
        self.wf_diff = np.zeros_like(self.wf)
        self.wo_diff = np.zeros_like(self.wo)
        self.bg_diff = np.zeros_like(self.bg)
        self.bi_diff = np.zeros_like(self.bi)
        self.bf_diff = np.zeros_like(self.bf)
        self.bo_diff = np.zeros_like(self.bo)

    def apply_diff(self, lr=1):
        """Step down the gradient, and forget it."""
        self.wg -= lr * self.wg_diff
        self.wi -= lr * self.wi_diff
        self.wf -= lr * self.wf_diff
        self.wo -= lr * self.wo_diff
        self.bg -= lr * self.bg_diff
        self.bi -= lr * self.bi_diff
        self.bf -= lr * self.bf_diff
        self.bo -= lr * self.bo_diff
        self.zero_diffs()


class LstmState:
    """What one node computed: gates, state, output, and the two gradients it passes back."""

    def __init__(self, mem_cell_ct, x_dim):
        self.g = np.zeros(mem_cell_ct)
        self.i = np.zeros(mem_cell_ct)
        self.f = np.zeros(mem_cell_ct)
        self.o = np.zeros(mem_cell_ct)
        self.s = np.zeros(mem_cell_ct)
        self.h = np.zeros(mem_cell_ct)
        self.bottom_diff_h = np.zeros_like(self.h)
        self.bottom_diff_s = np.zeros_like(self.s)


class LstmNode:
    """One time step."""

    def __init__(self, param, state):
        self.param = param
        self.state = state
        self.xc = None  # the input next to the recurrent input

    def bottom_data_is(self, x, s_prev=None, h_prev=None):
        """Forward: from the input and what the node before left to this node's state."""
        param, state = self.param, self.state
        self.s_prev = np.zeros_like(state.s) if s_prev is None else s_prev
        self.h_prev = np.zeros_like(state.h) if h_prev is None else h_prev
        self.xc = xc = np.hstack((x, self.h_prev))
        state.g = np.tanh(np.dot(param.wg, xc) + param.bg)
        state.i = sigmoid(np.dot(param.wi, xc) + param.bi)
        state.f = sigmoid(np.dot(param.wf, xc) + param.bf)
        state.o = sigmoid(np.dot(param.wo, xc) + param.bo)
        state.s = state.g * state.i + self.s_prev * state.f
        state.h = state.s * state.o

    def top_diff_is(self, top_diff_h, top_diff_s):
        """Backward: top_diff_s is what came along the constant error carousel."""
        param, state, xc = self.param, self.state, self.xc
        ds = state.o * top_diff_h + top_diff_s
        do = state.s * top_diff_h
        di = state.g * ds
        dg = state.i * ds
        df = self.s_prev * ds

        # through the activations, at the gates' values
        di_input = sigmoid_derivative(state.i) * di
        df_input = sigmoid_derivative(state.f) * df
        do_input = sigmoid_derivative(state.o) * do
        dg_input = tanh_derivative(state.g) * dg

        param.wi_diff += np.outer(di_input, xc)
        param.wf_diff += np.outer(df_input, xc)
        param.wo_diff += np.outer(do_input, xc)
        param.wg_diff += np.outer(dg_input, xc)
        param.bi_diff += di_input
        param.bf_diff += df_input
        param.bo_diff += do_input
        param.bg_diff += dg_input

        dxc = np.zeros_like(xc)
        dxc += np.dot(param.wi.T, di_input)
        dxc += np.dot(param.wf.T, df_input)
        dxc += np.dot(param.wo.T, do_input)
        dxc += np.dot(param.wg.T, dg_input)

        state.bottom_diff_s = ds * state.f
        state.bottom_diff_h = dxc[param.x_dim:]


class LstmNetwork:
    """A chain of nodes, one for each input since the last ``x_list_clear``."""

    def __init__(self, param):
        self.param = param
        self.lstm_node_list = []
        self.x_list = []

    def y_list_is(self, y_list, loss_layer):
        """Backward through all nodes, the targets given; returns the summed loss."""
        if len(y_list) != len(self.x_list):
            raise ValueError("one target for each input")
        loss = 0.0
        diff_s = np.zeros(self.param.mem_cell_ct)
        diff_h_next = np.zeros(self.param.mem_cell_ct)
        for node, label in zip(
            reversed(self.lstm_node_list[:len(self.x_list)]), reversed(y_list), strict=True
        ):
            loss += loss_layer.loss(node.state.h, label)
            diff_h = loss_layer.bottom_diff(node.state.h, label)
            diff_h += diff_h_next
            node.top_diff_is(diff_h, diff_s)
            diff_h_next, diff_s = node.state.bottom_diff_h, node.state.bottom_diff_s
        return loss

    def x_list_clear(self):
        """Start a new sequence; the nodes are kept."""
        self.x_list = []

    def x_list_add(self, x):
        """One more time step."""
        self.x_list.append(x)
        if len(self.x_list) > len(self.lstm_node_list):
            state = LstmState(self.param.mem_cell_ct, self.param.x_dim)
            self.lstm_node_list.append(LstmNode(self.param, state))
        idx = len(self.x_list) - 1
        if idx == 0:
            self.lstm_node_list[idx].bottom_data_is(x)
        else:
            before = self.lstm_node_list[idx - 1].state
            self.lstm_node_list[idx].bottom_data_is(x, before.s, before.h)


class ToyLossLayer:
    """The squared error of the first element of h."""

    @classmethod
    def loss(cls, pred, label):
        return (pred[0] - label) ** 2

    @classmethod
    def bottom_diff(cls, pred, label):
        diff = np.zeros_like(pred)
        diff[0] = 2 * (pred[0] - label)
        return diff
