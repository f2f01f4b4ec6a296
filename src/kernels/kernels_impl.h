/* The one implementation of kernels_contract.h, for any vec_*.h. A kernels_<name>.c includes it once
 * per dtype with REAL, T (s or d), REAL_IS_FLOAT and KERNEL_NAME set.
 *
 * Packed gates: for each block of LANES hidden units a panel [k][gate][LANES], so that four
 * accumulators of a row hold the four gates of the same units. The last, smaller block of n units
 * packs its 4 n columns without gaps: [k][gate * n + unit], padded to whole vectors.
 * Packed columns (backward): panels of four vectors of columns [k][4 * LANES]; the last has as many
 * vectors as it needs. */

#include "vectors.h"

#include "general.h"

extern ptrdiff_t lstm_far_bytes; /* caches.c */

/* ---------------------------------------------------------------- layouts */

static ptrdiff_t FN(gate_columns)(ptrdiff_t H) {
    return H / LANES * PANEL + FN(vectors)(4 * (H % LANES)) * LANES;
}

static ptrdiff_t FN(gates_size)(ptrdiff_t H, ptrdiff_t K) {
    return lstm_times(K, FN(gate_columns)(H));
}

static void FN(pack_gates)(ptrdiff_t H, ptrdiff_t K, const REAL *weight, REAL *panels) {
    for (ptrdiff_t u = 0; u < H; u += LANES) {
        const ptrdiff_t n = FN(min)(LANES, H - u), width = FN(vectors)(4 * n) * LANES;
        /* a transpose: 16 columns at a time, so that what is written stays in L1 */
        for (ptrdiff_t k0 = 0; k0 < K; k0 += 16) {
            const ptrdiff_t depth = FN(min)(16, K - k0);
            for (ptrdiff_t column = 0; column < 4 * n; column++) {
                const REAL *w = weight + (column / n * H + u + column % n) * K + k0;
                for (ptrdiff_t k = 0; k < depth; k++) panels[k * width + column] = w[k];
            }
            for (ptrdiff_t k = 0; k < depth; k++)
                for (ptrdiff_t j = 4 * n; j < width; j++) panels[k * width + j] = 0;
            panels += depth * width;
        }
    }
}

static void FN(pack_bias)(ptrdiff_t H, const REAL *bias, REAL *row) { FN(pack_gates)(H, 1, bias, row); }

static ptrdiff_t FN(packed_size)(ptrdiff_t depth, ptrdiff_t cols) {
    return lstm_times(depth, FN(vectors)(cols) * LANES);
}

static void FN(pack)(ptrdiff_t depth, ptrdiff_t cols, const REAL *b, REAL *panels) {
    for (ptrdiff_t j0 = 0; j0 < cols; j0 += PANEL) {
        const ptrdiff_t n = FN(min)(PANEL, cols - j0), width = FN(vectors)(n) * LANES;
        for (ptrdiff_t k = 0; k < depth; k++, panels += width) {
            for (ptrdiff_t j = 0; j < n; j++) panels[j] = b[k * cols + j0 + j];
            for (ptrdiff_t j = n; j < width; j++) panels[j] = 0;
        }
    }
}

/* ---------------------------------------------------------------- products */

/* acc[r][v] += sum over k of a[r][k] panel[k][v], k in order: the one inner loop of every product
 * with packed weights. nr <= TILE_ROWS rows, nv vectors of one panel (or 4 + 4 of two: `second`). */
INLINE void FN(tile)(const int nr, const int nv, ptrdiff_t depth, const REAL *a, ptrdiff_t lda,
                     const REAL *panel, VEC acc[][4]) {
    for (ptrdiff_t k = 0; k < depth; k++, panel += nv * LANES) {
        VEC b[4];
        UNROLL for (int v = 0; v < nv; v++) b[v] = LOAD(panel + v * LANES);
        UNROLL for (int r = 0; r < nr; r++) {
            const VEC x = SET1(a[r * lda + k]);
            UNROLL for (int v = 0; v < nv; v++) acc[r][v] = FMA(x, b[v], acc[r][v]);
        }
    }
}

