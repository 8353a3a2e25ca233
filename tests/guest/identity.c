// Who and where: credentials, capabilities, limits, host name, machine facts, random bytes.
#include "probe.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>
#include <sys/random.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

static void say_ids(void) {
    uid_t r, e, s;
    gid_t gr, ge, gs;
    MUST(getresuid(&r, &e, &s));
    MUST(getresgid(&gr, &ge, &gs));
    say("uid %d %d %d gid %d %d %d", r, e, s, gr, ge, gs);
}

static void drop_for_good(void) {
    SHOW(setgroups(1, (gid_t[]){1000}));
    SHOW(setresgid(1000, 1000, 1000));
    SHOW(setresuid(1000, 1000, 1000));
    say_ids();
    SHOW(setuid(0));
    SHOW(seteuid(0));
    SHOW(setgid(0));
    SHOW(setgroups(0, NULL));
    gid_t groups[8];
    SHOW(getgroups(8, groups));
    SHOW(groups[0]);
    SHOW(getgroups(0, NULL));
}

static void drop_and_regain(void) {
    SHOW(seteuid(1000));
    say_ids();
    SHOW(setuid(1001));
    SHOW(seteuid(0));
    say_ids();
    SHOW(setreuid(5, 6));
    say_ids();
    SHOW(setreuid(-1, 5));
    say_ids();
    SHOW(setreuid(-1, 7));
}

static void set_plain(void) {
    SHOW(setgid(50));
    SHOW(setuid(1000));
    say_ids();
    SHOW(setuid(1000));
    SHOW(setfsuid(77));
    SHOW(setfsuid(-1));
}

PROBE(user_ids) {
    say_ids();
    FACT(geteuid() == getuid());
    in_child("drop", drop_for_good);
    in_child("regain", drop_and_regain);
    in_child("plain", set_plain);
    say_ids();
}

static long caps_of(uint32_t which[3]) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {0};
    long result = syscall(SYS_capget, &header, data);
    which[0] = data[0].effective;
    which[1] = data[0].permitted;
    which[2] = data[0].inheritable;
    return result;
}

static void capabilities_after_drop(void) {
    uint32_t caps[3];
    setresuid(1000, 1000, 1000);
    SHOW(caps_of(caps));
    say("%x %x", caps[0], caps[1]);
    SHOW(prctl(PR_CAPBSET_DROP, CAP_CHOWN));
}

static void capabilities_kept(void) {
    uint32_t caps[3];
    SHOW(prctl(PR_SET_KEEPCAPS, 1));
    setresuid(1000, 1000, 1000);
    MUST(caps_of(caps));
    FACT(caps[0] == 0 && caps[1] != 0);
    SHOW(prctl(PR_GET_KEEPCAPS));
}

static void capabilities_dropped(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {0};
    make_file("f", "");
    SHOW(syscall(SYS_capset, &header, none));
    SHOW(chown("f", 5, 5));
    SHOW(setuid(1000));
    none[0].permitted = 1;
    SHOW(syscall(SYS_capset, &header, none));
}

PROBE(capabilities) {
    uint32_t caps[3];
    SHOW(caps_of(caps));
    FACT(caps[0] & 1 << CAP_CHOWN);
    FACT(caps[0] == caps[1]);
    in_child("after dropping root", capabilities_after_drop);
    in_child("kept", capabilities_kept);
    in_child("dropped", capabilities_dropped);
    struct __user_cap_header_struct header = {12345, 0};
    SHOW(syscall(SYS_capget, &header, NULL));
    FACT(header.version == _LINUX_CAPABILITY_VERSION_3);
    header.pid = 1 << 21;
    SHOW(syscall(SYS_capget, &header, caps));
    SHOW(prctl(PR_CAPBSET_READ, 999));
    SHOW(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) >= 0);
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SHOW(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW(prctl(9999));
}

