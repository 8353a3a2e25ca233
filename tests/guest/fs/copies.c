// From descriptor to descriptor: copy_file_range(2), sendfile(2), splice(2), tee(2), vmsplice(2).
#include "../probe.h"
#include <sys/sendfile.h>
#include <sys/socket.h>

static long size_of(int fd) {
    struct stat st;
    return fstat(fd, &st) ? -1 : (long)st.st_size;
}

PROBE(copy_range) {
    make_file("from", "0123456789");
    int in = MUST(open("from", O_RDWR)), out = MUST(open("to", O_RDWR | O_CREAT, 0644));
    loff_t a = 2, b = 5;
    SHOW(copy_file_range(in, &a, out, &b, 3, 0));
    say("%ld %ld", (long)a, (long)b);
    SHOW(lseek(in, 0, SEEK_CUR) + lseek(out, 0, SEEK_CUR));
    SHOW(copy_file_range(in, NULL, out, NULL, 4, 0));
    SHOW(lseek(in, 0, SEEK_CUR));
    SHOW(lseek(out, 0, SEEK_CUR));
    SHOW(size_of(out));
    SHOW(copy_file_range(in, NULL, out, NULL, 100, 0));
    SHOW(copy_file_range(in, NULL, out, NULL, 100, 0));
    SHOW(copy_file_range(in, NULL, out, NULL, 0, 0));
    a = 100;
    SHOW(copy_file_range(in, &a, out, NULL, 10, 0));
    say("%ld", (long)a);
    a = -1;
    SHOW(copy_file_range(in, &a, out, NULL, 10, 0));
    a = 0, b = -1;
    SHOW(copy_file_range(in, &a, out, &b, 10, 0));
    SHOW(copy_file_range(in, unmapped, out, NULL, 10, 0));
    SHOW(copy_file_range(in, NULL, out, unmapped, 10, 0));
    SHOW(copy_file_range(in, unmapped, -1, unmapped, 10, 9));
    SHOW(copy_file_range(in, NULL, out, NULL, 10, 1));
    a = INT64_MAX - 5, b = 0;
    SHOW(copy_file_range(in, &a, out, &b, 10, 0));
    a = 0, b = INT64_MAX - 5;
    SHOW(copy_file_range(in, &a, out, &b, 10, 0));
    a = 0, b = INT64_MAX;
    SHOW(copy_file_range(in, &a, out, &b, 1, 0));
    SHOW(copy_file_range(in, &a, out, &b, 0, 0));
    SHOW(copy_file_range(in, NULL, out, NULL, SIZE_MAX, 0));
    a = 0, b = 2;
    SHOW(copy_file_range(in, &a, in, &b, 5, 0));
    a = 0, b = 5;
    SHOW(copy_file_range(in, &a, in, &b, 5, 0));
    a = 0, b = 10;
    SHOW(copy_file_range(in, &a, in, &b, 50, 0));
    SHOW(size_of(in));
    a = 5, b = 5;
    SHOW(copy_file_range(in, &a, in, &b, 0, 0));
    SHOW(copy_file_range(in, &a, in, &b, 1, 0));
    say_file("from");
    int reader = MUST(open("from", O_RDONLY)), writer = MUST(open("to", O_WRONLY)), append = MUST(open("to", O_WRONLY | O_APPEND));
    int folder = MUST(open(".", O_RDONLY)), null = MUST(open("/dev/null", O_RDWR)), pipes[2], path = MUST(open("from", O_PATH));
    int status = MUST(open("/proc/self/status", O_RDONLY)), zero = MUST(open("/dev/zero", O_RDONLY));
    MUST(pipe(pipes));
    SHOW(copy_file_range(writer, NULL, out, NULL, 1, 0));
    SHOW(copy_file_range(reader, &a, reader, &b, 1, 0));
    SHOW(copy_file_range(reader, NULL, append, NULL, 1, 0));
    SHOW(copy_file_range(folder, NULL, out, NULL, 1, 0));
    SHOW(copy_file_range(reader, NULL, folder, NULL, 1, 0));
    SHOW(copy_file_range(reader, NULL, null, NULL, 1, 0));
    SHOW(copy_file_range(zero, NULL, out, NULL, 1, 0));
    SHOW(copy_file_range(pipes[0], NULL, out, NULL, 1, 0));
    SHOW(copy_file_range(reader, NULL, pipes[1], NULL, 1, 0));
    SHOW(copy_file_range(path, NULL, out, NULL, 1, 0));
    SHOW(copy_file_range(status, NULL, out, NULL, 1, 0));
}

