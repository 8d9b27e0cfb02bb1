package usertoken_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/credfree/credfree/exchange/usertoken"
)

// Whatever takes the place of a part of a good token: no panic, no user of a token that
// was not signed, and a refusal that shows none of it.
func FuzzVerify(f *testing.F) {
	raw := sign(f, header(), lasting())
	v := newVerifier(f, newPublisher())
	dot := strings.IndexByte(raw, '.')
	seeds := []struct {
		at, length int
		with       string
	}{
		{0, 0, ""}, {0, len(raw), ""}, {0, len(raw), "..."}, {0, dot, encode([]byte(`{"alg":"none","kid":"k0"}`))}, {0, dot, encode([]byte(`{"alg":"RS256","kid":"k1"}`))},
		{dot + 1, strings.LastIndexByte(raw, '.') - dot - 1, encode([]byte(`{"exp":1e999,"aud":[[]],"_claim_names":{"a":{}}}`))},
		{len(raw) - 1, 1, "A"}, {len(raw), 0, "="}, {len(raw), 0, "\n"}, {0, 0, "Bearer "}, {dot, 1, ".."}, {0, len(raw), strings.Repeat("eyJ", 20_000)},
	}
	for _, s := range seeds {
		f.Add(s.at, s.length, s.with)
	}
	f.Fuzz(func(t *testing.T, at, length int, with string) {
		at = min(max(at, 0), len(raw))
		length = min(max(length, 0), len(raw)-at)
		changed := raw[:at] + with + raw[at+length:]
		user, err := v.Verify(t.Context(), changed, ours)
		if changed == raw {
			if err != nil {
				t.Errorf("the good token is refused: %v", err)
			}
			return
		}
		e, ok := errors.AsType[*usertoken.Error](err)
		if !ok || e.Problem == "" || e.Message == "" || user.ObjectID != "" {
			t.Fatalf("%q gave user %+v and error %v", changed, user, err)
		}
		if shown := e.Message + e.Hint; len(shown) > 2000 || len(with) > 16 && strings.Contains(shown, with) {
			t.Errorf("the error shows what came: %s", shown)
		}
	})
}

// Whatever a tenant's key signed: no panic, and a user only with all that makes one.
func FuzzClaims(f *testing.F) {
	v := newVerifier(f, newPublisher())
	for _, payload := range []string{
		`{}`, `null`, `[]`, `{"tid":"` + tenant + `","iss":"` + authority + "/" + tenant + `/v2.0","ver":"2.0","aud":"` + apiV2 + `","exp":9999999999,"scp":"a","oid":"` + userID + `","azp":"` + frontend + `"}`,
		`{"aud":null,"exp":null,"groups":null,"acct":null}`, `{"groups":"x","roles":{},"amr":[1]}`, `{"exp":-1e308,"nbf":1e308}`, `{"scp":"/ /","idtyp":"user"}`,
	} {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		user, err := v.Verify(t.Context(), sign(t, header(), payload), ours)
		if err != nil {
			if user.ObjectID != "" {
				t.Errorf("got user %+v with the error %v", user, err)
			}
			return
		}
		if user.Tenant != tenant || len(user.ObjectID) != 36 || len(user.Client) != 36 || len(user.Scopes) == 0 || user.ExpiresAt.IsZero() || user.GroupsOverage && len(user.Groups) > 0 {
			t.Errorf("%q gave user %+v", payload, user)
		}
	})
}
