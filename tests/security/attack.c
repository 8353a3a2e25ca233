// A guest that owns all its threads and turns them against the kernel: attack NAME. Prints what came of it, ends with 0
// when the guest is as whole as it would be on Linux.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static atomic_int stop, count;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static pthread_t thread(void *(*body)(void *), void *argument) {
    pthread_t made;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 65536);
    if (pthread_create(&made, &attr, body, argument)) exit(3);
    return made;
}

static int reap(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// --- the loader stub's place in the host's descriptor table, taken while another thread executes a set-id program

static void *maps_over_the_stub(void *unused) {
    (void)unused;
    int self = open("/proc/self/exe", O_RDONLY);
    for (int fd = 58; fd < 70; fd++) dup2(self, fd);
    atomic_fetch_add(&count, 1);
    for (;;)
        for (int fd = 60; fd < 66; fd++) {
            void *at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
            if (at != MAP_FAILED) munmap(at, 4096);
        }
    return NULL;
}

static int stub_swap(void) {
    // What is executed is a set-id busybox; this program must not run in its place.
    int ours = 0, theirs = 0, killed = 0;
    for (int round = 0; round < 150; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (setgid(1000) || setuid(1000)) _exit(3);
            atomic_store(&count, 0);
            thread(maps_over_the_stub, NULL);
            while (!atomic_load(&count)) sched_yield();
            if (round % 2) usleep((useconds_t)round);
            char *argv[] = {"true", NULL}, *env[] = {"ATTACK=1", NULL};
            execve("/setid", argv, env);
            _exit(4);
        }
        int code = reap(pid);
        if (code == 0) theirs++;
        else if (code == 77) ours++;
        else if (code == 128 + SIGKILL) killed++;
        else printf("round %d: %d\n", round, code);
    }
    printf("attacker ran as root: %d times\n", ours);
    fprintf(stderr, "program ran %d times, killed %d times\n", theirs, killed);
    return ours != 0;
}

// --- a thread that leaves a wait through code it changed while it was parked

static uint8_t *code;  // mov eax, nr; syscall; ret, writable

static void write_code(uint8_t *at, int nr) {
    uint8_t bytes[] = {0x49, 0x89, 0xca, 0xb8, (uint8_t)nr, (uint8_t)(nr >> 8), 0, 0, 0x0f, 0x05, 0xc3};  // mov r10, rcx first
    memcpy(at, bytes, sizeof bytes);
}

static void *waits_in_our_code(void *pipe_fd) {
    char byte;
    long (*call)(long, void *, long, long) = (void *)code;
    for (int i = 0; i < 20; i++) {
        call((long)(intptr_t)pipe_fd, &byte, 1, 0);  // parked after some milliseconds
        atomic_fetch_add(&count, 1);
        for (int k = 0; k < 50; k++) {  // and makes other calls, which must get their own answers
            if (syscall(SYS_getppid) != getppid()) atomic_fetch_add(&count, 1000000);
            int p[2];
            if (pipe(p)) break;
            struct timespec little = {0, 100000};
            fd_set set;
            FD_ZERO(&set);
            FD_SET(p[0], &set);
            int ready = pselect(p[0] + 1, &set, NULL, NULL, &little, NULL);
            if (ready != 0 && ready != -1) atomic_fetch_add(&count, 1000000);
            close(p[0]);
            close(p[1]);
        }
    }
    return NULL;
}

static int escape_from_a_wait(void) {
    int p[2];
    if (pipe(p)) return 3;
    code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    write_code(code, SYS_read);
    pthread_t waiter = thread(waits_in_our_code, (void *)(intptr_t)p[0]);
    double end = now() + 3;
    while (now() < end && atomic_load(&count) % 1000000 < 20) {
        // The kernel steps back over `syscall` to sleep in a call of its own: two one-byte instructions are there then.
        code[8] = 0x90, code[9] = 0x90;
        usleep(300);
        code[8] = 0x0f, code[9] = 0x05;
        usleep(700);
        if (rand() % 8 == 0 && write(p[1], "xxxx", 4) < 0) break;
    }
    code[8] = 0x0f, code[9] = 0x05;
    for (int i = 0; i < 40; i++) {
        if (write(p[1], "x", 1) < 0) break;
    }
    close(p[1]);
    pthread_join(waiter, NULL);
    printf("wrong answers: %d\n", atomic_load(&count) / 1000000);
    return 0;
}

// --- a handler installed by one thread while another's signal stop is looked at

static void on_signal(int sig) { (void)sig; }

static void *flips_handlers(void *unused) {
    (void)unused;
    while (!atomic_load(&stop)) {
        signal(SIGUSR1, SIG_IGN);
        signal(SIGUSR1, on_signal);
        signal(SIGCHLD, SIG_DFL);
        signal(SIGCHLD, on_signal);
    }
    return NULL;
}

