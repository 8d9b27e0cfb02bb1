package entratest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credfree/credfree/exchange/entratest"
)

func TestTimeInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		form := w.appForm(t)

		w.server.SetBehavior(entratest.Behavior{Delay: 3 * time.Second})
		start := time.Now()
		if a := w.post(t, tenantID, form); a.status != 200 || time.Since(start) != 3*time.Second {
			t.Errorf("got status %d after %v, want 200 after 3s", a.status, time.Since(start))
		}

		for _, b := range []entratest.Behavior{{Hang: true}, {Delay: time.Hour}} {
			w.server.SetBehavior(b)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			start = time.Now()
			_, err := w.send(ctx, http.MethodPost, "/"+tenantID+"/oauth2/v2.0/token", "application/x-www-form-urlencoded", form.Encode())
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
				t.Errorf("%+v: got %v after %v, want a deadline after 1m", b, err, time.Since(start))
			}
		}

		w.client.Timeout = 5 * time.Second
		start = time.Now()
		_, err := w.send(t.Context(), http.MethodPost, "/"+tenantID+"/oauth2/v2.0/token", "application/x-www-form-urlencoded", form.Encode())
		if err == nil || time.Since(start) != 5*time.Second {
			t.Errorf("got %v after %v, want the client's timeout after 5s", err, time.Since(start))
		}

		// An assertion does not outlive its hour and the allowed skew.
		w.server.SetBehavior(entratest.Behavior{})
		time.Sleep(time.Hour + 6*time.Minute)
		checkRefusal(t, w.post(t, tenantID, form), 401, "invalid_client", 700024)
	})
}

func TestHostileAnswers(t *testing.T) {
	w := newWorld(t)
	form := w.appForm(t)
	for _, c := range []struct {
		name     string
		behavior entratest.Behavior
		status   int
		check    func(answer) bool
	}{
		{"503", entratest.Behavior{Status: 503, RetryAfter: "7", Body: "<html>busy</html>"}, 503, func(a answer) bool {
			return a.header.Get("Retry-After") == "7" && string(a.raw) == "<html>busy</html>" && a.header.Get("Content-Type") == "text/html; charset=utf-8"
		}},
		{"429 with a date", entratest.Behavior{Status: 429, RetryAfter: "Fri, 31 Dec 1999 23:59:59 GMT"}, 429, func(a answer) bool {
			return a.header.Get("Retry-After") == "Fri, 31 Dec 1999 23:59:59 GMT" && len(a.raw) == 0
		}},
		{"half a document", entratest.Behavior{Body: `{"access_token":"ey`}, 200, func(a answer) bool {
			return a.body == nil && a.header.Get("Content-Type") == "application/json; charset=utf-8"
		}},
		{"truncated", entratest.Behavior{Truncate: true}, 200, func(a answer) bool { return !json.Valid(a.raw) && len(a.raw) > 100 }},
		{"huge", entratest.Behavior{Huge: true}, 200, func(a answer) bool { return len(a.raw) > 8<<20 && a.text("access_token") != "" }},
		{"huge error", entratest.Behavior{Huge: true, Status: 500}, 500, func(a answer) bool { return len(a.raw) >= 8<<20 }},
		{"redirect", entratest.Behavior{Redirect: "https://evil.example/"}, 307, func(a answer) bool {
			return a.header.Get("Location") == "https://evil.example/"
		}},
		{"strings", entratest.Behavior{ExpiresInAsString: true, Lifetime: 10 * time.Minute}, 200, func(a answer) bool { return a.text("expires_in") == "599" }},
		{"refresh_in", entratest.Behavior{RefreshIn: 20 * time.Minute}, 200, func(a answer) bool { return a.body["refresh_in"] == 1200.0 }},
		{"a code with claims", entratest.Behavior{Code: 53003}, 400, func(a answer) bool {
			return a.code() == 53003 && a.text("suberror") == "message_only" && json.Valid([]byte(a.text("claims")))
		}},
		{"throttled tenant", entratest.Behavior{Code: 90055}, 429, func(a answer) bool { return a.code() == 90055 && a.header.Get("Retry-After") != "" }},
		{"a code with a text of values", entratest.Behavior{Code: 700016}, 400, func(a answer) bool {
			return a.code() == 700016 && !bytes.Contains(a.raw, []byte("%!"))
		}},
		{"a made-up code", entratest.Behavior{Code: 4711}, 400, func(a answer) bool { return a.code() == 4711 && a.body["error_uri"] == nil }},
		{"well-behaved", entratest.Behavior{}, 200, func(a answer) bool { return a.text("access_token") != "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.server.SetBehavior(c.behavior)
			if a := w.post(t, tenantID, form); a.status != c.status || !c.check(a) {
				t.Errorf("got status %d, header %v, body %.300q, want %d and what %+v says", a.status, a.header, a.raw, c.status, c.behavior)
			}
		})
	}
}

func TestWrongKindOfToken(t *testing.T) {
	w := newWorld(t)
	app, user := w.appForm(t), w.userForm(t)
	kind := func(form map[string][]string) any {
		_, claims := w.decode(t, w.post(t, tenantID, form).text("access_token"), 1)
		if (claims["scp"] != nil) != (claims["idtyp"] == "user") || (claims["roles"] != nil) == (claims["scp"] != nil) {
			t.Errorf("got idtyp %v with scp %v and roles %v, want them to fit", claims["idtyp"], claims["scp"], claims["roles"])
		}
		return claims["idtyp"]
	}
	for _, c := range []struct {
		behavior  entratest.Behavior
		app, user string
	}{
		{entratest.Behavior{}, "app", "user"},
		{entratest.Behavior{DelegatedInstead: true}, "user", "user"},
		{entratest.Behavior{WrongGrant: true}, "user", "app"},
	} {
		w.server.SetBehavior(c.behavior)
		if gotApp, gotUser := kind(app), kind(user); gotApp != c.app || gotUser != c.user {
			t.Errorf("%+v: got %v and %v, want %s and %s", c.behavior, gotApp, gotUser, c.app, c.user)
		}
	}
}

