// Names that the kernel has seen before: who may walk them, and what they lead to, is decided anew each time.
#include "probe.h"
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <grp.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

static char buffer[256];

static void look(const char *path) {
    struct stat status;
    stat(path, &status);
    lstat(path, &status);
    access(path, R_OK);
    ssize_t n = readlink(path, buffer, sizeof buffer);
    (void)n;
    int fd = open(path, O_RDONLY);
    if (fd >= 0) close(fd);
}

// Everything that is answered for a name, as one line each.
static void ask(const char *path) {
    struct stat status;
    struct statx more;
    say("%s:", path);
    SHOW(stat(path, &status));
    SHOW(lstat(path, &status));
    SHOW(statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &more));
    SHOW(access(path, F_OK));
    SHOW(access(path, R_OK));
    SHOW(faccessat(AT_FDCWD, path, R_OK, AT_EACCESS));
    SHOW(readlink(path, buffer, sizeof buffer));
    int fd = open(path, O_RDONLY);
    OK(fd);
    if (fd >= 0) close(fd);
}

static void tree(void) {
    MUST(chmod(".", 0755));
    MUST(mkdir("d", 0755));
    MUST(mkdir("d/e", 0755));
    make_file("d/e/f", "text");
    MUST(symlink("e/f", "d/link"));
    MUST(symlink("d/e", "through"));
    for (int i = 0; i < 2; i++) {
        look("d/e/f");
        look("d/link");
        look("through/f");
        look("d/e/absent");
    }
}

static void all(void) {
    ask("d/e/f");
    ask("d/link");
    ask("through/f");
    ask("d/e/absent");
    ask("d/e/../e/./f");
}

static void become(uid_t uid, gid_t gid, gid_t group) {
    MUST(setgroups(group != 0, &group));
    MUST(setresgid(gid, gid, gid));
    MUST(setresuid(uid, uid, uid));
}

static void as_a_stranger(void) {
    become(1000, 1000, 0);
    all();
}

static void as_one_of_the_group(void) {
    become(1000, 1000, 2000);
    all();
}

PROBE(known_names_need_search_permission) {
    tree();
    MUST(chmod("d", 0700));
    all();
    in_child("stranger", as_a_stranger);
    MUST(chown("d", 0, 2000));
    MUST(chmod("d", 0710));
    in_child("stranger", as_a_stranger);
    in_child("group", as_one_of_the_group);
    MUST(chmod("d", 0701)); // which is not for the group
    in_child("stranger", as_a_stranger);
    in_child("group", as_one_of_the_group);
    MUST(chmod("d", 0755));
    MUST(chmod("d/e/f", 0));
    in_child("stranger", as_a_stranger);
}

static void by_the_id_of_the_moment(void) {
    MUST(setgroups(0, NULL));
    setfsuid(1000);
    all();
    setfsuid(0);
    MUST(setresuid(1000, 0, 0)); // access(2) asks for the real id
    ask("d/e/f");
    MUST(setresuid(-1, 1000, -1));
    ask("d/e/f");
    MUST(setresuid(-1, 0, -1));
    ask("d/e/f");
}

PROBE(known_names_and_other_ids) {
    tree();
    MUST(chmod("d", 0700));
    in_child("ids", by_the_id_of_the_moment);
}

static int to_child[2], to_parent[2];

static void wait_for(int *pipe) {
    char byte;
    MUST(read(pipe[0], &byte, 1));
}

static void tell(int *pipe) { MUST(write(pipe[1], "x", 1)); }

// Another process has the permission taken away, and back, between two looks.
static void looks_between(void) {
    become(1000, 1000, 0);
    int folder = MUST(open("d/e", O_RDONLY | O_DIRECTORY));
    struct stat status;
    for (int round = 0; round < 3; round++) {
        SHOW(stat("d/e/f", &status));
        SHOW(open("d/e/f", O_RDONLY) >= 0);
        SHOW(fstatat(folder, "f", &status, 0)); // d's search permission does not matter from here
        SHOW(fstatat(folder, "../link", &status, AT_SYMLINK_NOFOLLOW));
        fflush(stdout);
        tell(to_parent);
        wait_for(to_child);
    }
}

