// Seccomp filters of the guest's own: strict mode, filter mode, what they do to a program and to its children.
#include "probe.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/uio.h>

#define NR BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define RET(value) BPF_STMT(BPF_RET | BPF_K, value)
#define ON(NUMBER, ACTION) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NUMBER, 0, 1), RET(ACTION)
#define ALLOW RET(SECCOMP_RET_ALLOW)
#define FILTER(...) filter(0, sizeof((struct sock_filter[]){__VA_ARGS__}) / sizeof(struct sock_filter), (struct sock_filter[]){__VA_ARGS__})
#define FILTER_FLAGS(FLAGS, ...)                                                                                 \
    filter(FLAGS, sizeof((struct sock_filter[]){__VA_ARGS__}) / sizeof(struct sock_filter), (struct sock_filter[]){__VA_ARGS__})

static long filter(unsigned flags, unsigned short length, struct sock_filter *code) {
    struct sock_fprog program = {length, code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void promise(void) { MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); }

// --- asking

PROBE(seccomp_errors) {
    struct sock_filter code[] = {ALLOW};
    struct sock_fprog program = {1, code}, empty = {0, code}, nowhere = {1, unmapped}, huge = {4097, code};
    uint32_t action = SECCOMP_RET_ERRNO;
    SHOW(prctl(PR_GET_SECCOMP));
    SHOW(syscall(SYS_seccomp, 9, 0, NULL));
    SHOW(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL));
    SHOW(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, &program));
    SHOW(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 1, &action));
    SHOW(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
    SHOW(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, unmapped));
    action = 0x12340000;
    SHOW(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
    SHOW(prctl(PR_SET_SECCOMP, 7, &program));
    promise();
    SHOW(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 1 << 9, &program));
    SHOW(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL));
    SHOW(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, unmapped));
    SHOW(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &empty));
    SHOW(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &nowhere));
    SHOW(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &huge));
    SHOW(FILTER(NR));                                                           // does not end in a return
    SHOW(FILTER(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), ALLOW));                 // not aligned
    SHOW(FILTER(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), ALLOW));                // behind the data
    SHOW(FILTER(BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), ALLOW));                 // sockets only
    SHOW(FILTER(BPF_JUMP(BPF_JMP | BPF_JA, 5, 0, 0), ALLOW));                   // out of the program
    SHOW(FILTER(BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), ALLOW));
    SHOW(prctl(PR_GET_SECCOMP));
}

static void without_promise(void) {
    MUST(setresuid(1000, 1000, 1000));
    SHOW(FILTER(ALLOW));
    promise();
    SHOW(FILTER(ALLOW));
}

static void with_capability(void) { SHOW(FILTER(ALLOW)); }

PROBE(seccomp_needs_a_promise) {
    in_child("user", without_promise);
    in_child("root", with_capability);
}

// --- strict mode

static void strict_and_good(void) {
    int p[2];
    char byte = 'x';
    MUST(pipe(p));
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    if (write(p[1], &byte, 1) != 1 || read(p[0], &byte, 1) != 1)
        syscall(SYS_exit, 1);
    syscall(SYS_exit, 6);
}

static void strict_then(long nr) {
    MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL));
    syscall(nr, 1000, 0, 0, 0);
    syscall(SYS_exit, 0);
}

static void strict_open(void) { strict_then(SYS_open); }
static void strict_getpid(void) { strict_then(SYS_getpid); }
static void strict_exit_group(void) { strict_then(SYS_exit_group); }

PROBE(seccomp_strict) {
    in_child("good", strict_and_good);
    in_child("open", strict_open);
    in_child("getpid", strict_getpid);
    in_child("exit_group", strict_exit_group);
}

// --- what a filter can answer

static void trapped(int sig, siginfo_t *info, void *context) {
    (void)context;
    say("%s code %d call %d errno %d arch %s at %s", signal_name(sig), info->si_code, info->si_syscall, info->si_errno,
        info->si_arch == AUDIT_ARCH_X86_64 ? "right" : "wrong", info->si_call_addr ? "some address" : "none");
}

