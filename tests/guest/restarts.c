// Every call that waits, interrupted: by a handler with and without SA_RESTART, and by a stop. The table of signal(7).
#include "probe.h"
#include <linux/futex.h>
#include <linux/time_types.h>
#include <mqueue.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

static int p[2], pair[2], fd, listener;
static char buffer[256];
static struct shared {
    volatile int begun, returned, error;
    volatile long result;
    uint32_t word;
    uint32_t pi;
} *shared;
static const struct timespec long_time = {20, 0};
static const struct timeval long_timeval = {20, 0};

// ---- set-up (before the fork), the call (in the child), and what lets it end (in the parent)

static void with_pipe(void) { MUST(pipe(p)); }
static void feed_pipe(void) { MUST(write(p[1], "x", 1)); }
static long do_read(void) { return read(p[0], buffer, 10); }
static long do_readv(void) { return readv(p[0], &(struct iovec){buffer, 10}, 1); }
static long do_poll(void) { return poll(&(struct pollfd){p[0], POLLIN, 0}, 1, 20000); }
static long do_poll_forever(void) { return poll(&(struct pollfd){p[0], POLLIN, 0}, 1, -1); }
static long do_ppoll(void) { return ppoll(&(struct pollfd){p[0], POLLIN, 0}, 1, &long_time, NULL); }
static long do_select(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(p[0], &set);
    return select(p[0] + 1, &set, NULL, NULL, NULL);
}
static long do_pselect(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(p[0], &set);
    return pselect(p[0] + 1, &set, NULL, NULL, &long_time, NULL);
}
static void with_epoll(void) {
    with_pipe();
    fd = MUST(epoll_create1(0));
    MUST(epoll_ctl(fd, EPOLL_CTL_ADD, p[0], &(struct epoll_event){EPOLLIN, {0}}));
}
static long do_epoll(void) { return epoll_wait(fd, (struct epoll_event *)buffer, 1, -1); }
static long do_epoll_timeout(void) { return epoll_wait(fd, (struct epoll_event *)buffer, 1, 20000); }
static long do_epoll_pwait2(void) { return syscall(SYS_epoll_pwait2, fd, buffer, 1, &long_time, NULL, 0); }

static void with_full_pipe(void) {
    MUST(pipe2(p, O_NONBLOCK));
    while (write(p[1], buffer, sizeof buffer) > 0)
        continue;
    MUST(fcntl(p[1], F_SETFL, 0));
}
static void drain_pipe(void) {
    static char all[65536];
    MUST(read(p[0], all, sizeof all));
}
static long do_write(void) { return write(p[1], "y", 1); }
static long do_splice_out(void) { return splice(pair[0], NULL, p[1], NULL, 10, 0); }
static void with_full_pipe_and_source(void) {
    with_full_pipe();
    MUST(pipe(pair));
    MUST(write(pair[1], "abc", 3));
}
static void with_pipe_and_sink(void) {
    with_pipe();
    MUST(pipe(pair));
}
static long do_splice_in(void) { return splice(p[0], NULL, pair[1], NULL, 10, 0); }
static long do_tee(void) { return tee(p[0], pair[1], 10, 0); }

static void with_fifo(void) {
    unlink("fifo");
    MUST(mkfifo("fifo", 0600));
}
static long do_open_fifo(void) { return open("fifo", O_RDONLY) >= 0 ? 0 : -1; }
static void open_fifo(void) { MUST(open("fifo", O_WRONLY)); }

static void with_pair(void) { MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair)); }
static void with_pair_timeout(void) {
    with_pair();
    MUST(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &long_timeval, sizeof long_timeval));
    MUST(setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &long_timeval, sizeof long_timeval));
}
static void feed_pair(void) { MUST(send(pair[1], "x", 1, 0)); }
static long do_recv(void) { return recv(pair[0], buffer, 10, 0); }
static long do_recvmsg(void) { return recvmsg(pair[0], &(struct msghdr){.msg_iov = &(struct iovec){buffer, 10}, .msg_iovlen = 1}, 0); }
static long do_recvmmsg(void) {
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &(struct iovec){buffer, 10}, .msg_iovlen = 1}};
    return recvmmsg(pair[0], &message, 1, 0, NULL);
}
static void fill_pair(void) {
    MUST(fcntl(pair[0], F_SETFL, O_NONBLOCK));
    while (write(pair[0], buffer, sizeof buffer) > 0)
        continue;
    MUST(fcntl(pair[0], F_SETFL, 0));
}
static void with_full_pair(void) {
    with_pair();
    fill_pair();
}
static void with_full_pair_timeout(void) {
    with_pair_timeout();
    fill_pair();
}
static long do_send(void) { return send(pair[0], "y", 1, 0); }
static void drain_pair(void) {
    static char all[1 << 20];
    MUST(fcntl(pair[1], F_SETFL, O_NONBLOCK));
    while (read(pair[1], all, sizeof all) > 0)
        continue;
}
static const struct sockaddr_un name = {AF_UNIX, "\0restart"};
static void with_listener(void) {
    listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(bind(listener, (const struct sockaddr *)&name, 10));
    MUST(listen(listener, 0));
}
static void with_listener_timeout(void) {
    with_listener();
    MUST(setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &long_timeval, sizeof long_timeval));
}
static long do_accept(void) { return accept(listener, NULL, NULL) >= 0 ? 0 : -1; }
static void connect_to(void) { MUST(connect(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), (const struct sockaddr *)&name, 10)); }
static void with_full_listener(void) {
    with_listener();
    connect_to();
}
static long do_connect(void) { return connect(socket(AF_UNIX, SOCK_STREAM, 0), (const struct sockaddr *)&name, 10); }
static void accept_one(void) { MUST(accept(listener, NULL, NULL)); }

