// The line discipline (termios(3)): what each flag does to input, echo and output.
#include "probe.h"
#include <poll.h>
#include <pty.h>
#include <termios.h>

static int master, slave;

static void open_pair(void) {
    MUST(openpty(&master, &slave, NULL, NULL, NULL));
    MUST(fcntl(master, F_SETFL, O_NONBLOCK | O_RDWR));
    MUST(fcntl(slave, F_SETFL, O_NONBLOCK | O_RDWR));
}

static void close_pair(void) {
    close(slave);
    close(master);
}

// All that has arrived, control characters shown. Input passes a kernel worker: it is waited for.
static void say_arrived(const char *what, int fd) {
    static char text[10000], shown[40000];
    struct pollfd one = {fd, POLLIN, 0};
    poll(&one, 1, 60);
    ssize_t n = read(fd, text, sizeof text);
    if (n < 0) {
        show(what, n);
        return;
    }
    shown[0] = 0;
    char *at = shown;
    for (ssize_t i = 0; i < n && i < 200; i++)
        at += sprintf(at, (unsigned char)text[i] < ' ' || text[i] == '\\' || (unsigned char)text[i] > 126 ? "\\%o" : "%c", (unsigned char)text[i]);
    say("%s: %zd '%s'", what, n, shown);
}

static struct termios mode;

static void set(void) { MUST(tcsetattr(slave, TCSANOW, &mode)); }

static void fresh(const char *what) {
    say("-- %s", what);
    open_pair();
    MUST(tcgetattr(slave, &mode));
}

static void type_n(const char *text, size_t size) {
    if (write(master, text, size) != (ssize_t)size)
        say("short write");
    say_arrived("echo", master);
    say_arrived("read", slave);
    int ready = -1;
    MUST(ioctl(slave, FIONREAD, &ready));
    if (ready)
        say_arrived("more", slave);
}

#define TYPE(text) type_n(text, sizeof(text) - 1)

PROBE(termios_input_flags) {
    fresh("INLCR");
    mode.c_iflag |= INLCR, mode.c_lflag &= ~ICANON, set();
    TYPE("a\nb\rc");
    close_pair();
    fresh("IGNCR");
    mode.c_iflag |= IGNCR, set();
    TYPE("a\rb\n");
    close_pair();
    fresh("no ICRNL");
    mode.c_iflag &= ~ICRNL, set();
    TYPE("a\rb\n");
    close_pair();
    fresh("ISTRIP");
    mode.c_iflag |= ISTRIP, set();
    TYPE("a\xe1\xffz\n");
    close_pair();
    fresh("IUCLC");
    mode.c_iflag |= IUCLC, set();
    TYPE("ABC\n");
    close_pair();
    fresh("PARMRK");
    mode.c_iflag |= PARMRK, set();
    TYPE("a\xff""b\n");
    close_pair();
    fresh("IUTF8");
    mode.c_iflag |= IUTF8, set();
    TYPE("\xc3\xa9\xe2\x82\xac\x7f\x7fx\n");
    close_pair();
    fresh("no IUTF8");
    mode.c_iflag &= ~IUTF8, set();
    TYPE("\xc3\xa9\x7fx\n");
    close_pair();
    fresh("IMAXBEL and IXANY");
    mode.c_iflag |= IMAXBEL | IXANY, set();
    TYPE("\023abc");
    TYPE("d\n");
    close_pair();
    fresh("zero byte");
    TYPE("a\0b\n");
}

