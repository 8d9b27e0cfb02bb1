package localapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange"
)

func TestSidecarIdentities(t *testing.T) {
	p := selectable()
	for name, test := range map[string]struct {
		query    string
		identity string
		own      bool
	}{
		"none":                  {"", "", false},
		"by name":               {"identity=app", "app", false},
		"agent":                 {"AgentIdentity=" + agentID2, "fleet/" + agentID2, false},
		"agent as application":  {"AgentIdentity=" + agentID + "&optionsOverride.RequestAppToken=TRUE", "fleet/" + agentID, true},
		"user by id":            {"AgentIdentity=" + strings.ToUpper(agentID) + "&AgentUserId=" + strings.ReplaceAll(userID, "-", ""), "a-user/" + userID, true},
		"user by name":          {"AgentIdentity=" + userID + "&AgentUsername=Robot@Contoso.com", "named/robot@contoso.com", true},
		"user of another agent": {"AgentIdentity=" + agentID2 + "&AgentUserId=" + userID, "AgentIdentity=" + agentID2, true},
		"user for an id":        {"AgentIdentity=" + agentID + "&AgentUsername=" + userID, "a-user/" + userID, true},
		"no agent":              {"AgentIdentity=" + appID, "AgentIdentity=" + appID, false},
		"machine":               {"optionsOverride.AcquireTokenOptions.ManagedIdentity.UserAssignedClientId=" + vmID, "vm", true},
		"no machine":            {"optionsOverride.AcquireTokenOptions.ManagedIdentity.UserAssignedClientId=" + appID, "client_id=" + appID, true},
		"system is not meant":   {"optionsOverride.AcquireTokenOptions.ManagedIdentity.UserAssignedClientId=" + vmObject, "client_id=" + vmObject, true},
	} {
		q, problem := readSidecarQuery(test.query, routeHeader)
		if problem != nil {
			t.Errorf("%s: %v", name, problem)
		}
		var req sidecarRequest
		own, problem := req.readIdentity(q, p)
		if problem != nil || req.Identity != test.identity || own != test.own {
			t.Errorf("%s: got %q, own %v (%v); want %q, own %v", name, req.Identity, own, problem, test.identity, test.own)
		}
	}
	// Of several, always the same one.
	p.Identities["another"] = p.Identities["fleet"]
	for range 10 {
		if got := agentNamed(p, agentID); got != "another/"+agentID {
			t.Fatalf("got %s", got)
		}
	}
}

// The tenant of an override, when the identities of the policy have several.
func TestSidecarTenants(t *testing.T) {
	p := &policy.Policy{Identities: map[string]policy.Identity{"here": {Tenant: "contoso.com"}, "there": {Tenant: appID}}}
	for _, test := range []struct {
		identity, tenant, rule string
	}{
		{"here", "Contoso.com", ""}, {"there/x", appID, ""}, {"here", appID, "identities.here"}, {"", appID, "tenant"}, {"", "contoso.com", "tenant"},
		{"AgentIdentity=x", "anything", ""}, // of no identity: the broker denies it
	} {
		req := sidecarRequest{Request: broker.Request{Identity: test.identity}}
		problem := req.keepTenant(p, test.tenant)
		if (problem != nil) != (test.rule != "") || req.rule != test.rule {
			t.Errorf("%s in %s: got %v by %q, want %q", test.identity, test.tenant, problem, req.rule, test.rule)
		}
	}
}

