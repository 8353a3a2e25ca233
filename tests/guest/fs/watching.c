// inotify(7): every event, cookies, flags, overflow, what ends a watch; fanotify's refusal.
#include "../probe.h"
#include <poll.h>
#include <sys/inotify.h>
#include <sys/fanotify.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>

static const struct {
    unsigned bit;
    const char *name;
} bits[] = {{IN_ACCESS, "ACCESS"}, {IN_MODIFY, "MODIFY"}, {IN_ATTRIB, "ATTRIB"}, {IN_CLOSE_WRITE, "CLOSE_WRITE"}, {IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"},
            {IN_OPEN, "OPEN"}, {IN_MOVED_FROM, "MOVED_FROM"}, {IN_MOVED_TO, "MOVED_TO"}, {IN_CREATE, "CREATE"}, {IN_DELETE, "DELETE"},
            {IN_DELETE_SELF, "DELETE_SELF"}, {IN_MOVE_SELF, "MOVE_SELF"}, {IN_UNMOUNT, "UNMOUNT"}, {IN_Q_OVERFLOW, "Q_OVERFLOW"}, {IN_IGNORED, "IGNORED"},
            {IN_ISDIR, "ISDIR"}};

// Print what there is to read. Cookies are numbered in the order they come.
static void say_events(const char *what, int fd) {
    static char buffer[65536] __attribute__((aligned(8)));
    static uint32_t cookies[16];
    static int known;
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0) {
        say("%s: nothing: %s", what, strerrorname_np(errno));
        return;
    }
    say("%s:", what);
    for (char *at = buffer; at < buffer + n; at += sizeof(struct inotify_event) + ((struct inotify_event *)at)->len) {
        struct inotify_event *event = (void *)at;
        char line[256] = "";
        for (size_t i = 0; i < sizeof bits / sizeof *bits; i++)
            if (event->mask & bits[i].bit)
                strcat(strcat(line, " "), bits[i].name);
        int cookie = 0;
        if (event->cookie) {
            for (cookie = 0; cookie < known && cookies[cookie] != event->cookie; cookie++)
                continue;
            if (cookie == known && known < 16)
                cookies[known++] = event->cookie;
            cookie++;
        }
        say("    %d%s cookie %d len %u '%s'", event->wd, line, cookie, event->len, event->len ? event->name : "");
    }
}

PROBE(watch_folder) {
    char c;
    MUST(mkdir("d", 0755));
    MUST(mkdir("e", 0755));
    int fd = MUST(inotify_init1(IN_NONBLOCK));
    SHOW(inotify_add_watch(fd, "d", IN_ALL_EVENTS));
    SHOW(inotify_add_watch(fd, "e", IN_ALL_EVENTS));
    say_events("nothing yet", fd);
    int f = MUST(open("d/f", O_RDWR | O_CREAT, 0644));
    say_events("created", fd);
    MUST(write(f, "abc", 3));
    MUST(write(f, "abc", 3));
    say_events("written", fd);
    MUST(pread(f, &c, 1, 0));
    say_events("read", fd);
    MUST(ftruncate(f, 1));
    say_events("ftruncate", fd);
    MUST(truncate("d/f", 0));
    say_events("truncate", fd);
    MUST(fallocate(f, 0, 0, 100));
    say_events("fallocate", fd);
    MUST(fchmod(f, 0600));
    say_events("fchmod", fd);
    MUST(chown("d/f", 1, 1));
    say_events("chown", fd);
    MUST(utimensat(AT_FDCWD, "d/f", NULL, 0));
    say_events("utimensat", fd);
    MUST(utimensat(AT_FDCWD, "d/f", (struct timespec[2]){{1, 0}, {0, UTIME_OMIT}}, 0));
    say_events("utimensat of one", fd);
    setxattr("d/f", "user.x", "1", 1, 0);
    say_events("setxattr", fd);
    close(f);
    say_events("closed", fd);
    MUST(link("d/f", "d/g"));
    say_events("link", fd);
    MUST(rename("d/g", "d/h"));
    say_events("rename", fd);
    MUST(rename("d/h", "e/h"));
    say_events("rename to the other", fd);
    MUST(rename("e/h", "out"));
    say_events("rename out", fd);
    MUST(rename("out", "d/in"));
    say_events("rename in", fd);
    MUST(symlink("x", "d/l"));
    say_events("symlink", fd);
    MUST(mknod("d/p", S_IFIFO | 0600, 0));
    say_events("mknod", fd);
    MUST(mkdir("d/sub", 0755));
    say_events("mkdir", fd);
    close(MUST(open("d/sub", O_RDONLY)));
    say_events("folder opened", fd);
    MUST(rename("d/sub", "e/sub"));
    say_events("folder moved", fd);
    MUST(rmdir("e/sub"));
    say_events("rmdir", fd);
    MUST(rename("d/f", "d/in"));
    say_events("replaced by its own link", fd);
    MUST(open("d/other", O_CREAT | O_WRONLY, 0644));
    MUST(rename("d/other", "d/in"));
    say_events("replaced", fd);
    MUST(renameat2(AT_FDCWD, "d/l", AT_FDCWD, "d/in", RENAME_EXCHANGE));
    say_events("exchanged", fd);
    MUST(unlink("d/in"));
    MUST(unlink("d/l"));
    MUST(unlink("d/f"));
    MUST(unlink("d/p"));
    say_events("unlinked", fd);
    close(MUST(open("d", O_RDONLY)));
    say_events("itself opened", fd);
    MUST(chmod("d", 0700));
    say_events("itself changed", fd);
    MUST(rename("d", "moved"));
    say_events("itself moved", fd);
    close(MUST(open("moved/x", O_CREAT | O_WRONLY | O_TRUNC, 0644)));
    close(MUST(open("moved/x", O_WRONLY | O_TRUNC)));
    say_events("opened with O_TRUNC", fd);
    close(MUST(open("moved/x", O_PATH)));
    say_events("opened with O_PATH", fd);
    MUST(unlink("moved/x"));
    MUST(rmdir("moved"));
    say_events("itself removed", fd);
    SHOW(inotify_rm_watch(fd, 1));
    SHOW(inotify_rm_watch(fd, 2));
    say_events("watch removed", fd);
}

