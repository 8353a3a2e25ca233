// Sockets: unix(7) with descriptor passing, tcp(7) and udp(7) on loopback.
#include "probe.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un unix_address(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return address;
}

static socklen_t abstract_size(const char *name) { return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name); }

static struct sockaddr_un abstract_address(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path + 1, name);
    return address;
}

static void say_message(const char *what, const char *text, ssize_t n) {
    if (n < 0)
        show(what, n);
    else
        say("%s: %zd '%.*s'", what, n, (int)n, text);
}

static void receive(int fd, int flags) {
    char text[64];
    say_message("recv", text, recv(fd, text, sizeof text, flags | MSG_DONTWAIT));
}

PROBE(socket_errors) {
    SHOW(socket(AF_UNIX, 77, 0));
    SHOW(socket(999, SOCK_STREAM, 0));
    SHOW(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    SHOW(socket(AF_UNIX, SOCK_STREAM, 5));
    int fd = SHOW(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    SHOW(fcntl(fd, F_GETFD));
    SHOW(fcntl(fd, F_GETFL) & O_NONBLOCK);
    SHOW(send(fd, "x", 1, 0));
    char c;
    SHOW(recv(fd, &c, 1, 0));
    SHOW(listen(fd, 1));
    SHOW(accept(fd, NULL, NULL));
    SHOW(shutdown(fd, SHUT_RD));
    SHOW(shutdown(fd, 9));
    SHOW(lseek(fd, 0, SEEK_SET));
    struct stat st;
    SHOW(fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode));
    make_file("f", "");
    int file = MUST(open("f", O_RDWR));
    SHOW(listen(file, 1));
    SHOW(send(file, "x", 1, 0));
    SHOW(send(99, "x", 1, 0));
    struct sockaddr_un missing = unix_address("missing"), plain = unix_address("f");
    SHOW(connect(fd, (void *)&missing, sizeof missing));
    SHOW(connect(fd, (void *)&plain, sizeof plain));
    SHOW(bind(fd, (void *)&plain, sizeof plain));
    SHOW(connect(fd, (void *)&missing, 1));
    SHOW(open("/dev/null", O_RDONLY) >= 0);
}

PROBE(unix_stream) {
    struct sockaddr_un address = unix_address("sock"), peer;
    int listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(bind(listener, (void *)&address, sizeof address));
    SHOW(bind(listener, (void *)&address, sizeof address));
    SHOW(connect(client, (void *)&address, sizeof address));
    SHOW(listen(listener, 5));
    struct stat st;
    SHOW(stat("sock", &st) == 0 && S_ISSOCK(st.st_mode));
    SHOW(open("sock", O_RDWR));
    struct pollfd one = {listener, POLLIN, 0};
    SHOW(poll(&one, 1, 0));
    SHOW(connect(client, (void *)&address, sizeof address));
    SHOW(connect(client, (void *)&address, sizeof address));
    SHOW(poll(&one, 1, 0));
    socklen_t size = sizeof peer;
    int server = MUST(accept4(listener, (void *)&peer, &size, SOCK_CLOEXEC));
    SHOW(size);
    SHOW(fcntl(server, F_GETFD));
    size = sizeof peer;
    SHOW(getpeername(client, (void *)&peer, &size));
    say("%u '%s'", size, peer.sun_path);
    size = sizeof peer;
    SHOW(getsockname(client, (void *)&peer, &size));
    SHOW(size);
    SHOW(send(client, "hello ", 6, 0));
    SHOW(write(client, "stream", 6));
    receive(server, MSG_PEEK);
    receive(server, 0);
    receive(server, 0);
    int ready = -1;
    MUST(write(server, "12345", 5));
    SHOW(ioctl(client, FIONREAD, &ready));
    SHOW(ready);
    SHOW(shutdown(server, SHUT_WR));
    receive(client, 0);
    receive(client, 0);
    SHOW(send(server, "x", 1, MSG_NOSIGNAL));
    SHOW(close(server));
    SHOW(send(client, "x", 1, MSG_NOSIGNAL));
    struct pollfd closed = {client, POLLIN | POLLOUT, 0};
    SHOW(poll(&closed, 1, 0));
    say("%#x", closed.revents);
    SHOW(unlink("sock"));
    int late = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(connect(late, (void *)&address, sizeof address));
    SHOW(close(listener));
}

PROBE(unix_datagram) {
    struct sockaddr_un a = unix_address("a"), b = unix_address("b"), from;
    int one = MUST(socket(AF_UNIX, SOCK_DGRAM, 0)), two = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    MUST(bind(one, (void *)&a, sizeof a));
    MUST(bind(two, (void *)&b, sizeof b));
    SHOW(sendto(one, "first", 5, 0, (void *)&b, sizeof b));
    SHOW(sendto(one, "", 0, 0, (void *)&b, sizeof b));
    SHOW(sendto(one, "third message", 13, 0, (void *)&b, sizeof b));
    char text[32] = {0};
    socklen_t size = sizeof from;
    SHOW(recvfrom(two, text, sizeof text, 0, (void *)&from, &size));
    say("%s from %s", text, from.sun_path);
    SHOW(recv(two, text, sizeof text, 0));
    SHOW(recv(two, text, 5, MSG_TRUNC));
    SHOW(recv(two, text, 5, MSG_DONTWAIT));
    SHOW(send(one, "x", 1, 0));
    SHOW(connect(one, (void *)&b, sizeof b));
    SHOW(send(one, "connected", 9, 0));
    receive(two, 0);
    SHOW(listen(one, 1));
    SHOW(accept(one, NULL, NULL));
    close(two);
    SHOW(send(one, "x", 1, 0));
}

PROBE(unix_seqpacket) {
    int s[2];
    SHOW(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s));
    SHOW(send(s[0], "one", 3, 0));
    SHOW(send(s[0], "two two", 7, 0));
    char text[4];
    SHOW(recv(s[1], text, 4, 0));
    struct iovec part = {text, 4};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    SHOW(recvmsg(s[1], &message, 0));
    SHOW(message.msg_flags & MSG_TRUNC);
    close(s[0]);
    SHOW(recv(s[1], text, 4, 0));
}