PROBE(seccomp_answers) {
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
    MUST(sigaction(SIGSYS, &action, NULL));
    promise();
    SHOW(FILTER(NR, ON(SYS_mkdir, SECCOMP_RET_ERRNO | 77), ON(SYS_getpgrp, SECCOMP_RET_ERRNO | EPERM), ON(SYS_uname, SECCOMP_RET_TRAP | 5),
                ON(SYS_getppid, SECCOMP_RET_TRAP | 6), ON(SYS_rmdir, SECCOMP_RET_TRACE), ON(SYS_getuid, SECCOMP_RET_LOG),
                ON(SYS_link, SECCOMP_RET_ERRNO | 0xffff), ALLOW));
    SHOW(prctl(PR_GET_SECCOMP));
    SHOW(mkdir("x", 0755));
    SHOW(syscall(SYS_getpgrp));
    syscall(SYS_uname, NULL);
    syscall(SYS_getppid);
    SHOW(syscall(SYS_rmdir, "x")); // there is no tracer
    SHOW(getuid());
    SHOW(syscall(SYS_link, "a", "b"));
    SHOW(access(".", F_OK));
}

static void killed_by(uint32_t action, long nr) {
    promise();
    MUST(FILTER(NR, ON(nr, action), ALLOW));
    syscall(nr, 0, 0, 0);
    _exit(1);
}

static void kill_process(void) { killed_by(SECCOMP_RET_KILL_PROCESS, SYS_uname); }
static void kill_process_native(void) { killed_by(SECCOMP_RET_KILL_PROCESS, SYS_sched_yield); }
static void kill_last_thread(void) { killed_by(SECCOMP_RET_KILL_THREAD, SYS_uname); }
static void trap_without_handler(void) { killed_by(SECCOMP_RET_TRAP, SYS_uname); }

static void *dies_alone(void *unused) {
    MUST(FILTER(NR, ON(SYS_uname, SECCOMP_RET_KILL_THREAD), ALLOW));
    syscall(SYS_uname, NULL);
    return unused;
}

static void kill_one_thread(void) {
    pthread_t thread;
    promise();
    MUST(pthread_create(&thread, NULL, dies_alone, NULL));
    nap_ms(100);
    struct rlimit limit;
    _exit(getrlimit(RLIMIT_CORE, &limit) == 0 ? 4 : 5);
}

PROBE(seccomp_kills) {
    in_child("process", kill_process);
    in_child("process, native call", kill_process_native);
    in_child("last thread", kill_last_thread);
    in_child("trap", trap_without_handler);
    in_child("one thread", kill_one_thread);
}

static void all_fatal(void) {
    promise();
    MUST(FILTER(BPF_STMT(BPF_RET | BPF_A, 0))); // the accumulator begins as 0
    _exit(0);
}

PROBE(seccomp_looks_at_arguments) {
    promise();
    SHOW(FILTER(NR, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_dup2, 0, 3),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
                BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 50, 0, 1), RET(SECCOMP_RET_ERRNO | ERANGE), ALLOW));
    SHOW(dup2(1, 40));
    SHOW(dup2(1, 50));
    in_child("everything is fatal", all_fatal);
}