/* One row times two panels of four vectors: eight chains hide the latency of the multiply-add. */
INLINE void FN(tile_pair)(ptrdiff_t depth, const REAL *a, const REAL *panel, const REAL *second,
                          VEC acc[][4]) {
    for (ptrdiff_t k = 0; k < depth; k++, panel += PANEL, second += PANEL) {
        const VEC x = SET1(a[k]);
        UNROLL for (int v = 0; v < 4; v++) acc[0][v] = FMA(x, LOAD(panel + v * LANES), acc[0][v]);
        UNROLL for (int v = 0; v < 4; v++) acc[1][v] = FMA(x, LOAD(second + v * LANES), acc[1][v]);
    }
}

/* Cache lines that are asked for while a tile computes. */
typedef struct FN(lines) {
    const char *first;
    ptrdiff_t count;
} FN(lines);

/* The share of a tile of nr rows in asking for the n REALs at p. */
INLINE FN(lines) FN(share)(const REAL *p, ptrdiff_t n, ptrdiff_t r, ptrdiff_t nr, ptrdiff_t rows) {
    const ptrdiff_t all = n * (ptrdiff_t)sizeof(REAL) / 64, begin = all * r / rows;
    const FN(lines) lines = {(const char *)p + 64 * begin, all * (r + nr) / rows - begin};
    return lines;
}

/* tile(), with a few lines asked for every 4 k: all of them at once would fill the buffers that a core has for
 * lines on their way, and the products would wait. */
INLINE void FN(tile_asking)(const int nr, const int nv, ptrdiff_t depth, const REAL *a, ptrdiff_t lda,
                            const REAL *panel, VEC acc[][4], FN(lines) lines) {
    const ptrdiff_t each = (4 * lines.count + depth - 1) / depth;
    const char *line = lines.first, *const end = line + 64 * lines.count;
    ptrdiff_t k = 0;
    for (; k + 4 <= depth; k += 4, a += 4, panel += 4 * nv * LANES) {
        for (ptrdiff_t l = 0; l < each && line < end; l++, line += 64) __builtin_prefetch(line, 0, 2);
        FN(tile)(nr, nv, 4, a, lda, panel, acc);
    }
    FN(tile)(nr, nv, depth - k, a, lda, panel, acc);
}

/* c = init + a b for a tile of nr rows and the n columns (nv vectors) of one panel; init may be c, or NULL
 * for 0, and its rows lie ldi apart */
INLINE void FN(product_tile)(const int nr, const int nv, ptrdiff_t n, ptrdiff_t depth, const REAL *a,
                             ptrdiff_t lda, const REAL *panel, const REAL *init, ptrdiff_t ldi, REAL *c,
                             ptrdiff_t ldc, FN(lines) lines) {
    VEC acc[MOST_ROWS][4];
    UNROLL for (int r = 0; r < nr; r++)
        UNROLL for (int v = 0; v < nv; v++) acc[r][v] = init ? (VEC)LOAD(init + r * ldi + v * LANES) : SET1((REAL)0);
    if (nv == 4 && lines.count) /* narrow panels are few: what they would ask for, nobody misses */
        FN(tile_asking)(nr, nv, depth, a, lda, panel, acc, lines);
    else
        FN(tile)(nr, nv, depth, a, lda, panel, acc);
    UNROLL for (int r = 0; r < nr; r++) {
        UNROLL for (int v = 0; v < nv - 1; v++) STORE(c + r * ldc + v * LANES, acc[r][v]);
        STOREN(c + r * ldc + (nv - 1) * LANES, acc[r][nv - 1], n - (nv - 1) * LANES);
    }
}

/* A panel is used in pieces of so many k, each by all rows before the next: what the rows share stays near. 64 to
 * 512 took the same time on CPUs with 32 and 48 KB of L1 and 1 and 2 MB of L2. */
#define PIECE 256

/* How much of `depth` goes in whole pieces before the last, which is at most one and a half. */
INLINE ptrdiff_t FN(whole_pieces)(ptrdiff_t rows, ptrdiff_t depth) {
    return rows <= TILE_ROWS || depth <= PIECE ? 0 : (depth - PIECE / 2 - 1) / PIECE * PIECE;
}

/* c = init + a b for all rows and one panel, each sum in the order of k. next: what is used after this
 * panel, next_size REALs of it; NULL when all is near. */
