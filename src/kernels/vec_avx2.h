/* AVX2 with FMA: 32-byte vectors, 16 registers, lanes picked by maskload. Suffix _s: float, _d: double. */
#define VEC_BYTES 32
#define TILE_ROWS 3 /* 3 rows x 4 gates = 12 accumulators, 3 broadcasts, 1 weight */
#define TILE_ROWS_1 8
#define TILE_ROWS_2 6
#define TILE_ROWS_3 4

static const int lstm_lane_mask_s[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
static const long long lstm_lane_mask_d[8] = {-1, -1, -1, -1, 0, 0, 0, 0};
#define VEC_MASK_s(n) _mm256_loadu_si256((const __m256i *)(lstm_lane_mask_s + 8 - (n)))
#define VEC_MASK_d(n) _mm256_loadu_si256((const __m256i *)(lstm_lane_mask_d + 4 - (n)))

#define VEC_SET1_s(x) _mm256_set1_ps(x)
#define VEC_SET1_d(x) _mm256_set1_pd(x)
#define VEC_FMA_s(a, b, c) _mm256_fmadd_ps(a, b, c)
#define VEC_FMA_d(a, b, c) _mm256_fmadd_pd(a, b, c)
#define VEC_FNMA_s(a, b, c) _mm256_fnmadd_ps(a, b, c)
#define VEC_FNMA_d(a, b, c) _mm256_fnmadd_pd(a, b, c)
/* a > b ? a : b, and so b where either is NaN */
#define VEC_MAX_s(a, b) _mm256_max_ps(a, b)
#define VEC_MAX_d(a, b) _mm256_max_pd(a, b)
#define VEC_MIN_s(a, b) _mm256_min_ps(a, b)
#define VEC_MIN_d(a, b) _mm256_min_pd(a, b)
/* the first n lanes, the others 0 and untouched in memory */
#define VEC_LOADN_s(p, n) _mm256_maskload_ps(p, VEC_MASK_s(n))
#define VEC_LOADN_d(p, n) _mm256_maskload_pd(p, VEC_MASK_d(n))
#define VEC_STOREN_s(p, v, n) _mm256_maskstore_ps(p, VEC_MASK_s(n), v)
#define VEC_STOREN_d(p, v, n) _mm256_maskstore_pd(p, VEC_MASK_d(n), v)
