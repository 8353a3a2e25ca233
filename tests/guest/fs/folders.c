// Folders: getdents64(2) and its offsets, getcwd(2), chdir(2), chroot(2), long names and paths, sticky and set-group-id folders.
#include "../probe.h"
#include <dirent.h>
#include <grp.h>

struct entry {
    uint64_t ino;
    int64_t off;
    unsigned short length;
    unsigned char type;
    char name[];
};

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// The names still to come, sorted.
static void say_rest(const char *what, int fd) {
    static char buffer[65536], all[8192];
    char *names[300];
    size_t count = 0;
    long n;
    while ((n = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < n; at += ((struct entry *)(buffer + at))->length)
            if (count < 300)
                names[count++] = strdup(((struct entry *)(buffer + at))->name);
    qsort(names, count, sizeof *names, by_name);
    all[0] = 0;
    for (size_t i = 0; i < count && i < 40; i++)
        strcat(strcat(all, " "), names[i]);
    say("%s: %zu%s%s", what, count, all, n < 0 ? strerrorname_np(errno) : "");
}

static void fill(const char *folder, int count) {
    char path[300];
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/n%03d", folder, i);
        make_file(path, "");
    }
}

PROBE(getdents_offsets) {
    static char buffer[4096];
    MUST(mkdir("d", 0755));
    fill("d", 20);
    int fd = MUST(open("d", O_RDONLY));
    // going back to any entry's offset gives what came after it
    long n = syscall(SYS_getdents64, fd, buffer, sizeof buffer);
    FACT(n > 0);
    int entries = 0, wrong = 0;
    for (long at = 0; at < n; at += ((struct entry *)(buffer + at))->length) {
        struct entry *this = (void *)(buffer + at), *next = (void *)(buffer + at + this->length);
        static char again[4096];
        MUST(lseek(fd, this->off, SEEK_SET));
        long m = syscall(SYS_getdents64, fd, again, sizeof again);
        if (at + this->length < n)
            wrong += m <= 0 || strcmp(((struct entry *)again)->name, next->name) != 0;
        else
            wrong += m != 0;
        entries++;
    }
    SHOW(entries);
    SHOW(wrong);
    MUST(lseek(fd, 0, SEEK_SET));
    say_rest("from the start", fd);
    say_rest("at the end", fd);
    SHOW(lseek(fd, -1, SEEK_SET));
    MUST(lseek(fd, 0, SEEK_SET));
    // what is made after the folder was read to its end is seen after going back
    make_file("d/new", "");
    say_rest("one more", fd);
    MUST(lseek(fd, 0, SEEK_SET));
    MUST(unlink("d/new"));
    say_rest("one less", fd);
    int other = MUST(dup(fd));
    MUST(lseek(fd, 0, SEEK_SET));
    FACT(syscall(SYS_getdents64, other, buffer, 100) > 0);
    FACT(lseek(fd, 0, SEEK_CUR) > 0);
    SHOW(syscall(SYS_getdents64, fd, unmapped, 1000));
    SHOW(syscall(SYS_getdents64, fd, buffer, 0));
    SHOW(syscall(SYS_getdents64, fd, buffer, 18));
    SHOW(syscall(SYS_getdents64, -1, unmapped, 0));
    SHOW(syscall(SYS_getdents64, MUST(open("d", O_PATH)), buffer, 100));
    SHOW(syscall(SYS_getdents, -1, unmapped, 0));
    SHOW(syscall(SYS_getdents, fd, buffer, 10));
}

