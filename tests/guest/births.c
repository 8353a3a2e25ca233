// fork(2), clone(2), unshare(2), setns(2): flags, what is shared, and what is refused.
#include "probe.h"
#include <linux/sched.h>

static void try_clone(const char *what, unsigned long flags) {
    long pid = syscall(SYS_clone, flags, 0, 0, 0, 0);
    if (pid == 0)
        _exit(17);
    say("%s: %s", what, pid > 0 ? "ok" : strerrorname_np(errno));
    int status;
    if (pid > 0) {
        FACT(waitpid(pid, &status, __WALL) == pid);
        say_status("child", status);
    }
}
#define TRY(flags) try_clone(#flags, flags)

static void namespaces_as_user(void) {
    MUST(setresuid(1000, 1000, 1000));
    TRY(CLONE_NEWNS | SIGCHLD);
    TRY(CLONE_NEWUTS | SIGCHLD);
    TRY(CLONE_NEWPID | SIGCHLD);
    TRY(CLONE_NEWNET | SIGCHLD);
    TRY(CLONE_NEWIPC | SIGCHLD);
    TRY(CLONE_NEWCGROUP | SIGCHLD);
    SHOW(unshare(CLONE_NEWUTS));
    SHOW(unshare(CLONE_NEWNS));
    SHOW(unshare(CLONE_NEWPID));
}

PROBE(clone_flags) {
    TRY(0);
    TRY(SIGCHLD);
    TRY(65);
    TRY(255);
    TRY(CLONE_PARENT | SIGCHLD);
    TRY(CLONE_DETACHED | SIGCHLD);
    TRY(CLONE_UNTRACED | SIGCHLD);
    TRY(CLONE_PTRACE | SIGCHLD);
    TRY(CLONE_SYSVSEM | SIGCHLD);
    TRY(CLONE_IO | SIGCHLD);
    TRY(CLONE_THREAD);
    TRY(CLONE_THREAD | CLONE_SIGHAND);
    TRY(CLONE_SIGHAND);
    TRY(CLONE_FS | CLONE_NEWNS | SIGCHLD);
    TRY(CLONE_FS | CLONE_NEWUSER | SIGCHLD);
    TRY(CLONE_NEWPID | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM);
    TRY(CLONE_NEWIPC | CLONE_SYSVSEM | SIGCHLD);
    TRY(CLONE_PIDFD | CLONE_DETACHED | SIGCHLD);
    TRY(CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD);
    TRY(CLONE_FILES | CLONE_FS | SIGCHLD);
    in_child("user", namespaces_as_user);
    SHOW(unshare(0));
    SHOW(unshare(1));
    SHOW(unshare(CLONE_FILES));
    SHOW(unshare(CLONE_FS));
    SHOW(unshare(CLONE_SYSVSEM));
    SHOW(unshare(CLONE_VM));
    SHOW(unshare(CLONE_THREAD));
    SHOW(unshare(CLONE_SIGHAND));
    SHOW(syscall(SYS_setns, 99, 0));
    SHOW(syscall(SYS_setns, 1, 0));
    SHOW(syscall(SYS_setns, -1, CLONE_NEWNS));
    SHOW(syscall(SYS_setns, 1, 12345));
}

static void *unshare_in_thread(void *unused) {
    (void)unused;
    SHOW(unshare(CLONE_THREAD));
    SHOW(unshare(CLONE_VM));
    SHOW(unshare(CLONE_SIGHAND));
    SHOW(unshare(CLONE_FS));
    return NULL;
}
PROBE(unshare_of_threads) {
    pthread_t thread;
    pthread_create(&thread, NULL, unshare_in_thread, NULL);
    pthread_join(thread, NULL);
}

static void make_brother(void) {
    long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(getppid() == 1 ? 31 : 32);
    SHOW(waitpid(pid, NULL, 0));
}

PROBE(child_of_the_parent) {
    int status;
    in_child("maker", make_brother);
    FACT(wait(&status) > 0);
    say_status("brother", status);
}

static char second_stack[65536] __attribute__((aligned(16)));
static volatile int shared_value, saw;
static void handler(int sig) { (void)sig, shared_value++; }
static int share_handlers(void *unused) {
    (void)unused;
    signal(SIGUSR1, handler);
    shared_value = 5;
    _exit(0);
}

// Processes that share memory and handlers, but are none of a kind.
PROBE(shared_handlers) {
    pid_t pid = MUST(clone(share_handlers, second_stack + sizeof second_stack, CLONE_VM | CLONE_SIGHAND | SIGCHLD, NULL));
    reap("child", pid);
    SHOW(shared_value);
    raise(SIGUSR1);
    SHOW(shared_value);
    pid = MUST(clone(share_handlers, second_stack + sizeof second_stack, CLONE_VM | SIGCHLD, NULL));
    signal(SIGUSR1, SIG_IGN);
    reap("child", pid);
    SHOW(shared_value);
    raise(SIGUSR1);
    SHOW(shared_value);
}

