"""The coordinator: leases slots, keeps contributions, publishes releases.

It never loads torch and never sees data.
"""
