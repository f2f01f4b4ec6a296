/* The cell: gates, cell state and output of a vector of hidden units, forward and backward.
 *
 * Hochreiter and Schmidhuber 1997, with the forget gate of Gers, Schmidhuber and Cummins 2000:
 *   i, f, o = sigma(pre)   g = tanh(pre)   c = f c_prev + i g   h = o act(c)
 * Included by kernels_impl.h, once per dtype and instruction set. An option of the LSTM family is
 * arithmetic in this file and nowhere else. */

/* 2^z = 2^n 2^f, n the integer next to z = x factor: returns 2^n and sets f. |z| below the exponent range.
 * f is exact but for the rounding of `factor`, which moves z by less than one part in 10^8 (float). */
INLINE VEC FN(exp2_reduce)(VEC x, VEC factor, VEC *f) {
#if REAL_IS_FLOAT
    const REAL magic = 12582912.0f /* 1.5 * 2^23: rounds to an integer */;
    const int mantissa = 23;
#else
    const REAL magic = 6755399441055744.0 /* 1.5 * 2^52 */;
    const int mantissa = 52;
#endif
    const VEC shifted = FMA(x, factor, SET1(magic));
    *f = FMA(x, factor, SET1(magic) - shifted);
    return (VEC)(((IVEC)shifted << mantissa) + (IVEC)SET1((REAL)1));
}

/* q(f) by Horner's rule. */
#define POLYNOMIAL(q, f, result)                                                     \
    VEC result = SET1(q[sizeof q / sizeof q[0] - 1]);                                \
    UNROLL for (int j = (int)(sizeof q / sizeof q[0]) - 2; j >= 0; j--) result = FMA(result, f, SET1(q[j]));

#define LOG2_E ((REAL)1.442695040888963407359924681)

/* sigma(x) = 1 / (1 + 2^(-x log2(e))). Beyond the clamp sigma differs from 0 or 1 by less than 1e-37.
 * 2^f = 1 + f q(f), q minimax in the relative error of 2^f: 9.2e-8 (float), 2.2e-16 (double), of which at most
 * a quarter reaches sigma. */
INLINE VEC FN(vec_sigmoid)(VEC x) {
#if REAL_IS_FLOAT
    static const REAL q[] = {0.693146977356f, 0.240222417608f, 0.0555073400055f, 0.00967153390297f,
                             0.0013264699936f};
#else
    static const REAL q[] = {0.6931471805599491831981,    0.2402265069590909975144,
                             0.05550410866448127847573,   0.00961812910798366877054,
                             0.001333355822589531986854,  0.0001540352999380851510635,
                             0.00001525265936824991196781, 0.000001321565370806741906462,
                             1.020833509127830490536e-7,  7.038176358959067981422e-9};
#endif
    const VEC one = SET1((REAL)1), limit = SET1(REAL_IS_FLOAT ? (REAL)86 : (REAL)707);
    VEC f;
    const VEC power = FN(exp2_reduce)(MIN(limit, MAX(-limit, x)), SET1(-LOG2_E), &f);
    POLYNOMIAL(q, f, s)
    return one / FMA(FMA(f, s, one), power, one);
}

/* tanh(x) = sign(x) * -m / (m + 2), m = 2^(-2 |x| log2(e)) - 1: exact for tiny x, odd, 1 when saturated.
 * 2^f - 1 = f q(f), q minimax in the relative error of 2^f - 1: 1.1e-8 (float), 1.8e-17 (double). */
