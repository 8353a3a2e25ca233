"""The file system types of a sandbox's kernel: ``register_types(kernel)`` makes them mountable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sentry.fs.devpts  # noqa: F401 - registers itself
from sentry.fs import dev
from sentry.fs.cgroupfs import Cgroup1, Cgroup2
from sentry.fs.mqueue import queues_of
from sentry.fs.proc.facts import facts_of
from sentry.fs.proc.fs import Procfs
from sentry.fs.registry import register
from sentry.fs.sysfs import Sysfs
from sentry.fs.tmpfs import Ramfs, Tmpfs, factory

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel


def register_types(kernel: Kernel) -> None:
    """`kernel.store` and `kernel.facts` are set."""
    facts = facts_of(kernel)
    if dev.host_zero_fd < 0:
        dev.set_host_zero(facts.zero_fd)
    register(b"sysfs", lambda source, options, flags: Sysfs(kernel))
    register(b"tmpfs", factory(kernel.store))
    register(b"ramfs", lambda source, options, flags: Ramfs.from_options(kernel.store, options))
    register(b"proc", lambda source, options, flags: Procfs(kernel))
    register(b"cgroup", lambda source, options, flags: Cgroup1(kernel, options))
    register(b"cgroup2", lambda source, options, flags: Cgroup2(kernel))
    register(b"devtmpfs", lambda source, options, flags: Tmpfs(kernel.store, mode=0o755), user=False)
    register(b"mqueue", lambda source, options, flags: queues_of(kernel))
