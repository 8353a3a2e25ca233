// AF_NETLINK (netlink(7), rtnetlink(7)): names, requests and answers, errors, options.
#include "probe.h"
#include <ifaddrs.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

static int open_route(void) { return MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)); }

// A request of `type` with a body of zeros beginning with the family.
static long ask(int fd, int type, int flags, int family, size_t body) {
    struct {
        struct nlmsghdr head;
        char body[64];
    } request = {.head = {NLMSG_LENGTH(body), type, flags, 7, 0}};
    request.body[0] = family;
    return send(fd, &request, request.head.nlmsg_len, 0);
}

// Reads answers to their end and tells their types; sizes vary between machines.
static void say_answers(const char *what, int fd) {
    static char buffer[65536];
    for (int i = 0; i < 20; i++) {
        ssize_t n = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
        if (n < 0) {
            say("%s: -1 %s", what, strerrorname_np(errno));
            return;
        }
        int left = n;
        for (struct nlmsghdr *h = (void *)buffer; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            FACT(h->nlmsg_pid != 0);
            if (h->nlmsg_type == NLMSG_ERROR)
                say("%s: error %d flags %#x length %u", what, ((struct nlmsgerr *)NLMSG_DATA(h))->error, h->nlmsg_flags, h->nlmsg_len);
            else
                say("%s: type %d flags %#x seq %u", what, h->nlmsg_type, h->nlmsg_flags, h->nlmsg_seq);
        }
    }
}

PROBE(netlink_names) {
    struct sockaddr_nl name = {.nl_family = AF_NETLINK}, got;
    socklen_t size = sizeof got;
    int fd = open_route(), other = open_route();
    SHOW(getsockname(fd, (void *)&got, &size));
    say("%u %u %u", size, got.nl_pid, got.nl_groups);
    SHOW(getpeername(fd, (void *)&got, &size));
    SHOW(bind(fd, (void *)&name, 11));
    SHOW(bind(fd, (void *)&name, 2));
    SHOW(bind(fd, (void *)&name, sizeof name));
    size = sizeof got;
    SHOW(getsockname(fd, (void *)&got, &size));
    FACT(got.nl_pid == (unsigned)getpid());
    SHOW(bind(fd, (void *)&name, sizeof name));
    name.nl_pid = 4242;
    SHOW(bind(fd, (void *)&name, sizeof name));
    SHOW(bind(other, (void *)&name, sizeof name));
    name.nl_family = AF_UNIX;
    SHOW(bind(open_route(), (void *)&name, sizeof name));
    name.nl_family = AF_NETLINK;
    SHOW(bind(open_route(), (void *)&name, sizeof name));
    name.nl_pid = 0;
    name.nl_groups = 1;
    int third = open_route();
    SHOW(bind(third, (void *)&name, sizeof name));
    SHOW(getsockname(third, (void *)&got, &size));
    FACT(got.nl_pid != 0 && got.nl_pid != (unsigned)getpid());
    SHOW(got.nl_groups);
    SHOW(listen(fd, 1));
    SHOW(accept(fd, NULL, NULL));
    SHOW(shutdown(fd, SHUT_RD));
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    SHOW(connect(fd, &none, sizeof none));
    SHOW(connect(fd, &none, 1));
    name = (struct sockaddr_nl){.nl_family = AF_NETLINK};
    SHOW(connect(fd, (void *)&name, sizeof name));
    SHOW(connect(fd, (void *)&name, 8));
    name.nl_pid = 4242;
    SHOW(connect(fd, (void *)&name, sizeof name));
    SHOW(sendto(fd, "0123456789012345", 16, 0, (void *)&name, sizeof name));
    name.nl_pid = 4243;
    SHOW(sendto(fd, "0123456789012345", 16, 0, (void *)&name, sizeof name));
    name.nl_groups = 1;
    SHOW(sendto(fd, "0123456789012345", 16, 0, (void *)&name, sizeof name));
    SHOW(sendto(fd, "0123456789012345", 16, 0, (void *)&name, 8));
    SHOW(send(fd, "x", 1, MSG_OOB));
    SHOW(recv(fd, &name, 1, MSG_OOB | MSG_DONTWAIT));
    SHOW(recv(fd, &name, 1, MSG_DONTWAIT));
    struct pollfd one = {fd, POLLIN | POLLOUT | POLLWRBAND, 0};
    SHOW(poll(&one, 1, 0));
    say("%#x", one.revents);
}

