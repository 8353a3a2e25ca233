"""The path memo: whole path names that were resolved from the cache alone, so that a second stat costs one
lookup.

An entry holds for one root, working directory and set of credentials. It is true while `generation` has not
moved (no directory, link or mount on any path changed) and the final dentry's `seq` has not (the name did
not move or die). Only walks through file systems of cache policy ALWAYS are entered.
"""

from __future__ import annotations


def forget_all() -> None:
    """Drop all entries."""
