package conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.microsoft.aad.msal4j.ClientCredentialFactory;
import com.microsoft.aad.msal4j.ClientCredentialParameters;
import com.microsoft.aad.msal4j.ConfidentialClientApplication;
import com.microsoft.aad.msal4j.HttpResponse;
import com.microsoft.aad.msal4j.IAuthenticationResult;
import com.microsoft.aad.msal4j.IClientCredential;
import com.microsoft.aad.msal4j.IHttpClient;
import com.microsoft.aad.msal4j.OnBehalfOfParameters;
import com.microsoft.aad.msal4j.SilentParameters;
import com.microsoft.aad.msal4j.UserAssertion;
import com.microsoft.aad.msal4j.UserFederatedIdentityCredentialParameters;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.Callable;
import org.junit.jupiter.api.Test;

/** MSAL4J itself, for what azure-identity does not offer: agents, refresh tokens. */
class Msal4jTest {
    /** Does for MSAL4J what {@link Wire} does for azure-identity. */
    private static final IHttpClient WIRE = asked -> {
        var request = HttpRequest.newBuilder(URI.create(asked.url().toString().replace(Wire.NAME, Lab.AUTHORITY)));
        asked.headers().forEach(request::header);
        if (asked.body() != null && !asked.body().isEmpty()) {
            request.POST(HttpRequest.BodyPublishers.ofString(asked.body()));
        }
        var answer = HttpClient.newHttpClient().send(request.build(), BodyHandlers.ofByteArray());
        var response = new HttpResponse();
        response.statusCode(answer.statusCode());
        response.addHeaders(answer.headers().map());
        response.body(new String(Wire.withoutObjects(answer.body())));
        return response;
    };

    private static ConfidentialClientApplication application(String client, IClientCredential credential) throws Exception {
        return ConfidentialClientApplication.builder(client, credential)
            .authority(Wire.NAME + "/" + Lab.TENANT).instanceDiscovery(false).httpClient(WIRE).build();
    }

    private static IClientCredential workload() {
        Callable<String> token = Lab::workloadToken;
        return ClientCredentialFactory.createFromCallback(token);
    }

    private static Set<String> scopes(String resource, String name) {
        return Set.of(Lab.WORLD.get(resource).get(name).asText());
    }

    private static IAuthenticationResult appToken(ConfidentialClientApplication app, String resource) throws Exception {
        return app.acquireToken(ClientCredentialParameters.builder(scopes(resource, "default")).build()).get();
    }

    private static ConfidentialClientApplication agent() throws Exception {
        var blueprint = application(Lab.text("blueprint"), workload());
        Callable<String> token = () -> blueprint.acquireToken(ClientCredentialParameters.builder(scopes("exchange", "default"))
            .fmiPath(Lab.text("agent")).build()).get().accessToken();
        return application(Lab.text("agent"), ClientCredentialFactory.createFromCallback(token));
    }

    @Test
    void refreshToken() throws Exception {
        var app = application(Lab.CLIENT, workload());
        Lab.withRequests(2, () -> {
            var first = app.acquireToken(OnBehalfOfParameters.builder(scopes("graph", "scope"), new UserAssertion(Lab.userToken())).build()).get();
            var second = app.acquireTokenSilently(SilentParameters.builder(scopes("ledger", "scope"), first.account()).build()).get();
            Lab.checkUser(second.accessToken(), Lab.RESOURCES.get(1));
        });
    }

    @Test
    void agentActsForItself() throws Exception {
        var app = agent();
        Lab.withRequests(2, () -> { // one of the blueprint, one of the agent
            for (int i = 0; i < 2; i++) {
                Lab.checkAgent(appToken(app, "graph").accessToken(), "app", Lab.text("agent"));
            }
        });
    }

    @Test
    void agentOnBehalfOf() throws Exception {
        var user = new UserAssertion(Lab.userToken(Lab.text("blueprint")));
        var result = agent().acquireToken(OnBehalfOfParameters.builder(scopes("graph", "scope"), user).build()).get();
        Lab.checkAgent(result.accessToken(), "user", Lab.text("user"));
    }

    @Test
    void agentUser() throws Exception {
        var app = agent();
        String own = appToken(app, "exchange").accessToken();
        for (var parameters : List.of(
            UserFederatedIdentityCredentialParameters.builder(scopes("graph", "scope"), Lab.text("agentUserName"), own),
            UserFederatedIdentityCredentialParameters.builder(scopes("graph", "scope"), UUID.fromString(Lab.text("agentUser")), own))) {
            var result = app.acquireToken(parameters.build()).get();
            Lab.checkAgent(result.accessToken(), "user", Lab.text("agentUser"));
            Lab.withRequests(0, () -> {
                var silent = app.acquireTokenSilently(SilentParameters.builder(scopes("graph", "scope"), result.account()).build()).get();
                Lab.checkAgent(silent.accessToken(), "user", Lab.text("agentUser"));
            });
        }
    }

    /** MSAL4J 1.26.0 takes the end of an object it does not know for the end of the answer. */
    @Test
    void unknownObjectEndsTheAnswer() throws Exception {
        Map<String, Boolean> kept = new LinkedHashMap<>();
        for (String unknown : List.of("\"text\"", "7", "true", "null", "[1]", "{\"a\":1}")) {
            String answer = "{\"x\":" + unknown + ",\"token_type\":\"Bearer\",\"expires_in\":3600,\"access_token\":\"T\"}";
            var app = ConfidentialClientApplication.builder(Lab.CLIENT, ClientCredentialFactory.createFromClientAssertion("A"))
                .authority(Wire.NAME + "/" + Lab.TENANT).instanceDiscovery(false).httpClient(request -> {
                    var response = new HttpResponse();
                    response.statusCode(200);
                    response.body(answer);
                    response.addHeaders(Map.of("Content-Type", List.of("application/json")));
                    return response;
                }).build();
            var result = app.acquireToken(ClientCredentialParameters.builder(Set.of("api://x/.default")).build()).get();
            kept.put(unknown, result.accessToken() != null);
        }
        assertEquals("{\"text\"=true, 7=true, true=true, null=true, [1]=true, {\"a\":1}=false}", kept.toString());
    }
}
