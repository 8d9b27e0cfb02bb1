package usertoken

import (
	"encoding/base64"
	"strings"

	"github.com/go-jose/go-jose/v4/json"
)

const (
	maxTokenBytes = 32 << 10
	maxKeyIDBytes = 128
)

// token is a compact JWS (RFC 7515 §7.1) that nobody has verified yet.
type token struct {
	keyID     string
	claims    claims
	signed    string // header and payload, as they came
	signature []byte
}

// parse reads a token that can be verified. The JSON decoder is go-jose's: names are
// case-sensitive, and a name that comes twice is an error.
func parse(raw string) (token, *Error) {
	if len(raw) > maxTokenBytes {
		return token{}, &Error{Problem: TooLarge, Message: "the user token is larger than 32 KiB", Hint: "pass one access token and nothing else; Entra makes none of this size"}
	}
	parts := strings.Split(raw, ".")
	if len(parts) == 5 {
		return token{}, malformed("the user token is encrypted, so that nobody but its API can read it",
			"the application must not have token encryption configured; get an access token for it that is only signed")
	}
	if len(parts) != 3 {
		return token{}, malformed("the user token is not a signed JWT", "pass the access token alone, without Bearer before it")
	}
	var t token
	var header struct {
		Algorithm string          `json:"alg"`
		KeyID     string          `json:"kid"`
		Type      string          `json:"typ"`
		Critical  json.RawMessage `json:"crit"`
	}
	if !decode(parts[0], &header) {
		return token{}, malformed("the user token's header cannot be read", "pass the access token exactly as it was issued")
	}
	switch {
	case header.Algorithm != "RS256":
		return token{}, &Error{Problem: WrongAlgorithm, Message: "the user token is signed with " + quote(header.Algorithm) + ", and Entra signs with RS256 only",
			Hint: "pass an access token that Entra issued"}
	case header.KeyID == "" || len(header.KeyID) > maxKeyIDBytes:
		return token{}, malformed("the user token does not name the key it is signed with", "pass an access token that Entra issued; its header has a kid")
	case header.Critical != nil:
		return token{}, malformed("the user token's header has crit, which asks for rules that nobody here knows", "pass an access token that Entra issued; it has none")
	case header.Type != "" && !strings.EqualFold(header.Type, "JWT") && !strings.EqualFold(header.Type, "at+jwt"):
		return token{}, malformed("the user token's type is not that of an access token", "pass the access token itself, not what was made to prove or to end a session")
	}
	var ok bool
	if t.signature, ok = decodePart(parts[2]); !ok || !decode(parts[1], &t.claims) {
		return token{}, malformed("the user token cannot be read", "pass the access token exactly as it was issued")
	}
	t.keyID, t.signed = header.KeyID, raw[:len(parts[0])+1+len(parts[1])]
	return t, nil
}

func malformed(message, hint string) *Error {
	return &Error{Problem: Malformed, Message: message, Hint: hint}
}

func decode(part string, into any) bool {
	data, ok := decodePart(part)
	// null would decode into anything and say nothing.
	return ok && strings.HasPrefix(string(data), "{") && json.Unmarshal(data, into) == nil
}

// decodePart takes the one spelling that the data has: no padding, no bits that mean
// nothing, and none of the line breaks that the decoder would skip.
func decodePart(part string) ([]byte, bool) {
	if part == "" || strings.ContainsAny(part, "\r\n") {
		return nil, false
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(part)
	return data, err == nil
}
