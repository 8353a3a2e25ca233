// Who may signal whom, and what the receiver reads of it: sigaction(2), kill(2), sigqueue(3).
#include "probe.h"
#include <poll.h>
#include <sys/timerfd.h>

static siginfo_t seen;
static volatile sig_atomic_t arrived;

static void note(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    seen = *info;
    arrived++;
}

static void catch_info(int sig, int flags) {
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | flags};
    arrived = 0;
    memset(&seen, 0x55, sizeof seen);
    MUST(sigaction(sig, &action, NULL));
}

static void say_sender(const char *what, pid_t pid) {
    for (int i = 0; !arrived && i < 2000; i++)
        nap_ms(1);
    say("%s: %d signo %d errno %d code %d uid %d pid %s", what, arrived, seen.si_signo, seen.si_errno, seen.si_code, seen.si_uid,
        seen.si_pid == pid ? "right" : seen.si_pid == 0 ? "0" : "another");
    arrived = 0;
}

static void signal_parent(void) { kill(getppid(), SIGUSR1); }
static void signal_parent_as_user(void) {
    MUST(setresuid(-1, 1000, -1));
    kill(getppid(), SIGUSR1);
}
static void queue_to_parent(void) { sigqueue(getppid(), SIGUSR1, (union sigval){.sival_ptr = (void *)0x123456789abcdef}); }

PROBE(who_signals) {
    pid_t pid;
    setpgid(0, 0); // fails where the probe leads a session, which does as well
    catch_info(SIGUSR1, 0);
    kill(getpid(), SIGUSR1);
    say_sender("kill", getpid());
    raise(SIGUSR1);
    say_sender("raise", getpid());
    syscall(SYS_tkill, getpid(), SIGUSR1);
    say_sender("tkill", getpid());
    kill(0, SIGUSR1);
    say_sender("group", getpid());
    pid = spawn(signal_parent);
    say_sender("child", pid);
    reap("child", pid);
    pid = spawn(signal_parent_as_user);
    say_sender("child with another effective id", pid);
    reap("child", pid);
    pid = spawn(queue_to_parent);
    say_sender("queued", pid);
    FACT(seen.si_value.sival_ptr == (void *)0x123456789abcdef);
    reap("child", pid);
    union sigval value = {.sival_int = 77};
    SHOW(pthread_sigqueue(pthread_self(), SIGUSR1, value));
    say_sender("to a thread", getpid());
    SHOW(seen.si_value.sival_int);
}

static void leave(void) { _exit(12); }
static void die(void) { raise(SIGTERM); }
static void linger(void) {
    for (;;)
        pause();
}

PROBE(who_died) {
    pid_t pid;
    catch_info(SIGCHLD, 0);
    pid = spawn(leave);
    say_sender("exit", pid);
    SHOW(seen.si_status);
    reap("child", pid);
    pid = spawn(die);
    say_sender("death", pid);
    SHOW(seen.si_status);
    reap("child", pid);
    pid = spawn(linger);
    kill(pid, SIGSTOP);
    say_sender("stop", pid);
    SHOW(seen.si_status);
    kill(pid, SIGCONT);
    say_sender("on", pid);
    SHOW(seen.si_status);
    kill(pid, SIGKILL);
    say_sender("kill", pid);
    SHOW(seen.si_status);
    FACT(seen.si_utime >= 0 && seen.si_stime >= 0);
    reap("child", pid);
}

static void say_death_of_child(void) {
    catch_info(SIGCHLD, 0);
    pid_t pid = spawn(leave);
    say_sender("exit", pid);
}

static void user_with_child(void) {
    MUST(setresuid(1000, 1000, 1000));
    say_death_of_child();
}

PROBE(who_died_as_another_user) { in_child("user", user_with_child); }

static void *volatile fault_at;
static void say_fault(int sig, siginfo_t *info, void *context) {
    (void)context;
    say("%s code %d at %s", signal_name(sig), info->si_code, info->si_addr == fault_at ? "the place" : "another place");
    _exit(0);
}

static void expect_fault(int sig) {
    struct sigaction action = {.sa_sigaction = say_fault, .sa_flags = SA_SIGINFO};
    MUST(sigaction(sig, &action, NULL));
}

