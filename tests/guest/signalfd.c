// signalfd(2): blocked signals read and waited for, from every source; and sigtimedwait(2), which takes them the same way.
#include "probe.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

typedef struct signalfd_siginfo record;

static sigset_t set_of(int a, int b, int c) {
    sigset_t set;
    sigemptyset(&set);
    if (a) sigaddset(&set, a);
    if (b) sigaddset(&set, b);
    if (c) sigaddset(&set, c);
    return set;
}

// A signalfd for up to three signals, which are blocked too.
static int signalfd_of(int a, int b, int c, int flags) {
    sigset_t set = set_of(a, b, c);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    return MUST(signalfd(-1, &set, flags));
}

static const char *who(pid_t pid) {
    return pid == getpid() ? "self" : pid == getppid() ? "parent" : pid == 0 ? "nobody" : "another";
}

static void say_record(const record *it) {
    say("%s code %d from %s uid %u value %d fd %d status %d", signal_name(it->ssi_signo), it->ssi_code, who(it->ssi_pid),
        it->ssi_uid, it->ssi_int, it->ssi_fd, it->ssi_status);
}

// Read one record and say it, or the error.
static void take(int fd) {
    record it;
    ssize_t n = read(fd, &it, sizeof it);
    if (n == sizeof it)
        say_record(&it);
    else
        show("read", n);
}

static int ready(int fd, int timeout) {
    struct pollfd one = {fd, POLLIN | POLLRDNORM | POLLOUT | POLLPRI, 0};
    int n = poll(&one, 1, timeout);
    return n > 0 ? one.revents : n;
}

static void send_value(pid_t pid, int sig, int number) {
    union sigval value = {.sival_int = number};
    MUST(sigqueue(pid, sig, value));
}

PROBE(signalfd) {
    sigset_t set;
    struct signalfd_siginfo info;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    int fd = SHOW(signalfd(-1, &set, SFD_NONBLOCK));
    SHOW(read(fd, &info, sizeof info));
    MUST(kill(getpid(), SIGUSR2));
    struct pollfd one = {fd, POLLIN, 0};
    SHOW(poll(&one, 1, 1000));
    SHOW(read(fd, &info, sizeof info));
    SHOW(info.ssi_signo);
    FACT((pid_t)info.ssi_pid == getpid());
    SHOW(read(fd, &info, 10));
    SHOW(signalfd(-1, &set, 1));
}

PROBE(signalfd_arguments) {
    sigset_t set = set_of(SIGUSR1, SIGKILL, SIGSTOP);
    SHOW(syscall(SYS_signalfd4, -1, &set, 4, 0));
    SHOW(syscall(SYS_signalfd4, -1, &set, 16, 0));
    SHOW(syscall(SYS_signalfd4, -1, unmapped, 8, 0));
    SHOW(syscall(SYS_signalfd4, -1, unmapped, 8, 1));
    SHOW(syscall(SYS_signalfd4, -1, &set, 8, 1));
    SHOW(syscall(SYS_signalfd4, 77, &set, 8, 0));
    SHOW(syscall(SYS_signalfd4, 77, &set, 8, 1));
    SHOW(syscall(SYS_signalfd4, -2, &set, 8, 0));
    SHOW(syscall(SYS_signalfd4, 1, &set, 8, 0));
    SHOW(syscall(SYS_signalfd4, MUST(open("/", O_PATH)), &set, 8, 0));
    int fd = SHOW(syscall(SYS_signalfd, -1, &set, 8));
    SHOW(fcntl(fd, F_GETFL));
    SHOW(fcntl(fd, F_GETFD));
    SHOW(syscall(SYS_signalfd4, fd, &set, 8, SFD_NONBLOCK | SFD_CLOEXEC) == fd);
    SHOW(fcntl(fd, F_GETFL));
    int other = SHOW(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    SHOW(fcntl(other, F_GETFL));
    SHOW(fcntl(other, F_GETFD));
    struct rlimit limit = {other + 1, 1024};
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    SHOW(signalfd(-1, &set, 0));
}

PROBE(signalfd_is_no_file) {
    int fd = signalfd_of(SIGUSR1, SIGUSR2, 0, SFD_NONBLOCK);
    record two[2];
    char path[64], text[64] = "";
    struct stat st;
    SHOW(write(fd, two, sizeof two));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(lseek(fd, 9, SEEK_END));
    SHOW(ftruncate(fd, 0));
    SHOW(fsync(fd));
    SHOW(ioctl(fd, FIONREAD, text));
    SHOW(fstat(fd, &st));
    say("%o", st.st_mode);
    FACT(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED);
    say("%s", strerrorname_np(errno));
    MUST(kill(getpid(), SIGUSR1));
    SHOW(pread(fd, two, sizeof two, 0));
    MUST(kill(getpid(), SIGUSR1));
    SHOW(pread(fd, two, sizeof two, -1));
    SHOW(sendfile(MUST(open("f", O_CREAT | O_RDWR, 0644)), fd, NULL, 128));
    int p[2];
    MUST(pipe(p));
    SHOW(splice(fd, NULL, p[1], NULL, 128, SPLICE_F_NONBLOCK));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SHOW(readlink(path, text, sizeof text));
    say("%s", text);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    FILE *file = fopen(path, "r");
    char line[128];
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "flags", 5) || !strncmp(line, "pos", 3) || !strncmp(line, "sigmask", 7)) say("%s", line);
}

