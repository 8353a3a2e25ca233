/* Regular files: an inode holds the host descriptors (one read-only, one read-write, shared by every description); the
 * position is the description's own, so only positioned host calls are used. */
#include "objects.h"

#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x20 /* Linux 6.9 */
#endif
#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x100 /* 6.18 */
#endif

#define NS 1000000000
#define BOUNCE (1u << 20)
static char bounce[BOUNCE]; /* one thread; touched only as far as it is used */

nc_inode *nc_inode_new(int host_ro, int host_rw, int owns) {
    nc_inode *inode = calloc(1, sizeof *inode);
    if (!inode) return NULL;
    inode->refs = 1;
    inode->host_ro = host_ro;
    inode->host_rw = host_rw;
    inode->owns = owns;
    inode->grant = UINT64_MAX;
    return inode;
}

int nc_inode_set_grant(nc_inode *inode, uint64_t bytes) {
    inode->grant = bytes;
    return 0;
}

int nc_inode_refs(const nc_inode *inode) { return (int)inode->refs; }

int nc_inode_set_caps(nc_inode *inode, int on) {
    inode->caps = on != 0;
    return 0;
}

void nc_inode_get(nc_inode *inode) { inode->refs++; }

static void close_fds(nc_inode *inode) {
    if (!inode->owns) return;
    if (inode->host_ro >= 0) close(inode->host_ro);
    if (inode->host_rw >= 0 && inode->host_rw != inode->host_ro) close(inode->host_rw);
}

int nc_inode_put(nc_inode *inode) {
    if (--inode->refs) return (int)inode->refs;
    close_fds(inode);
    free(inode);
    return 0;
}

int nc_inode_set_fds(nc_inode *inode, int host_ro, int host_rw) {
    if (inode->owns) {
        int old[2] = {inode->host_ro, inode->host_rw};
        for (int i = 0; i < 2; i++)
            if (old[i] >= 0 && old[i] != host_ro && old[i] != host_rw && (i == 0 || old[1] != old[0])) close(old[i]);
    }
    inode->host_ro = host_ro;
    inode->host_rw = host_rw;
    return 0;
}

int nc_inode_fd(const nc_inode *inode, int which) {
    if (which == 0 || (which == 2 && inode->host_ro >= 0)) return inode->host_ro;
    return inode->host_rw;
}

int nc_inode_writers(const nc_inode *inode) { return (int)inode->writers; }
int nc_inode_readers(const nc_inode *inode) { return (int)inode->readers; }

int nc_inode_set_attrs(nc_inode *inode, uint64_t dev, uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid,
                       uint64_t nlink, uint64_t rdev, uint32_t live, int unmarked, const struct nc_node *of) {
    inode->dev = dev;
    inode->ino = ino;
    inode->mode = mode;
    inode->uid = uid;
    inode->gid = gid;
    inode->nlink = nlink;
    inode->rdev = rdev;
    inode->live = live;
    inode->unmarked = unmarked;
    inode->of = of;
    return 0;
}

int nc_inode_set_node(nc_inode *inode, const struct nc_node *of) {
    inode->of = of;
    return 0;
}

int nc_inode_host_stat(const nc_inode *inode, int64_t out[6]) {
    struct stat host;
    if (fstat(nc_inode_fd(inode, 2), &host)) return -errno;
    out[0] = host.st_size;
    out[1] = host.st_blocks;
    out[2] = host.st_atim.tv_sec * NS + host.st_atim.tv_nsec;
    out[3] = host.st_mtim.tv_sec * NS + host.st_mtim.tv_nsec;
    out[4] = host.st_ctim.tv_sec * NS + host.st_ctim.tv_nsec;
    out[5] = (int64_t)host.st_nlink;
    return 0;
}