static pid_t vfork_pid;
static void *vfork_in_thread(void *unused) {
    (void)unused;
    vfork_pid = vfork();
    if (vfork_pid == 0) {
        nap_ms(100);
        saw = shared_value;
        _exit(0);
    }
    return NULL;
}

// vfork(2) holds the calling thread only.
PROBE(vfork_holds_one_thread) {
    pthread_t thread;
    pthread_create(&thread, NULL, vfork_in_thread, NULL);
    nap_ms(20);
    shared_value = 9;
    pthread_join(thread, NULL);
    SHOW(saw);
    reap("child", vfork_pid);
}

// ---- exit

static void *leave_thread(void *code) {
    if (code)
        syscall(SYS_exit_group, 44);
    syscall(SYS_exit, 45);
    return NULL;
}
static void exit_of_group(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, leave_thread, (void *)1);
    pause();
}
static void exit_of_thread(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, leave_thread, NULL);
    pthread_join(thread, NULL);
    _exit(46);
}
static void *outlive(void *unused) {
    (void)unused;
    nap_ms(50);
    _exit(47);
}
static void exit_of_leader(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, outlive, NULL);
    syscall(SYS_exit, 48);
}
static void *last_thread(void *unused) {
    (void)unused;
    nap_ms(50);
    syscall(SYS_exit, 49);
    return NULL;
}
static void exit_one_by_one(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, last_thread, NULL);
    syscall(SYS_exit, 50);
}
static void exit_large(void) { syscall(SYS_exit_group, 0x1234); }

PROBE(exits) {
    in_child("group", exit_of_group);
    in_child("thread", exit_of_thread);
    in_child("leader", exit_of_leader);
    in_child("one by one", exit_one_by_one);
    in_child("large", exit_large);
}

// ---- groups and sessions

static void linger(void) {
    for (;;)
        pause();
}
static void lead_session(void) {
    setsid();
    raise(SIGSTOP);
}
static void exec_child(void) {
    raise(SIGSTOP);
    execl("/bin/busybox", "sleep", "10", NULL);
}

PROBE(group_rules) {
    pid_t child = spawn(linger), session = spawn(lead_session), executed = spawn(exec_child);
    MUST(waitpid(session, NULL, WUNTRACED));
    MUST(waitpid(executed, NULL, WUNTRACED));
    SHOW(setpgid(child, child));
    FACT(getpgid(child) == child);
    SHOW(setpgid(child, 0));
    SHOW(setpgid(child, 99999));
    SHOW(setpgid(session, session));
    SHOW(setpgid(session, child));
    SHOW(setpgid(child, session));
    SHOW(setpgid(-1, 0));
    SHOW(setpgid(99999, 0));
    SHOW(getsid(session) == session);
    SHOW(getsid(-1));
    SHOW(getpgid(-1));
    kill(executed, SIGCONT);
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", executed);
    for (int i = 0; i < 2000 && strcmp(text, "busybox\n") && strcmp(text, "sleep\n"); i++) {
        int fd = open(path, O_RDONLY);
        ssize_t n = read(fd, text, 63);
        text[n > 0 ? n : 0] = 0;
        close(fd);
        nap_ms(1);
    }
    SHOW(setpgid(executed, executed)); // has executed a program
    pid_t pids[] = {child, session, executed};
    for (int i = 0; i < 3; i++) {
        kill(pids[i], SIGKILL);
        reap("child", pids[i]);
    }
}

static volatile int hung_up, continued;
static void on_hup(int sig) { (void)sig, hung_up++; }
static void on_cont(int sig) { (void)sig, continued++; }
static int told[2];
static void orphan_member(void) {
    signal(SIGHUP, on_hup);
    signal(SIGCONT, on_cont);
    write(told[1], "r", 1);
    raise(SIGSTOP);
    for (int i = 0; i < 1000 && !(hung_up && continued); i++)
        nap_ms(1);
    char result = 'a' + hung_up + 2 * continued;
    write(told[1], &result, 1);
    _exit(0);
}
static void orphan_maker(void) {
    setpgid(0, 0);
    pid_t pid = spawn(orphan_member);
    MUST(waitpid(pid, NULL, WUNTRACED));
    _exit(0);
}

static void session_of_maker(void) {
    setsid();
    in_child("maker", orphan_maker);
}

// A group that becomes orphaned with stopped members gets SIGHUP and SIGCONT.
PROBE(orphaned_group) {
    char c = 0;
    MUST(pipe(told));
    in_child("session", session_of_maker);
    MUST(read(told[0], &c, 1));
    MUST(read(told[0], &c, 1));
    say("%c", c);
    FACT(wait(NULL) > 0);
}
