// Calls on the caller's own memory, and on another's: madvise(2), mremap(2), mlock(2), pkeys(7), process_vm_readv(2) …
#include "probe.h"
#include <sys/syscall.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

enum { PAGE = 4096 };
static char *pages(int n) {
    char *area = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
        must("mmap", -1);
    return area;
}
static long mapped(void *at) { return at == MAP_FAILED ? -1 : 0; }

PROBE(mmap_arguments) {
    char *area = pages(4);
    make_file("file", "content");
    int fd = MUST(open("file", O_RDWR)), read_only = MUST(open("file", O_RDONLY)), write_only = MUST(open("file", O_WRONLY));
    int path = MUST(open("file", O_PATH)), folder = MUST(open(".", O_RDONLY | O_DIRECTORY)), p[2];
    MUST(pipe(p));
    SHOW(mapped(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 99, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 1)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 99, 1)));
    SHOW(mapped(mmap(NULL, 0, PROT_READ, MAP_PRIVATE, fd, 0)));
    SHOW(mapped(mmap(NULL, 0, PROT_READ, MAP_PRIVATE, 99, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, 0, fd, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_SHARED, fd, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE, fd, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE | 0x40000000, fd, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_SHARED | 0x40000000, fd, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0)));
    SHOW(mapped(mmap(NULL, PAGE, 0x40, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, write_only, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, read_only, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_WRITE, MAP_PRIVATE, read_only, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_WRITE, MAP_PRIVATE, write_only, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, path, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, folder, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, p[0], 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, INT64_MAX & -PAGE)));
    SHOW(mapped(mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, -PAGE)));
    SHOW(mapped(mmap((void *)1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)));
    SHOW(mapped(mmap(area, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)));
    SHOW(mapped(mmap(kernel_half, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)));
    SHOW(mapped(mmap(NULL, 1UL << 62, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
    SHOW(mapped(mmap(NULL, -PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_NORESERVE | MAP_STACK, -1, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, 99, 0)));
    SHOW(mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 1)));
    SHOW(munmap(area, 0));
    SHOW(munmap(area + 1, PAGE));
    SHOW(munmap(area, -PAGE));
    SHOW(munmap(kernel_half, PAGE));
    SHOW(munmap(area, 1));
    SHOW(mprotect(area, PAGE, PROT_READ));
    SHOW(mprotect(area + PAGE, PAGE, 0x40));
    SHOW(mprotect(area + PAGE + 1, PAGE, PROT_READ));
    SHOW(mprotect(area + PAGE, 0, PROT_READ));
    SHOW(mprotect(area + PAGE, PAGE, PROT_READ | PROT_GROWSDOWN | PROT_GROWSUP));
    SHOW(mprotect(area + PAGE, PAGE, PROT_READ | PROT_GROWSDOWN));
    char *shared = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, read_only, 0);
    SHOW(mprotect(shared, PAGE, PROT_READ | PROT_WRITE));
    shared = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    SHOW(mprotect(shared, PAGE, PROT_READ | PROT_WRITE));
}

PROBE(mremap_arguments) {
    char *area = pages(8);
    SHOW(mapped(mremap(area + 1, PAGE, 2 * PAGE, 0)));
    SHOW(mapped(mremap(area, PAGE, 0, 0)));
    SHOW(mapped(mremap(area, PAGE, 2 * PAGE, 0)));
    SHOW(mapped(mremap(area, PAGE, 2 * PAGE, 8)));
    SHOW(mapped(mremap(area, PAGE, 2 * PAGE, MREMAP_FIXED, area)));
    SHOW(mapped(mremap(area, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area + PAGE)));
    SHOW(mapped(mremap(area, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area + 1)));
    SHOW(mapped(mremap(unmapped, PAGE, 2 * PAGE, MREMAP_MAYMOVE)));
    SHOW(mapped(mremap(area, 16 * PAGE, 32 * PAGE, MREMAP_MAYMOVE)));
    SHOW(mapped(mremap(area, 0, PAGE, MREMAP_MAYMOVE)));
    SHOW(mapped(mremap(area, PAGE, 2 * PAGE, MREMAP_DONTUNMAP)));
    SHOW(mapped(mremap(area, PAGE, 2 * PAGE, MREMAP_DONTUNMAP | MREMAP_MAYMOVE)));
    area[0] = 'x';
    char *moved = mremap(area, PAGE, PAGE, MREMAP_DONTUNMAP | MREMAP_MAYMOVE, NULL);
    FACT(moved != MAP_FAILED && moved[0] == 'x' && area[0] == 0);
    SHOW(mapped(mremap(area, 4 * PAGE, 2 * PAGE, 0)));
    char *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *again = mremap(shared, 0, PAGE, MREMAP_MAYMOVE);
    shared[0] = 'y';
    FACT(again != MAP_FAILED && again[0] == 'y');
}