static void FN(panel_product)(ptrdiff_t rows, int nv, ptrdiff_t n, ptrdiff_t depth, const REAL *a,
                              ptrdiff_t lda, const REAL *panel, const REAL *init, ptrdiff_t ldi, REAL *c,
                              ptrdiff_t ldc, const REAL *next, ptrdiff_t next_size) {
    const ptrdiff_t last = FN(whole_pieces)(rows, depth);
    const FN(lines) none = {NULL, 0};
    for (ptrdiff_t k = 0; k < depth; init = c, ldi = ldc) {
        const ptrdiff_t length = k < last ? PIECE : depth - k;
        const REAL *const piece = panel + k * nv * LANES;
        FOR_ROW_TILES(rows, ROWS_OF(nv), r, nr) {
            const FN(lines) lines = !next      ? none
                                    : k < last ? FN(share)(piece + length * nv * LANES, length * nv * LANES, r, nr, rows)
                                               : FN(share)(next, next_size, r, nr, rows);
#define CALL(NR, NV)                                                                                   \
    FN(product_tile)(NR, NV, n, length, a + r * lda + k, lda, piece, init ? init + r * ldi : NULL, ldi, \
                     c + r * ldc, ldc, lines)
            FOR_TILE(nr, nv, CALL)
#undef CALL
        }
        k += length;
    }
}

/* Where a walk over panels of n REALs goes after `panel`, if they are far. */
INLINE const REAL *FN(panel_after)(const REAL *panel, ptrdiff_t n, ptrdiff_t rows, int from_end, int more,
                                   ptrdiff_t all) {
    if (rows <= 2 * TILE_ROWS || all * (ptrdiff_t)sizeof(REAL) <= lstm_far_bytes) return NULL;
    return !more ? panel : from_end ? panel - n : panel + n;
}

/* One row: the depth is dealt to several chains, to hide the latency of the multiply-add. */
INLINE void FN(product_row)(const int nv, const int chains, ptrdiff_t n, ptrdiff_t depth, const REAL *a,
                            const REAL *panel, REAL *c) {
    VEC acc[4][4];
    ptrdiff_t k = 0;
    UNROLL for (int q = 0; q < chains; q++)
        UNROLL for (int v = 0; v < nv; v++) acc[q][v] = SET1((REAL)0);
    for (; k + chains <= depth; k += chains)
        UNROLL for (int q = 0; q < chains; q++, panel += nv * LANES) {
            const VEC x = SET1(a[k + q]);
            UNROLL for (int v = 0; v < nv; v++) acc[q][v] = FMA(x, LOAD(panel + v * LANES), acc[q][v]);
        }
    for (; k < depth; k++, panel += nv * LANES)
        UNROLL for (int v = 0; v < nv; v++)
            acc[0][v] = FMA(SET1(a[k]), LOAD(panel + v * LANES), acc[0][v]);
    UNROLL for (int q = 1; q < chains; q++)
        UNROLL for (int v = 0; v < nv; v++) acc[0][v] += acc[q][v];
    UNROLL for (int v = 0; v < nv - 1; v++) STORE(c + v * LANES, acc[0][v]);
    STOREN(c + (nv - 1) * LANES, acc[0][nv - 1], n - (nv - 1) * LANES);
}

static void FN(project)(ptrdiff_t rows, ptrdiff_t H, ptrdiff_t K, const REAL *a, ptrdiff_t lda,
                        const REAL *panels, const REAL *bias, REAL *pre) {
    const ptrdiff_t cols = FN(gate_columns)(H);
    for (ptrdiff_t j = 0; j < cols; j += PANEL) {
        const ptrdiff_t n = FN(min)(PANEL, cols - j);
        const int nv = (int)FN(vectors)(n);
        FN(panel_product)(rows, nv, n, K, a, lda, panels + K * j, bias + j, 0, pre + j, cols,
                          FN(panel_after)(panels + K * j, K * PANEL, rows, 0, j + PANEL < cols, K * cols),
                          FN(min)(K, PIECE) * PANEL);
    }
}

