// Calls at random, with arguments at random, from a seed: whatever the order, the results are Linux's.
//
// Times, inode numbers and sizes of folders are not shown; nothing waits.
#include "../probe.h"
#include <dirent.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

static uint64_t state;

static unsigned below(unsigned n) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (unsigned)(state >> 33) % n;
}

static const char *const names[] = {"a", "b", "c", "d", "e"};
static const char *const odd[] = {"", ".", "..", "a/", "b/.", "c/..", "d//e", "./a/b", "/", "a/b/c/d", "missing/a"};

static const char *some_path(void) {
    static char paths[8][64];
    static int next;
    char *path = paths[next++ % 8];
    unsigned kind = below(20);
    if (kind == 0)
        return odd[below(sizeof odd / sizeof *odd)];
    if (kind < 9)
        return names[below(5)];
    sprintf(path, "%s/%s", names[below(5)], names[below(5)]);
    if (kind > 17)
        sprintf(path + strlen(path), "/%s", names[below(5)]);
    return path;
}

#define FDS 6
static int some_fd(void) { return below(15) == 0 ? -1 : 10 + (int)below(FDS); }

static int some_folder(void) { return below(3) ? AT_FDCWD : some_fd(); }

static off_t some_offset(void) {
    static const off_t offsets[] = {0, 1, 7, 100, 4095, 4096, 5000, 8192, 20000, -1, 70000};
    return offsets[below(sizeof offsets / sizeof *offsets)];
}

static size_t some_size(void) {
    static const size_t sizes[] = {0, 1, 3, 10, 100, 4096, 5000, 9000};
    return sizes[below(sizeof sizes / sizeof *sizes)];
}

static int some_mode(void) {
    static const int modes[] = {0644, 0600, 0777, 0000, 0444, 02755, 04711, 01777, 0070};
    return modes[below(sizeof modes / sizeof *modes)];
}

static int open_flags(void) {
    static const int bits[] = {O_CREAT, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_CLOEXEC};
    int flags = (int)below(3) | O_NONBLOCK;
    for (unsigned i = below(4); i; i--)
        flags |= bits[below(sizeof bits / sizeof *bits)];
    return flags;
}

static char buffer[10000];

static unsigned checksum(const char *data, long n) {
    unsigned sum = 17;
    for (long i = 0; i < n; i++)
        sum = sum * 31 + (unsigned char)data[i];
    return sum;
}

static void stat_text(char *out, const struct stat *st) {
    sprintf(out, "%o %ld %d:%d %ld", st->st_mode, (long)st->st_nlink, st->st_uid, st->st_gid, S_ISDIR(st->st_mode) ? 0L : (long)st->st_size);
    if (S_ISDIR(st->st_mode)) // what a folder's links count is each file system's own affair
        sprintf(out, "%o %d:%d", st->st_mode, st->st_uid, st->st_gid);
}

