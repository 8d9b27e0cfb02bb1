package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/policy"
)

// ceilingFlag names the file that bounds what the policy file grants.
func ceilingFlag() *cli.StringFlag {
	return &cli.StringFlag{Name: "ceiling", Usage: "`FILE` of what the policy may grant at most", EnvVars: []string{"CREDFREE_CEILING"}}
}

// podOf returns what the pod says of itself, or nil where nothing is said.
func podOf(getenv func(string) string) *policy.Pod {
	pod := policy.Pod{ClientID: getenv("CREDFREE_POD_CLIENT_ID"), TenantID: getenv("CREDFREE_POD_TENANT_ID"), AgentID: getenv("CREDFREE_POD_AGENT_ID")}
	if pod == (policy.Pod{}) {
		return nil
	}
	return &pod
}

// brokersPod is podOf for who asks for tokens: where nothing is said, there is
// nothing to take from the pod, and a policy that wants to is wrong.
func brokersPod(getenv func(string) string) *policy.Pod {
	if pod := podOf(getenv); pod != nil {
		return pod
	}
	return new(policy.Pod)
}

// startPolicy reads what a broker starts with: its policy, of a file or, without
// one, as the environment made it, under its ceiling. A
// policy that is wrong ends the start; a ceiling that is wrong, or not there,
// lets nothing through until it is mended, which ceilingErr says.
func startPolicy(path string, made []byte, ceiling string, getenv func(string) string) (p *policy.Policy, w *policyWatch, ceilingErr, err error) {
	w = &policyWatch{policy: fileWatch{path: path}, ceiling: fileWatch{path: ceiling}, options: policy.Options{Pod: brokersPod(getenv)}}
	if ceiling != "" {
		w.options.Ceiling = new(policy.Ceiling)
		var read *policy.Ceiling
		if w.ceiling.applied, ceilingErr = readDocument(ceiling); ceilingErr == nil {
			read, ceilingErr = policy.ParseCeiling(ceiling, w.ceiling.applied)
		} else {
			w.ceiling.unread = ceilingErr.Error()
		}
		if ceilingErr == nil {
			w.options.Ceiling = read
		}
	}
	if path == "" {
		w.policy.applied = made
		p, err = policy.ParseWith(environmentName, made, w.options)
	} else {
		p, w.policy.applied, err = parsePolicy(path, w.options)
	}
	w.inForce = w.policy.applied
	return p, w, ceilingErr, listed(err)
}

// readCeiling reads a ceiling for a look at it. Its error lists every problem.
func readCeiling(path string) (*policy.Ceiling, error) {
	data, err := readDocument(path)
	if err != nil {
		return nil, fail(exitError, fmt.Errorf("the ceiling cannot be read: %w", err), "name it with --ceiling FILE")
	}
	return policy.ParseCeiling(path, data)
}

// readPolicy reads a policy under a ceiling, "" for none, to look at it: see
// podOf. Its error lists every problem.
func readPolicy(path, ceiling string) (*policy.Policy, []byte, error) {
	p, data, err := parsePolicyUnder(path, ceiling, podOf(os.Getenv))
	return p, data, listed(err)
}

// readBrokersPolicy is readPolicy for who asks for tokens: see brokersPod.
func readBrokersPolicy(path, ceiling string) (*policy.Policy, error) {
	p, _, err := parsePolicyUnder(path, ceiling, brokersPod(os.Getenv))
	return p, listed(err)
}

// listed makes the error that lists them of a policy's problems.
func listed(err error) error {
	if problems, ok := errors.AsType[policy.Problems](err); ok {
		return problemsFailure(problems)
	}
	return err
}

// parsePolicyUnder returns what is wrong with either file as policy.Problems.
func parsePolicyUnder(path, ceiling string, pod *policy.Pod) (*policy.Policy, []byte, error) {
	options := policy.Options{Pod: pod}
	if ceiling != "" {
		var err error
		if options.Ceiling, err = readCeiling(ceiling); err != nil {
			return nil, nil, err
		}
	}
	return parsePolicy(path, options)
}
