package managedidentity

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// answer is a token answer after it has been found to be one.
type answer struct {
	token               string
	lifetime, refreshIn time.Duration
	source              string
	echo                identityEcho
}

// identityEcho is the identity that the endpoint says it used. MSAL compares it
// with the one asked for where endpoints are known to ignore names.
type identityEcho struct {
	ClientID      string `json:"client_id,omitempty"`
	ObjectID      string `json:"object_id,omitempty"`
	MSIResourceID string `json:"msi_res_id,omitempty"`
	ResourceID    string `json:"mi_res_id,omitempty"`
}

// shown is what MSAL sees of an answer. Without a token there is nothing that it
// could keep.
func (a *answer) shown() []byte {
	if a == nil {
		return nil
	}
	data, err := json.Marshal(struct {
		identityEcho
		ExpiresIn string `json:"expires_in"`
	}{a.echo, "1"})
	if err != nil {
		return nil
	}
	return data
}

// halfLife is the life from which on a token is to be replaced at half of it, as
// Microsoft's libraries do when the endpoint does not say when.
const halfLife = 2 * time.Hour

// parseAnswer accepts a bearer token whose end is known. began is when it was asked
// for. The platforms write numbers as numbers or in strings, some the remaining
// seconds, some the moment of the end, and some both: the earlier one counts.
func parseAnswer(p platform, body []byte, began time.Time) (*answer, *Error) {
	var said struct {
		AccessToken string          `json:"access_token"`
		TokenType   string          `json:"token_type"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
		ExpiresOn   json.RawMessage `json:"expires_on"`
		RefreshIn   json.RawMessage `json:"refresh_in"`
		identityEcho
	}
	if json.Unmarshal(body, &said) != nil {
		return nil, malformed(p.who + " gave something that is not the JSON of a token answer")
	}
	switch {
	case said.AccessToken == "":
		return nil, malformed(p.who + " gave an answer without a token")
	case !bearer(said.AccessToken):
		return nil, malformed(p.who + " gave a token with characters that no bearer token has")
	case said.TokenType != "" && !strings.EqualFold(said.TokenType, "Bearer"):
		return nil, malformed(p.who + " gave a token that is not a bearer token")
	}
	life, known := seconds(said.ExpiresIn)
	if end, ok := date(said.ExpiresOn); ok {
		if left := min(end.Sub(began), mostLife); !known || left < life {
			life, known = left, true
		}
	}
	switch {
	case !known:
		return nil, malformed(p.who + " does not say when its token ends")
	case life <= 0:
		return nil, &Error{Problem: Malformed, Message: p.who + " gave a token that has expired", Hint: "check this machine's clock"}
	}
	a := &answer{token: said.AccessToken, lifetime: life, source: p.source, echo: said.identityEcho}
	if refresh, ok := seconds(said.RefreshIn); ok && refresh > 0 && refresh < life {
		a.refreshIn = refresh
	} else if life > halfLife {
		a.refreshIn = life / 2
	}
	return a, nil
}

// mostLife is a year: no token lives longer, and no arithmetic overflows.
const mostLife = 365 * 24 * time.Hour

// seconds reads a number of seconds from a number or a string. ok is false when
// there is none.
func seconds(raw json.RawMessage) (d time.Duration, ok bool) {
	n, err := strconv.ParseFloat(text(raw), 64)
	if err != nil || n != n {
		return 0, false
	}
	return time.Duration(min(max(n, 0), mostLife.Seconds())) * time.Second, true
}

// latestDate is the last second of the year 9999.
const latestDate = 253402300799

// dateForms are those that endpoints have written, beside seconds since 1970. A
// form without a zone is UTC.
var dateForms = []string{time.RFC3339, "2006-01-02 15:04:05", "01/02/2006 15:04:05", "01/02/2006 15:04:05 -07:00", "1/2/2006 3:04:05 PM -07:00"}

// date reads a moment. ok is false when there is none.
func date(raw json.RawMessage) (t time.Time, ok bool) {
	s := text(raw)
	if n, err := strconv.ParseFloat(s, 64); err == nil && n == n {
		return time.Unix(int64(min(max(n, 0), latestDate)), 0), true
	}
	for _, form := range dateForms {
		if t, err := time.Parse(form, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// text is a JSON string or number without its quotes.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return strings.TrimSpace(s)
	}
	return string(raw)
}

// bearer reports whether s is a b64token of RFC 6750 §2.1, the only text that is
// safe in an Authorization header and in JSON as it is.
func bearer(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._~+/=", c)
	})
}