func TestRequireMFA(t *testing.T) {
	w := newWorld(t)
	w.server.SetBehavior(entratest.Behavior{RequireMFA: true})
	a := w.post(t, tenantID, w.userForm(t))
	checkRefusal(t, a, 400, "interaction_required", 50076)
	if a.text("suberror") != "basic_action" || !json.Valid([]byte(a.text("claims"))) {
		t.Errorf("got suberror %q and claims %q, want basic_action and a claims challenge", a.text("suberror"), a.text("claims"))
	}
	form := with(w.userForm(t), "assertion", w.userToken(t, entratest.UserTokenRequest{MFA: true}))
	if a := w.post(t, tenantID, form); a.status != 200 {
		t.Errorf("got status %d %s after MFA, want 200", a.status, a.raw)
	}
	if a := w.post(t, tenantID, w.appForm(t)); a.status != 200 {
		t.Errorf("got status %d for an app-only token, want 200", a.status)
	}
}

func TestAllConsentedScopes(t *testing.T) {
	w := newWorld(t)
	w.server.SetBehavior(entratest.Behavior{AllConsentedScopes: true})
	a := w.post(t, tenantID, with(w.userForm(t), "scope", "User.Read"))
	_, claims := w.decode(t, a.text("access_token"), 1)
	if want := "User.Read " + graph + "/Mail.Read"; claims["scp"] != "User.Read Mail.Read" || a.text("scope") != want {
		t.Errorf("got scp %v and scope %q, want both scopes and %q", claims["scp"], a.text("scope"), want)
	}
}

func TestPropagationFlapsAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.server.SetBehavior(entratest.Behavior{PropagationDelay: 10 * time.Minute})
		var codes []int
		for range 6 {
			codes = append(codes, w.post(t, tenantID, w.appForm(t)).code())
		}
		// A success between failures is the point: one does not mean that it is over.
		want := []int{70021, 70021, 0, 70021, 70021, 0}
		for i := range want {
			if codes[i] != want[i] {
				t.Fatalf("got codes %v, want %v", codes, want)
			}
		}
		checkRefusal(t, w.post(t, tenantID, with(w.appForm(t), "client_assertion", w.workload(t, map[string]any{"sub": "x"}))), 401, "invalid_client", 700213)
		time.Sleep(10 * time.Minute)
		for range 3 {
			if a := w.post(t, tenantID, w.appForm(t)); a.status != 200 {
				t.Errorf("got status %d after the delay, want 200", a.status)
			}
		}
	})
}

func TestLoopDetector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.server.SetBehavior(entratest.Behavior{LoopLimit: 3})
		for range 3 {
			w.post(t, tenantID, w.appForm(t))
			w.post(t, tenantID, w.userForm(t))
		}
		a := w.post(t, tenantID, w.appForm(t))
		checkRefusal(t, a, 429, "temporarily_unavailable", 50196)
		if got := a.header.Get("Retry-After"); got != "60" {
			t.Errorf("got Retry-After %q, want 60", got)
		}
		checkRefusal(t, w.post(t, tenantID, w.userForm(t)), 400, "invalid_grant", 50196)
		if a := w.post(t, tenantID, with(w.appForm(t), "scope", ledgerDefault)); a.status != 200 {
			t.Errorf("got status %d for another scope, want 200", a.status)
		}
		time.Sleep(5 * time.Minute)
		if a := w.post(t, tenantID, w.appForm(t)); a.status != 200 {
			t.Errorf("got status %d after five minutes, want 200", a.status)
		}
	})
}

func TestClockSkew(t *testing.T) {
	w := newWorld(t)
	for skew, code := range map[time.Duration]int{
		-6 * time.Minute: 700024, -4 * time.Minute: 0, 64 * time.Minute: 0, 66 * time.Minute: 700024,
	} {
		w.server.SetBehavior(entratest.Behavior{ClockSkew: skew})
		a := w.post(t, tenantID, w.appForm(t))
		if a.code() != code {
			t.Errorf("%v: got code %d, want %d", skew, a.code(), code)
		}
		date, err := http.ParseTime(a.header.Get("Date"))
		if got := time.Until(date) - skew; err != nil || got.Abs() > 5*time.Second {
			t.Errorf("%v: got Date %q, want it skewed", skew, a.header.Get("Date"))
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	w := newWorld(t)
	form := w.appForm(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				if a := w.post(t, tenantID, form); a.status != 200 {
					t.Errorf("got status %d, want 200", a.status)
				}
				w.server.Requests()
			}
		})
		wg.Go(func() {
			w.server.SetBehavior(entratest.Behavior{LoopLimit: 1000, RefreshIn: time.Minute})
			w.server.RotateKeys()
		})
	}
	wg.Wait()
	if got := w.server.TokenRequests(); got != 40 {
		t.Errorf("got %d token requests, want 40", got)
	}
}

func TestRequestsAreBounded(t *testing.T) {
	w := newWorld(t)
	for range 10_010 {
		if _, err := w.send(t.Context(), http.MethodGet, "/x", "", ""); err != nil {
			t.Fatal(err)
		}
	}
	w.get(t, "/last")
	all := w.server.Requests()
	if len(all) != 10_000 || all[len(all)-1].Path != "/last" || all[0].Path != "/x" {
		t.Errorf("got %d requests, the last for %s, want 10000 and /last", len(all), all[len(all)-1].Path)
	}
}
