"""Writes ``docs/reference/openapi.json``, which a test compares with the application: ``make openapi``."""

from __future__ import annotations

import json
from pathlib import Path

from workermon import runtime, settings, testing
from workermon.web import app, openapi

FROZEN = Path(__file__).parent / "reference" / "openapi.json"

if __name__ == "__main__":
    # Nothing connects: the routes alone are looked at.
    served = app.create_app(runtime.open(settings.Settings(_env_file=None), testing.Monitor().overrides()))
    FROZEN.write_text(json.dumps(openapi.schema(served), indent=1, ensure_ascii=False) + "\n", "utf-8")
