// Every call that takes a name, with every shape a name can have: a table of results for each.
//
// A row is one call, a column one shape.
#include "../probe.h"
#include <ftw.h>
#include <sys/inotify.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <utime.h>

static const char *const shapes[] = {
    "f",          "f/",        "f/.",       "f/..",     "f/x",     "d",         "d/",         "d/.",      "d/..",   "d//.//",
    "full",       "full/",     "full/x",    "full/x/",  "full/y",  "lf",        "lf/",        "lf/x",     "ld",     "ld/",
    "ld/.",       "ld/y",      "dangling",  "dangling/", "deep",   "loop",      "loop/",      "loop/x",   "no",     "no/",
    "no/.",       "no/x",      "d/no",      "d/no/",    "",        ".",         "..",         "./",       "../",    "/",
    "//",         "/.",        "/..",       "fifo",     "fifo/",   "sock",      "self/f",     "self/no",  "up/f",   "toslash",
    "toslash/proc",
};

static void make_tree(void) {
    make_file("f", "content");
    MUST(mkdir("d", 0755));
    MUST(mkdir("full", 0755));
    make_file("full/x", "x");
    MUST(symlink("f", "lf"));
    MUST(symlink("full", "ld"));
    MUST(symlink("nowhere", "dangling"));
    MUST(symlink("full/none/none", "deep"));
    MUST(symlink("loop", "loop"));
    MUST(mknod("fifo", S_IFIFO | 0644, 0));
    MUST(mknod("sock", S_IFSOCK | 0644, 0));
    MUST(symlink(".", "self"));
    MUST(symlink("full/..", "up"));
    MUST(symlink("/", "toslash"));
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static const char *result(long got) {
    static char text[32];
    if (got == -1)
        return strerrorname_np(errno) ? strerrorname_np(errno) : "?";
    snprintf(text, sizeof text, "%ld", got);
    return text;
}

// What the tree looks like, in one word: which of the names exist, as which type.
static const char *tree_state(void) {
    static const char *const names[] = {"f", "d", "full", "full/x", "full/y", "lf",   "ld",   "dangling", "nowhere", "deep",
                                        "no", "no/x", "d/no", "fifo", "sock", "new"};
    static char state[64];
    size_t n = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct stat st;
        state[n++] = lstat(names[i], &st) ? '-' : "?pc?d?b?f?l?s???"[st.st_mode >> 12];
    }
    state[n] = 0;
    return state;
}

static void fresh_tree(void) {
    MUST(chdir(".."));
    MUST(nftw("tree", remove_one, 16, FTW_DEPTH | FTW_PHYS));
    MUST(mkdir("tree", 0755));
    MUST(chdir("tree"));
    make_tree();
}

// One row: the call on every shape. What a call that `changes` has changed is made anew before the next.
static void row(const char *what, long (*call)(const char *path), bool changes) {
    MUST(mkdir("tree", 0755));
    MUST(chdir("tree"));
    make_tree();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        long got = call(shapes[i]);
        const char *text = result(got);
        if (changes)
            say("%s(\"%s\") = %s %s", what, shapes[i], text, tree_state());
        else
            say("%s(\"%s\") = %s", what, shapes[i], text);
        close_range(3, ~0u, 0);
        if (changes && got != -1)
            fresh_tree();
    }
}

