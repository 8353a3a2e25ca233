// The proc file system: what programs read there about themselves and the machine.
#include "probe.h"
#include <dirent.h>

static char text[65536];

static ssize_t slurp(const char *path) {
    ssize_t total = 0, n;
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return -1;
    while ((n = read(fd, text + total, sizeof text - 1 - total)) > 0)
        total += n;
    close(fd);
    text[total] = 0;
    return n < 0 ? -1 : total;
}

static void has(const char *path, const char *part) {
    if (slurp(path) < 0) {
        ok(path, -1);
        return;
    }
    say("%s has '%s': %s", path, part, strstr(text, part) ? "yes" : "NO");
}

static void say_link(const char *path) {
    char target[256];
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n < 0) {
        show(path, n);
        return;
    }
    target[n] = 0;
    say("%s -> %s", path, target);
}

PROBE(proc_self) {
    char path[64], target[64] = {0};
    readlink("/proc/self", target, sizeof target);
    snprintf(path, sizeof path, "%d", getpid());
    FACT(strcmp(path, target) == 0);
    memset(target, 0, sizeof target);
    readlink("/proc/thread-self", target, sizeof target);
    snprintf(path, sizeof path, "%d/task/%d", getpid(), gettid());
    FACT(strcmp(path, target) == 0);
    say_link("/proc/self/exe");
    say_link("/proc/self/cwd");
    say_link("/proc/self/root");
    say_link("/proc/self/fd/99");
    say_link("/proc/mounts");
    say_file("/proc/self/comm");
    struct stat st;
    SHOW(stat("/proc/self/exe", &st) == 0 && S_ISREG(st.st_mode));
    SHOW(stat("/proc/99999999", &st));
    SHOW(open("/proc/self/nothing", O_RDONLY));
    SHOW(mkdir("/proc/new", 0755));
    SHOW(open("/proc/new", O_CREAT | O_WRONLY, 0644));
    SHOW(unlink("/proc/self/comm"));
    ssize_t n = slurp("/proc/self/cmdline");
    SHOW(n);
    for (ssize_t i = 0; i < n - 1; i++)
        if (!text[i])
            text[i] = ' ';
    say("%s", strrchr(text, '/') ? strrchr(text, '/') : text);
    FACT(slurp("/proc/self/environ") >= 0);
    FACT(slurp("/proc/self/auxv") > 0);
}

PROBE(proc_fd) {
    make_file("f", "abcdef");
    int fd = MUST(open("f", O_RDONLY)), p[2];
    MUST(pipe(p));
    MUST(lseek(fd, 4, SEEK_SET));
    say_link("/proc/self/fd/3");
    char target[64] = {0};
    readlink("/proc/self/fd/4", target, sizeof target);
    say("%.6s", target);
    // Linux opens the file anew through the link: own position
    int again = MUST(open("/proc/self/fd/3", O_RDONLY));
    SHOW(lseek(again, 0, SEEK_CUR));
    close(again);
    SHOW(open("/dev/fd/3", O_RDONLY));
    close(6);
    say_link("/dev/stdin");
    MUST(unlink("f"));
    say_link("/proc/self/fd/3");
    again = MUST(open("/proc/self/fd/3", O_RDONLY));
    SHOW(read(again, text, 10));
    close(again);
    has("/proc/self/fdinfo/3", "pos:\t4");
    has("/proc/self/fdinfo/3", "flags:\t0");
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(folder))
        count++;
    closedir(folder);
    FACT(count >= 8);
    struct stat st;
    SHOW(lstat("/proc/self/fd/3", &st) == 0 && S_ISLNK(st.st_mode));
    SHOW(st.st_mode & 0777);
}

