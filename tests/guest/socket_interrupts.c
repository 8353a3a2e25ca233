// Signals that meet a waiting socket call: EINTR, restart, and what was done already.
#include "probe.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

static int s[2];
static char block[300000];

static void soon(int flags) {
    struct itimerval once = {{0, 0}, {0, 30000}};
    count_signal(SIGALRM, flags);
    MUST(setitimer(ITIMER_REAL, &once, NULL));
}

static int listen_unix(int backlog) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "sock"};
    unlink("sock");
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(bind(fd, (void *)&address, sizeof address));
    MUST(listen(fd, backlog));
    return fd;
}

static int listen_tcp(struct sockaddr_in *address) {
    socklen_t size = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(bind(fd, (void *)address, sizeof *address));
    MUST(listen(fd, 5));
    MUST(getsockname(fd, (void *)address, &size));
    return fd;
}

static void fill(int fd) {
    while (send(fd, block, 1000, MSG_DONTWAIT) > 0)
        continue;
}

PROBE(interrupted_socket_calls) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "sock"};
    struct sockaddr_in tcp;
    struct pollfd one = {-1, POLLIN, 0};
    struct epoll_event event;
    char c;
    int listener = listen_unix(0), client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    soon(0);
    SHOW(accept(listener, NULL, NULL));
    MUST(connect(client, (void *)&address, sizeof address));
    soon(0);
    SHOW(connect(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), (void *)&address, sizeof address));
    soon(0);
    SHOW(accept(listen_tcp(&tcp), NULL, NULL));
    for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
        MUST(socketpair(AF_UNIX, type, 0, s));
        soon(0);
        SHOW(recv(s[0], &c, 1, 0));
        soon(0);
        SHOW(read(s[0], &c, 1));
        soon(0);
        SHOW(recvmsg(s[0], &(struct msghdr){0}, 0));
        soon(0);
        SHOW(recvmmsg(s[0], &(struct mmsghdr){0}, 1, 0, NULL));
        fill(s[0]);
        soon(0);
        SHOW(send(s[0], block, 1000, 0));
        soon(0);
        SHOW(write(s[0], block, 1000));
    }
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    MUST(send(s[1], "abc", 3, 0));
    soon(0);
    SHOW(recv(s[0], block, 10, MSG_WAITALL));
    soon(0);
    long sent = send(s[0], block, sizeof block, 0);
    FACT(sent > 1000 && sent < (long)sizeof block);
    listener = listen_tcp(&tcp);
    s[0] = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(s[0], (void *)&tcp, sizeof tcp));
    s[1] = MUST(accept(listener, NULL, NULL));
    soon(0);
    SHOW(recv(s[0], &c, 1, 0));
    MUST(send(s[1], "abc", 3, 0));
    soon(0);
    SHOW(recv(s[0], block, 10, MSG_WAITALL));
    fill(s[0]);
    soon(0);
    SHOW(send(s[0], block, 1000, 0) < 1000);
    int udp = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    soon(0);
    SHOW(recv(udp, &c, 1, 0));
    soon(SA_RESTART);
    SHOW(poll(&one, 1, -1));
    soon(SA_RESTART);
    SHOW(epoll_wait(MUST(epoll_create1(0)), &event, 1, -1));
    SHOW(handled);
}

static void *give_later(void *fd) {
    nap_ms(100);
    MUST(send((int)(long)fd, "late", 4, 0));
    return NULL;
}

static void restarted(int one, int other) {
    pthread_t thread;
    sigset_t alarm_only;
    char text[10] = "";
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm_only, NULL); // so that this thread, not the other, takes the signal
    pthread_create(&thread, NULL, give_later, (void *)(long)other);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    soon(SA_RESTART);
    SHOW(recv(one, text, sizeof text, 0));
    say("%s, signals %d", text, handled);
    pthread_join(thread, NULL);
}

PROBE(restarted_socket_calls) {
    struct sockaddr_in tcp;
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    restarted(s[0], s[1]);
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s));
    restarted(s[0], s[1]);
    int listener = listen_tcp(&tcp);
    s[0] = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(s[0], (void *)&tcp, sizeof tcp));
    s[1] = MUST(accept(listener, NULL, NULL));
    restarted(s[0], s[1]);
}

static void *close_it(void *fd) {
    nap_ms(40);
    close((int)(long)fd);
    return NULL;
}

static void *shut_it(void *fd) {
    nap_ms(40);
    shutdown((int)(long)fd, SHUT_RDWR);
    return NULL;
}

// What another thread does to the socket that one waits on.
PROBE(socket_closed_while_waiting) {
    pthread_t thread;
    struct sockaddr_in tcp;
    struct timeval brief = {0, 150000};
    char c;
    int listener = listen_unix(5);
    pthread_create(&thread, NULL, shut_it, (void *)(long)listener);
    SHOW(accept(listener, NULL, NULL));
    pthread_join(thread, NULL);
    listener = listen_tcp(&tcp);
    pthread_create(&thread, NULL, shut_it, (void *)(long)listener);
    SHOW(accept(listener, NULL, NULL));
    pthread_join(thread, NULL);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    pthread_create(&thread, NULL, shut_it, (void *)(long)s[0]);
    SHOW(recv(s[0], &c, 1, 0));
    pthread_join(thread, NULL);
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    pthread_create(&thread, NULL, shut_it, (void *)(long)s[0]);
    SHOW(recv(s[0], &c, 1, 0));
    pthread_join(thread, NULL);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    MUST(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief));
    pthread_create(&thread, NULL, close_it, (void *)(long)s[0]);
    SHOW(recv(s[0], &c, 1, 0)); // the wait holds the socket
    SHOW(recv(s[0], &c, 1, 0));
    pthread_join(thread, NULL);
    listener = listen_tcp(&tcp);
    s[0] = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(s[0], (void *)&tcp, sizeof tcp));
    s[1] = MUST(accept(listener, NULL, NULL));
    MUST(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief));
    pthread_create(&thread, NULL, shut_it, (void *)(long)s[0]);
    SHOW(recv(s[0], &c, 1, 0));
    pthread_join(thread, NULL);
    pthread_create(&thread, NULL, close_it, (void *)(long)s[1]);
    SHOW(recv(s[1], &c, 1, 0));
    pthread_join(thread, NULL);
    int udp = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(connect(udp, (void *)&tcp, sizeof tcp));
    pthread_create(&thread, NULL, shut_it, (void *)(long)udp);
    SHOW(recv(udp, &c, 1, 0));
    pthread_join(thread, NULL);
}
