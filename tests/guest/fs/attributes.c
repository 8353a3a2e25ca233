// Attributes: statx(2), stat(2), chmod(2), chown(2), utimensat(2), access(2), statfs(2).
#include "../probe.h"
#include <grp.h>
#include <sys/file.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <utime.h>

enum { FCHMODAT2 = 452, FACCESSAT2 = 439 };

static void say_mode(const char *path) {
    struct stat st;
    if (lstat(path, &st))
        say("%s: %s", path, strerrorname_np(errno));
    else
        say("%s: %o %d:%d", path, st.st_mode, st.st_uid, st.st_gid);
}

PROBE(statx_masks) {
    static const unsigned masks[] = {0, STATX_TYPE, STATX_SIZE, STATX_BASIC_STATS, STATX_ALL, STATX_BTIME, STATX_MNT_ID, 0x7fffffff, 0x80000000, ~0u};
    static const unsigned flags[] = {0, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC, AT_STATX_SYNC_TYPE, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW, 1, 0x10000, AT_EACCESS, AT_REMOVEDIR};
    struct statx sx;
    make_file("f", "12345");
    MUST(symlink("f", "l"));
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        SHOW(statx(AT_FDCWD, "f", 0, masks[i], &sx));
        say("%#x: basic %#x btime %d mount %d size %ld", masks[i], sx.stx_mask & STATX_BASIC_STATS & ~(STATX_MTIME | STATX_CTIME), !!(sx.stx_mask & STATX_BTIME),
            !!(sx.stx_mask & STATX_MNT_ID), (long)sx.stx_size);
    }
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        SHOW(statx(AT_FDCWD, "l", flags[i], STATX_BASIC_STATS, &sx));
        say("%#x: %o", flags[i], sx.stx_mode);
    }
    SHOW(statx(AT_FDCWD, "f", 0, STATX_ALL, unmapped));
    SHOW(statx(AT_FDCWD, unmapped, 0, STATX_ALL, &sx));
    SHOW(statx(AT_FDCWD, NULL, 0, STATX_ALL, &sx));
    SHOW(statx(AT_FDCWD, unmapped, 1, STATX_ALL, &sx));
    SHOW(statx(AT_FDCWD, "", 0, STATX_ALL, &sx));
    SHOW(statx(AT_FDCWD, "", AT_EMPTY_PATH, STATX_ALL, &sx));
    SHOW(S_ISDIR(sx.stx_mode));
    SHOW(statx(-1, "", AT_EMPTY_PATH, STATX_ALL, &sx));
    SHOW(statx(99, "f", 0, STATX_ALL, &sx));
    SHOW(statx(99, "/", 0, STATX_ALL, &sx));
    FACT(sx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
    SHOW(statx(MUST(open("f", O_RDONLY)), "f", 0, STATX_ALL, &sx));
    SHOW(statx(MUST(open("f", O_RDONLY)), "", AT_EMPTY_PATH, STATX_ALL, &sx));
    FACT(!(sx.stx_attributes & STATX_ATTR_MOUNT_ROOT) && (sx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT));
    int pipes[2];
    MUST(pipe(pipes));
    SHOW(statx(pipes[0], "", AT_EMPTY_PATH, STATX_ALL, &sx));
    say("%o %ld %u", sx.stx_mode, (long)sx.stx_size, sx.stx_nlink);
    SHOW(statx(pipes[0], "f", 0, STATX_ALL, &sx));
    SHOW(statx(AT_FDCWD, "/dev/null", 0, STATX_ALL, &sx));
    say("%u:%u", sx.stx_rdev_major, sx.stx_rdev_minor);
    struct stat st;
    SHOW(fstatat(AT_FDCWD, NULL, &st, 0));
    SHOW(fstatat(AT_FDCWD, "f", unmapped, 0));
    SHOW(fstatat(AT_FDCWD, "f", &st, AT_EACCESS));
    SHOW(fstatat(AT_FDCWD, "f", &st, AT_STATX_DONT_SYNC));
    SHOW(fstat(-1, unmapped));
    SHOW(fstat(1, unmapped));
    SHOW(stat("f", NULL));
    SHOW(lstat("", &st));
}

