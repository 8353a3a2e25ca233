/* Guest memory as a stream: what the data calls read from and write to, vector by vector, each byte copied once. */
#include "objects.h"

#include <string.h>
#include <sys/uio.h>

#define BATCH 64 /* vectors given to one process_vm_* call */

int nc_iter_init(struct nc_iter *it, int tid, const struct nc_iov *iov, int n) {
    *it = (struct nc_iter){.tid = tid, .n = n, .iov = iov};
    for (int i = 0; i < n; i++) {
        if ((int64_t)iov[i].len < 0) return -EINVAL;
        if (tid && (iov[i].len > NC_TASK_SIZE || iov[i].addr > NC_TASK_SIZE - iov[i].len)) return -EFAULT;
        uint64_t room = NC_MAX_RW - it->left;
        it->left += iov[i].len < room ? iov[i].len : room;
    }
    return 0;
}

static void advance(struct nc_iter *it, size_t n) {
    it->left -= n;
    it->skip += n;
    while (it->n && it->skip >= it->iov->len) {
        it->skip -= it->iov->len;
        it->iov++;
        it->n--;
    }
}

static size_t move_own(struct nc_iter *it, char *buf, size_t len, bool in) {
    size_t done = 0;
    while (done < len && it->n) {
        size_t part = it->iov->len - it->skip;
        if (part > len - done) part = len - done;
        char *own = (char *)(uintptr_t)(it->iov->addr + it->skip);
        if (part) memcpy(in ? buf + done : own, in ? own : buf + done, part);
        advance(it, part);
        done += part;
    }
    return done;
}

static size_t move(struct nc_iter *it, char *buf, size_t len, bool in) {
    if (len > it->left) len = it->left;
    if (!it->tid) return move_own(it, buf, len, in);
    size_t done = 0;
    while (done < len) {
        struct iovec remote[BATCH];
        size_t batch = 0;
        unsigned long used = 0;
        uint64_t skip = it->skip;
        for (int i = 0; i < it->n && used < BATCH && done + batch < len; i++, skip = 0) {
            size_t part = it->iov[i].len - skip;
            if (part > len - done - batch) part = len - done - batch;
            if (!part) continue;
            remote[used++] = (struct iovec){(void *)(uintptr_t)(it->iov[i].addr + skip), part};
            batch += part;
        }
        struct iovec local = {buf + done, batch};
        ssize_t moved = in ? process_vm_readv(it->tid, &local, 1, remote, used, 0)
                           : process_vm_writev(it->tid, &local, 1, remote, used, 0);
        if (moved <= 0) break;
        advance(it, (size_t)moved);
        done += (size_t)moved;
        if ((size_t)moved < batch) break; /* a fault behind what was moved */
    }
    return done;
}

size_t nc_copy_out(struct nc_iter *it, const void *buf, size_t len) {
    return move(it, (char *)(uintptr_t)buf, len, false);
}

size_t nc_copy_in(struct nc_iter *it, void *buf, size_t len) { return move(it, buf, len, true); }
