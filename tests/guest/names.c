// Names and folders: rename(2), link(2), symlink(2), mkdir(2), stat(2), getdents(2), path resolution's errors.
#include "probe.h"
#include <dirent.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void say_folder(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) {
        ok("opendir", -1);
        return;
    }
    char *names[256];
    size_t count = 0;
    struct dirent *entry;
    while ((entry = readdir(folder)) && count < 256) {
        char *line;
        MUST(asprintf(&line, "%s%s", entry->d_name, entry->d_type == DT_DIR ? "/" : entry->d_type == DT_LNK ? "@" : ""));
        names[count++] = line;
    }
    closedir(folder);
    qsort(names, count, sizeof *names, by_name);
    char all[4096] = "";
    for (size_t i = 0; i < count; i++)
        strcat(strcat(all, " "), names[i]);
    say("%s holds%s", path, all);
}

PROBE(rename) {
    make_file("a", "A");
    make_file("b", "B");
    SHOW(rename("a", "b"));
    say_file("b");
    SHOW(rename("a", "c"));
    SHOW(rename("b", "b"));
    MUST(mkdir("d", 0755));
    MUST(mkdir("d/sub", 0755));
    MUST(mkdir("empty", 0755));
    SHOW(rename("b", "d"));
    SHOW(rename("d", "b"));
    SHOW(rename("empty", "d"));
    SHOW(rename("d", "empty"));
    SHOW(rename("empty", "empty/sub/deeper"));
    SHOW(rename("empty/sub", "sub"));
    SHOW(rename("b", "empty/b"));
    say_folder(".");
    say_folder("empty");
    SHOW(rename(".", "x"));
    SHOW(rename("empty/.", "x"));
    SHOW(rename("empty", "x/"));
    SHOW(rename("x/b", "x/b2/"));
    SHOW(renameat2(AT_FDCWD, "x/b", AT_FDCWD, "sub", RENAME_NOREPLACE));
    make_file("one", "1");
    make_file("two", "2");
    SHOW(renameat2(AT_FDCWD, "one", AT_FDCWD, "two", RENAME_NOREPLACE));
    SHOW(renameat2(AT_FDCWD, "one", AT_FDCWD, "two", RENAME_EXCHANGE));
    say_file("one");
    say_file("two");
    SHOW(renameat2(AT_FDCWD, "one", AT_FDCWD, "missing", RENAME_EXCHANGE));
    SHOW(renameat2(AT_FDCWD, "one", AT_FDCWD, "two", 0x100));
    SHOW(rename("one", "/proc/here"));
}

