"""Sends the search to the first node and writes down what comes back; turns as ours does."""

import json
import time
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Wait for a wish (wanted.json beside the fleet's folder) and a node, then search."""
    beat = Path(str(context.run_config["beat"]))
    place, sent = beat.parent.parent, ""
    wish = place / "wanted.json"
    while True:
        beat.touch()  # so that its supervisor sees nothing
        nodes = list(grid.get_node_ids()) if wish.exists() else []
        if nodes and not sent:
            content = RecordDict({"order": ConfigRecord({"wish": wish.read_text()})})
            (sent,) = grid.push_messages([Message(content, nodes[0], "query.loot", ttl=600)])
        for reply in grid.pull_messages([sent]) if sent else ():
            failed = {"failed": str(reply.error)} if reply.has_error() else {}
            found = failed or json.loads(str(reply.content["loot"]["found"]))
            (place / "loot.part").write_text(json.dumps(found))
            (place / "loot.part").replace(place / "loot.json")
        time.sleep(0.5)