PROBE(send_file) {
    make_file("from", "0123456789");
    int in = MUST(open("from", O_RDWR)), out = MUST(open("to", O_RDWR | O_CREAT, 0644)), append = MUST(open("to", O_WRONLY | O_APPEND));
    int pipes[2], pair[2], folder = MUST(open(".", O_RDONLY)), null = MUST(open("/dev/null", O_RDWR));
    off_t at = 3;
    char buffer[64] = {0};
    MUST(pipe(pipes));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    SHOW(sendfile(out, in, &at, 4));
    SHOW(at);
    SHOW(lseek(out, 0, SEEK_CUR));
    SHOW(lseek(in, 0, SEEK_CUR));
    SHOW(sendfile(out, in, NULL, 100));
    SHOW(sendfile(out, in, NULL, 100));
    SHOW(sendfile(out, in, NULL, 0));
    at = -1;
    SHOW(sendfile(out, in, &at, 1));
    at = 1000;
    SHOW(sendfile(out, in, &at, 1));
    at = INT64_MAX;
    SHOW(sendfile(out, in, &at, 1));
    at = 0;
    SHOW(sendfile(out, in, unmapped, 1));
    SHOW(sendfile(-1, in, unmapped, 1));
    SHOW(sendfile(out, -1, &at, 1));
    SHOW(sendfile(append, in, &at, 1));
    SHOW(sendfile(out, folder, &at, 1));
    SHOW(sendfile(folder, in, &at, 1));
    SHOW(sendfile(pipes[1], in, &at, 5));
    SHOW(sendfile(pair[0], in, &at, 5));
    SHOW(sendfile(null, in, &(off_t){0}, 5));
    SHOW(sendfile(out, pipes[0], NULL, 5));
    SHOW(sendfile(out, pipes[0], &at, 5));
    SHOW(sendfile(out, pair[1], NULL, 5));
    SHOW(sendfile(out, pair[1], &at, 5));
    SHOW(sendfile(out, null, NULL, 5));
    SHOW(sendfile(out, MUST(open("/dev/zero", O_RDONLY)), NULL, 5));
    SHOW(sendfile(out, MUST(open("/proc/self/comm", O_RDONLY)), NULL, 5));
    SHOW(sendfile(pipes[1], pipes[0], NULL, 5));
    SHOW(sendfile(out, out, &(off_t){0}, 3));
    SHOW(sendfile(MUST(open("to", O_RDONLY)), in, NULL, 1));
    SHOW(sendfile(out, MUST(open("to", O_WRONLY)), NULL, 1));
    SHOW(sendfile(out, in, &at, -1));
    SHOW(read(pair[1], buffer, 64));
    say("%s", buffer);
    say_file("to");
    MUST(fcntl(pipes[1], F_SETFL, O_NONBLOCK));
    MUST(ftruncate(in, 1 << 20));
    SHOW(sendfile(pipes[1], in, &(off_t){0}, 1 << 20) > 0);
    SHOW(sendfile(pipes[1], in, &(off_t){0}, 1));
    // no more than there is room for, even if one could wait for it; and without a reader nothing is even read
    int q[2];
    MUST(pipe(q));
    SHOW(sendfile(q[1], in, &(off_t){0}, 1 << 20));
    MUST(pipe(q));
    close(q[0]);
    count_signal(SIGPIPE, 0);
    SHOW(sendfile(q[1], in, &(off_t){1 << 21}, 10));
    SHOW(sendfile(q[1], in, &(off_t){0}, 0));
    SHOW(handled);
}

