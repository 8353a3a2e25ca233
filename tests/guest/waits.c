// wait4(2) and waitid(2): options, kinds of ids, what is reported, and who may wait for whom.
#include "probe.h"
#include <linux/sched.h>

static void exit_three(void) { _exit(3); }
static void sleeper(void) {
    for (;;)
        pause();
}

static long raw_waitid(int type, pid_t id, siginfo_t *info, int options, struct rusage *usage) {
    return syscall(SYS_waitid, type, id, info, options, usage);
}

PROBE(wait_arguments) {
    int status;
    siginfo_t info;
    pid_t pid = spawn(sleeper);
    SHOW(wait4(pid, &status, 0x10, NULL));
    SHOW(wait4(pid, &status, WEXITED, NULL));
    SHOW(wait4(pid, &status, WNOWAIT, NULL));
    SHOW(wait4(pid, &status, WNOHANG | WUNTRACED | WCONTINUED, NULL));
    SHOW(wait4(pid, &status, WNOHANG | __WNOTHREAD, NULL));
    SHOW(wait4(pid, &status, WNOHANG | __WCLONE, NULL));
    SHOW(wait4(pid, &status, WNOHANG | __WALL, NULL));
    SHOW(wait4(pid, &status, WNOHANG | __WALL | __WCLONE, NULL));
    SHOW(wait4(INT_MIN, &status, WNOHANG, NULL));
    SHOW(wait4(0, &status, WNOHANG, NULL));
    SHOW(wait4(-99999, &status, WNOHANG, NULL));
    SHOW(raw_waitid(P_PID, pid, &info, 0, NULL));
    SHOW(raw_waitid(P_PID, pid, &info, WNOHANG, NULL));
    SHOW(raw_waitid(P_PID, pid, &info, WEXITED | 0x10, NULL));
    SHOW(raw_waitid(P_PID, 0, &info, WEXITED | WNOHANG, NULL));
    SHOW(raw_waitid(P_PID, -1, &info, WEXITED | WNOHANG, NULL));
    SHOW(raw_waitid(P_PGID, -1, &info, WEXITED | WNOHANG, NULL));
    SHOW(raw_waitid(P_PGID, 0, &info, WEXITED | WNOHANG, NULL));
    SHOW(raw_waitid(P_PGID, 99999, &info, WEXITED | WNOHANG, NULL));
    SHOW(raw_waitid(4, pid, &info, WEXITED | WNOHANG, NULL));
    SHOW(raw_waitid(-1, pid, &info, WEXITED | WNOHANG, NULL));
    SHOW(raw_waitid(P_ALL, -5, &info, WEXITED | WNOHANG, NULL));
    memset(&info, 0x55, sizeof info);
    SHOW(raw_waitid(P_PID, pid, &info, WEXITED | WNOHANG, NULL));
    say("%d %d %d %d", info.si_signo, info.si_code, info.si_pid, info.si_status);
    FACT(info.si_errno == 0);
    SHOW(raw_waitid(P_PID, pid, NULL, WEXITED | WNOHANG, NULL));
    SHOW(raw_waitid(P_PID, pid, unmapped, WEXITED | WNOHANG, NULL));
    SHOW(raw_waitid(P_PIDFD, 99, &info, WEXITED | WNOHANG, NULL));
    SHOW(raw_waitid(P_PIDFD, -1, &info, WEXITED | WNOHANG, NULL));
    SHOW(raw_waitid(P_PIDFD, 1, &info, WEXITED | WNOHANG, NULL));
    SHOW(raw_waitid(P_PIDFD, 99, &info, 0, NULL));
    kill(pid, SIGKILL);
    SHOW(raw_waitid(P_PID, pid, &info, WEXITED | WNOWAIT, NULL));
    FACT(wait4(pid, unmapped, 0, NULL) == -1 && errno == EFAULT);
    SHOW(wait4(pid, &status, 0, NULL));
    pid = spawn(exit_three);
    FACT(raw_waitid(P_PID, pid, unmapped, WEXITED, NULL) == -1 && errno == EFAULT);
    SHOW(wait4(pid, &status, 0, NULL));
    pid = spawn(exit_three);
    FACT(wait4(pid, NULL, 0, unmapped) == -1 && errno == EFAULT);
    SHOW(wait4(pid, &status, 0, NULL));
}

static void say_info(const char *what, long result, const siginfo_t *info, pid_t pid) {
    if (result == -1) {
        show(what, result);
        return;
    }
    say("%s: signo %d code %d status %d uid %d%s", what, info->si_signo, info->si_code, info->si_status, info->si_uid,
        info->si_pid == pid ? "" : " another pid");
}
#define INFO(call, pid) say_info(#call, call, &info, pid)

