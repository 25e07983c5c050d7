"""Records ``docs/demo.svg``: runs the demo for a while and draws what its table shows at the end.

Run it in a checkout that is installed: ``python docs/record_demo.py [SECONDS]``.
"""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from workermon import fleet, models, watch
from workermon.cli import files, session
from workermon.local import board, demo

#: Seconds. By then one alert has resolved and another fires.
SECONDS = 40
WIDTH, HEIGHT = 112, 40


def main() -> None:
    """Run it and write the picture beside this file."""
    table = board.Board(time.time)
    sessions: list[session.Session] = []

    def prepare() -> None:
        sessions.append(session.Session())
        own = sessions[0]
        given = {"interval": own.settings.interval, "least": own.settings.min_interval}
        own.call(fleet.apply, files.read(own.settings.config), region="us-east-1", **given)

    def follow() -> Iterator[models.Event | models.Notification | None]:
        for shown in sessions[0].call(watch.watch, None):
            if shown is not None:
                table.take(shown)
            yield shown

    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    demo.run(prepare=prepare, follow=follow, seconds=seconds)
    drawn = Console(file=io.StringIO(), record=True, width=WIDTH, height=HEIGHT, force_terminal=True)
    drawn.print(table, height=HEIGHT)
    # The picture is to load nothing from elsewhere; viewers have a monospaced font of their own.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", drawn.export_svg(title="workermon demo"), flags=re.DOTALL)
    Path(__file__).with_name("demo.svg").write_text(picture, "utf-8")


if __name__ == "__main__":
    main()
