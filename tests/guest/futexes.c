// futex(2) in all its operations, futex_waitv, robust lists, membarrier(2), rseq(2), set_tid_address(2).
#include "probe.h"
#include <linux/futex.h>
#include <linux/membarrier.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SYS_futex_wake
#define SYS_futex_wake 454
#define SYS_futex_wait 455
#define SYS_futex_requeue 456
#endif

static uint32_t word, other, *shared;
static long futex(uint32_t *at, int op, uint32_t value, const void *timeout, uint32_t *at2, uint32_t value3) {
    return syscall(SYS_futex, at, op, value, timeout, at2, value3);
}
static const struct timespec little = {0, 5000000}, bad = {0, 1000000000}, negative = {-1, 0};

PROBE(futex_arguments) {
    word = 5;
    SHOW(futex(&word, FUTEX_WAIT, 4, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT, 5, &little, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT, 5, &bad, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT, 4, &bad, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT, 5, &negative, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT, 5, unmapped, NULL, 0));
    SHOW(futex((uint32_t *)((char *)&word + 1), FUTEX_WAIT, 5, NULL, NULL, 0));
    SHOW(futex(unmapped, FUTEX_WAIT, 5, NULL, NULL, 0));
    SHOW(futex(kernel_half, FUTEX_WAIT, 5, NULL, NULL, 0));
    SHOW(futex(unmapped, FUTEX_WAKE, 1, NULL, NULL, 0));
    SHOW(futex(unmapped, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
    SHOW(futex((uint32_t *)1, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_WAKE, -1, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT_BITSET, 5, &little, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT_BITSET, 5, &little, NULL, 1));
    SHOW(futex(&word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 1));
    SHOW(futex(&word, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 5, &little, NULL, 0));
    SHOW(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 5, &little, NULL, 1));
    SHOW(futex(&word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_REQUEUE, 1, (void *)1, &other, 0));
    SHOW(futex(&word, FUTEX_REQUEUE, -1, (void *)1, &other, 0));
    SHOW(futex(&word, FUTEX_REQUEUE, 1, (void *)-1, &other, 0));
    SHOW(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)1, &other, 4));
    SHOW(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)1, &other, 5));
    SHOW(futex(&word, FUTEX_FD, 0, NULL, NULL, 0));
    SHOW(futex(&word, 14, 0, NULL, NULL, 0));
    SHOW(futex(&word, 127, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_WAKE | 0x200, 1, NULL, NULL, 0));
}

PROBE(futex_wake_op) {
    static const int ops[] = {FUTEX_OP_SET, FUTEX_OP_ADD, FUTEX_OP_OR, FUTEX_OP_ANDN, FUTEX_OP_XOR};
    for (unsigned op = 0; op < 5; op++) {
        word = other = 6;
        SHOW(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &other, FUTEX_OP(ops[op], 3, FUTEX_OP_CMP_EQ, 0)));
        SHOW(other);
    }
    other = 1;
    SHOW(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &other, FUTEX_OP((FUTEX_OP_OPARG_SHIFT | FUTEX_OP_OR), 4, FUTEX_OP_CMP_GE, 0)));
    SHOW(other);
    SHOW(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &other, FUTEX_OP(7, 3, 0, 0)));
    SHOW(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &other, FUTEX_OP(0, 3, 7, 0)));
    SHOW(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, unmapped, FUTEX_OP(0, 3, 0, 0)));
}

PROBE(futex_pi) {
    word = 0;
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    FACT(word == (uint32_t)gettid());
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    SHOW(word);
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    word = 99999;
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
    word = FUTEX_OWNER_DIED;
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    FACT((word & FUTEX_TID_MASK) == (uint32_t)gettid());
    word = 0;
    SHOW(futex(&word, FUTEX_LOCK_PI2, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_CMP_REQUEUE_PI, 2, NULL, &other, 0));
    SHOW(futex(&word, FUTEX_CMP_REQUEUE_PI, 1, NULL, &word, word));
    SHOW(futex(&word, FUTEX_WAIT_REQUEUE_PI, word, &little, &word, 0));
}

