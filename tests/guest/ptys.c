// Pseudo terminals as a pair (pty(7), pts(4), ioctl_tty(2)): making, locking, packet mode, closing, flow, flushing.
#include "probe.h"
#include <dirent.h>
#include <poll.h>
#include <pty.h>
#include <sys/epoll.h>
#include <termios.h>

static int master, slave;
static char name[64];

static void open_pair(void) {
    MUST(openpty(&master, &slave, name, NULL, NULL));
    MUST(fcntl(master, F_SETFL, O_NONBLOCK | O_RDWR));
    MUST(fcntl(slave, F_SETFL, O_NONBLOCK | O_RDWR));
}

static void say_poll(const char *what, int fd) {
    struct pollfd one = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
    nap_ms(10); // input and output pass a kernel worker
    int n = poll(&one, 1, 0);
    say("%s: poll %d %#x", what, n, one.revents);
}

static void say_read(const char *what, int fd) {
    char text[200];
    struct pollfd one = {fd, POLLIN, 0};
    poll(&one, 1, 50);
    ssize_t n = read(fd, text, sizeof text);
    if (n < 0) {
        say("%s: -1 %s", what, strerrorname_np(errno));
        return;
    }
    char shown[900] = "";
    for (ssize_t i = 0; i < n; i++)
        sprintf(shown + strlen(shown), text[i] < ' ' ? "\\%o" : "%c", (unsigned char)text[i]);
    say("%s: %zd '%s'", what, n, shown);
}

PROBE(ptmx) {
    int number = -1, locked = -1, other = -1;
    struct stat st;
    char path[64];
    master = MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY));
    MUST(ioctl(master, TIOCGPTN, &number));
    sprintf(path, "/dev/pts/%d", number);
    SHOW(ioctl(master, TIOCGPTLCK, &locked));
    SHOW(locked);
    SHOW(open(path, O_RDWR | O_NOCTTY));
    SHOW(ioctl(master, TIOCGPTPEER, O_RDWR));
    MUST(stat(path, &st));
    say("%o uid %u gid %u size %ld major %u", st.st_mode, st.st_uid, st.st_gid, (long)st.st_size, (unsigned)(st.st_rdev >> 8));
    locked = 0;
    SHOW(ioctl(master, TIOCSPTLCK, unmapped));
    SHOW(ioctl(master, TIOCSPTLCK, &locked));
    slave = SHOW(open(path, O_RDWR | O_NOCTTY)) >= 0;
    int peer = OK(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
    SHOW(fcntl(peer, F_GETFD));
    say("%#x", fcntl(peer, F_GETFL) & ~O_CLOEXEC); // which Linux forgets to take off
    FACT(strcmp(ttyname(peer), path) == 0);
    SHOW(ttyname(master) == NULL);
    SHOW(ioctl(peer, TIOCGPTN, &other));
    int second = MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY));
    MUST(ioctl(second, TIOCGPTN, &other));
    FACT(other == number + 1);
    close(master);
    SHOW(stat(path, &st));
    SHOW(ioctl(second, TIOCGPTN, &other));
    int third = MUST(open("/dev/pts/ptmx", O_RDWR | O_NOCTTY));
    MUST(ioctl(third, TIOCGPTN, &other));
    MUST(fstat(third, &st));
    say("%o %u %u", st.st_mode, (unsigned)(st.st_rdev >> 8), (unsigned)st.st_rdev & 255);
    SHOW(mkdir("/dev/pts/dir", 0700));
    SHOW(open("/dev/pts/file", O_CREAT | O_RDWR, 0600));
    sprintf(path, "/dev/pts/%d", other);
    SHOW(unlink(path));
    SHOW(rename(path, "/dev/pts/77"));
    SHOW(chmod(path, 0640));
    SHOW(chown(path, 12, 34));
    MUST(stat(path, &st));
    say("%o uid %u gid %u", st.st_mode, st.st_uid, st.st_gid);
    SHOW(lseek(third, 0, SEEK_SET));
    SHOW(pread(third, path, 1, 0));
    SHOW(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, third, 0) == MAP_FAILED ? -1 : 0);
    SHOW(fsync(third));
    SHOW(ftruncate(third, 0));
}

