"""The wire contract and its checked values.

proto/v1 is the specification; wire.py is the only reader of messages.
"""
