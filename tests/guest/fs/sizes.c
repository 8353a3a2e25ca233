// The size of files: truncate(2), fallocate(2), RLIMIT_FSIZE, and advice about ranges.
#include "../probe.h"
#include <sys/file.h>
#include <sys/vfs.h>

static void say_size(const char *path) {
    struct stat st;
    if (stat(path, &st))
        say("%s: %s", path, strerrorname_np(errno));
    else
        say("%s: size %ld, mode %o", path, (long)st.st_size, st.st_mode & 07777);
}

PROBE(truncate_details) {
    char c;
    make_file("f", "0123456789");
    int fd = MUST(open("f", O_RDWR));
    SHOW(truncate("f", 1l << 62));
    SHOW(truncate("f", INT64_MAX));
    SHOW(truncate("f", INT64_MIN));
    SHOW(ftruncate(fd, 1l << 62));
    SHOW(ftruncate(fd, 1l << 32));
    say_size("f");
    SHOW(pread(fd, &c, 1, 1l << 31));
    SHOW(ftruncate(fd, 5));
    SHOW(ftruncate(fd, 10));
    SHOW(pread(fd, &c, 1, 7));
    FACT(c == 0);
    SHOW(truncate(unmapped, 0));
    SHOW(truncate(unmapped, -1));
    SHOW(truncate("", 0));
    SHOW(truncate("/dev/null", 0));
    SHOW(truncate("/proc/self/comm", 0));
    SHOW(truncate("/proc/self/status", 0));
    MUST(mknod("fifo", S_IFIFO | 0600, 0));
    SHOW(truncate("fifo", 0));
    MUST(symlink("f", "l"));
    SHOW(truncate("l", 3));
    say_size("f");
    SHOW(chmod("f", 0444));
    SHOW(truncate("f", 2));
    SHOW(ftruncate(MUST(open("f", O_RDONLY)), 2));
    SHOW(ftruncate(MUST(open(".", O_RDONLY)), 2));
    SHOW(ftruncate(MUST(open("f", O_PATH)), 2));
    SHOW(chmod("f", 06777));
    SHOW(ftruncate(fd, 1));
    say_size("f");
}

static void as_nobody(void) {
    MUST(setgid(1000));
    MUST(setuid(1000));
    SHOW(truncate("readonly", 0));
    SHOW(truncate("closed/f", 0));
    SHOW(truncate("suid", 1));
    say_size("suid");
    SHOW(truncate("sgid-noexec", 1));
    say_size("sgid-noexec");
    int fd = MUST(open("suid2", O_RDWR));
    SHOW(write(fd, "x", 1));
    say_size("suid2");
    fd = MUST(open("suid3", O_RDWR));
    SHOW(fallocate(fd, 0, 0, 100));
    say_size("suid3");
    fd = MUST(open("suid4", O_RDWR | O_TRUNC));
    say_size("suid4");
    SHOW(open("readonly", O_RDONLY | O_TRUNC));
    say_size("readonly");
}

PROBE(truncate_permissions) {
    static const char *const names[] = {"suid", "suid2", "suid3", "suid4"};
    umask(0);
    make_file("readonly", "abc");
    MUST(chmod("readonly", 0444));
    MUST(mkdir("closed", 0700));
    make_file("closed/f", "abc");
    MUST(chmod("closed/f", 0666));
    for (int i = 0; i < 4; i++) {
        make_file(names[i], "abc");
        MUST(chmod(names[i], 06777));
    }
    make_file("sgid-noexec", "abc");
    MUST(chmod("sgid-noexec", 02666));
    in_child("nobody", as_nobody);
}

PROBE(write_keeps_privileges_for_root) {
    make_file("f", "abc");
    MUST(chmod("f", 06777));
    int fd = MUST(open("f", O_WRONLY));
    SHOW(write(fd, "x", 1));
    say_size("f");
    SHOW(chown("f", -1, -1));
    say_size("f");
    MUST(chmod("f", 06777));
    SHOW(chown("f", 0, 0));
    say_size("f");
    MUST(chmod("f", 02666));
    SHOW(chown("f", 0, 0));
    say_size("f");
}

