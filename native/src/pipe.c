/* Pipes and FIFOs (pipe(7)): a byte ring, and beside it what Linux's pages of a pipe would hold: parts of at most a page.
 *
 * A pipe is full when as many parts are in it as its capacity has pages, however few bytes they hold; a write that ends
 * inside a page leaves it open for the next one. That makes writes of up to PIPE_BUF bytes atomic and keeps the bounds of
 * O_DIRECT writes. Nothing here blocks: -EAGAIN is where the guest waits. Guest memory is copied straight to and from the
 * ring. */
#include "objects.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define DEFAULT_CAPACITY 65536u
#define MAX_CAPACITY (1u << 30)
#define IN (EPOLLIN | EPOLLRDNORM)
#define OUT (EPOLLOUT | EPOLLWRNORM)
#define OPENED (1u << 27) /* no event of epoll's: only wakes open(2) of a FIFO that waits for the other end */

nc_pipe *nc_pipe_new(void) {
    nc_pipe *pipe = calloc(1, sizeof *pipe);
    if (!pipe) return NULL;
    pipe->refs = 1;
    pipe->source.id = nc_new_id();
    pipe->capacity = DEFAULT_CAPACITY;
    return pipe;
}

void nc_pipe_get(nc_pipe *pipe) { pipe->refs++; }

int nc_pipe_put(nc_pipe *pipe) {
    if (--pipe->refs) return (int)pipe->refs;
    nc_source_forget(&pipe->source);
    free(pipe->buf);
    free(pipe->parts);
    free(pipe);
    return 0;
}

uint64_t nc_pipe_id(const nc_pipe *pipe) { return pipe->source.id; }

int nc_pipe_watch(nc_pipe *pipe, int on) {
    pipe->source.watched = on;
    return 0;
}

int nc_pipe_size(const nc_pipe *pipe) { return (int)pipe->capacity; }

int nc_pipe_used(const nc_pipe *pipe) { return (int)(pipe->tail - pipe->head); }

static uint32_t max_parts(const nc_pipe *pipe) { return pipe->capacity / NC_PAGE; }

static bool is_full(const nc_pipe *pipe) { return pipe->part_count >= max_parts(pipe); }

int nc_pipe_room(const nc_pipe *pipe) { return (int)((max_parts(pipe) - pipe->part_count) * NC_PAGE); }

int nc_pipe_ends(const nc_pipe *pipe, int which) {
    const uint32_t values[] = {pipe->readers, pipe->writers, pipe->r_counter, pipe->w_counter};
    return which >= 0 && which < 4 ? (int)values[which] : -EINVAL;
}

/* One description more. Its position (a pipe has none) keeps the count of opens by writers, if there is none now: a
 * FIFO that had no writer since is at its end, but not hung up. */
void nc_pipe_attach(nc_file *file) {
    nc_pipe *pipe = file->pipe;
    file->pos = pipe->writers ? -1 : (int64_t)pipe->w_counter;
    if (nc_readable(file)) {
        pipe->readers++;
        pipe->r_counter++;
    }
    if (nc_writable(file)) {
        pipe->writers++;
        pipe->w_counter++;
    }
    nc_source_wake(&pipe->source, OPENED);
}

void nc_pipe_detach(nc_file *file) {
    nc_pipe *pipe = file->pipe;
    if (nc_readable(file) && !--pipe->readers) nc_source_wake(&pipe->source, OUT | EPOLLERR);
    if (nc_writable(file) && !--pipe->writers) nc_source_wake(&pipe->source, IN | EPOLLHUP | EPOLLRDHUP);
}

/* Part number i of those not yet read. */
static struct nc_part *part_at(const nc_pipe *pipe, uint32_t i) {
    return &pipe->parts[(pipe->part_head + i) % max_parts(pipe)];
}

uint32_t nc_pipe_poll(const nc_file *file) {
    const nc_pipe *pipe = file->pipe;
    uint32_t mask = 0;
    if (nc_readable(file)) {
        if (pipe->tail != pipe->head) mask |= IN;
        if (!pipe->writers && file->pos != (int64_t)pipe->w_counter) mask |= EPOLLHUP;
    }
    if (nc_writable(file)) {
        if (!is_full(pipe)) mask |= OUT;
        if (!pipe->readers) mask |= EPOLLERR;
    }
    return mask;
}

