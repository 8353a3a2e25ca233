/* ptrace: life-cycle stops, registers, parking. All of it from the loop's thread. */
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core.h"
#include "trace.h"

#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define SYS_FUTEX_WAITV 449 /* newer than some headers */
#define SYS_FUTEX_WAIT 455

static int trace(long request, int tid, void *addr, long data) {
    return ptrace(request, tid, addr, data) < 0 ? -errno : 0;
}

/* A clone that is neither a fork nor a vfork (to ptrace: whose exit signal is not SIGCHLD) is mostly a thread, which costs
 * too much when two stops and a wait go with it: it is reported by those only who were told to. */
#define REPORTED (PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)

/* A copy of ours keeps the memory it goes to, whoever dies meanwhile. When the copy's own page is one too many for a memory
 * cgroup, the host's OOM killer takes the guest, and its death frees nothing until the copy is over: were it gone by then, the
 * killer would see no victim any more and take the next, which is us. A victim that stops on its way out stays one, and what it
 * has is taken from it (mm/oom_kill.c: oom_evaluate_task, oom_reaper), so the copy ends. */
#define OPTIONS (REPORTED | PTRACE_O_TRACEEXIT)

int nc_seize(int tid) { return trace(PTRACE_SEIZE, tid, NULL, OPTIONS); }

int nc_trace_more(int tid, int what) {
    long options = OPTIONS;
    if (what & NC_TRACE_CLONE) options |= PTRACE_O_TRACECLONE;
    if (what & NC_TRACE_VFORK_DONE) options |= PTRACE_O_TRACEVFORKDONE;
    return trace(PTRACE_SETOPTIONS, tid, NULL, options);
}

int nc_interrupt(int tid) {
    nc_task *task = nc_task_find(tid);
    if (task) task->stop_wanted = 1;
    return trace(PTRACE_INTERRUPT, tid, NULL, 0);
}

int nc_resume(int tid, int sig) {
    static const long requests[] = {PTRACE_CONT, PTRACE_SYSCALL, PTRACE_SINGLESTEP};
    nc_task *task = nc_task_find(tid);
    return trace(task && !task->parked ? requests[task->mode] : PTRACE_CONT, tid, NULL, sig);
}

int nc_resume_to_call(int tid, int sig) { return trace(PTRACE_SYSCALL, tid, NULL, sig); }

int nc_listen(int tid) { return trace(PTRACE_LISTEN, tid, NULL, 0); }

int nc_detach(int tid, int sig) { return trace(PTRACE_DETACH, tid, NULL, sig); }

int nc_getregs(int tid, struct nc_regs *regs) { return trace(PTRACE_GETREGS, tid, NULL, (long)regs); }

int nc_setregs(int tid, const struct nc_regs *regs) { return trace(PTRACE_SETREGS, tid, NULL, (long)regs); }

uint64_t nc_stack_pointer(int tid) {
    struct nc_regs regs;
    return nc_getregs(tid, &regs) ? 0 : regs.rsp;
}

int64_t nc_eventmsg(int tid) {
    unsigned long message = 0;
    int failed = trace(PTRACE_GETEVENTMSG, tid, NULL, (long)&message);
    return failed ? failed : (int64_t)message;
}

int nc_peek(int tid, uint64_t addr, uint64_t *word) {
    errno = 0;
    *word = (uint64_t)ptrace(PTRACE_PEEKDATA, tid, (void *)addr, NULL);
    return errno ? -errno : 0;
}

int nc_poke(int tid, uint64_t addr, uint64_t word) { return trace(PTRACE_POKEDATA, tid, (void *)addr, (long)word); }

int nc_peek_user(int tid, uint64_t offset, uint64_t *word) {
    errno = 0;
    *word = (uint64_t)ptrace(PTRACE_PEEKUSER, tid, (void *)offset, NULL);
    return errno ? -errno : 0;
}

int nc_poke_user(int tid, uint64_t offset, uint64_t word) { return trace(PTRACE_POKEUSER, tid, (void *)offset, (long)word); }

int nc_get_regset(int tid, uint32_t type, void *buf, uint64_t size) {
    struct iovec part = {buf, size};
    int failed = trace(PTRACE_GETREGSET, tid, (void *)(uintptr_t)type, (long)&part);
    return failed ? failed : (int)part.iov_len;
}

int nc_set_regset(int tid, uint32_t type, const void *buf, uint64_t size) {
    struct iovec part = {(void *)buf, size};
    int failed = trace(PTRACE_SETREGSET, tid, (void *)(uintptr_t)type, (long)&part);
    return failed ? failed : (int)part.iov_len;
}

