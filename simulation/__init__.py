"""A whole federation on one machine: a real coordinator, real clients, a toy to learn.

A package of its own beside the two roles, since it starts one and runs the other (docs/adr). What
is real: the coordinator's process, its disk and its ledger; joining, leasing, packing, the owner's
gate, uploading, over gRPC and TLS; releases. What is not: the model (toy.py), and the owners.
"""