PROBE(seccomp_stacks) {
    promise();
    SHOW(FILTER(NR, ON(SYS_mkdir, SECCOMP_RET_ERRNO | 1), ON(SYS_rmdir, SECCOMP_RET_ERRNO | 2), ALLOW));
    SHOW(FILTER(NR, ON(SYS_mkdir, SECCOMP_RET_ALLOW), ON(SYS_rmdir, SECCOMP_RET_ERRNO | 3), ALLOW));
    SHOW(mkdir("x", 0755));
    SHOW(rmdir("x"));
    SHOW(FILTER(NR, ON(SYS_seccomp, SECCOMP_RET_ERRNO | 4), ON(SYS_prctl, SECCOMP_RET_ERRNO | 5), ALLOW));
    SHOW(FILTER(ALLOW));
    SHOW(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
}

// --- who is under it

static void say_lines(void) {
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        if (strncmp(line, "Seccomp", 7) == 0 || strncmp(line, "NoNewPrivs", 10) == 0)
            say("%.*s", (int)strcspn(line, "\n"), line);
    fclose(status);
}

static void child_is_under_it(void) {
    SHOW(mkdir("x", 0755));
    say_lines();
}

PROBE(zz_seccomp_target) {
    SHOW(mkdir("x", 0755));
    SHOW(prctl(PR_GET_SECCOMP));
    char name[16];
    prctl(PR_GET_NAME, name);
    say("comm %s", name);
}

static void executes(void) { execl("/proc/self/exe", "probe", "zz_seccomp_target", NULL); }

PROBE(seccomp_is_inherited) {
    say_lines();
    promise();
    // Calls that the sandbox itself might make in a task's place are refused: it must not need them.
    SHOW(FILTER(NR, ON(SYS_mkdir, SECCOMP_RET_ERRNO | 1), ON(SYS_pause, SECCOMP_RET_KILL_PROCESS), ON(5000, SECCOMP_RET_KILL_PROCESS),
                ON(SYS_execveat, SECCOMP_RET_KILL_PROCESS), ALLOW));
    say_lines();
    in_child("fork", child_is_under_it);
    in_child("exec", executes);
}

PROBE(seccomp_whitelist_survives_waiting) {
    // All that a worker needs, and no pause(2): waits of the sandbox's own making must not show.
    int p[2], status;
    MUST(pipe(p));
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        count_signal(SIGUSR1, SA_RESTART);
        count_signal(SIGUSR2, 0);
        promise();
        if (FILTER(NR, ON(SYS_read, SECCOMP_RET_ALLOW), ON(SYS_write, SECCOMP_RET_ALLOW), ON(SYS_exit_group, SECCOMP_RET_ALLOW),
                   ON(SYS_rt_sigreturn, SECCOMP_RET_ALLOW), RET(SECCOMP_RET_KILL_PROCESS)))
            _exit(9);
        long got = read(p[0], &byte, 1);
        if (got != -1 || errno != EINTR || handled != 2)
            _exit(8);
        _exit(read(p[0], &byte, 1) == 1 ? 7 : 6);
    }
    nap_ms(60);
    kill(pid, SIGUSR1);
    nap_ms(60);
    kill(pid, SIGSTOP);
    nap_ms(20);
    kill(pid, SIGCONT);
    kill(pid, SIGUSR2);
    nap_ms(60);
    MUST(write(p[1], "x", 1));
    MUST(waitpid(pid, &status, 0));
    say_status("worker", status);
}

static void *waits_and_tries(void *go) {
    while (!__atomic_load_n((int *)go, __ATOMIC_ACQUIRE))
        sched_yield();
    return (void *)(long)(mkdir("x", 0755) ? errno : 0);
}

PROBE(seccomp_tsync) {
    pthread_t threads[3];
    int go = 0;
    void *result;
    promise();
    for (int i = 0; i < 3; i++)
        MUST(pthread_create(&threads[i], NULL, waits_and_tries, &go));
    SHOW(FILTER_FLAGS(SECCOMP_FILTER_FLAG_TSYNC, NR, ON(SYS_mkdir, SECCOMP_RET_ERRNO | 33), ALLOW));
    __atomic_store_n(&go, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], &result);
        SHOW(result);
    }
}

static void *parts_ways(void *go) {
    MUST(FILTER(NR, ON(SYS_rmdir, SECCOMP_RET_ERRNO | 1), ALLOW));
    __atomic_store_n((int *)go, gettid(), __ATOMIC_RELEASE);
    for (;;)
        sched_yield();
    return NULL;
}

PROBE(seccomp_tsync_fails) {
    pthread_t thread;
    int other = 0;
    promise();
    MUST(pthread_create(&thread, NULL, parts_ways, &other));
    while (!__atomic_load_n(&other, __ATOMIC_ACQUIRE))
        sched_yield();
    long got = FILTER_FLAGS(SECCOMP_FILTER_FLAG_TSYNC, NR, ON(SYS_mkdir, SECCOMP_RET_ERRNO | 33), ALLOW);
    FACT(got == other);
    SHOW(FILTER_FLAGS(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH, ALLOW));
}
