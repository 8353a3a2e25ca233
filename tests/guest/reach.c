// One process reaching into another: process_vm_readv(2), kcmp(2), get_robust_list(2). NUMA, time, names of threads.
#include "probe.h"
#include <sys/timex.h>

static volatile char shared_text[64] = "before";

static pid_t sleeper(void) {
    pid_t pid = MUST(fork());
    if (pid == 0) {
        nap_ms(8000);
        _exit(0);
    }
    return pid;
}

static long vm_read(pid_t pid, void *to, void *from, size_t size) {
    struct iovec local = {to, size}, remote = {from, size};
    return syscall(SYS_process_vm_readv, pid, &local, 1, &remote, 1, 0);
}

static long vm_write(pid_t pid, void *from, void *to, size_t size) {
    struct iovec local = {from, size}, remote = {to, size};
    return syscall(SYS_process_vm_writev, pid, &local, 1, &remote, 1, 0);
}

PROBE(process_vm) {
    char text[64] = {0};
    pid_t pid = sleeper();
    strcpy((char *)shared_text, "parent's");
    SHOW(vm_read(pid, text, (void *)shared_text, 16));
    say("%s", text);
    SHOW(vm_write(pid, "changed", (void *)shared_text, 8));
    SHOW(vm_read(pid, text, (void *)shared_text, 16));
    say("%s, ours still %s", text, shared_text);
    struct iovec local[2] = {{text, 3}, {text + 10, 20}}, remote[2] = {{(void *)shared_text, 5}, {unmapped, 5}};
    SHOW(syscall(SYS_process_vm_readv, pid, local, 2, remote, 2, 0));
    say("%.3s %.2s", text, text + 10);
    SHOW(vm_read(pid, text, unmapped, 4));
    SHOW(vm_read(pid, unmapped, (void *)shared_text, 4));
    SHOW(vm_read(4000000, text, text, 4));
    SHOW(syscall(SYS_process_vm_readv, pid, local, 2, remote, 2, 1));
    SHOW(syscall(SYS_process_vm_readv, pid, local, 2000, remote, 2, 0));
    SHOW(syscall(SYS_process_vm_readv, pid, local, 0, unmapped, 2, 0));
    SHOW(syscall(SYS_process_vm_readv, pid, unmapped, 2, remote, 2, 0));
    if (MUST(fork()) == 0) {
        MUST(setresuid(1000, 1000, 1000));
        SHOW(vm_read(pid, text, (void *)shared_text, 4));
        _exit(0);
    }
    wait(NULL);
    size_t big = 10 << 20;
    char *pages = mmap(NULL, big, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(pages, 'x', big);
    char *copy = malloc(big);
    SHOW(vm_read(getpid(), copy, pages, big));
    FACT(memcmp(copy, pages, big) == 0);
    kill(pid, SIGKILL);
    reap("sleeper", pid);
}

static void *wait_a_bit(void *tid) {
    *(pid_t *)tid = gettid();
    nap_ms(300);
    return NULL;
}

PROBE(kcmp) {
    pthread_t thread;
    volatile pid_t tid = 0;
    pid_t self = getpid(), pid = sleeper();
    MUST(pthread_create(&thread, NULL, wait_a_bit, (void *)&tid));
    while (!tid)
        nap_ms(5);
    int two = MUST(dup(1));
    int other = MUST(open("/", O_RDONLY));
    SHOW(syscall(SYS_kcmp, self, self, 0, 1, two));
    FACT(syscall(SYS_kcmp, self, self, 0, 1, other) > 0);
    FACT(syscall(SYS_kcmp, self, self, 0, 1, other) + syscall(SYS_kcmp, self, self, 0, other, 1) == 3);
    SHOW(syscall(SYS_kcmp, self, pid, 0, 1, 1));
    for (int type = 1; type < 5; type++) {
        say("type %d: thread %ld", type, syscall(SYS_kcmp, self, tid, type, 0, 0));
        fact("another process", syscall(SYS_kcmp, self, pid, type, 0, 0) > 0);
    }
    SHOW(syscall(SYS_kcmp, self, 4000000, 1, 0, 0));
    SHOW(syscall(SYS_kcmp, self, self, 0, 1, 99));
    SHOW(syscall(SYS_kcmp, self, self, 99, 1, 1));
    if (MUST(fork()) == 0) {
        MUST(setresuid(1000, 1000, 1000));
        SHOW(syscall(SYS_kcmp, self, pid, 1, 0, 0));
        _exit(0);
    }
    wait(NULL);
    kill(pid, SIGKILL);
    reap("sleeper", pid);
    pthread_join(thread, NULL);
}

PROBE(get_robust_list) {
    void *head = NULL, *again = NULL;
    size_t size = 0;
    SHOW(syscall(SYS_get_robust_list, 0, &head, &size));
    FACT(head != NULL);
    SHOW(size);
    SHOW(syscall(SYS_get_robust_list, gettid(), &again, &size));
    FACT(head == again);
    SHOW(syscall(SYS_get_robust_list, 4000000, &again, &size));
    SHOW(syscall(SYS_get_robust_list, 0, unmapped, &size));
    pid_t parent = getpid();
    if (MUST(fork()) == 0) {
        MUST(setresuid(1000, 1000, 1000));
        SHOW(syscall(SYS_get_robust_list, parent, &again, &size));
        _exit(0);
    }
    wait(NULL);
}

static volatile pid_t named;
static void *be_named(void *unused) {
    (void)unused;
    named = gettid();
    nap_ms(150);
    char name[32] = {0};
    SHOW(prctl(PR_GET_NAME, name));
    say("%s", name);
    return NULL;
}

static void say_comm(pid_t tid) {
    char path[64], text[32] = {0};
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", tid);
    int fd = MUST(open(path, O_RDONLY));
    SHOW(read(fd, text, sizeof text - 1));
    close(fd);
    say("%s", text);
}

PROBE(name_another_thread) {
    char path[64], name[32];
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, be_named, NULL));
    while (!named)
        nap_ms(5);
    say_comm(named);
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", named);
    int fd = MUST(open(path, O_WRONLY));
    SHOW(write(fd, "its-new-name-is-too-long", 24));
    close(fd);
    say_comm(named);
    pthread_join(thread, NULL);
    SHOW(pthread_setname_np(pthread_self(), "first"));
    say_comm(getpid());
    fd = MUST(open("/proc/self/comm", O_WRONLY));
    SHOW(write(fd, "second\n", 7));
    close(fd);
    say_comm(getpid());
    SHOW(prctl(PR_GET_NAME, name));
    SHOW(prctl(PR_SET_NAME, "third"));
    say_comm(getpid());
    SHOW(prctl(PR_GET_NAME, unmapped));
    pid_t parent = getpid();
    if (MUST(fork()) == 0) {
        snprintf(path, sizeof path, "/proc/%d/comm", parent);
        fd = MUST(open(path, O_WRONLY));
        SHOW(write(fd, "x", 1));
        _exit(0);
    }
    wait(NULL);
}

