package managedidentity

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	msal "github.com/AzureAD/microsoft-authentication-library-for-go/apps/managedidentity"
)

var began = time.Unix(1_900_000_000, 0)

func TestParseAnswer(t *testing.T) {
	const token = `"access_token":"a.b.c"`
	for body, want := range map[string]struct{ lifetime, refreshIn time.Duration }{
		`{` + token + `,"expires_in":3600}`:                                         {time.Hour, 0},
		`{` + token + `,"expires_in":"3600","token_type":"bearer"}`:                 {time.Hour, 0},
		`{` + token + `,"expires_in":" 3600 ","expires_on":""}`:                     {time.Hour, 0},
		`{` + token + `,"expires_in":3600.9,"expires_on":null}`:                     {time.Hour, 0},
		`{` + token + `,"expires_on":"1900003600"}`:                                 {time.Hour, 0},
		`{` + token + `,"expires_on":1900003600,"expires_in":""}`:                   {time.Hour, 0},
		`{` + token + `,"expires_on":1900003600,"expires_in":86400}`:                {time.Hour, 0},
		`{` + token + `,"expires_on":1900086400,"expires_in":3600}`:                 {time.Hour, 0},
		`{` + token + `,"expires_on":"2030-03-17T18:46:40Z"}`:                       {time.Hour, 0},
		`{` + token + `,"expires_on":"03/17/2030 18:46:40"}`:                        {time.Hour, 0},
		`{` + token + `,"expires_on":"03/17/2030 19:46:40 +01:00"}`:                 {time.Hour, 0},
		`{` + token + `,"expires_on":"3/17/2030 6:46:40 PM +00:00"}`:                {time.Hour, 0},
		`{` + token + `,"expires_on":"soon","expires_in":3600,"refresh_in":"1800"}`: {time.Hour, 30 * time.Minute},
		`{` + token + `,"expires_in":3600,"refresh_in":3600}`:                       {time.Hour, 0},
		`{` + token + `,"expires_in":3600,"refresh_in":-1}`:                         {time.Hour, 0},
		`{` + token + `,"expires_in":86400}`:                                        {24 * time.Hour, 12 * time.Hour},
		`{` + token + `,"expires_in":7200}`:                                         {2 * time.Hour, 0},
		`{` + token + `,"expires_in":86400,"refresh_in":3600}`:                      {24 * time.Hour, time.Hour},
		`{` + token + `,"expires_in":1e300}`:                                        {mostLife, mostLife / 2},
		`{` + token + `,"expires_on":1e300}`:                                        {mostLife, mostLife / 2},
		`{` + token + `}`:                                                           {},
		`{` + token + `,"expires_in":0}`:                                            {},
		`{` + token + `,"expires_in":-5}`:                                           {},
		`{` + token + `,"expires_in":"NaN"}`:                                        {},
		`{` + token + `,"expires_in":[3600]}`:                                       {},
		`{` + token + `,"expires_in":3600,"expires_on":1900000000}`:                 {},
		`{` + token + `,"expires_on":"03/17/2030 17:46:40"}`:                        {},
		`{` + token + `,"expires_in":3600,"token_type":"pop"}`:                      {},
		`{"access_token":"","expires_in":3600}`:                                     {},
		`{"access_token":"a b","expires_in":3600}`:                                  {},
		`{"access_token":"a\r\nb","expires_in":3600}`:                               {},
		`{"access_token":["a.b.c"],"expires_in":3600}`:                              {},
		`[]`:                                  {},
		`{` + token + `,"expires_in":3600}{}`: {},
	} {
		a, failure := parseAnswer(platform{who: "it"}, []byte(body), began)
		switch {
		case want.lifetime == 0:
			if failure == nil || failure.Problem != Malformed || failure.Hint == "" || a != nil {
				t.Errorf("%s: got %+v, want a malformed answer with a hint", body, failure)
			}
		case failure != nil:
			t.Errorf("%s: got %v, want a token", body, failure)
		case a.token != "a.b.c" || a.lifetime != want.lifetime || a.refreshIn != want.refreshIn:
			t.Errorf("%s: got %s and %s, want %s and %s", body, a.lifetime, a.refreshIn, want.lifetime, want.refreshIn)
		}
	}
}

