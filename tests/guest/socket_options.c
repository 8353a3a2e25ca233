// setsockopt(2) and getsockopt(2): what every family's sockets say of SOL_SOCKET, and how arguments are checked.
#include "probe.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <linux/netlink.h>

// Options whose value does not depend on the machine; by number, for names that the C library may not know.
static const struct option {
    const char *name;
    int number;
} options[] = {
    {"SO_DEBUG", 1}, {"SO_REUSEADDR", 2}, {"SO_TYPE", 3}, {"SO_ERROR", 4}, {"SO_DONTROUTE", 5}, {"SO_BROADCAST", 6},
    {"SO_KEEPALIVE", 9}, {"SO_OOBINLINE", 10}, {"SO_NO_CHECK", 11}, {"SO_PRIORITY", 12}, {"SO_LINGER", 13},
    {"SO_BSDCOMPAT", 14}, {"SO_REUSEPORT", 15}, {"SO_PASSCRED", 16}, {"SO_PEERCRED", 17}, {"SO_RCVLOWAT", 18},
    {"SO_SNDLOWAT", 19}, {"SO_RCVTIMEO", 20}, {"SO_SNDTIMEO", 21}, {"SO_SECURITY_AUTHENTICATION", 22},
    {"SO_BINDTODEVICE", 25}, {"SO_ATTACH_FILTER", 26}, {"SO_DETACH_FILTER", 27}, {"SO_PEERNAME", 28},
    {"SO_TIMESTAMP", 29}, {"SO_ACCEPTCONN", 30}, {"SO_SNDBUFFORCE", 32},
    {"SO_RCVBUFFORCE", 33}, {"SO_PASSSEC", 34}, {"SO_TIMESTAMPNS", 35}, {"SO_MARK", 36}, {"SO_TIMESTAMPING", 37},
    {"SO_PROTOCOL", 38}, {"SO_DOMAIN", 39}, {"SO_RXQ_OVFL", 40}, {"SO_WIFI_STATUS", 41}, {"SO_PEEK_OFF", 42},
    {"SO_NOFCS", 43}, {"SO_LOCK_FILTER", 44}, {"SO_SELECT_ERR_QUEUE", 45}, {"SO_BUSY_POLL", 46},
    {"SO_MAX_PACING_RATE", 47}, {"SO_BPF_EXTENSIONS", 48}, {"SO_INCOMING_CPU", 49}, {"SO_ATTACH_BPF", 50},
    {"SO_CNX_ADVICE", 53}, {"SO_PEERGROUPS", 59}, {"SO_ZEROCOPY", 60}, {"SO_TXTIME", 61}, {"SO_BINDTOIFINDEX", 62},
    {"SO_TIMESTAMP_NEW", 63}, {"SO_TIMESTAMPNS_NEW", 64}, {"SO_TIMESTAMPING_NEW", 65}, {"SO_RCVTIMEO_NEW", 66},
    {"SO_SNDTIMEO_NEW", 67}, {"SO_PREFER_BUSY_POLL", 69}, {"SO_BUSY_POLL_BUDGET", 70}, {"SO_NETNS_COOKIE+100", 171},
    {"SO_BUF_LOCK", 72}, {"SO_RESERVE_MEM", 73}, {"SO_TXREHASH", 74}, {"SO_RCVMARK", 75}, {"SO_PASSPIDFD", 76},
    {"SO_PEERPIDFD", 77}, {"SO_RCVPRIORITY", 82}, {"SO_PASSRIGHTS", 83}, {"SO_INQ", 84}, {"unknown 90", 90}, {"unknown -1", -1},
};

#define COUNT (sizeof options / sizeof options[0])

static void say_value(const char *what, int fd, int level, int number) {
    unsigned char value[64] = {0};
    socklen_t size = sizeof value;
    if (getsockopt(fd, level, number, value, &size) == -1) {
        say("%s: -1 %s", what, strerrorname_np(errno));
        return;
    }
    char text[200] = "";
    for (socklen_t i = 0; i < size && i < sizeof value; i++)
        sprintf(text + strlen(text), "%02x", value[i]);
    say("%s: %u %s", what, size, text);
}

static void say_all(int fd) {
    for (size_t i = 0; i < COUNT; i++)
        say_value(options[i].name, fd, SOL_SOCKET, options[i].number);
}

PROBE(options_of_unix_stream) { say_all(MUST(socket(AF_UNIX, SOCK_STREAM, 0))); }
PROBE(options_of_unix_dgram) { say_all(MUST(socket(AF_UNIX, SOCK_DGRAM, 0))); }
PROBE(options_of_tcp) { say_all(MUST(socket(AF_INET, SOCK_STREAM, 0))); }
PROBE(options_of_udp) { say_all(MUST(socket(AF_INET, SOCK_DGRAM, 0))); }
PROBE(options_of_udp6) { say_all(MUST(socket(AF_INET6, SOCK_DGRAM, 0))); }
PROBE(options_of_netlink) { say_all(MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE))); }

