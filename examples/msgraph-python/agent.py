"""An agent with the Microsoft Graph SDK for Python that holds no credential.

Where Graph is, it is told by GRAPH_URL, and what to send along by GRAPH_KEY, if
anything. With TOKEN_URL, it asks there for a token of its own instead, as an
OAuth client with CLIENT_SECRET, if any.
"""
import asyncio
import os
import time

import httpx
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from kiota_abstractions.authentication import AnonymousAuthenticationProvider, ApiKeyAuthenticationProvider, KeyLocation
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph_core.tasks import PageIterator
from msgraph.generated.users.users_request_builder import UsersRequestBuilder


class OAuthClient:
    """The client credentials grant, as the credential that Azure's SDKs expect."""

    def __init__(self, url, secret):
        self.url, self.auth = url, ("", secret) if secret else None

    def get_token(self, *scopes, claims=None, **_):
        form = {"grant_type": "client_credentials", "scope": " ".join(scopes)}
        if claims:
            form["claims"] = claims
        answer = httpx.post(self.url, data=form, auth=self.auth)
        if answer.is_error:
            raise ClientAuthenticationError(answer.json()["error_description"])
        print(f"token: asked {'again, with the claims' if claims else 'for one'}")
        token = answer.json()
        return AccessToken(token["access_token"], int(time.time()) + token["expires_in"])


def authentication():
    token_url, key = os.environ.get("TOKEN_URL"), os.environ.get("GRAPH_KEY")
    if token_url:
        credential = OAuthClient(token_url, os.environ.get("CLIENT_SECRET"))
        host = httpx.URL(os.environ["GRAPH_URL"]).host
        return AzureIdentityAuthenticationProvider(credential, scopes=["https://graph.microsoft.com/.default"], allowed_hosts=[host], is_cae_enabled=True)
    if key:
        return ApiKeyAuthenticationProvider(KeyLocation.Header, key, "X-Api-Key")
    return AnonymousAuthenticationProvider()


async def main():
    adapter = GraphRequestAdapter(authentication())
    adapter.base_url = os.environ["GRAPH_URL"]
    graph = GraphServiceClient(request_adapter=adapter)

    ada = await graph.users.by_user_id("ada@demo.example").get()
    print(f"user: {ada.display_name}")

    # One user a page: the rest is where @odata.nextLink leads.
    query = UsersRequestBuilder.UsersRequestBuilderGetQueryParameters(top=1)
    pages = PageIterator(await graph.users.get(RequestConfiguration(query_parameters=query)), adapter)
    names = []
    await pages.iterate(lambda user: names.append(user.display_name) or True)
    print(f"users: {', '.join(names)}")


asyncio.run(main())