// MSAL sees which identity answered, and no token.
func TestMSALSeesNoToken(t *testing.T) {
	a, failure := parseAnswer(platform{}, []byte(`{"access_token":"a.b.c","expires_in":3600,"client_id":"c","object_id":"o","msi_res_id":"m","mi_res_id":"r"}`), began)
	if failure != nil {
		t.Fatal(failure)
	}
	const want = `{"client_id":"c","object_id":"o","msi_res_id":"m","mi_res_id":"r","expires_in":"1"}`
	if got := string(a.shown()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// An agent that knows one identity only answers with that one, whatever the name.
func TestArcsOtherIdentity(t *testing.T) {
	a, failure := parseAnswer(platform{}, []byte(`{"access_token":"a.b.c","expires_in":3600}`), began)
	if failure != nil {
		t.Fatal(failure)
	}
	c := &call{platform: platforms[msal.AzureArc], asked: 2, answer: a}
	got, failure := c.outcome(t.Context(), errors.New("azure arc did not confirm the requested identity: a.b.c"))
	if got != nil || failure == nil || failure.Problem != NoIdentity || failure.Hint == "" || strings.Contains(failure.Message, "a.b.c") {
		t.Errorf("got %+v and %+v, want no token and %s", got, failure, NoIdentity)
	}
}

// Whatever the endpoint answers: no panic; a token only with a life; and nothing of
// the answer where others see it.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{`{"access_token":"a.b.c","token_type":"Bearer","expires_in":"3599","expires_on":"1900003600","refresh_in":7,"client_id":"c"}`,
		`{"access_token":"a.b.c","expires_on":"06/20/2019 02:57:58 +00:00"}`, `{"error":"invalid_request","error_description":"Identity not found"}`,
		`{"statusCode":400,"message":"x"}`, `{"error":{"code":"ManagedIdentityNotFound"}}`, `{`, ``, `null`, `[]`, `"x"`} {
		f.Add(seed, 200)
		f.Add(seed, 400)
	}
	f.Fuzz(func(t *testing.T, body string, status int) {
		for _, p := range platforms {
			a, failure := parseAnswer(p, []byte(body), began)
			if (a == nil) == (failure == nil) {
				t.Fatal("want an answer or a failure")
			}
			if a != nil && (a.token == "" || !bearer(a.token) || a.lifetime <= 0 || a.lifetime > mostLife || a.refreshIn < 0 || a.refreshIn >= a.lifetime) {
				t.Errorf("got %s and %s from %q", a.lifetime, a.refreshIn, body)
			}
			if a != nil && len(a.token) > 40 && strings.Contains(string(a.shown()), a.token) && !strings.Contains(a.echo.ClientID+a.echo.ObjectID+a.echo.MSIResourceID+a.echo.ResourceID, a.token) {
				t.Errorf("MSAL sees the token: %s", a.shown())
			}
			if a != nil && !json.Valid(a.shown()) {
				t.Errorf("MSAL sees %q", a.shown())
			}
			refused := p.refusal(response(status, body), []byte(body), began)
			for _, e := range []*Error{failure, refused} {
				if e == nil {
					continue
				}
				if e.Problem == "" || e.Message == "" || e.Hint == "" || e.RetryAfter < 0 || e.RetryAfter > time.Hour {
					t.Errorf("got %+v", e)
				}
				if len(body) > 80 && strings.Contains(e.Message+e.Hint, body) {
					t.Errorf("the error shows the answer: %+v", e)
				}
			}
		}
	})
}

func response(status int, retryAfter string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {retryAfter}}}
}
