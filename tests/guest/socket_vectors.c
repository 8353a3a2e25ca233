// Buffers of sockets: vectors, memory that can be reached only in part, headers that are wrong, names that do not fit.
#include "probe.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

static int s[2];
static char *page; // 4096 bytes that can be used, and behind them some that can't

static void map_page(void) {
    page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(mprotect(page + 4096, 4096, PROT_NONE));
    memset(page, 'p', 4096);
}

static void tcp_pair(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(bind(listener, (void *)&address, sizeof address));
    MUST(listen(listener, 1));
    MUST(getsockname(listener, (void *)&address, &size));
    s[0] = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(s[0], (void *)&address, sizeof address));
    s[1] = MUST(accept(listener, NULL, NULL));
    close(listener);
}

static void udp_pair(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    s[1] = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(bind(s[1], (void *)&address, sizeof address));
    MUST(getsockname(s[1], (void *)&address, &size));
    s[0] = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(connect(s[0], (void *)&address, sizeof address));
}

static void pair_of(int kind) {
    static const char *const names[] = {"unix stream", "unix dgram", "unix seqpacket", "tcp", "udp"};
    say("-- %s", names[kind]);
    if (kind == 3)
        tcp_pair();
    else if (kind == 4)
        udp_pair();
    else
        MUST(socketpair(AF_UNIX, kind == 0 ? SOCK_STREAM : kind == 1 ? SOCK_DGRAM : SOCK_SEQPACKET, 0, s));
}

static void wait_for_data(void) {
    struct pollfd one = {s[1], POLLIN, 0};
    poll(&one, 1, 300);
}

PROBE(socket_vectors) {
    for (int kind = 0; kind < 5; kind++) {
        char a[4] = "", b[4] = "", c[40] = "";
        struct iovec out[3] = {{"abc", 3}, {"", 0}, {"defg", 4}}, in[3] = {{a, 2}, {b, 3}, {c, 40}}, none[1] = {{NULL, 0}};
        pair_of(kind);
        SHOW(writev(s[0], out, 3));
        SHOW(sendmsg(s[0], &(struct msghdr){.msg_iov = out, .msg_iovlen = 3}, 0));
        nap_ms(10);
        SHOW(readv(s[1], in, 3));
        say("%.2s %.3s %s", a, b, c);
        MUST(fcntl(s[1], F_SETFL, O_RDWR | O_NONBLOCK));
        SHOW(readv(s[1], in, 2));
        SHOW(readv(s[1], none, 1));
        SHOW(readv(s[1], in, 0));
        SHOW(writev(s[0], none, 1));
        SHOW(writev(s[0], out, 0));
        SHOW(writev(s[0], out, -1));
        SHOW(writev(s[0], out, 1025));
        SHOW(writev(s[0], unmapped, 1));
        out[1].iov_len = -1;
        SHOW(writev(s[0], out, 3));
        SHOW(sendmsg(s[0], &(struct msghdr){.msg_iov = out, .msg_iovlen = 3}, 0));
        SHOW(preadv(s[1], in, 1, 0));
        SHOW(pwritev(s[0], out, 1, 0));
        nap_ms(10);
        while (recv(s[1], c, sizeof c, MSG_DONTWAIT) >= 0)
            continue;
        say("%s", strerrorname_np(errno));
    }
}

PROBE(socket_unreadable_memory) {
    map_page();
    for (int kind = 0; kind < 5; kind++) {
        char text[100];
        pair_of(kind);
        SHOW(send(s[0], page + 4000, 200, MSG_DONTWAIT));
        struct iovec parts[2] = {{"ab", 2}, {unmapped, 2}}, wrong[2] = {{unmapped, 2}, {"ab", 2}};
        SHOW(writev(s[0], wrong, 2));
        SHOW(send(s[0], unmapped, 0, 0));
        SHOW(send(s[0], NULL, 0, 0));
        SHOW(send(s[0], kernel_half, 1, 0));
        SHOW(send(s[0], kernel_half, 0, 0));
        (void)parts;
        close(s[0]);
        SHOW(recv(s[1], text, sizeof text, MSG_DONTWAIT) >= -1);
    }
}

PROBE(socket_unwritable_memory) {
    map_page();
    for (int kind = 1; kind < 5; kind++) {
        pair_of(kind);
        MUST(send(s[0], page, 100, 0));
        wait_for_data();
        SHOW(recv(s[1], kernel_half, 100, 0));
        MUST(send(s[0], page, 100, 0));
        wait_for_data();
        SHOW(recv(s[1], page + 4000, 96, 0));
        MUST(send(s[0], page, 50, 0));
        wait_for_data();
        struct iovec parts[3] = {{page, 10}, {page + 100, 10}, {unmapped, 100}};
        if (kind != 3)
            SHOW(readv(s[1], parts, 2));
    }
}

