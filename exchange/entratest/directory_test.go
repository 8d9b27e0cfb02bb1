package entratest_test

import (
	"encoding/base64"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/credfree/credfree/exchange/entratest"
)

func base64Reader(s string) io.Reader {
	return base64.NewDecoder(base64.RawURLEncoding, strings.NewReader(s))
}

func TestDirectoryRoundTrip(t *testing.T) {
	want := entratest.DemoDirectory(issuerURL)
	data, err := yaml.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := entratest.ParseDirectory(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
}

func TestDirectoryProblems(t *testing.T) {
	const head = "tenants:\n- id: " + tenantID + "\n"
	// blueprints is to be closed with ].
	const blueprints = head + "  applications: [{clientID: " + blueprintID + ", blueprint: true}]\n  blueprintPrincipals: [{blueprint: " + blueprintID + "}, "
	flexible := func(issuer, expression, subject string, version int) string {
		return fmt.Sprintf("%s  applications: [{clientID: %s, federatedCredentials: [{issuer: %q, audience: a, subject: %q, claimsMatchingExpression: {value: %q, languageVersion: %d}}]}]",
			head, agentID, issuer, subject, expression, version)
	}
	for _, c := range []struct{ name, yaml, want string }{
		{"empty", "", "empty"},
		{"no tenant", "tenants: []", "no tenant"},
		{"unknown field", head + "  colour: red", "colour"},
		{"two documents", head + "---\n" + head, "one YAML document"},
		{"not YAML", "\t", "parse directory"},
		{"tenant id", "tenants: [{id: contoso}]", `"contoso": id is not a GUID`},
		{"tenant twice", "tenants: [{id: " + tenantID + "}, {id: " + strings.ToUpper(tenantID) + "}]", "used twice"},
		{"domain", head + "  domains: [localhost]", "not a DNS name"},
		{"client id", head + "  applications: [{clientID: agent}]", "clientID is not a GUID"},
		{"object id", head + "  applications: [{clientID: " + agentID + ", objectID: x}]", "objectID"},
		{"application twice", head + "  applications: [{clientID: " + agentID + "}, {clientID: " + agentID + "}]", "there twice"},
		{"issuer", head + "  applications: [{clientID: " + agentID + ", federatedCredentials: [{issuer: 'http://x', subject: s, audience: a}]}]", "not an https URL"},
		{"subject", head + "  applications: [{clientID: " + agentID + ", federatedCredentials: [{issuer: 'https://x', subject: ' s', audience: a}]}]", "white space"},
		{"credential twice", head + "  applications: [{clientID: " + agentID + ", federatedCredentials: [" + strings.Repeat("{issuer: 'https://x', subject: s, audience: a},", 2) + "]}]", "there twice"},
		{"credential name", head + "  applications: [{clientID: " + agentID + ", federatedCredentials: [{name: a b, issuer: 'https://x', subject: s, audience: a}]}]", "name"},
		{"too many credentials", head + "  applications: [{clientID: " + agentID + ", federatedCredentials: [" + strings.Repeat("{issuer: 'https://x', subject: s, audience: a},", 21) + "]}]", "maximum is 20"},
		{"no such resource", head + "  applications: [{clientID: " + agentID + ", appRoles: {'https://x': [R]}}]", "no resource"},
		{"no such role", head + "  applications: [{clientID: " + agentID + ", appRoles: {" + ledgerID + ": [R]}}]\n  resources: [{clientID: " + ledgerID + "}]", `does not define "R"`},
		{"no such scope", head + "  applications: [{clientID: " + agentID + ", delegated: {" + ledgerID + ": [S]}}]\n  resources: [{clientID: " + ledgerID + "}]", `does not define "S"`},
		{"resource URI", head + "  resources: [{clientID: " + ledgerID + ", identifierURIs: [ledger]}]", "absolute URI"},
		{"resource twice", head + "  resources: [{clientID: " + ledgerID + "}, {clientID: " + ledgerID + "}]", "two resources"},
		{"token version", head + "  resources: [{clientID: " + ledgerID + ", tokenVersion: 3}]", "neither 1 nor 2"},
		{"user id", head + "  users: [{objectID: ada, userPrincipalName: a@b}]", "objectID is not a GUID"},
		{"flexible, other issuer", flexible("https://example.com", "claims['sub'] eq 'a'", "", 1), "does not support expressions"},
		{"flexible, GitLab look-alike", flexible("https://gitlab.com.evil.com", "claims['sub'] eq 'a'", "", 1), "does not support expressions"},
		{"flexible, other claim", flexible("https://gitlab.com", "claims['job_workflow_ref'] eq 'a'", "", 1), `does not support claim "job_workflow_ref"`},
		{"flexible and subject", flexible(gitHub, "claims['sub'] eq 'a'", "s", 1), "exclude each other"},
		{"flexible, language", flexible(gitHub, "claims['sub'] eq 'a'", "", 2), "languageVersion"},
		{"flexible, empty", flexible(gitHub, "", "", 1), "want claims"},
		{"flexible, operator", flexible(gitHub, "claims['sub'] ne 'a'", "", 1), "neither eq nor matches"},
		{"flexible, or", flexible(gitHub, "claims['sub'] eq 'a' or claims['sub'] eq 'b'", "", 1), `want " and "`},
		{"flexible, and nothing", flexible(gitHub, "claims['sub'] eq 'a' and ", "", 1), "want claims"},
		{"flexible, quote", flexible(gitHub, "claims['sub'] eq 'a", "", 1), "not closed"},
		{"flexible, double quotes", flexible(gitHub, `claims["sub"] eq "a"`, "", 1), "want a quote"},
		{"flexible, no value", flexible(gitHub, "claims['sub'] eq ''", "", 1), "cannot be empty"},
		{"secret", head + "  applications: [{clientID: " + agentID + ", clientSecrets: [{name: x}]}]", "secret 1 is empty"},
		{"certificate", head + "  applications: [{clientID: " + agentID + ", certificates: [{pem: x}]}]", "holds no certificate"},
		{"group", head + "  groups: [{objectID: x}]", "objectID is not a GUID"},
		{"blueprint with roles", head + "  applications: [{clientID: " + blueprintID + ", blueprint: true, appRoles: {x: [y]}}]", "cannot have appRoles"},
		{"inheritable of no blueprint", head + "  applications: [{clientID: " + agentID + ", inheritablePermissions: [x]}]", "only a blueprint"},
		{"principal of nothing", head + "  blueprintPrincipals: [{blueprint: " + blueprintID + "}]", "no blueprint"},
		{"principal of an application", head + "  applications: [{clientID: " + agentID + "}]\n  blueprintPrincipals: [{blueprint: " + agentID + "}]", "no blueprint"},
		{"principal twice", blueprints + "{blueprint: " + blueprintID + "}]", "there twice"},
		{"agent without a principal", head + "  applications: [{clientID: " + blueprintID + ", blueprint: true}]\n  agentIdentities: [{objectID: " + childID + ", blueprint: " + blueprintID + "}]", "has no principal"},
		{"agent of an agent", blueprints + "]\n  agentIdentities: [{objectID: " + childID + ", blueprint: " + blueprintID + "}, {objectID: " + siblingID + ", blueprint: " + childID + "}]", "has no principal"},
		{"agent with a client's id", blueprints + "]\n  agentIdentities: [{objectID: " + blueprintID + ", blueprint: " + blueprintID + "}]", "another client"},
		{"agent with credentials", blueprints + "]\n  agentIdentities: [{objectID: " + childID + ", blueprint: " + blueprintID + ", clientSecrets: [{value: x}]}]", "clientSecrets"},
		{"agent with too much", blueprints + "]\n  agentIdentities: [{objectID: " + childID + ", blueprint: " + blueprintID + ", appRoles: {'https://graph.microsoft.com': [User.ReadWrite.All]}}]\n  resources: [{clientID: 00000003-0000-0000-c000-000000000000, identifierURIs: ['https://graph.microsoft.com'], appRoles: [User.ReadWrite.All]}]", "cannot be granted User.ReadWrite.All"},
		{"agent user of nothing", head + "  users: [{objectID: " + userID + ", userPrincipalName: a@b, agentIdentity: " + childID + "}]", "no agent identity"},
		{"two agent users", blueprints + "]\n  agentIdentities: [{objectID: " + childID + ", blueprint: " + blueprintID + "}]\n  users: [{objectID: " + userID + ", userPrincipalName: a@b, agentIdentity: " + childID + "}, {objectID: " + guestUser + ", userPrincipalName: c@b, agentIdentity: " + childID + "}]", "already has the agent user"},
		{"foreign principal", blueprints + "]\n- id: " + otherTenant + "\n  blueprintPrincipals: [{blueprint: " + blueprintID + "}]", "not multi-tenant"},
		{"policy for nobody", head + "  conditionalAccess: [{name: p, resources: [All], grant: block}]", "applies to nobody"},
		{"policy without resources", head + "  conditionalAccess: [{name: p, users: [All], grant: block}]", "protects no resource"},
		{"policy with another grant", head + "  conditionalAccess: [{name: p, users: [All], resources: [All], grant: allow}]", "neither block nor mfa"},
		{"MFA of agents", head + "  conditionalAccess: [{name: p, agents: [All], resources: [All], grant: mfa}]", "can only be blocked"},
		{"policy for a stranger", head + "  conditionalAccess: [{name: p, applications: [" + agentID + "], resources: [All], grant: block}]", "there is no"},
		{"user name", head + "  users: [{objectID: " + userID + "}]", "no @"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := entratest.ParseDirectory([]byte(c.yaml)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestNewJoinsAllProblems(t *testing.T) {
	_, err := entratest.New(entratest.Config{BaseURL: "http://x/y", TokenLifetime: -1, Directory: entratest.Directory{Tenants: []entratest.Tenant{{ID: "a"}, {ID: "b"}}}})
	if err == nil {
		t.Fatal("got no error, want one")
	}
	for _, want := range []string{"BaseURL", "TokenLifetime", `tenant "a"`, `tenant "b"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want it to mention %s", err, want)
		}
	}
}

// TestImports keeps the emulator independent: it must not be able to agree
// with our client by sharing its code.
func TestImports(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			checked++
			if host, _, _ := strings.Cut(path, "/"); !strings.Contains(host, ".") {
				continue // the standard library
			}
			switch path {
			case "github.com/go-jose/go-jose/v4", "github.com/go-jose/go-jose/v4/jwt", "github.com/google/uuid", "go.yaml.in/yaml/v3":
			default:
				t.Errorf("%s: got import %s, want only the standard library, go-jose, uuid and yaml", e.Name(), path)
			}
		}
	}
	if checked == 0 {
		t.Error("got no imports to check, want some")
	}
}
