// AF_UNIX datagram sockets in company: who may send to whom, connecting, disconnecting, full queues, receivers that go.
#include "probe.h"
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t size;

static struct sockaddr_un at(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path + 1, name);
    size = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
    return address;
}

static int bound(const char *name) {
    struct sockaddr_un address = at(name);
    int fd = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    MUST(bind(fd, (void *)&address, size));
    return fd;
}

static long connect_to(int fd, const char *name) {
    struct sockaddr_un address = at(name);
    return connect(fd, (void *)&address, size);
}

static long send_to(int fd, const char *name) {
    struct sockaddr_un address = at(name);
    return sendto(fd, "text", 4, MSG_DONTWAIT | MSG_NOSIGNAL, (void *)&address, size);
}

static long disconnect(int fd) {
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    return connect(fd, &none, sizeof none);
}

static void say_error(const char *what, int fd) {
    int error = 0;
    socklen_t length = sizeof error;
    MUST(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length));
    say("%s: SO_ERROR %s", what, error ? strerrorname_np(error) : "0");
}

static void say_poll(const char *what, int fd) {
    struct pollfd one = {fd, POLLIN | POLLOUT | POLLRDHUP, 0};
    int n = poll(&one, 1, 0);
    say("%s: poll %d %#x", what, n, one.revents);
}

static void receive(const char *what, int fd) {
    char text[50] = "";
    struct sockaddr_un from;
    socklen_t length = sizeof from;
    ssize_t n = recvfrom(fd, text, sizeof text, MSG_DONTWAIT, (void *)&from, &length);
    if (n < 0)
        say("%s: %s", what, strerrorname_np(errno));
    else
        say("%s: %zd '%s' from %.*s", what, n, text, length > 3 ? (int)length - 3 : 0, from.sun_path + 1);
}

PROBE(unix_dgram_connections) {
    int a = bound("a"), b = bound("b"), c = bound("c");
    SHOW(connect_to(a, "b"));
    SHOW(send(a, "to b", 4, 0));
    SHOW(send_to(b, "a"));
    SHOW(send_to(c, "b"));
    SHOW(send_to(c, "a"));
    receive("b", b);
    receive("b", b);
    receive("a", a);
    receive("a", a);
    SHOW(connect_to(b, "c"));
    SHOW(send(a, "x", 1, MSG_NOSIGNAL));
    SHOW(send_to(c, "b"));
    SHOW(connect_to(a, "b"));
    SHOW(connect_to(a, "a"));
    SHOW(send(a, "self", 4, 0));
    receive("a", a);
    SHOW(connect_to(c, "a"));
    SHOW(disconnect(a));
    SHOW(send(a, "x", 1, 0));
    SHOW(disconnect(a));
    SHOW(connect_to(c, "a"));
    SHOW(connect_to(a, "c"));
    SHOW(send(a, "mutual", 6, 0));
    receive("c", c);
    SHOW(connect_to(a, "none"));
    SHOW(send(a, "still", 5, 0));
    receive("c", c);
    SHOW(send_to(a, "b"));
    SHOW(send_to(a, "none"));
}

PROBE(unix_dgram_disconnected) {
    int s[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    SHOW(send(s[0], "lost", 4, 0));
    SHOW(disconnect(s[1]));
    say_error("other", s[0]);
    receive("unread", s[1]);
    SHOW(send(s[0], "x", 1, 0));
    receive("now", s[1]);
    SHOW(send(s[1], "x", 1, 0));
    int a = bound("a"), b = bound("b");
    MUST(connect_to(a, "b"));
    MUST(connect_to(b, "a"));
    MUST(send(a, "unread", 6, 0));
    int c = bound("c");
    SHOW(connect_to(b, "c"));
    say_error("a", a);
    receive("b", b);
    SHOW(send(a, "x", 1, 0));
    (void)c;
}

PROBE(unix_dgram_receiver_goes) {
    int a = bound("a"), b = bound("b");
    MUST(connect_to(a, "b"));
    SHOW(send(a, "one", 3, 0));
    close(b);
    say_poll("gone", a);
    SHOW(send(a, "x", 1, MSG_NOSIGNAL));
    SHOW(send(a, "x", 1, MSG_NOSIGNAL));
    say_poll("gone", a);
    SHOW(send_to(a, "b"));
    b = bound("b");
    SHOW(send(a, "x", 1, MSG_NOSIGNAL));
    SHOW(send_to(a, "b"));
    receive("b", b);
    MUST(connect_to(a, "b"));
    SHOW(shutdown(b, SHUT_RD));
    count_signal(SIGPIPE, 0);
    SHOW(send(a, "x", 1, 0));
    SHOW(send_to(a, "b"));
    SHOW(handled);
    SHOW(shutdown(a, SHUT_WR));
    SHOW(send(a, "x", 1, 0));
    SHOW(handled);
}

static void *receive_later(void *fd) {
    char text[10];
    nap_ms(40);
    recv((int)(long)fd, text, sizeof text, 0);
    return NULL;
}

static void *close_later(void *fd) {
    nap_ms(40);
    close((int)(long)fd);
    return NULL;
}

PROBE(unix_dgram_full) {
    pthread_t thread;
    int a = bound("a"), b = bound("b"), d = bound("d"), sent = 0;
    while (send_to(a, "b") == 4)
        sent++;
    say("%d %s", sent, strerrorname_np(errno));
    say_poll("not connected", a);
    MUST(connect_to(d, "b"));
    say_poll("connected", d);
    SHOW(send(d, "x", 1, MSG_DONTWAIT));
    int ep = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLOUT | EPOLLET}, got;
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, d, &event));
    SHOW(epoll_wait(ep, &got, 1, 0));
    pthread_create(&thread, NULL, receive_later, (void *)(long)b);
    SHOW(epoll_wait(ep, &got, 1, 2000));
    pthread_join(thread, NULL);
    say_poll("connected", d);
    SHOW(send(d, "x", 1, MSG_DONTWAIT));
    pthread_create(&thread, NULL, receive_later, (void *)(long)b);
    SHOW(send(d, "wait", 4, 0));
    pthread_join(thread, NULL);
    pthread_create(&thread, NULL, close_later, (void *)(long)b);
    SHOW(send(d, "wait", 4, MSG_NOSIGNAL));
    pthread_join(thread, NULL);
    say_poll("gone", d);
    // one's own queue does not hold one up
    int self = bound("self");
    MUST(connect_to(self, "self"));
    for (sent = 0; sent < 50 && send(self, "x", 1, MSG_DONTWAIT) == 1;)
        sent++;
    SHOW(sent);
    int s[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    for (sent = 0; sent < 500 && send(s[0], "x", 1, MSG_DONTWAIT) == 1;)
        sent++;
    SHOW(sent);
}

PROBE(unix_types_do_not_mix) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "path"};
    int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    for (int i = 0; i < 3; i++) {
        int fd = MUST(socket(AF_UNIX, types[i], 0));
        unlink("path");
        MUST(bind(fd, (void *)&address, sizeof address));
        if (types[i] != SOCK_DGRAM)
            MUST(listen(fd, 5));
        for (int j = 0; j < 3; j++) {
            int client = MUST(socket(AF_UNIX, types[j], 0));
            say("%d to %d", types[j], types[i]);
            SHOW(sendto(client, "x", 1, MSG_NOSIGNAL, (void *)&address, sizeof address));
            SHOW(connect(client, (void *)&address, sizeof address));
            close(client);
        }
    }
}
