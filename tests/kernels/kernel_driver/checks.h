/* Read by driver.c once for each REAL: every function of the default lane against the loops of its definition. */
#define CAT_(a, b) a##_##b
#define CAT(a, b) CAT_(a, b)
#define FN(name) CAT(name, T)
#define TABLE CAT(lstm_kernels, T)
#define NEW(n) ((REAL *)fresh((size_t)(n) * sizeof(REAL)))
#define NEW_WIDE(n) ((WIDE *)fresh((size_t)(n) * sizeof(WIDE)))

/* of each element, relative to the largest */
static double FN(tolerance) = TOLERANCE;

static REAL *FN(drawn)(ptrdiff_t n, double scale) {
    REAL *a = NEW(n);
    for (ptrdiff_t i = 0; i < n; i++) a[i] = (REAL)(scale * draw());
    return a;
}

static REAL *FN(copy)(const REAL *a, ptrdiff_t n) {
    return memcpy(NEW(n), a, (size_t)n * sizeof(REAL));
}

/* Each element within the tolerance of its own size or of the largest. */
static void FN(close)(const TABLE *k, const char *what, const REAL *got, const WIDE *want, ptrdiff_t n) {
    WIDE largest = (WIDE)0.1;
    for (ptrdiff_t i = 0; i < n; i++)
        if (want[i] > largest || -want[i] > largest) largest = want[i] < 0 ? -want[i] : want[i];
    for (ptrdiff_t i = 0; i < n; i++) {
        WIDE error = (WIDE)got[i] - want[i];
        if (!(error <= (WIDE)FN(tolerance) * largest && -error <= (WIDE)FN(tolerance) * largest)) {
            fail(k->name, what, "differs from the plain loop");
            break;
        }
    }
    numbers += n;
}

static void FN(same)(const TABLE *k, const char *what, const REAL *got, const REAL *want, ptrdiff_t n) {
    if (memcmp(got, want, (size_t)n * sizeof(REAL)) != 0) fail(k->name, what, "other bits");
    numbers += n;
}

/* place[column of the packed order] = row of the weights + 1, or 0 for padding: a packed bias of row numbers */
static REAL *FN(places)(const TABLE *k, ptrdiff_t H) {
    REAL *row = NEW(4 * H), *place = NEW(k->gate_columns(H));
    for (ptrdiff_t i = 0; i < 4 * H; i++) row[i] = (REAL)(i + 1);
    k->pack_bias(H, row, place);
    char *seen = calloc((size_t)(4 * H + 1), 1);
    for (ptrdiff_t j = 0; j < k->gate_columns(H); j++) seen[(int)place[j]] = 1;
    for (ptrdiff_t i = 1; i <= 4 * H; i++)
        if (!seen[i]) fail(k->name, "pack_gates", "a row of the weights is missing");
    free(seen);
    return place;
}

/* wide[r][column] = bias + a weight^T in plain order */
static WIDE *FN(plain_product)(ptrdiff_t rows, ptrdiff_t M, ptrdiff_t K, const REAL *a, ptrdiff_t lda,
                               const REAL *weight, const REAL *bias) {
    WIDE *c = NEW_WIDE(rows * M);
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t m = 0; m < M; m++) {
            WIDE sum = bias ? bias[m] : 0;
            for (ptrdiff_t j = 0; j < K; j++) sum += (WIDE)a[r * lda + j] * weight[m * K + j];
            c[r * M + m] = sum;
        }
    return c;
}

