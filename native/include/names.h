/* The cache of names as the C core itself uses it: walk.c reads it for the calls in paths.c. */
#pragma once
#include "core.h"

#include <stdbool.h>
#include <sys/stat.h>

struct nc_fs {
    uint32_t refs;
    struct nc_place root, cwd;
};

struct nc_rights {
    uint32_t refs;
    uint32_t fsuid, fsgid;
    int capabilities; /* NC_DAC_* */
    int n;
    uint32_t groups[];
};

#define NC_MAY_EXEC 1
#define NC_MAY_WRITE 2
#define NC_MAY_READ 4
/* By the mode bits and capabilities, as sentry/vfs/perm.py's `allowed` without a file system's own answer. */
bool nc_allowed(const nc_rights *rights, const struct nc_node *node, int mask);

void nc_fs_get(nc_fs *fs);
void nc_fs_put(nc_fs *fs);
void nc_rights_get(nc_rights *rights);
void nc_rights_put(nc_rights *rights);

struct nc_name *nc_name_find(const struct nc_name *parent, const char *text, uint32_t len);

/* As nc_find. `last` (NC_PARENT) is the last component's offset in `path`. */
int nc_walk(const nc_fs *fs, const nc_rights *rights, struct nc_place from, const char *path, uint32_t len, int how,
            struct nc_place *to, uint32_t *last, uint32_t *last_len);
