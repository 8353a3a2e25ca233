// Descriptors of files: fcntl(2), flock(2), record locks and leases, ioctl(2), dup(2) and close_range(2) at their limits.
#include "../probe.h"
#include <linux/fs.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <termios.h>

static const char *result(long got) {
    static char text[24];
    if (got == -1)
        return strerrorname_np(errno);
    snprintf(text, sizeof text, "%ld", got);
    return text;
}

PROBE(fcntl_on_kinds) {
    int pipes[2], pair[2];
    MUST(pipe(pipes));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    make_file("f", "x");
    int files[] = {MUST(open("f", O_RDWR)), MUST(open("f", O_RDONLY)), MUST(open(".", O_RDONLY)), MUST(open("f", O_PATH)), pipes[1], pair[0],
                   MUST(open("/dev/null", O_RDWR)), MUST(eventfd(0, 0)), MUST(open("/proc/self/status", O_RDONLY)), MUST(memfd_create("m", 0))};
    static const int commands[] = {F_GETFD, F_GETFL, F_GETOWN, F_GETSIG, F_GETLEASE, F_GETPIPE_SZ, F_GET_SEALS, F_ADD_SEALS, F_SETLEASE, F_NOTIFY,
                                   F_SETFL, F_SETFD, F_SETOWN, F_SETSIG, 1031, 1032, 1033, 1034, 1035, 1036, 1037, 0x7fffffff, -1, 99, 1030};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        char line[512] = "";
        for (size_t j = 0; j < sizeof files / sizeof *files; j++) {
            static uint64_t out;
            bool pointer = commands[i] >= 1035 && commands[i] <= 1037;
            long got = fcntl(files[j], commands[i], pointer ? (long)&out : 0L);
            if (commands[i] == 1030 && got >= 0) // F_DUPFD_CLOEXEC
                close(got), got = 1;
            strcat(strcat(line, " "), result(got));
        }
        say("%d:%s", commands[i], line);
    }
    SHOW(fcntl(-1, -1, unmapped));
    SHOW(fcntl(files[0], F_GETLK, unmapped));
    SHOW(fcntl(files[0], F_GETOWN_EX, unmapped));
    SHOW(fcntl(files[0], F_SETOWN_EX, unmapped));
}

