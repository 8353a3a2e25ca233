// TCP on loopback (tcp(7)): states, resets, half-closed connections, urgent data, names and ports, options.
#include "probe.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static struct sockaddr_in local(int port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int listen_on(int port, int backlog) {
    struct sockaddr_in address = local(port);
    int one = 1, fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    MUST(bind(fd, (void *)&address, sizeof address));
    MUST(listen(fd, backlog));
    return fd;
}

static int client, server;

static void pair_at(int port) {
    struct sockaddr_in address = local(port);
    int listener = listen_on(port, 5);
    client = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(client, (void *)&address, sizeof address));
    server = MUST(accept(listener, NULL, NULL));
    close(listener);
}

// Everything poll tells, once `wanted` is there.
static void say_poll(const char *what, int fd, int wanted) {
    struct pollfd one = {fd, wanted, 0};
    poll(&one, 1, 2000);
    one.events = POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND;
    int n = poll(&one, 1, 0);
    say("%s: poll %d %#x", what, n, one.revents);
}

static void say_error(const char *what, int fd) {
    int error = 0;
    socklen_t size = sizeof error;
    MUST(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size));
    say("%s: SO_ERROR %s", what, error ? strerrorname_np(error) : "0");
}

static int state_of(int fd) {
    struct tcp_info info;
    socklen_t size = sizeof info;
    MUST(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size));
    return info.tcpi_state;
}

static void say_recv(const char *what, int fd, int flags) {
    char text[64] = "";
    ssize_t n = recv(fd, text, sizeof text - 1, flags | MSG_DONTWAIT);
    if (n < 0)
        say("%s: recv -1 %s", what, strerrorname_np(errno));
    else
        say("%s: recv %zd '%s'", what, n, text);
}

PROBE(tcp_fresh) {
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    char c;
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    say_poll("fresh", fd, 0);
    SHOW(send(fd, "x", 1, MSG_NOSIGNAL));
    SHOW(recv(fd, &c, 1, 0));
    SHOW(read(fd, &c, 1));
    SHOW(shutdown(fd, SHUT_RDWR));
    SHOW(shutdown(fd, 7));
    SHOW(accept(fd, NULL, NULL));
    SHOW(getpeername(fd, (void *)&name, &size));
    SHOW(getsockname(fd, (void *)&name, &size));
    say("%u %s %d", size, inet_ntoa(name.sin_addr), name.sin_port);
    SHOW(state_of(fd));
    SHOW(listen(fd, 1));
    SHOW(state_of(fd));
    say_poll("listening", fd, 0);
    SHOW(getsockname(fd, (void *)&name, &size));
    FACT(ntohs(name.sin_port) >= 32768 && ntohs(name.sin_port) <= 60999);
    SHOW(connect(fd, (void *)&name, sizeof name));
    SHOW(recv(fd, &c, 1, MSG_DONTWAIT));
    SHOW(send(fd, &c, 1, MSG_DONTWAIT | MSG_NOSIGNAL));
    SHOW(bind(fd, (void *)&name, sizeof name));
    int value;
    SHOW(ioctl(fd, FIONREAD, &value));
    SHOW(ioctl(fd, SIOCOUTQ, &value));
    SHOW(ioctl(fd, SIOCATMARK, &value));
    SHOW(ioctl(fd, TCGETS, &value));
    SHOW(ioctl(fd, SIOCGSTAMP, &value));
    SHOW(ioctl(fd, 0x8999, &value));
    SHOW(shutdown(fd, SHUT_RD));
    SHOW(state_of(fd));
    say_poll("shut", fd, 0);
}

