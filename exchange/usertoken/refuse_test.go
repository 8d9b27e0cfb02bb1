package usertoken_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/exchange/usertoken"
)

func TestFormsThatAreRefused(t *testing.T) {
	p := newPublisher()
	v := newVerifier(t, p)
	raw := sign(t, header(), good())
	parts := strings.Split(raw, ".")
	payload, err := json.Marshal(good())
	if err != nil {
		t.Fatal(err)
	}
	twice := func(name, value string) string { return `{"` + name + `":"` + value + `",` + string(payload[1:]) }
	verified(t, v, raw)
	for name, c := range map[string]struct {
		raw  string
		want usertoken.Problem
	}{
		"nothing":                    {"", usertoken.Malformed},
		"a word":                     {"token", usertoken.Malformed},
		"two parts":                  {parts[0] + "." + parts[1], usertoken.Malformed},
		"four parts":                 {raw + ".", usertoken.Malformed},
		"encrypted":                  {raw + ".a.b", usertoken.Malformed},
		"no signature":               {parts[0] + "." + parts[1] + ".", usertoken.Malformed},
		"Bearer before it":           {"Bearer " + raw, usertoken.Malformed},
		"line break after it":        {raw + "\n", usertoken.Malformed},
		"line break in it":           {raw[:len(raw)-3] + "\r\n" + raw[len(raw)-3:], usertoken.Malformed},
		"padded":                     {parts[0] + "." + parts[1] + "." + parts[2] + "==", usertoken.Malformed},
		"bits that mean nothing":     {raw[:len(raw)-1] + string(raw[len(raw)-1]+1), usertoken.Malformed},
		"too large":                  {strings.Repeat("a", 32<<10+1), usertoken.TooLarge},
		"as large as can be":         {strings.Repeat("a", 32<<10), usertoken.Malformed},
		"alg none":                   {encode([]byte(`{"alg":"none","kid":"k0"}`)) + "." + parts[1] + ".", usertoken.WrongAlgorithm},
		"alg HS256":                  {sign(t, header("alg", "HS256"), good()), usertoken.WrongAlgorithm},
		"alg PS256":                  {sign(t, header("alg", "PS256"), good()), usertoken.WrongAlgorithm},
		"alg rs256":                  {sign(t, header("alg", "rs256"), good()), usertoken.WrongAlgorithm},
		"Alg":                        {sign(t, header("alg", nil, "Alg", "RS256"), good()), usertoken.WrongAlgorithm},
		"alg twice":                  {sign(t, `{"alg":"none","alg":"RS256","kid":"k0"}`, good()), usertoken.Malformed},
		"no kid":                     {sign(t, header("kid", nil), good()), usertoken.Malformed},
		"long kid":                   {sign(t, header("kid", strings.Repeat("k", 129)), good()), usertoken.Malformed},
		"crit":                       {sign(t, header("crit", []string{"exp"}), good()), usertoken.Malformed},
		"crit b64":                   {sign(t, header("crit", []string{"b64"}, "b64", false), good()), usertoken.Malformed},
		"another type":               {sign(t, header("typ", "logout+jwt"), good()), usertoken.Malformed},
		"header is null":             {sign(t, "null", good()), usertoken.Malformed},
		"payload is null":            {sign(t, header(), "null"), usertoken.Malformed},
		"payload is a list":          {sign(t, header(), "[]"), usertoken.Malformed},
		"payload is empty":           {sign(t, header(), ""), usertoken.Malformed},
		"payload with a rest":        {sign(t, header(), string(payload)+"{}"), usertoken.Malformed},
		"oid twice":                  {sign(t, header(), twice("oid", userID)), usertoken.Malformed},
		"a name that nobody reads":   {sign(t, header(), strings.Replace(twice("x", "1"), "{", `{"x":"2",`, 1)), usertoken.Malformed},
		"exp is text":                {sign(t, header(), good("exp", "9999999999")), usertoken.Malformed},
		"exp is before the epoch":    {sign(t, header(), good("exp", -1)), usertoken.Expired},
		"exp in capitals":            {sign(t, header(), good("exp", nil, "EXP", 9999999999)), usertoken.NoExpiry},
		"exp is null":                {sign(t, header(), strings.Replace(string(payload), `"exp":`, `"exp":null,"was":`, 1)), usertoken.NoExpiry},
		"key in the header":          {signWith(t, 1, header("jwk", jwk("k0", &authorityKeys()[1].PublicKey)), good()), usertoken.BadSignature},
		"signed by somebody else":    {signWith(t, 1, header(), good()), usertoken.BadSignature},
		"signature of another token": {parts[0] + "." + parts[1] + "." + strings.Split(sign(t, header(), good("oid", tenant)), ".")[2], usertoken.BadSignature},
		"unknown key":                {sign(t, header("kid", "k1"), good()), usertoken.UnknownKey},
		"nested deeply":              {sign(t, header(), `{"_claim_names":{"x":`+strings.Repeat("[", 11_000)+strings.Repeat("]", 11_000)+`}}`), usertoken.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, v, c.raw, c.want)
		})
	}
}

