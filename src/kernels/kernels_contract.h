/* Read by kernels.h once for each REAL; see there.
 *
 * All matrices are row-major and dense unless a leading dimension `ld...` is named. No pointer may
 * alias another unless it says so. "pre" is a block of pre-activations: (rows, gate_columns(H)) in the
 * column order of the packed gates, which is the kernel's own; `gates` is always the plain order
 * (rows, 4H): i | f | g | o.
 *
 * Packed weights of the native kernels, panel after panel (`blas` keeps the matrices as they are):
 *
 *   pack_gates: a panel for each `lanes` units u, u + 1, ..., u + n - 1 (n = lanes, less in the last)
 *
 *              n columns   n columns   n columns   n columns   to whole vectors
 *            +-----------+-----------+-----------+-----------+------+
 *      k = 0 | i u..     | f u..     | g u..     | o u..     | 0    |   so that one row of `pre`, which has
 *          1 | i u..     | f u..     | g u..     | o u..     | 0    |   the same columns, holds all four
 *        ... |           |           |           |           |      |   gates of these units side by side
 *      K - 1 | i u..     | f u..     | g u..     | o u..     | 0    |
 *            +-----------+-----------+-----------+-----------+------+
 *
 *   pack: a panel for each 4 lanes columns j, j + 1, ... of b (depth, cols), as many rows as b
 *
 *              up to 4 vectors of columns, the last of them filled up with 0
 *            +-----------+-----------+-----------+-----------+
 *      k = 0 | b[0][j..] |           |           |           |
 *        ... |           |           |           |           |
 *  depth - 1 |           |           |           |           |
 *            +-----------+-----------+-----------+-----------+ */