PROBE(signalfd_reads_senders) {
    int fd = signalfd_of(SIGUSR1, SIGUSR2, SIGRTMIN + 1, SFD_NONBLOCK);
    MUST(kill(getpid(), SIGUSR1));
    MUST(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2));
    send_value(getpid(), SIGRTMIN + 1, 42);
    for (int i = 0; i < 4; i++) take(fd);
    pid_t child = MUST(fork());
    if (!child) {
        MUST(kill(getppid(), SIGUSR1));
        send_value(getppid(), SIGRTMIN + 1, 43);
        _exit(0);
    }
    reap("child", child);
    take(fd);
    take(fd);
    // As the user that it is at the time
    child = MUST(fork());
    if (!child) {
        MUST(setresuid(1000, 1000, 1000));
        _exit(kill(getppid(), SIGUSR1) == -1 && errno == EPERM ? 0 : 1);
    }
    reap("another user", child);
    take(fd);
    MUST(seteuid(1000));
    MUST(kill(getpid(), SIGUSR1));
    take(fd);
    // Codes of one's own making
    siginfo_t own = {.si_code = -42, .si_pid = 7, .si_uid = 8};
    own.si_value.sival_int = 9;
    MUST(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &own));
    record it;
    SHOW(read(fd, &it, sizeof it));
    say("code %d pid %d uid %d int %d", it.ssi_code, it.ssi_pid, it.ssi_uid, it.ssi_int);
    own = (siginfo_t){.si_code = SI_TIMER};
    own.si_value.sival_int = 9;
    own.si_timerid = 5;
    own.si_overrun = 6;
    MUST(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &own));
    SHOW(read(fd, &it, sizeof it));
    say("code %d tid %d overrun %d int %d pid %d", it.ssi_code, it.ssi_tid, it.ssi_overrun, it.ssi_int, it.ssi_pid);
    own = (siginfo_t){.si_code = SI_SIGIO};
    own.si_band = 11;
    own.si_fd = 12;
    MUST(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &own));
    SHOW(read(fd, &it, sizeof it));
    say("code %d band %d fd %d int %d pid %d", it.ssi_code, it.ssi_band, it.ssi_fd, it.ssi_int, it.ssi_pid);
}

static void end_as_user(void) {
    MUST(setresuid(1000, 1000, 1000));
    _exit(5);
}

PROBE(signalfd_children) {
    int fd = signalfd_of(SIGCHLD, 0, 0, 0);
    pid_t child = spawn(end_as_user);
    record it;
    SHOW(read(fd, &it, sizeof it));
    FACT((pid_t)it.ssi_pid == child);
    say("code %d uid %u status %d", it.ssi_code, it.ssi_uid, it.ssi_status);
    reap("child", child);
    child = spawn(end_as_user);
    sigset_t set = set_of(SIGCHLD, 0, 0);
    siginfo_t info;
    SHOW(sigwaitinfo(&set, &info));
    FACT(info.si_pid == child);
    say("code %d uid %u status %d", info.si_code, info.si_uid, info.si_status);
    reap("child", child);
}

