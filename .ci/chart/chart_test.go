package chart

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	admission "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	disruption "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/credfree/credfree/broker/inject"
)

// variants are values under which every manifest has to be one that Kubernetes
// knows, field by field.
var variants = map[string]string{
	"default":      "",
	"cert-manager": "certificates: {provider: cert-manager}",
	"issuer":       "certificates: {provider: cert-manager, certManager: {issuerRef: {name: ca, kind: ClusterIssuer}}}",
	"renewed late": "certificates: {provider: cert-manager, certManager: {duration: 2h, renewBefore: 119m}}",
	"secret":       "certificates: {provider: secret, secret: {name: mine, caBundle: '-----BEGIN CERTIFICATE-----'}}",
	"everything": `
replicas: 3
imagePullSecrets: [{name: registry}]
serviceAccounts: true
image: {digest: "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}
sidecar: {image: "example.com/credfree:2", env: {OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318"}, user: 7500}
guardrails: {enabled: true, actions: [Deny, Audit]}
networkPolicy: {enabled: true, egress: [{ports: [{port: 4318}]}]}
metrics: {serviceMonitor: {enabled: true, labels: {release: prometheus}}}
priorityClassName: system-cluster-critical
tolerations: [{key: a, operator: Exists}]
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]
podLabels: {a: b}
podAnnotations: {c: d}
env: {OTEL_SDK_DISABLED: "true"}
verbose: true
webhook: {annotations: {e: f}, failurePolicy: Ignore}
serviceAccount: {annotations: {g: h}}
`,
}

func TestManifestsAreKnown(t *testing.T) {
	c := load(t, "charts/credfree")
	for name, text := range variants {
		t.Run(name, func(t *testing.T) {
			if got := mustRender(t, c, text, cluster{}); len(got) < 5 {
				t.Errorf("got %d objects", len(got))
			}
		})
	}
}

var generated = regexp.MustCompile(`(?m)^( *(?:tls\.crt|tls\.key|ca\.crt|caBundle|credfree\.dev/renew-after): ).+$`)

// TestSnapshot shows what an installation with no values is.
func TestSnapshot(t *testing.T) {
	files, err := render(t, load(t, "charts/credfree"), "", cluster{})
	if err != nil {
		t.Fatal(err)
	}
	got := generated.ReplaceAllString(strings.Join(documents(files), "---\n"), "${1}GENERATED")
	if *update {
		if err := os.WriteFile("testdata/default.yaml", []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/default.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got (rewrite with -update)\n%s", diff)
	}
}

// TestWrongValues: what is wrong is said by its name.
func TestWrongValues(t *testing.T) {
	c := load(t, "charts/credfree")
	for name, test := range map[string]struct{ text, want string }{
		"unknown value":         {"replica: 3", "additional properties 'replica' not allowed"},
		"no certificates":       {"certificates: null", "missing property 'certificates'"},
		"no namespaces":         {"webhook: {excludedNamespaces: null}", "at '/webhook': missing property 'excludedNamespaces'"},
		"no sidecar":            {"sidecar: null", "missing property 'sidecar'"},
		"unknown value, deeper": {"sidecar: {images: x}", "at '/sidecar': additional properties 'images' not allowed"},
		"number for a text":     {"image: {tag: 1}", "at '/image/tag': got number, want string"},
		"failure policy":        {"webhook: {failurePolicy: fail}", "at '/webhook/failurePolicy': value must be one of 'Fail', 'Ignore'"},
		"timeout":               {"webhook: {timeoutSeconds: 60}", "at '/webhook/timeoutSeconds': maximum: got 60, want 30"},
		"root":                  {"sidecar: {user: 0}", "at '/sidecar/user': minimum: got 0, want 1"},
		"token life":            {"sidecar: {tokenExpirationSeconds: 60}", "at '/sidecar/tokenExpirationSeconds': minimum: got 60, want 600"},
		"quantity":              {"sidecar: {resources: {limits: {memory: lots}}}", "at '/sidecar/resources/limits/memory': 'lots' does not match pattern"},
		"absurd quantity":       {"sidecar: {maxCPU: '9999999999999999'}", "at '/sidecar/maxCPU': '9999999999999999' does not match pattern"},
		"no audience":           {"sidecar: {audience: has space}", "at '/sidecar/audience': 'has space' does not match pattern"},
		"no repository":         {"image: {repository: bad repo}", "at '/image/repository': 'bad repo' does not match pattern"},
		"no tag":                {"image: {tag: 'a b'}", "at '/image/tag': 'a b' does not match pattern"},
		"variable of ours":      {"sidecar: {env: {CREDFREE_CONFIG: /x}}", "invalid propertyName 'CREDFREE_CONFIG'"},
		"provider":              {"certificates: {provider: vault}", "at '/certificates/provider': value must be one of 'helm', 'cert-manager', 'secret'"},
		"kube-system":           {"webhook: {excludedNamespaces: [kube-public]}", "at '/webhook/excludedNamespaces': no items match contains schema"},
		"no replica":            {"replicas: 0", "at '/replicas': minimum: got 0, want 1"},
		"no disruption":         {"podDisruptionBudget: {maxUnavailable: 0}", "at '/podDisruptionBudget/maxUnavailable': minimum: got 0, want 1"},
		"no disruption, at all": {"podDisruptionBudget: {maxUnavailable: 0%}", "at '/podDisruptionBudget/maxUnavailable': '0%' does not match pattern"},
		"no number":             {"podDisruptionBudget: {maxUnavailable: abc}", "at '/podDisruptionBudget/maxUnavailable': 'abc' does not match pattern"},
		"what stops drains":     {"podDisruptionBudget: {minAvailable: 2}", "at '/podDisruptionBudget': additional properties 'minAvailable' not allowed"},
		"guardrail action":      {"guardrails: {actions: [Block]}", "at '/guardrails/actions/0': value must be one of 'Deny', 'Audit', 'Warn'"},
		"two guardrail actions": {"guardrails: {enabled: true, actions: [Warn, Deny]}", "Kubernetes does not take Deny and Warn together"},
		"secret without name":   {"certificates: {provider: secret}", "certificates.secret.name is missing"},
		"secret without CA":     {"certificates: {provider: secret, secret: {name: mine}}", "certificates.secret.caBundle is missing"},
		"renewed too early":     {"certificates: {provider: cert-manager, certManager: {duration: 2h, renewBefore: 121m}}", "renewBefore, 121m, has to be less than duration, 2h"},
		"renewed at once":       {"certificates: {provider: cert-manager, certManager: {duration: 0100h, renewBefore: 360000s}}", "renewBefore, 360000s, has to be less than duration, 0100h"},
		"issuer without name":   {"certificates: {certManager: {issuerRef: {kind: ClusterIssuer}}}", "at '/certificates/certManager/issuerRef': properties 'name' required"},
		"issuer's empty name":   {"certificates: {certManager: {issuerRef: {name: ''}}}", "at '/certificates/certManager/issuerRef/name': minLength"},
		"variable of the pod's": {"sidecar: {env: {'A B': c}}", "at '/sidecar/env': additional properties 'A B' not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := render(t, c, test.text, cluster{})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error that says %q", err, test.want)
			}
		})
	}
}

