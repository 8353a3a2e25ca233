// POSIX message queues: mq_overview(7).
#include "probe.h"
#include <mqueue.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/select.h>

static mqd_t make(const char *name, int flags, long count, long size) {
    struct mq_attr attr = {.mq_maxmsg = count, .mq_msgsize = size};
    return mq_open(name, O_CREAT | O_RDWR | flags, 0600, count ? &attr : NULL);
}

static void say_attr(mqd_t q) {
    struct mq_attr it;
    if (mq_getattr(q, &it))
        say("attr: %s", strerrorname_np(errno));
    else
        say("flags %ld, %ld of %ld messages of %ld bytes", it.mq_flags, it.mq_curmsgs, it.mq_maxmsg, it.mq_msgsize);
}

static void get(mqd_t q) {
    char text[8200] = "";
    unsigned priority = 99;
    ssize_t n = mq_receive(q, text, sizeof text, &priority);
    if (n < 0)
        say("receive: %s", strerrorname_np(errno));
    else
        say("%zd bytes, priority %u: %.*s", n, priority, (int)n, text);
}

PROBE(mq_names) {
    char long_name[300];
    memset(long_name, 'x', sizeof long_name);
    long_name[0] = '/';
    long_name[256] = 0;
    SHOW(mq_open("/q", O_RDWR));
    SHOW(make("/q", 0, 0, 0));
    SHOW(make("/q", O_EXCL, 0, 0));
    SHOW(mq_open("/q", O_RDONLY));
    SHOW(mq_open("/q", O_WRONLY | O_CLOEXEC));
    SHOW(fcntl(5, F_GETFD));
    SHOW(fcntl(3, F_GETFD));
    SHOW(mq_open("/q", 3));
    SHOW(syscall(SYS_mq_open, "q", 3, 0, 0));
    SHOW(syscall(SYS_mq_open, "", O_RDWR, 0, 0));
    SHOW(syscall(SYS_mq_open, "/q", O_RDWR, 0, 0));
    SHOW(syscall(SYS_mq_open, "a/q", O_RDWR | O_CREAT, 0, 0));
    SHOW(syscall(SYS_mq_open, ".", O_RDWR, 0, 0));
    SHOW(syscall(SYS_mq_open, "..", O_RDWR | O_CREAT, 0600, 0));
    SHOW(syscall(SYS_mq_open, unmapped, O_RDWR, 0, 0));
    SHOW(mq_open(long_name, O_RDWR | O_CREAT, 0600, NULL));
    long_name[257] = 0;
    long_name[256] = 'x';
    SHOW(mq_open(long_name, O_RDWR | O_CREAT, 0600, NULL));
    SHOW(mq_unlink(long_name));
    SHOW(mq_unlink("/q"));
    SHOW(mq_unlink("/q"));
    SHOW(syscall(SYS_mq_unlink, "a/b"));
    SHOW(syscall(SYS_mq_unlink, ""));
    SHOW(syscall(SYS_mq_unlink, "."));
    SHOW(mq_send(3, "still", 5, 1)); // an unlinked queue goes on for those who have it
    get(4);
    SHOW(make("/q", O_EXCL, 0, 0) > 0);
}

PROBE(mq_attributes) {
    mqd_t q = MUST(make("/q", 0, 0, 0));
    say_attr(q);
    SHOW(make("/a", 0, 10, 8192) > 0);
    SHOW(make("/b", 0, 11, 8192));
    SHOW(make("/b", 0, 10, 8193));
    SHOW(make("/b", 0, -1, 1));
    SHOW(make("/b", 0, 1, 0));
    SHOW(make("/b", 0, 1, -1));
    SHOW(make("/b", 0, 65537, 1));
    SHOW(syscall(SYS_mq_open, "c", O_RDWR | O_CREAT, 0600, unmapped));
    SHOW(syscall(SYS_mq_open, "q", O_RDWR, 0600, unmapped) > 0);
    struct mq_attr set = {.mq_flags = O_NONBLOCK, .mq_maxmsg = 77}, old;
    SHOW(mq_setattr(q, &set, &old));
    say("%ld %ld", old.mq_flags, old.mq_maxmsg);
    say_attr(q);
    SHOW(fcntl(q, F_GETFL) == (O_RDWR | O_NONBLOCK));
    SHOW(fcntl(q, F_SETFL, 0));
    say_attr(q);
    set.mq_flags = O_NONBLOCK | O_APPEND;
    SHOW(mq_setattr(q, &set, &old));
    SHOW(syscall(SYS_mq_getsetattr, q, unmapped, NULL));
    SHOW(syscall(SYS_mq_getsetattr, q, NULL, unmapped));
    SHOW(syscall(SYS_mq_getsetattr, q, NULL, NULL));
    SHOW(syscall(SYS_mq_getsetattr, 1, NULL, NULL));
    SHOW(syscall(SYS_mq_getsetattr, 99, NULL, NULL));
    mqd_t other = MUST(mq_open("/q", O_RDONLY | O_NONBLOCK));
    say_attr(other);
    say_attr(q);
}

