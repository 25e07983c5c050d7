"""SQS: the messages of an event queue; and EventBridge, which fills it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import botocore.exceptions

from workermon import errors, models, ports
from workermon.on_aws import session

_MISSING = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "InvalidAddress"})


class AwsEventQueues:
    """``ports.EventQueues`` over boto3."""

    def __init__(self, sessions: session.Sessions) -> None:
        self._sessions = sessions

    def receive(self, scope: models.AccountRegion, queue_url: str, wait: int) -> list[ports.QueueMessage]:
        """Wait up to ``wait`` seconds for messages, 10 at most."""
        answer = self._ask(
            scope, queue_url, "receive_message", MaxNumberOfMessages=ports.MAX_QUEUE_MESSAGES, WaitTimeSeconds=wait
        )
        with self._sessions.asking(_subject(queue_url), scope):
            return [
                ports.QueueMessage(receipt=str(message["ReceiptHandle"]), body=str(message.get("Body", "")))
                for message in answer.get("Messages") or ()
            ]

    def delete(self, scope: models.AccountRegion, queue_url: str, receipts: Sequence[str]) -> None:
        """Delete messages. SQS delivers again whatever is not deleted."""
        for start in range(0, len(receipts), ports.MAX_QUEUE_MESSAGES):
            entries = [
                {"Id": str(place), "ReceiptHandle": receipt}
                for place, receipt in enumerate(receipts[start : start + ports.MAX_QUEUE_MESSAGES])
            ]
            self._ask(scope, queue_url, "delete_message_batch", Entries=entries)

    def send(self, scope: models.AccountRegion, queue_url: str, body: str) -> None:
        """Put a message into the queue."""
        self._ask(scope, queue_url, "send_message", MessageBody=body)

    def publish(self, scope: models.AccountRegion, source: str, kind: str, detail: Mapping[str, float]) -> None:
        """Put an event on the default event bus."""
        entry = {"Source": source, "DetailType": kind, "Detail": json.dumps(dict(detail))}
        with self._sessions.asking("EventBridge", scope):
            answer = self._sessions.events(scope).put_events(Entries=[entry])
        if answer.get("FailedEntryCount"):
            code = str(answer["Entries"][0].get("ErrorCode"))
            raise errors.AwsError(f"EventBridge in {scope.region}", f"PutEvents: {code}", "try again")

    def _ask(self, scope: models.AccountRegion, queue_url: str, operation: str, **request: Any) -> Any:
        with self._sessions.asking(_subject(queue_url), scope):
            client = self._sessions.sqs(scope)
            try:
                if operation == "receive_message":
                    return client.receive_message(QueueUrl=queue_url, **request)
                if operation == "delete_message_batch":
                    return client.delete_message_batch(QueueUrl=queue_url, **request)
                return client.send_message(QueueUrl=queue_url, MessageBody=request["MessageBody"])
            except botocore.exceptions.ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _MISSING:
                    raise
        raise errors.AwsError(
            f"{_subject(queue_url)} in {scope.region}",
            "it does not exist there",
            "correct queue_url, or create it with 'workermon events setup'",
        )


def _subject(queue_url: str) -> str:
    return f"SQS queue {queue_url.rpartition('/')[2]}"
