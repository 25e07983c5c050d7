"""Evaluate: takes identifiers, writes alerts and their notifications."""

from __future__ import annotations

from workermon.evaluate.acknowledging import Acknowledged, Acknowledging
from workermon.evaluate.evaluation import Evaluation
from workermon.evaluate.silence_expiry import SilenceExpiry
from workermon.evaluate.silencing import Silencing, Unsilencing

__all__ = ["Acknowledged", "Acknowledging", "Evaluation", "SilenceExpiry", "Silencing", "Unsilencing"]
