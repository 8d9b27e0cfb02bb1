// Package localapi owns the HTTP doors through which agents ask: decode,
// Broker.Issue, render.
//
// Each door speaks one protocol that agents already know, in files of its own:
// OAuth 2.0 (oauth.go, grant.go, target.go, entra.go, introspect.go, challenge.go,
// metadata.go) and the endpoints that the clients of managed identities know (managedidentity.go,
// selector.go), and those of Microsoft's own sidecar (authsidecar*.go). The last
// door hands out no token: it calls the API itself (callthrough*.go). error.go
// says what every refusal means; each door renders it in the shape, and with the
// status, that its clients understand and do not retry in vain. The package
// decides nothing, believes no header about who calls, and answers no browser:
// the same guard stands before every door. openapi.yaml describes them all, and
// is held against them by tests.
package localapi
