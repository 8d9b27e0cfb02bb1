package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/managedidentity"
	"github.com/credfree/credfree/exchange/workload"
	"github.com/credfree/credfree/exchange/workload/aws"
	"github.com/credfree/credfree/exchange/workload/spiffe"
)

// newSource makes the workload source that the policy describes. audience is
// what its tokens have to be meant for.
func newSource(s policy.Source, audience string) (workload.Source, error) {
	// Build machines may be behind a proxy. The other sources are this machine's
	// own, and use none.
	outside := &http.Transport{Proxy: outsideProxy, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second}
	switch {
	case s.ManagedIdentity != nil:
		client, err := managedidentity.New(managedidentity.Config{Transport: &http.Transport{}})
		return managedidentity.Source{Client: client, ID: managedidentity.ID(*s.ManagedIdentity), Audience: audience}, err
	case s.AWS != nil:
		return aws.Source{Audience: audience, Region: s.AWS.Region}, nil
	case s.SPIFFE != nil:
		return &spiffe.Source{Audience: audience, Socket: s.SPIFFE.Socket, SPIFFEID: s.SPIFFE.SPIFFEID, Getenv: os.Getenv}, nil
	}
	return newPlainSource(s, audience, outside), nil
}

// outsideProxy is the environment's proxy for what is sent with TLS. Without, only
// this machine and its metadata service are asked: to a proxy that address means
// its own, and it could read what is sent.
func outsideProxy(req *http.Request) (*url.URL, error) {
	if req.URL.Scheme != "https" {
		return nil, nil // no proxy
	}
	return http.ProxyFromEnvironment(req)
}

// newPlainSource makes the sources that need the standard library alone.
func newPlainSource(s policy.Source, audience string, outside http.RoundTripper) workload.Source {
	switch {
	case s.File != nil:
		return workload.File{Path: s.File.Path}
	case s.Env != nil:
		return workload.Env{Variable: s.Env.Name}
	case s.Exec != nil:
		return workload.Exec{Command: s.Exec.Command, Timeout: s.Exec.Timeout, Variables: s.Exec.Variables}
	case s.HTTP != nil:
		headers := make(map[string]workload.Header, len(s.HTTP.Headers))
		for name, header := range s.HTTP.Headers {
			headers[name] = workload.Header(header)
		}
		return workload.HTTP{URL: s.HTTP.URL, Method: s.HTTP.Method, Headers: headers, JSONPointer: s.HTTP.Pointer, Transport: outside}
	case s.GitHub != nil:
		return workload.GitHubActions{Audience: audience, Transport: outside}
	case s.GitLab != nil:
		return workload.GitLab{Variable: s.GitLab.Name}
	case s.AzureDevOps != nil:
		return workload.AzureDevOps{ServiceConnectionID: s.AzureDevOps.ServiceConnectionID, Transport: outside}
	case s.Terraform != nil:
		return workload.Terraform{Tag: s.Terraform.Tag}
	case s.CircleCI != nil:
		return workload.CircleCI{}
	case s.Buildkite != nil:
		return workload.Buildkite{Audience: audience}
	case s.Vault != nil:
		return workload.Vault{Role: s.Vault.Role, TokenFile: s.Vault.TokenFile}
	case s.Google != nil:
		return workload.GoogleMetadata{Audience: audience}
	case s.Kubernetes != nil:
		return workload.KubernetesTokenRequest{Namespace: s.Kubernetes.Namespace, ServiceAccount: s.Kubernetes.ServiceAccount, Audience: audience}
	}
	return noSource{}
}

// noSource stands for a kind of source that the policy knows and this program
// does not: it has no token, whoever asks.
type noSource struct{}

func (noSource) Assertion(context.Context) (workload.Assertion, error) {
	return workload.Assertion{}, &workload.Error{Problem: workload.Unavailable, Message: "this kind of source is not supported by this build", Hint: "use a newer credfree"}
}

// watched is a source that remembers how it last went, so that readiness
// probes do not run a command or call a service each time.
type watched struct {
	workload.Source
	audience string
	fresh    bool // reading it costs nothing: probes read it
	probes   singleflight.Group

	mu    sync.Mutex // guards what follows; never held while the source is read
	asked time.Time
	until time.Time // expiry of the last token
	known time.Time // the same, of the last that there was
	err   error     // of the last attempt, or of the last token's check
}

const (
	probeInterval = 10 * time.Second
	probeTime     = 10 * time.Second // for one attempt, however long its probes wait
)

// Assertion implements workload.Source.
func (w *watched) Assertion(ctx context.Context) (workload.Assertion, error) {
	assertion, err := w.Source.Assertion(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked, w.until, w.err = time.Now(), assertion.ExpiresAt, err
	if err == nil {
		w.known = assertion.ExpiresAt
		w.err = assertion.Check(w.audience, time.Now())
	}
	return assertion, err
}

// state is how the source is: as it last went, or as it goes now if that is
// cheap, long ago or bad. Anybody may probe: however many do, one attempt is made.
func (w *watched) state(ctx context.Context) (until time.Time, err error) {
	if w.stale() {
		attempt := w.probes.DoChan("", func() (any, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTime)
			defer cancel()
			if w.stale() {
				_, _ = w.Assertion(ctx) // its outcome is what is read below
			}
			return nil, nil
		})
		select {
		case <-attempt:
		case <-ctx.Done():
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked.IsZero() {
		return w.until, errors.New("the source has not answered yet")
	}
	return w.until, w.err
}

// stale reports whether a probe is to ask the source.
func (w *watched) stale() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fresh || w.asked.IsZero() || time.Since(w.asked) > probeInterval && (w.err != nil || time.Now().After(w.until))
}

// lastExpiry is when the last token that there was expires, or expired: zero
// before the first. A file without a token that can be used counts as having one that
// expires now: whoever renews it does not.
func (w *watched) lastExpiry(ctx context.Context) time.Time {
	if w.fresh { // the platform may have put another there since the last exchange
		_, _ = w.Assertion(ctx) // readiness tells of what is wrong with it
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fresh && w.err != nil {
		return time.Now()
	}
	return w.known
}
