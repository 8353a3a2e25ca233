// System V shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2), and what /proc tells of it.
#include "probe.h"
#include <setjmp.h>
#include <sys/ipc.h>
#include <sys/shm.h>

#define PAGE 4096
#define FAILED ((void *)-1)
#ifndef SHM_STAT_ANY
#define SHM_STAT_ANY 15
#endif

static void say_segment(const char *what, int id) {
    struct shmid_ds it;
    if (shmctl(id, IPC_STAT, &it)) {
        say("%s: %s", what, strerrorname_np(errno));
        return;
    }
    time_t now = time(NULL);
    say("%s: key %#x mode %o size %zu attached %lu atime %d dtime %d ctime %d cpid %s lpid %s seq %d", what, it.shm_perm.__key,
        it.shm_perm.mode, it.shm_segsz, it.shm_nattch, it.shm_atime && now - it.shm_atime < 100,
        it.shm_dtime && now - it.shm_dtime < 100, now - it.shm_ctime < 100, it.shm_cpid == getpid() ? "self" : "other",
        it.shm_lpid == getpid() ? "self" : it.shm_lpid ? "other" : "none", it.shm_perm.__seq);
}

static void at(const char *what, void *address) {
    if (address == FAILED)
        say("%s: %s", what, strerrorname_np(errno));
    else
        say("%s: ok", what);
}
#define AT(call) at(#call, (call))

// The lines of this process's maps that name a segment, without addresses.
static void say_maps(void) {
    FILE *file = fopen("/proc/self/maps", "r");
    char line[512];
    while (file && fgets(line, sizeof line, file)) {
        char prot[5], name[256] = "";
        unsigned long from, to, offset, ino;
        if (sscanf(line, "%lx-%lx %4s %lx %*s %lu %255[^\n]", &from, &to, prot, &offset, &ino, name) < 5) continue;
        if (strstr(name, "SYSV")) say("%lu pages %s %lx ino %lu %s", (to - from) / PAGE, prot, offset, ino, name);
    }
    if (file) fclose(file);
}

// /proc/sysvipc/shm without what varies.
static void say_table(void) {
    FILE *file = fopen("/proc/sysvipc/shm", "r");
    char line[512];
    while (file && fgets(line, sizeof line, file)) {
        int key, id, mode;
        unsigned long size, attached, rss;
        unsigned uid, gid;
        if (sscanf(line, "%d %d %o %lu %*u %*u %lu %u %u %*u %*u %*u %*u %*u %lu", &key, &id, &mode, &size, &attached, &uid, &gid,
                   &rss) == 8)
            say("%#x %d %o %lu %lu %u %u rss %lu, %zu wide", key, id, mode, size, attached, uid, gid, rss, strlen(line));
        else
            say("%s", line);
    }
    if (file) fclose(file);
}

PROBE(shm_get) {
    SHOW(shmget(IPC_PRIVATE, 0, 0600));
    SHOW(shmget(IPC_PRIVATE, -1, 0600));
    SHOW(shmget(1, 100, 0));
    int first = SHOW(shmget(1, 100, IPC_CREAT | 0640));
    SHOW(shmget(1, 100, IPC_CREAT | 0640) == first);
    SHOW(shmget(1, 0, 0) == first);
    SHOW(shmget(1, 101, 0));
    SHOW(shmget(1, 101, IPC_CREAT | 0600));
    SHOW(shmget(1, 100, IPC_CREAT | IPC_EXCL | 0600));
    SHOW(shmget(IPC_PRIVATE, 5000, 0));
    SHOW(shmget(IPC_PRIVATE, 5000, IPC_EXCL | 0777));
    say_segment("first", first);
    SHOW(shmctl(first, IPC_RMID, NULL));
    SHOW(shmctl(first, IPC_RMID, NULL));
    SHOW(shmget(1, 0, 0));
    SHOW(shmget(1, 4096, IPC_CREAT | 0600));
    for (int i = 0; i < 70; i++) {
        int id = MUST(shmget(IPC_PRIVATE, 1, 0600));
        MUST(shmctl(id, IPC_RMID, NULL));
        if (i > 58 && i < 64) say("%d", id);
    }
    SHOW(shmctl(4, IPC_RMID, NULL)); // there is another at its place by now, or nothing
    SHOW(shmget(IPC_PRIVATE, 4096, SHM_HUGETLB | 0600));
    SHOW(shmget(IPC_PRIVATE, 4096, SHM_HUGETLB | 63 << MAP_HUGE_SHIFT | 0600));
    SHOW(shmget(IPC_PRIVATE, 4096, SHM_NORESERVE | 0600) > 0);
}

