// Terminals: pty(7), termios(3), job control, window size.
#include "probe.h"
#include <poll.h>
#include <pty.h>
#include <termios.h>

static int master, slave;

static void open_pair(void) {
    char name[64];
    master = MUST(posix_openpt(O_RDWR | O_NOCTTY));
    MUST(grantpt(master));
    MUST(unlockpt(master));
    MUST(ptsname_r(master, name, sizeof name) ? -1 : 0);
    FACT(strncmp(name, "/dev/pts/", 9) == 0);
    slave = MUST(open(name, O_RDWR | O_NOCTTY));
}

// What has arrived at `fd`, control characters shown.
static void say_arrived(const char *what, int fd) {
    char text[256], shown[1024] = "";
    struct pollfd one = {fd, POLLIN, 0};
    if (poll(&one, 1, 100) == 0) {
        say("%s: nothing", what);
        return;
    }
    ssize_t n = read(fd, text, sizeof text);
    if (n < 0) {
        show(what, n);
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        char one[8];
        snprintf(one, sizeof one, text[i] < ' ' ? "\\%d" : "%c", text[i]);
        strcat(shown, one);
    }
    say("%s: %zd '%s'", what, n, shown);
}

PROBE(pty_basic) {
    open_pair();
    SHOW(isatty(slave));
    SHOW(isatty(master));
    int number = -1;
    SHOW(ioctl(master, TIOCGPTN, &number));
    FACT(number >= 0);
    SHOW(write(slave, "one\ntwo", 7));
    say_arrived("master", master);
    SHOW(write(master, "typed", 5));
    say_arrived("echo", master);
    say_arrived("not a line yet", slave);
    SHOW(write(master, "\n", 1));
    say_arrived("echo", master);
    say_arrived("line", slave);
    SHOW(write(master, "abc\177\177x\ny\n", 9));
    say_arrived("echo", master);
    say_arrived("line", slave);
    say_arrived("line", slave);
    SHOW(write(master, "gone\025kept\n", 10));
    say_arrived("line", slave);
    SHOW(write(master, "part\004", 5));
    say_arrived("flushed", slave);
    SHOW(write(master, "\004", 1));
    say_arrived("end of file", slave);
    SHOW(lseek(master, 0, SEEK_SET));
}

PROBE(pty_raw) {
    struct termios mode;
    open_pair();
    SHOW(tcgetattr(slave, &mode));
    say("%#x %#x %#x %#x", mode.c_iflag, mode.c_oflag, mode.c_cflag, mode.c_lflag);
    for (int i = 0; i < 17; i++)
        say("cc %d = %d", i, mode.c_cc[i]);
    cfmakeraw(&mode);
    SHOW(tcsetattr(slave, TCSANOW, &mode));
    SHOW(write(master, "a\r\003b", 4));
    say_arrived("raw", slave);
    say_arrived("no echo", master);
    SHOW(write(slave, "x\ny", 3));
    say_arrived("as it is", master);
    SHOW(tcgetattr(master, &mode));
    SHOW(mode.c_lflag & (ICANON | ECHO | ISIG));
    SHOW(tcflush(slave, TCIFLUSH));
    make_file("f", "");
    SHOW(tcgetattr(MUST(open("f", O_RDONLY)), &mode));
}

PROBE(pty_window) {
    struct winsize size = {0};
    open_pair();
    SHOW(ioctl(slave, TIOCGWINSZ, &size));
    say("%d %d", size.ws_row, size.ws_col);
    size.ws_row = 40;
    size.ws_col = 132;
    SHOW(ioctl(master, TIOCSWINSZ, &size));
    memset(&size, 0, sizeof size);
    SHOW(ioctl(slave, TIOCGWINSZ, &size));
    say("%d %d", size.ws_row, size.ws_col);
}

PROBE(pty_hangup) {
    char c;
    open_pair();
    close(slave);
    SHOW(read(master, &c, 1));
    struct pollfd one = {master, POLLIN, 0};
    SHOW(poll(&one, 1, 0));
    say("%#x", one.revents);
    open_pair();
    close(master);
    SHOW(read(slave, &c, 1));
    SHOW(write(slave, "x", 1));
    int opened = open("/dev/pts/99", O_RDWR);
    show("open", opened);
}

static void become_leader(void) {
    MUST(setsid());
    MUST(ioctl(slave, TIOCSCTTY, 0));
}

static void leader(void) {
    become_leader();
    FACT(tcgetpgrp(slave) == getpgrp());
    FACT(tcgetsid(slave) == getpid());
    int tty = OK(open("/dev/tty", O_RDWR));
    SHOW(isatty(tty));
    count_signal(SIGINT, 0);
    count_signal(SIGQUIT, 0);
    count_signal(SIGWINCH, 0);
    write(slave, "ready\n", 6);
    char c;
    SHOW(read(slave, &c, 1));
    say("got %s", signal_name(last_signal));
    SHOW(read(slave, &c, 1));
    say("got %s", signal_name(last_signal));
    SHOW(read(slave, &c, 1));
    say("got %s", signal_name(last_signal));
}

PROBE(controlling_terminal) {
    char text[64];
    open_pair();
    pid_t pid = spawn(leader);
    MUST(read(master, text, sizeof text));
    nap_ms(50);
    MUST(write(master, "\003", 1));
    nap_ms(150);
    MUST(write(master, "\034", 1));
    nap_ms(150);
    MUST(ioctl(master, TIOCSWINSZ, &(struct winsize){30, 90, 0, 0}));
    reap("leader", pid);
    say_arrived("echo", master);
}

static void stoppable(void) {
    become_leader();
    signal(SIGTTOU, SIG_IGN);
    int status;
    pid_t job = MUST(fork());
    if (job == 0) {
        setpgid(0, 0);
        tcsetpgrp(slave, getpid());
        write(slave, "job\n", 4);
        for (;;)
            pause();
    }
    FACT(waitpid(job, &status, WUNTRACED) == job);
    say_status("job", status);
    SHOW(tcsetpgrp(slave, getpgrp()));
    kill(job, SIGCONT);
    kill(job, SIGTERM);
    reap("job", job);
    // a background reader is stopped
    job = MUST(fork());
    if (job == 0) {
        setpgid(0, 0);
        char c;
        read(slave, &c, 1);
        _exit(0);
    }
    FACT(waitpid(job, &status, WUNTRACED) == job);
    say_status("background reader", status);
    kill(job, SIGKILL);
    reap("background reader", job);
}

PROBE(job_control) {
    char text[64];
    open_pair();
    pid_t pid = spawn(stoppable);
    MUST(read(master, text, sizeof text));
    nap_ms(50);
    MUST(write(master, "\032", 1));
    reap("leader", pid);
}

static void hang_up_body(void) {
    close(master);
    become_leader();
    count_signal(SIGHUP, 0);
    write(1, "waiting\n", 8);
    while (!handled)
        pause();
    say("got %s", signal_name(last_signal));
    char c;
    SHOW(read(slave, &c, 1));
}

PROBE(hang_up) {
    open_pair();
    pid_t pid = spawn(hang_up_body);
    close(slave);
    nap_ms(100);
    close(master);
    reap("leader", pid);
}
