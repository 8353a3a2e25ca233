/* The event loop: one thread waits for notifications, ptrace stops, host descriptors and the deadline.
 *
 * The thread blocks in SECCOMP_IOCTL_NOTIF_RECV. Whatever else happens arrives as a signal: SIGCHLD for a stop or a
 * death, SIGALRM from the deadline timer, SIGURG from a helper thread that polls the epoll set. A handler sets a flag;
 * a signal that comes between the look at the flags and the ioctl must not be lost, so those few instructions are a
 * restartable sequence: the handler moves the instruction pointer out of it (the way a C library does cancellation).
 *
 * A host descriptor that becomes ready costs two wake-ups across CPUs that way, so once one has, the helper sleeps on and
 * the thread polls the listener and the epoll set by itself, which makes each notification a little dearer; until so many
 * notifications have come with nothing ready between them that the helper takes over again. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "core.h"
#include "plan.h"
#include "trace.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

static int listener = -1;
static int held; /* no notification is received */
static int epoll_fd = -1;
static pid_t main_tid;
static timer_t deadline_timer;
static sem_t io_acknowledged;
static uint64_t counters[3];

static volatile int pending; /* any of the three below */
static volatile sig_atomic_t child_pending, io_pending, timer_pending;
static int own_looks; /* the helper sleeps until acknowledged; for so many notifications more the loop looks by itself */
static int io_late;   /* notifications served since a host descriptor was seen to be ready */
#define OWN_LOOKS 64
#define IO_LATE_MAX 16 /* guests that keep calling are served first: what becomes ready meanwhile is told together */

extern char nc_recv_begin[], nc_recv_end[], nc_recv_abort[];

/* A host call that waits, or -EINTR when something is pending. */
static long __attribute__((noinline)) wait_in(long call, long a, long b, long c) {
    register long nr asm("rax") = call;
    register long first asm("rdi") = a;
    register long second asm("rsi") = b;
    register long third asm("rdx") = c;
    asm volatile(".globl nc_recv_begin, nc_recv_end, nc_recv_abort\n"
                 "nc_recv_begin:\n\t"
                 "cmpl $0, %[pending]\n\t"
                 "jne nc_recv_abort\n\t"
                 "syscall\n"
                 "nc_recv_end:\n\t"
                 "jmp 1f\n"
                 "nc_recv_abort:\n\t"
                 "mov %[interrupted], %%rax\n"
                 "1:\n"
                 : "+r"(nr)
                 : "r"(first), "r"(second), "r"(third), [pending] "m"(pending), [interrupted] "i"(-EINTR)
                 : "rcx", "r11", "memory", "cc");
    return nr;
}

static long receive(struct seccomp_notif *req) {
    return wait_in(SYS_ioctl, listener, (long)SECCOMP_IOCTL_NOTIF_RECV, (long)req);
}

static void on_signal(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    if (sig == SIGCHLD)
        child_pending = 1;
    else if (sig == SIGALRM)
        timer_pending = 1;
    else
        io_pending = 1;
    pending = 1;
    uintptr_t ip = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
    if (ip >= (uintptr_t)nc_recv_begin && ip < (uintptr_t)nc_recv_end)
        uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)nc_recv_abort;
}

/* Sleeps on the epoll set; says so once by SIGURG, then waits until the loop has looked. */
static void *io_main(void *unused) {
    struct pollfd set = {.fd = epoll_fd, .events = POLLIN};
    for (;;) {
        if (poll(&set, 1, -1) <= 0) continue;
        syscall(SYS_tgkill, getpid(), main_tid, SIGURG);
        while (sem_wait(&io_acknowledged) && errno == EINTR) {
        }
    }
    return NULL;
}

int nc_init(void) {
    main_tid = (pid_t)syscall(SYS_gettid);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) return -errno;
    sem_init(&io_acknowledged, 0, 0);

    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigfillset(&action.sa_mask);
    sigaction(SIGCHLD, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGURG, &action, NULL);

    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};
    event._sigev_un._tid = main_tid;
    if (timer_create(CLOCK_MONOTONIC, &event, &deadline_timer)) return -errno;

    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* the helper inherits it: signals are for this thread */
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 65536);
    pthread_t thread;
    int failed = pthread_create(&thread, &attr, io_main, NULL);
    sigdelset(&old, SIGCHLD);
    sigdelset(&old, SIGALRM);
    sigdelset(&old, SIGURG);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return failed ? -failed : 0;
}

