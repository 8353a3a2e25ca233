/* The native core's own shared declarations: what its C files know of each other. */
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "api.h"

/* A guest thread as the fast path needs it. Hashed by host tid (task.c). */
struct nc_task {
    int32_t tid;
    uint8_t fast;        /* 0: answer nothing in C for this task */
    uint8_t fresh;       /* its first stop has not come yet: resume it without asking */
    uint8_t stop_wanted; /* Python interrupted it: the next stop is Python's */
    uint8_t parked;      /* it sleeps in a native pause(2) in place of its call */
    uint8_t aside;       /* Python has it make a call again: answer nothing in C */
    uint8_t mixed;       /* it may differ from other threads of its process */
    uint8_t loading;     /* so many mappings of its program the loader stub still makes: they run natively */
    uint8_t mode;        /* NC_RUN_* */
    uint8_t watched;     /* another guest traces it */
    uint8_t waits;       /* it traces others */
    uint8_t passing;     /* r9 below is the guest's, its own register holds the pass */
    uint8_t interrupted; /* a call of its that the host ran has just ended with -ERESTARTSYS */
    uint32_t sent;       /* of its present call, a blocking one: bytes that were sent before it became Python's */
    uint64_t r9;
    uint32_t uid, euid, gid, egid;
    nc_fdt *fdt;
    nc_fs *fs;         /* NULL, as rights: paths are Python's */
    nc_rights *rights;
    nc_task *next; /* hash chain */
};
nc_task *nc_task_find(int tid);

/* Tries to answer a call in C. Returns 1 with resp->val/error (or flags = CONTINUE) filled, 0 when Python must answer.
 * Never blocks on a guest; copies guest memory at most once each way. */
int nc_fast(nc_task *task, const struct seccomp_notif *req, struct seccomp_notif_resp *resp);

/* Non-zero while the ready or released queue holds something for Python (fast.c): the loop then returns NC_EV_READY. */
extern int nc_ready_pending;

void nc_fdt_get(nc_fdt *fdt);
void nc_fdt_put(nc_fdt *fdt);
