// Pipes and FIFOs in depth: how writes fill them, packets, sizes, splice(2), tee(2), vmsplice(2), waiting and signals.
#include "probe.h"
#include <poll.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

static int p[2];
static char block[200000];

static void fresh(int flags) { MUST(pipe2(p, O_NONBLOCK | flags)); }

static int amount(void) {
    int n = -1;
    MUST(ioctl(p[0], FIONREAD, &n));
    return n;
}

PROBE(pipe_small_writes) {
    int sizes[] = {1, 7, 100, 1000, 4000, 4095, 4096, 4097, 5000, 8192, 10000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        fresh(0);
        int writes = 0;
        ssize_t n, last = 0;
        while ((n = write(p[1], block, sizes[i])) > 0)
            writes++, last = n;
        say("%d: %d writes, last %zd, %d bytes, %s", sizes[i], writes, last, amount(), strerrorname_np(errno));
        struct pollfd one = {p[1], POLLOUT, 0};
        int reads = 0;
        while (poll(&one, 1, 0) == 0 && read(p[0], block, 1000) > 0)
            reads++;
        say("writable after %d reads of 1000", reads);
        SHOW(write(p[1], block, 1));
        SHOW(write(p[1], block, 4097));
        close(p[0]);
        close(p[1]);
    }
}

PROBE(pipe_merging) {
    fresh(0);
    for (int i = 0; i < 16; i++)
        MUST(write(p[1], block, 4096));
    SHOW(write(p[1], block, 1));
    SHOW(read(p[0], block, 1));
    SHOW(write(p[1], block, 1));
    SHOW(read(p[0], block, 4095));
    SHOW(write(p[1], block, 100));
    SHOW(write(p[1], block, 3996));
    SHOW(write(p[1], block, 1));
    SHOW(amount());
}

PROBE(pipe_packets) {
    fresh(O_DIRECT);
    SHOW(fcntl(p[1], F_GETFL) & O_DIRECT);
    SHOW(write(p[1], "one", 3));
    SHOW(write(p[1], "second", 6));
    SHOW(write(p[1], block, 5000));
    SHOW(write(p[1], "", 0));
    SHOW(amount());
    SHOW(read(p[0], block, 100));
    SHOW(read(p[0], block, 2));
    SHOW(read(p[0], block, 100));
    SHOW(read(p[0], block, 10000));
    SHOW(read(p[0], block, 10000));
    int count = 0;
    while (write(p[1], "x", 1) == 1)
        count++;
    SHOW(count);
    struct pollfd one = {p[1], POLLOUT, 0};
    SHOW(poll(&one, 1, 0));
    SHOW(read(p[0], block, 1));
    SHOW(poll(&one, 1, 0));
    SHOW(fcntl(p[1], F_SETFL, O_NONBLOCK));
    SHOW(write(p[1], "ab", 2));
    SHOW(write(p[1], "cd", 2));
    while (read(p[0], block, 100) > 0)
        count--;
    SHOW(count);
}

PROBE(pipe_sizes) {
    int sizes[] = {-1, 0, 1, 4095, 4096, 4097, 65536, 65537, 1 << 20, (1 << 20) + 1, 1 << 30, INT_MAX};
    fresh(0);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        long done = fcntl(p[1], F_SETPIPE_SZ, sizes[i]);
        say("%d: %ld %s", sizes[i], done, done < 0 ? strerrorname_np(errno) : "");
    }
    SHOW(fcntl(p[0], F_GETPIPE_SZ));
    fresh(0);
    MUST(write(p[1], block, 5000));
    SHOW(fcntl(p[1], F_SETPIPE_SZ, 4096));
    SHOW(fcntl(p[1], F_SETPIPE_SZ, 8192));
    SHOW(fcntl(p[1], F_GETPIPE_SZ));
    SHOW(write(p[1], block, 5000));
    SHOW(fcntl(p[1], F_SETPIPE_SZ, 16384));
    SHOW(write(p[1], block, 50000));
    SHOW(amount());
    int fd = MUST(open("/dev/null", O_RDWR));
    SHOW(fcntl(fd, F_GETPIPE_SZ));
    SHOW(fcntl(fd, F_SETPIPE_SZ, 4096));
}

