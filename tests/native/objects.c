/* Pipes, eventfds, descriptor tables and regular files as nc_fast answers for them. */
#include "harness.h"

#include <linux/fs.h>

#define CALL(...) guest_call(task, __VA_ARGS__, 0ul, 0ul, 0ul, 0ul, 0ul, 0ul)
#define P(pointer) ((uint64_t)(uintptr_t)(pointer))
#define BAD_ADDRESS 0x1000ul

static nc_task *task;
static nc_fdt *fdt;

static void begin(int limit) {
    fdt = nc_fdt_new(limit);
    task = nc_task_new((int)syscall(SYS_gettid), fdt);
}

static void end(void) {
    nc_task_free(task->tid);
    nc_fdt_clear(fdt);
    nc_fdt_free(fdt);
    drain();
}

static void make_pipe(int flags, nc_file *files[2]) {
    nc_pipe *pipe = nc_pipe_new();
    files[0] = nc_file_new(NC_PIPE, O_RDONLY | flags, pipe);
    files[1] = nc_file_new(NC_PIPE, O_WRONLY | flags, pipe);
    nc_pipe_put(pipe);
    SAME(nc_fdt_install(fdt, files[0], 0, 0), 0);
    SAME(nc_fdt_install(fdt, files[1], 0, 0), 1);
}

static void free_files(nc_file *files[2]) {
    nc_file_free(files[0]);
    nc_file_free(files[1]);
}

static void test_pipe_moves_bytes_and_ends(void) {
    begin(64);
    nc_file *files[2];
    make_pipe(0, files);
    char buf[64] = {0};
    SAME(CALL(SYS_read, 0ul, P(buf), 4ul), TO_PYTHON); /* would wait */
    SAME(CALL(SYS_write, 1ul, P("hello"), 5ul), 5);
    SAME(CALL(SYS_read, 0ul, P(buf), 3ul), 3);
    CHECK(!memcmp(buf, "hel", 3));
    SAME(CALL(SYS_read, 1ul, P(buf), 3ul), -EBADF);
    SAME(CALL(SYS_write, 0ul, P(buf), 3ul), -EBADF);
    SAME(CALL(SYS_read, 0ul, BAD_ADDRESS, 3ul), -EFAULT);
    SAME(CALL(SYS_pread64, 0ul, P(buf), 3ul, 0ul), -ESPIPE);
    SAME(CALL(SYS_lseek, 0ul, 0ul, 0ul), -ESPIPE);
    SAME(CALL(SYS_close, 1ul), 0);
    SAME(CALL(SYS_read, 0ul, P(buf), 9ul), 2); /* the fault took nothing */
    CHECK(!memcmp(buf, "lo", 2));
    SAME(CALL(SYS_read, 0ul, P(buf), 9ul), 0);
    SAME(nc_file_poll(files[0]), POLLHUP);
    end();
    free_files(files);
}

static void test_pipe_without_reader_is_for_python(void) {
    begin(64);
    nc_file *files[2];
    make_pipe(O_NONBLOCK, files);
    SAME(CALL(SYS_close, 0ul), 0);
    SAME(CALL(SYS_write, 1ul, P("x"), 1ul), TO_PYTHON); /* SIGPIPE */
    SAME(nc_file_write_buf(files[1], "x", 1, NC_AT_POS), -EPIPE);
    SAME(nc_file_poll(files[1]), POLLOUT | POLLWRNORM | POLLERR);
    end();
    free_files(files);
}

