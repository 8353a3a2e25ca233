/* The calls answered without Python: those of the hot objects, when nothing has to wait and nothing is odd (call.h). */
#include "call.h"

#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_IOV 1024
#define MAX_POLL 256

/* ---- reading and writing ---- */

static int64_t would_block(const nc_file *file, int64_t result) {
    return result == -EAGAIN && !(file->flags & O_NONBLOCK) ? PYTHON : result;
}

int nc_watched;
static int reads_watched;

int nc_set_watched(int on, int reads) {
    nc_watched = on;
    reads_watched = reads;
    return 0;
}

static int64_t do_read(const struct call *call, nc_file *file, struct nc_iter *to, int64_t offset) {
    if (file->kind == NC_INET) return to->left ? nc_inet_read(call, file, to, 0) : 0;
    if (reads_watched && file->kind == NC_REG) return PYTHON;
    return would_block(file, nc_read_iter(file, to, offset, 0));
}

bool nc_write_is_python(const struct call *call, const nc_file *file) {
    return call->fdt->fsize || nc_watched || nc_has_privs(file->inode);
}

/* A write for which the file system must first look whether there is room. */
static bool beyond_grant(const nc_file *file, const struct nc_iter *from, int64_t offset) {
    uint64_t grant = file->inode->grant;
    if (grant == UINT64_MAX) return false;
    uint64_t at = (uint64_t)(offset == NC_AT_POS ? file->pos : offset);
    return (file->flags & O_APPEND) || at > grant || from->left > grant - at;
}

static int64_t do_write(const struct call *call, nc_file *file, struct nc_iter *from, int64_t offset) {
    if (file->kind == NC_INET) return nc_inet_write(call, file, from, 0);
    if (file->kind == NC_REG) {
        if (nc_write_is_python(call, file)) return PYTHON;
        if (beyond_grant(file, from, offset)) return PYTHON;
    } else if (file->kind != NC_EVENTFD && nc_writable(file)) {
        if (!file->pipe->readers) return PYTHON; /* SIGPIPE */
        /* A blocking write puts everything: in one go, or else Python waits between the parts. */
        bool wait = !(file->flags & O_NONBLOCK);
        if (wait && !nc_pipe_fits(file->pipe, from->left)) return PYTHON;
    }
    int64_t put = nc_write_iter(file, from, offset, 0);
    return put == -EPIPE ? PYTHON : would_block(file, put);
}

/* What every data call checks before it looks at its buffer: 0, -errno or PYTHON. The order is Linux's. */
static int64_t begin(const struct call *call, bool writing, bool positioned, nc_file **out, int64_t *offset) {
    *offset = positioned ? (int64_t)call->args[3] : NC_AT_POS; /* preadv's pos_h is shifted out on 64-bit machines */
    if (positioned && *offset < 0) return -EINVAL;
    nc_file *file = *out = open_file(call);
    if (!file) return -EBADF;
    if (file->kind == NC_PY) return PYTHON;
    if (positioned && file->kind != NC_REG) return -ESPIPE;
    return (writing ? nc_writable(file) : nc_readable(file)) ? 0 : -EBADF;
}

static int64_t rw(const struct call *call, bool writing, bool positioned) {
    nc_file *file;
    int64_t offset, error = begin(call, writing, positioned, &file, &offset);
    if (error) return error;
    struct nc_iov iov = {call->args[1], call->args[2]};
    if ((int64_t)iov.len < 0) return -EFAULT; /* access_ok() comes before the check of the sign */
    struct nc_iter it;
    if ((error = nc_iter_init(&it, call->task->tid, &iov, 1))) return error;
    return writing ? do_write(call, file, &it, offset) : do_read(call, file, &it, offset);
}

int64_t nc_read_iov(const struct call *call, uint64_t addr, uint64_t n, struct nc_iter *it) {
    static struct nc_iov iov[MAX_IOV]; /* one thread */
    if (n > MAX_IOV) return -EINVAL;
    int64_t size = (int64_t)(n * sizeof iov[0]);
    if (nc_read_mem(call->task->tid, addr, iov, (uint64_t)size) != size) return -EFAULT;
    return nc_iter_init(it, call->task->tid, iov, (int)n);
}

