package broker_test

import (
	"strings"
	"testing"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/policy"
)

// callers has two APIs, of which the researcher may call one.
func callers() string {
	apis := "\napis:\n  mail: {baseURL: https://graph.microsoft.com/v1.0, scopes: [" + graph + "], paths: [/me]}\n  keys: {baseURL: https://vault.contoso.com, scopes: [" + vault + "]}\n"
	return apis + strings.Replace(agents, "allow: {", "rawToken: false\n    allow: {apis: [mail], ", 1)
}

// TestCallAPI: who asks for an API gets the token of its scopes, the API as it
// was decided on, and where the issuance stands in the trace.
func TestCallAPI(t *testing.T) {
	w := newWorld(t)
	w.use(t, callers())
	call := func(change func(*broker.Request)) (broker.Issued, error) {
		w.spans.Reset()
		req := broker.Request{Door: "call_through", API: "mail", Method: "GET", Path: "/me"}
		change(&req)
		return w.Issue(as(t, 10001), req)
	}
	for _, outcome := range []string{"miss", "hit"} {
		issued, err := call(func(*broker.Request) {})
		check(t, err)
		if issued.Token.Len() == 0 || issued.Scope != graph || issued.API.BaseURL != "https://graph.microsoft.com/v1.0" {
			t.Errorf("got %+v, want the API and a token of its scopes", issued)
		}
		if line := w.audit.last(t); line["cache"] != outcome || line["rule"] != "agents.researcher.allow.apis[0]" || line["door"] != "call_through" {
			t.Errorf("recorded %v", line)
		}
		ended := w.spans.Ended()
		if last := ended[len(ended)-1]; last.Name() != "token.issue" || !issued.Span.Equal(last.SpanContext()) || !issued.Span.IsValid() {
			t.Errorf("got the span %v, want that of %s", issued.Span, last.Name())
		}
	}
	for reason, change := range map[policy.Reason]func(*broker.Request){
		policy.APIUnknown:        func(r *broker.Request) { r.API = "none" },
		policy.APINotAllowed:     func(r *broker.Request) { r.API = "keys" },
		policy.APIPathNotAllowed: func(r *broker.Request) { r.Path = "/users" },
		policy.RawTokenForbidden: func(r *broker.Request) { r.Raw = true },
	} {
		issued, err := call(change)
		if got := denial(t, err); got.Reason != reason || issued.Token.Len() != 0 || issued.API.Name != "" {
			t.Errorf("got %+v with %+v, want %s", got, issued, reason)
		}
	}
	// A denial says of which scopes, as if the agent had asked for them by name.
	_, err := call(func(r *broker.Request) { r.API = "keys" })
	if got := denial(t, err); got.Rule != "agents.researcher.allow.apis" {
		t.Errorf("got the rule %s", got.Rule)
	}
	if line := w.audit.last(t); len(line["scopes"].([]any)) != 1 || line["scopes"].([]any)[0] != vault {
		t.Errorf("recorded %v, want the scope of the API", line)
	}
}
