/* The cache of names as nc_fast answers for it: a small tree with a mount, symbolic links and absences. */
#include "harness.h"
#include "names.h"

#include <limits.h>

#define CALL(...) guest_call(task, __VA_ARGS__, 0ul, 0ul, 0ul, 0ul, 0ul, 0ul)
#define P(pointer) ((uint64_t)(uintptr_t)(pointer))
#define CWD ((uint64_t)(int64_t)AT_FDCWD)
#define COUNT(array) (sizeof array / sizeof *array)

enum { ROOT, DIR, FILE_, LINK, LOOP, ABSENT, MOUNTED, IN, GUARDED, TMP, NODES };
static struct nc_node nodes[NODES];
static struct nc_name names[NODES];
static struct nc_mount root_mount = {.id = 1}, mounted = {.id = 2};
static nc_task *task;
static nc_fdt *fdt;
static nc_fs *fs;

static void name(int which, int parent, const char *text, uint32_t mode) {
    names[which].id = (uint64_t)which + 100;
    if (mode) {
        nodes[which] = (struct nc_node){.mode = mode, .btime_ns = 1};
        names[which].node = &nodes[which];
        nc_node_set(&nodes[which], 7, (uint64_t)which, 1, 0, 10, 4096, 8, -1, 1500000000, 2000000000);
    }
    if (text) nc_name_hash(&names[which], &names[parent], text, (int)strlen(text));
}

static void target(int which, const char *text) {
    nodes[which].target = text;
    nodes[which].target_len = (uint32_t)strlen(text);
}

/* /dir/file, /dir/link -> ../dir/file, /dir/loop -> loop, /dir/absent (known), /mnt (covered) /mnt/in, /tmp (sticky) */
static void begin(void) {
    memset(names, 0, sizeof names);
    memset(nodes, 0, sizeof nodes);
    name(ROOT, 0, NULL, S_IFDIR | 0755);
    name(DIR, ROOT, "dir", S_IFDIR | 0711);
    name(FILE_, DIR, "file", S_IFREG | 0640);
    name(LINK, DIR, "link", S_IFLNK | 0777);
    target(LINK, "../dir/file");
    name(LOOP, DIR, "loop", S_IFLNK | 0777);
    target(LOOP, "loop");
    name(ABSENT, DIR, "absent", 0);
    name(MOUNTED, 0, NULL, S_IFDIR | 0755);
    name(IN, MOUNTED, "in", S_IFREG | 0644);
    name(GUARDED, ROOT, "mnt", S_IFDIR | 0755);
    name(TMP, ROOT, "tmp", S_IFDIR | S_ISVTX | 0777);
    root_mount.root = &names[ROOT];
    mounted.root = &names[MOUNTED];
    nc_mount_attach(&mounted, &root_mount, &names[GUARDED]);
    fdt = nc_fdt_new(64);
    task = nc_task_new((int)syscall(SYS_gettid), fdt);
    fs = nc_fs_new();
    nc_fs_set(fs, &root_mount, &names[ROOT], &root_mount, &names[DIR]);
    nc_rights *rights = nc_rights_new(0, 0, NULL, 0, NC_DAC_OVERRIDE | NC_REAL_IDS);
    nc_task_set_view(task->tid, fs, rights);
    nc_rights_free(rights);
}

static void become(uint32_t uid, uint32_t gid, int capabilities) {
    nc_rights *rights = nc_rights_new(uid, 1000, &gid, 1, capabilities);
    nc_task_set_view(task->tid, fs, rights);
    nc_rights_free(rights);
}

static void end(void) {
    nc_mount_detach(&mounted);
    for (int i = 0; i < NODES; i++) nc_name_unhash(&names[i]);
    SAME(nc_names_count(), 0);
    nc_task_free(task->tid);
    nc_fs_free(fs);
    nc_fdt_clear(fdt);
    nc_fdt_free(fdt);
    drain();
}

static int64_t ino_of(const char *path, bool follow) {
    struct stat stat;
    int64_t error = CALL(SYS_newfstatat, CWD, P(path), P(&stat), follow ? 0ul : (uint64_t)AT_SYMLINK_NOFOLLOW);
    return error ? error : (int64_t)stat.st_ino;
}

