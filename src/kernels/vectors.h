/* Vectors of one vec_*.h for one REAL: names, loads and stores of whole vectors and of parts, the cell on them, and
 * how rows are cut into tiles.
 * Read by kernels_impl.h and bfloat16_impl.h with REAL, T (s or d) and REAL_IS_FLOAT set. */

#define CAT_(a, b) a##_##b
#define CAT(a, b) CAT_(a, b)
#define FN(name) CAT(name, T)
#define VEC FN(vec)
#define UVEC FN(uvec)
#define IVEC FN(ivec)
#define LANES ((ptrdiff_t)(VEC_BYTES / sizeof(REAL)))
#define PANEL (4 * LANES)
#define SET1(x) ((VEC)CAT(VEC_SET1, T)(x))
#define FMA(a, b, c) CAT(VEC_FMA, T)(a, b, c)
#define FNMA(a, b, c) CAT(VEC_FNMA, T)(a, b, c)
#define MAX(a, b) CAT(VEC_MAX, T)(a, b)
#define MIN(a, b) CAT(VEC_MIN, T)(a, b)
#define LOAD(p) (*(const UVEC *)(p))
#define STORE(p, v) (*(UVEC *)(p) = (v))
#define LOADN(p, n) FN(loadn)(p, n)
#define STOREN(p, v, n) FN(storen)(p, v, n)
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef REAL VEC __attribute__((vector_size(VEC_BYTES)));
typedef REAL UVEC __attribute__((vector_size(VEC_BYTES), aligned(sizeof(REAL)), may_alias));
#if REAL_IS_FLOAT
typedef int IVEC __attribute__((vector_size(VEC_BYTES)));
#else
typedef long long IVEC __attribute__((vector_size(VEC_BYTES)));
#endif

#ifdef VEC_NEEDS_LANES
INLINE VEC FN(select)(IVEC mask, VEC a, VEC b) { return (VEC)((mask & (IVEC)a) | (~mask & (IVEC)b)); }

INLINE VEC FN(load_lanes)(const REAL *p, ptrdiff_t n) {
    VEC v = SET1((REAL)0);
    for (ptrdiff_t j = 0; j < n; j++) v[j] = p[j];
    return v;
}

INLINE void FN(store_lanes)(REAL *p, VEC v, ptrdiff_t n) {
    for (ptrdiff_t j = 0; j < n; j++) p[j] = v[j];
}
#endif

/* The first n <= LANES lanes: nothing else is read or written. */
INLINE VEC FN(loadn)(const REAL *p, ptrdiff_t n) {
    if (n == LANES) return LOAD(p);
    return CAT(VEC_LOADN, T)(p, n);
}

INLINE void FN(storen)(REAL *p, VEC v, ptrdiff_t n) {
    if (n == LANES)
        STORE(p, v);
    else
        CAT(VEC_STOREN, T)(p, v, n);
}

#ifdef VEC_STREAM_END
#define STREAM(p, v) CAT(VEC_STREAM, T)(p, v)
#define STREAM_END VEC_STREAM_END
#else
#define STREAM(p, v) STORE(p, v)
#define STREAM_END (void)0
#endif

#include "cell.h"

INLINE ptrdiff_t FN(min)(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
INLINE ptrdiff_t FN(vectors)(ptrdiff_t n) { return (n + LANES - 1) / LANES; }

/* A narrow tile has more rows, so that its chains of multiply-adds are as many as hide their latency. */
#define ROWS_OF(nv) ((nv) == 1 ? TILE_ROWS_1 : (nv) == 2 ? TILE_ROWS_2 : (nv) == 3 ? TILE_ROWS_3 : TILE_ROWS)
#define MOST_ROWS TILE_ROWS_1

/* Calls CALL(nr, nv) with both as constants. */
#define ROWS_CASE(nr, CALL, nv) case nr: if (ROWS_OF(nv) >= (nr)) { CALL(nr, nv); } break;
#define FOR_ROWS(nr, CALL, nv)      \
    switch (nr) {                   \
    ROWS_CASE(1, CALL, nv)          \
    ROWS_CASE(2, CALL, nv)          \
    ROWS_CASE(3, CALL, nv)          \
    ROWS_CASE(4, CALL, nv)          \
    ROWS_CASE(5, CALL, nv)          \
    ROWS_CASE(6, CALL, nv)          \
    ROWS_CASE(7, CALL, nv)          \
    ROWS_CASE(8, CALL, nv)          \
    default: __builtin_unreachable(); \
    }
#define FOR_TILE(nr, nv, CALL)                \
    switch (nv) {                             \
    case 1: FOR_ROWS(nr, CALL, 1) break;      \
    case 2: FOR_ROWS(nr, CALL, 2) break;      \
    case 3: FOR_ROWS(nr, CALL, 3) break;      \
    default: FOR_ROWS(nr, CALL, 4) break;     \
    }
/* Rows are cut into tiles of nearly equal height, `most` at most, so that no tile is a thin remainder. */
#define FOR_ROW_TILES(rows, most, r, nr)                                                    \
    for (ptrdiff_t r = 0, tiles_ = ((rows) + (most) - 1) / (most), t_ = 0, nr = 0;          \
         t_ < tiles_ && ((nr = ((rows) - r + tiles_ - t_ - 1) / (tiles_ - t_)), 1); r += nr, t_++)
