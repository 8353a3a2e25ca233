// Sessions and their terminals (credentials(7), tty(4), tcsetpgrp(3)): who may read, write, change, and who is told.
#include "probe.h"
#include <poll.h>
#include <pty.h>
#include <termios.h>

static int master, slave;
static char name[64];

static void open_pair(void) { MUST(openpty(&master, &slave, name, NULL, NULL)); }

static void say_read(const char *what, int fd) {
    char text[200];
    struct pollfd one = {fd, POLLIN, 0};
    if (poll(&one, 1, 100) == 0) {
        say("%s: nothing", what);
        return;
    }
    ssize_t n = read(fd, text, sizeof text);
    char shown[900] = "";
    for (ssize_t i = 0; i < n; i++)
        sprintf(shown + strlen(shown), text[i] < ' ' ? "\\%o" : "%c", (unsigned char)text[i]);
    say("%s: %zd %s '%s'", what, n, n < 0 ? strerrorname_np(errno) : "", shown);
}

static void no_terminal(void) {
    MUST(setsid());
    SHOW(open("/dev/tty", O_RDWR));
    SHOW(tcgetpgrp(slave));
    SHOW(tcsetpgrp(slave, getpgrp()));
    SHOW(tcgetsid(slave));
    SHOW(tcgetsid(master));
    SHOW(tcgetpgrp(master));
    SHOW(ioctl(slave, TIOCNOTTY, 0));
    // opening gives it
    int fd = MUST(open(name, O_RDWR | O_NOCTTY));
    SHOW(tcgetpgrp(fd));
    fd = MUST(open(name, O_WRONLY));
    SHOW(tcgetpgrp(fd));
    fd = MUST(open(name, O_RDWR));
    FACT(tcgetpgrp(fd) == getpgrp());
    FACT(tcgetsid(fd) == getpid());
    FACT(tcgetsid(master) == getpid());
    FACT(tcgetpgrp(master) == getpgrp());
    SHOW(ioctl(fd, TIOCSCTTY, 0));
    SHOW(tcsetpgrp(fd, 0));
    SHOW(tcsetpgrp(fd, -1));
    SHOW(tcsetpgrp(fd, 99999));
    int ready[2];
    char c;
    MUST(pipe(ready));
    pid_t stranger = MUST(fork()); // leads a session of its own
    if (stranger == 0) {
        MUST(setsid());
        MUST(write(ready[1], "x", 1));
        pause();
    }
    MUST(read(ready[0], &c, 1));
    SHOW(tcsetpgrp(fd, stranger));
    kill(stranger, SIGKILL);
    waitpid(stranger, NULL, 0);
    SHOW(tcsetpgrp(fd, stranger));
    SHOW(tcsetpgrp(master, getpgrp()));
    int other_master, other_slave;
    MUST(openpty(&other_master, &other_slave, NULL, NULL, NULL));
    SHOW(ioctl(other_slave, TIOCSCTTY, 0));
    SHOW(ioctl(other_slave, TIOCSCTTY, 1));
    SHOW(tcgetpgrp(other_slave));
    count_signal(SIGHUP, 0);
    count_signal(SIGCONT, 0);
    int tty = MUST(open("/dev/tty", O_RDWR));
    SHOW(ioctl(tty, TIOCNOTTY, 0));
    SHOW(handled);
    SHOW(open("/dev/tty", O_RDWR));
    SHOW(ioctl(slave, TIOCSCTTY, 0));
    FACT(tcgetpgrp(slave) == getpgrp());
}

static void no_leader(void) { SHOW(ioctl(slave, TIOCSCTTY, 0)); }

PROBE(terminal_gets_a_session) {
    open_pair();
    in_child("leader", no_terminal);
    open_pair();
    in_child("member", no_leader);
}

static void thief(void) {
    MUST(setsid());
    SHOW(ioctl(slave, TIOCSCTTY, 0));
    SHOW(ioctl(slave, TIOCSCTTY, 1));
}

static void robbed(void) {
    MUST(setsid());
    MUST(ioctl(slave, TIOCSCTTY, 0));
    in_child("thief", thief);
    FACT(tcgetsid(slave) == getpid());
}

