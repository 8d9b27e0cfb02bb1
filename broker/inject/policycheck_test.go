package inject

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

const goodPolicy = `version: 1
tenant: 8a0c5b0e-0000-4000-8000-0123456789ab
sources: {pod: {file: {path: /t}}}
identities: {app: {application: {clientID: pod, podIDs: [11111111-2222-3333-4444-555555555555], source: pod}}}
agents: {a: {identity: app, owner: o, expires: 2099-01-01, callers: [{socket: a.sock, uids: [10001]}], allow: {scopes: [graph]}}}
`

// policyMap is a ConfigMap as the API server sends it.
func policyMap(t testing.TB, data map[string]string) []byte {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "policy"}, "data": data})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestCheckPolicyConfigMap(t *testing.T) {
	const ceiling = "version: 1\nallow: {resources: [graph]}\n"
	for name, test := range map[string]struct {
		raw  []byte
		want string // in the message; "" for a ConfigMap that is let in
	}{
		"policy":              {policyMap(t, map[string]string{"credfree.yaml": goodPolicy, "ca.pem": "x"}), ""},
		"ceiling":             {policyMap(t, map[string]string{"ceiling.yaml": ceiling}), ""},
		"both":                {policyMap(t, map[string]string{"credfree.yaml": goodPolicy, "ceiling.yaml": ceiling}), ""},
		"broken policy":       {policyMap(t, map[string]string{"credfree.yaml": strings.Replace(goodPolicy, "scopes: [graph]", "scope: [graph]", 1)}), `agents.a.allow.scope: unknown field "scope"`},
		"all that is broken":  {policyMap(t, map[string]string{"credfree.yaml": strings.NewReplacer("scopes: [graph]", "scope: [graph]", "tenant: 8", "tenant: common #").Replace(goodPolicy)}), "common is no tenant"},
		"with its hint":       {policyMap(t, map[string]string{"credfree.yaml": strings.Replace(goodPolicy, "scopes: [graph]", "scope: [graph]", 1)}), "hint: did you mean scopes"},
		"empty policy":        {policyMap(t, map[string]string{"credfree.yaml": ""}), "credfree.yaml"},
		"broken ceiling":      {policyMap(t, map[string]string{"credfree.yaml": goodPolicy, "ceiling.yaml": "version: 2\n"}), "ceiling.yaml:1:10: version"},
		"another key":         {policyMap(t, map[string]string{"policy.yaml": goodPolicy}), "neither credfree.yaml nor ceiling.yaml, but policy.yaml"},
		"nothing":             {policyMap(t, nil), "but nothing"},
		"binary":              {[]byte(`{"metadata":{"name":"p"},"binaryData":{"credfree.yaml":"eA=="}}`), "under binaryData"},
		"not a ConfigMap":     {[]byte(`[]`), "not a ConfigMap"},
		"a list of documents": {policyMap(t, map[string]string{"credfree.yaml": goodPolicy + "---\n" + goodPolicy}), "credfree.yaml"},
	} {
		_, err := checkPolicies(test.raw)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestPolicyWebhook(t *testing.T) {
	var outcomes []Outcome
	h, err := NewHandler(HandlerConfig{Injector: injector(t), Log: slog.New(slog.DiscardHandler), Observe: func(_ context.Context, o Outcome) { outcomes = append(outcomes, o) }})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(resourceName, operation string, object []byte) response {
		t.Helper()
		body, err := json.Marshal(review{APIVersion: reviewVersion, Kind: reviewKind, Request: &request{
			UID: "u1", Name: "policy", Namespace: "agents", Operation: operation, Resource: resource{Version: "v1", Resource: resourceName}, Object: object}})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, PolicyPath, strings.NewReader(string(body)))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var got review
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK || got.Response == nil || got.Response.UID != "u1" || got.Response.Patch != nil {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
		return *got.Response
	}
	good, bad := policyMap(t, map[string]string{"credfree.yaml": goodPolicy}), policyMap(t, map[string]string{"credfree.yaml": "version: 1\n"})
	for _, operation := range []string{"CREATE", "UPDATE"} {
		if got := ask("configmaps", operation, good); !got.Allowed || len(got.Warnings) != 0 {
			t.Errorf("%s of a good policy: got %+v", operation, got)
		}
		odd := policyMap(t, map[string]string{"credfree.yaml": strings.Replace(goodPolicy, "owner: o, ", "", 1)})
		if got := ask("configmaps", operation, odd); !got.Allowed || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "no owner") {
			t.Errorf("%s of an odd policy: got %+v", operation, got)
		}
		if got := ask("configmaps", operation, bad); got.Allowed || got.Status.Code != http.StatusForbidden || !strings.Contains(got.Status.Message, "tenant is missing") {
			t.Errorf("%s of a bad policy: got %+v", operation, got)
		}
	}
	// What it is not about is not held up.
	for resourceName, operation := range map[string]string{"configmaps": "DELETE", "secrets": "CREATE"} {
		if got := ask(resourceName, operation, bad); !got.Allowed {
			t.Errorf("%s of %s: got %+v", operation, resourceName, got)
		}
	}
	if want := []Outcome{Unchanged, Unchanged, Denied, Unchanged, Unchanged, Denied, Unchanged, Unchanged}; !slices.Equal(outcomes, want) {
		t.Errorf("got outcomes %v, want %v", outcomes, want)
	}
	// A list of warnings ends somewhere.
	long := strings.Replace(goodPolicy, "agents: {", "agents: {", 1)
	for name := range strings.SplitSeq("bcdefghijklmno", "") {
		long += "  # \n"
		long = strings.Replace(long, "agents: {", "agents: {"+name+": {identity: app}, ", 1)
	}
	if got := ask("configmaps", "CREATE", policyMap(t, map[string]string{"credfree.yaml": long})); len(got.Warnings) != maxWarnings+1 || !strings.Contains(got.Warnings[maxWarnings], "more: credfree check prints them") {
		t.Errorf("got %d warnings", len(got.Warnings))
	}
}
