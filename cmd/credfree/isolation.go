package main

import (
	"context"
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

// isolationState is reported and makes nobody wait: on a developer's machine
// all is one user's.
func (s *service) isolationState(context.Context) admin.PartState {
	problems, hints := exposures(s.inForce().Policy, ownUID(), visibleUIDs, s.undumpable)
	if len(problems) > 0 {
		return admin.PartState{Error: strings.Join(problems, "; "), Hint: strings.Join(slices.Compact(hints), "; ")}
	}
	return admin.PartState{OK: true, Detail: "no agent can read the broker's memory"}
}

// warnOfExposures says at the start what readiness says later.
func (s *service) warnOfExposures() {
	problems, hints := exposures(s.inForce().Policy, ownUID(), visibleUIDs, s.undumpable)
	for i, problem := range problems {
		s.cfg.log.Warn("isolation: "+problem, "hint", hints[i])
	}
}