PROBE(shm_data) {
    int id = MUST(shmget(IPC_PRIVATE, 3 * PAGE - 5, 0600));
    char *one = shmat(id, NULL, 0), *two = shmat(id, NULL, 0);
    FACT(one != FAILED && two != FAILED && one != two);
    strcpy(one + PAGE, "text");
    say("%s", two + PAGE);
    FACT(((uintptr_t)one & (PAGE - 1)) == 0);
    one[3 * PAGE - 1] = 'x'; // the whole last page
    FACT(two[3 * PAGE - 1] == 'x');
    say_segment("attached", id);
    pid_t child = MUST(fork());
    if (!child) {
        say("%s", one + PAGE);
        say_segment("in the child", id);
        strcpy(one, "from the child");
        MUST(shmdt(two));
        say_segment("once less", id);
        _exit(0);
    }
    reap("child", child);
    say("%s", two);
    say_segment("after it", id);
    SHOW(shmdt(one));
    SHOW(shmdt(one));
    SHOW(shmdt(two + 1));
    SHOW(shmdt(two + PAGE));
    SHOW(shmdt(NULL));
    SHOW(shmdt(two));
    say_segment("detached", id);
    char *again = shmat(id, NULL, 0);
    say("%s", again);
    SHOW(shmctl(id, IPC_RMID, NULL));
}

PROBE(shm_at_addresses) {
    int id = MUST(shmget(IPC_PRIVATE, 2 * PAGE, 0700));
    char *area = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    AT(shmat(id, area, 0));
    AT(shmat(id, area + 1, 0));
    AT(shmat(id, area + 1, SHM_RND));
    AT(shmat(id, NULL, SHM_REMAP));
    AT(shmat(id, (void *)5, SHM_RND | SHM_REMAP));
    FACT(shmat(id, area + PAGE, SHM_REMAP) == area + PAGE);
    area[PAGE] = 'r';
    MUST(munmap(area + 4 * PAGE, 2 * PAGE));
    FACT(shmat(id, area + 4 * PAGE + 77, SHM_RND) == area + 4 * PAGE);
    FACT(area[4 * PAGE] == 'r');
    AT(shmat(id, area + 5 * PAGE, 0)); // one page is free, one is not
    AT(shmat(id, (void *)(1UL << 62), 0));
    AT(shmat(id, (void *)(0UL - 2 * PAGE), 0));
    AT(shmat(-1, NULL, 0));
    AT(shmat(99, NULL, 0));
    say_segment("attached twice", id);
    SHOW(shmdt(area + PAGE));
    SHOW(shmdt(area + 4 * PAGE));
    say_segment("not at all", id);
}

static sigjmp_buf here;

static void jump(int sig) {
    last_signal = sig;
    siglongjmp(here, 1);
}

static const char *touch(char *at, bool write) {
    signal(SIGSEGV, jump);
    signal(SIGBUS, jump);
    if (sigsetjmp(here, 1)) return signal_name(last_signal);
    if (write)
        *(volatile char *)at = 'w';
    else
        (void)*(volatile char *)at;
    return "ok";
}