#define ROW(NAME, CHANGES, EXPR)                                                                                 \
    static long call_##NAME(const char *path) { return (EXPR); }                                                 \
    PROBE(NAME) { row(#NAME, call_##NAME, CHANGES); }

static struct stat st;
static struct statx sx;
static char buffer[256];

#define OPENED(FLAGS) (open(path, FLAGS, 0644) == -1 ? -1 : 0)
ROW(on_open_read, false, OPENED(O_RDONLY | O_NONBLOCK))
ROW(on_open_write, false, OPENED(O_WRONLY | O_NONBLOCK))
ROW(on_open_trunc, true, OPENED(O_WRONLY | O_TRUNC | O_NONBLOCK))
ROW(on_open_creat, true, OPENED(O_RDWR | O_CREAT | O_NONBLOCK))
ROW(on_open_creat_read, true, OPENED(O_RDONLY | O_CREAT | O_NONBLOCK))
ROW(on_open_excl, true, OPENED(O_RDWR | O_CREAT | O_EXCL))
ROW(on_open_creat_nofollow, true, OPENED(O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK))
ROW(on_open_nofollow, false, OPENED(O_RDONLY | O_NOFOLLOW | O_NONBLOCK))
ROW(on_open_directory, false, OPENED(O_RDONLY | O_DIRECTORY))
ROW(on_open_directory_nofollow, false, OPENED(O_RDONLY | O_DIRECTORY | O_NOFOLLOW))
ROW(on_open_creat_directory, true, OPENED(O_RDONLY | O_CREAT | O_DIRECTORY))
ROW(on_open_path, false, OPENED(O_PATH))
ROW(on_open_path_nofollow, false, OPENED(O_PATH | O_NOFOLLOW))
ROW(on_open_path_directory_nofollow, false, OPENED(O_PATH | O_DIRECTORY | O_NOFOLLOW))
ROW(on_open_creat_path, true, OPENED(O_PATH | O_CREAT))
ROW(on_open_tmpfile, true, OPENED(O_TMPFILE | O_RDWR))
ROW(on_creat, true, strcmp(path, "fifo") == 0 ? 0 : creat(path, 0644) == -1 ? -1 : 0) // would wait for a reader
ROW(on_stat, false, stat(path, &st) ? -1 : (long)(st.st_mode & S_IFMT))
ROW(on_lstat, false, lstat(path, &st) ? -1 : (long)(st.st_mode & S_IFMT))
ROW(on_statx, false, statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &sx) ? -1 : (long)(sx.stx_mode & S_IFMT))
ROW(on_fstatat_empty, false, fstatat(AT_FDCWD, path, &st, AT_EMPTY_PATH) ? -1 : (long)(st.st_mode & S_IFMT))
ROW(on_access, false, access(path, F_OK))
ROW(on_access_write, false, access(path, R_OK | W_OK))
ROW(on_access_exec, false, access(path, X_OK))
ROW(on_faccessat_nofollow, false, syscall(SYS_faccessat2, AT_FDCWD, path, R_OK, AT_SYMLINK_NOFOLLOW))
ROW(on_readlink, false, readlink(path, buffer, sizeof buffer))
ROW(on_mkdir, true, mkdir(path, 0755))
ROW(on_rmdir, true, rmdir(path))
ROW(on_unlink, true, unlink(path))
ROW(on_mknod, true, mknod(path, S_IFREG | 0644, 0))
ROW(on_mkfifo, true, mknod(path, S_IFIFO | 0644, 0))
ROW(on_symlink, true, symlink("f", path))
ROW(on_link_from, true, link(path, "new"))
ROW(on_link_follow, true, linkat(AT_FDCWD, path, AT_FDCWD, "new", AT_SYMLINK_FOLLOW))
ROW(on_link_to, true, link("f", path))
ROW(on_link_dir_to, true, link("d", path))
ROW(on_rename_from, true, rename(path, "new"))
ROW(on_rename_from_slash, true, rename(path, "new/"))
ROW(on_rename_file_to, true, rename("f", path))
ROW(on_rename_dir_to, true, rename("d", path))
ROW(on_rename_link_to, true, rename("lf", path))
ROW(on_rename_full_to, true, rename("full", path))
ROW(on_rename_missing_to, true, rename("missing", path))
ROW(on_rename_noreplace, true, renameat2(AT_FDCWD, "f", AT_FDCWD, path, RENAME_NOREPLACE))
ROW(on_rename_noreplace_from, true, renameat2(AT_FDCWD, path, AT_FDCWD, "new", RENAME_NOREPLACE))
ROW(on_exchange_file, true, renameat2(AT_FDCWD, "f", AT_FDCWD, path, RENAME_EXCHANGE))
ROW(on_exchange_dir, true, renameat2(AT_FDCWD, path, AT_FDCWD, "d", RENAME_EXCHANGE))
ROW(on_truncate, true, truncate(path, 3))

static long go_and_return(const char *path) {
    int here = MUST(open(".", O_PATH));
    long got = chdir(path);
    int number = errno;
    MUST(fchdir(here));
    errno = number;
    return got;
}
ROW(on_chdir, false, go_and_return(path))
ROW(on_chmod, false, chmod(path, 0700))
ROW(on_fchmodat_nofollow, false, syscall(452, AT_FDCWD, path, 0700, AT_SYMLINK_NOFOLLOW))
ROW(on_chown, false, chown(path, 1, 1))
ROW(on_lchown, false, lchown(path, 1, 1))
ROW(on_utime, false, utime(path, NULL))
ROW(on_utimensat_nofollow, false, utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW))
ROW(on_getxattr, false, getxattr(path, "user.none", buffer, sizeof buffer))
ROW(on_lsetxattr, false, lsetxattr(path, "user.some", "1", 1, 0))
ROW(on_listxattr, false, listxattr(path, buffer, sizeof buffer))
ROW(on_statfs, false, statfs(path, &(struct statfs){0}))
ROW(on_execve, false, execve(path, NULL, NULL))
ROW(on_inotify, false, inotify_add_watch(inotify_init(), path, IN_MODIFY))
ROW(on_inotify_onlydir, false, inotify_add_watch(inotify_init(), path, IN_MODIFY | IN_ONLYDIR | IN_DONT_FOLLOW))
