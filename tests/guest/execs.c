// execve(2): its arguments, #! lines, and what the new program still has of the old one.
#include "probe.h"
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

static char *const none[] = {NULL};
static void script(const char *name, const char *text, int mode) {
    make_file(name, text);
    MUST(chmod(name, mode));
}

PROBE(zz_arguments) {
    char text[1024];
    int fd = MUST(open("/proc/self/cmdline", O_RDONLY));
    ssize_t n = MUST(read(fd, text, sizeof text - 1));
    for (ssize_t i = 0; i < n - 1; i++)
        if (!text[i])
            text[i] = '|';
    text[n] = 0;
    say("%s", text);
    say("execfn %s", (char *)getauxval(AT_EXECFN));
    fd = MUST(open("/proc/self/comm", O_RDONLY));
    n = MUST(read(fd, text, sizeof text - 1));
    text[n - 1] = 0;
    say("comm %s", text);
    n = MUST(readlink("/proc/self/exe", text, sizeof text - 1));
    text[n] = 0;
    say("exe %s", text);
}

static const char *to_run;
static char *const *run_argv;
static int run_dir = AT_FDCWD, run_flags;
static void run_it(void) { SHOW(syscall(SYS_execveat, run_dir, to_run, run_argv, none, run_flags)); }
static void run(const char *path, char *const argv[]) {
    to_run = path;
    run_argv = argv;
    say("-- %s", path);
    in_child("it", run_it);
}

PROBE(script_lines) {
    char long_line[600];
    char *argv[] = {"zero", "one", "two", NULL};
    script("plain", "#!/probe zz_arguments", 0755);
    run("./plain", argv);
    script("blanks", "#! \t /probe \t zz_arguments \t \nrest", 0755);
    run("./blanks", argv);
    script("noargument", "#!/bin/busybox\n", 0755);
    run("./noargument", (char *[]){"zero", "true", NULL});
    script("noexec", "#!/probe zz_arguments\n", 0644);
    run("./noexec", argv);
    script("folder", "#!/bin\n", 0755);
    run("./folder", argv);
    script("blank", "#!   \n", 0755);
    run("./blank", argv);
    script("nothing", "#!", 0755);
    run("./nothing", argv);
    script("relative", "#!./plain\n", 0755);
    run("./relative", argv);
    script("nested", "#!./relative x\n", 0755);
    run("./nested", argv);
    script("deep4", "#!./nested\n", 0755);
    run("./deep4", argv);
    script("deep5", "#!./deep4\n", 0755);
    run("./deep5", argv);
    script("deep6", "#!./deep5\n", 0755);
    run("./deep6", argv);
    script("itself", "#!./itself\n", 0755);
    run("./itself", argv);
    script("carriage", "#!/probe zz_arguments\r\n", 0755);
    run("./carriage", argv);
    memset(long_line, 'a', sizeof long_line - 1);
    memcpy(long_line, "#!/probe zz_arguments", 21);
    long_line[21] = ' ';
    long_line[599] = 0;
    script("cut", long_line, 0755);
    run("./cut", argv);
    long_line[9] = 'b';
    memset(long_line + 2, 'c', 300);
    script("cutpath", long_line, 0755);
    run("./cutpath", argv);
    script("text", "echo hello\n", 0755);
    run("./text", argv);
    run("./plain", none);
}

PROBE(exec_arguments) {
    char *argv[] = {"zero", "zz_arguments", NULL};
    run("/probe", argv);
    run("/probe", (char *[]){"", "zz_arguments", NULL});
    run_dir = MUST(open("/", O_PATH));
    run("probe", argv);
    run("nothing", argv);
    run_flags = AT_EMPTY_PATH;
    run("", argv);
    run_dir = MUST(open("/probe", O_RDONLY));
    run("", argv);
    run_dir = MUST(open("/probe", O_RDONLY | O_CLOEXEC));
    run("", argv);
    run("x", argv);
    run_flags = 0;
    run("", argv);
    run_flags = 0x8000;
    run("", argv);
    run_dir = AT_FDCWD;
    run_flags = AT_SYMLINK_NOFOLLOW;
    MUST(symlink("/probe", "link"));
    run("link", argv);
    run_flags = 0;
    run("./link", argv);
    script("line", "#!/probe zz_arguments\n", 0755);
    run_dir = MUST(open("line", O_RDONLY));
    run_flags = AT_EMPTY_PATH;
    run("", argv);
    run_dir = MUST(open("line", O_RDONLY | O_CLOEXEC));
    run("", argv);
    run_dir = 99;
    run("", argv);
    run_flags = 0;
    run("/probe", argv);
    run("probe", argv);
}

