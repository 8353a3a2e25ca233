"""A container image of a root file system, as the clients import it without a registry: a docker-archive."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from tests import sandboxes


def archive(root: Path, name: str, command: list[str]) -> bytes:
    """One layer: the root as it is."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(root, arcname=".")
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [f"PATH={sandboxes.PATH}"], "Cmd": command},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    image = io.BytesIO()
    parts = [("layer.tar", layer.getvalue()), ("config.json", json.dumps(config).encode())]
    with tarfile.open(fileobj=image, mode="w") as tar:
        for file, data in [*parts, ("manifest.json", json.dumps(manifest).encode())]:
            entry = tarfile.TarInfo(file)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return image.getvalue()
