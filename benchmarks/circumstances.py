"""Where a benchmark ran: what every results file says beside its figures."""

from orthofed.simulation.circumstances import commit, hardware

__all__ = ["commit", "hardware"]
