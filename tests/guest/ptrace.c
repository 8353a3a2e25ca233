// ptrace(2): a tracer among the guests, and what it sees of its tracees.
#include "probe.h"
#include <elf.h>
#include <linux/ptrace.h>
#include <poll.h>
#include <stddef.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/user.h>

static long trace(long request, pid_t pid, unsigned long addr, unsigned long data) {
    return syscall(SYS_ptrace, request, (long)pid, addr, data);
}

static int await(pid_t pid) {
    int status = 0;
    MUST(waitpid(pid, &status, __WALL));
    return status;
}

// What a stop is, without numbers that vary.
static void say_stop(const char *what, int status) {
    static const char *const events[] = {"", "fork", "vfork", "clone", "exec", "vfork done", "exit", "seccomp"};
    if (WIFEXITED(status))
        say("%s: exit %d", what, WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        say("%s: killed by %s", what, signal_name(WTERMSIG(status)));
    else if (status >> 16 == PTRACE_EVENT_STOP)
        say("%s: event stop %s", what, signal_name(WSTOPSIG(status)));
    else if (status >> 16)
        say("%s: event %s", what, events[status >> 16 & 7]);
    else
        say("%s: stop %s%s", what, signal_name(WSTOPSIG(status) & 0x7f), WSTOPSIG(status) & 0x80 ? " of a call" : "");
}

// A child that is traced and stands at its first stop.
static pid_t traced(void (*body)(void)) {
    pid_t pid = fork();
    if (pid == 0) {
        trace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        body();
        _exit(0);
    }
    say_stop("first", await(pid));
    return pid;
}

// One that anybody may trace.
static pid_t child_that(void (*body)(void)) {
    pid_t pid = MUST(fork());
    if (pid == 0) {
        body();
        _exit(0);
    }
    return pid;
}

// What /proc tells of a process that is traced.
static void say_traced(pid_t pid) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, "State:", 6))
            say("%.*s", (int)strcspn(line, "\n"), line);
        else if (!strncmp(line, "TracerPid:", 10))
            say("%s", atoi(line + 10) == getpid() ? "traced by us" : atoi(line + 10) ? "traced" : "not traced");
    fclose(file);
}

static void go(pid_t pid, int signal) { MUST(trace(PTRACE_CONT, pid, 0, signal)); }

static void nothing(void) {}

// --- beginning and ending

static void traceme_twice(void) {
    SHOW(trace(PTRACE_TRACEME, 0, 0, 0));
    SHOW(trace(PTRACE_TRACEME, 0, 0, 0));
}

PROBE(ptrace_errors) {
    pid_t child = child_that(nothing), other = fork();
    if (other == 0)
        pause();
    waitpid(child, NULL, 0);
    SHOW(trace(PTRACE_CONT, 99999, 0, 0));
    SHOW(trace(PTRACE_CONT, other, 0, 0)); // nobody's tracee
    SHOW(trace(PTRACE_ATTACH, getpid(), 0, 0));
    SHOW(trace(PTRACE_ATTACH, 99999, 0, 0));
    SHOW(trace(PTRACE_SEIZE, other, 1, 0));
    SHOW(trace(PTRACE_SEIZE, other, 0, 1 << 30));
    SHOW(trace(PTRACE_SEIZE, other, 0, 0));
    SHOW(trace(PTRACE_SEIZE, other, 0, 0));
    SHOW(trace(PTRACE_ATTACH, other, 0, 0));
    SHOW(trace(PTRACE_CONT, other, 0, 0)); // it runs
    SHOW(trace(PTRACE_GETREGS, other, 0, 0));
    SHOW(trace(PTRACE_KILL, other, 0, 0));
    say_stop("other", await(other));
    in_child("traceme", traceme_twice);
    pid_t stopped = traced(nothing);
    struct user_regs_struct regs;
    long word;
    SHOW(trace(4711, stopped, 0, 0));
    SHOW(trace(PTRACE_INTERRUPT, stopped, 0, 0)); // not seized
    SHOW(trace(PTRACE_LISTEN, stopped, 0, 0));
    SHOW(trace(PTRACE_CONT, stopped, 0, 99));
    SHOW(trace(PTRACE_PEEKDATA, stopped, (long)unmapped, (long)&word));
    SHOW(trace(PTRACE_PEEKDATA, stopped, (long)&word, (long)unmapped));
    SHOW(trace(PTRACE_POKEDATA, stopped, (long)unmapped, 1));
    SHOW(trace(PTRACE_PEEKUSR, stopped, 3, (long)&word));
    SHOW(trace(PTRACE_PEEKUSR, stopped, 100000, (long)&word));
    SHOW(trace(PTRACE_GETREGS, stopped, 0, (long)unmapped));
    SHOW(trace(PTRACE_GETREGS, stopped, 0, (long)&regs));
    SHOW(trace(PTRACE_SETOPTIONS, stopped, 0, 1 << 30));
    SHOW(trace(PTRACE_GETSIGMASK, stopped, 4, (long)&word));
    go(stopped, 0);
    say_stop("end", await(stopped));
}

