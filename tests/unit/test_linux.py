"""sentry/abi/linux.py: constants agree with those of the host's Python, where it has them."""

import errno
import fcntl
import mmap
import os
import select
import signal
import socket
import stat
import termios

from sentry.abi import linux

# What libc defines otherwise than the kernel.
LIBC_DIFFERS = {"O_LARGEFILE", "SIGRTMIN", "NCCS"}


def test_constants_agree_with_the_host():
    compared = 0
    for module in (os, signal, socket, select, fcntl, mmap, stat, termios):
        for name, value in vars(module).items():
            if name.isupper() and isinstance(value, int) and name not in LIBC_DIFFERS:
                if hasattr(linux, name):
                    # Some are signed in one place and unsigned in the other.
                    assert getattr(linux, name) & 0xFFFFFFFF == int(value) & 0xFFFFFFFF, name
                    compared += 1
    assert compared > 400


def test_constants_are_plain():
    for name, value in vars(linux).items():
        if name.isupper():
            assert type(value) in (int, bytes), name


def test_restart_errors_are_not_errnos():
    assert linux.ERESTARTSYS not in errno.errorcode
    assert (linux.ERESTARTSYS, linux.ERESTARTNOINTR, linux.ERESTARTNOHAND) == (512, 513, 514)