static void test_pipe_capacity_and_atomic_writes(void) {
    begin(64);
    nc_file *files[2];
    make_pipe(O_NONBLOCK, files);
    static char big[100000], out[100000];
    for (size_t i = 0; i < sizeof big; i++) big[i] = (char)(i * 31 >> 3);
    SAME(CALL(SYS_write, 1ul, P(big), (unsigned long)sizeof big), 65536);
    SAME(CALL(SYS_write, 1ul, P(big), 1ul), -EAGAIN);
    SAME(nc_file_poll(files[1]), 0);
    SAME(CALL(SYS_read, 0ul, P(out), 100ul), 100);
    SAME(CALL(SYS_write, 1ul, P(big), 1ul), -EAGAIN); /* no page is free */
    SAME(CALL(SYS_read, 0ul, P(out + 100), 3996ul), 3996);
    SAME(CALL(SYS_write, 1ul, P(big), 5000ul), 4096); /* longer than PIPE_BUF: not atomic */
    SAME(CALL(SYS_read, 0ul, P(out + 4096), (unsigned long)sizeof out - 4096), 65536);
    CHECK(!memcmp(out, big, 65536));
    CHECK(!memcmp(out + 65536, big, 4096));
    SAME(nc_pipe_resize(files[0]->pipe, 5000), 8192);
    SAME(CALL(SYS_write, 1ul, P(big), (unsigned long)sizeof big), 8192);
    SAME(nc_pipe_resize(files[0]->pipe, 100), -EBUSY);
    SAME(CALL(SYS_read, 0ul, P(out), 8000ul), 8000);
    SAME(CALL(SYS_write, 1ul, P(big), 3000ul), 3000);
    SAME(nc_pipe_resize(files[0]->pipe, 65536), 65536); /* with the ring wrapped */
    SAME(CALL(SYS_read, 0ul, P(out), (unsigned long)sizeof out), 3192);
    CHECK(!memcmp(out, big + 8000, 192) && !memcmp(out + 192, big, 3000));
    end();
    free_files(files);
}

static void test_pipe_pages_are_filled_up(void) {
    begin(64);
    nc_file *files[2];
    make_pipe(O_NONBLOCK, files);
    static char big[8192], out[8192];
    for (size_t i = 0; i < sizeof big; i++) big[i] = (char)(i * 7 >> 2);
    for (int i = 0; i < 40; i++) SAME(CALL(SYS_write, 1ul, P(big + i * 100), 100ul), 100);
    SAME(nc_pipe_room(files[1]->pipe), 15 * 4096);
    SAME(CALL(SYS_write, 1ul, P(big + 4000), 4192ul), 4192); /* 96 of it fill the first page */
    SAME(nc_pipe_room(files[1]->pipe), 14 * 4096);
    SAME(CALL(SYS_write, 1ul, P(big), 4000ul), 4000);
    SAME(CALL(SYS_write, 1ul, P(big), 97ul), 97); /* more than the page has left */
    SAME(nc_pipe_room(files[1]->pipe), 12 * 4096);
    SAME(CALL(SYS_read, 0ul, P(out), 8192ul), 8192);
    CHECK(!memcmp(out, big, 8192));
    SAME(CALL(SYS_read, 0ul, P(out), 8192ul), 4097);
    CHECK(!memcmp(out, big, 4000) && !memcmp(out + 4000, big, 97));
    end();
    free_files(files);
}

static void test_pipe_packets(void) {
    begin(64);
    nc_file *files[2];
    make_pipe(O_NONBLOCK | O_DIRECT, files);
    char out[8192];
    static char big[5000];
    SAME(CALL(SYS_write, 1ul, P("abc"), 3ul), 3);
    SAME(CALL(SYS_write, 1ul, P("defg"), 4ul), 4);
    SAME(CALL(SYS_write, 1ul, P(big), 5000ul), 5000); /* two packets */
    SAME(CALL(SYS_read, 0ul, P(out), 2ul), 2);        /* the rest of the packet is lost */
    SAME(CALL(SYS_read, 0ul, P(out), 100ul), 4);
    CHECK(!memcmp(out, "defg", 4));
    SAME(CALL(SYS_read, 0ul, P(out), 8192ul), 4096);
    SAME(CALL(SYS_read, 0ul, P(out), 8192ul), 904);
    SAME(CALL(SYS_read, 0ul, P(out), 8192ul), -EAGAIN);
    for (int i = 0; i < 16; i++) SAME(CALL(SYS_write, 1ul, P("x"), 1ul), 1);
    SAME(CALL(SYS_write, 1ul, P("x"), 1ul), -EAGAIN); /* a page each, on Linux */
    nc_file_set_flags(files[1], O_NONBLOCK);
    SAME(CALL(SYS_write, 1ul, P("x"), 1ul), -EAGAIN);
    SAME(CALL(SYS_read, 0ul, P(out), 100ul), 1);
    SAME(CALL(SYS_write, 1ul, P("stream"), 6ul), 6);
    for (int i = 0; i < 15; i++) SAME(CALL(SYS_read, 0ul, P(out), 100ul), 1);
    SAME(CALL(SYS_read, 0ul, P(out), 3ul), 3);
    SAME(CALL(SYS_read, 0ul, P(out), 100ul), 3);
    end();
    free_files(files);
}

