"""What runs on one machine without installing anything: an embedded Redis, a simulated fleet, and their supervisor."""
