// System V semaphores: semget(2), semop(2), semtimedop(2), semctl(2), undo at exit.
#include "probe.h"
#include <sys/ipc.h>
#include <sys/sem.h>

#ifndef SEM_STAT_ANY
#define SEM_STAT_ANY 20
#endif

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
    struct seminfo *info;
};

static int control(int id, int number, int cmd, void *pointer) {
    return syscall(SYS_semctl, id, number, cmd, pointer);
}

static int set_value(int id, int number, int value) {
    return semctl(id, number, SETVAL, (union semun){.val = value});
}

static int change(int id, int number, int by, int flags) {
    struct sembuf one = {number, by, flags};
    return semop(id, &one, 1);
}

static void say_values(const char *what, int id, int count) {
    unsigned short values[8];
    if (control(id, 0, GETALL, values)) {
        say("%s: %s", what, strerrorname_np(errno));
        return;
    }
    char line[128] = "";
    for (int i = 0; i < count; i++) {
        int pid = control(id, i, GETPID, NULL);
        const char *who = pid == getpid() ? "self" : pid ? "other" : "none";
        snprintf(line + strlen(line), sizeof line - strlen(line), " %d (%s, %d %d)", values[i], who, control(id, i, GETNCNT, NULL),
                 control(id, i, GETZCNT, NULL));
    }
    say("%s:%s", what, line);
}

static void say_set(const char *what, int id) {
    struct semid_ds it;
    if (control(id, 0, IPC_STAT, &it)) {
        say("%s: %s", what, strerrorname_np(errno));
        return;
    }
    time_t now = time(NULL);
    say("%s: key %#x mode %o uid %u gid %u nsems %lu otime %d ctime %d", what, it.sem_perm.__key, it.sem_perm.mode,
        it.sem_perm.uid, it.sem_perm.gid, it.sem_nsems, it.sem_otime && now - it.sem_otime < 100, now - it.sem_ctime < 100);
}

static void say_table(void) {
    FILE *file = fopen("/proc/sysvipc/sem", "r");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        int key, id, mode;
        unsigned count, uid, gid;
        if (sscanf(line, "%d %d %o %u %u %u", &key, &id, &mode, &count, &uid, &gid) == 6)
            say("%#x %d %o %u %u %u, %zu wide", key, id, mode, count, uid, gid, strlen(line));
        else
            say("%s", line);
    }
    if (file) fclose(file);
}

PROBE(sem_get) {
    SHOW(semget(IPC_PRIVATE, 0, 0600));
    SHOW(semget(IPC_PRIVATE, -1, 0600));
    SHOW(semget(IPC_PRIVATE, 32001, 0600));
    SHOW(semget(1, 2, 0));
    SHOW(semget(1, 0, IPC_CREAT | 0600));
    int first = SHOW(semget(1, 2, IPC_CREAT | 0640));
    SHOW(semget(1, 2, IPC_CREAT | IPC_EXCL | 0640));
    SHOW(semget(1, 3, 0));
    SHOW(semget(1, 0, 0) == first);
    SHOW(semget(IPC_PRIVATE, 1, 0600));
    say_set("first", first);
    say_values("first", first, 2);
    say_table();
    SHOW(control(first, 0, IPC_RMID, NULL));
    SHOW(control(first, 0, IPC_RMID, NULL));
    say_set("gone", first);
    SHOW(semget(1, 1, IPC_CREAT | 0600));
}

