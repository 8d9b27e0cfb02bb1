package entratest

import "time"

var terraform = platform{
	issuer: "https://{host}",
	parameters: map[string]string{
		"host": "app.terraform.io", "organization": "contoso", "organization_id": "org-GRNbCjYNpBB6NEBH",
		"project": "payments", "project_id": "prj-vegSA59s1XPwMr2t", "workspace": "production",
		"workspace_id": "ws-mbsd5E3Ktt5Rg2Xm", "run_phase": "apply", "run_id": "run-X3n1AUXNGWbfECsJ",
	},
	forms: []subjectForm{{name: "workspace", subject: "organization:{organization}:project:{project}:workspace:{workspace}:run_phase:{run_phase}"}},
	claims: map[string]any{
		"terraform_run_phase":         "{run_phase}",
		"terraform_workspace_id":      "{workspace_id}",
		"terraform_workspace_name":    "{workspace}",
		"terraform_organization_id":   "{organization_id}",
		"terraform_organization_name": "{organization}",
		"terraform_project_id":        "{project_id}",
		"terraform_project_name":      "{project}",
		"terraform_run_id":            "{run_id}",
		"terraform_full_workspace":    "organization:{organization}:project:{project}:workspace:{workspace}",
	},
	lifetime: 2 * time.Hour, nbf: true, jti: true,
	header: typJWT,
	jwks:   "{issuer}/.well-known/jwks",
	discovery: map[string]any{
		"response_types_supported": []string{"id_token"},
		"subject_types_supported":  []string{"public"},
		"scopes_supported":         []string{"openid"},
		"claims_supported": []string{
			"sub", "aud", "exp", "iat", "iss", "jti", "nbf", "terraform_run_phase", "terraform_workspace_id",
			"terraform_workspace_name", "terraform_organization_id", "terraform_organization_name",
			"terraform_project_id", "terraform_project_name", "terraform_run_id", "terraform_full_workspace",
		},
	},
	algorithms: onlyRS256,
	keyID:      thumbprintKeyID,
}

var azureDevOps = platform{
	issuer: "https://vstoken.dev.azure.com/{organization_id}",
	parameters: map[string]string{
		"organization": "contoso", "organization_id": "2b1f7c64-90ab-4d1c-8a55-6d1f3f0f4f1e", "project": "payments",
		"project_id": "f2c1b3a4-55d6-4e7f-8091-a2b3c4d5e6f7", "connection": "production", "pipeline": "deploy", "pipeline_id": "12",
		"run_id": "3456", "repository": "payments-api", "repository_id": "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9",
		"branch": "main", "sha": "8fe1b322a576d59fe6257052a4107df7dc1b8c78",
	},
	forms: []subjectForm{
		{name: "connection", subject: "sc://{organization}/{project}/{connection}"},
		{name: "pipeline", subject: "p://{organization}/{project}/{pipeline}"},
	},
	claims: map[string]any{
		"org_id": "{organization_id}", "prj_id": "{project_id}", "def_id": "{pipeline_id}", "run_id": "{run_id}",
		"rpo_id": "{repository_id}", "rpo_uri": "https://dev.azure.com/{organization}/{project}/_git/{repository}",
		"rpo_ver": "{sha}", "rpo_ref": "refs/heads/{branch}",
	},
	lifetime: 10 * time.Minute, nbf: true, jti: true,
	header: typJWT,
	// One set of keys for all organizations, beside the issuer and not below it.
	jwks: "{origin}/.well-known/jwks",
	discovery: map[string]any{
		"response_types_supported": []string{"id_token"},
		"subject_types_supported":  []string{"public", "pairwise"},
		"scopes_supported":         []string{"openid"},
		"claims_supported":         []string{"sub", "aud", "exp", "iat", "iss", "nbf"},
	},
	algorithms: onlyRS256,
	keyID:      shortKeyID,
}

