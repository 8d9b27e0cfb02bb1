"""The emulator, as the tests see it. CONFORMANCE_WORLD says where it is."""

import contextlib
import json
import os
import ssl
import urllib.request

import jwt

WORLD = json.loads(os.environ["CONFORMANCE_WORLD"])
AUTHORITY, TENANT, CLIENT = WORLD["authority"], WORLD["tenant"], WORLD["client"]
RESOURCES = [WORLD["graph"], WORLD["ledger"]]


def control(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(WORLD["control"] + path, data) as answer:
        return json.load(answer)


def workload_token():
    with open(WORLD["workloadToken"]) as file:
        return file.read()


def user_token(audience=CLIENT):
    return control(f"/user-token?audience={audience}")["token"]


@contextlib.contextmanager
def behavior(wanted):
    control("/behavior", wanted)
    try:
        yield
    finally:
        control("/behavior", {})


@contextlib.contextmanager
def token_requests(want):
    before = control("/count")["count"]
    yield
    assert control("/count")["count"] - before == want


def verified(token, resource, client=CLIENT):
    """Check a token the way the API does, with PyJWT."""
    context = ssl.create_default_context(cafile=WORLD["ca"])
    key = jwt.PyJWKClient(resource["keys"], ssl_context=context).get_signing_key_from_jwt(token)
    claims = jwt.decode(
        token, key, algorithms=["RS256"], audience=resource["audience"], issuer=resource["issuer"],
        options={"require": ["exp", "iat", "nbf", "sub", "oid", "tid", "uti"]},
    )
    assert claims["tid"] == TENANT
    assert claims[resource["clientClaim"]] == client
    return claims


def check_app(token, resource):
    claims = verified(token, resource)
    assert (claims["roles"], claims["idtyp"], "scp" in claims) == ([resource["role"]], "app", False)


def check_user(token, resource):
    claims = verified(token, resource)
    scope = resource["scope"].rsplit("/", 1)[1]
    assert (claims["scp"], claims["oid"], claims["idtyp"]) == (scope, WORLD["user"], "user")


def check_agent(token, **want):
    claims = verified(token, WORLD["graph"], WORLD["agent"])
    assert claims["xms_par_app_azp"] == WORLD["blueprint"]
    assert {name: claims.get(name) for name in want} == want


ROWS = control("/rows")
assert len(ROWS) >= 20