// TestGuardrailsNeedANewerKubernetes: 1.29, which the chart is for, has no such kind.
func TestGuardrailsNeedANewerKubernetes(t *testing.T) {
	c := load(t, "charts/credfree")
	for version, want := range map[string]string{"v1.29.9": "guardrails.enabled needs Kubernetes 1.30", "v1.29.9-gke.1": "needs Kubernetes 1.30", "v1.30.0": "", "v1.30.2-eks-1": "", "v1.31.0": ""} {
		if _, err := install(t, c, "", cluster{}, "credfree", version); err != nil {
			t.Errorf("%s, without guardrails: %v", version, err)
		}
		if _, err := install(t, c, "guardrails: {enabled: true}", cluster{}, "credfree", version); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", version, err, want)
		}
	}
}

// TestNodesCanBeDrained: whatever the replicas, one may always go.
func TestNodesCanBeDrained(t *testing.T) {
	c := load(t, "charts/credfree")
	for _, text := range []string{"", "replicas: 1", "replicas: 5", "podDisruptionBudget: {maxUnavailable: 1%}", "podDisruptionBudget: {maxUnavailable: 100%}"} {
		spec := one[*disruption.PodDisruptionBudget](t, mustRender(t, c, text, cluster{})).Spec
		if spec.MinAvailable != nil || spec.MaxUnavailable == nil {
			t.Fatalf("%s: got %+v", text, spec)
		}
		if may, err := intstr.GetScaledValueFromIntOrPercent(spec.MaxUnavailable, 1, true); err != nil || may < 1 { // as Kubernetes rounds
			t.Errorf("%s: %d of 1 may go (%v)", text, may, err)
		}
	}
}

// TestReleaseNames: each that Helm takes makes names that Kubernetes takes, or is
// refused with what to do.
func TestReleaseNames(t *testing.T) {
	c := load(t, "charts/credfree")
	for _, test := range []struct{ release, values, want string }{
		{"credfree", "", "credfree"},
		{"my-credfree", "", "my-credfree"},
		{"agents", "", "agents-credfree"},
		{"rel.with.dots", "", "rel-with-dots-credfree"},
		{"true", "", "true-credfree"},
		{"a-long-name-of-a-release-that-ends-ins--x", "", "a-long-name-of-a-release-that-ends-ins"},
		{"1rel", "fullnameOverride: rel", "rel"},
		{"1rel", "", "the name 1rel-credfree begins with a digit, and Services may not: set fullnameOverride"},
	} {
		files, err := install(t, c, test.values, cluster{}, test.release, "v1.34.0")
		if err != nil {
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got %v, want %q", test.release, err, test.want)
			}
			continue
		}
		for _, object := range objects(t, files) {
			if service, ok := object.(*core.Service); ok && (service.Name != test.want || len(validation.IsDNS1035Label(service.Name)) > 0 || service.Spec.Selector["app.kubernetes.io/instance"] != test.release) {
				t.Errorf("%s: got service %s of %v, want %s", test.release, service.Name, service.Spec.Selector, test.want)
			}
		}
	}
}

