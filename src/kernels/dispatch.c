/* What this build has and this CPU can run. */
#include "kernels.h"

#include <string.h>

#if defined(__x86_64__) || defined(_M_X64)
#define X86 1
extern const lstm_kernels_s lstm_kernels_avx512_s, lstm_kernels_avx2_s;
extern const lstm_kernels_d lstm_kernels_avx512_d, lstm_kernels_avx2_d;
#endif
extern const lstm_kernels_s lstm_kernels_baseline_s;
extern const lstm_kernels_d lstm_kernels_baseline_d;

/* One body for both dtypes. */
#define FIND(T)                                                                                  \
    const lstm_kernels_##T *lstm_kernels_find_##T(const char *name) {                            \
        FIND_X86(T)                                                                              \
        return strcmp(name, "baseline") == 0 ? &lstm_kernels_baseline_##T : NULL;                \
    }

#ifdef X86
#define FIND_X86(T)                                                                              \
    __builtin_cpu_init();                                                                        \
    if (strcmp(name, "avx512") == 0)                                                             \
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&        \
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")  \
                   ? &lstm_kernels_avx512_##T                                                    \
                   : NULL;                                                                       \
    if (strcmp(name, "avx2") == 0)                                                               \
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")                   \
                   ? &lstm_kernels_avx2_##T                                                      \
                   : NULL;
#else
#define FIND_X86(T)
#endif

FIND(s)
FIND(d)

/* ---- products in bfloat16 */

extern const lstm_kernels_s lstm_kernels_emulated_1, lstm_kernels_emulated_2, lstm_kernels_emulated_3;
static const lstm_kernels_s *const emulated[] = {&lstm_kernels_emulated_1, &lstm_kernels_emulated_2,
                                                 &lstm_kernels_emulated_3};
#if LSTM_HAS_AVX512_BF16
extern const lstm_kernels_s lstm_kernels_avx512_bf16_1;
#endif

#if LSTM_HAS_AMX
extern const lstm_kernels_s lstm_kernels_amx_1, lstm_kernels_amx_2, lstm_kernels_amx_3;
static const lstm_kernels_s *const amx[] = {&lstm_kernels_amx_1, &lstm_kernels_amx_2, &lstm_kernels_amx_3};
int lstm_amx_present(void), lstm_amx_permitted(void);
#endif

enum { SELF_TEST_ROWS = 20, SELF_TEST_DEPTH = 80, SELF_TEST_COLS = 40 };

/* Whether the products of a table are right: of small integers, so that every order of sums gives the same. */
int lstm_bfloat16_self_test(const lstm_kernels_s *table) {
    enum { N = SELF_TEST_ROWS, K = SELF_TEST_DEPTH, M = SELF_TEST_COLS };
    float a[N * K], b[K * M], c[N * M], panels[8192];
    if (table->packed_size(K, M) > 8192) return 0;
    for (int j = 0; j < N * K; j++) a[j] = (float)(j * 7 % 31 - 15);
    for (int j = 0; j < K * M; j++) b[j] = (float)(j * 11 % 29 - 14);
    table->pack(K, M, b, panels);
    for (int round = 0; round < 20; round++) {
        memset(c, 0xff, sizeof c);
        table->product(N, K, M, a, K, panels, c, (lstm_hints){0, 1, 0});
        for (int r = 0; r < N; r++)
            for (int j = 0; j < M; j++) {
                float sum = 0;
                for (int k = 0; k < K; k++) sum += a[r * K + k] * b[k * M + j];
                if (sum != c[r * M + j]) return 0;
            }
    }
    return 1;
}

static int works(const lstm_kernels_s *const *tables) {
    return lstm_bfloat16_self_test(tables[0]) && lstm_bfloat16_self_test(tables[1]) &&
           lstm_bfloat16_self_test(tables[2]);
}

const lstm_kernels_s *lstm_bfloat16_find(const char *name, int pieces) {
    if (pieces < 1 || pieces > 3) return NULL;
    if (strcmp(name, "emulated") == 0) return emulated[pieces - 1];
#if LSTM_HAS_AVX512_BF16
    if (strcmp(name, "avx512_bf16") == 0)
        return pieces == 1 && lstm_kernels_find_s("avx512") && __builtin_cpu_supports("avx512bf16")
                   ? &lstm_kernels_avx512_bf16_1
                   : NULL;
#endif
#if LSTM_HAS_AMX
    if (strcmp(name, "amx") == 0) {
        static int usable = -1;
        if (usable < 0) usable = lstm_kernels_find_s("avx512") && lstm_amx_present() && lstm_amx_permitted() && works(amx);
        return usable ? amx[pieces - 1] : NULL;
    }
#endif
    return NULL;
}
