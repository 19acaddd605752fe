"""What a person reads of the daemon's job: its lines, and an end without a word.

Law: each value of a line is there, its unit behind it; the log keeps the line itself beside them.
Not here: what the job says in words of its own (daemon_job.py).
"""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def job_words(line: Mapping[str, Any]) -> str:
    """Return what a person reads of one line of the job; a value that has a word of its own first.

    >>> job_words({"event": "step", "step": 3, "steps": 40, "eta_s": 61.4})
    'step 3 of 40, 61 s to go'
    >>> job_words({"event": "checking", "what": "time and memory of a step"})
    'checking time and memory of a step'
    >>> job_words({"event": "leased", "slot": 0, "fence": 1})
    'leased: slot 0, fence 1'
    """
    event = str(line["event"])
    if event == "step" and "steps" in line:
        left = f", {float(line['eta_s']):.0f} s to go" if line.get("eta_s") else ""
        return f"step {line['step']} of {line['steps']}{left}"
    if event == "checking" and "what" in line:
        return f"checking {line['what']}"
    shown = {k: v for k, v in line.items() if k != "event" and isinstance(v, str | int | float)}
    values = ", ".join(_value(key, value) for key, value in shown.items())
    return f"{event}: {values}" if values else event


def _value(name: str, value: str | float) -> str:
    """Return one value with its unit in place of the unit in its name.

    >>> _value("peak_bytes", 86_925_312), _value("ttl_s", 900), _value("seconds_per_step", 0.25)
    ('peak 86.9 MB', 'ttl 900 s', 'seconds per step 0.25')
    """
    words = name.replace("_", " ")
    if name.endswith("_bytes") and not isinstance(value, str):
        return f"{words.removesuffix(' bytes')} {value / 1e6:.1f} MB"
    return f"{words.removesuffix(' s')} {value} s" if name.endswith("_s") else f"{words} {value}"


def unsaid(code: int | None, folder: Path) -> dict[str, str]:
    """Return what became of a process that ended without a word.

    A pause may come before it listens for one; then nothing was begun.

    >>> unsaid(-2, Path("daemon"))["code"], unsaid(-9, Path("daemon"))["code"]
    ('interrupted', 'crashed')
    """
    if code == -signal.SIGINT:
        what = "stopped before it had begun"
        return {"code": "interrupted", "what": what, "fix": "resume, and it begins again"}
    what = f"its process ended with {code} and said nothing"
    return {"code": "crashed", "what": what, "fix": f"look at {folder}/job.stderr"}
