// Calls the kernel with boundary values and random ones, from fixed seeds: fuzz SEED COUNT [CALL ...].
//
// A worker makes the calls; it may well kill itself, and then the next one goes on where it stopped. Results do not
// matter: the test looks for records of bugs in the sentry's log, for a sandbox that still answers, and at its size.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <netinet/in.h>
#include <unistd.h>

#define LAST_CALL 480
#define ARENA (64 << 10)

static uint64_t state;
static char *arena;  // two pages of nothing behind it

static uint64_t next(void) {  // splitmix64
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static unsigned below(unsigned n) { return (unsigned)(next() % n); }

// Calls that only end or stop the worker, or that would take the fuzzer's own ground away.
static const int left_out[] = {SYS_exit,    SYS_exit_group,  SYS_pause,  SYS_rt_sigsuspend, SYS_rt_sigreturn, SYS_vfork,
                               SYS_fork,    SYS_clone,       SYS_munmap, SYS_mremap,        SYS_brk,          SYS_mprotect,
                               SYS_reboot,  SYS_rt_sigtimedwait, SYS_nanosleep, SYS_clock_nanosleep, SYS_rt_sigaction,
                               SYS_rt_sigprocmask, SYS_setitimer, SYS_alarm, SYS_futex, SYS_shmdt, SYS_arch_prctl, SYS_setsid, SYS_pkey_mprotect,
                               SYS_mmap, SYS_sigaltstack, SYS_execve, SYS_execveat, SYS_vhangup, SYS_mlockall, 462 /* mseal */, SYS_shmat,
                               SYS_madvise, SYS_remap_file_pages, SYS_set_robust_list, SYS_rseq, 453, 101 /* ptrace */};

static int is_left_out(int nr) {
    for (unsigned i = 0; i < sizeof left_out / sizeof *left_out; i++)
        if (left_out[i] == nr) return 1;
    return 0;
}

static const char *const paths[] = {
    "/", ".", "..", "", "/tmp", "/tmp/f/file", "/tmp/f/dir", "/tmp/f/link", "/tmp/f/loop", "/tmp/f/fifo", "/tmp/f/sock", "/proc/self/fd/3", "/proc/self/mem",
    "/proc/self/maps", "/proc/self/exe", "/proc/self/root", "/proc/1/cwd", "/proc/self/task", "/proc/sys/kernel/hostname", "/dev/null", "/dev/tty",
    "/dev/ptmx", "/dev/pts/0", "/dev/shm/x", "/dev/fd/4", "/sys/class/net", "/tmp/f/\xff\xfe\x80", "/tmp/f/new", "/tmp/f/dir/../../f/new2", "//tmp//f///file/", "/tmp/f/file/x",
    "user.name", "system.posix_acl_access", "security.capability", "trusted.x", "tmpfs", "proc", "overlay", "size=1k,nr_inodes=5", "/mq", "bind",
    "/proc/self/setgroups", "/proc/self/uid_map", "/proc/self/oom_score_adj", "/proc/self/comm", "/proc/self/environ", "/proc/net/tcp",
};
#define PATHS (sizeof paths / sizeof *paths)

static const uint64_t edges[] = {
    0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 20, 24, 28, 63, 64, 65, 100, 127, 128, 255, 256, 512, 1000, 1023, 1024, 1025, 4095, 4096, 4097, 8192, 65535, 65536, 65537,
    1 << 20, (1 << 20) + 1, 1 << 24, 0x7ffff000, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff, 0x100000000, 0x7fffffffffff, 0x800000000000,
    0x7ffffffffffff000, 0x7fffffffffffffff, 0x8000000000000000, 0xffff800000000000, 0xfffffffffffff000, (uint64_t)-100, (uint64_t)-4096, (uint64_t)-2, (uint64_t)-1,
};
#define EDGES (sizeof edges / sizeof *edges)

static uint64_t pointer(void) {
    switch (below(12)) {
    case 0: return (uint64_t)arena + ARENA - below(64);  // runs into the hole
    case 1: return 0x10000;
    case 2: return edges[below(EDGES)];
    case 3:
    case 4:
    case 5: return (uint64_t)paths[below(PATHS)];
    default: return (uint64_t)arena + (below(ARENA) & ~7u);
    }
}

static uint64_t value(void) {
    switch (below(10)) {
    case 0: return next();
    case 1: return 1ull << below(64);
    case 2: return (uint64_t)-(int64_t)below(200);
    case 3:
    case 4: return edges[below(EDGES)];
    case 5: return 1u << below(16) | 1u << below(16);
    case 6:
    case 7: return below(48);  // a descriptor
    default: return pointer();
    }
}

// Structures of all kinds: vectors, times, addresses, control messages lie about in the arena.
static void litter(void) {
    for (int i = 0; i < 64; i++) {
        uint64_t *at = (uint64_t *)(arena + (below(ARENA - 256) & ~7u));
        for (unsigned k = 0, n = below(16); k < n; k++) at[k] = below(3) ? value() : next() & next() & 0xffff;
        switch (below(6)) {
        case 0: memcpy(at, paths[below(PATHS)], 16); break;
        case 1: *(struct sockaddr_un *)at = (struct sockaddr_un){AF_UNIX, "/tmp/f/sock"}; break;
        case 2: *(struct sockaddr_in *)at = (struct sockaddr_in){.sin_family = below(12), .sin_port = (in_port_t)next()}; break;
        case 3: *(struct cmsghdr *)at = (struct cmsghdr){below(40), below(2) ? SOL_SOCKET : (int)next(), below(4)}; break;
        case 4: *(struct iovec *)at = (struct iovec){(void *)pointer(), value()}; break;
        }
    }
}

static void fill(void) {
    mkdir("/tmp/f", 0777);
    mkdir("/tmp/f/dir", 0777);
    close(open("/tmp/f/file", O_CREAT | O_WRONLY, 0666));
    symlink("file", "/tmp/f/link");
    symlink("loop", "/tmp/f/loop");
    mknod("/tmp/f/fifo", S_IFIFO | 0666, 0);
    int p[2], sock;
    struct sockaddr_un name = {AF_UNIX, "/tmp/f/sock"};
    struct sockaddr_in any = {.sin_family = AF_INET};
    for (int fd = 3; fd < 64; fd++) close(fd);
    pipe2(p, O_NONBLOCK);
    pipe(p);
    open("/tmp/f/file", O_RDWR);
    open("/tmp/f/file", O_RDONLY | O_NONBLOCK);
    open("/tmp/f/file", O_WRONLY | O_APPEND);
    open("/tmp/f", O_RDONLY | O_DIRECTORY);
    open("/tmp/f/file", O_PATH);
    open("/proc/self/status", O_RDONLY);
    open("/proc/self/mem", O_RDWR);
    open("/proc/self", O_RDONLY);
    open("/dev/null", O_RDWR);
    open("/dev/zero", O_RDWR);
    open("/dev/urandom", O_RDWR);
    open("/dev/full", O_RDWR);
    open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
    open("/tmp/f/fifo", O_RDWR | O_NONBLOCK);
    socketpair(AF_UNIX, SOCK_STREAM, 0, p);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, p);
    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, p);
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    unlink("/tmp/f/sock");
    bind(sock, (void *)&name, sizeof name);
    listen(sock, 3);
    sock = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    bind(sock, (void *)&any, sizeof any);
    listen(sock, 3);
    socket(AF_INET, SOCK_DGRAM, 0);
    socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
    socket(AF_NETLINK, SOCK_RAW, 0);
    epoll_create1(0);
    eventfd(3, 0);
    timerfd_create(CLOCK_MONOTONIC, 0);
    inotify_init1(IN_NONBLOCK);
    syscall(SYS_memfd_create, "m", MFD_ALLOW_SEALING);
    syscall(SYS_mq_open, "mq", O_CREAT | O_RDWR, 0666, NULL);
    syscall(434 /* pidfd_open */, getpid(), 0);
}

