"""Access: logins by token, session and proxy, roles, and what another site's page cannot do."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from tests.support.commands import A, Ports
from tests.support.serving import Serve
from workermon import models, settings
from workermon.web import app, client_address, gate, login, login_attempts

#: Settings of a page that others reach.
OPEN: dict[str, Any] = {"web_host": "0.0.0.0", "base_url": "http://monitor.example:8650", "client": "192.0.2.7"}
BEHIND: dict[str, Any] = OPEN | {
    "client": "10.0.0.9", "web_proxies": "10.0.0.0/24", "web_user_header": "X-Forwarded-User",
}  # fmt: skip
READ, WRITE = "/api/v1/workers", f"/api/v1/workers/{A}/pause"


@pytest.fixture
def token(world: Ports) -> Callable[..., str]:
    """Give a function that makes a token of a role."""

    def make(role: models.Role, name: str | None = None) -> str:
        text, stored_token = models.make_token(name or role, role, world.clock())
        assert world.access.add(stored_token)
        return text

    return make


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a route that writes for each role."""

    router = APIRouter()

    @router.post("/test/view")
    def view(caller: gate.Viewer) -> str:
        return caller.name

    @router.post("/test/operate")
    def operate(caller: gate.Operator) -> str:
        return caller.name

    @router.post("/test/administer")
    def administer(caller: gate.Admin) -> str:
        return caller.name

    @router.get("/test/who")
    def caller_of(request: Request, caller: gate.Viewer) -> dict[str, str]:
        return {
            "name": caller.name, "role": caller.role, "by": caller.by, "origin": caller.origin,
            "csrf": gate.csrf_token(request, caller),
        }  # fmt: skip

    monkeypatch.setattr(app.ROUTES, "routes", [*router.routes, *app.ROUTES.routes])


pytestmark = pytest.mark.usefixtures("routes")


def bearer(text: str) -> dict[str, str]:
    """Return the header of a token."""
    return {"Authorization": f"Bearer {text}"}


