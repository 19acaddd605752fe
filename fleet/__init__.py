"""How Flower's processes are started, watched and ended, for both roles; nothing of the two."""
