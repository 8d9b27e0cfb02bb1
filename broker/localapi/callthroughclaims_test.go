package localapi_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/exchange/entratest"
)

// recently asks for a token that was issued just now.
func recently() string {
	return `{"access_token":{"nbf":{"essential":true,"value":"` + strconv.FormatInt(time.Now().Unix(), 10) + `"}}}`
}

// recorded is the emulator's API, and the bodies that it got.
func recorded(bodies *[]string) func(*door) http.Handler {
	var mu sync.Mutex
	return func(d *door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body) // what is missing shows
			mu.Lock()
			*bodies = append(*bodies, string(body))
			mu.Unlock()
			d.entra.API().ServeHTTP(w, r)
		})
	}
}

// A claims challenge of the API is met once, with the request as it was, and the
// agent sees none of it.
func TestCallMeetsAClaimsChallenge(t *testing.T) {
	large := strings.Repeat("x", 1<<20)
	for _, body := range []string{"", "body", large} {
		var bodies []string
		d, _ := openCalls(t, caller, recorded(&bodies))
		check(t, d.entra.SetClaimsChallenge(recently()))
		method := http.MethodPost
		if body == "" {
			method = http.MethodGet
		}
		if got := d.call(t, method, "tools/echo/x", body); got.StatusCode != 200 || got.Header.Get("WWW-Authenticate") != "" {
			t.Errorf("got %s, want 200", got.wire())
		}
		if diff := cmp.Diff([]string{body, body}, bodies); diff != "" {
			t.Errorf("bodies of %d bytes (-want +got):\n%.300s", len(body), diff)
		}
		if lines := d.audited(); strings.Count(lines, `"decision":"allow"`) != 2 {
			t.Errorf("recorded %s, want two issuances", lines)
		}
	}
}

// What cannot be sent twice goes back with the challenge, which the agent meets:
// it sends the claims along, as they stand there.
func TestCallPassesAClaimsChallengeOn(t *testing.T) {
	for name, body := range map[string]func() io.Reader{
		"a stream": func() io.Reader { return io.MultiReader(strings.NewReader("body")) },
		"large":    func() io.Reader { return strings.NewReader(strings.Repeat("x", 1<<20+1)) },
	} {
		var bodies []string
		d, _ := openCalls(t, caller, recorded(&bodies))
		check(t, d.entra.SetClaimsChallenge(recently()))
		resp := do(t, d.request(t, http.MethodPost, "tools/echo/x", body()))
		_, rest, challenged := strings.Cut(resp.Header.Get("WWW-Authenticate"), `error="insufficient_claims", claims="`)
		if resp.StatusCode != 401 || !challenged || len(bodies) != 1 {
			t.Fatalf("%s: got %d %v after %d calls, want the challenge after 1", name, resp.StatusCode, resp.Header, len(bodies))
		}
		encoded := strings.TrimSuffix(rest, `"`)
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		check(t, err)
		for _, claims := range []string{encoded, string(decoded)} {
			if resp := do(t, d.request(t, http.MethodPost, "tools/echo/x", body(), "Credfree-Claims", claims)); resp.StatusCode != 200 {
				t.Errorf("%s: got %d with the claims %s, want 200", name, resp.StatusCode, claims)
			}
		}
	}
}

// revoking is an API that takes no token that it has revoked: at first, the first
// one that it sees.
func revoking(*door) http.Handler {
	challenge := `Bearer error="insufficient_claims", claims="` + base64.StdEncoding.EncodeToString([]byte(recently())) + `"`
	var first atomic.Value
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get("Authorization")
		if first.CompareAndSwap(nil, token) || first.Load() == token {
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(401)
			return
		}
		_, _ = io.Copy(w, r.Body) // what is missing shows
	})
}

