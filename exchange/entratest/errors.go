package entratest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// refusal is an answer of the token service that is not a token. It becomes
// a JSON error document as its row says, and nothing else.
type refusal struct {
	code int
	row  row
	text string
}

func (r *refusal) Error() string { return fmt.Sprintf("AADSTS%d: %s", r.code, r.text) }

// row says how one AADSTS code is answered. Rows without status are 400.
type row struct {
	oauth    string
	text     string // format of the description
	status   int
	suberror string
	claims   string
	// wellKnown codes are on Entra's error look-up page, so answers carry error_uri.
	wellKnown  bool
	retryAfter string
}

const (
	checkCredential = " Please check your federated identity credential Subject, Audience and Issuer against the presented assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
	policyClaims    = `{"access_token":{"capolids":{"essential":true,"values":["c2b1e6c8-53d5-4bd6-a3d2-5a4d3c0f7e21"]}}}`
	multiFactor     = "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access '%s'."
)

// rows holds every code this package can answer with. The texts are Entra's as
// far as they are public.
var rows = map[int]row{
	// The request.
	900561:  {oauth: "invalid_request", text: "The endpoint only accepts POST requests. Received a %s request."},
	900144:  {oauth: "invalid_request", text: "The request body must contain the following parameter: '%s'.", wellKnown: true},
	90023:   {oauth: "invalid_request", text: "Invalid STS request: %s.", wellKnown: true},
	9000411: {oauth: "invalid_request", text: "The request is not properly formatted. The parameter '%s' is duplicated."},
	90014:   {oauth: "invalid_request", text: "The required field '%s' is missing from the credential. Ensure that you have all the necessary parameters for the login request.", wellKnown: true},
	70003:   {oauth: "unsupported_grant_type", text: "The app requested an unsupported grant type '%s'.", wellKnown: true},
	900023:  {oauth: "invalid_request", text: "Specified tenant identifier '%s' is neither a valid DNS name, nor a valid external domain.", wellKnown: true},
	90002:   {oauth: "invalid_request", text: "Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant.", wellKnown: true},
	9001023: {oauth: "invalid_request", text: "The grant type is not supported over the /common or /consumers endpoints. Please use the /organizations or tenant-specific endpoint.", wellKnown: true},
	50194:   {oauth: "invalid_request", text: "Application '%s'(%s) is not configured as a multi-tenant application. Usage of the /common endpoint is not supported for such apps created after '10/15/2018'. Use a tenant-specific endpoint or configure the application to be multi-tenant.", wellKnown: true},
	50049:   {oauth: "invalid_instance", text: "Unknown or invalid instance.", wellKnown: true},

	// The client.
	700016:  {oauth: "unauthorized_client", text: "Application with identifier '%s' was not found in the directory '%s'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant.", wellKnown: true},
	7000112: {oauth: "unauthorized_client", text: "Application '%s'(%s) is disabled.", wellKnown: true},
	700025:  {status: 401, oauth: "invalid_client", text: "Client '%s'(%s) is public so neither 'client_assertion' nor 'client_secret' should be presented.", wellKnown: true},
	82014:   {oauth: "invalid_request", text: "Agent identity '%s' cannot take part in an interactive sign-in or consent."},
	7000218: {status: 401, oauth: "invalid_client", text: "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.", wellKnown: true},
	7000215: {status: 401, oauth: "invalid_client", text: "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", wellKnown: true},
	7000222: {status: 401, oauth: "invalid_client", text: "The provided client secret keys for app '%s' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds.", wellKnown: true},
	7000229: {status: 401, oauth: "invalid_client", text: "The client application %s is missing service principal in the tenant %s. See instructions here: https://go.microsoft.com/fwlink/?linkid=2225119", wellKnown: true},
	700021:  {status: 401, oauth: "invalid_client", text: "Client assertion application identifier doesn't match 'client_id' parameter. Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .", wellKnown: true},
	700023:  {status: 401, oauth: "invalid_client", text: "Client assertion audience claim does not match Realm issuer. Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .", wellKnown: true},
	50048:   {status: 401, oauth: "invalid_client", text: "Subject must match Issuer claim in the client assertion.", wellKnown: true},
	7000214: {status: 401, oauth: "invalid_client", text: "Certificate has been revoked.", wellKnown: true},
	1000502: {status: 401, oauth: "invalid_client", text: "The provided certificate is not within its specified validity window.", wellKnown: true},

	// The client assertion.
	50027:   {oauth: "invalid_request", text: "JWT token is invalid or malformed.", wellKnown: true},
	5002738: {oauth: "invalid_request", text: "Invalid JWT token. '%s' is not a supported signature algorithm. Supported signing algorithms are: 'RS256'."},
	700027:  {status: 401, oauth: "invalid_client", text: "Client assertion failed signature validation. [Reason - %s]", wellKnown: true},
	50166:   {oauth: "invalid_request", text: "Request to External OIDC endpoint failed."},
	700024:  {status: 401, oauth: "invalid_client", text: "Client assertion is not within its valid time range. Current time: %s, assertion valid from %s, expiry time of assertion %s. Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .", wellKnown: true},
	70025:   {status: 401, oauth: "invalid_client", text: "The client '%s'(%s) has no configured federated identity credentials."},
	70021:   {oauth: "invalid_request", text: "No matching federated identity record found for presented assertion. Assertion Issuer: '%s'. Assertion Subject: '%s'. Assertion Audience: '%s'. https://docs.microsoft.com/en-us/azure/active-directory/develop/workload-identity-federation", wellKnown: true},
	700211:  {status: 401, oauth: "invalid_client", text: "No matching federated identity record found for presented assertion issuer '%s'." + checkCredential, wellKnown: true},
	700212:  {status: 401, oauth: "invalid_client", text: "No matching federated identity record found for presented assertion audience '%s'." + checkCredential, wellKnown: true},
	700213:  {status: 401, oauth: "invalid_client", text: "No matching federated identity record found for presented assertion subject '%s'." + checkCredential, wellKnown: true},
	7002138: {status: 401, oauth: "invalid_client", text: "No matching federated identity record found for presented assertion subject '%s'. The subject matches with case-insensitive comparison, but not with case-sensitive comparison." + checkCredential},
	7002137: {status: 401, oauth: "invalid_client", text: "No matching federated identity record found for presented assertion subject '%s'. Please make sure the federated identity credential Subject is '%s'."},
	700222:  {status: 401, oauth: "invalid_client", text: "AAD-issued tokens may not be used for federated identity flows.", wellKnown: true},
	700229:  {status: 401, oauth: "invalid_client", text: "Forbidden token type. Only app-only tokens can be used as Federated Identity Credentials for AAD issuer.", wellKnown: true},
	700236:  {status: 401, oauth: "invalid_client", text: "Entra ID tokens issued by issuer '%s' may not be used for federated identity credential flows for applications or managed identities registered in this tenant."},

	// The scope.
	70011:   {oauth: "invalid_scope", text: "The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid. The scope %s is not valid.", wellKnown: true},
	1002012: {oauth: "invalid_scope", text: "The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."},
	700022:  {oauth: "invalid_scope", text: "The provided value for the input parameter scope '%s' is not valid because it contains more than one resource.", wellKnown: true},
	500011:  {oauth: "invalid_resource", text: "The resource principal named %s was not found in the tenant named %s. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant.", wellKnown: true},
	50001:   {oauth: "invalid_resource", text: "The resource principal named %s is disabled in the tenant named %s.", wellKnown: true},
	501051:  {oauth: "invalid_grant", text: "Application '%s'(%s) is not assigned to a role for the application '%s'(%s).", wellKnown: true},
	50105:   {oauth: "invalid_grant", text: "Your administrator has configured the application '%s' ('%s') to block users unless they are specifically granted ('assigned') access to the application. The signed in user '%s' is blocked because they are not a direct member of a group with access, nor had access directly assigned by an administrator. Please contact your administrator to assign access to this application.", wellKnown: true},
	82001:   {oauth: "unauthorized_client", text: "Agentic application '%s' is not permitted to request app-only tokens for resource '%s'."},

	// The user's assertion.
	240002:  {oauth: "invalid_request", text: "Input id_token cannot be used as 'urn:ietf:params:oauth:grant-type:jwt-bearer' grant.", wellKnown: true},
	50013:   {oauth: "invalid_grant", text: "Assertion failed signature validation. [Reason - %s]", wellKnown: true},
	500131:  {oauth: "invalid_grant", text: "Assertion audience does not match the Client app presenting the assertion. The audience in the assertion was '%s' and the expected audience is '%s' or one of the Application Uris of this application with App ID '%s'(%s). The downstream client must request a token for the expected audience (the application that made the OBO request) and this application should use that token as the assertion.", wellKnown: true},
	500133:  {oauth: "invalid_grant", text: "Assertion is not within its valid time range. Ensure that the access token is not expired before using it for user assertion, or request a new token. Current time: %s, expiry time of assertion %s.", wellKnown: true},
	7000114: {oauth: "unauthorized_client", text: "Application '%s' is not allowed to make application on-behalf-of calls.", wellKnown: true},
	65001:   {oauth: "invalid_grant", suberror: "consent_required", text: "The user or administrator has not consented to use the application with ID '%s' named '%s'. Send an interactive authorization request for this user and resource.", wellKnown: true},
	50034:   {oauth: "invalid_grant", text: "The user account %s does not exist in the %s directory. To sign into this application, the account must be added to the directory.", wellKnown: true},
	50057:   {oauth: "invalid_grant", text: "The user account is disabled.", wellKnown: true},
	50076:   {oauth: "interaction_required", suberror: "basic_action", claims: policyClaims, text: multiFactor, wellKnown: true},
	53003:   {oauth: "access_denied", suberror: "message_only", claims: policyClaims, text: "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.", wellKnown: true},

	// The refresh token.
	9002313: {oauth: "invalid_grant", text: "Invalid request. Request is malformed or invalid.", wellKnown: true},
	70000:   {oauth: "invalid_grant", suberror: "client_mismatch", text: "Provided grant is invalid or malformed: the refresh token was issued to another client than '%s'.", wellKnown: true},
	700005:  {oauth: "invalid_grant", text: "The provided refresh token is intended to use against other tenant, thus rejected.", wellKnown: true},
	50173:   {oauth: "invalid_grant", suberror: "bad_token", text: "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password. The grant was issued on '%s' and the TokensValidFrom date (before which tokens are not valid) for this user is '%s'.", wellKnown: true},
	700082:  {oauth: "invalid_grant", suberror: "bad_token", text: "The refresh token has expired due to inactivity. The token was issued on %s and was inactive for 90.00:00:00.", wellKnown: true},
	70008:   {oauth: "invalid_grant", suberror: "bad_token", text: "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource.", wellKnown: true},

	// Refusals that only Behavior brings about.
	50079:   {oauth: "interaction_required", suberror: "basic_action", claims: policyClaims, text: "Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multi-factor authentication.", wellKnown: true},
	50158:   {oauth: "interaction_required", claims: policyClaims, text: "External security challenge not satisfied. User will be redirected to another page or authentication provider to satisfy additional authentication challenges.", wellKnown: true},
	50196:   {oauth: "invalid_grant", text: "The server terminated an operation because it encountered a client request loop. Please contact your app vendor.", wellKnown: true},
	53000:   {oauth: "interaction_required", suberror: "message_only", claims: policyClaims, text: "Your device is required to be compliant to access this resource.", wellKnown: true},
	700223:  {oauth: "invalid_request", text: "The federated identity credential flow is disabled in this tenant."},
	7002381: {status: 401, oauth: "invalid_client", text: "The assertion does not carry the enterprise claim value that the tenant's policy requires."},
	90033:   {status: 503, oauth: "temporarily_unavailable", text: "A transient error has occurred. Please try again.", wellKnown: true},
	90055:   {status: 429, oauth: "temporarily_unavailable", retryAfter: "10", text: "The server is terminating the request because this tenant has exceeded the number of allowed concurrent requests.", wellKnown: true},
	28002:   {oauth: "invalid_scope", text: "The provided value for the input parameter scope is not valid when requesting an access token. Please specify a valid scope."},
	28003:   {oauth: "invalid_scope", text: "The provided value for the input parameter scope can't be empty when requesting an access token using the provided authorization code. Please specify a valid scope."},
	50033:   {status: 503, oauth: "temporarily_unavailable", text: "A transient error has occurred. Please try again."},
	53001:   {oauth: "interaction_required", suberror: "message_only", claims: policyClaims, text: "Device is not in required device state. Conditional Access policy requires a domain joined device, and the device is not domain joined.", wellKnown: true},
	53002:   {oauth: "interaction_required", suberror: "message_only", claims: policyClaims, text: "The app used isn't an approved app for Conditional Access.", wellKnown: true},
	530032:  {oauth: "invalid_grant", suberror: "message_only", text: "User blocked due to risk or a security policy of the tenant.", wellKnown: true},
	530035:  {oauth: "invalid_grant", suberror: "message_only", text: "Access has been blocked by security defaults. The access policy does not allow token issuance."},
	65004:   {oauth: "access_denied", text: "User declined to consent to access the app.", wellKnown: true},
	70043:   {oauth: "invalid_grant", suberror: "bad_token", text: "The refresh token has expired or is invalid due to sign-in frequency checks by Conditional Access.", wellKnown: true},
	700238:  {status: 401, oauth: "invalid_client", text: "A policy of the tenant blocks workload identity federation from this issuer."},
	7000274: {status: 401, oauth: "invalid_client", text: "The signature of the certificate credential could not be verified."},
	7000277: {status: 401, oauth: "invalid_client", text: "The certificate of the credential has been revoked."},
	90006:   {status: 503, oauth: "temporarily_unavailable", text: "The service is temporarily unavailable. Please retry.", wellKnown: true},
	90012:   {status: 503, oauth: "temporarily_unavailable", text: "The request has timed out.", wellKnown: true},
	90024:   {status: 503, oauth: "temporarily_unavailable", text: "A transient error has occurred. Please try again.", wellKnown: true},
	100007:  {oauth: "invalid_request", text: "AAD Regional ONLY supports auth either for MSIs OR for requests from MSAL using SN+I for 1P apps or 3P apps in Microsoft infrastructure tenants."},
	90094:   {oauth: "invalid_grant", suberror: "consent_required", text: "Admin consent is required for the permissions requested by this application.", wellKnown: true},
}