func TestMessagesAreBoundedAndPrint(t *testing.T) {
	v := newVerifier(t, newPublisher())
	strange := strings.Repeat("\n\x1b\u202e", 1000)
	for _, c := range []struct {
		raw  string
		want usertoken.Problem
	}{
		{sign(t, header(), good("iss", strange)), usertoken.WrongIssuer},
		{sign(t, header(), good("aud", strange)), usertoken.WrongAudience},
		{sign(t, header("alg", strange), good()), usertoken.WrongAlgorithm},
	} {
		message := refusal(t, v, c.raw, c.want).Error()
		if len(message) > 2000 || strings.ContainsFunc(message, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("got %d bytes: %.300q", len(message), message)
		}
	}
	raw := sign(t, header(), good())
	if message := refusal(t, v, raw+".a.b", usertoken.Malformed).Error(); !strings.Contains(message, "encrypted") {
		t.Errorf("got %q, want it to say that the token is encrypted", message)
	}
}

// Every byte counts: the one-spelling rule is what makes the hash of a token name it.
func TestEveryByteOfATokenCounts(t *testing.T) {
	v := newVerifier(t, newPublisher())
	raw := sign(t, header(), good())
	verified(t, v, raw)
	for i := range len(raw) {
		for _, with := range []byte{raw[i] ^ 1, 'A', '_', '.', '=', '\n', 0, 0xff} {
			changed := raw[:i] + string([]byte{with}) + raw[i+1:]
			if changed == raw {
				continue
			}
			if user, err := v.Verify(t.Context(), changed, ours); err == nil {
				t.Fatalf("byte %d changed to %q: got user %+v", i, with, user)
			}
		}
		for _, changed := range []string{raw[:i] + raw[i+1:], raw[:i] + "A" + raw[i:], raw[:i] + "\n" + raw[i:]} {
			if user, err := v.Verify(t.Context(), changed, ours); err == nil {
				t.Fatalf("a byte more or less at %d: got user %+v", i, user)
			}
		}
	}
}

func TestZeroExpectationTakesNone(t *testing.T) {
	v := newVerifier(t, newPublisher())
	raw := sign(t, header(), good())
	for _, c := range []struct {
		want    usertoken.Expectation
		problem usertoken.Problem
	}{
		{usertoken.Expectation{}, usertoken.WrongTenant},
		{usertoken.Expectation{Audiences: ours.Audiences}, usertoken.WrongTenant},
		{usertoken.Expectation{Tenants: []string{"", "common", "*"}, Audiences: ours.Audiences}, usertoken.WrongTenant},
		{usertoken.Expectation{Tenants: ours.Tenants}, usertoken.WrongAudience},
		{usertoken.Expectation{Tenants: ours.Tenants, Audiences: []string{"", "api://", "*"}}, usertoken.WrongAudience},
	} {
		for _, raw := range []string{raw, sign(t, header(), good("aud", ""))} {
			_, err := v.Verify(t.Context(), raw, c.want)
			wantProblem(t, err, c.problem)
		}
	}
}

// A token for somebody else costs no request, whatever it claims.
func TestStrangersCauseNoRequests(t *testing.T) {
	p := newPublisher()
	v := newVerifier(t, p)
	refused(t, v, sign(t, header(), good("tid", otherTenant, "iss", authority+"/"+otherTenant+"/v2.0")), usertoken.WrongTenant)
	refused(t, v, sign(t, header(), good("tid", "../common", "iss", authority+"/../common/v2.0")), usertoken.NoUser)
	refused(t, v, sign(t, header(), good("iss", "https://accounts.example", "tid", nil)), usertoken.WrongIssuer)
	refused(t, v, sign(t, header(), good("aud", frontend)), usertoken.WrongAudience)
	if len(p.requests) > 0 {
		t.Errorf("got requests %q, want none", p.requests)
	}
}

func TestTimes(t *testing.T) {
	p := newPublisher()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	v, err := usertoken.New(usertoken.Config{Authority: authority, Transport: p, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	valid := func(changes ...any) string {
		return sign(t, header(), set(good("nbf", at(0), "iat", at(0), "exp", at(time.Hour)), changes...))
	}
	for _, raw := range []string{valid(), valid("exp", at(time.Second)), valid("nbf", at(5*time.Minute)), valid("iat", at(5*time.Minute)), valid("nbf", nil, "iat", nil), valid("exp", 1e300)} {
		verified(t, v, raw)
	}
	refused(t, v, valid("exp", at(0)), usertoken.Expired)
	refused(t, v, valid("exp", at(-time.Second), "nbf", at(time.Hour)), usertoken.Expired)
	refused(t, v, valid("nbf", at(5*time.Minute+time.Second)), usertoken.NotYetValid)
	refused(t, v, valid("iat", at(5*time.Minute+time.Second)), usertoken.NotYetValid)
	if got := verified(t, v, valid("exp", float64(at(0))+90.5)).ExpiresAt; !got.Equal(now.Add(90 * time.Second)) {
		t.Errorf("expires at %s, want 90 s from now", got)
	}
}
