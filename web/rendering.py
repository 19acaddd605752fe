"""Templates and static files: a view goes in, bytes of HTML come out.

Laws: every value is escaped (autoescape has no exception in any template), a name that a template
misspells is an error, and static files are the few that lie beside this one, read once; a name is
looked up among them and never becomes a path (T10).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HERE: Final = Path(__file__).parent
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class NavItem:
    """One link of a menu; ``here``: it is the page that is shown."""

    href: str
    text: str
    here: bool


@dataclass(frozen=True, slots=True)
class Asset:
    """One static file with its type and the beginning of its SHA-256."""

    data: bytes
    media_type: str
    version: str


def _assets() -> dict[str, Asset]:
    return {
        path.name: Asset(data, _TYPES[path.suffix], hashlib.sha256(data).hexdigest()[:12])
        for path in sorted((_HERE / "static").iterdir())
        if path.suffix in _TYPES
        for data in [path.read_bytes()]
    }


ASSETS: Final[Mapping[str, Asset]] = _assets()


@dataclass(frozen=True, slots=True)
class Chrome:
    """What stands around every page; ``live`` is the stream that it follows, empty for none."""

    name: str
    nav: tuple[NavItem, ...]
    live: str = ""
    desk: tuple[NavItem, ...] = field(default=())
    csrf: str = ""
    who: str = ""

    def asset(self, name: str) -> str:
        """Return the address of a static file; it changes with the file."""
        return f"/static/{name}?v={ASSETS[name].version}"


class Rendering:
    """The templates."""

    def __init__(self) -> None:
        """Load them from beside this module."""
        self._environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def html(self, template: str, page: object, chrome: Chrome) -> str:
        """Return one page."""
        return self._environment.get_template(template).render(page=page, chrome=chrome)
