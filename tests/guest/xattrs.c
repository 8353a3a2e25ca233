// Extended attributes: xattr(7). (No ACLs: nothing here asks for system.*.)
#include "probe.h"
#include <sys/xattr.h>

static char buffer[256];

static void show_list(const char *path) {
    ssize_t n = listxattr(path, buffer, sizeof buffer);
    int user = 0;
    for (char *name = buffer; n > 0 && name < buffer + n; name += strlen(name) + 1) user += strncmp(name, "user.", 5) == 0;
    say("%s: %d", path, n < 0 ? -errno : user);
}

PROBE(attributes_of_a_file) {
    make_file("f", "text");
    int fd = MUST(open("f", O_RDWR));
    show_list("f");
    SHOW(flistxattr(fd, NULL, 0) >= 0);
    SHOW(getxattr("f", "user.a", buffer, sizeof buffer));
    SHOW(fgetxattr(fd, "user.a", buffer, sizeof buffer));
    SHOW(fsetxattr(fd, "user.a", "one", 3, XATTR_REPLACE));
    SHOW(fsetxattr(fd, "user.a", "one", 3, 0));
    show_list("f");
    SHOW(flistxattr(fd, buffer, sizeof buffer) > 0);
    SHOW(flistxattr(fd, buffer, 3));
    SHOW(getxattr("f", "user.a", buffer, sizeof buffer));
    SHOW(getxattr("f", "user.a", buffer, 2));
    SHOW(getxattr("f", "user.a", NULL, 0));
    SHOW(setxattr("f", "user.a", "two", 3, XATTR_CREATE));
    SHOW(setxattr("f", "user.b", "", 0, XATTR_CREATE));
    show_list("f");
    MUST(link("f", "g"));
    show_list("g");
    MUST(rename("f", "h"));
    show_list("h");
    show_list("f");
    SHOW(removexattr("h", "user.a"));
    SHOW(removexattr("h", "user.a"));
    SHOW(fremovexattr(fd, "user.b"));
    show_list("h");
    SHOW(flistxattr(fd, buffer, sizeof buffer) >= 0);
    SHOW(getxattr("h", "user.a", buffer, sizeof buffer));
}

PROBE(attributes_of_other_kinds) {
    MUST(mkdir("d", 0755));
    MUST(symlink("d", "l"));
    MUST(mkfifo("p", 0644));
    SHOW(setxattr("d", "user.a", "one", 3, 0));
    show_list("d");
    show_list("l");
    SHOW(lgetxattr("l", "user.a", buffer, sizeof buffer));
    SHOW(lsetxattr("l", "user.a", "x", 1, 0));
    SHOW(llistxattr("l", buffer, sizeof buffer) >= 0);
    SHOW(setxattr("p", "user.a", "x", 1, 0));
    SHOW(getxattr("p", "user.a", buffer, sizeof buffer));
    int fd = MUST(open("d", O_RDONLY));
    SHOW(flistxattr(fd, buffer, sizeof buffer) > 0);
    SHOW(fgetxattr(fd, "user.a", buffer, sizeof buffer));
    int path = MUST(open("d", O_PATH));
    SHOW(flistxattr(path, buffer, sizeof buffer));
    SHOW(fgetxattr(path, "user.a", buffer, sizeof buffer));
}

PROBE(attribute_names_and_errors) {
    make_file("f", "text");
    char name[300] = "user.";
    memset(name + 5, 'x', 251);
    SHOW(getxattr("f", name, buffer, sizeof buffer));
    name[255] = 0;
    SHOW(getxattr("f", name, buffer, sizeof buffer));
    SHOW(getxattr("f", "", buffer, sizeof buffer));
    SHOW(getxattr("f", (char *)8, buffer, sizeof buffer));
    SHOW(getxattr("missing", "user.a", buffer, sizeof buffer));
    SHOW(listxattr("missing", buffer, sizeof buffer));
    SHOW(flistxattr(99, buffer, sizeof buffer));
    SHOW(fgetxattr(99, "user.a", buffer, sizeof buffer));
    SHOW(getxattr("f", "nonsense", buffer, sizeof buffer));
    SHOW(setxattr("f", "nonsense.a", "x", 1, 0));
    SHOW(getxattr("f", "trusted.a", buffer, sizeof buffer));
    SHOW(setxattr("f", "trusted.a", "x", 1, 0));
    SHOW(setxattr("f", "user.a", "x", 1, 77));
    SHOW(setxattr("f", "user.a", (char *)8, 1, 0));
    SHOW(setxattr("f", "user.a", "x", 70000, 0));
}
