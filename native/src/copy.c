/* From one regular file to another: copy_file_range(2), and FICLONE, which no file system here can do. */
#include <unistd.h>

#include "call.h"

#define FIRST (1u << 16)  /* bytes that are copied by hand: most files end there */
#define AT_ONCE (1 << 26) /* bytes in one call: a longer copy is a partial one, and others get their turn */

/* One side of a copy: at an offset in guest memory, or at the file's position. */
struct end {
    nc_file *file;
    uint64_t pointer;
    int64_t at;
};

static int64_t begin(const struct call *call, struct end *end, int fd, uint64_t pointer) {
    nc_file *file = file_at(call, fd);
    if (!file || file->kind != NC_REG || (file->flags & O_PATH)) return PYTHON;
    *end = (struct end){file, pointer, file->pos};
    if (pointer && nc_read_mem(call->task->tid, pointer, &end->at, sizeof end->at) != sizeof end->at) return PYTHON;
    return end->at < 0 ? PYTHON : 0;
}

static bool finish(const struct call *call, const struct end *end) {
    if (end->pointer) return nc_write_mem(call->task->tid, end->pointer, &end->at, sizeof end->at) == sizeof end->at;
    end->file->pos = end->at;
    return true;
}

/* Moves both ends on; the bytes copied, or -errno before the first. */
static int64_t copy(struct end *from, struct end *to, int64_t n) {
    static char space[FIRST]; /* one thread */
    int in = nc_inode_fd(from->file->inode, 2), out = to->file->inode->host_rw;
    ssize_t got = pread(in, space, n < FIRST ? (size_t)n : FIRST, from->at);
    if (got <= 0) return got ? -errno : 0;
    ssize_t put = pwrite(out, space, (size_t)got, to->at);
    if (put < 0) return -errno;
    from->at += put;
    to->at += put;
    int64_t done = put;
    while (put == FIRST && done < n) {
        ssize_t moved = copy_file_range(in, &from->at, out, &to->at, (size_t)(n - done), 0);
        if (moved <= 0) break; /* the end, or it can't be done: the caller asks for the rest by itself */
        done += moved;
    }
    return done;
}

int64_t nc_copy_file_range(const struct call *call) {
    struct end from, to;
    if ((uint32_t)call->args[5]) return PYTHON;
    if (begin(call, &from, (int)call->args[0], call->args[1])) return PYTHON;
    if (begin(call, &to, (int)call->args[2], call->args[3])) return PYTHON;
    nc_inode *target = to.file->inode;
    if (!nc_readable(from.file) || !nc_writable(to.file) || (to.file->flags & O_APPEND)) return PYTHON;
    if (from.file->inode == target || from.file->inode->dev != target->dev || nc_write_is_python(call, to.file)) return PYTHON;
    uint64_t n = call->args[4];
    if (n > (uint64_t)(INT64_MAX - from.at) || n >= (uint64_t)(INT64_MAX - to.at)) return PYTHON;
    if (n > AT_ONCE) n = AT_ONCE;
    if (target->grant != UINT64_MAX && (uint64_t)to.at + n > target->grant) return PYTHON;
    if ((to.file->flags & O_DSYNC) || target->host_rw < 0) return PYTHON;
    int64_t done = copy(&from, &to, (int64_t)n);
    if (done < 0) return done;
    bool told = finish(call, &from);
    return finish(call, &to) && told ? done : -EFAULT;
}

int64_t nc_clone(const struct call *call, const nc_file *to) {
    const nc_file *from = file_at(call, (int)call->args[2]);
    if (!from || (from->flags & O_PATH)) return -EBADF;
    if (from->kind != NC_REG || to->kind != NC_REG) return PYTHON;
    if (from->inode->dev != to->inode->dev) return PYTHON;
    return nc_readable(from) && nc_writable(to) && !(to->flags & O_APPEND) ? -EOPNOTSUPP : -EBADF;
}
