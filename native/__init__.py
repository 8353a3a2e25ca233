"""The native core: C behind one cffi module. `lib` holds the functions of include/api.h, `ffi` their types."""

from native._core import ffi, lib

__all__ = ["ffi", "lib"]
