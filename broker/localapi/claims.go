package localapi

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
)

// maxClaimsBytes bounds a claims challenge.
const maxClaimsBytes = 8 << 10

// readClaims reads a claims challenge to satisfy, from any door; "" when nothing
// is asked for.
func readClaims(f form) (string, *badRequest) {
	text := f.get("claims")
	if text == "" {
		return "", nil
	}
	claims, ok := claimsIn(text)
	if !ok {
		return "", bad("claims is not a JSON object", "pass the decoded claims of the challenge")
	}
	return claims, nil
}

// claimsIn returns a claims request (OpenID Connect Core §5.5) in one spelling,
// or "" when it asks for nothing. It is without access_token.xms_cc, which is how
// a client says what it can do: that makes tokens live for a day, and is for the
// identity's clientCapabilities to say. SDKs send theirs along with a challenge.
// ok is false for what is no JSON object. Names are taken in any case, and the
// last of several counts: another reader of the same text might do so.
func claimsIn(text string) (claims string, ok bool) {
	var request map[string]json.RawMessage
	if len(text) > maxClaimsBytes || json.Unmarshal([]byte(text), &request) != nil || request == nil {
		return "", false
	}
	for name, part := range request {
		var members map[string]json.RawMessage
		if !strings.EqualFold(name, "access_token") || json.Unmarshal(part, &members) != nil {
			continue
		}
		maps.DeleteFunc(members, func(name string, _ json.RawMessage) bool { return strings.EqualFold(name, "xms_cc") })
		rest, err := json.Marshal(members)
		if err != nil { // what was JSON always encodes
			return "", false
		}
		if request[name] = rest; len(members) == 0 {
			delete(request, name)
		}
	}
	if len(request) == 0 {
		return "", true
	}
	all, err := json.Marshal(request)
	return string(all), err == nil
}

// decodeClaims takes claims as they stand in a challenge, or decoded already.
// What is neither is left for readClaims to refuse.
func decodeClaims(text string) string {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "{") {
		return text
	}
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	if decoded, err := base64.RawStdEncoding.DecodeString(standard); err == nil && json.Valid(decoded) {
		return string(decoded)
	}
	return text
}
