// Multicast groups and sources of both inet families on lo, raw sockets' filters, datagrams in segments.
#include "probe.h"
#include <arpa/inet.h>
#include <linux/icmp.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

static void set(int fd, int level, int option, const void *value, int size, const char *what) {
    int result = setsockopt(fd, level, option, value, size);
    say("%s size %d: %d %d", what, size, result, result ? errno : 0);
}

#define SET(FD, LEVEL, OPTION, VALUE, SIZE) set(FD, LEVEL, OPTION, VALUE, SIZE, #OPTION " " #VALUE)

static void get(int fd, int level, int option, int size) {
    unsigned char value[64];
    memset(value, 0xee, sizeof value);
    socklen_t got = size;
    int result = getsockopt(fd, level, option, value, &got);
    say("get %d/%d %d: %d %d, %d: %02x%02x%02x%02x %02x", level, option, size, result, result ? errno : 0, (int)got, value[0], value[1], value[2], value[3], value[4]);
}

PROBE(groups_ipv4) {
    for (int type = 0; type < 2; type++) {
        int fd = MUST(socket(AF_INET, type ? SOCK_STREAM : SOCK_DGRAM, 0));
        struct in_addr lo = {htonl(INADDR_LOOPBACK)}, other = {inet_addr("192.0.2.77")}, any = {0};
        struct ip_mreq group = {{inet_addr("224.0.0.251")}, lo}, no_group = {lo, lo}, no_device = {{inet_addr("224.0.0.251")}, other};
        struct ip_mreqn by_index = {{inet_addr("224.0.0.252")}, any, 1}, no_index = {{inet_addr("224.0.0.252")}, any, 99};
        int zero = 0, one = 1, big = 256, minus = -1, minus2 = -2;
        char byte = 7;
        SET(fd, IPPROTO_IP, IP_MULTICAST_IF, &lo, 4);
        get(fd, IPPROTO_IP, IP_MULTICAST_IF, 4);
        SET(fd, IPPROTO_IP, IP_MULTICAST_IF, &other, 4);
        SET(fd, IPPROTO_IP, IP_MULTICAST_IF, &any, 4);
        SET(fd, IPPROTO_IP, IP_MULTICAST_IF, &lo, 3);
        SET(fd, IPPROTO_IP, IP_MULTICAST_IF, &group, 8);
        SET(fd, IPPROTO_IP, IP_MULTICAST_IF, &by_index, 12);
        get(fd, IPPROTO_IP, IP_MULTICAST_IF, 12);
        SET(fd, IPPROTO_IP, IP_MULTICAST_IF, &no_index, 12);
        get(fd, IPPROTO_IP, IP_MULTICAST_IF, 2);
        SET(fd, IPPROTO_IP, IP_MULTICAST_TTL, &byte, 1);
        get(fd, IPPROTO_IP, IP_MULTICAST_TTL, 1);
        SET(fd, IPPROTO_IP, IP_MULTICAST_TTL, &minus, 4);
        get(fd, IPPROTO_IP, IP_MULTICAST_TTL, 4);
        SET(fd, IPPROTO_IP, IP_MULTICAST_TTL, &minus2, 4);
        SET(fd, IPPROTO_IP, IP_MULTICAST_TTL, &big, 4);
        SET(fd, IPPROTO_IP, IP_MULTICAST_TTL, &zero, 0);
        SET(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &byte, 1);
        get(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 4);
        SET(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &zero, 4);
        get(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 1);
        SET(fd, IPPROTO_IP, IP_MULTICAST_ALL, &big, 4);
        SET(fd, IPPROTO_IP, IP_MULTICAST_ALL, &zero, 4);
        get(fd, IPPROTO_IP, IP_MULTICAST_ALL, 4);
        SET(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, 8);
        SET(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, 8);
        SET(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, 7);
        SET(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &no_group, 8);
        SET(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &no_device, 8);
        SET(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &by_index, 12);
        SET(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &no_index, 12);
        SET(fd, IPPROTO_IP, IP_DROP_MEMBERSHIP, &no_device, 8);
        SET(fd, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, 8);
        SET(fd, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, 8);
        SET(fd, IPPROTO_IP, IP_DROP_MEMBERSHIP, &by_index, 4);
        struct ip_mreq_source source = {{inet_addr("232.1.1.1")}, lo, lo};
        SET(fd, IPPROTO_IP, IP_BLOCK_SOURCE, &source, 12);
        SET(fd, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &source, 12);
        SET(fd, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &source, 12);
        SET(fd, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &source, 11);
        SET(fd, IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP, &source, 12);
        SET(fd, IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP, &source, 12);
        struct group_source_req both = {.gsr_interface = 1};
        *(struct sockaddr_in *)&both.gsr_group = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("232.1.1.2")};
        *(struct sockaddr_in *)&both.gsr_source = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = lo};
        SET(fd, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &both, sizeof both);
        SET(fd, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &both, sizeof both);
        SET(fd, IPPROTO_IP, MCAST_LEAVE_SOURCE_GROUP, &both, sizeof both - 1);
        SET(fd, IPPROTO_IP, MCAST_LEAVE_SOURCE_GROUP, &both, sizeof both);
        *(short *)&both.gsr_group = AF_INET6;
        SET(fd, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &both, sizeof both);
        SET(fd, IPPROTO_IP, MCAST_JOIN_GROUP, &both, sizeof(struct group_req));
        (void)one;
        close(fd);
    }
}

