"""Descriptor tables, and where a file that C knows by its id is found in Python.

The tables and their reference counts live in C (native/src/fdt.c), so that dup, close and the hot data calls
need no Python. Each File has a twin there (`file.nc`); FILES maps its id to the File while references exist:

    fd = task.fds.install(file, cloexec=True)    # the first reference; EMFILE releases a file nobody else has
    file = task.fds.get(fd)                      # EBADF
    hold(file) ... unhold(file)                  # a reference that is no descriptor (in flight, in a wait)

When the last reference goes, C says so and :func:`drain` calls `file.release()`. A File's Python object may
live longer (a coroutine still has it); its twin's memory goes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from native import ffi, lib
from sentry.abi.linux import IN_CLOSE_NOWRITE, IN_CLOSE_WRITE, O_PATH
from sentry.errors import EBADF, EINVAL, EMFILE, ENOMEM, from_errno
from sentry.kernel.sched import WaitQueue
from sentry.vfs import notify

if TYPE_CHECKING:
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode

_BATCH = 64
HOST_NUMBERS = range(1000)  # those of a guest's host table that it surely may have
_FIRST_SIZE = 64  # NR_OPEN_DEFAULT
_ready = ffi.new("struct nc_ready[]", _BATCH)
_released = ffi.new("uint64_t[]", _BATCH)
_lookup = lib.nc_fdt_lookup

#: The files that are referenced, by the id of their twin, but for those that only C knows (sentry/fs/lazyfile.py).
FILES: dict[int, File] = {}
#: Queues with somebody on them, by the id of their C object.
_queues: dict[int, SourceQueue] = {}
#: What else to call at a file's release (epoll, flock), by file id.
_at_release: dict[int, list[Callable[[File], None]]] = {}


class SourceQueue(WaitQueue):
    """The wait queue of a pipe or an eventfd: C reports its events only while somebody is on it."""

    __slots__ = ("_nc", "_watch", "source_id")

    def __init__(self, nc: Any, source_id: int, watch: Callable[[Any, int], int]) -> None:
        super().__init__()
        self._nc = nc
        self._watch = watch
        self.source_id = source_id

    def add(self, callback: Callable[[int], None]) -> None:
        if not self._callbacks:
            _queues[self.source_id] = self
            self._watch(self._nc, 1)
        super().add(callback)

    def remove(self, callback: Callable[[int], None]) -> None:
        super().remove(callback)
        if not self._callbacks and _queues.pop(self.source_id, None) is not None:
            self._watch(self._nc, 0)


def new_twin(kind: int, flags: int, nc_object: Any = ffi.NULL) -> Any:
    """The C side of a file; freed with the handle. It keeps its own reference to the C object."""
    return ffi.gc(lib.nc_file_new(kind, flags, nc_object), lib.nc_file_free)


def twin(file: File) -> Any:
    """The file's C twin, made at its first use for files that live in Python."""
    if file.nc is None:
        kind, nc_object = file.hot() or (lib.NC_PY, ffi.NULL)
        file.nc = new_twin(kind, file.flags, nc_object)
        if file.only_a_place and file.path is not None and file.path.dentry.nc is not None:
            lib.nc_file_set_place(file.nc, file.path.mount.twin(), file.path.dentry.nc)
    return file.nc


def file_id(file: File) -> int:
    return lib.nc_file_id(twin(file))


def hold(file: File) -> None:
    """One reference more."""
    enter(file)
    lib.nc_file_get(file.nc)


def enter(file: File) -> None:
    """It is referenced."""
    FILES[lib.nc_file_id(twin(file))] = file


def unhold(file: File) -> None:
    """Give back a reference taken with `hold`; the last one releases the file at the next `drain`."""
    lib.nc_file_put(file.nc)


def release_unused(file: File) -> None:
    """A file that was opened and then got no descriptor: as if it had been closed."""
    if file.nc is None or not lib.nc_file_refs(file.nc):
        hold(file)
        unhold(file)
        drain()


def at_release(file: File, callback: Callable[[File], None]) -> None:
    """Call `callback(file)` once, after the last reference has gone."""
    _at_release.setdefault(file_id(file), []).append(callback)
    lib.nc_file_set_prompt(file.nc)


def forget_at_release(file: File, callback: Callable[[File], None]) -> None:
    callbacks = _at_release.get(file_id(file))
    if callbacks and callback in callbacks:
        callbacks.remove(callback)
        if not callbacks:
            del _at_release[file_id(file)]