PROBE(unix_abstract) {
    struct sockaddr_un address = abstract_address("probe-name"), got;
    socklen_t size = abstract_size("probe-name");
    int listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0)), client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(bind(listener, (void *)&address, size));
    SHOW(listen(listener, 1));
    SHOW(connect(client, (void *)&address, size));
    SHOW(connect(MUST(socket(AF_UNIX, SOCK_STREAM, 0)), (void *)&address, size - 1));
    size = sizeof got;
    SHOW(getpeername(client, (void *)&got, &size));
    say("%u %d '%.10s'", size, got.sun_path[0], got.sun_path + 1);
    int other = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(bind(other, (void *)&address, abstract_size("probe-name")));
    close(listener);
    SHOW(bind(other, (void *)&address, abstract_size("probe-name")));
    int automatic = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
    sa_family_t family = AF_UNIX;
    SHOW(bind(automatic, (void *)&family, sizeof family));
    size = sizeof got;
    SHOW(getsockname(automatic, (void *)&got, &size));
    SHOW(size);
}

static long send_fd(int over, const int *fds, int count) {
    char control[CMSG_SPACE(10 * sizeof(int))] = {0};
    struct iovec part = {"F", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control};
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    return sendmsg(over, &message, 0);
}

static int receive_fds(int over, int *fds, size_t room, int flags) {
    char control[CMSG_SPACE(10 * sizeof(int))] = {0}, byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = room};
    if (recvmsg(over, &message, flags) < 0)
        return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    say("flags %#x control %zu", message.msg_flags, message.msg_controllen);
    if (!header || header->cmsg_type != SCM_RIGHTS)
        return 0;
    int count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(header), count * sizeof(int));
    return count;
}

