"""Where the data of memory-backed regular files lives: host files nobody else can name.

``Store(dirfd)`` keeps numbered files in a directory of the sentry's own private tmpfs; a number can be
opened again, so an idle file costs no descriptor. ``Store(None)`` makes memfds, which live as long as their
descriptor does.
"""

from __future__ import annotations

import os

from sentry.errors import EMFILE, ENFILE, LinuxError, from_host
from sentry.fs.keptopen import kept_open


class Store:
    """Makes, opens and removes host files. Methods raise LinuxError for what the host refuses (ENOSPC), and ENFILE when
    guests have too many open (`KeptOpen.admit`).
    """

    __slots__ = ("_dirfd", "_next", "_noexec_dirfd")

    def __init__(self, dirfd: int | None, noexec_dirfd: int = -1) -> None:
        self._dirfd = dirfd
        self._noexec_dirfd = noexec_dirfd  # the same directory by a noexec mount; -1: there is none
        self._next = 0

    @property
    def reopens(self) -> bool:
        """A file can be closed and opened again by its number."""
        return self._dirfd is not None

    def create(self, name: str = "file") -> tuple[int, int]:
        """A new empty file: (number, read-write host descriptor)."""
        self._next += 1
        number = self._next
        try:
            if self._dirfd is None:
                host_fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            else:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                host_fd = os.open(b"%d" % number, flags, 0o600, dir_fd=self._dirfd)
        except OSError as error:
            raise _refusal(error)
        try:
            return number, kept_open.admit(host_fd)
        except ENFILE:
            self.remove(number)
            raise

    def reopen(self, number: int, write: bool, host_fd: int = -1) -> int:
        """One more descriptor of file `number`; for a memfd, of the one behind `host_fd`."""
        flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC
        try:
            if self._dirfd is not None:
                again = os.open(b"%d" % number, flags, dir_fd=self._dirfd)
            else:
                try:
                    again = os.open(f"/proc/self/fd/{host_fd}", flags)
                except FileNotFoundError:  # no proc: the file stays writable through a shared mapping
                    again = os.dup(host_fd)
        except OSError as error:
            raise _refusal(error)
        return kept_open.admit(again)

    def reopen_noexec(self, number: int, write: bool) -> int:
        """A descriptor of file `number` whose mappings can't be made executable; -1 where there is none."""
        if self._noexec_dirfd < 0:
            return -1
        flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC
        try:
            return os.open(b"%d" % number, flags, dir_fd=self._noexec_dirfd)
        except OSError as error:
            raise from_host(error)

    def stat(self, number: int) -> os.stat_result:
        """stat(2) of a file that is not open."""
        try:
            return os.stat(b"%d" % number, dir_fd=self._dirfd, follow_symlinks=False)
        except OSError as error:
            raise from_host(error)

    def set_times(self, number: int, atime_ns: int, mtime_ns: int) -> None:
        """utimensat(2) of a file that is not open."""
        try:
            os.utime(b"%d" % number, ns=(atime_ns, mtime_ns), dir_fd=self._dirfd, follow_symlinks=False)
        except OSError as error:
            raise from_host(error)

    def remove(self, number: int) -> None:
        """The last name and the last open description are gone. Never raises: it runs from __del__."""
        if self._dirfd is not None:
            try:
                os.unlink(b"%d" % number, dir_fd=self._dirfd)
            except OSError:
                pass

    def space(self) -> tuple[int, int]:
        """(total, free) bytes of the host file system below; a guess for memfds."""
        if self._dirfd is None:
            pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
            return pages, pages
        stat = os.fstatvfs(self._dirfd)
        return stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize


def _refusal(error: OSError) -> LinuxError:
    """What the guest gets for an open(2) that the host refused."""
    return ENFILE() if error.errno == EMFILE.errno else from_host(error)