def set_status_flags(file: File, flags: int) -> None:
    """fcntl(F_SETFL) for a file of any kind: the object and what C answers F_GETFL with."""
    file.set_flags(flags)
    lib.nc_file_set_flags(twin(file), file.flags)


def drain() -> None:
    """Tell Python's side what happened in C: wake those who wait for C objects, release files."""
    while True:
        ready = lib.nc_ready_take(_ready, _BATCH)
        for i in range(ready):
            queue = _queues.get(_ready[i].id)
            if queue is not None:
                queue.wake(_ready[i].mask)
        released = lib.nc_released_take(_released, _BATCH)
        for i in range(released):
            _release(_released[i])
        if not ready and not released:
            return


def _release(identity: int) -> None:
    file = FILES.get(identity)
    if file is None or lib.nc_file_refs(file.nc):
        return
    del FILES[identity]
    if notify.watching and not file.flags & O_PATH:
        notify.file_event(file, IN_CLOSE_WRITE if file.writable else IN_CLOSE_NOWRITE)
    for callback in _at_release.pop(identity, ()):
        callback(file)
    file.release()


def statistics() -> dict[str, int]:
    """For leak checks: files that are open, queues that are watched."""
    return {"files": len(FILES), "watched": len(_queues), "hooks": len(_at_release)}


