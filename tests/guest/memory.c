// Memory: mmap(2) of nothing and of files, mprotect(2), mremap(2), brk(2), faults.
#include "probe.h"
#include <setjmp.h>

static sigjmp_buf back;
static volatile int fault_signal, fault_code;

static void on_fault(int sig, siginfo_t *info, void *context) {
    (void)context;
    fault_signal = sig;
    fault_code = info->si_code;
    siglongjmp(back, 1);
}

static void say_touch(const char *what, volatile char *at, bool write) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    if (sigsetjmp(back, 1)) {
        say("%s: %s code %d", what, signal_name(fault_signal), fault_code);
        return;
    }
    if (write)
        *at = 'w';
    else
        (void)*at;
    say("%s: fine", what);
}

#define TOUCH(at, write) say_touch(#at " " #write, (at), (write))

static char *map(size_t size, int prot, int flags, int fd, off_t offset) {
    char *at = mmap(NULL, size, prot, flags, fd, offset);
    ok("mmap", at == MAP_FAILED ? -1 : 0);
    return at;
}

PROBE(mmap_anonymous) {
    char *m = map(8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FACT(m[0] == 0 && m[8191] == 0);
    m[0] = 'x';
    SHOW(mprotect(m, 4096, PROT_READ));
    TOUCH(m, false);
    TOUCH(m, true);
    TOUCH(m + 4096, true);
    SHOW(mprotect(m, 4096, PROT_NONE));
    TOUCH(m, false);
    SHOW(munmap(m, 4096));
    TOUCH(m, false);
    SHOW(munmap(m + 1, 4096));
    SHOW(munmap(m, 0));
    SHOW(mprotect(m, 4096, PROT_READ));
    SHOW(mprotect(m + 1, 4096, PROT_READ));
    char *fixed = mmap(m, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    FACT(fixed == m);
    fixed = mmap(m, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    fact("refused", fixed == MAP_FAILED && errno == EEXIST);
    SHOW(madvise(m, 4096, MADV_DONTNEED));
    SHOW(madvise(m, 4096, 12345));
    SHOW(msync(m, 4096, MS_SYNC));
    SHOW(mlock(m, 4096) == 0 || errno == ENOMEM || errno == EPERM);
}

static long try_map(size_t size, int prot, int flags, int fd, off_t offset) {
    void *at = mmap(NULL, size, prot, flags, fd, offset);
    return at == MAP_FAILED ? -1 : 0;
}

PROBE(mmap_errors) {
    make_file("f", "content");
    int reader = MUST(open("f", O_RDONLY)), writer = MUST(open("f", O_WRONLY)), folder = MUST(open(".", O_RDONLY));
    int p[2];
    MUST(pipe(p));
    SHOW(try_map(0, PROT_READ, MAP_PRIVATE, reader, 0));
    SHOW(try_map(4096, PROT_READ, MAP_PRIVATE, reader, 1));
    SHOW(try_map(4096, PROT_READ, 0, reader, 0));
    SHOW(try_map(4096, PROT_READ, MAP_PRIVATE, 99, 0));
    SHOW(try_map(4096, PROT_READ, MAP_PRIVATE, -1, 0));
    SHOW(try_map(4096, PROT_READ, MAP_PRIVATE, writer, 0));
    SHOW(try_map(4096, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0));
    SHOW(try_map(4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer, 0));
    SHOW(try_map(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, reader, 0));
    SHOW(try_map(4096, PROT_READ, MAP_PRIVATE, folder, 0));
    SHOW(try_map(4096, PROT_READ, MAP_PRIVATE, p[0], 0));
    SHOW(try_map((size_t)1 << 60, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    SHOW(try_map(4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, 99, 0));
    SHOW(try_map(4096, PROT_READ, MAP_SHARED_VALIDATE | 0x8000000, reader, 0));
    SHOW(try_map(4096, PROT_READ, MAP_PRIVATE, open("f", O_PATH), 0));
}

PROBE(mmap_private_file) {
    make_file("f", "file content");
    int fd = MUST(open("f", O_RDWR));
    char *m = map(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    say("%s", m);
    memcpy(m, "MINE", 4);
    say("%s", m);
    say_file("f");
    SHOW(close(fd));
    say("%s", m);
    FACT(m[4095] == 0);
    int flags = MUST(open("f", O_RDONLY));
    char *r = map(4096, PROT_READ, MAP_PRIVATE, flags, 0);
    TOUCH(r, true);
    SHOW(mprotect(r, 4096, PROT_READ | PROT_WRITE));
    TOUCH(r, true);
    say_file("f");
}

PROBE(mmap_shared_file) {
    char text[32] = {0};
    make_file("f", "0123456789");
    int fd = MUST(open("f", O_RDWR)), other = MUST(open("f", O_RDWR));
    char *m = map(4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *n = map(4096, PROT_READ, MAP_SHARED, other, 0);
    memcpy(m, "MAPPED", 6);
    say("%.10s", n);
    SHOW(pread(other, text, 31, 0));
    say("%s", text);
    SHOW(pwrite(other, "written", 7, 0));
    say("%.10s", m);
    SHOW(msync(m, 4096, MS_SYNC));
    close(fd);
    close(other);
    memcpy(m, "closed", 6);
    say_file("f");
    pid_t pid = MUST(fork());
    if (pid == 0) {
        memcpy(m, "child!", 6);
        _exit(0);
    }
    reap("child", pid);
    say("%.10s", n);
    SHOW(unlink("f"));
    memcpy(m, "unlink", 6);
    say("%.10s", n);
}

PROBE(mmap_beyond_end) {
    make_file("f", "short");
    int fd = MUST(open("f", O_RDWR));
    char *m = map(12288, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    TOUCH(m, false);
    TOUCH(m + 4095, true);
    TOUCH(m + 4096, false);
    SHOW(ftruncate(fd, 8192));
    TOUCH(m + 4096, true);
    TOUCH(m + 8192, false);
    SHOW(ftruncate(fd, 0));
    TOUCH(m, false);
    char *offset = map(4096, PROT_READ, MAP_PRIVATE, fd, 1 << 20);
    TOUCH(offset, false);
}

PROBE(mmap_shared_anonymous) {
    volatile int *m = (int *)map(4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    volatile int *private = (int *)map(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pid_t pid = MUST(fork());
    if (pid == 0) {
        *m = 42;
        *private = 42;
        _exit(0);
    }
    reap("child", pid);
    SHOW(*m);
    SHOW(*private);
}

PROBE(mremap) {
    char *m = map(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(m, "moves along");
    char *bigger = mremap(m, 4096, 1 << 20, MREMAP_MAYMOVE);
    FACT(bigger != MAP_FAILED);
    say("%s", bigger);
    bigger[(1 << 20) - 1] = 1;
    FACT(mremap(bigger, 1 << 20, 4096, 0) == bigger);
    TOUCH(bigger + 4096, false);
    FACT(mremap(bigger + 1, 4096, 8192, 0) == MAP_FAILED && errno == EINVAL);
    FACT(mremap(unmapped, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
    // growing a file mapping shows more of the file
    int fd = MUST(open("f", O_RDWR | O_CREAT, 0644));
    MUST(ftruncate(fd, 8192));
    MUST(pwrite(fd, "second page", 11, 4096));
    char *file = map(4096, PROT_READ, MAP_SHARED, fd, 0);
    file = mremap(file, 4096, 8192, MREMAP_MAYMOVE);
    say("%s", file + 4096);
}

PROBE(brk) {
    char *start = sbrk(0);
    FACT(sbrk(100000) == start);
    start[99999] = 1;
    FACT((char *)sbrk(0) == start + 100000);
    FACT(sbrk(-100000) == start + 100000);
    FACT(syscall(SYS_brk, 0) == (long)start);
}

PROBE(mmap_code) {
    static const unsigned char code[] = {0xb8, 0x2a, 0, 0, 0, 0xc3};  // mov eax, 42; ret
    char *m = map(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(m, code, sizeof code);
    SHOW(mprotect(m, 4096, PROT_READ | PROT_EXEC));
    SHOW(((int (*)(void))m)());
    int fd = MUST(open("code", O_RDWR | O_CREAT, 0755));
    MUST(write(fd, code, sizeof code));
    m = map(4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    SHOW(((int (*)(void))m)());
}

PROBE(memfd) {
    char text[8] = {0};
    int fd = OK(memfd_create("name", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    SHOW(write(fd, "memory", 6));
    char *m = map(4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    m[0] = 'M';
    SHOW(pread(fd, text, 7, 0));
    say("%s", text);
    munmap(m, 4096);
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK));
    SHOW(write(fd, "x", 1));
    SHOW(ftruncate(fd, 1));
    SHOW(fcntl(fd, F_GET_SEALS));
    SHOW(memfd_create("name", 0x100));
    char link[64] = "", target[64] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    MUST(readlink(link, target, sizeof target - 1));
    say("%s", target);
}

static void use_up_stack(int depth) {
    volatile char room[4096];
    room[0] = (char)depth;
    if (depth > 0)
        use_up_stack(depth - 1);
    room[1] = room[0];
}

static void grow_stack(void) { use_up_stack(1000); }
static void overflow(void) { use_up_stack(100000); }

PROBE(stack) {
    in_child("4 MB of stack", grow_stack);
    in_child("overflow", overflow);
}

PROBE(copy_on_write) {
    size_t size = 8 << 20;
    char *m = map(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(m, 1, size);
    for (int i = 0; i < 3; i++) {
        pid_t pid = MUST(fork());
        if (pid == 0) {
            memset(m, 2, size);
            _exit(m[size - 1]);
        }
        reap("child", pid);
    }
    FACT(m[0] == 1 && m[size - 1] == 1);
}

PROBE(mincore) {
    unsigned char pages[2];
    char *m = map(8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    m[0] = 1;
    SHOW(mincore(m, 8192, pages));
    say("%d %d", pages[0] & 1, pages[1] & 1);
    SHOW(mincore(m + 1, 4096, pages));
}

PROBE(map_high_descriptor) {
    struct rlimit limit;
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max;
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    make_file("f", "text");
    int fd = SHOW(fcntl(MUST(open("f", O_RDONLY)), F_DUPFD, 3000));
    char *text = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    FACT(text != MAP_FAILED && !strcmp(text, "text"));
}

static void *code_of(const char *what, void *at, size_t size) {
    if (at == MAP_FAILED) {
        say("%s: %s", what, strerrorname_np(errno));
        return NULL;
    }
    long result = mprotect(at, size, PROT_READ | PROT_EXEC);
    say("%s: mprotect %ld %s", what, result, result ? strerrorname_np(errno) : "");
    return at;
}

static char *from_noexec;

static void make_code(void) { code_of("in a child", from_noexec, 4096); }

// /dev/shm is mounted noexec: what is mapped from it can't become code, at once or later.
PROBE(mprotect_of_noexec_mapping) {
    int fd = MUST(open("/dev/shm/f", O_RDWR | O_CREAT | O_TRUNC, 0755));
    MUST(ftruncate(fd, 3 * 4096));
    code_of("exec at once", mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0), 4096);
    code_of("anonymous", mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
    char *one = code_of("shared", mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), 3 * 4096);
    code_of("private", mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0), 4096);
    code_of("none", mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE, fd, 0), 4096);
    code_of("a part", one + 4096, 1);
    SHOW(syscall(SYS_pkey_mprotect, one, 4096, PROT_READ | PROT_EXEC, -1));
    SHOW(mprotect(one, 4096, PROT_READ));
    SHOW(mprotect(one, 0, PROT_EXEC));
    SHOW(mprotect(one + 1, 4096, PROT_EXEC));
    SHOW(mprotect(one, 4096, PROT_EXEC | 0x40));
    code_of("anonymous over it", mmap(one + 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), 4096);
    code_of("with its neighbour", one + 4096, 2 * 4096);
    MUST(munmap(one + 4096, 4096));
    SHOW(mprotect(one + 4096, 2 * 4096, PROT_READ | PROT_EXEC)); // a hole first
    SHOW(mprotect(one, 2 * 4096, PROT_READ | PROT_EXEC));
    from_noexec = one;
    in_child("child", make_code);
    int plain = MUST(open("f", O_RDWR | O_CREAT, 0644));
    MUST(ftruncate(plain, 4096));
    code_of("of another mount", mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, plain, 0), 4096);
    char *moved = mremap(one, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, one + 4096);
    code_of("moved", moved, 4096);
    unlink("/dev/shm/f");
    code_of("unlinked", moved, 4096);
}
