// What a system call costs a program: prints `name nanoseconds` a line, the median of several rounds.
// Runs alike on bare Linux and in a sandbox. `bench NAME...` measures only these; `bench true` exits at once.
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 7 };

static int file, pipe_ends[2];
static char block[4096];
static struct stat status;
static struct utsname names;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void one_getppid(void) { syscall(SYS_getppid); }
static void one_lseek(void) { lseek(file, 0, SEEK_SET); }
static void one_fstat(void) { fstat(file, &status); }
static void one_uname(void) { uname(&names); }
static void one_umask(void) { umask(022); }
static void one_pread(void) {
    if (pread(file, block, sizeof block, 0) != sizeof block)
        die("pread");
}
static void one_pipe(void) {
    if (write(pipe_ends[1], block, 1) != 1 || read(pipe_ends[0], block, 1) != 1)
        die("pipe");
}
static void one_stat(void) {
    if (stat("/etc/passwd", &status))
        die("stat");
}
static void one_open(void) {
    int fd = open("/etc/passwd", O_RDONLY);
    if (fd < 0 || close(fd))
        die("open");
}
static void one_mmap(void) {
    char *page = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        die("mmap");
    page[0] = page[4096] = page[8192] = page[12288] = 1;
    munmap(page, 16384);
}

static uint32_t word;
static long futex(uint32_t *at, int op, uint32_t value) { return syscall(SYS_futex, at, op | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0); }
static void one_futex(void) { futex(&word, FUTEX_WAKE, 1); }

// Contended: two threads hand a turn back and forth; a hand-over is a wake and a wait.
static uint32_t turn;
static bool over;

static void wait_for(uint32_t mine) {
    uint32_t now;
    while ((now = __atomic_load_n(&turn, __ATOMIC_ACQUIRE)) != mine)
        futex(&turn, FUTEX_WAIT, now);
}

static void give(uint32_t next) {
    __atomic_store_n(&turn, next, __ATOMIC_RELEASE);
    futex(&turn, FUTEX_WAKE, 1);
}

static void *partner(void *unused) {
    (void)unused;
    for (;;) {
        wait_for(1);
        if (over)
            return NULL;
        give(0);
    }
}

static void one_contended(void) {
    give(1);
    wait_for(0);
}

static void *nothing(void *unused) { return unused; }

static void one_thread(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, nothing, NULL))
        die("pthread_create");
    pthread_join(thread, NULL);
}

static void reap(pid_t pid) {
    int how;
    if (pid < 0 || waitpid(pid, &how, 0) != pid || how != 0)
        die("child");
}

static void one_fork(void) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    reap(pid);
}

static void one_exec(void) {
    pid_t pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", "bench", "true", NULL);
        _exit(1);
    }
    reap(pid);
}

static void one_vfork_exec(void) {
    pid_t pid = vfork();
    if (pid == 0) {
        execl("/proc/self/exe", "bench", "true", NULL);
        _exit(1);
    }
    reap(pid);
}

// Two processes hand a message back and forth over TCP on loopback; each read waits.
static int tcp_end;

static void echo(int end) {
    char message[64];
    ssize_t n;
    while ((n = read(end, message, sizeof message)) > 0)
        if (write(end, message, (size_t)n) != n)
            _exit(1);
    _exit(0);
}

static pid_t start_echo(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&address, size) || listen(listener, 1) || getsockname(listener, (void *)&address, &size))
        die("listen");
    pid_t pid = fork();
    if (pid == 0) {
        int end = accept(listener, NULL, NULL);
        setsockopt(end, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        echo(end);
    }
    tcp_end = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(tcp_end, (void *)&address, size) || setsockopt(tcp_end, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one))
        die("connect");
    close(listener);
    return pid;
}

static void one_tcp(void) {
    char message[64] = "";
    if (write(tcp_end, message, sizeof message) != sizeof message || read(tcp_end, message, sizeof message) != sizeof message)
        die("tcp");
}

static const struct {
    const char *name;
    void (*one)(void);
    int count;
} benches[] = {
    {"getppid", one_getppid, 20000},   {"lseek", one_lseek, 20000},           {"fstat", one_fstat, 20000},
    {"umask", one_umask, 10000},       {"uname", one_uname, 10000},       {"pread_4k", one_pread, 10000},        {"pipe_write_read", one_pipe, 10000},
    {"stat", one_stat, 5000},          {"open_close", one_open, 3000},        {"mmap_touch_munmap", one_mmap, 10000},
    {"futex_wake", one_futex, 50000},  {"futex_handover", one_contended, 3000}, {"thread", one_thread, 1000},
    {"fork_exit_wait", one_fork, 200}, {"fork_exec_wait", one_exec, 100},     {"vfork_exec_wait", one_vfork_exec, 100},
    {"tcp_ping_pong", one_tcp, 1000},
};

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double measure(void (*one)(void), int count) {
    double rounds[ROUNDS];
    for (int i = 0; i < count / 10 + 1; i++)
        one();
    for (int round = 0; round < ROUNDS; round++) {
        double begun = now_ns();
        for (int i = 0; i < count; i++)
            one();
        rounds[round] = (now_ns() - begun) / count;
    }
    qsort(rounds, ROUNDS, sizeof *rounds, ascending);
    return rounds[ROUNDS / 2];
}

static bool wanted(const char *name, int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc < 2;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "true") == 0)
        return 0;
    pthread_t thread;
    file = open("/tmp/bench-file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || write(file, block, sizeof block) != sizeof block || pipe(pipe_ends))
        die("set-up");
    for (size_t i = 0; i < sizeof benches / sizeof *benches; i++) {
        if (!wanted(benches[i].name, argc, argv))
            continue;
        bool contended = benches[i].one == one_contended;
        if (contended)
            pthread_create(&thread, NULL, partner, NULL);
        pid_t echoing = benches[i].one == one_tcp ? start_echo() : 0;
        printf("%s %.0f\n", benches[i].name, measure(benches[i].one, benches[i].count));
        fflush(stdout);
        if (contended) {
            over = true;
            give(1);
            pthread_join(thread, NULL);
        }
        if (echoing) {
            close(tcp_end);
            reap(echoing);
        }
    }
    unlink("/tmp/bench-file");
    return 0;
}