PROBE(tcp_addresses) {
    struct sockaddr_in address = local(0), got;
    socklen_t size = sizeof got;
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(bind(fd, (void *)&address, 15));
    SHOW(bind(fd, (void *)&address, 1));
    SHOW(bind(fd, (void *)&address, 0));
    SHOW(bind(fd, NULL, 16));
    address.sin_family = AF_UNIX;
    SHOW(bind(fd, (void *)&address, sizeof address));
    address.sin_family = AF_INET6;
    SHOW(bind(fd, (void *)&address, sizeof address));
    address.sin_family = AF_UNSPEC;
    SHOW(bind(fd, (void *)&address, sizeof address));
    address = local(0);
    address.sin_addr.s_addr = htonl(0x08080808);
    SHOW(bind(fd, (void *)&address, sizeof address));
    address.sin_port = htons(80);
    SHOW(bind(fd, (void *)&address, sizeof address));
    address = local(4200);
    SHOW(bind(fd, (void *)&address, sizeof address));
    SHOW(bind(fd, (void *)&address, sizeof address));
    SHOW(getsockname(fd, (void *)&got, &size));
    say("%s %d", inet_ntoa(got.sin_addr), ntohs(got.sin_port));
    int other = MUST(socket(AF_INET, SOCK_STREAM, 0)), one = 1;
    SHOW(bind(other, (void *)&address, sizeof address));
    MUST(setsockopt(other, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    SHOW(bind(other, (void *)&address, sizeof address));
    MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    SHOW(bind(other, (void *)&address, sizeof address));
    SHOW(listen(fd, 1));
    SHOW(listen(other, 1));
    size = 3;
    SHOW(getsockname(fd, (void *)&got, &size));
    SHOW(size);
    SHOW(connect(other, (void *)&address, 15));
    SHOW(connect(other, (void *)&address, 1));
    address.sin_family = AF_UNIX;
    SHOW(connect(other, (void *)&address, sizeof address));
    address.sin_family = AF_UNSPEC;
    SHOW(connect(other, (void *)&address, sizeof address));
    address = local(4201);
    SHOW(connect(MUST(socket(AF_INET, SOCK_STREAM, 0)), (void *)&address, sizeof address));
    address.sin_port = 0;
    SHOW(connect(MUST(socket(AF_INET, SOCK_STREAM, 0)), (void *)&address, sizeof address));
    address.sin_addr.s_addr = htonl(0x08080808);
    address.sin_port = htons(1);
    SHOW(connect(MUST(socket(AF_INET, SOCK_STREAM, 0)), (void *)&address, sizeof address));
    address.sin_addr.s_addr = INADDR_BROADCAST;
    SHOW(connect(MUST(socket(AF_INET, SOCK_STREAM, 0)), (void *)&address, sizeof address));
    address.sin_addr.s_addr = htonl(0x7f010203);
    address.sin_port = htons(4200);
    SHOW(connect(MUST(socket(AF_INET, SOCK_STREAM, 0)), (void *)&address, sizeof address));
    SHOW(bind(MUST(socket(AF_INET, SOCK_STREAM, 0)), (void *)&address, sizeof address));
}

static void unprivileged_port(void) {
    MUST(setuid(1234));
    struct sockaddr_in address = local(80);
    SHOW(bind(MUST(socket(AF_INET, SOCK_STREAM, 0)), (void *)&address, sizeof address));
    SHOW(bind(MUST(socket(AF_INET, SOCK_DGRAM, 0)), (void *)&address, sizeof address));
    address.sin_port = htons(1024);
    SHOW(bind(MUST(socket(AF_INET, SOCK_STREAM, 0)), (void *)&address, sizeof address));
    SHOW(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    SHOW(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
    SHOW(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
    SHOW(socket(AF_PACKET, SOCK_RAW, 0));
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "", 0));
    int one = 1;
    SHOW(setsockopt(fd, SOL_SOCKET, SO_MARK, &one, 4));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &one, 4));
    one = 7;
    SHOW(setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &one, 4));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_DEBUG, &one, 4));
    SHOW(setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &one, 4));
    SHOW(setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, 4));
}

PROBE(inet_unprivileged) { in_child("user", unprivileged_port); }

PROBE(tcp_half_close) {
    pair_at(4210);
    SHOW(send(client, "before", 6, 0));
    SHOW(shutdown(client, SHUT_WR));
    SHOW(state_of(client) == TCP_FIN_WAIT1 || state_of(client) == TCP_FIN_WAIT2);
    say_poll("server", server, POLLRDHUP);
    say_recv("server", server, 0);
    say_recv("server", server, 0);
    SHOW(state_of(server));
    SHOW(send(server, "back", 4, 0));
    say_poll("client", client, POLLIN);
    say_recv("client", client, 0);
    SHOW(send(client, "x", 1, MSG_NOSIGNAL));
    SHOW(shutdown(client, SHUT_WR));
    SHOW(shutdown(client, SHUT_RD));
    say_poll("client", client, POLLIN);
    say_recv("client", client, 0);
    SHOW(close(server));
    say_poll("client", client, POLLHUP);
    say_recv("client", client, 0);
    say_error("client", client);
    SHOW(state_of(client));
    SHOW(shutdown(client, SHUT_RDWR));
}

PROBE(tcp_reset) {
    pair_at(4220);
    MUST(send(client, "unread", 6, 0));
    say_poll("server", server, POLLIN);
    close(server); // with unread data: a reset
    say_poll("client", client, POLLERR);
    say_recv("client", client, 0);
    say_recv("client", client, 0);
    SHOW(send(client, "x", 1, MSG_NOSIGNAL));
    say_error("client", client);
    pair_at(4221);
    struct linger now = {1, 0};
    MUST(send(server, "last words", 10, 0));
    say_poll("client", client, POLLIN);
    MUST(setsockopt(server, SOL_SOCKET, SO_LINGER, &now, sizeof now));
    close(server);
    say_poll("client", client, POLLERR);
    say_error("client", client);
    say_recv("client", client, 0);
    say_poll("client", client, POLLERR);
    pair_at(4222);
    close(server);
    say_poll("client", client, POLLIN);
    SHOW(send(client, "x", 1, MSG_NOSIGNAL));
    say_poll("client", client, POLLERR);
    count_signal(SIGPIPE, 0);
    SHOW(send(client, "x", 1, 0));
    SHOW(handled);
    SHOW(write(client, "x", 1));
    SHOW(handled);
    say_recv("client", client, 0);
    SHOW(state_of(client));
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    SHOW(getpeername(client, (void *)&name, &size));
    SHOW(getsockname(client, (void *)&name, &size));
    int old = client;
    pair_at(4223);
    struct sockaddr_in address = local(4223);
    SHOW(connect(client, (void *)&address, sizeof address));
    (void)old;
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    SHOW(connect(client, &none, sizeof none)); // disconnects
    say_poll("server", server, POLLERR);
    say_recv("server", server, 0);
    SHOW(state_of(client));
    SHOW(getpeername(client, (void *)&name, &size));
}