PROBE(groups_ipv6) {
    for (int type = 0; type < 2; type++) {
        int fd = MUST(socket(AF_INET6, type ? SOCK_STREAM : SOCK_DGRAM, 0));
        struct ipv6_mreq group = {.ipv6mr_interface = 1}, no_group = {.ipv6mr_interface = 1}, no_device = {.ipv6mr_interface = 99};
        inet_pton(AF_INET6, "ff02::fb", &group.ipv6mr_multiaddr);
        inet_pton(AF_INET6, "::1", &no_group.ipv6mr_multiaddr);
        inet_pton(AF_INET6, "ff02::fb", &no_device.ipv6mr_multiaddr);
        int zero = 0, one = 1, big = 256, minus = -1, minus2 = -2, none = 99;
        SET(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &one, 4);
        get(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, 4);
        SET(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &none, 4);
        SET(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &zero, 4);
        SET(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &one, 3);
        SET(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &minus, 4);
        get(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 4);
        SET(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &minus2, 4);
        SET(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &big, 4);
        SET(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &big, 4);
        SET(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &one, 1);
        SET(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, &big, 4);
        SET(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, &zero, 4);
        SET(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, &zero, 4);
        SET(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &group, sizeof group);
        SET(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &group, sizeof group);
        SET(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &group, 19);
        SET(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &no_group, sizeof group);
        SET(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &no_device, sizeof group);
        SET(fd, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &no_device, sizeof group);
        SET(fd, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &group, sizeof group);
        SET(fd, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &group, sizeof group);
        SET(fd, IPPROTO_IPV6, IPV6_JOIN_ANYCAST, &no_group, sizeof group);
        SET(fd, IPPROTO_IPV6, IPV6_JOIN_ANYCAST, &group, sizeof group);
        struct group_req request = {.gr_interface = 1};
        *(struct sockaddr_in6 *)&request.gr_group = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = group.ipv6mr_multiaddr};
        SET(fd, IPPROTO_IPV6, MCAST_JOIN_GROUP, &request, sizeof request);
        SET(fd, IPPROTO_IPV6, MCAST_LEAVE_GROUP, &request, sizeof request);
        struct ip_mreq four = {{inet_addr("224.0.0.251")}, {htonl(INADDR_LOOPBACK)}};
        SET(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &four, 8);
        SET(fd, IPPROTO_IP, IP_DROP_MEMBERSHIP, &four, 8);
        SET(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &one, 4);
        int tclasses[] = {-2, -1, 0, 255, 256};
        for (int i = 0; i < 5; i++) {
            SET(fd, IPPROTO_IPV6, IPV6_TCLASS, &tclasses[i], 4);
            get(fd, IPPROTO_IPV6, IPV6_TCLASS, 4);
        }
        int mtus[] = {0, 1279, 1280, 65535, -1};
        for (int i = 0; i < 5; i++)
            SET(fd, IPPROTO_IPV6, IPV6_MTU, &mtus[i], 4);
        get(fd, IPPROTO_IPV6, IPV6_MTU, 4);
        close(fd);
    }
}