PROBE(links) {
    struct stat st, other;
    make_file("a", "content");
    SHOW(link("a", "b"));
    MUST(stat("a", &st));
    MUST(stat("b", &other));
    FACT(st.st_ino == other.st_ino);
    SHOW(st.st_nlink);
    SHOW(link("a", "b"));
    SHOW(link("missing", "c"));
    SHOW(link(".", "c"));
    SHOW(unlink("a"));
    say_file("b");
    SHOW(stat("b", &st) == 0 ? (long)st.st_nlink : -1);
    SHOW(symlink("b", "s"));
    SHOW(linkat(AT_FDCWD, "s", AT_FDCWD, "s2", 0));
    SHOW(lstat("s2", &st) == 0 && S_ISLNK(st.st_mode));
    SHOW(linkat(AT_FDCWD, "s", AT_FDCWD, "hard", AT_SYMLINK_FOLLOW));
    SHOW(lstat("hard", &st) == 0 && S_ISREG(st.st_mode));
    SHOW(unlink("."));
    SHOW(unlink("s/"));
    SHOW(unlink("missing"));
    SHOW(unlinkat(AT_FDCWD, "b", 1));
    MUST(mkdir("d", 0755));
    SHOW(unlink("d"));
    SHOW(unlinkat(AT_FDCWD, "b", AT_REMOVEDIR));
    SHOW(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
    say_folder(".");
}

PROBE(symlinks) {
    char text[64] = {0};
    struct stat st;
    SHOW(symlink("target", "s"));
    SHOW(symlink("target", "s"));
    SHOW(symlink("", "e"));
    SHOW(readlink("s", text, sizeof text));
    say("%s", text);
    SHOW(readlink("s", text, 3));
    SHOW(readlink("s", text, 0));
    SHOW(readlink(".", text, sizeof text));
    SHOW(readlink("missing", text, sizeof text));
    SHOW(stat("s", &st));
    SHOW(lstat("s", &st) == 0 ? st.st_size : -1);
    SHOW(st.st_mode & 0777);
    MUST(symlink("loop2", "loop1"));
    MUST(symlink("loop1", "loop2"));
    SHOW(stat("loop1", &st));
    SHOW(open("loop1", O_RDONLY | O_CREAT, 0644));
    MUST(mkdir("d", 0755));
    MUST(symlink("../d", "d/up"));
    SHOW(stat("d/up/up/up/up", &st));
    MUST(symlink("d", "dl"));
    SHOW(lstat("dl/", &st) == 0 && S_ISDIR(st.st_mode));
    SHOW(mkdir("dl", 0755));
    SHOW(rmdir("dl"));
    make_file("d/x", "through");
    say_file("dl/x");
    MUST(symlink("/tmp/probe/d/x", "absolute"));
    say_file("absolute");
    MUST(symlink("../../../../../../tmp/probe/d/x", "many-ups"));
    say_file("many-ups");
    char name[16];
    MUST(symlink("d", "c0"));
    for (int i = 1; i <= 41; i++) {
        char from[16];
        snprintf(from, sizeof from, "c%d", i - 1);
        snprintf(name, sizeof name, "c%d", i);
        MUST(symlink(from, name));
    }
    SHOW(stat("c39", &st));
    SHOW(stat("c40", &st));
    SHOW(stat("c41", &st));
}

PROBE(folders) {
    struct stat st;
    SHOW(mkdir("d", 0750));
    SHOW(stat("d", &st) == 0 ? (long)(st.st_mode & 07777) : -1);
    SHOW(st.st_nlink);
    SHOW(mkdir("d", 0755));
    SHOW(mkdir("d/", 0755));
    SHOW(mkdir("d2/", 0755));
    SHOW(mkdir("missing/d", 0755));
    SHOW(mkdir("", 0755));
    SHOW(mkdir("d/sub", 0755));
    SHOW(stat("d", &st) == 0 ? (long)st.st_nlink : -1);
    SHOW(rmdir("d"));
    SHOW(rmdir("d/sub/"));
    SHOW(rmdir("d/."));
    SHOW(rmdir("d/.."));
    SHOW(rmdir("/"));
    make_file("f", "");
    SHOW(rmdir("f"));
    SHOW(mkdir("f/d", 0755));
    SHOW(chdir("d"));
    SHOW(rmdir("../d"));
    SHOW(open("x", O_CREAT | O_RDWR, 0644));
    SHOW(mkdir("x", 0755));
    char here[PATH_MAX];
    SHOW(getcwd(here, sizeof here) == NULL ? -1 : 0);
    SHOW(stat(".", &st) == 0 ? (long)st.st_nlink : -1);
    SHOW(chdir(".."));
    SHOW(getcwd(here, sizeof here) != NULL);
    say("%s", here);
    SHOW(syscall(SYS_getcwd, here, 3));
    SHOW(chdir("f"));
    SHOW(chdir("missing"));
    int fd = MUST(open("d2", O_RDONLY));
    SHOW(fchdir(fd));
    say("%s", getcwd(here, sizeof here));
    SHOW(fchdir(99));
    SHOW(fchdir(MUST(open("../f", O_RDONLY))));
}

PROBE(getdents) {
    MUST(mkdir("d", 0755));
    char name[300];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "d/file-%03d", i);
        make_file(name, "");
    }
    MUST(mkdir("d/folder", 0755));
    MUST(symlink("x", "d/link"));
    say_folder("d");
    int fd = MUST(open("d", O_RDONLY | O_DIRECTORY));
    char buffer[1024];
    int total = 0, rounds = 0;
    long n;
    while ((n = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < n; rounds++, at += *(unsigned short *)(buffer + at + 16))
            total++;
    }
    SHOW(n);
    SHOW(total);
    SHOW(syscall(SYS_getdents64, fd, buffer, sizeof buffer));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(syscall(SYS_getdents64, fd, buffer, 10));
    FACT(syscall(SYS_getdents64, fd, buffer, sizeof buffer) > 0);
    make_file("f", "");
    int file = MUST(open("f", O_RDONLY));
    SHOW(syscall(SYS_getdents64, file, buffer, sizeof buffer));
    SHOW(syscall(SYS_getdents64, 99, buffer, sizeof buffer));
    // seekdir to where we were
    DIR *folder = opendir("d");
    for (int i = 0; i < 10; i++)
        readdir(folder);
    long where = telldir(folder);
    char next[256];
    strcpy(next, readdir(folder)->d_name);
    readdir(folder);
    seekdir(folder, where);
    FACT(strcmp(next, readdir(folder)->d_name) == 0);
    // deleting while reading must not skip or repeat what stays
    rewinddir(folder);
    struct dirent *entry;
    int removed = 0;
    while ((entry = readdir(folder)))
        if (entry->d_type == DT_REG) {
            snprintf(name, sizeof name, "d/%s", entry->d_name);
            MUST(unlink(name));
            removed++;
        }
    SHOW(removed);
    say_folder("d");
}