func TestNormalGUID(t *testing.T) {
	const want = "aaaaaaaa-0000-4000-8000-000000000001"
	for text, want := range map[string]string{
		want: want, strings.ToUpper(want): want, " {" + want + "} ": want, "(" + want + ")": want, strings.ReplaceAll(want, "-", ""): want,
		"": "", "x": "", "{}": "", "{" + want + ")": "", "{" + want: "", want + "0": "", "00000000-0000-0000-0000-000000000000": "", "00000000000000000000000000000000": "",
	} {
		if got := normalGUID(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// Every refusal, with its status for clients of the auth sidecar.
func TestSidecarStatuses(t *testing.T) {
	senseless := []policy.Reason{policy.IdentityMissing, policy.APIUnknown, policy.ScopeMissing, policy.ScopeMalformed, policy.ScopeMixedResources}
	tests := map[error]int{
		&exchange.Error{Reason: exchange.EntraRejected}: 401, &exchange.Error{Reason: exchange.EntraThrottled}: 429, &exchange.Error{Reason: exchange.EntraUnavailable}: 503,
		&exchange.Error{Reason: exchange.AssertionUnavailable}: 503, &exchange.Error{Reason: exchange.Timeout}: 503, &exchange.Error{Reason: exchange.ReplyMalformed}: 503,
		&exchange.Error{Reason: exchange.BadRequest}: 400, &exchange.Error{Reason: exchange.AssertionUnusable}: 403, &exchange.Error{Reason: exchange.TokenMismatch}: 403,
		&exchange.Error{Reason: exchange.Internal}: 403, &broker.AuditError{Err: errors.New("full")}: 503, context.Canceled: 503, bad("m", "h"): 400,
		&broker.Denied{Reason: "user_token_expired"}: 401, &broker.Denied{Reason: "user_token_app_only"}: 401,
	}
	for _, reason := range policy.Reasons() {
		want := 403
		switch {
		case reason == policy.OverLimit:
			continue // the limit needs the policy: TestSidecarCallers has it
		case reason == policy.UnknownAgent, reason == policy.AgentMismatch, reason == policy.UserExpired:
			want = 401
		case slices.Contains(senseless, reason):
			want = 400
		}
		tests[&broker.Denied{Reason: reason}] = want
	}
	for err, want := range tests {
		status, wire := (&Handler{}).describe(err, "id")
		if got := sidecarStatus(status, &wire); got != want {
			t.Errorf("%+v: got %d, want %d", err, got, want)
		} else if (got == 429 || got == 503) != (wire.RetryAfter > 0) {
			t.Errorf("%+v: got %d and a wait of %s", err, got, wire.RetryAfter)
		}
	}
}

// Whatever is asked for: no panic, and either a problem to show, or a request
// that says whether it is for a user, and names an identity if one was named.
func FuzzSidecarRequest(f *testing.F) {
	for _, seed := range []string{"", "AgentIdentity=" + agentID, "AgentIdentity=" + agentID + "&AgentUserId=" + userID, "agentusername=x", "AgentIdentity=a&AGENTIDENTITY=b",
		"optionsOverride.Scopes=a/b&OPTIONSOVERRIDE.SCOPES=c/d", "optionsOverride.RequestAppToken=true", "optionsOverride.x=1", "optionsOverride.ExtraQueryParameters.=1",
		"optionsOverride.AcquireTokenOptions.Tenant=common", "optionsOverride.AcquireTokenOptions.Claims=%7B%7D", "%zz", "&&=&", "ſ=K&agentidentity"} {
		f.Add(seed, true, "Bearer x")
		f.Add(seed, false, "")
	}
	p := selectable()
	f.Fuzz(func(t *testing.T, query string, forUser bool, authorization string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.RawQuery = query
		if authorization != "" {
			r.Header["Authorization"] = []string{authorization}
		}
		got, problem := SidecarOptions{}.readRequest(r, p, map[bool]string{true: routeHeader, false: routeOwnHeader}[forUser], "graph")
		if problem != nil {
			if problem.status < 400 || problem.status == 404 || problem.status > 428 || problem.message == "" || problem.hint == "" {
				t.Errorf("got problem %+v", problem)
			}
			return
		}
		if !got.Raw || got.API != "graph" || got.Door != doorAuthSidecar || got.OnBehalfOf != (got.UserToken.Len() > 0) || got.OnBehalfOf && !forUser || forUser && authorization == "" {
			t.Errorf("got %+v", got)
		}
		values, err := url.ParseQuery(query)
		if err != nil {
			return // net/url refuses what browsers once wrote
		}
		for name, all := range values {
			switch {
			case equalWord(name, agentIdentity) && got.Identity == "":
				t.Errorf("%q is not replaced by the agent's own identity", query)
			case equalWord(name, acquire+"FmiPath") && strings.TrimSpace(strings.Join(all, "")) != "":
				t.Errorf("%q goes past the policy", query)
			case equalWord(name, overrideScopes) && len(strings.Fields(got.Scope)) < len(strings.Fields(strings.Join(all, " "))):
				t.Errorf("%q became the scopes %q", query, got.Scope)
			}
		}
	})
}

// Whatever call is asked for: it stays below the API's base URL, has headers that
// are the agent's to set, and nothing in it that would begin another request.
func FuzzSidecarCall(f *testing.F) {
	const extraH, extraQ = "optionsOverride.ExtraHeaderParameters.", "optionsOverride.ExtraQueryParameters."
	for _, seed := range []string{"", "optionsOverride.RelativePath=/a/b?c=d", "optionsOverride.RelativePath=../x", "optionsOverride.RelativePath=a%252e%252e/%2e%2e", "optionsOverride.RelativePath=%5Cx",
		"optionsOverride.HttpMethod=post", "optionsOverride.AcceptHeader=a%0D%0AX: y", extraH + "x=y", extraH + "authorization=x", extraH + "x%0d%0ay=z", extraQ + "a b=c%26d", "optionsoverride.extraheaderparameters.HOST=x",
		"optionsOverride.RelativePath=//evil.example/x&optionsOverride.ContentType=a/b", "optionsOverride.Scopes=https://graph.microsoft.com/x"} {
		f.Add(seed)
	}
	p := selectable()
	p.APIs = map[string]policy.API{"graph": {Name: "graph", BaseURL: "https://graph.example/v1.0", Scopes: []string{"https://graph.example/.default"}}}
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.URL.RawQuery = query
		got, problem := SidecarOptions{}.readRequest(r, p, routeOwnCall, "graph")
		if problem != nil {
			if problem.status != 400 && problem.status != 414 || problem.message == "" || problem.hint == "" {
				t.Errorf("got problem %+v", problem)
			}
			return
		}
		if got.Raw || !slices.Contains(sidecarMethods, got.Method) || got.Path == "" || got.Path[0] != '/' {
			t.Errorf("got %+v", got.Request)
		}
		for segment := range strings.SplitSeq(got.Path, "/") {
			if strings.Trim(segment, ". ") == "" && segment != "" || strings.Contains(segment, "\\") {
				t.Errorf("%q leads to %q", query, got.Path)
			}
		}
		if target, problem := targetOf(p.APIs["graph"], got.call.escaped, &url.URL{RawQuery: got.call.query}); problem == nil &&
			(target.Host != "graph.example" || target.Path != "/v1.0" && !strings.HasPrefix(target.Path, "/v1.0/")) {
			t.Errorf("%q leads to %s", query, target)
		}
		if strings.ContainsFunc(got.call.query, func(c rune) bool { return c <= ' ' || c > '~' || c == '#' }) {
			t.Errorf("%q becomes the query %q", query, got.call.query)
		}
		for name, values := range got.call.header {
			if name != "Accept" && IsReservedHeader(http.CanonicalHeaderKey(name)) || !isToken(name) || len(values) != 1 || strings.ContainsAny(values[0], "\r\n\x00") {
				t.Errorf("%q becomes the header %q: %q", query, name, values)
			}
		}
	})
}
