/* One step after the other, each by itself under the clock: what step_latency.py times from C. */
#include <stdint.h>
#include <time.h>

#include "lstm_ext.h"

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* step NULL: the clock alone. */
void loop(lstm_step_s_t step, const void *network, const float *x, float *h, float *c, void *workspace,
          int64_t *spent, int64_t count) {
    for (int64_t n = 0; n < count; n++) {
        int64_t start = now();
        if (step != NULL)
            step(network, 1, x, h, c, h, c, workspace);
        spent[n] = now() - start;
    }
}
