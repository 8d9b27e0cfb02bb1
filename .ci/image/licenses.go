package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// work is what somebody has written and the binary contains: a module, or Go's
// standard library, which has no version here.
type work struct {
	path, version string
	texts         []string // of its licences and notices, those of its parts behind
	declared      string   // its licence's name in SPDX, if that is plain
}

// listed is what go list says of a package.
type listed struct {
	Dir, Root string
	Standard  bool
	Module    *struct {
		Path, Version, Dir string
		Main               bool
	}
}

const standard = "stdlib"

// works lists what is linked on a platform, our own first. A work without a
// licence is an error: nobody may hand it on.
func (s settings) works(ctx context.Context, platform v1.Platform) ([]work, error) {
	packages, err := s.list(ctx, platform)
	if err != nil {
		return nil, err
	}
	var main string
	roots, versions, folders := map[string]string{}, map[string]string{}, map[string][]string{}
	for _, p := range packages {
		path, root := standard, p.Root
		if !p.Standard {
			path, root = p.Module.Path, p.Module.Dir
			versions[path] = p.Module.Version
			if p.Module.Main {
				main = path
			}
		}
		roots[path] = root
		for dir := p.Dir; len(dir) > len(root); dir = filepath.Dir(dir) {
			folders[path] = append(folders[path], dir)
		}
	}
	paths := slices.Sorted(maps.Keys(roots))
	paths = append([]string{main}, slices.DeleteFunc(paths, func(path string) bool { return path == main })...)
	var all []work
	var problems []error
	for _, path := range paths {
		w, err := read(path, versions[path], roots[path], folders[path])
		all, problems = append(all, w), append(problems, err)
	}
	return all, errors.Join(problems...)
}

func (s settings) list(ctx context.Context, platform v1.Platform) ([]listed, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-json=Dir,Root,Standard,Module", "./cmd/credfree")
	cmd.Dir, cmd.Env, cmd.Stderr = s.source, environment(platform), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list for %s: %w", platform, err)
	}
	var all []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

var licenseFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice)([.-][a-z0-9.-]+)?$`)

// read finds the licences of a work in its root, and in the folders of those of
// its packages that are linked.
func read(path, version, root string, folders []string) (work, error) {
	w := work{path: path, version: version}
	slices.Sort(folders)
	for i, folder := range append([]string{root}, slices.Compact(folders)...) {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return w, err
		}
		for _, entry := range entries {
			if !licenseFile.MatchString(entry.Name()) || filepath.Ext(entry.Name()) == ".go" || !entry.Type().IsRegular() {
				continue
			}
			text, err := os.ReadFile(filepath.Join(folder, entry.Name()))
			if err != nil {
				return w, err
			}
			w.texts = append(w.texts, strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n")))
		}
		if i == 0 {
			w.declared = declared(w.texts)
		}
	}
	if len(w.texts) == 0 {
		return w, fmt.Errorf("%s %s has no licence", path, version)
	}
	return w, nil
}

// signs are words that only texts of one licence have.
var signs = map[string]*regexp.Regexp{
	"Apache-2.0":   regexp.MustCompile(`apache license,? version 2\.0`),
	"MPL-2.0":      regexp.MustCompile(`mozilla public license,? version 2\.0`),
	"MIT":          regexp.MustCompile(`permission is hereby granted, free of charge, to any person obtaining a copy of this software .* the software is provided "as is"`),
	"ISC":          regexp.MustCompile(`permission to use, copy, modify, and(/or)? distribute this software for any purpose with or without fee is hereby granted, provided that the above copyright notice and this permission notice appear in all copies`),
	"BSD-3-Clause": regexp.MustCompile(`redistribution and use in source and binary forms, .*neither the names? of`),
	"BSD-2-Clause": regexp.MustCompile(`redistribution and use in source and binary forms, `),
}

// declared is the SPDX name of the one licence that texts are; "" where they
// speak of several, or of none that is known.
func declared(texts []string) string {
	found := map[string]bool{}
	for _, text := range texts {
		text = strings.ToLower(strings.Join(strings.Fields(text), " "))
		for name, sign := range signs {
			if sign.MatchString(text) && !strings.Contains(text, "advertising materials") {
				found[name] = true
			}
		}
	}
	if found["BSD-3-Clause"] {
		delete(found, "BSD-2-Clause")
	}
	if len(found) != 1 {
		return ""
	}
	return slices.Collect(maps.Keys(found))[0]
}

// licenses is all texts, each once, below the works that it is of.
func licenses(works []work) []byte {
	var texts []string
	of := map[string][]string{}
	for _, w := range works {
		for _, text := range w.texts {
			name := strings.TrimSpace(w.path + " " + w.version)
			if of[text] == nil {
				texts = append(texts, text)
			}
			if !slices.Contains(of[text], name) {
				of[text] = append(of[text], name)
			}
		}
	}
	var b bytes.Buffer
	for _, text := range texts {
		fmt.Fprintf(&b, "%s\n%s\n\n%s\n\n", strings.Repeat("=", 80), strings.Join(of[text], "\n"), text)
	}
	return b.Bytes()
}
