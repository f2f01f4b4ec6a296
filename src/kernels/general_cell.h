/* The general cell: every option of the LSTM family, forward and backward, on rows. It is read by
 * general.h twice for each dtype: with NUM a vector of numbers, and, DUAL, with NUM a vector of dual
 * numbers (value, tangent), which makes of the same lines the directional derivative of the step
 * (forward mode) and of its backward pass (forward over reverse, the Hessian's product).
 *
 *   pre = pre_x + pre_h + bias,  with layer_norm  norm_ih LN(pre_x) + norm_hh LN(pre_h) + bias
 *   i = sigma(clip(pre_i + p_i c_prev))      f = sigma(clip(pre_f + p_f c_prev)),  coupled: 1 - i
 *   g = tau(clip(pre_g))                     k = cell_clip(f c_prev + i g)
 *   o = sigma(clip(pre_o + p_o k))           u = k,  with layer_norm  norm_c LN(k) + norm_c_bias
 *   m = o act(u)
 *   c = k + z_c (c_prev - k)                 h = m + z_h (h_prev - m)     z 0 or 1 where a mask is drawn: selected
 *
 * Peepholes p: Gers, Schraudolph and Schmidhuber 2002. Clips, coupled gates: ONNX operator LSTM-22,
 * Greff et al. 2017. LN: Ba, Kiros and Hinton 2016, eq. 20-22. Zoneout z: Krueger et al. 2017. An
 * input gate that is constant in time (static_input_gate: of pre_i only the bias counts): Kratzert et
 * al. 2019. A derivative at a kink is 0; that of a clip is 1 on its edges. */

#if DUAL
#define NUM FN(dual)
#define GN(name) CAT(CAT(name, dual), T)
#else
#define NUM VEC
#define GN(name) CAT(CAT(name, plain), T)
#endif

/* ---------------------------------------------------------------- numbers */

#if DUAL
INLINE NUM GN(set)(VEC v) { return (NUM){v, SET1((REAL)0)}; }
INLINE VEC GN(value)(NUM a) { return a.v; }
INLINE NUM GN(add)(NUM a, NUM b) { return (NUM){a.v + b.v, a.t + b.t}; }
INLINE NUM GN(sub)(NUM a, NUM b) { return (NUM){a.v - b.v, a.t - b.t}; }
INLINE NUM GN(mul)(NUM a, NUM b) { return (NUM){a.v * b.v, FMA(a.v, b.t, a.t * b.v)}; }
INLINE NUM GN(scale)(NUM a, VEC s) { return (NUM){a.v * s, a.t * s}; }
INLINE NUM GN(select)(IVEC mask, NUM a, NUM b) {
    return (NUM){FN(pick)(mask, a.v, b.v), FN(pick)(mask, a.t, b.t)};
}
/* f(x) from its value and its derivative */
INLINE NUM GN(chain)(VEC value, VEC slope, NUM x) { return (NUM){value, slope * x.t}; }
INLINE NUM GN(load)(FN(source) p, ptrdiff_t at, ptrdiff_t n) {
    return (NUM){p.v ? LOADN(p.v + at, n) : SET1((REAL)0), p.t ? LOADN(p.t + at, n) : SET1((REAL)0)};
}
INLINE void GN(store)(FN(target) p, ptrdiff_t at, ptrdiff_t n, NUM a) {
    if (p.v) STOREN(p.v + at, a.v, n);
    if (p.t) STOREN(p.t + at, a.t, n);
}
INLINE NUM GN(total)(NUM a) { return (NUM){FN(lane_sum)(a.v), FN(lane_sum)(a.t)}; }
INLINE NUM GN(first)(NUM a, ptrdiff_t n) { return (NUM){FN(first)(a.v, n), FN(first)(a.t, n)}; }
#else
INLINE NUM GN(set)(VEC v) { return v; }
INLINE VEC GN(value)(NUM a) { return a; }
INLINE NUM GN(add)(NUM a, NUM b) { return a + b; }
INLINE NUM GN(sub)(NUM a, NUM b) { return a - b; }
INLINE NUM GN(mul)(NUM a, NUM b) { return a * b; }
INLINE NUM GN(scale)(NUM a, VEC s) { return a * s; }
INLINE NUM GN(select)(IVEC mask, NUM a, NUM b) { return FN(pick)(mask, a, b); }
INLINE NUM GN(chain)(VEC value, VEC slope, NUM x) {
    (void)slope, (void)x;
    return value;
}
INLINE NUM GN(load)(FN(source) p, ptrdiff_t at, ptrdiff_t n) {
    return p.v ? LOADN(p.v + at, n) : SET1((REAL)0);
}
INLINE void GN(store)(FN(target) p, ptrdiff_t at, ptrdiff_t n, NUM a) {
    if (p.v) STOREN(p.v + at, a, n);
}
INLINE NUM GN(total)(NUM a) { return FN(lane_sum)(a); }
INLINE NUM GN(first)(NUM a, ptrdiff_t n) { return FN(first)(a, n); }
#endif

