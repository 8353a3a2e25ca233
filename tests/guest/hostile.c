// Hostile arguments: bad pointers, bad descriptors, absurd sizes. Every call must answer with Linux's errno.
#include "probe.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

static char *edge;  // four bytes before a page that may not be touched

static char *page_end(void) {
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(mprotect(pages + 4096, 4096, PROT_NONE));
    return pages + 4096 - 4;
}

static long call(long number, long a, long b, long c, long d, long e) { return syscall(number, a, b, c, d, e, 0L); }

// The same call with each kind of bad pointer in the place of P.
#define P 0x5a5a5a5a5a5aL
static void each_pointer(const char *what, long number, long a, long b, long c, long d, long e) {
    static const char *const kinds[] = {"null", "unmapped", "kernel", "forbidden", "all ones"};
    void *pointers[] = {NULL, unmapped, kernel_half, edge + 4, (void *)-1};
    for (int i = 0; i < 5; i++) {
        long args[5] = {a, b, c, d, e};
        for (int j = 0; j < 5; j++)
            if (args[j] == P)
                args[j] = (long)pointers[i];
        char line[64];
        snprintf(line, sizeof line, "%s %s", what, kinds[i]);
        show(line, call(number, args[0], args[1], args[2], args[3], args[4]));
    }
}

#define EACH(name, ...) each_pointer(#name, SYS_##name, __VA_ARGS__)

PROBE(bad_pointers_files) {
    edge = page_end();
    make_file("f", "0123456789");
    int fd = MUST(open("f", O_RDWR)), p[2];
    MUST(pipe(p));
    MUST(write(p[1], "pipe bytes", 10));
    EACH(open, P, O_RDONLY, 0, 0, 0);
    EACH(openat, AT_FDCWD, P, O_RDONLY, 0, 0);
    EACH(openat, 99, P, O_RDONLY, 0, 0);
    EACH(read, fd, P, 8, 0, 0);
    EACH(read, p[0], P, 8, 0, 0);
    EACH(read, 99, P, 8, 0, 0);
    EACH(read, fd, P, 0, 0, 0);
    EACH(write, fd, P, 8, 0, 0);
    EACH(write, p[1], P, 8, 0, 0);
    EACH(pread64, fd, P, 8, 0, 0);
    EACH(pwrite64, fd, P, 8, 0, 0);
    EACH(readv, fd, P, 1, 0, 0);
    EACH(writev, fd, P, 1, 0, 0);
    EACH(stat, P, P, 0, 0, 0);
    EACH(stat, (long)"f", P, 0, 0, 0);
    EACH(lstat, (long)"f", P, 0, 0, 0);
    EACH(fstat, fd, P, 0, 0, 0);
    EACH(newfstatat, AT_FDCWD, (long)"f", P, 0, 0);
    EACH(statx, AT_FDCWD, (long)"f", 0, 0x7ff, P);
    EACH(statfs, (long)"f", P, 0, 0, 0);
    EACH(access, P, 0, 0, 0, 0);
    EACH(readlink, P, (long)edge, 4, 0, 0);
    EACH(getcwd, P, 100, 0, 0, 0);
    EACH(mkdir, P, 0755, 0, 0, 0);
    EACH(rmdir, P, 0, 0, 0, 0);
    EACH(unlink, P, 0, 0, 0, 0);
    EACH(rename, P, (long)"g", 0, 0, 0);
    EACH(rename, (long)"f", P, 0, 0, 0);
    EACH(link, (long)"f", P, 0, 0, 0);
    EACH(symlink, P, (long)"s", 0, 0, 0);
    EACH(chmod, P, 0644, 0, 0, 0);
    EACH(chown, P, 0, 0, 0, 0);
    EACH(truncate, P, 0, 0, 0, 0);
    EACH(chdir, P, 0, 0, 0, 0);
    EACH(getdents64, MUST(open(".", O_RDONLY)), P, 1000, 0, 0);
    EACH(pipe, P, 0, 0, 0, 0);
    EACH(sendfile, fd, fd, P, 1, 0);
}

