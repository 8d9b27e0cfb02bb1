package world

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/credfree/credfree/exchange/entratest"
)

// Row is a request that must fail, and how. Every client runs every row.
type Row struct {
	Name string `json:"name"`
	// Flow is "app" or "obo".
	Flow          string   `json:"flow"`
	Tenant        string   `json:"tenant"`
	Client        string   `json:"client"`
	Scopes        []string `json:"scopes"`
	Assertion     string   `json:"assertion"`
	UserAssertion string   `json:"userAssertion"`
	// Secret takes the place of the assertion.
	Secret string `json:"secret"`
	// Behavior is to be set for the row, and reset after it.
	Behavior entratest.Behavior `json:"behavior"`

	Status int    `json:"status"`
	Error  string `json:"error"` // empty: the answer is no OAuth error
	Code   int    `json:"code"`
	// Suberror, Claims and RetryAfter are what the answer carries besides.
	Suberror   string `json:"suberror"`
	Claims     bool   `json:"claims"`
	RetryAfter string `json:"retryAfter"`
	// Discovery says that the tenant's metadata already fails.
	Discovery bool `json:"discovery"`
}

// Rows makes the table, with fresh tokens.
func (w *World) Rows() ([]Row, error) {
	m := &minter{world: w}
	rows := m.appRows()
	rows = append(rows, m.userRows()...)
	rows = append(rows, m.hostileRows()...)
	return rows, errors.Join(m.errs...)
}

// appRows are the mistakes an application can make on its own.
func (m *minter) appRows() []Row {
	row := func(name string, status int, oauth string, code int, change func(*Row)) Row {
		r := Row{
			Name: name, Flow: "app", Tenant: m.world.Tenant, Client: m.world.Client, Scopes: []string{graph + "/.default"},
			Status: status, Error: oauth, Code: code,
		}
		change(&r)
		if r.Assertion == "" && r.Secret == "" {
			r.Assertion = m.workload(trusted())
		}
		return r
	}
	account := func(change func(*entratest.ServiceAccountToken)) func(*Row) {
		t := trusted()
		change(&t)
		return func(r *Row) { r.Assertion = m.workload(t) }
	}
	return []Row{
		row("wrong subject", 401, "invalid_client", 700213, account(func(t *entratest.ServiceAccountToken) { t.ServiceAccount = "other" })),
		row("subject in another case", 401, "invalid_client", 7002138, account(func(t *entratest.ServiceAccountToken) { t.ServiceAccount = "Demo" })),
		row("wrong audience", 401, "invalid_client", 700212, account(func(t *entratest.ServiceAccountToken) { t.Audience = "https://kubernetes.default.svc" })),
		row("wrong issuer", 401, "invalid_client", 700211, func(r *Row) { r.Assertion = m.otherIssuer() }),
		row("expired assertion", 401, "invalid_client", 700024, account(func(t *entratest.ServiceAccountToken) { t.Lifetime = -time.Hour })),
		row("bad signature", 401, "invalid_client", 700027, func(r *Row) { r.Assertion = tampered(m.workload(trusted())) }),
		row("not a token", 400, "invalid_request", 50027, func(r *Row) { r.Assertion = "not.a.token" }),
		row("wrong secret", 401, "invalid_client", 7000215, func(r *Row) { r.Secret = "guess" }),
		row("expired secret", 401, "invalid_client", 7000222, func(r *Row) { r.Secret = expiredSecret }),
		row("no federated credential", 401, "invalid_client", 70025, func(r *Row) { r.Client = bareID }),
		row("unknown application", 400, "unauthorized_client", 700016, func(r *Row) { r.Client = unknownID }),
		row("application of another tenant", 400, "unauthorized_client", 700016, func(r *Row) { r.Tenant = otherTenant }),
		row("unknown tenant", 400, "invalid_request", 90002, func(r *Row) { r.Tenant, r.Discovery = unknownID, true }),
		row("unknown resource", 400, "invalid_resource", 500011, func(r *Row) { r.Scopes = []string{"api://nowhere/.default"} }),
		row("scope without .default", 400, "invalid_scope", 1002012, func(r *Row) { r.Scopes = []string{graph + "/User.Read"} }),
		row("two resources", 400, "invalid_scope", 700022, func(r *Row) { r.Scopes = []string{graph + "/.default", vault + "/.default"} }),
	}
}

