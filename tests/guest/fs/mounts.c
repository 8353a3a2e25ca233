// mount(2), umount2(2), pivot_root(2), /proc/self/mounts and mountinfo, by who may (CAP_SYS_ADMIN).
#include "../probe.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static char here[PATH_MAX];

// The lines of /proc/self/mountinfo for mounts at or below the probe's folder, with ids and devices made comparable.
static void say_mounts(const char *what) {
    static char line[4096];
    FILE *file = fopen("/proc/self/mountinfo", "r");
    int seen_peer[32], peers = 0;
    say("%s:", what);
    while (file && fgets(line, sizeof line, file)) {
        int id, parent, at = 0, group;
        unsigned dev_major, dev_minor;
        char root[1024], point[1024], options[1024], *fields, *dash;
        if (sscanf(line, "%d %d %u:%u %1023s %1023s %1023s %n", &id, &parent, &dev_major, &dev_minor, root, point, options, &at) < 7)
            continue;
        if (strncmp(point, here, strlen(here)))
            continue;
        fields = line + at;
        dash = strstr(fields, "- ");
        char tags[256] = "";
        for (char *word = fields; dash && word < dash;) {
            size_t length = strcspn(word, " ");
            if (sscanf(word, "shared:%d", &group) == 1 || sscanf(word, "master:%d", &group) == 1) {
                int n = 0;
                while (n < peers && seen_peer[n] != group)
                    n++;
                if (n == peers && peers < 32)
                    seen_peer[peers++] = group;
                snprintf(tags + strlen(tags), sizeof tags - strlen(tags), " %.*s%d", (int)(strchr(word, ':') - word + 1), word, n);
            } else
                snprintf(tags + strlen(tags), sizeof tags - strlen(tags), " %.*s", (int)length, word);
            word += length + 1;
        }
        char type[64] = "", source[512] = "", super[1024] = "";
        if (dash)
            sscanf(dash, "- %63s %511s %1023[^\n]", type, source, super);
        char *relative = strstr(root, here);
        say("    %s on %s (%s)%s %s %s", relative ? relative + strlen(here) : root, point + strlen(here), options, tags, type, source);
    }
    if (file)
        fclose(file);
}

static void say_options(const char *path) {
    static char line[4096], full[PATH_MAX + 32];
    snprintf(full, sizeof full, "%s%s ", here, path);
    FILE *file = fopen("/proc/self/mounts", "r");
    while (file && fgets(line, sizeof line, file)) {
        char *at = strstr(line, full);
        if (at)
            say("%s: %.*s|%s", path, (int)(at - line), line, strtok(at + strlen(full), "\n"));
    }
    if (file)
        fclose(file);
}

static void begin(void) {
    if (!getcwd(here, sizeof here))
        must("getcwd", -1);
    MUST(mkdir("a", 0755));
    MUST(mkdir("b", 0755));
    make_file("f", "under");
    make_file("a/under", "");
}

PROBE(mount_errors) {
    begin();
    SHOW(mount("none", "a", "nosuchfs", 0, NULL));
    SHOW(mount("none", "missing", "tmpfs", 0, NULL));
    SHOW(mount("none", "f", "tmpfs", 0, NULL));
    SHOW(mount("none", "f/x", "tmpfs", 0, NULL));
    SHOW(mount("none", "", "tmpfs", 0, NULL));
    SHOW(mount("none", unmapped, "tmpfs", 0, NULL));
    SHOW(mount(unmapped, "a", "tmpfs", 0, NULL));
    SHOW(mount("none", "a", unmapped, 0, NULL));
    SHOW(mount("none", "a", "tmpfs", 0, unmapped));
    SHOW(mount("none", "a", NULL, 0, NULL));
    SHOW(mount("none", "a", "", 0, NULL));
    SHOW(mount(NULL, "a", "tmpfs", 0, NULL));
    SHOW(umount("a"));
    SHOW(mount("none", "a", "tmpfs", 0, "nosuchoption"));
    SHOW(mount("none", "a", "tmpfs", 0, "size=nonsense"));
    SHOW(mount("none", "a", "tmpfs", 0, "mode=9"));
    SHOW(mount("none", "a", "tmpfs", MS_BIND | MS_MOVE, NULL));
    SHOW(mount("missing", "a", NULL, MS_BIND, NULL));
    SHOW(mount("f", "a", NULL, MS_BIND, NULL));
    SHOW(mount("a", "f", NULL, MS_BIND, NULL));
    SHOW(mount(NULL, "a", NULL, MS_BIND, NULL));
    SHOW(mount("", "a", NULL, MS_BIND, NULL));
    SHOW(mount("b", "a", NULL, MS_MOVE, NULL));
    SHOW(mount(NULL, "a", NULL, MS_MOVE, NULL));
    SHOW(mount(NULL, "a", NULL, MS_REMOUNT, NULL));
    SHOW(mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND, NULL));
    SHOW(mount(NULL, "a", NULL, MS_PRIVATE, NULL));
    SHOW(mount(NULL, "/", NULL, MS_PRIVATE | MS_SHARED, NULL));
    SHOW(umount("a"));
    SHOW(umount("f"));
    SHOW(umount("missing"));
    SHOW(umount(""));
    SHOW(umount2(unmapped, 0));
    SHOW(umount2("a", 64));
    SHOW(umount2(unmapped, 64));
    SHOW(umount2("a", MNT_EXPIRE | MNT_DETACH));
    SHOW(umount2("missing", MNT_EXPIRE | MNT_FORCE));
}

