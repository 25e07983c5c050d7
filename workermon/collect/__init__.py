"""Collect: takes identifiers, writes samples to the ledger, and publishes one event per worker on the channel."""

from workermon.collect.bulkhead import Bulkhead as Bulkhead
from workermon.collect.collection import Collection as Collection
from workermon.collect.collection import Report as Report
from workermon.collect.event_queue import QueueReading as QueueReading
from workermon.collect.event_queue import SeenEvents as SeenEvents
from workermon.collect.listing_plan import ListingPlan as ListingPlan
from workermon.collect.lost_metrics import LostMetrics as LostMetrics
from workermon.collect.pacer import Pacer as Pacer
from workermon.collect.placement import PLACED_EVERY as PLACED_EVERY
from workermon.collect.placement import CohortPlacement as CohortPlacement
from workermon.collect.quiet_time import QuietTime as QuietTime
from workermon.collect.rolling_up import RollingUp as RollingUp
from workermon.collect.status_listing import StatusListing as StatusListing
