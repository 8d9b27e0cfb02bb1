package inject

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Label marks the pods that get a broker, with the value "true" and no other.
const Label = "credfree.dev/inject"

// prefix is what all annotations have in common.
const prefix = "credfree.dev/"

// Annotation is one thing that a pod may say about its broker.
type Annotation struct {
	Name    string // behind credfree.dev/; <…> stands for a name
	Value   string // what it has to be
	Meaning string
}

// Annotations are all that a pod may say, and all that may begin with
// credfree.dev/: others are refused, so that a typing error is noticed.
func Annotations() []Annotation {
	return []Annotation{
		{"policy", "name of a ConfigMap", "required: the policy file is its key `credfree.yaml`; other keys, such as a `caFile`, are beside it"},
		{"agent.<container>", "name of an agent", "required for one container at least: which agent of the policy the container is; init containers too"},
		{"client-id", "GUID", "client id of the identity of this pod; wins over the service account's"},
		{"tenant-id", "GUID or domain", "tenant of the identity of this pod; wins over the service account's"},
		{"agent-id", "GUID", "agent identity of this pod; wins over the service account's"},
		{"audience", "audience", "of the workload token; the default is the webhook's"},
		{"token-expiration", "seconds, 600 to 86400", "life of the workload token; the default is the webhook's"},
		{"sockets", "`true` or `false`", "`false`: agents use TCP only, and get no unix socket"},
		{"keys", "`true` or `false`", "`true`: agents are told apart by a key made for each, where uids cannot tell"},
		{"key.<agent>", "set by the webhook", "the key of an agent, with `keys`"},
		{"auth-sidecar", "`true` or `false`", "`true`: the door of Microsoft's own sidecar is open"},
		{"cpu", "quantity", "CPU that the broker asks for, within the webhook's bound"},
		{"memory", "quantity", "memory that the broker may have, within the webhook's bound"},
		{"injected", "set by the webhook", "which form of the patch the pod has got"},
	}
}

// version of the patch, in the annotation injected.
const version = "v1"

// wishes are a pod's annotations, understood.
type wishes struct {
	policy     string
	agents     map[string]string // by container
	clientID   string
	tenantID   string
	agentID    string
	audience   string
	expiration int64 // 0: as configured
	sockets    bool
	keys       bool
	sidecar    bool // Microsoft's door
	cpu        string
	memory     string
}

var (
	agentName    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,34}[a-z0-9])?$`) // a volume's name, and room for a socket's path
	configMap    = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	guid         = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	tenantForm   = regexp.MustCompile(`^([0-9a-zA-Z]([0-9a-zA-Z-]{0,61}[0-9a-zA-Z])?\.)+[a-zA-Z]{2,63}$|` + guid.String())
	audienceForm = regexp.MustCompile(`^[!-~]{1,256}$`)
	imageForm    = regexp.MustCompile(`^[A-Za-z0-9\[][A-Za-z0-9._:/@\[\]-]*$`)
	keyForm      = regexp.MustCompile(`^[A-Z2-7]{26}$`)
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// readWishes reads the annotations and reports all that is wrong with them.
func readWishes(annotations map[string]string, bounds Config, bad func(problem, fix string)) wishes {
	w := wishes{agents: map[string]string{}, sockets: true}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		name, ours := strings.CutPrefix(key, prefix)
		value := annotations[key]
		if !ours {
			continue
		}
		if container, ok := strings.CutPrefix(name, "agent."); ok {
			if !agentName.MatchString(value) {
				bad(fmt.Sprintf("annotation %s: %q is not the name of an agent", key, value), "write the agent's name in the policy: at most 36 lower case letters, digits and -")
			}
			w.agents[container] = value
			continue
		}
		if agent, ok := strings.CutPrefix(name, "key."); ok {
			if agent == "" || !keyForm.MatchString(value) {
				bad("annotation "+key+" is not a key that was made here", "remove it: the webhook makes one")
			}
			continue
		}
		if problem, fix := w.read(name, value, bounds); problem != "" {
			bad("annotation "+key+": "+problem, fix)
		}
	}
	if w.policy == "" {
		bad("annotation credfree.dev/policy is missing", "add credfree.dev/policy: <ConfigMap with the key credfree.yaml>")
	}
	if len(w.agents) == 0 {
		bad("no container is an agent", "add credfree.dev/agent.<container>: <agent of the policy>")
	}
	return w
}

// read understands one annotation, or says what is wrong and what to write.
func (w *wishes) read(name, value string, bounds Config) (problem, fix string) {
	form := func(target *string, ok bool, want string) (string, string) {
		if !ok {
			return fmt.Sprintf("%q is not %s", value, want), "correct or remove it"
		}
		*target = value
		return "", ""
	}
	truth := func(target *bool) (string, string) {
		*target = value == "true"
		if value != "true" && value != "false" {
			return fmt.Sprintf("%q is neither true nor false", value), `write "true" or "false", in quotes`
		}
		return "", ""
	}
	switch name {
	case "policy":
		return form(&w.policy, configMap.MatchString(value), "the name of a ConfigMap")
	case "client-id":
		return form(&w.clientID, guid.MatchString(value), "a GUID")
	case "agent-id":
		return form(&w.agentID, guid.MatchString(value), "a GUID")
	case "tenant-id":
		return form(&w.tenantID, tenantForm.MatchString(value), "a GUID or a domain")
	case "audience":
		return form(&w.audience, audienceForm.MatchString(value), "an audience")
	case "token-expiration":
		seconds, err := strconv.ParseInt(value, 10, 64)
		if w.expiration = seconds; err != nil || seconds < minExpiration || seconds > maxExpiration {
			return fmt.Sprintf("%q is not a number of seconds from %d to %d", value, minExpiration, maxExpiration), "an hour is 3600"
		}
		return "", ""
	case "sockets":
		return truth(&w.sockets)
	case "keys":
		return truth(&w.keys)
	case "auth-sidecar":
		return truth(&w.sidecar)
	case "cpu":
		return form(&w.cpu, within(value, bounds.MaxCPU), orBound("a quantity such as 20m", bounds.MaxCPU))
	case "memory":
		return form(&w.memory, within(value, bounds.MaxMemory), orBound("a quantity such as 64Mi", bounds.MaxMemory))
	case "injected":
		return "", "" // written by the first of two calls
	}
	return "there is no such annotation", "those there are: " + annotationNames()
}

func orBound(what, bound string) string {
	if bound != "" {
		return what + " of at most " + bound
	}
	return what
}

func annotationNames() string {
	var names []string
	for _, annotation := range Annotations() {
		names = append(names, annotation.Name)
	}
	return strings.Join(names, ", ")
}