PROBE(splice_errors) {
    make_file("from", "0123456789");
    int in = MUST(open("from", O_RDWR)), out = MUST(open("to", O_RDWR | O_CREAT, 0644)), append = MUST(open("to", O_WRONLY | O_APPEND));
    int p[2], q[2];
    loff_t at = 2;
    char buffer[64];
    MUST(pipe(p));
    MUST(pipe(q));
    SHOW(splice(in, &at, p[1], NULL, 4, 0));
    SHOW(at);
    SHOW(splice(in, NULL, p[1], NULL, 100, 0));
    SHOW(splice(in, NULL, p[1], NULL, 100, 0));
    at = 1;
    SHOW(splice(p[0], NULL, out, &at, 4, 0));
    SHOW(at);
    SHOW(splice(p[0], NULL, out, NULL, 3, 0));
    SHOW(splice(p[0], NULL, q[1], NULL, 3, 0));
    SHOW(read(q[0], buffer, 64));
    SHOW(splice(p[0], NULL, append, NULL, 1, 0));
    SHOW(splice(in, NULL, out, NULL, 1, 0));
    SHOW(splice(in, NULL, p[1], &at, 1, 0));
    SHOW(splice(p[0], &at, out, NULL, 1, 0));
    SHOW(splice(p[0], NULL, p[1], NULL, 1, 0));
    SHOW(splice(in, NULL, p[0], NULL, 1, 0));
    SHOW(splice(p[1], NULL, out, NULL, 1, 0));
    SHOW(splice(in, NULL, p[1], NULL, 1, 16));
    SHOW(splice(-1, NULL, p[1], NULL, 1, 16));
    SHOW(splice(-1, NULL, p[1], NULL, 0, 0));
    SHOW(splice(in, NULL, -1, NULL, 1, 0));
    SHOW(splice(in, unmapped, p[1], NULL, 1, 0));
    at = -1;
    SHOW(splice(in, &at, p[1], NULL, 1, 0));
    SHOW(read(p[0], buffer, 64));
    SHOW(splice(p[0], NULL, out, NULL, 1, SPLICE_F_NONBLOCK));
    SHOW(splice(p[0], NULL, q[1], NULL, 1, SPLICE_F_NONBLOCK));
    SHOW(tee(p[0], q[1], 1, SPLICE_F_NONBLOCK));
    SHOW(tee(p[0], p[1], 1, 0));
    SHOW(tee(in, q[1], 1, 0));
    SHOW(tee(p[1], q[1], 1, 0));
    SHOW(tee(p[0], q[1], 1, 32));
    MUST(write(p[1], "abc", 3));
    SHOW(tee(p[0], q[1], 10, 0));
    SHOW(tee(p[0], q[1], 2, 0));
    SHOW(tee(p[0], q[1], 0, 0));
    SHOW(read(q[0], buffer, 64));
    struct iovec iov[2] = {{"vm", 2}, {"splice", 6}};
    SHOW(vmsplice(q[1], iov, 2, 0));
    SHOW(vmsplice(q[1], iov, 0, 0));
    SHOW(vmsplice(q[1], iov, 1025, 0));
    SHOW(vmsplice(q[1], unmapped, 1, 0));
    SHOW(vmsplice(q[1], &(struct iovec){unmapped, 4}, 1, 0));
    SHOW(vmsplice(in, iov, 1, 0));
    SHOW(vmsplice(q[1], iov, 1, 64));
    SHOW(vmsplice(q[0], &(struct iovec){buffer, 64}, 1, 0));
    close(q[0]);
    count_signal(SIGPIPE, 0);
    SHOW(splice(p[0], NULL, q[1], NULL, 1, 0));
    SHOW(tee(p[0], q[1], 1, 0));
    SHOW(vmsplice(q[1], iov, 1, 0));
    SHOW(handled);
    close(p[1]);
    SHOW(splice(p[0], NULL, out, NULL, 10, 0));
    SHOW(splice(p[0], NULL, out, NULL, 10, 0));
    say_file("to");
}

PROBE(copy_large) {
    size_t size = 5 << 20;
    unsigned char *data = malloc(size), *back = malloc(size);
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 13);
    int in = MUST(open("from", O_RDWR | O_CREAT, 0644)), out = MUST(open("to", O_RDWR | O_CREAT, 0644));
    MUST(write(in, data, size));
    SHOW(copy_file_range(in, &(loff_t){0}, out, NULL, size, 0));
    SHOW(pread(out, back, size, 0));
    FACT(memcmp(data, back, size) == 0);
    MUST(ftruncate(out, 0));
    lseek(out, 0, SEEK_SET);
    SHOW(sendfile(out, in, &(off_t){0}, size));
    SHOW(pread(out, back, size, 0));
    FACT(memcmp(data, back, size) == 0);
}
