"""Models: stacks of one family of layers that any field can use."""
