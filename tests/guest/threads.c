// Threads: clone(2) as pthreads use it, futex(2), thread exit, what threads share.
#include "probe.h"
#include <linux/futex.h>
#include <semaphore.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static long counter;

static void *count_up(void *unused) {
    (void)unused;
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    return (void *)5;
}

PROBE(thread_mutex) {
    pthread_t threads[8];
    void *result;
    long sum = 0;
    for (int i = 0; i < 8; i++)
        SHOW(pthread_create(&threads[i], NULL, count_up, NULL));
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], &result);
        sum += (long)result;
    }
    SHOW(counter);
    SHOW(sum);
}

static int turn;

static void *take_turns(void *number) {
    for (int i = 0; i < 200; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % 4 != (int)(long)number)
            pthread_cond_wait(&condition, &mutex);
        turn++;
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

PROBE(thread_condition) {
    pthread_t threads[4];
    for (long i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, take_turns, (void *)i);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    SHOW(turn);
}

static __thread int own = 7;
static pid_t ids[4];

static void *look_at_own(void *number) {
    long n = (long)number;
    own += n;
    ids[n] = gettid();
    nap_ms(20);
    return (void *)(long)own;
}

PROBE(thread_local) {
    pthread_t threads[4];
    void *value;
    for (long i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, look_at_own, (void *)i);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &value);
        say("%ld", (long)value);
    }
    SHOW(own);
    FACT(ids[0] != ids[1] && ids[1] != ids[2] && ids[2] != ids[3] && ids[0] != getpid());
    FACT(gettid() == getpid());
    SHOW(syscall(SYS_tgkill, getpid(), ids[0], 0));
}

static void *open_file(void *unused) {
    (void)unused;
    return (void *)(long)open("f", O_RDONLY);
}

static void *change_folder(void *unused) {
    (void)unused;
    SHOW(chdir("/"));
    return NULL;
}

PROBE(threads_share) {
    pthread_t thread;
    void *fd;
    char text[8] = {0}, here[64];
    make_file("f", "shared");
    pthread_create(&thread, NULL, open_file, NULL);
    pthread_join(thread, &fd);
    SHOW(read((int)(long)fd, text, 8));
    say("%s", text);
    pthread_create(&thread, NULL, change_folder, NULL);
    pthread_join(thread, NULL);
    say("%s", getcwd(here, sizeof here));
}

static void *sleep_long(void *unused) {
    (void)unused;
    sleep(30);
    return NULL;
}

static void *block_in_read(void *fd) {
    char c;
    read((int)(long)fd, &c, 1);
    return NULL;
}

static void exit_with_threads(void) {
    int p[2];
    pthread_t thread;
    MUST(pipe(p));
    pthread_create(&thread, NULL, sleep_long, NULL);
    pthread_create(&thread, NULL, block_in_read, (void *)(long)p[0]);
    nap_ms(30);
    exit(6);
}

static void *exit_group_here(void *unused) {
    (void)unused;
    nap_ms(20);
    _exit(9);
}

static void thread_ends_process(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, exit_group_here, NULL);
    sleep(30);
}

static void *outlive_leader(void *unused) {
    (void)unused;
    nap_ms(60);
    say("thread lives on");
    _exit(11);
}

static void leader_exits_first(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, outlive_leader, NULL);
    pthread_exit(NULL);
}

static void *die(void *unused) {
    (void)unused;
    *(volatile int *)8 = 1;
    return NULL;
}

static void thread_crashes(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, die, NULL);
    sleep(30);
}

PROBE(thread_exit) {
    in_child("exit with sleeping threads", exit_with_threads);
    in_child("a thread exits the process", thread_ends_process);
    in_child("the leader exits first", leader_exits_first);
    in_child("a thread crashes", thread_crashes);
}

static uint32_t word;

static long futex(int op, uint32_t value, void *timeout) { return syscall(SYS_futex, &word, op, value, timeout, NULL, 0); }

static void *wake_word(void *unused) {
    (void)unused;
    nap_ms(40);
    __atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
    MUST(futex(FUTEX_WAKE_PRIVATE, 1, NULL));
    return NULL;
}