PROBE(known_names_while_another_process_changes_them) {
    tree();
    MUST(pipe(to_child));
    MUST(pipe(to_parent));
    pid_t pid = spawn(looks_between);
    wait_for(to_parent);
    MUST(chmod("d", 0600));
    tell(to_child);
    wait_for(to_parent);
    MUST(chmod("d", 0755));
    MUST(rename("d/e", "moved"));
    tell(to_child);
    wait_for(to_parent);
    tell(to_child);
    reap("looker", pid);
}

PROBE(known_links_that_lead_elsewhere) {
    tree();
    MUST(mkdir("other", 0755));
    make_file("other/f", "another text");
    struct stat status;
    MUST(unlink("through"));
    ask("through/f");
    MUST(symlink("other", "through"));
    MUST(stat("through/f", &status));
    SHOW(status.st_size);
    MUST(symlink("d/e", "next"));
    MUST(rename("next", "through"));
    MUST(stat("through/f", &status));
    SHOW(status.st_size);
    MUST(unlink("through"));
    MUST(mkdir("through", 0755));
    ask("through/f");
    MUST(rename("d/e", "d/old"));
    ask("d/link");
    MUST(rename("other", "d/e"));
    MUST(stat("d/link", &status));
    SHOW(status.st_size);
    MUST(syscall(SYS_renameat2, AT_FDCWD, "d/old", AT_FDCWD, "d/e", RENAME_EXCHANGE));
    MUST(stat("d/link", &status));
    SHOW(status.st_size);
    MUST(symlink("link2", "link1"));
    MUST(symlink("link1", "link2"));
    look("link1");
    ask("link1");
    ask("link1/f");
    SHOW(open("d/link", O_RDONLY | O_NOFOLLOW));
    SHOW(open("d/e/f/", O_RDONLY));
    SHOW(stat("d/e/f/", &status));
    SHOW(stat("d/e/f/.", &status));
    SHOW(stat("d/e/f/..", &status));
    SHOW(lstat("d/link/", &status));
}

PROBE(known_folders_that_move_and_go) {
    tree();
    struct stat status, there;
    make_file("marker", "x");
    make_file("d/marker", "xx");
    int folder = MUST(open("d/e", O_RDONLY | O_DIRECTORY));
    MUST(chdir("d/e"));
    MUST(stat("../marker", &status));
    SHOW(status.st_size);
    MUST(rename("../e", "../../e"));
    MUST(stat("../marker", &status));
    SHOW(status.st_size);
    MUST(unlink("f"));
    MUST(rmdir("../e"));
    SHOW(stat("f", &status));
    SHOW(stat(".", &status));
    SHOW(status.st_nlink);
    SHOW(stat("../marker", &there));
    SHOW(open("f", O_RDWR | O_CREAT, 0600));
    SHOW(mkdir("g", 0700));
    SHOW(open(".", O_RDONLY) >= 0);
    SHOW(fstatat(folder, "f", &status, 0));
    SHOW(openat(folder, "f", O_RDONLY));
    MUST(fchdir(folder));
    MUST(mkdir("../e", 0755));
    make_file("../e/f", "new");
    SHOW(stat("f", &status));
    SHOW(fstatat(folder, "../e/f", &status, 0));
}

