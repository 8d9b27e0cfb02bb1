package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/credfree/credfree/broker/inject"
)

// podManifest is what matters of a pod's manifest, as kubectl prints it or as a
// workload's template has it. Fields that nothing here looks at are left out:
// the API server judges the rest.
type podManifest struct {
	name string // for people: kind and name of what the manifest is of
	spec podSpec
	at   *yaml.Node // of the spec

	labelled bool // for the webhook, which adds the broker
}

type podSpec struct {
	Containers            []container        `yaml:"containers"`
	InitContainers        []container        `yaml:"initContainers"`
	EphemeralContainers   []container        `yaml:"ephemeralContainers"`
	Volumes               []volume           `yaml:"volumes"`
	SecurityContext       podSecurityContext `yaml:"securityContext"`
	ShareProcessNamespace bool               `yaml:"shareProcessNamespace"`
	HostPID               bool               `yaml:"hostPID"`
	HostIPC               bool               `yaml:"hostIPC"`
	HostNetwork           bool               `yaml:"hostNetwork"`
	Automount             *bool              `yaml:"automountServiceAccountToken"`
}

type podSecurityContext struct {
	RunAsUser      *int64   `yaml:"runAsUser"`
	RunAsNonRoot   *bool    `yaml:"runAsNonRoot"`
	SeccompProfile *seccomp `yaml:"seccompProfile"`
}

type seccomp struct {
	Type string `yaml:"type"`
}

type container struct {
	Name            string          `yaml:"name"`
	Image           string          `yaml:"image"`
	Command         []string        `yaml:"command"`
	Args            []string        `yaml:"args"`
	Env             []variable      `yaml:"env"`
	VolumeMounts    []volumeMount   `yaml:"volumeMounts"`
	RestartPolicy   string          `yaml:"restartPolicy"`
	SecurityContext securityContext `yaml:"securityContext"`

	path string // in the spec, such as containers[0]
	line int    // where it begins
}

type variable struct {
	Name  string `yaml:"name"`
	Value string `yaml:"value"`
}

type volumeMount struct {
	Name      string `yaml:"name"`
	MountPath string `yaml:"mountPath"`
	ReadOnly  bool   `yaml:"readOnly"`
}

type securityContext struct {
	RunAsUser                *int64   `yaml:"runAsUser"`
	RunAsNonRoot             *bool    `yaml:"runAsNonRoot"`
	Privileged               bool     `yaml:"privileged"`
	AllowPrivilegeEscalation *bool    `yaml:"allowPrivilegeEscalation"`
	ReadOnlyRootFilesystem   bool     `yaml:"readOnlyRootFilesystem"`
	SeccompProfile           *seccomp `yaml:"seccompProfile"`
	Capabilities             struct {
		Add  []string `yaml:"add"`
		Drop []string `yaml:"drop"`
	} `yaml:"capabilities"`
}

type volume struct {
	Name      string `yaml:"name"`
	Projected *struct {
		Sources []struct {
			ServiceAccountToken *struct {
				Audience string `yaml:"audience"`
			} `yaml:"serviceAccountToken"`
		} `yaml:"sources"`
	} `yaml:"projected"`
	HostPath *struct {
		Path string `yaml:"path"`
	} `yaml:"hostPath"`
}

// maxManifest bounds what is read: the API server's own limit for one object is
// smaller by far, and a list has many.
const maxManifest = 16 << 20

// readManifests reads the pods of a manifest: of several documents, of lists,
// and of the templates of workloads.
func readManifests(r io.Reader) ([]podManifest, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxManifest {
		return nil, errors.New("the manifest is larger than 16 MiB")
	}
	var pods []podManifest
	for decoder := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("the manifest is not YAML: %w", err)
		}
		if len(document.Content) == 0 {
			continue
		}
		found, err := podsOf(document.Content[0], 3)
		if err != nil {
			return nil, err
		}
		pods = append(pods, found...)
	}
	if len(pods) == 0 {
		return nil, errors.New("the manifest has no pod, and no workload with a template of one")
	}
	return pods, nil
}

// podsOf returns the pods of one object, which may be a list, depth deep.
func podsOf(object *yaml.Node, depth int) ([]podManifest, error) {
	if depth == 0 {
		return nil, errors.New("the manifest has lists in lists")
	}
	if items := lookUp(object, "items"); items != nil && items.Kind == yaml.SequenceNode {
		var pods []podManifest
		for _, item := range items.Content {
			found, err := podsOf(item, depth-1)
			if err != nil {
				return nil, err
			}
			pods = append(pods, found...)
		}
		return pods, nil
	}
	template := object
	for _, path := range [][]string{{"spec", "jobTemplate", "spec", "template"}, {"spec", "template"}} {
		if inner := lookUp(object, path...); lookUp(inner, "spec") != nil {
			template = inner
			break
		}
	}
	spec := lookUp(template, "spec")
	if lookUp(spec, "containers") == nil {
		return nil, nil // not a pod: a Service, say
	}
	pod := podManifest{name: strings.TrimSpace(textOf(lookUp(object, "kind")) + " " + textOf(lookUp(object, "metadata", "name"))), at: spec,
		labelled: textOf(lookUp(template, "metadata", "labels", inject.Label)) == "true"}
	if err := spec.Decode(&pod.spec); err != nil {
		return nil, fmt.Errorf("line %d: %s: %w", spec.Line, pod.name, err)
	}
	for list, containers := range map[string][]container{
		"containers": pod.spec.Containers, "initContainers": pod.spec.InitContainers, "ephemeralContainers": pod.spec.EphemeralContainers,
	} {
		items := lookUp(spec, list)
		for i := range containers {
			containers[i].path, containers[i].line = fmt.Sprintf("%s[%d]", list, i), spec.Line
			if items != nil && i < len(items.Content) { // else it comes by a merge key
				containers[i].line = items.Content[i].Line
			}
		}
	}
	return []podManifest{pod}, nil
}

// lookUp returns the value below node, or nil. It follows aliases.
func lookUp(node *yaml.Node, path ...string) *yaml.Node {
	for _, name := range path {
		if node == nil || node.Kind != yaml.MappingNode {
			return nil
		}
		var next *yaml.Node
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == name {
				next = node.Content[i+1]
			}
		}
		if node = next; node != nil && node.Kind == yaml.AliasNode {
			node = node.Alias
		}
	}
	return node
}

func textOf(node *yaml.Node) string {
	if node == nil {
		return ""
	}
	return node.Value
}