static void with_lock(void) {
    make_file("lock", "");
    fd = MUST(open("lock", O_RDWR));
    MUST(flock(fd, LOCK_EX));
    MUST(fcntl(fd, F_SETLK, &(struct flock){.l_type = F_WRLCK}));
}
static void unlock(void) {
    MUST(flock(fd, LOCK_UN));
    MUST(fcntl(fd, F_SETLK, &(struct flock){.l_type = F_UNLCK}));
}
static long do_flock(void) { return flock(open("lock", O_RDWR), LOCK_EX); }
static long do_setlkw(void) { return fcntl(open("lock", O_RDWR), F_SETLKW, &(struct flock){.l_type = F_WRLCK}); }
static long do_ofd_setlkw(void) { return fcntl(open("lock", O_RDWR), F_OFD_SETLKW, &(struct flock){.l_type = F_WRLCK}); }

static void no_set_up(void) {}
static void no_end(void) {}
static pid_t make_grandchild(void) {
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        read(p[0], &c, 1);
        _exit(9);
    }
    return pid;
}
static long do_wait4(void) {
    pid_t pid = make_grandchild();
    shared->begun = 1;
    return waitpid(pid, NULL, 0) > 0 ? 0 : -1;
}
static long do_waitid(void) {
    siginfo_t info;
    make_grandchild();
    shared->begun = 1;
    return waitid(P_ALL, 0, &info, WEXITED);
}
static long do_waitid_pidfd(void) {
    siginfo_t info;
    int pidfd = syscall(SYS_pidfd_open, make_grandchild(), 0);
    shared->begun = 1;
    return syscall(SYS_waitid, 3, pidfd, &info, WEXITED, NULL);
}

static long futex(int op, uint32_t value, const struct timespec *timeout) { return syscall(SYS_futex, &shared->word, op, value, timeout, NULL, ~0U); }
static void wake_futex(void) { syscall(SYS_futex, &shared->word, FUTEX_WAKE, 10, NULL, NULL, 0); }
static long do_futex(void) { return futex(FUTEX_WAIT, 0, NULL); }
static long do_futex_timeout(void) { return futex(FUTEX_WAIT, 0, &long_time); }
static long do_futex_bitset(void) {
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += 20;
    return futex(FUTEX_WAIT_BITSET, 0, &end);
}
static long do_futex_waitv(void) {
    struct {
        uint64_t value, address;
        uint32_t flags, reserved;
    } one = {0, (uintptr_t)&shared->word, 2, 0};
    return syscall(SYS_futex_waitv, &one, 1, 0, NULL, 0);
}
static void hold_pi(void) { shared->pi = gettid(); }
static long do_lock_pi(void) { return syscall(SYS_futex, &shared->pi, FUTEX_LOCK_PI, 0, NULL, NULL, 0); }
static void release_pi(void) { MUST(syscall(SYS_futex, &shared->pi, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0)); }

static long do_pause(void) { return pause(); }
static long do_sigsuspend(void) {
    sigset_t none;
    sigemptyset(&none);
    return sigsuspend(&none);
}
static long do_sigtimedwait(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return sigtimedwait(&set, NULL, &long_time);
}
static long do_sigwaitinfo(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return sigwaitinfo(&set, NULL);
}
static long do_nanosleep(void) { return nanosleep(&(struct timespec){0, 400000000}, NULL); }
static long do_clock_nanosleep(void) {
    errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){0, 400000000}, NULL);
    return errno ? -1 : 0;
}
static long do_clock_nanosleep_absolute(void) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    if ((end.tv_nsec += 400000000) >= 1000000000)
        end.tv_nsec -= 1000000000, end.tv_sec++;
    errno = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &end, NULL);
    return errno ? -1 : 0;
}