PROBE(sem_operations) {
    int id = MUST(semget(IPC_PRIVATE, 3, 0600));
    SHOW(change(id, 0, 5, 0));
    SHOW(change(id, 0, -2, 0));
    SHOW(change(id, 0, -4, IPC_NOWAIT));
    SHOW(change(id, 0, 0, IPC_NOWAIT));
    SHOW(change(id, 1, 0, IPC_NOWAIT));
    SHOW(change(id, 0, 32767, 0));
    SHOW(change(id, 3, 1, 0));
    struct sembuf three[3] = {{0, -3, 0}, {1, 1, 0}, {2, -1, IPC_NOWAIT}};
    SHOW(semop(id, three, 3)); // all or nothing
    say_values("unchanged", id, 3);
    three[2].sem_op = 7;
    SHOW(semop(id, three, 3));
    say_values("changed", id, 3);
    struct sembuf same[2] = {{2, -7, 0}, {2, 1, 0}};
    SHOW(semop(id, same, 2));
    say_values("twice the same", id, 3);
    say_set("operated", id);
    SHOW(semop(id, three, 0));
    SHOW(semop(id, three, 501));
    SHOW(semop(id, unmapped, 1));
    SHOW(semop(-1, three, 1));
    SHOW(semop(77, three, 1));
    SHOW(semop(id + (1 << 15), three, 1));
    struct timespec odd = {0, 1000000000}, soon = {0, 30000000}, none = {0, 0};
    struct sembuf wait = {0, -1, 0};
    SHOW(semtimedop(id, &wait, 1, &odd));
    SHOW(semtimedop(id, unmapped, 1, &odd));
    SHOW(semtimedop(id, &wait, 0, unmapped));
    SHOW(semtimedop(id, &wait, 0, &odd));
    SHOW(semtimedop(77, &wait, 1, &odd));
    SHOW(semtimedop(id, &wait, 1, &none));
    int64_t before = now_ms();
    SHOW(semtimedop(id, &wait, 1, &soon));
    FACT(now_ms() - before >= 29);
}

PROBE(sem_control) {
    int id = MUST(semget(IPC_PRIVATE, 3, 0600));
    unsigned short values[3] = {1, 2, 3}, wrong[3] = {1, 40000, 3};
    SHOW(control(id, 0, SETALL, values));
    SHOW(control(id, 0, SETALL, wrong));
    SHOW(control(id, 99, SETALL, unmapped));
    SHOW(control(id, 0, GETALL, unmapped));
    say_values("set", id, 3);
    SHOW(set_value(id, 1, 9));
    SHOW(set_value(id, 1, -1));
    SHOW(set_value(id, 1, 32768));
    SHOW(set_value(id, 3, 1));
    SHOW(set_value(77, 3, 32768));
    SHOW(set_value(77, 3, 1));
    SHOW(control(id, 1, GETVAL, NULL));
    SHOW(control(id, 3, GETVAL, NULL));
    SHOW(control(id, -1, GETPID, NULL));
    SHOW(control(id, 3, GETNCNT, NULL));
    SHOW(control(id, 0, 77, NULL));
    SHOW(control(id, 0, -1, NULL));
    SHOW(control(-1, 0, 77, NULL));
    SHOW(control(id, 1, GETVAL | 0x100, NULL));
    SHOW(control(77, 0, IPC_SET, unmapped));
    SHOW(control(77, 0, IPC_STAT, unmapped));
    SHOW(control(id, 0, IPC_STAT, unmapped));
    struct semid_ds it;
    MUST(control(id, 0, IPC_STAT, &it));
    it.sem_perm.mode = 07604;
    it.sem_perm.uid = 8;
    it.sem_perm.gid = -1;
    SHOW(control(id, 0, IPC_SET, &it));
    it.sem_perm.gid = 9;
    SHOW(control(id, 0, IPC_SET, &it));
    say_set("set", id);
    SHOW(control(0, 0, SEM_STAT, &it));
    SHOW(control(1, 0, SEM_STAT, &it));
    SHOW(control(0, 0, SEM_STAT_ANY, &it));
}

