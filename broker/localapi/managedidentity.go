package localapi

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/policy"
)

const (
	doorManagedIdentity = "managed_identity"

	appServiceVersion = "2019-08-01"
	legacyVersion     = "2017-09-01" // App Service's first, today Azure Machine Learning's

	// maxQueryBytes bounds what a request for a token has after its path.
	maxQueryBytes = 16 << 10

	// noKey is what a client that insists on a key presents where the kernel
	// vouches for it. It is too short to be one.
	noKey = "none"
)

// imdsVersion matches the versions since the first that had identities. Clients
// name different ones and all take the same answer.
var imdsVersion = regexp.MustCompile(`^20(1[89]|[2-9][0-9])-[0-9]{2}-[0-9]{2}$`)

// identityRequest is a request of a client of managed identities.
type identityRequest struct {
	broker.Request
	resource string // as it was asked for
	imds     bool
}

// appService is the endpoint of App Service, 2019-08-01, which all SDKs take
// over plain http: IDENTITY_ENDPOINT and IDENTITY_HEADER.
// https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
func (h *Handler) appService(w http.ResponseWriter, r *http.Request) {
	h.managedIdentity(w, r, false)
}

// imds is the endpoint of virtual machines.
// https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
func (h *Handler) imds(w http.ResponseWriter, r *http.Request) {
	h.managedIdentity(w, r, true)
}

func (h *Handler) managedIdentity(w http.ResponseWriter, r *http.Request, imds bool) {
	req, problem := readIdentityRequest(r, h.broker.Rules().Policy, imds, h.legacy)
	issued, err := h.issue(w, r, req.Request, problem)
	if err == nil {
		writeToken(w, issued, req.members)
		return
	}
	status, wire := h.describe(err, issued.ID)
	if status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodGet)
	}
	writeManagedIdentityError(w, bearable(status, &wire), wire)
}

// readIdentityRequest decodes a request. What its key is good for, and whether
// the identity is the agent's, is for the broker to say.
func readIdentityRequest(r *http.Request, p *policy.Policy, imds, legacy bool) (identityRequest, *badRequest) {
	req := identityRequest{Request: broker.Request{Door: doorManagedIdentity, Raw: true}, imds: imds}
	if r.Method != http.MethodGet {
		return req, &badRequest{status: http.StatusMethodNotAllowed, reason: reasonBadRequest, message: "tokens of managed identities are asked for with GET", hint: "use GET, or POST " + client.TokenPath}
	}
	if len(r.URL.RawQuery) > maxQueryBytes {
		return req, &badRequest{status: http.StatusRequestURITooLong, reason: reasonBadRequest, message: "the query is larger than 16 KiB", hint: "send only the parameters of the token request"}
	}
	var room [formRoom]parameter
	f, problem := parseForm(r.URL.RawQuery, room[:0])
	if problem != nil {
		return req, problem
	}
	if imds {
		req.Key, problem = imdsKey(r, f)
	} else {
		req.Key, problem = appServiceKey(r, f, legacy)
	}
	if problem != nil {
		return req, problem
	}
	if req.Key == noKey {
		req.Key = ""
	}
	if req.resource = f.get("resource"); req.resource == "" {
		return req, bad("resource is missing", "name the API that the token is for, e.g. resource=https://graph.microsoft.com")
	}
	if req.Scope, problem = scopeOfResource(req.resource); problem != nil {
		return req, problem
	}
	if req.Claims, problem = readClaims(f); problem != nil {
		return req, problem
	}
	req.Identity, problem = selected(f, p)
	return req, problem
}

// appServiceKey returns the key. Its header is required even where the kernel
// vouches for the caller: whoever can only make an agent fetch a URL sends none.
func appServiceKey(r *http.Request, f form, legacy bool) (string, *badRequest) {
	header, version := "X-Identity-Header", f.get("api-version")
	switch {
	case version == legacyVersion && legacy:
		header = "Secret"
	case version != appServiceVersion:
		return "", bad("this api-version is not answered here", "ask with api-version="+appServiceVersion)
	}
	key := r.Header.Get(header)
	if key == "" {
		return "", &badRequest{status: http.StatusUnauthorized, code: invalidClient, reason: reasonBadRequest, message: "the header " + header + " is missing",
			hint: "send the agent's key in it, or the word " + noKey + " where the kernel vouches for the caller"}
	}
	return key, nil
}

