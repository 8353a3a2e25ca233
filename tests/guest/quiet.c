// Threads that have made no call which needs the kernel's attention, when something happens that concerns them.
#include "probe.h"
#include <dirent.h>
#include <stdatomic.h>
#include <sys/fsuid.h>

#define THREAD_FLAGS                                                                                             \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PARENT_SETTID |    \
     CLONE_CHILD_CLEARTID)

static atomic_int go, done, quiet_tid;
static char stacks[4][65536] __attribute__((aligned(16)));

static void spin_until(atomic_int *what, int value) {
    while (atomic_load(what) != value)
        __builtin_ia32_pause();
}

// A thread without a C library's preparations: it makes no call at all until it is let go. `body` may use raw calls.
static int raw_thread(int (*body)(void *), int number, int flags) {
    return clone(body, stacks[number] + sizeof stacks[0], flags, (void *)(long)number, &quiet_tid, NULL, &quiet_tid);
}

static void join_raw(void) {
    int tid;
    while ((tid = atomic_load(&quiet_tid)))
        syscall(SYS_futex, &quiet_tid, 0 /* FUTEX_WAIT */, tid, NULL);
}

static int raw_exit(long code) {
    syscall(SYS_exit, code);
    return 0;
}

static int waits_then_leaves(void *unused) {
    (void)unused;
    spin_until(&go, 1);
    return raw_exit(0);
}

// --- what others see

static int entries(const char *path) {
    int count = 0;
    DIR *folder = opendir(path);
    struct dirent *entry;
    while (folder && (entry = readdir(folder)))
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

PROBE(quiet_thread_is_listed) {
    char path[64];
    MUST(raw_thread(waits_then_leaves, 0, THREAD_FLAGS));
    SHOW(entries("/proc/self/task"));
    snprintf(path, sizeof path, "/proc/self/task/%d/status", quiet_tid);
    SHOW(access(path, F_OK));
    struct stat status;
    MUST(stat("/proc/self/task", &status));
    SHOW(status.st_nlink);
    SHOW(unshare(CLONE_SIGHAND));
    SHOW(syscall(SYS_tgkill, getpid(), quiet_tid, 0));
    SHOW(getpriority(PRIO_PROCESS, quiet_tid));
    atomic_store(&go, 1);
    join_raw();
    nap_ms(20);
    SHOW(entries("/proc/self/task"));
}

PROBE(quiet_thread_is_found_by_its_number) {
    cpu_set_t set;
    MUST(raw_thread(waits_then_leaves, 0, THREAD_FLAGS));
    int tid = quiet_tid;
    SHOW(syscall(SYS_tkill, tid, 0));
    FACT(sched_getaffinity(tid, sizeof set, &set) == 0);
    SHOW(kill(tid, 0)); // a thread's number names its process here
    atomic_store(&go, 1);
    join_raw();
    nap_ms(20);
    SHOW(syscall(SYS_tkill, tid, 0));
}

// --- signals

static void note_sender(int sig, siginfo_t *info, void *context) {
    (void)context;
    say("signal %s code %d from %s uid %d", signal_name(sig), info->si_code, info->si_pid == getpid() ? "ourselves" : "other",
        info->si_uid);
    atomic_store(&done, 1);
}

static void catch_sender(int sig) {
    struct sigaction action = {.sa_sigaction = note_sender, .sa_flags = SA_SIGINFO};
    MUST(sigaction(sig, &action, NULL));
}

PROBE(quiet_thread_reads_who_signals) {
    sigset_t set;
    catch_sender(SIGUSR1);
    MUST(raw_thread(waits_then_leaves, 0, THREAD_FLAGS));
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL)); // so the other thread takes it
    SHOW(kill(getpid(), SIGUSR1));
    spin_until(&done, 1);
    atomic_store(&done, 0);
    SHOW(syscall(SYS_tgkill, getpid(), quiet_tid, SIGUSR1));
    spin_until(&done, 1);
    atomic_store(&go, 1);
    join_raw();
}

static void *spins(void *unused) {
    (void)unused;
    spin_until(&go, 1);
    return NULL;
}

PROBE(quiet_threads_change_identity_together) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        MUST(pthread_create(&threads[i], NULL, spins, NULL));
    SHOW(setresgid(5, 5, 5)); // the C library makes every thread do it, by signals that show their sender
    SHOW(setresuid(6, 6, 6));
    atomic_store(&go, 1);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    SHOW(getuid());
}

PROBE(stop_of_quiet_threads) {
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 3; i++)
            raw_thread(waits_then_leaves, i, THREAD_FLAGS);
        spin_until(&go, 1);
        _exit(0);
    }
    int status;
    nap_ms(30);
    SHOW(kill(pid, SIGSTOP));
    SHOW(waitpid(pid, &status, WUNTRACED) == pid);
    FACT(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    SHOW(kill(pid, SIGCONT));
    SHOW(waitpid(pid, &status, WCONTINUED) == pid);
    FACT(WIFCONTINUED(status));
    SHOW(kill(pid, SIGTERM));
    SHOW(waitpid(pid, &status, 0) == pid);
    say_status("child", status);
}

