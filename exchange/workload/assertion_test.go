package workload_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/workload"
)

const (
	tenant       = "5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10"
	entraIssuer  = "https://login.microsoftonline.com/" + tenant + "/v2.0"
	exchangeGUID = "fb60f99c-7a34-4190-8149-302f77469936"
)

var checked = time.Unix(1_900_000_000, 0)

// claimed is a token that Entra could accept, but for what changes says. A nil
// value takes a claim away.
func claimed(t *testing.T, algorithm string, changes map[string]any) workload.Assertion {
	t.Helper()
	claims := map[string]any{"iss": "https://i", "sub": "s", "aud": audience, "exp": checked.Unix() + 60}
	for name, value := range changes {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	a, err := workload.Parse(token(`{"alg":"`+algorithm+`"}`, string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// wantHint checks that a hint names the thing to change; "" wants no error.
func wantHint(t *testing.T, err error, problem workload.Problem, hint string) {
	t.Helper()
	if problem == "" {
		if err != nil {
			t.Errorf("got %v, want no error", err)
		}
		return
	}
	got, ok := errors.AsType[*workload.Error](err)
	if !ok {
		t.Fatalf("got %v, want %s", err, problem)
	}
	if got.Problem != problem || !strings.Contains(got.Hint, hint) {
		t.Errorf("got %s with the hint %q, want %s and %q", got.Problem, got.Hint, problem, hint)
	}
}

// Each platform's own tokens bring the hint of that platform.
func TestCheckKnowsThePlatform(t *testing.T) {
	for platform, want := range map[entratest.Platform]string{
		entratest.Kubernetes:    "serviceAccountToken.audience",
		entratest.AKS:           "serviceAccountToken.audience",
		entratest.EKS:           "serviceAccountToken.audience",
		entratest.GKE:           "serviceAccountToken.audience",
		entratest.GitHubActions: "ACTIONS_ID_TOKEN_REQUEST_URL",
		entratest.GitLabCI:      "id_tokens",
		entratest.SPIFFE:        "FetchJWTSVID",
		entratest.AWS:           "sts:GetWebIdentityToken",
		entratest.GoogleCloud:   "metadata server",
		entratest.Terraform:     "TFC_WORKLOAD_IDENTITY_AUDIENCE",
		entratest.CircleCI:      "OIDC custom claim",
		entratest.Buildkite:     "buildkite-agent",
		entratest.Vault:         "Vault role",
		entratest.AzureDevOps:   "where the platform lets it be chosen",
	} {
		t.Run(string(platform), func(t *testing.T) {
			issuer, err := entratest.NewIssuer(entratest.IssuerConfig{Platform: platform, Key: signingKey(), Algorithms: []string{"RS256"}})
			if err != nil {
				t.Fatal(err)
			}
			for _, form := range platform.Forms() {
				subject, err := issuer.Subject(entratest.Workload{Form: form})
				if err != nil {
					t.Fatal(err)
				}
				a := claimed(t, "RS256", map[string]any{"iss": issuer.URL(), "sub": subject, "aud": "other"})
				wantHint(t, a.Check(audience, checked), workload.WrongAudience, want)
				wantHint(t, a.Check("other", checked), "", "")
			}
		})
	}
}

func TestCheckSaysWhatToChange(t *testing.T) {
	const pod, svid = "system:serviceaccount:a:b", "spiffe://demo.example/agent"
	for name, test := range map[string]struct {
		algorithm string
		changes   map[string]any
		problem   workload.Problem
		hint      string
	}{
		"SPIRE's usual key":          {"ES256", map[string]any{"sub": svid}, workload.WrongAlgorithm, `jwt_key_type = "rsa-2048"`},
		"AWS's other key":            {"ES384", map[string]any{"sub": "arn:aws:iam::1:role/r"}, workload.WrongAlgorithm, "SigningAlgorithm RS256"},
		"a cluster's EC key":         {"ES256", map[string]any{"sub": pod}, workload.WrongAlgorithm, "--service-account-signing-key-file"},
		"Vault's other key":          {"EdDSA", map[string]any{"iss": "https://v:8200/v1/identity/oidc"}, workload.WrongAlgorithm, "Vault role"},
		"somebody's EC key":          {"ES256", nil, workload.WrongAlgorithm, "RSA key"},
		"SPIRE without an issuer":    {"RS256", map[string]any{"sub": svid, "iss": nil}, workload.Malformed, "jwt_issuer"},
		"nobody's token":             {"RS256", map[string]any{"iss": nil}, workload.Malformed, "all three"},
		"a secret's token":           {"RS256", map[string]any{"sub": pod, "iss": "kubernetes/serviceaccount", "exp": nil}, workload.Malformed, "projected token"},
		"an issuer without TLS":      {"RS256", map[string]any{"iss": "http://i"}, workload.Malformed, "public https URL"},
		"an issuer without a host":   {"RS256", map[string]any{"iss": "https:///i"}, workload.Malformed, "public https URL"},
		"an issuer with a space":     {"RS256", map[string]any{"iss": "https://i "}, workload.Malformed, "white space"},
		"an issuer with a line":      {"RS256", map[string]any{"iss": "\nhttps://i"}, workload.Malformed, "white space"},
		"GitHub's own audience":      {"RS256", map[string]any{"iss": "https://token.actions.githubusercontent.com", "aud": "https://github.com/contoso"}, workload.WrongAudience, "ACTIONS_ID_TOKEN_REQUEST_URL"},
		"a managed identity's":       {"RS256", map[string]any{"iss": entraIssuer}, "", ""},
		"with the GUID":              {"RS256", map[string]any{"iss": entraIssuer, "aud": exchangeGUID}, "", ""},
		"with the GUID, v1":          {"RS256", map[string]any{"iss": "https://sts.windows.net/" + tenant + "/", "aud": exchangeGUID}, "", ""},
		"with a private authority":   {"RS256", map[string]any{"iss": "https://login.entra.test/" + tenant + "/v2.0", "aud": exchangeGUID}, "", ""},
		"the GUID of a stranger":     {"RS256", map[string]any{"aud": exchangeGUID}, workload.WrongAudience, ""},
		"the GUID of a v2 of theirs": {"RS256", map[string]any{"iss": "https://i/common/v2.0", "aud": exchangeGUID}, workload.WrongAudience, ""},
		"the GUID below a folder":    {"RS256", map[string]any{"iss": "https://i/x/" + tenant + "/v2.0", "aud": exchangeGUID}, workload.WrongAudience, ""},
		"for another API":            {"RS256", map[string]any{"iss": entraIssuer, "aud": "00000003-0000-0000-c000-000000000000"}, workload.WrongAudience, "managed identity is asked for"},
		"a user's":                   {"RS256", map[string]any{"iss": entraIssuer, "scp": "user_impersonation"}, workload.WrongKind, "managed identity"},
		"a user's, said otherwise":   {"RS256", map[string]any{"iss": entraIssuer, "idtyp": "user"}, workload.WrongKind, "AADSTS700229"},
		"an application's":           {"RS256", map[string]any{"iss": entraIssuer, "idtyp": "app", "scp": "/"}, "", ""},
		"somebody else's scp":        {"RS256", map[string]any{"scp": []string{"read"}, "idtyp": 1}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			wantHint(t, claimed(t, test.algorithm, test.changes).Check(audience, checked), test.problem, test.hint)
		})
	}
}

// The GUID stands for the public cloud's audience and for no other.
func TestCheckKnowsOneCloudsGUID(t *testing.T) {
	a := claimed(t, "RS256", map[string]any{"iss": "https://login.microsoftonline.us/" + tenant + "/v2.0", "aud": exchangeGUID})
	wantHint(t, a.Check("api://AzureADTokenExchangeUSGov", checked), workload.WrongAudience, "managed identity")
	// Which GUID stands for another cloud's is not public: Entra is to judge its own token.
	for issuer, problem := range map[string]workload.Problem{
		"https://login.microsoftonline.us/" + tenant + "/v2.0": "",
		"https://sts.windows.net/" + tenant + "/":              "",
		"https://stranger.example":                             workload.WrongAudience,
	} {
		a := claimed(t, "RS256", map[string]any{"iss": issuer, "aud": "11111111-2222-4333-8444-555555555555"})
		wantHint(t, a.Check("api://AzureADTokenExchangeUSGov", checked), problem, "")
	}
	if workload.WrongKind.Temporary() || workload.Denied.Temporary() {
		t.Error("waiting helps neither a user's token nor a refusal")
	}
}

func TestNotes(t *testing.T) {
	const hub = "https://token.actions.githubusercontent.com"
	for name, test := range map[string]struct {
		issuer, subject string
		want            []string // beginnings
	}{
		"nothing to say":    {"https://oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE", "system:serviceaccount:agents:demo", nil},
		"a trailing slash":  {"https://westeurope.oic.prod-aks.azure.com/" + tenant + "/" + tenant + "/", "system:serviceaccount:agents:demo", []string{"the issuer ends with a slash"}},
		"inside a cluster":  {"https://kubernetes.default.svc.cluster.local", "system:serviceaccount:agents:demo", []string{"the issuer has an address"}},
		"by a short name":   {"https://kubernetes/oidc", "system:serviceaccount:agents:demo", []string{"the issuer has an address"}},
		"a private address": {"https://172.18.0.2:6443/", "system:serviceaccount:agents:demo", []string{"the issuer ends with a slash", "the issuer has an address"}},
		"an IPv6 address":   {"https://[fd00::1]:6443", "system:serviceaccount:agents:demo", []string{"the issuer has an address"}},
		"a public address":  {"https://172.32.0.2", "system:serviceaccount:agents:demo", nil},
		"like an address":   {"https://10.example.com", "s", nil},
		"immutable":         {hub, "repo:contoso@123/pay@456:ref:refs/heads/main", []string{"the subject has GitHub's immutable form"}},
		"by name":           {hub, "repo:contoso/pay:environment:prod", []string{"GitHub gives the subject the immutable form"}},
		"pull requests":     {hub, "repo:contoso@123/pay@456:pull_request", []string{"the subject has GitHub's immutable form", "every pull request"}},
		"everybody's":       {"https://c.example", "system:serviceaccount:agents:default", []string{"every pod"}},
		"Entra's":           {entraIssuer, tenant, []string{"the token is Entra's own"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for i, note := range claimed(t, "RS256", map[string]any{"iss": test.issuer, "sub": test.subject}).Notes() {
				if i < len(test.want) && strings.HasPrefix(note, test.want[i]) {
					note = test.want[i]
				}
				got = append(got, note)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("notes differ (-want +got):\n%s", diff)
			}
		})
	}
}
