package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestEveryModuleHasALicence looks at what the real program links.
func TestEveryModuleHasALicence(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		works, err := settings{source: "../.."}.works(t.Context(), v1.Platform{OS: "linux", Architecture: arch})
		if err != nil {
			t.Fatal(err)
		}
		if len(works) < 50 || works[0].path != "github.com/credfree/credfree" || works[0].declared != "MIT" {
			t.Errorf("got %d works, the first %s (%s)", len(works), works[0].path, works[0].declared)
		}
		text := string(licenses(works))
		for _, w := range works {
			if len(w.texts) == 0 || !strings.Contains(text, "\n"+strings.TrimSpace(w.path+" "+w.version)+"\n") {
				t.Errorf("%s: %d texts, and no word of it", w.path, len(w.texts))
			}
		}
		for path, want := range map[string]string{
			"github.com/aws/smithy-go": "Apache-2.0", "github.com/hashicorp/golang-lru/v2": "MPL-2.0", "github.com/urfave/cli/v2": "MIT", "github.com/google/uuid": "BSD-3-Clause",
			"github.com/russross/blackfriday/v2": "BSD-2-Clause", standard: "BSD-3-Clause",
			"go.yaml.in/yaml/v3": "", // one licence for some files, another for the rest
		} {
			i := slices.IndexFunc(works, func(w work) bool { return w.path == path })
			if i < 0 || works[i].declared != want {
				t.Errorf("%s: got %q, want %q", path, works[max(i, 0)].declared, want)
			}
		}
	}
}

// TestPartsOfAModule: what a module has taken over from others stands in the
// folder of the package that it is in, and a module without a licence stops the
// build.
func TestPartsOfAModule(t *testing.T) {
	source := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/m\n\ngo 1.26.0\n\nrequire example.com/d v0.0.0\n\nreplace example.com/d => ./d\n", "LICENSE": "ours",
		"cmd/credfree/main.go": "package main\n\nimport \"example.com/d/linked/deep\"\n\nfunc main() { deep.F() }\n",
		"d/go.mod":             "module example.com/d\n\ngo 1.26.0\n",
		"d/linked/deep/f.go":   "package deep\n\nfunc F() {}\n", "d/linked/COPYING.txt": "taken over", "d/other/LICENSE": "not linked", "d/other/f.go": "package other\n",
		"d/license.go": "package d\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(source, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(source, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, platform := settings{source: source}, v1.Platform{OS: "linux", Architecture: "amd64"}
	works, err := s.works(t.Context(), platform)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(licenses(works)); !strings.Contains(text, "\nexample.com/d v0.0.0\n\ntaken over\n") || strings.Contains(text, "not linked") {
		t.Errorf("got %s", text)
	}
	if err := os.Remove(filepath.Join(source, "d/linked/COPYING.txt")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.works(t.Context(), platform); err == nil || !strings.Contains(err.Error(), "example.com/d v0.0.0 has no licence") {
		t.Errorf("got %v for a module without a licence", err)
	}
}

func TestDeclared(t *testing.T) {
	const bsd = "Copyright X\n\nRedistribution and use in source and binary\nforms, with or without modification, are permitted"
	for text, want := range map[string]string{
		"                              Apache License\n                        Version 2.0, January 2004": "Apache-2.0",
		"Copyright (c) X\n\nMozilla Public License, version 2.0\n\n1. Definitions":                        "MPL-2.0",
		bsd: "BSD-2-Clause",
		bsd + "\n * Neither the name of X nor the names of its contributors": "BSD-3-Clause",
		bsd + "\n3. All advertising materials\n4. Neither the name of X":     "",
		bsd + "\n\nApache License Version 2.0":                               "",
		"GNU GENERAL PUBLIC LICENSE\nVersion 3":                              "",
		"MIT or so":                                                          "",
		"":                                                                   "",
	} {
		if got := declared([]string{text}); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
