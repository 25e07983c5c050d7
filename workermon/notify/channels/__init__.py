"""The types of channel, one file each; ``CHANNEL_TYPES`` lists them."""

from __future__ import annotations

from collections.abc import Mapping

from workermon.notify.channel_type import ChannelType
from workermon.notify.channels import alertmanager, apprise, email, log, own, pagerduty, slack, sns, webhook

#: The types that come with workermon, in the order in which an error lists them.
CHANNEL_TYPES: Mapping[str, ChannelType] = {
    "webhook": webhook.TYPE,
    "log": log.TYPE,
    "slack": slack.TYPE,
    "pagerduty": pagerduty.TYPE,
    "sns": sns.TYPE,
    "email": email.TYPE,
    "alertmanager": alertmanager.TYPE,
    "apprise": apprise.TYPE,
}


def installed() -> Mapping[str, ChannelType]:
    """Return these types, and those of your own that packages name by entry points."""
    return {**CHANNEL_TYPES, **{name: kind for name, kind in own.load().items() if name not in CHANNEL_TYPES}}
