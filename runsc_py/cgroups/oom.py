"""Learning that the kernel killed a process of the container for memory.

    with OomWatch(manager) as watch:
        poller.register(watch.fd, watch.events)
        if watch.fired(): ...           # asked when poll says so, and once more at the end

v2 notifies of memory.events as kernfs does (POLLPRI until it is read again); v1 by an eventfd that was registered in
cgroup.event_control (the kernel's cgroup-v1/memory.rst, 10. OOM Control): that says so just before the kill.
"""

import os
import select

from runsc_py.cgroups import Manager
from runsc_py.cgroups.files import write


class OomWatch:
    def __init__(self, manager: Manager) -> None:
        """OSError or FileNotFoundError where the container has no memory cgroup."""
        directory = manager.directory_of("memory")
        if not directory:
            raise FileNotFoundError("no memory cgroup")
        unified = directory == manager.unified
        name = "memory.events" if unified else "memory.oom_control"
        self._file = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        self.fd, self.events = self._file, select.POLLPRI
        try:
            if not unified:
                self.fd, self.events = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), select.POLLIN
                write(f"{directory}/cgroup.event_control", f"{self.fd} {self._file}")
            self._kills = self._count()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "OomWatch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for descriptor in {self.fd, self._file}:
            os.close(descriptor)

    def fired(self) -> bool:
        """Was there a kill since last asked?"""
        if self.fd != self._file:
            try:
                os.eventfd_read(self.fd)
            except BlockingIOError:
                return False
            return self._count() >= 0  # it also tells of the end of the cgroup
        before, self._kills = self._kills, self._count()
        return self._kills > before

    def _count(self) -> int:
        try:
            text = os.pread(self._file, 4096, 0)
        except OSError:  # ENODEV: the cgroup is gone
            return -1
        for line in text.splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
        return 0
