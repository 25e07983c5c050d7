"""What holds while parts die, and a storm of real processes."""
