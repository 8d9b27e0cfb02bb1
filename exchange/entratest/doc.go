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
// endpoint with four grants: client_credentials, on-behalf-of, refresh_token and
// user_fic. A client proves itself with a federated credential (also a flexible
// one, or one that trusts a managed identity), with a certificate or with a
// secret. Of a federated assertion, the issuer's discovery document and keys are
// fetched, and signature, times, issuer, audience and subject are checked. A
// refusal has the AADSTS code, status and wording that Entra has for that very
// mistake.
//
// An [Issuer] signs the workload tokens. It is a Kubernetes cluster unless
// [IssuerConfig].Platform makes it look like another one: AKS, EKS, GKE, GitHub
// Actions, GitLab, SPIFFE, AWS, Google Cloud, HCP Terraform, Azure DevOps, Vault,
// CircleCI or Buildkite. [Issuer.WorkloadToken] signs the token such a platform
// gives a workload, [Issuer.FederatedCredential] is the credential that trusts it,
// and [Issuer.Sign] signs anything else.
//
// A [PlatformEndpoint] hands such tokens out the way the platform does ([NewIMDS],
// [NewAppService], [NewGitHubActions], [NewTokenRequest], [NewSTS] and others),
// records what was asked, and can be made hostile with a [PlatformBehavior].
//
// [Server.Management] steers a running emulator from the same machine. It mints
// tokens for whoever asks there, and so refuses browsers.
//
// [Server.API] are small resource APIs that validate the tokens they get, for
// testing what comes after the token: Microsoft Graph's users and groups, Azure
// OpenAI with a model that repeats what it hears, an echo, a stream, a WebSocket,
// and claims challenges.
//
// A [Host] runs all of it on loopback TLS with a private CA. Without sockets, also
// inside a testing/synctest bubble, use [Server.RoundTripper] and
// [Issuer.RoundTripper] as the transports of the client under test and of
// Config.HTTPClient.
//
// # Agents
//
// Entra Agent ID has four objects, and so has a [Tenant]: the blueprint (an
// [Application] with Blueprint set), its [BlueprintPrincipal] in the tenant, the
// [AgentIdentity], and the agent user (a [User] with AgentIdentity set). An agent
// has no credentials. Its tokens take two or three requests:
//
//  1. The blueprint proves itself as any application does and asks for
//     api://AzureADTokenExchange/.default with fmi_path={agent}. Call it T1.
//  2. The agent, with T1 as its client assertion, asks for a resource: for itself
//     (client_credentials), or on behalf of a user who signed in to the blueprint.
//  3. Or it asks for api://AzureADTokenExchange/.default, gets T2, and presents
//     both in user_fic to act as its agent user.
//
// Agents' tokens have xms_act_fct, xms_sub_fct and xms_par_app_azp. The facets
// come in any order, with unknown ones among them.
//
// # Policies
//
// A [Directory] can disable users and clients, require assignment, and have
// Conditional Access block somebody or ask for multi-factor authentication. A
// claims request is honoured: xms_cc with cp1 gets long-lived tokens with
// refresh_in from resources that evaluate access continuously, nbf gets a token
// issued since, acrs needs multi-factor authentication.
// [Server.RevokeSignInSessions] ends the refresh tokens of a user.
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
// It has no sign-in page and no authorization endpoint. It does not listen on
// anything but loopback, does not read the environment, keeps nothing on disk but
// the key files of [NewArc], and shares no code with any client.
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
//     oversized parameters, malformed claims and an unknown
//     requested_token_use, 7000218 for an unknown client_assertion_type, 50194
//     for /organizations, 50166 when the issuer's document names another issuer,
//     70011 for .default beside named scopes, 400 for 900561, 50048 and 1000502
//     with 401, 70000 for another client's refresh token, 501051 and 50105 with
//     invalid_grant, 53003 with access_denied.
//   - The clock skew of five minutes is inferred.
//   - Platforms. Key ids and the less common discovery members only look like the
//     real ones. SigV4 is looked at, not verified. IMDS does not repeat cached
//     tokens, and managed identities have no app roles.
//   - An assertion with several audiences is accepted if one of them matches.
//   - Only RS256 is accepted from workloads. Entra is reported to take other RSA
//     algorithms too. Certificates also sign with PS256; they are found by x5t or
//     x5t#S256 and by nothing else.
//   - A quote in a flexible credential's expression is written twice; the
//     documentation only says that single quotes escape.
//   - Of the server's own tokens those count as a managed identity's that were
//     issued to no client of the directory. Anything else is 700222, except T1
//     where a federated credential names its very subject. The status of 700236,
//     for a managed identity of another tenant than the application's, is inferred.
//   - Access tokens always carry idtyp, user tokens also amr and acct, which
//     Entra makes optional. Graph's tokens can be verified; Entra's cannot.
//   - An Application is a resource by its client id, even with no API exposed.
//   - Named scopes yield exactly those scopes in scp. Entra may add others that
//     were consented: see Behavior.AllConsentedScopes.
//   - Refresh tokens are valid until 90 days after they were issued, revocation
//     or the end of the process, whichever is first: a restarted server answers
//     9002313. Entra lets guests redeem them in other tenants; here that is
//     700005. 70008 only comes from Behavior.Code.
//   - T1 is issued for any fmi_path, whether or not there is such an agent, as
//     follows from what Entra says when T1 is of the wrong tenant. Refusals of
//     fmi_path from others than blueprints (90023) and of a blueprint without one
//     (82001) are inferred. 7002137 shows the whole expected subject, where Entra
//     masks the tenant.
//   - The subject of T2 is the agent's id. Which codes Entra has for a wrong T2
//     (50013, 500131, 500133, 700229, 7002137) or for a user who is not the
//     agent's (700213) is inferred; user_fic of anybody else is 70003.
//   - 82014 for agents and blueprints at /authorize and /devicecode is inferred
//     from the code for interactive consent.
//   - App-only v1 tokens of agents have the scope "/", v2 tokens none; Entra is
//     known to do either. Agent users' tokens have their object id as sub and no
//     amr. xms_tnt_fct, and all facets but 11 and 13, are made up.
//   - A blueprint can have AgentIdentity.CreateAsManager and no other permission;
//     Entra's list of permissions that agents cannot have is longer and changes.
//   - Named scopes are accepted from agents. Microsoft's own guidance differs on
//     whether Entra does.
//   - Continuous access: 24 hours for single-tenant applications and Graph, 20 to
//     28 hours for users, refresh_in at half of it. Whether Entra sends refresh_in
//     with user tokens, and whether agents on their own get long-lived ones (not
//     here), is unknown. An explicit lifetime wins over all of it.
//   - A claims request for nbf changes nbf and iat; for acrs it is granted to whoever
//     has amr mfa. Other claims in a request are ignored.
//   - There are no regional endpoints, and Conditional Access knows nothing of
//     devices, places and risk.
//   - Consent is always an administrator's, for all users of the tenant.
//   - The resource APIs answer with few members, and know no $select or $filter.
//     Any token for a resource of the directory opens all but Graph's.
//   - The token versions of first-party APIs in [DemoDirectory] other than Graph,
//     ARM and the token exchange are inferred.
package entratest
