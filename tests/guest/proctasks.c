// What /proc shows of a process, and what may be written there.
#include "probe.h"
#include <poll.h>
#include <sys/syscall.h>

static void say_lines(const char *path, const char *const wanted[]) {
    char line[1024];
    FILE *file = fopen(path, "r");
    if (!file) {
        say("%s: %s", path, strerrorname_np(errno));
        return;
    }
    while (fgets(line, sizeof line, file))
        for (int i = 0; wanted[i]; i++)
            if (!strncmp(line, wanted[i], strlen(wanted[i]))) {
                line[strcspn(line, "\n")] = 0;
                say("%s", line);
            }
    fclose(file);
}

static char *pid_path(pid_t pid, const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return path;
}

static void linger(void) {
    prctl(PR_SET_DUMPABLE, 1);
    raise(SIGSTOP);
    for (;;)
        pause();
}
static pid_t spawn_lingering(void) {
    pid_t pid = spawn(linger);
    MUST(waitpid(pid, NULL, WUNTRACED));
    MUST(kill(pid, SIGCONT));
    return pid;
}
static void leave(void) { prctl(PR_SET_DUMPABLE, 1); }

PROBE(status_lines) {
    static const char *const wanted[] = {"Name", "Umask", "State", "Uid", "Gid", "Groups", "Threads", "SigPnd", "ShdPnd", "SigBlk", "SigIgn",
                                         "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", NULL};
    sigset_t set;
    umask(027);
    setgid(5);
    setresuid(1, 2, 3);
    signal(SIGHUP, SIG_IGN);
    count_signal(SIGUSR1, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(getpid(), SIGUSR1);
    raise(SIGUSR2);
    prctl(PR_SET_NAME, "odd\nname\\");
    say_lines("/proc/self/status", wanted);
}

static char state_of(pid_t pid) {
    char text[512] = "";
    int fd = open(pid_path(pid, "stat"), O_RDONLY);
    if (fd < 0)
        return '-';
    read(fd, text, sizeof text - 1);
    close(fd);
    char *end = strrchr(text, ')');
    return end ? end[2] : '?';
}
static void await_state(const char *what, pid_t pid, char wanted) {
    for (int i = 0; i < 2000 && state_of(pid) != wanted; i++)
        nap_ms(1);
    say("%s: %c", what, state_of(pid));
}
static void spin(void) {
    for (;;)
        continue;
}
static int line[2];
static void read_line(void) {
    char c;
    read(line[0], &c, 1);
}

PROBE(states) {
    pid_t pid = spawn_lingering();
    await_state("pause", pid, 'S');
    kill(pid, SIGSTOP);
    await_state("stopped", pid, 'T');
    kill(pid, SIGCONT);
    await_state("on", pid, 'S');
    kill(pid, SIGKILL);
    await_state("zombie", pid, 'Z');
    reap("child", pid);
    say("%c", state_of(pid));
    pid = spawn(spin);
    await_state("spin", pid, 'R');
    kill(pid, SIGKILL);
    reap("child", pid);
    MUST(pipe(line));
    pid = spawn(read_line);
    await_state("read", pid, 'S');
    kill(pid, SIGSTOP);
    await_state("stopped", pid, 'T');
    kill(pid, SIGKILL);
    reap("child", pid);
}

static void try_files(pid_t pid) {
    static const char *const files[] = {
        "auxv", "cgroup", "cmdline", "comm", "coredump_filter", "cpuset", "cwd", "environ", "exe", "fd", "fdinfo", "gid_map", "limits", "loginuid", "maps", "mem",
        "mountinfo", "mounts", "mountstats", "net", "ns", "oom_adj", "oom_score", "oom_score_adj", "pagemap", "personality", "projid_map", "root", "sched", "schedstat",
        "sessionid", "setgroups", "smaps", "smaps_rollup", "stack", "stat", "statm", "status", "syscall", "task", "timerslack_ns", "uid_map", "wchan"};
    char text[8192];
    for (unsigned i = 0; i < sizeof files / sizeof files[0]; i++) {
        int fd = open(pid_path(pid, files[i]), O_RDONLY);
        ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text);
        struct stat status;
        if (fd < 0)
            say("%s: %s", files[i], strerrorname_np(errno));
        else {
            fstat(fd, &status);
            say("%s: %s, mode %o, owner %d", files[i], n < 0 ? strerrorname_np(errno) : n == 0 ? "empty" : "read", status.st_mode, status.st_uid);
        }
        close(fd);
    }
}

PROBE(own_files) { try_files(getpid()); }

