"""SNS: one message to one topic. It has clients of its own, because a delivery must end before its lease does."""

from __future__ import annotations

import json
import threading
from typing import Any

import boto3
import botocore.config
import botocore.exceptions

from workermon import errors, models
from workermon.on_aws import error_kinds, session

#: Seconds. Together less than the lease of a delivery (15 s). The outbox retries what fails, not this module.
CONNECT_TIMEOUT, READ_TIMEOUT = 3, 8


_CONFIG = botocore.config.Config(
    connect_timeout=CONNECT_TIMEOUT,
    read_timeout=READ_TIMEOUT,
    retries={"mode": "standard", "total_max_attempts": 1},
    max_pool_connections=session.CONNECTIONS,
    user_agent_extra="workermon",
)


class AwsPublisher:
    """``ports.Publisher`` over boto3; clients are made at first use, one for each region."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    def publish(self, topic_arn: str, message: models.TopicMessage) -> None:
        """Publish to the topic, in the region of its ARN."""
        scope = models.AccountRegion(region=topic_arn.split(":")[3])
        request: dict[str, Any] = {
            "TopicArn": topic_arn,
            "Subject": message.subject,
            "Message": json.dumps(message.texts, ensure_ascii=False),
            "MessageStructure": "json",
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": value}
                for name, value in message.attributes.items()
                if value
            },
        }
        if topic_arn.endswith(".fifo"):
            request["MessageGroupId"] = _fitting(message.group)
            request["MessageDeduplicationId"] = _fitting(message.identity)
        try:
            self._client(scope.region).publish(**request)
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError, ValueError) as error:
            raise self._translate(error, topic_arn, scope) from None

    def _client(self, region: str) -> Any:
        with self._lock:
            if region not in self._clients:
                self._clients[region] = boto3.Session().client("sns", region_name=region, config=_CONFIG)
            return self._clients[region]

    def _translate(self, error: Exception, topic_arn: str, scope: models.AccountRegion) -> errors.AwsError:
        translated = error_kinds.translate(error, f"SNS topic {topic_arn.rpartition(':')[2]}", scope)
        if isinstance(translated, errors.AwsDenied):
            # Corrected credentials take effect with the next attempt.
            with self._lock:
                self._clients.pop(scope.region, None)
        return translated


def _fitting(text: str) -> str:
    """Turn a text into one that SNS accepts for a group or an identity: 128 ASCII characters without spaces."""
    return "".join(letter if 33 <= ord(letter) <= 126 else "_" for letter in text)[:128]
