#include "harness.h"

#include <stdarg.h>

int nc_stub_memfd = 1000;
struct injected injected;

int nc_addfd(uint64_t id, int host_fd, int guest_fd, int cloexec) {
    injected = (struct injected){id, host_fd, guest_fd, cloexec, injected.count + 1};
    return guest_fd;
}

int64_t guest_call(nc_task *task, int nr, ...) {
    struct seccomp_notif req = {.id = 7, .pid = (__u32)task->tid, .data.nr = nr};
    struct seccomp_notif_resp resp = {.id = 7};
    va_list args;
    va_start(args, nr);
    for (int i = 0; i < 6; i++) req.data.args[i] = va_arg(args, uint64_t);
    va_end(args);
    if (!nc_fast(task, &req, &resp)) return TO_PYTHON;
    if (resp.flags) return TO_HOST;
    return resp.error ? resp.error : resp.val;
}

void drain(void) {
    struct nc_ready ready[8];
    uint64_t ids[8];
    while (nc_ready_take(ready, 8) > 0) {
    }
    while (nc_released_take(ids, 8) > 0) {
    }
    SAME(nc_ready_pending, 0);
}
