// Signals of ready files: O_ASYNC, F_SETOWN, F_SETSIG (fcntl(2)), SIGURG.
#include "probe.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <sys/socket.h>
#include <termios.h>

static volatile int count, code, band, descriptor, number;

static void on_io(int sig, siginfo_t *info, void *context) {
    (void)context;
    number = sig;
    code = info->si_code;
    band = info->si_band;
    descriptor = info->si_fd;
    count++;
}

static void catch(int sig) {
    struct sigaction action = {.sa_sigaction = on_io, .sa_flags = SA_SIGINFO | SA_RESTART};
    MUST(sigaction(sig, &action, NULL));
}

static void watch(int fd, int sig) {
    count = 0;
    MUST(fcntl(fd, F_SETOWN, getpid()));
    if (sig)
        MUST(fcntl(fd, F_SETSIG, sig));
    MUST(fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK));
}

// Signals are pending when the call that caused them returns; those of other tasks come within a moment.
static void say_signal(const char *what, int fd) {
    for (int i = 0; i < 20 && !count; i++)
        nap_ms(5);
    if (!count)
        say("%s: none", what);
    else if (code == SI_KERNEL || number == SIGURG)
        say("%s: %s SI_KERNEL", what, signal_name(number));
    else
        say("%s: %s code %d band %#x own fd %d", what, signal_name(number), code, band, descriptor == fd);
    count = 0;
}

PROBE(sigio_pipe) {
    int p[2];
    char c;
    catch(SIGIO);
    catch(SIGRTMIN);
    MUST(pipe(p));
    MUST(fcntl(p[0], F_SETFL, O_ASYNC | O_NONBLOCK));
    MUST(write(p[1], "x", 1));
    say_signal("no owner", p[0]);
    watch(p[0], 0);
    MUST(write(p[1], "x", 1));
    say_signal("SIGIO", p[0]);
    watch(p[0], SIGRTMIN);
    MUST(write(p[1], "x", 1));
    say_signal("queued", p[0]);
    MUST(fcntl(p[0], F_SETFL, O_NONBLOCK));
    MUST(write(p[1], "x", 1));
    say_signal("off", p[0]);
    while (read(p[0], &c, 1) > 0)
        continue;
    watch(p[0], SIGRTMIN);
    close(p[1]);
    say_signal("writer gone", p[0]);
}

PROBE(sigio_sockets) {
    int s[2];
    catch(SIGRTMIN);
    catch(SIGURG);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    watch(s[0], SIGRTMIN);
    MUST(send(s[1], "x", 1, 0));
    say_signal("stream", s[0]);
    MUST(send(s[1], "x", 1, MSG_OOB));
    say_signal("urgent", s[0]);
    char c;
    nap_ms(20);
    count = 0;
    MUST(send(s[0], "x", 1, 0));
    MUST(recv(s[1], &c, 1, 0));
    say_signal("peer has read", s[0]);
    shutdown(s[1], SHUT_WR);
    say_signal("peer shut", s[0]);
    close(s[1]);
    say_signal("peer gone", s[0]);
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    watch(s[0], SIGRTMIN);
    MUST(send(s[1], "x", 1, 0));
    say_signal("datagram", s[0]);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(4900), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int udp = MUST(socket(AF_INET, SOCK_DGRAM, 0)), sender = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(bind(udp, (void *)&address, sizeof address));
    watch(udp, SIGRTMIN);
    nap_ms(20);
    count = 0;
    MUST(sendto(sender, "x", 1, 0, (void *)&address, sizeof address));
    say_signal("udp", udp);
    int listener = MUST(socket(AF_INET, SOCK_STREAM, 0)), client = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(bind(listener, (void *)&address, sizeof address));
    MUST(listen(listener, 5));
    watch(listener, SIGRTMIN);
    nap_ms(20);
    count = 0;
    MUST(connect(client, (void *)&address, sizeof address));
    say_signal("connection", listener);
    int server = MUST(accept(listener, NULL, NULL));
    watch(server, SIGRTMIN);
    nap_ms(20);
    count = 0;
    MUST(send(client, "x", 1, 0));
    say_signal("tcp", server);
}

PROBE(sigio_terminal) {
    int master, slave;
    catch(SIGRTMIN);
    MUST(openpty(&master, &slave, NULL, NULL, NULL));
    MUST(fcntl(slave, F_SETSIG, SIGRTMIN));
    SHOW(fcntl(slave, F_GETOWN));
    MUST(fcntl(slave, F_SETFL, O_ASYNC | O_RDWR));
    FACT(fcntl(slave, F_GETOWN) == getpid());
    MUST(write(master, "line\n", 5));
    say_signal("line", slave);
}

static void owners(void) {
    struct {
        int type, pid;
    } owner = {9, 9};
    int s[2], value = 0;
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    SHOW(fcntl(s[0], F_GETOWN));
    SHOW(fcntl(s[0], F_GETSIG));
    SHOW(fcntl(s[0], 16, &owner));
    say("%d %d", owner.type, owner.pid);
    SHOW(fcntl(s[0], F_SETOWN, 99999));
    SHOW(fcntl(s[0], F_SETOWN, -99999));
    SHOW(fcntl(s[0], F_SETOWN, INT_MIN));
    SHOW(fcntl(s[0], F_SETSIG, 65));
    SHOW(fcntl(s[0], F_SETSIG, -1));
    SHOW(fcntl(s[0], F_SETSIG, 64));
    SHOW(fcntl(s[0], F_GETSIG));
    MUST(fcntl(s[0], F_SETOWN, getpid()));
    FACT(fcntl(s[0], F_GETOWN) == getpid());
    MUST(setpgid(0, 0));
    MUST(fcntl(s[0], F_SETOWN, -getpid()));
    MUST(ioctl(s[0], FIOGETOWN, &value));
    FACT(value == -getpid());
    SHOW(fcntl(s[0], 16, &owner));
    FACT(owner.type == 2 && owner.pid == getpid());
    owner.type = 3;
    SHOW(fcntl(s[0], 15, &owner));
    owner.type = 0;
    SHOW(fcntl(s[0], 15, &owner));
    owner.pid = 99999;
    SHOW(fcntl(s[0], 15, &owner));
    SHOW(fcntl(s[0], 15, unmapped));
    owner.pid = 0;
    SHOW(fcntl(s[0], 15, &owner));
    SHOW(fcntl(s[0], F_GETOWN));
}

PROBE(sigio_owners) { in_child("owners", owners); }