int nc_getsiginfo(int tid, void *buf128) { return trace(PTRACE_GETSIGINFO, tid, NULL, (long)buf128); }

int nc_setsiginfo(int tid, const void *buf128) { return trace(PTRACE_SETSIGINFO, tid, NULL, (long)buf128); }

int64_t nc_getsigmask(int tid) {
    uint64_t mask = 0;
    int failed = trace(PTRACE_GETSIGMASK, tid, (void *)sizeof mask, (long)&mask);
    return failed ? failed : (int64_t)(mask & INT64_MAX);
}

int nc_setsigmask(int tid, uint64_t mask) { return trace(PTRACE_SETSIGMASK, tid, (void *)sizeof mask, (long)&mask); }

/* A stop can come before pause(2) is entered: after nc_park (a signal that the new mask lets in, our interrupt), or after another
 * stop, when the host kernel has prepared to make it again. The instruction pointer is then at the `syscall`, which must not run
 * any more: with a result of 1 in rax it would be a write. */
static void step_over(struct nc_regs *regs) {
    bool stepped_back = regs->orig_rax == (uint64_t)-1 || regs->orig_rax == SYS_pause;
    if (stepped_back && regs->rax == SYS_pause) regs->rip += 2;
}

/* A guest's own seccomp filters let a pause(2) with the pass through (syscalls/seccomp.py). */
static uint64_t pass;

int nc_set_pass(uint64_t value) {
    pass = value;
    return 0;
}

static void take_pass(nc_task *task, struct nc_regs *regs) {
    if (!pass || !task) return;
    task->r9 = regs->r9;
    task->passing = 1;
    regs->r9 = pass;
}

static void give_pass_back(nc_task *task, struct nc_regs *regs) {
    if (!task || !task->passing) return;
    task->passing = 0;
    if (regs->r9 == pass) regs->r9 = task->r9;
}

/* Out of a stop: on, or into the group stop that the whole process is in. */
static int leave(int tid, int then) {
    if (then == NC_LEAVE) return 0;
    return then == NC_STAY ? nc_listen(tid) : nc_resume(tid, 0);
}

int nc_guest_regs(int tid, int nr, struct nc_regs *regs) {
    int failed = nc_getregs(tid, regs);
    nc_task *task = nc_task_find(tid);
    if (failed || !task || !task->parked) return failed;
    step_over(regs);
    if (task->passing) regs->r9 = task->r9;
    regs->orig_rax = (uint64_t)nr;
    regs->rax = (uint64_t)-ERESTARTSYS;
    return 0;
}

int nc_finish(int tid, int nr, int64_t result, int then) {
    struct nc_regs regs;
    int failed = nc_getregs(tid, &regs);
    if (failed) return failed;
    step_over(&regs);
    give_pass_back(nc_task_find(tid), &regs);
    regs.rax = (uint64_t)result;
    regs.orig_rax = (uint64_t)nr;
    failed = nc_setregs(tid, &regs);
    return failed ? failed : leave(tid, then);
}

int nc_park(int tid, int stay) {
    struct nc_regs regs;
    int failed = nc_getregs(tid, &regs);
    if (failed) return failed;
    /* The stop is at the end of a call answered -ERESTARTSYS. Step back over `syscall` and call pause instead. */
    regs.rip -= 2;
    regs.rax = SYS_pause;
    regs.orig_rax = (uint64_t)-1;
    nc_task *task = nc_task_find(tid);
    take_pass(task, &regs);
    failed = nc_setregs(tid, &regs);
    if (failed) return failed;
    if (task) task->parked = 1;
    return leave(tid, stay);
}

int nc_unparked(int tid) {
    nc_task *task = nc_task_find(tid);
    if (task) task->parked = 0;
    return 0;
}

int nc_restart(int tid, int nr, int64_t rax, int sig) {
    struct nc_regs regs;
    int failed = nc_getregs(tid, &regs);
    if (failed) return failed;
    step_over(&regs);
    give_pass_back(nc_task_find(tid), &regs);
    regs.orig_rax = (uint64_t)nr;
    regs.rax = (uint64_t)rax;
    failed = nc_setregs(tid, &regs);
    return failed ? failed : nc_resume(tid, sig);
}

/* The sentry's signals carry a cookie as their value, and a mark in the part of siginfo that their kind does not use but the
 * kernel keeps (it holds 48 bytes). Nobody else can send a guest a signal that is queued. */
#define MAGIC_AT 40
#define MAGIC 0x79702d6373736e75ULL

