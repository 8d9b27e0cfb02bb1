package localapi_test

import (
	"net/http"
	"strings"
	"testing"
)

// Resources in place of scopes, and beside them.
func TestTargets(t *testing.T) {
	d := open(t, thisUser)
	const resource = "https://graph.microsoft.com"
	for name, test := range map[string]struct {
		body       string
		status     int
		code, says string
	}{
		"resource":                   {form("resource", resource), 200, "", graph},
		"with a slash":               {form("resource", resource+"/"), 200, "", graph},
		"audience":                   {form("audience", resource), 200, "", graph},
		"both":                       {form("resource", resource, "audience", resource+"/"), 200, "", graph},
		"with its scope":             {form("resource", resource, "scope", graph), 200, "", graph},
		"empty":                      {form("resource", "", "scope", graph), 200, "", graph},
		"blank scope":                {form("resource", resource, "scope", " "), 200, "", graph},
		"two that differ":            {form("resource", resource, "audience", "https://vault.azure.net"), 400, "invalid_target", "once"},
		"another's scope":            {form("resource", "https://vault.azure.net", "scope", graph), 400, "invalid_target", "does not belong"},
		"one scope of another":       {form("resource", resource, "scope", graph+" https://vault.azure.net/.default"), 400, "invalid_target", "does not belong"},
		"scope without its resource": {form("resource", resource, "scope", "User.Read"), 400, "invalid_scope", "User.Read"},
		"not granted":                {form("resource", "https://vault.azure.net"), 400, "invalid_target", "agents.demo.allow.scopes"},
		"a part of what is granted":  {form("resource", resource+"/v1.0"), 400, "invalid_target", "agents.demo.allow.scopes"},
		"a scope as a resource":      {form("resource", graph), 400, "invalid_target", "dot"},
		"two slashes":                {form("resource", resource+"//"), 400, "invalid_target", "empty path segment"},
		"another scheme":             {form("resource", "http://graph.microsoft.com"), 400, "invalid_target", "https://"},
		"two in one":                 {form("resource", graph+" "+resource), 400, "invalid_target", "white space"},
		"a tab":                      {form("resource", resource+"\t"), 400, "invalid_target", "white space"},
		"the token exchange":         {form("resource", "api://AzureADTokenExchange"), 400, "invalid_target", "keeps them"},
		"a slash alone":              {form("resource", "/"), 400, "invalid_target", "resource"},
		"twice":                      {form("resource", resource, "resource", resource+"/"), 200, "", graph},
		"an audience twice":          {form("audience", resource, "audience", resource), 200, "", graph},
		"two resources":              {form("resource", resource, "resource", "https://vault.azure.net"), 400, "invalid_target", "in a request of its own"},
		"two audiences":              {form("audience", resource, "audience", "https://vault.azure.net"), 400, "invalid_target", "once"},
		"a second one with scopes":   {form("resource", resource, "resource", "https://vault.azure.net", "scope", graph), 400, "invalid_target", "once"},
		"an empty one beside":        {form("resource", "", "resource", resource), 200, "", graph},
		"two scopes":                 {form("scope", graph, "scope", graph), 400, "invalid_request", "once"},
	} {
		t.Run(name, func(t *testing.T) {
			got := d.send(t, http.MethodPost, "/oauth2/token", "grant_type=client_credentials&"+test.body)
			if got.StatusCode != test.status || got.error.Code != test.code || !strings.Contains(got.body, test.says) {
				t.Errorf("got %d %s, want %d %s that says %q", got.StatusCode, got.body, test.status, test.code, test.says)
			}
		})
	}
}
