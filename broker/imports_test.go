package broker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/credfree/credfree/"

// arrows says, for each package of ours, which of ours it may import, and why
// no other. A package that is missing here fails the test.
var arrows = map[string]struct {
	may []string
	why string
}{
	"exchange/secret":          {nil, "text that cannot be printed needs nobody"},
	"exchange/workload":        {[]string{"exchange/secret"}, "a source knows neither Entra nor agents"},
	"exchange/workload/aws":    {[]string{"exchange/workload"}, "a source of its own, because it brings AWS's SDK"},
	"exchange/workload/spiffe": {[]string{"exchange/workload"}, "a source of its own, because it brings gRPC"},
	"exchange/managedidentity": {[]string{"exchange/secret", "exchange/workload"}, "the machine's endpoint knows neither Entra nor agents"},
	"exchange/usertoken":       {[]string{"exchange/secret"}, "whose token it is does not depend on who asks"},
	"exchange":                 {[]string{"exchange/secret", "exchange/workload", "exchange/managedidentity"}, "the exchange knows nothing of agents or policy"},
	"exchange/entratest":       {nil, "a judge that shared code with us would share our mistakes"},
	"broker/policy":            {nil, "decisions are pure"},
	"broker/peer":              {nil, "evidence knows no policy"},
	"broker/cache":             {nil, "the cache keeps values it cannot read"},
	"broker/issuance":          {[]string{"broker/recent"}, "a record is made of words, so that no token can get into it"},
	"broker/client":            {nil, "agents link it"},
	"broker/review":            {[]string{"broker/policy"}, "a review reads what was recorded, and issues nothing"},
	"broker": {[]string{"broker/policy", "broker/peer", "broker/cache", "broker/issuance", "broker/recent",
		"exchange", "exchange/managedidentity", "exchange/secret", "exchange/usertoken", "exchange/workload"}, "the one use case"},
	"broker/localapi":    {[]string{"broker", "broker/client", "broker/peer", "broker/policy", "exchange", "exchange/secret"}, "doors decode and render"},
	"broker/recent":      {nil, "what people look at is words, and nothing that could be spent"},
	"broker/admin":       {[]string{"broker/peer", "broker/recent"}, "operators see states, not tokens"},
	"broker/inject":      {[]string{"broker/client", "broker/policy"}, "the webhook issues no token; policies it checks and never applies"},
	"examples":           {nil, "a stranger's code"},
	"examples/go-oauth2": {nil, "a stranger's code"},
	"cmd/credfree": {[]string{"broker", "broker/admin", "broker/cache", "broker/client", "broker/inject", "broker/issuance", "broker/localapi", "broker/peer", "broker/policy", "broker/recent", "broker/review",
		"exchange", "exchange/entratest", "exchange/managedidentity", "exchange/usertoken", "exchange/workload", "exchange/workload/aws", "exchange/workload/spiffe"}, "the wiring"},
}

// fences keep heavy or dangerous dependencies in few packages. A package not
// listed in "only" must not have the dependency anywhere below it.
var fences = []struct {
	dependency string // import path, or its first part
	only       []string
	why        string
}{
	{"github.com/urfave/cli", []string{"cmd/credfree"}, "flags are the command's"},
	{"go.opentelemetry.io/otel/sdk", []string{"cmd/credfree"}, "libraries see the API alone"},
	{"go.opentelemetry.io/otel/exporters", []string{"cmd/credfree"}, "libraries see the API alone"},
	{"go.opentelemetry.io/contrib", []string{"cmd/credfree"}, "libraries see the API alone"},
	{"github.com/AzureAD", []string{"exchange", "exchange/managedidentity", "broker", "broker/localapi", "cmd/credfree"}, "MSAL stays behind the exchange"},
	{"github.com/aws", []string{"cmd/credfree", "exchange/workload/aws"}, "AWS's SDK is for the one source"},
	{"google.golang.org/grpc", []string{"cmd/credfree", "exchange/workload/spiffe"}, "gRPC is for the one source, and for exporters"},
	{"os/exec", []string{"cmd/credfree", "exchange", "exchange/managedidentity", "exchange/workload", "exchange/workload/aws", "exchange/workload/spiffe", "broker", "broker/localapi"}, "only MSAL's helpers, the command and the sources that run one start processes"},
}

func TestImportArrows(t *testing.T) {
	packages := listPackages(t)
	for path, p := range packages {
		rule, ok := arrows[path]
		if !ok {
			t.Errorf("%s has no row in the table of arrows", path)
			continue
		}
		for _, imported := range p.Imports {
			if ours, ok := strings.CutPrefix(imported, module); ok && !slices.Contains(rule.may, ours) {
				t.Errorf("%s imports %s: %s", path, ours, rule.why)
			}
		}
		for _, fence := range fences {
			if slices.Contains(fence.only, path) {
				continue
			}
			for _, dependency := range p.Deps {
				if strings.HasPrefix(dependency, fence.dependency) {
					t.Errorf("%s depends on %s: %s", path, dependency, fence.why)
					break
				}
			}
		}
	}
	for path := range arrows {
		if _, ok := packages[path]; !ok {
			t.Errorf("the table of arrows has a row for %s, which does not exist", path)
		}
	}
}

func TestStandardLibraryOnly(t *testing.T) {
	for _, path := range []string{"broker/client", "broker/admin", "broker/recent", "exchange/secret", "exchange/workload"} {
		for _, dependency := range listPackages(t)[path].Deps {
			first, _, _ := strings.Cut(dependency, "/")
			ours := strings.HasPrefix(dependency, module)
			kernel := path == "broker/admin" && strings.HasPrefix(dependency, "golang.org/x/sys")
			if strings.Contains(first, ".") && !ours && !kernel {
				t.Errorf("%s depends on %s, want the standard library alone", path, dependency)
			}
		}
	}
}

type listed struct {
	ImportPath    string
	Imports, Deps []string
}

// listPackages asks the go tool, without test files.
func listPackages(t *testing.T) map[string]listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports,Deps", module+"...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := map[string]listed{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if path, ok := strings.CutPrefix(p.ImportPath, module); ok {
			packages[path] = p
		}
	}
	if len(packages) == 0 {
		t.Fatal("go list found no package of ours")
	}
	return packages
}
