// epoll(7): arguments, modes, nesting, what closing and duplicating descriptors does, many waiters.
#include "probe.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static int ep, p[2];

static long control(int operation, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(ep, operation, fd, &event);
}

static void say_events(const char *what) {
    struct epoll_event events[10];
    int n = epoll_wait(ep, events, 10, 0);
    char text[300] = "";
    for (int i = 0; i < n; i++)
        sprintf(text + strlen(text), " %#x:%lu", events[i].events, (unsigned long)events[i].data.u64);
    say("%s: %d%s", what, n, text);
}

static void start(void) {
    ep = MUST(epoll_create1(0));
    MUST(pipe2(p, O_NONBLOCK));
}

PROBE(epoll_arguments) {
    struct epoll_event event;
    start();
    SHOW(epoll_create(-1));
    SHOW(epoll_create(1) > 0);
    SHOW(epoll_create1(EPOLL_CLOEXEC | 1));
    SHOW(fcntl(ep, F_GETFL));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], NULL));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, 99, NULL));
    SHOW(epoll_ctl(99, EPOLL_CTL_ADD, 99, &event));
    SHOW(epoll_ctl(ep, 0, p[0], unmapped));
    SHOW(epoll_ctl(ep, 0, p[0], &event));
    SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], unmapped));
    SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, ep, NULL));
    SHOW(control(EPOLL_CTL_MOD, p[0], EPOLLIN, 1));
    SHOW(control(EPOLL_CTL_ADD, p[0], 0, 1));
    SHOW(control(EPOLL_CTL_ADD, p[0], EPOLLIN, 1));
    SHOW(control(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLEXCLUSIVE, 1));
    SHOW(control(EPOLL_CTL_DEL, p[0], 0, 1));
    SHOW(control(EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 1));
    SHOW(control(EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLEXCLUSIVE | EPOLLRDHUP, 1));
    SHOW(control(EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLEXCLUSIVE | EPOLLET, 1));
    SHOW(control(EPOLL_CTL_MOD, p[0], EPOLLIN, 1));
    SHOW(control(EPOLL_CTL_DEL, p[0], EPOLLEXCLUSIVE, 1));
    SHOW(control(EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLWAKEUP, 1));
    SHOW(control(EPOLL_CTL_MOD, p[0], EPOLLWAKEUP | EPOLLONESHOT, 1));
    int inner = MUST(epoll_create1(0));
    SHOW(control(EPOLL_CTL_ADD, inner, EPOLLIN | EPOLLEXCLUSIVE, 1));
    SHOW(epoll_wait(ep, &event, INT_MAX, 0));
    SHOW(epoll_wait(ep, NULL, 1, 0));
    SHOW(epoll_wait(ep, kernel_half, 1, 0));
    SHOW(epoll_wait(99, &event, 1, 0));
    SHOW(epoll_wait(99, &event, 0, 0));
    SHOW(epoll_wait(p[0], &event, 0, 0));
    sigset_t mask;
    sigemptyset(&mask);
    SHOW(syscall(SYS_epoll_pwait, ep, &event, 1, 0, &mask, 4));
    SHOW(syscall(SYS_epoll_pwait, ep, &event, 1, 0, unmapped, 8));
    SHOW(syscall(SYS_epoll_pwait, ep, &event, 1, 0, NULL, 4));
    struct timespec wrong = {0, 1000000000}, none = {0, 0};
    SHOW(syscall(441, ep, &event, 1, &wrong, NULL, 0));
    SHOW(syscall(441, ep, &event, 1, &none, NULL, 0));
    SHOW(syscall(441, ep, &event, 1, unmapped, NULL, 0));
    SHOW(read(ep, &event, 1));
    SHOW(write(ep, &event, 1));
    MUST(write(p[1], "x", 1));
    SHOW(control(EPOLL_CTL_MOD, p[0], EPOLLIN, 1));
    SHOW(epoll_wait(ep, unmapped, 1, 0));
    say_events("after a fault");
}

PROBE(epoll_edges) {
    char c[10];
    start();
    MUST(control(EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLET, 1));
    MUST(control(EPOLL_CTL_ADD, p[1], EPOLLOUT | EPOLLET, 2));
    say_events("fresh");
    say_events("again");
    MUST(write(p[1], "ab", 2));
    say_events("write");
    MUST(write(p[1], "ab", 2));
    MUST(write(p[1], "ab", 2));
    say_events("two writes");
    MUST(read(p[0], c, 1));
    say_events("read 1");
    MUST(read(p[0], c, 10));
    say_events("read all");
    MUST(control(EPOLL_CTL_MOD, p[1], EPOLLOUT | EPOLLET, 3));
    say_events("modified");
    int s[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s));
    MUST(control(EPOLL_CTL_ADD, s[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 4));
    say_events("socket");
    MUST(write(s[1], "abc", 3));
    say_events("arrived");
    MUST(read(s[0], c, 1));
    say_events("part read");
    MUST(write(s[0], "abc", 3));
    say_events("own write");
    MUST(read(s[1], c, 3));
    say_events("peer read");
    MUST(shutdown(s[1], SHUT_WR));
    say_events("peer shut");
    close(s[1]);
    say_events("peer closed");
    say_events("again");
    int e = MUST(eventfd(0, EFD_NONBLOCK));
    MUST(control(EPOLL_CTL_ADD, e, EPOLLIN | EPOLLOUT | EPOLLET, 5));
    say_events("eventfd");
    MUST(write(e, &(uint64_t){1}, 8));
    say_events("eventfd written");
    MUST(write(e, &(uint64_t){1}, 8));
    say_events("eventfd written again");
    MUST(read(e, c, 8));
    say_events("eventfd read");
}