PROBE(socket_headers) {
    for (int kind = 0; kind < 5; kind++) {
        char text[20], name[200];
        struct iovec part = {text, sizeof text};
        pair_of(kind);
        MUST(send(s[0], "message", 7, 0));
        wait_for_data();
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_flags = -1, .msg_name = name, .msg_namelen = 3};
        SHOW(recvmsg(s[1], &message, 0));
        say("flags %#x namelen %u", message.msg_flags, message.msg_namelen);
        MUST(send(s[0], "message", 7, 0));
        wait_for_data();
        message = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1, .msg_name = NULL, .msg_namelen = 77};
        SHOW(recvmsg(s[1], &message, 0));
        say("namelen %u", message.msg_namelen);
        MUST(send(s[0], "message", 7, 0));
        wait_for_data();
        message = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1, .msg_name = name, .msg_namelen = -1};
        SHOW(recvmsg(s[1], &message, 0));
        message.msg_namelen = 0;
        message.msg_iovlen = 2000;
        SHOW(recvmsg(s[1], &message, 0));
        message.msg_iovlen = 0;
        SHOW(recvmsg(s[1], &message, MSG_PEEK));
        message.msg_iovlen = 1;
        message.msg_iov = unmapped;
        SHOW(recvmsg(s[1], &message, 0));
        message.msg_iov = &part;
        message.msg_controllen = 1 << 20;
        SHOW(recvmsg(s[1], &message, MSG_DONTWAIT | MSG_PEEK));
        SHOW(message.msg_controllen);
        socklen_t size = 500;
        SHOW(recvfrom(s[1], text, sizeof text, MSG_PEEK, (void *)name, &size));
        FACT(kind == 4 ? size == 16 : size == 0);
        size = -1;
        SHOW(recvfrom(s[1], text, sizeof text, MSG_PEEK | MSG_DONTWAIT, (void *)name, &size));
        SHOW(recvfrom(s[1], text, sizeof text, MSG_PEEK | MSG_DONTWAIT, (void *)name, NULL));
        SHOW(recvfrom(s[1], text, sizeof text, MSG_PEEK | MSG_DONTWAIT, NULL, (void *)unmapped));
        SHOW(sendto(s[0], "x", 1, MSG_DONTWAIT, (void *)name, 129));
        SHOW(sendto(s[0], "x", 1, MSG_DONTWAIT, NULL, 129));
    }
}

PROBE(socket_many_messages) {
    for (int kind = 0; kind < 5; kind++) {
        char text[4][8];
        struct iovec parts[4], out[4] = {{"one", 3}, {"three", 5}, {"", 0}, {"seven", 5}};
        struct mmsghdr many[4] = {0};
        pair_of(kind);
        for (int i = 0; i < 4; i++)
            many[i].msg_hdr = (struct msghdr){.msg_iov = &out[i], .msg_iovlen = 1};
        SHOW(sendmmsg(s[0], many, 4, 0));
        say("%u %u %u %u", many[0].msg_len, many[1].msg_len, many[2].msg_len, many[3].msg_len);
        nap_ms(10);
        for (int i = 0; i < 4; i++) {
            parts[i] = (struct iovec){text[i], 4};
            many[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &parts[i], .msg_iovlen = 1}};
        }
        int got = SHOW(recvmmsg(s[1], many, 4, MSG_DONTWAIT, NULL));
        for (int i = 0; i < got; i++)
            say("%u %#x", many[i].msg_len, many[i].msg_hdr.msg_flags);
        SHOW(recvmmsg(s[1], many, 4, MSG_DONTWAIT, NULL));
        many[1].msg_hdr.msg_iov = unmapped;
        out[0] = (struct iovec){"ok", 2};
        many[0].msg_hdr.msg_iov = &out[0];
        SHOW(sendmmsg(s[0], many, 4, 0));
        SHOW(sendmmsg(s[0], many + 1, 1, 0));
        struct timespec brief = {0, 20000000};
        many[0].msg_hdr.msg_iov = &parts[0];
        many[1].msg_hdr.msg_iov = &parts[1];
        wait_for_data();
        SHOW(recvmmsg(s[1], many, 1, 0, &brief));
        SHOW(recvmmsg(s[1], many, 1, MSG_DONTWAIT, &brief));
        SHOW(recvmmsg(s[1], many, 1, MSG_DONTWAIT, &(struct timespec){-1, 0}));
        SHOW(recvmmsg(s[1], many, 1, MSG_DONTWAIT, &(struct timespec){0, 0}));
    }
}
