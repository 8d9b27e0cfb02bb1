package localapi_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	msal "github.com/AzureAD/microsoft-authentication-library-for-go/apps/managedidentity"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/client"
	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/exchange/entratest"
)

const (
	resource   = "https://graph.microsoft.com"
	appService = "/msi/token?api-version=2019-08-01&resource=" + resource
	imds       = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=" + resource
)

var (
	asAppService = []string{"X-IDENTITY-HEADER", "none"}
	asIMDS       = []string{"Metadata", "true"}
)

// many is thisUser with more identities to select from; demo is the default.
func many(dir string) string {
	return thisUser(dir) + "    identities: [demo, fleet, robot]\n"
}

// The bodies, member by member: all of them strings.
func TestManagedIdentityAnswers(t *testing.T) {
	d := open(t, many)
	for name, test := range map[string]struct {
		path    string
		headers []string
		client  string
		members string
	}{
		"App Service":            {appService, asAppService, entratest.DemoClientID, "access_token client_id expires_in expires_on not_before resource token_type"},
		"with a slash":           {appService + "/", asAppService, entratest.DemoClientID, "access_token client_id expires_in expires_on not_before resource token_type"},
		"selected":               {appService + "&client_id=" + strings.ToUpper(entratest.DemoClientID), asAppService, entratest.DemoClientID, "access_token client_id expires_in expires_on not_before resource token_type"},
		"of a fleet":             {appService + "&object_id=" + entratest.DemoAgentIdentityID, asAppService, entratest.DemoAgentIdentityID, "access_token client_id expires_in expires_on not_before resource token_type"},
		"by name":                {appService + "&identity=fleet/" + entratest.DemoAgentIdentityID, asAppService, entratest.DemoAgentIdentityID, "access_token client_id expires_in expires_on not_before resource token_type"},
		"with what else is sent": {appService + "&xms_cc=cp1&bypass_cache=true&client_id=", asAppService, entratest.DemoClientID, "access_token client_id expires_in expires_on not_before resource token_type"},
		"as Rust and MSAL Python": {appService, append([]string{"Metadata", "true", "Content-Type", "application/x-www-form-urlencoded"}, asAppService...), entratest.DemoClientID,
			"access_token client_id expires_in expires_on not_before resource token_type"},
		"IMDS":            {imds, asIMDS, entratest.DemoClientID, "access_token client_id expires_in expires_on ext_expires_in not_before resource token_type"},
		"IMDS by Rust":    {strings.Replace(imds, "2018-02-01", "2019-08-01", 1), []string{"metadata", "TRUE"}, entratest.DemoClientID, "access_token client_id expires_in expires_on ext_expires_in not_before resource token_type"},
		"IMDS with a key": {imds, append(asIMDS, asAppService...), entratest.DemoClientID, "access_token client_id expires_in expires_on ext_expires_in not_before resource token_type"},
	} {
		t.Run(name, func(t *testing.T) {
			got := d.send(t, http.MethodGet, test.path, "", test.headers...)
			var members map[string]string
			if err := json.Unmarshal([]byte(got.body), &members); err != nil || got.StatusCode != 200 || got.Header.Get("Content-Type") != "application/json" {
				t.Fatalf("got %d %s: %v", got.StatusCode, got.body, err)
			}
			var want = map[string]bool{}
			for member := range strings.FieldsSeq(test.members) {
				want[member] = true
			}
			found := map[string]bool{}
			for member := range members {
				found[member] = true
			}
			if diff := cmp.Diff(want, found); diff != "" {
				t.Errorf("members (-want +got):\n%s", diff)
			}
			expires, err := strconv.ParseInt(members["expires_on"], 10, 64)
			check(t, err)
			if left := time.Until(time.Unix(expires, 0)); left < time.Hour-time.Minute || left > 25*time.Hour {
				t.Errorf("the token expires in %s", left)
			} else if seconds, err := strconv.Atoi(members["expires_in"]); err != nil || time.Duration(seconds)*time.Second < left-time.Minute || time.Duration(seconds)*time.Second > left+time.Minute {
				t.Errorf("got expires_in %q, want the %s until expires_on", members["expires_in"], left)
			}
			asked := strings.TrimPrefix(test.path[strings.Index(test.path, "resource="):], "resource=")
			asked, _, _ = strings.Cut(asked, "&")
			if members["resource"] != asked || members["token_type"] != "Bearer" {
				t.Errorf("got resource %q, type %q; want %q as it was asked for", members["resource"], members["token_type"], asked)
			}
			if token := d.verify(t, members["access_token"]); token.Client != test.client {
				t.Errorf("got a token of %s, want one of %s", token.Client, test.client)
			}
			if got.Header.Get(client.IssuanceHeader) == "" || !strings.Contains(d.audited(), `"managed_identity"`) {
				t.Error("the issuance is not recorded as one of this door")
			}
		})
	}
}

