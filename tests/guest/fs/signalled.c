// Signals about files: O_ASYNC with F_SETOWN and F_SETSIG, leases and what breaks them, F_NOTIFY.
#include "../probe.h"
#include <sys/socket.h>

static int signals;
static siginfo_t last;

static void on_signal(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    signals++;
    last = *info;
}

static void watch_signal(int sig) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    MUST(sigaction(sig, &action, NULL));
    signals = 0;
}

static void say_signals(const char *what) {
    for (int i = 0; i < 40 && !signals; i++)
        nap_ms(5);
    if (signals)
        say("%s: %s code %d band %#lx fd %d", what, signal_name(last.si_signo), last.si_code, last.si_code > 0 && last.si_code < 7 ? last.si_band : 0,
            last.si_code > 0 && last.si_code < 7 ? last.si_fd : 0);
    else
        say("%s: no signal", what);
    signals = 0;
}

PROBE(async_pipe) {
    int p[2];
    char c;
    MUST(pipe(p));
    watch_signal(SIGIO);
    watch_signal(SIGRTMIN + 1);
    SHOW(fcntl(p[0], F_SETFL, O_ASYNC));
    MUST(write(p[1], "x", 1));
    say_signals("without an owner");
    MUST(fcntl(p[0], F_SETOWN, getpid()));
    MUST(write(p[1], "x", 1));
    say_signals("with an owner");
    MUST(fcntl(p[0], F_SETSIG, SIGRTMIN + 1));
    MUST(write(p[1], "x", 1));
    say_signals("with a signal");
    SHOW(fcntl(p[0], F_SETFL, 0));
    MUST(write(p[1], "x", 1));
    say_signals("without O_ASYNC");
    MUST(fcntl(p[1], F_SETOWN, getpid()));
    MUST(fcntl(p[1], F_SETSIG, SIGRTMIN + 1));
    SHOW(fcntl(p[1], F_SETFL, O_ASYNC));
    MUST(read(p[0], &c, 1));
    say_signals("room");
    struct f_owner_ex owner = {F_OWNER_TID, gettid()};
    MUST(fcntl(p[0], F_SETOWN_EX, &owner));
    MUST(fcntl(p[0], F_SETFL, O_ASYNC));
    MUST(write(p[1], "x", 1));
    say_signals("to a thread");
    MUST(setpgid(0, 0));
    owner = (struct f_owner_ex){F_OWNER_PGRP, getpid()};
    MUST(fcntl(p[0], F_SETOWN_EX, &owner));
    MUST(write(p[1], "x", 1));
    say_signals("to a group");
}

