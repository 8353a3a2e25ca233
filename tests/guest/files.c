// Regular files: open(2), read(2), write(2), lseek(2), dup(2), fcntl(2), truncate(2), fallocate(2), locks.
#include "probe.h"
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>

PROBE(open_flags) {
    SHOW(open("missing", O_RDONLY));
    SHOW(open("missing/below", O_RDONLY));
    SHOW(open("", O_RDONLY));
    SHOW(open("new", O_RDONLY | O_CREAT, 0640));
    SHOW(open("new", O_RDONLY | O_CREAT | O_EXCL, 0640));
    SHOW(open("new", O_RDONLY | O_DIRECTORY));
    SHOW(open("new/", O_RDONLY));
    SHOW(open("new/below", O_RDONLY));
    SHOW(open(".", O_RDONLY | O_DIRECTORY));
    SHOW(open(".", O_WRONLY));
    SHOW(open(".", O_RDWR));
    SHOW(open("newdir/", O_RDWR | O_CREAT, 0644));
    MUST(symlink("new", "link"));
    SHOW(open("link", O_RDONLY | O_NOFOLLOW));
    SHOW(open("link", O_RDONLY));
    SHOW(open("link", O_RDWR | O_CREAT | O_EXCL, 0644));
    MUST(symlink("dangling-target", "dangling"));
    SHOW(open("dangling", O_RDONLY));
    SHOW(open("dangling", O_WRONLY | O_CREAT, 0600));
    SHOW(access("dangling-target", F_OK));
    SHOW(fcntl(3, F_GETFL) & ~O_LARGEFILE);
    SHOW(openat(99, "new", O_RDONLY));
    SHOW(openat(3, "new", O_RDONLY));
    SHOW(openat(99, "/tmp/probe/new", O_RDONLY));
    SHOW(open("new", O_RDONLY | O_TRUNC | O_CREAT | 0x40000000));
    SHOW(creat("created", 0600));
}

PROBE(read_write) {
    char buffer[64] = {0};
    int fd = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
    SHOW(write(fd, "hello world", 11));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(read(fd, buffer, sizeof buffer));
    SHOW(lseek(fd, 6, SEEK_SET));
    SHOW(read(fd, buffer, 3));
    say("'%.3s'", buffer);
    SHOW(write(fd, "X", 1));
    SHOW(write(fd, "", 0));
    SHOW(read(fd, buffer, 0));
    say_file("f");
    int reader = MUST(open("f", O_RDONLY)), writer = MUST(open("f", O_WRONLY));
    SHOW(write(reader, "x", 1));
    SHOW(read(writer, buffer, 1));
    SHOW(read(77, buffer, 1));
    SHOW(write(-1, buffer, 1));
    SHOW(close(writer));
    SHOW(close(writer));
    SHOW(write(writer, "x", 1));
    int folder = MUST(open(".", O_RDONLY));
    SHOW(read(folder, buffer, 8));
    SHOW(write(folder, buffer, 8));
}

PROBE(lseek) {
    int fd = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
    MUST(write(fd, "0123456789", 10));
    SHOW(lseek(fd, -3, SEEK_END));
    SHOW(lseek(fd, -3, SEEK_CUR));
    SHOW(lseek(fd, -20, SEEK_CUR));
    SHOW(lseek(fd, -1, SEEK_SET));
    SHOW(lseek(fd, 0, 99));
    SHOW(lseek(fd, 100, SEEK_SET));
    SHOW(write(fd, "end", 3));
    SHOW(lseek(fd, 0, SEEK_END));
    char hole[8] = "xxxxxxx";
    SHOW(pread(fd, hole, 4, 50));
    FACT(hole[0] == 0 && hole[3] == 0 && hole[4] == 'x');
    SHOW(lseek(fd, 0, SEEK_DATA));
    SHOW(lseek(fd, 1000, SEEK_DATA));
    SHOW(lseek(fd, 0, SEEK_HOLE));
    SHOW(lseek(fd, INT64_MAX, SEEK_SET) == -1);
    int pipes[2];
    MUST(pipe(pipes));
    SHOW(lseek(pipes[0], 0, SEEK_SET));
    SHOW(lseek(50, 0, SEEK_SET));
}

