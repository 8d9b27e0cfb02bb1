// Package issuance owns the record of one issuance.
//
// An issuance is one answered request, whatever the answer: allowed, denied,
// reused or failed. Its [Record] becomes these things, always together and
// always from the same fields: one span named token.issue (or token.inspect, which
// issues nothing), one line of the audit log, the metrics, and what operators look
// at. The audit line is written before the caller may hand the token out; if it
// cannot be written, there is no token, unless the policy says so. Where audit
// records are exported, that is a copy, and never in the line's place.
//
// [Fields] and [Schema] say what a line is. [File] is a log that others may
// rotate; [Chain] numbers and seals its lines, and [Verifier] follows it.
//
// Nothing secret can enter a Record: it has no field for a token, an
// assertion, a key, a body or a query string, and what a caller sent freely is
// bounded and filtered first (see [Scopes]). With [Pseudonyms], nothing that is
// made of a Record names a user.
package issuance
