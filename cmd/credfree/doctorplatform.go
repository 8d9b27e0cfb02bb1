package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/workload"
)

// platformFindings are what there is to find about a workload token before
// Entra sees it.
type platformFindings struct {
	steps     []step
	source    workload.Source
	assertion workload.Assertion
	problem   string // why the token is of no use; "" when it is
}

// federable reports whether the token says what a federated identity credential
// has to say.
func (p *platformFindings) federable() bool {
	return p.assertion.Issuer != "" && p.assertion.Subject != ""
}

// platform examines the workload token of a source.
func (d *doctor) platform(ctx context.Context, name string) *platformFindings {
	found, ok := d.platforms[name]
	if ok {
		return found
	}
	found = d.read(ctx, name)
	if found.problem != "" {
		found.steps = append(found.steps, skipped("claims", found.problem), skipped("issuer", found.problem))
	} else {
		claims := d.claims(found.assertion)
		if !claims.OK {
			found.problem = "Entra would refuse the workload token"
		}
		found.steps = append(found.steps, claims, d.issuer(ctx, found.assertion))
	}
	d.platforms[name] = found
	return found
}

// sourceLimit bounds the reading of a workload token.
const sourceLimit = 45 * time.Second

// read gets the workload token of a source.
func (d *doctor) read(ctx context.Context, name string) *platformFindings {
	const missing = "there is no workload token"
	configured := d.policy.Sources[name]
	what := name + ", " + describeSource(configured)
	source, err := newSource(configured, d.audience())
	if err != nil {
		return &platformFindings{steps: []step{failed("source", what+": "+err.Error(), "")}, problem: missing}
	}
	ctx, cancel := context.WithTimeout(ctx, sourceLimit)
	defer cancel()
	assertion, err := source.Assertion(ctx)
	if err != nil {
		hint := ""
		if problem, ok := errors.AsType[*workload.Error](err); ok {
			hint = problem.Hint
		}
		return &platformFindings{steps: []step{failed("source", what+": "+err.Error(), hint)}, source: source, problem: missing}
	}
	return &platformFindings{steps: []step{passed("source", what)}, source: source, assertion: assertion}
}

// claims looks at the workload token as the exchange does, before it asks Entra.
func (d *doctor) claims(a workload.Assertion) step {
	const name = "claims"
	says := fmt.Sprintf("issuer %s, subject %s, audience %s, %s", quoteClaim(a.Issuer), quoteClaim(a.Subject),
		quoteClaim(strings.Join(a.Audience, " ")), quoteClaim(a.Algorithm))
	err := a.Check(d.audience(), d.now())
	if err == nil {
		return passed(name, says+", expires in "+a.ExpiresAt.Sub(d.now()).Round(time.Second).String(), a.Notes()...)
	}
	s := failed(name, err.Error()+" ("+says+")", "")
	s.Notes = a.Notes()
	if problem, ok := errors.AsType[*workload.Error](err); ok {
		s.Hint = problem.Hint
	}
	return s
}

// quoteClaim shows a claim of an unverified token: printable and bounded.
func quoteClaim(s string) string {
	const most = 600 // Entra's own limit for issuer and subject
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.QuoteToASCII(s)
}

// describeSource says where the token comes from, without what could be secret:
// arguments, headers and queries.
func describeSource(s policy.Source) string {
	switch {
	case s.File != nil:
		return "file " + s.File.Path
	case s.Env != nil:
		return "variable " + s.Env.Name
	case s.Exec != nil:
		return "command " + s.Exec.Command[0]
	case s.HTTP != nil:
		if u, err := url.Parse(s.HTTP.URL); err == nil {
			return "server " + u.Scheme + "://" + u.Host
		}
		return "server"
	case s.GitHub != nil:
		return "GitHub Actions"
	case s.GitLab != nil:
		return "GitLab's variable " + s.GitLab.Name
	case s.AzureDevOps != nil:
		return "Azure DevOps service connection " + s.AzureDevOps.ServiceConnectionID
	case s.Terraform != nil:
		return "HCP Terraform"
	case s.CircleCI != nil:
		return "CircleCI"
	case s.Vault != nil:
		return "Vault role " + s.Vault.Role
	case s.Google != nil:
		return "Google's metadata server"
	case s.Kubernetes != nil:
		return "Kubernetes service account " + s.Kubernetes.ServiceAccount
	case s.Buildkite != nil:
		return "Buildkite"
	case s.AWS != nil:
		return "AWS STS"
	case s.SPIFFE != nil:
		return "SPIFFE Workload API"
	case s.ManagedIdentity != nil:
		return "managed identity " + s.ManagedIdentity.ClientID + s.ManagedIdentity.ObjectID + s.ManagedIdentity.ResourceID
	}
	return "a kind of source that this build does not know"
}
