/* Open file descriptions, and the data calls on any kind of them. */
#include "objects.h"
#include "names.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

/* open(2) keeps neither of these with the description. */
#define CREATION_FLAGS (O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC)
#define STATUS_FLAGS (O_APPEND | O_ASYNC | O_DIRECT | O_NOATIME | O_NONBLOCK)

/* Who has it open for what: execve(2), open(2) and leases ask. */
static void count_opens(nc_file *file, int by) {
    if (file->uncounted) return;
    if (nc_writable(file))
        file->inode->writers += (uint32_t)by;
    else if (nc_readable(file))
        file->inode->readers += (uint32_t)by;
}

nc_file *nc_file_new(int kind, int flags, void *object) {
    nc_file *file = calloc(1, sizeof *file);
    if (!file) return NULL;
    file->kind = (uint16_t)kind;
    file->flags = flags & ~CREATION_FLAGS;
    file->id = nc_new_id();
    file->object = object;
    switch (kind) {
    case NC_REG:
        nc_inode_get(file->inode);
        count_opens(file, 1);
        break;
    case NC_EVENTFD: nc_eventfd_get(file->event); break;
    case NC_INET: nc_inet_get(file->inet); break;
    case NC_PIPE:
        nc_pipe_get(file->pipe);
        nc_pipe_attach(file);
        break;
    }
    return file;
}

/* The last close, as the guest sees it. */
static void release(nc_file *file) {
    if (file->released) return;
    file->released = 1;
    if (file->kind == NC_REG) count_opens(file, -1);
    if (file->kind == NC_PIPE) nc_pipe_detach(file);
}

int nc_file_free(nc_file *file) {
    nc_file_settle(file);
    nc_released_forget(file);
    release(file);
    switch (file->kind) {
    case NC_REG: nc_inode_put(file->inode); break;
    case NC_EVENTFD: nc_eventfd_put(file->event); break;
    case NC_INET: nc_inet_put(file->inet); break;
    case NC_PIPE: nc_pipe_put(file->pipe); break;
    }
    if (file->opener) nc_rights_put(file->opener);
    free(file);
    return 0;
}

int nc_file_get(nc_file *file) { return (int)++file->refs; }

int nc_file_put(nc_file *file) {
    if (--file->refs) return (int)file->refs;
    if (file->lazy) return nc_file_free(file);
    release(file);
    if (file->queued) return 0;
    /* Nobody minds when a regular file's release is told, but for one whose blocks are freed by it, those who watch, and
     * who hopes for its locks. */
    nc_released_push(file, file->kind == NC_REG && file->inode->nlink && !file->prompt && !nc_watched);
    return 0;
}

nc_inode *nc_file_inode(nc_file *file) {
    if (file->kind != NC_REG) return NULL;
    nc_inode_get(file->inode);
    return file->inode;
}

uint64_t nc_file_id(const nc_file *file) { return file->id; }
int nc_file_refs(const nc_file *file) { return (int)file->refs; }
int nc_file_flags(const nc_file *file) { return file->flags; }
int64_t nc_file_pos(const nc_file *file) { return file->pos; }

int nc_file_set_flags(nc_file *file, int flags) {
    file->flags = (file->flags & ~STATUS_FLAGS) | (flags & STATUS_FLAGS);
    if (file->kind == NC_PIPE && flags & O_ASYNC) file->pipe->signals = true;
    return 0;
}

int nc_file_set_noexec(nc_file *file, int on) {
    file->noexec = on;
    return 0;
}

int nc_file_uncount(nc_file *file) {
    if (file->kind != NC_REG || file->uncounted) return -EINVAL;
    count_opens(file, -1);
    file->uncounted = 1;
    return 0;
}

int nc_file_set_prompt(nc_file *file) {
    file->prompt = 1;
    return 0;
}

int nc_file_set_place(nc_file *file, struct nc_mount *mount, struct nc_name *name) {
    file->place = (struct nc_place){mount, name};
    return 0;
}

int nc_file_set_pos(nc_file *file, int64_t pos) {
    file->pos = pos;
    return 0;
}

/* Linux's order: the position, the access mode, then the kind's own checks. */
static int64_t check_offset(const nc_file *file, int64_t offset) {
    if (offset == NC_AT_POS) return 0;
    if (offset < 0) return -EINVAL;
    return file->kind == NC_REG ? 0 : -ESPIPE;
}