static void test_pipe_splice_parts(void) {
    begin(64);
    nc_file *files[2];
    make_pipe(O_NONBLOCK, files);
    nc_pipe *other = nc_pipe_new();
    nc_file *reader = nc_file_new(NC_PIPE, O_RDONLY, other), *writer = nc_file_new(NC_PIPE, O_WRONLY, other);
    char buf[16];
    SAME(nc_pipe_tee(files[0]->pipe, other, 10), -EAGAIN);
    SAME(CALL(SYS_write, 1ul, P("abcdef"), 6ul), 6);
    SAME(nc_pipe_tee(files[0]->pipe, other, 4), 4);
    SAME(nc_pipe_peek(files[0]->pipe, buf, 3), 3);
    SAME(nc_pipe_discard(files[0]->pipe, 2), 2);
    SAME(nc_file_read_buf(files[0], buf, 16, NC_AT_POS), 4);
    CHECK(!memcmp(buf, "cdef", 4));
    SAME(nc_file_read_buf(reader, buf, 16, NC_AT_POS), 4);
    CHECK(!memcmp(buf, "abcd", 4));
    end();
    free_files(files);
    nc_file_free(reader);
    nc_file_free(writer);
    nc_pipe_put(other);
}

static void test_watched_pipe_reports(void) {
    begin(64);
    nc_file *files[2];
    make_pipe(0, files);
    struct nc_ready ready[4];
    uint64_t ids[4];
    char c;
    CALL(SYS_write, 1ul, P("x"), 1ul);
    SAME(nc_ready_pending, 0);
    nc_pipe_watch(files[0]->pipe, 1);
    CALL(SYS_write, 1ul, P("x"), 1ul);
    CALL(SYS_read, 0ul, P(&c), 1ul);
    CHECK(nc_ready_pending);
    SAME(nc_ready_take(ready, 4), 1);
    SAME(ready[0].id, nc_pipe_id(files[0]->pipe));
    SAME(ready[0].mask, POLLIN | POLLRDNORM); /* nobody had to wait for room */
    SAME(nc_ready_pending, 0);
    static char big[65536];
    SAME(CALL(SYS_write, 1ul, P(big), 15 * 4096ul), 15 * 4096);
    SAME(nc_ready_take(ready, 4), 1);
    CALL(SYS_read, 0ul, P(big), 1ul);
    SAME(nc_ready_take(ready, 4), 1);
    SAME(ready[0].mask, POLLOUT | POLLWRNORM);
    CALL(SYS_read, 0ul, P(big), 1ul);
    SAME(nc_ready_take(ready, 4), 0);
    nc_file_set_flags(files[1], O_ASYNC);
    CALL(SYS_read, 0ul, P(big), 1ul);
    SAME(nc_ready_take(ready, 4), 1);
    SAME(ready[0].mask, NC_TAKEN); /* SIGIO to the writer */
    SAME(CALL(SYS_close, 1ul), 0);
    CHECK(nc_ready_pending);
    SAME(nc_released_take(ids, 4), 1);
    SAME(ids[0], nc_file_id(files[1]));
    nc_file_free(files[1]);
    nc_fdt_clear(fdt);
    nc_released_take(ids, 4);
    nc_file_free(files[0]); /* while still on the ready queue */
    SAME(nc_ready_take(ready, 4), 0);
    end();
}

