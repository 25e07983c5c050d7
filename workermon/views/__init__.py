"""What people read: read only, typed results that command line, API and page share."""
