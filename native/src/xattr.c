/* Extended attributes that are not there: what cp(1), ls(1) and tar(1) ask of every file. */
#include <linux/limits.h>
#include <string.h>
#include <sys/syscall.h>

#include "call.h"
#include "names.h"

/* Whether the inode that descriptor args[0] or path args[0] leads to is known to have none: 1, 0, -errno or PYTHON. */
static int64_t unmarked(const struct call *call, bool by_path, int how) {
    if (by_path) {
        struct nc_place place;
        int64_t error = nc_path_find(call, AT_FDCWD, call->args[0], how, &place);
        return error ? error : place.name->node->unmarked;
    }
    nc_file *file = open_file(call);
    if (!file) return PYTHON;
    if (file->kind == NC_REG) return file->inode->unmarked;
    return file->kind == NC_PY && file->place.name && file->place.name->node ? file->place.name->node->unmarked : PYTHON;
}

static int64_t list(const struct call *call, bool by_path, int how) {
    int64_t none = unmarked(call, by_path, how);
    return none == 1 ? 0 : none ? none : PYTHON;
}

/* There are no ACLs, nor other attributes of the system, in any file system here. */
static int64_t get(const struct call *call, bool by_path, int how) {
    char name[XATTR_NAME_MAX + 1];
    int64_t len = nc_read_cstr(call->task->tid, call->args[1], name, sizeof name);
    if (len < 0 || strncmp(name, "system.", 7)) return PYTHON;
    int64_t none = unmarked(call, by_path, how);
    return none < 0 ? none : -EOPNOTSUPP;
}

int64_t nc_xattr_call(const struct call *call, int nr) {
    switch (nr) {
    case SYS_listxattr: return list(call, true, NC_FOLLOW);
    case SYS_llistxattr: return list(call, true, 0);
    case SYS_flistxattr: return list(call, false, 0);
    case SYS_getxattr: return get(call, true, NC_FOLLOW);
    case SYS_lgetxattr: return get(call, true, 0);
    case SYS_fgetxattr: return get(call, false, 0);
    }
    return PYTHON;
}
