// Readiness of every kind of file, as poll(2), select(2) and epoll(7) tell it.
#include "probe.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#define ALL (POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND | 0x400)

// What each of the three says of one descriptor.
static void say_ready(const char *what, int fd) {
    struct pollfd one = {fd, ALL, 0};
    MUST(poll(&one, 1, 0));
    fd_set r, w, e;
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_ZERO(&e);
    FD_SET(fd, &r);
    FD_SET(fd, &w);
    FD_SET(fd, &e);
    struct timeval zero = {0, 0};
    int n = select(fd + 1, &r, &w, &e, &zero);
    int ep = MUST(epoll_create1(0));
    struct epoll_event event = {.events = 0x3fff}, got = {0};
    long added = epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
    const char *error = added ? strerrorname_np(errno) : "";
    int m = epoll_wait(ep, &got, 1, 0);
    say("%s: poll %#x select %d %d%d%d epoll %s %d %#x", what, one.revents, n, !!FD_ISSET(fd, &r), !!FD_ISSET(fd, &w), !!FD_ISSET(fd, &e), error, m,
        got.events);
    close(ep);
}

PROBE(ready_files) {
    make_file("file", "x");
    MUST(mkdir("dir", 0755));
    say_ready("file r", MUST(open("file", O_RDONLY)));
    say_ready("file w", MUST(open("file", O_WRONLY)));
    say_ready("directory", MUST(open("dir", O_RDONLY)));
    say_ready("null", MUST(open("/dev/null", O_RDWR)));
    say_ready("zero", MUST(open("/dev/zero", O_RDWR)));
    say_ready("full", MUST(open("/dev/full", O_RDWR)));
    say_ready("random", MUST(open("/dev/random", O_RDWR)));
    say_ready("urandom", MUST(open("/dev/urandom", O_RDWR)));
    say_ready("proc file", MUST(open("/proc/self/stat", O_RDONLY)));
    say_ready("proc directory", MUST(open("/proc", O_RDONLY)));
    say_ready("memfd", MUST(memfd_create("m", 0)));
    say_ready("pidfd", MUST(syscall(SYS_pidfd_open, getpid(), 0)));
    say_ready("inotify", MUST(inotify_init1(0)));
    say_ready("epoll", MUST(epoll_create1(0)));
    int timer = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
    say_ready("timerfd", timer);
    struct itimerspec now = {{0, 0}, {0, 1}};
    MUST(timerfd_settime(timer, 0, &now, NULL));
    nap_ms(2);
    say_ready("timerfd due", timer);
    int path = MUST(open("file", O_PATH));
    struct pollfd one = {path, ALL, 0};
    SHOW(poll(&one, 1, 0));
    say("%#x", one.revents);
}

PROBE(ready_eventfd) {
    uint64_t value = UINT64_MAX - 1;
    int fd = MUST(eventfd(0, 0));
    say_ready("empty", fd);
    MUST(write(fd, &(uint64_t){1}, 8));
    say_ready("1", fd);
    MUST(write(fd, &(uint64_t){UINT64_MAX - 2}, 8));
    say_ready("full", fd);
    MUST(read(fd, &value, 8));
    say_ready("taken", fd);
}

static char block[65536];

PROBE(ready_pipes) {
    int p[2];
    MUST(pipe2(p, O_NONBLOCK));
    say_ready("empty r", p[0]);
    say_ready("empty w", p[1]);
    MUST(write(p[1], block, 1));
    say_ready("1 r", p[0]);
    say_ready("1 w", p[1]);
    MUST(write(p[1], block, 65535));
    say_ready("more w", p[1]);
    while (write(p[1], block, 1) > 0)
        continue;
    say_ready("full r", p[0]);
    say_ready("full w", p[1]);
    close(p[1]);
    say_ready("no writer, data", p[0]);
    while (read(p[0], block, sizeof block) > 0)
        continue;
    say_ready("no writer", p[0]);
    MUST(pipe2(p, O_NONBLOCK));
    MUST(write(p[1], block, 1));
    close(p[0]);
    say_ready("no reader", p[1]);
    MUST(mkfifo("fifo", 0600));
    int r = MUST(open("fifo", O_RDONLY | O_NONBLOCK));
    say_ready("fifo without writer ever", r);
    int w = MUST(open("fifo", O_WRONLY | O_NONBLOCK));
    say_ready("fifo r", r);
    say_ready("fifo w", w);
    close(w);
    say_ready("fifo writer gone", r);
    w = MUST(open("fifo", O_WRONLY | O_NONBLOCK));
    say_ready("fifo writer again", r);
    close(r);
    say_ready("fifo reader gone", w);
    int both = MUST(open("fifo", O_RDWR | O_NONBLOCK));
    say_ready("fifo both", both);
}

PROBE(ready_sockets) {
    int s[2];
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "sock"};
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    say_ready("stream", s[0]);
    MUST(send(s[1], "x", 1, 0));
    say_ready("data", s[0]);
    while (send(s[0], block, 1000, MSG_DONTWAIT) > 0)
        continue;
    say_ready("full", s[0]);
    MUST(shutdown(s[1], SHUT_WR));
    say_ready("peer done writing", s[0]);
    close(s[1]);
    say_ready("peer gone", s[0]);
    int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    say_ready("unconnected", fd);
    MUST(bind(fd, (void *)&address, sizeof address));
    MUST(listen(fd, 1));
    say_ready("listening", fd);
    int client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(connect(client, (void *)&address, sizeof address));
    say_ready("pending", fd);
    say_ready("client", client);
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    say_ready("dgram", s[0]);
    while (send(s[0], "x", 1, MSG_DONTWAIT) > 0)
        continue;
    say_ready("dgram full", s[0]);
    say_ready("dgram other", s[1]);
    MUST(send(s[1], "x", 1, MSG_DONTWAIT));
    close(s[1]);
    say_ready("dgram peer gone", s[0]);
}