int nc_listener(int notify_fd) {
    listener = notify_fd;
    /* The woken side runs on this CPU: a round trip costs 1.4 us instead of 8.5. Linux >= 6.6; slower without. */
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    return 0;
}

int nc_hold(int on) {
    held = on;
    return 0;
}

int nc_arm(int64_t deadline_ns) {
    struct itimerspec when = {0};
    timer_pending = 0;
    if (deadline_ns >= 0) {
        when.it_value.tv_sec = deadline_ns / 1000000000;
        when.it_value.tv_nsec = deadline_ns % 1000000000;
        if (deadline_ns == 0) when.it_value.tv_nsec = 1; /* 0 would disarm */
    }
    return timer_settime(deadline_timer, TIMER_ABSTIME, &when, NULL) ? -errno : 0;
}

int nc_watch(int host_fd, uint32_t events, uint64_t cookie) {
    struct epoll_event event = {.events = events, .data.u64 = cookie};
    if (!events) return epoll_ctl(epoll_fd, EPOLL_CTL_DEL, host_fd, &event) ? -errno : 0;
    if (!epoll_ctl(epoll_fd, EPOLL_CTL_MOD, host_fd, &event)) return 0;
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, host_fd, &event) ? -errno : 0;
}

int nc_io_take(struct nc_io *out, int max) {
    struct epoll_event events[64];
    int n = epoll_wait(epoll_fd, events, max < 64 ? max : 64, 0);
    if (n < 0) return -errno;
    for (int i = 0; i < n; i++) out[i] = (struct nc_io){events[i].data.u64, events[i].events};
    return n;
}

/* An ioctl of the listener. A signal of ours may end its wait (for a lock that the guests' calls take too, or for the task
 * that an injected descriptor goes to): the request is then still to be made, or a guest waits for ever. */
static int ask_listener(unsigned long request, const void *argument) {
    int result;
    do result = ioctl(listener, request, argument);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : result;
}

static int send_response(const struct seccomp_notif_resp *resp) { return ask_listener(SECCOMP_IOCTL_NOTIF_SEND, resp); }

int nc_reply(uint64_t id, int64_t result) {
    struct seccomp_notif_resp resp = {.id = id, .val = result};
    return send_response(&resp);
}

