// Asynchronous I/O by Linux's own calls (io_setup(2) and its kin), raw, as a library makes them.
#include "probe.h"
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/eventfd.h>

static aio_context_t context;

static long submit(struct iocb *one) { return syscall(SYS_io_submit, context, 1L, &one); }

static long collect(long least, long most, struct io_event *events, struct timespec *timeout) {
    return syscall(SYS_io_getevents, context, least, most, events, timeout);
}

static struct iocb request(int opcode, int fd, const void *buffer, size_t size, int64_t offset) {
    return (struct iocb){.aio_data = 77, .aio_lio_opcode = opcode, .aio_fildes = fd, .aio_buf = (uintptr_t)buffer,
                         .aio_nbytes = size, .aio_offset = offset};
}

static void say_event(const struct io_event *event, const struct iocb *of) {
    say("event data %llu for %s res %lld res2 %lld", event->data, event->obj == (uintptr_t)of ? "it" : "another", event->res,
        event->res2);
}

static void run(struct iocb one) {
    struct io_event event;
    if (SHOW(submit(&one)) == 1 && collect(1, 1, &event, NULL) == 1)
        say_event(&event, &one);
}

PROBE(aio_contexts) {
    aio_context_t none = 0, taken = 5, other = 0;
    SHOW(syscall(SYS_io_setup, 0, &none));
    SHOW(syscall(SYS_io_setup, 1, unmapped));
    SHOW(syscall(SYS_io_setup, 1, &taken));
    SHOW(syscall(SYS_io_setup, 1u << 31, &none));
    SHOW(syscall(SYS_io_setup, 1 << 25, &none));
    SHOW(syscall(SYS_io_setup, 8, &context));
    SHOW(syscall(SYS_io_setup, 8, &other));
    FACT(context && other && context != other);
    SHOW(syscall(SYS_io_destroy, other));
    SHOW(syscall(SYS_io_destroy, other));
    SHOW(syscall(SYS_io_destroy, 0L));
    SHOW(syscall(SYS_io_submit, other, 0L, NULL));
    SHOW(syscall(SYS_io_submit, context, -1L, NULL));
    SHOW(syscall(SYS_io_submit, context, 0L, NULL));
    SHOW(syscall(SYS_io_submit, context, 1L, unmapped));
    SHOW(syscall(SYS_io_getevents, other, 0L, 1L, NULL, NULL));
    SHOW(collect(2, 1, NULL, NULL));
    SHOW(collect(-1, 1, NULL, NULL));
    struct timespec soon = {0, 5000000};
    SHOW(collect(1, 1, NULL, &soon));
    SHOW(collect(0, 1, NULL, NULL));
    SHOW(syscall(SYS_io_destroy, context));
}

PROBE(aio_reads_and_writes) {
    char text[16] = "";
    struct iovec parts[2] = {{"one ", 4}, {"two", 3}}, into[2] = {{text, 3}, {text + 3, 10}};
    int fd = MUST(open("file", O_RDWR | O_CREAT, 0600)), reader = MUST(open("file", O_RDONLY)), path = MUST(open("file", O_PATH));
    MUST(syscall(SYS_io_setup, 8, &context));
    run(request(IOCB_CMD_PWRITEV, fd, parts, 2, 0));
    run(request(IOCB_CMD_PWRITE, fd, "!", 1, 7));
    run(request(IOCB_CMD_PREADV, fd, into, 2, 0));
    SHOW(memcmp(text, "one two!", 9));
    run(request(IOCB_CMD_PREAD, fd, text, 4, 4));
    run(request(IOCB_CMD_PREAD, fd, text, 4, 100));
    run(request(IOCB_CMD_PREAD, fd, unmapped, 4, 0));
    run(request(IOCB_CMD_PREAD, fd, text, 4, -1));
    run(request(IOCB_CMD_FSYNC, fd, NULL, 0, 0));
    run(request(IOCB_CMD_FDSYNC, fd, NULL, 0, 0));
    run(request(IOCB_CMD_FSYNC, fd, NULL, 5, 0));
    run(request(IOCB_CMD_NOOP, fd, NULL, 0, 0));
    run(request(99, fd, NULL, 0, 0));
    run(request(IOCB_CMD_PWRITE, reader, "x", 1, 0));
    run(request(IOCB_CMD_PREAD, path, text, 1, 0));
    run(request(IOCB_CMD_PREAD, 99, text, 1, 0));
    run(request(IOCB_CMD_PREAD, fd, text, (size_t)-5, 0));
    struct iocb odd = request(IOCB_CMD_PREAD, fd, text, 1, 0);
    odd.aio_reserved2 = 1;
    run(odd);
    odd.aio_reserved2 = 0, odd.aio_rw_flags = 1 << 20;
    run(odd);
    SHOW(lseek(fd, 0, SEEK_CUR)); // positions stay where they are
}

