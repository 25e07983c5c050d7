"""``python -m workermon`` is the ``workermon`` command."""

from workermon.cli import main

if __name__ == "__main__":
    main()
