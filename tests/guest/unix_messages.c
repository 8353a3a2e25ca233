// Data through AF_UNIX sockets: flags of send(2) and recv(2), bounds of messages, queues, blocking, amounts.
#include "probe.h"
#include <linux/sockios.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
static int s[2];

static void pair_of(int type) {
    say("type %d", type);
    MUST(socketpair(AF_UNIX, type, 0, s));
}

static void receive(const char *what, int fd, size_t size, int flags) {
    char text[256] = "";
    struct iovec part = {text, size};
    struct sockaddr_un from;
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1};
    message.msg_flags = 0x7777;
    ssize_t n = recvmsg(fd, &message, flags | MSG_DONTWAIT);
    if (n < 0)
        say("%s: -1 %s", what, strerrorname_np(errno));
    else
        say("%s: %zd '%s' flags %#x name %u", what, n, text, message.msg_flags, message.msg_namelen);
}

PROBE(unix_receive_flags) {
    for (int i = 0; i < 3; i++) {
        pair_of(types[i]);
        SHOW(send(s[0], "first", 5, 0));
        SHOW(send(s[0], "second", 6, MSG_EOR));
        SHOW(send(s[0], "third", 5, MSG_MORE));
        SHOW(send(s[0], "fourth", 6, MSG_DONTROUTE | MSG_CONFIRM));
        receive("peek", s[1], 3, MSG_PEEK);
        receive("peek all", s[1], 100, MSG_PEEK);
        receive("peek trunc", s[1], 3, MSG_PEEK | MSG_TRUNC);
        receive("nothing", s[1], 0, MSG_PEEK);
        receive("nothing trunc", s[1], 0, MSG_PEEK | MSG_TRUNC);
        receive("short", s[1], 3, 0);
        receive("trunc", s[1], 2, MSG_TRUNC);
        receive("waitall", s[1], 100, MSG_WAITALL);
        receive("oob", s[1], 1, MSG_OOB);
        receive("errqueue", s[1], 1, MSG_ERRQUEUE);
        receive("eor", s[1], 100, MSG_EOR);
        receive("end", s[1], 100, 0);
        receive("zero", s[1], 0, 0);
    }
}

PROBE(unix_empty_messages) {
    for (int i = 0; i < 3; i++) {
        pair_of(types[i]);
        SHOW(send(s[0], "", 0, 0));
        SHOW(write(s[0], "", 0));
        SHOW(send(s[0], "x", 1, 0));
        struct pollfd one = {s[1], POLLIN, 0};
        SHOW(poll(&one, 1, 0));
        receive("1", s[1], 10, 0);
        receive("2", s[1], 10, 0);
        receive("3", s[1], 10, 0);
        receive("4", s[1], 10, 0);
        char c;
        MUST(fcntl(s[1], F_SETFL, O_NONBLOCK));
        SHOW(read(s[1], &c, 0));
        SHOW(recv(s[1], &c, 0, 0));
        SHOW(recv(s[1], NULL, 0, MSG_DONTWAIT));
        SHOW(sendmsg(s[0], &(struct msghdr){0}, 0));
        receive("5", s[1], 10, 0);
    }
}

static void say_amount(const char *what) {
    int in = -1, out = -1;
    long a = ioctl(s[1], SIOCINQ, &in), b = ioctl(s[0], SIOCOUTQ, &out);
    say("%s: %ld in %d, %ld out %d", what, a, in, b, out);
}