PROBE(shm_protection) {
    int id = MUST(shmget(IPC_PRIVATE, PAGE, 0700));
    char *reader = shmat(id, NULL, SHM_RDONLY), *writer = shmat(id, NULL, 0), *code = shmat(id, NULL, SHM_EXEC | SHM_RDONLY);
    FACT(reader != FAILED && writer != FAILED && code != FAILED);
    say("read %s, write %s", touch(reader, false), touch(reader, true));
    say("write %s", touch(writer, true));
    SHOW(mprotect(reader, PAGE, PROT_READ | PROT_WRITE));
    SHOW(mprotect(code, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
    SHOW(mprotect(writer, PAGE, PROT_READ | PROT_EXEC));
    memcpy(shmat(id, NULL, 0), "\xb8\x2a\x00\x00\x00\xc3", 6); // mov $42, %eax; ret
    say("%d", ((int (*)(void))code)());
    say_maps();
    SHOW(shmctl(id, SHM_LOCK, NULL));
    say_segment("locked", id);
    SHOW(shmctl(id, SHM_UNLOCK, NULL));
    say_segment("unlocked", id);
}

PROBE(shm_removed_while_attached) {
    int id = MUST(shmget(77, PAGE, IPC_CREAT | 0600));
    char *one = shmat(id, NULL, 0);
    strcpy(one, "here");
    SHOW(shmctl(id, IPC_RMID, NULL));
    say_segment("removed", id);
    SHOW(shmget(77, PAGE, 0));
    int other = SHOW(shmget(77, PAGE, IPC_CREAT | 0600));
    char *two = shmat(id, NULL, 0); // by its number it can still be had
    FACT(two != FAILED && !strcmp(two, "here"));
    SHOW(shmctl(id, IPC_RMID, NULL));
    SHOW(shmdt(one));
    say_segment("once", id);
    say("%s", two);
    pid_t child = MUST(fork());
    if (!child) {
        nap_ms(50);
        say("%s", two);
        _exit(0);
    }
    SHOW(shmdt(two));
    reap("child", child);
    say_segment("gone", id);
    SHOW(shmctl(other, IPC_RMID, NULL));
    say_segment("gone", other);
    say_table();
}

PROBE(shm_unmapped_by_hand) {
    int id = MUST(shmget(IPC_PRIVATE, 4 * PAGE, 0600));
    char *one = shmat(id, NULL, 0);
    MUST(mprotect(one + PAGE, PAGE, PROT_READ));
    say_segment("in three pieces", id);
    SHOW(munmap(one, PAGE));
    say_segment("in two", id);
    SHOW(shmdt(one)); // what is left of it
    say_segment("gone", id);
    one = shmat(id, NULL, 0);
    char *hole = mmap(one + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    strcpy(hole, "mine");
    SHOW(shmdt(one));
    say("%s", hole); // not the segment's: it stays
    say_segment("gone", id);
    one = shmat(id, NULL, 0);
    char *moved = mremap(one, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, hole - 100 * PAGE);
    FACT(moved == hole - 100 * PAGE);
    SHOW(shmdt(one));
    SHOW(shmdt(moved));
    one = shmat(id, NULL, 0);
    SHOW(shmctl(id, IPC_RMID, NULL));
    SHOW(munmap(one, 4 * PAGE));
    say_segment("removed by munmap", id);
}

static int shared_id;

static void as_another(void) {
    MUST(setresgid(1000, 1000, 1000));
    MUST(setresuid(1000, 1000, 1000));
    struct shmid_ds it;
    SHOW(shmget(5, 0, 0));
    SHOW(shmget(5, 0, 0400));
    SHOW(shmget(5, 0, 0600));
    SHOW(shmget(5, 999999, 0600));
    AT(shmat(shared_id, NULL, SHM_RDONLY));
    AT(shmat(shared_id, NULL, 0));
    AT(shmat(shared_id, NULL, SHM_RDONLY | SHM_EXEC));
    SHOW(shmctl(shared_id, IPC_STAT, &it));
    SHOW(shmctl(shared_id, IPC_SET, &it));
    SHOW(shmctl(shared_id, IPC_SET, unmapped));
    SHOW(shmctl(shared_id, IPC_RMID, NULL));
    SHOW(shmctl(shared_id, SHM_LOCK, NULL));
    SHOW(shmctl(0, SHM_STAT, &it));
    SHOW(shmctl(0, SHM_STAT_ANY, &it));
    int own = MUST(shmget(IPC_PRIVATE, PAGE, 0));
    AT(shmat(own, NULL, 0));
    SHOW(shmctl(own, IPC_STAT, &it));
    SHOW(shmctl(own, SHM_LOCK, NULL));
    struct rlimit none = {0, 0};
    MUST(setrlimit(RLIMIT_MEMLOCK, &none));
    SHOW(shmctl(own, SHM_LOCK, NULL));
    SHOW(shmctl(own, SHM_UNLOCK, NULL));
    it.shm_perm.mode = 0600;
    it.shm_perm.uid = 1000;
    it.shm_perm.gid = 1000;
    SHOW(shmctl(own, IPC_SET, &it));
    AT(shmat(own, NULL, 0));
    SHOW(shmctl(own, IPC_RMID, NULL));
}

PROBE(shm_permissions) {
    shared_id = MUST(shmget(5, PAGE, IPC_CREAT | 0600));
    in_child("another, 0600", as_another);
    struct shmid_ds it;
    MUST(shmctl(shared_id, IPC_STAT, &it));
    it.shm_perm.mode = 07644;
    it.shm_perm.uid = 3;
    it.shm_perm.gid = 4;
    SHOW(shmctl(shared_id, IPC_SET, &it));
    say_segment("set", shared_id);
    say_table();
    in_child("another, 0644", as_another);
    it.shm_perm.uid = 1000;
    SHOW(shmctl(shared_id, IPC_SET, &it));
    in_child("the owner", as_another);
    say_table();
}

PROBE(shm_control_errors) {
    int id = MUST(shmget(IPC_PRIVATE, PAGE, 0600));
    struct shmid_ds it;
    SHOW(shmctl(-1, IPC_STAT, &it));
    SHOW(shmctl(id, -1, &it));
    SHOW(shmctl(id, 99, &it));
    SHOW(shmctl(id, IPC_STAT | 0x100, &it));
    SHOW(shmctl(id, IPC_STAT, unmapped));
    SHOW(shmctl(id, IPC_SET, unmapped));
    SHOW(shmctl(77, IPC_SET, unmapped));
    SHOW(shmctl(77, IPC_STAT, unmapped));
    SHOW(shmctl(1 << 15, IPC_STAT, &it));
    SHOW(shmctl(id + (1 << 15), IPC_STAT, &it));
    SHOW(shmctl(id + (1 << 15), IPC_RMID, &it));
    AT(shmat(id + (1 << 15), NULL, 0));
    SHOW(shmctl(5, SHM_STAT, &it));
    SHOW(shmctl(0, SHM_STAT, &it));
    SHOW(shmctl(0, SHM_STAT_ANY, &it));
    it.shm_perm.uid = -1;
    SHOW(shmctl(id, IPC_SET, &it));
}

PROBE(shm_info) {
    struct shminfo limits;
    SHOW(shmctl(0, IPC_INFO, (void *)&limits));
    say("%lu %lu %lu %lu %lu", limits.shmmax, limits.shmmin, limits.shmmni, limits.shmseg, limits.shmall);
    struct shm_info info;
    SHOW(shmctl(0, SHM_INFO, (void *)&info));
    say("%d %lu %lu %lu", info.used_ids, info.shm_tot, info.shm_rss, info.shm_swp);
    int one = MUST(shmget(IPC_PRIVATE, 5 * PAGE, 0600)), two = MUST(shmget(IPC_PRIVATE, 10, 0600));
    memset(shmat(one, NULL, 0), 1, 2 * PAGE);
    SHOW(shmctl(0, SHM_INFO, (void *)&info));
    say("%d %lu %lu %lu", info.used_ids, info.shm_tot, info.shm_rss, info.shm_swp);
    SHOW(shmctl(0, IPC_INFO, (void *)&limits));
    say_table();
    MUST(shmctl(one, IPC_RMID, NULL));
    MUST(shmctl(two, IPC_RMID, NULL));
    SHOW(shmctl(0, SHM_INFO, (void *)&info));
    say("%d %lu", info.used_ids, info.shm_tot);
    SHOW(shmctl(0, SHM_INFO, unmapped));
}

static void set(const char *name, const char *value) {
    char path[64];
    snprintf(path, sizeof path, "/proc/sys/kernel/%s", name);
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, value, strlen(value)) < 0) say("%s = %s: %s", name, value, strerrorname_np(errno));
    if (fd >= 0) close(fd);
    say_file(path);
}

PROBE(shm_limits) {
    say_file("/proc/sys/kernel/shmmax");
    say_file("/proc/sys/kernel/shmall");
    say_file("/proc/sys/kernel/shmmni");
    say_file("/proc/sys/kernel/shm_rmid_forced");
    say_file("/proc/sys/kernel/shm_next_id");
    set("shmmax", "8192");
    SHOW(shmget(IPC_PRIVATE, 8193, 0600));
    SHOW(shmget(IPC_PRIVATE, 8192, 0600));
    set("shmall", "4");
    SHOW(shmget(IPC_PRIVATE, 8193 - PAGE, 0600));
    SHOW(shmget(IPC_PRIVATE, 1, 0600));
    set("shmall", "100");
    set("shmmni", "3");
    SHOW(shmget(IPC_PRIVATE, 1, 0600));
    SHOW(shmget(IPC_PRIVATE, 1, 0600));
    set("shmmni", "40000");
    set("shmmni", "-1");
    set("shmmax", "x");
    set("shmmax", "18446744073709551615");
    set("shm_rmid_forced", "2");
    struct shminfo limits;
    SHOW(shmctl(0, IPC_INFO, (void *)&limits));
    say("%lu %lu %lu", limits.shmmax, limits.shmmni, limits.shmall);
}

static void leave_one_behind(void) {
    int id = MUST(shmget(8, PAGE, IPC_CREAT | 0600));
    shmat(id, NULL, 0);
}

PROBE(shm_orphans) {
    in_child("a process that leaves one", leave_one_behind);
    say_table();
    int other = MUST(shmget(9, PAGE, IPC_CREAT | 0600));
    set("shm_rmid_forced", "1");
    nap_ms(20);
    say_table(); // ours lives, the orphan does not
    in_child("a process that leaves one", leave_one_behind);
    say_table();
    void *here = shmat(other, NULL, 0);
    SHOW(shmdt(here));
    say_table();
}

PROBE(zz_shm_heir) {
    say_segment("after exec", 0);
    say_maps();
}

PROBE(shm_after_exec) {
    int id = MUST(shmget(IPC_PRIVATE, PAGE, 0600));
    shmat(id, NULL, 0);
    shmat(id, NULL, SHM_RDONLY);
    say_segment("before", id);
    MUST(execl("/proc/self/exe", "probe", "zz_shm_heir", NULL));
}

static void *attach_many(void *unused) {
    (void)unused;
    for (int i = 0; i < 30; i++) {
        int id = shmget(IPC_PRIVATE, PAGE, 0600);
        int *value = shmat(id, NULL, 0);
        if (value == FAILED) return "attach";
        *value = id;
        int *again = shmat(id, NULL, SHM_RDONLY);
        if (again == FAILED || *again != id) return "another's";
        if (shmctl(id, IPC_RMID, NULL) || shmdt(value) || *again != id || shmdt(again)) return "detach";
    }
    return NULL;
}

PROBE(shm_threads) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) MUST(pthread_create(&threads[i], NULL, attach_many, NULL));
    for (int i = 0; i < 4; i++) {
        void *problem;
        pthread_join(threads[i], &problem);
        say("%s", problem ? (char *)problem : "well");
    }
    say_table();
}

