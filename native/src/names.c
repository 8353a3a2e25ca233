/* The cache of names: a hash table of (directory, name), filled and emptied by Python's dentries
 * (sentry/vfs/dentry.py); mounts, a task's places and rights as a walk needs them. Memory of names, nodes and mounts is
 * Python's. */
#include "names.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define FIRST_BUCKETS 1024u /* a power of two */

static struct nc_name **buckets;
static uint32_t size, count;
static uint64_t seed; /* so that no guest knows which names share a bucket */

/* FNV-1a over the name, begun with its directory. */
static uint32_t hash_of(const struct nc_name *parent, const char *text, uint32_t len) {
    uint64_t hash = seed ^ (uintptr_t)parent >> 4;
    for (uint32_t i = 0; i < len; i++) hash = (hash ^ (uint8_t)text[i]) * 0x100000001b3;
    return (uint32_t)(hash ^ hash >> 32);
}

static int grow(void) {
    uint32_t wanted = size ? size * 2 : FIRST_BUCKETS;
    struct nc_name **more = calloc(wanted, sizeof *more);
    if (!more) return size ? 0 : -ENOMEM; /* a slow table is better than none */
    if (!size && getrandom(&seed, sizeof seed, 0) < 0) seed = (uintptr_t)more;
    for (uint32_t i = 0; i < size; i++) {
        for (struct nc_name *name = buckets[i], *next; name; name = next) {
            next = name->next;
            struct nc_name **slot = &more[name->hash & (wanted - 1)];
            name->next = *slot;
            *slot = name;
        }
    }
    free(buckets);
    buckets = more;
    size = wanted;
    return 0;
}

int nc_name_hash(struct nc_name *name, struct nc_name *parent, const char *text, int len) {
    if (count >= size) {
        int error = grow();
        if (error) return error;
    }
    name->parent = parent;
    name->text = text;
    name->len = (uint32_t)len;
    name->hash = hash_of(parent, text, (uint32_t)len);
    struct nc_name **slot = &buckets[name->hash & (size - 1)];
    name->next = *slot;
    *slot = name;
    name->hashed = 1;
    count++;
    return 0;
}

int nc_name_unhash(struct nc_name *name) {
    if (!name->hashed) return 0;
    struct nc_name **link = &buckets[name->hash & (size - 1)];
    while (*link != name) link = &(*link)->next;
    *link = name->next;
    name->hashed = 0;
    count--;
    return 0;
}

int nc_names_count(void) { return (int)count; }

struct nc_name *nc_name_find(const struct nc_name *parent, const char *text, uint32_t len) {
    if (!size) return NULL;
    uint32_t hash = hash_of(parent, text, len);
    struct nc_name *name = buckets[hash & (size - 1)];
    while (name && !(name->hash == hash && name->parent == parent && name->len == len && !memcmp(name->text, text, len)))
        name = name->next;
    return name;
}

int nc_node_set(struct nc_node *node, uint64_t dev, uint64_t ino, uint64_t nlink, uint64_t rdev, uint64_t size,
                uint32_t blksize, uint64_t blocks, int64_t atime_ns, int64_t mtime_ns, int64_t ctime_ns) {
    node->dev = dev;
    node->ino = ino;
    node->nlink = nlink;
    node->rdev = rdev;
    node->size = size;
    node->blksize = blksize;
    node->blocks = blocks;
    node->atime_ns = atime_ns;
    node->mtime_ns = mtime_ns;
    node->ctime_ns = ctime_ns;
    node->fresh = 1;
    return 0;
}

/* ---- mounts ---- */

int nc_mount_attach(struct nc_mount *mount, struct nc_mount *parent, struct nc_name *at) {
    mount->parent = parent;
    mount->mountpoint = at;
    if (!at) return 0;
    mount->next = at->mounts;
    at->mounts = mount;
    return 0;
}

int nc_mount_detach(struct nc_mount *mount) {
    if (mount->mountpoint) {
        struct nc_mount **link = &mount->mountpoint->mounts;
        while (*link && *link != mount) link = &(*link)->next;
        if (*link) *link = mount->next;
    }
    mount->parent = NULL;
    mount->mountpoint = NULL;
    return 0;
}

/* ---- a task's places and rights ---- */

nc_fs *nc_fs_new(void) {
    nc_fs *fs = calloc(1, sizeof *fs);
    if (fs) fs->refs = 1;
    return fs;
}

int nc_fs_set(nc_fs *fs, struct nc_mount *root_mount, struct nc_name *root, struct nc_mount *cwd_mount, struct nc_name *cwd) {
    fs->root = (struct nc_place){root_mount, root_mount ? root : NULL};
    fs->cwd = (struct nc_place){cwd_mount, cwd_mount ? cwd : NULL};
    return 0;
}

void nc_fs_get(nc_fs *fs) { fs->refs++; }

void nc_fs_put(nc_fs *fs) {
    if (!--fs->refs) free(fs);
}

int nc_fs_free(nc_fs *fs) {
    nc_fs_set(fs, NULL, NULL, NULL, NULL);
    nc_fs_put(fs);
    return 0;
}

nc_rights *nc_rights_new(uint32_t fsuid, uint32_t fsgid, const uint32_t *groups, int n, int capabilities) {
    nc_rights *rights = malloc(sizeof *rights + (size_t)n * sizeof *groups);
    if (!rights) return NULL;
    *rights = (nc_rights){.refs = 1, .fsuid = fsuid, .fsgid = fsgid, .capabilities = capabilities, .n = n};
    if (n) memcpy(rights->groups, groups, (size_t)n * sizeof *groups);
    return rights;
}

void nc_rights_get(nc_rights *rights) { rights->refs++; }

void nc_rights_put(nc_rights *rights) {
    if (!--rights->refs) free(rights);
}

int nc_rights_free(nc_rights *rights) {
    nc_rights_put(rights);
    return 0;
}

static bool in_group(const nc_rights *rights, uint32_t gid) {
    if (rights->fsgid == gid) return true;
    for (int i = 0; i < rights->n; i++)
        if (rights->groups[i] == gid) return true;
    return false;
}

bool nc_allowed(const nc_rights *rights, const struct nc_node *node, int mask) {
    uint32_t granted = node->mode;
    if (rights->fsuid == node->uid)
        granted >>= 6;
    else if (in_group(rights, node->gid))
        granted >>= 3;
    if (!((uint32_t)mask & ~granted & 7)) return true;
    bool override = rights->capabilities & NC_DAC_OVERRIDE, search = rights->capabilities & NC_DAC_READ_SEARCH;
    if (S_ISDIR(node->mode)) return override || (search && !(mask & NC_MAY_WRITE));
    if (mask == NC_MAY_READ && search) return true;
    return override && (!(mask & NC_MAY_EXEC) || (node->mode & 0111)); /* executing needs one x bit, even for root */
}