// az asks for Azure Resource Manager by its older name, with a slash, and gets a
// token for what it has asked for where the policy allows arm.
func TestManagedIdentityOfAz(t *testing.T) {
	d := open(t, func(dir string) string {
		return strings.Replace(thisUser(dir), `"`+graph+`"`, "arm", 1)
	})
	const asked = "https://management.core.windows.net/"
	got := d.send(t, http.MethodGet, "/msi/token?api-version=2019-08-01&resource="+url.QueryEscape(asked), "", asAppService...)
	var members struct {
		Token    string `json:"access_token"`
		Resource string `json:"resource"`
	}
	check(t, json.Unmarshal([]byte(got.body), &members))
	parsed, err := jwt.ParseSigned(members.Token, []jose.SignatureAlgorithm{jose.RS256})
	check(t, err)
	var token claims
	check(t, parsed.UnsafeClaimsWithoutVerification(&token))
	if members.Resource != asked || token.Audience != strings.TrimSuffix(asked, "/") {
		t.Errorf("got %q for %q, want %q", token.Audience, members.Resource, asked)
	}
	if lines := d.audited(); !strings.Contains(lines, `"scopes":["https://management.core.windows.net/.default"]`) || !strings.Contains(lines, `"rule":"agents.demo.allow.scopes[0]"`) {
		t.Errorf("recorded %s", lines)
	}
	// By the other doors, and with Entra's own two slashes.
	for _, form := range []string{form("grant_type", "client_credentials", "scope", asked+"/.default"), form("grant_type", "client_credentials", "resource", asked),
		form("grant_type", "client_credentials", "scope", asked+"/.default", "resource", asked)} {
		if got := d.send(t, http.MethodPost, "/oauth2/token", form); got.StatusCode != 200 {
			t.Errorf("%s: got %d %s", form, got.StatusCode, got.body)
		}
	}
}

