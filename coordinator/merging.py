"""Opens the blobs of one release: the reads behind core/merging.py.

Blobs are content-addressed and were checked at Commit; their hash is checked once more before a
release is built from them. Cost: one open file a contribution.
"""

import base64
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from ..core.contribution import ContributionManifest
from ..core.document import parse
from ..core.merging import Merge, Part, blob_damaged
from ..core.spec import FederationSpec
from .folder import DataFolder
from .publications import Included


@contextmanager
def open_merge(
    spec: FederationSpec, included: Sequence[Included], folder: DataFolder
) -> Iterator[Merge]:
    """Open the blobs of a release; raises VerificationFailed for one that is damaged."""
    with ExitStack() as stack:
        yield Merge.of(spec, [_open(spec, item, folder, stack) for item in included])


def _open(spec: FederationSpec, item: Included, folder: DataFolder, stack: ExitStack) -> Part:
    document = base64.b64decode(item.document)
    manifest = ContributionManifest.from_body(parse(document, kind="contribution").body)
    try:
        fd = stack.enter_context(folder.blob(manifest.blob).open("rb")).fileno()
    except FileNotFoundError as error:
        raise blob_damaged(item.leaf, manifest.concept, "there is no such file") from error
    return Part.open(
        spec,
        document,
        leaf=item.leaf,
        lambda_1024=item.lambda_1024,
        read=lambda offset, length: os.pread(fd, length, offset),
    )