static int64_t rwv(const struct call *call, bool writing, bool positioned) {
    nc_file *file;
    int64_t offset, error = begin(call, writing, positioned, &file, &offset);
    if (error) return error;
    struct nc_iter it;
    if ((error = nc_read_iov(call, call->args[1], (uint32_t)call->args[2], &it))) return error; /* the kernel's own cast */
    if (!it.left) return 0;
    return writing ? do_write(call, file, &it, offset) : do_read(call, file, &it, offset);
}

static int64_t sys_lseek(const struct call *call) {
    nc_file *file = open_file(call);
    if (!file) return -EBADF;
    if (file->kind == NC_PY) return PYTHON;
    return nc_file_seek(file, (int64_t)call->args[1], (int)call->args[2]);
}

/* Advice, which is heard and not followed. */
static int64_t sys_fadvise64(const struct call *call) {
    nc_file *file = open_file(call);
    if (!file || file->kind != NC_REG || (int64_t)call->args[2] < 0) return PYTHON;
    return (uint32_t)call->args[3] <= POSIX_FADV_NOREUSE ? 0 : PYTHON;
}

static int64_t sys_fstat(const struct call *call) {
    nc_file *file = file_at(call, (int)call->args[0]);
    return file ? nc_stat_file(call, file, call->args[1]) : -EBADF;
}

/* ---- descriptors ---- */

static int64_t sys_close(const struct call *call) {
    if (call->fdt->locks) return PYTHON;
    int fd = (int)call->args[0];
    int closed = nc_fdt_close(call->fdt, fd);
    if (closed <= 0) return closed;
    return nc_fdt_uninject(call->fdt, call->id, fd) ? 0 : HOST;
}

static int64_t sys_dup(const struct call *call) {
    nc_file *file = file_at(call, (int)call->args[0]);
    return file ? nc_fdt_install(call->fdt, file, 0, 0) : -EBADF;
}

static int64_t dup_to(const struct call *call, int cloexec) {
    nc_file *file = file_at(call, (int)call->args[0]);
    int fd = (int)call->args[1];
    if (fd < 0 || fd >= call->fdt->limit || !file) return -EBADF;
    if (call->fdt->locks && file_at(call, fd)) return PYTHON;
    return nc_fdt_install_at(call->fdt, fd, file, cloexec);
}

static int64_t sys_dup2(const struct call *call) {
    if ((int)call->args[0] != (int)call->args[1]) return dup_to(call, 0);
    return file_at(call, (int)call->args[0]) ? (int)call->args[0] : -EBADF;
}

static int64_t sys_dup3(const struct call *call) {
    int flags = (int)call->args[2];
    if ((flags & ~O_CLOEXEC) || (int)call->args[0] == (int)call->args[1]) return -EINVAL;
    return dup_to(call, flags & O_CLOEXEC);
}

static int64_t set_flags(nc_file *file, int flags) {
    if (file->kind == NC_PY || file->kind == NC_INET) return PYTHON; /* who has the flags too */
    /* The rest asks for checks (O_NOATIME, O_DIRECT on regular files, O_ASYNC). */
    if ((flags ^ file->flags) & (O_ASYNC | O_DIRECT | O_NOATIME)) return PYTHON;
    return nc_file_set_flags(file, flags);
}

static int64_t sys_fcntl(const struct call *call) {
    int fd = (int)call->args[0], cmd = (int)call->args[1];
    nc_file *file = file_at(call, fd);
    if (!file) return -EBADF;
    switch (cmd) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC: return nc_fdt_install(call->fdt, file, cmd == F_DUPFD_CLOEXEC, (int)call->args[2]);
    case F_GETFD: return nc_fdt_cloexec(call->fdt, fd, -1);
    case F_SETFD: nc_fdt_cloexec(call->fdt, fd, call->args[2] & FD_CLOEXEC); return 0;
    case F_GETFL: return file->flags;
    case F_SETFL: return file->flags & O_PATH ? -EBADF : set_flags(file, (int)call->args[2]);
    }
    return PYTHON;
}

