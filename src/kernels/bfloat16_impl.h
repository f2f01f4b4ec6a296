/* Products in bfloat16 with sums in float32: what a table of the contract has in place of the float32 products.
 *
 * A factor is split into 1, 2 or 3 bfloat16 pieces, each the rounded rest of those before: x = x0 + x1 + x2, of 8
 * bits each. A product of two factors is then the sum of products of pieces, of which the smallest are left out
 * (Henry, Tang and Heinecke, 2019, arXiv:1904.06376):
 *
 *   "bfloat16"     1 piece    a0 b0                                             |error| <= 2^-7   |a b|
 *   "bfloat16x3"   2 pieces   a0 b1 + a1 b0 + a0 b0                             |error| <= 3 2^-16 |a b|
 *   "bfloat16x6"   3 pieces   a2 b0 + a1 b0 + a1 b1 + a0 b1 + a0 b2 + a0 b0     |error| <= 2^-23   |a b|
 *
 * Sums, cells, states and gradients are float32. A kernels_<name>.c includes this file once for each number of
 * PIECES, after vectors.h, with one of two inner loops:
 *
 *   TILES set:      16 x 16 tiles, by the operations TILE_ZERO, TILE_LOAD, TILE_STORE, TILE_PRODUCT of tiles_*.h
 *   TILES not set:  vectors of 16 sums, by PAIR_FMA, and PIECES is 1
 *
 * Packed factors b (depth, cols): a line of 64 bytes that says whether a value is inf or NaN, then panel after panel
 * of up to 4 vectors of 16 columns, as in kernels_contract.h. Two neighbours in k lie side by side:
 *
 *   vectors:  [pair of k][vector][16 columns][2]
 *   tiles:    [32 k][piece][vector][16 pairs of k][16 columns][2]
 *
 * The sums of a row are made in the order of k, from what init holds, whatever the number of rows and the pieces of
 * depth that they are made in: a row has the bits that it has alone. */

#define BF(name) CAT(name, PIECES)
#define WIDTH 16 /* columns of a vector or tile */
#define WIDE (4 * WIDTH)
#if TILES
#define DEPTH 32 /* a depth is filled up to whole so many */
#else
#define DEPTH 2
#endif

/* what would make the code large where it is inlined */
#define OUTLINE static __attribute__((noinline))

/* bfloat16 numbers that the split rows of one call may take on the stack, and rows that are split together */
#define ROWS_ROOM 32768
#define ROWS_MOST 64

INLINE ptrdiff_t BF(whole)(ptrdiff_t n, ptrdiff_t unit) { return (n + unit - 1) / unit * unit; }

/* ---------------------------------------------------------------- splitting */

/* rows x depth numbers -> [row][piece][ld], depth filled up with zeros to whole 32; with tiles, rows up to whole
 * tiles, too. Returns whether a number is inf or NaN. */
static uint32_t BF(split_rows)(ptrdiff_t rows, ptrdiff_t depth, const float *a, ptrdiff_t lda, uint16_t *to,
                               ptrdiff_t ld) {
    uint32_t special = 0;
    for (ptrdiff_t r = 0; r < rows; r++, a += lda, to += PIECES * ld)
        for (ptrdiff_t k = 0; k < depth; k += 32) {
            NUMBERS low = some_numbers(a + k, depth - k), high = some_numbers(a + k + 16, depth - k - 16);
            UNROLL for (int p = 0; p < PIECES; p++) {
                const WORDS w = split_row(&low, &high);
                if (PIECES > 1 && p == 0) special |= special_words(w);
                store_words(to + p * ld + k, w);
            }
        }
#if TILES
    memset(to, 0, (size_t)((BF(whole)(rows, WIDTH) - rows) * PIECES * ld) * sizeof *to);
#endif
    return special;
}