static void on_alarm(int sig) { (void)sig; }

static int verbose;

static volatile struct shared {
    unsigned done;
    unsigned worked[LAST_CALL];
    unsigned slow;
    struct {
        int nr;
        double took;
        uint64_t a[6];
    } slows[32];
} *shared;


static void __attribute__((noreturn)) work(unsigned from, unsigned count, int chosen_count, int *chosen) {
    uint64_t seed = state;
    state = seed ^ (uint64_t)from * 0x2545f4914f6cdd1d;
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    for (int sig = 1; sig < 65; sig++)
        if (sig != SIGALRM && sig != SIGKILL && sig != SIGSEGV && sig != SIGBUS) signal(sig, SIG_IGN);
    struct itimerval often = {{0, 20000}, {0, 20000}};
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++) dup2(null, fd);  // what the worker writes by chance is nobody's
    fill();
    setitimer(ITIMER_REAL, &often, NULL);
    for (unsigned i = from; i < count; i++) {
        shared->done = i + 1;
        if (i % 64 == 0) litter();
        if (i % 512 == 0) fill();
        int nr;
        do nr = chosen_count ? chosen[below((unsigned)chosen_count)] : (int)below(LAST_CALL);
        while (!chosen_count && is_left_out(nr));
        uint64_t a[6];
        for (int k = 0; k < 6; k++) a[k] = value();
        // Mostly the first argument is a descriptor or a path, or the second is one.
        if (below(3)) a[0] = below(2) ? below(48) : (uint64_t)paths[below(PATHS)];
        if (!below(3)) a[1] = below(2) ? pointer() : (uint64_t)paths[below(PATHS)];
        if (!below(3)) a[2] = edges[below(22)];
        // Commands that exist, for the calls that are many.
        if (nr == SYS_ioctl && below(8))
            a[1] = below(2) ? 0x5400 + below(0x80) : below(2) ? 0x8900 + below(0x80) : (uint64_t[]){0x6601, 0x40086602, 0x541b, 0xc0045878, 0x80045430, 0x40045431, 0x660b, 2}[below(8)];
        if (nr == SYS_fcntl && below(8)) a[1] = below(2) ? below(20) : 1024 + below(20);
        if (nr == SYS_prctl) a[0] = below(80);
        if ((nr == SYS_setsockopt || nr == SYS_getsockopt) && below(8)) {
            a[0] = 20 + below(20);
            a[1] = (uint64_t[]){0, 1, 6, 17, 41, 270, 58, 255}[below(8)];
            a[2] = below(90);
            if (below(2)) a[4] = below(64);
        }
        if (nr == SYS_kill || nr == SYS_tkill || nr == SYS_tgkill || nr == SYS_rt_sigqueueinfo || nr == SYS_rt_tgsigqueueinfo)
            if ((int)a[0] == -1 || a[0] < 4 || (int)a[0] == getppid()) continue;
        if (nr == SYS_prlimit64 || nr == SYS_setrlimit) a[nr == SYS_setrlimit ? 0 : 1] |= 32 * below(2);
        struct timespec t0, t1;
        clock_gettime(CLOCK_MONOTONIC, &t0);
        long result = syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (result >= 0) shared->worked[nr]++;
        clock_gettime(CLOCK_MONOTONIC, &t1);
        double took = (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9;
        if (took > 0.2 && shared->slow < 32) {
            unsigned at = shared->slow++;
            shared->slows[at].nr = nr;
            shared->slows[at].took = took;
            for (int k = 0; k < 6; k++) shared->slows[at].a[k] = a[k];
        }
    }
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    uint64_t seed = strtoull(argv[1], NULL, 0);
    unsigned count = (unsigned)strtoul(argv[2], NULL, 0), deaths = 0;
    verbose = getenv("VERBOSE") ? atoi(getenv("VERBOSE")) : 0;
    int chosen[64], chosen_count = 0;
    for (int i = 3; i < argc && chosen_count < 64; i++) chosen[chosen_count++] = atoi(argv[i]);
    arena = mmap(NULL, ARENA + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (arena == MAP_FAILED || shared == MAP_FAILED) return 3;
    munmap(arena + ARENA, 8192);
    while (shared->done < count) {
        unsigned from = shared->done;
        state = seed;
        setvbuf(stdout, NULL, _IOLBF, 0);
        pid_t pid = fork();
        if (pid < 0) {
            usleep(1000);
            continue;
        }
        if (pid == 0) work(from, count, chosen_count, chosen);
        int status;
        for (int waited = 0; waitpid(pid, &status, WNOHANG) == 0; waited++) {
            if (waited > 1000 && shared->done == from) kill(pid, SIGKILL);  // stuck in one call
            if (waited % 100 == 0) from = shared->done == from ? from : (waited = 0, shared->done);
            usleep(10000);
        }
        if (WIFSIGNALED(status)) deaths++;
        while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    }
    for (int nr = 0; verbose && nr < LAST_CALL; nr++)
        if (!shared->worked[nr] && !is_left_out(nr)) printf("never worked: %d\n", nr);
    for (unsigned i = 0; verbose && i < shared->slow; i++) {
        volatile uint64_t *a = shared->slows[i].a;
        printf("slow %.2f: %d(%#lx, %#lx, %#lx, %#lx, %#lx, %#lx)\n", shared->slows[i].took, shared->slows[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    printf("made %u calls, %u workers died\n", count, deaths);
    return 0;
}
