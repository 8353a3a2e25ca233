// The names of AF_UNIX sockets: bind(2), connect(2) and their errors, paths and abstract names, permissions.
#include "probe.h"
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#define BASE offsetof(struct sockaddr_un, sun_path)

static int unix_socket(int type) { return MUST(socket(AF_UNIX, type, 0)); }

static struct sockaddr_un at(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path);
    return address;
}

static long bind_to(int fd, const char *path) {
    struct sockaddr_un address = at(path);
    return bind(fd, (void *)&address, BASE + strlen(path) + 1);
}

static long connect_to(int fd, const char *path) {
    struct sockaddr_un address = at(path);
    return connect(fd, (void *)&address, BASE + strlen(path) + 1);
}

static void say_name(int fd, bool peer) {
    struct sockaddr_un address;
    memset(&address, 'x', sizeof address);
    socklen_t size = sizeof address;
    long done = peer ? getpeername(fd, (void *)&address, &size) : getsockname(fd, (void *)&address, &size);
    if (done) {
        show("name", done);
        return;
    }
    char text[300] = "";
    for (socklen_t i = BASE; i < size && i < sizeof address; i++)
        sprintf(text + strlen(text), address.sun_path[i - BASE] > ' ' ? "%c" : "\\%d", address.sun_path[i - BASE]);
    say("%s %u '%s'", peer ? "peer" : "name", size, text);
}

PROBE(unix_bind_lengths) {
    struct sockaddr_un address = at("name");
    SHOW(bind(unix_socket(SOCK_STREAM), (void *)&address, 0));
    SHOW(bind(unix_socket(SOCK_STREAM), (void *)&address, 1));
    int fd = unix_socket(SOCK_STREAM);
    SHOW(bind(fd, (void *)&address, BASE + 1));
    say_name(fd, false);
    fd = unix_socket(SOCK_STREAM);
    SHOW(bind(fd, (void *)&address, BASE + 4));
    say_name(fd, false);
    SHOW(bind(unix_socket(SOCK_STREAM), (void *)&address, sizeof address));
    SHOW(bind(unix_socket(SOCK_STREAM), (void *)&address, sizeof address + 1));
    SHOW(bind(unix_socket(SOCK_STREAM), (void *)&address, 129));
    SHOW(bind(unix_socket(SOCK_STREAM), (void *)&address, -1));
    SHOW(bind(unix_socket(SOCK_STREAM), NULL, 10));
    SHOW(bind(unix_socket(SOCK_STREAM), NULL, 0));
    memset(address.sun_path, 'n', sizeof address.sun_path);
    fd = unix_socket(SOCK_STREAM);
    SHOW(bind(fd, (void *)&address, sizeof address));
    struct sockaddr_storage long_name;
    socklen_t size = sizeof long_name;
    SHOW(getsockname(fd, (void *)&long_name, &size));
    SHOW(size);
    int client = unix_socket(SOCK_STREAM);
    SHOW(listen(fd, 1));
    SHOW(connect(client, (void *)&address, sizeof address));
    size = 5;
    memset(&long_name, 'x', sizeof long_name);
    SHOW(getpeername(client, (void *)&long_name, &size));
    say("%u %.6s", size, ((char *)&long_name) + 2);
    size = -1;
    SHOW(getpeername(client, (void *)&long_name, &size));
    SHOW(getpeername(client, NULL, &size));
    SHOW(getpeername(client, (void *)&long_name, NULL));
    size = 0;
    SHOW(getpeername(client, NULL, &size));
    SHOW(size);
    address.sun_family = AF_INET;
    SHOW(bind(unix_socket(SOCK_STREAM), (void *)&address, sizeof address));
    SHOW(connect(unix_socket(SOCK_STREAM), (void *)&address, sizeof address));
    address.sun_family = AF_UNSPEC;
    SHOW(bind(unix_socket(SOCK_STREAM), (void *)&address, sizeof address));
    SHOW(connect(unix_socket(SOCK_STREAM), (void *)&address, sizeof address));
    SHOW(connect(unix_socket(SOCK_DGRAM), (void *)&address, sizeof address));
    SHOW(connect(unix_socket(SOCK_SEQPACKET), (void *)&address, 2));
    SHOW(connect(unix_socket(SOCK_DGRAM), (void *)&address, 1));
    SHOW(connect(unix_socket(SOCK_DGRAM), (void *)&address, 2));
}

