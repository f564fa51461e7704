"""Folders, files and secrets that no other user of the machine can read."""

import os
import secrets
from pathlib import Path

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
SEARCHABLE_FOLDER = 0o711
"""Other users can pass through it, not list it. Its content is private by its own modes."""


def private_folder(folder: Path, mode: int = PRIVATE_FOLDER) -> Path:
    """Make the folder with this mode, or set the mode of an existing one. Missing parents get the usual mode."""
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    folder.chmod(mode)
    return folder


def private_file(path: Path, text: str) -> Path:
    """Write a file that was never readable by others."""
    path.unlink(missing_ok=True)  # the old file may have other modes, which a rewrite would keep
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "w") as file:
        file.write(text)
    return path


def kept_secret(path: Path) -> str:
    """The secret in this file; the first call makes it."""
    if not path.exists():
        private_file(path, secrets.token_hex(24))
    return path.read_text().strip()
