/* Guest threads, hashed by host thread id. Python creates and frees them; the fast path and the loop look them up. */
#include <stdlib.h>

#include "names.h"

#define BUCKETS 1024 /* a power of two */

static nc_task *buckets[BUCKETS];

static nc_task **slot(int tid) { return &buckets[(unsigned)tid & (BUCKETS - 1)]; }

nc_task *nc_task_find(int tid) {
    nc_task *task = *slot(tid);
    while (task && task->tid != tid) task = task->next;
    return task;
}

nc_task *nc_task_new(int tid, nc_fdt *fdt) {
    nc_task *task = calloc(1, sizeof *task);
    if (!task) return NULL;
    task->tid = tid;
    task->fast = 1;
    task->fresh = 1;
    task->fdt = fdt;
    nc_fdt_get(fdt);
    task->next = *slot(tid);
    *slot(tid) = task;
    return task;
}

int nc_task_free(int tid) {
    for (nc_task **link = slot(tid); *link; link = &(*link)->next) {
        nc_task *task = *link;
        if (task->tid != tid) continue;
        *link = task->next;
        if (task->fdt) nc_fdt_put(task->fdt);
        if (task->fs) nc_fs_put(task->fs);
        if (task->rights) nc_rights_put(task->rights);
        free(task);
        return 0;
    }
    return -ESRCH;
}

int nc_task_set_fdt(int tid, nc_fdt *fdt) {
    nc_task *task = nc_task_find(tid);
    if (!task) return -ESRCH;
    nc_fdt *old = task->fdt;
    nc_fdt_get(fdt);
    task->fdt = fdt;
    if (old) nc_fdt_put(old);
    return 0;
}

int nc_task_set_ids(int tid, uint32_t uid, uint32_t euid, uint32_t gid, uint32_t egid) {
    nc_task *task = nc_task_find(tid);
    if (!task) return -ESRCH;
    task->uid = uid;
    task->euid = euid;
    task->gid = gid;
    task->egid = egid;
    return 0;
}

int nc_task_set_view(int tid, nc_fs *fs, nc_rights *rights) {
    nc_task *task = nc_task_find(tid);
    if (!task) return -ESRCH;
    nc_fs *old_fs = task->fs;
    nc_rights *old_rights = task->rights;
    nc_fs_get(fs);
    nc_rights_get(rights);
    task->fs = fs;
    task->rights = rights;
    if (old_fs) nc_fs_put(old_fs);
    if (old_rights) nc_rights_put(old_rights);
    return 0;
}

#define SETTER(name)                              \
    int nc_task_set_##name(int tid, int value) {  \
        nc_task *task = nc_task_find(tid);        \
        if (!task) return -ESRCH;                 \
        task->name = (uint8_t)value;              \
        return 0;                                 \
    }

SETTER(fast)
SETTER(mixed)
SETTER(aside)
SETTER(mode)
SETTER(watched)
SETTER(waits)
SETTER(loading)

int64_t nc_task_sent(int tid) {
    nc_task *task = nc_task_find(tid);
    if (!task) return 0;
    uint32_t sent = task->sent;
    task->sent = 0;
    return sent;
}

int nc_task_started(int tid) {
    nc_task *task = nc_task_find(tid);
    if (!task) return -ESRCH;
    task->fresh = 0;
    return 0;
}

int nc_task_first_stop(int tid) {
    nc_task *task = nc_task_find(tid);
    if (!task) return -ESRCH;
    task->fresh = 0;
    task->stop_wanted = 1;
    return 0;
}

int nc_task_stopped(int tid) {
    nc_task *task = nc_task_find(tid);
    if (!task) return -ESRCH;
    task->stop_wanted = 0;
    return 0;
}

int nc_task_interrupted(int tid) {
    nc_task *task = nc_task_find(tid);
    if (!task) return -ESRCH;
    task->interrupted = 1;
    return 0;
}
