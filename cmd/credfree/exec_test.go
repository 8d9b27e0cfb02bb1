package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/policy"
)

func TestCommandEnvironment(t *testing.T) {
	to := lead{url: "http://127.0.0.1:1", key: "KEY", keyFile: "/key", clientID: "ID"}
	always := []string{"AZURE_CLIENT_ID=ID", "AZURE_TOKEN_CREDENTIALS=prod", "CREDFREE_KEY_FILE=/key", "CREDFREE_URL=http://127.0.0.1:1",
		"IDENTITY_ENDPOINT=http://127.0.0.1:1/msi/token", "IDENTITY_HEADER=KEY"}
	const loopback = "127.0.0.1,localhost"
	for name, test := range map[string]struct {
		inherited, kept []string
		noProxy, lower  string
	}{
		"nothing":               {nil, nil, loopback, loopback},
		"what is the user's":    {[]string{"HOME=/h", "AZURE_TENANT_ID=t", "EMPTY="}, []string{"HOME=/h", "AZURE_TENANT_ID=t", "EMPTY="}, loopback, loopback},
		"what leads away":       {[]string{"MSI_ENDPOINT=", "IMDS_ENDPOINT=x", "AZURE_CLIENT_SECRET=s", "CREDFREE_SOCKET=s", "IDENTITY_HEADER=h", "AZURE_CLIENT_ID=c"}, nil, loopback, loopback},
		"an authority":          {[]string{"AZURE_AUTHORITY_HOST=https://login.microsoftonline.us"}, []string{"AZURE_AUTHORITY_HOST=https://login.microsoftonline.us"}, loopback, loopback},
		"one without TLS":       {[]string{"AZURE_AUTHORITY_HOST=HTTP://x"}, nil, loopback, loopback},
		"no proxy for some":     {[]string{"NO_PROXY=.corp"}, nil, ".corp," + loopback, ".corp," + loopback},
		"no proxy, both ways":   {[]string{"NO_PROXY=.a", "no_proxy=.b"}, nil, ".a," + loopback, ".b," + loopback},
		"a proxy":               {[]string{"HTTPS_PROXY=http://p", "all_proxy=p"}, []string{"HTTPS_PROXY=http://p", "all_proxy=p"}, loopback, loopback},
		"no proxy at all":       {[]string{"no_proxy=*"}, nil, "*", "*"},
		"no proxy, and one":     {append(ofProxies(), "NO_PROXY= *"), nil, "*", "*"},
		"no proxy, one way":     {append(ofProxies(), "NO_PROXY=.a", "no_proxy=*"), nil, ".a," + loopback, "*"},
		"no proxy for a domain": {[]string{"http_proxy=p", "NO_PROXY=*.a"}, []string{"http_proxy=p"}, "*.a," + loopback, "*.a," + loopback},
		"no proxy for nothing":  {[]string{"NO_PROXY="}, nil, loopback, loopback},
	} {
		t.Run(name, func(t *testing.T) {
			want := append(append(test.kept, always...), "NO_PROXY="+test.noProxy, "SIDECAR_URL=http://127.0.0.1:1/KEY", "no_proxy="+test.lower)
			if diff := cmp.Diff(want, commandEnvironment(test.inherited, to)); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
		})
	}
}

// The variable that holds the broker's workload token is not the command's.
func TestCommandEnvironmentHasNoWorkloadToken(t *testing.T) {
	p, err := policy.Parse("policy.yaml", []byte(`version: 1
tenant: contoso.com
sources: {a: {env: {name: A_TOKEN}}, b: {gitlab: {name: B_TOKEN}}, c: {circleci: {}}, d: {terraform: {}}, e: {terraform: {tag: E}}, f: {github: {}}}
`))
	check(t, err)
	inherited := []string{"A_TOKEN=x", "B_TOKEN=x", "CIRCLE_OIDC_TOKEN=x", "TFC_WORKLOAD_IDENTITY_TOKEN=x", "TFC_WORKLOAD_IDENTITY_TOKEN_E=x", "A_TOKEN_TOO=y"}
	for _, entry := range commandEnvironment(inherited, lead{url: "http://u", key: "k", keyFile: "f", tokens: tokenVariables(p)}) {
		if strings.HasSuffix(entry, "=x") {
			t.Errorf("the command has %s", entry)
		}
	}
}

