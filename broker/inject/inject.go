package inject

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Injector patches pods. Its zero value is not usable; see [New]. It is safe for
// concurrent use.
type Injector struct {
	cfg    Config
	newKey func() string
}

// New returns an Injector, or everything that is wrong with cfg.
func New(cfg Config) (*Injector, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Injector{cfg: cfg, newKey: rand.Text}, nil
}

// Refused says why a pod gets no broker and must not run. Its text is for the
// person who wrote the pod.
type Refused struct {
	Pod      string
	Problems []Problem
}

// Problem is one reason, with what to change.
type Problem struct{ Text, Fix string }

func (r *Refused) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "credfree cannot be put beside pod %s:", r.Pod)
	for _, problem := range r.Problems {
		fmt.Fprintf(&b, "\n  - %s: %s", problem.Text, problem.Fix)
	}
	return b.String()
}

// Patch is what to change of a pod, and what its author should know.
type Patch struct {
	Operations []Operation
	Warnings   []string
}

// Account is what is looked at of the pod's service account: its annotations.
type Account struct {
	Annotations map[string]string
}

// Pod returns the patch for a pod. A pod that is not labelled gets an empty one,
// a pod that has it already too. The error is *[Refused] when the pod must not
// run as it is, and another when it is not a pod at all.
func (i *Injector) Pod(raw []byte, account Account) (Patch, error) {
	p, tree, err := readPod(raw)
	if err != nil {
		return Patch{}, err
	}
	if p.Metadata.Labels[Label] != "true" {
		return Patch{}, nil
	}
	in := &injection{cfg: i.cfg, newKey: i.newKey, pod: &p, edit: &editor{root: tree}}
	in.wishes = readWishes(p.Metadata.Annotations, i.cfg, in.bad)
	in.account(account)
	in.assignAgents()
	in.checkPod()
	in.checkUsers()
	for c := range in.containers {
		in.checkMounts(c)
		if c.agent != "" {
			in.checkAgent(c)
		}
	}
	if len(in.problems) > 0 {
		return Patch{}, &Refused{Pod: p.name(), Problems: in.problems}
	}
	in.patch()
	if len(in.problems) > 0 { // seen only while moving things
		return Patch{}, &Refused{Pod: p.name(), Problems: in.problems}
	}
	if in.edit.err != nil {
		return Patch{}, in.edit.err
	}
	return Patch{Operations: in.edit.ops, Warnings: in.warnings}, nil
}

// injection is the work on one pod.
type injection struct {
	cfg      Config
	newKey   func() string
	pod      *pod
	edit     *editor
	wishes   wishes
	problems []Problem
	warnings []string

	moved  []any // environment that goes from the agents to the broker
	mounts []any // and mounts
}

func (in *injection) bad(text, fix string) {
	if problem := (Problem{text, fix}); !slices.Contains(in.problems, problem) {
		in.problems = append(in.problems, problem)
	}
}

func (in *injection) warn(format string, args ...any) {
	in.warnings = append(in.warnings, "credfree: "+fmt.Sprintf(format, args...))
}

// containers yields the pod's own, init containers first, as they run.
func (in *injection) containers(yield func(container) bool) {
	for _, list := range [][]container{in.pod.Spec.InitContainers, in.pod.Spec.Containers} {
		for _, c := range list {
			if c.Name != sidecarName && !yield(c) {
				return
			}
		}
	}
}

// agents are the names of the pod's agents, sorted.
func (in *injection) agents() []string {
	return slices.Compact(slices.Sorted(maps.Values(in.wishes.agents)))
}

// assignAgents finds the containers that the annotations name.
func (in *injection) assignAgents() {
	found := map[string]bool{}
	for _, list := range [][]container{in.pod.Spec.InitContainers, in.pod.Spec.Containers} {
		for i := range list {
			found[list[i].Name] = true
			list[i].agent = in.wishes.agents[list[i].Name]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.wishes.agents)) {
		if !found[name] || name == sidecarName {
			in.bad(fmt.Sprintf("annotation credfree.dev/agent.%s: the pod has no container %s that could be an agent", name, name), "its containers are "+strings.Join(in.names(), ", "))
		}
	}
}

func (in *injection) names() []string {
	var names []string
	for c := range in.containers {
		names = append(names, c.Name)
	}
	return names
}

// account takes from the service account what the pod does not say itself.
func (in *injection) account(account Account) {
	take := func(target *string, name string, ok func(string) bool, want string) {
		value := account.Annotations[name]
		if *target != "" || value == "" {
			return
		}
		if !ok(value) {
			in.bad(fmt.Sprintf("service account %s, annotation %s: %q is not %s", in.pod.Spec.ServiceAccountName, name, value, want), "correct it")
		}
		*target = value
	}
	take(&in.wishes.clientID, azurePrefix+"client-id", guid.MatchString, "a GUID")
	take(&in.wishes.tenantID, azurePrefix+"tenant-id", tenantForm.MatchString, "a GUID or a domain")
	take(&in.wishes.agentID, prefix+"agent-id", guid.MatchString, "a GUID")
}

// patch makes the changes, those that shift nothing first.
func (in *injection) patch() {
	in.annotate()
	for c := range in.containers {
		if c.agent != "" {
			in.patchAgent(c)
		}
	}
	in.patchGroups()
	in.patchVolumes()
	in.patchSidecar()
}

// annotate leaves word for the next call, and for people.
func (in *injection) annotate() {
	in.edit.set(version, "metadata", "annotations", prefix+"injected")
	in.skipAzure()
	if !in.wishes.keys {
		return
	}
	for _, agent := range in.agents() {
		if key := prefix + "key." + agent; in.pod.Metadata.Annotations[key] == "" {
			in.edit.set(in.newKey(), "metadata", "annotations", key)
		}
	}
}

// patchGroups lets agents reach their sockets, which belong to the broker's
// group. No other container has the folder that they are in.
func (in *injection) patchGroups() {
	if in.wishes.keys && in.pod.Spec.SecurityContext.FSGroup == nil {
		// The broker takes no key that everybody may read, and the files of a
		// downward API volume are root's.
		in.edit.set(in.cfg.User, "spec", "securityContext", "fsGroup")
	}
	if !in.wishes.sockets {
		return
	}
	groups := in.pod.Spec.SecurityContext.SupplementalGroups
	if !slices.Contains(groups, in.cfg.User) {
		in.edit.insert(in.cfg.User, len(groups), "spec", "securityContext", "supplementalGroups")
	}
}