PROBE(mq_messages) {
    mqd_t q = MUST(make("/q", O_NONBLOCK, 4, 16)), reader = MUST(mq_open("/q", O_RDONLY)), writer = MUST(mq_open("/q", O_WRONLY));
    char text[16];
    unsigned priority;
    SHOW(mq_send(q, "low", 3, 0));
    SHOW(mq_send(q, "high", 4, 32767));
    SHOW(mq_send(q, "", 0, 5));
    SHOW(mq_send(q, "high again", 10, 32767));
    SHOW(mq_send(q, "full", 4, 1));
    SHOW(mq_send(q, "x", 1, 32768));
    SHOW(mq_send(q, "seventeen letters", 17, 1));
    SHOW(mq_send(reader, "x", 1, 1));
    SHOW(mq_send(1, "x", 1, 1));
    SHOW(mq_send(99, "x", 1, 32768));
    SHOW(mq_receive(writer, text, sizeof text, &priority));
    SHOW(mq_receive(q, text, 15, &priority));
    SHOW(mq_receive(1, text, 15, &priority));
    say_attr(q);
    say_file("/dev/mqueue/q");
    for (int i = 0; i < 5; i++) get(q);
    SHOW(mq_send(q, unmapped, 3, 1));
    MUST(mq_send(q, "lost", 4, 1));
    SHOW(mq_receive(q, unmapped, 16, NULL));
    get(q);
    MUST(mq_send(q, "x", 1, 1));
    SHOW(mq_receive(q, text, 16, NULL));
    MUST(mq_send(q, "x", 1, 1));
    SHOW(mq_receive(q, text, 16, unmapped));
    say_attr(q);
    SHOW(read(q, text, 16));
    SHOW(write(q, text, 16));
    SHOW(lseek(q, 0, SEEK_SET));
    struct stat st;
    SHOW(fstat(q, &st));
    say("%o %ld bytes, %lu links", st.st_mode, (long)st.st_size, (unsigned long)st.st_nlink);
}

PROBE(mq_timeouts) {
    mqd_t q = MUST(make("/q", 0, 1, 16));
    char text[16];
    struct timespec past = {1, 0}, odd = {0, 1000000000}, before = {-1, 0}, soon;
    SHOW(mq_timedreceive(q, text, 16, NULL, &past));
    SHOW(mq_timedreceive(q, text, 16, NULL, &odd));
    SHOW(mq_timedreceive(q, text, 16, NULL, &before));
    SHOW(mq_timedreceive(q, text, 16, NULL, unmapped));
    SHOW(mq_timedreceive(99, text, 16, NULL, &odd));
    SHOW(mq_timedsend(99, text, 16, 40000, &odd));
    SHOW(mq_timedsend(q, "x", 1, 1, &odd));
    SHOW(mq_timedsend(q, "x", 1, 1, NULL));
    SHOW(mq_timedsend(q, "x", 1, 1, &past));
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 40000000;
    if (soon.tv_nsec >= 1000000000) soon = (struct timespec){soon.tv_sec + 1, soon.tv_nsec - 1000000000};
    int64_t start = now_ms();
    SHOW(mq_timedsend(q, "x", 1, 1, &soon));
    FACT(now_ms() - start >= 30);
    count_signal(SIGALRM, 0);
    struct itimerval alarm = {{0, 0}, {0, 40000}};
    MUST(setitimer(ITIMER_REAL, &alarm, NULL));
    SHOW(mq_send(q, "x", 1, 1));
    count_signal(SIGALRM, SA_RESTART);
    MUST(setitimer(ITIMER_REAL, &alarm, NULL));
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_sec++;
    SHOW(mq_timedsend(q, "x", 1, 1, &soon)); // goes on after the handler
    SHOW(handled);
}

static mqd_t shared;

static void *receive_one(void *unused) {
    (void)unused;
    get(shared);
    return NULL;
}

