/* Threads of OpenMP that share networks at the C level, while Python trains: all results have the serial bits.
 *
 *     c_level_threads PYTHON THREADS ROUNDS [planted]
 *
 * sanitize.py builds and runs it. PYTHON is the interpreter whose packages are used. With "planted" the threads
 * share one workspace, which the contract forbids: a tool that sees no race then sees nothing. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lstm_ext.h"

static lstm_ext_api lstm;

/* Networks with their sizes, and a thread that trains one of their LSTMs and makes networks of it. */
static const char *SETUP =
    "import threading\n"
    "import numpy as np\n"
    "import lstm_ext\n"
    "from lstm_ext import LSTM\n"
    "from lstm_ext.cython_lstm import Network\n"
    "lstm_ext.set_num_threads(2)\n"
    "options = [{}, {'num_layers': 2, 'bidirectional': True}, {'num_layers': 3, 'checkpoint': 2},\n"
    "           {'peepholes': True, 'num_layers': 2}, {'proj_size': 3, 'layer_norm': True}, {'reverse': True},\n"
    "           {'coupled_gates': True, 'zoneout': (0.3, 0.2)}, {'batch_first': False, 'bias': False},\n"
    "           {'activations': ('hard_sigmoid', ('elu', 1.0), 'softsign'), 'cell_clip': 0.7}]\n"
    "layers = [LSTM(4, 17, dtype=dtype, rng=0, **o) for dtype in ('float32', 'float64') for o in options]\n"
    "layers += [LSTM(4, 35, precision=p, num_layers=2, rng=0)\n"
    "           for p in ('bfloat16', 'bfloat16x3', 'bfloat16x6')]\n"
    "cases = []\n"
    "for l in layers:\n"
    "    directions = 2 if l.bidirectional else 1\n"
    "    cases.append((Network(l), l.dtype == 'float64', l.input_size, l.hidden_size,\n"
    "                  l.output_size // directions, l.num_layers * directions, directions,\n"
    "                  l.parameters.size, repr(l)))\n"
    "stop, turns = False, 0\n"
    "def train():\n"
    "    global turns\n"
    "    x = np.ones((70, 9, 4))\n"
    "    while not stop:\n"
    "        l = layers[turns % len(layers)]\n"
    "        tape = l.tape()\n"
    "        y, state = l.forward(x if l.batch_first else x.swapaxes(0, 1), tape=tape)\n"
    "        l.backward(tape, y, state)\n"
    "        Network(l)\n"
    "        turns += 1\n"
    "thread = threading.Thread(target=train)\n"
    "thread.start()\n";

static const char *END = "stop = True\nthread.join()\nassert turns > 0\n";

typedef struct {
    const void *network;
    Py_ssize_t is_double, input, hidden, outputs, layers, directions, parameters;
    const char *name;
} sizes;

enum { BATCH = 37, TIME = 6 };
static const ptrdiff_t LENGTHS[BATCH] = {6, 0, 3, 1, 6, 5, 4, 6, 2, 6, 6, 6, 1, 0, 6, 6, 3, 2, 5, 6, 6, 4, 6, 1, 6};

static void *memory(ptrdiff_t bytes) {
    void *p = bytes < 0 ? NULL : malloc(bytes + (bytes == 0));
    if (p == NULL) {
        fprintf(stderr, "no memory for %td bytes\n", bytes);
        exit(2);
    }
    return p;
}

static void check(int status, const char *what) {
    if (status != LSTM_OK) {
        fprintf(stderr, "%s: status %d\n", what, status);
        exit(2);
    }
}

/* All functions once, on memory of exactly the size that is asked for. `results` holds what they filled, one after
 * the other, `count` elements. shared: a workspace, or NULL for one of its own. */
