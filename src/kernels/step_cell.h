/* The cell of the fused steps, on pre-activations that a product has just left in a scratch. Read by kernels_impl.h
 * and bfloat16_impl.h after vectors.h. */

/* CALL with the cell's activation as the constant ACT. */
#define FOR_ACT(CALL)                                        \
    {                                                        \
        if (cell->cell_activation == LSTM_ACT_TANH) {        \
            enum { ACT = LSTM_ACT_TANH };                    \
            CALL;                                            \
        } else {                                             \
            enum { ACT = LSTM_ACT_IDENTITY };                \
            CALL;                                            \
        }                                                    \
    }

/* The cell on `count` pieces of n units. Their pre-activations lie in `scratch`, `stride` from gate to gate and ld from
 * piece to piece; what else they have is `apart` from that of the next. First the gates of all, then their cells: what
 * waits for nothing goes side by side. stream: gates go past the caches, if their lines are whole. */
INLINE void FN(step_cell)(const int act, ptrdiff_t count, ptrdiff_t n, ptrdiff_t H, REAL *scratch,
                          ptrdiff_t stride, ptrdiff_t ld, ptrdiff_t apart, const REAL *c_prev, REAL *c,
                          REAL *h, REAL *gates, ptrdiff_t gates_apart, int stream) {
    stream = stream && gates && n == LANES &&
             ((uintptr_t)gates | (uintptr_t)(H * (ptrdiff_t)sizeof(REAL))) % VEC_BYTES == 0;
    for (ptrdiff_t r = 0; r < count; r++) {
        REAL *pre = scratch + r * ld;
        const FN(gates) a = FN(activate)(FN(load_gates)(pre, stride, n));
        FN(store_gates)(pre, stride, n, a);
        if (stream) {
            REAL *const to = gates + r * gates_apart;
            STREAM(to, a.i);
            STREAM(to + H, a.f);
            STREAM(to + 2 * H, a.g);
            STREAM(to + 3 * H, a.o);
        } else if (gates)
            FN(store_gates)(gates + r * gates_apart, H, n, a);
    }
    for (ptrdiff_t r = 0; r < count; r++) {
        VEC c_t, h_t;
        FN(cell_state)(act, FN(load_gates)(scratch + r * ld, stride, n), LOADN(c_prev + r * apart, n), &c_t,
                       &h_t);
        STOREN(c + r * apart, c_t, n);
        STOREN(h + r * apart, h_t, n);
    }
}