// An agent whose requests can never be sent twice gets a token that is not
// revoked when it tries again, as it did.
func TestCallStreamedGetsPastARevokedToken(t *testing.T) {
	for name, body := range map[string]func() io.Reader{
		"a stream": func() io.Reader { return io.MultiReader(strings.NewReader("body")) },
		"large":    func() io.Reader { return strings.NewReader(strings.Repeat("x", 1<<20+1)) },
	} {
		d, a := openCalls(t, caller, revoking)
		resp := do(t, d.request(t, http.MethodPost, "tools/x", body()))
		if lines := d.audited(); resp.StatusCode != 401 || challengeOf(resp) == "" || a.calls.Load() != 1 || strings.Count(lines, `"decision":"allow"`) != 2 ||
			!strings.Contains(lines[:strings.IndexByte(lines, '\n')], resp.Header.Get("credfree-issuance-id")) {
			t.Errorf("%s: got %d %v after %d calls and the issuances\n%swant the challenge, and the first issuance of two", name, resp.StatusCode, resp.Header, a.calls.Load(), lines)
		}
		want, err := io.ReadAll(body())
		check(t, err)
		resp = do(t, d.request(t, http.MethodPost, "tools/x", body()))
		got, err := io.ReadAll(resp.Body)
		check(t, err)
		if resp.StatusCode != 200 || string(got) != string(want) {
			t.Errorf("%s: got %d and %d bytes the second time, want 200 and %d", name, resp.StatusCode, len(got), len(want))
		}
	}
}

// An API that asks for the same with each call is called once, from the second call
// on, by each door that calls: with what the first time has taught. Others who call
// it have to be asked themselves.
func TestCallBeginsWithWhatWasAskedFor(t *testing.T) {
	stream := func() io.Reader { return io.MultiReader(strings.NewReader("body")) }
	d, a := openCalls(t, caller, func(d *door) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("/base/v1/", http.StripPrefix("/base/v1", d.entra.API()))
		mux.Handle("/", d.entra.API())
		return mux
	})
	check(t, d.entra.SetClaimsChallenge(recently()))
	for i, call := range []struct {
		path  string
		body  io.Reader
		calls int64
		want  int
	}{
		{"tools/echo/x", strings.NewReader("body"), 2, 200},
		{"tools/echo/x", strings.NewReader("body"), 1, 200},
		{"tools/echo/y", stream(), 1, 200},
		{"linked/echo/x", stream(), 1, 401},
		{"linked/echo/x", stream(), 1, 200},
	} {
		a.calls.Store(0)
		if resp := do(t, d.request(t, http.MethodPost, call.path, call.body)); resp.StatusCode != call.want || a.calls.Load() != call.calls {
			t.Errorf("call %d of %s: got %d after %d calls, want %d after %d", i+1, call.path, resp.StatusCode, a.calls.Load(), call.want, call.calls)
		}
	}
	a.calls.Store(0)
	if result := downstreamIn(t, d.send(t, http.MethodPost, ownCall+"tools?"+pathIs+"echo/x", "")); result.StatusCode != 200 || a.calls.Load() != 1 {
		t.Errorf("/DownstreamApi: got %+v after %d calls, want 200 after 1", result, a.calls.Load())
	}
	d.audited()
	if got := d.call(t, http.MethodPost, "tools/echo/x", "", "Credfree-Identity", "demo"); got.StatusCode != 200 || strings.Count(d.audited(), `"decision"`) != 2 {
		t.Errorf("who names an identity: got %s, want it asked itself", got.wire())
	}
	// What was asked for is not what the agent asks for itself.
	a.calls.Store(0)
	if got := d.call(t, http.MethodPost, "tools/echo/x", "", "Credfree-Claims", `{"access_token":{"acrs":{"value":"c1"}}}`); got.StatusCode != 401 || a.calls.Load() != 1 {
		t.Errorf("with claims of its own: got %s after %d calls, want 401 after 1", got.wire(), a.calls.Load())
	}
}

