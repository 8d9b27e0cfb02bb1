package exchange

import (
	"slices"
	"strings"
)

// hints says what to change, by AADSTS number. Words in braces are replaced by
// facts of the request. The numbers are Microsoft's:
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes
var hints = map[int]string{
	28002:   "the scope {scope} is not valid for an access token: use <resource>/.default or one permission of the resource",
	28003:   "no scope was left to issue a token for: use <resource>/.default",
	50001:   "the resource {scope} is disabled or unknown in tenant {tenant}: check its name, and that its service principal exists there",
	50013:   "the user token could not be used as an on-behalf-of assertion: it must be issued for this application by tenant {tenant}",
	50027:   "Entra could not read the workload token: check its issuer, audience and times",
	50033:   "Entra has a passing fault: the broker asks again by itself",
	50034:   "the user does not exist in tenant {tenant}",
	50048:   "the subject of the workload token does not match its issuer: check the federated identity credential",
	50049:   "the authority does not know this instance: check cloud and authority",
	50057:   "the user is disabled",
	50076:   "the user has to pass multi-factor authentication: hand the claims to the front end and sign the user in again",
	50079:   "the user has to enrol for multi-factor authentication: hand the claims to the front end and sign the user in again",
	50105:   "assign the user to the enterprise application {client}, or turn off its assignment requirement",
	50158:   "an external security challenge is not satisfied: sign the user in again",
	50166:   "Entra could not read the keys of the issuer {issuer}: its discovery document and key set must be reachable from the Internet",
	50173:   "the grant was revoked: sign the user in again",
	50194:   "the application {client} is single-tenant: name its own tenant",
	50196:   "Entra sees a loop of identical requests: something is asking without a cache",
	53000:   "a Conditional Access policy wants a compliant device: hand the claims to the front end and sign the user in again from one",
	53001:   "a Conditional Access policy wants a domain-joined device: hand the claims to the front end and sign the user in again from one",
	53002:   "a Conditional Access policy wants an approved application: hand the claims to the front end and sign the user in again from one",
	53003:   "a Conditional Access policy blocks this: for an application or agent there is no remedy but the policy itself",
	65001:   "grant consent: an administrator of tenant {tenant} has to consent to {scope} for application {client}",
	65004:   "the user declined consent: an administrator of tenant {tenant} can grant it for application {client}",
	70000:   "the session belongs to another application than {client}: start again with a new token of the user",
	70003:   "the grant type is not supported: check cloud and authority",
	70008:   "the session has expired: start again with a new token of the user",
	70011:   "the scope {scope} is not valid for this grant: use <resource>/.default",
	70021:   "no federated identity credential of application {client} matches: it needs issuer {issuer}, subject {subject}, audience {audience}; one just made takes minutes to be seen",
	70025:   "application {client} has no federated identity credential: add one with issuer {issuer}, subject {subject}, audience {audience}",
	70043:   "the sign-in frequency of tenant {tenant} ended the session: sign the user in again",
	82001:   "an agent blueprint gets no tokens for resources: ask as an agent identity",
	82014:   "an agent identity takes no part in interactive consent: grant its permissions in the directory, or let it inherit them from the blueprint",
	90002:   "tenant {tenant} does not exist in this cloud: check tenant and cloud",
	90006:   "Entra has a passing fault: the broker asks again by itself",
	90012:   "Entra took too long: the broker asks again by itself",
	90014:   "the request lacked a field: check cloud and authority",
	90023:   "Entra could not read the request: check cloud and authority",
	90024:   "Entra has a passing fault: the broker asks again by itself",
	90033:   "Entra has a passing fault: the broker asks again by itself",
	90055:   "tenant {tenant} as a whole asks too often: wait, and look for what asks without a cache",
	90094:   "an administrator has to consent to {scope} for application {client}",
	100007:  "regional endpoints are not for this application: something set a region",
	240002:  "an id token was sent in the place of an access token: the front end has to send the access token it got for application {client}",
	500011:  "the resource of {scope} has no service principal in tenant {tenant}: check its name, or add the enterprise application",
	500131:  "the user token was issued for another application: it must be issued for application {client}",
	500133:  "the user token has expired: get a new one from the front end",
	501051:  "assign the application {client} to a role of the resource of {scope}, or turn off the resource's assignment requirement",
	530032:  "a security policy of tenant {tenant} blocks the user: an administrator has to look at the risk",
	530035:  "the security defaults of tenant {tenant} block this",
	700005:  "the session belongs to another tenant than {tenant}: start again with a new token of the user",
	700016:  "application {client} does not exist in tenant {tenant}: check clientID and tenant, and that its service principal exists there",
	700021:  "the client assertion names another application than {client}: use a federated identity credential and the platform's own token",
	700022:  "all scopes of one request must belong to one resource",
	700023:  "the client assertion is meant for another audience than tenant {tenant}: use a federated identity credential and the platform's own token",
	700024:  "Entra finds the workload token outside its validity: check the clock, and that the platform replaces the token",
	700025:  "application {client} is a public client: turn off \"allow public client flows\"",
	700027:  "the signature of the workload token did not verify: check that the issuer {issuer} publishes the key it signs with",
	700082:  "the session was not used for 90 days: start again with a new token of the user",
	700211:  "add a federated identity credential with issuer {issuer} exactly (a trailing slash counts), subject {subject}, audience {audience} to application {client}",
	700212:  "the federated identity credential of application {client} must have audience {audience}, and the workload token must be requested for it",
	700213:  "the federated identity credential of application {client} must have subject {subject} exactly (issuer {issuer}, audience {audience})",
	700222:  "a token issued by Entra cannot be used here: use the platform's own token, or a managed identity",
	700223:  "workload identity federation is disabled in tenant {tenant}",
	700229:  "only an app-only Entra token can stand in for a workload token",
	700236:  "the managed identity is of another tenant than application {client}: register the application in the identity's tenant, multi-tenant where it is to act in {tenant}, and let that one trust it",
	700238:  "a policy of tenant {tenant} blocks workload identity federation from this issuer",
	900023:  "tenant {tenant} is neither a GUID nor a verified domain",
	900144:  "the request lacked a parameter: check cloud and authority",
	900561:  "the token endpoint was not asked with POST: check what stands between the broker and the authority",
	1000502: "the certificate of a client assertion is out of date: use a federated identity credential instead",
	1002012: "application tokens need the scope <resource>/.default, not {scope}",
	5002738: "the workload token is not signed with RS256: configure the issuer to sign with an RSA key",
	7000112: "application {client} is disabled in tenant {tenant}",
	7000114: "the user token is an application token: on-behalf-of needs a user's",
	7000214: "the certificate of a client assertion was revoked: use a federated identity credential instead",
	7000215: "a client secret was sent, and a wrong one: check what stands between the broker and the authority",
	7000218: "the request carried no client assertion: check what stands between the broker and the authority",
	7000222: "a client secret was sent, and an expired one: check what stands between the broker and the authority",
	7000229: "application {client} has no service principal in tenant {tenant}: create it (an agent blueprint needs a blueprint principal in each tenant)",
	7000274: "the signature of a certificate credential did not verify: use a federated identity credential instead",
	7000277: "the certificate of a credential was revoked: use a federated identity credential instead",
	7002137: "the subject of the Entra-issued assertion does not match: check the federated identity credential of {client}",
	7002138: "the subject matches but for its case: the federated identity credential of application {client} must have subject {subject}",
	7002381: "tenant {tenant} wants the claim enterprise of GitHub's token to name its own enterprise: include it in the subject template of the organization",
	9000411: "a parameter was sent twice: check what stands between the broker and the authority",
	9001023: "the tenant must be named: common, consumers and organizations have no applications of their own",
	9002313: "the session could not be read: start again with a new token of the user",
}

// hint returns the text for the first number that has one.
func hint(numbers []int, a *ask, p proof, audience string) string {
	for _, number := range numbers {
		if text, ok := hints[number]; ok {
			return strings.NewReplacer(
				"{issuer}", claim(p.assertion.Issuer), "{subject}", claim(p.assertion.Subject), "{audience}", audience,
				"{client}", a.client, "{tenant}", a.tenant, "{scope}", strings.Join(a.scopes, " "),
			).Replace(text)
		}
	}
	return ""
}

// claim shows a claim of the workload token, which is public but unverified.
func claim(s string) string {
	const most = 600 // Entra's own limit for issuer and subject
	if len(s) > most || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "(unprintable)"
	}
	return s
}

// throttled and transient are the numbers that mean "later" whatever the
// status they come with.
func throttled(codes []int) bool {
	return slices.ContainsFunc(codes, func(c int) bool { return c == 90055 || c == loopDetected })
}

func transient(codes []int) bool {
	return slices.ContainsFunc(codes, func(c int) bool { return c == 90024 || c == 50033 || c == 90006 || c == 90012 || c == 90033 })
}
