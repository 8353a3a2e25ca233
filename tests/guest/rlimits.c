// Limits: every resource of setrlimit(2) is held, and may be changed by whom prlimit(2) says.
#include "probe.h"

static long set(int resource, rlim_t soft, rlim_t hard) {
    struct rlimit limit = {soft, hard};
    return syscall(SYS_prlimit64, 0, resource, &limit, NULL);
}

static void raise_limits(void) {
    for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
        struct rlimit limit;
        MUST(getrlimit(resource, &limit));
        say("resource %d", resource);
        MUST(set(resource, 100, 200) == -1 && errno != EPERM ? -1 : 0);
        SHOW(set(resource, 201, 200));
        SHOW(set(resource, 150, 200));
        SHOW(set(resource, 150, 201));
        SHOW(set(resource, 150, RLIM_INFINITY));
        SHOW(set(resource, RLIM_INFINITY, 200));
        SHOW(set(resource, 0, 0));
        SHOW(set(resource, 0, 1));
        MUST(getrlimit(resource, &limit));
        say("%lu %lu", limit.rlim_cur, limit.rlim_max);
        if (resource == RLIMIT_CPU)
            break; // a limit of 0 seconds is over now
    }
}
static void raise_limits_above_cpu(void) {
    for (int resource = 1; resource < RLIM_NLIMITS; resource++) {
        if (resource == RLIMIT_CORE)
            continue; // 0 from the start in a sandbox
        say("resource %d", resource);
        SHOW(set(resource, 100, 200));
        SHOW(set(resource, 201, 200));
        SHOW(set(resource, 150, 201));
        SHOW(set(resource, 150, RLIM_INFINITY));
        SHOW(set(resource, RLIM_INFINITY, 200));
        struct rlimit limit;
        MUST(getrlimit(resource, &limit));
        say("%lu %lu", limit.rlim_cur, limit.rlim_max);
    }
}

PROBE(limit_changes) {
    in_child("processor time", raise_limits);
    in_child("others", raise_limits_above_cpu);
    struct rlimit limit;
    SHOW(syscall(SYS_prlimit64, 0, 16, NULL, &limit));
    SHOW(syscall(SYS_prlimit64, 0, -1, NULL, &limit));
    SHOW(syscall(SYS_prlimit64, 0, RLIMIT_CORE, unmapped, NULL));
    SHOW(syscall(SYS_prlimit64, 0, RLIMIT_CORE, NULL, unmapped));
    SHOW(syscall(SYS_prlimit64, 0, RLIMIT_CORE, NULL, NULL));
    SHOW(syscall(SYS_prlimit64, -1, RLIMIT_CORE, NULL, NULL));
    SHOW(syscall(SYS_prlimit64, 99999, RLIMIT_CORE, NULL, &limit));
    SHOW(syscall(SYS_prlimit64, 99999, 99, NULL, &limit));
    SHOW(syscall(SYS_getrlimit, 99, unmapped));
    SHOW(syscall(SYS_getrlimit, RLIMIT_CORE, unmapped));
    SHOW(syscall(SYS_setrlimit, RLIMIT_CORE, unmapped));
    SHOW(syscall(SYS_setrlimit, 99, unmapped));
}

static void linger(void) {
    for (;;)
        pause();
}

static pid_t other;
static void limits_of_others(void) {
    struct rlimit limit = {10, 10};
    MUST(setresgid(1000, 1000, 1000));
    MUST(setresuid(1000, 1000, 1000));
    SHOW(prlimit(other, RLIMIT_CORE, NULL, &limit));
    SHOW(prlimit(other, RLIMIT_CORE, &limit, NULL));
    SHOW(prlimit(getpid(), RLIMIT_CORE, NULL, &limit));
    pid_t own = spawn(linger);
    SHOW(prlimit(own, RLIMIT_NOFILE, &(struct rlimit){20, 30}, NULL));
    SHOW(prlimit(own, RLIMIT_NOFILE, NULL, &limit));
    say("%lu %lu", limit.rlim_cur, limit.rlim_max);
    kill(own, SIGKILL);
    waitpid(own, NULL, 0);
}

PROBE(limits_of_another_process) {
    other = spawn(linger);
    in_child("user", limits_of_others);
    SHOW(prlimit(other, RLIMIT_NPROC, &(struct rlimit){20, 30}, NULL));
    kill(other, SIGKILL);
    reap("child", other);
}