static void as_user(void) {
    MUST(setgroups(0, NULL));
    MUST(setresgid(1000, 1000, 1000));
    MUST(setresuid(1000, 1000, 1000));
    SHOW(open("private", O_RDONLY));
    SHOW(open("readable", O_RDONLY));
    SHOW(open("readable", O_WRONLY));
    SHOW(open("mine", O_RDWR));
    SHOW(open("group", O_RDONLY));
    SHOW(access("private", R_OK));
    SHOW(access("readable", R_OK));
    SHOW(access("readable", W_OK));
    SHOW(open("closed/inside", O_RDONLY));
    SHOW(chdir("closed"));
    SHOW(unlink("readable"));
    SHOW(open("new", O_CREAT | O_WRONLY, 0644));
    SHOW(chmod("readable", 0777));
    SHOW(chmod("mine", 0640));
    SHOW(chown("mine", 0, 0));
    SHOW(chown("mine", 1000, 1000));
    SHOW(unlink("sticky/theirs"));
    SHOW(unlink("sticky/ours"));
    SHOW(mkdir("sticky/d", 0755));
    SHOW(rename("sticky/theirs", "sticky/x"));
    SHOW(kill(1, 0));
    SHOW(mknod("sticky/dev", S_IFCHR | 0666, 0x103));
    SHOW(chroot("."));
    SHOW(sethostname("x", 1));
    SHOW(setpriority(PRIO_PROCESS, 0, -5));
    SHOW(link("private", "sticky/l"));
    SHOW(utimensat(AT_FDCWD, "readable", NULL, 0));
    SHOW(execl("./private", "x", NULL));
}

PROBE(permissions) {
    make_file("private", "secret");
    make_file("readable", "public");
    make_file("mine", "");
    make_file("group", "");
    MUST(mkdir("closed", 0700));
    make_file("closed/inside", "");
    MUST(mkdir("sticky", 0777));
    MUST(chmod("sticky", 01777));
    make_file("sticky/theirs", "");
    make_file("sticky/ours", "");
    MUST(chown("sticky/ours", 1000, 1000));
    MUST(chmod("private", 0600));
    MUST(chown("mine", 1000, 1000));
    MUST(chown("group", 0, 1000));
    MUST(chmod("group", 0640));
    in_child("user", as_user);
    SHOW(open("private", O_RDONLY) >= 0);
    MUST(chmod("private", 0));
    fact("root reads anything", open("private", O_RDWR) >= 0);
    SHOW(access("private", X_OK));
}

static void limited(void) {
    SHOW(setrlimit(RLIMIT_NOFILE, &(struct rlimit){10, 20}));
    int last = -1, fd;
    while ((fd = dup(1)) >= 0)
        last = fd;
    show("dup", fd);
    SHOW(last);
    SHOW(open("/dev/null", O_RDONLY));
    int p[2];
    SHOW(pipe(p));
    SHOW(fcntl(1, F_DUPFD, 10));
    SHOW(dup2(1, 10));
    struct rlimit limit;
    SHOW(getrlimit(RLIMIT_NOFILE, &limit));
    say("%lu %lu", limit.rlim_cur, limit.rlim_max);
    SHOW(setrlimit(RLIMIT_NOFILE, &(struct rlimit){30, 20}));
    SHOW(setrlimit(99, &limit));
    SHOW(getrlimit(99, &limit));
}

static void write_too_much(void) {
    char block[1000] = {0};
    SHOW(setrlimit(RLIMIT_FSIZE, &(struct rlimit){1500, 1500}));
    int fd = MUST(open("big", O_CREAT | O_WRONLY, 0644));
    SHOW(write(fd, block, 1000));
    SHOW(write(fd, block, 1000));
    count_signal(SIGXFSZ, 0);
    SHOW(write(fd, block, 1000));
    SHOW(handled);
    SHOW(ftruncate(fd, 5000));
}

static void use_cpu(void) {
    SHOW(setrlimit(RLIMIT_CPU, &(struct rlimit){1, 2}));
    for (;;)
        continue;
}

PROBE(limits) {
    in_child("descriptors", limited);
    in_child("file size", write_too_much);
    struct rlimit old, new = {4096, RLIM_INFINITY};
    SHOW(prlimit(0, RLIMIT_STACK, NULL, &old));
    SHOW(prlimit(1 << 21, RLIMIT_STACK, NULL, &old));
    SHOW(prlimit(0, RLIMIT_CORE, &(struct rlimit){0, 0}, &old));
    SHOW(prlimit(0, RLIMIT_CORE, NULL, &new));
    say("%lu %lu", new.rlim_cur, new.rlim_max);
    struct rusage usage;
    SHOW(getrusage(RUSAGE_SELF, &usage));
    SHOW(getrusage(RUSAGE_CHILDREN, &usage));
    SHOW(getrusage(55, &usage));
    in_child("CPU", use_cpu);
}

