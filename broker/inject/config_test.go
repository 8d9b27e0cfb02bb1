package inject

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConfig(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"least":            {`{"image": "i"}`, ""},
		"all":              {`{"image": "i", "imagePullPolicy": "Never", "user": 7500, "audience": "api://x", "tokenExpirationSeconds": 600, "resources": {"limits": {"cpu": "0.5", "memory": "64Mi"}}, "maxCPU": "2", "maxMemory": "1Gi", "env": {"OTEL_X": "y"}, "serviceAccounts": true, "ceiling": "c"}`, ""},
		"ceiling":          {`{"image": "i", "ceiling": "a/b"}`, "ceiling \"a/b\""},
		"no image":         {`{}`, "image is missing"},
		"unknown field":    {`{"image": "i", "imge": "j"}`, "imge"},
		"something behind": {`{"image": "i"} {}`, "something follows"},
		"pull policy":      {`{"image": "i", "imagePullPolicy": "Sometimes"}`, "Sometimes"},
		"root":             {`{"image": "i", "user": -1}`, "user -1"},
		"short token":      {`{"image": "i", "tokenExpirationSeconds": 60}`, "tokenExpirationSeconds"},
		"quantity":         {`{"image": "i", "resources": {"limits": {"memory": "lots"}}}`, "memory \"lots\""},
		"no quantity":      {`{"image": "i", "resources": {"limits": {"memory": ""}}}`, "memory \"\""},
		"absurd quantity":  {`{"image": "i", "resources": {"requests": {"cpu": "9999999999999999"}}}`, "cpu \"9999999999999999\""},
		"above its limit":  {`{"image": "i", "resources": {"requests": {"memory": "1.5Gi"}, "limits": {"memory": "1024Mi"}}}`, "requests.memory 1.5Gi is above its limit, 1024Mi"},
		"at its limit":     {`{"image": "i", "resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1024Mi"}}}`, ""},
		"another's limit":  {`{"image": "i", "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "1"}}}`, ""},
		"audience":         {`{"image": "i", "audience": "has space"}`, "audience \"has space\""},
		"image":            {`{"image": "bad repo:1"}`, "image \"bad repo:1\""},
		"image with all":   {`{"image": "[::1]:5000/a_b/c.d-e:V1@sha256:00"}`, ""},
		"bound":            {`{"image": "i", "maxCPU": "-1"}`, "maxCPU \"-1\""},
		"variable of ours": {`{"image": "i", "env": {"CREDFREE_CONFIG": "/x"}}`, "CREDFREE_CONFIG"},
		"no variable":      {`{"image": "i", "env": {"A B": "/x"}}`, "A B"},
	} {
		_, err := ParseConfig([]byte(test.text))
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
		if _, twice := New(Config{}); twice == nil {
			t.Fatal("got an injector without an image")
		}
	}
}

func TestQuantities(t *testing.T) {
	for _, test := range []struct {
		amount, bound string
		want          bool
	}{
		{"100m", "0.1", true}, {"101m", "0.1", false}, {"1", "", true}, {"1Gi", "1024Mi", true}, {"1025Mi", "1Gi", false},
		{"1G", "1Gi", true}, {"0.5", "500m", true}, {"", "1", false}, {"1e3", "", false}, {"-1", "", false}, {"9999999999999999999", "", false},
	} {
		if got := within(test.amount, test.bound); got != test.want {
			t.Errorf("%q within %q: got %v, want %v", test.amount, test.bound, got, test.want)
		}
	}
}

// TestSchema: the chart takes what the webhook takes, and no more.
func TestSchema(t *testing.T) {
	text, err := os.ReadFile("../../charts/credfree/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	var own []any
	for _, name := range ownVariables {
		own = append(own, name)
	}
	at := editor{root: schema.(object)}
	for path, want := range map[string]any{
		"sidecar/properties/env/propertyNames/not/enum":                                 own,
		"sidecar/properties/resources/properties/requests/additionalProperties/pattern": quantityForm.String(),
		"sidecar/properties/resources/properties/limits/additionalProperties/pattern":   quantityForm.String(),
		"sidecar/properties/maxCPU/pattern":                                             "^$|" + quantityForm.String(),
		"sidecar/properties/maxMemory/pattern":                                          "^$|" + quantityForm.String(),
		"sidecar/properties/audience/pattern":                                           audienceForm.String(),
		"sidecar/properties/ceiling/pattern":                                            "^$|" + configMap.String(),
		"sidecar/properties/image/pattern":                                              "^$|" + imageForm.String(),
		"image/properties/repository/pattern":                                           imageForm.String(),
	} {
		if diff := cmp.Diff(want, at.at(strings.Split("properties/"+path, "/")...)); diff != "" {
			t.Errorf("%s: -want +got\n%s", path, diff)
		}
	}
}

// TestTemplates: those of credfree-sidecar take what the webhook takes.
func TestTemplates(t *testing.T) {
	text, err := os.ReadFile("../../charts/credfree-sidecar/templates/_sidecar.tpl")
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []*regexp.Regexp{agentName, configMap, guid, tenantForm, audienceForm, imageForm, variableName, quantityForm} {
		if !strings.Contains(string(text), "`"+form.String()+"`") {
			t.Errorf("the templates have no form `%s`", form)
		}
	}
	if own := `"` + strings.Join(ownVariables, `" "`) + `"`; !strings.Contains(string(text), own) {
		t.Errorf("the templates have not the list %s", own)
	}
}

// TestAnnotationsAreDocumented compares the chart's README with the code.
func TestAnnotationsAreDocumented(t *testing.T) {
	readme, err := os.ReadFile("../../charts/credfree/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	want.WriteString("<!-- annotations -->\n| annotation | value | meaning |\n|---|---|---|\n")
	for _, a := range Annotations() {
		want.WriteString("| `" + prefix + a.Name + "` | " + a.Value + " | " + a.Meaning + " |\n")
	}
	want.WriteString("<!-- /annotations -->\n")
	if !strings.Contains(string(readme), want.String()) {
		t.Errorf("charts/credfree/README.md has to hold\n%s", want.String())
	}
}