PROBE(watch_file) {
    char c;
    make_file("f", "abc");
    int fd = MUST(inotify_init1(IN_NONBLOCK));
    SHOW(inotify_add_watch(fd, "f", IN_ALL_EVENTS));
    int f = MUST(open("f", O_RDWR));
    MUST(read(f, &c, 1));
    MUST(write(f, "x", 1));
    say_events("used", fd);
    struct iovec iov = {&c, 1};
    MUST(readv(f, &iov, 1));
    say_events("readv", fd);
    SHOW(read(f, &c, 1));
    say_events("read at the end", fd);
    SHOW(write(f, &c, 0));
    say_events("write of nothing", fd);
    int g = MUST(open("g", O_RDWR | O_CREAT, 0644));
    MUST(sendfile(g, f, &(off_t){0}, 1));
    say_events("sendfile from", fd);
    MUST(sendfile(f, g, &(off_t){0}, 1));
    say_events("sendfile to", fd);
    MUST(copy_file_range(f, &(loff_t){0}, g, &(loff_t){0}, 1, 0));
    say_events("copied from", fd);
    MUST(copy_file_range(g, &(loff_t){0}, f, &(loff_t){0}, 1, 0));
    say_events("copied to", fd);
    int p[2];
    MUST(pipe(p));
    MUST(splice(f, &(loff_t){0}, p[1], NULL, 1, 0));
    say_events("spliced from", fd);
    MUST(splice(p[0], NULL, f, &(loff_t){0}, 1, 0));
    say_events("spliced to", fd);
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
    map[0] = 'y';
    MUST(munmap(map, 4096));
    say_events("mapped", fd);
    MUST(link("f", "l"));
    say_events("linked", fd);
    MUST(unlink("f"));
    say_events("unlinked", fd);
    MUST(rename("l", "m"));
    say_events("moved", fd);
    MUST(rename("g", "m"));
    say_events("replaced", fd);
    MUST(write(f, "x", 1));
    say_events("written while deleted", fd);
    close(f);
    say_events("closed", fd);
    SHOW(inotify_rm_watch(fd, 1));
}