/* c = init + a b for one row, two panels at a time, each sum in the order of k; init may be c, or NULL for 0. */
static void FN(product_ordered)(ptrdiff_t depth, ptrdiff_t cols, const REAL *a, const REAL *panels,
                                const REAL *init, REAL *c, int from_end) {
    const ptrdiff_t pairs = cols / (2 * PANEL), rest = 2 * PANEL * pairs;
    const FN(lines) none = {NULL, 0};
    for (ptrdiff_t i = 0; i < pairs; i++) {
        const ptrdiff_t j = (from_end ? pairs - 1 - i : i) * 2 * PANEL;
        VEC acc[2][4];
        UNROLL for (int q = 0; q < 2; q++)
            UNROLL for (int v = 0; v < 4; v++)
                acc[q][v] = init ? (VEC)LOAD(init + j + q * PANEL + v * LANES) : SET1((REAL)0);
        FN(tile_pair)(depth, a, panels + depth * j, panels + depth * (j + PANEL), acc);
        UNROLL for (int q = 0; q < 2; q++)
            UNROLL for (int v = 0; v < 4; v++) STORE(c + j + q * PANEL + v * LANES, acc[q][v]);
    }
    for (ptrdiff_t j = rest; j < cols; j += PANEL) {
        const ptrdiff_t n = FN(min)(PANEL, cols - j);
        const int nv = (int)FN(vectors)(n);
#define CALL(NR, NV) FN(product_tile)(NR, NV, n, depth, a, depth, panels + depth * j, init ? init + j : NULL, 0, c + j, cols, none)
        switch (nv) {
        case 1: CALL(1, 1); break;
        case 2: CALL(1, 2); break;
        case 3: CALL(1, 3); break;
        default: CALL(1, 4); break;
        }
#undef CALL
    }
}

static void FN(product)(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t cols, const REAL *a, ptrdiff_t lda,
                        const REAL *panels, REAL *c, lstm_hints hints) {
    const ptrdiff_t count = (cols + PANEL - 1) / PANEL;
    if (rows == 1 && hints.ordered) {
        FN(product_ordered)(depth, cols, a, panels, NULL, c, hints.from_end);
        return;
    }
    for (ptrdiff_t i = 0; i < count; i++) {
        const ptrdiff_t j = (hints.from_end ? count - 1 - i : i) * PANEL, n = FN(min)(PANEL, cols - j);
        const REAL *panel = panels + depth * j;
        const int nv = (int)FN(vectors)(n);
        if (rows == 1) {
            switch (nv) {
            case 1: FN(product_row)(1, 4, n, depth, a, panel, c + j); break;
            case 2: FN(product_row)(2, 4, n, depth, a, panel, c + j); break;
            case 3: FN(product_row)(3, 2, n, depth, a, panel, c + j); break;
            default: FN(product_row)(4, 2, n, depth, a, panel, c + j); break;
            }
            continue;
        }
        FN(panel_product)(rows, nv, n, depth, a, lda, panel, NULL, 0, c + j, cols,
                          FN(panel_after)(panel, depth * PANEL, rows, hints.from_end, i + 1 < count, depth * cols),
                          FN(min)(depth, PIECE) * PANEL);
    }
}

/* dweight[nr rows][nv vectors] += a^T b, over `rows` rows of a (nr numbers) and b (nv vectors). */
INLINE void FN(gradient_tile)(const int nr, const int nv, ptrdiff_t rows, const REAL *a, ptrdiff_t lda,
                              const REAL *b, ptrdiff_t ldb, REAL *dweight, ptrdiff_t ld) {
    VEC acc[MOST_ROWS][4];
    /* dweight may be as far away as main memory: it is on its way while the sums are made */
    UNROLL for (int m = 0; m < nr; m++)
        UNROLL for (int v = 0; v < nv; v++) {
            __builtin_prefetch(dweight + m * ld + v * LANES, 1);
            acc[m][v] = SET1((REAL)0);
        }
    for (ptrdiff_t r = 0; r < rows; r++, a += lda, b += ldb) {
        VEC x[4];
        UNROLL for (int v = 0; v < nv; v++) x[v] = LOAD(b + v * LANES);
        UNROLL for (int m = 0; m < nr; m++) {
            const VEC d = SET1(a[m]);
            UNROLL for (int v = 0; v < nv; v++) acc[m][v] = FMA(d, x[v], acc[m][v]);
        }
    }
    UNROLL for (int m = 0; m < nr; m++)
        UNROLL for (int v = 0; v < nv; v++) {
            REAL *p = dweight + m * ld + v * LANES;
            STORE(p, LOAD(p) + acc[m][v]);
        }
}

static ptrdiff_t FN(gradient_scratch)(ptrdiff_t rows, ptrdiff_t M, ptrdiff_t cols) {
    (void)cols;
    return lstm_plus(lstm_times(rows, M + PANEL), LANES);
}

