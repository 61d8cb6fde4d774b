#!/usr/bin/env python3
"""Packs directories, one for each architecture, into one OCI image archive that `ctr images import`, `podman load`,
`skopeo copy oci-archive:` and Docker read. Same content, same bytes.

archive.py OUTPUT NAME:TAG ARCH=DIRECTORY..."""

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def layer(directory):
    """The directory as a tar: everything owned by root, in order, at the beginning of time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for base, directories, files in os.walk(directory):
            directories.sort()
            links = [name for name in directories if os.path.islink(os.path.join(base, name))]
            if base != directory:
                add(tar, directory, base)
            for name in sorted(files + links):
                add(tar, directory, os.path.join(base, name))
    return buffer.getvalue()


def add(tar, directory, path):
    entry = tar.gettarinfo(path, arcname=os.path.relpath(path, directory))
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    if entry.isreg():
        with open(path, "rb") as content:
            tar.addfile(entry, content)
    else:
        tar.addfile(entry)


def main():
    output, name, *directories = sys.argv[1:]
    blobs, manifests = {}, []

    def blob(media_type, content, **more):
        blobs[digest(content)] = content
        return {"mediaType": media_type, "digest": digest(content), "size": len(content), **more}

    def document(media_type, value, **more):
        return blob(media_type, json.dumps(value, sort_keys=True).encode(), **more)

    for architecture, directory in (pair.split("=", 1) for pair in directories):
        plain = layer(directory)
        packed = blob(LAYER, gzip.compress(plain, 9, mtime=0))
        platform = {"architecture": architecture, "os": "linux"}
        path = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        config = document(CONFIG, {
            **platform,
            "config": {"User": "65532:65532", "Env": ["PATH=" + path]},
            "rootfs": {"type": "layers", "diff_ids": [digest(plain)]},
        })
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [packed]}
        manifests.append(document(MANIFEST, manifest, platform=platform))
        print(f"{architecture}: {len(plain) / 1e6:.1f} MB, compressed {packed['size'] / 1e6:.1f} MB")

    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    if len(manifests) > 1:
        named = [document(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}, annotations=names)]
    else:
        named = [{**manifests[0], "annotations": names}]
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    files["index.json"] = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": named}, sort_keys=True).encode()
    files |= {"blobs/" + key.replace(":", "/"): content for key, content in sorted(blobs.items())}
    with tarfile.open(output, "w", format=tarfile.GNU_FORMAT) as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


main()
