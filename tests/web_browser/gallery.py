"""A page over facts that were made up: as many concepts as one likes, named as nobody may be.

The reader is a fake of one that asks a coordinator (web/public_reader.py); pages, views, templates
and listener are the real ones. Its pictures are drawings of the base that ships.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from orthofed.assets import pocket_base
from orthofed.core.errors import OrthoFedError, Refused
from orthofed.web.answers import Answers
from orthofed.web.headers import SafeHeaders
from orthofed.web.listener import Listener
from orthofed.web.public_facts import Concept, Federation, Release, ReleaseFile
from orthofed.web.public_pages import PublicPages
from orthofed.web.public_reader import PublicReader

_TILE = 64
FEDERATION = Federation(
    name="peeps",
    fed="3da440c83e29f6d5acac28384257f01764ce00b71819118ac31fc15609de2eeb",
    log="63f87753e418952ba9e0c47451e91248da9916d7c2f6cb4f8cacb52214b13e83",
    link="orthofed://fed.example.org:7443/"
    "63f87753e418952ba9e0c47451e91248da9916d7c2f6cb4f8cacb52214b13e83",
    base_name="pocket-base",
    base_revision="1",
    base_licence="CC0-1.0",
    base_hint="it comes with orthofed",
    basis="hadamard",
    ranks=((96, 8),),
    num_layers=68,
    capacity=512,
    free_slots=12,
    kept_slots=0,
    upload_bytes=138_314,
)


class Gallery(PublicReader):
    """Says what it was told."""

    def __init__(self, concepts: Sequence[Concept]) -> None:
        super().__init__(lambda _: b"", lambda: FEDERATION.link)
        files = [ReleaseFile("card.md", 6_601, "4a" * 32)]
        files += [ReleaseFile(f"concepts/{c.name[:60]}.st", 28_900, "df" * 32) for c in concepts]
        self._made = Release(7, 1_795_951_847, 99, 99, tuple(files), tuple(concepts), ())
        sheet = Image.open(pocket_base() / "samples.png").convert("RGB")
        self._tiles = [
            sheet.crop((x, y, x + _TILE, y + _TILE))
            for y in range(0, sheet.height - _TILE + 1, _TILE)
            for x in range(0, sheet.width - _TILE + 1, _TILE)
        ]

    def federation(self) -> Federation:
        return FEDERATION

    def releases(self) -> tuple[int, ...]:
        return (self._made.n,)

    def release(self, n: int) -> Release:
        if n != self._made.n:
            raise Refused("no such release", why="-", fix="-", code="no-such-release")
        return self._made

    def picture(self, n: int, concept: str) -> bytes:
        names = [each.name for each in self.release(n).concepts]
        tile = self._tiles[names.index(concept) % len(self._tiles)]
        data = io.BytesIO()
        tile.save(data, "PNG")
        return data.getvalue()


@contextmanager
def gallery(concepts: Sequence[Concept]) -> Iterator[str]:
    """Serve the public pages of a release of these; give the address."""
    answers = Answers(lambda: FEDERATION.name, lambda _: None)

    async def refused(request: Request, error: Exception) -> Response:
        return answers.refused(request, error)

    app = Starlette(
        routes=PublicPages(Gallery(concepts), answers).routes(),
        exception_handlers={OrthoFedError: refused},
    )
    listener = Listener("127.0.0.1:0")
    host = f"127.0.0.1:{listener.port}"
    listener.start(SafeHeaders(app, hosts={host}))
    try:
        yield f"http://{host}"
    finally:
        listener.close()
