// Handlers, masks and alternate stacks: the flags of sigaction(2), sigprocmask(2), sigaltstack(2), sigtimedwait(2).
#include "probe.h"
#include <setjmp.h>
#include <ucontext.h>

#define MASK_SIZE 8
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

static volatile int depth, deepest, calls;

static void nests(int sig) {
    depth++;
    if (depth > deepest)
        deepest = depth;
    if (++calls < 3)
        raise(sig);
    depth--;
}

static void nest_with(const char *what, int flags) {
    struct sigaction action = {.sa_handler = nests, .sa_flags = flags}, now;
    deepest = calls = 0;
    MUST(sigaction(SIGUSR1, &action, NULL));
    raise(SIGUSR1);
    MUST(sigaction(SIGUSR1, NULL, &now));
    say("%s: %d calls, %d deep, %s after", what, calls, deepest, now.sa_handler == SIG_DFL ? "default" : "the handler");
}

static void reset_kills(void) {
    struct sigaction action = {.sa_handler = nests, .sa_flags = SA_RESETHAND};
    calls = 10;
    MUST(sigaction(SIGUSR1, &action, NULL));
    raise(SIGUSR1);
    say("once");
    raise(SIGUSR1);
    say("not reached");
}

PROBE(action_flags) {
    nest_with("plain", 0);
    nest_with("SA_NODEFER", SA_NODEFER);
    in_child("SA_RESETHAND", reset_kills);
    struct sigaction now, odd = {.sa_handler = nests, .sa_flags = 0x7fffff00};
    MUST(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = nests, .sa_flags = SA_NOCLDSTOP | SA_ONSTACK | SA_RESTART}, NULL));
    MUST(sigaction(SIGUSR1, &odd, &now));
    say("%x", now.sa_flags);
    MUST(sigaction(SIGUSR1, NULL, &now));
    say("%x", now.sa_flags);
    SHOW(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4));
    SHOW(syscall(SYS_rt_sigaction, 0, NULL, NULL, MASK_SIZE));
    SHOW(syscall(SYS_rt_sigaction, 65, NULL, NULL, MASK_SIZE));
    SHOW(syscall(SYS_rt_sigaction, 64, NULL, NULL, MASK_SIZE));
    SHOW(syscall(SYS_rt_sigaction, SIGKILL, NULL, NULL, MASK_SIZE));
    SHOW(syscall(SYS_rt_sigaction, SIGUSR1, unmapped, NULL, MASK_SIZE));
    SHOW(syscall(SYS_rt_sigaction, SIGUSR1, NULL, unmapped, MASK_SIZE));
}

// A pending signal is dropped when its action becomes to ignore it.
PROBE(ignoring_drops_pending) {
    sigset_t set, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    count_signal(SIGUSR1, 0);
    count_signal(SIGCHLD, 0);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    raise(SIGUSR1);
    raise(SIGCHLD);
    MUST(sigpending(&pending));
    FACT(sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGCHLD));
    signal(SIGUSR1, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    MUST(sigpending(&pending));
    FACT(!sigismember(&pending, SIGUSR1) && !sigismember(&pending, SIGCHLD));
    kill(getpid(), SIGUSR1); // ignored, but blocked: stays
    MUST(sigpending(&pending));
    FACT(sigismember(&pending, SIGUSR1));
    count_signal(SIGUSR1, 0);
    MUST(sigprocmask(SIG_UNBLOCK, &set, NULL));
    SHOW(handled);
}

static volatile sig_atomic_t order[32];
static volatile int order_length;
static void note_order(int sig, siginfo_t *info, void *context) {
    (void)context;
    if (order_length < 32)
        order[order_length++] = sig * 100 + info->si_value.sival_int;
}

