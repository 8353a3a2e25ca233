/* Host sockets as the sentry uses them on a guest's behalf (sentry/net/inet.py, netlink.py): never blocking, addresses
 * as raw bytes, -errno on failure. Which calls and options a guest may reach is checked in Python. */
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core.h"

#define RESULT(call)                                                                                                   \
    ({                                                                                                                 \
        __typeof__(call) result_ = (call);                                                                             \
        result_ < 0 ? -errno : result_;                                                                                \
    })

int nc_sock_open(int domain, int type, int protocol) {
    return RESULT(socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
}

int nc_sock_close(int host_fd) { return RESULT(close(host_fd)); }

int nc_sock_bind(int host_fd, const void *addr, uint32_t len) { return RESULT(bind(host_fd, addr, len)); }

int nc_sock_connect(int host_fd, const void *addr, uint32_t len) { return RESULT(connect(host_fd, addr, len)); }

int nc_sock_listen(int host_fd, int backlog) { return RESULT(listen(host_fd, backlog)); }

int nc_sock_accept(int host_fd, void *addr, uint32_t *len) {
    return RESULT(accept4(host_fd, addr, len, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

int nc_sock_name(int host_fd, int peer, void *addr, uint32_t *len) {
    return peer ? RESULT(getpeername(host_fd, addr, len)) : RESULT(getsockname(host_fd, addr, len));
}

int nc_sock_shutdown(int host_fd, int how) { return RESULT(shutdown(host_fd, how)); }

int nc_sock_setopt(int host_fd, int level, int name, const void *value, uint32_t len) {
    return RESULT(setsockopt(host_fd, level, name, value, len));
}

int nc_sock_getopt(int host_fd, int level, int name, void *value, uint32_t *len) {
    return RESULT(getsockopt(host_fd, level, name, value, len));
}

int nc_sock_ioctl(int host_fd, uint64_t cmd, void *arg) { return RESULT(ioctl(host_fd, cmd, arg)); }

int nc_sock_poll(int host_fd) {
    struct pollfd one = {.fd = host_fd, .events = POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM | POLLRDBAND |
                                                 POLLWRNORM | POLLWRBAND};
    int n = poll(&one, 1, 0);
    return n < 0 ? -errno : n ? one.revents : 0;
}

int64_t nc_sock_send(int host_fd, const void *data, uint64_t n, int flags, const void *addr, uint32_t addr_len,
                     const void *control, uint64_t control_len) {
    flags |= MSG_DONTWAIT | MSG_NOSIGNAL;
    if (!addr && !control) return RESULT(send(host_fd, data, n, flags));
    struct iovec vec = {(void *)data, n};
    struct msghdr msg = {
        .msg_name = (void *)addr,
        .msg_namelen = addr_len,
        .msg_iov = &vec,
        .msg_iovlen = 1,
        .msg_control = (void *)control,
        .msg_controllen = control_len,
    };
    return RESULT(sendmsg(host_fd, &msg, flags));
}

int64_t nc_sock_recv(int host_fd, void *data, uint64_t n, int flags, struct nc_recv *out) {
    struct iovec vec = {data, n};
    struct msghdr msg = {
        .msg_name = out->addr,
        .msg_namelen = sizeof out->addr,
        .msg_iov = &vec,
        .msg_iovlen = 1,
        .msg_control = out->control,
        .msg_controllen = sizeof out->control,
    };
    ssize_t got = recvmsg(host_fd, &msg, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0) return -errno;
    out->addr_len = msg.msg_namelen;
    out->control_len = (uint32_t)msg.msg_controllen;
    out->flags = msg.msg_flags;
    return got;
}

/* Sets IFF_UP on an interface of the namespace this process is in; needs CAP_NET_ADMIN there. */
int nc_sock_interface_up(const char *name) {
    int host_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (host_fd < 0) return -errno;
    struct ifreq request = {0};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    int result = RESULT(ioctl(host_fd, SIOCGIFFLAGS, &request));
    if (!result) {
        request.ifr_flags |= IFF_UP | IFF_RUNNING;
        result = RESULT(ioctl(host_fd, SIOCSIFFLAGS, &request));
    }
    close(host_fd);
    return result;
}