PROBE(epoll_oneshot_and_order) {
    start();
    int e[4];
    for (int i = 0; i < 4; i++) {
        e[i] = MUST(eventfd(1, 0));
        MUST(control(EPOLL_CTL_ADD, e[i], i == 3 ? EPOLLIN | EPOLLONESHOT | EPOLLET : i ? EPOLLIN : EPOLLIN | EPOLLONESHOT, i));
    }
    struct epoll_event events[2];
    for (int round = 0; round < 4; round++) {
        int n = epoll_wait(ep, events, 2, 0);
        say("%d: %lu %lu", n, (unsigned long)events[0].data.u64, n > 1 ? (unsigned long)events[1].data.u64 : 99);
    }
    MUST(control(EPOLL_CTL_MOD, e[0], EPOLLIN | EPOLLONESHOT, 10));
    say_events("armed again");
    say_events("and fired");
    MUST(control(EPOLL_CTL_MOD, e[0], 0, 10));
    say_events("nothing asked");
}

PROBE(epoll_descriptors) {
    start();
    MUST(write(p[1], "x", 1));
    MUST(control(EPOLL_CTL_ADD, p[0], EPOLLIN, 1));
    int copy = MUST(dup(p[0]));
    SHOW(control(EPOLL_CTL_ADD, copy, EPOLLIN, 2));
    say_events("both");
    close(p[0]);
    say_events("one closed");
    SHOW(control(EPOLL_CTL_DEL, p[0], 0, 0));
    int reused = MUST(dup2(MUST(eventfd(1, 0)), p[0]));
    SHOW(control(EPOLL_CTL_MOD, reused, EPOLLIN, 3));
    SHOW(control(EPOLL_CTL_ADD, reused, EPOLLIN, 4));
    say_events("number used again");
    close(copy);
    say_events("all closed");
    int ep2 = MUST(dup(ep));
    close(ep);
    ep = ep2;
    say_events("through a copy");
    pid_t pid = fork();
    if (pid == 0) {
        say_events("child");
        MUST(control(EPOLL_CTL_DEL, reused, 0, 0));
        _exit(0);
    }
    reap("child", pid);
    say_events("child took it off");
}

PROBE(epoll_nesting) {
    int chain[8];
    struct epoll_event event = {.events = EPOLLIN};
    start();
    for (int i = 0; i < 8; i++)
        chain[i] = MUST(epoll_create1(0));
    for (int i = 0; i < 7; i++)
        say("%d: %s", i, epoll_ctl(chain[i], EPOLL_CTL_ADD, chain[i + 1], &event) ? strerrorname_np(errno) : "ok");
    SHOW(epoll_ctl(chain[3], EPOLL_CTL_ADD, chain[0], &event));
    SHOW(epoll_ctl(chain[4], EPOLL_CTL_ADD, p[0], &event));
    struct pollfd one = {chain[0], POLLIN, 0};
    SHOW(poll(&one, 1, 0));
    MUST(write(p[1], "x", 1));
    SHOW(poll(&one, 1, 0));
    struct epoll_event got;
    SHOW(epoll_wait(chain[0], &got, 1, 0));
    SHOW(epoll_wait(chain[4], &got, 1, 0));
    // an epoll in an edge-triggered one
    event.events = EPOLLIN | EPOLLET;
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, chain[4], &event));
    SHOW(epoll_wait(ep, &got, 1, 0));
    SHOW(epoll_wait(ep, &got, 1, 0));
    MUST(write(p[1], "x", 1));
    SHOW(epoll_wait(ep, &got, 1, 0));
    close(chain[4]);
    SHOW(epoll_wait(ep, &got, 1, 0));
}

static volatile int woken;

static void *waiter(void *unused) {
    struct epoll_event event;
    (void)unused;
    if (epoll_wait(ep, &event, 1, 400) == 1)
        __sync_fetch_and_add(&woken, 1);
    return NULL;
}

PROBE(epoll_waiters) {
    pthread_t threads[4];
    uint32_t modes[] = {EPOLLIN | EPOLLET, EPOLLIN | EPOLLONESHOT, EPOLLIN};
    for (int mode = 0; mode < 3; mode++) {
        start();
        woken = 0;
        MUST(control(EPOLL_CTL_ADD, p[0], modes[mode], 1));
        for (int i = 0; i < 4; i++)
            pthread_create(&threads[i], NULL, waiter, NULL);
        nap_ms(100);
        MUST(write(p[1], "x", 1));
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        say("mode %d: %d woken", mode, mode == 2 ? woken > 0 : woken);
    }
}