static void unprivileged(void) {
    pid_t root = getppid();
    MUST(setresuid(1000, 1000, 1000));
    SHOW(trace(PTRACE_ATTACH, root, 0, 0));
    SHOW(trace(PTRACE_SEIZE, root, 0, 0));
}

PROBE(ptrace_permission) { in_child("user", unprivileged); }

static void sleeps(void) { nap_ms(200); }

PROBE(ptrace_attach) {
    pid_t pid = fork();
    if (pid == 0) {
        nap_ms(300);
        _exit(5);
    }
    nap_ms(30);
    SHOW(trace(PTRACE_ATTACH, pid, 0, 0));
    say_stop("attached", await(pid));
    say_traced(pid);
    SHOW(trace(PTRACE_DETACH, pid, 0, 0));
    SHOW(trace(PTRACE_CONT, pid, 0, 0));
    say_stop("end", await(pid));
    pid = child_that(sleeps);
    MUST(trace(PTRACE_ATTACH, pid, 0, 0));
    await(pid);
    SHOW(trace(PTRACE_DETACH, pid, 0, SIGTERM));
    say_stop("detached with a signal", await(pid));
}

PROBE(ptrace_of_another_threads_tracee) {
    pid_t pid = traced(nothing);
    pid_t other = vfork();
    if (other == 0)
        _exit(trace(PTRACE_CONT, pid, 0, 0) == -1 && errno == ESRCH ? 3 : 4);
    int status;
    waitpid(other, &status, 0);
    say_status("other process", status);
    go(pid, 0);
    say_stop("end", await(pid));
}

static void tracer_leaves(long options) {
    int p[2], status;
    char byte;
    MUST(pipe(p));
    pid_t tracer = fork();
    if (tracer == 0) {
        pid_t pid = fork();
        if (pid == 0) {
            trace(PTRACE_TRACEME, 0, 0, 0);
            raise(SIGSTOP);
            nap_ms(60);
            write(p[1], "x", 1);
            _exit(0);
        }
        waitpid(pid, &status, 0);
        trace(PTRACE_SETOPTIONS, pid, 0, options);
        trace(PTRACE_CONT, pid, 0, 0);
        _exit(0);
    }
    close(p[1]);
    waitpid(tracer, &status, 0);
    SHOW(read(p[0], &byte, 1)); // whether the tracee got to its end
    close(p[0]);
}

PROBE(ptrace_tracer_ends) {
    tracer_leaves(0);
    tracer_leaves(PTRACE_O_EXITKILL);
}

// --- signals

static void raises(void) {
    count_signal(SIGUSR1, 0);
    count_signal(SIGUSR2, 0);
    raise(SIGUSR1);
    say("handled %d, last %s", handled, handled ? signal_name(last_signal) : "none");
    raise(SIGUSR1);
    say("handled %d, last %s", handled, handled ? signal_name(last_signal) : "none");
    raise(SIGUSR1);
    say("handled %d, last %s", handled, signal_name(last_signal));
    raise(SIGCHLD); // ignored by default, and shown all the same
    raise(SIGTERM);
}

