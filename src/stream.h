/* Rows written past the caches: what nobody reads soon then does not push out what is needed, and its lines are not
   read before they are overwritten. */
#ifndef LSTM_EXT_STREAM_H
#define LSTM_EXT_STREAM_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <emmintrin.h>

/* Whole cache lines past the caches, the ends as usual. lstm_end_stream() before another thread reads them. */
static inline void lstm_stream_row(void *to, const void *from, size_t bytes) {
    char *t = (char *)to;
    const char *f = (const char *)from;
    const size_t head = (size_t)(-(uintptr_t)t & 63);
    if (bytes >= head + 64) {
        memcpy(t, f, head);
        t += head, f += head, bytes -= head;
        for (; bytes >= 64; t += 64, f += 64, bytes -= 64)
            for (int j = 0; j < 64; j += 16)
                _mm_stream_si128((__m128i *)(void *)(t + j), _mm_loadu_si128((const __m128i *)(const void *)(f + j)));
    }
    memcpy(t, f, bytes);
}

static inline void lstm_end_stream(void) { _mm_sfence(); }

#else

static inline void lstm_stream_row(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }
static inline void lstm_end_stream(void) {}

#endif
#endif
