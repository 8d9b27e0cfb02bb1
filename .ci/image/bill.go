package main

import (
	"cmp"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The parts of SPDX 2.3 that are used.
type (
	document struct {
		Version       string         `json:"spdxVersion"`
		License       string         `json:"dataLicense"`
		ID            string         `json:"SPDXID"`
		Name          string         `json:"name"`
		Namespace     string         `json:"documentNamespace"`
		Creation      creation       `json:"creationInfo"`
		Packages      []pkg          `json:"packages"`
		Relationships []relationship `json:"relationships"`
	}
	creation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	pkg struct {
		ID       string      `json:"SPDXID"`
		Name     string      `json:"name"`
		Version  string      `json:"versionInfo,omitempty"`
		Download string      `json:"downloadLocation"`
		Analyzed bool        `json:"filesAnalyzed"`
		License  string      `json:"licenseConcluded"`
		Declared string      `json:"licenseDeclared"`
		Text     string      `json:"copyrightText"`
		Refs     []reference `json:"externalRefs,omitempty"`
	}
	reference struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	relationship struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

// bill lists what is linked into the binary, as the Go tool recorded it there.
func (s settings) bill(binary string, platform v1.Platform, digest string, works []work) ([]byte, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	const root = "SPDXRef-image"
	d := document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: fmt.Sprintf("credfree %s %s", s.version, platform),
		// Unique, and the same for the same image.
		Namespace: "https://github.com/credfree/credfree/spdx/" + strings.TrimPrefix(digest, "sha256:"),
		Creation:  creation{Created: s.created.UTC().Format("2006-01-02T15:04:05Z"), Creators: []string{"Tool: credfree-image"}},
		Packages: []pkg{{ID: root, Name: "credfree", Version: s.version, Download: "https://github.com/credfree/credfree", License: "MIT", Declared: "MIT", Text: "NOASSERTION",
			Refs: []reference{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + info.Main.Path + "@" + s.version}}}},
		Relationships: []relationship{{"SPDXRef-DOCUMENT", "DESCRIBES", root}},
	}
	licenses := map[string]string{}
	for _, w := range works {
		licenses[w.path] = w.declared
	}
	add := func(id, name, version, purl, license string) {
		d.Packages = append(d.Packages, pkg{ID: id, Name: name, Version: version, Download: "NOASSERTION", License: "NOASSERTION", Declared: cmp.Or(license, "NOASSERTION"), Text: "NOASSERTION",
			Refs: []reference{{"PACKAGE-MANAGER", "purl", purl}}})
		d.Relationships = append(d.Relationships, relationship{root, "CONTAINS", id})
	}
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	add("SPDXRef-go", standard, goVersion, "pkg:golang/"+standard+"@"+goVersion, licenses[standard])
	for i, module := range info.Deps {
		license, ok := licenses[module.Path]
		if !ok {
			return nil, fmt.Errorf("%s is linked, and nobody has looked for its licence", module.Path)
		}
		if module.Replace != nil {
			module = module.Replace
		}
		add(fmt.Sprintf("SPDXRef-module-%d", i+1), module.Path, module.Version, "pkg:golang/"+module.Path+"@"+module.Version, license)
	}
	text, err := json.MarshalIndent(d, "", " ")
	return append(text, '\n'), err
}
