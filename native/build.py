"""Builds `native._core`, the cffi module of the C core, and the in-guest loader stub embedded in it.

Run by setuptools (`cffi_modules` in pyproject.toml) or by hand: `python native/build.py`.
"""

import subprocess
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
# An address no program of ours or of a guest's linker uses: position-independent programs are mapped near
# 0x5555…, libraries and stacks near 0x7f….
STUB_ADDRESS = 0x600000000000


def build_stub() -> None:
    """Compile src/stub.c into a static ELF and write it as a C array to build/stub_image.h."""
    out = HERE / "build"
    out.mkdir(exist_ok=True)
    elf = out / "stub"
    subprocess.run(
        ["gcc", "-Os", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pic", "-no-pie",
         "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-mcmodel=large", *WARNINGS,
         f"-Wl,-Ttext-segment={STUB_ADDRESS:#x}", "-Wl,--build-id=none", "-Wl,-z,noseparate-code",
         "-Wl,-z,noexecstack", "-s", "-I", str(HERE / "include"), "-o", str(elf), str(HERE / "src" / "stub.c")],
        check=True,
    )  # fmt: skip
    image = elf.read_bytes()
    rows = ",\n".join(",".join(str(byte) for byte in image[i : i + 24]) for i in range(0, len(image), 24))
    header = f"static const unsigned char nc_stub_image[{len(image)}] = {{\n{rows}}};\n"
    target = out / "stub_image.h"
    if not target.exists() or target.read_text() != header:
        target.write_text(header)


build_stub()
ffibuilder = FFI()
_api = (HERE / "include" / "api.h").read_text()
ffibuilder.cdef(_api)
_sources = sorted(str(path.relative_to(HERE.parent)) for path in (HERE / "src").glob("*.c") if path.name != "stub.c")
ffibuilder.set_source(
    "native._core",
    '#include "core.h"\n',
    sources=_sources,
    include_dirs=[str(HERE / "include"), str(HERE / "build")],
    extra_compile_args=["-O2", "-g", "-std=gnu11", "-D_GNU_SOURCE", *WARNINGS],
    libraries=["pthread", "rt"],
)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=str(HERE.parent), verbose=False)
