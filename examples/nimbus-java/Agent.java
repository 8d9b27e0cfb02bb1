import com.nimbusds.oauth2.sdk.AuthorizationGrant;
import com.nimbusds.oauth2.sdk.ClientCredentialsGrant;
import com.nimbusds.oauth2.sdk.Scope;
import com.nimbusds.oauth2.sdk.TokenIntrospectionRequest;
import com.nimbusds.oauth2.sdk.TokenIntrospectionResponse;
import com.nimbusds.oauth2.sdk.TokenRequest;
import com.nimbusds.oauth2.sdk.TokenResponse;
import com.nimbusds.oauth2.sdk.auth.ClientSecretBasic;
import com.nimbusds.oauth2.sdk.auth.Secret;
import com.nimbusds.oauth2.sdk.as.AuthorizationServerMetadata;
import com.nimbusds.oauth2.sdk.http.HTTPResponse;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.id.Issuer;
import com.nimbusds.oauth2.sdk.token.AccessToken;
import com.nimbusds.oauth2.sdk.token.TokenTypeURI;
import com.nimbusds.oauth2.sdk.token.TypelessAccessToken;
import com.nimbusds.oauth2.sdk.tokenexchange.TokenExchangeGrant;
import java.nio.file.Files;
import java.nio.file.Path;

/** An agent with the Nimbus OAuth 2.0 SDK that holds no credential. */
public final class Agent {
    // The library insists on a secret; any word does where the kernel vouches for the agent.
    private static final ClientSecretBasic DEMO = new ClientSecretBasic(new ClientID("demo"), new Secret("none"));

    public static void main(String[] args) throws Exception {
        var broker = AuthorizationServerMetadata.resolve(new Issuer(System.getenv("BROKER")));

        AccessToken own = token(broker, new ClientCredentialsGrant(), "SCOPE");

        String user = Files.readString(Path.of(System.getenv("USER_TOKEN_FILE"))).trim();
        token(broker, new TokenExchangeGrant(new TypelessAccessToken(user), TokenTypeURI.ACCESS_TOKEN), "USER_SCOPE");

        var asked = new TokenIntrospectionRequest(broker.getIntrospectionEndpointURI(), DEMO, own).toHTTPRequest().send();
        var answer = TokenIntrospectionResponse.parse(asked).toSuccessResponse();
        System.out.println("introspection: active " + answer.isActive() + ", client " + answer.getClientID());
    }

    private static AccessToken token(AuthorizationServerMetadata broker, AuthorizationGrant grant, String scope) throws Exception {
        var request = new TokenRequest.Builder(broker.getTokenEndpointURI(), DEMO, grant).scope(Scope.parse(System.getenv(scope))).build();
        HTTPResponse http = request.toHTTPRequest().send();
        TokenResponse response = TokenResponse.parse(http);
        if (!response.indicatesSuccess()) {
            var error = response.toErrorResponse().getErrorObject();
            System.err.println("refused: " + error.getCode() + ": " + error.getDescription() + "\nhint: " + http.getBodyAsJSONObject().get("hint"));
            System.exit(1);
        }
        AccessToken token = response.toSuccessResponse().getTokens().getAccessToken();
        System.out.println(grant.getType() + ": " + token.getType() + " token for " + token.getScope());
        return token;
    }

    private Agent() {}
}
