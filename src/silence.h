/* Subnormal numbers off while compiled code computes, and the caller's mode again afterwards. Values that fade out
   below 1e-38 (1e-308 in double) cost a CPU up to a hundred times the usual time for each operation; they are read
   and written as 0 instead. Each block of work sets the mode for itself, in whatever thread it runs. */
#ifndef LSTM_EXT_SILENCE_H
#define LSTM_EXT_SILENCE_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>

static inline uint64_t lstm_silence(void) {
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040); /* flush to zero, denormals are zero */
    return mode;
}

/* The mode as it was, with the exception flags that have been raised since. */
static inline void lstm_end_silence(uint64_t mode) {
    _mm_setcsr((unsigned)mode | (_mm_getcsr() & 0x3f));
}

#elif defined(__aarch64__)

static inline uint64_t lstm_silence(void) {
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | (UINT64_C(1) << 24)) : "memory");
    return mode;
}

static inline void lstm_end_silence(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory"); }

#else

static inline uint64_t lstm_silence(void) { return 0; }
static inline void lstm_end_silence(uint64_t mode) { (void)mode; }

#endif
#endif
