/* Products in bfloat16 on the tiles of AMX (Intel, from Sapphire Rapids on), with the cell in AVX-512; and whether this
 * process may use them. */
#include "kernels.h"

#if LSTM_HAS_AMX

#include <cpuid.h>
#include <immintrin.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("amx-tile,amx-bf16,avx512bf16,avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16,avx512bf16,avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")
#endif

#include "vec_avx512.h"
#include "split_avx512.h"
#include "tiles_amx.h"

#define REAL float
#define T s
#define REAL_IS_FLOAT 1
#define TILES 1
#define BFLOAT16_NAME "amx"
#define BFLOAT16_TABLE lstm_kernels_amx
#include "vectors.h"
#include "step_cell.h"

#define PIECES 1
#include "bfloat16_impl.h"
#define PIECES 2
#include "bfloat16_impl.h"
#define PIECES 3
#include "bfloat16_impl.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

int lstm_amx_present(void) {
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx512bf16") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) &&
           (d >> 24 & 1);
}

/* Linux gives tiles to a process that asks, since signal frames grow by 8 KB with them. It refuses where a thread has
 * a signal stack that is too small for that; old kernels and some containers refuse always. */
int lstm_amx_permitted(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

#endif