PROBE(unix_bind_paths) {
    int fd = unix_socket(SOCK_STREAM);
    MUST(mkdir("dir", 0700));
    make_file("file", "");
    MUST(symlink("target", "dangling"));
    MUST(symlink("loop", "loop"));
    SHOW(bind_to(fd, "dir"));
    SHOW(bind_to(fd, "file"));
    SHOW(bind_to(fd, "file/x"));
    SHOW(bind_to(fd, "missing/x"));
    SHOW(bind_to(fd, "dangling"));
    SHOW(bind_to(fd, "loop"));
    SHOW(bind_to(fd, "loop/x"));
    SHOW(bind_to(fd, "trailing/"));
    SHOW(bind_to(fd, "."));
    SHOW(bind_to(fd, "/"));
    SHOW(bind_to(fd, ".."));
    SHOW(bind_to(fd, "dir/."));
    SHOW(bind_to(fd, "dir/sock"));
    SHOW(bind_to(fd, "dir/sock"));
    SHOW(bind_to(fd, "dir/other"));
    SHOW(access("dir/other", F_OK));
    SHOW(bind_to(unix_socket(SOCK_DGRAM), "dir/sock"));
    say_name(fd, false);
    SHOW(connect_to(unix_socket(SOCK_STREAM), "dir/sock"));
    SHOW(connect_to(unix_socket(SOCK_STREAM), "dir"));
    SHOW(connect_to(unix_socket(SOCK_STREAM), "file"));
    SHOW(connect_to(unix_socket(SOCK_STREAM), "loop"));
    SHOW(connect_to(unix_socket(SOCK_STREAM), "dangling"));
    SHOW(connect_to(unix_socket(SOCK_STREAM), "file/x"));
    SHOW(connect_to(unix_socket(SOCK_STREAM), ""));
    SHOW(connect_to(unix_socket(SOCK_DGRAM), "dir/sock"));
    SHOW(connect_to(unix_socket(SOCK_SEQPACKET), "dir/sock"));
    MUST(symlink("dir/sock", "link"));
    SHOW(listen(fd, 3));
    SHOW(connect_to(unix_socket(SOCK_STREAM), "link"));
    MUST(rename("dir/sock", "dir/moved"));
    SHOW(connect_to(unix_socket(SOCK_STREAM), "link"));
    SHOW(connect_to(unix_socket(SOCK_STREAM), "dir/moved"));
    MUST(link("dir/moved", "second"));
    SHOW(connect_to(unix_socket(SOCK_STREAM), "second"));
    SHOW(unlink("dir/moved"));
    SHOW(connect_to(unix_socket(SOCK_STREAM), "second"));
    SHOW(bind_to(unix_socket(SOCK_STREAM), "second"));
    close(fd);
    SHOW(connect_to(unix_socket(SOCK_STREAM), "second"));
    SHOW(mknod("made", S_IFSOCK | 0644, 0));
    SHOW(connect_to(unix_socket(SOCK_STREAM), "made"));
    SHOW(open("made", O_RDONLY));
}

static void unprivileged(void) {
    struct stat st;
    umask(027);
    int fd = unix_socket(SOCK_STREAM);
    SHOW(fchmod(fd, 0600));
    SHOW(bind_to(fd, "masked"));
    MUST(stat("masked", &st));
    say("%o", st.st_mode);
    MUST(fstat(fd, &st));
    say("%o", st.st_mode);
    MUST(listen(fd, 8));
    MUST(chmod("masked", 0777));
    MUST(mkdir("closed", 0755));
    int inside = unix_socket(SOCK_STREAM);
    MUST(bind_to(inside, "closed/sock"));
    MUST(listen(inside, 1));
    MUST(chmod("closed", 0700));
    MUST(chmod("closed/sock", 0777));
    MUST(setgid(1234));
    MUST(setuid(1234));
    SHOW(connect_to(unix_socket(SOCK_STREAM), "masked"));
    SHOW(connect_to(unix_socket(SOCK_STREAM), "closed/sock"));
    SHOW(bind_to(unix_socket(SOCK_STREAM), "no"));
    SHOW(bind_to(unix_socket(SOCK_STREAM), "masked"));
}

static void by_mode(void) {
    int fd = unix_socket(SOCK_STREAM);
    MUST(bind_to(fd, "by_mode"));
    MUST(listen(fd, 8));
    for (int mode = 0; mode < 8; mode++) {
        MUST(chmod("by_mode", mode));
        pid_t pid = fork();
        if (pid == 0) {
            MUST(setgid(1234));
            MUST(setuid(1234));
            say("%o", mode);
            SHOW(connect_to(unix_socket(SOCK_STREAM), "by_mode"));
            _exit(0);
        }
        reap("connect", pid);
    }
}

PROBE(unix_path_permission) {
    in_child("unprivileged", unprivileged);
    in_child("by mode", by_mode);
}

