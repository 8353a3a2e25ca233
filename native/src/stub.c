/* The in-guest loader stub: what the host kernel really executes at every execve of a guest.
 *
 * It asks the sentry for the load plan, maps the segments, and jumps to the program (or its interpreter) with the
 * stack the host kernel laid out, as the sentry has patched it. It is linked at an address nothing else uses. */
#include "plan.h"

#define SYS_MMAP 9
#define SYS_PAUSE 34
#define SYS_PRCTL 157
#define SYS_EXIT_GROUP 231
#define PR_SET_PDEATHSIG 1
#define PR_SET_NAME 15
#define ENOSYS 38

/* What gets past seccomp filters of the guest's own, or 0: the sentry put it there. Cleared before the program begins. */
register unsigned long pass asm("r15");

static inline long call(long nr, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 asm("r10") = d;
    register long r8 asm("r8") = e;
    register long r9 asm("r9") = f;
    asm volatile("syscall"
                 : "=a"(result)
                 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return result;
}

__attribute__((used, noreturn)) void stub_main(unsigned long *sp) {
    struct nc_plan plan;
    plan.n = 0;
    long failed = call(NC_MAGIC_LOAD, (long)&plan, (long)sp, 0, 0, 0, (long)pass);
    /* Nobody answers: the sentry is dying, and takes us along. An exit of our own would hide of what we die. */
    while (failed == -ENOSYS) call(SYS_PAUSE, 0, 0, 0, 0, 0, (long)pass);
    if (failed) call(SYS_EXIT_GROUP, 127, 0, 0, 0, 0, (long)pass);
    call(SYS_PRCTL, PR_SET_NAME, (long)plan.comm, 0, 0, 0, (long)pass);
    if (plan.forget_parent) call(SYS_PRCTL, PR_SET_PDEATHSIG, 0, 0, 0, 0, (long)pass);
    for (unsigned long i = 0; i < plan.n; i++) {
        const struct nc_segment *s = &plan.segment[i];
        long at = call(SYS_MMAP, (long)s->addr, (long)s->len, (long)s->prot, (long)s->flags, (long)s->fd,
                       (long)s->offset);
        /* The old program is gone: as Linux does when a segment can't be mapped, end. */
        if (at != (long)s->addr) call(SYS_EXIT_GROUP, 127, 0, 0, 0, 0, (long)pass);
        volatile char *zero = (volatile char *)s->zero_from;
        for (unsigned long k = 0; k < s->zero_len; k++) zero[k] = 0;
    }
    if (plan.ready) call(NC_MAGIC_READY, 0, 0, 0, 0, 0, (long)pass);
    asm volatile("mov %0, %%rsp\n\t"
                 "xor %%edx, %%edx\n\t" /* no function for atexit, as the ABI has it */
                 "xor %%ebp, %%ebp\n\t"
                 "xor %%r9d, %%r9d\n\t"
                 "xor %%r15d, %%r15d\n\t"
                 "jmp *%1"
                 :
                 : "r"(plan.sp), "r"(plan.entry)
                 : "rdx", "r9", "memory");
    __builtin_unreachable();
}

asm(".globl _start\n"
    "_start:\n\t"
    "mov %rsp, %rdi\n\t"
    "lea -8192(%rsp), %rsp\n\t" /* the sentry moves argc..auxv down by up to a path's length */
    "and $-16, %rsp\n\t"
    "call stub_main\n");
