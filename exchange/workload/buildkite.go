package workload

import (
	"context"
	"path/filepath"
)

// Buildkite has the agent in BUILDKITE_BIN_PATH ask Buildkite for the job's
// token: buildkite-agent oidc request-token. The agent gets the variables that
// it needs for that, of proxies and of trusted certificates too, and no others of
// the job. See
// https://buildkite.com/docs/agent/v3/cli-oidc.
type Buildkite struct {
	Audience string // required
	// Getenv reads a variable. Nil: os.Getenv.
	Getenv func(string) string
}

// Assertion implements Source.
func (b Buildkite) Assertion(ctx context.Context) (Assertion, error) {
	if b.Audience == "" {
		return Assertion{}, noAudience("Buildkite")
	}
	for _, name := range []string{"BUILDKITE_BIN_PATH", "BUILDKITE_JOB_ID", "BUILDKITE_AGENT_ACCESS_TOKEN"} {
		if getenv(b.Getenv, name) == "" {
			return Assertion{}, unset(name, "Buildkite's agent sets it in every job: start the broker inside the job")
		}
	}
	return Exec{
		Command: []string{filepath.Join(getenv(b.Getenv, "BUILDKITE_BIN_PATH"), "buildkite-agent"), "oidc", "request-token", "--audience", b.Audience},
		Variables: []string{"BUILDKITE_JOB_ID", "BUILDKITE_AGENT_ACCESS_TOKEN", "BUILDKITE_AGENT_ENDPOINT", "BUILDKITE_NO_HTTP2",
			"BUILDKITE_AGENT_JOB_API_SOCKET", "BUILDKITE_AGENT_JOB_API_TOKEN", // to hide the token in the job's log
			"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"},
		Getenv: b.Getenv,
	}.Assertion(ctx)
}