// Real-time signals queue in order, the lowest number first; others merge.
PROBE(queueing_order) {
    sigset_t all, old;
    int first = SIGRTMIN;
    sigfillset(&all);
    MUST(sigprocmask(SIG_SETMASK, &all, &old));
    struct sigaction action = {.sa_sigaction = note_order, .sa_flags = SA_SIGINFO};
    sigfillset(&action.sa_mask);
    for (int sig = first; sig < first + 3; sig++)
        MUST(sigaction(sig, &action, NULL));
    MUST(sigaction(SIGUSR1, &action, NULL));
    for (int i = 0; i < 3; i++)
        for (int sig = first + 2; sig >= first; sig--)
            MUST(sigqueue(getpid(), sig, (union sigval){.sival_int = i}));
    for (int i = 5; i < 8; i++)
        MUST(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = i}));
    MUST(sigprocmask(SIG_SETMASK, &old, NULL));
    for (int i = 0; i < order_length; i++)
        say("%d: signal %d value %d", i, order[i] / 100 == SIGUSR1 ? 0 : order[i] / 100 - first + 1, order[i] % 100);
}

static void queue_until_full(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGUSR1);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    MUST(setresuid(1234, 1234, 1234));
    MUST(setrlimit(RLIMIT_SIGPENDING, &(struct rlimit){5, 5}));
    int queued = 0;
    while (queued < 100 && sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0)
        queued++;
    show("sigqueue", -1);
    SHOW(queued);
    SHOW(kill(getpid(), SIGUSR1));
    SHOW(kill(getpid(), SIGRTMIN));
    sigset_t pending;
    MUST(sigpending(&pending));
    SHOW(sigismember(&pending, SIGUSR1));
}

PROBE(pending_limit) { in_child("user", queue_until_full); }

PROBE(mask_calls) {
    sigset_t set, old;
    uint64_t bits = ~0ULL, got = 0;
    SHOW(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &bits, NULL, MASK_SIZE));
    SHOW(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &got, MASK_SIZE));
    say("%lx", got); // SIGKILL and SIGSTOP cannot be
    SHOW(syscall(SYS_rt_sigprocmask, 3, &bits, NULL, MASK_SIZE));
    SHOW(syscall(SYS_rt_sigprocmask, 3, NULL, &got, MASK_SIZE));
    SHOW(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &bits, NULL, 4));
    SHOW(syscall(SYS_rt_sigprocmask, SIG_BLOCK, unmapped, NULL, MASK_SIZE));
    SHOW(syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &bits, unmapped, MASK_SIZE));
    SHOW(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &got, MASK_SIZE));
    say("%lx", got);
    SHOW(syscall(SYS_rt_sigpending, &got, 4));
    SHOW(syscall(SYS_rt_sigpending, &got, 9));
    SHOW(syscall(SYS_rt_sigpending, unmapped, MASK_SIZE));
    SHOW(syscall(SYS_rt_sigsuspend, &got, 4));
    SHOW(syscall(SYS_rt_sigsuspend, unmapped, MASK_SIZE));
    sigemptyset(&set);
    MUST(sigprocmask(SIG_SETMASK, &set, &old));
}

static void on_stack(int sig) {
    (void)sig;
    char here;
    stack_t now;
    MUST(sigaltstack(NULL, &now));
    say("in the handler: flags %x, %s", now.ss_flags, &here >= (char *)now.ss_sp && &here < (char *)now.ss_sp + now.ss_size ? "on it" : "not on it");
    SHOW(sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL));
}

PROBE(alternate_stack_rules) {
    static char area[65536];
    stack_t now;
    SHOW(sigaltstack(NULL, &now));
    SHOW(now.ss_flags);
    SHOW(sigaltstack(&(stack_t){area, 0, 2047}, NULL));
    SHOW(sigaltstack(&(stack_t){area, 7, sizeof area}, NULL));
    SHOW(sigaltstack(&(stack_t){area, SS_DISABLE, 5}, NULL));
    SHOW(sigaltstack(&(stack_t){area, SS_ONSTACK, sizeof area}, NULL));
    SHOW(sigaltstack(unmapped, NULL));
    SHOW(sigaltstack(NULL, unmapped));
    SHOW(sigaltstack(&(stack_t){area, 0, sizeof area}, &now));
    say("%x %zu", now.ss_flags, now.ss_size);
    MUST(sigaltstack(NULL, &now));
    say("%x %zu", now.ss_flags, now.ss_size);
    struct sigaction action = {.sa_handler = on_stack, .sa_flags = SA_ONSTACK};
    MUST(sigaction(SIGUSR1, &action, NULL));
    raise(SIGUSR1);
    action.sa_flags = 0;
    MUST(sigaction(SIGUSR1, &action, NULL));
    raise(SIGUSR1);
    MUST(sigaltstack(NULL, &now));
    say("%x", now.ss_flags);
    SHOW(sigaltstack(&(stack_t){area, (int)SS_AUTODISARM, sizeof area}, NULL));
    MUST(sigaltstack(NULL, &now));
    say("%x", now.ss_flags);
    action.sa_flags = SA_ONSTACK;
    MUST(sigaction(SIGUSR1, &action, NULL));
    raise(SIGUSR1);
    MUST(sigaltstack(NULL, &now));
    say("%x", now.ss_flags);
}