PROBE(bad_pointers_others) {
    edge = page_end();
    int s[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    int ep = MUST(epoll_create1(0));
    EACH(poll, P, 1, 0, 0, 0);
    EACH(select, 5, P, 0, 0, (long)&(struct timeval){0, 0});
    EACH(epoll_ctl, ep, EPOLL_CTL_ADD, s[0], P, 0);
    EACH(epoll_wait, ep, P, 1, 0, 0);
    EACH(uname, P, 0, 0, 0, 0);
    EACH(sysinfo, P, 0, 0, 0, 0);
    EACH(getrandom, P, 8, 0, 0, 0);
    EACH(clock_gettime, CLOCK_MONOTONIC, P, 0, 0, 0);
    EACH(nanosleep, P, 0, 0, 0, 0);
    EACH(rt_sigaction, SIGUSR1, P, 0, 8, 0);
    EACH(rt_sigprocmask, SIG_BLOCK, P, 0, 8, 0);
    EACH(sigaltstack, P, 0, 0, 0, 0);
    EACH(wait4, -1, P, 0, 0, 0);
    EACH(socketpair, AF_UNIX, SOCK_STREAM, 0, P, 0);
    EACH(bind, s[0], P, 16, 0, 0);
    EACH(connect, s[0], P, 16, 0, 0);
    EACH(sendto, s[0], P, 8, 0, 0);
    EACH(sendmsg, s[0], P, 0, 0, 0);
    EACH(recvmsg, s[0], P, MSG_DONTWAIT, 0, 0);
    EACH(getsockname, s[0], P, P, 0, 0);
    EACH(setsockopt, s[0], SOL_SOCKET, SO_SNDBUF, P, 4);
    EACH(getsockopt, s[0], SOL_SOCKET, SO_TYPE, P, P);
    EACH(getrlimit, RLIMIT_NOFILE, P, 0, 0, 0);
    EACH(getrusage, 0, P, 0, 0, 0);
    EACH(setitimer, ITIMER_REAL, P, 0, 0, 0);
    EACH(execve, P, 0, 0, 0, 0);
    EACH(sched_getaffinity, 0, 128, P, 0, 0);
    EACH(getgroups, 10, P, 0, 0, 0);
    EACH(setgroups, 1, P, 0, 0, 0);
    EACH(prctl, PR_SET_NAME, P, 0, 0, 0);
    EACH(ioctl, s[0], FIONREAD, P, 0, 0);
    EACH(futex, P, 1, 1, 0, 0);
    EACH(sethostname, P, 4, 0, 0, 0);
    EACH(capget, P, 0, 0, 0, 0);
}

PROBE(path_at_page_end) {
    edge = page_end();
    make_file("abc", "found");
    memcpy(edge, "abc", 4);
    SHOW(open(edge, O_RDONLY) >= 0);
    memcpy(edge, "abcd", 4);
    SHOW(open(edge, O_RDONLY));
    SHOW(symlink(edge, "s"));
    struct utsname *names = (void *)(edge - 60);
    SHOW(uname(names));
    // a read that reaches the edge: what fits is a matter of the file's kind, but the count and errno are Linux's
    make_file("f", "0123456789");
    int fd = MUST(open("f", O_RDONLY));
    SHOW(read(fd, edge, 4));
    say("%.4s", edge);
    struct iovec parts[2] = {{edge, 4}, {edge + 4, 4}};
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(readv(fd, parts, 2));
    int p[2];
    MUST(pipe(p));
    SHOW(write(p[1], edge, 4));
    parts[0].iov_base = edge;
    SHOW(writev(p[1], parts, 2));
}

PROBE(read_only_memory) {
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    make_file("f", "0123456789");
    int fd = MUST(open("f", O_RDONLY));
    SHOW(read(fd, page, 4));
    SHOW(uname((struct utsname *)page));
    SHOW(pipe((int *)page));
    SHOW(getcwd(page, 4096) == NULL ? -1 : 0);
    SHOW(syscall(SYS_clock_gettime, CLOCK_REALTIME, page));
    SHOW(read(fd, (void *)probe_read_only_memory, 1));
    FACT(page[0] == 0);
}

PROBE(absurd_sizes) {
    static char buffer[64];
    make_file("f", "0123456789");
    int fd = MUST(open("f", O_RDWR)), s[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    SHOW(syscall(SYS_read, fd, buffer, -1L));
    SHOW(syscall(SYS_write, fd, buffer, -1L));
    SHOW(syscall(SYS_pread64, fd, buffer, 8L, -1L));
    SHOW(syscall(SYS_pwrite64, fd, buffer, 8L, INT64_MAX - 3));
    SHOW(syscall(SYS_readlink, "f", buffer, -1));
    SHOW(syscall(SYS_getrandom, unmapped, 1L << 40, 0));
    SHOW(syscall(SYS_poll, buffer, 0x7fffffff, 0));
    SHOW(syscall(SYS_ftruncate, fd, -1L));
    SHOW(syscall(SYS_lseek, fd, -1L, SEEK_END));
    SHOW(syscall(SYS_sched_getaffinity, 0, 1, buffer));
    SHOW(syscall(SYS_getgroups, -1, buffer));
    SHOW(syscall(SYS_setgroups, 1 << 20, buffer));
    SHOW(syscall(SYS_sendto, s[0], unmapped, -1L, 0, NULL, 0) == -1);
    SHOW(syscall(SYS_bind, s[0], buffer, -1));
    SHOW(syscall(SYS_setsockopt, s[0], SOL_SOCKET, SO_SNDBUF, buffer, -1));
    SHOW(syscall(SYS_fallocate, fd, 0, INT64_MAX, INT64_MAX));
    SHOW(syscall(SYS_select, 1 << 30, buffer, NULL, NULL, (long[]){0, 0}) >= -1);
    SHOW(syscall(SYS_close, -1));
    SHOW(syscall(SYS_close, INT_MAX));
    SHOW(syscall(SYS_dup2, fd, INT_MAX));
    SHOW(syscall(SYS_dup3, fd, 1 << 30, 0));
    SHOW(syscall(SYS_fcntl, fd, F_DUPFD, INT_MAX));
}

// A pipe's content must stay whole when its reader's buffer is bad.
PROBE(failed_read_loses_nothing) {
    int p[2];
    char text[16] = {0};
    MUST(pipe(p));
    MUST(write(p[1], "kept", 4));
    SHOW(read(p[0], unmapped, 4));
    SHOW(fcntl(p[0], F_SETFL, O_NONBLOCK));
    SHOW(read(p[0], text, 16));
    say("%s", text);
}

static volatile char racing[64] = "/dev/null";
static volatile bool racing_on = true;

static void *racer(void *unused) {
    (void)unused;
    while (racing_on) {
        memcpy((char *)racing, "/dev/zero", 10);
        memcpy((char *)racing, "/no/such/", 10);
        memcpy((char *)racing, "/dev/null", 10);
    }
    return NULL;
}

// Memory that changes while the kernel looks at it: only whole answers may come of it.
PROBE(arguments_change_under_the_call) {
    pthread_t thread;
    int strange = 0;
    pthread_create(&thread, NULL, racer, NULL);
    for (int i = 0; i < 500; i++) {
        int fd = open((char *)racing, O_RDONLY);
        if (fd >= 0)
            close(fd);
        else if (errno != ENOENT && errno != ENOTDIR)
            strange++;
    }
    racing_on = false;
    pthread_join(thread, NULL);
    SHOW(strange);
}

// What the kernel keeps open on a program's behalf is not the program's: no number but its own answers.
PROBE(no_foreign_descriptor_answers) {
    struct stat st;
    int known = 0, readable = 0, mappable = 0, duplicated = 0, paths = 0;
    char c, path[64];
    // Calls that have the kernel put descriptors of its own among ours, for its purposes
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    struct pollfd one = {MUST(signalfd(-1, &set, SFD_NONBLOCK)), POLLIN, 0};
    poll(&one, 1, 1);
    read(one.fd, &st, sizeof st);
    close(one.fd);
    int id = MUST(shmget(IPC_PRIVATE, 4096, 0600));
    FACT(shmat(id, NULL, 0) != (void *)-1 && shmat(id, NULL, SHM_RDONLY) != (void *)-1);
    for (int fd = 3; fd < 1100; fd++) {
        known += fcntl(fd, F_GETFD) != -1 || fstat(fd, &st) != -1;
        readable += pread(fd, &c, 1, 0) != -1 || lseek(fd, 0, SEEK_CUR) != -1;
        mappable += mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED;
        duplicated += dup2(fd, 2000) != -1;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        paths += lstat(path, &st) != -1;
    }
    SHOW(known);
    SHOW(readable);
    SHOW(mappable);
    SHOW(duplicated);
    SHOW(paths);
    SHOW(syscall(SYS_execveat, 61, "", (char *[]){"x", NULL}, NULL, AT_EMPTY_PATH));
    SHOW(syscall(SYS_execveat, 62, "", (char *[]){"x", NULL}, NULL, AT_EMPTY_PATH));
}

static void fork_until_refused(void) {
    struct rlimit few = {30, 30};
    setgid(1000);
    MUST(setrlimit(RLIMIT_NPROC, &few));
    MUST(setuid(1000));
    int made = 0;
    pid_t pid, pids[100];
    while (made < 100 && (pid = fork()) >= 0) {
        if (pid == 0) {
            pause();
            _exit(0);
        }
        pids[made++] = pid;
    }
    fact("refused in the end", made < 100 && errno == EAGAIN);
    while (made > 0)
        kill(pids[--made], SIGTERM);
    while (wait(NULL) > 0)
        continue;
}

PROBE(fork_bomb_is_bounded) { in_child("bomber", fork_until_refused); }
