package chart

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	security "k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	"github.com/credfree/credfree/broker/inject"
	"github.com/credfree/credfree/broker/policy"
)

// injected is a pod after the webhook, by the API server's own patcher.
func injected(t testing.TB, cfg inject.Config, pod []byte) *core.Pod {
	t.Helper()
	i, err := inject.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := i.Pod(pod, inject.Account{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(patch.Operations)
	if err != nil {
		t.Fatal(err)
	}
	operations, err := jsonpatch.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := operations.Apply(pod)
	if err != nil {
		t.Fatal(err)
	}
	var p core.Pod
	if err := yaml.UnmarshalStrict(patched, &p); err != nil {
		t.Fatalf("%v in\n%s", err, patched)
	}
	return &p
}

// TestPatchedPodsAreKnown patches the webhook's own test pods as the API server
// does, and reads them strictly.
func TestPatchedPodsAreKnown(t *testing.T) {
	files, err := filepath.Glob(root + "/broker/inject/testdata/pods/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var known core.Pod
		if yaml.UnmarshalStrict(archive.Files[0].Data, &known) != nil || archive.Files[1].Name != "patched.json" {
			continue // fields of tomorrow, and refused pods
		}
		raw, err := yaml.YAMLToJSON(archive.Files[0].Data)
		if err != nil {
			t.Fatal(err)
		}
		injected(t, inject.Config{Image: "example.com/credfree:1"}, raw)
		read++
	}
	if read < 6 {
		t.Errorf("got %d pods, want 6 at least", read)
	}
}

// restricted is a pod that the restricted standard lets pass.
const restricted = `
metadata:
  name: agent
  labels: {credfree.dev/inject: "true"}
  annotations:
    credfree.dev/policy: helm-agent
    credfree.dev/agent.researcher: researcher
    %s
spec:
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: researcher
    image: example.com/agent:1
    securityContext: {runAsUser: 10001, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
`

func restrictedPod(t testing.TB, annotation string) []byte {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(strings.Replace(restricted, "%s", annotation, 1)))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestRestricted asks the evaluator of the API server itself.
func TestRestricted(t *testing.T) {
	evaluator, err := security.NewEvaluator(security.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	evaluate := func(name string, p *core.PodSpec) {
		for _, result := range evaluator.EvaluatePod(level, &meta.ObjectMeta{}, p) {
			if !result.Allowed {
				t.Errorf("%s: %s: %s", name, result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
	}
	for _, annotation := range []string{"", `credfree.dev/keys: "true"`, `credfree.dev/sockets: "false"`} {
		evaluate("injected "+annotation, &injected(t, inject.Config{Image: "example.com/credfree:1"}, restrictedPod(t, annotation)).Spec)
	}
	evaluate("webhook", &one[*apps.Deployment](t, mustRender(t, load(t, "charts/credfree"), "", cluster{})).Spec.Template.Spec)
	evaluate("example", &example(t, "").Spec.Template.Spec)
}

// example is the Deployment of examples/helm-agent.
func example(t testing.TB, values string) *apps.Deployment {
	t.Helper()
	c := load(t, "examples/helm-agent")
	c.SetDependencies(load(t, "charts/credfree-sidecar"))
	return one[*apps.Deployment](t, mustRender(t, c, values, cluster{}))
}

// TestTemplatesMatchTheWebhook: who writes the broker into a pod gets what the
// webhook makes of it.
func TestTemplatesMatchTheWebhook(t *testing.T) {
	for name, test := range map[string]struct {
		values, annotations string
		cfg                 inject.Config
	}{
		"default": {"", "", inject.Config{Image: "ghcr.io/credfree/credfree:0.1.0"}},
		"all": {`
credfree:
  image: example.com/credfree:2
  pullPolicy: Always
  user: 7500
  audience: api://AzureADTokenExchangeUSGov
  tokenExpirationSeconds: 7200
  resources: {limits: {memory: 64Mi}}
  env: {OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318", OTEL_RESOURCE_ATTRIBUTES: "a=b"}
  clientID: 1b7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a01
  tenantID: 8a0c5b0e-1f0b-4b52-9f27-5d4f0c1f5a11
  agentID: 3d7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a03
  authSidecar: true
  ceiling: cluster-ceiling
`, `credfree.dev/client-id: 1b7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a01
    credfree.dev/tenant-id: 8a0c5b0e-1f0b-4b52-9f27-5d4f0c1f5a11
    credfree.dev/agent-id: 3d7c7f7e-6f0c-4a39-8f0c-0c8f6a6b7a03
    credfree.dev/auth-sidecar: "true"`,
			inject.Config{Image: "example.com/credfree:2", ImagePullPolicy: "Always", User: 7500, Audience: "api://AzureADTokenExchangeUSGov", TokenExpirationSeconds: 7200,
				Ceiling:   "cluster-ceiling",
				Resources: inject.Resources{Limits: map[string]string{"memory": "64Mi"}},
				Env:       map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_RESOURCE_ATTRIBUTES": "a=b"}}},
	} {
		t.Run(name, func(t *testing.T) {
			by := injected(t, test.cfg, restrictedPod(t, test.annotations)).Spec
			own := example(t, test.values).Spec.Template.Spec
			for what, pair := range map[string][2]any{
				"broker":           {by.InitContainers, own.InitContainers},
				"volumes":          {by.Volumes, own.Volumes},
				"environment":      {by.Containers[0].Env, own.Containers[0].Env},
				"mounts":           {by.Containers[0].VolumeMounts, own.Containers[0].VolumeMounts},
				"groups of agents": {by.SecurityContext.SupplementalGroups, own.SecurityContext.SupplementalGroups},
			} {
				if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
					t.Errorf("%s: -webhook +templates\n%s", what, diff)
				}
			}
		})
	}
}

func TestTemplatesRefuse(t *testing.T) {
	for name, test := range map[string]struct{ values, want string }{
		"no policy":     {"credfree: {policy: ''}", "policy is missing"},
		"no image":      {"credfree: {image: ''}", "image is missing"},
		"no agent":      {"credfree: {agents: []}", "agents is missing"},
		"odd agent":     {"credfree: {agents: [Researcher]}", "not the name of an agent"},
		"unknown":       {"credfree: {agent: x}", "there is no setting agent"},
		"path as agent": {"credfree: {agents: ['../x']}", "not the name of an agent"},
		"one agent":     {"credfree: {agents: researcher}", "agents is missing"},
		"odd policy":    {"credfree: {policy: 'a,b'}", `policy: "a,b" is not the name of a ConfigMap`},
		"odd ceiling":   {"credfree: {ceiling: 'a/b'}", "ceiling: \"a/b\" is not"},
		"odd image":     {"credfree: {image: '@x'}", `image: "@x" is not the name of an image`},
		"odd pulling":   {"credfree: {pullPolicy: Sometimes}", "pullPolicy: \"Sometimes\" is not"},
		"no uid":        {"credfree: {user: abc}", `user: "abc" is not a number from 1 to 2147483647`},
		"negative uid":  {"credfree: {user: -1}", `user: "-1" is not`},
		"root":          {"credfree: {user: 0}", `user: "0" is not`},
		"half a uid":    {"credfree: {user: 7400.5}", `user: "7400.5" is not`},
		"large uid":     {"credfree: {user: 2147483648}", `user: "2147483648" is not`},
		"octal uid":     {"credfree: {user: '0744'}", `user: "0744" is not`},
		"audience":      {"credfree: {audience: 'a b'}", `audience: "a b" is not`},
		"short token":   {"credfree: {tokenExpirationSeconds: 5}", `tokenExpirationSeconds: "5" is not a number from 600 to 86400`},
		"client id":     {"credfree: {clientID: x}", "clientID: \"x\" is not a GUID"},
		"agent id":      {"credfree: {agentID: x}", "agentID: \"x\" is not a GUID"},
		"tenant":        {"credfree: {tenantID: x}", "tenantID: \"x\" is not a GUID or a domain"},
		"odd truth":     {"credfree: {authSidecar: 'no'}", "authSidecar: \"no\" is not true or false"},
		"our variable":  {"credfree: {env: {CREDFREE_CONFIG: /x}}", "env: CREDFREE_CONFIG cannot be set"},
		"no variable":   {"credfree: {env: {'A B': /x}}", "env: A B cannot be set"},
		"no text":       {"credfree: {env: {A: true}}", "the value of A is not a text"},
		"quantity":      {"credfree: {resources: {limits: {memory: lots}}}", `memory "lots" is not a quantity`},
		"above limit":   {"credfree: {resources: {requests: {memory: 1.5Gi}, limits: {memory: 1024Mi}}}", "the request of memory, 1.5Gi, is above its limit, 1024Mi"},
		"just above":    {"credfree: {resources: {requests: {cpu: 101m}, limits: {cpu: 0.1}}}", "the request of cpu, 101m, is above its limit, 0.1"},
		"claims":        {"credfree: {resources: {claims: []}}", "other keys than requests and limits"},
	} {
		c := load(t, "examples/helm-agent")
		c.SetDependencies(load(t, "charts/credfree-sidecar"))
		if _, err := render(t, c, test.values, cluster{}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

// TestTemplatesQuote: what YAML would read as something else arrives as it is.
func TestTemplatesQuote(t *testing.T) {
	spec := example(t, `
credfree:
  policy: a.b
  ceiling: "null"
  image: "127"
  user: 2147483647
  audience: "@x:{y}#z"
  tokenExpirationSeconds: 86400
  authSidecar: "false"
  resources: {requests: {cpu: 100m, memory: 134217728}, limits: {cpu: 0.1, memory: 128Mi}}
  env: {OTEL_RESOURCE_ATTRIBUTES: "a= #b: \"c\"", A: "1e3", B: "a: b #c", C: "{{ x }}"}
`).Spec.Template.Spec
	broker := spec.InitContainers[0]
	got := map[string]string{"image": broker.Image, "uid": strconv.FormatInt(*broker.SecurityContext.RunAsUser, 10), "memory": broker.Resources.Requests.Memory().String()}
	for _, v := range broker.Env {
		got[v.Name] = v.Value
	}
	for _, v := range spec.Volumes {
		if v.ConfigMap != nil {
			got[v.Name] = v.ConfigMap.Name
		}
		if v.Projected != nil {
			got[v.Name] = v.Projected.Sources[0].ServiceAccountToken.Audience
		}
	}
	for name, want := range map[string]string{"image": "127", "uid": "2147483647", "memory": "134217728", "credfree-policy": "a.b", "credfree-ceiling": "null", "credfree-token": "@x:{y}#z",
		"A": "1e3", "B": "a: b #c", "C": "{{ x }}", "CREDFREE_AUTH_SIDECAR": "",
		"OTEL_RESOURCE_ATTRIBUTES": `k8s.namespace.name=$(K8S_NAMESPACE_NAME),k8s.pod.name=$(K8S_POD_NAME),k8s.pod.uid=$(K8S_POD_UID),k8s.node.name=$(K8S_NODE_NAME),a= #b: "c"`} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
}

// TestExamplePolicy: the broker takes the policy that the example installs.
func TestExamplePolicy(t *testing.T) {
	c := load(t, "examples/helm-agent")
	c.SetDependencies(load(t, "charts/credfree-sidecar"))
	text := one[*core.ConfigMap](t, mustRender(t, c, "", cluster{})).Data["credfree.yaml"]
	p, err := policy.Parse("credfree.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Warnings) > 0 {
		t.Errorf("got warnings %v", p.Warnings)
	}
}