#define TRY(MODE, AT, LENGTH)                                                                                    \
    do {                                                                                                         \
        SHOW(fallocate(fd, MODE, AT, LENGTH));                                                                   \
        say_size("f");                                                                                           \
    } while (0)

PROBE(fallocate_modes) {
    static char page[4096], back[4096];
    int fd = MUST(open("f", O_RDWR | O_CREAT, 0644));
    memset(page, 'x', sizeof page);
    for (int i = 0; i < 8; i++)
        MUST(pwrite(fd, page, 4096, i * 4096));
    TRY(0, 0, 100);
    TRY(0, 32768, 4096);
    TRY(FALLOC_FL_KEEP_SIZE, 0, 1 << 20);
    TRY(FALLOC_FL_PUNCH_HOLE, 0, 4096);
    TRY(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096);
    SHOW(pread(fd, back, 4096, 4096));
    FACT(back[0] == 0 && back[4095] == 0);
    TRY(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192 + 100, 200);
    SHOW(pread(fd, back, 4096, 8192));
    FACT(back[99] == 'x' && back[100] == 0 && back[299] == 0 && back[300] == 'x');
    TRY(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1 << 21, 4096);
    TRY(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE, 0, 4096);
    TRY(0x1000, 0, 4096);
    TRY(-1, 0, 4096);
    TRY(FALLOC_FL_KEEP_SIZE, INT64_MAX - 10, 10);
    TRY(0, INT64_MAX - 10, 10);
    TRY(0, INT64_MAX, 1);
    TRY(0, 1l << 60, 4096);
    TRY(0, -1, 10);
    TRY(0, 10, -1);
    TRY(0, 10, 0);
    TRY(-1, -1, 0);
    SHOW(fallocate(-1, -1, -1, 0));
    SHOW(fallocate(-1, 0, -1, 1));
    int reader = MUST(open("f", O_RDONLY)), folder = MUST(open(".", O_RDONLY)), null = MUST(open("/dev/null", O_RDWR)), pipes[2];
    MUST(pipe(pipes));
    SHOW(fallocate(reader, 0, 0, 1));
    SHOW(fallocate(reader, -1, 0, 1));
    SHOW(fallocate(folder, 0, 0, 1));
    SHOW(fallocate(null, 0, 0, 1));
    SHOW(fallocate(null, 0, -1, 1));
    SHOW(fallocate(pipes[1], 0, 0, 1));
    int append = MUST(open("f", O_WRONLY | O_APPEND));
    SHOW(fallocate(append, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
}

// What only some file systems can do.
PROBE(fallocate_ranges) {
    static char page[4096];
    int fd = MUST(open("f", O_RDWR | O_CREAT, 0644));
    for (int i = 0; i < 8; i++) {
        memset(page, 'a' + i, sizeof page);
        MUST(pwrite(fd, page, 4096, i * 4096));
    }
    TRY(FALLOC_FL_ZERO_RANGE, 0, 4096);
    TRY(FALLOC_FL_ZERO_RANGE, 30000, 4096);
    TRY(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 40000, 4096);
    TRY(FALLOC_FL_COLLAPSE_RANGE, 0, 4096);
    TRY(FALLOC_FL_COLLAPSE_RANGE, 0, 100);
    TRY(FALLOC_FL_COLLAPSE_RANGE, 0, 1 << 20);
    TRY(FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096);
    TRY(FALLOC_FL_INSERT_RANGE, 0, 4096);
    TRY(FALLOC_FL_INSERT_RANGE, 1 << 20, 4096);
    TRY(FALLOC_FL_INSERT_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096);
    TRY(FALLOC_FL_UNSHARE_RANGE, 0, 4096);
    TRY(FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_ZERO_RANGE, 0, 4096);
    char c = 0;
    SHOW(pread(fd, &c, 1, 4096));
    say("%02x", (unsigned char)c);
}

static void limited(void) {
    struct rlimit limit = {100, RLIM_INFINITY};
    static char page[4096];
    MUST(setrlimit(RLIMIT_FSIZE, &limit));
    count_signal(SIGXFSZ, 0);
    int fd = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
    SHOW(write(fd, page, 60));
    SHOW(write(fd, page, 60));
    SHOW(write(fd, page, 1));
    SHOW(handled);
    SHOW(write(fd, page, 0));
    SHOW(pwrite(fd, page, 10, 95));
    SHOW(pwrite(fd, page, 10, 100));
    SHOW(handled);
    SHOW(pwrite(fd, page, 10, 1000));
    SHOW(ftruncate(fd, 100));
    SHOW(ftruncate(fd, 101));
    SHOW(handled);
    SHOW(truncate("f", 101));
    SHOW(handled);
    SHOW(fallocate(fd, 0, 0, 100));
    SHOW(fallocate(fd, 0, 0, 101));
    SHOW(handled);
    SHOW(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 4096));
    SHOW(fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 4096, 4096));
    SHOW(handled);
    struct iovec iov[2] = {{page, 50}, {page, 100}};
    SHOW(pwritev(fd, iov, 2, 0));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(writev(fd, iov, 2));
    SHOW(handled);
    int from = MUST(open("big", O_RDONLY));
    SHOW(copy_file_range(from, NULL, fd, &(loff_t){50}, 4096, 0));
    SHOW(copy_file_range(from, NULL, fd, &(loff_t){100}, 4096, 0));
    SHOW(handled);
    // a file that is larger already may be made smaller, and written below the limit
    int big = MUST(open("big", O_RDWR));
    SHOW(pwrite(big, page, 10, 50));
    SHOW(ftruncate(big, 4000));
    SHOW(ftruncate(big, 4001));
    int append = MUST(open("big", O_WRONLY | O_APPEND));
    SHOW(write(append, page, 1));
    SHOW(handled);
    int pipes[2];
    MUST(pipe(pipes));
    SHOW(write(pipes[1], page, 4096));
    SHOW(write(MUST(open("/dev/null", O_WRONLY)), page, 4096));
    signal(SIGXFSZ, SIG_DFL);
    SHOW(pwrite(fd, page, 1, 100));
}