/* Rows of dgates a page or more apart: many rows of one tile would fall on few cache sets, each on a page of
 * its own, so both factors are copied into the order in which the tiles read them. */
static void FN(weight_gradient)(ptrdiff_t rows, ptrdiff_t M, ptrdiff_t cols, const REAL *dgates,
                                const REAL *xh, REAL *dweight, REAL *scratch) {
    REAL *const panel = scratch, *const tiles = scratch + rows * PANEL;
    const int copied = M * sizeof(REAL) >= 4096;
    ptrdiff_t height = 0; /* of the tiles as they are copied */
    for (ptrdiff_t j = 0; j < cols; j += PANEL) {
        const int nv = (int)(FN(min)(PANEL, cols - j) / LANES);
        if (copied && height != ROWS_OF(nv)) {
            height = ROWS_OF(nv);
            FOR_ROW_TILES(M, height, m, nm) /* whole vectors: what is too much, the next writes over */
                for (ptrdiff_t r = 0; r < rows; r++)
                    for (ptrdiff_t i = 0; i < nm; i += LANES)
                        STORE(tiles + m * rows + r * nm + i,
                              FN(loadn)(dgates + r * M + m + i, FN(min)(LANES, M - m - i)));
        }
        height = ROWS_OF(nv);
        if (copied)
            for (ptrdiff_t r = 0; r < rows; r++)
                for (int v = 0; v < nv; v++)
                    STORE(panel + (r * nv + v) * LANES, LOAD(xh + r * cols + j + v * LANES));
        const REAL *b = copied ? panel : xh + j;
        const ptrdiff_t ldb = copied ? nv * LANES : cols;
        FOR_ROW_TILES(M, height, m, nm) {
            const REAL *a = copied ? tiles + m * rows : dgates + m;
            const ptrdiff_t lda = copied ? nm : M;
#define CALL(NR, NV) FN(gradient_tile)(NR, NV, rows, a, lda, b, ldb, dweight + m * cols + j, cols)
            FOR_TILE(nm, nv, CALL)
#undef CALL
        }
    }
}

/* Four vectors of columns at a time: rows of a lie far apart, and a cache line is used whole. */
static void FN(column_sums)(ptrdiff_t rows, ptrdiff_t cols, const REAL *a, REAL *sums) {
    ptrdiff_t j = 0;
    for (; j + PANEL <= cols; j += PANEL) {
        VEC acc[4];
        UNROLL for (int v = 0; v < 4; v++) acc[v] = SET1((REAL)0);
        for (ptrdiff_t r = 0; r < rows; r++)
            UNROLL for (int v = 0; v < 4; v++) acc[v] += LOAD(a + r * cols + j + v * LANES);
        UNROLL for (int v = 0; v < 4; v++) STORE(sums + j + v * LANES, LOAD(sums + j + v * LANES) + acc[v]);
    }
    for (; j < cols; j++) {
        REAL sum = 0;
        for (ptrdiff_t r = 0; r < rows; r++) sum += a[r * cols + j];
        sums[j] += sum;
    }
}

/* ---------------------------------------------------------------- the cell, on rows */

/* n <= LANES units of one row: pre-activations `pre_stride` apart -> c, h, gates */
INLINE void FN(cell_units)(const int act, ptrdiff_t n, const REAL *pre, ptrdiff_t pre_stride,
                           const REAL *c_prev, REAL *c, REAL *h, REAL *gates, ptrdiff_t H) {
    VEC c_t, h_t;
    FN(gates) a = FN(cell_forward_vec)(act, FN(load_gates)(pre, pre_stride, n), LOADN(c_prev, n), &c_t, &h_t);
    STOREN(c, c_t, n);
    STOREN(h, h_t, n);
    if (gates) FN(store_gates)(gates, H, n, a);
}

/* Runs UNITS(n) for u = 0, LANES, ... < H, with n a constant except in the tail. */
#define FOR_UNITS(H, u, UNITS)                                    \
    do {                                                          \
        ptrdiff_t u = 0;                                          \
        for (; u + LANES <= (H); u += LANES) UNITS(LANES);        \
        if (u < (H)) UNITS((H) - u);                              \
    } while (0)

