// UDP, ping and raw sockets on loopback (udp(7), ip(7), ipv6(7), icmp(7), raw(7)), their control messages.
#include "probe.h"
#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/socket.h>

static struct sockaddr_in at(uint32_t host, int port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(host)};
}

static int udp_at(int port) {
    struct sockaddr_in address = at(INADDR_LOOPBACK, port);
    int fd = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(bind(fd, (void *)&address, sizeof address));
    return fd;
}

static void say_poll(const char *what, int fd, int wanted) {
    struct pollfd one = {fd, wanted, 0};
    poll(&one, 1, wanted ? 2000 : 0);
    one.events = POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND;
    int n = poll(&one, 1, 0);
    say("%s: poll %d %#x", what, n, one.revents);
}

static void say_name(const char *what, int fd, bool peer) {
    struct sockaddr_in name = {0};
    socklen_t size = sizeof name;
    if (peer ? getpeername(fd, (void *)&name, &size) : getsockname(fd, (void *)&name, &size))
        say("%s: %s", what, strerrorname_np(errno));
    else
        say("%s: %u %s %d", what, size, inet_ntoa(name.sin_addr), ntohs(name.sin_port) > 32000 ? -1 : ntohs(name.sin_port));
}

// Receives a message and tells its control messages; values that do not vary are shown.
static void receive(const char *what, int fd, int flags, size_t room) {
    static char control[1000], text[70000];
    struct sockaddr_storage from;
    struct iovec part = {text, sizeof text};
    struct msghdr message = {&from, sizeof from, &part, 1, control, room, 0};
    memset(text, 0, 100);
    ssize_t n = recvmsg(fd, &message, flags);
    if (n < 0) {
        say("%s: -1 %s", what, strerrorname_np(errno));
        return;
    }
    say("%s: %zd '%.20s' flags %#x name %u control %zu", what, n, text, message.msg_flags, message.msg_namelen, message.msg_controllen);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        char shown[200] = "";
        for (size_t i = CMSG_LEN(0); i < c->cmsg_len && i < 70 && c->cmsg_level != SOL_SOCKET; i++)
            sprintf(shown + strlen(shown), "%02x", ((unsigned char *)c)[i]);
        say("  level %d type %d size %zu %s", c->cmsg_level, c->cmsg_type, c->cmsg_len - CMSG_LEN(0), shown);
    }
}

PROBE(udp_connect) {
    int a = udp_at(5100), b = udp_at(5101), fd = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_in to = at(INADDR_LOOPBACK, 5101), other = at(INADDR_LOOPBACK, 5100);
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    say_poll("fresh", fd, 0);
    say_name("fresh", fd, false);
    SHOW(connect(fd, (void *)&to, sizeof to));
    say_name("connected", fd, false);
    say_name("peer", fd, true);
    SHOW(send(fd, "one", 3, 0));
    SHOW(sendto(fd, "two", 3, 0, (void *)&other, sizeof other));
    receive("b", b, MSG_DONTWAIT, 0);
    receive("a", a, MSG_DONTWAIT, 0);
    SHOW(connect(fd, (void *)&other, sizeof other));
    say_name("peer", fd, true);
    SHOW(connect(fd, &none, sizeof none));
    say_name("peer", fd, true);
    say_name("after", fd, false);
    SHOW(send(fd, "x", 1, 0));
    SHOW(connect(fd, (void *)&to, 4));
    SHOW(connect(fd, (void *)&to, 15));
    SHOW(sendto(fd, "x", 1, 0, (void *)&to, 15));
    SHOW(sendto(fd, "x", 1, 0, (void *)&none, sizeof none));
    to.sin_family = AF_UNIX;
    SHOW(sendto(fd, "x", 1, 0, (void *)&to, sizeof to));
    SHOW(connect(fd, (void *)&to, sizeof to));
    to = at(INADDR_LOOPBACK, 0);
    SHOW(sendto(fd, "x", 1, 0, (void *)&to, sizeof to));
    to = at(0x08080808, 53);
    SHOW(sendto(fd, "x", 1, 0, (void *)&to, sizeof to));
    SHOW(connect(fd, (void *)&to, sizeof to));
    to = at(INADDR_BROADCAST, 5100);
    SHOW(sendto(fd, "x", 1, 0, (void *)&to, sizeof to));
    SHOW(connect(fd, (void *)&to, sizeof to));
    int one = 1;
    MUST(setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one));
    SHOW(sendto(fd, "x", 1, 0, (void *)&to, sizeof to));
    SHOW(listen(fd, 1));
    SHOW(accept(fd, NULL, NULL));
    SHOW(send(fd, "x", 1, MSG_OOB));
    SHOW(recv(fd, &one, 1, MSG_OOB | MSG_DONTWAIT));
    SHOW(shutdown(fd, SHUT_RDWR));
    SHOW(bind(b, (void *)&other, sizeof other));
    SHOW(bind(fd, (void *)&other, sizeof other));
}