PROBE(unix_amounts) {
    static char block[100000];
    for (int i = 0; i < 3; i++) {
        pair_of(types[i]);
        say_amount("empty");
        SHOW(send(s[0], block, 1, 0));
        say_amount("1");
        SHOW(send(s[0], block, 1000, 0));
        say_amount("1000");
        SHOW(send(s[0], block, 40000, 0));
        say_amount("40000");
        receive("part", s[1], 100, 0);
        say_amount("after 100");
        receive("part", s[1], 100, MSG_PEEK);
        say_amount("after a peek");
        int value;
        SHOW(ioctl(s[0], SIOCINQ, unmapped));
        SHOW(ioctl(s[0], SIOCOUTQ, unmapped));
        SHOW(ioctl(s[0], FIONREAD, &value));
        SHOW(ioctl(s[0], SIOCATMARK, &value));
        SHOW(ioctl(s[0], SIOCOUTQNSD, &value));
        SHOW(ioctl(s[0], SIOCGSTAMP, block));
        SHOW(ioctl(s[0], 0x8999, block));
        SHOW(ioctl(s[0], 0x5401, block));
        SHOW(ioctl(s[0], FIONBIO, &value));
        SHOW(lseek(s[0], 0, SEEK_SET));
        SHOW(pread(s[0], block, 1, 0));
        SHOW(ftruncate(s[0], 0));
        SHOW(fsync(s[0]));
        SHOW(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, s[0], 0) == MAP_FAILED ? -1 : 0);
        close(s[0]);
        close(s[1]);
    }
}

static long fill(int fd, size_t size) {
    static char block[300000];
    long total = 0;
    for (;;) {
        ssize_t n = send(fd, block, size, MSG_DONTWAIT);
        if (n < 0) {
            say("after %ld: %s", total, strerrorname_np(errno));
            return total;
        }
        total += n;
    }
}

PROBE(unix_full_queue) {
    static char block[300000];
    size_t sizes[] = {1, 100, 1000, 4000, 10000, 50000, 200000};
    for (int i = 0; i < 3; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof sizes[0]; j++) {
            pair_of(types[i]);
            fill(s[0], sizes[j]);
            struct pollfd one = {s[0], POLLOUT, 0};
            say("%zu: poll %d", sizes[j], poll(&one, 1, 0));
            int reads = 0;
            while (poll(&one, 1, 0) == 0 && recv(s[1], block, sizes[j], 0) > 0)
                reads++;
            say("writable after %d", reads);
            close(s[0]);
            close(s[1]);
        }
}

PROBE(unix_too_long) {
    static char block[2000000];
    int small = 5000;
    for (int i = 0; i < 3; i++) {
        pair_of(types[i]);
        SHOW(send(s[0], block, 212992, MSG_DONTWAIT));
        SHOW(send(s[0], block, 2000000, MSG_DONTWAIT));
        pair_of(types[i]);
        MUST(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
        SHOW(send(s[0], block, 10000 - 31, MSG_DONTWAIT));
        SHOW(send(s[0], block, 10000 - 32, MSG_DONTWAIT));
        SHOW(send(s[0], block, 1, MSG_DONTWAIT));
    }
}

static void *reader(void *unused) {
    char text[1000];
    (void)unused;
    nap_ms(30);
    for (int i = 0; i < 2000 && recv(s[1], text, sizeof text, MSG_DONTWAIT) > 0; i++)
        continue;
    return NULL;
}

PROBE(unix_blocked_writer) {
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        pair_of(types[i]);
        long total = fill(s[0], 1000);
        FACT(total > 1000);
        pthread_create(&thread, NULL, reader, NULL);
        SHOW(send(s[0], "late", 4, 0));
        pthread_join(thread, NULL);
    }
}

static void *peer_closer(void *unused) {
    (void)unused;
    nap_ms(30);
    close(s[1]);
    return NULL;
}

static void *peer_shutter(void *how) {
    nap_ms(30);
    shutdown(s[1], (int)(long)how);
    return NULL;
}

static void blocked(int type, void *(*what)(void *), long how, bool writing) {
    pthread_t thread;
    pair_of(type);
    count_signal(SIGPIPE, 0);
    if (writing)
        fill(s[0], 1000);
    pthread_create(&thread, NULL, what, (void *)how);
    char text[1000];
    if (writing)
        SHOW(send(s[0], text, sizeof text, 0));
    else
        SHOW(recv(s[0], text, sizeof text, 0));
    SHOW(handled);
    pthread_join(thread, NULL);
}

PROBE(unix_blocked_then_closed) {
    blocked(SOCK_STREAM, peer_closer, 0, false);
    blocked(SOCK_SEQPACKET, peer_closer, 0, false);
    blocked(SOCK_STREAM, peer_closer, 0, true);
    blocked(SOCK_DGRAM, peer_closer, 0, true);
    blocked(SOCK_SEQPACKET, peer_closer, 0, true);
}

