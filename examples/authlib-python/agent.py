"""An agent with Authlib that holds no credential."""

import os
import sys

from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session

broker = os.environ["BROKER"]
agent = OAuth2Session(client_id="demo", token_endpoint_auth_method="none")
refused = {}


def keep_refusal(response):
    """Authlib's own error has no room for the hint."""
    if response.status_code != 200:
        refused.update(response.json())
    return response


agent.register_compliance_hook("access_token_response", keep_refusal)
metadata = agent.get(f"{broker}/.well-known/oauth-authorization-server", withhold_token=True).json()


def get_token(grant, **parameters):
    token = agent.fetch_token(metadata["token_endpoint"], grant_type=grant, **parameters)
    print(f"{grant}: {token['token_type']} token for {token['scope']}")
    return token


try:
    own = get_token("client_credentials", scope=os.environ["SCOPE"])
    user = open(os.environ["USER_TOKEN_FILE"]).read().strip()
    get_token(
        "urn:ietf:params:oauth:grant-type:token-exchange",
        scope=os.environ["USER_SCOPE"],
        subject_token=user,
        subject_token_type="urn:ietf:params:oauth:token-type:access_token",
    )
    answer = agent.introspect_token(metadata["introspection_endpoint"], token=own["access_token"]).json()
    print(f"introspection: active {str(answer['active']).lower()}, client {answer['client_id']}")
except OAuthError as error:
    print(f"refused: {error}\nhint: {refused.get('hint')}", file=sys.stderr)
    sys.exit(1)
