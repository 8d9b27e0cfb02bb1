"""azure-identity, the credentials of the Azure SDK."""

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    CertificateCredential, ClientAssertionCredential, ClientSecretCredential, OnBehalfOfCredential, WorkloadIdentityCredential,
)

from lab import (
    AUTHORITY, CLIENT, RESOURCES, ROWS, TENANT, WORLD, behavior, check_app, check_user, token_requests, user_token, workload_token,
)

OPTIONS = {"authority": AUTHORITY, "disable_instance_discovery": True, "connection_verify": WORLD["ca"], "retry_total": 0}


CREDENTIALS = [
    ClientAssertionCredential(TENANT, CLIENT, workload_token, **OPTIONS),
    WorkloadIdentityCredential(tenant_id=TENANT, client_id=CLIENT, token_file_path=WORLD["workloadToken"], **OPTIONS),
    ClientSecretCredential(TENANT, CLIENT, WORLD["secret"], **OPTIONS),
    CertificateCredential(TENANT, CLIENT, WORLD["certificate"], **OPTIONS),
]


@pytest.mark.parametrize("credential", CREDENTIALS, ids=lambda credential: type(credential).__name__)
def test_app_token(credential):
    for resource in RESOURCES:
        with token_requests(1):
            for _ in range(2):
                check_app(credential.get_token(resource["default"]).token, resource)


@pytest.mark.parametrize("client", [
    {"client_assertion_func": workload_token}, {"client_secret": WORLD["secret"]},
], ids=lambda client: list(client)[0])
def test_on_behalf_of(client):
    for resource in RESOURCES:
        credential = OnBehalfOfCredential(TENANT, CLIENT, user_assertion=user_token(), **client, **OPTIONS)
        with token_requests(1):
            for _ in range(2):
                check_user(credential.get_token(resource["scope"]).token, resource)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_refusal(row):
    def assertion():
        return row["assertion"]

    if row["secret"]:
        credential = ClientSecretCredential(row["tenant"], row["client"], row["secret"], **OPTIONS)
    elif row["flow"] == "obo":
        credential = OnBehalfOfCredential(row["tenant"], row["client"], client_assertion_func=assertion, user_assertion=row["userAssertion"], **OPTIONS)
    else:
        credential = ClientAssertionCredential(row["tenant"], row["client"], assertion, **OPTIONS)
    with behavior(row["behavior"]), pytest.raises(ClientAuthenticationError) as caught:
        credential.get_token(*row["scopes"])
    if not row["error"]:  # the credential keeps neither the status nor the headers
        assert caught.value.response is None
        return
    assert f"AADSTS{row['code']}: " in caught.value.message
    response = caught.value.response
    if row["secret"]:  # ClientSecretCredential keeps only the message
        assert response is None
        return
    assert (response.status_code, response.headers.get("Retry-After", "")) == (row["status"], row["retryAfter"])
    body = response.json()
    assert (body["error"], body["error_codes"], body.get("suberror", "")) == (row["error"], [row["code"]], row["suberror"])