#define CONSTANT(x) GN(set)(SET1((REAL)(x)))
#define ADD GN(add)
#define SUB GN(sub)
#define MUL GN(mul)

INLINE void GN(accumulate)(FN(target) p, ptrdiff_t at, ptrdiff_t n, NUM a) {
    if (p.v || p.t) GN(store)(p, at, n, ADD(GN(load)((FN(source)){p.v, p.t}, at, n), a));
}

/* The part of a row that is in memory: NULL stands for zeros (source) or for nobody asks (target). */
INLINE FN(source) GN(source)(const void *v, const void *t, ptrdiff_t at) {
    return (FN(source)){v ? (const REAL *)v + at : NULL, t ? (const REAL *)t + at : NULL};
}
INLINE FN(target) GN(target)(void *v, void *t, ptrdiff_t at) {
    return (FN(target)){v ? (REAL *)v + at : NULL, t ? (REAL *)t + at : NULL};
}

/* ---------------------------------------------------------------- activations */

INLINE NUM GN(sigmoid)(NUM x) {
    const VEC s = FN(vec_sigmoid)(GN(value)(x));
    return GN(chain)(s, s * (SET1((REAL)1) - s), x);
}

INLINE NUM GN(tanh)(NUM x) {
    const VEC t = FN(vec_tanh)(GN(value)(x));
    return GN(chain)(t, FNMA(t, t, SET1((REAL)1)), x);
}

INLINE NUM GN(exp)(NUM x) {
    const VEC e = FN(each_exp)(GN(value)(x));
    return GN(chain)(e, e, x);
}

INLINE NUM GN(softplus)(NUM x) {
    return GN(chain)(FN(each_softplus)(GN(value)(x)), FN(vec_sigmoid)(GN(value)(x)), x);
}

/* The standard normal distribution function and, below, its density. */
INLINE NUM GN(normal)(NUM x) {
    return GN(chain)(FN(each_normal)(GN(value)(x)), FN(each_density)(GN(value)(x)), x);
}

INLINE NUM GN(density)(NUM x) {
    const VEC d = FN(each_density)(GN(value)(x));
    return GN(chain)(d, -GN(value)(x) * d, x);
}

/* min(max(x, low), high); *outside where it is constant. NaN stays. */
INLINE NUM GN(between)(NUM x, VEC low, VEC high, IVEC *outside) {
    const VEC v = GN(value)(x);
    const IVEC under = (IVEC)(v < low), over = (IVEC)(v > high);
    *outside = under | over;
    return GN(select)(under, GN(set)(low), GN(select)(over, GN(set)(high), x));
}

