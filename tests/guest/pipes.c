// Pipes, fifos and event counters: pipe(2), fifo(7), eventfd(2).
#include "probe.h"
#include <poll.h>
#include <sys/eventfd.h>

PROBE(pipe_basic) {
    int p[2];
    char buffer[16] = {0};
    SHOW(pipe(p));
    SHOW(write(p[1], "hello", 5));
    SHOW(write(p[1], " you", 4));
    int ready;
    SHOW(ioctl(p[0], FIONREAD, &ready));
    SHOW(ready);
    SHOW(read(p[0], buffer, 3));
    SHOW(read(p[0], buffer, 16));
    say("%s", buffer);
    SHOW(read(p[1], buffer, 1));
    SHOW(write(p[0], buffer, 1));
    SHOW(close(p[1]));
    SHOW(read(p[0], buffer, 1));
    SHOW(pipe2(p, 0x3));
    SHOW(pipe2(p, O_CLOEXEC | O_NONBLOCK));
    SHOW(fcntl(p[0], F_GETFD));
    SHOW(fcntl(p[0], F_GETFL) & O_NONBLOCK);
    SHOW(read(p[0], buffer, 1));
    struct stat st;
    SHOW(fstat(p[0], &st) == 0 && S_ISFIFO(st.st_mode));
    SHOW(st.st_mode & 0777);
    SHOW(st.st_size);
}

PROBE(pipe_without_reader) {
    int p[2];
    MUST(pipe(p));
    close(p[0]);
    count_signal(SIGPIPE, 0);
    SHOW(write(p[1], "x", 1));
    SHOW(handled);
    signal(SIGPIPE, SIG_IGN);
    SHOW(write(p[1], "x", 1));
}

static void write_to_closed_pipe(void) {
    int p[2];
    MUST(pipe(p));
    close(p[0]);
    signal(SIGPIPE, SIG_DFL);
    write(p[1], "x", 1);
}

PROBE(pipe_kills_writer) { in_child("writer", write_to_closed_pipe); }

PROBE(pipe_capacity) {
    int p[2];
    static char block[70000];
    MUST(pipe2(p, O_NONBLOCK));
    SHOW(fcntl(p[0], F_GETPIPE_SZ));
    SHOW(write(p[1], block, sizeof block));
    SHOW(write(p[1], block, 1));
    SHOW(read(p[0], block, 4096));
    SHOW(write(p[1], block, 4096));
    SHOW(write(p[1], block, 1));
    SHOW(read(p[0], block, 100));
    SHOW(write(p[1], block, 4096));
    while (read(p[0], block, sizeof block) > 0)
        continue;
    SHOW(write(p[1], block, 65536));
    SHOW(read(p[0], block, sizeof block));
    SHOW(fcntl(p[0], F_SETPIPE_SZ, 8192));
    SHOW(write(p[1], block, sizeof block));
    SHOW(fcntl(p[0], F_SETPIPE_SZ, 4096));
    SHOW(fcntl(p[0], F_SETPIPE_SZ, 0));
}

static int data[2], back[2];

static void echo_upper(void) {
    char buffer[100];
    ssize_t n;
    close(data[1]);
    while ((n = read(data[0], buffer, sizeof buffer)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            buffer[i] &= ~0x20;
        write(back[1], buffer, n);
    }
}

PROBE(pipe_between_processes) {
    char buffer[100] = {0};
    MUST(pipe(data));
    MUST(pipe(back));
    pid_t pid = spawn(echo_upper);
    close(data[0]);
    close(back[1]);
    for (int i = 0; i < 3; i++) {
        SHOW(write(data[1], "ping", 4));
        SHOW(read(back[0], buffer, sizeof buffer));
        say("%s", buffer);
    }
    close(data[1]);
    SHOW(read(back[0], buffer, sizeof buffer));
    reap("echo", pid);
}

static void fill_pipe(void) {
    static char block[1000000];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)(i % 251);
    close(data[0]);
    SHOW(write(data[1], block, sizeof block));
}