PROBE(pass_descriptors) {
    int s[2], got[10], p[2];
    char text[16] = {0};
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    MUST(pipe(p));
    make_file("f", "passed on");
    int fds[2] = {MUST(open("f", O_RDONLY)), p[0]};
    SHOW(send_fd(s[0], fds, 2));
    close(fds[0]);
    close(p[0]);
    SHOW(receive_fds(s[1], got, CMSG_SPACE(10 * sizeof(int)), MSG_CMSG_CLOEXEC));
    SHOW(read(got[0], text, 16));
    say("%s", text);
    SHOW(fcntl(got[0], F_GETFD));
    MUST(write(p[1], "pipe", 4));
    SHOW(read(got[1], text, 4));
    say("%.4s", text);
    // an end kept only in flight is not closed
    int q[2];
    MUST(pipe(q));
    SHOW(send_fd(s[0], &q[1], 1));
    close(q[1]);
    SHOW(receive_fds(s[1], got, CMSG_SPACE(sizeof(int)), 0));
    SHOW(write(got[0], "x", 1));
    close(got[0]);
    SHOW(read(q[0], text, 16));
    SHOW(read(q[0], text, 16));
    // no room: the descriptors are dropped
    SHOW(send_fd(s[0], &s[0], 1));
    SHOW(receive_fds(s[1], got, 0, 0));
    int wrong = 99;
    SHOW(send_fd(s[0], &wrong, 1));
    // dropped with the socket that holds it
    MUST(pipe(q));
    SHOW(send_fd(s[0], &q[1], 1));
    close(q[1]);
    close(s[0]);
    close(s[1]);
    SHOW(read(q[0], text, 16));
}

static int pair[2];

static void receive_in_child(void) {
    int fd = -1;
    char text[32] = {0};
    close(pair[0]);
    SHOW(receive_fds(pair[1], &fd, CMSG_SPACE(sizeof(int)), 0));
    SHOW(read(fd, text, 32));
    say("%s", text);
}

PROBE(pass_descriptor_to_child) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    pid_t pid = spawn(receive_in_child);
    make_file("f", "for the child");
    int fd = MUST(open("f", O_RDONLY));
    MUST(send_fd(pair[0], &fd, 1));
    reap("child", pid);
    SHOW(lseek(fd, 0, SEEK_CUR));
}

PROBE(credentials_of_peer) {
    int s[2], on = 1;
    struct ucred peer;
    socklen_t size = sizeof peer;
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    SHOW(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &peer, &size));
    FACT(peer.pid == getpid());
    say("%u %u", peer.uid, peer.gid);
    SHOW(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    MUST(send(s[0], "x", 1, 0));
    char control[CMSG_SPACE(sizeof peer)], byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    SHOW(recvmsg(s[1], &message, 0));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    FACT(header && header->cmsg_type == SCM_CREDENTIALS);
    if (header) {
        memcpy(&peer, CMSG_DATA(header), sizeof peer);
        FACT(peer.pid == getpid());
        say("%u %u", peer.uid, peer.gid);
    }
}

PROBE(socket_options) {
    int value = -1, on = 1;
    socklen_t size = sizeof value;
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size));
    SHOW(value == SOCK_STREAM);
    SHOW(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &size));
    SHOW(value);
    SHOW(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &size));
    SHOW(value);
    SHOW(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size));
    SHOW(value);
    SHOW(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){8192}, sizeof(int)));
    SHOW(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, &size));
    FACT(value >= 8192);
    SHOW(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, 1));
    SHOW(getsockopt(fd, SOL_SOCKET, 7777, &value, &size));
    SHOW(getsockopt(99, SOL_SOCKET, SO_TYPE, &value, &size));
    int s[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    struct timeval brief = {0, 30000};
    SHOW(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief));
    char c;
    int64_t before = now_ms();
    SHOW(recv(s[0], &c, 1, 0));
    FACT(now_ms() - before >= 29);
    int tcp = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    SHOW(getsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &value, &size));
    FACT(value != 0);
    SHOW(setsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
    SHOW(setsockopt(tcp, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)));
    SHOW(getsockopt(tcp, IPPROTO_TCP, 9999, &value, &size));
}

static void stream_server(void) {
    static char block[10000];
    close(pair[0]);
    size_t total = 0;
    ssize_t n;
    while ((n = recv(pair[1], block, sizeof block, 0)) > 0)
        total += n;
    SHOW(total);
}

PROBE(unix_stream_large) {
    size_t size = 2 << 20;
    char *data = calloc(1, size);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    pid_t pid = spawn(stream_server);
    close(pair[1]);
    FACT(send(pair[0], data, size, 0) == (ssize_t)size);
    close(pair[0]);
    reap("server", pid);
}

// ---- inet

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int listen_at(int port) {
    struct sockaddr_in address = loopback(port);
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0)), on = 1;
    MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    MUST(bind(fd, (void *)&address, sizeof address));
    MUST(listen(fd, 8));
    return fd;
}

