/* The hot objects that live in C: open file descriptions, descriptor tables, regular files, pipes, eventfds, inet sockets.
 *
 * One thread uses them, so there are no locks. Memory is freed by nc_file_free and friends, which Python's
 * handles call; `refs` of an nc_file counts descriptors and uses in flight, and its fall to 0 is the release that
 * the guest can see. An object therefore outlives its release for as long as Python still holds the handle. */
#pragma once
#include "core.h" /* first: it defines _GNU_SOURCE */

#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>

#define NC_AT_POS INT64_MIN     /* "at the file's own position" where an offset is expected */
#define NC_MAX_RW 0x7ffff000    /* Linux's MAX_RW_COUNT */
#define NC_TASK_SIZE 0x7ffffffff000ull
#define NC_PAGE 4096u

/* ---- readiness (ready.c) ---- */
/* What has readiness of its own; the first member of a pipe and of an eventfd. */
struct nc_source {
    uint64_t id;
    int watched;             /* Python has someone waiting */
    uint32_t mask;           /* EPOLL* to report; not 0: on the ready queue */
    struct nc_source *next;
};
uint64_t nc_new_id(void);
void nc_source_wake(struct nc_source *source, uint32_t mask);
void nc_source_forget(struct nc_source *source);
void nc_released_push(nc_file *file, bool lazy);
void nc_released_forget(nc_file *file);

/* ---- guest memory as a stream of bytes (iter.c) ---- */
struct nc_iter {
    int tid; /* 0: the sentry's own memory */
    int n;
    const struct nc_iov *iov;
    uint64_t skip; /* bytes of iov[0] already moved */
    uint64_t left;
};
/* Checks as Linux's import_iovec: -EINVAL for a negative length, -EFAULT for an address no guest can have. */
int nc_iter_init(struct nc_iter *it, int tid, const struct nc_iov *iov, int n);
size_t nc_copy_out(struct nc_iter *it, const void *buf, size_t len); /* to the guest; short at a fault */
size_t nc_copy_in(struct nc_iter *it, void *buf, size_t len);

/* ---- open file descriptions (file.c) ---- */
struct nc_file {
    uint32_t refs;
    uint16_t kind;
    uint16_t released;
    int32_t flags; /* O_*: access mode and status flags */
    int32_t noexec; /* on a noexec mount: no PROT_EXEC mapping */
    int64_t pos;
    uint64_t id;
    struct nc_place place; /* of directories and O_PATH descriptions, when their names are kept */
    union {
        void *object;
        nc_inode *inode;
        nc_pipe *pipe;
        nc_eventfd *event;
        nc_inet *inet;
    };
    nc_file *next; /* on the released queue */
    int queued;
    int uncounted; /* not among the inode's readers and writers */
    int prompt; /* Python minds when it is released */
    int lazy; /* Python does not know of it yet (open.c) */
    nc_file *lazy_next, **lazy_link;
    nc_rights *opener; /* of one that C has opened */
};
extern int nc_watched; /* somebody watches files: opens, writes and closes are told */
int64_t nc_read_iter(nc_file *file, struct nc_iter *to, int64_t offset, int rwf);
int64_t nc_write_iter(nc_file *file, struct nc_iter *from, int64_t offset, int rwf);
static inline bool nc_readable(const nc_file *file) {
    int mode = file->flags & (O_ACCMODE | O_PATH);
    return mode == O_RDONLY || mode == O_RDWR;
}
static inline bool nc_writable(const nc_file *file) {
    int mode = file->flags & (O_ACCMODE | O_PATH);
    return mode == O_WRONLY || mode == O_RDWR;
}

/* ---- regular files (reg.c) ---- */
struct nc_inode {
    uint32_t refs;
    int host_ro, host_rw; /* -1: not open */
    int owns;             /* close them with the inode */
    int unmarked;         /* it has no extended attributes */
    uint32_t live;        /* NC_LIVE_*: what fstat on the host says better than the fields below */
    uint32_t mode, uid, gid;
    uint64_t dev, ino, nlink, rdev;
    const struct nc_node *of; /* whose attributes these are; only compared */
    uint64_t grant;       /* writes that end beyond it are Python's (a file system with a size limit) */
    uint32_t readers, writers; /* descriptions open for reading only, and for writing: no program then (ETXTBSY) */
    uint32_t caps;        /* it has file capabilities */
};
void nc_inode_get(nc_inode *inode);
int64_t nc_reg_read(nc_file *file, struct nc_iter *to, int64_t offset, int rwf);
int64_t nc_reg_write(nc_file *file, struct nc_iter *from, int64_t offset, int rwf);
int nc_reg_stat(nc_inode *inode, struct stat *out);
/* Linux drops setuid and setgid bits and capabilities when a file is written: Python does that, so C leaves such writes
 * to it. */