/* isatty(3), which language runtimes ask of every file they open; and two that need no object. */
static int64_t sys_ioctl(const struct call *call) {
    nc_file *file = open_file(call);
    if (!file) return -EBADF;
    switch ((uint32_t)call->args[1]) {
    case TCGETS: return file->kind == NC_PY ? PYTHON : -ENOTTY;
    case FIOCLEX: nc_fdt_cloexec(call->fdt, (int)call->args[0], 1); return 0;
    case FICLONE: return nc_clone(call, file);
    case FIONCLEX: nc_fdt_cloexec(call->fdt, (int)call->args[0], 0); return 0;
    }
    return PYTHON;
}

/* ---- mmap ---- */

/* Arguments are in registers, so what is checked here is what the host does after CONTINUE: it maps the injected file,
 * which was opened with no more rights than these checks allow to a mapping. */
static int64_t sys_mmap(const struct call *call) {
    int prot = (int)call->args[2], flags = (int)call->args[3], fd = (int)call->args[4];
    if (flags & MAP_ANONYMOUS) return flags & MAP_HUGETLB ? PYTHON : HOST;
    nc_file *file = file_at(call, fd);
    if (!file || (file->flags & O_PATH)) return -EBADF;
    if (file->kind != NC_REG) return PYTHON;
    int type = flags & MAP_TYPE;
    bool shared = type == MAP_SHARED || type == MAP_SHARED_VALIDATE;
    if (!shared && type != MAP_PRIVATE) return -EINVAL;
    if (shared && (prot & PROT_WRITE) && !nc_writable(file)) return -EACCES;
    if (!nc_readable(file)) return -EACCES;
    if (file->noexec) return prot & PROT_EXEC ? -EPERM : PYTHON;
    /* A shared mapping may be made writable later: only a description open for writing gives the writable one. */
    int host_fd = file->inode->host_ro;
    if (nc_writable(file) && (shared || host_fd < 0)) host_fd = file->inode->host_rw;
    if (host_fd < 0) return PYTHON;
    int error = nc_fdt_inject(call->fdt, call->id, host_fd, fd);
    return error ? PYTHON : HOST;
}

/* ---- poll ---- */

/* Linux writes the revents members only; the others may be in use by other threads. */
static bool write_revents(int tid, uint64_t addr, const struct pollfd *fds, int n) {
    uint16_t revents[MAX_POLL];
    struct nc_iov iov[MAX_POLL];
    for (int i = 0; i < n; i++) {
        revents[i] = (uint16_t)fds[i].revents;
        iov[i] = (struct nc_iov){addr + (uint64_t)i * sizeof fds[0] + offsetof(struct pollfd, revents), 2};
    }
    struct nc_iter it;
    return !nc_iter_init(&it, tid, iov, n) && nc_copy_out(&it, revents, (size_t)n * 2) == (size_t)n * 2;
}

/* Answers when a descriptor is ready, or when the guest does not want to wait. */
static int64_t do_poll(const struct call *call, bool wait) {
    struct pollfd fds[MAX_POLL];
    uint32_t n = (uint32_t)call->args[1];
    if (n > (uint32_t)call->fdt->limit) return -EINVAL;
    if (n > MAX_POLL) return PYTHON;
    if (!n) return wait ? PYTHON : 0;
    int64_t size = (int64_t)(n * sizeof fds[0]);
    if (nc_read_mem(call->task->tid, call->args[0], fds, (uint64_t)size) != size) return -EFAULT;
    int ready = 0;
    for (uint32_t i = 0; i < n; i++) {
        fds[i].revents = 0;
        if (fds[i].fd < 0) continue;
        nc_file *file = file_at(call, fds[i].fd);
        if (!file || (file->flags & O_PATH))
            fds[i].revents = POLLNVAL;
        else if (file->kind == NC_PY)
            return PYTHON;
        else
            fds[i].revents = (short)(nc_file_poll(file) & ((uint16_t)fds[i].events | POLLERR | POLLHUP));
        ready += fds[i].revents != 0;
    }
    if (!ready && wait) return PYTHON;
    return write_revents(call->task->tid, call->args[0], fds, (int)n) ? ready : -EFAULT;
}