PROBE(tcp_basic) {
    struct sockaddr_in address = loopback(4000), got;
    socklen_t size = sizeof got;
    int listener = listen_at(4000), client = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(connect(client, (void *)&address, sizeof address));
    int server = MUST(accept(listener, (void *)&got, &size));
    say("%u %s", size, inet_ntoa(got.sin_addr));
    SHOW(getpeername(client, (void *)&got, &size));
    say("%s %d", inet_ntoa(got.sin_addr), ntohs(got.sin_port));
    SHOW(getsockname(client, (void *)&got, &size));
    FACT(ntohs(got.sin_port) != 0);
    SHOW(send(client, "over tcp", 8, 0));
    struct pollfd one = {server, POLLIN, 0};
    SHOW(poll(&one, 1, 2000));
    receive(server, MSG_PEEK);
    receive(server, 0);
    receive(server, 0);
    SHOW(write(server, "answer", 6));
    char text[16] = {0};
    SHOW(read(client, text, 16));
    say("%s", text);
    SHOW(shutdown(client, SHUT_WR));
    SHOW(read(server, text, 16));
    SHOW(write(server, "half", 4));
    SHOW(read(client, text, 16));
    SHOW(close(server));
    SHOW(read(client, text, 16));
    SHOW(connect(client, (void *)&address, sizeof address));
    SHOW(shutdown(listener, SHUT_RDWR));
    SHOW(accept(listener, NULL, NULL));
}

PROBE(tcp_errors) {
    struct sockaddr_in address = loopback(4001), foreign = loopback(4002);
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(connect(fd, (void *)&address, sizeof address));
    SHOW(send(fd, "x", 1, MSG_NOSIGNAL));
    char c;
    SHOW(recv(fd, &c, 1, 0));
    int listener = listen_at(4001), other = MUST(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(bind(other, (void *)&address, sizeof address));
    foreign.sin_addr.s_addr = htonl(0x08080808);
    SHOW(bind(other, (void *)&foreign, sizeof foreign));
    foreign.sin_family = AF_INET6;
    SHOW(connect(other, (void *)&foreign, sizeof foreign));
    SHOW(bind(other, (void *)&address, 3));
    SHOW(bind(other, (void *)&(struct sockaddr_in){.sin_family = AF_INET}, sizeof address));
    struct sockaddr_in got;
    socklen_t size = sizeof got;
    SHOW(getsockname(other, (void *)&got, &size));
    FACT(ntohs(got.sin_port) != 0);
    SHOW(getpeername(other, (void *)&got, &size));
    SHOW(accept(other, NULL, NULL));
    close(listener);
}

PROBE(tcp_nonblocking_connect) {
    struct sockaddr_in address = loopback(4003);
    int listener = listen_at(4003), fd = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    int result = connect(fd, (void *)&address, sizeof address), error = -1;
    fact("in progress", result == -1 && errno == EINPROGRESS);
    struct pollfd one = {fd, POLLOUT, 0};
    SHOW(poll(&one, 1, 2000));
    say("%#x", one.revents);
    socklen_t size = sizeof error;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size));
    SHOW(error);
    fcntl(listener, F_SETFL, O_NONBLOCK);
    FACT(accept(listener, NULL, NULL) >= 0);
    SHOW(accept(listener, NULL, NULL));
    address.sin_port = htons(4999);
    int refused = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    connect(refused, (void *)&address, sizeof address);
    one.fd = refused;
    SHOW(poll(&one, 1, 2000));
    SHOW(getsockopt(refused, SOL_SOCKET, SO_ERROR, &error, &size));
    SHOW(error == ECONNREFUSED);
}

static void tcp_sender(void) {
    struct sockaddr_in address = loopback(4004);
    static char block[100000];
    int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(fd, (void *)&address, sizeof address));
    for (int i = 0; i < 30; i++) {
        memset(block, i, sizeof block);
        for (size_t sent = 0; sent < sizeof block;) {
            ssize_t n = MUST(send(fd, block + sent, sizeof block - sent, 0));
            sent += n;
        }
    }
}

PROBE(tcp_large) {
    static char block[65536];
    int listener = listen_at(4004);
    pid_t pid = spawn(tcp_sender);
    int fd = MUST(accept(listener, NULL, NULL));
    size_t total = 0;
    bool right = true;
    ssize_t n;
    while ((n = read(fd, block, sizeof block)) > 0)
        for (ssize_t i = 0; i < n; i++)
            right &= block[i] == (char)(total++ / 100000);
    SHOW(n);
    SHOW(total);
    FACT(right);
    reap("sender", pid);
}