PROBE(duplicates_at_limits) {
    struct rlimit limit = {20, 20};
    make_file("f", "x");
    int fd = MUST(open("f", O_RDONLY)), pipes[2];
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    SHOW(fcntl(fd, F_DUPFD, 19));
    SHOW(fcntl(fd, F_DUPFD, 19));
    SHOW(fcntl(fd, F_DUPFD, 20));
    SHOW(fcntl(fd, F_DUPFD, 21));
    SHOW(fcntl(fd, F_DUPFD, -1));
    SHOW(fcntl(fd, F_DUPFD, INT_MAX));
    SHOW(fcntl(fd, F_DUPFD, 0x100000005));
    SHOW(dup2(fd, 19));
    SHOW(dup2(fd, 20));
    SHOW(dup2(99, 20));
    SHOW(dup2(fd, INT_MAX));
    SHOW(dup3(fd, 20, 0));
    SHOW(dup3(fd, 20, 1));
    SHOW(dup3(20, 20, 0));
    SHOW(dup3(20, 20, 1));
    SHOW(dup3(fd, fd, O_CLOEXEC));
    while (dup(fd) >= 0)
        continue;
    SHOW(dup(fd));
    SHOW(open("f", O_RDONLY));
    SHOW(open("missing", O_RDONLY));
    SHOW(open("created", O_RDWR | O_CREAT, 0644));
    SHOW(access("created", F_OK));
    SHOW(open(unmapped, O_RDONLY));
    SHOW(open("f", O_CREAT | O_DIRECTORY));
    SHOW(pipe(pipes));
    SHOW(eventfd(0, 0));
    SHOW(memfd_create("m", 0));
    SHOW(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(socketpair(AF_UNIX, SOCK_STREAM, 0, pipes));
    close(7);
    SHOW(pipe(pipes));
    SHOW(open("f", O_RDONLY));
    limit.rlim_cur = 5;
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    SHOW(dup2(fd, 7));
    SHOW(fcntl(10, F_GETFD));
    SHOW(close(10));
    SHOW(dup(fd));
    limit.rlim_cur = 21;
    SHOW(setrlimit(RLIMIT_NOFILE, &limit));
}

static void say_lock(int fd, int command, int type, int whence, off_t start, off_t length) {
    struct flock lock = {.l_type = type, .l_whence = whence, .l_start = start, .l_len = length};
    long got = fcntl(fd, command, &lock);
    say("%d type %d whence %d %ld+%ld: %s; %d %d %ld+%ld %s", command, type, whence, (long)start, (long)length, result(got), lock.l_type,
        lock.l_whence, (long)lock.l_start, (long)lock.l_len, lock.l_pid == 0 ? "none" : lock.l_pid == -1 ? "-1" : lock.l_pid == getppid() ? "parent" : "other");
}

static int shared_fd;
static void ask_locks(void) {
    int fd = MUST(open("f", O_RDWR));
    for (int start = 0; start < 60; start += 10)
        say_lock(fd, F_GETLK, F_WRLCK, SEEK_SET, start, 5);
    say_lock(fd, F_GETLK, F_RDLCK, SEEK_SET, 0, 0);
    say_lock(fd, F_GETLK, F_WRLCK, SEEK_SET, 0, 0);
    say_lock(fd, F_GETLK, F_WRLCK, SEEK_END, -5, 5);
    say_lock(fd, F_GETLK, F_WRLCK, SEEK_CUR, 30, 1);
    say_lock(fd, F_GETLK, F_UNLCK, SEEK_SET, 0, 0);
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, 0, 1);
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, 200, 1);
    say_lock(fd, F_OFD_GETLK, F_WRLCK, SEEK_SET, 0, 0);
    say_lock(shared_fd, F_OFD_GETLK, F_WRLCK, SEEK_SET, 0, 0);
}

PROBE(record_locks) {
    make_file("f", "0123456789");
    int fd = MUST(open("f", O_RDWR)), reader = MUST(open("f", O_RDONLY)), writer = MUST(open("f", O_WRONLY));
    shared_fd = fd;
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, 0, 20);
    say_lock(fd, F_SETLK, F_RDLCK, SEEK_SET, 5, 10);
    say_lock(fd, F_SETLK, F_UNLCK, SEEK_SET, 7, 1);
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, 30, 0);
    say_lock(fd, F_SETLK, F_UNLCK, SEEK_SET, 40, 5);
    in_child("asks", ask_locks);
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, 100, -10);
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, 5, -10);
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, -1, 10);
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_END, -20, 5);
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, INT64_MAX, 1);
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, INT64_MAX, 2);
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, INT64_MAX - 1, 2);
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, 1, INT64_MAX);
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, 2, INT64_MAX);
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, 0, INT64_MIN);
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_END, INT64_MAX, 0);
    say_lock(fd, F_SETLK, F_WRLCK, 3, 0, 0);
    say_lock(fd, F_SETLK, 5, SEEK_SET, 0, 0);
    say_lock(fd, F_GETLK, 5, SEEK_SET, 0, 0);
    say_lock(fd, F_SETLK, F_EXLCK, SEEK_SET, 0, 0);
    say_lock(reader, F_SETLK, F_WRLCK, SEEK_SET, 0, 1);
    say_lock(writer, F_SETLK, F_RDLCK, SEEK_SET, 0, 1);
    say_lock(reader, F_GETLK, F_WRLCK, SEEK_SET, 0, 1);
    say_lock(reader, F_SETLK, F_UNLCK, SEEK_SET, 0, 0);
    in_child("asks", ask_locks);
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, 0, 0);
    close(writer); // any close of the file gives all locks back
    in_child("asks", ask_locks);
    int pipes[2], folder = MUST(open(".", O_RDONLY)), null = MUST(open("/dev/null", O_RDWR));
    MUST(pipe(pipes));
    say_lock(pipes[1], F_SETLK, F_WRLCK, SEEK_SET, 0, 0);
    say_lock(folder, F_SETLK, F_RDLCK, SEEK_SET, 0, 0);
    say_lock(folder, F_SETLK, F_WRLCK, SEEK_SET, 0, 0);
    say_lock(null, F_SETLK, F_WRLCK, SEEK_SET, 0, 0);
    say_lock(null, F_SETLK, F_WRLCK, SEEK_END, 0, 0);
}

