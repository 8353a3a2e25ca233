// pidfds in odd hands: arguments, permission, threads, files they are not, what they show.
#include "probe.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif
#define SIGNAL_THREAD 1
#define SIGNAL_THREAD_GROUP 2
#define SIGNAL_PROCESS_GROUP 4

static long open_pid(pid_t pid, unsigned flags) { return syscall(SYS_pidfd_open, pid, flags); }
static long send_to(int pidfd, int sig, void *info, unsigned flags) { return syscall(SYS_pidfd_send_signal, pidfd, sig, info, flags); }
static long get_from(int pidfd, int fd, unsigned flags) { return syscall(SYS_pidfd_getfd, pidfd, fd, flags); }

static void linger(void) {
    for (;;)
        pause();
}
static void leave(void) {}

PROBE(pidfd_arguments) {
    SHOW(open_pid(0, 0));
    SHOW(open_pid(-1, 0));
    SHOW(open_pid(99999, 0));
    SHOW(open_pid(getpid(), 1));
    SHOW(open_pid(99999, 1));
    int fd = MUST(open_pid(getpid(), O_NONBLOCK)), other = MUST(open("/dev/null", O_RDWR));
    SHOW(fcntl(fd, F_GETFD));
    SHOW(fcntl(fd, F_GETFL));
    char c;
    SHOW(read(fd, &c, 1));
    SHOW(write(fd, &c, 1));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(ioctl(fd, FIONREAD, &c));
    SHOW(send_to(fd, 0, NULL, 0));
    SHOW(send_to(fd, 65, NULL, 0));
    SHOW(send_to(fd, -1, NULL, 0));
    SHOW(send_to(fd, 0, NULL, 8));
    SHOW(send_to(99, 0, NULL, 0));
    SHOW(send_to(99, 0, NULL, 8));
    SHOW(send_to(other, 0, NULL, 0));
    SHOW(send_to(fd, 0, unmapped, 0));
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    SHOW(send_to(fd, SIGUSR2, &info, 0));
    SHOW(send_to(fd, 0, &info, 0));
    count_signal(SIGUSR1, 0);
    SHOW(send_to(fd, SIGUSR1, &info, 0));
    SHOW(handled);
    SHOW(get_from(fd, 1, 0) >= 0);
    SHOW(get_from(fd, 1, 1));
    SHOW(get_from(fd, 99, 0));
    SHOW(get_from(fd, -1, 0));
    SHOW(get_from(99, 1, 0));
    SHOW(get_from(other, 1, 0));
    int folder = MUST(open("/proc/self", O_RDONLY | O_DIRECTORY));
    SHOW(send_to(folder, 0, NULL, 0));
    SHOW(get_from(folder, 1, 0));
    int epoll = MUST(epoll_create1(0));
    SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){EPOLLIN, {0}}));
    struct pollfd set = {fd, POLLIN | POLLOUT, 0};
    SHOW(poll(&set, 1, 0));
    struct stat status;
    SHOW(fstat(fd, &status));
}

static pid_t root_child;
static void use_as_user(void) {
    int fd = MUST(open_pid(root_child, 0));
    MUST(setresgid(1000, 1000, 1000));
    MUST(setresuid(1000, 1000, 1000));
    SHOW(send_to(fd, 0, NULL, 0));
    SHOW(send_to(fd, SIGKILL, NULL, 0));
    SHOW(get_from(fd, 1, 0));
    SHOW(open_pid(1, 0) >= 0);
    siginfo_t info;
    SHOW(syscall(SYS_waitid, 3, fd, &info, WEXITED, NULL));
}

