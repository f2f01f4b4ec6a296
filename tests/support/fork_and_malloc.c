/* Children of a fork that allocate while threads of the parent did: without this package, under the same sanitizer.
 *
 *     clang -g -fsanitize=address fork_and_malloc.c -o fork_and_malloc && ./fork_and_malloc 200
 *
 * A child that waits for 10 s is a hang: gdb, where it is installed, says for what. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void allocate(int turns) {
    char *block[64];
    for (int t = 0; t < turns; t++) {
        for (int j = 0; j < 64; j++) block[j] = memset(malloc(16 + 40 * j * (t % 9) + (j == 7) * 300000), 1, 16);
        for (int j = 0; j < 64; j++) free(block[j]);
    }
}

static void *allocate_forever(void *_) {
    for (;;) allocate(10);
    return _;
}

static void show(pid_t child) {
    char command[120];
    snprintf(command, sizeof command, "LD_PRELOAD= gdb -p %d -batch -ex backtrace 2>&1 | grep '^#'", (int)child);
    if (system(command)) puts("no gdb");
}

int main(int argc, char **argv) {
    const int forks = argc > 1 ? atoi(argv[1]) : 200;
    int hangs = 0, done = 0, status;
    pthread_t thread;
    for (int i = 0; i < 3; i++) pthread_create(&thread, NULL, allocate_forever, NULL);
    for (; done < forks && hangs < 3; done++) {
        const pid_t child = fork();
        if (child == 0) {
            allocate(9);
            _exit(0);
        }
        int waited = 0;
        while (waitpid(child, &status, WNOHANG) == 0 && waited++ < 10000) usleep(1000);
        if (waited > 10000) {
            hangs++;
            show(child);
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
        }
    }
    printf("%d forks, %d children hang\n", done, hangs);
    fflush(stdout);
    _exit(hangs > 0);
}
