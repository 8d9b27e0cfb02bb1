// Package entratest is an emulator of Microsoft Entra ID's token service, for
// testing programs that authenticate without credentials of their own. With it
// comes an issuer of workload tokens that behaves like a Kubernetes cluster.
//
// Never use it in production: anyone who can reach it gets tokens, and it is
// meant to be lied to.
//
// # What it owns
//
// A [Server] is an http.Handler over a [Directory]. It serves, per tenant, the
// OIDC metadata and the keys (v1 and v2), instance discovery, and the v2 token
// endpoint with two grants: client_credentials and on-behalf-of. The only
// credential it knows is a federated one: a client assertion is parsed, its
// issuer's discovery document and keys are fetched, signature, times, issuer,
// audience and subject are checked, and a refusal has the AADSTS code, status
// and wording that Entra has for that very mistake.
//
// An [Issuer] signs the workload tokens: [Issuer.ServiceAccountToken] makes
// what the kubelet projects into a pod, [Issuer.Sign] anything else.
//
// A [Host] runs both on loopback TLS with a private CA. Without sockets, also
// inside a testing/synctest bubble, use [Server.RoundTripper] and
// [Issuer.RoundTripper] as the transports of the client under test and of
// Config.HTTPClient.
//
// # Strict by default, hostile on request
//
// Without being asked, the server refuses what Entra refuses, gives keys new
// ids at every start, dates tokens back, shuffles the members of every JSON
// object and adds some that nobody has heard of. [Server.SetBehavior] adds
// outages, throttling, redirects, deformed answers, tokens of the wrong kind,
// policy challenges, replicas that lag behind and clocks that are wrong.
//
// [Server.Requests] says what a client asked for, and never holds a token.
//
// # What it refuses to do
//
// It has no sign-in page, no authorization endpoint, no client secrets and no
// certificates. It does not listen on anything but loopback, does not read the
// environment, keeps nothing on disk, and shares no code with any client.
//
// # Where it differs from Entra
//
// It was written from public documentation and public error reports, as of
// November 2026, and was not compared with the live service. Facts that are
// inferred are marked so.
//
//   - Issuers. The v2 issuer is the BaseURL, as if it were a cloud of its own;
//     the v1 issuer is https://sts.windows.net/{tenant}/ as in the public cloud.
//   - Order of checks. Entra's is undocumented; this one is inferred. Here the
//     keys of an issuer are fetched only if a federated credential of the
//     application names it, so an assertion of any other issuer fails with
//     700024 or 700211 whether or not its signature is good.
//   - Codes that are inferred: 900144 for a body that is not a form, 90023 for
//     repeated or oversized parameters, malformed claims and an unknown
//     requested_token_use, 7000218 for an unknown client_assertion_type, 50194
//     for /organizations, 50166 when the issuer's document names another issuer,
//     70011 for .default beside named scopes, 400 for 900561.
//   - The clock skew of five minutes is inferred.
//   - An assertion with several audiences is accepted if one of them matches.
//   - Only RS256 is accepted. Entra is reported to take other RSA algorithms too.
//   - The server's own app-only tokens count as a managed identity's, and may be
//     used as assertions where a federated credential names the tenant as issuer.
//   - Access tokens always carry idtyp, user tokens also amr and acct, which
//     Entra makes optional. Graph's tokens can be verified; Entra's cannot.
//   - An Application is a resource by its client id, even with no API exposed.
//   - Named scopes yield exactly those scopes in scp. Entra may add others that
//     were consented: see Behavior.AllConsentedScopes.
//   - Refresh tokens are handed out and cannot be redeemed: the grant
//     refresh_token is answered 70003, like user_fic and every other.
//   - There are no agent identities (fmi_path is ignored), no flexible federated
//     credentials, no user assignment, no regional endpoints. Client capabilities
//     (cp1) do not lengthen tokens; Behavior.Lifetime and RefreshIn do.
//   - Consent is always an administrator's, for all users of the tenant.
//   - Policies that block are not evaluated; Behavior.Code answers as they would.
//   - The token versions of first-party APIs in [DemoDirectory] other than Graph,
//     ARM and the token exchange are inferred.
package entratest