static void *send_one(void *text) {
    show("send", mq_send(shared, text, strlen(text), 3));
    return NULL;
}

PROBE(mq_waits) {
    shared = MUST(make("/q", 0, 1, 16));
    pthread_t thread, others[2];
    MUST(pthread_create(&thread, NULL, receive_one, NULL));
    nap_ms(30);
    MUST(mq_send(shared, "woken", 5, 2));
    pthread_join(thread, NULL);
    MUST(mq_send(shared, "first", 5, 2));
    MUST(pthread_create(&thread, NULL, send_one, "second"));
    nap_ms(30);
    get(shared);
    pthread_join(thread, NULL);
    get(shared);
    for (int i = 0; i < 2; i++) {
        MUST(pthread_create(&others[i], NULL, receive_one, NULL));
        nap_ms(20);
    }
    for (int i = 0; i < 2; i++) {
        MUST(mq_send(shared, i ? "for the second" : "for the first", 13 + i, 2));
        pthread_join(others[i], NULL);
    }
}

static int polled(mqd_t q, int timeout) {
    struct pollfd one = {q, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM, 0};
    int n = poll(&one, 1, timeout);
    return n > 0 ? one.revents : n;
}

static void *send_later(void *text) {
    nap_ms(40);
    MUST(mq_send(shared, text, strlen(text), 3));
    return NULL;
}

PROBE(mq_polled) {
    shared = MUST(make("/q", 0, 1, 16));
    mqd_t reader = MUST(mq_open("/q", O_RDONLY)), writer = MUST(mq_open("/q", O_WRONLY));
    say("%#x %#x %#x", polled(shared, 0), polled(reader, 0), polled(writer, 0));
    MUST(mq_send(shared, "x", 1, 1));
    say("%#x %#x %#x", polled(shared, 0), polled(reader, 0), polled(writer, 0));
    get(shared);
    pthread_t thread;
    struct pollfd one = {reader, POLLIN, 0};
    MUST(pthread_create(&thread, NULL, send_later, "late"));
    SHOW(poll(&one, 1, 5000));
    pthread_join(thread, NULL);
    get(shared);
    int set = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET};
    SHOW(epoll_ctl(set, EPOLL_CTL_ADD, shared, &event));
    SHOW(epoll_wait(set, &event, 1, 0));
    say("%#x", event.events);
    SHOW(epoll_wait(set, &event, 1, 20));
    MUST(pthread_create(&thread, NULL, send_later, "again"));
    SHOW(epoll_wait(set, &event, 1, 5000));
    say("%#x", event.events);
    pthread_join(thread, NULL);
    fd_set reads;
    FD_ZERO(&reads);
    FD_SET(shared, &reads);
    struct timeval none = {0, 0};
    SHOW(select(shared + 1, &reads, NULL, NULL, &none));
}

static siginfo_t seen;

static void on_info(int sig, siginfo_t *info, void *context) {
    (void)context;
    seen = *info;
    last_signal = sig;
    handled++;
}

PROBE(mq_notify_signal) {
    struct sigaction action = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO};
    MUST(sigaction(SIGUSR1, &action, NULL));
    mqd_t q = MUST(make("/q", O_NONBLOCK, 5, 16)), other = MUST(make("/r", O_NONBLOCK, 5, 16));
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42};
    SHOW(mq_notify(q, &event));
    SHOW(mq_notify(q, &event));
    SHOW(mq_notify(other, &event));
    say_file("/dev/mqueue/r");
    SHOW(mq_notify(other, &event)); // the close of any descriptor of it has ended the first
    SHOW(mq_notify(other, NULL));
    SHOW(mq_notify(other, NULL));
    MUST(mq_send(q, "x", 1, 1));
    say("%d: %s code %d value %d", handled, signal_name(seen.si_signo), seen.si_code, seen.si_value.sival_int);
    FACT(seen.si_pid == getpid());
    MUST(mq_send(q, "x", 1, 1)); // told once
    SHOW(handled);
    SHOW(mq_notify(q, &event)); // not empty: nothing to tell
    MUST(mq_send(q, "x", 1, 1));
    SHOW(handled);
    for (int i = 0; i < 3; i++) get(q);
    pid_t child = MUST(fork());
    if (!child) {
        SHOW(mq_notify(q, &event)); // somebody else's
        SHOW(mq_notify(q, NULL));
        MUST(mq_send(q, "x", 1, 1));
        _exit(0);
    }
    reap("child", child);
    SHOW(handled);
    FACT(seen.si_pid == child);
    event.sigev_notify = SIGEV_NONE;
    SHOW(mq_notify(q, &event));
    SHOW(mq_notify(q, &event));
    SHOW(mq_notify(q, NULL));
    event.sigev_notify = 77;
    SHOW(mq_notify(q, &event));
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = 65;
    SHOW(mq_notify(q, &event));
    event.sigev_signo = 0;
    SHOW(mq_notify(q, &event));
    SHOW(mq_notify(q, NULL));
    SHOW(syscall(SYS_mq_notify, q, unmapped));
    SHOW(syscall(SYS_mq_notify, 1, NULL));
    SHOW(syscall(SYS_mq_notify, 99, NULL));
    event.sigev_signo = SIGUSR1;
    SHOW(mq_notify(q, &event));
    close(q); // any descriptor of it closed by the process ends that
    q = MUST(mq_open("/q", O_RDWR | O_NONBLOCK));
    get(q);
    MUST(mq_send(q, "x", 1, 1));
    SHOW(handled);
}