// Codes returns the AADSTS numbers of every refusal that the server can answer
// with, sorted. Behavior.Code brings about any of them.
func Codes() []int { return slices.Sorted(maps.Keys(rows)) }

// refuse makes the error for a code. args fill its text.
func refuse(code int, args ...any) error {
	r, ok := rows[code]
	if !ok {
		r = row{oauth: "invalid_request", text: "The emulator was told to answer with this code."}
	}
	return &refusal{code: code, row: r, text: fmt.Sprintf(r.text, args...)}
}

// refuseWithClaims is refuse with a claims challenge of its own.
func refuseWithClaims(code int, claims string, args ...any) error {
	err := &refusal{code: code, row: rows[code], text: fmt.Sprintf(rows[code].text, args...)}
	err.row.claims = claims
	return err
}

// placeholder is where the text of a row takes a value.
var placeholder = regexp.MustCompile(`%s`)

// refuseForced is refuse for a code that nothing in the request brought about,
// and so has no values for its text.
func refuseForced(code int) error {
	values := placeholder.FindAllString(rows[code].text, -1)
	args := make([]any, len(values))
	for i := range args {
		args[i] = "unknown"
	}
	return refuse(code, args...)
}

// refuseLoop throttles an application that asks for the same token again and
// again.
func refuseLoop() error {
	err := &refusal{code: 50196, row: rows[50196], text: rows[50196].text}
	err.row.status, err.row.oauth, err.row.retryAfter = http.StatusTooManyRequests, "temporarily_unavailable", retryOnLoops
	return err
}

