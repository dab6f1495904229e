#!/usr/bin/env python3
"""Writes the list of common passwords anew: src/auth/password/common_passwords/list.txt and the LICENSE beside it.

Needs npm. The source is pinned by version and SHA-256; a newer one is a change of the two constants, and a look at the diff.
"""

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "@zxcvbn-ts/language-common"
VERSION = "4.1.3"
SHA256 = "bf3027c16c069d7877e25dc8751bc819e10e479afcc5ee1a323eb2ab73129ca9"

FOLDER = Path(__file__).parent.parent / "src/auth/password/common_passwords"


def fetch(folder: Path) -> Path:
    """The package as the registry has it."""
    command = ["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"]
    name = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
    archive = folder / name
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{PACKAGE} {VERSION} has the SHA-256 {digest}, not {SHA256}")
    return archive


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fetch(Path(folder))) as package:

        def read(name: str) -> str:
            file = package.extractfile(f"package/{name}")
            if file is None:
                raise SystemExit(f"{PACKAGE} {VERSION} has no {name}")
            return file.read().decode()

        # All of it, short ones too: written several times in a row they are as long as any.
        entries = {entry.lower() for entry in json.loads(read("src/passwords.json"))}
        licence = read("LICENSE.txt")
    if any(not entry or set(entry) & set("\r\n") for entry in entries):
        raise SystemExit("an entry is empty, or more than one line")
    # In the order of their bytes, as the search expects.
    lines = sorted(entry.encode() for entry in entries)
    (FOLDER / "list.txt").write_bytes(b"".join(line + b"\n" for line in lines))
    (FOLDER / "LICENSE").write_text(
        f"list.txt is taken from {PACKAGE} {VERSION}, which is under this licence (MIT):\n\n{licence}"
    )
    print(f"{len(lines)} entries")


if __name__ == "__main__":
    main()
