// The rarer sides of inet sockets: fast open, deferred accepts, error queues, raw headers, reuse of ports, IPv6 addresses.
#include "probe.h"
#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <linux/icmpv6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static struct sockaddr_in address;
static socklen_t size;

static int bound(int type, int port) {
    int fd = MUST(socket(AF_INET, type, 0));
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    size = sizeof address;
    MUST(bind(fd, (void *)&address, sizeof address));
    MUST(getsockname(fd, (void *)&address, &size));
    return fd;
}

static bool readable(int fd) {
    struct pollfd one = {fd, POLLIN, 0};
    return poll(&one, 1, 500) == 1;
}

PROBE(tcp_fast_open) {
    char text[20] = "";
    int backlog = 5, listener = bound(SOCK_STREAM, 0), client = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(setsockopt(listener, IPPROTO_TCP, TCP_FASTOPEN, &backlog, sizeof backlog));
    MUST(listen(listener, 5));
    SHOW(sendto(client, "fast", 4, MSG_FASTOPEN, (void *)&address, sizeof address));
    int server = MUST(accept(listener, NULL, NULL));
    FACT(readable(server));
    SHOW(recv(server, text, sizeof text, 0));
    say("%s", text);
    SHOW(sendto(client, "again", 5, MSG_FASTOPEN, (void *)&address, sizeof address));
}

PROBE(tcp_deferred_accept) {
    int seconds = 1, listener = bound(SOCK_STREAM, 0), client = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds));
    MUST(listen(listener, 5));
    MUST(connect(client, (void *)&address, sizeof address));
    struct pollfd one = {listener, POLLIN, 0};
    SHOW(poll(&one, 1, 50));
    MUST(send(client, "x", 1, 0));
    SHOW(poll(&one, 1, 500));
}