// refused renders err and completes rec. An error that is no refusal is a
// defect of the emulator or a lost client, and is answered without its text.
func (s *Server) refused(err error, rec *Request) reply {
	var r *refusal
	if !errors.As(err, &r) {
		rec.Error = "server_error"
		return reply{status: http.StatusInternalServerError}
	}
	rec.Error, rec.Codes = r.row.oauth, []int{r.code}
	stamp := s.now().UTC().Format("2006-01-02 15:04:05Z")
	doc := map[string]any{
		"error": r.row.oauth,
		"error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s",
			r.code, r.text, rec.TraceID, rec.CorrelationID, stamp),
		"error_codes":    []int{r.code},
		"timestamp":      stamp,
		"trace_id":       rec.TraceID,
		"correlation_id": rec.CorrelationID,
	}
	if r.row.wellKnown {
		doc["error_uri"] = s.cfg.BaseURL + "/error?code=" + strconv.Itoa(r.code)
	}
	if r.row.suberror != "" {
		doc["suberror"] = r.row.suberror
	}
	if r.row.claims != "" {
		doc["claims"] = r.row.claims
	}
	rep := s.document(http.StatusBadRequest, rec, doc)
	if r.row.status != 0 {
		rep.status = r.row.status
	}
	if r.row.retryAfter != "" {
		rep.header.Set("Retry-After", r.row.retryAfter)
	}
	return rep
}

// document renders the members of a JSON object in random order: clients must
// not rely on one.
func (s *Server) document(status int, rec *Request, members map[string]any) reply {
	names := slices.Collect(maps.Keys(members))
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	body := []byte("{")
	for i, name := range names {
		value, err := json.Marshal(members[name])
		if err != nil {
			return reply{status: http.StatusInternalServerError}
		}
		if i > 0 {
			body = append(body, ',')
		}
		body = strconv.AppendQuote(body, name)
		body = append(append(body, ':'), value...)
	}
	body = append(body, '}')
	return reply{status: status, header: s.answerHeaders(rec), body: body}
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.UTC().Format("2006-01-02T15:04:05.0000000Z")
}