PROBE(pread_pwrite) {
    char buffer[32] = {0};
    int fd = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
    SHOW(pwrite(fd, "abcdef", 6, 10));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(pread(fd, buffer, 3, 11));
    say("%s", buffer);
    SHOW(pread(fd, buffer, 3, 100));
    SHOW(pread(fd, buffer, 3, -1));
    SHOW(pwrite(fd, buffer, 3, -1));
    int pipes[2];
    MUST(pipe(pipes));
    SHOW(pread(pipes[0], buffer, 1, 0));
    SHOW(pwrite(pipes[1], buffer, 1, 0));
    struct iovec two[2] = {{"12", 2}, {"345", 3}};
    SHOW(pwritev(fd, two, 2, 0));
    char a[2], b[4];
    struct iovec in[2] = {{a, 2}, {b, 4}};
    SHOW(preadv(fd, in, 2, 1));
    say("%.2s %.2s", a, b);
    SHOW(preadv2(fd, in, 2, -1, 0));
    SHOW(lseek(fd, 0, SEEK_CUR));
}

PROBE(readv_writev) {
    int fd = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
    struct iovec out[3] = {{"one ", 4}, {NULL, 0}, {"three", 5}};
    SHOW(writev(fd, out, 3));
    lseek(fd, 0, SEEK_SET);
    char a[4] = {0}, b[20] = {0};
    struct iovec in[2] = {{a, 3}, {b, 19}};
    SHOW(readv(fd, in, 2));
    say("'%s' '%s'", a, b);
    SHOW(readv(fd, in, 0));
    SHOW(readv(fd, in, -1));
    SHOW(readv(fd, in, 1025));
    struct iovec huge[2] = {{a, SSIZE_MAX}, {b, SSIZE_MAX}};
    SHOW(writev(fd, huge, 2));
    struct iovec negative[1] = {{a, (size_t)-1}};
    SHOW(readv(fd, negative, 1));
}

PROBE(append) {
    make_file("f", "start ");
    int fd = MUST(open("f", O_WRONLY | O_APPEND));
    lseek(fd, 0, SEEK_SET);
    SHOW(write(fd, "one ", 4));
    SHOW(lseek(fd, 0, SEEK_CUR));
    int other = MUST(open("f", O_WRONLY | O_APPEND));
    SHOW(write(other, "two ", 4));
    SHOW(write(fd, "three", 5));
    SHOW(pwrite(fd, "!", 1, 0));
    say_file("f");
    SHOW(fcntl(fd, F_SETFL, 0));
    lseek(fd, 0, SEEK_SET);
    SHOW(write(fd, "S", 1));
    say_file("f");
}

// Flags that came with Linux 6.9 and later: what they do is told only where they are known.
PROBE(rw_flags_of_late) {
    enum { NOAPPEND = 0x20, NOSIGNAL = 0x100 };
    struct iovec iov = {"O", 1};
    make_file("f", "some one");
    int fd = MUST(open("f", O_WRONLY | O_APPEND)), pipes[2];
    if (pwritev2(fd, &iov, 1, 5, NOAPPEND) == 1)
        say_file("f");
    FACT(pwritev2(fd, &iov, 1, 5, NOAPPEND | RWF_APPEND) == -1);
    MUST(pipe(pipes));
    close(pipes[0]);
    count_signal(SIGPIPE, 0);
    FACT(pwritev2(pipes[1], &iov, 1, -1, NOSIGNAL) == -1 && (errno == EPIPE || errno == EOPNOTSUPP));
    FACT(handled == 0);
}

