// Calls on what is no ordinary file system: /proc, /sys, /dev, /dev/pts, /dev/mqueue; the magic links of /proc/self/fd; memfd.
#include "../probe.h"
#include <linux/memfd.h>
#include <mqueue.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static const char *const folders[] = {"/proc", "/proc/self", "/proc/self/fd", "/proc/sys/kernel", "/sys", "/dev/pts", "/dev/mqueue"};
static const char *const files[] = {"/proc/self/status",        "/proc/self/comm", "/proc/self/mounts", "/proc/sys/kernel/hostname", "/proc/sys/kernel/ostype",
                                    "/proc/self/oom_score_adj", "/proc/cpuinfo",   "/proc/self/cmdline"};

PROBE(special_folders) {
    struct stat st;
    char path[128];
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        const char *folder = folders[i];
        say("%s", folder);
        MUST(stat(folder, &st));
        SHOW(S_ISDIR(st.st_mode));
#define IN(NAME, CALL)                                                                                           \
    do {                                                                                                         \
        snprintf(path, sizeof path, "%s/%s", folder, NAME);                                                      \
        SHOW(CALL);                                                                                              \
    } while (0)
        IN("new", open(path, O_RDWR | O_CREAT, 0644) < 0 ? -1 : unlink(path));
        IN("new", mkdir(path, 0755));
        IN("new", symlink("x", path));
        IN("new", mknod(path, S_IFIFO | 0600, 0));
        IN("new", mknod(path, S_IFCHR | 0600, makedev(1, 3)));
        IN("new", unlink(path));
        IN("new", rmdir(path));
        IN("new", rename(path, "x"));
        IN(".", rmdir(path));
        IN("..", access(path, F_OK));
        IN("", chdir(path) || chdir("/") ? -1 : 0);
        SHOW(open(folder, O_RDWR));
        SHOW(access(folder, R_OK));
        SHOW(rename(folder, "/renamed"));
        if (i == 1 || i == 2) // Linux makes the folder of a process immutable
            continue;
        SHOW(open(folder, O_TMPFILE | O_RDWR, 0600));
        SHOW(access(folder, W_OK));
        SHOW(rmdir(folder));
        SHOW(unlink(folder));
        SHOW(utimensat(AT_FDCWD, folder, NULL, 0));
    }
}

PROBE(special_files_opened) {
    char buffer[64], path[PATH_MAX];
    struct stat st;
    MUST(getcwd(path, sizeof path) ? 0 : -1);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *file = files[i];
        say("%s", file);
        MUST(stat(file, &st));
        say("%o size %ld blocks %ld nlink %ld", st.st_mode, (long)st.st_size, (long)st.st_blocks, (long)st.st_nlink);
        int fd = MUST(open(file, O_RDONLY));
        FACT(read(fd, buffer, 1) == 1);
        SHOW(lseek(fd, 0, SEEK_CUR));
        SHOW(lseek(fd, 0, SEEK_SET));
        SHOW(lseek(fd, -1, SEEK_SET));
        FACT(pread(fd, buffer, 1, 0) == 1);
        SHOW(read(fd, unmapped, 1));
        SHOW(write(fd, "x", 1));
        SHOW(ftruncate(fd, 0));
        SHOW(fsync(fd));
        SHOW(flock(fd, LOCK_EX | LOCK_NB));
        SHOW(fcntl(fd, F_GETFL));
        SHOW(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED ? errno : 0);
        close(fd);
        SHOW(unlink(file));
        SHOW(rename(file, "x"));
        SHOW(link(file, "x"));
        SHOW(truncate(file, 0));
        SHOW(chmod(file, 0600));
        chmod(file, st.st_mode & 07777); // bare Linux keeps that of some for good
        SHOW(mkdir(file, 0755));
        SHOW(open(file, O_RDONLY | O_DIRECTORY));
        SHOW(open(file, O_RDONLY | O_CREAT | O_EXCL, 0644));
        SHOW(close(open(file, O_RDONLY | O_CREAT, 0644)));
        SHOW(close(open(file, O_RDONLY | O_TRUNC, 0644)));
        SHOW(open(file, O_WRONLY) < 0 ? -1 : 0);
        SHOW(setxattr(file, "user.x", "", 0, 0));
        SHOW(listxattr(file, buffer, sizeof buffer));
        close_range(3, ~0u, 0);
    }
}

