// Credentials: every set*id(2), capset(2), and what execve(2) makes of them: set-id programs, file capabilities, root.
#include "probe.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/auxv.h>
#include <sys/fsuid.h>
#include <sys/ptrace.h>
#include <sys/xattr.h>

static void say_ids(void) {
    uid_t r, e, s;
    gid_t gr, ge, gs;
    MUST(getresuid(&r, &e, &s));
    MUST(getresgid(&gr, &ge, &gs));
    say("uid %d %d %d fs %d gid %d %d %d fs %d", r, e, s, setfsuid(-1), gr, ge, gs, setfsgid(-1));
}

static void say_caps(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {0};
    MUST(syscall(SYS_capget, &header, data));
    uint64_t bounding = 0, ambient = 0;
    for (int cap = 0; cap < 41; cap++) {
        bounding |= (uint64_t)(prctl(PR_CAPBSET_READ, cap) == 1) << cap;
        ambient |= (uint64_t)(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1) << cap;
    }
    say("permitted %x effective %x inheritable %x bounding %lx ambient %lx secure %x nnp %d", data[0].permitted, data[0].effective,
        data[0].inheritable, bounding, ambient, prctl(PR_GET_SECUREBITS), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
}

static int set_caps(uint64_t permitted, uint64_t effective, uint64_t inheritable) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{effective, permitted, inheritable}, {effective >> 32, permitted >> 32, inheritable >> 32}};
    return syscall(SYS_capset, &header, data);
}

// ---- every combination of three ids

static const struct {
    uid_t r, e, s;
} starts[] = {{0, 0, 0}, {1, 2, 3}, {0, 1, 1}, {1, 0, 1}, {1, 1, 0}, {1, 1, 1}};
enum { STARTS = sizeof starts / sizeof starts[0] };

