# A network of layers and directions, for _lstm.pyx and cython_lstm.pyx. Private: not shipped.

from lstm_ext._driver cimport DEFAULT, GENERAL, layer_t, run_t, sequences_t, work_t
from lstm_ext._kernels cimport lstm_kernels_d, lstm_kernels_s

# A network: all that compiled code knows of it. Plain numbers, which describe() completes.
cdef struct stack_t:
    bint is_double
    bint general                 # it asks for more than the default driver has: lstm_ext/_options.py decides
    bint reverse
    bint has_bias, has_peepholes
    bint static_input_gate       # of the first layer
    Py_ssize_t input_size, hidden_size, out_size, num_layers, directions
    Py_ssize_t checkpoint        # steps between saved states on a tape; 0: none but the first
    Py_ssize_t extra[2]          # parameters that no driver reads, of a direction: first layer, any other
    double dropout
    Py_ssize_t parameter_count
    layer_t layer[2]             # the first, and any other

# Where things lie, in elements.
cdef struct layout_t:
    work_t thread[2]             # in what each thread has of the workspace: first layer, any other
    Py_ssize_t partial           # in the workspace, behind what the threads have
    Py_ssize_t mask
    Py_ssize_t between
    Py_ssize_t inner             # one layer's outputs, as they go to the next
    Py_ssize_t work              # size of the workspace
    Py_ssize_t starts_h, starts_c, gates, pre_h, cells, fed  # in a direction's piece of the tape
    Py_ssize_t direction         # size of this piece
    Py_ssize_t part              # numbers, or tangents: outputs of the inner layers, then the directions
    Py_ssize_t tape              # size of the tape

# One pass through a network.
cdef struct call_t:
    int driver
    bint backward                # the pass; else forward
    bint taped                   # forward leaves a record
    bint whole_packed            # packed weights are there for backward, too
    int n_threads
    sequences_t seqs
    run_t run                    # with arrays of all layers and directions: (L * D, N, H) and the like
    void *tape
    layout_t layout

cdef inline int driver_of(const stack_t *stack, bint more) noexcept nogil:
    """The driver of a call. more: it asks for tangents, gates or rows of biases."""
    return GENERAL if stack.general or more else DEFAULT


cdef void describe(stack_t *stack, const lstm_kernels_s *s, const lstm_kernels_d *d) noexcept nogil
cdef void shape_call(
    const stack_t *stack, call_t *call, Py_ssize_t batch, Py_ssize_t time, bint alone) noexcept nogil
cdef void lay_out(const stack_t *stack, call_t *call) noexcept nogil
cdef Py_ssize_t packed_size(const stack_t *stack, int driver, bint whole) noexcept nogil
cdef void pack_stack(
    const stack_t *stack, int driver, bint whole, bint backward, const void *parameters,
    void *packed) noexcept nogil
cdef void stack_forward(const stack_t *stack, const call_t *call) noexcept nogil
cdef void stack_backward(const stack_t *stack, const call_t *call, Py_ssize_t i) noexcept nogil
cdef void add_gradient(
    const stack_t *stack, const call_t *call, Py_ssize_t i, void *gradient) noexcept nogil
cdef Py_ssize_t step_work(const stack_t *stack, const sequences_t *seqs) noexcept nogil
cdef void stack_step(
    const stack_t *stack, const sequences_t *seqs, const void *packed, bint whole, const void *x,
    Py_ssize_t ldx, const void *h_prev, const void *c_prev, void *h, void *c, const void *bias_rows,
    void *work) noexcept nogil

cdef inline Py_ssize_t itemsize(const stack_t *stack) noexcept nogil:
    return sizeof(double) if stack.is_double else sizeof(float)


cdef inline char *beyond(const stack_t *stack, const void *array, Py_ssize_t elements) noexcept nogil:
    """Where an array goes on after so many elements; NULL stays NULL."""
    return NULL if array == NULL else <char*>array + elements * itemsize(stack)
