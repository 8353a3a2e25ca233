/* Random calls on regular files, made twice: of the host kernel and of nc_fast. Results, data and positions must agree.
 * Usage: same_as_linux [seed [rounds]] */
#include "harness.h"

#define FDS 12
#define SIZE 40000

static nc_task *task;
static nc_fdt *fdt;
static unsigned seed;

static unsigned pick(unsigned n) {
    seed = seed * 1103515245u + 12345u;
    return (seed >> 16) % n;
}

/* Descriptor i of ours is base + i of the host's. */
static int host_fd(int fd) { return fd < 0 ? fd : 100 + fd; }

static int64_t odd_offset(void) {
    static const int64_t odd[] = {0, 1, -1, 4095, 4096, 70000, INT64_MAX, INT64_MIN, 1ll << 33, -5000};
    return pick(4) ? (int64_t)pick(30000) : odd[pick(sizeof odd / sizeof *odd)];
}

static int64_t host(int nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    long result = syscall(nr, a, b, c, d);
    return result < 0 ? -errno : result;
}

int main(int argc, char **argv) {
    seed = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
    int rounds = argc > 2 ? atoi(argv[2]) : 20000;
    fdt = nc_fdt_new(FDS);
    task = nc_task_new((int)syscall(SYS_gettid), fdt);
    nc_file *files[5];
    nc_inode *inodes[2];
    int modes[5] = {O_RDWR, O_RDONLY, O_WRONLY, O_RDWR | O_APPEND, O_RDWR};
    int twins[2];
    for (int i = 0; i < 2; i++) {
        char path[64];
        int rw = fcntl(memfd_create("ours", 0), F_DUPFD, 200);
        snprintf(path, sizeof path, "/proc/self/fd/%d", rw);
        inodes[i] = nc_inode_new(fcntl(open(path, O_RDONLY), F_DUPFD, 200), rw, 1);
        nc_inode_set_attrs(inodes[i], 1, 1, S_IFREG | 0644, 0, 0, 1, 0, 3, 0, NULL);
        twins[i] = fcntl(memfd_create("linux", 0), F_DUPFD, 200);
    }
    for (int i = 0; i < 5; i++) {
        char path[64];
        files[i] = nc_file_new(NC_REG, modes[i] | 0100000 /* O_LARGEFILE, which open(2) adds */, inodes[i == 4]);
        nc_fdt_install(fdt, files[i], 0, 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", twins[i == 4]);
        int fd = open(path, modes[i]);
        dup2(fd, host_fd(i));
        close(fd);
    }
    static char mine[SIZE], theirs[SIZE], mine_stat[sizeof(struct stat)], their_stat[sizeof(struct stat)];
    for (int round = 0; round < rounds; round++) {
        int fd = (int)pick(FDS + 2) - 1, nr = 0;
        uint64_t size = pick(10) ? pick(3000) : pick(SIZE), b = 0, c = 0, d = 0, host_b = 0;
        bool vectors = false;
        struct iovec iov[2][4];
        switch (pick(12)) {
        case 0: nr = SYS_read; break;
        case 1: nr = SYS_write; break;
        case 2: nr = SYS_pread64; break;
        case 3: nr = SYS_pwrite64; break;
        case 4: nr = SYS_readv; vectors = true; break;
        case 5: nr = SYS_writev; vectors = true; break;
        case 6: nr = SYS_preadv; vectors = true; break;
        case 7: nr = SYS_lseek; break;
        case 8: nr = SYS_fcntl; break;
        case 9: nr = SYS_fstat; break;
        case 10: nr = pick(4) ? SYS_dup2 : SYS_pwritev; vectors = nr == SYS_pwritev; break;
        case 11: nr = SYS_ioctl; break;
        }
        memset(mine, 0, SIZE);
        memset(theirs, 0, SIZE);
        bool writing = nr == SYS_write || nr == SYS_pwrite64 || nr == SYS_writev || nr == SYS_pwritev;
        if (writing)
            for (uint64_t i = 0; i < SIZE; i++) mine[i] = theirs[i] = (char)(round + (int)i);
        d = (uint64_t)odd_offset();
        /* A file of 2^33 bytes of holes takes the host long to compare, so writes stay near. */
        if (writing && (int64_t)d > 100000) d %= 50000;
        if (vectors) {
            uint64_t at = 0;
            for (int i = 0; i < 4; i++) {
                uint64_t len = pick(5) ? pick(2000) : 0;
                iov[0][i] = (struct iovec){mine + at, len};
                iov[1][i] = (struct iovec){theirs + at, len};
                at += len;
            }
            b = (uintptr_t)iov[0], host_b = (uintptr_t)iov[1];
            c = pick(20) ? pick(5) : 1025;
        } else if (nr == SYS_lseek) {
            b = host_b = (uint64_t)odd_offset();
            if ((int64_t)b > 1ll << 40 && pick(2)) b = host_b = 5;
            c = pick(6);
        } else if (nr == SYS_fcntl) {
            static const int cmds[] = {F_GETFD, F_SETFD, F_GETFL, F_SETFL};
            b = host_b = (uint64_t)cmds[pick(4)];
            c = b == F_SETFL ? (pick(2) ? O_NONBLOCK : 0) | (modes[0] & 0) : pick(2);
            if (b == F_SETFL) c |= (uint64_t)fcntl(host_fd(fd), F_GETFL) & O_APPEND;
        } else if (nr == SYS_fstat) {
            b = (uintptr_t)mine_stat, host_b = (uintptr_t)their_stat;
        } else if (nr == SYS_dup2) {
            int to = pick(3) ? fd : (int)pick(FDS);
            b = (uint64_t)to, host_b = (uint64_t)host_fd(to);
        } else if (nr == SYS_ioctl) {
            b = host_b = TCGETS, c = (uintptr_t)mine;
        } else {
            b = (uintptr_t)mine, host_b = (uintptr_t)theirs, c = size;
            /* Not of writes: a faulting one may leave a page of zeros in a hole of Linux's file, as SEEK_DATA shows. */
            if (!writing && !pick(30)) b = host_b = 0x1000;
            if (!pick(50)) c = UINT64_MAX - pick(3);
        }
        int64_t ours = guest_call(task, nr, (uint64_t)(int64_t)fd, b, c, d, 0ul, 0ul);
        if (ours == TO_PYTHON) {
            fprintf(stderr, "round %d: call %d was not answered\n", round, nr);
            return 1;
        }
        int64_t bare = host(nr, (uint64_t)(int64_t)host_fd(fd), host_b, c, d);
        if (nr == SYS_dup2 && bare >= 100) bare -= 100;
        /* Linux 6.1 looks at the number of vectors before the descriptor's mode, later ones after it. */
        if (vectors && c > 1024 && ours == -EBADF && bare == -EINVAL) bare = ours;
        bool differ = ours != bare || memcmp(mine, theirs, SIZE);
        if (nr == SYS_fstat && !ours)
            differ |= ((struct stat *)mine_stat)->st_size != ((struct stat *)their_stat)->st_size;
        nc_file *file = fd >= 0 && nc_fdt_slot(fdt, fd) ? fdt->slots[fd].file : NULL;
        if (file) {
            off_t pos = lseek(host_fd(fd), 0, SEEK_CUR);
            if (pos != file->pos) differ = true;
        }
        if (differ) {
            fprintf(stderr, "round %d: call %d(%d, %#lx, %#lx, %#lx): %ld, Linux %ld; pos %ld %ld\n", round, nr, fd,
                    (long)b, (long)c, (long)d, (long)ours, (long)bare, file ? (long)file->pos : 0,
                    (long)lseek(host_fd(fd), 0, SEEK_CUR));
            return 1;
        }
    }
    nc_task_free(task->tid);
    nc_fdt_free(fdt);
    drain();
    for (int i = 0; i < 5; i++) nc_file_free(files[i]);
    for (int i = 0; i < 2; i++) nc_inode_put(inodes[i]);
    puts("ok");
    return 0;
}
