// /proc/net and /proc/sys/net: what is there, and what the tables say of one's own sockets.
#include "probe.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static const char *const files[] = {
    "anycast6", "arp", "dev", "dev_mcast", "fib_trie", "fib_triestat", "icmp", "icmp6", "if_inet6", "igmp", "igmp6", "ip6_flowlabel",
    "ipv6_route", "mcfilter", "mcfilter6", "netlink", "netstat", "packet", "protocols", "psched", "ptype", "raw", "raw6", "route",
    "rt6_stats", "rt_cache", "snmp", "snmp6", "sockstat", "sockstat6", "softnet_stat", "stat/rt_cache", "tcp", "tcp6", "udp", "udp6",
    "udplite", "udplite6", "unix",
};

// The first line of a file, spaces as they are.
static void say_first_line(const char *path) {
    char line[1500];
    FILE *file = fopen(path, "r");
    if (!file) {
        say("%s: %s", path, strerrorname_np(errno));
        return;
    }
    if (fgets(line, sizeof line, file))
        say("%s: %.*s|", path, (int)strcspn(line, "\n"), line);
    else
        say("%s: empty", path);
    fclose(file);
}

PROBE(proc_net_files) {
    char path[100];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct stat st;
        snprintf(path, sizeof path, "/proc/net/%s", files[i]);
        if (stat(path, &st) == 0)
            say("%s: %o", files[i], st.st_mode);
        else
            say("%s: %s", files[i], strerrorname_np(errno));
    }
}

PROBE(proc_net_headings) {
    static const char *const some[] = {"arp",      "dev",  "icmp",    "igmp", "netlink", "packet", "ptype", "raw",      "raw6", "route",
                                       "snmp",     "tcp",  "tcp6",    "udp",  "udp6",    "unix",   "netstat", "udplite", "sockstat6", "protocols"};
    char path[100];
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        snprintf(path, sizeof path, "/proc/net/%s", some[i]);
        say_first_line(path);
    }
    say_file("/proc/net/if_inet6");
    say_file("/proc/net/route");
    say_file("/proc/net/dev_mcast");
}

static int compare(const void *one, const void *other) { return strcmp(one, other); }

// The lines of a table that name `what`, sorted, without what varies: slots, ports that were chosen, times, inodes.
static void say_lines(const char *path, const char *what) {
    static char shown[20][500];
    char line[500];
    int count = 0;
    FILE *file = fopen(path, "r");
    while (file && count < 20 && fgets(line, sizeof line, file))
        if (strstr(line, what)) {
            int column = 0;
            shown[count][0] = 0;
            for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n"), column++)
                if ((strlen(word) < 12 && column < 9 && column > 2 && column != 5) || column == 4)
                    sprintf(shown[count] + strlen(shown[count]), "%s ", word);
            count++;
        }
    if (file)
        fclose(file);
    qsort(shown, count, sizeof shown[0], compare);
    for (int i = 0; i < count; i++)
        say("%s: %s", path, shown[i]);
}

PROBE(proc_net_own_sockets) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(0x1770), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = MUST(socket(AF_INET, SOCK_STREAM, 0)), client = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(bind(listener, (void *)&address, sizeof address));
    MUST(listen(listener, 7));
    say_lines("/proc/net/tcp", ":1770");
    MUST(connect(client, (void *)&address, sizeof address));
    int server = MUST(accept(listener, NULL, NULL));
    MUST(send(client, "hello", 5, 0));
    nap_ms(20);
    say_lines("/proc/net/tcp", "0100007F:1770 ");
    close(client);
    nap_ms(20);
    say_lines("/proc/net/tcp", "0100007F:1770 ");
    close(server);
    int udp = MUST(socket(AF_INET, SOCK_DGRAM, 0)), other = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(bind(udp, (void *)&address, sizeof address));
    MUST(connect(other, (void *)&address, sizeof address));
    MUST(send(other, "hello", 5, 0));
    say_lines("/proc/net/udp", "0100007F:1770 ");
    int six = MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    struct sockaddr_in6 address6 = {.sin6_family = AF_INET6, .sin6_port = htons(0x1771), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    MUST(bind(six, (void *)&address6, sizeof address6));
    say_lines("/proc/net/udp6", ":1771");
    int raw = MUST(socket(AF_INET, SOCK_RAW, 253));
    say_lines("/proc/net/raw", ":00FD");
    (void)raw;
}

