package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/broker/policy"
)

// Variables of our own that a policy from the environment is made of, beside
// those that other software has made known.
const (
	allowedUIDs     = "CREDFREE_ALLOWED_UIDS"
	allowedScopes   = "CREDFREE_ALLOWED_SCOPES"
	agentIdentities = "CREDFREE_AGENT_IDENTITIES"
	agentUsers      = "CREDFREE_AGENT_USERS"
	allowedClients  = "CREDFREE_ALLOWED_CLIENTS"
	authorityCA     = "CREDFREE_CA_FILE"
	agentOwner      = "CREDFREE_OWNER"
	agentExpires    = "CREDFREE_EXPIRES"
)

// environmentName stands where the name of a policy file does.
const environmentName = "environment"

// fromEnvironment is what the environment says in place of a policy file.
type fromEnvironment struct {
	policy      *policy.Policy
	text        []byte // the same policy as a file
	authSidecar bool   // it is that of Microsoft's own sidecar, whose door it opens
	sidecar     localapi.SidecarOptions
	listen      string // "" where nothing is said
	notes       []string
}

// readEnvironment makes a policy of the variables of Microsoft's own sidecar, or
// of those that the webhook of Azure Workload Identity sets. It writes the policy
// as text, so that it is read, and complained about, like any other. The error
// lists every problem.
func readEnvironment(pairs []string) (*fromEnvironment, error) {
	env := newEnvironment(pairs)
	var file *policyFile
	found := &fromEnvironment{}
	switch {
	case env.has("AzureAd:"):
		found.authSidecar = true
		file = env.sidecarPolicy(found)
	case env.get(allowedScopes) != "":
		file = env.workloadPolicy()
	default:
		return nil, fail(exitUsage, errors.New("there is no policy: flag --config is missing"),
			"name a policy with --config FILE; or set AzureAd__TenantId, AzureAd__ClientId and DownstreamApis__… as for Microsoft's own sidecar, or "+allowedScopes+" beside AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_FEDERATED_TOKEN_FILE")
	}
	agent := file.Agents["agent"]
	agent.Callers, agent.Owner, agent.Expires = env.callers(), env.get(agentOwner), env.get(agentExpires)
	if len(env.problems) > 0 {
		return nil, env.failure()
	}
	var err error
	if found.text, err = yaml.Marshal(file); err != nil {
		return nil, err
	}
	found.policy, err = policy.Parse(environmentName, found.text)
	if problems, ok := errors.AsType[policy.Problems](err); ok {
		return nil, environmentProblems(problems)
	}
	return found, err
}

// environmentProblems are those of a policy that nobody has written.
func environmentProblems(problems policy.Problems) error {
	var errs []error
	var hints []string
	for _, problem := range problems {
		errs = append(errs, fmt.Errorf("the environment makes no policy: %s: %s", problem.Path, problem.Message))
		hints = append(hints, problem.Path+": "+problem.Hint)
	}
	return fail(exitError, errors.Join(errs...), hints...)
}

// policyFile is a policy as it is written. Its fields are those of the file.
type policyFile struct {
	Version    int                     `yaml:"version"`
	Tenant     string                  `yaml:"tenant"`
	Cloud      string                  `yaml:"cloud"`
	Authority  string                  `yaml:"authority,omitempty"`
	CAFile     string                  `yaml:"caFile,omitempty"`
	Audience   string                  `yaml:"audience,omitempty"`
	Sources    map[string]any          `yaml:"sources,omitempty"`
	Identities map[string]any          `yaml:"identities"`
	APIs       map[string]any          `yaml:"apis,omitempty"`
	Agents     map[string]*policyAgent `yaml:"agents"`
}

type policyAgent struct {
	Owner      string         `yaml:"owner,omitempty"`
	Expires    string         `yaml:"expires,omitempty"`
	Identity   string         `yaml:"identity"`
	Identities []string       `yaml:"identities,omitempty"`
	Callers    []any          `yaml:"callers"`
	Allow      map[string]any `yaml:"allow,omitempty"`
	OnBehalfOf map[string]any `yaml:"onBehalfOf,omitempty"`
}

type object = map[string]any

// environment has variables by their names, in which __ is :. Names are compared
// without regard to case, as the auth sidecar does.
type environment struct {
	values   map[string]string // by name in small letters
	names    map[string]string // as written, by the same
	problems []error
	hints    []string
}

func newEnvironment(pairs []string) *environment {
	env := &environment{values: map[string]string{}, names: map[string]string{}}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		if value = strings.TrimSpace(value); value == "" {
			continue
		}
		name = strings.ReplaceAll(name, "__", ":")
		env.values[strings.ToLower(name)], env.names[strings.ToLower(name)] = value, name
	}
	return env
}

// get returns the value of a variable, or "".
func (e *environment) get(name string) string {
	return e.values[strings.ToLower(name)]
}

// has reports whether there are variables whose names begin so.
func (e *environment) has(prefix string) bool { return len(e.below(prefix)) > 0 }

