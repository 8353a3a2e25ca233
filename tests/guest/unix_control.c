// Control messages over AF_UNIX (cmsg(3), unix(7)): SCM_RIGHTS, SCM_CREDENTIALS, SCM_PIDFD, time stamps.
#include "probe.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

static int s[2];

// A message with `count` descriptors; `extra` control bytes are claimed beyond them.
static long send_fds(int over, const int *fds, int count, int extra) {
    char control[2000] = {0};
    struct iovec part = {"F", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control};
    message.msg_controllen = CMSG_SPACE(count * sizeof(int)) + extra;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int)) + extra;
    memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    return sendmsg(over, &message, MSG_DONTWAIT);
}

static int received[300];

// Receives one message with room for `room` bytes of control and tells what came. The descriptors are in `received`.
static int receive(int over, size_t room, int flags) {
    static char control[4000], data[100];
    memset(control, 0, sizeof control);
    struct iovec part = {data, sizeof data};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = room};
    ssize_t n = recvmsg(over, &message, flags | MSG_DONTWAIT);
    if (n < 0) {
        say("recvmsg: %s", strerrorname_np(errno));
        return -1;
    }
    say("recvmsg: %zd flags %#x control %zu", n, message.msg_flags, message.msg_controllen);
    int count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        size_t size = header->cmsg_len - CMSG_LEN(0);
        say("  level %d type %d size %zu", header->cmsg_level, header->cmsg_type, size);
        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
            count = size / sizeof(int);
            memcpy(received, CMSG_DATA(header), size);
        } else if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS) {
            struct ucred creds;
            memcpy(&creds, CMSG_DATA(header), sizeof creds);
            say("  own pid %d uid %u gid %u", creds.pid == getpid(), creds.uid, creds.gid);
        }
    }
    return count;
}

static void close_received(int count) {
    for (int i = 0; i < count; i++)
        close(received[i]);
}

PROBE(rights_room) {
    int fds[4] = {0, 1, 2, 1};
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    for (size_t room = 0; room < CMSG_SPACE(4 * sizeof(int)) + 8; room += 4) {
        MUST(send_fds(s[0], fds, 4, 0));
        say("room %zu", room);
        int count = receive(s[1], room, 0);
        SHOW(count);
        close_received(count);
    }
    SHOW(open("/dev/null", O_RDONLY));
}

PROBE(rights_errors) {
    int fds[300], one = 1;
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    for (int i = 0; i < 300; i++)
        fds[i] = 1;
    SHOW(send_fds(s[0], fds, 253, 0));
    close_received(receive(s[1], 4000, 0));
    SHOW(send_fds(s[0], fds, 254, 0));
    SHOW(send_fds(s[0], fds, 0, 0));
    receive(s[1], 100, 0);
    fds[1] = 99;
    SHOW(send_fds(s[0], fds, 2, 0));
    fds[1] = -1;
    SHOW(send_fds(s[0], fds, 2, 0));
    SHOW(send_fds(s[0], &one, 1, 2)); // half a number more
    close_received(receive(s[1], 100, 0));
    SHOW(send_fds(s[0], fds, 1, -8));
    char control[64] = {0};
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = 15};
    SHOW(sendmsg(s[0], &message, 0));
    message.msg_controllen = 24;
    struct cmsghdr *header = (void *)control;
    *header = (struct cmsghdr){.cmsg_len = 25, .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    SHOW(sendmsg(s[0], &message, 0));
    header->cmsg_len = 0;
    SHOW(sendmsg(s[0], &message, 0));
    header->cmsg_len = 15;
    SHOW(sendmsg(s[0], &message, 0));
    *header = (struct cmsghdr){.cmsg_len = 20, .cmsg_level = SOL_SOCKET, .cmsg_type = 99};
    SHOW(sendmsg(s[0], &message, 0));
    *header = (struct cmsghdr){.cmsg_len = 20, .cmsg_level = 99, .cmsg_type = 99};
    SHOW(sendmsg(s[0], &message, 0));
    message.msg_control = unmapped;
    SHOW(sendmsg(s[0], &message, 0));
    message.msg_control = control;
    message.msg_controllen = 1 << 30;
    SHOW(sendmsg(s[0], &message, 0));
    message.msg_controllen = -1;
    SHOW(sendmsg(s[0], &message, 0));
    message.msg_controllen = 0;
    message.msg_iovlen = 1025;
    SHOW(sendmsg(s[0], &message, 0));
    message.msg_iovlen = 1;
    message.msg_iov = unmapped;
    SHOW(sendmsg(s[0], &message, 0));
    SHOW(sendmsg(s[0], unmapped, 0));
    SHOW(recvmsg(s[0], unmapped, MSG_DONTWAIT));
    message.msg_iov = &part;
    message.msg_namelen = -1;
    SHOW(sendmsg(s[0], &message, 0));
    message.msg_name = control;
    SHOW(sendmsg(s[0], &message, 0));
}

