// What a conformance suite asks of socket calls: descriptors that are no sockets, names of odd sizes, groups, protocols.
#include "probe.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

static void every_call(int fd) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof in;
    char byte = 0;
    int value = 0;
    socklen_t four = 4;
    struct iovec iov = {&byte, 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    struct mmsghdr many = {.msg_hdr = message};
    SHOW(bind(fd, (void *)&in, sizeof in));
    SHOW(listen(fd, 1));
    SHOW(accept(fd, NULL, NULL));
    SHOW(accept4(fd, NULL, NULL, 1));
    SHOW(connect(fd, (void *)&in, sizeof in));
    SHOW(connect(fd, unmapped, sizeof in));
    SHOW(connect(fd, (void *)&in, 129));
    SHOW(getsockname(fd, (void *)&in, &size));
    SHOW(getpeername(fd, (void *)&in, &size));
    SHOW(shutdown(fd, 7));
    SHOW(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &four));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, 4));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, -1));
    SHOW(send(fd, &byte, 1, 0));
    SHOW(sendto(fd, &byte, 1, 0, unmapped, 16));
    SHOW(recv(fd, &byte, 1, 0));
    SHOW(sendmsg(fd, &message, 0));
    SHOW(sendmsg(fd, unmapped, 0));
    SHOW(recvmsg(fd, &message, 0));
    SHOW(sendmmsg(fd, &many, 1, 0));
    SHOW(recvmmsg(fd, &many, 1, 0, NULL));
}

PROBE(calls_without_a_socket) {
    say("closed");
    every_call(77);
    say("file");
    make_file("f", "x");
    every_call(open("f", O_RDWR));
    say("path");
    every_call(open("f", O_PATH));
    say("pipe");
    int ends[2];
    MUST(pipe(ends));
    every_call(ends[1]);
    say("socket's path");
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un un = {AF_UNIX, "sock"};
    MUST(bind(fd, (void *)&un, sizeof un));
    SHOW(open("sock", O_RDWR));
    every_call(open("sock", O_PATH));
}

static void names_of_size(int domain, int type, int protocol) {
    say("domain %d type %d", domain, type);
    int fd = socket(domain, type, protocol);
    if (fd < 0) {
        say("none: %d", errno);
        return;
    }
    char name[128] = {0};
    *(short *)name = domain;
    for (int size = 0; size <= 30; size++) {
        long sent = syscall(SYS_sendto, fd, "x", 1, MSG_NOSIGNAL, name, size);
        say("%d: %ld %d", size, sent, sent < 0 ? errno : 0);
    }
    SHOW(syscall(SYS_sendto, fd, "x", 1, MSG_NOSIGNAL, name, -1));
    SHOW(syscall(SYS_sendto, fd, "x", 1, MSG_NOSIGNAL, name, 129));
    SHOW(syscall(SYS_sendto, fd, "x", 1, MSG_NOSIGNAL, unmapped, 0));
    close(fd);
}

PROBE(names_of_every_size) {
    names_of_size(AF_INET, SOCK_DGRAM, 0);
    names_of_size(AF_INET6, SOCK_DGRAM, 0);
    names_of_size(AF_INET, SOCK_STREAM, 0);
    names_of_size(AF_INET6, SOCK_STREAM, 0);
    names_of_size(AF_UNIX, SOCK_STREAM, 0);
    names_of_size(AF_UNIX, SOCK_DGRAM, 0);
    names_of_size(AF_UNIX, SOCK_SEQPACKET, 0);
    names_of_size(AF_NETLINK, SOCK_RAW, 0);
}

PROBE(names_to_connect) {
    int kinds[][2] = {{AF_INET, SOCK_DGRAM}, {AF_INET6, SOCK_DGRAM}, {AF_INET, SOCK_STREAM}, {AF_INET6, SOCK_STREAM}, {AF_UNIX, SOCK_STREAM}, {AF_UNIX, SOCK_DGRAM}, {AF_NETLINK, SOCK_RAW}};
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        for (int family = 0; family < 3; family++) {
            int families[] = {kinds[i][0], AF_UNSPEC, AF_INET + AF_INET6 - kinds[i][0]};
            for (int size = 0; size <= 30; size++) {
                char name[128] = {0};
                *(short *)name = families[family];
                int fd = MUST(socket(kinds[i][0], kinds[i][1], 0));
                long connected = connect(fd, (void *)name, size);
                int why = connected < 0 ? errno : 0;
                long bound = bind(fd, (void *)name, size);
                say("%d %d %d %d: connect %ld %d bind %ld %d", kinds[i][0], kinds[i][1], families[family], size, connected, why, bound, bound < 0 ? errno : 0);
                close(fd);
            }
        }
    }
}