/* y = f(x) and, where slope is not NULL, f'(x). */
static __attribute__((noinline)) void GN(activation)(const lstm_activation *f, const NUM *at, NUM *y,
                                                     NUM *slope) {
    const NUM x = *at, zero = CONSTANT(0), one = CONSTANT(1);
    const VEC v = GN(value)(x), alpha = SET1((REAL)f->alpha), beta = SET1((REAL)f->beta);
    const IVEC positive = (IVEC)(v > SET1((REAL)0));
    IVEC flat;
    NUM value = x, derivative = one, inner;
    switch (f->kind) {
    case LSTM_ACT_SIGMOID:
        value = GN(sigmoid)(x);
        derivative = MUL(value, SUB(one, value));
        break;
    case LSTM_ACT_TANH:
        value = GN(tanh)(x);
        derivative = SUB(one, MUL(value, value));
        break;
    case LSTM_ACT_SCALED_TANH: /* alpha tanh(beta x) */
        inner = GN(tanh)(GN(scale)(x, beta));
        value = GN(scale)(inner, alpha);
        derivative = GN(scale)(SUB(one, MUL(inner, inner)), alpha * beta);
        break;
    case LSTM_ACT_AFFINE: /* alpha x + beta */
        value = ADD(GN(scale)(x, alpha), GN(set)(beta));
        derivative = GN(set)(alpha);
        break;
    case LSTM_ACT_CLIPPED: /* alpha x + beta within 0 and 1: the hard sigmoid */
        value = GN(between)(ADD(GN(scale)(x, alpha), GN(set)(beta)), SET1((REAL)0), SET1((REAL)1), &flat);
        inner = ADD(GN(scale)(x, alpha), GN(set)(beta));
        flat |= (IVEC)(GN(value)(inner) == SET1((REAL)0)) | (IVEC)(GN(value)(inner) == SET1((REAL)1));
        derivative = GN(select)(flat, zero, GN(set)(alpha));
        break;
    case LSTM_ACT_RAMP: /* x within alpha and beta: relu, relu6, hard tanh */
        value = GN(between)(x, alpha, beta, &flat);
        flat |= (IVEC)(v == alpha) | (IVEC)(v == beta);
        derivative = GN(select)(flat, zero, one);
        break;
    case LSTM_ACT_LEAKY: /* x, below 0 alpha x */
        value = GN(select)(positive, x, GN(scale)(x, alpha));
        derivative = GN(select)(positive, one, GN(set)(alpha));
        break;
    case LSTM_ACT_THRESHOLDED: /* x above alpha, else 0 */
        flat = ~(IVEC)(v > alpha) & (IVEC)(v == v);
        value = GN(select)(flat, zero, x);
        derivative = GN(select)(flat, zero, one);
        break;
    case LSTM_ACT_ELU: /* beta x, below 0 beta alpha (e^x - 1): elu, selu */
        /* e^x - 1 = 2 t / (1 - t), t = tanh(x / 2): exact for small x */
        inner = GN(tanh)(GN(scale)(GN(select)(positive, zero, x), SET1((REAL)0.5)));
        inner = GN(chain)(SET1((REAL)2) * GN(value)(inner) / (SET1((REAL)1) - GN(value)(inner)),
                          FN(each_exp)(GN(value)(GN(select)(positive, zero, x))), x);
        value = GN(scale)(GN(select)(positive, x, GN(scale)(inner, alpha)), beta);
        derivative = GN(scale)(GN(select)(positive, one, GN(scale)(GN(exp)(x), alpha)), beta);
        break;
    case LSTM_ACT_SOFTSIGN: /* x / (1 + |x|) */
        inner = GN(select)(positive, x, SUB(zero, x));
        derivative = GN(chain)(SET1((REAL)1) / (SET1((REAL)1) + GN(value)(inner)),
                               SET1((REAL)-1) / ((SET1((REAL)1) + GN(value)(inner)) *
                                                 (SET1((REAL)1) + GN(value)(inner))),
                               inner);
        value = MUL(x, derivative);
        value = GN(select)((IVEC)(GN(value)(inner) > SET1((REAL)(REAL_IS_FLOAT ? 1e37 : 1e307))),
                           GN(select)(positive, one, SUB(zero, one)), value);
        derivative = MUL(derivative, derivative);
        break;
    case LSTM_ACT_SOFTPLUS: /* log(1 + e^x) */
        value = GN(softplus)(x);
        derivative = GN(sigmoid)(x);
        break;
    case LSTM_ACT_EXPONENTIAL:
        value = derivative = GN(exp)(x);
        break;
    case LSTM_ACT_SILU: /* x sigma(x) */
        inner = GN(sigmoid)(x);
        value = MUL(x, inner);
        derivative = ADD(inner, MUL(value, SUB(one, inner)));
        break;
    case LSTM_ACT_GELU: /* x Phi(x) */
        inner = GN(normal)(x);
        value = MUL(x, inner);
        derivative = ADD(inner, MUL(x, GN(density)(x)));
        break;
    case LSTM_ACT_MISH: /* x tanh(softplus(x)) */
        inner = GN(tanh)(GN(softplus)(x));
        value = MUL(x, inner);
        derivative = ADD(inner, MUL(MUL(x, SUB(one, MUL(inner, inner))), GN(sigmoid)(x)));
        break;
    case LSTM_ACT_HARD_SILU: /* x clip(x / 6 + 1/2, 0, 1) */
        inner = ADD(GN(scale)(x, SET1((REAL)1 / (REAL)6)), CONSTANT(0.5));
        inner = GN(between)(inner, SET1((REAL)0), SET1((REAL)1), &flat);
        value = MUL(x, inner);
        derivative = ADD(inner, GN(select)(flat, zero, GN(scale)(x, SET1((REAL)1 / (REAL)6))));
        break;
    default: /* LSTM_ACT_IDENTITY */
        break;
    }
    *y = value;
    if (slope) *slope = derivative;
}