static void files_as_user(void) {
    MUST(setresgid(1000, 1000, 1000));
    MUST(setresuid(1000, 1000, 1000));
    try_files(1);
}
PROBE(files_of_a_stranger) { in_child("user", files_as_user); }

PROBE(files_of_a_zombie) {
    pid_t pid = spawn(leave);
    MUST(waitid(P_PID, pid, &(siginfo_t){0}, WEXITED | WNOWAIT));
    try_files(pid);
    static const char *const wanted[] = {"Name", "State", "Threads", "VmSize", "FDSize", NULL};
    say_lines(pid_path(pid, "status"), wanted);
    int fd = MUST(open(pid_path(pid, "stat"), O_RDONLY)), folder = MUST(open(pid_path(pid, ""), O_RDONLY));
    char text[64];
    reap("child", pid);
    SHOW(read(fd, text, sizeof text));
    SHOW(openat(folder, "stat", O_RDONLY));
    SHOW(open(pid_path(pid, "stat"), O_RDONLY));
}

static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    long result = fd < 0 ? -1 : write(fd, text, strlen(text));
    int saved = errno;
    close(fd);
    say("'%s' > %s: %s", text, path, result < 0 ? strerrorname_np(saved) : "ok");
}

static void write_as_user(void) {
    MUST(setresuid(1000, 1000, 1000));
    put("/proc/self/oom_score_adj", "300");
    put("/proc/self/oom_score_adj", "200");
    put("/proc/self/timerslack_ns", "10");
    put("/proc/1/oom_score_adj", "300");
    put("/proc/1/comm", "x");
    put("/proc/self/comm", "x");
}

PROBE(written_files) {
    put("/proc/self/comm", "a name that is too long");
    say_file("/proc/self/comm");
    put("/proc/self/comm", "short\n");
    say_file("/proc/self/comm");
    put("/proc/self/oom_score_adj", "100");
    say_file("/proc/self/oom_score_adj");
    put("/proc/self/oom_score_adj", "1001");
    put("/proc/self/oom_score_adj", "-1001");
    put("/proc/self/oom_score_adj", "x");
    put("/proc/self/oom_score_adj", "");
    put("/proc/self/oom_score_adj", "-500");
    put("/proc/self/oom_adj", "5");
    put("/proc/self/oom_adj", "99");
    say_file("/proc/self/oom_adj");
    put("/proc/self/coredump_filter", "0x7f");
    say_file("/proc/self/coredump_filter");
    put("/proc/self/coredump_filter", "x");
    put("/proc/self/timerslack_ns", "12345");
    SHOW(prctl(PR_GET_TIMERSLACK));
    say_file("/proc/self/timerslack_ns");
    put("/proc/self/clear_refs", "1");
    put("/proc/self/clear_refs", "9");
    put("/proc/self/uid_map", "0 0 1");
    put("/proc/self/setgroups", "deny");
    put("/proc/self/stat", "x");
    put("/proc/self/environ", "x");
    in_child("user", write_as_user);
}

PROBE(memory_file) {
    char text[16] = "before", copy[16] = "";
    int fd = SHOW(open("/proc/self/mem", O_RDWR)) >= 0 ? 3 : -1;
    if (fd < 0)
        return;
    SHOW(pread(fd, copy, 7, (off_t)(uintptr_t)text));
    say("%s", copy);
    SHOW(pwrite(fd, "after", 6, (off_t)(uintptr_t)text));
    say("%s", text);
    SHOW(pread(fd, copy, 7, (off_t)(uintptr_t)unmapped));
    SHOW(pread(fd, copy, 7, 0));
    SHOW(lseek(fd, (off_t)(uintptr_t)text, SEEK_SET) == (off_t)(uintptr_t)text);
    SHOW(read(fd, copy, 7));
    SHOW(lseek(fd, 0, SEEK_END));
    FACT(lseek(fd, -4096, SEEK_SET) == -4096);
    static const char constant[16] = "constant";
    SHOW(pwrite(fd, "C", 1, (off_t)(uintptr_t)constant));
    say("%s", constant);
    pid_t pid = spawn_lingering();
    fd = open(pid_path(pid, "mem"), O_RDWR);
    SHOW(pread(fd, copy, 6, (off_t)(uintptr_t)text));
    SHOW(pwrite(fd, "child", 6, (off_t)(uintptr_t)text));
    SHOW(pread(fd, copy, 6, (off_t)(uintptr_t)text));
    say("%s %s", copy, text);
    kill(pid, SIGKILL);
    reap("child", pid);
    SHOW(pread(fd, copy, 6, (off_t)(uintptr_t)text));
}