PROBE(getdents_partial_fault) {
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(mprotect(page + 4096, 4096, PROT_NONE));
    MUST(mkdir("d", 0755));
    fill("d", 20);
    int fd = MUST(open("d", O_RDONLY));
    // room for one and a half entries
    long n = syscall(SYS_getdents64, fd, page + 4096 - 36, 4096);
    FACT(n == 24 || n == 32);
    SHOW(syscall(SYS_getdents64, fd, page + 4096 - 8, 4096));
    int rest = 0;
    static char buffer[4096];
    while ((n = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < n; at += ((struct entry *)(buffer + at))->length)
            rest++;
    SHOW(rest);
}

PROBE(getdents_while_changing) {
    static char buffer[200];
    MUST(mkdir("d", 0755));
    fill("d", 100);
    int fd = MUST(open("d", O_RDONLY)), seen = 0, removed = 0;
    char seen_name[100] = {0};
    long n;
    while ((n = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < n; at += ((struct entry *)(buffer + at))->length) {
            struct entry *entry = (void *)(buffer + at);
            int number;
            if (sscanf(entry->name, "n%d", &number) != 1)
                continue;
            seen++;
            seen_name[number]++;
            if (unlinkat(fd, entry->name, 0) == 0)
                removed++;
        }
    SHOW(seen);
    SHOW(removed);
    int twice = 0;
    for (int i = 0; i < 100; i++)
        twice += seen_name[i] != 1;
    SHOW(twice);
    SHOW(rmdir("d"));
    SHOW(syscall(SYS_getdents64, fd, buffer, sizeof buffer));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(syscall(SYS_getdents64, fd, buffer, sizeof buffer));
    SHOW(openat(fd, "x", O_CREAT | O_RDWR, 0644));
    SHOW(openat(fd, "..", O_RDONLY) > 0);
    SHOW(openat(fd, ".", O_RDONLY) > 0);
}

PROBE(dots_and_types) {
    MUST(mkdir("d", 0755));
    MUST(mkdir("d/sub", 0755));
    make_file("d/file", "");
    MUST(symlink("x", "d/link"));
    MUST(mknod("d/fifo", S_IFIFO | 0600, 0));
    MUST(mknod("d/sock", S_IFSOCK | 0600, 0));
    DIR *folder = opendir("d");
    struct dirent *entry;
    char types[8][16];
    int count = 0;
    while ((entry = readdir(folder)) && count < 8)
        snprintf(types[count++], 16, "%s:%d", entry->d_name, entry->d_type);
    qsort(types, count, 16, (int (*)(const void *, const void *))strcmp);
    for (int i = 0; i < count; i++)
        say("%s", types[i]);
}

PROBE(current_folder) {
    char here[PATH_MAX], expect[PATH_MAX];
    MUST(syscall(SYS_getcwd, expect, sizeof expect));
    MUST(mkdir("a", 0755));
    MUST(mkdir("a/b", 0755));
    MUST(chdir("a/b"));
    long n = syscall(SYS_getcwd, here, sizeof here);
    FACT(n == (long)strlen(here) + 1);
    say("%s", here + strlen(expect));
    SHOW(syscall(SYS_getcwd, here, n - 1));
    FACT(syscall(SYS_getcwd, here, n) == n);
    SHOW(syscall(SYS_getcwd, unmapped, PATH_MAX));
    SHOW(syscall(SYS_getcwd, unmapped, 1));
    SHOW(syscall(SYS_getcwd, NULL, 0));
    MUST(rename("../../a", "../../c"));
    MUST(syscall(SYS_getcwd, here, sizeof here));
    say("%s", here + strlen(expect));
    MUST(rmdir("../b"));
    SHOW(syscall(SYS_getcwd, here, sizeof here));
    SHOW(syscall(SYS_getcwd, here, 1));
    SHOW(open(".", O_RDONLY) > 0);
    SHOW(open("..", O_RDONLY) > 0);
    SHOW(open("x", O_RDWR | O_CREAT, 0644));
    SHOW(mkdir("x", 0755));
    SHOW(symlink("x", "y"));
    SHOW(stat("../b", &(struct stat){0}));
    SHOW(access("x", F_OK));
    SHOW(chdir("."));
    n = readlink("/proc/self/cwd", here, sizeof here - 1);
    here[n] = 0;
    say("%s", here + strlen(expect));
    MUST(chdir(".."));
    SHOW(chdir("../c/../../no"));
    SHOW(fchdir(-1));
    SHOW(chdir(unmapped));
}

static void in_the_jail(void) {
    char here[PATH_MAX];
    int outside = MUST(open("..", O_RDONLY));
    SHOW(chroot("jail"));
    // the working folder is outside now
    MUST(syscall(SYS_getcwd, here, sizeof here));
    say("%.13s", here);
    SHOW(access("/in", F_OK));
    SHOW(access("jail", F_OK));
    SHOW(chdir("/"));
    MUST(syscall(SYS_getcwd, here, sizeof here));
    say("%s", here);
    SHOW(access("../../../proc", F_OK));
    SHOW(fchdir(outside));
    MUST(syscall(SYS_getcwd, here, sizeof here));
    say("%.13s", here);
    SHOW(chdir("/in"));
    SHOW(chroot("."));
    SHOW(chroot(unmapped));
    MUST(setuid(1000));
    SHOW(chroot("/"));
    SHOW(chroot("/none"));
}

PROBE(chroot_details) {
    MUST(mkdir("jail", 0755));
    MUST(mkdir("jail/in", 0755));
    in_child("jailed", in_the_jail);
    make_file("f", "");
    SHOW(chroot("f"));
    MUST(mkdir("shut", 0000));
    SHOW(chroot("none"));
    SHOW(chroot(""));
}

PROBE(long_names) {
    static char path[8192], name[300];
    memset(name, 'n', sizeof name);
    name[255] = 0;
    SHOW(mkdir(name, 0755));
    name[255] = 'n', name[256] = 0;
    SHOW(mkdir(name, 0755));
    SHOW(open(name, O_RDONLY));
    SHOW(open(name, O_RDONLY | O_CREAT, 0644));
    SHOW(rename("missing", name));
    SHOW(symlink("x", name));
    SHOW(unlink(name));
    SHOW(access(name, F_OK));
    snprintf(path, sizeof path, "missing/%s", name);
    SHOW(access(path, F_OK));
    snprintf(path, sizeof path, "%s/missing", name);
    SHOW(access(path, F_OK));
    make_file("f", "");
    snprintf(path, sizeof path, "f/%s", name);
    SHOW(access(path, F_OK));
    // 4095 bytes are a path, 4096 are not
    memset(path, '/', sizeof path);
    path[4095] = 0;
    SHOW(access(path, F_OK));
    path[4094] = 'z';
    SHOW(access(path, F_OK));
    path[4095] = '/', path[4096] = 0;
    SHOW(access(path, F_OK));
    SHOW(symlink(path, "target"));
    path[4095] = 0;
    SHOW(symlink(path, "target"));
    SHOW(readlink("target", path, sizeof path) > 0);
    SHOW(access("target", F_OK));
    // deeper than a path can name
    int depth = 0;
    memset(name, 'd', 200);
    name[200] = 0;
    while (depth < 30 && mkdir(name, 0755) == 0 && chdir(name) == 0)
        depth++;
    SHOW(depth);
    SHOW(syscall(SYS_getcwd, path, sizeof path));
    SHOW(open("f", O_RDWR | O_CREAT, 0644) >= 0);
    while (depth-- > 0)
        MUST(chdir(".."));
    SHOW(access("f", F_OK));
}

PROBE(chains_of_links) {
    char from[32], to[32];
    make_file("l0", "end");
    for (int i = 1; i < 45; i++) {
        snprintf(from, sizeof from, "l%d", i);
        snprintf(to, sizeof to, "l%d", i - 1);
        MUST(symlink(to, from));
    }
    SHOW(access("l39", F_OK));
    SHOW(access("l40", F_OK));
    SHOW(access("l41", F_OK));
    SHOW(open("l41", O_RDONLY));
    SHOW(open("l41", O_RDONLY | O_NOFOLLOW));
    SHOW(open("l41", O_RDWR | O_CREAT, 0644));
    SHOW(open("l41", O_PATH | O_NOFOLLOW) > 0);
    MUST(mkdir("d", 0755));
    MUST(symlink("../d", "d/self"));
    char path[1024] = "d";
    for (int i = 0; i < 40; i++)
        strcat(path, "/self");
    SHOW(access(path, F_OK));
    strcat(path, "/self");
    SHOW(access(path, F_OK));
    MUST(symlink("slash/", "toslash"));
    SHOW(open("toslash", O_RDWR | O_CREAT, 0644));
    SHOW(mkdir("toslash", 0755));
    MUST(mkdir("slash", 0755));
    SHOW(access("toslash", F_OK));
    SHOW(rmdir("toslash"));
    SHOW(rmdir("toslash/"));
    SHOW(symlink("", "empty"));
    SHOW(symlink("x", ""));
    SHOW(readlink("l1", to, 1));
    SHOW(readlink("l1", to, 0));
    SHOW(readlink("l1", to, -1));
    SHOW(readlink("l1", unmapped, 10));
    SHOW(readlink("l0", to, 10));
    SHOW(readlink("d", to, 10));
    SHOW(readlink("l1", to, INT_MAX));
}

static void sticky_user(void) {
    MUST(setgid(1000));
    MUST(setuid(1000));
    SHOW(unlink("sticky/root"));
    SHOW(rename("sticky/root", "sticky/x"));
    SHOW(rename("sticky/mine", "sticky/root"));
    SHOW(rmdir("sticky/rootdir"));
    SHOW(unlink("sticky/mine2"));
    SHOW(unlink("minesticky/root"));
    SHOW(renameat2(AT_FDCWD, "sticky/mine", AT_FDCWD, "sticky/root", RENAME_EXCHANGE));
    SHOW(link("sticky/root", "open/x"));
    SHOW(link("sticky/readable", "open/y"));
    SHOW(link("sticky/mine", "open/z"));
    SHOW(link("open/suid", "open/w"));
    SHOW(open("sticky/root", O_RDWR | O_CREAT, 0644));
    SHOW(open("sticky/readable", O_RDONLY | O_CREAT, 0644));
    SHOW(open("sticky/readable", O_RDWR) >= 0);
    SHOW(open("sticky/other", O_RDWR | O_CREAT, 0644));
    SHOW(open("groupsticky/other", O_RDWR | O_CREAT, 0644));
    SHOW(open("sticky/fifo", O_RDWR | O_CREAT, 0644));
    SHOW(open("open/other", O_RDWR | O_CREAT, 0644) >= 0);
    SHOW(access("sticky/rootlink", F_OK));
    SHOW(access("sticky/otherlink", F_OK));
    SHOW(access("sticky/minelink", F_OK));
    SHOW(access("sticky/otherdir/readable", F_OK));
    SHOW(readlink("sticky/otherlink", (char[8]){0}, 8) > 0);
    SHOW(chmod("sticky", 0777));
}

PROBE(sticky_folders) {
    umask(0);
    MUST(mkdir("sticky", 01777));
    MUST(chmod("sticky", 01777));
    MUST(mkdir("groupsticky", 01775));
    MUST(chmod("groupsticky", 01775));
    MUST(chown("groupsticky", 0, 1000));
    MUST(mkdir("minesticky", 01777));
    MUST(chmod("minesticky", 01777));
    MUST(chown("minesticky", 1000, 1000));
    MUST(mkdir("open", 0777));
    static const struct {
        const char *name;
        int mode, uid;
    } files[] = {{"sticky/root", 0644, 0},      {"sticky/mine", 0644, 1000},   {"sticky/mine2", 0644, 1000},       {"sticky/readable", 0666, 0},
                 {"sticky/other", 0666, 2000},  {"open/other", 0666, 2000},    {"groupsticky/other", 0666, 2000},  {"minesticky/root", 0644, 0},
                 {"open/suid", 04777, 0}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        make_file(files[i].name, "x");
        MUST(chown(files[i].name, files[i].uid, files[i].uid));
        MUST(chmod(files[i].name, files[i].mode));
    }
    MUST(mkdir("sticky/rootdir", 0777));
    MUST(mknod("sticky/fifo", S_IFIFO | 0666, 0));
    MUST(chown("sticky/fifo", 2000, 2000));
    MUST(symlink("readable", "sticky/rootlink"));
    MUST(symlink("readable", "sticky/otherlink"));
    MUST(lchown("sticky/otherlink", 2000, 2000));
    MUST(symlink("readable", "sticky/minelink"));
    MUST(lchown("sticky/minelink", 1000, 1000));
    MUST(symlink("../sticky", "sticky/otherdir"));
    MUST(lchown("sticky/otherdir", 2000, 2000));
    in_child("user", sticky_user);
    SHOW(access("sticky/otherlink", F_OK));
    SHOW(open("sticky/other", O_RDWR | O_CREAT, 0644));
    SHOW(unlink("sticky/other"));
}

static void say_owner(const char *path) {
    struct stat st;
    if (lstat(path, &st))
        say("%s: %s", path, strerrorname_np(errno));
    else
        say("%s: %o %d:%d", path, st.st_mode, st.st_uid, st.st_gid);
}

static void group_user(void) {
    gid_t groups[] = {42};
    MUST(setgroups(1, groups));
    MUST(setgid(1000));
    MUST(setuid(1000));
    umask(0);
    MUST(chdir("shared"));
    SHOW(close(open("f", O_CREAT | O_RDWR, 02777)));
    SHOW(mkdir("d", 0777));
    SHOW(mkdir("d7", 07777));
    SHOW(symlink("x", "l"));
    SHOW(mknod("p", S_IFIFO | 0666, 0));
    SHOW(close(open("../foreign/f", O_CREAT | O_RDWR, 02777)));
    SHOW(close(open("../foreign/g", O_CREAT | O_RDWR, 02767)));
    SHOW(mkdir("../foreign/d", 02777));
    SHOW(close(open(".", O_TMPFILE | O_RDWR, 02777)));
}

PROBE(set_group_id_folders) {
    umask(0);
    MUST(mkdir("shared", 0777));
    MUST(chown("shared", 0, 42));
    MUST(chmod("shared", 02777));
    MUST(mkdir("foreign", 0777));
    MUST(chown("foreign", 0, 43));
    MUST(chmod("foreign", 02777));
    in_child("user", group_user);
    static const char *const made[] = {"shared/f", "shared/d", "shared/d7", "shared/l", "shared/p", "foreign/f", "foreign/g", "foreign/d"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        say_owner(made[i]);
    SHOW(close(open("foreign/root", O_CREAT | O_RDWR, 02777)));
    say_owner("foreign/root");
    MUST(mkdir("plain", 07777));
    say_owner("plain");
    umask(077);
    SHOW(close(open("masked", O_CREAT | O_RDWR, 07777)));
    say_owner("masked");
    SHOW(mkdir("maskeddir", 07777));
    say_owner("maskeddir");
    SHOW(mknod("maskednod", S_IFREG | 07777, 0));
    say_owner("maskednod");
    umask(0777);
    SHOW(close(open("none", O_CREAT | O_RDWR, 07777)));
    say_owner("none");
}