// imdsKey returns the key, if there is one. Probes come without the header
// Metadata, and are answered in the words of the real endpoint.
func imdsKey(r *http.Request, f form) (string, *badRequest) {
	switch {
	case !strings.EqualFold(r.Header.Get("Metadata"), "true"):
		return "", &badRequest{status: http.StatusBadRequest, code: "bad_request_102", reason: reasonBadRequest, message: "Required metadata header not specified", hint: "send Metadata: true"}
	case !imdsVersion.MatchString(f.get("api-version")):
		return "", bad("this api-version is not answered here", "ask with api-version=2018-02-01")
	}
	return r.Header.Get("X-Identity-Header"), nil
}

// members of an answer are strings throughout: some clients take nothing else,
// and all take strings. App Service itself has no expires_in, but Terraform reads
// nothing else, and would never ask again. What JavaScript and Python compare with
// what they asked for is the resource.
func (req identityRequest) members(b []byte, issued broker.Issued) []byte {
	b = append(append(b, `,"resource":"`...), req.resource...) // which is a scope but for its end: nothing has to be escaped
	b = strconv.AppendInt(append(b, `","expires_on":"`...), issued.ExpiresAt.Unix(), 10)
	b = strconv.AppendInt(append(b, `","not_before":"`...), time.Now().Unix(), 10)
	if issued.ClientID != "" {
		b = append(append(b, `","client_id":"`...), issued.ClientID...)
	}
	left := secondsLeft(issued)
	b = strconv.AppendInt(append(b, `","expires_in":"`...), left, 10)
	if req.imds {
		b = strconv.AppendInt(append(b, `","ext_expires_in":"`...), left, 10)
	}
	return append(b, '"')
}

// bearable turns a status of the OAuth door into one that no client of managed
// identities hangs on. They retry 404, 408, 410, 429 and 5xx, for up to two
// minutes and for as long as any Retry-After says, so what is final is 403.
// It is 400, as at the real endpoints, for an identity that is not there: some
// clients then show a text of their own, which says just that.
func bearable(status int, wire *client.Error) int {
	switch {
	case status == http.StatusTooManyRequests:
		wire.RetryAfter = min(max(wire.RetryAfter, time.Second), 5*time.Second)
		return status
	case status == http.StatusServiceUnavailable:
		wire.RetryAfter = min(max(wire.RetryAfter, time.Second), 2*time.Second)
		return status
	case wire.Reason == string(policy.IdentityNotAllowed), wire.Reason == string(policy.IdentityMissing):
		wire.Code = invalidRequest
		return http.StatusBadRequest
	case status >= http.StatusInternalServerError, status == http.StatusBadRequest && wire.RefusedBy != client.ByBroker:
		return http.StatusForbidden
	}
	return status
}

// identityError is an error in the words of both endpoints: clients of each
// read other members, and some stumble over what is not JSON.
type identityError struct {
	client.Error
	StatusCode int    `json:"statusCode"`
	Message    string `json:"message"`
	Related    string `json:"correlationId"`
}

// writeManagedIdentityError writes an error of the managed identity door. All
// that helps is in its text, which is what the clients show. A 401 has no
// WWW-Authenticate: at these endpoints that is how Azure Arc asks for a file.
func writeManagedIdentityError(w http.ResponseWriter, status int, wire client.Error) {
	setRetryAfter(w, wire.RetryAfter)
	text := wire.Description
	if wire.Hint != "" && !strings.HasSuffix(text, wire.Hint) {
		text += ": " + wire.Hint
	}
	if wire.IssuanceID != "" {
		text += " (issuance " + wire.IssuanceID
		if wire.CorrelationID != "" {
			text += ", correlation " + wire.CorrelationID
		}
		text += ")"
	}
	// To these words clients conclude that there is no endpoint.
	bland := strings.NewReplacer(`"`, "'", `\`, "/", "unreachable", "not reachable", "timed out", "took too long")
	wire.Description, wire.Hint = bland.Replace(text), bland.Replace(wire.Hint)
	body := identityError{Error: wire, StatusCode: status, Message: wire.Description, Related: wire.CorrelationID}
	if body.Related == "" {
		body.Related = wire.IssuanceID
	}
	writeJSON(w, status, body)
}
