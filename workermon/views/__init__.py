"""What people read: read only, with typed results shared by the command line, the API and the page."""

from __future__ import annotations

from workermon.rules.wording import one_decimal, quantity
from workermon.views.alert_detail import AlertDetail, AlertDetailView
from workermon.views.alerts import (
    AcknowledgementRow,
    AlertFilter,
    AlertList,
    AlertPages,
    AlertRow,
    AlertView,
    acknowledgement_row,
    alert_position,
)
from workermon.views.audit import AuditList, AuditRow, AuditView, audit_position
from workermon.views.backtest import Episode, EpisodeList, Replay
from workermon.views.charts import ChartView, WorkerCharts, charted_metrics, point_step
from workermon.views.cloudwatch_history import CloudWatchFetch, CloudWatchHistory, CloudWatchRequests
from workermon.views.document import Document
from workermon.views.explain import (
    EscalationState,
    Explanation,
    FlappingState,
    RuleExplanation,
    WorkerExplanation,
    for_worker,
)
from workermon.views.explain_builtin import (
    OF_ACCOUNTS,
    OF_INSTALLATION,
    AccountExplanation,
    ChannelExplanation,
    ExplainAccount,
    ExplainChannel,
    ExplainInstallation,
    MonitorAlertExplanation,
    account_keys,
)
from workermon.views.explain_group import ExplainGroups, GroupExplanation
from workermon.views.fleet import (
    FleetView,
    WorkerDetail,
    WorkerList,
    WorkerQuery,
    WorkerRow,
    WorkerRows,
    WorkerView,
    label_keys,
)
from workermon.views.history import (
    History,
    HistoryView,
    HourlyDatapoint,
    HourlyHistory,
    HourlyHistoryView,
    Hours,
    WorkerName,
)
from workermon.views.ledger_backtest import LedgerBacktest
from workermon.views.overview import (
    STATES,
    STATUSES,
    FleetOverview,
    FleetPages,
    FleetQuery,
    FleetSnapshot,
    Overview,
    RowsView,
    Snapshot,
    worker_state,
)
from workermon.views.paging import Page, Position, page
from workermon.views.rule_pictures import Picture, PictureView, RuleList, RuleView
from workermon.views.rule_suggest import RuleSuggestion
from workermon.views.silences import SilenceList, SilenceRow, SilenceView, silence_row
from workermon.views.transitions import ActiveSilence, RecordedTransition
from workermon.views.unfirable import unfirable_rules
from workermon.views.watch import LiveMessages, Message, Watch

__all__ = [
    "OF_ACCOUNTS",
    "OF_INSTALLATION",
    "STATES",
    "STATUSES",
    "AccountExplanation",
    "AcknowledgementRow",
    "ActiveSilence",
    "AlertDetail",
    "AlertDetailView",
    "AlertFilter",
    "AlertList",
    "AlertPages",
    "AlertRow",
    "AlertView",
    "AuditList",
    "AuditRow",
    "AuditView",
    "ChannelExplanation",
    "ChartView",
    "CloudWatchFetch",
    "CloudWatchHistory",
    "CloudWatchRequests",
    "Document",
    "Episode",
    "EpisodeList",
    "EscalationState",
    "ExplainAccount",
    "ExplainChannel",
    "ExplainGroups",
    "ExplainInstallation",
    "Explanation",
    "FlappingState",
    "FleetOverview",
    "FleetPages",
    "FleetQuery",
    "FleetSnapshot",
    "FleetView",
    "GroupExplanation",
    "History",
    "HistoryView",
    "HourlyDatapoint",
    "HourlyHistory",
    "HourlyHistoryView",
    "Hours",
    "LedgerBacktest",
    "LiveMessages",
    "Message",
    "MonitorAlertExplanation",
    "Overview",
    "Page",
    "Picture",
    "PictureView",
    "Position",
    "RecordedTransition",
    "Replay",
    "RowsView",
    "RuleExplanation",
    "RuleList",
    "RuleSuggestion",
    "RuleView",
    "SilenceList",
    "SilenceRow",
    "SilenceView",
    "Snapshot",
    "Watch",
    "WorkerCharts",
    "WorkerDetail",
    "WorkerExplanation",
    "WorkerList",
    "WorkerName",
    "WorkerQuery",
    "WorkerRow",
    "WorkerRows",
    "WorkerView",
    "account_keys",
    "acknowledgement_row",
    "alert_position",
    "audit_position",
    "charted_metrics",
    "for_worker",
    "label_keys",
    "one_decimal",
    "page",
    "point_step",
    "quantity",
    "silence_row",
    "unfirable_rules",
    "worker_state",
]
