package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/credfree/credfree/broker/policy"
)

// PolicyPath is where the webhook checks the policies in ConfigMaps.
const PolicyPath = "/validate-policy"

// PolicyLabel marks the ConfigMaps that are checked, with the value "true".
const PolicyLabel = prefix + "policy"

// The keys of a ConfigMap that are checked.
const ceilingFile = "ceiling.yaml"

// checkPolicies checks the policy or the ceiling, or both, in a ConfigMap. The error
// names everything that is wrong, and may quote names and scopes of the policy; the
// warnings say what is suspicious. What the pod says cannot be known here.
func checkPolicies(raw []byte) (warnings []string, err error) {
	var m struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Data       map[string]string `json:"data"`
		BinaryData map[string]string `json:"binaryData"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, errors.New("not a ConfigMap")
	}
	for _, file := range []string{policyFile, ceilingFile} {
		if _, ok := m.BinaryData[file]; ok {
			return nil, fmt.Errorf("ConfigMap %s: %s is under binaryData; write it under data", m.Metadata.Name, file)
		}
	}
	policyText, hasPolicy := m.Data[policyFile]
	ceilingText, hasCeiling := m.Data[ceilingFile]
	if !hasPolicy && !hasCeiling {
		return nil, fmt.Errorf("ConfigMap %s has the label %s and neither %s nor %s, but %s; rename the key, or remove the label",
			m.Metadata.Name, PolicyLabel, policyFile, ceilingFile, orNothing(slices.Sorted(maps.Keys(m.Data))))
	}
	var options policy.Options
	if hasCeiling {
		if options.Ceiling, err = policy.ParseCeiling(ceilingFile, []byte(ceilingText)); err != nil {
			return nil, fmt.Errorf("ConfigMap %s: %w", m.Metadata.Name, err)
		}
	}
	if !hasPolicy {
		return nil, nil
	}
	p, err := policy.ParseWith(policyFile, []byte(policyText), options)
	if err != nil {
		return nil, fmt.Errorf("ConfigMap %s: %w", m.Metadata.Name, err)
	}
	ofPod := map[string]bool{}
	for _, value := range p.FromPod {
		ofPod[value.Path] = true
	}
	for _, warning := range p.Warnings {
		if !ofPod[warning.Path] { // what the pod says is known where the pod is
			warnings = append(warnings, warning.String())
		}
	}
	return warnings, nil
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// maxWarnings bounds what kubectl prints.
const maxWarnings = 10

func (h *handler) check(raw []byte) (warnings []string, err error) {
	h.checking.Lock()
	defer h.checking.Unlock()
	return checkPolicies(raw)
}

// admitPolicy decides on one ConfigMap. It has no side effect.
func (h *handler) admitPolicy(w http.ResponseWriter, r *http.Request) {
	h.answer(w, r, func(req *request) (response, Outcome) {
		if (req.Resource != resource{Version: "v1", Resource: "configmaps"}) || req.SubResource != "" || req.Operation != "CREATE" && req.Operation != "UPDATE" {
			return response{Allowed: true}, Unchanged
		}
		warnings, err := h.check(req.Object)
		if err != nil {
			h.cfg.Log.WarnContext(r.Context(), "policy refused", "namespace", req.Namespace, "config_map", req.Name, "uid", req.UID)
			return deny(http.StatusForbidden, "Forbidden", err), Denied
		}
		if len(warnings) > maxWarnings {
			warnings = append(warnings[:maxWarnings], fmt.Sprintf("and %d more: credfree check prints them", len(warnings)-maxWarnings))
		}
		return response{Allowed: true, Warnings: warnings}, Unchanged
	})
}
