package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/managedidentity"
	"github.com/credfree/credfree/exchange/workload"
	"github.com/credfree/credfree/exchange/workload/aws"
	"github.com/credfree/credfree/exchange/workload/spiffe"
)

// A metadata server's address means another machine to a proxy, whose token would
// come back, and what is sent without TLS can be read there.
func TestSourcesWithoutTLSAskNoProxy(t *testing.T) {
	if os.Getenv("HTTP_PROXY") != "http://proxy.test:3128" { // which a process reads once
		own, err := os.Executable()
		check(t, err)
		again := exec.CommandContext(t.Context(), own, "-test.run=^TestSourcesWithoutTLSAskNoProxy$")
		again.Env = append(os.Environ(), "HTTP_PROXY=http://proxy.test:3128", "HTTPS_PROXY=http://proxy.test:3128", "NO_PROXY=", "no_proxy=")
		out, err := again.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "PASS") {
			t.Errorf("with a proxy: got %v\n%s", err, out)
		}
		return
	}
	for url, want := range map[string]string{
		"http://169.254.169.254/metadata/identity/oauth2/token": "<nil>",
		"http://metadata.google.internal/computeMetadata":       "<nil>",
		"https://x.example/t":                                   "http://proxy.test:3128",
	} {
		made, err := newSource(policy.Source{HTTP: &policy.HTTPSource{URL: url, Method: "GET"}}, entratest.TokenExchangeAudience)
		check(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		check(t, err)
		got, err := made.(workload.HTTP).Transport.(*http.Transport).Proxy(req)
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: got the proxy %v, %v, want %s", url, got, err, want)
		}
	}
}

// Every kind of source that a policy can name is one this program has, with
// what the policy said in it.
func TestEverySourceOfAPolicyIsBuilt(t *testing.T) {
	const audience = entratest.TokenExchangeAudience
	for text, want := range map[string]workload.Source{
		`{file: {path: /t}}`:                          workload.File{Path: "/t"},
		`{env: {name: T}}`:                            workload.Env{Variable: "T"},
		`{exec: {command: [/bin/x, y], timeout: 5s}}`: workload.Exec{Command: []string{"/bin/x", "y"}, Timeout: 5 * time.Second},
		`{http: {url: "https://x.example/t", pointer: /v, headers: {A: b}}}`: workload.HTTP{
			URL: "https://x.example/t", JSONPointer: "/v", Headers: map[string]workload.Header{"A": {Value: "b"}}},
		`{github: {}}`:          workload.GitHubActions{Audience: audience},
		`{gitlab: {name: AZ}}`:  workload.GitLab{Variable: "AZ"},
		`{terraform: {tag: T}}`: workload.Terraform{Tag: "T"},
		`{circleci: {}}`:        workload.CircleCI{},
		`{buildkite: {}}`:       workload.Buildkite{Audience: audience},
		`{vault: {role: r}}`:    workload.Vault{Role: "r"},
		`{google: {}}`:          workload.GoogleMetadata{Audience: audience},
		`{managedIdentity: {clientID: 1b7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a01}}`:            managedidentity.Source{Audience: audience, ID: managedidentity.ID{ClientID: "1b7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a01"}},
		`{aws: {region: eu-west-1}}`:                                                     aws.Source{Audience: audience, Region: "eu-west-1"},
		`{spiffe: {socket: "unix:///run/spire/agent.sock", id: "spiffe://x.example/a"}}`: &spiffe.Source{Audience: audience, Socket: "unix:///run/spire/agent.sock", SPIFFEID: "spiffe://x.example/a"},
		`{kubernetes: {namespace: n, serviceAccount: s}}`:                                workload.KubernetesTokenRequest{Namespace: "n", ServiceAccount: "s", Audience: audience},
		`{azureDevOps: {serviceConnectionID: 1b7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a01}}`:     workload.AzureDevOps{ServiceConnectionID: "1b7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a01"},
	} {
		p, err := policy.Parse("credfree.yaml", []byte("version: 1\ntenant: "+entratest.DemoTenantID+"\nsources: {pod: "+text+"}\nidentities: {}\nagents: {}\n"))
		check(t, err)
		made, err := newSource(p.Sources["pod"], audience)
		check(t, err)
		if reflect.TypeOf(made) != reflect.TypeOf(want) {
			t.Errorf("%s: got a %T, want a %T", text, made, want)
			continue
		}
		got, wanted := reflect.Indirect(reflect.ValueOf(made)), reflect.Indirect(reflect.ValueOf(want))
		for i := range got.NumField() {
			field := got.Type().Field(i)
			name := field.Name
			if field.IsExported() && name != "Transport" && name != "Getenv" && name != "Method" && name != "Client" && !reflect.DeepEqual(got.Field(i).Interface(), wanted.Field(i).Interface()) {
				t.Errorf("%s: got %s=%v, want %v", text, name, got.Field(i), wanted.Field(i))
			}
		}
	}
	none, err := newSource(policy.Source{}, audience)
	check(t, err)
	if _, err := none.Assertion(t.Context()); err == nil {
		t.Error("a source of no kind has a token")
	}
}

