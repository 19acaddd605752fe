"""The base model's folder on this disk.

What a folder says of itself is core/base_files.py; here are the reads.
"""

from pathlib import Path

from ..core.base_files import BaseFiles


class BaseFolder(BaseFiles):
    """A diffusers pipeline folder with safetensors weights."""

    def __init__(self, root: Path) -> None:
        """List the regular files of the folder; raises InputError when it is no pipeline."""
        self.root = root
        found = (path for path in root.rglob("*") if path.is_file())
        sizes = {path.relative_to(root).as_posix(): path.stat().st_size for path in found}
        super().__init__(sizes, self._read, where=str(root))

    def _read(self, name: str, offset: int, length: int) -> bytes:
        with (self.root / name).open("rb") as file:
            file.seek(offset)
            return file.read(length)
