// Waiting for readiness: poll(2), select(2), epoll(7), and timerfd(2), which exists to be waited on.
#include "probe.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/timerfd.h>

PROBE(poll_errors) {
    struct pollfd set[3] = {{99, POLLIN, 0}, {-1, POLLIN, 7}, {1, 0, 0}};
    SHOW(poll(set, 3, 0));
    say("%#x %#x %#x", set[0].revents, set[1].revents, set[2].revents);
    SHOW(poll(NULL, 0, 0));
    SHOW(poll(set, 1 << 30, 0));
    make_file("f", "x");
    struct pollfd file = {MUST(open("f", O_RDONLY)), POLLIN | POLLOUT, 0};
    SHOW(poll(&file, 1, -1));
    say("%#x", file.revents);
    struct timespec wrong = {0, 2000000000};
    SHOW(ppoll(&file, 1, &wrong, NULL));
}

PROBE(poll_timeout) {
    int p[2];
    MUST(pipe(p));
    struct pollfd one = {p[0], POLLIN, 0};
    int64_t before = now_ms();
    SHOW(poll(&one, 1, 60));
    int64_t took = now_ms() - before;
    FACT(took >= 59 && took < 1000);
    before = now_ms();
    SHOW(poll(NULL, 0, 30));
    FACT(now_ms() - before >= 29);
}

static int p[2];

static void *write_later(void *unused) {
    (void)unused;
    nap_ms(50);
    MUST(write(p[1], "x", 1));
    return NULL;
}

static void start_writer(pthread_t *thread) { pthread_create(thread, NULL, write_later, NULL); }

PROBE(poll_wakes) {
    pthread_t thread;
    MUST(pipe(p));
    start_writer(&thread);
    struct pollfd set[2] = {{p[0], POLLIN, 0}, {p[1], POLLIN, 0}};
    SHOW(poll(set, 2, -1));
    say("%#x %#x", set[0].revents, set[1].revents);
    pthread_join(thread, NULL);
}

PROBE(poll_interrupted) {
    struct itimerval soon = {{0, 0}, {0, 50000}};
    count_signal(SIGALRM, SA_RESTART);
    MUST(pipe(p));
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    struct pollfd one = {p[0], POLLIN, 0};
    SHOW(poll(&one, 1, -1));
    SHOW(handled);
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    fd_set reads;
    FD_ZERO(&reads);
    FD_SET(p[0], &reads);
    SHOW(select(p[0] + 1, &reads, NULL, NULL, NULL));
    SHOW(handled);
}

PROBE(ppoll_mask) {
    sigset_t blocked, none;
    sigemptyset(&none);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    count_signal(SIGUSR1, 0);
    MUST(sigprocmask(SIG_BLOCK, &blocked, NULL));
    MUST(raise(SIGUSR1));
    SHOW(handled);
    SHOW(ppoll(NULL, 0, &(struct timespec){0, 0}, &none));
    SHOW(handled);
    SHOW(ppoll(NULL, 0, &(struct timespec){5, 0}, &none));
    SHOW(handled);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    FACT(sigismember(&now, SIGUSR1));
}

PROBE(select_basic) {
    MUST(pipe(p));
    fd_set reads, writes, fails;
    FD_ZERO(&reads);
    FD_ZERO(&writes);
    FD_ZERO(&fails);
    FD_SET(p[0], &reads);
    FD_SET(p[1], &writes);
    struct timeval zero = {0, 0};
    SHOW(select(20, &reads, &writes, &fails, &zero));
    SHOW(FD_ISSET(p[0], &reads));
    SHOW(FD_ISSET(p[1], &writes));
    MUST(write(p[1], "x", 1));
    FD_SET(p[0], &reads);
    FD_SET(p[1], &writes);
    SHOW(select(20, &reads, &writes, &fails, &zero));
    FD_ZERO(&reads);
    FD_SET(19, &reads);
    SHOW(select(20, &reads, NULL, NULL, &zero));
    SHOW(select(-1, NULL, NULL, NULL, &zero));
    struct timeval left = {0, 60000};
    FD_ZERO(&reads);
    SHOW(select(0, NULL, NULL, NULL, &left));
    SHOW(left.tv_usec);
    struct timeval wrong = {-1, 0};
    SHOW(select(0, NULL, NULL, NULL, &wrong));
    pthread_t thread;
    char c;
    MUST(read(p[0], &c, 1));
    start_writer(&thread);
    FD_SET(p[0], &reads);
    SHOW(select(p[0] + 1, &reads, NULL, NULL, &(struct timeval){5, 0}));
    pthread_join(thread, NULL);
}

static void say_events(int epoll, int timeout) {
    struct epoll_event events[8];
    int n = epoll_wait(epoll, events, 8, timeout);
    if (n < 0)
        show("epoll_wait", n);
    else
        say("%d events", n);
    for (int i = 0; i < n; i++)
        say("  %#x data %lu", events[i].events, (unsigned long)events[i].data.u64);
}

static struct epoll_event event(uint32_t events, uint64_t value) {
    return (struct epoll_event){.events = events, .data.u64 = value};
}