typedef struct LSTM_KERNELS {
    const char *name; /* "avx512", "avx2", "baseline", "blas" */
    int lanes;        /* REALs in a vector; 1 for blas */
    int tile_rows;    /* rows of a product that fewer cost as much as; 1 where each row costs its share */

    /* ---- products: they know a layout, and nothing of gates ---- */

    /* Columns of `pre` for H units: 4H, plus the kernel's padding. */
    ptrdiff_t (*gate_columns)(ptrdiff_t H);

    /* Sizes, in REALs, go through sizes.h: too large for this machine is LSTM_TOO_LARGE.
     * REALs that pack_gates() fills. */
    ptrdiff_t (*gates_size)(ptrdiff_t H, ptrdiff_t K);

    /* weight (4H, K) -> panels, for x_t or h_prev (K columns) times weight^T. Padding is filled with 0. */
    void (*pack_gates)(ptrdiff_t H, ptrdiff_t K, const REAL *weight, REAL *panels);

    /* bias (4H,) -> one row of `pre` (gate_columns(H),). Padding is filled with 0. */
    void (*pack_bias)(ptrdiff_t H, const REAL *bias, REAL *row);

    /* REALs that pack() fills for a (depth, cols) matrix. */
    ptrdiff_t (*packed_size)(ptrdiff_t depth, ptrdiff_t cols);

    /* b (depth, cols) -> panels. */
    void (*pack)(ptrdiff_t depth, ptrdiff_t cols, const REAL *b, REAL *panels);

    /* pre = bias + a weight^T.   a (rows, K), leading dimension lda; panels from pack_gates,
     * bias from pack_bias; pre (rows, gate_columns(H)), filled. */
    void (*project)(ptrdiff_t rows, ptrdiff_t H, ptrdiff_t K, const REAL *a, ptrdiff_t lda,
                    const REAL *panels, const REAL *bias, REAL *pre);

    /* c = a b.   a (rows, depth), leading dimension lda; panels from pack(); c (rows, cols), filled. */
    void (*product)(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t cols, const REAL *a, ptrdiff_t lda,
                    const REAL *panels, REAL *c, lstm_hints hints);

    /* REALs of scratch that weight_gradient() needs; it grows with rows. */
    ptrdiff_t (*gradient_scratch)(ptrdiff_t rows, ptrdiff_t M, ptrdiff_t cols);

    /* dweight += dgates^T xh.   dgates (rows, M); xh (rows, cols); dweight (M, cols), added to.
     * cols is a multiple of `lanes`: the caller pads xh. */
    void (*weight_gradient)(ptrdiff_t rows, ptrdiff_t M, ptrdiff_t cols, const REAL *dgates,
                            const REAL *xh, REAL *dweight, REAL *scratch);

    /* sums (cols,) += the sum of the rows of a (rows, cols). */
    void (*column_sums)(ptrdiff_t rows, ptrdiff_t cols, const REAL *a, REAL *sums);

    /* ---- the cell: pointwise arithmetic on hidden units ---- */

    /* One step from plain pre-activations.
     *   i, f, o = sigma(pre_i, pre_f, pre_o)   g = tanh(pre_g)
     *   c = f c_prev + i g                     h = o act(c)
     * pre (rows, 4H) in plain gate order; c_prev (rows, H); c (rows, H), filled, may be c_prev;
     * h (rows, H), filled; gates (rows, 4H), filled with the activated gates, may be NULL, may be pre. */
    void (*cell_forward)(const lstm_cell *cell, ptrdiff_t rows, ptrdiff_t H, const REAL *pre,
                         const REAL *c_prev, REAL *c, REAL *h, REAL *gates);

    /* One step back, from the gradients of h_t (dh) and c_t (dc).
     *   do = dh act(c)        dc += dh o act'(c)
     *   di = dc g    df = dc c_prev    dg = dc i    dgates = (di, df, dg, do) times the derivative
     *   of sigma or tanh at the gate's value                    dc = dc f   (the gradient of c_prev)
     * gates (rows, 4H) activated; c, c_prev, dh (rows, H); dc (rows, H), read and replaced;
     * dgates (rows, 4H), filled, may be gates; h (rows, H) with leading dimension ldh, filled with that
     * of the forward step, or NULL. */
    void (*cell_backward)(const lstm_cell *cell, ptrdiff_t rows, ptrdiff_t H, const REAL *gates,
                          const REAL *c, const REAL *c_prev, const REAL *dh, REAL *dc, REAL *dgates,
                          REAL *h, ptrdiff_t ldh);

    /* h = o act(c), with the very bits of the forward step.
     * gates (rows, 4H); c (rows, H); h (rows, H) with leading dimension ldh, filled. */
    void (*cell_output)(const lstm_cell *cell, ptrdiff_t rows, ptrdiff_t H, const REAL *gates,
                        const REAL *c, REAL *h, ptrdiff_t ldh);

    /* ---- product and cell in one: the step that the time goes into ---- */

    /* cell_forward(pre + h_prev weight_hh^T). h_prev (rows, H); panels from pack_gates;
     * pre (rows, gate_columns(H)), may be overwritten; `ordered` goes without saying; the rest as in
     * cell_forward. */
    void (*step_forward)(const lstm_cell *cell, ptrdiff_t rows, ptrdiff_t H, REAL *pre,
                         const REAL *h_prev, const REAL *panels, const REAL *c_prev, REAL *c, REAL *h,
                         REAL *gates, lstm_hints hints);

    /* ---- the general cell: every option, and tangents; equations in general_cell.h ---- */

    /* One step of `rows` rows. tangent: NULL, or the arrays of the tangents, for the step and its
     * derivative along them. */
    void (*general_forward)(const lstm_cell *cell, ptrdiff_t rows, ptrdiff_t H, const lstm_step *value,
                            const lstm_step *tangent);

    /* One step back, from pre_x = what forward left in `pre` (pre_h and bias NULL), or with layer_norm
     * from the pre_x, pre_h and bias of forward; with tangents, the derivative of that along them. */
    void (*general_backward)(const lstm_cell *cell, ptrdiff_t rows, ptrdiff_t H, const lstm_step *value,
                             const lstm_step *tangent);

    /* ---- the activations by themselves, y = f(x) for n values; y may be x ---- */
    void (*sigmoid)(ptrdiff_t n, const REAL *x, REAL *y);
    void (*tanh)(ptrdiff_t n, const REAL *x, REAL *y);
} LSTM_KERNELS;