def logged_in(client: TestClient, text: str) -> TestClient:
    """Return a browser that logged in with a token."""
    answer = client.post("/login", data={"token": text}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return client


def csrf(client: TestClient) -> dict[str, str]:
    """Return the header that a script of the page sends with a write."""
    return {"X-CSRF-Token": client.get("/test/who").json()["csrf"]}


# --- loopback ----------------------------------------------------------------------------------------------------


def test_on_loopback_nobody_logs_in(web: TestClient) -> None:
    """On loopback every request is allowed without a login."""
    assert web.get("/test/who").json() | {"csrf": ""} == {
        "name": "local", "role": "admin", "by": "local", "origin": "127.0.0.1", "csrf": "",
    }  # fmt: skip
    assert web.post("/test/administer").status_code == 200


def test_a_token_counts_on_loopback_too(web: TestClient, token: Callable[..., str]) -> None:
    """A viewer's token keeps its role on loopback. A wrong token is refused, although none is needed."""
    assert web.post("/test/operate", headers=bearer(token("viewer"))).status_code == 403
    assert web.get("/test/who", headers=bearer("wmt_x_" + 64 * "0")).status_code == 401


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_a_proxy_that_nobody_named_does_not_open_the_page(web: TestClient, header: str) -> None:
    """Requests that an unknown proxy on this machine forwards do not count as local."""
    answer = web.get("/test/who", headers={header: "203.0.113.5"})
    assert answer.status_code == 401
    assert "WORKERMON_WEB_PROXIES" in answer.json()["detail"]


def test_a_named_proxy_on_loopback_makes_nobody_local(serve: Serve) -> None:
    """Once a proxy is configured, requests from its address need a login, whatever their Host."""
    client = serve(web_proxies="127.0.0.1/32", web_user_header="X-User", base_url="http://monitor.example")
    assert client.get("/test/who").status_code == 401
    assert client.get("/test/who", headers={"X-User": "sam"}).json()["by"] == "proxy"


# --- tokens and roles --------------------------------------------------------------------------------------------


def test_elsewhere_a_login_is_needed(serve: Serve) -> None:
    """Without a login the answer is 401 and says what to send. The probes answer."""
    client = serve(**OPEN)
    answer = client.get(READ)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["action"] == "send Authorization: Bearer TOKEN, or log in at /login"
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200


def routes_of_the_package() -> Iterator[APIRoute]:
    """Yield the routes of each module."""
    for module in pkgutil.iter_modules([str(Path(app.__file__).parent)]):
        values = vars(importlib.import_module(f"workermon.web.{module.name}")).values()
        for router in (value for value in values if isinstance(value, APIRouter)):
            yield from (route for route in router.routes if isinstance(route, APIRoute))


def test_no_route_but_these_answers_without_a_login(serve: Serve) -> None:
    """A route that names no role would answer anybody: only the login, the probes and the static files do."""
    client = serve(**OPEN)
    requests = {(method, route.path) for route in routes_of_the_package() for method in route.methods or ()}
    assert len(requests) > 40
    open_requests = set()
    for method, path in requests:
        answer = client.request(method, re.sub(r"{[^}]*}", "x", path), follow_redirects=False)
        if answer.status_code != 401:
            open_requests.add((method, path))
    static = ("GET", "/static/{version}/{name:path}")
    assert open_requests == {("GET", "/livez"), ("GET", "/readyz"), ("GET", "/login"), static}


@pytest.mark.parametrize(
    ("role", "allowed"),
    [("viewer", ["view"]), ("operator", ["view", "operate"]), ("admin", ["view", "operate", "administer"])],
)
def test_a_role_may_what_the_ones_before_it_may(
    serve: Serve, token: Callable[..., str], role: models.Role, allowed: list[str]
) -> None:
    """Each role includes the lower ones. Anything else gets 403 with the required role."""
    client, text = serve(**OPEN), token(role)
    for name in ("view", "operate", "administer"):
        answer = client.post(f"/test/{name}", headers=bearer(text))
        assert answer.status_code == (200 if name in allowed else 403), name
        if name not in allowed:
            assert answer.json()["action"].startswith("ask for the role ")
            assert text not in answer.text


@pytest.mark.parametrize(
    "value",
    ["Bearer", "Bearer ", "Bearer x", "Basic dTpw", "bearer wmt_ci_1", f"Bearer wmt_ci_{'0' * 64}", "Bearer a b", "é"],
)
def test_what_is_no_token_is_refused(serve: Serve, token: Callable[..., str], value: str) -> None:
    """Anything but a token in the header is 401."""
    token("admin", "ci")
    assert serve(**OPEN).get("/test/who", headers={"Authorization": value.encode()}).status_code == 401


def test_two_authorization_headers_are_none(serve: Serve, token: Callable[..., str]) -> None:
    """Two headers are refused, because a proxy may have checked the other one."""
    headers = [("Authorization", f"Bearer {token('admin')}"), ("Authorization", "Bearer x")]
    assert serve(**OPEN).get("/test/who", headers=headers).status_code == 401


def test_a_revoked_token_ends_at_once(serve: Serve, world: Ports, token: Callable[..., str]) -> None:
    """The request after the revocation is refused, also if a new token of that name was made."""
    client, text = serve(**OPEN), token("admin", "ci")
    assert client.get("/test/who", headers=bearer(text)).status_code == 200
    world.access.remove("ci")
    assert client.get("/test/who", headers=bearer(text)).status_code == 401
    token("admin", "ci")
    assert client.get("/test/who", headers=bearer(text)).status_code == 401


def test_guessing_is_slowed(serve: Serve, world: Ports, token: Callable[..., str]) -> None:
    """After ten wrong attempts the sender has to wait some seconds. Other addresses and names do not."""
    client, good, viewer = serve(**OPEN), token("admin", "ci"), token("viewer", "other")
    wrong = bearer(f"wmt_ci_{'0' * 64}")
    answers = [client.get("/test/who", headers=wrong).status_code for _ in range(12)]
    assert answers == [401] * 10 + [429] * 2
    late = client.get("/test/who", headers=bearer(good))
    assert late.status_code == 429
    assert 0 < int(late.headers["Retry-After"]) < 60
    assert client.get("/test/who", headers=bearer(viewer)).status_code == 200
    assert serve(**OPEN | {"client": "192.0.2.8"}).get("/test/who", headers=bearer(good)).status_code == 200
    world.clock.advance(login_attempts.SECONDS_EACH + 1)
    assert client.get("/test/who", headers=bearer(good)).status_code == 200


def test_failures_are_remembered_in_bounded_memory() -> None:
    """Of any number of failing addresses only the latest are kept. An IPv6 network is one sender."""
    tries = login_attempts.Attempts(lambda: 0.0)
    for number in range(login_attempts.MAX_FAILURES + 50):
        tries.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "x")
    assert len(tries._due) == login_attempts.MAX_FAILURES
    for number in range(login_attempts.FREE_FAILURES):
        tries.failed(f"2001:db8::{number}", "x")
    assert tries.wait("2001:db8::ffff", "x") > 0
    assert tries.wait("2001:db8:1::1", "x") == 0


