"""Compile the seccomp rules of the sentry and the gofer beforehand: writes native/_filters.py. Run by `make native`."""

from pathlib import Path

import gofer.confine
import sentry.confine
from native import filters

RULES = [sentry.confine.RULES, gofer.confine.rules(connects=False), gofer.confine.rules(connects=True)]

programs = {rules: filters.compile_now(rules) for rules in RULES}
text = f'"""Made by scripts/build_filters.py: BPF programs by the rules they stand for."""\n\nPROGRAMS = {programs!r}\n'
Path(filters.__file__).with_name("_filters.py").write_text(text)