PROBE(udp_refused) {
    struct sockaddr_in nobody = at(INADDR_LOOPBACK, 5110);
    int fd = MUST(socket(AF_INET, SOCK_DGRAM, 0)), one = 1, error;
    socklen_t size = sizeof error;
    MUST(connect(fd, (void *)&nobody, sizeof nobody));
    SHOW(send(fd, "x", 1, 0));
    say_poll("refused", fd, POLLERR);
    SHOW(send(fd, "x", 1, 0));
    SHOW(send(fd, "x", 1, 0));
    say_poll("refused", fd, POLLERR);
    SHOW(recv(fd, &error, 1, MSG_DONTWAIT));
    SHOW(recv(fd, &error, 1, MSG_DONTWAIT));
    SHOW(send(fd, "x", 1, 0));
    say_poll("refused", fd, POLLERR);
    MUST(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size));
    FACT(error == ECONNREFUSED);
    say_poll("told", fd, 0);
    SHOW(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &one, sizeof one));
    SHOW(send(fd, "error", 5, 0));
    say_poll("queue", fd, POLLERR);
    receive("queue", fd, MSG_ERRQUEUE, 500);
    receive("queue", fd, MSG_ERRQUEUE, 500);
    receive("data", fd, MSG_DONTWAIT, 500);
}

PROBE(udp_messages) {
    int a = udp_at(5120), b = udp_at(5121), amount = -1;
    struct sockaddr_in to = at(INADDR_LOOPBACK, 5121);
    static char big[65507], text[65536];
    MUST(connect(a, (void *)&to, sizeof to));
    SHOW(send(a, "", 0, 0));
    SHOW(send(a, "five5", 5, 0));
    SHOW(ioctl(b, FIONREAD, &amount));
    SHOW(amount);
    receive("empty", b, 0, 0);
    SHOW(ioctl(b, FIONREAD, &amount));
    SHOW(amount);
    SHOW(ioctl(b, SIOCOUTQ, &amount));
    SHOW(amount);
    SHOW(recv(b, text, 2, MSG_PEEK));
    SHOW(recv(b, text, 2, MSG_PEEK | MSG_TRUNC));
    SHOW(recv(b, text, 0, MSG_TRUNC));
    SHOW(recv(b, text, 5, MSG_DONTWAIT));
    SHOW(send(a, big, sizeof big, 0));
    SHOW(recv(b, text, sizeof text, MSG_WAITALL));
    SHOW(send(a, big, sizeof big, MSG_MORE));
    SHOW(send(a, big, 1, 0));
    SHOW(send(a, "mo", 2, MSG_MORE));
    SHOW(send(a, "re", 2, 0));
    receive("more", b, 0, 0);
    SHOW(shutdown(b, SHUT_RD));
    say_poll("shut", b, 0);
    SHOW(recv(b, text, 5, 0));
    SHOW(shutdown(a, SHUT_WR));
    count_signal(SIGPIPE, 0);
    SHOW(send(a, "x", 1, 0));
    SHOW(handled);
    SHOW(recv(a, unmapped, 1, MSG_DONTWAIT));
}