PROBE(udp) {
    struct sockaddr_in a = loopback(5000), b = loopback(5001), from;
    int one = MUST(socket(AF_INET, SOCK_DGRAM, 0)), two = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(bind(one, (void *)&a, sizeof a));
    MUST(bind(two, (void *)&b, sizeof b));
    SHOW(sendto(one, "datagram", 8, 0, (void *)&b, sizeof b));
    char text[32] = {0};
    socklen_t size = sizeof from;
    SHOW(recvfrom(two, text, sizeof text, 0, (void *)&from, &size));
    say("%s from %s %d", text, inet_ntoa(from.sin_addr), ntohs(from.sin_port));
    SHOW(send(one, "x", 1, 0));
    SHOW(connect(one, (void *)&b, sizeof b));
    SHOW(send(one, "12345", 5, 0));
    SHOW(recv(two, text, 2, MSG_TRUNC));
    SHOW(recv(two, text, 2, MSG_DONTWAIT));
    static char huge[70000];
    SHOW(sendto(one, huge, sizeof huge, 0, (void *)&b, sizeof b));
    struct mmsghdr messages[2] = {0};
    struct iovec parts[2] = {{"first", 5}, {"second", 6}};
    messages[0].msg_hdr.msg_iov = parts;
    messages[0].msg_hdr.msg_iovlen = 1;
    messages[1].msg_hdr.msg_iov = parts + 1;
    messages[1].msg_hdr.msg_iovlen = 1;
    SHOW(sendmmsg(one, messages, 2, 0));
    receive(two, 0);
    receive(two, 0);
}

PROBE(tcp_ipv6) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(4006), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int listener = OK(socket(AF_INET6, SOCK_STREAM, 0)), client = socket(AF_INET6, SOCK_STREAM, 0);
    SHOW(bind(listener, (void *)&address, sizeof address));
    SHOW(listen(listener, 1));
    SHOW(connect(client, (void *)&address, sizeof address));
    int server = OK(accept(listener, NULL, NULL));
    MUST(write(client, "six", 3));
    char text[8] = {0};
    SHOW(read(server, text, 8));
    say("%s", text);
}

static void *accept_later(void *listener) {
    int fd = MUST(accept((int)(long)listener, NULL, NULL));
    char text[16];
    ssize_t n;
    while ((n = read(fd, text, sizeof text)) > 0)
        write(fd, text, n);
    close(fd);
    return NULL;
}

PROBE(tcp_threads) {
    pthread_t threads[5];
    int listener = listen_at(4007);
    for (int i = 0; i < 5; i++)
        pthread_create(&threads[i], NULL, accept_later, (void *)(long)listener);
    struct sockaddr_in address = loopback(4007);
    for (int i = 0; i < 5; i++) {
        int fd = MUST(socket(AF_INET, SOCK_STREAM, 0));
        MUST(connect(fd, (void *)&address, sizeof address));
        char text[8] = {0};
        for (int round = 0; round < 20; round++) {
            MUST(write(fd, "ping", 4));
            MUST(recv(fd, text, 4, MSG_WAITALL));
        }
        say("%s", text);
        close(fd);
    }
    for (int i = 0; i < 5; i++)
        pthread_join(threads[i], NULL);
}

PROBE(socket_fioasync) {
    int pair[2], on = 1, off = 0;
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    SHOW(ioctl(pair[0], FIOASYNC, &off));
    SHOW(ioctl(pair[0], FIOASYNC, &on));
    FACT(fcntl(pair[0], F_GETFL) & O_ASYNC);
    SHOW(fcntl(pair[0], F_SETOWN, getpid()));
    SHOW(ioctl(pair[0], FIOASYNC, &off));
    FACT(!(fcntl(pair[0], F_GETFL) & O_ASYNC));
    SHOW(ioctl(pair[0], FIOASYNC, (int *)8));
    int fd = MUST(open("regular", O_RDWR | O_CREAT, 0600));
    SHOW(ioctl(fd, FIOASYNC, &off));
    SHOW(ioctl(fd, FIOASYNC, &on));
}
