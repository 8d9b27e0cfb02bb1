// Package localapi owns the HTTP doors through which agents ask: decode,
// Broker.Issue, render.
//
// Each door is one file and speaks one protocol that agents already know;
// error.go renders every refusal. The package decides nothing, believes no
// header about who calls, and answers no browser: the same guard stands before
// every door.
package localapi
