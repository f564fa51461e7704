"""What a server keeps is its own: folders, files and secrets that no other user of the machine can read."""

import os
import secrets
from pathlib import Path

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
SEARCHABLE_FOLDER = 0o711
"""For others to pass through, not to look into: what lies in it is private by itself."""


def private_folder(folder: Path, mode: int = PRIVATE_FOLDER) -> Path:
    """Make the folder, or tighten it if it is there; folders above that are missing are made as usual."""
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    folder.chmod(mode)
    return folder


def private_file(path: Path, text: str) -> Path:
    """Write a file that was never readable by others."""
    path.unlink(missing_ok=True)  # whoever could read that one could read this
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "w") as file:
        file.write(text)
    return path


def kept_secret(path: Path) -> str:
    """The secret in this file, made when first asked for."""
    if not path.exists():
        private_file(path, secrets.token_hex(24))
    return path.read_text().strip()