PROBE(pipe_blocked_writer) {
    char buffer[5000];
    MUST(pipe(data));
    pid_t pid = spawn(fill_pipe);
    close(data[1]);
    size_t total = 0;
    bool right = true;
    ssize_t n;
    while ((n = read(data[0], buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < n; i++)
            right &= buffer[i] == (char)(total++ % 251);
    reap("writer", pid);
    SHOW(total);
    FACT(right);
}

static void *late_writer(void *fd) {
    nap_ms(50);
    MUST(write((int)(long)fd, "late", 4));
    return NULL;
}

PROBE(pipe_blocked_reader) {
    pthread_t thread;
    char buffer[8] = {0};
    MUST(pipe(data));
    pthread_create(&thread, NULL, late_writer, (void *)(long)data[1]);
    SHOW(read(data[0], buffer, 8));
    pthread_join(thread, NULL);
    say("%s", buffer);
}

static void *closer(void *unused) {
    (void)unused;
    nap_ms(50);
    close(data[1]);
    return NULL;
}

PROBE(close_wakes_blocked_reader) {
    pthread_t thread;
    char c;
    MUST(pipe(data));
    pthread_create(&thread, NULL, closer, NULL);
    SHOW(read(data[0], &c, 1));
    pthread_join(thread, NULL);
}

static void *close_own_end(void *unused) {
    (void)unused;
    nap_ms(50);
    MUST(close(data[0]));
    MUST(write(data[1], "x", 1));
    return NULL;
}

// As on Linux, closing the very descriptor another thread blocks in does not wake it: the read finishes later.
PROBE(close_while_blocked_in_read) {
    pthread_t thread;
    char c = '?';
    MUST(pipe(data));
    pthread_create(&thread, NULL, close_own_end, NULL);
    SHOW(read(data[0], &c, 1));
    say("%c", c);
    pthread_join(thread, NULL);
    SHOW(read(data[0], &c, 1));
}

static void open_for_writing(void) {
    int fd = MUST(open("fifo", O_WRONLY));
    MUST(write(fd, "through the fifo", 16));
}

PROBE(fifo) {
    char buffer[32] = {0};
    SHOW(mkfifo("fifo", 0644));
    SHOW(mkfifo("fifo", 0644));
    pid_t pid = spawn(open_for_writing);
    int fd = MUST(open("fifo", O_RDONLY));
    SHOW(read(fd, buffer, 32));
    say("%s", buffer);
    reap("writer", pid);
    SHOW(read(fd, buffer, 32));
    SHOW(lseek(fd, 0, SEEK_SET));
    int both = MUST(open("fifo", O_RDWR));
    SHOW(write(both, "self", 4));
    SHOW(read(both, buffer, 32));
}

PROBE(pipe_poll) {
    int p[2];
    MUST(pipe(p));
    struct pollfd set[2] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}};
    SHOW(poll(set, 2, 0));
    say("%#x %#x", set[0].revents, set[1].revents);
    MUST(write(p[1], "x", 1));
    SHOW(poll(set, 2, 0));
    say("%#x %#x", set[0].revents, set[1].revents);
    close(p[1]);
    SHOW(poll(set, 1, 0));
    say("%#x", set[0].revents);
    char c;
    read(p[0], &c, 1);
    SHOW(poll(set, 1, 0));
    say("%#x", set[0].revents);
    MUST(pipe(p));
    close(p[0]);
    set[1].fd = p[1];
    SHOW(poll(set + 1, 1, 0));
    say("%#x", set[1].revents);
}

PROBE(eventfd) {
    uint64_t value = 0;
    int fd = SHOW(eventfd(3, EFD_NONBLOCK));
    SHOW(read(fd, &value, 8));
    SHOW(value);
    SHOW(read(fd, &value, 8));
    SHOW(read(fd, &value, 4));
    value = 5;
    SHOW(write(fd, &value, 8));
    SHOW(write(fd, &value, 8));
    SHOW(write(fd, &value, 4));
    SHOW(read(fd, &value, 8));
    SHOW(value);
    value = UINT64_MAX;
    SHOW(write(fd, &value, 8));
    value = UINT64_MAX - 1;
    SHOW(write(fd, &value, 8));
    value = 1;
    SHOW(write(fd, &value, 8));
    struct pollfd one = {fd, POLLIN | POLLOUT, 0};
    SHOW(poll(&one, 1, 0));
    say("%#x", one.revents);
    int semaphore = SHOW(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC));
    SHOW(read(semaphore, &value, 8));
    SHOW(value);
    SHOW(read(semaphore, &value, 8));
    SHOW(read(semaphore, &value, 8));
    SHOW(fcntl(semaphore, F_GETFD));
    SHOW(eventfd(0, 0x100));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(pread(fd, &value, 8, 0));
}

static void *event_adder(void *fd) {
    uint64_t one = 1;
    nap_ms(50);
    MUST(write((int)(long)fd, &one, 8));
    return NULL;
}

PROBE(eventfd_blocks) {
    uint64_t value;
    pthread_t thread;
    int fd = MUST(eventfd(0, 0));
    pthread_create(&thread, NULL, event_adder, (void *)(long)fd);
    SHOW(read(fd, &value, 8));
    pthread_join(thread, NULL);
    SHOW(value);
}

PROBE(pipe_end_opened_again_by_its_descriptor) {
    char name[32], got[8] = "";
    int p[2];
    MUST(pipe(p));
    MUST(write(p[1], "left", 4));
    close(p[1]);
    snprintf(name, sizeof name, "/proc/self/fd/%d", p[0]);
    alarm(5);
    int again = MUST(open(name, O_RDONLY)); // no writer is left, and none can come: a FIFO would wait
    SHOW(read(again, got, sizeof got));
    SHOW(read(again, got, sizeof got));
    int writer = MUST(open(name, O_WRONLY));
    SHOW(write(writer, "more", 4));
    SHOW(read(p[0], got, sizeof got));
    close(p[0]);
    close(again);
    snprintf(name, sizeof name, "/proc/self/fd/%d", writer);
    SHOW(open(name, O_WRONLY | O_NONBLOCK) >= 0);
}