static void *reads_for_ever(void *pipe_fd) {
    char byte;
    for (;;) {
        long got = read((int)(intptr_t)pipe_fd, &byte, 1);
        if (got == 0) return NULL;
        if (got < 0 && errno != EINTR) atomic_fetch_add(&count, 1);
        if (got == 1 && byte != 'x') atomic_fetch_add(&count, 1);
    }
}

static int handlers_flip_under_waits(void) {
    int p[2];
    pthread_t readers[8];
    if (pipe(p)) return 3;
    for (int i = 0; i < 8; i++) readers[i] = thread(reads_for_ever, (void *)(intptr_t)p[0]);
    thread(flips_handlers, NULL);
    double end = now() + 2;
    while (now() < end) {
        for (int i = 0; i < 8; i++) pthread_kill(readers[i], i & 1 ? SIGUSR1 : SIGCHLD);
        usleep(5000);
        if (write(p[1], "xxx", 3) != 3) return 4;
    }
    atomic_store(&stop, 1);
    close(p[1]);
    for (int i = 0; i < 8; i++) pthread_join(readers[i], NULL);
    printf("wrong answers: %d\n", atomic_load(&count));
    return 0;
}

// --- other doors into the kernel

static void old_door(void) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");  // getpid of 32-bit programs
    _exit(result > 0 ? 0 : 1);
}

static int other_doors(void) {
    pid_t pid = fork();
    if (pid == 0) old_door();
    printf("int 0x80: %d\n", reap(pid));
    long result = syscall(0x40000000 | SYS_getpid);
    printf("x32 call: %ld %d\n", result, errno);
    result = syscall(-1);
    printf("call -1: %ld %d\n", result, errno);
    for (int nr = 4999; nr < 5003; nr++) {
        result = syscall(nr, 0, 0, 0, 0, 0, 0);
        printf("call %d: %ld\n", nr, result);
    }
    // A failed exec leaves no plan behind for the loader's call.
    char *huge = malloc(8 << 20), *argv[64];
    memset(huge, 'x', (8 << 20) - 1);
    huge[(8 << 20) - 1] = 0;
    for (int i = 0; i < 63; i++) argv[i] = huge;
    argv[63] = NULL;
    result = execve("/bin/busybox", argv, argv);
    printf("exec: %d\n", errno);
    uint64_t *big = mmap(NULL, 1ull << 34, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *big = 1ull << 40;
    result = syscall(5000, big + 1000, big);
    printf("loader's call: %ld %d\n", result, errno);
    return 0;
}

// --- exec, death and waits all at once

static void *waits(void *what) {
    int p[2];
    char byte;
    struct timespec hour = {3600, 0};
    uint32_t word = 0;
    switch ((intptr_t)what % 4) {
    case 0: if (pipe(p) == 0 && read(p[0], &byte, 1)) break; break;
    case 1: pause(); break;
    case 2: syscall(SYS_futex, &word, FUTEX_WAIT, 0, &hour, NULL, 0); break;
    case 3: nanosleep(&hour, NULL); break;
    }
    return NULL;
}

static void *execs(void *unused) {
    (void)unused;
    char *argv[] = {"/bin/busybox", "true", NULL}, *env[] = {NULL};
    execve("/bin/busybox", argv, env);
    return NULL;
}

static int exec_among_waiters(void) {
    int wrong = 0;
    for (int round = 0; round < 40; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            for (intptr_t i = 0; i < 12; i++) thread(waits, (void *)i);
            usleep((useconds_t)(rand() % 8000));
            if (round % 3 == 0) execs(NULL);
            thread(execs, NULL);
            if (round % 3 == 1) thread(execs, NULL);
            if (round % 5 == 4) _exit(0);
            pause();
        }
        usleep((useconds_t)(rand() % 10000));
        if (round % 4 == 3) kill(pid, SIGKILL);
        if (round % 7 == 6) {
            kill(pid, SIGSTOP);
            kill(pid, SIGCONT);
        }
        int ended = reap(pid);
        wrong += ended != 0 && ended != 128 + SIGKILL;
    }
    printf("ended otherwise: %d\n", wrong);
    return 0;
}

static int fork_races_kill(void) {
    for (int round = 0; round < 150; round++) {
        pid_t pid = fork();
        if (pid == 0)
            for (;;) {
                if (fork() == 0) _exit(0);
                while (waitpid(-1, NULL, WNOHANG) > 0) continue;
            }
        usleep((useconds_t)(rand() % 3000));
        kill(pid, SIGKILL);
        reap(pid);
        while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    }
    double end = now() + 6;
    while (now() < end && waitpid(-1, NULL, WNOHANG) >= 0) usleep(20000);
    printf("children left: %d\n", waitpid(-1, NULL, WNOHANG) == 0);
    return 0;
}