static void *add_later(void *unused) {
    (void)unused;
    nap_ms(40);
    MUST(write(p[1], "x", 1));
    MUST(control(EPOLL_CTL_ADD, p[0], EPOLLIN, 9));
    return NULL;
}

static void *close_later(void *unused) {
    (void)unused;
    nap_ms(40);
    close(ep);
    return NULL;
}

PROBE(epoll_changed_while_waiting) {
    pthread_t thread;
    struct epoll_event event = {0};
    start();
    pthread_create(&thread, NULL, add_later, NULL);
    SHOW(epoll_wait(ep, &event, 1, 3000));
    SHOW(event.data.u64);
    pthread_join(thread, NULL);
    start();
    pthread_create(&thread, NULL, close_later, NULL);
    SHOW(epoll_wait(ep, &event, 1, 150));
    pthread_join(thread, NULL);
    struct timespec brief = {0, 30000000};
    start();
    int64_t before = now_ms();
    SHOW(syscall(441, ep, &event, 1, &brief, NULL, 0));
    FACT(now_ms() - before >= 29);
    SHOW(syscall(441, ep, &event, 1, &(struct timespec){0, 1000}, NULL, 0));
}

static int tcp_pair(int *server) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = MUST(socket(AF_INET, SOCK_STREAM, 0)), client = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(bind(listener, (void *)&address, sizeof address));
    MUST(listen(listener, 1));
    MUST(getsockname(listener, (void *)&address, &size));
    MUST(connect(client, (void *)&address, sizeof address));
    *server = MUST(accept4(listener, NULL, NULL, SOCK_NONBLOCK));
    MUST(fcntl(client, F_SETFL, O_NONBLOCK | O_RDWR));
    close(listener);
    return client;
}

// Arrivals on loopback are there when send(2) returns, but for what a busy machine puts off.
static void say_soon(const char *what) {
    struct pollfd one = {ep, POLLIN, 0};
    poll(&one, 1, 30);
    say_events(what);
}

PROBE(epoll_edges_of_inet_sockets) {
    char c[10];
    int server, client = tcp_pair(&server);
    ep = MUST(epoll_create1(0));
    MUST(control(EPOLL_CTL_ADD, server, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 1));
    say_soon("fresh");
    say_soon("again");
    MUST(send(client, "abc", 3, 0));
    say_soon("arrived");
    say_soon("again");
    MUST(read(server, c, 1));
    say_soon("part read");
    MUST(send(client, "def", 3, 0));
    say_soon("more");
    MUST(read(server, c, 10));
    MUST(send(server, "x", 1, 0));
    say_soon("own write");
    MUST(shutdown(client, SHUT_WR));
    say_soon("peer shut");
    say_soon("again");
    close(client);
    close(server);
    client = tcp_pair(&server);
    MUST(control(EPOLL_CTL_ADD, server, EPOLLIN | EPOLLET, 2));
    say_soon("only input");
    MUST(send(client, "abc", 3, 0));
    say_soon("arrived");
    MUST(control(EPOLL_CTL_MOD, server, EPOLLIN | EPOLLONESHOT, 3));
    say_soon("oneshot");
    MUST(send(client, "abc", 3, 0));
    say_soon("nothing");
    MUST(control(EPOLL_CTL_MOD, server, EPOLLIN | EPOLLET, 4));
    say_soon("armed");
    close(client);
    say_soon("closed");
    say_soon("again");
    client = tcp_pair(&server);
    MUST(control(EPOLL_CTL_ADD, server, EPOLLOUT | EPOLLET, 6));
    say_soon("only output");
    MUST(send(client, "abc", 3, 0));
    say_soon("arrived");
    static char block[65536];
    while (send(server, block, sizeof block, 0) > 0)
        continue;
    say_soon("full");
    while (recv(client, block, sizeof block, 0) > 0)
        continue;
    say_soon("drained");
    close(client);
    close(server);
    // watched before it is connected
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof to;
    int listener = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(bind(listener, (void *)&to, sizeof to));
    MUST(listen(listener, 1));
    MUST(getsockname(listener, (void *)&to, &length));
    client = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    MUST(control(EPOLL_CTL_ADD, client, EPOLLIN | EPOLLOUT | EPOLLET, 7));
    say_soon("unconnected");
    SHOW(connect(client, (void *)&to, sizeof to));
    say_soon("connected");
    say_soon("again");
    int udp = MUST(socket(AF_INET, SOCK_DGRAM, 0)), sender = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    MUST(bind(udp, (void *)&address, sizeof address));
    MUST(getsockname(udp, (void *)&address, &size));
    MUST(control(EPOLL_CTL_ADD, udp, EPOLLIN | EPOLLOUT | EPOLLET, 5));
    say_soon("udp");
    say_soon("again");
    MUST(sendto(sender, "a", 1, 0, (void *)&address, size));
    MUST(sendto(sender, "b", 1, 0, (void *)&address, size));
    say_soon("two datagrams");
    MUST(recv(udp, c, 10, 0));
    say_soon("one taken");
}