static void fault_unmapped(void) {
    expect_fault(SIGSEGV);
    fault_at = unmapped;
    *(volatile char *)unmapped = 1;
}
static void fault_forbidden(void) {
    expect_fault(SIGSEGV);
    fault_at = forbidden_page();
    *(volatile char *)fault_at = 1;
}
static void fault_beyond_file(void) {
    expect_fault(SIGBUS);
    make_file("short", "x");
    int fd = MUST(open("short", O_RDWR));
    fault_at = (char *)mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0) + 4096;
    (void)*(volatile char *)fault_at;
}
static void fault_kernel(void) {
    expect_fault(SIGSEGV);
    fault_at = kernel_half;
    *(volatile char *)kernel_half = 1;
}
static void fault_division(void) {
    expect_fault(SIGFPE);
    volatile int zero = 0;
    fault_at = (void *)1;
    zero = 1 / zero;
}
static void fault_instruction(void) {
    expect_fault(SIGILL);
    fault_at = (void *)1;
    __builtin_trap();
}
static void fault_breakpoint(void) {
    expect_fault(SIGTRAP);
    fault_at = NULL;
    __asm__ volatile("int3");
}
static void fault_blocked(void) {
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    expect_fault(SIGSEGV);
    *(volatile char *)unmapped = 1;
}
static void fault_ignored(void) {
    signal(SIGSEGV, SIG_IGN);
    *(volatile char *)unmapped = 1;
}

// ---- container init, which is this process

static void default_action(int sig) { MUST(signal(sig, SIG_DFL) == SIG_ERR ? -1 : 0); }

PROBE(init_ignores_what_it_does_not_catch) {
    static const int signals[] = {SIGSEGV, SIGTRAP, SIGBUS, SIGTERM, SIGQUIT, SIGTSTP};
    for (unsigned i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        default_action(signals[i]);
        SHOW(kill(1, signals[i]));
        SHOW(raise(signals[i]));
    }
    int p[2];
    char c;
    MUST(pipe(p));
    pid_t pid = spawn(leave);
    reap("child", pid);
    count_signal(SIGALRM, SA_RESTART);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 20000}}, NULL);
    SHOW(fcntl(p[0], F_SETFL, O_NONBLOCK));
    while (!handled)
        SHOW(pause());
    SHOW(read(p[0], &c, 1));
}

static void show_end(void (*fault)(void)) {
    say("the end");
    fault();
    say("not reached");
}
static void plain_breakpoint(void) { __asm__ volatile("int3"); }
static void plain_access(void) { *(volatile char *)unmapped = 1; }
static void plain_instruction(void) { __builtin_trap(); }
PROBE(init_dies_at_a_breakpoint) { show_end(plain_breakpoint); }
PROBE(init_dies_of_an_access) { show_end(plain_access); }
PROBE(init_dies_of_an_instruction) { show_end(plain_instruction); }

PROBE(fault_info) {
    in_child("unmapped", fault_unmapped);
    in_child("forbidden", fault_forbidden);
    in_child("beyond the file", fault_beyond_file);
    in_child("kernel", fault_kernel);
    in_child("division", fault_division);
    in_child("instruction", fault_instruction);
    in_child("breakpoint", fault_breakpoint);
    in_child("blocked", fault_blocked);
    in_child("ignored", fault_ignored);
}

PROBE(who_times) {
    timer_t timer;
    struct itimerval soon = {{0, 0}, {0, 2000}};
    catch_info(SIGALRM, 0);
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    say_sender("setitimer", 0);
    catch_info(SIGVTALRM, 0);
    MUST(setitimer(ITIMER_VIRTUAL, &soon, NULL));
    while (!arrived)
        continue;
    say_sender("virtual", 0);
    catch_info(SIGUSR2, 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_ptr = (void *)0x1122334455667788};
    MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
    MUST(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 2000000}}, NULL));
    for (int i = 0; !arrived && i < 2000; i++)
        nap_ms(1);
    say("timer: signo %d code %d overrun %d", seen.si_signo, seen.si_code, seen.si_overrun);
    FACT(seen.si_value.sival_ptr == (void *)0x1122334455667788);
}

PROBE(who_breaks_a_pipe) {
    int p[2];
    MUST(pipe(p));
    close(p[0]);
    catch_info(SIGPIPE, 0);
    SHOW(write(p[1], "x", 1));
    say_sender("pipe", getpid());
    catch_info(SIGXFSZ, 0);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){1, 100});
    int fd = MUST(open("limited", O_CREAT | O_WRONLY, 0600));
    SHOW(write(fd, "abc", 3));
    SHOW(write(fd, "abc", 3));
    say_sender("size", getpid());
}

// ---- permission and errors

static long queue_raw(pid_t pid, int sig, int code) {
    siginfo_t info = {.si_signo = sig, .si_code = code};
    info.si_pid = 4242;
    info.si_uid = 4343;
    return syscall(SYS_rt_sigqueueinfo, pid, sig, &info);
}
static long queue_to_thread(pid_t pid, pid_t tid, int sig, int code) {
    siginfo_t info = {.si_signo = sig, .si_code = code};
    return syscall(SYS_rt_tgsigqueueinfo, pid, tid, sig, &info);
}

