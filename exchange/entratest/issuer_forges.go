package entratest

import (
	"maps"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// header of the issuers that say what kind of token theirs is.
var typJWT = map[jose.HeaderKey]any{jose.HeaderType: "JWT"}

const (
	gitHubNamed     = "repo:{owner}/{repository}:"
	gitHubImmutable = "repo:{owner}@{owner_id}/{repository}@{repository_id}:"
)

// pipelinePlatforms are the CI systems and what runs infrastructure code.
var pipelinePlatforms = map[Platform]platform{
	GitHubActions: gitHubActions,
	GitLabCI:      gitLabCI,
	Terraform:     terraform,
	AzureDevOps:   azureDevOps,
	CircleCI:      circleCI,
	Buildkite:     buildkite,
}

var gitHubActions = platform{
	issuer: "https://token.actions.githubusercontent.com",
	parameters: map[string]string{
		"owner": "contoso", "owner_id": "123456", "repository": "payments-api", "repository_id": "456789",
		"branch": "main", "tag": "v1.2.3", "environment": "production", "pull_request": "42",
		"workflow": "deploy", "workflow_file": "deploy.yml", "visibility": "private",
		"actor": "ada", "actor_id": "24680", "run_id": "9876543210", "run_number": "17", "run_attempt": "1",
		"sha": "8fe1b322a576d59fe6257052a4107df7dc1b8c78",
	},
	forms: append(gitHubForms("", gitHubNamed), gitHubForms("immutable-", gitHubImmutable)...),
	// A colon in a value would end the part of the subject it stands in.
	escapeSubject: func(s string) string { return strings.ReplaceAll(s, ":", "%3A") },
	claims: map[string]any{
		"repository":            "{owner}/{repository}",
		"repository_id":         "{repository_id}",
		"repository_owner":      "{owner}",
		"repository_owner_id":   "{owner_id}",
		"repository_visibility": "{visibility}",
		"actor":                 "{actor}",
		"actor_id":              "{actor_id}",
		"base_ref":              "",
		"head_ref":              "",
		"event_name":            "push",
		"ref_protected":         "true",
		"run_id":                "{run_id}",
		"run_number":            "{run_number}",
		"run_attempt":           "{run_attempt}",
		"runner_environment":    "github-hosted",
		"sha":                   "{sha}",
		"workflow":              "{workflow}",
		"workflow_sha":          "{sha}",
		"job_workflow_sha":      "{sha}",
	},
	lifetime: 5 * time.Minute, nbf: true, jti: true,
	header: typJWT,
	jwks:   "{issuer}/.well-known/jwks",
	discovery: map[string]any{
		"response_types_supported": []string{"id_token"},
		"subject_types_supported":  []string{"public", "pairwise"},
		"scopes_supported":         []string{"openid"},
		"claims_supported": []string{
			"sub", "aud", "exp", "iat", "iss", "jti", "nbf", "ref", "sha", "repository", "repository_id",
			"repository_owner", "repository_owner_id", "run_id", "run_number", "run_attempt", "actor", "actor_id",
			"workflow", "workflow_ref", "workflow_sha", "head_ref", "base_ref", "event_name", "ref_type",
			"ref_protected", "environment", "environment_node_id", "job_workflow_ref", "job_workflow_sha",
			"repository_visibility", "runner_environment", "issuer_scope", "enterprise", "enterprise_id",
		},
	},
	algorithms: onlyRS256,
	keyID:      guidKeyID,
}

// gitHubForms are the four subjects with one way to name a repository. The ref
// is part of the token whatever the subject says.
func gitHubForms(prefix, repository string) []subjectForm {
	at := func(ref, kind string, more map[string]any) map[string]any {
		workflow := "{owner}/{repository}/.github/workflows/{workflow_file}@" + ref
		claims := map[string]any{"ref": ref, "ref_type": kind, "workflow_ref": workflow, "job_workflow_ref": workflow}
		maps.Copy(claims, more)
		return claims
	}
	return []subjectForm{
		{prefix + "branch", repository + "ref:refs/heads/{branch}", at("refs/heads/{branch}", "branch", nil)},
		{prefix + "tag", repository + "ref:refs/tags/{tag}", at("refs/tags/{tag}", "tag", nil)},
		{prefix + "environment", repository + "environment:{environment}", at("refs/heads/{branch}", "branch",
			map[string]any{"environment": "{environment}"})},
		{prefix + "pull_request", repository + "pull_request", at("refs/pull/{pull_request}/merge", "branch",
			map[string]any{"event_name": "pull_request", "base_ref": "main", "head_ref": "{branch}", "ref_protected": "false"})},
	}
}

var gitLabCI = platform{
	issuer: "https://{host}",
	parameters: map[string]string{
		"host": "gitlab.com", "group": "contoso", "group_id": "72", "project": "payments-api", "project_id": "20",
		"branch": "main", "tag": "v1.2.3", "environment": "production", "user": "ada", "user_id": "1",
		"pipeline_id": "574", "job_id": "302", "runner_id": "1", "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
	},
	forms: []subjectForm{
		{"branch", "project_path:{group}/{project}:ref_type:branch:ref:{branch}", gitLabRef("{branch}", "branch", "refs/heads/")},
		{"tag", "project_path:{group}/{project}:ref_type:tag:ref:{tag}", gitLabRef("{tag}", "tag", "refs/tags/")},
	},
	// Numbers are strings here, except for the runner's.
	claims: map[string]any{
		"namespace_id": "{group_id}", "namespace_path": "{group}",
		"project_id": "{project_id}", "project_path": "{group}/{project}", "project_visibility": "private",
		"user_id": "{user_id}", "user_login": "{user}", "user_email": "{user}@demo.example", "user_access_level": "developer",
		"pipeline_id": "{pipeline_id}", "pipeline_source": "push", "job_id": "{job_id}",
		"environment": "{environment}", "environment_protected": "false", "deployment_tier": "production", "environment_action": "start",
		"runner_id": number("{runner_id}"), "runner_environment": "gitlab-hosted",
		"sha": "{sha}", "ci_config_sha": "{sha}",
	},
	lifetime: time.Hour, nbf: true, jti: true,
	header: typJWT,
	jwks:   "{origin}/oauth/discovery/keys",
	discovery: map[string]any{
		"authorization_endpoint":                "{origin}/oauth/authorize",
		"token_endpoint":                        "{origin}/oauth/token",
		"revocation_endpoint":                   "{origin}/oauth/revoke",
		"introspection_endpoint":                "{origin}/oauth/introspect",
		"userinfo_endpoint":                     "{origin}/oauth/userinfo",
		"scopes_supported":                      []string{"api", "read_api", "read_user", "openid", "profile", "email"},
		"response_types_supported":              []string{"code"},
		"response_modes_supported":              []string{"query", "fragment", "form_post"},
		"grant_types_supported":                 []string{"authorization_code", "client_credentials", "device_code", "refresh_token"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"},
		"subject_types_supported":               []string{"public"},
		"claim_types_supported":                 []string{"normal"},
		"claims_supported":                      []string{"iss", "sub", "aud", "exp", "iat", "sub_legacy", "name", "nickname", "preferred_username", "email", "email_verified", "website", "profile", "picture", "groups", "groups_direct"},
		"code_challenge_methods_supported":      []string{"plain", "S256"},
	},
	algorithms: onlyRS256,
	keyID:      thumbprintKeyID,
}

func gitLabRef(ref, kind, prefix string) map[string]any {
	return map[string]any{
		"ref": ref, "ref_type": kind, "ref_path": prefix + ref, "ref_protected": "true",
		"ci_config_ref_uri": "{host}/{group}/{project}//.gitlab-ci.yml@" + prefix + ref,
	}
}