// A command prints the workload token, and the agent gets its Entra token.
func TestExecSourceEndToEnd(t *testing.T) {
	var lab string
	r := startServiceWith(t, func(header, dir string) string {
		lab = dir
		runs := filepath.Join(dir, "runs")
		return strings.Replace(header, "{file: {path: '"+dir+"/workload-token'}}",
			fmt.Sprintf("{exec: {command: [/bin/sh, -c, 'echo x >>%s; cat %s/workload-token']}}", runs, dir), 1) + anyProcess()
	})
	ask := func() int {
		status, _ := do(t, http.MethodPost, "http://"+r.agentsAddr()+"/oauth2/token", "grant_type=client_credentials&scope="+graphScope)
		return status
	}
	if got := ask(); got != 200 {
		t.Fatalf("got %d, want 200", got)
	}
	for range 5 {
		if status, text := do(t, http.MethodGet, "http://"+r.adminAddr()+"/readyz", ""); status != 200 {
			t.Fatalf("not ready: %s", text)
		}
	}
	runs, err := os.ReadFile(filepath.Join(lab, "runs"))
	check(t, err)
	if got := strings.Count(string(runs), "x"); got != 1 {
		t.Errorf("the command ran %d times, want once: probes must not run it", got)
	}
}

// counting is a source that has a token of the given life, or an error.
type counting struct {
	calls int
	token workload.Assertion
	err   error
}

func (c *counting) Assertion(context.Context) (workload.Assertion, error) {
	c.calls++
	return c.token, c.err
}

// slow is a source that takes its time, and counts.
type slow struct{ calls atomic.Int32 }

func (s *slow) Assertion(ctx context.Context) (workload.Assertion, error) {
	s.calls.Add(1)
	select {
	case <-time.After(5 * time.Second):
	case <-ctx.Done():
		return workload.Assertion{}, ctx.Err()
	}
	return workload.Assertion{}, &workload.Error{Problem: workload.Unavailable, Message: "there is none"}
}

// However many probe a source that has failed, it is asked once; and a probe that
// goes away leaves nothing behind that others would take for its answer.
func TestManyProbesAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &slow{}
		w := &watched{Source: source, audience: "a"}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := w.state(gone); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that it has not answered", err)
		}
		for round := range 2 {
			var probes sync.WaitGroup
			for range 60 {
				probes.Go(func() {
					if _, err := w.state(t.Context()); err == nil || err.Error() != "there is none" {
						t.Errorf("got %v", err)
					}
				})
			}
			probes.Wait()
			if got := int(source.calls.Load()); got != round+1 {
				t.Errorf("asked %d times, want %d", got, round+1)
			}
			time.Sleep(probeInterval + time.Second)
		}
	})
}

func TestWatchedSource(t *testing.T) {
	good := workload.Assertion{Issuer: "https://i.example", Subject: "s", Audience: []string{"a"}, Algorithm: "RS256", ExpiresAt: time.Now().Add(time.Hour)}
	for name, test := range map[string]struct {
		source counting
		fresh  bool
		calls  int // after three probes
		well   bool
	}{
		"a good one is asked once":            {counting{token: good}, false, 1, true},
		"a cheap one is asked each time":      {counting{token: good}, true, 3, true},
		"a bad one is not asked all the time": {counting{err: &workload.Error{Problem: workload.Unavailable}}, false, 1, false},
		"a token for somebody else":           {counting{token: workload.Assertion{Issuer: "https://i.example", Subject: "s", Audience: []string{"b"}, Algorithm: "RS256", ExpiresAt: good.ExpiresAt}}, false, 1, false},
	} {
		w := &watched{Source: &test.source, audience: "a", fresh: test.fresh}
		for range 3 {
			if _, err := w.state(t.Context()); (err == nil) != test.well {
				t.Errorf("%s: got %v, want well=%t", name, err, test.well)
			}
		}
		if test.source.calls != test.calls {
			t.Errorf("%s: asked %d times, want %d", name, test.source.calls, test.calls)
		}
	}
}

// A file whose token cannot be used does not seem to have a good one for as long as the
// last one was good for.
func TestUnusableFileIsSeenInMetrics(t *testing.T) {
	r := startService(t, func(string) string { return anyProcess() })
	expiry := func() (seconds float64) {
		_, metrics := do(t, http.MethodGet, "http://"+r.adminAddr()+"/metrics", "")
		found := regexp.MustCompile(`credfree_workload_time_to_expiry_seconds\{kind="file",[^}]*\} (\S+)`).FindStringSubmatch(metrics)
		if found == nil {
			t.Fatalf("no such metric in %s", metrics)
		}
		seconds, err := strconv.ParseFloat(found[1], 64)
		check(t, err)
		return seconds
	}
	if got := expiry(); got < 600 {
		t.Errorf("got %v of a fresh one", got)
	}
	check(t, r.lab.write("workload-token", "junk"))
	if got := expiry(); got > 0 {
		t.Errorf("got %v of a file without a token", got)
	}
}