static void address_space(void) {
    MUST(set(RLIMIT_AS, 64 << 20, 64 << 20));
    FACT(mmap(NULL, 256 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    show("mmap", -1);
    FACT(mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    char *area = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FACT(mremap(area, 1 << 20, 256 << 20, MREMAP_MAYMOVE) == MAP_FAILED);
    show("mremap", -1);
    FACT(sbrk(256 << 20) == (void *)-1);
    show("sbrk", -1);
}
static void data_size(void) {
    MUST(set(RLIMIT_DATA, 32 << 20, 32 << 20));
    FACT(sbrk(64 << 20) == (void *)-1);
    show("sbrk", -1);
    FACT(mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    FACT(mmap(NULL, 64 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}
static int recurse(int depth) {
    volatile char block[4096];
    block[0] = depth;
    return depth == 0 ? 0 : recurse(depth - 1) + block[0];
}
static void stack_size(void) {
    MUST(set(RLIMIT_STACK, 1 << 20, 1 << 20));
    recurse(2000);
}
static void stack_room(void) {
    FACT(recurse(500) != -1);
}
static void locked_memory(void) {
    static char area[1 << 20];
    MUST(set(RLIMIT_MEMLOCK, 65536, 65536));
    MUST(setresuid(1000, 1000, 1000));
    SHOW(mlock(area, 4096));
    SHOW(mlock(area, sizeof area));
    SHOW(munlock(area, sizeof area));
    SHOW(mlockall(MCL_CURRENT));
    SHOW(mlockall(MCL_FUTURE));
    FACT(mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    show("mmap", -1);
    SHOW(munlockall());
    SHOW(mlockall(0));
    SHOW(mlockall(8));
    FACT(mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0) == MAP_FAILED);
    show("mmap", -1);
    MUST(set(RLIMIT_MEMLOCK, 0, 0));
    SHOW(mlock(area, 4096));
    SHOW(mlockall(MCL_CURRENT));
}
static void processes(void) {
    MUST(setresuid(1000, 1000, 1000));
    MUST(set(RLIMIT_NPROC, 3, 3));
    int made = 0;
    pid_t pid, pids[20];
    while (made < 20 && (pid = fork()) > 0)
        pids[made++] = pid;
    if (pid == 0)
        linger();
    show("fork", -1);
    SHOW(made);
    while (made > 0)
        kill(pids[--made], SIGKILL);
}
static volatile int told;
static void note(int sig) { (void)sig, told++; }
static void processor_time(void) {
    signal(SIGXCPU, note);
    MUST(set(RLIMIT_CPU, 1, 3));
    while (told < 2)
        continue;
    say("told twice");
    for (;;)
        continue;
}
static void processor_time_default(void) {
    MUST(set(RLIMIT_CPU, 1, 3));
    for (;;)
        continue;
}

PROBE(limits_are_held) {
    in_child("address space", address_space);
    in_child("data", data_size);
    in_child("stack", stack_size);
    in_child("stack room", stack_room);
    in_child("locked memory", locked_memory);
}
PROBE(process_limit) { in_child("processes", processes); }
PROBE(processor_time_limit) {
    in_child("told", processor_time);
    in_child("default", processor_time_default);
}

PROBE(zz_stack) {
    FACT(recurse(3000) != -1);
    struct rlimit limit;
    MUST(getrlimit(RLIMIT_STACK, &limit));
    say("%lu", limit.rlim_cur);
}
static rlim_t stack_limit;
static void exec_with_stack(void) {
    MUST(set(RLIMIT_STACK, stack_limit, RLIM_INFINITY));
    execl("/proc/self/exe", "probe", "zz_stack", NULL);
}

PROBE(stack_limit_and_exec) {
    stack_limit = 64 << 20;
    in_child("64 MiB", exec_with_stack);
    stack_limit = 1 << 20;
    in_child("1 MiB", exec_with_stack);
    stack_limit = RLIM_INFINITY;
    in_child("unlimited", exec_with_stack);
}

PROBE(limits_file) {
    char line[256];
    FILE *limits = fopen("/proc/self/limits", "r");
    MUST(set(RLIMIT_MSGQUEUE, 5, 10));
    MUST(set(RLIMIT_NOFILE, 50, 60));
    while (fgets(line, sizeof line, limits))
        if (strstr(line, "Limit") || strstr(line, "msgqueue") || strstr(line, "open") || strstr(line, "Max cpu") || strstr(line, "nice")) {
            line[strcspn(line, "\n")] = 0;
            say("[%s]", line);
        }
}
