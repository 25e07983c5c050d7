"""The listener's place among the steps of a Celery node."""

from __future__ import annotations

from typing import Any

from celery.worker import WorkController, components

from workermon.on_celery.app import app
from workermon.pipeline import bootstep


def test_nothing_forks_once_the_listeners_thread_runs() -> None:
    """Pool and embedded beat (``-B``) start before it. A fork copies the locks of imports that the thread holds.

    A beat that imports the same module would then wait for ever.
    """
    blueprint: Any = WorkController.Blueprint(steps=app.steps["worker"])
    blueprint.steps = blueprint.claim_steps()
    order = blueprint._finalize_steps(blueprint.steps)
    for forking in (components.Pool, components.Beat):
        assert order.index(forking) < order.index(bootstep.ListenerStep)
        # Without that, Celery's order is that of the hashes of its classes.
        assert forking in bootstep.ListenerStep.requires