static int vfork_children_die(void) {
    int wrong = 0;
    for (int round = 0; round < 60; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (round % 2) thread(waits, (void *)1);
            pid_t child = vfork();
            if (child == 0) {
                if (round % 3 == 0) execl("/bin/busybox", "true", NULL);
                if (round % 3 == 1) kill(getpid(), SIGKILL);
                _exit(0);
            }
            int code = reap(child);
            _exit(code == 0 || code == 128 + SIGKILL ? 0 : 1);
        }
        if (round % 5 == 4) kill(pid, SIGSTOP), usleep(500), kill(pid, SIGCONT);
        if (round % 7 == 6) usleep(500), kill(pid, SIGKILL);
        int code = reap(pid);
        wrong += code != 0 && code != 128 + SIGKILL;
    }
    printf("ended otherwise: %d\n", wrong);
    return 0;
}

static int stop_storm(void) {
    int p[2];
    if (pipe(p)) return 3;
    pid_t pid = fork();
    if (pid == 0) {
        close(p[1]);
        pthread_t readers[6];
        for (int i = 0; i < 6; i++) readers[i] = thread(reads_for_ever, (void *)(intptr_t)p[0]);
        for (int i = 0; i < 6; i++) pthread_join(readers[i], NULL);
        _exit(atomic_load(&count) != 0);
    }
    close(p[0]);
    for (int i = 0; i < 300; i++) {
        kill(pid, SIGSTOP);
        if (i % 3) usleep(200);
        if (i % 2 && write(p[1], "xxxxxx", 6) < 0) break;
        if (i % 5 == 0) usleep(4000);
        kill(pid, SIGCONT);
        if (i % 7 == 0) usleep(4000);
    }
    close(p[1]);
    printf("readers: %d\n", reap(pid));
    return 0;
}

// --- init dies while many wait

static int init_dies_with_all_waiting(void) {
    for (int i = 0; i < 60; i++)
        if (fork() == 0) {
            for (intptr_t k = 0; k < 5; k++) thread(waits, (void *)(k + i));
            waits((void *)(intptr_t)i);
            _exit(0);
        }
    usleep(300000);
    printf("waiting\n");
    fflush(stdout);
    syscall(SYS_exit_group, 9);
    return 0;
}

// --- more files are open, all by different names, than the sentry may have descriptors

static int open_hog(int number) {
    char path[32];
    snprintf(path, sizeof path, "/hog%d", number);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd >= 0 && write(fd, "x", 1) != 1) exit(4);
    return fd;
}

static int many_files(void) {
    int told[2], held[2], wanted = 0, refused = 0, odd = 0;
    pipe(told);
    pipe(held);
    int ours = open_hog(6000);
    for (int child = 0; child < 6; child++) {
        if (fork() == 0) {
            int error = 0;
            close(ours);
            for (int i = 0; i < 200 && !error; i++) error = open_hog(child * 200 + i) < 0 ? errno : 0;
            write(told[1], &error, sizeof error);
            close(held[1]);
            read(held[0], &error, 1);
            _exit(0);
        }
        int error;
        read(told[0], &error, sizeof error);
        if (error == ENFILE) refused++;
        else if (error) odd++;
        else wanted++;
    }
    close(ours);  // a program's file is one of a guest's; what else it takes is the kernel's, which must not be short
    pid_t pid = fork();
    if (pid == 0) execl("/bin/true", "true", NULL);
    int program = reap(pid);
    close(held[1]);
    while (wait(NULL) > 0) continue;
    int fd = open_hog(5000);
    printf("%s, %s, other errors: %d; a program: %d; afterwards: %s\n", wanted ? "served" : "none served",
           refused ? "refused" : "none refused", odd, program, fd >= 0 ? "served" : strerror(errno));
    return 0;
}

static const struct {
    const char *name;
    int (*run)(void);
} attacks[] = {
    {"stub_swap", stub_swap},
    {"escape_from_a_wait", escape_from_a_wait},
    {"handlers_flip_under_waits", handlers_flip_under_waits},
    {"other_doors", other_doors},
    {"exec_among_waiters", exec_among_waiters},
    {"fork_races_kill", fork_races_kill},
    {"vfork_children_die", vfork_children_die},
    {"stop_storm", stop_storm},
    {"init_dies_with_all_waiting", init_dies_with_all_waiting},
    {"many_files", many_files},
};

int main(int argc, char **argv) {
    if (getenv("ATTACK")) return geteuid() == 0 ? 77 : 78;  // executed in the place of the set-id program
    setvbuf(stdout, NULL, _IOLBF, 0);
    srand(1);
    for (unsigned i = 0; i < sizeof attacks / sizeof *attacks; i++)
        if (argc > 1 && strcmp(argv[1], attacks[i].name) == 0) return attacks[i].run();
    return 2;
}
