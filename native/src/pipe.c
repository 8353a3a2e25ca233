/* Pipes and FIFOs: a byte ring; writes of up to PIPE_BUF bytes are atomic; O_DIRECT writes keep their bounds (pipe(7)).
 *
 * Nothing here blocks: -EAGAIN is where the guest waits. Guest memory is copied straight to and from the ring. */
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
    free(pipe->packets);
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

uint64_t nc_pipe_room(const nc_pipe *pipe) { return pipe->capacity - (pipe->tail - pipe->head); }

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

static uint32_t max_packets(const nc_pipe *pipe) { return pipe->capacity / NC_PAGE; }

static bool full_of_packets(const nc_pipe *pipe) { return pipe->packet_count >= max_packets(pipe); }

static struct nc_packet *packet(const nc_pipe *pipe, uint32_t i) {
    return &pipe->packets[(pipe->packet_head + i) % max_packets(pipe)];
}

/* Linux has a writer ready when a whole page of the ring is free. */
static bool is_writable(const nc_pipe *pipe) { return nc_pipe_room(pipe) >= PIPE_BUF && !full_of_packets(pipe); }

uint32_t nc_pipe_poll(const nc_file *file) {
    const nc_pipe *pipe = file->pipe;
    uint32_t mask = 0;
    if (nc_readable(file)) {
        if (pipe->tail != pipe->head) mask |= IN;
        if (!pipe->writers && file->pos != (int64_t)pipe->w_counter) mask |= EPOLLHUP;
    }
    if (nc_writable(file)) {
        if (is_writable(pipe)) mask |= OUT;
        if (!pipe->readers) mask |= EPOLLERR;
    }
    return mask;
}

