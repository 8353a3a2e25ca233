"""`features`: what this runtime supports, as the runtime-spec's features.md has it."""

from typing import TYPE_CHECKING

from runsc_py.command import Verb

if TYPE_CHECKING:
    from runsc_py.cli import Invocation


def run(invocation: "Invocation") -> None:
    import json

    from runsc_py import VERSION, options

    features = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": options.MOUNT_OPTIONS,
        "linux": {
            "namespaces": ["ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": [f"CAP_{name}" for name in options.CAPABILITIES],
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": {"enabled": False},
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": False}},
        },
        "annotations": {
            "org.opencontainers.runsc-py.checkpoint.enabled": "false",
            "org.opencontainers.runsc-py.version": VERSION,
        },
    }
    print(json.dumps(features, indent=2))


VERB = Verb("show the enabled features", [], (), run)
