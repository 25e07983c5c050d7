"""What runs on one machine with nothing installed: an embedded Redis, a simulated fleet, and their supervisor."""
