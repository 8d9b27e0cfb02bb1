package entratest_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/credfree/credfree/exchange/entratest"
)

const fuzzSecret = "s3cret"

// fuzzWorld is a server with clients of every kind, and one valid credential
// of every kind, by the word that stands for it in a seed.
func fuzzWorld(t testing.TB) (*world, map[string]string) {
	t.Helper()
	d := agentDirectory()
	cert := certificate(t, time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
	bare := &d.Tenants[0].Applications[2]
	bare.ClientSecrets = []entratest.ClientSecret{{Value: fuzzSecret}}
	bare.Certificates = []entratest.Certificate{{PEM: pemOf(cert)}}
	w := newWorldOf(t, d)
	workload, err := w.issuer.ServiceAccountToken(entratest.ServiceAccountToken{Namespace: "agents", ServiceAccount: "billing", Lifetime: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	w.server.SetBehavior(entratest.Behavior{Lifetime: 24 * time.Hour})
	return w, map[string]string{
		"ASSERTION":   workload,
		"USER":        w.userToken(t, entratest.UserTokenRequest{}),
		"BLUEPRINT":   w.userToken(t, entratest.UserTokenRequest{Audience: blueprintID}),
		"T1":          w.t1(t, tenantID, childID),
		"T2":          w.t2(t),
		"REFRESH":     w.refreshForm(t, w.userForm(t)).Get("refresh_token"),
		"REDEEM":      w.refreshForm(t, w.userFICForm(t)).Get("refresh_token"),
		"SECRET":      fuzzSecret,
		"CERTIFICATE": certificateAssertion(t, jose.RS256, map[string]any{"x5t": x5t(cert)}, map[string]any{"exp": time.Now().Add(24 * time.Hour).Unix()}),
	}
}

func replacer(valid map[string]string) *strings.Replacer {
	var pairs []string
	for word, value := range valid {
		pairs = append(pairs, word, url.QueryEscape(value))
	}
	return strings.NewReplacer(pairs...)
}

// credentialed says whether a form carries everything its grant and its client
// have to prove.
func credentialed(form url.Values, valid map[string]string) bool {
	is := func(name string, words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return form.Get(name) == valid[w] })
	}
	client := strings.ToLower(form.Get("client_id"))
	switch client {
	case childID:
		if !is("client_assertion", "T1") {
			return false
		}
	case bareID:
		if !is("client_assertion", "CERTIFICATE") && (form.Get("client_assertion") != "" || !is("client_secret", "SECRET")) {
			return false
		}
	case agentID, blueprintID, managerID:
		if !is("client_assertion", "ASSERTION") {
			return false
		}
	default:
		return false
	}
	switch form.Get("grant_type") {
	case "client_credentials":
		return true
	case grantOBO:
		return client == agentID && is("assertion", "USER") || client == childID && is("assertion", "BLUEPRINT")
	case "refresh_token":
		return client == agentID && is("refresh_token", "REFRESH") || client == childID && is("refresh_token", "REDEEM")
	case "user_fic":
		return client == childID && is("user_federated_identity_credential", "T2")
	}
	return false
}

// FuzzTokenEndpoint holds the endpoint to one property: whatever is sent, it
// does not panic, and it answers 200 only when the body carries a valid
// credential of that client and all else the grant needs. Words in capitals in
// a seed stand for valid tokens.
func FuzzTokenEndpoint(f *testing.F) {
	seeds, err := filepath.Glob("testdata/seeds/*.txt")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("got %d seeds, %v, want some in testdata/seeds", len(seeds), err)
	}
	for _, name := range seeds {
		path, body := readSeed(f, name)
		f.Add(path, "application/x-www-form-urlencoded", body)
	}
	w, valid := fuzzWorld(f)
	replace := replacer(valid)

	f.Fuzz(func(t *testing.T, path, contentType, body string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, baseURL, strings.NewReader(replace.Replace(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Path = "/" + strings.TrimPrefix(path, "/")
		req.Header["Content-Type"] = []string{contentType}
		resp, err := w.server.RoundTripper().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return
		}
		if form, err := url.ParseQuery(replace.Replace(body)); err != nil || !credentialed(form, valid) {
			t.Errorf("got status 200 for %q, want a refusal without valid credentials", body)
		}
	})
}

func readSeed(t testing.TB, name string) (path, body string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	path, body, _ = strings.Cut(strings.TrimSpace(string(data)), "\n")
	return path, body
}

// TestSeedsReachSuccess fails when the seeds have rotted: a property about
// successes says nothing if there are none.
func TestSeedsReachSuccess(t *testing.T) {
	w, valid := fuzzWorld(t)
	for _, name := range []string{
		"client_credentials", "on_behalf_of", "good_secret", "certificate", "agent_exchange", "agent_autonomous",
		"agent_on_behalf_of", "agent_user", "refresh_token", "agent_refresh_token",
	} {
		path, body := readSeed(t, filepath.Join("testdata", "seeds", name+".txt"))
		a, err := w.send(t.Context(), http.MethodPost, path, "application/x-www-form-urlencoded", replacer(valid).Replace(body))
		if err != nil || a.status != http.StatusOK {
			t.Errorf("%s: got status %d %s, %v, want 200", name, a.status, a.raw, err)
		}
	}
}

// assertionForms are requests whose success depends on one assertion, by the
// parameter that carries it and the word for a valid one.
func assertionForms(t testing.TB, w *world, valid map[string]string) []assertionForm {
	t.Helper()
	app, obo, fic := w.appForm(t), w.agentOBOForm(t), w.userFICForm(t)
	bare := with(app, "client_id", bareID)
	return []assertionForm{
		{app, "client_assertion", valid["ASSERTION"]},
		{bare, "client_assertion", valid["CERTIFICATE"]},
		{w.agentForm(t), "client_assertion", valid["T1"]},
		{obo, "assertion", valid["BLUEPRINT"]},
		{fic, "user_federated_identity_credential", valid["T2"]},
		{with(w.refreshForm(t, w.userForm(t)), "scope", graphDefault), "refresh_token", valid["REFRESH"]},
	}
}

type assertionForm struct {
	form             url.Values
	parameter, valid string
}

// FuzzAssertion replaces a part of a valid token. No result but the same token
// is accepted; for JWTs, the same is what has the same bytes in each part.
func FuzzAssertion(f *testing.F) {
	w, valid := fuzzWorld(f)
	forms := assertionForms(f, w, valid)
	for which := range forms {
		f.Add(uint8(which), uint16(0), uint16(0), "")
		f.Add(uint8(which), uint16(0), uint16(65535), "eyJhbGciOiJub25lIn0.e30.")
		f.Add(uint8(which), uint16(5), uint16(1), "A")
		f.Add(uint8(which), uint16(60), uint16(0), ".")
		f.Add(uint8(which), uint16(200), uint16(2), "\n ")
		f.Add(uint8(which), uint16(400), uint16(65535), "")
	}
	for _, c := range forms {
		if a := w.post(f, tenantID, with(c.form, c.parameter, c.valid)); a.status != http.StatusOK {
			f.Fatalf("got status %d %s for a valid %s, want 200", a.status, a.raw, c.parameter)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, at, length uint16, insert string) {
		c := forms[int(which)%len(forms)]
		from := min(int(at), len(c.valid))
		until := min(from+int(length), len(c.valid))
		changed := c.valid[:from] + insert + c.valid[until:]
		a := w.post(t, tenantID, with(c.form, c.parameter, changed))
		if same := sameBytes(changed, c.valid); a.status == http.StatusOK && !same {
			t.Errorf("got status 200 for a changed %s (%d to %d replaced with %q), want a refusal", c.parameter, from, until, insert)
		} else if a.status == http.StatusInternalServerError {
			t.Errorf("got status 500 for %q in %s", insert, c.parameter)
		}
	})
}

// sameBytes compares two tokens by the bytes of their parts, because base64
// without strictness has several texts for the same bytes.
func sameBytes(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	return slices.EqualFunc(x, y, func(a, b string) bool {
		if a == b {
			return true
		}
		p, err1 := base64.RawURLEncoding.DecodeString(a)
		q, err2 := base64.RawURLEncoding.DecodeString(b)
		return err1 == nil && err2 == nil && string(p) == string(q)
	})
}
