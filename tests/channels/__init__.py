"""Each type of channel against a server of its kind."""
