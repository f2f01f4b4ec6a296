/* The kernels for AVX-512 (F, VL, DQ, BW). */
#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")
#endif

#include "vec_avx512.h"
#define KERNEL_NAME "avx512"
#define KERNEL_TABLE lstm_kernels_avx512

#define REAL float
#define T s
#define REAL_IS_FLOAT 1
#include "kernels_impl.h"

#define REAL double
#define T d
#define REAL_IS_FLOAT 0
#include "kernels_impl.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