PROBE(terminal_stolen) {
    open_pair();
    in_child("owner", robbed);
}

// A background process does `what`; its status as the leader sees it.
static void background(const char *text, void (*what)(void), bool ignore) {
    int status;
    pid_t pid = MUST(fork());
    if (pid == 0) {
        MUST(setpgid(0, 0));
        if (ignore) {
            signal(SIGTTIN, SIG_IGN);
            signal(SIGTTOU, SIG_IGN);
        }
        what();
        _exit(0);
    }
    waitpid(pid, &status, WUNTRACED);
    say_status(text, status);
    if (WIFSTOPPED(status)) {
        kill(-pid, SIGKILL);
        waitpid(pid, &status, 0);
    }
}

static void do_read(void) {
    char c;
    SHOW(read(slave, &c, 1));
}
static void do_write(void) { SHOW(write(slave, "bg", 2)); }
static void do_tcsetattr(void) {
    struct termios mode;
    MUST(tcgetattr(slave, &mode));
    SHOW(tcsetattr(slave, TCSANOW, &mode));
}
static void do_tcsetpgrp(void) { SHOW(tcsetpgrp(slave, getpgrp())); }
static void do_flush(void) { SHOW(tcflush(slave, TCIOFLUSH)); }
static void do_drain(void) { SHOW(tcdrain(slave)); }
static void do_winsize(void) { SHOW(ioctl(slave, TIOCSWINSZ, &(struct winsize){1, 2, 3, 4})); }
static void do_read_orphaned(void) {
    int ready[2];
    MUST(pipe(ready));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        MUST(setpgid(0, 0));
        close(ready[1]);
        char c;
        read(ready[0], &c, 1); // until the parent is gone
        nap_ms(50);
        SHOW(read(slave, &c, 1));
        SHOW(tcflush(slave, TCIFLUSH));
        SHOW(write(slave, "orphan", 6));
        _exit(0);
    }
    _exit(0);
}

static void tostop(bool on) {
    struct termios mode;
    MUST(tcgetattr(slave, &mode));
    mode.c_lflag = on ? mode.c_lflag | TOSTOP : mode.c_lflag & ~TOSTOP;
    MUST(tcsetattr(slave, TCSANOW, &mode));
}

static void leader_of_background(void) {
    MUST(setsid());
    MUST(ioctl(slave, TIOCSCTTY, 0));
    for (int ignore = 0; ignore < 2; ignore++) {
        background("read", do_read, ignore);
        background("write", do_write, ignore);
        background("tcsetattr", do_tcsetattr, ignore);
        background("tcflush", do_flush, ignore);
        background("tcdrain", do_drain, ignore);
        background("winsize", do_winsize, ignore);
        tostop(true);
        background("write with TOSTOP", do_write, ignore);
        tostop(false);
    }
    background("tcsetpgrp", do_tcsetpgrp, false);
    background("tcsetpgrp ignoring", do_tcsetpgrp, true);
}

PROBE(background_processes) {
    open_pair();
    in_child("leader", leader_of_background);
}

static void leader_of_orphans(void) {
    MUST(setsid());
    MUST(ioctl(slave, TIOCSCTTY, 0));
    background("orphan", do_read_orphaned, false);
    nap_ms(200);
}

PROBE(background_orphans) {
    MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
    open_pair();
    in_child("leader", leader_of_orphans);
    while (wait(NULL) > 0)
        continue;
}

static int told[2];

static void say_signal(int sig) {
    char text[60];
    int n = sprintf(text, "%s ", signal_name(sig));
    write(told[1], text, n);
}

