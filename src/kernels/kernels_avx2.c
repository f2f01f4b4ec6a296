/* The kernels for AVX2 with FMA. */
#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#include "vec_avx2.h"
#define KERNEL_NAME "avx2"
#define KERNEL_TABLE lstm_kernels_avx2

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
