/* Setting up: namespaces, an empty root, no capabilities, and the zygote under the guests' filter.
 *
 * The zygote is forked from the launcher, next to the sentry, in the sentry's PID namespace. It makes the guests' user,
 * mount, IPC, UTS and PID namespaces, gives up every capability and descriptor, installs the filter, and from then on
 * waits in one magic call; each answer makes it fork a first task with CLONE_PARENT, so that container init and
 * every exec'd process are children of whoever started the container. It never runs guest code. */
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core.h"
#include "plan.h"
#include "stub_image.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#define SCRATCH_ADDRESS 0x610000000000ULL /* where a first task finds its program's arguments */

/* All threads of a sandbox together: the guests' user namespace counts them under one id. */
#define TASKS_MAX 8192

int nc_stub_memfd = -1;

struct shared { /* one page, between the sentry and the zygote while it boots */
    volatile int32_t state;
    volatile int32_t value;
    char where[64];
};

int nc_make_stub(void) {
    int fd = memfd_create("runsc-py", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -errno;
    if (write(fd, nc_stub_image, sizeof nc_stub_image) != (ssize_t)sizeof nc_stub_image) return -EIO;
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
    /* Guests hold a copy: nothing they could ever do with it may write, whatever becomes of the seals. */
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    int result = reader < 0 ? -errno : reader;
    close(fd);
    nc_stub_memfd = reader;
    return result;
}

int nc_stub(void) { return nc_stub_memfd; }

void *nc_shared_new(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? NULL : page;
}

static void shared_set(struct shared *shared, int32_t state) {
    __atomic_store_n(&shared->state, state, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &shared->state, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Waits until the state is at least `want`, or negative (the other side failed), or ten seconds have passed. */
static int shared_wait(struct shared *shared, int32_t want) {
    for (int i = 0; i < 1000; i++) {
        int32_t now = __atomic_load_n(&shared->state, __ATOMIC_SEQ_CST);
        if (now < 0 || now >= want) return now;
        struct timespec tick = {0, 10000000};
        syscall(SYS_futex, &shared->state, FUTEX_WAIT, now, &tick, NULL, 0);
    }
    return -ETIMEDOUT;
}

int nc_shared_wait(void *page, int state) { return shared_wait(page, state); }
int nc_shared_set(void *page, int state) {
    shared_set(page, state);
    return 0;
}
int nc_shared_value(void *page) { return ((struct shared *)page)->value; }
const char *nc_shared_where(void *page) { return ((struct shared *)page)->where; }

int nc_unshare(int flags) { return unshare(flags) ? -errno : 0; }
int nc_setns(int fd, int kind) { return setns(fd, kind) ? -errno : 0; }
int nc_prctl(int option, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    int result = prctl(option, a, b, c, d);
    return result < 0 ? -errno : result;
}

int nc_drop_capabilities(uint64_t keep) {
    for (int cap = 0; cap < 64; cap++)
        if (!(keep >> cap & 1)) prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{(uint32_t)keep, (uint32_t)keep, 0}, {(uint32_t)(keep >> 32), (uint32_t)(keep >> 32), 0}};
    return syscall(SYS_capset, &header, data) ? -errno : 0;
}

/* Replaces this process's root by an empty tmpfs of `size` bytes, in its own mount namespace. With read_only, nothing
 * can ever be made in it. */
int nc_empty_root(const char *size, int read_only) {
    char options[64];
    snprintf(options, sizeof options, "mode=0700,size=%s", size);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) return -errno;
    /* /proc is the one directory that is sure to be there. A writable root is a store whose files guests map, for
     * execution too. */
    unsigned long flags = MS_NOSUID | MS_NODEV | (read_only ? MS_NOEXEC : 0);
    if (mount("tmpfs", "/proc", "tmpfs", flags, options)) return -errno;
    if (chdir("/proc")) return -errno;
    if (syscall(SYS_pivot_root, ".", ".") == 0) {
        if (umount2(".", MNT_DETACH)) return -errno;
    } else if (mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".")) { /* an initramfs root can't be pivoted */
        return -errno;
    }
    if (chdir("/")) return -errno;
    if (read_only && mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
        return -errno;
    return 0;
}

/* A detached procfs of this PID namespace, as a directory descriptor. */
int nc_own_proc(void) {
    int fs = (int)syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC);
    if (fs < 0) return -errno;
    syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "subset", "pid", 0);
    int result = 0;
    if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)) result = -errno;
    if (!result) {
        result = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
        if (result < 0) result = -errno;
    }
    close(fs);
    return result;
}

int nc_detached(const char *path) {
    int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int nc_noexec_twin(const char *path) {
    int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NOEXEC};
    if (fd >= 0 && !syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attributes, sizeof attributes)) return fd;
    int failed = -errno;
    if (fd >= 0) close(fd);
    return failed;
}

int nc_pidfd_open(int pid) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
}

int nc_pidfd_getfd(int pidfd, int fd) {
    int got = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
    return got < 0 ? -errno : got;
}

int nc_pidfd_signal(int pidfd, int sig) { return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) ? -errno : 0; }

int nc_setlimit(int resource, uint64_t soft, uint64_t hard) {
    struct rlimit limit = {soft, hard};
    return setrlimit((__rlimit_resource_t)resource, &limit) ? -errno : 0;
}