PROBE(signalfd_reads_many) {
    int fd = signalfd_of(SIGUSR1, SIGRTMIN + 2, SIGRTMIN + 1, SFD_NONBLOCK);
    record many[8];
    for (int i = 0; i < 3; i++) send_value(getpid(), SIGRTMIN + 2, 20 + i);
    for (int i = 0; i < 3; i++) send_value(getpid(), SIGRTMIN + 1, 10 + i);
    MUST(kill(getpid(), SIGUSR1));
    MUST(kill(getpid(), SIGUSR1)); // merges
    ssize_t n = SHOW(read(fd, many, 3 * sizeof many[0] + 7));
    for (int i = 0; i < n / (int)sizeof many[0]; i++) say_record(&many[i]);
    struct iovec parts[3] = {{&many[0], 200}, {(char *)many + 200, 56}, {&many[2], 128}};
    n = SHOW(readv(fd, parts, 3));
    for (int i = 0; i < n / (int)sizeof many[0]; i++) say_record(&many[i]);
    SHOW(read(fd, many, sizeof many));
    SHOW(read(fd, many, sizeof many));
    SHOW(read(fd, many, 127));
    SHOW(read(fd, many, 0));
    MUST(kill(getpid(), SIGUSR1));
    SHOW(read(fd, unmapped, 128));
    SHOW(read(fd, many, sizeof many)); // gone with the failed one
    for (int i = 0; i < 3; i++) send_value(getpid(), SIGRTMIN + 2, i);
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(mprotect(pages + 4096, 4096, PROT_NONE));
    SHOW(read(fd, pages + 4096 - 200, 3 * 128));
    SHOW(read(fd, many, sizeof many));
}

PROBE(signalfd_private_before_shared) {
    int fd = signalfd_of(SIGUSR1, SIGUSR2, SIGRTMIN + 1, SFD_NONBLOCK);
    send_value(getpid(), SIGRTMIN + 1, 1);
    MUST(kill(getpid(), SIGUSR1));
    MUST(syscall(SYS_tgkill, getpid(), gettid(), SIGRTMIN + 1));
    MUST(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2));
    for (int i = 0; i < 5; i++) take(fd);
}

static int shared_fd;

static void *take_in_thread(void *unused) {
    (void)unused;
    take(shared_fd);
    return NULL;
}

static void *look_in_thread(void *unused) {
    (void)unused;
    SHOW(ready(shared_fd, 0));
    return NULL;
}

PROBE(signalfd_of_other_threads) {
    pthread_t thread;
    shared_fd = signalfd_of(SIGUSR1, SIGUSR2, 0, SFD_NONBLOCK);
    MUST(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1)); // for this thread alone
    MUST(pthread_create(&thread, NULL, look_in_thread, NULL));
    pthread_join(thread, NULL);
    MUST(pthread_create(&thread, NULL, take_in_thread, NULL));
    pthread_join(thread, NULL);
    SHOW(ready(shared_fd, 0));
    MUST(kill(getpid(), SIGUSR2)); // for any
    MUST(pthread_create(&thread, NULL, take_in_thread, NULL));
    pthread_join(thread, NULL);
    take(shared_fd);
    take(shared_fd);
}

static int64_t began;

static void kill_parent_later(void) {
    nap_ms(60);
    MUST(kill(getppid(), SIGUSR1));
}

static void queue_to_parent_later(void) {
    nap_ms(60);
    send_value(getppid(), SIGRTMIN + 1, 5);
}

static void say_wait(void) { FACT(now_ms() - began >= 30); }

PROBE(signalfd_read_waits) {
    int fd = signalfd_of(SIGUSR1, SIGRTMIN + 1, 0, 0);
    began = now_ms();
    pid_t child = spawn(kill_parent_later);
    record it;
    SHOW(read(fd, &it, sizeof it));
    FACT((pid_t)it.ssi_pid == child);
    say("%d code %d", it.ssi_signo, it.ssi_code);
    say_wait();
    reap("child", child);
    began = now_ms();
    child = spawn(queue_to_parent_later);
    take(fd);
    say_wait();
    reap("child", child);
}

static void alarm_in_ms(int ms) {
    struct itimerval soon = {{0, 0}, {ms / 1000, ms % 1000 * 1000}};
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
}

PROBE(signalfd_read_is_interrupted) {
    int fd = signalfd_of(SIGUSR1, 0, 0, 0);
    record it;
    count_signal(SIGALRM, 0);
    alarm_in_ms(40);
    SHOW(read(fd, &it, sizeof it));
    SHOW(handled);
    count_signal(SIGALRM, SA_RESTART);
    alarm_in_ms(40);
    pid_t child = spawn(kill_parent_later);
    nap_ms(0);
    SHOW(read(fd, &it, sizeof it));
    SHOW(handled);
    reap("child", child);
    // Ignored and default-ignored signals do not end it
    signal(SIGALRM, SIG_IGN);
    alarm_in_ms(30);
    child = spawn(kill_parent_later); // its SIGCHLD too
    SHOW(read(fd, &it, sizeof it));
    reap("child", child);
}

