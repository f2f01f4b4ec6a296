/* Sizes of buffers, with arithmetic that cannot wrap. A size that does not fit is LSTM_TOO_LARGE, and so is every
   sum and product made of it (but for a product with 0), until an allocation refuses it. Every product that
   becomes the size of a buffer goes through these. */
#ifndef LSTM_EXT_SIZES_H
#define LSTM_EXT_SIZES_H

#include <stddef.h>
#include <stdint.h>

#define LSTM_TOO_LARGE PTRDIFF_MAX

static inline ptrdiff_t lstm_times(ptrdiff_t a, ptrdiff_t b) {
    ptrdiff_t n;
    if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &n)) return LSTM_TOO_LARGE;
    return n;
}

static inline ptrdiff_t lstm_plus(ptrdiff_t a, ptrdiff_t b) {
    ptrdiff_t n;
    if (a < 0 || b < 0 || __builtin_add_overflow(a, b, &n)) return LSTM_TOO_LARGE;
    return n;
}

/* n rounded up to a multiple of k */
static inline ptrdiff_t lstm_round_up(ptrdiff_t n, ptrdiff_t k) {
    ptrdiff_t rest;
    if (n < 0 || n == LSTM_TOO_LARGE) return LSTM_TOO_LARGE;
    rest = n % k;
    return rest ? lstm_plus(n, k - rest) : n;
}

#endif
