// Files that are opened again and again: what is open is one file, whoever in the kernel has heard of it by then.
#include "probe.h"
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>

static char buffer[64];

static int again(const char *path, int flags) {
    close(MUST(open(path, O_RDONLY))); // the kernel has seen it
    return open(path, flags);
}

static const char *link_of(int fd) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, buffer, sizeof buffer - 1);
    buffer[n < 0 ? 0 : n] = 0;
    char *name = strrchr(buffer, '/');
    return name ? name : buffer;
}

PROBE(a_file_opened_again) {
    make_file("f", "some text");
    int a = MUST(again("f", O_RDONLY)), b = MUST(again("f", O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    SHOW(read(a, buffer, 4));
    SHOW(lseek(b, 0, SEEK_CUR));
    SHOW(fcntl(a, F_GETFL) & ~0100000);
    SHOW(fcntl(b, F_GETFL) & ~0100000);
    SHOW(fcntl(b, F_GETFD));
    SHOW(write(a, "x", 1));
    int c = MUST(dup(a));
    SHOW(lseek(c, 0, SEEK_CUR));
    SHOW(flock(a, LOCK_EX | LOCK_NB));
    SHOW(flock(b, LOCK_EX | LOCK_NB));
    SHOW(flock(c, LOCK_EX | LOCK_NB));
    close(a);
    SHOW(flock(b, LOCK_EX | LOCK_NB));
    close(c);
    SHOW(flock(b, LOCK_EX | LOCK_NB));
    say("%s", link_of(b));
    struct stat one, two;
    MUST(fstat(b, &one));
    MUST(stat("f", &two));
    FACT(one.st_ino == two.st_ino && one.st_dev == two.st_dev && one.st_size == 9);
    struct statfs fs;
    SHOW(fstatfs(b, &fs));
    SHOW(fsync(b));
    SHOW(ftruncate(b, 0));
    SHOW(fchdir(b));
    SHOW(openat(b, "x", O_RDONLY));
    SHOW(openat(b, "", O_RDONLY));
    char *map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, b, 0);
    FACT(map != MAP_FAILED && memcmp(map, "some text", 9) == 0);
}

PROBE(a_file_unlinked_while_open) {
    make_file("f", "some text");
    int a = MUST(again("f", O_RDONLY)), b = MUST(again("f", O_RDONLY));
    MUST(unlink("f"));
    say("%s", link_of(a));
    struct stat status;
    SHOW(fstat(a, &status));
    SHOW(status.st_nlink);
    SHOW(read(a, buffer, 64));
    close(a);
    SHOW(read(b, buffer, 64));
    make_file("f", "other");
    int c = MUST(again("f", O_RDONLY));
    SHOW(read(c, buffer, 64));
    SHOW(pread(b, buffer, 64, 0));
}

PROBE(a_file_renamed_while_open) {
    make_file("f", "some text");
    make_file("g", "other");
    MUST(mkdir("d", 0755));
    int a = MUST(again("f", O_RDONLY)), b = MUST(again("g", O_RDONLY));
    MUST(rename("f", "d/moved"));
    say("%s", link_of(a));
    MUST(rename("d/moved", "g"));
    say("%s", link_of(a));
    say("%s", link_of(b));
    SHOW(read(b, buffer, 64));
    MUST(rename("d", "e"));
    SHOW(open("f", O_RDONLY));
    int c = MUST(again("g", O_RDONLY));
    SHOW(read(c, buffer, 64));
}

PROBE(closing_a_file_that_is_watched_by_now) {
    make_file("f", "some text");
    int a = MUST(again("f", O_RDONLY));
    int watch = MUST(inotify_init1(IN_NONBLOCK));
    MUST(inotify_add_watch(watch, "f", IN_OPEN | IN_CLOSE | IN_ACCESS));
    close(a);
    char events[256];
    ssize_t n = read(watch, events, sizeof events);
    FACT(n == (ssize_t)sizeof(struct inotify_event));
    FACT(n > 0 && ((struct inotify_event *)events)->mask == IN_CLOSE_NOWRITE);
    a = MUST(open("f", O_RDONLY));
    n = read(watch, events, sizeof events);
    FACT(n > 0 && ((struct inotify_event *)events)->mask == IN_OPEN);
}

PROBE(changes_show_through_open_files) {
    make_file("f", "some text");
    int a = MUST(again("f", O_RDONLY));
    struct stat status;
    MUST(chmod("f", 0));
    MUST(fstat(a, &status));
    SHOW(status.st_mode & 07777);
    SHOW(read(a, buffer, 4));
    MUST(link("f", "g"));
    MUST(fstat(a, &status));
    SHOW(status.st_nlink);
    int writer = MUST(open("g", O_WRONLY | O_TRUNC));
    MUST(write(writer, "new content", 11));
    MUST(fstat(a, &status));
    SHOW(status.st_size);
    SHOW(pread(a, buffer, 64, 0));
    buffer[11] = 0;
    say("%s", buffer);
    MUST(stat("f", &status));
    SHOW(status.st_size);
}

static void in_a_child(int fd) {
    SHOW(read(fd, buffer, 4));
    SHOW(open("f", O_RDONLY) >= 0);
}

PROBE(open_files_over_fork) {
    make_file("f", "some text");
    int a = MUST(again("f", O_RDONLY));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        in_a_child(a);
        fflush(stdout);
        _exit(0);
    }
    MUST(waitpid(pid, NULL, 0));
    SHOW(lseek(a, 0, SEEK_CUR));
    SHOW(close(a));
    SHOW(close(a));
}