static void one_call(int step) {
    char more[256] = "", what[64];
    const char *a = some_path(), *b = some_path();
    int fd = some_fd(), fd2 = some_fd(), dir = some_folder(), dir2 = some_folder();
    off_t offset = some_offset(), offset2 = some_offset();
    size_t size = some_size();
    struct stat st;
    long got = 0;
    unsigned call = below(46);
#define DO(NAME, EXPR)                                                                                           \
    strcpy(what, NAME);                                                                                          \
    got = (EXPR);                                                                                                \
    break
    switch (call) {
    case 0: case 1: case 2: case 3: case 4: case 5: {
        int flags = open_flags(), opened = openat(dir, a, flags, some_mode()), number = errno;
        sprintf(what, "open %#x", flags);
        if (opened >= 0) {
            dup3(opened, fd < 0 ? 10 : fd, flags & O_CLOEXEC);
            close(opened);
            opened = 0;
        }
        errno = number;
        got = opened;
        break;
    }
    case 6: DO("mkdir", mkdirat(dir, a, some_mode()));
    case 7: DO("mkdir", mkdirat(dir, a, 0755));
    case 8: DO("rmdir", unlinkat(dir, a, AT_REMOVEDIR));
    case 9: case 10: DO("unlink", unlinkat(dir, a, 0));
    case 11: case 12: DO("rename", renameat(dir, a, dir2, b));
    case 13: { static const int flags[] = {RENAME_NOREPLACE, RENAME_EXCHANGE, 3, 8}; DO("renameat2", renameat2(dir, a, dir2, b, flags[below(4)])); }
    case 14: case 15: DO("link", linkat(dir, a, dir2, b, below(3) ? 0 : AT_SYMLINK_FOLLOW));
    case 16: DO("symlink", symlinkat(b, dir, a));
    case 17: got = readlinkat(dir, a, more, sizeof more - 1); strcpy(what, "readlink"); more[got < 0 ? 0 : got] = 0; break;
    case 18: DO("mknod", mknodat(dir, a, (below(2) ? S_IFIFO : S_IFREG) | some_mode(), 0));
    case 19: case 20: case 21: got = write(fd, buffer, size); strcpy(what, "write"); break;
    case 22: DO("pwrite", pwrite(fd, buffer + 1, size, offset));
    case 23: case 24: got = read(fd, buffer, size); strcpy(what, "read"); if (got > 0) sprintf(more, "%u", checksum(buffer, got)); break;
    case 25: got = pread(fd, buffer, size, offset); strcpy(what, "pread"); if (got > 0) sprintf(more, "%u", checksum(buffer, got)); break;
    case 26: {
        bool folder = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
        DO("lseek", folder ? 0 : lseek(fd, offset, (int)below(3)));
    }
    case 27: DO("ftruncate", ftruncate(fd, offset));
    case 28: DO("truncate", truncate(a, offset));
    case 29: { static const int modes[] = {0, 1, 3, 2, 0x10}; DO("fallocate", fallocate(fd, modes[below(4)], offset, (off_t)size)); }
    case 30: got = fstatat(dir, a, &st, below(2) ? 0 : AT_SYMLINK_NOFOLLOW); strcpy(what, "stat"); if (!got) stat_text(more, &st); break;
    case 31: got = fstat(fd, &st); strcpy(what, "fstat"); if (!got) stat_text(more, &st); break;
    case 32: DO("chmod", fchmodat(dir, a, some_mode(), 0));
    case 33: DO("fchmod", fchmod(fd, some_mode()));
    case 34: DO("chown", fchownat(dir, a, (int)below(3) - 1, (int)below(3) - 1, below(2) ? 0 : AT_SYMLINK_NOFOLLOW));
    case 35: DO("access", faccessat(dir, a, (int)below(8), 0));
    case 36: DO("setxattr", setxattr(a, below(2) ? "user.x" : "user.y", buffer, below(20), (int)below(4)));
    case 37: got = getxattr(a, below(2) ? "user.x" : "user.y", buffer, 30); strcpy(what, "getxattr"); break;
    case 38: DO("removexattr", removexattr(a, below(2) ? "user.x" : "user.y"));
    case 39: got = copy_file_range(fd, below(2) ? &offset : NULL, fd2, below(2) ? &offset2 : NULL, size, 0); strcpy(what, "copy_file_range"); break;
    case 40: got = sendfile(fd, fd2, below(2) ? &offset : NULL, size); strcpy(what, "sendfile"); break;
    case 41: DO("utimensat", utimensat(dir, a, NULL, below(2) ? 0 : AT_SYMLINK_NOFOLLOW));
    case 42: DO("flock", flock(fd, (below(2) ? LOCK_SH : LOCK_EX) | LOCK_NB));
    case 43: { struct flock lock = {.l_type = (short)below(3), .l_start = offset, .l_len = (off_t)size}; DO("lock", fcntl(fd, F_OFD_SETLK, &lock)); }
    case 44: DO("fsync", fsync(fd));
    default: DO("close", close(fd));
    }
    say("%d %s %s %s %d %d %ld %zu = %s %s", step, what, a, b, dir == AT_FDCWD ? 0 : dir, fd, (long)offset, size,
        got == -1 ? strerrorname_np(errno) : "", more);
    if (got != -1)
        say("    %ld", got);
}

static int by_name(const struct dirent **x, const struct dirent **y) { return strcmp((*x)->d_name, (*y)->d_name); }

static void say_tree(const char *path, int depth) {
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, by_name);
    for (int i = 0; i < n; i++) {
        char below_it[PATH_MAX], text[128] = "";
        struct stat st;
        if (entries[i]->d_name[0] != '.') {
            snprintf(below_it, sizeof below_it, "%s/%s", path, entries[i]->d_name);
            if (lstat(below_it, &st) == 0)
                stat_text(text, &st);
            say("%s %s", below_it, text);
            if (S_ISDIR(st.st_mode) && depth < 6)
                say_tree(below_it, depth + 1);
        }
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
}

static void play(unsigned seed, int uid) {
    state = seed * 0x9e3779b97f4a7c15ull + 1;
    for (size_t i = 0; i < sizeof buffer; i++)
        buffer[i] = (char)(i * 7 + i / 256);
    umask(022);
    if (uid) {
        MUST(chmod(".", 0777));
        MUST(setgid(1000));
        MUST(setuid(1000));
    }
    for (int step = 0; step < 700; step++) {
        one_call(step);
        if (step % 100 == 99)
            say_tree(".", 0);
    }
}

PROBE(chance_1) { play(1, 0); }
PROBE(chance_2) { play(2, 0); }
PROBE(chance_3) { play(3, 0); }
PROBE(chance_4) { play(4, 0); }
PROBE(chance_5) { play(5, 1000); }
PROBE(chance_6) { play(6, 1000); }