// --- their first call

static int forks_first(void *unused) {
    (void)unused;
    spin_until(&go, 1);
    pid_t pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        syscall(SYS_exit_group, getpid() == gettid() ? 7 : 8);
    atomic_store(&done, pid);
    return raw_exit(0);
}

PROBE(quiet_thread_forks) {
    MUST(raw_thread(forks_first, 0, THREAD_FLAGS));
    atomic_store(&go, 1);
    join_raw();
    reap("child of the thread", done);
}

PROBE(zz_quiet_target) {
    FACT(gettid() == getpid());
    SHOW(entries("/proc/self/task"));
}

static char *const exec_argv[] = {"probe", "zz_quiet_target", NULL};
static char *const exec_envp[] = {NULL};

static int executes_first(void *number) {
    spin_until(&go, 1);
    if ((long)number)
        syscall(SYS_execveat, -100, "/proc/self/exe", exec_argv, exec_envp, 0);
    else
        syscall(SYS_execve, "/proc/self/exe", exec_argv, exec_envp);
    return raw_exit(9);
}

static void exec_in_quiet_thread(int number) {
    raw_thread(waits_then_leaves, 2, THREAD_FLAGS);
    MUST(raw_thread(executes_first, number, THREAD_FLAGS));
    atomic_store(&go, 1);
    for (;;)
        pause();
}

static void exec_by_execve(void) { exec_in_quiet_thread(0); }
static void exec_by_execveat(void) { exec_in_quiet_thread(1); }

PROBE(quiet_thread_executes) {
    in_child("execve", exec_by_execve);
    in_child("execveat", exec_by_execveat);
}

static int opens_first(void *unused) {
    (void)unused;
    spin_until(&go, 1);
    atomic_store(&done, 100 + (int)syscall(SYS_openat, -100, "/dev/null", O_RDONLY, 0));
    return raw_exit(0);
}

PROBE(quiet_thread_opens) {
    int lowest = MUST(open("/dev/zero", O_RDONLY));
    MUST(raw_thread(opens_first, 0, THREAD_FLAGS));
    close(lowest);
    atomic_store(&go, 1);
    join_raw();
    FACT(done - 100 == lowest);
    SHOW(fcntl(done - 100, F_GETFD));
}

// --- threads that become different

PROBE(quiet_thread_keeps_its_descriptors) {
    int fd = MUST(open("/dev/zero", O_RDONLY));
    MUST(raw_thread(opens_first, 0, THREAD_FLAGS));
    SHOW(unshare(CLONE_FILES));
    SHOW(close(fd)); // in this thread's own table now
    atomic_store(&go, 1);
    join_raw();
    FACT(done - 100 == fd + 1);
    SHOW(fcntl(fd + 1, F_GETFD));
}

static int tells_uid(void *unused) {
    (void)unused;
    spin_until(&go, 1);
    atomic_store(&done, 1 + (int)syscall(SYS_geteuid));
    return raw_exit(0);
}

PROBE(quiet_thread_keeps_its_identity) {
    MUST(raw_thread(tells_uid, 0, THREAD_FLAGS));
    SHOW(syscall(SYS_setresuid, -1, 12, -1)); // this thread's alone
    atomic_store(&go, 1);
    join_raw();
    SHOW(done - 1);
    atomic_store(&go, 0);
    MUST(raw_thread(tells_uid, 0, THREAD_FLAGS)); // made by this one: has its identity
    atomic_store(&go, 1);
    join_raw();
    SHOW(done - 1);
    SHOW(syscall(SYS_geteuid));
}

static int tells_place(void *unused) {
    (void)unused;
    spin_until(&go, 1);
    atomic_store(&done, 1 + (int)syscall(SYS_access, "here", F_OK));
    return raw_exit(0);
}

PROBE(quiet_thread_keeps_its_place) {
    make_file("here", "");
    MUST(raw_thread(tells_place, 0, THREAD_FLAGS));
    SHOW(unshare(CLONE_FS));
    MUST(chdir("/"));
    atomic_store(&go, 1);
    join_raw();
    SHOW(done - 1);
}

// --- clones of other kinds

static int leaves(void *code) { return raw_exit((long)code); }

static int made_with(int flags, int options) {
    int status = -1;
    pid_t pid = clone(leaves, stacks[0] + sizeof stacks[0], flags, (void *)5L);
    if (pid < 0)
        return -1;
    return waitpid(pid, &status, options) == pid ? WEXITSTATUS(status) : -2;
}