static void test_paths_lead_where_they_should(void) {
    begin();
    const struct { const char *path; int64_t plain, followed; } paths[] = {
        {"/", ROOT, ROOT},
        {"//", ROOT, ROOT},
        {".", DIR, DIR},
        {"file", FILE_, FILE_},
        {"./file", FILE_, FILE_},
        {"/dir//file", FILE_, FILE_},
        {"/dir/", DIR, DIR},
        {"file/", TO_PYTHON, TO_PYTHON},
        {"file/x", TO_PYTHON, TO_PYTHON},
        {"..", ROOT, ROOT},
        {"../../..", ROOT, ROOT},
        {"link", LINK, FILE_},
        {"link/", TO_PYTHON, TO_PYTHON},
        {"loop", LOOP, TO_PYTHON},
        {"absent", -ENOENT, -ENOENT},
        {"absent/x", -ENOENT, -ENOENT},
        {"unknown", TO_PYTHON, TO_PYTHON},
        {"/mnt", MOUNTED, MOUNTED},
        {"/mnt/in", IN, IN},
        {"/mnt/..", ROOT, ROOT},
        {"/mnt/../dir/link", LINK, FILE_},
        {"", TO_PYTHON, TO_PYTHON},
    };
    for (size_t i = 0; i < COUNT(paths); i++) {
        if (ino_of(paths[i].path, false) != paths[i].plain || ino_of(paths[i].path, true) != paths[i].followed)
            fprintf(stderr, "path %s\n", paths[i].path);
        SAME(ino_of(paths[i].path, false), paths[i].plain);
        SAME(ino_of(paths[i].path, true), paths[i].followed);
    }
    SAME(CALL(SYS_stat, 0x1000ul, P(paths)), TO_PYTHON);
    SAME(CALL(SYS_stat, P("file"), 0x1000ul), -EFAULT);
    end();
}

static void test_long_names_and_paths_are_for_python(void) {
    begin();
    static char path[PATH_MAX + 1];
    memset(path, 'x', 300);
    SAME(ino_of(path, true), TO_PYTHON);
    memset(path, '/', PATH_MAX - 1);
    SAME(ino_of(path, true), ROOT);
    memset(path, 'x', PATH_MAX);
    SAME(ino_of(path, true), TO_PYTHON);
    /* A link's text and the rest of the path share the space for them. */
    memset(path, '/', PATH_MAX - 1);
    path[PATH_MAX - 1] = 0;
    memcpy(path, "link", 4);
    target(LINK, path + 4);
    SAME(ino_of("link", true), ROOT);
    SAME(ino_of(path, true), ROOT);
    end();
}

static void test_only_those_who_may_search_are_answered(void) {
    begin();
    become(5, 5, 0);
    SAME(ino_of("file", true), FILE_);
    nodes[DIR].mode = S_IFDIR | 0710;
    SAME(ino_of("file", true), TO_PYTHON);
    nodes[DIR].gid = 5;
    SAME(ino_of("file", true), FILE_); /* by a supplementary group */
    nodes[DIR].uid = 5;
    nodes[DIR].mode = S_IFDIR | 0077;
    SAME(ino_of("file", true), TO_PYTHON); /* the owner's bits count for the owner */
    become(5, 5, NC_DAC_READ_SEARCH);
    SAME(ino_of("file", true), FILE_);
    nodes[DIR].opaque = 1;
    SAME(ino_of("file", true), TO_PYTHON);
    end();
}

static void test_a_link_in_a_sticky_directory_is_for_python(void) {
    begin();
    nc_name_unhash(&names[LINK]);
    name(LINK, TMP, "l", S_IFLNK | 0777);
    target(LINK, "/dir/file");
    SAME(ino_of("/tmp/l", true), TO_PYTHON);
    SAME(ino_of("/tmp/l", false), LINK);
    end();
}

static void test_attributes_as_published(void) {
    begin();
    struct stat stat;
    SAME(CALL(SYS_lstat, P("file"), P(&stat)), 0);
    SAME(stat.st_mode, S_IFREG | 0640);
    SAME(stat.st_atim.tv_sec, -1);
    SAME(stat.st_atim.tv_nsec, 999999999);
    SAME(stat.st_mtim.tv_nsec, 500000000);
    struct statx statx;
    SAME(CALL(SYS_statx, CWD, P("/mnt"), 0ul, (uint64_t)STATX_ALL, P(&statx)), 0);
    SAME(statx.stx_mnt_id, 2);
    SAME(statx.stx_attributes, STATX_ATTR_MOUNT_ROOT);
    SAME(statx.stx_btime.tv_nsec, 1);
    SAME(CALL(SYS_statx, CWD, P("/mnt"), 0ul, (uint64_t)STATX_BASIC_STATS, P(&statx)), 0);
    CHECK(!(statx.stx_mask & STATX_BTIME) && !statx.stx_btime.tv_nsec);
    SAME(CALL(SYS_statx, CWD, P("/mnt"), 0ul, 0x4000ul, P(&statx)), TO_PYTHON); /* STATX_MNT_ID_UNIQUE */
    SAME(CALL(SYS_statx, CWD, P("/mnt"), 0ul, (uint64_t)STATX__RESERVED, P(&statx)), TO_PYTHON);
    nodes[FILE_].fresh = 0;
    SAME(CALL(SYS_stat, P("file"), P(&stat)), TO_PYTHON);
    end();
}

