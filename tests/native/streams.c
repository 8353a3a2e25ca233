/* Inet sockets' streams as nc_fast answers for them. */
#include "harness.h"

#include <sys/socket.h>

#define CALL(...) guest_call(task, __VA_ARGS__, 0ul, 0ul, 0ul, 0ul, 0ul, 0ul)
#define P(pointer) ((uint64_t)(uintptr_t)(pointer))
#define BAD_ADDRESS 0x1000ul

static nc_task *task;
static nc_fdt *fdt;

/* A stream of the host's at descriptor 0, as an inet socket's is kept; its other end is `peer`. */
static nc_file *make_stream(int flags, int *peer) {
    int ends[2];
    fdt = nc_fdt_new(64);
    task = nc_task_new((int)syscall(SYS_gettid), fdt);
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends));
    *peer = ends[1];
    nc_inet *inet = nc_inet_new(ends[0]);
    nc_file *file = nc_file_new(NC_INET, O_RDWR | flags, inet);
    nc_inet_put(inet);
    SAME(nc_fdt_install(fdt, file, 0, 0), 0);
    return file;
}

static void free_stream(nc_file *file, int peer) {
    close(peer);
    SAME(nc_inet_close(file->inet), 0);
    SAME(nc_inet_close(file->inet), -EBADF);
    nc_task_free(task->tid);
    nc_fdt_clear(fdt);
    nc_fdt_free(fdt);
    drain();
    nc_file_free(file);
}

static void test_stream_moves_bytes(void) {
    int peer;
    nc_file *file = make_stream(0, &peer);
    char buf[64] = {0};
    struct iovec parts[2] = {{"abc", 3}, {"def", 3}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    SAME(CALL(SYS_write, 0ul, P("hello"), 5ul), 5);
    SAME(CALL(SYS_writev, 0ul, P(parts), 2ul), 6);
    SAME(CALL(SYS_sendto, 0ul, P("!"), 1ul, (uint64_t)MSG_NOSIGNAL), 1);
    SAME(CALL(SYS_sendmsg, 0ul, P(&message)), 6);
    SAME(read(peer, buf, sizeof buf), 18);
    CHECK(!memcmp(buf, "helloabcdef!abcdef", 18));
    SAME(write(peer, "0123456789", 10), 10);
    SAME(CALL(SYS_read, 0ul, P(buf), 0ul), 0);
    SAME(CALL(SYS_read, 0ul, P(buf), 3ul), 3);
    SAME(CALL(SYS_recvfrom, 0ul, P(buf + 3), 3ul), 3);
    parts[0] = (struct iovec){buf + 6, 1};
    parts[1] = (struct iovec){buf + 7, 30};
    SAME(CALL(SYS_readv, 0ul, P(parts), 2ul), 4);
    CHECK(!memcmp(buf, "0123456789", 10));
    SAME(CALL(SYS_pread64, 0ul, P(buf), 3ul, 0ul), -ESPIPE);
    SAME(CALL(SYS_lseek, 0ul, 0ul, 0ul), -ESPIPE);
    SAME(CALL(SYS_fcntl, 0ul, (uint64_t)F_SETFL, (uint64_t)O_NONBLOCK), TO_PYTHON);
    close(peer);
    SAME(CALL(SYS_read, 0ul, P(buf), 3ul), 0);
    SAME(CALL(SYS_write, 0ul, P("x"), 1ul), TO_PYTHON); /* SIGPIPE */
    free_stream(file, dup(2));
}

static void test_stream_leaves_what_is_odd_to_python(void) {
    int peer;
    nc_file *file = make_stream(0, &peer);
    static char large[(1 << 18) + 1];
    char buf[8], *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sockaddr name;
    struct iovec part = {"abc", 3};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = buf, .msg_controllen = 1};
    munmap(page + 4096, 4096);
    SAME(write(peer, "0123456789", 10), 10);
    for (uint64_t flag = 1; flag < 1u << 31; flag *= 2) {
        if (flag & (MSG_DONTWAIT | MSG_NOSIGNAL)) continue;
        SAME(CALL(SYS_recvfrom, 0ul, P(buf), 1ul, flag), TO_PYTHON);
        if (!(flag & MSG_MORE)) SAME(CALL(SYS_sendto, 0ul, P("abc"), 3ul, flag), TO_PYTHON);
    }
    SAME(CALL(SYS_recvfrom, 0ul, P(buf), 1ul, 0ul, P(&name)), TO_PYTHON);
    SAME(CALL(SYS_sendto, 0ul, P(buf), 1ul, 0ul, P(&name)), TO_PYTHON);
    SAME(CALL(SYS_sendmsg, 0ul, P(&message)), TO_PYTHON);
    SAME(CALL(SYS_sendmsg, 0ul, BAD_ADDRESS), -EFAULT);
    SAME(CALL(SYS_recvfrom, 0ul, 1ul << 63, 1ul), TO_PYTHON);
    SAME(CALL(SYS_write, 0ul, P(page + 4090), 7ul), TO_PYTHON); /* nothing of it is sent */
    SAME(CALL(SYS_write, 0ul, P(large), sizeof large), TO_PYTHON);
    SAME(CALL(SYS_recvfrom, 1ul, P(buf), 1ul), TO_PYTHON); /* no file */
    nc_inet_set_slow(file->inet, 1);
    SAME(CALL(SYS_read, 0ul, P(buf), 1ul), TO_PYTHON);
    nc_inet_set_slow(file->inet, 0);
    SAME(CALL(SYS_read, 0ul, P(page + 4090), 8ul), 6);
    SAME(recv(peer, buf, 1, 0), -1);
    munmap(page, 4096);
    free_stream(file, peer);
}