// argv and envp of nothing, and wild ones.
PROBE(exec_vectors) {
    SHOW(syscall(SYS_execve, unmapped, none, none));
    SHOW(syscall(SYS_execve, "/probe", unmapped, none));
    SHOW(syscall(SYS_execve, "/probe", none, unmapped));
    SHOW(syscall(SYS_execve, "/probe", (char *[]){(char *)unmapped, NULL}, none));
    SHOW(syscall(SYS_execve, "/nothing", unmapped, unmapped));
    SHOW(syscall(SYS_execve, "/", unmapped, unmapped));
    MUST(mkdir("closed", 0700));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        MUST(setresuid(1000, 1000, 1000));
        SHOW(syscall(SYS_execve, "closed/x", none, none));
        _exit(0);
    }
    reap("child", pid);
    char long_name[5000];
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;
    SHOW(syscall(SYS_execve, long_name, none, none));
    long_name[300] = 0;
    SHOW(syscall(SYS_execve, long_name, none, none));
}

PROBE(zz_count) {
    extern char **environ;
    int n = 0;
    size_t size = 0;
    for (char **each = environ; *each; each++, n++)
        size += strlen(*each) + 1;
    say("%d strings of %zu bytes", n, size);
}

static size_t strings, string_size;
static void exec_large(void) {
    char **envp = calloc(strings + 1, sizeof *envp), *text = malloc(string_size);
    memset(text, 'e', string_size - 1);
    text[string_size - 1] = 0;
    for (size_t i = 0; i < strings; i++)
        envp[i] = text;
    char *argv[] = {"probe", "zz_count", NULL};
    SHOW(syscall(SYS_execve, "/probe", argv, envp));
}
static void large(size_t count, size_t size) {
    strings = count;
    string_size = size;
    say("%zu strings of %zu bytes", count, size);
    in_child("exec", exec_large);
}
static void small_stack(void) {
    MUST(setrlimit(RLIMIT_STACK, &(struct rlimit){1 << 20, 1 << 20}));
    large(10, 10000);
    large(40, 10000);
}

// A quarter of the stack's limit is for arguments, one string may have 32 pages.
PROBE(argument_limits) {
    large(1, 131072);
    large(1, 131073);
    large(15, 131072);
    large(17, 131072);
    large(100000, 5);
    large(200000, 5);
    in_child("small stack", small_stack);
}

PROBE(zz_state) {
    sigset_t pending, blocked;
    stack_t stack;
    struct itimerval timer;
    MUST(sigpending(&pending));
    MUST(sigprocmask(SIG_BLOCK, NULL, &blocked));
    MUST(sigaltstack(NULL, &stack));
    MUST(getitimer(ITIMER_REAL, &timer));
    say("pending %d blocked %d stack %d alarm %s", sigismember(&pending, SIGUSR1), sigismember(&blocked, SIGUSR1), stack.ss_flags,
        timer.it_value.tv_sec > 50 ? "runs" : "off");
    SHOW(syscall(SYS_timer_getoverrun, 0));
    SHOW(prctl(PR_GET_DUMPABLE));
    SHOW(prctl(PR_GET_KEEPCAPS));
    SHOW(prctl(PR_GET_TIMERSLACK));
    int sig = -1;
    SHOW(prctl(PR_GET_PDEATHSIG, &sig));
    SHOW(sig);
    SHOW(prctl(PR_GET_CHILD_SUBREAPER, &sig));
    SHOW(sig);
    say("persona %x", personality(0xffffffff));
    SHOW(umask(022));
    SHOW(getpriority(PRIO_PROCESS, 0));
    char name[16];
    SHOW(prctl(PR_GET_NAME, name));
    say("%s", name);
    for (int s = 1; s < 65; s++) {
        struct sigaction action;
        if (s != SIGALRM && syscall(SYS_rt_sigaction, s, NULL, &action, 8) == 0 && action.sa_handler != SIG_DFL)
            say("%d %s", s, action.sa_handler == SIG_IGN ? "ignored" : "caught");
    }
    for (int fd = 3; fd < 20; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            say("fd %d", fd);
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, "VmLck", 5))
            say("%.12s", line + 6);
    int status_of_child;
    pid_t pid = waitpid(-1, &status_of_child, 0);
    say("child %s", pid > 0 ? "waited for" : strerrorname_np(errno));
}