static void test_an_open_file_knows_better(void) {
    begin();
    int host_fd = memfd_create("file", MFD_CLOEXEC);
    CHECK(host_fd >= 0 && !ftruncate(host_fd, 1234));
    nc_inode *inode = nc_inode_new(-1, host_fd, 1);
    nodes[FILE_].inode = inode;
    struct stat stat;
    SAME(CALL(SYS_stat, P("file"), P(&stat)), TO_PYTHON); /* nothing of it is live */
    nc_inode_set_attrs(inode, 7, FILE_, S_IFREG | 0640, 1, 2, 1, 0, NC_LIVE_SIZE | NC_LIVE_TIMES, 0, NULL);
    SAME(CALL(SYS_stat, P("file"), P(&stat)), 0);
    SAME(stat.st_size, 1234);
    SAME(stat.st_uid, 1);
    nodes[FILE_].inode = NULL;
    nc_inode_put(inode);
    end();
}

static void test_descriptors_of_directories(void) {
    begin();
    nc_file *file = nc_file_new(NC_PY, O_PATH, NULL);
    nc_file_set_place(file, &mounted, &names[MOUNTED]);
    SAME(nc_fdt_install(fdt, file, 0, 0), 0);
    struct stat stat;
    SAME(CALL(SYS_newfstatat, 0ul, P("in"), P(&stat)), 0);
    SAME(stat.st_ino, IN);
    SAME(CALL(SYS_newfstatat, 0ul, P("../dir"), P(&stat)), 0);
    SAME(stat.st_ino, DIR);
    SAME(CALL(SYS_newfstatat, 9ul, P("in"), P(&stat)), -EBADF);
    SAME(CALL(SYS_newfstatat, 9ul, P("/dir"), P(&stat)), 0);
    SAME(CALL(SYS_newfstatat, 0ul, P(""), P(&stat), (uint64_t)AT_EMPTY_PATH), 0);
    SAME(stat.st_ino, MOUNTED);
    SAME(CALL(SYS_fstat, 0ul, P(&stat)), 0);
    SAME(stat.st_ino, MOUNTED);
    SAME(CALL(SYS_newfstatat, 0ul, P("in"), P(&stat), (uint64_t)AT_EMPTY_PATH), TO_PYTHON);
    SAME(CALL(SYS_close, 0ul), 0);
    drain();
    nc_file_free(file);
    end();
}

static void test_access_and_readlink(void) {
    begin();
    char text[8];
    SAME(CALL(SYS_readlink, P("link"), P(text), sizeof text), 8);
    CHECK(!memcmp(text, "../dir/f", 8));
    SAME(CALL(SYS_readlinkat, CWD, P("file"), P(text), sizeof text), TO_PYTHON);
    SAME(CALL(SYS_readlink, P("link"), P(text), 0ul), TO_PYTHON);
    SAME(CALL(SYS_access, P("link"), (uint64_t)F_OK), 0);
    SAME(CALL(SYS_access, P("absent"), (uint64_t)F_OK), -ENOENT);
    SAME(CALL(SYS_access, P("file"), (uint64_t)R_OK), 0);
    SAME(CALL(SYS_access, P("file"), (uint64_t)W_OK), TO_PYTHON);
    become(5, 5, NC_REAL_IDS);
    SAME(CALL(SYS_faccessat, CWD, P("file"), (uint64_t)R_OK), TO_PYTHON); /* no */
    become(5, 5, 0);
    SAME(CALL(SYS_faccessat, CWD, P("file"), (uint64_t)F_OK), TO_PYTHON);
    SAME(CALL(SYS_faccessat2, CWD, P("file"), (uint64_t)F_OK, (uint64_t)AT_EACCESS), 0);
    end();
}