PROBE(open_file_locks) {
    make_file("f", "0123456789");
    int one = MUST(open("f", O_RDWR)), two = MUST(open("f", O_RDWR)), same = MUST(dup(one));
    shared_fd = one;
    say_lock(one, F_OFD_SETLK, F_WRLCK, SEEK_SET, 0, 5);
    say_lock(two, F_OFD_SETLK, F_WRLCK, SEEK_SET, 3, 5);
    say_lock(same, F_OFD_SETLK, F_RDLCK, SEEK_SET, 3, 5);
    say_lock(two, F_OFD_GETLK, F_WRLCK, SEEK_SET, 0, 0);
    say_lock(two, F_GETLK, F_WRLCK, SEEK_SET, 0, 0);
    say_lock(one, F_GETLK, F_WRLCK, SEEK_SET, 0, 0);
    struct flock lock = {.l_type = F_WRLCK, .l_pid = 1};
    SHOW(fcntl(one, F_OFD_SETLK, &lock));
    SHOW(fcntl(one, F_OFD_GETLK, &lock));
    in_child("asks", ask_locks);
    close(one);
    say_lock(two, F_OFD_SETLK, F_WRLCK, SEEK_SET, 0, 5);
    close(same);
    say_lock(two, F_OFD_SETLK, F_WRLCK, SEEK_SET, 0, 5);
}

static void blocked_child(void) {
    int fd = MUST(open("f", O_RDWR));
    count_signal(SIGALRM, 0);
    ualarm(50000, 0);
    say_lock(fd, F_SETLKW, F_WRLCK, SEEK_SET, 0, 1);
    SHOW(handled);
    ualarm(50000, 0);
    SHOW(flock(fd, LOCK_EX));
    SHOW(handled);
}

PROBE(locks_that_wait) {
    make_file("f", "x");
    int fd = MUST(open("f", O_RDWR)), ready[2];
    say_lock(fd, F_SETLK, F_WRLCK, SEEK_SET, 0, 1);
    MUST(flock(fd, LOCK_EX));
    in_child("blocked", blocked_child);
    MUST(pipe(ready));
    // deadlock: each waits for what the other holds
    pid_t pid = MUST(fork());
    if (pid == 0) {
        say_lock(fd, F_SETLKW, F_WRLCK, SEEK_SET, 10, 1);
        MUST(write(ready[1], "x", 1));
        struct flock lock = {.l_type = F_WRLCK, .l_start = 0, .l_len = 1};
        MUST(fcntl(fd, F_SETLKW, &lock));
        _exit(7);
    }
    char c;
    MUST(read(ready[0], &c, 1));
    nap_ms(50);
    say_lock(fd, F_SETLKW, F_WRLCK, SEEK_SET, 10, 1);
    say_lock(fd, F_SETLK, F_UNLCK, SEEK_SET, 0, 0);
    reap("waiter", pid);
}

static void try_flock(void) {
    int fd = MUST(open("f", O_RDONLY));
    SHOW(flock(fd, LOCK_SH | LOCK_NB));
    SHOW(flock(fd, LOCK_EX | LOCK_NB));
    SHOW(flock(shared_fd, LOCK_EX | LOCK_NB));
    SHOW(flock(shared_fd, LOCK_SH | LOCK_NB));
}