PROBE(futex) {
    struct timespec brief = {0, 20000000}, wrong = {0, -1};
    pthread_t thread;
    SHOW(futex(FUTEX_WAIT_PRIVATE, 1, NULL));
    SHOW(futex(FUTEX_WAIT_PRIVATE, 0, &brief));
    SHOW(futex(FUTEX_WAIT_PRIVATE, 0, &wrong));
    SHOW(futex(FUTEX_WAKE_PRIVATE, 1, NULL));
    pthread_create(&thread, NULL, wake_word, NULL);
    SHOW(futex(FUTEX_WAIT_PRIVATE, 0, NULL));
    pthread_join(thread, NULL);
    SHOW(syscall(SYS_futex, (char *)&word + 1, FUTEX_WAIT, 0, NULL));
    SHOW(syscall(SYS_futex, &word, 99, 0, NULL));
    SHOW(syscall(SYS_futex, unmapped, FUTEX_WAIT, 0, NULL));
}

PROBE(futex_between_processes) {
    sem_t *semaphore = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(sem_init(semaphore, 1, 0));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        nap_ms(30);
        sem_post(semaphore);
        _exit(0);
    }
    SHOW(sem_wait(semaphore));
    reap("poster", pid);
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 20000000;
    if (soon.tv_nsec >= 1000000000)
        soon.tv_sec++, soon.tv_nsec -= 1000000000;
    SHOW(sem_timedwait(semaphore, &soon));
}

static void *robust_holder(void *lock) {
    pthread_mutex_lock(lock);
    return NULL;
}

PROBE(robust_mutex) {
    pthread_mutexattr_t attributes;
    pthread_mutex_t lock;
    pthread_t thread;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&lock, &attributes);
    pthread_create(&thread, NULL, robust_holder, &lock);
    pthread_join(thread, NULL);
    SHOW(pthread_mutex_lock(&lock) == EOWNERDEAD);
    SHOW(pthread_mutex_consistent(&lock));
    SHOW(pthread_mutex_unlock(&lock));
}

static void *wait_for_cancel(void *fd) {
    char c;
    read((int)(long)fd, &c, 1);
    return NULL;
}

PROBE(thread_cancel) {
    pthread_t thread;
    void *result;
    int p[2];
    MUST(pipe(p));
    pthread_create(&thread, NULL, wait_for_cancel, (void *)(long)p[0]);
    nap_ms(30);
    SHOW(pthread_cancel(thread));
    SHOW(pthread_join(thread, &result));
    FACT(result == PTHREAD_CANCELED);
}

PROBE(thread_names) {
    char name[32];
    SHOW(prctl(PR_SET_NAME, "a-name-that-is-too-long"));
    SHOW(prctl(PR_GET_NAME, name));
    say("%s", name);
    say_file("/proc/self/comm");
    int fd = MUST(open("/proc/self/comm", O_WRONLY));
    SHOW(write(fd, "by proc", 7));
    SHOW(prctl(PR_GET_NAME, name));
    say("%s", name);
    SHOW(pthread_setname_np(pthread_self(), "libc"));
    say_file("/proc/self/comm");
}

static void *nothing(void *unused) { return unused; }

PROBE(many_threads) {
    pthread_t threads[200];
    int made = 0;
    for (int i = 0; i < 200; i++)
        made += pthread_create(&threads[i], NULL, nothing, NULL) == 0;
    for (int i = 0; i < made; i++)
        pthread_join(threads[i], NULL);
    SHOW(made);
    for (int i = 0; i < 300; i++) {
        pthread_create(&threads[0], NULL, nothing, NULL);
        pthread_join(threads[0], NULL);
    }
    say("done");
}

static int gate[2];

static void *pass_gate(void *unused) {
    char c;
    (void)unused;
    return (void *)(long)read(gate[0], &c, 1);
}

// A long list of waiting threads: each waits in the kernel for its own byte.
PROBE(many_blocked_threads) {
    pthread_t threads[100];
    void *result;
    long sum = 0;
    MUST(pipe(gate));
    for (int i = 0; i < 100; i++)
        MUST(-pthread_create(&threads[i], NULL, pass_gate, NULL));
    nap_ms(100);
    for (int i = 0; i < 100; i++)
        MUST(write(gate[1], "x", 1));
    for (int i = 0; i < 100; i++) {
        pthread_join(threads[i], &result);
        sum += (long)result;
    }
    SHOW(sum);
}

PROBE(fork_in_thread) {
    pthread_t thread;
    int p[2];
    MUST(pipe(p));
    pthread_create(&thread, NULL, block_in_read, (void *)(long)p[0]);
    pid_t pid = MUST(fork());
    if (pid == 0) {
        FACT(gettid() == getpid());
        _exit(3);
    }
    reap("child", pid);
    write(p[1], "x", 1);
    pthread_join(thread, NULL);
}
