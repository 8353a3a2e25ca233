/* Path walks over names that are in the cache (path_resolution(7)); what Linux calls an RCU walk. It decides nothing but
 * what is plain: at the first thing that is missing or odd (an error but ENOENT too) Python walks instead, which may ask
 * file systems and wait (sentry/vfs/walk.py). */
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "names.h"

#define MAX_LINKS 40
#define SPACE (2 * PATH_MAX)

struct walk {
    const nc_fs *fs;
    const nc_rights *rights;
    struct nc_place at;
    const char *next, *end; /* what is still to go */
    bool want_dir;          /* a slash at the end */
    int links;
    char space[2][SPACE]; /* paths with the text of a link before the rest */
};

/* The top of what is mounted at a place. */
static int cross_down(struct nc_place *at) {
    while (at->name->mounts) {
        struct nc_mount *mount = at->name->mounts;
        while (mount && mount->parent != at->mount) mount = mount->next;
        if (!mount) return 0;
        if (!mount->root) return -EAGAIN;
        *at = (struct nc_place){mount, mount->root};
    }
    return 0;
}

/* `..`: stays at the task's root; leaves a mount at its root. */
static int go_up(const nc_fs *fs, struct nc_place *at) {
    for (;;) {
        if (at->name == fs->root.name && at->mount == fs->root.mount) break;
        if (at->name != at->mount->root) {
            if (at->name->parent) at->name = at->name->parent;
            break;
        }
        if (!at->mount->parent) break;
        if (!at->mount->mountpoint) return -EAGAIN;
        *at = (struct nc_place){at->mount->parent, at->mount->mountpoint};
    }
    return cross_down(at);
}

static bool is_link(const struct nc_node *node) { return S_ISLNK(node->mode); }

/* Go on with the text of a link found in the present directory, before the rest of the path. */
static int follow(struct walk *walk, const struct nc_node *link, bool last) {
    const struct nc_node *directory = walk->at.name->node;
    bool guarded = (directory->mode & (S_ISVTX | S_IWOTH)) == (S_ISVTX | S_IWOTH); /* protected_symlinks */
    size_t rest = (size_t)(walk->end - walk->next), text = link->target_len;
    if (++walk->links > MAX_LINKS || walk->at.mount->nosymfollow || !link->target || !text || (last && guarded)) return -EAGAIN;
    if (text + 1 + rest > SPACE) return -EAGAIN;
    char *space = walk->space[walk->links & 1]; /* the rest may lie in the other one */
    memcpy(space, link->target, text);
    size_t all = text;
    if (last) {
        walk->want_dir = walk->want_dir || space[text - 1] == '/';
    } else {
        space[all++] = '/';
        memcpy(space + all, walk->next, rest);
        all += rest;
    }
    walk->next = space;
    walk->end = space + all;
    if (space[0] == '/') walk->at = walk->fs->root;
    return walk->at.name ? 0 : -EAGAIN;
}

/* One component. 1: it was the last one, and `at` is there. */
static int step(struct walk *walk, int how, const char **last, uint32_t *last_len) {
    const char *text = walk->next;
    while (walk->next < walk->end && *walk->next != '/') walk->next++;
    uint32_t len = (uint32_t)(walk->next - text);
    while (walk->next < walk->end && *walk->next == '/') walk->next++;
    bool at_end = walk->next == walk->end;

    struct nc_node *node = walk->at.name->node;
    if (!node || node->opaque || !S_ISDIR(node->mode) || !nc_allowed(walk->rights, node, NC_MAY_EXEC)) return -EAGAIN;
    if (at_end && how & NC_PARENT) {
        *last = text;
        *last_len = len;
        return 1;
    }
    if (len == 1 && text[0] == '.') return at_end;
    if (len == 2 && text[0] == '.' && text[1] == '.') {
        int error = go_up(walk->fs, &walk->at);
        return error ? error : at_end;
    }
    if (len > NAME_MAX) return -EAGAIN;
    struct nc_place child = {walk->at.mount, nc_name_find(walk->at.name, text, len)};
    if (!child.name) return walk->at.name->complete ? -ENOENT : -EAGAIN;
    int error = cross_down(&child);
    if (error) return error;
    node = child.name->node;
    if (!node) return -ENOENT;
    if (node->opaque) return -EAGAIN;
    if (is_link(node) && (!at_end || how & NC_FOLLOW || walk->want_dir)) return follow(walk, node, at_end);
    walk->at = child;
    if (at_end && walk->want_dir && !S_ISDIR(node->mode)) return -EAGAIN;
    return at_end;
}

int nc_walk(const nc_fs *fs, const nc_rights *rights, struct nc_place from, const char *path, uint32_t len, int how,
            struct nc_place *to, uint32_t *last, uint32_t *last_len) {
    static struct walk walk; /* one thread */
    if (!len) return -EAGAIN;
    walk.fs = fs;
    walk.rights = rights;
    walk.at = path[0] == '/' ? fs->root : from;
    walk.next = path;
    walk.end = path + len;
    walk.want_dir = path[len - 1] == '/';
    walk.links = 0;
    if (!walk.at.name) return -EAGAIN;
    const char *text = NULL;
    for (;;) {
        while (walk.next < walk.end && *walk.next == '/') walk.next++;
        if (walk.next == walk.end) { /* nothing but slashes */
            if (how & NC_PARENT || !walk.at.name->node) return -EAGAIN;
            break;
        }
        int done = step(&walk, how, &text, last_len);
        if (done < 0) return done;
        if (done) break;
    }
    if (how & NC_PARENT) {
        if (text < path || text >= path + len) return -EAGAIN; /* the end is a link's text, which the caller has not */
        *last = (uint32_t)(text - path);
    }
    *to = walk.at;
    return 0;
}

int nc_find(const nc_fs *fs, const nc_rights *rights, struct nc_mount *mount, struct nc_name *name, const char *path,
            int len, int how, struct nc_found *out) {
    struct nc_place from = name ? (struct nc_place){mount, name} : fs->cwd, to;
    int error = nc_walk(fs, rights, from, path, (uint32_t)len, how, &to, &out->last, &out->last_len);
    if (error) return error;
    out->mount = to.mount->id;
    out->name = to.name->id;
    return 0;
}
