package exchange

import (
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/credfree/credfree/exchange/workload"
)

// answer is the part of a token answer (RFC 6749 §5.1) that is used.
type answer struct {
	AccessToken string  `json:"access_token"`
	TokenType   string  `json:"token_type"`
	ExpiresIn   seconds `json:"expires_in"`
	RefreshIn   seconds `json:"refresh_in"`

	RefreshToken string `json:"refresh_token"`
}

// seconds is a number, or a string that holds one, as Entra has sent both.
type seconds time.Duration

// mostSeconds is a year: no token lives longer, and no arithmetic overflows.
const mostSeconds = 365 * 24 * 3600

func (s *seconds) UnmarshalJSON(data []byte) error {
	n, err := strconv.ParseInt(strings.Trim(string(data), `"`), 10, 64)
	if err != nil {
		return err
	}
	*s = seconds(time.Duration(min(max(n, 0), mostSeconds)) * time.Second)
	return nil
}

// parseAnswer accepts what MSAL would accept and a bearer token can be: the
// text of the token reaches no error, whatever is wrong with the rest.
func parseAnswer(body []byte) (*answer, *Error) {
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, malformed("the answer is not the JSON of a token answer, or is cut off")
	}
	switch {
	case a.AccessToken == "":
		return nil, malformed("the answer holds no access_token")
	case !bearer(a.AccessToken):
		return nil, malformed("the answer's access_token has characters no bearer token has")
	case !strings.EqualFold(a.TokenType, "Bearer"):
		return nil, malformed("the answer's token_type is not Bearer")
	case a.ExpiresIn <= 0:
		return nil, malformed("the answer's expires_in is missing or not positive")
	}
	return &a, nil
}

// bearer reports whether s is a b64token of RFC 6750 §2.1, the only text that
// is safe in an Authorization header and in JSON as it is.
func bearer(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("-._~+/=", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// refusal reads an error answer (RFC 6749 §5.2, with Entra's members).
// error_description is left where it is: it is Entra's prose, and may quote
// what was sent.
func refusal(resp *http.Response, body []byte, now time.Time) *Error {
	var said struct {
		Error    string `json:"error"`
		Suberror string `json:"suberror"`
		Codes    []int  `json:"error_codes"`
		Claims   string `json:"claims"`
	}
	mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	understood := err == nil && strings.HasSuffix(mediaType, "json") && json.Unmarshal(body, &said) == nil && said.Error != ""
	e := &Error{RetryAfter: workload.RetryAfter(resp.Header.Get("Retry-After"), now)}
	if understood {
		e.Code, e.Suberror, e.Codes = word(said.Error), word(said.Suberror), said.Codes[:min(len(said.Codes), 8)]
		if len(said.Claims) <= 16<<10 && json.Valid([]byte(said.Claims)) {
			e.Claims = said.Claims
		}
	}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests || throttled(e.Codes):
		e.Reason, e.Message = EntraThrottled, "Entra is throttling this client"
		e.Hint = "wait before asking again; if it lasts, something asks Entra for this client without a cache"
	case resp.StatusCode >= 500 || transient(e.Codes) || e.Code == "temporarily_unavailable" || e.Code == "server_error":
		e.Reason, e.Message = EntraUnavailable, "Entra answered with status "+strconv.Itoa(resp.StatusCode)
		e.Hint = "it is an outage at or before the authority; the broker asks again by itself, within seconds"
	case understood:
		e.Reason, e.Message = EntraRejected, "Entra refused: "+e.Code+codesText(e.Codes)
	default:
		return malformed("status " + strconv.Itoa(resp.StatusCode) + " came without an OAuth error")
	}
	return e
}

// word keeps an error code to the characters RFC 6749 §5.2 gives it.
func word(s string) string {
	if len(s) > 64 {
		return ""
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return ""
		}
	}
	return s
}

func codesText(codes []int) string {
	if len(codes) == 0 {
		return ""
	}
	return " (AADSTS" + strconv.Itoa(codes[0]) + ")"
}