PROBE(select_sets) {
    fd_set r, w;
    struct timeval zero = {0, 0}, third = {0, 333333};
    int p[2];
    MUST(pipe(p));
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_SET(p[0], &r);
    FD_SET(p[1], &w);
    SHOW(select(0, &r, &w, NULL, &zero));
    SHOW(FD_ISSET(p[0], &r));
    FD_SET(p[0], &r);
    SHOW(select(p[1], &r, &w, NULL, &zero));
    SHOW(FD_ISSET(p[1], &w));
    SHOW(select(-1, NULL, NULL, NULL, &zero));
    SHOW(select(1024, unmapped, NULL, NULL, &zero));
    SHOW(syscall(SYS_select, 10, NULL, NULL, NULL, unmapped));
    SHOW(select(0, unmapped, NULL, NULL, &zero));
    // what lies beyond the table's size is not looked at
    FD_ZERO(&r);
    FD_SET(1000, &r);
    SHOW(select(1024, &r, NULL, NULL, &zero));
    FD_ZERO(&r);
    FD_SET(40, &r);
    SHOW(select(1024, &r, NULL, NULL, &zero));
    FD_ZERO(&r);
    FD_SET(200, &r);
    SHOW(select(1024, &r, NULL, NULL, &zero));
    MUST(dup2(p[0], 150));
    SHOW(select(1024, &r, NULL, NULL, &zero));
    FD_ZERO(&r);
    FD_SET(300, &r);
    SHOW(select(1024, &r, NULL, NULL, &zero));
    SHOW(select(1 << 20, NULL, NULL, NULL, &zero));
    SHOW(syscall(SYS_select, 0, NULL, NULL, NULL, &(struct timeval){0, -1}));
    SHOW(syscall(SYS_select, 0, NULL, NULL, NULL, &(struct timeval){0, 1000000}));
    (void)third;
    struct {
        sigset_t *set;
        size_t size;
    } mask = {NULL, 4};
    struct timespec none = {0, 0}, wrong = {0, -1};
    SHOW(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &none, &mask));
    sigset_t set;
    sigemptyset(&set);
    mask.set = &set;
    SHOW(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &none, &mask));
    mask.size = 8;
    SHOW(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &none, &mask));
    SHOW(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &wrong, &mask));
    SHOW(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &none, unmapped));
    mask.set = unmapped;
    SHOW(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &none, &mask));
    SHOW(syscall(SYS_pselect6, -1, NULL, NULL, NULL, &none, NULL));
}

PROBE(poll_arguments) {
    struct pollfd set[3] = {{0, 0, 9}, {-5, POLLIN, 9}, {77, 0, 9}};
    SHOW(poll(unmapped, 1, 0));
    SHOW(poll(unmapped, 0, 0));
    SHOW(poll(set, -1, 0));
    SHOW(poll(set, 2000000, 0));
    SHOW(poll(set + 1, 2, -1));
    say("%#x %#x", set[1].revents, set[2].revents);
    sigset_t mask;
    sigemptyset(&mask);
    struct timespec none = {0, 0}, wrong = {-1, 0};
    SHOW(syscall(SYS_ppoll, set + 1, 1, &none, &mask, 4));
    SHOW(syscall(SYS_ppoll, set + 1, 1, &wrong, &mask, 8));
    SHOW(syscall(SYS_ppoll, set + 1, 1, unmapped, NULL, 0));
    SHOW(syscall(SYS_ppoll, set + 1, 1, &none, unmapped, 8));
    SHOW(syscall(SYS_ppoll, set + 1, 1, &none, NULL, 77));
    struct rlimit limit = {16, 64};
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    struct pollfd many[20] = {0};
    for (int i = 0; i < 20; i++)
        many[i].fd = -1;
    SHOW(poll(many, 16, 0));
    SHOW(poll(many, 17, 0));
    // the same file twice, with other wishes
    int p[2];
    MUST(pipe(p));
    MUST(write(p[1], "x", 1));
    struct pollfd twice[4] = {{p[0], POLLIN, 0}, {p[0], POLLRDNORM, 0}, {p[0], 0, 0}, {p[0], POLLOUT, 0}};
    SHOW(poll(twice, 4, 0));
    say("%#x %#x %#x %#x", twice[0].revents, twice[1].revents, twice[2].revents, twice[3].revents);
}

static int q[2];

static void *close_reader(void *unused) {
    (void)unused;
    nap_ms(40);
    close(q[0]);
    return NULL;
}

PROBE(poll_errors_wake) {
    pthread_t thread;
    MUST(pipe(q));
    pthread_create(&thread, NULL, close_reader, NULL);
    struct pollfd one = {q[1], 0, 0};
    SHOW(poll(&one, 1, 3000));
    say("%#x", one.revents);
    pthread_join(thread, NULL);
    // a timeout is told to select and ppoll, also when interrupted
    struct itimerval soon = {{0, 0}, {0, 30000}};
    struct timespec left = {5, 0};
    struct timeval left_too = {5, 0};
    count_signal(SIGALRM, SA_RESTART);
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    SHOW(ppoll(NULL, 0, &left, NULL));
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    SHOW(syscall(SYS_ppoll, NULL, 0, &left, NULL, 0));
    FACT(left.tv_sec == 4);
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    SHOW(select(0, NULL, NULL, NULL, &left_too));
    FACT(left_too.tv_sec == 4);
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    SHOW(epoll_wait(MUST(epoll_create1(0)), &(struct epoll_event){0}, 1, 3000));
    SHOW(handled);
}