// ofProxies names a proxy in every way.
func ofProxies() []string {
	return []string{"HTTP_PROXY=http://p", "HTTPS_PROXY=http://p", "ALL_PROXY=socks5://p", "http_proxy=p", "https_proxy=", "all_proxy=p"}
}

// Every variable that leads an SDK away is taken from the command.
func TestCommandEnvironmentLeadsNowhereElse(t *testing.T) {
	var inherited []string
	for _, name := range leadsAway {
		inherited = append(inherited, name+"=x")
	}
	for _, entry := range commandEnvironment(inherited, lead{url: "http://u", key: "k", keyFile: "f"}) {
		if strings.HasSuffix(entry, "=x") {
			t.Errorf("%s is left", entry)
		}
	}
}

// Who presents the command's key is the agent, wherever the key is; who does
// not is nobody, and recorded.
func TestCommandDoor(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	const key = "the-key-of-the-command"
	agentKey := filepath.Join(t.TempDir(), "key")
	check(t, os.WriteFile(agentKey, []byte("the-key-of-the-agent\n"), 0o600))
	var seen *http.Request
	doors := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r })
	byUID := &commandDoor{key: key, broker: r.broker, doors: doors}
	byKey := &commandDoor{key: key, keyFile: agentKey, keys: peer.NewKeys([]string{agentKey}), broker: r.broker, doors: doors}
	type headers = map[string]string
	for name, test := range map[string]struct {
		door   *commandDoor
		path   string
		given  headers
		wanted headers // nil: refused
		at     string  // path that the doors see, when it is another
	}{
		"nothing":                   {byUID, "/msi/token", headers{}, nil, ""},
		"another key":               {byUID, "/msi/token", headers{"X-Identity-Header": "none"}, nil, ""},
		"the agent's own":           {byKey, "/msi/token", headers{"X-Identity-Header": "the-key-of-the-agent"}, nil, ""},
		"half of it":                {byUID, "/msi/token", headers{"X-Identity-Header": key[:8]}, nil, ""},
		"another before the path":   {byUID, "/none/msi/token", headers{}, nil, ""},
		"it alone before the path":  {byUID, "/" + key, headers{}, nil, ""},
		"in another scheme":         {byUID, "/oauth2/token", headers{"Authorization": "Digest " + key}, nil, ""},
		"managed identity":          {byUID, "/msi/token", headers{"X-Identity-Header": key}, headers{"X-Identity-Header": "none"}, ""},
		"managed identity, slashes": {byUID, "/msi//token/", headers{"X-Identity-Header": key}, headers{"X-Identity-Header": "none"}, ""},
		"Bearer":                    {byUID, "/oauth2/token", headers{"Authorization": "bearer " + key}, headers{}, ""},
		"Basic":                     {byUID, "/oauth2/token", headers{"Authorization": "Basic ZGVtbzp0aGUta2V5LW9mLXRoZS1jb21tYW5k"}, headers{}, ""},
		"a language model's":        {byUID, "/call/graph/me", headers{"Api-Key": key}, headers{}, ""},
		"another language model's":  {byUID, "/call/graph/me", headers{"X-Api-Key": key}, headers{}, ""},
		"before the path":           {byUID, "/" + key + "/AuthorizationHeader/graph", headers{"Authorization": "Bearer user"}, headers{"Authorization": "Bearer user"}, "/AuthorizationHeader/graph"},
		"a document":                {byUID, "/.well-known/openid-configuration", headers{}, headers{}, ""},
		"a document, another key":   {byKey, "//.well-known/oauth-authorization-server/", headers{"Authorization": "Bearer none"}, headers{"Authorization": "Bearer none"}, ""},
		"a document, by path":       {byUID, "/" + key + "/openapi/v1.json", headers{}, headers{}, "/openapi/v1.json"},
		"below a document":          {byUID, "/openapi/v1.json/graph", headers{}, nil, ""},
		"beside a document":         {byUID, "/.well-known/openid-configuration/../../msi/token", headers{}, nil, ""},
		"a document in other words": {byUID, "/%2Ewell-known/openid-configuration", headers{}, nil, ""},
		"for the agent's":           {byKey, "/oauth2/token", headers{"Authorization": "Bearer " + key}, headers{"X-Identity-Header": "the-key-of-the-agent"}, ""},
		"for the agent's, by path":  {byKey, "/" + key + "/msi/token", headers{}, headers{"X-Identity-Header": "the-key-of-the-agent"}, "/msi/token"},
	} {
		t.Run(name, func(t *testing.T) {
			seen = nil
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, test.path, nil)
			for name, value := range test.given {
				req.Header.Set(name, value)
			}
			answer := httptest.NewRecorder()
			test.door.ServeHTTP(answer, req)
			if test.wanted == nil {
				if seen != nil || answer.Code != http.StatusUnauthorized || !strings.Contains(answer.Body.String(), "IDENTITY_HEADER") || strings.Contains(answer.Body.String(), key) {
					t.Errorf("got %d %s (let in: %v), want 401 and a hint without a key", answer.Code, answer.Body, seen != nil)
				}
				return
			}
			if seen == nil {
				t.Fatalf("got %d %s, want it let in", answer.Code, answer.Body)
			}
			got := headers{}
			for name := range seen.Header {
				got[name] = seen.Header.Get(name)
			}
			at := test.at
			if at == "" {
				at = test.path
			}
			if diff := cmp.Diff(test.wanted, got); diff != "" || seen.URL.Path != at {
				t.Errorf("the doors see %s, want %s (-want +got):\n%s", seen.URL.Path, at, diff)
			}
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := strings.Count(r.audit.String(), `"unknown_agent"`); got != 10 {
		t.Errorf("got %d refusals in the audit log, want 10:\n%s", got, r.audit.String())
	}
}

// Without the key that stands for the agent, the command is not whoever has its
// uid: nobody.
func TestCommandDoorWithoutTheAgentsKey(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	const key = "the-key-of-the-command"
	for name, content := range map[string]string{"none": "", "empty": " \n", "no key": "none\n", "short": "a-short-key"} {
		keyFile := filepath.Join(t.TempDir(), name)
		if content != "" {
			check(t, os.WriteFile(keyFile, []byte(content), 0o600))
		}
		door := &commandDoor{key: key, keyFile: keyFile, keys: peer.NewKeys([]string{keyFile}), broker: r.broker, doors: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			t.Errorf("%s: it is let in", name)
		})}
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/msi/token", nil)
		req.Header.Set("X-Identity-Header", key)
		answer := httptest.NewRecorder()
		if door.ServeHTTP(answer, req); answer.Code != http.StatusUnauthorized || !strings.Contains(answer.Body.String(), "key file") {
			t.Errorf("%s: got %d %s, want 401", name, answer.Code, answer.Body)
		}
	}
}