PROBE(watch_masks) {
    make_file("f", "abc");
    MUST(symlink("f", "l"));
    MUST(mkdir("d", 0755));
    int fd = MUST(inotify_init1(IN_NONBLOCK));
    SHOW(inotify_add_watch(fd, "f", IN_OPEN));
    SHOW(inotify_add_watch(fd, "f", IN_MODIFY));
    close(MUST(open("f", O_RDONLY)));
    say_events("replaced mask", fd);
    SHOW(inotify_add_watch(fd, "f", IN_OPEN | IN_MASK_ADD));
    int f = MUST(open("f", O_WRONLY));
    MUST(write(f, "x", 1));
    say_events("added mask", fd);
    SHOW(inotify_add_watch(fd, "f", IN_OPEN | IN_MASK_CREATE));
    SHOW(inotify_add_watch(fd, "d", IN_OPEN | IN_MASK_CREATE));
    SHOW(inotify_add_watch(fd, "d", IN_OPEN | IN_MASK_CREATE | IN_MASK_ADD));
    SHOW(inotify_add_watch(fd, "f", 0));
    SHOW(inotify_add_watch(fd, "f", IN_IGNORED));
    SHOW(inotify_add_watch(fd, "f", IN_ONESHOT));
    SHOW(inotify_add_watch(fd, "f", IN_ISDIR));
    SHOW(inotify_add_watch(fd, "f", 0x10000));
    SHOW(inotify_add_watch(fd, "l", IN_OPEN));
    SHOW(inotify_add_watch(fd, "l", IN_OPEN | IN_DONT_FOLLOW));
    SHOW(inotify_add_watch(fd, "f", IN_OPEN | IN_ONLYDIR));
    SHOW(inotify_add_watch(fd, "l", IN_OPEN | IN_ONLYDIR));
    SHOW(inotify_add_watch(fd, "d", IN_OPEN | IN_ONLYDIR));
    SHOW(inotify_add_watch(fd, "missing", IN_OPEN));
    SHOW(inotify_add_watch(fd, unmapped, IN_OPEN));
    SHOW(inotify_add_watch(fd, unmapped, 0));
    SHOW(inotify_add_watch(-1, unmapped, 0));
    SHOW(inotify_add_watch(-1, "f", IN_OPEN));
    SHOW(inotify_add_watch(f, "f", IN_OPEN));
    SHOW(inotify_add_watch(f, "f", 0));
    SHOW(inotify_rm_watch(fd, 99));
    SHOW(inotify_rm_watch(fd, -1));
    SHOW(inotify_rm_watch(f, 1));
    SHOW(inotify_rm_watch(-1, 1));
    SHOW(inotify_init1(1));
    SHOW(fcntl(inotify_init1(IN_CLOEXEC), F_GETFD));
    say_events("so far", fd);
    // once
    int once = MUST(inotify_init1(IN_NONBLOCK));
    SHOW(inotify_add_watch(once, "f", IN_OPEN | IN_ONESHOT));
    close(MUST(open("f", O_RDONLY)));
    close(MUST(open("f", O_RDONLY)));
    say_events("once", once);
    SHOW(inotify_add_watch(once, "f", IN_OPEN | IN_ONESHOT));
    SHOW(inotify_rm_watch(once, 2));
    say_events("removed", once);
    // unlinked children
    int unlinked = MUST(inotify_init1(IN_NONBLOCK)), heard = MUST(inotify_init1(IN_NONBLOCK));
    SHOW(inotify_add_watch(unlinked, "d", IN_ALL_EVENTS | IN_EXCL_UNLINK));
    SHOW(inotify_add_watch(heard, "d", IN_ALL_EVENTS));
    int g = MUST(open("d/g", O_RDWR | O_CREAT, 0644));
    MUST(unlink("d/g"));
    MUST(write(g, "x", 1));
    close(g);
    say_events("IN_EXCL_UNLINK", unlinked);
    say_events("without it", heard);
}

static void no_permission(void) {
    MUST(setuid(1000));
    int fd = MUST(inotify_init());
    SHOW(inotify_add_watch(fd, "secret", IN_OPEN));
    SHOW(inotify_add_watch(fd, "closed", IN_OPEN));
    SHOW(inotify_add_watch(fd, "closed/f", IN_OPEN));
}

PROBE(watch_permission) {
    make_file("secret", "");
    MUST(chmod("secret", 0200));
    MUST(mkdir("closed", 0700));
    make_file("closed/f", "");
    in_child("user", no_permission);
}

PROBE(watch_reading) {
    char buffer[256];
    int value, fd = MUST(inotify_init());
    MUST(mkdir("d", 0755));
    MUST(inotify_add_watch(fd, "d", IN_CREATE));
    struct pollfd poller = {fd, POLLIN, 0};
    SHOW(poll(&poller, 1, 0));
    SHOW(ioctl(fd, FIONREAD, &value));
    SHOW(value);
    make_file("d/a", "");
    make_file("d/name-of-sixteen", "");
    SHOW(poll(&poller, 1, 0));
    SHOW(ioctl(fd, FIONREAD, &value));
    SHOW(value);
    SHOW(read(fd, buffer, 16));
    SHOW(read(fd, buffer, 31));
    SHOW(read(fd, buffer, 0));
    SHOW(read(fd, unmapped, 32));
    SHOW(read(fd, buffer, 40));
    SHOW(ioctl(fd, FIONREAD, &value));
    SHOW(value);
    SHOW(write(fd, buffer, 1));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(pread(fd, buffer, 32, 0));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        nap_ms(30);
        make_file("d/late", "");
        _exit(0);
    }
    SHOW(read(fd, buffer, sizeof buffer));
    reap("maker", pid);
    // equal neighbours are told once
    make_file("f", "");
    int f = MUST(open("f", O_WRONLY)), other = MUST(inotify_init1(IN_NONBLOCK));
    MUST(inotify_add_watch(other, "f", IN_MODIFY | IN_ATTRIB));
    for (int i = 0; i < 5; i++)
        MUST(write(f, "x", 1));
    MUST(fchmod(f, 0600));
    MUST(write(f, "x", 1));
    say_events("merged", other);
}

