/* eventfd(2): a counter that is waited on. Nothing blocks here: -EAGAIN is where the guest waits. */
#include "objects.h"

#include <stdlib.h>
#include <sys/epoll.h>

nc_eventfd *nc_eventfd_new(uint64_t count, int semaphore) {
    nc_eventfd *event = calloc(1, sizeof *event);
    if (!event) return NULL;
    event->refs = 1;
    event->source.id = nc_new_id();
    event->count = count;
    event->semaphore = semaphore;
    return event;
}

void nc_eventfd_get(nc_eventfd *event) { event->refs++; }

int nc_eventfd_put(nc_eventfd *event) {
    if (--event->refs) return (int)event->refs;
    nc_source_forget(&event->source);
    free(event);
    return 0;
}

uint64_t nc_eventfd_id(const nc_eventfd *event) { return event->source.id; }

uint64_t nc_eventfd_count(const nc_eventfd *event) { return event->count; }

int nc_eventfd_watch(nc_eventfd *event, int on) {
    event->source.watched = on;
    return 0;
}

int64_t nc_eventfd_read(nc_eventfd *event, struct nc_iter *to) {
    uint64_t value = event->semaphore ? 1 : event->count;
    if (to->left < sizeof value) return -EINVAL;
    if (!event->count) return -EAGAIN;
    /* Linux takes the count first and loses it at a fault; keeping it then is kinder and nobody can tell. */
    if (nc_copy_out(to, &value, sizeof value) < sizeof value) return -EFAULT;
    event->count -= value;
    nc_source_wake(&event->source, EPOLLOUT);
    return sizeof value;
}

int64_t nc_eventfd_write(nc_eventfd *event, struct nc_iter *from) {
    uint64_t value;
    if (from->left < sizeof value) return -EINVAL;
    if (nc_copy_in(from, &value, sizeof value) < sizeof value) return -EFAULT;
    if (value == UINT64_MAX) return -EINVAL;
    if (value > UINT64_MAX - 1 - event->count) return -EAGAIN;
    event->count += value;
    nc_source_wake(&event->source, EPOLLIN);
    return sizeof value;
}

uint32_t nc_eventfd_poll(const nc_eventfd *event) {
    uint32_t mask = 0;
    if (event->count) mask |= EPOLLIN;
    if (event->count == UINT64_MAX) mask |= EPOLLERR;
    if (event->count < UINT64_MAX - 1) mask |= EPOLLOUT;
    return mask;
}
