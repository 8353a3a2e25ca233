// Extended attributes: every call, namespace and limit; xattr(7).
#include "../probe.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/xattr.h>
#include <sys/xattr.h>

static char big[70000], name[300];

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// The listed names, in their own order sorted: the kernel's order is nobody's promise.
static void say_list(const char *path) {
    char list[4096];
    const char *names[100];
    ssize_t size = llistxattr(path, list, sizeof list);
    if (size < 0) {
        say("%s lists: %s", path, strerrorname_np(errno));
        return;
    }
    size_t count = 0;
    for (char *at = list; at < list + size; at += strlen(at) + 1)
        names[count++] = at;
    qsort(names, count, sizeof *names, by_name);
    char all[4096] = "";
    for (size_t i = 0; i < count; i++)
        strcat(strcat(all, " "), names[i]);
    say("%s lists %zd:%s", path, size, all);
}

PROBE(xattr_basics) {
    char value[64];
    make_file("f", "x");
    SHOW(setxattr("f", "user.a", "one", 3, 0));
    SHOW(getxattr("f", "user.a", value, sizeof value));
    SHOW(getxattr("f", "user.a", value, 0));
    SHOW(getxattr("f", "user.a", NULL, 0));
    SHOW(getxattr("f", "user.a", value, 2));
    SHOW(getxattr("f", "user.none", value, 2));
    SHOW(setxattr("f", "user.a", "two!", 4, XATTR_CREATE));
    SHOW(setxattr("f", "user.b", "", 0, XATTR_REPLACE));
    SHOW(setxattr("f", "user.a", "two!", 4, XATTR_REPLACE));
    SHOW(setxattr("f", "user.b", NULL, 0, XATTR_CREATE));
    SHOW(setxattr("f", "user.c", "", 0, XATTR_CREATE | XATTR_REPLACE));
    SHOW(setxattr("f", "user.c", "", 0, 4));
    SHOW(getxattr("f", "user.a", value, sizeof value));
    say("%.4s", value);
    SHOW(getxattr("f", "user.b", value, sizeof value));
    say_list("f");
    SHOW(listxattr("f", NULL, 0));
    SHOW(listxattr("f", value, 3));
    SHOW(removexattr("f", "user.a"));
    SHOW(removexattr("f", "user.a"));
    say_list("f");
    MUST(symlink("f", "l"));
    SHOW(getxattr("l", "user.b", value, sizeof value));
    SHOW(lgetxattr("l", "user.b", value, sizeof value));
    SHOW(lsetxattr("l", "user.b", "", 0, 0));
    SHOW(lremovexattr("l", "user.b"));
    say_list("l");
    int fd = MUST(open("f", O_RDONLY)), path = MUST(open("f", O_PATH)), pipes[2];
    MUST(pipe(pipes));
    SHOW(fsetxattr(fd, "user.d", "dd", 2, 0));
    SHOW(fgetxattr(fd, "user.d", value, 64));
    SHOW(flistxattr(fd, NULL, 0));
    SHOW(fremovexattr(fd, "user.d"));
    SHOW(fgetxattr(path, "user.b", value, 64));
    SHOW(fsetxattr(path, "user.b", value, 1, 0));
    SHOW(flistxattr(path, NULL, 0));
    SHOW(fremovexattr(path, "user.b"));
    SHOW(fsetxattr(pipes[0], "user.p", "x", 1, 0));
    SHOW(fgetxattr(pipes[0], "user.p", value, 64));
    SHOW(flistxattr(pipes[0], NULL, 0));
    SHOW(rename("f", "g"));
    say_list("g");
    SHOW(link("g", "h"));
    say_list("h");
}

PROBE(xattr_limits) {
    make_file("f", "x");
    strcpy(name, "user.");
    memset(name + 5, 'n', sizeof name - 6);
    SHOW(setxattr("f", name, "", 0, 0));
    name[256] = 0;
    SHOW(setxattr("f", name, "", 0, 0));
    name[255] = 0;
    SHOW(setxattr("f", name, "", 0, 0));
    SHOW(getxattr("f", name, NULL, 0));
    SHOW(removexattr("f", name));
    SHOW(setxattr("f", "user.big", big, 65537, 0));
    SHOW(setxattr("f", "user.big", big, 1000, 0));
    SHOW(getxattr("f", "user.big", big, sizeof big));
    SHOW(setxattr("f", "user.big", big, SIZE_MAX, 0));
    SHOW(setxattr("f", "", "", 0, 0));
    SHOW(setxattr("f", "user.", "", 0, 0));
    SHOW(getxattr("f", "user.", big, 10));
    SHOW(setxattr("f", "user", "", 0, 0));
    SHOW(setxattr("f", "nosuch.x", "", 0, 0));
    SHOW(getxattr("f", "nosuch.x", big, 10));
    SHOW(removexattr("f", "nosuch.x"));
    SHOW(setxattr("f", "USER.x", "", 0, 0));
    SHOW(getxattr("f", "", big, 10));
    SHOW(removexattr("f", ""));
    SHOW(setxattr("f", "system.x", "", 0, 0));
    SHOW(getxattr("f", "system.x", big, 10));
    SHOW(listxattr("f", big, sizeof big));
}

