// Scheduling: policies, priorities, niceness, processors: sched(7), setpriority(2), ioprio_set(2).
#include "probe.h"
#include <sys/sysinfo.h>

struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
    uint32_t util_min, util_max;
};

static long getattr(pid_t pid, struct attributes *to, unsigned size, unsigned flags) { return syscall(SYS_sched_getattr, pid, to, size, flags); }
static long setattr(pid_t pid, struct attributes *from, unsigned flags) { return syscall(SYS_sched_setattr, pid, from, flags); }

static const int policies[] = {SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, 4, SCHED_IDLE, SCHED_DEADLINE, 8, -1};

PROBE(priority_ranges) {
    for (unsigned i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        say("policy %d", policies[i]);
        SHOW(sched_get_priority_min(policies[i]));
        SHOW(sched_get_priority_max(policies[i]));
    }
}

static void try_policies(void) {
    for (unsigned i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        for (int priority = 0; priority <= 100; priority += priority ? 99 : 1) {
            say("policy %d priority %d", policies[i], priority);
            if (SHOW(sched_setscheduler(0, policies[i], &(struct sched_param){priority})) == 0)
                SHOW(sched_getscheduler(0));
            if (SHOW(sched_setscheduler(0, policies[i] | SCHED_RESET_ON_FORK, &(struct sched_param){priority})) == 0)
                SHOW(sched_getscheduler(0));
        }
    }
}

static void try_policies_as_user(void) {
    MUST(setresuid(1000, 1000, 1000));
    try_policies();
    SHOW(sched_setscheduler(1, SCHED_OTHER, &(struct sched_param){0}));
    SHOW(sched_setparam(1, &(struct sched_param){0}));
}

PROBE(policies) {
    in_child("root", try_policies);
    in_child("user", try_policies_as_user);
    struct sched_param param = {5};
    SHOW(sched_setscheduler(-1, SCHED_OTHER, &param));
    SHOW(sched_setscheduler(99999, SCHED_OTHER, &(struct sched_param){0}));
    SHOW(sched_setscheduler(0, SCHED_OTHER, NULL));
    SHOW(sched_setscheduler(0, SCHED_OTHER, unmapped));
    SHOW(sched_getscheduler(-1));
    SHOW(sched_getscheduler(99999));
    SHOW(sched_getparam(0, &param));
    SHOW(param.sched_priority);
    SHOW(sched_getparam(-1, &param));
    SHOW(sched_getparam(0, NULL));
    SHOW(sched_getparam(99999, &param));
    SHOW(sched_getparam(0, unmapped));
    SHOW(sched_setparam(0, &(struct sched_param){1}));
    SHOW(sched_setparam(0, &(struct sched_param){0}));
    SHOW(sched_setparam(-1, &param));
    SHOW(sched_setparam(0, NULL));
    SHOW(sched_setparam(99999, &(struct sched_param){0}));
    struct timespec slice;
    SHOW(sched_rr_get_interval(0, &slice));
    FACT(slice.tv_sec == 0 && slice.tv_nsec >= 0);
    SHOW(sched_rr_get_interval(-1, &slice));
    SHOW(sched_rr_get_interval(99999, &slice));
    SHOW(sched_rr_get_interval(0, unmapped));
}

static void policy_of_child(void) {
    SHOW(sched_getscheduler(0));
    SHOW(getpriority(PRIO_PROCESS, 0));
}

PROBE(policy_is_inherited) {
    SHOW(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}));
    in_child("child", policy_of_child);
    struct attributes batch = {.size = 48, .policy = SCHED_BATCH, .nice = 3};
    SHOW(setattr(0, &batch, 0));
    SHOW(sched_getscheduler(0));
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &(struct sched_param){0}));
    in_child("child after reset", policy_of_child);
    SHOW(sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0}));
    SHOW(sched_getscheduler(0));
}