// userRows are mistakes with a user's token.
func (m *minter) userRows() []Row {
	row := func(name, oauth string, code int, change func(*Row)) Row {
		r := Row{
			Name: name, Flow: "obo", Tenant: m.world.Tenant, Client: m.world.Client, Scopes: []string{graph + "/User.Read"},
			Assertion: m.workload(trusted()), Status: 400, Error: oauth, Code: code,
		}
		change(&r)
		if r.UserAssertion == "" {
			r.UserAssertion = m.user(entratest.UserTokenRequest{})
		}
		return r
	}
	return []Row{
		row("no consent", "invalid_grant", 65001, func(r *Row) { r.Scopes, r.Suberror = []string{vault + "/.default"}, "consent_required" }),
		row("user token for Graph", "invalid_grant", 50013, func(r *Row) { r.UserAssertion = m.user(entratest.UserTokenRequest{Audience: graph}) }),
		row("user token for another application", "invalid_grant", 500131, func(r *Row) { r.UserAssertion = m.user(entratest.UserTokenRequest{Audience: ledger}) }),
		row("user token with a bad signature", "invalid_grant", 50013, func(r *Row) { r.UserAssertion = tampered(m.user(entratest.UserTokenRequest{})) }),
		row("expired user token", "invalid_grant", 500133, func(r *Row) { r.UserAssertion = m.user(entratest.UserTokenRequest{Lifetime: -time.Hour}) }),
		row("app-only token on behalf of a user", "unauthorized_client", 7000114, func(r *Row) { r.UserAssertion = m.appOnly() }),
		row("id token on behalf of a user", "invalid_request", 240002, func(r *Row) { r.UserAssertion = m.user(entratest.UserTokenRequest{IDToken: true}) }),
		row("multi-factor authentication required", "interaction_required", 50076, func(r *Row) {
			r.Behavior.RequireMFA, r.Suberror, r.Claims = true, "basic_action", true
		}),
	}
}

// hostileRows are bad days of the service and its policies.
func (m *minter) hostileRows() []Row {
	row := func(name string, status int, oauth string, code int, b entratest.Behavior) Row {
		return Row{
			Name: name, Flow: "app", Tenant: m.world.Tenant, Client: m.world.Client, Scopes: []string{graph + "/.default"},
			Assertion: m.workload(trusted()), Behavior: b, Status: status, Error: oauth, Code: code, RetryAfter: b.RetryAfter,
		}
	}
	throttled := row("tenant throttled", 429, "temporarily_unavailable", 90055, entratest.Behavior{Code: 90055})
	throttled.RetryAfter = "10"
	blocked := row("blocked by policy", 400, "access_denied", 53003, entratest.Behavior{Code: 53003})
	blocked.Suberror, blocked.Claims = "message_only", true
	return []Row{
		throttled,
		blocked,
		row("throttled by a proxy", 429, "", 0, entratest.Behavior{Status: 429, RetryAfter: "1", Body: "<html>slow down</html>"}),
		row("outage", 503, "", 0, entratest.Behavior{Status: 503, Body: "<html>unavailable</html>"}),
	}
}

// minter signs tokens and remembers what went wrong.
type minter struct {
	world *World
	errs  []error
}

func (m *minter) kept(token string, err error) string {
	if err != nil {
		m.errs = append(m.errs, err)
	}
	return token
}

func (m *minter) workload(t entratest.ServiceAccountToken) string {
	return m.kept(m.world.host.Issuer.ServiceAccountToken(t))
}

func (m *minter) user(req entratest.UserTokenRequest) string {
	req.Tenant, req.User, req.Client = m.world.Tenant, m.world.User, m.world.Frontend
	if req.Audience == "" {
		req.Audience = m.world.Client
	}
	return m.kept(m.world.host.Server.UserToken(req))
}

// otherIssuer is a token of a cluster that nobody trusts.
func (m *minter) otherIssuer() string {
	issuer, err := entratest.NewIssuer(entratest.IssuerConfig{URL: "https://oidc.other.example"})
	if err != nil {
		return m.kept("", err)
	}
	return m.kept(issuer.ServiceAccountToken(trusted()))
}

// appOnly is a token the application got for itself, for itself.
func (m *minter) appOnly() string {
	resp, err := m.world.HTTP().PostForm(m.world.Authority+"/"+m.world.Tenant+"/oauth2/v2.0/token", url.Values{
		"grant_type":            {"client_credentials"},
		"client_id":             {m.world.Client},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {m.workload(trusted())},
		"scope":                 {m.world.Client + "/.default"},
	})
	if err != nil {
		return m.kept("", err)
	}
	defer func() { _ = resp.Body.Close() }()
	var body struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return m.kept("", err)
	}
	if resp.StatusCode != http.StatusOK {
		return m.kept("", fmt.Errorf("app-only token: status %d", resp.StatusCode))
	}
	return body.AccessToken
}

// tampered replaces a character in the middle of the signature.
func tampered(token string) string {
	i := strings.LastIndexByte(token, '.') + 20
	if i >= len(token) {
		return token
	}
	other := byte('A')
	if token[i] == other {
		other = 'B'
	}
	return token[:i] + string(other) + token[i+1:]
}