static void FN(check_project)(const TABLE *k, ptrdiff_t rows, ptrdiff_t H, ptrdiff_t K) {
    const ptrdiff_t columns = k->gate_columns(H), lda = K + 3;
    const REAL *a = FN(drawn)(rows * lda, 1), *weight = FN(drawn)(4 * H * K, 1), *bias = FN(drawn)(4 * H, 1);
    const REAL *place = FN(places)(k, H);
    REAL *panels = NEW(k->gates_size(H, K)), *packed_bias = NEW(columns), *pre = NEW(rows * columns);
    k->pack_gates(H, K, weight, panels);
    k->pack_bias(H, bias, packed_bias);
    k->project(rows, H, K, a, lda, panels, packed_bias, pre);
    const WIDE *want = FN(plain_product)(rows, 4 * H, K, a, lda, weight, bias);
    WIDE *packed = NEW_WIDE(rows * columns);
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t j = 0; j < columns; j++)
            packed[r * columns + j] = place[j] == 0 ? 0 : want[r * 4 * H + (ptrdiff_t)place[j] - 1];
    FN(close)(k, "project", pre, packed, rows * columns);
    REAL *alone = NEW(columns);
    k->project(1, H, K, a + (rows - 1) * lda, lda, panels, packed_bias, alone);
    FN(same)(k, "project, one row", alone, pre + (rows - 1) * columns, columns);
    end_case(k->name, "project");
}

static void FN(check_product)(const TABLE *k, ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t cols) {
    const ptrdiff_t lda = depth + 2;
    const REAL *a = FN(drawn)(rows * lda, 1), *b = FN(drawn)(depth * cols, 1);
    REAL *panels = NEW(k->packed_size(depth, cols)), *transposed = NEW(depth * cols);
    REAL *c = NEW(rows * cols), *again = NEW(rows * cols), *alone = NEW(cols);
    k->pack(depth, cols, b, panels);
    for (ptrdiff_t i = 0; i < depth; i++)
        for (ptrdiff_t j = 0; j < cols; j++) transposed[j * depth + i] = b[i * cols + j];
    const WIDE *want = FN(plain_product)(rows, cols, depth, a, lda, transposed, NULL);
    for (int ordered = 0; ordered < 2; ordered++) {
        k->product(rows, depth, cols, a, lda, panels, c, (lstm_hints){0, ordered, 0});
        FN(close)(k, "product", c, want, rows * cols);
        k->product(rows, depth, cols, a, lda, panels, again, (lstm_hints){1, ordered, 0});
        FN(same)(k, "product, from the end", again, c, rows * cols);
    }
    k->product(1, depth, cols, a + (rows - 1) * lda, lda, panels, alone, (lstm_hints){0, 1});
    FN(same)(k, "product, ordered, one row", alone, c + (rows - 1) * cols, cols);
    end_case(k->name, "product");
}

static void FN(check_weight_gradient)(const TABLE *k, ptrdiff_t rows, ptrdiff_t M, ptrdiff_t cols) {
    const REAL *d = FN(drawn)(rows * M, 1), *xh = FN(drawn)(rows * cols, 1);
    REAL *dweight = FN(drawn)(M * cols, 1), *scratch = NEW(k->gradient_scratch(rows, M, cols));
    REAL *sums = FN(drawn)(M, 1);
    WIDE *want = NEW_WIDE(M * cols), *want_sums = NEW_WIDE(M);
    for (ptrdiff_t m = 0; m < M; m++) {
        want_sums[m] = sums[m];
        for (ptrdiff_t r = 0; r < rows; r++) want_sums[m] += d[r * M + m];
        for (ptrdiff_t j = 0; j < cols; j++) {
            want[m * cols + j] = dweight[m * cols + j];
            for (ptrdiff_t r = 0; r < rows; r++) want[m * cols + j] += (WIDE)d[r * M + m] * xh[r * cols + j];
        }
    }
    k->weight_gradient(rows, M, cols, d, xh, dweight, scratch);
    FN(close)(k, "weight_gradient", dweight, want, M * cols);
    k->column_sums(rows, M, d, sums);
    FN(close)(k, "column_sums", sums, want_sums, M);
    end_case(k->name, "weight_gradient");
}

/* One unit of the cell by its equations. */
static WIDE FN(plain_sigmoid)(WIDE x) { return 1 / (1 + exp(-x)); }
static WIDE FN(plain_act)(int act, WIDE c) { return act == LSTM_ACT_TANH ? tanh(c) : c; }

