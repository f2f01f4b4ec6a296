/* What this CPU can do at most: multiply-adds from registers alone, and reads of a buffer.
 *
 * Compiled by limits.py, once for each vector width VLEN (bytes) and each REAL, for the CPU at hand;
 * the best is the limit. (Some CPUs run 64-byte vectors at half the rate, some lack them.)
 */
#include <stddef.h>
#include <stdint.h>

typedef REAL vec __attribute__((vector_size(VLEN)));
typedef int64_t bits __attribute__((vector_size(VLEN)));

/* The compiler must take each chain for a value of its own, in a register: no merging of equal
 * chains, no spilling between two steps, no vectorising over the loop. */
#if defined(__x86_64__)
#define KEEP(v) __asm__ volatile("" : "+x"(v))
#elif defined(__aarch64__)
#define KEEP(v) __asm__ volatile("" : "+w"(v))
#else
#error "limits.c knows the vector registers of x86-64 and AArch64 alone"
#endif

#define LANES (VLEN / (ptrdiff_t)sizeof(REAL))

/* 12 chains: enough for a latency of 4 cycles at 2 (even 3) a cycle, and few enough for 16 registers. */
#define CHAINS(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)

/* Runs `steps` rounds of 12 independent multiply-adds. seed (12,): where each chain starts; out (12,):
 * where it ends, so that the caller can check it. Returns the floating-point operations done. */
double multiply_add(ptrdiff_t steps, REAL scale, REAL shift, const REAL *seed, REAL *out)
{
    vec a = (vec){0} + scale, b = (vec){0} + shift;
#define START(i) vec v##i = (vec){0} + seed[i];
    CHAINS(START)
    for (ptrdiff_t s = 0; s < steps; s++) {
        KEEP(a);
        KEEP(b);
#define STEP(i)         \
    v##i = v##i * a + b; \
    KEEP(v##i);
        CHAINS(STEP)
    }
#define END(i) out[i] = v##i[LANES - 1];
    CHAINS(END)
    return 2.0 * 12 * LANES * (double)steps;
}

/* Reads `bytes` (a multiple of 8 * VLEN, aligned to VLEN) from `buffer`, `times` over; returns a digest, so that
 * the reads can't be left out. */
int64_t read_over(const void *buffer, ptrdiff_t bytes, ptrdiff_t times)
{
    const bits *p = buffer;
    ptrdiff_t n = bytes / VLEN;
    bits d0 = {0}, d1 = d0, d2 = d0, d3 = d0, d4 = d0, d5 = d0, d6 = d0, d7 = d0;
    for (ptrdiff_t t = 0; t < times; t++) {
        for (ptrdiff_t i = 0; i < n; i += 8) {
            d0 ^= p[i];
            d1 ^= p[i + 1];
            d2 ^= p[i + 2];
            d3 ^= p[i + 3];
            d4 ^= p[i + 4];
            d5 ^= p[i + 5];
            d6 ^= p[i + 6];
            d7 ^= p[i + 7];
        }
        KEEP(d0); /* or a second pass would cancel the first */
        KEEP(d1);
        KEEP(d2);
        KEEP(d3);
        KEEP(d4);
        KEEP(d5);
        KEEP(d6);
        KEEP(d7);
    }
    d0 ^= d1 ^ d2 ^ d3 ^ d4 ^ d5 ^ d6 ^ d7;
    int64_t digest = 0;
    for (ptrdiff_t lane = 0; lane < VLEN / 8; lane++)
        digest ^= d0[lane];
    return digest;
}