/* 16 rows of 32 numbers, of which `depth` are there, NULL for zeros -> words[p][k]: the pairs 2k, 2k + 1 of all rows. */
INLINE uint32_t BF(split_transposed)(ptrdiff_t depth, const float *const row[16], WORDS words[PIECES][16]) {
    uint32_t special = 0;
    for (int i = 0; i < 16; i++) {
        const float *const a = row[row[i] ? i : 0];
        const ptrdiff_t n = row[i] ? depth : 0;
        NUMBERS low = some_numbers(a, n), high = some_numbers(a + 16, n - 16);
        UNROLL for (int p = 0; p < PIECES; p++) words[p][i] = split_row(&low, &high);
        if (PIECES > 1) special |= special_words(words[0][i]);
    }
    UNROLL for (int p = 0; p < PIECES; p++) transpose_words(words[p]);
    return special;
}

/* ---------------------------------------------------------------- layouts */

/* uint16_t from the start of a panel of nv vectors to column 0 of vector v, pair k / 2 and piece p */
INLINE ptrdiff_t BF(place)(ptrdiff_t k, ptrdiff_t p, ptrdiff_t v, ptrdiff_t nv) {
#if TILES
    return ((k / 32 * PIECES + p) * nv + v) * 512 + k % 32 / 2 * 32;
#else
    (void)p;
    return (k / 2 * nv + v) * 32;
#endif
}

/* uint16_t of a panel, from one piece to the next */
#define APART(nv) ((nv) * 512)
#define PANEL_SIZE(depth, nv) (BF(whole)(depth, DEPTH) * PIECES * (nv) * WIDTH)
#define HEAD 32 /* uint16_t before the first panel */

static ptrdiff_t BF(gate_columns)(ptrdiff_t H) {
    return H / WIDTH * WIDE + BF(whole)(4 * (H % WIDTH), WIDTH);
}

static ptrdiff_t BF(packed_size)(ptrdiff_t depth, ptrdiff_t cols) {
    const ptrdiff_t size = lstm_times(lstm_round_up(depth, DEPTH), lstm_round_up(cols, WIDTH));
    return lstm_plus(lstm_times(size, PIECES) / 2, HEAD / 2);
}

static ptrdiff_t BF(gates_size)(ptrdiff_t H, ptrdiff_t K) { return BF(packed_size)(K, BF(gate_columns)(H)); }

/* cols <= 64 columns of b -> one panel */
static uint32_t BF(pack_panel)(ptrdiff_t depth, ptrdiff_t cols, const float *b, ptrdiff_t ldb, uint16_t *panel) {
    const ptrdiff_t nv = BF(whole)(cols, WIDTH) / WIDTH;
    uint32_t special = 0;
    for (ptrdiff_t k = 0; k < BF(whole)(depth, DEPTH); k += 2, b += 2 * ldb)
        for (ptrdiff_t v = 0; v < nv; v++) {
            const ptrdiff_t n = cols - v * WIDTH;
            NUMBERS even = some_numbers(b + v * WIDTH, k < depth ? n : 0);
            NUMBERS odd = some_numbers(b + ldb + v * WIDTH, k + 1 < depth ? n : 0);
            UNROLL for (int p = 0; p < PIECES; p++) {
                const WORDS w = split_pairs(&even, &odd);
                if (PIECES > 1 && p == 0) special |= special_words(w);
                store_words(panel + BF(place)(k, p, v, nv), w);
            }
        }
    return special;
}

static void BF(pack)(ptrdiff_t depth, ptrdiff_t cols, const float *b, float *panels) {
    uint16_t *const head = (uint16_t *)(void *)panels, *panel = head + HEAD;
    uint32_t special = 0;
    for (ptrdiff_t j = 0; j < cols; j += WIDE) {
        const ptrdiff_t n = FN(min)(WIDE, cols - j);
        special |= BF(pack_panel)(depth, n, b + j, cols, panel);
        panel += PANEL_SIZE(depth, BF(whole)(n, WIDTH) / WIDTH);
    }
    for (int j = 0; j < HEAD; j++) head[j] = (uint16_t)special;
}