PROBE(attributes) {
    struct attributes attributes;
    memset(&attributes, 0x55, sizeof attributes);
    SHOW(getattr(0, &attributes, sizeof attributes, 0));
    say("%u %u %lu %d %u", attributes.size, attributes.policy, attributes.flags, attributes.nice, attributes.priority);
    SHOW(getattr(0, &attributes, 48, 0));
    SHOW(attributes.size);
    SHOW(getattr(0, &attributes, 47, 0));
    SHOW(getattr(0, &attributes, 5000, 0));
    SHOW(getattr(0, &attributes, 48, 1));
    SHOW(getattr(-1, &attributes, 48, 0));
    SHOW(getattr(99999, &attributes, 48, 0));
    SHOW(getattr(0, NULL, 48, 0));
    SHOW(getattr(0, unmapped, 48, 0));
    attributes = (struct attributes){.size = 48, .nice = 2};
    SHOW(setattr(0, &attributes, 0));
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(setattr(0, &attributes, 1));
    SHOW(setattr(-1, &attributes, 0));
    SHOW(setattr(99999, &attributes, 0));
    SHOW(setattr(0, NULL, 0));
    SHOW(setattr(0, unmapped, 0));
    attributes.size = 47;
    SHOW(setattr(0, &attributes, 0));
    SHOW(attributes.size > 47);
    attributes.size = 5000;
    SHOW(setattr(0, &attributes, 0));
    attributes = (struct attributes){.size = 0, .nice = 4};
    SHOW(setattr(0, &attributes, 0));
    SHOW(getpriority(PRIO_PROCESS, 0));
    attributes = (struct attributes){.size = 48, .policy = SCHED_FIFO, .priority = 1};
    SHOW(setattr(0, &attributes, 0));
    attributes = (struct attributes){.size = 48, .policy = SCHED_OTHER, .flags = 0x1000};
    SHOW(setattr(0, &attributes, 0));
    attributes = (struct attributes){.size = 48, .policy = SCHED_OTHER, .flags = 1};
    SHOW(setattr(0, &attributes, 0));
    SHOW(getattr(0, &attributes, 48, 0));
    say("%lx", attributes.flags);
    SHOW(sched_getscheduler(0));
    attributes = (struct attributes){.size = 48, .policy = 4};
    SHOW(setattr(0, &attributes, 0));
    attributes = (struct attributes){.size = 48, .policy = SCHED_OTHER, .nice = 40};
    SHOW(setattr(0, &attributes, 0));
    SHOW(getpriority(PRIO_PROCESS, 0));
}

static void linger(void) {
    for (;;)
        pause();
}

static pid_t root_child;

static void nice_as_user(void) {
    MUST(setresuid(1000, 1000, 1000));
    SHOW(setpriority(PRIO_PROCESS, 0, 5));
    SHOW(setpriority(PRIO_PROCESS, 0, 4));
    SHOW(setpriority(PRIO_PROCESS, 0, 5));
    SHOW(setpriority(PRIO_PROCESS, root_child, 6));
    SHOW(getpriority(PRIO_PROCESS, root_child));
    SHOW(setpriority(PRIO_USER, 0, 7));
    SHOW(setpriority(PRIO_USER, 0, 6));
    errno = 0;
    SHOW(nice(1));
    SHOW(nice(-1));
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(setpriority(PRIO_PROCESS, 0, 100));
    SHOW(getpriority(PRIO_PROCESS, 0));
}

static void nice_with_limit(void) {
    MUST(setpriority(PRIO_PROCESS, 0, 5));
    MUST(setrlimit(RLIMIT_NICE, &(struct rlimit){0, 0}));
    MUST(setresuid(1000, 1000, 1000));
    SHOW(setpriority(PRIO_PROCESS, 0, 2));
}

PROBE(niceness) {
    root_child = spawn(linger);
    setpgid(0, 0);
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(syscall(SYS_getpriority, PRIO_PROCESS, 0));
    SHOW(getpriority(3, 0));
    SHOW(getpriority(-1, 0));
    SHOW(getpriority(PRIO_PROCESS, 99999));
    SHOW(getpriority(PRIO_PROCESS, -1));
    SHOW(getpriority(PRIO_PGRP, 99999));
    SHOW(getpriority(PRIO_USER, 99999));
    SHOW(setpriority(3, 0, 0));
    SHOW(setpriority(PRIO_PROCESS, 99999, 0));
    SHOW(setpriority(PRIO_PGRP, 99999, 0));
    SHOW(setpriority(PRIO_USER, 99999, 0));
    SHOW(setpriority(PRIO_PROCESS, root_child, 3));
    SHOW(getpriority(PRIO_PROCESS, root_child));
    SHOW(getpriority(PRIO_PGRP, 0));
    in_child("user", nice_as_user);
    in_child("limited", nice_with_limit);
    kill(root_child, SIGKILL);
    reap("child", root_child);
}

