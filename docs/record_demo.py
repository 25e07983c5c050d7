"""Records ``docs/demo.svg``: runs the demo for a while and draws what its table shows at the end (``make picture``)."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from workermon import errors, views
from workermon.cli import live_table, session

#: Seconds. By then one alert has resolved and another fires.
SECONDS = 40
#: Seconds that the demo may take to start.
START = 30
WIDTH, HEIGHT = 112, 40


def main() -> None:
    """Run the demo, follow it as any other command would, and write the picture beside this file."""
    table = live_table.Board(time.time, title="workermon demo")
    with tempfile.TemporaryDirectory() as state:
        os.environ["XDG_STATE_HOME"] = state  # a demo or an 'up' of this user stays out of the picture
        os.environ.pop("WORKERMON_REDIS_URL", None)
        demo = subprocess.Popen(
            [sys.executable, "-m", "workermon", "demo", "--seconds", str(SECONDS)], stdout=subprocess.DEVNULL
        )
        try:
            follow(table)
            # While the demo still runs: once it ends, the ages of the values grow.
            drawn = Console(file=io.StringIO(), record=True, width=WIDTH, height=HEIGHT, force_terminal=True)
            drawn.print(table, height=HEIGHT)
        finally:
            demo.wait()
    # The picture loads nothing from elsewhere; viewers have a monospaced font of their own.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", drawn.export_svg(title="workermon demo"), flags=re.DOTALL)
    Path(__file__).with_name("demo.svg").write_text(picture, "utf-8")


def follow(table: live_table.Board) -> None:
    """Show the table what the demo publishes, until shortly before it ends."""
    deadline = time.monotonic() + START
    while True:
        own = session.Session()
        try:
            coming = own.get(views.Watch).watch()
            break
        except errors.RedisUnavailable:
            own.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    end = time.monotonic() + SECONDS - 5
    for shown in coming:
        if shown is not None:
            table.take(shown)
        if time.monotonic() > end:
            break
    own.close()


if __name__ == "__main__":
    main()
