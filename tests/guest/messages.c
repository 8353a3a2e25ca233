// System V message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2).
#include "probe.h"
#include <sys/ipc.h>
#include <sys/msg.h>

#ifndef MSG_STAT_ANY
#define MSG_STAT_ANY 13
#endif

struct message {
    long type;
    char text[8200];
};

static int queue;

static int put(long type, const char *text, int flags) {
    struct message it = {.type = type};
    strcpy(it.text, text);
    return msgsnd(queue, &it, strlen(text), flags);
}

// Receive up to `size` bytes and say what came.
static void get(long type, size_t size, int flags) {
    struct message it = {0};
    ssize_t n = msgrcv(queue, &it, size, type, flags);
    if (n < 0)
        say("-1 %s", strerrorname_np(errno));
    else
        say("%zd bytes of type %ld: %s", n, it.type, it.text);
}

static void say_queue(const char *what) {
    struct msqid_ds it;
    if (msgctl(queue, IPC_STAT, &it)) {
        say("%s: %s", what, strerrorname_np(errno));
        return;
    }
    time_t now = time(NULL);
    say("%s: key %#x mode %o %u %u, %lu messages, %lu of %lu bytes, from %s to %s, times %d %d %d", what, it.msg_perm.__key,
        it.msg_perm.mode, it.msg_perm.uid, it.msg_perm.gid, it.msg_qnum, it.__msg_cbytes, it.msg_qbytes,
        it.msg_lspid == getpid() ? "self" : it.msg_lspid ? "other" : "none",
        it.msg_lrpid == getpid() ? "self" : it.msg_lrpid ? "other" : "none", it.msg_stime && now - it.msg_stime < 100,
        it.msg_rtime && now - it.msg_rtime < 100, now - it.msg_ctime < 100);
}

static void say_table(void) {
    FILE *file = fopen("/proc/sysvipc/msg", "r");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        int key, id, mode;
        unsigned bytes, count, uid, gid;
        if (sscanf(line, "%d %d %o %u %u %*u %*u %u %u", &key, &id, &mode, &bytes, &count, &uid, &gid) == 7)
            say("%#x %d %o %u %u %u %u, %zu wide", key, id, mode, bytes, count, uid, gid, strlen(line));
        else
            say("%s", line);
    }
    if (file) fclose(file);
}

PROBE(msg_get) {
    SHOW(msgget(1, 0));
    queue = SHOW(msgget(1, IPC_CREAT | 0640));
    SHOW(msgget(1, IPC_CREAT | IPC_EXCL | 0640));
    SHOW(msgget(1, 0));
    SHOW(msgget(IPC_PRIVATE, 0600));
    SHOW(msgget(IPC_PRIVATE, 0600));
    say_queue("new");
    say_table();
    SHOW(msgctl(queue, IPC_RMID, NULL));
    SHOW(msgctl(queue, IPC_RMID, NULL));
    say_queue("gone");
    SHOW(msgget(1, IPC_CREAT | 0600));
}

PROBE(msg_order) {
    queue = MUST(msgget(IPC_PRIVATE, 0600));
    SHOW(put(3, "three", 0));
    SHOW(put(1, "one", 0));
    SHOW(put(2, "", 0));
    SHOW(put(1, "one again", 0));
    say_queue("four");
    get(1, 100, 0);
    get(-3, 100, 0);
    get(-2, 100, 0);
    get(0, 2, 0);
    get(0, 2, MSG_NOERROR);
    get(0, 100, IPC_NOWAIT);
    get(5, 100, IPC_NOWAIT);
    MUST(put(7, "seven", 0));
    MUST(put(8, "eight", 0));
    get(7, 100, MSG_EXCEPT);
    get(8, 100, MSG_EXCEPT);
    MUST(put(9, "nine", 0));
    get(LONG_MIN, 100, IPC_NOWAIT);
    say_queue("none");
}

