// Options of the levels IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP and IPPROTO_UDP: defaults, and what setting does.
#include "probe.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

// Those whose value is the machine's: MTU, congestion control, segment and window sizes, counters.
static bool varies(int level, int number) {
    if (level == IPPROTO_TCP)
        return number == TCP_MAXSEG || number == TCP_WINDOW_CLAMP || number == TCP_INFO || number == TCP_CONGESTION || number == TCP_CC_INFO ||
               number == TCP_TIMESTAMP || number == 35 /* TCP_ZEROCOPY_RECEIVE */ || number == 31 /* TCP_ULP */ || number == 33 /* TCP_FASTOPEN_KEY */;
    return false;
}

// Those a sandbox has not: values with pointers or further layouts in them, what repairs connections or filters packets.
static bool absent(int level, int number) {
    static const int ip[] = {41, 48}, ipv6[] = {32, 48, 54, 55, 57, 59, 64, 65, 68, 69}, tcp[] = {20, 21, 22, 29, 33, 35, 42}, udp[] = {100};
    const int *list = level == IPPROTO_IP ? ip : level == IPPROTO_IPV6 ? ipv6 : level == IPPROTO_TCP ? tcp : udp;
    int count = level == IPPROTO_IP ? 2 : level == IPPROTO_IPV6 ? 10 : level == IPPROTO_TCP ? 7 : 1;
    for (int i = 0; i < count; i++)
        if (list[i] == number)
            return true;
    return false;
}

static void say_value(int fd, int level, int number) {
    unsigned char value[64] = {0};
    socklen_t size = sizeof value;
    if (getsockopt(fd, level, number, value, &size) == -1) {
        if (errno != ENOPROTOOPT && errno != EOPNOTSUPP)
            say("get %d: -1 %s", number, strerrorname_np(errno));
        return;
    }
    char text[200] = "";
    for (socklen_t i = 0; i < size && i < sizeof value && !varies(level, number); i++)
        sprintf(text + strlen(text), "%02x", value[i]);
    say("get %d: %u %s", number, varies(level, number) ? 0 : size, text);
}

static void each(int family, int type, int level, int last) {
    int fd = MUST(socket(family, type, 0));
    say("-- level %d defaults", level);
    for (int number = 0; number <= last; number++)
        if (!absent(level, number))
            say_value(fd, level, number);
    int values[] = {1, 0, -1, 300};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        say("-- set to %d", values[i]);
        for (int number = 0; number <= last; number++) {
            // without effect on others: no memberships, no policies, no filters, no repair mode
            if (level == IPPROTO_TCP && (number == 19 || number == TCP_ULP || number == TCP_CONGESTION || number == TCP_MD5SIG || number == 32 || number == 38))
                continue;
            if (absent(level, number))
                continue;
            if (level == IPPROTO_IPV6 && (number == IPV6_ADDRFORM || number == 34 || number == 35))
                continue;
            close(fd);
            fd = MUST(socket(family, type, 0));
            if (setsockopt(fd, level, number, &values[i], sizeof values[i]) == -1) {
                if (errno != ENOPROTOOPT)
                    say("set %d: %s", number, strerrorname_np(errno));
            } else
                say_value(fd, level, number);
        }
    }
}

PROBE(inet_options_ip) { each(AF_INET, SOCK_DGRAM, IPPROTO_IP, 60); }
PROBE(inet_options_ip_stream) { each(AF_INET, SOCK_STREAM, IPPROTO_IP, 60); }
PROBE(inet_options_ipv6) { each(AF_INET6, SOCK_DGRAM, IPPROTO_IPV6, 80); }
PROBE(inet_options_tcp) { each(AF_INET, SOCK_STREAM, IPPROTO_TCP, 45); }
PROBE(inet_options_udp) { each(AF_INET, SOCK_DGRAM, IPPROTO_UDP, 105); }

PROBE(inet_option_sizes) {
    unsigned char one[8] = {1, 0, 0, 0, 0, 0, 0, 0};
    struct {
        int type, level, name;
    } some[] = {{SOCK_DGRAM, IPPROTO_IP, IP_TTL}, {SOCK_DGRAM, IPPROTO_IP, IP_TOS}, {SOCK_DGRAM, IPPROTO_IP, IP_MULTICAST_TTL}, {SOCK_STREAM, IPPROTO_TCP, TCP_NODELAY},
                {SOCK_STREAM, IPPROTO_TCP, TCP_KEEPIDLE}, {SOCK_DGRAM, IPPROTO_UDP, 1}};
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        int fd = MUST(socket(AF_INET, some[i].type, 0));
        say("level %d name %d", some[i].level, some[i].name);
        for (socklen_t size = 0; size <= 8; size++)
            SHOW(setsockopt(fd, some[i].level, some[i].name, one, size));
        for (socklen_t size = 0; size <= 8; size++) {
            unsigned char value[8] = {9, 9, 9, 9, 9, 9, 9, 9};
            socklen_t got = size;
            long done = getsockopt(fd, some[i].level, some[i].name, value, &got);
            say("%u: %ld %u %d %d", size, done, got, value[0], value[1]);
        }
        SHOW(setsockopt(fd, some[i].level, some[i].name, unmapped, 4));
        SHOW(setsockopt(fd, some[i].level, some[i].name, NULL, 0));
        SHOW(getsockopt(fd, some[i].level, some[i].name, unmapped, &(socklen_t){4}));
    }
}
