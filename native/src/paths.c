/* Calls with a path whose names are all in the cache: stat(2), statx(2), access(2), readlink(2); open(2) is in open.c. */
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "call.h"
#include "names.h"

#define NS 1000000000

static struct timespec timespec(int64_t ns) { return (struct timespec){ns / NS - (ns % NS < 0), (ns % NS + NS) % NS}; }

static int node_stat(const struct nc_node *node, struct stat *out) {
    if (node->inode) return nc_reg_stat(node->inode, out);
    if (!node->fresh) return -EAGAIN;
    *out = (struct stat){
        .st_dev = node->dev,
        .st_ino = node->ino,
        .st_mode = node->mode,
        .st_nlink = node->nlink,
        .st_uid = node->uid,
        .st_gid = node->gid,
        .st_rdev = node->rdev,
        .st_size = (off_t)node->size,
        .st_blksize = node->blksize,
        .st_blocks = (blkcnt_t)node->blocks,
        .st_atim = timespec(node->atime_ns),
        .st_mtim = timespec(node->mtime_ns),
        .st_ctim = timespec(node->ctime_ns),
    };
    return 0;
}

/* What a path argument leads to: 0, -errno or PYTHON. */
int64_t nc_path_find(const struct call *call, int dirfd, uint64_t path, int how, struct nc_place *to) {
    static char text[PATH_MAX]; /* one thread */
    const nc_task *task = call->task;
    if (!task->fs || !task->rights) return PYTHON;
    int64_t len = nc_read_cstr(task->tid, path, text, sizeof text);
    if (len <= 0) return PYTHON;
    struct nc_place from = task->fs->cwd;
    if (text[0] != '/' && dirfd != AT_FDCWD) {
        nc_file *file = file_at(call, dirfd);
        if (!file) return -EBADF;
        from = file->place;
    }
    int error = nc_walk(task->fs, task->rights, from, text, (uint32_t)len, how, to, NULL, NULL);
    return error == -EAGAIN ? PYTHON : error;
}

static int64_t write_out(const struct call *call, uint64_t to, const void *data, uint64_t size) {
    return nc_write_mem(call->task->tid, to, data, size) == (int64_t)size ? 0 : -EFAULT;
}

static int64_t stat_node(const struct call *call, const struct nc_node *node, uint64_t to) {
    struct stat stat;
    int error = node_stat(node, &stat);
    if (error) return error == -EAGAIN ? PYTHON : error;
    return write_out(call, to, &stat, sizeof stat);
}

int64_t nc_stat_file(const struct call *call, nc_file *file, uint64_t to) {
    if (file->kind == NC_PY && file->place.name && file->place.name->node) return stat_node(call, file->place.name->node, to);
    if (file->kind != NC_REG) return PYTHON;
    struct stat stat;
    int error = nc_reg_stat(file->inode, &stat);
    if (error) return error == -EAGAIN ? PYTHON : error;
    return write_out(call, to, &stat, sizeof stat);
}

static int64_t stat_path(const struct call *call, int dirfd, uint64_t path, int how, uint64_t to) {
    struct nc_place place;
    int64_t error = nc_path_find(call, dirfd, path, how, &place);
    return error ? error : stat_node(call, place.name->node, to);
}

static bool is_empty(const struct call *call, uint64_t path) {
    char first;
    return nc_read_mem(call->task->tid, path, &first, 1) == 1 && !first;
}

static int64_t sys_newfstatat(const struct call *call) {
    int dirfd = (int)call->args[0], flags = (int)call->args[3];
    if (flags & AT_EMPTY_PATH) { /* C libraries make fstat of it */
        nc_file *file = file_at(call, dirfd);
        return file && flags == AT_EMPTY_PATH && is_empty(call, call->args[1]) ? nc_stat_file(call, file, call->args[2]) : PYTHON;
    }
    if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)) return PYTHON;
    return stat_path(call, dirfd, call->args[1], flags & AT_SYMLINK_NOFOLLOW ? 0 : NC_FOLLOW, call->args[2]);
}

static struct statx_timestamp timestamp(struct timespec time) {
    return (struct statx_timestamp){.tv_sec = time.tv_sec, .tv_nsec = (uint32_t)time.tv_nsec};
}

#define MNT_ID_UNIQUE 0x4000 /* STATX_MNT_ID_UNIQUE, which the C library's headers may lack */
#define SYNC_FLAGS (AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC)

