"""From the spec to what sentry and gofer are started with: names, networks, mounts, places."""

import os

import pytest

from runsc_py import build, spec


def linux(**namespaces):
    return spec.Linux(namespaces=[spec.Namespace(type=kind, path=path) for kind, path in namespaces.items()])


@pytest.mark.parametrize(
    ("given", "namespaces", "found"),
    [
        ("named", {"uts": ""}, ("named", "")),
        ("", {"uts": "/proc/1/ns/uts"}, ("", "/proc/1/ns/uts")),
        ("", {}, (os.uname().nodename, "")),
    ],
)
def test_host_name(given, namespaces, found):
    assert build.hostname(spec.Spec(hostname=given, linux=linux(**namespaces))) == found


def planned(tmp_path, *mounts, readonly=True, cwd="/"):
    config = spec.Spec(
        root=spec.Root(path=str(tmp_path), readonly=readonly),
        mounts=[spec.Mount(**mount) for mount in mounts],
        process=spec.Process(cwd=cwd),
    )
    return build.plan(config, str(tmp_path), exclusive_root=True)


def test_mounts_by_the_sentrys_names(tmp_path):
    made = planned(
        tmp_path,
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
        {"destination": "/run", "type": "tmpfs", "source": "mine", "options": ["tmpcopyup", "size=1m", "nodev"]},
        {"destination": "/mnt", "type": "bind", "source": str(tmp_path), "options": ["rbind"]},
    )
    assert [(m.destination, m.fstype, m.source, m.data, m.copy_up) for m in made.mounts] == [
        (b"/dev", "dev", b"tmpfs", b"", False),
        (b"/sys/fs/cgroup", "cgroup2", b"cgroup", b"", False),
        (b"/run", "tmpfs", b"mine", b"size=1m", True),
        (b"/mnt", "gofer", b"none", b"", False),
    ]


def test_places_of_a_read_only_root(tmp_path):
    run = {"destination": "/run", "type": "tmpfs"}
    file = {"destination": "/etc/hosts", "type": "bind", "source": __file__, "options": ["bind"]}
    places = planned(tmp_path, run, file, cwd="/srv/app/").exports[0].mount_points
    assert places == ((b"/run", True), (b"/etc/hosts", False), (b"/srv/app", True))
    assert planned(tmp_path, run, cwd="/run/below").exports[0].mount_points == ((b"/run", True),)
    assert planned(tmp_path, run, readonly=False).exports[0].mount_points == ()
