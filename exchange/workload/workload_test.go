package workload_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/exchange/workload"
)

const audience = "api://AzureADTokenExchange"

// token is an unsigned token: nothing here verifies signatures.
func token(header, claims string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestParseReadsTheClaims(t *testing.T) {
	a, err := workload.Parse(" " + token(`{"alg":"RS256","kid":"k"}`, `{"iss":"https://i","sub":"s","aud":["`+audience+`","x"],"exp":2000000000.7,"nbf":1000000000}`) + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if a.Issuer != "https://i" || a.Subject != "s" || len(a.Audience) != 2 || a.Algorithm != "RS256" || a.ExpiresAt.Unix() != 2000000000 || a.NotBefore.Unix() != 1000000000 {
		t.Errorf("got %+v", struct{ Issuer, Subject, Algorithm string }{a.Issuer, a.Subject, a.Algorithm})
	}
	if got := fmt.Sprintf("%v %+v %#v", a, a, a); strings.Contains(got, "c2ln") {
		t.Errorf("the assertion prints itself: %s", got)
	}
}

func TestCheck(t *testing.T) {
	now := time.Unix(1_900_000_000, 0)
	const rest = `"iss":"https://i","sub":"s"`
	for name, test := range map[string]struct {
		header, claims string
		problem        workload.Problem // "" for none
		temporary      bool
	}{
		"good":                   {`{"alg":"RS256"}`, `{` + rest + `,"aud":"` + audience + `","exp":1900000060}`, "", false},
		"a list of audiences":    {`{"alg":"RS256"}`, `{` + rest + `,"aud":["x","` + audience + `"],"exp":1900000060}`, "", false},
		"from a clock ahead":     {`{"alg":"RS256"}`, `{` + rest + `,"aud":"` + audience + `","exp":1900009999,"nbf":1900000299}`, "", false},
		"expires this second":    {`{"alg":"RS256"}`, `{` + rest + `,"aud":"` + audience + `","exp":1900000000}`, workload.Expired, true},
		"not yet valid":          {`{"alg":"RS256"}`, `{` + rest + `,"aud":"` + audience + `","exp":1900009999,"nbf":1900000301}`, workload.NotYetValid, true},
		"another audience":       {`{"alg":"RS256"}`, `{` + rest + `,"aud":"` + audience + `x","exp":1900000060}`, workload.WrongAudience, false},
		"audience of other case": {`{"alg":"RS256"}`, `{` + rest + `,"aud":"` + strings.ToLower(audience) + `","exp":1900000060}`, workload.WrongAudience, false},
		"no audience":            {`{"alg":"RS256"}`, `{` + rest + `,"exp":1900000060}`, workload.WrongAudience, false},
		"elliptic curve":         {`{"alg":"ES256"}`, `{` + rest + `,"aud":"` + audience + `","exp":1900000060}`, workload.WrongAlgorithm, false},
		"none":                   {`{"alg":"none"}`, `{` + rest + `,"aud":"` + audience + `","exp":1900000060}`, workload.WrongAlgorithm, false},
		"no expiry":              {`{"alg":"RS256"}`, `{` + rest + `,"aud":"` + audience + `"}`, workload.Malformed, false},
		"no subject":             {`{"alg":"RS256"}`, `{"iss":"https://i","aud":"` + audience + `","exp":1900000060}`, workload.Malformed, false},
		"absurd expiry":          {`{"alg":"RS256"}`, `{` + rest + `,"aud":"` + audience + `","exp":1e300}`, "", false},
		"negative expiry":        {`{"alg":"RS256"}`, `{` + rest + `,"aud":"` + audience + `","exp":-1e300}`, workload.Expired, true},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := workload.Parse(token(test.header, test.claims))
			if err != nil {
				t.Fatal(err)
			}
			err = a.Check(audience, now)
			if test.problem == "" {
				if err != nil {
					t.Errorf("got %v, want none", err)
				}
				return
			}
			problem, ok := errors.AsType[*workload.Error](err)
			if !ok || problem.Problem != test.problem || problem.Hint == "" || problem.Problem.Temporary() != test.temporary {
				t.Errorf("got %+v, want %s with a hint, temporary %t", err, test.problem, test.temporary)
			}
		})
	}
}

// The token changes on disk as kubelet changes it: by a symbolic link.
func TestFileIsReadAnew(t *testing.T) {
	dir := t.TempDir()
	source := workload.File{Path: filepath.Join(dir, "token")}
	for _, subject := range []string{"one", "two"} {
		target := filepath.Join(dir, subject)
		if err := os.WriteFile(target, []byte(token(`{}`, `{"sub":"`+subject+`"}`)), 0o600); err != nil {
			t.Fatal(err)
		}
		next := filepath.Join(dir, "next")
		if err := errors.Join(os.Symlink(target, next), os.Rename(next, source.Path)); err != nil {
			t.Fatal(err)
		}
		a, err := source.Assertion(t.Context())
		if err != nil || a.Subject != subject {
			t.Errorf("got subject %q, %v, want %q", a.Subject, err, subject)
		}
	}
}

func TestFileProblems(t *testing.T) {
	dir := t.TempDir()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		ctx     context.Context //nolint:containedctx // a row of a table
		path    string
		problem workload.Problem
	}{
		"missing": {t.Context(), filepath.Join(dir, "missing"), workload.Unavailable},
		"empty":   {t.Context(), empty, workload.Unavailable}, // as missing: who writes it is about to
		"folder":  {t.Context(), dir, workload.Malformed},
		"device":  {t.Context(), "/dev/null", workload.Malformed},
		"gone":    {gone, filepath.Join(dir, "missing"), workload.Unavailable},
	} {
		_, err := workload.File{Path: test.path}.Assertion(test.ctx)
		problem, ok := errors.AsType[*workload.Error](err)
		if !ok || problem.Problem != test.problem {
			t.Errorf("%s: got %v, want %s", name, err, test.problem)
		}
	}
}

// Whatever is in the file: no panic, and no error that shows it.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "a.b.c", token(`{"alg":"RS256"}`, `{"aud":1}`), token(`{"alg":"RS256"}`, `{"aud":["x"],"exp":"1"}`),
		token(`{"alg":"RS256"}`, `{"iss":"i","sub":"s","aud":"`+audience+`","exp":1}`), strings.Repeat("eyJ", 3000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := workload.Parse(raw)
		if err == nil {
			err = a.Check(audience, time.Unix(1, 0))
		}
		if _, ok := errors.AsType[*workload.Error](err); err != nil && !ok {
			t.Errorf("got %T, want *workload.Error", err)
		}
		if trimmed := strings.TrimSpace(raw); err != nil && len(trimmed) > 40 && strings.Contains(err.Error(), trimmed) {
			t.Errorf("the error shows the token: %s", err)
		}
	})
}