PROBE(timed_wait) {
    sigset_t set;
    siginfo_t info;
    struct timespec none = {0, 0}, little = {0, 5000000}, bad = {0, 1000000000}, negative = {-1, 0};
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN + 1);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    SHOW(sigtimedwait(&set, &info, &none));
    SHOW(sigtimedwait(&set, &info, &little));
    SHOW(sigtimedwait(&set, &info, &bad));
    SHOW(sigtimedwait(&set, &info, &negative));
    SHOW(syscall(SYS_rt_sigtimedwait, &set, &info, &none, 4));
    SHOW(syscall(SYS_rt_sigtimedwait, unmapped, &info, &none, MASK_SIZE));
    SHOW(syscall(SYS_rt_sigtimedwait, &set, &info, unmapped, MASK_SIZE));
    raise(SIGUSR1);
    SHOW(syscall(SYS_rt_sigtimedwait, &set, unmapped, &none, MASK_SIZE));
    SHOW(syscall(SYS_rt_sigtimedwait, &set, NULL, &none, MASK_SIZE));
    count_signal(SIGALRM, SA_RESTART);
    MUST(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 20000}}, NULL));
    SHOW(sigtimedwait(&set, &info, NULL));
    SHOW(handled);
}

static void say_context(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)info;
    ucontext_t *uc = context;
    say("mask to return to: %s", sigismember(&uc->uc_sigmask, SIGUSR2) ? "SIGUSR2" : "none");
    sigaddset(&uc->uc_sigmask, SIGHUP);
}

PROBE(mask_in_the_frame) {
    sigset_t set, now;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    struct sigaction action = {.sa_sigaction = say_context, .sa_flags = SA_SIGINFO};
    MUST(sigaction(SIGUSR1, &action, NULL));
    raise(SIGUSR1);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    raise(SIGUSR1);
    MUST(sigprocmask(SIG_BLOCK, NULL, &now));
    SHOW(sigismember(&now, SIGHUP));
    SHOW(sigismember(&now, SIGUSR1));
}

static sigjmp_buf back;
static void jump(int sig) {
    (void)sig;
    siglongjmp(back, 1);
}

PROBE(jump_out_of_a_handler) {
    signal(SIGSEGV, jump);
    for (volatile int i = 0; i < 3; i++)
        if (sigsetjmp(back, 1) == 0)
            *(volatile char *)unmapped = 1;
        else
            say("back");
    char c;
    int p[2];
    MUST(pipe(p));
    signal(SIGALRM, jump);
    if (sigsetjmp(back, 1) == 0) {
        MUST(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 30000}}, NULL));
        read(p[0], &c, 1);
        say("not reached");
    }
    say("out of the read");
    MUST(write(p[1], "x", 1));
    SHOW(read(p[0], &c, 1));
}

static void *blocks_all(void *unused) {
    (void)unused;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    kill(getpid(), SIGUSR1);
    nap_ms(20);
    return NULL;
}

// A process's signal goes to a thread that does not block it, whichever sent it; a thread's own waits for it.
PROBE(who_takes_a_signal) {
    pthread_t thread;
    count_signal(SIGUSR1, 0);
    pthread_create(&thread, NULL, blocks_all, NULL);
    pthread_join(thread, NULL);
    SHOW(handled);
}
