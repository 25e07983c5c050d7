"""Real processes, and real servers over a socket."""
