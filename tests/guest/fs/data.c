// Moving data: read(2), write(2), the vectored and positioned forms, their flags, bad pointers and partial results, lseek(2).
#include "../probe.h"
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

// Two pages of which only the first can be touched.
static char *half_page(void) {
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        must("mmap", -1);
    MUST(mprotect(page + 4096, 4096, PROT_NONE));
    return page;
}

static long size_of(int fd) {
    struct stat st;
    return fstat(fd, &st) ? -1 : (long)st.st_size;
}

PROBE(partial_at_fault) {
    char *page = half_page();
    memset(page, 'p', 4096);
    int fd = MUST(open("f", O_RDWR | O_CREAT, 0644));
    SHOW(write(fd, page, 8192));
    SHOW(size_of(fd));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(write(fd, page + 4096, 10));
    SHOW(pwrite(fd, page + 4000, 200, 0));
    SHOW(write(fd, page, SSIZE_MAX));
    MUST(ftruncate(fd, 0));
    MUST(pwrite(fd, page, 4096, 0));
    MUST(pwrite(fd, page, 4096, 4096));
    lseek(fd, 0, SEEK_SET);
    SHOW(read(fd, page + 4000, 200));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(read(fd, page + 4096, 10));
    SHOW(pread(fd, page + 4095, 2, 0));
    struct iovec iov[4] = {{page, 10}, {page + 4090, 10}, {page, 10}, {NULL, 0}};
    SHOW(preadv(fd, iov, 3, 0));
    SHOW(pwritev(fd, iov, 3, 0));
    iov[0].iov_base = unmapped;
    SHOW(preadv(fd, iov, 3, 0));
    SHOW(pwritev(fd, iov, 3, 0));
    iov[0] = (struct iovec){page, 10};
    iov[1] = (struct iovec){kernel_half, 10};
    SHOW(preadv(fd, iov, 3, 0));
    SHOW(pwritev(fd, iov, 3, 0));
    iov[1] = (struct iovec){unmapped, 0};
    SHOW(preadv(fd, iov, 3, 0));
    iov[1] = (struct iovec){kernel_half, 0};
    SHOW(preadv(fd, iov, 3, 0));
    SHOW(readv(fd, (struct iovec *)(page + 4096 - sizeof(struct iovec)), 2));
    SHOW(readv(fd, unmapped, 1));
    SHOW(readv(fd, unmapped, 0));
    SHOW(read(fd, kernel_half, 0));
    SHOW(read(fd, unmapped, 0));
    SHOW(write(fd, unmapped, 0));
    SHOW(lseek(fd, 0, SEEK_END) > 0);
    SHOW(read(fd, unmapped, 10));
    SHOW(read(fd, kernel_half, 10));
    SHOW(read(fd, (void *)-1, 10));
}

PROBE(counts) {
    static char buffer[64];
    int fd = MUST(open("f", O_RDWR | O_CREAT, 0644));
    struct iovec iov[1030];
    for (int i = 0; i < 1030; i++)
        iov[i] = (struct iovec){buffer + i % 64, 1};
    SHOW(writev(fd, iov, 1024));
    SHOW(writev(fd, iov, 1025));
    SHOW(writev(fd, iov, 0));
    SHOW(writev(fd, iov, -1));
    SHOW(syscall(SYS_writev, fd, iov, 0x100000000));
    SHOW(syscall(SYS_writev, fd, iov, 0x100000001));
    SHOW(writev(-1, unmapped, 1025));
    SHOW(writev(fd, unmapped, 1025));
    iov[0].iov_len = -1;
    SHOW(writev(fd, iov, 1));
    iov[0] = (struct iovec){buffer, 10};
    iov[1] = (struct iovec){buffer, -1};
    SHOW(writev(fd, iov, 2));
    SHOW(read(fd, buffer, -1));
    SHOW(write(fd, buffer, -1));
    SHOW(pread(fd, buffer, -1, 0));
    SHOW(pread(fd, buffer, 1, INT64_MAX));
    SHOW(pread(fd, buffer, 64, INT64_MAX - 1));
    SHOW(pwrite(fd, buffer, 1, INT64_MAX));
    SHOW(pwrite(fd, buffer, 64, INT64_MAX - 1));
    SHOW(pread(fd, buffer, 1, INT64_MIN));
    SHOW(pread(-1, buffer, 1, -1));
    SHOW(pread(-1, buffer, 1, 0));
    SHOW(preadv(fd, iov, 1, -1));
    SHOW(preadv2(fd, iov, 1, -2, 0));
    SHOW(syscall(SYS_preadv, fd, iov, 1, 0, 1ul << 32));
    SHOW(syscall(SYS_preadv2, fd, iov, 1, 0, 0, 0));
}