INLINE void FN(backward_units)(const int act, ptrdiff_t n, const REAL *gates, const REAL *c,
                               const REAL *c_prev, const REAL *dh, REAL *dc, REAL *dgates, ptrdiff_t H,
                               REAL *h) {
    VEC dc_t = LOADN(dc, n), h_t;
    FN(gates) d = FN(cell_backward_vec)(act, FN(load_gates)(gates, H, n), LOADN(c, n), LOADN(c_prev, n),
                                        LOADN(dh, n), &dc_t, &h_t);
    STOREN(dc, dc_t, n);
    FN(store_gates)(dgates, H, n, d);
    if (h) STOREN(h, h_t, n);
}

INLINE void FN(output_units)(const int act, ptrdiff_t n, const REAL *o, const REAL *c, REAL *h) {
    STOREN(h, LOADN(o, n) * FN(cell_act)(act, LOADN(c, n)), n);
}

/* The cell's options become compile-time constants here. */
#define UNITS_TANH(N) UNITS(LSTM_ACT_TANH, N)
#define UNITS_IDENTITY(N) UNITS(LSTM_ACT_IDENTITY, N)
#define FOR_CELL_ROWS                                                                        \
    if (cell->cell_activation == LSTM_ACT_TANH) {                                            \
        for (ptrdiff_t r = 0; r < rows; r++) FOR_UNITS(H, u, UNITS_TANH);                    \
    } else {                                                                                 \
        for (ptrdiff_t r = 0; r < rows; r++) FOR_UNITS(H, u, UNITS_IDENTITY);                \
    }

static void FN(cell_forward)(const lstm_cell *cell, ptrdiff_t rows, ptrdiff_t H, const REAL *pre,
                             const REAL *c_prev, REAL *c, REAL *h, REAL *gates) {
#define UNITS(ACT, N)                                                                                 \
    FN(cell_units)(ACT, N, pre + 4 * r * H + u, H, c_prev + r * H + u, c + r * H + u, h + r * H + u,  \
                   gates ? gates + 4 * r * H + u : NULL, H)
    FOR_CELL_ROWS
#undef UNITS
}

static void FN(cell_backward)(const lstm_cell *cell, ptrdiff_t rows, ptrdiff_t H, const REAL *gates,
                              const REAL *c, const REAL *c_prev, const REAL *dh, REAL *dc, REAL *dgates,
                              REAL *h, ptrdiff_t ldh) {
#define UNITS(ACT, N)                                                                                 \
    FN(backward_units)(ACT, N, gates + 4 * r * H + u, c + r * H + u, c_prev + r * H + u,              \
                       dh + r * H + u, dc + r * H + u, dgates + 4 * r * H + u, H,                     \
                       h ? h + r * ldh + u : NULL)
    FOR_CELL_ROWS
#undef UNITS
}

static void FN(cell_output)(const lstm_cell *cell, ptrdiff_t rows, ptrdiff_t H, const REAL *gates,
                            const REAL *c, REAL *h, ptrdiff_t ldh) {
#define UNITS(ACT, N) FN(output_units)(ACT, N, gates + (4 * r + 3) * H + u, c + r * H + u, h + r * ldh + u)
    FOR_CELL_ROWS
#undef UNITS
}

/* ---------------------------------------------------------------- the fused step */

#include "step_cell.h"

/* Rows between whose product and whose cell nothing leaves L1. */
#define GROUP ((ptrdiff_t)(6144 / (4 * VEC_BYTES)) / TILE_ROWS * TILE_ROWS)
/* One row: the pieces are its blocks of units. */
INLINE void FN(step_row)(const int act, ptrdiff_t H, REAL *pre, const REAL *h_prev, const REAL *panels,
                         const REAL *c_prev, REAL *c, REAL *h, REAL *gates, lstm_hints hints) {
    const ptrdiff_t blocks = H / LANES, u = blocks * LANES;
    FN(product_ordered)(H, FN(gate_columns)(H), h_prev, panels, pre, pre, hints.from_end);
    FN(step_cell)(act, blocks, LANES, H, pre, LANES, PANEL, LANES, c_prev, c, h, gates, LANES, 0);
    if (u < H)
        FN(step_cell)(act, 1, H - u, H, pre + 4 * u, H - u, PANEL, 0, c_prev + u, c + u, h + u,
                      gates ? gates + u : NULL, 0, 0);
}