static void test_eventfd(void) {
    begin(64);
    nc_eventfd *event = nc_eventfd_new(3, 0);
    nc_file *file = nc_file_new(NC_EVENTFD, O_RDWR, event);
    SAME(nc_fdt_install(fdt, file, 1, 0), 0);
    uint64_t value = 0;
    SAME(CALL(SYS_read, 0ul, P(&value), 7ul), -EINVAL);
    SAME(CALL(SYS_read, 0ul, BAD_ADDRESS, 8ul), -EFAULT);
    SAME(CALL(SYS_read, 0ul, P(&value), 8ul), 8);
    SAME(value, 3);
    SAME(CALL(SYS_read, 0ul, P(&value), 8ul), TO_PYTHON);
    value = UINT64_MAX;
    SAME(CALL(SYS_write, 0ul, P(&value), 8ul), -EINVAL);
    value = UINT64_MAX - 1;
    SAME(CALL(SYS_write, 0ul, P(&value), 8ul), 8);
    SAME(nc_file_poll(file), POLLIN);
    value = 1;
    SAME(CALL(SYS_write, 0ul, P(&value), 8ul), TO_PYTHON);
    SAME(CALL(SYS_lseek, 0ul, 5ul, 0ul), 0);
    event->semaphore = 1;
    SAME(CALL(SYS_read, 0ul, P(&value), 8ul), 8);
    SAME(value, 1);
    SAME(nc_eventfd_count(event), UINT64_MAX - 2);
    end();
    nc_file_free(file);
    nc_eventfd_put(event);
}

static void test_descriptor_table(void) {
    begin(8);
    nc_file *file = nc_file_new(NC_PY, O_RDWR, NULL);
    SAME(CALL(SYS_close, 0ul), -EBADF);
    SAME(CALL(SYS_close, ~0ul), -EBADF);
    for (int i = 0; i < 8; i++) SAME(nc_fdt_install(fdt, file, 0, 0), i);
    SAME(CALL(SYS_dup, 0ul), -EMFILE);
    SAME(CALL(SYS_close, 3ul), 0);
    SAME(CALL(SYS_close, 5ul), 0);
    SAME(CALL(SYS_fcntl, 0ul, (uint64_t)F_DUPFD, 4ul), 5);
    SAME(CALL(SYS_dup, 0ul), 3);
    SAME(CALL(SYS_fcntl, 0ul, (uint64_t)F_DUPFD, 8ul), -EINVAL);
    SAME(CALL(SYS_dup2, 0ul, 8ul), -EBADF);
    SAME(CALL(SYS_dup2, 0ul, 0ul), 0);
    SAME(CALL(SYS_dup2, 0ul, ~0ul), -EBADF);
    SAME(CALL(SYS_dup3, 0ul, 0ul, 0ul), -EINVAL);
    SAME(CALL(SYS_dup3, 0ul, 7ul, (uint64_t)O_CLOEXEC), 7);
    SAME(CALL(SYS_fcntl, 7ul, (uint64_t)F_GETFD), 1);
    SAME(nc_file_refs(file), 8);
    nc_fdt *child = nc_fdt_fork(fdt);
    SAME(nc_file_refs(file), 16);
    nc_fdt_exec(child);
    SAME(nc_fdt_count(child), 7);
    nc_fdt_free(child);
    SAME(nc_file_refs(file), 8);
    SAME(nc_ready_pending, 0);
    nc_fdt_clear(fdt);
    CHECK(nc_ready_pending);
    end();
    nc_file_free(file);
}