PROBE(link_counts) {
    struct stat st;
    MUST(mkdir("d", 0755));
    SHOW(stat("d", &st) ? -1 : (long)st.st_nlink);
    MUST(mkdir("d/a", 0755));
    MUST(mkdir("d/b", 0755));
    SHOW(stat("d", &st) ? -1 : (long)st.st_nlink);
    MUST(rename("d/a", "a"));
    SHOW(stat("d", &st) ? -1 : (long)st.st_nlink);
    MUST(rmdir("d/b"));
    SHOW(stat("d", &st) ? -1 : (long)st.st_nlink);
    make_file("f", "");
    int fd = MUST(open("f", O_RDONLY)), folder = MUST(open("d", O_RDONLY));
    MUST(link("f", "g"));
    MUST(link("f", "d/h"));
    SHOW(fstat(fd, &st) ? -1 : (long)st.st_nlink);
    MUST(rename("f", "g"));
    SHOW(fstat(fd, &st) ? -1 : (long)st.st_nlink);
    MUST(unlink("f"));
    MUST(unlink("g"));
    SHOW(fstat(fd, &st) ? -1 : (long)st.st_nlink);
    MUST(unlink("d/h"));
    SHOW(fstat(fd, &st) ? -1 : (long)st.st_nlink);
    MUST(rmdir("d"));
    SHOW(fstat(folder, &st) ? -1 : (long)st.st_nlink);
    MUST(mkdir("x", 0755));
    MUST(mkdir("y", 0755));
    folder = MUST(open("y", O_RDONLY));
    MUST(rename("x", "y"));
    SHOW(fstat(folder, &st) ? -1 : (long)st.st_nlink);
    make_file("one", "");
    make_file("two", "");
    fd = MUST(open("two", O_RDONLY));
    MUST(rename("one", "two"));
    SHOW(fstat(fd, &st) ? -1 : (long)st.st_nlink);
}

static bool later(struct timespec a, struct timespec b) { return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec); }

static struct stat before;
static void mark(const char *path) {
    MUST(stat(path, &before));
    nap_ms(15);
}
// Which of the times have moved since `mark`.
static void moved(const char *what, const char *path) {
    struct stat now;
    MUST(stat(path, &now));
    say("%s: %s%s%s", what, later(now.st_atim, before.st_atim) ? "a" : "-", later(now.st_mtim, before.st_mtim) ? "m" : "-",
        later(now.st_ctim, before.st_ctim) ? "c" : "-");
}
#define MOVES(PATH, CALL)                                                                                        \
    do {                                                                                                         \
        mark(PATH);                                                                                              \
        MUST(CALL);                                                                                              \
        moved(#CALL, PATH);                                                                                      \
    } while (0)

PROBE(which_times_move) {
    char c;
    make_file("f", "0123456789");
    MUST(mkdir("d", 0755));
    int fd = MUST(open("f", O_RDWR));
    MOVES("f", write(fd, "x", 1));
    MOVES("f", write(fd, "x", 0));
    MOVES("f", ftruncate(fd, 5));
    MOVES("f", ftruncate(fd, 5));
    MOVES("f", truncate("f", 5));
    MOVES("f", truncate("f", 7));
    MOVES("f", close(MUST(open("f", O_WRONLY | O_TRUNC))));
    MOVES("f", close(MUST(open("f", O_WRONLY | O_TRUNC))));
    MOVES("f", chmod("f", 0640));
    MOVES("f", chmod("f", 0640));
    MOVES("f", chown("f", -1, -1));
    MOVES("f", chown("f", 0, 0));
    MOVES("f", link("f", "g"));
    MOVES("f", rename("g", "h"));
    MOVES("f", unlink("h"));
    MOVES("f", utimensat(AT_FDCWD, "f", (struct timespec[2]){{0, UTIME_OMIT}, {0, UTIME_OMIT}}, 0));
    MOVES("f", utimensat(AT_FDCWD, "f", (struct timespec[2]){{0, UTIME_NOW}, {0, UTIME_OMIT}}, 0));
    MOVES("f", utimensat(AT_FDCWD, "f", (struct timespec[2]){{0, UTIME_OMIT}, {0, UTIME_NOW}}, 0));
    MOVES("f", utimensat(AT_FDCWD, "f", NULL, 0));
    MOVES("f", pwrite(fd, "abc", 3, 0));
    MOVES("f", pread(fd, &c, 1, 0));
    MOVES("f", fallocate(fd, 0, 0, 100));
    MOVES("f", fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100));
    MOVES("d", close(MUST(open("d/f", O_WRONLY | O_CREAT, 0644))));
    MOVES("d", close(MUST(open("d/f", O_WRONLY | O_CREAT, 0644))));
    MOVES("d", chmod("d/f", 0600));
    MOVES("d", link("d/f", "d/g"));
    MOVES("d", rename("d/g", "d/h"));
    MOVES("d", rename("d/h", "out"));
    MOVES("d", rename("out", "d/in"));
    MOVES("d", mkdir("d/d", 0755));
    MOVES("d", symlink("x", "d/l"));
    MOVES("d", mknod("d/p", S_IFIFO | 0600, 0));
    MOVES("d", unlink("d/p"));
    MOVES("d", rmdir("d/d"));
    MOVES("d", chmod("d", 0700));
    MOVES("d/in", rename("d/in", "d/f"));
}

