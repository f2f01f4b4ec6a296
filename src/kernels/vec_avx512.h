/* AVX-512: 64-byte vectors, 32 registers, lanes picked by mask. Suffix _s: float, _d: double. */
#define VEC_BYTES 64
#define TILE_ROWS 6 /* 6 rows x 4 gates = 24 accumulators, 4 weights, 1 broadcast */
#define TILE_ROWS_1 8
#define TILE_ROWS_2 6
#define TILE_ROWS_3 6

#define VEC_SET1_s(x) _mm512_set1_ps(x)
#define VEC_SET1_d(x) _mm512_set1_pd(x)
#define VEC_FMA_s(a, b, c) _mm512_fmadd_ps(a, b, c)
#define VEC_FMA_d(a, b, c) _mm512_fmadd_pd(a, b, c)
#define VEC_FNMA_s(a, b, c) _mm512_fnmadd_ps(a, b, c)
#define VEC_FNMA_d(a, b, c) _mm512_fnmadd_pd(a, b, c)
/* a > b ? a : b, and so b where either is NaN */
#define VEC_MAX_s(a, b) _mm512_max_ps(a, b)
#define VEC_MAX_d(a, b) _mm512_max_pd(a, b)
#define VEC_MIN_s(a, b) _mm512_min_ps(a, b)
#define VEC_MIN_d(a, b) _mm512_min_pd(a, b)
/* the first n lanes, the others 0 and untouched in memory */
#define VEC_LOADN_s(p, n) _mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1u), p)
#define VEC_LOADN_d(p, n) _mm512_maskz_loadu_pd((__mmask8)((1u << (n)) - 1u), p)
/* past the caches, to a whole line; STREAM_END before another thread reads it */
#define VEC_STREAM_s(p, v) _mm512_stream_ps(p, v)
#define VEC_STREAM_d(p, v) _mm512_stream_pd(p, v)
#define VEC_STREAM_END _mm_sfence()
#define VEC_STOREN_s(p, v, n) _mm512_mask_storeu_ps(p, (__mmask16)((1u << (n)) - 1u), v)
#define VEC_STOREN_d(p, v, n) _mm512_mask_storeu_pd(p, (__mmask8)((1u << (n)) - 1u), v)