PROBE(tcp_options_of_connections) {
    struct tcp_info info;
    int one = 1, listener = bound(SOCK_STREAM, 0), client = MUST(socket(AF_INET, SOCK_STREAM, 0)), value;
    MUST(setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one));
    MUST(setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    MUST(setsockopt(listener, SOL_SOCKET, SO_LINGER, &(struct linger){1, 3}, sizeof(struct linger)));
    MUST(setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){4, 0}, sizeof(struct timeval)));
    MUST(listen(listener, 5));
    MUST(connect(client, (void *)&address, sizeof address));
    int server = MUST(accept(listener, NULL, NULL));
    int names[][2] = {{SOL_SOCKET, SO_KEEPALIVE}, {IPPROTO_TCP, TCP_NODELAY}, {SOL_SOCKET, SO_REUSEADDR}, {SOL_SOCKET, SO_ACCEPTCONN}, {SOL_SOCKET, SO_TYPE}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size = sizeof value;
        SHOW(getsockopt(server, names[i][0], names[i][1], &value, &size));
        SHOW(value);
    }
    struct linger linger;
    size = sizeof linger;
    SHOW(getsockopt(server, SOL_SOCKET, SO_LINGER, &linger, &size));
    say("%d %d", linger.l_onoff, linger.l_linger);
    struct timeval time;
    size = sizeof time;
    SHOW(getsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &time, &size));
    SHOW(time.tv_sec);
    size = sizeof info;
    SHOW(getsockopt(server, IPPROTO_TCP, TCP_INFO, &info, &size));
    SHOW(info.tcpi_state);
    size = 10;
    SHOW(getsockopt(server, IPPROTO_TCP, TCP_INFO, &info, &size));
    SHOW(size);
    char name[16] = "";
    size = sizeof name;
    SHOW(setsockopt(client, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
    SHOW(getsockopt(client, IPPROTO_TCP, TCP_CONGESTION, name, &size));
    say("%s %u", name, size);
    SHOW(setsockopt(client, IPPROTO_TCP, TCP_CONGESTION, "none-such", 9));
    SHOW(setsockopt(client, IPPROTO_TCP, TCP_MAXSEG, &one, sizeof one));
}

PROBE(inet_reuse_port) {
    int one = 1, a = MUST(socket(AF_INET, SOCK_STREAM, 0)), b = MUST(socket(AF_INET, SOCK_STREAM, 0)), c = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(setsockopt(a, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one));
    MUST(setsockopt(b, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one));
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    MUST(bind(a, (void *)&address, sizeof address));
    size = sizeof address;
    MUST(getsockname(a, (void *)&address, &size));
    SHOW(bind(b, (void *)&address, sizeof address));
    SHOW(bind(c, (void *)&address, sizeof address));
    SHOW(listen(a, 50));
    SHOW(listen(b, 50));
    int got = 0;
    for (int i = 0; i < 20; i++)
        MUST(connect(MUST(socket(AF_INET, SOCK_STREAM, 0)), (void *)&address, sizeof address));
    MUST(fcntl(a, F_SETFL, O_NONBLOCK));
    MUST(fcntl(b, F_SETFL, O_NONBLOCK));
    nap_ms(20);
    while (accept(a, NULL, NULL) >= 0 || accept(b, NULL, NULL) >= 0)
        got++;
    SHOW(got);
}

PROBE(raw_own_header) {
    struct {
        struct iphdr ip;
        struct udphdr udp;
        char text[4];
    } packet = {.ip = {.version = 4, .ihl = 5, .ttl = 9, .protocol = IPPROTO_UDP}, .text = "raw"};
    char text[20] = "";
    int udp = bound(SOCK_DGRAM, 0), raw = OK(socket(AF_INET, SOCK_RAW, IPPROTO_RAW)), one = 1;
    MUST(setsockopt(udp, IPPROTO_IP, IP_RECVTTL, &one, sizeof one));
    packet.ip.saddr = packet.ip.daddr = htonl(INADDR_LOOPBACK);
    packet.udp.dest = address.sin_port;
    packet.udp.source = htons(77);
    packet.udp.len = htons(12);
    SHOW(sendto(raw, &packet, sizeof packet, 0, (void *)&address, sizeof address));
    FACT(readable(udp));
    struct sockaddr_in from;
    size = sizeof from;
    SHOW(recvfrom(udp, text, sizeof text, 0, (void *)&from, &size));
    say("%s from %d", text, ntohs(from.sin_port));
    SHOW(sendto(raw, &packet, 10, 0, (void *)&address, sizeof address));
}

PROBE(raw_icmpv6) {
    struct sockaddr_in6 self = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct icmp6hdr echo = {.icmp6_type = ICMPV6_ECHO_REQUEST}, got;
    int fd = OK(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
    uint32_t filter[8];
    memset(filter, 0xff, sizeof filter);
    filter[ICMPV6_ECHO_REPLY >> 5] &= ~(1u << (ICMPV6_ECHO_REPLY & 31));
    SHOW(setsockopt(fd, IPPROTO_ICMPV6, 1, filter, sizeof filter));
    SHOW(sendto(fd, &echo, sizeof echo, 0, (void *)&self, sizeof self));
    FACT(readable(fd));
    SHOW(recv(fd, &got, sizeof got, 0));
    SHOW(got.icmp6_type);
    SHOW(recv(fd, &got, sizeof got, MSG_DONTWAIT));
}

static void say_queue(const char *what, int fd) {
    char control[512], text[64];
    struct iovec part = {text, sizeof text};
    struct sockaddr_in6 from;
    struct msghdr message = {&from, sizeof from, &part, 1, control, sizeof control, 0};
    ssize_t n = recvmsg(fd, &message, MSG_ERRQUEUE);
    if (n < 0) {
        say("%s: %s", what, strerrorname_np(errno));
        return;
    }
    say("%s: %zd flags %#x", what, n, message.msg_flags);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        struct sock_extended_err *e = (void *)CMSG_DATA(c);
        if (c->cmsg_level == SOL_SOCKET)
            say("  stamp type %d size %zu", c->cmsg_type, c->cmsg_len - CMSG_LEN(0));
        else
            say("  level %d type %d errno %u origin %u code %u", c->cmsg_level, c->cmsg_type, e->ee_errno, e->ee_origin, e->ee_code);
    }
}

PROBE(error_queues) {
    struct sockaddr_in6 nobody = {.sin6_family = AF_INET6, .sin6_port = htons(5998), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int one = 1, fd = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    struct pollfd ready = {fd, POLLIN, 0};
    SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &one, sizeof one));
    SHOW(sendto(fd, "six", 3, 0, (void *)&nobody, sizeof nobody));
    SHOW(poll(&ready, 1, 500));
    say("%#x", ready.revents);
    say_queue("refused", fd);
    say_queue("empty", fd);
    SHOW(poll(&ready, 1, 0));
    // time stamps of what is sent
    int udp = bound(SOCK_DGRAM, 0), sender = MUST(socket(AF_INET, SOCK_DGRAM, 0)), stamps = 0x12 | 1 << 4; // TX_SOFTWARE, SOFTWARE
    SHOW(setsockopt(sender, SOL_SOCKET, SO_TIMESTAMPING, &stamps, sizeof stamps));
    SHOW(sendto(sender, "stamp", 5, 0, (void *)&address, sizeof address));
    ready.fd = sender;
    ready.events = 0;
    SHOW(poll(&ready, 1, 500));
    say("%#x", ready.revents);
    say_queue("stamp", sender);
    FACT(readable(udp));
}

