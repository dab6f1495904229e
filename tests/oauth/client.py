"""Authlib, as it is, against a running service. What it has to know comes as JSON on standard input: api, client, secret,
username, password. It ends with 0 if all of it went as the RFCs have it."""

import json
import sys

from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session

GIVEN = json.load(sys.stdin)


def session(secret=GIVEN["secret"]):
    return OAuth2Session(GIVEN["client"], secret, token_endpoint_auth_method="client_secret_basic")


def check(base, client):
    """Whether the session's own token is alive, as any route that takes it would find."""
    return client.get(f"{base}/user/auth").status_code


def a_token_is_got_introspected_and_revoked(base):
    client = session()
    token = client.fetch_token(f"{base}/user/auth", username=GIVEN["username"], password=GIVEN["password"])
    assert token["token_type"] == "Bearer" and token["expires_in"] == 86400, token
    assert not token.is_expired()
    assert check(base, client) == 200

    found = client.introspect_token(f"{base}/token/introspect", token=token["access_token"], token_type_hint="access_token")
    assert found.status_code == 200, found.text
    assert found.json()["active"] is True and found.json()["sub"] == str(token["user_id"]), found.text
    assert abs(found.json()["exp"] - token["expires_at"]) <= 60, (found.text, token["expires_at"])

    # The second time it is dead already.
    for _ in range(2):
        answer = client.revoke_token(f"{base}/token/revoke", token=token["access_token"], token_type_hint="access_token")
        assert (answer.status_code, answer.text) == (200, ""), answer.text
    dead = client.introspect_token(f"{base}/token/introspect", token=token["access_token"])
    assert (dead.status_code, dead.json()) == (200, {"active": False}), dead.text
    assert check(base, client) == 401


def refusal_of_a_login(base, password):
    try:
        session().fetch_token(f"{base}/user/auth", username=GIVEN["username"], password=password)
    except OAuthError as refusal:
        return refusal.error
    return None


def refusals_are_understood(base):
    assert refusal_of_a_login(base, "a wrong one") == "invalid_grant"

    stranger = session("not the secret of this client")
    for path in "introspect", "revoke":
        answer = getattr(stranger, f"{path}_token")(f"{base}/token/{path}", token="x")
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), answer.text


# As a client on the same network has it, and as one before a proxy that strips nothing.
for prefix in "", "/api":
    a_token_is_got_introspected_and_revoked(f"{GIVEN['api']}{prefix}/v1.0")
    refusals_are_understood(f"{GIVEN['api']}{prefix}/v1.0")
