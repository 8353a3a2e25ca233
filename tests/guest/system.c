// The system: names, figures, random bytes, and the calls that containers are refused.
#include "probe.h"
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/reboot.h>
#include <linux/seccomp.h>
#include <sys/klog.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#ifndef GRND_INSECURE
#define GRND_INSECURE 4
#endif

PROBE(random_bytes) {
    char bytes[4096];
    SHOW(getrandom(bytes, 100, 0));
    SHOW(getrandom(bytes, 4096, GRND_RANDOM));
    SHOW(getrandom(bytes, 10, GRND_NONBLOCK | GRND_INSECURE));
    SHOW(getrandom(bytes, 10, GRND_RANDOM | GRND_INSECURE));
    SHOW(getrandom(bytes, 10, 8));
    SHOW(getrandom(bytes, 0, 0));
    SHOW(getrandom(unmapped, 0, 0));
    SHOW(getrandom(unmapped, 10, 0));
    SHOW(getrandom(kernel_half, 10, 0));
    char *page = forbidden_page();
    MUST(mprotect(page, 4096, PROT_READ | PROT_WRITE));
    long got = getrandom(page + 4000, -1, 0); // up to the end of what is mapped there, at least
    FACT(got >= 96 || (got == -1 && errno == EFAULT));
}

static void names_as_user(void) {
    MUST(setresuid(1000, 1000, 1000));
    SHOW(sethostname("x", 1));
    SHOW(sethostname("x", -1));
    SHOW(setdomainname("x", 1));
    SHOW(setdomainname("x", 100));
}

PROBE(names_of_the_system) {
    struct utsname names;
    SHOW(syscall(SYS_uname, unmapped));
    MUST(uname(&names));
    say("%s %s", names.sysname, names.machine);
    SHOW(sethostname("x", -1));
    SHOW(sethostname("x", 65));
    SHOW(sethostname(unmapped, 5));
    SHOW(setdomainname("x", -1));
    SHOW(setdomainname("x", 65));
    SHOW(setdomainname(unmapped, 5));
    in_child("user", names_as_user);
}

PROBE(figures) {
    struct sysinfo info;
    SHOW(sysinfo(&info));
    FACT(info.uptime > 0 && info.totalram > 0 && info.freeram > 0 && info.procs > 0 && info.mem_unit >= 1);
    FACT(info.freeram <= info.totalram);
    SHOW(sysinfo(unmapped));
}

static void log_as_user(void) {
    MUST(setresuid(1000, 1000, 1000));
    SHOW(klogctl(2, (char[8]){0}, 8));
    SHOW(klogctl(8, NULL, 1));
}

PROBE(kernel_log) {
    char text[16];
    in_child("user", log_as_user);
    SHOW(klogctl(2, text, sizeof text));
    SHOW(klogctl(99, text, sizeof text));
    SHOW(klogctl(-1, text, sizeof text));
}

PROBE(refused_calls) {
    SHOW(syscall(SYS_reboot, 0, 0, 0, 0));
    SHOW(syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_CAD_ON, 0));
    SHOW(syscall(SYS_acct, NULL));
    SHOW(syscall(SYS_swapon, "/nothing", 0));
    SHOW(syscall(SYS_swapoff, "/nothing"));
    SHOW(syscall(SYS_vhangup));
    SHOW(syscall(SYS_nfsservctl, 0, NULL, NULL));
    SHOW(syscall(SYS_uselib, "x"));
    SHOW(syscall(SYS__sysctl, NULL));
    SHOW(syscall(SYS_create_module, NULL, 0));
    SHOW(syscall(SYS_get_kernel_syms, NULL));
    SHOW(syscall(SYS_query_module, NULL, 0, NULL, 0, NULL));
    SHOW(syscall(SYS_getpmsg));
    SHOW(syscall(SYS_afs_syscall));
    SHOW(syscall(SYS_tuxcall));
    SHOW(syscall(SYS_security));
    SHOW(syscall(SYS_vserver));
    SHOW(syscall(SYS_lookup_dcookie, 0, NULL, 0));
    SHOW(syscall(SYS_epoll_ctl_old));
    SHOW(syscall(SYS_set_thread_area, NULL));
    SHOW(syscall(SYS_get_thread_area, NULL));
    SHOW(syscall(SYS_remap_file_pages, 0, 0, 0, 0, 0));
    SHOW(syscall(1000));
    SHOW(syscall(423));
    SHOW(syscall(-1));
    SHOW(syscall(0x40000000 | SYS_getpid));
}

PROBE(old_calls) {
    char name[64];
    long count = syscall(SYS_sysfs, 3), index = syscall(SYS_sysfs, 1, "tmpfs");
    FACT(count > 0 && index >= 0 && index < count);
    SHOW(syscall(SYS_sysfs, 2, index, name));
    say("%s", name);
    SHOW(syscall(SYS_sysfs, 1, "nothing"));
    SHOW(syscall(SYS_sysfs, 1, unmapped));
    SHOW(syscall(SYS_sysfs, 2, count, name));
    SHOW(syscall(SYS_sysfs, 2, index, unmapped));
    SHOW(syscall(SYS_sysfs, 9));
    struct {
        int32_t free;
        uint64_t inodes;
        char name[6], pack[6];
    } status;
    struct stat here;
    MUST(stat("/tmp", &here));
    memset(&status, 0x55, sizeof status);
    SHOW(syscall(SYS_ustat, here.st_dev, &status));
    FACT(status.free > 0 && status.inodes > 0 && !status.name[0] && !status.pack[0]);
    SHOW(syscall(SYS_ustat, here.st_dev, unmapped));
    SHOW(syscall(SYS_ustat, 0, &status));
    SHOW(syscall(SYS_ustat, 0xffffffff, unmapped));
    SHOW(syscall(SYS_sync));
}
