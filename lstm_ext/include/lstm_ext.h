/* The LSTM from C: the functions of lstm_ext.cython_lstm.
 *
 * What each function does, and of each pointer its shape, who fills it and what it may alias, stands in
 * cython_lstm.pxd, one directory up; docs/c-level.md shows them at work. Signatures are append-only.
 *
 * In a file that includes Python.h first, with the GIL held:
 *
 *     static lstm_ext_api lstm;
 *     if (lstm_ext_import(&lstm) < 0) return NULL;         an exception is set
 *     const void *network = lstm.network(object);          a lstm_ext.cython_lstm.Network; NULL: an exception
 *
 * From then on lstm.step_d(network, ...) and the others need no GIL. A file without Python.h has the types:
 * lstm_step_d_t is a pointer to such a function. ptrdiff_t is Py_ssize_t by another name. */
#ifndef LSTM_EXT_H
#define LSTM_EXT_H

#include <stddef.h>

enum {
    LSTM_OK = 0,
    LSTM_WRONG_NETWORK = 1,
    LSTM_NO_STEP = 2,
    LSTM_WRONG_SIZE = 3,
    LSTM_WRONG_LENGTHS = 4
};

/* F(name, what it returns, its arguments, its signature in the words of Cython) */
#define LSTM_EXT_FUNCTIONS(F) \
    F(step_workspace, ptrdiff_t, (const void *network, ptrdiff_t batch), \
      "Py_ssize_t (void const *, Py_ssize_t)") \
    F(forward_workspace, ptrdiff_t, (const void *network, ptrdiff_t batch, ptrdiff_t time), \
      "Py_ssize_t (void const *, Py_ssize_t, Py_ssize_t)") \
    F(tape_size, ptrdiff_t, (const void *network, ptrdiff_t batch, ptrdiff_t time), \
      "Py_ssize_t (void const *, Py_ssize_t, Py_ssize_t)") \
    F(backward_workspace, ptrdiff_t, (const void *network, ptrdiff_t batch, ptrdiff_t time), \
      "Py_ssize_t (void const *, Py_ssize_t, Py_ssize_t)") \
    F(jvp_workspace, ptrdiff_t, (const void *network, ptrdiff_t batch, ptrdiff_t time), \
      "Py_ssize_t (void const *, Py_ssize_t, Py_ssize_t)") \
    LSTM_EXT_OF_DTYPE(F, s, float, "float const *, ", "float *, ") \
    LSTM_EXT_OF_DTYPE(F, d, double, "double const *, ", "double *, ") \
    F(flush_subnormals, unsigned long long, (void), "unsigned PY_LONG_LONG (void)") \
    F(restore_subnormals, void, (unsigned long long mode), "void (unsigned PY_LONG_LONG)")

#define LSTM_EXT_OF_DTYPE(F, suffix, REAL, READ, FILLED) \
    F(step_##suffix, int, \
      (const void *network, ptrdiff_t batch, const REAL *x, const REAL *h_prev, const REAL *c_prev, \
       REAL *h, REAL *c, void *workspace), \
      "int (void const *, Py_ssize_t, " READ READ READ FILLED FILLED "void *)") \
    F(forward_##suffix, int, \
      (const void *network, ptrdiff_t batch, ptrdiff_t time, const REAL *x, const ptrdiff_t *lengths, \
       const REAL *h_0, const REAL *c_0, REAL *y, REAL *h_n, REAL *c_n, void *tape, void *workspace), \
      "int (void const *, Py_ssize_t, Py_ssize_t, " READ "Py_ssize_t const *, " READ READ FILLED FILLED \
      FILLED "void *, void *)") \
    F(backward_##suffix, int, \
      (const void *network, ptrdiff_t batch, ptrdiff_t time, const REAL *x, const ptrdiff_t *lengths, \
       const void *tape, const REAL *dy, const REAL *dh_n, const REAL *dc_n, REAL *dx, REAL *dh_0, \
       REAL *dc_0, REAL *gradient, void *workspace), \
      "int (void const *, Py_ssize_t, Py_ssize_t, " READ "Py_ssize_t const *, void const *, " READ READ \
      READ FILLED FILLED FILLED FILLED "void *)") \
    F(jvp_##suffix, int, \
      (const void *network, ptrdiff_t batch, ptrdiff_t time, const REAL *x, const ptrdiff_t *lengths, \
       const REAL *h_0, const REAL *c_0, const REAL *x_dot, const REAL *h_0_dot, const REAL *c_0_dot, \
       const REAL *parameters_dot, REAL *y, REAL *h_n, REAL *c_n, REAL *y_dot, REAL *h_n_dot, \
       REAL *c_n_dot, void *workspace), \
      "int (void const *, Py_ssize_t, Py_ssize_t, " READ "Py_ssize_t const *, " READ READ READ READ READ \
      READ FILLED FILLED FILLED FILLED FILLED FILLED "void *)")

#define LSTM_EXT_TYPE(name, result, arguments, signature) typedef result(*lstm_##name##_t) arguments;
LSTM_EXT_FUNCTIONS(LSTM_EXT_TYPE)
#undef LSTM_EXT_TYPE

#ifdef Py_PYTHON_H

typedef const void *(*lstm_network_t)(PyObject *network);

#define LSTM_EXT_FIELD(name, result, arguments, signature) lstm_##name##_t name;
typedef struct {
    lstm_network_t network;
    LSTM_EXT_FUNCTIONS(LSTM_EXT_FIELD)
} lstm_ext_api;
#undef LSTM_EXT_FIELD

/* The address of one function, after a look at its signature. */
static inline void *lstm_ext_function(PyObject *functions, const char *name, const char *signature) {
    PyObject *capsule = PyDict_GetItemString(functions, name); /* borrowed */
    if (capsule == NULL || !PyCapsule_IsValid(capsule, signature)) {
        PyErr_Format(PyExc_ImportError, "lstm_ext has no function %s of the signature %s", name, signature);
        return NULL;
    }
    return PyCapsule_GetPointer(capsule, signature);
}

/* Fill *api. 0, or -1 and an exception. */
static inline int lstm_ext_import(lstm_ext_api *api) {
    int result = -1;
    PyObject *module = PyImport_ImportModule("lstm_ext.cython_lstm");
    PyObject *functions = module ? PyObject_GetAttrString(module, "__pyx_capi__") : NULL;
    if (functions != NULL) {
        result = 0;
        api->network =
            (lstm_network_t)lstm_ext_function(functions, "lstm_network", "void const *(PyObject *)");
#define LSTM_EXT_LOAD(name, type, arguments, signature) \
    api->name = (lstm_##name##_t)lstm_ext_function(functions, "lstm_" #name, signature);
        LSTM_EXT_FUNCTIONS(LSTM_EXT_LOAD)
#undef LSTM_EXT_LOAD
        if (PyErr_Occurred())
            result = -1;
    }
    Py_XDECREF(functions);
    Py_XDECREF(module);
    return result;
}

#endif /* Py_PYTHON_H */
#endif /* LSTM_EXT_H */