/* The activations of the usual LSTM are inlined, the others called. */
INLINE NUM GN(gate)(const lstm_activation *f, const int kind, NUM x, NUM *slope) {
    const NUM one = CONSTANT(1);
    NUM y;
    if (kind == LSTM_ACT_SIGMOID) {
        y = GN(sigmoid)(x);
        if (slope) *slope = MUL(y, SUB(one, y));
    } else if (kind == LSTM_ACT_TANH) {
        y = GN(tanh)(x);
        if (slope) *slope = SUB(one, MUL(y, y));
    } else
        GN(activation)(f, &x, &y, slope);
    return y;
}

/* ---------------------------------------------------------------- layer normalisation, of a row */

typedef struct GN(moments) {
    NUM mean, scale; /* in all lanes; scale = 1 / sqrt(variance + 1e-5) */
} GN(moments);

INLINE GN(moments) GN(moments_of)(FN(source) x, ptrdiff_t n) {
    const VEC count = SET1((REAL)n);
    GN(moments) of;
    NUM sum = CONSTANT(0), square = CONSTANT(0), d;
    VEC root;
    for (ptrdiff_t u = 0; u < n; u += LANES) sum = ADD(sum, GN(load)(x, u, FN(min)(LANES, n - u)));
    of.mean = GN(scale)(GN(total)(sum), SET1((REAL)1) / count);
    for (ptrdiff_t u = 0; u < n; u += LANES) {
        const ptrdiff_t k = FN(min)(LANES, n - u);
        d = GN(first)(SUB(GN(load)(x, u, k), of.mean), k);
        square = ADD(square, MUL(d, d));
    }
    d = ADD(GN(scale)(GN(total)(square), SET1((REAL)1) / count), CONSTANT(1e-5));
    root = FN(each_sqrt)(GN(value)(d));
    of.scale = GN(chain)(SET1((REAL)1) / root, SET1((REAL)-0.5) / (root * root * root), d);
    return of;
}

/* y += gain (x - mean) scale */
INLINE void GN(norm_forward)(ptrdiff_t n, FN(source) x, FN(source) gain, FN(target) y) {
    const GN(moments) of = GN(moments_of)(x, n);
    for (ptrdiff_t u = 0; u < n; u += LANES) {
        const ptrdiff_t k = FN(min)(LANES, n - u);
        const NUM normal = MUL(SUB(GN(load)(x, u, k), of.mean), of.scale);
        GN(accumulate)(y, u, k, MUL(normal, GN(load)(gain, u, k)));
    }
}

/* dx from dy, the gradient of y; dgain is added to. dx may be where dy is. */
INLINE void GN(norm_backward)(ptrdiff_t n, FN(source) x, FN(source) gain, FN(source) dy, FN(target) dx,
                              FN(target) dgain) {
    const GN(moments) of = GN(moments_of)(x, n);
    const VEC inverse = SET1((REAL)1) / SET1((REAL)n);
    NUM sum = CONSTANT(0), along = CONSTANT(0);
    for (ptrdiff_t u = 0; u < n; u += LANES) {
        const ptrdiff_t k = FN(min)(LANES, n - u);
        const NUM normal = MUL(SUB(GN(load)(x, u, k), of.mean), of.scale), d = GN(load)(dy, u, k);
        const NUM dnormal = MUL(d, GN(load)(gain, u, k)); /* 0 beyond k */
        sum = ADD(sum, dnormal);
        along = ADD(along, MUL(dnormal, normal));
        GN(accumulate)(dgain, u, k, MUL(d, normal));
    }
    sum = GN(scale)(GN(total)(sum), inverse);
    along = GN(scale)(GN(total)(along), inverse);
    for (ptrdiff_t u = 0; u < n; u += LANES) {
        const ptrdiff_t k = FN(min)(LANES, n - u);
        const NUM normal = MUL(SUB(GN(load)(x, u, k), of.mean), of.scale);
        const NUM dnormal = MUL(GN(load)(dy, u, k), GN(load)(gain, u, k));
        GN(store)(dx, u, k, MUL(of.scale, SUB(SUB(dnormal, sum), MUL(normal, along))));
    }
}

/* ---------------------------------------------------------------- zoneout */

/* Where a mask is drawn z is 1 or 0 and selects, so a unit that is kept has the bits that it had, whatever the
 * other value is; between them z mixes. */
INLINE NUM GN(zone_select)(VEC z, NUM one, NUM zero, NUM mixed) {
    return GN(select)((IVEC)(z == SET1((REAL)1)), one, GN(select)((IVEC)(z == SET1((REAL)0)), zero, mixed));
}