PROBE(ptrace_signals) {
    siginfo_t info;
    pid_t pid = traced(raises);
    go(pid, 0);
    say_stop("signal", await(pid));
    SHOW(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info));
    FACT(info.si_signo == SIGUSR1 && info.si_code == SI_TKILL && info.si_pid == pid);
    go(pid, 0); // kept from it
    say_stop("signal", await(pid));
    go(pid, SIGUSR1);
    say_stop("signal", await(pid));
    go(pid, SIGUSR2); // another in its place
    say_stop("signal", await(pid));
    go(pid, SIGCHLD);
    say_stop("signal", await(pid));
    go(pid, SIGTERM);
    say_stop("end", await(pid));
}

static void reads_its_signal(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    say("value %d code %d", info->si_value.sival_int, info->si_code);
}

static void catches(void) {
    struct sigaction action = {.sa_sigaction = reads_its_signal, .sa_flags = SA_SIGINFO};
    MUST(sigaction(SIGUSR1, &action, NULL));
    raise(SIGUSR1);
}

PROBE(ptrace_changes_siginfo) {
    pid_t pid = traced(catches);
    go(pid, 0);
    await(pid);
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    info.si_value.sival_int = 77;
    SHOW(trace(PTRACE_SETSIGINFO, pid, 0, (long)&info));
    go(pid, SIGUSR1);
    say_stop("end", await(pid));
}

static void faults(void) { *(volatile int *)8 = 1; }

PROBE(ptrace_faults) {
    siginfo_t info;
    pid_t pid = traced(faults);
    go(pid, 0);
    say_stop("fault", await(pid));
    MUST(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info));
    FACT(info.si_signo == SIGSEGV && info.si_code == SEGV_MAPERR && info.si_addr == (void *)8);
    go(pid, SIGSEGV);
    say_stop("end", await(pid));
}

static void stops_itself(void) { raise(SIGSTOP); }

PROBE(ptrace_group_stop) {
    siginfo_t info;
    pid_t pid = traced(stops_itself);
    go(pid, 0);
    say_stop("signal", await(pid));
    SHOW(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info));
    go(pid, SIGSTOP);
    say_stop("group stop", await(pid));
    SHOW(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info)); // tells the two apart
    go(pid, 0);
    say_stop("end", await(pid));
}

static void mask_blocks(void) {
    sigset_t set;
    sigprocmask(SIG_SETMASK, NULL, &set);
    say("USR1 is %s", sigismember(&set, SIGUSR1) ? "blocked" : "not blocked");
}

PROBE(ptrace_signal_mask) {
    uint64_t mask = 0;
    pid_t pid = traced(mask_blocks);
    SHOW(trace(PTRACE_GETSIGMASK, pid, 8, (long)&mask));
    mask |= 1ul << (SIGUSR1 - 1);
    SHOW(trace(PTRACE_SETSIGMASK, pid, 8, (long)&mask));
    go(pid, 0);
    say_stop("end", await(pid));
}

// --- memory and registers

static volatile long cell = 5;
static const long constant = 6;

static void looks_at_cells(void) { say("cell %ld constant %ld", cell, *(volatile const long *)&constant); }

PROBE(ptrace_memory) {
    long word = 0;
    pid_t pid = traced(looks_at_cells);
    SHOW(trace(PTRACE_PEEKDATA, pid, (long)&cell, (long)&word));
    SHOW(word);
    SHOW(trace(PTRACE_POKEDATA, pid, (long)&cell, 50));
    SHOW(trace(PTRACE_POKETEXT, pid, (long)&constant, 60)); // memory that the program itself may only read
    SHOW(cell);
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int mem = MUST(open(path, O_RDWR));
    SHOW(pread(mem, &word, sizeof word, (long)&cell));
    SHOW(word);
    word = 51;
    SHOW(pwrite(mem, &word, sizeof word, (long)&cell));
    SHOW(pread(mem, &word, sizeof word, 8));
    close(mem);
    go(pid, 0);
    say_stop("end", await(pid));
}

static long __attribute__((noinline)) adds(long a, long b) { return a + b; }
static void calls(void) { say("%ld", adds(cell, 1)); }