PROBE(wrong_kind) {
    char c = 0;
    int pipes[2], pair[2], folder = MUST(open(".", O_RDONLY)), event = MUST(eventfd(1, 0));
    MUST(pipe(pipes));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    int files[] = {folder, pipes[0], pipes[1], pair[0], event, MUST(open("/dev/null", O_RDWR)), MUST(open("/dev/zero", O_RDWR)),
                   MUST(open("/proc/self/comm", O_RDWR)), MUST(open("/dev/urandom", O_RDWR)), MUST(open("/proc", O_RDONLY))};
    struct iovec iov = {&c, 1};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        int fd = files[i];
        say("file %zu", i);
        SHOW(pread(fd, &c, 1, 0));
        SHOW(pread(fd, &c, 0, 0));
        SHOW(pwrite(fd, &c, 1, 0));
        SHOW(preadv(fd, &iov, 1, 0));
        SHOW(preadv(fd, &iov, 0, 0));
        SHOW(preadv2(fd, &iov, 1, 0, RWF_NOWAIT));
        SHOW(pwritev2(fd, &iov, 1, 0, RWF_DSYNC));
        SHOW(lseek(fd, 0, SEEK_CUR));
        SHOW(lseek(fd, 10, SEEK_SET));
        SHOW(fd == folder || lseek(fd, 0, SEEK_END) >= 0); // what a folder's end is depends on the file system
        SHOW(fd == folder || lseek(fd, 0, SEEK_DATA));
        SHOW(lseek(fd, 0, 7));
        SHOW(ftruncate(fd, 0));
        SHOW(fallocate(fd, 0, 0, 1));
        SHOW(fsync(fd));
        SHOW(fdatasync(fd));
        SHOW(sync_file_range(fd, 0, 0, 0));
        SHOW(readahead(fd, 0, 1));
        SHOW(posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL));
        SHOW(posix_fadvise(fd, 0, 0, 99));
        SHOW(posix_fadvise(fd, 0, -1, POSIX_FADV_NORMAL));
        lseek(fd, 0, SEEK_SET);
        SHOW(syscall(SYS_getdents64, fd, &c, 1));
        SHOW(fchdir(fd) && errno == ENOTDIR);
        SHOW(mmap(NULL, 1, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED ? errno : 0);
    }
    SHOW(write(folder, &c, 1));
    SHOW(writev(folder, &iov, 1));
    SHOW(read(folder, &c, 0));
    SHOW(read(pipes[1], &c, 0));
    SHOW(write(pipes[0], &c, 0));
}

PROBE(rw_flags) {
    // Later ones depend on the kernel: rw_flags_of_late in files.c.
    static const int all[] = {0, RWF_HIPRI, RWF_DSYNC, RWF_SYNC, RWF_NOWAIT, RWF_APPEND, 0x40000000, RWF_SYNC | RWF_DSYNC, -1};
    char buffer[8] = "abcdefg";
    struct iovec iov = {buffer, 4};
    int pipes[2], null = MUST(open("/dev/null", O_RDWR));
    MUST(pipe(pipes));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int fd = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644)), flags = all[i];
        MUST(write(fd, "0123456789", 10));
        say("flags %#x", flags);
        SHOW(pwritev2(fd, &iov, 1, 2, flags));
        SHOW(pwritev2(fd, &iov, 1, -1, flags));
        SHOW(preadv2(fd, &iov, 1, 0, flags));
        SHOW(preadv2(fd, &iov, 1, -1, flags));
        SHOW(lseek(fd, 0, SEEK_CUR));
        SHOW(preadv2(fd, &iov, 1, 1000, flags));
        SHOW(preadv2(fd, &iov, 0, 0, flags));
        SHOW(size_of(fd));
        SHOW(pwritev2(null, &iov, 1, 0, flags));
        SHOW(preadv2(null, &iov, 1, 0, flags));
        SHOW(pwritev2(pipes[1], &iov, 1, -1, flags));
        SHOW(preadv2(pipes[0], &iov, 1, flags == -1 ? 0 : -1, flags | RWF_NOWAIT));
        close(fd);
    }
}

