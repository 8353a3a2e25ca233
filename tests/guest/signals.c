// Signals: sigaction(2), sigprocmask(2), kill(2), sigqueue(3), restart of calls, alternate stacks.
#include "probe.h"
#include <poll.h>
#include <setjmp.h>
#include <ucontext.h>

static siginfo_t seen;

static void on_info(int sig, siginfo_t *info, void *context) {
    (void)context;
    seen = *info;
    last_signal = sig;
    handled++;
}

static void catch_info(int sig, int flags) {
    struct sigaction action = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO | flags};
    handled = 0;
    MUST(sigaction(sig, &action, NULL));
}

PROBE(signal_info) {
    catch_info(SIGUSR1, 0);
    SHOW(kill(getpid(), SIGUSR1));
    SHOW(handled);
    say("%d code %d", seen.si_signo, seen.si_code);
    FACT(seen.si_pid == getpid());
    SHOW(seen.si_uid);
    SHOW(raise(SIGUSR1));
    say("%d code %d", seen.si_signo, seen.si_code);
    FACT(seen.si_pid == getpid());
    union sigval value = {.sival_int = 4242};
    SHOW(sigqueue(getpid(), SIGUSR1, value));
    say("%d code %d value %d", seen.si_signo, seen.si_code, seen.si_value.sival_int);
    SHOW(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
    say("%d code %d", seen.si_signo, seen.si_code);
    SHOW(syscall(SYS_tkill, gettid(), SIGUSR1));
    SHOW(handled);
}

PROBE(signal_mask) {
    sigset_t set, pending, old;
    count_signal(SIGUSR1, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    SHOW(sigprocmask(SIG_BLOCK, &set, &old));
    FACT(!sigismember(&old, SIGUSR1));
    SHOW(kill(getpid(), SIGUSR1));
    SHOW(kill(getpid(), SIGUSR1));
    SHOW(handled);
    SHOW(sigpending(&pending));
    FACT(sigismember(&pending, SIGUSR1));
    SHOW(sigprocmask(SIG_UNBLOCK, &set, NULL));
    SHOW(handled);
    SHOW(sigprocmask(77, &set, NULL));
    SHOW(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, 4));
    // real-time signals queue
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    count_signal(SIGRTMIN + 1, 0);
    union sigval value = {.sival_int = 1};
    for (int i = 0; i < 3; i++)
        MUST(sigqueue(getpid(), SIGRTMIN + 1, value));
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    SHOW(handled);
}

PROBE(sigaction_errors) {
    struct sigaction action = {.sa_handler = SIG_IGN}, old;
    SHOW(sigaction(SIGKILL, &action, NULL));
    SHOW(sigaction(SIGSTOP, &action, NULL));
    SHOW(sigaction(0, &action, NULL));
    SHOW(sigaction(65, &action, NULL));
    SHOW(sigaction(SIGKILL, NULL, &old));
    SHOW(sigaction(SIGUSR1, &action, &old));
    FACT(old.sa_handler == SIG_DFL);
    SHOW(kill(getpid(), SIGUSR1));
    SHOW(kill(getpid(), 65));
    SHOW(kill(getpid(), -1));
    SHOW(kill(1 << 21, SIGTERM));
    SHOW(syscall(SYS_tgkill, getpid(), 1 << 21, SIGUSR1));
    SHOW(syscall(SYS_tgkill, -1, gettid(), SIGUSR1));
    SHOW(syscall(SYS_tkill, 0, SIGUSR1));
    count_signal(SIGUSR2, SA_RESETHAND);
    raise(SIGUSR2);
    MUST(sigaction(SIGUSR2, NULL, &old));
    FACT(old.sa_handler == SIG_DFL);
    SHOW(handled);
}

static int depth, most, runs;

static void nests(int sig) {
    depth++;
    if (depth > most)
        most = depth;
    if (++runs < 3)
        raise(sig);
    depth--;
}

PROBE(signal_nesting) {
    struct sigaction action = {.sa_handler = nests, .sa_flags = SA_NODEFER};
    MUST(sigaction(SIGUSR1, &action, NULL));
    raise(SIGUSR1);
    SHOW(most);
    SHOW(runs);
    most = runs = 0;
    action.sa_flags = 0;
    MUST(sigaction(SIGUSR1, &action, NULL));
    raise(SIGUSR1);
    SHOW(most);
    SHOW(runs);
}

static void after(int ms) {
    struct itimerval soon = {{0, 0}, {ms / 1000, ms % 1000 * 1000}};
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
}

static int p[2];

static void *write_later(void *ms) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    nap_ms((int)(long)ms);
    write(p[1], "x", 1);
    return NULL;
}