static void try_uid(const char *what, unsigned start, long (*change)(uid_t, uid_t, uid_t), uid_t a, uid_t b, uid_t c) {
    pid_t pid = MUST(fork());
    if (pid == 0) {
        MUST(setresuid(starts[start].r, starts[start].e, starts[start].s));
        say("%s(%d, %d, %d) from %d %d %d", what, a, b, c, starts[start].r, starts[start].e, starts[start].s);
        OK(change(a, b, c));
        say_ids();
        say_caps();
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}
static void try_gid(const char *what, unsigned start, long (*change)(uid_t, uid_t, uid_t), uid_t a, uid_t b, uid_t c) {
    pid_t pid = MUST(fork());
    if (pid == 0) {
        MUST(setresgid(starts[start].r, starts[start].e, starts[start].s));
        MUST(setresuid(starts[start].r, starts[start].e, starts[start].s));
        say("%s(%d, %d, %d) from %d %d %d", what, a, b, c, starts[start].r, starts[start].e, starts[start].s);
        OK(change(a, b, c));
        say_ids();
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

static long one(uid_t a, uid_t b, uid_t c) { return (void)b, (void)c, syscall(SYS_setuid, a); }
static long two(uid_t a, uid_t b, uid_t c) { return (void)c, syscall(SYS_setreuid, a, b); }
static long three(uid_t a, uid_t b, uid_t c) { return syscall(SYS_setresuid, a, b, c); }
static long fs(uid_t a, uid_t b, uid_t c) { return (void)b, (void)c, syscall(SYS_setfsuid, a); }
static long one_gid(uid_t a, uid_t b, uid_t c) { return (void)b, (void)c, syscall(SYS_setgid, a); }
static long two_gid(uid_t a, uid_t b, uid_t c) { return (void)c, syscall(SYS_setregid, a, b); }
static long three_gid(uid_t a, uid_t b, uid_t c) { return syscall(SYS_setresgid, a, b, c); }
static long fs_gid(uid_t a, uid_t b, uid_t c) { return (void)b, (void)c, syscall(SYS_setfsgid, a); }

PROBE(set_user_ids) {
    static const uid_t ids[] = {-1, 0, 1, 7};
    for (unsigned start = 0; start < STARTS; start++)
        for (int a = 0; a < 4; a++) {
            try_uid("setuid", start, one, ids[a], 0, 0);
            try_uid("setfsuid", start, fs, ids[a], 0, 0);
            for (int b = 0; b < 4; b++)
                try_uid("setreuid", start, two, ids[a], ids[b], 0);
        }
}

PROBE(set_three_user_ids) {
    static const uid_t ids[] = {-1, 0, 2};
    for (unsigned start = 0; start < STARTS; start++)
        for (int a = 0; a < 3; a++)
            for (int b = 0; b < 3; b++)
                for (int c = 0; c < 3; c += 2)
                    try_uid("setresuid", start, three, ids[a], ids[b], ids[c]);
}

PROBE(set_group_ids) {
    static const uid_t ids[] = {-1, 0, 1, 7};
    for (unsigned start = 0; start < STARTS; start++)
        for (int a = 0; a < 4; a++) {
            try_gid("setgid", start, one_gid, ids[a], 0, 0);
            try_gid("setfsgid", start, fs_gid, ids[a], 0, 0);
            for (int b = 0; b < 4; b++) {
                try_gid("setregid", start, two_gid, ids[a], ids[b], 0);
                try_gid("setresgid", start, three_gid, ids[b], ids[a], ids[b]);
            }
        }
}

static void groups_of_a_user(void) {
    MUST(setresuid(1000, 1000, 1000));
    SHOW(setgroups(0, NULL));
    SHOW(syscall(SYS_setgroups, -1, NULL));
}

PROBE(supplementary_groups) {
    gid_t groups[8];
    SHOW(syscall(SYS_setgroups, 3, (gid_t[]){30, 10, 20}));
    SHOW(getgroups(8, groups));
    say("%d %d %d", groups[0], groups[1], groups[2]);
    SHOW(getgroups(2, groups));
    SHOW(getgroups(-1, groups));
    SHOW(getgroups(3, unmapped));
    SHOW(syscall(SYS_setgroups, 65537, groups));
    SHOW(syscall(SYS_setgroups, -1, groups));
    SHOW(syscall(SYS_setgroups, 2, unmapped));
    SHOW(syscall(SYS_setgroups, 2, (gid_t[]){5, -1}));
    SHOW(syscall(SYS_setgroups, 2, (gid_t[]){5, 5}));
    SHOW(getgroups(8, groups));
    in_child("user", groups_of_a_user);
    gid_t *many = calloc(65536, sizeof *many);
    SHOW(syscall(SYS_setgroups, 65536, many));
    SHOW(getgroups(0, NULL));
    SHOW(setgroups(0, NULL));
    SHOW(getgroups(0, NULL));
    SHOW(syscall(SYS_getresuid, unmapped, NULL, NULL));
}

PROBE(capset_rules) {
    say_caps();
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_1, 0};
    struct __user_cap_data_struct data[2] = {0};
    SHOW(syscall(SYS_capget, &header, data));
    FACT(data[0].permitted != 0 && data[1].permitted == 0);
    header.version = _LINUX_CAPABILITY_VERSION_2;
    SHOW(syscall(SYS_capget, &header, data));
    header = (struct __user_cap_header_struct){0, 0};
    SHOW(syscall(SYS_capget, &header, data));
    say("%x", header.version);
    header.version = 0;
    SHOW(syscall(SYS_capset, &header, data));
    say("%x", header.version);
    SHOW(syscall(SYS_capget, unmapped, data));
    SHOW(syscall(SYS_capget, &header, unmapped));
    SHOW(syscall(SYS_capget, &header, NULL));
    header.pid = -1;
    SHOW(syscall(SYS_capget, &header, data));
    header.pid = 99999;
    SHOW(syscall(SYS_capget, &header, data));
    header.pid = getpid();
    SHOW(syscall(SYS_capget, &header, data));
    SHOW(syscall(SYS_capset, &header, data));
    header.pid = 99999;
    SHOW(syscall(SYS_capset, &header, data));
    header.pid = -1;
    SHOW(syscall(SYS_capset, &header, data));
    header.pid = 0;
    SHOW(syscall(SYS_capset, &header, unmapped));
    SHOW(set_caps(0xff, 0x1ff, 0));
    SHOW(set_caps(0xff, 0xf, 1 << CAP_SETPCAP));
    SHOW(set_caps(~0ULL, 0, 0));
    SHOW(set_caps(0x1e3, 0xf00, 0));
    SHOW(set_caps(0x1e3, 0x103, 1 << CAP_KILL));
    say_caps();
    SHOW(set_caps(0x1e3, 0x3, 1ULL << CAP_SYS_ADMIN));
    SHOW(set_caps(0x3, 0x3, 1 << CAP_KILL | 1 << CAP_CHOWN));
    SHOW(set_caps(0x3, 0x3, 1 << CAP_KILL));
    say_caps();
    SHOW(set_caps(0x3, 0x3, 1 << CAP_KILL | 1 << CAP_SETUID));
    SHOW(set_caps(0x7, 0x3, 0));
}

// ---- exec

PROBE(zz_credentials) {
    say_ids();
    say_caps();
    say("secure %lu uid %lu %lu gid %lu %lu", getauxval(AT_SECURE), getauxval(AT_UID), getauxval(AT_EUID), getauxval(AT_GID), getauxval(AT_EGID));
    say("dumpable %d", prctl(PR_GET_DUMPABLE));
}

static const char *program = "./copy";
static void exec_program(void) {
    execl(program, "copy", "zz_credentials", NULL);
    show("execl", -1);
}

static void copy_program(void) {
    char block[65536];
    ssize_t n;
    int from = MUST(open("/proc/self/exe", O_RDONLY)), to = MUST(open("copy", O_CREAT | O_WRONLY | O_TRUNC, 0755));
    while ((n = MUST(read(from, block, sizeof block))) > 0)
        MUST(write(to, block, n));
    close(to);
    close(from);
}

static void (*before)(void);
static void as_root(void) { before(); exec_program(); }
static void as_user(void) {
    MUST(setgroups(0, NULL));
    MUST(setresgid(1000, 1000, 1000));
    MUST(setresuid(1000, 1000, 1000));
    before();
    exec_program();
}
static void nothing(void) {}
static void no_new_privileges(void) { MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); }
static void no_root(void) { MUST(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT)); }
static void keep(void) { MUST(prctl(PR_SET_KEEPCAPS, 1)); }
static void inheritable(void) { MUST(set_caps(0x1eb, 0x1eb, 0x23)); }
static void bounded(void) {
    MUST(prctl(PR_CAPBSET_DROP, CAP_KILL));
    MUST(prctl(PR_CAPBSET_DROP, CAP_CHOWN));
}
static void real_user(void) { MUST(setresuid(1000, 0, 0)); }
static void effective_user(void) { MUST(setresuid(0, 1000, 0)); }
static void saved_user(void) { MUST(setresuid(1000, 1000, 0)); }
static void ambient_kept(void) {
    MUST(set_caps(0x1eb, 0x1eb, 0x23));
    MUST(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
    MUST(prctl(PR_SET_KEEPCAPS, 1));
    MUST(setresuid(1000, 1000, 1000));
    MUST(set_caps(0x1eb, 0x1eb, 0x23));
    MUST(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
}

static void run(const char *what, void (*who)(void), void (*prepare)(void)) {
    before = prepare;
    say("-- %s", what);
    in_child("program", who);
}

static void run_all(void) {
    run("root", as_root, nothing);
    run("root, no_new_privs", as_root, no_new_privileges);
    run("root, SECBIT_NOROOT", as_root, no_root);
    run("root, inheritable", as_root, inheritable);
    run("root, bounded", as_root, bounded);
    run("root, keep", as_root, keep);
    run("real user", as_root, real_user);
    run("effective user", as_root, effective_user);
    run("saved root", as_root, saved_user);
    run("ambient", as_root, ambient_kept);
    run("user", as_user, nothing);
    run("user, no_new_privs", as_user, no_new_privileges);
}

PROBE(exec_keeps) {
    copy_program();
    run_all();
}

PROBE(exec_set_user_id) {
    copy_program();
    MUST(chmod("copy", 04755));
    run_all();
    MUST(chown("copy", 2000, 3000));
    MUST(chmod("copy", 06755));
    run_all();
}

static void exec_traced(void) {
    pid_t pid = MUST(fork());
    if (pid == 0) {
        MUST(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
        before();
        exec_program();
        _exit(1);
    }
    int status = 0;
    while (MUST(waitpid(pid, &status, 0)) == pid && WIFSTOPPED(status))
        MUST(ptrace(PTRACE_CONT, pid, NULL, NULL));
    SHOW(status);
}
static void become_user(void) { MUST(setresuid(1000, 1000, 1000)); }
static void traced_by_user(void) {
    become_user();
    exec_traced();
}

// A tracer gets no hold on a program with rights that it has not itself.
PROBE(exec_set_user_id_traced) {
    copy_program();
    MUST(chmod("copy", 04755));
    run("traced by a user", traced_by_user, nothing);
    run("traced by root", exec_traced, become_user);
    run("of root, traced by root", exec_traced, nothing);
    MUST(chown("copy", 2000, 3000));
    MUST(chmod("copy", 06755));
    run("traced by a user", traced_by_user, nothing);
    run("of root, traced by root", exec_traced, nothing);
}

// The bits of a script count for nothing, those of its interpreter do.
PROBE(exec_set_user_id_script) {
    copy_program();
    MUST(chmod("copy", 04755));
    make_file("script", "#!/tmp/probe/copy zz_credentials\n");
    MUST(chmod("script", 0755));
    program = "./script";
    run("interpreter", as_user, nothing);
    MUST(chmod("copy", 0755));
    MUST(chmod("script", 04755));
    run("script", as_user, nothing);
}

PROBE(exec_set_group_id) {
    copy_program();
    MUST(chown("copy", 2000, 3000));
    MUST(chmod("copy", 02755));
    run_all();
    MUST(chmod("copy", 02705));
    run_all();
}

static void set_file_caps(uint32_t permitted, uint32_t inheritable_caps, bool effective) {
    struct vfs_cap_data data = {.magic_etc = VFS_CAP_REVISION_2 | (effective ? VFS_CAP_FLAGS_EFFECTIVE : 0),
                                .data = {{permitted, inheritable_caps}, {0, 0}}};
    SHOW(setxattr("copy", "security.capability", &data, sizeof data, 0));
}

PROBE(exec_file_capabilities) {
    copy_program();
    set_file_caps(1 << CAP_KILL | 1 << CAP_CHOWN, 1 << CAP_FOWNER | 1 << CAP_CHOWN, true);
    run_all();
    set_file_caps(1 << CAP_KILL, 0, false);
    run_all();
    set_file_caps(1 << CAP_SYS_BOOT, 0, true);
    run("beyond the bounding set, effective", as_user, nothing);
    set_file_caps(1 << CAP_SYS_BOOT, 0, false);
    run("beyond the bounding set", as_user, nothing);
    set_file_caps(0, 0x3, true);
    run("inherited by root", as_root, inheritable);
    MUST(chmod("copy", 04755));
    set_file_caps(1 << CAP_KILL, 0, true);
    run_all();
}

static void say_file_caps(const char *what) {
    struct vfs_cap_data data;
    long size = getxattr("copy", "security.capability", &data, sizeof data);
    say("%s: %s", what, size > 0 ? "capabilities" : strerrorname_np(errno));
}

// Whoever changes a program takes its capabilities away.
PROBE(file_capabilities_go) {
    copy_program();
    struct vfs_cap_data odd = {.magic_etc = VFS_CAP_REVISION_2};
    SHOW(setxattr("copy", "security.capability", &odd, sizeof odd - 1, 0));
    SHOW(setxattr("copy", "security.capability", &odd, 12, 0));
    odd.magic_etc = 0x04000000;
    SHOW(setxattr("copy", "security.capability", &odd, sizeof odd, 0));
    set_file_caps(1 << CAP_KILL, 0, true);
    int fd = MUST(open("copy", O_RDWR));
    say_file_caps("opened");
    SHOW(pwrite(fd, "\177", 1, 0));
    say_file_caps("written");
    set_file_caps(1 << CAP_KILL, 0, true);
    SHOW(pwrite(fd, "\177", 1, 0));
    say_file_caps("written again");
    set_file_caps(1 << CAP_KILL, 0, true);
    SHOW(ftruncate(fd, 100000));
    say_file_caps("cut");
    set_file_caps(1 << CAP_KILL, 0, true);
    SHOW(chmod("copy", 0700));
    say_file_caps("mode");
    SHOW(chown("copy", -1, -1));
    say_file_caps("owner");
    set_file_caps(1 << CAP_KILL, 0, true);
    SHOW(truncate("copy", 100));
    say_file_caps("cut by name");
    set_file_caps(1 << CAP_KILL, 0, true);
    SHOW(rename("copy", "other"));
    SHOW(rename("other", "copy"));
    say_file_caps("renamed");
    SHOW(removexattr("copy", "security.capability"));
    say_file_caps("removed");
}

static void say_hold(const char *what) {
    int sig = -1;
    MUST(prctl(PR_GET_PDEATHSIG, &sig));
    say("%s: dumpable %d, death signal %d", what, prctl(PR_GET_DUMPABLE), sig);
    MUST(prctl(PR_SET_DUMPABLE, 1));
    MUST(prctl(PR_SET_PDEATHSIG, SIGUSR1));
}

static void become_others(void) {
    say_hold("at first");
    SHOW(setresuid(-1, -1, 7));
    say_hold("saved id");
    SHOW(setgroups(0, NULL));
    say_hold("groups");
    SHOW(setfsuid(5));
    say_hold("file system id");
    SHOW(setfsgid(5));
    say_hold("file system group");
    SHOW(setresgid(6, -1, -1));
    say_hold("real group");
    SHOW(setegid(6));
    say_hold("effective group");
    SHOW(setresuid(8, -1, -1));
    say_hold("real id");
    SHOW(seteuid(8));
    say_hold("effective id");
}

static int told[2];
static void say_hold_after_parent(void) {
    MUST(prctl(PR_SET_PDEATHSIG, SIGKILL));
    MUST(setresuid(1000, 1000, 1000));
    write(told[1], "r", 1);
    nap_ms(100);
    write(told[1], "s", 1);
}
static void leave_child(void) {
    char c;
    if (fork() == 0) {
        say_hold_after_parent();
        _exit(0);
    }
    read(told[0], &c, 1);
}

PROBE(zz_hold) { say_hold("program"); }
static void exec_with_hold(void) {
    MUST(prctl(PR_SET_PDEATHSIG, SIGUSR1));
    execl("./copy", "copy", "zz_hold", NULL);
}
static void exec_with_hold_as_user(void) {
    MUST(setresuid(1000, 1000, 1000));
    exec_with_hold();
}

// Who becomes another shows nothing to those who were his like, and dies not with his parent.
PROBE(becoming_another) {
    char c = 0;
    in_child("others", become_others);
    MUST(pipe(told));
    in_child("parent", leave_child);
    SHOW(read(told[0], &c, 1));
    FACT(wait(NULL) > 0);
    copy_program();
    in_child("plain", exec_with_hold);
    MUST(chmod("copy", 04755));
    in_child("set user id", exec_with_hold_as_user);
}
