package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/workload"
)

// Every kind of source has words of its own, without what could be secret.
func TestDoctorDescribesSources(t *testing.T) {
	t.Parallel()
	unknown := describeSource(policy.Source{})
	for i := range reflect.TypeFor[policy.Source]().NumField() {
		var source policy.Source
		field := reflect.ValueOf(&source).Elem().Field(i)
		field.Set(reflect.New(field.Type().Elem()))
		if source.Exec != nil {
			source.Exec.Command = []string{"/bin/tool", "--password", "hunter2"}
		}
		if source.HTTP != nil {
			*source.HTTP = policy.HTTPSource{URL: "https://u:hunter2@tokens.example/hunter2?key=hunter2", Headers: map[string]policy.HeaderSource{"A": {Value: "hunter2"}}}
		}
		if got := describeSource(source); got == "" || got == unknown || strings.Contains(got, "hunter2") {
			t.Errorf("%s: got %q, want its own words and no secret", reflect.TypeFor[policy.Source]().Field(i).Name, got)
		}
	}
}

// What others wrote stays on its line and prints as what it is.
func TestDoctorClaimsArePrintable(t *testing.T) {
	t.Parallel()
	d := doctor{now: time.Now, policy: &policy.Policy{Cloud: policy.Cloud{Audience: "a"}}}
	var text strings.Builder
	s := d.claims(workload.Assertion{Issuer: "https://i.example/\x1b[2J", Subject: "s\nidentity other\u202e" + strings.Repeat("x", 10000), Audience: []string{"\u202e"}, Algorithm: "RS256\n"})
	s.Hint += "a\nb\x1b"
	s.writeText(&text)
	if got := text.String(); strings.ContainsAny(got, "\x1b\u202e") || strings.Count(got, "\n") != 2+len(s.Notes) || len(got) > 5000 {
		t.Errorf("got %q, want two short lines and the notes", got)
	}
}

// In a pod with an identity binding the authority may be out of reach, and the
// mounted token is for the proxy.
func TestDoctorWithIdentityBinding(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	trusted, err := os.ReadFile(filepath.Join(c.dir, "workload-token"))
	check(t, err)
	proxy, ca := newCluster(t, standIn(t, c.host.Server, string(trusted)))
	bound, err := c.host.Issuer.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "demo", Audience: bindingAudience, Lifetime: time.Hour})
	check(t, err)
	check(t, c.write("workload-token", bound))
	binding := env(tokenProxyVariable, proxy.URL, proxyNameVariable, proxyName, proxyCADataVariable, string(ca))
	walk := func() findings {
		t.Helper()
		p, err := policy.Parse(filepath.Join(c.dir, "doctor.yaml"), []byte(c.policy))
		check(t, err)
		d, err := newDoctor(p, binding)
		check(t, err)
		found, err := d.walk(t.Context(), "app")
		check(t, err)
		return found.Identities[0]
	}
	if got := walk(); got.states() != "source ok, claims ok, issuer ok, authority ok, token ok" || !got.says("authority", tokenProxyVariable) || len(proxy.requests()) != 1 {
		t.Errorf("got %+v, want all well through the proxy", got)
	}
	check(t, c.host.Pause())
	if got := walk(); got.states() != "source ok, claims ok, issuer ok, authority warning, token ok" || !got.says("authority", tokenProxyVariable) {
		t.Errorf("got %+v, want a token through the proxy alone", got)
	}
	check(t, c.write("workload-token", string(trusted)))
	if got := walk(); got.states() != "source ok, claims failed, issuer ok, authority warning, token skipped" || !got.says("claims", bindingAudience) {
		t.Errorf("got %+v, want a token for Entra itself to be refused", got)
	}
}