static void register_and_end(void) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    MUST(mq_notify(shared, &event));
}

PROBE(mq_notify_ends) {
    shared = MUST(make("/q", O_NONBLOCK, 5, 16));
    in_child("child", register_and_end);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    count_signal(SIGUSR1, 0);
    SHOW(mq_notify(shared, &event));
    // A receiver that waits takes the message and nobody is told
    pthread_t thread;
    SHOW(fcntl(shared, F_SETFL, 0));
    MUST(pthread_create(&thread, NULL, receive_one, NULL));
    nap_ms(30);
    MUST(mq_send(shared, "x", 1, 1));
    pthread_join(thread, NULL);
    SHOW(handled);
    MUST(mq_send(shared, "x", 1, 1));
    SHOW(handled);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told = PTHREAD_COND_INITIALIZER;
static int value_told;

static void on_thread(union sigval value) {
    pthread_mutex_lock(&lock);
    value_told = value.sival_int;
    pthread_cond_signal(&told);
    pthread_mutex_unlock(&lock);
}

PROBE(mq_notify_thread) {
    mqd_t q = MUST(make("/q", 0, 5, 16));
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_thread, .sigev_value.sival_int = 7};
    SHOW(mq_notify(q, &event));
    SHOW(mq_notify(q, &event));
    MUST(mq_send(q, "x", 1, 1));
    pthread_mutex_lock(&lock);
    while (!value_told) pthread_cond_wait(&told, &lock);
    pthread_mutex_unlock(&lock);
    SHOW(value_told);
    get(q);
    event.sigev_value.sival_int = 8;
    SHOW(mq_notify(q, &event));
    SHOW(mq_notify(q, NULL));
    SHOW(mq_notify(q, &event));
    MUST(mq_send(q, "x", 1, 1));
    pthread_mutex_lock(&lock);
    while (value_told != 8) pthread_cond_wait(&told, &lock);
    pthread_mutex_unlock(&lock);
    SHOW(value_told);
}

static void as_another(void) {
    MUST(setresgid(1000, 1000, 1000));
    MUST(setresuid(1000, 1000, 1000));
    SHOW(mq_open("/q", O_RDONLY));
    SHOW(mq_open("/q", O_RDWR));
    SHOW(mq_open("/q", O_WRONLY | O_CREAT, 0777, NULL));
    SHOW(mq_unlink("/q"));
    mqd_t own = SHOW(make("/own", 0, 5, 5));
    struct stat st;
    MUST(fstat(own, &st));
    say("%u %u %o", st.st_uid, st.st_gid, st.st_mode);
    SHOW(make("/b", 0, 11, 10));
    SHOW(mq_unlink("/own"));
}

PROBE(mq_permissions) {
    umask(022);
    struct stat st;
    mqd_t q = MUST(mq_open("/q", O_CREAT | O_RDWR, 07777, NULL));
    MUST(fstat(q, &st));
    say("%o", st.st_mode);
    in_child("another", as_another);
    SHOW(fchmod(q, 0600));
    in_child("another", as_another);
    SHOW(fchmod(q, 0604));
    in_child("another", as_another);
    SHOW(fchown(q, 1000, 1000));
    in_child("the owner", as_another);
}

static void set(const char *name, const char *value) {
    char path[64];
    snprintf(path, sizeof path, "/proc/sys/fs/mqueue/%s", name);
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, value, strlen(value)) < 0) say("%s = %s: %s", name, value, strerrorname_np(errno));
    if (fd >= 0) close(fd);
    say_file(path);
}