static void with_eventfd(void) { fd = MUST(eventfd(0, 0)); }
static void feed_eventfd(void) { MUST(write(fd, &(uint64_t){1}, 8)); }
static void with_timerfd(void) { fd = MUST(timerfd_create(CLOCK_MONOTONIC, 0)); }
static void arm_timerfd(void) { MUST(timerfd_settime(fd, 0, &(struct itimerspec){{0, 0}, {0, 1}}, NULL)); }
static void with_inotify(void) {
    fd = MUST(inotify_init());
    MUST(inotify_add_watch(fd, ".", IN_CREATE));
    unlink("noticed");
}
static void make_event(void) { make_file("noticed", ""); }
static long do_read_fd(void) { return read(fd, buffer, 64) > 0 ? 0 : -1; }

static int ipc;
static struct {
    long type;
    char text[1];
} message = {1, "m"};
static void with_msg(void) { ipc = MUST(msgget(IPC_PRIVATE, 0600)); }
static long do_msgrcv(void) { return msgrcv(ipc, &message, 1, 0, 0); }
static void send_msg(void) { MUST(msgsnd(ipc, &message, 1, 0)); }
static void with_full_msg(void) {
    with_msg();
    struct {
        long type;
        char text[8000];
    } big = {1, ""};
    while (msgsnd(ipc, &big, sizeof big.text, IPC_NOWAIT) == 0)
        continue;
}
static long do_msgsnd(void) {
    struct {
        long type;
        char text[8000];
    } big = {1, ""};
    return msgsnd(ipc, &big, sizeof big.text, 0);
}
static void take_msg(void) {
    struct {
        long type;
        char text[8000];
    } big;
    MUST(msgrcv(ipc, &big, sizeof big.text, 0, 0));
}
static void with_sem(void) { ipc = MUST(semget(IPC_PRIVATE, 1, 0600)); }
static long do_semop(void) { return semop(ipc, &(struct sembuf){0, -1, 0}, 1); }
static long do_semtimedop(void) { return semtimedop(ipc, &(struct sembuf){0, -1, 0}, 1, &long_time); }
static void raise_sem(void) { MUST(semop(ipc, &(struct sembuf){0, 1, 0}, 1)); }

static void with_mq(void) {
    mq_unlink("/restart");
    fd = MUST(mq_open("/restart", O_CREAT | O_RDWR, 0600, &(struct mq_attr){.mq_maxmsg = 1, .mq_msgsize = 16}));
}
static long do_mq_receive(void) { return mq_receive(fd, buffer, 16, NULL); }
static long do_mq_timedreceive(void) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 20;
    return mq_timedreceive(fd, buffer, 16, NULL, &end);
}
static void send_mq(void) { MUST(mq_send(fd, "m", 1, 0)); }
static void with_full_mq(void) {
    with_mq();
    send_mq();
}
static long do_mq_send(void) { return mq_send(fd, "m", 1, 0); }
static void take_mq(void) { MUST(mq_receive(fd, buffer, 16, NULL)); }

