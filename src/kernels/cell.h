/* The cell: gates, cell state and output of a vector of hidden units, forward and backward.
 *
 * Hochreiter and Schmidhuber 1997, with the forget gate of Gers, Schmidhuber and Cummins 2000:
 *   i, f, o = sigma(pre)   g = tanh(pre)   c = f c_prev + i g   h = o act(c)
 * Included by kernels_impl.h, once per dtype and instruction set. An option of the LSTM family is
 * arithmetic in this file and nowhere else. */

/* e^r - 1 = r + r^2 q(r) for |r| <= ln(2)/2. q: minimax in the relative error of e^r - 1, which is
 * 1.3e-8 (float) and 1.8e-17 (double). */
INLINE VEC FN(expm1_reduced)(VEC r) {
#if REAL_IS_FLOAT
    static const REAL q[] = {0.499999981492f, 0.166665434184f, 0.0416672008598f, 0.00836654768956f,
                             0.00138825062952f};
#else
    static const REAL q[] = {0.5000000000000005217982,    0.1666666666666659002147,
                             0.04166666666657632798488,   0.008333333333389020264284,
                             0.001388888893170142192806,  0.000198412697203116817864,
                             0.00002480150510925722763376, 0.000002755740621991574106513,
                             2.762610411796164155159e-7,  2.505424820506606918588e-8};
#endif
    VEC s = SET1(q[sizeof q / sizeof q[0] - 1]);
    UNROLL for (int j = (int)(sizeof q / sizeof q[0]) - 2; j >= 0; j--) s = FMA(s, r, SET1(q[j]));
    return FMA(r * r, s, r);
}

/* x = n ln 2 + r: sets r and returns 2^n. |x| below the exponent range. */
INLINE VEC FN(exp_reduce)(VEC x, VEC *r) {
#if REAL_IS_FLOAT
    const REAL magic = 12582912.0f /* 1.5 * 2^23: rounds to an integer */, log2e = 1.442695040888963f;
    const REAL ln2_hi = 0.693145751953125f, ln2_lo = 1.4286068203094172e-6f;
    const int mantissa = 23;
#else
    const REAL magic = 6755399441055744.0 /* 1.5 * 2^52 */, log2e = 1.442695040888963407;
    const REAL ln2_hi = 0.6931471803691238, ln2_lo = 1.908214929270587816e-10;
    const int mantissa = 52;
#endif
    VEC shifted = FMA(x, SET1(log2e), SET1(magic));
    VEC n = shifted - SET1(magic);
    *r = FNMA(n, SET1(ln2_lo), FNMA(n, SET1(ln2_hi), x));
    return (VEC)(((IVEC)shifted << mantissa) + (IVEC)SET1((REAL)1));
}

/* sigma(x) = e^x / (e^x + 1). Beyond the clamp sigma differs from 0 or 1 by less than 1e-37. */
INLINE VEC FN(vec_sigmoid)(VEC x) {
    const VEC limit = SET1(REAL_IS_FLOAT ? (REAL)86 : (REAL)707);
    VEC r, power = FN(exp_reduce)(MIN(limit, MAX(-limit, x)), &r);
    const VEC exp_x = FMA(power, FN(expm1_reduced)(r), power);
    return exp_x / (exp_x + SET1((REAL)1));
}

/* tanh(x) = sign(x) * -m / (m + 2), m = e^(-2|x|) - 1: exact for tiny x, odd, 1 when saturated. */
INLINE VEC FN(vec_tanh)(VEC x) {
    const IVEC sign_bit = (IVEC)SET1((REAL)-0.0);
    IVEC sign = (IVEC)x & sign_bit;
    VEC r, power, m, z = MAX(SET1((REAL)-60), (VEC)((IVEC)(x + x) | sign_bit));
    power = FN(exp_reduce)(z, &r);
    m = FMA(power, FN(expm1_reduced)(r), power - SET1((REAL)1));
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

/* pre-activations and c_prev -> activated gates, c, h */
INLINE FN(gates) FN(cell_forward_vec)(const int act, FN(gates) pre, VEC c_prev, VEC *c, VEC *h) {
    FN(gates) a = {FN(vec_sigmoid)(pre.i), FN(vec_sigmoid)(pre.f), FN(vec_tanh)(pre.g),
                   FN(vec_sigmoid)(pre.o)};
    *c = FMA(a.f, c_prev, a.i * a.g);
    *h = a.o * FN(cell_act)(act, *c);
    return a;
}

/* activated gates, c, c_prev, dh, dc -> dgates (of the pre-activations); dc becomes that of c_prev */
INLINE FN(gates) FN(cell_backward_vec)(const int act, FN(gates) a, VEC c, VEC c_prev, VEC dh, VEC *dc) {
    const VEC one = SET1((REAL)1);
    VEC value = FN(cell_act)(act, c);
    VEC dc_t = FMA(dh * a.o, FN(cell_act_derivative)(act, value), *dc);
    FN(gates) d = {dc_t * a.g * a.i * (one - a.i), dc_t * c_prev * a.f * (one - a.f),
                   dc_t * a.i * FNMA(a.g, a.g, one), dh * value * a.o * (one - a.o)};
    *dc = dc_t * a.f;
    return d;
}
