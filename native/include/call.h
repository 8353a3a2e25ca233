/* A call that C tries to answer (fast.c, paths.c). A handler gives its result, or -errno, or PYTHON: then nothing has
 * happened yet and Python answers the whole call. Argument registers are taken at the width the Linux prototype has. */
#pragma once
#include "objects.h"

#define PYTHON INT64_MIN
#define HOST (INT64_MIN + 1) /* let the host run it too: SECCOMP_USER_NOTIF_FLAG_CONTINUE */

struct call {
    nc_task *task;
    nc_fdt *fdt;
    uint64_t id;
    const __u64 *args;
};

static inline nc_file *file_at(const struct call *call, int fd) {
    struct nc_slot *slot = nc_fdt_slot(call->fdt, fd);
    return slot ? slot->file : NULL;
}

/* Linux's fdget: an O_PATH description does not count. */
static inline nc_file *open_file(const struct call *call) {
    nc_file *file = file_at(call, (int)call->args[0]);
    return file && !(file->flags & O_PATH) ? file : NULL;
}

/* fast.c: guest memory as its vector of n buffers says; 0 or -errno. The next call overwrites it. */
int64_t nc_read_iov(const struct call *call, uint64_t addr, uint64_t n, struct nc_iter *it);

/* fast.c: whether Python must see a write to this regular file (limits, watches, set-id bits) */
bool nc_write_is_python(const struct call *call, const nc_file *file);

/* copy.c */
int64_t nc_copy_file_range(const struct call *call);
int64_t nc_clone(const struct call *call, const nc_file *to); /* ioctl(FICLONE) */

/* open.c */
int64_t nc_open(const struct call *call, int dirfd, uint64_t path, int flags);

/* inet.c: on a stream; MSG_* flags */
int64_t nc_inet_read(const struct call *call, nc_file *file, struct nc_iter *to, int flags);
int64_t nc_inet_write(const struct call *call, nc_file *file, struct nc_iter *from, int flags);
int64_t nc_inet_call(const struct call *call, int nr);

/* xattr.c */
int64_t nc_xattr_call(const struct call *call, int nr);

/* paths.c */
int64_t nc_path_find(const struct call *call, int dirfd, uint64_t path, int how, struct nc_place *to);
int64_t nc_path_call(const struct call *call, int nr);
int64_t nc_stat_file(const struct call *call, nc_file *file, uint64_t to); /* fstat(2) */