PROBE(pty_states) {
    master = MUST(posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK));
    MUST(unlockpt(master));
    say_poll("never opened", master);
    say_read("never opened", master);
    SHOW(write(master, "early\n", 6));
    say_poll("written", master);
    say_read("echo", master);
    strcpy(name, ptsname(master));
    slave = MUST(open(name, O_RDWR | O_NOCTTY | O_NONBLOCK));
    say_poll("slave", slave);
    say_read("slave", slave);
    SHOW(write(slave, "out\n", 4));
    close(slave);
    say_poll("slave closed, data", master);
    say_read("slave closed, data", master);
    say_poll("slave closed", master);
    say_read("slave closed", master);
    SHOW(write(master, "late\n", 5));
    slave = MUST(open(name, O_RDWR | O_NOCTTY | O_NONBLOCK));
    say_poll("again", master);
    say_read("again", slave);
    int copy = MUST(open(name, O_RDWR | O_NOCTTY | O_NONBLOCK));
    close(slave);
    say_poll("one left", master);
    SHOW(write(master, "unread\n", 7));
    close(master);
    say_poll("master closed", copy);
    say_read("master closed", copy);
    SHOW(write(copy, "x", 1));
    struct termios mode;
    struct winsize size;
    SHOW(tcgetattr(copy, &mode));
    SHOW(ioctl(copy, TIOCGWINSZ, &size));
    SHOW(tcgetpgrp(copy));
    SHOW(tcsetpgrp(copy, getpid()));
    SHOW(isatty(copy));
    SHOW(open(name, O_RDWR | O_NOCTTY));
    int events = MUST(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET}, got;
    MUST(epoll_ctl(events, EPOLL_CTL_ADD, copy, &event));
    SHOW(epoll_wait(events, &got, 1, 0));
    say("%#x", got.events);
}

PROBE(pty_packet_mode) {
    int on = 1, off = 0;
    struct termios mode;
    open_pair();
    SHOW(ioctl(master, TIOCPKT, &on));
    SHOW(ioctl(slave, TIOCPKT, &on));
    SHOW(write(slave, "data", 4));
    say_poll("data", master);
    say_read("data", master);
    SHOW(tcflush(slave, TCIFLUSH));
    say_poll("flushed", master);
    say_read("flushed", master);
    SHOW(tcflush(slave, TCOFLUSH));
    say_read("flushed", master);
    SHOW(tcflush(slave, TCIOFLUSH));
    say_read("flushed", master);
    SHOW(tcflow(slave, TCOOFF));
    say_read("stopped", master);
    SHOW(write(slave, "held", 4));
    say_poll("stopped", slave);
    SHOW(tcflow(slave, TCOON));
    say_read("started", master);
    say_read("data", master);
    MUST(tcgetattr(slave, &mode));
    mode.c_iflag &= ~IXON;
    MUST(tcsetattr(slave, TCSANOW, &mode));
    say_read("no flow control", master);
    mode.c_iflag |= IXON;
    MUST(tcsetattr(slave, TCSANOW, &mode));
    say_read("flow control", master);
    mode.c_cc[VSTOP] = 'x';
    MUST(tcsetattr(slave, TCSANOW, &mode));
    say_read("other character", master);
    mode.c_lflag |= EXTPROC;
    MUST(tcsetattr(slave, TCSANOW, &mode));
    say_read("EXTPROC", master);
    mode.c_lflag &= ~ECHO;
    MUST(tcsetattr(slave, TCSANOW, &mode));
    say_read("ioctl", master);
    char c;
    SHOW(write(slave, "zz", 2));
    nap_ms(10);
    SHOW(read(master, &c, 1));
    SHOW(c);
    say_read("rest", master);
    SHOW(ioctl(master, TIOCPKT, &off));
    SHOW(write(slave, "plain", 5));
    say_read("plain", master);
}