static void test_o_path_is_no_file(void) {
    begin(8);
    nc_inode *inode = nc_inode_new(-1, -1, 0);
    nc_file *file = nc_file_new(NC_REG, O_PATH, inode);
    char c;
    nc_fdt_install(fdt, file, 0, 0);
    SAME(nc_fdt_lookup(fdt, 0, 0), -EBADF);
    SAME(CALL(SYS_read, 0ul, P(&c), 1ul), -EBADF);
    SAME(CALL(SYS_write, 0ul, P(&c), 1ul), -EBADF);
    SAME(CALL(SYS_mmap, 0ul, 4096ul, 1ul, 2ul, 0ul, 0ul), -EBADF);
    SAME(CALL(SYS_fcntl, 0ul, (uint64_t)F_SETFL, 0ul), -EBADF);
    struct pollfd set = {0, POLLIN, 0};
    SAME(CALL(SYS_poll, P(&set), 1ul, 0ul), 1);
    SAME(set.revents, POLLNVAL);
    end();
    nc_file_free(file);
    nc_inode_put(inode);
}

static nc_file *regular(int flags, nc_inode **out) {
    int rw = memfd_create("data", 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", rw);
    *out = nc_inode_new(open(path, O_RDONLY), rw, 1);
    nc_file *file = nc_file_new(NC_REG, flags, *out);
    nc_fdt_install(fdt, file, 0, 0);
    return file;
}

static void test_mmap_injects_and_close_reaches_the_host(void) {
    begin(16);
    nc_inode *inode;
    nc_file *file = regular(O_RDONLY, &inode);
    SAME(CALL(SYS_mmap, 0ul, 4096ul, (uint64_t)(PROT_READ | PROT_WRITE), (uint64_t)MAP_SHARED, 0ul), -EACCES);
    fdt->stub_fd = 0;
    SAME(CALL(SYS_mmap, 0ul, 4096ul, (uint64_t)PROT_READ, (uint64_t)MAP_SHARED, 0ul), TO_HOST);
    SAME(injected.host_fd, inode->host_ro); /* never the writable one: mprotect(2) is native */
    SAME(injected.guest_fd, 0);
    SAME(injected.cloexec, 1);
    SAME(injected.count, 2); /* the stub first */
    SAME(fdt->stub_fd, 1);
    SAME(CALL(SYS_dup2, 0ul, 5ul), 5);
    SAME(CALL(SYS_close, 5ul), 0);
    SAME(CALL(SYS_close, 0ul), TO_HOST);
    nc_file *other = nc_file_new(NC_REG, O_WRONLY, inode);
    nc_fdt_install(fdt, other, 0, 0);
    SAME(CALL(SYS_mmap, 0ul, 4096ul, (uint64_t)PROT_READ, (uint64_t)MAP_PRIVATE, 0ul), -EACCES);
    SAME(CALL(SYS_mmap, 0ul, 4096ul, (uint64_t)PROT_READ, 0ul, 0ul), -EINVAL);
    SAME(CALL(SYS_close, 0ul), 0);
    end();
    nc_file_free(file);
    nc_file_free(other);
    nc_inode_put(inode);
}

static void test_birth(void) {
    const uint64_t library_thread = 0x3d0f00; /* pthread_create(3) */
    begin(16);
    SAME(CALL(SYS_fork, 0ul), TO_HOST);
    SAME(CALL(SYS_vfork, 0ul), TO_HOST);
    SAME(CALL(SYS_clone, (uint64_t)SIGCHLD), TO_HOST);
    SAME(CALL(SYS_clone, (uint64_t)(CLONE_VM | CLONE_VFORK)), TO_HOST);
    SAME(CALL(SYS_clone, (uint64_t)SIGUSR1), TO_PYTHON); /* nobody would hear of it */
    SAME(CALL(SYS_clone, (uint64_t)(CLONE_NEWUSER | SIGCHLD)), TO_PYTHON);
    SAME(CALL(SYS_clone, (uint64_t)(CLONE_UNTRACED | SIGCHLD)), TO_PYTHON);
    SAME(CALL(SYS_clone, library_thread & ~(uint64_t)CLONE_FILES), TO_PYTHON);
    SAME(fdt->crowded, 0);
    SAME(CALL(SYS_clone, library_thread), TO_HOST);
    SAME(fdt->crowded, 1);
    nc_fdt_exec(fdt);
    SAME(fdt->crowded, 0);
    nc_task_set_mixed(task->tid, 1);
    SAME(CALL(SYS_clone, library_thread), TO_PYTHON);
    end();
}

static void test_a_crowd_takes_injected_descriptors_back_at_once(void) {
    begin(16);
    nc_inode *inode;
    nc_file *file = regular(O_RDONLY, &inode);
    SAME(CALL(SYS_mmap, 0ul, 4096ul, (uint64_t)PROT_READ, (uint64_t)MAP_PRIVATE, 0ul), TO_HOST);
    nc_fdt_crowd(fdt);
    int before = (int)injected.count;
    SAME(CALL(SYS_close, 0ul), 0);
    SAME(injected.count, before + 1);
    SAME(injected.host_fd, nc_stub_memfd);
    end();
    nc_file_free(file);
    nc_inode_put(inode);
}

static void test_setuid_file_and_limits_are_for_python(void) {
    begin(16);
    nc_inode *inode;
    nc_file *file = regular(O_RDWR, &inode);
    SAME(CALL(SYS_write, 0ul, P("x"), 1ul), 1);
    nc_inode_set_attrs(inode, 1, 2, S_IFREG | 04755, 0, 0, 1, 0, 3, 0, NULL);
    SAME(CALL(SYS_write, 0ul, P("x"), 1ul), TO_PYTHON);
    nc_inode_set_attrs(inode, 1, 2, S_IFREG | 0755, 10, 20, 1, 0, 3, 0, NULL);
    nc_fdt_set_fsize(fdt, 1);
    SAME(CALL(SYS_write, 0ul, P("x"), 1ul), TO_PYTHON);
    nc_fdt_set_locks(fdt, 1);
    SAME(CALL(SYS_close, 0ul), TO_PYTHON);
    struct stat stat;
    SAME(CALL(SYS_fstat, 0ul, P(&stat)), 0);
    SAME(stat.st_ino, 2);
    SAME(stat.st_uid, 10);
    SAME(stat.st_size, 1);
    SAME(stat.st_nlink, 1);
    nc_inode_set_attrs(inode, 1, 2, S_IFREG | 0755, 10, 20, 1, 0, 0, 0, NULL);
    SAME(CALL(SYS_fstat, 0ul, P(&stat)), TO_PYTHON);
    end();
    nc_file_free(file);
    nc_inode_put(inode);
}

static void test_copies_between_files(void) {
    begin(16);
    nc_inode *from, *to;
    nc_file *source = regular(O_RDWR, &from), *target = regular(O_RDWR, &to);
    static char data[200000], back[200000];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (char)(i * 7 + i / 251);
    SAME(CALL(SYS_pwrite64, 0ul, P(data), sizeof data, 0ul), sizeof data);
    int64_t at = 1000;
    SAME(CALL(SYS_copy_file_range, 0ul, P(&at), 1ul, 0ul, 1ul << 40, 0ul), sizeof data - 1000);
    SAME(at, sizeof data);
    SAME(nc_file_pos(source), 0);
    SAME(nc_file_pos(target), sizeof data - 1000);
    SAME(CALL(SYS_pread64, 1ul, P(back), sizeof back, 0ul), sizeof data - 1000);
    CHECK(!memcmp(back, data + 1000, sizeof data - 1000));
    SAME(CALL(SYS_copy_file_range, 0ul, P(&at), 1ul, 0ul, 10ul, 0ul), 0);
    SAME(CALL(SYS_copy_file_range, 0ul, 0ul, 1ul, 0ul, 0ul, 0ul), 0);
    SAME(CALL(SYS_copy_file_range, 0ul, 0ul, 0ul, 0ul, 10ul, 0ul), TO_PYTHON); /* one file */
    SAME(CALL(SYS_copy_file_range, 0ul, BAD_ADDRESS, 1ul, 0ul, 10ul, 0ul), TO_PYTHON);
    SAME(CALL(SYS_copy_file_range, 0ul, 0ul, 1ul, 0ul, 10ul, 1ul), TO_PYTHON);
    nc_inode_set_grant(to, 5);
    SAME(CALL(SYS_copy_file_range, 0ul, 0ul, 1ul, 0ul, 10ul, 0ul), TO_PYTHON);
    nc_inode_set_grant(to, UINT64_MAX);
    nc_fdt_set_fsize(fdt, 1);
    SAME(CALL(SYS_copy_file_range, 0ul, 0ul, 1ul, 0ul, 10ul, 0ul), TO_PYTHON);
    nc_fdt_set_fsize(fdt, 0);
    SAME(CALL(SYS_ioctl, 1ul, (uint64_t)FICLONE, 0ul), -EOPNOTSUPP);
    SAME(CALL(SYS_ioctl, 1ul, (uint64_t)FICLONE, 9ul), -EBADF);
    nc_inode_set_attrs(to, 77, 2, S_IFREG, 0, 0, 1, 0, 3, 0, NULL);
    SAME(CALL(SYS_ioctl, 1ul, (uint64_t)FICLONE, 0ul), TO_PYTHON);
    SAME(CALL(SYS_fadvise64, 0ul, 0ul, 0ul, (uint64_t)POSIX_FADV_NOREUSE), 0);
    SAME(CALL(SYS_fadvise64, 0ul, 0ul, 0ul, 6ul), TO_PYTHON);
    end();
    nc_file_free(source);
    nc_file_free(target);
    nc_inode_put(from);
    nc_inode_put(to);
}

static void test_writers_are_counted_while_they_are_open(void) {
    begin(16);
    nc_inode *inode;
    nc_file *file = regular(O_RDWR, &inode);
    SAME(nc_inode_writers(inode), 1);
    SAME(nc_inode_readers(inode), 0);
    SAME(CALL(SYS_dup, 0ul), 1);
    SAME(CALL(SYS_close, 0ul), 0);
    SAME(nc_inode_writers(inode), 1);
    SAME(CALL(SYS_close, 1ul), 0);
    SAME(nc_inode_writers(inode), 0);
    end();
    nc_file_free(file);
    nc_inode_put(inode);
}

static void test_a_file_with_capabilities_is_written_by_python(void) {
    begin(16);
    nc_inode *inode;
    nc_file *file = regular(O_RDWR, &inode);
    nc_inode_set_caps(inode, 1);
    SAME(CALL(SYS_write, 0ul, P("x"), 1ul), TO_PYTHON);
    nc_inode_set_caps(inode, 0);
    SAME(CALL(SYS_write, 0ul, P("x"), 1ul), 1);
    end();
    nc_file_free(file);
    nc_inode_put(inode);
}

/* Buffers of which only a part is there: what Linux moves before the fault counts. */
static void test_partial_faults(void) {
    begin(16);
    nc_inode *inode;
    nc_file *file = regular(O_RDWR, &inode);
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages + 4096, 4096, PROT_NONE);
    memset(pages, 'a', 4096);
    SAME(CALL(SYS_write, 0ul, P(pages + 4000), 200ul), 96);
    SAME(nc_file_pos(file), 96);
    SAME(CALL(SYS_write, 0ul, P(pages + 4096), 200ul), -EFAULT);
    SAME(CALL(SYS_pread64, 0ul, P(pages + 4090), 50ul, 0ul), 6);
    struct iovec iov[2] = {{pages, 10}, {pages + 4096, 10}};
    SAME(CALL(SYS_preadv, 0ul, P(iov), 2ul, 0ul), 10);
    SAME(CALL(SYS_writev, 0ul, P(pages + 4090), 1ul), -EFAULT);
    SAME(CALL(SYS_read, 0ul, UINT64_MAX - 10, 100ul), -EFAULT);
    munmap(pages, 8192);
    end();
    nc_file_free(file);
    nc_inode_put(inode);
}

