package localapi

import "strings"

// challengeIn returns the claims that an API asks for in its WWW-Authenticate
// headers, as a JSON object, or "" when it asks for none:
// https://learn.microsoft.com/entra/identity-platform/claims-challenge.
func challengeIn(headers []string) string {
	for _, header := range headers {
		for _, challenge := range parseChallenges(header) {
			if !strings.EqualFold(challenge.scheme, "Bearer") || challenge.parameters["error"] != "insufficient_claims" {
				continue
			}
			if claims, _ := claimsIn(decodeClaims(challenge.parameters["claims"])); claims != "" {
				return claims
			}
		}
	}
	return ""
}

// authChallenge is one challenge of RFC 9110 §11.6.1. Names of parameters are in
// lower case.
type authChallenge struct {
	scheme     string
	parameters map[string]string
}

// parseChallenges reads a WWW-Authenticate header as far as it makes sense. A
// comma separates parameters and challenges alike: what is followed by an equals
// sign is a parameter, and what is not is a scheme.
func parseChallenges(header string) (challenges []authChallenge) {
	rest := header
	for {
		rest = strings.TrimLeft(rest, " \t,")
		end := strings.IndexAny(rest, " \t,=")
		if end < 0 {
			return challenges
		}
		word := rest[:end]
		rest = strings.TrimLeft(rest[end:], " \t")
		value, isParameter := strings.CutPrefix(rest, "=")
		switch {
		case !isParameter:
			challenges = append(challenges, authChallenge{scheme: word, parameters: map[string]string{}})
		case len(challenges) == 0:
			return nil
		default:
			text, after, ok := parseValue(strings.TrimLeft(value, " \t"))
			if !ok {
				return challenges
			}
			rest = after
			parameters := challenges[len(challenges)-1].parameters
			if name := strings.ToLower(word); parameters[name] == "" { // the first counts
				parameters[name] = text
			}
		}
	}
}

// parseValue reads a token or a quoted string (RFC 9110 §5.6.4).
func parseValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, " \t,")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}