PROBE(udp_control_messages) {
    int a = udp_at(5130), b = udp_at(5131), one = 1;
    struct sockaddr_in to = at(INADDR_LOOPBACK, 5131);
    MUST(connect(a, (void *)&to, sizeof to));
    int options[][2] = {{IPPROTO_IP, IP_PKTINFO}, {IPPROTO_IP, IP_RECVTTL}, {IPPROTO_IP, IP_RECVTOS},
                        {IPPROTO_IP, IP_RECVORIGDSTADDR}, {SOL_SOCKET, SO_TIMESTAMP}, {SOL_SOCKET, SO_RXQ_OVFL}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        SHOW(setsockopt(b, options[i][0], options[i][1], &one, sizeof one));
    SHOW(send(a, "x", 1, 0));
    receive("all", b, 0, 500);
    SHOW(send(a, "x", 1, 0));
    receive("some", b, 0, 60);
    SHOW(send(a, "x", 1, 0));
    receive("none", b, 0, 0);
    char control[CMSG_SPACE(4)] = {0};
    struct iovec part = {"c", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int kinds[][3] = {{IPPROTO_IP, IP_TTL, 9}, {IPPROTO_IP, IP_TOS, 0x10}, {IPPROTO_IP, IP_TTL, 0}, {IPPROTO_IP, 99, 1},
                      {SOL_SOCKET, SCM_RIGHTS, 1}, {SOL_SOCKET, 99, 1}, {99, 99, 1}, {IPPROTO_IPV6, IPV6_HOPLIMIT, 3}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        *header = (struct cmsghdr){CMSG_LEN(4), kinds[i][0], kinds[i][1]};
        memcpy(CMSG_DATA(header), &kinds[i][2], 4);
        say("%d %d %d", kinds[i][0], kinds[i][1], kinds[i][2]);
        if (SHOW(sendmsg(a, &message, 0)) == 1)
            receive("got", b, 0, 500);
    }
    struct mmsghdr many[3] = {0};
    for (int i = 0; i < 3; i++) {
        many[i].msg_hdr.msg_iov = &part;
        many[i].msg_hdr.msg_iovlen = 1;
    }
    SHOW(sendmmsg(a, many, 3, 0));
    SHOW(sendmmsg(a, many, 0, 0));
    SHOW(sendmmsg(a, unmapped, 3, 0));
    SHOW(sendmmsg(99, many, 3, 0));
    char text[3][10];
    struct iovec parts[3] = {{text[0], 10}, {text[1], 10}, {text[2], 10}};
    for (int i = 0; i < 3; i++)
        many[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &parts[i], .msg_iovlen = 1}};
    SHOW(recvmmsg(b, many, 2, 0, NULL));
    SHOW(recvmmsg(b, many, 3, MSG_WAITFORONE, NULL));
    SHOW(recvmmsg(b, many, 3, MSG_DONTWAIT, NULL));
    struct timespec wrong = {0, 1000000000}, soon = {1, 0};
    SHOW(recvmmsg(b, many, 3, 0, &wrong));
    SHOW(recvmmsg(b, many, 3, 0, unmapped));
    MUST(send(a, "x", 1, 0));
    SHOW(recvmmsg(b, many, 1, 0, &soon));
    FACT(soon.tv_sec == 0 && soon.tv_nsec > 0);
    SHOW(recvmmsg(b, many, 0, 0, NULL));
}

PROBE(udp_broadcast_and_multicast) {
    int a = MUST(socket(AF_INET, SOCK_DGRAM, 0)), b = MUST(socket(AF_INET, SOCK_DGRAM, 0)), one = 1;
    struct sockaddr_in any = at(INADDR_ANY, 5140), group = at(0xef010101, 5140), net = at(0x7fffffff, 5140);
    MUST(bind(b, (void *)&any, sizeof any));
    SHOW(sendto(a, "x", 1, 0, (void *)&net, sizeof net));
    MUST(setsockopt(a, SOL_SOCKET, SO_BROADCAST, &one, sizeof one));
    SHOW(sendto(a, "broad", 5, 0, (void *)&net, sizeof net));
    receive("broadcast", b, MSG_DONTWAIT, 0);
    struct ip_mreqn request = {.imr_multiaddr = group.sin_addr, .imr_ifindex = 1};
    SHOW(setsockopt(b, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request));
    SHOW(setsockopt(b, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request));
    SHOW(setsockopt(a, IPPROTO_IP, IP_MULTICAST_IF, &request, sizeof request));
    SHOW(sendto(a, "multi", 5, 0, (void *)&group, sizeof group));
    receive("multicast", b, MSG_DONTWAIT, 0);
    int zero = 0;
    SHOW(setsockopt(a, IPPROTO_IP, IP_MULTICAST_LOOP, &zero, sizeof zero));
    SHOW(sendto(a, "multi", 5, 0, (void *)&group, sizeof group));
    receive("no loop", b, MSG_DONTWAIT, 0);
    SHOW(setsockopt(b, IPPROTO_IP, IP_DROP_MEMBERSHIP, &request, sizeof request));
    SHOW(setsockopt(b, IPPROTO_IP, IP_DROP_MEMBERSHIP, &request, sizeof request));
    request.imr_multiaddr.s_addr = htonl(0x01020304);
    SHOW(setsockopt(b, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request));
    SHOW(setsockopt(b, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, 4));
}

PROBE(inet_ping) {
    struct sockaddr_in to = at(INADDR_LOOPBACK, 0), from;
    struct icmphdr echo = {.type = ICMP_ECHO, .un.echo = {.sequence = htons(1)}}, reply;
    int fd = OK(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)), raw = OK(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
    SHOW(socket(AF_INET, SOCK_RAW, 0));
    SHOW(socket(AF_INET, SOCK_RAW, 256));
    echo.un.echo.id = htons(77);
    uint32_t sum = 0;
    for (size_t i = 0; i < sizeof echo / 2; i++)
        sum += ((uint16_t *)&echo)[i];
    echo.checksum = ~(sum + (sum >> 16));
    SHOW(sendto(fd, &echo, sizeof echo, 0, (void *)&to, sizeof to));
    say_poll("raw", fd, POLLIN);
    char packet[100];
    socklen_t size = sizeof from;
    SHOW(recvfrom(fd, packet, sizeof packet, 0, (void *)&from, &size));
    say("%s %d", inet_ntoa(from.sin_addr), from.sin_port);
    SHOW(recvfrom(fd, packet, sizeof packet, 0, (void *)&from, &size));
    memcpy(&reply, packet + 20, sizeof reply);
    say("type %d id %d", reply.type, ntohs(reply.un.echo.id));
    int value = -1;
    size = sizeof value;
    SHOW(getsockopt(raw, IPPROTO_IP, IP_HDRINCL, &value, &size));
    SHOW(value);
    SHOW(recv(raw, packet, sizeof packet, MSG_DONTWAIT));
    SHOW(bind(fd, (void *)&to, sizeof to));
    SHOW(connect(fd, (void *)&to, sizeof to));
    SHOW(listen(fd, 1));
}

PROBE(udp_ipv6) {
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(5150)}, name;
    struct sockaddr_in four = at(INADDR_LOOPBACK, 5150);
    int six = MUST(socket(AF_INET6, SOCK_DGRAM, 0)), a = MUST(socket(AF_INET, SOCK_DGRAM, 0)), one = 1, value = -1;
    socklen_t size = sizeof value;
    SHOW(getsockopt(six, IPPROTO_IPV6, IPV6_V6ONLY, &value, &size));
    SHOW(value);
    MUST(bind(six, (void *)&any, sizeof any));
    SHOW(bind(a, (void *)&four, sizeof four));
    SHOW(sendto(a, "four", 4, 0, (void *)&four, sizeof four));
    char text[50];
    size = sizeof name;
    SHOW(recvfrom(six, text, 50, 0, (void *)&name, &size));
    char shown[60];
    say("%u %s", size, inet_ntop(AF_INET6, &name.sin6_addr, shown, sizeof shown));
    SHOW(sendto(six, "back", 4, 0, (void *)&name, size));
    SHOW(recv(a, text, 50, 0));
    for (size_t i = 0; i < 3; i++)
        SHOW(setsockopt(six, IPPROTO_IPV6, (int[]){IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS}[i], &one, sizeof one));
    int b = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    MUST(setsockopt(b, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one));
    SHOW(bind(b, (void *)&any, sizeof any));
    any.sin6_port = htons(5151);
    any.sin6_addr = in6addr_loopback;
    SHOW(bind(b, (void *)&any, 20));
    SHOW(bind(b, (void *)&any, 24));
    any.sin6_port = htons(5150);
    SHOW(sendto(b, "six", 3, 0, (void *)&any, sizeof any));
    receive("six", six, 0, 500);
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &any.sin6_addr);
    SHOW(sendto(b, "six", 3, 0, (void *)&any, sizeof any));
    inet_pton(AF_INET6, "fe80::1", &any.sin6_addr);
    SHOW(sendto(b, "six", 3, 0, (void *)&any, sizeof any));
    any.sin6_scope_id = 1;
    SHOW(connect(b, (void *)&any, sizeof any));
    inet_pton(AF_INET6, "2001:db8::1", &any.sin6_addr);
    SHOW(connect(b, (void *)&any, sizeof any));
}
