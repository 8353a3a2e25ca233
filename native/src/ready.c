/* What Python must hear of: objects whose readiness changed while someone in Python waits, and files released.
 *
 * Both queues are linked through the objects themselves, so putting something on them never fails. Regular files have
 * nothing urgent to do at their release; theirs are told only with others, or when some tens have come together. */
#include "objects.h"

#define LAZY_MAX 64

int nc_ready_pending;

static struct nc_source *ready_head, **ready_tail = &ready_head;
static nc_file *released_head, **released_tail = &released_head;
static int released_lazy;
static int released_urgent;

uint64_t nc_new_id(void) {
    static uint64_t last;
    return ++last;
}

static void update_pending(void) { nc_ready_pending = ready_head || released_urgent || released_lazy >= LAZY_MAX; }

void nc_source_wake(struct nc_source *source, uint32_t mask) {
    if (!source->watched) return;
    if (!source->mask) {
        source->next = NULL;
        *ready_tail = source;
        ready_tail = &source->next;
        nc_ready_pending = 1;
    }
    source->mask |= mask;
}

void nc_source_forget(struct nc_source *source) {
    if (!source->mask) return;
    for (struct nc_source **link = &ready_head; *link; link = &(*link)->next) {
        if (*link != source) continue;
        *link = source->next;
        if (!*link) ready_tail = link;
        break;
    }
    source->mask = 0;
    update_pending();
}

int nc_ready_take(struct nc_ready *out, int max) {
    int n = 0;
    while (n < max && ready_head) {
        struct nc_source *source = ready_head;
        ready_head = source->next;
        out[n++] = (struct nc_ready){source->id, source->mask};
        source->mask = 0;
    }
    if (!ready_head) ready_tail = &ready_head;
    update_pending();
    return n;
}

void nc_released_push(nc_file *file, bool lazy) {
    file->queued = 1;
    file->next = NULL;
    *released_tail = file;
    released_tail = &file->next;
    if (lazy)
        released_lazy++;
    else
        released_urgent = 1;
    update_pending();
}

void nc_released_forget(nc_file *file) {
    if (!file->queued) return;
    for (nc_file **link = &released_head; *link; link = &(*link)->next) {
        if (*link != file) continue;
        *link = file->next;
        if (!*link) released_tail = link;
        break;
    }
    file->queued = 0;
    if (!released_head) released_urgent = released_lazy = 0;
    update_pending();
}

int nc_released_take(uint64_t *ids, int max) {
    int n = 0;
    while (n < max && released_head) {
        nc_file *file = released_head;
        released_head = file->next;
        file->queued = 0;
        ids[n++] = file->id;
    }
    if (!released_head) {
        released_tail = &released_head;
        released_urgent = released_lazy = 0;
    }
    update_pending();
    return n;
}
