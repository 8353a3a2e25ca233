"""Facts of the Linux ABI: constants (linux.py), and what depends on the architecture (x86_64.py)."""