# --- sessions ----------------------------------------------------------------------------------------------------


def test_a_browser_logs_in_and_out(serve: Serve, token: Callable[..., str]) -> None:
    """Only this page gets the cookie, and no script does. After the log-out it is invalid."""
    client = serve(**OPEN)
    answer = client.post("/login", data={"token": token("operator"), "next": "/alerts?q=a"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/alerts?q=a")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    assert "Secure" not in cookie
    caller = client.get("/test/who").json()
    assert (caller["name"], caller["role"], caller["by"]) == ("operator", "operator", "session")
    stolen = client.cookies[gate.COOKIE]
    assert client.post("/logout", headers=csrf(client), follow_redirects=False).status_code == 303
    assert client.get("/test/who", headers={"Cookie": f"{gate.COOKIE}={stolen}"}).status_code == 401


def test_the_cookie_is_secure_over_tls(serve: Serve, token: Callable[..., str]) -> None:
    """Over TLS, even if a named proxy ends it, the cookie is never sent without TLS."""
    text = token("viewer")
    direct = serve(**OPEN | {"base_url": "https://monitor.example"}).post("/login", data={"token": text})
    assert "Secure" in direct.history[0].headers["set-cookie"]
    behind = serve(**BEHIND).post("/login", data={"token": text}, headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in behind.history[0].headers["set-cookie"]
    made_up = serve(**OPEN).post("/login", data={"token": text}, headers={"X-Forwarded-Proto": "https"})
    assert "Secure" not in made_up.history[0].headers["set-cookie"]


def test_a_wrong_token_is_not_logged_in(serve: Serve) -> None:
    """The page says so without the token, and delays further attempts."""
    client = serve(**OPEN)
    for status in [401] * 10 + [429]:
        answer = client.post("/login", data={"token": "hunter2<script>"})
        assert answer.status_code == status
        assert "hunter2" not in answer.text
        assert "set-cookie" not in answer.headers
    assert "try again in" in answer.text


def test_a_stolen_cookie_ends_with_the_token(serve: Serve, world: Ports, token: Callable[..., str]) -> None:
    """Revoking the token ends its sessions, and a new token of that name does not bring them back."""
    client = logged_in(serve(**OPEN), token("admin", "sam"))
    stolen = {"Cookie": f"{gate.COOKIE}={client.cookies[gate.COOKIE]}"}
    session = world.access.session(models.secret_digest(client.cookies[gate.COOKIE]))
    world.access.remove("sam")
    assert serve(**OPEN).get("/test/who", headers=stolen).status_code == 401
    token("admin", "sam")
    assert session is not None
    world.access.open_session(session)  # as if it had been kept
    answer = serve(**OPEN).get("/test/who", headers=stolen)
    assert answer.status_code == 401
    assert f'{gate.COOKIE}=""' in answer.headers["set-cookie"]


def test_a_session_ends_by_itself(serve: Serve, world: Ports, token: Callable[..., str]) -> None:
    """After twelve hours a new login is needed."""
    client = logged_in(serve(**OPEN), token("viewer"))
    world.clock.advance(gate.SESSION_SECONDS - 1)
    assert client.get("/test/who").status_code == 200
    world.clock.advance(2)
    assert client.get("/test/who").status_code == 401


def test_a_person_is_asked_to_log_in(serve: Serve) -> None:
    """A page without a login leads to the form and back. A script's request gets a problem."""
    client = serve(**OPEN)
    html = {"Accept": "text/html,*/*"}
    answer = client.get("/test/who?a=b", headers=html, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Ftest%2Fwho%3Fa%3Db")
    form = client.get(answer.headers["location"])
    assert 'value="/test/who?a=b"' in form.text
    repeated = client.get("/test/who?a=<b>", headers=html | {"Sec-Fetch-Site": "cross-site"}, follow_redirects=False)
    assert repeated.status_code == 401
    assert re.search(r'http-equiv="refresh" content="0;url=/test/who\?a=%3Cb%3E"', repeated.text)


@pytest.mark.parametrize(
    "to", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "", "/a\r\nSet-Cookie: x=y", "/\t/evil"]
)
def test_a_login_leads_nowhere_else(serve: Serve, token: Callable[..., str], to: str) -> None:
    """A forged ``next`` leads to the page itself, and adds no header."""
    assert login._local(to) == "/"
    answer = serve(**OPEN).post("/login", data={"token": token("viewer"), "next": to}, follow_redirects=False)
    assert answer.headers["location"] == "/"
    assert list(answer.cookies) == [gate.COOKIE]


# --- other sites -------------------------------------------------------------------------------------------------

FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://monitor.example:9999"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_another_site_writes_nothing(serve: Serve, token: Callable[..., str], headers: dict[str, str]) -> None:
    """Whatever login the browser has, and even with the token of the page, a write from elsewhere is refused."""
    browsers = [serve(), logged_in(serve(**OPEN), token("admin")), serve(**BEHIND | {"web_user_role": "admin"})]
    for client in browsers:
        proxied = {"X-Forwarded-User": "sam"} if client is browsers[2] else {}
        csrf_header = {"X-CSRF-Token": client.get("/test/who", headers=proxied).json()["csrf"]}
        assert client.post("/test/administer", headers=proxied | csrf_header | headers).status_code == 403
        assert client.post("/login", data={"token": "x"}, headers=headers).status_code == 403


def test_a_browser_carries_the_token_of_its_page(serve: Serve, token: Callable[..., str]) -> None:
    """A session's write needs its page's token, in the header or a form. Another session's token is refused."""
    client = logged_in(serve(**OPEN), token("admin", "sam"))
    stranger = logged_in(serve(**OPEN), token("admin", "eve"))
    home = {"Origin": "http://monitor.example:8650", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/test/administer").status_code == 403
    assert client.post("/test/administer", headers=home | csrf(stranger)).status_code == 403
    assert client.post("/test/administer", headers=home | csrf(client)).status_code == 200
    form = {"csrf": csrf(client)["X-CSRF-Token"]}
    assert client.post("/test/administer", data=form, headers=home).status_code == 200
    assert client.post("/test/administer", data={"csrf": ""}, headers=home).status_code == 403


def test_a_browser_on_loopback_carries_it_too(web: TestClient) -> None:
    """On loopback a browser needs that token, a program does not."""
    home = {"Origin": "http://localhost:8650"}
    assert web.post("/test/administer").status_code == 200
    assert web.post("/test/administer", headers=home).status_code == 403
    assert web.post("/test/administer", headers=home | csrf(web)).status_code == 200


def test_a_program_with_a_token_carries_none(serve: Serve, token: Callable[..., str]) -> None:
    """A bearer token is sufficient, because no other page can send that header."""
    assert serve(**OPEN).post("/test/administer", headers=bearer(token("admin"))).status_code == 200


# --- proxies -----------------------------------------------------------------------------------------------------


def test_a_proxy_names_the_user(serve: Serve) -> None:
    """From a named network the header is trusted, with the role of the settings and the forwarded address."""
    headers = {"X-Forwarded-User": "sam@example.com", "X-Forwarded-For": "1.2.3.4, 203.0.113.5, 10.0.0.3"}
    caller = serve(**BEHIND | {"web_user_role": "operator"}).get("/test/who", headers=headers).json()
    assert caller | {"csrf": ""} == {
        "name": "sam@example.com", "role": "operator", "by": "proxy", "origin": "203.0.113.5", "csrf": "",
    }  # fmt: skip


def test_the_header_is_believed_from_nobody_else(serve: Serve) -> None:
    """The proxy's header is ignored from other addresses, on loopback as well."""
    headers = {"X-Forwarded-User": "sam", "X-Forwarded-For": "10.0.0.9"}
    assert serve(**BEHIND | {"client": "192.0.2.7"}).get("/test/who", headers=headers).status_code == 401
    answer = serve(web_proxies="10.0.0.0/24", web_user_header="X-Forwarded-User").get("/test/who", headers=headers)
    assert answer.status_code == 401


@pytest.mark.parametrize("names", [["sam", "root"], ["sam\x01"], ["x" * 300]])
def test_a_header_that_names_no_user_is_refused(serve: Serve, names: list[str]) -> None:
    """Two users, control characters and very long names are refused."""
    headers = [("X-Forwarded-User", name) for name in names]
    assert serve(**BEHIND).get("/test/who", headers=headers).status_code == 400


def test_a_program_behind_a_proxy_uses_its_token(serve: Serve, token: Callable[..., str]) -> None:
    """A bearer token takes precedence over the proxy's user. Other kinds of Authorization are ignored."""
    client = serve(**BEHIND)
    assert client.get("/test/who", headers=bearer(token("admin")) | {"X-Forwarded-User": "sam"}).json()["by"] == "token"
    basic = {"Authorization": "Basic c2FtOg==", "X-Forwarded-User": "sam"}
    assert client.get("/test/who", headers=basic).json()["by"] == "proxy"
    assert client.get("/test/who", headers={"X-Forwarded-User": " "}).status_code == 401


def test_a_proxy_that_renames_the_host_says_what_it_was(serve: Serve) -> None:
    """A write comes from the page's own origin if it matches Host or a named proxy's X-Forwarded-Host."""
    client = serve(**BEHIND | {"web_user_role": "admin"})
    user = {"X-Forwarded-User": "sam"}
    write = user | {"X-CSRF-Token": client.get("/test/who", headers=user).json()["csrf"], "Origin": "https://w.example"}
    assert client.post("/test/administer", headers=write).status_code == 403
    assert client.post("/test/administer", headers=write | {"X-Forwarded-Host": "w.example"}).status_code == 200


def test_mapped_addresses_are_those_of_ipv4() -> None:
    """A proxy is recognized by its IPv4 address on a socket of both families."""
    app_settings = settings.Settings(_env_file=None, web_proxies="10.0.0.0/24")
    scope = {"type": "http", "headers": [(b"host", b"x")], "client": ("::ffff:10.0.0.9", 1), "scheme": "http"}
    assert client_address.of(app_settings, scope).is_proxy
