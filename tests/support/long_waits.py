"""Celery's command, whose nodes wait five minutes for a message: who stops within less does not wait for that."""

from __future__ import annotations

from celery.__main__ import main

from workermon.on_celery import message_waits

#: Seconds.
LONG = 300

if __name__ == "__main__":
    message_waits.LONG = LONG  # type: ignore[misc]  # other than in the field
    main()
