"""What people read: read only, with typed results that the command line, the API and the page share."""

from __future__ import annotations

from workermon.views.alerts import (
    AcknowledgementRow,
    AlertFilter,
    AlertList,
    AlertRow,
    AlertView,
    acknowledgement_row,
    alert_position,
)
from workermon.views.backtest import CloudWatchHistory, LedgerBacktest
from workermon.views.document import Document
from workermon.views.explain import (
    ChannelExplanation,
    Explanation,
    FlappingState,
    RuleExplanation,
    Turn,
    WorkerExplanation,
)
from workermon.views.fleet import FleetView, WorkerDetail, WorkerList, WorkerQuery, WorkerRow
from workermon.views.history import History, HistoryView
from workermon.views.paging import Page, Position, page
from workermon.views.silences import SilenceList, SilenceRow, SilenceView, silence_row
from workermon.views.unfirable import unfirable_rules
from workermon.views.watch import Message, Watch

__all__ = [
    "AcknowledgementRow",
    "AlertFilter",
    "AlertList",
    "AlertRow",
    "AlertView",
    "ChannelExplanation",
    "CloudWatchHistory",
    "Document",
    "Explanation",
    "FlappingState",
    "FleetView",
    "History",
    "HistoryView",
    "LedgerBacktest",
    "Message",
    "Page",
    "Position",
    "RuleExplanation",
    "SilenceList",
    "SilenceRow",
    "SilenceView",
    "Turn",
    "Watch",
    "WorkerDetail",
    "WorkerExplanation",
    "WorkerList",
    "WorkerQuery",
    "WorkerRow",
    "acknowledgement_row",
    "alert_position",
    "page",
    "silence_row",
    "unfirable_rules",
]