INLINE VEC FN(vec_tanh)(VEC x) {
#if REAL_IS_FLOAT
    static const REAL q[] = {0.693147187936f,   0.240226497939f,   0.0555035739095f,
                             0.00961823758046f, 0.00133907583433f, 0.000154035127451f};
#else
    static const REAL q[] = {0.693147180559945311206,      0.2402265069591009794227,
                             0.05550410866482123581342,    0.009618129107607031063556,
                             0.001333355814653180907059,   0.0001540353044153897712579,
                             0.00001525273370107852553141, 0.000001321544268863440449328,
                             1.017812133334265750621e-7,   7.072568829037481161881e-9,
                             4.445536258306299820749e-10};
#endif
    const IVEC sign_bit = (IVEC)SET1((REAL)-0.0), sign = (IVEC)x & sign_bit;
    const VEC below = MAX(SET1((REAL)-30), (VEC)((IVEC)x | sign_bit)); /* -|x| */
    VEC f;
    const VEC power = FN(exp2_reduce)(below, SET1(2 * LOG2_E), &f);
    POLYNOMIAL(q, f, s)
    const VEC m = FMA(power, f * s, power - SET1((REAL)1));
    return (VEC)(((IVEC)(m / (m + SET1((REAL)2))) & ~sign_bit) | sign);
}

/* The cell's output activation and, from its value, its derivative. */
INLINE VEC FN(cell_act)(const int act, VEC c) {
    if (act == LSTM_ACT_TANH) return FN(vec_tanh)(c);
    return c;
}
INLINE VEC FN(cell_act_derivative)(const int act, VEC value) {
    if (act == LSTM_ACT_TANH) return FNMA(value, value, SET1((REAL)1));
    return SET1((REAL)1);
}

/* Four gates of up to LANES units, and their addresses `stride` apart. */
typedef struct FN(gates) {
    VEC i, f, g, o;
} FN(gates);

INLINE FN(gates) FN(load_gates)(const REAL *p, ptrdiff_t stride, ptrdiff_t n) {
    FN(gates) v = {LOADN(p, n), LOADN(p + stride, n), LOADN(p + 2 * stride, n), LOADN(p + 3 * stride, n)};
    return v;
}

INLINE void FN(store_gates)(REAL *p, ptrdiff_t stride, ptrdiff_t n, FN(gates) v) {
    STOREN(p, v.i, n);
    STOREN(p + stride, v.f, n);
    STOREN(p + 2 * stride, v.g, n);
    STOREN(p + 3 * stride, v.o, n);
}

/* pre-activations -> activated gates */
INLINE FN(gates) FN(activate)(FN(gates) pre) {
    FN(gates) a = {FN(vec_sigmoid)(pre.i), FN(vec_sigmoid)(pre.f), FN(vec_tanh)(pre.g),
                   FN(vec_sigmoid)(pre.o)};
    return a;
}

/* activated gates and c_prev -> c, h */
INLINE void FN(cell_state)(const int act, FN(gates) a, VEC c_prev, VEC *c, VEC *h) {
    *c = FMA(a.f, c_prev, a.i * a.g);
    *h = a.o * FN(cell_act)(act, *c);
}

/* pre-activations and c_prev -> activated gates, c, h */
INLINE FN(gates) FN(cell_forward_vec)(const int act, FN(gates) pre, VEC c_prev, VEC *c, VEC *h) {
    const FN(gates) a = FN(activate)(pre);
    FN(cell_state)(act, a, c_prev, c, h);
    return a;
}

/* activated gates, c, c_prev, dh, dc -> dgates (of the pre-activations), h; dc becomes that of c_prev */
INLINE FN(gates) FN(cell_backward_vec)(const int act, FN(gates) a, VEC c, VEC c_prev, VEC dh, VEC *dc, VEC *h) {
    const VEC one = SET1((REAL)1);
    VEC value = FN(cell_act)(act, c);
    VEC dc_t = FMA(dh * a.o, FN(cell_act_derivative)(act, value), *dc);
    FN(gates) d = {dc_t * a.g * a.i * (one - a.i), dc_t * c_prev * a.f * (one - a.f),
                   dc_t * a.i * FNMA(a.g, a.g, one), dh * value * a.o * (one - a.o)};
    *dc = dc_t * a.f;
    *h = a.o * value;
    return d;
}