// below returns what follows prefix in the names of variables, as written.
func (e *environment) below(prefix string) []string {
	var rests []string
	for key, name := range e.names {
		if strings.HasPrefix(key, strings.ToLower(prefix)) {
			rests = append(rests, name[len(prefix):])
		}
	}
	slices.Sort(rests)
	return rests
}

// sections returns the first parts of what is below prefix, each once.
func (e *environment) sections(prefix string) []string {
	var names []string
	for _, rest := range e.below(prefix) {
		name, _, _ := strings.Cut(rest, ":")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// list returns what stands at name: one text with several words, or one variable
// for each, numbered.
func (e *environment) list(name string) []string {
	words := fields(e.get(name))
	numbered := e.sections(name + ":")
	slices.SortFunc(numbered, func(a, b string) int { return number(a) - number(b) })
	for _, n := range numbered {
		words = append(words, fields(e.get(name+":"+n))...)
	}
	return words
}

func number(text string) int { n, _ := strconv.Atoi(text); return n }

// fields cuts at white space and commas.
func fields(text string) []string {
	return strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r' })
}

// boolean returns what a variable says, or what holds without it.
func (e *environment) boolean(name string, otherwise bool) bool {
	text := e.get(name)
	if text == "" {
		return otherwise
	}
	value, err := strconv.ParseBool(strings.ToLower(text))
	if err != nil {
		e.problem(name+" is neither true nor false", "write one of the two")
	}
	return value
}

// problem notes what is wrong. Its text has names of variables, and no values:
// some hold secrets.
func (e *environment) problem(message, hint string) {
	message = strings.ReplaceAll(message, ":", "__")
	e.problems, e.hints = append(e.problems, errors.New(message)), append(e.hints, hint)
}

func (e *environment) failure() error {
	return fail(exitError, errors.Join(e.problems...), e.hints...)
}

// callers reads who may ask. There is no default: the auth sidecar answers every
// process, and that has to be said.
func (e *environment) callers() []any {
	text := e.get(allowedUIDs)
	switch {
	case text == "":
		e.problem(allowedUIDs+" does not say who may ask", "set "+allowedUIDs+" to the user ids of the agent's processes, such as 10001; or to any, for every process that reaches this address")
		return nil
	case strings.EqualFold(text, "any"):
		return []any{object{"tcp": object{"any": true}}}
	}
	var uids []uint32
	for _, word := range fields(text) {
		uid, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			e.problem(allowedUIDs+" is no list of user ids", "write numbers with commas between them, or any")
			return nil
		}
		uids = append(uids, uint32(uid))
	}
	return []any{object{"tcp": object{"uids": uids}}}
}

// clouds are the authorities of the clouds that policies know by name.
var clouds = map[string]string{
	"login.microsoftonline.com": "public", "login.microsoftonline.us": "usgov", "login.partner.microsoftonline.cn": "china", "login.chinacloudapi.cn": "china",
}

// cloud puts the authority into a policy.
func (e *environment) cloud(file *policyFile, variable, authority string) {
	host, ok := strings.CutPrefix(strings.TrimRight(authority, "/"), "https://")
	switch name := clouds[strings.ToLower(host)]; {
	case authority == "":
		file.Cloud = "public"
	case !ok || host == "" || strings.ContainsAny(host, "/?#@"):
		e.problem(variable+" is no origin of a token service", "write https://login.microsoftonline.com/, or that of another cloud")
	case name != "":
		file.Cloud = name
	default:
		file.Cloud, file.Authority, file.CAFile = "custom", "https://"+strings.ToLower(host), e.get(authorityCA)
	}
}

// required returns a variable that has to be there.
func (e *environment) required(name, hint string) string {
	value := e.get(name)
	if value == "" {
		e.problem(name+" is missing", hint)
	}
	return value
}

// workloadPolicy is one agent that is the application of Azure Workload Identity.
func (e *environment) workloadPolicy() *policyFile {
	const webhook = "the webhook of Azure Workload Identity sets it: does the pod have its label, and its service account the annotation?"
	file := &policyFile{
		Version: 1, Tenant: strings.ToLower(e.required("AZURE_TENANT_ID", webhook)),
		Sources:    object{"pod": object{"file": object{"path": e.required("AZURE_FEDERATED_TOKEN_FILE", webhook)}}},
		Identities: object{"application": object{"application": object{"clientID": strings.ToLower(e.required("AZURE_CLIENT_ID", webhook)), "source": "pod"}}},
		Agents:     map[string]*policyAgent{"agent": {Identity: "application", Allow: object{"scopes": fields(e.get(allowedScopes))}}},
	}
	e.cloud(file, "AZURE_AUTHORITY_HOST", e.get("AZURE_AUTHORITY_HOST"))
	return file
}

// policySource is the policy that the environment makes, where no file is named.
func policySource(path string) (*fromEnvironment, error) {
	if path != "" {
		return &fromEnvironment{}, nil
	}
	return readEnvironment(os.Environ())
}