PROBE(ptrace_registers) {
    struct user_regs_struct regs, again;
    struct user_fpregs_struct floats;
    struct iovec part = {&again, sizeof again};
    long word;
    char state[8192];
    pid_t pid = traced(calls);
    SHOW(trace(PTRACE_GETREGS, pid, 0, (long)&regs));
    SHOW(trace(PTRACE_GETREGSET, pid, NT_PRSTATUS, (long)&part));
    FACT(part.iov_len == sizeof regs && memcmp(&regs, &again, sizeof regs) == 0);
    part.iov_len = 16;
    SHOW(trace(PTRACE_GETREGSET, pid, NT_PRSTATUS, (long)&part));
    SHOW(part.iov_len);
    part.iov_len = 15;
    SHOW(trace(PTRACE_GETREGSET, pid, NT_PRSTATUS, (long)&part));
    part = (struct iovec){state, sizeof state};
    SHOW(trace(PTRACE_GETREGSET, pid, 0x202 /* NT_X86_XSTATE */, (long)&part));
    FACT(part.iov_len >= 512 + 64);
    SHOW(trace(PTRACE_SETREGSET, pid, 0x202, (long)&part));
    SHOW(trace(PTRACE_GETREGSET, pid, 0x7777, (long)&part));
    SHOW(trace(PTRACE_GETFPREGS, pid, 0, (long)&floats));
    SHOW(trace(PTRACE_SETFPREGS, pid, 0, (long)&floats));
    SHOW(trace(PTRACE_PEEKUSR, pid, offsetof(struct user_regs_struct, rip), (long)&word));
    FACT((unsigned long)word == regs.rip);
    // A call of a function in the tracee, as a debugger makes it: to a breakpoint at a return address.
    again = regs;
    again.rdi = 30, again.rsi = 12, again.rip = (unsigned long)adds;
    again.rsp = ((regs.rsp - 1024) & -16ul) - 8, again.orig_rax = -1;
    MUST(trace(PTRACE_POKEDATA, pid, again.rsp, 0x10));
    SHOW(trace(PTRACE_SETREGS, pid, 0, (long)&again));
    go(pid, 0);
    say_stop("returned", await(pid));
    MUST(trace(PTRACE_GETREGS, pid, 0, (long)&again));
    SHOW(again.rax);
    FACT(again.rip == 0x10);
    SHOW(trace(PTRACE_SETREGS, pid, 0, (long)&regs));
    go(pid, 0);
    say_stop("end", await(pid));
}

PROBE(ptrace_watchpoint) {
    siginfo_t info;
    pid_t pid = traced(calls);
    size_t debug = offsetof(struct user, u_debugreg);
    SHOW(trace(PTRACE_POKEUSR, pid, debug, (long)&cell));
    SHOW(trace(PTRACE_POKEUSR, pid, debug + 7 * 8, 0x1 | 0xb0000)); // reads and writes of 8 bytes... of 4
    go(pid, 0);
    say_stop("watched", await(pid));
    MUST(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info));
    SHOW(info.si_code);
    SHOW(trace(PTRACE_POKEUSR, pid, debug + 7 * 8, 0));
    go(pid, 0);
    say_stop("end", await(pid));
}

// --- steps and calls



static void counts(void) {
    for (volatile int i = 0; i < 1000; i++)
        ;
}

PROBE(ptrace_single_steps) {
    pid_t pid = traced(counts);
    struct user_regs_struct before, after;
    siginfo_t info;
    int wrong = 0;
    for (int i = 0; i < 300; i++) {
        MUST(trace(PTRACE_GETREGS, pid, 0, (long)&before));
        MUST(trace(PTRACE_SINGLESTEP, pid, 0, 0));
        int status = await(pid);
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) {
            wrong = 1000;
            break;
        }
        MUST(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info));
        MUST(trace(PTRACE_GETREGS, pid, 0, (long)&after));
        wrong += info.si_signo != SIGTRAP || before.rip == after.rip;
    }
    SHOW(wrong);
    go(pid, 0);
    say_stop("end", await(pid));
}

static void some_calls(void) {
    char byte;
    int p[2];
    pipe(p);
    getpid();
    syscall(SYS_mkdir, "made", 0700);
    write(p[1], "x", 1);
    read(p[0], &byte, 1);
    sched_yield();
    rmdir("made");
    syscall(SYS_exit_group, 6);
}