PROBE(time_is_not_set) {
    struct timeval tv = {1, 0}, bad_tv = {1, 2000000};
    struct timespec ts = {1, 0}, bad_ts = {1, 2000000000};
    struct timex timex = {0};
    SHOW(syscall(SYS_settimeofday, &bad_tv, NULL));
    SHOW(syscall(SYS_settimeofday, unmapped, NULL));
    SHOW(syscall(SYS_settimeofday, &tv, unmapped));
    SHOW(syscall(SYS_clock_settime, CLOCK_MONOTONIC, &ts));
    SHOW(syscall(SYS_clock_settime, 99, &ts));
    SHOW(syscall(SYS_clock_settime, CLOCK_REALTIME, unmapped));
    SHOW(syscall(SYS_clock_settime, CLOCK_REALTIME, &bad_ts));
    FACT(syscall(SYS_adjtimex, &timex) >= 0);
    FACT(timex.tick >= 9000 && timex.tick <= 11000);
    FACT(llabs((long long)timex.time.tv_sec - time(NULL)) <= 1);
    timex = (struct timex){0};
    FACT(syscall(SYS_clock_adjtime, CLOCK_REALTIME, &timex) >= 0);
    SHOW(syscall(SYS_clock_adjtime, CLOCK_MONOTONIC, &timex));
    SHOW(syscall(SYS_clock_adjtime, 99, &timex));
    SHOW(syscall(SYS_adjtimex, unmapped));
    MUST(setresuid(1000, 1000, 1000));
    SHOW(syscall(SYS_settimeofday, &tv, NULL));
    SHOW(syscall(SYS_clock_settime, CLOCK_REALTIME, &ts));
    timex = (struct timex){.modes = ADJ_TICK, .tick = 10000};
    SHOW(syscall(SYS_adjtimex, &timex));
}

PROBE(one_memory_node) {
    int mode = 7;
    unsigned long mask[16] = {0};
    SHOW(syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0));
    SHOW(mode);
    SHOW(syscall(SYS_get_mempolicy, NULL, mask, 1024, NULL, 4));
    SHOW(mask[0] & 1);
    SHOW(syscall(SYS_get_mempolicy, &mode, NULL, 0, &mode, 3));
    SHOW(mode);
    SHOW(syscall(SYS_get_mempolicy, &mode, NULL, 0, unmapped, 2));
    SHOW(syscall(SYS_get_mempolicy, &mode, NULL, 0, &mode, 0));
    SHOW(syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 1));
    SHOW(syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 64));
    SHOW(syscall(SYS_set_mempolicy, 0, NULL, 0));
    SHOW(syscall(SYS_set_mempolicy, 99, NULL, 0));
    SHOW(syscall(SYS_set_mempolicy, 2, NULL, 0));
    mask[0] = 1;
    SHOW(syscall(SYS_set_mempolicy, 0, mask, 1024));
    SHOW(syscall(SYS_set_mempolicy, 2, unmapped, 1024));
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SHOW(syscall(SYS_mbind, page, 4096, 0, NULL, 0, 0));
    SHOW(syscall(SYS_mbind, (char *)page + 1, 4096, 0, NULL, 0, 0));
    SHOW(syscall(SYS_mbind, page, 4096, 2, mask, 1024, 0));
    SHOW(syscall(SYS_mbind, page, 4096, 2, mask, 1024, 64));
}
