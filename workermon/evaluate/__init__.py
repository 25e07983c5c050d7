"""Evaluate: identifiers in, alerts and their notifications out."""

from __future__ import annotations

from workermon.evaluate.evaluation import Evaluation
from workermon.evaluate.silence_expiry import SilenceExpiry

__all__ = ["Evaluation", "SilenceExpiry"]
