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
