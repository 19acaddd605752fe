"""The wire contract and its checked values.

proto/v1 is the specification; wire.py gives every message, read and checked.
"""
