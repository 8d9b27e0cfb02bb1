package chart

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	admission "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/yaml"

	"github.com/credfree/credfree/broker/inject"
)

// guard evaluates the chart's ValidatingAdmissionPolicy for an object, and
// returns the messages of what it violates.
func guard(t *testing.T, p *admission.ValidatingAdmissionPolicy, object map[string]any) []string {
	t.Helper()
	env, err := cel.NewEnv(cel.Variable("object", cel.DynType), cel.Variable("variables", cel.MapType(cel.StringType, cel.DynType)))
	if err != nil {
		t.Fatal(err)
	}
	variables := map[string]any{}
	evaluate := func(expression string) (any, error) {
		ast, issues := env.Compile(expression)
		if issues.Err() != nil {
			return nil, fmt.Errorf("%s: %w", expression, issues.Err())
		}
		program, err := env.Program(ast)
		if err != nil {
			return nil, err
		}
		value, _, err := program.Eval(map[string]any{"object": object, "variables": variables})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", expression, err)
		}
		return value, nil
	}
	for _, v := range p.Spec.Variables {
		if variables[v.Name], err = evaluate(v.Expression); err != nil {
			t.Fatal(err)
		}
	}
	var violated []string
	for _, v := range p.Spec.Validations {
		value, err := evaluate(v.Expression)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(value) != "true" {
			violated = append(violated, v.Message)
		}
	}
	return violated
}

// TestGuardrails: the policy lets pass what the webhook makes, and nothing that
// the webhook was kept from seeing.
func TestGuardrails(t *testing.T) {
	p := one[*admission.ValidatingAdmissionPolicy](t, mustRender(t, load(t, "charts/credfree"), "guardrails: {enabled: true}", cluster{}))
	text, err := yaml.Marshal(injected(t, inject.Config{Image: "example.com/credfree:1"}, restrictedPod(t, "")))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ old, with, want string }{
		"what the webhook makes": {"x-nothing", "", ""},
		"no broker":              {"name: credfree\n", "name: other\n", "has no broker"},
		"a broker that ends":     {"restartPolicy: Always", "terminationMessagePath: /x", "has no broker"},
		"no agent":               {"credfree.dev/agent.researcher", "credfree.dev/agent.other", "no container of the pod is an agent"},
		"host network":           {"spec:\n", "spec:\n  hostNetwork: true\n", "shares neither"},
		"host processes":         {"spec:\n", "spec:\n  hostPID: true\n", "shares neither"},
		"shared processes":       {"spec:\n", "spec:\n  shareProcessNamespace: true\n", "shares neither"},
		"the token":              {"name: credfree-agent-researcher\n      readOnly: true", "name: credfree-token\n      readOnly: true", "an agent mounts a workload token"},
		"privileged":             {"runAsUser: 10001", "privileged: true", "an agent is privileged"},
		"escalation":             {"allowPrivilegeEscalation: false\n      capabilities:\n        drop:\n        - ALL\n      runAsUser: 10001", "runAsUser: 10001", "may gain privileges"},
		"the broker's uid":       {"runAsUser: 10001", "runAsUser: 7400", "has the broker's uid"},
		"the pod's uid":          {"runAsNonRoot: true\n    seccompProfile", "runAsUser: 7400\n    seccompProfile", ""}, // each container has its own
		"an ephemeral container": {"spec:\n", "spec:\n  ephemeralContainers: [{name: debug, targetContainerName: researcher}]\n", ""},
		"one beside the broker":  {"spec:\n", "spec:\n  ephemeralContainers: [{name: debug, targetContainerName: credfree}]\n", "an ephemeral container"},
		"one with the token":     {"spec:\n", "spec:\n  ephemeralContainers: [{name: debug, volumeMounts: [{name: credfree-token, mountPath: /t}]}]\n", "an ephemeral container"},
		"one with its uid":       {"spec:\n", "spec:\n  ephemeralContainers: [{name: debug, securityContext: {runAsUser: 7400}}]\n", "an ephemeral container"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(string(text), test.old, test.with, 1)
			if test.old != "x-nothing" && changed == string(text) {
				t.Fatalf("no %q in\n%s", test.old, text)
			}
			object := map[string]any{}
			if err := yaml.Unmarshal([]byte(changed), &object); err != nil {
				t.Fatal(err)
			}
			got := strings.Join(guard(t, p, object), "; ")
			if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