/* the state: `before` where a unit is kept, else `next` */
INLINE NUM GN(zone)(NUM next, NUM before, VEC z) {
    return GN(zone_select)(z, before, next, ADD(next, GN(scale)(SUB(before, next), z)));
}

/* the share of a gradient that belongs to the old state, and that of the new one */
INLINE NUM GN(zone_kept)(NUM d, VEC z) { return GN(zone_select)(z, d, CONSTANT(0), GN(scale)(d, z)); }
INLINE NUM GN(zone_passed)(NUM d, VEC z) { return GN(zone_select)(z, CONSTANT(0), d, SUB(d, GN(scale)(d, z))); }

/* ---------------------------------------------------------------- the step */

/* One row: where its numbers are. */
typedef struct GN(row) {
    FN(source) pre_x, pre_h, bias, c_prev, peephole;
} GN(row);

/* What a vector of units is before its output gate. */
typedef struct GN(half) {
    NUM i, f, g, c_prev, k, pre_o;
    NUM slope_i, slope_f, slope_g; /* filled where asked for, 0 where a clip holds */
    IVEC clipped;                  /* where cell_clip holds */
} GN(half);

INLINE NUM GN(clipped_gate)(const lstm_cell *cell, const lstm_activation *f, const int kind, NUM z,
                            NUM *slope) {
    IVEC outside;
    NUM y;
    if (!cell->gate_clipped) return GN(gate)(f, kind, z, slope);
    z = GN(between)(z, SET1((REAL)-cell->gate_clip), SET1((REAL)cell->gate_clip), &outside);
    y = GN(gate)(f, kind, z, slope);
    if (slope) *slope = GN(select)(outside, CONSTANT(0), *slope);
    return y;
}

#define KIND(kind) (standard ? (kind) : -1)

INLINE GN(half) GN(input_half)(const lstm_cell *cell, const int standard, const int slopes,
                               const GN(row) *row, ptrdiff_t H, ptrdiff_t u, ptrdiff_t n) {
    GN(half) a;
    NUM pre[4];
    UNROLL for (int q = 0; q < 4; q++) {
        pre[q] = GN(load)(row->pre_x, q * H + u, n);
        if (row->pre_h.v) pre[q] = ADD(pre[q], GN(load)(row->pre_h, q * H + u, n));
        if (q == 0 && cell->static_input_gate && row->bias.v) pre[q] = CONSTANT(0);
        if (row->bias.v) pre[q] = ADD(pre[q], GN(load)(row->bias, q * H + u, n));
    }
    a.c_prev = GN(load)(row->c_prev, u, n);
    if (row->peephole.v) {
        pre[0] = ADD(pre[0], MUL(GN(load)(row->peephole, u, n), a.c_prev));
        pre[1] = ADD(pre[1], MUL(GN(load)(row->peephole, H + u, n), a.c_prev));
    }
    a.i = GN(clipped_gate)(cell, &cell->gate, KIND(LSTM_ACT_SIGMOID), pre[0], slopes ? &a.slope_i : NULL);
    a.slope_f = CONSTANT(0);
    if (cell->coupled)
        a.f = SUB(CONSTANT(1), a.i);
    else
        a.f = GN(clipped_gate)(cell, &cell->gate, KIND(LSTM_ACT_SIGMOID), pre[1],
                               slopes ? &a.slope_f : NULL);
    a.g = GN(clipped_gate)(cell, &cell->candidate, KIND(LSTM_ACT_TANH), pre[2],
                           slopes ? &a.slope_g : NULL);
    a.k = ADD(MUL(a.f, a.c_prev), MUL(a.i, a.g));
    a.clipped = (IVEC)SET1((REAL)0);
    if (cell->cell_clipped)
        a.k = GN(between)(a.k, SET1((REAL)-cell->cell_clip), SET1((REAL)cell->cell_clip), &a.clipped);
    a.pre_o = pre[3];
    if (row->peephole.v) a.pre_o = ADD(a.pre_o, MUL(GN(load)(row->peephole, 2 * H + u, n), a.k));
    return a;
}

