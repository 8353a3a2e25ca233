// Connections of AF_UNIX: queues of listeners, shutdown(2), what closing does to the peer, what poll(2) says of it all.
#include "probe.h"
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

static void say_poll(const char *what, int fd) {
    struct pollfd one = {fd, POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND, 0};
    int n = poll(&one, 1, 0);
    say("%s: poll %d %#x", what, n, one.revents);
}

static void say_error(const char *what, int fd) {
    int error = 0;
    socklen_t size = sizeof error;
    MUST(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size));
    say("%s: SO_ERROR %s", what, error ? strerrorname_np(error) : "0");
}

static void say_recv(const char *what, int fd) {
    char text[64];
    errno = 0;
    ssize_t n = recv(fd, text, sizeof text, MSG_DONTWAIT);
    say("%s: recv %zd %s", what, n, n < 0 ? strerrorname_np(errno) : "");
}

static void say_send(const char *what, int fd) {
    errno = 0;
    ssize_t n = send(fd, "data", 4, MSG_DONTWAIT | MSG_NOSIGNAL);
    say("%s: send %zd %s", what, n, n < 0 ? strerrorname_np(errno) : "");
}

static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};

PROBE(unix_poll_fresh) {
    for (int i = 0; i < 3; i++) {
        int s[2], fd = MUST(socket(AF_UNIX, types[i], 0));
        say_poll("fresh", fd);
        say_recv("fresh", fd);
        say_send("fresh", fd);
        SHOW(shutdown(fd, SHUT_WR));
        say_poll("after SHUT_WR", fd);
        say_send("after SHUT_WR", fd);
        SHOW(shutdown(fd, SHUT_RD));
        say_poll("after SHUT_RD", fd);
        say_recv("after SHUT_RD", fd);
        SHOW(shutdown(fd, 3));
        MUST(socketpair(AF_UNIX, types[i], 0, s));
        say_poll("pair", s[0]);
        say_send("pair", s[0]);
        say_poll("with data", s[1]);
    }
}

static void shut_down(int type, int how) {
    int s[2];
    say("type %d how %d", type, how);
    MUST(socketpair(AF_UNIX, type, 0, s));
    say_send("before", s[1]);
    SHOW(shutdown(s[0], how));
    say_poll("self", s[0]);
    say_poll("peer", s[1]);
    say_send("self", s[0]);
    say_send("peer", s[1]);
    say_recv("self", s[0]);
    say_recv("self again", s[0]);
    say_recv("peer", s[1]);
    say_error("self", s[0]);
    say_error("peer", s[1]);
    SHOW(shutdown(s[0], how));
    SHOW(shutdown(s[1], SHUT_RDWR));
    say_poll("both", s[0]);
    say_poll("both", s[1]);
}

PROBE(unix_shutdown_stream) {
    for (int how = 0; how < 3; how++)
        shut_down(SOCK_STREAM, how);
}
PROBE(unix_shutdown_dgram) {
    for (int how = 0; how < 3; how++)
        shut_down(SOCK_DGRAM, how);
}
PROBE(unix_shutdown_seqpacket) {
    for (int how = 0; how < 3; how++)
        shut_down(SOCK_SEQPACKET, how);
}

static void close_peer(int type, bool unread_here, bool unread_there) {
    int s[2];
    say("type %d unread here %d there %d", type, unread_here, unread_there);
    MUST(socketpair(AF_UNIX, type, 0, s));
    if (unread_here)
        say_send("to us", s[1]);
    if (unread_there)
        say_send("to them", s[0]);
    close(s[1]);
    say_poll("closed", s[0]);
    say_send("closed", s[0]);
    say_recv("closed", s[0]);
    say_recv("again", s[0]);
    say_recv("again", s[0]);
    say_send("again", s[0]);
    say_error("closed", s[0]);
    say_poll("closed", s[0]);
}

PROBE(unix_close_stream) {
    for (int i = 0; i < 4; i++)
        close_peer(SOCK_STREAM, i & 1, i & 2);
}
PROBE(unix_close_dgram) {
    for (int i = 0; i < 4; i++)
        close_peer(SOCK_DGRAM, i & 1, i & 2);
}
PROBE(unix_close_seqpacket) {
    for (int i = 0; i < 4; i++)
        close_peer(SOCK_SEQPACKET, i & 1, i & 2);
}

static void close_unread_error(int type) {
    int s[2];
    MUST(socketpair(AF_UNIX, type, 0, s));
    say_send("unread", s[0]);
    close(s[1]);
    say_error("first", s[0]);
    say_error("second", s[0]);
    say_recv("then", s[0]);
    MUST(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, s));
    say_send("unread", s[0]);
    close(s[1]);
    say_poll("error", s[0]);
    char text[8];
    SHOW(read(s[0], text, sizeof text));
    SHOW(read(s[0], text, sizeof text));
}

PROBE(unix_close_unread) {
    for (int i = 0; i < 3; i++)
        close_unread_error(types[i]);
}

static struct sockaddr_un at(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    return address;
}

static int listener_at(int type, const char *path, int backlog) {
    struct sockaddr_un address = at(path);
    int fd = MUST(socket(AF_UNIX, type, 0));
    MUST(bind(fd, (void *)&address, sizeof address));
    MUST(listen(fd, backlog));
    return fd;
}

static int client_of(int type, const char *path, int flags) {
    struct sockaddr_un address = at(path);
    int fd = MUST(socket(AF_UNIX, type | flags, 0));
    errno = 0;
    long done = connect(fd, (void *)&address, sizeof address);
    say("connect: %ld %s", done, done ? strerrorname_np(errno) : "");
    return fd;
}