static void read_and_exit(void) { take(shared_fd); }

PROBE(signalfd_read_is_stopped) {
    shared_fd = signalfd_of(SIGUSR1, 0, 0, 0);
    pid_t child = spawn(read_and_exit);
    nap_ms(30);
    MUST(kill(child, SIGSTOP));
    int status;
    MUST(waitpid(child, &status, WUNTRACED));
    say_status("stopped", status);
    MUST(kill(child, SIGUSR1));
    nap_ms(20);
    SHOW(waitpid(child, &status, WNOHANG));
    MUST(kill(child, SIGCONT));
    reap("child", child);
}

PROBE(signalfd_read_is_killed) {
    shared_fd = signalfd_of(SIGUSR1, 0, 0, 0);
    pid_t child = spawn(read_and_exit);
    nap_ms(30);
    MUST(kill(child, SIGTERM));
    reap("child", child);
}

PROBE(signalfd_poll_events) {
    int fd = signalfd_of(SIGUSR1, 0, 0, 0);
    SHOW(ready(fd, 0));
    SHOW(ready(fd, 20));
    MUST(kill(getpid(), SIGUSR1));
    say("%#x", ready(fd, 0));
    say("%#x", ready(fd, -1));
    fd_set reads;
    FD_ZERO(&reads);
    FD_SET(fd, &reads);
    struct timeval none = {0, 0};
    SHOW(select(fd + 1, &reads, NULL, NULL, &none));
    take(fd);
    FD_SET(fd, &reads);
    SHOW(select(fd + 1, &reads, NULL, NULL, &none));
}

// Every source of a signal wakes a poll that waits.
static void wakes(int fd, const char *what, pid_t child) {
    struct pollfd one = {fd, POLLIN, 0};
    int n = poll(&one, 1, 5000);
    say("%s: %d %#x", what, n, one.revents);
    say_wait();
    record it;
    SHOW(read(fd, &it, sizeof it));
    say("%s code %d", signal_name(it.ssi_signo), it.ssi_code);
    if (child) reap("child", child);
    began = now_ms();
}

static void exit_later(void) {
    nap_ms(60);
    _exit(7);
}

static void stop_later(void) {
    nap_ms(60);
    raise(SIGSTOP);
    pause();
}

static pid_t parent_tid;

static void tgkill_parent_later(void) {
    nap_ms(60);
    MUST(syscall(SYS_tgkill, getppid(), parent_tid, SIGUSR1));
}

static void continue_it(void) {
    nap_ms(60);
    MUST(kill(parent_tid, SIGCONT));
    pause(); // its own end would be a SIGCHLD too
}

PROBE(signalfd_poll_wakes) {
    int fd = signalfd_of(SIGUSR1, SIGCHLD, SIGALRM, SFD_NONBLOCK);
    int other = signalfd_of(SIGRTMIN + 1, SIGUSR1, SIGALRM, SFD_NONBLOCK);
    parent_tid = gettid();
    began = now_ms();
    wakes(other, "kill", spawn(kill_parent_later));
    take(fd); // SIGCHLD
    began = now_ms();
    wakes(other, "tgkill", spawn(tgkill_parent_later));
    take(fd);
    began = now_ms();
    wakes(other, "sigqueue", spawn(queue_to_parent_later));
    take(fd);
    began = now_ms();
    wakes(fd, "exit", spawn(exit_later));
    alarm_in_ms(60);
    wakes(fd, "setitimer", 0);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
    struct itimerspec when = {{0, 0}, {0, 60000000}};
    MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
    MUST(timer_settime(timer, 0, &when, NULL));
    wakes(other, "timer", 0);
    event.sigev_notify = SIGEV_THREAD_ID;
    event._sigev_un._tid = gettid();
    MUST(timer_create(CLOCK_REALTIME, &event, &timer));
    MUST(timer_settime(timer, 0, &when, NULL));
    wakes(other, "timer of a thread", 0);
    pid_t child = spawn(stop_later);
    wakes(fd, "stop", 0);
    parent_tid = child;
    pid_t helper = spawn(continue_it);
    began = now_ms();
    wakes(fd, "continue", 0);
    MUST(kill(child, SIGKILL));
    MUST(kill(helper, SIGKILL));
    reap("child", child);
    reap("helper", helper);
}

static void *raise_later(void *unused) {
    (void)unused;
    nap_ms(40);
    MUST(kill(getpid(), SIGUSR1));
    return NULL;
}

