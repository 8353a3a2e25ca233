// Processes: fork(2), execve(2), wait(2), process groups and sessions.
#include "probe.h"

static void exit_seven(void) { _exit(7); }
static void kill_self(void) { raise(SIGKILL); }
static void abort_self(void) { abort(); }
static void bad_access(void) { *(volatile int *)8 = 1; }
static void bad_instruction(void) { __builtin_trap(); }
static void divide(void) {
    volatile int zero = 0;
    zero = 1 / zero;
}
static void wait_forever(void) {
    for (;;)
        pause();
}
static void nothing(void) {}

PROBE(exit_status) {
    in_child("seven", exit_seven);
    in_child("nothing", nothing);
    in_child("SIGKILL", kill_self);
    in_child("abort", abort_self);
    in_child("bad access", bad_access);
    in_child("bad instruction", bad_instruction);
    in_child("division", divide);
}

PROBE(wait) {
    int status = 0;
    SHOW(waitpid(-1, &status, 0));
    SHOW(waitpid(-1, &status, WNOHANG));
    pid_t pid = spawn(wait_forever);
    SHOW(waitpid(pid, &status, WNOHANG));
    SHOW(waitpid(1 << 21, &status, 0));
    SHOW(waitpid(pid, &status, 0x40));
    SHOW(kill(pid, SIGTERM));
    FACT(waitpid(pid, &status, 0) == pid);
    say_status("child", status);
    SHOW(waitpid(pid, &status, 0));
    pid = spawn(exit_seven);
    siginfo_t info = {0};
    SHOW(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
    FACT(info.si_pid == pid && info.si_code == CLD_EXITED);
    SHOW(info.si_status);
    SHOW(info.si_signo);
    SHOW(waitid(P_ALL, 0, &info, WEXITED));
    SHOW(waitid(P_ALL, 0, &info, WEXITED));
    SHOW(waitid(P_PID, pid, &info, 0));
    pid = spawn(exit_seven);
    struct rusage usage;
    FACT(wait4(-1, &status, 0, &usage) == pid);
    SHOW(kill(pid, 0));
}

PROBE(stop_and_continue) {
    int status;
    pid_t pid = spawn(wait_forever);
    SHOW(kill(pid, SIGSTOP));
    FACT(waitpid(pid, &status, WUNTRACED) == pid);
    say_status("child", status);
    SHOW(waitpid(pid, &status, WUNTRACED | WNOHANG));
    SHOW(kill(pid, SIGCONT));
    FACT(waitpid(pid, &status, WCONTINUED) == pid);
    say_status("child", status);
    SHOW(kill(pid, SIGSTOP));
    siginfo_t info;
    SHOW(waitid(P_PID, pid, &info, WSTOPPED));
    FACT(info.si_code == CLD_STOPPED && info.si_status == SIGSTOP);
    SHOW(kill(pid, SIGKILL));
    reap("child", pid);
}

static int shared_value;
static int inherited;

static void child_changes(void) {
    char c;
    shared_value = 99;
    SHOW(read(inherited, &c, 1));
    SHOW(close(inherited));
    FACT(getppid() > 0);
}

PROBE(fork_copies) {
    char c;
    make_file("f", "abc");
    inherited = MUST(open("f", O_RDONLY));
    shared_value = 1;
    in_child("child", child_changes);
    SHOW(shared_value);
    SHOW(lseek(inherited, 0, SEEK_CUR));
    SHOW(read(inherited, &c, 1));
    say("%c", c);
}

PROBE(many_children) {
    int status, sum = 0;
    pid_t pids[50];
    for (int i = 0; i < 50; i++) {
        pids[i] = MUST(fork());
        if (pids[i] == 0)
            _exit(i);
    }
    for (int i = 0; i < 50; i++) {
        pid_t pid = waitpid(-1, &status, 0);
        FACT(pid > 0 && WIFEXITED(status));
        sum += WEXITSTATUS(status);
    }
    SHOW(sum);
    SHOW(wait(NULL));
}

static void deeper(int depth);

static void child_of(int depth) {
    deeper(depth);
    _exit(100);
}

static void deeper(int depth) {
    int status;
    if (depth == 0)
        _exit(1);
    pid_t pid = MUST(fork());
    if (pid == 0)
        child_of(depth - 1);
    waitpid(pid, &status, 0);
    _exit(WEXITSTATUS(status) + 1);
}

static void nest(void) { deeper(15); }

PROBE(nested_forks) { in_child("depth", nest); }

static int line[2];

static void orphan(void) {
    pid_t parent = getpid();
    if (fork() == 0) {
        while (getppid() == parent)
            nap_ms(5);
        char text[32];
        int n = snprintf(text, sizeof text, "reparented to %s", getppid() == 1 ? "init" : "another");
        write(line[1], text, n);
        _exit(5);
    }
    _exit(0);
}

PROBE(orphan_is_reparented) {
    char text[64] = {0};
    int status = 0;
    FACT(getpid() == 1);
    MUST(pipe(line));
    in_child("middle", orphan);
    MUST(read(line[0], text, 63));
    say("%s", text);
    FACT(wait(&status) > 0);
    say_status("adopted", status);
}

static void subreaper_body(void) {
    int status;
    SHOW(prctl(PR_SET_CHILD_SUBREAPER, 1));
    pid_t middle = MUST(fork());
    if (middle == 0) {
        if (fork() == 0) {
            nap_ms(50);
            _exit(6);
        }
        _exit(0);
    }
    reap("middle", middle);
    FACT(wait(&status) > 0);
    say_status("grandchild", status);
}

PROBE(subreaper) { in_child("reaper", subreaper_body); }

PROBE(vfork) {
    volatile int value = 1;
    pid_t pid = vfork();
    if (pid == 0) {
        value = 2;
        _exit(3);
    }
    SHOW(value);
    reap("child", pid);
    pid = vfork();
    if (pid == 0) {
        execl("/proc/self/exe", "probe", "--list", "extra", NULL);
        _exit(9);
    }
    reap("exec", pid);
}

PROBE(init_cannot_be_killed) {
    signal(SIGTERM, SIG_DFL);
    SHOW(kill(1, SIGTERM));
    SHOW(kill(1, SIGKILL));
    SHOW(kill(1, SIGSTOP));
    say("still here");
}

// ---- exec

PROBE(zz_exec_target) {
    extern char **environ;
    char text[256];
    int n = readlink("/proc/self/exe", text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    say("exe is %s", text);
    for (char **entry = environ; *entry; entry++)
        say("env %s", *entry);
    SHOW(fcntl(20, F_GETFD));
    SHOW(fcntl(21, F_GETFD));
    struct sigaction action;
    MUST(sigaction(SIGUSR1, NULL, &action));
    FACT(action.sa_handler == SIG_DFL);
    MUST(sigaction(SIGUSR2, NULL, &action));
    FACT(action.sa_handler == SIG_IGN);
    sigset_t mask;
    MUST(sigprocmask(SIG_BLOCK, NULL, &mask));
    FACT(sigismember(&mask, SIGHUP));
    prctl(PR_GET_NAME, text);
    say("comm %s", text);
}

static void exec_self(void) {
    char *argv[] = {"probe", "zz_exec_target", NULL}, *envp[] = {"A=1", "EMPTY=", "B=two words", NULL};
    int status = syscall(SYS_execve, "/probe", argv, envp);
    show("execve", status);
}

PROBE(exec) {
    sigset_t mask;
    dup2(1, 20);
    dup3(1, 21, O_CLOEXEC);
    count_signal(SIGUSR1, 0);
    signal(SIGUSR2, SIG_IGN);
    sigemptyset(&mask);
    sigaddset(&mask, SIGHUP);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    prctl(PR_SET_NAME, "renamed");
    in_child("target", exec_self);
}

static long run_exec(const char *path, char *const argv[]) { return execve(path, argv, (char *[]){NULL}); }

PROBE(exec_errors) {
    char *argv[] = {"x", NULL};
    SHOW(run_exec("missing", argv));
    SHOW(run_exec("", argv));
    SHOW(run_exec("/", argv));
    make_file("plain", "just text\n");
    SHOW(run_exec("plain", argv));
    MUST(chmod("plain", 0755));
    SHOW(run_exec("plain", argv));
    SHOW(run_exec("plain/below", argv));
    make_file("nointerp", "#!/no/such/interpreter\n");
    MUST(chmod("nointerp", 0755));
    SHOW(run_exec("nointerp", argv));
    make_file("emptyinterp", "#!\n");
    MUST(chmod("emptyinterp", 0755));
    SHOW(run_exec("emptyinterp", argv));
    make_file("empty", "");
    MUST(chmod("empty", 0755));
    SHOW(run_exec("empty", argv));
    make_file("short", "\177ELF\2\1\1");
    MUST(chmod("short", 0755));
    SHOW(run_exec("short", argv));
    MUST(symlink("loop", "loop"));
    SHOW(run_exec("loop", argv));
    SHOW(syscall(SYS_execve, "/probe", (void *)8, NULL));
    char *wild[] = {"probe", (char *)8, NULL};
    SHOW(run_exec("/probe", wild));
    size_t size = 200000;
    char *big = malloc(size);
    memset(big, 'x', size - 1);
    big[size - 1] = 0;
    char *huge[] = {"probe", big, NULL};
    SHOW(run_exec("/probe", huge));
    SHOW(syscall(SYS_execveat, 99, "probe", argv, NULL, 0));
    SHOW(syscall(SYS_execveat, AT_FDCWD, "missing", argv, NULL, 0));
    int busy = open("/probe", O_WRONLY);
    fact("running program is busy", busy == -1 && (errno == ETXTBSY || errno == EROFS || errno == EACCES));
    say("still whole");
}

static void exec_script(void) {
    char *argv[] = {"ignored", "one", "two", NULL};
    show("execve", run_exec("./script", argv));
}

PROBE(zz_script_target) {
    say_file("/proc/self/comm");
    char text[256] = {0};
    int fd = MUST(open("/proc/self/cmdline", O_RDONLY));
    int n = read(fd, text, 255);
    for (int i = 0; i < n - 1; i++)
        if (!text[i])
            text[i] = '|';
    say("%s", text);
}

PROBE(exec_script) {
    make_file("script", "#! /probe zz_script_target  \nrest\n");
    MUST(chmod("script", 0755));
    in_child("script", exec_script);
}

static void exec_by_fd(void) {
    int fd = MUST(open("/probe", O_PATH | O_CLOEXEC));
    char *argv[] = {"probe", "zz_script_target", NULL}, *envp[] = {NULL};
    SHOW(syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH));
}

PROBE(fexecve) { in_child("target", exec_by_fd); }

static void *exec_in_thread(void *unused) {
    (void)unused;
    char *argv[] = {"probe", "zz_script_target", NULL};
    run_exec("/probe", argv);
    return NULL;
}

static void *sleep_in_thread(void *unused) {
    (void)unused;
    sleep(15);
    say("must not get here");
    return NULL;
}

static void thread_execs(void) {
    pthread_t thread;
    for (int i = 0; i < 3; i++)
        pthread_create(&thread, NULL, sleep_in_thread, NULL);
    pthread_create(&thread, NULL, exec_in_thread, NULL);
    sleep(15);
}

PROBE(exec_from_thread) { in_child("target", thread_execs); }

static void *failing_exec(void *unused) {
    (void)unused;
    char *argv[] = {"x", NULL};
    SHOW(run_exec("/missing", argv));
    return NULL;
}

PROBE(failed_exec_leaves_threads) {
    pthread_t one, two;
    pthread_create(&one, NULL, failing_exec, NULL);
    pthread_join(one, NULL);
    pthread_create(&two, NULL, failing_exec, NULL);
    pthread_join(two, NULL);
}

// ---- groups and sessions

static void session_body(void) {
    FACT(getsid(0) != getpid());
    pid_t sid = setsid();
    FACT(sid == getpid());
    FACT(getpgrp() == getpid());
    SHOW(setsid());
    SHOW(setpgid(0, 0));
    SHOW(open("/dev/tty", O_RDWR));
}

static void session_starter(void) { in_child("session", session_body); }

PROBE(process_groups) {
    int status;
    pid_t pid = MUST(fork());
    if (pid == 0) {
        while (getpgrp() != getpid())
            nap_ms(1);
        wait_forever();
    }
    SHOW(setpgid(pid, pid));
    FACT(getpgid(pid) == pid);
    nap_ms(50);
    SHOW(kill(-pid, SIGTERM));
    FACT(waitpid(-pid, &status, 0) == pid);
    say_status("member", status);
    SHOW(setpgid(1 << 21, 0));
    SHOW(setpgid(0, -1));
    SHOW(getpgid(1 << 21));
    SHOW(getsid(1 << 21));
    SHOW(kill(-(1 << 21), 0));
    in_child("starter", session_starter);
}

static void clone_body(void) {
    SHOW(syscall(SYS_clone, CLONE_THREAD | SIGCHLD, 0, 0, 0, 0));
    SHOW(syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0));
    SHOW(syscall(SYS_clone, CLONE_FS | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0));
}

