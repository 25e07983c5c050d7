"""The life of an alert, the same for every kind of subject: pure."""