static const struct row {
    const char *name;
    void (*set_up)(void);
    long (*call)(void);
    void (*end)(void);
} rows[] = {
    {"read", with_pipe, do_read, feed_pipe},
    {"readv", with_pipe, do_readv, feed_pipe},
    {"write", with_full_pipe, do_write, drain_pipe},
    {"splice into a pipe", with_full_pipe_and_source, do_splice_out, drain_pipe},
    {"splice out of a pipe", with_pipe_and_sink, do_splice_in, feed_pipe},
    {"tee", with_pipe_and_sink, do_tee, feed_pipe},
    {"open of a fifo", with_fifo, do_open_fifo, open_fifo},
    {"poll", with_pipe, do_poll, feed_pipe},
    {"poll without a timeout", with_pipe, do_poll_forever, feed_pipe},
    {"ppoll", with_pipe, do_ppoll, feed_pipe},
    {"select", with_pipe, do_select, feed_pipe},
    {"pselect", with_pipe, do_pselect, feed_pipe},
    {"epoll_wait", with_epoll, do_epoll, feed_pipe},
    {"epoll_wait with a timeout", with_epoll, do_epoll_timeout, feed_pipe},
    {"epoll_pwait2", with_epoll, do_epoll_pwait2, feed_pipe},
    {"recv", with_pair, do_recv, feed_pair},
    {"recvmsg", with_pair, do_recvmsg, feed_pair},
    {"recvmmsg", with_pair, do_recvmmsg, feed_pair},
    {"recv with SO_RCVTIMEO", with_pair_timeout, do_recv, feed_pair},
    {"send", with_full_pair, do_send, drain_pair},
    {"send with SO_SNDTIMEO", with_full_pair_timeout, do_send, drain_pair},
    {"accept", with_listener, do_accept, connect_to},
    {"accept with SO_RCVTIMEO", with_listener_timeout, do_accept, connect_to},
    {"connect", with_full_listener, do_connect, accept_one},
    {"flock", with_lock, do_flock, unlock},
    {"F_SETLKW", with_lock, do_setlkw, unlock},
    {"F_OFD_SETLKW", with_lock, do_ofd_setlkw, unlock},
    {"wait4", with_pipe, do_wait4, feed_pipe},
    {"waitid", with_pipe, do_waitid, feed_pipe},
    {"waitid of a pidfd", with_pipe, do_waitid_pidfd, feed_pipe},
    {"FUTEX_WAIT", no_set_up, do_futex, wake_futex},
    {"FUTEX_WAIT with a timeout", no_set_up, do_futex_timeout, wake_futex},
    {"FUTEX_WAIT_BITSET with a timeout", no_set_up, do_futex_bitset, wake_futex},
    {"futex_waitv", no_set_up, do_futex_waitv, wake_futex},
    {"FUTEX_LOCK_PI", hold_pi, do_lock_pi, release_pi},
    {"pause", no_set_up, do_pause, NULL},
    {"sigsuspend", no_set_up, do_sigsuspend, NULL},
    {"sigtimedwait", no_set_up, do_sigtimedwait, NULL},
    {"sigwaitinfo", no_set_up, do_sigwaitinfo, NULL},
    {"nanosleep", no_set_up, do_nanosleep, no_end},
    {"clock_nanosleep", no_set_up, do_clock_nanosleep, no_end},
    {"clock_nanosleep to a time", no_set_up, do_clock_nanosleep_absolute, no_end},
    {"read of an eventfd", with_eventfd, do_read_fd, feed_eventfd},
    {"read of a timerfd", with_timerfd, do_read_fd, arm_timerfd},
    {"read of an inotify", with_inotify, do_read_fd, make_event},
    {"msgrcv", with_msg, do_msgrcv, send_msg},
    {"msgsnd", with_full_msg, do_msgsnd, take_msg},
    {"semop", with_sem, do_semop, raise_sem},
    {"semtimedop", with_sem, do_semtimedop, raise_sem},
    {"mq_receive", with_mq, do_mq_receive, send_mq},
    {"mq_receive with a timeout", with_mq, do_mq_timedreceive, send_mq},
    {"mq_send", with_full_mq, do_mq_send, take_mq},
};

enum { PLAIN, RESTART, STOP };
static const char *const ways[] = {"handler", "SA_RESTART", "stop"};

static bool wait_for_return(int ms) {
    int64_t end = now_ms() + ms;
    while (!shared->returned && now_ms() < end)
        nap_ms(1);
    return shared->returned;
}

static void interrupt_row(const struct row *row, int way) {
    char what[100];
    pid_t middle = MUST(fork());
    if (middle) {
        int status;
        MUST(waitpid(middle, &status, 0));
        if (status)
            say("%s, %s: status %x", row->name, ways[way], status);
        return;
    }
    *shared = (struct shared){0};
    row->set_up();
    pid_t pid = MUST(fork());
    if (pid == 0) {
        count_signal(SIGUSR1, way == RESTART ? SA_RESTART : 0);
        shared->begun = 1;
        long result = row->call();
        shared->error = errno;
        shared->result = result;
        shared->returned = 1;
        _exit(0);
    }
    while (!shared->begun)
        nap_ms(1);
    nap_ms(30);
    if (way == STOP) {
        MUST(kill(pid, SIGSTOP));
        MUST(waitpid(pid, NULL, WUNTRACED));
        MUST(kill(pid, SIGCONT));
    } else
        MUST(kill(pid, SIGUSR1));
    const char *then = "";
    if (!wait_for_return(row->end == NULL || way == PLAIN ? 60 : 30)) {
        then = " after going on";
        if (row->end == NULL) {
            kill(pid, SIGKILL);
            MUST(waitpid(pid, NULL, 0));
            say("%s, %s: goes on", row->name, ways[way]);
            _exit(0);
        }
        row->end();
        if (!wait_for_return(2000))
            then = " never";
    }
    MUST(waitpid(pid, NULL, 0));
    snprintf(what, sizeof what, "%s, %s:%s", row->name, ways[way], then);
    errno = shared->error;
    show(what, shared->result);
    _exit(0);
}

static void every_row(int way, unsigned first, unsigned last) {
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = first; i < last && i < sizeof rows / sizeof rows[0]; i++)
        interrupt_row(&rows[i], way);
}

PROBE(handler_interrupts_files) { every_row(PLAIN, 0, 27); }
PROBE(handler_interrupts_others) { every_row(PLAIN, 27, 99); }
PROBE(handler_restarts_files) { every_row(RESTART, 0, 27); }
PROBE(handler_restarts_others) { every_row(RESTART, 27, 99); }
PROBE(stop_interrupts_files) { every_row(STOP, 0, 27); }
PROBE(stop_interrupts_others) { every_row(STOP, 27, 99); }