PROBE(signalfd_epoll_level) {
    int fd = signalfd_of(SIGUSR1, SIGUSR2, 0, SFD_NONBLOCK), set = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 7};
    SHOW(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
    SHOW(epoll_wait(set, &event, 1, 0));
    SHOW(epoll_wait(set, &event, 1, 20));
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, raise_later, NULL));
    SHOW(epoll_wait(set, &event, 1, 5000));
    say("%#x %d", event.events, event.data.u32);
    pthread_join(thread, NULL);
    SHOW(epoll_wait(set, &event, 1, 0));
    take(fd);
    SHOW(epoll_wait(set, &event, 1, 0));
    alarm_in_ms(50);
    sigset_t alarm = set_of(SIGALRM, 0, 0);
    MUST(sigprocmask(SIG_BLOCK, &alarm, NULL));
    SHOW(signalfd(fd, &alarm, 0) == fd);
    SHOW(epoll_wait(set, &event, 1, 5000));
    take(fd);
}

PROBE(signalfd_epoll_edge) {
    int fd = signalfd_of(SIGUSR1, SIGUSR2, SIGRTMIN + 1, SFD_NONBLOCK), set = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    MUST(kill(getpid(), SIGUSR1));
    SHOW(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
    SHOW(epoll_wait(set, &event, 1, 0));
    SHOW(epoll_wait(set, &event, 1, 20)); // told once
    MUST(kill(getpid(), SIGUSR2));
    SHOW(epoll_wait(set, &event, 1, 1000)); // another
    SHOW(epoll_wait(set, &event, 1, 20));
    MUST(kill(getpid(), SIGUSR2)); // merges: nothing new
    SHOW(epoll_wait(set, &event, 1, 20));
    send_value(getpid(), SIGRTMIN + 1, 1);
    SHOW(epoll_wait(set, &event, 1, 1000));
    send_value(getpid(), SIGRTMIN + 1, 1);
    SHOW(epoll_wait(set, &event, 1, 1000));
    SHOW(epoll_wait(set, &event, 1, 20));
    timer_t timer;
    struct sigevent notify = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
    struct itimerspec when = {{0, 0}, {0, 50000000}};
    MUST(timer_create(CLOCK_MONOTONIC, &notify, &timer));
    MUST(timer_settime(timer, 0, &when, NULL));
    SHOW(epoll_wait(set, &event, 1, 5000));
    SHOW(epoll_wait(set, &event, 1, 20));
    event.events = EPOLLIN | EPOLLET;
    SHOW(epoll_ctl(set, EPOLL_CTL_MOD, fd, &event));
    SHOW(epoll_wait(set, &event, 1, 0));
    event.events = EPOLLIN | EPOLLONESHOT;
    SHOW(epoll_ctl(set, EPOLL_CTL_MOD, fd, &event));
    SHOW(epoll_wait(set, &event, 1, 0));
    SHOW(epoll_wait(set, &event, 1, 20));
}

static int epoll_set;

static void wait_and_say(void) {
    struct epoll_event event;
    SHOW(epoll_wait(epoll_set, &event, 1, 30));
    SHOW(ready(shared_fd, 0));
    MUST(kill(getpid(), SIGUSR1)); // the set heard nothing of it: it listens to the parent's signals
    SHOW(epoll_wait(epoll_set, &event, 1, 30));
    say("%#x", ready(shared_fd, 0));
    take(shared_fd);
}

// signalfd(2): fork(2) semantics, epoll(7) semantics
PROBE(signalfd_after_fork) {
    shared_fd = signalfd_of(SIGUSR1, 0, 0, SFD_NONBLOCK);
    epoll_set = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN};
    MUST(epoll_ctl(epoll_set, EPOLL_CTL_ADD, shared_fd, &event));
    in_child("child", wait_and_say);
    SHOW(epoll_wait(epoll_set, &event, 1, 0));
    MUST(kill(getpid(), SIGUSR1));
    SHOW(epoll_wait(epoll_set, &event, 1, 1000));
    take(shared_fd);
}

PROBE(zz_signalfd_heir) {
    struct epoll_event event;
    SHOW(epoll_wait(11, &event, 1, 1000));
    SHOW(read(10, &(record){0}, sizeof(record)));
    alarm_in_ms(50);
    SHOW(epoll_wait(11, &event, 1, 5000));
    take(10);
}

