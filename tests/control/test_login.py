"""Log in, second factor, recovery codes, throttle."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from oms.core.models import AuditEntry, Membership, User

PASSWORD = "a-long-password-9"
pytestmark = pytest.mark.django_db


@pytest.fixture
def mara() -> User:
    user = User.objects.create_user("mara", "mara@example.com", PASSWORD)
    Membership.objects.create(user=user, role="owner")
    return user


def code_of(device: TOTPDevice, drift: int = 0) -> str:
    totp = TOTP(device.bin_key, device.step, device.t0, device.digits, device.drift + drift)
    return f"{totp.token():06d}"


def test_right_password_leads_to_the_wanted_page_and_is_recorded(client: Client, mara: User) -> None:
    answer = client.post("/login/", {"username": "mara", "password": PASSWORD, "next": "/jobs/"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/jobs/")
    assert AuditEntry.objects.get(action="login.ok").actor == "user:mara"


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_next_never_leads_to_another_site(client: Client, mara: User, target: str) -> None:
    answer = client.post("/login/", {"username": "mara", "password": PASSWORD, "next": target})
    assert answer.headers["Location"] == "/"


def test_wrong_password_says_the_same_for_known_and_unknown_names(client: Client, mara: User) -> None:
    known = client.post("/login/", {"username": "mara", "password": "wrong"})
    unknown = client.post("/login/", {"username": "nobody", "password": "wrong"})
    assert known.status_code == unknown.status_code == 422
    assert b"User name or password is wrong." in known.content
    assert b"User name or password is wrong." in unknown.content


def test_sixth_try_is_refused_even_with_the_right_password(client: Client, mara: User) -> None:
    for _ in range(5):
        assert client.post("/login/", {"username": "mara", "password": "wrong"}).status_code == 422
    answer = client.post("/login/", {"username": "mara", "password": PASSWORD})
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 60
    assert "_auth_user_id" not in client.session


def test_second_factor_stands_between_password_and_session(client: Client, mara: User) -> None:
    device = TOTPDevice.objects.create(user=mara, confirmed=True)
    answer = client.post("/login/", {"username": "mara", "password": PASSWORD, "next": "/jobs/"})
    assert answer.headers["Location"] == "/login/code/"
    assert client.get("/").status_code == 302, "the password alone opens nothing"
    assert client.post("/login/code/", {"code": "000000"}).status_code == 422
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    answer = client.post("/login/code/", {"code": code_of(device)})
    assert answer.headers["Location"] == "/jobs/"
    assert client.get("/").status_code == 200


def test_the_picture_of_the_key_is_shown_whole(client: Client, mara: User) -> None:
    client.force_login(mara)
    html = client.get("/profile/two-factor/").content.decode()
    picture = html.partition('class="qr-box">')[2].partition(">")[0]
    assert "viewBox" in picture, "without it the style sheet cuts the picture instead of scaling it"


def test_switching_on_gives_codes_that_work_once(client: Client, mara: User) -> None:
    client.force_login(mara)
    client.get("/profile/two-factor/")
    device = TOTPDevice.objects.get(user=mara)
    assert not device.confirmed
    assert client.post("/profile/two-factor/", {"code": "12"}).status_code == 422
    TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
    shown = client.post("/profile/two-factor/", {"code": code_of(device)})
    codes = list(StaticToken.objects.filter(device__user=mara).values_list("token", flat=True))
    assert len(codes) == 10
    assert all(code in shown.content.decode() for code in codes)
    for expected in (302, 422):
        other = Client()
        other.post("/login/", {"username": "mara", "password": PASSWORD})
        assert other.post("/login/code/", {"code": codes[0]}).status_code == expected


def test_switching_off_asks_for_the_password(client: Client, mara: User) -> None:
    TOTPDevice.objects.create(user=mara, confirmed=True)
    client.force_login(mara)
    client.post("/profile/two-factor/off/", {"password": "wrong"})
    assert TOTPDevice.objects.count() == 1
    client.post("/profile/two-factor/off/", {"password": PASSWORD})
    assert TOTPDevice.objects.count() == 0


def test_new_password_ends_the_other_sessions_and_keeps_this_one(client: Client, mara: User) -> None:
    other = Client()
    for one in (client, other):
        one.post("/login/", {"username": "mara", "password": PASSWORD})
    client.post("/profile/password/", {"password": PASSWORD, "new_password": "short"})
    mara.refresh_from_db()
    assert mara.check_password(PASSWORD), "a weak password changes nothing"
    client.post("/profile/password/", {"password": PASSWORD, "new_password": "another-long-word-7"})
    assert client.get("/profile/").status_code == 200
    assert other.get("/profile/").status_code == 302


def test_log_out_refuses_get(client: Client, mara: User) -> None:
    client.force_login(mara)
    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/").headers["Location"] == "/login/"
    assert client.get("/").status_code == 302


def test_admin_has_no_log_in_of_its_own(client: Client, mara: User) -> None:
    answer = client.get("/admin/login/?next=/admin/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/login/?next=/admin/")
    client.force_login(mara)
    assert client.get("/login/?next=/admin/").status_code == 403, "not staff: no endless round trip"


def test_guarded_roles_must_set_up_a_second_factor(client: Client, mara: User, settings: Any) -> None:
    settings.REQUIRE_SECOND_FACTOR = True
    client.force_login(mara)
    mara.is_staff = True
    mara.save()
    for path in ("/", "/settings/", "/admin/"):
        assert client.get(path).headers["Location"] == "/profile/two-factor/"
    assert client.get("/", headers={"HX-Request": "true"}).headers["HX-Redirect"] == "/profile/two-factor/"
    client.get("/profile/two-factor/")
    device = TOTPDevice.objects.get(user=mara)
    client.post("/profile/two-factor/", {"code": code_of(device)})
    assert client.get("/settings/").status_code == 200


def test_other_roles_are_not_asked(client: Client, settings: Any) -> None:
    settings.REQUIRE_SECOND_FACTOR = True
    viewer = User.objects.create_user("val", password=PASSWORD)
    Membership.objects.create(user=viewer, role="viewer")
    client.force_login(viewer)
    assert client.get("/").status_code == 200
