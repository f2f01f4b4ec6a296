# The kernel tables, for the other extensions of this package. Private: not shipped.

cdef extern from "kernels.h" nogil:
    ctypedef struct lstm_activation:
        int kind
        double alpha
        double beta

    ctypedef struct lstm_cell:
        int cell_activation
        lstm_activation gate
        lstm_activation candidate
        lstm_activation output
        int standard
        int coupled
        int static_input_gate
        int layer_norm
        int gate_clipped
        int cell_clipped
        double gate_clip
        double cell_clip

    enum:
        LSTM_ACT_TANH
        LSTM_ACT_IDENTITY
        LSTM_ACT_SIGMOID
        LSTM_ACT_AFFINE
        LSTM_ACT_SCALED_TANH
        LSTM_ACT_CLIPPED
        LSTM_ACT_RAMP
        LSTM_ACT_LEAKY
        LSTM_ACT_THRESHOLDED
        LSTM_ACT_ELU
        LSTM_ACT_SOFTSIGN
        LSTM_ACT_SOFTPLUS
        LSTM_ACT_EXPONENTIAL
        LSTM_ACT_SILU
        LSTM_ACT_GELU
        LSTM_ACT_MISH
        LSTM_ACT_HARD_SILU

    ctypedef struct lstm_hints:
        int from_end
        int ordered
        int stream

    ctypedef struct lstm_step:
        Py_ssize_t bias_stride
        const void *pre_x
        const void *pre_h
        const void *bias
        const void *c_prev
        const void *h_prev
        const void *zone_c
        const void *zone_h
        const void *peephole
        const void *norm_ih
        const void *norm_hh
        const void *norm_c
        const void *norm_c_bias
        const void *dh
        void *scratch
        void *c
        void *h
        void *pre
        void *gates
        void *dc
        void *dpre_x
        void *dpre_h
        void *dh_prev
        void *dbias
        void *dpeephole
        void *dnorm_ih
        void *dnorm_hh
        void *dnorm_c
        void *dnorm_c_bias

    # What each function does stands in kernels_contract.h.
    ctypedef struct lstm_kernels_s:
        const char *name
        int lanes
        int tile_rows
        Py_ssize_t (*gate_columns)(Py_ssize_t) noexcept nogil
        Py_ssize_t (*gates_size)(Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*pack_gates)(Py_ssize_t, Py_ssize_t, const float*, float*) noexcept nogil
        void (*pack_bias)(Py_ssize_t, const float*, float*) noexcept nogil
        Py_ssize_t (*packed_size)(Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*pack)(Py_ssize_t, Py_ssize_t, const float*, float*) noexcept nogil
        void (*project)(
            Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, Py_ssize_t, const float*, const float*,
            float*) noexcept nogil
        void (*product)(
            Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, Py_ssize_t, const float*, float*,
            lstm_hints) noexcept nogil
        Py_ssize_t (*gradient_scratch)(Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*weight_gradient)(
            Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, const float*, float*, float*) noexcept nogil
        void (*column_sums)(Py_ssize_t, Py_ssize_t, const float*, float*) noexcept nogil
        void (*cell_forward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const float*, const float*, float*, float*,
            float*) noexcept nogil
        void (*cell_backward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const float*, const float*, const float*,
            const float*, float*, float*, float*, Py_ssize_t) noexcept nogil
        void (*cell_output)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const float*, const float*, float*,
            Py_ssize_t) noexcept nogil
        void (*step_forward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, float*, const float*, const float*, const float*,
            float*, float*, float*, lstm_hints) noexcept nogil
        void (*general_forward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const lstm_step*,
            const lstm_step*) noexcept nogil
        void (*general_backward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const lstm_step*,
            const lstm_step*) noexcept nogil
        void (*sigmoid)(Py_ssize_t, const float*, float*) noexcept nogil
        void (*tanh)(Py_ssize_t, const float*, float*) noexcept nogil

    ctypedef struct lstm_kernels_d:
        const char *name
        int lanes
        int tile_rows
        Py_ssize_t (*gate_columns)(Py_ssize_t) noexcept nogil
        Py_ssize_t (*gates_size)(Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*pack_gates)(Py_ssize_t, Py_ssize_t, const double*, double*) noexcept nogil
        void (*pack_bias)(Py_ssize_t, const double*, double*) noexcept nogil
        Py_ssize_t (*packed_size)(Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*pack)(Py_ssize_t, Py_ssize_t, const double*, double*) noexcept nogil
        void (*project)(
            Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, Py_ssize_t, const double*, const double*,
            double*) noexcept nogil
        void (*product)(
            Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, Py_ssize_t, const double*,
            double*, lstm_hints) noexcept nogil
        Py_ssize_t (*gradient_scratch)(Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil
        void (*weight_gradient)(
            Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, const double*, double*,
            double*) noexcept nogil
        void (*column_sums)(Py_ssize_t, Py_ssize_t, const double*, double*) noexcept nogil
        void (*cell_forward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const double*, const double*, double*, double*,
            double*) noexcept nogil
        void (*cell_backward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const double*, const double*, const double*,
            const double*, double*, double*, double*, Py_ssize_t) noexcept nogil
        void (*cell_output)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const double*, const double*, double*,
            Py_ssize_t) noexcept nogil
        void (*step_forward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, double*, const double*, const double*, const double*,
            double*, double*, double*, lstm_hints) noexcept nogil
        void (*general_forward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const lstm_step*,
            const lstm_step*) noexcept nogil
        void (*general_backward)(
            const lstm_cell*, Py_ssize_t, Py_ssize_t, const lstm_step*,
            const lstm_step*) noexcept nogil
        void (*sigmoid)(Py_ssize_t, const double*, double*) noexcept nogil
        void (*tanh)(Py_ssize_t, const double*, double*) noexcept nogil

    const lstm_kernels_s *lstm_kernels_find_s(const char *name)
    const lstm_kernels_d *lstm_kernels_find_d(const char *name)
    ctypedef struct lstm_caches:
        Py_ssize_t l1d
        Py_ssize_t l2
        Py_ssize_t l3
        Py_ssize_t stream
    lstm_caches lstm_read_caches()
    const lstm_kernels_s *lstm_bfloat16_find(const char *name, int pieces)
    void lstm_bfloat16_table(
        const lstm_kernels_s *products, const lstm_kernels_s *rest, lstm_kernels_s *table)

cdef inline lstm_hints hint(bint from_end, bint ordered) noexcept nogil:
    cdef lstm_hints hints
    hints.from_end, hints.ordered, hints.stream = from_end, ordered, False
    return hints


# An array of at least so many bytes that is not read soon is written past the caches.
cdef Py_ssize_t stream_bytes

# The tables in force now. What was packed with one table is good for that table only.
cdef const lstm_kernels_s *table_s() noexcept nogil
cdef const lstm_kernels_d *table_d() noexcept nogil
# For float32 with products in bfloat16 of 1, 2 or 3 pieces, 0 for float32: what an engine's `pieces` say.
cdef const lstm_kernels_s *table_of(int pieces) noexcept nogil
