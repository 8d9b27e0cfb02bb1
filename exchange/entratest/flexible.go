package entratest

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// gitLabIssuer matches the GitLab instances that flexible credentials allow.
var gitLabIssuer = regexp.MustCompile(`^https://gitlab(\.[a-z0-9-]+)?\.(com|ca)$`)

// flexibleClaims are the claims an expression may look at, by issuer. Any other
// issuer has none: Entra rejects such credentials when they are created.
func flexibleClaims(issuer string) []string {
	switch {
	case issuer == "https://token.actions.githubusercontent.com":
		return []string{"sub", "job_workflow_ref"}
	case issuer == "https://app.terraform.io", issuer == "https://app.eu.terraform.io",
		gitLabIssuer.MatchString(issuer) && issuer != "https://gitlab.ca":
		return []string{"sub"}
	}
	return nil
}

// condition is one comparison of an expression.
type condition struct {
	claim, operator, comparand string
}

func (c condition) holds(claims map[string]any) bool {
	value, ok := claims[c.claim].(string)
	if !ok {
		return false
	}
	if c.operator == "matches" {
		return wildcardMatch(c.comparand, value)
	}
	return value == c.comparand
}

// checkFlexible refuses what Entra would not have stored.
func checkFlexible(f FederatedCredential) error {
	e := f.ClaimsMatchingExpression
	allowed := flexibleClaims(f.Issuer)
	switch {
	case f.Subject != "":
		return errors.New("subject and claimsMatchingExpression exclude each other")
	case e.LanguageVersion != 1:
		return fmt.Errorf("claimsMatchingExpression: languageVersion is %d, only 1 exists", e.LanguageVersion)
	case allowed == nil:
		return fmt.Errorf("claimsMatchingExpression: issuer %q does not support expressions", f.Issuer)
	}
	conditions, err := parseExpression(e.Value)
	if err != nil {
		return fmt.Errorf("claimsMatchingExpression: %w", err)
	}
	for _, c := range conditions {
		if !slices.Contains(allowed, c.claim) {
			return fmt.Errorf("claimsMatchingExpression: issuer %q does not support claim %q", f.Issuer, c.claim)
		}
	}
	return nil
}

// matches says whether all conditions of the expression hold.
func (e *ClaimsMatchingExpression) matches(claims map[string]any) bool {
	conditions, err := parseExpression(e.Value)
	return err == nil && !slices.ContainsFunc(conditions, func(c condition) bool { return !c.holds(claims) })
}

// parseExpression reads claims['name'] operator 'value', joined by and.
func parseExpression(text string) ([]condition, error) {
	var all []condition
	for rest := text; ; {
		var c condition
		var err error
		if c, rest, err = parseCondition(rest); err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		all = append(all, c)
		if strings.TrimSpace(rest) == "" {
			return all, nil
		}
		trimmed := strings.TrimLeft(rest, " ")
		after, found := strings.CutPrefix(trimmed, "and ")
		if !found || trimmed == rest {
			return nil, fmt.Errorf("%q: want \" and \" or the end before %q", text, rest)
		}
		rest = after
	}
}

func parseCondition(s string) (condition, string, error) {
	rest, found := strings.CutPrefix(strings.TrimLeft(s, " "), "claims[")
	if !found {
		return condition{}, "", fmt.Errorf("want claims['…'] at %q", s)
	}
	name, rest, err := parseQuoted(rest)
	if err != nil {
		return condition{}, "", err
	}
	if rest, found = strings.CutPrefix(rest, "]"); !found {
		return condition{}, "", fmt.Errorf("want ] at %q", rest)
	}
	operator, rest, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	if operator != "eq" && operator != "matches" {
		return condition{}, "", fmt.Errorf("the operator %q is neither eq nor matches", operator)
	}
	value, rest, err := parseQuoted(strings.TrimLeft(rest, " "))
	if err != nil {
		return condition{}, "", err
	}
	if name == "" || value == "" {
		return condition{}, "", errors.New("the name of the claim and the value cannot be empty")
	}
	return condition{claim: name, operator: operator, comparand: value}, rest, nil
}

// parseQuoted reads '…', in which a quote is written twice.
func parseQuoted(s string) (value, rest string, err error) {
	rest, found := strings.CutPrefix(s, "'")
	if !found {
		return "", "", fmt.Errorf("want a quote at %q", s)
	}
	for {
		part, after, found := strings.Cut(rest, "'")
		if !found {
			return "", "", errors.New("a quote is not closed")
		}
		value += part
		if rest, found = strings.CutPrefix(after, "'"); !found {
			return value, after, nil
		}
		value += "'"
	}
}

// wildcardMatch compares with * for any run of characters and ? for one.
func wildcardMatch(pattern, s string) bool {
	p, text := []rune(pattern), []rune(s)
	star, mark := -1, 0 // where to go on when what follows the last * fails
	i, j := 0, 0
	for j < len(text) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == text[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(string(p[i:]), "*") == ""
}
