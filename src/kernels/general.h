/* What general_cell.h is written in, and its two readings: numbers, and dual numbers. Included by
 * kernels_impl.h once per dtype. */

#include <math.h>

/* A row's numbers and, of dual numbers, their tangents. */
typedef struct FN(source) {
    const REAL *v, *t;
} FN(source);

typedef struct FN(target) {
    REAL *v, *t;
} FN(target);

typedef struct FN(dual) {
    VEC v, t;
} FN(dual);

INLINE VEC FN(pick)(IVEC mask, VEC a, VEC b) { return (VEC)((mask & (IVEC)a) | (~mask & (IVEC)b)); }

INLINE VEC FN(first)(VEC v, ptrdiff_t n) {
    for (ptrdiff_t j = n; j < LANES; j++) v[j] = 0;
    return v;
}

INLINE VEC FN(lane_sum)(VEC v) {
    REAL sum = 0;
    for (ptrdiff_t j = 0; j < LANES; j++) sum += v[j];
    return SET1(sum);
}

/* Functions that the C library has and that no usual LSTM needs: lane by lane. */
#if REAL_IS_FLOAT
#define LIBM(name) name##f
#else
#define LIBM(name) name
#endif
#define EACH(name, expression)                                                \
    static __attribute__((noinline)) void FN(lanes_##name)(REAL *v) {         \
        for (ptrdiff_t j = 0; j < LANES; j++) {                               \
            const REAL x = v[j];                                              \
            v[j] = (expression);                                              \
        }                                                                     \
    }                                                                         \
    INLINE VEC FN(each_##name)(VEC v) {                                       \
        REAL lanes[VEC_BYTES / sizeof(REAL)];                                 \
        STORE(lanes, v);                                                      \
        FN(lanes_##name)(lanes);                                              \
        return LOAD(lanes);                                                   \
    }
EACH(exp, LIBM(exp)(x))
EACH(sqrt, LIBM(sqrt)(x))
EACH(softplus, (x > 0 ? x : 0) + LIBM(log1p)(LIBM(exp)(-LIBM(fabs)(x))))
EACH(normal, (REAL)0.5 * LIBM(erfc)(x * (REAL)-0.70710678118654752440))
EACH(density, (REAL)0.39894228040143267794 * LIBM(exp)((REAL)-0.5 * x * x))
#undef EACH
#undef LIBM

#define DUAL 0
#include "general_cell.h"
#undef DUAL
#define DUAL 1
#include "general_cell.h"
#undef DUAL

static void FN(general_forward)(const lstm_cell *cell, ptrdiff_t rows, ptrdiff_t H, const lstm_step *value,
                                const lstm_step *tangent) {
    if (tangent)
        FN(general_forward_dual)(cell, rows, H, value, tangent);
    else
        FN(general_forward_plain)(cell, rows, H, value, NULL);
}

static void FN(general_backward)(const lstm_cell *cell, ptrdiff_t rows, ptrdiff_t H, const lstm_step *value,
                                 const lstm_step *tangent) {
    if (tangent)
        FN(general_backward_dual)(cell, rows, H, value, tangent);
    else
        FN(general_backward_plain)(cell, rows, H, value, NULL);
}