PROBE(netlink_requests) {
    int fd = open_route();
    SHOW(send(fd, "", 0, 0));
    SHOW(send(fd, "short", 5, 0));
    say_answers("short", fd);
    SHOW(ask(fd, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 0, 16));
    say_answers("links", fd);
    SHOW(ask(fd, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, AF_INET, 8));
    say_answers("addresses", fd);
    SHOW(ask(fd, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, 0, 1));
    say_answers("rtgenmsg", fd);
    SHOW(ask(fd, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, AF_INET6, 1));
    say_answers("inet6 links", fd);
    SHOW(ask(fd, RTM_GETRULE, NLM_F_REQUEST | NLM_F_DUMP, AF_INET, 12));
    say_answers("rules", fd);
    SHOW(ask(fd, RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP, AF_INET, 12));
    say_answers("neighbours", fd);
    SHOW(ask(fd, RTM_GETLINK, NLM_F_REQUEST, 0, 16));
    say_answers("no link", fd);
    SHOW(ask(fd, RTM_GETADDR, NLM_F_REQUEST, 0, 8));
    say_answers("no dump", fd);
    struct {
        struct nlmsghdr head;
        struct ifinfomsg body;
    } loopback = {{sizeof loopback, RTM_GETLINK, NLM_F_REQUEST | NLM_F_ACK, 7, 0}, {.ifi_index = 1}};
    SHOW(send(fd, &loopback, sizeof loopback, 0));
    say_answers("one link with ack", fd);
    SHOW(ask(fd, RTM_GETLINK, NLM_F_REQUEST | NLM_F_ACK | NLM_F_DUMP, 0, 16));
    say_answers("links with ack", fd);
    SHOW(ask(fd, RTM_GETLINK, NLM_F_DUMP, 0, 16));
    say_answers("no request flag", fd);
    SHOW(ask(fd, NLMSG_NOOP, NLM_F_REQUEST, 0, 0));
    say_answers("noop", fd);
    SHOW(ask(fd, NLMSG_NOOP, NLM_F_REQUEST | NLM_F_ACK, 0, 0));
    say_answers("noop with ack", fd);
    SHOW(ask(fd, NLMSG_DONE, NLM_F_REQUEST | NLM_F_ACK, 0, 0));
    say_answers("done", fd);
    SHOW(ask(fd, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, 0, 16));
    say_answers("new link", fd);
    SHOW(ask(fd, RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, 0, 16));
    say_answers("delete link", fd);
    SHOW(ask(fd, RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK, AF_INET, 8));
    say_answers("new address", fd);
    SHOW(ask(fd, RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_ACK, AF_INET, 12));
    say_answers("new route", fd);
    SHOW(ask(fd, RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, 0, 16));
    say_answers("set link", fd);
    SHOW(ask(fd, 17 + 4 * 20, NLM_F_REQUEST | NLM_F_ACK, 0, 16));
    say_answers("unused type", fd);
    SHOW(ask(fd, 4000, NLM_F_REQUEST | NLM_F_ACK, 0, 16));
    say_answers("unknown type", fd);
    SHOW(ask(fd, 16, NLM_F_REQUEST | NLM_F_ACK, 0, 0));
    say_answers("no body", fd);
}

PROBE(netlink_receive) {
    char text[64];
    int fd = open_route(), amount = -1;
    MUST(ask(fd, RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK, AF_INET, 8));
    struct pollfd one = {fd, POLLIN | POLLOUT, 0};
    SHOW(poll(&one, 1, 0));
    say("%#x", one.revents);
    SHOW(ioctl(fd, FIONREAD, &amount));
    SHOW(recv(fd, text, 10, MSG_PEEK));
    SHOW(recv(fd, text, 10, MSG_PEEK | MSG_TRUNC));
    SHOW(recv(fd, NULL, 0, MSG_PEEK | MSG_TRUNC));
    struct sockaddr_nl from;
    struct iovec part = {text, 10};
    char control[64];
    struct msghdr message = {&from, sizeof from, &part, 1, control, sizeof control, 0};
    SHOW(recvmsg(fd, &message, 0));
    say("%#x %u %u %u control %zu", message.msg_flags, message.msg_namelen, from.nl_pid, from.nl_groups, message.msg_controllen);
    SHOW(recv(fd, text, 10, MSG_DONTWAIT));
    int value = 1;
    for (int option = 1; option <= 13; option++) {
        if (option == NETLINK_LIST_MEMBERSHIPS)
            continue; // how many groups there are depends on the kernel
        value = 1;
        long done = setsockopt(fd, SOL_NETLINK, option, &value, sizeof value);
        say("set %d: %s", option, done ? strerrorname_np(errno) : "ok");
        socklen_t size = sizeof value;
        done = getsockopt(fd, SOL_NETLINK, option, &value, &size);
        say("get %d: %s %d %u", option, done ? strerrorname_np(errno) : "ok", value, size);
    }
    value = 100;
    SHOW(setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &value, sizeof value));
    value = 0;
    SHOW(setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &value, sizeof value));
    SHOW(setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &value, 3));
    SHOW(setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, unmapped, 4));
    MUST(ask(fd, RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK, AF_INET, 8));
    message.msg_controllen = sizeof control;
    SHOW(recvmsg(fd, &message, 0));
    say("%#x control %zu", message.msg_flags, message.msg_controllen);
    // longer than the socket's buffer
    static char huge[1000000];
    SHOW(send(fd, huge, sizeof huge, 0));
    int uevents = OK(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
    struct sockaddr_nl all = {.nl_family = AF_NETLINK, .nl_groups = 1};
    SHOW(bind(uevents, (void *)&all, sizeof all));
    SHOW(recv(uevents, text, 10, 0));
    SHOW(send(uevents, text, 10, 0));
}