PROBE(queued_signals) {
    catch_info(SIGUSR1, 0);
    static const int codes[] = {SI_QUEUE, SI_TIMER, SI_MESGQ, SI_ASYNCIO, SI_SIGIO, SI_TKILL, -60, SI_USER, SI_KERNEL, 5};
    for (unsigned i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        say("code %d", codes[i]);
        SHOW(queue_raw(getpid(), SIGUSR1, codes[i]));
        if (arrived)
            say("signo %d code %d pid %d uid %d", seen.si_signo, seen.si_code, seen.si_pid, seen.si_uid);
        arrived = 0;
    }
    pid_t pid = spawn(linger);
    for (unsigned i = 0; i < sizeof codes / sizeof codes[0]; i++)
        SHOW(queue_raw(pid, 0, codes[i]));
    SHOW(queue_to_thread(pid, pid, 0, SI_QUEUE));
    SHOW(queue_to_thread(pid, pid, 0, SI_USER));
    SHOW(queue_to_thread(pid, pid, 65, SI_QUEUE));
    SHOW(queue_to_thread(pid, getpid(), 0, SI_QUEUE));
    SHOW(queue_to_thread(getpid(), pid, 0, SI_QUEUE));
    SHOW(queue_to_thread(0, pid, 0, SI_QUEUE));
    SHOW(queue_to_thread(pid, -1, 0, SI_QUEUE));
    SHOW(queue_raw(99999, 0, SI_QUEUE));
    SHOW(queue_raw(0, 0, SI_QUEUE));
    SHOW(queue_raw(-1, 0, SI_QUEUE));
    SHOW(queue_raw(pid, -1, SI_QUEUE));
    SHOW(queue_raw(pid, 65, SI_QUEUE));
    SHOW(syscall(SYS_rt_sigqueueinfo, pid, SIGUSR1, unmapped));
    SHOW(syscall(SYS_rt_sigqueueinfo, pid, 99, unmapped));
    siginfo_t odd = {.si_signo = SIGUSR2, .si_code = SI_QUEUE};
    SHOW(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &odd));
    say("signo %d", seen.si_signo);
    SHOW(kill(pid, 65));
    SHOW(kill(pid, -1));
    SHOW(kill(99999, 65));
    SHOW(kill(INT_MIN, 0));
    SHOW(kill(-99999, 0));
    SHOW(syscall(SYS_tkill, 0, 0));
    SHOW(syscall(SYS_tkill, -1, 0));
    SHOW(syscall(SYS_tkill, 99999, 0));
    SHOW(syscall(SYS_tkill, pid, 65));
    SHOW(syscall(SYS_tgkill, pid, getpid(), 0));
    SHOW(syscall(SYS_tgkill, -1, pid, 0));
    SHOW(syscall(SYS_tgkill, pid, 99999, 0));
    SHOW(syscall(SYS_tgkill, pid, pid, 65));
    SHOW(kill(pid, SIGKILL));
    reap("child", pid);
}

static pid_t root_child, user_child, other_child, session_child;
static void as_user(void) {
    MUST(setresgid(1000, 1000, 1000));
    MUST(setresuid(1000, 1000, 1000));
    pid_t own = spawn(linger);
    SHOW(kill(own, 0));
    SHOW(kill(root_child, 0));
    SHOW(kill(user_child, 0));
    SHOW(kill(other_child, 0));
    SHOW(kill(root_child, SIGCONT));
    SHOW(kill(session_child, SIGCONT));
    SHOW(kill(root_child, SIGTERM));
    SHOW(queue_raw(root_child, 0, SI_QUEUE));
    SHOW(queue_raw(root_child, 0, SI_USER));
    SHOW(syscall(SYS_tkill, root_child, 0));
    SHOW(syscall(SYS_tgkill, root_child, root_child, 0));
    SHOW(kill(1, 0));
    SHOW(kill(1, SIGCONT));
    SHOW(kill(0, 0));
    SHOW(kill(-1, 0));
    SHOW(kill(own, SIGKILL));
    reap("own", own);
}
static void linger_with_ids(void) {
    MUST(setresuid(1001, 1000, 1001)); // the effective id of a target does not count
    linger();
}
static void linger_as_user(void) {
    MUST(setresuid(1000, 1001, 1001));
    linger();
}
static void linger_apart(void) {
    setsid();
    linger();
}

PROBE(may_signal) {
    root_child = spawn(linger);
    user_child = spawn(linger_as_user);
    other_child = spawn(linger_with_ids);
    session_child = spawn(linger_apart);
    nap_ms(50);
    in_child("user", as_user);
    pid_t children[] = {root_child, user_child, other_child, session_child};
    for (int i = 0; i < 4; i++) {
        kill(children[i], SIGKILL);
        reap("child", children[i]);
    }
}