PROBE(mq_limits) {
    const char *const names[] = {"msg_default", "msg_max", "msgsize_default", "msgsize_max", "queues_max"};
    for (int i = 0; i < 5; i++) set(names[i], "x");
    set("msg_max", "0");
    set("msg_max", "65537");
    set("msgsize_max", "127");
    set("msgsize_max", "16777217");
    set("msg_default", "65537");
    set("msg_max", "12");
    set("msgsize_max", "9000");
    SHOW(make("/a", 0, 12, 9000) > 0);
    set("msg_default", "3");
    set("msgsize_default", "200");
    say_attr(MUST(make("/b", 0, 0, 0)));
    set("msg_max", "2");
    say_attr(MUST(make("/c", 0, 0, 0)));
    set("queues_max", "3");
    SHOW(make("/d", 0, 0, 0));
    SHOW(mq_unlink("/a"));
    SHOW(make("/d", 0, 0, 0)); // it is still open
    SHOW(close(3));
    SHOW(make("/d", 0, 0, 0));
    struct rlimit limit = {1000, 1000};
    set("queues_max", "10");
    SHOW(setrlimit(RLIMIT_MSGQUEUE, &limit));
    SHOW(make("/e", 0, 1, 500));
    SHOW(make("/e", 0, 1, 200));
}

PROBE(mq_bytes) {
    struct rlimit limit;
    MUST(getrlimit(RLIMIT_MSGQUEUE, &limit));
    say("%lu %lu", (long)limit.rlim_cur, (long)limit.rlim_max);
    int made = 0;
    char name[16];
    for (; made < 50; made++) {
        snprintf(name, sizeof name, "/q%d", made);
        if (make(name, 0, 10, 8192) < 0) break;
    }
    say("%d %s", made, strerrorname_np(errno));
    SHOW(mq_unlink("/q0"));
    SHOW(make("/again", 0, 10, 8192)); // it is still open
    SHOW(close(3));
    SHOW(make("/again", 0, 10, 8192));
}

static int count_entries(const char *path) {
    char command[64], text[16] = "";
    snprintf(command, sizeof command, "ls -a %s | wc -l", path);
    FILE *out = popen(command, "r");
    if (out && fgets(text, sizeof text, out)) pclose(out);
    return atoi(text);
}

PROBE(mq_file_system) {
    struct stat st = {0};
    SHOW(stat("/dev/mqueue", &st));
    say("%o", st.st_mode);
    mqd_t q = MUST(make("/q", O_NONBLOCK, 5, 16));
    SHOW(stat("/dev/mqueue/q", &st));
    say("%o %ld", st.st_mode, (long)st.st_size);
    MUST(mq_send(q, "12345", 5, 1));
    say_file("/dev/mqueue/q");
    int fd = SHOW(open("/dev/mqueue/q", O_RDWR)); // is as good
    SHOW(mq_send(fd, "67", 2, 1));
    say_file("/dev/mqueue/q");
    char text[100];
    SHOW(pread(fd, text, 5, 6));
    SHOW(read(fd, text, sizeof text));
    SHOW(read(fd, text, sizeof text));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(read(fd, text, 7));
    SHOW(count_entries("/dev/mqueue"));
    SHOW(open("/dev/mqueue/made", O_CREAT | O_RDWR | O_EXCL, 0640));
    say_attr(mq_open("/made", O_RDWR));
    SHOW(rename("/dev/mqueue/made", "/dev/mqueue/other"));
    SHOW(link("/dev/mqueue/made", "/dev/mqueue/other"));
    SHOW(mkdir("/dev/mqueue/d", 0700));
    SHOW(symlink("x", "/dev/mqueue/s"));
    SHOW(truncate("/dev/mqueue/q", 0));
    SHOW(chmod("/dev/mqueue/q", 0640));
    SHOW(chown("/dev/mqueue/q", 1, 2));
    SHOW(stat("/dev/mqueue/q", &st));
    say("%o %u %u", st.st_mode, st.st_uid, st.st_gid);
    SHOW(unlink("/dev/mqueue/made"));
    SHOW(mq_open("/made", O_RDWR));
    SHOW(unlink("/dev/mqueue/made"));
    MUST(mq_unlink("/q"));
    SHOW(stat("/dev/mqueue/q", &st));
    SHOW(fstat(q, &st));
    say("%lu links", (unsigned long)st.st_nlink);
    char path[64], target[64] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", q);
    SHOW(readlink(path, target, sizeof target));
    say("%s", target);
}