PROBE(udp_lite) {
    int receiver = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE);
    if (receiver < 0) {
        say("none: %d", errno);
        return;
    }
    int sender = MUST(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE)), value = 8;
    socklen_t size = sizeof value;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof in;
    SHOW(bind(receiver, (void *)&in, sizeof in));
    MUST(getsockname(receiver, (void *)&in, &length));
    for (int option = 1; option < 13; option++) {
        int get = getsockopt(receiver, IPPROTO_UDPLITE, option, &value, &size);
        int why = errno;
        value = 20;
        int set = setsockopt(receiver, IPPROTO_UDPLITE, option, &value, 4);
        say("%d: %d %d, %d %d", option, get, get ? why : 0, set, set ? errno : 0);
    }
    SHOW(sendto(sender, "lite", 4, 0, (void *)&in, sizeof in));
    char text[10] = "";
    SHOW(recv(receiver, text, sizeof text, 0));
    say("%s", text);
    SHOW(getsockopt(receiver, SOL_SOCKET, SO_PROTOCOL, &value, &size));
    say("%d", value);
}

PROBE(groups_of_a_listener) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof in;
    int listener = MUST(socket(AF_INET, SOCK_STREAM, 0)), client = MUST(socket(AF_INET, SOCK_STREAM, 0));
    struct group_req request = {.gr_interface = 1};
    struct sockaddr_in *group = (void *)&request.gr_group;
    group->sin_family = AF_INET;
    group->sin_addr.s_addr = inet_addr("224.0.0.251");
    SHOW(setsockopt(listener, SOL_IP, MCAST_JOIN_GROUP, &request, sizeof request));
    SHOW(setsockopt(listener, SOL_IP, MCAST_JOIN_GROUP, &request, sizeof request));
    MUST(bind(listener, (void *)&in, sizeof in));
    MUST(listen(listener, 1));
    MUST(getsockname(listener, (void *)&in, &length));
    MUST(connect(client, (void *)&in, sizeof in));
    int accepted = MUST(accept(listener, NULL, NULL));
    SHOW(setsockopt(accepted, SOL_IP, MCAST_LEAVE_GROUP, &request, sizeof request));
    SHOW(setsockopt(listener, SOL_IP, MCAST_LEAVE_GROUP, &request, sizeof request));
    SHOW(setsockopt(listener, SOL_IP, MCAST_LEAVE_GROUP, &request, sizeof request));
}

PROBE(tcp_protocol_on_top) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof in;
    int listener = MUST(socket(AF_INET, SOCK_STREAM, 0)), client = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(bind(listener, (void *)&in, sizeof in));
    MUST(listen(listener, 1));
    MUST(getsockname(listener, (void *)&in, &length));
    SHOW(setsockopt(client, IPPROTO_TCP, TCP_ULP, "nothing", 8));
    MUST(connect(client, (void *)&in, sizeof in));
    SHOW(setsockopt(client, IPPROTO_TCP, TCP_ULP, "nothing", 8));
    SHOW(setsockopt(client, IPPROTO_TCP, TCP_ULP, "", 0));
    SHOW(setsockopt(client, IPPROTO_TCP, TCP_ULP, unmapped, 4));
    char name[16] = "";
    socklen_t size = sizeof name;
    SHOW(getsockopt(client, IPPROTO_TCP, TCP_ULP, name, &size));
    say("%d", (int)size);
}

static void bind_to(const char *path) {
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un un = {AF_UNIX, ""};
    strncpy(un.sun_path, path, sizeof un.sun_path);
    say("%.20s", path);
    SHOW(bind(fd, (void *)&un, sizeof un));
    SHOW(connect(fd, (void *)&un, sizeof un));
    close(fd);
}

static void as_nobody(void) {
    MUST(setuid(65534));
    bind_to("secret/s");
    bind_to("s");
    bind_to("named");
}

PROBE(unix_paths_that_fail) {
    char long_name[108];
    memset(long_name, 'x', sizeof long_name);
    make_file("file", "");
    MUST(mkdir("dir", 0755));
    MUST(mkdir("secret", 0700));
    MUST(symlink("loop", "loop"));
    MUST(symlink("target", "dangling"));
    MUST(mkfifo("fifo", 0777));
    bind_to("missing/s");
    bind_to("file/s");
    bind_to("file");
    bind_to("dir");
    bind_to("dir/");
    bind_to("new/");
    bind_to("loop");
    bind_to("loop/s");
    bind_to("dangling");
    bind_to("fifo");
    bind_to(".");
    bind_to("..");
    bind_to("/");
    bind_to(long_name);
    bind_to("/dev/null");
    bind_to("/sys/s");
    bind_to("named");
    in_child("nobody", as_nobody);
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un un = {AF_UNIX, "first"};
    SHOW(bind(fd, (void *)&un, sizeof un));
    strcpy(un.sun_path, "second");
    SHOW(bind(fd, (void *)&un, sizeof un));
    SHOW(access("second", F_OK));
    strcpy(un.sun_path, "missing/second");
    SHOW(bind(fd, (void *)&un, sizeof un));
    strcpy(un.sun_path, "file/second");
    SHOW(bind(fd, (void *)&un, sizeof un));
    SHOW(bind(fd, (void *)&un, 2));
    strcpy(un.sun_path + 1, "abstract");
    un.sun_path[0] = 0;
    SHOW(bind(fd, (void *)&un, sizeof un));
}