PROBE(signalfd_after_exec) {
    int fd = signalfd_of(SIGUSR1, SIGALRM, 0, SFD_NONBLOCK), set = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN};
    MUST(dup2(fd, 10));
    MUST(dup2(set, 11));
    MUST(epoll_ctl(11, EPOLL_CTL_ADD, 10, &event));
    MUST(kill(getpid(), SIGUSR1));
    char self[64];
    MUST(readlink("/proc/self/exe", self, sizeof self) > 0 ? 0 : -1);
    MUST(execl("/proc/self/exe", "probe", "zz_signalfd_heir", NULL));
}

PROBE(signalfd_passed) {
    int pair[2], fd = signalfd_of(SIGUSR1, 0, 0, SFD_NONBLOCK);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    char byte = 'x', space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(part), &fd, sizeof fd);
    pid_t child = MUST(fork());
    if (!child) {
        int got;
        close(fd);
        MUST(recvmsg(pair[1], &message, 0));
        memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof got);
        take(got); // its own signals: none
        MUST(kill(getpid(), SIGUSR1));
        take(got);
        _exit(0);
    }
    MUST(kill(getpid(), SIGUSR1));
    MUST(sendmsg(pair[0], &message, 0));
    reap("child", child);
    int copy = MUST(dup(fd));
    close(fd);
    take(copy);
}

static void *change_mask_later(void *unused) {
    (void)unused;
    nap_ms(50);
    sigset_t set = set_of(SIGUSR2, 0, 0);
    MUST(signalfd(shared_fd, &set, 0));
    return NULL;
}

PROBE(signalfd_mask_changes) {
    shared_fd = signalfd_of(SIGUSR1, SIGUSR2, 0, 0);
    sigset_t set = set_of(SIGUSR1, 0, 0);
    SHOW(signalfd(shared_fd, &set, 0) == shared_fd);
    MUST(kill(getpid(), SIGUSR2));
    SHOW(ready(shared_fd, 20));
    set = set_of(SIGUSR2, 0, 0);
    SHOW(signalfd(shared_fd, &set, 0) == shared_fd);
    say("%#x", ready(shared_fd, 0));
    set = set_of(SIGUSR1, 0, 0);
    MUST(signalfd(shared_fd, &set, 0));
    pthread_t thread; // while a read waits
    MUST(pthread_create(&thread, NULL, change_mask_later, NULL));
    take(shared_fd);
    pthread_join(thread, NULL);
    MUST(kill(getpid(), SIGUSR2));
    MUST(signalfd(shared_fd, &set, 0));
    MUST(pthread_create(&thread, NULL, change_mask_later, NULL)); // while a poll waits
    say("%#x", ready(shared_fd, 5000));
    pthread_join(thread, NULL);
    sigset_t none = set_of(0, 0, 0);
    MUST(signalfd(shared_fd, &none, 0));
    SHOW(ready(shared_fd, 0));
}

PROBE(signalfd_flags) {
    int fd = signalfd_of(SIGUSR1, 0, 0, 0);
    SHOW(fcntl(fd, F_SETFL, O_NONBLOCK));
    take(fd);
    SHOW(fcntl(fd, F_SETFL, 0));
    record it;
    struct iovec iov = {&it, sizeof it};
    SHOW(preadv2(fd, &iov, 1, -1, RWF_NOWAIT));
    alarm_in_ms(40);
    count_signal(SIGALRM, 0);
    SHOW(read(fd, &it, sizeof it));
    int on = 1;
    SHOW(ioctl(fd, FIONBIO, &on));
    take(fd);
}

// A signal that is not blocked is taken by whoever waits for it in read(2) before its handler sees it.
PROBE(signalfd_unblocked) {
    sigset_t set = set_of(SIGUSR1, 0, 0);
    count_signal(SIGUSR1, 0);
    int fd = MUST(signalfd(-1, &set, SFD_NONBLOCK));
    MUST(kill(getpid(), SIGUSR1));
    SHOW(handled);
    SHOW(ready(fd, 0));
    pid_t child = spawn(kill_parent_later);
    struct pollfd one = {fd, POLLIN, 0};
    int n = poll(&one, 1, 5000);
    FACT(n == 1 || (n == -1 && errno == EINTR));
    SHOW(handled);
    reap("child", child);
}

PROBE(signalfd_readers_share) {
    shared_fd = signalfd_of(SIGUSR1, 0, 0, 0);
    pthread_t readers[3];
    for (int i = 0; i < 3; i++) MUST(pthread_create(&readers[i], NULL, take_in_thread, NULL));
    for (int i = 0; i < 3; i++) {
        nap_ms(20);
        MUST(kill(getpid(), SIGUSR1));
    }
    for (int i = 0; i < 3; i++) pthread_join(readers[i], NULL);
    SHOW(ready(shared_fd, 0));
}

