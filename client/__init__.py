"""The data owner's and the consumer's side: train, show what leaves, upload; pull and verify."""