/* With layer_norm the gates' pre-activations but for the bias, made in `scratch` (4H). */
INLINE void GN(normed_pre)(ptrdiff_t H, const lstm_step *v, const lstm_step *t, GN(row) *row, FN(target) scratch) {
    for (ptrdiff_t j = 0; j < 4 * H; j += LANES)
        GN(store)(scratch, j, FN(min)(LANES, 4 * H - j), CONSTANT(0));
    GN(norm_forward)(4 * H, row->pre_x, GN(source)(v->norm_ih, t ? t->norm_ih : NULL, 0), scratch);
    GN(norm_forward)(4 * H, row->pre_h, GN(source)(v->norm_hh, t ? t->norm_hh : NULL, 0), scratch);
    row->pre_x = (FN(source)){scratch.v, scratch.t};
    row->pre_h = (FN(source)){NULL, NULL};
}

#define FIELD(name) v->name, t ? t->name : NULL
#define SOURCE(name, at) GN(source)(FIELD(name), at)
#define TARGET(name, at) GN(target)(FIELD(name), at)
#define FOR_VECTORS(H, u, n) \
    for (ptrdiff_t u = 0, n = 0; u < (H) && ((n = FN(min)(LANES, (H) - u)), 1); u += LANES)

INLINE GN(row) GN(row_at)(const lstm_step *v, const lstm_step *t, ptrdiff_t H, ptrdiff_t r) {
    return (GN(row)){SOURCE(pre_x, 4 * r * H), SOURCE(pre_h, 4 * r * H), SOURCE(bias, r * v->bias_stride),
                     SOURCE(c_prev, r * H), SOURCE(peephole, 0)};
}

/* With layer_norm a row goes in two, since u needs all of k. scratch: 4H pre-activations | u | pre_o | k;
 * returned is the row that the rest reads. */
static __attribute__((noinline)) GN(row) GN(normed_forward)(const lstm_cell *cell, ptrdiff_t H,
                                                            const lstm_step *v, const lstm_step *t,
                                                            ptrdiff_t r) {
    const FN(target) at_u = TARGET(scratch, 4 * H), at_o = TARGET(scratch, 5 * H),
                     at_k = TARGET(scratch, 6 * H), at_gates = TARGET(gates, 4 * r * H);
    GN(row) row = GN(row_at)(v, t, H, r);
    GN(normed_pre)(H, v, t, &row, TARGET(scratch, 0));
    FOR_VECTORS(H, u, n) {
        const GN(half) a = GN(input_half)(cell, 0, 0, &row, H, u, n);
        GN(store)(at_k, u, n, a.k);
        GN(store)(at_o, u, n, a.pre_o);
        GN(store)(at_u, u, n, GN(load)(SOURCE(norm_c_bias, 0), u, n));
        if (at_gates.v) {
            GN(store)(at_gates, u, n, a.i);
            GN(store)(at_gates, H + u, n, a.f);
            GN(store)(at_gates, 2 * H + u, n, a.g);
        }
    }
    GN(norm_forward)(H, (FN(source)){at_k.v, at_k.t}, SOURCE(norm_c, 0), at_u);
    return row;
}

/* scratch: 4H pre-activations | u | k | du, then what reaches k through the normalisation */
static __attribute__((noinline)) GN(row) GN(normed_backward)(const lstm_cell *cell, ptrdiff_t H,
                                                             const lstm_step *v, const lstm_step *t,
                                                             ptrdiff_t r) {
    const FN(target) at_u = TARGET(scratch, 4 * H), at_k = TARGET(scratch, 5 * H),
                     at_du = TARGET(scratch, 6 * H);
    const FN(source) dh = SOURCE(dh, r * H);
    GN(row) row = GN(row_at)(v, t, H, r);
    GN(normed_pre)(H, v, t, &row, TARGET(scratch, 0));
    for (int again = 0; again < 2; again++) {
        FOR_VECTORS(H, u, n) {
            const GN(half) a = GN(input_half)(cell, 0, 0, &row, H, u, n);
            NUM slope, du, o, dm;
            if (!again) {
                GN(store)(at_k, u, n, a.k);
                GN(store)(at_u, u, n, GN(load)(SOURCE(norm_c_bias, 0), u, n));
                continue;
            }
            o = GN(clipped_gate)(cell, &cell->gate, -1, a.pre_o, NULL);
            dm = GN(load)(dh, u, n);
            if (v->zone_h) dm = GN(zone_passed)(dm, LOADN((const REAL *)v->zone_h + r * H + u, n));
            GN(gate)(&cell->output, -1, GN(load)((FN(source)){at_u.v, at_u.t}, u, n), &slope);
            du = MUL(MUL(dm, o), slope);
            GN(store)(at_du, u, n, du);
            GN(accumulate)(TARGET(dnorm_c_bias, 0), u, n, du);
        }
        if (!again) GN(norm_forward)(H, (FN(source)){at_k.v, at_k.t}, SOURCE(norm_c, 0), at_u);
    }
    GN(norm_backward)(H, (FN(source)){at_k.v, at_k.t}, SOURCE(norm_c, 0), (FN(source)){at_du.v, at_du.t},
                      at_du, TARGET(dnorm_c, 0));
    return row;
}

