// Device nodes, on the file systems that keep them; the host's get none by way of the gofer.
#include "../probe.h"
#include <sys/sysmacros.h>

PROBE(devices_of_ones_own) {
    SHOW(mknod("null", S_IFCHR | 0666, makedev(1, 3)));
    SHOW(mknod("odd", S_IFCHR | 0666, makedev(240, 7)));
    SHOW(mknod("block", S_IFBLK | 0666, makedev(240, 7)));
    SHOW(mknod("odd", S_IFCHR | 0666, makedev(1, 3)));
    struct stat st;
    MUST(stat("null", &st));
    say("%o %u:%u", st.st_mode, major(st.st_rdev), minor(st.st_rdev));
    SHOW(open("null", O_RDWR));
    SHOW(open("odd", O_RDWR));
    SHOW(open("block", O_RDONLY));
    SHOW(write(3, "x", 1));
    SHOW(rename("null", "other"));
    SHOW(close(open("other", O_RDWR)));
    SHOW(mknod("white", S_IFCHR | 0666, makedev(0, 0)));
    SHOW(mknod("huge", S_IFCHR | 0666, makedev(4095, 1048575)));
    SHOW(stat("huge", &st));
    say("%u:%u", major(st.st_rdev), minor(st.st_rdev));
    MUST(setuid(1000));
    SHOW(mknod("mine", S_IFCHR | 0666, makedev(1, 3)));
    SHOW(mknod("mine", S_IFIFO | 0666, 0));
}
