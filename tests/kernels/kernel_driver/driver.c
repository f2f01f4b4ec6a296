/* The kernels against plain C loops: no Python, so that any CPU that an emulator knows can run it.
 *
 *   cc -O2 -I src/kernels tests/kernels/kernel_driver/driver.c src/kernels/kernels_baseline.c \
 *      src/kernels/kernels_emulated.c src/kernels/caches.c -lm
 *
 * compares the baseline kernel, and products in bfloat16 on emulated tiles. With -DDISPATCH and the other files of src/kernels linked in, the arguments name the
 * kernels to compare ("avx2", or "amx_2" for products in bfloat16 of 2 pieces); tests/kernels/test_kernel_driver.py
 * has the commands. It prints how much it compared, and what differed.
 * Every array lies between guards, and a number in them that has changed is an error. */
#include "kernels.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long cases, numbers, errors;

static void fail(const char *kernel, const char *what, const char *why) {
    if (errors++ < 20) printf("%s: %s: %s\n", kernel, what, why);
}

/* What a case allocates is freed, and its guards looked at, at its end. */
#define GUARD 64 /* bytes on either side; a multiple of every vector's size */
enum { MOST_ARRAYS = 64 };
static struct { unsigned char *start; size_t size; } arrays[MOST_ARRAYS];
static int n_arrays;

static void *fresh(size_t size) {
    if (n_arrays == MOST_ARRAYS) abort();
    unsigned char *start = malloc(size + 2 * GUARD);
    if (!start) abort();
    memset(start, 0xA5, size + 2 * GUARD);
    arrays[n_arrays].start = start;
    arrays[n_arrays++].size = size;
    return start + GUARD;
}

static void end_case(const char *kernel, const char *what) {
    for (int k = 0; k < n_arrays; k++) {
        const unsigned char *p = arrays[k].start, *after = p + GUARD + arrays[k].size;
        for (int j = 0; j < GUARD; j++)
            if (p[j] != 0xA5 || after[j] != 0xA5) {
                fail(kernel, what, "wrote beyond an array");
                break;
            }
        free(arrays[k].start);
    }
    n_arrays = 0;
    cases++;
}

/* Uniform in (-1, 1), the same on every machine. */
static double draw(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (double)(int64_t)(state >> 11) / 4503599627370496.0 - 1.0;
}

typedef double WIDE; /* of the plain loops */

#define REAL float
#define EXACT double /* of the activations, which are checked to their last bit */
#define T s
#define TOLERANCE 1e-5
#define EPSILON 1.1920929e-7
#include "checks.h"
#undef REAL
#undef EXACT
#undef T
#undef TOLERANCE
#undef EPSILON

#define REAL double
#define EXACT long double
#define T d
#define TOLERANCE 1e-12
#define EPSILON 2.220446049250313e-16
#include "checks.h"

static int report(const char *kernel) {
    printf("%s: %ld cases, %ld numbers, %ld errors\n", kernel, cases, numbers, errors);
    return errors != 0;
}

/* The products in bfloat16 of so many pieces, with the rest of a table. */
static void check_bfloat16(const char *name, int pieces, const lstm_kernels_s *products, const lstm_kernels_s *rest) {
    static const double tolerances[] = {3e-2, 5e-5, 2e-6};
    lstm_kernels_s table;
    lstm_bfloat16_table(products, rest, &table);
    cases = numbers = 0;
    tolerance_s = tolerances[pieces - 1];
    check_all_s(&table);
    tolerance_s = 1e-5;
    report(name);
}

#ifdef DISPATCH
/* Whether `name` is a kernel with a number of pieces, such as "emulated_3", which is compared then. */
static int is_bfloat16(const char *name) {
    char products[64] = "";
    const char *const end = strrchr(name, '_');
    const int pieces = end ? atoi(end + 1) : 0;
    if (pieces < 1 || end - name >= (ptrdiff_t)sizeof products) return 0;
    memcpy(products, name, (size_t)(end - name));
    const lstm_kernels_s *table = lstm_bfloat16_find(products, pieces);
    const lstm_kernels_s *rest = lstm_kernels_find_s(strcmp(products, "emulated") ? "avx512" : "baseline");
    if (table && rest)
        check_bfloat16(name, pieces, table, rest);
    else
        printf("%s: not here\n", name);
    return 1;
}

int main(int argc, char **argv) {
    for (int k = 1; k < argc; k++) {
        if (is_bfloat16(argv[k])) continue;
        const lstm_kernels_s *s = lstm_kernels_find_s(argv[k]);
        const lstm_kernels_d *d = lstm_kernels_find_d(argv[k]);
        if (!s || !d) {
            printf("%s: not here\n", argv[k]);
            continue;
        }
        cases = numbers = 0;
        check_all_s(s);
        check_all_d(d);
        report(argv[k]);
    }
    return errors != 0;
}
#else
extern const lstm_kernels_s lstm_kernels_baseline_s, lstm_kernels_emulated_1, lstm_kernels_emulated_2,
    lstm_kernels_emulated_3;
extern const lstm_kernels_d lstm_kernels_baseline_d;

/* With an argument, the baseline alone: emulated tiles on an emulated CPU take long. */
int main(int argc, char **argv) {
    check_all_s(&lstm_kernels_baseline_s);
    check_all_d(&lstm_kernels_baseline_d);
    report("baseline");
    if (argc > 1) return errors != 0;
    (void)argv;
    check_bfloat16("emulated_1", 1, &lstm_kernels_emulated_1, &lstm_kernels_baseline_s);
    check_bfloat16("emulated_2", 2, &lstm_kernels_emulated_2, &lstm_kernels_baseline_s);
    check_bfloat16("emulated_3", 3, &lstm_kernels_emulated_3, &lstm_kernels_baseline_s);
    return errors != 0;
}
#endif