// A token that has what an API always asks for may be revoked like any other. The
// next one has both that, and what the revocation asks for.
func TestCallMeetsChallengesTogether(t *testing.T) {
	challenge := func(w http.ResponseWriter, claims string) {
		w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_claims", claims="`+base64.StdEncoding.EncodeToString([]byte(claims))+`"`)
		w.WriteHeader(401)
	}
	revoked := map[string]bool{}
	d, a := openCalls(t, sealed, func(d *door) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			switch {
			case revoked[token]:
				challenge(w, fmt.Sprintf(`{"access_token":{"nbf":{"essential":true,"value":"%d"}}}`, time.Now().Unix()-100+int64(len(revoked))))
			case !slices.Contains(d.verify(t, token).Contexts, "c1"):
				challenge(w, `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`)
			}
		})
	})
	user := d.user(t, func(r *entratest.UserTokenRequest) { r.MFA = true })
	for range 3 {
		if got := d.call(t, http.MethodPost, "users/x", "body", "Credfree-User-Token", user); got.StatusCode != 200 {
			t.Fatalf("got %s", got.wire())
		}
		revoked[strings.TrimPrefix(a.request().Header.Get("Authorization"), "Bearer ")] = true
	}
}

// What Entra gives no token with any more is not insisted on: the API may ask for
// less now.
func TestCallForgetsWhatEntraRefuses(t *testing.T) {
	var b *broker.Broker
	d, a := openCalls(t, caller, emulated, func(cfg *localapi.Config) { b = cfg.Broker })
	check(t, d.entra.SetClaimsChallenge(recently()))
	if got := d.call(t, http.MethodGet, "tools/echo/x", ""); got.StatusCode != 200 || a.calls.Load() != 2 {
		t.Fatalf("got %s after %d calls", got.wire(), a.calls.Load())
	}
	_, _, err := b.Purge(broker.Selection{Agent: "demo"})
	check(t, err)
	check(t, d.entra.SetClaimsChallenge(""))
	d.entra.SetBehavior(entratest.Behavior{Code: 53003})
	d.audited()
	got := d.call(t, http.MethodGet, "tools/echo/x", "")
	if lines := d.audited(); got.StatusCode != 401 || strings.Count(lines, `"reason":"entra_rejected"`) != 2 {
		t.Errorf("got %s and recorded %s, want a token without the claims asked for", got.wire(), lines)
	}
	d.entra.SetBehavior(entratest.Behavior{})
	for deadline := time.Now().Add(20 * time.Second); got.StatusCode != 200 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		d.audited() // refusals of before, which are remembered for a moment
		got = d.call(t, http.MethodGet, "tools/echo/x", "")
	}
	if lines := d.audited(); got.StatusCode != 200 || strings.Count(lines, `"decision"`) != 1 {
		t.Errorf("got %s and recorded %s, want one issuance", got.wire(), lines)
	}
}

// A challenge that Entra does not meet is passed on all the same.
func TestCallStreamedChallengeThatEntraRefuses(t *testing.T) {
	d, _ := openCalls(t, caller, revoking)
	d.send(t, http.MethodPost, "/oauth2/token", good)
	d.entra.SetBehavior(entratest.Behavior{Code: 53003})
	resp := do(t, d.request(t, http.MethodPost, "tools/x", io.MultiReader(strings.NewReader("body"))))
	if resp.StatusCode != 401 || challengeOf(resp) == "" {
		t.Errorf("got %d %v, want the challenge of the API", resp.StatusCode, resp.Header)
	}
}

// challengeOf are the claims that an answer asks for.
func challengeOf(resp *http.Response) string {
	_, rest, _ := strings.Cut(resp.Header.Get("WWW-Authenticate"), `error="insufficient_claims", claims="`)
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(rest, `"`))
	if err != nil {
		return ""
	}
	return string(decoded)
}

