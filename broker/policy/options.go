package policy

import (
	"slices"
	"strings"
	"time"
)

// Options are what a policy file is read under. The zero value is a file alone.
type Options struct {
	// Ceiling bounds what the policy grants. nil: nothing does.
	Ceiling *Ceiling
	// Pod is what the pod that the broker runs in says of itself, for the values
	// that the file takes from it. nil: it is not known, which is warned about and
	// good for looking at the policy only, never for a broker.
	Pod *Pod
}

// Pod is what the annotations of a pod and of its service account say. Empty
// fields are not said.
type Pod struct {
	ClientID string // azure.workload.identity/client-id of the service account
	TenantID string // azure.workload.identity/tenant-id of the service account
	AgentID  string // credfree.dev/agent-id of the pod
}

// FromPod is a value of the policy that the file takes from the pod.
type FromPod struct {
	Path  string // in the policy file
	Value string // lower-case GUID; "" when the pod is not known
}

// ParseWith is Parse under a ceiling, or for a pod.
func ParseWith(name string, data []byte, options Options) (*Policy, error) {
	r := newReader(name, data)
	r.options = options
	return r.parse()
}

// fromPod is what the file writes for a value that the pod says.
const fromPod = "pod"

var (
	guidOrPod = matching(`^(pod|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$`)
	podIDs    = optional("podIDs", some(guid), "What the pod may say at most, where the id is pod.")
)

// farAway is an expiry for what has none.
var farAway = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// isFromPod reports whether a value is the pod's to say.
func isFromPod(at place) bool { return at.present() && at.node.Value == fromPod }

var lowerGUID = patternOf(guid.Pattern)

// podValue takes a value from the pod. It is the word of whoever wrote the pod's
// annotations, so it has to be a GUID, and one of permitted unless that is empty.
func (r *reader) podValue(at place, value, annotation string, permitted []string) string {
	if _, ok := r.text(at); !ok {
		return "" // it says pod in a way that is refused everywhere
	}
	pod := r.options.Pod
	if pod == nil {
		r.warning(at, "the pod says what this is, and there is no pod here", "check it in the pod too, as an init container")
		r.fromPod = append(r.fromPod, FromPod{Path: at.path})
		return ""
	}
	id := strings.ToLower(value)
	switch {
	case value == "":
		r.problem(at, "the pod does not say what this is", "annotate "+annotation+": <GUID>")
	case !lowerGUID.MatchString(value):
		r.problem(at, "what the pod says, "+quote(value)+", is not a GUID", "mend the annotation: "+annotation)
	case len(permitted) > 0 && !slices.Contains(permitted, id):
		r.problem(at, "what the pod says, "+quote(id)+", is not one of podIDs", "add it to podIDs if the pod may have it, or mend the annotation: "+annotation)
	default:
		r.fromPod = append(r.fromPod, FromPod{Path: at.path, Value: id})
		return id
	}
	return ""
}

func (r *reader) pod() Pod {
	if r.options.Pod == nil {
		return Pod{}
	}
	return *r.options.Pod
}

// podClientID reads an application's client id, which may be the pod's to say.
func (r *reader) podClientID(at, permitted place) string {
	listed := r.guids(r.members(permitted), clientIDHint)
	if !isFromPod(at) {
		r.noPodIDs(permitted)
		return r.guid(at, clientIDHint)
	}
	if !permitted.present() {
		r.warning(at, "the service account's annotation may name any client id that trusts it", "add podIDs: [<client id>]")
	}
	return r.podValue(at, r.pod().ClientID, "the service account with azure.workload.identity/client-id", listed)
}

// podAgentIDs reads the agent identity that the pod names. A blueprint's
// credential is good for all of its agents, so the list is required: Entra would
// not say no.
func (r *reader) podAgentIDs(at, permitted place) []string {
	listed := r.guids(r.members(permitted), agentIDHint)
	if !permitted.present() {
		r.problem(at, "a pod could name any agent identity of the blueprint", "add podIDs: [<id of the agent identity>]")
		return nil
	}
	id := r.podValue(at, r.pod().AgentID, "the pod with credfree.dev/agent-id", listed)
	if r.options.Pod == nil {
		return listed
	}
	if id == "" {
		return nil
	}
	return []string{id}
}

func (r *reader) noPodIDs(at place) {
	if at.present() {
		r.problem(at, "podIDs goes with an id that the pod says only", "write pod for the id, or remove podIDs")
	}
}
