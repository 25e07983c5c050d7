"""The ports of the repository, on Redis. Redis is imported here (and in ``local``) only."""
