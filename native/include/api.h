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
/* Answer notification `id` with a value or -errno, then wait for the next event: one call a system call. */
int nc_reply_next(uint64_t id, int64_t result, struct nc_event *ev);
int nc_reply(uint64_t id, int64_t result);
int nc_continue(uint64_t id);     /* let the host run the call (SECCOMP_USER_NOTIF_FLAG_CONTINUE) */
int nc_addfd(uint64_t id, int host_fd, int guest_fd, int cloexec); /* inject at exactly guest_fd */
int nc_id_valid(uint64_t id);
int nc_hold(int on);              /* receive no notifications */
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
/* Of a stopped thread: what it reports besides forks, execs and exits; what it makes will do so too. */
#define NC_TRACE_CLONE 1
#define NC_TRACE_VFORK_DONE 2
int nc_trace_more(int tid, int what);
/* How nc_resume lets a thread go on, while it is not parked. */
#define NC_RUN 0
#define NC_RUN_TO_CALL 1
#define NC_RUN_STEP 2
int nc_task_set_mode(int tid, int mode);
int nc_task_set_watched(int tid, int on); /* another guest traces it: every stop is Python's to answer */
int nc_task_set_waits(int tid, int on);   /* it traces others: its waits are Python's */
int nc_interrupt(int tid);
int nc_resume(int tid, int sig);
int nc_resume_to_call(int tid, int sig); /* to the next entry to or exit from a call, a stop with SIGTRAP */
int nc_listen(int tid);
int nc_detach(int tid, int sig);
int nc_getregs(int tid, struct nc_regs *regs);
int nc_setregs(int tid, const struct nc_regs *regs);
uint64_t nc_stack_pointer(int tid); /* of a stopped thread; 0 when it is gone */
int64_t nc_eventmsg(int tid);
int nc_getsiginfo(int tid, void *buf128);
int nc_setsiginfo(int tid, const void *buf128);
/* Sends a signal that carries `cookie`, as the value of one queued by pid 0; with 0 as kill(2) and tgkill(2) do. */
int nc_signal(int tgid, int tid, int sig, uint64_t cookie);
int64_t nc_sigcookie(int tid); /* at a signal stop: the cookie of nc_signal, 0 for a signal that is not the sentry's */
int nc_set_many_users(void); /* from now on Python says which user's child it was that SIGCHLD tells of */
int64_t nc_getsigmask(int tid);
int nc_setsigmask(int tid, uint64_t mask);
/* At a stop in a call: end it with `result`, which restarts call `nr` if it is one of -ERESTART* (nr -1: never); then run, stay
 * in a group stop, or be left as it is. */
#define NC_GO 0
#define NC_STAY 1
#define NC_LEAVE 2
int nc_finish(int tid, int nr, int64_t result, int then);
/* For a tracer among the guests, of a stopped thread: words of its memory, whatever their protection; fields of struct user;
 * registers by NT_*, the size that there is. */
int nc_guest_regs(int tid, int nr, struct nc_regs *regs); /* as if a parked task stood in call nr, interrupted */
int nc_peek(int tid, uint64_t addr, uint64_t *word);
int nc_poke(int tid, uint64_t addr, uint64_t word);
int nc_peek_user(int tid, uint64_t offset, uint64_t *word);
int nc_poke_user(int tid, uint64_t offset, uint64_t word);
int nc_get_regset(int tid, uint32_t type, void *buf, uint64_t size);
int nc_set_regset(int tid, uint32_t type, const void *buf, uint64_t size);
int nc_park(int tid, int stay);                   /* at a stop in a call answered -512: sleep in pause(2), natively */
int nc_set_pass(uint64_t pass);                   /* goes into the sixth argument of a parked task's pause(2) */
int nc_unparked(int tid);                         /* it left pause(2) for good */
int nc_restart(int tid, int nr, int64_t rax, int sig); /* at a signal stop in the parked pause: make it call nr, ended with rax */

/* ---- signals that pend (sigwatch.c) ---- */
int nc_signalfd(int host_fd, uint64_t mask); /* a new one (-1), or another mask for one there is */
int nc_sigwatch_set(void);                   /* the epoll set that hears of signals: readable when some was sent */
int nc_sigwatch_new(void);                   /* a signalfd for a process to put into the set */
/* Once the process has done so: the set tells `cookie` after each signal. `host_fd` has the number that the process used. */
int nc_sigwatch_arm(int host_fd, uint64_t cookie);
int nc_sigwatch_disarm(int host_fd);
int nc_sigwatch_take(uint64_t *cookies, int max);