/* wide pre (rows, 4H) -> wide gates, c, h */
static void FN(plain_cell)(int act, ptrdiff_t rows, ptrdiff_t H, const WIDE *pre, const REAL *c_prev, WIDE *gates,
                           WIDE *c, WIDE *h) {
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t u = 0; u < H; u++) {
            WIDE a[4];
            for (int g = 0; g < 4; g++) {
                const WIDE x = pre[(4 * r + g) * H + u];
                gates[(4 * r + g) * H + u] = a[g] = g == 2 ? tanh(x) : FN(plain_sigmoid)(x);
            }
            c[r * H + u] = a[1] * c_prev[r * H + u] + a[0] * a[2];
            h[r * H + u] = a[3] * FN(plain_act)(act, c[r * H + u]);
        }
}

static void FN(check_cell)(const TABLE *k, ptrdiff_t rows, ptrdiff_t H, int act) {
    const lstm_cell cell = {.cell_activation = act};
    const ptrdiff_t n = rows * H, ldh = H + 5;
    const REAL *pre = FN(drawn)(4 * n, 4), *c_prev = FN(drawn)(n, 2), *dh = FN(drawn)(n, 1), *dc_t = FN(drawn)(n, 1);
    WIDE *wide = NEW_WIDE(4 * n), *want_gates = NEW_WIDE(4 * n), *want_c = NEW_WIDE(n), *want_h = NEW_WIDE(n);
    for (ptrdiff_t i = 0; i < 4 * n; i++) wide[i] = pre[i];
    FN(plain_cell)(act, rows, H, wide, c_prev, want_gates, want_c, want_h);
    REAL *c = NEW(n), *h = NEW(n), *gates = NEW(4 * n);
    k->cell_forward(&cell, rows, H, pre, c_prev, c, h, gates);
    FN(close)(k, "cell_forward, gates", gates, want_gates, 4 * n);
    FN(close)(k, "cell_forward, c", c, want_c, n);
    FN(close)(k, "cell_forward, h", h, want_h, n);
    /* no gates, c in place of c_prev; gates in place of pre */
    REAL *c_in_place = FN(copy)(c_prev, n), *h_again = NEW(n), *pre_in_place = FN(copy)(pre, 4 * n);
    k->cell_forward(&cell, rows, H, pre, c_in_place, c_in_place, h_again, NULL);
    FN(same)(k, "cell_forward in place, c", c_in_place, c, n);
    FN(same)(k, "cell_forward in place, h", h_again, h, n);
    k->cell_forward(&cell, rows, H, pre_in_place, c_prev, c_in_place, h_again, pre_in_place);
    FN(same)(k, "cell_forward in place, gates", pre_in_place, gates, 4 * n);
    REAL *wide_h = NEW((rows - 1) * ldh + H);
    k->cell_output(&cell, rows, H, gates, c, wide_h, ldh);
    for (ptrdiff_t r = 0; r < rows; r++) FN(same)(k, "cell_output", wide_h + r * ldh, h + r * H, H);

    WIDE *want_d = NEW_WIDE(4 * n), *want_dc = NEW_WIDE(n);
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t u = 0; u < H; u++) {
            const ptrdiff_t at = r * H + u, gate = 4 * r * H + u;
            const WIDE i = gates[gate], f = gates[gate + H], g = gates[gate + 2 * H], o = gates[gate + 3 * H];
            const WIDE value = FN(plain_act)(act, c[at]), slope = act == LSTM_ACT_TANH ? 1 - value * value : 1;
            const WIDE dc = dc_t[at] + dh[at] * o * slope;
            want_d[gate] = dc * g * i * (1 - i);
            want_d[gate + H] = dc * c_prev[at] * f * (1 - f);
            want_d[gate + 2 * H] = dc * i * (1 - g * g);
            want_d[gate + 3 * H] = dh[at] * value * o * (1 - o);
            want_dc[at] = dc * f;
        }
    REAL *dc = FN(copy)(dc_t, n), *dgates = NEW(4 * n), *h_back = NEW((rows - 1) * ldh + H);
    k->cell_backward(&cell, rows, H, gates, c, c_prev, dh, dc, dgates, h_back, ldh);
    FN(close)(k, "cell_backward, dgates", dgates, want_d, 4 * n);
    FN(close)(k, "cell_backward, dc", dc, want_dc, n);
    for (ptrdiff_t r = 0; r < rows; r++) FN(same)(k, "cell_backward, h", h_back + r * ldh, h + r * H, H);
    REAL *dc_again = FN(copy)(dc_t, n);
    k->cell_backward(&cell, rows, H, gates, c, c_prev, dh, dc_again, gates, NULL, 0);
    FN(same)(k, "cell_backward in place, dgates", gates, dgates, 4 * n);
    FN(same)(k, "cell_backward in place, dc", dc_again, dc, n);
    end_case(k->name, "cell");
}