static void step_over_calls(void) {
    long result;
    asm volatile("int3\n\tsyscall\n\tnop\n\t" : "=a"(result) : "a"(SYS_mkdir), "D"("stepped"), "S"(0700) : "rcx", "r11", "memory");
    say("mkdir %ld", result);
    asm volatile("int3\n\tsyscall\n\tnop\n\t" : "=a"(result) : "a"(SYS_getpid) : "rcx", "r11", "memory");
    say("getpid is %s", result == getpid() ? "right" : "wrong");
}

PROBE(ptrace_steps_over_calls) {
    pid_t pid = traced(step_over_calls);
    struct user_regs_struct before, after;
    go(pid, 0);
    for (int i = 0; i < 2; i++) {
        say_stop("breakpoint", await(pid));
        MUST(trace(PTRACE_GETREGS, pid, 0, (long)&before));
        MUST(trace(PTRACE_SINGLESTEP, pid, 0, 0));
        say_stop("step", await(pid));
        MUST(trace(PTRACE_GETREGS, pid, 0, (long)&after));
        SHOW(after.rip - before.rip);
        go(pid, 0);
    }
    say_stop("end", await(pid));
}

static void say_call(pid_t pid) {
    struct user_regs_struct regs;
    struct ptrace_syscall_info info = {0};
    MUST(trace(PTRACE_GETREGS, pid, 0, (long)&regs));
    long size = trace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, (long)&info);
    bool plain = regs.orig_rax == SYS_mkdir || regs.orig_rax == SYS_rmdir || regs.orig_rax == SYS_sched_yield;
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
        say("enter %lld, rax %lld, size %ld", regs.orig_rax, regs.rax, size);
    else if (info.op == PTRACE_SYSCALL_INFO_EXIT)
        say("leave %lld with %lld, error %d, size %ld", regs.orig_rax, plain ? (long long)info.exit.rval : 0, info.exit.is_error, size);
    else
        say("no call, size %ld", size);
}

PROBE(ptrace_calls) {
    pid_t pid = traced(some_calls);
    MUST(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
    say_call(pid);
    for (;;) {
        MUST(trace(PTRACE_SYSCALL, pid, 0, 0));
        int status = await(pid);
        if (!WIFSTOPPED(status)) {
            say_stop("end", status);
            return;
        }
        if (WSTOPSIG(status) != (SIGTRAP | 0x80))
            say_stop("odd", status);
        say_call(pid);
    }
}

static void takes_signals(void) {
    sigset_t set;
    struct signalfd_siginfo told;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, 0);
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    say("polled %d", poll(&polled, 1, 0));
    raise(SIGUSR1);
    say("polled %d", poll(&polled, 1, 1000));
    say("read %zd", read(fd, &told, sizeof told));
    say("taken: %s", signal_name((int)told.ssi_signo));
    raise(SIGUSR1);
    say("waited: %s", signal_name(sigwaitinfo(&set, &info)));
    void *at = shmat(shmget(IPC_PRIVATE, 4096, 0600), NULL, 0);
    say("detached %d", shmdt(at));
}

// Calls that take more than one stop of ours are one call to a tracer, which may see them begun anew.
PROBE(ptrace_sees_results) {
    pid_t pid = traced(takes_signals);
    MUST(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
    for (;;) {
        struct user_regs_struct regs;
        struct ptrace_syscall_info info = {0};
        MUST(trace(PTRACE_SYSCALL, pid, 0, 0));
        int status = await(pid);
        if (!WIFSTOPPED(status)) {
            say_stop("end", status);
            return;
        }
        MUST(trace(PTRACE_GETREGS, pid, 0, (long)&regs));
        trace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, (long)&info);
        bool known = regs.orig_rax == SYS_poll || regs.orig_rax == SYS_read || regs.orig_rax == SYS_rt_sigtimedwait ||
                     regs.orig_rax == SYS_shmdt;
        if (known && info.op == PTRACE_SYSCALL_INFO_EXIT && info.exit.rval != -513) // ERESTARTNOINTR
            say("call %lld gives %lld", regs.orig_rax, (long long)info.exit.rval);
    }
}