// The key of another agent opens nothing, wherever it is: a command's broker
// serves one agent.
func TestExecServesOneAgent(t *testing.T) {
	dir := t.TempDir()
	lab, err := startLab(labConfig{dir: dir, workloadLifetime: time.Hour})
	check(t, err)
	t.Cleanup(func() { check(t, lab.host.Close()) })
	check(t, lab.write("key", "the-key-of-another-agent"))
	p, err := policy.Parse(filepath.Join(dir, "credfree.yaml"), []byte(lab.header()+anyProcess()+"  keyed: {identity: demo, callers: [{tcp: {keyFile: key}}], allow: {apis: [graph]}}\n"))
	check(t, err)
	log := slog.New(slog.DiscardHandler)
	telemetry, err := newTelemetry(t.Context(), log)
	check(t, err)
	played, err := castAs(p, "", "", ownUID())
	check(t, err)
	var audit bytes.Buffer
	s, err := newExecService(serviceConfig{policy: p, audit: &audit, telemetry: telemetry, log: log}, played, "the-key-of-the-command")
	check(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- s.serve(ctx) }()
	form := "grant_type=client_credentials&scope=" + graphScope
	own := []string{"Authorization", "Bearer the-key-of-the-command"}
	if status, body := do(t, http.MethodPost, "http://"+s.agentsAddr()+"/oauth2/token", form, own...); status != http.StatusOK {
		t.Errorf("with the command's key: got %d %s, want a token", status, body)
	}
	// The key in the form, as some OAuth clients send it; twice is no way to send it.
	for secrets, want := range map[string]int{"&client_secret=the-key-of-the-command": http.StatusOK, "&client_secret=the%2Dkey%2Dof%2Dthe%2Dcommand&identity=demo": http.StatusOK,
		"&client_secret=the-key-of-the-command&client_secret=the-key-of-the-command": http.StatusUnauthorized, "&client_secret=another": http.StatusUnauthorized, "": http.StatusUnauthorized} {
		if status, body := do(t, http.MethodPost, "http://"+s.agentsAddr()+"/oauth2/token", form+secrets); status != want {
			t.Errorf("with %q: got %d %s, want %d", secrets, status, body, want)
		}
	}
	for _, path := range []string{"/" + p.Identities["demo"].Tenant + "/oauth2/v2.0/token", "/oauth2/introspect", "//oauth2/token/"} {
		for secret, want := range map[string]int{"the-key-of-the-command": http.StatusOK, "another": http.StatusUnauthorized} {
			if status, body := do(t, http.MethodPost, "http://"+s.agentsAddr()+path, form+"&token=none&client_secret="+secret); status != want {
				t.Errorf("at %s with client_secret=%s: got %d %s, want %d", path, secret, status, body, want)
			}
		}
	}
	// What is the same for everybody is read without a key (RFC 8414 §3.1), past the same guard.
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/openapi/v1.json"} {
		if status, body := do(t, http.MethodGet, "http://"+s.agentsAddr()+path, ""); status != http.StatusOK || !strings.Contains(body, "/oauth2/introspect") || strings.Contains(body, "the-key") {
			t.Errorf("%s: got %d %s, want the document", path, status, body)
		}
		if status, body := do(t, http.MethodGet, "http://"+s.agentsAddr()+path, "", "Origin", "https://example.com"); status != http.StatusForbidden {
			t.Errorf("%s for a page of another origin: got %d %s, want 403", path, status, body)
		}
	}
	// The door of Microsoft's sidecar is open to who knows the key, and to nobody else.
	for prefix, want := range map[string]int{"/the-key-of-the-command": http.StatusOK, "": http.StatusUnauthorized, "/none": http.StatusUnauthorized} {
		if status, body := do(t, http.MethodGet, "http://"+s.agentsAddr()+prefix+"/AuthorizationHeaderUnauthenticated/graph", ""); status != want || (want == http.StatusOK) != strings.Contains(body, "Bearer ") {
			t.Errorf("the sidecar's door below %q: got %d %s, want %d", prefix, status, body, want)
		}
	}
	if status, body := do(t, http.MethodPost, "http://"+s.agentsAddr()+"/oauth2/token", form+"&client_secret=the-key-of-another-agent", own...); status == http.StatusOK {
		t.Errorf("with another agent's key too: got %s, want a refusal", body)
	}
	stop()
	check(t, <-served)
	if strings.Contains(audit.String(), `"agent":"keyed"`) {
		t.Errorf("another agent was served:\n%s", audit.String())
	}
}