PROBE(ipv6_addresses) {
    struct sockaddr_in6 any = {.sin6_family = AF_INET6}, mapped = {.sin6_family = AF_INET6}, got;
    char shown[60];
    int one = 1, listener = MUST(socket(AF_INET6, SOCK_STREAM, 0)), client = MUST(socket(AF_INET6, SOCK_STREAM, 0));
    MUST(bind(listener, (void *)&any, sizeof any));
    MUST(listen(listener, 5));
    size = sizeof any;
    MUST(getsockname(listener, (void *)&any, &size));
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &mapped.sin6_addr);
    mapped.sin6_port = any.sin6_port;
    SHOW(connect(client, (void *)&mapped, sizeof mapped));
    size = sizeof got;
    int server = MUST(accept(listener, (void *)&got, &size));
    say("%u %s", size, inet_ntop(AF_INET6, &got.sin6_addr, shown, sizeof shown));
    size = sizeof got;
    MUST(getsockname(server, (void *)&got, &size));
    say("%u %s", size, inet_ntop(AF_INET6, &got.sin6_addr, shown, sizeof shown));
    int only = MUST(socket(AF_INET6, SOCK_STREAM, 0));
    MUST(setsockopt(only, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one));
    SHOW(connect(only, (void *)&mapped, sizeof mapped));
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = any.sin6_port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    SHOW(connect(MUST(socket(AF_INET6, SOCK_STREAM, 0)), (void *)&four, sizeof four));
    SHOW(bind(MUST(socket(AF_INET6, SOCK_STREAM, 0)), (void *)&four, sizeof four));
    SHOW(bind(MUST(socket(AF_INET, SOCK_STREAM, 0)), (void *)&mapped, sizeof mapped));
    SHOW(setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one));
    inet_pton(AF_INET6, "fe80::1234", &mapped.sin6_addr);
    SHOW(bind(MUST(socket(AF_INET6, SOCK_DGRAM, 0)), (void *)&mapped, sizeof mapped));
    mapped.sin6_scope_id = 99;
    SHOW(bind(MUST(socket(AF_INET6, SOCK_DGRAM, 0)), (void *)&mapped, sizeof mapped));
    inet_pton(AF_INET6, "ff02::1", &mapped.sin6_addr);
    mapped.sin6_scope_id = 1;
    SHOW(sendto(MUST(socket(AF_INET6, SOCK_DGRAM, 0)), "x", 1, 0, (void *)&mapped, sizeof mapped));
    struct ipv6_mreq group = {.ipv6mr_multiaddr = mapped.sin6_addr, .ipv6mr_interface = 1};
    int udp = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    SHOW(setsockopt(udp, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &group, sizeof group));
    SHOW(setsockopt(udp, IPPROTO_IPV6, IPV6_DROP_MEMBERSHIP, &group, sizeof group));
    SHOW(setsockopt(udp, IPPROTO_IPV6, IPV6_DROP_MEMBERSHIP, &group, sizeof group));
}
