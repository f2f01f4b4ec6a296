# The LSTM from C, Cython, numba and Fortran. Public: signatures are in plain C types and append-only.
#
# A `network` is the handle of a prepared LSTM: lstm_ext.cython_lstm.Network(lstm) packs the weights that
# the LSTM has then, and lstm_network() names them. It stays valid while that Python object lives, and it
# is only read: any number of threads may use one at once, each with its own state, tape and workspace.
#
# Sizes: N = batch, T = time, I = input_size, H = hidden_size, L = num_layers, D = directions (2 if
# bidirectional, else 1), P = proj_size, or H without one. All arrays are C-contiguous and the caller's.
#   x, x_dot, dx                          (N, T, I), or (T, N, I) of an LSTM with batch_first=False
#   y, y_dot, dy                          (N, T, D*P), or (T, N, D*P)
#   h, h_0, h_n, dh_n, h_0_dot, ...       (L*D, N, P)
#   c, c_0, c_n, dc_n, c_0_dot, ...       (L*D, N, H)
#   parameters_dot, gradient              of lstm.parameters' size and order
#   lengths                               (N,), 0 to T each; NULL: all sequences have T steps
# Functions ending in _s take float and networks of float32, those in _d double and float64.
#
# Nothing here allocates, takes a lock or the GIL, or starts a thread. Numbers have the bits that
# LSTM.forward, backward, jvp and Stream.step give. No array may overlap another unless it is said.
#
# workspace, tape: raw memory of at least as many bytes as the functions of that name return for this batch
# and time, of any alignment and with any contents. A workspace is free again after each call. A tape is
# filled by forward and read by backward, in the place where it was filled.

cdef enum:
    LSTM_OK = 0
    LSTM_WRONG_NETWORK = 1       # NULL, or packed for the other dtype
    LSTM_NO_STEP = 2             # a bidirectional or reversed LSTM begins at the end: it has no step
    LSTM_WRONG_SIZE = 3          # a negative batch or time, or more bytes than can be addressed
    LSTM_WRONG_LENGTHS = 4       # a length is not within 0 to time
# Every function that returns int returns one of these; if it is not LSTM_OK, nothing has been written.

# The handle of a lstm_ext.cython_lstm.Network. Needs the GIL; raises TypeError for anything else.
cdef const void *lstm_network(object network) except NULL

# Bytes of memory. -1 in place of LSTM_WRONG_NETWORK (here: NULL), LSTM_NO_STEP and LSTM_WRONG_SIZE.
cdef Py_ssize_t lstm_step_workspace(const void *network, Py_ssize_t batch) noexcept nogil
cdef Py_ssize_t lstm_forward_workspace(
    const void *network, Py_ssize_t batch, Py_ssize_t time) noexcept nogil
cdef Py_ssize_t lstm_tape_size(const void *network, Py_ssize_t batch, Py_ssize_t time) noexcept nogil
cdef Py_ssize_t lstm_backward_workspace(
    const void *network, Py_ssize_t batch, Py_ssize_t time) noexcept nogil
cdef Py_ssize_t lstm_jvp_workspace(const void *network, Py_ssize_t batch, Py_ssize_t time) noexcept nogil

# One time step.
#   x (N, I)                    read
#   h_prev, c_prev              read; the state before the step
#   h, c                        filled; the state after it. h may be h_prev, and c may be c_prev: then the
#                               state advances in place
# The step's output, that of the last layer, is h + (L - 1) * N * P.
cdef int lstm_step_s(
    const void *network, Py_ssize_t batch, const float *x, const float *h_prev, const float *c_prev,
    float *h, float *c, void *workspace) noexcept nogil
cdef int lstm_step_d(
    const void *network, Py_ssize_t batch, const double *x, const double *h_prev, const double *c_prev,
    double *h, double *c, void *workspace) noexcept nogil

