// Time: sleeps, clocks, interval timers.
#include "probe.h"
#include <sys/times.h>

static int64_t begun;
static void begin(void) { begun = now_ms(); }
static void took(const char *what, int64_t least, int64_t most) {
    int64_t ms = now_ms() - begun;
    say("%s: %s", what, ms < least ? "too short" : ms > most + 400 ? "too long" : "right");
}

PROBE(sleeps) {
    begin();
    SHOW(nanosleep(&(struct timespec){0, 50000000}, NULL));
    took("nanosleep", 50, 80);
    SHOW(nanosleep(&(struct timespec){0, -1}, NULL));
    SHOW(nanosleep(&(struct timespec){-1, 0}, NULL));
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec += 50000000;
    if (at.tv_nsec >= 1000000000)
        at.tv_sec++, at.tv_nsec -= 1000000000;
    begin();
    SHOW(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL));
    took("absolute", 49, 80);
    begin();
    SHOW(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &(struct timespec){1, 0}, NULL));
    took("past", 0, 10);
    SHOW(clock_nanosleep(99, 0, &at, NULL) == EINVAL);
    begin();
    SHOW(usleep(20000));
    took("usleep", 20, 50);
}

PROBE(clocks) {
    struct timespec a, b;
    static const int ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
                              CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        int result = syscall(SYS_clock_gettime, ids[i], &a);
        clock_gettime(ids[i], &b);
        say("clock %d: %d %s", ids[i], result,
            b.tv_sec > a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec >= a.tv_nsec) ? "forward" : "back");
    }
    SHOW(clock_gettime(99, &a));
    SHOW(clock_getres(CLOCK_MONOTONIC, &a));
    SHOW(a.tv_sec);
    FACT(a.tv_nsec > 0);
    SHOW(clock_getres(99, &a));
    struct timeval now;
    SHOW(gettimeofday(&now, NULL));
    FACT(llabs((long long)now.tv_sec - time(NULL)) <= 1);
    FACT(now.tv_sec > 1700000000);
    struct tms cpu;
    FACT(times(&cpu) != -1);
    SHOW(settimeofday(&now, &(struct timezone){0, 0}) == 0 || errno == EPERM);
}

PROBE(interval_timer) {
    struct itimerval every = {{0, 20000}, {0, 20000}}, left;
    count_signal(SIGALRM, 0);
    begin();
    SHOW(setitimer(ITIMER_REAL, &every, NULL));
    while (handled < 3)
        pause();
    took("three", 55, 100);
    SHOW(getitimer(ITIMER_REAL, &left));
    SHOW(left.it_interval.tv_usec);
    FACT(left.it_value.tv_usec <= 20000);
    SHOW(setitimer(ITIMER_REAL, &(struct itimerval){0}, &left));
    SHOW(left.it_interval.tv_usec);
    int so_far = handled;
    nap_ms(60);
    FACT(handled == so_far);
    SHOW(setitimer(99, &every, NULL));
    every.it_value.tv_usec = 2000000;
    SHOW(setitimer(ITIMER_REAL, &every, NULL));
    count_signal(SIGVTALRM, 0);
    SHOW(setitimer(ITIMER_VIRTUAL, &(struct itimerval){{0, 0}, {0, 10000}}, NULL));
    while (!handled)
        continue;
    say("virtual: %s", signal_name(last_signal));
    count_signal(SIGALRM, 0);
    SHOW(alarm(100));
    SHOW(alarm(1) >= 99);
    begin();
    SHOW(pause());
    took("alarm", 990, 1100);
    SHOW(alarm(0));
}

PROBE(posix_timer) {
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    count_signal(SIGUSR1, 0);
    SHOW(timer_create(CLOCK_MONOTONIC, &event, &timer));
    struct itimerspec spec = {{0, 0}, {0, 30000000}};
    SHOW(timer_settime(timer, 0, &spec, NULL));
    begin();
    while (!handled)
        pause();
    took("timer", 29, 60);
    SHOW(timer_gettime(timer, &spec));
    SHOW(spec.it_value.tv_nsec);
    SHOW(timer_getoverrun(timer));
    SHOW(timer_delete(timer));
}
