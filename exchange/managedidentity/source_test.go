package managedidentity_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/managedidentity"
	"github.com/credfree/credfree/exchange/workload"
)

// A user-assigned identity is a workload token for applications that trust it.
func TestSourceIsAWorkloadSource(t *testing.T) {
	client, endpoint := imds(t)
	var source workload.Source = managedidentity.Source{Client: client, ID: managedidentity.ID{ClientID: assignedClient}, Audience: entratest.TokenExchangeAudience}
	for range 2 {
		a, err := source.Assertion(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Check(entratest.TokenExchangeAudience, time.Now()); err != nil {
			t.Errorf("got %v, want a token that Entra could accept", err)
		}
		if a.Subject != assignedObject || a.Issuer != authority+"/"+entratest.DemoTenantID+"/v2.0" {
			t.Errorf("got a token of %s by %s, want %s by the tenant", a.Subject, a.Issuer, assignedObject)
		}
	}
	requests := endpoint.Requests()
	if len(requests) != 2 || requests[1].Audience != entratest.TokenExchangeAudience {
		t.Errorf("got %+v, want two requests for the token exchange", requests)
	}
}

// Who is told to wait waits, and says so; another identity is not told.
func TestSourceWaits(t *testing.T) {
	client, endpoint := imds(t)
	source := func(id string) managedidentity.Source {
		return managedidentity.Source{Client: client, ID: managedidentity.ID{ClientID: id}, Audience: entratest.TokenExchangeAudience}
	}
	synctest.Test(t, func(t *testing.T) {
		endpoint.SetBehavior(entratest.PlatformBehavior{Status: http.StatusTooManyRequests, RetryAfter: "60"})
		for i := range 20 {
			_, err := source(assignedClient).Assertion(t.Context())
			got, ok := errors.AsType[*workload.Error](err)
			if left := 60*time.Second - time.Duration(i)*2*time.Second; !ok || got.Problem != workload.Unavailable || got.RetryAfter != left {
				t.Errorf("got %v, want %s and %s to wait", err, workload.Unavailable, left)
			}
			time.Sleep(2 * time.Second)
		}
		if got := len(endpoint.Requests()); got != 1 {
			t.Errorf("got %d requests, want 1", got)
		}
		endpoint.SetBehavior(entratest.PlatformBehavior{})
		if _, err := source(systemClient).Assertion(t.Context()); err != nil {
			t.Errorf("another identity: got %v, want a token", err)
		}
		time.Sleep(20*time.Second - 1)
		if _, err := source(assignedClient).Assertion(t.Context()); err == nil {
			t.Error("got a token before it was time to ask")
		}
		time.Sleep(time.Nanosecond)
		if _, err := source(assignedClient).Assertion(t.Context()); err != nil {
			t.Errorf("got %v, want a token after the wait", err)
		}
		// Without a Retry-After it is asked again.
		endpoint.SetBehavior(entratest.PlatformBehavior{Status: http.StatusTooManyRequests})
		before := len(endpoint.Requests())
		for range 2 {
			if _, err := source(assignedClient).Assertion(t.Context()); err == nil {
				t.Error("got a token, want none")
			}
		}
		if got := len(endpoint.Requests()) - before; got != 2 {
			t.Errorf("got %d requests, want 2", got)
		}
	})
}

func TestSourceProblems(t *testing.T) {
	client, endpoint := imds(t)
	for status, want := range map[int]workload.Problem{
		http.StatusTooManyRequests: workload.Unavailable, http.StatusInternalServerError: workload.Unavailable, http.StatusGone: workload.Unavailable,
		http.StatusForbidden: workload.Denied, http.StatusBadRequest: workload.Denied, http.StatusFound: workload.Malformed,
	} {
		endpoint.SetBehavior(entratest.PlatformBehavior{Status: status, Body: identityHeader})
		_, err := managedidentity.Source{Client: client, Audience: entratest.TokenExchangeAudience}.Assertion(t.Context())
		got, ok := errors.AsType[*workload.Error](err)
		if !ok || got.Problem != want || got.Hint == "" {
			t.Errorf("%d: got %v, want %s with a hint", status, err, want)
		}
		if cause := wantError(t, err, problemOf(t, err), ""); cause.Status != status {
			t.Errorf("got status %d in the cause, want %d", cause.Status, status)
		}
	}
	for name, source := range map[string]managedidentity.Source{
		"no audience": {Client: client},
		"no client":   {Audience: entratest.TokenExchangeAudience},
		"two names":   {Client: client, Audience: entratest.TokenExchangeAudience, ID: managedidentity.ID{ClientID: "a", ObjectID: "b"}},
	} {
		_, err := source.Assertion(t.Context())
		if got, ok := errors.AsType[*workload.Error](err); !ok || got.Problem != workload.Malformed {
			t.Errorf("%s: got %v, want %s", name, err, workload.Malformed)
		}
	}
	endpoint.SetBehavior(entratest.PlatformBehavior{Body: `{"access_token":"opaque","expires_in":3600}`})
	_, err := managedidentity.Source{Client: client, Audience: entratest.TokenExchangeAudience}.Assertion(t.Context())
	if got, ok := errors.AsType[*workload.Error](err); !ok || got.Problem != workload.Malformed {
		t.Errorf("an opaque token: got %v, want %s", err, workload.Malformed)
	}
}

// problemOf is that of the cause, whatever it is.
func problemOf(t *testing.T, err error) managedidentity.Problem {
	t.Helper()
	cause, ok := errors.AsType[*managedidentity.Error](err)
	if !ok {
		t.Fatalf("got %v, want a cause of this package", err)
	}
	return cause.Problem
}