PROBE(termios_editing) {
    fresh("erase");
    TYPE("abc\177\177d\n");
    TYPE("\177\177x\n");
    TYPE("a\tb\177\177\177c\n");
    TYPE("a\001b\177\177c\n");
    fresh("kill");
    TYPE("hello\025bye\n");
    TYPE("one two  three\027\027x\n");
    TYPE("a.b-c d_e\027\027\027x\n");
    TYPE("\026\003\026\177\026\n\n");
    TYPE("abc\022def\n");
    TYPE("ab\004cd\004\004\n");
    fresh("no ECHOE");
    mode.c_lflag &= ~ECHOE, set();
    TYPE("abc\177x\n");
    TYPE("abc\025x\n");
    fresh("no ECHOK and ECHOKE");
    mode.c_lflag &= ~ECHOKE, set();
    TYPE("abc\025x\n");
    mode.c_lflag &= ~ECHOK, set();
    TYPE("abc\025x\n");
    fresh("ECHOPRT");
    mode.c_lflag |= ECHOPRT, set();
    TYPE("abc\177\177x\027y\n");
    fresh("no ECHOCTL");
    mode.c_lflag &= ~ECHOCTL, set();
    TYPE("a\001b\177\177c\n");
    fresh("no ECHO");
    mode.c_lflag &= ~ECHO, set();
    TYPE("abc\177x\n");
    fresh("ECHONL");
    mode.c_lflag &= ~ECHO, mode.c_lflag |= ECHONL, set();
    TYPE("abc\n");
    fresh("no IEXTEN");
    mode.c_lflag &= ~IEXTEN, set();
    TYPE("one two\027\026\022x\n");
    fresh("EOL characters");
    mode.c_cc[VEOL] = ';', mode.c_cc[VEOL2] = '!', set();
    TYPE("a;b!c\n");
    fresh("disabled characters");
    mode.c_cc[VERASE] = _POSIX_VDISABLE, mode.c_cc[VEOF] = _POSIX_VDISABLE, set();
    TYPE("a\177\004\n");
}

PROBE(termios_output_flags) {
    struct {
        const char *name;
        tcflag_t on, off;
    } modes[] = {{"default", 0, 0},          {"no OPOST", 0, OPOST},        {"no ONLCR", 0, ONLCR},      {"OCRNL", OCRNL, ONLCR},
                 {"ONOCR", ONOCR, 0},        {"ONLRET", ONLRET, 0},         {"OLCUC", OLCUC, 0},         {"XTABS", XTABS, 0},
                 {"OCRNL ONLRET", OCRNL | ONLRET, 0}, {"OFILL", OFILL, 0}, {"ONOCR no ONLCR", ONOCR, ONLCR}};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        fresh(modes[i].name);
        mode.c_oflag = (mode.c_oflag | modes[i].on) & ~modes[i].off;
        set();
        const char text[] = "\rab\tc\nD\re\b\t\xc3\xa9\tx\n\n\r\rz";
        SHOW(write(slave, text, sizeof text - 1));
        say_arrived("out", master);
        close_pair();
    }
}

PROBE(termios_raw_reads) {
    char text[20];
    fresh("MIN 3");
    cfmakeraw(&mode);
    mode.c_cc[VMIN] = 3, set();
    MUST(write(master, "ab", 2));
    struct pollfd one = {slave, POLLIN, 0};
    SHOW(poll(&one, 1, 30));
    SHOW(read(slave, text, 20));
    SHOW(read(slave, text, 20));
    MUST(fcntl(slave, F_SETFL, O_RDWR));
    MUST(write(master, "cde", 3));
    SHOW(poll(&one, 1, 1000));
    SHOW(read(slave, text, 20));
    MUST(write(master, "fgh", 3));
    SHOW(read(slave, text, 2));
    SHOW(read(slave, text, 1));
    say("-- MIN 0 TIME 0");
    mode.c_cc[VMIN] = 0, set();
    SHOW(read(slave, text, 20));
    MUST(write(master, "ab", 2));
    nap_ms(10);
    SHOW(read(slave, text, 20));
    say("-- MIN 0 TIME 1");
    mode.c_cc[VTIME] = 1, set();
    int64_t before = now_ms();
    SHOW(read(slave, text, 20));
    FACT(now_ms() - before >= 90);
    MUST(write(master, "ab", 2));
    SHOW(read(slave, text, 20));
    say("-- MIN 5 TIME 1");
    mode.c_cc[VMIN] = 5, set();
    MUST(write(master, "ab", 2));
    before = now_ms();
    SHOW(read(slave, text, 20));
    FACT(now_ms() - before >= 90);
    MUST(write(master, "abcdefg", 7));
    nap_ms(10);
    SHOW(read(slave, text, 20));
    SHOW(poll(&one, 1, 10));
    MUST(write(master, "x", 1));
    SHOW(poll(&one, 1, 1000));
    MUST(fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK));
    SHOW(read(slave, text, 20));
    SHOW(read(slave, text, 20));
    SHOW(read(slave, text, 0));
}

