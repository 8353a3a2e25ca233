/* open(2) for reading of a regular file whose path is in the cache of names and whose host file is open already.
 *
 * Python learns of such a description only when it needs it (sentry/fs/lazyfile.py): until then it is on a list here, and
 * counts as a use of its name and mount, which Python must not let go of. */
#include <limits.h>

#include "call.h"
#include "names.h"

#define PLAIN_FLAGS (O_CLOEXEC | O_LARGEFILE | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW)
#define KERNEL_O_LARGEFILE 0100000 /* which the C library's headers have as 0 */

static nc_file *lazy;

static void enter(nc_file *file, struct nc_place place, nc_rights *opener) {
    nc_rights_get(opener);
    file->opener = opener;
    file->place = place;
    place.mount->uses++;
    place.name->uses++;
    file->lazy = 1;
    file->lazy_next = lazy;
    if (lazy) lazy->lazy_link = &file->lazy_next;
    file->lazy_link = &lazy;
    lazy = file;
}

int nc_file_settle(nc_file *file) {
    if (!file->lazy) return 0;
    file->place.mount->uses--;
    file->place.name->uses--;
    file->place = (struct nc_place){0};
    file->lazy = 0;
    *file->lazy_link = file->lazy_next;
    if (file->lazy_next) file->lazy_next->lazy_link = file->lazy_link;
    return 0;
}

int nc_file_opened_with(const nc_file *file, const nc_rights *rights) { return file->opener && file->opener == rights; }

nc_file *nc_lazy_find(const struct nc_name *name, const struct nc_mount *mount) {
    nc_file *file = lazy;
    while (file && ((name && file->place.name != name) || (mount && file->place.mount != mount))) file = file->lazy_next;
    return file;
}

int nc_file_where(const nc_file *file, struct nc_found *out) {
    if (!file->lazy) return -ENOENT;
    *out = (struct nc_found){.mount = file->place.mount->id, .name = file->place.name->id};
    return 0;
}

int64_t nc_open(const struct call *call, int dirfd, uint64_t path, int flags) {
    if (flags & ~(PLAIN_FLAGS | KERNEL_O_LARGEFILE) || nc_fdt_room(call->fdt) < 0) return PYTHON;
    struct nc_place place;
    int64_t error = nc_path_find(call, dirfd, path, flags & O_NOFOLLOW ? 0 : NC_FOLLOW, &place);
    if (error) return error;
    const struct nc_node *node = place.name->node;
    if (!S_ISREG(node->mode) || !nc_allowed(call->task->rights, node, NC_MAY_READ) || nc_watched) return PYTHON;
    nc_inode *inode = node->inode || !node->below ? node->inode : node->below->inode;
    if (!inode || inode->host_ro < 0 || inode->of != node || node->leased) return PYTHON;
    nc_file *file = nc_file_new(NC_REG, flags | KERNEL_O_LARGEFILE, inode);
    if (!file) return PYTHON;
    file->noexec = place.mount->noexec;
    int fd = nc_fdt_install(call->fdt, file, flags & O_CLOEXEC, 0);
    if (fd < 0) {
        nc_file_free(file);
        return PYTHON;
    }
    enter(file, place, call->task->rights);
    return fd;
}