static void test_stream_that_would_wait(void) {
    int peer;
    nc_file *file = make_stream(O_NONBLOCK, &peer);
    static char block[1 << 18], copy[1 << 18];
    char buf[8];
    for (size_t i = 0; i < sizeof block; i++) block[i] = (char)(i / 100);
    nc_inet_know(file->inet);
    SAME(nc_inet_fresh(file->inet, POLLOUT), 0);
    SAME(CALL(SYS_read, 0ul, P(buf), 1ul), -EAGAIN);
    int64_t put = CALL(SYS_write, 0ul, P(block), sizeof block);
    CHECK(put > 0 && put < (int64_t)sizeof block);
    SAME(nc_task_sent(task->tid), 0);
    SAME(CALL(SYS_write, 0ul, P(block), 4096ul), -EAGAIN);
    SAME(nc_inet_fresh(file->inet, POLLOUT), POLLOUT); /* after an EAGAIN it is news */
    SAME(nc_inet_fresh(file->inet, POLLIN | POLLOUT), POLLIN);
    SAME(nc_inet_fresh(file->inet, POLLIN | POLLOUT), POLLIN); /* which input always is */
    SAME(recv(peer, copy, sizeof copy, MSG_WAITALL | MSG_DONTWAIT), put);
    SAME(memcmp(block, copy, (size_t)put), 0);
    nc_file_set_flags(file, 0);
    SAME(CALL(SYS_read, 0ul, P(buf), 1ul), TO_PYTHON);
    SAME(CALL(SYS_recvfrom, 0ul, P(buf), 1ul, (uint64_t)MSG_DONTWAIT), -EAGAIN);
    SAME(CALL(SYS_write, 0ul, P(block), sizeof block), TO_PYTHON);
    put = nc_task_sent(task->tid);
    CHECK(put > 0 && put < (int64_t)sizeof block); /* the rest is Python's */
    SAME(nc_task_sent(task->tid), 0);
    SAME(CALL(SYS_write, 0ul, P(block), 4096ul), TO_PYTHON);
    SAME(nc_task_sent(task->tid), 0);
    SAME(CALL(SYS_sendto, 0ul, P(block), 4096ul, (uint64_t)MSG_DONTWAIT), -EAGAIN);
    struct pollfd set = {0, POLLIN | POLLOUT, 0};
    SAME(CALL(SYS_poll, P(&set), 1ul, 0ul), 0);
    SAME(CALL(SYS_poll, P(&set), 1ul, 1ul), TO_PYTHON);
    SAME(recv(peer, copy, sizeof copy, MSG_DONTWAIT), put);
    SAME(write(peer, "x", 1), 1);
    SAME(CALL(SYS_poll, P(&set), 1ul, 1ul), 1);
    SAME(set.revents, POLLIN | POLLOUT);
    free_stream(file, peer);
}

int main(void) {
    test_stream_moves_bytes();
    test_stream_leaves_what_is_odd_to_python();
    test_stream_that_would_wait();
    puts("ok");
    return 0;
}