static void with_much_state(void) {
    static char area[65536];
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    raise(SIGUSR1);
    MUST(sigaltstack(&(stack_t){area, 0, sizeof area}, NULL));
    alarm(100);
    timer_t timer;
    MUST(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &timer));
    signal(SIGHUP, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    count_signal(SIGUSR2, 0);
    MUST(prctl(PR_SET_KEEPCAPS, 1));
    MUST(prctl(PR_SET_TIMERSLACK, 777));
    MUST(prctl(PR_SET_PDEATHSIG, SIGHUP));
    MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
    MUST(personality(ADDR_NO_RANDOMIZE));
    MUST(setpriority(PRIO_PROCESS, 0, 3));
    umask(077);
    dup2(1, 10);
    dup3(1, 11, O_CLOEXEC);
    MUST(fcntl(MUST(dup2(1, 12)), F_SETFD, FD_CLOEXEC));
    MUST(mlock(area, 4096));
    signal(SIGCHLD, SIG_DFL);
    if (fork() == 0)
        _exit(3);
    char *argv[] = {"probe", "zz_state", NULL};
    SHOW(syscall(SYS_execve, "/probe", argv, none));
}

PROBE(what_exec_keeps) { in_child("program", with_much_state); }

static void *exec_in_thread(void *unused) {
    (void)unused;
    nap_ms(20);
    char *argv[] = {"probe", "zz_state", NULL};
    SHOW(syscall(SYS_execve, "/probe", argv, none));
    return NULL;
}
static void *spin(void *unused) {
    (void)unused;
    for (;;)
        continue;
    return NULL;
}
static void exec_from_thread(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, spin, NULL);
    pthread_create(&thread, NULL, exec_in_thread, NULL);
    int p[2];
    char c;
    MUST(pipe2(p, O_CLOEXEC));
    read(p[0], &c, 1);
    say("not reached");
}

PROBE(exec_while_others_wait_and_run) { in_child("program", exec_from_thread); }

static void *write_to_program(void *unused) {
    (void)unused;
    SHOW(open("copy", O_WRONLY));
    return NULL;
}
static void run_copy(void) {
    char *argv[] = {"probe", "zz_sleeper", NULL};
    SHOW(syscall(SYS_execve, "./copy", argv, none));
}
PROBE(zz_sleeper) {
    raise(SIGSTOP);
}

// A file that is open for writing can't be executed, one that is executed not opened for writing.
PROBE(busy_programs) {
    char block[65536];
    ssize_t n;
    int from = MUST(open("/proc/self/exe", O_RDONLY)), to = MUST(open("copy", O_CREAT | O_WRONLY | O_TRUNC, 0755));
    while ((n = MUST(read(from, block, sizeof block))) > 0)
        MUST(write(to, block, n));
    in_child("while written", run_copy);
    close(to);
    pid_t pid = spawn(run_copy);
    MUST(waitpid(pid, NULL, WUNTRACED));
    SHOW(open("copy", O_WRONLY));
    SHOW(open("copy", O_RDWR));
    SHOW(truncate("copy", 0));
    pthread_t thread;
    pthread_create(&thread, NULL, write_to_program, NULL);
    pthread_join(thread, NULL);
    SHOW(unlink("copy"));
    kill(pid, SIGCONT);
    reap("copy", pid);
    script("line", "#!/probe zz_arguments\n", 0755);
    to = MUST(open("line", O_WRONLY));
    run("./line", none);
}

PROBE(zz_auxv) {
    const unsigned char *random = (const unsigned char *)getauxval(AT_RANDOM);
    int zeros = 0;
    for (int i = 0; i < 16; i++)
        zeros += random[i] == 0;
    FACT(zeros < 8);
    say("platform %s", (char *)getauxval(AT_PLATFORM));
    say("page %lu ticks %lu flags %lx phent %lu", getauxval(AT_PAGESZ), getauxval(AT_CLKTCK), getauxval(AT_FLAGS), getauxval(AT_PHENT));
    FACT(getauxval(AT_PHNUM) > 2 && getauxval(AT_PHDR) != 0 && getauxval(AT_ENTRY) != 0 && getauxval(AT_SYSINFO_EHDR) != 0);
    FACT(getauxval(AT_HWCAP) != 0);
    FACT(getauxval(AT_BASE) == 0);
    FACT(((uintptr_t)__builtin_frame_address(0) & 7) == 0);
    unsigned long seen[64][2];
    int fd = MUST(open("/proc/self/auxv", O_RDONLY));
    ssize_t size = MUST(read(fd, seen, sizeof seen));
    bool same = true;
    for (int i = 0; i < size / 16 && seen[i][0]; i++)
        same &= seen[i][0] == AT_HWCAP || getauxval(seen[i][0]) == seen[i][1]; // the C library has its own idea of that one
    FACT(same);
    FACT(size >= 16 && seen[size / 16 - 1][0] == 0);
}

static void exec_auxv(void) {
    char *argv[] = {"probe", "zz_auxv", NULL};
    SHOW(syscall(SYS_execve, "/probe", argv, none));
}

PROBE(auxiliary_vector) { in_child("program", exec_auxv); }