static void backlog(int type) {
    int fd = listener_at(type, "full", 0);
    say_poll("listener", fd);
    int first = client_of(type, "full", SOCK_NONBLOCK);
    say_poll("client", first);
    say_poll("listener", fd);
    client_of(type, "full", SOCK_NONBLOCK);
    SHOW(listen(fd, 2));
    client_of(type, "full", SOCK_NONBLOCK);
    client_of(type, "full", SOCK_NONBLOCK);
    client_of(type, "full", SOCK_NONBLOCK);
    SHOW(accept(fd, NULL, NULL) >= 0);
    client_of(type, "full", SOCK_NONBLOCK);
    struct timeval soon = {0, 20000};
    struct sockaddr_un address = at("full");
    int slow = MUST(socket(AF_UNIX, type, 0));
    MUST(setsockopt(slow, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon));
    SHOW(connect(slow, (void *)&address, sizeof address));
    SHOW(listen(fd, -1));
    SHOW(connect(slow, (void *)&address, sizeof address));
    SHOW(shutdown(fd, SHUT_WR));
    client_of(type, "full", SOCK_NONBLOCK);
    SHOW(shutdown(fd, SHUT_RD));
    say_poll("listener", fd);
    client_of(type, "full", SOCK_NONBLOCK);
    while (accept(fd, NULL, NULL) >= 0)
        continue;
    say("%s", strerrorname_np(errno));
    unlink("full");
}

PROBE(unix_backlog_stream) { backlog(SOCK_STREAM); }
PROBE(unix_backlog_seqpacket) { backlog(SOCK_SEQPACKET); }

PROBE(unix_pending_connection) {
    int fd = listener_at(SOCK_STREAM, "pending", 5);
    int client = client_of(SOCK_STREAM, "pending", 0);
    say_send("not accepted", client);
    say_recv("not accepted", client);
    say_send("listener", fd);
    say_recv("listener", fd);
    int server = MUST(accept(fd, NULL, NULL));
    say_recv("server", server);
    // a client that goes before it is accepted
    client = client_of(SOCK_STREAM, "pending", 0);
    say_send("early", client);
    close(client);
    server = OK(accept(fd, NULL, NULL));
    say_poll("server", server);
    say_recv("server", server);
    say_recv("server", server);
    say_send("server", server);
    // a listener that goes with connections pending
    client = client_of(SOCK_STREAM, "pending", 0);
    int sender = client_of(SOCK_STREAM, "pending", 0);
    say_send("sender", sender);
    close(fd);
    say_poll("orphan", client);
    say_recv("orphan", client);
    say_recv("orphan", client);
    say_send("orphan", client);
    say_recv("sender", sender);
    say_recv("sender", sender);
    client_of(SOCK_STREAM, "pending", 0);
}

PROBE(unix_wrong_calls) {
    int fd = listener_at(SOCK_STREAM, "wrong", 5), d = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    struct sockaddr_un address = at("wrong");
    SHOW(connect(fd, (void *)&address, sizeof address));
    SHOW(listen(d, 1));
    SHOW(accept(d, NULL, NULL));
    int client = client_of(SOCK_STREAM, "wrong", 0);
    SHOW(listen(client, 1));
    SHOW(accept(client, NULL, NULL));
    int flags = MUST(fcntl(fd, F_GETFL));
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    int server = MUST(accept(fd, NULL, NULL));
    SHOW(fcntl(server, F_GETFL) & O_NONBLOCK);
    SHOW(listen(server, 1));
    SHOW(accept(fd, NULL, NULL));
    SHOW(accept4(fd, NULL, NULL, SOCK_NONBLOCK | 1));
    SHOW(accept(99, NULL, NULL));
    SHOW(sendto(client, "x", 1, 0, (void *)&address, sizeof address));
    int fresh = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(sendto(fresh, "x", 1, 0, (void *)&address, sizeof address));
    SHOW(sendto(d, "x", 1, 0, (void *)&address, sizeof address));
    SHOW(sendto(d, "x", 1, 0, NULL, sizeof address));
    SHOW(sendto(d, "x", 1, 0, (void *)&address, 1000));
    SHOW(sendto(d, "x", 1, 0, unmapped, 10));
    SHOW(send(client, unmapped, 5, 0));
    SHOW(send(client, kernel_half, -1, 0));
    SHOW(send(client, "abc", 3, 0));
    SHOW(socketpair(AF_UNIX, SOCK_STREAM, 0, unmapped));
    SHOW(socketpair(AF_INET, SOCK_STREAM, 0, unmapped));
    int s[2];
    SHOW(socketpair(AF_INET, SOCK_STREAM, 0, s));
    SHOW(socketpair(AF_UNIX, SOCK_RAW, 0, s));
    SHOW(socketpair(AF_UNIX, SOCK_RDM, 0, s));
    SHOW(socketpair(AF_UNIX, SOCK_STREAM | 0x100, 0, s));
    SHOW(socketpair(0, SOCK_STREAM, 0, s));
    SHOW(socketpair(AF_UNIX, SOCK_DGRAM, AF_UNIX, s));
    SHOW(socketpair(AF_UNIX, SOCK_DGRAM, 2, s));
    SHOW(socketpair(AF_NETLINK, SOCK_RAW, 0, s));
    int kind = 0;
    socklen_t size = sizeof kind;
    MUST(socketpair(AF_UNIX, SOCK_RAW, 0, s));
    SHOW(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &kind, &size));
    SHOW(kind);
}
