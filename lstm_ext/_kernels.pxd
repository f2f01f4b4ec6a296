# The kernel tables, for the other extensions of this package. Private: not shipped.

cdef extern from "kernels.h" nogil:
    ctypedef struct lstm_cell:
        int cell_activation

    enum:
        LSTM_ACT_TANH
        LSTM_ACT_IDENTITY

    # What each function does stands in kernels_contract.h.
    ctypedef struct lstm_kernels_s:
        const char *name
        int lanes
        Py_ssize_t (*gate_columns)(Py_ssize_t) noexcept nogil
        void (*pack_gates)(Py_ssize_t, Py_ssize_t, const float*, float*) noexcept nogil
        Py_ssize_t (*packed_size)(Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*pack)(Py_ssize_t, Py_ssize_t, const float*, float*) noexcept nogil
        void (*project)(
            Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, Py_ssize_t, const float*, const float*,
            float*) noexcept nogil
        void (*product)(
            Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, Py_ssize_t, const float*, float*,
            int) noexcept nogil
        void (*weight_gradient)(
            Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, const float*, float*, float*) noexcept nogil
        void (*cell_forward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const float*, const float*, float*, float*,
            float*) noexcept nogil
        void (*cell_backward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const float*, const float*, const float*,
            const float*, float*, float*) noexcept nogil
        void (*cell_output)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const float*, const float*, float*,
            Py_ssize_t) noexcept nogil
        void (*step_forward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, float*, const float*, const float*, const float*,
            float*, float*, float*, int) noexcept nogil
        void (*sigmoid)(Py_ssize_t, const float*, float*) noexcept nogil
        void (*tanh)(Py_ssize_t, const float*, float*) noexcept nogil

    ctypedef struct lstm_kernels_d:
        const char *name
        int lanes
        Py_ssize_t (*gate_columns)(Py_ssize_t) noexcept nogil
        void (*pack_gates)(Py_ssize_t, Py_ssize_t, const double*, double*) noexcept nogil
        Py_ssize_t (*packed_size)(Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*pack)(Py_ssize_t, Py_ssize_t, const double*, double*) noexcept nogil
        void (*project)(
            Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, Py_ssize_t, const double*, const double*,
            double*) noexcept nogil
        void (*product)(
            Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, Py_ssize_t, const double*,
            double*, int) noexcept nogil
        void (*weight_gradient)(
            Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, const double*, double*,
            double*) noexcept nogil
        void (*cell_forward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const double*, const double*, double*, double*,
            double*) noexcept nogil
        void (*cell_backward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const double*, const double*, const double*,
            const double*, double*, double*) noexcept nogil
        void (*cell_output)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const double*, const double*, double*,
            Py_ssize_t) noexcept nogil
        void (*step_forward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, double*, const double*, const double*, const double*,
            double*, double*, double*, int) noexcept nogil
        void (*sigmoid)(Py_ssize_t, const double*, double*) noexcept nogil
        void (*tanh)(Py_ssize_t, const double*, double*) noexcept nogil

    const lstm_kernels_s *lstm_kernels_find_s(const char *name)
    const lstm_kernels_d *lstm_kernels_find_d(const char *name)

# The tables in force now. What was packed with one table is good for that table only.
cdef const lstm_kernels_s *table_s() noexcept nogil
cdef const lstm_kernels_d *table_d() noexcept nogil