static void FN(check_step)(const TABLE *k, ptrdiff_t rows, ptrdiff_t H, int act) {
    const lstm_cell cell = {.cell_activation = act};
    const ptrdiff_t columns = k->gate_columns(H), n = rows * H;
    const REAL *h_prev = FN(drawn)(n, 1), *weight = FN(drawn)(4 * H * H, 0.5), *c_prev = FN(drawn)(n, 2);
    const REAL *place = FN(places)(k, H), *pre = FN(drawn)(rows * columns, 1);
    REAL *panels = NEW(k->gates_size(H, H));
    k->pack_gates(H, H, weight, panels);
    WIDE *want_pre = FN(plain_product)(rows, 4 * H, H, h_prev, H, weight, NULL);
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t j = 0; j < columns; j++)
            if (place[j] != 0) want_pre[r * 4 * H + (ptrdiff_t)place[j] - 1] += pre[r * columns + j];
    WIDE *want_gates = NEW_WIDE(4 * n), *want_c = NEW_WIDE(n), *want_h = NEW_WIDE(n);
    FN(plain_cell)(act, rows, H, want_pre, c_prev, want_gates, want_c, want_h);
    REAL *c = NEW(n), *h = NEW(n), *gates = NEW(4 * n), *work = FN(copy)(pre, rows * columns);
    k->step_forward(&cell, rows, H, work, h_prev, panels, c_prev, c, h, gates, (lstm_hints){0});
    FN(close)(k, "step_forward, gates", gates, want_gates, 4 * n);
    FN(close)(k, "step_forward, c", c, want_c, n);
    FN(close)(k, "step_forward, h", h, want_h, n);
    /* from the other end, without gates, though they might go past the caches, in place */
    REAL *c_in_place = FN(copy)(c_prev, n), *h_again = NEW(n), *work_again = FN(copy)(pre, rows * columns);
    k->step_forward(&cell, rows, H, work_again, h_prev, panels, c_in_place, c_in_place, h_again, NULL,
                    (lstm_hints){1, 0, 1});
    FN(same)(k, "step_forward, from the end, c", c_in_place, c, n);
    FN(same)(k, "step_forward, from the end, h", h_again, h, n);
    /* with gates that go past the caches, which lines that are whole can */
    REAL *const room = NEW(4 * n + (ptrdiff_t)(64 / sizeof(REAL))), *h_streamed = NEW(n), *c_streamed = NEW(n);
    REAL *const gates_streamed = (REAL *)(((uintptr_t)room + 63) & ~(uintptr_t)63);
    REAL *work_streamed = FN(copy)(pre, rows * columns);
    k->step_forward(&cell, rows, H, work_streamed, h_prev, panels, c_prev, c_streamed, h_streamed, gates_streamed,
                    (lstm_hints){0, 0, 1});
    FN(same)(k, "step_forward, past the caches, gates", gates_streamed, gates, 4 * n);
    FN(same)(k, "step_forward, past the caches, h", h_streamed, h, n);
    /* the last row alone */
    const ptrdiff_t last = rows - 1;
    REAL *work_alone = FN(copy)(pre + last * columns, columns), *c_alone = NEW(H), *h_alone = NEW(H);
    REAL *gates_alone = NEW(4 * H);
    k->step_forward(&cell, 1, H, work_alone, h_prev + last * H, panels, c_prev + last * H, c_alone, h_alone,
                    gates_alone, (lstm_hints){0});
    FN(same)(k, "step_forward, one row, c", c_alone, c + last * H, H);
    FN(same)(k, "step_forward, one row, h", h_alone, h + last * H, H);
    FN(same)(k, "step_forward, one row, gates", gates_alone, gates + 4 * last * H, 4 * H);
    end_case(k->name, "step_forward");
}

