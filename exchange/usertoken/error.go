package usertoken

import "strconv"

// Problem says why a user's token is refused. The set is closed, so that it can be a
// metric label.
type Problem string

// The problems of a user's token.
const (
	Malformed       Problem = "malformed"        // not a token that Entra makes
	TooLarge        Problem = "too_large"        // larger than any that Entra makes
	WrongAlgorithm  Problem = "wrong_algorithm"  // signed with something but RS256
	UnknownKey      Problem = "unknown_key"      // the tenant publishes no such key
	BadSignature    Problem = "bad_signature"    // the tenant's key did not make it
	WrongIssuer     Problem = "wrong_issuer"     // of another authority, or not of its own tenant
	WrongTenant     Problem = "wrong_tenant"     // of a tenant that is not expected
	WrongAudience   Problem = "wrong_audience"   // for another API
	Expired         Problem = "expired"          // the user has to get a new one
	NotYetValid     Problem = "not_yet_valid"    // a clock is wrong
	NoExpiry        Problem = "no_expiry"        // it would be valid for ever
	AppOnly         Problem = "app_only"         // of an application, not of a user
	IDToken         Problem = "id_token"         // tells a client who signed in; opens nothing
	NotDelegated    Problem = "not_delegated"    // the user delegated nothing with it
	NoUser          Problem = "no_user"          // does not say which user, or of which tenant
	KeysUnavailable Problem = "keys_unavailable" // the tenant's keys are not at hand now
)

// Error says why a token is refused and what to change. It holds no part of the token
// but its public claims: issuer, tenant, audience and times.
type Error struct {
	Problem Problem
	Message string
	Hint    string
	Err     error // cause, of the network or a context; for logs
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether the same token can be accepted later without anybody
// editing anything.
func (e *Error) Temporary() bool { return e.Problem == KeysUnavailable }

// quote shows a public claim of a token that may be anybody's: printable and bounded.
func quote(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.QuoteToASCII(s)
}