PROBE(names_of_a_new_folder) {
    MUST(mkdir("new", 0755));
    struct stat status;
    SHOW(stat("new/a", &status));
    SHOW(open("new/a", O_RDONLY));
    make_file("new/a", "x");
    SHOW(stat("new/a", &status));
    MUST(rename("new/a", "new/b"));
    SHOW(stat("new/a", &status));
    SHOW(open("new/a", O_RDWR | O_CREAT | O_EXCL, 0600) >= 0);
    SHOW(unlink("new/a"));
    SHOW(stat("new/a", &status));
    MUST(link("new/b", "new/c"));
    SHOW(stat("new/c", &status));
    SHOW(status.st_nlink);
    MUST(symlink("b", "new/d"));
    SHOW(stat("new/d", &status));
    MUST(mkfifo("new/e", 0600));
    SHOW(stat("new/e", &status));
    int fd = MUST(open("new", O_TMPFILE | O_RDWR, 0600));
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    MUST(linkat(AT_FDCWD, path, AT_FDCWD, "new/f", AT_SYMLINK_FOLLOW));
    SHOW(stat("new/f", &status));
    MUST(mkdir("from", 0755));
    make_file("from/g", "x");
    MUST(rename("from/g", "new/g"));
    SHOW(stat("new/g", &status));
    SHOW(stat("from/g", &status));
    MUST(rename("from", "new/from"));
    make_file("new/from/h", "x");
    SHOW(stat("new/from/h", &status));
    SHOW(stat("new/from/../g", &status));
}

static void confined(void) {
    struct stat status, root;
    MUST(chroot("jail"));
    ask("/f");
    MUST(stat("/", &root));
    MUST(chdir("/"));
    MUST(stat("../../..", &status));
    FACT(status.st_ino == root.st_ino);
    SHOW(stat("/../f", &status));
    SHOW(stat("/in/../../f", &status));
    SHOW(stat("/out", &status)); // a link to /f, which is another one here
    SHOW(status.st_size);
    SHOW(stat("/probe", &status));
}

PROBE(known_names_in_another_root) {
    MUST(mkdir("jail", 0755));
    MUST(mkdir("jail/in", 0755));
    make_file("jail/f", "in the jail");
    MUST(symlink("/f", "jail/out"));
    look("jail/f");
    look("jail/in");
    look("jail/out");
    look("/probe");
    in_child("confined", confined);
    struct stat status;
    SHOW(stat("jail/out", &status));
}

static void *changes_the_folder(void *unused) {
    (void)unused;
    MUST(chdir("d/e"));
    return NULL;
}

static void changes_its_own_folder(void) {
    struct stat status;
    MUST(chdir("d/e"));
    SHOW(stat("f", &status));
}

PROBE(working_folders_are_shared_or_not) {
    tree();
    struct stat status;
    SHOW(stat("f", &status));
    in_child("process", changes_its_own_folder);
    SHOW(stat("f", &status));
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, changes_the_folder, NULL));
    MUST(pthread_join(thread, NULL));
    SHOW(stat("f", &status));
    SHOW(stat("d/e/f", &status));
}

static void asks_for_the_lock(void) {
    int fd = MUST(open("f", O_RDWR));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    MUST(fcntl(fd, F_GETLK, &lock));
    say("locked: %s", lock.l_type == F_UNLCK ? "no" : "yes");
}

PROBE(locks_go_with_any_descriptor_of_the_file) {
    make_file("f", "some text");
    int fd = MUST(open("f", O_RDWR));
    for (int i = 0; i < 2; i++) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        MUST(fcntl(fd, F_SETLK, &lock));
        in_child("asks", asks_for_the_lock);
        int again = MUST(open("f", O_RDONLY));
        in_child("asks", asks_for_the_lock);
        if (i) MUST(dup2(fd, again));
        else MUST(close(again));
        in_child("asks", asks_for_the_lock);
    }
}

PROBE(files_opened_again_travel) {
    make_file("f", "some text");
    close(MUST(open("f", O_RDONLY)));
    int pair[2], fd = MUST(open("f", O_RDONLY));
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    MUST(read(fd, buffer, 5));
    MUST(sendmsg(pair[0], &message, 0));
    MUST(close(fd));
    MUST(unlink("f"));
    MUST(recvmsg(pair[1], &message, 0));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    memset(buffer, 0, sizeof buffer);
    SHOW(read(fd, buffer, sizeof buffer));
    say("%s", buffer);
    struct stat status;
    MUST(fstat(fd, &status));
    SHOW(status.st_nlink);
}
