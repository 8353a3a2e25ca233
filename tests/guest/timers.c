// Timers: timer_create(2), setitimer(2), alarm(2), timerfd_create(2), in all their kinds.
#include "probe.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW,
                                   CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_REALTIME_ALARM,
                                   CLOCK_BOOTTIME_ALARM, 10, CLOCK_TAI, 12, 16, -1, -2, -7};
enum { CLOCKS = sizeof clocks / sizeof clocks[0] };

PROBE(timer_kinds) {
    timer_t timer;
    for (int i = 0; i < CLOCKS; i++) {
        struct sigevent event = {.sigev_notify = SIGEV_NONE};
        say("clock %d", clocks[i]);
        if (SHOW(syscall(SYS_timer_create, clocks[i], &event, &timer)) == 0 || errno == EPERM)
            continue;
    }
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 0};
    SHOW(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer));
    event.sigev_signo = 65;
    SHOW(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer));
    event = (struct sigevent){.sigev_notify = 3, .sigev_signo = SIGUSR1};
    SHOW(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer));
    event = (struct sigevent){.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    event._sigev_un._tid = 99999;
    SHOW(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer));
    event._sigev_un._tid = gettid();
    SHOW(syscall(SYS_timer_create, CLOCK_MONOTONIC, unmapped, &timer));
    SHOW(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, unmapped));
    SHOW(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &timer));
    SHOW(syscall(SYS_timer_settime, 99, 0, NULL, NULL));
    SHOW(syscall(SYS_timer_gettime, 99, NULL));
    SHOW(syscall(SYS_timer_getoverrun, 99));
    SHOW(syscall(SYS_timer_delete, 99));
}

PROBE(timer_settings) {
    timer_t timer;
    struct itimerspec now, when = {{0, 0}, {0, 1000000000}};
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
    SHOW(timer_settime(timer, 0, &when, NULL));
    when = (struct itimerspec){{-1, 0}, {1, 0}};
    SHOW(timer_settime(timer, 0, &when, NULL));
    when = (struct itimerspec){{0, 0}, {100, 0}};
    SHOW(timer_settime(timer, 0, &when, &now));
    say("%ld %ld", now.it_value.tv_sec, now.it_value.tv_nsec);
    MUST(timer_gettime(timer, &now));
    FACT(now.it_value.tv_sec == 99 || now.it_value.tv_sec == 100);
    when = (struct itimerspec){{7, 0}, {0, 0}};
    SHOW(timer_settime(timer, 0, &when, &now));
    MUST(timer_gettime(timer, &now));
    say("%ld %ld", now.it_value.tv_sec, now.it_interval.tv_sec);
    SHOW(timer_settime(timer, 77, &when, NULL));
    when = (struct itimerspec){{0, 0}, {1, 0}};
    MUST(timer_settime(timer, TIMER_ABSTIME, &when, NULL));
    MUST(timer_gettime(timer, &now));
    say("%ld %ld", now.it_value.tv_sec, now.it_value.tv_nsec);
    SHOW(timer_getoverrun(timer));
    SHOW(timer_delete(timer));
    SHOW(timer_delete(timer));
}

static volatile int overrun;
static void note(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    overrun = info->si_overrun;
    handled++;
}

PROBE(timer_overrun) {
    timer_t timer;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
    MUST(sigaction(SIGUSR1, &action, NULL));
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
    MUST(timer_settime(timer, 0, &(struct itimerspec){{0, 1000000}, {0, 1000000}}, NULL));
    nap_ms(50);
    MUST(sigprocmask(SIG_UNBLOCK, &set, NULL));
    int count = timer_getoverrun(timer);
    MUST(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 0}}, NULL));
    FACT(handled >= 1);
    FACT(overrun >= 0);
    FACT(count >= 0);
    pid_t pid = MUST(fork());
    if (pid == 0) { // timers are not inherited
        SHOW(timer_getoverrun(timer));
        SHOW(getitimer(ITIMER_REAL, &(struct itimerval){0}));
        _exit(0);
    }
    reap("child", pid);
}

static pthread_t told;
static void note_thread(int sig) {
    (void)sig;
    told = pthread_self();
    handled++;
}

static void *arm_for_myself(void *unused) {
    (void)unused;
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2};
    event._sigev_un._tid = gettid();
    MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
    MUST(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 3000000}}, NULL));
    while (!handled)
        nap_ms(1);
    FACT(pthread_equal(told, pthread_self()));
    return NULL;
}

static volatile int by_thread;
static void notify(union sigval value) { by_thread = value.sival_int; }

PROBE(timer_for_a_thread) {
    pthread_t thread;
    handled = 0;
    signal(SIGUSR2, note_thread);
    pthread_create(&thread, NULL, arm_for_myself, NULL);
    pthread_join(thread, NULL);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = notify, .sigev_value.sival_int = 5};
    MUST(timer_create(CLOCK_REALTIME, &event, &timer));
    MUST(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 2000000}}, NULL));
    for (int i = 0; !by_thread && i < 2000; i++)
        nap_ms(1);
    SHOW(by_thread);
    SHOW(timer_delete(timer));
}

static void burn(int which, int sig) {
    handled = 0;
    count_signal(sig, 0);
    MUST(setitimer(which, &(struct itimerval){{0, 5000}, {0, 5000}}, NULL));
    int64_t end = now_ms() + 5000;
    while (handled < 3 && now_ms() < end)
        getppid();
    fact(signal_name(sig), handled >= 3);
    MUST(setitimer(which, &(struct itimerval){0}, NULL));
}