static void *wait_here(void *unused) {
    (void)unused;
    char c;
    prctl(PR_SET_NAME, "second");
    read(line[0], &c, 1);
    return NULL;
}

PROBE(thread_directories) {
    static const char *const wanted[] = {"Name", "Threads", "State", NULL};
    pthread_t thread;
    MUST(pipe(line));
    pthread_create(&thread, NULL, wait_here, NULL);
    char path[64], link[128] = "";
    nap_ms(50);
    pid_t tid = 0;
    for (pid_t candidate = getpid() + 1; candidate < getpid() + 50 && !tid; candidate++) {
        snprintf(path, sizeof path, "/proc/self/task/%d", candidate);
        if (access(path, F_OK) == 0)
            tid = candidate;
    }
    FACT(tid != 0);
    snprintf(path, sizeof path, "/proc/self/task/%d/status", tid);
    say_lines(path, wanted);
    snprintf(path, sizeof path, "/proc/%d/status", tid); // not listed, but there
    say_lines(path, wanted);
    snprintf(path, sizeof path, "/proc/%d/task", tid);
    SHOW(access(path, F_OK));
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    SHOW(access(path, F_OK) == 0 || errno == ENOENT);
    SHOW(readlink("/proc/thread-self", link, sizeof link) > 0);
    snprintf(path, sizeof path, "%d/task/%d", getpid(), getpid());
    FACT(!strcmp(path, link));
    struct stat status;
    SHOW(stat("/proc/self/task", &status));
    SHOW(status.st_nlink);
    write(line[1], "x", 1);
    pthread_join(thread, NULL);
}

PROBE(children_file) {
    char text[256] = "", wanted[64];
    pid_t one = spawn_lingering(), two = spawn_lingering();
    int fd = open("/proc/self/task/1/children", O_RDONLY);
    read(fd, text, sizeof text - 1);
    snprintf(wanted, sizeof wanted, "%d %d ", one, two);
    FACT(!strcmp(text, wanted));
    kill(one, SIGKILL);
    kill(two, SIGKILL);
    reap("one", one);
    reap("two", two);
}

static volatile int initialized = 5;

static int field_count(const char *path) {
    char text[2048] = "";
    int fd = open(path, O_RDONLY), count = 0;
    read(fd, text, sizeof text - 1);
    close(fd);
    for (char *word = strtok(strrchr(text, ')'), " \n"); word; word = strtok(NULL, " \n"))
        count++;
    return count;
}

PROBE(stat_of_a_process) {
    SHOW(field_count("/proc/self/stat"));
    char text[2048] = "", *words[60];
    int fd = MUST(open("/proc/self/stat", O_RDONLY)), count = 0;
    MUST(read(fd, text, sizeof text - 1));
    for (char *word = strtok(strrchr(text, ')') + 1, " \n"); word; word = strtok(NULL, " \n"))
        words[count++] = word;
    FACT(atoi(words[1]) == getppid());
    FACT(atoi(words[2]) == getpgrp() && atoi(words[3]) == getsid(0));
    SHOW(atoi(words[17])); // num_threads
    FACT(atoi(words[16]) == getpriority(PRIO_PROCESS, 0));
    FACT(strtoull(words[19], NULL, 10) > 0);
    FACT(strtoull(words[20], NULL, 10) > 0 && strtoull(words[21], NULL, 10) > 0);
    FACT(strtoull(words[25], NULL, 10) > 0); // start of the stack
    unsigned long code = strtoul(words[23], NULL, 10), end = strtoul(words[24], NULL, 10);
    fact("code is where this code is", code <= (unsigned long)&field_count && (unsigned long)&field_count < end);
    unsigned long data = strtoul(words[42], NULL, 10), data_end = strtoul(words[43], NULL, 10), heap = strtoul(words[44], NULL, 10);
    fact("data is where data is", data <= (unsigned long)&initialized && (unsigned long)&initialized < data_end);
    fact("the heap begins before its end", heap != 0 && heap <= (unsigned long)sbrk(0));
}

PROBE(statm_and_io) {
    char text[256] = "";
    int fd = MUST(open("/proc/self/statm", O_RDONLY));
    MUST(read(fd, text, sizeof text - 1));
    long size, resident, shared_pages, code;
    SHOW(sscanf(text, "%ld %ld %ld %ld", &size, &resident, &shared_pages, &code));
    FACT(size > resident && resident >= shared_pages && code > 0);
    static const char *const wanted[] = {"rchar", NULL};
    (void)wanted;
    FILE *io = fopen("/proc/self/io", "r");
    int lines = 0;
    while (fgets(text, sizeof text, io))
        lines++;
    SHOW(lines);
}