// Set 1, read back, for every option an int can be given to.
static void set_all(int fd, int value, socklen_t size) {
    for (size_t i = 0; i < COUNT; i++) {
        const char *name = options[i].name;
        long pair[4] = {value, value, value, value};
        if (options[i].number == 26 || options[i].number == SO_ZEROCOPY)
            continue; // refused by a sandbox: socket filters, and sending from pages that stay the guest's
        if (setsockopt(fd, SOL_SOCKET, options[i].number, pair, size) == -1)
            say("%s: -1 %s", name, strerrorname_np(errno));
        else
            say_value(name, fd, SOL_SOCKET, options[i].number);
    }
}

PROBE(set_options_of_unix_stream) { set_all(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), 1, 4); }
PROBE(set_options_of_unix_dgram) { set_all(MUST(socket(AF_UNIX, SOCK_DGRAM, 0)), 1, 16); }
PROBE(set_options_of_tcp) { set_all(MUST(socket(AF_INET, SOCK_STREAM, 0)), 1, 4); }
PROBE(set_options_of_udp) { set_all(MUST(socket(AF_INET, SOCK_DGRAM, 0)), 1, 4); }
PROBE(set_options_of_netlink) { set_all(MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)), 1, 4); }
PROBE(set_options_negative_unix) { set_all(MUST(socket(AF_UNIX, SOCK_DGRAM, 0)), -1, 4); }
PROBE(set_options_negative_tcp) { set_all(MUST(socket(AF_INET, SOCK_STREAM, 0)), -1, 4); }
PROBE(set_options_short_unix) { set_all(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), 1, 3); }
PROBE(set_options_short_tcp) { set_all(MUST(socket(AF_INET, SOCK_STREAM, 0)), 1, 3); }
PROBE(set_options_empty_unix) { set_all(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), 1, 0); }
PROBE(set_options_empty_udp) { set_all(MUST(socket(AF_INET, SOCK_DGRAM, 0)), 1, 0); }

static void arguments(int fd) {
    int value = 0;
    socklen_t size = 4;
    SHOW(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, NULL, 4));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, NULL, 0));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, unmapped, 4));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, -1));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, 1 << 30));
    SHOW(setsockopt(fd, SOL_SOCKET, 4711, unmapped, 4));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_LINGER, &value, 4));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_LINGER, unmapped, 8));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, unmapped, 16));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &value, 4));
    SHOW(setsockopt(fd, 4711, 1, &value, 4));
    SHOW(setsockopt(fd, -1, 1, &value, 4));
    SHOW(setsockopt(fd, IPPROTO_UDP, 1, &value, 4));
    SHOW(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, 4));
    SHOW(getsockopt(fd, SOL_SOCKET, SO_TYPE, NULL, &size));
    SHOW(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, NULL));
    SHOW(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, unmapped));
    size = -1;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size));
    size = 0;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size));
    SHOW(size);
    size = 2;
    value = 0;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size));
    SHOW(size);
    SHOW(value);
    size = 4;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_LINGER, &value, &size));
    SHOW(size);
    SHOW(getsockopt(fd, 4711, 1, &value, &size));
    SHOW(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size));
    SHOW(getsockopt(fd, IPPROTO_IP, IP_TTL, &value, &size));
    SHOW(getsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &value, &size));
    SHOW(getsockopt(fd, IPPROTO_UDP, SO_OOBINLINE, &value, &size));
    SHOW(getsockopt(fd, IPPROTO_UDP, 1, &value, &size));
    SHOW(getsockopt(fd, IPPROTO_ICMP, SO_OOBINLINE, &value, &size));
    SHOW(getsockopt(fd, IPPROTO_TCP, -1, &value, &size));
    SHOW(getsockopt(fd, IPPROTO_IP, -1, &value, &size));
    SHOW(setsockopt(fd, IPPROTO_UDP, SO_OOBINLINE, &value, 4));
    SHOW(setsockopt(fd, IPPROTO_TCP, -1, &value, 4));
    SHOW(setsockopt(fd, IPPROTO_IP, -1, &value, 4));
}

PROBE(option_arguments_unix) { arguments(MUST(socket(AF_UNIX, SOCK_STREAM, 0))); }
PROBE(option_arguments_tcp) { arguments(MUST(socket(AF_INET, SOCK_STREAM, 0))); }
PROBE(option_arguments_udp6) { arguments(MUST(socket(AF_INET6, SOCK_DGRAM, 0))); }
PROBE(option_arguments_netlink) { arguments(MUST(socket(AF_NETLINK, SOCK_RAW, 0))); }
PROBE(option_arguments_file) {
    make_file("f", "");
    int value = 0, fd = MUST(open("f", O_RDWR));
    socklen_t size = 4;
    SHOW(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, 4));
    SHOW(getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, &size));
    SHOW(setsockopt(99, SOL_SOCKET, SO_REUSEADDR, &value, -1));
    SHOW(getsockopt(99, SOL_SOCKET, SO_REUSEADDR, NULL, NULL));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, -1));
}

