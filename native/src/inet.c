/* Inet sockets: the host's, and what an edge-triggered epoll has been told of each (sentry/net/inet.py: HostQueue); and the
 * data calls on streams. Nothing here blocks: -EAGAIN is where the guest waits. */
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "call.h"

#define AT_ONCE (1u << 18) /* bytes in one call: a longer write is Python's, a longer read a partial one */

nc_inet *nc_inet_new(int host_fd) {
    nc_inet *inet = calloc(1, sizeof *inet);
    if (!inet) return NULL;
    inet->refs = 1;
    inet->host_fd = host_fd;
    return inet;
}

void nc_inet_get(nc_inet *inet) { inet->refs++; }

int nc_inet_put(nc_inet *inet) {
    if (--inet->refs) return (int)inet->refs;
    free(inet);
    return 0;
}

int nc_inet_close(nc_inet *inet) {
    int host_fd = inet->host_fd;
    inet->host_fd = -1;
    return host_fd < 0 ? -EBADF : nc_sock_close(host_fd);
}

int nc_inet_set_slow(nc_inet *inet, int on) {
    inet->slow = on;
    return 0;
}

/* ---- readiness ---- */

int nc_inet_starved(nc_inet *inet, uint32_t events) {
    inet->known &= ~events;
    return 0;
}

uint32_t nc_inet_fresh(nc_inet *inet, uint32_t events) {
    uint32_t fresh = events & ~inet->known;
    inet->known = (inet->known | events) & EPOLLOUT;
    return fresh;
}

int nc_inet_know(nc_inet *inet) {
    inet->known = nc_inet_poll(inet);
    return 0;
}

uint32_t nc_inet_poll(nc_inet *inet) {
    int events = nc_sock_poll(inet->host_fd);
    if (events < 0) return 0;
    if (!(events & EPOLLOUT)) nc_inet_starved(inet, EPOLLOUT);
    return (uint32_t)events;
}

/* ---- data ---- */

static char space[AT_ONCE]; /* one thread */

int64_t nc_inet_read(const struct call *call, nc_file *file, struct nc_iter *to, int flags) {
    nc_inet *inet = file->inet;
    if (inet->slow || inet->host_fd < 0) return PYTHON;
    ssize_t got = recv(inet->host_fd, space, to->left < AT_ONCE ? to->left : AT_ONCE, MSG_DONTWAIT);
    if (got < 0) {
        if (errno != EAGAIN) return -errno;
        nc_inet_starved(inet, EPOLLIN | EPOLLPRI);
        return (file->flags & O_NONBLOCK) || (flags & MSG_DONTWAIT) ? -EAGAIN : PYTHON;
    }
    size_t put = nc_copy_out(to, space, (size_t)got);
    return put || !got ? (int64_t)put : -EFAULT;
}

int64_t nc_inet_write(const struct call *call, nc_file *file, struct nc_iter *from, int flags) {
    nc_inet *inet = file->inet;
    size_t n = from->left;
    if (inet->slow || inet->host_fd < 0 || n > AT_ONCE) return PYTHON;
    if (nc_copy_in(from, space, n) < n) return PYTHON; /* a fault */
    ssize_t put = send(inet->host_fd, space, n, MSG_DONTWAIT | MSG_NOSIGNAL | (flags & MSG_MORE));
    if (put < 0 && errno != EAGAIN) return errno == EPIPE ? PYTHON : -errno; /* SIGPIPE */
    if (put == (ssize_t)n) return put;
    nc_inet_starved(inet, EPOLLOUT);
    if ((file->flags & O_NONBLOCK) || (flags & MSG_DONTWAIT)) return put < 0 ? -EAGAIN : put;
    call->task->sent = put < 0 ? 0 : (uint32_t)put; /* Python waits for room, and sends the rest */
    return PYTHON;
}

/* ---- the calls of sockets alone ---- */

static nc_file *stream(const struct call *call) {
    nc_file *file = open_file(call);
    return file && file->kind == NC_INET ? file : NULL;
}

static int64_t sys_recvfrom(const struct call *call) {
    nc_file *file = stream(call);
    int flags = (int)call->args[3];
    if (!file || flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL) || call->args[4]) return PYTHON;
    struct nc_iov iov = {call->args[1], call->args[2]};
    struct nc_iter it;
    return nc_iter_init(&it, call->task->tid, &iov, 1) ? PYTHON : nc_inet_read(call, file, &it, flags);
}

#define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE)

static int64_t sys_sendto(const struct call *call) {
    nc_file *file = stream(call);
    int flags = (int)call->args[3];
    if (!file || flags & ~SEND_FLAGS || call->args[4]) return PYTHON;
    struct nc_iov iov = {call->args[1], call->args[2]};
    struct nc_iter it;
    return nc_iter_init(&it, call->task->tid, &iov, 1) ? PYTHON : nc_inet_write(call, file, &it, flags);
}

static int64_t sys_sendmsg(const struct call *call) {
    nc_file *file = stream(call);
    int flags = (int)call->args[2];
    if (!file || flags & ~SEND_FLAGS) return PYTHON;
    struct msghdr header;
    if (nc_read_mem(call->task->tid, call->args[1], &header, sizeof header) != sizeof header) return -EFAULT;
    if (header.msg_name || header.msg_controllen) return PYTHON;
    struct nc_iter it;
    int64_t error = nc_read_iov(call, (uint64_t)(uintptr_t)header.msg_iov, header.msg_iovlen, &it);
    return error ? PYTHON : nc_inet_write(call, file, &it, flags);
}

int64_t nc_inet_call(const struct call *call, int nr) {
    switch (nr) {
    case SYS_recvfrom: return sys_recvfrom(call);
    case SYS_sendto: return sys_sendto(call);
    case SYS_sendmsg: return sys_sendmsg(call);
    }
    return nc_path_call(call, nr);
}