PROBE(pidfd_permission) {
    root_child = spawn(linger);
    in_child("user", use_as_user);
    int fd = MUST(open_pid(root_child, 0));
    siginfo_t info = {.si_signo = SIGTERM, .si_code = SI_USER};
    SHOW(send_to(fd, SIGTERM, &info, 0));
    info.si_code = SI_TKILL;
    SHOW(send_to(fd, SIGTERM, &info, 0));
    info.si_code = SI_QUEUE;
    SHOW(send_to(fd, SIGTERM, &info, 0));
    struct pollfd set = {fd, POLLIN, 0};
    SHOW(poll(&set, 1, 5000));
    SHOW(send_to(fd, 0, NULL, 0));
    SHOW(get_from(fd, 1, 0));
    reap("child", root_child);
    SHOW(send_to(fd, 0, NULL, 0));
    SHOW(get_from(fd, 1, 0));
    SHOW(open_pid(root_child, 0));
    set.revents = 0;
    SHOW(poll(&set, 1, 0));
    SHOW(set.revents);
}

static void *wait_in_thread(void *tid) {
    *(volatile pid_t *)tid = gettid();
    nap_ms(100);
    return NULL;
}

PROBE(pidfd_of_a_thread) {
    pthread_t thread;
    volatile pid_t tid = 0;
    pthread_create(&thread, NULL, wait_in_thread, (void *)&tid);
    while (!tid)
        nap_ms(1);
    SHOW(open_pid(tid, 0));
    int fd = open_pid(tid, PIDFD_THREAD);
    show("PIDFD_THREAD", fd < 0 ? -1 : 0);
    if (fd >= 0) {
        struct pollfd set = {fd, POLLIN, 0};
        SHOW(poll(&set, 1, 0));
        count_signal(SIGUSR1, 0);
        SHOW(send_to(fd, SIGUSR1, NULL, 0));
        SHOW(poll(&set, 1, 5000));
    }
    pthread_join(thread, NULL);
    SHOW(handled);
}

PROBE(pidfd_signal_scope) {
    setpgid(0, 0);
    int fd = MUST(open_pid(getpid(), 0));
    count_signal(SIGUSR1, 0);
    SHOW(send_to(fd, SIGUSR1, NULL, SIGNAL_THREAD));
    SHOW(send_to(fd, SIGUSR1, NULL, SIGNAL_THREAD_GROUP));
    SHOW(send_to(fd, SIGUSR1, NULL, SIGNAL_PROCESS_GROUP));
    SHOW(send_to(fd, SIGUSR1, NULL, SIGNAL_THREAD | SIGNAL_THREAD_GROUP));
    SHOW(handled);
}

PROBE(pidfd_shows) {
    char path[64], text[512] = "", wanted[64];
    pid_t pid = spawn(leave);
    int fd = MUST(open_pid(pid, 0));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = MUST(readlink(path, text, sizeof text - 1));
    text[n] = 0;
    say("%s", text);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    int info = MUST(open(path, O_RDONLY));
    memset(text, 0, sizeof text);
    MUST(read(info, text, sizeof text - 1));
    snprintf(wanted, sizeof wanted, "Pid:\t%d\n", pid);
    FACT(strstr(text, wanted) != NULL);
    reap("child", pid);
    info = MUST(open(path, O_RDONLY));
    memset(text, 0, sizeof text);
    MUST(read(info, text, sizeof text - 1));
    FACT(strstr(text, "Pid:\t-1\n") != NULL);
}

// Calls that are made again with other registers, among signals that come from timers: each gives what it should, and so
// does the next.
PROBE(pidfd_wait_among_signals) {
    siginfo_t info;
    pid_t pid = spawn(linger);
    int fd = MUST(open_pid(pid, 0)), odd = 0;
    count_signal(SIGALRM, 0);
    MUST(setitimer(ITIMER_REAL, &(struct itimerval){{0, 150}, {0, 150}}, NULL));
    for (int i = 0; i < 3000; i++) {
        long type = 3, id = fd;
        info.si_pid = 0;
        long result = syscall(SYS_waitid, type, id, &info, WEXITED | WNOHANG, NULL);
        odd += !(result == 0 || errno == EINTR) || info.si_pid;
        int file = open("/probe", O_RDONLY);
        odd += file < 0 && errno != EINTR;
        odd += file >= 0 && close(file);
    }
    MUST(setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL));
    FACT(handled > 0);
    SHOW(odd);
    kill(pid, SIGKILL);
    FACT(wait(NULL) > 0);
}