// What is refused, and never with a status that a client waits for.
func TestManagedIdentityRefusals(t *testing.T) {
	d := open(t, many)
	const vault = "/msi/token?api-version=2019-08-01&resource=https://vault.azure.net"
	for name, test := range map[string]struct {
		method, path string
		headers      []string
		status       int
		code, says   string
	}{
		"no key":                    {"GET", appService, nil, 401, "invalid_client", "X-Identity-Header"},
		"POST":                      {"POST", appService, asAppService, 405, "invalid_request", "GET"},
		"HEAD is no way to a token": {"PUT", imds, asIMDS, 405, "invalid_request", "GET"},
		"no version":                {"GET", "/msi/token?resource=" + resource, asAppService, 400, "invalid_request", "2019-08-01"},
		"another version":           {"GET", "/msi/token?api-version=2020-06-01&resource=" + resource, asAppService, 400, "invalid_request", "2019-08-01"},
		"legacy, not wanted":        {"GET", "/msi/token?api-version=2017-09-01&resource=" + resource, []string{"secret", "none"}, 400, "invalid_request", "2019-08-01"},
		"no resource":               {"GET", "/msi/token?api-version=2019-08-01", asAppService, 400, "invalid_request", "resource"},
		"two resources":             {"GET", appService + "&resource=https://vault.azure.net", asAppService, 400, "invalid_request", "once"},
		"resource with a space":     {"GET", appService + "%20x", asAppService, 400, "invalid_target", "white space"},
		"broken encoding":           {"GET", "/msi/token?resource=%zz", asAppService, 400, "invalid_request", "encod"},
		"a huge query":              {"GET", appService + "&x=" + strings.Repeat("x", 17<<10), asAppService, 414, "invalid_request", "16 KiB"},
		"claims not JSON":           {"GET", appService + "&claims=x", asAppService, 400, "invalid_request", "claims"},
		"two selectors":             {"GET", appService + "&client_id=a&mi_res_id=b", asAppService, 400, "invalid_request", "several"},
		"resource not granted":      {"GET", vault, asAppService, 403, "invalid_scope", "agents.demo.allow.scopes"},
		"a permission":              {"GET", appService + "/Mail.Read", asAppService, 403, "invalid_scope", "agents.demo.allow.scopes"},
		"identity of nobody":        {"GET", appService + "&client_id=" + entratest.DemoTenantID, asAppService, 400, "invalid_request", "agents.demo.identities"},
		"identity of another":       {"GET", appService + "&object_id=" + vmObjectID, asAppService, 400, "invalid_request", "agents.demo.identities"},
		"a name is no client id":    {"GET", appService + "&client_id=demo", asAppService, 400, "invalid_request", "agents.demo.identities"},
		"a resource id":             {"GET", appService + "&mi_res_id=/subscriptions/x", asAppService, 400, "invalid_request", "agents.demo.identities"},
		"a fleet, which one":        {"GET", appService + "&identity=fleet", asAppService, 400, "invalid_request", "fleet/"},
		"probe":                     {"GET", "/metadata/identity/oauth2/token", nil, 400, "bad_request_102", "Required metadata header not specified"},
		"probe of .NET":             {"GET", imds + "&msi-res-id=x", nil, 400, "bad_request_102", "Required metadata header not specified"},
		"Metadata: false":           {"GET", imds, []string{"Metadata", "false"}, 400, "bad_request_102", "Metadata: true"},
		"IMDS without a version":    {"GET", "/metadata/identity/oauth2/token?resource=" + resource, asIMDS, 400, "invalid_request", "2018-02-01"},
		"IMDS before identities":    {"GET", strings.Replace(imds, "2018", "2017", 1), asIMDS, 400, "invalid_request", "2018-02-01"},
		"through a proxy":           {"GET", imds, append([]string{"X-Forwarded-For", "10.0.0.1"}, asIMDS...), 403, "access_denied", "proxy"},
		"browser":                   {"GET", imds, append([]string{"Origin", "http://127.0.0.1"}, asIMDS...), 403, "access_denied", "web page"},
		"wrong IDENTITY_ENDPOINT":   {"GET", "/?api-version=2019-08-01&resource=x", asAppService, 400, "invalid_request", "/msi/token"},
		"is this IMDS 2":            {"GET", "/metadata/identity/getplatformmetadata?cred-api-version=2.0", nil, 404, "not_found", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := d.send(t, test.method, test.path, "", test.headers...)
			if got.StatusCode != test.status || got.error.Code != test.code || !strings.Contains(got.error.Description+got.error.Hint, test.says) {
				t.Fatalf("got %d %s, want %d %s that says %q", got.StatusCode, got.body, test.status, test.code, test.says)
			}
			if test.status != 404 {
				got.hasBothShapes(t)
			}
			if (test.status == 405) != (got.Header.Get("Allow") == "GET") {
				t.Errorf("got Allow %q", got.Header.Get("Allow"))
			}
		})
	}
	if got := d.entra.TokenRequests(); got != 0 {
		t.Errorf("Entra was asked %d times", got)
	}
}

