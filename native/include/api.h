/* What Python sees of the native core. Parsed by cffi: plain declarations only, no preprocessor but integer #defines.
 *
 * Every function returns a value >= 0, or -errno. None raises, none touches Python; cffi releases the GIL around each. */

/* ---- events (loop.c) ---- */
#define NC_EV_SYSCALL 1  /* a guest's system call that Python must answer: tid, nr, id, args, ip */
#define NC_EV_STOP 2     /* a ptrace stop or a death: tid, status (as wait4 gives it) */
#define NC_EV_IO 3       /* a watched host descriptor is ready: call nc_io_take */
#define NC_EV_TIMER 4    /* the armed deadline has passed */
#define NC_EV_READY 5    /* C objects changed readiness or were released: call nc_ready_take / nc_released_take */
#define NC_EV_IDLE 6     /* only from nc_next(NC_POLL): nothing to do */
#define NC_EV_GONE 7     /* no guest is left: the listener has no task any more */

#define NC_BLOCK 0
#define NC_POLL 1

struct nc_event {
    int32_t kind;
    int32_t tid; /* host thread id, in the sentry's PID namespace */
    int32_t nr;
    int32_t status;
    uint64_t id; /* notification id */
    uint64_t args[6];
    uint64_t ip;
};

int nc_init(void);                /* once per process: signal handlers, epoll thread, timer */
int nc_listener(int notify_fd);   /* the seccomp listener to serve */
int nc_next(struct nc_event *ev, int mode);
/* Answer notification `id` (value, or -errno in `error`), then wait for the next event: one call a system call. */
int nc_reply_next(uint64_t id, int64_t value, int32_t error, struct nc_event *ev);
int nc_reply(uint64_t id, int64_t value, int32_t error);
int nc_continue(uint64_t id);     /* let the host run the call (SECCOMP_USER_NOTIF_FLAG_CONTINUE) */
int nc_addfd(uint64_t id, int host_fd, int guest_fd, int cloexec); /* inject at exactly guest_fd */
int nc_id_valid(uint64_t id);
int nc_arm(int64_t deadline_ns);  /* CLOCK_MONOTONIC; < 0 disarms */
int nc_watch(int host_fd, uint32_t events, uint64_t cookie); /* level triggered; events 0 removes */
struct nc_io { uint64_t cookie; uint32_t events; };
int nc_io_take(struct nc_io *out, int max);
uint64_t nc_counter(int which);   /* 0 answered in C, 1 given to Python, 2 stops */

/* ---- ptrace (trace.c) ---- */
struct nc_regs {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip, cs, eflags, rsp, ss,
        fs_base, gs_base, ds, es, fs, gs;
};
int nc_seize(int tid);
int nc_interrupt(int tid);
int nc_resume(int tid, int sig);
int nc_listen(int tid);
int nc_detach(int tid, int sig);
int nc_getregs(int tid, struct nc_regs *regs);
int nc_setregs(int tid, const struct nc_regs *regs);
int64_t nc_eventmsg(int tid);
int nc_getsiginfo(int tid, void *buf128);
int nc_setsiginfo(int tid, const void *buf128);
int nc_peeksig(int tid, int shared, uint64_t *pending);
int64_t nc_getsigmask(int tid);
int nc_finish(int tid, int64_t result);           /* at a stop in a call: give it `result` and run */
int nc_park(int tid);                             /* at a stop in a call answered -512: sleep in pause(2), natively */
int nc_restart(int tid, int nr, int64_t rax, int sig); /* at a signal stop in the parked pause: make it call nr, ended with rax */

/* ---- guest memory (mem.c) ---- */
int64_t nc_read_mem(int tid, uint64_t addr, void *buf, uint64_t n);        /* bytes read, short at a fault; -EFAULT if none */
int64_t nc_write_mem(int tid, uint64_t addr, const void *buf, uint64_t n);
int64_t nc_read_cstr(int tid, uint64_t addr, char *buf, uint64_t max);     /* length without NUL; -ENAMETOOLONG, -EFAULT */
struct nc_iov { uint64_t addr, len; };
int64_t nc_read_vec(int tid, const struct nc_iov *iov, int n, void *buf, uint64_t max);
int64_t nc_write_vec(int tid, const struct nc_iov *iov, int n, const void *buf, uint64_t len);

/* ---- guest tasks and descriptor tables (task.c, fdt.c) ---- */
typedef struct nc_file nc_file; /* an open file description */
typedef struct nc_fdt nc_fdt;   /* a descriptor table */
typedef struct nc_task nc_task; /* a guest thread */
nc_task *nc_task_new(int tid, nc_fdt *fdt); /* takes a reference to fdt */
int nc_task_free(int tid);
int nc_task_set_fdt(int tid, nc_fdt *fdt);
int nc_task_set_ids(int tid, uint32_t uid, uint32_t euid, uint32_t gid, uint32_t egid);
int nc_task_set_fast(int tid, int on); /* off: every intercepted call of this task reaches Python (--strace) */