static void without_rights(void) {
    MUST(setuid(1000));
    SHOW(mount("none", "a", "tmpfs", 0, NULL));
    SHOW(mount("none", "missing", "tmpfs", 0, NULL));
    SHOW(mount("none", "a", "nosuchfs", 0, NULL));
    SHOW(mount(NULL, "a", NULL, MS_REMOUNT, NULL));
    SHOW(umount("a"));
    SHOW(umount("missing"));
    SHOW(umount2("a", 64));
    SHOW(syscall(SYS_pivot_root, "a", "missing"));
    SHOW(syscall(SYS_pivot_root, unmapped, "missing"));
    SHOW(unshare(CLONE_NEWNS));
}

PROBE(mount_without_rights) {
    begin();
    in_child("user", without_rights);
}

PROBE(mount_tmpfs) {
    struct stat st;
    struct statvfs vfs;
    begin();
    SHOW(mount("source", "a", "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=700,uid=5,gid=6"));
    say_mounts("mounted");
    say_options("/a");
    MUST(stat("a", &st));
    say("%o %d %d", st.st_mode, st.st_uid, st.st_gid);
    SHOW(access("a/under", F_OK));
    MUST(statvfs("a", &vfs));
    say("%ld blocks of %ld", (long)vfs.f_blocks, (long)vfs.f_frsize);
    static char page[4096];
    int fd = MUST(open("a/big", O_RDWR | O_CREAT, 0644)), n = 0;
    while (write(fd, page, 4096) == 4096)
        n++;
    SHOW(n);
    SHOW(write(fd, page, 1));
    MUST(ftruncate(fd, 0));
    SHOW(write(fd, page, 4096));
    SHOW(umount("a"));
    close(fd);
    SHOW(umount("a"));
    SHOW(access("a/under", F_OK));
    SHOW(mount("none", "a", "tmpfs", 0, "nr_inodes=3"));
    SHOW(mkdir("a/1", 0755));
    SHOW(mkdir("a/2", 0755));
    SHOW(mkdir("a/3", 0755));
    SHOW(rmdir("a/1"));
    SHOW(mkdir("a/3", 0755));
    SHOW(mount(NULL, "a", NULL, MS_REMOUNT, "nr_inodes=2"));
    SHOW(mount(NULL, "a", NULL, MS_REMOUNT, "nr_inodes=10,size=1m"));
    say_options("/a");
    SHOW(mkdir("a/4", 0755));
    SHOW(mount("none", "a", "tmpfs", 0, NULL));
    say_mounts("twice");
    SHOW(access("a/4", F_OK));
    SHOW(umount("a"));
    SHOW(access("a/4", F_OK));
    SHOW(umount("a"));
    SHOW(umount("a"));
    static const char *const options[] = {"size=50%", "nr_blocks=8", "mode=01777,size=1G", "size=0", "huge=never", "mpol=default", "", ",,", "size=4096,size=8192"};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        SHOW(mount("none", "a", "tmpfs", 0, options[i]));
        if (i != 0)
            say_options("/a");
        umount("a");
    }
}