static void test_beyond_two_gigabytes(void) {
    begin(16);
    nc_inode *inode;
    nc_file *file = regular(O_RDWR, &inode);
    char c = 'z', back = 0;
    uint64_t far = 5ul << 30;
    SAME(CALL(SYS_pwrite64, 0ul, P(&c), 1ul, far), 1);
    SAME(CALL(SYS_lseek, 0ul, 0ul, (uint64_t)SEEK_END), far + 1);
    SAME(CALL(SYS_lseek, 0ul, 0ul, (uint64_t)SEEK_DATA), far);
    SAME(CALL(SYS_read, 0ul, P(&back), 1ul), 1);
    SAME(back, 'z');
    SAME(CALL(SYS_lseek, 0ul, (uint64_t)INT64_MAX, (uint64_t)SEEK_END), -EINVAL);
    SAME(CALL(SYS_pread64, 0ul, P(&back), 1ul, (uint64_t)-1), -EINVAL);
    SAME(CALL(SYS_pread64, 0ul, P(&back), UINT64_MAX, 0ul), -EFAULT);
    end();
    nc_file_free(file);
    nc_inode_put(inode);
}

static void test_poll(void) {
    begin(16);
    nc_file *files[2];
    make_pipe(0, files);
    struct pollfd set[4] = {{0, POLLIN, 9}, {1, POLLOUT, 9}, {-1, POLLIN, 9}, {7, POLLIN, 9}};
    SAME(CALL(SYS_poll, P(set), 1ul, (uint64_t)-1), TO_PYTHON);
    SAME(CALL(SYS_poll, P(set), 1ul, 0ul), 0);
    SAME(set[0].revents, 0);
    SAME(CALL(SYS_poll, P(set), 4ul, (uint64_t)-1), 2);
    SAME(set[1].revents, POLLOUT);
    SAME(set[2].revents, 0);
    SAME(set[3].revents, POLLNVAL);
    SAME(CALL(SYS_poll, P(set), 17ul, 0ul), -EINVAL);
    SAME(CALL(SYS_poll, BAD_ADDRESS, 1ul, 0ul), -EFAULT);
    struct timespec bad = {-1, 0}, zero = {0, 0};
    SAME(CALL(SYS_ppoll, P(set), 1ul, P(&bad), 0ul), -EINVAL);
    SAME(CALL(SYS_ppoll, P(set), 1ul, P(&zero), 0ul), 0);
    SAME(CALL(SYS_ppoll, P(set), 1ul, P(&zero), P(&zero)), TO_PYTHON);
    end();
    free_files(files);
}

