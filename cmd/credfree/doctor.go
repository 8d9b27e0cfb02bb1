package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/managedidentity"
)

func doctorCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "walk from the workload token to the Entra token of each identity, and say what to change",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "identity", Usage: "`NAME` of the one identity to walk for; NAME/MEMBER is one of a fleet"},
			&cli.StringFlag{Name: "scope", Usage: "`SCOPE` to ask for (default: one that the policy allows, else Microsoft Graph's .default)"},
			&cli.BoolFlag{Name: "credentials", Usage: "print the federated identity credentials that Entra needs, whatever is well"},
			&cli.BoolFlag{Name: "in-pod", Usage: "look at the pod around this very process instead: whether agents could get past the broker"},
			&cli.StringFlag{Name: "socket-dir", Usage: "with --in-pod: `FOLDER` of the agents' unix sockets", Value: defaultSocketDir, EnvVars: []string{"CREDFREE_SOCKET_DIR"}},
			&cli.BoolFlag{Name: "socket-folders", Usage: "with --in-pod: each socket is in a folder of its own", EnvVars: []string{"CREDFREE_SOCKET_FOLDERS"}},
			&cli.StringFlag{Name: "pod", Usage: "look at the pods of a manifest instead: kubectl get pod NAME -o yaml into `FILE`, or - for standard input"},
			&cli.StringFlag{Name: "container", Usage: "with --pod: `NAME` of the broker's container (default: credfree, or what runs credfree serve)"},
			&cli.StringFlag{Name: "format", Usage: "`FORMAT` of the report: text or json", Value: "text"},
		},
		Action: func(c *cli.Context) error {
			options := doctorOptions{
				config: c.String("config"), identity: c.String("identity"), scope: c.String("scope"),
				credentials: c.Bool("credentials"), format: c.String("format"),
				socketDir: c.String("socket-dir"), socketFolders: c.Bool("socket-folders"), pod: c.String("pod"), container: c.String("container"),
			}
			if options.pod != "" && c.Bool("in-pod") {
				return fail(exitUsage, errors.New("--pod and --in-pod exclude each other"), "--in-pod looks at the pod around this process, --pod at a manifest")
			}
			if err := options.walkOrPod(c); err != nil {
				return err
			}
			if options.pod != "" {
				if err := flagsOnly(c); err != nil {
					return err
				}
				return diagnoseManifest(c.App.Reader, std, options)
			}
			if err := flagsOnly(c, "config"); err != nil {
				return err
			}
			if c.Bool("in-pod") {
				return diagnosePod(std, options)
			}
			return diagnose(c.Context, std, options)
		},
	}
}

// doctorOptions are the flags of the command.
type doctorOptions struct {
	config, identity, scope, format string
	credentials                     bool
	socketDir, pod, container       string
	socketFolders                   bool
}

// walkOrPod refuses flags of the one that are given for the other: nothing would
// come of them.
func (o doctorOptions) walkOrPod(c *cli.Context) error {
	inPod := c.Bool("in-pod")
	for _, name := range []string{"identity", "scope", "credentials"} {
		if c.IsSet(name) && (inPod || o.pod != "") {
			return fail(exitUsage, fmt.Errorf("--%s is about the walk to a token", name), "leave it out, or leave out --in-pod and --pod")
		}
	}
	switch {
	case o.container != "" && o.pod == "":
		return fail(exitUsage, errors.New("--container names one of a manifest"), "add --pod FILE")
	case given(c, "socket-dir", "CREDFREE_SOCKET_DIR") && !inPod:
		return fail(exitUsage, errors.New("--socket-dir is about the pod around this process"), "add --in-pod")
	case given(c, "config", "CREDFREE_CONFIG") && o.pod != "":
		return fail(exitUsage, errors.New("--config and --pod exclude each other"), "a manifest is judged by itself")
	}
	return nil
}

func (o doctorOptions) checkFormat() error {
	if o.format != "text" && o.format != "json" {
		return fail(exitUsage, fmt.Errorf("format %q is neither text nor json", o.format), "without --format it is text")
	}
	return nil
}

// diagnose prints a report, and returns an error that says how bad it is.
func diagnose(ctx context.Context, std stdio, options doctorOptions) error {
	if err := options.checkFormat(); err != nil {
		return err
	}
	p, err := readBrokersPolicy(options.config, "")
	if err != nil {
		return err
	}
	d, err := newDoctor(p, os.Getenv)
	if err != nil {
		return err
	}
	d.scope, d.credentials = options.scope, options.credentials
	found, err := d.walk(ctx, options.identity)
	if err := errors.Join(err, d.close()); err != nil {
		return err
	}
	if options.format == "json" {
		err = found.writeJSON(std.out)
	} else {
		err = found.writeText(std.out)
	}
	return errors.Join(err, found.outcome())
}

// diagnosis is what the doctor found. Its JSON is part of the contract with
// scripts.
type diagnosis struct {
	Identities []findings `json:"identities"`
}

// findings are what the doctor found about one identity, or one of a fleet.
type findings struct {
	Name       string               `json:"name"`
	OK         bool                 `json:"ok"` // no step has failed
	Steps      []step               `json:"steps"`
	Credential *federatedCredential `json:"federated_credential,omitempty"`
}

// step is one step on the way from the workload token to the Entra token.
type step struct {
	Name   string    `json:"name"`
	OK     bool      `json:"ok"` // stepOK or stepWarning
	State  stepState `json:"state"`
	Detail string    `json:"detail"`
	Hint   string    `json:"hint,omitempty"`
	Notes  []string  `json:"notes,omitempty"`
	Codes  []int     `json:"aadsts,omitempty"` // numbers of Entra's refusal

	refused bool // by Entra
}

