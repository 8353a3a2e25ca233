// socket(2) for every family and type: what is there, what is refused and how.
#include "probe.h"
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/socket.h>

static void try_family(int family) {
    for (int type = 0; type <= 11; type++) {
        if (type == SOCK_PACKET)
            continue; // an old word for AF_PACKET, which a sandbox has not
        errno = 0;
        int fd = socket(family, type, 0);
        if (fd >= 0 || errno != EAFNOSUPPORT)
            say("%d type %d: %s", family, type, fd < 0 ? strerrorname_np(errno) : "ok");
        else if (type == 1)
            say("%d: EAFNOSUPPORT", family);
        if (fd >= 0)
            close(fd);
    }
}

PROBE(socket_families) {
    // Not those that only some kernels have: a test of the call, not of a configuration.
    int families[] = {-1, 0, AF_UNIX, AF_INET, AF_INET6, 3, 4, 5, 6, 9, 45, 46, 47, 1000};
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        try_family(families[i]);
}

PROBE(socket_protocols) {
    int families[] = {AF_INET, AF_INET6, AF_UNIX};
    int protocols[] = {-1, 0, 1, 2, 6, 17, 58, 136, 132, 255, 256, 262, 263, 1000};
    for (int i = 0; i < 3; i++)
        for (int type = 1; type <= 5; type++)
            for (size_t j = 0; j < sizeof protocols / sizeof protocols[0]; j++) {
                if (protocols[j] == 132 || protocols[j] == 262)
                    continue;
                int fd = socket(families[i], type, protocols[j]);
                say("%d %d %d: %s", families[i], type, protocols[j], fd < 0 ? strerrorname_np(errno) : "ok");
                close(fd);
            }
    SHOW(socket(AF_UNIX, SOCK_STREAM | 0x10, 0));
    SHOW(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK << 1, 0));
    SHOW(socket(AF_UNIX, -1, 0));
    SHOW(socket(AF_NETLINK, SOCK_STREAM, 0));
    SHOW(socket(AF_NETLINK, SOCK_RAW, -1));
    SHOW(socket(AF_NETLINK, SOCK_RAW, 32));
    SHOW(socket(AF_NETLINK, SOCK_DGRAM, 23));
}

static int ask(int fd, int command, const char *name, struct ifreq *request) {
    memset(request, 0, sizeof *request);
    if (name)
        strncpy(request->ifr_name, name, IFNAMSIZ - 1);
    return ioctl(fd, command, request);
}