static void asks_for_parent(void) {
    say("getppid says %ld", syscall(SYS_getppid));
    say("mkdir says %ld", (long)syscall(SYS_mkdir, "changed", 0700));
    say("there is %s", access("other", F_OK) == 0 ? "the other" : "none");
    rmdir("other");
}

// To the next entry to (or exit from) the call.
static bool at_call(pid_t pid, long nr, struct user_regs_struct *regs) {
    for (;;) {
        MUST(trace(PTRACE_SYSCALL, pid, 0, 0));
        if (!WIFSTOPPED(await(pid)))
            return false;
        MUST(trace(PTRACE_GETREGS, pid, 0, (long)regs));
        if (regs->orig_rax == (unsigned long)nr)
            return true;
    }
}

static char other_name[] = "other";

PROBE(ptrace_changes_calls) {
    struct user_regs_struct regs;
    pid_t pid = traced(asks_for_parent);
    MUST(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
    FACT(at_call(pid, SYS_getppid, &regs)); // its number: none, and a result of ours
    regs.orig_rax = -1;
    MUST(trace(PTRACE_SETREGS, pid, 0, (long)&regs));
    MUST(trace(PTRACE_SYSCALL, pid, 0, 0));
    await(pid);
    MUST(trace(PTRACE_GETREGS, pid, 0, (long)&regs));
    regs.rax = 4242;
    MUST(trace(PTRACE_SETREGS, pid, 0, (long)&regs));
    FACT(at_call(pid, SYS_mkdir, &regs)); // its argument
    regs.rdi = (long)other_name;
    MUST(trace(PTRACE_SETREGS, pid, 0, (long)&regs));
    FACT(at_call(pid, SYS_mkdir, &regs)); // its result
    regs.rax = -EXDEV;
    MUST(trace(PTRACE_SETREGS, pid, 0, (long)&regs));
    go(pid, 0);
    say_stop("end", await(pid));
}

static int quiet_pipe[2];

static void reads_long(void) {
    char byte;
    long got = read(quiet_pipe[0], &byte, 1);
    say("read gave %ld", got);
}

PROBE(ptrace_of_a_blocked_call) {
    struct user_regs_struct regs, again;
    MUST(pipe(quiet_pipe));
    pid_t pid = traced(reads_long);
    go(pid, 0);
    nap_ms(40);
    MUST(kill(pid, SIGSTOP));
    say_stop("interrupted", await(pid));
    MUST(trace(PTRACE_GETREGS, pid, 0, (long)&regs));
    FACT(regs.orig_rax == SYS_read && (long)regs.rax == -512 && regs.rdi == (unsigned long)quiet_pipe[0] && regs.rdx == 1);
    go(pid, 0); // the call goes on waiting
    nap_ms(40);
    MUST(kill(pid, SIGSTOP));
    await(pid);
    // A debugger calls a function and puts everything back: the call is made again.
    again = regs;
    again.rdi = 1, again.rsi = 2, again.rip = (unsigned long)adds, again.orig_rax = -1;
    again.rsp = ((regs.rsp - 1024) & -16ul) - 8;
    MUST(trace(PTRACE_POKEDATA, pid, again.rsp, 0x10));
    MUST(trace(PTRACE_SETREGS, pid, 0, (long)&again));
    go(pid, 0);
    say_stop("returned", await(pid));
    MUST(trace(PTRACE_SETREGS, pid, 0, (long)&regs));
    go(pid, 0);
    nap_ms(40);
    MUST(write(quiet_pipe[1], "x", 1));
    say_stop("end", await(pid));
}

static void waits_in_a_call(void) {
    char byte;
    count_signal(SIGALRM, 0);
    struct itimerval timer = {{0, 0}, {0, 40000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    SHOW(read(quiet_pipe[0], &byte, 1));
    SHOW(handled);
}

PROBE(ptrace_sees_an_interrupted_call) {
    struct user_regs_struct regs;
    MUST(pipe(quiet_pipe));
    pid_t pid = traced(waits_in_a_call);
    MUST(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
    FACT(at_call(pid, SYS_read, &regs));
    MUST(trace(PTRACE_SYSCALL, pid, 0, 0));
    say_stop("leaves", await(pid));
    MUST(trace(PTRACE_GETREGS, pid, 0, (long)&regs));
    SHOW(regs.rax);
    MUST(trace(PTRACE_SYSCALL, pid, 0, 0));
    say_stop("signal", await(pid));
    go(pid, SIGALRM);
    say_stop("end", await(pid));
}

// --- births, programs, deaths

static void forks(void) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(4);
    waitpid(pid, NULL, 0);
    pid = vfork();
    if (pid == 0)
        _exit(5);
    waitpid(pid, NULL, 0);
}

PROBE(ptrace_events_of_births) {
    unsigned long message;
    int ended = 0;
    pid_t pid = traced(forks), child = 0;
    MUST(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEEXIT));
    go(pid, 0);
    say_stop("fork", await(pid));
    MUST(trace(PTRACE_GETEVENTMSG, pid, 0, (long)&message));
    child = message;
    say_stop("child", await(child));
    go(child, 0);
    say_stop("child", await(child));
    MUST(trace(PTRACE_GETEVENTMSG, child, 0, (long)&message));
    SHOW(message >> 8);
    go(child, 0);
    say_stop("child", await(child));
    go(pid, 0);
    int status = await(pid);
    if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGCHLD) // of the child's end
        go(pid, SIGCHLD), status = await(pid);
    say_stop("vfork", status);
    MUST(trace(PTRACE_GETEVENTMSG, pid, 0, (long)&message));
    child = message;
    go(pid, 0);
    say_stop("child", await(child));
    go(child, 0);
    say_stop("child", await(child));
    go(child, 0);
    say_stop("child", await(child));
    while (!ended) {
        status = await(pid);
        if (WIFSTOPPED(status) && !(status >> 16)) {
            go(pid, WSTOPSIG(status));
            continue;
        }
        say_stop("parent", status);
        ended = WIFEXITED(status);
        if (!ended)
            go(pid, 0);
    }
}

static void *quick(void *unused) { return unused; }
static void makes_a_thread(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, quick, NULL);
    pthread_join(thread, NULL);
}