PROBE(clone_errors) { in_child("clone", clone_body); }

static int share_body(void *unused) {
    (void)unused;
    close(10);
    chdir("/");
    return 4;
}

PROBE(clone_shares) {
    static char stack[65536] __attribute__((aligned(16)));
    char here[256];
    dup2(1, 10);
    pid_t pid = MUST(clone(share_body, stack + sizeof stack, SIGCHLD, NULL));
    reap("nothing shared", pid);
    SHOW(fcntl(10, F_GETFD));
    say("%s", getcwd(here, sizeof here));
    pid = MUST(clone(share_body, stack + sizeof stack, CLONE_FILES | CLONE_FS | SIGCHLD, NULL));
    reap("files and fs shared", pid);
    SHOW(fcntl(10, F_GETFD));
    say("%s", getcwd(here, sizeof here));
    pid_t in_parent = 0;
    int tidptr = 0;
    pid = MUST(clone(share_body, stack + sizeof stack, CLONE_PARENT_SETTID | CLONE_VM | CLONE_VFORK, NULL, &in_parent, NULL, &tidptr));
    FACT(in_parent == pid);
    SHOW(waitpid(pid, NULL, 0));
    int status = 0;
    FACT(waitpid(pid, &status, __WCLONE) == pid);
    say_status("no signal", status);
}

static void pdeathsig_body(void) {
    pid_t child = MUST(fork());
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        write(line[1], "r", 1);
        sleep(10);
        write(line[1], "survived", 8);
        _exit(0);
    }
    char c;
    read(line[0], &c, 1);
    _exit(0);
}

PROBE(pdeathsig) {
    char text[16] = {0};
    MUST(pipe(line));
    in_child("parent", pdeathsig_body);
    int status;
    FACT(wait(&status) > 0);
    say_status("grandchild", status);
    close(line[1]);
    SHOW(read(line[0], text, 15));
}
