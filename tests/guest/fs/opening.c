// open(2), openat2(2): flags and what they leave, the order of errors, permissions, O_PATH, O_TMPFILE, O_NOATIME, ETXTBSY.
#include "../probe.h"
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/sendfile.h>

static void say_flags(const char *what, int fd) {
    if (fd < 0)
        say("%s: %s", what, strerrorname_np(errno));
    else
        say("%s: %#x cloexec %d", what, fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
    close(fd);
}
#define FLAGS(PATH, F) say_flags(#PATH " " #F, open(PATH, F, 0644))

PROBE(open_kept_flags) {
    make_file("f", "x");
    MUST(mkdir("d", 0755));
    FLAGS("f", O_RDONLY);
    FLAGS("f", O_WRONLY);
    FLAGS("f", O_RDWR);
    FLAGS("f", O_ACCMODE);
    FLAGS("f", O_RDWR | O_APPEND | O_NONBLOCK);
    FLAGS("f", O_RDWR | O_SYNC);
    FLAGS("f", O_RDWR | O_DSYNC);
    FLAGS("f", O_RDWR | O_DIRECT);
    FLAGS("f", O_RDWR | O_ASYNC);
    FLAGS("f", O_RDWR | O_NOATIME);
    FLAGS("f", O_RDWR | O_CREAT | O_TRUNC | O_NOCTTY);
    FLAGS("f", O_RDONLY | O_CLOEXEC);
    FLAGS("f", O_RDONLY | O_NOFOLLOW);
    FLAGS("d", O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_APPEND);
    FLAGS("d", O_RDONLY | O_TRUNC);
    FLAGS("f", O_PATH | O_RDWR | O_APPEND | O_TRUNC | O_CLOEXEC);
    FLAGS("d", O_PATH | O_DIRECTORY | O_NOFOLLOW);
    FLAGS("d", O_TMPFILE | O_RDWR | O_EXCL);
    FLAGS("d", O_TMPFILE | O_WRONLY);
    FLAGS("d", O_TMPFILE);
    FLAGS("d", O_TMPFILE | O_RDWR | O_CREAT);
    FLAGS("f", O_RDWR | (O_TMPFILE & ~O_DIRECTORY));
    FLAGS("f", 0x40000000 | 0x8);
    FLAGS("/dev/null", O_RDWR | O_APPEND | O_DIRECT);
    FLAGS("/proc/self/status", O_RDWR);
    FLAGS("/proc/self/status", O_RDONLY | O_DIRECT);
}

PROBE(direct_io_kinds) {
    int pipes[2], memory = MUST(memfd_create("m", 0));
    MUST(pipe(pipes));
    make_file("f", "");
    MUST(mkdir("d", 0755));
    MUST(mknod("fifo", S_IFIFO | 0600, 0));
    static const char *const paths[] = {"f", "d", "fifo", "/dev/null", "/dev/zero", "/dev/ptmx", "/dev/urandom", "/proc", "/sys",
                                        "/proc/self/maps", "/proc/sys/kernel/hostname", "/sys/kernel", "/dev/pts", "/dev/mqueue"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        int fd = open(paths[i], O_RDONLY | O_NONBLOCK | O_DIRECT);
        say("%s: %s", paths[i], fd < 0 ? strerrorname_np(errno) : "ok");
        close(fd);
        fd = MUST(open(paths[i], O_RDONLY | O_NONBLOCK));
        SHOW(fcntl(fd, F_SETFL, O_DIRECT));
        SHOW(fcntl(fd, F_GETFL) & O_DIRECT);
        close(fd);
    }
    SHOW(fcntl(memory, F_SETFL, O_DIRECT));
    SHOW(fcntl(pipes[0], F_SETFL, O_DIRECT));
    SHOW(fcntl(pipes[1], F_GETFL));
    SHOW(fcntl(pipes[1], F_SETFL, O_DIRECT | O_APPEND | O_ASYNC | O_NOATIME | O_NONBLOCK));
    SHOW(fcntl(pipes[1], F_GETFL));
}

PROBE(open_access_mode_three) {
    char c;
    make_file("f", "x");
    int fd = MUST(open("f", 3));
    SHOW(read(fd, &c, 1));
    SHOW(write(fd, &c, 1));
    SHOW(ftruncate(fd, 0));
    SHOW(fchmod(fd, 0600));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? errno == EACCES : 2);
}