static void *lock_and_wait(void *unused) {
    (void)unused;
    SHOW(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    return NULL;
}

PROBE(futex_pi_waits) {
    pthread_t thread;
    word = 0;
    MUST(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    pthread_create(&thread, NULL, lock_and_wait, NULL);
    while (!(__atomic_load_n(&word, __ATOMIC_SEQ_CST) & FUTEX_WAITERS))
        nap_ms(1);
    say("somebody waits");
    MUST(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    pthread_join(thread, NULL);
}

static volatile int waiting;
static void *wait_on_word(void *unused) {
    (void)unused;
    __atomic_add_fetch(&waiting, 1, __ATOMIC_SEQ_CST);
    return (void *)futex(&word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

PROBE(futex_requeues) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, wait_on_word, NULL);
    while (waiting < 3)
        nap_ms(1);
    nap_ms(30);
    SHOW(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)1, &other, 0));
    SHOW(futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0));
    SHOW(futex(&other, FUTEX_WAKE, 10, NULL, NULL, 0));
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

struct waitv {
    uint64_t value, address;
    uint32_t flags, reserved;
};

static void *wake_later(void *at) {
    nap_ms(20);
    futex(at, FUTEX_WAKE, 1, NULL, NULL, 0);
    return NULL;
}

PROBE(futex_vectors) {
    pthread_t thread;
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    word = other = 0;
    struct waitv two[2] = {{0, (uintptr_t)&word, 2, 0}, {0, (uintptr_t)&other, 2, 0}};
    SHOW(syscall(SYS_futex_waitv, two, 2, 0, &end, CLOCK_MONOTONIC));
    SHOW(syscall(SYS_futex_waitv, two, 0, 0, NULL, 0));
    SHOW(syscall(SYS_futex_waitv, two, 129, 0, NULL, 0));
    SHOW(syscall(SYS_futex_waitv, two, 2, 1, NULL, 0));
    SHOW(syscall(SYS_futex_waitv, two, 2, 0, &end, CLOCK_BOOTTIME));
    SHOW(syscall(SYS_futex_waitv, unmapped, 2, 0, NULL, 0));
    two[1].value = 1;
    SHOW(syscall(SYS_futex_waitv, two, 2, 0, NULL, 0));
    two[1] = (struct waitv){0, (uintptr_t)&other, 2, 1};
    SHOW(syscall(SYS_futex_waitv, two, 2, 0, NULL, 0));
    two[1] = (struct waitv){0, (uintptr_t)&other, 64, 0};
    SHOW(syscall(SYS_futex_waitv, two, 2, 0, NULL, 0));
    two[1] = (struct waitv){0, (uintptr_t)&other, 2, 0};
    pthread_create(&thread, NULL, wake_later, &other);
    SHOW(syscall(SYS_futex_waitv, two, 2, 0, NULL, 0));
    pthread_join(thread, NULL);
}

PROBE(futex_between_mappings) {
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint32_t *again = mremap(shared, 0, 4096, MREMAP_MAYMOVE);
    pid_t pid = MUST(fork());
    if (pid == 0) {
        SHOW(futex(again, FUTEX_WAIT, 0, NULL, NULL, 0));
        _exit(0);
    }
    while (futex(shared, FUTEX_WAKE, 1, NULL, NULL, 0) == 0)
        nap_ms(1);
    reap("child", pid);
}

PROBE(robust_list_arguments) {
    struct robust_list_head *head, mine = {{&mine.list}, 0, NULL};
    size_t size = 0;
    SHOW(syscall(SYS_set_robust_list, &mine, sizeof mine));
    SHOW(syscall(SYS_set_robust_list, &mine, sizeof mine - 1));
    SHOW(syscall(SYS_get_robust_list, 0, &head, &size));
    FACT(head == &mine && size == sizeof mine);
    SHOW(syscall(SYS_get_robust_list, 99999, &head, &size));
    SHOW(syscall(SYS_get_robust_list, -1, &head, &size));
    SHOW(syscall(SYS_get_robust_list, 0, unmapped, &size));
    SHOW(syscall(SYS_get_robust_list, 0, &head, unmapped));
}

static uint32_t cleared = 7;
static int with_tid_address(void *unused) {
    (void)unused;
    FACT(syscall(SYS_set_tid_address, &cleared) == gettid());
    _exit(0);
}

PROBE(tid_address) {
    static char stack[65536] __attribute__((aligned(16)));
    pid_t pid = MUST(clone(with_tid_address, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL));
    reap("child", pid);
    SHOW(cleared);
}

PROBE(memory_barriers) {
    long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
    FACT(commands > 0 && commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    SHOW(syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 1, 0));
    SHOW(syscall(SYS_membarrier, 1 << 20, 0, 0));
    SHOW(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));
    SHOW(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
    SHOW(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));
    SHOW(syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0));
}

struct rseq_area {
    uint32_t cpu_id_start, cpu_id;
    uint64_t section;
    uint32_t flags, more[3];
} __attribute__((aligned(32)));

static void *register_area(void *unused) {
    (void)unused;
    static struct rseq_area area;
    SHOW(syscall(SYS_rseq, &area, sizeof area, 0, 0x53053053));
    SHOW(syscall(SYS_rseq, &area, sizeof area, 1, 0x53053053));
    return NULL;
}

PROBE(restartable_sequences) {
    static struct rseq_area area;
    pthread_t thread;
    SHOW(syscall(SYS_rseq, &area, sizeof area, 4, 1)); // the C library has registered its own
    SHOW(syscall(SYS_rseq, (char *)&area + 1, sizeof area, 0, 1));
    SHOW(syscall(SYS_rseq, &area, 5, 0, 1));
    SHOW(syscall(SYS_rseq, unmapped, sizeof area, 0, 1));
    pthread_create(&thread, NULL, register_area, NULL);
    pthread_join(thread, NULL);
}

PROBE(futex_calls_of_their_own) {
    word = 3;
    SHOW(syscall(SYS_futex_wake, &word, ~0UL, 1, 2));
    SHOW(syscall(SYS_futex_wait, &word, 4UL, ~0UL, 2, NULL, CLOCK_MONOTONIC));
    SHOW(syscall(SYS_futex_wait, &word, 3UL, 0UL, 2, NULL, CLOCK_MONOTONIC));
    SHOW(syscall(SYS_futex_requeue, NULL, 0, 0, 0));
}