PROBE(read_restarts_or_not) {
    char c;
    pthread_t thread;
    MUST(pipe(p));
    count_signal(SIGALRM, 0);
    after(40);
    SHOW(read(p[0], &c, 1));
    SHOW(handled);
    count_signal(SIGALRM, SA_RESTART);
    pthread_create(&thread, NULL, write_later, (void *)120);
    after(40);
    SHOW(read(p[0], &c, 1));
    SHOW(handled);
    pthread_join(thread, NULL);
}

PROBE(write_interrupted_returns_part) {
    static char block[200000];
    MUST(pipe(p));
    count_signal(SIGALRM, 0);
    after(40);
    SHOW(write(p[1], block, sizeof block));
    SHOW(handled);
}

static void exits_soon(void) {
    nap_ms(120);
    _exit(3);
}

PROBE(wait_restarts) {
    int status;
    pid_t pid = spawn(exits_soon);
    count_signal(SIGALRM, 0);
    after(40);
    SHOW(waitpid(pid, &status, 0));
    count_signal(SIGALRM, SA_RESTART);
    after(40);
    FACT(waitpid(pid, &status, 0) == pid);
    SHOW(handled);
}

PROBE(sleep_interrupted) {
    struct timespec request = {1, 0}, left = {0, 0};
    count_signal(SIGALRM, SA_RESTART);
    after(100);
    SHOW(nanosleep(&request, &left));
    FACT(left.tv_sec == 0 && left.tv_nsec > 500000000);
    after(50);
    SHOW(clock_nanosleep(CLOCK_MONOTONIC, 0, &request, &left) == EINTR);
    after(50);
    SHOW(pause());
    alarm(1);
    SHOW(alarm(0));
}

// A stop and continue in the middle of a sleep must not shorten it.
static void sleeper(void) {
    int64_t before = now_ms();
    struct timespec request = {0, 200000000};
    SHOW(nanosleep(&request, NULL));
    FACT(now_ms() - before >= 199);
}

PROBE(stop_during_sleep) {
    pid_t pid = spawn(sleeper);
    nap_ms(50);
    MUST(kill(pid, SIGSTOP));
    nap_ms(30);
    MUST(kill(pid, SIGCONT));
    reap("sleeper", pid);
}

static void reader(void) {
    char c;
    SHOW(read(p[0], &c, 1));
}

PROBE(stop_during_read) {
    int status;
    MUST(pipe(p));
    pid_t pid = spawn(reader);
    nap_ms(50);
    MUST(kill(pid, SIGSTOP));
    FACT(waitpid(pid, &status, WUNTRACED) == pid);
    say_status("reader", status);
    MUST(write(p[1], "x", 1));
    nap_ms(30);
    SHOW(waitpid(pid, &status, WNOHANG));
    MUST(kill(pid, SIGCONT));
    reap("reader", pid);
}

PROBE(kill_blocked_reader) {
    MUST(pipe(p));
    pid_t pid = spawn(reader);
    nap_ms(50);
    MUST(kill(pid, SIGTERM));
    reap("reader", pid);
    pid = spawn(reader);
    nap_ms(50);
    MUST(kill(pid, SIGKILL));
    reap("reader", pid);
}