PROBE(async_socket) {
    int s[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    watch_signal(SIGIO);
    MUST(fcntl(s[0], F_SETOWN, getpid()));
    SHOW(fcntl(s[0], F_SETFL, O_ASYNC));
    SHOW(fcntl(s[0], F_GETFL) & O_ASYNC);
    MUST(write(s[1], "x", 1));
    say_signals("data");
    MUST(fcntl(s[0], F_SETSIG, SIGIO));
    MUST(write(s[1], "x", 1));
    say_signals("more data");
    int fd = MUST(open("f", O_RDWR | O_CREAT, 0644));
    SHOW(fcntl(fd, F_SETFL, O_ASYNC));
    SHOW(fcntl(fd, F_GETFL) & O_ASYNC);
}

static void other_user(void) {
    int fd = MUST(open("f", O_RDONLY));
    MUST(setuid(1000));
    SHOW(fcntl(fd, F_SETLEASE, F_RDLCK));
    SHOW(fcntl(fd, F_GETLEASE));
}

PROBE(lease_rules) {
    make_file("f", "x");
    int fd = MUST(open("f", O_RDONLY));
    SHOW(fcntl(fd, F_GETLEASE));
    SHOW(fcntl(fd, F_SETLEASE, F_UNLCK));
    SHOW(fcntl(fd, F_SETLEASE, 7));
    SHOW(fcntl(fd, F_SETLEASE, F_RDLCK));
    SHOW(fcntl(fd, F_GETLEASE));
    SHOW(fcntl(fd, F_SETLEASE, F_WRLCK));
    SHOW(fcntl(fd, F_GETLEASE));
    SHOW(fcntl(fd, F_SETLEASE, F_UNLCK));
    SHOW(fcntl(fd, F_GETLEASE));
    int more = MUST(open("f", O_RDONLY));
    SHOW(fcntl(fd, F_SETLEASE, F_WRLCK));
    SHOW(fcntl(fd, F_SETLEASE, F_RDLCK));
    SHOW(fcntl(more, F_SETLEASE, F_RDLCK));
    SHOW(fcntl(more, F_SETLEASE, F_WRLCK));
    SHOW(fcntl(more, F_GETLEASE));
    close(more);
    SHOW(fcntl(fd, F_SETLEASE, F_WRLCK));
    close(fd);
    int writer = MUST(open("f", O_WRONLY));
    SHOW(fcntl(writer, F_SETLEASE, F_RDLCK));
    SHOW(fcntl(writer, F_SETLEASE, F_WRLCK));
    SHOW(fcntl(writer, F_SETLEASE, F_UNLCK));
    fd = MUST(open("f", O_RDONLY));
    SHOW(fcntl(fd, F_SETLEASE, F_RDLCK));
    SHOW(fcntl(MUST(open(".", O_RDONLY)), F_SETLEASE, F_RDLCK));
    close(writer);
    in_child("another user", other_user);
}

static pid_t opener(const char *what, int flags, int ready) {
    pid_t pid = MUST(fork());
    if (pid == 0) {
        MUST(write(ready, "x", 1));
        int fd = flags == -1 ? truncate("f", 1) : open("f", flags);
        say("%s: %s", what, fd < 0 ? strerrorname_np(errno) : "ok");
        _exit(0);
    }
    return pid;
}

PROBE(lease_broken) {
    char c;
    int ready[2];
    MUST(pipe(ready));
    make_file("f", "xyz");
    watch_signal(SIGIO);
    int fd = MUST(open("f", O_RDONLY));
    MUST(fcntl(fd, F_SETLEASE, F_RDLCK));
    pid_t pid = opener("reader", O_RDONLY, ready[1]);
    MUST(read(ready[0], &c, 1));
    reap("reader", pid);
    SHOW(signals);
    pid = opener("impatient writer", O_WRONLY | O_NONBLOCK, ready[1]);
    MUST(read(ready[0], &c, 1));
    reap("impatient writer", pid);
    say_signals("broken");
    SHOW(fcntl(fd, F_GETLEASE));
    pid = opener("writer", O_WRONLY, ready[1]);
    MUST(read(ready[0], &c, 1));
    nap_ms(50);
    say("letting go");
    MUST(fcntl(fd, F_SETLEASE, F_UNLCK));
    reap("writer", pid);
    MUST(fcntl(fd, F_SETSIG, SIGIO));
    MUST(fcntl(fd, F_SETLEASE, F_WRLCK));
    pid = opener("reader", O_RDONLY, ready[1]);
    MUST(read(ready[0], &c, 1));
    say_signals("broken");
    SHOW(fcntl(fd, F_GETLEASE));
    MUST(fcntl(fd, F_SETLEASE, F_RDLCK));
    reap("reader", pid);
    SHOW(fcntl(fd, F_GETLEASE));
    pid = opener("truncating", -1, ready[1]);
    MUST(read(ready[0], &c, 1));
    say_signals("broken");
    MUST(fcntl(fd, F_SETLEASE, F_UNLCK));
    reap("truncating", pid);
}

// A process that asks for itself, and closes the directory or leaves that to its end.
static pid_t notifier(int fd, bool closes) {
    pid_t pid = fork();
    if (pid == 0) {
        SHOW(fcntl(fd, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
        if (closes)
            close(fd);
        make_file(closes ? "d/closed" : "d/open", "");
        say_signals("in the child");
        _exit(0);
    }
    return pid;
}

PROBE(folder_notify) {
    MUST(mkdir("d", 0755));
    make_file("f", "");
    int fd = MUST(open("d", O_RDONLY));
    watch_signal(SIGIO);
    watch_signal(SIGRTMIN);
    SHOW(fcntl(fd, F_NOTIFY, DN_CREATE));
    make_file("d/a", "");
    say_signals("created");
    make_file("d/b", "");
    say_signals("created again");
    MUST(fcntl(fd, F_SETSIG, SIGRTMIN));
    SHOW(fcntl(fd, F_NOTIFY, DN_DELETE | DN_MULTISHOT));
    MUST(unlink("d/a"));
    say_signals("deleted");
    MUST(unlink("d/b"));
    say_signals("deleted again");
    MUST(mkdir("d/sub", 0755));
    say_signals("made");
    MUST(rename("d/sub", "d/sub2"));
    say_signals("renamed");
    SHOW(fcntl(fd, F_NOTIFY, DN_RENAME | DN_ATTRIB | DN_MODIFY | DN_MULTISHOT));
    MUST(rename("d/sub2", "d/sub"));
    say_signals("renamed");
    MUST(chmod("d/sub", 0700));
    say_signals("changed");
    SHOW(fcntl(fd, F_NOTIFY, 0));
    MUST(rmdir("d/sub"));
    say_signals("after the end");
    SHOW(fcntl(fd, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
    reap("a process that closes it", notifier(fd, true));
    make_file("d/c", "");
    say_signals("another has closed it");
    close(MUST(dup(fd))); // any descriptor of it
    make_file("d/e", "");
    say_signals("closed");
    reap("a process that ends", notifier(fd, false));
    make_file("d/f", "");
    say_signals("after its end");
    SHOW(fcntl(MUST(open("f", O_RDONLY)), F_NOTIFY, DN_CREATE));
    SHOW(fcntl(MUST(open("f", O_RDONLY)), F_NOTIFY, 0));
}