int nc_signal(int tgid, int tid, int sig, uint64_t cookie) {
    if (!cookie) return (tid ? syscall(SYS_tgkill, tgid, tid, sig) : kill(tgid, sig)) ? -errno : 0;
    siginfo_t info;
    const uint64_t magic = MAGIC;
    memset(&info, 0, sizeof info);
    info.si_signo = sig;
    info.si_code = SI_QUEUE;
    info.si_value.sival_ptr = (void *)cookie;
    memcpy((char *)&info + MAGIC_AT, &magic, sizeof magic);
    long result = tid ? syscall(SYS_rt_tgsigqueueinfo, tgid, tid, sig, &info) : syscall(SYS_rt_sigqueueinfo, tgid, sig, &info);
    return result ? -errno : 0;
}

static int many_users;

int nc_set_many_users(void) {
    many_users = 1;
    return 0;
}

int64_t nc_sigcookie(int tid) {
    siginfo_t info;
    uint64_t magic;
    if (nc_getsiginfo(tid, &info) || info.si_code != SI_QUEUE) return 0;
    memcpy(&magic, (char *)&info + MAGIC_AT, sizeof magic);
    return magic == MAGIC ? (int64_t)(uintptr_t)info.si_value.sival_ptr : 0;
}

static int fault_signal(int sig) {
    return sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGFPE || sig == SIGTRAP || sig == SIGSYS;
}

/* A signal that comes before the listener has received a notification ends the call with -ERESTARTSYS, which a handler
 * without SA_RESTART would turn into an EINTR that calls such as pipe2(2) never give. Nothing has happened yet, so the call is
 * made again whatever the handler asks for. Calls of the host kernel's own that end so are left alone. */
static void make_unreceived_call_again(nc_task *task) {
    struct nc_regs regs;
    int tid = task->tid;
    if (nc_getregs(tid, &regs) || (int64_t)regs.rax != -ERESTARTSYS) return;
    if (task->interrupted) {
        task->interrupted = 0;
        return;
    }
    switch (regs.orig_rax) {
    case SYS_wait4:
    case SYS_waitid:
    case SYS_futex:
    case SYS_FUTEX_WAITV:
    case SYS_FUTEX_WAIT:
    case (uint64_t)-1: return;
    }
    regs.rax = (uint64_t)-ERESTARTNOINTR;
    nc_setregs(tid, &regs);
}

int nc_stop_answered(int tid, int status) {
    if (!WIFSTOPPED(status)) return 0;
    nc_task *task = nc_task_find(tid);
    int event = status >> 16, sig = WSTOPSIG(status);
    if (event == PTRACE_EVENT_EXIT && !(task && task->watched)) {
        nc_resume(tid, 0); /* whether or not it still can: its death is next */
        return 1;
    }
    if (!task) return 0;
    if (!event && !(sig & 0x80) && !task->parked) make_unreceived_call_again(task);
    if (task->stop_wanted || task->aside || task->watched) return 0;
    if (event == PTRACE_EVENT_STOP) {
        if (task->fresh) {
            task->fresh = 0;
            return nc_resume(tid, 0) == 0;
        }
        if (task->parked) return 0;
        if (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU) return nc_listen(tid) == 0;
        return nc_resume(tid, 0) == 0;
    }
    if (event || sig & 0x80) return 0;
    if (task->parked || fault_signal(sig) || nc_sigcookie(tid)) return 0;
    if (sig == SIGCHLD && many_users) return 0;
    return nc_resume(tid, sig) == 0;
}

void nc_stop_details(struct nc_event *ev) {
    ev->id = 0;
    ev->args[0] = 0;
    if (!WIFSTOPPED(ev->status)) return;
    int event = ev->status >> 16;
    if (event == PTRACE_EVENT_EXEC) {
        int64_t former = nc_eventmsg(ev->tid);
        ev->id = former > 0 ? (uint64_t)former : 0;
        return;
    }
    if (event != PTRACE_EVENT_FORK && event != PTRACE_EVENT_VFORK && event != PTRACE_EVENT_CLONE) return;
    int64_t child = nc_eventmsg(ev->tid);
    ev->id = child > 0 ? (uint64_t)child : 0;
    struct nc_regs regs;
    if (nc_getregs(ev->tid, &regs)) return;
    if (regs.orig_rax == SYS_clone)
        ev->args[0] = regs.rdi;
    else if (regs.orig_rax == SYS_vfork)
        ev->args[0] = CLONE_VM | CLONE_VFORK;
}