static long set_affinity(pid_t pid, unsigned size, void *mask) { return syscall(SYS_sched_setaffinity, pid, size, mask); }
static long get_affinity(pid_t pid, unsigned size, void *mask) { return syscall(SYS_sched_getaffinity, pid, size, mask); }

PROBE(affinity) {
    uint64_t mask[128] = {0}, one[128] = {0}, none[2] = {0}, all[128];
    memset(all, 0xff, sizeof all);
    SHOW(get_affinity(0, 8, mask));
    FACT(mask[0] != 0);
    FACT(get_nprocs() == __builtin_popcountll(mask[0]));
    FACT(get_affinity(0, 1024, mask) >= 8);
    SHOW(get_affinity(0, 4, mask));
    SHOW(get_affinity(0, 9, mask));
    SHOW(get_affinity(0, 0, mask));
    SHOW(get_affinity(-1, 8, mask));
    SHOW(get_affinity(99999, 8, mask));
    SHOW(get_affinity(0, 8, unmapped));
    one[0] = mask[0] & -mask[0];
    SHOW(set_affinity(0, 8, one));
    SHOW(get_affinity(0, 8, mask));
    FACT(mask[0] == one[0]);
    SHOW(set_affinity(0, 128, all));
    SHOW(set_affinity(0, 8, none));
    SHOW(set_affinity(0, 0, one));
    SHOW(set_affinity(0, 8, unmapped));
    SHOW(set_affinity(-1, 8, one));
    SHOW(set_affinity(99999, 8, one));
    unsigned processor = 99, node = 99;
    SHOW(syscall(SYS_getcpu, &processor, &node, NULL));
    FACT(processor < 64 && node == 0);
    SHOW(syscall(SYS_getcpu, NULL, NULL, NULL));
    SHOW(syscall(SYS_getcpu, unmapped, NULL, NULL));
    SHOW(sched_yield());
}

PROBE(io_priority) {
    enum { NONE, RT, BE, IDLE };
    setpgid(0, 0);
    SHOW(syscall(SYS_ioprio_get, 1, 0));
    SHOW(syscall(SYS_ioprio_get, 1, 99999));
    SHOW(syscall(SYS_ioprio_get, 0, 0));
    SHOW(syscall(SYS_ioprio_get, 4, 0));
    SHOW(syscall(SYS_ioprio_set, 1, 0, BE << 13 | 3));
    SHOW(syscall(SYS_ioprio_get, 1, 0));
    SHOW(syscall(SYS_ioprio_set, 1, 0, BE << 13 | 8));
    SHOW(syscall(SYS_ioprio_set, 1, 0, IDLE << 13));
    SHOW(syscall(SYS_ioprio_get, 1, 0));
    SHOW(syscall(SYS_ioprio_set, 1, 0, NONE << 13 | 1));
    SHOW(syscall(SYS_ioprio_set, 1, 0, 4 << 13));
    SHOW(syscall(SYS_ioprio_set, 1, 99999, BE << 13));
    SHOW(syscall(SYS_ioprio_set, 0, 0, BE << 13));
    SHOW(syscall(SYS_ioprio_set, 2, 0, BE << 13 | 5));
    SHOW(syscall(SYS_ioprio_get, 2, 0));
    SHOW(syscall(SYS_ioprio_set, 3, 0, BE << 13 | 6));
    SHOW(syscall(SYS_ioprio_get, 3, 0));
    SHOW(syscall(SYS_ioprio_set, 1, 0, RT << 13 | 4));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        SHOW(syscall(SYS_ioprio_get, 1, 0));
        MUST(setresuid(1000, 1000, 1000));
        SHOW(syscall(SYS_ioprio_set, 1, 0, RT << 13 | 4));
        SHOW(syscall(SYS_ioprio_set, 1, 1, BE << 13 | 4));
        SHOW(syscall(SYS_ioprio_set, 1, 0, IDLE << 13));
        _exit(0);
    }
    reap("child", pid);
    SHOW(syscall(SYS_ioprio_set, 1, 0, NONE << 13));
    SHOW(syscall(SYS_ioprio_get, 1, 0));
}
