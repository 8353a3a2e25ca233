// Runs one probe by name; see probe.h.
#include "probe.h"

extern const struct probe *const __start_probes[];
extern const struct probe *const __stop_probes[];

volatile sig_atomic_t handled;
volatile sig_atomic_t last_signal;
void *const unmapped = (void *)0x10000;
void *const kernel_half = (void *)0xffff800000001000;

void say(const char *format, ...) {
    char line[2048];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (length > (int)sizeof line - 2)
        length = sizeof line - 2;
    line[length++] = '\n';
    if (write(1, line, length) != length)
        _exit(4);
}

static const char *errno_name(int number) {
    const char *name = strerrorname_np(number);
    return name ? name : "unknown errno";
}

long show(const char *what, long result) {
    if (result == -1)
        say("%s = -1 %s", what, errno_name(errno));
    else
        say("%s = %ld", what, result);
    return result;
}

long ok(const char *what, long result) {
    if (result == -1)
        say("%s: %s", what, errno_name(errno));
    else
        say("%s: ok", what);
    return result;
}

void fact(const char *what, bool holds) { say("%s: %s", what, holds ? "yes" : "NO"); }

long must(const char *what, long result) {
    if (result == -1) {
        say("set-up failed: %s: %s", what, errno_name(errno));
        _exit(3);
    }
    return result;
}

const char *signal_name(int sig) {
    const char *name = sigabbrev_np(sig);
    return name ? name : sig >= SIGRTMIN ? "RT" : "?";
}

void say_status(const char *what, int status) {
    if (WIFEXITED(status))
        say("%s: exit %d", what, WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        say("%s: signal %s", what, signal_name(WTERMSIG(status)));
    else if (WIFSTOPPED(status))
        say("%s: stopped %s", what, signal_name(WSTOPSIG(status)));
    else if (WIFCONTINUED(status))
        say("%s: continued", what);
    else
        say("%s: odd status", what);
}

pid_t spawn(void (*body)(void)) {
    pid_t pid = MUST(fork());
    if (pid == 0) {
        prctl(PR_SET_DUMPABLE, 0);
        body();
        _exit(0);
    }
    return pid;
}

void reap(const char *what, pid_t pid) {
    int status = 0;
    pid_t got;
    while ((got = waitpid(pid, &status, 0)) == -1 && errno == EINTR)
        continue;
    if (got != pid)
        say("%s: waitpid: %s", what, got == -1 ? errno_name(errno) : "another child");
    else
        say_status(what, status);
}

void in_child(const char *what, void (*body)(void)) { reap(what, spawn(body)); }

void make_file(const char *path, const char *content) {
    int fd = MUST(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
    MUST(write(fd, content, strlen(content)));
    close(fd);
}

void say_file(const char *path) {
    char text[4096];
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        say("%s: %s", path, errno_name(errno));
        return;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n < 0) {
        say("%s: read: %s", path, errno_name(errno));
        return;
    }
    text[n] = 0;
    say("%s: %zd bytes '%s'", path, n, text);
}

int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void nap_ms(int ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&left, &left) == -1 && errno == EINTR)
        continue;
}

static void on_signal(int sig) {
    last_signal = sig;
    handled++;
}

void count_signal(int sig, int flags) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    handled = 0;
    last_signal = 0;
    MUST(sigaction(sig, &action, NULL));
}

void *forbidden_page(void) {
    void *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        must("mmap", -1);
    return page;
}

static const struct probe *find(const char *name) {
    for (const struct probe *const *entry = __start_probes; entry < __stop_probes; entry++)
        if (strcmp((*entry)->name, name) == 0)
            return *entry;
    return NULL;
}

static void out_of_time(int sig) {
    (void)sig;
    say("out of time");
    _exit(98);
}

static void run_in(const char *folder, const struct probe *probe) {
    signal(SIGALRM, out_of_time);
    alarm(20);
    if (mkdir(folder, 0755) == -1 && errno != EEXIST)
        must("mkdir", -1);
    MUST(chdir(folder));
    umask(022);
    probe->run();
    say("end");
}

// Several probes in one place, one after the other: each in a child and in an empty folder of its own.
static void run_all(const char *place, char **names) {
    umask(0);
    if (mkdir(place, 0755) == -1 && errno != EEXIST)
        must("mkdir", -1);
    for (; *names; names++) {
        const struct probe *probe = find(*names);
        char folder[PATH_MAX];
        snprintf(folder, sizeof folder, "%s/%s", place, *names);
        say("== %s", *names);
        pid_t pid = MUST(fork());
        if (pid == 0) {
            if (!probe)
                _exit(2);
            run_in(folder, probe);
            _exit(0);
        }
        reap("ended with", pid);
    }
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (const struct probe *const *entry = __start_probes; entry < __stop_probes; entry++)
            puts((*entry)->name);
        return 0;
    }
    if (argc > 3 && strcmp(argv[1], "--in") == 0) {
        run_all(argv[2], argv + 3);
        return 0;
    }
    const struct probe *probe = argc < 2 ? NULL : find(argv[1]);
    if (!probe)
        return 2;
    mkdir("/tmp", 01777);
    run_in("/tmp/probe", probe);
    return 0;
}
