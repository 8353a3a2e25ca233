"""`features`: what this runtime supports, as the runtime-spec's features.md has it."""

import click


@click.command(short_help="show the enabled features")
def command() -> None:
    """Print the features of this runtime as JSON."""
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
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
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
    click.echo(json.dumps(features, indent=2))