static void BF(pack_gates)(ptrdiff_t H, ptrdiff_t K, const float *weight, float *panels) {
    uint16_t *const head = (uint16_t *)(void *)panels, *panel = head + HEAD;
    uint32_t special = 0;
    for (ptrdiff_t u = 0; u < H; u += WIDTH) {
        const ptrdiff_t n = FN(min)(WIDTH, H - u), nv = BF(whole)(4 * n, WIDTH) / WIDTH;
        for (ptrdiff_t v = 0; v < nv; v++)
            for (ptrdiff_t k0 = 0; k0 < K; k0 += 32) {
                const float *row[WIDTH];
                WORDS words[PIECES][WIDTH];
                for (ptrdiff_t j = 0, column = v * WIDTH; j < WIDTH; j++, column++)
                    row[j] = column < 4 * n ? weight + (column / n * H + u + column % n) * K + k0 : NULL;
                special |= BF(split_transposed)(K - k0, row, words);
                for (ptrdiff_t p = 0; p < PIECES; p++)
                    for (ptrdiff_t k = 0; k < FN(min)(32, BF(whole)(K, DEPTH) - k0); k += 2)
                        store_words(panel + BF(place)(k0 + k, p, v, nv), words[p][k / 2]);
            }
        panel += PANEL_SIZE(K, nv);
    }
    for (int j = 0; j < HEAD; j++) head[j] = (uint16_t)special;
}

static void BF(pack_bias)(ptrdiff_t H, const float *bias, float *row) {
    for (ptrdiff_t u = 0; u < H; u += WIDTH) {
        const ptrdiff_t n = FN(min)(WIDTH, H - u), width = BF(whole)(4 * n, WIDTH);
        for (ptrdiff_t column = 0; column < width; column++)
            row[column] = column < 4 * n ? bias[column / n * H + u + column % n] : 0;
        row += width;
    }
}

/* ---------------------------------------------------------------- the inner loops */

#if TILES

/* acc (2 x 2 tiles, fewer with nr, nc) += a b over `count` times 32 k; small products first. hi: the first pieces
 * alone. */
#define TILES_4(a0, a1, b0, b1)                          \
    TILE_PRODUCT(0, a0, b0);                             \
    if (nc > 1) TILE_PRODUCT(1, a0, b1);                 \
    if (nr > 1) TILE_PRODUCT(2, a1, b0);                 \
    if (nr > 1 && nc > 1) TILE_PRODUCT(3, a1, b1)
#define LOAD_A(p)                                                                  \
    TILE_LOAD(4, a + (p) * ld, row_bytes);                                         \
    if (nr > 1) TILE_LOAD(5, a + 16 * PIECES * ld + (p) * ld, row_bytes)
#define LOAD_B(p)                                                                  \
    TILE_LOAD(6, b + (p) * APART(nv), 64);                                         \
    if (nc > 1) TILE_LOAD(7, b + (p) * APART(nv) + 512, 64)

INLINE void BF(tile_loop)(TILE_FILE const int nr, const int nc, const int hi, ptrdiff_t count, const uint16_t *a,
                          ptrdiff_t ld, const uint16_t *b, ptrdiff_t nv) {
    const ptrdiff_t row_bytes = PIECES * ld * 2;
    for (ptrdiff_t k = 0; k < count; k++, a += 32, b += PIECES * APART(nv)) {
        if (PIECES == 3 && !hi) {
            LOAD_A(2);
            LOAD_B(0);
            TILES_4(4, 5, 6, 7); /* a2 b0 */
            LOAD_A(1);
            TILES_4(4, 5, 6, 7); /* a1 b0 */
            LOAD_B(1);
            TILES_4(4, 5, 6, 7); /* a1 b1 */
            LOAD_A(0);
            TILES_4(4, 5, 6, 7); /* a0 b1 */
            LOAD_B(2);
            TILES_4(4, 5, 6, 7); /* a0 b2 */
        }
        if (PIECES == 2 && !hi) {
            LOAD_A(0);
            LOAD_B(1);
            TILES_4(4, 5, 6, 7); /* a0 b1 */
            LOAD_A(1);
            LOAD_B(0);
            TILES_4(4, 5, 6, 7); /* a1 b0 */
        }
        LOAD_A(0);
        LOAD_B(0);
        TILES_4(4, 5, 6, 7); /* a0 b0 */
    }
}

