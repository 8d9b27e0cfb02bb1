package policy_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/broker/policy"
)

func TestSources(t *testing.T) {
	for text, want := range map[string]policy.Source{
		`{file: {path: /t}}`:         {File: &policy.FileSource{Path: "/t"}},
		`{file: {path: t}}`:          {File: &policy.FileSource{Path: "/etc/credfree/t"}},
		`{http: {url: https://h/t}}`: {HTTP: &policy.HTTPSource{URL: "https://h/t", Method: "GET", Headers: map[string]policy.HeaderSource{}}},
		`{http: {url: "http://127.0.0.1:80/t?a=%20", method: POST, pointer: /a~1b/0, headers: {Authorization: {env: X, prefix: "Bearer "}, X-Key: {file: k}, Metadata: "true"}}}`: {HTTP: &policy.HTTPSource{
			URL: "http://127.0.0.1:80/t?a=%20", Method: "POST", Pointer: "/a~1b/0", Headers: map[string]policy.HeaderSource{
				"Authorization": {Env: "X", Prefix: "Bearer "}, "X-Key": {File: "/etc/credfree/k"}, "Metadata": {Value: "true"},
			},
		}},
		`{http: {url: "http://[::1]/"}}`:          {HTTP: &policy.HTTPSource{URL: "http://[::1]/", Method: "GET", Headers: map[string]policy.HeaderSource{}}},
		`{http: {url: http://169.254.169.254/t}}`: {HTTP: &policy.HTTPSource{URL: "http://169.254.169.254/t", Method: "GET", Headers: map[string]policy.HeaderSource{}}},
		`{github: {}}`:            {GitHub: &policy.GitHubSource{}},
		`{circleci: {}}`:          {CircleCI: &policy.CircleCISource{}},
		`{gitlab: {name: ENTRA}}`: {GitLab: &policy.GitLabSource{Name: "ENTRA"}},
		`{azureDevOps: {serviceConnectionID: 99999999-0000-4000-8000-00000000000A}}`: {AzureDevOps: &policy.AzureDevOpsSource{ServiceConnectionID: "99999999-0000-4000-8000-00000000000a"}},
		`{terraform: {}}`:           {Terraform: &policy.TerraformSource{}},
		`{terraform: {tag: ENTRA}}`: {Terraform: &policy.TerraformSource{Tag: "ENTRA"}},
		`{google: {}}`:              {Google: &policy.GoogleSource{}},
		`{vault: {role: entra}}`:    {Vault: &policy.VaultSource{Role: "entra"}},
		`{vault: {role: a.b-c_D, tokenFile: /vault/token}}`:        {Vault: &policy.VaultSource{Role: "a.b-c_D", TokenFile: "/vault/token"}},
		`{kubernetes: {serviceAccount: researcher}}`:               {Kubernetes: &policy.KubernetesSource{ServiceAccount: "researcher"}},
		`{kubernetes: {namespace: agents, serviceAccount: a.b-c}}`: {Kubernetes: &policy.KubernetesSource{Namespace: "agents", ServiceAccount: "a.b-c"}},
		`{buildkite: {}}`:                 {Buildkite: &policy.BuildkiteSource{}},
		`{exec: {command: [/usr/bin/x]}}`: {Exec: &policy.ExecSource{Command: []string{"/usr/bin/x"}}},
		`{exec: {command: [/usr/bin/x, --a, "b c"], timeout: 10s, variables: [AWS_PROFILE]}}`: {Exec: &policy.ExecSource{
			Command: []string{"/usr/bin/x", "--a", "b c"}, Timeout: 10 * time.Second, Variables: []string{"AWS_PROFILE"},
		}},
		`{aws: {}}`:                      {AWS: &policy.AWSSource{}},
		`{aws: {region: us-gov-west-1}}`: {AWS: &policy.AWSSource{Region: "us-gov-west-1"}},
		`{spiffe: {}}`:                   {SPIFFE: &policy.SPIFFESource{}},
		`{spiffe: {socket: "unix:///run/spire/agent.sock", id: "spiffe://contoso.com/ns/a/sa/b"}}`: {SPIFFE: &policy.SPIFFESource{
			Socket: "unix:///run/spire/agent.sock", SPIFFEID: "spiffe://contoso.com/ns/a/sa/b",
		}},
		`{managedIdentity: {clientID: 99999999-0000-4000-8000-00000000000A}}`: {ManagedIdentity: &policy.ManagedIdentitySource{ClientID: "99999999-0000-4000-8000-00000000000a"}},
		`{env: {name: CIRCLE_OIDC_TOKEN}}`:                                    {Env: &policy.EnvSource{Name: "CIRCLE_OIDC_TOKEN"}},
	} {
		p := parse(t, "version: 1\ntenant: contoso.com\nsources: {x: "+text+"}\n")
		if diff := cmp.Diff(want, p.Sources["x"]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}
