package localapi

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sources are the files of a package of doors, without its tests, and the text
// constants of all of them by name.
func sources(t *testing.T, dir string) (files []*ast.File, constants map[string]string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no sources: %v", err)
	}
	constants = map[string]string{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				for i, value := range spec.Values {
					if text, ok := textOf(value, nil); ok {
						constants[spec.Names[i].Name] = text
					}
				}
			}
			return true
		})
	}
	return files, constants
}

// textOf is the value of a text that stands in the code, or of a constant.
func textOf(e ast.Expr, constants map[string]string) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, err := strconv.Unquote(e.Value)
			return text, err == nil
		}
	case *ast.Ident:
		text, ok := constants[e.Name]
		return text, ok
	}
	return "", false
}

// describedNames are the paths of the document, and the names of all parameters,
// keys and members of forms, in lower case.
func describedNames(t *testing.T) (paths, names map[string]bool) {
	t.Helper()
	var document map[string]any
	if err := json.Unmarshal(OpenAPI(), &document); err != nil {
		t.Fatal(err)
	}
	paths, names = map[string]bool{}, map[string]bool{}
	for path := range document["paths"].(map[string]any) {
		paths[path] = true
	}
	var walk func(value any, form bool)
	walk = func(value any, form bool) {
		switch value := value.(type) {
		case []any:
			for _, v := range value {
				walk(v, form)
			}
		case map[string]any:
			if name, ok := value["name"].(string); ok {
				names[strings.ToLower(name)] = true
			}
			properties, _ := value["properties"].(map[string]any)
			for name := range properties {
				names[strings.ToLower(name)] = names[strings.ToLower(name)] || form
			}
			for key, v := range value {
				walk(v, form || key == "application/x-www-form-urlencoded" || strings.HasSuffix(key, "Request"))
			}
		}
	}
	walk(document, false)
	return paths, names
}

// Every parameter and header that the doors read is in the document.
func TestOpenAPIHasEveryParameter(t *testing.T) {
	_, names := describedNames(t)
	read := map[string]bool{}
	files, constants := sources(t, ".")
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr: // f.get("scope"), r.Header.Get("Metadata"), c.own(identityHeader)
				called, ok := n.Fun.(*ast.SelectorExpr)
				if !ok || len(n.Args) != 1 || called.Sel.Name != "get" && called.Sel.Name != "Get" && called.Sel.Name != "own" {
					return true
				}
				if text, ok := textOf(n.Args[0], constants); ok {
					read[text] = true
				}
			case *ast.IndexExpr: // r.Header["Authorization"]
				if of, ok := n.X.(*ast.SelectorExpr); ok && of.Sel.Name == "Header" {
					if text, ok := textOf(n.Index, constants); ok {
						read[text] = true
					}
				}
			}
			return true
		})
	}
	for _, s := range selectors {
		read[s.parameter] = true
	}
	for _, name := range []string{"Api-Key", "X-Api-Key", "resource", "audience"} { // of loops
		read[name] = true
	}
	for _, p := range sidecarParameters {
		read[p.name] = p.treatment != refused && !strings.HasSuffix(p.name, ".")
	}
	// What belongs to HTTP, to no door in particular, or is said once for all.
	for _, name := range []string{"Content-Type", "Authorization", "Traceparent", "Tracestate", "Baggage", "Upgrade", "Content-Encoding", "Accept-Encoding", "Cache-Control", "Etag", "Www-Authenticate"} {
		delete(read, name)
	}
	if len(read) < 40 {
		t.Fatalf("only %d parameters are found in the code", len(read))
	}
	for name, want := range read {
		if names[strings.ToLower(name)] != want {
			t.Errorf("%s is read: %t, and described: %t", name, want, !want)
		}
	}
}

var pathForm = regexp.MustCompile(`^/[A-Za-z.{]`)

// Every path in the code of both listeners is in the document.
func TestOpenAPIHasEveryPath(t *testing.T) {
	paths, _ := describedNames(t)
	elsewhere := []string{
		"/.default", "/oauth2/v2.0/authorize", // of scopes, and Entra's
		// The operators' page, and what it is made of.
		"/{$}", "/{id}", "/page.", "/login", "/logout", "/agents", "/policy", "/health", "/state", "/confirm", "/issuances", "/purge/confirmed",
	}
	found := 0
	for _, dir := range []string{".", filepath.Join("..", "admin")} {
		files, _ := sources(t, dir)
		for _, file := range files {
			ast.Inspect(file, func(n ast.Node) bool {
				literal, ok := n.(*ast.BasicLit)
				if !ok || literal.Kind != token.STRING {
					return true
				}
				text, _ := textOf(literal, nil)
				if _, path, ok := strings.Cut(text, " /"); ok { // "GET /healthz"
					text = "/" + path
				}
				text, _, _ = strings.Cut(text, "`")
				if !pathForm.MatchString(text) || slices.ContainsFunc(elsewhere, func(prefix string) bool { return strings.HasPrefix(text, prefix) }) {
					return true
				}
				found++
				for path := range paths {
					if strings.Contains(path, strings.TrimRight(text, "/")) {
						return true
					}
				}
				t.Errorf("%q is a path in the code, and not in the document", text)
				return true
			})
		}
	}
	if found < 12 {
		t.Errorf("only %d paths are found in the code", found)
	}
}