PROBE(open_error_order) {
    struct open_how how = {0};
    make_file("f", "x");
    SHOW(open(unmapped, O_RDONLY));
    SHOW(open(kernel_half, O_RDONLY));
    SHOW(open(NULL, O_CREAT | O_DIRECTORY));
    SHOW(open("f", O_CREAT | O_DIRECTORY));
    SHOW(openat(99, unmapped, O_RDONLY));
    SHOW(openat(99, "", O_RDONLY));
    SHOW(openat(99, "f", O_TMPFILE));
    SHOW(openat(-1, "f", O_RDONLY));
    SHOW(openat(0x100000000 + AT_FDCWD, "f", O_PATH));
    SHOW(syscall(SYS_openat2, AT_FDCWD, unmapped, &how, sizeof how));
    SHOW(syscall(SYS_openat2, AT_FDCWD, "f", unmapped, sizeof how));
    SHOW(syscall(SYS_openat2, AT_FDCWD, unmapped, unmapped, sizeof how - 1));
    SHOW(syscall(SYS_openat2, AT_FDCWD, "f", &how, 4097));
    SHOW(syscall(SYS_openat2, AT_FDCWD, "f", &how, 0));
    char big[4096] = {0};
    SHOW(close(syscall(SYS_openat2, AT_FDCWD, "f", big, sizeof big)));
    big[100] = 1;
    SHOW(syscall(SYS_openat2, AT_FDCWD, "f", big, sizeof big));
    SHOW(syscall(SYS_openat2, AT_FDCWD, unmapped, big, sizeof big));
}

static void openat2_try(const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
    long fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
    say("%s %#lx %#lo %#lx: %s", path, (long)flags, (long)mode, (long)resolve, fd < 0 ? strerrorname_np(errno) : "ok");
    close(fd);
}

PROBE(openat2_flags) {
    make_file("f", "x");
    MUST(mkdir("d", 0755));
    openat2_try("f", O_RDONLY, 0, 0);
    openat2_try("f", O_RDONLY, 0644, 0);
    openat2_try("new", O_RDWR | O_CREAT, 0644, 0);
    openat2_try("new", O_RDWR | O_CREAT, 010000, 0);
    openat2_try("new", O_RDWR | O_CREAT, 0100644, 0);
    openat2_try("new", O_RDWR | O_CREAT, 1ull << 40, 0);
    openat2_try("f", 0x40000000, 0, 0);
    openat2_try("f", 1ull << 40, 0, 0);
    openat2_try("f", 010, 0, 0);
    openat2_try("f", O_PATH | O_RDWR, 0, 0);
    openat2_try("f", O_PATH | O_CREAT, 0, 0);
    openat2_try("f", O_PATH | O_CLOEXEC | O_NOFOLLOW, 0, 0);
    openat2_try("f", O_RDONLY, 0, 0x40);
    openat2_try("f", O_RDONLY, 0, 0x80);
    openat2_try("f", O_RDONLY, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT);
    openat2_try("f", O_RDONLY, 0, 1ull << 32);
    openat2_try("d", O_TMPFILE | O_RDWR, 0600, 0);
    openat2_try("d", O_TMPFILE | O_RDWR, 0, 0);
    openat2_try("d", O_DIRECTORY | O_CREAT, 0755, 0);
    openat2_try("f", O_RDWR | O_TRUNC, 0, RESOLVE_CACHED);
    openat2_try("f", O_RDWR | O_CREAT, 0644, RESOLVE_CACHED);
    openat2_try("f", O_RDONLY, 0, RESOLVE_CACHED);
    openat2_try("f", O_ACCMODE, 0, 0);
    openat2_try("f", O_ASYNC | O_LARGEFILE | O_NOCTTY | O_DSYNC | O_SYNC | O_DIRECT, 0, 0);
}

PROBE(openat2_resolve) {
    static const uint64_t rules[] = {0, RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH,
                                     RESOLVE_IN_ROOT, RESOLVE_BENEATH | RESOLVE_NO_XDEV, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS};
    static const char *const paths[] = {"f", "../f", "d/../f", "d/../../f", "link", "d/up", "d/abs", "/proc/self/stat", "/f",
                                        "/d/f", "/", "..", "/..", "d/..", "out", "loop", "magic", "/proc/self/fd/0", "up/f",
                                        "d/../d/../d/f", "no", "f/", "f/x", "dangling", "abs2/f", "root", "root/f"};
    MUST(mkdir("t", 0755));
    MUST(chdir("t"));
    make_file("f", "x");
    MUST(mkdir("d", 0755));
    make_file("d/f", "x");
    make_file("../f", "outside");
    MUST(symlink("f", "link"));
    MUST(symlink("../f", "d/up"));
    MUST(symlink("/f", "d/abs"));
    MUST(symlink("../f", "out"));
    MUST(symlink("loop", "loop"));
    MUST(symlink("/proc/self/cwd/f", "magic"));
    MUST(symlink("..", "up"));
    MUST(symlink("none", "dangling"));
    MUST(symlink("/d", "abs2"));
    MUST(symlink("/", "root"));
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        for (size_t j = 0; j < sizeof rules / sizeof *rules; j++)
            openat2_try(paths[i], O_RDONLY, 0, rules[j]);
    openat2_try("link", O_PATH | O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS);
    openat2_try("new", O_RDWR | O_CREAT, 0600, RESOLVE_BENEATH);
    openat2_try("../new", O_RDWR | O_CREAT, 0600, RESOLVE_BENEATH);
    openat2_try("../new", O_RDWR | O_CREAT, 0600, RESOLVE_IN_ROOT);
    openat2_try("/new2", O_RDWR | O_CREAT | O_EXCL, 0600, RESOLVE_IN_ROOT);
    openat2_try("dangling", O_RDWR | O_CREAT, 0600, RESOLVE_NO_SYMLINKS);
}