PROBE(rights_of_every_kind) {
    int epoll = MUST(epoll_create1(0)), p[2];
    MUST(pipe(p));
    MUST(mkfifo("fifo", 0600));
    MUST(mkdir("dir", 0700));
    make_file("file", "file");
    int fds[] = {
        p[0], p[1], epoll, MUST(eventfd(0, 0)), MUST(timerfd_create(CLOCK_MONOTONIC, 0)), MUST(inotify_init1(0)),
        MUST(open("dir", O_RDONLY)), MUST(open("file", O_PATH)), MUST(open("file", O_RDONLY)), MUST(memfd_create("m", 0)),
        MUST(open("fifo", O_RDWR)), MUST(open("/dev/null", O_RDWR)), MUST(socket(AF_INET, SOCK_DGRAM, 0)),
        MUST(socket(AF_UNIX, SOCK_STREAM, 0)), MUST(open("/proc/self/stat", O_RDONLY)),
    };
    enum { COUNT = sizeof fds / sizeof fds[0] };
    for (int type = SOCK_STREAM; type <= SOCK_SEQPACKET; type += type == SOCK_DGRAM ? 3 : 1) {
        MUST(socketpair(AF_UNIX, type, 0, s));
        SHOW(send_fds(s[0], fds, COUNT, 0));
        int count = SHOW(receive(s[1], 4000, 0));
        for (int i = 0; i < count; i++) {
            struct stat one, other;
            MUST(fstat(fds[i], &one));
            MUST(fstat(received[i], &other));
            say("%d: same %d mode %o flags %#x cloexec %d", i, one.st_ino == other.st_ino && one.st_dev == other.st_dev, other.st_mode,
                fcntl(received[i], F_GETFL), fcntl(received[i], F_GETFD));
        }
        close_received(count);
    }
}

PROBE(rights_bounds) {
    int fd = 1, count;
    char text[20];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    MUST(send(s[0], "abc", 3, 0));
    MUST(send_fds(s[0], &fd, 1, 0));
    MUST(send(s[0], "def", 3, 0));
    MUST(send_fds(s[0], &fd, 1, 0));
    MUST(send_fds(s[0], &fd, 1, 0));
    // a read runs up to and over the byte that carries descriptors, not beyond it
    SHOW(recv(s[1], text, 20, MSG_PEEK));
    SHOW(recv(s[1], text, 20, 0));
    count = SHOW(receive(s[1], 100, 0));
    close_received(count);
    count = SHOW(receive(s[1], 100, MSG_PEEK));
    close_received(count);
    count = SHOW(receive(s[1], 100, 0));
    close_received(count);
    // sent with nothing to carry them
    struct msghdr empty = {0};
    char control[CMSG_SPACE(sizeof fd)] = {0};
    empty.msg_control = control;
    empty.msg_controllen = sizeof control;
    *CMSG_FIRSTHDR(&empty) = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&empty)), &fd, sizeof fd);
    SHOW(sendmsg(s[0], &empty, 0));
    receive(s[1], 100, 0);
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    SHOW(sendmsg(s[0], &empty, 0));
    count = SHOW(receive(s[1], 100, 0));
    close_received(count);
    // nobody asks for them
    MUST(send_fds(s[0], &fd, 1, 0));
    SHOW(read(s[1], text, 20));
    MUST(send_fds(s[0], &fd, 1, 0));
    receive(s[1], 0, 0);
    // one read of several parts of data with one set of descriptors in their middle
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    MUST(send_fds(s[0], &fd, 1, 0));
    MUST(send(s[0], "more", 4, 0));
    count = SHOW(receive(s[1], 100, 0));
    close_received(count);
    receive(s[1], 100, 0);
    SHOW(open("/dev/null", O_RDONLY));
}

PROBE(rights_beyond_limit) {
    int fds[10];
    for (int i = 0; i < 10; i++)
        fds[i] = 1;
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    struct rlimit limit = {8, 8};
    MUST(send_fds(s[0], fds, 10, 0));
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    int count = SHOW(receive(s[1], 1000, 0));
    SHOW(dup(1));
    close_received(count);
    SHOW(dup(1) >= 0);
}

static bool hung_up(int fd) {
    struct pollfd one = {fd, POLLIN, 0};
    return poll(&one, 1, 1000) == 1 && one.revents & POLLHUP;
}

