import com.azure.core.credential.TokenCredential;
import com.azure.core.credential.TokenRequestContext;
import com.azure.identity.DefaultAzureCredentialBuilder;
import com.azure.identity.ManagedIdentityCredentialBuilder;

/** An agent with the Azure SDK for Java that holds no credential. */
public final class Agent {
    public static void main(String[] args) {
        var refused = false;
        for (TokenCredential credential : new TokenCredential[] {
            new DefaultAzureCredentialBuilder().build(), new ManagedIdentityCredentialBuilder().build()}) {
            for (var scope : System.getenv("SCOPE").split(" ")) {
                refused |= !ask(credential, new TokenRequestContext().addScopes(scope));
            }
        }
        System.exit(refused ? 1 : 0); // the SDK's threads would keep the process for a while
    }

    private static boolean ask(TokenCredential credential, TokenRequestContext request) {
        var name = credential.getClass().getSimpleName();
        for (var call : new String[] {"first", "second"}) {
            var began = System.nanoTime();
            try {
                var token = credential.getTokenSync(request);
                System.out.printf("%s %s token after %d ms, good until %s%n", name, call, since(began), token.getExpiresAt().toInstant());
            } catch (RuntimeException e) {
                System.err.printf("%s refused after %d ms: %s%n", name, since(began), why(e));
                return false;
            }
        }
        return true;
    }

    /** The SDK says in the cause of its exceptions what the endpoint has said. */
    private static String why(Throwable e) {
        return e.getCause() == null ? e.getMessage() : e.getMessage() + "\n  " + why(e.getCause());
    }

    private static long since(long began) {
        return (System.nanoTime() - began) / 1_000_000;
    }
}