int nc_pipe_resize(nc_pipe *pipe, uint32_t size) {
    if (size > MAX_CAPACITY) return -EINVAL;
    uint32_t capacity = NC_PAGE;
    while (capacity < size) capacity *= 2;
    if (pipe->part_count > capacity / NC_PAGE) return -EBUSY;
    if (pipe->buf) {
        uint64_t used = pipe->tail - pipe->head, offset = pipe->head % pipe->capacity, first = pipe->capacity - offset;
        char *buf = malloc(capacity);
        struct nc_part *parts = malloc(capacity / NC_PAGE * sizeof *parts);
        if (!buf || !parts) {
            free(buf);
            free(parts);
            return -ENOMEM;
        }
        if (first > used) first = used;
        memcpy(buf, pipe->buf + offset, first);
        memcpy(buf + first, pipe->buf, used - first);
        for (uint32_t i = 0; i < pipe->part_count; i++) parts[i] = *part_at(pipe, i);
        free(pipe->buf);
        free(pipe->parts);
        pipe->buf = buf;
        pipe->parts = parts;
        pipe->part_head = 0;
        pipe->head = 0;
        pipe->tail = used;
    }
    pipe->capacity = capacity;
    nc_source_wake(&pipe->source, OUT);
    return (int)capacity;
}

/* The ring's bytes at `at`, at most n of them, that lie together. */
static char *span(const nc_pipe *pipe, uint64_t at, uint64_t *n) {
    uint64_t offset = at % pipe->capacity;
    if (*n > pipe->capacity - offset) *n = pipe->capacity - offset;
    return pipe->buf + offset;
}

/* How many of the next `want` bytes one read gives: up to the end of the first packet. */
static uint64_t readable(const nc_pipe *pipe, uint64_t want) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < pipe->part_count && n < want; i++) {
        const struct nc_part *part = part_at(pipe, i);
        n += part->len < want - n ? part->len : want - n;
        if (part->packet) break;
    }
    return n;
}

/* Takes `want` bytes, of which `moved` were copied: parts whose copying faulted stay, and what a read leaves of a packet
 * is thrown away. Gives the bytes taken. */
static uint64_t take(nc_pipe *pipe, uint64_t want, uint64_t moved) {
    uint64_t taken = 0;
    bool was_full = is_full(pipe);
    while (taken < want) {
        struct nc_part *part = part_at(pipe, 0);
        uint32_t n = part->len < want - taken ? part->len : (uint32_t)(want - taken);
        if (n > moved - taken) break;
        taken += n;
        if (n == part->len || part->packet) {
            pipe->head += part->len;
            pipe->part_head = (pipe->part_head + 1) % max_parts(pipe);
            pipe->part_count--;
        } else {
            pipe->head += n;
            part->start += n;
            part->len -= n;
        }
    }
    if (pipe->head == pipe->tail) pipe->head = pipe->tail = 0; /* stay on pages that are in the cache */
    if (was_full && !is_full(pipe))
        nc_source_wake(&pipe->source, OUT);
    else if (pipe->signals)
        nc_source_wake(&pipe->source, NC_TAKEN);
    return taken;
}

int64_t nc_pipe_read(nc_pipe *pipe, struct nc_iter *to) {
    if (!to->left) return 0;
    if (!pipe->part_count) return pipe->writers ? -EAGAIN : 0;
    uint64_t want = readable(pipe, to->left), moved = 0;
    while (moved < want) {
        uint64_t n = want - moved;
        const char *from = span(pipe, pipe->head + moved, &n);
        size_t now = nc_copy_out(to, from, n);
        moved += now;
        if (now < n) break;
    }
    uint64_t taken = take(pipe, want, moved);
    return taken ? (int64_t)taken : -EFAULT;
}

int64_t nc_pipe_peek(const nc_pipe *pipe, void *buf, uint64_t n) {
    n = readable(pipe, n);
    for (uint64_t done = 0; done < n;) {
        uint64_t part = n - done;
        const char *from = span(pipe, pipe->head + done, &part);
        memcpy((char *)buf + done, from, part);
        done += part;
    }
    return (int64_t)n;
}

int64_t nc_pipe_discard(nc_pipe *pipe, uint64_t n) {
    n = readable(pipe, n);
    return (int64_t)take(pipe, n, n);
}

