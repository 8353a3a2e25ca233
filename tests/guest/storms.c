// Everything at once: threads in all kinds of waits, while their process is stopped, continued, signalled and executes.
#include "probe.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/sem.h>
#include <sys/socket.h>

enum { ROUNDS = 150 };

static volatile bool over;
static int ring[2], pair[2], event, epoll, sem;
static uint32_t word;
static volatile int odd;

static void expect(const char *what, long result, int allowed) {
    if (result == -1 && errno != EINTR && errno != allowed) {
        say("%s: %s", what, strerrorname_np(errno));
        odd++;
    }
}

static void *reads(void *unused) {
    char c;
    while (!over)
        expect("read", read(ring[0], &c, 1), EAGAIN);
    return unused;
}
static void *writes(void *unused) {
    while (!over) {
        expect("write", write(ring[1], "x", 1), 0);
        nap_ms(1);
    }
    return unused;
}
static void *polls(void *unused) {
    while (!over)
        expect("poll", poll(&(struct pollfd){pair[0], POLLIN, 0}, 1, 3), 0);
    return unused;
}
static void *sleeps(void *unused) {
    while (!over)
        expect("nanosleep", nanosleep(&(struct timespec){0, 2000000}, NULL), 0);
    return unused;
}
static void *waits(void *unused) {
    while (!over)
        expect("futex", syscall(SYS_futex, &word, FUTEX_WAIT, 0, &(struct timespec){0, 3000000}, NULL, 0), ETIMEDOUT);
    return unused;
}
static void *epolls(void *unused) {
    struct epoll_event found;
    while (!over)
        expect("epoll_wait", epoll_wait(epoll, &found, 1, 3), 0);
    return unused;
}
static void *operates(void *unused) {
    while (!over)
        expect("semtimedop", semtimedop(sem, &(struct sembuf){0, -1, 0}, 1, &(struct timespec){0, 3000000}), EAGAIN);
    return unused;
}
static void *forks(void *unused) {
    while (!over) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        expect("fork", pid, EAGAIN);
        int status;
        while (pid > 0 && waitpid(pid, &status, 0) == -1)
            expect("waitpid", -1, 0);
    }
    return unused;
}
static void *births(void *unused) {
    while (!over) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, sleeps, NULL) == 0)
            pthread_detach(thread);
        nap_ms(10);
    }
    return unused;
}

static void *(*const bodies[])(void *) = {reads, writes, polls, sleeps, waits, epolls, operates, forks, births};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

static void set_up(void) {
    MUST(pipe(ring));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    event = MUST(eventfd(0, 0));
    epoll = MUST(epoll_create1(0));
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &(struct epoll_event){EPOLLIN, {0}}));
    sem = MUST(semget(IPC_PRIVATE, 1, 0600));
    count_signal(SIGUSR1, 0);
    count_signal(SIGUSR2, SA_RESTART);
}

static void on_term(int sig) {
    (void)sig;
    over = true;
}

static int ready[2];

static void live(void) {
    pthread_t threads[BODIES];
    set_up();
    signal(SIGTERM, on_term);
    MUST(write(ready[1], "r", 1));
    for (int i = 0; i < BODIES; i++)
        pthread_create(&threads[i], NULL, bodies[i], NULL);
    while (!over)
        nap_ms(1);
    MUST(write(ring[1], "end", 3));
    for (int i = 0; i < BODIES; i++)
        pthread_join(threads[i], NULL);
    _exit(odd ? 1 : 0);
}

static uint32_t seed = 1;
static uint32_t next(uint32_t below) {
    seed = seed * 1103515245 + 12345;
    return (seed >> 16) % below;
}

static void weather(pid_t pid) {
    int status;
    for (int i = 0; i < ROUNDS; i++) {
        switch (next(5)) {
        case 0:
            MUST(kill(pid, SIGSTOP));
            if (next(2) && waitpid(pid, &status, WUNTRACED) == pid && !WIFSTOPPED(status))
                say_status("died early", status);
            if (next(2))
                MUST(kill(pid, SIGUSR1));
            MUST(kill(pid, SIGCONT));
            break;
        case 1: MUST(kill(pid, SIGUSR1)); break;
        case 2: MUST(kill(pid, SIGUSR2)); break;
        case 3:
            MUST(kill(pid, SIGTSTP));
            MUST(kill(pid, SIGCONT));
            break;
        default: nap_ms(next(4));
        }
    }
}

PROBE(storm_of_signals) {
    char c;
    MUST(pipe(ready));
    pid_t pid = spawn(live);
    MUST(read(ready[0], &c, 1));
    weather(pid);
    MUST(kill(pid, SIGCONT));
    MUST(kill(pid, SIGTERM));
    reap("child", pid);
}

PROBE(storm_that_ends_in_death) {
    MUST(pipe(ready));
    for (int i = 0; i < 5; i++) {
        pid_t pid = spawn(live);
        seed = i;
        nap_ms(next(20));
        if (next(2))
            MUST(kill(pid, SIGSTOP));
        MUST(kill(pid, SIGKILL));
        reap("child", pid);
    }
}

PROBE(zz_calm) { say("calm"); }

static void *executes(void *unused) {
    nap_ms(20);
    execl("/proc/self/exe", "probe", "zz_calm", NULL);
    say("exec: %s", strerrorname_np(errno));
    return unused;
}
static void live_and_execute(void) {
    pthread_t thread;
    set_up();
    for (int i = 0; i < BODIES; i++)
        pthread_create(&thread, NULL, bodies[i], NULL);
    pthread_create(&thread, NULL, executes, NULL);
    for (;;)
        pause();
}

PROBE(storm_that_ends_in_exec) {
    for (int i = 0; i < 5; i++)
        in_child("child", live_and_execute);
}
