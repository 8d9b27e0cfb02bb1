package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/policy"
)

func explainCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "explain",
		Usage: "say what the broker would decide, and by which rule",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "agent", Usage: "`NAME` of the agent that asks"},
			&cli.StringFlag{Name: "scope", Usage: "`SCOPE` it asks for"},
			&cli.StringFlag{Name: "identity", Usage: "`NAME` of the identity it wants to act as"},
		},
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c, "config", "agent", "scope"); err != nil {
				return err
			}
			p, err := loadPolicy(c.String("config"))
			if err != nil {
				return err
			}
			name := c.String("agent")
			agent, ok := p.Agents[name]
			if !ok {
				return fail(exitError, fmt.Errorf("the policy has no agent %q", name), "credfree check --config "+c.String("config")+" reads the same file")
			}
			explanation := p.Explain(policy.Request{
				Peer: callerOf(agent), Agent: name, Identity: c.String("identity"), Scope: c.String("scope"), Now: time.Now(),
			})
			if err := printExplanation(std.out, explanation); err != nil {
				return err
			}
			if !explanation.Decision.Allowed {
				return &failure{code: exitDenied, err: errDenied{}}
			}
			return nil
		},
	}
}

// errDenied ends explain with its exit code; the explanation has said it all.
type errDenied struct{}

func (errDenied) Error() string { return "" }

// callerOf is a peer that the agent's first caller matches: explain asks about
// the agent, not about who could pass for it.
func callerOf(agent *policy.Agent) policy.Peer {
	if len(agent.Callers) == 0 {
		return policy.Peer{}
	}
	caller := agent.Callers[0]
	peer := policy.Peer{Socket: caller.Socket, KeyFile: caller.KeyFile}
	if len(caller.UIDs) > 0 {
		peer.UID, peer.Known = caller.UIDs[0], true
	}
	return peer
}

func printExplanation(w io.Writer, e policy.Explanation) error {
	for _, step := range e.Steps {
		mark := "yes"
		if !step.OK {
			mark = "no "
		}
		if _, err := fmt.Fprintf(w, "%d  %-9s %s  %s\n", step.Number, step.Name, mark, step.Detail); err != nil {
			return err
		}
		if step.Rule != "" {
			if _, err := fmt.Fprintf(w, "                  rule %s\n", step.Rule); err != nil {
				return err
			}
		}
	}
	if e.Decision.Allowed {
		_, err := fmt.Fprintf(w, "allowed by %s: identity %s, scope %s\n", e.Decision.Rule, e.Decision.Identity, e.Decision.Scope)
		return err
	}
	_, err := fmt.Fprintf(w, "denied: %s by %s\nhint: %s\n", e.Decision.Reason, e.Decision.Rule, e.Decision.Hint)
	return err
}