PROBE(sem_info) {
    struct seminfo it;
    SHOW(control(0, 0, IPC_INFO, &it));
    say("%d %d %d %d %d %d %d %d %d %d", it.semmap, it.semmni, it.semmns, it.semmnu, it.semmsl, it.semopm, it.semume, it.semusz,
        it.semvmx, it.semaem);
    MUST(semget(IPC_PRIVATE, 3, 0600));
    MUST(semget(IPC_PRIVATE, 4, 0600));
    SHOW(control(0, 0, SEM_INFO, &it));
    say("%d %d", it.semusz, it.semaem);
    say_file("/proc/sys/kernel/sem");
    say_file("/proc/sys/kernel/sem_next_id");
    int fd = MUST(open("/proc/sys/kernel/sem", O_WRONLY));
    SHOW(write(fd, "5 11 3 4", 8));
    say_file("/proc/sys/kernel/sem");
    SHOW(semget(IPC_PRIVATE, 6, 0600));
    SHOW(semget(IPC_PRIVATE, 5, 0600));
    SHOW(semget(IPC_PRIVATE, 3, 0600));
    SHOW(semget(IPC_PRIVATE, 1, 0600));
    struct sembuf many[4] = {{0, 1, 0}, {0, 1, 0}, {0, 1, 0}, {0, 1, 0}};
    SHOW(semop(0, many, 4));
    SHOW(semop(0, many, 3));
    SHOW(control(0, 0, IPC_INFO, &it));
    say("%d %d %d %d %d %d %d %d %d %d", it.semmap, it.semmni, it.semmns, it.semmnu, it.semmsl, it.semopm, it.semume, it.semusz,
        it.semvmx, it.semaem);
    lseek(fd, 0, SEEK_SET);
    SHOW(write(fd, "5 11 3 40000", 12));
    say_file("/proc/sys/kernel/sem");
}

static int set;

static void as_another(void) {
    MUST(setresgid(1000, 1000, 1000));
    MUST(setresuid(1000, 1000, 1000));
    struct semid_ds it;
    unsigned short values[2] = {0, 0};
    SHOW(semget(5, 1, 0));
    SHOW(semget(5, 1, 0400));
    SHOW(semget(5, 1, 0600));
    SHOW(semget(5, 7, 0600));
    SHOW(change(set, 0, 1, 0));
    SHOW(change(set, 1, 0, IPC_NOWAIT));
    SHOW(change(set, 7, 1, 0));
    SHOW(set_value(set, 0, 1));
    SHOW(set_value(set, 9, 1));
    SHOW(control(set, 0, GETVAL, NULL));
    SHOW(control(set, 9, GETVAL, NULL));
    SHOW(control(set, 0, GETALL, values));
    SHOW(control(set, 0, SETALL, values));
    SHOW(control(set, 0, IPC_STAT, &it));
    SHOW(control(set, 0, IPC_SET, &it));
    SHOW(control(set, 0, IPC_RMID, NULL));
    SHOW(control(0, 0, SEM_STAT, &it));
    SHOW(control(0, 0, SEM_STAT_ANY, &it));
}

PROBE(sem_permissions) {
    set = MUST(semget(5, 2, IPC_CREAT | 0600));
    in_child("0600", as_another);
    struct semid_ds it;
    MUST(control(set, 0, IPC_STAT, &it));
    it.sem_perm.mode = 0604;
    MUST(control(set, 0, IPC_SET, &it));
    in_child("0604", as_another);
    it.sem_perm.mode = 0602;
    MUST(control(set, 0, IPC_SET, &it));
    in_child("0602", as_another);
    it.sem_perm.uid = 1000;
    MUST(control(set, 0, IPC_SET, &it));
    in_child("its owner", as_another);
}

static void *take_one(void *number) {
    show("semop", change(set, (intptr_t)number, -1, 0));
    return NULL;
}

static void wait_until(int cmd, int number, int count) {
    while (control(set, number, cmd, NULL) != count) nap_ms(1);
}

PROBE(sem_waits) {
    pthread_t thread, other;
    set = MUST(semget(IPC_PRIVATE, 2, 0600));
    MUST(pthread_create(&thread, NULL, take_one, NULL));
    wait_until(GETNCNT, 0, 1);
    say_values("one waits", set, 2);
    MUST(change(set, 0, 1, 0));
    pthread_join(thread, NULL);
    MUST(pthread_create(&thread, NULL, take_one, NULL));
    MUST(pthread_create(&other, NULL, take_one, (void *)1));
    wait_until(GETNCNT, 0, 1);
    wait_until(GETNCNT, 1, 1);
    MUST(control(set, 0, IPC_RMID, NULL));
    pthread_join(thread, NULL);
    pthread_join(other, NULL);
    set = MUST(semget(IPC_PRIVATE, 1, 0600));
    count_signal(SIGALRM, SA_RESTART);
    struct itimerval soon = {{0, 0}, {0, 40000}};
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    SHOW(change(set, 0, -1, 0)); // never restarted
    SHOW(handled);
    MUST(change(set, 0, 1, 0));
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    SHOW(change(set, 0, 0, 0));
}