static inline bool nc_has_privs(const nc_inode *inode) {
    return inode->mode & (S_ISUID | S_ISGID) || inode->caps;
}

/* ---- pipes (pipe.c) ---- */
struct nc_part {
    uint16_t start; /* where in its page the unread bytes begin */
    uint16_t len;
    bool packet; /* of an O_DIRECT write: one read gives no more, and what it leaves is lost */
    bool open;   /* later bytes may be added, as far as the page goes */
};
struct nc_pipe {
    struct nc_source source;
    uint32_t refs; /* files and the Python handle */
    uint32_t readers, writers;
    uint32_t r_counter, w_counter; /* opens ever: open(2) of a FIFO waits for the other side's to move */
    bool signals; /* O_ASYNC was set once: who may write is told of every read */
    uint32_t capacity;
    char *buf;           /* a ring, allocated with the first write */
    uint64_t head, tail; /* bytes ever taken and put */
    struct nc_part *parts; /* the bytes in the ring, in order: a ring of capacity / NC_PAGE, allocated with buf */
    uint32_t part_head, part_count;
};
void nc_pipe_get(nc_pipe *pipe);
void nc_pipe_attach(nc_file *file);
void nc_pipe_detach(nc_file *file);
int64_t nc_pipe_read(nc_pipe *pipe, struct nc_iter *to);
int64_t nc_pipe_write(nc_pipe *pipe, struct nc_iter *from, bool packets);
uint32_t nc_pipe_poll(const nc_file *file);
bool nc_pipe_fits(const nc_pipe *pipe, uint64_t n); /* whether all of a write of n bytes goes in now */

/* ---- eventfds (eventfd.c) ---- */
struct nc_eventfd {
    struct nc_source source;
    uint32_t refs;
    int semaphore;
    uint64_t count;
};
void nc_eventfd_get(nc_eventfd *event);
int64_t nc_eventfd_read(nc_eventfd *event, struct nc_iter *to);
int64_t nc_eventfd_write(nc_eventfd *event, struct nc_iter *from);
uint32_t nc_eventfd_poll(const nc_eventfd *event);

/* ---- inet sockets (inet.c) ---- */
struct nc_inet {
    uint32_t refs;
    int host_fd; /* -1: released */
    uint32_t known; /* EPOLL* events that would be no news */
    int slow; /* an option is in force that Python minds at every read */
};
void nc_inet_get(nc_inet *inet);

/* ---- descriptor tables (fdt.c) ---- */
extern int nc_stub_memfd; /* boot.c */
struct nc_slot {
    nc_file *file;
    uint8_t cloexec;
    /* The guest's host table holds a descriptor of ours at this number, made for mmap(2): a close should reach the
     * host as well. Says so until then, even while the slot is empty or holds another file. */
    uint8_t injected;
};
struct nc_fdt {
    uint32_t refs;
    int32_t size;       /* slots allocated */
    int32_t next_free;  /* no free slot below */
    int32_t limit;      /* RLIMIT_NOFILE, soft */
    int32_t crowded;    /* threads that nobody has met may use it: no nc_task counts them */
    int32_t stub_fd;    /* the loader stub's number in the guest's host table */
    int32_t locks;      /* a close may mean more (POSIX locks, mq_notify): it is Python's */
    int32_t fsize;      /* RLIMIT_FSIZE is finite: Python checks writes of regular files */
    struct nc_slot *slots;
};
static inline struct nc_slot *nc_fdt_slot(const nc_fdt *fdt, int fd) {
    if ((uint32_t)fd >= (uint32_t)fdt->size || !fdt->slots[fd].file) return NULL;
    return &fdt->slots[fd];
}