int nc_continue(uint64_t id) {
    struct seccomp_notif_resp resp = {.id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    return send_response(&resp);
}

int nc_addfd(uint64_t id, int host_fd, int guest_fd, int cloexec) {
    struct seccomp_notif_addfd add = {.id = id,
                                      .flags = SECCOMP_ADDFD_FLAG_SETFD,
                                      .srcfd = (uint32_t)host_fd,
                                      .newfd = (uint32_t)guest_fd,
                                      .newfd_flags = cloexec ? O_CLOEXEC : 0};
    return ask_listener(SECCOMP_IOCTL_NOTIF_ADDFD, &add);
}

int nc_id_valid(uint64_t id) {
    int failed = ask_listener(SECCOMP_IOCTL_NOTIF_ID_VALID, &id);
    return failed ? failed : 1;
}

uint64_t nc_counter(int which) { return which >= 0 && which < 3 ? counters[which] : 0; }

/* One wait status, or 0. Stops that need no decision of the kernel's are answered here (trace.c). */
static int take_stop(struct nc_event *ev) {
    for (;;) {
        int status;
        pid_t tid = waitpid(-1, &status, __WALL | WNOHANG);
        if (tid == 0) return 0;
        if (tid < 0) return errno == ECHILD ? NC_EV_GONE : 0;
        counters[2]++;
        if (nc_stop_answered(tid, status)) continue;
        child_pending = pending = 1; /* there may be more */
        ev->kind = NC_EV_STOP;
        ev->tid = tid;
        ev->status = status;
        nc_stop_details(ev);
        return NC_EV_STOP;
    }
}

/* What signals have announced, or 0. Flags are cleared before the look, so a later signal is never lost. */
static int take_pending(struct nc_event *ev) {
    pending = 0;
    if (timer_pending) {
        timer_pending = 0;
        pending = 1;
        return ev->kind = NC_EV_TIMER;
    }
    if (io_pending) {
        io_pending = 0;
        own_looks = OWN_LOOKS;
        pending = 1;
        return ev->kind = NC_EV_IO;
    }
    if (child_pending) {
        child_pending = 0;
        return take_stop(ev);
    }
    return 0;
}

/* While the helper sleeps: waits for a notification (0) or a host descriptor (NC_EV_IO); -EINTR when something is pending. */
static int look(struct nc_event *ev) {
    struct pollfd set[] = {{.fd = listener, .events = POLLIN}, {.fd = epoll_fd, .events = POLLIN}};
    long failed = wait_in(SYS_poll, (long)set, 2, -1);
    if (failed < 0) return (int)failed;
    if (set[1].revents) {
        own_looks = OWN_LOOKS;
        if (!set[0].revents || ++io_late > IO_LATE_MAX) {
            io_late = 0;
            return ev->kind = NC_EV_IO;
        }
        return 0;
    }
    if (!--own_looks) sem_post(&io_acknowledged);
    return 0;
}

int nc_next(struct nc_event *ev, int mode) {
    struct seccomp_notif req;
    struct seccomp_notif_resp resp;
    for (;;) {
        if (nc_ready_pending) return ev->kind = NC_EV_READY;
        if (pending) {
            int kind = take_pending(ev);
            if (kind) return kind;
        }
        if (own_looks && (listener < 0 || held || mode == NC_POLL)) {
            own_looks = 0;
            sem_post(&io_acknowledged);
        }
        if (listener < 0 || held) {
            if (mode == NC_POLL) return ev->kind = NC_EV_IDLE;
            poll(NULL, 0, 10); /* only until the first task exists, or while we are about to be frozen */
            continue;
        }
        if (mode == NC_POLL) {
            struct pollfd set = {.fd = listener, .events = POLLIN};
            if (poll(&set, 1, 0) <= 0) return ev->kind = NC_EV_IDLE;
        }
        if (own_looks) {
            int kind = look(ev);
            if (kind == -EINTR) continue;
            if (kind) return kind;
        }
        memset(&req, 0, sizeof req);
        long failed = receive(&req);
        if (failed) {
            if (failed == -EINTR) continue;
            if (failed == -ENOENT) {
                /* Either the caller died before we looked, or no task is left under the filter. */
                struct pollfd set = {.fd = listener, .events = POLLIN};
                if (poll(&set, 1, 0) > 0 && (set.revents & POLLHUP)) {
                    child_pending = pending = 1;
                    int kind = take_pending(ev);
                    if (kind && kind != NC_EV_GONE) return kind;
                    return ev->kind = NC_EV_GONE;
                }
                continue;
            }
            return (int)failed;
        }
        nc_task *task = nc_task_find((int)req.pid);
        if (task) task->sent = task->interrupted = 0;
        if (task && task->loading && req.data.nr != NC_MAGIC_LOAD) {
            /* The stub holds nothing but its program's read-only files, so its mappings need no look of ours. It names the
             * thread first, which is a notification under --strace only. */
            if (req.data.nr == SYS_mmap || req.data.nr == SYS_prctl) {
                if (req.data.nr == SYS_mmap) task->loading--;
                nc_continue(req.id);
                continue;
            }
            task->loading = 0;
        }
        if (task && task->fast && !task->aside) {
            memset(&resp, 0, sizeof resp);
            resp.id = req.id;
            if (nc_fast(task, &req, &resp)) {
                counters[0]++;
                send_response(&resp);
                continue;
            }
        }
        counters[1]++;
        ev->kind = NC_EV_SYSCALL;
        ev->tid = (int32_t)req.pid;
        ev->nr = req.data.nr;
        ev->id = req.id;
        memcpy(ev->args, req.data.args, sizeof ev->args);
        ev->ip = req.data.instruction_pointer;
        return NC_EV_SYSCALL;
    }
}

int nc_reply_next(uint64_t id, int64_t result, struct nc_event *ev) {
    nc_reply(id, result); /* a caller killed meanwhile makes this fail; its death arrives as a stop */
    return nc_next(ev, NC_BLOCK);
}