PROBE(whole_file_locks) {
    make_file("f", "x");
    int fd = MUST(open("f", O_RDONLY)), other = MUST(open("f", O_RDWR)), pipes[2];
    shared_fd = fd;
    MUST(pipe(pipes));
    SHOW(flock(fd, LOCK_SH));
    SHOW(flock(other, LOCK_SH | LOCK_NB));
    SHOW(flock(fd, LOCK_EX | LOCK_NB));
    SHOW(flock(other, LOCK_UN));
    in_child("child", try_flock);
    SHOW(flock(fd, LOCK_EX | LOCK_NB));
    SHOW(flock(other, LOCK_SH | LOCK_NB));
    SHOW(flock(fd, 0));
    SHOW(flock(fd, LOCK_NB));
    SHOW(flock(fd, LOCK_SH | LOCK_EX));
    SHOW(flock(fd, LOCK_UN | LOCK_NB));
    SHOW(flock(fd, 32 | LOCK_EX));
    SHOW(flock(fd, 64));
    SHOW(flock(-1, 64));
    SHOW(flock(pipes[0], LOCK_EX | LOCK_NB));
    SHOW(flock(MUST(open(".", O_RDONLY)), LOCK_EX | LOCK_NB));
    SHOW(flock(MUST(open("/dev/null", O_RDWR)), LOCK_EX | LOCK_NB));
    SHOW(flock(MUST(eventfd(0, 0)), LOCK_EX | LOCK_NB));
    SHOW(flock(MUST(open("f", O_PATH)), LOCK_EX | LOCK_NB));
}

PROBE(ioctls) {
    int pipes[2], value = 0;
    MUST(pipe(pipes));
    MUST(write(pipes[1], "abc", 3));
    make_file("f", "0123456789");
    int fd = MUST(open("f", O_RDWR)), files[] = {fd, MUST(open("f", O_PATH)), MUST(open(".", O_RDONLY)), pipes[0], MUST(open("/dev/null", O_RDWR)),
                                                 MUST(open("/proc/self/status", O_RDONLY)), MUST(eventfd(0, 0))};
    static const struct {
        const char *name;
        unsigned long number;
    } commands[] = {{"FIONREAD", FIONREAD}, {"FIONBIO", FIONBIO}, {"FIOASYNC", FIOASYNC}, {"FIOCLEX", FIOCLEX}, {"FIONCLEX", FIONCLEX}, {"FIGETBSZ", FIGETBSZ},
                    {"TCGETS", TCGETS}, {"TIOCGWINSZ", TIOCGWINSZ}, {"FIBMAP", FIBMAP}, {"BLKGETSIZE", BLKGETSIZE}, {"unknown", 0x12345678}, {"zero", 0},
                    {"FIFREEZE", FIFREEZE}, {"FIOQSIZE", FIOQSIZE}};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        char line[512] = "";
        for (size_t j = 0; j < sizeof files / sizeof *files; j++) {
            static char block[256];
            memset(block, 0, sizeof block);
            strcat(strcat(line, " "), result(ioctl(files[j], commands[i].number, block)));
        }
        say("%s:%s", commands[i].name, line);
    }
    SHOW(ioctl(fd, FIONREAD, &value));
    SHOW(value);
    SHOW(lseek(fd, 4, SEEK_SET));
    SHOW(ioctl(fd, FIONREAD, &value));
    SHOW(value);
    SHOW(lseek(fd, 40, SEEK_SET));
    SHOW(ioctl(fd, FIONREAD, &value));
    SHOW(value);
    SHOW(ioctl(pipes[0], FIONREAD, &value));
    SHOW(value);
    SHOW(ioctl(pipes[1], FIONREAD, &value));
    SHOW(ioctl(fd, FIONREAD, unmapped));
    SHOW(ioctl(pipes[0], FIONREAD, unmapped));
    SHOW(ioctl(fd, FIONBIO, unmapped));
    SHOW(ioctl(fd, FIOASYNC, unmapped));
    SHOW(ioctl(-1, FIONREAD, unmapped));
    value = 1;
    SHOW(ioctl(fd, FIONBIO, &value));
    SHOW(fcntl(fd, F_GETFL) & O_NONBLOCK);
    value = 0;
    SHOW(ioctl(fd, FIONBIO, &value));
    SHOW(fcntl(fd, F_GETFL) & O_NONBLOCK);
    SHOW(ioctl(fd, FIOCLEX | 0x100000000));
    SHOW(fcntl(fd, F_GETFD));
    SHOW(ioctl(fd, FIGETBSZ, &value) >= 0 && value >= 512);
}

