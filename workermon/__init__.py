"""workermon watches a fleet of EC2 instances ("workers") without an agent, on Celery, Redis and boto3."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Give ``celery -A workermon`` its application, loaded only when it is asked for."""
    if name == "app":
        from workermon.on_celery.app import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