PROBE(pty_flow) {
    open_pair();
    SHOW(write(master, "\023", 1));
    say_poll("stopped", slave);
    SHOW(write(slave, "held", 4));
    say_read("nothing", master);
    SHOW(write(master, "abc\n", 4));
    say_read("echo held back", master);
    say_read("line", slave);
    SHOW(write(master, "\021", 1));
    say_read("let go", master);
    SHOW(write(slave, "now", 3));
    say_read("now", master);
    SHOW(tcflow(slave, TCIOFF));
    say_read("STOP", master);
    SHOW(tcflow(slave, TCION));
    say_read("START", master);
    SHOW(tcflow(master, TCOOFF));
    SHOW(write(slave, "held?", 5));
    say_read("after TCOOFF of the master", master);
}

PROBE(pty_capacity) {
    static char block[70000];
    struct termios mode;
    open_pair();
    MUST(tcgetattr(slave, &mode));
    cfmakeraw(&mode);
    MUST(tcsetattr(slave, TCSANOW, &mode));
    // Linux takes what its buffers hold; how much depends on its page size and timing
    long total = 0;
    ssize_t n;
    while ((n = write(slave, block, 1000)) > 0)
        total += n;
    FACT(n == -1 && errno == EAGAIN);
    FACT(total > 4000 && total < 70000);
    while ((n = read(master, block, sizeof block)) > 0)
        total -= n;
    SHOW(total);
    say_poll("drained", slave);
    while ((n = write(master, block, 1000)) > 0)
        total += n;
    FACT(n == -1 && errno == EAGAIN);
    FACT(total > 4000 && total < 200000);
    SHOW(tcflush(slave, TCIFLUSH));
    say_poll("flushed", master);
    say_read("flushed", slave);
}

PROBE(pty_listing) {
    int fds[3], count = 0;
    for (int i = 0; i < 3; i++)
        fds[i] = MUST(posix_openpt(O_RDWR));
    close(fds[1]);
    DIR *folder = opendir("/dev/pts");
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.')
            continue;
        count++;
        FACT(entry->d_type == DT_CHR);
    }
    SHOW(count);
    struct stat st;
    MUST(stat("/dev/pts", &st));
    say("%o", st.st_mode);
    MUST(stat("/dev/ptmx", &st));
    say("%o", st.st_mode);
    SHOW(open("/dev/pts/77", O_RDWR));
    SHOW(open("/dev/pts/x", O_RDWR));
    SHOW(open("/dev/pts/00", O_RDWR));
}

PROBE(pty_exclusive) {
    open_pair();
    int value = -1;
    SHOW(ioctl(slave, TIOCEXCL, 0));
    SHOW(ioctl(slave, TIOCGEXCL, &value));
    SHOW(value);
    pid_t pid = fork();
    if (pid == 0) {
        MUST(setuid(1000));
        SHOW(open(name, O_RDWR | O_NOCTTY));
        _exit(0);
    }
    reap("user", pid);
    SHOW(open(name, O_RDWR | O_NOCTTY));
    SHOW(ioctl(slave, TIOCNXCL, 0));
    SHOW(ioctl(slave, TIOCGEXCL, &value));
    SHOW(value);
    SHOW(open(name, O_RDWR | O_NOCTTY) >= 0);
    value = 1;
    SHOW(ioctl(slave, TIOCSETD, &value));
    value = 0;
    SHOW(ioctl(slave, TIOCSETD, &value));
    SHOW(ioctl(slave, TIOCGETD, &value));
    SHOW(value);
    SHOW(ioctl(master, TIOCSIG, SIGHUP));
    SHOW(ioctl(master, TIOCSIG, SIGINT));
    SHOW(ioctl(slave, TIOCSIG, SIGINT));
    SHOW(ioctl(slave, TIOCVHANGUP, 0));
    SHOW(ioctl(slave, TIOCCONS, 0));
    SHOW(ioctl(slave, TIOCSTI, "x"));
    struct winsize size = {10, 20, 30, 40};
    SHOW(ioctl(slave, TIOCSWINSZ, &size));
    memset(&size, 0, sizeof size);
    SHOW(ioctl(master, TIOCGWINSZ, &size));
    say("%d %d %d %d", size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel);
    SHOW(ioctl(master, TIOCSWINSZ, unmapped));
}
