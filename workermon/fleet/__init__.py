"""The fleet: which workers are monitored, and how repository, schedule and EC2 are kept consistent.

Everything is verified before the first write. If a crash leaves repository and schedule inconsistent,
``Reconciliation`` finds and repairs that. Every call may be repeated.
"""

from workermon.fleet.account_regions import ScopeLookup as ScopeLookup
from workermon.fleet.adding import Adding as Adding
from workermon.fleet.adding import AddOptions as AddOptions
from workermon.fleet.adding import Registration as Registration
from workermon.fleet.apply import Application as Application
from workermon.fleet.apply import Preview as Preview
from workermon.fleet.backup import BackingUp as BackingUp
from workermon.fleet.backup import Restored as Restored
from workermon.fleet.backup import Restoring as Restoring
from workermon.fleet.change_report import ChangeReport as ChangeReport
from workermon.fleet.change_report import ChangeReporting as ChangeReporting
from workermon.fleet.cleanup import AccountClosing as AccountClosing
from workermon.fleet.cleanup import OrphanedChannelAlerts as OrphanedChannelAlerts
from workermon.fleet.cleanup import Retiring as Retiring
from workermon.fleet.coverage import CheckedCoverage as CheckedCoverage
from workermon.fleet.coverage import RuleCoverage as RuleCoverage
from workermon.fleet.coverage import check_coverage as check_coverage
from workermon.fleet.discovery import DiscoverComparison as DiscoverComparison
from workermon.fleet.discovery import Discovered as Discovered
from workermon.fleet.discovery import Discovery as Discovery
from workermon.fleet.discovery import TagSearch as TagSearch
from workermon.fleet.lookup import Lookup as Lookup
from workermon.fleet.lookup import match as match
from workermon.fleet.lookup import unknown_error as unknown_error
from workermon.fleet.pausing import Pausing as Pausing
from workermon.fleet.pausing import Resuming as Resuming
from workermon.fleet.plan import ApplyOptions as ApplyOptions
from workermon.fleet.plan import Planning as Planning
from workermon.fleet.price import Comparison as Comparison
from workermon.fleet.price import MonthlyPrice as MonthlyPrice
from workermon.fleet.price import Price as Price
from workermon.fleet.price import Pricing as Pricing
from workermon.fleet.reconcile import RECONCILED_EVERY as RECONCILED_EVERY
from workermon.fleet.reconcile import Reconciled as Reconciled
from workermon.fleet.reconcile import Reconciliation as Reconciliation
from workermon.fleet.regions import Regions as Regions
from workermon.fleet.removing import Removed as Removed
from workermon.fleet.removing import Removing as Removing
from workermon.fleet.repairs import Repair as Repair
from workermon.fleet.scheduling import Scheduling as Scheduling
from workermon.fleet.single_run import SingleRun as SingleRun