PROBE(waitid_reports) {
    siginfo_t info = {0};
    struct rusage usage;
    pid_t pid = spawn(sleeper);
    kill(pid, SIGSTOP);
    INFO(waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT), pid);
    INFO(waitid(P_PID, pid, &info, WSTOPPED), pid);
    INFO(waitid(P_PID, pid, &info, WSTOPPED | WNOHANG), 0);
    kill(pid, SIGCONT);
    INFO(waitid(P_PID, pid, &info, WCONTINUED | WNOWAIT), pid);
    INFO(waitid(P_ALL, 0, &info, WCONTINUED | WEXITED), pid);
    INFO(waitid(P_ALL, 0, &info, WCONTINUED | WEXITED | WNOHANG), 0);
    kill(pid, SIGSTOP);
    INFO(waitid(P_PGID, getpgrp(), &info, WSTOPPED | WCONTINUED | WEXITED), pid);
    kill(pid, SIGTERM);
    INFO(waitid(P_PID, pid, &info, WEXITED | WNOHANG), 0);
    kill(pid, SIGCONT);
    INFO(waitid(P_PID, pid, &info, WEXITED | WNOWAIT), pid);
    memset(&usage, 0x55, sizeof usage);
    INFO(raw_waitid(P_PID, pid, &info, WEXITED, &usage), pid);
    FACT(usage.ru_maxrss >= 0 && usage.ru_maxrss < 1 << 20);
    INFO(waitid(P_PID, pid, &info, WEXITED), pid);
    pid = spawn(exit_three);
    INFO(waitid(P_ALL, 0, &info, WEXITED), pid);
}

static void abort_with_core(void) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    abort();
}

PROBE(core_flag) {
    siginfo_t info;
    int status;
    static const int signals[] = {SIGQUIT, SIGILL, SIGABRT, SIGSEGV, SIGSYS, SIGXCPU, SIGTERM, SIGKILL, SIGUSR1};
    for (unsigned i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        pid_t pid = MUST(fork());
        if (pid == 0) {
            setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
            signal(signals[i], SIG_DFL);
            kill(getpid(), signals[i]);
            sleep(5);
            _exit(0);
        }
        MUST(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
        MUST(waitpid(pid, &status, 0));
        say("%s: %x core %d code %d", signal_name(signals[i]), status & 0x7f, !!WCOREDUMP(status), info.si_code);
    }
    pid_t pid = spawn(abort_with_core);
    MUST(waitpid(pid, &status, 0));
    SHOW(status);
}

static int lines[2];

static void *make_child(void *unused) {
    (void)unused;
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        read(lines[0], &c, 1);
        _exit(8);
    }
    return (void *)(long)pid;
}

static void *wait_without_threads(void *pid) {
    int status;
    SHOW(waitpid((pid_t)(long)pid, &status, __WNOTHREAD | WNOHANG));
    return NULL;
}

// A thread may wait for another thread's child, unless it asks not to.
PROBE(wait_between_threads) {
    pthread_t thread;
    void *pid;
    int status;
    MUST(pipe(lines));
    pthread_create(&thread, NULL, make_child, NULL);
    pthread_join(thread, &pid);
    SHOW(waitpid((pid_t)(long)pid, &status, WNOHANG));
    pthread_create(&thread, NULL, wait_without_threads, pid);
    pthread_join(thread, NULL);
    write(lines[1], "x", 1);
    FACT(waitpid((pid_t)(long)pid, &status, 0) == (pid_t)(long)pid);
    say_status("child", status);
}

static void *wait_for_any(void *unused) {
    (void)unused;
    int status;
    pid_t pid = waitpid(-1, &status, 0);
    return (void *)(long)(pid > 0 ? WEXITSTATUS(status) : -errno);
}

PROBE(two_threads_wait) {
    pthread_t one, two;
    void *a, *b;
    MUST(pipe(lines));
    for (int i = 0; i < 2; i++) {
        pid_t pid = MUST(fork());
        if (pid == 0) {
            char c;
            read(lines[0], &c, 1);
            _exit(21);
        }
    }
    pthread_create(&one, NULL, wait_for_any, NULL);
    pthread_create(&two, NULL, wait_for_any, NULL);
    write(lines[1], "ab", 2);
    pthread_join(one, &a);
    pthread_join(two, &b);
    say("%ld %ld", (long)a, (long)b);
    SHOW(wait(NULL));
}