static void test_lazy_release_of_regular_files(void) {
    begin(1024);
    nc_inode *inode = nc_inode_new(-1, -1, 0);
    inode->nlink = 1;
    nc_file *files[100];
    for (int i = 0; i < 100; i++) {
        files[i] = nc_file_new(NC_REG, O_RDONLY, inode);
        nc_fdt_install(fdt, files[i], 0, 0);
        SAME(CALL(SYS_close, 0ul), 0);
        SAME(nc_ready_pending, i >= 63);
    }
    uint64_t ids[200];
    SAME(nc_released_take(ids, 200), 100);
    inode->nlink = 0; /* a deleted one is told at once */
    nc_fdt_install(fdt, files[0], 0, 0);
    files[0]->released = 0;
    SAME(CALL(SYS_close, 0ul), 0);
    CHECK(nc_ready_pending);
    end();
    for (int i = 0; i < 100; i++) nc_file_free(files[i]);
    nc_inode_put(inode);
}

int main(void) {
    test_pipe_moves_bytes_and_ends();
    test_pipe_without_reader_is_for_python();
    test_pipe_capacity_and_atomic_writes();
    test_pipe_pages_are_filled_up();
    test_pipe_packets();
    test_pipe_splice_parts();
    test_watched_pipe_reports();
    test_eventfd();
    test_descriptor_table();
    test_o_path_is_no_file();
    test_mmap_injects_and_close_reaches_the_host();
    test_birth();
    test_a_crowd_takes_injected_descriptors_back_at_once();
    test_setuid_file_and_limits_are_for_python();
    test_copies_between_files();
    test_writers_are_counted_while_they_are_open();
    test_a_file_with_capabilities_is_written_by_python();
    test_partial_faults();
    test_beyond_two_gigabytes();
    test_poll();
    test_lazy_release_of_regular_files();
    puts("ok");
    return 0;
}