PROBE(a_group_gets_datagrams) {
    int a = MUST(socket(AF_INET, SOCK_DGRAM, 0)), b = MUST(socket(AF_INET, SOCK_DGRAM, 0)), sender = MUST(socket(AF_INET, SOCK_DGRAM, 0)), one = 1, zero = 0;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("239.1.2.3")};
    socklen_t size = sizeof in;
    struct ip_mreqn group = {in.sin_addr, {0}, 1};
    setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &one, 4);
    setsockopt(b, SOL_SOCKET, SO_REUSEADDR, &one, 4);
    SHOW(bind(a, (void *)&in, sizeof in));
    MUST(getsockname(a, (void *)&in, &size));
    SHOW(bind(b, (void *)&in, sizeof in));
    SHOW(setsockopt(a, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group));
    SHOW(setsockopt(b, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group));
    SHOW(setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &group, sizeof group));
    SHOW(sendto(sender, "all", 3, 0, (void *)&in, sizeof in));
    struct pollfd both[2] = {{a, POLLIN, 0}, {b, POLLIN, 0}};
    poll(both, 2, 200);
    char text[8] = "";
    SHOW(recv(a, text, 8, MSG_DONTWAIT));
    SHOW(recv(b, text, 8, MSG_DONTWAIT));
    SHOW(setsockopt(b, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, sizeof group));
    SHOW(setsockopt(b, IPPROTO_IP, IP_MULTICAST_ALL, &zero, 4));
    SHOW(sendto(sender, "one", 3, 0, (void *)&in, sizeof in));
    poll(both, 1, 200);
    SHOW(recv(a, text, 8, MSG_DONTWAIT));
    SHOW(recv(b, text, 8, MSG_DONTWAIT));
    SHOW(setsockopt(sender, IPPROTO_IP, IP_MULTICAST_LOOP, &zero, 4));
    SHOW(sendto(sender, "no", 2, 0, (void *)&in, sizeof in));
    nap_ms(50);
    SHOW(recv(a, text, 8, MSG_DONTWAIT));
    SHOW(connect(sender, (void *)&in, sizeof in));
    SHOW(send(sender, "x", 1, 0));
    int stream = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(connect(stream, (void *)&in, sizeof in));
    in.sin_addr.s_addr = INADDR_BROADCAST;
    SHOW(connect(stream, (void *)&in, sizeof in));
}

PROBE(datagrams_in_segments) {
    int receiver = MUST(socket(AF_INET, SOCK_DGRAM, 0)), sender = MUST(socket(AF_INET, SOCK_DGRAM, 0)), zero = 0, segment = 100, large = 70000, one = 1, minus = -1;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof in;
    MUST(bind(receiver, (void *)&in, sizeof in));
    MUST(getsockname(receiver, (void *)&in, &size));
    SET(sender, IPPROTO_UDP, UDP_SEGMENT, &large, 4);
    SET(sender, IPPROTO_UDP, UDP_SEGMENT, &minus, 4);
    SET(sender, IPPROTO_UDP, UDP_SEGMENT, &segment, 4);
    get(sender, IPPROTO_UDP, UDP_SEGMENT, 4);
    char data[1000];
    memset(data, 'x', sizeof data);
    SHOW(sendto(sender, data, 250, 0, (void *)&in, sizeof in));
    for (int i = 0; i < 4; i++)
        SHOW(recv(receiver, data, sizeof data, MSG_DONTWAIT));
    SET(receiver, IPPROTO_UDP, UDP_GRO, &one, 4);
    get(receiver, IPPROTO_UDP, UDP_GRO, 4);
    SHOW(sendto(sender, data, 250, 0, (void *)&in, sizeof in));
    char control[100];
    struct iovec iov = {data, sizeof data};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    SHOW(recvmsg(receiver, &message, MSG_DONTWAIT));
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
        say("%d %d %d: %d", c->cmsg_level, c->cmsg_type, (int)c->cmsg_len, *(int *)CMSG_DATA(c));
    SET(sender, IPPROTO_UDP, UDP_SEGMENT, &zero, 4);
    SET(sender, IPPROTO_UDP, UDP_CORK, &one, 4);
    SHOW(sendto(sender, data, 10, 0, (void *)&in, sizeof in));
    SHOW(sendto(sender, data, 10, 0, NULL, 0));
    SHOW(recv(receiver, data, sizeof data, MSG_DONTWAIT));
    SET(sender, IPPROTO_UDP, UDP_CORK, &zero, 4);
    SHOW(recv(receiver, data, sizeof data, MSG_DONTWAIT));
    SHOW(sendto(sender, data, 10, MSG_MORE, (void *)&in, sizeof in));
    SHOW(sendto(sender, data, 7, 0, NULL, 0));
    SHOW(recv(receiver, data, sizeof data, MSG_DONTWAIT));
    SHOW(sendto(sender, data, 7, 0, NULL, 0));
    SET(sender, SOL_SOCKET, SO_NO_CHECK, &one, 4);
    SHOW(sendto(sender, data, 7, 0, (void *)&in, sizeof in));
    SHOW(recv(receiver, data, sizeof data, MSG_DONTWAIT));
}

