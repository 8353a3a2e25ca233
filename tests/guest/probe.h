// The guest probe's frame: what a probe file includes.
//
// A probe is a function that makes system calls and prints what came of them. What it prints is compared with
// what it prints on bare Linux, so a line holds no pid, address, time or anything else that varies.
// `probe NAME` runs one in an empty folder /tmp/probe; `probe --in DIR NAME...` runs several below another folder, each
// in a child of its own; `probe --list` prints their names.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct probe {
    const char *name;
    void (*run)(void);
};

#define PROBE(NAME)                                                                                              \
    static void probe_##NAME(void);                                                                              \
    static const struct probe entry_##NAME = {#NAME, probe_##NAME};                                              \
    static const struct probe *const pointer_##NAME __attribute__((used, section("probes"))) = &entry_##NAME;    \
    static void probe_##NAME(void)

// Print one line, at once.
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Print a call's text and its exact result, or the errno's name.
long show(const char *what, long result);
#define SHOW(call) show(#call, (long)(call))
// The same where a success's value varies: "ok" or the errno's name.
long ok(const char *what, long result);
#define OK(call) ok(#call, (long)(call))
// A fact that must hold.
void fact(const char *what, bool holds);
#define FACT(condition) fact(#condition, (condition))
// Set-up that must work for the probe to mean anything: on failure prints why and exits with 3.
long must(const char *what, long result);
#define MUST(call) must(#call, (long)(call))

// Run `body` in a child; how it ended is printed as `what: exit N` or `what: signal NAME`.
void in_child(const char *what, void (*body)(void));
pid_t spawn(void (*body)(void));
void say_status(const char *what, int status);
void reap(const char *what, pid_t pid);

void make_file(const char *path, const char *content);
void say_file(const char *path);
void nap_ms(int ms);
int64_t now_ms(void);
// Install a plain handler without SA_RESTART that counts into `handled`.
void count_signal(int sig, int flags);
extern volatile sig_atomic_t handled;
extern volatile sig_atomic_t last_signal;
const char *signal_name(int sig);
// An address that is never mapped, one in the kernel's half, one page that may not be touched.
extern void *const unmapped;
extern void *const kernel_half;
void *forbidden_page(void);