PROBE(advice) {
    char *area = pages(4);
    make_file("file", "content");
    int fd = MUST(open("file", O_RDWR));
    char *file = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    for (int advice = -1; advice <= 26; advice++) {
        if (advice == MADV_HUGEPAGE || advice == MADV_NOHUGEPAGE || advice == MADV_MERGEABLE || advice == MADV_UNMERGEABLE || advice == 25)
            continue; // as the kernel was built
        say("advice %d", advice);
        SHOW(madvise(area, PAGE, advice));
        SHOW(madvise(file, PAGE, advice));
        SHOW(madvise(unmapped, PAGE, advice));
        SHOW(madvise(area + 1, PAGE, advice));
        SHOW(madvise(area, 0, advice));
    }
    SHOW(madvise(area, PAGE, MADV_HWPOISON));
    SHOW(madvise(area, PAGE, 101));
    area[0] = 'x';
    SHOW(madvise(area, PAGE, MADV_DONTNEED));
    SHOW(area[0]);
    SHOW(madvise(area, PAGE, MADV_DONTFORK));
    SHOW(madvise(area, PAGE, MADV_DOFORK));
    area[0] = 'x';
    SHOW(madvise(area, PAGE, MADV_WIPEONFORK));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        SHOW(area[0]);
        _exit(0);
    }
    reap("child", pid);
    SHOW(madvise(area, -PAGE, MADV_NORMAL));
}

PROBE(memory_in_core) {
    unsigned char vector[8] = {0};
    char *area = pages(4);
    area[PAGE] = 1;
    SHOW(mincore(area, 4 * PAGE, vector));
    say("%d %d", vector[0] & 1, vector[1] & 1);
    SHOW(mincore(area + 1, PAGE, vector));
    SHOW(mincore(area, PAGE, unmapped));
    SHOW(mincore(unmapped, PAGE, vector));
    SHOW(mincore(area, 0, vector));
    SHOW(msync(area, PAGE, MS_SYNC | MS_ASYNC));
    SHOW(msync(area, PAGE, 8));
    SHOW(msync(area + 1, PAGE, MS_SYNC));
    SHOW(msync(unmapped, PAGE, MS_SYNC));
    SHOW(msync(area, PAGE, 0));
    SHOW(mlock(area, PAGE));
    SHOW(msync(area, PAGE, MS_INVALIDATE));
    SHOW(munlock(area, PAGE));
    SHOW(mlock(unmapped, PAGE));
    SHOW(mlock2(area, PAGE, MLOCK_ONFAULT));
    SHOW(mlock2(area, PAGE, 2));
    SHOW(munlock(unmapped, PAGE));
    SHOW(mlock(area, 0));
}

PROBE(protection_keys) {
    char *area = pages(1);
    long key = syscall(SYS_pkey_alloc, 0, 0);
    say("%s", key >= 0 || errno == ENOSPC || errno == EINVAL ? "an answer" : strerrorname_np(errno));
    SHOW(syscall(SYS_pkey_alloc, 1, 0));
    SHOW(syscall(SYS_pkey_alloc, 0, 8));
    SHOW(syscall(SYS_pkey_free, 99));
    SHOW(syscall(SYS_pkey_mprotect, area, PAGE, PROT_READ, -1));
    SHOW(syscall(SYS_pkey_mprotect, area, PAGE, PROT_READ, 99));
}

static long raw_brk(void *at) { return syscall(SYS_brk, at); }