PROBE(aio_several_at_once) {
    char text[3][4] = {"", "", ""};
    struct io_event events[4];
    int fd = MUST(open("file", O_RDWR | O_CREAT, 0600));
    MUST(write(fd, "abcdefghi", 9));
    MUST(syscall(SYS_io_setup, 8, &context));
    struct iocb ones[3], bad = request(IOCB_CMD_PREAD, 99, text, 1, 0), *list[4];
    for (int i = 0; i < 3; i++) {
        ones[i] = request(IOCB_CMD_PREAD, fd, text[i], 3, 3 * i);
        ones[i].aio_data = i;
        list[i] = &ones[i];
    }
    list[3] = list[2], list[2] = &bad;
    SHOW(syscall(SYS_io_submit, context, 4L, list)); // up to the one that fails
    SHOW(collect(2, 4, events, NULL));
    say_event(&events[0], &ones[0]);
    say_event(&events[1], &ones[1]);
    SHOW(syscall(SYS_io_submit, context, 2L, list + 2));
    list[2] = unmapped;
    SHOW(syscall(SYS_io_submit, context, 2L, list + 1));
    SHOW(collect(1, 4, unmapped, NULL));
    say("%.3s %.3s", text[0], text[1]);
}

PROBE(aio_tells_an_eventfd) {
    uint64_t count = 0;
    char text[4];
    int fd = MUST(open("file", O_RDWR | O_CREAT, 0600)), event = MUST(eventfd(0, EFD_NONBLOCK));
    MUST(write(fd, "data", 4));
    MUST(syscall(SYS_io_setup, 8, &context));
    struct iocb one = request(IOCB_CMD_PREAD, fd, text, 4, 0);
    one.aio_flags = IOCB_FLAG_RESFD, one.aio_resfd = event;
    SHOW(submit(&one));
    SHOW(submit(&one));
    SHOW(read(event, &count, 8));
    SHOW(count);
    one.aio_resfd = fd;
    SHOW(submit(&one));
    one.aio_resfd = 99;
    SHOW(submit(&one));
}

PROBE(aio_polls) {
    struct io_event event;
    struct timespec soon = {0, 5000000};
    int p[2], file = MUST(open("file", O_RDWR | O_CREAT, 0600));
    MUST(pipe(p));
    MUST(syscall(SYS_io_setup, 8, &context));
    struct iocb reader = request(IOCB_CMD_POLL, p[0], (void *)POLLIN, 0, 0);
    SHOW(submit(&reader));
    SHOW(collect(1, 1, &event, &soon));
    MUST(write(p[1], "x", 1));
    SHOW(collect(1, 1, &event, NULL));
    say_event(&event, &reader);
    SHOW(submit(&reader)); // ready at once
    SHOW(collect(1, 1, &event, NULL));
    say_event(&event, &reader);
    run(request(IOCB_CMD_POLL, file, (void *)POLLIN, 0, 0));
    run(request(IOCB_CMD_POLL, p[0], (void *)POLLIN, 1, 0));
    run(request(IOCB_CMD_POLL, p[0], (void *)0x10000, 0, 0));
    char byte;
    MUST(read(p[0], &byte, 1));
    SHOW(submit(&reader));
    SHOW(syscall(SYS_io_cancel, context, &reader, &event));
    SHOW(collect(1, 1, &event, NULL));
    FACT(event.obj == (uintptr_t)&reader);
    SHOW(syscall(SYS_io_cancel, context, &reader, &event));
    SHOW(submit(&reader));
    close(p[1]);
    SHOW(collect(1, 1, &event, NULL));
    say_event(&event, &reader);
}

PROBE(aio_has_no_room_left) {
    int p[2], count = 0;
    MUST(pipe(p));
    MUST(syscall(SYS_io_setup, 1, &context));
    static struct iocb ones[2000];
    for (; count < 2000; count++) {
        ones[count] = request(IOCB_CMD_POLL, p[0], (void *)POLLIN, 0, 0);
        if (submit(&ones[count]) != 1)
            break;
    }
    FACT(errno == EAGAIN && count > 1 && count < 2000);
    MUST(write(p[1], "x", 1));
    struct io_event events[4];
    SHOW(collect(4, 4, events, NULL));
    SHOW(submit(&ones[count]));
    SHOW(syscall(SYS_io_destroy, context));
}

static void *writes_later(void *fd) {
    nap_ms(30);
    return (void *)write((int)(long)fd, "x", 1);
}

PROBE(aio_waits) {
    int p[2];
    struct io_event event;
    pthread_t thread;
    MUST(pipe(p));
    MUST(syscall(SYS_io_setup, 8, &context));
    struct iocb reader = request(IOCB_CMD_POLL, p[0], (void *)POLLIN, 0, 0);
    MUST(submit(&reader));
    MUST(pthread_create(&thread, NULL, writes_later, (void *)(long)p[1]));
    SHOW(collect(1, 1, &event, NULL));
    pthread_join(thread, NULL);
    count_signal(SIGALRM, SA_RESTART);
    struct itimerval timer = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    SHOW(collect(1, 1, &event, NULL));
    SHOW(handled);
}

PROBE(aio_is_not_inherited) {
    MUST(syscall(SYS_io_setup, 8, &context));
    pid_t pid = fork();
    if (pid == 0) {
        SHOW(syscall(SYS_io_submit, context, 0L, NULL));
        _exit(0);
    }
    reap("child", pid);
    SHOW(syscall(SYS_io_submit, context, 0L, NULL));
}