/* Tile t: init -> accumulators. rows, cols: of 16, those that are there; init may be NULL. */
#define BEGIN_TILE(t, r, v)                                                                              \
    if (init == NULL)                                                                                    \
        TILE_ZERO(t);                                                                                    \
    else if (rows - (r) >= 16 && cols - (v) * WIDTH >= WIDTH)                                            \
        TILE_LOAD(t, init + (r) * ldi + (v) * WIDTH, ldi * 4);                                           \
    else {                                                                                               \
        float part[256];                                                                                 \
        BF(part_in)(FN(min)(16, rows - (r)), FN(min)(WIDTH, cols - (v) * WIDTH),                         \
                    init + (r) * ldi + (v) * WIDTH, ldi, part);                                          \
        TILE_LOAD(t, part, 64);                                                                          \
    }
#define END_TILE(t, r, v)                                                                                \
    if (rows - (r) >= 16 && cols - (v) * WIDTH >= WIDTH)                                                 \
        TILE_STORE(t, c + (r) * ldc + (v) * WIDTH, ldc * 4);                                             \
    else {                                                                                               \
        float part[256];                                                                                 \
        TILE_STORE(t, part, 64);                                                                         \
        BF(part_out)(FN(min)(16, rows - (r)), FN(min)(WIDTH, cols - (v) * WIDTH), part,                  \
                     c + (r) * ldc + (v) * WIDTH, ldc);                                                  \
    }

OUTLINE void BF(part_in)(ptrdiff_t rows, ptrdiff_t cols, const float *from, ptrdiff_t ld, float *part) {
    for (ptrdiff_t r = 0; r < 16; r++)
        for (ptrdiff_t j = 0; j < WIDTH; j++) part[r * 16 + j] = r < rows && j < cols ? from[r * ld + j] : 0;
}

OUTLINE void BF(part_out)(ptrdiff_t rows, ptrdiff_t cols, const float *part, float *to, ptrdiff_t ld) {
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t j = 0; j < cols; j++) to[r * ld + j] = part[r * 16 + j];
}

INLINE void BF(tiles)(const int nr, const int nc, const int hi, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth,
                      const uint16_t *a, ptrdiff_t ld, const uint16_t *b, ptrdiff_t nv, const float *init,
                      ptrdiff_t ldi, float *c, ptrdiff_t ldc) {
    TILE_REGISTERS
    BEGIN_TILE(0, 0, 0)
    if (nc > 1) { BEGIN_TILE(1, 0, 1) }
    if (nr > 1) { BEGIN_TILE(2, 16, 0) }
    if (nr > 1 && nc > 1) { BEGIN_TILE(3, 16, 1) }
    BF(tile_loop)(TILE_FILE_ARGUMENT nr, nc, hi, BF(whole)(depth, DEPTH) / DEPTH, a, ld, b, nv);
    END_TILE(0, 0, 0)
    if (nc > 1) { END_TILE(1, 0, 1) }
    if (nr > 1) { END_TILE(2, 16, 0) }
    if (nr > 1 && nc > 1) { END_TILE(3, 16, 1) }
}

OUTLINE void BF(some_tiles)(const int hi, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth, const uint16_t *a,
                           ptrdiff_t ld, const uint16_t *b, ptrdiff_t nv, const float *init, ptrdiff_t ldi,
                           float *c, ptrdiff_t ldc) {
    if (rows > 16 && cols > WIDTH)
        BF(tiles)(2, 2, hi, rows, cols, depth, a, ld, b, nv, init, ldi, c, ldc);
    else if (rows > 16)
        BF(tiles)(2, 1, hi, rows, cols, depth, a, ld, b, nv, init, ldi, c, ldc);
    else if (cols > WIDTH)
        BF(tiles)(1, 2, hi, rows, cols, depth, a, ld, b, nv, init, ldi, c, ldc);
    else
        BF(tiles)(1, 1, hi, rows, cols, depth, a, ld, b, nv, init, ldi, c, ldc);
}

