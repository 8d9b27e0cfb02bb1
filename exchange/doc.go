// Package exchange is a client of the Entra token endpoint: a workload token
// goes in, an access token comes out.
//
// It knows nothing of agents, policy or caches. MSAL Go speaks the protocol
// and is kept stateless: each exchange gets a fresh confidential.Client over
// one shared transport, so that nothing MSAL remembers can answer another
// request. Between MSAL and the network stands a [call], which sends one token
// request to one URL, follows no redirect, reads a bounded answer, and turns
// every refusal into an *Error that holds no body.
//
// Failures are met with patience, in one table: see [patience]. What Entra asks
// of one request, such as to wait, holds for all of the same tenant and client.
//
// The package refuses to cache, to repeat what cannot succeed, to ask while Entra
// wants to be left alone, to verify a workload token's signature, and to release
// a token of another kind than the one asked for.
package exchange
