"""msal, Microsoft's own library."""

import json

import msal
import pytest

from lab import (
    AUTHORITY, CLIENT, RESOURCES, ROWS, TENANT, WORLD, behavior, check_agent, check_app, check_user, token_requests, user_token, workload_token,
)


def application(tenant=TENANT, client=CLIENT, credential=None):
    return msal.ConfidentialClientApplication(
        client, authority=f"{AUTHORITY}/{tenant}", instance_discovery=False, verify=WORLD["ca"],
        client_credential=credential or {"client_assertion": workload_token},
    )


def certificate():
    with open(WORLD["certificate"]) as file:
        return file.read()


CREDENTIALS = {
    "assertion": {"client_assertion": workload_token},
    "secret": WORLD["secret"],
    "certificate": {"private_key": certificate(), "public_certificate": certificate()},
    "sha1": {"private_key": certificate(), "thumbprint": WORLD["thumbprint"]},
}


@pytest.mark.parametrize("credential", CREDENTIALS.values(), ids=CREDENTIALS)
def test_app_token(credential):
    app = application(credential=credential)
    for resource in RESOURCES:
        with token_requests(1):
            for source in ["identity_provider", "cache"]:
                result = app.acquire_token_for_client([resource["default"]])
                assert result["token_source"] == source
                check_app(result["access_token"], resource)


def test_on_behalf_of():
    for resource in RESOURCES:
        app = application()
        with token_requests(1):
            result = app.acquire_token_on_behalf_of(user_token(), [resource["scope"]])
            check_user(result["access_token"], resource)
            # MSAL for Python leaves it to the caller to look into the cache.
            account, = app.get_accounts(WORLD["userName"])
            assert account["home_account_id"] == f"{WORLD['user']}.{TENANT}"
            result = app.acquire_token_silent_with_error([resource["scope"]], account)
            assert result["token_source"] == "cache"
            check_user(result["access_token"], resource)


def test_refresh_token():
    app = application()
    with token_requests(2):
        app.acquire_token_on_behalf_of(user_token(), [RESOURCES[0]["scope"]])
        account, = app.get_accounts()
        result = app.acquire_token_silent_with_error([RESOURCES[1]["scope"]], account)
        check_user(result["access_token"], RESOURCES[1])


def agent():
    blueprint = application(client=WORLD["blueprint"])

    def assertion():
        return blueprint.acquire_token_for_client([WORLD["exchange"]["default"]], fmi_path=WORLD["agent"])["access_token"]

    return application(client=WORLD["agent"], credential={"client_assertion": assertion})


def test_agent_acts_for_itself():
    app = agent()
    with token_requests(2):  # one of the blueprint, one of the agent
        for _ in range(2):
            result = app.acquire_token_for_client([WORLD["graph"]["default"]])
            check_agent(result["access_token"], idtyp="app", oid=WORLD["agent"], roles=[WORLD["graph"]["role"]])


def test_agent_on_behalf_of():
    result = agent().acquire_token_on_behalf_of(user_token(WORLD["blueprint"]), [WORLD["graph"]["scope"]])
    check_agent(result["access_token"], idtyp="user", oid=WORLD["user"], scp="User.Read")


@pytest.mark.parametrize("who", [{"username": WORLD["agentUserName"]}, {"user_object_id": WORLD["agentUser"]}], ids=lambda who: list(who)[0])
def test_agent_user(who):
    app = agent()
    own = app.acquire_token_for_client([WORLD["exchange"]["default"]])["access_token"]
    result = app.acquire_token_by_user_federated_identity_credential([WORLD["graph"]["scope"]], own, **who)
    check_agent(result["access_token"], idtyp="user", oid=WORLD["agentUser"], scp="User.Read")
    account, = app.get_accounts()
    with token_requests(0):
        result = app.acquire_token_silent_with_error([WORLD["graph"]["scope"]], account)
        check_agent(result["access_token"], idtyp="user", oid=WORLD["agentUser"], scp="User.Read")


def acquire(row):
    app = application(row["tenant"], row["client"], row["secret"] or {"client_assertion": lambda: row["assertion"]})
    if row["flow"] == "obo":
        return app.acquire_token_on_behalf_of(row["userAssertion"], row["scopes"])
    return app.acquire_token_for_client(row["scopes"])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_refusal(row):
    with behavior(row["behavior"]):
        if row["discovery"]:  # MSAL does not repeat what the service said
            with pytest.raises(ValueError, match="Unable to get authority configuration"):
                acquire(row)
            return
        if not row["error"]:  # an HTML page: MSAL looks at the status only from 500 on
            with pytest.raises(msal.exceptions.MsalServiceError if row["status"] >= 500 else ValueError):
                acquire(row)
            return
        result = acquire(row)
    assert "access_token" not in result
    assert (result["error"], result["error_codes"]) == (row["error"], [row["code"]])
    assert result.get("suberror", "") == row["suberror"]
    assert bool(json.loads(result.get("claims", "{}"))) == row["claims"]
    assert f"AADSTS{row['code']}: " in result["error_description"]


def test_throttling_is_remembered():
    app = application()
    with behavior({"Code": 90055}), token_requests(1):
        for _ in range(2):
            assert app.acquire_token_for_client([RESOURCES[0]["default"]])["error_codes"] == [90055]