/* One block of n units: the pieces are rows, a group at a time. `panel` is the block's, `next` that after it. */
INLINE void FN(step_block)(const int act, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t H, REAL *pre, ptrdiff_t ldp,
                           const REAL *h_prev, const REAL *panel, const REAL *next, const REAL *c_prev,
                           REAL *c, REAL *h, REAL *gates, int stream) {
    const int nv = (int)FN(vectors)(4 * n);
    const ptrdiff_t before = FN(whole_pieces)(rows, H), next_size = FN(min)(H, PIECE) * PANEL;
    const REAL *const last = panel + before * nv * LANES;
    REAL scratch[GROUP * PANEL];
    if (before)
        FN(panel_product)(rows, nv, nv * LANES, before, h_prev, H, panel, pre, ldp, pre, ldp,
                          next ? last : NULL, FN(min)(H - before, PIECE) * nv * LANES);
    for (ptrdiff_t r = 0; r < rows; r += GROUP) {
        const ptrdiff_t nr = FN(min)(GROUP, rows - r);
        FN(panel_product)(nr, nv, nv * LANES, H - before, h_prev + r * H + before, H, last, pre + r * ldp, ldp,
                          scratch, nv * LANES, next ? next + next_size * r / rows : NULL, next_size * nr / rows);
        FN(step_cell)(act, nr, n, H, scratch, n, nv * LANES, H, c_prev + r * H, c + r * H, h + r * H,
                      gates ? gates + 4 * r * H : NULL, 4 * H, stream);
    }
}

static void FN(step_forward)(const lstm_cell *cell, ptrdiff_t rows, ptrdiff_t H, REAL *pre,
                             const REAL *h_prev, const REAL *panels, const REAL *c_prev, REAL *c, REAL *h,
                             REAL *gates, lstm_hints hints) {
    const ptrdiff_t ldp = FN(gate_columns)(H), count = FN(vectors)(H);
    if (rows == 1) {
        FOR_ACT(FN(step_row)(ACT, H, pre, h_prev, panels, c_prev, c, h, gates, hints))
        return;
    }
    for (ptrdiff_t i = 0; i < count; i++) {
        const ptrdiff_t u = (hints.from_end ? count - 1 - i : i) * LANES;
        const REAL *panel = panels + 4 * u * H;
        const REAL *const next = FN(panel_after)(panel, H * PANEL, rows, hints.from_end, i + 1 < count, H * ldp);
#define STEP(n)                                                                                       \
    FN(step_block)(ACT, rows, n, H, pre + 4 * u, ldp, h_prev, panel, next, c_prev + u, c + u, h + u,  \
                   gates ? gates + u : NULL, hints.stream)
        if (H - u >= LANES)
            FOR_ACT(STEP(LANES))
        else
            FOR_ACT(STEP(H - u))
#undef STEP
    }
    if (hints.stream) STREAM_END;
}

/* ---------------------------------------------------------------- activations by themselves */

static void FN(sigmoid)(ptrdiff_t N, const REAL *x, REAL *y) {
#define UNITS(n) STOREN(y + u, FN(vec_sigmoid)(LOADN(x + u, n)), n)
    FOR_UNITS(N, u, UNITS);
#undef UNITS
}

static void FN(tanh)(ptrdiff_t N, const REAL *x, REAL *y) {
#define UNITS(n) STOREN(y + u, FN(vec_tanh)(LOADN(x + u, n)), n)
    FOR_UNITS(N, u, UNITS);
#undef UNITS
}

const CAT(lstm_kernels, T) CAT(KERNEL_TABLE, T) = {
    .name = KERNEL_NAME,
    .lanes = (int)(VEC_BYTES / sizeof(REAL)),
    .tile_rows = 1,
    .gate_columns = FN(gate_columns),
    .gates_size = FN(gates_size),
    .pack_gates = FN(pack_gates),
    .pack_bias = FN(pack_bias),
    .packed_size = FN(packed_size),
    .pack = FN(pack),
    .project = FN(project),
    .product = FN(product),
    .gradient_scratch = FN(gradient_scratch),
    .weight_gradient = FN(weight_gradient),
    .column_sums = FN(column_sums),
    .cell_forward = FN(cell_forward),
    .cell_backward = FN(cell_backward),
    .cell_output = FN(cell_output),
    .step_forward = FN(step_forward),
    .general_forward = FN(general_forward),
    .general_backward = FN(general_backward),
    .sigmoid = FN(sigmoid),
    .tanh = FN(tanh),
};

#undef REAL
#undef T
#undef REAL_IS_FLOAT