PROBE(interval_timers) {
    struct itimerval now, odd = {{0, 0}, {0, 1000000}};
    burn(ITIMER_PROF, SIGPROF);
    count_signal(SIGVTALRM, 0);
    MUST(setitimer(ITIMER_VIRTUAL, &(struct itimerval){{0, 5000}, {0, 5000}}, NULL));
    while (handled < 3)
        continue;
    say("virtual");
    MUST(setitimer(ITIMER_VIRTUAL, &(struct itimerval){0}, NULL));
    SHOW(setitimer(ITIMER_REAL, &odd, NULL));
    SHOW(setitimer(3, &odd, NULL));
    SHOW(setitimer(-1, &odd, NULL));
    SHOW(getitimer(3, &now));
    SHOW(syscall(SYS_setitimer, ITIMER_REAL, unmapped, NULL));
    SHOW(getitimer(ITIMER_REAL, unmapped));
    MUST(setitimer(ITIMER_REAL, &(struct itimerval){{5, 0}, {100, 0}}, NULL));
    SHOW(syscall(SYS_setitimer, ITIMER_REAL, NULL, &now));
    FACT(now.it_value.tv_sec >= 99 && now.it_interval.tv_sec == 5);
    MUST(getitimer(ITIMER_REAL, &now));
    say("%ld", now.it_value.tv_sec);
    SHOW(alarm(50));
    SHOW(alarm(0));
    SHOW(alarm(0));
    SHOW(alarm(20));
}

// ---- timerfd

PROBE(timerfd_kinds) {
    for (int i = 0; i < CLOCKS; i++) {
        int fd = timerfd_create(clocks[i], 0);
        say("clock %d: %s", clocks[i], fd >= 0 ? "ok" : strerrorname_np(errno));
        close(fd);
    }
    SHOW(timerfd_create(CLOCK_MONOTONIC, 1));
    int fd = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    SHOW(fcntl(fd, F_GETFL));
    SHOW(fcntl(fd, F_GETFD));
    uint64_t ticks = 0;
    struct itimerspec now, when = {{0, 0}, {0, 1000000000}};
    SHOW(timerfd_settime(fd, 0, &when, NULL));
    when.it_value.tv_nsec = -1;
    SHOW(timerfd_settime(fd, 0, &when, NULL));
    when = (struct itimerspec){{-1, 0}, {1, 0}};
    SHOW(timerfd_settime(fd, 0, &when, NULL));
    SHOW(timerfd_settime(fd, 8, &when, NULL));
    SHOW(timerfd_settime(fd, 0, unmapped, NULL));
    SHOW(timerfd_settime(1, 0, &(struct itimerspec){0}, NULL));
    SHOW(timerfd_settime(99, 0, &(struct itimerspec){0}, NULL));
    SHOW(timerfd_gettime(1, &now));
    SHOW(timerfd_gettime(99, &now));
    SHOW(timerfd_gettime(fd, unmapped));
    SHOW(read(fd, &ticks, 8));
    SHOW(read(fd, &ticks, 7));
    SHOW(write(fd, &ticks, 8));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(pread(fd, &ticks, 8, 0));
    when = (struct itimerspec){{0, 0}, {0, 1}};
    SHOW(timerfd_settime(fd, TFD_TIMER_CANCEL_ON_SET, &when, NULL));
    SHOW(timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &when, NULL));
    struct pollfd set = {fd, POLLIN, 0};
    SHOW(poll(&set, 1, 1000));
    SHOW(read(fd, &ticks, 8));
    SHOW(ticks);
    SHOW(timerfd_gettime(fd, &now));
    say("%ld %ld", now.it_value.tv_sec, now.it_value.tv_nsec);
    when = (struct itimerspec){{0, 1000000}, {0, 1000000}};
    MUST(timerfd_settime(fd, 0, &when, NULL));
    nap_ms(30);
    MUST(timerfd_settime(fd, 0, &(struct itimerspec){{3, 0}, {100, 0}}, &now)); // ticks not yet read are lost
    say("%ld %ld", now.it_interval.tv_sec, now.it_interval.tv_nsec);
    SHOW(read(fd, &ticks, 8));
    MUST(timerfd_gettime(fd, &now));
    FACT(now.it_value.tv_sec >= 99 && now.it_interval.tv_sec == 3);
    SHOW(ioctl(fd, TFD_IOC_SET_TICKS, &(uint64_t){42}));
    SHOW(read(fd, &ticks, 8));
    say("%lu", ticks);
    SHOW(ioctl(fd, TFD_IOC_SET_TICKS, &(uint64_t){0}));
    SHOW(ioctl(fd, FIONREAD, &ticks));
}

PROBE(timerfd_fdinfo) {
    char text[512] = {0}, path[64];
    int fd = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
    MUST(timerfd_settime(fd, 0, &(struct itimerspec){{3, 0}, {100, 0}}, NULL));
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    int info = MUST(open(path, O_RDONLY));
    MUST(read(info, text, 511));
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (!strstr(line, "mnt_id") && !strstr(line, "ino:") && !strstr(line, "it_value"))
            say("%s", line);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    memset(text, 0, sizeof text);
    MUST(readlink(path, text, 511));
    say("%s", text);
}

// What has no position answers a seek with 0, or not at all.
PROBE(seek_of_anonymous_files) {
    SHOW(lseek(timerfd_create(CLOCK_MONOTONIC, 0), 5, SEEK_SET));
    SHOW(lseek(eventfd(0, 0), 5, SEEK_SET));
    SHOW(lseek(epoll_create1(0), 5, SEEK_END));
    SHOW(lseek(inotify_init(), 5, SEEK_CUR));
    SHOW(lseek(inotify_init(), 5, 99));
}