/* Factors with inf or NaN: the lesser pieces of inf, and products of inf with a lesser piece of 0, are NaN. Sums that
 * come out as NaN are those of the first pieces alone, which are inf where the sum of the numbers is. */
static void BF(special_tiles)(ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth, const uint16_t *a, ptrdiff_t ld,
                              const uint16_t *b, ptrdiff_t nv, const float *init, ptrdiff_t ldi, float *c,
                              ptrdiff_t ldc) {
    float first[32 * 32], all[32 * 32];
    BF(some_tiles)(1, rows, cols, depth, a, ld, b, nv, init, ldi, first, 32);
    BF(some_tiles)(0, rows, cols, depth, a, ld, b, nv, init, ldi, all, 32);
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t j = 0; j < cols; j++) {
            const float sum = all[r * 32 + j];
            c[r * ldc + j] = sum == sum ? sum : first[r * 32 + j];
        }
}

/* c = init + a b for split rows and a panel of nv vectors, of which `cols` columns are there. panel: at its k. */
static void BF(panel_product)(ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth, const uint16_t *a, ptrdiff_t ld,
                              const uint16_t *panel, ptrdiff_t nv, const float *init, ptrdiff_t ldi, float *c,
                              ptrdiff_t ldc, uint32_t special) {
    for (ptrdiff_t v = 0; v < nv; v += 2)
        for (ptrdiff_t r = 0; r < rows; r += 32) {
            const ptrdiff_t nr = FN(min)(32, rows - r), n = FN(min)(2 * WIDTH, cols - v * WIDTH);
            const uint16_t *const a_r = a + r * PIECES * ld, *const b = panel + v * 512;
            const float *const from = init ? init + r * ldi + v * WIDTH : NULL;
            float *const to = c + r * ldc + v * WIDTH;
            if (PIECES > 1 && special)
                BF(special_tiles)(nr, n, depth, a_r, ld, b, nv, from, ldi, to, ldc);
            else
                BF(some_tiles)(0, nr, n, depth, a_r, ld, b, nv, from, ldi, to, ldc);
        }
}

#else /* vectors */

typedef uint32_t BF(pair) __attribute__((aligned(2), may_alias));

/* c = init + a b for nr rows and nv vectors. a: pairs of bfloat16, `across` (in pairs) from row to row and `along`
 * from k to k. */
INLINE void BF(pair_tile)(const int nr, const int nv, ptrdiff_t cols, ptrdiff_t pairs, const uint16_t *a,
                          ptrdiff_t across, ptrdiff_t along, const uint16_t *b, const float *init, ptrdiff_t ldi,
                          float *c, ptrdiff_t ldc, const int add) {
    VEC acc[MOST_ROWS][4];
    const BF(pair) *x = (const BF(pair) *)a;
    UNROLL for (int r = 0; r < nr; r++)
        UNROLL for (int v = 0; v < nv; v++) {
            if (add) __builtin_prefetch(c + r * ldc + v * WIDTH, 1);
            acc[r][v] = init ? (VEC)LOAD(init + r * ldi + v * WIDTH) : SET1(0.0f);
        }
    for (ptrdiff_t k = 0; k < pairs; k++, x += along, b += nv * 32) {
        PAIRS y[4];
        UNROLL for (int v = 0; v < nv; v++) y[v] = PAIR_LOAD(b + v * 32);
        UNROLL for (int r = 0; r < nr; r++) {
            const PAIRS z = PAIR_SET1(x[r * across]);
            UNROLL for (int v = 0; v < nv; v++) acc[r][v] = PAIR_FMA(acc[r][v], z, y[v]);
        }
    }
    UNROLL for (int r = 0; r < nr; r++)
        UNROLL for (int v = 0; v < nv; v++) {
            float *const to = c + r * ldc + v * WIDTH;
            const ptrdiff_t n = v < nv - 1 ? WIDTH : cols - (nv - 1) * WIDTH;
            STOREN(to, add ? (VEC)(LOADN(to, n) + acc[r][v]) : acc[r][v], n);
        }
}

