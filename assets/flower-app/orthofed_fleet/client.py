"""The data owners' component; Flower wants it assigned at top level of its module."""

from orthofed.client import flower

app = flower.client