PROBE(host_name) {
    struct utsname names;
    char name[65] = {0};
    SHOW(uname(&names));
    say("%s %s", names.sysname, names.machine);
    SHOW(gethostname(name, sizeof name));
    FACT(strcmp(name, names.nodename) == 0);
    SHOW(sethostname("renamed", 7));
    MUST(uname(&names));
    say("%s", names.nodename);
    SHOW(setdomainname("domain", 6));
    SHOW(syscall(SYS_sethostname, "x", 65));
    SHOW(syscall(SYS_sethostname, "x", -1));
    MUST(uname(&names));
    say("%s", names.domainname);
    say_file("/proc/sys/kernel/hostname");
}

PROBE(machine) {
    struct sysinfo info;
    SHOW(sysinfo(&info));
    FACT(info.totalram > 0 && info.procs > 0 && info.mem_unit > 0);
    cpu_set_t set;
    SHOW(sched_getaffinity(0, sizeof set, &set));
    FACT(CPU_COUNT(&set) > 0);
    FACT(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
    FACT(sysconf(_SC_NPROCESSORS_ONLN) == CPU_COUNT(&set));
    unsigned cpu, node;
    SHOW(getcpu(&cpu, &node));
    SHOW(sched_yield());
    SHOW(sched_getscheduler(0));
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(setpriority(PRIO_PROCESS, 0, 5));
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(personality(0xffffffff));
    SHOW(sysconf(_SC_PAGESIZE));
    char bytes[32] = {0};
    SHOW(getrandom(bytes, sizeof bytes, 0));
    int nonzero = 0;
    for (int i = 0; i < 32; i++)
        nonzero += bytes[i] != 0;
    FACT(nonzero > 16);
    SHOW(getrandom(bytes, 8, GRND_NONBLOCK | GRND_RANDOM));
    SHOW(getrandom(bytes, 8, 0x100));
    SHOW(prctl(PR_GET_DUMPABLE));
    SHOW(syscall(SYS_syslog, 99, 0, 0));
    SHOW(syscall(SYS_kexec_load, 0, 0, 0, 0) == -1);
    SHOW(syscall(9999));
    SHOW(syscall(-5));
}

static void say_capabilities(const char *path) {
    char value[64];
    ssize_t size = getxattr(path, "security.capability", value, sizeof value);
    if (size < 0)
        say("%s: no capabilities: %s", path, strerrorname_np(errno));
    else
        say("%s: capabilities of %zd bytes, %02x %02x", path, size, (unsigned char)value[3], (unsigned char)value[4]);
}

static void with_file_capabilities(void) {
    MUST(setgid(1000));
    MUST(setuid(1000));
    execl("./prog", "prog", "zz_permitted", NULL);
    say("no exec: %s", strerrorname_np(errno));
}

static void say_process_capabilities(void) {
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        if (strncmp(line, "CapPrm", 6) == 0 || strncmp(line, "CapEff", 6) == 0)
            say("%.*s", (int)strcspn(line, "\n"), line);
}

PROBE(zz_permitted) { say_process_capabilities(); }

PROBE(file_capabilities) {
    struct vfs_cap_data caps = {.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE, .data[0].permitted = 1 << CAP_NET_RAW};
    int from = MUST(open("/probe", O_RDONLY)), to = MUST(open("prog", O_WRONLY | O_CREAT, 0755));
    while (sendfile(to, from, NULL, 1 << 24) > 0)
        continue;
    SHOW(setxattr("prog", "security.capability", &caps, XATTR_CAPS_SZ_2, 0));
    say_capabilities("prog");
    close(to);
    in_child("runs with them", with_file_capabilities);
    caps.magic_etc &= ~VFS_CAP_FLAGS_EFFECTIVE;
    SHOW(setxattr("prog", "security.capability", &caps, XATTR_CAPS_SZ_2, 0));
    in_child("runs with them", with_file_capabilities);
    SHOW(setxattr("prog", "security.capability", &caps, 3, 0));
    caps.magic_etc = 0x09000000;
    SHOW(setxattr("prog", "security.capability", &caps, XATTR_CAPS_SZ_2, 0));
    caps.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE;
    SHOW(chmod("prog", 0777));
    say_capabilities("prog");
    SHOW(chown("prog", 0, 0));
    say_capabilities("prog");
    MUST(setxattr("prog", "security.capability", &caps, XATTR_CAPS_SZ_2, 0));
    SHOW(truncate("prog", 100));
    say_capabilities("prog");
    MUST(setxattr("prog", "security.capability", &caps, XATTR_CAPS_SZ_2, 0));
    to = MUST(open("prog", O_WRONLY));
    say_capabilities("prog");
    SHOW(write(to, "x", 1));
    say_capabilities("prog");
    MUST(setxattr("prog", "security.capability", &caps, XATTR_CAPS_SZ_2, 0));
    SHOW(removexattr("prog", "security.capability"));
    say_capabilities("prog");
}

static void run_the_script(void) {
    MUST(setgid(1000));
    MUST(setuid(1000));
    execl("./script", "script", NULL);
    say("no exec: %s", strerrorname_np(errno));
}

PROBE(zz_effective) {
    say("%d %d %d %d %ld", getuid(), geteuid(), getgid(), getegid(), getauxval(AT_SECURE));
    say_process_capabilities();
}

// The interpreter's set-user-id bit counts, the script's does not.
PROBE(script_of_setuid_interpreter) {
    int from = MUST(open("/probe", O_RDONLY)), to = MUST(open("interpreter", O_WRONLY | O_CREAT, 0755));
    while (sendfile(to, from, NULL, 1 << 24) > 0)
        continue;
    close(to);
    make_file("script", "#!./interpreter zz_effective\n");
    MUST(chmod("script", 0755));
    in_child("plain", run_the_script);
    MUST(chmod("script", 04755));
    in_child("script", run_the_script);
    MUST(chmod("script", 0755));
    MUST(chmod("interpreter", 04755));
    in_child("interpreter", run_the_script);
}

static void traced_exec(bool keeps_setuid) {
    if (keeps_setuid)
        prctl(PR_SET_KEEPCAPS, 1);
    MUST(setgid(1000));
    MUST(setuid(1000));
    if (keeps_setuid) {
        struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
        struct __user_cap_data_struct data[2] = {{.effective = 1 << CAP_SETUID, .permitted = 1 << CAP_SETUID}};
        MUST(syscall(SYS_capset, &header, data));
    }
    pid_t pid = fork();
    if (pid == 0) {
        MUST(ptrace(PTRACE_TRACEME, 0, 0, 0));
        execl("./prog", "prog", "zz_effective", NULL);
        say("no exec: %s", strerrorname_np(errno));
        _exit(1);
    }
    int status;
    while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status))
        MUST(ptrace(PTRACE_CONT, pid, 0, 0));
    SHOW(status);
}
static void of_a_user(void) { traced_exec(false); }
static void of_one_who_may(void) { traced_exec(true); }

// Who is traced by a user gets nothing of the program that it runs.
PROBE(traced_exec_of_setuid_program) {
    struct vfs_cap_data caps = {.magic_etc = VFS_CAP_REVISION_2, .data[0].permitted = 1 << CAP_NET_RAW};
    int from = MUST(open("/probe", O_RDONLY)), to = MUST(open("prog", O_WRONLY | O_CREAT, 0755));
    while (sendfile(to, from, NULL, 1 << 24) > 0)
        continue;
    close(to);
    in_child("plain", of_a_user);
    MUST(chmod("prog", 06755));
    in_child("set-id", of_a_user);
    in_child("set-id, with CAP_SETUID", of_one_who_may);
    MUST(chmod("prog", 0755));
    MUST(setxattr("prog", "security.capability", &caps, XATTR_CAPS_SZ_2, 0));
    in_child("capability", of_a_user);
}