PROBE(mount_flags) {
    begin();
    struct statfs sf;
    MUST(mount("none", "a", "tmpfs", 0, NULL));
    make_file("a/f", "x");
    MUST(mkdir("a/d", 0755));
    MUST(mknod("a/null", S_IFCHR | 0666, makedev(1, 3)));
    int writer = MUST(open("a/f", O_RDWR));
    SHOW(mount(NULL, "a", NULL, MS_REMOUNT | MS_RDONLY, NULL));
    close(writer);
    SHOW(mount(NULL, "a", NULL, MS_REMOUNT | MS_RDONLY, NULL));
    say_mounts("read-only");
    SHOW(open("a/f", O_RDWR));
    SHOW(open("a/f", O_RDONLY | O_TRUNC));
    SHOW(close(open("a/f", O_RDONLY)));
    SHOW(close(open("a/f", O_RDONLY | O_CREAT, 0644)));
    SHOW(open("a/new", O_RDONLY | O_CREAT, 0644));
    SHOW(open("a/d", O_TMPFILE | O_RDWR, 0644));
    SHOW(open("a/d", O_WRONLY));
    SHOW(close(open("a/null", O_RDWR)));
    SHOW(mkdir("a/new", 0755));
    SHOW(mkdir("a/d", 0755));
    SHOW(rmdir("a/d"));
    SHOW(rmdir("a/missing"));
    SHOW(unlink("a/f"));
    SHOW(unlink("a/missing"));
    SHOW(symlink("x", "a/l"));
    SHOW(symlink("x", "a/f"));
    SHOW(link("a/f", "a/g"));
    SHOW(link("a/missing", "a/g"));
    SHOW(rename("a/f", "a/g"));
    SHOW(rename("a/missing", "a/g"));
    SHOW(mknod("a/p", S_IFIFO | 0600, 0));
    SHOW(chmod("a/f", 0600));
    SHOW(chown("a/f", 0, 0));
    SHOW(utimensat(AT_FDCWD, "a/f", NULL, 0));
    SHOW(truncate("a/f", 0));
    SHOW(setxattr("a/f", "user.x", "", 0, 0));
    SHOW(removexattr("a/f", "user.x"));
    SHOW(access("a/f", W_OK));
    SHOW(access("a/f", R_OK));
    SHOW(access("a/null", W_OK));
    SHOW(statfs("a", &sf) ? -1 : (long)(sf.f_flags & 0xfff));
    SHOW(mount(NULL, "a", NULL, MS_REMOUNT, NULL));
    SHOW(close(open("a/f", O_RDWR)));
    // a read-only bind of what can be written
    SHOW(mount("a", "b", NULL, MS_BIND, NULL));
    SHOW(mount(NULL, "b", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
    say_mounts("read-only bind");
    SHOW(open("b/f", O_RDWR));
    SHOW(close(open("a/f", O_RDWR)));
    SHOW(chmod("b/f", 0600));
    SHOW(chmod("a/f", 0600));
    SHOW(rename("a/f", "b/g"));
    SHOW(link("a/f", "b/g"));
    SHOW(statfs("b", &sf) ? -1 : (long)(sf.f_flags & 0xfff));
    SHOW(umount("b"));
    static const struct {
        unsigned long flags;
        const char *name;
    } flags[] = {{MS_NODEV, "nodev"},           {MS_NOSUID, "nosuid"},         {MS_NOEXEC, "noexec"},           {MS_NOATIME, "noatime"},
                 {MS_NODIRATIME, "nodiratime"}, {MS_STRICTATIME, "strictatime"}, {MS_RELATIME, "relatime"},       {MS_SYNCHRONOUS, "sync"},
                 {MS_DIRSYNC, "dirsync"},       {MS_MANDLOCK, "mandlock"},      {MS_LAZYTIME, "lazytime"},       {MS_SILENT, "silent"},
                 {MS_NOATIME | MS_STRICTATIME, "noatime strictatime"},          {MS_NOSYMFOLLOW, "nosymfollow"}, {MS_I_VERSION, "iversion"}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        SHOW(mount(NULL, "a", NULL, MS_REMOUNT | flags[i].flags, NULL));
        say_options("/a");
        SHOW(mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND | flags[i].flags, NULL));
        say_options("/a");
        SHOW(statfs("a", &sf) ? -1 : (long)(sf.f_flags & 0xffff));
        if (flags[i].flags == MS_NODEV)
            SHOW(open("a/null", O_RDONLY));
        if (flags[i].flags == MS_NOEXEC) {
            SHOW(chmod("a/f", 0755));
            SHOW(access("a/f", X_OK));
            SHOW(execl("a/f", "f", NULL));
            SHOW(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, MUST(open("a/f", O_RDONLY)), 0) == MAP_FAILED ? errno : 0);
            close_range(3, ~0u, 0);
        }
        if (flags[i].flags == MS_NOSYMFOLLOW) {
            MUST(symlink("f", "a/link"));
            SHOW(open("a/link", O_RDONLY));
            SHOW(access("a/link/x", F_OK));
            SHOW(readlink("a/link", here + PATH_MAX - 8, 8));
        }
    }
}