static void test_a_complete_directory_has_no_other_names(void) {
    begin();
    SAME(ino_of("unknown", true), TO_PYTHON);
    names[DIR].complete = 1;
    SAME(ino_of("unknown", true), -ENOENT);
    SAME(ino_of("unknown/x", true), -ENOENT);
    SAME(CALL(SYS_openat, CWD, P("unknown"), (uint64_t)O_RDONLY), -ENOENT);
    SAME(CALL(SYS_openat, CWD, P("unknown"), (uint64_t)O_RDONLY | O_CREAT), TO_PYTHON);
    SAME(ino_of("file", true), FILE_);
    end();
}

static int count_lazy(void) {
    int count = 0;
    for (nc_file *file = nc_lazy_find(NULL, NULL); file; file = file->lazy_next) count++;
    return count;
}

static void test_open_of_a_file_whose_host_file_is_open(void) {
    begin();
    int host_fd = memfd_create("file", MFD_CLOEXEC);
    CHECK(host_fd >= 0 && write(host_fd, "hello", 5) == 5);
    nc_inode *inode = nc_inode_new(-1, host_fd, 1);
    nodes[FILE_].inode = inode;
    SAME(CALL(SYS_open, P("file"), 0ul), TO_PYTHON); /* only to be written */
    nc_inode_set_fds(inode, host_fd, host_fd);
    SAME(CALL(SYS_open, P("file"), 0ul), TO_PYTHON); /* its attributes are not told */
    nc_inode_set_attrs(inode, 7, FILE_, S_IFREG | 0640, 1, 2, 1, 0, NC_LIVE_SIZE | NC_LIVE_TIMES, 0, &nodes[FILE_]);
    SAME(CALL(SYS_open, P("file"), 0ul), 0);
    SAME(CALL(SYS_openat, CWD, P("/dir/link"), (uint64_t)(O_CLOEXEC | O_NONBLOCK)), 1);
    SAME(CALL(SYS_openat, CWD, P("/dir/link"), (uint64_t)O_NOFOLLOW), TO_PYTHON);
    SAME(CALL(SYS_open, P("file"), (uint64_t)O_RDWR), TO_PYTHON);
    SAME(CALL(SYS_open, P("file"), (uint64_t)O_DIRECTORY), TO_PYTHON);
    SAME(CALL(SYS_open, P("file"), (uint64_t)O_PATH), TO_PYTHON);
    SAME(CALL(SYS_fcntl, 1ul, (uint64_t)F_GETFD), FD_CLOEXEC);
    SAME(CALL(SYS_fcntl, 1ul, (uint64_t)F_GETFL), O_NONBLOCK | 0100000);
    char text[8] = {0};
    SAME(CALL(SYS_read, 0ul, P(text), 8ul), 5);
    SAME(CALL(SYS_write, 0ul, P(text), 5ul), -EBADF);
    SAME(names[FILE_].uses, 2);
    SAME(root_mount.uses, 2);
    SAME(count_lazy(), 2);
    CHECK(nc_lazy_find(&names[FILE_], &root_mount) && !nc_lazy_find(&names[IN], NULL));
    CHECK(!nc_lazy_find(NULL, &mounted));
    SAME(CALL(SYS_dup, 0ul), 2);
    SAME(CALL(SYS_close, 0ul), 0);
    SAME(count_lazy(), 2);
    SAME(nc_inode_refs(inode), 3);
    SAME(CALL(SYS_close, 2ul), 0);
    SAME(count_lazy(), 1);
    SAME(nc_inode_refs(inode), 2);
    nc_file *file = nc_fdt_file(fdt, 1);
    struct nc_found found;
    SAME(nc_file_where(file, &found), 0);
    SAME(found.name, FILE_ + 100);
    SAME(found.mount, 1);
    nc_file_settle(file); /* Python's now */
    SAME(count_lazy(), 0);
    SAME(names[FILE_].uses, 0);
    SAME(nc_file_where(file, &found), -ENOENT);
    SAME(CALL(SYS_close, 1ul), 0);
    drain();
    nc_file_free(file);
    SAME(nc_inode_refs(inode), 1);
    nc_set_watched(1, 0);
    SAME(CALL(SYS_open, P("file"), 0ul), TO_PYTHON);
    nc_set_watched(0, 0);
    nodes[FILE_].leased = 1;
    SAME(CALL(SYS_open, P("file"), 0ul), TO_PYTHON);
    nodes[FILE_].leased = 0;
    SAME(nc_inode_readers(inode), 0);
    SAME(CALL(SYS_open, P("file"), 0ul), 0);
    SAME(nc_inode_readers(inode), 1);
    nc_fdt_clear(fdt);
    SAME(nc_inode_readers(inode), 0);
    become(5, 5, 0);
    SAME(CALL(SYS_open, P("file"), 0ul), TO_PYTHON); /* no permission */
    nodes[FILE_].inode = NULL;
    become(0, 0, NC_DAC_OVERRIDE);
    struct nc_node below = {.inode = inode};
    nodes[FILE_].below = &below;
    SAME(CALL(SYS_open, P("file"), 0ul), 0);
    SAME(CALL(SYS_open, P("file"), 0ul), 1);
    SAME(names[FILE_].uses, 2);
    nc_fdt_clear(fdt);
    SAME(count_lazy(), 0);
    root_mount.noexec = 1;
    SAME(CALL(SYS_open, P("file"), 0ul), 0);
    SAME(CALL(SYS_mmap, 0ul, 4096ul, (uint64_t)(PROT_READ | PROT_EXEC), (uint64_t)MAP_PRIVATE, 0ul, 0ul), -EPERM);
    nc_fdt_clear(fdt);
    root_mount.noexec = 0;
    root_mount.nosymfollow = 1;
    SAME(CALL(SYS_openat, CWD, P("/dir/link"), 0ul), TO_PYTHON);
    root_mount.nosymfollow = 0;
    SAME(CALL(SYS_openat, CWD, P("/dir/link"), 0ul), 0);
    nc_fdt_clear(fdt);
    nc_inode_put(inode);
    end();
}