PROBE(pipe_arguments) {
    SHOW(syscall(SYS_pipe, unmapped));
    SHOW(syscall(SYS_pipe2, unmapped, O_CLOEXEC));
    SHOW(pipe2(p, O_APPEND));
    SHOW(pipe2(p, O_NONBLOCK | O_DIRECT | O_CLOEXEC));
    say("%#x %#x", fcntl(p[0], F_GETFL), fcntl(p[1], F_GETFL));
    fresh(0);
    SHOW(write(p[1], unmapped, 10));
    SHOW(write(p[1], unmapped, 0));
    SHOW(write(p[1], "abc", 3));
    SHOW(read(p[0], unmapped, 10));
    SHOW(amount());
    SHOW(read(p[0], block, 0));
    SHOW(pread(p[0], block, 1, 0));
    SHOW(pwrite(p[1], block, 1, 0));
    SHOW(lseek(p[0], 0, SEEK_CUR));
    SHOW(ftruncate(p[1], 0));
    SHOW(fsync(p[1]));
    SHOW(fallocate(p[1], 0, 0, 10));
    SHOW(posix_fadvise(p[0], 0, 0, 0));
    SHOW(readahead(p[0], 0, 10));
    SHOW(flock(p[0], 2));
    SHOW(fchmod(p[0], 0644));
    SHOW(mmap(NULL, 4096, PROT_READ, MAP_SHARED, p[0], 0) == MAP_FAILED ? -1 : 0);
    SHOW(ioctl(p[0], FIONREAD, unmapped));
    int value;
    SHOW(ioctl(p[1], FIONREAD, &value));
    SHOW(ioctl(p[0], TIOCOUTQ, &value));
    SHOW(ioctl(p[0], 0x1234, &value));
    struct stat st, other;
    MUST(fstat(p[0], &st));
    MUST(fstat(p[1], &other));
    FACT(st.st_ino == other.st_ino && st.st_dev == other.st_dev);
    say("%o %ld %ld", st.st_mode, (long)st.st_blksize, (long)st.st_blocks);
    // a page that can be read only in part
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(mprotect(page + 4096, 4096, PROT_NONE));
    SHOW(write(p[1], page + 4000, 200));
    SHOW(amount());
    SHOW(write(p[1], page, 8192));
    struct iovec parts[2] = {{"ab", 2}, {unmapped, 2}};
    SHOW(writev(p[1], parts, 2));
    SHOW(amount());
}