PROBE(file_size_limit) {
    int fd = MUST(open("big", O_RDWR | O_CREAT, 0644));
    MUST(ftruncate(fd, 8192));
    in_child("limited", limited);
    say_size("f");
    say_size("big");
}

PROBE(range_advice) {
    make_file("f", "0123456789");
    int fd = MUST(open("f", O_RDWR)), writer = MUST(open("f", O_WRONLY)), reader = MUST(open("f", O_RDONLY));
    SHOW(sync_file_range(fd, 0, 10, SYNC_FILE_RANGE_WRITE));
    SHOW(sync_file_range(fd, 0, 0, 7));
    SHOW(sync_file_range(fd, 0, 0, 8));
    SHOW(sync_file_range(fd, -1, 0, 0));
    SHOW(sync_file_range(fd, 0, -1, 0));
    SHOW(sync_file_range(fd, INT64_MAX, 1, 0));
    SHOW(sync_file_range(fd, INT64_MAX, 0, 0));
    SHOW(sync_file_range(reader, 0, 0, 0));
    SHOW(sync_file_range(-1, -1, -1, 99));
    SHOW(readahead(fd, 0, 100));
    SHOW(readahead(writer, 0, 100));
    SHOW(readahead(fd, -1, 100));
    SHOW(readahead(fd, 0, -1));
    SHOW(readahead(-1, 0, 1));
    SHOW(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
    SHOW(posix_fadvise(fd, -1, 0, POSIX_FADV_WILLNEED));
    SHOW(posix_fadvise(fd, 0, INT64_MIN, POSIX_FADV_WILLNEED));
    SHOW(posix_fadvise(writer, 0, 10, POSIX_FADV_RANDOM));
    SHOW(posix_fadvise(writer, 0, 10, -1));
    SHOW(posix_fadvise(-1, 0, -10, -1));
    SHOW(fsync(reader));
    SHOW(fdatasync(writer));
    SHOW(fsync(MUST(open(".", O_RDONLY))));
    SHOW(syncfs(reader));
    SHOW(syncfs(-1));
    SHOW(syncfs(MUST(open(".", O_PATH))));
    sync();
}
