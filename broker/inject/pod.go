package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// pod is what is looked at of a pod. It is only read: changes are made to the
// raw object, which has more.
type pod struct {
	Metadata struct {
		Name         string            `json:"name"`
		GenerateName string            `json:"generateName"`
		Labels       map[string]string `json:"labels"`
		Annotations  map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		HostNetwork           bool        `json:"hostNetwork"`
		HostPID               bool        `json:"hostPID"`
		ShareProcessNamespace bool        `json:"shareProcessNamespace"`
		ServiceAccountName    string      `json:"serviceAccountName"`
		SecurityContext       security    `json:"securityContext"`
		Containers            []container `json:"containers"`
		InitContainers        []container `json:"initContainers"`
		Volumes               []volume    `json:"volumes"`
		OS                    struct {
			Name string `json:"name"`
		} `json:"os"`
		NodeSelector map[string]string `json:"nodeSelector"`
		Resources    struct {          // of all containers together
			Requests map[string]any `json:"requests"`
			Limits   map[string]any `json:"limits"`
		} `json:"resources"`
	} `json:"spec"`
}

type container struct {
	Name            string     `json:"name"`
	Env             []variable `json:"env"`
	EnvFrom         []envFrom  `json:"envFrom"`
	VolumeMounts    []mount    `json:"volumeMounts"`
	SecurityContext security   `json:"securityContext"`

	list  string // containers or initContainers
	index int    // in it
	agent string // "" for others
}

// path is where the container, or something in it, is in the pod.
func (c container) path(more ...string) []string {
	return append([]string{"spec", c.list, strconv.Itoa(c.index)}, more...)
}

// security is a container's security context, or a pod's.
type security struct {
	RunAsUser                *int64  `json:"runAsUser"`
	FSGroup                  *int64  `json:"fsGroup"`
	SupplementalGroups       []int64 `json:"supplementalGroups"`
	Privileged               bool    `json:"privileged"`
	AllowPrivilegeEscalation *bool   `json:"allowPrivilegeEscalation"`
	Capabilities             struct {
		Add []string `json:"add"`
	} `json:"capabilities"`
	WindowsOptions struct {
		HostProcess bool `json:"hostProcess"`
	} `json:"windowsOptions"`
}

type variable struct {
	Name      string          `json:"name"`
	Value     string          `json:"value"`
	ValueFrom json.RawMessage `json:"valueFrom"`
}

type envFrom struct {
	SecretRef struct {
		Name string `json:"name"`
	} `json:"secretRef"`
}

type mount struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
}

type volume struct {
	Name     string `json:"name"`
	HostPath *struct {
		Path string `json:"path"`
	} `json:"hostPath"`
	Projected struct {
		Sources []struct {
			ServiceAccountToken *struct {
				Audience string `json:"audience"`
			} `json:"serviceAccountToken"`
		} `json:"sources"`
	} `json:"projected"`
}

// tokenAudiences are those of the volume's projected service account tokens.
func (v volume) tokenAudiences() []string {
	var audiences []string
	for _, source := range v.Projected.Sources {
		if source.ServiceAccountToken != nil {
			audiences = append(audiences, source.ServiceAccountToken.Audience)
		}
	}
	return audiences
}

// readPod reads a pod twice: what is looked at, and all that is there.
func readPod(raw []byte) (pod, object, error) {
	var p pod
	if err := json.Unmarshal(raw, &p); err != nil {
		// Its text names fields and types, and never what they hold, except for
		// malformed text, which the API server does not send.
		if shape, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return pod{}, nil, fmt.Errorf("the object is not a pod: %s is a JSON %s", shape.Field, shape.Value)
		}
		return pod{}, nil, errors.New("the object is not JSON")
	}
	value, err := decode(raw)
	if err != nil {
		return pod{}, nil, errors.New("the object is not JSON")
	}
	tree, ok := value.(object)
	if !ok {
		return pod{}, nil, errShape
	}
	for i := range p.Spec.InitContainers {
		p.Spec.InitContainers[i].list, p.Spec.InitContainers[i].index = "initContainers", i
	}
	for i := range p.Spec.Containers {
		p.Spec.Containers[i].list, p.Spec.Containers[i].index = "containers", i
	}
	return p, tree, nil
}

// name is for people: pods of controllers have no name yet.
func (p *pod) name() string {
	if p.Metadata.Name == "" {
		return p.Metadata.GenerateName + "*"
	}
	return p.Metadata.Name
}