PROBE(epoll_errors) {
    struct epoll_event e = event(EPOLLIN, 1);
    MUST(pipe(p));
    SHOW(epoll_create(0));
    SHOW(epoll_create1(5));
    int ep = MUST(epoll_create1(EPOLL_CLOEXEC));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &e));
    SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, p[1], NULL));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, 99, &e));
    SHOW(epoll_ctl(99, EPOLL_CTL_ADD, p[0], &e));
    SHOW(epoll_ctl(p[0], EPOLL_CTL_ADD, p[1], &e));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &e));
    SHOW(epoll_ctl(ep, 77, p[1], &e));
    make_file("f", "x");
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, MUST(open("f", O_RDONLY)), &e));
    SHOW(epoll_wait(ep, &e, 0, 0));
    SHOW(epoll_wait(ep, &e, -1, 0));
    SHOW(epoll_wait(p[0], &e, 1, 0));
    SHOW(epoll_wait(ep, &e, 1, 0));
    int other = MUST(epoll_create1(0));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, other, &e));
    SHOW(epoll_ctl(other, EPOLL_CTL_ADD, ep, &e));
    SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
}

PROBE(epoll_level_and_edge) {
    char c;
    struct epoll_event e;
    MUST(pipe(p));
    int ep = MUST(epoll_create1(0));
    e = event(EPOLLIN, 11);
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    e = event(EPOLLOUT, 22);
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e));
    say_events(ep, 0);
    MUST(write(p[1], "ab", 2));
    say_events(ep, 0);
    say_events(ep, 0);
    e = event(EPOLLIN | EPOLLET, 33);
    MUST(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &e));
    MUST(epoll_ctl(ep, EPOLL_CTL_DEL, p[1], NULL));
    say("edge");
    say_events(ep, 0);
    say_events(ep, 0);
    MUST(read(p[0], &c, 1));
    say_events(ep, 0);
    MUST(write(p[1], "c", 1));
    say_events(ep, 0);
    say_events(ep, 0);
    close(p[1]);
    say_events(ep, 0);
    say_events(ep, 0);
}

PROBE(epoll_oneshot) {
    struct epoll_event e = event(EPOLLIN | EPOLLONESHOT, 1);
    MUST(pipe(p));
    int ep = MUST(epoll_create1(0));
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    MUST(write(p[1], "x", 1));
    say_events(ep, 0);
    MUST(write(p[1], "x", 1));
    say_events(ep, 0);
    SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &e));
    say_events(ep, 0);
    say_events(ep, 0);
}

PROBE(epoll_nested) {
    struct epoll_event e = event(EPOLLIN, 1);
    MUST(pipe(p));
    int inner = MUST(epoll_create1(0)), outer = MUST(epoll_create1(0));
    MUST(epoll_ctl(inner, EPOLL_CTL_ADD, p[0], &e));
    e = event(EPOLLIN, 2);
    MUST(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &e));
    say_events(outer, 0);
    MUST(write(p[1], "x", 1));
    say_events(outer, 0);
    struct pollfd one = {inner, POLLIN, 0};
    SHOW(poll(&one, 1, 0));
    char c;
    MUST(read(p[0], &c, 1));
    say_events(outer, 0);
}

PROBE(epoll_close_removes) {
    struct epoll_event e = event(EPOLLIN, 1);
    MUST(pipe(p));
    int ep = MUST(epoll_create1(0));
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    MUST(write(p[1], "x", 1));
    int copy = MUST(dup(p[0]));
    close(p[0]);
    say_events(ep, 0);
    close(copy);
    say_events(ep, 0);
}

PROBE(epoll_wakes) {
    pthread_t thread;
    struct epoll_event e = event(EPOLLIN, 5);
    MUST(pipe(p));
    int ep = MUST(epoll_create1(0));
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    int64_t before = now_ms();
    say_events(ep, 40);
    FACT(now_ms() - before >= 39);
    start_writer(&thread);
    say_events(ep, -1);
    pthread_join(thread, NULL);
}

PROBE(epoll_many) {
    int ep = MUST(epoll_create1(0)), fds[100];
    struct epoll_event e, events[200];
    for (int i = 0; i < 100; i++) {
        fds[i] = MUST(eventfd(0, EFD_NONBLOCK));
        e = event(EPOLLIN, i);
        MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &e));
    }
    uint64_t one = 1;
    for (int i = 0; i < 100; i += 3)
        MUST(write(fds[i], &one, 8));
    SHOW(epoll_wait(ep, events, 200, 0));
    SHOW(epoll_wait(ep, events, 10, 0));
    long sum = 0;
    int n = epoll_wait(ep, events, 200, 0);
    for (int i = 0; i < n; i++)
        sum += events[i].data.u64;
    SHOW(sum);
}

static void epoll_child(void) { MUST(write(p[1], "from child", 10)); }

PROBE(epoll_across_fork) {
    struct epoll_event e = event(EPOLLIN, 9);
    MUST(pipe(p));
    int ep = MUST(epoll_create1(0));
    MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    pid_t pid = spawn(epoll_child);
    say_events(ep, -1);
    reap("child", pid);
}

PROBE(timerfd) {
    uint64_t count = 0;
    int fd = SHOW(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    SHOW(read(fd, &count, 8));
    struct itimerspec spec = {{0, 20000000}, {0, 20000000}}, left;
    SHOW(timerfd_settime(fd, 0, &spec, NULL));
    struct pollfd one = {fd, POLLIN, 0};
    SHOW(poll(&one, 1, 2000));
    SHOW(read(fd, &count, 8));
    FACT(count >= 1);
    SHOW(timerfd_gettime(fd, &left));
    SHOW(left.it_interval.tv_nsec);
    nap_ms(100);
    SHOW(read(fd, &count, 8));
    FACT(count >= 3);
    spec = (struct itimerspec){{0, 0}, {0, 0}};
    SHOW(timerfd_settime(fd, 0, &spec, NULL));
    SHOW(poll(&one, 1, 50));
    SHOW(timerfd_create(77, 0));
    SHOW(timerfd_create(CLOCK_MONOTONIC, 1));
}
