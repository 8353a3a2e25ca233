"""The command line of runsc-py: an OCI runtime whose kernel is written in Python."""

VERSION = "0.1.0"
SPEC_VERSION = "1.2.0"
