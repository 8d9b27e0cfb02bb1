// Package exchange is a client of the Entra token endpoint: a workload token
// goes in, an access token comes out.
//
// It knows nothing of the broker's agents, policy or caches. An [Identity] says
// what is asked as, and may need several tokens to get to the last: each is a leg,
// one request of its own, and a [Keeper] keeps those in between. MSAL Go speaks the protocol
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
// a token of another kind, client, tenant, user or resource than the one asked for.
package exchange