PROBE(ptrace_threads) {
    unsigned long message;
    int status;
    pid_t pid = traced(makes_a_thread);
    MUST(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACECLONE));
    go(pid, 0);
    say_stop("clone", await(pid));
    MUST(trace(PTRACE_GETEVENTMSG, pid, 0, (long)&message));
    say_stop("thread", await(message));
    go(pid, 0);
    nap_ms(30);
    SHOW(waitpid(pid, &status, WNOHANG)); // it waits for the thread
    go(message, 0);
    say_stop("thread", await(message));
    say_stop("end", await(pid));
}

static void executes(void) {
    execl("/proc/self/exe", "probe", "zz_ptrace_target", NULL);
    _exit(9);
}

PROBE(zz_ptrace_target) { say("executed"); }

PROBE(ptrace_exec) {
    struct user_regs_struct regs;
    unsigned long message;
    pid_t pid = traced(executes);
    go(pid, 0);
    say_stop("exec", await(pid)); // a plain SIGTRAP
    MUST(trace(PTRACE_GETREGS, pid, 0, (long)&regs));
    SHOW(regs.orig_rax);
    FACT(regs.rsp % 16 == 0 && regs.rip && !regs.rbx && !regs.rbp && !regs.rdi);
    long argc;
    MUST(trace(PTRACE_PEEKDATA, pid, regs.rsp, (long)&argc));
    SHOW(argc);
    go(pid, 0);
    say_stop("end", await(pid));
    pid = traced(executes);
    MUST(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD));
    go(pid, 0);
    say_stop("exec", await(pid));
    MUST(trace(PTRACE_GETEVENTMSG, pid, 0, (long)&message));
    FACT((pid_t)message == pid);
    MUST(trace(PTRACE_SYSCALL, pid, 0, 0));
    say_stop("call", await(pid));
    say_call(pid);
    go(pid, 0);
    say_stop("end", await(pid));
}

// --- seized