static void timeouts(int fd) {
    struct timeval time[] = {{1, 500000}, {0, 1}, {0, 1000000}, {-1, 0}, {-1, 2000000}, {0, -1}, {0, 0}, {LONG_MAX, 0}, {100, 999999}};
    for (size_t i = 0; i < sizeof time / sizeof time[0]; i++) {
        say("%ld %ld", (long)time[i].tv_sec, (long)time[i].tv_usec);
        SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time[i], sizeof time[i]));
        say_value("SO_RCVTIMEO", fd, SOL_SOCKET, SO_RCVTIMEO);
        SHOW(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time[i], sizeof time[i]));
        say_value("SO_SNDTIMEO", fd, SOL_SOCKET, SO_SNDTIMEO);
    }
    socklen_t size = 8;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time[0], &size));
    SHOW(size);
}

PROBE(option_timeouts_unix) { timeouts(MUST(socket(AF_UNIX, SOCK_STREAM, 0))); }
PROBE(option_timeouts_tcp) { timeouts(MUST(socket(AF_INET, SOCK_STREAM, 0))); }

static void buffers(int fd) {
    int sizes[] = {0, 1, 100, 2303, 2304, 4607, 4608, 10000, 212992}; // more is up to net.core.wmem_max and rmem_max
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        say("%d", sizes[i]);
        SHOW(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sizes[i], 4));
        say_value("SO_SNDBUF", fd, SOL_SOCKET, SO_SNDBUF);
        SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &sizes[i], 4));
        say_value("SO_RCVBUF", fd, SOL_SOCKET, SO_RCVBUF);
        SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &sizes[i], 4));
        say_value("SO_RCVLOWAT", fd, SOL_SOCKET, SO_RCVLOWAT);
        SHOW(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &sizes[i], 4));
        SHOW(setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &sizes[i], 4));
        SHOW(setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &sizes[i], 4));
        say_value("SO_PEEK_OFF", fd, SOL_SOCKET, SO_PEEK_OFF);
    }
    say_value("SO_BUF_LOCK", fd, SOL_SOCKET, 72);
}

PROBE(option_sizes_unix_stream) { buffers(MUST(socket(AF_UNIX, SOCK_STREAM, 0))); }
PROBE(option_sizes_unix_dgram) { buffers(MUST(socket(AF_UNIX, SOCK_DGRAM, 0))); }
PROBE(option_sizes_tcp) { buffers(MUST(socket(AF_INET, SOCK_STREAM, 0))); }
PROBE(option_sizes_udp) { buffers(MUST(socket(AF_INET, SOCK_DGRAM, 0))); }

PROBE(option_buffer_defaults) {
    for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
        say_value("unix SO_SNDBUF", MUST(socket(AF_UNIX, type, 0)), SOL_SOCKET, SO_SNDBUF);
        say_value("unix SO_RCVBUF", MUST(socket(AF_UNIX, type, 0)), SOL_SOCKET, SO_RCVBUF);
        say_value("inet SO_SNDBUF", MUST(socket(AF_INET, type, 0)), SOL_SOCKET, SO_SNDBUF);
        say_value("inet SO_RCVBUF", MUST(socket(AF_INET, type, 0)), SOL_SOCKET, SO_RCVBUF);
    }
}

PROBE(option_linger) {
    for (int family = AF_UNIX; family <= AF_INET; family++) {
        int fd = MUST(socket(family, SOCK_STREAM, 0));
        struct linger values[] = {{1, 5}, {0, 7}, {1, 0}, {2, -1}, {0, 0}, {-1, 100000000}};
        for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
            SHOW(setsockopt(fd, SOL_SOCKET, SO_LINGER, &values[i], sizeof values[i]));
            say_value("SO_LINGER", fd, SOL_SOCKET, SO_LINGER);
        }
    }
}

PROBE(option_peers) {
    int s[2], fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    struct ucred peer;
    socklen_t size = sizeof peer;
    SHOW(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &peer, &size));
    FACT(peer.pid == getpid() && peer.uid == getuid());
    size = 4;
    SHOW(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &peer, &size));
    SHOW(size);
    size = 200;
    SHOW(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &peer, &size));
    SHOW(size);
    gid_t groups[64];
    size = sizeof groups;
    SHOW(getsockopt(s[0], SOL_SOCKET, 59, groups, &size));
    FACT(size == getgroups(0, NULL) * sizeof(gid_t));
    size = sizeof groups;
    SHOW(getsockopt(fd, SOL_SOCKET, 59, groups, &size));
    SHOW(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size));
    say("%d %u %u", peer.pid, peer.uid, peer.gid);
    SHOW(setsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &peer, sizeof peer));
}