static void BF(panel_product)(ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth, const uint16_t *a, ptrdiff_t ld,
                              const uint16_t *panel, ptrdiff_t nv, const float *init, ptrdiff_t ldi, float *c,
                              ptrdiff_t ldc, uint32_t special) {
    (void)special; /* of one piece, inf and NaN come out right by themselves */
    FOR_ROW_TILES(rows, ROWS_OF(nv), r, nr) {
#define CALL(NR, NV)                                                                                       \
    BF(pair_tile)(NR, NV, cols, (depth + 1) / 2, a + r * ld, ld / 2, 1, panel, init ? init + r * ldi : NULL, ldi, \
                  c + r * ldc, ldc, 0)
        FOR_TILE(nr, nv, CALL)
#undef CALL
    }
}

#endif

/* ---------------------------------------------------------------- products */

/* k that are split at once: rows of so many, and a line more so that they do not fall on the same cache sets */
INLINE ptrdiff_t BF(piece)(ptrdiff_t rows, ptrdiff_t depth) {
    const ptrdiff_t most = ROWS_ROOM / (BF(whole)(rows, 16) * PIECES) / 32 * 32 - 32;
    return FN(min)(most, BF(whole)(depth, 32));
}

/* c = init + a b for all panels; init (row after row ldi apart) may be NULL for 0. */
static void BF(multiply)(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t cols, const float *a, ptrdiff_t lda,
                         const float *panels, const float *init, ptrdiff_t ldi, float *c, ptrdiff_t ldc,
                         int from_end) {
    const uint16_t *const head = (const uint16_t *)(const void *)panels;
    const ptrdiff_t count = (cols + WIDE - 1) / WIDE;
    uint16_t split[ROWS_ROOM] __attribute__((aligned(64)));
    for (ptrdiff_t r = 0; r < rows; r += ROWS_MOST) {
        const ptrdiff_t nr = FN(min)(ROWS_MOST, rows - r), piece = BF(piece)(nr, depth), ld = piece + 32;
        for (ptrdiff_t k = 0; k < depth; k += piece) {
            const ptrdiff_t length = FN(min)(piece, depth - k);
            const uint32_t special = head[0] | BF(split_rows)(nr, length, a + r * lda + k, lda, split, ld);
            const float *const from = k ? c + r * ldc : init ? init + r * ldi : NULL;
            for (ptrdiff_t i = 0; i < count; i++) {
                const ptrdiff_t j = (from_end ? count - 1 - i : i) * WIDE, n = FN(min)(WIDE, cols - j);
                const ptrdiff_t nv = BF(whole)(n, WIDTH) / WIDTH;
                const uint16_t *const panel = head + HEAD + PANEL_SIZE(depth, 1) / WIDTH * j;
                BF(panel_product)(nr, n, length, split, ld, panel + BF(place)(k, 0, 0, nv), nv,
                                  from ? from + j : NULL, k ? ldc : ldi, c + r * ldc + j, ldc, special);
            }
        }
    }
}

static void BF(project)(ptrdiff_t rows, ptrdiff_t H, ptrdiff_t K, const float *a, ptrdiff_t lda, const float *panels,
                        const float *bias, float *pre) {
    const ptrdiff_t cols = BF(gate_columns)(H);
    TILES_BEGIN
    BF(multiply)(rows, K, cols, a, lda, panels, bias, 0, pre, cols, 0);
    TILES_END
}

static void BF(product)(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t cols, const float *a, ptrdiff_t lda,
                        const float *panels, float *c, lstm_hints hints) { /* always ordered */
    TILES_BEGIN
    BF(multiply)(rows, depth, cols, a, lda, panels, NULL, 0, c, cols, hints.from_end);
    TILES_END
}