PROBE(unix_abstract_names) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0a\0b"};
    int fd = unix_socket(SOCK_STREAM), other = unix_socket(SOCK_DGRAM);
    SHOW(bind(fd, (void *)&address, BASE + 4));
    say_name(fd, false);
    SHOW(bind(other, (void *)&address, BASE + 4));
    SHOW(bind(unix_socket(SOCK_STREAM), (void *)&address, BASE + 4));
    SHOW(bind(unix_socket(SOCK_STREAM), (void *)&address, BASE + 2));
    SHOW(bind(unix_socket(SOCK_SEQPACKET), (void *)&address, BASE + 4));
    SHOW(connect(unix_socket(SOCK_STREAM), (void *)&address, BASE + 4));
    SHOW(connect(unix_socket(SOCK_SEQPACKET), (void *)&address, BASE + 4));
    SHOW(connect(unix_socket(SOCK_DGRAM), (void *)&address, BASE + 4));
    SHOW(connect(unix_socket(SOCK_DGRAM), (void *)&address, BASE + 3));
    int empty = unix_socket(SOCK_STREAM);
    SHOW(bind(empty, (void *)&address, BASE + 1));
    say_name(empty, false);
    int full = unix_socket(SOCK_STREAM);
    SHOW(bind(full, (void *)&address, sizeof address));
    say_name(full, false);
    SHOW(bind(fd, (void *)&address, BASE + 4));
    SHOW(bind(fd, (void *)&address, BASE + 3));
}

PROBE(unix_autobind) {
    struct sockaddr_un address = {.sun_family = AF_UNIX}, name;
    int one = 1, fd = unix_socket(SOCK_STREAM);
    SHOW(bind(fd, (void *)&address, BASE));
    socklen_t size = sizeof name;
    SHOW(getsockname(fd, (void *)&name, &size));
    SHOW(size);
    FACT(name.sun_path[0] == 0 && strspn(name.sun_path + 1, "0123456789abcdef") == 5);
    SHOW(bind(fd, (void *)&address, BASE));
    SHOW(bind_to(fd, "path"));
    SHOW(listen(fd, 1));
    // a client that passes credentials gets a name when it connects
    int client = unix_socket(SOCK_STREAM);
    MUST(setsockopt(client, SOL_SOCKET, SO_PASSCRED, &one, sizeof one));
    SHOW(connect(client, (void *)&name, size));
    size = sizeof name;
    SHOW(getsockname(client, (void *)&name, &size));
    SHOW(size);
    int dgram = unix_socket(SOCK_DGRAM), other = unix_socket(SOCK_DGRAM);
    MUST(bind_to(other, "other"));
    MUST(setsockopt(dgram, SOL_SOCKET, SO_PASSCRED, &one, sizeof one));
    address = at("other");
    SHOW(sendto(dgram, "x", 1, 0, (void *)&address, BASE + 6));
    size = sizeof name;
    SHOW(getsockname(dgram, (void *)&name, &size));
    SHOW(size);
}

PROBE(unix_peer_names) {
    int listener = unix_socket(SOCK_STREAM), client = unix_socket(SOCK_STREAM), s[2];
    say_name(client, false);
    say_name(client, true);
    MUST(bind_to(listener, "listener"));
    MUST(listen(listener, 5));
    MUST(bind_to(client, "client"));
    MUST(connect_to(client, "listener"));
    say_name(client, true);
    struct sockaddr_un from;
    socklen_t size = sizeof from;
    int server = SHOW(accept(listener, (void *)&from, &size));
    say("%u %s", size, from.sun_path);
    say_name(server, false);
    say_name(server, true);
    say_name(listener, true);
    unlink("client");
    say_name(server, true);
    close(client);
    say_name(server, true);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    say_name(s[0], false);
    say_name(s[0], true);
    SHOW(bind_to(s[0], "pair"));
    say_name(s[1], true);
    close(s[0]);
    say_name(s[1], true);
    SHOW(connect_to(s[1], "listener"));
    // an address buffer of null, a size that is wrong
    client = unix_socket(SOCK_STREAM);
    MUST(connect_to(client, "listener"));
    size = -5;
    SHOW(accept(listener, (void *)&from, &size));
    client = unix_socket(SOCK_STREAM);
    MUST(connect_to(client, "listener"));
    SHOW(accept(listener, unmapped, &size));
    client = unix_socket(SOCK_STREAM);
    MUST(connect_to(client, "listener"));
    SHOW(accept(listener, (void *)&from, NULL));
    client = unix_socket(SOCK_STREAM);
    MUST(connect_to(client, "listener"));
    size = sizeof from;
    SHOW(accept(listener, NULL, &size) >= 0);
    SHOW(size);
    SHOW(accept4(listener, NULL, NULL, 1));
    struct pollfd one = {listener, POLLIN, 0};
    SHOW(poll(&one, 1, 0));
}