PROBE(libc_network_names) {
    struct ifaddrs *all = NULL;
    SHOW(getifaddrs(&all));
    for (struct ifaddrs *one = all; one; one = one->ifa_next)
        if (strcmp(one->ifa_name, "lo") == 0)
            say("%s %#x family %d", one->ifa_name, one->ifa_flags, one->ifa_addr ? one->ifa_addr->sa_family : -1);
    struct if_nameindex *names = if_nameindex();
    for (int i = 0; names && names[i].if_index; i++)
        if (strcmp(names[i].if_name, "lo") == 0)
            say("%u %s", names[i].if_index, names[i].if_name);
}

// NETLINK_SOCK_DIAG: what ss(8) reads.
PROBE(netlink_sock_diag) {
    struct {
        struct nlmsghdr head;
        struct {
            unsigned char family, protocol, ext, pad;
            unsigned states;
            unsigned char id[48];
        } body;
    } request = {.head = {sizeof request, 20, NLM_F_REQUEST | NLM_F_DUMP, 5, 0}};
    struct {
        struct nlmsghdr head;
        unsigned char family, protocol;
        unsigned short pad;
        unsigned states, inode, show, cookie[2];
    } unix_request = {.head = {sizeof unix_request, 20, NLM_F_REQUEST | NLM_F_DUMP, 6, 0}, .family = AF_UNIX, .states = -1, .show = 0x1f};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7321)};
    int fd = MUST(socket(AF_NETLINK, SOCK_RAW, 4)), listener = MUST(socket(AF_INET, SOCK_STREAM, 0)), pair[2];
    MUST(bind(listener, (void *)&address, sizeof address));
    MUST(listen(listener, 7));
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    MUST(send(pair[0], "four", 4, 0));
    struct stat st;
    static char buffer[32768];
    request.body.family = AF_INET;
    request.body.protocol = IPPROTO_TCP;
    request.body.states = 1 << 10; // listening
    SHOW(send(fd, &request, sizeof request, 0));
    MUST(fstat(listener, &st));
    int found = 0;
    for (bool done = false; !done;) {
        int left = MUST(recv(fd, buffer, sizeof buffer, MSG_DONTWAIT));
        for (struct nlmsghdr *h = (void *)buffer; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            unsigned char *m = NLMSG_DATA(h);
            done = done || h->nlmsg_type == NLMSG_DONE;
            if (h->nlmsg_type == 20 && *(unsigned *)(m + 68) == st.st_ino) {
                found++;
                say("state %d port %d queues %u %u uid %u", m[1], ntohs(*(unsigned short *)(m + 4)), *(unsigned *)(m + 56), *(unsigned *)(m + 60), *(unsigned *)(m + 64));
            }
        }
    }
    SHOW(found);
    SHOW(send(fd, &unix_request, sizeof unix_request, 0));
    MUST(fstat(pair[1], &st));
    found = 0;
    for (bool done = false; !done;) {
        int left = MUST(recv(fd, buffer, sizeof buffer, MSG_DONTWAIT));
        for (struct nlmsghdr *h = (void *)buffer; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            unsigned char *m = NLMSG_DATA(h);
            done = done || h->nlmsg_type == NLMSG_DONE;
            if (h->nlmsg_type == 20 && *(unsigned *)(m + 4) == st.st_ino) {
                found++;
                say("type %d state %d", m[1], m[2]);
                for (unsigned at = 16; at + 4 <= h->nlmsg_len - 16; at += (*(unsigned short *)(m + at) + 3) & ~3)
                    say("attribute %d length %d value %u", *(unsigned short *)(m + at + 2), *(unsigned short *)(m + at), *(unsigned short *)(m + at + 2) == 2 ? 0 : m[at + 4]);
            }
        }
    }
    SHOW(found);
    request.body.family = 77;
    SHOW(send(fd, &request, sizeof request, 0));
    say_answers("family", fd);
    request.body.family = 5;
    SHOW(send(fd, &request, sizeof request, 0));
    say_answers("family without sockets", fd);
    request.head.nlmsg_type = 99;
    SHOW(send(fd, &request, sizeof request, 0));
    say_answers("type", fd);
    unix_request.head.nlmsg_flags = NLM_F_REQUEST;
    unix_request.inode = 1;
    SHOW(send(fd, &unix_request, sizeof unix_request, 0));
    say_answers("no such inode", fd);
    unix_request.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    unix_request.inode = st.st_ino;
    unix_request.cookie[0] = unix_request.cookie[1] = -1; // INET_DIAG_NOCOOKIE
    SHOW(send(fd, &unix_request, sizeof unix_request, 0));
    say_answers("one with ack", fd);
}
