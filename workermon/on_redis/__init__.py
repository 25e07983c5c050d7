"""The storage ports on Redis. Only this package and ``local`` import Redis."""
