"""What people read: read only, with typed results shared by the command line, the API and the page."""

from __future__ import annotations

from workermon.rules.wording import one_decimal, quantity
from workermon.views.alerts import (
    AcknowledgementRow,
    AlertFilter,
    AlertList,
    AlertRow,
    AlertView,
    acknowledgement_row,
    alert_position,
)
from workermon.views.audit import AuditList, AuditRow, AuditView, audit_position
from workermon.views.backtest import Episode, EpisodeList, LedgerBacktest, Replay
from workermon.views.charts import ChartView, WorkerCharts
from workermon.views.cloudwatch_history import CloudWatchHistory
from workermon.views.document import Document
from workermon.views.explain import (
    EscalationState,
    Explanation,
    FlappingState,
    RuleExplanation,
    WorkerExplanation,
)
from workermon.views.explain_builtin import (
    OF_ACCOUNTS,
    OF_INSTALLATION,
    AccountExplanation,
    BuiltinRuleExplanation,
    ChannelExplanation,
)
from workermon.views.explain_group import ExplainGroups, GroupExplanation
from workermon.views.fleet import FleetView, WorkerDetail, WorkerList, WorkerQuery, WorkerRow
from workermon.views.history import History, HistoryView, HourlyDatapoint, HourlyHistory, WorkerName
from workermon.views.overview import STATES, STATUSES, FleetOverview, FleetQuery, Overview, Snapshot, worker_state
from workermon.views.paging import Page, Position, page
from workermon.views.pictures import Picture, RuleList, RuleView
from workermon.views.rule_suggest import RuleSuggestion
from workermon.views.silences import SilenceList, SilenceRow, SilenceView, silence_row
from workermon.views.story import AlertStory, StoryView
from workermon.views.transitions import ActiveSilence, Turn
from workermon.views.unfirable import unfirable_rules
from workermon.views.watch import Message, Watch

__all__ = [
    "OF_ACCOUNTS",
    "OF_INSTALLATION",
    "STATES",
    "STATUSES",
    "AccountExplanation",
    "AcknowledgementRow",
    "ActiveSilence",
    "AlertFilter",
    "AlertList",
    "AlertRow",
    "AlertStory",
    "AlertView",
    "AuditList",
    "AuditRow",
    "AuditView",
    "BuiltinRuleExplanation",
    "ChannelExplanation",
    "ChartView",
    "CloudWatchHistory",
    "Document",
    "Episode",
    "EpisodeList",
    "EscalationState",
    "ExplainGroups",
    "Explanation",
    "FlappingState",
    "FleetOverview",
    "FleetQuery",
    "FleetView",
    "GroupExplanation",
    "History",
    "HistoryView",
    "HourlyDatapoint",
    "HourlyHistory",
    "LedgerBacktest",
    "Message",
    "Overview",
    "Page",
    "Picture",
    "Position",
    "Replay",
    "RuleExplanation",
    "RuleList",
    "RuleSuggestion",
    "RuleView",
    "SilenceList",
    "SilenceRow",
    "SilenceView",
    "Snapshot",
    "StoryView",
    "Turn",
    "Watch",
    "WorkerCharts",
    "WorkerDetail",
    "WorkerExplanation",
    "WorkerList",
    "WorkerName",
    "WorkerQuery",
    "WorkerRow",
    "acknowledgement_row",
    "alert_position",
    "audit_position",
    "one_decimal",
    "page",
    "quantity",
    "silence_row",
    "unfirable_rules",
    "worker_state",
]
