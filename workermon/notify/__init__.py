"""Deliver: sends the notifications in the outbox to their channels."""

from __future__ import annotations

from workermon.notify.channel_test import ChannelTest
from workermon.notify.channel_watch import ChannelWatch
from workermon.notify.delivery import Delivery

__all__ = ["ChannelTest", "ChannelWatch", "Delivery"]