// The caller with the uid goes before that with a key, and a key of another
// user's is none.
func TestCastAs(t *testing.T) {
	const text = `version: 1
tenant: 5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10
identities: {vm: {managedIdentity: {}}, app: {managedIdentity: {clientID: a1d4c0de-0000-4000-8000-00000000a9e7}}}
agents:
  both: {identity: app, callers: [{tcp: {keyFile: /k1}}, {tcp: {uids: [7]}}], allow: {scopes: [graph]}}
  keyed: {identity: vm, callers: [{tcp: {keyFile: /k2, uids: [8]}}, {tcp: {keyFile: /k3}}], allow: {scopes: [graph]}}
  other: {identity: vm, callers: [{tcp: {keyFile: /k4, uids: [8]}}], allow: {scopes: [graph]}}
`
	p, err := policy.Parse("policy.yaml", []byte(text))
	check(t, err)
	for name, test := range map[string]struct {
		agent, wantAgent, keyFile, clientID string
		uid                                 uint32
	}{
		"by uid":           {"", "both", "", "a1d4c0de-0000-4000-8000-00000000a9e7", 7},
		"by uid and name":  {"both", "both", "", "a1d4c0de-0000-4000-8000-00000000a9e7", 7},
		"by key":           {"both", "both", "/k1", "a1d4c0de-0000-4000-8000-00000000a9e7", 8},
		"by the usable":    {"keyed", "keyed", "/k3", "", 7},
		"nobody":           {"", "", "", "", 8},
		"another's key":    {"other", "", "", "", 7},
		"of its own":       {"other", "other", "/k4", "", 8},
		"there is no such": {"none", "", "", "", 7},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := castAs(p, test.agent, "", test.uid)
			if (err != nil) != (test.wantAgent == "") {
				t.Fatalf("got %v, want agent %q", err, test.wantAgent)
			}
			if err == nil && (got.agent.Name != test.wantAgent || got.keyFile != test.keyFile || got.clientID != test.clientID) {
				t.Errorf("got %s by %q as %q, want %+v", got.agent.Name, got.keyFile, got.clientID, test)
			}
		})
	}
}
