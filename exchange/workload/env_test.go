package workload_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/credfree/credfree/exchange/workload"
)

// variables is an environment that a test changes.
type variables map[string]string

func (v variables) get(name string) string { return v[name] }

// subject is a token that names who it is for.
func subject(name string) string {
	return token(`{"alg":"RS256"}`, `{"iss":"https://i","sub":"`+name+`"}`)
}

// wantError checks an error's problem, and that it says what to change without
// showing any of the secrets.
func wantError(t *testing.T, err error, problem workload.Problem, says string, secrets ...string) {
	t.Helper()
	got, ok := errors.AsType[*workload.Error](err)
	if !ok || got.Problem != problem || got.Hint == "" || !strings.Contains(got.Message, says) {
		t.Errorf("got %v, want %s with a hint, and %q in the message", err, problem, says)
	}
	if ok {
		hides(t, got, secrets...)
	}
}

// hides searches an error, its hint and all its causes for secrets.
func hides(t *testing.T, err *workload.Error, secrets ...string) {
	t.Helper()
	text := err.Message + "\n" + err.Hint
	for cause := err.Err; cause != nil; cause = errors.Unwrap(cause) {
		text += "\n" + cause.Error()
	}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(text, secret) {
			t.Errorf("the error shows a secret: %s", text)
		}
	}
}

func wantSubject(t *testing.T, source workload.Source, want string) {
	t.Helper()
	a, err := source.Assertion(t.Context())
	if err != nil {
		problem, _ := errors.AsType[*workload.Error](err)
		t.Fatalf("got %v (%+v), want a token of %q", err, problem, want)
	}
	if a.Subject != want {
		t.Errorf("got a token of %q, want %q", a.Subject, want)
	}
}

func TestEnvIsReadAnew(t *testing.T) {
	env := variables{"TOKEN": subject("one") + "\n"}
	source := workload.Env{Variable: "TOKEN", Getenv: env.get}
	wantSubject(t, source, "one")
	env["TOKEN"] = subject("two")
	wantSubject(t, source, "two")
	delete(env, "TOKEN")
	_, err := source.Assertion(t.Context())
	wantError(t, err, workload.Unavailable, `"TOKEN" is not set`)
}

func TestEnvIsTheProcessesOwn(t *testing.T) {
	t.Setenv("CREDFREE_TEST_TOKEN", subject("mine"))
	wantSubject(t, workload.Env{Variable: "CREDFREE_TEST_TOKEN"}, "mine")
}

func TestEnvProblems(t *testing.T) {
	const key = "hunter2-hunter2-hunter2"
	for name, value := range map[string]string{
		"a secret":      key,
		"too much":      strings.Repeat(key, 4096),
		"two tokens":    subject(key) + "\n" + subject(key),
		"a log line":    "warning: " + key + "\n" + subject(key),
		"a broken line": strings.Replace(subject(key), ".", ".\n", 1),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := workload.Env{Variable: "TOKEN", Getenv: variables{"TOKEN": value}.get}.Assertion(t.Context())
			wantError(t, err, workload.Malformed, "", key, subject(key))
		})
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := workload.Env{Variable: "TOKEN", Getenv: variables{"TOKEN": subject("s")}.get}.Assertion(gone)
	wantError(t, err, workload.Unavailable, "given up")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error among its causes", err)
	}
}