var circleCI = platform{
	issuer: "https://oidc.circleci.com/org/{organization_id}",
	parameters: map[string]string{
		"organization_id": "6d0f7f20-8c3b-4a8e-9a55-0f3c7d1b2e4a", "project_id": "c4b1a2d3-e5f6-4708-9a1b-2c3d4e5f6071",
		"user_id": "9e8d7c6b-5a49-4838-a716-f5e4d3c2b1a0", "vcs_origin": "github.com/contoso/payments-api", "vcs_ref": "refs/heads/main",
		"context_id": "11aa22bb-33cc-44dd-85ee-66ff77008899", "job_id": "0f1e2d3c-4b5a-4697-8877-665544332211",
		"workflow_id": "12345678-90ab-4cde-8f01-234567890abc", "pipeline_id": "abcdef01-2345-4678-9abc-def012345678",
		"pipeline_definition_id": "fedcba98-7654-4321-8fed-cba987654321",
	},
	forms: []subjectForm{
		{name: "user", subject: "org/{organization_id}/project/{project_id}/user/{user_id}"},
		{name: "vcs", subject: "org/{organization_id}/project/{project_id}/user/{user_id}/vcs-origin/{vcs_origin}/vcs-ref/{vcs_ref}"},
	},
	claims: map[string]any{
		"oidc.circleci.com/org-id":                 "{organization_id}",
		"oidc.circleci.com/project-id":             "{project_id}",
		"oidc.circleci.com/context-ids":            []string{"{context_id}"},
		"oidc.circleci.com/job-id":                 "{job_id}",
		"oidc.circleci.com/workflow-id":            "{workflow_id}",
		"oidc.circleci.com/pipeline-id":            "{pipeline_id}",
		"oidc.circleci.com/pipeline-definition-id": "{pipeline_definition_id}",
		"oidc.circleci.com/vcs-origin":             "{vcs_origin}",
		"oidc.circleci.com/vcs-ref":                "{vcs_ref}",
		"oidc.circleci.com/ssh-rerun":              false,
	},
	lifetime: time.Hour,
	header:   typJWT,
	jwks:     "{issuer}/.well-known/jwks-pub.json",
	discovery: map[string]any{
		"response_types_supported": []string{"id_token"},
		"subject_types_supported":  []string{"public", "pairwise"},
		"scopes_supported":         []string{"openid"},
		"claims_supported":         []string{"aud", "sub", "iss", "iat", "exp", "oidc.circleci.com/project-id", "oidc.circleci.com/context-ids"},
	},
	algorithms: onlyRS256,
	keyID:      guidKeyID,
}

var buildkite = platform{
	issuer: "https://agent.buildkite.com",
	parameters: map[string]string{
		"organization": "contoso", "organization_id": "0184990a-477b-4fa8-9968-496074483c77", "pipeline": "payments",
		"pipeline_id": "0184990a-477b-4fa8-9968-496074483cee", "branch": "main", "tag": "v1.2.3",
		"commit": "9f3182061f1e2cca4702c368cbc039b7dc9d4485", "step": "deploy", "build_number": "1",
		"build_id": "0184990a-4782-42b5-afc1-16715b10b8ff", "job_id": "0184990a-477b-4fa8-9968-496074483cef",
		"agent_id": "0184990a-4782-42b5-afc1-16715b10b1a0", "cluster_id": "0184990a-4782-42b5-afc1-16715b10b1a1",
	},
	forms: []subjectForm{
		{"branch", "organization:{organization}:pipeline:{pipeline}:ref:refs/heads/{branch}:commit:{commit}:step:{step}", nil},
		{"tag", "organization:{organization}:pipeline:{pipeline}:ref:refs/tags/{tag}:commit:{commit}:step:{step}",
			map[string]any{"build_tag": "{tag}"}},
	},
	claims: map[string]any{
		"organization_slug": "{organization}", "organization_id": "{organization_id}", "pipeline_slug": "{pipeline}", "pipeline_id": "{pipeline_id}",
		"build_number": number("{build_number}"), "build_id": "{build_id}", "build_branch": "{branch}", "build_commit": "{commit}", "build_source": "webhook",
		"step_key": "{step}", "job_id": "{job_id}", "agent_id": "{agent_id}", "cluster_id": "{cluster_id}", "runner_environment": "self-hosted",
	},
	lifetime: 5 * time.Minute, nbf: true,
	jwks: "{issuer}/.well-known/jwks",
	discovery: map[string]any{
		"response_types_supported": []string{"id_token"},
		"subject_types_supported":  []string{"public", "pairwise"},
		"scopes_supported":         []string{"openid"},
		"claims_supported":         []string{"sub", "aud", "exp", "iat", "iss", "nbf", "organization_slug", "pipeline_slug", "build_number", "build_branch", "build_tag", "build_commit", "step_key", "job_id", "agent_id"},
	},
	algorithms: onlyRS256,
	keyID:      hexKeyID,
}
