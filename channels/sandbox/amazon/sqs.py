"""The SQS JSON protocol for the sellers' notification queues, with the request signature checked.

Signature Version 4: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from channels.sandbox.amazon.seller import AmazonSeller, Message
from channels.sandbox.check import problems
from channels.sandbox.http import Answer, Request
from channels.sandbox.world import World

CLOCK_SKEW_SECONDS = 900
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/(\d{8})/([a-z0-9-]+)/sqs/aws4_request,\s*"
    r"SignedHeaders=([a-z0-9;-]+),\s*Signature=([0-9a-f]{64})"
)
TEXT = {"type": "string"}
ATTRIBUTE_NAMES = {"type": "array", "items": TEXT}
RECEIPT = {"QueueUrl": TEXT, "ReceiptHandle": TEXT}
SHAPES: dict[str, dict[str, Any]] = {
    "ReceiveMessage": {
        "type": "object",
        "required": ["QueueUrl"],
        "properties": {
            "QueueUrl": TEXT,
            "MaxNumberOfMessages": {"type": "integer", "minimum": 1, "maximum": 10},
            "VisibilityTimeout": {"type": "integer", "minimum": 0, "maximum": 43200},
            "WaitTimeSeconds": {"type": "integer", "minimum": 0, "maximum": 20},
            "AttributeNames": ATTRIBUTE_NAMES,
            "MessageSystemAttributeNames": ATTRIBUTE_NAMES,
            "MessageAttributeNames": ATTRIBUTE_NAMES,
            "ReceiveRequestAttemptId": TEXT,
        },
    },
    "DeleteMessage": {"type": "object", "required": ["QueueUrl", "ReceiptHandle"], "properties": RECEIPT},
    "DeleteMessageBatch": {
        "type": "object",
        "required": ["QueueUrl", "Entries"],
        "properties": {
            "QueueUrl": TEXT,
            "Entries": {
                "type": "array",
                "minItems": 1,
                "maxItems": 10,
                "items": {
                    "type": "object",
                    "required": ["Id", "ReceiptHandle"],
                    "properties": {"Id": {"type": "string", "maxLength": 80}, "ReceiptHandle": TEXT},
                },
            },
        },
    },
    "ChangeMessageVisibility": {
        "type": "object",
        "required": ["QueueUrl", "ReceiptHandle", "VisibilityTimeout"],
        "properties": {**RECEIPT, "VisibilityTimeout": {"type": "integer", "minimum": 0, "maximum": 43200}},
    },
    "GetQueueAttributes": {
        "type": "object",
        "required": ["QueueUrl"],
        "properties": {"QueueUrl": TEXT, "AttributeNames": ATTRIBUTE_NAMES},
    },
    "GetQueueUrl": {
        "type": "object",
        "required": ["QueueName"],
        "properties": {"QueueName": TEXT, "QueueOwnerAWSAccountId": TEXT},
    },
}


def sqs_error(code: str, message: str, status: int = 400) -> Answer:
    return Answer.json(
        {"__type": f"com.amazonaws.sqs#{code}", "message": message},
        status,
        {"x-amzn-query-error": f"{code};Sender"},
    )


def signature(secret: str, request: Request, host: str, date: str, region: str, signed: list[str]) -> str:
    """The hex signature that the request must carry; `host` is the host that the client meant."""
    headers = {**request.headers, "host": host}
    canonical = "\n".join(
        [
            request.method,
            quote(unquote(request.raw_path), safe="/-_.~") or "/",
            "&".join(sorted(request.query_string.split("&"))) if request.query_string else "",
            "".join(f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in signed),
            ";".join(signed),
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    scope = f"{date[:8]}/{region}/sqs/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = ("AWS4" + secret).encode()
    for part in (date[:8], region, "sqs", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def check_signature(seller: AmazonSeller, request: Request, host: str) -> Answer | None:
    """The refusal, or None when the request is signed with the account's key."""
    found = AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if not found:
        return sqs_error(
            "MissingAuthenticationToken",
            "Request is missing Authentication Token or it is not AWS4-HMAC-SHA256.",
            403,
        )
    key_id, day, region, names, given = found.groups()
    signed = names.split(";")
    date = request.headers.get("x-amz-date", "")
    if key_id != seller.credentials["aws_access_key_id"]:
        return sqs_error(
            "InvalidClientTokenId", "The security token included in the request is invalid.", 403
        )
    try:
        sent = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return sqs_error("IncompleteSignature", "X-Amz-Date must be given as YYYYMMDDTHHMMSSZ.")
    if abs(sent - time.time()) > CLOCK_SKEW_SECONDS or date[:8] != day:
        return sqs_error("SignatureDoesNotMatch", "Signature expired.", 403)
    if "host" not in signed or "x-amz-date" not in signed or signed != sorted(signed):
        return sqs_error("IncompleteSignature", "SignedHeaders must be sorted and hold host and x-amz-date.")
    expected = signature(seller.credentials["aws_secret_access_key"], request, host, date, region, signed)
    if not hmac.compare_digest(expected, given):
        return sqs_error(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided.",
            403,
        )
    return None


