package main

import (
	"context"
	"errors"
	"testing"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/entratest"
	"github.com/credfree/credfree/exchange/usertoken"
	"github.com/credfree/credfree/exchange/workload"
)

// connected is a source that is of no use once it is closed.
type connected struct{ closed bool }

func (c *connected) Assertion(context.Context) (workload.Assertion, error) {
	if c.closed {
		return workload.Assertion{}, errors.New("closed")
	}
	return workload.Assertion{}, nil
}

func (c *connected) Close() error {
	c.closed = true
	return nil
}

// A policy takes over the sources that it has in common with the one before, and
// closes the others: exchanges of agents that it does not touch go on.
func TestSourcesAreTakenOver(t *testing.T) {
	const kept = `spiffe: {socket: "unix:///run/a.sock", id: "spiffe://x.example/a"}`
	for name, test := range map[string]struct {
		source, audience string // of the policy to come
		kept             bool
	}{
		"the same":         {"pod: {" + kept + "}", entratest.TokenExchangeAudience, true},
		"one more":         {"pod: {" + kept + "}, other: {file: {path: /t}}", entratest.TokenExchangeAudience, true},
		"another socket":   {`pod: {spiffe: {socket: "unix:///run/b.sock", id: "spiffe://x.example/a"}}`, entratest.TokenExchangeAudience, false},
		"another id":       {`pod: {spiffe: {socket: "unix:///run/a.sock", id: "spiffe://x.example/b"}}`, entratest.TokenExchangeAudience, false},
		"another kind":     {"pod: {file: {path: /t}}", entratest.TokenExchangeAudience, false},
		"another name":     {"rod: {" + kept + "}", entratest.TokenExchangeAudience, false},
		"another audience": {"pod: {" + kept + "}", "api://another", false},
		"none":             {"", entratest.TokenExchangeAudience, false},
	} {
		t.Run(name, func(t *testing.T) {
			users := &usertoken.Verifier{}
			of := func(sources, audience string) *ruleSet {
				p, err := policy.Parse("credfree.yaml", []byte("version: 1\ntenant: "+entratest.DemoTenantID+"\nsources: {"+sources+"}\nidentities: {}\nagents: {}\n"))
				check(t, err)
				return &ruleSet{Rules: broker.Rules{Policy: p, Users: users}, sources: map[string]*watched{}, audience: audience}
			}
			before := of("pod: {"+kept+"}", entratest.TokenExchangeAudience)
			source := &connected{}
			before.sources["pod"] = &watched{Source: source}
			after := of(test.source, test.audience)
			check(t, after.makeSources(before))
			if got := after.sources["pod"] == before.sources["pod"]; got != test.kept {
				t.Errorf("taken over: %t, want %t", got, test.kept)
			}
			check(t, before.close(after))
			if source.closed == test.kept {
				t.Errorf("closed: %t, want %t", source.closed, !test.kept)
			}
			if test.kept { // and given up in the end
				check(t, after.close(nil))
				if !source.closed {
					t.Error("the last policy to have it did not close it")
				}
			}
		})
	}
}
