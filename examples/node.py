"""Four time steps, four targets: the teaching script on the compiled node.

Written for the NumPy teaching implementation; only the import names lstm_ext.
"""

import numpy as np

from lstm_ext import LstmNetwork, LstmParam, ToyLossLayer


def main():
    np.random.seed(0)  # noqa: NPY002
    mem_cell_ct, x_dim = 100, 50
    lstm_param = LstmParam(mem_cell_ct, x_dim)
    lstm_net = LstmNetwork(lstm_param)
    y_list = [-0.5, 0.2, 0.1, -0.5]
    inputs = [np.random.random(x_dim) for _ in y_list]  # noqa: NPY002

    for iteration in range(100):
        for x in inputs:
            lstm_net.x_list_add(x)
        y_pred = [f"{node.state.h[0]: 2.5f}" for node in lstm_net.lstm_node_list]
        loss = lstm_net.y_list_is(y_list, ToyLossLayer)
        print(f"iter {iteration:2d}: y_pred = [{', '.join(y_pred)}], loss: {loss:.3e}")
        lstm_param.apply_diff(lr=0.1)
        lstm_net.x_list_clear()


if __name__ == "__main__":
    main()
