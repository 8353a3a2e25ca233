// Writes on TCP that find too little room (tcp(7), send(2)): blocking ones send everything, in order, whoever sends which part;
// and waits beside a guest that never stops calling.
#include "probe.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#define SIZE 200000
static char block[SIZE];
static int client, server;

static char byte_at(size_t at) { return (char)(at * 7 + at / 251); }

// Connected; what goes from client to server has little room on its way.
static void narrow_pair(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int small = 8192, listener = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small));
    MUST(bind(listener, (void *)&address, sizeof address));
    MUST(listen(listener, 1));
    MUST(getsockname(listener, (void *)&address, &size));
    client = MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(setsockopt(client, SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
    MUST(connect(client, (void *)&address, sizeof address));
    server = MUST(accept(listener, NULL, NULL));
    close(listener);
    for (size_t i = 0; i < SIZE; i++)
        block[i] = byte_at(i);
}

// The other end, in a child: reads to the end of the stream, whose bytes come again every SIZE; says how much it was.
static void reader(void) {
    char text[5000];
    size_t total = 0, wrong = 0;
    ssize_t n;
    close(client);
    while ((n = read(server, text, sizeof text)) > 0)
        for (ssize_t i = 0; i < n; i++)
            wrong += text[i] != byte_at(total++ % SIZE);
    say("reader: %zu bytes, %zu of them wrong", total, wrong);
}

PROBE(tcp_blocking_writes) {
    struct iovec parts[3] = {{block, 10}, {block + 10, SIZE - 20}, {block + SIZE - 10, 10}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
    narrow_pair();
    pid_t pid = spawn(reader);
    close(server);
    SHOW(write(client, block, SIZE));
    SHOW(send(client, block, SIZE, MSG_NOSIGNAL));
    SHOW(writev(client, parts, 3));
    SHOW(sendmsg(client, &message, 0));
    SHOW(sendmsg(client, &message, MSG_MORE));
    close(client);
    reap("reader", pid);
}

PROBE(tcp_nonblocking_writes) {
    narrow_pair();
    MUST(fcntl(client, F_SETFL, O_NONBLOCK | O_RDWR));
    ssize_t n = write(client, block, SIZE);
    FACT(n > 0 && n < SIZE);
    while (send(client, block, SIZE, 0) > 0)
        continue;
    SHOW(write(client, block, 1));
    MUST(fcntl(client, F_SETFL, O_RDWR));
    SHOW(send(client, block, SIZE, MSG_DONTWAIT));
    struct pollfd one = {client, POLLOUT, 0};
    SHOW(poll(&one, 1, 0));
    while (recv(server, block, SIZE, MSG_DONTWAIT) > 0)
        poll(&(struct pollfd){server, POLLIN, 0}, 1, 50);
    SHOW(poll(&one, 1, 2000));
    SHOW(send(client, block, 1, MSG_DONTWAIT));
}

static void in_a_moment(void) { setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_usec = 100000}, NULL); }

PROBE(tcp_write_ends_early) {
    struct timeval soon = {.tv_usec = 50000};
    narrow_pair();
    count_signal(SIGALRM, SA_RESTART);
    in_a_moment();
    ssize_t n = write(client, block, SIZE);
    FACT(n > 0 && n < SIZE);
    FACT(handled == 1);
    MUST(setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon));
    SHOW(write(client, block, SIZE));
    while (recv(server, block, SIZE, MSG_DONTWAIT) > 0)
        poll(&(struct pollfd){server, POLLIN, 0}, 1, 50);
    n = write(client, block, SIZE);
    FACT(n > 0 && n < SIZE);
    close(server);
    count_signal(SIGPIPE, 0);
    handled = 0;
    while (send(client, block, 1, MSG_NOSIGNAL) == 1)
        continue;
    SHOW(send(client, block, 1, MSG_NOSIGNAL));
    FACT(handled == 0);
    SHOW(write(client, block, 1));
    FACT(handled == 1);
}

static volatile int *over;

static void never_idle(void) {
    while (!*over)
        lseek(STDOUT_FILENO, 0, SEEK_CUR);
}

static void echo(void) {
    char c;
    while (read(server, &c, 1) == 1)
        MUST(write(server, &c, 1));
}

PROBE(tcp_beside_a_busy_guest) {
    char c = 'a';
    int echoed = 0;
    over = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    narrow_pair();
    pid_t busy = spawn(never_idle), pid = fork();
    if (pid == 0) {
        close(client);
        echo();
        _exit(0);
    }
    close(server);
    for (int i = 0; i < 100; i++)
        echoed += write(client, &c, 1) == 1 && read(client, &c, 1) == 1;
    SHOW(echoed);
    *over = 1;
    close(client);
    reap("busy", busy);
    reap("echo", pid);
}
