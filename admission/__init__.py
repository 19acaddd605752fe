"""The admission worker: what a contribution does to the base model itself, measured with torch.

A package of its own beside the two roles, since it needs the base as the client loads it and the
desk as the operator asks it, and neither may import the other (docs/adr). It owns nothing: it reads
blobs, and tells the coordinator numbers; what follows from them the coordinator decides.
"""
