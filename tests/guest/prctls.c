// prctl(2), arch_prctl(2), personality(2).
#include "probe.h"
#include <asm/prctl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/personality.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif
#define PR_SET_MDWE_ 65
#define PR_GET_MDWE_ 66
#define PR_GET_AUXV_ 0x41555856
#define PR_SET_MEMORY_MERGE_ 67
#define PR_GET_MEMORY_MERGE_ 68

static long p(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) { return syscall(SYS_prctl, option, a, b, c, d); }

// Options that every kernel has, called in odd ways.
PROBE(prctl_arguments) {
    int value = 77;
    SHOW(p(PR_SET_PDEATHSIG, 65, 0, 0, 0));
    SHOW(p(PR_SET_PDEATHSIG, -1, 0, 0, 0));
    SHOW(p(PR_SET_PDEATHSIG, SIGUSR1, 1, 2, 3));
    SHOW(p(PR_GET_PDEATHSIG, (long)&value, 0, 0, 0));
    SHOW(value);
    SHOW(p(PR_GET_PDEATHSIG, (long)unmapped, 0, 0, 0));
    SHOW(p(PR_SET_PDEATHSIG, 0, 0, 0, 0));
    SHOW(p(PR_GET_DUMPABLE, 0, 0, 0, 0));
    SHOW(p(PR_SET_DUMPABLE, 2, 0, 0, 0));
    SHOW(p(PR_SET_DUMPABLE, 3, 0, 0, 0));
    SHOW(p(PR_SET_DUMPABLE, 0, 5, 5, 5));
    SHOW(p(PR_GET_DUMPABLE, 5, 5, 5, 5));
    SHOW(p(PR_SET_DUMPABLE, 1, 0, 0, 0));
    SHOW(p(PR_GET_UNALIGN, (long)&value, 0, 0, 0));
    SHOW(p(PR_SET_UNALIGN, 1, 0, 0, 0));
    SHOW(p(PR_GET_KEEPCAPS, 0, 0, 0, 0));
    SHOW(p(PR_SET_KEEPCAPS, 2, 0, 0, 0));
    SHOW(p(PR_SET_KEEPCAPS, 1, 0, 0, 0));
    SHOW(p(PR_GET_KEEPCAPS, 0, 0, 0, 0));
    SHOW(p(PR_GET_FPEMU, (long)&value, 0, 0, 0));
    SHOW(p(PR_SET_FPEMU, 0, 0, 0, 0));
    SHOW(p(PR_GET_FPEXC, (long)&value, 0, 0, 0));
    SHOW(p(PR_GET_TIMING, 0, 0, 0, 0));
    SHOW(p(PR_SET_TIMING, PR_TIMING_STATISTICAL, 0, 0, 0));
    SHOW(p(PR_SET_TIMING, PR_TIMING_TIMESTAMP, 0, 0, 0));
    SHOW(p(PR_SET_NAME, (long)unmapped, 0, 0, 0));
    SHOW(p(PR_GET_NAME, (long)unmapped, 0, 0, 0));
    char name[16] = {0};
    SHOW(p(PR_SET_NAME, (long)"a name that is too long", 0, 0, 0));
    SHOW(p(PR_GET_NAME, (long)name, 0, 0, 0));
    say("%s", name);
    SHOW(p(PR_GET_ENDIAN, (long)&value, 0, 0, 0));
    SHOW(p(PR_SET_ENDIAN, 0, 0, 0, 0));
    SHOW(p(PR_GET_TSC, (long)&value, 0, 0, 0));
    SHOW(value);
    SHOW(p(PR_GET_TSC, (long)unmapped, 0, 0, 0));
    SHOW(p(PR_SET_TSC, 5, 0, 0, 0));
    SHOW(p(PR_SET_TSC, PR_TSC_ENABLE, 0, 0, 0));
    SHOW(p(PR_GET_SECUREBITS, 0, 0, 0, 0));
    SHOW(p(PR_GET_TIMERSLACK, 0, 0, 0, 0));
    SHOW(p(PR_SET_TIMERSLACK, 1234, 0, 0, 0));
    SHOW(p(PR_GET_TIMERSLACK, 0, 0, 0, 0));
    SHOW(p(PR_SET_TIMERSLACK, -55, 0, 0, 0));
    SHOW(syscall(SYS_prctl, PR_GET_TIMERSLACK) == -1 && errno == 55); // so large that it looks like an error
    SHOW(p(PR_SET_TIMERSLACK, 0, 0, 0, 0));
    SHOW(p(PR_GET_TIMERSLACK, 0, 0, 0, 0));
    SHOW(p(PR_MCE_KILL, 0, 0, 0, 0));
    SHOW(p(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
    SHOW(p(PR_MCE_KILL_GET, 0, 0, 0, 0));
    SHOW(p(PR_MCE_KILL, PR_MCE_KILL_SET, 7, 0, 0));
    SHOW(p(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 1, 0, 0));
    SHOW(p(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0));
    SHOW(p(PR_MCE_KILL_GET, 0, 0, 0, 0));
    SHOW(p(PR_MCE_KILL_GET, 1, 0, 0, 0));
    SHOW(p(PR_TASK_PERF_EVENTS_DISABLE, 0, 0, 0, 0));
    SHOW(p(PR_TASK_PERF_EVENTS_ENABLE, 0, 0, 0, 0));
    SHOW(p(PR_SET_CHILD_SUBREAPER, 5, 1, 1, 1));
    SHOW(p(PR_GET_CHILD_SUBREAPER, (long)&value, 1, 1, 1));
    SHOW(value);
    SHOW(p(PR_GET_CHILD_SUBREAPER, (long)unmapped, 0, 0, 0));
    SHOW(p(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0));
    SHOW(p(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0));
    SHOW(p(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW(p(PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SHOW(p(PR_GET_TID_ADDRESS, (long)&(void *){0}, 0, 0, 0) == 0 || errno == EINVAL);
    SHOW(p(PR_SET_THP_DISABLE, 1, 0, 0, 0));
    SHOW(p(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    SHOW(p(PR_SET_THP_DISABLE, 0, 0, 0, 0));
    SHOW(p(PR_SET_THP_DISABLE, 1, 0, 1, 0));
    SHOW(p(PR_GET_THP_DISABLE, 1, 0, 0, 0));
    SHOW(p(9999, 0, 0, 0, 0));
    SHOW(p(-1, 0, 0, 0, 0));
    SHOW(p(0, 0, 0, 0, 0));
}

static void say_state(const char *what) {
    say("%s: %lx keep %ld caps %d", what, p(PR_GET_SECUREBITS, 0, 0, 0, 0), p(PR_GET_KEEPCAPS, 0, 0, 0, 0), 0);
}

static void secure_bits(void) {
    SHOW(p(PR_SET_SECUREBITS, 0x1000, 0, 0, 0));
    SHOW(p(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS, 0, 0, 0));
    say_state("keep");
    SHOW(p(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED, 0, 0, 0));
    say_state("no root");
    SHOW(p(PR_SET_SECUREBITS, SECBIT_NOROOT_LOCKED, 0, 0, 0));
    SHOW(p(PR_SET_SECUREBITS, SECBIT_NOROOT, 0, 0, 0));
    SHOW(p(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_KEEP_CAPS_LOCKED, 0, 0, 0));
    SHOW(p(PR_SET_KEEPCAPS, 1, 0, 0, 0));
    say_state("locked");
}
static void secure_bits_as_user(void) {
    MUST(setresuid(1000, 1000, 1000));
    SHOW(p(PR_SET_SECUREBITS, 0, 0, 0, 0));
    SHOW(p(PR_SET_SECUREBITS, SECBIT_NOROOT, 0, 0, 0));
    SHOW(p(PR_CAPBSET_DROP, CAP_KILL, 0, 0, 0));
    SHOW(p(PR_CAPBSET_DROP, 99, 0, 0, 0));
    SHOW(p(PR_CAPBSET_READ, CAP_KILL, 0, 0, 0));
    SHOW(p(PR_CAPBSET_READ, 99, 0, 0, 0));
    SHOW(p(PR_CAPBSET_READ, 64, 0, 0, 0));
    SHOW(p(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static void ambient(void) {
    SHOW(p(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
    SHOW(p(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 99, 0, 0));
    SHOW(p(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 1, 0));
    SHOW(p(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 1));
    SHOW(p(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 1, 0, 0));
    SHOW(p(PR_CAP_AMBIENT, 9, 0, 0, 0));
    SHOW(p(PR_CAP_AMBIENT, 9, 99, 0, 0));
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    MUST(syscall(SYS_capget, &header, data));
    data[0].inheritable = 1 << CAP_KILL;
    MUST(syscall(SYS_capset, &header, data));
    SHOW(p(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
    SHOW(p(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 0));
    SHOW(p(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, CAP_KILL, 0, 0));
    SHOW(p(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 0));
    SHOW(p(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
    data[0].inheritable = 0;
    MUST(syscall(SYS_capset, &header, data));
    SHOW(p(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 0));
    SHOW(p(PR_SET_SECUREBITS, SECBIT_NO_CAP_AMBIENT_RAISE, 0, 0, 0));
    data[0].inheritable = 1 << CAP_KILL;
    MUST(syscall(SYS_capset, &header, data));
    SHOW(p(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
}

PROBE(prctl_privileges) {
    in_child("secure bits", secure_bits);
    in_child("secure bits of a user", secure_bits_as_user);
    in_child("ambient", ambient);
}

static void say_mapping(const char *name) {
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    bool found = false;
    while (fgets(line, sizeof line, maps))
        found |= strstr(line, name) != NULL;
    fclose(maps);
    say("%s: %s", name, found ? "shown" : "not shown");
}

PROBE(prctl_memory) {
    char *area = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool named = SHOW(p(PR_SET_VMA, 0, (long)area, 4096, (long)"probe area")) == 0;
    if (named)
        say_mapping("[anon:probe area]");
    SHOW(p(PR_SET_VMA, 0, (long)area, 4096, (long)"bad[name]"));
    SHOW(p(PR_SET_VMA, 0, (long)area + 1, 4096, (long)"x"));
    SHOW(p(PR_SET_VMA, 1, (long)area, 4096, (long)"x"));
    SHOW(p(PR_SET_VMA, 0, (long)unmapped, 4096, (long)"x"));
    SHOW(p(PR_SET_VMA, 0, (long)area, 4096, (long)unmapped));
    SHOW(p(PR_SET_VMA, 0, (long)area, 4096, 0));
    SHOW(p(PR_GET_MDWE_, 0, 0, 0, 0));
    SHOW(p(PR_GET_MDWE_, 1, 0, 0, 0));
    SHOW(p(PR_SET_MDWE_, 0, 0, 0, 0));
    SHOW(p(PR_SET_MDWE_, 8, 0, 0, 0));
    SHOW(p(PR_SET_MDWE_, 2, 0, 0, 0));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        SHOW(p(PR_SET_MDWE_, 1, 0, 0, 0));
        SHOW(p(PR_GET_MDWE_, 0, 0, 0, 0));
        SHOW(p(PR_SET_MDWE_, 3, 0, 0, 0));
        SHOW(mprotect(area, 4096, PROT_READ | PROT_EXEC));
        FACT(mmap(NULL, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
        _exit(0);
    }
    reap("child", pid);
    unsigned long auxv[128];
    long size = p(PR_GET_AUXV_, (long)auxv, sizeof auxv, 0, 0);
    FACT(size > 100);
    FACT(auxv[0] != 0);
    SHOW(p(PR_GET_AUXV_, (long)auxv, sizeof auxv, 1, 0));
    SHOW(p(PR_SET_MM, PR_SET_MM_ARG_START, 0, 0, 0));
    SHOW(p(PR_SET_MM, PR_SET_MM_START_CODE, 4096, 0, 0));
    SHOW(p(PR_SET_MM, 99, 0, 0, 0));
    unsigned size_of_map = 0;
    SHOW(p(PR_SET_MM, PR_SET_MM_MAP_SIZE, (long)&size_of_map, 0, 0));
    SHOW(p(PR_SET_MM, PR_SET_MM_MAP_SIZE, (long)unmapped, 0, 0));
    SHOW(p(PR_SET_MEMORY_MERGE_, 1, 0, 0, 0) == 0 || errno == EINVAL);
    SHOW(p(PR_SET_MEMORY_MERGE_, 0, 1, 0, 0));
}

PROBE(prctl_security) {
    SHOW(p(PR_GET_SECCOMP, 0, 0, 0, 0));
    SHOW(p(PR_SET_SECCOMP, 9, 0, 0, 0));
    SHOW(p(PR_SET_PTRACER, 0, 0, 0, 0) == 0 || errno == EINVAL);
    SHOW(p(PR_SET_SPECULATION_CTRL, 99, 0, 0, 0));
    SHOW(p(PR_GET_SPECULATION_CTRL, 99, 0, 0, 0));
    SHOW(p(PR_GET_SPECULATION_CTRL, 0, 1, 0, 0));
    SHOW(p(PR_SET_TAGGED_ADDR_CTRL, 0, 0, 0, 0));
    SHOW(p(PR_GET_TAGGED_ADDR_CTRL, 0, 0, 0, 0));
    SHOW(p(PR_SET_IO_FLUSHER, 1, 0, 0, 0));
    SHOW(p(PR_GET_IO_FLUSHER, 0, 0, 0, 0));
    SHOW(p(PR_SVE_GET_VL, 0, 0, 0, 0));
    SHOW(p(PR_SET_SYSCALL_USER_DISPATCH, 0, 1, 0, 0));
    SHOW(p(PR_MPX_ENABLE_MANAGEMENT, 0, 0, 0, 0));
}

PROBE(arch_prctl) {
    unsigned long base = 0, old;
    SHOW(syscall(SYS_arch_prctl, ARCH_GET_FS, &base));
    FACT(base != 0);
    SHOW(syscall(SYS_arch_prctl, ARCH_GET_GS, &old));
    SHOW(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x123000));
    SHOW(syscall(SYS_arch_prctl, ARCH_GET_GS, &base));
    SHOW(base);
    SHOW(syscall(SYS_arch_prctl, ARCH_SET_GS, 1UL << 63));
    SHOW(syscall(SYS_arch_prctl, ARCH_SET_GS, old));
    SHOW(syscall(SYS_arch_prctl, ARCH_GET_FS, unmapped));
    SHOW(syscall(SYS_arch_prctl, 0x9999, 0));
    SHOW(syscall(SYS_arch_prctl, 0x1012, 1)); // ARCH_SET_CPUID
}

static void say_personality(void) { say("%lx", (long)personality(0xffffffff)); }

PROBE(personalities) {
    say_personality();
    SHOW(personality(ADDR_NO_RANDOMIZE));
    say_personality();
    SHOW(personality(0x0020000)); // UNAME26
    SHOW(personality(PER_LINUX));
    in_child("child", say_personality);
}