PROBE(proc_status) {
    has("/proc/self/status", "Name:\tprobe");
    has("/proc/self/status", "State:\tR (running)");
    has("/proc/self/status", "Uid:\t0\t0\t0\t0");
    has("/proc/self/status", "Threads:\t1");
    has("/proc/self/status", "CapEff:\t");
    has("/proc/self/status", "SigQ:");
    has("/proc/self/status", "VmRSS:");
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\nPid:\t%d\n", getpid());
    MUST(slurp("/proc/self/status"));
    FACT(strstr(text, wanted));
    snprintf(wanted, sizeof wanted, "\nPPid:\t%d\n", getppid());
    FACT(strstr(text, wanted));
    MUST(slurp("/proc/self/stat"));
    int fields = 1;
    for (char *at = text; *at; at++)
        fields += *at == ' ';
    FACT(fields >= 52);
    FACT(atoi(text) == getpid());
    FACT(strstr(text, "(probe) R"));
    MUST(slurp("/proc/self/statm"));
    FACT(atol(text) > 0);
    has("/proc/self/limits", "Max open files");
    has("/proc/self/maps", "[stack]");
    has("/proc/self/maps", "/probe");
    has("/proc/self/mounts", " /proc proc ");
    has("/proc/self/mountinfo", " /proc ");
    has("/proc/self/cgroup", ":/");
    FACT(slurp("/proc/self/wchan") >= 0);
    FACT(slurp("/proc/self/oom_score_adj") > 0);
    FACT(slurp("/proc/self/io") >= 0);
}

PROBE(proc_machine) {
    has("/proc/meminfo", "MemTotal:");
    has("/proc/meminfo", "MemAvailable:");
    has("/proc/cpuinfo", "processor\t: 0");
    has("/proc/cpuinfo", "flags");
    has("/proc/stat", "cpu0 ");
    has("/proc/stat", "btime ");
    has("/proc/version", "Linux version ");
    has("/proc/filesystems", "nodev\tproc");
    has("/proc/sys/kernel/ostype", "Linux");
    has("/proc/sys/kernel/pid_max", "\n");
    has("/proc/sys/fs/file-max", "\n");
    has("/proc/sys/vm/overcommit_memory", "\n");
    has("/proc/sys/net/core/somaxconn", "\n");
    has("/proc/sys/kernel/random/uuid", "-");
    has("/proc/net/dev", "lo:");
    has("/proc/uptime", ".");
    has("/proc/loadavg", "/");
    float one, two;
    MUST(slurp("/proc/uptime"));
    SHOW(sscanf(text, "%f %f", &one, &two));
    MUST(slurp("/proc/loadavg"));
    int running, all, last;
    float load[3];
    SHOW(sscanf(text, "%f %f %f %d/%d %d", load, load + 1, load + 2, &running, &all, &last));
    SHOW(open("/proc/kcore", O_RDONLY) < 0 || true);
}

static void sit(void) { pause(); }

PROBE(proc_others) {
    char path[64];
    pid_t pid = spawn(sit);
    nap_ms(50);
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    MUST(slurp(path));
    FACT(strstr(text, "(probe) S"));
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    FACT(slurp(path) > 0);
    DIR *folder = opendir("/proc");
    struct dirent *entry;
    int numbers = 0, found = 0;
    while ((entry = readdir(folder)))
        if (atoi(entry->d_name)) {
            numbers++;
            found += atoi(entry->d_name) == pid;
        }
    closedir(folder);
    SHOW(numbers);
    SHOW(found);
    kill(pid, SIGKILL);
    nap_ms(50);
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    MUST(slurp(path));
    FACT(strstr(text, "(probe) Z"));
    reap("child", pid);
    SHOW(open(path, O_RDONLY));
    snprintf(path, sizeof path, "/proc/%d/task", getpid());
    folder = opendir(path);
    numbers = 0;
    while ((entry = readdir(folder)))
        numbers += atoi(entry->d_name) != 0;
    closedir(folder);
    SHOW(numbers);
}

PROBE(proc_reading) {
    char c[8];
    int fd = MUST(open("/proc/self/comm", O_RDONLY));
    SHOW(read(fd, c, 3));
    SHOW(read(fd, c, 8));
    SHOW(read(fd, c, 8));
    SHOW(lseek(fd, 1, SEEK_SET));
    SHOW(read(fd, c, 2));
    SHOW(pread(fd, c, 3, 0));
    SHOW(write(fd, c, 1));
    struct stat st;
    SHOW(fstat(fd, &st) == 0 ? st.st_size : -1);
    SHOW(truncate("/proc/self/status", 0));
    SHOW(open("/proc/self/status", O_WRONLY) < 0 || getuid() == 0);
}