PROBE(writing_to_proc) {
    char comm[32] = {0};
    int fd = MUST(open("/proc/self/comm", O_RDWR));
    SHOW(write(fd, "a-name-that-is-too-long", 23));
    SHOW(pread(fd, comm, sizeof comm, 0));
    say("%s", comm);
    SHOW(write(fd, "", 0));
    SHOW(write(fd, unmapped, 4));
    fd = MUST(open("/proc/self/oom_score_adj", O_RDWR));
    SHOW(write(fd, "500", 3));
    SHOW(write(fd, "1001", 4));
    SHOW(write(fd, "x", 1));
    SHOW(write(fd, "", 0));
    SHOW(lseek(fd, 0, SEEK_SET));
    memset(comm, 0, sizeof comm);
    SHOW(read(fd, comm, sizeof comm));
    say("%s", comm);
    SHOW(open("/proc/sys/kernel/ostype", O_WRONLY) < 0 ? -1 : 0);
    SHOW(open("/proc/cpuinfo", O_WRONLY) < 0 ? -1 : 0);
    SHOW(open("/proc/self/maps", O_WRONLY) < 0 ? -1 : 0);
    SHOW(open("/proc/nonesuch", O_RDONLY));
    SHOW(open("/proc/self/fd/99", O_RDONLY));
    SHOW(open("/proc/99999/status", O_RDONLY));
    SHOW(open("/proc/-1", O_RDONLY));
    SHOW(open("/proc/0", O_RDONLY));
    SHOW(open("/proc/01", O_RDONLY));
    SHOW(open("/proc/self/task/99999", O_RDONLY));
    SHOW(readlink("/proc/self/exe", comm, 0));
    SHOW(readlink("/proc/self/root", comm, sizeof comm));
    SHOW(access("/proc/self/root/proc", F_OK));
    SHOW(access("/proc/self/cwd/..", F_OK));
}

static void say_fd_link(const char *what, int fd) {
    char path[64], text[256] = {0};
    struct stat st, link;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, text, sizeof text - 1);
    char *digits = strchr(text, '[');
    if (n > 0 && digits && text[0] != '/' && digits[1] >= '0' && digits[1] <= '9')
        strcpy(digits, "[N]");
    MUST(lstat(path, &link));
    say("%s: %.*s %o %ld; stat %s", what, (int)sizeof text, text, link.st_mode, (long)link.st_size, stat(path, &st) ? strerrorname_np(errno) : "ok");
    say("    type %o", stat(path, &st) ? 0 : st.st_mode & S_IFMT);
    int again = open(path, O_RDONLY | O_NONBLOCK);
    say("    open: %s", again < 0 ? strerrorname_np(errno) : "ok");
    close(again);
    again = open(path, O_RDWR | O_NONBLOCK);
    say("    for writing: %s", again < 0 ? strerrorname_np(errno) : "ok");
    close(again);
    again = open(path, O_PATH);
    say("    path: %s", again < 0 ? strerrorname_np(errno) : "ok");
    close(again);
    SHOW(chmod(path, 0644));
    SHOW(unlink(path));
    SHOW(truncate(path, 0));
}

PROBE(magic_links) {
    int p[2], s[2];
    MUST(chdir("/tmp"));
    mkdir("/tmp/magic", 0755);
    MUST(chdir("/tmp/magic"));
    make_file("f", "content");
    say_fd_link("file", MUST(open("f", O_RDONLY)));
    say_fd_link("write-only file", MUST(open("f", O_WRONLY)));
    say_fd_link("folder", MUST(open(".", O_RDONLY)));
    MUST(pipe(p));
    say_fd_link("pipe", p[0]);
    say_fd_link("pipe's end", p[1]);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    say_fd_link("socket", s[0]);
    say_fd_link("eventfd", MUST(eventfd(0, 0)));
    say_fd_link("memfd", MUST(memfd_create("name", 0)));
    say_fd_link("null", MUST(open("/dev/null", O_RDWR)));
    say_fd_link("path", MUST(open("f", O_PATH)));
    int fd = MUST(open("f", O_RDWR));
    MUST(rename("f", "g"));
    say_fd_link("renamed", fd);
    MUST(unlink("g"));
    say_fd_link("deleted", fd);
    fd = MUST(open(".", O_TMPFILE | O_RDWR, 0600));
    char path[64], text[128] = {0};
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    FACT(readlink(path, text, sizeof text) > 0 && strncmp(text, "/tmp/magic/#", 12) == 0 && strstr(text, " (deleted)"));
    mkdir("sub", 0755);
    fd = MUST(open("sub", O_RDONLY));
    rmdir("sub");
    snprintf(path, sizeof path, "/proc/self/fd/%d/x", fd);
    SHOW(open(path, O_RDWR | O_CREAT, 0644));
    snprintf(path, sizeof path, "/proc/self/fd/%d/..", fd);
    SHOW(access(path, F_OK));
}

