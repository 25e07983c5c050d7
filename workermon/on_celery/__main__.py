"""``python -P -m workermon.on_celery worker|beat …``: Celery's own command with our application, for ``workermon up``.

``celery -A workermon`` puts the working directory in front of Python's search path. Whoever can write there could have
a ``redis.py`` of theirs imported; here nothing is imported from it.
"""

from __future__ import annotations

import sys

from workermon.on_celery.app import app

if __name__ == "__main__":
    sys.exit(app.start(sys.argv[1:]))