// --- sigtimedwait

static void say_info(int sig, const siginfo_t *info) {
    if (sig < 0)
        say("%d %s", sig, strerrorname_np(errno));
    else
        say("%s code %d from %s uid %d value %d", signal_name(sig), info->si_code, who(info->si_pid), info->si_uid,
            info->si_value.sival_int);
}

static int wait_for(const sigset_t *set, siginfo_t *info, int ms) {
    struct timespec timeout = {ms / 1000, ms % 1000 * 1000000L};
    memset(info, 0, sizeof *info);
    return syscall(SYS_rt_sigtimedwait, set, info, ms < 0 ? NULL : &timeout, 8);
}

PROBE(sigwait_says_who) {
    sigset_t set = set_of(SIGUSR1, SIGRTMIN + 1, SIGCHLD);
    siginfo_t info;
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    MUST(kill(getpid(), SIGUSR1));
    say_info(wait_for(&set, &info, -1), &info);
    MUST(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
    say_info(wait_for(&set, &info, -1), &info);
    send_value(getpid(), SIGRTMIN + 1, 17);
    say_info(wait_for(&set, &info, 1000), &info);
    pid_t child = spawn(kill_parent_later);
    int sig = wait_for(&set, &info, -1);
    say("%d code %d", sig, info.si_code);
    FACT(info.si_pid == child);
    sig = wait_for(&set, &info, 5000);
    say("%d code %d status %d", sig, info.si_code, info.si_status);
    FACT(info.si_pid == child);
    reap("child", child);
    MUST(kill(getpid(), SIGUSR1));
    SHOW(syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 8));
    MUST(kill(getpid(), SIGUSR1));
    SHOW(syscall(SYS_rt_sigtimedwait, &set, unmapped, NULL, 8));
    SHOW(wait_for(&set, &info, 0));
    MUST(raise(SIGUSR1));
    SHOW(sigwaitinfo(&set, &info));
    say("code %d", info.si_code);
}

PROBE(sigwait_times_out) {
    sigset_t set = set_of(SIGUSR1, 0, 0);
    siginfo_t info;
    struct timespec odd = {0, 1000000000}, before = {-1, 0};
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    SHOW(syscall(SYS_rt_sigtimedwait, &set, &info, &odd, 8));
    SHOW(syscall(SYS_rt_sigtimedwait, &set, &info, &before, 8));
    SHOW(syscall(SYS_rt_sigtimedwait, &set, &info, unmapped, 8));
    SHOW(syscall(SYS_rt_sigtimedwait, unmapped, &info, NULL, 8));
    SHOW(syscall(SYS_rt_sigtimedwait, &set, &info, NULL, 4));
    SHOW(syscall(SYS_rt_sigtimedwait, unmapped, &info, unmapped, 4));
    SHOW(wait_for(&set, &info, 0));
    began = now_ms();
    SHOW(wait_for(&set, &info, 50));
    FACT(now_ms() - began >= 49);
}

PROBE(sigwait_interrupted) {
    sigset_t set = set_of(SIGUSR1, 0, 0);
    siginfo_t info;
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    count_signal(SIGALRM, SA_RESTART);
    alarm_in_ms(40);
    SHOW(wait_for(&set, &info, -1)); // whatever SA_RESTART says
    SHOW(handled);
    alarm_in_ms(40);
    SHOW(wait_for(&set, &info, 5000));
    // Signals that nobody handles do not end it, nor do they give it more time
    signal(SIGALRM, SIG_IGN);
    alarm_in_ms(40);
    began = now_ms();
    SHOW(wait_for(&set, &info, 120));
    FACT(now_ms() - began >= 119);
    pid_t child = spawn(exit_later);
    began = now_ms();
    SHOW(wait_for(&set, &info, 150));
    FACT(now_ms() - began >= 149);
    reap("child", child);
    child = spawn(kill_parent_later);
    alarm_in_ms(20);
    SHOW(wait_for(&set, &info, 5000));
    FACT(info.si_pid == child);
    reap("child", child);
}

static void wait_and_exit(void) {
    sigset_t set = set_of(SIGUSR1, 0, 0);
    siginfo_t info;
    SHOW(wait_for(&set, &info, 3000));
    SHOW(wait_for(&set, &info, 3000));
}

PROBE(sigwait_stopped) {
    sigset_t set = set_of(SIGUSR1, 0, 0);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    pid_t child = spawn(wait_and_exit);
    nap_ms(40);
    MUST(kill(child, SIGSTOP));
    int status;
    MUST(waitpid(child, &status, WUNTRACED));
    MUST(kill(child, SIGCONT));
    nap_ms(20);
    MUST(kill(child, SIGUSR1));
    reap("child", child);
}

