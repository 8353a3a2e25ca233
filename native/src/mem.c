/* Copies between the sentry and a guest's memory. process_vm_* stops at the first page that can't be touched and
 * gives what it copied, so a short count means a fault behind it. */
#include <string.h>
#include <sys/uio.h>

#include "core.h"

#define PAGE 4096u
#define MAX_VEC 1024

int64_t nc_read_mem(int tid, uint64_t addr, void *buf, uint64_t n) {
    if (!n) return 0;
    struct iovec local = {buf, n}, remote = {(void *)addr, n};
    ssize_t got = process_vm_readv(tid, &local, 1, &remote, 1, 0);
    return got < 0 ? -errno : got;
}

int64_t nc_write_mem(int tid, uint64_t addr, const void *buf, uint64_t n) {
    if (!n) return 0;
    struct iovec local = {(void *)buf, n}, remote = {(void *)addr, n};
    ssize_t put = process_vm_writev(tid, &local, 1, &remote, 1, 0);
    return put < 0 ? -errno : put;
}

int64_t nc_read_cstr(int tid, uint64_t addr, char *buf, uint64_t max) {
    uint64_t have = 0;
    while (have < max) {
        /* Up to the page's end, so that a string before an unmapped page is read whole; most paths are short. */
        uint64_t n = PAGE - ((addr + have) & (PAGE - 1));
        if (!have && n > 256) n = 256;
        if (n > max - have) n = max - have;
        int64_t got = nc_read_mem(tid, addr + have, buf + have, n);
        if (got <= 0) return got == -ESRCH ? -ESRCH : -EFAULT;
        char *end = memchr(buf + have, 0, (size_t)got);
        if (end) return end - buf;
        have += (uint64_t)got;
    }
    return -ENAMETOOLONG;
}

/* The guest's vectors as iovecs, cut at `max` bytes and MAX_VEC entries; gives their number. */
static int remote_vec(const struct nc_iov *iov, int n, uint64_t max, struct iovec *out) {
    int used = 0;
    for (int i = 0; i < n && used < MAX_VEC && max; i++) {
        uint64_t len = iov[i].len < max ? iov[i].len : max;
        if (!len) continue;
        out[used++] = (struct iovec){(void *)iov[i].addr, len};
        max -= len;
    }
    return used;
}

int64_t nc_read_vec(int tid, const struct nc_iov *iov, int n, void *buf, uint64_t max) {
    struct iovec remote[MAX_VEC], local = {buf, max};
    int used = remote_vec(iov, n, max, remote);
    if (!used) return 0;
    ssize_t got = process_vm_readv(tid, &local, 1, remote, (unsigned long)used, 0);
    return got < 0 ? -errno : got;
}

int64_t nc_write_vec(int tid, const struct nc_iov *iov, int n, const void *buf, uint64_t len) {
    struct iovec remote[MAX_VEC], local = {(void *)buf, len};
    int used = remote_vec(iov, n, len, remote);
    if (!used) return 0;
    ssize_t put = process_vm_writev(tid, &local, 1, remote, (unsigned long)used, 0);
    return put < 0 ? -errno : put;
}