PROBE(xattr_bad_pointers) {
    make_file("f", "x");
    int fd = MUST(open("f", O_RDONLY));
    SHOW(setxattr(unmapped, "user.a", "", 0, 0));
    SHOW(setxattr("f", unmapped, "", 0, 0));
    SHOW(setxattr("f", "user.a", unmapped, 1, 0));
    SHOW(setxattr("f", "user.a", unmapped, 0, 0));
    SHOW(setxattr("missing", unmapped, "", 0, 0));
    SHOW(setxattr("missing", "user.a", unmapped, 1, 0));
    SHOW(setxattr("missing", "user.a", "", 0, 9));
    SHOW(setxattr("missing", "user.a", "", 65537, 0));
    SHOW(setxattr(unmapped, "", "", 65537, 9));
    SHOW(fsetxattr(-1, unmapped, "", 0, 9));
    SHOW(getxattr("f", "user.a", unmapped, 10));
    SHOW(getxattr("f", unmapped, big, 10));
    SHOW(getxattr("missing", unmapped, big, 10));
    SHOW(getxattr(unmapped, "", big, 10));
    SHOW(fgetxattr(-1, unmapped, big, 10));
    MUST(setxattr("f", "user.a", "abc", 3, 0));
    SHOW(getxattr("f", "user.a", unmapped, 10));
    SHOW(getxattr("f", "user.a", unmapped, 2));
    SHOW(getxattr("f", "user.a", big, SIZE_MAX));
    SHOW(listxattr("f", unmapped, 100));
    SHOW(listxattr("f", unmapped, 1));
    SHOW(listxattr(unmapped, big, 1));
    SHOW(listxattr("f", big, SIZE_MAX) > 0);
    SHOW(flistxattr(-1, big, 1));
    SHOW(removexattr("f", unmapped));
    SHOW(removexattr("missing", unmapped));
    SHOW(fremovexattr(-1, unmapped));
    SHOW(fremovexattr(fd, "user.a"));
}

static void each_type(const char *namespace) {
    static const char *const paths[] = {"f", "d", "l", "fifo", "sock", "sticky", "/dev/null", "/proc/self/status", "/proc", "/dev/pts"};
    char full[64];
    snprintf(full, sizeof full, "%s.x", namespace);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        say("%s on %s", full, paths[i]);
        SHOW(lsetxattr(paths[i], full, "v", 1, 0));
        SHOW(lgetxattr(paths[i], full, big, 10));
        SHOW(lremovexattr(paths[i], full));
    }
}

static void user_types(void) {
    MUST(setgid(1000));
    MUST(setuid(1000));
    each_type("user");
    SHOW(setxattr("readonly", "user.x", "", 0, 0));
    SHOW(getxattr("readonly", "user.none", big, 1));
    SHOW(setxattr("secret", "user.x", "", 0, 0));
    SHOW(getxattr("secret", "user.x", big, 1));
    SHOW(removexattr("secret", "user.x"));
    SHOW(listxattr("secret", big, 100));
    SHOW(setxattr("writable", "user.x", "", 0, 0));
    SHOW(setxattr("writeonly", "user.x", "", 0, 0));
    SHOW(getxattr("writeonly", "user.x", big, 0));
    SHOW(getxattr("f", "trusted.x", big, 10));
    SHOW(setxattr("f", "trusted.x", "", 0, 0));
    SHOW(removexattr("f", "trusted.x"));
    SHOW(setxattr("writable", "security.x", "", 0, 0));
    SHOW(getxattr("writable", "security.x", big, 10));
    SHOW(removexattr("writable", "security.x"));
    struct vfs_cap_data caps = {.magic_etc = VFS_CAP_REVISION_2};
    SHOW(setxattr("writable", XATTR_NAME_CAPS, &caps, XATTR_CAPS_SZ_2, 0));
}

PROBE(xattr_permissions) {
    umask(0);
    make_file("f", "");
    MUST(mkdir("d", 0755));
    MUST(symlink("f", "l"));
    MUST(mknod("fifo", S_IFIFO | 0666, 0));
    MUST(mknod("sock", S_IFSOCK | 0666, 0));
    MUST(mkdir("sticky", 0777));
    MUST(chmod("sticky", 01777));
    make_file("readonly", "");
    make_file("secret", "");
    MUST(chmod("secret", 0600));
    MUST(setxattr("secret", "user.x", "1", 1, 0));
    make_file("writable", "");
    MUST(chmod("writable", 0666));
    make_file("writeonly", "");
    MUST(chmod("writeonly", 0222));
    each_type("user");
    in_child("nobody", user_types);
}

static void attributes_without_rights(void) {
    char value[16];
    SHOW(setxattr("f", "trusted.x", "v", 1, 0));
    SHOW(getxattr("f", "trusted.x", value, 16));
    SHOW(removexattr("f", "trusted.x"));
    SHOW(setxattr("f", "security.x", "v", 1, 0));
    SHOW(getxattr("f", "security.x", value, 16));
    SHOW(removexattr("f", "security.x"));
}

PROBE(xattr_privileged_namespaces) {
    make_file("f", "");
    attributes_without_rights();
    say_list("f");
}

// Many on one file; which number is too many depends on the file system.
PROBE(xattr_many) {
    char value[32];
    make_file("f", "");
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "user.name-%02d", i);
        snprintf(value, sizeof value, "value %d", i);
        MUST(setxattr("f", name, value, strlen(value), 0));
    }
    say_list("f");
    for (int i = 0; i < 20; i += 2) {
        snprintf(name, sizeof name, "user.name-%02d", i);
        MUST(removexattr("f", name));
    }
    say_list("f");
    SHOW(getxattr("f", "user.name-13", value, sizeof value));
    say("%.8s", value);
    SHOW(unlink("f"));
    make_file("f", "");
    say_list("f");
}