// The end of a watched file, and of a folder, is told before its folder hears of it.
PROBE(watch_order_of_ends) {
    MUST(mkdir("d", 0755));
    MUST(mkdir("d/sub", 0755));
    make_file("d/a", "");
    make_file("d/b", "");
    make_file("d/c", "");
    int fd = MUST(inotify_init1(IN_NONBLOCK)), a = MUST(open("d/a", O_RDONLY));
    MUST(inotify_add_watch(fd, "d", IN_ALL_EVENTS));
    MUST(inotify_add_watch(fd, "d/sub", IN_ALL_EVENTS));
    MUST(inotify_add_watch(fd, "d/a", IN_ALL_EVENTS));
    MUST(inotify_add_watch(fd, "d/b", IN_ALL_EVENTS));
    MUST(inotify_add_watch(fd, "d/c", IN_ALL_EVENTS));
    MUST(unlink("d/b"));
    say_events("file", fd);
    MUST(rmdir("d/sub"));
    say_events("folder", fd);
    MUST(rename("d/c", "d/a"));
    say_events("replaced while open", fd);
    close(a);
    say_events("closed", fd);
    MUST(mkdir("d/sub", 0755));
    MUST(inotify_add_watch(fd, "d/sub", IN_ALL_EVENTS));
    MUST(chdir("d/sub"));
    MUST(rmdir("../sub"));
    say_events("folder in use", fd);
    MUST(chdir("../.."));
    say_events("left", fd);
    MUST(mkdir("d/sub", 0755));
    MUST(mkdir("d/sub2", 0755));
    MUST(inotify_add_watch(fd, "d/sub", IN_ALL_EVENTS));
    MUST(rename("d/sub2", "d/sub"));
    say_events("folder replaced", fd);
    int folder = MUST(open("d", O_RDONLY));
    char buffer[512];
    MUST(syscall(SYS_getdents64, folder, buffer, sizeof buffer));
    say_events("folder read", fd);
}

PROBE(watch_overflow) {
    static char buffer[1 << 20];
    make_file("f", "");
    int limit = 0, f = MUST(open("f", O_RDWR)), fd = MUST(inotify_init1(IN_NONBLOCK));
    FILE *file = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
    if (file && fscanf(file, "%d", &limit) != 1)
        limit = 0;
    SHOW(limit);
    MUST(inotify_add_watch(fd, "f", IN_MODIFY | IN_ATTRIB));
    for (int i = 0; i < 8300; i++) {
        MUST(write(f, "x", 1));
        MUST(fchmod(f, 0600));
    }
    int events = 0;
    struct inotify_event last = {0};
    ssize_t n;
    while ((n = read(fd, buffer, sizeof buffer)) > 0)
        for (char *at = buffer; at < buffer + n; at += sizeof last + last.len, events++)
            memcpy(&last, at, sizeof last);
    SHOW(events);
    say("%d %#x", last.wd, last.mask);
    MUST(write(f, "x", 1));
    say_events("afterwards", fd);
}

PROBE(watch_ends_with_its_instance) {
    MUST(mkdir("d", 0755));
    int fd = MUST(inotify_init1(IN_NONBLOCK)), copy = MUST(dup(fd));
    MUST(inotify_add_watch(fd, "d", IN_CREATE));
    close(fd);
    make_file("d/a", "");
    say_events("by the copy", copy);
    SHOW(inotify_add_watch(copy, "d", IN_DELETE));
    MUST(unlink("d/a"));
    say_events("by the copy", copy);
    char link[64] = {0}, path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", copy);
    SHOW(readlink(path, link, sizeof link));
    say("%s", link);
    // a removed folder that somebody still has open keeps its watch until then
    int folder = MUST(open("d", O_RDONLY));
    MUST(inotify_add_watch(copy, "d", IN_ALL_EVENTS));
    MUST(rmdir("d"));
    say_events("removed but open", copy);
    close(folder);
    say_events("closed", copy);
}

PROBE(fanotify_is_refused) {
    SHOW(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY));
}