// --- while other signals come all the time

enum { MANY = 300 };

static void send_many(void) {
    for (int i = 0; i < MANY;) {
        union sigval value = {.sival_int = i};
        if (!sigqueue(getppid(), SIGRTMIN + 1, value))
            i++;
        else if (errno != EAGAIN)
            MUST(-1);
        if (i % 7 == 0) sched_yield();
    }
}

// Alarms that are handled, as fast as the kernel likes.
static void start_alarms(int flags) {
    count_signal(SIGALRM, flags);
    struct itimerval often = {{0, 300}, {0, 300}};
    MUST(setitimer(ITIMER_REAL, &often, NULL));
}

static void stop_alarms(void) { alarm_in_ms(0); }

static void take_many(const char *what, int (*next)(int fd), int fd) {
    start_alarms(what[0] == 'r' ? SA_RESTART : 0);
    pid_t child = spawn(send_many);
    int wrong = 0, seen = 0;
    while (seen < MANY) {
        int value = next(fd);
        if (value == -1) continue; // interrupted, or nothing yet
        wrong += value != seen++;
    }
    stop_alarms();
    say("%s: %d wrong", what, wrong);
    reap("sender", child);
}

static int next_by_wait(int fd) {
    (void)fd;
    sigset_t set = set_of(SIGRTMIN + 1, 0, 0);
    siginfo_t info;
    int sig = sigwaitinfo(&set, &info);
    if (sig == -1) return errno == EINTR ? -1 : -2;
    return info.si_code == SI_QUEUE && info.si_pid != 0 ? info.si_value.sival_int : -3;
}

static int next_by_read(int fd) {
    record it;
    ssize_t n = read(fd, &it, sizeof it);
    if (n == -1) return errno == EINTR || errno == EAGAIN ? -1 : -2;
    return n == sizeof it && it.ssi_pid ? it.ssi_int : -3;
}

static int next_by_poll(int fd) {
    struct pollfd one = {fd, POLLIN, 0};
    int n = poll(&one, 1, -1);
    if (n == -1) return errno == EINTR ? -1 : -2;
    return next_by_read(fd);
}

static int next_by_epoll(int fd) {
    struct epoll_event event;
    int n = epoll_wait(epoll_set, &event, 1, -1);
    if (n == -1) return errno == EINTR ? -1 : -2;
    return next_by_read(fd);
}

PROBE(signals_taken_under_fire) {
    sigset_t set = set_of(SIGRTMIN + 1, 0, 0);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    take_many("sigwaitinfo", next_by_wait, -1);
    take_many("restarted sigwaitinfo", next_by_wait, -1);
    int fd = signalfd_of(SIGRTMIN + 1, 0, 0, 0);
    take_many("plain read", next_by_read, fd);
    take_many("restarted read", next_by_read, fd);
    take_many("poll", next_by_poll, fd);
    epoll_set = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN};
    MUST(epoll_ctl(epoll_set, EPOLL_CTL_ADD, fd, &event));
    take_many("epoll", next_by_epoll, fd);
}

static void *tell_value(void *sum) {
    sigset_t set = set_of(SIGRTMIN + 1, 0, 0);
    siginfo_t info;
    while (sigwaitinfo(&set, &info) == SIGRTMIN + 1 && info.si_value.sival_int >= 0)
        __atomic_add_fetch((int *)sum, info.si_value.sival_int, __ATOMIC_SEQ_CST);
    return NULL;
}

// Threads that wait for the same signals, some by descriptor: each signal is taken once.
PROBE(signals_shared_by_waiters) {
    int fd = signalfd_of(SIGRTMIN + 1, 0, 0, SFD_NONBLOCK), sum = 0, polled = 0;
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) MUST(pthread_create(&threads[i], NULL, tell_value, &sum));
    for (int i = 1; i <= 100; i++) {
        send_value(getpid(), SIGRTMIN + 1, i);
        if (i % 3) continue;
        struct pollfd one = {fd, POLLIN, 0};
        poll(&one, 1, 0);
        int value = next_by_read(fd);
        if (value > 0) polled += value;
    }
    while (__atomic_load_n(&sum, __ATOMIC_SEQ_CST) + polled != 5050) sched_yield();
    for (int i = 0; i < 2; i++) send_value(getpid(), SIGRTMIN + 1, -1);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    say("all came");
}