PROBE(msg_errors) {
    queue = MUST(msgget(IPC_PRIVATE, 0600));
    struct message it = {.type = 1};
    SHOW(msgsnd(queue, unmapped, 1, 0));
    SHOW(msgsnd(-1, unmapped, 1, 0));
    SHOW(msgsnd(-1, &it, 1, 0));
    SHOW(msgsnd(77, &it, 1, 0));
    SHOW(msgsnd(queue, &it, 8193, 0));
    SHOW(msgsnd(queue, &it, -1, 0));
    it.type = 0;
    SHOW(msgsnd(queue, &it, 1, 0));
    it.type = -1;
    SHOW(msgsnd(queue, &it, 1, 0));
    it.type = 1;
    SHOW(msgsnd(queue, &it, 8192, 0));
    SHOW(msgsnd(queue, &it, 8192, 0));
    SHOW(msgsnd(queue, &it, 0, 0));
    SHOW(msgsnd(queue, &it, 1, IPC_NOWAIT));
    SHOW(msgrcv(-1, &it, 1, 0, 0));
    SHOW(msgrcv(77, &it, 1, 0, 0));
    SHOW(msgrcv(queue, &it, -1, 0, 0));
    SHOW(msgrcv(queue, unmapped, 8192, 0, 0)); // the message is lost
    say_queue("one and nothing");
    struct msqid_ds ds;
    SHOW(msgctl(-1, IPC_STAT, &ds));
    SHOW(msgctl(queue, -1, &ds));
    SHOW(msgctl(queue, 77, &ds));
    SHOW(msgctl(queue, IPC_STAT | 0x100, &ds));
    SHOW(msgctl(queue, IPC_STAT, unmapped));
    SHOW(msgctl(77, IPC_STAT, unmapped));
    SHOW(msgctl(77, IPC_SET, unmapped));
    SHOW(msgctl(0, MSG_STAT, &ds));
    SHOW(msgctl(1, MSG_STAT, &ds));
    SHOW(msgctl(0, MSG_STAT_ANY, &ds));
}

PROBE(msg_copy) {
    queue = MUST(msgget(IPC_PRIVATE, 0600));
    MUST(put(3, "three", 0));
    MUST(put(1, "one", 0));
    get(0, 100, MSG_COPY | IPC_NOWAIT);
    get(1, 100, MSG_COPY | IPC_NOWAIT);
    get(2, 100, MSG_COPY | IPC_NOWAIT);
    get(-1, 100, MSG_COPY | IPC_NOWAIT);
    get(0, 100, MSG_COPY);
    get(0, 100, MSG_COPY | MSG_EXCEPT | IPC_NOWAIT);
    get(0, 2, MSG_COPY | IPC_NOWAIT);
    get(0, 2, MSG_COPY | IPC_NOWAIT | MSG_NOERROR);
    SHOW(msgrcv(queue, unmapped, 100, 0, MSG_COPY | IPC_NOWAIT));
    SHOW(msgrcv(77, unmapped, 100, 0, MSG_COPY | IPC_NOWAIT));
    say_queue("both");
}

static void send_later(void) {
    nap_ms(50);
    MUST(put(5, "late", 0));
}

static void *receive_one(void *type) {
    get((intptr_t)type, 100, 0);
    return NULL;
}

static void *send_one(void *unused) {
    show("msgsnd", put(1, "more", 0));
    return unused;
}

PROBE(msg_waits) {
    queue = MUST(msgget(IPC_PRIVATE, 0600));
    pid_t child = spawn(send_later);
    get(5, 100, 0);
    reap("child", child);
    say_queue("taken");
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, receive_one, (void *)9));
    nap_ms(30);
    MUST(put(8, "not that", 0));
    MUST(put(9, "that", 0));
    pthread_join(thread, NULL);
    struct msqid_ds it;
    MUST(msgctl(queue, IPC_STAT, &it));
    it.msg_qbytes = 10;
    SHOW(msgctl(queue, IPC_SET, &it));
    MUST(pthread_create(&thread, NULL, send_one, NULL));
    nap_ms(30);
    get(8, 100, 0); // makes room
    pthread_join(thread, NULL);
    MUST(put(1, "123456", 0));
    MUST(pthread_create(&thread, NULL, send_one, NULL));
    nap_ms(30);
    it.msg_qbytes = 100;
    SHOW(msgctl(queue, IPC_SET, &it)); // so does this
    pthread_join(thread, NULL);
    pthread_t other;
    MUST(pthread_create(&thread, NULL, receive_one, (void *)77));
    it.msg_qbytes = 1;
    MUST(msgctl(queue, IPC_SET, &it));
    nap_ms(30);
    SHOW(msgctl(queue, IPC_RMID, NULL));
    pthread_join(thread, NULL);
    queue = MUST(msgget(IPC_PRIVATE, 0600));
    MUST(msgctl(queue, IPC_STAT, &it));
    it.msg_qbytes = 1;
    MUST(msgctl(queue, IPC_SET, &it));
    MUST(pthread_create(&other, NULL, send_one, NULL));
    nap_ms(30);
    MUST(msgctl(queue, IPC_RMID, NULL));
    pthread_join(other, NULL);
}

