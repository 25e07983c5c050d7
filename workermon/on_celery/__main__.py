"""``python -P -m workermon.on_celery worker|beat …``: Celery's own command with our application, for ``workermon up``.

``celery -A workermon`` puts the working directory first on Python's search path. Anybody who can write there could
place a ``redis.py`` in it. This command imports nothing from there.
"""

from __future__ import annotations

import sys

from workermon.on_celery.app import app

if __name__ == "__main__":
    sys.exit(app.start(sys.argv[1:]))
