// Package usertoken verifies the access token of a user that an agent presents,
// before anything is asked on the user's behalf.
//
// A [Verifier] takes a token only when Entra signed it (RS256, with a key that the
// user's own tenant publishes), for one of the expected applications, in one of the
// expected tenants, for now, and for a user. Entra would look as well, but what the
// broker decides about the user's tenant, groups and client rests on these claims, and
// a token answered from a cache is never shown to Entra.
//
// What a token is refused for is a [Problem] of its own, checked in this order: its
// form, whom it is for, its signature, its times, its kind. Whom it is for comes before
// the signature because it decides whose keys are looked at; so a token for somebody
// else costs no request, and its refusal tells what it claims, not what it proves.
//
// Keys come from the tenant's OIDC metadata (OpenID Connect Discovery 1.0 §4) and are
// kept. A key id that nobody knows makes the Verifier look again, but not often: a few
// times at once, then every ten seconds, and for the same id only every half minute. While
// it looks, tokens with known keys do not wait. Keys that cannot be fetched again work
// for another day.
//
// The signature is checked over the text as it came, and every part of it has one
// spelling only: a token with any byte changed is another token, and is refused.
//
// The package refuses to take an id token, an app-only token or a token for another API,
// to name a user by anything but tenant and object id, to follow redirects or metadata
// that leads away from the authority, to ask for keys in the name of a tenant that is
// not expected, and to put any part of a token into an error but its public claims:
// issuer, tenant, audience and times. It does not ask Entra whether a token was revoked,
// and takes group names for no groups: an application must be set up to emit group ids.
package usertoken