// TestNulls takes away each value, as null does, where it matters and where not:
// the chart does without, or its schema says which one is missing.
func TestNulls(t *testing.T) {
	c := load(t, "charts/credfree")
	monitored := variants["everything"] + "metrics: {serviceMonitor: {enabled: true}, prometheusRule: {enabled: true}, dashboard: {enabled: true}}"
	monitored = strings.Replace(monitored, "metrics: {serviceMonitor: {enabled: true, labels: {release: prometheus}}}\n", "", 1)
	without, refused := 0, 0
	for _, text := range []string{monitored, variants["cert-manager"], variants["secret"]} {
		for _, path := range nulls(values(t, read(t, "charts/credfree/values.yaml")), nil) {
			v := values(t, text)
			at := v
			for _, name := range path[:len(path)-1] {
				below, _ := at[name].(map[string]any)
				if below == nil {
					below = map[string]any{}
				}
				at[name], at = below, below
			}
			at[path[len(path)-1]] = nil
			changed, err := yaml.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			files, err := render(t, c, string(changed), cluster{})
			switch {
			case err == nil:
				objects(t, files)
				without++
			case strings.Contains(err.Error(), "missing property '"+path[len(path)-1]+"'"), strings.Contains(err.Error(), strings.Join(path, ".")+" is missing"):
				refused++
			default:
				t.Errorf("%s: null: %v", strings.Join(path, "."), err)
			}
		}
	}
	if without < 30 || refused < 30 {
		t.Errorf("%d values can be done without, and %d cannot: too few to tell", without, refused)
	}
}

// nulls are the paths of all values.
func nulls(v map[string]any, at []string) [][]string {
	var all [][]string
	for name, value := range v {
		path := append(slices.Clone(at), name)
		all = append(all, path)
		if below, ok := value.(map[string]any); ok {
			all = append(all, nulls(below, path)...)
		}
	}
	return all
}

func TestLint(t *testing.T) {
	version, err := common.ParseKubeVersion("v1.34.0")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"charts/credfree", "charts/credfree-sidecar"} {
		linted := lint.RunAll(root+"/"+folder, nil, "credfree-system", lint.WithKubeVersion(version))
		for _, message := range linted.Messages {
			if message.Severity > support.InfoSev {
				t.Errorf("%s: %v", folder, message)
			}
		}
	}
}

// TestWebhookReadsItsConfig: what the chart writes is what the program reads.
func TestWebhookReadsItsConfig(t *testing.T) {
	c := load(t, "charts/credfree")
	for name, text := range variants {
		cfg, err := inject.ParseConfig([]byte(one[*core.ConfigMap](t, mustRender(t, c, text, cluster{})).Data["inject.json"]))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if want := name == "everything"; cfg.ServiceAccounts != want || (cfg.User == 7500) != want || (cfg.Image == "example.com/credfree:2") != want {
			t.Errorf("%s: got %+v", name, cfg)
		}
	}
}

// TestReferences: names that have to agree do, and the rights are the least.
func TestReferences(t *testing.T) {
	all := mustRender(t, load(t, "charts/credfree"), "serviceAccounts: true", cluster{})
	deployment, service, hook := one[*apps.Deployment](t, all), one[*core.Service](t, all), one[*admission.MutatingWebhookConfiguration](t, all)
	pod := deployment.Spec.Template
	for key, value := range service.Spec.Selector {
		if pod.Labels[key] != value {
			t.Errorf("the service selects %s=%s, which the pods have not", key, value)
		}
	}
	client := hook.Webhooks[0].ClientConfig.Service
	if client.Name != service.Name || client.Namespace != service.Namespace || *client.Path != inject.Path {
		t.Errorf("the API server calls %v", client)
	}
	if got := *pod.Spec.AutomountServiceAccountToken; !got {
		t.Error("the webhook has no token to read service accounts with")
	}
	want := []rbac.PolicyRule{{APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, Verbs: []string{"get"}}}
	if diff := cmp.Diff(want, one[*rbac.ClusterRole](t, all).Rules); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, object := range mustRender(t, load(t, "charts/credfree"), "", cluster{}) {
		switch object.(type) {
		case *rbac.ClusterRole, *rbac.ClusterRoleBinding, *rbac.Role, *rbac.RoleBinding:
			t.Error("without serviceAccounts the webhook needs no right, and has one")
		}
	}
	if hook.Webhooks[0].ObjectSelector.MatchLabels[inject.Label] != "true" || pod.Labels[inject.Label] != "" {
		t.Error("the webhook selects other pods than those with its label, or itself")
	}
}
