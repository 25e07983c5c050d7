"""How each stage and each view is made: their fields are their ports."""

from __future__ import annotations

import dishka

from workermon import collect, evaluate, fleet, health, notify, ports, settings, views
from workermon.health import doctor
from workermon.notify import channel_health, groups, sender


class Stages(dishka.Provider):
    """One recipe each; all live as long as the container."""

    scope = dishka.Scope.APP

    @dishka.provide
    def make_regions(self) -> fleet.Regions:
        """boto3's configured region, and all regions."""
        from workermon.on_aws import regions

        return fleet.Regions(default=regions.default_region(), known_regions=regions.known_regions())

    make_scope_lookup = dishka.provide(fleet.ScopeLookup)
    make_lookup = dishka.provide(fleet.Lookup)
    make_scheduling = dishka.provide(fleet.Scheduling)
    make_registration = dishka.provide(fleet.Registration)
    make_retiring = dishka.provide(fleet.Retiring)
    make_account_closing = dishka.provide(fleet.AccountClosing)
    make_orphaned_channel_alerts = dishka.provide(fleet.OrphanedChannelAlerts)
    make_adding = dishka.provide(fleet.Adding)
    make_pausing = dishka.provide(fleet.Pausing)
    make_resuming = dishka.provide(fleet.Resuming)
    make_removing = dishka.provide(fleet.Removing)
    make_tag_search = dishka.provide(fleet.TagSearch)
    make_discovery = dishka.provide(fleet.Discovery)
    make_discover_comparison = dishka.provide(fleet.DiscoverComparison)
    make_reconciliation = dishka.provide(fleet.Reconciliation)
    make_pricing = dishka.provide(fleet.Pricing)
    make_planning = dishka.provide(fleet.Planning)
    make_change_reporting = dishka.provide(fleet.ChangeReporting)
    make_preview = dishka.provide(fleet.Preview)
    make_application = dishka.provide(fleet.Application)
    make_backing_up = dishka.provide(fleet.BackingUp)
    make_restoring = dishka.provide(fleet.Restoring)
    make_collection = dishka.provide(collect.Collection)
    make_status_listing = dishka.provide(collect.StatusListing)
    make_rolling_up = dishka.provide(collect.RollingUp)
    make_cohort_placement = dishka.provide(collect.CohortPlacement)
    make_quiet_time = dishka.provide(collect.QuietTime)
    make_queue_reading = dishka.provide(collect.QueueReading)
    make_lost_metrics = dishka.provide(collect.LostMetrics)
    make_evaluation = dishka.provide(evaluate.Evaluation)
    make_silence_expiry = dishka.provide(evaluate.SilenceExpiry)
    make_silencing = dishka.provide(evaluate.Silencing)
    make_unsilencing = dishka.provide(evaluate.Unsilencing)
    make_acknowledging = dishka.provide(evaluate.Acknowledging)
    make_channel_alert_change = dishka.provide(channel_health.ChannelAlertChange)
    make_channel_failing = dishka.provide(channel_health.ChannelFailing)
    make_channel_given_up = dishka.provide(channel_health.ChannelGivenUp)
    make_channel_recovery = dishka.provide(channel_health.ChannelRecovery)
    make_channel_review = dishka.provide(channel_health.ChannelReview)
    make_grouping = dishka.provide(groups.Grouping)
    make_sender = dishka.provide(sender.Sender)
    make_delivery = dishka.provide(notify.Delivery)
    make_channel_watch = dishka.provide(notify.ChannelWatch)
    make_channel_test = dishka.provide(notify.ChannelTest)
    make_explanation = dishka.provide(views.Explanation)
    make_explain_groups = dishka.provide(views.ExplainGroups)
    make_monitor_alert_explanation = dishka.provide(views.MonitorAlertExplanation)
    make_explain_channel = dishka.provide(views.ExplainChannel)
    make_explain_account = dishka.provide(views.ExplainAccount)
    make_explain_installation = dishka.provide(views.ExplainInstallation)
    make_worker_rows = dishka.provide(views.WorkerRows)
    make_fleet_view = dishka.provide(views.FleetView)
    make_worker_view = dishka.provide(views.WorkerView)
    make_fleet_snapshot = dishka.provide(views.FleetSnapshot)
    make_rows_view = dishka.provide(views.RowsView)
    make_fleet_overview = dishka.provide(views.FleetOverview)
    make_fleet_pages = dishka.provide(views.FleetPages)
    make_chart_view = dishka.provide(views.ChartView)
    make_rule_view = dishka.provide(views.RuleView)
    make_picture_view = dishka.provide(views.PictureView)
    make_alert_detail_view = dishka.provide(views.AlertDetailView)
    make_alert_pages = dishka.provide(views.AlertPages)
    make_alert_view = dishka.provide(views.AlertView)
    make_audit_view = dishka.provide(views.AuditView)
    make_history_view = dishka.provide(views.HistoryView)
    make_hours = dishka.provide(views.Hours)
    make_hourly_history_view = dishka.provide(views.HourlyHistoryView)
    make_silence_view = dishka.provide(views.SilenceView)
    make_watch = dishka.provide(views.Watch)
    make_live_messages = dishka.provide(views.LiveMessages)
    make_ledger_backtest = dishka.provide(views.LedgerBacktest)
    make_rule_suggestion = dishka.provide(views.RuleSuggestion)
    make_cloudwatch_requests = dishka.provide(views.CloudWatchRequests)
    make_cloudwatch_fetch = dishka.provide(views.CloudWatchFetch)
    make_cloudwatch_history = dishka.provide(views.CloudWatchHistory)
    make_parts_check = dishka.provide(health.PartsCheck)
    make_status_check = dishka.provide(health.StatusCheck)
    make_health_summary_check = dishka.provide(health.HealthSummaryCheck)
    make_rule_examination = dishka.provide(doctor.rules.RuleExamination)
    make_lateness_examination = dishka.provide(doctor.rules.LatenessExamination)
    make_discovery_examination = dishka.provide(doctor.discovery.DiscoveryExamination)
    make_event_queue_examination = dishka.provide(doctor.event_queues.EventQueueExamination)
    make_server_examination = dishka.provide(doctor.server.ServerExamination)
    make_aws_examination = dishka.provide(doctor.aws.AwsExamination)
    make_doctor = dishka.provide(health.Doctor)
    make_exposition = dishka.provide(health.Exposition)
    make_canary_relay = dishka.provide(health.CanaryRelay)
    make_canary_reception = dishka.provide(health.CanaryReception)
    make_canary_check = dishka.provide(health.CanaryCheck)
    make_pipeline_check = dishka.provide(health.PipelineCheck)

    @dishka.provide
    def make_heartbeat(
        self, check: health.PipelineCheck, ping: ports.Ping, app_settings: settings.Settings
    ) -> health.Heartbeat:
        """The dead-man's switch at the settings' URL."""
        return health.Heartbeat(check=check, ping=ping, url=app_settings.heartbeat_url)