static uint64_t put_bytes(nc_pipe *pipe, struct nc_iter *from, uint64_t n) {
    uint64_t start = pipe->tail, end = start + n;
    while (pipe->tail < end) {
        uint64_t part = end - pipe->tail;
        char *to = span(pipe, pipe->tail, &part);
        size_t moved = nc_copy_in(from, to, part);
        pipe->tail += moved;
        if (moved < part) break;
    }
    return pipe->tail - start;
}

/* The part that the odd bytes of a write of n, those beyond its whole pages, go into; NULL: they need one of their own. */
static struct nc_part *open_part(const nc_pipe *pipe, uint64_t n) {
    uint64_t odd = n % NC_PAGE;
    if (!odd || !pipe->part_count) return NULL;
    struct nc_part *last = part_at(pipe, pipe->part_count - 1);
    return last->open && last->start + last->len + odd <= NC_PAGE ? last : NULL;
}

bool nc_pipe_fits(const nc_pipe *pipe, uint64_t n) {
    if (open_part(pipe, n)) n -= n % NC_PAGE;
    return n <= (uint64_t)nc_pipe_room(pipe);
}

static void add_part(nc_pipe *pipe, uint32_t len, bool packet, bool open) {
    *part_at(pipe, pipe->part_count) = (struct nc_part){.len = len, .packet = packet, .open = open};
    pipe->part_count++;
}

static bool has_memory(nc_pipe *pipe) {
    if (!pipe->buf) pipe->buf = malloc(pipe->capacity);
    if (!pipe->parts) pipe->parts = malloc(max_parts(pipe) * sizeof *pipe->parts);
    return pipe->buf && pipe->parts;
}

/* anon_pipe_write(): first the odd bytes are added to the last page, if they fit; then pages of their own are filled. */
int64_t nc_pipe_write(nc_pipe *pipe, struct nc_iter *from, bool packets) {
    if (!from->left) return 0;
    if (!pipe->readers) return -EPIPE;
    if (!has_memory(pipe)) return -ENOMEM;
    uint64_t total = 0;
    struct nc_part *last = open_part(pipe, from->left);
    if (last) {
        uint64_t odd = from->left % NC_PAGE, put = put_bytes(pipe, from, odd);
        if (put < odd) {
            pipe->tail -= put;
            return -EFAULT;
        }
        last->len += (uint32_t)odd;
        total = odd;
    }
    uint64_t room = (uint64_t)nc_pipe_room(pipe), n = from->left < room ? from->left : room;
    if (n) {
        uint64_t put = put_bytes(pipe, from, n);
        if (put < n) { /* the page whose copying faults is thrown away */
            uint64_t lost = put % NC_PAGE;
            pipe->tail -= lost;
            put -= lost;
        }
        for (uint64_t left = put; left; left -= left < NC_PAGE ? left : NC_PAGE)
            add_part(pipe, left < NC_PAGE ? (uint32_t)left : NC_PAGE, packets, !packets);
        total += put;
        if (!total) return -EFAULT;
    }
    if (!total) return -EAGAIN;
    nc_source_wake(&pipe->source, IN);
    return (int64_t)total;
}

/* tee(2): copies parts without taking them; nothing is added to them later. */
int64_t nc_pipe_tee(nc_pipe *from, nc_pipe *to, uint64_t n) {
    if (!to->readers) return -EPIPE;
    if (!from->part_count) return from->writers ? -EAGAIN : 0;
    if (is_full(to)) return -EAGAIN;
    if (!has_memory(to)) return -ENOMEM;
    uint64_t total = 0;
    for (uint32_t i = 0; i < from->part_count && total < n && !is_full(to); i++) {
        const struct nc_part *part = part_at(from, i);
        uint64_t len = part->len < n - total ? part->len : n - total, first = len;
        char *start = span(from, from->head + total, &first);
        struct nc_iov iov[2] = {{(uintptr_t)start, first}, {(uintptr_t)from->buf, len - first}};
        struct nc_iter it;
        nc_iter_init(&it, 0, iov, 2);
        put_bytes(to, &it, len);
        add_part(to, (uint32_t)len, part->packet, false);
        total += len;
    }
    nc_source_wake(&to->source, IN);
    return (int64_t)total;
}
