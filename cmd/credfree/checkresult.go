package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/credfree/credfree/broker/policy"
)

// checked is what check found. Its JSON is part of the contract with scripts.
type checked struct {
	OK         bool      `json:"ok"` // exit code 0
	File       string    `json:"file"`
	Revision   string    `json:"revision,omitempty"` // "" when there are problems
	Agents     int       `json:"agents"`
	Identities int       `json:"identities"`
	Problems   []finding `json:"problems"`
	Warnings   []finding `json:"warnings"`
	Ceiling    string    `json:"ceiling,omitempty"`  // revision of the ceiling; "" without one
	FromPod    []said    `json:"from_pod,omitempty"` // values that the pod says

	quiet bool // say nothing of what is well
}

// said is a value of the policy that comes from the pod; "" when there is none.
type said struct {
	Path  string `json:"path"`
	Value string `json:"value"`
}

// finding is a problem or a warning of a policy file.
type finding struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // from 1; 0: the file as a whole
	Column  int    `json:"column"`
	Path    string `json:"path"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// checkPolicy reads a policy file and says what it finds. The error says that
// the file cannot be read at all.
func checkPolicy(path, ceiling string, now time.Time, strict bool) (*checked, error) {
	p, data, err := parsePolicyUnder(path, ceiling, podOf(os.Getenv))
	if problems, ok := errors.AsType[policy.Problems](err); ok {
		found := &checked{File: path, Problems: []finding{}, Warnings: []finding{}}
		for _, problem := range problems {
			found.Problems = append(found.Problems, finding(problem))
		}
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	return checkedPolicy(path, p, data, now, strict), nil
}

// checkedPolicy is what there is to say about a policy without problems.
func checkedPolicy(path string, p *policy.Policy, data []byte, now time.Time, strict bool) *checked {
	found := &checked{File: path, Problems: []finding{}, Warnings: []finding{}}
	for _, warning := range slices.Concat(p.Warnings, expiryWarnings(path, data, p, now)) {
		found.Warnings = append(found.Warnings, finding(warning))
	}
	slices.SortStableFunc(found.Warnings, func(a, b finding) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column)) })
	found.Revision, found.Agents, found.Identities = p.Revision, len(p.Agents), len(p.Identities)
	if ceiling := p.Ceiling(); ceiling != nil {
		found.Ceiling = ceiling.Revision
	}
	for _, value := range p.FromPod {
		found.FromPod = append(found.FromPod, said(value))
	}
	found.OK = !strict || len(found.Warnings) == 0
	return found
}

// expiryWarnings names the agents that have expired, or soon will.
func expiryWarnings(path string, data []byte, p *policy.Policy, now time.Time) []policy.Problem {
	var warnings []policy.Problem
	for _, agent := range p.Expiring(now, expirySoon) {
		day := agent.Expires.AddDate(0, 0, -1).Format(time.DateOnly)
		message := "the agent expires soon: its last day is " + day
		if !now.Before(agent.Expires) {
			message = "the agent has expired: its last day was " + day
		}
		line, column := placeOf(data, "agents", agent.Name, "expires")
		warnings = append(warnings, policy.Problem{
			File: path, Line: line, Column: column, Path: "agents." + agent.Name + ".expires", Message: message,
			Hint: "ask its owner whether it is still needed, and write a later day or remove the agent",
		})
	}
	return warnings
}

// placeOf finds a value of a YAML file; 0 and 0 when it is not there.
func placeOf(data []byte, path ...string) (line, column int) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil || len(document.Content) == 0 {
		return 0, 0
	}
	at := document.Content[0]
	for _, name := range path {
		var next *yaml.Node
		for i := 0; at.Kind == yaml.MappingNode && i+1 < len(at.Content); i += 2 {
			if at.Content[i].Value == name {
				next = at.Content[i+1]
			}
		}
		if next == nil {
			return 0, 0
		}
		at = next
	}
	return at.Line, at.Column
}

// print writes the result for people: what is wrong goes to stderr.
func (c *checked) print(std stdio) error {
	if len(c.Problems) > 0 {
		problems := make(policy.Problems, len(c.Problems))
		for i, found := range c.Problems {
			problems[i] = policy.Problem(found)
		}
		return problemsFailure(problems)
	}
	for _, warning := range c.Warnings {
		if c.quiet && c.OK {
			break
		}
		fmt.Fprintln(std.err, "warning: "+policy.Problem(warning).String())
		if warning.Hint != "" {
			fmt.Fprintln(std.err, "hint: "+warning.Hint)
		}
	}
	if !c.OK {
		return fail(exitError, errors.New(c.File+": warnings, and --strict-warnings was given: "+strconv.Itoa(len(c.Warnings))))
	}
	if c.quiet {
		return nil
	}
	for _, value := range c.FromPod {
		if value.Value != "" {
			fmt.Fprintf(std.err, "note: %s: the pod says %s\n", value.Path, value.Value)
		}
	}
	_, err := fmt.Fprintf(std.out, "%s: ok, revision %s, %d agents, %d identities, %d warnings\n", c.File, c.Revision, c.Agents, c.Identities, len(c.Warnings))
	return err
}

// printJSON writes the result for scripts, whatever it is.
func (c *checked) printJSON(w io.Writer) error {
	if err := encodeJSON(w, c); err != nil {
		return err
	}
	if !c.OK {
		return &failure{code: exitError, err: errSaid{}}
	}
	return nil
}

// errSaid ends a command with an exit code; its result has said it all.
type errSaid struct{}

func (errSaid) Error() string { return "" }
