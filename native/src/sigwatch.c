/* Noticing that a signal pends at a guest's process, blocked or not, whoever sent it; and the host's signalfds.
 *
 * The host kernel tells this to the wait queue of the process's signal handlers only, which one gets on by polling a
 * signalfd in that process. So each process that is to be watched makes one epoll_ctl(2) with descriptors of ours
 * (sentry/kernel/sigwatch.py): it puts a signalfd into our epoll set, which from then on hears of every signal sent to that
 * process. signalfd_poll() answers whoever asks about the asker's own signals; so that it always says yes to us, these
 * signalfds are for a signal which is blocked here and pends for ever. */
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core.h"

#define OURS SIGRTMAX

static int set = -1;

static sigset_t to_sigset(uint64_t mask) {
    sigset_t out;
    sigemptyset(&out);
    for (int signal = 1; signal <= 64; signal++)
        if (mask >> (signal - 1) & 1) sigaddset(&out, signal);
    return out;
}

int nc_signalfd(int host_fd, uint64_t mask) {
    sigset_t signals = to_sigset(mask);
    int result = signalfd(host_fd, &signals, SFD_CLOEXEC);
    return result < 0 ? -errno : result;
}

int nc_sigwatch_set(void) {
    if (set >= 0) return set;
    sigset_t ours = to_sigset(1ull << (OURS - 1));
    sigprocmask(SIG_BLOCK, &ours, NULL); /* the loop's other thread blocks all */
    if (kill(getpid(), OURS)) return -errno;
    set = epoll_create1(EPOLL_CLOEXEC);
    return set < 0 ? -errno : set;
}

int nc_sigwatch_new(void) { return nc_signalfd(-1, 1ull << (OURS - 1)); }

int nc_sigwatch_arm(int host_fd, uint64_t cookie) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = cookie};
    return epoll_ctl(set, EPOLL_CTL_MOD, host_fd, &event) ? -errno : 0;
}

int nc_sigwatch_disarm(int host_fd) {
    struct epoll_event unused;
    return epoll_ctl(set, EPOLL_CTL_DEL, host_fd, &unused) ? -errno : 0;
}

int nc_sigwatch_take(uint64_t *cookies, int max) {
    struct epoll_event events[64];
    int n = epoll_wait(set, events, max < 64 ? max : 64, 0);
    if (n < 0) return -errno;
    for (int i = 0; i < n; i++) cookies[i] = events[i].data.u64;
    return n;
}