/* uint16_t of scratch: a of a panel of xh, and dgates */
static ptrdiff_t BF(gradient_scratch)(ptrdiff_t rows, ptrdiff_t M, ptrdiff_t cols) {
    const ptrdiff_t depth = lstm_plus(lstm_round_up(rows, DEPTH), 32);
    (void)cols;
    return lstm_times(lstm_times(depth, lstm_round_up(M, 16) + WIDE), PIECES) / 2;
}

static void BF(weight_gradient)(ptrdiff_t rows, ptrdiff_t M, ptrdiff_t cols, const float *dgates, const float *xh,
                                float *dweight, float *scratch) {
    uint16_t *const panel = (uint16_t *)(void *)scratch;
    uint16_t *const a = panel + PANEL_SIZE(rows, 4);
    uint32_t special = 0;
    TILES_BEGIN
#if TILES
    /* dgates^T as rows [m][piece][ld] */
    const ptrdiff_t ld = BF(whole)(rows, DEPTH) + 32;
    for (ptrdiff_t m = 0; m < M; m += WIDTH)
        for (ptrdiff_t r = 0; r < rows; r += 32) {
            WORDS words[PIECES][WIDTH];
            for (ptrdiff_t i = 0; i < WIDTH; i++) {
                const ptrdiff_t k = r + 2 * i;
                NUMBERS even = some_numbers(dgates + k * M + m, k < rows ? M - m : 0);
                NUMBERS odd = some_numbers(dgates + (k + 1) * M + m, k + 1 < rows ? M - m : 0);
                UNROLL for (int p = 0; p < PIECES; p++) words[p][i] = split_pairs(&even, &odd);
                if (PIECES > 1) special |= special_words(words[0][i]);
            }
            for (ptrdiff_t p = 0; p < PIECES; p++) {
                transpose_words(words[p]);
                for (ptrdiff_t j = 0; j < WIDTH; j++) store_words(a + ((m + j) * PIECES + p) * ld + r, words[p][j]);
            }
        }
#else
    /* dgates as pairs of rows, [r / 2][m][2] */
    const ptrdiff_t ld = BF(whole)(M, WIDTH);
    for (ptrdiff_t r = 0; r < rows; r += 2)
        for (ptrdiff_t m = 0; m < M; m += WIDTH) {
            NUMBERS even = some_numbers(dgates + r * M + m, M - m);
            NUMBERS odd = some_numbers(dgates + (r + 1) * M + m, r + 1 < rows ? M - m : 0);
            store_words(a + r * ld + 2 * m, split_pairs(&even, &odd));
        }
#endif
    for (ptrdiff_t j = 0; j < cols; j += WIDE) {
        const ptrdiff_t n = FN(min)(WIDE, cols - j), nv = n / WIDTH;
        float *const c = dweight + j;
        special |= BF(pack_panel)(rows, n, xh + j, cols, panel);
#if TILES
        for (ptrdiff_t m = 0; m < M; m += 32) /* what of a is read once serves all columns */
            BF(panel_product)(FN(min)(32, M - m), n, rows, a + m * PIECES * ld, ld, panel, nv, c + m * cols, cols,
                              c + m * cols, cols, special);
#else
        FOR_ROW_TILES(M, ROWS_OF(nv), m, nm) {
#define CALL(NR, NV)                                                                                       \
    BF(pair_tile)(NR, NV, n, (rows + 1) / 2, a + 2 * m, 1, ld, panel, NULL, 0, c + m * cols, cols, 1)
            FOR_TILE(nm, nv, CALL)
#undef CALL
        }
#endif
    }
    TILES_END
}

/* ---------------------------------------------------------------- the fused step */

#define STEP_ROWS 32 /* between whose product and whose cell nothing leaves L1 */

