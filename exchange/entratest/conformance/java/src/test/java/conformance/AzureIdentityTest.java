package conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.azure.core.credential.TokenCredential;
import com.azure.core.credential.TokenRequestContext;
import com.azure.core.http.policy.FixedDelayOptions;
import com.azure.core.http.policy.RetryOptions;
import com.azure.identity.AadCredentialBuilderBase;
import com.azure.identity.ClientAssertionCredentialBuilder;
import com.azure.identity.ClientCertificateCredentialBuilder;
import com.azure.identity.ClientSecretCredentialBuilder;
import com.azure.identity.OnBehalfOfCredentialBuilder;
import com.azure.identity.WorkloadIdentityCredentialBuilder;
import com.microsoft.aad.msal4j.MsalException;
import com.microsoft.aad.msal4j.MsalInteractionRequiredException;
import com.microsoft.aad.msal4j.MsalJsonParsingException;
import com.microsoft.aad.msal4j.MsalServiceException;
import java.time.Duration;
import java.util.List;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** azure-identity for Java, over MSAL4J. */
class AzureIdentityTest {
    private static <T extends AadCredentialBuilderBase<T>> T local(T builder, String tenant, String client, String authority) {
        return builder.httpClient(new Wire()).authorityHost(authority).disableInstanceDiscovery().tenantId(tenant).clientId(client)
            .retryOptions(new RetryOptions(new FixedDelayOptions(0, Duration.ofMillis(1))));
    }

    private static TokenCredential app(String tenant, String client, Supplier<String> assertion, String authority) {
        return local(new ClientAssertionCredentialBuilder(), tenant, client, authority).clientAssertion(assertion).build();
    }

    private static TokenCredential onBehalfOf(String tenant, String client, Supplier<String> assertion, String user) {
        return local(new OnBehalfOfCredentialBuilder(), tenant, client, Wire.NAME).clientAssertion(assertion).userAssertion(user).build();
    }

    private static String token(TokenCredential credential, List<String> scopes) {
        return credential.getTokenSync(new TokenRequestContext().setScopes(scopes)).getToken();
    }

    private static void checkAppTwice(TokenCredential credential) throws Exception {
        for (Lab.Resource resource : Lab.RESOURCES) {
            Lab.withRequests(1, () -> {
                for (int i = 0; i < 2; i++) {
                    Lab.checkApp(token(credential, List.of(resource.all())), resource);
                }
            });
        }
    }

    @Test
    void clientAssertion() throws Exception {
        checkAppTwice(app(Lab.TENANT, Lab.CLIENT, Lab::workloadToken, Wire.NAME));
    }

    @Test
    void workloadIdentity() throws Exception {
        checkAppTwice(local(new WorkloadIdentityCredentialBuilder(), Lab.TENANT, Lab.CLIENT, Wire.NAME)
            .tokenFilePath(Lab.text("workloadToken")).build());
    }

    @Test
    void clientSecret() throws Exception {
        checkAppTwice(local(new ClientSecretCredentialBuilder(), Lab.TENANT, Lab.CLIENT, Wire.NAME).clientSecret(Lab.text("secret")).build());
    }

    /** The certificate signs for the authority as MSAL4J knows it: with its port, and so without the cache. */
    @ParameterizedTest(allowZeroInvocations = true)
    @MethodSource("certificates")
    void clientCertificate(String path) throws Exception {
        TokenCredential credential = local(new ClientCertificateCredentialBuilder(), Lab.TENANT, Lab.CLIENT, Lab.AUTHORITY)
            .pemCertificate(path).build();
        for (Lab.Resource resource : Lab.RESOURCES) {
            Lab.checkApp(token(credential, List.of(resource.all())), resource);
        }
    }

    @Test
    void onBehalfOf() throws Exception {
        for (Lab.Resource resource : Lab.RESOURCES) {
            TokenCredential credential = onBehalfOf(Lab.TENANT, Lab.CLIENT, Lab::workloadToken, Lab.userToken());
            Lab.withRequests(1, () -> {
                for (int i = 0; i < 2; i++) {
                    Lab.checkUser(token(credential, List.of(resource.scope())), resource);
                }
            });
        }
    }

    static Stream<String> certificates() { return Stream.of(Lab.text("certificate")); }

    static Stream<Lab.Row> rows() throws Exception { return Lab.rows(); }

    @ParameterizedTest(name = "{0}")
    @MethodSource("rows")
    void refusal(Lab.Row row) throws Exception {
        Supplier<String> given = () -> row.text("assertion");
        TokenCredential credential = !row.text("secret").isEmpty()
            ? local(new ClientSecretCredentialBuilder(), row.text("tenant"), row.text("client"), Wire.NAME).clientSecret(row.text("secret")).build()
            : row.text("flow").equals("obo")
            ? onBehalfOf(row.text("tenant"), row.text("client"), given, row.text("userAssertion"))
            : app(row.text("tenant"), row.text("client"), given, Wire.NAME);
        Lab.withBehavior(row.json().get("behavior"), () -> {
            Throwable error = assertThrows(Throwable.class, () -> token(credential, row.scopes()));
            if (row.text("error").isEmpty()) { // an HTML page: MSAL4J looks at no status
                assertTrue(cause(error, MsalException.class) instanceof MsalJsonParsingException);
                return;
            }
            MsalServiceException refused = cause(error, MsalServiceException.class);
            assertEquals(row.text("error"), refused.errorCode());
            assertTrue(refused.getMessage().startsWith("AADSTS" + row.number("code") + ": "), refused.getMessage());
            assertEquals(row.flag("claims"), refused.claims() != null);
            if (!(refused instanceof MsalInteractionRequiredException)) { // which keeps no status
                assertEquals(row.number("status"), refused.statusCode());
            }
            assertEquals(row.text("retryAfter"), header(refused, "retry-after"));
            // MSAL4J asks for its own id to be returned.
            assertTrue(refused.getMessage().contains(header(refused, "client-request-id")));
            assertTrue(refused.getMessage().contains(header(refused, "x-ms-request-id")));
        });
    }

    private static String header(MsalServiceException refused, String name) {
        return refused.headers().getOrDefault(name, List.of("")).get(0);
    }

    private static <T> T cause(Throwable error, Class<T> wanted) {
        for (Throwable e = error; e != null; e = e.getCause()) {
            if (wanted.isInstance(e)) {
                return wanted.cast(e);
            }
        }
        throw new AssertionError("no " + wanted.getSimpleName(), error);
    }

    /** MSAL4J 1.26.0 files tokens under the host and looks for them under host:port. */
    @Test
    void portDefeatsTheCache() throws Exception {
        TokenCredential credential = app(Lab.TENANT, Lab.CLIENT, Lab::workloadToken, Lab.AUTHORITY);
        Lab.withRequests(2, () -> {
            for (int i = 0; i < 2; i++) {
                token(credential, List.of(Lab.RESOURCES.get(0).all()));
            }
        });
    }
}
