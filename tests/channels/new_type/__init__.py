"""A type of channel that workermon does not have, added by one file (``rooms``) and one row of the table."""