PROBE(stat_fields) {
    struct stat st, again;
    make_file("f", "12345");
    MUST(stat("f", &st));
    FACT(S_ISREG(st.st_mode));
    SHOW(st.st_mode & 07777);
    SHOW(st.st_size);
    SHOW(st.st_nlink);
    SHOW(st.st_uid);
    SHOW(st.st_gid);
    SHOW(st.st_rdev);
    FACT(st.st_ino != 0 && st.st_dev != 0);
    FACT(st.st_blksize >= 512);
    FACT(llabs((long long)time(NULL) - st.st_mtime) < 60);
    int fd = MUST(open("f", O_RDWR));
    MUST(fstat(fd, &again));
    FACT(again.st_ino == st.st_ino && again.st_dev == st.st_dev);
    SHOW(fstatat(fd, "", &again, AT_EMPTY_PATH));
    SHOW(fstatat(fd, "", &again, 0));
    SHOW(fstatat(fd, "x", &again, 0));
    SHOW(fstatat(AT_FDCWD, "f", &again, 0x4));
    SHOW(stat("", &st));
    SHOW(fstat(99, &st));
    nap_ms(20);
    MUST(write(fd, "xyz", 3));
    MUST(fstat(fd, &again));
    MUST(fstatat(AT_FDCWD, "f", &st, 0));
    FACT(again.st_mtim.tv_nsec != 0 || again.st_mtim.tv_sec != 0);
    FACT(st.st_mtim.tv_nsec == again.st_mtim.tv_nsec);
    struct statx sx;
    SHOW(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &sx));
    SHOW(sx.stx_size);
    SHOW(sx.stx_mode);
    FACT(sx.stx_ino == st.st_ino);
    FACT((sx.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
    FACT(makedev(sx.stx_dev_major, sx.stx_dev_minor) == st.st_dev);
    SHOW(statx(AT_FDCWD, "missing", 0, STATX_BASIC_STATS, &sx));
    SHOW(statx(AT_FDCWD, "f", 0, 0x80000000, &sx));
    SHOW(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &sx));
    struct statfs sf;
    SHOW(statfs("f", &sf));
    FACT(sf.f_namelen == 255 && sf.f_bsize > 0);
    SHOW(fstatfs(fd, &sf));
    SHOW(statfs("missing", &sf));
    SHOW(statfs("/proc", &sf) == 0 ? sf.f_type : -1);
}

