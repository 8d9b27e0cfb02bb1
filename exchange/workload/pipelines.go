package workload

import (
	"context"
	"net/http"
	"net/url"
)

// GitHubActions asks GitHub for the job's ID token, at the address and with the
// credential in ACTIONS_ID_TOKEN_REQUEST_URL and ACTIONS_ID_TOKEN_REQUEST_TOKEN.
// Jobs have them with the permission id-token: write. See
// https://docs.github.com/actions/reference/security/oidc.
type GitHubActions struct {
	Audience string // required: GitHub's own default is useless at Entra
	// Transport sends the request, as in HTTP. Nil: without a proxy.
	Transport http.RoundTripper
	// Getenv reads a variable. Nil: os.Getenv.
	Getenv func(string) string
}

// Assertion implements Source.
func (g GitHubActions) Assertion(ctx context.Context) (Assertion, error) {
	const hint = "give the job permissions: {id-token: write}, and start the broker inside the job; workflows from forks have none"
	u, bearer, err := pipelineAccess("GitHub", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", hint, g.Getenv)
	if err != nil {
		return Assertion{}, err
	}
	if g.Audience == "" {
		return Assertion{}, noAudience("GitHub")
	}
	return request{
		who: "GitHub", method: http.MethodGet, url: withQuery(u, "audience", g.Audience), header: bearer,
		pointer: "/value", transport: g.Transport, denied: "the request token lives as long as the job; " + hint,
	}.token(ctx)
}

// AzureDevOps asks Azure Pipelines for the token of a service connection, at
// SYSTEM_OIDCREQUESTURI with SYSTEM_ACCESSTOKEN. Its audience is always
// api://AzureADTokenExchange. See
// https://learn.microsoft.com/rest/api/azure/devops/distributedtask/oidctoken/create.
type AzureDevOps struct {
	ServiceConnectionID string // required: a GUID
	// Transport sends the request, as in HTTP. Nil: without a proxy.
	Transport http.RoundTripper
	// Getenv reads a variable. Nil: os.Getenv.
	Getenv func(string) string
}

// Assertion implements Source.
func (a AzureDevOps) Assertion(ctx context.Context) (Assertion, error) {
	const hint = "start the broker inside the job, and map the token into the step: env: {SYSTEM_ACCESSTOKEN: $(System.AccessToken)}"
	u, header, err := pipelineAccess("Azure DevOps", "SYSTEM_OIDCREQUESTURI", "SYSTEM_ACCESSTOKEN", hint, a.Getenv)
	if err != nil {
		return Assertion{}, err
	}
	if a.ServiceConnectionID == "" {
		return Assertion{}, &Error{Problem: Malformed, Message: "Azure DevOps needs to know the service connection", Hint: "copy the id from the address of the service connection's page"}
	}
	header.Set("Content-Type", "application/json")
	header.Set("X-TFS-FedAuthRedirect", "Suppress") // a status in place of a sign-in page
	u = withQuery(withQuery(u, "api-version", "7.1"), "serviceConnectionId", a.ServiceConnectionID)
	return request{
		who: "Azure DevOps", method: http.MethodPost, url: u, header: header, pointer: "/oidcToken", transport: a.Transport,
		denied: "check the service connection's id, and that the pipeline is authorized to use it; " + hint,
	}.token(ctx)
}

// pipelineAccess reads where a pipeline asks for its token, and with what.
func pipelineAccess(who, address, credential, hint string, read func(string) string) (*url.URL, http.Header, error) {
	raw, bearer := getenv(read, address), getenv(read, credential)
	if raw == "" {
		return nil, nil, unset(address, hint)
	}
	if bearer == "" {
		return nil, nil, unset(credential, hint)
	}
	u, err := parseURL(who, raw)
	if err != nil {
		return nil, nil, err
	}
	bearer, err = line("the variable "+quote(credential), bearer)
	return u, http.Header{"Authorization": {"Bearer " + bearer}, "Accept": {"application/json"}}, err
}

func withQuery(u *url.URL, name, value string) *url.URL {
	query := u.Query()
	query.Set(name, value)
	changed := *u
	changed.RawQuery = query.Encode()
	return &changed
}

func noAudience(who string) *Error {
	return &Error{Problem: Malformed, Message: who + " needs to know the audience of the token", Hint: "give the one that the cloud's federated credentials expect"}
}

// GitLab reads the variable into which a job's id_tokens put a token:
//
//	id_tokens: {ENTRA_TOKEN: {aud: api://AzureADTokenExchange}}
//
// See https://docs.gitlab.com/ci/secrets/id_token_authentication.
type GitLab struct {
	Variable string // required: the name below id_tokens
	// Getenv reads a variable. Nil: os.Getenv.
	Getenv func(string) string
}

// Assertion implements Source.
func (g GitLab) Assertion(ctx context.Context) (Assertion, error) {
	return Env{Variable: g.Variable, Getenv: g.Getenv,
		hint: "add it below id_tokens in the job, with aud: the audience that Entra expects, and start the broker inside the job"}.Assertion(ctx)
}

// Terraform reads the token that HCP Terraform and Terraform Enterprise put
// into a run when the workspace has TFC_WORKLOAD_IDENTITY_AUDIENCE[_TAG]. See
// https://developer.hashicorp.com/terraform/cloud-docs/workspaces/dynamic-provider-credentials/manual-generation.
type Terraform struct {
	// Tag selects TFC_WORKLOAD_IDENTITY_TOKEN_<Tag>. Empty: the one without.
	Tag string
	// Getenv reads a variable. Nil: os.Getenv.
	Getenv func(string) string
}

// Assertion implements Source.
func (t Terraform) Assertion(ctx context.Context) (Assertion, error) {
	suffix := ""
	if t.Tag != "" {
		suffix = "_" + t.Tag
	}
	return Env{Variable: "TFC_WORKLOAD_IDENTITY_TOKEN" + suffix, Getenv: t.Getenv,
		hint: "set TFC_WORKLOAD_IDENTITY_AUDIENCE" + suffix + " in the workspace to the audience that Entra expects; the token is there during a run"}.Assertion(ctx)
}

// CircleCI reads CIRCLE_OIDC_TOKEN. Its audience is the organization's id, unless
// the organization or the project has an OIDC custom claim that says otherwise,
// which Entra needs. See
// https://circleci.com/docs/openid-connect-tokens.
type CircleCI struct {
	// Getenv reads a variable. Nil: os.Getenv.
	Getenv func(string) string
}

// Assertion implements Source.
func (c CircleCI) Assertion(ctx context.Context) (Assertion, error) {
	return Env{Variable: "CIRCLE_OIDC_TOKEN", Getenv: c.Getenv,
		hint: "use a context in the job, which is what makes CircleCI hand out the token, and start the broker inside the job"}.Assertion(ctx)
}