PROBE(interface_ioctls) {
    struct ifreq r;
    int types[][2] = {{AF_INET, SOCK_DGRAM}, {AF_UNIX, SOCK_STREAM}, {AF_INET6, SOCK_STREAM}};
    for (int i = 0; i < 3; i++) {
        int fd = MUST(socket(types[i][0], types[i][1], 0));
        SHOW(ask(fd, SIOCGIFINDEX, "lo", &r));
        SHOW(r.ifr_ifindex);
        r.ifr_ifindex = 1;
        SHOW(ioctl(fd, SIOCGIFNAME, &r));
        say("%s", r.ifr_name);
        SHOW(ask(fd, SIOCGIFNAME, "lo", &r));
        SHOW(ask(fd, SIOCGIFFLAGS, "lo", &r));
        say("%#x", r.ifr_flags);
        SHOW(ask(fd, SIOCGIFADDR, "lo", &r));
        say("%#x %d", ntohl(((struct sockaddr_in *)&r.ifr_addr)->sin_addr.s_addr), r.ifr_addr.sa_family);
        SHOW(ask(fd, SIOCGIFNETMASK, "lo", &r));
        say("%#x", ntohl(((struct sockaddr_in *)&r.ifr_addr)->sin_addr.s_addr));
        SHOW(ask(fd, SIOCGIFBRDADDR, "lo", &r));
        SHOW(ask(fd, SIOCGIFDSTADDR, "lo", &r));
        SHOW(ask(fd, SIOCGIFMTU, "lo", &r));
        SHOW(r.ifr_mtu);
        SHOW(ask(fd, SIOCGIFMETRIC, "lo", &r));
        SHOW(r.ifr_metric);
        SHOW(ask(fd, SIOCGIFHWADDR, "lo", &r));
        SHOW(r.ifr_hwaddr.sa_family);
        SHOW(ask(fd, SIOCGIFTXQLEN, "lo", &r));
        SHOW(r.ifr_qlen);
        SHOW(ask(fd, SIOCGIFMAP, "lo", &r));
        SHOW(ask(fd, SIOCGIFINDEX, "none", &r));
        SHOW(ask(fd, SIOCGIFADDR, "none", &r));
        SHOW(ask(fd, SIOCGIFFLAGS, "", &r));
        SHOW(ask(fd, SIOCSIFFLAGS, "lo", &r));
        SHOW(ask(fd, SIOCSIFADDR, "lo", &r));
        SHOW(ask(fd, SIOCSIFMTU, "lo", &r));
        SHOW(ask(fd, SIOCSIFNAME, "lo", &r));
        SHOW(ask(fd, SIOCSIFHWADDR, "lo", &r));
        SHOW(ask(fd, SIOCGIFSLAVE, "lo", &r));
        SHOW(ask(fd, SIOCGIFPFLAGS, "lo", &r));
        SHOW(ask(fd, SIOCGIFENCAP, "lo", &r));
        SHOW(ask(fd, SIOCGIFBR, "lo", &r));
        SHOW(ask(fd, SIOCETHTOOL, "lo", &r));
        SHOW(ask(fd, SIOCBRADDBR, "br0", &r));
        SHOW(ask(fd, SIOCGIFVLAN, "lo", &r));
        SHOW(ask(fd, SIOCBONDINFOQUERY, "lo", &r));
        SHOW(ask(fd, SIOCGMIIPHY, "lo", &r));
        SHOW(ask(fd, SIOCSHWTSTAMP, "lo", &r));
        SHOW(ask(fd, SIOCADDRT, "lo", &r));
        SHOW(ask(fd, SIOCDELRT, "lo", &r));
        SHOW(ask(fd, SIOCGARP, "lo", &r));
        SHOW(ask(fd, SIOCSARP, "lo", &r));
        SHOW(ask(fd, SIOCGRARP, "lo", &r));
        SHOW(ioctl(fd, SIOCGIFINDEX, unmapped));
        struct ifreq all[4];
        struct ifconf conf = {.ifc_len = sizeof all, .ifc_req = all};
        SHOW(ioctl(fd, SIOCGIFCONF, &conf));
        SHOW(conf.ifc_len);
        say("%s", all[0].ifr_name);
        conf = (struct ifconf){.ifc_len = 0, .ifc_req = NULL};
        SHOW(ioctl(fd, SIOCGIFCONF, &conf));
        SHOW(conf.ifc_len);
        conf = (struct ifconf){.ifc_len = 39, .ifc_req = all};
        SHOW(ioctl(fd, SIOCGIFCONF, &conf));
        SHOW(conf.ifc_len);
        SHOW(ioctl(fd, SIOCGIFCONF, unmapped));
        conf = (struct ifconf){.ifc_len = 40, .ifc_req = unmapped};
        SHOW(ioctl(fd, SIOCGIFCONF, &conf));
        int owner = 0;
        SHOW(ioctl(fd, FIOGETOWN, &owner));
        SHOW(ioctl(fd, SIOCGPGRP, &owner));
        SHOW(owner);
        owner = getpid();
        SHOW(ioctl(fd, SIOCSPGRP, &owner));
        FACT(fcntl(fd, F_GETOWN) == owner);
        owner = 99999;
        SHOW(ioctl(fd, FIOSETOWN, &owner));
    }
    SHOW(if_nametoindex("lo"));
    SHOW(if_nametoindex("none"));
    char name[IFNAMSIZ];
    say("%s", if_indextoname(1, name));
}