PROBE(unix_blocked_then_shut) {
    blocked(SOCK_STREAM, peer_shutter, SHUT_WR, false);
    blocked(SOCK_SEQPACKET, peer_shutter, SHUT_WR, false);
    blocked(SOCK_STREAM, peer_shutter, SHUT_RD, true);
    blocked(SOCK_SEQPACKET, peer_shutter, SHUT_RD, true);
}

PROBE(unix_timeouts) {
    struct timeval soon = {0, 30000};
    for (int i = 0; i < 3; i++) {
        char c;
        pair_of(types[i]);
        MUST(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon));
        MUST(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon));
        int64_t before = now_ms();
        SHOW(recv(s[0], &c, 1, 0));
        FACT(now_ms() - before >= 29);
        fill(s[0], 1000);
        static char block[100000];
        before = now_ms();
        SHOW(send(s[0], block, 100000, 0));
        FACT(now_ms() - before >= 29);
        // a wait with a time-out is not restarted
        struct itimerval alarm_soon = {{0, 0}, {0, 10000}};
        count_signal(SIGALRM, SA_RESTART);
        struct timeval later = {5, 0};
        MUST(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &later, sizeof later));
        MUST(setitimer(ITIMER_REAL, &alarm_soon, NULL));
        SHOW(recv(s[0], &c, 1, 0));
        SHOW(handled);
    }
}

PROBE(unix_peek_offset) {
    for (int i = 0; i < 3; i++) {
        pair_of(types[i]);
        int offset = 0;
        SHOW(send(s[0], "abcdef", 6, 0));
        SHOW(send(s[0], "ghi", 3, 0));
        SHOW(setsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset));
        for (int j = 0; j < 5; j++)
            receive("peek", s[1], 2, MSG_PEEK);
        receive("take", s[1], 1, 0);
        receive("peek", s[1], 4, MSG_PEEK);
        receive("peek", s[1], 100, MSG_PEEK);
        offset = 1;
        SHOW(setsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset));
        receive("peek", s[1], 100, MSG_PEEK);
        offset = 100;
        SHOW(setsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset));
        receive("peek", s[1], 100, MSG_PEEK);
        receive("take", s[1], 100, 0);
        offset = -1;
        SHOW(setsockopt(s[1], SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset));
        SHOW(send(s[0], "new", 3, 0));
        receive("peek", s[1], 2, MSG_PEEK);
        receive("peek", s[1], 2, MSG_PEEK);
    }
}

static void *slow_writer(void *unused) {
    (void)unused;
    for (int i = 0; i < 3; i++) {
        nap_ms(30);
        MUST(send(s[0], "four", 4, 0));
    }
    return NULL;
}

PROBE(unix_low_water_mark) {
    pthread_t thread;
    char text[20];
    int low = 7;
    pair_of(SOCK_STREAM);
    MUST(setsockopt(s[1], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
    pthread_create(&thread, NULL, slow_writer, NULL);
    SHOW(recv(s[1], text, sizeof text, 0));
    SHOW(recv(s[1], text, sizeof text, MSG_DONTWAIT));
    pthread_join(thread, NULL);
    SHOW(recv(s[1], text, sizeof text, MSG_DONTWAIT));
    pthread_create(&thread, NULL, slow_writer, NULL);
    SHOW(recv(s[1], text, 10, MSG_WAITALL));
    SHOW(recv(s[1], text, 1, MSG_WAITALL));
    pthread_join(thread, NULL);
    struct timeval soon = {0, 30000};
    MUST(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon));
    SHOW(recv(s[1], text, 10, MSG_WAITALL));
    SHOW(recv(s[1], text, 10, MSG_WAITALL));
    MUST(send(s[0], "abcdefgh", 8, 0));
    SHOW(recv(s[1], text, 4, MSG_PEEK | MSG_WAITALL));
    SHOW(recv(s[1], text, 10, MSG_PEEK | MSG_WAITALL));
    shutdown(s[0], SHUT_WR);
    SHOW(recv(s[1], text, 10, MSG_WAITALL));
    SHOW(recv(s[1], text, 10, MSG_WAITALL));
}
