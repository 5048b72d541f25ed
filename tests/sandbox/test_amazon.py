"""A played Amazon seller account behaves as the Selling Partner API does."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from channels.sandbox.client import SandboxClient
from tests.sandbox.helpers import ADDRESS, Seller


@pytest.fixture
def seller(sandbox: SandboxClient, http: httpx.Client) -> Seller:
    return Seller(sandbox, http)


def ago(**span: float) -> str:
    return (datetime.now(UTC) - timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%SZ")


def search(seller: Seller, **params: str) -> httpx.Response:
    return seller.call("GET", "/orders/2026-01-01/orders", params=params)


# --- tokens -------------------------------------------------------------------------------------------------
def test_tokens_are_issued_expire_and_are_refused(seller: Seller) -> None:
    issued = seller.login().json()
    assert issued["expires_in"] == 3600 and issued["token_type"] == "bearer"
    assert seller.login(client_secret="wrong").json()["error"] == "invalid_client"
    assert seller.login(refresh_token="wrong").json()["error"] == "invalid_grant"
    path = "/sellers/v1/marketplaceParticipations"
    assert seller.call("GET", path, token=issued["access_token"]).status_code == 200
    seller.sandbox.expire_token("A1")
    refused = seller.call("GET", path, token=issued["access_token"])
    assert refused.status_code == 403
    assert refused.json()["errors"][0]["details"] == "The access token you provided has expired."
    assert seller.call("GET", path, token="Atza|none").status_code == 403
    fresh = seller.login().json()["access_token"]
    assert seller.call("GET", path, token=fresh).status_code == 200
    seller.sandbox.advance(3601)
    assert seller.call("GET", path, token=fresh).status_code == 403


# --- orders -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "Exactly one of"),
        (
            {"createdAfter": "2026-01-01T00:00:00Z", "lastUpdatedAfter": "2026-01-01T00:00:00Z"},
            "Exactly one of",
        ),
        (
            {"lastUpdatedAfter": "2026-01-01T00:00:00Z", "createdBefore": "2026-01-02T00:00:00Z"},
            "cannot be combined",
        ),
        ({"lastUpdatedAfter": "yesterday"}, "ISO 8601"),
        ({"lastUpdatedAfter": "2026-01-01T00:00:00Z", "fulfillmentStatuses": "NOPE"}, "fulfillmentStatuses"),
        ({"lastUpdatedAfter": "2026-01-01T00:00:00Z", "maxResultsPerPage": "101"}, "maxResultsPerPage"),
        ({"lastUpdatedAfter": "2026-01-01T00:00:00Z", "includedData": "ADDRESS"}, "includedData"),
        ({"lastUpdatedAfter": "2026-01-01T00:00:00Z", "MarketplaceIds": "X"}, "not a known parameter"),
    ],
)
def test_searches_the_specification_forbids(seller: Seller, params: dict[str, str], words: str) -> None:
    answer = search(seller, **params)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == "InvalidInput"
    assert words in answer.json()["errors"][0]["message"]


def test_a_bound_within_the_last_two_minutes_is_refused(seller: Seller) -> None:
    answer = search(seller, lastUpdatedAfter=ago(hours=1), lastUpdatedBefore=ago(seconds=10))
    assert "two minutes before" in answer.json()["errors"][0]["message"]


def test_new_orders_show_after_two_minutes_and_pages_follow(seller: Seller) -> None:
    placed = [seller.sandbox.place_order("A1", [{"sku": "MUG"}])["id"] for _ in range(3)]
    early = search(seller, lastUpdatedAfter=ago(hours=1)).json()
    assert early["orders"] == []
    until = datetime.fromisoformat(early["lastUpdatedBefore"])
    assert timedelta(seconds=115) < datetime.now(UTC) - until < timedelta(seconds=125)
    seller.sandbox.advance(121)
    first = search(seller, lastUpdatedAfter=ago(hours=1), maxResultsPerPage="2").json()
    assert [order["orderId"] for order in first["orders"]] == placed[:2]
    token = first["pagination"]["nextToken"]
    other = search(seller, lastUpdatedAfter=ago(hours=2), maxResultsPerPage="2", paginationToken=token)
    assert "other parameters" in other.json()["errors"][0]["message"]
    began = (
        seller.sandbox.requests("A1", "searchOrders")[-2]["target"]
        .split("lastUpdatedAfter=")[1]
        .split("&")[0]
    )
    after = httpx.URL(f"http://x/?a={began}").params["a"]
    rest = search(seller, lastUpdatedAfter=after, maxResultsPerPage="2", paginationToken=token).json()
    assert [order["orderId"] for order in rest["orders"]] == placed[2:]
    assert "pagination" not in rest


def test_a_pending_order_hides_address_and_prices_until_paid(seller: Seller) -> None:
    placed = seller.sandbox.place_order(
        "A1", [{"sku": "MUG", "quantity": 2}], address=ADDRESS, payment="pending"
    )
    data = "RECIPIENT,PROCEEDS,FULFILLMENT"
    pending = seller.order(placed["id"], data)
    assert pending["fulfillment"]["fulfillmentStatus"] == "PENDING"
    assert "recipient" not in pending and "proceeds" not in pending
    assert "price" not in pending["orderItems"][0]["product"]
    assert seller.sandbox.available("A1", "MUG") == 8
    seller.sandbox.act("A1", placed["id"], "pay")
    paid = seller.order(placed["id"], data)
    assert paid["fulfillment"]["fulfillmentStatus"] == "UNSHIPPED"
    assert paid["recipient"]["deliveryAddress"]["stateOrRegion"] == "MA"
    assert paid["proceeds"]["grandTotal"] == {"amount": "28.00", "currencyCode": "USD"}
    assert set(seller.order(placed["id"], "BUYER")) == {
        "orderId",
        "createdTime",
        "lastUpdatedTime",
        "salesChannel",
        "orderItems",
        "buyer",
    }


def test_shipping_in_packages_and_editing_one(seller: Seller) -> None:
    placed = seller.sandbox.place_order(
        "A1", [{"sku": "MUG", "quantity": 3}, {"sku": "BOWL"}], address=ADDRESS
    )
    mug, bowl = (line["id"] for line in placed["lines"])
    assert seller.confirm(placed["id"], [(mug, 4)]).status_code == 400
    assert seller.confirm(placed["id"], [(mug, 2)], "1").status_code == 204
    assert seller.order(placed["id"])["fulfillment"]["fulfillmentStatus"] == "PARTIALLY_SHIPPED"
    assert seller.confirm(placed["id"], [(mug, 2)], "1", trackingNumber="1Z-NEW").status_code == 204
    order = seller.order(placed["id"])
    assert [(p["packageReferenceId"], p["trackingNumber"]) for p in order["packages"]] == [("1", "1Z-NEW")]
    assert order["orderItems"][0]["fulfillment"] == {"quantityFulfilled": 2, "quantityUnfulfilled": 1}
    assert seller.confirm(placed["id"], [(mug, 1), (bowl, 1)], "2").status_code == 204
    order = seller.order(placed["id"])
    assert order["fulfillment"]["fulfillmentStatus"] == "SHIPPED"
    assert [item["quantity"] for package in order["packages"] for item in package["packageItems"]] == [
        2,
        1,
        1,
    ]
    level = seller.sandbox.stock("A1", "MUG")["MUG"]["locations"]["DEFAULT"]
    assert (level["available"], level["committed"]) == (7, 0)


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ({"packageReferenceId": "P-1"}, "packageReferenceId"),
        ({"carrierCode": None}, "carrierCode"),
        ({"carrierCode": "Other"}, "carrierName is required"),
        ({"shipDate": "2026-11-23"}, "shipDate"),
        ({"trackingNo": "1Z"}, "not a known field"),
    ],
)
def test_confirmations_the_specification_forbids(seller: Seller, detail: dict, words: str) -> None:
    placed = seller.sandbox.place_order("A1", [{"sku": "MUG"}])
    answer = seller.confirm(placed["id"], [(placed["lines"][0]["id"], 1)], **detail)
    assert answer.status_code == 400
    assert words in answer.json()["errors"][0]["message"]
    assert "packages" not in seller.order(placed["id"], "FULFILLMENT")
    assert seller.sandbox.fulfilments("A1") == []


def test_orders_that_cannot_be_confirmed(seller: Seller) -> None:
    pending = seller.sandbox.place_order("A1", [{"sku": "MUG"}], payment="pending")
    by_amazon = seller.sandbox.place_order("A1", [{"sku": "MUG-FBA"}])
    for order in (pending, by_amazon):
        assert seller.confirm(order["id"], [(order["lines"][0]["id"], 1)]).status_code == 400
    assert seller.confirm("113-0000000-0000000", [("1", 1)]).status_code == 404


# --- listings -------------------------------------------------------------------------------------------------
def test_merge_keeps_the_lead_time_and_replace_drops_it(seller: Seller) -> None:
    seller.patch(
        "MUG", {"fulfillment_channel_code": "DEFAULT", "quantity": 9, "lead_time_to_ship_max_days": 3}
    )
    done = seller.patch("MUG", {"fulfillment_channel_code": "DEFAULT", "quantity": 8}).json()
    assert done["status"] == "ACCEPTED" and done["issues"] == []
    state = seller.sandbox.stock("A1", "MUG")["MUG"]
    assert (state["available"], state["attributes"]) == (8, {"lead_time_to_ship_max_days": 3})
    seller.patch("MUG", {"fulfillment_channel_code": "DEFAULT", "quantity": 7}, op="replace")
    assert seller.sandbox.stock("A1", "MUG")["MUG"]["attributes"] == {}
    path = "/listings/2021-08-01/items/A1/MUG"
    read = seller.call(
        "GET", path, params={"marketplaceIds": seller.marketplace, "includedData": "fulfillmentAvailability"}
    )
    assert read.json() == {
        "sku": "MUG",
        "fulfillmentAvailability": [{"fulfillmentChannelCode": "DEFAULT", "quantity": 7}],
    }


@pytest.mark.parametrize(
    "value",
    [
        {"fulfillment_channel_code": "DEFAULT", "quantity": -1},
        {"fulfillment_channel_code": "DEFAULT", "quantity": "7"},
        {"fulfillment_channel_code": "SHOP", "quantity": 7},
        {"fulfillment_channel_code": "DEFAULT", "quantity": 7, "qty": 7},
    ],
)
def test_an_invalid_attribute_is_answered_200_invalid(seller: Seller, value: dict) -> None:
    answer = seller.patch("MUG", value)
    assert answer.status_code == 200
    assert answer.json()["status"] == "INVALID"
    assert answer.json()["issues"][0]["severity"] == "ERROR"
    assert seller.sandbox.available("A1", "MUG") == 10


def test_a_preview_changes_nothing_and_a_wrong_body_is_400(seller: Seller) -> None:
    value = {"fulfillment_channel_code": "DEFAULT", "quantity": 1}
    assert seller.patch("MUG", value, mode="VALIDATION_PREVIEW").json()["status"] == "VALID"
    assert seller.sandbox.available("A1", "MUG") == 10
    assert seller.patch("MUG", value, op="set").status_code == 400
    path = "/listings/2021-08-01/items/A1/MUG"
    params = {"marketplaceIds": seller.marketplace}
    assert seller.call("PATCH", path, params=params, json={"patches": []}).status_code == 400
    assert seller.call("PATCH", path, json={}).status_code == 400
    other = f"/listings/2021-08-01/items/A2/MUG?marketplaceIds={seller.marketplace}"
    assert seller.call("GET", other).status_code == 403


def test_a_merchant_quantity_on_an_fba_offer_is_the_costly_mistake(seller: Seller) -> None:
    seller.patch("MUG-FBA", {"fulfillment_channel_code": "DEFAULT", "quantity": 1})
    assert seller.sandbox.shop("A1")["counts"]["fba_converted_to_mfn"] == 1


def test_five_patches_a_second(seller: Seller) -> None:
    value = {"fulfillment_channel_code": "DEFAULT", "quantity": 5}
    answers = [seller.patch("MUG", value) for _ in range(8)]
    statuses = [answer.status_code for answer in answers]
    assert statuses[:5] == [200] * 5 and statuses[-1] == 429
    assert answers[-1].json()["errors"][0]["code"] == "QuotaExceeded"
    seller.sandbox.advance(1)
    assert seller.patch("MUG", value).status_code == 200


def test_listings_are_searched_in_pages(sandbox: SandboxClient, http: httpx.Client) -> None:
    seller = Seller(sandbox, http, catalogue=[{"sku": f"S-{number:02d}", "stock": 1} for number in range(25)])
    params = {"marketplaceIds": seller.marketplace, "sortBy": "sku", "sortOrder": "ASC", "pageSize": "20"}
    first = seller.call("GET", "/listings/2021-08-01/items/A1", params=params).json()
    assert first["numberOfResults"] == 25 and len(first["items"]) == 20
    params["pageToken"] = first["pagination"]["nextToken"]
    second = seller.call("GET", "/listings/2021-08-01/items/A1", params=params).json()
    assert [item["sku"] for item in second["items"]] == [f"S-{number}" for number in range(20, 25)]


# --- Amazon's own warehouse ---------------------------------------------------------------------------------
def test_the_fba_pool_sells_and_ships_by_itself(seller: Seller) -> None:
    placed = seller.sandbox.place_order("A1", [{"sku": "MUG-FBA", "quantity": 2}], address=ADDRESS)
    order = seller.order(placed["id"], "FULFILLMENT,RECIPIENT,PACKAGES")
    assert order["fulfillment"]["fulfilledBy"] == "AMAZON"
    assert "phone" not in order["recipient"]["deliveryAddress"] and "packages" not in order

    def pool() -> tuple[int, int, int]:
        params = {
            "details": "true",
            "granularityType": "Marketplace",
            "granularityId": seller.marketplace,
            "marketplaceIds": seller.marketplace,
        }
        summary = seller.call("GET", "/fba/inventory/v1/summaries", params=params).json()["payload"][
            "inventorySummaries"
        ]
        assert [row["sellerSku"] for row in summary] == ["MUG-FBA"]
        details = summary[0]["inventoryDetails"]
        reserved = details["reservedQuantity"]["pendingCustomerOrderQuantity"]
        return details["fulfillableQuantity"], reserved, summary[0]["totalQuantity"]

    assert pool() == (3, 2, 5)
    seller.sandbox.act("A1", placed["id"], "ship")
    assert pool() == (3, 0, 3)
    assert seller.order(placed["id"])["fulfillment"]["fulfillmentStatus"] == "SHIPPED"


# --- feeds ----------------------------------------------------------------------------------------------------
def test_a_listings_feed_is_accepted_later_and_reports_per_message(seller: Seller) -> None:
    def message(number: int, sku: str, quantity: int) -> dict:
        value = [{"fulfillment_channel_code": "DEFAULT", "quantity": quantity}]
        patch = {"op": "merge", "path": "/attributes/fulfillment_availability", "value": value}
        kind = {"messageId": number, "sku": sku, "operationType": "PATCH", "productType": "PRODUCT"}
        return {**kind, "patches": [patch]}

    messages = [message(1, "MUG", 6), message(2, "NOPE", 1), message(3, "BOWL", -2)]
    content = json.dumps({"header": {"sellerId": "A1", "version": "2.0"}, "messages": messages})
    feed, text = seller.feed("JSON_LISTINGS_FEED", content, "application/json; charset=UTF-8")
    assert feed["processingStatus"] == "DONE"
    report = json.loads(text)
    assert report["summary"]["messagesAccepted"] == 1 and report["summary"]["messagesInvalid"] == 2
    assert [issue["messageId"] for issue in report["issues"]] == [2, 3]
    assert seller.sandbox.available("A1", "MUG") == 6 and seller.sandbox.available("A1", "BOWL") == 4


def test_an_unreadable_feed_is_fatal(seller: Seller) -> None:
    feed, _ = seller.feed(
        "JSON_LISTINGS_FEED", '{"header": {}, "messages": []}', "application/json; charset=UTF-8"
    )
    assert feed["processingStatus"] == "FATAL"


def envelope(kind: str, inner: str) -> str:
    return (
        "<AmazonEnvelope><Header><DocumentVersion>1.01</DocumentVersion><MerchantIdentifier>A1</MerchantIdentifier>"
        f"</Header><MessageType>{kind}</MessageType><Message><MessageID>1</MessageID>{inner}</Message></AmazonEnvelope>"
    )


def test_cancelling_by_acknowledgement_feed(seller: Seller) -> None:
    placed = seller.sandbox.place_order("A1", [{"sku": "MUG", "quantity": 2}])
    item = f"<Item><AmazonOrderItemCode>{placed['lines'][0]['id']}</AmazonOrderItemCode>"
    inner = (
        f"<OrderAcknowledgement><AmazonOrderID>{placed['id']}</AmazonOrderID><StatusCode>Failure</StatusCode>"
        f"{item}<CancelReason>NoInventory</CancelReason></Item></OrderAcknowledgement>"
    )
    _, report = seller.feed(
        "POST_ORDER_ACKNOWLEDGEMENT_DATA", envelope("OrderAcknowledgement", inner), "text/xml"
    )
    assert "<MessagesWithError>0<" in report
    order = seller.order(placed["id"])
    assert order["fulfillment"]["fulfillmentStatus"] == "CANCELLED"
    assert order["orderItems"][0]["cancellation"]["cancellationExecution"]["cancelReason"] == "NoInventory"
    assert seller.sandbox.available("A1", "MUG") == 8
    assert seller.sandbox.shop("A1")["counts"]["cancelled_no_stock"] == 1
    _, again = seller.feed(
        "POST_ORDER_ACKNOWLEDGEMENT_DATA", envelope("OrderAcknowledgement", inner), "text/xml"
    )
    assert "already cancelled" in again


def test_refunding_by_adjustment_feed_never_beyond_the_price(seller: Seller) -> None:
    placed = seller.sandbox.place_order("A1", [{"sku": "MUG", "quantity": 2}])
    line = placed["lines"][0]["id"]
    seller.confirm(placed["id"], [(line, 2)])

    def refund(amount: str) -> str:
        component = f'<Component><Type>Principal</Type><Amount currency="USD">{amount}</Amount></Component>'
        inner = (
            f"<OrderAdjustment><AmazonOrderID>{placed['id']}</AmazonOrderID><AdjustedItem>"
            f"<AmazonOrderItemCode>{line}</AmazonOrderItemCode><AdjustmentReason>CustomerReturn</AdjustmentReason>"
            f"<ItemPriceAdjustments>{component}</ItemPriceAdjustments></AdjustedItem></OrderAdjustment>"
        )
        return seller.feed("POST_PAYMENT_ADJUSTMENT_DATA", envelope("OrderAdjustment", inner), "text/xml")[1]

    assert "<MessagesSuccessful>1<" in refund("14.00")
    assert "exceeds what was paid for the item: 14.00 is left" in refund("14.01")
    assert [row["amount"] for row in seller.sandbox.refunds("A1")] == ["14.00"]


# --- notifications and the queue ------------------------------------------------------------------------------
def test_destination_subscription_and_messages(seller: Seller) -> None:
    grantless = seller.grantless()
    body = {"name": "queue", "resourceSpecification": {"sqs": {"arn": seller.facts["queue_arn"]}}}
    assert seller.call("POST", "/notifications/v1/destinations", json=body).status_code == 403
    made = seller.call("POST", "/notifications/v1/destinations", token=grantless, json=body).json()["payload"]
    wrong = {**body, "resourceSpecification": {"sqs": {"arn": "queue"}}}
    assert (
        seller.call("POST", "/notifications/v1/destinations", token=grantless, json=wrong).status_code == 400
    )
    wish = {"payloadVersion": "1.0", "destinationId": made["destinationId"]}
    path = "/notifications/v1/subscriptions/ORDER_CHANGE"
    assert seller.call("GET", path).status_code == 404
    subscription = seller.call("POST", path, json=wish).json()["payload"]
    assert seller.call("POST", path, json=wish).status_code == 409
    assert seller.call("GET", path).json()["payload"] == subscription
    placed = seller.sandbox.place_order("A1", [{"sku": "MUG", "quantity": 2}], prime=True)
    message = seller.receive()[0]
    note = json.loads(message["Body"])
    assert note["NotificationType"] == "ORDER_CHANGE"
    assert note["NotificationMetadata"]["SubscriptionId"] == subscription["subscriptionId"]
    change = note["Payload"]["OrderChangeNotification"]
    assert change["AmazonOrderId"] == placed["id"]
    assert change["Summary"]["OrderStatus"] == "Unshipped" and change["Summary"]["FulfillmentType"] == "MFN"
    assert [(i["SellerSKU"], i["Quantity"]) for i in change["Summary"]["OrderItems"]] == [("MUG", 2)]


def test_the_queue_hides_shows_again_and_deletes(sandbox: SandboxClient, http: httpx.Client) -> None:
    seller = Seller(sandbox, http, subscribe=["ORDER_CHANGE"])
    sandbox.place_order("A1", [{"sku": "MUG"}])
    first = seller.receive(VisibilityTimeout=20, AttributeNames=["All"])
    assert len(first) == 1 and first[0]["Attributes"]["ApproximateReceiveCount"] == "1"
    assert seller.receive() == []
    sandbox.advance(21)
    second = seller.receive(MessageSystemAttributeNames=["ApproximateReceiveCount"])
    assert second[0]["MessageId"] == first[0]["MessageId"]
    assert second[0]["Attributes"] == {"ApproximateReceiveCount": "2"}
    url = seller.facts["queue_url"]
    old = seller.sqs("DeleteMessage", {"QueueUrl": url, "ReceiptHandle": first[0]["ReceiptHandle"]})
    assert old.status_code == 200 and len(sandbox.queue("A1")) == 1
    entry = {"Id": "a", "ReceiptHandle": second[0]["ReceiptHandle"]}
    gone = seller.sqs("DeleteMessageBatch", {"QueueUrl": url, "Entries": [entry]})
    assert gone.json() == {"Successful": [{"Id": "a"}], "Failed": []}
    assert sandbox.queue("A1") == []


def test_a_wrong_signature_or_body_is_refused(seller: Seller) -> None:
    url = seller.facts["queue_url"]
    forged = seller.sqs("ReceiveMessage", {"QueueUrl": url}, secret="wrong")
    assert forged.status_code == 403 and forged.json()["__type"].endswith("SignatureDoesNotMatch")
    unsigned = seller.http.post(
        f"{seller.sandbox.url}/sqs.us-east-1.amazonaws.com/",
        content=json.dumps({"QueueUrl": url}),
        headers={"content-type": "application/x-amz-json-1.0", "x-amz-target": "AmazonSQS.ReceiveMessage"},
    )
    assert unsigned.status_code == 403
    assert seller.sqs("ReceiveMessage", {"QueueUrl": url, "MaxNumberOfMessages": 11}).status_code == 400
    assert seller.sqs("ReceiveMessage", {"QueueUrl": url, "Max": 1}).status_code == 400
    missing = seller.sqs("ReceiveMessage", {"QueueUrl": url + "-other"})
    assert missing.json()["__type"].endswith("QueueDoesNotExist")


def test_quantity_and_pool_changes_are_announced(sandbox: SandboxClient, http: httpx.Client) -> None:
    seller = Seller(
        sandbox, http, subscribe=["LISTINGS_ITEM_MFN_QUANTITY_CHANGE", "FBA_INVENTORY_AVAILABILITY_CHANGES"]
    )
    sandbox.set_stock("A1", "MUG", 3)
    sandbox.set_fba("A1", "MUG-FBA", fulfillable=9, inbound_shipped=4)
    notes = {
        json.loads(m["Body"])["NotificationType"]: json.loads(m["Body"])["Payload"] for m in seller.receive()
    }
    assert notes["LISTINGS_ITEM_MFN_QUANTITY_CHANGE"] == {
        "SellerId": "A1",
        "FulfillmentChannelCode": "DEFAULT",
        "Sku": "MUG",
        "Quantity": 3,
    }
    pool = notes["FBA_INVENTORY_AVAILABILITY_CHANGES"]["FulfillmentInventoryByMarketplace"][0][
        "FulfillmentInventory"
    ]
    assert pool["Fulfillable"] == 9 and pool["InboundQuantityBreakdown"]["Shipped"] == 4


def test_a_buyer_asks_for_a_cancellation(sandbox: SandboxClient, http: httpx.Client) -> None:
    seller = Seller(sandbox, http, subscribe=True)
    placed = sandbox.place_order("A1", [{"sku": "MUG"}])
    sandbox.act("A1", placed["id"], "request_cancel")
    item = seller.order(placed["id"])["orderItems"][0]
    assert item["cancellation"]["cancellationRequest"]["requester"] == "BUYER"
    kinds = [
        json.loads(m["Body"])["Payload"]["OrderChangeNotification"]["OrderChangeType"]
        for m in seller.receive()
        if json.loads(m["Body"])["NotificationType"] == "ORDER_CHANGE"
    ]
    assert sorted(kinds) == ["BuyerRequestedChange", "OrderStatusChange"]