PROBE(sigsuspend) {
    sigset_t set, none;
    sigemptyset(&none);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    count_signal(SIGUSR1, 0);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    raise(SIGUSR1);
    SHOW(handled);
    SHOW(sigsuspend(&none));
    SHOW(handled);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    FACT(sigismember(&now, SIGUSR1));
}

PROBE(sigwait) {
    sigset_t set;
    siginfo_t info = {0};
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGALRM);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    union sigval value = {.sival_int = 77};
    MUST(sigqueue(getpid(), SIGUSR1, value));
    SHOW(sigwaitinfo(&set, &info));
    say("%d %d", info.si_code, info.si_value.sival_int);
    SHOW(sigtimedwait(&set, &info, &(struct timespec){0, 30000000}));
    after(30);
    SHOW(sigwaitinfo(&set, &info));
    SHOW(info.si_code);
}

static char *alternate;
static bool on_alternate;

static void where_am_i(int sig) {
    char here;
    (void)sig;
    on_alternate = &here >= alternate && &here < alternate + 65536;
    handled++;
}

PROBE(alternate_stack) {
    alternate = malloc(65536);
    stack_t stack = {.ss_sp = alternate, .ss_size = 65536}, old;
    SHOW(sigaltstack(&stack, &old));
    SHOW(old.ss_flags);
    struct sigaction action = {.sa_handler = where_am_i, .sa_flags = SA_ONSTACK};
    MUST(sigaction(SIGUSR1, &action, NULL));
    raise(SIGUSR1);
    FACT(on_alternate);
    action.sa_flags = 0;
    MUST(sigaction(SIGUSR1, &action, NULL));
    raise(SIGUSR1);
    FACT(!on_alternate);
    stack.ss_size = 10;
    SHOW(sigaltstack(&stack, NULL));
}

static sigjmp_buf back;

static void jump(int sig, siginfo_t *info, void *context) {
    (void)context;
    seen = *info;
    last_signal = sig;
    siglongjmp(back, 1);
}

static void catch_jump(int sig) {
    struct sigaction action = {.sa_sigaction = jump, .sa_flags = SA_SIGINFO};
    MUST(sigaction(sig, &action, NULL));
}

PROBE(faults) {
    catch_jump(SIGSEGV);
    catch_jump(SIGFPE);
    catch_jump(SIGILL);
    catch_jump(SIGTRAP);
    if (!sigsetjmp(back, 1))
        *(volatile char *)unmapped = 1;
    say("%s code %d", signal_name(last_signal), seen.si_code);
    FACT(seen.si_addr == unmapped);
    void *page = forbidden_page();
    if (!sigsetjmp(back, 1))
        *(volatile char *)page = 1;
    say("%s code %d", signal_name(last_signal), seen.si_code);
    FACT(seen.si_addr == page);
    if (!sigsetjmp(back, 1)) {
        volatile int zero = 0;
        zero = 1 / zero;
    }
    say("%s code %d", signal_name(last_signal), seen.si_code);
    if (!sigsetjmp(back, 1))
        __asm__ volatile("ud2");
    say("%s code %d", signal_name(last_signal), seen.si_code);
    if (!sigsetjmp(back, 1))
        __asm__ volatile("int3");
    say("%s code %d", signal_name(last_signal), seen.si_code);
}

static void quick(void) { _exit(4); }

PROBE(sigchld) {
    catch_info(SIGCHLD, 0);
    pid_t pid = spawn(quick);
    while (!handled)
        nap_ms(1);
    say("code %d status %d", seen.si_code, seen.si_status);
    FACT(seen.si_pid == pid);
    reap("child", pid);
    signal(SIGCHLD, SIG_IGN);
    pid = spawn(quick);
    SHOW(waitpid(pid, NULL, 0));
}

static void *signal_self(void *unused) {
    (void)unused;
    pthread_kill(pthread_self(), SIGUSR1);
    return (void *)(long)handled;
}

