"""The operator's component; Flower wants it assigned at top level of its module."""

from orthofed.coordinator import flower

app = flower.server