PROBE(chmod_chown) {
    struct stat st;
    make_file("f", "");
    SHOW(chmod("f", 04755));
    SHOW(stat("f", &st) == 0 ? (long)st.st_mode : -1);
    SHOW(chown("f", 1000, 1001));
    MUST(stat("f", &st));
    say("%o %d %d", st.st_mode, st.st_uid, st.st_gid);
    SHOW(chown("f", -1, 5));
    MUST(stat("f", &st));
    say("%o %d %d", st.st_mode, st.st_uid, st.st_gid);
    int fd = MUST(open("f", O_RDONLY));
    SHOW(fchmod(fd, 0600));
    SHOW(fchown(fd, 0, 0));
    SHOW(fchmod(99, 0600));
    MUST(symlink("f", "s"));
    SHOW(lchown("s", 7, 8));
    MUST(lstat("s", &st));
    say("%d %d", st.st_uid, st.st_gid);
    MUST(stat("f", &st));
    say("%o %d %d", st.st_mode, st.st_uid, st.st_gid);
    SHOW(chmod("missing", 0600));
    SHOW(fchownat(fd, "", 3, 4, AT_EMPTY_PATH));
    SHOW(stat("f", &st) == 0 ? (long)st.st_uid : -1);
    umask(077);
    make_file("masked", "");
    SHOW(stat("masked", &st) == 0 ? (long)(st.st_mode & 0777) : -1);
    SHOW(umask(022));
    SHOW(mkdir("t", 01777));
    SHOW(stat("t", &st) == 0 ? (long)(st.st_mode & 07777) : -1);
    // a set-group-id folder hands its group down
    MUST(mkdir("g", 0755));
    MUST(chown("g", 0, 42));
    MUST(chmod("g", 02755));
    make_file("g/f", "");
    SHOW(stat("g/f", &st) == 0 ? (long)st.st_gid : -1);
    MUST(mkdir("g/d", 0755));
    SHOW(stat("g/d", &st) == 0 ? (long)(st.st_mode & 07777) : -1);
}

