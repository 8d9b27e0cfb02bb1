package chart

import (
	_ "github.com/credfree/credfree/broker/inject"
	_ "github.com/credfree/credfree/broker/policy"
	_ "github.com/evanphx/json-patch"
	_ "github.com/google/go-cmp/cmp"
	_ "go.yaml.in/yaml/v3"
	_ "helm.sh/helm/v4/pkg/action"
	_ "helm.sh/helm/v4/pkg/chart/loader"
	_ "helm.sh/helm/v4/pkg/engine"
	_ "k8s.io/api/core/v1"
	_ "sigs.k8s.io/yaml"
)
