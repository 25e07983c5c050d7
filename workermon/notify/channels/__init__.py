"""One file a type of channel."""