PROBE(rights_cycle) {
    int p[2], t[2];
    MUST(pipe(p));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    int fds[2] = {s[1], p[1]};
    MUST(send_fds(s[0], fds, 2, 0)); // a socket in its own queue
    close(s[0]);
    close(s[1]);
    close(p[1]);
    // Linux collects when the next socket goes
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, t));
    close(t[0]);
    close(t[1]);
    FACT(hung_up(p[0]));
    MUST(pipe(p));
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, t));
    fds[0] = s[1];
    MUST(send_fds(t[0], fds, 1, 0));
    fds[0] = t[1];
    fds[1] = p[1];
    MUST(send_fds(s[0], fds, 2, 0));
    close(p[1]);
    close(s[0]);
    close(t[0]);
    close(s[1]);
    close(t[1]);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, t));
    close(t[0]);
    close(t[1]);
    FACT(hung_up(p[0]));
}

static long send_creds(int over, struct ucred creds) {
    char control[CMSG_SPACE(sizeof creds)] = {0};
    struct iovec part = {"C", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof creds), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_CREDENTIALS};
    memcpy(CMSG_DATA(header), &creds, sizeof creds);
    return sendmsg(over, &message, 0);
}

static void ordinary_user(void) {
    int one = 1;
    MUST(setgid(500));
    MUST(setuid(400));
    MUST(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one));
    SHOW(send_creds(s[0], (struct ucred){getpid(), 400, 500}));
    receive(s[1], 100, 0);
    SHOW(send_creds(s[0], (struct ucred){1, 400, 500}));
    SHOW(send_creds(s[0], (struct ucred){getpid(), 0, 500}));
    SHOW(send_creds(s[0], (struct ucred){getpid(), 400, 0}));
    SHOW(send_creds(s[0], (struct ucred){0, 400, 500}));
    SHOW(send_creds(s[0], (struct ucred){getpid(), -1, 500}));
}

PROBE(credentials) {
    int one = 1, zero = 0, fd = 1;
    for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
        MUST(socketpair(AF_UNIX, type, 0, s));
        SHOW(send(s[0], "before", 6, 0));
        MUST(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one));
        receive(s[1], 100, 0);
        SHOW(send(s[0], "after", 5, 0));
        receive(s[1], 100, 0);
        MUST(send_fds(s[0], &fd, 1, 0));
        close_received(receive(s[1], 100, 0));
        SHOW(send_creds(s[0], (struct ucred){getpid(), 77, 88}));
        receive(s[1], 100, 0);
        SHOW(send(s[0], "x", 1, 0));
        for (int room = 0; room < 40; room += 10) {
            receive(s[1], room, MSG_PEEK);
        }
        receive(s[1], 100, 0);
        MUST(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &zero, sizeof zero));
        SHOW(send_creds(s[0], (struct ucred){getpid(), 0, 0}));
        receive(s[1], 100, 0);
        SHOW(send_creds(s[0], (struct ucred){99999, 0, 0}));
        in_child("user", ordinary_user);
    }
}

PROBE(credentials_part_messages) {
    int one = 1;
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    MUST(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one));
    MUST(send(s[0], "a", 1, 0));
    MUST(send_creds(s[0], (struct ucred){getpid(), 77, 88}));
    MUST(send_creds(s[0], (struct ucred){getpid(), 77, 88}));
    MUST(send(s[0], "b", 1, 0));
    for (int i = 0; i < 4; i++)
        receive(s[1], 100, 0);
}

PROBE(peer_pidfd) {
    int one = 1, fd = -1;
    socklen_t size = sizeof fd;
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    SHOW(getsockopt(s[0], SOL_SOCKET, 77, &fd, &size)); // SO_PEERPIDFD
    SHOW(fcntl(fd, F_GETFD));
    siginfo_t info;
    SHOW(waitid(P_PIDFD, fd, &info, WEXITED | WNOHANG));
    SHOW(setsockopt(s[1], SOL_SOCKET, 76, &one, sizeof one)); // SO_PASSPIDFD
    MUST(send(s[0], "x", 1, 0));
    receive(s[1], 100, 0);
    MUST(send(s[0], "x", 1, 0));
    receive(s[1], 8, 0);
}

PROBE(unix_timestamps) {
    int one = 1;
    for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
        MUST(socketpair(AF_UNIX, type, 0, s));
        MUST(setsockopt(s[1], SOL_SOCKET, SO_TIMESTAMP, &one, sizeof one));
        MUST(send(s[0], "x", 1, 0));
        receive(s[1], 100, 0);
        MUST(setsockopt(s[1], SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one));
        MUST(send(s[0], "x", 1, 0));
        receive(s[1], 100, 0);
    }
}