// What a process leaves attached is detached when it is killed.
static void attach_and_wait(void) {
    shmat(shared_id, NULL, 0);
    shmat(shared_id, NULL, 0);
    MUST(write(1, "", 0));
    raise(SIGSTOP);
    pause();
}

PROBE(shm_killed) {
    shared_id = MUST(shmget(IPC_PRIVATE, PAGE, 0600));
    pid_t child = spawn(attach_and_wait);
    int status;
    MUST(waitpid(child, &status, WUNTRACED));
    say_segment("attached there", shared_id);
    MUST(shmctl(shared_id, IPC_RMID, NULL));
    say_segment("removed", shared_id);
    MUST(kill(child, SIGKILL));
    reap("child", child);
    say_segment("gone", shared_id);
}

static void *use_alone(void *at) {
    nap_ms(50); // the main thread has ended
    say_segment("without a main thread", shared_id);
    say("%s", (char *)at);
    _exit(shmdt(at) ? 1 : 0);
}

static void leave_to_thread(void) {
    char *at = shmat(shared_id, NULL, 0);
    strcpy(at, "still here");
    MUST(shmctl(shared_id, IPC_RMID, NULL));
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, use_alone, at));
    syscall(SYS_exit, 0);
}

PROBE(shm_of_a_thread_that_is_left) {
    shared_id = MUST(shmget(IPC_PRIVATE, PAGE, 0600));
    in_child("child", leave_to_thread);
    say_segment("gone", shared_id);
}