static volatile pid_t handler_tid;

static void note_tid(int sig) {
    (void)sig;
    handler_tid = gettid();
    handled++;
}

PROBE(signal_to_thread) {
    pthread_t thread;
    sigset_t set;
    struct sigaction action = {.sa_handler = note_tid};
    MUST(sigaction(SIGUSR1, &action, NULL));
    pthread_create(&thread, NULL, signal_self, NULL);
    pthread_join(thread, NULL);
    SHOW(handled);
    FACT(handler_tid != getpid());
    // a signal for the process goes to a thread that does not block it
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    MUST(pipe(p));
    pthread_create(&thread, NULL, write_later, (void *)100);
    handler_tid = 0;
    MUST(kill(getpid(), SIGUSR1));
    FACT(handler_tid == getpid());
    pthread_join(thread, NULL);
}

static void ignorant(void) {
    struct sigaction action;
    sigaction(SIGHUP, NULL, &action);
    FACT(action.sa_handler == SIG_IGN);
    raise(SIGHUP);
    FACT(true);
    signal(SIGHUP, SIG_DFL);
    raise(SIGHUP);
}

PROBE(signal_inheritance) {
    signal(SIGHUP, SIG_IGN);
    in_child("child", ignorant);
    sigset_t set, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    pid_t pid = MUST(fork());
    if (pid == 0) {
        sigpending(&pending);
        fact("a child's pending set is empty", !sigismember(&pending, SIGUSR1));
        sigprocmask(SIG_BLOCK, NULL, &set);
        fact("its mask is inherited", sigismember(&set, SIGUSR1));
        _exit(0);
    }
    reap("child", pid);
}

PROBE(signal_storm) {
    count_signal(SIGUSR1, SA_RESTART);
    int status;
    pid_t parent = getpid(), pid = MUST(fork());
    if (pid == 0) {
        for (int i = 0; i < 500; i++)
            kill(parent, SIGUSR1);
        _exit(0);
    }
    int opened = 0;
    for (pid_t gone = 0; gone == 0 || opened < 10;) {
        if (gone == 0)
            gone = waitpid(pid, &status, WNOHANG);
        int fd = open("/dev/null", O_RDONLY);
        if (fd >= 0)
            opened++, close(fd);
        else
            show("open", fd);
    }
    say_status("sender", status);
    FACT(handled > 0 && opened > 0);
}

// Calls that never wait never fail with EINTR, although the handler does not ask for a restart.
PROBE(quick_calls_are_not_interrupted) {
    count_signal(SIGALRM, 0);
    struct itimerval often = {{0, 300}, {0, 300}};
    MUST(setitimer(ITIMER_REAL, &often, NULL));
    int interrupted = 0, pair[2];
    struct stat st;
    for (int i = 0; i < 3000 || (handled < 200 && i < 200000); i++) {
        if (pipe(pair))
            interrupted++;
        else
            close(pair[0]), close(pair[1]);
        if (stat("/", &st) || getuid() == (uid_t)-1 || umask(022) == (mode_t)-1)
            interrupted++;
    }
    struct itimerval never = {{0, 0}, {0, 0}};
    MUST(setitimer(ITIMER_REAL, &never, NULL));
    FACT(handled > 0);
    SHOW(interrupted);
}

PROBE(registers_survive_a_handler) {
    count_signal(SIGALRM, SA_RESTART);
    struct itimerval often = {{0, 500}, {0, 500}};
    MUST(setitimer(ITIMER_REAL, &often, NULL));
    double sum = 0;
    uint64_t hash = 1469598103934665603ull;
    for (int i = 0; i < 5000000; i++) {
        sum += i * 0.5;
        hash = (hash ^ i) * 1099511628211ull;
        if (i % 1000 == 0)
            getppid();
    }
    MUST(setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL));
    say("%.1f %lx", sum, hash);
    FACT(handled > 0);
}