/* The cell on `count` blocks of n <= 16 units, as many at a time as the vectors have lanes. */
INLINE void BF(step_units)(const int act, ptrdiff_t count, ptrdiff_t n, ptrdiff_t H, float *scratch, ptrdiff_t ld,
                           ptrdiff_t apart, const float *c_prev, float *c, float *h, float *gates,
                           ptrdiff_t gates_apart, int stream) {
    for (ptrdiff_t u = 0; u < n; u += LANES)
        FN(step_cell)(act, count, FN(min)(LANES, n - u), H, scratch + u, n, ld, apart, c_prev + u, c + u, h + u,
                      gates ? gates + u : NULL, gates_apart, stream);
}

static void BF(step_forward)(const lstm_cell *cell, ptrdiff_t rows, ptrdiff_t H, float *pre, const float *h_prev,
                             const float *panels, const float *c_prev, float *c, float *h, float *gates,
                             lstm_hints hints) {
    const uint16_t *const head = (const uint16_t *)(const void *)panels;
    const ptrdiff_t ldp = BF(gate_columns)(H), count = (H + WIDTH - 1) / WIDTH;
    uint16_t split[ROWS_ROOM] __attribute__((aligned(64)));
    float scratch[STEP_ROWS * WIDE] __attribute__((aligned(64)));
    TILES_BEGIN
    for (ptrdiff_t r0 = 0; r0 < rows; r0 += ROWS_MOST) {
        const ptrdiff_t nr = FN(min)(ROWS_MOST, rows - r0), piece = BF(piece)(nr, H), ld = piece + 32;
        for (ptrdiff_t k = 0; k < H; k += piece) {
            const ptrdiff_t length = FN(min)(piece, H - k);
            const uint32_t special = head[0] | BF(split_rows)(nr, length, h_prev + r0 * H + k, H, split, ld);
            for (ptrdiff_t i = 0; i < count; i++) {
                const ptrdiff_t u = (hints.from_end ? count - 1 - i : i) * WIDTH, n = FN(min)(WIDTH, H - u);
                const ptrdiff_t nv = BF(whole)(4 * n, WIDTH) / WIDTH;
                const uint16_t *const panel =
                    head + HEAD + PANEL_SIZE(H, 4) / WIDTH * u + BF(place)(k, 0, 0, nv);
                if (k + length < H) {
                    float *const p = pre + r0 * ldp + 4 * u;
                    BF(panel_product)(nr, nv * WIDTH, length, split, ld, panel, nv, p, ldp, p, ldp, special);
                    continue;
                }
                for (ptrdiff_t r = 0; r < nr; r += STEP_ROWS) {
                    const ptrdiff_t some = FN(min)(STEP_ROWS, nr - r), row = r0 + r;
                    BF(panel_product)(some, nv * WIDTH, length, split + r * PIECES * ld, ld, panel, nv,
                                      pre + row * ldp + 4 * u, ldp, scratch, nv * WIDTH, special);
#define UNITS(n)                                                                                               \
    BF(step_units)(ACT, some, n, H, scratch, nv * WIDTH, H, c_prev + row * H + u, c + row * H + u,             \
                   h + row * H + u, gates ? gates + 4 * row * H + u : NULL, 4 * H, hints.stream)
                    if (n == WIDTH)
                        FOR_ACT(UNITS(WIDTH))
                    else
                        FOR_ACT(UNITS(n))
#undef UNITS
                }
            }
        }
    }
    if (hints.stream) STREAM_END;
    TILES_END
}

/* The table, but for what it has in common with the float32 one. */
const lstm_kernels_s BF(BFLOAT16_TABLE) = {
    .name = BFLOAT16_NAME,
    .lanes = WIDTH,
    .tile_rows = TILES ? 32 : 1,
    .gate_columns = BF(gate_columns),
    .gates_size = BF(gates_size),
    .pack_gates = BF(pack_gates),
    .pack_bias = BF(pack_bias),
    .packed_size = BF(packed_size),
    .pack = BF(pack),
    .project = BF(project),
    .product = BF(product),
    .gradient_scratch = BF(gradient_scratch),
    .weight_gradient = BF(weight_gradient),
    .step_forward = BF(step_forward),
};

#undef PIECES
