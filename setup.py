# The one thing pyproject.toml can't say: the C core is a cffi module built by native/build.py.
# RUNSC_PY_NO_CORE=1 leaves it out (`make native` builds it in place, and again when its sources change).
import os
import pathlib

from setuptools import setup

WITH_CORE = not os.environ.get("RUNSC_PY_NO_CORE") and (pathlib.Path(__file__).parent / "native" / "build.py").exists()

setup(cffi_modules=["native/build.py:ffibuilder"] if WITH_CORE else [])
