package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/exchange"
	"github.com/credfree/credfree/exchange/workload"
)

// auditPart is the part that the audit log is.
const auditPart = "audit"

// parts are what /readyz looks at. A broker without a workload token or an
// audit log cannot serve; one that does not reach Entra still can, from its
// cache.
func (s *service) parts() []admin.Part {
	rules := s.inForce()
	parts := []admin.Part{
		{Name: "policy", Check: s.policyState},
		{Name: auditPart, Check: s.auditState, ReportOnly: rules.Policy.Recording.BestEffort},
		{Name: "entra", Check: s.entraState, ReportOnly: true},
		{Name: "isolation", Check: s.isolationState, ReportOnly: true},
		{Name: "agents", Check: s.agentsState, ReportOnly: true},
	}
	if s.cfg.ceiling {
		parts = append(parts, admin.Part{Name: "ceiling", Check: s.ceilingState})
	}
	for name, source := range rules.sources {
		parts = append(parts, admin.Part{Name: "source " + name, Check: sourceState(source)})
	}
	if keys := rules.Keys; keys.Len() > 0 {
		parts = append(parts, admin.Part{Name: "keys", Check: func(context.Context) admin.PartState { return keysState(keys) }})
	}
	return parts
}

// inForce returns the rules that the broker works by.
func (s *service) inForce() *ruleSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rules
}

// policyState is not well while the file on the disk is not what is in force:
// somebody meant something else to be.
func (s *service) policyState(context.Context) admin.PartState {
	s.mu.Lock()
	p, failed, hint := s.rules.Policy, s.reload.failed, s.reload.hint
	s.mu.Unlock()
	detail := fmt.Sprintf("revision %s, %d agents, %d warnings", p.Revision, len(p.Agents), len(p.Warnings))
	if failed != nil {
		return admin.PartState{Detail: detail, Error: "the policy file is not in force: " + failed.Error(), Hint: hint}
	}
	return admin.PartState{OK: true, Detail: detail}
}

// ceilingState is not well while the file on the disk is not what is in force:
// what holds then is the last valid one, or that nobody gets anything.
func (s *service) ceilingState(context.Context) admin.PartState {
	s.mu.Lock()
	ceiling, failed := s.rules.Policy.Ceiling(), s.ceilingFailed
	s.mu.Unlock()
	detail := "none was ever valid: nobody gets a token"
	if ceiling != nil && ceiling.Revision != "" {
		detail = "revision " + ceiling.Revision
	}
	if failed != nil {
		return admin.PartState{Detail: detail, Error: "the ceiling is not in force: " + failed.Error(), Hint: "mend it: credfree check --ceiling names every problem"}
	}
	return admin.PartState{OK: true, Detail: detail}
}

// agentsState names the agents that have expired, or soon will.
func (s *service) agentsState(context.Context) admin.PartState {
	p, now := s.inForce().Policy, time.Now()
	expiring := p.Expiring(now, expirySoon)
	if len(expiring) == 0 {
		return admin.PartState{OK: true, Detail: fmt.Sprintf("none of %d expires within 30 days", len(p.Agents))}
	}
	words := make([]string, len(expiring))
	for i, agent := range expiring {
		words[i] = agent.Name + " expires after " + agent.Expires.AddDate(0, 0, -1).Format(time.DateOnly)
		if !now.Before(agent.Expires) {
			words[i] = agent.Name + " has expired"
		}
	}
	return admin.PartState{Error: strings.Join(words, ", "), Hint: "ask their owners whether they are still needed, and change expires"}
}

func (s *service) entraState(context.Context) admin.PartState {
	at, err := s.broker.LastExchange()
	if at.IsZero() {
		return admin.PartState{OK: true, Detail: "not asked yet"}
	}
	when := "last asked at " + at.UTC().Format(time.RFC3339)
	failure, failed := errors.AsType[*exchange.Error](err)
	switch {
	case failed && refusal(failure):
		return admin.PartState{OK: true, Detail: when + ", and it answered: " + failure.Message}
	case failed:
		return admin.PartState{Detail: when, Error: failure.Message, Hint: failure.Hint}
	}
	return admin.PartState{OK: true, Detail: when}
}

// refusal reports whether a failure is about the request, and none of Entra's.
func refusal(failure *exchange.Error) bool {
	return failure.Reason == exchange.EntraRejected || failure.Reason == exchange.TokenMismatch
}

func sourceState(source *watched) func(context.Context) admin.PartState {
	return func(ctx context.Context) admin.PartState {
		until, err := source.state(ctx)
		if problem, ok := errors.AsType[*workload.Error](err); ok {
			return admin.PartState{Error: problem.Message, Hint: problem.Hint}
		}
		if err != nil {
			return admin.PartState{Error: err.Error()}
		}
		if !time.Now().Before(until) {
			return admin.PartState{Error: "the last workload token has expired", Hint: "the next exchange asks for another"}
		}
		return admin.PartState{OK: true, Detail: "valid until " + until.UTC().Format(time.RFC3339)}
	}
}

func keysState(keys *peer.Keys) admin.PartState {
	if problems := keys.Problems(); len(problems) > 0 {
		return admin.PartState{Error: errors.Join(problems...).Error(), Hint: "until then its agents are unknown callers"}
	}
	return admin.PartState{OK: true}
}