#define RUN(T, REAL)                                                                                           \
    static REAL *run_##T(const sizes *s, void *shared, ptrdiff_t *count) {                                     \
        const ptrdiff_t x_size = BATCH * TIME * s->input, width = s->directions * s->outputs;                  \
        const ptrdiff_t y_size = BATCH * TIME * width, h_size = s->layers * BATCH * s->outputs;                \
        const ptrdiff_t c_size = s->layers * BATCH * s->hidden, states = h_size + c_size;                      \
        const ptrdiff_t dot_size = x_size > s->parameters ? x_size : s->parameters;                            \
        const int has_step = lstm.step_workspace(s->network, BATCH) >= 0;                                      \
        REAL *x = memory(x_size * sizeof(REAL)), *dot = memory(dot_size * sizeof(REAL));                       \
        for (ptrdiff_t j = 0; j < x_size; j++) x[j] = (REAL)((j * 7919 % 2003) / 1001.0 - 1);                  \
        for (ptrdiff_t j = 0; j < dot_size; j++) dot[j] = (REAL)((j * 6007 % 1009) / 504.0 - 1);               \
        *count = y_size + states + x_size + states + s->parameters + 2 * (y_size + states) + has_step * states; \
        REAL *results = memory(*count * sizeof(REAL)), *to = results;                                          \
        void *tape = memory(lstm.tape_size(s->network, BATCH, TIME)), *work = shared;                          \
        if (!shared) work = memory(lstm.forward_workspace(s->network, BATCH, TIME));                           \
        REAL *y = to, *h = y + y_size, *c = h + h_size;                                                        \
        check(lstm.forward_##T(s->network, BATCH, TIME, x, LENGTHS, NULL, NULL, y, h, c, tape, work), "forward"); \
        to += y_size + states;                                                                                 \
        if (!shared) free(work), work = memory(lstm.backward_workspace(s->network, BATCH, TIME));              \
        REAL *dx = to, *dh = dx + x_size, *dc = dh + h_size, *gradient = dc + c_size;                          \
        memset(gradient, 0, s->parameters * sizeof(REAL));                                                     \
        check(lstm.backward_##T(s->network, BATCH, TIME, x, LENGTHS, tape, y, h, c, dx, dh, dc, gradient, work), \
              "backward");                                                                                     \
        to += x_size + states + s->parameters;                                                                 \
        if (!shared) free(work), work = memory(lstm.jvp_workspace(s->network, BATCH, TIME));                   \
        REAL *y_2 = to, *h_2 = y_2 + y_size, *c_2 = h_2 + h_size;                                              \
        REAL *y_dot = c_2 + c_size, *h_dot = y_dot + y_size, *c_dot = h_dot + h_size;                          \
        check(lstm.jvp_##T(s->network, BATCH, TIME, x, LENGTHS, h, c, dot, NULL, NULL, dot, y_2, h_2, c_2,     \
                           y_dot, h_dot, c_dot, work), "jvp");                                                 \
        to += 2 * (y_size + states);                                                                           \
        if (has_step) {                                                                                        \
            if (!shared) free(work), work = memory(lstm.step_workspace(s->network, BATCH));                    \
            REAL *h_t = to, *c_t = h_t + h_size;                                                               \
            memcpy(h_t, h, h_size * sizeof(REAL));                                                             \
            memcpy(c_t, c, c_size * sizeof(REAL));                                                             \
            for (int t = 0; t < 3; t++)                                                                        \
                check(lstm.step_##T(s->network, BATCH, x, h_t, c_t, h_t, c_t, work), "step");                  \
        }                                                                                                      \
        if (!shared) free(work);                                                                               \
        free(tape), free(dot), free(x);                                                                        \
        return results;                                                                                        \
    }
RUN(s, float)
RUN(d, double)

/* One network in all threads at once; returns how many runs have other bits than a serial one. */
static int compare(const sizes *s, int threads, int rounds, int planted) {
    ptrdiff_t count, itemsize = s->is_double ? sizeof(double) : sizeof(float);
    void *expected = s->is_double ? (void *)run_d(s, NULL, &count) : (void *)run_s(s, NULL, &count);
    void *shared = planted ? memory(lstm.jvp_workspace(s->network, BATCH, TIME) +
                                    lstm.backward_workspace(s->network, BATCH, TIME)) : NULL;
    int wrong = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(+ : wrong)
    for (int round = 0; round < threads * rounds; round++) {
        ptrdiff_t n;
        void *found = s->is_double ? (void *)run_d(s, shared, &n) : (void *)run_s(s, shared, &n);
        wrong += n != count || memcmp(found, expected, count * itemsize) != 0;
        free(found);
    }
    free(shared), free(expected);
    return wrong;
}

int main(int argc, char **argv) {
    const int planted = argc > 4;
    if (argc < 4) return fprintf(stderr, "usage: %s PYTHON THREADS ROUNDS [planted]\n", argv[0]), 2;
    const int threads = atoi(argv[2]), rounds = atoi(argv[3]);
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    PyConfig_SetBytesString(&config, &config.program_name, argv[1]);
    PyStatus status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) Py_ExitStatusException(status);
    if (lstm_ext_import(&lstm) < 0 || PyRun_SimpleString(SETUP) < 0) return PyErr_Print(), 2;
    PyObject *cases = PyDict_GetItemString(PyModule_GetDict(PyImport_AddModule("__main__")), "cases");
    const Py_ssize_t n_cases = PyList_Size(cases);
    int wrong = 0;
    for (Py_ssize_t i = 0; i < n_cases; i++) {
        PyObject *network;
        sizes s;
        if (!PyArg_ParseTuple(PyList_GetItem(cases, i), "Onnnnnnns", &network, &s.is_double, &s.input, &s.hidden,
                              &s.outputs, &s.layers, &s.directions, &s.parameters, &s.name) ||
            (s.network = lstm.network(network)) == NULL)
            return PyErr_Print(), 2;
        Py_BEGIN_ALLOW_THREADS
        const int n = compare(&s, threads, rounds, planted);
        if (n) printf("%s: %d runs have other bits than the serial one\n", s.name, n);
        wrong += n;
        Py_END_ALLOW_THREADS
    }
    if (PyRun_SimpleString(END) < 0) return 2;
    printf("%zd networks, %zd parallel runs of all functions in %d threads, %d wrong: done\n", n_cases,
           n_cases * threads * rounds, threads, wrong);
    fflush(stdout);
    Py_FinalizeEx();
    return wrong && !planted;
}