# Sequences, from the first step to the last.
#   x, lengths    read
#   h_0, c_0      read; NULL: zeros
#   y             filled; 0 beyond a sequence's length
#   h_n, c_n      filled; the state after each sequence's last step. h_n may be h_0, and c_n may be c_0
#   tape          filled for lstm_backward; NULL: inference
cdef int lstm_forward_s(
    const void *network, Py_ssize_t batch, Py_ssize_t time, const float *x, const Py_ssize_t *lengths,
    const float *h_0, const float *c_0, float *y, float *h_n, float *c_n, void *tape,
    void *workspace) noexcept nogil
cdef int lstm_forward_d(
    const void *network, Py_ssize_t batch, Py_ssize_t time, const double *x, const Py_ssize_t *lengths,
    const double *h_0, const double *c_0, double *y, double *h_n, double *c_n, void *tape,
    void *workspace) noexcept nogil

# Backpropagation through the sequences of one lstm_forward call.
#   x, lengths, tape    read; as lstm_forward had and left them
#   dy, dh_n, dc_n      read; gradients of a loss with respect to y, h_n, c_n; NULL: zeros. Beyond a
#                       sequence's length dy is not read
#   dx                  filled, 0 beyond a sequence's length; NULL spares its product
#   dh_0, dc_0          filled; dh_0 may be dh_n, and dc_0 may be dc_n
#   gradient            added to; NULL: not wanted
cdef int lstm_backward_s(
    const void *network, Py_ssize_t batch, Py_ssize_t time, const float *x, const Py_ssize_t *lengths,
    const void *tape, const float *dy, const float *dh_n, const float *dc_n, float *dx, float *dh_0,
    float *dc_0, float *gradient, void *workspace) noexcept nogil
cdef int lstm_backward_d(
    const void *network, Py_ssize_t batch, Py_ssize_t time, const double *x, const Py_ssize_t *lengths,
    const void *tape, const double *dy, const double *dh_n, const double *dc_n, double *dx, double *dh_0,
    double *dc_0, double *gradient, void *workspace) noexcept nogil

# Sequences, and their derivative along a direction (forward mode).
#   x, lengths, h_0, c_0                      read; as of lstm_forward
#   x_dot, h_0_dot, c_0_dot, parameters_dot   read; the direction; NULL: zeros
#   y, h_n, c_n                               filled, with the bits of LSTM.jvp, which are not always those
#                                             of LSTM.forward
#   y_dot, h_n_dot, c_n_dot                   filled; their derivatives along the direction
# h_n may be h_0, c_n may be c_0, h_n_dot may be h_0_dot, and c_n_dot may be c_0_dot.
cdef int lstm_jvp_s(
    const void *network, Py_ssize_t batch, Py_ssize_t time, const float *x, const Py_ssize_t *lengths,
    const float *h_0, const float *c_0, const float *x_dot, const float *h_0_dot, const float *c_0_dot,
    const float *parameters_dot, float *y, float *h_n, float *c_n, float *y_dot, float *h_n_dot,
    float *c_n_dot, void *workspace) noexcept nogil
cdef int lstm_jvp_d(
    const void *network, Py_ssize_t batch, Py_ssize_t time, const double *x, const Py_ssize_t *lengths,
    const double *h_0, const double *c_0, const double *x_dot, const double *h_0_dot,
    const double *c_0_dot, const double *parameters_dot, double *y, double *h_n, double *c_n,
    double *y_dot, double *h_n_dot, double *c_n_dot, void *workspace) noexcept nogil

# Subnormal numbers as 0 in the calling thread, for what a caller computes between calls: numbers that fade
# out cost many CPUs up to a hundred times the usual time. The functions above do it for themselves. What the
# first returns is the mode of before, for the second. On CPUs without such a mode they do nothing.
cdef unsigned long long lstm_flush_subnormals() noexcept nogil
cdef void lstm_restore_subnormals(unsigned long long mode) noexcept nogil