static void wait_for_zero(void) { _exit(change(set, 0, 0, 0) ? 1 : 7); }

PROBE(sem_zero) {
    set = MUST(semget(IPC_PRIVATE, 1, 0600));
    MUST(change(set, 0, 2, 0));
    pid_t child = spawn(wait_for_zero);
    wait_until(GETZCNT, 0, 1);
    MUST(change(set, 0, -1, 0));
    MUST(change(set, 0, -1, 0));
    reap("child", child);
    say_values("after it", set, 1);
}

static void take_with_undo(void) {
    MUST(change(set, 0, -3, SEM_UNDO));
    MUST(change(set, 1, 5, SEM_UNDO));
    say_values("in the child", set, 2);
    if (set_value(set, 1, 9)) say("?"); // forgets the undo of that one
}

static void take_with_undo_and_wait(void) {
    MUST(change(set, 0, -3, SEM_UNDO));
    raise(SIGSTOP);
    pause();
}

static void give_too_much(void) {
    MUST(change(set, 0, 10, SEM_UNDO));
    MUST(change(set, 0, -15, 0)); // the undo would go below zero
}

static void exec_with_undo(void) {
    MUST(change(set, 0, -3, SEM_UNDO));
    MUST(execl("/proc/self/exe", "probe", "zz_sem_heir", NULL));
}

static void fork_with_undo(void) {
    MUST(change(set, 0, -3, SEM_UNDO));
    pid_t child = MUST(fork());
    if (!child) _exit(0);
    reap("grandchild", child); // the adjustment is not its
    say_values("still taken", set, 2);
}

static void *undo_in_thread(void *unused) {
    MUST(change(set, 0, -3, SEM_UNDO));
    return unused;
}

static void undo_of_threads(void) {
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, undo_in_thread, NULL));
    pthread_join(thread, NULL); // its end undoes nothing: the process's does
    say_values("thread gone", set, 2);
}

static void unshare_undo(void) {
    MUST(change(set, 0, -3, SEM_UNDO));
    SHOW(unshare(CLONE_SYSVSEM));
    say_values("undone", set, 2);
    MUST(change(set, 0, -1, 0));
}

PROBE(zz_sem_heir) {
    say_values("after exec", 0, 2);
}

PROBE(sem_undo) {
    set = MUST(semget(IPC_PRIVATE, 2, 0600));
    MUST(change(set, 0, 5, 0));
    in_child("child", take_with_undo);
    say_values("undone", set, 2);
    pid_t child = spawn(take_with_undo_and_wait);
    int status;
    MUST(waitpid(child, &status, WUNTRACED));
    say_values("taken", set, 2);
    MUST(kill(child, SIGKILL));
    reap("killed", child);
    say_values("undone", set, 2);
    in_child("child", give_too_much);
    say_values("clamped", set, 2);
    MUST(set_value(set, 0, 5));
    in_child("child", exec_with_undo);
    say_values("undone", set, 2);
    in_child("child", fork_with_undo);
    say_values("undone", set, 2);
    in_child("child", undo_of_threads);
    say_values("undone", set, 2);
    in_child("child", unshare_undo);
    say_values("undone once", set, 2);
    MUST(set_value(set, 0, 0));
    SHOW(change(set, 0, 32767, SEM_UNDO));
    SHOW(change(set, 0, -1, 0));
    SHOW(change(set, 0, 1, SEM_UNDO));
    SHOW(change(set, 0, 1, SEM_UNDO));
}

// Those who wait get their turn when a process that is killed gives back.
static void hold_and_wait(void) {
    MUST(change(set, 0, -1, SEM_UNDO));
    raise(SIGSTOP);
    pause();
}

PROBE(sem_lock_of_the_dead) {
    set = MUST(semget(IPC_PRIVATE, 1, 0600));
    MUST(change(set, 0, 1, 0));
    pid_t child = spawn(hold_and_wait);
    int status;
    MUST(waitpid(child, &status, WUNTRACED));
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, take_one, NULL));
    wait_until(GETNCNT, 0, 1);
    MUST(kill(child, SIGKILL));
    pthread_join(thread, NULL);
    reap("holder", child);
}