static void test_extended_attributes_that_are_not_there(void) {
    begin();
    char list[8];
    SAME(CALL(SYS_listxattr, P("link"), P(list), sizeof list), TO_PYTHON);
    nodes[FILE_].unmarked = 1;
    SAME(CALL(SYS_listxattr, P("link"), P(list), sizeof list), 0);
    SAME(CALL(SYS_llistxattr, P("link"), P(list), sizeof list), TO_PYTHON);
    SAME(CALL(SYS_llistxattr, P("absent"), P(list), sizeof list), -ENOENT);
    SAME(CALL(SYS_getxattr, P("file"), P("system.posix_acl_access"), P(list), sizeof list), -EOPNOTSUPP);
    SAME(CALL(SYS_lgetxattr, P("absent"), P("system.posix_acl_access"), P(list), sizeof list), -ENOENT);
    SAME(CALL(SYS_getxattr, P("file"), P("user.x"), P(list), sizeof list), TO_PYTHON);
    SAME(CALL(SYS_getxattr, P("file"), P(""), P(list), sizeof list), TO_PYTHON);
    SAME(CALL(SYS_flistxattr, 0ul, P(list), sizeof list), TO_PYTHON);
    nc_inode *inode = nc_inode_new(-1, -1, 0);
    nc_inode_set_attrs(inode, 7, FILE_, S_IFREG | 0640, 1, 2, 1, 0, 0, 1, NULL);
    nc_file *file = nc_file_new(NC_REG, O_RDONLY, inode), *path = nc_file_new(NC_PY, O_PATH, NULL);
    SAME(nc_fdt_install(fdt, file, 0, 0), 0);
    SAME(nc_fdt_install(fdt, path, 0, 0), 1);
    SAME(CALL(SYS_flistxattr, 0ul, P(list), sizeof list), 0);
    SAME(CALL(SYS_flistxattr, 1ul, P(list), sizeof list), TO_PYTHON);
    SAME(CALL(SYS_fgetxattr, 0ul, P("system.posix_acl_access"), P(list), sizeof list), -EOPNOTSUPP);
    nc_fdt_clear(fdt);
    drain();
    nc_file_free(file);
    nc_file_free(path);
    nc_inode_put(inode);
    end();
}

int main(void) {
    test_extended_attributes_that_are_not_there();
    test_a_complete_directory_has_no_other_names();
    test_open_of_a_file_whose_host_file_is_open();
    test_paths_lead_where_they_should();
    test_long_names_and_paths_are_for_python();
    test_only_those_who_may_search_are_answered();
    test_a_link_in_a_sticky_directory_is_for_python();
    test_attributes_as_published();
    test_an_open_file_knows_better();
    test_descriptors_of_directories();
    test_access_and_readlink();
    puts("ok");
    return 0;
}
