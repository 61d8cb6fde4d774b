#!/usr/bin/env python3
"""Names every .rs file that no `mod` and no manifest reaches: cargo never compiles it, so its tests never run."""
import re
import subprocess
import sys
from pathlib import Path

MOD = re.compile(r"^\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(?:r#)?(\w+)\s*;", re.M)
PATH_ATTRIBUTE = re.compile(r'#\[path\s*=\s*"([^"]+)"\]')
ROOT_DIRS = ("tests", "benches", "examples", "src/bin")


def roots(package: Path) -> set[Path]:
    found = {package / "src/lib.rs", package / "src/main.rs", package / "build.rs"}
    for folder in ROOT_DIRS:
        found |= set((package / folder).glob("*.rs")) | set((package / folder).glob("*/main.rs"))
    manifest = (package / "Cargo.toml").read_text()
    found |= {package / path for path in re.findall(r'^path\s*=\s*"([^"]+\.rs)"', manifest, re.M)}
    return {path for path in found if path.exists()}


def children(source: Path, is_root: bool) -> set[Path]:
    text = source.read_text()
    owns_folder = is_root or source.name == "mod.rs"
    folder = source.parent if owns_folder else source.with_suffix("")
    found = {source.parent / path for path in PATH_ATTRIBUTE.findall(text)}
    for name in MOD.findall(text):
        found |= {folder / f"{name}.rs", folder / name / "mod.rs"}
    return {path for path in found if path.exists()}


def main() -> int:
    tracked = {Path(p) for p in subprocess.check_output(["git", "ls-files", "*.rs"], text=True).split()}
    packages = [Path(p).parent for p in subprocess.check_output(["git", "ls-files", "Cargo.toml", "*/Cargo.toml"], text=True).split()]
    top = set().union(*(roots(package) for package in packages))
    reached, frontier = set(), set(top)
    while frontier:
        source = frontier.pop()
        reached.add(source)
        frontier |= children(source, source in top) - reached
    orphans = sorted(tracked - reached)
    for orphan in orphans:
        print(f"{orphan}: no `mod` and no manifest names it, so it is never compiled", file=sys.stderr)
    return 1 if orphans else 0


if __name__ == "__main__":
    sys.exit(main())
