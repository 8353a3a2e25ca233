// Urgent data on AF_UNIX streams (MSG_OOB, SIOCATMARK, SO_OOBINLINE).
#include "probe.h"
#include <linux/sockios.h>
#include <poll.h>
#include <sys/socket.h>

static int s[2];

static void fresh(const char *what) {
    say("-- %s", what);
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s));
}

static void say_state(void) {
    int mark = -1;
    struct pollfd one = {s[1], POLLIN | POLLPRI, 0};
    MUST(poll(&one, 1, 0));
    MUST(ioctl(s[1], SIOCATMARK, &mark));
    say("  poll %#x mark %d", one.revents, mark);
}

static void receive(size_t size, int flags) {
    char text[32] = "";
    struct iovec part = {text, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t n = recvmsg(s[1], &message, flags);
    if (n < 0)
        say("recv %#x: %s", flags, strerrorname_np(errno));
    else
        say("recv %#x: %zd '%s' flags %#x", flags, n, text, message.msg_flags);
    say_state();
}

PROBE(unix_urgent_data) {
    fresh("none");
    receive(1, MSG_OOB);
    SHOW(send(s[0], "", 0, MSG_OOB));
    fresh("taken at once");
    SHOW(send(s[0], "abc!", 4, MSG_OOB));
    say_state();
    receive(1, MSG_OOB | MSG_PEEK);
    receive(1, MSG_OOB);
    receive(1, MSG_OOB);
    receive(20, 0);
    receive(20, 0);
    fresh("taken at the mark");
    SHOW(send(s[0], "abc!", 4, MSG_OOB));
    SHOW(send(s[0], "def", 3, 0));
    receive(20, MSG_PEEK);
    receive(20, 0);
    receive(1, MSG_OOB);
    receive(20, 0);
    fresh("passed over");
    SHOW(send(s[0], "abc!", 4, MSG_OOB));
    SHOW(send(s[0], "def", 3, 0));
    receive(20, 0);
    receive(20, MSG_PEEK);
    receive(20, 0);
    receive(1, MSG_OOB);
    fresh("another one");
    SHOW(send(s[0], "ab!", 3, MSG_OOB));
    SHOW(send(s[0], "cd?", 3, MSG_OOB));
    say_state();
    receive(20, 0);
    receive(1, MSG_OOB);
    receive(20, 0);
    fresh("another after the first was taken");
    SHOW(send(s[0], "ab!", 3, MSG_OOB));
    receive(1, MSG_OOB);
    SHOW(send(s[0], "cd?", 3, MSG_OOB));
    receive(20, 0);
    receive(20, 0);
    receive(1, MSG_OOB);
    receive(20, 0);
    fresh("inline");
    int one = 1;
    MUST(setsockopt(s[1], SOL_SOCKET, SO_OOBINLINE, &one, sizeof one));
    SHOW(send(s[0], "ab!", 3, MSG_OOB));
    SHOW(send(s[0], "cd", 2, 0));
    say_state();
    receive(1, MSG_OOB);
    receive(20, 0);
    receive(20, MSG_PEEK);
    receive(20, 0);
    fresh("only urgent, then closed");
    SHOW(send(s[0], "!", 1, MSG_OOB));
    close(s[0]);
    say_state();
    receive(20, MSG_PEEK);
    receive(20, 0);
    receive(20, 0);
    fresh("waitall");
    SHOW(send(s[0], "abc!", 4, MSG_OOB));
    SHOW(send(s[0], "def", 3, 0));
    receive(3, MSG_WAITALL);
    receive(3, MSG_WAITALL);
    fresh("unread urgent byte");
    SHOW(send(s[0], "!", 1, MSG_OOB));
    close(s[1]);
    int error = 0;
    socklen_t size = sizeof error;
    MUST(getsockopt(s[0], SOL_SOCKET, SO_ERROR, &error, &size));
    say("%s", error ? strerrorname_np(error) : "0");
    SHOW(send(s[0], "x", 1, MSG_OOB | MSG_NOSIGNAL));
}