PROBE(termios_canonical_limits) {
    static char line[6000];
    memset(line, 'x', sizeof line);
    fresh("long line");
    mode.c_lflag &= ~ECHO, set();
    MUST(fcntl(master, F_SETFL, O_RDWR));
    for (int i = 0; i < 5; i++)
        MUST(write(master, line, 1000));
    MUST(write(master, "\n", 1));
    static char text[10000];
    struct pollfd one = {slave, POLLIN, 0};
    SHOW(poll(&one, 1, 1000));
    int ready = 0;
    MUST(ioctl(slave, FIONREAD, &ready));
    SHOW(ready);
    SHOW(read(slave, text, sizeof text));
    SHOW(read(slave, text, sizeof text));
    MUST(write(master, "one\ntwo\nthr", 11));
    nap_ms(20);
    MUST(ioctl(slave, FIONREAD, &ready));
    SHOW(ready);
    SHOW(read(slave, text, 2));
    SHOW(read(slave, text, 1));
    SHOW(read(slave, text, 1));
    SHOW(read(slave, text, 100));
    SHOW(read(slave, text, 100));
    // what waits as a line when canonical mode ends, and the other way round
    mode.c_lflag &= ~ICANON, set();
    SHOW(read(slave, text, 100));
    MUST(write(master, "raw", 3));
    nap_ms(10);
    mode.c_lflag |= ICANON, set();
    SHOW(poll(&one, 1, 0));
    SHOW(read(slave, text, 100));
    MUST(write(master, "abc\n", 4));
    nap_ms(10);
    SHOW(tcflush(slave, TCIFLUSH));
    SHOW(read(slave, text, 100));
}

PROBE(termios_layouts) {
    struct termios other;
    fresh("settings");
    mode.c_cflag = CS7 | PARENB | PARODD | CSTOPB | HUPCL | CLOCAL | B9600;
    set();
    MUST(tcgetattr(slave, &other));
    say("%#x", other.c_cflag);
    SHOW(cfgetospeed(&other) == B9600);
    cfsetispeed(&mode, B1200);
    set();
    MUST(tcgetattr(slave, &other));
    say("%#x %d %d", other.c_cflag, cfgetispeed(&other) == B1200, cfgetospeed(&other) == B9600);
    char raw[64] = {0};
    SHOW(ioctl(slave, TCGETA, raw));
    SHOW(ioctl(slave, TCSETA, raw));
    SHOW(ioctl(slave, TCSETAW, raw));
    SHOW(ioctl(slave, TCSETAF, raw));
    SHOW(ioctl(slave, TCGETS, unmapped));
    SHOW(ioctl(slave, TCSETS, unmapped));
    mode.c_iflag = mode.c_oflag = mode.c_lflag = -1;
    set();
    MUST(tcgetattr(slave, &other));
    say("%#x %#x %#x", other.c_iflag, other.c_oflag, other.c_lflag);
    SHOW(tcsendbreak(slave, 0));
    SHOW(tcdrain(slave));
    SHOW(tcflush(slave, 3));
    SHOW(tcflow(slave, 4));
    SHOW(tcflush(slave, TCIOFLUSH));
    // asked of both ends; without those that change what the test stands on
    int commands[] = {TCGETA, TCGETS, TCGETX, TIOCGETD, TIOCGEXCL, TIOCGPGRP, TIOCGPKT, TIOCGPTLCK, TIOCGSID, TIOCGSOFTCAR, TIOCGWINSZ,
                      TIOCINQ, TIOCMGET, TIOCMIWAIT, TIOCNXCL, TIOCOUTQ, TIOCGPTN, TIOCSBRK, TIOCCBRK, TIOCSSOFTCAR, TIOCGLCKTRMIOS,
                      TIOCSERCONFIG, TIOCGDEV, 0x5409 + 0x40, 0x54ff};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        int command = commands[i];
        memset(raw, 0, sizeof raw);
        long a = ioctl(slave, command, raw);
        int error = errno;
        long b = ioctl(master, command, raw);
        say("%#x: %s %s", command, a ? strerrorname_np(error) : "ok", b ? strerrorname_np(errno) : "ok");
    }
}