PROBE(times_set) {
    struct stat st;
    make_file("f", "");
    struct timespec t[2] = {{-5, 0}, {1l << 33, 999999999}};
    SHOW(utimensat(AT_FDCWD, "f", t, 0));
    MUST(stat("f", &st));
    say("%ld %ld.%09ld", st.st_atim.tv_sec, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    static const long bad[] = {-1, 1000000000, UTIME_NOW + 1, UTIME_OMIT - 1, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        t[0].tv_nsec = bad[i];
        t[1].tv_nsec = 0;
        SHOW(utimensat(AT_FDCWD, "f", t, 0));
        t[0].tv_nsec = UTIME_OMIT;
        t[1].tv_nsec = bad[i];
        SHOW(utimensat(AT_FDCWD, "f", t, 0));
    }
    t[0] = t[1] = (struct timespec){-1, UTIME_OMIT};
    SHOW(utimensat(AT_FDCWD, "missing", t, 0));
    SHOW(utimensat(99, "missing", t, 99));
    SHOW(utimensat(99, NULL, t, 0));
    t[0] = t[1] = (struct timespec){100, 0};
    SHOW(utimensat(AT_FDCWD, "f", t, 99));
    SHOW(utimensat(AT_FDCWD, "f", unmapped, 99));
    SHOW(utimensat(AT_FDCWD, unmapped, t, 0));
    SHOW(syscall(SYS_utimensat, AT_FDCWD, NULL, t, 0));
    SHOW(syscall(SYS_utimensat, AT_FDCWD, NULL, NULL, 0));
    int fd = MUST(open("f", O_RDONLY)), path = MUST(open("f", O_PATH)), pipes[2];
    MUST(pipe(pipes));
    SHOW(syscall(SYS_utimensat, fd, NULL, t, 0));
    SHOW(syscall(SYS_utimensat, fd, NULL, t, AT_SYMLINK_NOFOLLOW));
    SHOW(syscall(SYS_utimensat, fd, NULL, t, AT_EMPTY_PATH));
    SHOW(syscall(SYS_utimensat, fd, "", t, AT_EMPTY_PATH));
    SHOW(syscall(SYS_utimensat, fd, "", t, 0));
    SHOW(syscall(SYS_utimensat, path, NULL, t, 0));
    SHOW(syscall(SYS_utimensat, path, "", t, AT_EMPTY_PATH));
    SHOW(syscall(SYS_utimensat, pipes[0], NULL, t, 0));
    SHOW(syscall(SYS_utimensat, -1, NULL, t, 0));
    struct timeval v[2] = {{5, 7}, {6, 1000000}};
    SHOW(utimes("f", v));
    v[1].tv_usec = -1;
    SHOW(utimes("missing", v));
    v[1].tv_usec = 999999;
    SHOW(utimes("f", v));
    MUST(stat("f", &st));
    say("%ld.%09ld %ld.%09ld", st.st_atim.tv_sec, st.st_atim.tv_nsec, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    SHOW(syscall(SYS_utimes, "f", unmapped));
    SHOW(syscall(SYS_futimesat, fd, NULL, v));
    SHOW(syscall(SYS_futimesat, AT_FDCWD, NULL, v));
    SHOW(syscall(SYS_futimesat, AT_FDCWD, "f", v));
    SHOW(utime("f", &(struct utimbuf){1, 2}));
    SHOW(syscall(SYS_utime, "f", unmapped));
    SHOW(syscall(SYS_utime, "missing", unmapped));
    MUST(stat("f", &st));
    say("%ld %ld", (long)st.st_atime, (long)st.st_mtime);
}

static void as_user(void) {
    gid_t groups[] = {500, 501};
    MUST(setgroups(2, groups));
    MUST(setgid(1000));
    MUST(setuid(1000));
    struct timespec fixed[2] = {{1, 0}, {2, 0}}, now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}}, half[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
    SHOW(chmod("root", 0777));
    SHOW(chmod("mine", 06755));
    say_mode("mine");
    SHOW(chmod("mine500", 02755));
    say_mode("mine500");
    SHOW(chmod("mine600", 02755));
    say_mode("mine600");
    SHOW(chmod("mine600", 06755));
    say_mode("mine600");
    SHOW(chmod("mine", 01777));
    say_mode("mine");
    SHOW(chown("mine", 1000, -1));
    say_mode("mine");
    SHOW(chown("mine", -1, 501));
    say_mode("mine");
    SHOW(chown("mine", -1, 502));
    SHOW(chown("mine", 1001, -1));
    SHOW(chown("mine600", -1, 600));
    SHOW(chown("mine600", 1000, 600));
    SHOW(chown("root", -1, -1));
    SHOW(chown("root", 0, -1));
    SHOW(chown("root", -1, 1000));
    SHOW(chown("minedir", -1, 500));
    say_mode("minedir");
    SHOW(utimensat(AT_FDCWD, "mine", fixed, 0));
    SHOW(utimensat(AT_FDCWD, "root", fixed, 0));
    SHOW(utimensat(AT_FDCWD, "root", now, 0));
    SHOW(utimensat(AT_FDCWD, "root", NULL, 0));
    SHOW(utimensat(AT_FDCWD, "root", half, 0));
    SHOW(utimensat(AT_FDCWD, "writable", fixed, 0));
    SHOW(utimensat(AT_FDCWD, "writable", now, 0));
    SHOW(utimensat(AT_FDCWD, "writable", NULL, 0));
    SHOW(utimensat(AT_FDCWD, "writable", half, 0));
    SHOW(utimes("writable", NULL));
    SHOW(chmod("closed/f", 0777));
    SHOW(truncate("closed/f", 0));
    SHOW(access("root", R_OK));
    SHOW(access("root", W_OK));
    SHOW(access("writable", W_OK));
    SHOW(access("closed", R_OK));
    SHOW(access("closed/f", F_OK));
    SHOW(access("group500", R_OK));
    SHOW(access("group500", W_OK));
    SHOW(access("groupdeny", R_OK));
    SHOW(access("ownerdeny", R_OK));
    SHOW(open("groupdeny", O_RDONLY));
    SHOW(open("ownerdeny", O_RDONLY));
    SHOW(fchmod(MUST(open("writable", O_RDWR)), 0));
    SHOW(fchown(MUST(open("writable", O_RDWR)), 1000, 1000));
    SHOW(futimens(MUST(open("writable", O_RDONLY)), fixed));
    SHOW(futimens(MUST(open("root", O_RDONLY)), NULL));
}

PROBE(attribute_permissions) {
    static const struct {
        const char *name;
        int mode, uid, gid;
    } files[] = {{"root", 0644, 0, 0},         {"mine", 0644, 1000, 1000},     {"mine500", 0644, 1000, 500}, {"mine600", 0644, 1000, 600},
                 {"writable", 0666, 0, 0},     {"group500", 0040, 0, 500},     {"groupdeny", 0604, 0, 501},  {"ownerdeny", 0044, 1000, 1000}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        make_file(files[i].name, "x");
        MUST(chown(files[i].name, files[i].uid, files[i].gid));
        MUST(chmod(files[i].name, files[i].mode));
    }
    MUST(mkdir("minedir", 0755));
    MUST(chown("minedir", 1000, 1000));
    MUST(chmod("minedir", 02755));
    MUST(mkdir("closed", 0700));
    make_file("closed/f", "x");
    in_child("user", as_user);
}

PROBE(chmod_chown_calls) {
    make_file("f", "x");
    MUST(symlink("f", "l"));
    MUST(symlink("no", "dangling"));
    int fd = MUST(open("f", O_RDONLY)), path = MUST(open("f", O_PATH)), link = MUST(open("l", O_PATH | O_NOFOLLOW)), pipes[2];
    MUST(pipe(pipes));
    SHOW(chmod("f", 0177777));
    say_mode("f");
    SHOW(chmod("f", -1));
    say_mode("f");
    SHOW(fchmod(fd, 0644));
    SHOW(fchmod(path, 0644));
    SHOW(fchmod(pipes[0], 0644));
    SHOW(fchown(pipes[0], 1, 1));
    struct stat st;
    MUST(fstat(pipes[0], &st));
    say("%o %d", st.st_mode, st.st_uid);
    SHOW(chmod(unmapped, 0));
    SHOW(syscall(FCHMODAT2, AT_FDCWD, unmapped, 0, 1));
    SHOW(syscall(FCHMODAT2, AT_FDCWD, "f", 0600, AT_SYMLINK_NOFOLLOW));
    SHOW(syscall(FCHMODAT2, AT_FDCWD, "l", 0600, AT_SYMLINK_NOFOLLOW));
    SHOW(syscall(FCHMODAT2, AT_FDCWD, "dangling", 0600, 0));
    SHOW(syscall(FCHMODAT2, path, "", 0611, AT_EMPTY_PATH));
    SHOW(syscall(FCHMODAT2, path, "", 0611, 0));
    SHOW(syscall(FCHMODAT2, link, "", 0611, AT_EMPTY_PATH));
    SHOW(syscall(FCHMODAT2, pipes[0], "", 0611, AT_EMPTY_PATH));
    SHOW(syscall(FCHMODAT2, -1, "", 0611, AT_EMPTY_PATH));
    say_mode("f");
    SHOW(lchown("l", 5, 6));
    say_mode("l");
    SHOW(fchownat(AT_FDCWD, "l", 7, 8, 0));
    SHOW(fchownat(AT_FDCWD, "l", 9, 10, AT_SYMLINK_NOFOLLOW));
    SHOW(fchownat(link, "", 11, 12, AT_EMPTY_PATH));
    SHOW(fchownat(AT_FDCWD, "", 11, 12, AT_EMPTY_PATH));
    SHOW(fchownat(AT_FDCWD, "f", 11, 12, AT_SYMLINK_FOLLOW));
    SHOW(fchownat(AT_FDCWD, unmapped, 11, 12, 1));
    say_mode("l");
    say_mode("f");
    say_mode(".");
    SHOW(chown("f", -2, -3));
    say_mode("f");
    SHOW(syscall(FACCESSAT2, AT_FDCWD, "f", R_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW));
    SHOW(syscall(FACCESSAT2, AT_FDCWD, "f", R_OK, 1));
    SHOW(syscall(FACCESSAT2, AT_FDCWD, "f", 8, 0));
    SHOW(syscall(FACCESSAT2, AT_FDCWD, unmapped, 8, 1));
    SHOW(syscall(FACCESSAT2, path, "", R_OK, AT_EMPTY_PATH));
    SHOW(syscall(FACCESSAT2, -1, "", R_OK, AT_EMPTY_PATH));
    SHOW(syscall(SYS_faccessat, AT_FDCWD, "f", R_OK, -1));
    SHOW(access("f", -1));
    SHOW(umask(0177777));
    SHOW(umask(022));
}

PROBE(stat_file_systems) {
    struct statfs sf;
    struct statvfs sv;
    make_file("f", "x");
    int fd = MUST(open("f", O_PATH)), pipes[2];
    MUST(pipe(pipes));
    SHOW(statfs("f", &sf));
    FACT(sf.f_bsize > 0 && sf.f_frsize > 0 && sf.f_namelen == 255 && sf.f_blocks >= sf.f_bfree && sf.f_bfree >= sf.f_bavail);
    FACT(sf.f_files >= sf.f_ffree);
    SHOW(fstatfs(fd, &sf));
    SHOW(fstatfs(pipes[0], &sf));
    say("%#lx %ld %ld", (long)sf.f_type, (long)sf.f_bsize, (long)sf.f_namelen);
    SHOW(fstatfs(MUST(memfd_create("m", 0)), &sf));
    say("%#lx", (long)sf.f_type);
    static const char *const others[] = {"/proc", "/sys", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/null"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        SHOW(statvfs(others[i], &sv));
        MUST(statfs(others[i], &sf));
        say("%s: type %#lx bsize %ld namelen %ld", others[i], (long)sf.f_type, (long)sf.f_bsize, (long)sf.f_namelen);
    }
    SHOW(statfs("f", unmapped));
    SHOW(statfs(unmapped, &sf));
    SHOW(statfs("f/x", &sf));
    SHOW(statfs("", &sf));
    SHOW(fstatfs(-1, unmapped));
    SHOW(fstatfs(0, unmapped));
    SHOW(syscall(SYS_ustat, 0, &sf) == -1);
    SHOW(syscall(SYS_sysfs, 3) == -1 || 1);
}
