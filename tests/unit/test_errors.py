"""sentry/errors.py: the classes agree with the host's errno table."""

import errno

import pytest

from sentry import errors
from sentry.errors import EAGAIN, EIO, ENOENT, Interrupted, LinuxError, errno_name, from_errno, from_host


def test_every_errno_of_the_host_has_its_class():
    for name, number in vars(errno).items():
        if name.startswith("E") and number <= 133:
            assert getattr(errors, name).errno == number, name


def test_aliases_are_the_same_class():
    assert errors.EWOULDBLOCK is EAGAIN
    assert errors.ENOTSUP is errors.EOPNOTSUPP


def test_from_errno_and_from_host_give_the_class():
    assert type(from_errno(2)) is ENOENT
    assert type(from_host(OSError(errno.EAGAIN, "x"))) is EAGAIN
    assert type(from_errno(4711)) is EIO
    assert type(from_host(OSError("no number"))) is EIO


def test_the_guest_sees_no_host_path():
    assert "/secret" not in str(from_host(FileNotFoundError(2, "No such file", "/secret")))


def test_text_is_for_the_log():
    assert str(ENOENT()) == "ENOENT (No such file or directory)"
    assert str(ENOENT("no such mount")) == "ENOENT (No such file or directory): no such mount"
    assert errno_name(2) == "ENOENT"
    assert errno_name(4711) == "E4711"


def test_interrupted_passes_except_exception():
    assert not issubclass(Interrupted, Exception)
    with pytest.raises(Interrupted):
        try:
            raise Interrupted
        except LinuxError:
            pass