static void say_unix(const char *what) {
    static char shown[20][500];
    char line[500];
    int count = 0;
    FILE *file = fopen("/proc/net/unix", "r");
    while (file && count < 20 && fgets(line, sizeof line, file))
        if (strstr(line, what)) {
            char *rest = strchr(line, ':');
            unsigned refs, protocol, flags, type, state;
            unsigned long inode;
            char path[200] = "";
            sscanf(rest, ": %x %x %x %x %x %lu %199s", &refs, &protocol, &flags, &type, &state, &inode, path);
            sprintf(shown[count++], "refs %u protocol %u flags %x type %x state %u inode %d %s", refs, protocol, flags, type, state, inode != 0, path);
        }
    if (file)
        fclose(file);
    qsort(shown, count, sizeof shown[0], compare);
    for (int i = 0; i < count; i++)
        say("%s", shown[i]);
}

PROBE(proc_net_unix_sockets) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/tmp/probe/listed"}, abstract = {.sun_family = AF_UNIX};
    int listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(bind(listener, (void *)&address, sizeof address));
    say_unix("listed");
    MUST(listen(listener, 5));
    say_unix("listed");
    MUST(connect(client, (void *)&address, sizeof address));
    say_unix("listed");
    MUST(accept(listener, NULL, NULL));
    say_unix("listed");
    strcpy(abstract.sun_path + 1, "abstract-listed");
    int dgram = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    MUST(bind(dgram, (void *)&abstract, offsetof(struct sockaddr_un, sun_path) + 20));
    say_unix("abstract-listed");
}

// Some values are the host kernel's own choice: of those only that they are there.
PROBE(proc_sys_net) {
    static const char *const names[] = {
        "core/somaxconn", "core/rmem_default", "core/wmem_default", "core/optmem_max", "ipv4/ip_forward", "ipv4/ip_default_ttl",
        "ipv4/ip_local_port_range", "ipv4/ip_local_reserved_ports", "ipv4/tcp_syncookies", "ipv4/tcp_fin_timeout", "ipv4/tcp_keepalive_time",
        "ipv4/tcp_keepalive_intvl", "ipv4/tcp_keepalive_probes", "ipv4/tcp_retries1", "ipv4/tcp_retries2", "ipv4/tcp_syn_retries",
        "ipv4/tcp_synack_retries", "ipv4/tcp_timestamps", "ipv4/tcp_sack", "ipv4/tcp_window_scaling", "ipv4/tcp_tw_reuse",
        "ipv4/tcp_moderate_rcvbuf", "ipv4/tcp_no_metrics_save", "ipv4/tcp_slow_start_after_idle", "ipv4/tcp_mtu_probing", "ipv4/tcp_ecn",
        "ipv4/tcp_fastopen", "ipv4/tcp_abort_on_overflow", "ipv4/icmp_echo_ignore_all", "ipv4/icmp_echo_ignore_broadcasts",
        "ipv4/ip_nonlocal_bind", "ipv4/udp_rmem_min", "ipv4/udp_wmem_min", "ipv4/conf/all/forwarding", "ipv4/conf/all/rp_filter",
        "ipv4/conf/default/rp_filter", "ipv4/conf/lo/forwarding", "ipv4/conf/all/accept_redirects", "ipv4/igmp_max_memberships",
        "ipv6/conf/all/disable_ipv6", "ipv6/conf/lo/disable_ipv6", "ipv6/conf/all/forwarding", "ipv6/conf/default/accept_ra", "ipv6/bindv6only",
        "unix/max_dgram_qlen", "ipv4/ip_unprivileged_port_start", "ipv4/ping_group_range", "ipv4/ip_early_demux",
    };
    static const char *const varying[] = {"core/rmem_max", "core/wmem_max", "ipv4/tcp_rmem", "ipv4/tcp_wmem", "ipv4/tcp_congestion_control",
                                          "ipv4/tcp_available_congestion_control", "ipv4/tcp_allowed_congestion_control", "ipv4/tcp_max_syn_backlog",
                                          "ipv4/tcp_max_tw_buckets"};
    char path[200];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "/proc/sys/net/%s", names[i]);
        say_first_line(path);
    }
    for (size_t i = 0; i < sizeof varying / sizeof varying[0]; i++) {
        snprintf(path, sizeof path, "/proc/sys/net/%s", varying[i]);
        say("%s: %d", varying[i], access(path, R_OK));
    }
    int fd = open("/proc/sys/net/core/somaxconn", O_RDWR);
    show("open", fd);
    SHOW(write(fd, "100\n", 4));
    say_first_line("/proc/sys/net/core/somaxconn");
}
