package conformance;

import com.azure.core.http.HttpClient;
import com.azure.core.http.HttpHeaders;
import com.azure.core.http.HttpRequest;
import com.azure.core.http.HttpResponse;
import com.azure.core.http.jdk.httpclient.JdkHttpClientBuilder;
import com.azure.core.util.Context;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.ByteBuffer;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * Reaches the emulator under a name without a port, as DNS would, and leaves out
 * objects that no client asked for. MSAL4J 1.26.0 copes with neither: see
 * {@code portDefeatsTheCache} and {@code unknownObjectEndsTheAnswer}.
 */
final class Wire implements HttpClient {
    static final String NAME = "https://entra.test";
    private static final ObjectMapper JSON = new ObjectMapper();
    private final HttpClient client = new JdkHttpClientBuilder().build();

    @Override
    public Mono<HttpResponse> send(HttpRequest request) {
        return Mono.fromSupplier(() -> sendSync(request, Context.NONE));
    }

    @Override
    public HttpResponse sendSync(HttpRequest request, Context context) {
        request.setUrl(request.getUrl().toString().replace(NAME, Lab.AUTHORITY));
        HttpResponse answer = client.sendSync(request, context);
        return new Plain(answer, withoutObjects(answer.getBodyAsBinaryData().toBytes()));
    }

    static byte[] withoutObjects(byte[] body) {
        try {
            if (JSON.readTree(body) instanceof ObjectNode document) {
                document.properties().removeIf(member -> member.getValue().isObject());
                return JSON.writeValueAsBytes(document);
            }
        } catch (java.io.IOException e) {
            // An HTML page, as it should be.
        }
        return body;
    }

    private static final class Plain extends HttpResponse {
        private final HttpResponse answer;
        private final byte[] body;

        Plain(HttpResponse answer, byte[] body) {
            super(answer.getRequest());
            this.answer = answer;
            this.body = body;
        }

        @Override public int getStatusCode() { return answer.getStatusCode(); }
        @Override @Deprecated public String getHeaderValue(String name) { return answer.getHeaderValue(name); }
        @Override public HttpHeaders getHeaders() { return answer.getHeaders(); }
        @Override public Flux<ByteBuffer> getBody() { return Flux.just(ByteBuffer.wrap(body)); }
        @Override public Mono<byte[]> getBodyAsByteArray() { return Mono.just(body); }
        @Override public Mono<String> getBodyAsString() { return getBodyAsString(StandardCharsets.UTF_8); }
        @Override public Mono<String> getBodyAsString(Charset charset) { return Mono.just(new String(body, charset)); }
    }
}