PROBE(o_path_can_do) {
    char c, text[64];
    struct stat st;
    MUST(mkdir("d", 0755));
    make_file("f", "x");
    int fd = MUST(open("f", O_PATH)), folder = MUST(open("d", O_PATH)), file = MUST(open("f", O_RDWR));
    MUST(symlink("f", "l"));
    int link = MUST(open("l", O_PATH | O_NOFOLLOW));
    SHOW(ftruncate(fd, 0));
    SHOW(fchown(fd, 0, 0));
    SHOW(fsync(fd));
    SHOW(fallocate(fd, 0, 0, 1));
    SHOW(pread(fd, &c, 1, 0));
    SHOW(readv(fd, &(struct iovec){&c, 1}, 1));
    SHOW(flock(fd, 1));
    SHOW(syscall(SYS_getdents64, folder, text, sizeof text));
    SHOW(ioctl(fd, FIOCLEX));
    SHOW(fcntl(fd, F_SETFL, O_NONBLOCK));
    SHOW(fcntl(fd, F_GETLK, &(struct flock){.l_type = F_RDLCK}));
    SHOW(fcntl(fd, F_SETOWN, 0));
    SHOW(fcntl(fd, F_DUPFD, 50));
    SHOW(fcntl(50, F_GETFL) & O_PATH);
    SHOW(dup(fd) > 0);
    SHOW(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED ? errno == EBADF : 2);
    SHOW(sendfile(file, fd, NULL, 1));
    SHOW(copy_file_range(fd, NULL, file, NULL, 1, 0));
    SHOW(posix_fadvise(fd, 0, 0, 0) == EBADF);
    SHOW(fstatat(fd, "", &st, AT_EMPTY_PATH));
    SHOW(fstatat(link, "", &st, AT_EMPTY_PATH) ? -1 : S_ISLNK(st.st_mode));
    SHOW(fchmodat(fd, "", 0600, AT_EMPTY_PATH));
    SHOW(fchownat(link, "", 1, 1, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
    SHOW(faccessat(fd, "", R_OK, AT_EMPTY_PATH));
    SHOW(linkat(fd, "", AT_FDCWD, "hard", AT_EMPTY_PATH));
    SHOW(mkdirat(folder, "sub", 0755));
    SHOW(openat(fd, "x", O_RDONLY));
    SHOW(openat(link, "x", O_RDONLY));
    SHOW(openat(fd, "", O_RDONLY));
    SHOW(fchdir(folder));
    SHOW(fchdir(fd));
    snprintf(text, sizeof text, "/proc/self/fd/%d", fd);
    SHOW(chmod(text, 0444));
    SHOW(close(open(text, O_RDONLY)));
    SHOW(close(open(text, O_RDWR | O_CREAT)));
    SHOW(open(text, O_RDWR | O_CREAT | O_EXCL));
    SHOW(open(text, O_RDWR | O_NOFOLLOW));
    SHOW(open(text, O_RDWR | O_DIRECTORY));
    snprintf(text, sizeof text, "/proc/self/fd/%d", link);
    SHOW(open(text, O_RDONLY));
    SHOW(stat(text, &st) ? -1 : S_ISLNK(st.st_mode));
    SHOW(readlink(text, &c, 1));
}

static void as_nobody(void) {
    MUST(setgid(1000));
    MUST(setuid(1000));
    SHOW(open("secret", O_RDONLY));
    SHOW(close(open("secret", O_PATH)));
    SHOW(open("readable", O_WRONLY));
    SHOW(open("readable", O_RDONLY | O_TRUNC));
    SHOW(open("readable", 3));
    SHOW(open("readable", O_RDONLY | O_NOATIME));
    SHOW(close(open("mine", O_RDWR | O_NOATIME)));
    SHOW(open("new", O_CREAT | O_RDWR, 0644));
    SHOW(open("readable", O_CREAT | O_RDWR, 0644));
    SHOW(close(open("readable", O_CREAT | O_RDONLY, 0644)));
    SHOW(open("readable", O_CREAT | O_EXCL, 0644));
    SHOW(open("closed/x", O_RDONLY));
    SHOW(open("closed/none", O_RDONLY));
    SHOW(open("closed/none/none", O_RDONLY));
    SHOW(open("closed/../readable", O_RDONLY));
    SHOW(close(open("closed", O_RDONLY)));
    SHOW(open("noread", O_RDONLY));
    SHOW(close(open("noread/x", O_RDONLY)));
    SHOW(open(".", O_TMPFILE | O_RDWR, 0600));
    SHOW(close(open("open", O_TMPFILE | O_RDWR, 0600)));
    SHOW(open("readonly-new", O_CREAT | O_RDWR | O_EXCL, 0));
    MUST(chdir("open"));
    SHOW(close(open("unwritable", O_CREAT | O_RDWR | O_EXCL, 0444)));
    SHOW(open("unwritable", O_RDWR));
    SHOW(close(open("nothing", O_CREAT | O_WRONLY | O_EXCL, 0)));
    SHOW(open("nothing", O_RDONLY));
    SHOW(fcntl(open("unwritable", O_RDONLY), F_SETFL, O_NOATIME));
}

PROBE(open_permissions) {
    MUST(chmod(".", 0755));
    make_file("secret", "x");
    MUST(chmod("secret", 0600));
    make_file("readable", "x");
    make_file("mine", "x");
    MUST(chown("mine", 1000, 1000));
    MUST(mkdir("closed", 0744));
    make_file("closed/x", "x");
    MUST(mkdir("noread", 0711));
    make_file("noread/x", "x");
    MUST(mkdir("open", 0777));
    MUST(chmod("open", 0777));
    in_child("as nobody", as_nobody);
}

PROBE(text_file_busy) {
    int from = MUST(open("/probe", O_RDONLY)), to = MUST(open("prog", O_WRONLY | O_CREAT, 0755));
    while (sendfile(to, from, NULL, 1 << 24) > 0)
        continue;
    pid_t pid = MUST(fork());
    if (pid == 0) {
        execl("./prog", "prog", NULL);
        _exit(errno == ETXTBSY ? 77 : errno == EACCES ? 78 : 79);
    }
    reap("open for writing", pid);
    close(to);
    int ready[2];
    MUST(pipe(ready));
    pid = MUST(fork());
    if (pid == 0) {
        dup2(ready[1], 1);
        close(ready[0]);
        execl("./prog", "prog", "zz_running", NULL);
        _exit(errno == EACCES ? 78 : 79);
    }
    close(ready[1]);
    char line[32];
    if (read(ready[0], line, sizeof line) > 0) {
        SHOW(open("prog", O_WRONLY));
        SHOW(open("prog", O_RDWR));
        SHOW(truncate("prog", 0));
        SHOW(open("prog", O_WRONLY | O_TRUNC));
        SHOW(close(open("prog", O_RDONLY)));
        SHOW(chmod("prog", 0700));
        SHOW(rename("prog", "moved"));
        SHOW(open("moved", O_WRONLY));
        SHOW(link("moved", "prog"));
        SHOW(unlink("prog"));
    }
    kill(pid, SIGKILL);
    reap("running", pid);
    SHOW(open("moved", O_WRONLY) != -1 || errno == ENOENT);
}

// Who opened a file may give it another name by the descriptor alone: at the first open, and when the file is known.
PROBE(opener_links) {
    make_file("f", "text");
    MUST(chmod(".", 0777));
    MUST(chown("f", 1000, 1000));
    MUST(setgid(1000));
    MUST(setuid(1000));
    for (int again = 0; again < 3; again++) {
        int fd = MUST(open("f", O_RDONLY));
        SHOW(linkat(fd, "", AT_FDCWD, "named", AT_EMPTY_PATH));
        unlink("named");
        close(fd);
    }
}

// A memfd is born open for writing, which keeps nobody from running it; opening it again does.
PROBE(memfd_is_run) {
    int from = MUST(open("/probe", O_RDONLY)), fd = MUST(memfd_create("prog", MFD_CLOEXEC));
    while (sendfile(fd, from, NULL, 1 << 24) > 0)
        continue;
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    for (int again = 0; again < 2; again++) {
        pid_t pid = MUST(fork());
        if (pid == 0) {
            char *argv[] = {"prog", NULL};
            fexecve(fd, argv, argv + 1);
            _exit(errno == ETXTBSY ? 77 : 79);
        }
        reap("run", pid);
        MUST(open(path, O_RDWR));
    }
}

PROBE(zz_running) {
    say("running");
    pause();
}