PROBE(dup) {
    char c;
    make_file("f", "abcdef");
    int fd = MUST(open("f", O_RDONLY));
    SHOW(dup(fd));
    SHOW(dup2(fd, 10));
    SHOW(dup2(fd, fd));
    SHOW(dup2(99, 10));
    SHOW(dup2(99, 99));
    SHOW(dup2(fd, -1));
    SHOW(dup3(fd, 11, O_CLOEXEC));
    SHOW(fcntl(11, F_GETFD));
    SHOW(dup3(fd, fd, 0));
    SHOW(dup3(fd, 12, 1));
    SHOW(read(fd, &c, 1));
    SHOW(lseek(10, 0, SEEK_CUR));
    SHOW(lseek(11, 3, SEEK_SET));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(fcntl(fd, F_DUPFD, 20));
    SHOW(fcntl(fd, F_DUPFD_CLOEXEC, 20));
    SHOW(fcntl(21, F_GETFD));
    SHOW(fcntl(fd, F_DUPFD, -1));
    SHOW(close(fd));
    SHOW(read(10, &c, 1));
    SHOW(dup(fd));
    SHOW(open("f", O_RDONLY));
}

PROBE(fcntl_flags) {
    int fd = MUST(open("f", O_RDWR | O_CREAT | O_APPEND, 0644));
    FACT((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR);
    FACT(fcntl(fd, F_GETFL) & O_APPEND);
    SHOW(fcntl(fd, F_SETFL, O_NONBLOCK));
    SHOW(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_APPEND));
    SHOW(fcntl(fd, F_GETFD));
    SHOW(fcntl(fd, F_SETFD, FD_CLOEXEC));
    SHOW(fcntl(fd, F_GETFD));
    SHOW(fcntl(fd, F_SETFD, 0));
    SHOW(fcntl(fd, F_GETFD));
    SHOW(fcntl(fd, 9999, 0));
    SHOW(fcntl(99, F_GETFD));
    int one = 1;
    SHOW(ioctl(fd, FIONBIO, &one));
    SHOW(fcntl(fd, F_GETFL) & O_NONBLOCK);
    SHOW(ioctl(fd, FIOCLEX));
    SHOW(fcntl(fd, F_GETFD));
    SHOW(ioctl(fd, TCGETS, &one));
}

PROBE(truncate) {
    struct stat st;
    make_file("f", "0123456789");
    SHOW(truncate("f", 4));
    say_file("f");
    SHOW(truncate("f", 6));
    SHOW(stat("f", &st) == 0 ? st.st_size : -1);
    SHOW(truncate("f", -1));
    SHOW(truncate("missing", 1));
    SHOW(truncate(".", 1));
    int fd = MUST(open("f", O_RDWR)), reader = MUST(open("f", O_RDONLY));
    SHOW(ftruncate(fd, 2));
    SHOW(ftruncate(reader, 1));
    SHOW(ftruncate(fd, -5));
    SHOW(ftruncate(99, 0));
    say_file("f");
    close(MUST(open("f", O_WRONLY | O_TRUNC)));
    say_file("f");
}

PROBE(fallocate) {
    struct stat st;
    int fd = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
    SHOW(fallocate(fd, 0, 0, 100));
    SHOW(fstat(fd, &st) == 0 ? st.st_size : -1);
    SHOW(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 500));
    SHOW(fstat(fd, &st) == 0 ? st.st_size : -1);
    SHOW(fallocate(fd, 0, -1, 100));
    SHOW(fallocate(fd, 0, 0, 0));
    int reader = MUST(open("f", O_RDONLY));
    SHOW(fallocate(reader, 0, 0, 10));
    SHOW(posix_fallocate(fd, 0, 200));
    SHOW(fsync(fd));
    SHOW(fdatasync(fd));
    SHOW(fsync(99));
    SHOW(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
    SHOW(posix_fadvise(fd, 0, 0, 77) == EINVAL);
}

static int folder_lock;

static void try_locks(void) {
    int fd = MUST(open("f", O_RDWR));
    SHOW(flock(fd, LOCK_EX | LOCK_NB));
    SHOW(flock(fd, LOCK_SH | LOCK_NB));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 1};
    SHOW(fcntl(fd, F_SETLK, &lock));
    SHOW(fcntl(fd, F_GETLK, &lock));
    say("type %d start %ld len %ld", lock.l_type, (long)lock.l_start, (long)lock.l_len);
    struct flock beyond = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 50, .l_len = 1};
    SHOW(fcntl(fd, F_SETLK, &beyond));
    (void)folder_lock;
}