type stepState string

const (
	stepOK      stepState = "ok"
	stepWarning stepState = "warning" // perhaps wrong, and not known from here
	stepFailed  stepState = "failed"
	stepSkipped stepState = "skipped" // for want of an earlier one
)

func passed(name, detail string, notes ...string) step {
	return step{Name: name, OK: true, State: stepOK, Detail: detail, Notes: notes}
}

func doubted(name, detail, hint string) step {
	return step{Name: name, OK: true, State: stepWarning, Detail: detail, Hint: hint}
}

func failed(name, detail, hint string) step {
	return step{Name: name, State: stepFailed, Detail: detail, Hint: hint}
}

func skipped(name, because string) step {
	return step{Name: name, State: stepSkipped, Detail: because}
}

// doctor walks through the chain of each identity of a policy, as a broker
// would, and asks nothing twice.
type doctor struct {
	policy      *policy.Policy
	scope       string // "" for one of the policy's
	credentials bool   // print them in any case
	now         func() time.Time

	entra   http.RoundTripper // to the authority
	tokens  http.RoundTripper // to the token endpoint: entra, or the proxy of an identity binding
	outside http.RoundTripper // to issuers
	machine *managedidentity.Client

	platforms   map[string]*platformFindings // by source
	authorities map[string]authorityFindings // by tenant
}

func newDoctor(p *policy.Policy, getenv func(string) string) (*doctor, error) {
	entra, err := entraTransport(p.Cloud)
	if err != nil {
		return nil, err
	}
	tokens, err := identityBinding(getenv, p.Cloud.Authority, entra)
	if err != nil {
		return nil, err
	}
	outside, err := issuerTransport(p.Cloud)
	if err != nil {
		return nil, err
	}
	machine, err := managedidentity.New(managedidentity.Config{Transport: &http.Transport{}})
	return &doctor{policy: p, now: time.Now, entra: entra, tokens: tokens, outside: outside, machine: machine,
		platforms: map[string]*platformFindings{}, authorities: map[string]authorityFindings{}}, err
}

// close ends the sources that were opened.
func (d *doctor) close() error {
	var problems []error
	for _, platform := range d.platforms {
		if closer, ok := platform.source.(io.Closer); ok {
			problems = append(problems, closer.Close())
		}
	}
	return errors.Join(problems...)
}

// bound says that token requests go to the proxy of an identity binding.
func (d *doctor) bound() bool { return d.tokens != d.entra }

// audience is what workload tokens have to be meant for.
func (d *doctor) audience() string {
	if d.bound() {
		return bindingAudience
	}
	return d.policy.Cloud.Audience
}

// walk examines the identities that only names: "" for all of the policy's.
func (d *doctor) walk(ctx context.Context, only string) (diagnosis, error) {
	found := diagnosis{Identities: []findings{}}
	for _, name := range slices.Sorted(maps.Keys(d.policy.Identities)) {
		for _, m := range membersOf(name, d.policy.Identities[name]) {
			if only == "" || only == name || only == name+"/"+m.member {
				found.Identities = append(found.Identities, d.examine(ctx, m))
			}
		}
		if err := ctx.Err(); err != nil {
			return found, err
		}
	}
	if only != "" && len(found.Identities) == 0 {
		return found, fail(exitError, fmt.Errorf("the policy has no identity %q", only),
			"it has "+strings.Join(slices.Sorted(maps.Keys(d.policy.Identities)), ", "))
	}
	return found, nil
}

// examine walks through the chain of one identity.
func (d *doctor) examine(ctx context.Context, m fleetMember) findings {
	found := findings{Name: m.name, OK: true}
	switch {
	case m.ManagedIdentity != nil:
		found.Steps = d.managedIdentity(ctx, m)
	default:
		platform := d.platform(ctx, m.Source())
		authority := d.authority(ctx, m.Tenant)
		found.Steps = append(slices.Clone(platform.steps), authority.step)
		found.Steps = append(found.Steps, d.exchange(ctx, m, platform, authority)...)
		if platform.federable() && (d.credentials || slices.ContainsFunc(found.Steps, aboutFederation)) {
			found.Credential = d.credential(m, platform.assertion)
		}
	}
	for _, s := range found.Steps {
		found.OK = found.OK && (s.OK || s.State == stepSkipped)
	}
	return found
}

// federationCodes are the numbers of the refusals that a federated identity
// credential remedies, or that come before there can be one.
var federationCodes = []int{70021, 70025, 700016, 700211, 700212, 700213, 7000229, 7002137, 7002138}

func aboutFederation(s step) bool {
	return slices.ContainsFunc(s.Codes, func(code int) bool { return slices.Contains(federationCodes, code) })
}

// errUnwell ends doctor with its exit code; the report has said it all.
type errUnwell struct{}

func (errUnwell) Error() string { return "" }

// outcome is nil when all is well. What failed here hides what Entra refused:
// it comes first on the way.
func (d diagnosis) outcome() error {
	code := exitOK
	for _, found := range d.Identities {
		for _, s := range found.Steps {
			switch {
			case s.State != stepFailed:
			case !s.refused:
				code = exitError
			case code == exitOK:
				code = exitEntra
			}
		}
	}
	if code == exitOK {
		return nil
	}
	return &failure{code: code, err: errUnwell{}}
}