/* sigmoid within one unit in the last place of 1, tanh within 4 of its own; both at the edges */
static void FN(check_activations)(const TABLE *k, ptrdiff_t n) {
    static const double edges[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 1e-300, -1e-300, 1e-30, 700, -700, 1e5, -1e5};
    REAL *x = FN(drawn)(n, 12), *sigma = NEW(n), *tau = NEW(n);
    for (ptrdiff_t i = 0; i < n; i += 7) x[i] = (REAL)edges[(size_t)(i / 7) % (sizeof edges / sizeof *edges)];
    for (ptrdiff_t i = 3; i < n; i += 5) x[i] *= (REAL)1e-3;
    k->sigmoid(n, x, sigma);
    k->tanh(n, x, tau);
    for (ptrdiff_t i = 0; i < n; i++) {
        if (isnan(x[i])) {
            if (!isnan(sigma[i]) || !isnan(tau[i])) fail(k->name, "activation", "NaN was lost");
            continue;
        }
        const EXACT s = 1 / (1 + expl(-(long double)x[i])), t = tanhl(x[i]);
        const EXACT ds = (EXACT)sigma[i] - s, dt = (EXACT)tau[i] - t, near = 4 * (EXACT)EPSILON * (t < 0 ? -t : t);
        if (!(ds <= (EXACT)EPSILON && -ds <= (EXACT)EPSILON)) fail(k->name, "sigmoid", "beyond one ulp of 1");
        if (!(dt <= near && -dt <= near)) fail(k->name, "tanh", "beyond 4 ulp");
        if (!signbit(x[i]) != !signbit(tau[i])) fail(k->name, "tanh", "lost a sign");
    }
    numbers += 2 * n;
    k->sigmoid(n, x, x); /* in place */
    FN(same)(k, "sigmoid in place", x, sigma, n);
    end_case(k->name, "activations");
}

static void FN(check_all)(const TABLE *k) {
    static const ptrdiff_t few[] = {1, 2, 3, 4, 5, 7, 8, 9, 13, 33}; /* rows */
    static const ptrdiff_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 15, 16, 17, 31, 32, 33, 63, 67};
    enum { FEW = sizeof few / sizeof *few, SIZES = sizeof sizes / sizeof *sizes };
    for (int i = 0; i < FEW; i++)
        for (int j = 0; j < SIZES; j++) {
            FN(check_project)(k, few[i], sizes[j], sizes[(i + 2 * j) % SIZES]);
            FN(check_product)(k, few[i], sizes[(3 * i + j) % SIZES], sizes[j]);
            FN(check_weight_gradient)(k, few[i], sizes[j], (1 + (i + j) % 9) * k->lanes);
            FN(check_cell)(k, few[i], sizes[j], (i + j) % 2 ? LSTM_ACT_TANH : LSTM_ACT_IDENTITY);
            FN(check_step)(k, few[i], sizes[j], (i + j) % 2 ? LSTM_ACT_IDENTITY : LSTM_ACT_TANH);
        }
    /* panels in pieces, weights that are asked for ahead, factors that are copied */
    FN(check_project)(k, 23, 70, 700);
    FN(check_project)(k, 23, 131, 131);
    FN(check_product)(k, 23, 389, 130);
    FN(check_product)(k, 40, 700, 67);
    FN(check_weight_gradient)(k, 6, 4096 / (ptrdiff_t)sizeof(REAL) + 5, 9 * k->lanes);
    FN(check_weight_gradient)(k, 100, 8192 / (ptrdiff_t)sizeof(REAL), 4 * k->lanes);
    FN(check_step)(k, 50, 150, LSTM_ACT_TANH);
    FN(check_step)(k, 5, 400, LSTM_ACT_TANH);
    FN(check_step)(k, 20, 400, LSTM_ACT_IDENTITY);
    for (ptrdiff_t n = 1; n < 40; n++) FN(check_activations)(k, n);
    FN(check_activations)(k, 3001);
}

#undef CAT_
#undef CAT
#undef FN
#undef TABLE
#undef NEW
#undef NEW_WIDE