PROBE(locks) {
    make_file("f", "0123456789");
    int fd = MUST(open("f", O_RDWR));
    SHOW(flock(fd, LOCK_EX));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
    SHOW(fcntl(fd, F_SETLK, &lock));
    in_child("holder has both", try_locks);
    SHOW(flock(fd, LOCK_UN));
    lock.l_type = F_UNLCK;
    SHOW(fcntl(fd, F_SETLK, &lock));
    in_child("free", try_locks);
    SHOW(flock(fd, 77));
    SHOW(flock(99, LOCK_SH));
    lock.l_type = 9;
    SHOW(fcntl(fd, F_SETLK, &lock));
}

PROBE(copying) {
    make_file("from", "some bytes to copy");
    int in = MUST(open("from", O_RDONLY)), out = MUST(open("to", O_RDWR | O_CREAT | O_TRUNC, 0644));
    off_t at = 5;
    SHOW(sendfile(out, in, &at, 5));
    SHOW(at);
    SHOW(lseek(in, 0, SEEK_CUR));
    SHOW(sendfile(out, in, NULL, 4));
    SHOW(lseek(in, 0, SEEK_CUR));
    SHOW(copy_file_range(in, NULL, out, NULL, 100, 0));
    say_file("to");
    SHOW(copy_file_range(in, NULL, out, NULL, 100, 0));
    SHOW(copy_file_range(in, NULL, out, NULL, 100, 9));
    int pipes[2];
    MUST(pipe(pipes));
    at = 0;
    SHOW(sendfile(pipes[1], in, &at, 18));
    char buffer[32] = {0};
    SHOW(read(pipes[0], buffer, 32));
    say("%s", buffer);
    SHOW(splice(in, &(off_t){5}, pipes[1], NULL, 5, 0));
    SHOW(read(pipes[0], buffer, 32));
}

PROBE(copies_between_files) {
    int in = MUST(open("from", O_RDWR | O_CREAT | O_TRUNC, 0644));
    int out = MUST(open("to", O_RDWR | O_CREAT | O_TRUNC, 0644));
    char *data = malloc(300000);
    for (int i = 0; i < 300000; i++) data[i] = (char)(i * 7 + i / 251);
    MUST(write(in, data, 300000));
    off_t from = 100, to = 10;
    long done = 0, put;
    while ((put = copy_file_range(in, &from, out, &to, 300000, 0)) > 0) done += put;
    say("copied %ld, at %ld and %ld", done, (long)from, (long)to);
    SHOW(lseek(in, 0, SEEK_CUR));
    SHOW(lseek(out, 0, SEEK_CUR));
    char *read_back = malloc(300000);
    SHOW(pread(out, read_back, 300000, 0));
    FACT(memcmp(read_back + 10, data + 100, 299900) == 0);
    MUST(lseek(in, 299990, SEEK_SET));
    SHOW(copy_file_range(in, NULL, out, NULL, 4, 0));
    SHOW(copy_file_range(in, NULL, out, NULL, 100, 0));
    SHOW(copy_file_range(in, NULL, out, NULL, 100, 0));
    SHOW(lseek(out, 0, SEEK_CUR));
    int reader = MUST(open("from", O_RDONLY));
    int writer = MUST(open("to", O_WRONLY));
    int appender = MUST(open("to", O_WRONLY | O_APPEND));
    SHOW(copy_file_range(writer, NULL, out, NULL, 4, 0));
    SHOW(copy_file_range(reader, NULL, reader, NULL, 4, 0));
    SHOW(copy_file_range(reader, NULL, appender, NULL, 4, 0));
    SHOW(copy_file_range(reader, &(off_t){-1}, out, NULL, 4, 0));
    SHOW(copy_file_range(reader, &(off_t){-10}, out, NULL, 4, 0));
    SHOW(copy_file_range(reader, &(off_t){1}, out, NULL, SIZE_MAX, 0));
    SHOW(copy_file_range(reader, &(off_t){299995}, out, NULL, SIZE_MAX / 2, 0));
    SHOW(copy_file_range(reader, (off_t *)8, out, NULL, 4, 0));
    SHOW(copy_file_range(reader, NULL, 99, NULL, 4, 0));
    SHOW(copy_file_range(in, &(off_t){0}, in, &(off_t){2}, 4, 0));
    SHOW(copy_file_range(reader, NULL, out, NULL, 0, 0));
    SHOW(copy_file_range(reader, &(off_t){1l << 62}, out, NULL, 10, 0));
    SHOW(ioctl(out, FICLONE, reader));
    SHOW(ioctl(out, FICLONE, 99));
    SHOW(ioctl(reader, FICLONE, in));
    SHOW(ioctl(appender, FICLONE, in));
    int path = MUST(open("from", O_PATH));
    SHOW(ioctl(out, FICLONE, path));
    SHOW(posix_fadvise(path, 0, 0, POSIX_FADV_NORMAL) == EBADF);
    SHOW(posix_fadvise(out, 0, -1, POSIX_FADV_NORMAL) == EINVAL);
}

