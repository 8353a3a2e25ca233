// Processes by descriptor: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2), waitid(2) with P_PIDFD. And zombies.
#include "probe.h"
#include <poll.h>
#include <sys/epoll.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static long pidfd_open_(pid_t pid, unsigned flags) { return syscall(SYS_pidfd_open, pid, flags); }
static long pidfd_kill(int fd, int sig) { return syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0); }
static long pidfd_getfd_(int fd, int other) { return syscall(SYS_pidfd_getfd, fd, other, 0); }

static void wait_for_term(void) {
    for (;;)
        pause();
}

static void exit_soon(void) {
    nap_ms(60);
    _exit(7);
}

static void say_info(const siginfo_t *info, pid_t pid) {
    say("signo %d code %d status %d pid %s", info->si_signo, info->si_code, info->si_status,
        info->si_pid == pid ? "right" : info->si_pid ? "wrong" : "0");
}

PROBE(pidfd_errors) {
    SHOW(pidfd_open_(0, 0));
    SHOW(pidfd_open_(-1, 0));
    SHOW(pidfd_open_(getpid(), 1));
    SHOW(pidfd_open_(4000000, 0));
    int self = MUST(pidfd_open_(getpid(), 0));
    SHOW(fcntl(self, F_GETFD));
    SHOW(fcntl(self, F_GETFL) & O_ACCMODE);
    SHOW(pidfd_kill(self, 0));
    SHOW(pidfd_kill(self, 65));
    SHOW(pidfd_kill(1, 0));
    SHOW(pidfd_kill(99, 0));
    SHOW(syscall(SYS_pidfd_send_signal, self, 0, NULL, 64));
    SHOW(pidfd_getfd_(1, 0));
    SHOW(pidfd_getfd_(self, 99));
    SHOW(syscall(SYS_pidfd_getfd, self, 0, 1));
    SHOW(waitid(P_PIDFD, self, NULL, WEXITED));
    SHOW(waitid(P_PIDFD, 1, NULL, WEXITED));
    SHOW(waitid(P_PIDFD, 99, NULL, WEXITED));
    SHOW(waitid(P_PIDFD, -1, NULL, WEXITED));
    SHOW(waitid(9, 0, NULL, WEXITED));
    char c;
    SHOW(read(self, &c, 1));
    int folder = MUST(open("/proc/self", O_RDONLY | O_DIRECTORY));
    SHOW(pidfd_kill(folder, 0));
}

PROBE(pidfd_poll) {
    pid_t pid = spawn(wait_for_term);
    int fd = MUST(pidfd_open_(pid, 0));
    struct pollfd entry = {fd, POLLIN, 0};
    SHOW(poll(&entry, 1, 30));
    int epoll = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN};
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
    SHOW(pidfd_kill(fd, SIGTERM));
    SHOW(poll(&entry, 1, 5000));
    SHOW(entry.revents);
    SHOW(epoll_wait(epoll, &event, 1, 5000));
    siginfo_t info = {0};
    SHOW(waitid(P_PIDFD, fd, &info, WEXITED | WNOWAIT));
    say_info(&info, pid);
    SHOW(pidfd_kill(fd, 0));
    SHOW(waitid(P_PIDFD, fd, &info, WEXITED));
    SHOW(waitid(P_PIDFD, fd, &info, WEXITED));
    SHOW(pidfd_kill(fd, 0));
    SHOW(pidfd_open_(pid, 0));
}

PROBE(pidfd_wait) {
    siginfo_t info = {0};
    pid_t pid = spawn(exit_soon);
    int fd = MUST(pidfd_open_(pid, 0));
    SHOW(waitid(P_PIDFD, fd, &info, WEXITED | WNOHANG));
    say_info(&info, pid);
    SHOW(waitid(P_PIDFD, fd, &info, WEXITED));
    say_info(&info, pid);
    pid = spawn(exit_soon);
    fd = MUST(pidfd_open_(pid, O_NONBLOCK));
    SHOW(waitid(P_PIDFD, fd, &info, WEXITED));
    struct pollfd entry = {fd, POLLIN, 0};
    SHOW(poll(&entry, 1, 5000));
    SHOW(waitid(P_PIDFD, fd, &info, WEXITED));
    say_info(&info, pid);
}

// The arguments' registers are the caller's after the call, as after any other.
static long raw_waitid(long type, long id, siginfo_t *info, long options, long *type_after, long *id_after) {
    long result;
    register long r10 __asm__("r10") = options;
    register long r8 __asm__("r8") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result), "+D"(type), "+S"(id)
                     : "0"(SYS_waitid), "d"(info), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    *type_after = type;
    *id_after = id;
    return result;
}