/* ---- guest memory (mem.c) ---- */
int64_t nc_read_mem(int tid, uint64_t addr, void *buf, uint64_t n);        /* bytes read, short at a fault; -EFAULT if none */
int64_t nc_write_mem(int tid, uint64_t addr, const void *buf, uint64_t n);
int64_t nc_read_cstr(int tid, uint64_t addr, char *buf, uint64_t max);     /* length without NUL; -ENAMETOOLONG, -EFAULT */
struct nc_iov { uint64_t addr, len; };
int64_t nc_read_vec(int tid, const struct nc_iov *iov, int n, void *buf, uint64_t max);
int64_t nc_write_vec(int tid, const struct nc_iov *iov, int n, const void *buf, uint64_t len);

/* ---- setting up (boot.c) ---- */
int nc_make_stub(void);             /* the loader stub's sealed memfd, kept in nc_stub_memfd too */
int nc_stub(void);                  /* that memfd */
void *nc_shared_new(void);          /* the page by which sentry and zygote agree while booting */
int nc_shared_wait(void *page, int state);
int nc_shared_set(void *page, int state);
int nc_shared_value(void *page);
const char *nc_shared_where(void *page);
int nc_unshare(int flags);
int nc_setns(int fd, int kind);
int nc_prctl(int option, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
int nc_drop_capabilities(uint64_t keep);
int nc_load_filter(const void *program, int instructions); /* filter.c */
int nc_empty_root(const char *size, int read_only);
int nc_own_proc(void);
int nc_detached(const char *path);  /* the directory at path as a mount of its own, of which nothing leads out */
int nc_noexec_twin(const char *path); /* the same, and no file in it can be mapped for execution, now or later */
int nc_pidfd_open(int pid);
int nc_pidfd_getfd(int pidfd, int fd);
int nc_pidfd_signal(int pidfd, int sig);
int nc_setlimit(int resource, uint64_t soft, uint64_t hard);
int nc_prlimit(int pid, int resource, uint64_t soft, uint64_t hard);
int nc_ioprio(int tid); /* of a thread of ours (ioprio_get(2)) */
int nc_set_ioprio(int tid, int ioprio);
int nc_new_user_namespace(void);
int nc_zygote(void *page, const void *filter, int filter_len, int stub_fd, int own_net, uint64_t scratch_size);

/* ---- names: what Python has found out about paths (names.c, walk.c) ---- */
/* Python makes these and keeps them as long as C may see them: it takes a name out before it lets go of it, and a task
 * holds its nc_fs and nc_rights. What is not in here, Python is asked for. */
struct nc_node { /* what names lead to: an inode's attributes */
    uint32_t mode, uid, gid; /* always true, as is the birth time */
    uint8_t opaque;          /* its file system decides about permission: always ask Python */
    uint8_t fresh;           /* the other attributes are true now */
    uint8_t unmarked;        /* it has no extended attributes that a guest can see */
    uint8_t leased;          /* somebody holds a lease: who opens it may have to wait */
    uint32_t blksize;
    uint64_t dev, ino, nlink, rdev, size, blocks;
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
    struct nc_inode *inode;  /* a regular file's host descriptors while it has some: they know better */
    struct nc_node *below;   /* whose data is read while this one has none (overlay) */
    const char *target;      /* of a symbolic link, when known */
    uint32_t target_len;
};
struct nc_name { /* one name in one directory, or the root of a file system */
    uint64_t id;
    struct nc_node *node;   /* NULL: nothing has this name */
    struct nc_name *parent; /* NULL: a root */
    struct nc_name *next;   /* hash chain */
    struct nc_mount *mounts; /* those that cover it, each in another parent mount */
    const char *text;
    uint32_t len, hash;
    uint32_t uses; /* descriptions of which only C knows (open.c), as in nc_mount */
    uint8_t hashed;
    uint8_t complete; /* a directory that holds no other names than those in the cache */
};
struct nc_mount {
    uint64_t id;
    struct nc_name *root;       /* NULL: its names are not kept here */
    struct nc_mount *parent;    /* NULL: at no place */
    struct nc_name *mountpoint; /* NULL: not kept here */
    struct nc_mount *next;      /* on the same mountpoint */
    uint32_t uses;
    uint8_t noexec, nosymfollow;
};
struct nc_place {
    struct nc_mount *mount;
    struct nc_name *name; /* NULL: not kept here */
};
int nc_name_hash(struct nc_name *name, struct nc_name *parent, const char *text, int len); /* `text` is kept, not copied */
int nc_name_unhash(struct nc_name *name);
int nc_names_count(void);
int nc_mount_attach(struct nc_mount *mount, struct nc_mount *parent, struct nc_name *at);
int nc_mount_detach(struct nc_mount *mount);
int nc_node_set(struct nc_node *node, uint64_t dev, uint64_t ino, uint64_t nlink, uint64_t rdev, uint64_t size,
                uint32_t blksize, uint64_t blocks, int64_t atime_ns, int64_t mtime_ns, int64_t ctime_ns);

typedef struct nc_fs nc_fs;         /* a task's root and working directory */
typedef struct nc_rights nc_rights; /* what decides about access to files */
#define NC_DAC_OVERRIDE 1
#define NC_DAC_READ_SEARCH 2
#define NC_REAL_IDS 4 /* access(2), which asks for the real ids, sees the same */
nc_fs *nc_fs_new(void);
int nc_fs_free(nc_fs *fs); /* forgets the places: they may go */
int nc_fs_set(nc_fs *fs, struct nc_mount *root_mount, struct nc_name *root, struct nc_mount *cwd_mount, struct nc_name *cwd);
nc_rights *nc_rights_new(uint32_t fsuid, uint32_t fsgid, const uint32_t *groups, int n, int capabilities);
int nc_rights_free(nc_rights *rights);

#define NC_FOLLOW 1 /* a symbolic link at the end too */
#define NC_PARENT 2 /* only to the directory that holds the last component */
struct nc_found {
    uint64_t mount, name; /* ids */
    uint32_t last, last_len; /* NC_PARENT: where in `path` the last component is */
};
/* Walk `path` from `mount`, `name` (NULL: the working directory). 0; -ENOENT: some name in it is known to be absent;
 * -EAGAIN: Python must look. */
int nc_find(const nc_fs *fs, const nc_rights *rights, struct nc_mount *mount, struct nc_name *name, const char *path,
            int len, int how, struct nc_found *out);

/* ---- guest tasks and descriptor tables (task.c, fdt.c) ---- */
typedef struct nc_file nc_file; /* an open file description */
typedef struct nc_fdt nc_fdt;   /* a descriptor table */
typedef struct nc_task nc_task; /* a guest thread */
nc_task *nc_task_new(int tid, nc_fdt *fdt); /* takes a reference to fdt */
int nc_task_free(int tid);
int nc_task_set_fdt(int tid, nc_fdt *fdt);
int nc_task_set_ids(int tid, uint32_t uid, uint32_t euid, uint32_t gid, uint32_t egid);
int nc_task_set_view(int tid, nc_fs *fs, nc_rights *rights); /* takes references */
int nc_task_started(int tid); /* its first stop has been seen and answered */
int nc_task_first_stop(int tid); /* its first stop is Python's to answer */
int nc_task_stopped(int tid); /* the stop that nc_interrupt asked for has been seen */
int nc_task_set_mixed(int tid, int on); /* it may differ from other threads of its process: Python looks at its clones */
int nc_task_set_loading(int tid, int mappings); /* the loader stub makes so many next */
int nc_task_set_aside(int tid, int on); /* its calls and stops are all Python's, who has it make a call again */
int nc_task_interrupted(int tid); /* a call that the host ran for it has ended with -ERESTARTSYS */
int64_t nc_task_sent(int tid); /* what C has sent already in its present call; only once */
int nc_task_set_fast(int tid, int on); /* off: every intercepted call of this task reaches Python (--strace) */

/* ---- objects of the hot calls (file.c, reg.c, pipe.c, eventfd.c, inet.c, fdt.c, fast.c, ready.c) ---- */
typedef struct nc_inode nc_inode;     /* a regular file's host descriptors and attributes */
typedef struct nc_pipe nc_pipe;
typedef struct nc_eventfd nc_eventfd;
typedef struct nc_inet nc_inet;

#define NC_PY 0      /* the file lives in Python; C counts its references */
#define NC_REG 1     /* object: nc_inode */
#define NC_PIPE 2    /* object: nc_pipe; the access mode says which end, or both (a FIFO opened O_RDWR) */
#define NC_EVENTFD 3 /* object: nc_eventfd */
#define NC_INET 4    /* object: nc_inet, a stream; all but its data calls is Python's */

#define NC_LIVE_SIZE 1  /* size and blocks come from fstat on the host descriptor */
#define NC_LIVE_TIMES 2
#define NC_LIVE_NLINK 4

/* Open file descriptions. nc_file_new takes a reference to the object; refs starts at 0 and the first descriptor
 * makes it 1. When refs falls to 0 the object is let go as the guest sees it, and the id is put on the released queue.
 * nc_file_free gives the memory back (Python's handle is gone). */
nc_file *nc_file_new(int kind, int flags, void *object);
int nc_file_free(nc_file *file);
uint64_t nc_file_id(const nc_file *file);
int nc_file_get(nc_file *file);
int nc_file_put(nc_file *file);  /* the references left */
int nc_file_refs(const nc_file *file);
int nc_file_flags(const nc_file *file);
int nc_file_set_flags(nc_file *file, int flags); /* the status flags only */
int nc_file_set_prompt(nc_file *file); /* its release is told at once */
int nc_file_set_noexec(nc_file *file, int on);
int nc_file_uncount(nc_file *file); /* it was born open (memfd_create), which is no open for writing */
/* Descriptions that C has made by itself (open.c): Python takes them up when it needs them, and frees them from then on. */
nc_file *nc_lazy_find(const struct nc_name *name, const struct nc_mount *mount); /* one; where not NULL, of these; or NULL */
int nc_file_where(const nc_file *file, struct nc_found *out);
int nc_file_settle(nc_file *file); /* Python has it now */
int nc_file_opened_with(const nc_file *file, const nc_rights *rights); /* C opened it, for a task with these */
int nc_file_set_place(nc_file *file, struct nc_mount *mount, struct nc_name *name); /* for *at() calls */
int64_t nc_file_pos(const nc_file *file);
int nc_file_set_pos(nc_file *file, int64_t pos);
/* One implementation of the data calls. tid 0 means the sentry's own memory. `offset` is INT64_MIN for "at the
 * position". They never block: -EAGAIN where the guest would wait, -EPIPE without a signal. rwf: RWF_*. */
int64_t nc_file_read(nc_file *file, int tid, uint64_t addr, uint64_t n, int64_t offset, int rwf);
int64_t nc_file_write(nc_file *file, int tid, uint64_t addr, uint64_t n, int64_t offset, int rwf);
int64_t nc_file_readv(nc_file *file, int tid, const struct nc_iov *iov, int n, int64_t offset, int rwf);
int64_t nc_file_writev(nc_file *file, int tid, const struct nc_iov *iov, int n, int64_t offset, int rwf);
int64_t nc_file_read_buf(nc_file *file, void *buf, uint64_t n, int64_t offset);
int64_t nc_file_write_buf(nc_file *file, const void *buf, uint64_t n, int64_t offset);
int nc_fallocate(int host_fd, int mode, int64_t offset, int64_t length);
int64_t nc_file_seek(nc_file *file, int64_t offset, int whence);
uint32_t nc_file_poll(const nc_file *file);

/* Regular files. The descriptors are the caller's to give (-1: none yet); `owns`: close them with the inode. */
nc_inode *nc_file_inode(nc_file *file); /* with a reference more */
int nc_inode_refs(const nc_inode *inode);
nc_inode *nc_inode_new(int host_ro, int host_rw, int owns);
int nc_inode_put(nc_inode *inode);
int nc_inode_set_fds(nc_inode *inode, int host_ro, int host_rw);
int nc_inode_writers(const nc_inode *inode); /* open descriptions that may write */
int nc_inode_readers(const nc_inode *inode); /* open descriptions that only read */
int nc_inode_fd(const nc_inode *inode, int which); /* 0 read-only, 1 read-write, 2 either; -1: not open */
int nc_inode_set_attrs(nc_inode *inode, uint64_t dev, uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid,
                       uint64_t nlink, uint64_t rdev, uint32_t live, int unmarked, const struct nc_node *of);
int nc_inode_set_node(nc_inode *inode, const struct nc_node *of); /* the attributes are its */
int nc_inode_set_caps(nc_inode *inode, int on); /* writes are left to Python, which takes the capabilities away */
/* Writes that end beyond the first `bytes` bytes are left to Python (at first none are). */
int nc_inode_set_grant(nc_inode *inode, uint64_t bytes);
/* size, blocks, atime, mtime, ctime (ns), nlink: as the host has them */
int nc_inode_host_stat(const nc_inode *inode, int64_t out[6]);

/* Pipes and eventfds: their id is what nc_ready_take reports while they are watched. */
nc_pipe *nc_pipe_new(void);
int nc_pipe_put(nc_pipe *pipe);
uint64_t nc_pipe_id(const nc_pipe *pipe);
int nc_pipe_watch(nc_pipe *pipe, int on);
int nc_pipe_size(const nc_pipe *pipe);
int nc_pipe_resize(nc_pipe *pipe, uint32_t size); /* the new capacity; -EBUSY */
int nc_pipe_used(const nc_pipe *pipe);
int nc_pipe_room(const nc_pipe *pipe); /* bytes that go in now, whatever is in the last page */
int nc_pipe_ends(const nc_pipe *pipe, int which); /* 0 readers, 1 writers, 2 readers ever, 3 writers ever */
int64_t nc_pipe_peek(const nc_pipe *pipe, void *buf, uint64_t n); /* copies without taking */
int64_t nc_pipe_discard(nc_pipe *pipe, uint64_t n);               /* takes without copying */
int64_t nc_pipe_tee(nc_pipe *from, nc_pipe *to, uint64_t n);
nc_eventfd *nc_eventfd_new(uint64_t count, int semaphore);
int nc_eventfd_put(nc_eventfd *event);
uint64_t nc_eventfd_id(const nc_eventfd *event);
uint64_t nc_eventfd_count(const nc_eventfd *event);
int nc_eventfd_watch(nc_eventfd *event, int on);

/* Inet sockets. Of the events that a host watch tells, `fresh` gives those that are news. */
nc_inet *nc_inet_new(int host_fd);
int nc_inet_put(nc_inet *inet);
int nc_inet_close(nc_inet *inet); /* the host's socket */
int nc_inet_set_slow(nc_inet *inet, int on); /* data calls are all Python's */
uint32_t nc_inet_poll(nc_inet *inet);
int nc_inet_know(nc_inet *inet); /* a watch begins: what is ready now is no news */
int nc_inet_starved(nc_inet *inet, uint32_t events); /* the guest met EAGAIN, or may meet it: the next event is news */
uint32_t nc_inet_fresh(nc_inet *inet, uint32_t events);

/* Descriptor tables. Functions that find a file give its id. */
nc_fdt *nc_fdt_new(int limit);
nc_fdt *nc_fdt_fork(const nc_fdt *fdt);
int nc_fdt_crowd(nc_fdt *fdt); /* threads that nobody has met may use it */
int nc_fdt_free(nc_fdt *fdt);  /* lets go of the caller's reference */
int nc_fdt_clear(nc_fdt *fdt); /* closes everything */
int64_t nc_fdt_lookup(const nc_fdt *fdt, int fd, int path_ok); /* -EBADF; O_PATH files only if path_ok */
nc_file *nc_fdt_file(const nc_fdt *fdt, int fd);
int nc_fdt_install(nc_fdt *fdt, nc_file *file, int cloexec, int lowest); /* the descriptor; -EMFILE, -EINVAL */
int nc_fdt_install_at(nc_fdt *fdt, int fd, nc_file *file, int cloexec);  /* -EBADF */
int nc_fdt_close(nc_fdt *fdt, int fd); /* 1: the guest's host table holds a copy too */
int nc_fdt_room(const nc_fdt *fdt);    /* the lowest free descriptor; -EMFILE */
int nc_fdt_cloexec(nc_fdt *fdt, int fd, int set); /* set < 0: ask */
int nc_fdt_exec(nc_fdt *fdt);          /* closes what is close-on-exec */
int nc_fdt_next(const nc_fdt *fdt, int fd); /* the lowest open descriptor >= fd; -1 */
int nc_fdt_count(const nc_fdt *fdt);
int nc_fdt_size(const nc_fdt *fdt);
int nc_fdt_set_limit(nc_fdt *fdt, int limit);
int nc_fdt_set_locks(nc_fdt *fdt, int on);
int nc_fdt_set_fsize(nc_fdt *fdt, int on);
/* Somebody watches files (inotify): opens and writes of regular files are Python's; `reads`: reads as well. */
int nc_set_watched(int on, int reads);
int nc_fdt_stub(const nc_fdt *fdt);
int nc_fdt_set_stub(nc_fdt *fdt, int fd);
int nc_fdt_injected(const nc_fdt *fdt, int fd);
int nc_fdt_spare(const nc_fdt *fdt, int below); /* the highest number below it with nothing there, nor in the host table; -1 */
/* After a close that gave 1, in that call: 0: the host shall run the close too; 1: done. */
int nc_fdt_uninject(nc_fdt *fdt, uint64_t id, int fd);
/* For a blocked mmap(2), notification `id`: puts host_fd at `fd` of the guest's host table, the stub out of its way. */
int nc_fdt_inject(nc_fdt *fdt, uint64_t id, int host_fd, int fd);

/* What happened to C objects since the last look: EPOLL*, and NC_TAKEN of a pipe that signals (O_ASYNC). */
#define NC_TAKEN 67108864 /* something was read, though it was not full: no event, but SIGIO to who may write */
struct nc_ready { uint64_t id; uint32_t mask; };
int nc_ready_take(struct nc_ready *out, int max);
int nc_released_take(uint64_t *ids, int max);

/* ---- host files, for the gofer; its socket, for the sentry (hostfs.c) ---- */
int nc_host_open(int dirfd, const char *name, int flags, uint32_t mode, uint64_t resolve); /* openat2(2), close-on-exec */
int nc_host_statx(int dirfd, const char *name, void *out); /* 256 bytes */
int nc_host_getdents(int fd, void *out, uint32_t size);
int nc_host_rename(int olddir, const char *old, int newdir, const char *new_name, unsigned flags);
struct nc_host_times { int64_t atime_s, atime_ns, mtime_s, mtime_ns; }; /* as utimensat(2) takes them */
int nc_host_setattr(int self_fd, int fd, uint32_t valid, uint32_t mode, uint32_t uid, uint32_t gid,
                    const struct nc_host_times *times);
/* Send a message, wait for one (as long as the socket's SO_RCVTIMEO). Its size, 0 at the end, or -errno: -EAGAIN when none
 * has come, NC_NOT_SENT when there was no room. `donated`: the descriptor that came along, or -1. */
#define NC_NOT_SENT -4096
int nc_exchange(int fd, const void *message, uint32_t len, void *reply, uint32_t size, int32_t *donated);

/* ---- host sockets for the guest's inet and netlink sockets (sock.c) ---- */
struct nc_recv { uint8_t addr[128]; uint8_t control[4096]; uint32_t addr_len, control_len; int32_t flags; };
int nc_sock_open(int domain, int type, int protocol); /* non-blocking, close-on-exec */
int nc_sock_close(int host_fd);
int nc_sock_bind(int host_fd, const void *addr, uint32_t len);
int nc_sock_connect(int host_fd, const void *addr, uint32_t len);
int nc_sock_listen(int host_fd, int backlog);
int nc_sock_accept(int host_fd, void *addr, uint32_t *len);
int nc_sock_name(int host_fd, int peer, void *addr, uint32_t *len);
int nc_sock_shutdown(int host_fd, int how);
int nc_sock_setopt(int host_fd, int level, int name, const void *value, uint32_t len);
int nc_sock_getopt(int host_fd, int level, int name, void *value, uint32_t *len);
int nc_sock_ioctl(int host_fd, uint64_t cmd, void *arg);
int nc_sock_poll(int host_fd); /* POLL* events ready now */
int64_t nc_sock_send(int host_fd, const void *data, uint64_t n, int flags, const void *addr, uint32_t addr_len,
                     const void *control, uint64_t control_len);
int64_t nc_sock_recv(int host_fd, void *data, uint64_t n, int flags, struct nc_recv *out);
int nc_sock_interface_up(const char *name);