PROBE(msg_interrupted) {
    queue = MUST(msgget(IPC_PRIVATE, 0600));
    count_signal(SIGALRM, SA_RESTART);
    struct itimerval soon = {{0, 0}, {0, 40000}};
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    get(0, 100, 0); // a handler ends it, whatever SA_RESTART says
    SHOW(handled);
    signal(SIGALRM, SIG_IGN);
    MUST(setitimer(ITIMER_REAL, &soon, NULL));
    pid_t child = spawn(send_later);
    get(0, 100, 0);
    reap("child", child);
}

static void as_another(void) {
    MUST(setresgid(1000, 1000, 1000));
    MUST(setresuid(1000, 1000, 1000));
    struct msqid_ds it;
    SHOW(msgget(5, 0));
    SHOW(msgget(5, 0400));
    SHOW(msgget(5, 0600));
    SHOW(put(1, "x", IPC_NOWAIT));
    get(0, 10, IPC_NOWAIT);
    SHOW(msgctl(queue, IPC_STAT, &it));
    SHOW(msgctl(queue, IPC_SET, &it));
    SHOW(msgctl(queue, IPC_RMID, NULL));
    SHOW(msgctl(0, MSG_STAT, &it));
    SHOW(msgctl(0, MSG_STAT_ANY, &it));
    int own = MUST(msgget(IPC_PRIVATE, 0600));
    MUST(msgctl(own, IPC_STAT, &it));
    it.msg_qbytes = 16384;
    SHOW(msgctl(own, IPC_SET, &it));
    it.msg_qbytes = 16385;
    SHOW(msgctl(own, IPC_SET, &it));
    it.msg_qbytes = 5;
    it.msg_perm.uid = -1;
    SHOW(msgctl(own, IPC_SET, &it));
    SHOW(msgctl(own, IPC_RMID, NULL));
}

PROBE(msg_permissions) {
    queue = MUST(msgget(5, IPC_CREAT | 0600));
    in_child("0600", as_another);
    struct msqid_ds it;
    MUST(msgctl(queue, IPC_STAT, &it));
    it.msg_perm.mode = 0604;
    MUST(msgctl(queue, IPC_SET, &it));
    in_child("0604", as_another);
    it.msg_perm.mode = 0602;
    it.msg_perm.uid = 3;
    it.msg_perm.gid = 4;
    MUST(msgctl(queue, IPC_SET, &it));
    say_queue("set");
    in_child("0602", as_another);
}

PROBE(msg_info) {
    struct msginfo it;
    SHOW(msgctl(0, IPC_INFO, (void *)&it));
    say("%d %d %d %d %d %d %d %u", it.msgpool, it.msgmap, it.msgmax, it.msgmnb, it.msgmni, it.msgssz, it.msgtql, it.msgseg);
    queue = MUST(msgget(IPC_PRIVATE, 0600));
    MUST(put(1, "12345", 0));
    MUST(put(1, "123", 0));
    MUST(msgget(IPC_PRIVATE, 0600));
    SHOW(msgctl(0, MSG_INFO, (void *)&it));
    say("%d %d %d %d %d %d %d %u", it.msgpool, it.msgmap, it.msgmax, it.msgmnb, it.msgmni, it.msgssz, it.msgtql, it.msgseg);
    const char *const names[] = {"msgmax", "msgmnb", "msgmni", "msg_next_id", "auto_msgmni"};
    const char *const values[] = {"4", "20", "3", "-1", "0"};
    for (int i = 0; i < 5; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/sys/kernel/%s", names[i]);
        say_file(path);
        if (i < 3) {
            int fd = MUST(open(path, O_WRONLY));
            MUST(write(fd, values[i], strlen(values[i])));
            close(fd);
        }
    }
    SHOW(put(1, "12345", 0));
    SHOW(put(1, "1234", 0));
    say_queue("old");
    queue = SHOW(msgget(IPC_PRIVATE, 0600));
    say_queue("new");
    SHOW(msgget(IPC_PRIVATE, 0600));
    SHOW(msgctl(0, IPC_INFO, (void *)&it));
    say("%d %d %d %d %d %d %d %u", it.msgpool, it.msgmap, it.msgmax, it.msgmnb, it.msgmni, it.msgssz, it.msgtql, it.msgseg);
}
