// Package issuance owns the record of one issuance.
//
// An issuance is one answered request, whatever the answer: allowed, denied,
// reused or failed. Its [Record] becomes three things, always together and
// always from the same fields: one span named token.issue (or token.inspect, which issues nothing), one line of the
// audit log, and the metrics. The audit line is written before the caller may
// hand the token out; if it cannot be written, there is no token.
//
// Nothing secret can enter a Record: it has no field for a token, an
// assertion, a key, a body or a query string, and what a caller sent freely is
// bounded and filtered first (see [Scopes]).
package issuance