INLINE void GN(forward_rows)(const lstm_cell *cell, const int standard, ptrdiff_t rows, ptrdiff_t H,
                             const lstm_step *v, const lstm_step *t) {
    for (ptrdiff_t r = 0; r < rows; r++) {
        const FN(target) at_c = TARGET(c, r * H), at_h = TARGET(h, r * H), at_gates = TARGET(gates, 4 * r * H);
        const FN(target) at_pre = TARGET(pre, 4 * r * H);
        const FN(source) h_prev = SOURCE(h_prev, r * H);
        const FN(target) at_u = TARGET(scratch, 4 * H), at_o = TARGET(scratch, 5 * H),
                         at_k = TARGET(scratch, 6 * H);
        GN(row) row = GN(row_at)(v, t, H, r);
        if (cell->layer_norm) row = GN(normed_forward)(cell, H, v, t, r);
        FOR_VECTORS(H, u, n) {
            NUM k, pre_o, at, c_prev, o, m;
            if (cell->layer_norm) {
                k = GN(load)((FN(source)){at_k.v, at_k.t}, u, n);
                pre_o = GN(load)((FN(source)){at_o.v, at_o.t}, u, n);
                at = GN(load)((FN(source)){at_u.v, at_u.t}, u, n);
                c_prev = GN(load)(row.c_prev, u, n);
            } else {
                const GN(half) a = GN(input_half)(cell, standard, 0, &row, H, u, n);
                if (at_pre.v) { /* before peepholes, clips: what backward starts from */
                    UNROLL for (int q = 0; q < 4; q++) {
                        NUM p = GN(load)(row.pre_x, q * H + u, n);
                        if (row.pre_h.v) p = ADD(p, GN(load)(row.pre_h, q * H + u, n));
                        if (q == 0 && cell->static_input_gate) p = CONSTANT(0);
                        if (row.bias.v) p = ADD(p, GN(load)(row.bias, q * H + u, n));
                        GN(store)(at_pre, q * H + u, n, p);
                    }
                }
                if (at_gates.v) {
                    GN(store)(at_gates, u, n, a.i);
                    GN(store)(at_gates, H + u, n, a.f);
                    GN(store)(at_gates, 2 * H + u, n, a.g);
                }
                k = at = a.k;
                pre_o = a.pre_o;
                c_prev = a.c_prev;
            }
            o = GN(clipped_gate)(cell, &cell->gate, KIND(LSTM_ACT_SIGMOID), pre_o, NULL);
            m = MUL(o, GN(gate)(&cell->output, KIND(LSTM_ACT_TANH), at, NULL));
            if (at_gates.v) GN(store)(at_gates, 3 * H + u, n, o);
            if (v->zone_h)
                m = GN(zone)(m, GN(load)(h_prev, u, n), LOADN((const REAL *)v->zone_h + r * H + u, n));
            if (v->zone_c) k = GN(zone)(k, c_prev, LOADN((const REAL *)v->zone_c + r * H + u, n));
            GN(store)(at_c, u, n, k);
            GN(store)(at_h, u, n, m);
        }
    }
}