/* fstat(2) as the guest sees it, or -EAGAIN where Python knows better. */
int nc_reg_stat(nc_inode *inode, struct stat *out) {
    if (!(inode->live & NC_LIVE_SIZE) || !(inode->live & NC_LIVE_TIMES)) return -EAGAIN;
    if (fstat(nc_inode_fd(inode, 2), out)) return -errno;
    out->st_dev = inode->dev;
    out->st_ino = inode->ino;
    out->st_mode = inode->mode;
    out->st_uid = inode->uid;
    out->st_gid = inode->gid;
    out->st_rdev = inode->rdev;
    if (!(inode->live & NC_LIVE_NLINK)) out->st_nlink = inode->nlink;
    return 0;
}

/* os.posix_fallocate has no mode. */
int nc_fallocate(int host_fd, int mode, int64_t offset, int64_t length) {
    return fallocate(host_fd, mode, offset, length) ? -errno : 0;
}

static size_t chunk(const struct nc_iter *it) { return it->left < BOUNCE ? it->left : BOUNCE; }

/* The read that a guest waits for first, without flags: pread is the cheapest call there is for it. */
static ssize_t host_read(int fd, void *buf, size_t n, int64_t at, int rwf) {
    ssize_t got;
    do {
        struct iovec local = {buf, n};
        got = rwf ? preadv2(fd, &local, 1, at, rwf) : pread(fd, buf, n, at);
    } while (got < 0 && errno == EINTR);
    return got;
}

static ssize_t host_write(int fd, void *buf, size_t n, int64_t at, int rwf) {
    ssize_t put;
    do {
        struct iovec local = {buf, n};
        put = rwf ? pwritev2(fd, &local, 1, at, rwf) : pwrite(fd, buf, n, at);
    } while (put < 0 && errno == EINTR);
    return put;
}

int64_t nc_reg_read(nc_file *file, struct nc_iter *to, int64_t offset, int rwf) {
    int fd = nc_inode_fd(file->inode, 2);
    int64_t at = offset == NC_AT_POS ? file->pos : offset, start = at, error = 0;
    rwf &= ~(RWF_NOAPPEND | RWF_NOSIGNAL);
    while (to->left) {
        size_t want = chunk(to);
        ssize_t got = host_read(fd, bounce, want, at, rwf);
        if (got < 0) error = -errno;
        if (got <= 0) break;
        size_t moved = nc_copy_out(to, bounce, (size_t)got);
        at += (int64_t)moved;
        if (moved < (size_t)got) error = -EFAULT;
        if (moved < want) break; /* a fault or the end */
    }
    if (offset == NC_AT_POS) file->pos = at;
    return at > start ? at - start : error;
}

/* O_APPEND moves the position to the new end, whatever it was; a positioned write appends as well and moves nothing,
 * as on Linux (pwrite(2), BUGS). */
int64_t nc_reg_write(nc_file *file, struct nc_iter *from, int64_t offset, int rwf) {
    int fd = file->inode->host_rw;
    if (fd < 0) return -EBADF;
    if (file->flags & O_APPEND && !(rwf & RWF_NOAPPEND)) rwf |= RWF_APPEND;
    rwf &= ~(RWF_NOAPPEND | RWF_NOSIGNAL); /* the host description never appends by itself, nor has it a reader */
    if ((file->flags & O_SYNC) == O_SYNC)
        rwf |= RWF_SYNC;
    else if (file->flags & O_DSYNC)
        rwf |= RWF_DSYNC;
    int64_t at = offset == NC_AT_POS ? file->pos : offset, total = 0, error = 0;
    while (from->left) {
        size_t want = chunk(from);
        size_t have = nc_copy_in(from, bounce, want);
        if (have < want) error = -EFAULT;
        if (!have) break;
        ssize_t put = host_write(fd, bounce, have, at, rwf);
        if (put < 0) {
            error = -errno;
            break;
        }
        at += put;
        total += put;
        if ((size_t)put < want) break;
    }
    if (total && offset == NC_AT_POS) {
        file->pos = at;
        if (rwf & RWF_APPEND) {
            struct stat host;
            if (!fstat(fd, &host)) file->pos = host.st_size;
        }
    }
    return total ? total : error;
}
