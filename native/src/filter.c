/* A seccomp filter for this whole process (the guests' is installed by the zygote, boot.c). */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core.h"

int nc_load_filter(const void *program, int instructions) {
    struct sock_fprog given = {(unsigned short)instructions, (struct sock_filter *)program};
    long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &given);
    if (result > 0) return -ESRCH; /* the id of a thread that can't follow */
    return result ? -errno : 0;
}
