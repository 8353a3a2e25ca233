"""Errors the guest sees, one class per errno: ``raise ENOENT`` or ``raise EINVAL("why, for the log")``.

A handler raises one of these and the dispatcher answers the call with ``-errno``. Host errors (``OSError``)
never reach a handler: who makes a host call on a guest's behalf turns the error over with :func:`from_host`.
Raise classes, not shared instances: an instance that is raised twice keeps its first traceback alive.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing typing costs milliseconds at start-up
if TYPE_CHECKING:
    from typing import ClassVar


class LinuxError(Exception):
    """A call fails with ``errno``. The optional argument is a sentence for the log, never for the guest."""

    errno: ClassVar[int] = 5

    @property
    def name(self) -> str:
        """The C name, as strace prints it."""
        return type(self).__name__

    @property
    def strerror(self) -> str:
        return os.strerror(self.errno)

    def __str__(self) -> str:
        why = f": {self.args[0]}" if self.args else ""
        return f"{self.name} ({self.strerror}){why}"


class Interrupted(BaseException):
    """Thrown into a waiting coroutine when its task must leave the wait: a signal, a stop or its death.

    Let it pass (after partial progress: return the partial result instead). The dispatcher turns it into the
    restart class which the call declares. A BaseException, so that no ``except Exception`` swallows a signal.
    """


class EPERM(LinuxError):
    errno = 1  # Operation not permitted


class ENOENT(LinuxError):
    errno = 2  # No such file or directory


class ESRCH(LinuxError):
    errno = 3  # No such process


class EINTR(LinuxError):
    errno = 4  # Interrupted system call


class EIO(LinuxError):
    errno = 5  # Input/output error


class ENXIO(LinuxError):
    errno = 6  # No such device or address


class E2BIG(LinuxError):
    errno = 7  # Argument list too long


class ENOEXEC(LinuxError):
    errno = 8  # Exec format error


class EBADF(LinuxError):
    errno = 9  # Bad file descriptor


class ECHILD(LinuxError):
    errno = 10  # No child processes


class EAGAIN(LinuxError):
    errno = 11  # Resource temporarily unavailable


class ENOMEM(LinuxError):
    errno = 12  # Cannot allocate memory


class EACCES(LinuxError):
    errno = 13  # Permission denied


class EFAULT(LinuxError):
    errno = 14  # Bad address


class ENOTBLK(LinuxError):
    errno = 15  # Block device required


class EBUSY(LinuxError):
    errno = 16  # Device or resource busy


class EEXIST(LinuxError):
    errno = 17  # File exists


class EXDEV(LinuxError):
    errno = 18  # Invalid cross-device link


class ENODEV(LinuxError):
    errno = 19  # No such device


class ENOTDIR(LinuxError):
    errno = 20  # Not a directory


class EISDIR(LinuxError):
    errno = 21  # Is a directory


class EINVAL(LinuxError):
    errno = 22  # Invalid argument


class ENFILE(LinuxError):
    errno = 23  # Too many open files in system


class EMFILE(LinuxError):
    errno = 24  # Too many open files


class ENOTTY(LinuxError):
    errno = 25  # Inappropriate ioctl for device


class ETXTBSY(LinuxError):
    errno = 26  # Text file busy


class EFBIG(LinuxError):
    errno = 27  # File too large


class ENOSPC(LinuxError):
    errno = 28  # No space left on device


class ESPIPE(LinuxError):
    errno = 29  # Illegal seek


class EROFS(LinuxError):
    errno = 30  # Read-only file system


class EMLINK(LinuxError):
    errno = 31  # Too many links


class EPIPE(LinuxError):
    errno = 32  # Broken pipe


class EDOM(LinuxError):
    errno = 33  # Numerical argument out of domain


class ERANGE(LinuxError):
    errno = 34  # Numerical result out of range


class EDEADLK(LinuxError):
    errno = 35  # Resource deadlock avoided


class ENAMETOOLONG(LinuxError):
    errno = 36  # File name too long


class ENOLCK(LinuxError):
    errno = 37  # No locks available


class ENOSYS(LinuxError):
    errno = 38  # Function not implemented


class ENOTEMPTY(LinuxError):
    errno = 39  # Directory not empty


class ELOOP(LinuxError):
    errno = 40  # Too many levels of symbolic links


class ENOMSG(LinuxError):
    errno = 42  # No message of desired type


class EIDRM(LinuxError):
    errno = 43  # Identifier removed


class ECHRNG(LinuxError):
    errno = 44  # Channel number out of range


class EL2NSYNC(LinuxError):
    errno = 45  # Level 2 not synchronized


class EL3HLT(LinuxError):
    errno = 46  # Level 3 halted


class EL3RST(LinuxError):
    errno = 47  # Level 3 reset


class ELNRNG(LinuxError):
    errno = 48  # Link number out of range


class EUNATCH(LinuxError):
    errno = 49  # Protocol driver not attached


class ENOCSI(LinuxError):
    errno = 50  # No CSI structure available


class EL2HLT(LinuxError):
    errno = 51  # Level 2 halted


class EBADE(LinuxError):
    errno = 52  # Invalid exchange


class EBADR(LinuxError):
    errno = 53  # Invalid request descriptor


class EXFULL(LinuxError):
    errno = 54  # Exchange full


class ENOANO(LinuxError):
    errno = 55  # No anode


class EBADRQC(LinuxError):
    errno = 56  # Invalid request code


class EBADSLT(LinuxError):
    errno = 57  # Invalid slot


class EBFONT(LinuxError):
    errno = 59  # Bad font file format


class ENOSTR(LinuxError):
    errno = 60  # Device not a stream


class ENODATA(LinuxError):
    errno = 61  # No data available


class ETIME(LinuxError):
    errno = 62  # Timer expired


class ENOSR(LinuxError):
    errno = 63  # Out of streams resources


class ENONET(LinuxError):
    errno = 64  # Machine is not on the network


class ENOPKG(LinuxError):
    errno = 65  # Package not installed


class EREMOTE(LinuxError):
    errno = 66  # Object is remote


class ENOLINK(LinuxError):
    errno = 67  # Link has been severed


class EADV(LinuxError):
    errno = 68  # Advertise error


class ESRMNT(LinuxError):
    errno = 69  # Srmount error


class ECOMM(LinuxError):
    errno = 70  # Communication error on send


class EPROTO(LinuxError):
    errno = 71  # Protocol error


class EMULTIHOP(LinuxError):
    errno = 72  # Multihop attempted


class EDOTDOT(LinuxError):
    errno = 73  # RFS specific error


class EBADMSG(LinuxError):
    errno = 74  # Bad message


class EOVERFLOW(LinuxError):
    errno = 75  # Value too large for defined data type


class ENOTUNIQ(LinuxError):
    errno = 76  # Name not unique on network


class EBADFD(LinuxError):
    errno = 77  # File descriptor in bad state


class EREMCHG(LinuxError):
    errno = 78  # Remote address changed


class ELIBACC(LinuxError):
    errno = 79  # Can not access a needed shared library


class ELIBBAD(LinuxError):
    errno = 80  # Accessing a corrupted shared library


class ELIBSCN(LinuxError):
    errno = 81  # .lib section in a.out corrupted


class ELIBMAX(LinuxError):
    errno = 82  # Attempting to link in too many shared libraries


class ELIBEXEC(LinuxError):
    errno = 83  # Cannot exec a shared library directly


class EILSEQ(LinuxError):
    errno = 84  # Invalid or incomplete multibyte or wide character


class ERESTART(LinuxError):
    errno = 85  # Interrupted system call should be restarted


class ESTRPIPE(LinuxError):
    errno = 86  # Streams pipe error


class EUSERS(LinuxError):
    errno = 87  # Too many users


class ENOTSOCK(LinuxError):
    errno = 88  # Socket operation on non-socket


class EDESTADDRREQ(LinuxError):
    errno = 89  # Destination address required


class EMSGSIZE(LinuxError):
    errno = 90  # Message too long


class EPROTOTYPE(LinuxError):
    errno = 91  # Protocol wrong type for socket


class ENOPROTOOPT(LinuxError):
    errno = 92  # Protocol not available


class EPROTONOSUPPORT(LinuxError):
    errno = 93  # Protocol not supported


class ESOCKTNOSUPPORT(LinuxError):
    errno = 94  # Socket type not supported


class EOPNOTSUPP(LinuxError):
    errno = 95  # Operation not supported


class EPFNOSUPPORT(LinuxError):
    errno = 96  # Protocol family not supported


class EAFNOSUPPORT(LinuxError):
    errno = 97  # Address family not supported by protocol


class EADDRINUSE(LinuxError):
    errno = 98  # Address already in use


class EADDRNOTAVAIL(LinuxError):
    errno = 99  # Cannot assign requested address


class ENETDOWN(LinuxError):
    errno = 100  # Network is down


class ENETUNREACH(LinuxError):
    errno = 101  # Network is unreachable


class ENETRESET(LinuxError):
    errno = 102  # Network dropped connection on reset


class ECONNABORTED(LinuxError):
    errno = 103  # Software caused connection abort


class ECONNRESET(LinuxError):
    errno = 104  # Connection reset by peer


class ENOBUFS(LinuxError):
    errno = 105  # No buffer space available


class EISCONN(LinuxError):
    errno = 106  # Transport endpoint is already connected


class ENOTCONN(LinuxError):
    errno = 107  # Transport endpoint is not connected


class ESHUTDOWN(LinuxError):
    errno = 108  # Cannot send after transport endpoint shutdown


class ETOOMANYREFS(LinuxError):
    errno = 109  # Too many references: cannot splice


class ETIMEDOUT(LinuxError):
    errno = 110  # Connection timed out


class ECONNREFUSED(LinuxError):
    errno = 111  # Connection refused


class EHOSTDOWN(LinuxError):
    errno = 112  # Host is down


class EHOSTUNREACH(LinuxError):
    errno = 113  # No route to host


class EALREADY(LinuxError):
    errno = 114  # Operation already in progress


class EINPROGRESS(LinuxError):
    errno = 115  # Operation now in progress


class ESTALE(LinuxError):
    errno = 116  # Stale file handle


class EUCLEAN(LinuxError):
    errno = 117  # Structure needs cleaning


class ENOTNAM(LinuxError):
    errno = 118  # Not a XENIX named type file


class ENAVAIL(LinuxError):
    errno = 119  # No XENIX semaphores available


class EISNAM(LinuxError):
    errno = 120  # Is a named type file


class EREMOTEIO(LinuxError):
    errno = 121  # Remote I/O error


class EDQUOT(LinuxError):
    errno = 122  # Disk quota exceeded


class ENOMEDIUM(LinuxError):
    errno = 123  # No medium found


class EMEDIUMTYPE(LinuxError):
    errno = 124  # Wrong medium type


class ECANCELED(LinuxError):
    errno = 125  # Operation canceled


class ENOKEY(LinuxError):
    errno = 126  # Required key not available


class EKEYEXPIRED(LinuxError):
    errno = 127  # Key has expired


class EKEYREVOKED(LinuxError):
    errno = 128  # Key has been revoked


class EKEYREJECTED(LinuxError):
    errno = 129  # Key was rejected by service


class EOWNERDEAD(LinuxError):
    errno = 130  # Owner died


class ENOTRECOVERABLE(LinuxError):
    errno = 131  # State not recoverable


class ERFKILL(LinuxError):
    errno = 132  # Operation not possible due to RF-kill


EDEADLOCK = EDEADLK
ENOTSUP = EOPNOTSUPP
EWOULDBLOCK = EAGAIN


_BY_NUMBER: dict[int, type[LinuxError]] = {cls.errno: cls for cls in LinuxError.__subclasses__()}


def from_errno(number: int) -> LinuxError:
    """The error for a positive errno; a number Linux does not have is our own fault and gives EIO."""
    cls = _BY_NUMBER.get(number)
    return cls() if cls is not None else EIO(f"errno {number}")


def from_host(error: OSError) -> LinuxError:
    """What the guest sees of a failed host call. Only the number crosses, never a host path in the error."""
    return from_errno(error.errno or EIO.errno)


def errno_name(number: int) -> str:
    """``2`` -> ``"ENOENT"``."""
    cls = _BY_NUMBER.get(number)
    return cls.__name__ if cls is not None else f"E{number}"