int nc_prlimit(int pid, int resource, uint64_t soft, uint64_t hard) {
    struct rlimit limit = {soft, hard};
    return prlimit(pid, (__rlimit_resource_t)resource, &limit, NULL) ? -errno : 0;
}

#define IOPRIO_WHO_PROCESS 1

int nc_ioprio(int tid) {
    int ioprio = (int)syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid);
    return ioprio < 0 ? -errno : ioprio;
}

int nc_set_ioprio(int tid, int ioprio) { return syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid, ioprio) ? -errno : 0; }

static int write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    ssize_t put = write(fd, text, strlen(text));
    int result = put < 0 ? -errno : 0;
    close(fd);
    return result;
}

/* Enters a new user namespace in which this process's ids are 0. */
int nc_new_user_namespace(void) {
    char map[64];
    unsigned uid = geteuid(), gid = getegid();
    if (unshare(CLONE_NEWUSER)) return -errno;
    int result = write_file("/proc/self/setgroups", "deny");
    if (result && result != -ENOENT) return result;
    snprintf(map, sizeof map, "0 %u 1", uid);
    if ((result = write_file("/proc/self/uid_map", map))) return result;
    snprintf(map, sizeof map, "0 %u 1", gid);
    return write_file("/proc/self/gid_map", map);
}

static void __attribute__((noreturn)) zygote_failed(struct shared *shared, const char *where, int error) {
    snprintf(shared->where, sizeof shared->where, "%s", where);
    shared->value = error;
    shared_set(shared, -1);
    _exit(1);
}

static void default_signals(void) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int sig = 1; sig < 65; sig++)
        if (sig != SIGKILL && sig != SIGSTOP) sigaction(sig, &action, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* A first task: its own session, then the exec that the sentry fills in at the seccomp stop. */
static void __attribute__((noreturn)) first_task(void) {
    syscall(SYS_setsid);
    syscall(SYS_execve, SCRATCH_ADDRESS, SCRATCH_ADDRESS, SCRATCH_ADDRESS);
    while (errno == ENOSYS) syscall(SYS_pause); /* no tracer any more: the sentry is dying, and takes us along */
    syscall(SYS_exit_group, 127);
    __builtin_unreachable();
}

/* Runs the zygote; never returns. `filter` is the guests' program of `filter_len` instructions. `stub_fd` is the number at
 * which every guest's host table holds the loader stub. */
int nc_zygote(void *page, const void *filter, int filter_len, int stub_fd, int own_net, uint64_t scratch_size) {
    struct shared *shared = page;
    int result;
    if ((result = nc_new_user_namespace())) zygote_failed(shared, "user namespace", result);
    if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | (own_net ? CLONE_NEWNET : 0)))
        zygote_failed(shared, "unshare", -errno);
    if (dup2(nc_stub_memfd, stub_fd) < 0) zygote_failed(shared, "stub descriptor", -errno);
    fcntl(stub_fd, F_SETFD, 0);
    syscall(SYS_close_range, stub_fd + 1, ~0U, 0);
    if (stub_fd > 0) syscall(SYS_close_range, 0, stub_fd - 1, 0);
    if ((result = nc_empty_root("4k", 1))) zygote_failed(shared, "empty root", result);
    if (unshare(CLONE_NEWPID)) zygote_failed(shared, "unshare pid", -errno);
    default_signals();
    nc_setlimit(RLIMIT_CORE, 0, 0);
    struct rlimit files; /* the guest's own limit is the sentry's to check: the host table must have every number */
    if (!getrlimit(RLIMIT_NOFILE, &files)) nc_setlimit(RLIMIT_NOFILE, files.rlim_max, files.rlim_max);
    nc_setlimit(RLIMIT_NPROC, TASKS_MAX, TASKS_MAX); /* a fork bomb ends in EAGAIN, whatever the cgroup says */
    void *scratch = mmap((void *)SCRATCH_ADDRESS, scratch_size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
    if (scratch != (void *)SCRATCH_ADDRESS) zygote_failed(shared, "scratch", -errno);
    if ((result = nc_drop_capabilities(0))) zygote_failed(shared, "capabilities", result);
    prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
    prctl(PR_SET_NAME, "runsc-py-zygote", 0, 0, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* for the sentry's ptrace; there is nothing of the guest's in here */

    shared->value = getpid();
    shared_set(shared, 1); /* the sentry seizes us now */
    if (shared_wait(shared, 2) != 2) _exit(1);
    struct sock_fprog program = {(unsigned short)filter_len, (struct sock_filter *)filter};
    int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                                SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
    if (listener < 0) {
        shared->value = -errno;
        shared->state = -2;
        for (;;) pause();
    }
    shared->value = listener;
    /* From here every call of ours is a notification too; the futex wake is among the guests' native calls. */
    shared_set(shared, 3);
    shared_wait(shared, 4); /* the sentry has its copy of the listener */
    syscall(SYS_close, listener);
    for (;;) {
        long order = syscall(NC_MAGIC_ZYGOTE, 0, 0, 0, 0, 0, 0);
        if (order != 1) continue;
        long child = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
        if (child == 0) first_task();
    }
}