PROBE(append_semantics) {
    int fd = MUST(open("f", O_RDWR | O_CREAT | O_APPEND, 0644)), other = MUST(open("f", O_RDWR));
    SHOW(write(fd, "abc", 3));
    SHOW(pwrite(other, "0123456789", 10, 0));
    SHOW(write(fd, "def", 3));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(pwrite(fd, "X", 1, 0));
    SHOW(lseek(fd, 0, SEEK_CUR));
    char c;
    lseek(fd, 2, SEEK_SET);
    SHOW(read(fd, &c, 1));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(ftruncate(fd, 4));
    SHOW(write(fd, "end", 3));
    SHOW(write(fd, "", 0));
    SHOW(lseek(fd, 100, SEEK_SET));
    SHOW(write(fd, "", 0));
    SHOW(lseek(fd, 0, SEEK_CUR));
    say_file("f");
    SHOW(fallocate(fd, 0, 0, 20));
    SHOW(copy_file_range(other, &(loff_t){0}, fd, NULL, 3, 0));
    SHOW(sendfile(fd, other, NULL, 1));
    // whole appends of several processes
    MUST(ftruncate(fd, 0));
    pid_t child[3];
    for (int i = 0; i < 3; i++)
        if ((child[i] = MUST(fork())) == 0) {
            char line[33];
            memset(line, 'a' + i, 32);
            for (int n = 0; n < 50; n++)
                MUST(write(fd, line, 32));
            _exit(0);
        }
    for (int i = 0; i < 3; i++)
        reap("writer", child[i]);
    SHOW(size_of(fd));
    char line[32];
    int torn = 0;
    for (int n = 0; n < 150; n++) {
        MUST(pread(other, line, 32, n * 32));
        for (int i = 1; i < 32; i++)
            torn += line[i] != line[0];
    }
    SHOW(torn);
}

PROBE(seek_limits) {
    int fd = MUST(open("f", O_RDWR | O_CREAT, 0644));
    MUST(write(fd, "0123456789", 10));
    SHOW(lseek(fd, INT64_MAX, SEEK_END));
    SHOW(lseek(fd, INT64_MAX, SEEK_CUR));
    SHOW(lseek(fd, INT64_MIN, SEEK_CUR));
    SHOW(lseek(fd, -10, SEEK_END));
    SHOW(lseek(fd, -1, SEEK_CUR));
    SHOW(lseek(fd, 0, -1));
    SHOW(lseek(fd, 0, 5));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(lseek(fd, 9, SEEK_HOLE));
    SHOW(lseek(fd, 10, SEEK_HOLE));
    SHOW(lseek(fd, 10, SEEK_DATA));
    SHOW(lseek(fd, -1, SEEK_DATA));
    SHOW(lseek(fd, -1, SEEK_HOLE));
    SHOW(lseek(fd, 5, SEEK_DATA));
    SHOW(lseek(fd, 0, SEEK_CUR));
    MUST(ftruncate(fd, 1 << 20));
    MUST(pwrite(fd, "x", 1, 512 << 10));
    SHOW(lseek(fd, 100, SEEK_HOLE));
    SHOW(lseek(fd, 64 << 10, SEEK_DATA));
    SHOW(lseek(fd, 600 << 10, SEEK_DATA));
    SHOW(lseek(fd, 512 << 10, SEEK_HOLE));
    SHOW(lseek(fd, 1 << 20, SEEK_HOLE));
    MUST(ftruncate(fd, 0));
    SHOW(lseek(fd, 0, SEEK_HOLE));
    SHOW(lseek(fd, 0, SEEK_DATA));
    SHOW(lseek(fd, 1l << 40, SEEK_SET));
    SHOW(lseek(fd, 1l << 46, SEEK_SET) == -1);
}
