/* What the loader stub and the sentry say to each other. sentry/kernel/loader.py packs the same layout. */
#pragma once
#include <stdint.h>

#define NC_MAGIC_LOAD 5000   /* stub: (plan *, initial sp) -> fills the plan */
#define NC_MAGIC_READY 5002  /* stub: all is mapped; only where the plan says so */
#define NC_MAGIC_ZYGOTE 5001 /* zygote: waits for the order to fork a first task */
#define NC_PLAN_MAX 24

struct nc_segment {
    uint64_t addr, len, prot, flags, fd, offset; /* mmap's arguments */
    uint64_t zero_from, zero_len;                /* the tail of the last file page, to be cleared */
};

struct nc_plan {
    uint64_t n, entry, sp;
    uint64_t forget_parent; /* PR_SET_PDEATHSIG no longer holds */
    uint64_t ready; /* tell before the program begins */
    char comm[16];
    struct nc_segment segment[NC_PLAN_MAX];
};
