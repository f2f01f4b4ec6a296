/* A malloc that fails at its n-th call from the extensions of this package, for oom_sweep.py: by LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

extern void *__libc_malloc(size_t);
static long until;

/* Let the n-th call fail, 0 for none; returns what was left of the last n, 0 if that call has failed. */
long fail_malloc(long n) {
    const long left = until;
    until = n;
    return left;
}

void *malloc(size_t size) {
    Dl_info caller;
    if (until > 0 && dladdr(__builtin_return_address(0), &caller) && strstr(caller.dli_fname, "/lstm_ext/") &&
        --until == 0)
        return NULL;
    return __libc_malloc(size);
}