PROBE(filters_of_raw_sockets) {
    int raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), raw6 = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), udp = socket(AF_INET, SOCK_RAW, IPPROTO_UDP), udp6 = socket(AF_INET6, SOCK_RAW, IPPROTO_UDP);
    say("%d %d %d", raw >= 0, raw6 >= 0, udp >= 0);
    if (raw < 0)
        return;
    unsigned mask = ~(1u << ICMP_ECHOREPLY);
    SET(raw, SOL_RAW, ICMP_FILTER, &mask, 4);
    SET(raw, SOL_RAW, ICMP_FILTER, &mask, 1);
    get(raw, SOL_RAW, ICMP_FILTER, 4);
    get(raw, SOL_RAW, ICMP_FILTER, 20);
    SET(raw, SOL_RAW, ICMP_FILTER, &mask, 0);
    SET(raw, SOL_RAW, ICMP_FILTER, &mask, 20);
    SET(udp, SOL_RAW, ICMP_FILTER, &mask, 4);
    get(udp, SOL_RAW, ICMP_FILTER, 4);
    struct icmp6_filter filter;
    ICMP6_FILTER_SETBLOCKALL(&filter);
    SET(raw6, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof filter);
    SET(raw6, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, 40);
    get(raw6, IPPROTO_ICMPV6, ICMP6_FILTER, 32);
    SET(udp6, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof filter);
    int offsets[] = {-1, 0, 1, 2, 6};
    for (int i = 0; i < 5; i++) {
        SET(udp6, IPPROTO_IPV6, IPV6_CHECKSUM, &offsets[i], 4);
        SET(raw6, IPPROTO_IPV6, IPV6_CHECKSUM, &offsets[i], 4);
        SET(udp6, SOL_RAW, IPV6_CHECKSUM, &offsets[i], 4);
        get(udp6, IPPROTO_IPV6, IPV6_CHECKSUM, 4);
        get(udp6, SOL_RAW, IPV6_CHECKSUM, 4);
    }
    int one = 1;
    SET(udp6, IPPROTO_IPV6, IPV6_HDRINCL, &one, 4);
    SET(udp, IPPROTO_IP, IP_HDRINCL, &one, 1);
    get(udp, IPPROTO_IP, IP_HDRINCL, 4);
    SET(udp, IPPROTO_IP, IP_NODEFRAG, &one, 4);
    SET(udp, IPPROTO_IP, IP_ROUTER_ALERT, &one, 4);
}

PROBE(small_tcp_options) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof in;
    int listener = MUST(socket(AF_INET, SOCK_STREAM, 0)), client = MUST(socket(AF_INET, SOCK_STREAM, 0));
    int options[] = {TCP_NODELAY, TCP_MAXSEG, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_SYNCNT, TCP_LINGER2, TCP_DEFER_ACCEPT, TCP_WINDOW_CLAMP, TCP_QUICKACK, TCP_THIN_LINEAR_TIMEOUTS, TCP_USER_TIMEOUT, TCP_FASTOPEN, TCP_NOTSENT_LOWAT, TCP_SAVE_SYN, TCP_INQ};
    int values[] = {-2, -1, 0, 1, 2, 87, 88, 127, 128, 255, 256, 32767, 32768, 65535, 1 << 20};
    MUST(bind(listener, (void *)&in, sizeof in));
    MUST(listen(listener, 1));
    MUST(getsockname(listener, (void *)&in, &length));
    MUST(connect(client, (void *)&in, sizeof in));
    for (int which = 0; which < 3; which++) {
        int fd = which == 0 ? MUST(socket(AF_INET, SOCK_STREAM, 0)) : which == 1 ? listener : client;
        say("%s", which == 0 ? "new" : which == 1 ? "listener" : "connected");
        for (unsigned o = 0; o < sizeof options / sizeof *options; o++)
            for (unsigned v = 0; v < sizeof values / sizeof *values; v++) {
                int result = setsockopt(fd, IPPROTO_TCP, options[o], &values[v], 4), why = result ? errno : 0, now = 0;
                socklen_t size = 4;
                int got = getsockopt(fd, IPPROTO_TCP, options[o], &now, &size);
                say("%d = %d: %d %d; %d %d", options[o], values[v], result, why, got, options[o] == TCP_QUICKACK ? 0 : now);
            }
    }
}

static void transform(int type) {
    int listener = MUST(socket(AF_INET, type, 0)), fd = MUST(socket(AF_INET6, type, 0)), form = AF_INET, value = 0;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof in, four = 4;
    MUST(bind(listener, (void *)&in, sizeof in));
    if (type == SOCK_STREAM)
        MUST(listen(listener, 1));
    MUST(getsockname(listener, (void *)&in, &size));
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = in.sin_port};
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &in6.sin6_addr);
    SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &form, 4));
    SHOW(connect(fd, (void *)&in6, sizeof in6));
    SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &form, 3));
    SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &form, 4));
    size = sizeof in;
    SHOW(getpeername(fd, (void *)&in, &size));
    say("%d %d", (int)size, in.sin_family);
    SHOW(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &four));
    say("%d", value);
    SHOW(setsockopt(fd, IPPROTO_IPV6, IPV6_ADDRFORM, &form, 4));
    get(fd, IPPROTO_IPV6, IPV6_V6ONLY, 4);
    get(fd, IPPROTO_IP, IP_TTL, 4);
    SHOW(send(fd, "four", 4, 0));
    SHOW(connect(fd, (void *)&in6, sizeof in6));
}

PROBE(ipv6_turns_ipv4) {
    transform(SOCK_DGRAM);
    transform(SOCK_STREAM);
}
