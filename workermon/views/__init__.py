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
from workermon.views.backtest import Episode, EpisodeList, LedgerBacktest, Replay
from workermon.views.cloudwatch_history import CloudWatchHistory
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
from workermon.views.history import History, HistoryView, WorkerName
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
    "Episode",
    "EpisodeList",
    "Explanation",
    "FlappingState",
    "FleetView",
    "History",
    "HistoryView",
    "LedgerBacktest",
    "Message",
    "Page",
    "Position",
    "Replay",
    "RuleExplanation",
    "SilenceList",
    "SilenceRow",
    "SilenceView",
    "Turn",
    "Watch",
    "WorkerDetail",
    "WorkerExplanation",
    "WorkerList",
    "WorkerName",
    "WorkerQuery",
    "WorkerRow",
    "acknowledgement_row",
    "alert_position",
    "page",
    "silence_row",
    "unfirable_rules",
]