int64_t nc_read_iter(nc_file *file, struct nc_iter *to, int64_t offset, int rwf) {
    int64_t error = check_offset(file, offset);
    if (error) return error;
    if (!nc_readable(file)) return -EBADF;
    switch (file->kind) {
    case NC_REG: return nc_reg_read(file, to, offset, rwf);
    case NC_PIPE: return nc_pipe_read(file->pipe, to);
    case NC_EVENTFD: return nc_eventfd_read(file->event, to);
    }
    return -EINVAL;
}

int64_t nc_write_iter(nc_file *file, struct nc_iter *from, int64_t offset, int rwf) {
    int64_t error = check_offset(file, offset);
    if (error) return error;
    if (!nc_writable(file)) return -EBADF;
    switch (file->kind) {
    case NC_REG: return nc_reg_write(file, from, offset, rwf);
    case NC_PIPE: return nc_pipe_write(file->pipe, from, file->flags & O_DIRECT);
    case NC_EVENTFD: return nc_eventfd_write(file->event, from);
    }
    return -EINVAL;
}

int64_t nc_file_readv(nc_file *file, int tid, const struct nc_iov *iov, int n, int64_t offset, int rwf) {
    struct nc_iter it;
    int error = nc_iter_init(&it, tid, iov, n);
    return error ? error : nc_read_iter(file, &it, offset, rwf);
}

int64_t nc_file_writev(nc_file *file, int tid, const struct nc_iov *iov, int n, int64_t offset, int rwf) {
    struct nc_iter it;
    int error = nc_iter_init(&it, tid, iov, n);
    return error ? error : nc_write_iter(file, &it, offset, rwf);
}

int64_t nc_file_read(nc_file *file, int tid, uint64_t addr, uint64_t n, int64_t offset, int rwf) {
    struct nc_iov iov = {addr, n};
    return nc_file_readv(file, tid, &iov, 1, offset, rwf);
}

int64_t nc_file_write(nc_file *file, int tid, uint64_t addr, uint64_t n, int64_t offset, int rwf) {
    struct nc_iov iov = {addr, n};
    return nc_file_writev(file, tid, &iov, 1, offset, rwf);
}

int64_t nc_file_read_buf(nc_file *file, void *buf, uint64_t n, int64_t offset) {
    return nc_file_read(file, 0, (uintptr_t)buf, n, offset, 0);
}

int64_t nc_file_write_buf(nc_file *file, const void *buf, uint64_t n, int64_t offset) {
    return nc_file_write(file, 0, (uintptr_t)buf, n, offset, 0);
}

/* Beyond this the host file system's own limit may be reached: it is asked. */
#define SURELY_SEEKABLE (1ll << 43)

int64_t nc_file_seek(nc_file *file, int64_t offset, int whence) {
    if (file->flags & O_PATH) return -EBADF;
    if (whence < 0 || whence > SEEK_HOLE) return -EINVAL;
    if (file->kind == NC_EVENTFD) return 0; /* noop_llseek */
    if (file->kind != NC_REG) return -ESPIPE;
    int fd = nc_inode_fd(file->inode, 2);
    int64_t to = offset;
    if (whence == SEEK_DATA || whence == SEEK_HOLE) {
        to = lseek(fd, offset, whence); /* the host description's position is used by nobody */
        if (to < 0) return -errno;
    } else {
        int64_t base = 0;
        struct stat host;
        if (whence == SEEK_CUR) base = file->pos;
        if (whence == SEEK_END) {
            if (fstat(fd, &host)) return -errno;
            base = host.st_size;
        }
        if (__builtin_add_overflow(base, offset, &to) || to < 0) return -EINVAL;
        if (to > SURELY_SEEKABLE && lseek(fd, to, SEEK_SET) < 0) return -errno;
    }
    file->pos = to;
    return to;
}

uint32_t nc_file_poll(const nc_file *file) {
    switch (file->kind) {
    case NC_PIPE: return nc_pipe_poll(file);
    case NC_EVENTFD: return nc_eventfd_poll(file->event);
    case NC_INET: return nc_inet_poll(file->inet);
    }
    return EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM;
}
