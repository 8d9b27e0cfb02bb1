package chart

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const monitored = "metrics: {prometheusRule: {enabled: true, labels: {release: prometheus}}, dashboard: {enabled: true}}"

// TestMonitoringIsPackedAsItIs: the alerts' own templates are Prometheus', and
// Helm leaves them alone.
func TestMonitoringIsPackedAsItIs(t *testing.T) {
	const rules = "groups:\n- name: credfree\n  rules:\n  - alert: A\n    expr: 'up{job=\"x\"} == 0'\n    annotations:\n      summary: 'down: {{ $labels.pod }}'\n"
	const dashboard = "{\n  \"title\": \"{{pod}}\"\n}\n"
	c := load(t, "charts/credfree")
	if slices.ContainsFunc(c.Files, func(f *common.File) bool { return strings.HasSuffix(f.Name, ".png") }) {
		t.Error("the README's picture is packed into the chart, and with it into each release's Secret")
	}
	webhook := c.Files[slices.IndexFunc(c.Files, func(f *common.File) bool { return f.Name == "files/webhook-rules.yaml" })]
	c.Files = slices.DeleteFunc(c.Files, func(f *common.File) bool { return strings.HasPrefix(f.Name, "files/") })
	if _, err := render(t, c, monitored, cluster{}); err == nil || !strings.Contains(err.Error(), "packed without files/") {
		t.Errorf("got %v, want an error that names the missing file", err)
	}
	c.Files = append(c.Files, webhook, &common.File{Name: "files/rules.yaml", Data: []byte(rules)}, &common.File{Name: "files/dashboard.json", Data: []byte(dashboard)})
	all := mustRender(t, c, monitored, cluster{})
	rule := one[*unstructured.Unstructured](t, all)
	groups := slices.Concat(values(t, rules)["groups"].([]any), values(t, string(webhook.Data))["groups"].([]any))
	if diff := cmp.Diff(any(map[string]any{"groups": groups}), rule.Object["spec"]); diff != "" || rule.GetLabels()["release"] != "prometheus" {
		t.Errorf("labels %v, -want +got\n%s", rule.GetLabels(), diff)
	}
	for _, object := range all {
		if m, ok := object.(*core.ConfigMap); ok && m.Name == "credfree-dashboard" {
			if m.Data["credfree.json"] != dashboard || m.Labels["grafana_dashboard"] != "1" {
				t.Errorf("got %q with labels %v", m.Data["credfree.json"], m.Labels)
			}
			return
		}
	}
	t.Error("there is no dashboard")
}
