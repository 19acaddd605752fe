# pyright: basic, reportAttributeAccessIssue=false
# tensorboard publishes no types; its messages are made when they are imported.
"""TensorBoard's event files for one run, without TensorFlow and without torch.

Law: `fresh` begins anew, since steps cannot be taken out of such a file; training_log.py then
writes the kept ones again, so that no step is there twice. Cost: a thread of TensorBoard's own that
writes every few seconds. Look at them with `tensorboard --logdir <home>/runs`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from .home import told_when_full

_FLUSH_S = 5


class EventFiles:
    """The event files of one folder."""

    def __init__(self, writer: Any) -> None:  # noqa: ANN401  # tensorboard's own
        """Take an open writer; `fresh` makes one."""
        self._writer = writer

    @staticmethod
    def fresh(folder: Path) -> "EventFiles":
        """Return new files in ``folder``; what was there before is removed."""
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        with told_when_full(folder, wanted=4096):
            folder.mkdir(parents=True, exist_ok=True)
            return EventFiles(EventFileWriter(str(folder), flush_secs=_FLUSH_S))

    def scalars(self, step: int, at: float, values: Mapping[str, float]) -> None:
        """Note ``values`` of one step. Units: ``at`` in seconds since 1970."""
        rows = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._add(step, at, rows)

    def picture(self, step: int, at: float, tag: str, png: bytes) -> None:
        """Note one picture; TensorBoard reads its size from the PNG itself."""
        image = Summary.Image(encoded_image_string=png, colorspace=3)
        self._add(step, at, [Summary.Value(tag=tag, image=image)])

    def close(self) -> None:
        """Write out what is still in memory."""
        self._writer.close()

    def _add(self, step: int, at: float, rows: list[Any]) -> None:
        self._writer.add_event(Event(wall_time=at, step=step, summary=Summary(value=rows)))
