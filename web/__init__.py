"""The page of one coordinator: a public gallery, and the operator's desk behind a login."""
