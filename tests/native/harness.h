/* For tests of the native core without a sandbox: the test process is its own guest. */
#pragma once
#include "objects.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                                \
    do {                                                                                \
        if (!(condition)) {                                                             \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);   \
            abort();                                                                    \
        }                                                                               \
    } while (0)
#define SAME(a, b)                                                                      \
    do {                                                                                \
        long long one = (long long)(a), two = (long long)(b);                           \
        if (one != two) {                                                               \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #a, one, two); \
            abort();                                                                    \
        }                                                                               \
    } while (0)

#define TO_PYTHON INT64_MIN     /* nc_fast did not answer */
#define TO_HOST (INT64_MIN + 1) /* it said CONTINUE */

int64_t guest_call(nc_task *task, int nr, ...); /* six uint64_t/pointer-sized arguments at most; the rest is 0 */
/* The last nc_addfd a test saw (loop.c's place is taken by the harness). */
extern struct injected { uint64_t id; int host_fd, guest_fd, cloexec, count; } injected;
void drain(void); /* empties the ready and released queues */