PROBE(pipe_splice) {
    int q[2], file;
    loff_t offset = 2;
    fresh(0);
    MUST(pipe2(q, O_NONBLOCK));
    make_file("file", "0123456789");
    file = MUST(open("file", O_RDWR));
    SHOW(splice(file, &offset, p[1], NULL, 5, 0));
    SHOW(offset);
    SHOW(lseek(file, 0, SEEK_CUR));
    SHOW(splice(file, NULL, p[1], NULL, 3, 0));
    SHOW(lseek(file, 0, SEEK_CUR));
    SHOW(amount());
    SHOW(splice(p[0], NULL, q[1], NULL, 4, 0));
    SHOW(amount());
    SHOW(tee(q[0], p[1], 100, 0));
    SHOW(amount());
    memset(block, 0, 20);
    SHOW(read(p[0], block, 20));
    say("%s", block);
    make_file("other", "0123456789");
    int other = MUST(open("other", O_RDWR));
    SHOW(splice(q[0], NULL, other, NULL, 100, 0));
    SHOW(lseek(other, 0, SEEK_CUR));
    say_file("other");
    SHOW(splice(q[0], NULL, p[1], NULL, 10, 0));
    SHOW(splice(q[0], NULL, p[1], NULL, 10, SPLICE_F_NONBLOCK));
    SHOW(splice(p[0], NULL, p[1], NULL, 10, 0));
    SHOW(splice(p[0], &offset, q[1], NULL, 10, 0));
    SHOW(splice(file, NULL, file, NULL, 10, 0));
    SHOW(splice(p[1], NULL, q[1], NULL, 10, 0));
    SHOW(splice(p[0], NULL, q[0], NULL, 10, 0));
    SHOW(splice(p[0], NULL, q[1], NULL, 0, 0));
    SHOW(splice(99, NULL, q[1], NULL, 1, 0));
    SHOW(splice(p[0], NULL, q[1], NULL, 1, 0x100));
    SHOW(tee(p[0], p[1], 10, 0));
    SHOW(tee(file, p[1], 10, 0));
    SHOW(tee(p[0], q[1], 10, SPLICE_F_NONBLOCK));
    offset = 100;
    SHOW(splice(file, &offset, p[1], NULL, 5, 0));
    offset = -1;
    SHOW(splice(file, &offset, p[1], NULL, 5, 0));
    SHOW(splice(file, unmapped, p[1], NULL, 5, 0));
    int appending = MUST(open("file", O_WRONLY | O_APPEND));
    SHOW(write(p[1], "app", 3));
    SHOW(splice(p[0], NULL, appending, NULL, 10, 0));
    int readonly = MUST(open("file", O_RDONLY));
    SHOW(splice(p[0], NULL, readonly, NULL, 10, 0));
    close(p[1]);
    SHOW(splice(p[0], NULL, q[1], NULL, 10, 0));
    SHOW(splice(p[0], NULL, q[1], NULL, 10, 0));
    fresh(0);
    close(p[0]);
    count_signal(SIGPIPE, 0);
    SHOW(splice(file, &(loff_t){0}, p[1], NULL, 5, 0));
    SHOW(handled);
    SHOW(write(q[1], "x", 1));
    SHOW(splice(q[0], NULL, p[1], NULL, 5, 0));
    SHOW(tee(q[0], p[1], 5, 0));
    SHOW(handled);
    int null = MUST(open("/dev/null", O_RDWR)), zero = MUST(open("/dev/zero", O_RDWR));
    SHOW(splice(q[0], NULL, null, NULL, 5, 0));
    SHOW(splice(zero, NULL, q[1], NULL, 5, 0));
    int s[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    SHOW(splice(q[0], NULL, s[0], NULL, 100, 0));
    SHOW(splice(s[1], NULL, q[1], NULL, 100, 0));
    SHOW(splice(s[1], NULL, q[1], NULL, 100, SPLICE_F_NONBLOCK));
    SHOW(read(q[0], block, 100));
    SHOW(sendfile(s[0], readonly, &(off_t){1}, 4));
    SHOW(recv(s[1], block, 100, 0));
    SHOW(sendfile(q[1], readonly, NULL, 100));
    SHOW(sendfile(appending, readonly, NULL, 100));
}

PROBE(pipe_vmsplice) {
    fresh(0);
    struct iovec parts[3] = {{"abc", 3}, {"", 0}, {"defg", 4}}, wrong = {unmapped, 10};
    SHOW(vmsplice(p[1], parts, 3, 0));
    SHOW(vmsplice(p[1], parts, 3, SPLICE_F_GIFT));
    SHOW(amount());
    SHOW(vmsplice(p[1], &wrong, 1, 0));
    SHOW(vmsplice(p[1], unmapped, 1, 0));
    SHOW(vmsplice(p[1], parts, 1025, 0));
    SHOW(vmsplice(p[1], parts, 0, 0));
    SHOW(vmsplice(99, parts, 1, 0));
    SHOW(vmsplice(MUST(open("/dev/null", O_RDWR)), parts, 1, 0));
    char text[20] = "";
    struct iovec into = {text, 10};
    SHOW(vmsplice(p[0], &into, 1, 0));
    say("%s", text);
    SHOW(vmsplice(p[1], parts, 1, 0x100));
    static char pages[20][4096] __attribute__((aligned(4096)));
    struct iovec many[20];
    for (int i = 0; i < 20; i++)
        many[i] = (struct iovec){pages[i], 4096};
    fresh(0);
    SHOW(vmsplice(p[1], many, 20, SPLICE_F_NONBLOCK));
    SHOW(vmsplice(p[1], many, 20, SPLICE_F_NONBLOCK));
    SHOW(amount());
}

static void *drain(void *unused) {
    (void)unused;
    static char sink[65536];
    nap_ms(40);
    while (read(p[0], sink, sizeof sink) > 0)
        nap_ms(1);
    return NULL;
}

PROBE(pipe_waiting) {
    pthread_t thread;
    struct itimerval soon = {{0, 0}, {0, 30000}};
    MUST(pipe(p));
    count_signal(SIGALRM, 0);
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    SHOW(read(p[0], block, 1));
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    SHOW(write(p[1], block, sizeof block));
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    SHOW(write(p[1], block, 1));
    SHOW(handled);
    pthread_create(&thread, NULL, drain, NULL);
    SHOW(write(p[1], block, sizeof block));
    close(p[1]);
    pthread_join(thread, NULL);
    MUST(mkfifo("fifo", 0600));
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    SHOW(open("fifo", O_RDONLY));
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    SHOW(open("fifo", O_WRONLY));
    SHOW(open("fifo", O_WRONLY | O_NONBLOCK));
    int r = SHOW(open("fifo", O_RDONLY | O_NONBLOCK));
    SHOW(read(r, block, 1));
    int w = SHOW(open("fifo", O_WRONLY));
    SHOW(read(r, block, 1));
    SHOW(write(w, "x", 1));
    close(w);
    SHOW(read(r, block, 1));
    SHOW(read(r, block, 1));
    SHOW(fcntl(r, F_GETPIPE_SZ));
    SHOW(lseek(r, 0, SEEK_SET));
    SHOW(truncate("fifo", 0));
    close(r);
    SHOW(open("fifo", O_RDONLY | O_NONBLOCK | O_TRUNC));
    struct stat st;
    MUST(stat("fifo", &st));
    say("%o %ld", st.st_mode, (long)st.st_size);
}
