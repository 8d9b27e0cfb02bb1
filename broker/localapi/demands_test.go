package localapi

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/exchange/secret"
)

// A demand ends when nobody has gone by it for a while, and with the token that
// meets it.
func TestDemandsEnd(t *testing.T) {
	d, err := newDemands()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	r := httptest.NewRequest("GET", "/call/x/y", nil)
	long, short := d.key(r, broker.Request{API: "long"}), d.key(r, broker.Request{API: "short"})
	d.keep(long, "a", now, now.Add(time.Hour))
	d.keep(short, "b", now, now.Add(time.Minute))
	for _, test := range []struct {
		after       time.Duration
		long, short string
	}{{0, "a", "b"}, {time.Minute - 1, "a", "b"}, {time.Minute, "a", ""}, {demandIdle - 1, "a", ""}, {demandIdle, "", ""}, {0, "", ""}} {
		if a, b := d.of(long, now.Add(test.after)), d.of(short, now.Add(test.after)); a != test.long || b != test.short {
			t.Errorf("after %s: got %q and %q, want %q and %q", test.after, a, b, test.long, test.short)
		}
	}
	for range 2 * maxDemands {
		d.secret[0]++
		d.secret[1] += d.secret[0]
		d.keep(d.key(r, broker.Request{}), "c", now, now.Add(time.Hour))
	}
	if d.kept.Len() > maxDemands {
		t.Errorf("%d demands are kept", d.kept.Len())
	}
}

// Whoever differs in what decides about the token has demands of its own.
func TestDemandsOfOthers(t *testing.T) {
	d, err := newDemands()
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/call/x/y", nil)
	seen := map[[32]byte]int{}
	for i, req := range []broker.Request{
		{}, {API: "a"}, {Agent: "a"}, {Key: "a"}, {Identity: "a"}, {Scope: "a"}, {UserToken: secret.New("a")},
		{Key: "ab"}, {Key: "a", Agent: "b"}, {Key: "b", Agent: "a"},
	} {
		key := d.key(r, req)
		if other, ok := seen[key]; ok {
			t.Errorf("requests %d and %d have the same demands", other, i)
		}
		seen[key] = i
		if same := req; d.key(httptest.NewRequest("POST", "/call/x/z?q", nil), same) != key {
			t.Errorf("request %d has other demands for another path", i)
		}
	}
}

// Two requests for claims are one for both.
func TestBothClaims(t *testing.T) {
	const nbf, acrs = `{"access_token":{"nbf":{"value":"1"}}}`, `{"access_token":{"acrs":{"value":"c1"}}}`
	for _, test := range []struct{ older, newer, want string }{
		{"", nbf, nbf}, {nbf, nbf, nbf}, {acrs, nbf, `{"access_token":{"acrs":{"value":"c1"},"nbf":{"value":"1"}}}`},
		{nbf, `{"access_token":{"nbf":{"value":"2"}}}`, `{"access_token":{"nbf":{"value":"2"}}}`},
		{nbf, `{"id_token":{"a":null}}`, `{"access_token":{"nbf":{"value":"1"}},"id_token":{"a":null}}`},
		{nbf, `{"odd":1}`, `{"odd":1}`}, {`{"odd":1}`, nbf, nbf}, {`{"access_token":null}`, nbf, nbf},
	} {
		if got := bothClaims(test.older, test.newer); got != test.want {
			t.Errorf("%s and %s: got %s, want %s", test.older, test.newer, got, test.want)
		}
	}
}