PROBE(ptrace_seize) {
    siginfo_t info;
    pid_t pid = fork();
    if (pid == 0) {
        for (;;)
            pause();
    }
    nap_ms(30);
    SHOW(trace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD));
    SHOW(waitpid(pid, NULL, WNOHANG)); // it is not stopped
    SHOW(trace(PTRACE_INTERRUPT, pid, 0, 0));
    say_stop("interrupted", await(pid));
    SHOW(trace(PTRACE_GETSIGINFO, pid, 0, (long)&info));
    SHOW(info.si_code);
    go(pid, 0);
    MUST(kill(pid, SIGSTOP));
    say_stop("signal", await(pid));
    go(pid, SIGSTOP);
    say_stop("group stop", await(pid));
    SHOW(trace(PTRACE_LISTEN, pid, 0, 0));
    SHOW(trace(PTRACE_CONT, pid, 0, 0)); // listening, it counts as running
    MUST(kill(pid, SIGCONT));
    say_stop("continued", await(pid));
    go(pid, 0);
    say_stop("signal", await(pid));
    go(pid, SIGCONT);
    MUST(trace(PTRACE_INTERRUPT, pid, 0, 0));
    say_stop("interrupted", await(pid));
    SHOW(trace(PTRACE_DETACH, pid, 0, 0));
    MUST(kill(pid, SIGTERM));
    say_stop("end", await(pid));
}

PROBE(ptrace_interrupts_a_blocked_call) {
    struct user_regs_struct regs;
    MUST(pipe(quiet_pipe));
    pid_t pid = child_that(reads_long);
    nap_ms(40);
    MUST(trace(PTRACE_SEIZE, pid, 0, 0));
    for (int i = 0; i < 3; i++) {
        MUST(trace(PTRACE_INTERRUPT, pid, 0, 0));
        say_stop("interrupted", await(pid));
        MUST(trace(PTRACE_GETREGS, pid, 0, (long)&regs));
        SHOW(regs.orig_rax);
        go(pid, 0);
    }
    MUST(write(quiet_pipe[1], "x", 1));
    say_stop("end", await(pid));
}

// --- waiting

PROBE(ptrace_waiting) {
    int status;
    siginfo_t info;
    pid_t pid = fork();
    if (pid == 0) {
        trace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        _exit(3);
    }
    memset(&info, 0, sizeof info);
    SHOW(waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT));
    FACT(info.si_signo == SIGCHLD && info.si_code == CLD_TRAPPED && info.si_pid == pid && info.si_status == SIGSTOP);
    SHOW(waitid(P_ALL, 0, &info, WSTOPPED));
    SHOW(waitid(P_PID, pid, &info, WSTOPPED | WNOHANG)); // told already
    SHOW(info.si_pid);
    SHOW(waitpid(-1, &status, WNOHANG));
    go(pid, 0);
    SHOW(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
    FACT(info.si_code == CLD_EXITED && info.si_status == 3);
    say_stop("end", await(pid));
    SHOW(waitpid(-1, &status, 0));
}

static volatile sig_atomic_t children_told;
static void child_told(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    if (info->si_code == CLD_TRAPPED)
        children_told++;
}

PROBE(ptrace_tells_by_a_signal) {
    struct sigaction action = {.sa_sigaction = child_told, .sa_flags = SA_SIGINFO | SA_RESTART};
    MUST(sigaction(SIGCHLD, &action, NULL));
    pid_t pid = traced(nothing);
    FACT(children_told == 1);
    go(pid, 0);
    say_stop("end", await(pid));
}

PROBE(ptrace_and_other_children) {
    // A tracer's plain children are still reported, also several at once and while tracees are stopped.
    pid_t pid = traced(nothing), plain[3];
    int status;
    for (int i = 0; i < 3; i++) {
        plain[i] = fork();
        if (plain[i] == 0)
            _exit(10 + i);
    }
    nap_ms(30);
    for (int i = 0; i < 3; i++) {
        MUST(waitpid(plain[i], &status, 0));
        say_status("plain", status);
    }
    pid_t late = fork();
    if (late == 0) {
        nap_ms(40);
        _exit(20);
    }
    SHOW(waitpid(-1, &status, 0) == late);
    go(pid, 0);
    say_stop("end", await(pid));
    SHOW(waitpid(-1, &status, 0));
}