static int64_t sys_ppoll(const struct call *call) {
    if (call->args[3]) return PYTHON; /* a signal mask */
    bool wait = true;
    if (call->args[2]) {
        struct timespec timeout;
        if (nc_read_mem(call->task->tid, call->args[2], &timeout, sizeof timeout) != sizeof timeout) return -EFAULT;
        if (timeout.tv_sec < 0 || (uint64_t)timeout.tv_nsec > 999999999) return -EINVAL;
        wait = timeout.tv_sec || timeout.tv_nsec;
    }
    return do_poll(call, wait);
}

/* ---- birth ---- */

#define LIBRARY_CLONE                                                                                                        \
    (CSIGNAL | CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_VFORK | CLONE_THREAD | CLONE_SYSVSEM |              \
     CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID)
#define THREAD_LIKE (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)

/* What C libraries ask for: forks, of which ptrace tells us, and threads, which Python meets when they call. */
static int64_t sys_clone(const struct call *call) {
    uint32_t flags = (uint32_t)call->args[0];
    if (flags & ~(uint32_t)LIBRARY_CLONE) return PYTHON;
    if ((flags & THREAD_LIKE) == THREAD_LIKE) {
        if (call->task->mixed) return PYTHON;
        nc_fdt_crowd(call->fdt);
        return HOST;
    }
    return !(flags & CLONE_THREAD) && ((flags & CSIGNAL) == SIGCHLD || flags & CLONE_VFORK) ? HOST : PYTHON;
}

/* ---- the switch ---- */

static int64_t answer(const struct call *call, int nr) {
    switch (nr) {
    case SYS_read: return rw(call, false, false);
    case SYS_write: return rw(call, true, false);
    case SYS_pread64: return rw(call, false, true);
    case SYS_pwrite64: return rw(call, true, true);
    case SYS_readv: return rwv(call, false, false);
    case SYS_writev: return rwv(call, true, false);
    case SYS_preadv: return rwv(call, false, true);
    case SYS_pwritev: return rwv(call, true, true);
    case SYS_lseek: return sys_lseek(call);
    case SYS_fstat: return sys_fstat(call);
    case SYS_close: return sys_close(call);
    case SYS_dup: return sys_dup(call);
    case SYS_dup2: return sys_dup2(call);
    case SYS_dup3: return sys_dup3(call);
    case SYS_fcntl: return sys_fcntl(call);
    case SYS_ioctl: return sys_ioctl(call);
    case SYS_mmap: return sys_mmap(call);
    case SYS_poll: return do_poll(call, (int)call->args[2] != 0);
    case SYS_ppoll: return sys_ppoll(call);
    case SYS_clone: return sys_clone(call);
    case SYS_fork:
    case SYS_vfork: return HOST;
    case SYS_fadvise64: return sys_fadvise64(call);
    case SYS_copy_file_range: return nc_copy_file_range(call);
    case SYS_wait4:
    case SYS_waitid: return call->task->waits || (nr == SYS_waitid && call->args[0] > P_PGID) ? PYTHON : HOST;
    case SYS_getuid: return call->task->uid;
    case SYS_geteuid: return call->task->euid;
    case SYS_getgid: return call->task->gid;
    case SYS_getegid: return call->task->egid;
    }
    return nc_inet_call(call, nr);
}

int nc_fast(nc_task *task, const struct seccomp_notif *req, struct seccomp_notif_resp *resp) {
    if (!task->fast || !task->fdt) return 0;
    struct call call = {task, task->fdt, req->id, req->data.args};
    int64_t result = answer(&call, req->data.nr);
    if (result == PYTHON) return 0;
    resp->flags = result == HOST ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0;
    resp->error = result < 0 && result != HOST ? (int32_t)result : 0;
    resp->val = result < 0 ? 0 : result;
    return 1;
}
