package chart

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite what is generated: the snapshot and the README's table")

const root = "../.."

func load(t testing.TB, folder string) *chart.Chart {
	t.Helper()
	c, err := loader.Load(filepath.Join(root, folder))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// cluster answers lookups with one Secret, or none.
type cluster struct{ secret *unstructured.Unstructured }

func (c cluster) GetClientFor(apiVersion, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	if apiVersion != "v1" || kind != "Secret" {
		return nil, false, fmt.Errorf("looked up %s %s", apiVersion, kind)
	}
	var objects []runtime.Object
	if c.secret != nil {
		objects = append(objects, c.secret)
	}
	return fake.NewSimpleDynamicClient(scheme.Scheme, objects...).Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}), true, nil
}

// values reads a YAML text as helm does.
func values(t testing.TB, text string) map[string]any {
	t.Helper()
	v := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// render is helm install, as far as the manifests.
func render(t testing.TB, c *chart.Chart, text string, in cluster) (map[string]string, error) {
	t.Helper()
	return install(t, c, text, in, "credfree", "v1.34.0")
}

// install is render, by another name or in another Kubernetes.
func install(t testing.TB, c *chart.Chart, text string, in cluster, name, version string) (map[string]string, error) {
	t.Helper()
	capabilities := common.DefaultCapabilities.Copy()
	capabilities.KubeVersion = common.KubeVersion{Version: version}
	v, err := util.ToRenderValues(c, values(t, text), common.ReleaseOptions{Name: name, Namespace: "credfree-system", IsInstall: true}, capabilities)
	if err != nil {
		return nil, err
	}
	return engine.RenderWithClientProvider(c, v, in)
}

// documents splits rendered files, without the notes.
func documents(files map[string]string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		for document := range strings.SplitSeq("\n"+files[name], "\n---") {
			if strings.TrimSpace(document) != "" {
				all = append(all, strings.TrimSpace(document)+"\n")
			}
		}
	}
	return all
}

// foreign are the kinds that operators bring: there are no types of theirs here.
var foreign = []string{"ServiceMonitor", "PrometheusRule", "Certificate", "Issuer"}

// objects decodes manifests strictly: an unknown or repeated field is an error.
func objects(t testing.TB, files map[string]string) []runtime.Object {
	t.Helper()
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	var all []runtime.Object
	for _, document := range documents(files) {
		object, _, err := strict.Decode([]byte(document), nil, nil)
		if runtime.IsNotRegisteredError(err) {
			u := &unstructured.Unstructured{}
			if err = yaml.UnmarshalStrict([]byte(document), &u.Object); err == nil && !slices.Contains(foreign, u.GetKind()) {
				err = fmt.Errorf("nobody knows the kind %s", u.GetKind())
			}
			object = u
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		all = append(all, object)
	}
	return all
}

func mustRender(t testing.TB, c *chart.Chart, text string, in cluster) []runtime.Object {
	t.Helper()
	files, err := render(t, c, text, in)
	if err != nil {
		t.Fatal(err)
	}
	return objects(t, files)
}

// one returns the only object of a type.
func one[T runtime.Object](t testing.TB, all []runtime.Object) T {
	t.Helper()
	var found []T
	for _, object := range all {
		if o, ok := object.(T); ok {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("got %d objects of type %T, want one", len(found), *new(T))
	}
	return found[0]
}

func read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
