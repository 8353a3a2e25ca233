// Clocks beyond the plain ones: those of other processes and threads, sleeping on each, resolution, adjtimex(2), times(2).
#include "probe.h"
#include <sys/times.h>
#include <sys/timex.h>

static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW,
                                   CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_REALTIME_ALARM,
                                   CLOCK_BOOTTIME_ALARM, 10, CLOCK_TAI, 12, 16, -1, -2, -3, -4, -5, -6, -7, -8};
enum { CLOCKS = sizeof clocks / sizeof clocks[0] };

static long raw_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left) {
    return syscall(SYS_clock_nanosleep, clock, flags, time, left);
}

PROBE(every_clock) {
    struct timespec time, none = {0, 0};
    for (int i = 0; i < CLOCKS; i++) {
        say("clock %d", clocks[i]);
        SHOW(syscall(SYS_clock_gettime, clocks[i], &time));
        if (SHOW(syscall(SYS_clock_getres, clocks[i], &time)) == 0)
            say("%ld %s", time.tv_sec, time.tv_nsec > 0 ? "some" : "none");
        SHOW(raw_nanosleep(clocks[i], 0, &none, NULL));
        SHOW(raw_nanosleep(clocks[i], TIMER_ABSTIME, &none, NULL));
        SHOW(raw_nanosleep(clocks[i], 0, &(struct timespec){0, -1}, NULL));
        SHOW(syscall(SYS_clock_settime, clocks[i], &(struct timespec){-1, 0}));
        SHOW(syscall(SYS_clock_settime, clocks[i], unmapped));
        SHOW(syscall(SYS_clock_adjtime, clocks[i], &(struct timex){0}) >= 0 ? 0 : -1);
    }
    SHOW(raw_nanosleep(CLOCK_MONOTONIC, 0, unmapped, NULL));
    SHOW(raw_nanosleep(CLOCK_MONOTONIC, 2, &none, NULL));
    SHOW(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, unmapped));
    SHOW(syscall(SYS_clock_getres, CLOCK_MONOTONIC, NULL));
    SHOW(syscall(SYS_clock_getres, 99, NULL));
}

static void burn(void) {
    for (;;)
        continue;
}
static void leave(void) {}

PROBE(clock_of_a_process) {
    clockid_t clock;
    struct timespec time;
    pid_t pid = spawn(burn);
    SHOW(clock_getcpuclockid(pid, &clock));
    do MUST(clock_gettime(clock, &time));
    while (time.tv_sec == 0 && time.tv_nsec < 20000000);
    say("it runs");
    SHOW(clock_getres(clock, &time));
    SHOW(raw_nanosleep(clock, 0, &(struct timespec){0, 10000000}, NULL));
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    count_signal(SIGUSR1, 0);
    SHOW(timer_create(clock, &event, &timer));
    SHOW(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 10000000}}, NULL));
    for (int i = 0; !handled && i < 5000; i++)
        nap_ms(1);
    SHOW(handled);
    kill(pid, SIGKILL);
    reap("child", pid);
    SHOW(clock_gettime(clock, &time));
    SHOW(clock_getcpuclockid(pid, &clock) == ESRCH);
    pid = spawn(leave);
    MUST(waitid(P_PID, pid, &(siginfo_t){0}, WEXITED | WNOWAIT));
    SHOW(clock_getcpuclockid(pid, &clock));
    SHOW(clock_gettime(clock, &time));
    reap("zombie", pid);
}

static void *sleep_some(void *unused) {
    (void)unused;
    nap_ms(200);
    return NULL;
}

PROBE(clock_of_a_thread) {
    pthread_t thread;
    clockid_t clock;
    struct timespec time;
    pthread_create(&thread, NULL, sleep_some, NULL);
    SHOW(pthread_getcpuclockid(thread, &clock));
    SHOW(clock_gettime(clock, &time));
    FACT(time.tv_sec == 0);
    SHOW(raw_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &(struct timespec){0, 1}, NULL));
    pthread_join(thread, NULL);
    SHOW(clock_gettime(clock, &time));
}

PROBE(adjustments) {
    struct timex timex = {0};
    FACT(adjtimex(&timex) >= 0);
    FACT(timex.tick > 9000 && timex.tick < 11000);
    FACT(timex.time.tv_sec > 1700000000);
    static const unsigned modes[] = {ADJ_OFFSET, ADJ_FREQUENCY, ADJ_MAXERROR, ADJ_STATUS, ADJ_TIMECONST, ADJ_TAI, ADJ_SETOFFSET, ADJ_MICRO, ADJ_NANO, ADJ_TICK, 0x8000, 0x8001, 0xa001};
    for (unsigned i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        timex = (struct timex){.modes = modes[i]};
        long result = adjtimex(&timex);
        say("%x: %s", modes[i], result >= 0 ? "ok" : strerrorname_np(errno));
    }
    timex = (struct timex){.modes = ADJ_TICK, .tick = 1};
    SHOW(adjtimex(&timex));
    SHOW(adjtimex(unmapped));
    struct timeval delta;
    SHOW(adjtime(NULL, &delta));
    delta.tv_sec = 1;
    SHOW(adjtime(&delta, NULL));
    SHOW(syscall(SYS_settimeofday, &(struct timeval){0, 1000000}, NULL));
    SHOW(syscall(SYS_settimeofday, &(struct timeval){-1, 0}, NULL));
    SHOW(syscall(SYS_settimeofday, NULL, &(struct timezone){16 * 60, 0}));
    SHOW(syscall(SYS_settimeofday, NULL, NULL));
    SHOW(syscall(SYS_settimeofday, unmapped, NULL));
    SHOW(syscall(SYS_settimeofday, NULL, unmapped));
    SHOW(syscall(SYS_gettimeofday, NULL, NULL));
    SHOW(syscall(SYS_gettimeofday, unmapped, NULL));
    SHOW(syscall(SYS_time, unmapped));
}

PROBE(process_times) {
    struct tms before, after;
    FACT(times(&before) != -1);
    pid_t pid = MUST(fork());
    if (pid == 0) {
        struct timespec time;
        do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
        while (time.tv_nsec < 100000000 && time.tv_sec == 0);
        _exit(0);
    }
    reap("child", pid);
    FACT(times(&after) != -1);
    FACT(after.tms_cutime + after.tms_cstime >= before.tms_cutime + before.tms_cstime + 8);
    SHOW(syscall(SYS_times, unmapped));
    FACT(syscall(SYS_times, NULL) > 0);
}