PROBE(mount_bind) {
    begin();
    MUST(mkdir("a/sub", 0755));
    make_file("a/sub/file", "text");
    SHOW(mount("a/sub", "b", NULL, MS_BIND, NULL));
    say_mounts("folder");
    say_file("b/file");
    SHOW(access("b/../a", F_OK));
    make_file("b/new", "");
    SHOW(access("a/sub/new", F_OK));
    SHOW(rename("b/new", "a/sub/new2"));
    SHOW(link("b/new", "a/sub/new2"));
    SHOW(rmdir("b"));
    SHOW(rename("b", "c"));
    SHOW(unlink("b"));
    SHOW(rename("a", "b"));
    SHOW(rename("a", "c"));
    say_mounts("source renamed");
    SHOW(rename("c", "a"));
    make_file("target", "");
    SHOW(mount("a/sub/file", "target", NULL, MS_BIND, NULL));
    say_mounts("file");
    say_file("target");
    SHOW(unlink("target"));
    SHOW(rename("f", "target"));
    SHOW(unlink("a/sub/file"));
    say_mounts("source unlinked");
    say_file("target");
    SHOW(umount("target"));
    SHOW(umount("b"));
    // below a bind, with and without MS_REC
    MUST(mount("none", "a", "tmpfs", 0, NULL));
    MUST(mkdir("a/in", 0755));
    MUST(mount("none", "a/in", "tmpfs", MS_NODEV, NULL));
    make_file("a/in/deep", "");
    SHOW(mount("a", "b", NULL, MS_BIND, NULL));
    SHOW(access("b/in", F_OK));
    SHOW(access("b/in/deep", F_OK));
    SHOW(umount("b"));
    SHOW(mount("a", "b", NULL, MS_BIND | MS_REC, NULL));
    SHOW(access("b/in/deep", F_OK));
    say_mounts("recursive");
    SHOW(umount("b"));
    SHOW(umount2("b", MNT_DETACH));
    SHOW(mount(NULL, "a/in", NULL, MS_UNBINDABLE, NULL));
    SHOW(mount("a", "b", NULL, MS_BIND | MS_REC, NULL));
    say_mounts("without the unbindable one");
    SHOW(mount("a/in", "b", NULL, MS_BIND, NULL));
}

PROBE(mount_move) {
    begin();
    MUST(mount("none", "a", "tmpfs", 0, NULL));
    make_file("a/f", "");
    MUST(mkdir("a/d", 0755));
    SHOW(mount("a/d", "b", NULL, MS_MOVE, NULL));
    SHOW(mount("a", "f", NULL, MS_MOVE, NULL));
    SHOW(mount("a", "a/d", NULL, MS_MOVE, NULL));
    SHOW(mount("a", "b", NULL, MS_MOVE, NULL));
    say_mounts("moved");
    SHOW(access("b/f", F_OK));
    SHOW(access("a/under", F_OK));
    int fd = MUST(open("b/f", O_RDONLY));
    SHOW(umount("b"));
    SHOW(umount2("b", MNT_DETACH));
    SHOW(access("b/f", F_OK));
    SHOW(faccessat(fd, "", F_OK, AT_EMPTY_PATH));
    close(fd);
    MUST(mount("none", "a", "tmpfs", 0, NULL));
    MUST(chdir("a"));
    SHOW(umount("../a"));
    MUST(chdir(".."));
    SHOW(umount2("a", MNT_EXPIRE));
    SHOW(umount2("a", MNT_EXPIRE));
    SHOW(umount2("a", MNT_EXPIRE));
    MUST(mount("none", "a", "tmpfs", 0, NULL));
    MUST(symlink("a", "l"));
    SHOW(umount2("l", UMOUNT_NOFOLLOW));
    SHOW(umount2("l", 0));
}

static void in_new_namespace(void) {
    SHOW(unshare(CLONE_NEWNS));
    SHOW(mount("none", "b", "tmpfs", 0, NULL));
    say_mounts("inside");
    SHOW(umount("a"));
}