PROBE(tcp_connect_later) {
    struct sockaddr_in address = local(4230);
    int listener = listen_on(4230, 5);
    client = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    SHOW(connect(client, (void *)&address, sizeof address));
    say_poll("client", client, POLLOUT);
    say_error("client", client);
    SHOW(connect(client, (void *)&address, sizeof address));
    SHOW(connect(client, (void *)&address, sizeof address));
    server = MUST(accept4(listener, NULL, NULL, SOCK_NONBLOCK));
    SHOW(fcntl(server, F_GETFL));
    say_recv("server", server, 0);
    SHOW(accept4(listener, NULL, NULL, 0x4) );
    MUST(fcntl(listener, F_SETFL, O_NONBLOCK));
    SHOW(accept(listener, NULL, NULL));
    address = local(4231);
    client = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    SHOW(connect(client, (void *)&address, sizeof address));
    say_poll("refused", client, POLLOUT);
    SHOW(connect(client, (void *)&address, sizeof address));
    SHOW(connect(client, (void *)&address, sizeof address));
    say_poll("refused", client, POLLOUT);
    say_error("refused", client);
    say_recv("refused", client, 0);
    SHOW(send(client, "x", 1, MSG_NOSIGNAL));
}

PROBE(tcp_urgent) {
    int mark = -1, one = 1;
    char text[20];
    pair_at(4240);
    SHOW(send(client, "abc", 3, 0));
    SHOW(send(client, "de!", 3, MSG_OOB));
    SHOW(send(client, "fgh", 3, 0));
    say_poll("server", server, POLLPRI);
    SHOW(recv(server, text, 1, MSG_OOB | MSG_PEEK));
    SHOW(ioctl(server, SIOCATMARK, &mark));
    SHOW(mark);
    say_recv("up to the mark", server, 0);
    SHOW(ioctl(server, SIOCATMARK, &mark));
    SHOW(mark);
    text[0] = 0;
    SHOW(recv(server, text, 20, MSG_OOB));
    say("%c", text[0]);
    SHOW(recv(server, text, 20, MSG_OOB));
    say_recv("behind", server, 0);
    say_poll("server", server, 0);
    SHOW(setsockopt(server, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one));
    SHOW(send(client, "x", 1, MSG_OOB));
    say_poll("server", server, POLLPRI);
    SHOW(recv(server, text, 20, MSG_OOB));
    say_recv("inline", server, 0);
    SHOW(send(client, "", 0, MSG_OOB));
}

PROBE(tcp_receive_flags) {
    char text[20];
    pair_at(4250);
    MUST(send(client, "abcdefghij", 10, 0));
    say_poll("server", server, POLLIN);
    SHOW(recv(server, text, 4, MSG_PEEK));
    SHOW(recv(server, text, 20, MSG_PEEK));
    SHOW(recv(server, NULL, 3, MSG_TRUNC));
    SHOW(recv(server, text, 2, MSG_WAITALL));
    SHOW(recv(server, text, 0, 0));
    say_recv("rest", server, 0);
    SHOW(recv(server, text, 5, MSG_DONTWAIT | MSG_WAITALL));
    SHOW(recv(server, text, 5, MSG_DONTWAIT | MSG_ERRQUEUE));
    SHOW(send(client, "", 0, 0));
    SHOW(send(client, unmapped, 3, 0));
    say_recv("nothing", server, 0);
    int cork = 1;
    MUST(setsockopt(client, IPPROTO_TCP, TCP_CORK, &cork, sizeof cork));
    MUST(send(client, "cork", 4, 0));
    say_recv("corked", server, 0);
    cork = 0;
    MUST(setsockopt(client, IPPROTO_TCP, TCP_CORK, &cork, sizeof cork));
    say_poll("uncorked", server, POLLIN);
    say_recv("uncorked", server, 0);
    struct sockaddr_in name = local(1);
    SHOW(sendto(client, "named", 5, 0, (void *)&name, sizeof name));
    socklen_t size = sizeof name;
    say_poll("server", server, POLLIN);
    SHOW(recvfrom(server, text, 20, 0, (void *)&name, &size));
    SHOW(size);
    int low = 6;
    MUST(setsockopt(server, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
    MUST(send(client, "four", 4, 0));
    nap_ms(20);
    say_poll("low water", server, 0);
    MUST(send(client, "more", 4, 0));
    say_poll("low water", server, POLLIN);
    say_recv("low water", server, 0);
}