static int64_t sys_statx(const struct call *call) {
    int flags = (int)call->args[2];
    if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | SYNC_FLAGS) || (flags & SYNC_FLAGS) == SYNC_FLAGS) return PYTHON;
    uint32_t mask = (uint32_t)call->args[3];
    if (mask & (STATX__RESERVED | MNT_ID_UNIQUE)) return PYTHON;
    struct nc_place place;
    int how = flags & AT_SYMLINK_NOFOLLOW ? 0 : NC_FOLLOW;
    int64_t error = nc_path_find(call, (int)call->args[0], call->args[1], how, &place);
    if (error) return error;
    const struct nc_node *node = place.name->node;
    struct stat stat;
    if ((error = node_stat(node, &stat))) return error == -EAGAIN ? PYTHON : error;
    int64_t btime_ns = mask & STATX_BTIME ? node->btime_ns : 0;
    struct statx out = {
        .stx_mask = STATX_BASIC_STATS | STATX_MNT_ID | (btime_ns ? STATX_BTIME : 0),
        .stx_blksize = (uint32_t)stat.st_blksize,
        .stx_attributes = place.name == place.mount->root ? STATX_ATTR_MOUNT_ROOT : 0,
        .stx_attributes_mask = STATX_ATTR_MOUNT_ROOT,
        .stx_nlink = (uint32_t)stat.st_nlink,
        .stx_uid = stat.st_uid,
        .stx_gid = stat.st_gid,
        .stx_mode = (uint16_t)stat.st_mode,
        .stx_ino = stat.st_ino,
        .stx_size = (uint64_t)stat.st_size,
        .stx_blocks = (uint64_t)stat.st_blocks,
        .stx_atime = timestamp(stat.st_atim),
        .stx_btime = timestamp(timespec(btime_ns)),
        .stx_ctime = timestamp(stat.st_ctim),
        .stx_mtime = timestamp(stat.st_mtim),
        .stx_rdev_major = major(stat.st_rdev),
        .stx_rdev_minor = minor(stat.st_rdev),
        .stx_dev_major = major(stat.st_dev),
        .stx_dev_minor = minor(stat.st_dev),
        .stx_mnt_id = place.mount->id,
    };
    return write_out(call, call->args[4], &out, sizeof out);
}

/* Writing and executing depend on the mount too: they are Python's. */
static int64_t access_path(const struct call *call, int dirfd, uint64_t path, uint64_t mode, int flags) {
    if (mode & ~(uint64_t)R_OK || flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW) || !call->task->rights) return PYTHON;
    if (!(flags & AT_EACCESS) && !(call->task->rights->capabilities & NC_REAL_IDS)) return PYTHON;
    struct nc_place place;
    int64_t error = nc_path_find(call, dirfd, path, flags & AT_SYMLINK_NOFOLLOW ? 0 : NC_FOLLOW, &place);
    if (error || !mode) return error;
    return nc_allowed(call->task->rights, place.name->node, NC_MAY_READ) ? 0 : PYTHON;
}

static int64_t readlink_path(const struct call *call, int dirfd, uint64_t path, uint64_t to, int size) {
    if (size <= 0) return PYTHON;
    struct nc_place place;
    int64_t error = nc_path_find(call, dirfd, path, 0, &place);
    if (error) return error;
    const struct nc_node *node = place.name->node;
    if (!node->target) return PYTHON;
    uint32_t len = node->target_len < (uint32_t)size ? node->target_len : (uint32_t)size;
    return (error = write_out(call, to, node->target, len)) ? error : len;
}

int64_t nc_path_call(const struct call *call, int nr) {
    const __u64 *args = call->args;
    switch (nr) {
    case SYS_open: return nc_open(call, AT_FDCWD, args[0], (int)args[1]);
    case SYS_openat: return nc_open(call, (int)args[0], args[1], (int)args[2]);
    case SYS_stat: return stat_path(call, AT_FDCWD, args[0], NC_FOLLOW, args[1]);
    case SYS_lstat: return stat_path(call, AT_FDCWD, args[0], 0, args[1]);
    case SYS_newfstatat: return sys_newfstatat(call);
    case SYS_statx: return sys_statx(call);
    case SYS_access: return access_path(call, AT_FDCWD, args[0], (uint32_t)args[1], 0);
    case SYS_faccessat: return access_path(call, (int)args[0], args[1], (uint32_t)args[2], 0);
    case SYS_faccessat2: return access_path(call, (int)args[0], args[1], (uint32_t)args[2], (int)args[3]);
    case SYS_readlink: return readlink_path(call, AT_FDCWD, args[0], args[1], (int)args[2]);
    case SYS_readlinkat: return readlink_path(call, (int)args[0], args[1], args[2], (int)args[3]);
    }
    return nc_xattr_call(call, nr);
}
