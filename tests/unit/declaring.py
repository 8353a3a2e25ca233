"""A task without a kernel, for tests of declarations, decoders and traces."""

from sentry.errors import EBADF, EFAULT, ENAMETOOLONG


class FakeFile:
    def __init__(self, flags=0):
        self.flags = flags


class FakeFds(dict):
    def get(self, fd):
        try:
            return self[fd]
        except KeyError:
            raise EBADF


class FakeMemory:
    """Memory that holds a few byte strings at given addresses."""

    def __init__(self, contents):
        self.contents = contents

    def read(self, addr, size):
        for start, data in self.contents.items():
            if start <= addr and addr + size <= start + len(data):
                return data[addr - start : addr - start + size]
        raise EFAULT

    def read_u64(self, addr):
        return int.from_bytes(self.read(addr, 8), "little")

    def read_cstr(self, addr, limit):
        for start, data in self.contents.items():
            if start <= addr < start + len(data):
                text, nul, _ = data[addr - start :].partition(b"\0")
                if not nul:
                    raise EFAULT
                if len(text) >= limit:
                    raise ENAMETOOLONG
                return text
        raise EFAULT


class FakeTask:
    def __init__(self, contents=None, files=None):
        self.mem = FakeMemory(contents or {})
        self.fds = FakeFds(files or {})
