/* Host file calls that Python's os module lacks or makes slowly, for the gofer; and one exchange over its socket, for the
 * sentry (gofer/client.py). */
#include "core.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int nc_host_open(int dirfd, const char *name, int flags, uint32_t mode, uint64_t resolve) {
    struct open_how how = {.flags = (uint32_t)(flags | O_CLOEXEC), .mode = mode, .resolve = resolve};
    for (;;) {
        long fd = syscall(SYS_openat2, dirfd, name, &how, sizeof how);
        if (fd >= 0) return (int)fd;
        if (errno != EAGAIN && errno != EINTR) return -errno; /* EAGAIN: a rename raced with RESOLVE_BENEATH */
    }
}

/* Basic attributes, birth time and mount id, of the descriptor itself or of one name beneath it. */
int nc_host_statx(int dirfd, const char *name, void *out) {
    int flags = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
    return statx(dirfd, name, flags, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, out) ? -errno : 0;
}

int nc_host_getdents(int fd, void *out, uint32_t size) {
    long count = syscall(SYS_getdents64, fd, out, size);
    return count < 0 ? -errno : (int)count;
}

int nc_host_rename(int olddir, const char *old, int newdir, const char *new, unsigned flags) {
    return renameat2(olddir, old, newdir, new, flags) ? -errno : 0;
}

/* valid: as protocol.py's SET_* from SET_MODE on, but for the size. Applied to descriptor `fd` by its name in `self_fd`. */
int nc_host_setattr(int self_fd, int fd, uint32_t valid, uint32_t mode, uint32_t uid, uint32_t gid,
                    const struct nc_host_times *times) {
    char name[16];
    snprintf(name, sizeof name, "%d", fd);
    if (valid & 6 && fchownat(self_fd, name, valid & 2 ? uid : (uid_t)-1, valid & 4 ? gid : (gid_t)-1, 0)) return -errno;
    if (valid & 1 && fchmodat(self_fd, name, mode & 07777, 0)) return -errno;
    if (valid & ~15u) {
        struct timespec both[2] = {{times->atime_s, times->atime_ns}, {times->mtime_s, times->mtime_ns}};
        if (utimensat(self_fd, name, both, 0)) return -errno;
    }
    return 0;
}

int nc_exchange(int fd, const void *message, uint32_t len, void *reply, uint32_t size, int32_t *donated) {
    *donated = -1;
    if (send(fd, message, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return errno == EAGAIN ? NC_NOT_SENT : -errno;
    struct iovec part = {reply, size};
    char control[CMSG_SPACE(sizeof(int))];
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got;
    do
        got = recvmsg(fd, &head, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0) return -errno;
    struct cmsghdr *found = CMSG_FIRSTHDR(&head);
    if (found && found->cmsg_type == SCM_RIGHTS) memcpy(donated, CMSG_DATA(found), sizeof *donated);
    return (int)got;
}