PROBE(memfd_seals) {
    static const struct {
        unsigned flags;
        const char *name;
    } made[] = {{0, "plain"}, {MFD_CLOEXEC, "cloexec"}, {MFD_ALLOW_SEALING, "sealable"}, {0x100, "bad"}, {MFD_HUGETLB | 0x80000000, "huge"}};
    char buffer[300], c = 'x';
    for (size_t i = 0; i < 4; i++) {
        int fd = memfd_create(made[i].name, made[i].flags);
        say("%s: %s", made[i].name, fd < 0 ? strerrorname_np(errno) : "ok");
        SHOW(fcntl(fd, F_GETFD));
        SHOW(fcntl(fd, F_GETFL));
        SHOW(fcntl(fd, F_GET_SEALS));
        SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
        close(fd);
    }
    memset(buffer, 'n', sizeof buffer);
    buffer[249] = 0;
    SHOW(close(memfd_create(buffer, 0)));
    buffer[249] = 'n', buffer[250] = 0;
    SHOW(memfd_create(buffer, 0));
    SHOW(memfd_create(unmapped, 0));
    SHOW(memfd_create(unmapped, 0x100));
    SHOW(close(memfd_create("", 0)));
    int fd = MUST(memfd_create("m", MFD_ALLOW_SEALING));
    struct stat st;
    MUST(fstat(fd, &st));
    say("%o nlink %ld size %ld", st.st_mode, (long)st.st_nlink, (long)st.st_size);
    MUST(ftruncate(fd, 4096));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    SHOW(ftruncate(fd, 100));
    SHOW(ftruncate(fd, 8192));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    SHOW(ftruncate(fd, 10000));
    SHOW(pwrite(fd, &c, 1, 8191));
    SHOW(pwrite(fd, &c, 1, 8192));
    SHOW(fallocate(fd, 0, 0, 10000));
    void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    FACT(map != MAP_FAILED);
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    MUST(munmap(map, 4096));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    SHOW(write(fd, &c, 1));
    SHOW(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? errno : 0);
    SHOW(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? errno : 0);
    SHOW(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) == MAP_FAILED ? errno : 0);
    SHOW(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    SHOW(fcntl(fd, F_GET_SEALS));
    SHOW(fcntl(fd, F_ADD_SEALS, 0x1000));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
    SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    snprintf(buffer, sizeof buffer, "/proc/self/fd/%d", fd);
    int reader = MUST(open(buffer, O_RDONLY));
    SHOW(fcntl(reader, F_ADD_SEALS, 0));
    SHOW(fcntl(reader, F_GET_SEALS));
    SHOW(close(open(buffer, O_RDWR)));
    SHOW(fchmod(fd, 0444));
    SHOW(linkat(AT_FDCWD, buffer, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW));
}

PROBE(message_queue_files) {
    struct mq_attr attr = {.mq_maxmsg = 3, .mq_msgsize = 16};
    char buffer[256] = {0};
    struct stat st;
    mq_unlink("/probe-q");
    int q = MUST(mq_open("/probe-q", O_RDWR | O_CREAT | O_EXCL, 0640, &attr));
    MUST(stat("/dev/mqueue/probe-q", &st));
    say("%o size %ld", st.st_mode, (long)st.st_size);
    MUST(mq_send(q, "hello", 5, 1));
    int fd = MUST(open("/dev/mqueue/probe-q", O_RDONLY));
    SHOW(read(fd, buffer, sizeof buffer));
    say("%s", buffer);
    SHOW(read(fd, buffer, sizeof buffer));
    SHOW(pread(fd, buffer, 5, 0));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(write(q, "x", 1));
    SHOW(lseek(q, 0, SEEK_SET));
    SHOW(ftruncate(q, 0));
    SHOW(fchmod(q, 0600));
    SHOW(rename("/dev/mqueue/probe-q", "/dev/mqueue/other"));
    SHOW(link("/dev/mqueue/probe-q", "/dev/mqueue/other"));
    SHOW(unlink("/dev/mqueue/probe-q"));
    SHOW(mq_open("/probe-q", O_RDONLY));
    SHOW(mq_send(q, "still", 5, 1));
    SHOW(close(open("/dev/mqueue/made", O_RDWR | O_CREAT, 0600)));
    SHOW(mq_open("/made", O_RDONLY) >= 0);
    SHOW(unlink("/dev/mqueue/made"));
    SHOW(mkdir("/dev/mqueue/d", 0755));
    SHOW(symlink("x", "/dev/mqueue/l"));
    SHOW(mknod("/dev/mqueue/p", S_IFIFO | 0600, 0));
}