async def handle(world: World, host: str, request: Request) -> Answer:
    """One call to a queue."""
    target = request.headers.get("x-amz-target", "")
    action = target.removeprefix("AmazonSQS.")
    if request.method != "POST" or action not in SHAPES or not target.startswith("AmazonSQS."):
        return sqs_error(
            "UnknownOperation", f"The action {target or '(none)'} is not valid for this endpoint."
        )
    if request.headers.get("content-type", "").split(";")[0] != "application/x-amz-json-1.0":
        return sqs_error("InvalidContentType", "Content-Type must be application/x-amz-json-1.0.", 415)
    try:
        body = request.json()
    except ValueError:
        return sqs_error("MalformedInput", "The body is not JSON.")
    wrong = problems(body, SHAPES[action])
    if wrong:
        return sqs_error("InvalidParameterValue", "; ".join(wrong))
    name = body["QueueName"] if action == "GetQueueUrl" else body["QueueUrl"].rpartition("/")[2]
    seller = next((s for s in world.shops.values() if isinstance(s, AmazonSeller) and s.queue == name), None)
    if seller is None or host != f"sqs.{seller.queue_region}.amazonaws.com":
        return sqs_error("QueueDoesNotExist", "The specified queue does not exist.")
    refused = check_signature(seller, request, host)
    if refused:
        return await world.perform(seller, f"sqs.{action}", request, lambda: refused)
    if action == "ReceiveMessage":
        return await world.perform(seller, "sqs.ReceiveMessage", request, lambda: receive(seller, body))
    return await world.perform(seller, f"sqs.{action}", request, lambda: act(seller, action, body))


async def receive(seller: AmazonSeller, body: dict[str, Any]) -> Answer:
    """Hand out visible messages; wait up to WaitTimeSeconds for the first one."""
    until = time.monotonic() + body.get("WaitTimeSeconds", 0)
    limit = body.get("MaxNumberOfMessages", 1)
    while True:
        now = seller.world.now()
        ready = [message for message in seller.messages.values() if message.visible_at <= now]
        if ready or time.monotonic() >= until:
            break
        await asyncio.sleep(0.02)
    if seller.faults.webhook_shuffle_ms:
        seller.dice.shuffle(ready)
    names = set(body.get("AttributeNames", [])) | set(body.get("MessageSystemAttributeNames", []))
    found = []
    for message in ready[:limit]:
        message.receives += 1
        message.first_received_at = message.first_received_at or now
        message.visible_at = now + body.get(
            "VisibilityTimeout", seller.settings.get("visibility_timeout", 30)
        )
        message.receipt = f"{message.id}#{message.receives}"
        found.append(_shown(message, names))
    headers = {"content-type": "application/x-amz-json-1.0"}
    return Answer.json({"Messages": found} if found else {}, headers=headers)


def _shown(message: Message, names: set[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "MessageId": message.id,
        "ReceiptHandle": message.receipt,
        "MD5OfBody": hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest(),
        "Body": message.body,
    }
    known = {
        "SenderId": "437568002678",
        "SentTimestamp": str(int(message.sent_at * 1000)),
        "ApproximateReceiveCount": str(message.receives),
        "ApproximateFirstReceiveTimestamp": str(int(message.first_received_at * 1000)),
    }
    attributes = {name: value for name, value in known.items() if name in names or "All" in names}
    return {**shown, "Attributes": attributes} if attributes else shown


def act(seller: AmazonSeller, action: str, body: dict[str, Any]) -> Answer:
    headers = {"content-type": "application/x-amz-json-1.0"}
    if action == "GetQueueUrl":
        return Answer.json({"QueueUrl": seller.queue_url}, headers=headers)
    if action == "GetQueueAttributes":
        now = seller.world.now()
        visible = sum(message.visible_at <= now for message in seller.messages.values())
        attributes = {
            "QueueArn": seller.queue_arn,
            "ApproximateNumberOfMessages": str(visible),
            "ApproximateNumberOfMessagesNotVisible": str(len(seller.messages) - visible),
        }
        return Answer.json({"Attributes": attributes}, headers=headers)
    if action == "DeleteMessage":
        _delete(seller, body["ReceiptHandle"])
        return Answer.json({}, headers=headers)
    if action == "DeleteMessageBatch":
        for entry in body["Entries"]:
            _delete(seller, entry["ReceiptHandle"])
        return Answer.json(
            {"Successful": [{"Id": entry["Id"]} for entry in body["Entries"]], "Failed": []}, headers=headers
        )
    message = seller.messages.get(body["ReceiptHandle"].partition("#")[0])
    if message is None:
        return sqs_error("MessageNotInflight", "The specified message is not in flight.")
    message.visible_at = seller.world.now() + body["VisibilityTimeout"]
    return Answer.json({}, headers=headers)


def _delete(seller: AmazonSeller, receipt: str) -> None:
    """Deleting by an old receipt leaves a message that was handed out again: it may arrive once more."""
    message = seller.messages.get(receipt.partition("#")[0])
    if message is not None and message.receipt == receipt:
        del seller.messages[message.id]