// An API that is never satisfied is asked twice at most, and not again for an
// agent that answers challenges itself. What is no claims challenge is the
// agent's to deal with.
func TestCallChallengesEnd(t *testing.T) {
	claims := base64.StdEncoding.EncodeToString([]byte(recently()))
	for challenge, calls := range map[string]int64{
		`Bearer realm="", error="insufficient_claims", claims="` + claims + `"`:                      2,
		`PoP nonce="x", Bearer error="insufficient_claims", authorization_uri="x", claims=` + claims: 2,
		`Bearer error="insufficient_claims", claims="` + strings.TrimRight(claims, "=") + `"`:        2,
		`Bearer error="invalid_token", claims="` + claims + `"`:                                      1,
		`Bearer error="insufficient_claims"`:                                                         1,
		`Bearer error="insufficient_claims", claims="bm8="`:                                          1,
		`Bearer error="insufficient_claims", claims="` + strings.Repeat("A", 20<<10) + `"`:           1,
		`Basic error="insufficient_claims", claims="` + claims + `"`:                                 1,
		`Bearer error="insufficient_claims", claims="e30="`:                                          1,
		`Bearer error="insufficient_claims, claims="` + claims:                                       1,
	} {
		d, a := openCalls(t, caller, answering(401, "no", "WWW-Authenticate", challenge))
		got := d.call(t, http.MethodPut, "tools/x", "body")
		if got.StatusCode != 401 || got.body != "no" || a.calls.Load() != calls || got.Header.Get("WWW-Authenticate") != challenge {
			t.Errorf("%.90s: got %d %s after %d calls, want 401 after %d", challenge, got.StatusCode, got.body, a.calls.Load(), calls)
		}
		a.calls.Store(0)
		if got := d.call(t, http.MethodPut, "tools/x", "body", "Credfree-Claims", claims); got.StatusCode != 401 || a.calls.Load() != 1 {
			t.Errorf("%.90s: got %d after %d calls with claims, want 401 after 1", challenge, got.StatusCode, a.calls.Load())
		}
	}
}

// When Entra has no token with the claims, the agent hears why, and what they are.
func TestCallChallengeThatEntraRefuses(t *testing.T) {
	for code, status := range map[int]int{53003: 401, 700016: 401} {
		d, a := openCalls(t, caller, emulated)
		if got := d.call(t, http.MethodGet, "tools/echo/x", ""); got.StatusCode != 200 {
			t.Fatalf("got %s", got.wire())
		}
		check(t, d.entra.SetClaimsChallenge(recently()))
		d.entra.SetBehavior(entratest.Behavior{Code: code})
		a.calls.Store(0)
		got := d.call(t, http.MethodGet, "tools/echo/x", "")
		e := refusalOf(t, got).Error
		if got.StatusCode != status || a.calls.Load() != 1 || e.RefusedBy != "entra" || e.CorrelationID == "" || e.Claims == "" || e.Reason != "entra_rejected" {
			t.Errorf("%d: got %s after %d calls", code, got.wire(), a.calls.Load())
		}
		if want := base64.StdEncoding.EncodeToString([]byte(e.Claims)); !strings.Contains(got.Header.Get("WWW-Authenticate"), `error="insufficient_claims", claims="`+want+`"`) {
			t.Errorf("%d: got the challenge %q", code, got.Header.Get("WWW-Authenticate"))
		}
	}
}

// A temporary failure on the way to the token is no challenge: the agent tries
// again.
func TestCallChallengeDuringAnOutage(t *testing.T) {
	d, _ := openCalls(t, caller, emulated)
	d.call(t, http.MethodGet, "tools/echo/x", "")
	check(t, d.entra.SetClaimsChallenge(recently()))
	d.entra.SetBehavior(entratest.Behavior{Status: 503})
	if got := d.call(t, http.MethodGet, "tools/echo/x", ""); got.StatusCode != 503 || refusalOf(t, got).Error.Reason != "entra_unavailable" {
		t.Errorf("got %s, want 503", got.wire())
	}
}