PROBE(times) {
    struct stat st;
    make_file("f", "");
    struct timespec both[2] = {{1000, 5}, {2000, 7}};
    SHOW(utimensat(AT_FDCWD, "f", both, 0));
    MUST(stat("f", &st));
    say("%ld.%ld %ld.%ld", st.st_atim.tv_sec, st.st_atim.tv_nsec, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    both[0].tv_nsec = UTIME_OMIT;
    both[1].tv_nsec = UTIME_NOW;
    SHOW(utimensat(AT_FDCWD, "f", both, 0));
    MUST(stat("f", &st));
    SHOW(st.st_atim.tv_sec);
    FACT(llabs((long long)time(NULL) - st.st_mtime) < 60);
    both[0].tv_nsec = 2000000000;
    SHOW(utimensat(AT_FDCWD, "f", both, 0));
    SHOW(utimensat(AT_FDCWD, "missing", NULL, 0));
    int fd = MUST(open("f", O_RDWR));
    SHOW(futimens(fd, NULL));
    SHOW(utimes("f", NULL));
    MUST(symlink("f", "s"));
    struct timespec link_times[2] = {{11, 0}, {22, 0}};
    SHOW(utimensat(AT_FDCWD, "s", link_times, AT_SYMLINK_NOFOLLOW));
    SHOW(lstat("s", &st) == 0 ? st.st_mtim.tv_sec : -1);
}

PROBE(path_errors) {
    struct stat st;
    char name[5000];
    memset(name, 'n', sizeof name);
    name[256] = 0;
    SHOW(open(name, O_RDONLY) == -1 ? errno == ENAMETOOLONG : 0);
    name[256] = 'n';
    name[255] = 0;
    SHOW(open(name, O_CREAT | O_WRONLY, 0644) >= 0);
    name[255] = 'n';
    for (size_t i = 0; i < sizeof name; i += 2)
        name[i] = '.', name[i + 1] = '/';
    name[4096] = 0;
    SHOW(stat(name, &st) == -1 ? errno == ENAMETOOLONG : 0);
    name[4095] = 0;
    SHOW(stat(name, &st));
    make_file("f", "");
    SHOW(stat("f/.", &st));
    SHOW(stat("f/..", &st));
    SHOW(stat("f/", &st));
    SHOW(stat("./././/f", &st));
    SHOW(stat("///tmp///probe//f", &st));
    SHOW(stat("/..", &st));
    SHOW(stat("/../../tmp/probe/f", &st));
    SHOW(access("f", F_OK));
    SHOW(access("f", R_OK | W_OK));
    SHOW(access("f", X_OK));
    SHOW(access("f", 64));
    SHOW(access("missing", F_OK));
    SHOW(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
}

PROBE(o_path) {
    char c;
    struct stat st;
    MUST(mkdir("d", 0755));
    make_file("d/f", "x");
    int fd = SHOW(open("d/f", O_PATH));
    SHOW(read(fd, &c, 1));
    SHOW(write(fd, &c, 1));
    SHOW(fstat(fd, &st));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(fchmod(fd, 0600));
    SHOW(fcntl(fd, F_GETFL) & O_PATH);
    SHOW(ioctl(fd, FIONREAD, &c));
    MUST(symlink("f", "d/s"));
    int link = SHOW(open("d/s", O_PATH | O_NOFOLLOW));
    char text[8] = {0};
    SHOW(readlinkat(link, "", text, sizeof text));
    say("%s", text);
    int folder = SHOW(open("d", O_PATH | O_DIRECTORY));
    SHOW(openat(folder, "f", O_RDONLY));
    SHOW(openat(folder, "../d/f", O_RDONLY));
    SHOW(fchdir(folder));
    SHOW(access("f", F_OK));
}

PROBE(special_files) {
    struct stat st;
    SHOW(mknod("fifo", S_IFIFO | 0600, 0));
    SHOW(stat("fifo", &st) == 0 && S_ISFIFO(st.st_mode));
    SHOW(mknod("plain", S_IFREG | 0600, 0));
    SHOW(stat("plain", &st) == 0 && S_ISREG(st.st_mode));
    SHOW(mknod("plain", S_IFREG | 0600, 0));
    SHOW(mknod("socket", S_IFSOCK | 0600, 0));
    SHOW(open("socket", O_RDWR));
    SHOW(mknod("odd", S_IFDIR | 0600, 0));
    SHOW(open("fifo", O_WRONLY | O_NONBLOCK));
    SHOW(open("fifo", O_RDONLY | O_NONBLOCK));
    SHOW(open("fifo", O_WRONLY | O_NONBLOCK));
    SHOW(write(4, "ab", 2));
    char c[4];
    SHOW(read(3, c, 4));
}

PROBE(tmpfile) {
    struct stat st;
    int fd = OK(open(".", O_TMPFILE | O_RDWR, 0600));
    SHOW(write(fd, "anonymous", 9));
    SHOW(fstat(fd, &st) == 0 ? (long)st.st_nlink : -1);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SHOW(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    say_file("named");
}

PROBE(statfs_types) {
    struct statfs sf;
    SHOW(statfs("/tmp", &sf));
    SHOW(statfs("/dev/pts", &sf) == 0 ? sf.f_type : -1);
    SHOW(statfs("/", &sf));
    FACT(sf.f_blocks > 0);
}

PROBE(chroot) {
    MUST(mkdir("jail", 0755));
    MUST(mkdir("jail/in", 0755));
    make_file("jail/f", "inside");
    make_file("outside", "outside");
    SHOW(chroot("missing"));
    SHOW(chroot("outside"));
    SHOW(chroot("jail"));
    SHOW(chdir("/"));
    say_file("/f");
    say_file("/../f");
    say_file("/../../outside");
    say_folder("/");
    MUST(symlink("/../../../outside", "/s"));
    say_file("/s");
    char here[PATH_MAX];
    say("%s", getcwd(here, sizeof here));
}
