"""The style sheet, the script and the icon. Their names contain a hash of their content, so browsers may cache them forever."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from pipeline.web.dashboard.page import PREFIX

_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HASH_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that browsers load."""

    name: str
    content_type: str
    content: bytes
    digest: str


class Assets:
    """The files of ``pipeline/web/static``, in memory: they are few and small."""

    def __init__(self) -> None:
        found = sorted(files("pipeline.web").joinpath("static").iterdir(), key=lambda file: file.name)
        assets = [_asset(file.name, file.read_bytes()) for file in found if file.is_file()]
        self._urls = {name: f"{PREFIX}/static/{asset.name}" for name, asset in assets}
        self._assets = {asset.name: asset for _, asset in assets}

    def url(self, name: str) -> str:
        """The URL of a file, by its name in ``static``.

        Raises:
            KeyError: there is no such file.
        """
        return self._urls[name]

    def find(self, name: str) -> Asset | None:
        """A file, by the name in its URL."""
        return self._assets.get(name)


def _asset(name: str, content: bytes) -> tuple[str, Asset]:
    stem, _, kind = name.rpartition(".")
    digest = hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]
    return name, Asset(f"{stem}.{digest}.{kind}", _TYPES[kind], content, digest)