int nc_pipe_resize(nc_pipe *pipe, uint32_t size) {
    if (size > MAX_CAPACITY) return -EINVAL;
    uint32_t capacity = NC_PAGE;
    while (capacity < size) capacity *= 2;
    uint64_t used = pipe->tail - pipe->head;
    if (used > capacity || pipe->packet_count > capacity / NC_PAGE) return -EBUSY;
    if (pipe->buf) {
        char *buf = malloc(capacity);
        if (!buf) return -ENOMEM;
        uint64_t offset = pipe->head % pipe->capacity, first = pipe->capacity - offset;
        if (first > used) first = used;
        memcpy(buf, pipe->buf + offset, first);
        memcpy(buf + first, pipe->buf, used - first);
        free(pipe->buf);
        pipe->buf = buf;
    }
    if (pipe->packets) {
        struct nc_packet *packets = malloc(capacity / NC_PAGE * sizeof *packets);
        if (!packets) return -ENOMEM;
        for (uint32_t i = 0; i < pipe->packet_count; i++) {
            packets[i] = *packet(pipe, i);
            packets[i].start -= pipe->head;
            packets[i].end -= pipe->head;
        }
        free(pipe->packets);
        pipe->packets = packets;
        pipe->packet_head = 0;
    }
    pipe->head = 0;
    pipe->tail = used;
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

/* Where the next read ends at most: packets and the bytes between them are read apart. */
static uint64_t read_limit(const nc_pipe *pipe, bool *one_packet) {
    *one_packet = false;
    if (!pipe->packet_count) return pipe->tail;
    const struct nc_packet *first = packet(pipe, 0);
    *one_packet = first->start == pipe->head;
    return *one_packet ? first->end : first->start;
}

/* Something was taken: of a packet, what was not is thrown away. */
static void taken(nc_pipe *pipe, uint64_t end, bool one_packet) {
    if (one_packet) {
        pipe->head = end;
        pipe->packet_head = (pipe->packet_head + 1) % max_packets(pipe);
        pipe->packet_count--;
    }
    if (pipe->head == pipe->tail) pipe->head = pipe->tail = 0; /* stay on pages that are in the cache */
    nc_source_wake(&pipe->source, OUT);
}

int64_t nc_pipe_read(nc_pipe *pipe, struct nc_iter *to) {
    if (!to->left) return 0;
    if (pipe->head == pipe->tail) return pipe->writers ? -EAGAIN : 0;
    bool one_packet;
    uint64_t end = read_limit(pipe, &one_packet), start = pipe->head;
    while (pipe->head < end && to->left) {
        uint64_t n = end - pipe->head;
        if (n > to->left) n = to->left;
        const char *from = span(pipe, pipe->head, &n);
        size_t moved = nc_copy_out(to, from, n);
        pipe->head += moved;
        if (moved < n) break;
    }
    int64_t got = (int64_t)(pipe->head - start);
    if (!got) return -EFAULT;
    taken(pipe, end, one_packet);
    return got;
}

int64_t nc_pipe_peek(const nc_pipe *pipe, void *buf, uint64_t n) {
    bool one_packet;
    uint64_t end = read_limit(pipe, &one_packet), at = pipe->head;
    if (n > end - at) n = end - at;
    for (uint64_t done = 0; done < n;) {
        uint64_t part = n - done;
        const char *from = span(pipe, at + done, &part);
        memcpy((char *)buf + done, from, part);
        done += part;
    }
    return (int64_t)n;
}

int64_t nc_pipe_discard(nc_pipe *pipe, uint64_t n) {
    bool one_packet;
    uint64_t end = read_limit(pipe, &one_packet);
    if (n > end - pipe->head) n = end - pipe->head;
    if (!n) return 0;
    pipe->head += n;
    taken(pipe, end, one_packet);
    return (int64_t)n;
}

static int64_t put_bytes(nc_pipe *pipe, struct nc_iter *from, uint64_t n) {
    uint64_t start = pipe->tail, end = start + n;
    while (pipe->tail < end) {
        uint64_t part = end - pipe->tail;
        char *to = span(pipe, pipe->tail, &part);
        size_t moved = nc_copy_in(from, to, part);
        pipe->tail += moved;
        if (moved < part) break;
    }
    return (int64_t)(pipe->tail - start);
}

/* Each at most a page, and a packet of its own. */
static int64_t put_packets(nc_pipe *pipe, struct nc_iter *from) {
    int64_t total = 0;
    if (!pipe->packets) pipe->packets = malloc(max_packets(pipe) * sizeof *pipe->packets);
    if (!pipe->packets) return -ENOMEM;
    while (from->left) {
        uint64_t n = from->left < PIPE_BUF ? from->left : PIPE_BUF, start = pipe->tail;
        if (full_of_packets(pipe) || nc_pipe_room(pipe) < n) return total ? total : -EAGAIN;
        int64_t put = put_bytes(pipe, from, n);
        if (put) {
            *packet(pipe, pipe->packet_count) = (struct nc_packet){start, pipe->tail};
            pipe->packet_count++;
            total += put;
        }
        if ((uint64_t)put < n) return total ? total : -EFAULT;
    }
    return total;
}

int64_t nc_pipe_write(nc_pipe *pipe, struct nc_iter *from, bool packets) {
    if (!from->left) return 0;
    if (!pipe->readers) return -EPIPE;
    if (!pipe->buf) pipe->buf = malloc(pipe->capacity);
    if (!pipe->buf) return -ENOMEM;
    int64_t put;
    if (packets) {
        put = put_packets(pipe, from);
    } else {
        uint64_t room = nc_pipe_room(pipe), n = from->left;
        if (full_of_packets(pipe) || !room || (n > room && n <= PIPE_BUF)) return -EAGAIN;
        if (n > room) n = room;
        put = put_bytes(pipe, from, n);
        if ((uint64_t)put < n) { /* Linux fills page by page, and throws the one away whose copy faults */
            int64_t lost = put % NC_PAGE;
            pipe->tail -= (uint64_t)lost;
            put -= lost;
        }
        if (!put) return -EFAULT;
    }
    if (put > 0) nc_source_wake(&pipe->source, IN);
    return put;
}

/* tee(2): copies without taking. */
int64_t nc_pipe_tee(nc_pipe *from, nc_pipe *to, uint64_t n) {
    uint64_t used = from->tail - from->head;
    if (!to->readers) return -EPIPE;
    if (!used) return from->writers ? -EAGAIN : 0;
    if (n > used) n = used;
    uint64_t first = n;
    char *start = span(from, from->head, &first);
    struct nc_iov iov[2] = {{(uintptr_t)start, first}, {(uintptr_t)from->buf, n - first}};
    struct nc_iter it;
    nc_iter_init(&it, 0, iov, 2);
    uint64_t room = nc_pipe_room(to);
    if (!room) return -EAGAIN;
    if (it.left > room) it.left = room;
    return nc_pipe_write(to, &it, false);
}
