package conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.source.JWKSourceBuilder;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import java.io.FileInputStream;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** The emulator, as the tests see it. CONFORMANCE_WORLD says where it is. */
final class Lab {
    /** An API and how it verifies its tokens. */
    record Resource(String all, String scope, String role, String audience, String issuer, String keys, String clientClaim) {
        static Resource of(JsonNode n) {
            return new Resource(n.get("default").asText(), n.get("scope").asText(), n.get("role").asText(),
                n.get("audience").asText(), n.get("issuer").asText(), n.get("keys").asText(), n.get("clientClaim").asText());
        }
    }

    /** A request that must fail, and how. */
    record Row(JsonNode json) {
        String text(String name) { return json.get(name).asText(); }
        int number(String name) { return json.get(name).asInt(); }
        boolean flag(String name) { return json.get(name).asBoolean(); }
        List<String> scopes() { return StreamSupport.stream(json.get("scopes").spliterator(), false).map(JsonNode::asText).toList(); }
        @Override public String toString() { return text("name"); }
    }

    interface Action { void run() throws Exception; }

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final HttpClient PLAIN = HttpClient.newHttpClient();
    static final JsonNode WORLD;
    static final String AUTHORITY, TENANT, CLIENT;
    static final List<Resource> RESOURCES;

    static {
        try {
            WORLD = JSON.readTree(System.getenv("CONFORMANCE_WORLD"));
            AUTHORITY = text("authority");
            TENANT = text("tenant");
            CLIENT = text("client");
            RESOURCES = List.of(Resource.of(WORLD.get("graph")), Resource.of(WORLD.get("ledger")));
            SSLContext.setDefault(trusting(text("ca")));
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    private Lab() {}

    static String text(String name) { return WORLD.get(name).asText(); }

    private static SSLContext trusting(String path) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream in = new FileInputStream(path)) {
            store.setCertificateEntry("emulator", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }

    static JsonNode control(String path, String body) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(text("control") + path));
        if (body != null) {
            request.POST(HttpRequest.BodyPublishers.ofString(body));
        }
        HttpResponse<String> answer = PLAIN.send(request.build(), HttpResponse.BodyHandlers.ofString());
        assertEquals(200, answer.statusCode(), path);
        return JSON.readTree(answer.body());
    }

    static String workloadToken() {
        try {
            return Files.readString(Path.of(text("workloadToken")));
        } catch (java.io.IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    static String userToken() throws Exception { return userToken(CLIENT); }

    static String userToken(String audience) throws Exception {
        return control("/user-token?audience=" + audience, null).get("token").asText();
    }

    static Stream<Row> rows() throws Exception {
        JsonNode rows = control("/rows", null);
        assertTrue(rows.size() >= 20, "rows");
        return StreamSupport.stream(rows.spliterator(), false).map(Row::new);
    }

    static void withBehavior(JsonNode wanted, Action action) throws Exception {
        control("/behavior", wanted.toString());
        try {
            action.run();
        } finally {
            control("/behavior", "{}");
        }
    }

    static void withRequests(int want, Action action) throws Exception {
        int before = control("/count", null).get("count").asInt();
        action.run();
        assertEquals(want, control("/count", null).get("count").asInt() - before, "token requests");
    }

    /** Checks a token the way the API does, with Nimbus. */
    private static JWTClaimsSet verified(String token, Resource resource, String client) throws Exception {
        var keys = JWKSourceBuilder.<SecurityContext>create(new URL(resource.keys())).build();
        var processor = new DefaultJWTProcessor<SecurityContext>();
        processor.setJWSKeySelector(new JWSVerificationKeySelector<>(JWSAlgorithm.RS256, keys));
        processor.setJWTClaimsSetVerifier(new DefaultJWTClaimsVerifier<>(resource.audience(),
            new JWTClaimsSet.Builder().issuer(resource.issuer()).claim("tid", TENANT).claim(resource.clientClaim(), client).build(),
            Set.of("exp", "iat", "nbf", "sub", "oid", "uti")));
        return processor.process(token, null);
    }

    static void checkApp(String token, Resource resource) throws Exception {
        JWTClaimsSet claims = verified(token, resource, CLIENT);
        assertEquals(List.of(resource.role()), claims.getStringListClaim("roles"));
        assertEquals("app", claims.getStringClaim("idtyp"));
        assertNull(claims.getClaim("scp"));
    }

    static void checkUser(String token, Resource resource) throws Exception {
        JWTClaimsSet claims = verified(token, resource, CLIENT);
        assertEquals(resource.scope().substring(resource.scope().lastIndexOf('/') + 1), claims.getStringClaim("scp"));
        assertEquals(text("user"), claims.getStringClaim("oid"));
        assertEquals("user", claims.getStringClaim("idtyp"));
    }

    static void checkAgent(String token, String kind, String principal) throws Exception {
        JWTClaimsSet claims = verified(token, RESOURCES.get(0), text("agent"));
        assertEquals(kind, claims.getStringClaim("idtyp"));
        assertEquals(principal, claims.getStringClaim("oid"));
        assertEquals(text("blueprint"), claims.getStringClaim("xms_par_app_azp"));
    }
}
