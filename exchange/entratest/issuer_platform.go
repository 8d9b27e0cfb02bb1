package entratest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Platform is a kind of workload token issuer: where its documents are, how it
// names its keys, and which subjects and claims its tokens have. The issuer and
// subject forms are those of a federated credential; words in braces are
// parameters (see Platform.Parameters).
type Platform string

const (
	// Kubernetes is any cluster whose API server is the issuer.
	// Subject: system:serviceaccount:{namespace}:{serviceaccount}.
	Kubernetes Platform = "kubernetes"
	// AKS issues as https://{region}.oic.prod-aks.azure.com/{tenant}/{cluster}/.
	// The trailing slash is part of the issuer.
	AKS Platform = "aks"
	// EKS issues as https://oidc.eks.{region}.amazonaws.com/id/{cluster}.
	EKS Platform = "eks"
	// GKE issues as https://container.googleapis.com/v1/projects/{project}/locations/{location}/clusters/{cluster}.
	GKE Platform = "gke"
	// GitHubActions issues as https://token.actions.githubusercontent.com.
	// Subjects: repo:{owner}/{repository}:ref:refs/heads/{branch} (and
	// refs/tags/{tag}, environment:{environment}, pull_request). Repositories
	// made, renamed or transferred since 15 July 2026 have the immutable forms,
	// which begin repo:{owner}@{owner_id}/{repository}@{repository_id}.
	GitHubActions Platform = "github-actions"
	// GitLabCI issues as https://gitlab.com or as its own instance.
	// Subject: project_path:{group}/{project}:ref_type:branch:ref:{branch}.
	GitLabCI Platform = "gitlab-ci"
	// SPIFFE issues JWT-SVIDs as SPIRE does, with its OIDC discovery provider.
	// Subject: spiffe://{trust_domain}/{path}. Keys are on P-256 by default,
	// which Entra refuses; jwt_key_type=rsa-2048 is Algorithms RS256 here.
	SPIFFE Platform = "spiffe"
	// AWS is outbound identity federation (sts:GetWebIdentityToken) and issues
	// as https://{issuer_id}.tokens.sts.global.api.aws, one per account, with
	// RS256 and ES384. Subject: the principal's ARN, arn:aws:iam::{account}:role/{role}.
	AWS Platform = "aws"
	// GoogleCloud issues as https://accounts.google.com; its keys are on
	// www.googleapis.com. Subject: the service account's number, {unique_id}.
	GoogleCloud Platform = "google-cloud"
	// Terraform is HCP Terraform and issues as https://app.terraform.io.
	// Subject: organization:{organization}:project:{project}:workspace:{workspace}:run_phase:{run_phase}.
	Terraform Platform = "terraform"
	// AzureDevOps is the older issuer, https://vstoken.dev.azure.com/{organization_id}.
	// Subjects: sc://{organization}/{project}/{connection} for a service
	// connection, p://{organization}/{project}/{pipeline} for a pipeline. New
	// service connections have Entra as issuer: see Server.ServiceConnectionToken.
	AzureDevOps Platform = "azure-devops"
	// Vault issues as {VAULT_ADDR}/v1/identity/oidc. Subject: the entity's id.
	Vault Platform = "vault"
	// CircleCI issues as https://oidc.circleci.com/org/{organization_id}.
	// Subjects: org/{organization_id}/project/{project_id}/user/{user_id}, to
	// which CIRCLE_OIDC_TOKEN_V2 adds /vcs-origin/{vcs_origin}/vcs-ref/{vcs_ref}.
	CircleCI Platform = "circleci"
	// Buildkite issues as https://agent.buildkite.com. Subject:
	// organization:{organization}:pipeline:{pipeline}:ref:refs/heads/{branch}:commit:{commit}:step:{step}.
	Buildkite Platform = "buildkite"
)

// platform is what an Issuer does differently from others. Strings are
// templates: {name} stands for a parameter, and in URLs {issuer} for the issuer
// without trailing slash and {origin} for its origin.
type platform struct {
	issuer     string // form of the issuer URL
	parameters map[string]string
	forms      []subjectForm
	claims     map[string]any
	lifetime   time.Duration

	nbf, jti      bool // whether the tokens have these claims
	audienceList  bool // aud is an array although there is one
	header        map[jose.HeaderKey]any
	escapeSubject func(string) string // applied to the parameters in a subject

	jwks       string
	jwksOrigin string // where the keys are when the issuer is the real one
	discovery  map[string]any
	jwksType   string // Content-Type of the keys
	withoutUse bool   // the published keys have no "use"
	algorithms []jose.SignatureAlgorithm
	keyID      func(fingerprint) string
}