PROBE(owner_and_signal) {
    int pipes[2];
    MUST(pipe(pipes));
    int fd = pipes[0];
    SHOW(fcntl(fd, F_GETOWN));
    FACT(fcntl(fd, F_SETOWN, getpid()) == 0 && fcntl(fd, F_GETOWN) == getpid());
    SHOW(fcntl(fd, F_SETOWN, 0));
    SHOW(fcntl(fd, F_GETOWN));
    SHOW(fcntl(fd, F_SETOWN, 99999));
    SHOW(fcntl(fd, F_SETOWN, -99999));
    SHOW(fcntl(fd, F_SETOWN, INT_MIN));
    SHOW(fcntl(fd, F_SETSIG, SIGUSR1));
    SHOW(fcntl(fd, F_GETSIG));
    SHOW(fcntl(fd, F_SETSIG, 65));
    SHOW(fcntl(fd, F_SETSIG, -1));
    struct f_owner_ex owner = {F_OWNER_PGRP, getpgrp()};
    SHOW(fcntl(fd, F_SETOWN_EX, &owner));
    FACT(fcntl(fd, F_GETOWN) == -getpgrp());
    owner = (struct f_owner_ex){F_OWNER_TID, gettid()};
    SHOW(fcntl(fd, F_SETOWN_EX, &owner));
    FACT(fcntl(fd, F_GETOWN) == gettid());
    owner.type = 9;
    SHOW(fcntl(fd, F_SETOWN_EX, &owner));
    owner = (struct f_owner_ex){F_OWNER_PID, 99999};
    SHOW(fcntl(fd, F_SETOWN_EX, &owner));
    memset(&owner, 0xff, sizeof owner);
    SHOW(fcntl(fd, F_GETOWN_EX, &owner));
    FACT(owner.type == F_OWNER_TID && owner.pid == gettid());
}

PROBE(ranges_to_close) {
    int fd = MUST(open("/dev/null", O_RDWR));
    for (int i = 10; i < 20; i++)
        MUST(dup2(fd, i));
    SHOW(close_range(12, 13, 0));
    SHOW(close_range(12, 13, 0));
    SHOW(fcntl(11, F_GETFD));
    SHOW(fcntl(12, F_GETFD));
    SHOW(close_range(14, 15, CLOSE_RANGE_CLOEXEC));
    SHOW(fcntl(14, F_GETFD));
    SHOW(close_range(15, 14, 0));
    SHOW(close_range(15, 14, 99));
    SHOW(close_range(16, 17, CLOSE_RANGE_UNSHARE));
    SHOW(fcntl(17, F_GETFD));
    SHOW(close_range(0xfffffff0, 0xffffffff, 0));
    SHOW(close_range(18, 0xffffffff, CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC));
    SHOW(fcntl(19, F_GETFD));
    SHOW(close(-1));
    SHOW(close(100));
    SHOW(close(INT_MAX));
    SHOW(syscall(SYS_close, 0x100000000 + 11));
    SHOW(fcntl(11, F_GETFD));
}