PROBE(close_range) {
    for (int fd = 3; fd < 10; fd++)
        dup2(1, fd);
    SHOW(close_range(4, 6, 0));
    SHOW(fcntl(3, F_GETFD));
    SHOW(fcntl(4, F_GETFD));
    SHOW(fcntl(6, F_GETFD));
    SHOW(fcntl(7, F_GETFD));
    SHOW(close_range(7, UINT_MAX, CLOSE_RANGE_CLOEXEC));
    SHOW(fcntl(9, F_GETFD));
    SHOW(close_range(9, 8, 0));
    SHOW(close_range(3, 4, 64));
}

PROBE(large_io) {
    size_t size = 3 << 20;
    char *data = malloc(size), *back = malloc(size);
    for (size_t i = 0; i < size; i++)
        data[i] = (char)(i * 31 >> 3);
    int fd = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
    SHOW(write(fd, data, size));
    SHOW(pread(fd, back, size, 0));
    FACT(memcmp(data, back, size) == 0);
    SHOW(pread(fd, back, size, size - 10));
    struct iovec parts[3] = {{back, 1000000}, {back + 1000000, 1000000}, {back + 2000000, size - 2000000}};
    memset(back, 0, size);
    SHOW(preadv(fd, parts, 3, 0));
    FACT(memcmp(data, back, size) == 0);
}

PROBE(deleted_file) {
    char buffer[16] = {0};
    struct stat st;
    int fd = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
    MUST(write(fd, "still here", 10));
    SHOW(unlink("f"));
    SHOW(access("f", F_OK));
    SHOW(pread(fd, buffer, 16, 0));
    say("%s", buffer);
    SHOW(fstat(fd, &st) == 0 ? (long)st.st_nlink : -1);
    SHOW(write(fd, "!", 1));
    make_file("f", "another");
    SHOW(pread(fd, buffer, 16, 0));
    say_file("f");
}

PROBE(devices) {
    char buffer[16] = "xxxxxxxxxxxxxxx";
    int null = MUST(open("/dev/null", O_RDWR)), zero = MUST(open("/dev/zero", O_RDWR));
    SHOW(read(null, buffer, 4));
    SHOW(write(null, "gone", 4));
    SHOW(read(zero, buffer, 4));
    FACT(buffer[0] == 0 && buffer[3] == 0 && buffer[4] == 'x');
    SHOW(write(zero, "gone", 4));
    int full = MUST(open("/dev/full", O_RDWR));
    SHOW(write(full, "x", 1));
    SHOW(read(full, buffer, 4));
    int random = MUST(open("/dev/urandom", O_RDONLY));
    SHOW(read(random, buffer, 16));
    struct stat st;
    MUST(fstat(null, &st));
    FACT(S_ISCHR(st.st_mode));
    say("%u:%u", (unsigned)(st.st_rdev >> 8), (unsigned)(st.st_rdev & 255));
    SHOW(lseek(null, 10, SEEK_SET));
    SHOW(open("/dev/nonesuch", O_RDONLY));
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
    FACT(page != MAP_FAILED && *(char *)page == 0);
}