// subjectForm is one way to write a subject, with the claims only it has.
type subjectForm struct {
	name, subject string
	claims        map[string]any
}

// number is a template whose result is a JSON number, guid one whose result is
// a GUID that depends on nothing but the parts and the issuer.
type (
	number string
	guid   []string
)

// spec returns the table's row. The zero Platform is Kubernetes.
func (p Platform) spec() (platform, error) {
	if p == "" {
		p = Kubernetes
	}
	for _, table := range []map[Platform]platform{kubernetesPlatforms, pipelinePlatforms, cloudPlatforms} {
		if spec, ok := table[p]; ok {
			return spec, nil
		}
	}
	return platform{}, fmt.Errorf("there is no platform %q: want one of %v", p, Platforms())
}

// Platforms returns every Platform, sorted.
func Platforms() []Platform {
	var all []Platform
	for _, table := range []map[Platform]platform{kubernetesPlatforms, pipelinePlatforms, cloudPlatforms} {
		all = slices.AppendSeq(all, maps.Keys(table))
	}
	slices.Sort(all)
	return all
}

// Forms returns the names of the subject forms, the usual one first.
func (p Platform) Forms() []string {
	spec, _ := p.spec()
	var names []string
	for _, f := range spec.forms {
		names = append(names, f.name)
	}
	return names
}

// Parameters returns the parameters of a workload with their example values.
func (p Platform) Parameters() map[string]string {
	spec, _ := p.spec()
	return maps.Clone(spec.parameters)
}

// IssuerURL returns the real issuer for these parameters; those left out have
// their example values.
func (p Platform) IssuerURL(parameters map[string]string) (string, error) {
	spec, err := p.spec()
	if err != nil {
		return "", fmt.Errorf("entratest: %w", err)
	}
	values, err := spec.fill(parameters)
	if err != nil {
		return "", fmt.Errorf("entratest: %s: %w", p, err)
	}
	return replacer(values, nil).Replace(spec.issuer), nil
}

// fill completes parameters with the examples. A name nobody uses is a mistake.
func (s platform) fill(parameters map[string]string) (map[string]string, error) {
	values := maps.Clone(s.parameters)
	for name, value := range parameters {
		if _, ok := values[name]; !ok {
			return nil, fmt.Errorf("there is no parameter %q: want one of %v", name, slices.Sorted(maps.Keys(s.parameters)))
		}
		values[name] = value
	}
	return values, nil
}

func (s platform) form(name string) (subjectForm, error) {
	if name == "" {
		return s.forms[0], nil
	}
	var names []string
	for _, f := range s.forms {
		if f.name == name {
			return f, nil
		}
		names = append(names, f.name)
	}
	return subjectForm{}, fmt.Errorf("there is no subject form %q: want one of %v", name, names)
}

// replacer fills in all placeholders at once, so that a value that looks like a
// placeholder stays what it is.
func replacer(values map[string]string, escape func(string) string) *strings.Replacer {
	var pairs []string
	for name, value := range values {
		if escape != nil {
			value = escape(value)
		}
		pairs = append(pairs, "{"+name+"}", value)
	}
	return strings.NewReplacer(pairs...)
}

// expand fills in a template of claims.
func expand(template any, r *strings.Replacer, issuer string) any {
	switch t := template.(type) {
	case string:
		return r.Replace(t)
	case number:
		// Not a json.Number, which the encoder of the JOSE library quotes.
		return json.RawMessage(r.Replace(string(t)))
	case guid:
		parts := []string{issuer}
		for _, part := range t {
			parts = append(parts, r.Replace(part))
		}
		return derivedGUID(parts...)
	case []string:
		list := make([]string, len(t))
		for i, item := range t {
			list[i] = r.Replace(item)
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(t))
		for name, value := range t {
			object[name] = expand(value, r, issuer)
		}
		return object
	}
	return template
}