PROBE(program_break) {
    char *begin = sbrk(0);
    FACT(raw_brk(NULL) == (long)begin);
    FACT(raw_brk(begin + 10 * PAGE) == (long)begin + 10 * PAGE);
    begin[9 * PAGE] = 1;
    FACT(raw_brk(begin) == (long)begin);
    FACT(raw_brk((void *)PAGE) == (long)begin);
    FACT(raw_brk(kernel_half) == (long)begin);
}

PROBE(sealed_memory) {
    char *area = pages(2);
    long sealed = syscall(SYS_mseal, area, PAGE, 0);
    if (sealed == -1)
        say("%s", strerrorname_np(errno));
    SHOW(syscall(SYS_mseal, area, PAGE, 1));
    SHOW(munmap(area, PAGE));
    SHOW(mprotect(area, PAGE, PROT_READ));
    SHOW(munmap(area + PAGE, PAGE));
}

// ---- another's memory

static char *shown;
static void linger(void) {
    prctl(PR_SET_DUMPABLE, 1);
    MUST(raise(SIGSTOP));
    for (;;)
        pause();
}
static pid_t spawn_lingering(void) {
    pid_t pid = spawn(linger);
    MUST(waitpid(pid, NULL, WUNTRACED));
    MUST(kill(pid, SIGCONT));
    return pid;
}

static void reach_as_user(void) {
    MUST(setresuid(1000, 1000, 1000));
    char here[8];
    SHOW(process_vm_readv(1, &(struct iovec){here, 4}, 1, &(struct iovec){shown, 4}, 1, 0));
    SHOW(process_vm_writev(1, &(struct iovec){here, 4}, 1, &(struct iovec){shown, 4}, 1, 0));
}

PROBE(process_memory_arguments) {
    char here[16] = {0};
    shown = pages(2);
    strcpy(shown, "shown");
    pid_t pid = spawn_lingering();
    struct iovec mine = {here, 5}, theirs = {shown, 5}, bad = {unmapped, 5}, split[] = {{shown, 2}, {unmapped, 2}};
    SHOW(process_vm_readv(pid, &mine, 1, &theirs, 1, 0));
    say("%s", here);
    SHOW(process_vm_readv(pid, &mine, 1, &theirs, 1, 1));
    SHOW(process_vm_readv(pid, &mine, 1, &bad, 1, 0));
    SHOW(process_vm_readv(pid, &bad, 1, &theirs, 1, 0));
    SHOW(process_vm_readv(pid, &mine, 1, split, 2, 0));
    SHOW(process_vm_readv(pid, &mine, 0, &theirs, 1, 0));
    SHOW(process_vm_readv(pid, &mine, 1, &theirs, 0, 0));
    SHOW(process_vm_readv(pid, &mine, -1, &theirs, 1, 0));
    SHOW(process_vm_readv(pid, &mine, 1, &theirs, -1, 0));
    SHOW(process_vm_readv(pid, &mine, 1025, &theirs, 1, 0));
    SHOW(process_vm_readv(pid, unmapped, 1, &theirs, 1, 0));
    SHOW(process_vm_readv(pid, &mine, 1, unmapped, 1, 0));
    SHOW(process_vm_readv(pid, &(struct iovec){here, -1}, 1, &theirs, 1, 0));
    SHOW(process_vm_readv(pid, &mine, 1, &(struct iovec){shown, -1}, 1, 0));
    SHOW(process_vm_readv(99999, &mine, 1, &theirs, 1, 0));
    SHOW(process_vm_readv(-1, &mine, 1, &theirs, 1, 0));
    SHOW(process_vm_readv(0, &mine, 1, &theirs, 1, 0));
    memcpy(here, "wrote", 5);
    SHOW(process_vm_writev(pid, &mine, 1, &theirs, 1, 0));
    memset(here, 0, sizeof here);
    SHOW(process_vm_readv(pid, &mine, 1, &theirs, 1, 0));
    say("%s", here);
    in_child("user", reach_as_user);
    kill(pid, SIGKILL);
    MUST(waitid(P_PID, pid, &(siginfo_t){0}, WEXITED | WNOWAIT));
    SHOW(process_vm_readv(pid, &mine, 1, &theirs, 1, 0));
    reap("child", pid);
}
