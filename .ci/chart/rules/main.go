// Rules prints the rules that the chart renders, as Prometheus reads them: the
// spec of its PrometheusRule is a rules file.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/yaml"
)

func main() {
	rules, err := rendered("../../charts/credfree")
	if err == nil {
		_, err = os.Stdout.Write(rules)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func rendered(folder string) ([]byte, error) {
	c, err := loader.Load(folder)
	if err != nil {
		return nil, err
	}
	on := map[string]any{"metrics": map[string]any{"prometheusRule": map[string]any{"enabled": true}}}
	values, err := util.ToRenderValues(c, on, common.ReleaseOptions{Name: "credfree", Namespace: "credfree-system", IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, values)
	if err != nil {
		return nil, err
	}
	for document := range strings.SplitSeq(files["credfree/templates/monitoring.yaml"], "\n---") {
		var object struct {
			Kind string         `json:"kind"`
			Spec map[string]any `json:"spec"`
		}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			return nil, err
		}
		if object.Kind == "PrometheusRule" {
			return yaml.Marshal(object.Spec)
		}
	}
	return nil, errors.New("the chart renders no PrometheusRule")
}