PROBE(pidfd_wait_keeps_registers) {
    siginfo_t info;
    long type, id;
    int fd = MUST(pidfd_open_(spawn(exit_soon), 0));
    SHOW(raw_waitid(P_PIDFD, fd, &info, WEXITED, &type, &id));
    FACT(type == P_PIDFD && id == fd);
    SHOW(raw_waitid(P_PIDFD, fd, &info, WEXITED, &type, &id));
    FACT(type == P_PIDFD && id == fd);
}

static void interrupt_wait(int flags) {
    siginfo_t info = {0};
    long type, id;
    pid_t pid = spawn(wait_for_term);
    int fd = MUST(pidfd_open_(pid, 0));
    struct itimerval soon = {{0, 0}, {0, 40000}};
    pid_t killer = MUST(fork());
    if (killer == 0) {
        nap_ms(200);
        kill(pid, SIGTERM);
        _exit(0);
    }
    count_signal(SIGALRM, flags);
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    SHOW(raw_waitid(P_PIDFD, fd, &info, WEXITED, &type, &id));
    FACT(type == P_PIDFD && id == fd);
    SHOW(handled);
    say_info(&info, pid);
    reap("killer", killer);
    if (!info.si_pid)
        reap("child", pid);
}

PROBE(pidfd_wait_interrupted) { interrupt_wait(0); }
PROBE(pidfd_wait_restarted) { interrupt_wait(SA_RESTART); }

static void *wait_here(void *fd) {
    siginfo_t info = {0};
    SHOW(waitid(P_PIDFD, (int)(long)fd, &info, WEXITED));
    SHOW(info.si_status);
    return NULL;
}

static void stop_and_go(void) {
    pthread_t thread;
    pid_t pid = spawn(wait_for_term);
    int fd = MUST(pidfd_open_(pid, 0));
    MUST(pthread_create(&thread, NULL, wait_here, (void *)(long)fd));
    nap_ms(40);
    raise(SIGSTOP);
    kill(pid, SIGKILL);
    pthread_join(thread, NULL);
}

PROBE(pidfd_wait_stopped) {
    int status;
    pid_t pid = spawn(stop_and_go);
    waitpid(pid, &status, WUNTRACED);
    say_status("stopped", status);
    nap_ms(40);
    kill(pid, SIGCONT);
    reap("gone on", pid);
}

PROBE(pidfd_getfd) {
    int p[2];
    char text[8] = {0};
    MUST(pipe(p));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        close(p[1]);
        MUST(dup2(p[0], 50));
        nap_ms(5000);
        _exit(0);
    }
    int fd = MUST(pidfd_open_(pid, 0));
    nap_ms(50);
    int got = MUST(pidfd_getfd_(fd, 50));
    SHOW(fcntl(got, F_GETFD));
    MUST(write(p[1], "taken", 5));
    SHOW(read(got, text, 8));
    say("%s", text);
    SHOW(pidfd_getfd_(fd, 51));
    if (MUST(fork()) == 0) {
        MUST(setresuid(1000, 1000, 1000));
        SHOW(pidfd_getfd_(fd, 50));
        SHOW(pidfd_kill(fd, SIGTERM));
        _exit(0);
    }
    wait(NULL);
    SHOW(pidfd_kill(fd, SIGKILL));
    reap("holder", pid);
    SHOW(pidfd_getfd_(fd, 50));
}

static void exit_at_once(void) { _exit(5); }

static char state_of(pid_t pid) {
    char path[64], text[512] = {0};
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return '-';
    read(fd, text, sizeof text - 1);
    close(fd);
    char *after = strrchr(text, ')');
    return after ? after[2] : '?';
}

PROBE(zombie) {
    char path[64], text[64];
    pid_t pid = spawn(exit_at_once);
    siginfo_t info;
    MUST(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
    nap_ms(30);
    say("state %c", state_of(pid));
    SHOW(kill(pid, 0));
    SHOW(kill(pid, SIGTERM));
    FACT(getpgid(pid) == getpgrp());
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    int fd = MUST(open(path, O_RDONLY));
    SHOW(read(fd, text, sizeof text));
    close(fd);
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    SHOW(readlink(path, text, sizeof text));
    snprintf(path, sizeof path, "/proc/%d/cwd", pid);
    SHOW(readlink(path, text, sizeof text));
    fd = MUST(pidfd_open_(pid, 0));
    struct pollfd entry = {fd, POLLIN, 0};
    SHOW(poll(&entry, 1, 0));
    reap("child", pid);
    say("state %c", state_of(pid));
    SHOW(kill(pid, 0));
}
