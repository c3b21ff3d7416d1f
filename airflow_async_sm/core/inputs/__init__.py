"""From what names or holds the inputs of a batch to the inputs, one after the other."""
