"""What processes of both roles share: how Flower's are run, and how one says what happens."""
