/* Any CPU: 16-byte vectors in the compiler's own notation (SSE2 on x86-64, NEON on arm64). */
#define VEC_BYTES 16
#if defined(__aarch64__)
#define TILE_ROWS 6 /* 32 registers */
#define TILE_ROWS_1 8
#define TILE_ROWS_2 6
#define TILE_ROWS_3 6
#else
#define TILE_ROWS 2 /* 16 registers, and a multiply-add needs one between */
#define TILE_ROWS_1 6
#define TILE_ROWS_2 4
#define TILE_ROWS_3 3
#endif

/* Plain a * b + c: the compiler fuses it where the CPU can (-ffp-contract=fast). */
#define VEC_SET1_s(x) ((FN(vec)){(x), (x), (x), (x)})
#define VEC_SET1_d(x) ((FN(vec)){(x), (x)})
#define VEC_FMA_s(a, b, c) ((a) * (b) + (c))
#define VEC_FMA_d(a, b, c) ((a) * (b) + (c))
#define VEC_FNMA_s(a, b, c) ((c) - (a) * (b))
#define VEC_FNMA_d(a, b, c) ((c) - (a) * (b))
/* a > b ? a : b, and so b where either is NaN */
#define VEC_MAX_s(a, b) FN(select)((FN(ivec))((a) > (b)), a, b)
#define VEC_MAX_d(a, b) FN(select)((FN(ivec))((a) > (b)), a, b)
#define VEC_MIN_s(a, b) FN(select)((FN(ivec))((a) < (b)), a, b)
#define VEC_MIN_d(a, b) FN(select)((FN(ivec))((a) < (b)), a, b)
/* the first n lanes, the others 0 and untouched in memory */
#define VEC_LOADN_s(p, n) FN(load_lanes)(p, n)
#define VEC_LOADN_d(p, n) FN(load_lanes)(p, n)
#define VEC_STOREN_s(p, v, n) FN(store_lanes)(p, v, n)
#define VEC_STOREN_d(p, v, n) FN(store_lanes)(p, v, n)
#define VEC_NEEDS_LANES 1
