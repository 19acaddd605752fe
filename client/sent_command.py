"""The command `orthofed client sent`: every message that ever left this home, the chain checked.

It reads one file and asks nobody. Exit code 4: a line was changed, dropped or added.
"""

import json
from dataclasses import asdict
from typing import Final

from .command_line import HomeOption, Json

SENT_EXAMPLE: Final = "Example: orthofed client sent"


def sent(
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """List every message that ever left this home, with bytes and SHA-256, and check the list."""
    from .home import Home
    from .outbox import read_record

    path = Home.at(home).folder / "outbox.jsonl"
    record = read_record(path)
    total = sum(each.num_bytes for each in record.sent)
    if as_json:
        facts = {
            "schema": "orthofed.sent/1",
            "messages": [asdict(each) for each in record.sent],
            "total_bytes": total,
            "head": record.head,
        }
        print(json.dumps(facts))
        return
    for each in record.sent:
        chunk = f"  chunk {each.index} {each.chunk[:16]}" if each.chunk else ""
        print(
            f"{each.n:>6}  {each.num_bytes:>9,}  {each.sha256[:16]}"
            f"  {each.method.rpartition('/')[2]}{chunk}"
        )
    print(f"{len(record.sent)} messages, {total:,} bytes; whole messages and hashes: {path}")
    print(f"head    {record.head}")
