/* The data caches of this machine: of its first CPU, so that every process on it finds the same, whatever runs where. */
#include "kernels.h"

#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__APPLE__)
#include <stdint.h>
#include <sys/sysctl.h>
#endif

/* Weights beyond this are not in L2 when a step comes back to them: they are asked for a piece ahead. */
ptrdiff_t lstm_far_bytes = 256 * 1024;

enum { LEAST = 4 * 1024, MOST = 1024 * 1024 * 1024 };

static void note(lstm_caches *found, int level, long long bytes) {
    if (bytes < LEAST || bytes > MOST) return;
    if (level == 1) found->l1d = (ptrdiff_t)bytes;
    if (level == 2) found->l2 = (ptrdiff_t)bytes;
    if (level == 3) found->l3 = (ptrdiff_t)bytes;
}

#if defined(__linux__)
/* The first word of one of Linux's files on a cache. */
static int word_of(int index, const char *name, char *word) {
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, name);
    FILE *const file = fopen(path, "r");
    if (!file) return 0;
    const int got = fscanf(file, "%31s", word);
    fclose(file);
    return got == 1;
}

static void ask_system(lstm_caches *found) {
    for (int index = 0; index < 8; index++) {
        char level[32], type[32], size[32], unit = 0;
        int number;
        long long bytes;
        if (!word_of(index, "level", level) || !word_of(index, "type", type) || !word_of(index, "size", size)) break;
        if (strcmp(type, "Instruction") == 0 || sscanf(level, "%d", &number) != 1) continue;
        if (sscanf(size, "%lld%c", &bytes, &unit) < 1 || bytes > MOST) continue;
        note(found, number, unit == 'K' ? bytes << 10 : unit == 'M' ? bytes << 20 : bytes);
    }
}
#elif defined(__APPLE__)
static void ask_system(lstm_caches *found) {
    static const char *const names[] = {"hw.perflevel0.l1dcachesize", "hw.perflevel0.l2cachesize", "hw.l1dcachesize",
                                        "hw.l2cachesize"};
    for (int k = 0; k < 4; k++) {
        int64_t bytes = 0;
        size_t size = sizeof bytes;
        if ((k % 2 ? found->l2 : found->l1d) == 0 && sysctlbyname(names[k], &bytes, &size, NULL, 0) == 0)
            note(found, k % 2 + 1, bytes);
    }
}
#else
static void ask_system(lstm_caches *found) { (void)found; }
#endif

static void ask_cpu(lstm_caches *found) {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    /* AMD's leaf, then Intel's: type and level; ways, partitions, line size; sets */
    const unsigned leaf = __get_cpuid_count(0x8000001d, 0, &a, &b, &c, &d) && (a & 31) ? 0x8000001d : 4;
    for (unsigned k = 0; k < 8 && __get_cpuid_count(leaf, k, &a, &b, &c, &d) && (a & 31); k++)
        if ((a & 31) != 2) /* an instruction cache */
            note(found, (int)(a >> 5 & 7),
                 (long long)((b >> 22) + 1) * ((b >> 12 & 1023) + 1) * ((b & 4095) + 1) * ((long long)c + 1));
#else
    (void)found;
#endif
}

static int cpu_is_intel(void) {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx;
#else
    return 0;
#endif
}

lstm_caches lstm_read_caches(void) {
    lstm_caches found = {0, 0, 0, 0};
    ask_system(&found);
    if (!found.l1d || !found.l2) {
        lstm_caches said = {0, 0, 0, 0};
        ask_cpu(&said);
        if (!found.l1d) found.l1d = said.l1d;
        if (!found.l2) found.l2 = said.l2;
        if (!found.l3) found.l3 = said.l3;
    }
    if (!found.l1d) found.l1d = 32 * 1024;
    if (!found.l2) found.l2 = 1024 * 1024;
    if (found.l2 / 4 > lstm_far_bytes) lstm_far_bytes = found.l2 / 4;
    /* A line that is written whole past the caches is not read first. On an Intel Xeon, whose L3 is far, that pays from
     * L2 on; elsewhere it was not measured, so that there it is for what no cache would keep. */
    found.stream = cpu_is_intel() ? found.l2 : 32 * 1024 * 1024;
    if (!cpu_is_intel() && found.l3 > found.stream) found.stream = found.l3;
    return found;
}