static int leave(void *code) { _exit((int)(long)code); }

// Children whose end is told by another signal than SIGCHLD, or by none, are waited for by __WCLONE or __WALL.
PROBE(wait_for_clones) {
    static char stack[65536] __attribute__((aligned(16)));
    int status;
    count_signal(SIGUSR1, 0);
    pid_t pid = MUST(clone(leave, stack + sizeof stack, SIGUSR1, (void *)5));
    while (!handled)
        pause();
    SHOW(waitpid(-1, &status, WNOHANG));
    SHOW(waitpid(pid, &status, 0));
    FACT(waitpid(pid, &status, __WALL) == pid);
    say_status("SIGUSR1", status);
    pid = MUST(clone(leave, stack + sizeof stack, 0, (void *)6));
    FACT(waitpid(-1, &status, __WCLONE) == pid);
    say_status("nothing", status);
    siginfo_t info;
    pid = MUST(clone(leave, stack + sizeof stack, 0, (void *)7));
    SHOW(waitid(P_ALL, 0, &info, WEXITED | WNOHANG));
    INFO(waitid(P_ALL, 0, &info, WEXITED | __WCLONE), pid);
    pid = spawn(exit_three);
    SHOW(waitpid(pid, &status, __WCLONE));
    FACT(waitpid(pid, &status, __WALL) == pid);
}

static void ignore_children(int flags, bool ignore) {
    struct sigaction action = {.sa_handler = ignore ? SIG_IGN : SIG_DFL, .sa_flags = flags};
    MUST(sigaction(SIGCHLD, &action, NULL));
}

// Children of those who don't care leave no zombie; the wait ends when there is none left.
PROBE(children_that_nobody_waits_for) {
    ignore_children(0, true);
    spawn(exit_three);
    spawn(exit_three);
    SHOW(wait(NULL));
    ignore_children(SA_NOCLDWAIT, false);
    spawn(exit_three);
    SHOW(wait(NULL));
    count_signal(SIGCHLD, SA_NOCLDWAIT);
    spawn(exit_three);
    SHOW(wait(NULL));
    while (!handled)
        nap_ms(1);
    say("told");
    count_signal(SIGCHLD, SA_NOCLDSTOP);
    pid_t pid = spawn(sleeper);
    kill(pid, SIGSTOP);
    MUST(waitpid(pid, NULL, WUNTRACED));
    kill(pid, SIGCONT);
    MUST(waitpid(pid, NULL, WCONTINUED));
    nap_ms(20);
    SHOW(handled);
    kill(pid, SIGKILL);
    reap("child", pid);
    while (!handled)
        nap_ms(1);
    SHOW(handled);
}

static void use_processor(void) {
    struct timespec now;
    do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    while (now.tv_nsec < 60000000);
}

PROBE(rusage_of_children) {
    struct rusage one, all;
    struct timeval before, after;
    MUST(getrusage(RUSAGE_CHILDREN, &all));
    before = all.ru_utime;
    pid_t pid = spawn(use_processor);
    MUST(wait4(pid, NULL, 0, &one));
    int64_t used = one.ru_utime.tv_sec * 1000000 + one.ru_utime.tv_usec + one.ru_stime.tv_sec * 1000000 + one.ru_stime.tv_usec;
    FACT(used >= 50000);
    MUST(getrusage(RUSAGE_CHILDREN, &all));
    after = all.ru_utime;
    FACT(timercmp(&after, &before, >=));
    FACT(all.ru_maxrss >= 0);
    FACT(one.ru_minflt > 0);
    SHOW(getrusage(2, &all));
    SHOW(getrusage(-2, &all));
    SHOW(getrusage(RUSAGE_SELF, unmapped));
    SHOW(getrusage(RUSAGE_THREAD, &all));
}

// The number of a session or a group lives on without its leader.
PROBE(wait_by_group) {
    int status;
    pid_t leader = MUST(fork());
    if (leader == 0) {
        setpgid(0, 0);
        _exit(1);
    }
    MUST(waitid(P_PID, leader, &(siginfo_t){0}, WEXITED | WNOWAIT));
    pid_t member = MUST(fork());
    if (member == 0) {
        SHOW(setpgid(0, leader));
        _exit(2);
    }
    MUST(waitid(P_PID, member, &(siginfo_t){0}, WEXITED | WNOWAIT));
    FACT(waitpid(-leader, &status, 0) > 0);
    FACT(waitpid(-leader, &status, 0) > 0);
    SHOW(waitpid(-leader, &status, 0));
}
