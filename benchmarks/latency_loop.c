/* One step after the other, each by itself under the clock: what step_latency.py times from C. */
#include <stdint.h>
#include <time.h>

#include "lstm_ext.h"

static int64_t now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void run(clockid_t clock, lstm_step_s_t step, const void *network, const float *x, float *h, float *c,
                void *workspace, int64_t *spent, int64_t count) {
    for (int64_t n = 0; n < count; n++) {
        int64_t start = now(clock);
        if (step != NULL)
            step(network, 1, x, h, c, h, c, workspace);
        spent[n] = now(clock) - start;
    }
}

/* step NULL: the clock alone. */
void loop(lstm_step_s_t step, const void *network, const float *x, float *h, float *c, void *workspace,
          int64_t *spent, int64_t count) {
    run(CLOCK_MONOTONIC, step, network, x, h, c, workspace, spent, count);
}

/* The time in which the thread had a core, by a clock that takes longer to read. */
void loop_on_core(lstm_step_s_t step, const void *network, const float *x, float *h, float *c,
                  void *workspace, int64_t *spent, int64_t count) {
    run(CLOCK_THREAD_CPUTIME_ID, step, network, x, h, c, workspace, spent, count);
}