class FdTable:
    """A process's descriptors (Linux: files_struct). `users` tasks share it; the last `drop` closes all."""

    __slots__ = ("__weakref__", "lent", "minded", "nc", "noted", "users")

    def __init__(self, limit: int = 1024, nc: Any = None) -> None:
        self.nc = ffi.gc(lib.nc_fdt_new(min(limit, 1 << 30)) if nc is None else nc, lib.nc_fdt_free)
        self.users = 1
        self.lent: set[int] = set()  # numbers of the host table, to calls under way
        self.minded: set[Inode] = set()  # those to which it matters that this table closes a descriptor of theirs
        self.noted: dict[File, Any] = {}  # directories that it is told of by signals (fs/dnotify.py)

    # --- looking up

    def get(self, fd: int) -> File:
        """The file at `fd`, O_PATH descriptions included; EBADF."""
        identity = _lookup(self.nc, fd, 1)
        if identity < 0:
            raise EBADF
        file = FILES.get(identity)
        if file is None:
            from sentry.fs.lazyfile import take_up  # which builds on this module

            file = take_up(lib.nc_fdt_file(self.nc, fd))
        return file

    def items(self) -> Iterator[tuple[int, File]]:
        """(descriptor, file), ascending. The table may change meanwhile."""
        fd = lib.nc_fdt_next(self.nc, 0)
        while fd >= 0:
            yield fd, self.get(fd)
            fd = lib.nc_fdt_next(self.nc, fd + 1)

    def __len__(self) -> int:
        return lib.nc_fdt_count(self.nc)

    @property
    def size(self) -> int:
        """Numbers there are places for (Linux: max_fds)."""
        return max(_FIRST_SIZE, lib.nc_fdt_size(self.nc))

    def next_open(self, fd: int) -> int:
        """The lowest descriptor from `fd` on; -1 if there is none."""
        return lib.nc_fdt_next(self.nc, fd)

    def get_cloexec(self, fd: int) -> bool:
        value = lib.nc_fdt_cloexec(self.nc, fd, -1)
        if value < 0:
            raise EBADF
        return bool(value)

    def set_cloexec(self, fd: int, on: bool) -> None:
        if lib.nc_fdt_cloexec(self.nc, fd, int(on)) < 0:
            raise EBADF

    def check_room(self) -> None:
        """EMFILE where `install` would give it: for calls that must not have made anything by then."""
        if lib.nc_fdt_room(self.nc) < 0:
            raise EMFILE

    # --- putting in, taking out

    def install(self, file: File, cloexec: bool = False, lowest: int = 0) -> int:
        """The lowest free descriptor from `lowest` on; if there is none, an unreferenced file is released."""
        nc = file.nc
        if nc is None:
            nc = twin(file)
        fd = lib.nc_fdt_install(self.nc, nc, cloexec, lowest)
        if fd < 0:
            release_unused(file)
            raise EINVAL if fd == -EINVAL.errno else EMFILE if fd == -EMFILE.errno else from_errno(-fd)
        FILES[lib.nc_file_id(nc)] = file
        return fd

    def install_at(self, fd: int, file: File, cloexec: bool = False) -> int:
        """dup2(2): `fd` becomes `file`; what was open there is closed."""
        self._flush(fd)
        done = lib.nc_fdt_install_at(self.nc, fd, twin(file), cloexec)
        if done < 0:
            release_unused(file)
            raise from_errno(-done)
        FILES[lib.nc_file_id(file.nc)] = file
        return done

    def close(self, fd: int) -> bool:
        """close(2). True: the guest's host table has a descriptor of ours there: the host should close it."""
        self._flush(fd)
        done = lib.nc_fdt_close(self.nc, fd)
        if done < 0:
            raise EBADF
        return done == 1

    def mind(self, inode: Inode) -> None:
        """Call `inode.flushed(self)` when the next descriptor of it is closed, or all are."""
        self.minded.add(inode)
        self.mind_closes()

    def mind_closes(self) -> None:
        """Have C leave closes to us while somebody minds (filp_flush)."""
        lib.nc_fdt_set_locks(self.nc, bool(self.minded or self.noted))

    def _flush(self, fd: int) -> None:
        if (not self.minded and not self.noted) or lib.nc_fdt_lookup(self.nc, fd, 0) < 0:
            return  # O_PATH: nothing is flushed
        file = self.get(fd)
        self._flush_inode(file.inode)
        if watch := self.noted.get(file):
            watch.drop()

    def _flush_inode(self, inode: Inode) -> None:
        if inode in self.minded:
            self.minded.discard(inode)
            self.mind_closes()
            inode.flushed(self)

    # --- life

    def share(self) -> FdTable:
        """One more task uses the table (CLONE_FILES)."""
        self.users += 1
        return self

    def crowd(self) -> None:
        """Threads that nobody has met may use it too (kernel/threads.py)."""
        lib.nc_fdt_crowd(self.nc)

    def fork(self) -> FdTable:
        """A copy, as fork(2) and unshare(CLONE_FILES) make it. POSIX locks are not inherited."""
        return FdTable(nc=lib.nc_fdt_fork(self.nc))

    def close_on_exec(self) -> None:
        """execve(2) of the only user (a sharer gets a `fork` first): close what is marked."""
        if self.minded or self.noted:
            for fd, _ in list(self.items()):
                if self.get_cloexec(fd):
                    self._flush(fd)
        lib.nc_fdt_exec(self.nc)
        drain()

    def drop(self) -> None:
        """A task stops using the table; the last one closes everything."""
        self.users -= 1
        if self.users:
            return
        for inode in list(self.minded):
            self._flush_inode(inode)
        for watch in list(self.noted.values()):
            watch.drop()
        lib.nc_fdt_clear(self.nc)
        drain()

    # --- limits, and what the guest's host table holds

    def set_limits(self, nofile: int, fsize_is_finite: bool) -> None:
        """RLIMIT_NOFILE (soft); whether RLIMIT_FSIZE is set, so that Python must see every write."""
        lib.nc_fdt_set_limit(self.nc, min(nofile, 1 << 30))
        lib.nc_fdt_set_fsize(self.nc, fsize_is_finite)

    @property
    def stub_fd(self) -> int:
        """Where the guest's host table holds the loader stub."""
        return lib.nc_fdt_stub(self.nc)

    @stub_fd.setter
    def stub_fd(self, fd: int) -> None:
        lib.nc_fdt_set_stub(self.nc, fd)

    def uninject(self, call_id: int, fd: int) -> bool:
        """In a close(2) that gave True: whether the host need not close its copy any more."""
        return bool(lib.nc_fdt_uninject(self.nc, call_id, fd))

    def lend(self, numbers: range = HOST_NUMBERS) -> int:
        """One of `numbers` with nothing there in the host table, for a descriptor of ours that is injected for one
        call. To be given back when the call is over; what was injected may stay. ENOMEM when none is free."""
        number = numbers.stop
        while (number := lib.nc_fdt_spare(self.nc, number)) >= numbers.start:
            if number not in self.lent:
                self.lent.add(number)
                return number
        raise ENOMEM("no number of the host table is free")

    def give_back(self, number: int) -> None:
        self.lent.discard(number)

    def inject(self, call_id: int, fd: int, host_fd: int) -> None:
        """For a blocked mmap(2) of guest descriptor `fd`: put `host_fd` at that number of its host table."""
        error = lib.nc_fdt_inject(self.nc, call_id, host_fd, fd)
        if error < 0:
            raise from_errno(-error)