// hasBothShapes checks what the clients of either endpoint read of a refusal.
func (got answer) hasBothShapes(t *testing.T) {
	t.Helper()
	var body struct {
		StatusCode    int    `json:"statusCode"`
		Message       string `json:"message"`
		CorrelationID string `json:"correlationId"`
	}
	check(t, json.Unmarshal([]byte(got.body), &body))
	if body.StatusCode != got.StatusCode || body.Message == "" || body.Message != got.error.Description || got.error.Hint == "" {
		t.Errorf("got %s", got.body)
	}
	if id := got.error.IssuanceID; id != "" && (!strings.Contains(body.Message, id) || body.CorrelationID == "") {
		t.Errorf("the message does not say which issuance it was: %s", got.body)
	}
	if !strings.Contains(body.Message, got.error.Hint) {
		t.Errorf("the message does not hold the hint: %s", got.body)
	}
	if after := got.Header.Get("Retry-After"); (after != "") != (got.StatusCode == 429 || got.StatusCode == 503) {
		t.Errorf("got status %d with Retry-After %q", got.StatusCode, after)
	}
	if got.Header.Get("WWW-Authenticate") != "" {
		t.Error("got WWW-Authenticate, which clients of Azure Arc know")
	}
}

// What goes wrong behind the broker: only what can mend itself is worth a
// client's waiting, and not for long.
func TestManagedIdentityFailures(t *testing.T) {
	for name, test := range map[string]struct {
		behavior   entratest.Behavior
		break_     func(t *testing.T, d *door)
		agents     func(string) string
		status     int
		code       string
		retryAfter string
	}{
		"throttled":              {behavior: entratest.Behavior{Status: 429, RetryAfter: "77"}, status: 429, code: "temporarily_unavailable", retryAfter: "5"},
		"outage":                 {behavior: entratest.Behavior{Status: 503}, status: 503, code: "temporarily_unavailable", retryAfter: "1"},
		"refused":                {behavior: entratest.Behavior{Code: 700016}, status: 403, code: "unauthorized_client"},
		"conditional access":     {behavior: entratest.Behavior{Code: 53003}, status: 403, code: "access_denied"},
		"wrong kind":             {behavior: entratest.Behavior{WrongGrant: true}, status: 403, code: "server_error"},
		"no workload token":      {break_: func(t *testing.T, d *door) { check(t, os.Remove(d.file)) }, status: 503, code: "temporarily_unavailable", retryAfter: "1"},
		"garbled workload token": {break_: func(t *testing.T, d *door) { check(t, os.WriteFile(d.file, []byte("x"), 0o600)) }, status: 403, code: "server_error"},
		"audit log full":         {break_: func(_ *testing.T, d *door) { d.full.Store(true) }, status: 503, code: "temporarily_unavailable", retryAfter: "1"},
		"nobody":                 {agents: stranger, status: 401, code: "invalid_client"},
		"expired":                {agents: forUsers("    expires: 2020-01-01\n"), status: 403, code: "unauthorized_client"},
		"token stays":            {agents: forUsers("    rawToken: false\n"), status: 403, code: "unauthorized_client"},
		"over the limit":         {agents: forUsers("    limits: {perMinute: 1}\n"), break_: func(t *testing.T, d *door) { d.send(t, http.MethodGet, appService, "", asAppService...) }, status: 429, code: "temporarily_unavailable", retryAfter: "5"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.agents == nil {
				test.agents = thisUser
			}
			d := open(t, test.agents)
			d.entra.SetBehavior(test.behavior)
			if test.break_ != nil {
				test.break_(t, d)
			}
			got := d.send(t, http.MethodGet, appService, "", asAppService...)
			if got.StatusCode != test.status || got.error.Code != test.code || got.Header.Get("Retry-After") != test.retryAfter {
				t.Fatalf("got %d %s, Retry-After %q; want %d %s, %q", got.StatusCode, got.body, got.Header.Get("Retry-After"), test.status, test.code, test.retryAfter)
			}
			got.hasBothShapes(t)
		})
	}
}

