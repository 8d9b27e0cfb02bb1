package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/broker/policy"
)

// exposures says how an agent could read the broker's memory, and with it what
// no answer ever holds. Each comes with what to change.
func exposures(p *policy.Policy, own uint32, visible func() (map[uint32]bool, error), undumpable error) (problems, hints []string) {
	agents := map[uint32][]string{}
	for _, name := range slices.Sorted(maps.Keys(p.Agents)) {
		for _, caller := range p.Agents[name].Callers {
			for _, uid := range caller.UIDs {
				if !slices.Contains(agents[uid], name) {
					agents[uid] = append(agents[uid], name)
				}
			}
		}
	}
	if names := agents[own]; len(names) > 0 {
		problems = append(problems, fmt.Sprintf("the broker runs as uid %d, and so do agents %s", own, strings.Join(names, ", ")))
		hints = append(hints, "run the broker as a user of its own: who has its uid can read the workload token and its files")
	}
	if undumpable != nil {
		problems = append(problems, "the broker's memory can be dumped: "+undumpable.Error())
		hints = append(hints, "let the broker call prctl and setrlimit: its memory holds tokens")
	}
	seen, err := visible()
	if err != nil {
		return append(problems, "it cannot be told which processes there are: "+err.Error()), append(hints, "mount /proc in the broker's container")
	}
	for _, uid := range slices.Sorted(maps.Keys(agents)) {
		if uid != own && seen[uid] {
			problems = append(problems, fmt.Sprintf("the broker shares its process namespace with agents %s (uid %d)", strings.Join(agents[uid], ", "), uid))
			hints = append(hints, "leave shareProcessNamespace off, or run the broker in a container of its own")
		}
	}
	return problems, hints
}

// isolation is what stands between the agents and what only the broker may
// have: all the guardrails in a pod, the exposures alone elsewhere, where the
// rest of the machine is nobody's business.
func (s *service) isolation() (problems, hints []string) {
	p := s.inForce().Policy
	if !s.cfg.inPod {
		return exposures(p, ownUID(), visibleUIDs, s.undumpable)
	}
	facts := podFactsOf(p, s.cfg.socketDir, s.cfg.socketFolders, s.undumpable)
	if imds := s.imds.Load(); imds != nil {
		facts.imds = *imds
	}
	for _, step := range guardrails(facts, p) {
		if step.State == stepFailed || step.State == stepWarning {
			problems, hints = append(problems, step.Detail), append(hints, step.Hint)
		}
	}
	return problems, hints
}

// isolationState is reported and makes nobody wait: on a developer's machine
// all is one user's.
func (s *service) isolationState(context.Context) admin.PartState {
	problems, hints := s.isolation()
	if len(problems) > 0 {
		return admin.PartState{Error: strings.Join(problems, "; "), Hint: strings.Join(slices.Compact(hints), "; ")}
	}
	if s.cfg.inPod {
		return admin.PartState{OK: true, Detail: "nothing that the broker can see of its pod lets an agent past it"}
	}
	return admin.PartState{OK: true, Detail: "no agent whose uid the policy names can read the broker's memory"}
}

// errNotLinux is why nothing is known of a process, or of files, elsewhere.
var errNotLinux = errors.New("this is known on Linux only")

// warnOfExposures says at the start what readiness says later. Only here is the
// machine's endpoint asked: it does not come and go.
func (s *service) warnOfExposures() {
	if s.cfg.inPod {
		imds := askIMDS(imdsURL)
		s.imds.Store(&imds)
	}
	problems, hints := s.isolation()
	for i, problem := range problems {
		s.cfg.log.Warn("isolation: "+problem, "hint", hints[i])
	}
	if s.cfg.inPod && len(problems) == 0 {
		s.cfg.log.Info("isolation: nothing that can be seen of the pod lets an agent past the broker")
	}
}