PROBE(mount_namespace) {
    begin();
    MUST(mount("none", "a", "tmpfs", 0, NULL));
    make_file("a/f", "");
    in_child("new namespace", in_new_namespace);
    say_mounts("outside");
    SHOW(access("a/f", F_OK));
}

static void pivot(void) {
    MUST(unshare(CLONE_NEWNS));
    MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    MUST(mkdir("new", 0755));
    SHOW(syscall(SYS_pivot_root, "new", "new"));
    MUST(mount("none", "new", "tmpfs", 0, NULL));
    MUST(mkdir("new/old", 0755));
    MUST(mkdir("new/proc", 0755));
    make_file("new/marker", "");
    SHOW(syscall(SYS_pivot_root, "new", "b"));
    SHOW(syscall(SYS_pivot_root, "f", "new/old"));
    SHOW(syscall(SYS_pivot_root, "new", "f"));
    SHOW(syscall(SYS_pivot_root, "new", "new/missing"));
    SHOW(syscall(SYS_pivot_root, "/", "/"));
    SHOW(syscall(SYS_pivot_root, "new", "new/old"));
    SHOW(access("/marker", F_OK));
    SHOW(access("/old/probe", F_OK));
    char cwd[64];
    SHOW(syscall(SYS_getcwd, cwd, sizeof cwd) > 0);
    SHOW(chdir("/"));
    SHOW(umount2("/old", MNT_DETACH));
    SHOW(access("/old/probe", F_OK));
    SHOW(access("/marker", F_OK));
    SHOW(mount("none", "/proc", "proc", 0, NULL));
    SHOW(access("/proc/self/stat", F_OK));
}

PROBE(mount_pivot) {
    begin();
    in_child("pivoting", pivot);
    SHOW(access("/probe", F_OK));
}

PROBE(mount_propagation) {
    begin();
    MUST(mount("none", "a", "tmpfs", 0, NULL));
    SHOW(mount(NULL, "a", NULL, MS_SHARED, NULL));
    say_mounts("shared");
    SHOW(mount("a", "b", NULL, MS_BIND, NULL));
    say_mounts("peers");
    MUST(mkdir("a/in", 0755));
    SHOW(mount("none", "a/in", "tmpfs", 0, NULL));
    say_mounts("propagated");
    make_file("a/in/x", "");
    SHOW(access("b/in/x", F_OK));
    SHOW(umount("b/in"));
    SHOW(access("a/in/x", F_OK));
    SHOW(mount(NULL, "b", NULL, MS_SLAVE, NULL));
    say_mounts("slave");
    SHOW(mount("none", "b/in", "tmpfs", 0, NULL));
    say_mounts("not to the master");
    SHOW(umount("b/in"));
    SHOW(mount("none", "a/in", "tmpfs", 0, NULL));
    say_mounts("to the slave");
    SHOW(umount("a/in"));
    say_mounts("and away");
    SHOW(mount(NULL, "b", NULL, MS_PRIVATE, NULL));
    SHOW(mount("none", "a/in", "tmpfs", 0, NULL));
    say_mounts("not to the private one");
    SHOW(mount(NULL, "a", NULL, MS_REC | MS_PRIVATE, NULL));
    say_mounts("all private");
}

PROBE(mount_names) {
    begin();
    MUST(mkdir("with space", 0755));
    MUST(mkdir("tab\tand\nline", 0755));
    MUST(mkdir("back\\slash#hash", 0755));
    SHOW(mount("sour ce", "with space", "tmpfs", 0, NULL));
    SHOW(mount("#x\\", "tab\tand\nline", "tmpfs", 0, NULL));
    SHOW(mount("", "back\\slash#hash", "tmpfs", 0, NULL));
    say_mounts("escaped");
    SHOW(mount("none", "a", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
    SHOW(access("a/self/status", F_OK));
    say_options("/a");
    SHOW(umount("a"));
    SHOW(mount("none", "a", "sysfs", MS_RDONLY, NULL));
    say_options("/a");
    SHOW(umount("a"));
    SHOW(mount("none", "a", "mqueue", 0, NULL));
    say_options("/a");
    SHOW(umount("a"));
    SHOW(mount("none", "a", "devpts", 0, "newinstance,ptmxmode=0666"));
    say_options("/a");
    SHOW(umount("a"));
    SHOW(mount("none", "a", "ramfs", 0, NULL));
    say_options("/a");
    SHOW(umount("a"));
}