INLINE void GN(backward_rows)(const lstm_cell *cell, const int standard, ptrdiff_t rows, ptrdiff_t H,
                              const lstm_step *v, const lstm_step *t) {
    for (ptrdiff_t r = 0; r < rows; r++) {
        const FN(target) dpre = TARGET(dpre_x, 4 * r * H), at_dc = TARGET(dc, r * H);
        const FN(target) at_dh_prev = TARGET(dh_prev, r * H), at_m = TARGET(h, r * H);
        const FN(target) dbias = TARGET(dbias, r * v->bias_stride), dpeephole = TARGET(dpeephole, 0);
        const FN(source) dh = SOURCE(dh, r * H);
        const FN(target) at_u = TARGET(scratch, 4 * H), at_du = TARGET(scratch, 6 * H);
        const GN(row) raw = GN(row_at)(v, t, H, r);
        GN(row) row = raw;
        if (cell->layer_norm) row = GN(normed_backward)(cell, H, v, t, r);
        FOR_VECTORS(H, u, n) {
            GN(half) a = GN(input_half)(cell, standard, 1, &row, H, u, n);
            const NUM at = cell->layer_norm ? GN(load)((FN(source)){at_u.v, at_u.t}, u, n) : a.k;
            NUM slope_o, slope, dm = GN(load)(dh, u, n), dc = GN(load)((FN(source)){at_dc.v, at_dc.t}, u, n);
            NUM dc_prev = CONSTANT(0), d[4];
            const NUM o = GN(clipped_gate)(cell, &cell->gate, KIND(LSTM_ACT_SIGMOID), a.pre_o, &slope_o);
            const NUM value = GN(gate)(&cell->output, KIND(LSTM_ACT_TANH), at, &slope);
            if (at_m.v) GN(store)(at_m, u, n, MUL(o, value));
            if (v->zone_h) {
                const VEC z = LOADN((const REAL *)v->zone_h + r * H + u, n);
                GN(store)(at_dh_prev, u, n, GN(zone_kept)(dm, z));
                dm = GN(zone_passed)(dm, z);
            }
            if (v->zone_c) {
                const VEC z = LOADN((const REAL *)v->zone_c + r * H + u, n);
                dc_prev = GN(zone_kept)(dc, z);
                dc = GN(zone_passed)(dc, z);
            }
            d[3] = MUL(MUL(dm, value), slope_o);
            dc = ADD(dc, cell->layer_norm ? GN(load)((FN(source)){at_du.v, at_du.t}, u, n)
                                          : MUL(MUL(dm, o), slope));
            if (row.peephole.v) {
                dc = ADD(dc, MUL(d[3], GN(load)(row.peephole, 2 * H + u, n)));
                GN(accumulate)(dpeephole, 2 * H + u, n, MUL(d[3], a.k));
            }
            if (cell->cell_clipped) dc = GN(select)(a.clipped, CONSTANT(0), dc);
            if (cell->coupled) {
                d[0] = MUL(MUL(dc, SUB(a.g, a.c_prev)), a.slope_i);
                d[1] = CONSTANT(0);
            } else {
                d[0] = MUL(MUL(dc, a.g), a.slope_i);
                d[1] = MUL(MUL(dc, a.c_prev), a.slope_f);
            }
            d[2] = MUL(MUL(dc, a.i), a.slope_g);
            dc_prev = ADD(dc_prev, MUL(dc, a.f));
            if (row.peephole.v) {
                dc_prev = ADD(dc_prev, MUL(d[0], GN(load)(row.peephole, u, n)));
                dc_prev = ADD(dc_prev, MUL(d[1], GN(load)(row.peephole, H + u, n)));
                GN(accumulate)(dpeephole, u, n, MUL(d[0], a.c_prev));
                GN(accumulate)(dpeephole, H + u, n, MUL(d[1], a.c_prev));
            }
            GN(store)(at_dc, u, n, dc_prev);
            UNROLL for (int q = 0; q < 4; q++) {
                GN(accumulate)(dbias, q * H + u, n, d[q]);
                GN(store)(dpre, q * H + u, n, q == 0 && cell->static_input_gate ? CONSTANT(0) : d[q]);
            }
        }
        if (cell->layer_norm) {
            const FN(source) dy = {dpre.v, dpre.t};
            GN(norm_backward)(4 * H, raw.pre_h, SOURCE(norm_hh, 0), dy, TARGET(dpre_h, 4 * r * H),
                              TARGET(dnorm_hh, 0));
            GN(norm_backward)(4 * H, raw.pre_x, SOURCE(norm_ih, 0), dy, dpre, TARGET(dnorm_ih, 0));
        }
    }
}

static void GN(general_forward)(const lstm_cell *cell, ptrdiff_t rows, ptrdiff_t H, const lstm_step *v,
                                const lstm_step *t) {
    if (cell->standard)
        GN(forward_rows)(cell, 1, rows, H, v, t);
    else
        GN(forward_rows)(cell, 0, rows, H, v, t);
}

static void GN(general_backward)(const lstm_cell *cell, ptrdiff_t rows, ptrdiff_t H, const lstm_step *v,
                                 const lstm_step *t) {
    if (cell->standard)
        GN(backward_rows)(cell, 1, rows, H, v, t);
    else
        GN(backward_rows)(cell, 0, rows, H, v, t);
}

#undef NUM
#undef GN
#undef CONSTANT
#undef ADD
#undef SUB
#undef MUL
#undef KIND
#undef FIELD
#undef SOURCE
#undef TARGET
#undef FOR_VECTORS