// The leader ends; a process of its foreground group and one of another keep the terminal open.
static void leader_that_ends(void) {
    int ready[2];
    char c;
    MUST(pipe(ready));
    MUST(setsid());
    MUST(ioctl(slave, TIOCSCTTY, 0));
    for (int other = 0; other < 2; other++) {
        pid_t pid = MUST(fork());
        if (pid)
            continue;
        close(master);
        if (other)
            setpgid(0, 0);
        signal(SIGHUP, say_signal);
        signal(SIGCONT, say_signal);
        signal(SIGTTOU, SIG_IGN);
        MUST(fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK));
        write(ready[1], "r", 1);
        nap_ms(200);
        char text[200];
        ssize_t r = read(slave, &c, 1);
        int read_error = errno;
        ssize_t w = write(slave, "x", 1);
        int write_error = errno;
        struct termios mode;
        int g = tcgetattr(slave, &mode), get_error = errno;
        struct pollfd one = {slave, POLLIN | POLLOUT, 0};
        poll(&one, 1, 0);
        int n = sprintf(text, "%s read %zd %s write %zd %s tcgetattr %d %s poll %#x tty %d\n", other ? "other" : "foreground", r, r < 0 ? strerrorname_np(read_error) : "", w,
                        w < 0 ? strerrorname_np(write_error) : "", g, g < 0 ? strerrorname_np(get_error) : "", one.revents, open("/dev/tty", O_RDWR));
        if (other)
            nap_ms(50);
        write(told[1], text, n);
        _exit(0);
    }
    read(ready[0], &c, 1);
    read(ready[0], &c, 1);
}

PROBE(leader_ends) {
    MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
    MUST(pipe(told));
    open_pair();
    in_child("leader", leader_that_ends);
    close(slave);
    say_read("master", master);
    while (wait(NULL) > 0)
        continue;
    close(told[1]);
    char text[1000];
    ssize_t n, total = 0;
    while ((n = read(told[0], text + total, sizeof text - total - 1)) > 0)
        total += n;
    text[total] = 0;
    say("%s", text);
    FACT(tcgetsid(master) == -1);
    SHOW(open(name, O_RDWR | O_NOCTTY) >= 0);
}

static void typed_signals(void) {
    MUST(setsid());
    MUST(ioctl(slave, TIOCSCTTY, 0));
    signal(SIGINT, say_signal);
    signal(SIGQUIT, say_signal);
    signal(SIGTSTP, say_signal);
    signal(SIGWINCH, say_signal);
    write(slave, "ready", 5);
    nap_ms(300);
    struct termios mode;
    MUST(tcgetattr(slave, &mode));
    mode.c_lflag &= ~ICANON;
    mode.c_cc[VMIN] = 0;
    MUST(tcsetattr(slave, TCSANOW, &mode));
    char text[100];
    SHOW(read(slave, text, sizeof text));
}

PROBE(typed_signals_flush) {
    char text[200] = "";
    MUST(pipe(told));
    open_pair();
    pid_t pid = spawn(typed_signals);
    MUST(read(master, text, 5));
    MUST(write(master, "gone\003", 5));
    nap_ms(30);
    MUST(write(master, "\034", 1));
    nap_ms(30);
    MUST(write(master, "\032", 1));
    nap_ms(30);
    SHOW(ioctl(master, TIOCSIG, SIGINT));
    nap_ms(30);
    MUST(ioctl(slave, TIOCSWINSZ, &(struct winsize){7, 8, 0, 0}));
    MUST(ioctl(slave, TIOCSWINSZ, &(struct winsize){7, 8, 0, 0}));
    nap_ms(30);
    MUST(write(master, "kept", 4));
    reap("process", pid);
    close(told[1]);
    memset(text, 0, sizeof text);
    read(told[0], text, sizeof text - 1);
    say("%s", text);
    say_read("echo", master);
}

static void type_into_own(void) {
    char text[20] = "";
    MUST(setsid());
    SHOW(ioctl(slave, TIOCSTI, "x"));
    MUST(ioctl(slave, TIOCSCTTY, 0));
    SHOW(ioctl(slave, TIOCSTI, unmapped));
    SHOW(ioctl(slave, TIOCSTI, "h"));
    SHOW(ioctl(slave, TIOCSTI, "i"));
    SHOW(ioctl(slave, TIOCSTI, "\n"));
    SHOW(read(slave, text, sizeof text));
    say("%s", text);
}

PROBE(typed_by_a_process) {
    int fd = open("/proc/sys/dev/tty/legacy_tiocsti", O_RDONLY);
    char on = '1';
    if (fd >= 0)
        MUST(read(fd, &on, 1));
    open_pair();
    if (on == '1') // a kernel may forbid it
        in_child("process", type_into_own);
}
