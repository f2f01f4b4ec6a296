/* An LSTM as a callback of SciPy: a filter in scipy.ndimage.generic_filter1d, an integrand in
 * scipy.integrate.quad. SciPy calls the C functions below directly, without a Python call in between.
 *
 * Both take one pointer of the user's: a `model`, made once, which holds the handle, the readout and all
 * memory that the calls need. One model serves one thread at a time. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#include "lstm_ext.h"

static lstm_ext_api lstm;

typedef struct {
    PyObject *owner; /* keeps the network alive */
    const void *network;
    Py_ssize_t outputs, hidden;
    double *readout, *h, *c; /* (outputs,), (outputs,), (hidden,): outputs is proj_size, or hidden without one */
    void *workspace;
} model;

static double advance(const model *m, const double *x) {
    double sum = 0;
    lstm.step_d(m->network, 1, x, m->h, m->c, m->h, m->c, m->workspace);
    for (Py_ssize_t j = 0; j < m->outputs; j++)
        sum += m->readout[j] * m->h[j];
    return sum;
}

static void start(const model *m) {
    memset(m->h, 0, m->outputs * sizeof(double));
    memset(m->c, 0, m->hidden * sizeof(double));
}

/* generic_filter1d: a line, padded for a window of filter_size; the LSTM's inputs are the windows, which
 * lie in the line as they are. Its state goes from one end of the line to the other. */
static int filter(double *line, Py_ssize_t line_length, double *out, Py_ssize_t length, void *user) {
    const model *m = user;
    start(m);
    for (Py_ssize_t t = 0; t < length; t++)
        out[t] = advance(m, line + t);
    return 1; /* all is well */
}

/* quad: the readout after one step from x. */
static double integrand(double x, void *user) {
    const model *m = user;
    start(m);
    return advance(m, &x);
}

/* ---- in Python ---- */

static void release(model *m) {
    if (m != NULL) {
        Py_XDECREF(m->owner);
        PyMem_Free(m->readout);
        PyMem_Free(m->workspace);
        PyMem_Free(m);
    }
}

static void destroy(PyObject *capsule) {
    release(PyCapsule_GetPointer(capsule, NULL));
}

static PyObject *make_model(PyObject *self, PyObject *args) {
    PyObject *network, *capsule = NULL;
    Py_buffer readout;
    Py_ssize_t hidden;
    if (!PyArg_ParseTuple(args, "Oy*n", &network, &readout, &hidden))
        return NULL;
    const void *handle = lstm.network(network);
    /* A step of no sequence does nothing, and says whether the network is one for the calls to come. */
    if (handle != NULL && lstm.step_d(handle, 0, NULL, NULL, NULL, NULL, NULL, NULL) != LSTM_OK) {
        PyErr_SetString(PyExc_ValueError, "network: expected one of a float64 LSTM that reads forwards");
        handle = NULL;
    }
    model *m = handle ? PyMem_Calloc(1, sizeof *m) : NULL;
    if (m != NULL) {
        Py_INCREF(network);
        m->owner = network;
        m->network = handle;
        m->outputs = readout.len / sizeof(double);
        m->hidden = hidden;
        m->readout = PyMem_Malloc(2 * readout.len + hidden * sizeof(double));
        m->workspace = PyMem_Malloc(lstm.step_workspace(handle, 1));
        if (m->readout != NULL && m->workspace != NULL) {
            memcpy(m->readout, readout.buf, readout.len);
            m->h = m->readout + m->outputs;
            m->c = m->h + m->outputs;
            capsule = PyCapsule_New(m, NULL, destroy);
        }
    }
    PyBuffer_Release(&readout);
    if (capsule == NULL) {
        release(m);
        if (!PyErr_Occurred())
            PyErr_NoMemory();
    }
    return capsule;
}

static PyMethodDef methods[] = {
    {"make_model", make_model, METH_VARARGS,
     "make_model(network, readout, hidden): what the callbacks take as user_data.\n\n"
     "network: Network(LSTM(I, H, dtype='float64')), with any options that a Network takes; readout: float64,\n"
     "(H,), or with a proj_size (P,); hidden: H."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "lstm_filter", NULL, -1, methods};

/* SciPy reads a callback's signature from the capsule's name. */
static int add_callback(PyObject *module, const char *name, void *function, const char *signature) {
    PyObject *capsule = PyCapsule_New(function, signature, NULL);
    int result = PyModule_AddObjectRef(module, name, capsule);
    Py_XDECREF(capsule);
    return result;
}

PyMODINIT_FUNC PyInit_lstm_filter(void) {
    if (lstm_ext_import(&lstm) < 0)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL &&
        (add_callback(module, "filter", (void *)filter,
                      "int (double *, intptr_t, double *, intptr_t, void *)") < 0 ||
         add_callback(module, "integrand", (void *)integrand, "double (double, void *)") < 0))
        Py_CLEAR(module);
    return module;
}