// The key, or a word in its place where the kernel vouches.
func TestManagedIdentityKeys(t *testing.T) {
	byKey, byUID := open(t, keyHolder), open(t, thisUser)
	both := open(t, func(dir string) string {
		return thisUser(dir) + strings.Replace(keyHolder(dir), "demo:", "other:", 1)
	})
	for name, test := range map[string]struct {
		door   *door
		key    string
		status int
	}{
		"its key":                        {byKey, keyText, 200},
		"another":                        {byKey, keyText + "x", 401},
		"no key":                         {byKey, "none", 401},
		"anything, where nobody has one": {byUID, "libraries insist on one", 200},
		"none, where nobody has one":     {byUID, "none", 200},
		"none, where others have one":    {both, "none", 200},
		"a wrong one":                    {both, "libraries insist on one", 401},
		"another agent's":                {both, keyText, 200},
	} {
		t.Run(name, func(t *testing.T) {
			for path, headers := range map[string][]string{appService: {"X-Identity-Header", test.key}, imds: {"X-Identity-Header", test.key, "Metadata", "true"}} {
				got := test.door.send(t, http.MethodGet, path, "", headers...)
				if got.StatusCode != test.status {
					t.Errorf("%s: got %d %s, want %d", path, got.StatusCode, got.body, test.status)
				}
				if strings.Contains(got.body+test.door.audited(), test.key) && test.key != "none" {
					t.Errorf("%s: the key comes back: %s", path, got.body)
				}
			}
		})
	}
}

func TestLegacyMSI(t *testing.T) {
	d := open(t, thisUser, func(cfg *localapi.Config) { cfg.LegacyMSI = true })
	const path = "/msi/token?api-version=2017-09-01&resource=" + resource
	if got := d.send(t, http.MethodGet, path+"&clientid="+entratest.DemoClientID, "", "secret", "none"); got.StatusCode != 200 {
		t.Errorf("got %d %s", got.StatusCode, got.body)
	}
	if got := d.send(t, http.MethodGet, path, "", "X-IDENTITY-HEADER", "none"); got.StatusCode != 401 || !strings.Contains(got.body, "Secret") {
		t.Errorf("without the header secret: got %d %s", got.StatusCode, got.body)
	}
	if got := d.send(t, http.MethodGet, appService, "", asAppService...); got.StatusCode != 200 {
		t.Errorf("2019-08-01: got %d %s", got.StatusCode, got.body)
	}
}

// MSAL Go, which nobody here wrote: it takes the answer, keeps it, and shows
// our words at once when there is none.
func TestMSAL(t *testing.T) {
	d := open(t, keyHolder)
	key, err := os.ReadFile(filepath.Join(filepath.Dir(d.file), "key"))
	check(t, err)
	t.Setenv("IDENTITY_ENDPOINT", d.url+client.ManagedIdentityPath)
	t.Setenv("IDENTITY_HEADER", strings.TrimSpace(string(key)))
	asker, err := msal.New(msal.UserAssignedClientID(entratest.DemoClientID))
	check(t, err)
	// Claims leave out MSAL's cache, which is one for the whole process.
	first, err := asker.AcquireToken(t.Context(), resource, msal.WithClaims("{}"))
	check(t, err)
	d.verify(t, first.AccessToken)
	if left := time.Until(first.ExpiresOn); left < time.Hour-time.Minute {
		t.Errorf("the token is said to expire in %s", left)
	}
	d.audited()
	second, err := asker.AcquireToken(t.Context(), resource)
	check(t, err)
	if second.AccessToken != first.AccessToken || d.audited() != "" {
		t.Error("the second token was asked for again")
	}
	start := time.Now()
	_, err = asker.AcquireToken(t.Context(), "https://vault.azure.net")
	if err == nil || !strings.Contains(err.Error(), "agents.demo.allow.scopes") {
		t.Errorf("got %v, want the rule that denied", err)
	}
	if strings.Count(d.audited(), "\n") != 1 || time.Since(start) > 900*time.Millisecond {
		t.Errorf("the denial took %s, or several requests", time.Since(start))
	}
}