PROBE(clone_exit_signals) {
    count_signal(SIGUSR1, 0);
    SHOW(made_with(SIGCHLD, 0));
    SHOW(made_with(SIGUSR1, __WCLONE));
    SHOW(handled);
    SHOW(made_with(0, __WALL));
    SHOW(made_with(0, 0)); // not a child of this kind
    SHOW(waitpid(-1, NULL, __WCLONE) > 0);
    SHOW(made_with(CLONE_VM | CLONE_VFORK | SIGCHLD, 0));
    SHOW(made_with(CLONE_VM | CLONE_VFORK, __WALL));
    SHOW(made_with(CLONE_PTRACE | SIGCHLD, 0)); // without a tracer it means nothing
    SHOW(made_with(CLONE_UNTRACED | SIGCHLD, 0));
}

static int opens_and_leaves(void *unused) {
    (void)unused;
    return raw_exit(syscall(SYS_openat, -100, "/dev/null", O_RDONLY, 0) < 0);
}

PROBE(thread_with_own_descriptors) {
    MUST(raw_thread(opens_and_leaves, 0, THREAD_FLAGS & ~CLONE_FILES));
    join_raw();
    int fd = MUST(open("/dev/null", O_RDONLY));
    MUST(raw_thread(opens_and_leaves, 0, THREAD_FLAGS));
    join_raw();
    SHOW(fcntl(fd + 1, F_GETFD));
    SHOW(fcntl(fd + 2, F_GETFD));
}

PROBE(registers_survive_a_clone) {
    // The call changes no register but the result's, in the parent and in the child, whatever flags it has.
    count_signal(SIGUSR2, SA_RESTART);
    for (int i = 0; i < 3; i++) {
        unsigned long flags = (unsigned long[]){SIGCHLD, SIGCHLD | CLONE_UNTRACED, SIGUSR2}[i];
        register long r10 asm("r10") = 10;
        register long r8 asm("r8") = 8;
        unsigned long di = flags, si = 0, dx = 3;
        long result;
        asm volatile("syscall" : "=a"(result), "+D"(di), "+S"(si), "+d"(dx), "+r"(r10), "+r"(r8) : "a"(SYS_clone) : "rcx", "r11", "memory");
        bool kept = di == flags && si == 0 && dx == 3 && r10 == 10 && r8 == 8;
        if (result == 0)
            syscall(SYS_exit_group, kept);
        int status = 0;
        FACT(kept);
        FACT(waitpid(result, &status, __WALL) == result && WEXITSTATUS(status) == 1);
    }
}

PROBE(registers_survive_a_failed_exec) {
    char *const argv[] = {"x", NULL};
    static char huge[200 << 10]; // one argument may have 128 KiB: the host kernel says so, after the sentry's checks
    memset(huge, 'x', sizeof huge - 1);
    char *const too_long[] = {"x", huge, NULL};
    const char *di = "/proc/self/exe", *path = di;
    char *const *si = too_long, **dx = NULL;
    long result;
    register long r10 asm("r10") = 10;
    register long r8 asm("r8") = 8;
    asm volatile("syscall" : "=a"(result), "+D"(di), "+S"(si), "+d"(dx), "+r"(r10), "+r"(r8) : "a"(SYS_execve) : "rcx", "r11", "memory");
    bool kept = di == path && si == too_long && dx == NULL && r10 == 10 && r8 == 8;
    FACT(result == -E2BIG);
    FACT(kept);
    SHOW(execve("/nowhere", argv, NULL));
}

PROBE(clone_pidfd) {
    int fd = -1, status;
    pid_t pid = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &fd, 0, 0);
    if (pid == 0)
        _exit(3);
    FACT(pid > 0 && fd >= 3);
    SHOW(fcntl(fd, F_GETFD));
    siginfo_t info = {0};
    SHOW(waitid(3 /* P_PIDFD */, fd, &info, WEXITED | WNOWAIT));
    FACT(info.si_pid == pid && info.si_status == 3);
    SHOW(waitpid(pid, &status, 0) == pid);
    SHOW(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
    close(fd);
    SHOW(syscall(SYS_clone, CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, 0, &fd, 0, 0));
    SHOW(syscall(SYS_clone, CLONE_PIDFD | THREAD_FLAGS, 0, &fd, 0, 0));
    SHOW(syscall(SYS_clone, CLONE_PIDFD | CLONE_DETACHED | SIGCHLD, 0, &fd, 0, 0));
}

// --- the first thread goes before them

static int tells_later(void *unused) {
    (void)unused;
    for (volatile long i = 0; i < 20000000; i++) // no call while the first thread ends
        ;
    syscall(SYS_write, 1, "the quiet thread goes on\n", 25);
    syscall(SYS_exit_group, 4);
    return 0;
}

static void leader_leaves(void) {
    raw_thread(tells_later, 0, THREAD_FLAGS);
    raw_exit(0);
}

PROBE(quiet_thread_outlives_the_first) { in_child("process", leader_leaves); }
