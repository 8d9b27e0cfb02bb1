// Package workload owns where the platform's proof of identity comes from.
//
// A workload token (RFC 7521 calls it an assertion) is a short-lived JWT that
// the platform signs for the process beside which the broker runs: a projected
// Kubernetes service account token, for instance. A Source fetches one; an
// Assertion carries it with the claims Entra will compare to a federated
// identity credential, so that a mismatch can be explained before Entra is
// asked.
//
// The package verifies no signature: the token is the platform's word about
// us, and Entra is its judge. It never logs and never puts token text in an
// error.
package workload
