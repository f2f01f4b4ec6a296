/* Products in bfloat16 with AVX512_BF16: vdpbf16ps, two multiply-adds for each of the 16 sums of a vector. In more
 * than one piece it would be slower than float32. */
#include "kernels.h"

#if LSTM_HAS_AVX512_BF16

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,avx2,fma")
#endif

#include "vec_avx512.h"
#include "split_avx512.h"

#define PAIRS __m512i
#define PAIR_LOAD(p) _mm512_loadu_si512(p)
#define PAIR_SET1(x) _mm512_set1_epi32((int)(x))
#define PAIR_FMA(sum, a, b) (VEC) _mm512_dpbf16_ps((__m512)(sum), (__m512bh)(a), (__m512bh)(b))
#define REAL float
#define T s
#define REAL_IS_FLOAT 1
#define TILES 0
#define TILES_BEGIN
#define TILES_END
#define BFLOAT16_NAME "avx512_bf16"
#define BFLOAT16_TABLE lstm_kernels_avx512_bf16
#include "vectors.h"
#include "step_cell.h"

#define PIECES 1
#include "bfloat16_impl.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
