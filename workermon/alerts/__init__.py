"""One life of an alert, whatever its subject: pure."""
